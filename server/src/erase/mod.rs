//! When a node erases: rounds by the bound that `--erase-after` gives, at once for what was removed
//! by ERASE; and how copies report. What a round does is in `raft/src/erase.rs`, the protocol in
//! `docs/erase.md`.

mod verify;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft::{EraseGroup, ErasedGroup, IndexesOf};
use sql::engine::Engine;
use storage::erase::{Copy, Erasure, Removals};
use storage::{Clock as _, Group, GroupId, Position};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

pub use self::verify::function;
pub use self::view::ErasuresView;
use crate::cluster::Cluster;
use crate::cluster::ask::{Ask, Told};
use crate::start::HORIZON;
use crate::system::SystemClock;

/// Between two looks at what is to be erased, and at what copies have erased.
const LOOK: Duration = Duration::from_secs(1);
/// What an ERASE has removed stays readable for so long, to statements that have begun before.
const ERASE_DISTANCE: Duration = Duration::from_secs(3);
/// For so long it waits for open transactions that may read it, and for replicas that lag.
const ERASE_PATIENCE: Duration = Duration::from_secs(60);
/// Parts of the bound: a round begins after the first, and waits for nobody after the second.
const BEGINS_AFTER: (u32, u32) = (1, 2);
const OVERDUE_AFTER: (u32, u32) = (3, 4);
/// A round that could not erase everything is followed by the next one after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a node may take to say how far it has erased.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Erases in the copies of this node, and writes down what others have erased, for ever.
pub async fn keep(cluster: Arc<Cluster>, raft: Arc<raft::Node>, bound: Duration) {
    let Some(engine) = cluster.engine().cloned() else {
        return;
    };
    let mut eraser = Eraser {
        cluster,
        engine,
        raft,
        bound,
        keyless: BTreeMap::new(),
        not_before: None,
    };
    loop {
        tokio::time::sleep(LOOK).await;
        eraser.erase().await;
        eraser.report().await;
    }
}

struct Eraser {
    cluster: Arc<Cluster>,
    engine: Arc<Engine>,
    raft: Arc<raft::Node>,
    /// What was removed is gone after so long.
    bound: Duration,
    /// Up to there the keys of what was removed are gone here, too.
    keyless: BTreeMap<GroupId, Position>,
    /// The last round has not erased everything.
    not_before: Option<Instant>,
}

fn part(bound: Duration, (numerator, denominator): (u32, u32)) -> Duration {
    bound * numerator / denominator
}

/// Has so much time passed since a position?
fn is_past(position: Position, time: Duration, now: u64) -> bool {
    position
        .unix_micros()
        .saturating_add(time.as_micros() as u64)
        <= now
}

/// What a round is to erase of a group, if it is time. `keyless`: its keys are to go up to there,
/// and have not yet.
fn due(
    group: GroupId,
    removals: Removals,
    keyless: bool,
    bound: Duration,
    now: u64,
) -> Option<EraseGroup> {
    let begun = |at: Position| is_past(at, part(bound, BEGINS_AFTER), now);
    let at_once = |at: Position| is_past(at, ERASE_DISTANCE, now);
    if !keyless && !removals.oldest.is_some_and(begun) && !removals.at_once.is_some_and(at_once) {
        return None;
    }
    let overdue = |at: Position| is_past(at, part(bound, OVERDUE_AFTER), now);
    let impatient = |at: Position| is_past(at, ERASE_PATIENCE, now);
    let distance = match removals.at_once.is_some() || keyless {
        true => ERASE_DISTANCE,
        false => HORIZON,
    };
    let readable = now.saturating_sub(distance.as_micros() as u64);
    let horizon = Position::from_unix_micros(readable);
    Some(EraseGroup {
        group,
        upto: removals.newest.min(horizon),
        horizon,
        overdue: removals.oldest.is_some_and(overdue) || removals.at_once.is_some_and(impatient),
    })
}

impl Eraser {
    /// How far the keys are to go in a copy.
    fn keys_go(group: &Group) -> storage::Result<Position> {
        match group.is_followed() {
            true => Ok(group.erased()),
            false => group.erased_everywhere(),
        }
    }

    fn due(&self) -> storage::Result<Vec<EraseGroup>> {
        let now = SystemClock.unix_micros();
        let mut all = Vec::new();
        for group in self.engine.groups().all() {
            let Some(removals) = group.removals()? else {
                continue;
            };
            let known = self.keyless.get(&group.id()).copied();
            let keyless = Self::keys_go(&group)? > known.unwrap_or_default();
            all.extend(due(group.id(), removals, keyless, self.bound, now));
        }
        Ok(all)
    }

    /// A round, if it is time for one.
    async fn erase(&mut self) {
        if self.not_before.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.not_before = None;
        let due = match block_in_place(|| self.due()) {
            Ok(due) if due.is_empty() => return,
            Ok(due) => due,
            Err(error) => return self.failed(&error),
        };
        let engine = self.engine.clone();
        let indexes: Arc<IndexesOf> = Arc::new(move |group, tree| indexes(&engine, group, tree));
        match self.raft.erase(due, indexes).await {
            Ok(erased) => self.note(&erased),
            Err(error) => self.failed(&error),
        }
    }

    fn note(&mut self, erased: &[ErasedGroup]) {
        for one in erased {
            if one.keyless > Position::ZERO {
                self.keyless.insert(one.group, one.keyless);
            }
            if !one.done || one.keyless == Position::ZERO {
                self.not_before = Some(Instant::now() + AGAIN_AFTER);
            }
        }
    }

    fn failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(error, "what was removed is not erased this time");
        self.not_before = Some(Instant::now() + AGAIN_AFTER);
    }

    /// Writes down, for groups that this node leads, which copies have erased.
    async fn report(&self) {
        for group in self.engine.groups().all() {
            if group.term().is_none() || group.is_followed() {
                continue;
            }
            let known = block_in_place(|| group.erasures());
            match (known, group.removals()) {
                (Ok(known), Ok(Some(_))) => self.report_of(&group, &known).await,
                (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "no erasure is told"),
                (Ok(_), Ok(None)) => {}
            }
        }
    }

    async fn report_of(&self, group: &Arc<Group>, known: &[Erasure]) {
        let upto = group.erased();
        let last = |copy: Copy| {
            let of = known.iter().filter(|known| known.copy == copy);
            of.map(|known| known.upto).max().unwrap_or_default()
        };
        let replicas: Vec<u32> = self
            .raft
            .replicas(group.id())
            .iter()
            .map(|replica| replica.node.0)
            .collect();
        let others = self.cluster.others().into_iter();
        let of_node = |node: u32| Copy {
            node,
            followed: !replicas.contains(&node),
        };
        // A copy that has told of all that this one has erased is not asked.
        let asked: Vec<u32> = others.filter(|node| last(of_node(*node)) < upto).collect();
        let mine = last(of_node(self.cluster.me())) < upto;
        if upto == Position::ZERO || (asked.is_empty() && !mine) {
            return;
        }
        let mut reached = self.ask(group.id(), asked).await;
        reached.insert(self.cluster.me(), upto);
        let everywhere = replicas.iter().map(|node| {
            let told = reached.get(node).copied().unwrap_or_default();
            told.max(last(of_node(*node)))
        });
        let everywhere = everywhere.min().unwrap_or_default();
        let unix_micros = SystemClock.unix_micros();
        let told = reached.into_iter().map(|(node, upto)| Erasure {
            upto,
            copy: of_node(node),
            unix_micros,
        });
        let told: Vec<Erasure> = told.filter(|told| told.upto > last(told.copy)).collect();
        if let Err(refused) = block_in_place(|| group.report_erasures(&told, everywhere)) {
            tracing::debug!(?refused, group = %group.id(), "erasures are told later");
        }
    }

    /// How far nodes have erased in their copies of a group. Those that have none, or give no
    /// answer, are not among them.
    async fn ask(&self, group: GroupId, nodes: Vec<u32>) -> BTreeMap<u32, Position> {
        let mut asking = JoinSet::new();
        for node in nodes.into_iter().filter(|node| self.cluster.is_live(*node)) {
            let cluster = self.cluster.clone();
            let ask = Ask::Erased { group: group.0 };
            asking.spawn(async move { (node, cluster.ask(node, &ask, ANSWER_TIME_MAX).await) });
        }
        let mut reached = BTreeMap::new();
        while let Some(answer) = asking.join_next().await {
            // One that panicked was logged.
            if let Ok((node, Ok(Told::Erased { upto: Some(upto) }))) = answer {
                reached.insert(node, Position(upto));
            }
        }
        reached
    }
}

/// The trees of a table's indexes.
fn indexes(engine: &Engine, group: GroupId, tree: u32) -> Vec<u32> {
    let catalog = engine.catalog();
    let table = catalog.table_of_tree(group, tree);
    let table = table.and_then(|id| catalog.table(id));
    table.map(|table| table.trees()).unwrap_or_default()
}

impl Cluster {
    /// How far this node has erased in its copy of a group; `None`: it has none that can tell.
    pub(crate) fn say_erased(&self, group: GroupId) -> Told {
        let group = self.engine().and_then(|engine| engine.groups().get(group));
        let known = group.filter(|group| matches!(group.removals(), Ok(Some(_))));
        Told::Erased {
            upto: known.map(|group| group.erased().0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: u64 = 1_767_225_600_000_000;

    fn ago(time: Duration) -> Position {
        Position::from_unix_micros(NOW - time.as_micros() as u64)
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    fn of(oldest: Position, at_once: Option<Position>) -> Removals {
        Removals {
            oldest: Some(oldest),
            newest: at_once.unwrap_or(oldest),
            at_once,
        }
    }

    fn round(removals: Removals) -> Option<EraseGroup> {
        due(GroupId(1), removals, false, HOUR, NOW)
    }

    #[test]
    fn rounds_begin_at_half_the_bound_and_wait_for_nobody_at_three_quarters() {
        assert_eq!(round(Removals::default()), None);
        assert_eq!(round(of(ago(minutes(29)), None)), None);
        let begun = round(of(ago(minutes(30)), None)).unwrap();
        assert_eq!((begun.upto, begun.overdue), (ago(minutes(30)), false));
        assert!(round(of(ago(minutes(45)), None)).unwrap().overdue);
    }

    #[test]
    fn an_erase_is_done_at_once_and_what_was_deleted_before_with_it() {
        let at = |seconds| Some(ago(Duration::from_secs(seconds)));
        assert_eq!(
            round(of(ago(minutes(1)), at(2))),
            None,
            "statements may read it"
        );
        let begun = round(of(ago(minutes(1)), at(10))).unwrap();
        assert_eq!(
            (begun.upto, begun.overdue),
            (ago(Duration::from_secs(10)), false)
        );
        assert!(begun.horizon >= begun.upto);
        assert!(round(of(ago(minutes(2)), at(60))).unwrap().overdue);
    }

    #[test]
    fn keys_go_without_delay() {
        let none = Removals {
            newest: ago(minutes(3)),
            ..Removals::default()
        };
        let round = due(GroupId(1), none, true, HOUR, NOW).unwrap();
        assert_eq!((round.upto, round.overdue), (ago(minutes(3)), false));
    }
}
