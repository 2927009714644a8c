//! CREATE INDEX and CREATE MATERIALIZED VIEW over a table with many rows, without stopping its
//! writers: announced in state `Building`, which writers maintain from then on; filled in chunks, each
//! a transaction of its own; then made `Ready`. If it fails it is taken out again. With CONCURRENTLY,
//! or when the session ends half-way, an index stays as it is, not valid, and DROP INDEX removes it; a
//! projection stays not populated, REFRESH MATERIALIZED VIEW fills it and DROP removes it.
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
use super::projection::written_through;
use super::rows::duplicate;
use super::run::Outside;
use crate::catalog::{self, Catalog, IndexState, Object, Relation, Table, TableId, TableKind};
use crate::exec::{ExecCx, Projected, Writer};
use crate::parse::Ddl;
use crate::plan::{self, BindCx};
use crate::system::projections::{Filled, Showing};
use crate::transaction::{
    EventKind, Identity, Isolation, Locked, Locks, Policy, RowChange, RowMode, Stop, TableMode,
    Transaction, Wait,
};
use crate::{Error, state};

/// Up to so many rows an index is built within the statement's own entry.
const INLINE_ROWS_MAX: usize = if cfg!(test) { 100 } else { 10_000 };
/// Rows of one chunk: what is locked at once.
const CHUNK_ROWS: usize = if cfg!(test) { 64 } else { 2_000 };

/// What a projection's making is called in the feed: its command tag tells of its rows.
pub(super) const CREATE_PROJECTION: &str = "CREATE MATERIALIZED VIEW";

/// How far the build has come.
pub(crate) struct Progress {
    group: GroupId,
    table: TableId,
    /// Its index that is built; `None`: the table itself, a projection.
    index: Option<u32>,
    tag: &'static str,
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
    filled: Filled,
    shown: Showing,
}

/// What is built.
pub(super) enum Built<'a> {
    /// By CREATE INDEX.
    Index(&'a ast::CreateIndex),
    /// By CREATE MATERIALIZED VIEW.
    Projection(&'a ast::CreateView),
    /// By REFRESH MATERIALIZED VIEW: a projection that was left.
    Left(&'a ast::ObjectName),
}

impl<'a> Built<'a> {
    /// By a statement, if it builds something.
    pub fn by(ddl: &'a Ddl) -> Option<Built<'a>> {
        match ddl {
            Ddl::Sql(ast::Statement::CreateIndex(create)) => Some(Built::Index(create)),
            Ddl::Sql(ast::Statement::CreateView(create)) if create.materialized => {
                Some(Built::Projection(create))
            }
            Ddl::Refresh(name) => Some(Built::Left(name)),
            _ => None,
        }
    }

    /// The table whose rows it is built of.
    fn over(&self) -> Option<&ast::ObjectName> {
        match self {
            Built::Index(create) => Some(&create.table_name),
            Built::Projection(create) => base_name(&create.query),
            Built::Left(name) => Some(name),
        }
    }

    /// Is it to be left as it is when it fails?
    fn stays(&self) -> bool {
        match self {
            Built::Index(create) => create.concurrently,
            Built::Projection(_) => false,
            Built::Left(_) => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many tables are done.
    Drain(usize),
    Fill,
    Applied,
    /// To be taken out again because of the error.
    Abandon,
    /// It is out; the error remains to be told.
    Failed,
}

/// Should it be built beside the writers? Not in a transaction block, nor an index of few rows: a
/// projection's writers write several tables, and whoever locks all of them is soon in a circle.
pub(super) fn is_large(built: &Built<'_>, bind: &BindCx<'_>, cx: &mut ExecCx<'_>) -> Done<bool> {
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
    let Some(over) = built.over() else {
        return Ok(false);
    };
    let table = match draft.find(over) {
        Ok(Some(Relation::Table(table))) if table.kind == TableKind::Table => table,
        _ => return Ok(false),
    };
    if let Built::Left(_) = built {
        return Ok(table.is_filling() && catalog.has_role(role, table.owner));
    }
    if !catalog.has_role(role, table.owner) {
        return Ok(false);
    }
    let concurrently = match built {
        Built::Index(create) => create.concurrently,
        Built::Projection(_) | Built::Left(_) => true,
    };
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = cx
        .transaction
        .scan(table.group, table.tree, all, Direction::Forward)?;
    Ok(concurrently || rows.take(INLINE_ROWS_MAX + 1).count() > INLINE_ROWS_MAX)
}

/// Goes on with the build, from its start if it has none.
pub(super) fn create(
    built: &Built<'_>,
    bind: &BindCx<'_>,
    cx: &mut ExecCx<'_>,
) -> Result<String, Stop> {
    let Some(mut progress) = cx.transaction.build.take() else {
        return announce(built, bind, cx);
    };
    let done = advance(&mut progress, cx);
    if progress.index.is_none() {
        progress.shown.show(progress.filled);
    }
    match done {
        Ok(()) if progress.tag == "SELECT" => Ok(format!("SELECT {}", progress.filled.made)),
        Ok(()) => Ok(progress.tag.to_owned()),
        Err(Stop::Error(error)) if progress.phase == Phase::Fill && !built.stays() => {
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

/// Decides it as any other and commits its descriptor in state `Building`.
fn announce(built: &Built<'_>, bind: &BindCx<'_>, cx: &mut ExecCx<'_>) -> Result<String, Stop> {
    let catalog = Arc::clone(cx.transaction.catalog());
    let (role, login, path) = (cx.role, cx.login, cx.path.to_vec());
    let mut outside = Outside { bind, cx };
    let mut draft = Draft::new(&catalog, &mut outside, role, login, &path);
    let decided = match built {
        Built::Index(create) => draft
            .create_index(create, TableMode::AccessShare)?
            .map(|(id, index)| (id, Some(index), "CREATE INDEX")),
        Built::Projection(create) => {
            let id = draft.create_projection(create)?;
            id.map(|id| (id, None, "SELECT"))
        }
        Built::Left(name) => {
            let id = draft.own_relation(name)?.id;
            Some((id, None, "REFRESH MATERIALIZED VIEW"))
        }
    };
    let Some((id, index, tag)) = decided else {
        let notices = std::mem::take(&mut draft.notices);
        notices.into_iter().for_each(|n| cx.transaction.notice(n));
        let there = match built {
            Built::Index(_) => "CREATE INDEX",
            Built::Projection(_) | Built::Left(_) => CREATE_PROJECTION,
        };
        return Ok(there.to_owned());
    };
    draft.edit_table(id, |t| match index {
        Some(index) => {
            for i in t.indexes.iter_mut().filter(|i| i.id == index) {
                i.state = IndexState::Building;
            }
        }
        None => {
            if let Some(projection) = &mut t.projection {
                projection.state = IndexState::Building;
            }
        }
    })?;
    let table = draft.table(id)?;
    let group = table.group;
    let base = table.depends_on.first().map(|(id, _)| *id);
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
    if index.is_none() && tag == "SELECT" {
        // Its rows come into the feed from now on.
        tell(CREATE_PROJECTION, &table, &mut step)?;
    }
    let position = committed(step, group, cx)?;
    let engine = cx.transaction.engine();
    let total = base.and_then(|base| bind.registry.row_estimate(base));
    cx.transaction.build = Some(Box::new(Progress {
        group,
        table: id,
        index,
        tag,
        shown: engine.fills().showing(id),
        phase: Phase::Drain(0),
        cursor: None,
        skipped: VecDeque::new(),
        step: None,
        error: None,
        filled: Filled {
            done: 0,
            made: 0,
            total: total.map(|rows| rows as u64),
        },
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
    while let Phase::Drain(done) = progress.phase {
        let mut step = match progress.step.take() {
            Some(step) => step,
            None => new_step(group, cx)?,
        };
        match drain(progress, done, &mut step) {
            Ok(true) => progress.phase = Phase::Drain(done + 1),
            Ok(false) => progress.phase = Phase::Fill,
            Err(stop) => {
                progress.step = Some(step);
                return Err(stop);
            }
        }
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

/// Waits for writers that do not know it yet, of one table after the other; false: there is no other.
/// The lock is held for a moment only, and never while another one is waited for.
fn drain(progress: &Progress, done: usize, step: &mut Transaction) -> Done<bool> {
    step.refresh_catalog();
    let table = table_of(step, progress)?;
    let written = match table.projection.is_some() {
        true => written_through(step.catalog(), &table),
        false => vec![table],
    };
    let Some(table) = written.get(done) else {
        return Ok(false);
    };
    step.lock_table(table.group, table.tree, TableMode::Share, Policy::Wait)?;
    Ok(true)
}

fn table_of(step: &Transaction, progress: &Progress) -> Done<Arc<Table>> {
    let table = step.catalog().table(progress.table);
    table.cloned().ok_or_else(|| gone(progress).into())
}

fn gone(progress: &Progress) -> Error {
    let what = match progress.index {
        Some(_) => "index",
        None => "materialized view",
    };
    Error::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the {what} was dropped while it was being built"),
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
    let (skipped, filled) = (progress.skipped.len(), progress.filled);
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
            progress.filled = filled;
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
    let part = Part::of(&catalog, progress)?;
    let over = Arc::clone(part.over());
    let mode = TableMode::RowExclusive;
    step.lock_table(over.group, over.tree, mode, Policy::Wait)?;
    if let Some(key) = progress.skipped.front().cloned() {
        let made = part.add(&key, Policy::Wait, step, &catalog, cx)?;
        progress.filled.made += u64::from(made == Some(true));
        progress.skipped.pop_front();
        return Ok(true);
    }
    let keys = next_keys(&over, progress.cursor.as_ref(), step)?;
    let Some(last) = keys.last().cloned() else {
        return Ok(false);
    };
    for key in keys {
        progress.filled.done += 1;
        match part.add(&key, Policy::SkipLocked, step, &catalog, cx)? {
            Some(made) => progress.filled.made += u64::from(made),
            None => progress.skipped.push_back(key),
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

/// What the rows of a table are put into.
enum Part {
    /// An index of the table, by its place.
    Index(Arc<Table>, usize, Arc<Writer>),
    /// A projection of it.
    Projection(Arc<Projected>),
}

impl Part {
    fn of(catalog: &Arc<Catalog>, progress: &Progress) -> Done<Part> {
        let table = catalog
            .table(progress.table)
            .ok_or_else(|| gone(progress))?;
        let Some(index) = progress.index else {
            return Ok(Part::Projection(plan::projection(catalog, table.id)?));
        };
        let at = table.indexes.iter().position(|i| i.id == index);
        let at = at.ok_or_else(|| gone(progress))?;
        let writer = plan::writer(catalog, table.id)?;
        Ok(Part::Index(Arc::clone(table), at, writer))
    }

    /// The table.
    fn over(&self) -> &Arc<Table> {
        match self {
            Part::Index(table, ..) => table,
            Part::Projection(projected) => projected.base(),
        }
    }

    /// Adds one row; has it an entry or row now? `None`: somebody has locked what it takes.
    fn add(
        &self,
        key: &Bytes,
        policy: Policy,
        step: &mut Transaction,
        catalog: &Arc<Catalog>,
        cx: &mut ExecCx<'_>,
    ) -> Done<Option<bool>> {
        let mut deferred = std::mem::take(&mut *cx.deferred);
        let made = cx.beside(catalog, Some((step, &mut deferred)), |own| match self {
            Part::Index(table, at, writer) => row(table, *at, writer, key, policy, own),
            Part::Projection(projected) => projected.refresh(key, policy, own),
        });
        *cx.deferred = deferred;
        made
    }
}

/// Adds the entry of one row to an index; `None` if somebody has the row (or its unique key) locked.
fn row(
    table: &Arc<Table>,
    at: usize,
    writer: &Writer,
    key: &Bytes,
    policy: Policy,
    own: &mut ExecCx<'_>,
) -> Done<Option<bool>> {
    // Under its lock the row is what it will be until the step is committed; whoever changes it
    // afterwards maintains the index.
    let (group, tree) = (table.group, table.tree);
    let locked = own
        .transaction
        .lock_row(group, tree, key, RowMode::Share, policy)?;
    if locked == Locked::Skipped {
        return Ok(None);
    }
    let Some(bytes) = own.transaction.current(group, tree, key)? else {
        return Ok(Some(false));
    };
    let index = &table.indexes[at];
    let row = writer.read(&bytes)?;
    let Some((entry, unique)) = writer.index_entry(at, &row, key, own)? else {
        return Ok(Some(false));
    };
    if unique {
        let locked =
            own.transaction
                .lock_row(group, index.tree, &entry, RowMode::Update, policy)?;
        if locked == Locked::Skipped {
            return Ok(None);
        }
    }
    match own.transaction.current(group, index.tree, &entry)? {
        Some(other) if other == *key => return Ok(Some(true)),
        Some(_) if unique => return Err(duplicate(table, index, &row, own).into()),
        _ => {}
    }
    let change = RowChange {
        key: Bytes::from(entry),
        old: None,
        new: Some(key.clone()),
        index: Vec::new(),
        feed: false,
    };
    own.transaction.write(group, index.tree, change)?;
    Ok(Some(true))
}

/// Takes it out again.
fn abandon(progress: &Progress, cx: &mut ExecCx<'_>) -> Done<Position> {
    let group = progress.group;
    let mut step = new_step(group, cx)?;
    let Some(old) = step.catalog().table(progress.table).cloned() else {
        return step.position(group);
    };
    let Some(id) = progress.index else {
        let trees = old.trees();
        if old.is_filling() {
            put(catalog::Change::drop(group, Object::Table(old)), &mut step)?;
            for tree in trees {
                step.drop_tree(group, tree)?;
            }
        }
        return committed(step, group, cx);
    };
    let Some(index) = old.index(id) else {
        return step.position(group);
    };
    let tree = index.tree;
    let mut new = Table::clone(&old);
    new.indexes.retain(|i| i.id != id);
    replace(old, new, group, &mut step)?;
    step.drop_tree(group, tree)?;
    committed(step, group, cx)
}

/// Commits it as `Ready`.
fn ready(progress: &Progress, cx: &mut ExecCx<'_>) -> Done<Position> {
    let group = progress.group;
    let mut step = new_step(group, cx)?;
    let old = step.catalog().table(progress.table).cloned();
    let old = old.ok_or_else(|| gone(progress))?;
    let mut new = Table::clone(&old);
    let state = match progress.index {
        Some(id) => {
            let index = new.indexes.iter_mut().find(|i| i.id == id);
            index.map(|index| &mut index.state)
        }
        None => new.projection.as_mut().map(|p| &mut p.state),
    };
    *state.ok_or_else(|| gone(progress))? = IndexState::Ready;
    replace(Arc::clone(&old), new, group, &mut step)?;
    if progress.index.is_some() {
        tell(progress.tag, &old, &mut step)?;
    }
    committed(step, group, cx)
}

fn replace(old: Arc<Table>, mut new: Table, group: GroupId, step: &mut Transaction) -> Done<()> {
    new.since = step.position(group)?;
    let (old, new) = (Object::Table(old), Object::Table(Arc::new(new)));
    put(catalog::Change::replace(group, old, new), step)
}

fn put(change: catalog::Change, step: &mut Transaction) -> Done<()> {
    for row in catalog::rows(&change) {
        step.write_system(change.group, row.tree, row.key, row.value)?;
    }
    Ok(())
}

/// The event of DDL.
fn tell(tag: &str, table: &Table, step: &mut Transaction) -> Done<()> {
    let name = format!(
        "{}.{}",
        step.catalog().schema_name(table.schema),
        table.name
    );
    let payload = serde_json::json!({ "command": tag, "object": name }).to_string();
    let payload = Bytes::from(payload);
    step.event(table.group, EventKind::Ddl, tag, Some(table.tree), payload)
}

/// The base table of a projection as its query names it.
fn base_name(query: &ast::Query) -> Option<&ast::ObjectName> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    match &select.from.first()?.relation {
        ast::TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}
