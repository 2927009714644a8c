//! One call of a function: the values of its variables, and how they are assigned.

use std::sync::Arc;

use super::query::{Query, within};
use super::tree::{Code, Into, Kind, Target};
use crate::bind::not_assigned;
use crate::exec::{ExecCx, Row};
use crate::expr;
use crate::plan::OutputColumn;
use crate::transaction::Stop;
use crate::types::{Array, CastContext, Datum, Record, Shape, Type, cast, cast_function, typmod};
use crate::{Error, Result, state};

type Done<T> = std::result::Result<T, Stop>;

/// A call that is under way.
pub(super) struct Frame<'c> {
    pub code: &'c Code,
    /// By slot. Shared with the expressions that are being evaluated, so that those cost no copy.
    values: Arc<[Datum]>,
    /// ROW_COUNT.
    pub rows: u64,
    /// What the handlers under way have caught, the innermost one last.
    pub caught: Vec<Error>,
    /// The line and kind of the statement under way.
    pub at: (u32, &'static str),
}

impl<'c> Frame<'c> {
    /// A call with these arguments; all other variables are NULL.
    pub fn new(code: &'c Code, mut arguments: Vec<Datum>) -> Frame<'c> {
        arguments.resize(code.variables.len(), Datum::Null);
        arguments[code.found] = Datum::Bool(false);
        Frame {
            code,
            values: arguments.into(),
            rows: 0,
            caught: Vec::new(),
            at: (0, ""),
        }
    }

    /// The values of all variables.
    pub fn values(&self) -> &[Datum] {
        &self.values
    }

    /// The same, as parameters of a plan.
    pub fn parameters(&self) -> Arc<[Datum]> {
        Arc::clone(&self.values)
    }

    /// Sets a variable to a value of its type.
    pub fn set(&mut self, slot: usize, value: Datum) {
        match Arc::get_mut(&mut self.values) {
            Some(values) => values[slot] = value,
            None => {
                let mut values = self.values.to_vec();
                values[slot] = value;
                self.values = values.into();
            }
        }
    }

    /// FOUND.
    pub fn set_found(&mut self, found: bool) {
        self.set(self.code.found, Datum::Bool(found));
    }

    /// Assigns a value to a variable.
    ///
    /// # Errors
    /// What its conversion raises; 22004 for NULL where it may not be.
    pub fn assign(
        &mut self,
        slot: usize,
        value: Datum,
        from: Type,
        cx: &mut ExecCx<'_>,
    ) -> Result<()> {
        let variable = &self.code.variables[slot];
        if value.is_null() && variable.not_null {
            let message = format!(
                "null value cannot be assigned to variable \"{}\" declared NOT NULL",
                variable.name
            );
            return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message));
        }
        let value = match &variable.kind {
            Kind::Scalar(ty) => coerce(value, from, *ty, cx)?,
            Kind::Record => match value {
                Datum::Null | Datum::Record(_) => value,
                _ => return Err(not_composite("record")),
            },
            Kind::Row(shape) => match value {
                Datum::Null => Datum::Null,
                Datum::Record(record) => reshape(&record, shape, cx)?,
                _ => return Err(not_composite("row")),
            },
        };
        self.set(slot, value);
        Ok(())
    }

    /// Assigns a value to a variable, a field or an element.
    ///
    /// # Errors
    /// As [`Frame::assign`]; 42703 for a field that is not there.
    pub fn assign_to(
        &mut self,
        target: &Target,
        value: Datum,
        from: Type,
        cx: &mut ExecCx<'_>,
    ) -> Done<()> {
        let subscripts = self.subscripts(target, cx)?;
        let Some(field) = &target.field else {
            if subscripts.is_empty() {
                return Ok(self.assign(target.slot, value, from, cx)?);
            }
            let variable = &self.code.variables[target.slot];
            let Kind::Scalar(ty) = variable.kind else {
                return Err(no_array(&variable.name).into());
            };
            let mut array = self.take(target.slot);
            let put = put_element(&mut array, ty, &subscripts, value, from, cx);
            self.set(target.slot, array);
            return Ok(put?);
        };
        self.assign_field(target.slot, field, &subscripts, value, from, cx)
    }

    fn assign_field(
        &mut self,
        slot: usize,
        field: &str,
        subscripts: &[i32],
        value: Datum,
        from: Type,
        cx: &mut ExecCx<'_>,
    ) -> Done<()> {
        let variable = &self.code.variables[slot];
        let Some(shape) = variable.shape(&self.values[slot]) else {
            return Err(not_assigned(&variable.name).into());
        };
        let Some(at) = shape.names.iter().position(|name| **name == *field) else {
            let message = format!("record \"{}\" has no field \"{field}\"", variable.name);
            return Err(Error::new(state::UNDEFINED_COLUMN, message).into());
        };
        let ty = shape.types[at];
        let mut record = match self.take(slot) {
            Datum::Record(record) => record,
            _ => {
                let values = vec![Datum::Null; shape.types.len()];
                Arc::new(Record::new(shape, values))
            }
        };
        let place = &mut Arc::make_mut(&mut record).values[at];
        let put = match subscripts {
            [] => coerce(value, from, ty, cx).map(|value| *place = value),
            _ => put_element(place, ty, subscripts, value, from, cx),
        };
        self.set(slot, Datum::Record(record));
        Ok(put?)
    }

    /// Takes a variable's value out, so that it can be changed without a copy.
    fn take(&mut self, slot: usize) -> Datum {
        match Arc::get_mut(&mut self.values) {
            Some(values) => std::mem::take(&mut values[slot]),
            None => self.values[slot].clone(),
        }
    }

    fn subscripts(&mut self, target: &Target, cx: &mut ExecCx<'_>) -> Done<Vec<i32>> {
        let mut all = Vec::with_capacity(target.subscripts.len());
        for query in &target.subscripts {
            let (value, from) = self.value(query, cx)?;
            match coerce(value, from, Type::INT4, cx)? {
                Datum::Int4(at) => all.push(at),
                _ => {
                    let message = "array subscript in assignment must not be null";
                    return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into());
                }
            }
        }
        Ok(all)
    }

    /// Assigns the columns of a row; NULLs if there is none.
    ///
    /// # Errors
    /// As [`Frame::assign_to`].
    pub fn assign_row(
        &mut self,
        into: &Into,
        row: Option<Row>,
        columns: &[OutputColumn],
        cx: &mut ExecCx<'_>,
    ) -> Done<()> {
        match into {
            Into::Row(slot) => {
                let value = match row {
                    None => self.null_row(*slot, columns),
                    Some(row) => self.row_value(*slot, row, columns),
                };
                Ok(self.assign(*slot, value, Type::RECORD, cx)?)
            }
            Into::Each(targets) => {
                let mut values = row.unwrap_or_default().into_iter();
                for (at, target) in targets.iter().enumerate() {
                    let value = values.next().unwrap_or_default();
                    let from = columns.get(at).map_or(Type::UNKNOWN, |column| column.ty);
                    self.assign_to(target, value, from, cx)?;
                }
                Ok(())
            }
        }
    }

    /// A row as a value. A single column that is a row itself is that row.
    fn row_value(&self, slot: usize, mut row: Row, columns: &[OutputColumn]) -> Datum {
        let fits = match &self.code.variables[slot].kind {
            Kind::Row(shape) => shape.types.len() != 1,
            Kind::Record | Kind::Scalar(_) => false,
        };
        if let ([Datum::Record(_)], true) = (row.as_slice(), fits) {
            return row.pop().unwrap_or_default();
        }
        Datum::Record(Arc::new(Record::new(shape_of(columns), row)))
    }

    /// No row: a record keeps the names of its fields.
    fn null_row(&self, slot: usize, columns: &[OutputColumn]) -> Datum {
        match self.code.variables[slot].kind {
            Kind::Record => {
                let values = vec![Datum::Null; columns.len()];
                Datum::Record(Arc::new(Record::new(shape_of(columns), values)))
            }
            Kind::Row(_) | Kind::Scalar(_) => Datum::Null,
        }
    }

    /// The value of an expression and its type.
    ///
    /// # Errors
    /// What it raises; 21000 for more than one row, 42601 for more than one column.
    pub fn value(&mut self, query: &Query, cx: &mut ExecCx<'_>) -> Done<(Datum, Type)> {
        if let Some(slot) = query.bare {
            let variable = &self.code.variables[slot];
            return match variable.kind {
                Kind::Scalar(ty) => Ok((self.values[slot].clone(), ty)),
                Kind::Record | Kind::Row(_) => Ok((self.values[slot].clone(), Type::RECORD)),
            };
        }
        let shown = || format!("SQL expression \"{}\"", query.text);
        let ready = query
            .ready(self, cx)
            .map_err(|error| within(error.into(), shown))?;
        if let Some(expr) = &ready.simple {
            let frame = expr::Frame::new(self.parameters());
            return Ok((expr.eval(&[], &frame, cx)?, expr.ty()));
        }
        let columns = ready.planned.columns.len();
        if columns != 1 {
            let message = match columns {
                1 => "query returned 1 column".to_owned(),
                many => format!("query returned {many} columns"),
            };
            let error = Error::new(state::SYNTAX_ERROR, message);
            return Err(error.context(format!("query: {}", query.text)).into());
        }
        let ty = ready.planned.columns[0].ty;
        let mut running = self
            .open(&ready.planned, cx)
            .map_err(|stop| within(stop, shown))?;
        let mut next = |cx: &mut ExecCx<'_>| running.next(cx).map_err(|stop| within(stop, shown));
        let Some(mut row) = next(cx)? else {
            return Ok((Datum::Null, ty));
        };
        if next(cx)?.is_some() {
            let error = Error::new(
                state::CARDINALITY_VIOLATION,
                "query returned more than one row",
            );
            return Err(error.context(format!("query: {}", query.text)).into());
        }
        Ok((row.swap_remove(0), ty))
    }

    /// Starts a plan with the variables as they are.
    ///
    /// # Errors
    /// Those of [`super::nested::Running::open`].
    pub fn open(
        &self,
        planned: &Arc<crate::plan::Planned>,
        cx: &mut ExecCx<'_>,
    ) -> Done<super::nested::Running> {
        let writes = self.code.writes && cx.calls.may_write();
        super::nested::Running::open(Arc::clone(planned), self.parameters(), writes, cx)
    }

    /// A condition: NULL is false.
    ///
    /// # Errors
    /// Those of the expression.
    pub fn truth(&mut self, query: &Query, cx: &mut ExecCx<'_>) -> Done<bool> {
        let (value, from) = self.value(query, cx)?;
        Ok(coerce(value, from, Type::BOOL, cx)?.is_true())
    }

    /// An expression as text; `None` for NULL.
    ///
    /// # Errors
    /// Those of the expression.
    pub fn text(&mut self, query: &Query, cx: &mut ExecCx<'_>) -> Done<Option<String>> {
        let (value, from) = self.value(query, cx)?;
        Ok(value.to_text(from, cx.evaluation.format))
    }
}

/// A value as one of another type: by assignment's cast, else through its text form.
///
/// # Errors
/// What the conversion raises.
pub(super) fn coerce(value: Datum, from: Type, to: Type, cx: &mut ExecCx<'_>) -> Result<Datum> {
    if value.is_null() || (from.oid == to.oid && (to.modifier < 0 || from.modifier == to.modifier))
    {
        return Ok(value);
    }
    let assigns = |context| matches!(context, CastContext::Implicit | CastContext::Assignment);
    if cast_function(from, to).is_some_and(|cast| assigns(cast.context)) {
        return cast(
            &value,
            from,
            to,
            CastContext::Assignment,
            &mut cx.evaluation,
        );
    }
    let text = value
        .to_text(from, cx.evaluation.format)
        .unwrap_or_default();
    let read = Datum::from_text(&text, to.plain(), cx.evaluation.format)?;
    match to.modifier < 0 {
        true => Ok(read),
        false => typmod::apply(read, to, false),
    }
}

/// A row with the types of another shape, field by field.
fn reshape(record: &Arc<Record>, shape: &Arc<Shape>, cx: &mut ExecCx<'_>) -> Result<Datum> {
    if Arc::ptr_eq(&record.shape, shape) {
        return Ok(Datum::Record(Arc::clone(record)));
    }
    let mut values = Vec::with_capacity(shape.types.len());
    for (at, to) in shape.types.iter().enumerate() {
        let value = record.values.get(at).cloned().unwrap_or_default();
        let from = record.shape.types.get(at).copied().unwrap_or(*to);
        values.push(coerce(value, from, *to, cx)?);
    }
    Ok(Datum::Record(Arc::new(Record::new(
        Arc::clone(shape),
        values,
    ))))
}

/// The shape of a query's rows.
pub(super) fn shape_of(columns: &[OutputColumn]) -> Arc<Shape> {
    Arc::new(Shape {
        names: columns
            .iter()
            .map(|column| Arc::from(column.name.as_str()))
            .collect(),
        types: columns.iter().map(|column| column.ty).collect(),
    })
}

/// Replaces or adds one element of an array; it stays as it is if that fails.
fn put_element(
    array: &mut Datum,
    ty: Type,
    subscripts: &[i32],
    value: Datum,
    from: Type,
    cx: &mut ExecCx<'_>,
) -> Result<()> {
    let Some(element) = ty.element() else {
        let message = format!(
            "cannot subscript type {} because it does not support subscripting",
            ty.plain().name()
        );
        return Err(Error::new(state::DATATYPE_MISMATCH, message));
    };
    let [at] = subscripts else {
        let what = "assigning to an element of several dimensions";
        return Err(Error::unsupported(what));
    };
    let value = coerce(value, from, element, cx)?;
    let (lower, length) = match &*array {
        Datum::Array(array) if !array.values.is_empty() => match array.dimensions.as_slice() {
            [one] => (one.lower, array.values.len()),
            _ => {
                let message = "wrong number of array subscripts";
                return Err(Error::new(state::ARRAY_SUBSCRIPT_ERROR, message));
            }
        },
        _ => (*at, 0),
    };
    let first = lower.min(*at);
    let missing = lower.abs_diff(first) as usize;
    let index = at.abs_diff(first) as usize;
    if length.saturating_add(missing).max(index.saturating_add(1)) > ELEMENTS_MAX {
        return Err(Error::new(
            state::PROGRAM_LIMIT_EXCEEDED,
            format!("array size exceeds the maximum allowed ({ELEMENTS_MAX})"),
        ));
    }
    let mut values = match std::mem::take(array) {
        Datum::Array(array) => {
            Arc::try_unwrap(array)
                .unwrap_or_else(|a| (*a).clone())
                .values
        }
        _ => Vec::new(),
    };
    values.splice(0..0, std::iter::repeat_n(Datum::Null, missing));
    if index >= values.len() {
        values.resize(index + 1, Datum::Null);
    }
    values[index] = value;
    *array = Datum::array(Array::starting_at(element.plain(), first, values));
    Ok(())
}

/// Elements that an array may get one by one: an assignment far behind its end makes all between.
const ELEMENTS_MAX: usize = 1 << 22;

fn no_array(name: &str) -> Error {
    let message = format!("cannot subscript variable \"{name}\"");
    Error::new(state::DATATYPE_MISMATCH, message)
}

fn not_composite(what: &str) -> Error {
    Error::new(
        state::DATATYPE_MISMATCH,
        format!("cannot assign non-composite value to a {what} variable"),
    )
}
