//! The authorization matrix end to end: kinds of statements x who runs them x where the table is,
//! every cell computed from the rules and compared with the session's answer.

use crate::session::tests::Node;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Owner,
    Member,
    Reader,
    Granted,
    Column,
    Other,
    Superuser,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    /// SELECT on a granted column.
    Column,
    /// SELECT on all columns.
    All,
    /// A write: the owner's alone.
    Write,
    /// ALTER, DROP, GRANT...: the owner's alone, refused in other words.
    Own,
}

/// Statements over `{}`; each leaves the table as it was or runs in a block that rolls back.
const STATEMENTS: [(&str, Need); 24] = [
    ("SELECT id FROM {}", Need::Column),
    ("SELECT count(*) FROM {}", Need::Column),
    ("SELECT id FROM {} WHERE id = 1", Need::Column),
    (
        "WITH x AS (SELECT id FROM {}) SELECT * FROM x",
        Need::Column,
    ),
    ("EXPLAIN SELECT id FROM {}", Need::Column),
    ("SELECT * FROM {}", Need::All),
    ("SELECT id FROM {} WHERE hidden = 'x'", Need::All),
    ("SELECT 1 FROM {} ORDER BY hidden", Need::All),
    ("TABLE {}", Need::All),
    ("SELECT (SELECT max(hidden) FROM {})", Need::All),
    ("COPY {} TO STDOUT", Need::All),
    ("INSERT INTO {} VALUES (7, 'x')", Need::Write),
    ("INSERT INTO {} SELECT 8, 'x'", Need::Write),
    ("UPDATE {} SET hidden = 'y'", Need::Write),
    ("DELETE FROM {}", Need::Write),
    ("TRUNCATE {}", Need::Write),
    ("SELECT id FROM {} FOR UPDATE", Need::Write),
    ("ALTER TABLE {} ADD COLUMN more int", Need::Own),
    ("ALTER TABLE {} RENAME TO other", Need::Own),
    ("CREATE INDEX ON {} (hidden)", Need::Own),
    ("COMMENT ON TABLE {} IS 'x'", Need::Own),
    ("DROP TABLE {}", Need::Own),
    ("ALTER TABLE {} DROP COLUMN hidden", Need::Own),
    ("ALTER TABLE {} ADD CHECK (id > 0)", Need::Own),
];

fn expected(who: Who, need: Need, private: bool) -> Option<&'static str> {
    if matches!(who, Who::Owner | Who::Member | Who::Superuser) {
        return None;
    }
    if private || who == Who::Other {
        return Some("42P01");
    }
    match (who, need) {
        (Who::Reader, Need::Column | Need::All) => None,
        (Who::Column, Need::Column) => None,
        _ => Some("42501"),
    }
}

#[test]
fn every_statement_by_everybody() {
    let node = Node::new();
    let mut admin = node.client("postgres");
    for role in ["a", "member", "reader", "writer", "col", "other"] {
        admin.ok(&format!("CREATE ROLE {role} LOGIN"));
    }
    admin.ok("GRANT a TO member");
    let mut owner = node.client("a");
    for table in ["a.t", "public.t"] {
        owner.ok(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, hidden text)"
        ));
        owner.ok(&format!("INSERT INTO {table} VALUES (1, 'x')"));
        owner.ok(&format!("GRANT READ ON {table} TO reader"));
        owner.ok(&format!(
            "GRANT INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO writer"
        ));
        owner.ok(&format!("GRANT SELECT (id) ON {table} TO col"));
    }
    let whos = [
        (Who::Owner, "a"),
        (Who::Member, "member"),
        (Who::Reader, "reader"),
        (Who::Granted, "writer"),
        (Who::Column, "col"),
        (Who::Other, "other"),
        (Who::Superuser, "postgres"),
    ];
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (who, role) in whos {
        let mut client = node.client(role);
        for (statement, need) in STATEMENTS {
            for table in ["a.t", "public.t"] {
                let sql = statement.replace("{}", table);
                client.ok("BEGIN");
                let result = client.run(&sql);
                client.ok("ROLLBACK");
                let got = result.split_once("ERROR ").map(|(_, e)| &e[..5]);
                let want = expected(who, need, table == "a.t");
                let names_owner = result.contains("\"a\"");
                // The owner is named to who may read the table only.
                let may_name = want == Some("42501")
                    && matches!(who, Who::Reader | Who::Column)
                    && matches!(need, Need::Write | Need::Own);
                if got != want || names_owner != may_name {
                    wrong.push(format!("{who:?} {sql}: want {want:?}, got {result}"));
                }
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 7 * 24 * 2);
    assert!(
        wrong.is_empty(),
        "{} of {cells}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn one_transaction_writes_one_owner() {
    let node = Node::new();
    let mut admin = node.client("postgres");
    admin.ok("CREATE ROLE a LOGIN");
    admin.ok("CREATE ROLE b LOGIN");
    node.client("a").ok("CREATE TABLE t (i int)");
    node.client("b").ok("CREATE TABLE t (i int)");
    admin.ok("BEGIN");
    admin.ok("INSERT INTO a.t VALUES (1)");
    let result = admin.run("INSERT INTO b.t VALUES (1)");
    assert!(result.starts_with("ERROR 0A000"), "{result}");
    assert!(result.contains("HINT"), "{result}");
    admin.ok("ROLLBACK");
    admin.ok("INSERT INTO b.t VALUES (1)");
    assert_eq!(admin.rows("SELECT * FROM b.t"), "1");
}

#[test]
fn patterns_end_to_end() {
    let node = Node::new();
    let mut admin = node.client("postgres");
    admin.ok("CREATE ROLE orders LOGIN");
    admin.ok("CREATE ROLE billing LOGIN");
    let mut orders = node.client("orders");
    let mut billing = node.client("billing");
    orders.ok("CREATE TABLE public.order_v1 (id int PRIMARY KEY)");
    orders.ok("INSERT INTO public.order_v1 VALUES (1)");
    assert!(
        billing
            .run("SELECT * FROM order_v1")
            .starts_with("ERROR 42P01")
    );
    orders.ok("GRANT READ ON order_* TO billing");
    assert_eq!(billing.rows("SELECT * FROM order_v1"), "1");
    orders.ok("CREATE TABLE public.order_v2 (LIKE public.order_v1 INCLUDING ALL)");
    assert_eq!(billing.rows("SELECT count(*) FROM order_v2"), "0");
    assert_eq!(
        billing.rows("SELECT * FROM freehold.pattern_grants"),
        "orders|order_*|billing|{READ}"
    );
    orders.ok("REVOKE SELECT ON public.order_v1 FROM billing");
    assert!(orders.answer.notices[0].starts_with("WARNING: pattern \"order_*\" still grants"));
    let result = billing.run("INSERT INTO order_v1 VALUES (2)");
    assert!(result.starts_with("ERROR 42501"), "{result}");
    assert!(result.contains("\"orders\""), "{result}");
    orders.ok("REVOKE READ ON order_* FROM billing");
    assert!(
        billing
            .run("SELECT * FROM order_v1")
            .starts_with("ERROR 42P01")
    );
}
