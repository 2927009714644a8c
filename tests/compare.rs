//! SQL scripts, statement by statement, on Freehold and on a PostgreSQL 15 beside it: column names
//! and types, rows, command tags, the state of the transaction, and of every error and notice the
//! SQLSTATE, message, DETAIL, HINT and the objects it names must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::{
    Answer, Column, DATABASE, End, Failure, Oracle, Place, Program, SUPERUSER, Session, report,
};

/// Folders with scripts, from the workspace's. A script runs as an owner of its own name. A
/// statement ends with a semicolon at the end of a line, but for those in a body behind a line with
/// `$$` at its end; what stands on one line before it is sent as one query. `\c ROLE` goes on in a
/// session of that role, data of a COPY follows it up to `\.`.
const FOLDERS: [&str; 2] = ["tests/compare", "sql/tests/golden/scripts"];
/// Single scripts elsewhere.
const SCRIPTS: [&str; 1] = ["sql/src/ddl/tests/ddl.sql"];
/// Names one script (or several, by commas) to be run alone.
const ONLY: &str = "FREEHOLD_COMPARE";
/// No statement of these scripts has a right to take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What differs by nature: script, statement, reason. Each must differ, or the list is wrong.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "tables",
        "create schema c_tables;",
        "a role's private schema comes with it, so that making it is no error",
    ),
    (
        "tables",
        "create unlogged table unl (a int);",
        "a table is durable, which is said",
    ),
    (
        "tables",
        "create temp table tmp (a int);",
        "no temporary tables",
    ),
    (
        "tables",
        "create table late_pk (id int primary key deferrable);",
        "no key is checked later than row by row, which is said",
    ),
    (
        "tables",
        "create table late_unique (id int unique deferrable initially deferred);",
        "no key is checked later than row by row, which is said",
    ),
    (
        "tables",
        "alter table late add constraint late_both unique (id, a) deferrable;",
        "no key is checked later than row by row, which is said",
    ),
    (
        "sequences",
        "create temp view tv as select 1;",
        "no temporary views",
    ),
    (
        "sequences",
        "create materialized view mv as select 1 as a;",
        "a materialized view is made of a table",
    ),
    (
        "sequences",
        "insert into vv values (1, 2);",
        "views are read-only",
    ),
    (
        "projections",
        "create materialized view empty_one as select * from country with no data;",
        "nothing else would fill it",
    ),
    (
        "projections",
        "refresh materialized view concurrently wide;",
        "it is fresh",
    ),
    ("copies", "copy v from stdin;", "views are read-only"),
    (
        "copies",
        "copy t to '/tmp/nothing';",
        "no files of the server's",
    ),
    (
        "copies",
        "copy t from '/tmp/nothing';",
        "no files of the server's",
    ),
    (
        "refusals",
        "copy t from '/etc/passwd';",
        "no files of the server's",
    ),
    (
        "sessions",
        "prepare transaction 'x';",
        "no two-phase commit",
    ),
];

/// The type of rows without a type.
const RECORD: u32 = 2249;

/// One thing a script does.
#[derive(Debug)]
enum Step {
    /// Sends a query, and the data that its COPY asks for.
    Query(String, Option<Vec<u8>>),
    /// Goes on as this role.
    Connect(String),
}

/// The steps of a script.
fn steps(script: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut text = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        if let Some(role) = line.strip_prefix("\\c ") {
            steps.push(Step::Connect(role.to_owned()));
            continue;
        }
        if text.is_empty() && (line.is_empty() || line.starts_with("--")) {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        let body = text.split_once("$$\n").map(|(_, body)| body);
        let quoted = body.is_some_and(|body| !body.contains("$$"));
        if line.trim_end().ends_with(';') && !quoted {
            let query = std::mem::take(&mut text).trim_end().to_owned();
            let copies = query.to_lowercase();
            let data = (copies.starts_with("copy ") && copies.contains("from stdin"))
                .then(|| copy_data(&mut lines));
            steps.push(Step::Query(query, data));
        }
    }
    assert!(
        text.is_empty(),
        "the last statement has no semicolon: {text}"
    );
    steps
}

fn copy_data<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut data = String::new();
    for line in lines.take_while(|line| *line != "\\.") {
        data.push_str(line);
        data.push('\n');
    }
    data.into_bytes()
}

/// One server with the sessions of a script.
struct Side<'a> {
    place: &'a Place,
    sessions: BTreeMap<String, Session>,
    role: String,
}

impl<'a> Side<'a> {
    fn new(place: &'a Place, owner: &str) -> Side<'a> {
        place.add_owner(owner);
        if !place.freehold {
            // On Freehold an owner may make schemas.
            let grant = format!("GRANT CREATE ON DATABASE {DATABASE} TO {owner}");
            place.session(SUPERUSER).ok(&grant);
        }
        Side {
            place,
            sessions: BTreeMap::new(),
            role: owner.to_owned(),
        }
    }

    /// What the server says to a query, as text.
    fn said(&mut self, sql: &str, data: Option<&[u8]>) -> String {
        let session = self
            .sessions
            .entry(self.role.clone())
            .or_insert_with(|| self.place.session(&self.role));
        session.notices.clear();
        if let Some(data) = data {
            session.give_copy_data(data);
        }
        session.send(sql);
        match session.answers_within(PATIENCE) {
            Ok(Some(answers)) => shown(sql, session, &answers),
            broken => {
                self.sessions.remove(&self.role);
                format!("no answer: {broken:?}\n")
            }
        }
    }
}

/// Everything that must be the same.
fn shown(sql: &str, session: &Session, answers: &[Answer]) -> String {
    let mut text = String::new();
    for notice in &session.notices {
        text += &failure(notice);
    }
    for answer in answers {
        // PostgreSQL computes constants before it describes: what came before an error is chance.
        if answer.failure().is_none() {
            for column in answer.columns.iter().flatten() {
                text += &column_shown(column);
            }
            if !sql.to_lowercase().starts_with("explain") {
                text += &rows(sql, answer);
            }
        }
        match &answer.end {
            End::Tag(tag) => text += &format!("{tag}\n"),
            End::Empty => text += "(empty)\n",
            End::Suspended => text += "(suspended)\n",
            End::Failed(error) => text += &failure(error),
        }
    }
    text + &format!("[{}]\n", char::from(session.status))
}

fn column_shown(column: &Column) -> String {
    // Rows of a table have a type of their own on PostgreSQL, with a number of its own.
    let known = column.type_oid < 10_000 && column.type_oid != RECORD;
    let oid = if known { column.type_oid } else { 0 };
    format!("({} {oid} {})\n", column.name, column.type_modifier)
}

/// The rows: in order if one was asked for, sorted if not, for then SQL promises none.
fn rows(sql: &str, answer: &Answer) -> String {
    let value = |v: &Option<String>| v.clone().unwrap_or_else(|| "\\N".into());
    let mut lines: Vec<String> = answer
        .rows
        .iter()
        .map(|row| row.iter().map(value).collect::<Vec<_>>().join("|"))
        .collect();
    let lower = sql.to_lowercase();
    if lower.starts_with("copy") {
        // Where a message ends is the server's choice.
        return lines.concat() + "\n";
    }
    if !lower.contains("order by") && !lower.starts_with("fetch") {
        lines.sort();
    }
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", line.trim_end_matches('\n'));
        text
    })
}

fn failure(error: &Failure) -> String {
    let mut text = format!("{}: {} {}\n", error.severity, error.sqlstate, error.message);
    for (name, part) in [("DETAIL", &error.detail), ("HINT", &error.hint)] {
        if let Some(part) = part {
            text += &format!("{name}: {part}\n");
        }
    }
    // Schema, table, column, type and constraint.
    for letter in ['s', 't', 'c', 'd', 'n'] {
        if let Some(part) = error.others.get(&letter) {
            text += &format!("{letter}: {part}\n");
        }
    }
    text
}

/// The scripts by name.
fn scripts() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let only = std::env::var(ONLY).ok();
    let in_folders = FOLDERS.iter().flat_map(|folder| {
        std::fs::read_dir(root.join(folder))
            .unwrap_or_else(|e| panic!("{folder}: {e}"))
            .map(|entry| entry.expect("an entry").path())
    });
    let mut scripts = BTreeMap::new();
    for path in in_folders.chain(SCRIPTS.iter().map(|script| root.join(script))) {
        if path.extension().is_none_or(|e| e != "sql") {
            continue;
        }
        let name = path.file_stem().expect("a file").to_string_lossy();
        if only
            .as_ref()
            .is_some_and(|only| !only.split(',').any(|n| n == name))
        {
            continue;
        }
        let other = scripts.insert(name.clone().into_owned(), path.clone());
        assert!(other.is_none(), "two scripts {name}");
    }
    scripts
}

/// What a comparison found.
#[derive(Default)]
struct Found {
    compared: usize,
    differences: Vec<String>,
    excused: BTreeSet<usize>,
}

impl Found {
    fn run(&mut self, name: &str, path: &Path, oracle: &Place, program: &Place) {
        let script = std::fs::read_to_string(path).expect("the script");
        let owner = format!("c_{name}");
        let mut right = Side::new(oracle, &owner);
        let mut got = Side::new(program, &owner);
        for step in steps(&script) {
            match step {
                Step::Connect(role) => {
                    right.role.clone_from(&role);
                    got.role = role;
                }
                Step::Query(sql, data) => {
                    let right = right.said(&sql, data.as_deref());
                    let got = got.said(&sql, data.as_deref());
                    self.compare(name, &sql, &right, &got);
                }
            }
        }
    }

    fn compare(&mut self, name: &str, sql: &str, right: &str, got: &str) {
        self.compared += 1;
        if right == got {
            return;
        }
        let excuse = DIFFERENT
            .iter()
            .position(|&(script, statement, _)| script == name && statement == sql);
        match excuse {
            Some(at) => {
                self.excused.insert(at);
            }
            None => self.differences.push(format!(
                "==== {name}: {sql}\n---- PostgreSQL\n{right}---- Freehold\n{got}"
            )),
        }
    }
}

#[test]
fn sql_answers_as_postgresql() {
    let Some(oracle) = Oracle::start() else {
        return;
    };
    let program = Program::start();
    // Names and messages, not values, are what a superuser's session is for in these scripts.
    assert_eq!(program.place().session(SUPERUSER).value("SELECT 1"), "1");
    let mut found = Found::default();
    let scripts = scripts();
    for (name, path) in &scripts {
        found.run(name, path, oracle.place(), program.place());
    }
    report("statements compared", found.compared);
    let differences = &found.differences;
    assert!(
        differences.is_empty(),
        "{} of {} statements differ:\n{}",
        differences.len(),
        found.compared,
        differences.join("\n")
    );
    let stale: Vec<_> = (0..DIFFERENT.len())
        .filter(|at| !found.excused.contains(at) && scripts.contains_key(DIFFERENT[*at].0))
        .map(|at| DIFFERENT[at])
        .collect();
    assert!(stale.is_empty(), "these do not differ any more: {stale:?}");
}
