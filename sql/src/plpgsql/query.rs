//! SQL inside a function: parsed once, planned when it first runs with the types that its
//! variables have by then, and planned again when those, the catalog or the settings are others.

use std::sync::Arc;

use parking_lot::Mutex;

use super::frame::Frame;
use super::tree::{Kind, Variable};
use crate::bind::scope::{Range, RangeColumn, Visible};
use crate::bind::{Conflict, Variables};
use crate::catalog::{RoleId, SchemaId};
use crate::exec::ExecCx;
use crate::expr::{ColumnRef, Expr};
use crate::parse::{self, Ddl, Statement};
use crate::plan::{self, BindCx, Op, PlanNode, Planned};
use crate::transaction::Stop;
use crate::types::{Datum, Shape, Type};
use crate::{Error, Result, state};

/// Names of variables by block, the innermost one first.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub outer: Option<Arc<Names>>,
    pub label: Option<String>,
    /// Names and slots.
    pub names: Vec<(String, usize)>,
}

impl Names {
    /// The slot of a variable, by its bare name.
    pub fn find(&self, name: &str) -> Option<usize> {
        let own = self.names.iter().rev().find(|(own, _)| own == name);
        match (own, &self.outer) {
            (Some((_, slot)), _) => Some(*slot),
            (None, Some(outer)) => outer.find(name),
            (None, None) => None,
        }
    }

    /// The slot of a variable of a labelled block.
    pub fn find_in(&self, label: &str, name: &str) -> Option<usize> {
        if self.label.as_deref() == Some(label) {
            return self.names.iter().find(|(own, _)| own == name).map(|n| n.1);
        }
        self.outer.as_ref()?.find_in(label, name)
    }

    /// All blocks, the innermost one first.
    fn blocks(&self) -> impl Iterator<Item = &Names> {
        std::iter::successors(Some(self), |names| names.outer.as_deref())
    }
}

/// One piece of SQL.
#[derive(Debug)]
pub(super) struct Query {
    /// As it is written.
    pub text: Arc<str>,
    pub form: Form,
    /// The variable, if it is nothing else.
    pub bare: Option<usize>,
    names: Arc<Names>,
    conflict: Conflict,
    planned: Mutex<Option<Arc<Ready>>>,
}

/// What kind of statement it is.
#[derive(Debug)]
pub(super) enum Form {
    /// An expression, as a SELECT of it.
    Expression(Box<sqlparser::ast::Statement>),
    /// SELECT, INSERT, UPDATE, DELETE.
    Query(Box<sqlparser::ast::Statement>),
    /// What changes the catalog.
    Ddl(Box<Ddl>),
}

/// A plan, and what it was made for.
#[derive(Debug)]
pub(super) struct Ready {
    pub planned: Arc<Planned>,
    /// The expression alone, if it reads no tables.
    pub simple: Option<Expr>,
    /// The catalog's version.
    version: u64,
    role: RoleId,
    login: RoleId,
    path: Vec<SchemaId>,
    format: u64,
    /// The shapes that rows had, by slot.
    shapes: Vec<(usize, Option<Arc<Shape>>)>,
}

impl Query {
    /// An expression.
    ///
    /// # Errors
    /// 42601.
    pub fn expression(text: &str, names: &Arc<Names>, conflict: Conflict) -> Result<Query> {
        let text = text.trim();
        match parse_one(&format!("SELECT {text}"))? {
            Statement::Query(query) => Ok(Query {
                text: text.into(),
                form: Form::Expression(query),
                bare: None,
                names: Arc::clone(names),
                conflict,
                planned: Mutex::default(),
            }),
            _ => Err(Error::new(state::SYNTAX_ERROR, "an expression is expected")),
        }
    }

    /// A variable by its slot.
    ///
    /// # Errors
    /// None in practice.
    pub fn variable(slot: usize, names: &Arc<Names>) -> Result<Query> {
        let mut query = Query::expression("NULL", names, Conflict::Error)?;
        query.bare = Some(slot);
        Ok(query)
    }

    /// A statement; `shown` is its text as it was written.
    ///
    /// # Errors
    /// 42601; 0A000 for one that can't stand in a function.
    pub fn statement(
        text: &str,
        shown: &str,
        names: &Arc<Names>,
        conflict: Conflict,
    ) -> Result<Query> {
        let form = match parse_one(text)? {
            Statement::Query(query) => Form::Query(query),
            Statement::Ddl(ddl) => Form::Ddl(ddl),
            Statement::Transaction(_) => {
                let message = "invalid transaction termination";
                return Err(Error::new(state::INVALID_TRANSACTION_TERMINATION, message));
            }
            _ => {
                let word = text.split_whitespace().next().unwrap_or_default();
                let word = word.to_uppercase();
                return Err(Error::unsupported(format!("{word} in a function")));
            }
        };
        Ok(Query {
            text: shown.trim().into(),
            form,
            bare: None,
            names: Arc::clone(names),
            conflict,
            planned: Mutex::default(),
        })
    }

    /// The plan for the variables as they are.
    ///
    /// # Errors
    /// What binding finds.
    pub fn ready(&self, frame: &Frame<'_>, cx: &ExecCx<'_>) -> Result<Arc<Ready>> {
        let (Form::Expression(statement) | Form::Query(statement)) = &self.form else {
            return Err(Error::internal("only queries are planned"));
        };
        let variables = &frame.code.variables;
        let kept = self.planned.lock().clone();
        if let Some(kept) = kept.filter(|kept| kept.fits(variables, frame.values(), cx)) {
            return Ok(kept);
        }
        let ready = Arc::new(self.plan(statement, frame, cx)?);
        *self.planned.lock() = Some(Arc::clone(&ready));
        Ok(ready)
    }

    fn plan(
        &self,
        statement: &sqlparser::ast::Statement,
        frame: &Frame<'_>,
        cx: &ExecCx<'_>,
    ) -> Result<Ready> {
        let (declared, values) = (&frame.code.variables, frame.values());
        let mut variables = scope(&self.names, declared, values);
        variables.conflict = self.conflict;
        variables.arguments = frame.code.arguments;
        let types: Vec<Type> = declared.iter().map(type_of).collect();
        let engine = Arc::clone(cx.transaction.engine());
        let catalog = Arc::clone(cx.transaction.catalog());
        let bind = BindCx {
            role: cx.role,
            login: cx.login,
            path: cx.path,
            text: "",
            parameter_types: &types,
            format: cx.evaluation.format,
            registry: engine.as_ref(),
            variables: Some(&variables),
        };
        let planned = plan::plan(statement, &catalog, &bind)?;
        let rows = self.names.blocks().flat_map(|block| &block.names);
        let rows = rows
            .map(|(_, slot)| *slot)
            .filter(|slot| declared[*slot].is_row());
        Ok(Ready {
            simple: simple(&planned),
            planned,
            version: catalog.version(),
            role: cx.role,
            login: cx.login,
            path: cx.path.to_vec(),
            format: cx.calls.format,
            shapes: rows
                .map(|slot| (slot, declared[slot].shape(&values[slot])))
                .collect(),
        })
    }
}

impl Ready {
    fn fits(&self, variables: &[Variable], values: &[Datum], cx: &ExecCx<'_>) -> bool {
        self.version == cx.transaction.catalog().version()
            && (self.role, self.login, self.format) == (cx.role, cx.login, cx.calls.format)
            && self.path == cx.path
            && self.planned.is_placed(cx.transaction.engine().as_ref())
            && self.shapes.iter().all(|(slot, shape)| {
                let now = variables[*slot].shape(&values[*slot]);
                match (&now, shape) {
                    (Some(now), Some(then)) => Arc::ptr_eq(now, then) || now == then,
                    (None, None) => true,
                    _ => false,
                }
            })
    }
}

/// One statement.
///
/// # Errors
/// 42601.
pub(super) fn parse_one(text: &str) -> Result<Statement> {
    let mut all = parse::parse(text).map_err(without_position)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one.statement),
        (Some(_), false) => Err(Error::new(
            state::SYNTAX_ERROR,
            "cannot insert multiple commands into one statement",
        )),
        (None, _) => Err(Error::new(
            state::SYNTAX_ERROR,
            "syntax error at end of input",
        )),
    }
}

/// It would point into another text than the client's.
pub(super) fn without_position(mut error: Error) -> Error {
    error.0.position = None;
    error
}

fn type_of(variable: &Variable) -> Type {
    match &variable.kind {
        Kind::Scalar(ty) => *ty,
        Kind::Record | Kind::Row(_) => Type::RECORD,
    }
}

fn parameter(slot: usize, ty: Type) -> Expr {
    let index = u32::try_from(slot).unwrap_or(u32::MAX);
    Expr::Parameter { index, ty }
}

/// What the variables' names mean. Inner ones hide outer ones.
fn scope(names: &Names, declared: &[Variable], values: &[Datum]) -> Variables {
    let mut variables = Variables::default();
    for block in names.blocks() {
        let mut labelled = Vec::new();
        for (name, slot) in block.names.iter().rev() {
            let variable = &declared[*slot];
            let hidden = variables.visible.iter().any(|v| v.name == *name)
                || variables.unassigned.contains(name)
                || variables.ranges.iter().any(|r| r.alias == *name);
            match &variable.kind {
                Kind::Scalar(ty) => {
                    let expr = parameter(*slot, *ty);
                    labelled.push(column(name, expr.clone()));
                    if !hidden {
                        let (name, source) = (name.clone(), None);
                        variables.visible.push(Visible { name, expr, source });
                    }
                }
                Kind::Record | Kind::Row(_) if hidden => {}
                Kind::Record | Kind::Row(_) => match variable.shape(&values[*slot]) {
                    Some(shape) => {
                        let mut range = row_range(name, *slot, &shape);
                        range.schema.clone_from(&block.label);
                        variables.ranges.push(range);
                    }
                    None => variables.unassigned.push(name.clone()),
                },
            }
        }
        if let Some(label) = &block.label
            && !variables.ranges.iter().any(|range| range.alias == *label)
        {
            variables.ranges.push(range(label, labelled));
        }
    }
    variables
}

fn row_range(name: &str, slot: usize, shape: &Shape) -> Range {
    let fields = shape.names.iter().zip(&shape.types).enumerate();
    let columns = fields.map(|(index, (field, ty))| {
        let expr = Expr::Field {
            input: Box::new(parameter(slot, Type::RECORD)),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            ty: *ty,
        };
        column(field, expr)
    });
    range(name, columns.collect())
}

fn column(name: &str, expr: Expr) -> RangeColumn {
    RangeColumn {
        name: name.to_owned(),
        expr,
        origin: None,
        hidden: false,
    }
}

fn range(alias: &str, columns: Vec<RangeColumn>) -> Range {
    Range {
        alias: alias.to_owned(),
        schema: None,
        columns,
        table: None,
        access: None,
        scalar: false,
        qualified_only: true,
    }
}

/// The one expression of a plan that is nothing else.
fn simple(planned: &Planned) -> Option<Expr> {
    if !planned.tables.is_empty() || !planned.remote.is_empty() || planned.columns.len() != 1 {
        return None;
    }
    let one_row = |node: &PlanNode| matches!(&node.op, Op::Values(rows) if rows.len() == 1);
    let expr = match &planned.plan.op {
        Op::Project { input, exprs } if one_row(input) => exprs.first()?,
        Op::Values(rows) if rows.len() == 1 => rows[0].first()?,
        _ => return None,
    };
    let mut columns: Vec<ColumnRef> = Vec::new();
    expr.free_columns(&mut columns);
    let plain = columns.is_empty() && !expr.has_subquery();
    plain.then(|| expr.clone())
}

/// Hands a stop on with the piece of SQL that it comes from.
pub(super) fn within(stop: Stop, context: impl FnOnce() -> String) -> Stop {
    match stop {
        Stop::Error(error) => Stop::Error(add_context(without_position(error), &context())),
        other => other,
    }
}

/// Adds a line behind the CONTEXT that there is.
pub(super) fn add_context(mut error: Error, line: &str) -> Error {
    match &mut error.0.context {
        Some(context) => {
            context.push('\n');
            context.push_str(line);
        }
        None => error.0.context = Some(line.to_owned()),
    }
    error
}
