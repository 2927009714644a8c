//! Function calls: special forms, casts in call notation, scalar functions, aggregates, window
//! functions, set-returning functions and the server's own table functions.

use std::sync::Arc;

use sqlparser::ast;

use super::expression::{LATERAL, has_set_returning, make_row, not_allowed_set};
use super::from::name_span;
use super::scope::{FromItem, Range, Scope, fold};
use super::syntax::BETWEEN_SYMMETRIC;
use super::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{AggregateCall, Call, Expr, Subquery, SubqueryKind};
use crate::functions::{
    Argument, Kind, Resolved, functions_in, resolve::cast_like_call, resolve_among,
};
use crate::plan::{FunctionRel, Rel, RelColumn, SystemFunction, TableCall};
use crate::types::{Datum, Shape, Type};

/// The arguments of a call as they were bound.
pub(super) struct Given {
    pub(super) names: Vec<Option<String>>,
    pub(super) exprs: Vec<Expr>,
    variadic: bool,
    pub(super) star: bool,
}

impl Binder<'_> {
    /// A call in an expression.
    pub(super) fn function(
        &mut self,
        function: &ast::Function,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let parts = self.name_parts(&function.name)?;
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.as_str()),
            [schema, name] => (Some(schema.as_str()), name.as_str()),
            _ => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    format!("improper qualified name: {}", parts.join(".")),
                ));
            }
        };
        if let ast::FunctionArguments::Subquery(query) = &function.args {
            if name == "array" {
                return self.array_subquery(query, scope);
            }
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "syntax error at or near \"SELECT\"",
            ));
        }
        if matches!(function.args, ast::FunctionArguments::None)
            && let Some(expr) = self.keyword_function(name)?
        {
            return Ok(expr);
        }
        if schema.is_none()
            && let Some(expr) = self.special_form(name, function, scope, clause)?
        {
            return Ok(expr);
        }
        let inner = if function.over.is_some() {
            Clause::Window
        } else {
            clause
        };
        let is_aggregate = function.over.is_none()
            && crate::functions::functions_named(name).any(|f| f.is_aggregate());
        let inner = if is_aggregate {
            Clause::Aggregate
        } else {
            inner
        };
        if is_aggregate {
            self.aggregate_allowed(clause)
                .map_err(|e| self.at(e, name_span(&function.name)))?;
        }
        let given = self.given(&function.args, scope, inner)?;
        if given.star
            && let ast::FunctionArguments::List(list) = &function.args
            && list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct)
        {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "syntax error at or near \"*\"",
            ));
        }
        self.called(schema, name, given, function, scope, clause)
            .map_err(|error| self.at(error, name_span(&function.name)))
    }

    fn called(
        &mut self,
        schema: Option<&str>,
        name: &str,
        given: Given,
        function: &ast::Function,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        if let Some(system) = self.cx.registry.function(schema, name) {
            return self.system_scalar(system, given);
        }
        if is_own(schema, name, &given)
            && let Some(expr) = self.user_function(schema, name, &given, clause)?
        {
            return not_aggregate(expr, name, function);
        }
        if !matches!(schema, None | Some("pg_catalog" | "information_schema")) {
            return Err(unknown_function(schema, name, &given));
        }
        let plain = given.exprs.len() == 1 && given.names[0].is_none() && !given.star;
        if plain && let Some(target) = cast_like_call(name, given.exprs[0].ty()) {
            let expr = given
                .exprs
                .into_iter()
                .next()
                .expect("there is one argument");
            return self.cast(expr, target);
        }
        let ordered_set = !function.within_group.is_empty();
        let mut exprs = given.exprs.clone();
        let mut order = Vec::new();
        if ordered_set {
            order = self.sort_keys(&function.within_group, scope, Clause::Aggregate)?;
            exprs.extend(order.iter().map(|key| key.expr.clone()));
        }
        let resolved = resolve(schema, name, &exprs, &given)?;
        let args = self.arguments(exprs, &resolved)?;
        if let Some(over) = &function.over {
            return self.window_call(name, resolved, args, function, over, scope, clause);
        }
        if resolved.function.is_window() {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("window function {name} requires an OVER clause"),
            ));
        }
        if resolved.function.is_aggregate() {
            if ordered_set {
                let direct = args.len() - order.len();
                for (key, arg) in order.iter_mut().zip(&args[direct..]) {
                    key.expr = arg.clone();
                }
            } else if matches!(resolved.function.kind, Kind::OrderedSet(..)) {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("WITHIN GROUP is required for ordered-set aggregate {name}"),
                ));
            }
            return self.aggregate_call(resolved, args, order, function, scope);
        }
        if function.filter.is_some() {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("FILTER specified, but {name} is not an aggregate function"),
            ));
        }
        if let ast::FunctionArguments::List(list) = &function.args
            && list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct)
        {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("DISTINCT specified, but {name} is not an aggregate function"),
            ));
        }
        if given.star {
            return Err(unknown_function(schema, name, &given));
        }
        let returns_set = resolved.function.returns_set;
        let call = Box::new(Call {
            resolved,
            args,
            operator: None,
        });
        if !returns_set {
            return Ok(Expr::Call(call));
        }
        match clause {
            Clause::Select | Clause::Order | Clause::Group | Clause::Values | Clause::Returning => {
                Ok(Expr::SetReturning(call))
            }
            other => Err(not_allowed_set(match other {
                Clause::Aggregate => "aggregate functions",
                Clause::On => "JOIN conditions",
                other => other.name(),
            })),
        }
    }

    fn aggregate_call(
        &mut self,
        resolved: Resolved,
        args: Vec<Expr>,
        within: Vec<crate::expr::SortKey>,
        function: &ast::Function,
        scope: &Scope<'_>,
    ) -> Result<Expr> {
        let mut distinct = false;
        let mut order = within;
        if let ast::FunctionArguments::List(list) = &function.args {
            distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
            for clause in &list.clauses {
                if let ast::FunctionArgumentClause::OrderBy(keys) = clause {
                    order = self.sort_keys(keys, scope, Clause::Aggregate)?;
                }
            }
        }
        if distinct {
            let matches = |key: &crate::expr::SortKey| {
                args.iter().any(|arg| crate::expr::same(arg, &key.expr))
            };
            if !order.iter().all(matches) {
                return Err(Error::new(
                    state::INVALID_COLUMN_REFERENCE,
                    "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument \
                     list",
                ));
            }
            if args.is_empty() {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    "DISTINCT specified, but there are no arguments",
                ));
            }
            // PostgreSQL sorts to find equal values, and whoever lists them sees it.
            if resolved.function.name.ends_with("_agg") {
                for arg in &args {
                    if !order.iter().any(|key| crate::expr::same(&key.expr, arg)) {
                        order.push(crate::expr::SortKey {
                            expr: arg.clone(),
                            descending: false,
                            nulls_first: false,
                        });
                    }
                }
            }
        }
        let filter = match &function.filter {
            Some(filter) => Some(self.condition(filter, scope, Clause::Filter)?),
            None => None,
        };
        let call = AggregateCall {
            resolved,
            args,
            distinct,
            order,
            filter,
        };
        let mut nested = false;
        call.for_each_expr(&mut |expr| {
            nested |= crate::expr::contains(expr, &mut |e| matches!(e, Expr::Aggregate(_)));
        });
        if nested {
            return Err(Error::new(
                state::GROUPING_ERROR,
                "aggregate function calls cannot be nested",
            ));
        }
        Ok(Expr::Aggregate(Box::new(call)))
    }

    fn aggregate_allowed(&self, clause: Clause) -> Result<()> {
        let place = match clause {
            Clause::Select | Clause::Having | Clause::Order | Clause::Window => return Ok(()),
            Clause::Aggregate => {
                return Err(Error::new(
                    state::GROUPING_ERROR,
                    "aggregate function calls cannot be nested",
                ));
            }
            other => other.name(),
        };
        Err(Error::new(
            state::GROUPING_ERROR,
            format!("aggregate functions are not allowed in {place}"),
        ))
    }

    fn given(
        &mut self,
        args: &ast::FunctionArguments,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Given> {
        let mut given = Given {
            names: Vec::new(),
            exprs: Vec::new(),
            variadic: false,
            star: false,
        };
        if let ast::FunctionArguments::List(list) = args {
            self.given_list(&list.args, &mut given, scope, clause)?;
        }
        Ok(given)
    }

    fn given_list(
        &mut self,
        args: &[ast::FunctionArg],
        given: &mut Given,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<()> {
        for arg in args {
            let (name, value) = match arg {
                ast::FunctionArg::Unnamed(value) => (None, value),
                ast::FunctionArg::Named { name, arg, .. } => (Some(fold(name)), arg),
                ast::FunctionArg::ExprNamed { .. } => {
                    return Err(Error::unsupported("this kind of named argument"));
                }
            };
            match value {
                ast::FunctionArgExpr::Expr(expr) => {
                    let expr = match super::syntax::variadic(expr) {
                        Some(inner) => {
                            given.variadic = true;
                            inner
                        }
                        None => expr,
                    };
                    given.exprs.push(self.expr(expr, scope, clause)?);
                    given.names.push(name);
                }
                ast::FunctionArgExpr::Wildcard | ast::FunctionArgExpr::WildcardWithOptions(_) => {
                    given.star = true;
                }
                ast::FunctionArgExpr::QualifiedWildcard(table) => {
                    // `count(t.*)`: a whole-row argument.
                    let alias = self.single_name(table)?;
                    let range = scope.range(None, &alias)?.cloned();
                    let range =
                        range.ok_or_else(|| super::expression::missing_table(&alias, scope))?;
                    let row = self.whole_row(&range);
                    given.exprs.push(row);
                    given.names.push(None);
                }
            }
        }
        Ok(())
    }

    /// Forms with a grammar or evaluation of their own.
    fn special_form(
        &mut self,
        name: &str,
        function: &ast::Function,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Option<Expr>> {
        let known = matches!(
            name,
            "coalesce"
                | "nullif"
                | "greatest"
                | "least"
                | "row"
                | "grouping"
                | BETWEEN_SYMMETRIC
                | "current_timestamp"
                | "localtimestamp"
                | "current_time"
                | "localtime"
                | "normalize"
                | "xmlelement"
        );
        if !known {
            return Ok(None);
        }
        let args = self.given(&function.args, scope, clause)?.exprs;
        if args.iter().any(has_set_returning) && matches!(name, "coalesce") {
            return Err(not_allowed_set("COALESCE").hint(LATERAL));
        }
        let precision = |args: &[Expr]| match args {
            [
                Expr::Const {
                    value: Datum::Int4(p),
                    ..
                },
            ] => *p,
            _ => -1,
        };
        Ok(Some(match name {
            "coalesce" => {
                let ty = self.common_type(&args.iter().collect::<Vec<_>>(), "COALESCE")?;
                let args = args
                    .into_iter()
                    .map(|arg| self.coerce(arg, ty))
                    .collect::<Result<Vec<_>>>()?;
                Expr::Coalesce(args, ty)
            }
            "greatest" | "least" => {
                let greatest = name == "greatest";
                let word = if greatest { "GREATEST" } else { "LEAST" };
                let ty = self.common_type(&args.iter().collect::<Vec<_>>(), word)?;
                let args = args
                    .into_iter()
                    .map(|arg| self.coerce(arg, ty))
                    .collect::<Result<_>>()?;
                Expr::Extreme { args, greatest, ty }
            }
            "nullif" => {
                let [left, right]: [Expr; 2] = args
                    .try_into()
                    .map_err(|_| Error::new(state::SYNTAX_ERROR, "NULLIF takes two arguments"))?;
                self.null_if(left, right)?
            }
            "row" => make_row(args),
            "grouping" => Expr::Grouping(args),
            BETWEEN_SYMMETRIC => {
                let [value, a, b]: [Expr; 3] = args
                    .try_into()
                    .map_err(|_| Error::internal("BETWEEN SYMMETRIC has three operands"))?;
                self.between_symmetric(value, a, b)?
            }
            "current_timestamp" => {
                let modifier = precision(&args);
                self.now_as(Type::TIMESTAMPTZ.with_modifier(modifier))?
            }
            "localtimestamp" => {
                let modifier = precision(&args);
                self.now_as(Type::TIMESTAMP.with_modifier(modifier))?
            }
            "current_time" => {
                let modifier = precision(&args);
                self.now_as(Type::TIMETZ.with_modifier(modifier))?
            }
            "localtime" => {
                let modifier = precision(&args);
                self.now_as(Type::TIME.with_modifier(modifier))?
            }
            _ => return Ok(None),
        }))
    }

    fn null_if(&mut self, left: Expr, right: Expr) -> Result<Expr> {
        let left = if left.ty().oid == Type::UNKNOWN.oid && right.ty().oid == Type::UNKNOWN.oid {
            self.coerce(left, Type::TEXT)?
        } else {
            left
        };
        let equal = self.operator("=", left.clone(), right, None)?;
        let left = if left.ty().oid == Type::UNKNOWN.oid {
            match &equal {
                Expr::Call(call) => call.args[0].clone(),
                _ => left,
            }
        } else {
            left
        };
        let ty = left.ty();
        Ok(Expr::Case(Box::new(crate::expr::Case {
            operand: None,
            whens: vec![(equal, Expr::null(ty))],
            otherwise: Some(left),
            ty,
        })))
    }

    fn now_as(&mut self, ty: Type) -> Result<Expr> {
        let now = self.call_by_name("now", Vec::new())?;
        if ty.oid == Type::TIMESTAMPTZ.oid && ty.modifier < 0 {
            return Ok(now);
        }
        self.cast(now, ty)
    }

    /// `current_date`, `current_user` and their kin, written without brackets.
    pub(super) fn keyword_function(&mut self, name: &str) -> Result<Option<Expr>> {
        Ok(Some(match name {
            "current_date" => self.now_as(Type::DATE)?,
            "current_timestamp" => self.now_as(Type::TIMESTAMPTZ)?,
            "localtimestamp" => self.now_as(Type::TIMESTAMP)?,
            "current_time" => self.now_as(Type::TIMETZ)?,
            "localtime" => self.now_as(Type::TIME)?,
            "current_user" | "user" | "current_role" => {
                self.call_by_name("current_user", Vec::new())?
            }
            "session_user" => self.call_by_name("session_user", Vec::new())?,
            "current_catalog" => self.call_by_name("current_database", Vec::new())?,
            "current_schema" => self.call_by_name("current_schema", Vec::new())?,
            _ => return Ok(None),
        }))
    }

    /// A table function of the server in an expression: a scalar subquery over it.
    fn system_scalar(&mut self, system: Arc<dyn SystemFunction>, given: Given) -> Result<Expr> {
        if system.columns().len() != 1 {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("function {} must be called in FROM", system.name().1),
            ));
        }
        let ty = system.columns()[0].ty;
        self.calls_writing |= system.writes();
        let args = self.system_arguments(&*system, given)?;
        let column = self.column(system.name().1.to_owned(), ty);
        let outputs = vec![(column.id, ty)];
        let rel = Rel::Function(Box::new(FunctionRel {
            alias: system.name().1.to_owned(),
            calls: vec![(TableCall::System(system, args), vec![column])],
            ordinality: None,
        }));
        Ok(Expr::Subquery(Box::new(Subquery {
            kind: SubqueryKind::Scalar,
            rel,
            outputs,
            ty,
        })))
    }

    fn system_arguments(&mut self, system: &dyn SystemFunction, given: Given) -> Result<Vec<Expr>> {
        let wanted = system.arguments().to_vec();
        let mut slots: Vec<Option<Expr>> = vec![None; wanted.len()];
        let name = system.name().1.to_owned();
        let unknown = |given: &Given| unknown_function(Some(system.name().0), &name, given);
        for (index, (label, expr)) in given.names.iter().zip(&given.exprs).enumerate() {
            let at = match label {
                Some(label) => wanted.iter().position(|arg| arg.name == label),
                None => (index < wanted.len()).then_some(index),
            };
            let Some(at) = at.filter(|at| slots[*at].is_none()) else {
                return Err(unknown(&given));
            };
            slots[at] = Some(expr.clone());
        }
        wanted
            .iter()
            .zip(slots)
            .map(|(arg, slot)| match (slot, &arg.default) {
                (Some(expr), _) => self.coerce(expr, arg.ty),
                (None, Some(value)) => Ok(Expr::constant(value.clone(), arg.ty)),
                (None, None) => Err(unknown(&given)),
            })
            .collect()
    }

    /// A function in FROM.
    pub(super) fn table_function(
        &mut self,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        scope: &Scope<'_>,
    ) -> Result<FromItem> {
        let parts = self.name_parts(name)?;
        let schema = (parts.len() > 1).then(|| parts[0].clone());
        let last = parts.last().cloned().unwrap_or_default();
        let mut given = Given {
            names: Vec::new(),
            exprs: Vec::new(),
            variadic: false,
            star: false,
        };
        self.given_list(args, &mut given, scope, Clause::From)?;
        let call = self
            .table_call(schema.as_deref(), &last, given, alias)
            .map_err(|error| self.at(error, name_span(name)))?;
        self.function_item(vec![call], &last, ordinality, alias)
    }

    /// `FROM current_date`.
    pub(super) fn keyword_item(
        &mut self,
        name: &str,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Option<FromItem>> {
        let Some(expr) = self.keyword_function(name)? else {
            return Ok(None);
        };
        let label = alias.map_or_else(|| name.to_owned(), |alias| fold(&alias.name));
        let columns = vec![(label, expr.ty())];
        self.function_item(
            vec![(TableCall::Scalar(expr), columns, true)],
            name,
            false,
            alias,
        )
        .map(Some)
    }

    /// The call and the names and types of its columns; `true`: a single scalar column.
    fn table_call(
        &mut self,
        schema: Option<&str>,
        name: &str,
        given: Given,
        alias: Option<&ast::TableAlias>,
    ) -> Result<(TableCall, Vec<(String, Type)>, bool)> {
        if let Some(system) = self.cx.registry.function(schema, name) {
            self.calls_writing |= system.writes();
            let columns: Vec<(String, Type)> = system
                .columns()
                .iter()
                .map(|c| (c.name.to_owned(), c.ty))
                .collect();
            let args = self.system_arguments(&*system, given)?;
            return Ok((TableCall::System(system, args), columns, false));
        }
        if is_own(schema, name, &given)
            && let Some(expr) = self.user_function(schema, name, &given, Clause::From)?
        {
            let label = alias.map_or_else(|| name.to_owned(), |alias| fold(&alias.name));
            let columns = vec![(label, expr.ty())];
            return Ok((TableCall::Scalar(expr), columns, true));
        }
        if !matches!(schema, None | Some("pg_catalog" | "information_schema")) {
            return Err(unknown_function(schema, name, &given));
        }
        if let Some(expr) = match given.exprs.as_slice() {
            [] => self.keyword_function(name)?,
            _ => None,
        } {
            let ty = expr.ty();
            return Ok((TableCall::Scalar(expr), vec![(name.to_owned(), ty)], true));
        }
        let mut resolved = resolve(schema, name, &given.exprs, &given)?;
        let args = self.arguments(given.exprs, &resolved)?;
        if resolved.function.is_aggregate() {
            return Err(Error::new(
                state::GROUPING_ERROR,
                "aggregate functions are not allowed in functions in FROM",
            ));
        }
        let mut columns = resolved.columns();
        let mut record =
            columns.len() > 1 || (columns.len() == 1 && resolved.result.oid == Type::RECORD.oid);
        let defined: Vec<(String, Type)> = match alias {
            Some(alias) => alias
                .columns
                .iter()
                .filter_map(|column| column.data_type.as_ref().map(|ty| (&column.name, ty)))
                .map(|(name, ty)| Ok((fold(name), self.data_type(ty)?)))
                .collect::<Result<_>>()?,
            None => Vec::new(),
        };
        if resolved.result.oid == Type::RECORD.oid && columns.is_empty() {
            if defined.is_empty() {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    "a column definition list is required for functions returning \"record\"",
                ));
            }
            let shape = Shape {
                names: defined.iter().map(|(name, _)| Arc::from(&**name)).collect(),
                types: defined.iter().map(|(_, ty)| *ty).collect(),
            };
            resolved = resolved.with_shape(Arc::new(shape));
            columns = defined;
            record = true;
        }
        let scalar = !record;
        if scalar {
            let label = match columns.first() {
                Some((label, _)) if !label.is_empty() => label.clone(),
                _ => alias.map_or_else(|| name.to_owned(), |alias| fold(&alias.name)),
            };
            columns = vec![(label, resolved.result)];
        }
        let call = Box::new(Call {
            resolved,
            args,
            operator: None,
        });
        Ok((TableCall::Function(call, record), columns, scalar))
    }

    /// `unnest(a, b)` in FROM.
    pub(super) fn unnest(
        &mut self,
        arrays: &[ast::Expr],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        scope: &Scope<'_>,
    ) -> Result<FromItem> {
        let mut calls = Vec::with_capacity(arrays.len());
        for array in arrays {
            let expr = self.expr(array, scope, Clause::From)?;
            let given = Given {
                names: vec![None],
                exprs: vec![expr],
                variadic: false,
                star: false,
            };
            let single = (arrays.len() == 1).then_some(alias).flatten();
            calls.push(self.table_call(None, "unnest", given, single)?);
        }
        self.function_item(calls, "unnest", ordinality, alias)
    }

    fn function_item(
        &mut self,
        calls: Vec<(TableCall, Vec<(String, Type)>, bool)>,
        name: &str,
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
    ) -> Result<FromItem> {
        let shown = alias.map_or_else(|| name.to_owned(), |alias| fold(&alias.name));
        let scalar = calls.len() == 1 && calls[0].2 && !ordinality;
        let calls: Vec<(TableCall, Vec<RelColumn>)> = calls
            .into_iter()
            .map(|(call, columns, _)| {
                let columns = columns
                    .into_iter()
                    .map(|(name, ty)| self.column(name, ty))
                    .collect();
                (call, columns)
            })
            .collect();
        let ordinality = ordinality.then(|| self.column("ordinality", Type::INT8));
        let rel = Rel::Function(Box::new(FunctionRel {
            calls,
            ordinality,
            alias: shown.clone(),
        }));
        let mut range = Range::over(&shown, &rel.columns());
        range.scalar = scalar;
        super::from::rename(&mut range, alias)?;
        Ok(FromItem::single(rel, range))
    }
}

fn resolve(schema: Option<&str>, name: &str, exprs: &[Expr], given: &Given) -> Result<Resolved> {
    let arguments: Vec<Argument<'_>> = exprs
        .iter()
        .enumerate()
        .map(|(index, expr)| Argument {
            name: given.names.get(index).and_then(|name| name.as_deref()),
            kind: expr.ty(),
        })
        .collect();
    let functions = functions_in(schema.unwrap_or("pg_catalog"), name);
    let shown = qualified(schema, name);
    resolve_among(functions, &shown, &arguments, given.variadic)
}

/// May a user's function be meant first? Among the built-in ones there is none that fits exactly.
fn is_own(schema: Option<&str>, name: &str, given: &Given) -> bool {
    match schema {
        None => {
            let types = || given.exprs.iter().map(|expr| expr.ty().oid);
            let mut built_in = functions_in("pg_catalog", name);
            !built_in.any(|function| types().eq(function.arguments.iter().copied()))
        }
        Some(schema) => !["pg_catalog", "information_schema"].contains(&schema),
    }
}

/// What only aggregates may have is refused.
fn not_aggregate(expr: Expr, name: &str, function: &ast::Function) -> Result<Expr> {
    let what = match &function.args {
        _ if function.over.is_some() => {
            let message = format!(
                "OVER specified, but {name} is not a window function nor an aggregate function"
            );
            return Err(Error::new(state::WRONG_OBJECT_TYPE, message));
        }
        _ if function.filter.is_some() => "FILTER",
        _ if !function.within_group.is_empty() => "WITHIN GROUP",
        ast::FunctionArguments::List(list) if list.duplicate_treatment.is_some() => "DISTINCT",
        _ => return Ok(expr),
    };
    let message = format!("{what} specified, but {name} is not an aggregate function");
    Err(Error::new(state::WRONG_OBJECT_TYPE, message))
}

/// A function's name as errors show it: with the schema if the call has one.
fn qualified(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name.to_owned(),
    }
}

fn unknown_function(schema: Option<&str>, name: &str, given: &Given) -> Error {
    let types: Vec<String> = if given.star {
        vec!["*".to_owned()]
    } else {
        given
            .exprs
            .iter()
            .map(|expr| expr.ty().plain().name())
            .collect()
    };
    let name = qualified(schema, name);
    Error::new(
        state::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", types.join(", ")),
    )
    .hint(
        "No function matches the given name and argument types. You might need to add explicit \
         type casts.",
    )
}
