//! Tables that keep their history, and reading them as they were.

use std::sync::Arc;

use storage::{Group, Position};

use super::{Client, Node};

/// An owner with a table that keeps its history.
struct Past {
    node: Node,
    owner: Client,
    group: Arc<Group>,
}

impl Past {
    fn new() -> Past {
        let node = Node::journaled(|local| super::feed::registered(local, Arc::default()));
        node.client("postgres")
            .ok("CREATE ROLE o LOGIN; CREATE ROLE reader LOGIN");
        let mut owner = node.client("o");
        owner.ok(
            "CREATE TABLE public.price_v1 (id int PRIMARY KEY, amount int, note text DEFAULT 'n') \
             WITH (history = 'forever'); \
             CREATE TABLE other (id int PRIMARY KEY)",
        );
        let group = node.local.groups().get(node.group("o")).expect("led");
        Past { node, owner, group }
    }

    /// Runs a statement, gives the position behind it, and lets what is old go.
    fn then(&mut self, sql: &str) -> Position {
        self.owner.ok(sql);
        self.node.clock.advance(1_000_000);
        let at = self.group.applied();
        self.group.raise_horizon(Position::MAX).expect("raised");
        at
    }

    fn at(&mut self, at: Position) -> String {
        self.owner.rows(&format!(
            "SELECT id, amount FROM price_v1 FOR SYSTEM_TIME AS OF '{at}' ORDER BY id"
        ))
    }
}

#[test]
fn a_table_is_read_as_it_was() {
    let mut past = Past::new();
    let one = past.then("INSERT INTO price_v1 VALUES (1, 10), (2, 20)");
    let two = past.then("UPDATE price_v1 SET amount = 11 WHERE id = 1");
    let three = past.then("DELETE FROM price_v1 WHERE id = 2");
    past.then("INSERT INTO price_v1 VALUES (3, 30)");
    assert_eq!(past.at(one), "1|10\n2|20");
    assert_eq!(past.at(two), "1|11\n2|20");
    assert_eq!(past.at(three), "1|11");
    let o = &mut past.owner;
    // By key, joined with itself at another position, aggregated, in a subquery of a write.
    assert_eq!(
        o.rows(&format!(
            "SELECT a.id, a.amount, b.amount FROM price_v1 FOR SYSTEM_TIME AS OF '{one}' AS a \
             LEFT JOIN price_v1 FOR SYSTEM_TIME AS OF '{two}' b USING (id) WHERE a.id IN (1, 2)"
        )),
        "1|10|11\n2|20|20"
    );
    assert_eq!(
        o.rows(&format!(
            "SELECT max(id), count(*) FROM price_v1 FOR SYSTEM_TIME AS OF '{one}'"
        )),
        "2|2"
    );
    assert_eq!(
        o.rows(&format!(
            "SELECT max(id) FROM price_v1 FOR SYSTEM_TIME AS OF '{one}'"
        )),
        "2"
    );
    o.ok(&format!(
        "INSERT INTO other SELECT amount FROM price_v1 FOR SYSTEM_TIME AS OF '{one}'"
    ));
    assert_eq!(o.rows("SELECT * FROM other"), "10\n20");
    // What is not committed is not there, and own writes are not the past.
    o.ok("BEGIN; UPDATE price_v1 SET amount = 99");
    assert_eq!(
        o.rows(&format!(
            "SELECT amount FROM price_v1 FOR SYSTEM_TIME AS OF '{three}'"
        )),
        "11"
    );
    o.ok("ROLLBACK");
}

#[test]
fn a_time_means_the_position_before_it() {
    let mut past = Past::new();
    past.then("INSERT INTO price_v1 VALUES (1, 10)");
    let begun = past.owner.rows("SELECT now()");
    past.then("UPDATE price_v1 SET amount = 11");
    let read = |of: &mut Client, at: &str| {
        of.rows(&format!(
            "SELECT amount FROM price_v1 FOR SYSTEM_TIME AS OF {at}"
        ))
    };
    let o = &mut past.owner;
    assert_eq!(read(o, &format!("'{begun}'")), "10");
    assert_eq!(
        read(o, &format!("timestamptz '{begun}' + interval '1 s'")),
        "11"
    );
    assert_eq!(read(o, "now() - interval '1.5 s'"), "10");
    let shown = o.rows(&format!("SELECT freehold.position_at('{begun}')"));
    assert_eq!(read(o, &format!("'{shown}'")), "10");
    assert_eq!(read(o, &format!("pg_lsn '{shown}'")), "10");
    o.ok("PREPARE p AS SELECT amount FROM price_v1 FOR SYSTEM_TIME AS OF $1 WHERE id = $2");
    assert_eq!(o.rows(&format!("EXECUTE p('{shown}', 1)")), "10");
    assert_eq!(o.rows(&format!("EXECUTE p('{shown}', 2)")), "");
    assert_eq!(
        read(o, "'2100-01-01'"),
        "ERROR 22023: position 937D39BC/1FFFFFFF is in the future HINT: FOR SYSTEM_TIME AS OF \
         reads what was; without it, what is."
            .replace(
                "937D39BC/1FFFFFFF",
                &Position(Position::from_unix_micros(4_102_444_800_000_000).0 - 1).to_string()
            )
    );
    // An idle group closes itself up to now.
    past.node.clock.advance(5_000_000);
    let now = "SELECT amount FROM price_v1 FOR SYSTEM_TIME AS OF now()";
    let answer = past.owner.start(now).or_else(|| {
        past.node.clock.advance(200_000);
        past.owner.go_on()
    });
    assert_eq!(answer.as_deref(), Some("SELECT 1"));
    assert_eq!(past.owner.shown(), "11");
}

#[test]
fn what_is_not_kept_is_told() {
    let mut past = Past::new();
    let before = past.then("INSERT INTO other VALUES (1)");
    let after = past.then("INSERT INTO other VALUES (2)");
    let read = format!("SELECT * FROM other FOR SYSTEM_TIME AS OF '{before}'");
    assert_eq!(
        past.owner.rows(&read),
        format!(
            "ERROR 72000: snapshot too old DETAIL: Of table \"other\" what was there at {before} \
             is not kept, but since {after}. HINT: ALTER TABLE ... SET (history = '30 days') keeps \
             it from then on."
        )
    );
    past.then("ALTER TABLE other SET (history = '1 day')");
    let kept = past.then("INSERT INTO other VALUES (3)");
    past.then("DELETE FROM other");
    let read = format!("SELECT * FROM other FOR SYSTEM_TIME AS OF '{kept}'");
    assert_eq!(past.owner.rows(&read), "1\n2\n3");
    // After a day it is gone; kept for longer, what was there stays.
    past.then("ALTER TABLE other SET (history = '10 days')");
    past.node.clock.advance(2 * 86_400_000_000);
    past.then("INSERT INTO price_v1 VALUES (9, 9)");
    assert_eq!(past.owner.rows(&read), "1\n2\n3");
    past.then("ALTER TABLE other SET (history = '1 day')");
    past.then("INSERT INTO price_v1 VALUES (10, 9)");
    assert!(past.owner.rows(&read).starts_with("ERROR 72000"));
    past.then("ALTER TABLE other SET (history = 'forever')");
    let kept = past.then("INSERT INTO other VALUES (4)");
    past.then("UPDATE other SET id = 5");
    let read = format!("SELECT * FROM other FOR SYSTEM_TIME AS OF '{kept}'");
    assert_eq!(past.owner.rows(&read), "4");
    past.then("ALTER TABLE other RESET (history)");
    past.then("DELETE FROM other");
    let told = past.owner.rows(&read);
    assert!(told.starts_with("ERROR 72000"), "{told}");
}

#[test]
fn the_option_says_off_forever_or_an_interval() {
    let mut past = Past::new();
    let o = &mut past.owner;
    for wrong in ["on", "-1 day", "0", "ever"] {
        let made = format!("CREATE TABLE x (id int) WITH (history = '{wrong}')");
        assert_eq!(
            o.run(&made),
            format!(
                "ERROR 22023: invalid value for parameter \"history\": \"{wrong}\" HINT: It is \
                 'off', 'forever', or an interval as '30 days'."
            )
        );
    }
    o.ok("CREATE TABLE x (id int) WITH (history = 'off')");
    o.ok("ALTER TABLE x SET (history = '1 hour')");
    assert_eq!(
        o.rows("SELECT reloptions FROM pg_class WHERE relname = 'x'"),
        "{\"history=1 hour\"}"
    );
    // A rewrite would leave the old rows behind.
    for rewrite in ["ALTER TABLE x ALTER COLUMN id TYPE text", "TRUNCATE x"] {
        assert_eq!(
            o.run(rewrite),
            "ERROR 55000: cannot rewrite table \"x\" DETAIL: It keeps its history, which is in the \
             rows as they were written. HINT: DELETE removes rows and keeps their history, a new \
             column can take over from an old one, and ALTER TABLE ... RESET (history) gives the \
             history up."
        );
    }
    o.ok("ALTER TABLE x RESET (history, fillfactor); TRUNCATE x");
    assert_eq!(
        o.rows("SELECT reloptions FROM pg_class WHERE relname = 'x'"),
        "NULL"
    );
    assert_eq!(
        o.run("ALTER TABLE public.price_v1 RESET (inbox)"),
        "ERROR 0A000: making a table an inbox, or no inbox is not supported HINT: Create another \
         table WITH (inbox = true)."
    );
    assert_eq!(
        o.ok("ALTER TABLE IF EXISTS nowhere RESET (history)"),
        "ALTER TABLE"
    );
}

#[test]
fn the_past_has_the_tables_present_shape() {
    let mut past = Past::new();
    let one = past.then("INSERT INTO price_v1 VALUES (1, 10, 'a'), (2, 20, 'b')");
    past.then("CREATE INDEX ON price_v1 (amount)");
    past.then("UPDATE price_v1 SET amount = 12 WHERE id = 1");
    past.then("ALTER TABLE price_v1 ADD COLUMN tax int DEFAULT 7");
    past.then("ALTER TABLE price_v1 DROP COLUMN note");
    let o = &mut past.owner;
    // The index is younger than the rows: they are searched.
    let query = format!(
        "SELECT * FROM price_v1 FOR SYSTEM_TIME AS OF '{one}' p WHERE amount = 10 ORDER BY id"
    );
    assert_eq!(o.rows(&query), "1|10|7");
    assert_eq!(
        o.rows(&format!("EXPLAIN (COSTS OFF) {query}")),
        format!("Seq Scan on price_v1 p\n  As Of: '{one}'::pg_lsn\n  Filter: (amount = 10)")
    );
}

#[test]
fn only_tables_and_only_what_one_may_read_has_a_past() {
    let mut past = Past::new();
    let one = past.then("INSERT INTO price_v1 VALUES (1, 10)");
    past.then("CREATE VIEW v AS SELECT id FROM public.price_v1");
    let told = past
        .owner
        .run("SELECT * FROM v FOR SYSTEM_TIME AS OF now()");
    assert!(
        told.starts_with("ERROR 42809: \"v\" is not a table"),
        "{told}"
    );
    for (wrong, state) in [
        (
            "SELECT * FROM pg_class FOR SYSTEM_TIME AS OF now()",
            "42809",
        ),
        (
            "WITH c AS (SELECT 1) SELECT * FROM c FOR SYSTEM_TIME AS OF now()",
            "42809",
        ),
        (
            "SELECT * FROM generate_series(1, 2) FOR SYSTEM_TIME AS OF now()",
            "42601",
        ),
        ("SELECT * FROM price_v1 FOR SYSTEM_TIME AS OF 7", "42804"),
        (
            "SELECT * FROM price_v1 p FOR SYSTEM_TIME AS OF now()",
            "42601",
        ),
        ("SELECT * FROM price_v1 FOR SYSTEM_TIME AS OF NULL", "22004"),
        (
            "SELECT * FROM price_v1 FOR SYSTEM_TIME AS OF amount",
            "42703",
        ),
        (
            "SELECT * FROM price_v1 FOR SYSTEM_TIME AS OF (SELECT now())",
            "0A000",
        ),
        (
            "SELECT * FROM price_v1 FOR SYSTEM_TIME AS OF now() FOR UPDATE",
            "0A000",
        ),
        ("DELETE FROM price_v1 FOR SYSTEM_TIME AS OF now()", "42601"),
        (
            "UPDATE price_v1 FOR SYSTEM_TIME AS OF now() SET amount = 1",
            "42601",
        ),
        (
            "CREATE MATERIALIZED VIEW public.price_v2 AS SELECT id FROM price_v1 FOR SYSTEM_TIME \
             AS OF now()",
            "0A000",
        ),
    ] {
        let told = past.owner.run(wrong);
        assert!(
            told.starts_with(&format!("ERROR {state}")),
            "{wrong}: {told}"
        );
    }
    // Words that other databases have for it stay names.
    assert_eq!(
        past.owner
            .rows("SELECT before.id FROM price_v1 before, price_v1 changes, price_v1 at"),
        "1"
    );
    let mut reader = past.node.client("reader");
    let read = format!("SELECT id FROM price_v1 FOR SYSTEM_TIME AS OF '{one}'");
    assert_eq!(
        reader.run(&read),
        "ERROR 42P01: relation \"price_v1\" does not exist"
    );
    past.owner.ok("GRANT SELECT (id) ON price_v1 TO reader");
    assert_eq!(reader.rows(&read), "1");
    let told = reader.run(&read.replace("SELECT id", "SELECT *"));
    assert!(told.starts_with("ERROR 42501"), "{told}");
}

#[test]
fn what_was_is_no_read_of_a_serializable_transaction() {
    let mut past = Past::new();
    let one = past.then("INSERT INTO price_v1 VALUES (1, 10)");
    let mut other = past.node.client("o");
    let o = &mut past.owner;
    o.ok("BEGIN ISOLATION LEVEL SERIALIZABLE");
    let read = format!("SELECT amount FROM price_v1 FOR SYSTEM_TIME AS OF '{one}'");
    assert_eq!(o.rows(&read), "10");
    other.ok("UPDATE price_v1 SET amount = 11");
    assert_eq!(o.rows(&read), "10");
    o.ok("INSERT INTO other VALUES (1)");
    assert_eq!(o.ok("COMMIT"), "COMMIT");
    // The same with the present.
    o.ok("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT amount FROM price_v1");
    other.ok("UPDATE price_v1 SET amount = 12");
    o.ok("INSERT INTO other VALUES (2)");
    let told = o.run("COMMIT");
    assert!(told.starts_with("ERROR 40001"), "{told}");
}

#[test]
fn the_history_of_a_row_is_all_that_is_kept_of_it() {
    let mut past = Past::new();
    let one = past.then("INSERT INTO price_v1 VALUES (1, 10, 'secret'), (2, 20, '')");
    let two = past.then("UPDATE price_v1 SET amount = 11 WHERE id = 1");
    let three = past.then("UPDATE price_v1 SET note = 'hidden' WHERE id = 1");
    let four = past.then("DELETE FROM price_v1 WHERE id = 1");
    let five = past.then("INSERT INTO price_v1 VALUES (1, 30, 'again')");
    past.then("ALTER TABLE price_v1 ADD COLUMN tax int DEFAULT 7");
    let expected = format!(
        "{one}|insert|{{\"id\": 1, \"tax\": 7, \"note\": \"secret\", \"amount\": 10}}\n\
         {two}|update|{{\"id\": 1, \"tax\": 7, \"note\": \"secret\", \"amount\": 11}}\n\
         {three}|update|{{\"id\": 1, \"tax\": 7, \"note\": \"hidden\", \"amount\": 11}}\n\
         {four}|delete|NULL\n\
         {five}|insert|{{\"id\": 1, \"tax\": 7, \"note\": \"again\", \"amount\": 30}}"
    );
    let o = &mut past.owner;
    for key in ["'1'", "'{\"id\": 1}'", "'\"1\"'", "to_jsonb(1)"] {
        let history = format!("SELECT position, op, row FROM freehold.history('price_v1', {key})");
        assert_eq!(o.rows(&history), expected, "{key}");
    }
    let times = o.rows("SELECT committed_at FROM freehold.history('public.price_v1', '1')");
    assert_eq!(times.lines().count(), 5);
    // The time is that of the position, to the microsecond.
    let other = "SELECT count(*) FROM freehold.history('price_v1', '1') \
                 WHERE NOT freehold.position_at(committed_at) < position \
                 OR freehold.position_at(committed_at + interval '1 us') < position";
    assert_eq!(o.rows(other), "0");
    assert_eq!(
        o.rows("SELECT * FROM freehold.history('price_v1', '7')"),
        ""
    );
    assert_eq!(o.rows("SELECT * FROM freehold.history(NULL, '7')"), "");
    // What a transaction has not committed is not history.
    o.ok("BEGIN; UPDATE price_v1 SET amount = 99");
    assert_eq!(
        o.rows("SELECT count(*) FROM freehold.history('price_v1', '1')"),
        "5"
    );
    o.ok("ROLLBACK");

    let mut reader = past.node.client("reader");
    let call = "SELECT position, op, row FROM freehold.history('price_v1', '1')";
    assert_eq!(
        reader.run(call),
        "ERROR 42P01: relation \"price_v1\" does not exist"
    );
    past.owner.ok("GRANT SELECT (amount) ON price_v1 TO reader");
    assert_eq!(
        reader.run(call),
        "ERROR 42501: permission denied for table price_v1"
    );
    // Only what the reader may read has changed for it.
    past.owner.ok("GRANT SELECT (id) ON price_v1 TO reader");
    assert_eq!(
        reader.rows(call),
        format!(
            "{one}|insert|{{\"id\": 1, \"amount\": 10}}\n\
             {two}|update|{{\"id\": 1, \"amount\": 11}}\n\
             {four}|delete|NULL\n\
             {five}|insert|{{\"id\": 1, \"amount\": 30}}"
        )
    );
}

#[test]
fn of_a_table_without_history_there_is_what_is_still_kept() {
    let mut past = Past::new();
    past.then("INSERT INTO other VALUES (1)");
    past.then("DELETE FROM other");
    let kept = past.then("INSERT INTO other VALUES (1)");
    past.then("INSERT INTO other VALUES (2)");
    let o = &mut past.owner;
    assert_eq!(
        o.rows("SELECT position, op, row FROM freehold.history('other', '1')"),
        format!("{kept}|NULL|{{\"id\": 1}}")
    );
    o.ok("CREATE TABLE two (b text, a int, c int, PRIMARY KEY (a, b)); CREATE TABLE none (c int)");
    o.ok("INSERT INTO two VALUES ('x', 1, 9)");
    assert_eq!(
        o.rows("SELECT op, row->'c' FROM freehold.history('two', '{\"a\": 1, \"b\": \"x\"}')"),
        "insert|9"
    );
    for (key, told) in [
        ("1", "the key lacks column \"a\""),
        ("{\"a\": 1}", "the key lacks column \"b\""),
        ("{\"a\": 1, \"b\": null}", "column \"b\" of a key is null"),
        (
            "{\"a\": 1, \"b\": \"x\", \"c\": 1}",
            "the key has columns of no key",
        ),
    ] {
        assert_eq!(
            o.run(&format!("SELECT * FROM freehold.history('two', '{key}')")),
            format!("ERROR 22023: {told} DETAIL: The primary key of \"two\" is (a, b).")
        );
    }
    assert!(
        o.run("SELECT * FROM freehold.history('two', '{\"a\": \"x\", \"b\": \"x\"}')")
            .starts_with("ERROR 22P02")
    );
    assert_eq!(
        o.run("SELECT * FROM freehold.history('none', '1')"),
        "ERROR 42809: table \"none\" has no primary key HINT: FOR SYSTEM_TIME AS OF reads all of \
         its rows as they were."
    );
    assert_eq!(
        o.run("SELECT * FROM freehold.history('pg_class', '1')"),
        "ERROR 42809: \"pg_class\" is not a table"
    );
}
