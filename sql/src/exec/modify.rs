//! INSERT, UPDATE and DELETE: rows from the source, locked, checked again, written.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::foreign::After;
use super::trigger::{Change, already_modified};
use super::writer::{Inserted, Writer};
use crate::catalog::{TableKind, Timing};
use crate::error::{Error, state};
use crate::exec::{ExecCx, Operator, Row, simple};
use crate::expr::{Expr, Frame, eval_row};
use crate::plan::{ConflictPlan, ModifyKind, ModifyPlan, Op, PlanNode};
use crate::transaction::{Policy, RowMode, Stop, Wait};
use crate::types::Datum;

/// A write in progress.
pub(super) struct Modify {
    plan: Arc<PlanNode>,
    frame: Frame,
    source: Box<dyn Operator>,
    spooled: Option<std::vec::IntoIter<Row>>,
    after: After,
    /// Keys that this statement has written: a second change of the same row is left out.
    touched: HashSet<Vec<u8>>,
    affected: u64,
    done: bool,
    /// Rows of RETURNING that wait until all is written.
    returned: std::collections::VecDeque<Row>,
}

impl Modify {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, source: Box<dyn Operator>) -> Modify {
        Modify {
            plan,
            frame,
            source,
            spooled: None,
            after: After::default(),
            touched: HashSet::new(),
            affected: 0,
            done: false,
            returned: std::collections::VecDeque::new(),
        }
    }

    fn next_source(&mut self, spool: bool, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        if !spool {
            return self.source.next(cx);
        }
        if self.spooled.is_none() {
            let mut rows = Vec::new();
            while let Some(row) = self.source.next(cx)? {
                rows.push(row);
            }
            self.spooled = Some(rows.into_iter());
        }
        Ok(self.spooled.as_mut().and_then(Iterator::next))
    }

    /// Writes everything; the rows of RETURNING are kept.
    fn run(&mut self, plan: &ModifyPlan, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        // Rows that are replaced may have actions that satisfy what was written before them.
        let only_inserts = plan.kind == ModifyKind::Insert
            && plan.conflict.as_ref().is_none_or(|c| c.update.is_none());
        // Rows are read before their triggers change what they come from.
        let is_view = matches!(plan.table.kind, TableKind::View(_));
        let before = plan.kind != ModifyKind::Insert && plan.writer.has_before_triggers();
        let spool = plan.spool || is_view || before;
        while let Some(row) = self.next_source(spool, cx)? {
            cx.tick()?;
            let written = erasing(plan, cx, |cx| match plan.kind {
                _ if is_view => self.instead(plan, &row, cx),
                ModifyKind::Insert => self.insert(plan, &row, cx),
                ModifyKind::Update => self.update(plan, &row, cx),
                ModifyKind::Delete | ModifyKind::Erase => self.delete(plan, &row, cx),
            });
            let Some(new) = written? else {
                continue;
            };
            match only_inserts {
                true => self.after.run_ahead(cx)?,
                false => erasing(plan, cx, |cx| self.after.fits(cx))?,
            }
            self.affected += 1;
            if !plan.returning.is_empty() {
                let mut full = row;
                full.extend(new);
                let out = eval_row(&plan.returning, &full, &self.frame, cx)?;
                self.returned.push_back(out);
            }
        }
        erasing(plan, cx, |cx| self.after.run(cx))
    }

    /// A write into a view is what its INSTEAD OF triggers do; the row that they give back counts.
    fn instead(
        &mut self,
        plan: &ModifyPlan,
        source: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let mut old = vec![Datum::Null; plan.table.columns.len()];
        for (column, slot) in &plan.old {
            old[*column] = source[*slot].clone();
        }
        let mut new = old.clone();
        for (slot, expr) in &plan.assign {
            new[*slot] = expr.eval(source, &self.frame, cx)?;
        }
        let change = match plan.kind {
            ModifyKind::Insert => Change::insert(&new),
            ModifyKind::Update => Change::update(&old, &new, &[]),
            ModifyKind::Delete | ModifyKind::Erase => Change::delete(&old),
        };
        plan.writer.fire_first(Timing::InsteadOf, change, cx)
    }

    fn insert(
        &mut self,
        plan: &ModifyPlan,
        source: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let writer = &plan.writer;
        let mut row = vec![Datum::Null; plan.table.columns.len()];
        for (slot, expr) in &plan.assign {
            row[*slot] = expr.eval(source, &self.frame, cx)?;
        }
        if plan.sends {
            crate::outbox::send(writer, &mut row, cx)?;
            return Ok(Some(row));
        }
        if writer.has_before_triggers() {
            let change = Change::insert(&row);
            let Some(given) = writer.fire_first(Timing::Before, change, cx)? else {
                return Ok(None);
            };
            row = given;
        }
        writer.complete(&mut row, cx)?;
        let arbiters = plan
            .conflict
            .as_ref()
            .map(|conflict| conflict.arbiters.as_slice());
        match writer.insert(&row, arbiters, cx)? {
            Inserted::Done(key) => {
                if plan.conflict.is_some() {
                    self.touched.insert(key);
                }
                self.after.inserted(writer, &row, cx)?;
                Ok(Some(row))
            }
            Inserted::Conflict(key) => match &plan.conflict {
                Some(conflict) => self.on_conflict(plan, conflict, key, row, cx),
                None => Err(Stop::Error(Error::internal(
                    "a conflict without ON CONFLICT",
                ))),
            },
        }
    }

    fn on_conflict(
        &mut self,
        plan: &ModifyPlan,
        conflict: &ConflictPlan,
        key: Vec<u8>,
        excluded: Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let Some((assign, filter)) = &conflict.update else {
            return Ok(None);
        };
        let writer = &plan.writer;
        let changes_key = writer.changes_key(assign.iter().map(|(slot, _)| *slot));
        let mode = if changes_key {
            RowMode::Update
        } else {
            RowMode::NoKeyUpdate
        };
        let (group, tree) = (plan.table.group, plan.table.tree);
        cx.transaction
            .lock_row(group, tree, &key, mode, Policy::Wait)?;
        let Some(bytes) = cx.transaction.current(group, tree, &key)? else {
            return Err(Stop::Wait(Wait::Again));
        };
        if self.touched.contains(&key) {
            return Err(Stop::Error(
                Error::new(
                    state::CARDINALITY_VIOLATION,
                    "ON CONFLICT DO UPDATE command cannot affect row a second time",
                )
                .hint(
                    "Ensure that no rows proposed for insertion within the same command have \
                     duplicate constrained values.",
                ),
            ));
        }
        let old = writer.read(&bytes)?;
        let mut both = old.clone();
        both.extend(excluded);
        if let Some(filter) = filter
            && !filter.eval(&both, &self.frame, cx)?.is_true()
        {
            return Ok(None);
        }
        let mut new = old.clone();
        for (slot, expr) in assign {
            new[*slot] = expr.eval(&both, &self.frame, cx)?;
        }
        self.touched.insert(key.clone());
        self.replace(writer, &key, &bytes, &old, new, assign, cx)
    }

    /// The row as it is then; `None` if a trigger keeps it from being changed.
    #[allow(clippy::too_many_arguments)]
    fn replace(
        &mut self,
        writer: &Writer,
        key: &[u8],
        bytes: &Bytes,
        old: &Row,
        new: Row,
        assign: &[(usize, Expr)],
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let set: Vec<usize> = match writer.has_triggers() {
            true => assign.iter().map(|(slot, _)| *slot).collect(),
            false => Vec::new(),
        };
        self.after.update(writer, key, bytes, old, new, &set, cx)
    }

    /// Locks the source row's target and gives its key, bytes and values; `None` when it was
    /// changed by this statement already. A row that changed since it was read makes the
    /// statement look again.
    fn target(
        &mut self,
        plan: &ModifyPlan,
        source: &Row,
        mode: RowMode,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<(Vec<u8>, Bytes, Row)>, Stop> {
        let Some(Datum::Bytea(key)) = plan.key.map(|slot| &source[slot]) else {
            return Ok(None);
        };
        let many = plan.source_may_repeat();
        if many && !self.touched.insert(key.to_vec()) {
            return Ok(None);
        }
        let (group, tree) = (plan.table.group, plan.table.tree);
        cx.transaction
            .lock_row(group, tree, key, mode, Policy::Wait)?;
        if !simple::unchanged(group, tree, key, cx)? {
            return Err(Stop::Wait(Wait::Again));
        }
        let Some(bytes) = cx.transaction.get(group, tree, key)? else {
            return Ok(None);
        };
        let mut old = vec![Datum::Null; plan.table.columns.len()];
        for (column, slot) in &plan.old {
            old[*column] = source[*slot].clone();
        }
        if plan.writer.has_triggers() && plan.writer.read(&bytes)? != old {
            // A trigger of this statement was here first.
            return Err(already_modified(plan.kind.operation()).into());
        }
        Ok(Some((key.to_vec(), bytes, old)))
    }

    fn update(
        &mut self,
        plan: &ModifyPlan,
        source: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let writer = &plan.writer;
        let changes_key = writer.changes_key(plan.assign.iter().map(|(slot, _)| *slot));
        let mode = if changes_key {
            RowMode::Update
        } else {
            RowMode::NoKeyUpdate
        };
        let Some((key, bytes, old)) = self.target(plan, source, mode, cx)? else {
            return Ok(None);
        };
        let mut new = old.clone();
        for (slot, expr) in &plan.assign {
            new[*slot] = expr.eval(source, &self.frame, cx)?;
        }
        self.replace(writer, &key, &bytes, &old, new, &plan.assign, cx)
    }

    fn delete(
        &mut self,
        plan: &ModifyPlan,
        source: &Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let Some((key, bytes, old)) = self.target(plan, source, RowMode::Update, cx)? else {
            return Ok(None);
        };
        let deleted = self.after.delete(&plan.writer, &key, &bytes, &old, cx)?;
        Ok(deleted.then(|| vec![Datum::Null; plan.table.columns.len()]))
    }
}

/// Does a part of a write. What an ERASE removes in it is erased, with what actions of foreign keys and
/// triggers remove; not what else its statement does.
fn erasing<T>(
    plan: &ModifyPlan,
    cx: &mut ExecCx<'_>,
    part: impl FnOnce(&mut ExecCx<'_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    if plan.kind != ModifyKind::Erase {
        return part(cx);
    }
    let before = cx.transaction.erasing(Some(plan.table.tree));
    let done = part(cx);
    cx.transaction.erasing(before);
    done
}

impl ModifyPlan {
    /// Whether one row may come from the source more than once (UPDATE FROM).
    fn source_may_repeat(&self) -> bool {
        !matches!(self.source.op, Op::Scan(_))
    }
}

impl Operator for Modify {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        if !self.done {
            let plan = self.plan.clone();
            let Op::Modify(modify) = &plan.op else {
                unreachable!("opened for a write");
            };
            self.run(modify, cx)?;
            self.done = true;
        }
        Ok(self.returned.pop_front())
    }

    fn affected(&self) -> u64 {
        self.affected
    }
}
