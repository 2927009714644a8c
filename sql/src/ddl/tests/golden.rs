//! Statements end to end, compared with what PostgreSQL 15 answered (`scripts/ddl.sh`).

use crate::session::tests::Node;

/// The answers of `ddl.txt` by statement, in the form of [`told`].
fn expected() -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut in_notice = false;
    for line in include_str!("ddl.txt").lines() {
        if line.starts_with("> ") {
            out.push(String::new());
            in_notice = false;
            continue;
        }
        let last = out.last_mut().expect("a mark comes first");
        let detail = line.starts_with("DETAIL:") || line.starts_with("HINT:");
        if line.starts_with("NOTICE:") || line.starts_with("WARNING:") {
            in_notice = true;
        } else if !detail && !line.starts_with("drop cascades to") {
            in_notice = false;
        }
        let more = detail || line.starts_with("drop cascades to");
        if in_notice && more {
            continue;
        }
        last.push_str(line.trim_end());
        last.push('\n');
    }
    out
}

/// The answer as psql prints it: notices, rows, tag or error.
fn told(node: &mut crate::session::tests::Client, sql: &str) -> String {
    let result = node.start(sql).unwrap_or_else(|| panic!("waits: {sql}"));
    let mut out = String::new();
    for notice in &node.answer.notices {
        let (severity, text) = notice.split_once(": ").expect("a severity");
        out.push_str(&format!("{severity}:  00000: {text}\n"));
    }
    for row in &node.answer.rows {
        let fields: Vec<&str> = row.iter().map(|f| f.as_deref().unwrap_or("")).collect();
        out.push_str(fields.join("|").trim_end());
        out.push('\n');
    }
    match result.strip_prefix("ERROR ") {
        Some(error) => {
            let error = error
                .replace(" DETAIL: ", "\nDETAIL:  ")
                .replace(" HINT: ", "\nHINT:  ");
            out.push_str(&format!("ERROR:  {error}\n"));
        }
        None if result.starts_with("SELECT") && node.answer.columns.is_empty() => {
            out.push_str(&result);
            out.push('\n');
        }
        None if node.answer.columns.is_empty() || !result.starts_with("SELECT") => {
            out.push_str(&result);
            out.push('\n');
        }
        None => {}
    }
    out
}

fn without_states(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once(":  ") {
            Some((severity @ ("NOTICE" | "WARNING"), rest)) => {
                let message = rest.split_once(": ").map_or(rest, |(_, m)| m);
                format!("{severity}:  {message}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn ddl_answers_as_postgresql() {
    let node = Node::new();
    let mut admin = node.client("postgres");
    admin.ok("CREATE ROLE a LOGIN");
    let mut client = node.client("a");
    let mut wrong = Vec::new();
    let script = include_str!("ddl.sql");
    let answers = expected();
    assert_eq!(script.lines().count(), answers.len());
    for (at, (sql, want)) in script.lines().zip(&answers).enumerate() {
        let got = without_states(&told(&mut client, sql));
        let want = without_states(want);
        if got != want {
            wrong.push(format!("{}: {sql}\n--- want\n{want}--- got\n{got}", at + 1));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        answers.len(),
        wrong.join("\n")
    );
}
