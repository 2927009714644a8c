//! What clients ask of the catalogs, end to end: psql's backslash commands and drivers'
//! introspection run without an error.

use crate::session::tests::{Client, Node};

fn client(node: &Node) -> Client {
    let mut admin = node.client("postgres");
    admin.ok("CREATE ROLE a LOGIN");
    let mut client = node.client("a");
    for parsed in crate::parse::parse(include_str!("golden/definitions.sql")).expect("it reads") {
        client.ok(&parsed.text);
    }
    client.ok("CREATE VIEW names AS SELECT id, name FROM customer");
    client.ok("CREATE SEQUENCE counter");
    client
}

/// Puts OIDs where `{name}` stands.
fn with_oids(client: &mut Client, sql: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("'{") {
        let Some((name, tail)) = after.split_once("}'") else {
            break;
        };
        out.push_str(before);
        if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            out.push_str(&format!(
                "'{}'",
                client.rows(&format!("SELECT '{name}'::regclass::oid"))
            ));
        } else {
            out.push_str(&format!("'{{{name}}}'"));
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[test]
fn psql_commands() {
    let node = Node::new();
    let mut client = client(&node);
    let mut failed = Vec::new();
    let mut count = 0;
    for statement in include_str!("golden/psql.sql")
        .split(";;\n")
        .filter(|s| !s.is_empty())
    {
        let sql = with_oids(&mut client, statement.trim());
        let result = client.run(&sql);
        count += 1;
        if result.contains("ERROR") {
            failed.push(format!("{result}\n    {}", sql.replace('\n', "\n    ")));
        }
    }
    assert!(count > 100, "{count}");
    assert!(
        failed.is_empty(),
        "{} of {count}:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}
