//! Commands between owners: two senders send into a third owner's inbox, with rows of their own and
//! alone; consumers move what has come into the receiver's own table, and answer some of it. A fourth owner
//! follows that table, and its trigger notes each row of it. Whatever fails, each command takes effect once, in
//! the order of its sender, and each trigger runs once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Marks, Workload, create_owners, too_few};
use crate::check::books::End;
use crate::check::commands::{Fate, Found, Letters, Sending, Side, wants_reply};
use crate::error::Result;
use crate::field::Field;
use crate::finding::Kind as FindingKind;
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, Texts, integer, text};
use crate::options::Options;
use crate::victim::Kind;

/// Who send, and who receives.
const OWNERS: [&str; 4] = ["shop", "till", "orders", "audit"];
const SENDERS: [&str; 2] = [OWNERS[0], OWNERS[1]];
const RECEIVER: &str = OWNERS[2];

/// Who follows the receiver's table.
const READER: &str = OWNERS[3];

/// Clients that send, if nobody says how many.
const CLIENTS: u32 = 12;

/// Those who move what has come.
const CONSUMERS: u64 = 2;

/// The key that is always taken: consumers leave its command where it is.
const TAKEN: i64 = -1;

/// Commands that a consumer moves at once, at most.
const MOVED_MAX: u32 = 200;

/// Pause of a consumer that has found nothing.
const IDLE_PAUSE: Duration = Duration::from_millis(10);

/// Moved commands that a run must have to say anything.
const MOVED_MIN: u64 = 20;

/// All that was sent is taken so long after the load, at most.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// The reader hears of the receiver's table so long after it was made, at most.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// Pause between two looks at the outboxes, and at what the trigger has noted.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A key that is taken.
const UNIQUE_VIOLATION: &str = "23505";

/// What is given as the SQLSTATE of a transaction that its client rolled back.
const ROLLED_BACK: &str = "ROLLBACK";

/// The workload.
pub struct Commands {
    kind: Kind,
    clients: u32,
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
}

/// What all clients share.
#[derive(Default)]
struct Desk {
    letters: Mutex<Letters>,
    /// Names transactions and commands alike.
    next: AtomicI64,
    /// Counts what is asked for and answered: a clock that outlives runs.
    clock: AtomicU64,
    /// Collisions that were answered as such.
    collided: AtomicU64,
    /// Commands that were looked for at the receiver when they had been accepted.
    looked: AtomicU64,
}

impl Desk {
    fn name(&self) -> i64 {
        self.next.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn enter(&self, id: i64, sending: Sending) {
        let mut letters = self
            .letters
            .lock()
            .expect("no task panics with the letters");
        letters.enter(id, sending);
    }
}

impl Workload for Commands {
    const OWNERS: &'static [&'static str] = &OWNERS;

    fn new(options: &Options) -> Commands {
        Commands {
            kind: options.victim,
            clients: options.clients.unwrap_or(CLIENTS),
            desk: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &OWNERS).await?;
        let receiver = Link::demand(&field.address, RECEIVER).await?;
        for sql in [
            "CREATE TABLE public.order_commands (id bigint PRIMARY KEY, what text NOT NULL) \
             WITH (inbox = true)",
            "CREATE INDEX ON order_commands (number)",
            "GRANT INSERT ON order_commands TO shop, till",
            // No key: what is moved twice is there twice.
            "CREATE TABLE public.done_v1 (sender text NOT NULL, number bigint NOT NULL, \
             what text NOT NULL)",
            "CREATE INDEX ON done_v1 (what)",
            "GRANT READ ON done_v1 TO audit",
        ] {
            receiver.must(sql).await?;
        }
        make_trigger(field).await?;
        for (sender, name) in SENDERS.iter().enumerate() {
            let link = Link::demand(&field.address, name).await?;
            for sql in [
                &format!(
                    "CREATE TABLE public.{name}_replies (id bigint PRIMARY KEY) WITH (inbox = true)"
                ),
                &format!("GRANT INSERT ON {name}_replies TO {RECEIVER}"),
                "CREATE TABLE sent (id bigint PRIMARY KEY)",
            ] {
                link.must(sql).await?;
            }
            // Whoever sends this key again is refused.
            let command = self.desk.name();
            let asked = self.desk.tick();
            link.must(&insert(&[(command, Fate::Collides)])).await?;
            let sending = Sending {
                sender,
                has_row: false,
                commands: vec![(command, Fate::Comes)],
                asked,
                told: self.desk.tick(),
                end: End::Acknowledged,
            };
            self.desk.enter(self.desk.name(), sending);
        }
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        for number in 0..u64::from(self.clients) {
            let client = Client {
                field: field.clone(),
                desk: self.desk.clone(),
                sender: number as usize % SENDERS.len(),
                onlooker: None,
                rng: field.seed.fork("client", number).rng(),
                process: field.run * 10_000 + number,
            };
            self.tasks.spawn(client.live());
        }
        for number in 0..CONSUMERS {
            let consumer = Consumer {
                field: field.clone(),
                rng: field.seed.fork("consumer", number).rng(),
                process: field.run * 10_000 + u64::from(self.clients) + number,
            };
            self.tasks.spawn(consumer.live());
        }
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a client does not panic");
        }
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        await_outboxes(field).await?;
        await_trigger(field).await?;
        let sides = read_all(field).await?;
        let count = |of: fn(&Side) -> usize| sides.iter().map(of).sum::<usize>();
        let counts = json!({
            "inbox": count(|s| s.inbox.len()), "done": count(|s| s.done.len()), "noted": count(|s| s.noted.len()),
            "parked": count(|s| s.parked.len()), "rejected": count(|s| s.rejected.len()),
            "replies": count(|s| s.replies.len()), "rows": count(|s| s.sent.len()),
            "looked for": self.desk.looked.load(Ordering::Relaxed),
        });
        field.history.note("commands", counts);
        let mut letters = self
            .desk
            .letters
            .lock()
            .expect("no task panics with the letters");
        field.findings.extend(letters.settle(&sides));
        Ok(())
    }

    fn marks(&self) -> Option<Marks> {
        let letters = self
            .desk
            .letters
            .lock()
            .expect("no task panics with the letters");
        let rows = |end| letters.rows(end).map(|id| vec![id]).collect();
        Some(Marks {
            table: "sent",
            columns: &["id"],
            told: rows(End::Acknowledged),
            failed: rows(End::Failed),
        })
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        let moved = field.progress.observed.load(Ordering::Relaxed);
        let few = (moved < MOVED_MIN)
            .then(|| format!("{moved} commands were moved, fewer than {MOVED_MIN}"));
        let none = |count: &AtomicU64, what: &str| {
            (count.load(Ordering::Relaxed) == 0).then(|| what.to_owned())
        };
        too_few(field)
            .or(few)
            .or_else(|| none(&self.desk.collided, "no command was refused"))
            .or_else(|| none(&self.desk.looked, "no accepted command was looked for"))
    }
}

/// The statement that sends these; those that are to collide under the key that is taken.
fn insert(commands: &[(i64, Fate)]) -> String {
    let row = |(command, fate): &(i64, Fate)| match fate {
        Fate::Collides => format!("({TAKEN}, '{command}')"),
        Fate::Comes | Fate::TakenBack => format!("({command}, '{command}')"),
    };
    let rows: Vec<String> = commands.iter().map(row).collect();
    format!("INSERT INTO order_commands VALUES {}", rows.join(", "))
}

/// Waits until everything was taken that was sent.
async fn await_outboxes(field: &Field) -> Result<()> {
    let end = Instant::now() + TAKEN_WITHIN;
    for owner in OWNERS {
        let link = Link::demand(&field.address, owner).await?;
        loop {
            let rows = link.must("SELECT count(*) FROM freehold.outbox").await?;
            let left = rows.first().and_then(|row| integer(row, 0));
            if left == Some(0) {
                break;
            }
            if Instant::now() > end {
                let seconds = TAKEN_WITHIN.as_secs();
                let what = format!("{left:?} commands of {owner} were not taken in {seconds} s");
                field.findings.add(FindingKind::Lost, what);
                break;
            }
            sleep(LOOK_PAUSE).await;
        }
    }
    Ok(())
}

/// Makes the reader's trigger, as soon as the table is known where it is made.
async fn make_trigger(field: &Field) -> Result<()> {
    let end = Instant::now() + HEARD_WITHIN;
    let link = Link::demand(&field.address, READER).await?;
    for sql in [
        // No key: what is noted twice is there twice.
        "CREATE TABLE noted (sender text NOT NULL, number bigint NOT NULL, what text NOT NULL)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO noted VALUES (NEW.sender, NEW.number, NEW.what); RETURN NEW; END $$",
        "FOLLOW public.done_v1",
        "CREATE TRIGGER note AFTER INSERT ON public.done_v1 FOR EACH ROW EXECUTE FUNCTION note()",
    ] {
        while let Err(error) = link.must(sql).await {
            if Instant::now() > end {
                return Err(error);
            }
            sleep(LOOK_PAUSE).await;
        }
    }
    Ok(())
}

/// Waits until the trigger has run for all rows, or stands still.
async fn await_trigger(field: &Field) -> Result<()> {
    let end = Instant::now() + TAKEN_WITHIN;
    let receiver = Link::demand(&field.address, RECEIVER).await?;
    let reader = Link::demand(&field.address, READER).await?;
    let count = |rows: Vec<Texts>| rows.first().and_then(|row| integer(row, 0));
    loop {
        let done = count(receiver.must("SELECT count(*) FROM done_v1").await?);
        let noted = count(reader.must("SELECT count(*) FROM noted").await?);
        // What is missing is told one by one.
        if noted >= done || Instant::now() > end {
            return Ok(());
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Reads everything, by sender.
async fn read_all(field: &Field) -> Result<Vec<Side>> {
    let mut sides = vec![Side::default(); SENDERS.len()];
    let mut sort = |rows: Vec<Texts>, place: fn(&mut Side) -> &mut Vec<Found>| {
        for row in rows {
            let sender = SENDERS.iter().position(|name| *name == text(&row, 0));
            let found = Found {
                number: integer(&row, 1).unwrap_or(-1),
                command: integer(&row, 2).unwrap_or(-1),
            };
            // One of nobody's shows as one that nobody has sent.
            place(&mut sides[sender.unwrap_or(0)]).push(found);
        }
    };
    let link = Link::demand(&field.address, RECEIVER).await?;
    link.must("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let rows = link.must("SELECT sender, number, what FROM order_commands");
    sort(rows.await?, |side| &mut side.inbox);
    let rows = link.must("SELECT sender, number, what FROM done_v1");
    sort(rows.await?, |side| &mut side.done);
    link.must("COMMIT").await?;
    let rows = link.must("SELECT sender, number, command->>'what' FROM freehold.parked");
    sort(rows.await?, |side| &mut side.parked);
    let link = Link::demand(&field.address, READER).await?;
    let rows = link.must("SELECT sender, number, what FROM noted");
    sort(rows.await?, |side| &mut side.noted);
    for name in SENDERS {
        let link = Link::demand(&field.address, name).await?;
        let rows = link.must("SELECT sender, number, command->>'what' FROM freehold.rejected");
        sort(rows.await?, |side| &mut side.rejected);
        let sql = format!("SELECT '{name}', number, id FROM {name}_replies");
        sort(link.must(&sql).await?, |side| &mut side.replies);
    }
    for (side, name) in sides.iter_mut().zip(SENDERS) {
        let link = Link::demand(&field.address, name).await?;
        let rows = link.must("SELECT id FROM sent").await?;
        side.sent = rows.iter().filter_map(|row| integer(row, 0)).collect();
    }
    Ok(sides)
}

/// One who sends.
struct Client {
    field: Field,
    desk: Arc<Desk>,
    sender: usize,
    /// The receiver's, to look for what was accepted.
    onlooker: Option<Link>,
    rng: StdRng,
    process: u64,
}

/// What a client does next.
enum Deed {
    /// A transaction block with a row of the sender's own.
    Block,
    /// One statement by itself.
    Alone,
    /// One statement by itself that writes the sender's row, too.
    AloneWithRow,
    /// One statement by itself whose key is taken.
    Collide,
}

impl Client {
    async fn live(mut self) {
        let protocol = match self.rng.random_bool(0.5) {
            true => Protocol::Simple,
            false => Protocol::Extended,
        };
        let name = SENDERS[self.sender];
        while let Some(link) = self.field.connect(name, protocol).await {
            while !self.field.is_stopped() {
                let outcome = self.act(&link).await;
                if outcome.failure().is_some_and(Failure::is_end) {
                    break;
                }
            }
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    async fn act(&mut self, link: &Link) -> Outcome {
        let deed = match self.rng.random_range(0..100) {
            0..50 => Deed::Block,
            50..75 => Deed::Alone,
            75..85 => Deed::AloneWithRow,
            _ => Deed::Collide,
        };
        match deed {
            Deed::Block => self.block(link).await,
            Deed::Alone => {
                let commands = self.commands(3);
                let sql = insert(&commands);
                self.alone(link, sql, self.sending(commands, false)).await
            }
            Deed::AloneWithRow => {
                let commands = self.commands(1);
                let sending = self.sending(commands, true);
                let (id, command) = (sending.0, sending.1.commands[0].0);
                let sql = format!(
                    "WITH row AS (INSERT INTO sent VALUES ({id}) RETURNING id) \
                     INSERT INTO order_commands SELECT {command}, '{command}' FROM row"
                );
                self.alone(link, sql, sending).await
            }
            Deed::Collide => {
                let mut commands = self.commands(2);
                // Beside others or not, first or last.
                let at = self.rng.random_range(0..commands.len());
                commands[at].1 = Fate::Collides;
                let sql = insert(&commands);
                self.alone(link, sql, self.sending(commands, false)).await
            }
        }
    }

    /// Some new commands.
    fn commands(&mut self, most: usize) -> Vec<(i64, Fate)> {
        let count = self.rng.random_range(1..=most);
        let new = (0..count).map(|_| (self.desk.name(), Fate::Comes));
        new.collect()
    }

    /// A new transaction, with its number.
    fn sending(&self, commands: Vec<(i64, Fate)>, has_row: bool) -> (i64, Sending) {
        let sending = Sending {
            sender: self.sender,
            has_row,
            commands,
            asked: 0,
            told: 0,
            end: End::Unknown,
        };
        (self.desk.name(), sending)
    }

    fn invoke(&self, id: i64, sending: &Sending) {
        let value = json!({
            "id": id, "sender": SENDERS[self.sender], "row": sending.has_row,
            "commands": sending.commands.iter().map(|(c, _)| *c).collect::<Vec<_>>(),
        });
        let history = &self.field.history;
        history.step(self.process, Step::Invoke, "send", value);
    }

    /// Takes note of a transaction's end.
    fn end(&self, id: i64, mut sending: Sending, outcome: Outcome) -> Outcome {
        sending.told = self.desk.tick();
        sending.end = match &outcome {
            Outcome::Acknowledged => End::Acknowledged,
            Outcome::Failed(_) => End::Failed,
            Outcome::Unknown(_) => End::Unknown,
        };
        let is_sent = |(_, fate): &&(i64, Fate)| *fate != Fate::TakenBack;
        let count = sending.commands.iter().filter(is_sent).count() as u64;
        self.desk.enter(id, sending);
        if matches!(outcome, Outcome::Acknowledged) {
            let commands = &self.field.progress.commands;
            commands.fetch_add(count, Ordering::Relaxed);
        }
        let (process, field) = (self.process, &self.field);
        field.ended(process, "send", &outcome, &[ROLLED_BACK], json!(id));
        outcome
    }

    /// One statement outside of a transaction block, which is answered with the receiver's verdict if it
    /// does nothing but send.
    async fn alone(
        &mut self,
        link: &Link,
        sql: String,
        (id, mut sending): (i64, Sending),
    ) -> Outcome {
        self.invoke(id, &sending);
        sending.asked = self.desk.tick();
        let warnings = link.warnings();
        let answer = link.run(&sql).await;
        // It is sent, and nothing is known of the verdict.
        let is_open = link.warnings() > warnings;
        let collides = sending
            .commands
            .iter()
            .any(|(_, fate)| *fate == Fate::Collides);
        let outcome = match &answer {
            Err(Failure::Refused { state, .. }) if state == UNIQUE_VIOLATION && collides => {
                self.desk.collided.fetch_add(1, Ordering::Relaxed);
                Outcome::Acknowledged
            }
            answer => Outcome::of_commit(answer),
        };
        let is_accepted = answer.is_ok() && !is_open;
        if is_accepted && collides {
            let what = format!("transaction {id} was accepted, with a command whose key is taken");
            self.field.findings.add(FindingKind::Anomaly, what);
        }
        let (commands, only_sends) = (sending.commands.clone(), !sending.has_row);
        let outcome = self.end(id, sending, outcome);
        if is_accepted && only_sends && !collides && self.rng.random_bool(0.5) {
            for (command, _) in commands {
                self.look_for(command).await;
            }
        }
        outcome
    }

    /// What was accepted is there for each read of the receiver that begins afterwards.
    async fn look_for(&mut self, command: i64) {
        if self.onlooker.is_none() {
            self.onlooker = self.field.connect(RECEIVER, Protocol::Extended).await;
        }
        let Some(onlooker) = &self.onlooker else {
            return;
        };
        let name = SENDERS[self.sender];
        let sql = format!(
            "SELECT (SELECT count(*) FROM order_commands WHERE sender = '{name}' AND id = {command}) \
             + (SELECT count(*) FROM done_v1 WHERE what = '{command}')"
        );
        match onlooker.run(&sql).await {
            Ok(rows) => {
                let count = rows.first().and_then(|row| integer(row, 0));
                if count != Some(1) {
                    let what = format!("the accepted command {command} is there {count:?} times");
                    self.field.findings.add(FindingKind::Anomaly, what);
                }
                self.desk.looked.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                if self.field.survives(&failure, "look", &[]).await != Some(true) {
                    self.onlooker = None;
                }
            }
        }
    }

    /// Commands with a row of the sender's own, some of them taken back.
    async fn block(&mut self, link: &Link) -> Outcome {
        let (mut statements, mut commands) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.random_range(1..=3) {
            let mut some = self.commands(3);
            let dice = self.rng.random_range(0..100);
            if dice < 25 {
                some.iter_mut().for_each(|one| one.1 = Fate::TakenBack);
                statements.push("SAVEPOINT s".to_owned());
                statements.push(insert(&some));
                statements.push("ROLLBACK TO SAVEPOINT s".to_owned());
            } else {
                if dice < 35 {
                    some[0].1 = Fate::Collides;
                }
                statements.push(insert(&some));
            }
            commands.extend(some);
        }
        let (id, sending) = self.sending(commands, true);
        let at = self.rng.random_range(0..=statements.len());
        // Not behind a savepoint that takes it back.
        let is_inside = statements
            .get(at)
            .is_some_and(|next| next.starts_with("ROLLBACK"))
            || at > 0 && statements[at - 1].starts_with("SAVEPOINT");
        let at = if is_inside { 0 } else { at };
        statements.insert(at, format!("INSERT INTO sent VALUES ({id})"));
        self.invoke(id, &sending);
        self.run_block(link, id, sending, statements).await
    }

    async fn run_block(
        &mut self,
        link: &Link,
        id: i64,
        mut sending: Sending,
        statements: Vec<String>,
    ) -> Outcome {
        let mut failed = link.run("BEGIN").await.err();
        for sql in statements {
            if failed.is_none() {
                failed = link.run(&sql).await.err();
            }
        }
        let outcome = match failed {
            None if self.rng.random_bool(0.15) => {
                self.field.change_mind(link).await;
                Outcome::Failed(Failure::Refused {
                    state: ROLLED_BACK.into(),
                    message: "rolled back by the client".into(),
                })
            }
            None => {
                sending.asked = self.desk.tick();
                Outcome::of_commit(&link.run("COMMIT").await)
            }
            Some(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Outcome::Failed(failure)
            }
        };
        self.end(id, sending, outcome)
    }
}

/// One who moves what has come.
struct Consumer {
    field: Field,
    rng: StdRng,
    process: u64,
}

impl Consumer {
    async fn live(mut self) {
        while let Some(link) = self.field.connect(RECEIVER, Protocol::Simple).await {
            while !self.field.is_stopped() {
                let moved = match self.rng.random_bool(0.3) {
                    true => self.move_by_statement(&link).await,
                    false => self.move_by_block(&link).await,
                };
                match moved {
                    Ok(0) => sleep(IDLE_PAUSE).await,
                    Ok(count) => {
                        let moved = &self.field.progress.observed;
                        moved.fetch_add(count, Ordering::Relaxed);
                        let history = &self.field.history;
                        history.step(self.process, Step::Ok, "move", json!(count));
                    }
                    Err(failure) => {
                        let error = json!({ "error": failure.to_string() });
                        let history = &self.field.history;
                        history.step(self.process, Step::Info, "move", error);
                        if self.field.survives(&failure, "move", &[]).await != Some(true) {
                            break;
                        }
                    }
                }
            }
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    /// Those that come next, locked for whoever asks for them first.
    fn next(&mut self, filter: &str) -> String {
        let count = self.rng.random_range(1..=MOVED_MAX);
        format!(
            "DELETE FROM order_commands WHERE (sender, id) IN (SELECT sender, id FROM order_commands \
             WHERE id > 0{filter} ORDER BY number LIMIT {count} FOR UPDATE SKIP LOCKED) \
             RETURNING sender, number, what, id"
        )
    }

    /// One statement moves one sender's commands and answers them, which it waits for.
    async fn move_by_statement(&mut self, link: &Link) -> std::result::Result<u64, Failure> {
        let name = SENDERS[self.rng.random_range(0..SENDERS.len())];
        let next = self.next(&format!(" AND sender = '{name}'"));
        let sql = format!(
            "WITH moved AS ({next}), noted AS (INSERT INTO done_v1 SELECT sender, number, what FROM moved), \
             answered AS (INSERT INTO {name}_replies SELECT id FROM moved WHERE id % 4 = 0) \
             SELECT count(*) FROM moved"
        );
        let rows = link.run(&sql).await?;
        let count = rows.first().and_then(|row| integer(row, 0)).unwrap_or(0);
        Ok(count as u64)
    }

    /// A block does the same for all senders, and is rolled back now and then.
    async fn move_by_block(&mut self, link: &Link) -> std::result::Result<u64, Failure> {
        let moved = self.move_in_block(link).await;
        match moved {
            Ok(count) if count > 0 && self.rng.random_bool(0.9) => {
                link.run("COMMIT").await?;
                Ok(count)
            }
            Ok(_) => {
                self.field.change_mind(link).await;
                Ok(0)
            }
            Err(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Err(failure)
            }
        }
    }

    async fn move_in_block(&mut self, link: &Link) -> std::result::Result<u64, Failure> {
        link.run("BEGIN").await?;
        let moved = link.run(&self.next("")).await?;
        if moved.is_empty() {
            return Ok(0);
        }
        let row =
            |row: &Texts| format!("('{}', {}, '{}')", text(row, 0), text(row, 1), text(row, 2));
        let rows: Vec<String> = moved.iter().map(row).collect();
        link.run(&format!("INSERT INTO done_v1 VALUES {}", rows.join(", ")))
            .await?;
        for name in SENDERS {
            let mine = moved.iter().filter(|row| text(row, 0) == name);
            let ids: BTreeSet<i64> = mine
                .filter_map(|row| integer(row, 3))
                .filter(|id| wants_reply(*id))
                .collect();
            if !ids.is_empty() {
                let ids: Vec<String> = ids.iter().map(|id| format!("({id})")).collect();
                let sql = format!("INSERT INTO {name}_replies VALUES {}", ids.join(", "));
                link.run(&sql).await?;
            }
        }
        Ok(moved.len() as u64)
    }
}
