//! Window functions.

use std::sync::Arc;

use crate::exec::{ExecCx, Operator, Row};
use crate::expr::Frame;
use crate::plan::PlanNode;
use crate::transaction::Stop;

/// Input row ++ window results.
pub(super) struct Window {
    input: Box<dyn Operator>,
}

impl Window {
    pub(super) fn new(_plan: Arc<PlanNode>, _frame: Frame, input: Box<dyn Operator>) -> Window {
        Window { input }
    }
}

impl Operator for Window {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        self.input.next(cx)
    }
}
