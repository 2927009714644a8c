//! What the home of a table's owner to be does for a move without a client: it fills a hidden table with
//! the rows, and shows it once the present owner writes them no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::GroupId;

use super::copy::{Round, Stepped};
use super::{matches, owner, put, sequences, take_away, tell};
use crate::catalog::{Catalog, Moving, RoleId, TREE_SEQUENCES, Table, TableId, TableKind};
use crate::exec::ExecCx;
use crate::session::sequence;
use crate::system::projections::{Filled, Showing};
use crate::transaction::Stop;

/// How far a courier has come with the tables that it fills. What of it is lost with it is done again.
#[derive(Default)]
pub(crate) struct Rounds {
    rounds: BTreeMap<TableId, (Round, Showing)>,
    /// The state before a step whose entry may not have come to its place.
    before: Option<(TableId, Round)>,
}

impl Rounds {
    /// What the last step wrote has its place.
    pub fn confirm(&mut self) {
        self.before = None;
    }

    fn take_back(&mut self) {
        if let Some((table, before)) = self.before.take()
            && let Some((round, _)) = self.rounds.get_mut(&table)
        {
            *round = before;
        }
    }
}

/// Does what is next for tables that come from `other`: the first of it that there is. False: nothing.
///
/// # Errors
/// As of any write; `Wait::Again` where it has only looked.
pub(crate) fn arrive(
    home: GroupId,
    other: GroupId,
    rounds: &mut Rounds,
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    rounds.take_back();
    let catalog = Arc::clone(cx.catalog);
    let to = owner(&catalog, home)?;
    for id in coming(&catalog, home, other, to) {
        let theirs = catalog.table_in(other, id).cloned();
        let theirs = theirs.filter(|theirs| theirs.goes_to() == Some(to));
        let ours = catalog.table_in(home, id).cloned();
        // What it rests on.
        cx.transaction.position(other)?;
        let moving = ours.as_ref().and_then(|ours| ours.moving);
        let done = match (theirs, ours, moving) {
            (Some(theirs), None, _) => {
                announce(&theirs, (to, home), cx)?;
                true
            }
            (Some(theirs), Some(ours), Some(Moving::Arriving { full }))
                if matches(&theirs, &ours) =>
            {
                // It waits for the owner's word.
                let waits = full && !theirs.has_left();
                if !waits {
                    fill(&theirs, &ours, rounds, cx)?;
                }
                !waits
            }
            (_, Some(ours), Some(Moving::Arriving { .. })) => {
                // The present owner keeps it, or it has become another one there.
                rounds.rounds.remove(&id);
                take_away(&ours, cx)?;
                true
            }
            (None, Some(ours), Some(Moving::Arrived)) if catalog.table_in(other, id).is_none() => {
                rounds.rounds.remove(&id);
                settle(&catalog, &ours, cx)?;
                true
            }
            _ => false,
        };
        if done {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tables that are coming, and those that have just come.
fn coming(catalog: &Catalog, home: GroupId, other: GroupId, to: RoleId) -> BTreeSet<TableId> {
    let from = |table: &Table| {
        table.group == home && table.former.last() == Some(&other) && table.goes_to().is_none()
    };
    let to_us = |table: &Table| table.group == other && table.goes_to() == Some(to);
    let tables = catalog.moving().filter(|t| t.kind == TableKind::Table);
    let tables = tables.filter(|table| from(table) || to_us(table));
    tables.map(|table| table.id).collect()
}

/// The hidden table, with trees of its own.
fn announce(
    theirs: &Arc<Table>,
    (to, home): (RoleId, GroupId),
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let mut ours = Table::clone(theirs);
    ours.give(to, home);
    ours.moving = Some(Moving::Arriving { full: false });
    ours.tree = cx.transaction.new_oid()?;
    for (index, of) in ours.indexes.iter_mut().zip(&theirs.indexes) {
        index.tree = match theirs.is_clustering(of) {
            true => ours.tree,
            false => cx.transaction.new_oid()?,
        };
    }
    put(home, None, Some(ours), cx)
}

/// Goes on copying; at the end of a round says that there is little left, or shows the table.
fn fill(
    theirs: &Arc<Table>,
    ours: &Arc<Table>,
    rounds: &mut Rounds,
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let (id, ways) = (theirs.id, (theirs.group, ours.group));
    let known = rounds
        .rounds
        .get(&id)
        .filter(|(round, _)| round.is_of(theirs, ours));
    if known.is_none() {
        let shown = cx.transaction.engine().fills().showing(id);
        let round = Round::new(theirs, ours);
        rounds.rounds.insert(id, (round, shown));
    }
    let (round, shown) = rounds.rounds.get_mut(&id).expect("it was put there");
    let before = round.clone();
    let stepped = round.step(ways, cx);
    shown.show(Filled {
        done: round.looked,
        made: round.written,
        total: None,
    });
    let over = match stepped {
        Ok(Stepped::Wrote) => {
            rounds.before = Some((id, before));
            return Ok(());
        }
        Ok(Stepped::Looked) => return Err(Stop::again()),
        Ok(Stepped::Over) => round,
        Err(stop) => {
            *round = before;
            return Err(stop);
        }
    };
    if over.frozen {
        show(theirs, ours, cx)?;
    } else if over.has_caught_up() {
        let moving = Some(Moving::Arriving { full: true });
        let full = Table {
            moving,
            ..Table::clone(ours)
        };
        put(ours.group, Some(ours), Some(full), cx)?;
    } else {
        over.again();
        return Err(Stop::again());
    }
    Ok(())
}

/// From here on it is this owner's, with all that was said of it when the former one stopped writing.
fn show(theirs: &Arc<Table>, ours: &Arc<Table>, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let (to, home) = (ours.owner, ours.group);
    let catalog = Arc::clone(cx.catalog);
    let arrived = |of: &Table| {
        let mut arrived = of.clone();
        arrived.give(to, home);
        arrived.moving = Some(Moving::Arrived);
        arrived
    };
    for of in sequences(&catalog, theirs.group, theirs.id) {
        let key = sequence::key(of.id.0);
        let row = cx.transaction.get(theirs.group, TREE_SEQUENCES, &key)?;
        put(home, None, Some(arrived(&of)), cx)?;
        let tx = &mut cx.transaction;
        tx.write_system(home, TREE_SEQUENCES, key, row)?;
        tx.engine().sequences().forget(home, of.id.0);
    }
    let mut table = arrived(theirs);
    table.tree = ours.tree;
    for (index, of) in table.indexes.iter_mut().zip(&ours.indexes) {
        index.tree = of.tree;
    }
    tell(&table, cx)?;
    put(home, Some(ours), Some(table), cx)
}

/// The former owner has nothing of it any more: it is a table as any other.
fn settle(catalog: &Catalog, ours: &Arc<Table>, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let mut all = sequences(catalog, ours.group, ours.id);
    all.push(Arc::clone(ours));
    for of in all.iter().filter(|of| of.moving.is_some()) {
        let settled = Table {
            moving: None,
            ..Table::clone(of)
        };
        put(of.group, Some(of), Some(settled), cx)?;
    }
    Ok(())
}
