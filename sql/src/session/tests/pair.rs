//! Two nodes in memory that hold the same groups. What one has in its log the other one applies when
//! the test says so, and leadership moves as it says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use storage::{GroupId, Local, ManualClock, MemoryStore, Position, TxId};

use super::node::{Node, Registered};
use crate::catalog::{RoleId, TableId};
use crate::cluster::{Answer, Asking, Cluster, Done, News, Wish};
use crate::engine::{Engine, Limits};
use crate::transaction::leader_changed;

/// What both nodes know of each other.
#[derive(Default)]
pub(crate) struct Script {
    nodes: OnceLock<[Arc<Local>; 2]>,
    engines: OnceLock<[Arc<Engine>; 2]>,
    /// Nobody knows who leads, and nobody answers.
    pub cut: AtomicBool,
    /// Barriers asked for.
    pub barriers: AtomicUsize,
    /// Barriers wait for the test.
    pub held: AtomicBool,
    waiting: Mutex<Vec<(usize, GroupId, Done<Position>)>>,
    /// Wishes that were asked.
    pub wishes: Mutex<Vec<Wish>>,
    /// What was told to the other node.
    pub news: Mutex<Vec<News>>,
}

impl Script {
    fn leader(&self, group: GroupId) -> Option<usize> {
        if self.cut.load(Ordering::SeqCst) {
            return None;
        }
        let nodes = self.nodes.get()?;
        let group = |node: &Arc<Local>| node.groups().get(group);
        let leads = |node: &Arc<Local>| group(node).is_some_and(|g| g.term().is_some());
        nodes.iter().position(leads)
    }

    /// What the leader has must be here already, or there is no proof.
    fn pass(&self, node: usize, group: GroupId, done: Done<Position>) {
        let at = |index: usize| Some(self.nodes.get()?[index].groups().get(group)?.applied());
        let proven = self
            .leader(group)
            .and_then(|leader| Some((at(leader)?, at(node)?)));
        done(match proven {
            Some((newest, here)) if newest <= here => Ok(newest),
            _ => Err(leader_changed()),
        });
    }

    /// Lets barriers pass, or fail if leadership has gone.
    pub fn release(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (node, group, done) in waiting {
            self.pass(node, group, done);
        }
    }
}

/// One node's view.
struct Seen {
    index: usize,
    script: Arc<Script>,
}

impl Cluster for Seen {
    fn node(&self) -> u32 {
        self.index as u32 + 1
    }

    fn leader(&self, group: GroupId) -> Option<u32> {
        self.script.leader(group).map(|index| index as u32 + 1)
    }

    fn barrier(&self, group: GroupId, done: Done<Position>) {
        self.script.barriers.fetch_add(1, Ordering::SeqCst);
        match self.script.held.load(Ordering::SeqCst) {
            true => self.script.waiting.lock().push((self.index, group, done)),
            false => self.script.pass(self.index, group, done),
        }
    }

    fn ask_undecided(&self, node: u32, id: TxId, done: Done<bool>) {
        match self.script.engines.get() {
            Some(engines) => done(engines[node as usize - 1].is_undecided(id)),
            None => done(Err(leader_changed())),
        }
    }

    fn ask_directory(&self, wish: Wish, done: Done<Answer>) {
        self.script.wishes.lock().push(wish.clone());
        let wish = Wish::decode(&wish.encode()).expect("a wish");
        let done: Done<Answer> = Box::new(move |answer| {
            done(answer.map(|a| Answer::decode(&a.encode()).expect("an answer")));
        });
        let leader = self.script.leader(GroupId::DIRECTORY);
        match (leader, self.script.engines.get()) {
            (Some(leader), Some(engines)) => engines[leader].serve_wish(wish, done),
            _ => done(Err(leader_changed())),
        }
    }

    fn want(&self, _: RoleId, _: GroupId, _: TableId, done: Done<()>) -> Asking {
        done(Ok(()));
        Box::new(())
    }

    fn has_listeners(&self) -> bool {
        true
    }

    fn notify(&self, news: &News) {
        self.script.news.lock().push(news.clone());
    }
}

/// Two nodes; the first one leads everything at the beginning.
pub(crate) struct Pair {
    pub a: Node,
    pub b: Node,
    pub script: Arc<Script>,
    pub clock: Arc<ManualClock>,
}

impl Pair {
    pub fn new() -> Pair {
        let clock = Arc::new(ManualClock::new(1_795_000_000_000_000));
        let script = Arc::new(Script::default());
        let [a, b] = [0, 1].map(|index| {
            let local = Local::journaled(MemoryStore::new(), clock.clone());
            local.groups().number_node(index as u64 + 1);
            let cluster = Arc::new(Seen {
                index,
                script: script.clone(),
            });
            let none = |_: &Arc<Local>| Registered::default();
            Node::among(local, clock.clone(), Limits::default(), cluster, none)
        });
        let nodes = [&a, &b].map(|node| node.local.clone());
        assert!(script.nodes.set(nodes).is_ok());
        let engines = [a.engine.clone(), b.engine.clone()];
        assert!(script.engines.set(engines).is_ok());
        a.local.lead(GroupId::DIRECTORY).expect("the directory");
        a.engine.load(GroupId::DIRECTORY).expect("no catalog");
        a.engine.bootstrap(None).expect("the first entry");
        let pair = Pair {
            a,
            b,
            script,
            clock,
        };
        pair.sync();
        pair.b.engine.load(GroupId::DIRECTORY).expect("a catalog");
        pair
    }

    /// Each node applies what the other one has.
    pub fn sync(&self) {
        for (from, to) in [(&self.a, &self.b), (&self.b, &self.a)] {
            for group in from.local.groups().all() {
                let led = to.local.groups().get(group.id());
                if led.is_none_or(|led| led.term().is_none()) {
                    let log = from.local.log(group.id());
                    to.local.replay(group.id(), log).expect("applies");
                }
            }
        }
    }

    /// The first node leads the group no more, nobody does.
    pub fn depose(&self, group: GroupId) {
        self.a.local.step_down(group);
    }

    /// The second one leads it.
    pub fn hand_over(&self, group: GroupId) {
        self.depose(group);
        self.sync();
        self.b.local.lead(group).expect("leads");
        self.sync();
    }
}
