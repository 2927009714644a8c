//! Which owners and tables a reader asks for, and which of them it may read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, Groups};

use super::Asked;
use crate::catalog::{Catalog, Privilege, RoleId, SchemaId, Table, TableId, TableKind};
use crate::cluster::{Reader, Writer};

/// What one reader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub(super) role: RoleId,
    path: Vec<SchemaId>,
    /// `order_*`, `public.order_v1`; `None` = everything.
    patterns: Option<Vec<String>>,
}

impl Filter {
    /// What a role asks for, by names and patterns; `None`: everything.
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
    pub(super) fn wants(&self, catalog: &Catalog, table: &Table) -> bool {
        let patterns = self.patterns.as_ref();
        patterns.is_none_or(|patterns| patterns.iter().any(|p| self.means(p, catalog, table)))
    }

    /// The pattern that means one table, whatever its name is or was: no name has such a character.
    pub(crate) fn pattern_of(table: TableId) -> String {
        format!("\0{table}")
    }

    fn means(&self, pattern: &str, catalog: &Catalog, table: &Table) -> bool {
        if let Some(id) = pattern.strip_prefix('\0') {
            return id == table.id.to_string();
        }
        self.means_name(pattern, catalog, table.schema, &table.name)
    }

    fn means_name(&self, pattern: &str, catalog: &Catalog, schema: SchemaId, name: &str) -> bool {
        match pattern.split_once('.') {
            Some((of, pattern)) => {
                matches(of, catalog.schema_name(schema)) && matches(pattern, name)
            }
            None => self.path.contains(&schema) && matches(pattern, name),
        }
    }

    /// Could a table that comes to be readable be asked for, too? Not if all that is asked for are
    /// names of tables that are readable already: no other table has them.
    fn is_open(&self, catalog: &Catalog) -> bool {
        let readable = |name: &String| {
            let mut tables = catalog.tables();
            tables.any(|t| self.means(name, catalog, t) && self.may(catalog, t))
        };
        let open = |pattern: &String| pattern.contains('*') || !readable(pattern);
        let patterns = self.patterns.as_ref();
        patterns.is_none_or(|patterns| patterns.iter().any(open))
    }

    /// Whom a page is about.
    pub(super) fn asked(&self, catalog: &Catalog, groups: &Groups) -> Asked {
        let read = self.held(catalog, groups);
        if !self.is_open(catalog) {
            return Asked {
                read,
                ..Asked::default()
            };
        }
        let owners = catalog.owners().map(|(_, group)| group);
        let others = owners.filter(|id| !read.contains(id) && is_there(catalog, groups, *id));
        let wanted = self.wanted(catalog);
        let (wanted, watched) = others.partition(|id| wanted.contains(id));
        Asked {
            read,
            wanted,
            watched,
        }
    }

    /// The owners of whom it is known that they may be asked for: with a table that is, in a schema
    /// that the role may use, or with a name for one. A name in `public` is taken in the directory
    /// before its table is made.
    fn wanted(&self, catalog: &Catalog) -> BTreeSet<GroupId> {
        let usable = |schema| {
            let schema = catalog.schema(schema);
            schema.is_some_and(|schema| catalog.uses_schema(self.role, schema))
        };
        let tables = catalog.tables().filter(|t| t.kind == TableKind::Table);
        let asked = tables.filter(|t| usable(t.schema) && self.wants(catalog, t));
        let mut wanted: BTreeSet<GroupId> = asked.map(|table| table.group).collect();
        let names = catalog.reservations().filter(|taken| {
            let patterns = self.patterns.as_ref();
            let means = |p: &String| self.means_name(p, catalog, taken.schema, &taken.name);
            usable(taken.schema) && patterns.is_none_or(|patterns| patterns.iter().any(means))
        });
        wanted.extend(names.filter_map(|taken| catalog.group_of(taken.role)));
        wanted
    }

    /// The groups to read, but for those that are only being made.
    pub(super) fn held(&self, catalog: &Catalog, groups: &Groups) -> Vec<GroupId> {
        let mut ids = self.groups(catalog);
        ids.retain(|id| is_there(catalog, groups, *id) || catalog.tables_in(*id).next().is_some());
        ids.into_iter().collect()
    }

    /// Its bytes, for another node: role, search path, patterns.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u32(self.role.0);
        out.count(self.path.len());
        self.path.iter().for_each(|schema| out.u32(schema.0));
        out.u8(u8::from(self.patterns.is_some()));
        let patterns = self.patterns.as_deref().unwrap_or_default();
        out.count(patterns.len());
        patterns.iter().for_each(|pattern| out.text(pattern));
        out.0.into()
    }

    /// The inverse of [`Filter::encode`]; `None`: it is none.
    pub fn decode(bytes: &[u8]) -> Option<Filter> {
        let mut from = Reader(bytes);
        let role = RoleId(from.u32()?);
        let path = from.list(|r| Some(SchemaId(r.u32()?)))?;
        let some = from.flag()?;
        let patterns = from.list(|r| Some(r.text()?.to_owned()))?;
        from.is_empty().then_some(Filter {
            role,
            path,
            patterns: some.then_some(patterns),
        })
    }

    /// May the role have this table's changes?
    pub(super) fn may(&self, catalog: &Catalog, table: &Table) -> bool {
        may_follow(catalog, self.role, table)
    }

    /// Other owners' contracts that are asked for, by name or pattern, and may be read.
    pub(super) fn contracts<'a>(
        &'a self,
        catalog: &'a Catalog,
    ) -> impl Iterator<Item = &'a Arc<Table>> {
        let named = |table: &&Arc<Table>| !self.wants_all() && self.wants(catalog, table);
        let tables = catalog.tables().filter(named);
        tables.filter(|table| catalog.can_use(self.role, table))
    }

    /// Is everything asked for?
    pub(super) fn wants_all(&self) -> bool {
        self.patterns.is_none()
    }

    /// The groups to read: the directory, and every owner with a table that is asked for and may
    /// be read. A superuser that asks for everything reads all.
    pub(super) fn groups(&self, catalog: &Catalog) -> BTreeSet<GroupId> {
        let mut groups = BTreeSet::from([GroupId::DIRECTORY]);
        if self.wants_all() && catalog.is_superuser(self.role) {
            groups.extend(catalog.owners().map(|(_, group)| group));
            return groups;
        }
        let tables = catalog
            .tables()
            .filter(|table| table.kind == TableKind::Table);
        let wanted = tables.filter(|t| self.wants(catalog, t) && self.may(catalog, t));
        // What was told of it by former owners is told by them.
        for table in wanted {
            groups.insert(table.group);
            groups.extend(&table.former);
            // Who writes it next is waited for before anybody knows that it has begun to.
            groups.extend(table.goes_to().and_then(|to| catalog.group_of(to)));
        }
        groups
    }

    /// Owners of whose tables in `public` the role reads one that is asked for: their events that
    /// name no table are seen.
    pub(super) fn heard(&self, catalog: &Catalog) -> BTreeMap<GroupId, Arc<Table>> {
        let public = catalog.tables().filter(|t| t.kind == TableKind::Table);
        public
            .filter(|t| t.schema == SchemaId::PUBLIC || catalog.has_role(self.role, t.owner))
            .filter(|t| self.wants(catalog, t) && self.may(catalog, t))
            .map(|t| (t.group, Arc::clone(t)))
            .collect()
    }
}

/// Could there be entries of a group? Once it is made there could, on this node or not yet.
fn is_there(catalog: &Catalog, groups: &Groups, id: GroupId) -> bool {
    groups.get(id).is_some()
        || catalog
            .placement(id)
            .is_some_and(|placement| placement.made)
}

/// READ: the owner's tables, those granted, and all for a superuser.
pub(crate) fn may_follow(catalog: &Catalog, role: RoleId, table: &Table) -> bool {
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
    use storage::{ManualClock, MemoryStore};

    use super::*;
    use crate::catalog::{Change, Object, Placement};
    use crate::ddl::tests::Fixture;

    #[test]
    fn an_owner_that_has_not_come_yet_counts_once_it_is_made() {
        let mut fixture = Fixture::with_roles();
        fixture.ok("b", "CREATE TABLE own (id int PRIMARY KEY)");
        let group = GroupId(1);
        let groups = Groups::new(MemoryStore::new(), Arc::new(ManualClock::new(1)));
        let open = Some(vec!["nobody_has_*".to_owned()]);
        let open = Filter::new(fixture.role("a").id, &[], open);
        for made in [false, true] {
            let placement = Placement {
                group: group.0,
                replicas: 1,
                regions: Vec::new(),
                voters: vec![2],
                learners: Vec::new(),
                made,
                leaving: Some(Vec::new()),
            };
            let placed = Change::create(GroupId::DIRECTORY, Object::Placement(Arc::new(placement)));
            fixture.commit(GroupId::DIRECTORY, crate::catalog::rows(&placed));
            let asked = open.asked(&fixture.catalog(), &groups);
            assert_eq!(asked.watched.contains(&group), made);
            let there = is_there(&fixture.catalog(), &groups, group);
            assert_eq!(there, made);
        }
    }

    #[test]
    fn who_has_taken_a_name_that_is_asked_for_is_wanted() {
        let mut fixture = Fixture::with_roles();
        fixture.ok("b", "CREATE TABLE order_private (id int PRIMARY KEY)");
        let group = fixture.catalog().group_of(fixture.role("b").id).unwrap();
        let wanted = |fixture: &Fixture, pattern: &str| {
            let filter = Filter::new(fixture.role("a").id, &[], Some(vec![pattern.to_owned()]));
            filter.wanted(&fixture.catalog()).contains(&group)
        };
        // It takes two grants to show that one, and no other owner is held to be asked for.
        assert!(!wanted(&fixture, "order_*") && !wanted(&fixture, "b.order_*"));
        let name = (SchemaId::PUBLIC, "order_v1".to_owned());
        let taken = crate::catalog::Reservation {
            schema: name.0,
            name: name.1,
            role: fixture.role("b").id,
            taken_at: 1,
        };
        let taken = Change::create(GroupId::DIRECTORY, Object::Reservation(Arc::new(taken)));
        fixture.commit(GroupId::DIRECTORY, crate::catalog::rows(&taken));
        assert!(wanted(&fixture, "order_*") && wanted(&fixture, "public.*"));
        assert!(!wanted(&fixture, "item_*"));
        fixture.ok("b", "CREATE TABLE public.item_v1 (id int PRIMARY KEY)");
        assert!(wanted(&fixture, "item_*"));
    }

    #[test]
    fn filters_come_back() {
        for patterns in [
            None,
            Some(vec![]),
            Some(vec!["order_*".into(), "a.b".into()]),
        ] {
            let filter = Filter::new(RoleId(7), &[SchemaId(9)], patterns);
            let bytes = filter.encode();
            assert_eq!(Filter::decode(&bytes), Some(filter));
            for length in 0..bytes.len() {
                assert_eq!(Filter::decode(&bytes[..length]), None);
            }
        }
    }

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
