//! INSERT, UPDATE and DELETE as relations.

use std::sync::Arc;

use crate::catalog::Table;
use crate::expr::{ColumnRef, Expr};
use crate::plan::{Rel, RelColumn};

/// Which kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModifyKind {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// ERASE: a DELETE whose rows leave every copy at once.
    Erase,
}

impl ModifyKind {
    /// As triggers know it.
    pub fn operation(self) -> crate::plpgsql::Operation {
        match self {
            ModifyKind::Insert => crate::plpgsql::Operation::Insert,
            ModifyKind::Update => crate::plpgsql::Operation::Update,
            ModifyKind::Delete | ModifyKind::Erase => crate::plpgsql::Operation::Delete,
        }
    }
}

/// What happens to a row that conflicts.
#[derive(Clone, Debug)]
pub enum ConflictAction {
    /// DO NOTHING.
    Nothing,
    /// DO UPDATE.
    Update {
        /// (index into `Table::columns`, value).
        assign: Vec<(usize, Expr)>,
        /// WHERE.
        filter: Option<Expr>,
    },
}

/// ON CONFLICT.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// Index OIDs that decide; empty = all unique ones.
    pub arbiters: Vec<u32>,
    /// What to do.
    pub action: ConflictAction,
    /// The existing row's columns: (index into `Table::columns`, column).
    pub existing: Vec<(usize, ColumnRef)>,
    /// The columns of `excluded`.
    pub excluded: Vec<(usize, ColumnRef)>,
}

/// A write of rows.
#[derive(Clone, Debug)]
pub struct Modify {
    /// Its kind.
    pub kind: ModifyKind,
    /// The table.
    pub table: Arc<Table>,
    /// Its alias.
    pub alias: String,
    /// The rows to insert, or the rows to change with what FROM adds.
    pub source: Rel,
    /// The column of the source with the row's key (UPDATE, DELETE).
    pub key: Option<ColumnRef>,
    /// The columns of the source with the old row (UPDATE, DELETE).
    pub old: Vec<(usize, ColumnRef)>,
    /// New values, over the source's columns: (index into `Table::columns`, value).
    pub assign: Vec<(usize, Expr)>,
    /// How RETURNING names the new row.
    pub new: Vec<(usize, ColumnRef)>,
    /// ON CONFLICT.
    pub conflict: Option<Conflict>,
    /// The rows are commands for the table, which is an inbox.
    pub sends: bool,
    /// RETURNING, over the source's and the new row's columns.
    pub returning: Vec<(RelColumn, Expr)>,
}

impl Modify {
    /// Columns that exist only inside: the new, existing and excluded rows.
    pub fn own_columns(&self) -> impl Iterator<Item = ColumnRef> {
        let conflict = self
            .conflict
            .iter()
            .flat_map(|c| c.existing.iter().chain(&c.excluded));
        self.new.iter().chain(conflict).map(|(_, column)| *column)
    }

    /// Calls `f` on each expression (not of the source).
    pub fn for_each_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        self.assign.iter().for_each(|(_, expr)| f(expr));
        self.returning.iter().for_each(|(_, expr)| f(expr));
        if let Some(Conflict {
            action: ConflictAction::Update { assign, filter },
            ..
        }) = &self.conflict
        {
            assign.iter().for_each(|(_, expr)| f(expr));
            filter.iter().for_each(f);
        }
    }

    /// As [`Modify::for_each_expr`], to change them.
    pub fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        self.assign.iter_mut().for_each(|(_, expr)| f(expr));
        self.returning.iter_mut().for_each(|(_, expr)| f(expr));
        if let Some(Conflict {
            action: ConflictAction::Update { assign, filter },
            ..
        }) = &mut self.conflict
        {
            assign.iter_mut().for_each(|(_, expr)| f(expr));
            filter.iter_mut().for_each(f);
        }
    }
}
