//! CREATE INDEX on a table with many rows, without stopping its writers: announced in state
//! `Building`, which writers maintain from then on; filled in chunks, each a transaction of its
//! own; then made `Ready`. If it fails the index is taken out again; with CONCURRENTLY, or when
//! the session ends half-way, it stays as it is, not valid, and DROP INDEX removes it.
//!
//! ```text
//! announce -> applied -> drain (writers that do not know it have ended) -> chunk* -> ready -> applied
//! ```
//! Whenever something must be awaited, the statement runs again from its start and goes on from
//! the [`Progress`] that its transaction keeps.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sqlparser::ast;
use storage::{Direction, GroupId, Position};

use super::draft::{Done, Draft};
use super::rows::duplicate;
use super::run::Outside;
use crate::catalog::{self, IndexState, Object, Relation, Table, TableId, TableKind};
use crate::exec::{ExecCx, Writer};
use crate::functions::Evaluation;
use crate::plan::{self, BindCx};
use crate::transaction::{
    EventKind, Identity, Isolation, Locked, Locks, Policy, RowChange, RowMode, Stop, TableMode,
    Transaction, Wait,
};
use crate::{Error, state};

/// Up to so many rows an index is built within the statement's own entry.
const INLINE_ROWS_MAX: usize = if cfg!(test) { 100 } else { 10_000 };
/// Rows of one chunk: what is locked at once.
const CHUNK_ROWS: usize = if cfg!(test) { 64 } else { 2_000 };

/// How far the build has come.
pub(crate) struct Progress {
    group: GroupId,
    table: TableId,
    index: u32,
    phase: Phase,
    /// The last row that was looked at.
    cursor: Option<Bytes>,
    /// Rows that others had locked: done one by one, so that the build never waits for one row
    /// while it holds others.
    skipped: VecDeque<Bytes>,
    /// The step's transaction, which keeps its place in the queue of a lock while the statement
    /// waits.
    step: Option<Transaction>,
    /// What went wrong.
    error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Drain,
    Fill,
    Applied,
    /// To be taken out again because of the error.
    Abandon,
    /// It is out; the error remains to be told.
    Failed,
}

/// Should this CREATE INDEX be built beside the writers? Not in a transaction block, nor of few
/// rows.
pub(super) fn is_large(
    create: &ast::CreateIndex,
    bind: &BindCx<'_>,
    cx: &mut ExecCx<'_>,
) -> Done<bool> {
    let tx = &cx.transaction;
    if tx.build.is_some() {
        return Ok(true);
    }
    if tx.in_block() || tx.has_ddl() || tx.has_written() {
        return Ok(false);
    }
    let catalog = Arc::clone(cx.transaction.catalog());
    let (role, login, path) = (cx.role, cx.login, cx.path.to_vec());
    let mut outside = Outside { bind, cx };
    let draft = Draft::new(&catalog, &mut outside, role, login, &path);
    // Errors come from the deciding that follows, either way.
    let table = match draft.find(&create.table_name)? {
        Some(Relation::Table(table)) if table.kind == TableKind::Table => table,
        _ => return Ok(false),
    };
    if !catalog.has_role(role, table.owner) {
        return Ok(false);
    }
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = cx
        .transaction
        .scan(table.group, table.tree, all, Direction::Forward)?;
    Ok(create.concurrently || rows.take(INLINE_ROWS_MAX + 1).count() > INLINE_ROWS_MAX)
}

/// Goes on with the build, from its start if it has none.
pub(super) fn create(
    statement: &ast::CreateIndex,
    bind: &BindCx<'_>,
    cx: &mut ExecCx<'_>,
) -> Result<String, Stop> {
    let Some(mut progress) = cx.transaction.build.take() else {
        return announce(statement, bind, cx);
    };
    let done = advance(&mut progress, cx);
    match done {
        Ok(()) => Ok("CREATE INDEX".to_owned()),
        Err(Stop::Error(error)) if progress.phase == Phase::Fill && !statement.concurrently => {
            progress.phase = Phase::Abandon;
            progress.step = None;
            progress.error = Some(error);
            cx.transaction.build = Some(progress);
            Err(Stop::Wait(Wait::Again))
        }
        Err(Stop::Error(error)) => Err(Stop::Error(error)),
        Err(stop) => {
            cx.transaction.build = Some(progress);
            Err(stop)
        }
    }
}

fn identity(cx: &ExecCx<'_>) -> Identity {
    let setting = cx.evaluation.environment.setting("application_name");
    Identity {
        role: cx.role,
        login: cx.catalog.role_name(cx.login),
        application_name: setting.unwrap_or_default(),
        trace: String::new(),
    }
}

fn new_step(group: GroupId, cx: &ExecCx<'_>) -> Done<Transaction> {
    let mut step = Transaction::new(
        cx.transaction.engine(),
        Isolation::ReadCommitted,
        false,
        false,
    );
    step.begin_statement(None, &[GroupId::DIRECTORY, group], Some(group))?;
    Ok(step)
}

/// Decides the index as any other and commits its descriptor in state `Building`.
fn announce(
    statement: &ast::CreateIndex,
    bind: &BindCx<'_>,
    cx: &mut ExecCx<'_>,
) -> Result<String, Stop> {
    let catalog = Arc::clone(cx.transaction.catalog());
    let (role, login, path) = (cx.role, cx.login, cx.path.to_vec());
    let mut outside = Outside { bind, cx };
    let mut draft = Draft::new(&catalog, &mut outside, role, login, &path);
    let Some((id, index)) = draft.create_index(statement, TableMode::AccessShare)? else {
        let notices = std::mem::take(&mut draft.notices);
        notices.into_iter().for_each(|n| cx.transaction.notice(n));
        return Ok("CREATE INDEX".to_owned());
    };
    draft.edit_table(id, |t| {
        for i in t.indexes.iter_mut().filter(|i| i.id == index) {
            i.state = IndexState::Building;
        }
    })?;
    let group = draft.table(id)?.group;
    let changes = draft.take_changes();
    let names = std::mem::take(&mut draft.reserved);
    let mut step = new_step(group, cx)?;
    if let Some((names, owner)) = names {
        step.reserve(&names, owner)?;
    }
    for change in &changes {
        for row in catalog::rows(change) {
            step.write_system(change.group, row.tree, row.key, row.value)?;
        }
    }
    let position = committed(step, group, cx)?;
    cx.transaction.build = Some(Box::new(Progress {
        group,
        table: id,
        index,
        phase: Phase::Drain,
        cursor: None,
        skipped: VecDeque::new(),
        step: None,
        error: None,
    }));
    Err(Stop::Wait(Wait::Position(group, position)))
}

fn committed(mut step: Transaction, group: GroupId, cx: &ExecCx<'_>) -> Done<Position> {
    let committed = step.commit(&identity(cx))?;
    match committed.entry {
        Some((_, position)) => Ok(position),
        None => step.position(group),
    }
}

fn advance(progress: &mut Progress, cx: &mut ExecCx<'_>) -> Done<()> {
    let group = progress.group;
    if progress.phase == Phase::Abandon {
        let position = abandon(progress, cx)?;
        progress.phase = Phase::Failed;
        return Err(Stop::Wait(Wait::Position(group, position)));
    }
    if let Some(error) = progress.error.take() {
        return Err(error.into());
    }
    if progress.phase == Phase::Drain {
        let step = match &mut progress.step {
            Some(step) => step,
            none => none.insert(new_step(group, cx)?),
        };
        let table = table_of(step, progress.table)?;
        step.lock_table(group, table.tree, TableMode::Share, Policy::Wait)?;
        // Held for a moment only: whoever writes from now on knows the index.
        progress.step = None;
        progress.phase = Phase::Fill;
    }
    if progress.phase == Phase::Fill {
        cx.tick()?;
        if let Some(position) = chunk(progress, cx)? {
            return Err(Stop::Wait(Wait::Position(group, position)));
        }
        let position = ready(progress, cx)?;
        progress.phase = Phase::Applied;
        return Err(Stop::Wait(Wait::Position(group, position)));
    }
    Ok(())
}

fn table_of(step: &Transaction, id: TableId) -> Done<Arc<Table>> {
    step.catalog()
        .table(id)
        .cloned()
        .ok_or_else(|| gone().into())
}

fn gone() -> Error {
    Error::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the index was dropped while it was being built",
    )
}

/// Adds the entries of the next rows; `None` when there are no more rows.
fn chunk(progress: &mut Progress, cx: &mut ExecCx<'_>) -> Done<Option<Position>> {
    let group = progress.group;
    let mut step = match progress.step.take() {
        Some(mut step) => {
            step.begin_statement(None, &[GroupId::DIRECTORY, group], Some(group))?;
            step
        }
        None => new_step(group, cx)?,
    };
    let mark = step.statement_mark();
    let skipped = progress.skipped.len();
    match fill(progress, &mut step, cx) {
        Ok(false) => Ok(None),
        Ok(true) => {
            step.unmark();
            committed(step, group, cx).map(Some)
        }
        Err(Stop::Error(error)) => Err(error.into()),
        Err(stop) => {
            // The place in the queue of the one row's lock is kept.
            progress.skipped.truncate(skipped);
            step.undo_to(&mark, Locks::Keep)?;
            step.unmark();
            progress.step = Some(step);
            Err(stop)
        }
    }
}

/// One step: a row that was skipped, waiting for it, or the next rows, waiting for none. False
/// when nothing is left.
fn fill(progress: &mut Progress, step: &mut Transaction, cx: &mut ExecCx<'_>) -> Done<bool> {
    let catalog = Arc::clone(step.catalog());
    let table = table_of(step, progress.table)?;
    let at = table
        .indexes
        .iter()
        .position(|i| i.id == progress.index)
        .ok_or_else(gone)?;
    let writer = plan::writer(&catalog, table.id)?;
    step.lock_table(
        table.group,
        table.tree,
        TableMode::RowExclusive,
        Policy::Wait,
    )?;
    if let Some(key) = progress.skipped.front().cloned() {
        row(&table, at, &writer, &key, Policy::Wait, step, &catalog, cx)?;
        progress.skipped.pop_front();
        return Ok(true);
    }
    let keys = next_keys(&table, progress.cursor.as_ref(), step)?;
    let Some(last) = keys.last().cloned() else {
        return Ok(false);
    };
    for key in keys {
        if !row(
            &table,
            at,
            &writer,
            &key,
            Policy::SkipLocked,
            step,
            &catalog,
            cx,
        )? {
            progress.skipped.push_back(key);
        }
    }
    progress.cursor = Some(last);
    Ok(true)
}

fn next_keys(table: &Table, cursor: Option<&Bytes>, step: &mut Transaction) -> Done<Vec<Bytes>> {
    let from = cursor.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
    let range = (from, Bound::Unbounded);
    let rows = step.scan(table.group, table.tree, range, Direction::Forward)?;
    rows.take(CHUNK_ROWS)
        .map(|row| row.map(|(key, _)| key))
        .collect()
}

/// Adds the entry of one row; false if somebody has the row (or its unique key) locked.
#[allow(clippy::too_many_arguments)]
fn row(
    table: &Arc<Table>,
    at: usize,
    writer: &Writer,
    key: &Bytes,
    policy: Policy,
    step: &mut Transaction,
    catalog: &Arc<catalog::Catalog>,
    cx: &mut ExecCx<'_>,
) -> Done<bool> {
    // Under its lock the row is what it will be until the step is committed; whoever changes it
    // afterwards maintains the index.
    if step.lock_row(table.group, table.tree, key, RowMode::Share, policy)? == Locked::Skipped {
        return Ok(false);
    }
    match step.current(table.group, table.tree, key)? {
        Some(bytes) => entry(table, at, writer, key, &bytes, policy, step, catalog, cx),
        None => Ok(true),
    }
}

#[allow(clippy::too_many_arguments)]
fn entry(
    table: &Arc<Table>,
    at: usize,
    writer: &Writer,
    key: &Bytes,
    bytes: &Bytes,
    policy: Policy,
    step: &mut Transaction,
    catalog: &Arc<catalog::Catalog>,
    cx: &mut ExecCx<'_>,
) -> Done<bool> {
    let index = &table.indexes[at];
    let row = writer.read(bytes)?;
    let evaluation = &cx.evaluation;
    let mut own = ExecCx {
        transaction: step,
        catalog,
        role: cx.role,
        login: cx.login,
        path: cx.path,
        cancel: cx.cancel,
        work_mem: cx.work_mem,
        evaluation: Evaluation::new(
            evaluation.format,
            evaluation.statement_start,
            evaluation.environment,
        ),
        locals: Vec::new(),
        deferred: &mut *cx.deferred,
        ticks: 0,
    };
    let Some((entry, unique)) = writer.index_entry(at, &row, key, &mut own)? else {
        return Ok(true);
    };
    if unique {
        let (group, mode) = (table.group, RowMode::Update);
        let locked = own
            .transaction
            .lock_row(group, index.tree, &entry, mode, policy)?;
        if locked == Locked::Skipped {
            return Ok(false);
        }
    }
    match own.transaction.current(table.group, index.tree, &entry)? {
        Some(other) if other == *key => return Ok(true),
        Some(_) if unique => return Err(duplicate(table, index, &row, &own).into()),
        _ => {}
    }
    let change = RowChange {
        key: Bytes::from(entry),
        old: None,
        new: Some(key.clone()),
        index: Vec::new(),
        feed: false,
    };
    own.transaction.write(table.group, index.tree, change)?;
    Ok(true)
}

/// Takes the index out again.
fn abandon(progress: &Progress, cx: &mut ExecCx<'_>) -> Done<Position> {
    let group = progress.group;
    let mut step = new_step(group, cx)?;
    let Ok(old) = table_of(&step, progress.table) else {
        return step.position(group);
    };
    let Some(index) = old.index(progress.index) else {
        return step.position(group);
    };
    let tree = index.tree;
    let mut new = Table::clone(&old);
    new.indexes.retain(|i| i.id != progress.index);
    new.since = step.position(group)?;
    let (old, new) = (Object::Table(old), Object::Table(Arc::new(new)));
    for row in catalog::rows(&catalog::Change::replace(group, old, new)) {
        step.write_system(group, row.tree, row.key, row.value)?;
    }
    step.drop_tree(group, tree)?;
    committed(step, group, cx)
}

/// Commits the index as `Ready`.
fn ready(progress: &Progress, cx: &mut ExecCx<'_>) -> Done<Position> {
    let group = progress.group;
    let mut step = new_step(group, cx)?;
    let old = table_of(&step, progress.table)?;
    let mut new = Table::clone(&old);
    let index = new
        .indexes
        .iter_mut()
        .find(|i| i.id == progress.index)
        .ok_or_else(gone)?;
    index.state = IndexState::Ready;
    new.since = step.position(group)?;
    let name = format!("{}.{}", step.catalog().schema_name(new.schema), new.name);
    let (tree, new) = (new.tree, Arc::new(new));
    let change = catalog::Change::replace(group, Object::Table(old), Object::Table(new));
    for row in catalog::rows(&change) {
        step.write_system(group, row.tree, row.key, row.value)?;
    }
    let tag = "CREATE INDEX";
    let payload = serde_json::json!({ "command": tag, "object": name }).to_string();
    step.event(group, EventKind::Ddl, tag, Some(tree), Bytes::from(payload))?;
    committed(step, group, cx)
}
