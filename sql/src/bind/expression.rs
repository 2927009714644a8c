//! Scalar expressions: SQL's tree to typed trees.

use sqlparser::ast::{self, BinaryOperator, UnaryOperator};
use sqlparser::tokenizer::Span;
use std::sync::Arc;

use super::scope::{Found, Range, Scope, fold};
use super::subquery::{is_row, row_items};
use super::syntax::{FIELDS, expansion};
use super::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{AnyArray, Case, Expr, RowCompare, RowOp};
use crate::types::{Datum, Shape, Type};

impl Binder<'_> {
    /// A condition: boolean, with the clause's name in the error.
    pub(super) fn condition(
        &mut self,
        expr: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let what = match clause {
            Clause::On => "JOIN/ON",
            other => other.name(),
        };
        let bound = self.expr(expr, scope, clause)?;
        self.boolean(bound, what)
            .map_err(|error| self.at(error, span_of(expr)))
    }

    /// An expression of any type.
    pub(super) fn expr(
        &mut self,
        expr: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        self.deeper(|binder| binder.expr_inner(expr, scope, clause))
    }

    fn expr_inner(&mut self, expr: &ast::Expr, scope: &Scope<'_>, clause: Clause) -> Result<Expr> {
        match expr {
            ast::Expr::Value(value) => self.value(value),
            ast::Expr::Identifier(ident) => self.identifier(ident, scope, clause),
            ast::Expr::CompoundIdentifier(parts) => self.compound(parts, scope),
            ast::Expr::Nested(inner) => self.expr(inner, scope, clause),
            ast::Expr::BinaryOp { left, op, right } => {
                self.binary(expr, left, op, right, scope, clause)
            }
            ast::Expr::UnaryOp { op, expr } => self.unary(op, expr, scope, clause),
            ast::Expr::IsNull(input) => self.is_null(input, false, scope, clause),
            ast::Expr::IsNotNull(input) => self.is_null(input, true, scope, clause),
            ast::Expr::IsTrue(e) => self.is_bool(e, Some(true), false, "IS TRUE", scope, clause),
            ast::Expr::IsNotTrue(e) => {
                self.is_bool(e, Some(true), true, "IS NOT TRUE", scope, clause)
            }
            ast::Expr::IsFalse(e) => self.is_bool(e, Some(false), false, "IS FALSE", scope, clause),
            ast::Expr::IsNotFalse(e) => {
                self.is_bool(e, Some(false), true, "IS NOT FALSE", scope, clause)
            }
            ast::Expr::IsUnknown(e) => self.is_bool(e, None, false, "IS UNKNOWN", scope, clause),
            ast::Expr::IsNotUnknown(e) => {
                self.is_bool(e, None, true, "IS NOT UNKNOWN", scope, clause)
            }
            ast::Expr::IsDistinctFrom(left, right) => {
                self.distinct(left, right, false, scope, clause)
            }
            ast::Expr::IsNotDistinctFrom(left, right) => {
                self.distinct(left, right, true, scope, clause)
            }
            ast::Expr::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated, scope, clause),
            ast::Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => self.in_subquery(expr, subquery, *negated, scope, clause),
            ast::Expr::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, *negated, low, high, scope, clause),
            ast::Expr::Like {
                negated,
                expr,
                pattern,
                escape_char,
                ..
            } => {
                let op = if *negated { "!~~" } else { "~~" };
                self.like(op, expr, pattern, escape_char.as_deref(), scope, clause)
            }
            ast::Expr::ILike {
                negated,
                expr,
                pattern,
                escape_char,
                ..
            } => {
                let op = if *negated { "!~~*" } else { "~~*" };
                self.like(op, expr, pattern, escape_char.as_deref(), scope, clause)
            }
            ast::Expr::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => self.similar(
                expr,
                pattern,
                escape_char.as_deref(),
                *negated,
                scope,
                clause,
            ),
            ast::Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => self.any_all(left, compare_op, right, false, scope, clause),
            ast::Expr::AllOp {
                left,
                compare_op,
                right,
            } => self.any_all(left, compare_op, right, true, scope, clause),
            ast::Expr::Cast {
                expr, data_type, ..
            } => self.cast_expr(expr, data_type, scope, clause),
            ast::Expr::TypedString(typed) => {
                let target = self.data_type(&typed.data_type)?;
                let value = self.value(&typed.value)?;
                self.cast(value, target)
                    .map_err(|error| self.at(error, typed.value.span))
            }
            ast::Expr::Interval(interval) => self.interval(interval, scope, clause),
            ast::Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let timestamp = self.expr(timestamp, scope, clause)?;
                let zone = self.expr(time_zone, scope, clause)?;
                self.call_by_name("timezone", vec![zone, timestamp])
            }
            ast::Expr::Extract { field, expr, .. } => {
                let field = literal_text(&field_name(field));
                let value = self.expr(expr, scope, clause)?;
                self.call_by_name("extract", vec![field, value])
            }
            ast::Expr::Ceil { expr, field } => self.rounded("ceil", expr, field, scope, clause),
            ast::Expr::Floor { expr, field } => self.rounded("floor", expr, field, scope, clause),
            ast::Expr::Position { expr, r#in } => {
                let needle = self.expr(expr, scope, clause)?;
                let text = self.expr(r#in, scope, clause)?;
                self.call_by_name("position", vec![text, needle])
            }
            ast::Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => self.substring(
                expr,
                substring_from.as_deref(),
                substring_for.as_deref(),
                scope,
                clause,
            ),
            ast::Expr::Trim {
                expr,
                trim_where,
                trim_what,
                trim_characters,
            } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    Some(ast::TrimWhereField::Both) | None => "btrim",
                };
                let mut args = vec![self.expr(expr, scope, clause)?];
                for what in trim_what.iter().map(|what| &**what) {
                    args.push(self.expr(what, scope, clause)?);
                }
                for what in trim_characters.iter().flatten() {
                    args.push(self.expr(what, scope, clause)?);
                }
                self.call_by_name(name, args)
            }
            ast::Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let mut args = vec![
                    self.expr(expr, scope, clause)?,
                    self.expr(overlay_what, scope, clause)?,
                    self.expr(overlay_from, scope, clause)?,
                ];
                if let Some(length) = overlay_for {
                    args.push(self.expr(length, scope, clause)?);
                }
                self.call_by_name("overlay", args)
            }
            ast::Expr::Collate { expr, collation } => {
                let parts = self.name_parts(collation)?;
                let name = parts.last().map_or("", String::as_str);
                if !matches!(
                    name,
                    "C" | "POSIX" | "default" | "ucs_basic" | "C.UTF-8" | "C.utf8"
                ) {
                    return Err(Error::new(
                        state::UNDEFINED_OBJECT,
                        format!("collation \"{name}\" for encoding \"UTF8\" does not exist"),
                    ));
                }
                self.expr(expr, scope, clause)
            }
            ast::Expr::Function(function) => match row_items(function) {
                Some(items) => self.row(&items, scope, clause),
                None => self.function(function, scope, clause),
            },
            ast::Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(
                operand.as_deref(),
                conditions,
                else_result.as_deref(),
                scope,
                clause,
            ),
            ast::Expr::Exists { subquery, negated } => {
                let exists = self.exists(subquery, scope)?;
                Ok(if *negated {
                    Expr::Not(Box::new(exists))
                } else {
                    exists
                })
            }
            ast::Expr::Subquery(query) => self.scalar_subquery(query, scope),
            ast::Expr::Tuple(items) => self.row(items, scope, clause),
            ast::Expr::Array(array) => self.array(&array.elem, scope, clause),
            ast::Expr::CompoundFieldAccess { root, access_chain } => {
                self.access(root, access_chain, scope, clause)
            }
            ast::Expr::QualifiedWildcard(name, _) => self.whole_row_named(name, scope),
            ast::Expr::IsNormalized {
                expr,
                form,
                negated,
            } => {
                let mut args = vec![self.expr(expr, scope, clause)?];
                if let Some(form) = form {
                    args.push(literal_text(&form.to_string()));
                }
                let call = self.call_by_name("is_normalized", args)?;
                Ok(if *negated {
                    Expr::Not(Box::new(call))
                } else {
                    call
                })
            }
            ast::Expr::JsonAccess { .. }
            | ast::Expr::IsJson { .. }
            | ast::Expr::InUnnest { .. }
            | ast::Expr::RLike { .. }
            | ast::Expr::Convert { .. }
            | ast::Expr::Prefixed { .. }
            | ast::Expr::GroupingSets(_)
            | ast::Expr::Cube(_)
            | ast::Expr::Rollup(_)
            | ast::Expr::Struct { .. }
            | ast::Expr::Named { .. }
            | ast::Expr::Dictionary(_)
            | ast::Expr::Map(_)
            | ast::Expr::MatchAgainst { .. }
            | ast::Expr::Wildcard(_)
            | ast::Expr::OuterJoin(_)
            | ast::Expr::Prior(_)
            | ast::Expr::Lambda(_)
            | ast::Expr::MemberOf(_) => Err(Error::new(
                state::SYNTAX_ERROR,
                format!("syntax error at or near \"{expr}\""),
            )),
        }
    }

    fn value(&mut self, value: &ast::ValueWithSpan) -> Result<Expr> {
        let unknown = |text: &str| Expr::constant(Datum::text(text), Type::UNKNOWN);
        Ok(match &value.value {
            ast::Value::Number(text, _) => number(text, false)?,
            ast::Value::SingleQuotedString(text)
            | ast::Value::EscapedStringLiteral(text)
            | ast::Value::UnicodeStringLiteral(text)
            | ast::Value::NationalStringLiteral(text) => unknown(text),
            ast::Value::DollarQuotedString(text) => unknown(&text.value),
            ast::Value::SingleQuotedByteStringLiteral(bits) => Expr::constant(
                Datum::from_text(bits, Type::VARBIT, self.cx.format)?,
                Type::BIT,
            ),
            ast::Value::HexStringLiteral(digits) => Expr::constant(
                Datum::from_text(&format!("x{digits}"), Type::VARBIT, self.cx.format)?,
                Type::BIT,
            ),
            ast::Value::Boolean(value) => Expr::bool(*value),
            ast::Value::Null => Expr::null(Type::UNKNOWN),
            ast::Value::Placeholder(name) => return self.placeholder(name, value.span),
            other => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    format!("syntax error at or near \"{other}\""),
                ));
            }
        })
    }

    fn placeholder(&mut self, name: &str, span: Span) -> Result<Expr> {
        let number: Option<usize> = name
            .strip_prefix('$')
            .and_then(|digits| digits.parse().ok());
        let Some(number @ 1..=PARAMETERS_MAX) = number else {
            let error = Error::new(
                state::UNDEFINED_PARAMETER,
                format!("there is no parameter {name}"),
            );
            return Err(self.at(error, span));
        };
        if self.parameters.len() < number {
            self.parameters.resize(number, None);
        }
        let ty = self.parameters[number - 1].unwrap_or(Type::UNKNOWN);
        let index = u32::try_from(number - 1).expect("PARAMETERS_MAX fits");
        Ok(Expr::Parameter { index, ty })
    }

    fn identifier(
        &mut self,
        ident: &ast::Ident,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let name = fold(ident);
        match scope
            .find(&name)
            .map_err(|error| self.at(error, ident.span))?
        {
            Some(Found::Column(expr, access)) => {
                if let Some((access, column)) = access {
                    self.touch(access, column);
                }
                Ok(expr)
            }
            Some(Found::Row(range)) => {
                let range = range.clone();
                Ok(self.whole_row(&range))
            }
            None if ident.quote_style.is_none() && name == "default" => match clause {
                Clause::Values | Clause::Set => Ok(Expr::Default),
                _ => Err(self.at(
                    Error::new(
                        state::SYNTAX_ERROR,
                        "DEFAULT is not allowed in this context",
                    ),
                    ident.span,
                )),
            },
            None => {
                if ident.quote_style.is_none()
                    && let Some(expr) = self.keyword_function(&name)?
                {
                    return Ok(expr);
                }
                let error = Error::new(
                    state::UNDEFINED_COLUMN,
                    format!("column \"{name}\" does not exist"),
                );
                Err(self.at(self.suggest(error, &name, scope), ident.span))
            }
        }
    }

    /// "Perhaps you meant ...": a column of that name that cannot be reached from here.
    fn suggest(&self, error: Error, name: &str, scope: &Scope<'_>) -> Error {
        let near = scope.ranges.iter().find_map(|range| {
            range
                .columns
                .iter()
                .filter(|column| !column.hidden)
                .find(|column| close(&column.name, name))
                .map(|column| format!("{}.{}", range.alias, column.name))
        });
        match near {
            Some(near) => error.hint(format!(
                "Perhaps you meant to reference the column \"{near}\"."
            )),
            None => error,
        }
    }

    fn compound(&mut self, parts: &[ast::Ident], scope: &Scope<'_>) -> Result<Expr> {
        let names: Vec<String> = parts.iter().map(fold).collect();
        let (schema, table, column) = match names.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] => (Some(schema.as_str()), table, column),
            [_, schema, table, column] => (Some(schema.as_str()), table, column),
            _ => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    format!(
                        "improper qualified name (too many dotted names): {}",
                        names.join(".")
                    ),
                ));
            }
        };
        let span = parts.first().map_or_else(Span::empty, |part| part.span);
        let Some(range) = scope.range(schema, table).map_err(|e| self.at(e, span))? else {
            // `column.field` of a composite column.
            if schema.is_none()
                && let Some(Found::Column(input, access)) = scope.find(table)?
                && matches!(input, Expr::Row { .. })
            {
                if let Some((access, column)) = access {
                    self.touch(access, column);
                }
                return self.field(input, column);
            }
            return Err(self.at(missing_table(table, scope), span));
        };
        let found = range
            .column(column)
            .map_err(|error| self.at(error, span))?
            .cloned();
        let range = range.clone();
        let Some(found) = found else {
            if let Some(call) = self.functional_notation(&range, column)? {
                return Ok(call);
            }
            let error = Error::new(
                state::UNDEFINED_COLUMN,
                format!("column {table}.{column} does not exist"),
            );
            return Err(self.at(self.suggest(error, column, scope), span));
        };
        if let Some(access) = range.access
            && !found.hidden
        {
            self.touch(access, found.origin);
        }
        Ok(found.expr)
    }

    /// `t.f` for a function f of a whole row is not offered; kept as the place to say so.
    fn functional_notation(&mut self, range: &Range, name: &str) -> Result<Option<Expr>> {
        let _ = (range, name);
        Ok(None)
    }

    /// A whole-row reference.
    pub(super) fn whole_row(&mut self, range: &Range) -> Expr {
        if let Some(access) = range.access {
            self.touch(access, None);
        }
        let columns: Vec<_> = range
            .columns
            .iter()
            .filter(|column| !column.hidden)
            .collect();
        if range.scalar && !columns.is_empty() {
            return columns[0].expr.clone();
        }
        let shape = Arc::new(Shape {
            names: columns
                .iter()
                .map(|column| Arc::from(column.name.as_str()))
                .collect(),
            types: columns.iter().map(|column| column.expr.ty()).collect(),
        });
        let items = columns.iter().map(|column| column.expr.clone()).collect();
        Expr::Row {
            items,
            shape,
            whole: true,
        }
    }

    /// `t.*` where one value is wanted: the whole row.
    fn whole_row_named(&mut self, name: &ast::ObjectName, scope: &Scope<'_>) -> Result<Expr> {
        let parts = self.name_parts(name)?;
        let (schema, alias) = match parts.as_slice() {
            [alias] => (None, alias.as_str()),
            [.., schema, alias] => (Some(schema.as_str()), alias.as_str()),
            [] => return Err(Error::internal("an empty name")),
        };
        match scope.range(schema, alias)?.cloned() {
            Some(range) => Ok(self.whole_row(&range)),
            None => Err(self.at(missing_table(alias, scope), super::from::name_span(name))),
        }
    }

    /// The fields of a row by name, each an expression: `(row).*`.
    pub(super) fn fields(&mut self, row: Expr) -> Result<Vec<(String, Expr)>> {
        if let Expr::Row { items, shape, .. } = row {
            let names = shape.names.iter().map(ToString::to_string);
            return Ok(names.zip(items).collect());
        }
        let Some(fields) = self.fields_of(&row) else {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("type {} is not composite", self.type_name(&row)),
            ));
        };
        let field = |(index, (name, ty)): (usize, (String, Type))| {
            let expr = Expr::Field {
                input: Box::new(row.clone()),
                index: u32::try_from(index).unwrap_or(u32::MAX),
                ty,
            };
            (name, expr)
        };
        Ok(fields.into_iter().enumerate().map(field).collect())
    }

    /// `(row).field`.
    pub(super) fn field(&mut self, input: Expr, name: &str) -> Result<Expr> {
        if let Expr::Row { items, shape, .. } = &input {
            if let Some(at) = shape.names.iter().position(|field| &**field == name) {
                return Ok(items[at].clone());
            }
        } else if let Some(fields) = self.fields_of(&input) {
            if let Some(at) = fields.iter().position(|(field, _)| field == name) {
                let ty = fields[at].1;
                let index = u32::try_from(at).unwrap_or(u32::MAX);
                return Ok(Expr::Field {
                    input: Box::new(input),
                    index,
                    ty,
                });
            }
        } else {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!(
                    "column notation .{name} applied to type {}, which is not a composite type",
                    self.type_name(&input)
                ),
            ));
        }
        Err(Error::new(
            state::UNDEFINED_COLUMN,
            format!("could not identify column \"{name}\" in record data type"),
        ))
    }

    fn is_null(
        &mut self,
        input: &ast::Expr,
        negated: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let input = self.expr(input, scope, clause)?;
        let input = self.settle_unknown(input)?;
        let row = input.ty().oid == Type::RECORD.oid;
        Ok(Expr::IsNull {
            input: Box::new(input),
            negated,
            row,
        })
    }

    fn is_bool(
        &mut self,
        input: &ast::Expr,
        value: Option<bool>,
        negated: bool,
        what: &str,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let input = self.expr(input, scope, clause)?;
        let input = Box::new(self.boolean(input, what)?);
        Ok(Expr::IsBool {
            input,
            value,
            negated,
        })
    }

    fn distinct(
        &mut self,
        left: &ast::Expr,
        right: &ast::Expr,
        negated: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let left = self.expr(left, scope, clause)?;
        let right = self.expr(right, scope, clause)?;
        if let (Expr::Row { items: a, .. }, Expr::Row { items: b, .. }) = (&left, &right)
            && a.len() == b.len()
        {
            let (a, b) = (a.clone(), b.clone());
            let pairs = a
                .into_iter()
                .zip(b)
                .map(|(a, b)| self.distinct_values(a, b, false))
                .collect::<Result<Vec<_>>>()?;
            let any = if pairs.len() == 1 {
                Expr::and(pairs)
            } else {
                Expr::Or(pairs)
            };
            return Ok(if negated {
                Expr::Not(Box::new(any))
            } else {
                any
            });
        }
        self.distinct_values(left, right, negated)
    }

    /// `left IS DISTINCT FROM right`.
    pub(super) fn distinct_values(
        &mut self,
        left: Expr,
        right: Expr,
        negated: bool,
    ) -> Result<Expr> {
        if right.is_null_constant() || left.is_null_constant() {
            let (value, null) = if right.is_null_constant() {
                (left, right)
            } else {
                (right, left)
            };
            let _ = null;
            let value = self.settle_unknown(value)?;
            return Ok(Expr::IsNull {
                input: Box::new(value),
                negated: !negated,
                row: false,
            });
        }
        let equal = self.operator("=", left, right, None)?;
        let Expr::Call(mut call) = equal else {
            return Err(Error::internal("= is an operator call"));
        };
        let right = call.args.pop().expect("= has two operands");
        let left = call.args.pop().expect("= has two operands");
        call.args = vec![
            Expr::Local {
                depth: 1,
                ty: left.ty(),
            },
            Expr::Local {
                depth: 0,
                ty: right.ty(),
            },
        ];
        Ok(Expr::Distinct {
            left: Box::new(left),
            right: Box::new(right),
            equal: Box::new(Expr::Call(call)),
            negated,
        })
    }

    fn in_list(
        &mut self,
        expr: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let left = self.expr(expr, scope, clause)?;
        let items = list
            .iter()
            .map(|item| self.expr(item, scope, clause))
            .collect::<Result<Vec<_>>>()?;
        let rows = matches!(left, Expr::Row { .. });
        let simple = !rows
            && items
                .iter()
                .all(|item| matches!(item, Expr::Const { .. } | Expr::Parameter { .. }));
        if simple && items.len() > 1 {
            let mut all = vec![&left];
            all.extend(&items);
            let known: Vec<&Expr> = all
                .iter()
                .copied()
                .filter(|e| e.ty().oid != Type::UNKNOWN.oid)
                .collect();
            let ty = if known.is_empty() {
                Ok(Type::TEXT)
            } else {
                self.common_type(&known, "IN")
            };
            if let Ok(ty) = ty
                && let Some(array) = ty.plain().array_of()
            {
                let ty = ty.plain();
                let items = items
                    .into_iter()
                    .map(|i| self.coerce(i, ty))
                    .collect::<Result<Vec<_>>>()?;
                let array = Expr::Array { items, ty: array };
                let op = if negated { "<>" } else { "=" };
                return self.any_array(left, op, array, negated, None);
            }
        }
        let tests = items
            .into_iter()
            .map(|item| self.compare_pair("=", left.clone(), item, Some(span_of(expr))))
            .collect::<Result<Vec<_>>>()?;
        let any = if tests.len() == 1 {
            Expr::and(tests)
        } else {
            Expr::Or(tests)
        };
        Ok(if negated {
            Expr::Not(Box::new(any))
        } else {
            any
        })
    }

    fn between(
        &mut self,
        expr: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let value = self.expr(expr, scope, clause)?;
        let low = self.expr(low, scope, clause)?;
        let high = self.expr(high, scope, clause)?;
        let span = Some(span_of(expr));
        if negated {
            let below = self.compare_pair("<", value.clone(), low, span)?;
            let above = self.compare_pair(">", value, high, span)?;
            return Ok(Expr::Or(vec![below, above]));
        }
        let from = self.compare_pair(">=", value.clone(), low, span)?;
        let to = self.compare_pair("<=", value, high, span)?;
        Ok(Expr::And(vec![from, to]))
    }

    /// `BETWEEN SYMMETRIC`.
    pub(super) fn between_symmetric(&mut self, value: Expr, a: Expr, b: Expr) -> Result<Expr> {
        let mut sides = Vec::new();
        for (low, high) in [(a.clone(), b.clone()), (b, a)] {
            let from = self.compare_pair(">=", value.clone(), low, None)?;
            let to = self.compare_pair("<=", value.clone(), high, None)?;
            sides.push(Expr::And(vec![from, to]));
        }
        Ok(Expr::Or(sides))
    }

    fn like(
        &mut self,
        op: &str,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let value = self.expr(expr, scope, clause)?;
        let mut pattern = self.expr(pattern, scope, clause)?;
        if let Some(escape) = escape {
            let escape = self.expr(escape, scope, clause)?;
            pattern = self.call_by_name("like_escape", vec![pattern, escape])?;
        }
        self.operator(op, value, pattern, Some(span_of(expr)))
    }

    fn similar(
        &mut self,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        negated: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let value = self.expr(expr, scope, clause)?;
        let mut args = vec![self.expr(pattern, scope, clause)?];
        if let Some(escape) = escape {
            args.push(self.expr(escape, scope, clause)?);
        }
        let pattern = self.call_by_name("similar_to_escape", args)?;
        self.operator(
            if negated { "!~" } else { "~" },
            value,
            pattern,
            Some(span_of(expr)),
        )
    }

    fn cast_expr(
        &mut self,
        expr: &ast::Expr,
        ty: &ast::DataType,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let target = self
            .data_type(ty)
            .map_err(|error| self.at(error, span_of(expr)))?;
        // An array constructor takes its element type from the cast around it.
        if let ast::Expr::Array(array) = strip(expr)
            && let Some(element) = target.element()
        {
            return self.array_of(&array.elem, element, scope, clause);
        }
        let bound = self.expr(expr, scope, clause)?;
        self.cast(bound, target)
            .map_err(|error| self.at(error, span_of(expr)))
    }

    fn interval(
        &mut self,
        interval: &ast::Interval,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let mut ty = "interval".to_owned();
        if let Some(field) = &interval.leading_field {
            ty = format!("{ty} {}", field_name(field));
            if let Some(last) = &interval.last_field {
                ty = format!("{ty} to {}", field_name(last));
            }
        }
        if let Some(precision) = interval
            .fractional_seconds_precision
            .or(interval.leading_precision)
        {
            ty = format!("{ty}({precision})");
        }
        let target = Type::parse(&ty)?;
        let value = self.expr(&interval.value, scope, clause)?;
        self.cast(value, target)
            .map_err(|error| self.at(error, span_of(&interval.value)))
    }

    fn rounded(
        &mut self,
        name: &str,
        expr: &ast::Expr,
        field: &ast::CeilFloorKind,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        if let ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) = field {
            let value = self.expr(expr, scope, clause)?;
            return self.call_by_name(name, vec![value]);
        }
        Err(Error::new(
            state::SYNTAX_ERROR,
            format!("syntax error in {name}()"),
        ))
    }

    fn substring(
        &mut self,
        expr: &ast::Expr,
        from: Option<&ast::Expr>,
        length: Option<&ast::Expr>,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let mut args = vec![self.expr(expr, scope, clause)?];
        match (from, length) {
            (None, Some(_)) => args.push(Expr::constant(Datum::Int4(1), Type::INT4)),
            (Some(from), _) => args.push(self.expr(from, scope, clause)?),
            (None, None) => {}
        }
        if let Some(length) = length {
            args.push(self.expr(length, scope, clause)?);
        }
        self.call_by_name("substring", args)
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let operand = match operand {
            Some(operand) => {
                let bound = self.expr(operand, scope, clause)?;
                Some(self.settle_unknown(bound)?)
            }
            None => None,
        };
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for when in conditions {
            let test = match &operand {
                Some(operand) => {
                    let value = self.expr(&when.condition, scope, clause)?;
                    let local = Expr::Local {
                        depth: 0,
                        ty: operand.ty(),
                    };
                    self.operator("=", local, shift_locals(value), None)?
                }
                None => {
                    let test = self.expr(&when.condition, scope, clause)?;
                    self.boolean(test, "CASE/WHEN")?
                }
            };
            tests.push(test);
            results.push(self.expr(&when.result, scope, clause)?);
        }
        let has_else = otherwise.is_some();
        match otherwise {
            Some(otherwise) => results.push(self.expr(otherwise, scope, clause)?),
            None => results.push(Expr::null(Type::UNKNOWN)),
        }
        if results.iter().any(has_set_returning) {
            return Err(not_allowed_set("CASE").hint(LATERAL));
        }
        // ELSE has the first say.
        let (last, rest) = results.split_last().expect("there is ELSE, or NULL for it");
        let order: Vec<&Expr> = std::iter::once(last).chain(rest).collect();
        let ty = self.common_type(&order, "CASE")?;
        let mut results = results
            .into_iter()
            .map(|result| self.coerce(result, ty))
            .collect::<Result<Vec<_>>>()?;
        let otherwise = results.pop().filter(|_| has_else);
        // Results, too, stand below the operand's local.
        let simple = operand.is_some();
        let shift = |expr: Expr| if simple { shift_locals(expr) } else { expr };
        Ok(Expr::Case(Box::new(Case {
            operand,
            whens: tests
                .into_iter()
                .zip(results.into_iter().map(shift))
                .collect(),
            otherwise: otherwise.map(shift),
            ty,
        })))
    }

    /// `ROW(...)`, `(a, b)`.
    fn row(&mut self, items: &[ast::Expr], scope: &Scope<'_>, clause: Clause) -> Result<Expr> {
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            if let ast::Expr::QualifiedWildcard(name, _) = item {
                match self.whole_row_named(name, scope)? {
                    Expr::Row { items, .. } => bound.extend(items),
                    scalar => bound.push(scalar),
                }
                continue;
            }
            if let Some(row) = expansion(item) {
                let row = self.expr(&row, scope, clause)?;
                bound.extend(self.fields(row)?.into_iter().map(|(_, field)| field));
                continue;
            }
            bound.push(self.expr(item, scope, clause)?);
        }
        Ok(make_row(bound))
    }

    fn array(&mut self, items: &[ast::Expr], scope: &Scope<'_>, clause: Clause) -> Result<Expr> {
        let items = items
            .iter()
            .map(|item| self.expr(item, scope, clause))
            .collect::<Result<Vec<_>>>()?;
        self.make_array(items)
    }

    /// `ARRAY[...]` of bound items.
    pub(super) fn make_array(&mut self, items: Vec<Expr>) -> Result<Expr> {
        if items.is_empty() {
            return Err(Error::new(
                state::INDETERMINATE_DATATYPE,
                "cannot determine type of empty array",
            )
            .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let element = self.common_type(&items.iter().collect::<Vec<_>>(), "ARRAY")?;
        let ty = if element.is_array() {
            Some(element)
        } else {
            element.array_of()
        };
        let ty = ty.ok_or_else(|| {
            Error::new(
                state::UNDEFINED_OBJECT,
                format!("could not find array type for data type {}", element.name()),
            )
        })?;
        let items = items
            .into_iter()
            .map(|item| self.coerce(item, element))
            .collect::<Result<_>>()?;
        Ok(Expr::Array {
            items,
            ty: ty.plain(),
        })
    }

    fn array_of(
        &mut self,
        items: &[ast::Expr],
        element: Type,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let ty = element.array_of().unwrap_or(element);
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            if let ast::Expr::Array(inner) = strip(item) {
                bound.push(self.array_of(&inner.elem, element, scope, clause)?);
                continue;
            }
            let item = self.expr(item, scope, clause)?;
            let target = if item.ty().is_array() { ty } else { element };
            bound.push(self.cast(item, target)?);
        }
        Ok(Expr::Array { items: bound, ty })
    }

    fn access(
        &mut self,
        root: &ast::Expr,
        chain: &[ast::AccessExpr],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        // `t.col[1]` may come as a chain of dots before the subscript.
        let mut value = None;
        let mut rest = chain;
        if let ast::Expr::Identifier(first) = root {
            let dots: Vec<ast::Ident> = chain
                .iter()
                .map_while(|access| match access {
                    ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => Some(ident.clone()),
                    _ => None,
                })
                .collect();
            if !dots.is_empty() {
                rest = &chain[dots.len()..];
                let parts: Vec<ast::Ident> = std::iter::once(first.clone()).chain(dots).collect();
                value = Some(self.compound(&parts, scope)?);
            }
        }
        let mut value = match value {
            Some(value) => value,
            None => self.expr(root, scope, clause)?,
        };
        let mut at = 0;
        while at < rest.len() {
            match &rest[at] {
                ast::AccessExpr::Dot(ast::Expr::Identifier(name)) if name.value == FIELDS => {
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        "row expansion via \"*\" is not supported here",
                    ));
                }
                ast::AccessExpr::Dot(ast::Expr::Identifier(name)) => {
                    value = self.field(value, &fold(name))?;
                    at += 1;
                }
                ast::AccessExpr::Dot(_) => {
                    return Err(Error::new(state::SYNTAX_ERROR, "syntax error at \".\""));
                }
                ast::AccessExpr::Subscript(_) => {
                    let subscripts: Vec<&ast::Subscript> = rest[at..]
                        .iter()
                        .map_while(|access| match access {
                            ast::AccessExpr::Subscript(subscript) => Some(subscript),
                            ast::AccessExpr::Dot(_) => None,
                        })
                        .collect();
                    at += subscripts.len();
                    value = self.subscripts(value, &subscripts, scope, clause)?;
                }
            }
        }
        Ok(value)
    }

    fn subscripts(
        &mut self,
        array: Expr,
        subscripts: &[&ast::Subscript],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let ty = array.ty();
        let Some(element) = ty.subscript() else {
            return Err(Error::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    ty.name()
                ),
            ));
        };
        let json = ty.oid == Type::JSONB.oid;
        let slices = subscripts
            .iter()
            .any(|s| matches!(s, ast::Subscript::Slice { .. }));
        if slices {
            let mut bounds = Vec::new();
            for subscript in subscripts {
                bounds.push(match subscript {
                    ast::Subscript::Index { index } => {
                        let one = Expr::constant(Datum::Int4(1), Type::INT4);
                        (Some(one), Some(self.index(index, scope, clause)?))
                    }
                    ast::Subscript::Slice {
                        lower_bound,
                        upper_bound,
                        ..
                    } => {
                        let lower = match lower_bound {
                            Some(bound) => Some(self.index(bound, scope, clause)?),
                            None => None,
                        };
                        let upper = match upper_bound {
                            Some(bound) => Some(self.index(bound, scope, clause)?),
                            None => None,
                        };
                        (lower, upper)
                    }
                });
            }
            return Ok(Expr::Slice {
                array: Box::new(array),
                bounds,
                ty,
            });
        }
        let mut indexes = Vec::new();
        for subscript in subscripts {
            let ast::Subscript::Index { index } = subscript else {
                continue;
            };
            let index = if json {
                let index = self.expr(index, scope, clause)?;
                self.settle_unknown(index)?
            } else {
                self.index(index, scope, clause)?
            };
            indexes.push(index);
        }
        Ok(Expr::Subscript {
            array: Box::new(array),
            indexes,
            ty: element,
        })
    }

    fn index(&mut self, index: &ast::Expr, scope: &Scope<'_>, clause: Clause) -> Result<Expr> {
        let index = self.expr(index, scope, clause)?;
        let assigned = self.coerce_in(index, Type::INT4, crate::types::CastContext::Assignment)?;
        assigned.map_err(|_| {
            Error::new(
                state::DATATYPE_MISMATCH,
                "array subscript must have type integer",
            )
        })
    }

    fn binary(
        &mut self,
        whole: &ast::Expr,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            return self.logical(whole, op, scope, clause);
        }
        if matches!(op, BinaryOperator::Overlaps) {
            return self.overlaps(left, right, scope, clause);
        }
        let name = operator_name(op)?;
        let span = span_of(left);
        if let ast::Expr::Subquery(query) = strip(right)
            && is_row(left)
        {
            return self.row_subquery(left, &name, query, scope, clause);
        }
        let left = self.expr(left, scope, clause)?;
        let right = self.expr(right, scope, clause)?;
        self.compare_pair(&name, left, right, Some(span))
    }

    /// `(a, b) OVERLAPS (c, d)`.
    fn overlaps(
        &mut self,
        left: &ast::Expr,
        right: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let mut args = Vec::with_capacity(4);
        for (side, word) in [(left, "left"), (right, "right")] {
            let items = match strip(side) {
                ast::Expr::Tuple(items) if items.len() == 2 => items,
                _ => {
                    let message =
                        format!("wrong number of parameters on {word} side of OVERLAPS expression");
                    let error = Error::new(state::SYNTAX_ERROR, message);
                    return Err(self.at(error, span_of(side)));
                }
            };
            for item in items {
                args.push(self.expr(item, scope, clause)?);
            }
        }
        self.call_by_name("overlaps", args)
    }

    /// AND and OR chains, however long, without recursion on their spine.
    fn logical(
        &mut self,
        whole: &ast::Expr,
        op: &BinaryOperator,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let mut leaves = Vec::new();
        let mut at = whole;
        loop {
            match at {
                ast::Expr::BinaryOp {
                    left,
                    op: own,
                    right,
                } if own == op => {
                    leaves.push(&**right);
                    at = left;
                }
                other => {
                    leaves.push(other);
                    break;
                }
            }
        }
        let word = if *op == BinaryOperator::And {
            "AND"
        } else {
            "OR"
        };
        let mut items = Vec::with_capacity(leaves.len());
        for leaf in leaves.into_iter().rev() {
            let item = self.expr(leaf, scope, clause)?;
            items.push(
                self.boolean(item, word)
                    .map_err(|e| self.at(e, span_of(leaf)))?,
            );
        }
        Ok(if *op == BinaryOperator::And {
            Expr::And(items)
        } else {
            Expr::Or(items)
        })
    }

    /// An operator over two values or two rows.
    pub(super) fn compare_pair(
        &mut self,
        name: &str,
        left: Expr,
        right: Expr,
        span: Option<Span>,
    ) -> Result<Expr> {
        let both = match (&left, &right) {
            (
                Expr::Row {
                    items: a,
                    whole: false,
                    ..
                },
                Expr::Row {
                    items: b,
                    whole: false,
                    ..
                },
            ) => Some((a.clone(), b.clone())),
            _ => None,
        };
        match both {
            Some((a, b)) => self.compare_rows(name, a, b),
            None => self.operator(name, left, right, span),
        }
    }

    /// Row-wise comparison.
    pub(super) fn compare_rows(
        &mut self,
        name: &str,
        left: Vec<Expr>,
        right: Vec<Expr>,
    ) -> Result<Expr> {
        if left.len() != right.len() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "unequal number of entries in row expressions",
            ));
        }
        if left.is_empty() {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot compare rows of zero length",
            ));
        }
        let op = match name {
            "=" | "<>" => {
                let pairs = left
                    .into_iter()
                    .zip(right)
                    .map(|(l, r)| self.compare_pair(name, l, r, None))
                    .collect::<Result<Vec<_>>>()?;
                return Ok(match (name, pairs.len()) {
                    (_, 1) | ("=", _) => Expr::and(pairs),
                    _ => Expr::Or(pairs),
                });
            }
            "<" => RowOp::Less,
            "<=" => RowOp::LessEqual,
            ">" => RowOp::Greater,
            ">=" => RowOp::GreaterEqual,
            other => {
                return Err(Error::new(
                    state::FEATURE_NOT_SUPPORTED,
                    format!(
                        "could not determine interpretation of row comparison operator {other}"
                    ),
                )
                .hint(
                    "Row comparison operators must be associated with btree operator families.",
                ));
            }
        };
        let mut compare = RowCompare {
            op,
            left: Vec::new(),
            right: Vec::new(),
        };
        for (l, r) in left.into_iter().zip(right) {
            let Expr::Call(mut call) = self.operator("<", l, r, None)? else {
                return Err(Error::internal("< is an operator call"));
            };
            compare
                .right
                .push(call.args.pop().expect("< has two operands"));
            compare
                .left
                .push(call.args.pop().expect("< has two operands"));
        }
        Ok(Expr::RowCompare(Box::new(compare)))
    }

    fn unary(
        &mut self,
        op: &UnaryOperator,
        operand: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        if *op == UnaryOperator::Minus
            && let Some(text) = literal_number(operand)
        {
            return match text.strip_prefix('-') {
                Some(positive) => number(positive, false),
                None => number(&text, true),
            };
        }
        let bound = self.expr(operand, scope, clause)?;
        let name = match op {
            UnaryOperator::Not => {
                let bound = self
                    .boolean(bound, "NOT")
                    .map_err(|e| self.at(e, span_of(operand)))?;
                return Ok(Expr::Not(Box::new(bound)));
            }
            UnaryOperator::Plus => "+",
            UnaryOperator::Minus => "-",
            UnaryOperator::BitwiseNot => "~",
            UnaryOperator::PGSquareRoot => "|/",
            UnaryOperator::PGCubeRoot => "||/",
            UnaryOperator::PGPrefixFactorial => "!!",
            UnaryOperator::PGAbs => "@",
            UnaryOperator::BangNot => "!",
            UnaryOperator::AtDashAt => "@-@",
            UnaryOperator::DoubleAt => "@@",
            UnaryOperator::Hash => "#",
            UnaryOperator::QuestionDash => "?-",
            UnaryOperator::QuestionPipe => "?|",
            UnaryOperator::PGPostfixFactorial => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    "syntax error at or near \"!\"",
                ));
            }
        };
        self.prefix(name, bound)
            .map_err(|error| self.at(error, span_of(operand)))
    }

    fn any_all(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        all: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let name = operator_name(op)?;
        if let ast::Expr::Subquery(query) = strip(right) {
            return self.any_subquery(left, &name, query, all, scope, clause);
        }
        let span = span_of(left);
        let left = self.expr(left, scope, clause)?;
        let right = self.expr(right, scope, clause)?;
        self.any_array(left, &name, right, all, Some(span))
    }

    /// `left op ANY (array)`.
    pub(super) fn any_array(
        &mut self,
        left: Expr,
        op: &str,
        array: Expr,
        all: bool,
        span: Option<Span>,
    ) -> Result<Expr> {
        let array_type = array.ty();
        let element = match array_type.element() {
            Some(element) => element,
            None if array_type.is_vector() => array_type.subscript().unwrap_or(Type::INT2),
            None if array_type.oid == Type::UNKNOWN.oid => Type::UNKNOWN,
            None => {
                let error = Error::new(
                    state::WRONG_OBJECT_TYPE,
                    "op ANY/ALL (array) requires array on right side",
                );
                return Err(span.map_or(error.clone(), |span| self.at(error, span)));
            }
        };
        let right = Expr::Local {
            depth: 0,
            ty: element,
        };
        let placeholder = Expr::Local {
            depth: 1,
            ty: left.ty(),
        };
        let found = crate::functions::resolve_operator(op, Some(left.ty()), right.ty())
            .map_err(|e| span.map_or(e.clone(), |span| self.at(e, span)))?;
        let left_type = found.call.arguments[0];
        let right_type = found.call.arguments[1];
        if found.call.result.oid != Type::BOOL.oid {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                "op ANY/ALL (array) requires operator to yield boolean",
            ));
        }
        let left = self.coerce(left, left_type)?;
        // The array is cast as a whole, so that literals and parameters become arrays.
        let array = match right_type.array_of() {
            Some(target) if element.oid != right_type.oid => self.coerce(array, target)?,
            _ => array,
        };
        let _ = placeholder;
        let test = Expr::Call(Box::new(crate::expr::Call {
            args: vec![
                Expr::Local {
                    depth: 1,
                    ty: left_type,
                },
                Expr::Local {
                    depth: 0,
                    ty: right_type,
                },
            ],
            resolved: found.call,
            operator: Some(found.operator.name),
        }));
        Ok(Expr::AnyArray(Box::new(AnyArray {
            left,
            array,
            test,
            all,
        })))
    }
}

/// `$n` above this is refused, as the protocol counts parameters in 16 bits.
const PARAMETERS_MAX: usize = 65_535;

/// A numeric literal: integer, bigint or numeric.
fn number(text: &str, negative: bool) -> Result<Expr> {
    let text = text.replace('_', "");
    let text = if negative { format!("-{text}") } else { text };
    if let Ok(value) = text.parse::<i32>() {
        return Ok(Expr::constant(Datum::Int4(value), Type::INT4));
    }
    if let Ok(value) = text.parse::<i64>() {
        return Ok(Expr::constant(Datum::Int8(value), Type::INT8));
    }
    let format = crate::types::FormatSettings::default();
    Ok(Expr::constant(
        Datum::from_text(&text, Type::NUMERIC, &format)?,
        Type::NUMERIC,
    ))
}

/// A number, possibly in brackets and with signs: PostgreSQL's parser negates it as text.
fn literal_number(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Nested(inner) => literal_number(inner),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => Some(text.clone()),
            _ => None,
        },
        ast::Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => {
            let text = literal_number(expr)?;
            Some(
                text.strip_prefix('-')
                    .map_or_else(|| format!("-{text}"), str::to_owned),
            )
        }
        _ => None,
    }
}

/// An untyped string literal.
pub(super) fn literal_text(text: &str) -> Expr {
    Expr::constant(Datum::text(text), Type::TEXT)
}

/// `ROW(...)` of bound items.
pub(super) fn make_row(items: Vec<Expr>) -> Expr {
    let items: Vec<Expr> = items
        .into_iter()
        .map(|item| match item {
            Expr::Const { value, ty } if ty.oid == Type::UNKNOWN.oid => Expr::Const {
                value,
                ty: Type::UNKNOWN,
            },
            other => other,
        })
        .collect();
    let shape = Arc::new(Shape::anonymous(items.iter().map(Expr::ty).collect()));
    Expr::Row {
        items,
        shape,
        whole: false,
    }
}

/// An expression that moves below one more local.
fn shift_locals(mut expr: Expr) -> Expr {
    fn go(expr: &mut Expr, bound: u32) {
        match expr {
            Expr::Local { depth, .. } => {
                if *depth >= bound {
                    *depth += 1;
                }
            }
            Expr::Case(case) if case.operand.is_some() => {
                if let Some(operand) = &mut case.operand {
                    go(operand, bound);
                }
                for (condition, result) in &mut case.whens {
                    go(condition, bound + 1);
                    go(result, bound + 1);
                }
                if let Some(otherwise) = &mut case.otherwise {
                    go(otherwise, bound + 1);
                }
            }
            Expr::Distinct {
                left, right, equal, ..
            } => {
                go(left, bound);
                go(right, bound);
                go(equal, bound + 2);
            }
            Expr::AnyArray(any) => {
                go(&mut any.left, bound);
                go(&mut any.array, bound);
                go(&mut any.test, bound + 2);
            }
            other => other.for_each_child_mut(&mut |child| go(child, bound)),
        }
    }
    go(&mut expr, 0);
    expr
}

/// Field names and types of a composite value, when they are known.
pub(super) fn composite_fields(expr: &Expr) -> Option<Vec<(String, Type)>> {
    match expr {
        Expr::Row { shape, .. } => Some(
            shape
                .names
                .iter()
                .map(ToString::to_string)
                .zip(shape.types.iter().copied())
                .collect(),
        ),
        Expr::Call(call) | Expr::SetReturning(call) => {
            let columns = call.resolved.columns();
            (!columns.is_empty()).then_some(columns)
        }
        _ => None,
    }
}

/// The expression inside brackets.
pub(super) fn strip(expr: &ast::Expr) -> &ast::Expr {
    match expr {
        ast::Expr::Nested(inner) => strip(inner),
        other => other,
    }
}

/// Where an expression begins.
pub(super) fn span_of(expr: &ast::Expr) -> Span {
    use sqlparser::ast::Spanned;
    crate::expr::deep(|| match expr {
        ast::Expr::Identifier(ident) => ident.span,
        ast::Expr::CompoundIdentifier(parts) => {
            parts.first().map_or_else(Span::empty, |part| part.span)
        }
        ast::Expr::Value(value) => value.span,
        ast::Expr::BinaryOp { left, .. } => span_of(left),
        ast::Expr::Nested(inner) => span_of(inner),
        ast::Expr::Cast { expr, .. } => span_of(expr),
        ast::Expr::Function(function) => super::from::name_span(&function.name),
        ast::Expr::Subquery(_) | ast::Expr::Exists { .. } => Span::empty(),
        other => other.span(),
    })
}

/// 42P01 for a qualifier that is not in FROM.
pub(super) fn missing_table(name: &str, scope: &Scope<'_>) -> Error {
    if scope.is_forbidden(name) {
        return Error::new(
            state::UNDEFINED_TABLE,
            format!("invalid reference to FROM-clause entry for table \"{name}\""),
        )
        .hint(format!(
            "There is an entry for table \"{name}\", but it cannot be referenced from this part \
             of the query."
        ));
    }
    if let Some(alias) = scope.alias_of(name) {
        return Error::new(
            state::UNDEFINED_TABLE,
            format!("invalid reference to FROM-clause entry for table \"{name}\""),
        )
        .hint(format!(
            "Perhaps you meant to reference the table alias \"{alias}\"."
        ));
    }
    Error::new(
        state::UNDEFINED_TABLE,
        format!("missing FROM-clause entry for table \"{name}\""),
    )
}

/// Whether a set-returning call stands inside.
pub(super) fn has_set_returning(expr: &Expr) -> bool {
    crate::expr::contains(expr, &mut |e| matches!(e, Expr::SetReturning(_)))
}

/// The way out for set-returning functions in conditional expressions.
pub(super) const LATERAL: &str =
    "You might be able to move the set-returning function into a LATERAL FROM item.";

/// 0A000 for set-returning functions where they can't be.
pub(super) fn not_allowed_set(place: &str) -> Error {
    Error::new(
        state::FEATURE_NOT_SUPPORTED,
        format!("set-returning functions are not allowed in {place}"),
    )
}

fn close(have: &str, want: &str) -> bool {
    have != want && have.len() > 2 && have.replace('_', "") == want.replace('_', "")
}

fn field_name(field: &ast::DateTimeField) -> String {
    let text = field.to_string();
    text.trim_matches('\'')
        .trim_matches('"')
        .to_ascii_lowercase()
}

/// The symbol of an operator.
pub(super) fn operator_name(op: &BinaryOperator) -> Result<String> {
    Ok(match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => {
            let qualified = parts.len() > 1;
            if qualified && parts[..parts.len() - 1] != ["pg_catalog"] {
                return Err(Error::new(
                    state::UNDEFINED_FUNCTION,
                    format!("operator does not exist: {}", parts.join(".")),
                ));
            }
            parts.last().cloned().unwrap_or_default()
        }
        BinaryOperator::PGLikeMatch => "~~".to_owned(),
        BinaryOperator::PGILikeMatch => "~~*".to_owned(),
        BinaryOperator::PGNotLikeMatch => "!~~".to_owned(),
        BinaryOperator::PGNotILikeMatch => "!~~*".to_owned(),
        BinaryOperator::PGRegexMatch => "~".to_owned(),
        BinaryOperator::PGRegexIMatch => "~*".to_owned(),
        BinaryOperator::PGRegexNotMatch => "!~".to_owned(),
        BinaryOperator::PGRegexNotIMatch => "!~*".to_owned(),
        BinaryOperator::Custom(symbol) => symbol.clone(),
        BinaryOperator::NotEq => "<>".to_owned(),
        other => other.to_string(),
    })
}
