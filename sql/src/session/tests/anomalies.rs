//! Anomalies per isolation level, each with the twin that must commit: what PostgreSQL gives, or
//! stronger (its chapter 13.2).

use super::node::{Client, Node};

const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];

fn two(setup: &str) -> (Node, Client, Client) {
    let node = Node::new();
    let mut admin = node.client("postgres");
    admin.ok("create role app login");
    let mut owner = node.client("app");
    owner.ok(setup);
    let (a, b) = (node.client("app"), node.client("app"));
    (node, a, b)
}

fn begin(client: &mut Client, level: &str) {
    client.ok(&format!("begin isolation level {level}"));
}

fn refused(result: &str) -> bool {
    result.starts_with("ERROR 40001")
}

#[test]
fn lost_update() {
    for level in LEVELS {
        let (_node, mut a, mut b) =
            two("create table t (id int primary key, n int); insert into t values (1, 10)");
        begin(&mut a, level);
        begin(&mut b, level);
        assert_eq!(a.rows("select n from t where id = 1"), "10");
        assert_eq!(b.rows("select n from t where id = 1"), "10");
        a.ok("update t set n = n + 1 where id = 1");
        assert_eq!(
            b.start("update t set n = n + 1 where id = 1"),
            None,
            "waits for the row"
        );
        a.ok("commit");
        let result = b.go_on().expect("the lock is free");
        if level == "read committed" {
            assert_eq!(result, "UPDATE 1");
            b.ok("commit");
            assert_eq!(
                a.rows("select n from t"),
                "12",
                "the second look sees the first update"
            );
        } else {
            assert!(refused(&result), "{level}: {result}");
            b.ok("rollback");
            assert_eq!(a.rows("select n from t"), "11");
        }
    }
}

#[test]
fn lost_update_twin_of_two_rows() {
    for level in LEVELS {
        let (_node, mut a, mut b) = two(
            "create table t (id int primary key, n int); insert into t values (1, 10), (2, 20)",
        );
        begin(&mut a, level);
        begin(&mut b, level);
        a.ok("update t set n = n + 1 where id = 1");
        b.ok("update t set n = n + 1 where id = 2");
        assert_eq!(a.run("commit"), "COMMIT", "{level}");
        assert_eq!(b.run("commit"), "COMMIT", "{level}");
        assert_eq!(a.rows("select n from t order by id"), "11\n21");
    }
}

#[test]
fn read_skew() {
    for level in LEVELS {
        let (_node, mut a, mut b) = two(
            "create table t (id int primary key, n int); insert into t values (1, 50), (2, 50)",
        );
        begin(&mut a, level);
        assert_eq!(a.rows("select n from t where id = 1"), "50");
        b.ok("begin; update t set n = 25 where id = 1; update t set n = 75 where id = 2; commit");
        let second = a.rows("select n from t where id = 2");
        let expected = if level == "read committed" {
            "75"
        } else {
            "50"
        };
        assert_eq!(second, expected, "{level}");
        assert_eq!(a.run("commit"), "COMMIT");
    }
}

#[test]
fn write_skew() {
    for level in LEVELS {
        let (_node, mut a, mut b) = two(
            "create table d (name text primary key, on_call bool); insert into d values ('x', true), ('y', true)",
        );
        begin(&mut a, level);
        begin(&mut b, level);
        assert_eq!(
            a.rows("select name from d where on_call order by name"),
            "x\ny"
        );
        assert_eq!(
            b.rows("select name from d where on_call order by name"),
            "x\ny"
        );
        a.ok("update d set on_call = false where name = 'x'");
        b.ok("update d set on_call = false where name = 'y'");
        assert_eq!(a.run("commit"), "COMMIT", "{level}");
        let result = b.run("commit");
        if level == "serializable" {
            assert!(refused(&result), "{result}");
        } else {
            assert_eq!(result, "COMMIT", "{level}");
        }
    }
}

#[test]
fn write_skew_twin_reads_only_its_own_row() {
    let (_node, mut a, mut b) = two(
        "create table d (name text primary key, on_call bool); insert into d values ('x', true), ('y', true)",
    );
    begin(&mut a, "serializable");
    begin(&mut b, "serializable");
    assert_eq!(a.rows("select on_call from d where name = 'x'"), "t");
    assert_eq!(b.rows("select on_call from d where name = 'y'"), "t");
    a.ok("update d set on_call = false where name = 'x'");
    b.ok("update d set on_call = false where name = 'y'");
    assert_eq!(a.run("commit"), "COMMIT");
    assert_eq!(b.run("commit"), "COMMIT");
}

#[test]
fn phantom() {
    for level in LEVELS {
        let (_node, mut a, mut b) =
            two("create table t (id int primary key, v int); insert into t values (1, 10)");
        begin(&mut a, level);
        assert_eq!(a.rows("select id from t where v > 5 order by id"), "1");
        b.ok("insert into t values (2, 20)");
        let again = a.rows("select id from t where v > 5 order by id");
        let expected = if level == "read committed" {
            "1\n2"
        } else {
            "1"
        };
        assert_eq!(again, expected, "{level}");
        a.ok("insert into t values (3, 0)");
        let result = a.run("commit");
        if level == "serializable" {
            assert!(refused(&result), "what it read has changed: {result}");
        } else {
            assert_eq!(result, "COMMIT");
        }
    }
}

#[test]
fn phantom_twin_in_another_range() {
    let (_node, mut a, mut b) =
        two("create table t (id int primary key, v int); insert into t values (1, 10)");
    begin(&mut a, "serializable");
    assert_eq!(a.rows("select id from t where id between 1 and 5"), "1");
    b.ok("insert into t values (20, 20)");
    a.ok("insert into t values (3, 0)");
    assert_eq!(a.run("commit"), "COMMIT");
}

#[test]
fn serializable_reader_without_writes_commits() {
    let (_node, mut a, mut b) =
        two("create table t (id int primary key, v int); insert into t values (1, 10)");
    begin(&mut a, "serializable, read only");
    assert_eq!(a.rows("select v from t"), "10");
    b.ok("update t set v = 11");
    assert_eq!(a.rows("select v from t"), "10");
    assert_eq!(a.run("commit"), "COMMIT");
}

#[test]
fn two_inserts_of_one_key() {
    for level in LEVELS {
        let (_node, mut a, mut b) = two("create table t (id int primary key, n int unique)");
        begin(&mut a, level);
        begin(&mut b, level);
        a.ok("insert into t values (1, 1)");
        assert_eq!(
            b.start("insert into t values (2, 1)"),
            None,
            "waits for the unique key"
        );
        a.ok("commit");
        let result = b.go_on().expect("the lock is free");
        assert!(
            result.starts_with("ERROR 23505") || (level != "read committed" && refused(&result)),
            "{level}: {result}"
        );
        b.ok("rollback");
        assert_eq!(a.rows("select id from t"), "1");
    }
}

#[test]
fn two_inserts_of_one_key_after_a_rollback() {
    for level in LEVELS {
        let (_node, mut a, mut b) = two("create table t (id int primary key)");
        begin(&mut a, level);
        begin(&mut b, level);
        a.ok("insert into t values (1)");
        assert_eq!(b.start("insert into t values (1)"), None);
        a.ok("rollback");
        assert_eq!(b.go_on().expect("free"), "INSERT 0 1", "{level}");
        assert_eq!(b.run("commit"), "COMMIT", "{level}");
        assert_eq!(a.rows("select id from t"), "1");
    }
}

#[test]
fn dirty_reads_never_happen() {
    for level in LEVELS {
        let (_node, mut a, mut b) =
            two("create table t (id int primary key, n int); insert into t values (1, 10)");
        begin(&mut a, level);
        begin(&mut b, level);
        a.ok("update t set n = 11");
        assert_eq!(b.rows("select n from t"), "10", "{level}");
        a.ok("rollback");
        assert_eq!(b.rows("select n from t"), "10", "{level}");
        assert_eq!(b.run("commit"), "COMMIT");
    }
}

#[test]
fn deleted_under_an_update() {
    for level in LEVELS {
        let (_node, mut a, mut b) =
            two("create table t (id int primary key, n int); insert into t values (1, 10)");
        begin(&mut a, level);
        begin(&mut b, level);
        assert_eq!(b.rows("select n from t"), "10");
        a.ok("delete from t where id = 1");
        assert_eq!(b.start("update t set n = 0 where id = 1"), None);
        a.ok("commit");
        let result = b.go_on().expect("free");
        if level == "read committed" {
            assert_eq!(result, "UPDATE 0");
        } else {
            assert!(refused(&result), "{level}: {result}");
        }
    }
}
