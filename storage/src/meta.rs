//! What a checkpoint keeps of a group beside its trees, in `GroupCheckpoint::raft`: Raft's own
//! bytes and what storage must find again.
//!
//! ```text
//! version u8 | top u64 | shown u64 | blocked: count u32, (position u64, deps u32, (group u32, position u64)*)*
//! | parts: count u32, (txid u64, epoch u64, changes u64, indexes u32, index u64 *)*
//! | broken: count u32, position u64 *
//! | sums: count u32, (tree u32, rows u64, checksum u64)* | indexes: count u32, tree u32 *
//! | rests: count u32, (group u32, position u64)*          (not in version 1)
//! | written: count u32, (tree u32, position u64)*         (not in versions 1 and 2)
//! | raft: the rest
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::{GroupId, Index, Position, Term};

use crate::group::OpenParts;
use crate::publish::{Deps, NOBODY, Rests};
use crate::sums::{Sums, TableSum};
use crate::{Error, RaftState, Result, TxId};

const VERSION: u8 = 3;

/// State of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The greatest position in the log, broken entries included: a new leader starts above it.
    pub top: Position,
    /// What readers of several groups were shown.
    pub shown: Position,
    /// Applied and not shown.
    pub blocked: VecDeque<(Position, Deps)>,
    /// Parts below the checkpoint whose entry comes after it.
    pub parts: BTreeMap<TxId, OpenParts>,
    /// Entries of the log that had no effect.
    pub broken: BTreeSet<Position>,
    /// What the tables hold.
    pub sums: Sums,
    /// The greatest position of each other group that any applied entry depends on.
    pub rests: Rests,
    pub raft: RaftState,
}

impl Meta {
    /// What other groups have in their checkpoints may be older than what this one was shown with:
    /// after a restart it is shown once they are as far again.
    pub fn rest_on_others(&mut self) {
        if self.shown > Position::ZERO {
            let deps = self.rests.iter().map(|(of, dep)| (*of, *dep)).collect();
            self.blocked.push_front((self.shown, deps));
            self.shown = Position::ZERO;
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.top.0);
        out.put_u64_le(self.shown.0);
        out.put_u32_le(self.blocked.len() as u32);
        for (position, deps) in &self.blocked {
            out.put_u64_le(position.0);
            out.put_u32_le(deps.len() as u32);
            for (group, position) in deps {
                out.put_u32_le(group.0);
                out.put_u64_le(position.0);
            }
        }
        out.put_u32_le(self.parts.len() as u32);
        for (txid, parts) in &self.parts {
            out.put_u64_le(txid.0);
            out.put_u64_le(parts.epoch.0);
            out.put_u64_le(parts.changes);
            out.put_u32_le(parts.indexes.len() as u32);
            parts
                .indexes
                .iter()
                .for_each(|index| out.put_u64_le(index.0));
        }
        out.put_u32_le(self.broken.len() as u32);
        self.broken
            .iter()
            .for_each(|position| out.put_u64_le(position.0));
        self.sums.encode(&mut out);
        out.put_u32_le(self.rests.len() as u32);
        for (group, position) in &self.rests {
            out.put_u32_le(group.0);
            out.put_u64_le(position.0);
        }
        self.sums.encode_written(&mut out);
        out.put(self.raft.clone());
        out.freeze()
    }

    pub fn decode(bytes: &Bytes) -> Result<Meta> {
        let short = |_| Error::Corrupt {
            place: "checkpoint".into(),
            what: "the state of a group is cut off".into(),
        };
        let mut rest = bytes.clone();
        match rest.try_get_u8().map_err(short)? {
            version @ 1..=VERSION => decode(&mut rest, version).map_err(short),
            version => Err(Error::Format(format!(
                "checkpoint of version {version}, this program knows {VERSION}"
            ))),
        }
    }
}

fn decode(rest: &mut Bytes, version: u8) -> Result<Meta, bytes::TryGetError> {
    let (top, shown) = (
        Position(rest.try_get_u64_le()?),
        Position(rest.try_get_u64_le()?),
    );
    let mut meta = Meta {
        top,
        shown,
        ..Meta::default()
    };
    for _ in 0..rest.try_get_u32_le()? {
        let position = Position(rest.try_get_u64_le()?);
        let mut deps = Deps::new();
        for _ in 0..rest.try_get_u32_le()? {
            deps.push((
                GroupId(rest.try_get_u32_le()?),
                Position(rest.try_get_u64_le()?),
            ));
        }
        meta.blocked.push_back((position, deps));
    }
    for _ in 0..rest.try_get_u32_le()? {
        let txid = TxId(rest.try_get_u64_le()?);
        let (epoch, changes) = (Term(rest.try_get_u64_le()?), rest.try_get_u64_le()?);
        let mut indexes = Vec::new();
        for _ in 0..rest.try_get_u32_le()? {
            indexes.push(Index(rest.try_get_u64_le()?));
        }
        meta.parts.insert(
            txid,
            OpenParts {
                epoch,
                indexes,
                changes,
            },
        );
    }
    for _ in 0..rest.try_get_u32_le()? {
        meta.broken.insert(Position(rest.try_get_u64_le()?));
    }
    meta.sums = Sums::decode(rest)?;
    if version == 1 {
        // It was not kept: whatever was applied rests on nothing later than itself.
        meta.rests.insert(NOBODY, meta.top);
    } else {
        for _ in 0..rest.try_get_u32_le()? {
            let group = GroupId(rest.try_get_u32_le()?);
            meta.rests.insert(group, Position(rest.try_get_u64_le()?));
        }
    }
    if version > 2 {
        meta.sums.decode_written(rest)?;
    }
    meta.raft = rest.copy_to_bytes(rest.remaining());
    Ok(meta)
}

impl crate::GroupCheckpoint {
    /// What Raft keeps with the checkpoint (last membership). Errors: `Corrupt`.
    pub fn raft_state(&self) -> Result<RaftState> {
        Ok(Meta::decode(&self.raft)?.raft)
    }

    /// What the tables hold that it speaks of, by tree. Errors: `Corrupt`.
    pub fn tables(&self) -> Result<Vec<(u32, TableSum)>> {
        Ok(Meta::decode(&self.raft)?.sums.tables().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let parts = OpenParts {
            epoch: Term(3),
            indexes: vec![Index(7), Index(9)],
            changes: 5,
        };
        let mut sums = Sums::default();
        sums.note(&[crate::Change {
            tree: 1000,
            new: Some(Bytes::from_static(b"row")),
            index: vec![crate::IndexWrite {
                tree: 1001,
                ..crate::IndexWrite::default()
            }],
            ..crate::Change::default()
        }]);
        sums.stamp(Position(60));
        Meta {
            top: Position(100),
            shown: Position(90),
            blocked: [(Position(95), vec![(GroupId(2), Position(94))])].into(),
            parts: [(TxId(77), parts)].into(),
            broken: [Position(50)].into(),
            sums,
            rests: [(GroupId(3), Position(80))].into(),
            raft: Bytes::from_static(b"members"),
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Meta::decode(&meta().encode()).expect("whole"), meta());
    }

    /// As a version without these bytes before Raft's had it.
    fn older(version: u8, without: usize) -> Bytes {
        let mut bytes = BytesMut::from(&meta().encode()[..]);
        bytes[0] = version;
        let at = bytes.len() - meta().raft.len() - without;
        [&bytes[..at], &meta().raft].concat().into()
    }

    /// Bytes of what is known of one table, and of one group.
    const ONE: usize = 4 + 12;

    #[test]
    fn version_2_does_not_say_when_tables_were_written() {
        let mut expected = meta();
        expected.sums.stamp(Position::ZERO);
        assert_eq!(Meta::decode(&older(2, ONE)).expect("whole"), expected);
        assert_eq!(meta().sums.written(1000), Position(60));
    }

    #[test]
    fn version_1_rests_on_anything_before_it() {
        let mut expected = meta();
        expected.sums.stamp(Position::ZERO);
        expected.rests = [(NOBODY, expected.top)].into();
        assert_eq!(Meta::decode(&older(1, 2 * ONE)).expect("whole"), expected);
    }

    #[test]
    fn cut_off_anywhere_is_an_error_or_less_raft_state() {
        let bytes = meta().encode();
        for length in 0..bytes.len() {
            if let Ok(read) = Meta::decode(&bytes.slice(..length)) {
                assert!(length >= bytes.len() - 7, "{length}");
                assert_eq!((read.parts, read.sums), (meta().parts, meta().sums));
                assert_eq!(read.rests, meta().rests);
            }
        }
    }
}
