//! The portable state of a session as bytes, so that it can go on at another node.
//!
//! ```text
//! all        1 (version), then parts
//! part       kind, key (length, bytes), 0 | 1 body (length, bytes); without a body it is gone
//! kind       1 state  2 statement (key: its name)  3 token  4 sequences  5 channels  6 seen
//!            7 rest of the block, if there is any
//! state      session role, role, settings, reported (pairs of texts),
//!            0 | 1 group for whose leader its turn goes there,
//!            0 | 1 block: role settings at its beginning, isolation, read only, deferrable, failed,
//!            start (microseconds since 1970)
//! settings   three lists of pairs of texts: of the session, local, of the connection
//! statement  text, 0 | 1 made by PREPARE, created, declared types, parameter types,
//!            0 | 1 columns that were promised: name, type, table, number of each
//! type       OID, modifier
//! token      its text form
//! sequences  pairs of OID and last number, 0 | 1 OID of the last one
//! channels   their names
//! seen       what was read, as a token
//! rest       savepoints: name, session role, role, settings, number of LISTENs before it;
//!            LISTENs and UNLISTENs: 1 | 0 UNLISTEN, 0 | 1 channel
//! ```
//! Numbers are little-endian. Changes have the same form as all: their parts replace those of the
//! same kind and key.

use std::collections::BTreeMap;

use crate::cluster::{Reader, Writer};
use crate::{Error, Result, state};

const VERSION: u8 = 1;

pub(super) const STATE: u8 = 1;
pub(super) const STATEMENT: u8 = 2;
pub(super) const TOKEN: u8 = 3;
pub(super) const SEQUENCES: u8 = 4;
pub(super) const CHANNELS: u8 = 5;
pub(super) const SEEN: u8 = 6;
pub(super) const REST: u8 = 7;

/// What is known of a session that runs elsewhere: the first export, and changes since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portable(BTreeMap<(u8, Vec<u8>), Vec<u8>>);

impl Portable {
    /// Reads an export.
    ///
    /// # Errors
    /// XX001 for what is no export.
    pub fn new(bytes: &[u8]) -> Result<Portable> {
        let mut portable = Portable::default();
        portable.merge(bytes)?;
        Ok(portable)
    }

    /// Takes changes over. On an error it is as before.
    ///
    /// # Errors
    /// XX001 for what is none.
    pub fn merge(&mut self, changes: &[u8]) -> Result<()> {
        for (kind, key, body) in parts(changes).ok_or_else(damaged)? {
            match body {
                Some(body) => self.0.insert((kind, key.to_vec()), body.to_vec()),
                None => self.0.remove(&(kind, key.to_vec())),
            };
        }
        Ok(())
    }

    /// All of it, for [`crate::engine::Engine::resume`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Parts::default();
        for ((kind, key), body) in &self.0 {
            out.add(*kind, key, Some(body));
        }
        out.done()
    }

    /// The text of a prepared statement.
    pub fn statement(&self, name: &str) -> Option<&str> {
        let body = self.0.get(&(STATEMENT, name.as_bytes().to_vec()))?;
        Reader(body).text()
    }

    pub(super) fn part(&self, kind: u8) -> Option<&[u8]> {
        self.0.get(&(kind, Vec::new())).map(Vec::as_slice)
    }

    /// The parts of a kind with their keys.
    pub(super) fn keyed(&self, kind: u8) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .range((kind, Vec::new())..(kind + 1, Vec::new()))
            .map(|((_, key), body)| (key.as_slice(), body.as_slice()))
    }
}

type Part<'a> = (u8, &'a [u8], Option<&'a [u8]>);

fn parts(bytes: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut reader = Reader(bytes);
    if reader.u8()? != VERSION {
        return None;
    }
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let (kind, key) = (reader.u8()?, reader.bytes()?);
        let body = match reader.flag()? {
            true => Some(reader.bytes()?),
            false => None,
        };
        parts.push((kind, key, body));
    }
    Some(parts)
}

/// XX001.
pub(super) fn damaged() -> Error {
    Error::new(
        state::DATA_CORRUPTED,
        "the state of a session of another node can't be read",
    )
}

/// Parts being written.
pub(super) struct Parts(Writer);

impl Default for Parts {
    fn default() -> Parts {
        Parts(Writer(vec![VERSION]))
    }
}

impl Parts {
    pub fn add(&mut self, kind: u8, key: &[u8], body: Option<&[u8]>) {
        self.0.u8(kind);
        self.0.bytes(key);
        self.0.u8(u8::from(body.is_some()));
        if let Some(body) = body {
            self.0.bytes(body);
        }
    }

    pub fn done(self) -> Vec<u8> {
        self.0.0
    }

    /// The same, unless there is none.
    pub fn done_if_any(self) -> Option<Vec<u8>> {
        (self.0.0.len() > 1).then_some(self.0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_add_and_remove() {
        let mut all = Parts::default();
        all.add(STATE, b"", Some(b"one"));
        all.add(STATEMENT, b"a", Some(b"select 1"));
        all.add(STATEMENT, b"b", Some(b"select 2"));
        all.add(TOKEN, b"", Some(b""));
        let mut known = Portable::new(&all.done()).unwrap();
        let mut changes = Parts::default();
        changes.add(STATE, b"", Some(b"two"));
        changes.add(STATEMENT, b"a", None);
        changes.add(STATEMENT, b"c", Some(b"select 3"));
        let changes = changes.done();
        known.merge(&changes).unwrap();
        assert_eq!(known.part(STATE), Some(&b"two"[..]));
        assert_eq!(known.part(TOKEN), Some(&b""[..]));
        assert_eq!(known.part(CHANNELS), None);
        let names: Vec<&[u8]> = known.keyed(STATEMENT).map(|(name, _)| name).collect();
        assert_eq!(names, [b"b", b"c"]);
        assert_eq!(Portable::new(&known.encode()).unwrap(), known);
        for end in 1..changes.len() {
            let before = known.clone();
            if known.merge(&changes[..end]).is_err() {
                assert_eq!(known, before);
            }
        }
        assert!(known.merge(&[]).is_err() && known.merge(&[9]).is_err());
    }
}
