//! Running plans: operators that give one row at a time, and the write path of rows with
//! constraints, indexes and foreign keys.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::error::Error;
use crate::plan::Planned;
use crate::transaction::{Stop, Transaction};
use crate::types::Datum;

/// A row: one value per column.
pub type Row = Vec<Datum>;

/// What an operator works with during one call. The session builds it for each call; a suspended
/// portal keeps only the operator.
pub struct ExecCx<'a> {
    /// Reads and writes.
    pub transaction: &'a mut Transaction,
    /// The statement's catalog.
    pub catalog: &'a Arc<Catalog>,
    /// `current_user`: whose eyes system relations are seen with.
    pub role: RoleId,
    /// `session_user`.
    pub login: RoleId,
    /// `search_path`, resolved.
    pub path: &'a [SchemaId],
    /// Set by CancelRequest and statement_timeout: 57014.
    pub cancel: &'a AtomicBool,
    /// Bytes that one sort or hash may hold before it spills (`work_mem`).
    pub work_mem: usize,
    // `evaluation: functions::Evaluation<'a>` follows when `functions` is merged.
}

/// A running plan.
pub trait Operator: Send {
    /// The next row, or `None` at the end (and for ever after).
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop>;

    /// Rows written so far, for the tag of a write.
    fn affected(&self) -> u64 {
        0
    }
}

/// Starts a plan.
///
/// # Errors
/// Those of evaluating what must be known first (LIMIT, keys).
pub fn open(
    _planned: &Arc<Planned>,
    _parameters: Arc<[Datum]>,
    _cx: &mut ExecCx<'_>,
) -> Result<Box<dyn Operator>, Stop> {
    Err(Stop::Error(Error::internal("not merged yet")))
}
