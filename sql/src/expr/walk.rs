//! Walking and comparing expressions: children of every variant in one place, subqueries
//! included, so that no rule forgets one.

use crate::expr::{AggregateCall, ColumnRef, Expr, FrameBound, SubqueryKind, WindowCall};
use crate::plan::Rel;
use crate::types::Type;

/// What a visitor wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go into the children.
    Enter,
    /// Leave them out.
    Skip,
}

impl AggregateCall {
    /// Calls `f` on each expression of the call.
    pub fn for_each_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        self.args.iter().for_each(&mut *f);
        self.order.iter().for_each(|key| f(&key.expr));
        self.filter.iter().for_each(f);
    }

    /// As `for_each_expr`, to change them.
    pub fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        self.args.iter_mut().for_each(&mut *f);
        self.order.iter_mut().for_each(|key| f(&mut key.expr));
        self.filter.iter_mut().for_each(f);
    }
}

impl WindowCall {
    /// Calls `f` on each expression of the call.
    pub fn for_each_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        self.args.iter().for_each(&mut *f);
        self.filter.iter().for_each(&mut *f);
        self.spec.partition.iter().for_each(&mut *f);
        self.spec.order.iter().for_each(|key| f(&key.expr));
        for bound in [&self.spec.frame.start, &self.spec.frame.end] {
            if let FrameBound::Preceding(expr) | FrameBound::Following(expr) = bound {
                f(expr);
            }
        }
        self.spec.frame.start_key.iter().for_each(|expr| f(expr));
        self.spec.frame.end_key.iter().for_each(|expr| f(expr));
    }

    /// As `for_each_expr`, to change them.
    pub fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        self.args.iter_mut().for_each(&mut *f);
        self.filter.iter_mut().for_each(&mut *f);
        self.spec.partition.iter_mut().for_each(&mut *f);
        self.spec.order.iter_mut().for_each(|key| f(&mut key.expr));
        for bound in [&mut self.spec.frame.start, &mut self.spec.frame.end] {
            if let FrameBound::Preceding(expr) | FrameBound::Following(expr) = bound {
                f(expr);
            }
        }
        self.spec
            .frame
            .start_key
            .iter_mut()
            .for_each(|expr| f(expr));
        self.spec.frame.end_key.iter_mut().for_each(|expr| f(expr));
    }
}

impl Expr {
    /// Calls `f` on each direct child (not into subqueries' relations, but into their tests).
    pub fn for_each_child<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match self {
            Expr::Const { .. }
            | Expr::Column { .. }
            | Expr::Argument { .. }
            | Expr::Parameter { .. }
            | Expr::Local { .. }
            | Expr::Default => {}
            Expr::Call(call) | Expr::SetReturning(call) => call.args.iter().for_each(f),
            Expr::Routine(call) => call.args.iter().for_each(f),
            Expr::Cast(cast) => f(&cast.input),
            Expr::And(items)
            | Expr::Or(items)
            | Expr::Coalesce(items, _)
            | Expr::Extreme { args: items, .. }
            | Expr::Array { items, .. }
            | Expr::Row { items, .. }
            | Expr::Grouping(items) => items.iter().for_each(f),
            Expr::Not(input)
            | Expr::IsNull { input, .. }
            | Expr::IsBool { input, .. }
            | Expr::Field { input, .. } => f(input),
            Expr::Distinct {
                left, right, equal, ..
            } => {
                f(left);
                f(right);
                f(equal);
            }
            Expr::Case(case) => {
                case.operand.iter().for_each(&mut *f);
                for (condition, result) in &case.whens {
                    f(condition);
                    f(result);
                }
                case.otherwise.iter().for_each(f);
            }
            Expr::AnyArray(any) => {
                f(&any.left);
                f(&any.array);
                f(&any.test);
            }
            Expr::Subscript { array, indexes, .. } => {
                f(array);
                indexes.iter().for_each(f);
            }
            Expr::Slice { array, bounds, .. } => {
                f(array);
                for (lower, upper) in bounds {
                    lower.iter().chain(upper).for_each(&mut *f);
                }
            }
            Expr::RowCompare(compare) => compare.left.iter().chain(&compare.right).for_each(f),
            Expr::Subquery(subquery) => {
                if let SubqueryKind::Any { test, .. } = &subquery.kind {
                    f(test);
                }
            }
            Expr::SubPlan(plan) => {
                plan.arguments.iter().for_each(&mut *f);
                plan.test.iter().for_each(f);
            }
            Expr::Aggregate(call) => call.for_each_expr(f),
            Expr::Window(call) => call.for_each_expr(f),
        }
    }

    /// As [`Expr::for_each_child`], to change them. Compiled subqueries are left alone.
    pub fn for_each_child_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        match self {
            Expr::Const { .. }
            | Expr::Column { .. }
            | Expr::Argument { .. }
            | Expr::Parameter { .. }
            | Expr::Local { .. }
            | Expr::SubPlan(_)
            | Expr::Default => {}
            Expr::Call(call) | Expr::SetReturning(call) => call.args.iter_mut().for_each(f),
            Expr::Routine(call) => call.args.iter_mut().for_each(f),
            Expr::Cast(cast) => f(&mut cast.input),
            Expr::And(items)
            | Expr::Or(items)
            | Expr::Coalesce(items, _)
            | Expr::Extreme { args: items, .. }
            | Expr::Array { items, .. }
            | Expr::Row { items, .. }
            | Expr::Grouping(items) => items.iter_mut().for_each(f),
            Expr::Not(input)
            | Expr::IsNull { input, .. }
            | Expr::IsBool { input, .. }
            | Expr::Field { input, .. } => f(input),
            Expr::Distinct {
                left, right, equal, ..
            } => {
                f(left);
                f(right);
                f(equal);
            }
            Expr::Case(case) => {
                case.operand.iter_mut().for_each(&mut *f);
                for (condition, result) in &mut case.whens {
                    f(condition);
                    f(result);
                }
                case.otherwise.iter_mut().for_each(f);
            }
            Expr::AnyArray(any) => {
                f(&mut any.left);
                f(&mut any.array);
                f(&mut any.test);
            }
            Expr::Subscript { array, indexes, .. } => {
                f(array);
                indexes.iter_mut().for_each(f);
            }
            Expr::Slice { array, bounds, .. } => {
                f(array);
                for (lower, upper) in bounds {
                    lower.iter_mut().chain(upper).for_each(&mut *f);
                }
            }
            Expr::RowCompare(compare) => {
                compare
                    .left
                    .iter_mut()
                    .chain(&mut compare.right)
                    .for_each(f);
            }
            Expr::Subquery(subquery) => {
                if let SubqueryKind::Any { test, .. } = &mut subquery.kind {
                    f(test);
                }
            }
            Expr::Aggregate(call) => call.for_each_expr_mut(f),
            Expr::Window(call) => call.for_each_expr_mut(f),
        }
    }

    /// Visits this expression and all below it, subqueries' relations included.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Expr) -> Flow) {
        deep(|| {
            if f(self) == Flow::Skip {
                return;
            }
            self.for_each_child(&mut |child| child.visit(f));
            if let Expr::Subquery(subquery) = self {
                subquery.rel.visit(f);
            }
        });
    }

    /// As [`Expr::visit`], to change: `f` sees the parent before its children.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Expr) -> Flow) {
        deep(|| {
            if f(self) == Flow::Skip {
                return;
            }
            self.for_each_child_mut(&mut |child| child.visit_mut(f));
            if let Expr::Subquery(subquery) = self {
                subquery.rel.visit_mut(f);
            }
        });
    }

    /// The columns that this expression refers to and no relation inside it produces.
    pub fn free_columns(&self, out: &mut Vec<ColumnRef>) {
        deep(|| {
            if let Expr::Column { column, .. } = self {
                if !out.contains(column) {
                    out.push(*column);
                }
                return;
            }
            if let Expr::Subquery(subquery) = self {
                let mut inner = Vec::new();
                subquery.rel.free_columns(&mut inner);
                if let SubqueryKind::Any { test, .. } = &subquery.kind {
                    test.free_columns(&mut inner);
                }
                let own = subquery.rel.columns();
                for column in inner {
                    if !own.iter().any(|c| c.id == column) && !out.contains(&column) {
                        out.push(column);
                    }
                }
                return;
            }
            self.for_each_child(&mut |child| child.free_columns(out));
        });
    }

    /// Whether the expression must not be moved, folded or computed twice.
    pub fn is_volatile(&self) -> bool {
        use crate::functions::Volatility;
        contains(self, &mut |expr| match expr {
            Expr::Call(call) | Expr::SetReturning(call) => {
                call.resolved.function.volatility == Volatility::Volatile
            }
            Expr::Routine(_) => true,
            _ => false,
        })
    }

    /// Whether the value depends on nothing but the row (indexes, generated columns).
    pub fn is_immutable(&self) -> bool {
        use crate::functions::Volatility;
        !contains(self, &mut |expr| match expr {
            // `||` with something that is no text is a cast and a concatenation.
            Expr::Call(call)
                if ["textanycat", "anytextcat"].contains(&call.resolved.function.name) =>
            {
                call.args
                    .iter()
                    .any(|arg| !is_fixed_cast(arg.ty(), Type::TEXT))
            }
            Expr::Call(call) | Expr::SetReturning(call) => {
                call.resolved.function.volatility != Volatility::Immutable
            }
            Expr::Cast(cast) => !is_fixed_cast(cast.input.ty(), cast.ty),
            Expr::Routine(_) => true,
            _ => false,
        })
    }

    /// Whether a subquery stands anywhere inside.
    pub fn has_subquery(&self) -> bool {
        contains(self, &mut |expr| {
            matches!(expr, Expr::Subquery(_) | Expr::SubPlan(_))
        })
    }
}

/// Whether a cast gives the same whatever the session's DateStyle, TimeZone and search path are.
fn is_fixed_cast(source: Type, target: Type) -> bool {
    let base = |ty: Type| ty.element().unwrap_or(ty).plain();
    let (source, target) = (base(source), base(target));
    if source == target {
        return true;
    }
    let is_text = |ty: Type| {
        [
            Type::TEXT,
            Type::VARCHAR,
            Type::BPCHAR,
            Type::NAME,
            Type::UNKNOWN,
        ]
        .contains(&ty)
    };
    let styled = |ty: Type| {
        let dates = [Type::DATE, Type::TIMESTAMP, Type::TIMESTAMPTZ];
        dates.contains(&ty) || ty.name().starts_with("reg")
    };
    let zoned = |ty: Type| [Type::TIMESTAMPTZ, Type::TIMETZ].contains(&ty);
    match (is_text(source), is_text(target)) {
        (true, false) => {
            !styled(target) && ![Type::TIME, Type::TIMETZ, Type::INTERVAL].contains(&target)
        }
        (false, true) => !styled(source),
        (true, true) => true,
        (false, false) => !(zoned(source) || zoned(target)),
    }
}

impl Rel {
    /// Visits every expression of this relation and its inputs.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Expr) -> Flow) {
        deep(|| {
            self.for_each_expr(&mut |expr| expr.visit(f));
            self.for_each_input(&mut |input| input.visit(f));
        });
    }

    /// As [`Rel::visit`], to change them.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Expr) -> Flow) {
        deep(|| {
            self.for_each_expr_mut(&mut |expr| expr.visit_mut(f));
            self.for_each_input_mut(&mut |input| input.visit_mut(f));
        });
    }

    /// The columns that this relation refers to and does not produce itself: its correlations.
    pub fn free_columns(&self, out: &mut Vec<ColumnRef>) {
        let mut used = Vec::new();
        let mut made = Vec::new();
        self.collect(&mut used, &mut made);
        for column in used {
            if !made.contains(&column) && !out.contains(&column) {
                out.push(column);
            }
        }
    }

    fn collect(&self, used: &mut Vec<ColumnRef>, made: &mut Vec<ColumnRef>) {
        deep(|| {
            self.for_each_expr(&mut |expr| expr.free_columns(used));
            made.extend(self.columns().iter().map(|column| column.id));
            if let Rel::Modify(modify) = self {
                made.extend(modify.own_columns());
            }
            self.for_each_input(&mut |input| input.collect(used, made));
        });
    }
}

/// Grows the stack when a recursion comes near its end.
pub fn deep<R>(f: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(RED_ZONE_BYTES, STACK_BYTES, f)
}

/// Stack that must be left before a recursion goes one level deeper.
const RED_ZONE_BYTES: usize = 128 * 1024;
/// What is allocated then.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Whether `test` holds for the expression or anything inside it.
pub fn contains(expr: &Expr, test: &mut dyn FnMut(&Expr) -> bool) -> bool {
    let mut found = false;
    expr.visit(&mut |expr| {
        if !found {
            found = test(expr);
        }
        if found { Flow::Skip } else { Flow::Enter }
    });
    found
}

/// Structural equality: the same computation over the same columns. Subqueries never compare
/// equal.
pub fn same(a: &Expr, b: &Expr) -> bool {
    same_head(a, b) && {
        let mut left = Vec::new();
        a.for_each_child(&mut |child| left.push(child));
        let mut right = Vec::new();
        b.for_each_child(&mut |child| right.push(child));
        left.len() == right.len()
            && left
                .iter()
                .zip(&right)
                .all(|(left, right)| deep(|| same(left, right)))
    }
}

fn same_head(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Const { value: x, ty: s }, Expr::Const { value: y, ty: t }) => {
            s.oid == t.oid && std::mem::discriminant(x) == std::mem::discriminant(y) && x == y
        }
        (Expr::Column { column: x, .. }, Expr::Column { column: y, .. }) => x == y,
        (Expr::Argument { index: x, .. }, Expr::Argument { index: y, .. })
        | (Expr::Parameter { index: x, .. }, Expr::Parameter { index: y, .. })
        | (Expr::Local { depth: x, .. }, Expr::Local { depth: y, .. }) => x == y,
        (Expr::Call(x), Expr::Call(y)) | (Expr::SetReturning(x), Expr::SetReturning(y)) => {
            x.resolved.function.oid == y.resolved.function.oid
                && x.resolved.result == y.resolved.result
        }
        (Expr::Cast(x), Expr::Cast(y)) => x.ty == y.ty,
        (Expr::IsNull { negated: x, .. }, Expr::IsNull { negated: y, .. })
        | (Expr::Distinct { negated: x, .. }, Expr::Distinct { negated: y, .. }) => x == y,
        (
            Expr::IsBool {
                value: x,
                negated: n,
                ..
            },
            Expr::IsBool {
                value: y,
                negated: m,
                ..
            },
        ) => x == y && n == m,
        (Expr::Case(x), Expr::Case(y)) => {
            x.operand.is_some() == y.operand.is_some()
                && x.whens.len() == y.whens.len()
                && x.otherwise.is_some() == y.otherwise.is_some()
        }
        (Expr::Extreme { greatest: x, .. }, Expr::Extreme { greatest: y, .. }) => x == y,
        (Expr::AnyArray(x), Expr::AnyArray(y)) => x.all == y.all,
        (Expr::Slice { bounds: x, .. }, Expr::Slice { bounds: y, .. }) => {
            let shape = |bounds: &[(Option<Expr>, Option<Expr>)]| -> Vec<(bool, bool)> {
                bounds
                    .iter()
                    .map(|(l, u)| (l.is_some(), u.is_some()))
                    .collect()
            };
            shape(x) == shape(y)
        }
        (Expr::Field { index: x, .. }, Expr::Field { index: y, .. }) => x == y,
        (Expr::RowCompare(x), Expr::RowCompare(y)) => x.op == y.op && x.left.len() == y.left.len(),
        (Expr::Aggregate(x), Expr::Aggregate(y)) => {
            x.resolved.function.oid == y.resolved.function.oid
                && x.distinct == y.distinct
                && x.args.len() == y.args.len()
                && x.order.len() == y.order.len()
                && x.filter.is_some() == y.filter.is_some()
                && x.order
                    .iter()
                    .zip(&y.order)
                    .all(|(x, y)| x.descending == y.descending && x.nulls_first == y.nulls_first)
        }
        (Expr::Window(_), Expr::Window(_)) => false,
        (Expr::Subquery(_) | Expr::SubPlan(_), _) => false,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}
