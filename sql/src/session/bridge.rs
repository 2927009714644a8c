//! Stands in for the catalog's functions until they are merged.

use std::sync::Arc;

use super::environment::Surroundings;
use crate::Result;
use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::functions::{Evaluation, Resolved, Rows};
use crate::types::{Datum, Names, RegKind};

/// Answers a catalog function.
pub(super) fn call(
    _catalog: &Arc<Catalog>,
    _cx: &Surroundings<'_>,
    _evaluation: &mut Evaluation<'_>,
    resolved: &Resolved,
    _arguments: &[Datum],
) -> Result<Datum> {
    Err(crate::Error::unsupported(format!(
        "function {}",
        resolved.function.signature()
    )))
}

/// Answers a set-returning one.
pub(super) fn call_rows(
    _catalog: &Arc<Catalog>,
    _cx: &Surroundings<'_>,
    _evaluation: &mut Evaluation<'_>,
    resolved: &Resolved,
    _arguments: &[Datum],
) -> Result<Rows> {
    Err(crate::Error::unsupported(format!(
        "function {}",
        resolved.function.signature()
    )))
}

struct NoNames;

impl Names for NoNames {
    fn name_of(&self, _kind: RegKind, _oid: u32) -> Option<String> {
        None
    }

    fn oid_of(&self, _kind: RegKind, _name: &str) -> Result<Option<u32>> {
        Ok(None)
    }
}

/// Names for reg* types.
pub(super) fn names(_: &Arc<Catalog>, _: &[SchemaId], _: RoleId) -> Arc<dyn Names> {
    Arc::new(NoNames)
}
