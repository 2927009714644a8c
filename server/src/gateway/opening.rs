//! What a gateway says to a home: who the session is for, what it is made of, whom to cancel.
//!
//! ```text
//! opening   'S', 1 (version), user, database, address (length u32, text each), port i32, process i32,
//!           time that the statement has taken already u64 (microseconds; an older gateway does not say it)
//! resume    group at whose leader it goes on u32, status of the block that has fallen with the last home (0 none, or ReadyForQuery's
//!           letter), messages that were answered u64, state
//! request   'C', 1 cancel: process i32 | 2 cancel by key: process i32, secret i32
//! ```
//! Numbers are big-endian, as the client's protocol has them.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sql::session::Login;
use wire::TransactionStatus;

/// First byte of a stream that carries a session.
const SESSION: u8 = b'S';
const VERSION: u8 = 1;
/// First byte of a gateway's requests.
pub const REQUEST: u8 = b'C';

/// Who logged in, for a home, and how long the statement has taken already that it is opened for.
pub fn opening(login: &Login, spent: Duration) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[SESSION, VERSION]);
    for text in [&login.user, &login.database, &login.address] {
        out.put_u32(u32::try_from(text.len()).expect("a startup packet is short"));
        out.put_slice(text.as_bytes());
    }
    out.put_i32(login.port);
    out.put_i32(login.process);
    out.put_u64(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX));
    out.freeze()
}

/// The login that a stream was opened with, and that time.
pub fn login(mut bytes: Bytes) -> Option<(Login, Duration)> {
    if bytes.try_get_u8().ok()? != SESSION || bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let login = Login {
        user: text(&mut bytes)?,
        database: text(&mut bytes)?,
        address: text(&mut bytes)?,
        port: bytes.try_get_i32().ok()?,
        process: bytes.try_get_i32().ok()?,
        parameters: Vec::new(),
    };
    let spent = match bytes.is_empty() {
        true => 0,
        false => bytes.try_get_u64().ok()?,
    };
    Some((login, Duration::from_micros(spent)))
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = bytes.try_get_u32().ok()? as usize;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

/// What a session is resumed with.
#[derive(Debug, PartialEq, Eq)]
pub struct Resume {
    /// The group at whose leader it goes on.
    pub group: u32,
    /// Its last home has fallen, when its client had seen this status.
    pub fallen: Option<TransactionStatus>,
    /// The first messages, that were answered before.
    pub answered: u64,
    /// Its state.
    pub state: Bytes,
}

impl Resume {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.state.len() + 13);
        out.put_u32(self.group);
        out.put_u8(self.fallen.map_or(0, TransactionStatus::code));
        out.put_u64(self.answered);
        out.put_slice(&self.state);
        out.freeze()
    }

    /// From its bytes.
    pub fn decode(mut bytes: Bytes) -> Option<Resume> {
        let group = bytes.try_get_u32().ok()?;
        let fallen = match bytes.try_get_u8().ok()? {
            0 => None,
            code => Some(TransactionStatus::from_code(code)?),
        };
        Some(Resume {
            group,
            fallen,
            answered: bytes.try_get_u64().ok()?,
            state: bytes,
        })
    }
}

/// What a gateway asks of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Cancel the statement of a session that runs there.
    Cancel {
        /// Its process id.
        process: i32,
    },
    /// The same for the client who shows this key, and is connected there.
    CancelByKey {
        /// The process id.
        process: i32,
        /// The secret.
        secret: i32,
    },
}

impl Request {
    /// Its bytes.
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Request::Cancel { process } => {
                out.put_slice(&[REQUEST, 1]);
                out.put_i32(process);
            }
            Request::CancelByKey { process, secret } => {
                out.put_slice(&[REQUEST, 2]);
                out.put_i32(process);
                out.put_i32(secret);
            }
        }
        out.freeze()
    }

    /// From its bytes.
    pub fn decode(mut bytes: Bytes) -> Option<Request> {
        if bytes.try_get_u8().ok()? != REQUEST {
            return None;
        }
        let kind = bytes.try_get_u8().ok()?;
        let process = bytes.try_get_i32().ok()?;
        match kind {
            1 => Some(Request::Cancel { process }),
            2 => Some(Request::CancelByKey {
                process,
                secret: bytes.try_get_i32().ok()?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_back() {
        let who = Login {
            user: "app".into(),
            database: "freehold".into(),
            address: "::1".into(),
            port: 50_000,
            process: 7,
            parameters: Vec::new(),
        };
        let bytes = opening(&who, Duration::from_millis(7));
        let (read, spent) = login(bytes.clone()).unwrap();
        assert_eq!(spent, Duration::from_millis(7));
        assert_eq!(
            (
                read.user,
                read.database,
                read.address,
                read.port,
                read.process
            ),
            (who.user, who.database, who.address, who.port, who.process)
        );
        let without = bytes.len() - 8;
        for end in (0..bytes.len()).filter(|end| *end != without) {
            assert!(login(bytes.slice(..end)).is_none());
        }
        let (_, spent) = login(bytes.slice(..without)).unwrap();
        assert_eq!(spent, Duration::ZERO, "as an older gateway says it");
        for fallen in [None, Some(TransactionStatus::Failed)] {
            let resume = Resume {
                group: 9,
                fallen,
                answered: 3,
                state: Bytes::from_static(b"state"),
            };
            assert_eq!(Resume::decode(resume.encode()), Some(resume));
        }
        for request in [
            Request::Cancel { process: -1 },
            Request::CancelByKey {
                process: 5,
                secret: -9,
            },
        ] {
            let bytes = request.encode();
            assert_eq!(Request::decode(bytes.clone()), Some(request));
            assert_eq!(Request::decode(bytes.slice(..bytes.len() - 1)), None);
        }
    }
}
