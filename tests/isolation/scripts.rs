//! What is played at every isolation level, and where Freehold may end stronger than PostgreSQL.

/// A script: lines `session statement`, `BEGIN` standing for a block of the level in question.
pub struct Script {
    pub name: &'static str,
    pub setup: &'static str,
    pub steps: &'static str,
    /// What is looked at in the end.
    pub check: &'static str,
}

/// How an outcome may differ from PostgreSQL's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Than {
    /// Somebody is refused (40001) who comes through there, or is refused otherwise.
    Stricter,
    /// Nobody is refused, and the outcome is that of one after the other.
    Sounder,
}

/// Where Freehold is stronger: script, level, how, and the reason.
pub const STRONGER: &[(&str, &str, Than, &str)] = &[
    (
        "read_only_anomaly",
        "SERIALIZABLE",
        Than::Stricter,
        "what was read is checked at COMMIT",
    ),
    (
        "disjoint_keys_commit",
        "SERIALIZABLE",
        Than::Sounder,
        "PostgreSQL remembers pages",
    ),
    (
        "two_inserts_of_one_key",
        "REPEATABLE READ",
        Than::Stricter,
        NEWER,
    ),
    (
        "two_inserts_of_one_key",
        "SERIALIZABLE",
        Than::Stricter,
        NEWER,
    ),
    (
        "two_inserts_of_one_secondary_key",
        "REPEATABLE READ",
        Than::Stricter,
        NEWER,
    ),
    (
        "two_inserts_of_one_secondary_key",
        "SERIALIZABLE",
        Than::Stricter,
        NEWER,
    ),
    (
        "a_key_deleted_and_inserted",
        "REPEATABLE READ",
        Than::Stricter,
        NEWER,
    ),
    (
        "a_key_deleted_and_inserted",
        "SERIALIZABLE",
        Than::Stricter,
        NEWER,
    ),
    (
        "a_row_enters_the_condition",
        "READ COMMITTED",
        Than::Sounder,
        "after a wait the whole statement looks again, not only the row",
    ),
    (
        "a_queue_of_workers_skips_what_is_locked",
        "SERIALIZABLE",
        Than::Stricter,
        "the row that was skipped had been read",
    ),
    (
        "an_action_behind_truncate",
        "SERIALIZABLE",
        Than::Stricter,
        "the children that a foreign key has looked through count as read",
    ),
];

/// Why an insert fails with 40001 rather than 23505 or goes on: who begins again sees the key.
const NEWER: &str = "a key written since the snapshot is a conflict, whatever became of it";

/// A table that gets other trees.
const EMPTIED: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10); \
                       CREATE TABLE other (id int)";
/// The same with a child.
const REFERENCED: &str = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); \
                          CREATE TABLE child (id int PRIMARY KEY, \
                                              of int REFERENCES t ON DELETE SET NULL); \
                          INSERT INTO child VALUES (1, 1); CREATE TABLE other (id int)";

pub const SCRIPTS: &[Script] = &[
    Script {
        name: "dirty_read",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 UPDATE t SET n = 11 WHERE id = 1
                2 BEGIN
                2 SELECT n FROM t
                1 ROLLBACK
                2 SELECT n FROM t
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "non_repeatable_read",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 SELECT n FROM t
                2 BEGIN
                2 UPDATE t SET n = 11
                2 COMMIT
                1 SELECT n FROM t
                1 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "phantom",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 SELECT count(*) FROM t WHERE n > 5
                2 BEGIN
                2 INSERT INTO t VALUES (2, 20)
                2 COMMIT
                1 SELECT count(*) FROM t WHERE n > 5
                1 COMMIT",
        check: "SELECT count(*) FROM t",
    },
    Script {
        name: "lost_update",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                2 BEGIN
                1 SELECT n FROM t WHERE id = 1
                2 SELECT n FROM t WHERE id = 1
                1 UPDATE t SET n = 11 WHERE id = 1
                2 UPDATE t SET n = 12 WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "increments",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                2 BEGIN
                2 SELECT 1 FROM t
                1 UPDATE t SET n = n + 1
                2 UPDATE t SET n = n + 1 RETURNING n
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "increments_after_a_rollback",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                2 BEGIN
                2 SELECT 1 FROM t
                1 UPDATE t SET n = n + 1
                2 UPDATE t SET n = n + 1 RETURNING n
                1 ROLLBACK
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "read_skew",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 50), (2, 50)",
        steps: "1 BEGIN
                1 SELECT n FROM t WHERE id = 1
                2 BEGIN
                2 UPDATE t SET n = n - 25 WHERE id = 1
                2 UPDATE t SET n = n + 25 WHERE id = 2
                2 COMMIT
                1 SELECT n FROM t WHERE id = 2
                1 COMMIT",
        check: "SELECT sum(n) FROM t",
    },
    Script {
        name: "read_skew_with_a_write",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 50), (2, 50)",
        steps: "1 BEGIN
                1 SELECT n FROM t WHERE id = 1
                2 BEGIN
                2 UPDATE t SET n = 25 WHERE id = 1
                2 UPDATE t SET n = 75 WHERE id = 2
                2 COMMIT
                1 UPDATE t SET n = n + 1 WHERE id = 2
                1 COMMIT",
        check: "SELECT sum(n) FROM t",
    },
    Script {
        name: "write_skew",
        setup: "CREATE TABLE t (id int PRIMARY KEY, on_call bool); \
                INSERT INTO t VALUES (1, true), (2, true)",
        steps: "1 BEGIN
                2 BEGIN
                1 SELECT count(*) FROM t WHERE on_call
                2 SELECT count(*) FROM t WHERE on_call
                1 UPDATE t SET on_call = false WHERE id = 1
                2 UPDATE t SET on_call = false WHERE id = 2
                1 COMMIT
                2 COMMIT",
        check: "SELECT count(*) FROM t WHERE on_call",
    },
    Script {
        name: "write_skew_on_a_range",
        setup: "CREATE TABLE t (id int PRIMARY KEY, room int); CREATE INDEX ON t (room)",
        steps: "1 BEGIN
                2 BEGIN
                1 SELECT count(*) FROM t WHERE room = 7
                2 SELECT count(*) FROM t WHERE room = 7
                1 INSERT INTO t VALUES (1, 7)
                2 INSERT INTO t VALUES (2, 7)
                1 COMMIT
                2 COMMIT",
        check: "SELECT count(*) FROM t WHERE room = 7",
    },
    Script {
        name: "write_skew_on_a_missing_key",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)",
        steps: "1 BEGIN
                2 BEGIN
                1 SELECT count(*) FROM t WHERE id = 11
                2 SELECT count(*) FROM t WHERE id = 12
                1 INSERT INTO t VALUES (12, 0)
                2 INSERT INTO t VALUES (11, 0)
                1 COMMIT
                2 COMMIT",
        check: "SELECT count(*) FROM t WHERE id > 10",
    },
    Script {
        name: "read_only_anomaly",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)",
        steps: "1 BEGIN
                1 SELECT id, n FROM t ORDER BY id
                2 BEGIN
                2 UPDATE t SET n = 20 WHERE id = 2
                2 COMMIT
                3 BEGIN
                3 SELECT id, n FROM t ORDER BY id
                3 COMMIT
                1 UPDATE t SET n = -11 WHERE id = 1
                1 COMMIT",
        check: "SELECT id, n FROM t ORDER BY id",
    },
    Script {
        name: "disjoint_keys_commit",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)",
        steps: "1 BEGIN
                2 BEGIN
                1 SELECT n FROM t WHERE id = 1
                2 SELECT n FROM t WHERE id = 2
                1 UPDATE t SET n = n + 10 WHERE id = 1
                2 UPDATE t SET n = n + 10 WHERE id = 2
                1 INSERT INTO t VALUES (11, 0)
                2 INSERT INTO t VALUES (12, 0)
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, n FROM t ORDER BY id",
    },
    Script {
        name: "two_inserts_of_one_key",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO t VALUES (1, 1)
                2 INSERT INTO t VALUES (1, 2)
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "two_inserts_of_one_key_and_a_rollback",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO t VALUES (1, 1)
                2 INSERT INTO t VALUES (1, 2)
                1 ROLLBACK
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "two_inserts_of_one_secondary_key",
        setup: "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO t VALUES (1, 'same')
                2 INSERT INTO t VALUES (2, 'same')
                1 COMMIT
                2 COMMIT",
        check: "SELECT id FROM t",
    },
    Script {
        name: "a_key_deleted_and_inserted",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)",
        steps: "1 BEGIN
                1 DELETE FROM t WHERE id = 1
                2 BEGIN
                2 INSERT INTO t VALUES (1, 2)
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "on_conflict_do_nothing",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO t VALUES (1, 1) ON CONFLICT DO NOTHING
                2 INSERT INTO t VALUES (1, 2) ON CONFLICT DO NOTHING
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "on_conflict_do_nothing_and_a_rollback",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO t VALUES (1, 1) ON CONFLICT DO NOTHING
                2 INSERT INTO t VALUES (1, 2) ON CONFLICT DO NOTHING
                1 ROLLBACK
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "on_conflict_do_update",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = t.n + 1
                2 INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = t.n + 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "on_conflict_with_a_committed_row_unseen",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE other (i int)",
        steps: "1 BEGIN
                1 SELECT count(*) FROM other
                2 BEGIN
                2 INSERT INTO t VALUES (1, 1)
                2 COMMIT
                1 INSERT INTO t VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET n = t.n + 10
                1 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "a_row_leaves_the_condition",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10), (2, 10)",
        steps: "1 BEGIN
                2 BEGIN
                1 UPDATE t SET n = 99 WHERE id = 1
                2 UPDATE t SET n = n + 1 WHERE n = 10
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, n FROM t ORDER BY id",
    },
    Script {
        name: "a_row_enters_the_condition",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10), (2, 20)",
        steps: "1 BEGIN
                2 BEGIN
                1 UPDATE t SET n = n + 10
                2 DELETE FROM t WHERE n = 20
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, n FROM t ORDER BY id",
    },
    Script {
        name: "update_of_a_deleted_row",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                2 BEGIN
                1 DELETE FROM t WHERE id = 1
                2 UPDATE t SET n = 11 WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT count(*) FROM t",
    },
    Script {
        name: "delete_of_an_updated_row",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                2 BEGIN
                1 UPDATE t SET n = 11 WHERE id = 1
                2 DELETE FROM t WHERE id = 1 RETURNING n
                1 COMMIT
                2 COMMIT",
        check: "SELECT count(*) FROM t",
    },
    Script {
        name: "select_for_update_waits_and_looks_again",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                2 BEGIN
                2 SELECT 1
                1 UPDATE t SET n = 11 WHERE id = 1
                2 SELECT n FROM t WHERE id = 1 FOR UPDATE
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "select_for_update_keeps_a_row",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 SELECT n FROM t WHERE id = 1 FOR UPDATE
                2 BEGIN
                2 SELECT n FROM t WHERE id = 1
                2 UPDATE t SET n = n + 1 WHERE id = 1
                1 UPDATE t SET n = n + 10 WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "a_queue_of_workers_skips_what_is_locked",
        setup: "CREATE TABLE t (id int PRIMARY KEY, done bool); \
                INSERT INTO t SELECT g, false FROM generate_series(1, 4) g",
        steps: "1 BEGIN
                2 BEGIN
                1 SELECT id FROM t WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
                2 SELECT id FROM t WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
                1 UPDATE t SET done = true WHERE id = 1
                2 UPDATE t SET done = true WHERE id = 2
                1 COMMIT
                2 COMMIT",
        check: "SELECT id FROM t WHERE NOT done ORDER BY id",
    },
    Script {
        name: "waiters_in_their_order",
        setup: "CREATE TABLE t (id int PRIMARY KEY, log text); INSERT INTO t VALUES (1, '')",
        steps: "1 BEGIN
                1 UPDATE t SET log = log || 'a'
                2 UPDATE t SET log = log || 'b'
                3 UPDATE t SET log = log || 'c'
                1 COMMIT",
        // On PostgreSQL the two that waited race for the new version of the row.
        check: "SELECT left(log, 1), length(log) FROM t",
    },
    Script {
        name: "a_child_before_its_parent_is_deleted",
        setup: "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, \
                p int REFERENCES p); INSERT INTO p VALUES (1)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO c VALUES (1, 1)
                2 DELETE FROM p WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c)",
    },
    Script {
        name: "a_parent_deleted_before_its_child",
        setup: "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, \
                p int REFERENCES p); INSERT INTO p VALUES (1)",
        steps: "1 BEGIN
                2 BEGIN
                1 DELETE FROM p WHERE id = 1
                2 INSERT INTO c VALUES (1, 1)
                1 COMMIT
                2 COMMIT",
        check: "SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c)",
    },
    Script {
        name: "a_parent_that_stays",
        setup: "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, \
                p int REFERENCES p); INSERT INTO p VALUES (1)",
        steps: "1 BEGIN
                2 BEGIN
                1 DELETE FROM p WHERE id = 1
                2 INSERT INTO c VALUES (1, 1)
                1 ROLLBACK
                2 COMMIT",
        check: "SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c)",
    },
    Script {
        name: "children_and_other_columns_of_the_parent",
        setup: "CREATE TABLE p (id int PRIMARY KEY, n int); CREATE TABLE c (id int PRIMARY KEY, \
                p int REFERENCES p); INSERT INTO p VALUES (1, 0)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO c VALUES (1, 1)
                2 UPDATE p SET n = 5 WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT n, (SELECT count(*) FROM c) FROM p",
    },
    Script {
        name: "a_cascade_meets_a_new_child",
        setup: "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, \
                p int REFERENCES p ON DELETE CASCADE); INSERT INTO p VALUES (1); \
                INSERT INTO c VALUES (1, 1)",
        steps: "1 BEGIN
                2 BEGIN
                1 INSERT INTO c VALUES (2, 1)
                2 DELETE FROM p WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT (SELECT count(*) FROM p), (SELECT count(*) FROM c)",
    },
    Script {
        name: "a_savepoint_gives_its_locks_back",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10), (2, 20)",
        steps: "1 BEGIN
                1 UPDATE t SET n = 11 WHERE id = 1
                1 SAVEPOINT s
                1 UPDATE t SET n = 21 WHERE id = 2
                1 ROLLBACK TO s
                2 BEGIN
                2 UPDATE t SET n = 22 WHERE id = 2
                2 UPDATE t SET n = 12 WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, n FROM t ORDER BY id",
    },
    Script {
        name: "a_column_for_a_table_in_use",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 INSERT INTO t VALUES (2, 20)
                2 ALTER TABLE t ADD COLUMN more int DEFAULT 7
                1 COMMIT
                1 SELECT * FROM t ORDER BY id",
        check: "SELECT count(more) FROM t",
    },
    Script {
        name: "a_table_dropped_under_a_writer",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 UPDATE t SET n = 11
                2 DROP TABLE t
                1 COMMIT
                1 SELECT count(*) FROM t",
        check: "SELECT count(*) FROM pg_class WHERE relname = 't' AND relkind = 'r'",
    },
    Script {
        name: "a_writer_behind_a_change_of_the_table",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 ALTER TABLE t ADD COLUMN more int NOT NULL DEFAULT 7
                2 INSERT INTO t VALUES (2, 20)
                1 COMMIT",
        check: "SELECT id, more FROM t ORDER BY id",
    },
    Script {
        name: "truncate_waits_for_writers",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 INSERT INTO t VALUES (2, 20)
                2 TRUNCATE t
                1 COMMIT",
        check: "SELECT count(*) FROM t",
    },
    Script {
        name: "writers_behind_truncate",
        setup: EMPTIED,
        steps: "1 BEGIN
                1 TRUNCATE t
                2 BEGIN
                2 SELECT count(*) FROM other
                2 UPDATE t SET n = 11
                1 COMMIT
                2 INSERT INTO t VALUES (1, 5)
                2 COMMIT",
        check: "SELECT id, n FROM t",
    },
    Script {
        name: "an_upsert_behind_truncate",
        setup: EMPTIED,
        steps: "1 BEGIN
                1 TRUNCATE t
                2 BEGIN
                2 SELECT count(*) FROM other
                2 INSERT INTO t VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET n = 12
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, n FROM t",
    },
    Script {
        name: "row_locks_behind_truncate",
        setup: EMPTIED,
        steps: "1 BEGIN
                1 TRUNCATE t
                2 BEGIN
                2 SELECT count(*) FROM other
                2 SELECT n FROM t FOR UPDATE
                1 COMMIT
                2 DELETE FROM t
                2 COMMIT",
        check: "SELECT id, n FROM t",
    },
    Script {
        name: "a_table_lock_behind_truncate",
        setup: EMPTIED,
        steps: "1 BEGIN
                1 TRUNCATE t
                2 BEGIN
                2 SELECT count(*) FROM other
                2 LOCK TABLE t IN SHARE MODE
                1 COMMIT
                1 INSERT INTO t VALUES (2, 20)
                2 COMMIT",
        check: "SELECT id, n FROM t",
    },
    Script {
        name: "a_writer_behind_a_rewrite",
        setup: EMPTIED,
        steps: "1 BEGIN
                1 ALTER TABLE t ALTER n TYPE bigint
                2 BEGIN
                2 SELECT count(*) FROM other
                2 UPDATE t SET n = 11
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, n FROM t",
    },
    Script {
        name: "an_action_behind_truncate",
        setup: REFERENCED,
        steps: "1 BEGIN
                1 TRUNCATE child
                1 INSERT INTO child VALUES (3, 2)
                2 BEGIN
                2 SELECT count(*) FROM other
                2 DELETE FROM t WHERE id = 1
                1 COMMIT
                2 COMMIT",
        check: "SELECT id, of FROM child",
    },
    Script {
        name: "truncate_behind_an_action",
        setup: REFERENCED,
        steps: "1 BEGIN
                1 DELETE FROM t WHERE id = 1
                2 TRUNCATE child
                1 COMMIT",
        check: "SELECT id, of FROM child",
    },
    Script {
        name: "another_type_of_what_is_referenced",
        setup: REFERENCED,
        steps: "1 BEGIN
                1 INSERT INTO child VALUES (3, 2)
                2 ALTER TABLE t ALTER id TYPE bigint
                1 COMMIT
                2 DELETE FROM t WHERE id = 2",
        check: "SELECT id, of FROM child ORDER BY id",
    },
    Script {
        name: "locked_tables",
        setup: "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)",
        steps: "1 BEGIN
                1 LOCK TABLE t IN SHARE MODE
                2 SELECT n FROM t
                2 UPDATE t SET n = 11
                1 SELECT n FROM t
                1 COMMIT",
        check: "SELECT n FROM t",
    },
    Script {
        name: "a_new_table_and_the_others",
        setup: "CREATE TABLE t (id int)",
        steps: "1 BEGIN
                1 CREATE TABLE u (id int PRIMARY KEY)
                1 INSERT INTO u VALUES (1)
                2 SELECT count(*) FROM u
                1 COMMIT
                2 SELECT count(*) FROM u
                2 DROP TABLE u",
        check: "SELECT count(*) FROM t",
    },
    Script {
        name: "one_name_for_two_tables",
        setup: "CREATE TABLE t (id int)",
        steps: "1 BEGIN
                1 CREATE TABLE u (id int)
                2 BEGIN
                2 CREATE TABLE u (id text)
                1 ROLLBACK
                2 COMMIT
                2 DROP TABLE u",
        check: "SELECT count(*) FROM t",
    },
];
