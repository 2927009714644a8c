//! Relations of the schema `freehold` that come from the catalog.

use std::sync::{Arc, LazyLock};

use super::cell::{row, texts};
use super::{SystemColumn, SystemCx, SystemRelation, SystemRows};
use crate::Result;
use crate::catalog::{Followed, Privilege, Privileges, RoleId, Table};
use crate::types::Type;
use crate::types::kind::oid;

/// `freehold.pattern_grants`: the grants by pattern that the role has given or been given.
struct PatternGrants;

static PATTERN_COLUMNS: LazyLock<[SystemColumn; 4]> = LazyLock::new(|| {
    let column = |name, ty| SystemColumn {
        name,
        ty,
        not_null: true,
    };
    [
        column("owner", Type::NAME),
        column("pattern", Type::TEXT),
        column("grantee", Type::NAME),
        column(
            "privileges",
            Type::TEXT.array_of().unwrap_or(Type::new(oid::TEXT)),
        ),
    ]
});

impl SystemRelation for PatternGrants {
    fn name(&self) -> (&str, &str) {
        ("freehold", "pattern_grants")
    }

    fn columns(&self) -> &[SystemColumn] {
        &*PATTERN_COLUMNS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut rows = Vec::new();
        for p in cx.catalog.patterns() {
            let given = p.grantee == RoleId::PUBLIC || cx.acts_for(p.grantee);
            if !given && !cx.acts_for(p.owner) {
                continue;
            }
            let mut names = Vec::new();
            let mut left = p.privileges;
            if left.contains(Privileges::READ) {
                names.push("READ".to_owned());
                left = left.without(Privileges::READ);
            }
            names.extend(left.iter().map(Privilege::name).map(str::to_owned));
            let grantee = match p.grantee {
                RoleId::PUBLIC => "PUBLIC".to_owned(),
                role => cx.catalog.role_name(role),
            };
            rows.push(row![
                cx.catalog.role_name(p.owner),
                p.pattern.as_str(),
                grantee,
                texts(names),
            ]);
        }
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// `freehold.follows`: what the role follows, and what roles that it acts for do.
struct Follows;

static FOLLOW_COLUMNS: LazyLock<[SystemColumn; 3]> = LazyLock::new(|| {
    let column = |name, ty| SystemColumn {
        name,
        ty,
        not_null: true,
    };
    [
        column("role", Type::NAME),
        column("what", Type::TEXT),
        column(
            "tables",
            Type::TEXT.array_of().unwrap_or(Type::new(oid::TEXT)),
        ),
    ]
});

impl SystemRelation for Follows {
    fn name(&self) -> (&str, &str) {
        ("freehold", "follows")
    }

    fn columns(&self) -> &[SystemColumn] {
        &*FOLLOW_COLUMNS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let catalog = cx.catalog;
        let mut rows = Vec::new();
        for follow in catalog.follows().filter(|f| cx.acts_for(f.role)) {
            let shown = |table: &Table| {
                let schema = catalog.schema_name(table.schema);
                format!("{schema}.{}", table.name)
            };
            let meant = catalog.tables().filter(|table| follow.covers(table));
            let tables: Vec<_> = meant
                .filter(|table| catalog.reads_table(follow.role, table))
                .map(|table| shown(table))
                .collect();
            let what = match &follow.what {
                Followed::Pattern(pattern) => format!("public.{pattern}"),
                // What may not be read any more, or is gone, does not exist for the role.
                Followed::Table(_) => match tables.first() {
                    Some(name) => name.clone(),
                    None => continue,
                },
            };
            rows.push(row![
                catalog.role_name(follow.role),
                what.as_str(),
                texts(tables),
            ]);
        }
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// All of them.
pub(super) fn relations() -> Vec<Arc<dyn SystemRelation>> {
    vec![Arc::new(PatternGrants), Arc::new(Follows)]
}
