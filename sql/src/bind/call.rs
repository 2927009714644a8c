//! Calls of operators and functions by name, with their arguments coerced.

use sqlparser::tokenizer::Span;

use super::Binder;
use super::types::cast_typed;
use crate::error::Result;
use crate::expr::{Call, Expr};
use crate::functions::{Resolved, resolve_function, resolve_operator};
use crate::types::{CastContext, Type};

impl Binder<'_> {
    /// `left op right` by the operator's name.
    pub(super) fn operator(
        &mut self,
        name: &str,
        left: Expr,
        right: Expr,
        span: Option<Span>,
    ) -> Result<Expr> {
        let found = resolve_operator(name, Some(left.ty()), right.ty())
            .map_err(|error| span.map_or(error.clone(), |span| self.at(error, span)))?;
        let args = self.arguments(vec![left, right], &found.call)?;
        Ok(Expr::Call(Box::new(Call {
            resolved: found.call,
            args,
            operator: Some(found.operator.name),
        })))
    }

    /// `op operand`.
    pub(super) fn prefix(&mut self, name: &str, operand: Expr) -> Result<Expr> {
        let found = resolve_operator(name, None, operand.ty())?;
        let args = self.arguments(vec![operand], &found.call)?;
        Ok(Expr::Call(Box::new(Call {
            resolved: found.call,
            args,
            operator: Some(found.operator.name),
        })))
    }

    /// A scalar function of `pg_catalog` by name.
    pub(super) fn call_by_name(&mut self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        let types: Vec<Type> = args.iter().map(Expr::ty).collect();
        let resolved = resolve_function(name, &types)?;
        let args = self.arguments(args, &resolved)?;
        Ok(Expr::Call(Box::new(Call {
            resolved,
            args,
            operator: None,
        })))
    }

    /// Coerces arguments to what a resolved call wants.
    pub(super) fn arguments(&mut self, args: Vec<Expr>, resolved: &Resolved) -> Result<Vec<Expr>> {
        args.into_iter()
            .enumerate()
            .map(|(index, arg)| match resolved.arguments.get(index) {
                Some(ty) => self.coerce(arg, *ty),
                None => Ok(arg),
            })
            .collect()
    }
}

/// An operator over operands that have types already.
pub(crate) fn typed_operator(name: &str, left: Expr, right: Expr) -> Result<Expr> {
    let found = resolve_operator(name, Some(left.ty()), right.ty())?;
    let args = [left, right]
        .into_iter()
        .zip(&found.call.arguments)
        .map(|(arg, ty)| cast_typed(arg, *ty, CastContext::Implicit).unwrap_or_else(|arg| arg))
        .collect();
    Ok(Expr::Call(Box::new(Call {
        resolved: found.call,
        args,
        operator: Some(found.operator.name),
    })))
}
