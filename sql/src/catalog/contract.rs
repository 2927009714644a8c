//! Contracts: tables in `public` whose names end in `_v<number>`, and who uses them. What others use
//! of one may grow, and is not taken back; what is to be otherwise is the next version.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use storage::GroupId;

use super::{
    Catalog, Change, ColumnId, Constraint, Generated, IndexColumn, IndexKey, Key, LastRead, Object,
    Privilege, RoleId, SchemaId, Table, TableId, TableKind,
};
use crate::types::kind::format_type;

/// So often it is noted that a role reads a contract, in microseconds.
pub const READ_NOTED_EVERY: u64 = 60 * 60 * 1_000_000;

/// A role that has read a contract within this time uses it, in microseconds: a report that is made
/// once a month is found.
pub const READ_LATELY: u64 = 35 * 24 * 60 * 60 * 1_000_000;

/// Which contract a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version<'a> {
    /// The name that all versions share: `order` of `order_v1`.
    pub contract: &'a str,
    /// 1 of `order_v1`.
    pub number: u32,
}

impl Version<'_> {
    /// By a table's name; `None`: it is no contract's.
    pub fn of(name: &str) -> Option<Version<'_>> {
        let (contract, number) = name.rsplit_once("_v")?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|_| digits)?;
        (!contract.is_empty()).then_some(Version { contract, number })
    }

    /// The name of the table of the version behind this one.
    pub fn next(&self) -> String {
        format!("{}_v{}", self.contract, self.number.saturating_add(1))
    }
}

/// A role that uses another one's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Which.
    pub role: RoleId,
    /// By FOLLOW, of the table or a pattern.
    pub follows: bool,
    /// By a foreign key.
    pub references: bool,
    /// When it has read it last ([`LastRead::at`]).
    pub read: Option<u64>,
}

impl User {
    /// Does it follow or reference the contract, or has it read it not long before `now`?
    pub fn is_recent(&self, now: u64) -> bool {
        let lately = |read: u64| read.saturating_add(READ_LATELY) > now;
        self.follows || self.references || self.read.is_some_and(lately)
    }
}

impl Table {
    /// Which contract it is, if it is one.
    pub fn version(&self) -> Option<Version<'_>> {
        let is_public = self.schema == SchemaId::PUBLIC && self.kind == TableKind::Table;
        Version::of(&self.name).filter(|_| is_public)
    }

    /// What readers of this table may rely on and would not have of `new`. Tables that are referenced
    /// may have other numbers there: `same` tells.
    pub fn broken_by(&self, new: &Table, same: &Same<'_>) -> Vec<Broken> {
        let mut broken = Vec::new();
        if self.schema != new.schema || self.name != new.name {
            broken.push(Broken::Name);
        }
        for column in self.live_columns() {
            let name = || column.name.clone();
            match new.column(&column.name) {
                None => broken.push(Broken::Column(name())),
                Some(now) if now.ty != column.ty => {
                    let types = [column.ty, now.ty].map(|ty| format_type(ty.oid, ty.modifier));
                    broken.push(Broken::Type(name(), types));
                }
                Some(now) if column.not_null && !now.not_null => {
                    broken.push(Broken::NotNull(name()));
                }
                Some(_) => {}
            }
        }
        for column in new.live_columns() {
            let is_given = column.not_null && column.source() == Generated::Nothing;
            if is_given && self.column(&column.name).is_none() {
                broken.push(Broken::Mandatory(column.name.clone()));
            }
        }
        if self.key_names() != new.key_names() {
            broken.push(Broken::Key);
        }
        let kept: Vec<Promise> = new.promises().map(|(promise, _)| promise).collect();
        for (promise, name) in self.promises() {
            if !kept.iter().any(|kept| promise.is_kept_by(kept, same)) {
                broken.push(Broken::Constraint(name.to_owned()));
            }
        }
        if self.is_inbox() != new.is_inbox() || self.is_event() != new.is_event() {
            broken.push(Broken::Kind);
        }
        broken
    }

    fn names(&self, ids: &[ColumnId]) -> Vec<&str> {
        let name = |id: &ColumnId| self.column_by_id(*id).map_or("", |c| c.name.as_str());
        ids.iter().map(name).collect()
    }

    /// The columns by which the feed names a row.
    fn key_names(&self) -> Option<Vec<&str>> {
        match &self.key {
            Key::Primary(ids) => Some(self.names(ids)),
            Key::RowId => None,
        }
    }

    /// What its constraints promise, and their names.
    fn promises(&self) -> impl Iterator<Item = (Promise<'_>, &str)> {
        self.constraints.iter().filter_map(|constraint| {
            let promise = match constraint {
                Constraint::Check { expression, .. } => Promise::Check(expression),
                Constraint::Unique { index, .. } => {
                    let index = self.index(*index)?;
                    let ids: Option<Vec<_>> = index.columns.iter().map(column_of).collect();
                    Promise::Unique(self.names(&ids?))
                }
                Constraint::Foreign(key) => {
                    Promise::References(self.names(&key.columns), key.references)
                }
                // The key is compared by itself.
                Constraint::Primary { .. } => return None,
            };
            Some((promise, constraint.name()))
        })
    }
}

fn column_of(column: &IndexColumn) -> Option<ColumnId> {
    match column.what {
        IndexKey::Column(id) => Some(id),
        IndexKey::Expression(_) => None,
    }
}

/// Is a table of the old catalog one of the new one?
pub type Same<'a> = dyn Fn(TableId, TableId) -> bool + 'a;

/// What a constraint says about all rows.
enum Promise<'a> {
    Check(&'a str),
    Unique(Vec<&'a str>),
    References(Vec<&'a str>, TableId),
}

impl Promise<'_> {
    fn is_kept_by(&self, other: &Promise<'_>, same: &Same<'_>) -> bool {
        match (self, other) {
            (Promise::Check(one), Promise::Check(other)) => one == other,
            (Promise::Unique(one), Promise::Unique(other)) => one == other,
            (Promise::References(one, to), Promise::References(other, now)) => {
                one == other && same(*to, *now)
            }
            _ => false,
        }
    }
}

/// Something that readers of a contract may rely on, and that a change takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its name is another one.
    Name,
    /// It is no table of rows any more, or is one only now.
    Kind,
    /// There is no such column.
    Column(String),
    /// The column's type was the first, and is the second.
    Type(String, [String; 2]),
    /// The column may be NULL.
    NotNull(String),
    /// A new column must be given.
    Mandatory(String),
    /// The primary key is another one.
    Key,
    /// The constraint's promise is not kept.
    Constraint(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Name => f.write_str("its name is another one"),
            Broken::Kind => f.write_str("it is a table of another kind"),
            Broken::Column(name) => write!(f, "column \"{name}\" is gone"),
            Broken::Type(name, [old, new]) => {
                write!(f, "column \"{name}\" was {old} and is {new}")
            }
            Broken::NotNull(name) => write!(f, "column \"{name}\" may be NULL"),
            Broken::Mandatory(name) => {
                write!(f, "new column \"{name}\" is NOT NULL and has no default")
            }
            Broken::Key => f.write_str("its primary key is another one"),
            Broken::Constraint(name) => write!(f, "constraint \"{name}\" is gone"),
        }
    }
}

/// What has become of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// There was none.
    New,
    /// There is none any more.
    Gone,
    /// It is another one, and its readers need not notice.
    Grown,
    /// Its readers may have relied on this.
    Broken(Vec<Broken>),
}

impl Changed {
    /// Is something taken from readers?
    pub fn is_breaking(&self) -> bool {
        matches!(self, Changed::Gone | Changed::Broken(_))
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Changed::New => "new",
            Changed::Gone => "gone",
            Changed::Grown => "grows",
            Changed::Broken(_) => "breaks its readers",
        })
    }
}

/// What becomes of the contracts of one catalog in another one, by name.
pub fn contract_changes(old: &Catalog, new: &Catalog) -> BTreeMap<String, Changed> {
    let of = |catalog: &Catalog| -> BTreeMap<String, Arc<Table>> {
        let contracts = catalog.tables().filter(|table| table.version().is_some());
        contracts
            .map(|table| (table.name.clone(), Arc::clone(table)))
            .collect()
    };
    let name = |catalog: &Catalog, id| {
        let table = catalog.table(id)?;
        Some((
            catalog.schema_name(table.schema).to_owned(),
            table.name.clone(),
        ))
    };
    let same = |one, other| name(old, one) == name(new, other);
    let (before, after) = (of(old), of(new));
    let mut changes = BTreeMap::new();
    for (shown, table) in &before {
        let Some(now) = after.get(shown) else {
            changes.insert(shown.clone(), Changed::Gone);
            continue;
        };
        let broken = table.broken_by(now, &same);
        if !broken.is_empty() {
            changes.insert(shown.clone(), Changed::Broken(broken));
        } else if !now
            .broken_by(table, &|one, other| same(other, one))
            .is_empty()
        {
            changes.insert(shown.clone(), Changed::Grown);
        }
    }
    for shown in after.keys().filter(|shown| !before.contains_key(*shown)) {
        changes.insert(shown.clone(), Changed::New);
    }
    changes
}

impl Catalog {
    /// The name of the version of a contract that its owner would make next: behind all that he has.
    pub fn next_version(&self, table: &Table) -> Option<String> {
        let version = table.version()?;
        let others = self.tables().filter(|other| other.id != table.id);
        let own = others.filter(|other| other.owner == table.owner);
        let versions = own.filter_map(|other| other.version());
        let same = versions.filter(|other| other.contract == version.contract);
        Some(same.max().unwrap_or(version).max(version).next())
    }

    /// All that is noted of reads of contracts.
    pub fn last_reads(&self) -> impl Iterator<Item = &LastRead> {
        self.last_reads.values()
    }

    /// When a role is known to have read a contract last.
    pub fn last_read(&self, table: TableId, role: RoleId) -> Option<&LastRead> {
        self.last_reads.get(&(table, role))
    }

    /// What notes in the directory that a role reads a contract at a time, unless that is noted
    /// already. Some of what is noted of tables and roles that are gone goes with it.
    pub(crate) fn note_read(&self, table: TableId, role: RoleId, at: u64) -> Vec<Change> {
        /// Rows that go with one note.
        const FORGOTTEN_MAX: usize = 100;
        let old = self.last_read(table, role).copied();
        let noted = old.is_some_and(|old| old.at.saturating_add(READ_NOTED_EVERY) > at);
        let used = self
            .table(table)
            .is_some_and(|table| self.can_use(role, table));
        if noted || !used {
            return Vec::new();
        }
        let new = Object::LastRead(LastRead { table, role, at });
        let mut changes = vec![match old {
            Some(old) => Change::replace(GroupId::DIRECTORY, Object::LastRead(old), new),
            None => Change::create(GroupId::DIRECTORY, new),
        }];
        let gone =
            |read: &&LastRead| self.was_dropped(read.table) || self.role(read.role).is_none();
        let gone = self.last_reads.values().filter(gone).take(FORGOTTEN_MAX);
        changes.extend(gone.map(|read| Change::drop(GroupId::DIRECTORY, Object::LastRead(*read))));
        changes
    }

    /// Is it another one's contract that the role may read? Who acts for the owner, as a member or as
    /// who administers all, is no other one.
    pub fn can_use(&self, role: RoleId, table: &Table) -> bool {
        let others = table.version().is_some() && !self.has_role(role, table.owner);
        let reads = || self.reads_table(role, table);
        let follows = || self.has_privilege(role, table, Privilege::Follow, None);
        others && self.sees(role, table) && (reads() || follows())
    }

    /// Roles that use a contract, by OID: those that follow it or have read it, and may read it still.
    pub fn contract_users(&self, table: &Table) -> Vec<User> {
        let mut users: BTreeMap<RoleId, User> = BTreeMap::new();
        let of = |role| User {
            role,
            follows: false,
            references: false,
            read: None,
        };
        for follow in self.follows().filter(|follow| follow.covers(table)) {
            let user = users.entry(follow.role).or_insert_with(|| of(follow.role));
            user.follows = true;
        }
        for role in table
            .registered
            .iter()
            .filter_map(|of| self.owner_of_group(of.group))
        {
            let user = users.entry(role).or_insert_with(|| of(role));
            user.references = true;
        }
        let range = (table.id, RoleId(0))..=(table.id, RoleId(u32::MAX));
        for (_, read) in self.last_reads.range(range) {
            let user = users.entry(read.role).or_insert_with(|| of(read.role));
            user.read = Some(read.at);
        }
        let may = |user: &User| user.references || self.can_use(user.role, table);
        users.into_values().filter(may).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_at_the_end_of_names() {
        let of = |name| Version::of(name).map(|v| (v.contract, v.number));
        assert_eq!(of("order_v1"), Some(("order", 1)));
        assert_eq!(of("order_line_v12"), Some(("order_line", 12)));
        assert_eq!(of("order_v2_v3"), Some(("order_v2", 3)));
        for none in [
            "order",
            "_v1",
            "order_v",
            "order_v1a",
            "order_v-1",
            "order_v99999999999",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(Version::of("order_v9").unwrap().next(), "order_v10");
    }
}
