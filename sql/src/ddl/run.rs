//! Running DDL in a transaction: decide over the transaction's catalog, write the descriptors,
//! then do the work on rows, all in the transaction's one entry.

use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, Position};

use super::draft::{Described, Done, Draft, Ground, Use, Work};
use super::expression::names_columns;
use super::projection::written_through;
use super::{build, rows};
use crate::catalog::{self, Catalog, Column, RoleId, SchemaId, Table, TableId};
use crate::exec::ExecCx;
use crate::expr::Frame;
use crate::integrity::{self, Wanted};
use crate::moving;
use crate::parse::Ddl;
use crate::plan::{self, BindCx};
use crate::transaction::{EventKind, Policy, Stop, TableMode};
use crate::types::codec::encode_value;
use crate::{Error, state};

/// 25001: a move is more than one entry.
const IN_BLOCK: &str =
    "ALTER TABLE ... OWNER TO another owner cannot run inside a transaction block";

/// Carries out a statement; answers its command tag.
///
/// # Errors
/// PostgreSQL's. A wait runs the whole statement again.
pub fn execute(ddl: &Ddl, bind: &BindCx<'_>, cx: &mut ExecCx<'_>) -> Result<String, Stop> {
    if let Some(moved) = cx.transaction.moved.take() {
        moving::await_end(moved, cx)?;
        return Ok("ALTER TABLE".to_owned());
    }
    if let Some(built) = build::Built::by(ddl)
        && build::is_large(&built, bind, cx)?
    {
        return build::create(&built, bind, cx);
    }
    let catalog = Arc::clone(cx.transaction.catalog());
    let (role, login, path) = (cx.role, cx.login, cx.path.to_vec());
    let mut outside = Outside { bind, cx };
    let mut draft = Draft::new(&catalog, &mut outside, role, login, &path);
    let tag = draft.decide(ddl)?;
    if let Some((table, to)) = draft.moved.take() {
        let tx = &cx.transaction;
        return Err(match tx.in_block() || tx.has_ddl() || tx.has_written() {
            true => Error::new(state::ACTIVE_SQL_TRANSACTION, IN_BLOCK).into(),
            false => moving::begin(&table, to, cx),
        });
    }
    let changes = draft.take_changes();
    let (derived, touched) = (
        Arc::clone(&draft.catalog),
        std::mem::take(&mut draft.touched),
    );
    let (notices, work) = (
        std::mem::take(&mut draft.notices),
        std::mem::take(&mut draft.work),
    );
    for change in &changes {
        for row in catalog::rows(change) {
            cx.transaction
                .write_system(change.group, row.tree, row.key, row.value)?;
        }
    }
    if !changes.is_empty() {
        cx.transaction.change_catalog(changes);
    }
    let mut filled = None;
    for step in work {
        if let Some(rows) = work_on_rows(&derived, step, bind, cx)? {
            filled = Some(rows);
        }
    }
    let command = match ddl {
        Ddl::Sql(sqlparser::ast::Statement::CreateView(create)) if create.materialized => {
            build::CREATE_PROJECTION
        }
        _ => tag,
    };
    for (group, tree, name) in touched {
        let payload = serde_json::json!({ "command": command, "object": name }).to_string();
        cx.transaction
            .event(group, EventKind::Ddl, command, tree, Bytes::from(payload))?;
    }
    for notice in notices {
        cx.transaction.notice(notice);
    }
    Ok(match filled {
        Some(rows) => format!("{tag} {rows}"),
        None => tag.to_owned(),
    })
}

/// Does one piece of work; the number of rows of CREATE TABLE AS.
fn work_on_rows(
    catalog: &Arc<Catalog>,
    work: Work,
    bind: &BindCx<'_>,
    cx: &mut ExecCx<'_>,
) -> Result<Option<u64>, Stop> {
    match work {
        Work::BuildIndex { table, index } => {
            rows::build_index(catalog, table, index, cx)?;
        }
        Work::Rewrite { old, table, using } => {
            rows::rewrite(catalog, &old, table, &using, cx)?;
        }
        Work::CheckNotNull { table, column } => {
            rows::check_not_null(catalog, table, column, cx)?;
        }
        Work::CheckRows { table, constraint } => {
            rows::check_rows(catalog, table, constraint, cx)?;
        }
        Work::CheckForeign { table, constraint } => {
            rows::check_foreign(catalog, table, constraint, cx)?;
        }
        Work::FillColumn { table, column } => {
            rows::fill_column(catalog, table, column, cx)?;
        }
        Work::Fill { table, query } => {
            return rows::fill(catalog, table, &query, bind, cx).map(Some);
        }
        Work::FillProjection { table } => {
            return rows::fill_projection(catalog, table, cx).map(Some);
        }
        Work::SetSequence {
            group,
            sequence,
            last,
            called,
        } => {
            if cx.transaction.engine().catalog().table(sequence).is_some() {
                // Under its lock: it is not on its way to another owner.
                cx.transaction.check_newest_catalog(group)?;
            }
            set_sequence(group, sequence, Some((last, called)), cx)?;
        }
        Work::DropSequence { group, sequence } => set_sequence(group, sequence, None, cx)?,
        Work::Ask { table } => integrity::ask_all(&table, cx.transaction)?,
        Work::DropTree { group, tree } => cx.transaction.drop_tree(group, tree)?,
    }
    Ok(None)
}

/// Writes (or removes) where a sequence stands.
pub(super) fn set_sequence(
    group: GroupId,
    sequence: TableId,
    position: Option<(i64, bool)>,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    use crate::session::sequence;
    let value = position.map(|(last, called)| sequence::Position { last, called }.encode());
    let key = sequence::key(sequence.0);
    cx.transaction
        .write_system(group, catalog::TREE_SEQUENCES, key, value)?;
    cx.transaction
        .engine()
        .sequences()
        .forget(group, sequence.0);
    Ok(())
}

/// The class of locks on relations' names.
const RELATION_NAMES: u32 = 1;

/// The transaction as the deciding part sees it.
pub(super) struct Outside<'a, 'b, 'c> {
    pub bind: &'a BindCx<'a>,
    pub cx: &'b mut ExecCx<'c>,
}

impl Outside<'_, '_, '_> {
    /// What binds the expression must see the draft's catalog, not the transaction's.
    fn compile(
        &self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        text: &str,
        expected: Option<&Column>,
        what: Use,
    ) -> crate::Result<crate::expr::Expr> {
        let condition = matches!(what, Use::Check | Use::Predicate);
        plan::stored_expression(catalog, table, text, expected, place(what), condition)
    }
}

/// What PostgreSQL calls the place of an expression in its errors.
fn place(what: Use) -> &'static str {
    match what {
        Use::Default => "DEFAULT expressions",
        Use::Generated => "column generation expressions",
        Use::Check => "check constraints",
        Use::Index => "index expressions",
        Use::Predicate => "index predicates",
        Use::Rewrite => "transform expressions",
    }
}

impl Ground for Outside<'_, '_, '_> {
    fn oid(&mut self, _: GroupId) -> Done<u32> {
        self.cx.transaction.new_oid()
    }

    fn group_for(&mut self, owner: RoleId) -> Done<GroupId> {
        self.cx.transaction.owner_group(owner)
    }

    fn reference(&mut self, wanted: &Wanted<'_>) -> Done<u32> {
        integrity::begin(wanted, self.cx.transaction)
    }

    fn have_group(&mut self, owner: RoleId) -> Done<()> {
        self.cx.transaction.engine().have_group(owner).map(drop)
    }

    fn now(&self) -> u64 {
        self.cx.transaction.engine().clock().unix_micros()
    }

    fn hold(&mut self, role: RoleId, table: &Table) -> Done<()> {
        let transaction = &self.cx.transaction;
        let node = transaction.engine().cluster().node();
        match transaction.catalog().places(role, node) {
            true => transaction.bring(role, table.group, table.tree),
            false => Ok(()),
        }
    }

    fn lock_name(&mut self, group: GroupId, schema: SchemaId, name: &str) -> Done<()> {
        let mut key = schema.0.to_be_bytes().to_vec();
        key.extend_from_slice(name.as_bytes());
        let transaction = &mut self.cx.transaction;
        transaction.lock_object(group, RELATION_NAMES, &key, Policy::Wait)?;
        Ok(())
    }

    fn reserve(&mut self, names: &[(SchemaId, String)], owner: RoleId) -> Done<()> {
        self.cx.transaction.reserve(names, owner)
    }

    fn position(&mut self, group: GroupId) -> Done<Position> {
        self.cx.transaction.position(group)
    }

    fn lock(&mut self, table: &Table, mode: TableMode) -> Done<()> {
        // Views and sequences have no tree: their OID stands in, from the same number space.
        if table.projection.is_some() && mode >= TableMode::Share {
            // It is written without a lock of its own.
            let catalog = Arc::clone(self.cx.transaction.catalog());
            for source in written_through(&catalog, table) {
                self.lock(&source, TableMode::Share)?;
            }
        }
        let tree = if table.tree == 0 {
            table.id.0
        } else {
            table.tree
        };
        self.cx
            .transaction
            .lock_table(table.group, tree, mode, Policy::Wait)?;
        Ok(())
    }

    fn check_expression(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        text: &str,
        expected: Option<&Column>,
        what: Use,
    ) -> Done<()> {
        if what == Use::Default && names_columns(&crate::parse::parse_expression(text)?) {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot use column reference in DEFAULT expression",
            )
            .into());
        }
        let expr = self.compile(catalog, table, text, expected, what)?;
        if expr.has_subquery() {
            let place = place(what).trim_end_matches('s');
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("cannot use subquery in {place}"),
            )
            .into());
        }
        let mutable = match what {
            Use::Generated => Some("generation expression is not immutable"),
            Use::Index => Some("functions in index expression must be marked IMMUTABLE"),
            Use::Predicate => Some("functions in index predicate must be marked IMMUTABLE"),
            Use::Default | Use::Check | Use::Rewrite => None,
        };
        match mutable {
            Some(message) if !expr.is_immutable() => {
                Err(Error::new(state::INVALID_OBJECT_DEFINITION, message).into())
            }
            _ => Ok(()),
        }
    }

    fn constant(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        column: &Column,
        text: &str,
    ) -> Done<Option<Vec<u8>>> {
        let expr = self.compile(catalog, table, text, Some(column), Use::Default)?;
        if expr.is_volatile() {
            return Ok(None);
        }
        let value = expr.eval(&[], &Frame::new(Arc::from([])), self.cx)?;
        let mut out = Vec::new();
        if !value.is_null() {
            encode_value(&value, &mut out);
        }
        Ok(Some(out))
    }

    fn describe_query(
        &mut self,
        catalog: &Arc<Catalog>,
        query: &sqlparser::ast::Query,
    ) -> Done<Described> {
        let statement = sqlparser::ast::Statement::Query(Box::new(query.clone()));
        let planned = plan::plan(&statement, catalog, self.bind)?;
        if !planned.parameters.is_empty() {
            return Err(Error::new(state::UNDEFINED_PARAMETER, "there is no parameter $1").into());
        }
        let columns = planned
            .columns
            .iter()
            .map(|c| (c.name.clone(), c.ty))
            .collect();
        let routines = planned.routines;
        Ok(Described { columns, routines })
    }

    fn random(&mut self) -> [u8; 16] {
        let environment = self.cx.evaluation.environment;
        let mut out = [0; 16];
        out[..8].copy_from_slice(&environment.random_bits().to_le_bytes());
        out[8..].copy_from_slice(&environment.random_bits().to_le_bytes());
        out
    }
}
