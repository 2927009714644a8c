//! What one other node gives of some groups. If it fails, another one goes on behind what it has
//! given: no row is missing then, and none comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sql::changes::{FeedRow, Interrupt, Request};
use sql::{Error, state};
use storage::{GroupId, Position};
use tokio::io::BufReader;
use tokio::time::{Instant, timeout};

use super::words::{Opening, Word};
use super::{GIVE_UP_AFTER, INTERRUPT_EVERY, SILENT_AFTER};
use crate::changes::FeedMeter;
use crate::cluster::Cluster;
use crate::follow::holders;
use crate::peer::PeerStream;

/// What all legs of a page ask for.
pub struct Ask {
    cluster: Arc<Cluster>,
    meter: Arc<FeedMeter>,
    interrupt: Interrupt,
    filter: Bytes,
    directory: Position,
    /// How far the reader's catalog has each group.
    known: BTreeMap<GroupId, Position>,
    upto: Position,
    /// How long the page has waited while all nodes that have a group had failed.
    waited: Mutex<Duration>,
}

impl Ask {
    /// For the groups of a page.
    pub fn new(
        cluster: &Arc<Cluster>,
        meter: &Arc<FeedMeter>,
        interrupt: &Interrupt,
        request: &Request<'_>,
    ) -> Ask {
        let known = request
            .groups
            .iter()
            .map(|id| (*id, request.catalog.as_of(*id)));
        Ask {
            cluster: cluster.clone(),
            meter: meter.clone(),
            interrupt: interrupt.clone(),
            filter: request.filter.encode(),
            directory: request.catalog.as_of(GroupId::DIRECTORY),
            known: known.collect(),
            upto: request.closed,
            waited: Mutex::default(),
        }
    }

    /// So long nobody gave a group. May it be waited for any longer?
    fn is_patient(&self, waited: Duration) -> bool {
        let mut sum = self.waited.lock();
        *sum += waited;
        *sum < GIVE_UP_AFTER
    }

    /// Waits on this thread, and looks whether it was interrupted.
    fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, Error> {
        super::wait(&self.interrupt, what)
    }
}

/// What comes next of a leg.
pub enum Next {
    /// A row of an entry of this group, at this position.
    Row(Position, GroupId),
    /// Nothing more up to where it was asked for.
    Over,
    /// No node has this group's entries, or none answers.
    Lacks(GroupId),
}

/// Why a source is left.
enum Failed {
    /// It is no source of this group.
    For(GroupId),
    /// It retains too little of this group.
    Behind(GroupId),
    /// It says nothing, or nothing that could be understood.
    Whole(String),
}

/// Some groups, from one node at a time.
pub struct Leg {
    ask: Arc<Ask>,
    groups: Vec<GroupId>,
    /// All at or below was given; `None`: it begins at the oldest.
    after: Option<Position>,
    /// The last row that was read: those up to it, by group and seq, are not given again.
    read: Option<(Position, GroupId, u32)>,
    /// Rows up to here are not wanted.
    floor: Position,
    source: Option<(u32, BufReader<PeerStream>)>,
    /// Behind which position the source has begun.
    begins: Option<Position>,
    head: Option<(GroupId, bool, Box<FeedRow>)>,
    over: bool,
    /// Nodes that have failed since the last row, by group.
    failed: BTreeMap<GroupId, BTreeSet<u32>>,
    /// Those that retain too little.
    behind: BTreeMap<GroupId, BTreeSet<u32>>,
    /// When it was last found that all of them have failed.
    failing: Option<Instant>,
    /// Groups that go on from other nodes.
    split: Vec<Leg>,
}

impl Leg {
    /// Of these groups, from no node yet.
    pub fn new(ask: Arc<Ask>, groups: Vec<GroupId>, after: Option<Position>) -> Leg {
        Leg {
            ask,
            groups,
            after,
            read: None,
            floor: Position::ZERO,
            source: None,
            begins: None,
            head: None,
            over: false,
            failed: BTreeMap::new(),
            behind: BTreeMap::new(),
            failing: None,
            split: Vec::new(),
        }
    }

    /// Of a group of which this node has a log that begins too late.
    pub fn instead(ask: Arc<Ask>, group: GroupId, after: Position) -> Leg {
        let me = ask.cluster.me();
        let mut leg = Leg::new(ask, vec![group], Some(after));
        leg.behind.insert(group, BTreeSet::from([me]));
        leg
    }

    /// Those that go on by themselves from now on.
    pub fn take_split(&mut self) -> Vec<Leg> {
        std::mem::take(&mut self.split)
    }

    /// Rows up to here are passed over.
    pub fn begin_above(&mut self, floor: Position) {
        self.floor = floor;
        self.after = Some(self.after.map_or(floor, |after| after.max(floor)));
    }

    /// Behind which position the source begins. Errors: OW001, 42501, the interrupt's.
    pub fn begins(&mut self) -> Result<Result<Position, GroupId>, Error> {
        loop {
            if let Some(begins) = self.begins {
                return Ok(Ok(begins));
            }
            if self.over {
                // All its groups go on by themselves: it holds nobody up.
                return Ok(Ok(Position::ZERO));
            }
            if let Some(lacks) = self.connect()? {
                return Ok(Err(lacks));
            }
            (self.ask.interrupt)()?;
            self.hear()?;
        }
    }

    /// What comes next. Errors: likewise.
    pub fn peek(&mut self) -> Result<Next, Error> {
        loop {
            if let Some((group, _, row)) = &self.head {
                return Ok(Next::Row(row.position(), *group));
            }
            if self.over {
                return Ok(Next::Over);
            }
            if let Some(lacks) = self.connect()? {
                return Ok(Next::Lacks(lacks));
            }
            self.hear()?;
        }
    }

    /// Takes the row that [`Leg::peek`] has found, and whether it is the last one of its entry.
    pub fn take(&mut self) -> Option<(bool, FeedRow)> {
        let (_, last, row) = self.head.take()?;
        Some((last, *row))
    }

    /// Finds a source if there is none. Told: the group that has none.
    fn connect(&mut self) -> Result<Option<GroupId>, Error> {
        while self.source.is_none() {
            let Some(first) = self.groups.first().copied() else {
                self.over = true;
                return Ok(None);
            };
            let Some(node) = self.candidates(first).into_iter().next() else {
                if self.tries_again(first)? {
                    continue;
                }
                return match self.is_behind(first) {
                    true => Err(behind()),
                    false => Ok(Some(first)),
                };
            };
            self.keep_only(node);
            let groups = self.groups.iter().map(|id| (*id, self.ask.known[id]));
            let opening = Opening {
                directory: self.ask.directory,
                after: self.after,
                upto: self.ask.upto,
                groups: groups.collect(),
                filter: self.ask.filter.clone(),
            };
            let opening = opening.encode().ok_or_else(too_much)?;
            self.ask.meter.asked_elsewhere();
            match self.ask.wait(self.ask.cluster.open(node, opening))? {
                Ok(stream) => self.source = Some((node, BufReader::new(stream))),
                Err(error) => self.fail(node, Failed::Whole(error.to_string())),
            }
        }
        Ok(None)
    }

    /// All nodes that have a group have failed. Where one of them is there, it may only have been
    /// slow: it is asked again for a while.
    fn tries_again(&mut self, group: GroupId) -> Result<bool, Error> {
        let now = Instant::now();
        let before = self.failing.replace(now).unwrap_or(now);
        let patient = self.ask.is_patient(now - before);
        let failed = self.failed.remove(&group).unwrap_or_default();
        let live = failed.iter().any(|node| self.ask.cluster.is_live(*node));
        if !live || !patient {
            self.failed.insert(group, failed);
            return Ok(false);
        }
        self.ask.wait(tokio::time::sleep(INTERRUPT_EVERY))?;
        Ok(true)
    }

    /// Nodes that may give a group's entries, the nearest first.
    fn candidates(&self, group: GroupId) -> Vec<u32> {
        let failed = self.failed.get(&group);
        let behind = self.behind.get(&group);
        let mut nodes = holders(&self.ask.cluster, group);
        nodes.retain(|node| {
            !failed
                .into_iter()
                .chain(behind)
                .any(|out| out.contains(node))
        });
        nodes
    }

    /// Does every node that has the group's log, and answers, retain too little of it?
    fn is_behind(&self, group: GroupId) -> bool {
        let cluster = &self.ask.cluster;
        let behind = self.behind.get(&group);
        behind.is_some_and(|behind| {
            retain_too_little(behind, &holders(cluster, group), |node| {
                cluster.is_live(node)
            })
        })
    }

    /// Groups that a node has not go on by themselves.
    fn keep_only(&mut self, node: u32) {
        let has = |id: &GroupId| self.candidates(*id).contains(&node);
        let (kept, others): (Vec<_>, Vec<_>) = self.groups.iter().partition(|id| has(id));
        self.groups = kept;
        self.leave(others);
    }

    fn leave(&mut self, groups: Vec<GroupId>) {
        if groups.is_empty() {
            return;
        }
        let mut leg = Leg::new(self.ask.clone(), groups, self.after);
        (leg.read, leg.floor) = (self.read, self.floor);
        (leg.failed, leg.behind) = (self.failed.clone(), self.behind.clone());
        self.split.push(leg);
    }

    fn fail(&mut self, node: u32, why: Failed) {
        self.source = None;
        let (failed, groups) = match why {
            Failed::For(group) => (&mut self.failed, vec![group]),
            Failed::Behind(group) => (&mut self.behind, vec![group]),
            Failed::Whole(why) => {
                tracing::debug!(node, why, "the feed is read elsewhere");
                (&mut self.failed, self.groups.clone())
            }
        };
        for group in groups {
            failed.entry(group).or_default().insert(node);
        }
    }

    /// Takes the source's next word.
    fn hear(&mut self) -> Result<(), Error> {
        let Some((node, mut from)) = self.source.take() else {
            return Ok(());
        };
        let word = self
            .ask
            .wait(timeout(SILENT_AFTER, Word::read(&mut from)))?;
        let word = match word {
            Ok(Ok(word)) => word,
            Ok(Err(error)) => {
                self.fail(node, Failed::Whole(error.to_string()));
                return Ok(());
            }
            Err(_) => {
                let why = format!("nothing came for {SILENT_AFTER:?}");
                self.fail(node, Failed::Whole(why));
                return Ok(());
            }
        };
        self.source = Some((node, from));
        match word {
            Word::Sign => {}
            Word::Begins(at) => self.begins = Some(at),
            Word::Row { group, last, row } => self.note_row(node, group, last, row),
            Word::Passed(at) => self.pass(at),
            Word::End(at) if at >= self.ask.upto => {
                (self.over, self.source) = (true, None);
            }
            Word::End(_) => self.fail(node, Failed::Whole("it has ended early".into())),
            Word::Behind(group, _) | Word::Lacks(group) if !self.groups.contains(&group) => {
                self.fail(
                    node,
                    Failed::Whole("it tells of what nobody has asked for".into()),
                );
            }
            Word::Behind(group, _) => self.fail(node, Failed::Behind(group)),
            Word::Lacks(group) => self.fail(node, Failed::For(group)),
            Word::Denied(why) => return Err(Error::new(state::INSUFFICIENT_PRIVILEGE, why)),
        }
        Ok(())
    }

    fn pass(&mut self, upto: Position) {
        let upto = upto.min(self.ask.upto);
        self.after = Some(self.after.map_or(upto, |after| after.max(upto)));
        self.failed.clear();
        self.behind.clear();
        self.failing = None;
    }

    fn note_row(&mut self, node: u32, group: GroupId, last: bool, row: Box<FeedRow>) {
        let at = (row.position(), group, row.seq());
        let new = self.after.is_none_or(|after| at.0 > after) && self.read.is_none_or(|r| at > r);
        if at.0 > self.ask.upto || !self.groups.contains(&group) {
            return self.fail(
                node,
                Failed::Whole("it gives what nobody has asked for".into()),
            );
        }
        if !new {
            // The source before this one has given it.
            return;
        }
        self.ask.meter.given();
        // Units come whole: of those before there is nothing more.
        let passed = Position(at.0.0.saturating_sub(1));
        self.pass(passed.max(self.after.unwrap_or_default()));
        self.read = Some(at);
        if at.0 > self.floor {
            self.head = Some((group, last, row));
        }
    }
}

/// Do all that hold a group's log and answer? One that is there and failed otherwise may have more.
fn retain_too_little(behind: &BTreeSet<u32>, holders: &[u32], live: impl Fn(u32) -> bool) -> bool {
    let mut others = holders.iter();
    !behind.is_empty() && others.all(|node| behind.contains(node) || !live(*node))
}

fn behind() -> Error {
    crate::changes::behind("No node that answers has all entries behind it.")
}

fn too_much() -> Error {
    let message = "too many tables are asked for at once";
    Error::new(state::PROGRAM_LIMIT_EXCEEDED, message)
        .detail("A part of them is read on other nodes, which are told their names.")
        .hint("Ask for fewer tables, or by shorter patterns.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_behind_retention_once_all_that_answer_say_so() {
        let told = |behind: &[u32], holders: &[u32], live: &[u32]| {
            let behind = behind.iter().copied().collect();
            retain_too_little(&behind, holders, |node| live.contains(&node))
        };
        assert!(!told(&[], &[2, 3], &[2, 3]));
        assert!(!told(&[2], &[2, 3], &[2, 3]), "the other one may have more");
        assert!(told(&[2, 3], &[2, 3], &[2, 3]));
        assert!(told(&[2], &[2, 3], &[2]), "nobody else answers");
        assert!(told(&[1], &[], &[]), "this node alone has a log");
    }
}
