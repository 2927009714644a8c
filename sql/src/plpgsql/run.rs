//! The interpreter: blocks, branches and loops. What must wait goes through untouched, for the
//! whole statement runs again.

use std::sync::Arc;

use super::frame::{Frame, coerce};
use super::nested::{Running, run_ddl};
use super::query::{Form, Query, add_context, parse_one, within};
use super::raise;
use super::tree::{
    Block, Case, Code, Dynamic, Execute, Exit, ForEach, ForQuery, ForRange, Handler, Into, Source,
    Sql, Statement, What,
};
use crate::bind::Variables;
use crate::catalog::Language;
use crate::exec::{ExecCx, Row};
use crate::plan::{self, BindCx, OutputColumn, Planned, Tag};
use crate::transaction::{Locks, Stop};
use crate::types::{Array, Datum, Type};
use crate::{Error, parse, state};

type Done<T> = std::result::Result<T, Stop>;

/// How a statement ends.
pub(super) enum Flow {
    /// The next one comes.
    Next,
    /// EXIT, of the loop or block with this label.
    Exit(Option<String>),
    /// CONTINUE.
    Continue(Option<String>),
    /// RETURN, with a value and its type.
    Return(Datum, Type),
}

/// What a loop does after its body.
enum Turn {
    Again,
    Over(Flow),
}

/// After a loop's body: what it says to this loop, by its label.
fn turn(flow: Flow, label: Option<&String>) -> Turn {
    let meant = |other: &Option<String>| other.is_none() || other.as_ref() == label;
    match flow {
        Flow::Next => Turn::Again,
        Flow::Continue(other) if meant(&other) => Turn::Again,
        Flow::Exit(other) if meant(&other) => Turn::Over(Flow::Next),
        flow => Turn::Over(flow),
    }
}

/// Runs the body of a function.
///
/// # Errors
/// What its statements raise, with the place in CONTEXT.
pub(super) fn run(frame: &mut Frame<'_>, cx: &mut ExecCx<'_>) -> Done<Flow> {
    let code: &Code = frame.code;
    match frame.block(&code.body, cx) {
        Err(Stop::Error(error)) => Err(Stop::Error(frame.located(error))),
        other => other,
    }
}

impl Frame<'_> {
    /// Adds the line under way to an error's CONTEXT.
    pub fn located(&self, error: Error) -> Error {
        let (line, what) = self.at;
        let name = &self.code.name;
        if self.code.language == Language::Sql {
            let context = format!("SQL function \"{name}\" statement {line}");
            return add_context(error, &context);
        }
        let line = match (line, what) {
            (0, "") => format!("PL/pgSQL function {name}"),
            (0, what) => format!("PL/pgSQL function {name} {what}"),
            (line, what) if what.starts_with("during") => {
                format!("PL/pgSQL function {name} line {line} {what}")
            }
            (line, what) => format!("PL/pgSQL function {name} line {line} at {what}"),
        };
        add_context(error, &line)
    }

    fn block(&mut self, block: &Block, cx: &mut ExecCx<'_>) -> Done<Flow> {
        self.declare(block, cx)?;
        let flow = match block.handlers.is_empty() {
            true => self.statements(&block.body, cx)?,
            false => self.guarded(block, cx)?,
        };
        Ok(match flow {
            Flow::Exit(label) if label.is_some() && label == block.label => Flow::Next,
            flow => flow,
        })
    }

    /// Gives the variables of a block their first values.
    fn declare(&mut self, block: &Block, cx: &mut ExecCx<'_>) -> Done<()> {
        let code = self.code;
        for slot in &block.declared {
            let variable = &code.variables[*slot];
            self.at = (
                variable.line,
                "during statement block local variable initialization",
            );
            match &variable.default {
                None => self.set(*slot, Datum::Null),
                Some(query) => {
                    let (value, from) = self.value(query, cx)?;
                    self.assign(*slot, value, from, cx)?;
                }
            }
        }
        Ok(())
    }

    /// A block with handlers: a savepoint, to which an error that one of them catches goes back.
    fn guarded(&mut self, block: &Block, cx: &mut ExecCx<'_>) -> Done<Flow> {
        self.at = (block.line, "during statement block entry");
        let mark = cx.transaction.mark();
        let deferred = cx.deferred.len();
        let left = cx.evaluation.environment.left();
        let result = self.statements(&block.body, cx);
        let caught = match result {
            Err(Stop::Error(error)) if may_catch(&error, cx) => {
                let catches = |handler: &&Handler| {
                    handler
                        .conditions
                        .iter()
                        .any(|condition| condition.catches(&error))
                };
                let handler = block.handlers.iter().find(catches);
                handler.map(|handler| (handler, error.clone())).ok_or(error)
            }
            other => {
                cx.transaction.unmark();
                return other;
            }
        };
        let (handler, error) = match caught {
            Ok(caught) => caught,
            Err(error) => {
                cx.transaction.unmark();
                return Err(error.into());
            }
        };
        let undone = cx.transaction.undo_to(&mark, Locks::Release);
        cx.transaction.unmark();
        undone?;
        cx.deferred.truncate(deferred);
        cx.evaluation.environment.take_back(left.but_raised());
        self.handle(block, handler, error, cx)
    }

    fn handle(
        &mut self,
        block: &Block,
        handler: &Handler,
        error: Error,
        cx: &mut ExecCx<'_>,
    ) -> Done<Flow> {
        let error = self.located(error);
        if let Some((state, message)) = block.caught {
            self.set(state, Datum::text(error.state().as_str()));
            self.set(message, Datum::text(&error.0.message));
        }
        self.caught.push(error);
        let flow = self.statements(&handler.body, cx);
        self.caught.pop();
        flow
    }

    /// Statements one after the other.
    fn statements(&mut self, all: &[Statement], cx: &mut ExecCx<'_>) -> Done<Flow> {
        let above = self.at;
        for statement in all {
            cx.tick()?;
            self.at = (statement.line, statement.what.name());
            match self.statement(&statement.what, cx)? {
                Flow::Next => {}
                flow => {
                    self.at = above;
                    return Ok(flow);
                }
            }
        }
        self.at = above;
        Ok(Flow::Next)
    }

    fn statement(&mut self, what: &What, cx: &mut ExecCx<'_>) -> Done<Flow> {
        match what {
            What::Block(block) => return crate::expr::deep(|| self.block(block, cx)),
            What::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.truth(condition, cx)? {
                        return crate::expr::deep(|| self.statements(body, cx));
                    }
                }
                if let Some(body) = otherwise {
                    return crate::expr::deep(|| self.statements(body, cx));
                }
            }
            What::Case(case) => return crate::expr::deep(|| self.case(case, cx)),
            What::Loop(label, body) => return self.repeat(label.as_ref(), body, cx),
            What::While(label, condition, body) => {
                return self.repeat_while(label.as_ref(), condition, body, cx);
            }
            What::ForRange(each) => return self.for_range(each, cx),
            What::ForQuery(each) => return self.for_query(each, cx),
            What::ForEach(each) => return self.for_each(each, cx),
            What::Exit(exit) => return self.exit(exit, cx),
            What::Return(None) => return Ok(Flow::Return(Datum::Null, Type::UNKNOWN)),
            What::Return(Some(query)) => {
                let (value, from) = self.value(query, cx)?;
                return Ok(Flow::Return(value, from));
            }
            What::Assign(target, query) => {
                let (value, from) = self.value(query, cx)?;
                self.assign_to(target, value, from, cx)?;
            }
            What::Raise(raise) => raise::raise(raise, self, cx)?,
            What::Assert(condition, message) => {
                raise::assert(condition, message.as_ref(), self, cx)?;
            }
            What::Perform(query) => self.perform(query, cx)?,
            What::Sql(sql) => self.sql(sql, cx)?,
            What::Execute(execute) => self.execute(execute, cx)?,
            What::Diagnostics(stacked, items) => raise::diagnostics(*stacked, items, self, cx)?,
            What::Null => {}
        }
        Ok(Flow::Next)
    }

    fn case(&mut self, case: &Case, cx: &mut ExecCx<'_>) -> Done<Flow> {
        if let Some((slot, operand)) = &case.operand {
            let (value, from) = self.value(operand, cx)?;
            let ty = match from.oid == Type::UNKNOWN.oid {
                true => Type::TEXT,
                false => from,
            };
            let shape = crate::types::Shape {
                names: vec!["v".into()],
                types: vec![ty],
            };
            let record = crate::types::Record::new(Arc::new(shape), vec![value]);
            self.set(*slot, Datum::Record(Arc::new(record)));
        }
        for (condition, body) in &case.whens {
            if self.truth(condition, cx)? {
                return self.statements(body, cx);
            }
        }
        match &case.otherwise {
            Some(body) => self.statements(body, cx),
            None => Err(Error::new(state::CASE_NOT_FOUND, "case not found")
                .hint("CASE statement is missing ELSE part.")
                .into()),
        }
    }

    fn exit(&mut self, exit: &Exit, cx: &mut ExecCx<'_>) -> Done<Flow> {
        if let Some(condition) = &exit.when
            && !self.truth(condition, cx)?
        {
            return Ok(Flow::Next);
        }
        Ok(match exit.continues {
            true => Flow::Continue(exit.label.clone()),
            false => Flow::Exit(exit.label.clone()),
        })
    }

    /// One turn of a loop. `None`: another one follows.
    fn turn(
        &mut self,
        label: Option<&String>,
        body: &[Statement],
        cx: &mut ExecCx<'_>,
    ) -> Done<Option<Flow>> {
        cx.tick()?;
        let flow = crate::expr::deep(|| self.statements(body, cx))?;
        Ok(match turn(flow, label) {
            Turn::Again => None,
            Turn::Over(flow) => Some(flow),
        })
    }

    fn repeat(
        &mut self,
        label: Option<&String>,
        body: &[Statement],
        cx: &mut ExecCx<'_>,
    ) -> Done<Flow> {
        loop {
            if let Some(flow) = self.turn(label, body, cx)? {
                return Ok(flow);
            }
        }
    }

    fn repeat_while(
        &mut self,
        label: Option<&String>,
        condition: &Query,
        body: &[Statement],
        cx: &mut ExecCx<'_>,
    ) -> Done<Flow> {
        while self.truth(condition, cx)? {
            if let Some(flow) = self.turn(label, body, cx)? {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// A bound of a FOR loop.
    fn bound(&mut self, query: &Query, what: &str, cx: &mut ExecCx<'_>) -> Done<i32> {
        let (value, from) = self.value(query, cx)?;
        match coerce(value, from, Type::INT4, cx)? {
            Datum::Int4(value) => Ok(value),
            _ => {
                let message = format!("{what} of FOR loop cannot be null");
                Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into())
            }
        }
    }

    fn for_range(&mut self, each: &ForRange, cx: &mut ExecCx<'_>) -> Done<Flow> {
        let from = self.bound(&each.from, "lower bound", cx)?;
        let to = self.bound(&each.to, "upper bound", cx)?;
        let by = match &each.by {
            None => 1,
            Some(by) => self.bound(by, "BY value", cx)?,
        };
        if by <= 0 {
            let message = "BY value of FOR loop must be greater than zero";
            return Err(Error::new(state::INVALID_PARAMETER_VALUE, message).into());
        }
        let (mut found, mut at) = (false, Some(from));
        let inside = |at: i32| if each.reverse { at >= to } else { at <= to };
        let mut result = Flow::Next;
        while let Some(now) = at.filter(|at| inside(*at)) {
            found = true;
            self.set(each.slot, Datum::Int4(now));
            if let Some(flow) = self.turn(each.label.as_ref(), &each.body, cx)? {
                result = flow;
                break;
            }
            at = match each.reverse {
                true => now.checked_sub(by),
                false => now.checked_add(by),
            };
        }
        self.set_found(found);
        Ok(result)
    }

    fn for_query(&mut self, each: &ForQuery, cx: &mut ExecCx<'_>) -> Done<Flow> {
        let (planned, context, mut rows) = match &each.source {
            Source::Query(query) => {
                let context = format!("SQL statement \"{}\"", query.text);
                let (planned, rows) = self.rows_of(query, cx)?;
                (planned, context, rows)
            }
            Source::Execute(dynamic) => {
                let (text, planned, parameters) = self.dynamic(dynamic, cx)?;
                let Some(planned) = planned else {
                    let message = "cannot open EXECUTE statement as cursor";
                    return Err(Error::new(state::INVALID_CURSOR_DEFINITION, message).into());
                };
                let writes = self.code.writes && cx.calls.may_write();
                let context = format!("SQL statement \"{text}\"");
                let running = Running::open(Arc::clone(&planned), parameters, writes, cx)
                    .map_err(|stop| within(stop, || context.clone()))?;
                (planned, context, Rows::of(running, cx)?)
            }
        };
        let (mut found, mut result) = (false, Flow::Next);
        while let Some(row) = rows
            .next(cx)
            .map_err(|stop| within(stop, || context.clone()))?
        {
            found = true;
            self.assign_row(&each.targets, Some(row), &planned.columns, cx)?;
            if let Some(flow) = self.turn(each.label.as_ref(), &each.body, cx)? {
                result = flow;
                break;
            }
        }
        if !found {
            self.assign_row(&each.targets, None, &planned.columns, cx)?;
        }
        self.set_found(found);
        Ok(result)
    }

    /// The rows of a loop's query.
    fn rows_of(&mut self, query: &Query, cx: &mut ExecCx<'_>) -> Done<(Arc<Planned>, Rows)> {
        let shown = || format!("SQL statement \"{}\"", query.text);
        let ready = query
            .ready(self, cx)
            .map_err(|error| within(error.into(), shown))?;
        let planned = Arc::clone(&ready.planned);
        if !planned.returns_rows {
            let message = "cannot open INSERT query as cursor";
            return Err(Error::new(state::INVALID_CURSOR_DEFINITION, message).into());
        }
        let running = self
            .open(&planned, cx)
            .map_err(|stop| within(stop, shown))?;
        let rows = Rows::of(running, cx).map_err(|stop| within(stop, shown))?;
        Ok((planned, rows))
    }

    fn for_each(&mut self, each: &ForEach, cx: &mut ExecCx<'_>) -> Done<Flow> {
        let (value, from) = self.value(&each.array, cx)?;
        let array: Arc<Array> = match value {
            Datum::Array(array) => array,
            Datum::Null => {
                let message = "FOREACH expression must not be null";
                return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into());
            }
            _ => {
                let message = format!(
                    "FOREACH expression must yield an array, not type {}",
                    from.plain().name()
                );
                return Err(Error::new(state::DATATYPE_MISMATCH, message).into());
            }
        };
        let element = array.element;
        let columns = [OutputColumn {
            name: String::new(),
            ty: element,
            table: 0,
            number: 0,
        }];
        let (mut found, mut result) = (false, Flow::Next);
        for value in &array.values {
            found = true;
            self.assign_row(&each.targets, Some(vec![value.clone()]), &columns, cx)?;
            if let Some(flow) = self.turn(each.label.as_ref(), &each.body, cx)? {
                result = flow;
                break;
            }
        }
        self.set_found(found);
        Ok(result)
    }

    fn perform(&mut self, query: &Query, cx: &mut ExecCx<'_>) -> Done<()> {
        let shown = || format!("SQL statement \"SELECT {}\"", query.text);
        let ready = query
            .ready(self, cx)
            .map_err(|error| within(error.into(), shown))?;
        let mut running = self
            .open(&ready.planned, cx)
            .map_err(|stop| within(stop, shown))?;
        let mut count = 0;
        while running
            .next(cx)
            .map_err(|stop| within(stop, shown))?
            .is_some()
        {
            count += 1;
        }
        self.rows = count;
        self.set_found(count > 0);
        Ok(())
    }

    fn sql(&mut self, sql: &Sql, cx: &mut ExecCx<'_>) -> Done<()> {
        let shown = || format!("SQL statement \"{}\"", sql.query.text);
        if let Form::Ddl(ddl) = &sql.query.form {
            if sql.into.is_some() {
                return Err(into_without_rows().into());
            }
            let writes = self.code.writes && cx.calls.may_write();
            return run_ddl(ddl, writes, cx).map_err(|stop| within(stop, shown));
        }
        let ready = sql
            .query
            .ready(self, cx)
            .map_err(|error| within(error.into(), shown))?;
        let running = self
            .open(&ready.planned, cx)
            .map_err(|stop| within(stop, shown))?;
        if sql.into.is_none() && ready.planned.returns_rows {
            return Err(no_destination(&ready.planned).into());
        }
        self.finish(running, sql.into.as_ref(), true, cx, &shown)
    }

    /// Runs a statement to its end, the first row going where it is wanted.
    fn finish(
        &mut self,
        mut running: Running,
        into: Option<&(Into, bool)>,
        sets_found: bool,
        cx: &mut ExecCx<'_>,
        shown: &dyn Fn() -> String,
    ) -> Done<()> {
        let planned = Arc::clone(&running.planned);
        let mut next = |cx: &mut ExecCx<'_>| running.next(cx).map_err(|stop| within(stop, shown));
        let Some((into, strict)) = into else {
            let mut count = 0;
            while next(cx)?.is_some() {
                count += 1;
            }
            self.rows = match planned.tag {
                Tag::Select => count,
                _ => running.affected(),
            };
            if sets_found {
                let found = self.rows > 0;
                self.set_found(found);
            }
            return Ok(());
        };
        if !planned.returns_rows {
            return Err(into_without_rows().into());
        }
        let modifies = planned.tag != Tag::Select;
        let first = next(cx)?;
        let second = match *strict || modifies {
            true => next(cx)?,
            false => None,
        };
        if second.is_some() {
            return Err(too_many_rows().into());
        }
        if first.is_none() && *strict {
            return Err(Error::new(state::NO_DATA_FOUND, "query returned no rows").into());
        }
        self.rows = u64::from(first.is_some());
        if sets_found {
            self.set_found(first.is_some());
        }
        self.assign_row(into, first, &planned.columns, cx)
    }

    fn execute(&mut self, execute: &Execute, cx: &mut ExecCx<'_>) -> Done<()> {
        let (text, planned, parameters) = self.dynamic(&execute.dynamic, cx)?;
        let shown = || format!("SQL statement \"{text}\"");
        let Some(planned) = planned else {
            if execute.into.is_some() {
                return Err(into_without_rows().into());
            }
            return Ok(());
        };
        let writes = self.code.writes && cx.calls.may_write();
        let running =
            Running::open(planned, parameters, writes, cx).map_err(|stop| within(stop, shown))?;
        self.finish(running, execute.into.as_ref(), false, cx, &shown)
    }

    /// The text of EXECUTE, its plan and its arguments. DDL has no plan: it is carried out here.
    #[allow(clippy::type_complexity)]
    fn dynamic(
        &mut self,
        dynamic: &Dynamic,
        cx: &mut ExecCx<'_>,
    ) -> Done<(String, Option<Arc<Planned>>, Arc<[Datum]>)> {
        let Some(text) = self.text(&dynamic.text, cx)? else {
            let message = "query string argument of EXECUTE is null";
            return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into());
        };
        let (mut values, mut types) = (Vec::new(), Vec::new());
        for query in &dynamic.using {
            let (value, from) = self.value(query, cx)?;
            values.push(value);
            types.push(from);
        }
        let shown = || format!("SQL statement \"{text}\"");
        let parsed = parse_one(&text).map_err(|error| within(error.into(), shown))?;
        let planned = match parsed {
            parse::Statement::Query(query) => {
                let planned = plan_dynamic(&query, &types, cx);
                Some(planned.map_err(|error| within(error.into(), shown))?)
            }
            parse::Statement::Ddl(ddl) => {
                let writes = self.code.writes && cx.calls.may_write();
                run_ddl(&ddl, writes, cx).map_err(|stop| within(stop, shown))?;
                None
            }
            parse::Statement::Transaction(_) => {
                let what = "EXECUTE of transaction commands is not implemented";
                return Err(Error::new(state::FEATURE_NOT_SUPPORTED, what).into());
            }
            _ => {
                let word = text.split_whitespace().next().unwrap_or_default();
                let what = format!("{} in a function", word.to_uppercase());
                return Err(Error::unsupported(what).into());
            }
        };
        Ok((text, planned, values.into()))
    }
}

fn plan_dynamic(
    query: &sqlparser::ast::Statement,
    types: &[Type],
    cx: &ExecCx<'_>,
) -> crate::Result<Arc<Planned>> {
    let variables = Variables {
        arguments: types.len(),
        ..Variables::default()
    };
    let engine = Arc::clone(cx.transaction.engine());
    let bind = BindCx {
        role: cx.role,
        login: cx.login,
        path: cx.path,
        text: "",
        parameter_types: types,
        format: cx.evaluation.format,
        registry: engine.as_ref(),
        variables: Some(&variables),
    };
    plan::plan(query, cx.transaction.catalog(), &bind)
}

/// Rows of a loop. Those of tables are read before the loop begins: its body may change them.
struct Rows {
    running: Option<Running>,
    read: std::collections::VecDeque<Row>,
}

impl Rows {
    fn of(mut running: Running, cx: &mut ExecCx<'_>) -> Done<Rows> {
        let mut read = std::collections::VecDeque::new();
        let planned = &running.planned;
        if planned.tables.is_empty() && planned.remote.is_empty() && !planned.routines {
            return Ok(Rows {
                running: Some(running),
                read,
            });
        }
        let mut bytes = 0;
        while let Some(row) = running.next(cx)? {
            bytes += crate::exec::row_bytes(&row);
            cx.transaction.fits(bytes as u64)?;
            read.push_back(row);
        }
        Ok(Rows {
            running: None,
            read,
        })
    }

    fn next(&mut self, cx: &mut ExecCx<'_>) -> Done<Option<Row>> {
        match &mut self.running {
            Some(running) => running.next(cx),
            None => Ok(self.read.pop_front()),
        }
    }
}

/// May a handler have an error? Not what ends the statement whatever anybody says, nor what is no
/// error at all.
fn may_catch(error: &Error, cx: &ExecCx<'_>) -> bool {
    let ends = [state::QUERY_CANCELED, state::ADMIN_SHUTDOWN];
    !error.0.begins_anew
        && !ends.contains(&error.state())
        && !cx.evaluation.environment.is_stopping()
}

fn into_without_rows() -> Error {
    Error::new(
        state::SYNTAX_ERROR,
        "INTO used with a command that cannot return data",
    )
}

fn no_destination(planned: &Planned) -> Error {
    let error = Error::new(
        state::SYNTAX_ERROR,
        "query has no destination for result data",
    );
    match planned.tag {
        Tag::Select => {
            error.hint("If you want to discard the results of a SELECT, use PERFORM instead.")
        }
        Tag::Insert | Tag::Update | Tag::Delete | Tag::Erase => error,
    }
}

fn too_many_rows() -> Error {
    Error::new(state::TOO_MANY_ROWS, "query returned more than one row")
        .hint("Make sure the query returns a single row, or use LIMIT 1.")
}
