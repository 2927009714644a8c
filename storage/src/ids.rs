//! Transaction ids: one source for all groups of a node, so that an id names one transaction
//! whichever group it writes in, and `pg_xact_status` can ask any of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::Position;

use crate::{Clock, TxId};

/// Bits below the microsecond that tell nodes apart.
const NODE_BITS: u64 = 0x3ff;

/// Gives out the transaction ids of one node: the time in microseconds, as in a position, and in
/// its lowest ten bits the node. Two nodes never give out the same id, so neither do a leader and
/// the one that does not know yet that it is none.
pub(crate) struct TxIds {
    clock: Arc<dyn Clock>,
    node: AtomicU64,
    last: AtomicU64,
}

impl TxIds {
    /// Ids of node 0.
    pub fn new(clock: Arc<dyn Clock>) -> TxIds {
        TxIds {
            clock,
            node: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// From now on ids of this node; of the number only the ten lowest bits are used.
    pub fn number_node(&self, node: u64) {
        self.node.store(node & NODE_BITS, Ordering::Release);
    }

    /// Has this node given it out?
    pub fn is_of_node(id: TxId, node: u64) -> bool {
        id.0 & NODE_BITS == node & NODE_BITS
    }

    /// The next one, above all before. Never waits.
    pub fn next(&self) -> TxId {
        let node = self.node.load(Ordering::Acquire);
        let clock = Position::from_unix_micros(self.clock.unix_micros()).0;
        let next = |last: u64| clock.max((last | NODE_BITS) + 1) & !NODE_BITS | node;
        let mut last = self.last.load(Ordering::Acquire);
        loop {
            let id = next(last);
            let order = Ordering::AcqRel;
            match self
                .last
                .compare_exchange_weak(last, id, order, Ordering::Acquire)
            {
                Ok(_) => return TxId(id),
                Err(now) => last = now,
            }
        }
    }

    /// From now on only ids above this: what earlier runs committed lies below.
    pub fn raise(&self, position: Position) {
        self.last.fetch_max(position.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn ids_grow_though_the_clock_stands_still_or_goes_back() {
        let clock = Arc::new(ManualClock::new(1_790_000_000_000_000));
        let ids = TxIds::new(clock.clone());
        let first = ids.next();
        let second = ids.next();
        assert!(second > first);
        clock.set(1_780_000_000_000_000);
        let third = ids.next();
        assert!(third > second);
        ids.raise(Position(third.0 + 5_000));
        assert!(ids.next().0 > third.0 + 5_000);
    }
}
