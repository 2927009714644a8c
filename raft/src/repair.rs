//! How far the snapshots are that this node sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use journal::GroupId;
use parking_lot::Mutex;
use storage::{Estimate, time_left};
use tokio::time::Instant;

use crate::types::ReplicaId;

/// A snapshot on its way to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Bytes that the replica has.
    pub bytes: u64,
    /// About how many there are in all, as soon as that can be said.
    pub expected: Option<u64>,
    /// How long the rest takes at this rate.
    pub left: Option<Duration>,
}

/// All of them.
#[derive(Default)]
pub struct Repairs(Mutex<BTreeMap<(GroupId, ReplicaId), Repair>>);

impl Repairs {
    /// A snapshot with this metadata begins to be sent.
    pub fn begin(self: &Arc<Repairs>, group: GroupId, to: ReplicaId, meta: &Bytes) -> Sending {
        let sending = Sending {
            repairs: self.clone(),
            of: (group, to),
            estimate: Estimate::new(meta),
            had: 0,
            begun: Instant::now(),
        };
        sending.tell();
        sending
    }

    /// The one that a replica gets.
    pub fn find(&self, group: GroupId, to: ReplicaId) -> Option<Repair> {
        self.0.lock().get(&(group, to)).copied()
    }
}

/// One, until it is dropped.
pub struct Sending {
    repairs: Arc<Repairs>,
    of: (GroupId, ReplicaId),
    estimate: Estimate,
    /// Bytes that the replica had when it began.
    had: u64,
    begun: Instant,
}

impl Sending {
    /// The replica has the next bytes from before.
    pub fn had(&mut self, bytes: &Bytes) {
        self.estimate.take(bytes);
        (self.had, self.begun) = (self.estimate.bytes(), Instant::now());
    }

    /// The replica has got the next bytes.
    pub fn sent(&mut self, bytes: &Bytes) {
        self.estimate.take(bytes);
        self.tell();
    }

    fn tell(&self) {
        let (bytes, expected) = (self.estimate.bytes(), self.estimate.expected());
        let over = self.begun.elapsed();
        let sent = |bytes: u64| bytes - self.had;
        let repair = Repair {
            bytes,
            expected,
            left: expected.and_then(|all| time_left(sent(bytes), sent(all), over)),
        };
        self.repairs.0.lock().insert(self.of, repair);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.repairs.0.lock().remove(&self.of);
    }
}
