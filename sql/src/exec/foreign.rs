//! Foreign keys, within one owner (for two see `crate::integrity`): references are checked under KEY SHARE, removed keys act on
//! the rows that reference them; NO ACTION waits for the end of the statement, deferred
//! constraints for COMMIT. What waits counts against the transaction's size, and a long INSERT or
//! COPY makes most of its checks on the way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::projection::{Fresh, Projected};
use super::referencing::referencing;
use super::trigger::{Change, Event, Rank};
use super::writer::{Writer, table_of};
use crate::catalog::{ForeignKey, IndexKey, ReferentialAction, Table, Timing};
use crate::error::{Error, state};
use crate::exec::{ExecCx, Row, row_bytes};
use crate::integrity::{self, Gone};
use crate::plpgsql::Operation;
use crate::transaction::{Policy, RowMode, Stop, TableMode, Wait};
use crate::types::key::encode_key;
use crate::types::{CastContext, Datum, cast};

/// A check that waits.
#[derive(Clone, Debug)]
pub enum DeferredCheck {
    /// The parent of a referencing row must exist.
    Parent {
        /// The referencing table.
        child: Arc<Table>,
        /// Its constraint.
        key: Arc<ForeignKey>,
        /// The referencing values.
        values: Vec<Datum>,
    },
    /// Nothing may reference a key that is gone.
    Children {
        /// The referenced table.
        parent: Arc<Table>,
        /// The referencing table.
        child: Arc<Table>,
        /// Its constraint.
        key: Arc<ForeignKey>,
        /// The values that were referenced.
        values: Vec<Datum>,
    },
}

impl DeferredCheck {
    fn key(&self) -> &ForeignKey {
        match self {
            DeferredCheck::Parent { key, .. } | DeferredCheck::Children { key, .. } => key,
        }
    }

    /// Bytes that it keeps.
    fn bytes(&self) -> u64 {
        let (DeferredCheck::Parent { values, .. } | DeferredCheck::Children { values, .. }) = self;
        (std::mem::size_of::<Work>() + row_bytes(values)) as u64
    }

    /// Can no later row of an INSERT change the answer? One into the referenced table can.
    fn stands(&self) -> bool {
        match self {
            DeferredCheck::Parent { child, key, .. } => key.references != child.id,
            DeferredCheck::Children { .. } => false,
        }
    }

    /// Until the transaction ends the tables that are looked at are those that the check knows. What its
    /// rows are written in has the statement's lock.
    fn lock(&self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        match self {
            DeferredCheck::Parent { child, key, .. } => {
                let parent = table_of(key.references, cx)?;
                match parent.group == child.group {
                    true => lock_table(&parent, TableMode::RowShare, cx),
                    false => Ok(()),
                }
            }
            DeferredCheck::Children { child, .. } => lock_table(child, TableMode::RowShare, cx),
        }
    }

    /// Runs the check now.
    ///
    /// # Errors
    /// 23503.
    pub fn run(&self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        self.lock(cx)?;
        match self {
            DeferredCheck::Parent { child, key, values } => check_parent(child, key, values, cx),
            DeferredCheck::Children {
                parent,
                child,
                key,
                values,
            } => check_children(parent, child, key, values, cx),
        }
    }
}

/// Foreign keys lock the tables at their other ends, as in PostgreSQL: a table that gets other trees
/// meanwhile (TRUNCATE, ALTER TABLE ... TYPE) has other rows and row locks.
fn lock_table(table: &Table, mode: TableMode, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let (group, tree) = (table.group, table.tree);
    cx.transaction
        .lock_table(group, tree, mode, Policy::Wait)
        .map(drop)
}

/// What a statement still has to do for foreign keys once its rows are written.
#[derive(Default)]
pub(super) struct After {
    queue: VecDeque<Work>,
    /// What [`After::run_ahead`] has left for the end of the statement.
    left: VecDeque<Work>,
    /// Bytes that both keep.
    bytes: u64,
    /// Checks, actions and triggers that are done.
    done: u64,
    /// Removed values that other owners may reference.
    gone: Vec<Gone>,
}

/// One thing to do, in the order of rows and constraints.
enum Work {
    Check(DeferredCheck),
    Action(Box<Action>),
    Project(Box<Project>),
    Trigger(Box<Event>),
}

/// Projected rows to make anew, for a row that their projection joins is another one.
struct Project {
    projection: Arc<Projected>,
    source: usize,
    values: Vec<Datum>,
    fresh: Fresh,
}

/// What a foreign key does when a referenced key is gone.
struct Action {
    parent: Arc<Table>,
    child: Arc<Table>,
    key: Arc<ForeignKey>,
    action: ReferentialAction,
    before: Vec<Datum>,
    now: Option<Vec<Datum>>,
}

impl Work {
    /// Bytes that it keeps.
    fn bytes(&self) -> u64 {
        match self {
            Work::Check(check) => check.bytes(),
            Work::Action(action) => {
                let now = action.now.as_ref().map_or(0, |now| row_bytes(now));
                let values = row_bytes(&action.before) + now;
                (std::mem::size_of::<Work>() + std::mem::size_of::<Action>() + values) as u64
            }
            Work::Project(project) => {
                let own = std::mem::size_of::<Work>() + std::mem::size_of::<Project>();
                (own + row_bytes(&project.values)) as u64
            }
            Work::Trigger(event) => std::mem::size_of::<Work>() as u64 + event.bytes(),
        }
    }
}

/// Checks that come together before they are made on the way.
const CHECKS_AHEAD: usize = 256;

pub(super) fn slots(table: &Table, ids: &[crate::catalog::ColumnId]) -> Vec<usize> {
    ids.iter()
        .filter_map(|id| table.column_index(*id))
        .collect()
}

/// What a row references by a foreign key of its table.
pub(super) fn reference_of(table: &Table, key: &ForeignKey, row: &[Datum]) -> Vec<Datum> {
    pick(row, &slots(table, &key.columns))
}

pub(super) fn pick(row: &[Datum], slots: &[usize]) -> Vec<Datum> {
    slots.iter().map(|slot| row[*slot].clone()).collect()
}

impl After {
    /// A row was inserted.
    pub(super) fn inserted(
        &mut self,
        writer: &Writer,
        row: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        if writer.has_triggers() {
            self.queue_triggers(writer, Change::insert(row), Rank::BeforeKeys, cx)?;
        }
        for key in &writer.foreign {
            let values = reference_of(writer.table(), key, row);
            self.reference(writer.table(), key, values);
        }
        for (projection, source) in &writer.joined {
            if projection.may_precede(*source) {
                let fresh = projection.fresh(*source, None, row);
                self.project(writer, (projection, *source), row, fresh);
            }
        }
        match writer.has_triggers() {
            true => self.queue_triggers(writer, Change::insert(row), Rank::BehindKeys, cx),
            false => Ok(()),
        }
    }

    /// The rows that are made of this row of a source are to be made anew.
    fn project(
        &mut self,
        writer: &Writer,
        (projection, source): (&Arc<Projected>, usize),
        row: &[Datum],
        fresh: Fresh,
    ) {
        let Some(key) = projection.key(source) else {
            return;
        };
        let values = pick(row, &slots(writer.table(), &key.referenced_columns));
        if !values.iter().any(Datum::is_null) {
            self.push(Work::Project(Box::new(Project {
                projection: Arc::clone(projection),
                source,
                values,
                fresh,
            })));
        }
    }

    /// After the actions of foreign keys, which may take such rows away.
    fn project_changed(&mut self, writer: &Writer, old: &[Datum], new: &[Datum]) {
        for (projection, source) in &writer.joined {
            if !projection.reads_change(*source, old, new) {
                continue;
            }
            let fresh = projection.fresh(*source, Some(old), new);
            self.project(writer, (projection, *source), old, fresh);
            let key = projection.key(*source);
            let slots = key.map(|key| slots(writer.table(), &key.referenced_columns));
            if slots.is_some_and(|slots| pick(old, &slots) != pick(new, &slots)) {
                self.project(writer, (projection, *source), new, fresh);
            }
        }
    }

    /// An AFTER trigger is to fire.
    pub(super) fn push_event(&mut self, event: Event) {
        self.push(Work::Trigger(Box::new(event)));
    }

    fn push(&mut self, work: Work) {
        self.bytes += work.bytes();
        self.queue.push_back(work);
    }

    /// Takes the first work out of the queue.
    fn pop(&mut self) -> Option<Work> {
        let work = self.queue.pop_front()?;
        self.bytes -= work.bytes();
        Some(work)
    }

    /// Checks and actions that are done.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    fn reference(&mut self, child: &Arc<Table>, key: &Arc<ForeignKey>, values: Vec<Datum>) {
        let nulls = values.iter().filter(|value| value.is_null()).count();
        if nulls > 0 && (!key.full || nulls == values.len()) {
            return;
        }
        self.push(Work::Check(DeferredCheck::Parent {
            child: child.clone(),
            key: key.clone(),
            values,
        }));
    }

    /// A row was replaced; `set` are the columns that the statement sets.
    pub(super) fn updated(
        &mut self,
        writer: &Writer,
        old: &Row,
        new: &Row,
        set: &[usize],
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        if !writer.has_triggers() {
            self.updated_keys(writer, old, new);
            return Ok(());
        }
        let change = Change::update(old, new, set);
        self.queue_triggers(writer, change, Rank::BeforeKeys, cx)?;
        self.updated_keys(writer, old, new);
        self.queue_triggers(writer, change, Rank::BehindKeys, cx)
    }

    /// Values are there no more that other owners may reference.
    fn gone(&mut self, writer: &Writer, old: &[Datum], new: Option<&[Datum]>) {
        for one in removed(writer, old, new) {
            self.bytes += gone_bytes(&one.values);
            self.gone.push(one);
        }
    }

    fn updated_keys(&mut self, writer: &Writer, old: &[Datum], new: &[Datum]) {
        self.gone(writer, old, Some(new));
        for key in &writer.foreign {
            let slots = slots(writer.table(), &key.columns);
            if slots.iter().any(|slot| old[*slot] != new[*slot]) {
                self.reference(writer.table(), key, pick(new, &slots));
            }
        }
        for reference in &writer.referenced {
            let slots = slots(writer.table(), &reference.key.referenced_columns);
            if slots.iter().any(|slot| old[*slot] != new[*slot]) {
                let (before, now) = (pick(old, &slots), pick(new, &slots));
                let action = reference.key.on_update;
                self.act(writer, reference, action, before, Some(now));
            }
        }
        self.project_changed(writer, old, new);
    }

    /// A row was removed.
    pub(super) fn deleted(
        &mut self,
        writer: &Writer,
        old: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        if !writer.has_triggers() {
            self.deleted_keys(writer, old);
            return Ok(());
        }
        self.queue_triggers(writer, Change::delete(old), Rank::BeforeKeys, cx)?;
        self.deleted_keys(writer, old);
        self.queue_triggers(writer, Change::delete(old), Rank::BehindKeys, cx)
    }

    fn deleted_keys(&mut self, writer: &Writer, old: &[Datum]) {
        self.gone(writer, old, None);
        for reference in &writer.referenced {
            let slots = slots(writer.table(), &reference.key.referenced_columns);
            let before = pick(old, &slots);
            let action = reference.key.on_delete;
            self.act(writer, reference, action, before, None);
        }
        for (projection, source) in &writer.joined {
            self.project(writer, (projection, *source), old, Fresh::default());
        }
    }

    fn act(
        &mut self,
        writer: &Writer,
        reference: &super::writer::Referenced,
        action: ReferentialAction,
        before: Vec<Datum>,
        now: Option<Vec<Datum>>,
    ) {
        if before.iter().any(Datum::is_null) {
            return;
        }
        let (parent, child) = (writer.table().clone(), reference.table.clone());
        let key = reference.key.clone();
        self.push(match action {
            ReferentialAction::NoAction => Work::Check(DeferredCheck::Children {
                parent,
                child,
                key,
                values: before,
            }),
            ReferentialAction::Restrict
            | ReferentialAction::Cascade
            | ReferentialAction::SetNull
            | ReferentialAction::SetDefault => Work::Action(Box::new(Action {
                parent,
                child,
                key,
                action,
                before,
                now,
            })),
        });
    }

    /// What follows from it goes to the end of the queue, as in PostgreSQL.
    fn carry_out(&mut self, action: &Action, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let (child, key, before) = (&action.child, &action.key, &action.before);
        if action.action == ReferentialAction::Restrict {
            lock_table(child, TableMode::RowShare, cx)?;
            if !referencing(child, key, before, 1, cx)?.is_empty() {
                let error = still_referenced(&action.parent, child, key, before, cx);
                return Err(Stop::Error(error));
            }
            return Ok(());
        }
        lock_table(child, TableMode::RowExclusive, cx)?;
        let writer = crate::plan::writer(cx.catalog, child.id)?;
        self.follow(&writer, action, cx)?;
        if writer.has_before_triggers() && action.parent.group == child.group {
            // They may have kept rows from being changed.
            self.push(Work::Check(DeferredCheck::Children {
                parent: action.parent.clone(),
                child: child.clone(),
                key: key.clone(),
                values: before.clone(),
            }));
        }
        Ok(())
    }

    /// CASCADE, SET NULL, SET DEFAULT on the referencing rows.
    fn follow(
        &mut self,
        writer: &Writer,
        action: &Action,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let (child, key, before) = (&action.child, &action.key, &action.before);
        let (action, now) = (action.action, action.now.as_deref());
        let columns = slots(child, &key.columns);
        for row_key in referencing(child, key, before, usize::MAX, cx)? {
            cx.tick()?;
            self.fits(cx)?;
            let mode = RowMode::Update;
            cx.transaction
                .lock_row(child.group, child.tree, &row_key, mode, Policy::Wait)?;
            let Some(bytes) = cx.transaction.current(child.group, child.tree, &row_key)? else {
                return Err(Stop::Wait(Wait::Again));
            };
            let old = writer.read(&bytes)?;
            if action == ReferentialAction::Cascade && now.is_none() {
                self.delete(writer, &row_key, &bytes, &old, cx)?;
                continue;
            }
            let mut new = old.clone();
            self.referenced_values(writer, key, action, &columns, now, &mut new, cx)?;
            self.update(writer, &row_key, &bytes, &old, new, &columns, cx)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn referenced_values(
        &mut self,
        writer: &Writer,
        key: &ForeignKey,
        action: ReferentialAction,
        columns: &[usize],
        now: Option<&[Datum]>,
        new: &mut Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let chosen = slots(writer.table(), &key.set_columns);
        for (at, slot) in columns.iter().enumerate() {
            match (action, now) {
                (ReferentialAction::Cascade, Some(now)) => {
                    let target = writer.table().columns[*slot].ty;
                    new[*slot] = convert(&now[at], target, cx)?;
                }
                (ReferentialAction::SetDefault, _)
                    if now.is_some() || chosen.is_empty() || chosen.contains(slot) =>
                {
                    let default = writer.defaults.iter().find(|(own, _)| own == slot);
                    new[*slot] = match default {
                        Some((_, expr)) => expr.eval(&[], &super::writer::empty_frame(), cx)?,
                        None => Datum::Null,
                    };
                }
                (ReferentialAction::SetNull, _)
                    if now.is_some() || chosen.is_empty() || chosen.contains(slot) =>
                {
                    new[*slot] = Datum::Null;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What waits counts with what the transaction has written.
    ///
    /// # Errors
    /// 54000.
    pub(super) fn fits(&self, cx: &ExecCx<'_>) -> Result<(), Stop> {
        Ok(cx.transaction.fits(self.bytes + cx.deferred.bytes)?)
    }

    /// The first check goes to the transaction.
    fn defer(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        if let Some(Work::Check(check)) = self.queue.front() {
            check.lock(cx)?;
        }
        if let Some(Work::Check(check)) = self.pop() {
            cx.deferred.push(check);
        }
        self.fits(cx)
    }

    /// Called between two rows of an INSERT or COPY: makes the checks that have come together, if
    /// they are many. Those that a later row may still satisfy are left for the end.
    pub(super) fn run_ahead(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        self.fits(cx)?;
        if self.queue.len() < CHECKS_AHEAD {
            return Ok(());
        }
        while let Some(work) = self.queue.front() {
            cx.tick()?;
            match work {
                Work::Check(check) if is_deferred(check.key(), cx) => self.defer(cx)?,
                Work::Check(check) if check.stands() => {
                    check.run(cx)?;
                    self.pop();
                    self.done += 1;
                }
                Work::Check(_) | Work::Action(_) | Work::Project(_) | Work::Trigger(_) => {
                    self.left.extend(self.queue.pop_front());
                }
            }
        }
        Ok(())
    }

    /// Runs what is due at the end of the statement; deferred checks go to the transaction.
    pub(super) fn run(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        self.left.append(&mut self.queue);
        std::mem::swap(&mut self.left, &mut self.queue);
        while let Some(work) = self.queue.front() {
            cx.tick()?;
            if matches!(work, Work::Check(check) if is_deferred(check.key(), cx)) {
                self.defer(cx)?;
                continue;
            }
            let Some(work) = self.pop() else { break };
            let done = match &work {
                Work::Check(check) => check.run(cx),
                Work::Action(action) => self.carry_out(action, cx),
                Work::Project(work) => {
                    let (source, values) = (work.source, &work.values);
                    work.projection
                        .parent_changed(source, values, work.fresh, cx)
                }
                Work::Trigger(event) => event.fire(cx),
            };
            if let Err(stop) = done {
                // What has to wait stays in the queue: COPY calls again when the waiting is over.
                self.bytes += work.bytes();
                self.queue.push_front(work);
                return Err(stop);
            }
            self.fits(cx)?;
            self.done += 1;
        }
        for one in cx.transaction.intents().take_gone() {
            self.bytes += gone_bytes(&one.values);
            self.gone.push(one);
        }
        if !self.gone.is_empty() {
            integrity::ask(&self.gone, cx)?;
            let gone = std::mem::take(&mut self.gone);
            self.bytes -= gone.iter().map(|one| gone_bytes(&one.values)).sum::<u64>();
        }
        Ok(())
    }

    /// Replaces a row whose lock is held, with its BEFORE triggers; the row as it is then, or
    /// `None` if one of them keeps it from being changed.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn update(
        &mut self,
        writer: &Writer,
        key: &[u8],
        bytes: &Bytes,
        old: &Row,
        mut new: Row,
        set: &[usize],
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        if writer.has_before_triggers() {
            let change = Change::update(old, &new, set);
            let Some(given) = writer.fire_first(Timing::Before, change, cx)? else {
                return Ok(None);
            };
            new = given;
            writer.check_untouched(key, bytes, Operation::Update, cx)?;
            writer.lock_if_key_changes(key, old, &new, cx)?;
        }
        writer.complete(&mut new, cx)?;
        writer.update(key, bytes, old, &new, cx)?;
        self.updated(writer, old, &new, set, cx)?;
        Ok(Some(new))
    }

    /// Removes a row whose lock is held, with its BEFORE triggers; false if one of them keeps it.
    pub(super) fn delete(
        &mut self,
        writer: &Writer,
        key: &[u8],
        bytes: &Bytes,
        old: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<bool, Stop> {
        if writer.has_before_triggers() {
            let change = Change::delete(old);
            if writer.fire_first(Timing::Before, change, cx)?.is_none() {
                return Ok(false);
            }
            writer.check_untouched(key, bytes, Operation::Delete, cx)?;
        }
        writer.delete(key, bytes, old, cx)?;
        self.deleted(writer, old, cx)?;
        Ok(true)
    }
}

/// Values of a row that are there no more and that other owners may reference.
fn removed<'a>(
    writer: &'a Writer,
    old: &'a [Datum],
    new: Option<&'a [Datum]>,
) -> impl Iterator<Item = Gone> + 'a {
    let same = move |slot: &usize| new.is_some_and(|new| old[*slot] == new[*slot]);
    let gone = writer
        .asked
        .iter()
        .filter(move |(_, slots)| !slots.iter().all(same));
    gone.map(move |(reference, slots)| Gone {
        table: writer.table().clone(),
        reference: reference.clone(),
        values: pick(old, slots),
        changed: new.is_some(),
    })
}

/// The same of a projected row, which is written within the write of another one: it is asked about at the end
/// of the statement.
pub(super) fn gone(writer: &Writer, old: &[Datum], new: Option<&[Datum]>, cx: &mut ExecCx<'_>) {
    for one in removed(writer, old, new) {
        cx.transaction.intents().push_gone(one);
    }
}

/// Bytes of what is kept of removed values.
fn gone_bytes(values: &[Datum]) -> u64 {
    (std::mem::size_of::<Gone>() + row_bytes(values)) as u64
}

fn is_deferred(key: &ForeignKey, cx: &ExecCx<'_>) -> bool {
    key.deferrable && cx.deferred.is_deferred(key.id, key.deferred)
}

/// The checks that wait for COMMIT, and what SET CONSTRAINTS says. Belongs to the transaction.
#[derive(Default)]
pub struct Deferred {
    checks: Vec<DeferredCheck>,
    /// What they keep.
    bytes: u64,
    all: Option<bool>,
    named: std::collections::BTreeMap<u32, bool>,
}

impl Deferred {
    fn push(&mut self, check: DeferredCheck) {
        self.bytes += check.bytes();
        self.checks.push(check);
    }

    fn is_deferred(&self, constraint: u32, initially: bool) -> bool {
        self.named
            .get(&constraint)
            .copied()
            .or(self.all)
            .unwrap_or(initially)
    }

    /// SET CONSTRAINTS: the constraints' OIDs (`None` = ALL). With IMMEDIATE the caller then
    /// runs `take` and what it gives.
    pub fn set(&mut self, constraints: Option<&[u32]>, deferred: bool) {
        match constraints {
            None => {
                self.all = Some(deferred);
                self.named.clear();
            }
            Some(list) => {
                for constraint in list {
                    self.named.insert(*constraint, deferred);
                }
            }
        }
    }

    /// The checks to run: all at COMMIT, those that are immediate now after SET CONSTRAINTS.
    pub fn take(&mut self, commit: bool) -> Vec<DeferredCheck> {
        let checks = std::mem::take(&mut self.checks);
        self.bytes = 0;
        if commit {
            return checks;
        }
        let (later, now): (Vec<_>, Vec<_>) =
            checks.into_iter().partition(|check: &DeferredCheck| {
                self.is_deferred(check.key().id, check.key().deferred)
            });
        self.put_back(later.into_iter());
        now
    }

    /// Gives back checks that could not be run yet.
    pub fn put_back(&mut self, checks: impl Iterator<Item = DeferredCheck>) {
        checks.for_each(|check| self.push(check));
    }

    /// How many checks wait (savepoints go back to it with `truncate`).
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// None wait.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Forgets the checks made after a savepoint.
    pub fn truncate(&mut self, len: usize) {
        for gone in self.checks.drain(len.min(self.checks.len())..) {
            self.bytes -= gone.bytes();
        }
    }
}

pub(super) fn convert(
    value: &Datum,
    target: crate::types::Type,
    cx: &mut ExecCx<'_>,
) -> Result<Datum, Stop> {
    let from = match value {
        Datum::Int2(_) => crate::types::Type::INT2,
        Datum::Int4(_) => crate::types::Type::INT4,
        Datum::Int8(_) => crate::types::Type::INT8,
        _ => return Ok(value.clone()),
    };
    if target.oid == from.oid {
        return Ok(value.clone());
    }
    Ok(cast(
        value,
        from,
        target,
        CastContext::Assignment,
        &mut cx.evaluation,
    )?)
}

/// Where the referenced index has a key: its tree, the entry, and whether those are the rows' own.
pub(super) fn parent_entry(
    parent: &Table,
    key: &ForeignKey,
    values: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Result<(u32, Vec<u8>, bool), Stop> {
    let Some(index) = parent.index(key.referenced_index) else {
        return Err(Stop::Error(Error::internal(
            "a foreign key's index is gone",
        )));
    };
    let mut entry = Vec::with_capacity(16);
    for part in &index.columns {
        let IndexKey::Column(id) = part.what else {
            return Err(Stop::Error(Error::internal(
                "a foreign key's index has expressions",
            )));
        };
        let at = key
            .referenced_columns
            .iter()
            .position(|column| *column == id);
        let (Some(at), Some(column)) = (at, parent.column_by_id(id)) else {
            return Err(Stop::Error(Error::internal(
                "a foreign key's columns are gone",
            )));
        };
        let value = convert(&values[at], column.ty.plain(), cx)?;
        encode_key(
            &value,
            column.ty.plain(),
            part.descending,
            part.nulls_first,
            &mut entry,
        );
    }
    Ok((index.tree, entry, parent.is_clustering(index)))
}

/// The key in the referenced index, and the row that has it.
fn parent_row(
    parent: &Table,
    key: &ForeignKey,
    values: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Result<Option<Vec<u8>>, Stop> {
    let (index_tree, entry, clustering) = parent_entry(parent, key, values, cx)?;
    let (group, tree) = (parent.group, parent.tree);
    if clustering {
        if cx.transaction.current(group, tree, &entry)?.is_none() {
            return Ok(None);
        }
        cx.transaction
            .lock_row(group, tree, &entry, RowMode::KeyShare, Policy::Wait)?;
        let there = cx.transaction.current(group, tree, &entry)?.is_some();
        return Ok(there.then_some(entry));
    }
    let Some(row) = cx.transaction.current(group, index_tree, &entry)? else {
        return Ok(None);
    };
    cx.transaction
        .lock_row(group, tree, &row, RowMode::KeyShare, Policy::Wait)?;
    let now = cx.transaction.current(group, index_tree, &entry)?;
    if now.as_ref() != Some(&row) {
        return Err(Stop::Wait(Wait::Again));
    }
    Ok(Some(row.to_vec()))
}

fn check_parent(
    child: &Arc<Table>,
    key: &ForeignKey,
    values: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let parent = table_of(key.references, cx)?;
    let violation = |detail: String| {
        Error::new(
            state::FOREIGN_KEY_VIOLATION,
            format!(
                "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                child.name, key.name
            ),
        )
        .detail(detail)
        .table(cx.catalog.schema_name(child.schema), &child.name)
        .constraint(&key.name)
    };
    if values.iter().any(Datum::is_null) {
        let error = violation(
            "MATCH FULL does not allow mixing of null and nonnull key values.".to_owned(),
        );
        return Err(Stop::Error(error));
    }
    let there = match parent.group == child.group {
        true => parent_row(&parent, key, values, cx)?.is_some(),
        false => {
            let (_, entry, _) = parent_entry(&parent, key, values, cx)?;
            let (home, index) = (child.group, key.referenced_index);
            integrity::check_reference(home, &parent, index, &entry, cx)?
        }
    };
    if there {
        return Ok(());
    }
    let shown = shown_key(child, &key.columns, values, cx);
    let error = violation(format!(
        "Key {shown} is not present in table \"{}\".",
        parent.name
    ));
    Err(Stop::Error(error))
}

fn check_children(
    parent: &Arc<Table>,
    child: &Arc<Table>,
    key: &ForeignKey,
    values: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    if referencing(child, key, values, 1, cx)?.is_empty() {
        return Ok(());
    }
    // The key may be there again by the end of the statement.
    if parent_row(parent, key, values, cx)?.is_some() {
        return Ok(());
    }
    Err(Stop::Error(still_referenced(
        parent, child, key, values, cx,
    )))
}

fn still_referenced(
    parent: &Table,
    child: &Table,
    key: &ForeignKey,
    values: &[Datum],
    cx: &ExecCx<'_>,
) -> Error {
    let shown = shown_key(parent, &key.referenced_columns, values, cx);
    Error::new(
        state::FOREIGN_KEY_VIOLATION,
        format!(
            "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \
             \"{}\"",
            parent.name, key.name, child.name
        ),
    )
    .detail(format!(
        "Key {shown} is still referenced from table \"{}\".",
        child.name
    ))
    .table(cx.catalog.schema_name(child.schema), &child.name)
    .constraint(&key.name)
}

pub(crate) fn shown_key(
    table: &Table,
    columns: &[crate::catalog::ColumnId],
    values: &[Datum],
    cx: &ExecCx<'_>,
) -> String {
    let columns: Vec<&crate::catalog::Column> = columns
        .iter()
        .filter_map(|id| table.column_by_id(*id))
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let texts: Vec<String> = columns
        .iter()
        .zip(values)
        .map(|(column, value)| {
            value
                .to_text(column.ty, cx.evaluation.format)
                .unwrap_or_else(|| "null".to_owned())
        })
        .collect();
    format!("({})=({})", names.join(", "), texts.join(", "))
}

/// What foreign keys do when keys of another owner's tables go.
#[derive(Default)]
pub(crate) struct Acting(After);

impl Acting {
    /// One more.
    pub fn add(
        &mut self,
        parent: &Arc<Table>,
        child: &Arc<Table>,
        key: &ForeignKey,
        action: ReferentialAction,
        before: Vec<Datum>,
        changed: bool,
    ) {
        self.0.push(Work::Action(Box::new(Action {
            parent: Arc::clone(parent),
            child: Arc::clone(child),
            key: Arc::new(key.clone()),
            action,
            before,
            // Only CASCADE asks which values there are now.
            now: changed.then(Vec::new),
        })));
    }

    /// Does all, and what follows from it.
    ///
    /// # Errors
    /// As of any statement.
    pub fn run(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        self.0.run(cx)
    }
}
