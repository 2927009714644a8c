//! Set-returning functions.

use crate::error::Result;
use crate::functions::SetFunction;
use crate::types::Datum;

/// The rows of a set-returning function: one value each, a record for several columns.
pub type Rows = Box<dyn Iterator<Item = Result<Datum>> + Send>;

/// The function behind a source name.
pub(super) fn by_source(source: &str) -> Option<SetFunction> {
    let _ = source;
    None
}
