//! The session's functions that the catalog answers, and its names for reg* types.

use std::sync::Arc;

use storage::TreeId;

use super::environment::Surroundings;
use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::functions::{Resolved, Rows};
use crate::system::{self, CatalogNames, SystemCx};
use crate::types::{Datum, Names, Record};
use crate::{Error, Result};

fn unknown(resolved: &Resolved) -> Error {
    Error::unsupported(format!("function {}", resolved.function.signature()))
}

fn system_cx<'a>(cx: &'a Surroundings<'a>) -> SystemCx<'a> {
    SystemCx {
        catalog: cx.catalog,
        role: cx.user.current,
        login: cx.user.session,
        path: cx.path,
        equal: &[],
        above: &[],
        columns: &[],
        ground: None,
        environment: cx,
    }
}

/// Answers a catalog function.
///
/// # Errors
/// The function's; 0A000 if there is no such function here.
pub(super) fn call(
    cx: &Surroundings<'_>,
    resolved: &Resolved,
    arguments: &[Datum],
) -> Result<Datum> {
    let bytes = |group, number| {
        let groups = cx.engine.groups();
        let held = groups.get(group).is_some_and(|held| held.holds(number));
        held.then(|| groups.store().disk_bytes(TreeId { group, number }))
    };
    let answer = system::call(&system_cx(cx), resolved.function, arguments, &bytes)?;
    answer.ok_or_else(|| unknown(resolved))
}

/// Answers a set-returning one.
///
/// # Errors
/// The function's; 0A000 if there is no such function here.
pub(super) fn call_rows(
    cx: &Surroundings<'_>,
    resolved: &Resolved,
    arguments: &[Datum],
) -> Result<Rows> {
    let rows = system::call_rows(&system_cx(cx), resolved.function, arguments)?;
    let rows = rows.ok_or_else(|| unknown(resolved))?;
    let types: Vec<_> = resolved.columns().into_iter().map(|(_, ty)| ty).collect();
    Ok(Box::new(rows.into_iter().map(move |mut row| {
        Ok(match row.len() {
            1 => row.pop().unwrap_or_default(),
            _ => Datum::Record(Arc::new(Record::anonymous(types.clone(), row))),
        })
    })))
}

/// Names for reg* types.
pub(super) fn names(catalog: &Arc<Catalog>, path: &[SchemaId], role: RoleId) -> Arc<dyn Names> {
    Arc::new(CatalogNames {
        catalog: Arc::clone(catalog),
        path: path.to_vec(),
        role,
    })
}
