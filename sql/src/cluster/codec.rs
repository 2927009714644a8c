//! Bytes between nodes: numbers little-endian, texts and lists behind their length, a version in
//! front. Reading damaged bytes says so and never panics.
//!
//! ```text
//! wish    1, kind: 1 = oids | 2 = group, role | 3 = reserve, role, names | 4 = renew, role, names
//!         names: count, then schema, name of each
//! answer  1, kind: 1 = oids, start, end | 2 = at, position
//! news    1, process, entry: 0 | 1, group, position; trees; notes: count, then channel, payload
//! ```

use bytes::Bytes;
use storage::{GroupId, Position};

use super::{Answer, News, Wish};
use crate::catalog::{RoleId, SchemaId, TableId};
use crate::{Error, Result, state};

const VERSION: u8 = 1;

/// Appends to bytes.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    pub fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub fn count(&mut self, n: usize) {
        self.u32(n as u32);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn names(&mut self, names: &[(SchemaId, String)]) {
        self.count(names.len());
        for (schema, name) in names {
            self.u32(schema.0);
            self.text(name);
        }
    }
}

/// Reads what [`Writer`] has written; `None` where it ends too early or means nothing.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A list: its count, then each item, which takes at least one byte.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| item(self)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn names(&mut self) -> Option<Vec<(SchemaId, String)>> {
        self.list(|r| Some((SchemaId(r.u32()?), r.text()?.to_owned())))
    }
}

/// Reads all of `bytes`, the version first.
fn read<'a, T>(
    bytes: &'a [u8],
    what: &str,
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Result<T> {
    let mut reader = Reader(bytes);
    let damaged = || {
        Error::new(
            state::DATA_CORRUPTED,
            format!("{what} of another node can't be read"),
        )
    };
    if reader.u8() != Some(VERSION) {
        return Err(damaged());
    }
    let value = read(&mut reader).ok_or_else(damaged)?;
    match reader.is_empty() {
        true => Ok(value),
        false => Err(damaged()),
    }
}

fn written(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer(vec![VERSION]);
    write(&mut out);
    out.0.into()
}

impl Wish {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        written(|out| match self {
            Wish::Oids => out.u8(1),
            Wish::Group(role) => {
                out.u8(2);
                out.u32(role.0);
            }
            Wish::Reserve(names, role) => {
                out.u8(3);
                out.u32(role.0);
                out.names(names);
            }
            Wish::Renew(names, role) => {
                out.u8(4);
                out.u32(role.0);
                out.names(names);
            }
            Wish::Read(table, role) => {
                out.u8(5);
                out.u32(table.0);
                out.u32(role.0);
            }
        })
    }

    /// From bytes.
    ///
    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Wish> {
        read(bytes, "a wish", |r| {
            Some(match r.u8()? {
                1 => Wish::Oids,
                2 => Wish::Group(RoleId(r.u32()?)),
                kind @ (3 | 4) => {
                    let role = RoleId(r.u32()?);
                    let names = r.names()?;
                    match kind {
                        3 => Wish::Reserve(names, role),
                        _ => Wish::Renew(names, role),
                    }
                }
                5 => Wish::Read(TableId(r.u32()?), RoleId(r.u32()?)),
                _ => return None,
            })
        })
    }
}

impl Answer {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        written(|out| match self {
            Answer::Oids(block) => {
                out.u8(1);
                out.u32(block.start);
                out.u32(block.end);
            }
            Answer::At(position) => {
                out.u8(2);
                out.u64(position.0);
            }
        })
    }

    /// From bytes.
    ///
    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Answer> {
        read(bytes, "an answer", |r| {
            Some(match r.u8()? {
                1 => Answer::Oids(r.u32()?..r.u32()?),
                2 => Answer::At(Position(r.u64()?)),
                _ => return None,
            })
        })
    }
}

impl News {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        written(|out| {
            out.u32(self.process as u32);
            out.u8(u8::from(self.entry.is_some()));
            if let Some((group, position)) = self.entry {
                out.u32(group.0);
                out.u64(position.0);
            }
            out.count(self.trees.len());
            self.trees.iter().for_each(|tree| out.u32(*tree));
            out.count(self.notes.len());
            for (channel, payload) in &self.notes {
                out.text(channel);
                out.text(payload);
            }
        })
    }

    /// From bytes.
    ///
    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<News> {
        read(bytes, "a notification", |r| {
            let process = r.u32()? as i32;
            let entry = match r.flag()? {
                true => Some((GroupId(r.u32()?), Position(r.u64()?))),
                false => None,
            };
            let trees = r.list(|r| r.u32())?;
            let notes = r.list(|r| Some((r.text()?.to_owned(), r.text()?.to_owned())))?;
            Some(News {
                process,
                entry,
                trees,
                notes,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(SchemaId, String)> {
        vec![
            (SchemaId(0), "späť".into()),
            (SchemaId(2_200), String::new()),
        ]
    }

    /// Reads what was written, and nothing else: every prefix and every single changed byte is
    /// refused or reads as something, without a panic.
    fn round_trip<T: PartialEq + std::fmt::Debug>(
        value: T,
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Result<T>,
    ) {
        assert_eq!(decode(bytes).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{value:?}: {end}");
        }
        assert!(decode(&[bytes, &[0]].concat()).is_err());
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= change;
                let _ = decode(&damaged);
            }
        }
    }

    #[test]
    fn round_trips() {
        for wish in [
            Wish::Oids,
            Wish::Group(RoleId(7)),
            Wish::Reserve(names(), RoleId(u32::MAX)),
            Wish::Renew(Vec::new(), RoleId(1)),
            Wish::Read(TableId(9), RoleId(7)),
        ] {
            round_trip(wish.clone(), &wish.encode(), Wish::decode);
        }
        for answer in [Answer::Oids(3..9), Answer::At(Position(u64::MAX))] {
            round_trip(answer.clone(), &answer.encode(), Answer::decode);
        }
        let news = News {
            process: -4,
            entry: Some((GroupId(3), Position(1 << 40))),
            trees: vec![1, 1_000_000],
            notes: vec![("c".into(), String::new()), ("č".into(), "p".into())],
        };
        round_trip(news.clone(), &news.encode(), News::decode);
        round_trip(News::default(), &News::default().encode(), News::decode);
    }
}
