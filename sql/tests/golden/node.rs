//! One node in memory and a client that prints answers as psql does.

use std::sync::Arc;

use storage::{GroupId, Local, ManualClock, MemoryStore, TableStore};

use sql::Error;
use sql::engine::{Engine, Limits, Parts, Random};
use sql::session::{Field, Login, Output, Session, Step, Waiting};

/// SplitMix64 from a fixed seed.
struct Seeded(std::sync::atomic::AtomicU64);

impl Random for Seeded {
    fn bits(&self) -> u64 {
        let mut z = self
            .0
            .fetch_add(0x9E37_79B9_7F4A_7C15, std::sync::atomic::Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A node whose clock stands still.
pub struct Node {
    engine: Arc<Engine>,
}

impl Node {
    pub fn new() -> Node {
        Node::with(Limits::default())
    }

    fn with(limits: Limits) -> Node {
        let clock = Arc::new(ManualClock::new(1_795_000_000_000_000));
        let store: Arc<dyn TableStore> = MemoryStore::new();
        let local = Local::new(store, clock.clone());
        let engine = Engine::new(Parts {
            groups: Arc::clone(local.groups()),
            propose: local.clone(),
            cluster: sql::cluster::Alone::new(Arc::clone(local.groups())),
            clock,
            random: Arc::new(Seeded(7.into())),
            relations: Vec::new(),
            functions: Vec::new(),
            settings: Vec::new(),
            limits,
        })
        .expect("an engine");
        local.groups().observe(engine.observer());
        local.lead(GroupId::DIRECTORY).expect("the directory");
        engine.load(GroupId::DIRECTORY).expect("an empty catalog");
        engine.bootstrap(None).expect("the first entry");
        Node { engine }
    }

    pub fn client(&self, user: &str) -> Client {
        let login = Login {
            user: user.to_owned(),
            ..Login::default()
        };
        let mut session = self
            .engine
            .session(&login)
            .unwrap_or_else(|e| panic!("{user}: {e:?}"));
        session.give_room(true);
        Client {
            session,
            answer: Answer::default(),
            waiting: None,
        }
    }
}

/// What a client was sent.
#[derive(Default)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    pub copied: Vec<u8>,
    pub notices: Vec<String>,
    pub parameters: Vec<(String, String)>,
    copying: bool,
}

impl Output for Answer {
    fn columns(&mut self, fields: &[Field]) {
        self.columns = fields.iter().map(|f| f.name.clone()).collect();
    }

    fn row(&mut self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut body = Vec::new();
        write(&mut body);
        if self.copying {
            self.copied.extend(body);
            return;
        }
        let mut rest = &body[2..];
        let mut row = Vec::new();
        for _ in 0..i16::from_be_bytes([body[0], body[1]]) {
            let length = i32::from_be_bytes(rest[..4].try_into().expect("a message has a length"));
            rest = &rest[4..];
            match usize::try_from(length) {
                Err(_) => row.push(None),
                Ok(length) => {
                    row.push(Some(String::from_utf8_lossy(&rest[..length]).into_owned()));
                    rest = &rest[length..];
                }
            }
        }
        self.rows.push(row);
    }

    fn notice(&mut self, severity: &'static str, notice: &Error) {
        self.notices.push(format!("{severity}: {notice}"));
    }

    fn parameter(&mut self, name: &str, value: &str) {
        self.parameters.push((name.to_owned(), value.to_owned()));
    }

    fn full(&self) -> bool {
        false
    }
}

/// A client whose statements can be left waiting.
pub struct Client {
    pub session: Session,
    pub answer: Answer,
    waiting: Option<Waiting>,
}

impl Client {
    /// Runs one statement and prints its answer as `psql -A` does.
    pub fn psql(&mut self, sql: &str) -> String {
        self.answer = Answer::default();
        let mut out = String::new();
        if let Err(error) = self.session.query(sql) {
            return told(&error);
        }
        loop {
            if let Some(waiting) = self.waiting.take() {
                assert!(waiting.ready(), "waits: {sql}");
            }
            match self.session.next(&mut self.answer) {
                Ok(Step::Done { tag }) => {
                    self.show(&mut out);
                    if !tag.starts_with("SELECT") {
                        out.push_str(&tag);
                        out.push('\n');
                    }
                }
                Ok(Step::End) => break,
                Ok(Step::Wait(waiting)) => self.waiting = Some(waiting),
                Ok(Step::More) => {}
                Ok(other) => panic!("{sql}: {other:?}"),
                Err(error) => {
                    // psql prints an answer when it is whole.
                    self.answer = Answer::default();
                    out.push_str(&told(&error));
                    break;
                }
            }
        }
        self.session.report(&mut self.answer);
        self.session.idle();
        out
    }

    fn show(&mut self, out: &mut String) {
        let answer = std::mem::take(&mut self.answer);
        if answer.columns.is_empty() && answer.rows.is_empty() {
            return;
        }
        out.push_str(&answer.columns.join("|"));
        out.push('\n');
        if answer.columns.is_empty() {
            return;
        }
        for row in answer.rows {
            let fields: Vec<String> = row
                .into_iter()
                .map(|field| field.unwrap_or_else(|| "\\N".to_owned()))
                .collect();
            out.push_str(&fields.join("|"));
            out.push('\n');
        }
    }
}

/// An error as psql prints it with SQLSTATE.
fn told(error: &Error) -> String {
    let mut text = format!("ERROR:  {}: {error}\n", error.state().as_str());
    if let Some(detail) = &error.0.detail {
        text.push_str(&format!("DETAIL:  {detail}\n"));
    }
    text
}
