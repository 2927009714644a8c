//! The power goes in every call of the disk, and again while the journal is opened; every call
//! fails once; syncs lie.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use journal::{Error, FaultyDisk, GroupId, Journal, MemoryDisk, Options};

use crate::tools::{Acknowledged, GROUPS, History, Step, dir, entry, open, options, workload};

const STEPS: usize = 60;

/// A run of the workload on the disk until it ends or the disk fails.
fn run(disk: &FaultyDisk, steps: &[Step]) -> History {
    match open(disk) {
        Ok(journal) => History::drive(&journal, steps).0,
        Err(_) => History::default(),
    }
}

fn calls_of(steps: &[Step]) -> u64 {
    let disk = FaultyDisk::new(MemoryDisk::new());
    let journal = open(&disk).expect("open");
    let (history, error) = History::drive(&journal, steps);
    assert!(error.is_none(), "{error:?}");
    history
        .check(&journal, Acknowledged::Kept)
        .expect("all there");
    disk.calls()
}

/// Opens what a crash has left, checks it, goes on a little, and checks that too.
fn reopen(disk: &MemoryDisk, history: &History, what: &str) {
    let journal = open(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    history
        .check(&journal, Acknowledged::Kept)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    for group in 1..=GROUPS {
        let last = journal.state(GroupId(group)).last;
        let next = last.map_or(1, |(_, index, _)| index.0 + 1);
        journal
            .append_wait(vec![entry(group, 99, next)])
            .expect("append");
        let copy = open(&disk.copy()).unwrap_or_else(|e| panic!("{what}, going on: {e}"));
        let last = copy.state(GroupId(group)).last.expect("appended");
        assert_eq!((last.0.0, last.1.0), (99, next), "{what}");
    }
}

#[test]
fn power_goes_at_every_call() {
    for seed in 1..=3 {
        let steps = workload(seed, STEPS);
        for call in 1..=calls_of(&steps) {
            let disk = FaultyDisk::new(MemoryDisk::new());
            disk.crash_at(call);
            let history = run(&disk, &steps);
            for tear in 0..4 {
                let what = format!("seed {seed}, call {call}, tear {tear}");
                reopen(&disk.memory().after_crash(tear), &history, &what);
            }
        }
    }
}

#[test]
fn power_goes_again_while_opening() {
    let seed = 7;
    let steps = workload(seed, STEPS);
    for call in (1..=calls_of(&steps)).step_by(3) {
        let disk = FaultyDisk::new(MemoryDisk::new());
        disk.crash_at(call);
        let history = run(&disk, &steps);
        for again in 1.. {
            let second = FaultyDisk::new(disk.memory().after_crash(call));
            second.crash_at(again);
            let opened = open(&second).is_ok();
            let what = format!("seed {seed}, call {call}, then {again}");
            reopen(&second.memory().after_crash(again), &history, &what);
            if opened {
                break;
            }
        }
    }
}

#[test]
fn killed_at_every_call_the_page_cache_survives() {
    let seed = 11;
    let steps = workload(seed, STEPS);
    for call in 1..=calls_of(&steps) {
        let disk = FaultyDisk::new(MemoryDisk::new());
        disk.crash_at(call);
        let history = run(&disk, &steps);
        reopen(
            &disk.memory().copy(),
            &history,
            &format!("seed {seed}, call {call}"),
        );
    }
}

#[test]
fn the_first_failure_is_final() {
    let seed = 5;
    let steps = workload(seed, STEPS);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for call in 1..=calls_of(&steps) {
            let disk = FaultyDisk::new(MemoryDisk::new());
            let fatal = Arc::new(AtomicUsize::new(0));
            let counter = fatal.clone();
            let on_fatal = Arc::new(move |_: &Error| {
                counter.fetch_add(1, Ordering::SeqCst);
            });
            let options = Options {
                on_fatal,
                ..options()
            };
            disk.fail_at(call, kind);
            let Ok(journal) = Journal::open(Arc::new(disk.clone()), dir(), options) else {
                continue;
            };
            let (history, error) = History::drive(&journal, &steps);
            if let Some(Error::Failed(first)) = &error {
                assert_eq!(fatal.load(Ordering::SeqCst), 1, "call {call}");
                for _ in 0..2 {
                    let next = journal
                        .state(GroupId(1))
                        .last
                        .map_or(1, |last| last.1.0 + 1);
                    let later = journal.append_wait(vec![entry(1, 99, next)]);
                    let Err(Error::Failed(again)) = later else {
                        panic!("{later:?}")
                    };
                    assert!(Arc::ptr_eq(first, &again), "the first reason, call {call}");
                }
            }
            drop(journal);
            reopen(
                &disk.memory().copy(),
                &history,
                &format!("{kind:?} at call {call}"),
            );
            reopen(
                &disk.memory().after_crash(call),
                &history,
                &format!("{kind:?} at {call}"),
            );
        }
    }
}

#[test]
fn a_full_disk_is_final_too() {
    let steps = workload(13, STEPS);
    let disk = FaultyDisk::new(MemoryDisk::new());
    disk.limit_space(20_000);
    let journal = open(&disk).expect("open");
    let (history, error) = History::drive(&journal, &steps);
    assert!(matches!(error, Some(Error::Failed(_))), "{error:?}");
    drop(journal);
    reopen(&disk.memory().copy(), &history, "full disk");
}

/// The check of acknowledged records has teeth: with lost syncs it must fail.
#[test]
fn lost_syncs_are_noticed() {
    let steps = workload(17, STEPS);
    let mut lost = 0;
    for tear in 0..20 {
        let disk = FaultyDisk::new(MemoryDisk::new());
        let journal = open(&disk).expect("open");
        disk.lose_syncs();
        let (history, error) = History::drive(&journal, &steps[..5]);
        assert!(error.is_none(), "{error:?}");
        let found = open(&disk.memory().after_crash(tear));
        let kept = found.is_ok_and(|j| history.check(&j, Acknowledged::Kept).is_ok());
        lost += u32::from(!kept);
    }
    assert!(lost > 5, "{lost} of 20 runs have lost something");
}
