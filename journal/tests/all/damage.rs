//! Flipped bits and cut files: a prefix or a clear refusal, never a wrong record.

use std::sync::Arc;

use journal::{Disk, Error, Journal, MemoryDisk, inspect};

use crate::tools::{Acknowledged, History, dir, entry, open, workload};

/// A journal of several segments: left as by kill -9, and closed.
fn journals() -> (MemoryDisk, MemoryDisk, History) {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    let (history, error) = History::drive(&journal, &workload(23, 60));
    assert!(error.is_none(), "{error:?}");
    let killed = disk.copy();
    journal.close();
    (killed, disk, history)
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list(dir()).expect("list");
    names
        .into_iter()
        .filter(|name| name.ends_with(".segment"))
        .collect()
}

/// Opens and reads a damaged journal. `Ok` is a prefix (or all), `Err` a refusal that names a file.
fn verdict(disk: &MemoryDisk, history: &History, acknowledged: Acknowledged) -> Result<(), String> {
    let journal = match open(disk) {
        Ok(journal) => journal,
        Err(Error::Corrupt { .. } | Error::NewerVersion { .. }) => return Ok(()),
        Err(e) => return Err(format!("unclear refusal: {e}")),
    };
    match history.check(&journal, acknowledged) {
        Err(e) if e.contains("unreadable: journal is damaged in file") => Ok(()),
        other => other,
    }
}

#[test]
fn a_flipped_bit_anywhere() {
    let (killed, closed, history) = journals();
    let names = segments(&killed);
    assert!(names.len() > 2, "{names:?}");
    for name in &names {
        let path = dir().join(name);
        let is_last = Some(name) == names.last();
        let bytes = killed.bytes(&path).expect("there").len();
        // Every bit of the head and the first record, then bytes at all places of a column.
        for byte in (0..96).chain((96..bytes).step_by(5)) {
            let bits = if byte < 96 {
                0..8
            } else {
                byte % 8..byte % 8 + 1
            };
            for bit in bits {
                // Only the end of the last segment, without a mark behind it, may look torn.
                let disks = [
                    (&killed, Acknowledged::MayBeLost),
                    (&closed, Acknowledged::Kept),
                ];
                for (disk, acknowledged) in disks {
                    let acknowledged = if is_last {
                        acknowledged
                    } else {
                        Acknowledged::Kept
                    };
                    let disk = disk.copy();
                    disk.damage(&path, |bytes| bytes[byte] ^= 1 << bit);
                    let verdict = verdict(&disk, &history, acknowledged);
                    verdict.unwrap_or_else(|e| panic!("{name}, byte {byte}, bit {bit}: {e}"));
                }
            }
        }
    }
}

#[test]
fn cut_at_every_byte() {
    let (killed, _, history) = journals();
    for name in segments(&killed) {
        let path = dir().join(&name);
        let bytes = killed.bytes(&path).expect("there").len();
        for length in 0..bytes {
            let disk = killed.copy();
            disk.damage(&path, |bytes| bytes.truncate(length));
            let refused = open(&disk).err();
            assert!(
                matches!(refused, Some(Error::Corrupt { .. })),
                "{name} cut to {length} bytes: {refused:?}"
            );
            if length.is_multiple_of(64) {
                let found = inspect(Arc::new(disk), dir()).filter(|(_, _, record)| record.is_err());
                assert!(found.count() > 0, "{name} cut to {length} bytes");
            }
        }
    }
    verdict(&killed, &history, Acknowledged::Kept).expect("unharmed");
}

#[test]
fn zeroed_sectors_and_missing_files() {
    let (killed, closed, history) = journals();
    for name in &segments(&killed) {
        let path = dir().join(name);
        // A lost last sector, mark included, is what a power cut leaves.
        let is_last = Some(name) == segments(&killed).last();
        let acknowledged = if is_last {
            Acknowledged::MayBeLost
        } else {
            Acknowledged::Kept
        };
        for sector in 0..8 {
            let disk = closed.copy();
            disk.damage(&path, |bytes| bytes[sector * 512..][..512].fill(0));
            let verdict = verdict(&disk, &history, acknowledged);
            verdict.unwrap_or_else(|e| panic!("{name}, sector {sector}: {e}"));
        }
    }
    let names = segments(&killed);
    let disk = killed.copy();
    disk.remove(&dir().join(&names[1])).expect("removed");
    let Err(Error::Corrupt { path, .. }) = open(&disk) else {
        panic!("a hole")
    };
    assert!(path.ends_with(&names[1]));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let disk = MemoryDisk::new();
    open(&disk).expect("open").close();
    let path = dir().join(&segments(&disk)[0]);
    disk.damage(&path, |bytes| {
        bytes[12] = 2;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..8]);
        hasher.update(&bytes[12..32]);
        let crc = hasher.finalize();
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    });
    let Err(error) = open(&disk) else {
        panic!("opened")
    };
    assert!(
        matches!(
            error,
            Error::NewerVersion {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("format version 2"), "{error}");
}

#[test]
fn inspect_sees_all_and_never_writes() {
    let (killed, closed, _) = journals();
    for disk in [&killed, &closed] {
        let before: Vec<_> = segments(disk)
            .iter()
            .map(|name| disk.bytes(&dir().join(name)))
            .collect();
        let found: Vec<_> = inspect(Arc::new(disk.clone()), dir()).collect();
        assert!(found.iter().all(|(_, _, record)| record.is_ok()));
        assert!(found.len() > 60);
        assert!(
            found
                .windows(2)
                .all(|w| (w[0].0, w[0].1) < (w[1].0, w[1].1))
        );
        let after: Vec<_> = segments(disk)
            .iter()
            .map(|name| disk.bytes(&dir().join(name)))
            .collect();
        assert_eq!(before, after);
    }
    // An incomplete last record is torn, the same in the middle is damage.
    let names = segments(&killed);
    let records: Vec<_> = inspect(Arc::new(killed.clone()), dir()).collect();
    let (last, offset, _) = records.last().expect("there");
    let disk = killed.copy();
    disk.damage(&dir().join(&names[names.len() - 1]), |bytes| {
        bytes[*offset as usize + 60] ^= 1
    });
    let found: Vec<_> = inspect(Arc::new(disk.clone()), dir()).collect();
    let torn = found.last().expect("there");
    assert!(
        matches!(&torn.2, Err(Error::Torn { offset: at, .. }) if at == offset),
        "{torn:?}"
    );
    assert_eq!(torn.0, *last);
    let journal: Journal = open(&disk).expect("cut");
    drop(journal);
    disk.damage(&dir().join(&names[0]), |bytes| bytes[100] ^= 1);
    let found = inspect(Arc::new(disk), dir()).find(|(_, _, record)| record.is_err());
    assert!(
        matches!(found, Some((_, _, Err(Error::Corrupt { .. })))),
        "{found:?}"
    );
}

#[test]
fn a_record_written_after_a_tear_was_cut_stands_alone() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    for index in 1..=3 {
        journal
            .append_wait(vec![entry(1, 1, index)])
            .expect("append");
    }
    // Three in one write, the first of them torn: all three go, and leave no bytes behind.
    let batch = (4..=6).map(|index| entry(1, 1, index)).collect();
    journal.append_wait(batch).expect("append");
    let torn = disk.copy();
    let name = segments(&torn)[0].clone();
    let records: Vec<_> = inspect(Arc::new(torn.clone()), dir()).collect();
    let offset = records[3].1 as usize;
    torn.damage(&dir().join(&name), |bytes| {
        bytes[offset..offset + 8].fill(0)
    });
    let journal = open(&torn).expect("cut");
    assert_eq!(
        journal.state(journal::GroupId(1)).last.map(|last| last.1.0),
        Some(3)
    );
    journal.append_wait(vec![entry(1, 2, 4)]).expect("append");
    let journal = open(&torn.copy()).expect("open");
    assert_eq!(crate::tools::all(&journal, 1)[3..], [entry(1, 2, 4)]);
}

/// The `durable` mark: what a later write has seen on disk is never taken for a torn tail.
#[test]
fn damage_below_a_later_write_is_refused() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    for index in 1..=5 {
        journal
            .append_wait(vec![entry(1, 1, index)])
            .expect("append");
    }
    let path = dir().join(&segments(&disk)[0]);
    let records: Vec<u64> = inspect(Arc::new(disk.copy()), dir())
        .map(|(_, at, _)| at)
        .collect();
    for (number, offset) in records.iter().enumerate() {
        for byte in [0, 9, 40, 48, 60] {
            let disk = disk.copy();
            disk.damage(&path, |bytes| bytes[*offset as usize + byte] ^= 1);
            match open(&disk) {
                Err(Error::Corrupt { offset: at, .. }) => {
                    assert_eq!((at, number < 4), (*offset, true))
                }
                Ok(journal) => {
                    assert_eq!(number, 4, "only the last write may look torn");
                    assert_eq!(crate::tools::all(&journal, 1).len(), 4);
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
}
