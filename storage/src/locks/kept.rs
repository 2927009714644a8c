//! Locks that outlive the leader under which they were taken: rows of a system tree
//! ([`crate::system::LOCKS`]) say who holds what, and a new leader takes them before it serves anybody.
//!
//! ```text
//! transaction u64, chunk u32 (big-endian)   1, count u32, locks (little-endian)
//! lock: what u8 = 0: row | 1: all rows of a tree | 2: table, mode u8 (its place in `ALL`), tree u32, key
//! length u32, key
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{LockKey, LockMode, RowMode, TableMode};
use crate::{Error, Result, TxId};

const VERSION: u8 = 1;
/// Bytes of locks in one row, about.
const CHUNK_BYTES: usize = 256 << 10;

/// A lock of a row, of all rows of a tree, or of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLock {
    /// What is locked.
    pub key: LockKey,
    /// How.
    pub mode: LockMode,
    /// All rows of the tree of `key`.
    pub whole_tree: bool,
}

/// The rows that say so. Locks of other things end with their leader and are left out.
pub fn kept_locks(holder: TxId, locks: &[KeptLock]) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    let (mut chunk, mut count) = (BytesMut::new(), 0);
    for lock in locks {
        if put(lock, &mut chunk) {
            count += 1;
        }
        if chunk.len() >= CHUNK_BYTES {
            rows.push((count, std::mem::take(&mut chunk)));
            count = 0;
        }
    }
    if count > 0 {
        rows.push((count, chunk));
    }
    let row = |(at, (count, locks)): (usize, (u32, BytesMut))| {
        let mut value = BytesMut::with_capacity(locks.len() + 5);
        value.put_u8(VERSION);
        value.put_u32_le(count);
        value.put_slice(&locks);
        (kept_locks_key(holder, at as u32), value.freeze())
    };
    rows.into_iter().enumerate().map(row).collect()
}

/// The key of a part of a transaction's locks.
pub fn kept_locks_key(holder: TxId, chunk: u32) -> Bytes {
    let mut key = BytesMut::with_capacity(12);
    key.put_u64(holder.0);
    key.put_u32(chunk);
    key.freeze()
}

/// Reads a row. Errors: `Corrupt`.
pub(crate) fn read_kept(key: &Bytes, value: &Bytes) -> Result<(TxId, Vec<KeptLock>)> {
    let damaged = || Error::Corrupt {
        place: "locks that outlive their leader".into(),
        what: "a row can't be read".into(),
    };
    let holder = key.first_chunk::<8>().ok_or_else(damaged)?;
    let mut rest = value.clone();
    let mut read = || {
        if rest.try_get_u8().ok()? != VERSION {
            return None;
        }
        let mut locks = Vec::new();
        for _ in 0..rest.try_get_u32_le().ok()? {
            locks.push(get(&mut rest)?);
        }
        rest.is_empty().then_some(locks)
    };
    let locks = read().ok_or_else(damaged)?;
    Ok((TxId(u64::from_be_bytes(*holder)), locks))
}

fn put(lock: &KeptLock, out: &mut BytesMut) -> bool {
    let place = |mode: Option<usize>| mode.map_or(u8::MAX, |at| at as u8);
    let mode = match lock.mode {
        LockMode::Row(mode) => place(RowMode::ALL.iter().position(|one| *one == mode)),
        LockMode::Table(mode) => place(TableMode::ALL.iter().position(|one| *one == mode)),
        LockMode::Shared | LockMode::Exclusive => return false,
    };
    let (what, tree, key) = match &lock.key {
        LockKey::Row { tree, .. } if lock.whole_tree => (1, *tree, Bytes::new()),
        LockKey::Row { tree, key } => (0, *tree, key.clone()),
        LockKey::Table(tree) => (2, *tree, Bytes::new()),
        LockKey::Advisory(_) | LockKey::Advisory2(..) | LockKey::Object { .. } => return false,
    };
    out.put_slice(&[what, mode]);
    out.put_u32_le(tree);
    out.put_u32_le(key.len() as u32);
    out.put_slice(&key);
    true
}

fn get(rest: &mut Bytes) -> Option<KeptLock> {
    let (what, mode) = (rest.try_get_u8().ok()?, rest.try_get_u8().ok()?);
    let (tree, length) = (rest.try_get_u32_le().ok()?, rest.try_get_u32_le().ok()?);
    let length = length as usize;
    if rest.len() < length {
        return None;
    }
    let key = rest.split_to(length);
    let mode = usize::from(mode);
    let (key, mode) = match what {
        0 | 1 => (
            LockKey::Row { tree, key },
            LockMode::Row(*RowMode::ALL.get(mode)?),
        ),
        2 => (
            LockKey::Table(tree),
            LockMode::Table(*TableMode::ALL.get(mode)?),
        ),
        _ => return None,
    };
    let whole_tree = what == 1;
    Some(KeptLock {
        key,
        mode,
        whole_tree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_locks_come_back() {
        let lock = |key, mode, whole_tree| KeptLock {
            key,
            mode,
            whole_tree,
        };
        let row = |tree, key: &'static [u8]| LockKey::Row {
            tree,
            key: Bytes::from_static(key),
        };
        let locks = vec![
            lock(row(7, b"k"), RowMode::Update.into(), false),
            lock(row(8, b""), RowMode::KeyShare.into(), true),
            lock(LockKey::Table(7), TableMode::RowExclusive.into(), false),
        ];
        let mut all = locks.clone();
        all.push(lock(LockKey::Advisory(1), LockMode::Exclusive, false));
        let rows = kept_locks(TxId(5), &all);
        let [(key, value)] = &rows[..] else {
            panic!("one row: {rows:?}");
        };
        assert_eq!(read_kept(key, value).expect("whole"), (TxId(5), locks));
        for cut in 0..value.len() {
            assert!(read_kept(key, &value.slice(..cut)).is_err(), "{cut}");
        }
        let many: Vec<KeptLock> = (0..30_000u32)
            .map(|n| {
                let key = Bytes::copy_from_slice(&n.to_be_bytes());
                lock(LockKey::Row { tree: 7, key }, RowMode::Update.into(), false)
            })
            .collect();
        let rows = kept_locks(TxId(6), &many);
        assert!(rows.len() > 1);
        let read = rows
            .iter()
            .flat_map(|(k, v)| read_kept(k, v).expect("whole").1);
        assert_eq!(read.collect::<Vec<_>>(), many);
    }
}
