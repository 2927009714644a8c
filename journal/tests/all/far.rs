//! A group whose records lie far apart, between those of a busy one, is read without what lies in
//! between.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use journal::{Disk, File, GroupId, Index, Journal, Lock, MemoryDisk, Open, Options, Position};

use crate::tools::{all, dir, entry, options, sized_entry};

/// Counts the bytes that are read.
#[derive(Clone, Default)]
struct Counting {
    disk: MemoryDisk,
    read: Arc<AtomicUsize>,
}

struct Counted(Arc<dyn File>, Arc<AtomicUsize>);

impl Disk for Counting {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, how)?;
        Ok(Arc::new(Counted(file, self.read.clone())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.disk.lock(path)
    }
}

impl File for Counted {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.fetch_add(buffer.len(), Ordering::Relaxed);
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

const QUIET: GroupId = GroupId(1);
/// Records of the quiet group, and of the busy one behind each.
const RECORDS: u64 = 40;
const BETWEEN: u64 = 100;

#[test]
fn what_lies_between_the_records_of_a_quiet_group_is_not_read() {
    let disk = Counting::default();
    let options = Options {
        segment_bytes: 4 << 20,
        ..options()
    };
    let open = || Journal::open(Arc::new(disk.clone()), dir(), options.clone()).expect("open");
    let mut journal = open();
    for index in 1..=RECORDS {
        journal
            .append_wait(vec![entry(1, 1, index)])
            .expect("append");
        let busy = (index - 1) * BETWEEN + 1..=index * BETWEEN;
        let busy = busy.map(|index| sized_entry(2, 1, index, 1000));
        journal.append_wait(busy.collect()).expect("append");
    }
    let expected: Vec<_> = (1..=RECORDS).map(|index| entry(1, 1, index)).collect();
    for _ in 0..2 {
        let begun = disk.read.load(Ordering::Relaxed);
        assert_eq!(all(&journal, 1), expected);
        for record in &expected {
            let before = Position(record.position.0 - 1);
            let found = journal.seek(QUIET, before).expect("readable");
            assert_eq!(found, Some(record.index));
            let (from, to) = (record.index, Index(u64::MAX));
            let page = journal.read(QUIET, from, to, 100 << 10).expect("readable");
            assert_eq!(page[..], expected[from.0 as usize - 1..]);
        }
        let read = disk.read.load(Ordering::Relaxed) - begun;
        // A few KiB each time that it is read, and the first window of each page. All is 4 MB each time.
        let records = RECORDS * (RECORDS + 5);
        let most = records as usize * (7 << 10);
        assert!(read < most, "{read} bytes, {most} at most");
        assert_eq!(all(&journal, 2).len() as u64, RECORDS * BETWEEN);
        journal.close();
        journal = open();
    }
}
