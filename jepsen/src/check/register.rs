//! Linearizability of one register: is there an order of its operations, each between its begin and
//! its end, in which every answer is right? Found by trying (Wing and Gong 1993, with Lowe's memory
//! of what was tried).

use std::collections::HashSet;

use crate::finding::{Finding, Kind};

/// States that are tried before a register is given up as undecided.
const STATES_MAX: usize = 3_000_000;

/// What was asked, and what was answered if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// This was read.
    Read(Option<i64>),
    /// This was written.
    Write(i64),
    /// `to` takes the place of `from`, if that is there.
    Swap {
        /// What must be there.
        from: i64,
        /// What takes its place.
        to: i64,
        /// Whether it was there, as answered.
        done: Option<bool>,
    },
}

/// An operation on a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it did.
    pub deed: Deed,
    /// When it was asked for.
    pub begun: u64,
    /// When its answer came; `None`: unknown, it may take effect at any time, or never.
    pub ended: Option<u64>,
}

impl Operation {
    /// The register after this on `value`; `None` if that contradicts the answer.
    fn on(&self, value: Option<i64>) -> Option<Option<i64>> {
        match self.deed {
            Deed::Read(read) => (read == value).then_some(value),
            Deed::Write(written) => Some(Some(written)),
            Deed::Swap { from, to, done } => {
                let is_there = value == Some(from);
                let agrees = done.is_none_or(|done| done == is_there);
                let after = if is_there { Some(to) } else { value };
                agrees.then_some(after)
            }
        }
    }
}

/// What a register's history is.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Broken(Finding),
    /// Too many orders to try.
    Undecided,
}

/// A set of operations by number.
type Set = Vec<u64>;

/// Judges a register that nobody had written before the first operation.
pub fn judge(key: i64, operations: &[Operation]) -> Verdict {
    let words = operations.len().div_ceil(64);
    let mut tried: HashSet<(Set, Option<i64>)> = HashSet::new();
    let mut open: Vec<(Set, Option<i64>)> = vec![(vec![0; words], None)];
    let mut furthest = (0, vec![0; words], None);
    while let Some((done, value)) = open.pop() {
        let waiting = || (0..operations.len()).filter(|at| !contains(&done, *at));
        let Some(first_end) = waiting().filter_map(|at| operations[at].ended).min() else {
            // Only unknown ones are left.
            return Verdict::Linearizable;
        };
        let count = operations.len() - waiting().count();
        if count >= furthest.0 {
            furthest = (count, done.clone(), value);
        }
        // Who began after another's end comes behind it.
        for at in waiting().filter(|at| operations[*at].begun <= first_end) {
            let Some(after) = operations[at].on(value) else {
                continue;
            };
            let mut next = done.clone();
            next[at / 64] |= 1 << (at % 64);
            if tried.insert((next.clone(), after)) {
                open.push((next, after));
            }
        }
        if tried.len() > STATES_MAX {
            return Verdict::Undecided;
        }
    }
    Verdict::Broken(explain(key, operations, &furthest.1, furthest.2))
}

fn contains(set: &Set, at: usize) -> bool {
    set[at / 64] & (1 << (at % 64)) != 0
}

/// The operation that fits nowhere behind the longest order that was found.
fn explain(key: i64, operations: &[Operation], done: &Set, value: Option<i64>) -> Finding {
    let waiting = (0..operations.len()).filter(|at| !contains(done, *at));
    let known = waiting.filter(|at| operations[*at].ended.is_some());
    let first = known.min_by_key(|at| operations[*at].ended);
    let what = first.map(|at| format!("{:?}", operations[at]));
    Finding::new(
        Kind::Anomaly,
        format!(
            "register {key} is not linearizable: it holds {value:?}, then {}",
            what.unwrap_or_default()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(begun: u64, ended: u64, deed: Deed) -> Operation {
        Operation {
            deed,
            begun,
            ended: Some(ended),
        }
    }

    fn unknown(begun: u64, deed: Deed) -> Operation {
        Operation {
            deed,
            begun,
            ended: None,
        }
    }

    fn swap(from: i64, to: i64, done: Option<bool>) -> Deed {
        Deed::Swap { from, to, done }
    }

    fn is_broken(operations: &[Operation]) -> bool {
        match judge(1, operations) {
            Verdict::Linearizable => false,
            Verdict::Broken(_) => true,
            Verdict::Undecided => panic!("a few operations are decided"),
        }
    }

    #[test]
    fn concurrent_operations_may_be_in_any_order() {
        assert!(!is_broken(&[
            done(0, 10, Deed::Write(1)),
            done(0, 10, Deed::Write(2)),
            done(1, 9, Deed::Read(Some(2))),
            done(11, 12, Deed::Read(Some(1))),
            done(13, 14, swap(1, 5, Some(true))),
            done(15, 16, swap(1, 6, Some(false))),
            done(17, 18, Deed::Read(Some(5))),
        ]));
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(is_broken(&[
            done(0, 1, Deed::Write(1)),
            done(2, 3, Deed::Write(2)),
            done(4, 5, Deed::Read(Some(1))),
        ]));
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(is_broken(&[
            done(0, 1, Deed::Write(1)),
            done(2, 3, Deed::Read(None)),
        ]));
    }

    #[test]
    fn two_swaps_of_one_value_are_found() {
        assert!(is_broken(&[
            done(0, 1, Deed::Write(1)),
            done(2, 9, swap(1, 2, Some(true))),
            done(2, 9, swap(1, 3, Some(true))),
        ]));
    }

    #[test]
    fn an_unknown_write_may_come_late_or_never_but_once() {
        let write = [
            done(0, 1, Deed::Write(1)),
            unknown(2, Deed::Write(2)),
            done(3, 4, Deed::Read(Some(1))),
        ];
        assert!(!is_broken(&write));
        let late = [&write[..], &[done(5, 6, Deed::Read(Some(2)))]].concat();
        assert!(!is_broken(&late));
        let twice = [&late[..], &[done(7, 8, Deed::Read(Some(1)))]].concat();
        assert!(is_broken(&twice));
    }

    #[test]
    fn reads_that_go_back_are_found() {
        assert!(is_broken(&[
            done(0, 1, Deed::Write(1)),
            done(2, 20, Deed::Write(2)),
            done(3, 4, Deed::Read(Some(2))),
            done(5, 6, Deed::Read(Some(1))),
        ]));
    }
}
