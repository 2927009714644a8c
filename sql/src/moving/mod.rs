//! ALTER TABLE ... OWNER TO another owner: the table moves from one group to another, and is there in
//! every cut once, with the same rows.
//!
//! ```text
//! A, the present owner               B, the owner to be
//!   table: Leaving    the wish   ─>
//!                                      table: Arriving         hidden; rows are copied, A goes on writing
//!                                <─    table: Arriving, full
//!   table: Left       nobody writes it any more
//!                                ─>    what has changed since is copied
//!                                      table: Arrived          it holds from here on: read and written
//!   gone, with its rows          <─
//!                                ─>    the move is over
//! ```
//! Each line is an entry, and has the one before it of the other side as a dep: so no cut shows a step
//! without what it rests on. Of the two descriptors the later one holds as soon as it has arrived
//! ([`crate::catalog::Table::holds_over`]); until then A's rows are read, which do not change any more. From
//! `Left` on it only goes forward, whoever leads; before it ALTER TABLE ... OWNER TO the present owner
//! ends the move, as does whatever a table can't be moved with.
//!
//! `owner.rs` is the statement, `check.rs` what can't be moved; `leave.rs` is what A's home does without a
//! client, `arrive.rs` what B's does, with `copy.rs`. They compare the two descriptors and do what is next, so
//! a new leader needs nothing else. The sessions without a client are `session::Courier`s.

mod arrive;
mod check;
mod copy;
mod leave;
mod owner;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use arrive::{Rounds, arrive};
use bytes::Bytes;
pub(crate) use check::{being_moved, check_movable};
pub(crate) use leave::leave;
pub(crate) use owner::{Moved, await_end, begin, check, stays};
use storage::GroupId;

use crate::catalog::{self, Catalog, Change, Moving, Object, RoleId, Table, TableId, TableKind};
use crate::engine::Engine;
use crate::exec::ExecCx;
use crate::transaction::{EventKind, Stop};

/// What the feed tells of a move, at the owner who loses the table and at the one who gets it.
const COMMAND: &str = "ALTER TABLE";

impl Engine {
    /// All pairs of groups between which a table is on its way, and of which the first is led here.
    pub fn moving(&self) -> BTreeSet<(GroupId, GroupId)> {
        let catalog = self.catalog();
        let mut pairs = BTreeSet::new();
        for table in catalog.moving() {
            let Some((from, to)) = way(&catalog, table) else {
                continue;
            };
            let both = [(from, to), (to, from)].into_iter();
            pairs.extend(both.filter(|(home, _)| self.leads(*home)));
        }
        pairs
    }
}

/// The groups between which a relation is on its way: from which, to which.
fn way(catalog: &Catalog, table: &Table) -> Option<(GroupId, GroupId)> {
    match table.moving? {
        Moving::Leaving { to } | Moving::Left { to } => Some((table.group, catalog.group_of(to)?)),
        Moving::Arriving { .. } | Moving::Arrived => Some((*table.former.last()?, table.group)),
    }
}

/// Is the table the same on both sides, but for its trees? Rows and entries of indexes are copied as
/// they are.
fn matches(theirs: &Table, ours: &Table) -> bool {
    let shape = |table: &Table| -> Vec<(u32, bool)> {
        let indexes = table.indexes.iter();
        indexes
            .map(|index| (index.id, table.is_clustering(index)))
            .collect()
    };
    shape(theirs) == shape(ours)
}

/// The sequences that go with a table, of its own group.
fn sequences(catalog: &Catalog, group: GroupId, table: TableId) -> Vec<Arc<Table>> {
    let all = catalog.tables().chain(catalog.tables_aside());
    let own = all.filter(|of| match &of.kind {
        TableKind::Sequence(options) => {
            of.group == group && options.owned_by.is_some_and(|(owner, _)| owner == table)
        }
        _ => false,
    });
    own.cloned().collect()
}

/// Writes a relation's descriptor, or takes it away.
fn put(
    group: GroupId,
    old: Option<&Arc<Table>>,
    new: Option<Table>,
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let since = cx.transaction.position(group)?;
    let new = new.map(|new| Object::Table(Arc::new(Table { since, ..new })));
    let old = old.map(|old| Object::Table(Arc::clone(old)));
    let change = Change { group, old, new };
    for row in catalog::rows(&change) {
        let (tx, key) = (&mut cx.transaction, row.key);
        tx.write_system(group, row.tree, key, row.value)?;
    }
    cx.transaction.change_catalog(vec![change]);
    Ok(())
}

/// Takes a table with its rows out of a group: it goes on in the other one.
fn take_away(table: &Arc<Table>, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let group = table.group;
    put(group, Some(table), None, cx)?;
    // Those in which its rows stood before go on elsewhere as well.
    for tree in cx.catalog.trees_in(group, table.id) {
        let row = catalog::left_tree(tree, table.id);
        cx.transaction
            .write_system(group, row.tree, row.key, row.value)?;
    }
    for tree in table.trees() {
        cx.transaction.drop_tree(group, tree)?;
    }
    Ok(())
}

/// Tells the feed.
fn tell(table: &Table, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let schema = cx.catalog.schema_name(table.schema);
    let name = format!("{schema}.{}", table.name);
    let payload = serde_json::json!({ "command": COMMAND, "object": name }).to_string();
    let (tx, payload) = (&mut cx.transaction, Bytes::from(payload));
    tx.event(
        table.group,
        EventKind::Ddl,
        COMMAND,
        Some(table.tree),
        payload,
    )
}

/// The role whose group it is.
fn owner(catalog: &Catalog, group: GroupId) -> Result<RoleId, Stop> {
    let owner = catalog.owner_of_group(group);
    owner.ok_or_else(|| Stop::Error(crate::transaction::leader_changed()))
}
