//! Random transactions, refusals, changes of leadership and restarts against a serial model: what
//! committed has read exactly what a serial execution in the order of positions would have shown
//! it, what was lost has left nothing behind.

mod harness;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use harness::*;
use proptest::prelude::*;
use storage::{
    Direction, Group, Local, LockKey, Locked, MemoryStore, Outcome, Policy, Position, Refused,
    RowMode, TableStore,
};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const TRANSACTIONS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Read {
        tx: usize,
        key: usize,
    },
    Scan {
        tx: usize,
        from: usize,
        to: usize,
        back: bool,
    },
    Write {
        tx: usize,
        key: usize,
        remove: bool,
    },
    Commit {
        tx: usize,
    },
    Rollback {
        tx: usize,
    },
    Deliver {
        count: usize,
    },
    Refuse {
        count: usize,
    },
    Fall {
        deliver: usize,
        lose: usize,
    },
    Horizon,
    Checkpoint,
    Crash {
        survives: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let tx = 0..TRANSACTIONS;
    let key = 0..KEYS.len();
    prop_oneof![
        20 => (tx.clone(), key.clone()).prop_map(|(tx, key)| Step::Read { tx, key }),
        8 => (tx.clone(), key.clone(), key.clone(), any::<bool>())
            .prop_map(|(tx, from, to, back)| Step::Scan { tx, from, to, back }),
        20 => (tx.clone(), key, proptest::bool::weighted(0.3))
            .prop_map(|(tx, key, remove)| Step::Write { tx, key, remove }),
        20 => tx.clone().prop_map(|tx| Step::Commit { tx }),
        1 => tx.prop_map(|tx| Step::Rollback { tx }),
        15 => (1..4usize).prop_map(|count| Step::Deliver { count }),
        3 => (1..4usize).prop_map(|count| Step::Refuse { count }),
        2 => (0..4usize, 0..4usize).prop_map(|(deliver, lose)| Step::Fall { deliver, lose }),
        2 => Just(Step::Horizon),
        2 => Just(Step::Checkpoint),
        1 => (0..4u64).prop_map(|survives| Step::Crash { survives }),
    ]
}

type Rows = BTreeMap<String, String>;

/// An open transaction, serializable by its checks.
struct Open {
    tx: Tx,
    reads: Vec<(usize, Option<String>)>,
    scans: Vec<(usize, usize, Vec<(String, String)>)>,
    writes: BTreeMap<usize, Option<String>>,
    _pin: storage::Pin,
}

/// A transaction with a place in the log.
struct Placed {
    position: Position,
    reads: Vec<(usize, Option<String>)>,
    scans: Vec<(usize, usize, Vec<(String, String)>)>,
    writes: BTreeMap<usize, Option<String>>,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

struct Run {
    node: Node,
    open: [Option<Open>; TRANSACTIONS],
    placed: Vec<Placed>,
    next: u32,
}

impl Run {
    fn new() -> Run {
        let node = Node::new();
        node.group.newest().expect("opens the era");
        node.local.hold(GROUP);
        Run {
            node,
            open: Default::default(),
            placed: Vec::new(),
            next: 0,
        }
    }

    /// The open transaction; begins one, unless it would have to wait.
    fn tx(&mut self, tx: usize) -> Option<&mut Open> {
        if self.open[tx].is_none() {
            let pin = self.node.group.pin_newest().ok()?;
            let mut tx_now = Tx {
                id: self.node.group.begin(),
                base: pin.position(),
                epoch: self.node.group.term()?,
                changes: Vec::new(),
                checks: Vec::new(),
            };
            tx_now.base = pin.position();
            self.open[tx] = Some(Open {
                tx: tx_now,
                reads: Vec::new(),
                scans: Vec::new(),
                writes: BTreeMap::new(),
                _pin: pin,
            });
        }
        self.open[tx].as_mut()
    }

    fn read(&mut self, tx: usize, key: usize) {
        let group = Arc::clone(&self.node.group);
        let Some(open) = self.tx(tx) else { return };
        if open.writes.contains_key(&key) {
            return;
        }
        let Ok(value) = group.get(TREE, KEYS[key].as_bytes(), open.tx.base) else {
            self.open[tx] = None;
            return;
        };
        open.reads.push((key, text(value)));
    }

    fn scan(&mut self, tx: usize, from: usize, to: usize, back: bool) {
        let group = Arc::clone(&self.node.group);
        let Some(open) = self.tx(tx) else { return };
        let range = (
            Bound::Included(bytes(KEYS[from])),
            Bound::Excluded(bytes(KEYS[to])),
        );
        let direction = if back {
            Direction::Backward
        } else {
            Direction::Forward
        };
        let rows = group
            .scan(TREE, range, open.tx.base, direction)
            .and_then(|rows| rows.collect::<storage::Result<Vec<_>>>());
        let Ok(mut rows) = rows else {
            self.open[tx] = None;
            return;
        };
        if back {
            rows.reverse();
        }
        let word = |bytes| text(Some(bytes)).expect("some");
        let rows = rows
            .into_iter()
            .map(|(key, value)| (word(key), word(value)))
            .collect();
        open.scans.push((from, to, rows));
    }

    fn commit(&mut self, tx: usize) -> Result<(), TestCaseError> {
        let Some(mut open) = self.open[tx].take() else {
            return Ok(());
        };
        for (key, _) in &open.reads {
            open.tx = open.tx.unchanged(KEYS[*key]);
        }
        for (from, to, _) in &open.scans {
            open.tx = open.tx.unchanged_range(KEYS[*from], KEYS[*to]);
        }
        for (key, value) in &open.writes {
            open.tx = open.tx.write(TREE, KEYS[*key], value.as_deref());
        }
        match open.tx.commit(&self.node.group) {
            Ok(position) => {
                let outcome = self.node.watch(position);
                let Open {
                    reads,
                    scans,
                    writes,
                    ..
                } = open;
                self.placed.push(Placed {
                    position,
                    reads,
                    scans,
                    writes,
                    outcome,
                });
                Ok(())
            }
            Err(Refused::Serialization(_) | Refused::NotLeader) => Ok(()),
            Err(other) => Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Read { tx, key } => self.read(tx, key),
            Step::Scan { tx, from, to, back } => self.scan(tx, from, to, back),
            Step::Write { tx, key, remove } => {
                self.next += 1;
                let value = (!remove).then(|| self.next.to_string());
                if let Some(open) = self.tx(tx) {
                    open.writes.insert(key, value);
                }
            }
            Step::Commit { tx } => self.commit(tx)?,
            Step::Rollback { tx } => self.open[tx] = None,
            Step::Deliver { count } => self.node.local.deliver(GROUP, count).expect("applied"),
            Step::Refuse { count } => {
                self.node.local.refuse(GROUP, count);
            }
            Step::Fall { deliver, lose } => {
                self.node.local.step_down(GROUP);
                self.node.local.deliver(GROUP, deliver).expect("applied");
                self.node.local.lose(GROUP, lose);
                self.node.local.lead(GROUP).expect("leads");
            }
            Step::Horizon => {
                self.node
                    .group
                    .raise_horizon(Position::MAX)
                    .expect("raised");
            }
            Step::Checkpoint => {
                self.node
                    .local
                    .groups()
                    .checkpoint(&*self.node.local)
                    .expect("written");
            }
            Step::Crash { survives } => self.crash(survives),
        }
        Ok(())
    }

    /// The node falls: open transactions are gone, the log and the last checkpoint are not. What
    /// was proposed and not logged never was.
    fn crash(&mut self, survives: u64) {
        self.open = Default::default();
        let old = &self.node;
        old.local.step_down(GROUP);
        old.group.give_up();
        for placed in &self.placed {
            let mut outcome = placed.outcome.lock().expect("not poisoned");
            if *outcome == Some(Outcome::Unknown) {
                *outcome = Some(Outcome::Lost);
            }
        }
        let log = old.local.log(GROUP);
        let store = old.store.crash(|_, _, at| at.0 % 4 < survives);
        let local = Local::journaled(store.clone() as Arc<dyn TableStore>, old.clock.clone());
        let group = local.groups().open(GROUP).expect("opens");
        let index = group.applied_log().0.index;
        let rest = log
            .into_iter()
            .filter(|record| record.index > index)
            .collect();
        local.replay(GROUP, rest).expect("replayed");
        assert_eq!(group.applied_log().0, old.group.applied_log().0);
        let group = local.lead(GROUP).expect("leads");
        local.hold(GROUP);
        self.node = Node {
            store,
            clock: old.clock.clone(),
            local,
            group,
        };
    }

    /// Everything is decided; then the committed transactions are run one after the other.
    fn check(mut self) -> Result<(), TestCaseError> {
        self.open = Default::default();
        self.node.local.release(GROUP).expect("applied");
        self.node.group.newest().expect("opens the era");
        let mut model = Rows::new();
        let horizon = self.node.store.horizon(GROUP);
        let mut last = Position::ZERO;
        for placed in &self.placed {
            match outcome(&placed.outcome) {
                Some(Outcome::Applied) => (),
                Some(Outcome::Lost) => continue,
                other => return Err(TestCaseError::fail(format!("{other:?} is no end"))),
            }
            // Of what a crash has kept out of the log, nobody knows the position any more.
            prop_assert!(placed.position > last, "positions grow");
            last = placed.position;
            for (key, value) in &placed.reads {
                prop_assert_eq!(
                    model.get(KEYS[*key]),
                    value.as_ref(),
                    "at {}",
                    placed.position
                );
            }
            for (from, to, rows) in &placed.scans {
                let in_range = |key: &str| key >= KEYS[*from] && key < KEYS[*to];
                let expected: Vec<_> = model
                    .clone()
                    .into_iter()
                    .filter(|(key, _)| in_range(key))
                    .collect();
                prop_assert_eq!(&expected, rows, "at {}", placed.position);
            }
            for (key, value) in &placed.writes {
                match value {
                    Some(value) => model.insert(KEYS[*key].into(), value.clone()),
                    None => model.remove(KEYS[*key]),
                };
            }
            if placed.position >= horizon {
                let rows: Rows = self
                    .node
                    .scan(placed.position, Direction::Forward)
                    .into_iter()
                    .collect();
                prop_assert_eq!(&rows, &model, "history at {}", placed.position);
            }
        }
        let newest = self.node.group.newest().expect("no barrier");
        let rows: Rows = self
            .node
            .scan(newest, Direction::Forward)
            .into_iter()
            .collect();
        prop_assert_eq!(rows, model);
        prop_assert_eq!(self.node.group.locks().list().len(), 0);
        Ok(())
    }
}

proptest! {
    #[test]
    fn committed_transactions_are_serial(steps in proptest::collection::vec(step(), 1..150)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
        }
        run.check()?;
    }
}

/// Takes a lock, waiting for it; false if the leader fell meanwhile.
fn lock(group: &Group, tx: storage::TxId, key: &str) -> bool {
    loop {
        let row = LockKey::Row {
            tree: TREE,
            key: bytes(key),
        };
        match group.locks().lock(tx, row, RowMode::Update, Policy::Wait) {
            Locked::Granted => return true,
            Locked::Queued(ticket) => {
                let (send, receive) = std::sync::mpsc::channel();
                ticket.on_ready(Box::new(move || {
                    let _ = send.send(());
                }));
                receive.recv().expect("called");
            }
            Locked::Gone => return false,
            other => panic!("{other:?}"),
        }
    }
}

/// Threads move money between accounts under locks, as READ COMMITTED does, while proposals are
/// refused and the leader falls: the total is the same in every snapshot, every answer is right.
/// However the threads are scheduled, so many moves succeed, so many falls come, and each takes
/// a move that is in flight: the moves stand at a gate which only the next fall opens.
#[test]
fn threads_move_money_while_leaders_fall() {
    const THREADS: u64 = 8;
    const APPLIED: u64 = 100;
    const APPLIED_PER_FALL: u64 = 20;
    const FALLS: u64 = THREADS * APPLIED / APPLIED_PER_FALL - 1;
    let node = Node::new();
    let tx = KEYS.iter().fold(node.begin(), |tx, key| tx.put(key, "100"));
    tx.commit(&node.group).expect("placed");
    let (node, applied, gate) = (&node, &AtomicU64::new(0), &AtomicU64::new(APPLIED_PER_FALL));
    let work = |thread: u64| {
        let (mut moved, mut own) = (Vec::new(), 0);
        for n in thread.. {
            if own == APPLIED {
                break;
            }
            while applied.load(Ordering::SeqCst) >= gate.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let outcome = step_money(node, n);
            if outcome == Some(Outcome::Applied) {
                own += 1;
                applied.fetch_add(1, Ordering::SeqCst);
            }
            moved.extend(outcome);
        }
        moved
    };
    let moved: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || work(n))).collect();
        for fall in 1..=FALLS {
            while applied.load(Ordering::SeqCst) < fall * APPLIED_PER_FALL {
                std::thread::yield_now();
            }
            node.local.hold(GROUP);
            gate.store((fall + 1) * APPLIED_PER_FALL, Ordering::SeqCst);
            trouble(node);
        }
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    check_money(node, node.group.applied());
    let count = |wanted| moved.iter().filter(|outcome| **outcome == wanted).count() as u64;
    let (kept, lost) = (count(Outcome::Applied), count(Outcome::Lost));
    assert_eq!(
        kept + lost,
        moved.len() as u64,
        "every answer is known in the end"
    );
    assert_eq!(kept, THREADS * APPLIED);
    assert!(lost >= FALLS, "{lost} lost in {FALLS} falls");
}

/// Refuses the first proposal that comes in, and lets the leader fall.
fn trouble(node: &Node) {
    check_money(node, node.group.applied());
    while node.local.refuse(GROUP, 1) == 0 {
        std::thread::yield_now();
    }
    node.local.release(GROUP).expect("applied");
    node.local.hold(GROUP);
    std::thread::yield_now();
    node.local.step_down(GROUP);
    node.local.release(GROUP).expect("applied");
    node.local.lead(GROUP).expect("leads");
}

/// Only a snapshot that is applied may be shown, so only there the total must be right.
fn check_money(node: &Node, at: Position) {
    let rows = node.scan(at, Direction::Forward);
    if !rows.is_empty() {
        let total: i64 = rows
            .iter()
            .map(|(_, money)| money.parse::<i64>().expect("a number"))
            .sum();
        assert_eq!(total, 600, "at {at}: {rows:?}");
    }
}

fn step_money(node: &Node, n: u64) -> Option<Outcome> {
    let (from, to) = (
        KEYS[n as usize % 6],
        KEYS[(n as usize / 6 + 1 + n as usize) % 6],
    );
    if from == to {
        return None;
    }
    let group = &node.group;
    let (base, epoch) = (group.newest().ok()?, group.term()?);
    let id = group.begin();
    // In the order of keys: no deadlocks here.
    let (first, second) = if from < to { (from, to) } else { (to, from) };
    if !lock(group, id, first) || !lock(group, id, second) {
        group.locks().release(id);
        return None;
    }
    let committed = group.newest().ok().and_then(|now| {
        let read = |key: &str| -> Option<i64> {
            let value = text(group.get(TREE, key.as_bytes(), now).ok()?)?;
            Some(value.parse().expect("a number"))
        };
        let (less, more) = (read(from)? - 1, read(to)? + 1);
        let tx = Tx {
            id,
            base,
            epoch,
            changes: Vec::new(),
            checks: Vec::new(),
        };
        tx.put(from, &less.to_string())
            .put(to, &more.to_string())
            .commit(group)
            .ok()
    });
    let Some(position) = committed else {
        group.locks().release(id);
        return None;
    };
    // As a client does: the next move comes after the answer to this one.
    let (send, receive) = std::sync::mpsc::channel();
    let answer = move |outcome| send.send(outcome).expect("waiting");
    node.group.when(position, Box::new(answer));
    Some(receive.recv().expect("every answer comes"))
}

#[test]
fn a_memory_store_can_crash_twice() {
    let store = MemoryStore::new();
    let again = store.crash(|_, _, _| true).crash(|_, _, _| false);
    assert!(again.trees().is_empty());
}
