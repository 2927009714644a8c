//! Aggregates as accumulators.

use crate::error::Result;
use crate::functions::{AggregateFunction, Evaluation};
use crate::types::Datum;

/// The state of an aggregate over one group.
pub trait Accumulator: Send {
    /// Takes the arguments of one row, cast to the call's types. Strict aggregates skip rows with
    /// NULL arguments themselves. `count(*)` gets none.
    ///
    /// # Errors
    /// What the aggregate raises, e.g. 22003.
    fn add(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()>;

    /// Takes a row out again, for moving window frames. False = not possible: compute the frame
    /// anew.
    ///
    /// # Errors
    /// As `add`.
    fn remove(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<bool> {
        let _ = (evaluation, arguments);
        Ok(false)
    }

    /// The result so far; more rows may follow (window frames).
    ///
    /// # Errors
    /// What the aggregate raises.
    fn finish(&self, evaluation: &mut Evaluation<'_>) -> Result<Datum>;

    /// Bytes held, for `work_mem`.
    fn bytes(&self) -> usize;
}

/// The aggregate behind a name and OID.
pub(super) fn by_name(name: &str, oid: u32) -> Option<AggregateFunction> {
    let _ = (name, oid);
    None
}
