//! Row triggers around the writes of one table: BEFORE ones at once, AFTER ones put into the queue
//! of what follows a statement.

use std::sync::Arc;

use super::foreign::After;
use super::writer::{Writer, differs, empty_frame};
use super::{ExecCx, Row, row_bytes};
use crate::catalog::{Table, Timing};
use crate::error::{Error, state};
use crate::plpgsql::{self, Fired, Firing, Operation, RowTrigger};
use crate::transaction::{Locks, Stop};
use crate::types::Datum;

/// The names of PostgreSQL's own triggers for foreign keys begin with this: those of users that
/// come before it by name fire before referential actions and checks.
const KEYS_NAME: &str = "RI_ConstraintTrigger_";

/// A row's change, as triggers see it.
#[derive(Clone, Copy)]
pub(super) struct Change<'r> {
    pub operation: Operation,
    pub old: Option<&'r Row>,
    pub new: Option<&'r Row>,
    /// The columns that UPDATE sets.
    pub set: &'r [usize],
}

impl<'r> Change<'r> {
    pub fn insert(new: &'r Row) -> Change<'r> {
        Change {
            operation: Operation::Insert,
            old: None,
            new: Some(new),
            set: &[],
        }
    }

    pub fn update(old: &'r Row, new: &'r Row, set: &'r [usize]) -> Change<'r> {
        Change {
            operation: Operation::Update,
            old: Some(old),
            new: Some(new),
            set,
        }
    }

    pub fn delete(old: &'r Row) -> Change<'r> {
        Change {
            operation: Operation::Delete,
            old: Some(old),
            new: None,
            set: &[],
        }
    }
}

/// An AFTER trigger that waits for the end of its statement.
pub(super) struct Event {
    table: Arc<Table>,
    trigger: RowTrigger,
    operation: Operation,
    old: Option<Arc<Row>>,
    new: Option<Arc<Row>>,
}

impl Event {
    /// Bytes that it keeps.
    pub fn bytes(&self) -> u64 {
        let rows = self.old.iter().chain(&self.new);
        let rows: usize = rows.map(|row| row_bytes(row)).sum();
        (rows + std::mem::size_of::<Event>()) as u64
    }

    /// Fires the trigger. Whatever it has done is taken back when it has to wait, for COPY does
    /// not run again from its start.
    pub fn fire(&self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let mark = cx.transaction.statement_mark();
        let (deferred, left) = (cx.deferred.len(), cx.evaluation.environment.left());
        let fired = plpgsql::fire(
            &Firing {
                trigger: &self.trigger.trigger,
                routine: &self.trigger.routine,
                table: &self.table,
                operation: self.operation,
                old: self.old.as_deref(),
                new: self.new.as_deref(),
            },
            cx,
        );
        let undone = match &fired {
            Ok(_) | Err(Stop::Error(_)) => Ok(()),
            Err(Stop::Wait(_) | Stop::Pause(_)) => {
                cx.deferred.truncate(deferred);
                cx.evaluation.environment.take_back(left);
                cx.transaction.undo_to(&mark, Locks::Keep)
            }
        };
        cx.transaction.unmark();
        fired.map(drop).and(undone)
    }
}

impl RowTrigger {
    fn is_meant(&self, timing: Timing, change: &Change<'_>) -> bool {
        let events = self.trigger.events;
        let event = match change.operation {
            Operation::Insert => events.insert,
            Operation::Delete => events.delete,
            Operation::Update => {
                let sets = self
                    .columns
                    .iter()
                    .any(|column| change.set.contains(column));
                events.update && (self.columns.is_empty() || sets)
            }
        };
        event && self.trigger.timing == timing
    }

    /// Does WHEN hold?
    fn holds(&self, change: &Change<'_>, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
        let Some(when) = &self.when else {
            return Ok(true);
        };
        let width = change.old.or(change.new).map_or(0, Vec::len);
        let nothing = || vec![Datum::Null; width];
        let mut both = change.old.cloned().unwrap_or_else(nothing);
        both.extend(change.new.cloned().unwrap_or_else(nothing));
        Ok(when.eval(&both, &empty_frame(), cx)?.is_true())
    }
}

/// Is a trigger on a followed table meant by a row's change? What was set is not known there: a column
/// counts if its value is another one.
///
/// # Errors
/// Those of WHEN.
pub(crate) fn fires(
    trigger: &RowTrigger,
    operation: Operation,
    old: Option<&Row>,
    new: Option<&Row>,
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    let mut set = Vec::new();
    if let (Some(old), Some(new)) = (old, new) {
        set.extend((0..new.len()).filter(|slot| differs(&old[*slot], &new[*slot])));
    }
    let change = Change {
        operation,
        old,
        new,
        set: &set,
    };
    Ok(trigger.is_meant(Timing::After, &change) && trigger.holds(&change, cx)?)
}

impl Writer {
    /// Are there any?
    pub(super) fn has_triggers(&self) -> bool {
        !self.triggers.is_empty()
    }

    /// Are there any that fire before a row is written?
    pub(super) fn has_before_triggers(&self) -> bool {
        let mut all = self.triggers.iter();
        all.any(|trigger| trigger.trigger.timing == Timing::Before)
    }

    /// Fires the triggers that come before (or instead of) a change. The row that they give: the
    /// new one, or for DELETE the old one; `None` if one of them gives none.
    pub(super) fn fire_first(
        &self,
        timing: Timing,
        change: Change<'_>,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Row>, Stop> {
        let mut row = change.new.or(change.old).cloned().unwrap_or_default();
        for trigger in &self.triggers {
            let now = match change.operation {
                Operation::Delete => change,
                Operation::Insert | Operation::Update => Change {
                    new: Some(&row),
                    ..change
                },
            };
            if !trigger.is_meant(timing, &now) || !trigger.holds(&now, cx)? {
                continue;
            }
            let firing = Firing {
                trigger: &trigger.trigger,
                routine: &trigger.routine,
                table: self.table(),
                operation: change.operation,
                old: now.old,
                new: now.new,
            };
            match plpgsql::fire(&firing, cx)? {
                Fired::Nothing => return Ok(None),
                Fired::Row(given) if change.operation != Operation::Delete => row = given,
                Fired::Row(_) => {}
            }
        }
        Ok(Some(row))
    }

    /// 27000 if a trigger has changed the row that fired it.
    pub(super) fn check_untouched(
        &self,
        key: &[u8],
        before: &[u8],
        operation: Operation,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let (group, tree) = (self.table().group, self.table().tree);
        let now = cx.transaction.get(group, tree, key)?;
        match now.as_deref() == Some(before) {
            true => Ok(()),
            false => Err(already_modified(operation).into()),
        }
    }
}

/// 27000.
pub(super) fn already_modified(operation: Operation) -> Error {
    let verb = match operation {
        Operation::Delete => "deleted",
        Operation::Insert | Operation::Update => "updated",
    };
    Error::new(
        state::TRIGGERED_DATA_CHANGE_VIOLATION,
        format!(
            "tuple to be {verb} was already modified by an operation triggered by the current \
             command"
        ),
    )
    .hint(
        "Consider using an AFTER trigger instead of a BEFORE trigger to propagate changes to \
         other rows.",
    )
}

/// Where triggers stand among a row's foreign keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    BeforeKeys,
    BehindKeys,
}

impl After {
    /// Puts a row's AFTER triggers into the queue whose names come before, or behind, those of
    /// foreign keys.
    pub(super) fn queue_triggers(
        &mut self,
        writer: &Writer,
        change: Change<'_>,
        rank: Rank,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let mut rows = None;
        for trigger in &writer.triggers {
            let first = trigger.trigger.name.as_str() < KEYS_NAME;
            let wanted = first == (rank == Rank::BeforeKeys);
            if !wanted
                || !trigger.is_meant(Timing::After, &change)
                || !trigger.holds(&change, cx)?
            {
                continue;
            }
            let shared = |row: Option<&Row>| row.map(|row| Arc::new(row.clone()));
            let (old, new) = rows.get_or_insert_with(|| (shared(change.old), shared(change.new)));
            self.push_event(Event {
                table: Arc::clone(writer.table()),
                trigger: trigger.clone(),
                operation: change.operation,
                old: old.clone(),
                new: new.clone(),
            });
        }
        Ok(())
    }
}
