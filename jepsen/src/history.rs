//! The history file of a run: JSON lines, the first of which says how to play it again. The steps
//! of its clients can be written as EDN, too, for Elle and Knossos.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

/// How an operation began or ended, in Jepsen's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asked for.
    Invoke,
    /// Acknowledged.
    Ok,
    /// Certainly without effect.
    Fail,
    /// Unknown.
    Info,
}

impl Step {
    /// Jepsen's word.
    pub fn word(self) -> &'static str {
        match self {
            Step::Invoke => "invoke",
            Step::Ok => "ok",
            Step::Fail => "fail",
            Step::Info => "info",
        }
    }
}

/// A file that all tasks of a run write to; the order of lines is the order of events.
#[derive(Clone)]
pub struct History {
    began: Instant,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl History {
    /// A new file that begins with `header`.
    pub fn create(path: &Path, header: &Value) -> std::io::Result<History> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{header}")?;
        Ok(History {
            began: Instant::now(),
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// Microseconds since the run began.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// One step of a client's operation. Returns its time in microseconds since the run began.
    pub fn step(&self, process: u64, step: Step, what: &str, value: Value) -> u64 {
        let time = self.now();
        self.write(&json!({
            "time": time, "process": process, "type": step.word(), "f": what, "value": value,
        }));
        time
    }

    /// What the harness itself did or found.
    pub fn note(&self, what: &str, value: Value) {
        self.write(&json!({
            "time": self.now(), "process": "nemesis", "type": "info", "f": what, "value": value,
        }));
    }

    fn write(&self, line: &Value) {
        let mut file = self
            .file
            .lock()
            .expect("no task panics while it holds the history");
        // A full disk must not end a run whose findings are still in memory.
        if writeln!(file, "{line}").is_err() {
            eprintln!("history: a line could not be written");
        }
    }

    /// Everything to the file.
    pub fn flush(&self) {
        let mut file = self
            .file
            .lock()
            .expect("no task panics while it holds the history");
        if file.flush().is_err() {
            eprintln!("history: the end could not be written");
        }
    }
}

/// Writes the clients' steps of a history as EDN, one map a line, numbered, with nanoseconds.
pub fn write_edn(history: &Path, to: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(to)?);
    let mut index = 0;
    for line in BufReader::new(File::open(history)?).lines() {
        let step: Value = serde_json::from_str(&line?)?;
        let (Some(process), Some(time)) = (step["process"].as_u64(), step["time"].as_u64()) else {
            continue;
        };
        let word = |name: &str| step[name].as_str().unwrap_or("info").to_owned();
        // What came back stands beside its error.
        let value = match step["value"].get("value") {
            Some(value) => value,
            None => &step["value"],
        };
        writeln!(
            file,
            "{{:index {index}, :time {}, :process {process}, :type :{}, :f :{}, :value {}}}",
            time * 1_000,
            word("type"),
            word("f"),
            edn(value)
        )?;
        index += 1;
    }
    file.flush()
}

/// A JSON value as EDN. The first word of a list names an operation, and is a keyword.
fn edn(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(values) => {
            let one = |(at, value): (usize, &Value)| match value.as_str() {
                Some(word) if at == 0 => format!(":{word}"),
                _ => edn(value),
            };
            let all: Vec<String> = values.iter().enumerate().map(one).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(fields) => {
            let one = |(name, value): (&String, &Value)| {
                format!(":{} {}", name.replace(' ', "-"), edn(value))
            };
            let all: Vec<String> = fields.iter().map(one).collect();
            format!("{{{}}}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_edn_and_notes_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let (json, to) = (
            folder.path().join("run.jsonl"),
            folder.path().join("run.edn"),
        );
        let history = History::create(&json, &json!({ "line": "again" })).unwrap();
        history.step(
            3,
            Step::Invoke,
            "txn",
            json!([["append", 1, 2], ["r", 1, null]]),
        );
        history.note("kill", json!({ "node": 1 }));
        let value = json!([["append", 1, 2], ["r", 1, [2]]]);
        history.step(3, Step::Ok, "txn", json!({ "value": value, "error": null }));
        history.flush();
        write_edn(&json, &to).unwrap();
        let text = std::fs::read_to_string(to).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        let (head, tail) = lines[0].split_once(":process").unwrap();
        assert!(head.starts_with("{:index 0, :time "), "{head}");
        assert_eq!(
            tail,
            " 3, :type :invoke, :f :txn, :value [[:append 1 2] [:r 1 nil]]}"
        );
        assert!(lines[1].ends_with(":type :ok, :f :txn, :value [[:append 1 2] [:r 1 [2]]]}"));
    }
}
