//! When a node erases: rounds by the bound that `--erase-after` gives, at once for what was removed
//! by ERASE; and how copies report. What a round does is in `raft/src/erase.rs`, the protocol in
//! `docs/erase.md`.

mod report;
mod verify;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use raft::{EraseGroup, ErasedRound, IndexesOf};
use sql::engine::Engine;
use storage::erase::Removals;
use storage::{Clock as _, Group, GroupId, Position};
use tokio::task::block_in_place;
use tokio::time::Instant;

pub use self::verify::function;
pub use self::view::ErasuresView;
use crate::cluster::Cluster;
use crate::start::HORIZON;
use crate::system::SystemClock;

/// Between two looks at what is to be erased, and at what copies have erased.
const LOOK: Duration = Duration::from_secs(1);
/// What an ERASE has removed stays readable for so long, to statements that have begun before.
const ERASE_DISTANCE: Duration = Duration::from_secs(3);
/// For so long it waits for open transactions that may read it, and for replicas that lag.
const ERASE_PATIENCE: Duration = Duration::from_secs(60);
/// Parts of the bound: a round begins after the first, and takes along what was removed for as long as the
/// second; it waits for nobody after the third.
const BEGINS_AFTER: (u32, u32) = (1, 2);
const JOINS_AFTER: (u32, u32) = (1, 4);
const OVERDUE_AFTER: (u32, u32) = (3, 4);
/// A round for keys waits for nobody after this part.
const KEYS_OVERDUE_AFTER: (u32, u32) = (1, 1);
/// What was removed less than a minute ago may be read; where the bound is short, less than this part of it.
const HORIZON_PART: (u32, u32) = (1, 4);
/// A round that could not erase everything of a group is followed by the next one after this time; that
/// one after twice the time, and so on, up to this part of the bound or `AGAIN_AFTER_MAX`. What no log needs
/// waits for as long as the longest of them.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const AGAIN_PART: (u32, u32) = (1, 16);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

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
        copies: BTreeMap::new(),
        dead_since: None,
        not_before: Instant::now(),
    };
    let mut reporter = report::Reporter {
        cluster: eraser.cluster.clone(),
        engine: eraser.engine.clone(),
        raft: eraser.raft.clone(),
        without: BTreeMap::new(),
        next: GroupId(0),
    };
    let erasing = async {
        loop {
            tokio::time::sleep(LOOK).await;
            eraser.erase().await;
        }
    };
    // A round may take long, and so may an answer.
    tokio::join!(erasing, reporter.keep());
}

struct Eraser {
    cluster: Arc<Cluster>,
    engine: Arc<Engine>,
    raft: Arc<raft::Node>,
    /// What was removed is gone after so long.
    bound: Duration,
    copies: BTreeMap<GroupId, Progress>,
    /// Since then there may be something in the journal that no log needs.
    dead_since: Option<Instant>,
    /// Rounds that read the journal take half of the time at most, unless it is time.
    not_before: Instant,
}

/// Of a copy of this node.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Of which state of the group.
    state: u64,
    /// Up to there the keys of what was removed are gone from the journal.
    keys: Position,
    /// From the ledger's files, too.
    ledger: Position,
    /// There was an ERASE, and its keys are still somewhere.
    at_once: bool,
    /// The first row that was removed by ERASE and is still there.
    erase: Option<Position>,
    /// Keys are to go.
    keys_go: bool,
    /// What was asked for could not be erased.
    rows_wait: Pause,
    keys_wait: Pause,
}

/// A time to wait that grows.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    until: Option<Instant>,
    last: Duration,
}

impl Pause {
    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    fn longer(&mut self, bound: Duration) {
        self.last = (2 * self.last).clamp(AGAIN_AFTER, longest(bound));
        self.until = Some(Instant::now() + self.last);
    }

    fn note(&mut self, done: bool, bound: Duration) {
        match done {
            true => *self = Pause::default(),
            false => self.longer(bound),
        }
    }
}

/// The longest pause.
fn longest(bound: Duration) -> Duration {
    part(bound, AGAIN_PART).clamp(AGAIN_AFTER, AGAIN_AFTER_MAX)
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

/// What a round is to erase of a group, if it is time for rows of it: the oldest were removed this part of
/// the bound ago, or there was an ERASE.
fn due(
    group: GroupId,
    removals: Removals,
    begins_after: (u32, u32),
    bound: Duration,
    now: u64,
) -> Option<EraseGroup> {
    let begun = |at: Position| is_past(at, part(bound, begins_after), now);
    let at_once = |at: Position| is_past(at, ERASE_DISTANCE, now);
    if !removals.oldest.is_some_and(begun) && !removals.at_once.is_some_and(at_once) {
        return None;
    }
    let overdue = |at: Position| is_past(at, part(bound, OVERDUE_AFTER), now);
    let impatient = |at: Position| is_past(at, ERASE_PATIENCE, now);
    let horizon = horizon(removals.at_once.is_some(), bound, now);
    Some(EraseGroup {
        group,
        upto: removals.newest.min(horizon),
        keys: Position::ZERO,
        horizon,
        overdue: removals.oldest.is_some_and(overdue) || removals.at_once.is_some_and(impatient),
    })
}

/// What was removed before may be erased: nobody reads it without holding it.
fn horizon(at_once: bool, bound: Duration, now: u64) -> Position {
    let distance = match at_once {
        true => ERASE_DISTANCE,
        false => HORIZON.min(part(bound, HORIZON_PART)).max(ERASE_DISTANCE),
    };
    Position::from_unix_micros(now.saturating_sub(distance.as_micros() as u64))
}

/// The same, if only keys are to go: nothing of what was removed since, or each round would make the
/// next one.
fn keys_due(
    group: GroupId,
    (erased, go): (Position, Position),
    at_once: bool,
    bound: Duration,
    now: u64,
) -> EraseGroup {
    EraseGroup {
        group,
        upto: erased,
        keys: Position::ZERO,
        horizon: horizon(at_once, bound, now),
        overdue: is_past(go, part(bound, KEYS_OVERDUE_AFTER), now),
    }
}

impl Eraser {
    /// How far the keys are to go in a copy.
    fn keys_go(group: &Group) -> storage::Result<Position> {
        match group.is_followed() {
            true => Ok(group.erased()),
            false => group.erased_everywhere(),
        }
    }

    /// What is to be erased now, of groups whose rows were removed this part of the bound ago.
    fn due(&mut self, begins_after: (u32, u32)) -> storage::Result<Vec<EraseGroup>> {
        let clock = SystemClock.unix_micros();
        let mut all = Vec::new();
        for group in self.engine.groups().all() {
            let Some(removals) = group.removals()? else {
                continue;
            };
            let (id, (erased, state)) = (group.id(), group.erased_of_state());
            let progress = self.copies.entry(id).or_default();
            if progress.state != state {
                *progress = Progress {
                    state,
                    ..Progress::default()
                };
            }
            if removals.at_once != progress.erase {
                // Another ERASE does not wait for what stood in the way of the last.
                (progress.erase, progress.rows_wait) = (removals.at_once, Pause::default());
            }
            progress.at_once |= removals.at_once.is_some();
            let go = Self::keys_go(&group)?;
            progress.keys_go = go > progress.keys || go > progress.ledger;
            // Positions are of the leader's clock, which may be ahead.
            let (now, bound) = (clock.max(group.applied().unix_micros()), self.bound);
            let rows = due(id, removals, begins_after, bound, now);
            let wanted = match rows.filter(|_| progress.rows_wait.is_over()) {
                Some(rows) => rows,
                None if progress.keys_go && progress.keys_wait.is_over() => {
                    keys_due(id, (erased, go), progress.at_once, bound, now)
                }
                None => continue,
            };
            all.push(EraseGroup {
                keys: progress.keys,
                ..wanted
            });
        }
        Ok(all)
    }

    /// Has something lain in the journal for a while that no log needs?
    fn dead_due(&mut self) -> bool {
        if !self.raft.has_dead_logs() {
            self.dead_since = None;
            return false;
        }
        let since = *self.dead_since.get_or_insert_with(Instant::now);
        since.elapsed() >= longest(self.bound)
    }

    /// A round, if it is time for one.
    async fn erase(&mut self) {
        let whole = self.dead_due();
        let due = match block_in_place(|| self.all_due()) {
            Ok(due) => due,
            Err(error) => return self.failed(&error),
        };
        let waits = Instant::now() < self.not_before && !due.iter().any(|one| one.overdue);
        if waits || due.is_empty() && !whole {
            return;
        }
        let asked: BTreeMap<GroupId, EraseGroup> =
            due.iter().map(|one| (one.group, *one)).collect();
        let engine = self.engine.clone();
        let indexes: Arc<IndexesOf> = Arc::new(move |group, tree| indexes(&engine, group, tree));
        let begun = Instant::now();
        match self.raft.erase(due, whole, indexes).await {
            Ok(round) => {
                self.note(&asked, &round);
                if round.whole {
                    self.not_before = Instant::now() + begun.elapsed().min(AGAIN_AFTER_MAX);
                }
            }
            Err(error) => {
                for id in asked.keys() {
                    let progress = self.copies.entry(*id).or_default();
                    progress.rows_wait.longer(self.bound);
                    progress.keys_wait.longer(self.bound);
                }
                self.failed(&error);
            }
        }
    }

    /// What is to be erased now, with what is soon to go anyway if it is time for rows of any group. Not if it is for keys
    /// alone: where rows go all the time there is always something to take along, whose keys are due next.
    fn all_due(&mut self) -> storage::Result<Vec<EraseGroup>> {
        let due = self.due(BEGINS_AFTER)?;
        match due.iter().any(|one| one.upto > self.erased(one.group)) {
            true => self.due(JOINS_AFTER),
            false => Ok(due),
        }
    }

    /// What was removed up to there is gone from this node's copy of a group.
    fn erased(&self, group: GroupId) -> Position {
        let group = self.engine.groups().get(group);
        group.map_or(Position::ZERO, |group| group.erased())
    }

    fn note(&mut self, asked: &BTreeMap<GroupId, EraseGroup>, round: &ErasedRound) {
        let bound = self.bound;
        for one in &round.groups {
            let progress = self.copies.entry(one.group).or_default();
            progress.keys = progress.keys.max(one.keys);
            progress.ledger = progress.ledger.max(one.ledger);
            let upto = asked.get(&one.group).map(|asked| asked.upto);
            if upto > Some(one.before) {
                progress.rows_wait.note(one.done, bound);
            }
            let clean = one.ledger > Position::ZERO && progress.keys >= progress.ledger;
            if progress.keys_go || one.keys > Position::ZERO || !one.done {
                progress.keys_wait.note(clean, bound);
            }
            progress.at_once &= !clean || upto.is_none_or(|upto| upto > progress.ledger);
        }
        let known: BTreeSet<GroupId> = self.engine.groups().all().iter().map(|g| g.id()).collect();
        self.copies.retain(|group, _| known.contains(group));
    }

    fn failed(&mut self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(error, "what was removed is not erased this time");
        self.not_before = Instant::now() + AGAIN_AFTER;
    }
}

/// The trees of the indexes of the table whose rows stand in a tree of the group; of another tree none, not
/// even of one in which they stood before.
pub fn indexes(engine: &Engine, group: GroupId, tree: u32) -> Vec<u32> {
    let catalog = engine.catalog();
    let table = catalog.table_of_tree(group, tree);
    let table = table.and_then(|id| catalog.table_in(group, id));
    let table = table.filter(|table| table.tree == tree);
    let mut trees = table.map(|table| table.trees()).unwrap_or_default();
    trees.retain(|index| *index != tree);
    trees
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
        due(GroupId(1), removals, BEGINS_AFTER, HOUR, NOW)
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
    fn where_only_keys_are_to_go_nothing_else_is_erased() {
        let erased = ago(minutes(20));
        let keys = |at_once, bound| keys_due(GroupId(1), (erased, erased), at_once, bound, NOW);
        let round = keys(false, HOUR);
        assert_eq!((round.upto, round.overdue), (erased, false));
        // What can be read a minute back stays so.
        assert_eq!(round.horizon, ago(HORIZON));
        let short = keys(false, Duration::from_secs(20));
        assert_eq!(
            short.horizon,
            ago(Duration::from_secs(5)),
            "or there were no round in time"
        );
        let erase = keys(true, HOUR);
        assert_eq!(erase.horizon, ago(ERASE_DISTANCE));
    }

    #[test]
    fn what_can_not_be_erased_is_tried_less_and_less() {
        let mut pause = Pause::default();
        assert!(pause.is_over());
        let mut waited = Vec::new();
        for _ in 0..6 {
            pause.note(false, HOUR);
            assert!(!pause.is_over());
            waited.push(pause.last.as_secs());
        }
        assert_eq!(waited, [5, 10, 20, 40, 60, 60]);
        pause.note(true, HOUR);
        assert!(pause.is_over());
    }
}
