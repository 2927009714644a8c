//! The lock table against PostgreSQL's tables and against its promises.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

const A: TxId = TxId(1);
const B: TxId = TxId(2);
const C: TxId = TxId(3);
const D: TxId = TxId(4);

fn table() -> LockTable {
    LockTable::new(ROW_LOCKS_MAX)
}

fn row(key: u8) -> LockKey {
    LockKey::Row {
        tree: 1000,
        key: Bytes::copy_from_slice(&[key]),
    }
}

fn wait(locks: &LockTable, tx: TxId, key: LockKey, mode: impl Into<LockMode>) -> Locked {
    locks.lock(tx, key, mode, Policy::Wait)
}

fn granted(locked: Locked) {
    assert!(matches!(locked, Locked::Granted), "{locked:?}");
}

fn queued(locked: Locked) -> Ticket {
    match locked {
        Locked::Queued(ticket) => ticket,
        other => panic!("{other:?} instead of queued"),
    }
}

fn busy(locked: Locked) {
    assert!(matches!(locked, Locked::Busy), "{locked:?}");
}

fn update(locks: &LockTable, tx: TxId, key: u8) -> Locked {
    wait(locks, tx, row(key), RowMode::Update)
}

/// The table of PostgreSQL's documentation, chapter 13.3.2: X = conflict.
const ROWS: [&str; 4] = ["...X", "..XX", ".XXX", "XXXX"];
/// Chapter 13.3.1.
const TABLES: [&str; 8] = [
    ".......X", "......XX", "....XXXX", "...XXXXX", "..XX.XXX", "..XXXXXX", ".XXXXXXX", "XXXXXXXX",
];

#[test]
fn row_modes_conflict_as_in_postgresql() {
    check_conflicts(&ROWS, |mode| (row(1), LockMode::Row(RowMode::ALL[mode])));
}

#[test]
fn table_modes_conflict_as_in_postgresql() {
    check_conflicts(&TABLES, |mode| {
        (LockKey::Table(1000), LockMode::Table(TableMode::ALL[mode]))
    });
}

#[test]
fn plain_modes_conflict_as_readers_and_writers() {
    let modes = [LockMode::Shared, LockMode::Exclusive];
    check_conflicts(&[".X", "XX"], |mode| (LockKey::Advisory(7), modes[mode]));
    let object = || LockKey::Object {
        class: 1,
        name: Bytes::from_static(b"public.x"),
    };
    check_conflicts(&[".X", "XX"], |mode| (object(), modes[mode]));
    check_conflicts(&[".X", "XX"], |mode| {
        (LockKey::Advisory2(7, 0), modes[mode])
    });
}

fn check_conflicts(expected: &[&str], of: impl Fn(usize) -> (LockKey, LockMode)) {
    for (held, line) in expected.iter().enumerate() {
        for (asked, cell) in line.chars().enumerate() {
            let locks = table();
            let ((key, held_mode), (_, asked_mode)) = (of(held), of(asked));
            granted(wait(&locks, A, key.clone(), held_mode));
            let answer = locks.lock(B, key, asked_mode, Policy::NoWait);
            let conflict = matches!(answer, Locked::Busy);
            assert_eq!(
                conflict,
                cell == 'X',
                "{held_mode:?} held, {asked_mode:?} asked"
            );
        }
    }
}

#[test]
fn different_keys_do_not_conflict() {
    let locks = table();
    granted(update(&locks, A, 1));
    granted(update(&locks, B, 2));
    let other = LockKey::Row {
        tree: 1001,
        key: Bytes::from_static(&[1]),
    };
    granted(wait(&locks, B, other, RowMode::Update));
    granted(wait(&locks, A, LockKey::Advisory(1), LockMode::Exclusive));
    granted(wait(
        &locks,
        B,
        LockKey::Advisory2(0, 1),
        LockMode::Exclusive,
    ));
}

#[test]
fn locks_are_re_entrant() {
    let locks = table();
    granted(update(&locks, A, 1));
    for mode in RowMode::ALL {
        granted(wait(&locks, A, row(1), mode));
        assert!(locks.holds(A, &row(1), mode));
    }
    assert!(!locks.holds(B, &row(1), RowMode::KeyShare));
    locks.release(A);
    granted(update(&locks, B, 1));
    assert_eq!(locks.list().len(), 1);
}

#[test]
fn a_release_grants_the_next_in_line_and_calls_it() {
    let locks = table();
    granted(update(&locks, A, 1));
    let second = queued(update(&locks, B, 1));
    let third = queued(update(&locks, C, 1));
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    second.on_ready(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    assert!(!second.ready());
    locks.release(A);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(second.granted() && !third.ready());
    granted(update(&locks, B, 1));
    locks.release(B);
    assert!(third.granted());
    let count = Arc::clone(&calls);
    third.on_ready(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    assert_eq!(
        calls.load(Ordering::SeqCst),
        2,
        "called at once if it is over"
    );
}

#[test]
fn nobody_overtakes_a_waiting_writer() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::Share));
    let writer = queued(update(&locks, B, 1));
    let reader = queued(wait(&locks, C, row(1), RowMode::Share));
    busy(locks.lock(D, row(1), RowMode::Share, Policy::NoWait));
    busy(locks.lock(D, row(1), RowMode::Share, Policy::SkipLocked));
    locks.release(A);
    assert!(writer.granted() && !reader.ready());
    locks.release(B);
    assert!(reader.granted());
}

#[test]
fn all_compatible_waiters_are_granted_together() {
    let locks = table();
    granted(update(&locks, A, 1));
    let waiters = [B, C, D].map(|tx| queued(wait(&locks, tx, row(1), RowMode::Share)));
    locks.release(A);
    assert!(waiters.iter().all(Ticket::granted));
}

#[test]
fn an_upgrade_goes_before_those_it_blocks() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::KeyShare));
    let other = queued(update(&locks, B, 1));
    granted(update(&locks, A, 1));
    assert!(!other.ready());
    locks.release(A);
    assert!(other.granted());
}

#[test]
fn an_upgrade_waits_for_other_holders_but_not_behind_waiters() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::Share));
    granted(wait(&locks, B, row(1), RowMode::Share));
    let third = queued(update(&locks, C, 1));
    let upgrade = queued(update(&locks, A, 1));
    locks.release(B);
    assert!(upgrade.granted() && !third.ready());
}

#[test]
fn two_upgrades_deadlock() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::Share));
    granted(wait(&locks, B, row(1), RowMode::Share));
    let first = queued(update(&locks, A, 1));
    let Locked::Deadlock(cycle) = update(&locks, B, 1) else {
        panic!("no deadlock")
    };
    assert_eq!(cycle, [B, A]);
    locks.release(B);
    assert!(first.granted());
}

#[test]
fn a_deadlock_of_two_fails_the_one_that_closes_it() {
    let locks = table();
    granted(update(&locks, A, 1));
    granted(update(&locks, B, 2));
    let first = queued(update(&locks, A, 2));
    let Locked::Deadlock(cycle) = update(&locks, B, 1) else {
        panic!("no deadlock")
    };
    assert_eq!(cycle, [B, A]);
    assert!(!first.ready());
    locks.release(B);
    assert!(first.granted());
}

#[test]
fn a_deadlock_of_three_over_different_classes() {
    let locks = table();
    let table_of = LockKey::Table(1000);
    granted(update(&locks, A, 1));
    granted(wait(&locks, B, table_of.clone(), TableMode::Share));
    granted(wait(&locks, C, LockKey::Advisory(1), LockMode::Exclusive));
    let _a = queued(wait(&locks, A, table_of, TableMode::RowExclusive));
    let _b = queued(wait(&locks, B, LockKey::Advisory(1), LockMode::Shared));
    let Locked::Deadlock(cycle) = update(&locks, C, 1) else {
        panic!("no deadlock")
    };
    assert_eq!(cycle, [C, A, B]);
}

#[test]
fn a_deadlock_through_the_queue_is_found() {
    // C waits behind B, B waits for A, and A would wait for C.
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::Share));
    granted(update(&locks, C, 2));
    let _b = queued(update(&locks, B, 1));
    let _c = queued(wait(&locks, C, row(1), RowMode::Share));
    let Locked::Deadlock(cycle) = update(&locks, A, 2) else {
        panic!("no deadlock")
    };
    assert_eq!(cycle, [A, C, B]);
}

#[test]
fn a_chain_is_no_deadlock() {
    let locks = table();
    for tx in 1..=50 {
        granted(update(&locks, TxId(tx), tx as u8));
    }
    let chain: Vec<_> = (2..=50)
        .map(|tx| queued(update(&locks, TxId(tx), tx as u8 - 1)))
        .collect();
    for tx in 1..50 {
        locks.release(TxId(tx));
        assert!(chain[tx as usize - 1].granted(), "{tx}");
    }
}

#[test]
fn a_dropped_ticket_leaves_the_queue() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::Share));
    let writer = queued(update(&locks, B, 1));
    let reader = queued(wait(&locks, C, row(1), RowMode::Share));
    drop(writer);
    assert!(reader.granted(), "nothing is ahead of it any more");
    locks.release(A);
    locks.release(C);
    assert!(locks.list().is_empty());
}

#[test]
fn a_lock_granted_to_a_dropped_ticket_stays_until_release() {
    let locks = table();
    granted(update(&locks, A, 1));
    let ticket = queued(update(&locks, B, 1));
    locks.release(A);
    drop(ticket);
    busy(locks.lock(C, row(1), RowMode::Update, Policy::NoWait));
    locks.release(B);
    assert!(locks.list().is_empty());
}

#[test]
fn a_released_waiter_is_woken_without_the_lock() {
    let locks = table();
    granted(update(&locks, A, 1));
    let ticket = queued(update(&locks, B, 1));
    locks.release(B);
    assert!(ticket.ready() && !ticket.granted());
    locks.release(A);
    assert!(locks.list().is_empty());
}

#[test]
fn a_savepoint_releases_what_came_after_it() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::KeyShare));
    let mark = locks.mark(A);
    granted(update(&locks, A, 1));
    granted(update(&locks, A, 2));
    granted(wait(
        &locks,
        A,
        LockKey::Table(1000),
        TableMode::RowExclusive,
    ));
    let waiter = queued(update(&locks, B, 2));
    locks.release_to(A, mark);
    assert!(waiter.granted());
    assert!(locks.holds(A, &row(1), RowMode::KeyShare));
    assert!(!locks.holds(A, &row(1), RowMode::Update));
    granted(wait(
        &locks,
        C,
        LockKey::Table(1000),
        TableMode::AccessExclusive,
    ));
    granted(wait(&locks, C, row(1), RowMode::NoKeyUpdate));
}

#[test]
fn savepoints_nest() {
    let locks = table();
    granted(update(&locks, A, 1));
    let outer = locks.mark(A);
    granted(update(&locks, A, 2));
    let inner = locks.mark(A);
    granted(update(&locks, A, 3));
    locks.release_to(A, inner);
    assert!(!locks.holds(A, &row(3), RowMode::Update) && locks.holds(A, &row(2), RowMode::Update));
    locks.release_to(A, outer);
    assert!(!locks.holds(A, &row(2), RowMode::Update) && locks.holds(A, &row(1), RowMode::Update));
    locks.release_to(A, inner);
    assert!(locks.holds(A, &row(1), RowMode::Update));
}

#[test]
fn advisory_locks_are_counted() {
    let locks = table();
    let key = LockKey::Advisory(9);
    granted(wait(&locks, A, key.clone(), LockMode::Exclusive));
    granted(wait(&locks, A, key.clone(), LockMode::Exclusive));
    granted(wait(&locks, A, key.clone(), LockMode::Shared));
    assert!(locks.unlock(A, &key, LockMode::Exclusive));
    busy(locks.lock(B, key.clone(), LockMode::Shared, Policy::NoWait));
    assert!(locks.unlock(A, &key, LockMode::Exclusive));
    assert!(!locks.unlock(A, &key, LockMode::Exclusive));
    granted(locks.lock(B, key.clone(), LockMode::Shared, Policy::NoWait));
    busy(locks.lock(B, key.clone(), LockMode::Exclusive, Policy::NoWait));
    assert!(locks.unlock(A, &key, LockMode::Shared));
    granted(locks.lock(B, key, LockMode::Exclusive, Policy::NoWait));
}

#[test]
fn an_advisory_lock_taken_again_is_a_number() {
    let locks = table();
    let key = LockKey::Advisory(9);
    let again = LOCKS_MAX + 1;
    for _ in 0..again {
        granted(wait(&locks, A, key.clone(), LockMode::Exclusive));
    }
    granted(wait(&locks, A, LockKey::Advisory(10), LockMode::Shared));
    for _ in 1..again {
        assert!(locks.unlock(A, &key, LockMode::Exclusive));
    }
    busy(locks.lock(B, key.clone(), LockMode::Exclusive, Policy::NoWait));
    assert!(locks.unlock(A, &key, LockMode::Exclusive));
    assert!(!locks.unlock(A, &key, LockMode::Exclusive));
    granted(locks.lock(B, key.clone(), LockMode::Exclusive, Policy::NoWait));
    // Going back behind the first time takes the number with it.
    let mark = locks.mark(B);
    let other = LockKey::Advisory2(1, 2);
    for _ in 0..3 {
        granted(wait(&locks, B, other.clone(), LockMode::Shared));
        granted(wait(&locks, B, key.clone(), LockMode::Shared));
    }
    locks.release_to(B, mark);
    assert!(!locks.unlock(B, &other, LockMode::Shared));
    assert!(!locks.unlock(B, &key, LockMode::Shared));
    assert!(locks.unlock(B, &key, LockMode::Exclusive));
}

#[test]
fn a_transaction_and_its_session_are_one_actor() {
    let locks = table();
    let (session, tx) = (TxId(10), TxId(11));
    let key = LockKey::Advisory(1);
    granted(wait(&locks, session, key.clone(), LockMode::Exclusive));
    locks.attach(tx, session);
    granted(wait(&locks, tx, key.clone(), LockMode::Exclusive));
    // B waits for the session; the transaction would wait for B.
    granted(update(&locks, B, 1));
    let ticket = queued(wait(&locks, B, key.clone(), LockMode::Exclusive));
    let Locked::Deadlock(cycle) = update(&locks, tx, 1) else {
        panic!("no deadlock")
    };
    assert_eq!(cycle, [tx, B]);
    locks.release(tx);
    assert!(!ticket.ready(), "the session still holds it");
    assert!(locks.unlock(session, &key, LockMode::Exclusive));
    assert!(ticket.granted());
}

#[test]
fn many_row_locks_become_one() {
    let locks = LockTable::new(10);
    for key in 0..100 {
        granted(update(&locks, A, key));
    }
    assert_eq!(locks.list().len(), 1);
    assert!(locks.list()[0].whole_tree);
    assert!(locks.holds(A, &row(5), RowMode::Update) && locks.holds(A, &row(200), RowMode::Share));
    busy(locks.lock(B, row(250), RowMode::KeyShare, Policy::NoWait));
    let other = LockKey::Row {
        tree: 1001,
        key: Bytes::new(),
    };
    granted(wait(&locks, B, other, RowMode::Update));
    let ticket = queued(update(&locks, B, 250));
    locks.release(A);
    assert!(ticket.ready() && !ticket.granted(), "it asks again");
    granted(update(&locks, B, 250));
    locks.release(B);
    assert!(locks.list().is_empty());
}

#[test]
fn escalation_waits_until_no_other_row_conflicts() {
    let locks = LockTable::new(10);
    granted(update(&locks, B, 200));
    for key in 0..25 {
        granted(update(&locks, A, key));
    }
    assert_eq!(locks.list().len(), 26, "B holds a row: A keeps its own");
    locks.release(B);
    for key in 25..40 {
        granted(update(&locks, A, key));
    }
    assert_eq!(locks.list().len(), 1);
    locks.release(A);
    assert!(locks.list().is_empty());
}

#[test]
fn escalation_keeps_waiters_waiting() {
    let locks = LockTable::new(10);
    granted(update(&locks, A, 0));
    let ticket = queued(update(&locks, B, 0));
    for key in 1..30 {
        granted(update(&locks, A, key));
    }
    assert!(!ticket.ready());
    locks.release(A);
    assert!(ticket.granted());
    locks.release(B);
    assert!(locks.list().is_empty());
}

#[test]
fn who_waited_for_a_row_while_its_tree_was_escalated_asks_again() {
    let locks = LockTable::new(2);
    granted(wait(&locks, D, row(3), RowMode::Share));
    granted(wait(&locks, A, row(0), RowMode::Share));
    granted(wait(&locks, A, row(1), RowMode::Share));
    let ticket = queued(wait(&locks, B, row(3), RowMode::NoKeyUpdate));
    granted(wait(&locks, A, row(2), RowMode::Share));
    locks.release(D);
    assert!(ticket.ready() && !ticket.granted());
    let ticket = queued(wait(&locks, B, row(3), RowMode::NoKeyUpdate));
    locks.release(A);
    assert!(ticket.ready());
    granted(wait(&locks, B, row(3), RowMode::NoKeyUpdate));
}

#[test]
fn shared_escalation_lets_other_readers_in() {
    let locks = LockTable::new(10);
    for key in 0..20 {
        granted(wait(&locks, A, row(key), RowMode::KeyShare));
    }
    granted(wait(&locks, B, row(5), RowMode::NoKeyUpdate));
    busy(locks.lock(B, row(5), RowMode::Update, Policy::NoWait));
    // The whole tree in a stronger mode conflicts with B's row: only the row itself is free.
    granted(update(&locks, A, 6));
    busy(locks.lock(A, row(5), RowMode::Update, Policy::NoWait));
    locks.release(A);
    locks.release(B);
    assert!(locks.list().is_empty());
}

#[test]
fn a_savepoint_before_an_escalated_tree_releases_it_and_one_within_does_not() {
    let locks = LockTable::new(10);
    let before = locks.mark(A);
    granted(update(&locks, A, 0));
    let within = locks.mark(A);
    for key in 1..30 {
        granted(update(&locks, A, key));
    }
    locks.release_to(A, within);
    assert!(locks.holds(A, &row(0), RowMode::Update));
    locks.release_to(A, before);
    assert!(locks.list().is_empty());
}

#[test]
fn a_deadlock_through_an_escalated_lock_is_found() {
    let locks = LockTable::new(10);
    for key in 0..20 {
        granted(update(&locks, A, key));
    }
    granted(wait(&locks, B, LockKey::Table(7), TableMode::Exclusive));
    let _ticket = queued(update(&locks, B, 100));
    let answer = wait(&locks, A, LockKey::Table(7), TableMode::RowExclusive);
    assert!(matches!(answer, Locked::Deadlock(_)), "{answer:?}");
}

#[test]
fn clearing_wakes_waiters_and_bars_old_transactions() {
    let locks = table();
    granted(update(&locks, A, 1));
    let ticket = queued(update(&locks, B, 1));
    assert_eq!(
        locks.clear(B, &[]).len(),
        0,
        "nobody has asked to be called"
    );
    assert!(ticket.ready() && !ticket.granted());
    assert!(matches!(update(&locks, A, 1), Locked::Gone));
    granted(update(&locks, C, 1));
    locks.release(A);
    drop(ticket);
    assert_eq!(locks.list().len(), 1);
}

#[test]
fn the_list_shows_holders_and_waiters() {
    let locks = table();
    granted(wait(&locks, A, row(1), RowMode::Share));
    granted(wait(&locks, A, LockKey::Table(1000), TableMode::RowShare));
    let _ticket = queued(update(&locks, B, 1));
    let list: Vec<_> = locks
        .list()
        .into_iter()
        .map(|info| (info.tx, info.mode, info.granted))
        .collect();
    assert_eq!(
        list,
        [
            (A, LockMode::Row(RowMode::Share), true),
            (B, LockMode::Row(RowMode::Update), false),
            (A, LockMode::Table(TableMode::RowShare), true),
        ]
    );
}

/// 32 threads take turns on a hot row: each gets it, nobody holds it beside another.
#[test]
fn threads_take_turns() {
    const TURNS: usize = 200;
    let locks = table();
    let inside = AtomicUsize::new(0);
    let turns = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..32u64 {
            let (locks, inside, turns) = (&locks, &inside, &turns);
            scope.spawn(move || {
                for turn in 0..TURNS as u64 {
                    let tx = TxId(1 + thread + 32 * turn);
                    if let Locked::Queued(ticket) = update(locks, tx, 1) {
                        let (send, receive) = std::sync::mpsc::channel();
                        ticket.on_ready(Box::new(move || send.send(()).expect("waiting")));
                        receive.recv().expect("called");
                        assert!(ticket.granted());
                    }
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    turns.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    locks.release(tx);
                }
            });
        }
    });
    assert_eq!(turns.load(Ordering::SeqCst), 32 * TURNS);
    assert!(locks.list().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Lock {
        tx: u64,
        key: u8,
        mode: usize,
        table: bool,
    },
    Savepoint {
        tx: u64,
    },
    Back {
        tx: u64,
    },
    Release {
        tx: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6u64, 0..6u8, 0..8usize, proptest::bool::weighted(0.2))
            .prop_map(|(tx, key, mode, table)| Step::Lock { tx, key, mode, table }),
        1 => (1..6u64).prop_map(|tx| Step::Savepoint { tx }),
        1 => (1..6u64).prop_map(|tx| Step::Back { tx }),
        2 => (1..6u64).prop_map(|tx| Step::Release { tx }),
    ]
}

/// No two transactions ever hold what conflicts, escalated or not.
fn check_exclusion(locks: &LockTable) {
    let held: Vec<LockInfo> = locks
        .list()
        .into_iter()
        .filter(|info| info.granted)
        .collect();
    for a in &held {
        for b in held.iter().filter(|b| b.tx != a.tx) {
            let same = a.key == b.key
                || matches!((&a.key, &b.key), (LockKey::Row { .. }, LockKey::Row { .. }))
                    && (a.whole_tree || b.whole_tree);
            assert!(
                !same || a.mode.conflicts() & b.mode.bit() == 0,
                "{a:?} beside {b:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn random_steps_exclude_and_end(steps in proptest::collection::vec(step(), 1..120), max in 1..6usize) {
        let locks = LockTable::new(max);
        let mut tickets: std::collections::BTreeMap<u64, Ticket> = Default::default();
        let mut marks: std::collections::BTreeMap<u64, Mark> = Default::default();
        for step in steps {
            // Who waits does nothing else.
            tickets.retain(|_, ticket| !ticket.ready());
            match step {
                Step::Lock { tx, key, mode, table } if !tickets.contains_key(&tx) => {
                    let answer = if table {
                        wait(&locks, TxId(tx), LockKey::Table(key.into()), TableMode::ALL[mode])
                    } else {
                        wait(&locks, TxId(tx), row(key), RowMode::ALL[mode % 4])
                    };
                    match answer {
                        Locked::Granted => (),
                        Locked::Queued(ticket) => { tickets.insert(tx, ticket); }
                        Locked::Deadlock(cycle) => {
                            prop_assert_eq!(cycle[0], TxId(tx));
                            locks.release(TxId(tx));
                            marks.remove(&tx);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                Step::Savepoint { tx } => { marks.insert(tx, locks.mark(TxId(tx))); }
                Step::Back { tx } if !tickets.contains_key(&tx) => {
                    if let Some(mark) = marks.get(&tx) {
                        locks.release_to(TxId(tx), *mark);
                    }
                }
                Step::Release { tx } => {
                    tickets.remove(&tx);
                    marks.remove(&tx);
                    locks.release(TxId(tx));
                }
                Step::Lock { .. } | Step::Back { .. } => (),
            }
            check_exclusion(&locks);
            let running = (1..6).any(|tx| tickets.get(&tx).is_none_or(Ticket::ready));
            prop_assert!(running, "all wait: an undetected deadlock");
        }
        for tx in 1..6 {
            locks.release(TxId(tx));
        }
        drop(tickets);
        prop_assert!(locks.list().is_empty());
    }
}
