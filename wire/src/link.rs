//! A stream between nodes in place of a client's socket: what a session that runs on another node
//! than its client's is spoken over, and the frames that only the two nodes see.
//!
//! ```text
//! client ── protocol ──> gateway ── protocol and private frames ──> home
//! ```
//!
//! A private frame looks like a message (type, length, body), with a type that PostgreSQL does not
//! use. It is refused when it comes from a client, and never sent to one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;

/// The type byte of private frames.
pub(crate) const PRIVATE: u8 = b'!';
/// The longest body of one: a session's state with thousands of prepared statements.
pub(crate) const PRIVATE_BYTES_MAX: usize = 64 << 20;

/// A stream to another node.
pub trait Link: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// Learns, without reading, that the other side has ended its direction or given the stream up.
    fn watch(&self) -> LinkWatch;
}

/// Makes futures that resolve when the other side has gone.
pub type LinkWatch = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// What gateway and home say to each other between a client's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// Gateway: the first frame of a stream. What it says is the server's.
    Resume(Bytes),
    /// Gateway: what follows is not kept, so from here on this turn can't go elsewhere.
    Mark,
    /// Gateway: the client has sent this, which is the begin of no message.
    Invalid(Bytes),
    /// Home: everything before the mark was read, and the session stays.
    Reached,
    /// Home: whatever becomes of this node, the present turn has committed nothing, and will not.
    CommitsNothing,
    /// Home: the turn is over, ReadyForQuery follows.
    Done {
        /// The client's messages that were read on this stream, up to now.
        frames: u64,
        /// From here on the session holds something that ends with its home.
        bound: bool,
        /// What has changed of that which another node needs to go on with the session.
        changes: Option<Bytes>,
    },
    /// Home: the turn must be run by the leader of a group, or where the client is. Nothing of it was
    /// done; the first messages were answered, and these answers stand.
    Elsewhere {
        /// The group's number; none: where the client is.
        group: Option<u32>,
        /// How many messages of the turn were answered.
        answered: u64,
    },
    /// Home: the session has ended as it should.
    Bye,
}

const RESUME: u8 = 1;
const MARK: u8 = 2;
const INVALID: u8 = 3;
const REACHED: u8 = 4;
const COMMITS_NOTHING: u8 = 5;
const DONE: u8 = 6;
const ELSEWHERE: u8 = 7;
const BYE: u8 = 8;

const BOUND: u8 = 1;
const CHANGED: u8 = 2;

impl Private {
    /// Appends the frame.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(PRIVATE);
        let start = out.len();
        out.put_u32(0);
        match self {
            Private::Resume(body) => put(out, RESUME, body),
            Private::Mark => out.put_u8(MARK),
            Private::Invalid(body) => put(out, INVALID, body),
            Private::Reached => out.put_u8(REACHED),
            Private::CommitsNothing => out.put_u8(COMMITS_NOTHING),
            Private::Done {
                frames,
                bound,
                changes,
            } => {
                out.put_u8(DONE);
                out.put_u64(*frames);
                let changed = if changes.is_some() { CHANGED } else { 0 };
                out.put_u8(changed | if *bound { BOUND } else { 0 });
                out.put_slice(changes.as_deref().unwrap_or_default());
            }
            Private::Elsewhere { group, answered } => {
                out.put_u8(ELSEWHERE);
                out.put_u64(*answered);
                if let Some(group) = group {
                    out.put_u32(*group);
                }
            }
            Private::Bye => out.put_u8(BYE),
        }
        let length = u32::try_from(out.len() - start).expect("states are far below 4 GB");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// From the body of a frame.
    pub(crate) fn decode(mut body: Bytes) -> Result<Private, Error> {
        let kind = body.try_get_u8().map_err(|_| malformed())?;
        let frame = match kind {
            RESUME => Private::Resume(rest(&mut body)),
            MARK => Private::Mark,
            INVALID => Private::Invalid(rest(&mut body)),
            REACHED => Private::Reached,
            COMMITS_NOTHING => Private::CommitsNothing,
            DONE => {
                let frames = body.try_get_u64().map_err(|_| malformed())?;
                let flags = body.try_get_u8().map_err(|_| malformed())?;
                Private::Done {
                    frames,
                    bound: flags & BOUND != 0,
                    changes: (flags & CHANGED != 0).then(|| rest(&mut body)),
                }
            }
            ELSEWHERE => Private::Elsewhere {
                answered: body.try_get_u64().map_err(|_| malformed())?,
                group: match body.is_empty() {
                    true => None,
                    false => Some(body.try_get_u32().map_err(|_| malformed())?),
                },
            },
            BYE => Private::Bye,
            _ => return Err(malformed()),
        };
        match body.is_empty() {
            true => Ok(frame),
            false => Err(malformed()),
        }
    }
}

fn put(out: &mut BytesMut, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    out.put_slice(body);
}

fn rest(body: &mut Bytes) -> Bytes {
    std::mem::take(body)
}

pub(crate) fn malformed() -> Error {
    Error::protocol("08P01", "invalid frame between nodes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_nothing_else_is_one() {
        let all = [
            Private::Resume(Bytes::from_static(b"login")),
            Private::Mark,
            Private::Invalid(Bytes::from_static(b"?")),
            Private::Reached,
            Private::CommitsNothing,
            Private::Done {
                frames: 7,
                bound: false,
                changes: None,
            },
            Private::Done {
                frames: u64::MAX,
                bound: true,
                changes: None,
            },
            Private::Done {
                frames: 0,
                bound: false,
                changes: Some(Bytes::from_static(b"state")),
            },
            Private::Elsewhere {
                group: Some(9),
                answered: 3,
            },
            Private::Elsewhere {
                group: None,
                answered: 0,
            },
            Private::Bye,
        ];
        for frame in all {
            let mut out = BytesMut::new();
            frame.encode(&mut out);
            assert_eq!(out[0], PRIVATE);
            assert_eq!(out[1..5], (out.len() as u32 - 1).to_be_bytes());
            let body = out.split_off(5).freeze();
            assert_eq!(Private::decode(body.clone()).unwrap(), frame);
            let open = matches!(
                frame,
                Private::Resume(_)
                    | Private::Invalid(_)
                    | Private::Done {
                        changes: Some(_),
                        ..
                    }
            );
            if !open {
                let longer = [&body[..], b"x"].concat();
                assert!(Private::decode(longer.into()).is_err());
                assert!(Private::decode(body.slice(..body.len() - 1)).is_err());
            }
        }
        assert!(Private::decode(Bytes::from_static(b"\x63")).is_err());
    }
}
