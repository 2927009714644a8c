//! What a stopped node's folder holds, by the program's own `dump` commands: the log of each group,
//! and the tables.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio_postgres::types::PgLsn;

use crate::error::{Error, Result};

/// Rows up to this length are kept as text; of longer ones a hash will do.
const TEXT_MAX: usize = 300;

/// A group of a node.
#[derive(Debug, Default)]
pub struct Log {
    /// Everything up to here is committed and applied: the node has made a checkpoint of it.
    pub certain: u64,
    /// Records by index, as the last ones written.
    pub records: BTreeMap<u64, Record>,
}

/// One record of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `entry`, `part` or `raft`.
    pub kind: String,
    /// Its Raft term.
    pub term: u64,
    /// Its position.
    pub position: u64,
    /// The position of the entry that it was computed on.
    pub prev: u64,
    /// Its transaction.
    pub tx: u64,
    /// How many parts went before the entry.
    pub parts: u64,
    /// What it does, as far as nothing of it was erased.
    pub changes: Vec<Change>,
    /// How many of its images were erased: each node does so by itself.
    pub erased: u64,
}

impl Record {
    /// Is it the same record, as far as both still say what it does?
    pub fn is_like(&self, other: &Record) -> bool {
        let common = |one: &Record, other: &Record| Record {
            changes: match one.erased + other.erased {
                0 => one.changes.clone(),
                _ => one.shared(other),
            },
            erased: 0,
            ..one.clone()
        };
        common(self, other) == common(other, self)
    }

    /// The changes that the other one has, too, by their numbers.
    fn shared(&self, other: &Record) -> Vec<Change> {
        let is_there = |change: &&Change| other.changes.iter().any(|of| of.seq == change.seq);
        self.changes.iter().filter(is_there).cloned().collect()
    }
}

/// One change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number in the transaction.
    pub seq: u64,
    /// Which table.
    pub table: String,
    /// Which row.
    pub key: String,
    /// The row from now on, `None` if it goes.
    pub row: Option<Content>,
}

/// A row's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Of its text.
    pub hash: u64,
    /// The row, if it is short.
    pub row: Option<Value>,
}

impl Content {
    fn of(row: &Value) -> Content {
        let text = row.to_string();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Content {
            hash: hasher.finish(),
            row: (text.len() <= TEXT_MAX).then(|| row.clone()),
        }
    }
}

/// Tables by group and name: hashes of rows by key.
pub type Tables = BTreeMap<(u64, String), BTreeMap<String, u64>>;

/// The logs of all groups of a stopped node.
pub fn logs(program: &Path, folder: &Path) -> Result<BTreeMap<u64, Log>> {
    let mut reader = Reader::default();
    dump(program, folder, &["journal", "--changes"], |line| {
        reader.read(line)
    })?;
    let mut logs = reader.logs;
    dump(program, folder, &["raft"], |line| {
        if let Some(log) = logs.get_mut(&number(line, "group")) {
            log.certain = number(line, "checkpoint_index");
        }
    })?;
    Ok(logs)
}

/// The tables of a stopped node.
pub fn tables(program: &Path, folder: &Path) -> Result<Tables> {
    let mut tables = Tables::new();
    let mut rows: HashMap<String, BTreeMap<String, u64>> = HashMap::new();
    dump(program, folder, &["tables", "--rows"], |line| {
        let name = words(line, "name");
        match line.get("key").and_then(Value::as_str) {
            Some(key) => {
                let hash = Content::of(&line["row"]).hash;
                rows.entry(name).or_default().insert(key.to_owned(), hash);
            }
            // The rows of a table go before the line that sums it up.
            None => {
                let rows = rows.remove(&name).unwrap_or_default();
                tables.insert((number(line, "group"), name), rows);
            }
        }
    })?;
    Ok(tables)
}

/// Takes a journal's lines in their order.
#[derive(Default)]
struct Reader {
    logs: BTreeMap<u64, Log>,
    /// To which record the next changes belong.
    at: Option<(u64, u64)>,
}

impl Reader {
    fn read(&mut self, line: &Value) {
        if let Some(kind) = line.get("kind").and_then(Value::as_str) {
            let (group, index) = (number(line, "group"), number(line, "index"));
            self.at = None;
            match kind {
                "entry" | "part" | "raft" => {
                    let log = self.logs.entry(group).or_default();
                    log.records.insert(index, record(kind, line));
                    self.at = Some((group, index));
                }
                "truncate" => {
                    let log = self.logs.entry(group).or_default();
                    drop(log.records.split_off(&index));
                }
                _ => {}
            }
            return;
        }
        let record = self.at.and_then(|(group, index)| {
            let log = self.logs.get_mut(&group)?;
            log.records.get_mut(&index)
        });
        // Events have a name and no key.
        if let (Some(record), Some(key)) = (record, line.get("key")) {
            record.changes.push(Change {
                seq: number(line, "seq"),
                table: words(line, "table"),
                key: key.as_str().unwrap_or("").to_owned(),
                row: line.get("new").map(Content::of),
            });
        }
    }
}

fn record(kind: &str, line: &Value) -> Record {
    Record {
        kind: kind.to_owned(),
        term: number(line, "term"),
        position: place(line, "position"),
        prev: place(line, "prev"),
        tx: number(line, "tx"),
        parts: number(line, "parts"),
        erased: number(line, "erased"),
        changes: Vec::new(),
    }
}

fn number(line: &Value, name: &str) -> u64 {
    line.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn words(line: &Value, name: &str) -> String {
    let text = line.get(name).and_then(Value::as_str);
    text.unwrap_or("").to_owned()
}

fn place(line: &Value, name: &str) -> u64 {
    let text = line.get(name).and_then(Value::as_str).unwrap_or("0/0");
    text.parse::<PgLsn>().map_or(0, u64::from)
}

/// Runs `freehold dump` and gives its lines one by one.
fn dump(program: &Path, folder: &Path, what: &[&str], mut each: impl FnMut(&Value)) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("dump").args(what).args(["--format", "json"]);
    command.arg("--data").arg(folder);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = child.stdout.take().expect("the command above pipes it");
    for line in BufReader::new(out).lines() {
        let line = line?;
        match serde_json::from_str(&line) {
            Ok(value) => each(&value),
            Err(error) => return Err(Error::Victim(format!("dump said {line:?}: {error}"))),
        }
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let (what, folder) = (what.join(" "), folder.display());
    Err(Error::Victim(format!(
        "freehold dump {what} of {folder}: {status}"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_truncated_tail_gives_way_to_what_is_written_after_it() {
        let mut reader = Reader::default();
        let entry = |index: u64, term: u64| json!({"kind": "entry", "group": 1, "index": index, "term": term});
        let change = |id: i64| json!({"seq": 1, "op": "insert", "table": "a.t", "key": "01", "new": {"id": id}});
        let lines = [
            entry(1, 1),
            change(7),
            entry(2, 1),
            change(8),
            json!({"kind": "truncate", "group": 1, "index": 2, "term": 0}),
            json!({"kind": "vote", "group": 1, "index": 0, "term": 2}),
            json!({"kind": "raft", "group": 1, "index": 2, "term": 2}),
            entry(3, 2),
            json!({"seq": 2, "op": "event", "name": "x", "payload": ""}),
            change(9),
        ];
        lines.iter().for_each(|line| reader.read(line));
        let records = &reader.logs[&1].records;
        let terms: Vec<(u64, u64)> = records.iter().map(|(i, r)| (*i, r.term)).collect();
        assert_eq!(terms, [(1, 1), (2, 2), (3, 2)]);
        assert_eq!(records[&2].changes, []);
        assert_eq!(records[&3].changes.len(), 1);
        assert_eq!(
            records[&3].changes[0].row,
            Some(Content::of(&json!({"id": 9})))
        );
    }
}
