//! Many clients insert, update and delete rows of their own, one or many in a transaction; after
//! every fault each of them must find what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Marks, Workload, create_owners, too_few};
use crate::check::ledger::{Change, Found, Pending, Row, Slot};
use crate::error::Result;
use crate::field::Field;
use crate::finding::Kind as FindingKind;
use crate::history::Step;
use crate::link::{Address, Failure, Link, Outcome, Protocol, integer, text};
use crate::options::Options;
use crate::victim::Kind;

/// Two owners, so that two groups share one journal.
const OWNERS: [&str; 2] = ["keeper_a", "keeper_b"];

/// Clients if nobody says how many.
const CLIENTS: u32 = 16;

/// Rows of a bulk transaction, at most: more than 1 MiB, which the journal cuts into parts.
const BULK_ROWS_MAX: i64 = 2_500;

/// Length of the bodies of bulk rows.
const BULK_BODY: usize = 700;

/// Transaction ids asked about after a fault, beside the unknown ones, per client and outcome.
const STATUS_SAMPLES: usize = 3;

/// Slots that a client of a cluster may use up, one for each statement outside a transaction
/// block that was not answered: nobody can be asked what became of it before the end.
const SPARES: u32 = 12;

/// Longest time after which any node knows what became of a transaction.
const STATUS_MAX: Duration = Duration::from_secs(30);

/// Pause between questions for a transaction that is still under way.
const STATUS_PAUSE: Duration = Duration::from_millis(50);

/// Ids of a slot's rows begin at its number times this.
const SLOT_IDS: i64 = 1 << 32;

/// The workload.
pub struct Acknowledged {
    kind: Kind,
    clients: u32,
    slots: Vec<Slot>,
    beats: Arc<Vec<Beat>>,
    tasks: JoinSet<Vec<Slot>>,
    readers: JoinSet<()>,
}

/// What is known of a slot's counter while the load runs, shared with the readers.
#[derive(Default)]
struct Beat {
    /// Highest value that the server was asked to write.
    asked: AtomicI64,
    /// Highest value that was acknowledged.
    told: AtomicI64,
    /// Highest value that anyone has read.
    seen: AtomicI64,
}

/// The owner of a slot's rows.
fn owner(slot: u32) -> &'static str {
    OWNERS[slot as usize % OWNERS.len()]
}

impl Workload for Acknowledged {
    const OWNERS: &'static [&'static str] = &OWNERS;

    fn new(options: &Options) -> Acknowledged {
        Acknowledged {
            kind: options.victim,
            clients: options.clients.unwrap_or(CLIENTS),
            slots: Vec::new(),
            beats: Arc::default(),
            tasks: JoinSet::new(),
            readers: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &OWNERS).await?;
        let spares = if field.is_cluster() { SPARES } else { 0 };
        let count = self.clients * (1 + spares);
        self.slots = (0..count).map(Slot::new).collect();
        self.beats = Arc::new((0..count).map(|_| Beat::default()).collect());
        for (number, name) in OWNERS.iter().enumerate() {
            let link = Link::demand(&field.address, name).await?;
            link.must(
                "CREATE TABLE item (id bigint PRIMARY KEY, tx bigint NOT NULL, body text NOT NULL)",
            )
            .await?;
            // No key: one row for each transaction, so a transaction applied twice shows.
            link.must("CREATE TABLE trail (slot int NOT NULL, tx bigint NOT NULL)")
                .await?;
            link.must("CREATE TABLE beat (slot int PRIMARY KEY, n bigint NOT NULL)")
                .await?;
            let step = OWNERS.len();
            link.must(&format!(
                "INSERT INTO beat SELECT g, 0 FROM generate_series({number}, {count} - 1, {step}) AS g"
            ))
            .await?;
        }
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        let beats = &self.beats;
        let mut spares = self.slots.split_off(self.clients as usize);
        let share = spares.len() / self.clients as usize;
        for slot in self.slots.drain(..) {
            let spares = spares.split_off(spares.len() - share);
            let client = Client::new(field.clone(), self.kind, beats.clone(), slot, spares);
            self.tasks.spawn(client.live());
        }
        for number in 0..OWNERS.len() as u64 {
            self.readers
                .spawn(read_beats(field.clone(), beats.clone(), number));
        }
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(slots) = self.tasks.join_next().await {
            self.slots.extend(slots.expect("a client does not panic"));
        }
        self.slots.sort_by_key(|slot| slot.number);
        while let Some(reader) = self.readers.join_next().await {
            reader.expect("a reader does not panic");
        }
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        let mut found = read_all(&field.address, self.slots.len()).await?;
        for slot in &mut self.slots {
            let mine = &mut found[slot.number as usize];
            mine.statuses = read_statuses(&field.address, slot, self.kind).await?;
            let beat = &self.beats[slot.number as usize];
            slot.beat_seen = slot.beat_seen.max(beat.seen.load(Ordering::SeqCst));
            field.findings.extend(slot.settle(mine));
            beat.asked.store(slot.beat, Ordering::SeqCst);
            beat.told.store(slot.beat, Ordering::SeqCst);
            beat.seen.store(slot.beat, Ordering::SeqCst);
        }
        Ok(())
    }

    fn marks(&self) -> Option<Marks> {
        let (mut told, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for slot in &self.slots {
            let number = i64::from(slot.number);
            told.extend(slot.trail().map(|tx| vec![number, tx]));
            failed.extend(slot.failed().map(|tx| vec![number, tx]));
        }
        Some(Marks {
            table: "trail",
            columns: &["slot", "tx"],
            told,
            failed,
        })
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        too_few(field)
    }
}

/// Reads all tables: what is there, by slot.
async fn read_all(address: &Address, slots: usize) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = (0..slots).map(|_| Found::default()).collect();
    for name in OWNERS {
        let link = Link::demand(address, name).await?;
        for row in link
            .must("SELECT id, tx, body FROM item ORDER BY id")
            .await?
        {
            let id = integer(&row, 0).unwrap_or(-1);
            let read = Row {
                tx: integer(&row, 1).unwrap_or(-1),
                body: text(&row, 2).to_owned(),
            };
            if let Some(mine) = found.get_mut((id / SLOT_IDS) as usize) {
                mine.add_row(id, read);
            }
        }
        for row in link.must("SELECT slot, tx FROM trail").await? {
            let slot = integer(&row, 0).and_then(|slot| found.get_mut(slot as usize));
            if let (Some(mine), Some(tx)) = (slot, integer(&row, 1)) {
                *mine.trail.entry(tx).or_default() += 1;
            }
        }
        for row in link.must("SELECT slot, n FROM beat").await? {
            let slot = integer(&row, 0).and_then(|slot| found.get_mut(slot as usize));
            if let Some(mine) = slot {
                mine.beat = integer(&row, 1);
            }
        }
    }
    Ok(found)
}

/// Asks what became of the slot's unknown transaction and of some others.
async fn read_statuses(
    address: &Address,
    slot: &Slot,
    kind: Kind,
) -> Result<BTreeMap<String, Option<String>>> {
    let mut statuses = BTreeMap::new();
    let asked = slot.asked_about(STATUS_SAMPLES);
    if asked.is_empty() {
        return Ok(statuses);
    }
    let link = Link::demand(address, owner(slot.number)).await?;
    for id in asked {
        let answer = link
            .run(&format!("SELECT pg_xact_status('{id}'::xid8)"))
            .await;
        let status = match answer {
            Ok(rows) => rows
                .first()
                .map(|row| text(row, 0).to_owned())
                .filter(|s| !s.is_empty()),
            // PostgreSQL does not know an id that it gave and whose log it lost in the fault.
            Err(Failure::Refused { state, .. }) if kind == Kind::Postgres && state == "22023" => {
                Some("aborted".into())
            }
            Err(failure) => Some(format!("refused ({failure})")),
        };
        statuses.insert(id, status);
    }
    Ok(statuses)
}

/// Reads the counters of one owner over and over. A counter that was acknowledged before the
/// read began must be in it; nobody may read one that was never asked for.
async fn read_beats(field: Field, beats: Arc<Vec<Beat>>, number: u64) {
    let name = OWNERS[number as usize];
    while let Some(link) = field.connect(name, Protocol::Extended).await {
        read_beats_over(&field, &beats, &link).await;
        if !field.goes_on() {
            return;
        }
    }
}

/// Does so until the field is stopped or the connection is lost.
async fn read_beats_over(field: &Field, beats: &[Beat], link: &Link) {
    while !field.is_stopped() {
        let told: Vec<i64> = beats
            .iter()
            .map(|beat| beat.told.load(Ordering::SeqCst))
            .collect();
        let rows = match link.run("SELECT slot, n FROM beat").await {
            Ok(rows) => rows,
            Err(failure) => match field.survives(&failure, "beat", &[]).await {
                Some(true) => continue,
                Some(false) | None => return,
            },
        };
        for row in &rows {
            let (Some(slot), Some(n)) = (integer(row, 0), integer(row, 1)) else {
                continue;
            };
            let Some(beat) = beats.get(slot as usize) else {
                continue;
            };
            beat.seen.fetch_max(n, Ordering::SeqCst);
            if n < told[slot as usize] {
                let told = told[slot as usize];
                let what = format!(
                    "slot {slot}: read {n} after {told} was acknowledged, at {} us",
                    field.history.now()
                );
                field.findings.add(FindingKind::Anomaly, what);
            }
            if n > beat.asked.load(Ordering::SeqCst) {
                let what = format!("slot {slot}: read {n}, which nobody asked for");
                field.findings.add(FindingKind::Anomaly, what);
            }
        }
    }
}

/// What any node says of a transaction, once it knows; `None` if the load ends before.
pub async fn status_by(field: &Field, owner: &str, xid: &str) -> Option<String> {
    let end = Instant::now() + STATUS_MAX;
    let question = format!("SELECT pg_xact_status('{xid}'::xid8)");
    while !field.is_stopped() {
        let link = field.connect(owner, Protocol::Simple).await?;
        let answer = link.run(&question).await;
        let said = match &answer {
            Ok(rows) => rows.first().map(|row| text(row, 0).to_owned()),
            Err(failure) => {
                field.judge(failure, "status", &[]);
                None
            }
        };
        if let Some(status) = said.filter(|status| status == "committed" || status == "aborted") {
            return Some(status);
        }
        if Instant::now() > end {
            let what = format!("the status of transaction {xid} is not known: {answer:?}");
            field.findings.add(FindingKind::Unexpected, what);
            return None;
        }
        sleep(STATUS_PAUSE).await;
    }
    None
}

/// What a client does next.
enum Deed {
    InsertOne,
    InsertMany,
    Update,
    Delete,
    Mixed,
    Bulk,
    Beat,
    RollBack,
    Collide,
}

/// One client in one run.
struct Client {
    field: Field,
    kind: Kind,
    beats: Arc<Vec<Beat>>,
    slot: Slot,
    /// Slots that nobody has used yet, and those whose last transaction is unknown.
    spares: Vec<Slot>,
    used_up: Vec<Slot>,
    rng: StdRng,
    process: u64,
}

impl Client {
    fn new(
        field: Field,
        kind: Kind,
        beats: Arc<Vec<Beat>>,
        slot: Slot,
        spares: Vec<Slot>,
    ) -> Client {
        let rng = field.seed.fork("client", u64::from(slot.number)).rng();
        let process = field.run * 10_000 + u64::from(slot.number);
        Client {
            field,
            kind,
            beats,
            slot,
            spares,
            used_up: Vec::new(),
            rng,
            process,
        }
    }

    /// Works until the field is stopped or the connection is lost; in a cluster it goes on with
    /// another one. All its slots.
    async fn live(mut self) -> Vec<Slot> {
        let protocol = if self.slot.number % 4 < 2 {
            Protocol::Simple
        } else {
            Protocol::Extended
        };
        let owner = owner(self.slot.number);
        while let Some(link) = self.field.connect(owner, protocol).await {
            self.work(&link).await;
            if !self.field.goes_on() || !self.find_out(owner).await {
                break;
            }
            self.process = self.field.next_process();
        }
        self.used_up.push(self.slot);
        self.used_up.extend(self.spares);
        self.used_up
    }

    async fn work(&mut self, link: &Link) {
        while !self.field.is_stopped() {
            let outcome = self.act(link).await;
            if outcome.failure().is_some_and(Failure::is_end) {
                break;
            }
        }
    }

    /// Asks any node what became of the unknown transaction. If nobody can be asked the client
    /// goes on with a spare slot; false if it has none.
    async fn find_out(&mut self, owner: &str) -> bool {
        let Some(pending) = self.slot.pending.take() else {
            return true;
        };
        let status = match &pending.xid {
            Some(xid) => status_by(&self.field, owner, xid).await,
            None => None,
        };
        let value = json!({ "tx": pending.tx, "xid": pending.xid, "status": status });
        self.field
            .history
            .step(self.process, Step::Info, "status", value);
        match status.as_deref() {
            Some("committed") => self.slot.acknowledge(pending),
            Some("aborted") => self.slot.fail(pending),
            _ => {
                self.slot.pending = Some(pending);
                return self.take_spare();
            }
        }
        true
    }

    /// A spare slot of the same owner.
    fn take_spare(&mut self) -> bool {
        let step = OWNERS.len() as u32;
        let same = |spare: &Slot| spare.number % step == self.slot.number % step;
        let Some(at) = self.spares.iter().position(same) else {
            return false;
        };
        let next = self.spares.swap_remove(at);
        self.used_up.push(std::mem::replace(&mut self.slot, next));
        true
    }

    fn choose(&mut self) -> Deed {
        let dice = self.rng.random_range(0..100);
        if self.slot.live.len() < 10 && dice < 60 {
            return Deed::InsertMany;
        }
        match dice {
            0..25 => Deed::InsertOne,
            25..40 => Deed::InsertMany,
            40..55 => Deed::Update,
            55..65 => Deed::Delete,
            65..75 => Deed::Mixed,
            75..90 => Deed::Beat,
            90..95 => Deed::RollBack,
            95..99 => Deed::Collide,
            _ => Deed::Bulk,
        }
    }

    /// One transaction.
    async fn act(&mut self, link: &Link) -> Outcome {
        self.slot.last_tx += 1;
        match self.choose() {
            Deed::InsertOne => self.insert_one(link).await,
            Deed::Beat => self.beat(link).await,
            Deed::Bulk => self.bulk(link).await,
            Deed::RollBack => self.transact(link, Ending::RollBack).await,
            Deed::Collide => self.transact(link, Ending::Collide).await,
            Deed::InsertMany | Deed::Update | Deed::Delete | Deed::Mixed => {
                self.transact(link, Ending::Commit).await
            }
        }
    }

    async fn insert_one(&mut self, link: &Link) -> Outcome {
        let change = self.new_row();
        let pending = Pending::new(self.slot.last_tx, vec![change]);
        let sql = sql_of(&pending.changes[0]);
        self.invoke(&pending);
        let outcome = Outcome::of_commit(&link.run(&sql).await);
        self.end(pending, outcome)
    }

    async fn beat(&mut self, link: &Link) -> Outcome {
        let pending = Pending {
            beat: true,
            ..Pending::new(self.slot.last_tx, vec![])
        };
        self.invoke(&pending);
        let number = self.slot.number;
        self.beats[number as usize]
            .asked
            .fetch_add(1, Ordering::SeqCst);
        let sql = format!("UPDATE beat SET n = n + 1 WHERE slot = {number} RETURNING n");
        let answer = link.run(&sql).await;
        let outcome = Outcome::of_commit(&answer);
        if let Ok(rows) = &answer {
            let (told, expected) = (rows.first().and_then(|r| integer(r, 0)), self.slot.beat + 1);
            if told != Some(expected) {
                let what = format!("slot {number}: n + 1 gave {told:?} and not {expected}");
                self.field.findings.add(FindingKind::Anomaly, what);
            }
            self.beats[number as usize]
                .told
                .store(expected, Ordering::SeqCst);
        }
        self.end(pending, outcome)
    }

    /// Some thousand rows come in one statement, or go in one if they are there.
    async fn bulk(&mut self, link: &Link) -> Outcome {
        let there = self.slot.live_bulk();
        let (changes, sql) = if there.is_empty() {
            self.bulk_insert()
        } else {
            self.bulk_delete(&there)
        };
        let pending = Pending {
            trail: true,
            ..Pending::new(self.slot.last_tx, changes)
        };
        self.invoke(&pending);
        let statements = vec![sql, self.trail_sql()];
        self.block(link, pending, statements, Ending::Commit).await
    }

    fn bulk_insert(&mut self) -> (Vec<Change>, String) {
        let count = self.rng.random_range(500..=BULK_ROWS_MAX);
        let (tx, first) = (self.slot.last_tx, self.slot.next_id);
        let ids = first..first + count;
        let row = Row {
            tx,
            body: "b".repeat(BULK_BODY),
        };
        let changes = ids
            .clone()
            .map(|id| Change::Insert {
                id,
                row: row.clone(),
            })
            .collect();
        self.slot.next_id += count;
        self.slot.bulk = ids;
        let sql = format!(
            "INSERT INTO item SELECT g, {tx}, repeat('b', {BULK_BODY}) FROM \
             generate_series({first}::bigint, {}::bigint) AS g",
            first + count - 1,
        );
        (changes, sql)
    }

    fn bulk_delete(&self, there: &[i64]) -> (Vec<Change>, String) {
        let changes = there.iter().map(|id| Change::Delete { id: *id }).collect();
        let ids = &self.slot.bulk;
        let sql = format!(
            "DELETE FROM item WHERE id >= {} AND id < {}",
            ids.start, ids.end
        );
        (changes, sql)
    }

    /// Changes of several rows between BEGIN and its end.
    async fn transact(&mut self, link: &Link, ending: Ending) -> Outcome {
        let changes = self.changes();
        let mut statements: Vec<String> = changes.iter().map(sql_of).collect();
        statements.push(self.trail_sql());
        let pending = Pending {
            trail: true,
            ..Pending::new(self.slot.last_tx, changes)
        };
        self.invoke(&pending);
        self.block(link, pending, statements, ending).await
    }

    /// Runs the statements of a transaction block and takes note of its end.
    async fn block(
        &mut self,
        link: &Link,
        mut pending: Pending,
        statements: Vec<String>,
        ending: Ending,
    ) -> Outcome {
        let asks = self.rng.random_bool(0.5);
        let outcome = match self
            .run_block(link, &mut pending, statements, ending, asks)
            .await
        {
            Ok(()) => Outcome::of_commit(&link.run("COMMIT").await),
            Err(failure) => {
                let by_choice =
                    matches!(&failure, Failure::Refused { state, .. } if state == ROLLED_BACK);
                if by_choice {
                    self.field.change_mind(link).await;
                } else if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Outcome::Failed(failure)
            }
        };
        // An id that PostgreSQL gave and whose log it lost in the fault is given out again.
        if self.kind == Kind::Postgres && outcome.failure().is_some_and(Failure::is_end) {
            pending.xid = None;
        }
        self.end(pending, outcome)
    }

    /// Everything before COMMIT; an error if there will be none.
    async fn run_block(
        &mut self,
        link: &Link,
        pending: &mut Pending,
        statements: Vec<String>,
        ending: Ending,
        asks: bool,
    ) -> std::result::Result<(), Failure> {
        link.run("BEGIN").await?;
        if asks {
            let rows = link.run("SELECT pg_current_xact_id()::text").await?;
            pending.xid = rows.first().map(|row| text(row, 0).to_owned());
        }
        for sql in statements {
            link.run(&sql).await?;
        }
        match ending {
            Ending::Commit => Ok(()),
            Ending::RollBack => Err(Failure::Refused {
                state: ROLLED_BACK.into(),
                message: "rolled back by the client".into(),
            }),
            Ending::Collide => {
                let number = self.slot.number;
                link.run(&format!("INSERT INTO beat VALUES ({number}, -1)"))
                    .await?;
                let what = format!("slot {number}: the same key could be inserted twice");
                self.field.findings.add(FindingKind::Anomaly, what);
                Ok(())
            }
        }
    }

    fn invoke(&self, pending: &Pending) {
        let value = json!({
            "slot": self.slot.number, "tx": pending.tx, "rows": pending.changes.len(),
            "first": pending.changes.first().map(Change::id), "beat": pending.beat,
        });
        self.field
            .history
            .step(self.process, Step::Invoke, "write", value);
    }

    /// Takes note of a transaction's end.
    fn end(&mut self, pending: Pending, outcome: Outcome) -> Outcome {
        let value = json!({ "tx": pending.tx, "xid": pending.xid });
        self.field.ended(
            self.process,
            "write",
            &outcome,
            &["23505", ROLLED_BACK],
            value,
        );
        match &outcome {
            Outcome::Acknowledged => self.slot.acknowledge(pending),
            Outcome::Failed(_) => self.slot.fail(pending),
            Outcome::Unknown(_) => self.slot.pending = Some(pending),
        }
        outcome
    }

    fn new_row(&mut self) -> Change {
        let id = self.slot.next_id;
        self.slot.next_id += 1;
        Change::Insert {
            id,
            row: self.body(),
        }
    }

    fn body(&mut self) -> Row {
        let letter = char::from(b'a' + self.rng.random_range(0..26u8));
        let length = match self.rng.random_range(0..20) {
            0 => self.rng.random_range(0..8_000),
            _ => self.rng.random_range(0..120),
        };
        Row {
            tx: self.slot.last_tx,
            body: letter.to_string().repeat(length),
        }
    }

    /// Some changes, no two of one row.
    fn changes(&mut self) -> Vec<Change> {
        let touched = self.rng.random_range(0..=5).min(self.slot.live.len());
        let mut changes = Vec::new();
        let mut taken = std::collections::BTreeSet::new();
        for _ in 0..touched {
            let at = self.rng.random_range(0..self.slot.live.len());
            let Some(id) = self.slot.live.keys().nth(at).copied() else {
                continue;
            };
            if !taken.insert(id) {
                continue;
            }
            if self.rng.random_bool(0.6) {
                changes.push(Change::Update {
                    id,
                    row: self.body(),
                });
            } else {
                changes.push(Change::Delete { id });
            }
        }
        for _ in 0..self.rng.random_range(0..=6) {
            changes.push(self.new_row());
        }
        changes
    }

    fn trail_sql(&self) -> String {
        format!(
            "INSERT INTO trail VALUES ({}, {})",
            self.slot.number, self.slot.last_tx
        )
    }
}

/// What is given as the SQLSTATE of a transaction that its client rolled back.
const ROLLED_BACK: &str = "ROLLBACK";

/// How a transaction block is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Commit,
    RollBack,
    Collide,
}

fn sql_of(change: &Change) -> String {
    match change {
        Change::Insert { id, row } => {
            format!("INSERT INTO item VALUES ({id}, {}, '{}')", row.tx, row.body)
        }
        Change::Update { id, row } => {
            format!(
                "UPDATE item SET tx = {}, body = '{}' WHERE id = {id}",
                row.tx, row.body
            )
        }
        Change::Delete { id } => format!("DELETE FROM item WHERE id = {id}"),
    }
}
