//! Transfers between a few accounts: whoever looks, at whatever moment, sees the same total.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Marks, Workload, create_owners, too_few};
use crate::check::books::{Books, End, Snapshot, Transfer};
use crate::error::Result;
use crate::field::{CONFLICTS, Field};
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, Texts, integer};
use crate::options::Options;
use crate::victim::Kind;

/// Clients that transfer, if nobody says how many.
const CLIENTS: u32 = 8;

/// Clients that look.
const READERS: u64 = 3;

/// Accounts: few, so that transfers meet.
const ACCOUNTS: i64 = 8;

/// What each account holds at first.
const INITIAL: i64 = 1_000;

/// Most of one transfer.
const AMOUNT_MAX: i64 = 100;

/// Each how many looks a reader compares balances with all transfers.
const WHOLE_EVERY: u64 = 20;

/// Snapshots that a run must have judged to say anything.
const OBSERVED_MIN: u64 = 20;

/// What a transfer may end with: a conflict, or an account that is too low.
const EXPECTED: [&str; 3] = [CONFLICTS[0], CONFLICTS[1], "23514"];

/// The owner of the accounts.
const OWNER: &str = "bank";

/// The workload.
pub struct Bank {
    kind: Kind,
    clients: u32,
    books: Arc<Mutex<Books>>,
    next: Arc<AtomicI64>,
    tasks: JoinSet<()>,
}

impl Workload for Bank {
    const OWNERS: &'static [&'static str] = &[OWNER];

    fn new(options: &Options) -> Bank {
        let books = Arc::new(Mutex::new(Books::new(ACCOUNTS, INITIAL)));
        let clients = options.clients.unwrap_or(CLIENTS);
        Bank {
            kind: options.victim,
            clients,
            books,
            next: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &[OWNER]).await?;
        let link = Link::demand(&field.address, OWNER).await?;
        link.must(
            "CREATE TABLE account (id bigint PRIMARY KEY, \
             balance bigint NOT NULL CHECK (balance >= 0))",
        )
        .await?;
        link.must(
            "CREATE TABLE transfer (id bigint PRIMARY KEY, \
             payer bigint NOT NULL REFERENCES account (id), \
             payee bigint NOT NULL REFERENCES account (id), amount bigint NOT NULL)",
        )
        .await?;
        for account in 0..ACCOUNTS {
            link.must(&format!(
                "INSERT INTO account VALUES ({account}, {INITIAL})"
            ))
            .await?;
        }
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        for number in 0..u64::from(self.clients) {
            let payer = Payer {
                field: field.clone(),
                books: self.books.clone(),
                next: self.next.clone(),
                rng: field.seed.fork("client", number).rng(),
                process: field.run * 10_000 + number,
            };
            self.tasks.spawn(payer.live());
        }
        for number in 0..READERS {
            let reader = Reader {
                field: field.clone(),
                books: self.books.clone(),
                rng: field.seed.fork("reader", number).rng(),
                number,
            };
            self.tasks.spawn(reader.live());
        }
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a client does not panic");
        }
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        let link = Link::demand(&field.address, OWNER).await?;
        let balances = link.must("SELECT id, balance FROM account").await?;
        let transfers = link
            .must("SELECT id, payer, payee, amount FROM transfer")
            .await?;
        let snapshot = snapshot(&balances, &transfers);
        let mut books = self
            .books
            .lock()
            .expect("no task panics while it holds the books");
        field.findings.extend(books.settle(&snapshot));
        Ok(())
    }

    fn marks(&self) -> Option<Marks> {
        let books = self
            .books
            .lock()
            .expect("no task panics while it holds the books");
        let ended = |end| books.ended(end).map(|number| vec![number]).collect();
        Some(Marks {
            table: "transfer",
            columns: &["id"],
            told: ended(End::Acknowledged),
            failed: ended(End::Failed),
        })
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        let looks = field.progress.observed.load(Ordering::Relaxed);
        let few = (looks < OBSERVED_MIN)
            .then(|| format!("{looks} snapshots judged, fewer than {OBSERVED_MIN}"));
        too_few(field).or(few)
    }
}

fn balances(rows: &[Texts]) -> BTreeMap<i64, i64> {
    rows.iter()
        .filter_map(|row| Some((integer(row, 0)?, integer(row, 1)?)))
        .collect()
}

fn snapshot(accounts: &[Texts], transfers: &[Texts]) -> Snapshot {
    let mut snapshot = Snapshot {
        balances: balances(accounts),
        ..Snapshot::default()
    };
    for row in transfers {
        let number = |index| integer(row, index).unwrap_or(-1);
        let transfer = Transfer {
            from: number(1),
            to: number(2),
            amount: number(3),
        };
        if snapshot.transfers.insert(number(0), transfer).is_some() {
            snapshot.doubled.push(number(0));
        }
    }
    snapshot
}

/// A client that transfers.
struct Payer {
    field: Field,
    books: Arc<Mutex<Books>>,
    next: Arc<AtomicI64>,
    rng: StdRng,
    process: u64,
}

/// In what way a transfer is made.
#[derive(Clone, Copy)]
enum Way {
    /// The server adds: right at any level.
    Add,
    /// The client reads, computes and writes: needs a snapshot and first committer wins.
    ReadWrite(&'static str),
    /// As before, with the rows locked by the read.
    Locked,
}

impl Payer {
    async fn live(mut self) {
        let protocol = if self.process.is_multiple_of(2) {
            Protocol::Simple
        } else {
            Protocol::Extended
        };
        while let Some(link) = self.field.connect(OWNER, protocol).await {
            self.work(&link).await;
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    /// Works until the field is stopped or the connection is lost.
    async fn work(&mut self, link: &Link) {
        while !self.field.is_stopped() {
            let outcome = self.transfer(link).await;
            if outcome.failure().is_some_and(Failure::is_end) {
                return;
            }
        }
    }

    fn way(&mut self) -> Way {
        let level = |level| {
            if self.field.weaken {
                "READ COMMITTED"
            } else {
                level
            }
        };
        match self.rng.random_range(0..4) {
            0 => Way::Add,
            1 => Way::Locked,
            2 => Way::ReadWrite(level("REPEATABLE READ")),
            _ => Way::ReadWrite(level("SERIALIZABLE")),
        }
    }

    async fn transfer(&mut self, link: &Link) -> Outcome {
        let from = self.rng.random_range(0..ACCOUNTS);
        let to = (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let transfer = Transfer {
            from,
            to,
            amount: self.rng.random_range(1..=AMOUNT_MAX),
        };
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let value = json!([number, from, to, transfer.amount]);
        self.field
            .history
            .step(self.process, Step::Invoke, "transfer", value);
        let way = self.way();
        let outcome = match self.run(link, number, &transfer, way).await {
            Ok(()) => Outcome::of_commit(&link.run("COMMIT").await),
            Err(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Outcome::Failed(failure)
            }
        };
        let end = match &outcome {
            Outcome::Acknowledged => End::Acknowledged,
            Outcome::Failed(_) => End::Failed,
            Outcome::Unknown(_) => End::Unknown,
        };
        self.books
            .lock()
            .expect("no task panics while it holds the books")
            .enter(number, transfer, end);
        self.field
            .ended(self.process, "transfer", &outcome, &EXPECTED, json!(number));
        outcome
    }

    async fn run(
        &self,
        link: &Link,
        number: i64,
        transfer: &Transfer,
        way: Way,
    ) -> std::result::Result<(), Failure> {
        let Transfer { from, to, amount } = transfer;
        match way {
            Way::Add => {
                link.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                for (account, change) in [(from, -amount), (to, *amount)] {
                    let sql = format!(
                        "UPDATE account SET balance = balance + ({change}) WHERE id = {account}"
                    );
                    link.run(&sql).await?;
                }
            }
            Way::ReadWrite(level) => {
                link.run(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
                self.read_write(link, transfer, "").await?;
            }
            Way::Locked => {
                link.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                self.read_write(link, transfer, "FOR UPDATE").await?;
            }
        }
        let sql = format!("INSERT INTO transfer VALUES ({number}, {from}, {to}, {amount})");
        link.run(&sql).await.map(drop)
    }

    async fn read_write(
        &self,
        link: &Link,
        transfer: &Transfer,
        lock: &str,
    ) -> std::result::Result<(), Failure> {
        let Transfer { from, to, amount } = transfer;
        for (account, change) in [(from, -amount), (to, *amount)] {
            let sql = format!("SELECT balance FROM account WHERE id = {account} {lock}");
            let rows = link.run(&sql).await?;
            let balance = rows.first().and_then(|row| integer(row, 0)).unwrap_or(0) + change;
            let sql = format!("UPDATE account SET balance = {balance} WHERE id = {account}");
            link.run(&sql).await?;
        }
        Ok(())
    }
}

/// A client that looks.
struct Reader {
    field: Field,
    books: Arc<Mutex<Books>>,
    rng: StdRng,
    number: u64,
}

impl Reader {
    async fn live(mut self) {
        let mut looks = self.number;
        while let Some(link) = self.field.connect(OWNER, Protocol::Extended).await {
            while !self.field.is_stopped() {
                looks += 1;
                let Err(failure) = self.look(&link, looks).await else {
                    self.field.progress.observed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                match self.field.survives(&failure, "look", &CONFLICTS).await {
                    Some(true) => drop(link.run("ROLLBACK").await),
                    Some(false) => break,
                    None => return,
                }
            }
            if !self.field.goes_on() {
                return;
            }
        }
    }

    async fn look(&mut self, link: &Link, looks: u64) -> std::result::Result<(), Failure> {
        let level = if self.rng.random_bool(0.5) {
            "REPEATABLE READ"
        } else {
            "SERIALIZABLE"
        };
        let level = if self.field.weaken {
            "READ COMMITTED"
        } else {
            level
        };
        if looks.is_multiple_of(WHOLE_EVERY) {
            return self.look_at_all(link, level).await;
        }
        if self.rng.random_bool(0.3) {
            let rows = link.run("SELECT id, balance FROM account").await?;
            self.judge(&balances(&rows), "one statement");
            return Ok(());
        }
        link.run(&format!("BEGIN ISOLATION LEVEL {level} READ ONLY"))
            .await?;
        let mut seen = BTreeMap::new();
        for account in 0..ACCOUNTS {
            let sql = format!("SELECT id, balance FROM account WHERE id = {account}");
            seen.extend(balances(&link.run(&sql).await?));
        }
        link.run("COMMIT").await?;
        self.judge(&seen, level);
        Ok(())
    }

    async fn look_at_all(&self, link: &Link, level: &str) -> std::result::Result<(), Failure> {
        link.run(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
        let accounts = link.run("SELECT id, balance FROM account").await?;
        let transfers = link
            .run("SELECT id, payer, payee, amount FROM transfer")
            .await?;
        link.run("COMMIT").await?;
        let snapshot = snapshot(&accounts, &transfers);
        let books = self
            .books
            .lock()
            .expect("no task panics while it holds the books");
        self.field
            .findings
            .extend(books.judge_snapshot(&snapshot, level));
        Ok(())
    }

    fn judge(&self, balances: &BTreeMap<i64, i64>, how: &str) {
        let books = self
            .books
            .lock()
            .expect("no task panics while it holds the books");
        self.field
            .findings
            .extend(books.judge_balances(balances, how));
    }
}
