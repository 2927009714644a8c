//! Typed expressions: what the binder makes of SQL's, what the rules rewrite and what the
//! executor evaluates. One tree serves both: the planner only turns column ids into row slots.

mod eval;
mod show;
mod subplan;
mod walk;

use std::sync::Arc;

use crate::catalog::Routine;
use crate::functions::{Resolved, Window};
use crate::plan::Rel;
use crate::types::{CastContext, Datum, Shape, Type};

pub use eval::{Alone, Context, Frame, eval_row, is_true};
pub use show::{Names, show};
pub use subplan::{Measured, REMEMBERED_MAX, Remembered, Shared, SubPlan, SubPlanKind};
pub use walk::{Flow, contains, deep, same};

/// A column of some relation, unique within one statement. In a compiled plan the same number
/// is the slot of the input row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnRef(pub u32);

/// A typed scalar expression.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A literal, or a folded subtree. `unknown` literals keep that type until coerced.
    Const {
        /// The value.
        value: Datum,
        /// Its type.
        ty: Type,
    },
    /// A column: an id while planning, a slot of the input row in a compiled plan.
    Column {
        /// Id or slot.
        column: ColumnRef,
        /// Its type.
        ty: Type,
    },
    /// A value that the enclosing query level hands in (compiled plans only).
    Argument {
        /// Index into the frame's arguments.
        index: u32,
        /// Its type.
        ty: Type,
    },
    /// `$n`, zero-based.
    Parameter {
        /// Index into the statement's parameters.
        index: u32,
        /// Declared or inferred type.
        ty: Type,
    },
    /// A function or operator.
    Call(Box<Call>),
    /// A function of a user.
    Routine(Box<RoutineCall>),
    /// A cast; evaluated by `types::cast`.
    Cast(Box<Cast>),
    /// Three-valued AND of two or more.
    And(Vec<Expr>),
    /// Three-valued OR of two or more.
    Or(Vec<Expr>),
    /// Three-valued NOT.
    Not(Box<Expr>),
    /// `IS [NOT] NULL`; for rows, all fields.
    IsNull {
        /// What is tested.
        input: Box<Expr>,
        /// `IS NOT NULL`.
        negated: bool,
        /// The input is a composite: every field is tested.
        row: bool,
    },
    /// `IS [NOT] TRUE / FALSE / UNKNOWN`.
    IsBool {
        /// What is tested.
        input: Box<Expr>,
        /// `None` = UNKNOWN.
        value: Option<bool>,
        /// `IS NOT`.
        negated: bool,
    },
    /// `IS [NOT] DISTINCT FROM`: `equal` compares the two when neither is NULL.
    Distinct {
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
        /// The `=` operator applied to the two locals 0 and 1.
        equal: Box<Expr>,
        /// `IS NOT DISTINCT FROM`.
        negated: bool,
    },
    /// CASE; a simple CASE evaluates its operand once into a local.
    Case(Box<Case>),
    /// The innermost value set by an enclosing `Case` operand or `Distinct` pair.
    Local {
        /// Counted from the top of the stack of locals.
        depth: u32,
        /// Its type.
        ty: Type,
    },
    /// First non-NULL.
    Coalesce(Vec<Expr>, Type),
    /// GREATEST or LEAST.
    Extreme {
        /// Arguments of one type.
        args: Vec<Expr>,
        /// GREATEST.
        greatest: bool,
        /// Their type.
        ty: Type,
    },
    /// `x op ANY (array)`, `x op ALL (array)`.
    AnyArray(Box<AnyArray>),
    /// `ARRAY[...]`.
    Array {
        /// Elements of one type.
        items: Vec<Expr>,
        /// The array's type.
        ty: Type,
    },
    /// `a[i]`.
    Subscript {
        /// The array (or jsonb, name, vector).
        array: Box<Expr>,
        /// The subscripts: integers, or text for jsonb.
        indexes: Vec<Expr>,
        /// The element's type.
        ty: Type,
    },
    /// `a[l:u]`.
    Slice {
        /// The array.
        array: Box<Expr>,
        /// Lower and upper bound per dimension.
        bounds: Vec<(Option<Expr>, Option<Expr>)>,
        /// The array's type.
        ty: Type,
    },
    /// `ROW(...)`, or a whole-row reference (NULL when `null_if` is NULL: an outer join's side).
    Row {
        /// The fields.
        items: Vec<Expr>,
        /// Field names and types.
        shape: Arc<Shape>,
        /// A whole-row reference: NULL when this column (never NULL in a real row of the
        /// relation) is NULL, as on the empty side of an outer join.
        whole: bool,
    },
    /// `(row).field`.
    Field {
        /// The row.
        input: Box<Expr>,
        /// Zero-based field.
        index: u32,
        /// The field's type.
        ty: Type,
    },
    /// `(a, b) < (c, d)`: pairs compared from the left.
    RowCompare(Box<RowCompare>),
    /// A subquery that is not compiled yet.
    Subquery(Box<Subquery>),
    /// A compiled subquery.
    SubPlan(Arc<SubPlan>),
    /// An aggregate call, replaced by a column of the aggregation while binding.
    Aggregate(Box<AggregateCall>),
    /// A window call, replaced likewise.
    Window(Box<WindowCall>),
    /// A set-returning call in a select list, replaced likewise.
    SetReturning(Box<Call>),
    /// `GROUPING(...)`: bit mask over the grouping set's absent columns.
    Grouping(Vec<Expr>),
    /// `DEFAULT` in VALUES or SET, replaced while binding.
    Default,
}

/// A function or operator with its arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function, bound to its argument types.
    pub resolved: Resolved,
    /// Arguments, already cast to the function's types.
    pub args: Vec<Expr>,
    /// The operator's symbol when it was written as one.
    pub operator: Option<&'static str>,
}

/// A call of a user's function.
#[derive(Clone, Debug)]
pub struct RoutineCall {
    /// The function, as the statement's catalog describes it.
    pub routine: Arc<Routine>,
    /// One argument for each of its own, of their types.
    pub args: Vec<Expr>,
}

/// A cast to another type.
#[derive(Clone, Debug)]
pub struct Cast {
    /// What is cast.
    pub input: Expr,
    /// The target, with its modifier.
    pub ty: Type,
    /// How much the statement says.
    pub context: CastContext,
    /// The representation stays as it is: nothing to do.
    pub keeps: bool,
}

/// CASE.
#[derive(Clone, Debug)]
pub struct Case {
    /// Evaluated once; conditions read it as `Local { depth: 0 }`.
    pub operand: Option<Expr>,
    /// Condition and result.
    pub whens: Vec<(Expr, Expr)>,
    /// ELSE.
    pub otherwise: Option<Expr>,
    /// Common type of the results.
    pub ty: Type,
}

/// A comparison with the elements of an array.
#[derive(Clone, Debug)]
pub struct AnyArray {
    /// Left operand.
    pub left: Expr,
    /// The array.
    pub array: Expr,
    /// The operator: over `Local 1` (left) and `Local 0` (element).
    pub test: Expr,
    /// ALL instead of ANY.
    pub all: bool,
}

/// How a row comparison ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOp {
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// A row comparison by order; equality is an AND of pairs instead.
#[derive(Clone, Debug)]
pub struct RowCompare {
    /// The operator.
    pub op: RowOp,
    /// Left fields.
    pub left: Vec<Expr>,
    /// Right fields, of the same types.
    pub right: Vec<Expr>,
}

/// What a subquery is used for.
#[derive(Clone, Debug)]
pub enum SubqueryKind {
    /// `(SELECT ...)` as a value.
    Scalar,
    /// `EXISTS`.
    Exists,
    /// `ARRAY(SELECT ...)`.
    Array,
    /// `(SELECT a, b)` compared with or assigned to a row.
    Row,
    /// `left op ANY (SELECT ...)`; `test` sees the left values and the output columns.
    Any {
        /// The condition over the subquery's output columns and outer columns.
        test: Box<Expr>,
        /// ALL instead of ANY.
        all: bool,
    },
}

/// A subquery inside an expression.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// Its use.
    pub kind: SubqueryKind,
    /// The relation.
    pub rel: Rel,
    /// Output columns, in order.
    pub outputs: Vec<(ColumnRef, Type)>,
    /// Type of the expression.
    pub ty: Type,
}

/// One aggregate call.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// The aggregate, bound to its argument types.
    pub resolved: Resolved,
    /// Arguments.
    pub args: Vec<Expr>,
    /// `DISTINCT`.
    pub distinct: bool,
    /// `ORDER BY` inside the call.
    pub order: Vec<SortKey>,
    /// `FILTER (WHERE ...)`.
    pub filter: Option<Expr>,
}

/// What a window call computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowFunction {
    /// `row_number()`, `lag()`...
    Window(Window),
    /// An aggregate over the frame.
    Aggregate,
}

/// One call with OVER.
#[derive(Clone, Debug)]
pub struct WindowCall {
    /// What is computed.
    pub function: WindowFunction,
    /// The function, bound to its argument types.
    pub resolved: Resolved,
    /// Arguments.
    pub args: Vec<Expr>,
    /// `FILTER`.
    pub filter: Option<Expr>,
    /// Partition, order and frame.
    pub spec: WindowSpec,
}

/// The OVER clause.
#[derive(Clone, Debug)]
pub struct WindowSpec {
    /// PARTITION BY.
    pub partition: Vec<Expr>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// The frame.
    pub frame: WindowFrame,
}

/// The unit of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameUnit {
    /// Physical rows.
    Rows,
    /// Values of the one sort key, or peers.
    Range,
    /// Groups of peers.
    Groups,
}

/// The rows that a frame leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclude {
    /// None.
    NoOthers,
    /// The row itself.
    CurrentRow,
    /// The row and its peers.
    Group,
    /// Its peers.
    Ties,
}

/// One end of a frame.
#[derive(Clone, Debug)]
pub enum FrameBound {
    /// UNBOUNDED PRECEDING.
    Start,
    /// `n PRECEDING`.
    Preceding(Box<Expr>),
    /// CURRENT ROW.
    Current,
    /// `n FOLLOWING`.
    Following(Box<Expr>),
    /// UNBOUNDED FOLLOWING.
    End,
}

/// A window frame.
#[derive(Clone, Debug)]
pub struct WindowFrame {
    /// ROWS, RANGE or GROUPS.
    pub unit: FrameUnit,
    /// First row.
    pub start: FrameBound,
    /// Last row.
    pub end: FrameBound,
    /// EXCLUDE.
    pub exclude: Exclude,
    /// For RANGE with offsets: the test `in range` per bound, over Local 1 (current row's key)
    /// and Local 0 (other row's key): key of the bound.
    pub start_key: Option<Box<Expr>>,
    /// As `start_key`, for the end.
    pub end_key: Option<Box<Expr>>,
}

/// One ORDER BY item.
#[derive(Clone, Debug)]
pub struct SortKey {
    /// What is ordered by.
    pub expr: Expr,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST (the default for DESC).
    pub nulls_first: bool,
}

impl Expr {
    /// A constant.
    pub fn constant(value: Datum, ty: Type) -> Expr {
        Expr::Const { value, ty }
    }

    /// A boolean constant.
    pub fn bool(value: bool) -> Expr {
        Expr::Const {
            value: Datum::Bool(value),
            ty: Type::BOOL,
        }
    }

    /// NULL of a type.
    pub fn null(ty: Type) -> Expr {
        Expr::Const {
            value: Datum::Null,
            ty,
        }
    }

    /// The expression's type.
    pub fn ty(&self) -> Type {
        match self {
            Expr::Const { ty, .. }
            | Expr::Column { ty, .. }
            | Expr::Argument { ty, .. }
            | Expr::Parameter { ty, .. }
            | Expr::Local { ty, .. }
            | Expr::Coalesce(_, ty)
            | Expr::Extreme { ty, .. }
            | Expr::Array { ty, .. }
            | Expr::Subscript { ty, .. }
            | Expr::Slice { ty, .. }
            | Expr::Field { ty, .. } => *ty,
            Expr::Call(call) | Expr::SetReturning(call) => call.resolved.result,
            Expr::Routine(call) => call.routine.returns,
            Expr::Cast(cast) => cast.ty,
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::IsBool { .. }
            | Expr::Distinct { .. }
            | Expr::AnyArray(_)
            | Expr::RowCompare(_) => Type::BOOL,
            Expr::Case(case) => case.ty,
            Expr::Row { .. } => Type::RECORD,
            Expr::Subquery(subquery) => subquery.ty,
            Expr::SubPlan(plan) => plan.ty,
            Expr::Aggregate(call) => call.resolved.result,
            Expr::Window(call) => call.resolved.result,
            Expr::Grouping(_) => Type::INT4,
            Expr::Default => Type::UNKNOWN,
        }
    }

    /// An AND of any number of conditions.
    pub fn and(mut conditions: Vec<Expr>) -> Expr {
        match conditions.len() {
            0 => Expr::bool(true),
            1 => conditions.remove(0),
            _ => Expr::And(conditions),
        }
    }

    /// The conditions that an AND joins, nested ones flattened.
    pub fn conjuncts(self, out: &mut Vec<Expr>) {
        match self {
            Expr::And(items) => items.into_iter().for_each(|item| item.conjuncts(out)),
            Expr::Const {
                value: Datum::Bool(true),
                ..
            } => {}
            other => out.push(other),
        }
    }

    /// Whether this is the NULL constant.
    pub fn is_null_constant(&self) -> bool {
        matches!(
            self,
            Expr::Const {
                value: Datum::Null,
                ..
            }
        )
    }
}
