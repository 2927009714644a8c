//! Firing a row trigger: its function with the row that changes.

use std::sync::Arc;

use super::compile;
use super::frame::{Frame, coerce};
use super::run;
use super::tree::Code;
use crate::catalog::{Routine, Table, Timing, Trigger};
use crate::exec::{ExecCx, Row};
use crate::expr::Expr;
use crate::transaction::Stop;
use crate::types::{Array, Datum, Record, Type};
use crate::{Error, Result, state};

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl Operation {
    /// `TG_OP`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Insert => "INSERT",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }
}

/// A trigger of a table, compiled with the table's write path.
#[derive(Clone, Debug)]
pub struct RowTrigger {
    /// Its descriptor.
    pub trigger: Arc<Trigger>,
    /// Its function.
    pub routine: Arc<Routine>,
    /// WHEN, over the old row's columns and then the new one's.
    pub when: Option<Expr>,
    /// Places in `Table::columns` of UPDATE OF; empty = any.
    pub columns: Vec<usize>,
}

/// One row that fires one trigger.
pub struct Firing<'a> {
    /// The trigger.
    pub trigger: &'a Trigger,
    /// Its function.
    pub routine: &'a Arc<Routine>,
    /// The table of the row, own or followed.
    pub table: &'a Arc<Table>,
    /// What is done to the row.
    pub operation: Operation,
    /// The row before: one value per column of the table.
    pub old: Option<&'a Row>,
    /// The row after.
    pub new: Option<&'a Row>,
}

/// What the function gave back.
pub enum Fired {
    /// A row: one value per column of the table.
    Row(Row),
    /// NULL.
    Nothing,
}

/// Runs a trigger's function for one row, as the role and inside the transaction of `cx`. WHEN and
/// UPDATE OF are the caller's.
///
/// # Errors
/// What the function raises; waits, whereupon all of the statement runs again.
pub fn fire(firing: &Firing<'_>, cx: &mut ExecCx<'_>) -> std::result::Result<Fired, Stop> {
    let code = compile::of_routine(firing.routine, Some(firing.table), cx)?;
    let mut frame = Frame::new(&code, values(firing, &code, cx));
    let environment = cx.evaluation.environment;
    environment.trigger_depth(1);
    let result = super::deeper(false, cx, |cx| {
        let flow = run::run(&mut frame, cx)?;
        super::result(&code, &mut frame, flow, cx).map_err(|stop| super::located(&frame, stop))
    });
    environment.trigger_depth(-1);
    match result? {
        Datum::Record(record) => {
            let ignored = firing.trigger.timing == Timing::After;
            if ignored {
                return Ok(Fired::Nothing);
            }
            let base = firing.new.or(firing.old).cloned().unwrap_or_default();
            Ok(Fired::Row(row_of(&record, firing.table, base, cx)?))
        }
        Datum::Null => Ok(Fired::Nothing),
        _ => Err(Error::new(
            state::DATATYPE_MISMATCH,
            "cannot return non-composite value from function returning composite type",
        )
        .into()),
    }
}

/// The values of `compile`'s variables.
fn values(firing: &Firing<'_>, code: &Code, cx: &ExecCx<'_>) -> Vec<Datum> {
    let (trigger, table) = (firing.trigger, firing.table);
    let row = |slot: usize, row: Option<&Row>| match (row, code.variables[slot].shape(&Datum::Null))
    {
        (Some(row), Some(shape)) => {
            let live = table.columns.iter().zip(row);
            let live = live.filter(|(column, _)| !column.dropped);
            let values = live.map(|(_, value)| value.clone()).collect();
            Datum::Record(Arc::new(Record::new(shape, values)))
        }
        _ => Datum::Null,
    };
    let when = match trigger.timing {
        Timing::Before => "BEFORE",
        Timing::After => "AFTER",
        Timing::InsteadOf => "INSTEAD OF",
    };
    let arguments: Vec<Datum> = trigger.arguments.iter().map(Datum::text).collect();
    let count = i32::try_from(arguments.len()).unwrap_or(i32::MAX);
    let name = Datum::text(&table.name);
    vec![
        row(0, firing.new),
        row(1, firing.old),
        Datum::text(&trigger.name),
        Datum::text(when),
        Datum::text("ROW"),
        Datum::text(firing.operation.name()),
        Datum::Oid(table.id.0),
        name.clone(),
        name,
        Datum::text(cx.catalog.schema_name(table.schema)),
        Datum::Int4(count),
        match arguments.is_empty() {
            true => Datum::Null,
            false => Datum::array(Array::starting_at(Type::TEXT, 0, arguments)),
        },
    ]
}

/// The row that a function gave back, in the table's columns.
fn row_of(record: &Record, table: &Table, mut row: Row, cx: &mut ExecCx<'_>) -> Result<Row> {
    let live: Vec<usize> = (0..table.columns.len())
        .filter(|slot| !table.columns[*slot].dropped)
        .collect();
    if record.values.len() != live.len() {
        return Err(Error::new(
            state::DATATYPE_MISMATCH,
            "returned row structure does not match the structure of the triggering table",
        )
        .detail(format!(
            "Number of returned columns ({}) does not match expected column count ({}).",
            record.values.len(),
            live.len()
        )));
    }
    row.resize(table.columns.len(), Datum::Null);
    for (at, slot) in live.into_iter().enumerate() {
        let to = table.columns[slot].ty;
        let (value, from) = (record.values[at].clone(), record.shape.types[at]);
        if from.oid != to.oid {
            return Err(Error::new(
                state::DATATYPE_MISMATCH,
                "returned row structure does not match the structure of the triggering table",
            )
            .detail(format!(
                "Returned type {} does not match expected type {} in column {}.",
                from.name(),
                to.name(),
                at + 1
            )));
        }
        row[slot] = coerce(value, from, to, cx)?;
    }
    Ok(row)
}
