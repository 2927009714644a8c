//! An eraser's round on this node: what was removed leaves the journal and the tables' files. The
//! protocol is in `docs/erase.md`, the judgement of single images in `storage/src/erase.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::{Erasure, Fate, GroupId, Index, Journal, Kind, Position};
use storage::erase::{Found, IndexTrees, LEDGER_BYTES_MAX, Ledger, Search, remains};
use storage::{Applied, Group, Groups, TreeId, system};

use crate::node::Node;
use crate::upkeep::{DISK_POLL, PURGE_TIME_MAX, purge_one};
use crate::{Error, Result};

/// Bytes of a log that are read at once to find an entry.
const LOOK_BYTES: usize = 256 << 10;

/// The trees of the indexes of a table, by the table's own.
pub type IndexesOf = dyn Fn(GroupId, u32) -> Vec<u32> + Send + Sync;

/// What is to be erased of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EraseGroup {
    /// The group.
    pub group: GroupId,
    /// Rows that were removed up to here. Where this copy has erased them already only keys go.
    pub upto: Position,
    /// The keys of what was removed up to here are gone from this journal already.
    pub keys: Position,
    /// Old versions below may leave the tables; at or above `upto`.
    pub horizon: Position,
    /// Their time is over: neither a replica or a follower that lags nor a reader of old versions is
    /// waited for.
    pub overdue: bool,
}

impl EraseGroup {
    /// Old versions below it may go.
    fn old(&self) -> Position {
        self.horizon.max(self.upto)
    }
}

/// What a round has reached in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedGroup {
    /// The group.
    pub group: GroupId,
    /// What was removed up to here was gone before.
    pub before: Position,
    /// All that was asked for is gone from this copy.
    pub done: bool,
    /// The keys are gone, too, from its journal of what was removed up to here.
    pub keys: Position,
    /// The same of the ledger's files.
    pub ledger: Position,
}

/// What a round has reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedRound {
    /// In the groups that were asked for.
    pub groups: Vec<ErasedGroup>,
    /// It has read the journal, and erased what no log needs.
    pub whole: bool,
}

impl Node {
    /// Erases what was removed in these groups, as far as it may be erased by now, and what no log
    /// needs any more. What can't be erased yet is left to the next round. Reads the whole journal if
    /// something in it may go, or if that is what is asked for (`whole`).
    pub fn erase(
        &self,
        wanted: Vec<EraseGroup>,
        whole: bool,
        indexes: Arc<IndexesOf>,
    ) -> BoxFuture<'_, Result<ErasedRound>> {
        self.erase_all(wanted, whole, indexes).boxed()
    }

    async fn erase_all(
        &self,
        wanted: Vec<EraseGroup>,
        whole: bool,
        indexes: Arc<IndexesOf>,
    ) -> Result<ErasedRound> {
        let (begun, truncations) = (tokio::time::Instant::now(), self.journal.truncations());
        // What was dropped below the horizon leaves with the checkpoint.
        self.raise_horizons(&wanted).await?;
        // It lets the log go up to there, but for what others need of it.
        self.checkpoint().await?;
        let mut staged = BTreeSet::new();
        for one in &wanted {
            self.purge_for(one).await?;
            if let Some(member) = self.member(one.group)
                && member.stages(one).await
            {
                staged.insert(one.group);
            }
        }
        let (groups, journal) = (self.groups.clone(), self.journal.clone());
        let running = tokio::task::spawn_blocking(move || {
            let copies = Copies::open(&groups, &journal, wanted, &staged)?;
            let whole = whole || copies.copies.values().any(Copy::needs_pass);
            let groups = copies.erase(whole.then_some(&journal), &*indexes)?;
            Ok(ErasedRound { groups, whole })
        });
        let round: Result<ErasedRound> = running.await.map_err(|e| Error::Task(e.to_string()))?;
        let round = round?;
        self.note_round(round.whole.then_some(truncations), begun.elapsed());
        Ok(round)
    }

    async fn raise_horizons(&self, wanted: &[EraseGroup]) -> Result<()> {
        let (groups, wanted) = (self.groups.clone(), wanted.to_vec());
        let running = tokio::task::spawn_blocking(move || {
            for one in wanted {
                let group = groups.get(one.group).filter(|group| group.ready());
                group
                    .map(|group| group.raise_horizon(one.old()))
                    .transpose()?;
            }
            Ok(())
        });
        running.await.map_err(|e| Error::Task(e.to_string()))?
    }

    /// Moves the line below which Raft needs nothing. A leader that has time keeps what its
    /// followers lack; what the log of another replica is for is the leader's to judge.
    async fn purge_for(&self, wanted: &EraseGroup) -> Result<()> {
        let Some(member) = self.member(wanted.group) else {
            return Ok(());
        };
        let _one = self.upkeep.lock().await;
        let Some(checkpoint) = checkpoint_of(&self.groups, wanted.group) else {
            return Ok(());
        };
        let upto = match member.group.term().is_some() && !wanted.overdue {
            true => self.purge_upto(&member, checkpoint.index),
            false => self.purge_most(&member, checkpoint.index),
        };
        if let Some(upto) = upto {
            purge_one(&member, upto).await?;
        }
        let upto = upto.max(self.purged(wanted.group));
        // Raft says so when it comes to it, and the journal writes it.
        let begun = tokio::time::Instant::now();
        let written = || self.journal.state(wanted.group).erasable;
        while written() < upto && begun.elapsed() < PURGE_TIME_MAX {
            tokio::time::sleep(DISK_POLL).await;
        }
        Ok(())
    }
}

/// How many images in the journal name a row of a group that stands or stood in these trees, and has these
/// indexes.
///
/// # Errors
/// The journal is damaged.
pub fn images_of_row(
    journal: &Journal,
    group: GroupId,
    trees: &[u32],
    indexes: &IndexTrees,
    key: &[u8],
) -> Result<u64> {
    let mut images = 0;
    for segment in journal.segments() {
        for found in journal.remains(segment)? {
            let record = &found.record;
            if record.group == group && matches!(record.kind, Kind::Entry | Kind::Part) {
                images += storage::erase::naming(record, trees, indexes, key)? as u64;
            }
        }
    }
    Ok(images)
}

/// What a stopped node has not erased: images in the journal that name rows which are removed as
/// of what is applied, or that no log needs, by group; and the groups in which Raft still needs
/// some.
///
/// # Errors
/// The journal is damaged, or the tables are.
pub fn not_erased(
    journal: &Journal,
    groups: &Arc<Groups>,
    indexes: &IndexesOf,
) -> Result<(u64, BTreeSet<GroupId>)> {
    let all = groups.all().into_iter().filter(|group| group.ready());
    let wanted = all.map(|group| EraseGroup {
        group: group.id(),
        upto: Position::MAX,
        keys: Position::ZERO,
        horizon: Position::ZERO,
        overdue: false,
    });
    let mut copies = Copies::of(groups, wanted.collect())?;
    let mut images = 0;
    let mut blocked = BTreeSet::new();
    while copies.read_ledgers(indexes)? {
        blocked.extend(copies.search(journal, &mut |erasures| {
            images += erasures
                .iter()
                .map(|one| one.images.len() as u64)
                .sum::<u64>();
            Ok(())
        })?);
    }
    Ok((images, blocked))
}

/// Up to which position a group's log may be erased, of what lies at `upto` or below: to the last entry
/// that Raft needs no more.
fn purged_upto(journal: &Journal, group: GroupId, upto: Position) -> Result<Position> {
    let state = journal.state(group);
    let (Some((_, last, _)), Some((_, purged))) = (state.last, state.purged) else {
        return Ok(if state.last.is_none() {
            upto
        } else {
            Position::ZERO
        });
    };
    let needed = match journal.seek(group, upto)? {
        Some(behind) => Index(behind.0.saturating_sub(1)),
        None => last,
    };
    if purged >= needed {
        return Ok(upto);
    }
    // Only entries say their positions.
    let mut next = Index(purged.0 + 1);
    while next <= needed {
        let end = Index(needed.0 + 1);
        let records = journal.read(group, next, end, LOOK_BYTES)?;
        let Some(behind) = records.last() else { break };
        next = Index(behind.index.0 + 1);
        let mut entries = records.iter().filter(|record| record.kind == Kind::Entry);
        if let Some(entry) = entries.next() {
            return Ok(upto.min(Position(entry.position.0.saturating_sub(1))));
        }
    }
    Ok(upto)
}

fn checkpoint_of(groups: &Groups, id: GroupId) -> Option<Applied> {
    let mut all = groups.store().checkpoint().into_iter();
    all.find(|one| one.group == id).map(|one| one.applied)
}

/// A copy of a group in this round.
struct Copy {
    /// `upto` is as far as this round can come.
    wanted: EraseGroup,
    /// It is all that was asked for.
    all: bool,
    group: Arc<Group>,
    /// What was removed up to here is erased already.
    after: Position,
    /// Of which state of the group that holds.
    state: u64,
    /// How far the keys go, too.
    everywhere: Position,
    /// Old versions up to there may leave the tables.
    horizon: Position,
    /// Where the next part of the ledger begins; `None`: there is none.
    next: Option<Option<bytes::Bytes>>,
    ledger: Ledger,
    /// Tables whose rows were removed.
    trees: BTreeSet<u32>,
    /// Versions that only reads below this need are gone from the trees that were rewritten.
    line: Position,
    /// Nothing stands in the way.
    done: bool,
}

struct Copies {
    copies: BTreeMap<GroupId, Copy>,
    groups: Arc<Groups>,
}

impl Copies {
    /// For a round: what is to go may go from here on. Of those that are `staged` half a snapshot
    /// lies beside the tables.
    fn open(
        groups: &Arc<Groups>,
        journal: &Journal,
        wanted: Vec<EraseGroup>,
        staged: &BTreeSet<GroupId>,
    ) -> Result<Copies> {
        let mut copies = Copies::of(groups, wanted)?;
        for copy in copies.copies.values_mut() {
            let (group, wanted) = (&copy.group, &copy.wanted);
            (copy.after, copy.state) = group.erased_of_state();
            // The ledger's rows of an earlier round first, so that they leave with this one.
            group.forget_erased()?;
            let mut horizon = group.raise_horizon(wanted.old())?;
            if horizon < wanted.upto && wanted.overdue {
                group.force_horizon(wanted.upto);
                horizon = groups.store().horizon(wanted.group);
            }
            copy.done &= !staged.contains(&wanted.group);
            copy.horizon = horizon;
            // Its forgotten rows leave here, which tells how far the others may go, too: somebody
            // may read the past.
            let ledger = TreeId {
                group: wanted.group,
                number: system::LEDGER,
            };
            if groups.store().trees().contains(&ledger) {
                copy.line = groups.store().purge(ledger)?;
            }
            let durable = checkpoint_of(groups, wanted.group).map(|durable| durable.position);
            let mut reach = durable.unwrap_or_default().min(horizon);
            // Once its time is over, who reads the past holds the tables' files alone.
            if !wanted.overdue {
                reach = reach.min(copy.line);
            }
            if !group.is_followed() {
                reach = reach.min(purged_upto(journal, wanted.group, wanted.upto)?);
            }
            copy.all = reach >= wanted.upto;
            copy.wanted.upto = wanted.upto.min(reach);
        }
        Ok(copies)
    }

    fn of(groups: &Arc<Groups>, wanted: Vec<EraseGroup>) -> Result<Copies> {
        let mut copies = BTreeMap::new();
        for wanted in wanted {
            let Some(group) = groups.get(wanted.group).filter(|group| group.ready()) else {
                continue;
            };
            let copy = Copy {
                after: Position::ZERO,
                state: 0,
                all: true,
                everywhere: group.erased_everywhere()?,
                done: true,
                horizon: Position::ZERO,
                next: Some(None),
                ledger: Ledger::default(),
                trees: BTreeSet::new(),
                line: Position::MAX,
                wanted,
                group,
            };
            copies.insert(wanted.group, copy);
        }
        let groups = groups.clone();
        Ok(Copies { copies, groups })
    }

    /// Without the journal only what needs no look at it.
    fn erase(mut self, journal: Option<&Journal>, indexes: &IndexesOf) -> Result<Vec<ErasedGroup>> {
        // No group has anything: what no log needs is looked for all the same.
        let mut passed = journal.is_none();
        while self.read_ledgers(indexes)? || !passed {
            if let Some(journal) = journal {
                self.pass(journal)?;
            }
            self.erase_histories()?;
            passed = true;
        }
        let whole = journal.is_some();
        self.copies
            .into_values()
            .map(|copy| copy.end(&self.groups, whole, indexes))
            .collect()
    }

    /// Reads the next part of the ledgers, as many as fit into memory; false if there is none. The
    /// others wait for the next pass.
    fn read_ledgers(&mut self, indexes: &IndexesOf) -> Result<bool> {
        let (mut any, mut room) = (false, LEDGER_BYTES_MAX);
        for (id, copy) in &mut self.copies {
            copy.ledger = Ledger::default();
            let Some(from) = copy.next.take_if(|_| room > 0) else {
                continue;
            };
            any = true;
            let (after, upto) = (copy.after, copy.wanted.upto);
            copy.ledger = copy.group.ledger(after, upto, from.as_ref(), room)?;
            #[cfg(feature = "sabotage")]
            if copy.group.term().is_none() && journal::sabotage::planted("erase-skips-replicas") {
                copy.ledger = Ledger::default();
            }
            room = room.saturating_sub(copy.ledger.bytes());
            copy.next = copy.ledger.next().cloned().map(Some);
            let trees = copy.ledger.trees();
            let of = |tree: u32| {
                indexes(*id, tree)
                    .into_iter()
                    .map(move |index| (index, tree))
            };
            let all = trees.iter().flat_map(|tree| of(*tree));
            copy.ledger.set_indexes(all.collect());
            copy.trees.extend(trees);
        }
        Ok(any)
    }

    /// Of rows that were removed by ERASE nothing stays that their tables keep of their history.
    fn erase_histories(&mut self) -> Result<()> {
        let store = self.groups.store();
        for (&group, copy) in &mut self.copies {
            let erased = copy.ledger.take_erased();
            for (number, keys) in erased {
                let tree = TreeId { group, number };
                if store.kept(tree) < store.horizon(group) {
                    copy.line = copy.line.min(store.erase(tree, &keys)?);
                }
            }
        }
        Ok(())
    }

    /// Goes over the journal once, and erases.
    fn pass(&mut self, journal: &Journal) -> Result<()> {
        let blocked = self.search(journal, &mut |erasures| Ok(journal.erase(&erasures)?))?;
        for id in blocked {
            if let Some(copy) = self.copies.get_mut(&id) {
                copy.done = false;
            }
        }
        Ok(())
    }

    /// Finds what may be erased, segment by segment; answers in which groups there is more that
    /// Raft, or a stream to a follower, still needs.
    fn search(
        &self,
        journal: &Journal,
        found: &mut dyn FnMut(Vec<Erasure>) -> Result<()>,
    ) -> Result<BTreeSet<GroupId>> {
        let searched = self
            .copies
            .iter()
            .filter(|(_, copy)| !copy.group.is_followed());
        let mut searches: BTreeMap<GroupId, Search<'_, (u64, u64)>> =
            searched.map(|(id, copy)| (*id, copy.search())).collect();
        let mut blocked = BTreeSet::new();
        for segment in journal.segments() {
            let mut erasures = Vec::new();
            for found in journal.remains(segment)? {
                let (place, record) = ((segment, found.offset), &found.record);
                match (found.fate, searches.get_mut(&record.group)) {
                    (Fate::Dead, _) => take(&mut erasures, place, remains(record)?),
                    (fate, Some(search)) => {
                        let live = fate == Fate::Live;
                        let found = search.pass(place, record, live)?;
                        sort(&mut erasures, &mut blocked, record.group, found);
                    }
                    (Fate::Live | Fate::Purged, None) => {}
                }
            }
            found(erasures)?;
        }
        let mut erasures = Vec::new();
        for (id, search) in searches {
            sort(&mut erasures, &mut blocked, id, search.end());
        }
        found(erasures)?;
        Ok(blocked)
    }
}

fn take(erasures: &mut Vec<Erasure>, place: (u64, u64), images: Vec<(u32, bytes::Bytes)>) {
    let (segment, offset) = place;
    if !images.is_empty() {
        erasures.push(Erasure {
            segment,
            offset,
            images,
        });
    }
}

/// What may be erased is; what somebody still needs keeps its group from being done.
fn sort(
    erasures: &mut Vec<Erasure>,
    blocked: &mut BTreeSet<GroupId>,
    group: GroupId,
    found: Vec<Found<(u64, u64)>>,
) {
    for Found {
        place,
        images,
        live,
    } in found
    {
        match live {
            true => drop(blocked.insert(group)),
            false => take(erasures, place, images),
        }
    }
}

impl Copy {
    fn search(&self) -> Search<'_, (u64, u64)> {
        let read = match self.wanted.overdue {
            true => Position::MAX,
            false => self.group.streamed(),
        };
        Search::new(&self.group, &self.ledger, read)
    }

    /// Is there something of it in the journal that may go? Of a follower's copy nothing is.
    fn needs_pass(&self) -> bool {
        let news = self.everywhere > self.wanted.keys || self.wanted.upto > self.after;
        news && !self.group.is_followed()
    }

    /// Old versions leave the tables' files. `whole`: the journal was looked through.
    fn end(mut self, groups: &Groups, whole: bool, indexes: &IndexesOf) -> Result<ErasedGroup> {
        let (id, upto, store) = (self.wanted.group, self.wanted.upto, groups.store());
        let of = |tree: &u32| indexes(id, *tree);
        let mut trees: BTreeSet<u32> = self.trees.iter().flat_map(of).collect();
        trees.extend(&self.trees);
        let held = store.trees().into_iter();
        for tree in held.filter(|tree| tree.group == id && trees.contains(&tree.number)) {
            #[cfg(feature = "sabotage")]
            if journal::sabotage::planted("erase-leaves-files") {
                continue;
            }
            self.line = self.line.min(store.purge(tree)?);
        }
        // Where somebody reads the past, or what was replaced, another round follows.
        let reached = upto.min(self.line);
        // A tree that was dropped leaves with a checkpoint, and when nobody reads it any more.
        let done = self.done && !self.group.has_ended() && !store.has_dropped(id);
        let looked = whole || self.group.is_followed();
        if done && looked {
            self.group.note_erased(reached, self.state);
        }
        let forgotten = match self.group.is_followed() {
            true => self.group.erased(),
            false => self.everywhere,
        };
        // Its rows are gone from the files if they are not to be read at the horizon either.
        let clean = self.line >= self.horizon;
        let clean = clean && !self.group.ledger_has(forgotten, self.horizon)?;
        let gone = |gone: bool| if gone { forgotten } else { Position::ZERO };
        Ok(ErasedGroup {
            group: id,
            before: self.after,
            done: done && self.all && reached >= upto,
            keys: gone(done && looked),
            ledger: gone(clean),
        })
    }
}
