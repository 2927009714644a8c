//! Coercion: literals and parameters take the type that their use asks for, values are cast where
//! PostgreSQL casts by itself, and a set of expressions finds its common type.

use sqlparser::ast;

use super::Binder;
use crate::error::{Error, Result, state};
use crate::expr::{Cast, Expr};
use crate::functions::{CommonContext, common_type};
use crate::types::cast::{can_coerce, cannot_cast, cast_alone};
use crate::types::{CastContext, Datum, Type, cast_function};

impl Binder<'_> {
    /// The type that a statement's text names.
    pub(super) fn data_type(&self, ty: &ast::DataType) -> Result<Type> {
        Type::parse(&ty.to_string())
    }

    /// The common type of expressions; `word` names the construct in errors.
    pub(super) fn common_type(&self, exprs: &[&Expr], word: &str) -> Result<Type> {
        let types: Vec<Type> = exprs.iter().map(|expr| expr.ty()).collect();
        common_type(&types, context_of(word)).map_err(|mut error| {
            if word.starts_with("JOIN") {
                error.0.message = error.0.message.replacen("UNION", word, 1);
            }
            error
        })
    }

    /// Casts implicitly; the caller knows that it is possible, or wants 42846.
    pub(super) fn coerce(&mut self, expr: Expr, target: Type) -> Result<Expr> {
        self.coerce_in(expr, target, CastContext::Implicit)?
            .map_err(|expr| cannot_cast(expr.ty(), target))
    }

    /// Casts explicitly (`::`).
    pub(super) fn cast(&mut self, expr: Expr, target: Type) -> Result<Expr> {
        self.coerce_in(expr, target, CastContext::Explicit)?
            .map_err(|expr| cannot_cast(expr.ty(), target))
    }

    /// Casts for a column; 42804 with PostgreSQL's words.
    pub(super) fn assign(&mut self, expr: Expr, target: Type, column: &str) -> Result<Expr> {
        self.coerce_in(expr, target, CastContext::Assignment)?
            .map_err(|expr| {
                Error::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "column \"{column}\" is of type {} but expression is of type {}",
                        target.plain().name(),
                        expr.ty().plain().name()
                    ),
                )
                .hint("You will need to rewrite or cast the expression.")
            })
    }

    /// A condition must be boolean; `what` as in "argument of WHERE must be type boolean".
    pub(super) fn boolean(&mut self, expr: Expr, what: &str) -> Result<Expr> {
        self.coerce_in(expr, Type::BOOL, CastContext::Implicit)?
            .map_err(|expr| {
                Error::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "argument of {what} must be type boolean, not type {}",
                        expr.ty().plain().name()
                    ),
                )
            })
    }

    /// Casts if the context allows it, else gives the expression back.
    pub(super) fn coerce_in(
        &mut self,
        expr: Expr,
        target: Type,
        context: CastContext,
    ) -> Result<std::result::Result<Expr, Expr>> {
        if target.oid == Type::ANY.oid || target.oid == Type::UNKNOWN.oid {
            return Ok(Ok(expr));
        }
        match expr {
            Expr::Parameter { index, ty } if ty.oid == Type::UNKNOWN.oid => {
                let plain = self.infer_parameter(index, target)?;
                let parameter = Expr::Parameter { index, ty: plain };
                if plain.oid == target.oid && target.modifier < 0 {
                    return Ok(Ok(parameter));
                }
                self.coerce_in(parameter, target, context)
            }
            Expr::Const { value, ty } if ty.oid == Type::UNKNOWN.oid => {
                self.literal(value, target, context).map(Ok)
            }
            Expr::Row {
                items,
                shape,
                whole,
            } if target.oid == Type::RECORD.oid => Ok(Ok(Expr::Row {
                items,
                shape,
                whole,
            })),
            expr => Ok(cast_typed(expr, target, context)),
        }
    }

    /// Sets the type of an untyped parameter, or checks that it was inferred alike.
    fn infer_parameter(&mut self, index: u32, target: Type) -> Result<Type> {
        let slot = &mut self.parameters[index as usize];
        match slot {
            None => {
                if target.is_pseudo() && target.oid != Type::RECORD.oid {
                    return Ok(Type::UNKNOWN);
                }
                *slot = Some(target.plain());
                Ok(target.plain())
            }
            Some(known) if known.oid == target.oid => Ok(*known),
            Some(known) => {
                let message = format!("inconsistent types deduced for parameter ${}", index + 1);
                Err(
                    Error::new(state::AMBIGUOUS_FUNCTION, message).detail(format!(
                        "{} versus {}",
                        known.name(),
                        target.plain().name()
                    )),
                )
            }
        }
    }

    fn literal(&self, value: Datum, target: Type, context: CastContext) -> Result<Expr> {
        let Datum::Text(text) = &value else {
            return Ok(Expr::null(target));
        };
        // `interval '1' year`: the fields say what a number counts. Other modifiers come after.
        let fields = target.oid == Type::INTERVAL.oid;
        let read_as = if fields { target } else { target.plain() };
        let parsed = Datum::from_text(text, read_as, self.cx.format)?;
        let value = if target.modifier >= 0 && !fields {
            let plain = target.plain();
            cast_alone(&parsed, plain, target, context, self.cx.format)?
        } else {
            parsed
        };
        Ok(Expr::Const { value, ty: target })
    }

    /// An output that is still of type unknown becomes text.
    pub(super) fn settle_unknown(&mut self, expr: Expr) -> Result<Expr> {
        if expr.ty().oid == Type::UNKNOWN.oid {
            self.coerce(expr, Type::TEXT)
        } else {
            Ok(expr)
        }
    }
}

/// Casts an expression that has a type.
pub(super) fn cast_typed(
    expr: Expr,
    target: Type,
    context: CastContext,
) -> std::result::Result<Expr, Expr> {
    let from = expr.ty();
    if from.oid == target.oid {
        if target.modifier < 0 || target.modifier == from.modifier {
            return Ok(expr);
        }
        return Ok(Expr::Cast(Box::new(Cast {
            input: expr,
            ty: target,
            context,
            keeps: false,
        })));
    }
    if !can_coerce(from, target, context) || target.is_polymorphic() {
        return if target.is_polymorphic() {
            Ok(expr)
        } else {
            Err(expr)
        };
    }
    let Some(cast) = cast_function(from, target) else {
        return Err(expr);
    };
    let same_form = |ty: Type| ty.is_string();
    let keeps = cast.is_relabel() && target.modifier < 0 && same_form(from) && same_form(target);
    Ok(Expr::Cast(Box::new(Cast {
        input: expr,
        ty: target,
        context,
        keeps,
    })))
}

fn context_of(word: &str) -> CommonContext {
    match word {
        "INTERSECT" => CommonContext::Intersect,
        "EXCEPT" => CommonContext::Except,
        "VALUES" => CommonContext::Values,
        "CASE" => CommonContext::Case,
        "COALESCE" => CommonContext::Coalesce,
        "GREATEST" => CommonContext::Greatest,
        "LEAST" => CommonContext::Least,
        "ARRAY" => CommonContext::Array,
        "IN" => CommonContext::In,
        _ => CommonContext::Union,
    }
}
