//! Views of other nodes that one execution reads again and again, under a correlated subquery or on
//! the inner side of a join: from the second time on all of their rows are asked for once and kept,
//! if they are few, instead of a question for each outer row.

use std::sync::Arc;

use crate::error::{Error, state};
use crate::exec::{ExecCx, row_bytes};
use crate::expr::Shared;
use crate::remote::Ground;
use crate::system::{Above, SystemCx, SystemRelation, SystemRow, SystemRows};
use crate::transaction::Stop;
use crate::types::Datum;

/// Rows are kept up to so many bytes. Looking through more takes as long as asking.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What one execution has asked for at one place of its plan.
#[derive(Default)]
pub struct Asked {
    /// `column = value` and `column > value` that have held in every question.
    equal: Vec<(usize, Datum)>,
    above: Vec<Above>,
    rows: Kept,
}

#[derive(Default)]
enum Kept {
    /// It was asked for once at most.
    #[default]
    Nothing,
    /// All rows for which `equal` and `above` hold.
    Rows(Arc<Vec<SystemRow>>),
    /// They are too many, or some of them can't be made.
    TooMuch,
}

/// What is read of a view this time.
pub(super) struct Wanted<'a> {
    pub relation: &'a dyn SystemRelation,
    /// Where it stands in the plan.
    pub place: usize,
    pub columns: &'a [usize],
    pub equal: Vec<(usize, Datum)>,
    pub above: Vec<Above>,
    pub ground: Ground,
}

/// The statement itself is to end.
fn is_interrupt(error: &Error) -> bool {
    [state::QUERY_CANCELED, state::ADMIN_SHUTDOWN].contains(&error.state())
}

impl Wanted<'_> {
    /// The rows, and perhaps others.
    pub fn rows(self, shared: &Shared, cx: &mut ExecCx<'_>) -> Result<SystemRows, Stop> {
        let Some(mut asked) = shared.asked.lock().remove(&self.place) else {
            let asked = Asked {
                equal: self.equal.clone(),
                above: self.above.clone(),
                rows: Kept::Nothing,
            };
            shared.asked.lock().insert(self.place, asked);
            return self.ask(&self.equal, &self.above, cx);
        };
        let rows = self.again(&mut asked, cx);
        shared.asked.lock().insert(self.place, asked);
        rows
    }

    fn again(&self, asked: &mut Asked, cx: &mut ExecCx<'_>) -> Result<SystemRows, Stop> {
        let before = (asked.equal.len(), asked.above.len());
        asked.equal.retain(|equal| self.equal.contains(equal));
        asked.above.retain(|above| self.above.contains(above));
        let fewer = (asked.equal.len(), asked.above.len()) != before;
        if fewer || matches!(asked.rows, Kept::Nothing) {
            asked.rows = match asked.rows {
                Kept::TooMuch => Kept::TooMuch,
                _ => self.keep(&asked.equal, &asked.above, cx)?,
            };
        }
        match &asked.rows {
            Kept::Rows(rows) => {
                let rows = rows.clone();
                Ok(Box::new(
                    (0..rows.len()).map(move |at| Ok(rows[at].clone())),
                ))
            }
            Kept::Nothing | Kept::TooMuch => self.ask(&self.equal, &self.above, cx),
        }
    }

    /// Asks for all rows for which these conditions hold. One that can't be made may be none of those
    /// that are wanted.
    fn keep(
        &self,
        equal: &[(usize, Datum)],
        above: &[Above],
        cx: &mut ExecCx<'_>,
    ) -> Result<Kept, Stop> {
        let (mut kept, mut bytes) = (Vec::new(), 0);
        for row in self.ask(equal, above, cx)? {
            cx.tick()?;
            let row = match row {
                Err(Stop::Error(error)) if is_interrupt(&error) => {
                    return Err(Stop::Error(error));
                }
                Err(Stop::Error(_)) => return Ok(Kept::TooMuch),
                row => row?,
            };
            bytes += row_bytes(&row);
            if bytes > KEPT_BYTES_MAX.min(cx.work_mem) {
                return Ok(Kept::TooMuch);
            }
            kept.push(row);
        }
        Ok(Kept::Rows(kept.into()))
    }

    fn ask(
        &self,
        equal: &[(usize, Datum)],
        above: &[Above],
        cx: &ExecCx<'_>,
    ) -> Result<SystemRows, Stop> {
        let rows = self.relation.rows(&SystemCx {
            catalog: cx.catalog,
            role: cx.role,
            login: cx.login,
            path: cx.path,
            equal,
            above,
            columns: self.columns,
            ground: Some(&self.ground),
            environment: cx.evaluation.environment,
        })?;
        Ok(rows)
    }
}
