//! Isolation levels, and lock modes in PostgreSQL's words (chapter 13).

pub use storage::{Policy, RowMode, TableMode};

/// Isolation levels; READ UNCOMMITTED is READ COMMITTED, as in PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A fresh snapshot per statement.
    #[default]
    ReadCommitted,
    /// One snapshot; first committer wins.
    RepeatableRead,
    /// Also validates what was read.
    Serializable,
}

impl Isolation {
    /// As `SHOW transaction_isolation` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        }
    }

    /// One snapshot for the whole transaction?
    pub fn keeps_snapshot(self) -> bool {
        self != Isolation::ReadCommitted
    }
}

/// The answer to a lock request that did not have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// The lock is held.
    Granted,
    /// SKIP LOCKED, and somebody else has it.
    Skipped,
}
