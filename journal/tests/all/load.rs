//! Many at once: shared fsyncs, turns between groups, memory.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use journal::{
    Disk, GroupId, Index, Journal, Kind, MemoryDisk, Options, Payload, Position, Record, Term,
    inspect,
};

use crate::tools::{all, dir, entry, options, sized_entry};

/// A disk whose first sync after `hold` waits: what is appended meanwhile makes one round.
#[derive(Clone)]
struct HeldDisk(MemoryDisk, Arc<(Barrier, std::sync::atomic::AtomicBool)>);

struct HeldFile(Arc<dyn journal::disk::File>, HeldDisk);

impl HeldDisk {
    fn new() -> HeldDisk {
        HeldDisk(MemoryDisk::new(), Arc::new((Barrier::new(2), false.into())))
    }
    fn hold(&self) {
        self.1.1.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    fn let_go(&self) {
        self.1.0.wait();
    }
}

impl Disk for HeldDisk {
    fn open(
        &self,
        path: &std::path::Path,
        how: journal::disk::Open,
    ) -> std::io::Result<Arc<dyn journal::disk::File>> {
        Ok(Arc::new(HeldFile(self.0.open(path, how)?, self.clone())))
    }
    fn list(&self, dir: &std::path::Path) -> std::io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &std::path::Path) -> std::io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock(&self, path: &std::path::Path) -> std::io::Result<journal::disk::Lock> {
        self.0.lock(path)
    }
}

impl journal::disk::File for HeldFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> std::io::Result<()> {
        if self.1.1.1.swap(false, std::sync::atomic::Ordering::SeqCst) {
            self.1.1.0.wait();
        }
        self.0.sync()
    }
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }
}

fn held(options: Options) -> (HeldDisk, Journal) {
    let disk = HeldDisk::new();
    let journal = Journal::open(Arc::new(disk.clone()), dir(), options).expect("open");
    (disk, journal)
}

#[test]
fn what_waits_shares_one_fsync() {
    let (disk, journal) = held(Options {
        segment_bytes: 1 << 20,
        ..options()
    });
    disk.hold();
    let (sender, receiver) = channel();
    let append = |group: u32, index: u64| {
        let sender = sender.clone();
        let done = Box::new(move |answer| sender.send(answer).expect("test waits"));
        journal.append(vec![entry(group, 1, index)], done);
    };
    append(1, 1);
    // The writer is in its first sync, or will be; only it takes from the queue.
    while journal.stats().queue > 0 {
        std::thread::yield_now();
    }
    for group in 1..=32 {
        append(group, if group == 1 { 2 } else { 1 });
    }
    assert_eq!(journal.stats().queue, 32);
    disk.let_go();
    for _ in 0..33 {
        receiver.recv().expect("answered").expect("written");
    }
    assert_eq!(journal.stats().fsyncs, 2);
}

#[test]
fn a_heavy_group_does_not_starve_the_others() {
    let sized = Options {
        segment_bytes: 1 << 20,
        group_bytes_max: 8 << 10,
        ..options()
    };
    let (disk, journal) = held(sized);
    disk.hold();
    let nothing = || Box::new(|_| ());
    journal.append(vec![entry(9, 1, 1)], nothing());
    while journal.stats().queue > 0 {
        std::thread::yield_now();
    }
    // 30 large parts wait before the others' small entries come.
    for index in 1..=30 {
        let part = Record {
            kind: Kind::Part,
            ..sized_entry(1, 1, index, 8 << 10)
        };
        journal.append(vec![part], nothing());
    }
    for group in 2..=5 {
        journal.append(vec![entry(group, 1, 1)], nothing());
    }
    disk.let_go();
    journal.close();
    let order: Vec<u32> = inspect(Arc::new(disk.0), dir())
        .map(|(_, _, record)| record.expect("whole"))
        .filter(|record| record.kind.is_log())
        .map(|record| record.group.0)
        .collect();
    assert_eq!(order[..7], [9, 1, 2, 3, 4, 5, 1], "{order:?}");
    assert_eq!(order.len(), 35);
}

#[test]
fn memory_is_bounded_and_payload_is_not_copied() {
    let (_, journal) = held(Options {
        segment_bytes: 1 << 20,
        tail_bytes_max: 64 << 10,
        ..options()
    });
    for index in 1..=500 {
        journal
            .append_wait(vec![sized_entry(1, 1, index, 1000)])
            .expect("append");
        assert!(journal.stats().tail_bytes <= 64 << 10);
    }
    assert_eq!(all(&journal, 1).len(), 500);
    let payload = Payload::of(b"the same bytes");
    let record = Record {
        payload: payload.clone(),
        ..entry(1, 1, 501)
    };
    journal.append_wait(vec![record]).expect("append");
    let read = journal
        .read(GroupId(1), Index(501), Index(502), 1)
        .expect("read");
    assert_eq!(
        read[0].payload.as_bytes().as_ptr(),
        payload.as_bytes().as_ptr()
    );
}

/// A truncation that overtakes records on their way to the disk: what stays becomes durable, what
/// went never counts.
#[test]
fn truncation_overtakes_a_write() {
    let (disk, journal) = held(Options {
        segment_bytes: 1 << 20,
        ..options()
    });
    let group = GroupId(1);
    disk.hold();
    journal.append(vec![entry(1, 1, 1)], Box::new(|_| ()));
    while journal.stats().queue > 0 {
        std::thread::yield_now();
    }
    let batch = (2..=5).map(|index| entry(1, 1, index)).collect();
    journal.append(batch, Box::new(|_| ()));
    journal.append(vec![Record::truncate(group, Index(3))], Box::new(|_| ()));
    assert_eq!(journal.state(group).durable, None);
    assert_eq!(all(&journal, 1), [entry(1, 1, 1), entry(1, 1, 2)]);
    disk.let_go();
    journal
        .append_wait(vec![Record::vote(group, b"vote")])
        .expect("vote");
    assert_eq!(journal.state(group).durable, Some(Index(2)));
    journal.append_wait(vec![entry(1, 2, 3)]).expect("append");
    assert_eq!(journal.state(group).durable, Some(Index(3)));
    assert_eq!(all(&journal, 1)[1..], [entry(1, 1, 2), entry(1, 2, 3)]);
}

/// A `done` that panics must not leave anyone waiting.
#[test]
fn a_panic_in_done_is_final() {
    let (_, journal) = held(options());
    journal.append(
        vec![entry(1, 1, 1)],
        Box::new(|_| panic!("expected by the test")),
    );
    let answers: Vec<_> = (2..4)
        .map(|index| journal.append_wait(vec![entry(1, 1, index)]))
        .collect();
    assert!(
        answers.last().is_some_and(|answer| answer.is_err()),
        "{answers:?}"
    );
}

/// Not a benchmark: readers, releases and writers at once, for races.
#[test]
fn readers_go_on_while_segments_leave() {
    let disk = MemoryDisk::new();
    let small = Options {
        segment_bytes: 8 << 10,
        ..options()
    };
    let journal = Journal::open(Arc::new(disk), dir(), small).expect("open");
    let until = Instant::now() + Duration::from_millis(300);
    std::thread::scope(|scope| {
        for group in 1..=2 {
            let journal = &journal;
            scope.spawn(move || {
                let mut index = 0;
                while Instant::now() < until || index < 500 {
                    index += 1;
                    journal
                        .append_wait(vec![entry(group, 1, index)])
                        .expect("append");
                    if index.is_multiple_of(50) {
                        let upto = Index(index - 40);
                        let purge = Record::purge(GroupId(group), Term(1), upto);
                        journal.append_wait(vec![purge]).expect("purge");
                        journal.release(GroupId(group), upto).expect("release");
                    }
                }
            });
            scope.spawn(move || {
                let mut next = 1;
                while Instant::now() < until {
                    let (from, to) = (Index(next), Index(next + 30));
                    let found = journal.read(GroupId(group), from, to, 4096).expect("read");
                    for record in &found {
                        assert_eq!(record, &entry(group, 1, record.index.0));
                    }
                    next = found.last().map_or(1, |last| last.index.0 + 1);
                    let after = Position(next * 10);
                    let sought = journal.seek(GroupId(group), after).expect("seek");
                    assert!(sought.is_none_or(|index| index.0 * 10 + 1 > after.0));
                }
            });
        }
    });
    assert!(journal.stats().segments < 20, "{:?}", journal.stats());
}
