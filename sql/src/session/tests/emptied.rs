//! What waits for a table that gets other trees meanwhile (TRUNCATE, ALTER TABLE ... TYPE): it is done in
//! those, whatever it has seen before, and nothing is written where the rows were.

use std::ops::Bound;

use bytes::Bytes;
use storage::{Direction, GroupId};

use super::node::{Client, Node};

const LEVELS: [Option<&str>; 4] = [
    None,
    Some("read committed"),
    Some("repeatable read"),
    Some("serializable"),
];
const TRUNCATE: &str = "truncate t";
const REWRITE: &str = "alter table t alter n type bigint";

fn node() -> (Node, Client, Client) {
    let node = Node::new();
    node.client("postgres").ok("create role app login");
    let mut owner = node.client("app");
    owner.ok("create table t (id int primary key, n int); create index on t (n)");
    owner.ok("insert into t values (1, 1), (2, 2); create table other (id int)");
    owner.ok("create function f() returns bigint language plpgsql as $$ \
         begin update t set n = n + 7; return (select count(*) from t where n > 7); end $$");
    let client = node.client("app");
    (node, owner, client)
}

/// The trees of a table and its indexes, with their rows.
pub(super) struct Trees {
    pub group: GroupId,
    rows: Vec<(u32, Vec<(Bytes, Bytes)>)>,
}

impl Trees {
    pub fn of(node: &Node, name: &str) -> Trees {
        let catalog = node.engine.catalog();
        let mut tables = catalog.tables();
        let table = tables.find(|table| table.name == name).expect("a table");
        let mut trees: Vec<u32> = table.indexes.iter().map(|index| index.tree).collect();
        trees.push(table.tree);
        let group = table.group;
        let rows = trees.into_iter();
        let rows = rows.map(|tree| (tree, rows_of(node, group, tree)));
        Trees {
            group,
            rows: rows.collect(),
        }
    }

    /// Who has read them before may go on: they are dropped, and written no more.
    pub fn assert_unwritten(&self, node: &Node, what: &str) {
        for (tree, rows) in &self.rows {
            assert_eq!(rows_of(node, self.group, *tree), *rows, "{what}: {tree}");
        }
    }
}

fn rows_of(node: &Node, group: GroupId, tree: u32) -> Vec<(Bytes, Bytes)> {
    let group = node.engine.groups().get(group).expect("held here");
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = group.scan(tree, all, group.applied(), Direction::Forward);
    rows.expect("a tree")
        .collect::<storage::Result<_>>()
        .expect("rows")
}

/// `then` waits for the block of `ddl`, which ends in a pending entry first. Its answer, and what is in the
/// table afterwards.
fn behind(ddl: &str, level: Option<&str>, then: &str) -> (String, String) {
    let what = format!("{ddl}; {level:?}: {then}");
    let (node, mut a, mut b) = node();
    let before = Trees::of(&node, "t");
    a.ok(&format!("begin; {ddl}"));
    if let Some(level) = level {
        b.ok(&format!(
            "begin isolation level {level}; select * from other"
        ));
    }
    assert_eq!(b.start(then), None, "{what}");
    node.local.hold(before.group);
    assert_eq!(a.start("commit"), None, "{what}");
    assert_eq!(b.go_on(), None, "{what}: the catalog is not there yet");
    node.local.release(before.group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("COMMIT"));
    let mut answer = b.go_on().unwrap_or_else(|| panic!("waits: {what}"));
    if !b.answer.rows.is_empty() {
        answer = format!("{answer}: {}", b.shown());
    }
    if level.is_some() {
        b.ok("commit");
    }
    before.assert_unwritten(&node, &what);
    (answer, a.rows("select id, n from t order by id"))
}

#[test]
fn what_has_waited_for_truncate_finds_nothing() {
    for level in LEVELS {
        for (then, answer, left) in [
            ("update t set n = 9", "UPDATE 0", ""),
            ("update t set n = 9 where id = 1", "UPDATE 0", ""),
            ("delete from t where n = 2", "DELETE 0", ""),
            ("insert into t values (1, 5)", "INSERT 0 1", "1|5"),
            (
                "insert into t values (1, 5) on conflict (id) do update set n = 9",
                "INSERT 0 1",
                "1|5",
            ),
            ("select n from t where id = 1 for update", "SELECT 0", ""),
            ("select f()", "SELECT 1: 0", ""),
            ("do $$ begin delete from t where id = 1; end $$", "DO", ""),
        ] {
            let found = behind(TRUNCATE, level, then);
            assert_eq!(found, (answer.into(), left.into()), "{level:?}: {then}");
        }
    }
}

#[test]
fn what_has_waited_for_other_trees_is_done_in_them() {
    for level in &LEVELS[..2] {
        for (then, answer, left) in [
            ("update t set n = 9 where id = 1", "UPDATE 1", "1|9\n2|2"),
            ("delete from t where n = 2", "DELETE 1", "1|1"),
            ("insert into t values (3, 5)", "INSERT 0 1", "1|1\n2|2\n3|5"),
            (
                "insert into t values (1, 5) on conflict (id) do update set n = 9",
                "INSERT 0 1",
                "1|9\n2|2",
            ),
            ("select f()", "SELECT 1: 2", "1|8\n2|9"),
        ] {
            let found = behind(REWRITE, *level, then);
            assert_eq!(found, (answer.into(), left.into()), "{level:?}: {then}");
        }
    }
    // As in PostgreSQL, an older snapshot has none of the rows in the trees that came after it.
    let then = "update t set n = 9 where id = 1";
    let found = behind(REWRITE, Some("repeatable read"), then);
    assert_eq!(found, ("UPDATE 0".into(), "1|1\n2|2".into()));
}

#[test]
fn a_table_that_is_locked_is_the_one_that_has_the_name() {
    let (node, mut a, mut b) = node();
    let group = node.group("app");
    a.ok("begin; truncate t");
    b.ok("begin isolation level repeatable read; select * from other");
    assert_eq!(b.start("lock table t in share mode"), None);
    node.local.hold(group);
    assert_eq!(a.start("commit"), None);
    assert_eq!(b.go_on(), None);
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("COMMIT"));
    assert_eq!(b.go_on().as_deref(), Some("LOCK TABLE"));
    assert_eq!(a.start("insert into t values (1, 5)"), None);
    b.ok("commit");
    assert_eq!(a.go_on().as_deref(), Some("INSERT 0 1"));
}

#[test]
fn what_is_copied_behind_truncate_is_there() {
    let (node, mut a, mut b) = node();
    let before = Trees::of(&node, "t");
    a.ok("begin; truncate t");
    assert_eq!(b.start("copy t from stdin"), None);
    node.local.hold(before.group);
    assert_eq!(a.start("commit"), None);
    node.local.release(before.group).unwrap();
    assert_eq!(b.go_on().as_deref(), Some("COPY IN"));
    assert_eq!(b.copy(b"1\t5\n", 100), "COPY 1");
    assert_eq!(a.go_on().as_deref(), Some("COMMIT"));
    before.assert_unwritten(&node, "copy");
    assert_eq!(a.rows("select id, n from t"), "1|5");
}

#[test]
fn what_is_copied_goes_on_with_the_catalog_that_its_triggers_need() {
    let (_node, mut a, mut b) = node();
    a.ok(
        "create function note() returns trigger language plpgsql as $$ \
         begin insert into other values (new.id); return new; end $$; \
         create trigger n after insert on t for each row execute function note()",
    );
    assert_eq!(b.run("copy t from stdin"), "COPY IN");
    a.ok("alter table other alter id type bigint");
    assert_eq!(b.copy(b"5\t5\n6\t6\n", 100), "COPY 2");
    assert_eq!(a.rows("select id from other order by id"), "5\n6");
}

/// A parent and its children, of one owner.
fn family(action: &str) -> (Node, Client, Client) {
    let (node, mut a, b) = node();
    a.ok(&format!(
        "create table child (id int primary key, of int references t {action}); \
         insert into child values (1, 1), (2, 2)"
    ));
    (node, a, b)
}

#[test]
fn an_action_of_a_foreign_key_holds_the_table_of_its_rows() {
    for action in ["on delete set null", "on delete cascade"] {
        let (node, mut a, mut b) = family(action);
        b.ok("begin; delete from t where id = 1");
        assert_eq!(a.start("truncate child"), None, "{action}");
        b.ok("commit");
        assert_eq!(a.go_on().as_deref(), Some("TRUNCATE TABLE"));
        // The other way round it waits.
        a.ok("insert into child values (1, 2), (2, 2)");
        let before = Trees::of(&node, "child");
        a.ok("begin; truncate child; insert into child values (3, 2)");
        assert_eq!(b.start("delete from t where id = 2"), None, "{action}");
        node.local.hold(before.group);
        assert_eq!(a.start("commit"), None);
        assert_eq!(b.go_on(), None, "{action}: the catalog is not there yet");
        node.local.release(before.group).unwrap();
        assert_eq!(a.go_on().as_deref(), Some("COMMIT"));
        assert_eq!(b.go_on().as_deref(), Some("DELETE 1"));
        before.assert_unwritten(&node, action);
        let left = match action {
            "on delete cascade" => "",
            _ => "3|NULL",
        };
        assert_eq!(a.rows("select id, of from child"), left);
    }
}

#[test]
fn a_reference_holds_the_table_of_its_parent() {
    for (key, level) in [
        ("", "read committed"),
        ("deferrable initially deferred", "read committed"),
        ("deferrable initially deferred", "repeatable read"),
    ] {
        let (_node, mut a, mut b) = family(key);
        b.ok(&format!(
            "begin isolation level {level}; insert into child values (3, 2)"
        ));
        assert_eq!(a.start("alter table t alter id type bigint"), None, "{key}");
        b.ok("commit");
        assert_eq!(a.go_on().as_deref(), Some("ALTER TABLE"));
        let told = a.run("delete from t where id = 2");
        assert!(told.starts_with("ERROR 23503"), "{key}: {told}");
    }
}

#[test]
fn a_check_that_waits_for_commit_outlives_a_savepoint_and_others_changes() {
    let (_node, mut a, mut b) = family("deferrable initially deferred");
    b.ok("begin; insert into child values (3, 2); savepoint s; delete from other; rollback to s");
    a.ok("create table more (id int)");
    assert_eq!(b.ok("commit"), "COMMIT");
}

/// A check that waits for COMMIT looks at tables that have other trees since, by changes of its own and of
/// others.
#[test]
fn a_commit_checks_tables_as_they_are_by_then() {
    let node = Node::new();
    let mut postgres = node.client("postgres");
    postgres.ok("create role crm login; create role shop login");
    let (mut crm, mut other) = (node.client("crm"), node.client("shop"));
    crm.ok("create table parent (id int primary key)");
    crm.ok("create table child (id int primary key, \
         p int references parent deferrable initially deferred)");
    for (id, told) in [(1, "COMMIT"), (2, "23503")] {
        crm.ok("begin");
        crm.ok(&format!("insert into child values ({id}, {id})"));
        crm.ok("insert into parent values (1) on conflict do nothing");
        crm.ok("alter table parent alter id type bigint");
        crm.ok("alter table parent alter id type int");
        other.ok(&format!("create table t{id} (n int)"));
        let said = crm.run("commit");
        assert!(said.contains(told), "{said}");
    }
    assert_eq!(crm.rows("select id, p from child"), "1|1");
}
