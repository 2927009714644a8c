//! CREATE and ALTER TABLE of a table that references another owner's. The foreign key is wished for first, in
//! an entry of its own; the other owner's home notes it, and asks from then on. Only then rows are
//! looked at, and the statement's own entry brings the constraint. `register.rs` takes a wish back whose
//! transaction is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, system};

use super::look::{AWAY_AFTER, Cut, later};
use super::open::OpenWish;
use super::rows::{Wish, all_fences, wish_key};
use crate::catalog::{ColumnId, ForeignKey, Privilege, Registration, Table, TableId};
use crate::transaction::{Identity, Isolation, Policy, Stop, TableMode, Transaction, Wait};
use crate::{Error, Result, state};

/// A foreign key as a statement wants it.
pub(crate) struct Wanted<'a> {
    /// The referencing table: its owner's group, and its name.
    pub home: GroupId,
    pub table: String,
    /// The constraint's name.
    pub name: &'a str,
    pub parent: &'a Table,
    pub columns: &'a [ColumnId],
    pub index: u32,
}

/// By what a statement that runs again knows its wish: the referencing table's group and name, its
/// constraint, the referenced table and its group, its index and columns. Of a table that has gone to
/// another owner that one knows nothing: it is wished for anew.
type WishKey = (
    GroupId,
    String,
    String,
    (GroupId, TableId),
    u32,
    Vec<ColumnId>,
);

/// A foreign key that an open transaction has wished for.
pub(crate) struct Wished {
    key: WishKey,
    constraint: u32,
    /// When, in microseconds since 1970.
    since: u64,
    placed: bool,
    /// It ends with the transaction.
    #[expect(dead_code, reason = "it is held")]
    open: OpenWish,
}

/// Has the foreign key noted by the owner of the referenced table; its OID, the same when the
/// statement runs again.
///
/// # Errors
/// `Wait` until it is; OW003 if the other owner does not answer, 42501 if it does not allow it any more.
pub(crate) fn begin(wanted: &Wanted<'_>, tx: &mut Transaction) -> std::result::Result<u32, Stop> {
    let engine = Arc::clone(tx.engine());
    let (home, parent) = (wanted.home, wanted.parent);
    // Until the end of the transaction nothing is fenced that is looked at here.
    let (tree, mode) = (system::keys_of(wanted.index), TableMode::Exclusive);
    tx.lock_table(home, tree, mode, Policy::Wait)?;
    let key = (
        home,
        wanted.table.clone(),
        wanted.name.to_owned(),
        (parent.group, parent.id),
        wanted.index,
        wanted.columns.to_vec(),
    );
    // One that the transaction has made already is another one, under another name by now.
    let catalog = Arc::clone(tx.catalog());
    let used = |id: u32| {
        let tables = catalog.tables().filter(|table| table.group == home);
        tables
            .flat_map(|table| table.foreign_keys())
            .any(|key| key.id == id)
    };
    let known = tx
        .wished()
        .iter()
        .position(|one| one.key == key && !used(one.constraint));
    let at = match known {
        Some(at) => at,
        None => {
            let constraint = tx.new_oid()?;
            let open = OpenWish::new(&engine, constraint, home, parent.group);
            let since = engine.clock().unix_micros();
            tx.act_beside();
            tx.wished().push(Wished {
                key,
                constraint,
                since,
                placed: false,
                open,
            });
            tx.wished().len() - 1
        }
    };
    let Wished {
        constraint,
        since,
        placed,
        ..
    } = tx.wished()[at];
    if !placed {
        place(wanted, constraint, tx)?;
        tx.wished()[at].placed = true;
    }
    let catalog = engine.catalog();
    let now = catalog.table(parent.id);
    let same = |of: &Registration| {
        let (index, columns) = (of.index, &of.columns[..]);
        (of.constraint, index, columns) == (constraint, wanted.index, wanted.columns)
    };
    let registered = now.is_some_and(|now| now.registered.iter().any(same));
    if !registered {
        check_consent(wanted, now, tx)?;
        return Err(
            match engine.clock().unix_micros() < since.saturating_add(AWAY_AFTER) {
                true => later(&engine),
                false => silent().into(),
            },
        );
    }
    let cut = tx.cut_for(home, parent.group)?;
    if cut.position() < catalog.as_of(parent.group) {
        return Err(Stop::Wait(Wait::Cut(parent.group)));
    }
    // The constraint is not to be seen without its being noted.
    tx.follows_from(parent.group, cut.position(), 0);
    Ok(constraint)
}

/// 42501 if the other owner has taken REFERENCES back meanwhile.
fn check_consent(wanted: &Wanted<'_>, now: Option<&Arc<Table>>, tx: &Transaction) -> Result<()> {
    let engine = tx.engine();
    let catalog = engine.catalog();
    let owner = catalog.owner_of_group(wanted.home);
    let (Some(now), Some(owner)) = (now, owner) else {
        let message = format!("relation \"{}\" does not exist", wanted.parent.name);
        return Err(Error::new(state::UNDEFINED_TABLE, message));
    };
    catalog.may(owner, now, Privilege::References, Some(wanted.columns))
}

fn place(wanted: &Wanted<'_>, constraint: u32, tx: &Transaction) -> std::result::Result<(), Stop> {
    let engine = tx.engine();
    let (home, other) = (wanted.home, wanted.parent.group);
    let wish = Wish {
        references: wanted.parent.id,
        index: wanted.index,
        columns: wanted.columns.to_vec(),
    };
    let mut side = Transaction::new(engine, Isolation::ReadCommitted, false, false);
    side.set_unattended();
    side.open_outbox(home, other)?;
    let (tree, key) = (system::outbox(other), wish_key(constraint));
    side.put_hidden(home, tree, key, Some(wish.encode()))?;
    side.commit(&Identity::default())?;
    Ok(())
}

/// OW003.
fn silent() -> Error {
    Error::new(
        state::OWNER_UNREACHABLE,
        "the owner of the referenced table does not answer",
    )
    .detail(format!(
        "It was asked {} seconds ago.",
        AWAY_AFTER / 1_000_000
    ))
    .hint("Look at freehold.groups, and try again later.")
}

/// Looks at existing rows of a table that is to reference another owner's: all at one cut of that.
pub(crate) struct Validating {
    cut: Cut,
    tree: u32,
    index: u32,
    fenced: BTreeSet<Bytes>,
}

impl Validating {
    /// Begins it, behind [`begin`] in this transaction or an earlier one.
    ///
    /// # Errors
    /// `Wait` while what is shown is too old.
    pub fn new(
        home: GroupId,
        parent: &Table,
        key: &ForeignKey,
        tx: &mut Transaction,
    ) -> std::result::Result<Validating, Stop> {
        let index = key.referenced_index;
        let (lock, mode) = (system::keys_of(index), TableMode::Exclusive);
        tx.lock_table(home, lock, mode, Policy::Wait)?;
        let range = all_fences(parent.group, index);
        // Each stands for its key, whoever's intent it is.
        let fenced = tx
            .own_rows(home, system::FENCED, range, usize::MAX)?
            .into_iter();
        let fenced = fenced.map(|(key, _)| key.slice(..key.len().saturating_sub(8)));
        let fenced = fenced.collect();
        let cut = tx.cut_for(home, parent.group)?;
        tx.follows_from(parent.group, cut.position(), 0);
        let tree = cut.tree(tx.engine(), parent, index)?;
        let tree = tree.ok_or_else(|| Error::internal("a foreign key has no index"))?;
        Ok(Validating {
            tree,
            cut,
            index,
            fenced,
        })
    }

    /// Is the key there?
    ///
    /// # Errors
    /// `Wait` while its owner is about to remove it.
    pub fn has(
        &self,
        group: GroupId,
        key: &[u8],
        tx: &Transaction,
    ) -> std::result::Result<bool, Stop> {
        if !self.fenced.is_empty() {
            for key in [Some(key), None] {
                let fence = super::rows::fence_key(group, self.index, key, storage::TxId(0));
                let fence = fence.slice(..fence.len() - 8);
                if self.fenced.contains(&fence) {
                    return Err(later(tx.engine()));
                }
            }
        }
        Ok(self.cut.get(tx.engine(), self.tree, key)?.is_some())
    }
}
