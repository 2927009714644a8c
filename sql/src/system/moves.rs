//! `freehold.moves`: tables on their way from one owner to another.

use std::sync::{Arc, LazyLock};

use super::cell::row;
use super::projections::Fills;
use super::{SystemColumn, SystemCx, SystemRelation, SystemRows};
use crate::Result;
use crate::catalog::{Moving, TableKind};
use crate::types::{Datum, Type};

static COLUMNS: LazyLock<[SystemColumn; 6]> = LazyLock::new(|| {
    let column = |name, ty, not_null| SystemColumn { name, ty, not_null };
    [
        column("table_name", Type::TEXT, true),
        column("owner", Type::NAME, true),
        column("new_owner", Type::NAME, true),
        column("state", Type::TEXT, true),
        column("rows_looked_at", Type::INT8, false),
        column("rows_copied", Type::INT8, false),
    ]
});

struct Moves(Fills);

/// The relation over what is being filled.
pub(crate) fn relation(fills: &Fills) -> Arc<dyn SystemRelation> {
    Arc::new(Moves(fills.clone()))
}

impl SystemRelation for Moves {
    fn name(&self) -> (&str, &str) {
        ("freehold", "moves")
    }

    fn columns(&self) -> &[SystemColumn] {
        &*COLUMNS
    }

    /// To those who act for one of the two owners.
    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let catalog = cx.catalog;
        let number = |n: u64| Datum::Int8(i64::try_from(n).unwrap_or(i64::MAX));
        let mut rows = Vec::new();
        let moving = catalog.tables().filter(|t| t.kind == TableKind::Table);
        for table in moving {
            let (from, to, state) = match table.moving {
                Some(Moving::Leaving { to }) => {
                    let there = catalog.group_of(to);
                    let there = there.and_then(|group| catalog.table_in(group, table.id));
                    let full = Some(Moving::Arriving { full: true });
                    let full = there.is_some_and(|there| there.moving == full);
                    (table.owner, to, if full { "copied" } else { "copying" })
                }
                Some(Moving::Left { to }) => (table.owner, to, "frozen"),
                Some(Moving::Arrived) => {
                    let from = table.former.last();
                    let from = from.and_then(|group| catalog.owner_of_group(*group));
                    (from.unwrap_or(table.owner), table.owner, "arrived")
                }
                Some(Moving::Arriving { .. }) | None => continue,
            };
            if !cx.acts_for(from) && !cx.acts_for(to) {
                continue;
            }
            let filled = self.0.get(table.id);
            let schema = catalog.schema_name(table.schema);
            rows.push(row![
                Some(format!("{schema}.{}", table.name)),
                catalog.role_name(from),
                Some(catalog.role_name(to)),
                state,
                filled.map(|filled| number(filled.done)),
                filled.map(|filled| number(filled.made)),
            ]);
        }
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}
