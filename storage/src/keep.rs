//! How long the old versions of a table's rows are kept beyond the general horizon: a row of a
//! system tree, so that every replica knows it at the same place of the log.
//!
//! ```text
//! tree 30:   number of the tree u32 -> since u64 | microseconds u64, all ones: for ever     big-endian
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::Position;

use crate::{Error, Result, Write};

/// "For ever" as it is stored.
const FOREVER: u64 = u64::MAX;

/// A tree keeps its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// What was there before may be gone.
    pub since: Position,
    /// So long, in microseconds; `None`: for ever.
    pub micros: Option<u64>,
}

impl Keep {
    /// The oldest position that can be read at a time. Moves forward only, as `now` does.
    pub fn from(&self, now: Position) -> Position {
        match self.micros {
            None => self.since,
            Some(micros) => self.since.max(before(now, micros)),
        }
    }

    /// The row of a tree that keeps so much; `None`: nothing any more.
    pub fn row(tree: u32, keep: Option<Keep>) -> Write {
        let value = keep.map(|keep| {
            let mut value = BytesMut::with_capacity(16);
            value.put_u64(keep.since.0);
            value.put_u64(keep.micros.unwrap_or(FOREVER));
            value.freeze()
        });
        (Bytes::copy_from_slice(&tree.to_be_bytes()), value)
    }

    /// What a row says. Errors: `Corrupt`.
    pub(crate) fn read(key: &[u8], mut value: &[u8]) -> Result<(u32, Keep)> {
        let corrupt = || Error::Corrupt {
            place: "tables".into(),
            what: "what a tree keeps is not two numbers".into(),
        };
        let tree = u32::from_be_bytes(key.try_into().map_err(|_| corrupt())?);
        let since = Position(value.try_get_u64().map_err(|_| corrupt())?);
        let micros = value.try_get_u64().map_err(|_| corrupt())?;
        let micros = (micros != FOREVER).then_some(micros);
        match value.is_empty() {
            true => Ok((tree, Keep { since, micros })),
            false => Err(corrupt()),
        }
    }
}

/// The position of a time that lies so many microseconds before that of another one.
fn before(position: Position, micros: u64) -> Position {
    let then = position.unix_micros().saturating_sub(micros);
    Position::from_unix_micros(then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        for micros in [None, Some(0), Some(86_400_000_000)] {
            let keep = Keep {
                since: Position(7),
                micros,
            };
            let (key, value) = Keep::row(1000, Some(keep));
            let value = value.expect("it keeps something");
            assert_eq!(Keep::read(&key, &value).expect("whole"), (1000, keep));
            assert!(Keep::read(&key, &value[1..]).is_err());
        }
        assert_eq!(Keep::row(1000, None).1, None);
    }

    #[test]
    fn an_interval_moves_and_for_ever_stands() {
        let now = Position::from_unix_micros(1_800_000_000_000_000);
        let since = before(now, 60);
        let keep = |micros| Keep { since, micros };
        assert_eq!(keep(None).from(now), since);
        assert_eq!(keep(Some(10)).from(now), before(now, 10));
        assert_eq!(keep(Some(90)).from(now), since);
        assert_eq!(keep(Some(u64::MAX - 1)).from(now), since);
    }
}
