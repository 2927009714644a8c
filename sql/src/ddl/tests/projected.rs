//! Random writes, alone and of several clients at once: a projection is what its query says, at every
//! commit and within every transaction.

use crate::session::tests::{Client, Node};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.roll(of.len() as u64) as usize]
    }
}

const TABLES: &str = "
    CREATE TABLE country (id int PRIMARY KEY, name text, vat int);
    CREATE TABLE customer (id int PRIMARY KEY, code text UNIQUE, name text,
        country int REFERENCES country ON UPDATE CASCADE ON DELETE SET NULL);
    CREATE TABLE orders (id int PRIMARY KEY, cents int, note text,
        customer text REFERENCES customer (code) ON UPDATE CASCADE ON DELETE CASCADE,
        parent bigint REFERENCES orders ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
    CREATE INDEX ON orders (customer);";

/// Name and query.
const PROJECTIONS: [(&str, &str); 5] = [
    (
        "plain",
        "SELECT id, cents + 1 AS more, upper(note) AS note FROM orders WHERE cents % 3 <> 0",
    ),
    (
        "inner",
        "SELECT o.note, o.id, c.name, c.code FROM orders o JOIN customer c ON c.code = o.customer \
         AND c.name <> 'b' WHERE o.cents > 1",
    ),
    (
        "chain",
        "SELECT o.id, c.name, n.name AS country, o.cents * coalesce(n.vat, 0) AS vat FROM orders o \
         LEFT JOIN customer c ON c.code = o.customer LEFT JOIN country n ON n.id = c.country",
    ),
    (
        "own",
        "SELECT o.id, p.note AS parent, q.note AS its_parent FROM orders o \
         LEFT JOIN orders p ON o.parent = p.id AND p.cents > 2 LEFT JOIN orders q ON p.parent = q.id \
         WHERE p.note IS DISTINCT FROM 'c'",
    ),
    (
        "strict",
        "SELECT c.id, n.vat, c.name || n.name AS both FROM customer c, country n \
         WHERE c.country = n.id",
    ),
];

fn diff(name: &str, query: &str) -> String {
    format!(
        "SELECT 'too many', x::text FROM (TABLE {name} EXCEPT ALL {query}) x UNION ALL \
         SELECT 'missing', x::text FROM ({query} EXCEPT ALL TABLE {name}) x"
    )
}

fn check(client: &mut Client, after: &str) {
    for (name, query) in PROJECTIONS {
        let found = client.rows(&diff(name, query));
        assert_eq!(found, "", "{name} after {after}");
    }
}

fn write(dice: &mut Dice) -> String {
    let (a, b, c) = (dice.roll(9), dice.roll(9), dice.roll(6));
    let note = dice.one(&["'a'", "'b'", "'c'", "NULL"]);
    let code = dice.one(&["'x'", "'y'", "'z'", "NULL"]);
    match dice.roll(20) {
        0 => format!("INSERT INTO country VALUES ({c}, {note}, {a})"),
        1 => format!("UPDATE country SET name = {note}, vat = {a} WHERE id <= {c}"),
        2 => format!("UPDATE country SET id = {c} WHERE id = {b}"),
        3 => format!("DELETE FROM country WHERE id = {c}"),
        4 | 5 => format!(
            "INSERT INTO customer VALUES ({c}, {code}, {note}, (SELECT min(id) FROM country)) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, code = excluded.code"
        ),
        6 => format!("UPDATE customer SET name = {note} WHERE id >= {c}"),
        7 => format!("UPDATE customer SET code = {code} WHERE id = {c}"),
        8 => format!(
            "UPDATE customer SET country = (SELECT max(id) FROM country WHERE id < {a}) \
             WHERE id = {c}"
        ),
        9 => format!("DELETE FROM customer WHERE id = {c}"),
        10 | 11 => format!(
            "INSERT INTO orders SELECT {a} + i, i * {b}, {note}, \
             (SELECT max(code) FROM customer WHERE id < {c}), nullif({b}, 0) + i \
             FROM generate_series(0, 2) i ON CONFLICT DO NOTHING"
        ),
        12 => format!("INSERT INTO orders VALUES ({a}, {b}, {note}, {code}, NULL)"),
        13 => format!(
            "INSERT INTO orders VALUES ({a}, {b}) ON CONFLICT (id) DO UPDATE \
             SET cents = excluded.cents, note = {note} WHERE orders.cents <> {c}"
        ),
        14 => format!("UPDATE orders SET cents = cents + {c}, note = {note} WHERE id > {a}"),
        15 => format!("UPDATE orders SET id = id + {c} - 2 WHERE id = {a}"),
        16 => format!("UPDATE orders SET parent = {b}, customer = {code} WHERE id = {a}"),
        17 => format!("DELETE FROM orders WHERE id = {a} OR note = {note}"),
        18 => format!(
            "WITH gone AS (DELETE FROM orders WHERE id < {c} RETURNING *) \
             INSERT INTO orders SELECT id + 20, cents, note FROM gone"
        ),
        _ => format!(
            "UPDATE orders SET cents = {a}, note = c.name FROM customer c \
             WHERE c.code = orders.customer AND c.id <> {c}"
        ),
    }
}

fn owner(node: &Node) -> Client {
    let mut client = node.client("postgres");
    client.ok(TABLES);
    for (name, query) in PROJECTIONS {
        client.ok(&format!("CREATE MATERIALIZED VIEW {name} AS {query}"));
    }
    client
}

#[test]
fn it_is_what_its_query_says_within_every_transaction() {
    for seed in 0..if cfg!(debug_assertions) { 12 } else { 200 } {
        let node = Node::new();
        let mut client = owner(&node);
        let mut dice = Dice(seed);
        let (mut block, mut done) = (false, 0);
        for _ in 0..150 {
            let sql = match dice.roll(14) {
                0 if !block => "BEGIN".to_owned(),
                0 | 1 if block => dice.one(&["COMMIT", "ROLLBACK"]).to_owned(),
                2 if block => "SAVEPOINT s".to_owned(),
                3 if !block && dice.roll(6) == 0 => dice
                    .one(&["TRUNCATE orders", "TRUNCATE customer CASCADE"])
                    .to_owned(),
                _ => write(&mut dice),
            };
            let result = client.run(&sql);
            if sql == "BEGIN" {
                block = true;
                client.ok("SAVEPOINT s");
            } else if sql == "COMMIT" || sql == "ROLLBACK" {
                block = false;
            } else if result.starts_with("ERROR") {
                let expected = ["23505", "23503", "40001"];
                let known = expected.iter().any(|state| result.contains(state));
                assert!(known, "seed {seed}: {sql}: {result}");
                if block {
                    client.ok("ROLLBACK TO s");
                }
            } else {
                done += 1;
            }
            if block && dice.roll(9) == 0 {
                client.ok("ROLLBACK TO s");
            }
            check(&mut client, &format!("seed {seed}: {sql}: {result}"));
        }
        assert!(done > 40, "seed {seed}: {done} writes");
    }
}

#[test]
fn it_is_what_its_query_says_after_writes_at_once() {
    for seed in 0..if cfg!(debug_assertions) { 30 } else { 1000 } {
        let node = Node::new();
        let mut reader = owner(&node);
        let mut dice = Dice(1_000 + seed);
        let mut writers: Vec<(Client, bool, String)> = (0..3)
            .map(|_| (node.client("postgres"), false, String::new()))
            .collect();
        for _ in 0..120 {
            let at = dice.roll(3) as usize;
            let level = dice.one(&[
                "READ COMMITTED",
                "READ COMMITTED",
                "REPEATABLE READ",
                "SERIALIZABLE",
            ]);
            let (client, block, sql) = &mut writers[at];
            let result = if client.waits().is_some() {
                client.go_on()
            } else {
                *sql = match dice.roll(5) {
                    0 if !*block => format!("BEGIN ISOLATION LEVEL {level}"),
                    0 | 1 if *block => dice.one(&["COMMIT", "COMMIT", "ROLLBACK"]).to_owned(),
                    _ => write(&mut dice),
                };
                client.start(sql)
            };
            let Some(result) = result else { continue };
            match sql.as_str() {
                "COMMIT" | "ROLLBACK" => *block = false,
                begin if begin.starts_with("BEGIN") => *block = true,
                _ if result.starts_with("ERROR") => {
                    let expected = ["23505", "23503", "40001", "40P01"];
                    let known = expected.iter().any(|state| result.contains(state));
                    assert!(known, "seed {seed}: {sql}: {result}");
                    if *block {
                        client.ok("ROLLBACK");
                        *block = false;
                    }
                }
                _ => {}
            }
            check(&mut reader, &format!("seed {seed}: {sql}: {result}"));
        }
    }
}

/// Rows enough that a projection is not filled within one entry.
fn many(node: &Node) -> Client {
    let mut client = node.client("postgres");
    client.ok(TABLES);
    client.ok("INSERT INTO country SELECT i, chr(96 + i), i * 5 FROM generate_series(1, 5) i");
    client.ok(
        "INSERT INTO customer SELECT i, chr(119 + i), 'n' || i, i FROM generate_series(1, 3) i",
    );
    client.ok(
        "INSERT INTO orders SELECT i, i, 'x' || i, chr(120 + i % 3), nullif(i - 1, 0) \
         FROM generate_series(1, 500) i",
    );
    client
}

#[test]
fn writers_go_on_while_it_is_filled() {
    for seed in 0..if cfg!(debug_assertions) { 8 } else { 300 } {
        let node = Node::new();
        let mut filler = many(&node);
        let mut writers = [node.client("postgres"), node.client("postgres")];
        let mut dice = Dice(2_000 + seed);
        for (name, query) in PROJECTIONS {
            let create = format!("CREATE MATERIALIZED VIEW {name} AS {query}");
            let mut result = filler.begin(&create);
            for round in 0.. {
                if let Some(result) = result {
                    assert!(result.starts_with("SELECT "), "seed {seed}: {result}");
                    break;
                }
                assert!(round < 2_000, "seed {seed}: {name} is never filled");
                let at = dice.roll(2) as usize;
                let client = &mut writers[at];
                let answer = match client.waits().is_some() {
                    true => client.go_on(),
                    false => {
                        let sql = match dice.roll(8) {
                            0 => "BEGIN".to_owned(),
                            1 | 2 => dice.one(&["COMMIT", "ROLLBACK"]).to_owned(),
                            _ => write(&mut dice),
                        };
                        client.start(&sql)
                    }
                };
                if answer.is_some_and(|answer| answer.starts_with("ERROR")) {
                    client.ok("ROLLBACK");
                }
                result = filler.go_a_bit();
            }
            for client in &mut writers {
                if client.waits().is_some() {
                    client.session.activity().cancel();
                    client.stop_waiting();
                    client.go_on();
                }
                client.ok("ROLLBACK");
            }
            let found = filler.rows(&diff(name, query));
            assert_eq!(found, "", "{name} is filled, seed {seed}");
        }
    }
}

#[test]
fn nobody_sees_half_of_it() {
    let node = Node::new();
    let mut filler = many(&node);
    let mut other = node.client("postgres");
    other.ok("CREATE ROLE reader LOGIN");
    other.ok("GRANT READ ON order_* TO reader");
    let mut reader = node.client("reader");
    let create = "CREATE MATERIALIZED VIEW public.order_v2 AS SELECT id, note FROM orders";
    assert_eq!(filler.begin(create), None);
    while other.rows("SELECT rows_done >= 64 FROM freehold.projections") != "t" {
        assert_eq!(filler.go_a_bit(), None, "it is seen in the middle");
    }
    let shown = "SELECT table_name, owner, base, state, rows_done > 0 FROM freehold.projections";
    let row = "public.order_v2|postgres|postgres.orders|";
    assert_eq!(other.rows(shown), format!("{row}filling|t"));
    assert_eq!(reader.rows(shown), "");
    let populated = "SELECT ispopulated FROM pg_matviews";
    assert_eq!(reader.rows(populated), "f");
    for sql in [
        "SELECT * FROM public.order_v2",
        "SELECT count(*) FROM order_v2 v JOIN order_v2 w USING (id)",
        "TABLE order_v2",
    ] {
        for client in [&mut reader, &mut other] {
            let result = client.run(sql);
            let expected = "ERROR 55000: materialized view \"order_v2\" has not been populated";
            assert!(result.starts_with(expected), "{result}");
        }
    }
    let result = other.run("CREATE INDEX ON public.order_v2 (note)");
    assert!(result.starts_with("ERROR 55000"), "{result}");
    other.ok("BEGIN");
    let result = other.run("REFRESH MATERIALIZED VIEW public.order_v2");
    assert!(result.starts_with("ERROR 25001"), "{result}");
    other.ok("ROLLBACK");
    // The filler is gone: it stays as it is, kept and unread, until it is filled.
    drop(filler);
    assert_eq!(other.rows(shown), format!("{row}not populated|NULL"));
    other.ok("UPDATE orders SET note = 'new' WHERE id IN (3, 499)");
    other.ok("DELETE FROM orders WHERE id IN (4, 498)");
    assert!(
        reader
            .run("SELECT 1 FROM order_v2")
            .starts_with("ERROR 55000")
    );
    let refresh = "REFRESH MATERIALIZED VIEW public.order_v2";
    assert_eq!(other.ok(refresh), "REFRESH MATERIALIZED VIEW");
    assert_eq!(
        other.rows(&diff("public.order_v2", "SELECT id, note FROM orders")),
        ""
    );
    assert_eq!(reader.rows(populated), "t");
    assert_eq!(
        reader.rows("SELECT note FROM order_v2 WHERE id = 499"),
        "new"
    );
    assert_eq!(other.ok(refresh), "REFRESH MATERIALIZED VIEW");
    let result = other.run("DROP MATERIALIZED VIEW public.order_v2");
    let expected = "ERROR 2BP01: cannot drop materialized view order_v2 because it is in use";
    assert!(result.starts_with(expected), "{result}");
    other.ok("DROP MATERIALIZED VIEW public.order_v2 CASCADE");
    // One that is left can be dropped, too, and its base.
    let mut filler = node.client("postgres");
    for drop_it in [
        "DROP MATERIALIZED VIEW public.order_v2",
        "DROP TABLE orders CASCADE",
    ] {
        assert_eq!(filler.begin(create), None);
        assert_eq!(filler.go_a_bit(), None);
        other.ok(drop_it);
        let result = loop {
            if let Some(result) = filler.go_a_bit() {
                break result;
            }
        };
        let expected = "ERROR 55000: the materialized view was dropped while it was being built";
        assert_eq!(result, expected);
        assert_eq!(other.rows("SELECT to_regclass('public.order_v2')"), "NULL");
    }
}

#[test]
fn a_row_that_has_no_projection_leaves_none() {
    let node = Node::new();
    let mut owner = many(&node);
    let create = "CREATE MATERIALIZED VIEW public.order_v2 AS SELECT id, 1 / (cents - 450) AS x \
                  FROM orders";
    let result = owner.run(create);
    let expected = "ERROR 22012: division by zero CONTEXT: materialized view \"public.order_v2\"";
    assert_eq!(result, expected);
    assert_eq!(owner.rows("SELECT count(*) FROM pg_matviews"), "0");
    assert_eq!(owner.rows("SELECT count(*) FROM freehold.projections"), "0");
    owner.ok("UPDATE orders SET cents = 450 WHERE id = 1");
    owner.ok("DELETE FROM orders WHERE cents = 450");
    assert_eq!(owner.ok(create), "SELECT 498");
    let result = owner.run("INSERT INTO orders VALUES (1000, 450)");
    assert!(result.starts_with("ERROR 22012"), "{result}");
}

/// Whichever of two transactions comes second sees what the first one did, also where it has written
/// nothing of the projection.
#[test]
fn writers_of_child_and_parent_wait_for_each_other_where_they_must() {
    let parent = "UPDATE customer SET name = 'new' WHERE id = 1";
    for (first, second, waits) in [
        ("UPDATE orders SET cents = 5 WHERE id = 1", parent, true),
        (parent, "UPDATE orders SET cents = 5 WHERE id = 1", true),
        ("INSERT INTO orders VALUES (9, 9, '', 'x')", parent, true),
        (parent, "INSERT INTO orders VALUES (9, 9, '', 'x')", true),
        (
            "UPDATE orders SET customer = 'x' WHERE id = 2",
            parent,
            true,
        ),
        (
            parent,
            "UPDATE orders SET customer = 'x' WHERE id = 2",
            true,
        ),
        ("DELETE FROM orders WHERE id = 1", parent, true),
        // What the projection does not read, and rows of other parents.
        (
            "UPDATE orders SET parent = NULL WHERE id = 1",
            parent,
            false,
        ),
        (parent, "UPDATE orders SET cents = 7 WHERE id = 2", false),
        (
            parent,
            "UPDATE customer SET country = NULL WHERE id = 1 AND name = 'zz'",
            false,
        ),
        ("INSERT INTO orders VALUES (9, 9, '', 'y')", parent, false),
        // Two children of one parent.
        (
            "INSERT INTO orders VALUES (8, 9, '', 'x')",
            "INSERT INTO orders VALUES (9, 9, '', 'x')",
            false,
        ),
    ] {
        for end in ["COMMIT", "ROLLBACK"] {
            let node = Node::new();
            let (mut one, mut two) = (node.client("postgres"), node.client("postgres"));
            one.ok(TABLES);
            one.ok("INSERT INTO customer VALUES (1, 'x', 'old'), (2, 'y', 'other')");
            one.ok("INSERT INTO orders VALUES (1, 0, 'a', 'x'), (2, 2, 'b', 'y')");
            let (name, query) = PROJECTIONS[1];
            one.ok(&format!("CREATE MATERIALIZED VIEW {name} AS {query}"));
            one.ok("BEGIN");
            one.ok(first);
            let answer = two.start(second);
            assert_eq!(answer.is_none(), waits, "{first}; {second}: {answer:?}");
            one.ok(end);
            let answer = answer.or_else(|| two.go_on());
            let answer = answer.expect("nothing to wait for any more");
            assert!(!answer.contains("ERROR"), "{first}; {second}: {answer}");
            assert_eq!(one.rows(&diff(name, query)), "", "{first}; {second}; {end}");
        }
    }
}
