//! Replays SQL scripts against answers that were captured from PostgreSQL 15 (capture.sh): column
//! names, rows, tags, and of errors the SQLSTATE, the message and DETAIL.

mod node;

use std::fmt::Write as _;
use std::path::PathBuf;

use node::Node;

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scripts")
}

/// The statements of a script: each ends with a semicolon at the end of a line, but for those in a
/// body behind a line with `$$` at its end.
fn statements(script: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    for line in script.lines() {
        if line.starts_with("--") || line.is_empty() {
            continue;
        }
        current.push_str(line);
        current.push('\n');
        let body = current.split_once("$$\n").map(|(_, body)| body);
        let quoted = body.is_some_and(|body| !body.contains("$$"));
        if line.trim_end().ends_with(';') && !quoted {
            out.push(std::mem::take(&mut current));
        }
    }
    assert!(
        current.trim().is_empty(),
        "the last statement has no semicolon: {current}"
    );
    out
}

/// The captured answers, by statement.
fn answers(captured: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in captured.lines() {
        if line.starts_with("%%") {
            out.push(String::new());
        } else if let Some(last) = out.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    out
}

/// Runs one script; what differs.
fn replay(name: &str) -> String {
    let read = |extension: &str| {
        let path = scripts().join(format!("{name}.{extension}"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let (script, captured) = (read("sql"), read("out"));
    let (statements, answers) = (statements(&script), answers(&captured));
    assert_eq!(statements.len(), answers.len(), "{name}: capture it again");
    let node = Node::new();
    let mut client = node.client("postgres");
    let mut differences = String::new();
    for (statement, expected) in statements.iter().zip(&answers) {
        if std::env::var_os("GOLDEN_ECHO").is_some() {
            eprintln!("{name}: {statement}");
        }
        let actual = client.psql(statement);
        if actual != *expected {
            let _ = writeln!(
                differences,
                "==== {name}: {statement}---- PostgreSQL\n{expected}---- Freehold\n{actual}"
            );
        }
    }
    differences
}

macro_rules! golden {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            let differences = replay(stringify!($name));
            assert!(differences.is_empty(), "\n{differences}");
        })*

        #[test]
        fn every_script_is_replayed() {
            let mut found: Vec<String> = std::fs::read_dir(scripts())
                .expect("the scripts' folder")
                .filter_map(|entry| {
                    let path = entry.expect("an entry").path();
                    (path.extension()? == "sql")
                        .then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
                })
                .collect();
            found.sort();
            let mut named = vec![$(stringify!($name).to_owned()),*];
            named.sort();
            assert_eq!(found, named);
        }
    };
}

golden! {
    aggregates,
    conflict,
    constraints,
    ctes,
    dml,
    drivers,
    errors,
    expressions,
    foreign_keys,
    functions_in_from,
    grouping,
    indexes,
    joins,
    plpgsql,
    select,
    set_operations,
    subqueries,
    triggers,
    windows,
}
