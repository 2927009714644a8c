//! One node in memory, and clients that speak the simple protocol to it.

use std::sync::Arc;

use storage::{GroupId, Local, ManualClock, MemoryStore, TableStore};

use crate::Error;
use crate::cluster::Cluster;
use crate::engine::{Engine, Limits, Parts, Random};
use crate::session::{Field, Login, Output, Session, Step, Waiting};

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

/// What a server would plug in.
#[derive(Default)]
pub(crate) struct Registered {
    pub relations: Vec<Arc<dyn crate::system::SystemRelation>>,
    pub functions: Vec<Arc<dyn crate::plan::SystemFunction>>,
}

/// A node with its clock in the test's hand.
pub(crate) struct Node {
    pub local: Arc<Local>,
    pub engine: Arc<Engine>,
    pub clock: Arc<ManualClock>,
}

impl Node {
    pub fn new() -> Node {
        Node::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Node {
        let clock = Arc::new(ManualClock::new(1_795_000_000_000_000));
        let store: Arc<dyn TableStore> = MemoryStore::new();
        Node::over(Local::new(store, clock.clone()), clock, limits, |_| {
            Registered::default()
        })
    }

    /// A node with relations and functions of its own, over a log that is remembered.
    pub fn journaled(register: impl FnOnce(&Arc<Local>) -> Registered) -> Node {
        let clock = Arc::new(ManualClock::new(1_795_000_000_000_000));
        let local = Local::journaled(MemoryStore::new(), clock.clone());
        Node::over(local, clock, Limits::default(), register)
    }

    fn over(
        local: Arc<Local>,
        clock: Arc<ManualClock>,
        limits: Limits,
        register: impl FnOnce(&Arc<Local>) -> Registered,
    ) -> Node {
        let cluster = crate::cluster::Alone::new(Arc::clone(local.groups()));
        let node = Node::among(local, clock, limits, cluster, register);
        let directory = node.local.lead(GroupId::DIRECTORY).expect("the directory");
        node.engine.load(directory.id()).expect("an empty catalog");
        node.engine.bootstrap(None).expect("the first entry");
        node
    }

    /// A node that holds nothing yet, and knows others through `cluster`.
    pub fn among(
        local: Arc<Local>,
        clock: Arc<ManualClock>,
        limits: Limits,
        cluster: Arc<dyn Cluster>,
        register: impl FnOnce(&Arc<Local>) -> Registered,
    ) -> Node {
        let node = Node::unread(local, clock, limits, cluster, register);
        node.local.groups().observe(node.engine.observer());
        node
    }

    /// The same groups as they are right after a start: no catalog is read.
    pub fn restarted(&self) -> Node {
        let cluster = crate::cluster::Alone::new(Arc::clone(self.local.groups()));
        let (local, clock) = (Arc::clone(&self.local), Arc::clone(&self.clock));
        let none = |_: &Arc<Local>| Registered::default();
        Node::unread(local, clock, Limits::default(), cluster, none)
    }

    fn unread(
        local: Arc<Local>,
        clock: Arc<ManualClock>,
        limits: Limits,
        cluster: Arc<dyn Cluster>,
        register: impl FnOnce(&Arc<Local>) -> Registered,
    ) -> Node {
        let Registered {
            relations,
            functions,
        } = register(&local);
        let engine = Engine::new(Parts {
            groups: Arc::clone(local.groups()),
            propose: local.clone(),
            cluster,
            clock: clock.clone(),
            random: Arc::new(Seeded(7.into())),
            relations,
            functions,
            settings: Vec::new(),
            limits,
        })
        .expect("an engine");
        Node {
            local,
            engine,
            clock,
        }
    }

    pub fn client(&self, user: &str) -> Client {
        let session = self.engine.session(&login(user));
        self.serve(session.unwrap_or_else(|e| panic!("{user}: {e:?}")))
    }

    /// A client that goes on here with what was exported elsewhere.
    pub fn resumed(&self, user: &str, exported: &[u8]) -> Client {
        let session = self.engine.resume(&login(user), exported);
        self.serve(session.unwrap_or_else(|e| panic!("{user}: {e:?}")))
    }

    fn serve(&self, mut session: Session) -> Client {
        session.give_room(true);
        Client {
            session,
            clock: Arc::clone(&self.clock),
            answer: Answer::default(),
            waiting: None,
            result: Vec::new(),
        }
    }

    /// The group of a role.
    pub fn group(&self, role: &str) -> GroupId {
        let catalog = self.engine.catalog();
        let role = catalog.find_role(role).expect("a role").id;
        catalog.group_of(role).expect("a group")
    }
}

fn login(user: &str) -> Login {
    Login {
        user: user.to_owned(),
        ..Login::default()
    }
}

/// What a client was sent.
#[derive(Default)]
pub(crate) struct Answer {
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
            let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
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
pub(crate) struct Client {
    pub session: Session,
    clock: Arc<ManualClock>,
    pub answer: Answer,
    waiting: Option<Waiting>,
    result: Vec<String>,
}

impl Client {
    /// Begins a query string. `None`: it waits.
    pub fn start(&mut self, sql: &str) -> Option<String> {
        assert!(self.waiting.is_none(), "the client waits");
        self.answer = Answer::default();
        self.result.clear();
        if let Err(error) = self.session.query(sql) {
            return Some(told(&error));
        }
        self.go_on()
    }

    /// Goes on if what was waited for has come.
    pub fn go_on(&mut self) -> Option<String> {
        self.go(usize::MAX)
    }

    /// As `start`, up to the first time that it waits for anything.
    pub fn begin(&mut self, sql: &str) -> Option<String> {
        self.answer = Answer::default();
        self.result.clear();
        if let Err(error) = self.session.query(sql) {
            return Some(told(&error));
        }
        self.go(1)
    }

    /// Goes on up to the next time that it waits for anything.
    pub fn go_a_bit(&mut self) -> Option<String> {
        self.go(1)
    }

    fn go(&mut self, waits_max: usize) -> Option<String> {
        let mut waits = 0;
        loop {
            if let Some(waiting) = self.waiting.take() {
                let now = storage::Clock::unix_micros(self.clock.as_ref());
                if !waiting.ready() && waiting.until().is_none_or(|until| now < until) {
                    self.waiting = Some(waiting);
                    return None;
                }
            }
            let step = self.session.next(&mut self.answer);
            self.session.give_room(matches!(step, Ok(Step::Heavy)));
            match step {
                Ok(Step::Done { tag }) => self.result.push(tag),
                Ok(Step::End) => break,
                Ok(Step::Wait(waiting)) => {
                    if waiting.rechecks() {
                        // Sees entries from now on.
                        waiting.on_ready(Box::new(|| ()));
                    }
                    self.waiting = Some(waiting);
                    waits += 1;
                    if waits >= waits_max {
                        return None;
                    }
                }
                Ok(Step::More | Step::Heavy) => {}
                Ok(Step::CopyOut { .. }) => self.answer.copying = true,
                Ok(Step::CopyIn { .. }) => return Some("COPY IN".to_owned()),
                Ok(Step::Elsewhere(group)) => return Some(format!("ELSEWHERE {group}")),
                Ok(Step::Suspended) => panic!("no row limit was given"),
                Err(error) => {
                    self.result.push(told(&error));
                    break;
                }
            }
        }
        self.session.report(&mut self.answer);
        self.session.idle();
        Some(self.result.join("; "))
    }

    /// What it waits for.
    pub fn waits(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// Calls the session whatever it waits for (the server was told of an interrupt).
    pub fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    /// Runs a query string that must not wait: its tags, or its error.
    pub fn run(&mut self, sql: &str) -> String {
        self.start(sql).unwrap_or_else(|| panic!("waits: {sql}"))
    }

    /// Runs a query string that must succeed.
    pub fn ok(&mut self, sql: &str) -> String {
        let result = self.run(sql);
        assert!(!result.contains("ERROR"), "{sql}: {result}");
        result
    }

    /// Runs a query: its rows as text, fields by `|`, rows by newline; or its error.
    pub fn rows(&mut self, sql: &str) -> String {
        let result = self.run(sql);
        if result.contains("ERROR") {
            return result;
        }
        self.shown()
    }

    /// The rows of the last answer.
    pub fn shown(&self) -> String {
        let field = |f: &Option<String>| f.clone().unwrap_or_else(|| "NULL".to_owned());
        let row = |r: &Vec<Option<String>>| r.iter().map(field).collect::<Vec<_>>().join("|");
        self.answer
            .rows
            .iter()
            .map(row)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Sends COPY data in portions, then CopyDone.
    pub fn copy(&mut self, data: &[u8], portion: usize) -> String {
        for part in data.chunks(portion) {
            match self.session.copy_data(part) {
                Ok(Step::More) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => return told(&error),
            }
        }
        loop {
            match self.session.copy_done(&mut self.answer) {
                Ok(Step::Wait(waiting)) if waiting.ready() => {}
                Ok(Step::Done { tag }) => break self.result.push(tag),
                Ok(other) => panic!("{other:?}"),
                Err(error) => return told(&error),
            }
        }
        self.go_on().expect("no wait")
    }
}

/// An error as the tests compare it.
pub fn told(error: &Error) -> String {
    let mut text = format!("ERROR {:?}: {error}", error.state());
    for (name, part) in [
        ("DETAIL", &error.0.detail),
        ("HINT", &error.0.hint),
        ("CONTEXT", &error.0.context),
    ] {
        if let Some(part) = part {
            text.push_str(&format!(" {name}: {part}"));
        }
    }
    text
}
