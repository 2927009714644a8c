//! `freehold.contracts`: the versions of contracts that the role may see, and when they were written last;
//! who uses them, for their owner.

use std::sync::{Arc, LazyLock};

use storage::{Groups, Position};

use super::cell::{row, texts};
use super::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use crate::Result;
use crate::catalog::{Table, User, Version};
use crate::changes::may_follow;
use crate::engine::since_2000;
use crate::types::{Datum, Type};

/// A version stands still if a later one was written so much after it: microseconds.
const STILL_MICROS: u64 = 60 * 60 * 1_000_000;

struct Contracts(Arc<Groups>);

static COLUMNS: LazyLock<[SystemColumn; 12]> = LazyLock::new(|| {
    let column = |name, ty, not_null| SystemColumn { name, ty, not_null };
    let roles = Type::TEXT.array_of().unwrap_or(Type::TEXT);
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
        column("last_written", Type::TIMESTAMPTZ, false),
        column("warning", Type::TEXT, false),
    ]
});

/// A contract's table, as the role sees it.
struct Seen<'a> {
    version: Version<'a>,
    table: &'a Arc<Table>,
    /// Its last write, if the role has READ and this node the table.
    written: Option<Position>,
    /// Who uses it, for its owner.
    users: Option<Vec<User>>,
}

impl Seen<'_> {
    fn is_same_contract(&self, other: &Seen<'_>) -> bool {
        let of = |seen: &Seen<'_>| seen.table.owner;
        self.version.contract == other.version.contract && of(self) == of(other)
    }

    /// Does it stand still while the other one, a later version, moves? Who reads it then reads what was
    /// true once.
    fn stands_still_beside(&self, other: &Seen<'_>) -> bool {
        let later = self.is_same_contract(other) && self.version.number < other.version.number;
        let still = match (self.written, other.written) {
            (Some(own), Some(other)) => {
                own.unix_micros().saturating_add(STILL_MICROS) < other.unix_micros()
            }
            _ => false,
        };
        later && still
    }

    /// What is to be said of it beside all others.
    fn warning(&self, all: &[Seen<'_>]) -> Option<String> {
        let used = self.users.as_ref().is_none_or(|users| !users.is_empty());
        let mut others = all.iter().rev();
        let moving = others.find(|other| used && self.stands_still_beside(other))?;
        Some(format!(
            "it stands still while public.{} moves",
            moving.table.name
        ))
    }

    fn row(&self, cx: &SystemCx<'_>, newest: bool, warning: Option<String>) -> SystemRow {
        let users = self.users.as_deref();
        let names = |uses: fn(&User) -> bool| {
            let using = |users: &[User]| -> Vec<String> {
                let users = users.iter().filter(|user| uses(user));
                users.map(|user| cx.catalog.role_name(user.role)).collect()
            };
            users.map(|users| texts(using(users)))
        };
        let time = |unix_micros| Datum::Timestamptz(since_2000(unix_micros));
        let read = users.and_then(|users| users.iter().filter_map(|user| user.read).max());
        row![
            self.version.contract,
            i64::from(self.version.number),
            format!("public.{}", self.table.name),
            cx.catalog.role_name(self.table.owner),
            newest,
            self.table.options.get("sunset").map(String::as_str),
            names(|user| user.follows),
            names(|user| user.read.is_some()),
            names(|user| user.references),
            read.map(time),
            self.written.map(|at| time(at.unix_micros())),
            warning,
        ]
    }
}

impl Contracts {
    fn seen<'a>(&self, cx: &SystemCx<'a>) -> Vec<Seen<'a>> {
        let catalog = cx.catalog;
        let tables = catalog.tables().filter(|t| catalog.sees(cx.role, t));
        let seen = tables.filter_map(|table| {
            let version = table.version()?;
            let users = || catalog.contract_users(table);
            Some(Seen {
                version,
                table,
                written: self.written(table, cx),
                users: cx.acts_for(table.owner).then(users),
            })
        });
        let mut seen: Vec<Seen<'a>> = seen.collect();
        seen.sort_unstable_by_key(|seen| {
            let version = &seen.version;
            (version.contract, seen.table.owner, version.number)
        });
        seen
    }

    /// Of a copy that is followed no events are known.
    fn written(&self, table: &Table, cx: &SystemCx<'_>) -> Option<Position> {
        let group = self.0.get(table.group)?;
        let known = !group.is_followed() || (group.holds(table.tree) && !table.is_event());
        let may = known && may_follow(cx.catalog, cx.role, table);
        may.then(|| group.written(table.tree)).flatten()
    }
}

impl SystemRelation for Contracts {
    fn name(&self) -> (&str, &str) {
        ("freehold", "contracts")
    }

    fn columns(&self) -> &[SystemColumn] {
        &*COLUMNS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let all = self.seen(cx);
        let rows = all.iter().enumerate().map(|(at, seen)| {
            let next = all.get(at + 1);
            let newest = next.is_none_or(|next| !seen.is_same_contract(next));
            seen.row(cx, newest, seen.warning(&all))
        });
        let rows: Vec<_> = rows.collect();
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// The relation over the groups of this node.
pub(crate) fn relation(groups: &Arc<Groups>) -> Arc<dyn SystemRelation> {
    Arc::new(Contracts(Arc::clone(groups)))
}
