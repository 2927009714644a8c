//! Which owners and tables a reader asks for, and which of them it may read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::GroupId;

use crate::catalog::{Catalog, Privilege, RoleId, SchemaId, Table, TableKind};

/// What one reader asks for.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub role: RoleId,
    path: Vec<SchemaId>,
    /// `order_*`, `public.order_v1`; `None` = everything.
    patterns: Option<Vec<String>>,
}

impl Filter {
    pub fn new(role: RoleId, path: &[SchemaId], patterns: Option<Vec<String>>) -> Filter {
        let mut path = path.to_vec();
        if !path.contains(&SchemaId::PUBLIC) {
            path.push(SchemaId::PUBLIC);
        }
        Filter {
            role,
            path,
            patterns,
        }
    }

    /// Is the table asked for? A name without a schema means the reader's search path.
    pub fn wants(&self, catalog: &Catalog, table: &Table) -> bool {
        let Some(patterns) = &self.patterns else {
            return true;
        };
        patterns
            .iter()
            .any(|pattern| match pattern.split_once('.') {
                Some((schema, name)) => {
                    matches(schema, catalog.schema_name(table.schema)) && matches(name, &table.name)
                }
                None => self.path.contains(&table.schema) && matches(pattern, &table.name),
            })
    }

    /// May the role have this table's changes?
    pub fn may(&self, catalog: &Catalog, table: &Table) -> bool {
        may_follow(catalog, self.role, table)
    }

    /// Is everything asked for?
    pub fn wants_all(&self) -> bool {
        self.patterns.is_none()
    }

    /// The groups to read: the directory, and every owner with a table that is asked for and may
    /// be read. A superuser that asks for everything reads all.
    pub fn groups(&self, catalog: &Catalog) -> BTreeSet<GroupId> {
        let mut groups = BTreeSet::from([GroupId::DIRECTORY]);
        if self.wants_all() && catalog.is_superuser(self.role) {
            groups.extend(catalog.owners().map(|(_, group)| group));
            return groups;
        }
        let tables = catalog
            .tables()
            .filter(|table| table.kind == TableKind::Table);
        let wanted = tables.filter(|t| self.wants(catalog, t) && self.may(catalog, t));
        groups.extend(wanted.map(|table| table.group));
        groups
    }

    /// Owners of whose tables in `public` the role reads one that is asked for: their events that
    /// name no table are seen.
    pub fn heard(&self, catalog: &Catalog) -> BTreeMap<GroupId, Arc<Table>> {
        let public = catalog.tables().filter(|t| t.kind == TableKind::Table);
        public
            .filter(|t| t.schema == SchemaId::PUBLIC || catalog.has_role(self.role, t.owner))
            .filter(|t| self.wants(catalog, t) && self.may(catalog, t))
            .map(|t| (t.group, Arc::clone(t)))
            .collect()
    }
}

/// READ: the owner's tables, those granted, and all for a superuser.
pub(super) fn may_follow(catalog: &Catalog, role: RoleId, table: &Table) -> bool {
    catalog.has_role(role, table.owner)
        || (catalog.sees(role, table)
            && catalog.has_privilege(role, table, Privilege::Follow, None))
}

/// `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        if let Some(between) = last.replace(piece) {
            let Some(at) = rest.find(between) else {
                return false;
            };
            let between: &str = between;
            rest = &rest[at + between.len()..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, name) in [
            ("order_*", "order_v1"),
            ("*", ""),
            ("a*c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("x", "x"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("order_*", "orders"),
            ("a*c", "abcd"),
            ("x", "xy"),
            ("a*a", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
