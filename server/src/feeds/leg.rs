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
use tokio::time::Instant;

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
    /// All nodes that answer retain a group too little. The leg goes on without it.
    Behind(Late),
}

/// A group of which no node that answers has what is asked for.
pub struct Late {
    /// The group.
    pub group: GroupId,
    /// From here on one of them retains it.
    pub oldest: Position,
    /// A node that has its log, and may have more, does not answer.
    pub others: bool,
}

/// Why a source is left.
enum Failed {
    /// It is no source of this group.
    For(GroupId),
    /// It retains these groups only from there on.
    Behind(Retained),
    /// It says nothing, or nothing that could be understood.
    Whole(String),
}

/// From where on a node retains groups.
pub type Retained = Vec<(GroupId, Position)>;

/// Some groups, from one node at a time.
pub struct Leg {
    ask: Arc<Ask>,
    groups: Vec<GroupId>,
    /// All at or below was given.
    after: Position,
    /// The last row that was read: those up to it, by group and seq, are not given again.
    read: Option<(Position, GroupId, u32)>,
    source: Option<(u32, BufReader<PeerStream>)>,
    head: Option<(GroupId, bool, Box<FeedRow>)>,
    over: bool,
    /// Nodes that have failed since the last row, by group.
    failed: BTreeMap<GroupId, BTreeSet<u32>>,
    /// Those that retain too little, and from where on.
    behind: BTreeMap<GroupId, BTreeMap<u32, Position>>,
    /// When it was last found that all of them have failed.
    failing: Option<Instant>,
    /// Groups that go on from other nodes.
    split: Vec<Leg>,
}

impl Leg {
    /// Of these groups, from no node yet.
    pub fn new(ask: Arc<Ask>, groups: Vec<GroupId>, after: Position) -> Leg {
        Leg {
            ask,
            groups,
            after,
            read: None,
            source: None,
            head: None,
            over: false,
            failed: BTreeMap::new(),
            behind: BTreeMap::new(),
            failing: None,
            split: Vec::new(),
        }
    }

    /// Of groups of which this node has a log that begins too late.
    pub fn instead(ask: Arc<Ask>, here: Retained, after: Position) -> Leg {
        let me = ask.cluster.me();
        let groups = here.iter().map(|(group, _)| *group).collect();
        let mut leg = Leg::new(ask, groups, after);
        for (group, oldest) in here {
            leg.behind.insert(group, BTreeMap::from([(me, oldest)]));
        }
        leg
    }

    /// Those that go on by themselves from now on.
    pub fn take_split(&mut self) -> Vec<Leg> {
        std::mem::take(&mut self.split)
    }

    /// Looks for nodes that have all behind where it begins. Told: from where on each of its groups
    /// is retained by some node that answers, if that is too little of one; or the group that no
    /// node gives. Errors: 42501, the interrupt's.
    pub fn oldest(&mut self) -> Result<Result<Option<Position>, GroupId>, Error> {
        let mut oldest = None;
        loop {
            match self.peek()? {
                Next::Behind(late) => oldest = oldest.max(Some(late.oldest)),
                Next::Row(..) | Next::Over => return Ok(Ok(oldest)),
                Next::Lacks(group) => return Ok(Err(group)),
            }
        }
    }

    /// What comes next. Errors: 42501, the interrupt's.
    pub fn peek(&mut self) -> Result<Next, Error> {
        loop {
            if let Some((group, _, row)) = &self.head {
                return Ok(Next::Row(row.position(), *group));
            }
            if self.over {
                return Ok(Next::Over);
            }
            if let Some(without) = self.connect()? {
                return Ok(without);
            }
            self.hear()?;
        }
    }

    /// Takes the row that [`Leg::peek`] has found, and whether it is the last one of its entry.
    pub fn take(&mut self) -> Option<(bool, FeedRow)> {
        let (_, last, row) = self.head.take()?;
        Some((last, *row))
    }

    /// Finds a source if there is none. Told: of what it has found none.
    fn connect(&mut self) -> Result<Option<Next>, Error> {
        while self.source.is_none() {
            let Some(first) = self.groups.first().copied() else {
                self.over = true;
                return Ok(None);
            };
            let Some(node) = self.candidates(first).into_iter().next() else {
                if self.tries_again(first)? {
                    continue;
                }
                return Ok(Some(match self.late(first) {
                    Some(late) => {
                        self.groups.remove(0);
                        Next::Behind(late)
                    }
                    None => Next::Lacks(first),
                }));
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
            let has_failed = failed.is_some_and(|failed| failed.contains(node));
            let is_behind = behind.is_some_and(|behind| behind.contains_key(node));
            !has_failed && !is_behind
        });
        nodes
    }

    /// Whether every node that has the group's log, and answers, retains too little of it.
    fn late(&self, group: GroupId) -> Option<Late> {
        let cluster = &self.ask.cluster;
        let holders = holders(cluster, group);
        late(group, self.behind.get(&group)?, &holders, |node| {
            cluster.is_live(node)
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
        leg.read = self.read;
        (leg.failed, leg.behind) = (self.failed.clone(), self.behind.clone());
        self.split.push(leg);
    }

    fn fail(&mut self, node: u32, why: Failed) {
        self.source = None;
        let groups = match why {
            Failed::For(group) => vec![group],
            Failed::Behind(retained) => {
                for (group, oldest) in retained {
                    self.behind.entry(group).or_default().insert(node, oldest);
                }
                return;
            }
            Failed::Whole(why) => {
                tracing::debug!(node, why, "the feed is read elsewhere");
                self.groups.clone()
            }
        };
        for group in groups {
            self.failed.entry(group).or_default().insert(node);
        }
    }

    /// Takes the source's next word.
    fn hear(&mut self) -> Result<(), Error> {
        let Some((node, mut from)) = self.source.take() else {
            return Ok(());
        };
        let word = match self.ask.wait(Word::read(&mut from, SILENT_AFTER))? {
            Ok(word) => word,
            Err(error) => {
                self.fail(node, Failed::Whole(error.to_string()));
                return Ok(());
            }
        };
        self.source = Some((node, from));
        match word {
            Word::Sign => {}
            Word::Row { group, last, row } => self.note_row(node, group, last, row),
            Word::Passed(at) => self.pass(at),
            Word::End(at) if at >= self.ask.upto => {
                (self.over, self.source) = (true, None);
            }
            Word::End(_) => self.fail(node, Failed::Whole("it has ended early".into())),
            Word::Behind(retained) => {
                let ids = retained.iter().map(|(id, _)| id);
                let late = retained.iter().all(|(_, oldest)| *oldest > self.after);
                match late && self.is_asked(ids) {
                    true => self.fail(node, Failed::Behind(retained)),
                    false => self.fail(node, not_asked()),
                }
            }
            Word::Lacks(group) => match self.is_asked([group].iter()) {
                true => self.fail(node, Failed::For(group)),
                false => self.fail(node, not_asked()),
            },
            Word::Denied(why) => return Err(Error::new(state::INSUFFICIENT_PRIVILEGE, why)),
        }
        Ok(())
    }

    /// Is it about groups of this leg, and about any?
    fn is_asked<'a>(&self, mut groups: impl ExactSizeIterator<Item = &'a GroupId>) -> bool {
        groups.len() > 0 && groups.all(|group| self.groups.contains(group))
    }

    fn pass(&mut self, upto: Position) {
        self.after = self.after.max(upto.min(self.ask.upto));
        self.failed.clear();
        self.behind.clear();
        self.failing = None;
    }

    fn note_row(&mut self, node: u32, group: GroupId, last: bool, row: Box<FeedRow>) {
        let at = (row.position(), group, row.seq());
        let new = at.0 > self.after && self.read.is_none_or(|r| at > r);
        if at.0 > self.ask.upto || !self.groups.contains(&group) {
            return self.fail(node, not_asked());
        }
        if !new {
            // The source before this one has given it.
            return;
        }
        self.ask.meter.given();
        // Units come whole: of those before there is nothing more.
        let passed = Position(at.0.0.saturating_sub(1));
        self.pass(passed);
        self.read = Some(at);
        self.head = Some((group, last, row));
    }
}

/// Do all that hold a group's log and answer say so? One that is there and failed otherwise may have
/// more.
fn late(
    group: GroupId,
    behind: &BTreeMap<u32, Position>,
    holders: &[u32],
    live: impl Fn(u32) -> bool,
) -> Option<Late> {
    let mut others = holders.iter().filter(|node| !behind.contains_key(node));
    let oldest = *behind.values().min()?;
    let late = Late {
        group,
        oldest,
        others: others.clone().next().is_some(),
    };
    others.all(|node| !live(*node)).then_some(late)
}

fn not_asked() -> Failed {
    Failed::Whole("it tells of what nobody has asked for".into())
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
    fn a_cursor_is_behind_retention_once_all_say_so() {
        let told = |behind: &[(u32, u64)], holders: &[u32], live: &[u32]| {
            let behind = behind.iter().map(|(node, at)| (*node, Position(*at)));
            let late = late(GroupId(1), &behind.collect(), holders, |node| {
                live.contains(&node)
            });
            late.map(|late| (late.oldest.0, late.others))
        };
        assert_eq!(told(&[], &[2, 3], &[2, 3]), None);
        let one = told(&[(2, 7)], &[2, 3], &[2, 3]);
        assert_eq!(one, None, "the other one may have more");
        let all = told(&[(2, 7), (3, 5)], &[2, 3], &[2, 3]);
        assert_eq!(all, Some((5, false)));
        let away = told(&[(2, 7)], &[2, 3], &[2]);
        assert_eq!(away, Some((7, true)), "one does not answer");
        let alone = told(&[(1, 7)], &[], &[]);
        assert_eq!(alone, Some((7, false)), "this node alone has a log");
    }
}
