//! Projections: what may be one, what it holds, and what goes with it.

use crate::session::tests::{Client, Node};

/// `orders` with tables of its own, and a reader.
fn shop() -> (Node, Client) {
    let node = Node::new();
    let mut admin = node.client("postgres");
    admin.ok("CREATE ROLE orders LOGIN");
    admin.ok("CREATE ROLE billing LOGIN");
    let mut owner = node.client("orders");
    owner.ok("CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, country text)");
    owner.ok(
        "CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer, \
         cents int NOT NULL, note text)",
    );
    owner.ok("INSERT INTO customer VALUES (1, 'Ada', 'uk'), (2, 'Bob', 'fr')");
    owner.ok("INSERT INTO orders VALUES (10, 1, 500, 'a'), (11, 2, 700, NULL), (12, NULL, 9, 'c')");
    (node, owner)
}

const JOINED: &str = "SELECT o.id, o.cents / 100.0 AS euros, c.name AS customer, upper(o.note) \
                      AS note FROM orders.orders o LEFT JOIN orders.customer c \
                      ON o.customer = c.id AND c.country <> 'xx' WHERE o.cents > 5";

fn same(owner: &mut Client, query: &str) {
    let kept = owner.rows("SELECT * FROM public.order_v2 ORDER BY 1");
    assert_eq!(kept, owner.rows(&format!("{query} ORDER BY 1")), "{query}");
}

#[test]
fn a_projection_is_kept_by_what_writes_its_tables() {
    let (_node, mut owner) = shop();
    let made = owner.ok(&format!(
        "CREATE MATERIALIZED VIEW public.order_v2 AS {JOINED}"
    ));
    assert_eq!(made, "SELECT 3");
    same(&mut owner, JOINED);
    for write in [
        "INSERT INTO orders VALUES (13, 2, 100, 'd'), (14, 1, 3, 'small')",
        "UPDATE orders SET cents = 2 WHERE id = 10",
        "UPDATE orders SET cents = 800, customer = 2 WHERE id IN (10, 14)",
        "UPDATE customer SET name = 'Bert' WHERE id = 2",
        "UPDATE customer SET country = 'xx' WHERE id = 2",
        "UPDATE customer SET country = NULL WHERE id = 1",
        "UPDATE orders SET id = id + 100",
        "DELETE FROM orders WHERE id = 111",
        "INSERT INTO orders VALUES (110, 1, 50, 'x') ON CONFLICT (id) DO UPDATE SET note = 'y'",
        "DELETE FROM orders WHERE customer = 2",
        "DELETE FROM customer WHERE id = 2",
    ] {
        owner.ok(write);
        same(&mut owner, JOINED);
    }
    owner.ok("BEGIN");
    owner.ok("SAVEPOINT a");
    owner.ok("UPDATE customer SET name = 'Z', country = 'it'");
    same(&mut owner, JOINED);
    owner.ok("ROLLBACK TO a");
    same(&mut owner, JOINED);
    owner.ok("INSERT INTO orders VALUES (1, 1, 100, 'q')");
    owner.ok("COMMIT");
    same(&mut owner, JOINED);
    owner.ok("TRUNCATE orders");
    assert_eq!(owner.rows("SELECT count(*) FROM public.order_v2"), "0");
    owner.ok("INSERT INTO orders VALUES (1, 1, 100, 'q')");
    same(&mut owner, JOINED);
}

#[test]
fn nobody_writes_a_projection() {
    let (node, mut owner) = shop();
    owner.ok(&format!(
        "CREATE MATERIALIZED VIEW public.order_v2 AS {JOINED}"
    ));
    let change = "ERROR 42809: cannot change materialized view \"order_v2\"";
    for (sql, error) in [
        ("INSERT INTO public.order_v2 VALUES (1)", change),
        ("UPDATE public.order_v2 SET note = ''", change),
        ("DELETE FROM public.order_v2", change),
        (
            "COPY public.order_v2 FROM STDIN",
            "ERROR 42809: cannot copy to materialized view \"order_v2\"",
        ),
        (
            "COPY public.order_v2 TO STDOUT",
            "ERROR 42809: cannot copy from materialized view \"order_v2\"",
        ),
        (
            "SELECT * FROM public.order_v2 FOR UPDATE",
            "ERROR 42809: cannot lock rows in materialized view \"order_v2\"",
        ),
        (
            "TRUNCATE public.order_v2",
            "ERROR 42809: \"order_v2\" is not a table",
        ),
        (
            "DROP TABLE public.order_v2",
            "ERROR 42809: \"order_v2\" is not a table",
        ),
        (
            "DROP VIEW public.order_v2",
            "ERROR 42809: \"order_v2\" is not a view",
        ),
        (
            "ALTER TABLE public.order_v2 ADD COLUMN x int",
            "ERROR 42809: ALTER action ADD COLUMN cannot be performed on relation \"order_v2\"",
        ),
        (
            "ALTER TABLE public.order_v2 DROP CONSTRAINT order_v2_pkey",
            "ERROR 42809: ALTER action DROP CONSTRAINT cannot be performed on relation \"order_v2\"",
        ),
        (
            "CREATE TABLE child (id int REFERENCES public.order_v2)",
            "ERROR 42809: referenced relation \"order_v2\" is not a table",
        ),
        (
            "REFRESH MATERIALIZED VIEW orders",
            "ERROR 0A000: \"orders\" is not a materialized view",
        ),
        (
            "DROP MATERIALIZED VIEW orders",
            "ERROR 42809: \"orders\" is not a materialized view",
        ),
        (
            "DROP MATERIALIZED VIEW nothing",
            "ERROR 42P01: materialized view \"nothing\" does not exist",
        ),
    ] {
        let result = owner.run(sql);
        assert!(result.starts_with(error), "{sql}: {result}");
    }
    assert_eq!(
        owner.ok("REFRESH MATERIALIZED VIEW CONCURRENTLY public.order_v2"),
        "REFRESH MATERIALIZED VIEW"
    );
    same(&mut owner, JOINED);
    // Whose it is, as of any table.
    owner.ok("GRANT READ ON order_* TO billing");
    let mut billing = node.client("billing");
    for write in [
        "INSERT INTO public.order_v2 VALUES (1)",
        "UPDATE public.order_v2 SET note = ''",
        "DELETE FROM public.order_v2",
    ] {
        let result = billing.run(write);
        let denied = "ERROR 42501: permission denied for materialized view order_v2 \
                      DETAIL: Only its owner \"orders\" writes table \"order_v2\".";
        assert!(result.starts_with(denied), "{write}: {result}");
    }
}

#[test]
fn what_is_no_projection_is_refused() {
    let (_node, mut owner) = shop();
    owner.ok("CREATE VIEW shown AS SELECT id, note FROM orders");
    owner.ok("CREATE TABLE loose (n int)");
    let own = "CREATE MATERIALIZED VIEW m AS ";
    for (query, error) in [
        ("SELECT id, now() FROM orders", "0A000"),
        ("SELECT id, random() FROM orders", "0A000"),
        ("SELECT id, current_user FROM orders", "0A000"),
        ("SELECT count(*) FROM orders", "0A000"),
        ("SELECT customer FROM orders GROUP BY customer", "0A000"),
        ("SELECT DISTINCT id FROM orders", "0A000"),
        ("SELECT id FROM orders ORDER BY id", "0A000"),
        ("SELECT id FROM orders LIMIT 1", "0A000"),
        (
            "SELECT id FROM orders UNION SELECT id FROM customer",
            "0A000",
        ),
        ("SELECT id, (SELECT 1) FROM orders", "0A000"),
        (
            "SELECT id FROM orders WHERE id IN (SELECT id FROM customer)",
            "0A000",
        ),
        ("SELECT id, row_number() OVER () FROM orders", "0A000"),
        ("SELECT id, generate_series(1, 2) FROM orders", "0A000"),
        ("SELECT 1 AS id", "0A000"),
        ("WITH o AS (SELECT * FROM orders) SELECT id FROM o", "0A000"),
        ("SELECT id, note FROM shown", "0A000"),
        (
            "SELECT o.id FROM orders o JOIN customer c ON c.id = o.cents",
            "0A000",
        ),
        ("SELECT o.id FROM orders o, customer c", "0A000"),
        (
            "SELECT o.id FROM orders o RIGHT JOIN customer c ON c.id = o.customer",
            "0A000",
        ),
        (
            "SELECT c.id FROM customer c JOIN orders o ON c.id = o.customer",
            "0A000",
        ),
        ("SELECT oid, relname FROM pg_class", "0A000"),
        ("SELECT note FROM orders", "42P10"),
        ("SELECT id + 0 AS id FROM orders", "42P10"),
        ("SELECT n FROM loose", "42P10"),
        ("SELECT o.nothing FROM orders o", "42703"),
        ("SELECT id, id FROM orders", "42701"),
    ] {
        let result = owner.run(&format!("{own}{query}"));
        assert!(
            result.starts_with(&format!("ERROR {error}")),
            "{query}: {result}"
        );
        assert_eq!(owner.rows("SELECT count(*) FROM pg_matviews"), "0");
    }
    owner.ok("CREATE MATERIALIZED VIEW m AS SELECT id FROM orders");
    let result = owner.run("CREATE MATERIALIZED VIEW n AS SELECT id FROM m");
    assert!(result.starts_with("ERROR 0A000"), "{result}");
    let result = owner.run("CREATE OR REPLACE MATERIALIZED VIEW m AS SELECT id FROM orders");
    assert!(result.starts_with("ERROR 42601"), "{result}");
    let again = owner.ok("CREATE MATERIALIZED VIEW IF NOT EXISTS m AS SELECT id FROM orders");
    assert_eq!(again, "CREATE MATERIALIZED VIEW");
    owner.ok("CREATE MATERIALIZED VIEW e (key) AS SELECT id, cents FROM orders WITH NO DATA");
    assert_eq!(
        owner.rows("SELECT key, cents FROM e WHERE key = 11"),
        "11|700"
    );
}

#[test]
fn what_a_projection_reads_stays_or_takes_it_along() {
    let (_node, mut owner) = shop();
    owner.ok(&format!(
        "CREATE MATERIALIZED VIEW public.order_v2 AS {JOINED}"
    ));
    for (sql, state) in [
        ("DROP TABLE orders", "2BP01"),
        ("ALTER TABLE orders DROP COLUMN note", "2BP01"),
        ("ALTER TABLE customer DROP COLUMN country", "2BP01"),
        ("ALTER TABLE orders DROP CONSTRAINT orders_pkey", "2BP01"),
        (
            "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey",
            "2BP01",
        ),
        ("ALTER TABLE orders ALTER COLUMN cents TYPE bigint", "0A000"),
        ("ALTER TABLE orders RENAME COLUMN cents TO pence", "0A000"),
    ] {
        let result = owner.run(sql);
        assert!(
            result.starts_with(&format!("ERROR {state}")),
            "{sql}: {result}"
        );
        assert!(result.contains("materialized view"), "{sql}: {result}");
    }
    // What it does not read is free, and so are names.
    owner.ok("ALTER TABLE orders ADD COLUMN extra int DEFAULT 7");
    owner.ok("ALTER TABLE orders ALTER COLUMN extra TYPE text");
    owner.ok("ALTER TABLE orders RENAME TO purchase");
    owner.ok("CREATE SCHEMA more");
    owner.ok("ALTER TABLE customer SET SCHEMA more");
    owner.ok("UPDATE more.customer SET name = 'New' WHERE id = 1");
    owner.ok("INSERT INTO purchase VALUES (77, 1, 100, 'n')");
    let moved = JOINED
        .replace("orders.orders", "orders.purchase")
        .replace("orders.customer", "more.customer");
    same(&mut owner, &moved);
    owner.ok("ALTER TABLE purchase DROP COLUMN extra");
    owner.ok("DELETE FROM purchase WHERE id = 77");
    same(&mut owner, &moved);
    // With CASCADE it goes, by any way.
    owner.ok("BEGIN");
    owner.ok("ALTER TABLE purchase DROP COLUMN note CASCADE");
    assert_eq!(owner.rows("SELECT to_regclass('public.order_v2')"), "NULL");
    owner.ok("ROLLBACK");
    for sql in [
        "DROP TABLE purchase CASCADE",
        "DROP TABLE more.customer CASCADE",
        "ALTER TABLE purchase DROP CONSTRAINT orders_pkey CASCADE",
        "ALTER TABLE purchase DROP CONSTRAINT orders_customer_fkey CASCADE",
        "ALTER TABLE more.customer DROP CONSTRAINT customer_pkey CASCADE",
        "ALTER TABLE more.customer DROP COLUMN id CASCADE",
        "DROP SCHEMA more CASCADE",
        "DROP MATERIALIZED VIEW public.order_v2",
    ] {
        owner.ok("BEGIN");
        owner.ok(sql);
        assert_eq!(
            owner.rows("SELECT to_regclass('public.order_v2')"),
            "NULL",
            "{sql}"
        );
        owner.ok("ROLLBACK");
        same(&mut owner, &moved);
    }
    owner.ok("DROP MATERIALIZED VIEW public.order_v2");
    owner.ok("UPDATE purchase SET note = 'after'");
    owner.ok("DROP TABLE purchase");
    assert_eq!(
        owner.ok("DROP MATERIALIZED VIEW IF EXISTS public.order_v2"),
        "DROP MATERIALIZED VIEW"
    );
}

#[test]
fn it_is_a_table_to_those_who_look() {
    let (node, mut owner) = shop();
    owner.ok(&format!(
        "CREATE MATERIALIZED VIEW public.order_v1 WITH (sunset = '2099-01-01') AS {JOINED}"
    ));
    owner.ok("ALTER MATERIALIZED VIEW public.order_v1 RENAME TO order_v2");
    owner.ok("ALTER MATERIALIZED VIEW public.order_v2 SET (sunset = '2098-01-01')");
    owner.ok("ALTER MATERIALIZED VIEW public.order_v2 RENAME COLUMN euros TO eur");
    owner.ok("COMMENT ON MATERIALIZED VIEW public.order_v2 IS 'orders'");
    owner.ok("CREATE UNIQUE INDEX by_customer ON public.order_v2 (customer, id)");
    owner.ok("CREATE INDEX by_note ON public.order_v2 (lower(note))");
    owner.ok("INSERT INTO orders VALUES (20, 1, 100, 'zz')");
    owner.ok("UPDATE customer SET name = 'Eve' WHERE id = 1");
    let found = "SELECT id, customer FROM public.order_v2 WHERE lower(note) = 'zz'";
    assert_eq!(owner.rows(found), "20|Eve");
    assert!(owner.rows(&format!("EXPLAIN {found}")).contains("by_note"));
    assert_eq!(
        owner.rows("SELECT id FROM public.order_v2 WHERE customer = 'Eve' ORDER BY id"),
        "10\n20"
    );
    assert_eq!(
        owner.rows(
            "SELECT attname, attnotnull FROM pg_attribute WHERE attnum > 0 AND attrelid = \
             'public.order_v2'::regclass ORDER BY attnum"
        ),
        "id|t\neur|f\ncustomer|f\nnote|f"
    );
    owner.ok("GRANT READ ON order_* TO billing");
    let mut reader = node.client("billing");
    assert_eq!(reader.rows("SELECT count(*) FROM order_v2"), "4");
    let catalog = "SELECT relkind, relispopulated, relhasindex FROM pg_class \
                   WHERE relname = 'order_v2'";
    assert_eq!(reader.rows(catalog), "m|t|t");
    let listed = "SELECT matviewowner, ispopulated, definition FROM pg_matviews";
    assert_eq!(reader.rows(listed), "orders|t|NULL");
    assert!(owner.rows(listed).starts_with("orders|t| SELECT o.id"));
    for (query, expected) in [
        ("SELECT pg_get_viewdef('order_v2'::regclass)", "NULL"),
        ("SELECT pg_get_viewdef('order_v2'::regclass, true)", "NULL"),
        (
            "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = 'order_v2'::regclass",
            "NULL",
        ),
        (
            "SELECT count(*) FROM pg_depend d WHERE classid = 'pg_rewrite'::regclass AND objid IN \
             (SELECT oid FROM pg_rewrite WHERE ev_class = 'order_v2'::regclass)",
            "0",
        ),
        (
            "SELECT count(*) FROM information_schema.tables WHERE table_name = 'order_v2'",
            "0",
        ),
        (
            "SELECT count(*) FROM pg_tables WHERE tablename = 'order_v2'",
            "0",
        ),
        ("SELECT to_regclass('orders.orders')", "NULL"),
    ] {
        assert_eq!(reader.rows(query), expected, "{query}");
    }
    assert_ne!(
        owner.rows(
            "SELECT count(*) FROM pg_depend WHERE objid IN \
             (SELECT oid FROM pg_rewrite WHERE ev_class = 'public.order_v2'::regclass)"
        ),
        "0"
    );
    let plan = reader.rows("EXPLAIN (VERBOSE) SELECT * FROM order_v2");
    assert!(
        !plan.contains("orders.") && !plan.contains("cents"),
        "{plan}"
    );
    let refused = reader.run("DROP MATERIALIZED VIEW order_v2");
    assert!(refused.starts_with("ERROR 42501: must be owner of materialized view order_v2"));
}

#[test]
fn what_a_row_can_not_become_fails_its_write() {
    let (_node, mut owner) = shop();
    owner.ok(
        "CREATE MATERIALIZED VIEW public.order_v2 AS SELECT id, cents, 1000 / cents AS share, note \
         FROM orders",
    );
    owner.ok("CREATE UNIQUE INDEX once ON public.order_v2 (share)");
    let context = "CONTEXT: materialized view \"public.order_v2\"";
    for (sql, error) in [
        (
            "UPDATE orders SET cents = 0 WHERE id = 10",
            "ERROR 22012: division by zero",
        ),
        (
            "INSERT INTO orders VALUES (15, 1, 500, 'b')",
            "ERROR 23505: duplicate key value violates unique constraint \"once\"",
        ),
    ] {
        let result = owner.run(sql);
        assert!(
            result.starts_with(error) && result.ends_with(context),
            "{sql}: {result}"
        );
    }
    owner.ok("ALTER TABLE orders ALTER COLUMN cents DROP NOT NULL");
    let result = owner.run("INSERT INTO orders VALUES (15)");
    assert!(
        result.starts_with("ERROR 23502: null value in column \"cents\""),
        "{result}"
    );
    assert!(result.ends_with(context), "{result}");
    same(
        &mut owner,
        "SELECT id, cents, 1000 / cents AS share, note FROM orders",
    );
    let result = owner.run("CREATE MATERIALIZED VIEW bad AS SELECT id, 1 / (id - 12) FROM orders");
    assert!(result.starts_with("ERROR 22012"), "{result}");
    assert_eq!(owner.rows("SELECT to_regclass('bad')"), "NULL");
}

/// Values that are equal and look otherwise, keys that only one side can hold, and COPY.
#[test]
fn what_is_shown_is_what_is_stored() {
    let node = Node::new();
    let mut owner = node.client("postgres");
    owner.ok("CREATE TABLE p (id bigint PRIMARY KEY, n numeric, i interval)");
    owner.ok("CREATE TABLE c (id numeric PRIMARY KEY, p int REFERENCES p, note text)");
    owner.ok("CREATE INDEX by_text ON p ((n::text))");
    let query = "SELECT c.id, p.n, p.i, c.note FROM c LEFT JOIN p ON p.id = c.p";
    owner.ok(&format!(
        "CREATE MATERIALIZED VIEW public.order_v2 AS {query}"
    ));
    assert_eq!(owner.run("COPY c (id, note) FROM STDIN"), "COPY IN");
    assert_eq!(owner.copy(b"1.0\tx\n2\ty\n", 3), "COPY 2");
    same(&mut owner, query);
    for write in [
        "INSERT INTO p VALUES (1, 1.5, '1 day'), (5000000000, 7, '1 hour')",
        "UPDATE c SET p = 1",
        "UPDATE p SET n = 1.50, i = '24 hours' WHERE id = 1",
        "UPDATE p SET n = n + 1 WHERE id = 5000000000",
        "UPDATE p SET id = 6000000000 WHERE id = 5000000000",
        "UPDATE c SET id = 1.000 WHERE id = 1",
        "DELETE FROM p WHERE id = 6000000000",
        "UPDATE c SET note = note || '!'",
    ] {
        owner.ok(write);
        same(&mut owner, query);
    }
    assert_eq!(
        owner.rows("SELECT * FROM public.order_v2 ORDER BY id"),
        "1.000|1.50|24:00:00|x!\n2|1.50|24:00:00|y!"
    );
    assert_eq!(owner.rows("SELECT id FROM p WHERE n::text = '1.50'"), "1");
}

#[test]
fn one_that_is_made_in_a_block_is_kept_from_there_on() {
    let (node, mut owner) = shop();
    let create = format!("CREATE MATERIALIZED VIEW public.order_v2 AS {JOINED}");
    for end in ["ROLLBACK", "COMMIT"] {
        owner.ok("BEGIN");
        owner.ok("INSERT INTO orders VALUES (100, 1, 100, 'before')");
        owner.ok(&create);
        same(&mut owner, JOINED);
        owner.ok("INSERT INTO orders VALUES (101, 2, 100, 'behind')");
        owner.ok("UPDATE customer SET name = 'In' WHERE id = 2");
        same(&mut owner, JOINED);
        owner.ok("SAVEPOINT a");
        owner.ok("DROP MATERIALIZED VIEW public.order_v2");
        owner.ok("DELETE FROM orders WHERE id = 101");
        owner.ok("ROLLBACK TO a");
        same(&mut owner, JOINED);
        owner.ok(end);
        owner.ok("INSERT INTO orders VALUES (102, 2, 100, 'after')");
        owner.ok("UPDATE customer SET name = 'Out' WHERE id = 2");
        owner.ok("DELETE FROM orders WHERE id = 102");
    }
    same(&mut owner, JOINED);
    // Whoever has written its tables before is waited for, whoever comes later waits.
    owner.ok("DROP MATERIALIZED VIEW public.order_v2");
    let (mut one, mut two) = (node.client("orders"), node.client("orders"));
    one.ok("BEGIN");
    one.ok("UPDATE customer SET name = 'One' WHERE id = 1");
    assert_eq!(owner.start(&create), None);
    one.ok("UPDATE orders SET note = 'one' WHERE id = 10");
    one.ok("COMMIT");
    assert_eq!(owner.go_on().as_deref(), Some("SELECT 5"));
    same(&mut owner, JOINED);
    owner.ok("BEGIN");
    owner.ok("DROP MATERIALIZED VIEW public.order_v2");
    owner.ok(&create);
    assert_eq!(
        two.start("UPDATE customer SET name = 'Two' WHERE id = 1"),
        None
    );
    owner.ok("COMMIT");
    assert_eq!(two.go_on().as_deref(), Some("UPDATE 1"));
    same(&mut owner, JOINED);
}

/// Rows that triggers change or leave out are projected as they are in the end; a projection has no
/// triggers of its own, and is no inbox.
#[test]
fn triggers_are_the_tables_own() {
    let (_node, mut owner) = shop();
    owner.ok(
        "CREATE FUNCTION round_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.cents < 0 THEN RETURN NULL; END IF; NEW.note := 'seen ' || NEW.cents; RETURN NEW; \
         END $$",
    );
    owner.ok(
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION round_up()",
    );
    owner.ok(
        "CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         UPDATE customer SET name = name || '*' WHERE id = NEW.customer; RETURN NULL; END $$",
    );
    owner.ok("CREATE TRIGGER u AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION also()");
    owner.ok(&format!(
        "CREATE MATERIALIZED VIEW public.order_v2 AS {JOINED}"
    ));
    for write in [
        "INSERT INTO orders VALUES (50, 1, 100, 'x'), (51, 2, -1, 'y'), (52, 2, 200, NULL)",
        "UPDATE orders SET cents = cents * 3",
        "UPDATE orders SET cents = -1 WHERE id = 50",
        "DELETE FROM orders WHERE id = 52",
        "INSERT INTO orders VALUES (50, 1, 1) ON CONFLICT (id) DO UPDATE SET cents = 77",
    ] {
        owner.ok(write);
        same(&mut owner, JOINED);
    }
    assert_eq!(
        owner.rows("SELECT note, customer FROM public.order_v2 WHERE id = 50"),
        "SEEN 77|Ada*"
    );
    for (sql, error) in [
        (
            "CREATE TRIGGER v AFTER INSERT ON public.order_v2 FOR EACH ROW EXECUTE FUNCTION also()",
            "ERROR 42809: relation \"order_v2\" cannot have triggers",
        ),
        (
            "CREATE MATERIALIZED VIEW public.in_v1 WITH (inbox = true) AS SELECT id FROM orders",
            "ERROR 0A000: a materialized view as an inbox is not supported",
        ),
    ] {
        let result = owner.run(sql);
        assert!(result.starts_with(error), "{sql}: {result}");
    }
}
