//! Comparisons and what is made of them: IS, IN, BETWEEN, LIKE, ANY and ALL, AND and OR.

use sqlparser::ast::{self, BinaryOperator};
use sqlparser::tokenizer::Span;

use super::{operator_name, span_of, strip};
use crate::bind::scope::Scope;
use crate::bind::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{AnyArray, Expr, RowCompare, RowOp};
use crate::types::Type;

impl Binder<'_> {
    pub(super) fn is_null(
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

    pub(super) fn is_bool(
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

    pub(super) fn distinct(
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
    pub(in crate::bind) fn distinct_values(
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

    pub(super) fn in_list(
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

    pub(super) fn between(
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
    pub(in crate::bind) fn between_symmetric(
        &mut self,
        value: Expr,
        a: Expr,
        b: Expr,
    ) -> Result<Expr> {
        let mut sides = Vec::new();
        for (low, high) in [(a.clone(), b.clone()), (b, a)] {
            let from = self.compare_pair(">=", value.clone(), low, None)?;
            let to = self.compare_pair("<=", value.clone(), high, None)?;
            sides.push(Expr::And(vec![from, to]));
        }
        Ok(Expr::Or(sides))
    }

    pub(super) fn like(
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

    pub(super) fn similar(
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

    /// `(a, b) OVERLAPS (c, d)`.
    pub(super) fn overlaps(
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
    pub(super) fn logical(
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
    pub(in crate::bind) fn compare_pair(
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
    pub(in crate::bind) fn compare_rows(
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

    pub(super) fn any_all(
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
    pub(in crate::bind) fn any_array(
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
