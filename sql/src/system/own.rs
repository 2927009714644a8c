//! Relations of the schema `freehold` that come from the catalog.

use std::sync::{Arc, LazyLock};

use super::cell::{row, texts};
use super::{SystemColumn, SystemCx, SystemRelation, SystemRows};
use crate::Result;
use crate::catalog::{Followed, Privilege, Privileges, RoleId, Table, User};
use crate::engine::since_2000;
use crate::types::kind::oid;
use crate::types::{Datum, Type};

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

/// `freehold.contracts`: the versions of contracts that the role may see; who uses them, for their
/// owner.
struct Contracts;

static CONTRACT_COLUMNS: LazyLock<[SystemColumn; 10]> = LazyLock::new(|| {
    let column = |name, ty, not_null| SystemColumn { name, ty, not_null };
    let roles = Type::TEXT.array_of().unwrap_or(Type::new(oid::TEXT));
    [
        column("contract", Type::TEXT, true),
        column("version", Type::INT8, true),
        column("table_name", Type::TEXT, true),
        column("owner", Type::NAME, true),
        column("newest", Type::BOOL, true),
        column("sunset", Type::TEXT, false),
        column("followers", roles, false),
        column("readers", roles, false),
        column("referencers", roles, false),
        column("last_read", Type::TIMESTAMPTZ, false),
    ]
});

impl SystemRelation for Contracts {
    fn name(&self) -> (&str, &str) {
        ("freehold", "contracts")
    }

    fn columns(&self) -> &[SystemColumn] {
        &*CONTRACT_COLUMNS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let catalog = cx.catalog;
        let seen = catalog
            .tables()
            .filter(|table| catalog.sees(cx.role, table));
        let mut versions: Vec<_> = seen
            .filter_map(|table| Some((table.version()?, table)))
            .collect();
        versions.sort_unstable_by_key(|(v, table)| (v.contract, table.owner, v.number));
        let rows = versions.iter().enumerate().map(|(at, (version, table))| {
            let next = versions.get(at + 1);
            let next = next.map(|(next, table)| (next.contract, table.owner));
            let users = cx
                .acts_for(table.owner)
                .then(|| catalog.contract_users(table));
            let users = users.as_ref();
            let names = |uses: fn(&User) -> bool| {
                let name = |user: &User| catalog.role_name(user.role);
                let using = |users: &Vec<User>| -> Vec<String> {
                    users.iter().filter(|user| uses(user)).map(name).collect()
                };
                users.map(|users| texts(using(users)))
            };
            let last = users.and_then(|users| users.iter().filter_map(|user| user.read).max());
            row![
                version.contract,
                i64::from(version.number),
                format!("public.{}", table.name),
                catalog.role_name(table.owner),
                next != Some((version.contract, table.owner)),
                table.options.get("sunset").map(String::as_str),
                names(|user| user.follows),
                names(|user| user.read.is_some()),
                names(|user| user.references),
                last.map(|at| Datum::Timestamptz(since_2000(at))),
            ]
        });
        let rows: Vec<_> = rows.collect();
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// All of them.
pub(super) fn relations() -> Vec<Arc<dyn SystemRelation>> {
    vec![
        Arc::new(PatternGrants),
        Arc::new(Follows),
        Arc::new(Contracts),
    ]
}
