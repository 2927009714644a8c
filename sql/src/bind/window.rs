//! OVER: partitions, order and frames; calls become columns of a Window relation.

use sqlparser::ast;

use super::call::typed_operator;
use super::scope::{Scope, fold};
use super::select::Target;
use super::syntax::exclusion;
use super::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{
    Exclude, Expr, Flow, FrameBound, FrameUnit, WindowCall, WindowFrame, WindowFunction, WindowSpec,
};
use crate::functions::{Kind, Resolved};
use crate::plan::{Rel, RelColumn};
use crate::types::Type;

impl Binder<'_> {
    /// A call with OVER.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn window_call(
        &mut self,
        name: &str,
        resolved: Resolved,
        args: Vec<Expr>,
        function: &ast::Function,
        over: &ast::WindowType,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        match clause {
            Clause::Select | Clause::Order => {}
            Clause::Window => {
                return Err(Error::new(
                    state::WINDOWING_ERROR,
                    "window function calls cannot be nested",
                ));
            }
            other => {
                return Err(Error::new(
                    state::WINDOWING_ERROR,
                    format!("window functions are not allowed in {}", other.name()),
                ));
            }
        }
        let kind = match resolved.function.kind {
            Kind::Window(window) => WindowFunction::Window(window),
            Kind::Aggregate(_) => WindowFunction::Aggregate,
            _ if resolved.function.is_aggregate() || resolved.function.is_window() => {
                return Err(Error::unsupported(format!("window function {name}")));
            }
            _ => {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!(
                        "OVER specified, but {name} is not a window function nor an aggregate function"
                    ),
                ));
            }
        };
        if let ast::FunctionArguments::List(list) = &function.args {
            if list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct) {
                return Err(Error::new(
                    state::FEATURE_NOT_SUPPORTED,
                    "DISTINCT is not implemented for window functions",
                ));
            }
            if list
                .clauses
                .iter()
                .any(|c| matches!(c, ast::FunctionArgumentClause::OrderBy(_)))
            {
                return Err(Error::new(
                    state::FEATURE_NOT_SUPPORTED,
                    "aggregate ORDER BY is not implemented for window functions",
                ));
            }
        }
        let filter = match &function.filter {
            Some(filter) => Some(self.condition(filter, scope, Clause::Filter)?),
            None => None,
        };
        let spec = self.window_spec(over, scope)?;
        let call = WindowCall {
            function: kind,
            resolved,
            args,
            filter,
            spec,
        };
        Ok(Expr::Window(Box::new(call)))
    }

    fn named_window(&self, name: &str) -> Result<ast::NamedWindowExpr> {
        self.windows
            .last()
            .and_then(|windows| {
                windows
                    .iter()
                    .find(|definition| fold(&definition.0) == name)
            })
            .map(|definition| definition.1.clone())
            .ok_or_else(|| {
                Error::new(
                    state::UNDEFINED_OBJECT,
                    format!("window \"{name}\" does not exist"),
                )
            })
    }

    fn window_spec(&mut self, over: &ast::WindowType, scope: &Scope<'_>) -> Result<WindowSpec> {
        self.deeper(|binder| match over {
            ast::WindowType::NamedWindow(name) => match binder.named_window(&fold(name))? {
                ast::NamedWindowExpr::NamedWindow(other) => {
                    binder.window_spec(&ast::WindowType::NamedWindow(other), scope)
                }
                ast::NamedWindowExpr::WindowSpec(spec) => {
                    binder.window_spec(&ast::WindowType::WindowSpec(spec), scope)
                }
            },
            ast::WindowType::WindowSpec(spec) => binder.inline_window(spec, scope),
        })
    }

    fn inline_window(&mut self, spec: &ast::WindowSpec, scope: &Scope<'_>) -> Result<WindowSpec> {
        let (exclude, refined) = exclusion(spec.window_name.as_ref());
        let base = match &refined {
            Some(name) => {
                Some(self.window_spec(&ast::WindowType::NamedWindow(name.clone()), scope)?)
            }
            None => None,
        };
        let mut partition = Vec::new();
        for expr in &spec.partition_by {
            let expr = self.expr(expr, scope, Clause::Window)?;
            partition.push(self.settle_unknown(expr)?);
        }
        let mut order = self.sort_keys(&spec.order_by, scope, Clause::Window)?;
        if let Some(base) = base {
            let name = refined.as_ref().map(fold).unwrap_or_default();
            if !partition.is_empty() {
                return Err(Error::new(
                    state::WINDOWING_ERROR,
                    format!("cannot override PARTITION BY clause of window \"{name}\""),
                ));
            }
            if !order.is_empty() && !base.order.is_empty() {
                return Err(Error::new(
                    state::WINDOWING_ERROR,
                    format!("cannot override ORDER BY clause of window \"{name}\""),
                ));
            }
            partition = base.partition;
            if order.is_empty() {
                order = base.order;
            }
        }
        let mut frame = self.frame(spec.window_frame.as_ref(), &order, scope)?;
        frame.exclude = exclude;
        Ok(WindowSpec {
            partition,
            order,
            frame,
        })
    }

    fn frame(
        &mut self,
        frame: Option<&ast::WindowFrame>,
        order: &[crate::expr::SortKey],
        scope: &Scope<'_>,
    ) -> Result<WindowFrame> {
        let Some(frame) = frame else {
            return Ok(WindowFrame {
                unit: FrameUnit::Range,
                start: FrameBound::Start,
                end: FrameBound::Current,
                exclude: Exclude::NoOthers,
                start_key: None,
                end_key: None,
            });
        };
        let unit = match frame.units {
            ast::WindowFrameUnits::Rows => FrameUnit::Rows,
            ast::WindowFrameUnits::Range => FrameUnit::Range,
            ast::WindowFrameUnits::Groups => FrameUnit::Groups,
        };
        if unit == FrameUnit::Groups && order.is_empty() {
            return Err(Error::new(
                state::WINDOWING_ERROR,
                "GROUPS mode requires an ORDER BY clause",
            ));
        }
        let mut bound = Bounds { unit, order, scope };
        let (start, start_key) = bound.read(self, &frame.start_bound, false)?;
        let (end, end_key) = match &frame.end_bound {
            Some(end) => bound.read(self, end, true)?,
            None => (FrameBound::Current, None),
        };
        let fail = |message: &str| Err(Error::new(state::WINDOWING_ERROR, message));
        match (&start, &end) {
            (FrameBound::End, _) => fail("frame start cannot be UNBOUNDED FOLLOWING"),
            (_, FrameBound::Start) => fail("frame end cannot be UNBOUNDED PRECEDING"),
            (FrameBound::Current, FrameBound::Preceding(_)) => {
                fail("frame starting from current row cannot have preceding rows")
            }
            (FrameBound::Following(_), FrameBound::Preceding(_)) => {
                fail("frame starting from following row cannot have preceding rows")
            }
            (FrameBound::Following(_), FrameBound::Current) => {
                fail("frame starting from following row cannot end with current row")
            }
            _ => Ok(WindowFrame {
                unit,
                start,
                end,
                exclude: Exclude::NoOthers,
                start_key,
                end_key,
            }),
        }
    }

    /// Window calls of the targets become columns of Window relations.
    pub(super) fn extract_windows(&mut self, rel: Rel, targets: &mut [Target]) -> Result<Rel> {
        let mut calls: Vec<(RelColumn, WindowCall)> = Vec::new();
        for target in targets.iter_mut() {
            target.expr.visit_mut(&mut |node| {
                if let Expr::Window(call) = node {
                    let column = self.column(call.resolved.function.name, call.resolved.result);
                    calls.push((column.clone(), (**call).clone()));
                    *node = Expr::Column {
                        column: column.id,
                        ty: column.ty,
                    };
                    return Flow::Skip;
                }
                if matches!(node, Expr::Subquery(_)) {
                    Flow::Skip
                } else {
                    Flow::Enter
                }
            });
        }
        if calls.is_empty() {
            return Ok(rel);
        }
        Ok(Rel::Window {
            input: Box::new(rel),
            calls,
        })
    }
}

struct Bounds<'b, 's> {
    unit: FrameUnit,
    order: &'b [crate::expr::SortKey],
    scope: &'b Scope<'s>,
}

impl Bounds<'_, '_> {
    fn read(
        &mut self,
        binder: &mut Binder<'_>,
        bound: &ast::WindowFrameBound,
        end: bool,
    ) -> Result<(FrameBound, Option<Box<Expr>>)> {
        let (offset, preceding) = match bound {
            ast::WindowFrameBound::CurrentRow => return Ok((FrameBound::Current, None)),
            ast::WindowFrameBound::Preceding(None) => return Ok((FrameBound::Start, None)),
            ast::WindowFrameBound::Following(None) => return Ok((FrameBound::End, None)),
            ast::WindowFrameBound::Preceding(Some(offset)) => (offset, true),
            ast::WindowFrameBound::Following(Some(offset)) => (offset, false),
        };
        let _ = end;
        let own = Scope::empty(Some(self.scope));
        let offset = binder.expr(offset, &own, Clause::Window)?;
        let make = |offset: Expr| {
            let offset = Box::new(offset);
            if preceding {
                FrameBound::Preceding(offset)
            } else {
                FrameBound::Following(offset)
            }
        };
        if self.unit != FrameUnit::Range {
            let offset = binder.coerce(offset, Type::INT8)?;
            return Ok((make(offset), None));
        }
        let [key] = self.order else {
            return Err(Error::new(
                state::WINDOWING_ERROR,
                "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
            ));
        };
        let ty = key.expr.ty();
        let offset_type = match ty.oid {
            o if [
                Type::DATE,
                Type::TIMESTAMP,
                Type::TIMESTAMPTZ,
                Type::TIME,
                Type::INTERVAL,
            ]
            .iter()
            .any(|t| t.oid == o) =>
            {
                Type::INTERVAL
            }
            _ => ty.plain(),
        };
        let unsupported = |offset: Type| {
            Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!(
                    "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {} \
                     and offset type {}",
                    ty.plain().name(),
                    offset.plain().name()
                ),
            )
            .hint("Cast the offset value to an appropriate type.")
        };
        let given = offset.ty();
        let offset = binder
            .coerce(offset, offset_type)
            .map_err(|_| unsupported(given))?;
        let op = if preceding != key.descending {
            "-"
        } else {
            "+"
        };
        let base = Expr::Local { depth: 0, ty };
        let moved =
            typed_operator(op, base, offset.clone()).map_err(|_| unsupported(offset_type))?;
        let moved = if moved.ty().oid == ty.oid {
            moved
        } else {
            binder.cast(moved, ty)?
        };
        Ok((make(offset), Some(Box::new(moved))))
    }
}
