//! A node in memory, with a real journal and Raft of one: what all tests of the feed read from.

use std::sync::Arc;
use std::time::Duration;

use feed::Feed;
use journal::{GroupId, Journal, MemoryDisk, Position};
use raft::{Alone, Node, NodeId, Options};
use storage::{Group, Groups, ManualClock, MemoryStore};
use tokio::runtime::Runtime;

const SEGMENT_BYTES: u64 = 1 << 20;
/// 2026-01-01 in microseconds since 1970.
pub const NOW: u64 = 1_767_225_600_000_000;

/// A node in memory whose clock stands until the test moves it.
pub struct Running {
    pub node: Arc<Node>,
    pub clock: Arc<ManualClock>,
    pub feed: Feed,
    pub runtime: Runtime,
    pub journal: Journal,
}

impl Running {
    pub fn start() -> Running {
        let runtime = Runtime::new().unwrap();
        let options = journal::Options {
            segment_bytes: SEGMENT_BYTES,
            ..journal::Options::default()
        };
        let disk = Arc::new(MemoryDisk::new());
        let journal = Journal::open(disk, "/journal".as_ref(), options).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let groups = Groups::new(MemoryStore::new(), clock.clone());
        let options = Options {
            checkpoint_timeout: Duration::from_secs(3600),
            checkpoint_bytes: u64::MAX,
            retain_time: Duration::ZERO,
            retain_bytes: 2 * SEGMENT_BYTES,
            horizon: Duration::from_secs(3600),
        };
        let handle = runtime.handle().clone();
        let (me, alone) = (NodeId(1), Arc::new(Alone));
        let node = Node::new(journal.clone(), groups.clone(), options, handle, me, alone);
        runtime.block_on(node.open(true)).unwrap();
        Running {
            node,
            clock,
            feed: Feed::new(journal.clone(), groups),
            runtime,
            journal,
        }
    }

    /// A group that the node leads.
    pub fn make(&self, id: u32) -> Arc<Group> {
        let made = self.node.make(GroupId(id), Position::ZERO, &[NodeId(1)]);
        self.runtime.block_on(made).unwrap();
        self.node.groups().get(GroupId(id)).unwrap()
    }

    /// Checkpoints until records of the group have left: Raft purges its log a little later.
    pub fn cut(&self, group: &Group) {
        let oldest = || self.journal.state(group.id()).oldest.unwrap().0.0;
        let cut = (0..1000).any(|_| {
            self.runtime.block_on(self.node.checkpoint()).unwrap();
            oldest() > 1
        });
        assert!(cut, "nothing leaves");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.block_on(self.node.shutdown());
        self.journal.clone().close();
    }
}
