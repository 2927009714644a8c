//! Measures the table stores: updates, point reads, scans, checkpoint, reopening, and the full
//! scan of a small table that is written all the time. `store_bench [lsm|sled] [rows] [batches]`.
#![allow(clippy::unwrap_used)]

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::{
    Applied, Direction, GroupCheckpoint, GroupId, Index, Position, StoreKind, StoreOptions,
    TableStore, Term, TreeId, Write,
};

const TABLE: TreeId = TreeId {
    group: GroupId(1),
    number: 1000,
};
const HOT: TreeId = TreeId {
    group: GroupId(2),
    number: 1001,
};
const HOT_ROWS: u64 = 1000;
const READS: u64 = 200_000;
const SCANS: u64 = 5_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(default, |n| n.parse().unwrap());
    let (rows, batches) = (number(1, 1_000_000), number(2, 200_000));
    let kinds = match arguments.first().map(String::as_str) {
        Some("lsm") => vec![StoreKind::Lsm],
        Some("sled") => vec![StoreKind::Sled],
        _ => vec![StoreKind::Lsm, StoreKind::Sled],
    };
    for kind in kinds {
        let dir = tempfile::tempdir().unwrap();
        println!(
            "## {} ({rows} rows, {batches} batches of 1 to 10 rows)",
            kind.name()
        );
        Bench::new(kind, dir.path()).run(kind, dir.path(), rows, batches);
    }
}

/// CPU time of this thread, from the scheduler.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes())
}

struct Bench {
    store: Arc<dyn TableStore>,
    rng: StdRng,
    position: u64,
}

impl Bench {
    fn new(kind: StoreKind, dir: &Path) -> Bench {
        let store = storage::open(kind, dir, StoreOptions::default()).unwrap();
        Bench {
            store,
            rng: StdRng::seed_from_u64(1),
            position: 1 << 50,
        }
    }

    fn run(mut self, kind: StoreKind, dir: &Path, rows: u64, batches: u64) {
        self.load(rows);
        self.update(rows, batches);
        self.point_reads(rows, "newest version, with what updates left");
        self.scans("with what updates left");
        self.checkpoint("of what updates left");
        self.update(rows, 20_000);
        self.checkpoint("of 20 k batches");
        self.store.set_horizon(TABLE.group, Position(self.position));
        let begin = Instant::now();
        self.store.purge(TABLE).unwrap();
        println!("purge: {:?}", begin.elapsed());
        self.point_reads(rows, "one version, at rest");
        self.scans("at rest");
        self.hot_table(true, "horizon close behind");
        self.hot_table(false, "horizon standing still");
        self.checkpoint("of the hot table");
        self.many_trees();
        let disk: u64 = self
            .store
            .trees()
            .iter()
            .map(|tree| self.store.disk_bytes(*tree))
            .sum();
        drop(self.store);
        let begin = Instant::now();
        drop(storage::open(kind, dir, StoreOptions::default()).unwrap());
        let (reopen, rss) = (begin.elapsed(), peak_rss_mb());
        println!(
            "reopen: {reopen:?}; disk {} MB; peak RSS {rss} MB",
            disk >> 20
        );
    }

    fn load(&mut self, rows: u64) {
        let begin = Instant::now();
        let value = |n: u64| Bytes::from(format!("{n:0>100}"));
        let mut writes = (0..rows).map(|n| (key(n), Some(value(n))));
        self.store
            .write(TABLE, Position(self.position), &mut writes)
            .unwrap();
        let (elapsed, memory) = (begin.elapsed(), self.store.memory() >> 20);
        println!("load in one entry: {elapsed:?}; memory {memory} MB");
        self.checkpoint("after load");
    }

    fn update(&mut self, rows: u64, batches: u64) {
        let mut times = Vec::with_capacity(batches as usize);
        let mut used = Duration::ZERO;
        for _ in 0..batches {
            self.position += 1 << 20;
            let count = self.rng.random_range(1..=10);
            let mut row = || {
                let value = Bytes::from(vec![self.rng.random::<u8>(); 100]);
                (key(self.rng.random_range(0..rows)), Some(value))
            };
            let writes: Vec<Write> = (0..count).map(|_| row()).collect();
            let (begin, at) = (cpu(), Instant::now());
            self.store
                .write(TABLE, Position(self.position), &mut writes.into_iter())
                .unwrap();
            times.push(at.elapsed());
            used += cpu() - begin;
            // One minute of a thousand transactions per second.
            let behind = self.position.saturating_sub(60_000 << 20);
            self.store.set_horizon(TABLE.group, Position(behind));
        }
        let each = used.as_nanos() as f64 / 1e3 / batches as f64;
        times.sort_unstable();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), times[times.len() - 1]);
        println!(
            "update: {each:.1} us CPU per batch; p50 {p50:?} p99 {p99:?} p99.9 {p999:?} max {max:?}"
        );
    }

    fn point_reads(&mut self, rows: u64, what: &str) {
        let at = Position(self.position);
        for _ in 0..READS / 4 {
            self.store
                .get(TABLE, &key(self.rng.random_range(0..rows)), at)
                .unwrap();
        }
        let begin = cpu();
        for _ in 0..READS {
            let key = key(self.rng.random_range(0..rows));
            assert!(self.store.get(TABLE, &key, at).unwrap().is_some());
        }
        let each = (cpu() - begin).as_nanos() as f64 / 1e3 / READS as f64;
        println!("point read, {what}: {each:.2} us CPU");
    }

    fn scans(&mut self, what: &str) {
        let at = Position(self.position);
        for (direction, limit) in [
            (Direction::Forward, 100),
            (Direction::Backward, 100),
            (Direction::Forward, 1),
        ] {
            let begin = cpu();
            for _ in 0..SCANS {
                let bound = Bound::Included(key(self.rng.random()));
                let range = match direction {
                    Direction::Forward => (bound, Bound::Unbounded),
                    Direction::Backward => (Bound::Unbounded, bound),
                };
                let scan = self.store.scan(TABLE, range, at, direction).unwrap();
                for row in scan.take(limit) {
                    row.unwrap();
                }
            }
            let each = (cpu() - begin).as_nanos() as f64 / 1e3 / SCANS as f64;
            println!("scan of {limit} rows {direction:?}, {what}: {each:.1} us CPU");
        }
    }

    fn checkpoint(&mut self, what: &str) {
        let applied = Applied {
            term: Term(1),
            index: Index(1),
            position: Position(self.position),
        };
        let group = GroupCheckpoint {
            group: TABLE.group,
            applied,
            raft: Bytes::new(),
        };
        let begin = Instant::now();
        let checkpoint = self.store.begin_checkpoint(vec![group]).unwrap();
        let begun = begin.elapsed();
        checkpoint.finish().unwrap();
        println!(
            "checkpoint {what}: begin {begun:?}, finish {:?}",
            begin.elapsed() - begun
        );
    }

    /// Five hundred tables with one new row each.
    fn many_trees(&mut self) {
        for what in ["creating", "writing"] {
            self.position += 1 << 20;
            let begin = Instant::now();
            for number in 2000..2500 {
                let mut row = std::iter::once((key(1), Some(Bytes::from_static(b"row"))));
                let tree = TreeId { number, ..TABLE };
                self.store
                    .write(tree, Position(self.position), &mut row)
                    .unwrap();
            }
            println!("{what} 500 trees: {:?}", begin.elapsed());
            self.checkpoint("of 500 trees with one row each");
        }
    }

    /// Full scans of a small table for five seconds beside constant writes.
    fn hot_table(&mut self, close: bool, what: &str) {
        let stop = Arc::new(AtomicBool::new(false));
        let visible = Arc::new(AtomicU64::new(0));
        let begin_at = self.position + (1 << 30);
        let mut fill = (0..HOT_ROWS).map(|n| (key(n), Some(Bytes::from_static(&[7; 100]))));
        self.store
            .write(HOT, Position(begin_at), &mut fill)
            .unwrap();
        visible.store(begin_at, Ordering::Release);
        let writer = {
            let (store, stop, visible) = (self.store.clone(), stop.clone(), visible.clone());
            std::thread::spawn(move || {
                let mut rng = StdRng::seed_from_u64(3);
                let (mut at, mut written) = (begin_at, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    at += 1 << 10;
                    let row = (
                        key(rng.random_range(0..HOT_ROWS)),
                        Some(vec![1; 100].into()),
                    );
                    store
                        .write(HOT, Position(at), &mut std::iter::once(row))
                        .unwrap();
                    visible.store(at, Ordering::Release);
                    if close {
                        store.set_horizon(HOT.group, Position(at - (1 << 22)));
                    }
                    written += 1;
                }
                (at, written)
            })
        };
        let (begin, mut scans, mut slowest) = (Instant::now(), 0u64, Duration::ZERO);
        while begin.elapsed() < Duration::from_secs(5) {
            let (at, one) = (Position(visible.load(Ordering::Acquire)), Instant::now());
            let range = (Bound::Unbounded, Bound::Unbounded);
            // Too old already if the writer was faster: a server's snapshot prevents that.
            let Ok(scan) = self.store.scan(HOT, range, at, Direction::Forward) else {
                continue;
            };
            assert_eq!(scan.count() as u64, HOT_ROWS);
            slowest = slowest.max(one.elapsed());
            scans += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let (at, written) = writer.join().unwrap();
        self.position = at;
        println!(
            "hot table of {HOT_ROWS} rows, {what}: {scans} full scans in 5 s beside {written} \
             writes, slowest {slowest:?}"
        );
    }
}
