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
