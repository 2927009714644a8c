//! Foreign keys between four owners: a chain (invoices of orders of customers) and a star (many
//! tables of customers), over few hot keys. Whatever fails and whoever is led where, no reader at any
//! node sees a row without its parent, and what is refused has changed nothing.

mod churn;
mod client;
mod erased;
mod reader;
mod rest;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::json;
use tokio::task::JoinSet;

use super::{Marks, Workload, create_owners, too_few};
use crate::check::books::End;
use crate::check::erased::{Canaries, Fates};
use crate::check::references::{
    Books, DEFAULT, Deed, Effects, OnDelete, Reference, Row, Schema, Table, TableAt,
};
use crate::error::{Error, Result};
use crate::field::Field;
use crate::link::{Failure, Link, Outcome, Texts, integer};
use crate::options::Options;
use crate::victim::Kind;

use churn::Churner;
use client::Client;
use reader::Reader;

/// Who has the customers, the orders, the invoices; the visits, and nothing else that references: when that
/// foreign key is dropped, its owner is not asked any more. And who reads all of it and has nothing.
const OWNERS: [&str; 4] = ["crm", "shop", "billing", "care"];
const ONLOOKER: &str = "onlooker";

/// Clients that write, of all owners together, if nobody says how many.
const CLIENTS: u32 = 12;

/// Sessions that look, at each node: by turns at its own cut, and at an owner's home.
const READERS: u64 = 3;

/// Reads at the node's own cut from now on.
const LOCAL: &str = "SET freehold.read = 'local'";

/// The table whose foreign key comes and goes, as a place in the schema, and that key's name.
const CHURNED: TableAt = 6;
const CHURNED_KEY: &str = "visit_customer";

/// Looks that a run must have to say anything.
const LOOKS_MIN: u64 = 10;

/// Parents that a run must have deleted to say anything.
const DELETED_MIN: u64 = 10;

/// Erases that a run must have, and rows of 100 that it must find where they live: else that it finds
/// none of those that are gone says nothing.
const ERASED_MIN: u64 = 5;
const FOUND_MIN: u64 = 90;

/// A parent is not there, or a child is; a value is taken; a lock is not given in time.
const DANGLING: &str = "23503";
const TAKEN: &str = "23505";
const LOCKED: &str = "55P03";
/// Conflicts, a key that is about to be removed among them.
const CONFLICT: &str = "40001";
const DEADLOCK: &str = "40P01";
/// Another owner does not answer: only where nodes are lost or cut off.
const AWAY: &str = "OW003";

/// A SERIALIZABLE transaction can't have other owners' rows changed.
const SERIALIZABLE: &str = "0A000";

/// A row is put back that was erased in the same transaction.
const PUT_BACK: &str = "55000";

/// What is given as the SQLSTATE of a transaction that its client rolled back.
const ROLLED_BACK: &str = "ROLLBACK";

/// The workload.
pub struct References {
    kind: Kind,
    clients: u32,
    actions: Vec<OnDelete>,
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
}

/// What all clients share.
#[derive(Default)]
struct Desk {
    books: Mutex<Books>,
    /// Names transactions.
    next: AtomicI64,
    /// Counts what is asked for and answered: a clock that outlives runs.
    clock: AtomicU64,
    /// Of each table, the row that was deleted last or is about to be.
    hot: [AtomicI64; TABLES],
    /// Rows of referenced tables that were deleted; statements that were refused because of a
    /// reference; those that met a fence or another conflict.
    deleted: AtomicU64,
    refused: AtomicU64,
    conflicts: AtomicU64,
    /// Foreign keys that were dropped and added.
    dropped: AtomicU64,
    added: AtomicU64,
    /// Looks under a foreign key that comes and goes, while it was valid.
    in_force: AtomicU64,
    /// Statements that were refused and then seen to have changed nothing.
    kept: AtomicU64,
    /// What is to be searched for in bytes.
    canaries: Mutex<Canaries>,
    /// Statements that erased, behind which was looked.
    erased: AtomicU64,
    /// Of 100 rows that live so many were found in each folder that has to have them.
    found: AtomicU64,
}

/// How many tables there are.
const TABLES: usize = 7;

impl Desk {
    fn name(&self) -> i64 {
        self.next.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no task panics with the books")
    }

    fn canaries(&self) -> MutexGuard<'_, Canaries> {
        let canaries = self.canaries.lock();
        canaries.expect("no task panics with the canaries")
    }

    /// What must be found, and what may not, now that nobody writes.
    fn fates(&self) -> Fates {
        self.canaries().fates(self.books().rows())
    }

    fn schema(&self) -> Schema {
        self.books().schema().clone()
    }

    /// Takes note of a transaction that was asked for at `asked` and ends now.
    fn end(&self, id: i64, has_mark: bool, effects: Effects, asked: u64, outcome: &Outcome) {
        let end = match outcome {
            Outcome::Acknowledged => End::Acknowledged,
            Outcome::Failed(_) => End::Failed,
            Outcome::Unknown(_) => End::Unknown,
        };
        if end == End::Acknowledged {
            let count = effects
                .deleted
                .iter()
                .filter(|(table, _)| is_parent(*table));
            self.deleted
                .fetch_add(count.count() as u64, Ordering::Relaxed);
        }
        if let Some(failure) = outcome.failure() {
            self.count(failure);
        }
        let told = self.tick();
        let deed = Deed {
            has_mark,
            effects,
            asked,
            told,
            end,
        };
        self.canaries().enter(&deed);
        self.books().enter(id, deed);
    }

    /// Counts why a statement was refused.
    fn count(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Refused { state, .. } if state == DANGLING => &self.refused,
            Failure::Refused { state, .. } if state == CONFLICT => &self.conflicts,
            Failure::Refused { .. } | Failure::Lost(_) | Failure::Silent(_) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All tables, with what their foreign keys do, as far as these actions may be.
fn tables(actions: &[OnDelete]) -> Schema {
    let reference = |column, parent, action, otherwise| Reference {
        column,
        parent,
        action: match actions.contains(&action) {
            true => action,
            false => otherwise,
        },
        comes_and_goes: false,
    };
    let table = |name, owner, keys, references| Table {
        name,
        owner,
        keys,
        references,
    };
    use OnDelete::{Cascade, NoAction, Restrict, SetDefault, SetNull};
    let visit = Reference {
        comes_and_goes: true,
        ..reference("customer", 0, SetDefault, NoAction)
    };
    vec![
        table("customer_v1", 0, 8, vec![]),
        table("offer_v1", 0, 2, vec![]),
        table(
            "order_v1",
            1,
            5,
            vec![reference("customer", 0, Cascade, NoAction)],
        ),
        table(
            "sale_v1",
            1,
            2,
            vec![reference("offer", 1, Restrict, Restrict)],
        ),
        table(
            "invoice_v1",
            2,
            5,
            vec![
                reference("customer", 0, SetNull, Restrict),
                reference("ord", 2, Cascade, NoAction),
            ],
        ),
        table(
            "contract_v1",
            2,
            2,
            vec![reference("customer", 0, Restrict, Restrict)],
        ),
        // No contract: those may only grow.
        table("visit", 3, 3, vec![visit]),
    ]
}

/// Customers, offers, orders.
fn is_parent(table: TableAt) -> bool {
    table < 3
}

/// What a statement may be refused with.
fn expected(field: &Field) -> Vec<&'static str> {
    let mut states = vec![DANGLING, TAKEN, LOCKED, CONFLICT, DEADLOCK];
    if field.is_cluster() {
        states.push(AWAY);
    }
    states
}

/// Whether the server said no with this SQLSTATE.
fn is_state(failure: &Failure, wanted: &str) -> bool {
    matches!(failure, Failure::Refused { state, .. } if state == wanted)
}

/// The columns of a table.
fn columns(table: &Table) -> String {
    let references = table
        .references
        .iter()
        .map(|key| format!(", {}", key.column));
    format!("id, n{}", references.collect::<String>())
}

/// A row as read with [`columns`].
fn row_of(texts: &Texts) -> Option<(i64, Row)> {
    let references = 2..texts.len();
    let row = Row {
        n: integer(texts, 1)?,
        references: references.map(|at| integer(texts, at)).collect(),
    };
    Some((integer(texts, 0)?, row))
}

/// A value of SQL.
fn literal(value: Option<i64>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

/// The name of a foreign key.
fn name_of(table: &Table, key: &Reference) -> String {
    match key.comes_and_goes {
        true => CHURNED_KEY.to_owned(),
        false => format!("{}_{}", table.name, key.column),
    }
}

/// The statement that adds it.
fn add_key(schema: &Schema, table: &Table, key: &Reference, action: OnDelete) -> String {
    format!(
        "ALTER TABLE public.{} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES public.{} ON DELETE {}",
        table.name,
        name_of(table, key),
        key.column,
        schema[key.parent].name,
        action.sql()
    )
}

impl References {
    /// What was deleted is gone after so long, as the server is told: the shortest that it takes.
    pub const ERASE_AFTER: &'static str = "20s";
}

impl Workload for References {
    const OWNERS: &'static [&'static str] = &OWNERS;

    fn new(options: &Options) -> References {
        References {
            kind: options.victim,
            clients: options.clients.unwrap_or(CLIENTS),
            actions: options.actions.clone(),
            desk: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &OWNERS).await?;
        create_owners(field, self.kind, &[ONLOOKER]).await?;
        let reader = Link::demand(&field.address, ONLOOKER).await?;
        // Without it there is nothing to test: no server but Freehold has it.
        let local = reader.run(LOCAL).await;
        local
            .map_err(|failure| Error::Setup(format!("no reads at a node's own cut: {failure}")))?;
        let mut schema = tables(&self.actions);
        for at in 0..schema.len() {
            make(field, &mut schema, at).await?;
        }
        for owner in OWNERS {
            let link = Link::demand(&field.address, owner).await?;
            link.must("CREATE TABLE done (id bigint PRIMARY KEY)")
                .await?;
            // A row for each time at which all was quiet.
            link.must("CREATE TABLE quiet (at bigint PRIMARY KEY)")
                .await?;
        }
        let mut words = Vec::new();
        for table in &schema {
            for key in &table.references {
                let parent = schema[key.parent].name;
                let (name, column) = (table.name, key.column);
                words.push(format!("{name}.{column} -> {parent} {}", key.action.sql()));
            }
        }
        println!("foreign keys: {}", words.join(", "));
        field.history.note("foreign keys", json!(words));
        *self.desk.books() = Books::new(schema);
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        let schema = Arc::new(self.desk.schema());
        for number in 0..u64::from(self.clients) {
            let client = Client {
                field: field.clone(),
                desk: self.desk.clone(),
                schema: schema.clone(),
                owner: number as usize % OWNERS.len(),
                rng: field.seed.fork("client", number).rng(),
                process: field.run * 10_000 + number,
            };
            self.tasks.spawn(client.live());
        }
        let churner = Churner {
            field: field.clone(),
            desk: self.desk.clone(),
            schema: schema.clone(),
            rng: field.seed.fork("churner", 0).rng(),
            process: field.run * 10_000 + u64::from(self.clients),
        };
        self.tasks.spawn(churner.live());
        for node in 0..field.address.len() {
            for number in 0..READERS {
                let reader = Reader {
                    field: field.at(field.address.only(node)),
                    desk: self.desk.clone(),
                    schema: schema.clone(),
                    is_local: number > 0,
                    node: node + 1,
                    rng: field
                        .seed
                        .fork("reader", node as u64 * READERS + number)
                        .rng(),
                };
                self.tasks.spawn(reader.live());
            }
        }
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a client does not panic");
        }
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        rest::judge(field, &self.desk).await?;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let desk = &self.desk;
        let counts = json!({
            "looks": count(&field.progress.observed), "deleted": count(&desk.deleted),
            "refused": count(&desk.refused), "conflicts": count(&desk.conflicts),
            "dropped": count(&desk.dropped), "added": count(&desk.added),
            "looks at what comes and goes": count(&desk.in_force), "kept": count(&desk.kept),
            "erased": count(&desk.erased),
        });
        field.history.note("references", counts);
        Ok(())
    }

    async fn verify_erased(&mut self, field: &Field, folders: &[PathBuf]) -> Result<()> {
        erased::judge(field, &self.desk, folders).await
    }

    fn verify_ended(&mut self, field: &Field, folders: &[PathBuf]) -> Result<bool> {
        erased::judge_ended(field, &self.desk, folders).map(|()| true)
    }

    fn marks(&self) -> Option<Marks> {
        let books = self.desk.books();
        let rows = |end| books.marks(end).map(|id| vec![id]).collect();
        Some(Marks {
            table: "done",
            columns: &["id"],
            told: rows(End::Acknowledged),
            failed: rows(End::Failed),
        })
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        let looks = field.progress.observed.load(Ordering::Relaxed);
        let few = |count: u64, least: u64, what: &str| {
            (count < least).then(|| format!("{count} {what}, fewer than {least}"))
        };
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        too_few(field)
            .or_else(|| few(looks, LOOKS_MIN, "snapshots judged"))
            .or_else(|| few(count(&self.desk.deleted), DELETED_MIN, "parents deleted"))
            .or_else(|| {
                few(
                    count(&self.desk.refused),
                    1,
                    "statements refused for a reference",
                )
            })
            .or_else(|| {
                few(
                    count(&self.desk.in_force),
                    1,
                    "looks at what comes and goes",
                )
            })
            .or_else(|| few(count(&self.desk.erased), ERASED_MIN, "rows erased"))
            .or_else(|| {
                few(
                    count(&self.desk.found),
                    FOUND_MIN,
                    "of 100 rows that live were found in the folders",
                )
            })
    }
}

/// Makes a table with its grants and foreign keys; those that the server does not have refuse.
async fn make(field: &Field, schema: &mut Schema, at: TableAt) -> Result<()> {
    let table = schema[at].clone();
    let link = Link::demand(&field.address, OWNERS[table.owner]).await?;
    let mut columns = String::new();
    for key in &table.references {
        columns += &format!(", {} bigint DEFAULT {DEFAULT}", key.column);
    }
    let name = table.name;
    let sql = format!(
        "CREATE TABLE public.{name} (id bigint PRIMARY KEY, n bigint NOT NULL{columns}, note text)"
    );
    link.must(&sql).await?;
    link.must(&format!("GRANT READ ON {name} TO {ONLOOKER}"))
        .await?;
    if is_parent(at) {
        // The owner of orders has the keys alone beside it, the others the rows.
        for (other, role) in OWNERS.iter().enumerate().skip(table.owner + 1) {
            link.must(&format!("GRANT REFERENCES ON {name} TO {role}"))
                .await?;
            if other > 1 {
                link.must(&format!("GRANT READ ON {name} TO {role}"))
                    .await?;
            }
        }
    }
    for (number, key) in table.references.iter().enumerate() {
        let added = link.run(&add_key(schema, &table, key, key.action)).await;
        match added {
            Ok(_) => {}
            Err(failure) if is_state(&failure, "0A000") => {
                link.must(&add_key(schema, &table, key, OnDelete::NoAction))
                    .await?;
                schema[at].references[number].action = OnDelete::NoAction;
            }
            Err(failure) => {
                let statement = format!("the foreign key {}", name_of(&table, key));
                return Err(Error::Statement { statement, failure });
            }
        }
    }
    Ok(())
}
