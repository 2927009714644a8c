//! Scalar expressions: SQL's tree to typed trees.

mod compare;
mod composite;

use sqlparser::ast::{self, BinaryOperator, UnaryOperator};
use sqlparser::tokenizer::Span;

pub(super) use self::composite::{array_over, composite_fields, make_row};

use super::scope::{Found, Scope, fold};
use super::subquery::{is_row, row_items};
use super::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{Case, Expr};
use crate::types::{Datum, Type};

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
        let known = self.cx.variables.map_or(PARAMETERS_MAX, |v| v.arguments);
        let Some(number @ 1..=PARAMETERS_MAX) = number.filter(|number| *number <= known) else {
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
                self.or_variable(&name, expr, scope)
                    .map_err(|error| self.at(error, ident.span))
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
                self.check_assigned(&name)?;
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
            self.check_assigned(table)?;
            return Err(self.at(missing_table(table, scope), span));
        };
        let found = range
            .column(column)
            .map_err(|error| self.at(error, span))?
            .cloned();
        let range = range.clone();
        let Some(found) = found else {
            if let Some(error) = self.no_field(&range, column) {
                return Err(error);
            }
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
