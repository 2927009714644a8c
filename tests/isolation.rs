//! Interleavings of two and three connections at every isolation level, step by step on Freehold
//! and on a PostgreSQL 15 beside it: who waits, who goes on, who fails and with what, and what is
//! there in the end. What differs must be listed as stronger, with the reason.

mod scripts;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tests::{Answer, End, Oracle, Place, Program, SUPERUSER, Session, report};

use self::scripts::{SCRIPTS, STRONGER, Script, Than};

/// The owner of the tables.
const OWNER: &str = "isolated";
/// No step may take longer, whoever it waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a step that may wait.
const LOOK: Duration = Duration::from_millis(2);
const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// The steps with their sessions.
fn steps(script: &Script) -> Vec<(u32, &'static str)> {
    let step = |line: &'static str| {
        let (session, statement) = line
            .trim()
            .split_once(' ')
            .expect("a session and a statement");
        (session.parse().expect("a number"), statement)
    };
    script.steps.lines().map(step).collect()
}

/// The same without interleaving: each session does all that it has to do before the next one.
fn one_after_the_other(steps: &[(u32, &'static str)]) -> Vec<(u32, &'static str)> {
    let mut serial = steps.to_vec();
    serial.sort_by_key(|(session, _)| *session);
    serial
}

/// Some sessions of one server, and one that looks at who waits.
struct Stage<'a> {
    place: &'a Place,
    sessions: BTreeMap<u32, Session>,
    waiting: BTreeMap<u32, &'static str>,
    /// Sets up and looks at the end.
    observer: Session,
    /// Sees every lock.
    watcher: Session,
    transcript: Vec<String>,
}

impl<'a> Stage<'a> {
    fn new(place: &'a Place, setup: &str) -> Stage<'a> {
        let mut observer = place.session(OWNER);
        let tables = observer
            .rows("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1");
        for table in tables {
            observer.ok(&format!("DROP TABLE {table} CASCADE"));
        }
        for statement in setup.split(';') {
            observer.ok(statement);
        }
        Stage {
            place,
            sessions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            observer,
            watcher: place.session(SUPERUSER),
            transcript: Vec::new(),
        }
    }

    /// Sends a statement and notes its answer, or that it waits.
    fn step(&mut self, number: u32, sql: &'static str, level: &str) {
        // A session says one thing after the other.
        if self.waiting.contains_key(&number) {
            self.finish(number);
        }
        let place = self.place;
        let session = self
            .sessions
            .entry(number)
            .or_insert_with(|| place.session(OWNER));
        if sql == "BEGIN" {
            session.send(&format!("BEGIN ISOLATION LEVEL {level}"));
        } else {
            session.send(sql);
        }
        self.waiting.insert(number, sql);
        if !self.settle(number) {
            self.transcript.push(format!("{number} {sql}: waits"));
        }
        // Whoever was let go on has an answer now.
        let others: Vec<u32> = self
            .waiting
            .keys()
            .copied()
            .filter(|n| *n != number)
            .collect();
        for other in others {
            self.settle(other);
        }
    }

    /// Looks until a statement has its answer (true) or waits for a lock (false).
    fn settle(&mut self, number: u32) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let session = self.sessions.get_mut(&number).expect("it was opened");
            let answers = session.answers_within(LOOK).expect("the connection stands");
            if let Some(answers) = answers {
                let sql = self.waiting.remove(&number).expect("it was sent");
                let said: Vec<String> = answers.iter().map(shown).collect();
                self.transcript
                    .push(format!("{number} {sql}: {}", said.join("; ")));
                return true;
            }
            let process = session.process;
            let waits = self.watcher.value(&format!(
                "SELECT count(*) > 0 FROM pg_locks WHERE pid = {process} AND NOT granted"
            ));
            if waits == "t" {
                return false;
            }
            assert!(
                Instant::now() < deadline,
                "{number} neither waits nor answers"
            );
        }
    }

    /// Waits for the answer of a statement that waited.
    fn finish(&mut self, number: u32) {
        let deadline = Instant::now() + PATIENCE;
        while !self.settle(number) {
            assert!(
                Instant::now() < deadline,
                "{number} waits for ever; so far:\n{}",
                self.transcript.join("\n")
            );
        }
    }

    fn end(mut self, check: &str) -> Vec<String> {
        let open: Vec<u32> = self.waiting.keys().copied().collect();
        for number in open {
            self.finish(number);
        }
        self.sessions.clear();
        let end = self.observer.run(check);
        self.transcript.push(format!("in the end: {}", shown(&end)));
        self.transcript
    }
}

/// Rows and tag, or the error's SQLSTATE and message.
fn shown(answer: &Answer) -> String {
    let value = |v: &Option<String>| v.clone().unwrap_or_else(|| "NULL".into());
    let rows: Vec<String> = answer
        .rows
        .iter()
        .map(|row| row.iter().map(value).collect::<Vec<_>>().join("|"))
        .collect();
    match &answer.end {
        End::Tag(tag) if rows.is_empty() => tag.clone(),
        End::Tag(_) => format!("[{}]", rows.join(", ")),
        // Why a transaction can't be serialized is told in many ways.
        End::Failed(error) if error.sqlstate == "40001" => "40001".to_owned(),
        End::Failed(error) => format!("{} {}", error.sqlstate, error.message),
        End::Empty | End::Suspended => String::new(),
    }
}

fn play(place: &Place, script: &Script, steps: &[(u32, &'static str)], level: &str) -> Vec<String> {
    let mut stage = Stage::new(place, script.setup);
    for (number, sql) in steps {
        stage.step(*number, sql, level);
    }
    stage.end(script.check)
}

/// Both servers with the owner of the tables.
fn servers() -> Option<(Oracle, Program)> {
    let oracle = Oracle::start()?;
    let program = Program::start();
    oracle.place().add_owner(OWNER);
    program.place().add_owner(OWNER);
    Some((oracle, program))
}

#[test]
fn interleavings_end_as_on_postgresql_or_stronger() {
    let Some((oracle, program)) = servers() else {
        return;
    };
    let mut wrong = Vec::new();
    let mut stronger = Vec::new();
    for script in SCRIPTS {
        for level in LEVELS {
            let steps = steps(script);
            let right = play(oracle.place(), script, &steps, level);
            let got = play(program.place(), script, &steps, level);
            if right == got {
                continue;
            }
            let listed = STRONGER
                .iter()
                .position(|(name, at, ..)| *name == script.name && *at == level);
            let refused = got.iter().any(|line| line.contains("40001"));
            match listed {
                Some(at) if (STRONGER[at].2 == Than::Stricter) == refused => stronger.push(at),
                _ => wrong.push(format!(
                    "==== {} at {level}\n-- PostgreSQL\n{}\n-- Freehold\n{}",
                    script.name,
                    right.join("\n"),
                    got.join("\n")
                )),
            }
        }
    }
    report("interleavings compared", SCRIPTS.len() * LEVELS.len());
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(
        stronger.len(),
        STRONGER.len(),
        "the list names what is the same"
    );
}

#[test]
fn what_comes_one_after_the_other_commits() {
    let Some((oracle, program)) = servers() else {
        return;
    };
    for script in SCRIPTS {
        for level in LEVELS {
            let steps = one_after_the_other(&steps(script));
            let right = play(oracle.place(), script, &steps, level);
            let got = play(program.place(), script, &steps, level);
            assert_eq!(right, got, "{} at {level}", script.name);
            let unfit = |line: &&String| line.contains("40001") || line.contains("waits");
            assert_eq!(got.iter().find(unfit), None, "{} at {level}", script.name);
        }
    }
}

/// PostgreSQL's table of conflicting row locks: by strength held, the strengths that wait.
const STRENGTHS: [&str; 4] = ["KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"];

fn conflicts(held: usize, wanted: usize) -> bool {
    // Chapter 13.3.2: they conflict when their places add up to three or more.
    held + wanted >= 3
}

#[test]
fn row_locks_conflict_as_on_postgresql() {
    let Some((oracle, program)) = servers() else {
        return;
    };
    for place in [oracle.place(), program.place()] {
        let mut setup = place.session(OWNER);
        setup.ok("CREATE TABLE t (id int PRIMARY KEY, n int)");
        setup.ok("INSERT INTO t VALUES (1, 10), (2, 20)");
        let mut holder = place.session(OWNER);
        let mut asker = place.session(OWNER);
        for (held, held_name) in STRENGTHS.iter().enumerate() {
            for (wanted, wanted_name) in STRENGTHS.iter().enumerate() {
                let pair = format!("{held_name} held, {wanted_name} wanted");
                holder.ok("BEGIN");
                holder.ok(&format!("SELECT n FROM t WHERE id = 1 FOR {held_name}"));
                let select = format!("SELECT id FROM t ORDER BY id FOR {wanted_name}");
                let answer = asker.run(&format!("{select} NOWAIT"));
                let skipped = asker.rows(&format!("{select} SKIP LOCKED"));
                if conflicts(held, wanted) {
                    let refused = answer.failure().unwrap_or_else(|| panic!("{pair}"));
                    assert_eq!(refused.sqlstate, "55P03", "{pair}");
                    assert_eq!(
                        refused.message, "could not obtain lock on row in relation \"t\"",
                        "{pair}"
                    );
                    assert_eq!(skipped, ["2"], "{pair}");
                } else {
                    assert_eq!(answer.failure(), None, "{pair}");
                    assert_eq!(skipped, ["1", "2"], "{pair}");
                }
                holder.ok("ROLLBACK");
                assert_eq!(
                    asker.rows(&format!("{select} NOWAIT")),
                    ["1", "2"],
                    "{pair}"
                );
            }
        }
    }
}

#[test]
fn one_of_a_deadlock_is_told_and_the_other_goes_on() {
    let Some((oracle, program)) = servers() else {
        return;
    };
    for place in [oracle.place(), program.place()] {
        for rows in [2_usize, 3] {
            let mut setup = place.session(OWNER);
            setup.ok("DROP TABLE IF EXISTS t");
            setup.ok("CREATE TABLE t (id int PRIMARY KEY, n int)");
            setup.ok(&format!(
                "INSERT INTO t SELECT g, 0 FROM generate_series(1, {rows}) g"
            ));
            let mut sessions: Vec<Session> = (0..rows).map(|_| place.session(OWNER)).collect();
            for (at, session) in sessions.iter_mut().enumerate() {
                session.ok("BEGIN");
                session.ok(&format!("UPDATE t SET n = n + 1 WHERE id = {}", at + 1));
            }
            // Each wants the row of the next one: a ring.
            for (at, session) in sessions.iter_mut().enumerate() {
                session.send(&format!(
                    "UPDATE t SET n = n + 1 WHERE id = {}",
                    (at + 1) % rows + 1
                ));
            }
            // One is refused and gives way; the others come through in some order.
            let deadline = Instant::now() + PATIENCE;
            let mut open: Vec<usize> = (0..rows).collect();
            let mut victims = 0;
            while !open.is_empty() {
                assert!(Instant::now() < deadline, "the ring stands");
                open.retain(|at| {
                    let session = &mut sessions[*at];
                    let Some(answers) = session.answers_within(LOOK).unwrap() else {
                        return true;
                    };
                    if answers[0].failure().is_some() {
                        assert_eq!(answers[0].sqlstate(), "40P01", "{}", answers[0].text());
                        victims += 1;
                        session.ok("ROLLBACK");
                    } else {
                        session.ok("COMMIT");
                    }
                    false
                });
            }
            assert_eq!(victims, 1, "{rows} sessions");
            let sum = (2 * (rows - 1)).to_string();
            assert_eq!(setup.value("SELECT sum(n) FROM t"), sum);
        }
    }
}

#[test]
fn timeouts_end_waiting_and_nothing_else() {
    let Some((oracle, program)) = servers() else {
        return;
    };
    let mut answers = Vec::new();
    for place in [oracle.place(), program.place()] {
        let mut holder = place.session(OWNER);
        holder.ok("CREATE TABLE t (id int PRIMARY KEY, n int)");
        holder.ok("INSERT INTO t VALUES (1, 10)");
        holder.ok("BEGIN");
        holder.ok("UPDATE t SET n = 11");
        let mut waiter = place.session(OWNER);
        let mut said = Vec::new();
        for (setting, statement) in [
            ("lock_timeout = '30ms'", "UPDATE t SET n = 12"),
            ("lock_timeout = '30ms'", "SELECT n FROM t FOR SHARE"),
            ("lock_timeout = '30ms'", "ALTER TABLE t ADD COLUMN more int"),
            ("statement_timeout = '30ms'", "UPDATE t SET n = 12"),
            ("statement_timeout = '30ms'", "SELECT pg_sleep(600)"),
        ] {
            waiter.ok("BEGIN");
            waiter.ok(&format!("SET LOCAL {setting}"));
            let failure = waiter.fail(statement);
            said.push(format!(
                "{setting}: {statement}: {} {}",
                failure.sqlstate, failure.message
            ));
            assert_eq!(waiter.status, b'E');
            waiter.ok("ROLLBACK");
        }
        // A reader waits for nobody, and what ended left no lock.
        waiter.ok("SET lock_timeout = '30ms'");
        said.push(waiter.value("SELECT n FROM t"));
        holder.ok("COMMIT");
        said.push(waiter.ok("UPDATE t SET n = n + 1").tag().to_owned());
        said.push(waiter.value("SELECT n FROM t"));
        answers.push(said);
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn who_waits_and_for_whom_is_shown() {
    let Some((_, program)) = servers() else {
        return;
    };
    let place = program.place();
    let mut holder = place.session(OWNER);
    holder.ok("CREATE TABLE t (id int PRIMARY KEY, n int)");
    holder.ok("INSERT INTO t VALUES (1, 10)");
    holder.ok("BEGIN");
    holder.ok("UPDATE t SET n = 11");
    let mut waiter = place.session(OWNER);
    waiter.ok("SET application_name = 'the waiter'");
    waiter.send("UPDATE t SET n = 12");
    let mut observer = place.session(OWNER);
    let waits = "SELECT pid, wait_event_type, state FROM pg_stat_activity \
                 WHERE application_name = 'the waiter'";
    let deadline = Instant::now() + PATIENCE;
    let wanted = format!("{}|Lock|active", waiter.process);
    while observer.rows(waits) != [wanted.clone()] {
        assert!(Instant::now() < deadline, "{:?}", observer.rows(waits));
    }
    let locks = format!(
        "SELECT count(*) FROM pg_locks WHERE pid = {} AND NOT granted",
        waiter.process
    );
    assert_eq!(observer.value(&locks), "1");
    holder.ok("COMMIT");
    let answers = waiter
        .answers_within(PATIENCE)
        .unwrap()
        .expect("it goes on");
    assert_eq!(answers[0].tag(), "UPDATE 1");
    assert_eq!(observer.value(&locks), "0");
}
