//! What the clients do, and how it is judged afterwards.

mod acknowledged;
mod append;
mod bank;
mod commands;
mod feed;
mod reads;
mod references;
mod register;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::Result;
use crate::field::Field;
use crate::options::Options;
use crate::victim::Kind;

pub use acknowledged::Acknowledged;
pub use append::Append;
pub use bank::Bank;
pub use commands::Commands;
pub use feed::Feed;
pub use reads::Reads;
pub use references::References;
pub use register::Register;

/// A workload on one data folder: it remembers over all its runs what the folder must hold.
pub trait Workload: Sized {
    /// The roles whose tables it writes.
    const OWNERS: &'static [&'static str];

    /// One that nobody has played yet.
    fn new(options: &Options) -> Self;

    /// Makes roles and tables in an empty database.
    async fn prepare(&mut self, field: &Field) -> Result<()>;

    /// Begins the load in tasks of its own; they end when the field is stopped or their
    /// connections are lost.
    async fn begin(&mut self, field: &Field) -> Result<()>;

    /// Waits for all tasks and takes what they know.
    async fn finish(&mut self);

    /// Reads everything from the quiet server and compares. What is unknown is known afterwards.
    async fn verify(&mut self, field: &Field) -> Result<()>;

    /// Waits until what was removed is gone from the running nodes, whose folders these are, and
    /// says what is left of it after its time.
    async fn verify_erased(&mut self, _field: &Field, _folders: &[PathBuf]) -> Result<()> {
        Ok(())
    }

    /// The same of nodes that have ended, for which nobody waits; whether it was looked at.
    fn verify_ended(&mut self, _field: &Field, _folders: &[PathBuf]) -> Result<bool> {
        Ok(false)
    }

    /// Rows by which the journal shows what became of each transaction, once all is known.
    fn marks(&self) -> Option<Marks> {
        None
    }

    /// Why the load of this run says nothing, if so.
    fn too_low(&self, field: &Field) -> Option<String>;
}

/// Rows of which each transaction inserts one, never to change it.
#[derive(Debug, Default)]
pub struct Marks {
    /// The table's name without schema.
    pub table: &'static str,
    /// The columns, integers, that name the transaction.
    pub columns: &'static [&'static str],
    /// Each of these stands in the journal once.
    pub told: BTreeSet<Vec<i64>>,
    /// None of these does.
    pub failed: BTreeSet<Vec<i64>>,
}

/// Fewer acknowledged transactions than this say nothing.
pub const ACKNOWLEDGED_MIN: u64 = 20;

/// The common judgement of a load.
pub fn too_few(field: &Field) -> Option<String> {
    let count = field.acknowledged();
    (count < ACKNOWLEDGED_MIN)
        .then(|| format!("{count} transactions acknowledged, fewer than {ACKNOWLEDGED_MIN}"))
}

/// Makes login roles that own tables in a schema of the same name.
pub async fn create_owners(field: &Field, kind: Kind, owners: &[&str]) -> Result<()> {
    let link = crate::link::Link::demand(&field.address, "postgres").await?;
    for owner in owners {
        let password = match field.address.password() {
            Some(password) => format!(" PASSWORD '{password}'"),
            None => String::new(),
        };
        link.must(&format!("CREATE ROLE {owner} LOGIN{password}"))
            .await?;
        if kind == Kind::Postgres {
            link.must(&format!("CREATE SCHEMA AUTHORIZATION {owner}"))
                .await?;
        }
    }
    Ok(())
}
