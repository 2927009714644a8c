//! The copies of all nodes, for views and metrics: every node is asked for its own, and where a
//! group is held how far they are behind. A node that does not answer in time is shown as one that
//! does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use feed::follow::Phase;
use journal::{Journal, Kind};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sql::transaction::Signal;
use storage::{GroupId, Index, TreeId};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

use super::keep::is_meant;
use super::status::Copy;
use crate::cluster::Cluster;
use crate::cluster::ask::{Ask, Told};

/// How long a node may take to say what it has.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// What was told so lately is not asked again.
const FRESH: Duration = Duration::from_secs(1);
/// Trees in one answer, and copies, each of which counts as so many trees.
const TREES_MAX: usize = 20_000;
const TREES_PER_COPY: usize = 20;
/// Payload that is read to tell how long entries are.
const MEASURED_BYTES: usize = 1 << 20;

/// What a node says of one of its copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The group.
    pub group: u32,
    /// The trees that are held, but the system's.
    pub trees: Vec<u32>,
    /// `connecting`, `bootstrap`, `following`.
    pub phase: String,
    /// The node that gives it.
    pub source: Option<u32>,
    /// What readers are shown.
    pub shown: u64,
    /// What is applied: its place in the owner's log.
    pub applied: u64,
    /// Of what its source had longer ago than this, all is there, in microseconds.
    pub behind: Option<u64>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries since the node's start.
    pub entries: u64,
    /// Bootstraps likewise.
    pub bootstraps: u64,
    /// The bootstrap that is arriving.
    pub arriving: Option<Arriving>,
}

/// A bootstrap that is arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arriving {
    /// Bytes that have come.
    pub bytes: u64,
    /// About how many there are.
    pub expected: Option<u64>,
    /// How long the rest takes, in microseconds.
    pub left: Option<u64>,
}

/// How far a copy is behind is asked of a node that holds the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The group.
    pub group: u32,
    /// Its last entry in the copy.
    pub index: u64,
}

/// A copy, wherever it is.
#[derive(Clone, Debug)]
pub struct Far {
    /// The node.
    pub node: u32,
    /// What it says; `None`: it does not answer, and should have one.
    pub said: Option<Said>,
    /// Its group.
    pub group: GroupId,
    /// What was applied there when it was heard of last: its place in the owner's log.
    pub applied: Option<u64>,
    /// Bytes of the owner's entries that it lacks, if a node that has them answers.
    pub lag_bytes: Option<u64>,
}

/// What was told last, and the question that is under way.
#[derive(Default)]
pub struct Everywhere(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    told: Option<(Instant, Arc<Vec<Far>>)>,
    asking: Option<Signal>,
}

/// Ends the waiting whatever becomes of the question.
struct Ends(Signal);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Cluster {
    /// The copies of all nodes, by node and group: those here as they are, the others as they were a
    /// second ago at most. What is to be awaited if they are being asked for.
    pub fn copies_everywhere(self: &Arc<Cluster>) -> Result<Vec<Far>, Signal> {
        let told = self.told_everywhere()?;
        let me = self.me();
        let others = told.iter().filter(|far| far.node != me);
        let own = self.copies();
        let own = own.iter().map(|copy| {
            let known = find(&told, me, copy.group);
            let lag_bytes = known.and_then(|far| far.lag_bytes);
            Far {
                lag_bytes,
                ..far(me, said(copy))
            }
        });
        let mut all: Vec<Far> = others.cloned().chain(own).collect();
        all.sort_by_key(|far| (far.node, far.group));
        Ok(all)
    }

    fn told_everywhere(self: &Arc<Cluster>) -> Result<Arc<Vec<Far>>, Signal> {
        let mut asked = self.everywhere().0.lock();
        if let Some((at, told)) = &asked.told
            && at.elapsed() < FRESH
        {
            return Ok(told.clone());
        }
        if let Some(asking) = asked.asking.as_ref().filter(|asking| !asking.is_set()) {
            return Err(asking.clone());
        }
        let signal = Signal::default();
        asked.asking = Some(signal.clone());
        let (cluster, ends) = (self.clone(), Ends(signal.clone()));
        self.sql().spawn(async move {
            let told = cluster.ask_everywhere().await;
            cluster.everywhere().0.lock().told = Some((Instant::now(), Arc::new(told)));
            drop(ends);
        });
        Err(signal)
    }

    /// The same for who can wait: not for long.
    pub async fn await_copies_everywhere(self: &Arc<Cluster>) {
        let Err(signal) = self.told_everywhere() else {
            return;
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        // Nobody hears it if the one who waits has left.
        signal.on_set(Box::new(move || tell.send(()).unwrap_or_default()));
        // It is dropped only after it was set.
        let _ = told.await;
    }

    /// What was told last, whenever that was.
    pub fn copies_last_told(&self) -> Arc<Vec<Far>> {
        let asked = self.everywhere().0.lock();
        asked
            .told
            .as_ref()
            .map(|(_, told)| told.clone())
            .unwrap_or_default()
    }

    async fn ask_everywhere(self: &Arc<Cluster>) -> Vec<Far> {
        let mut asking = JoinSet::new();
        for node in self.meant_elsewhere() {
            let cluster = self.clone();
            asking.spawn(async move { (node, cluster.copies_at(node).await) });
        }
        let before = self.copies_last_told();
        let me = self.me();
        let own = self.copies();
        let mut all: Vec<Far> = own.iter().map(|copy| far(me, said(copy))).collect();
        while let Some(told) = asking.join_next().await {
            match told {
                Ok((node, Some(said))) => all.extend(said.into_iter().map(|said| far(node, said))),
                Ok((node, None)) => all.extend(self.silent(node, &before)),
                // It panicked, which was logged.
                Err(_) => {}
            }
        }
        self.measure_lags(&mut all).await;
        all
    }

    /// Other nodes that should have copies.
    fn meant_elsewhere(&self) -> BTreeSet<u32> {
        let Some(catalog) = self.catalog() else {
            return BTreeSet::new();
        };
        let meant = |node: &u32| catalog.placements().any(|place| is_meant(place, *node));
        self.others().into_iter().filter(meant).collect()
    }

    /// What a node should have that does not say what it has. What it had before it has still.
    fn silent(&self, node: u32, before: &[Far]) -> Vec<Far> {
        let Some(catalog) = self.catalog() else {
            return Vec::new();
        };
        let meant = catalog.placements().filter(|place| is_meant(place, node));
        let silent = |group: GroupId| {
            let known = find(before, node, group);
            Far {
                node,
                said: None,
                group,
                applied: known.and_then(|far| far.applied),
                lag_bytes: None,
            }
        };
        meant.map(|place| silent(GroupId(place.group))).collect()
    }

    /// All that a node says of its copies; `None`: it does not answer.
    async fn copies_at(&self, node: u32) -> Option<Vec<Said>> {
        if !self.is_live(node) {
            return None;
        }
        let mut all: Vec<Said> = Vec::new();
        loop {
            let after = all.last().map(|said| said.group);
            let ask = Ask::Copies { after };
            let told = self.ask(node, &ask, ANSWER_TIME_MAX).await;
            let Ok(Told::Copies { copies, more }) = told else {
                return None;
            };
            let ended = !more || copies.is_empty();
            all.extend(copies);
            if ended {
                return Some(all);
            }
        }
    }

    /// This node's answer: its copies of groups behind one, as many as fit.
    pub(crate) fn say_copies(&self, after: Option<u32>) -> Told {
        let mut copies: Vec<Said> = Vec::new();
        let mut trees = 0;
        for copy in block_in_place(|| self.copies()) {
            if after.is_some_and(|after| copy.group.0 <= after) {
                continue;
            }
            let said = said(&copy);
            trees += TREES_PER_COPY + said.trees.len();
            if trees > TREES_MAX && !copies.is_empty() {
                return Told::Copies { copies, more: true };
            }
            copies.push(said);
        }
        let more = false;
        Told::Copies { copies, more }
    }

    /// Finds out how many bytes the copies lack.
    async fn measure_lags(self: &Arc<Cluster>, all: &mut [Far]) {
        let mut by_node: BTreeMap<u32, Vec<(usize, Place)>> = BTreeMap::new();
        for (at, far) in all.iter().enumerate() {
            if let (Some(index), Some(node)) = (far.applied, self.holder(far.group)) {
                let group = far.group.0;
                let places = by_node.entry(node).or_default();
                places.push((at, Place { group, index }));
            }
        }
        let mut asking = JoinSet::new();
        for (node, places) in by_node {
            let cluster = self.clone();
            asking.spawn(async move {
                let (at, of): (Vec<usize>, Vec<Place>) = places.into_iter().unzip();
                let lags = match node == cluster.me() {
                    true => cluster.lags(&of),
                    false => match cluster.ask(node, &Ask::Lags { of }, ANSWER_TIME_MAX).await {
                        Ok(Told::Lags { bytes }) => bytes,
                        Ok(_) | Err(_) => Vec::new(),
                    },
                };
                at.into_iter().zip(lags).collect::<Vec<_>>()
            });
        }
        while let Some(measured) = asking.join_next().await {
            // One that panicked was logged.
            for (at, bytes) in measured.unwrap_or_default() {
                all[at].lag_bytes = bytes;
            }
        }
    }

    /// Who can say how long a group's log is: this node if it holds it, else who leads it.
    fn holder(&self, group: GroupId) -> Option<u32> {
        let held = self.engine()?.groups().get(group);
        if held.is_some_and(|held| !held.is_followed()) {
            return Some(self.me());
        }
        let catalog = self.catalog()?;
        let voters = catalog.placement(group)?.voters.clone();
        let leader = self.leads_elsewhere(group).into_iter();
        let mut known = leader.chain(voters);
        known.find(|node| self.is_live(*node))
    }

    /// How many bytes of entries lie behind each place; `None`: it can't be said here.
    pub(crate) fn lags(&self, of: &[Place]) -> Vec<Option<u64>> {
        let lag = |place: &Place| {
            let (group, journal) = (GroupId(place.group), self.journal()?);
            let held = self.engine()?.groups().get(group)?;
            let applied = held.applied_log().0.index;
            (!held.is_followed()).then(|| log_bytes(journal, group, Index(place.index), applied))?
        };
        block_in_place(|| of.iter().map(lag).collect())
    }
}

fn find(all: &[Far], node: u32, group: GroupId) -> Option<&Far> {
    all.iter()
        .find(|far| (far.node, far.group) == (node, group))
}

/// What a node has said.
fn far(node: u32, said: Said) -> Far {
    Far {
        node,
        group: GroupId(said.group),
        applied: Some(said.applied),
        said: Some(said),
        lag_bytes: None,
    }
}

fn said(copy: &Copy) -> Said {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let progress = &copy.progress;
    Said {
        group: copy.group.0,
        trees: (copy
            .chosen
            .trees()
            .filter(|tree| *tree > TreeId::SYSTEM_MAX))
        .collect(),
        phase: phase(progress.phase).into(),
        source: copy.source,
        shown: copy.shown.0,
        applied: copy.applied.0,
        behind: copy.behind.map(micros),
        bytes: copy.bytes,
        entries: progress.entries,
        bootstraps: progress.bootstraps,
        arriving: copy.is_arriving().then(|| Arriving {
            bytes: progress.bytes,
            expected: progress.expected,
            left: copy.left().map(micros),
        }),
    }
}

/// What a follower is doing, as views say it.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Bootstrap => "bootstrap",
        Phase::Following => "following",
    }
}

/// Bytes of a group's entries behind one index up to another. The first ones are counted; if they are
/// many, the others are thought to be as long. `None`: they can't be read.
pub fn log_bytes(journal: &Journal, group: GroupId, after: Index, upto: Index) -> Option<u64> {
    if upto <= after {
        return Some(0);
    }
    let (from, to) = (Index(after.0 + 1), Index(upto.0 + 1));
    let read = journal.read(group, from, to, MEASURED_BYTES).ok()?;
    // Raft's own records are no entries.
    let entries = read
        .iter()
        .filter(|record| matches!(record.kind, Kind::Entry | Kind::Part));
    let bytes: usize = entries.map(|record| record.payload.len()).sum();
    let (bytes, count) = (bytes as u128, read.len() as u128);
    let scaled = bytes * u128::from(upto.0 - after.0) / count.max(1);
    (count > 0).then(|| u64::try_from(scaled).unwrap_or(u64::MAX))
}
