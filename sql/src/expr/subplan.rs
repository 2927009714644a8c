//! Compiled subqueries and what they remember during one execution.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::exec::{Asked, CteRows};
use crate::expr::Expr;
use crate::plan::PlanNode;
use crate::types::{Datum, Type};

/// What a compiled subquery gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubPlanKind {
    /// The one value, NULL without a row; 21000 for two rows.
    Scalar,
    /// Whether there is a row.
    Exists,
    /// The values as an array.
    Array,
    /// The one row as a record.
    Row,
    /// Whether the test holds for any row (three-valued).
    Any,
    /// Whether it holds for all.
    All,
}

/// A compiled subquery.
#[derive(Debug)]
pub struct SubPlan {
    /// Its place among the statement's subqueries.
    pub index: usize,
    /// Its use.
    pub kind: SubPlanKind,
    /// The plan; its rows begin with the outputs.
    pub plan: Arc<PlanNode>,
    /// How many columns of a row are outputs.
    pub width: usize,
    /// Values handed in, evaluated outside.
    pub arguments: Vec<Expr>,
    /// The test of ANY and ALL, over the subquery's row and its arguments.
    pub test: Option<Expr>,
    /// `x = ANY (uncorrelated)`: the outer key, so that rows are looked up instead of tested.
    pub hashed: Option<Expr>,
    /// Type of the expression.
    pub ty: Type,
    /// Equal arguments give equal results.
    pub cached: bool,
}

/// Results that one subquery has given during an execution.
#[derive(Default)]
pub struct Remembered {
    /// By arguments.
    pub values: HashMap<Vec<Datum>, Datum>,
    /// The rows of an uncorrelated ANY or ALL.
    pub rows: Option<Arc<Vec<Vec<Datum>>>>,
    /// The keys of a hashed ANY, and whether NULL is among them.
    pub keys: Option<Arc<(HashSet<Datum>, bool)>>,
}

/// What the operators of one execution share.
#[derive(Default)]
pub struct Shared {
    /// By subplan index.
    pub remembered: Mutex<HashMap<usize, Remembered>>,
    /// By CTE index.
    pub ctes: Mutex<HashMap<usize, CteRows>>,
    /// Views that are read at other nodes, by node of the plan.
    pub asked: Mutex<HashMap<usize, Asked>>,
    /// EXPLAIN ANALYZE: by node.
    pub measured: Option<Mutex<Vec<Measured>>>,
}

/// What EXPLAIN ANALYZE counts of one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Rows over all runs.
    pub rows: u64,
    /// How often it was opened.
    pub loops: u64,
    /// Microseconds until the first row of the first run.
    pub first_us: i64,
    /// Microseconds in it and below it, over all runs.
    pub total_us: i64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// Results remembered per subquery; the memory is given back beyond it.
pub const REMEMBERED_MAX: usize = 4096;
