//! CTEs: computed once (lazily), read by any number of scans; recursive ones step by step.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, state};
use crate::exec::{ExecCx, Operator, Row, open_node, row_bytes};
use crate::expr::Frame;
use crate::plan::{CtePlan, Op, PlanNode};
use crate::transaction::Stop;
use crate::types::Datum;

/// The state of one CTE in an execution.
#[derive(Clone, Default)]
pub struct CteRows {
    /// How to compute it; `None` once it is.
    pending: Option<(Arc<CtePlan>, Frame)>,
    /// All rows, outputs only.
    rows: Option<Arc<Vec<Row>>>,
    /// The rows of the running recursive step.
    working: Option<Arc<Vec<Row>>>,
}

/// Steps of a recursion above which it is taken to be endless only by memory; rows are bounded
/// by this many bytes.
const RECURSION_BYTES_MAX: usize = 1 << 30;

/// WITH: registers its CTEs, runs the data-modifying ones to their end, then the body.
pub(super) struct With {
    plan: Arc<PlanNode>,
    frame: Frame,
    body: Box<dyn Operator>,
    started: bool,
}

impl With {
    pub(super) fn open(
        plan: Arc<PlanNode>,
        frame: Frame,
        cx: &mut ExecCx<'_>,
    ) -> Result<With, Stop> {
        let Op::With { ctes, body } = &plan.op else {
            unreachable!("opened for WITH");
        };
        for cte in ctes {
            frame.shared.ctes.lock().insert(
                cte.index,
                CteRows {
                    pending: Some((cte.clone(), frame.clone())),
                    ..CteRows::default()
                },
            );
        }
        let body = open_node(body, &frame, cx)?;
        Ok(With {
            plan,
            frame,
            body,
            started: false,
        })
    }
}

impl Operator for With {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        if !self.started {
            let Op::With { ctes, .. } = &self.plan.op else {
                unreachable!("opened for WITH");
            };
            for cte in ctes.iter().filter(|cte| cte.modifies) {
                rows_of(cte.index, &self.frame, cx)?;
            }
            self.started = true;
        }
        self.body.next(cx)
    }

    fn affected(&self) -> u64 {
        self.body.affected()
    }
}

/// The rows of a CTE, computed at the first call.
fn rows_of(index: usize, frame: &Frame, cx: &mut ExecCx<'_>) -> Result<Arc<Vec<Row>>, Stop> {
    let state = frame
        .shared
        .ctes
        .lock()
        .get(&index)
        .cloned()
        .unwrap_or_default();
    if let Some(rows) = state.rows {
        return Ok(rows);
    }
    let Some((plan, own)) = state.pending else {
        return Err(Stop::Error(Error::internal(
            "a CTE is read outside of its WITH",
        )));
    };
    let rows = Arc::new(compute(&plan, &own, cx)?);
    let mut ctes = frame.shared.ctes.lock();
    let state = ctes.entry(index).or_default();
    state.rows = Some(rows.clone());
    state.pending = None;
    Ok(rows)
}

fn collect(
    node: &Arc<PlanNode>,
    slots: &[usize],
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Vec<Row>, Stop> {
    let mut source = open_node(node, frame, cx)?;
    let mut rows = Vec::new();
    while let Some(row) = source.next(cx)? {
        rows.push(slots.iter().map(|slot| row[*slot].clone()).collect());
    }
    Ok(rows)
}

fn compute(plan: &CtePlan, frame: &Frame, cx: &mut ExecCx<'_>) -> Result<Vec<Row>, Stop> {
    let mut working = collect(&plan.node, &plan.outputs, frame, cx)?;
    let Some((step, slots, distinct)) = &plan.recursive else {
        return Ok(working);
    };
    let mut seen: HashSet<Row> = HashSet::new();
    if *distinct {
        working.retain(|row| seen.insert(row.clone()));
    }
    let mut all: Vec<Row> = Vec::new();
    let mut bytes = 0;
    while !working.is_empty() {
        bytes += working.iter().map(|row| row_bytes(row)).sum::<usize>();
        if bytes > RECURSION_BYTES_MAX {
            return Err(Stop::Error(
                Error::new(state::OUT_OF_MEMORY, "out of memory")
                    .detail(format!(
                        "The rows of recursive query \"{}\" take over 1 GiB.",
                        plan.name
                    ))
                    .hint("Limit the recursion, or make it UNION instead of UNION ALL."),
            ));
        }
        all.extend(working.iter().cloned());
        let rows = Arc::new(std::mem::take(&mut working));
        frame
            .shared
            .ctes
            .lock()
            .entry(plan.index)
            .or_default()
            .working = Some(rows);
        cx.ticks = u32::MAX - 1;
        cx.tick()?;
        working = collect(step, slots, frame, cx)?;
        if *distinct {
            working.retain(|row| seen.insert(row.clone()));
        }
    }
    frame
        .shared
        .ctes
        .lock()
        .entry(plan.index)
        .or_default()
        .working = None;
    Ok(all)
}

/// A scan of a CTE.
pub(super) struct CteScan {
    plan: Arc<PlanNode>,
    frame: Frame,
    rows: Option<Arc<Vec<Row>>>,
    at: usize,
}

impl CteScan {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame) -> CteScan {
        CteScan {
            plan,
            frame,
            rows: None,
            at: 0,
        }
    }
}

impl Operator for CteScan {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Cte {
            index,
            columns,
            working,
            ..
        } = &self.plan.op
        else {
            unreachable!("opened for a CTE");
        };
        cx.tick()?;
        let rows = match &self.rows {
            Some(rows) => rows,
            None => {
                let rows = if *working {
                    let ctes = self.frame.shared.ctes.lock();
                    ctes.get(index)
                        .and_then(|state| state.working.clone())
                        .unwrap_or_default()
                } else {
                    rows_of(*index, &self.frame, cx)?
                };
                self.rows.insert(rows)
            }
        };
        let Some(row) = rows.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        let out: Vec<Datum> = columns.iter().map(|at| row[*at].clone()).collect();
        Ok(Some(out))
    }
}
