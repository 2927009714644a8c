//! How far a node's journal reached when its process began, told at every handshake: a leader that
//! has acknowledgements of that node beyond it knows that the folder has lost some, and refuses it
//! (a folder restored from a backup, a disk that lied). Two processes with one folder are refused
//! by the same token. A node whose journal is not open yet says nothing, and is met later.
//!
//! ```text
//! version u8 | run u64 | groups u32 | (group u32 | last index u64)...
//! ```

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use journal::{GroupId, Index};

const VERSION: u8 = 1;

/// What a process says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Names the process; 0: what it says is not understood.
    pub run: u64,
    /// The last index of each group in its journal when it began.
    pub ends: BTreeMap<GroupId, Index>,
}

impl Claims {
    /// Their bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.run);
        out.put_u32_le(self.ends.len() as u32);
        for (group, last) in &self.ends {
            out.put_u32_le(group.0);
            out.put_u64_le(last.0);
        }
        out.freeze()
    }

    /// Reads a peer's. What is not understood says nothing.
    pub fn decode(bytes: &Bytes) -> Claims {
        read(bytes.clone()).unwrap_or_default()
    }

    /// The group of which this end is before what was acknowledged.
    pub fn lacks(&self, acknowledged: impl Iterator<Item = (GroupId, Index)>) -> Option<GroupId> {
        let end = |group| self.ends.get(&group).copied();
        let mut lost = acknowledged.filter(|(group, upto)| end(*group) < Some(*upto));
        lost.next().map(|(group, _)| group)
    }
}

fn read(mut bytes: Bytes) -> Option<Claims> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let run = bytes.try_get_u64_le().ok()?;
    let mut ends = BTreeMap::new();
    for _ in 0..bytes.try_get_u32_le().ok()? {
        let group = GroupId(bytes.try_get_u32_le().ok()?);
        ends.insert(group, Index(bytes.try_get_u64_le().ok()?));
    }
    Some(Claims { run, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_back_and_compared() {
        let claims = Claims {
            run: 7,
            ends: [(GroupId(0), Index(10)), (GroupId(3), Index(4))].into(),
        };
        assert_eq!(Claims::decode(&claims.encode()), claims);
        for cut in 0..claims.encode().len() {
            assert_eq!(
                Claims::decode(&claims.encode().slice(..cut)),
                Claims::default()
            );
        }
        let lacks = |group, index| claims.lacks([(GroupId(group), Index(index))].into_iter());
        assert_eq!(lacks(0, 10), None);
        assert_eq!(lacks(0, 11), Some(GroupId(0)));
        assert_eq!(lacks(9, 0), Some(GroupId(9)), "it has forgotten all of it");
    }
}
