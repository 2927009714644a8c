//! The history file of a run: JSON lines, the first of which says how to play it again.

use std::fs::File;
use std::io::{BufWriter, Write};
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
