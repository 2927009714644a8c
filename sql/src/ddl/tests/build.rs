//! Indexes that are built beside the writers.

use crate::session::tests::Node;

#[test]
fn writers_go_on_while_an_index_is_built() {
    let node = Node::new();
    let (mut owner, mut other) = (node.client("postgres"), node.client("postgres"));
    let mut third = node.client("postgres");
    owner.ok("CREATE TABLE t (id int PRIMARY KEY, n int, s text)");
    owner.ok("INSERT INTO t SELECT i, i % 7, 's' || i FROM generate_series(1, 500) i");
    // A row in the middle is locked: the build does the others first, then waits for it alone.
    other.ok("BEGIN");
    other.ok("UPDATE t SET n = 100 WHERE id = 250");
    assert_eq!(owner.start("CREATE INDEX t_n ON t (n)"), None);
    // The announcement waits until writers that do not know the index have ended.
    other.ok("COMMIT");
    other.ok("BEGIN");
    assert_eq!(owner.go_on().as_deref(), Some("CREATE INDEX"));
    other.ok("ROLLBACK");
    third.ok("INSERT INTO t VALUES (501, 100, 'x')");
    third.ok("DELETE FROM t WHERE id = 1");
    let plan = third.rows("EXPLAIN SELECT id FROM t WHERE n = 100");
    assert!(plan.contains("t_n"), "{plan}");
    assert_eq!(
        third.rows("SELECT id FROM t WHERE n = 100 ORDER BY id"),
        "250\n501"
    );
    assert_eq!(
        third.rows("SELECT count(*) FROM t WHERE n = 3"),
        third.rows("SELECT count(*) FROM t WHERE n + 0 = 3")
    );
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_n'::regclass";
    assert_eq!(third.rows(valid), "t");
}

#[test]
fn rows_that_change_meanwhile_are_indexed_once() {
    let node = Node::new();
    let (mut owner, mut other) = (node.client("postgres"), node.client("postgres"));
    owner.ok("CREATE TABLE t (id int PRIMARY KEY, n int)");
    owner.ok("INSERT INTO t SELECT i, i FROM generate_series(1, 300) i");
    other.ok("BEGIN");
    assert_eq!(
        other.rows("SELECT n FROM t WHERE id = 150 FOR UPDATE"),
        "150"
    );
    // FOR UPDATE is no write: the drain passes, the fill comes to the locked row and waits.
    let mut result = owner.start("CREATE UNIQUE INDEX t_n ON t (n)");
    if result.is_none() {
        other.ok("UPDATE t SET n = 1000 WHERE id = 150");
        other.ok("INSERT INTO t VALUES (301, 301)");
        other.ok("DELETE FROM t WHERE id = 299");
        other.ok("COMMIT");
        result = owner.go_on();
    } else {
        other.ok("COMMIT");
    }
    assert_eq!(result.as_deref(), Some("CREATE INDEX"));
    for n in ["150", "299", "1000", "301", "7"] {
        assert_eq!(
            owner.rows(&format!("SELECT count(*) FROM t WHERE n = {n}")),
            owner.rows(&format!("SELECT count(*) FROM t WHERE n + 0 = {n}")),
            "{n}"
        );
    }
    let result = owner.run("INSERT INTO t VALUES (400, 7)");
    assert!(result.starts_with("ERROR 23505"), "{result}");
}

#[test]
fn a_failed_build_leaves_nothing_but_with_concurrently_an_index_that_is_not_valid() {
    let node = Node::new();
    let mut owner = node.client("postgres");
    owner.ok("CREATE TABLE t (id int PRIMARY KEY, n int)");
    owner.ok("INSERT INTO t SELECT i, i % 299 FROM generate_series(1, 300) i");
    let result = owner.run("CREATE UNIQUE INDEX t_n ON t (n)");
    assert!(result.starts_with("ERROR 23505"), "{result}");
    assert_eq!(owner.rows("SELECT to_regclass('t_n')"), "NULL");
    let result = owner.run("CREATE UNIQUE INDEX CONCURRENTLY t_n ON t (n)");
    assert!(result.starts_with("ERROR 23505"), "{result}");
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_n'::regclass";
    assert_eq!(owner.rows(valid), "f");
    assert_eq!(owner.rows("SELECT count(*) FROM t WHERE n = 1"), "2");
    owner.ok("DROP INDEX t_n");
    owner.ok("DELETE FROM t WHERE id > 298");
    owner.ok("CREATE UNIQUE INDEX t_n ON t (n)");
    owner.ok("CREATE INDEX CONCURRENTLY small ON t (id)");
    assert_eq!(
        owner.run("CREATE INDEX CONCURRENTLY IF NOT EXISTS small ON t (id)"),
        "CREATE INDEX"
    );
}
