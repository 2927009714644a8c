//! Statements end to end.

use super::node::Node;

#[test]
fn a_table_is_made_filled_and_read() {
    let node = Node::new();
    let mut c = node.client("postgres");
    assert_eq!(c.rows("select 1 + 1"), "2");
    assert_eq!(
        c.ok("create table t (a int primary key, b text not null default 'x')"),
        "CREATE TABLE"
    );
    assert_eq!(
        c.ok("insert into t values (1, 'one'), (2, 'two')"),
        "INSERT 0 2"
    );
    assert_eq!(
        c.ok("insert into t (a) select generate_series(3, 5)"),
        "INSERT 0 3"
    );
    assert_eq!(
        c.rows("select * from t order by a"),
        "1|one\n2|two\n3|x\n4|x\n5|x"
    );
    assert_eq!(c.answer.columns, ["a", "b"]);
    assert_eq!(c.ok("update t set b = b || a where a > 3"), "UPDATE 2");
    assert_eq!(c.ok("delete from t where a = 1"), "DELETE 1");
    assert_eq!(c.rows("select a, b from t where a in (1, 4)"), "4|x4");
    assert_eq!(
        c.rows("insert into t values (9, 'n') returning a, b"),
        "9|n"
    );
    assert!(
        c.run("insert into t values (9, 'n')")
            .starts_with("ERROR 23505")
    );
    assert!(c.run("select * from nowhere").starts_with("ERROR 42P01"));
}

#[test]
fn query_strings_of_several_statements_are_one_transaction() {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key)");
    let result = c.run("insert into t values (1); insert into t values (1); select 1");
    assert!(result.contains("INSERT 0 1; ERROR 23505"), "{result}");
    assert_eq!(c.rows("select a from t"), "");
    assert_eq!(
        c.ok("insert into t values (1); insert into t values (2)"),
        "INSERT 0 1; INSERT 0 1"
    );
    assert_eq!(
        c.ok("begin; insert into t values (3); commit; insert into t values (4)"),
        "BEGIN; INSERT 0 1; COMMIT; INSERT 0 1"
    );
    assert_eq!(c.rows("select a from t order by a"), "1\n2\n3\n4");
    assert_eq!(c.ok(""), "");
}

#[test]
fn blocks_fail_and_savepoints_go_back() {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key)");
    c.ok("begin");
    c.ok("insert into t values (1)");
    c.ok("savepoint s");
    c.ok("insert into t values (2)");
    assert!(c.run("insert into t values (1)").starts_with("ERROR 23505"));
    assert!(c.run("select 1").starts_with("ERROR 25P02"));
    assert_eq!(c.ok("rollback to s"), "ROLLBACK");
    assert_eq!(c.rows("select a from t"), "1");
    c.ok("insert into t values (3)");
    c.ok("release s");
    assert_eq!(c.ok("commit"), "COMMIT");
    assert_eq!(c.rows("select a from t order by 1"), "1\n3");
    c.ok("begin");
    assert!(c.run("select 1/0").starts_with("ERROR 22012"));
    assert_eq!(c.run("commit"), "ROLLBACK");
    assert!(c.run("savepoint x").starts_with("ERROR 25P01"));
    assert_eq!(c.run("commit"), "COMMIT");
    assert_eq!(
        c.answer.notices,
        ["WARNING: there is no transaction in progress"]
    );
}
