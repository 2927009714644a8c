//! The wait-for graph: an actor waits for those who hold, or have asked before for, what it asks
//! for. It is walked when a request joins a queue, for only that can close a cycle.

use std::collections::HashSet;

use super::table::Table;
use crate::TxId;

impl Table {
    /// A cycle through `start`: the transaction of `start` that waits, then the one it waits for,
    /// and so on.
    pub(super) fn cycle(&self, start: TxId) -> Option<Vec<TxId>> {
        // Nobody waits for whom blocks nobody. This is the way of a queue before a hot row.
        if !self.may_block(start) {
            return None;
        }
        // Depth first, on a stack of its own: a queue may be longer than a thread's stack is deep.
        let mut stack = vec![(start, self.edges(start))];
        let mut seen = HashSet::new();
        while let Some((waiter, edges)) = stack.last_mut() {
            let Some((tx, blocker)) = edges.pop() else {
                stack.pop();
                continue;
            };
            *waiter = tx;
            if blocker == start {
                return Some(stack.into_iter().map(|(waiter, _)| waiter).collect());
            }
            if seen.insert(blocker) {
                let edges = self.edges(blocker);
                stack.push((blocker, edges));
            }
        }
        None
    }

    /// Of each request of an actor: its transaction, and each actor that it waits for.
    fn edges(&self, actor: TxId) -> Vec<(TxId, TxId)> {
        let mut edges = Vec::new();
        for (tx, place, request) in self.waits_of(actor) {
            if let Some(lock) = self.locks.get(place) {
                edges.extend(
                    lock.blockers(place, request)
                        .into_iter()
                        .map(|blocker| (tx, blocker)),
                );
            }
        }
        edges
    }
}
