//! Who follows what, and which trees of an owner's group a node without a replica holds for that:
//! one pure function, the same where a copy is sent and where it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::{Chosen, GroupId, system};

use super::object::glob;
use super::{
    Catalog, Follow, Followed, Privilege, RoleId, SchemaId, TREE_DESCRIPTORS, TREE_HISTORY,
    TREE_SEQUENCES, TREE_TREES, Table, TableId, TableKind,
};

/// What every node has of every owner: what exists, what has existed, where sequences stand.
const ALWAYS: [u32; 4] = [TREE_DESCRIPTORS, TREE_HISTORY, TREE_SEQUENCES, TREE_TREES];

impl Follow {
    /// Is the table what is followed? A role's own tables and those outside of `public` are never
    /// meant by a pattern.
    pub fn covers(&self, table: &Table) -> bool {
        match &self.what {
            Followed::Table(id) => table.id == *id,
            Followed::Pattern(pattern) => {
                table.kind == TableKind::Table
                    && table.schema == SchemaId::PUBLIC
                    && table.owner != self.role
                    && glob(pattern.as_bytes(), table.name.as_bytes())
            }
        }
    }
}

/// What stands behind a view.
#[derive(Debug, Default)]
pub struct Behind {
    /// Tables, and with whose rights each is read: those of the owner of the view that names it.
    pub tables: Vec<(Arc<Table>, RoleId)>,
    /// The groups whose catalogs say what is shown: those of the view and of the views that it reads.
    pub told_by: BTreeSet<GroupId>,
}

impl Catalog {
    /// What all roles follow, by role.
    pub fn follows(&self) -> impl Iterator<Item = &Arc<Follow>> {
        self.follows.values()
    }

    /// What a role follows.
    pub fn follows_of(&self, role: RoleId) -> impl Iterator<Item = &Arc<Follow>> {
        let first = (role, Followed::Table(TableId(0)));
        let of_role = self.follows.range(first..);
        of_role
            .take_while(move |((of, _), _)| *of == role)
            .map(|(_, follow)| follow)
    }

    /// The row that says so, if the role follows it.
    pub fn follow(&self, role: RoleId, what: &Followed) -> Option<&Arc<Follow>> {
        self.follows.get(&(role, what.clone()))
    }

    /// May the role read the table, or columns of it? Who may, may have a copy.
    pub fn reads_table(&self, role: RoleId, table: &Table) -> bool {
        let any = Some(&[][..]);
        self.sees(role, table) && self.has_privilege(role, table, Privilege::Select, any)
    }

    /// What stands behind a view: the tables that it reads in the end.
    pub fn behind(&self, view: &Table) -> Behind {
        let mut behind = Behind::default();
        let mut seen = BTreeSet::new();
        let mut open = vec![view.id];
        while let Some(view) = open.pop().and_then(|id| self.table(id)) {
            if !seen.insert(view.id) {
                continue;
            }
            behind.told_by.insert(view.group);
            for used in view.depends_on.iter().filter_map(|(id, _)| self.table(*id)) {
                match used.kind {
                    TableKind::View(_) => open.push(used.id),
                    TableKind::Table => behind.tables.push((Arc::clone(used), view.owner)),
                    TableKind::System | TableKind::Sequence(_) => {}
                }
            }
        }
        behind
    }

    /// The tables whose rows a group holds, those too that are arriving there or have left.
    pub fn tables_in(&self, group: GroupId) -> impl Iterator<Item = &Arc<Table>> {
        let trees = self.trees.range((group, 0)..=(group, u32::MAX));
        let ids: BTreeSet<TableId> = trees.map(|(_, table)| *table).collect();
        let tables = ids.into_iter();
        let tables = tables.filter_map(move |id| self.table_in(group, id));
        tables.filter(|table| table.kind == TableKind::Table)
    }

    /// The trees of a group in which the table has its rows, or once had before TRUNCATE or a rewrite; of
    /// its indexes those that are gone are among them, too.
    pub fn trees_ever(&self, group: GroupId, table: TableId) -> Vec<u32> {
        let now = self.table(table);
        let of_index = |tree: u32| {
            let mut indexes = now.iter().flat_map(|table| &table.indexes);
            indexes.any(|index| index.tree == tree) && now.is_some_and(|now| now.tree != tree)
        };
        let trees = self.trees.range((group, 0)..=(group, u32::MAX));
        let of_table = trees.filter(|((_, tree), id)| **id == table && !of_index(*tree));
        of_table.map(|((_, tree), _)| *tree).collect()
    }

    /// The outboxes of a group: to which groups it has sent something, ever.
    pub fn outboxes(&self, group: GroupId) -> impl Iterator<Item = GroupId> {
        let first = system::outbox(GroupId(0));
        let trees = self.trees.range((group, first)..=(group, u32::MAX));
        trees.filter_map(|((_, tree), _)| system::outbox_to(*tree))
    }

    /// Was there a table of this OID that is gone? One that has gone to another owner, or is on its way,
    /// is not, though nothing may be known here of that one yet.
    pub fn was_dropped(&self, id: TableId) -> bool {
        let comes = || self.tables_aside().any(|table| table.id == id);
        let mut trees = self.trees.iter();
        let mut dropped =
            || trees.any(|(place, table)| *table == id && !self.left.contains_key(place));
        self.table(id).is_none() && dropped() && !comes()
    }

    /// The trees of a group that a node holds if it has no replica of it: what every node has of
    /// every owner; the tables that the roles follow whose own groups have a place on the node;
    /// and those `asked` for there. Of all these only what the role may read itself. And what the
    /// group sends to groups that have a place on the node, and the keys that those reference.
    pub fn chosen(&self, node: u32, group: GroupId, asked: &[(RoleId, TableId)]) -> Chosen {
        let mut chosen = BTreeSet::from(ALWAYS);
        let mut take = |table: &Table, may: &dyn Fn() -> bool| {
            if !chosen.contains(&table.tree) && may() {
                chosen.extend(table.trees());
            }
        };
        let mut here: BTreeMap<RoleId, bool> = BTreeMap::new();
        // One that is on its way is followed, and may be read, as the one that holds says.
        let holds = |table: &Arc<Table>| Arc::clone(self.table(table.id).unwrap_or(table));
        for table in self.tables_in(group) {
            let now = holds(table);
            for follow in self.follows().filter(|follow| follow.covers(&now)) {
                let role = follow.role;
                if *here.entry(role).or_insert_with(|| self.places(role, node)) {
                    take(table, &|| self.reads_table(role, &now));
                }
            }
        }
        for (role, id) in asked {
            let table = self.table_in(group, *id);
            if let Some(table) = table.filter(|table| table.kind == TableKind::Table) {
                take(table, &|| self.reads_table(*role, &holds(table)));
            }
        }
        // What comes to an owner comes first to where its group is.
        for table in self.tables_in(group) {
            if table.goes_to().is_some_and(|to| self.places(to, node)) {
                chosen.extend(table.trees());
            }
        }
        let here = |to: &GroupId| self.placement(*to).is_some_and(|at| at.is_on(node));
        chosen.extend(self.outboxes(group).filter(here).map(system::outbox));
        // Whatever may be read: that a key is there, which the grant of REFERENCES gives.
        for table in self.tables_in(group) {
            let of = table.registered.iter().filter(|of| here(&of.group));
            let indexes = of.filter_map(|of| table.index(of.index));
            chosen.extend(indexes.map(|index| system::keys_of(index.tree)));
        }
        Chosen::new(chosen)
    }

    /// Has the role's own group a place on the node?
    pub fn places(&self, role: RoleId, node: u32) -> bool {
        let placement = self.group_of(role).and_then(|group| self.placement(group));
        placement.is_some_and(|at| at.is_on(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Change, Object, Placement};
    use crate::ddl::tests::Fixture;

    /// Group 1 is `a`'s, group 2 `b`'s; `b` stands on node 2 only. `a` has two tables in `public`
    /// (`order_v1` with an index of its own) and a private one.
    fn owners() -> Fixture {
        let mut fixture = Fixture::with_roles();
        fixture.ok(
            "a",
            "CREATE TABLE public.order_v1 (id int PRIMARY KEY, n int)",
        );
        fixture.ok("a", "CREATE INDEX order_n ON public.order_v1 (n)");
        fixture.ok("a", "CREATE TABLE public.item_v1 (id int PRIMARY KEY)");
        fixture.ok("a", "CREATE TABLE secret (id int PRIMARY KEY)");
        fixture.ok("b", "CREATE TABLE own (id int PRIMARY KEY)");
        let placement = Placement {
            group: 2,
            replicas: 1,
            regions: Vec::new(),
            voters: vec![2],
            learners: vec![3],
            made: true,
            leaving: Some(Vec::new()),
        };
        put(&mut fixture, Object::Placement(Arc::new(placement)));
        fixture
    }

    fn put(fixture: &mut Fixture, object: Object) {
        let change = Change::create(GroupId::DIRECTORY, object);
        fixture.commit(GroupId::DIRECTORY, crate::catalog::rows(&change));
    }

    fn follows(fixture: &mut Fixture, role: &str, what: Followed) {
        let role = fixture.role(role).id;
        put(fixture, Object::Follow(Arc::new(Follow { role, what })));
    }

    fn pattern(text: &str) -> Followed {
        Followed::Pattern(text.to_owned())
    }

    /// The names of the tables of which the node holds all trees, and nothing else of any.
    fn held(fixture: &Fixture, node: u32, asked: &[(RoleId, TableId)]) -> Vec<String> {
        let catalog = fixture.catalog();
        let chosen = catalog.chosen(node, GroupId(1), asked);
        let tables = catalog.tables_in(GroupId(1));
        let held = tables.filter(|table| {
            let has: Vec<bool> = table.trees().iter().map(|t| chosen.has(*t)).collect();
            assert!(has.iter().all(|one| *one == has[0]), "{}", table.name);
            has[0]
        });
        let held: Vec<_> = held.collect();
        let trees = held.iter().map(|table| table.trees().len()).sum::<usize>();
        assert_eq!(chosen.trees().count(), trees + ALWAYS.len());
        assert!(ALWAYS.iter().all(|tree| chosen.has(*tree)));
        held.iter().map(|table| table.name.clone()).collect()
    }

    #[test]
    fn only_what_is_followed_and_may_be_read_is_held() {
        let mut fixture = owners();
        follows(&mut fixture, "b", pattern("*"));
        for table in ["a.secret", "public.item_v1"] {
            let table = fixture.table(table).id;
            follows(&mut fixture, "b", Followed::Table(table));
        }
        let nobody: [&str; 0] = [];
        assert_eq!(held(&fixture, 2, &[]), nobody);
        fixture.ok("a", "GRANT READ ON order_* TO b");
        assert_eq!(fixture.table("public.order_v1").trees().len(), 2);
        assert_eq!(held(&fixture, 2, &[]), ["order_v1"]);
        assert_eq!(held(&fixture, 3, &[]), ["order_v1"], "a learner, too");
        assert_eq!(held(&fixture, 1, &[]), nobody, "b is not at home there");
        fixture.ok("a", "GRANT SELECT ON public.item_v1 TO b");
        assert_eq!(held(&fixture, 2, &[]), ["order_v1", "item_v1"]);
        // What comes later is followed by itself, and what may not be read any more is not.
        fixture.ok("a", "CREATE TABLE public.order_v2 (id int)");
        assert_eq!(held(&fixture, 2, &[]), ["order_v1", "item_v1", "order_v2"]);
        fixture.ok("a", "REVOKE READ ON order_* FROM b");
        assert_eq!(held(&fixture, 2, &[]), ["item_v1"]);
        fixture.ok("a", "DROP TABLE public.item_v1 CASCADE");
        assert_eq!(held(&fixture, 2, &[]), nobody);
    }

    #[test]
    fn grants_reach_followers_by_membership() {
        let mut fixture = owners();
        follows(&mut fixture, "b", pattern("order_*"));
        fixture.ok("a", "GRANT READ ON public.order_v1 TO c");
        let nobody: [&str; 0] = [];
        assert_eq!(held(&fixture, 2, &[]), nobody);
        fixture.ok("postgres", "GRANT c TO b");
        assert_eq!(held(&fixture, 2, &[]), ["order_v1"]);
        fixture.ok("postgres", "REVOKE c FROM b");
        assert_eq!(held(&fixture, 2, &[]), nobody);
    }

    #[test]
    fn what_is_asked_for_is_held_if_it_may_be_read() {
        let mut fixture = owners();
        fixture.ok("a", "GRANT SELECT (n) ON public.order_v1 TO c");
        let (a, c) = (fixture.role("a").id, fixture.role("c").id);
        let [order, item, secret] =
            ["public.order_v1", "public.item_v1", "a.secret"].map(|name| fixture.table(name).id);
        assert_eq!(held(&fixture, 1, &[(c, order)]), ["order_v1"]);
        let nobody: [&str; 0] = [];
        assert_eq!(held(&fixture, 1, &[(c, item), (c, secret)]), nobody);
        // Views of the owner's read as the owner.
        assert_eq!(held(&fixture, 1, &[(a, secret)]), ["secret"]);
        let own = fixture.table("b.own").id;
        let b = fixture.role("b").id;
        assert_eq!(held(&fixture, 1, &[(b, own)]), nobody, "of another group");
    }

    #[test]
    fn what_stands_behind_a_view_is_not_held_for_who_may_read_the_view() {
        let mut fixture = owners();
        fixture.ok("a", "CREATE VIEW public.shown AS SELECT id FROM a.secret");
        fixture.ok(
            "a",
            "CREATE VIEW public.outer AS SELECT id FROM public.shown, public.item_v1",
        );
        fixture.ok("a", "GRANT SELECT ON public.shown, public.outer TO b, c");
        let (b, c) = (fixture.role("b").id, fixture.role("c").id);
        let secret = fixture.table("a.secret").id;
        let nobody: [&str; 0] = [];
        assert_eq!(held(&fixture, 1, &[(b, secret), (c, secret)]), nobody);
        follows(&mut fixture, "b", pattern("*"));
        follows(&mut fixture, "b", Followed::Table(secret));
        assert_eq!(held(&fixture, 2, &[(b, secret)]), nobody);

        let catalog = fixture.catalog();
        let behind = catalog.behind(&fixture.table("public.outer"));
        let a = fixture.role("a").id;
        let mut names: Vec<_> = behind
            .tables
            .iter()
            .map(|(t, by)| (&*t.name, *by))
            .collect();
        names.sort_unstable();
        assert_eq!(names, [("item_v1", a), ("secret", a)]);
        assert_eq!(behind.told_by, BTreeSet::from([GroupId(1)]));
    }

    #[test]
    fn follow_rows_come_back() {
        let mut fixture = owners();
        let order = fixture.table("public.order_v1").id;
        follows(&mut fixture, "b", pattern("order_*"));
        follows(&mut fixture, "b", Followed::Table(order));
        follows(&mut fixture, "c", pattern("*"));
        let (b, rebuilt) = (fixture.role("b").id, fixture.rebuilt());
        assert_eq!(rebuilt.follows().count(), 3);
        let of_b: Vec<_> = rebuilt.follows_of(b).map(|f| f.what.clone()).collect();
        assert_eq!(of_b, [Followed::Table(order), pattern("order_*")]);
        for follow in rebuilt.follows() {
            let object = Object::Follow(Arc::clone(follow));
            let change = Change::drop(GroupId::DIRECTORY, object);
            fixture.commit(GroupId::DIRECTORY, crate::catalog::rows(&change));
        }
        assert_eq!(fixture.catalog().follows().count(), 0);
        assert_eq!(fixture.rebuilt().follows().count(), 0);
    }
}
