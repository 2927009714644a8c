//! Why a statement stops before its end: an error, or something that must be awaited outside.
//! Nothing in this crate blocks a thread.

use storage::{GroupId, Position, Ticket};

use crate::Error;
use crate::catalog::{RoleId, TableId};
use crate::session::signal::Signal;

/// What executor and transaction functions return as `Err`.
#[derive(Debug)]
pub enum Stop {
    /// The statement fails.
    Error(Error),
    /// Await, then run the whole statement again from its start (with a fresh snapshot under READ
    /// COMMITTED); locks are kept, writes of the attempt are undone.
    Wait(Wait),
    /// Await, then call `next` of the same operator again: only sources of endless streams say
    /// this, and operators above hand it on before they change their own state.
    Pause(Wait),
}

/// What is awaited.
pub enum Wait {
    /// A lock: its place in the queue (dropping it leaves the queue).
    Lock(Ticket),
    /// An entry of the group at or after this position is applied.
    Position(GroupId, Position),
    /// A time, in microseconds since 1970 (`pg_sleep`, retry delays).
    Until(u64),
    /// New entries of any group, at the latest at the time given (`freehold.changes`).
    Feed(Option<u64>),
    /// Nothing: run again at once (a row changed between snapshot and lock).
    Again,
    /// The group is made and led here.
    Group(GroupId),
    /// Something that comes once.
    Signal(Signal),
    /// The same, at the latest at this time, in microseconds since 1970.
    SignalOr(Signal, u64),
    /// The directory's leader has answered, and what it has done is applied here.
    Wish(Signal),
    /// The rows of another owner's table are here. The session asks for them.
    Table {
        /// Who reads, if that is not the session's role but the owner of a view.
        role: Option<RoleId>,
        /// The owner's group.
        group: GroupId,
        /// The table.
        table: TableId,
    },
    /// What is shown here of a followed group moves on. The session sees to it that this is not
    /// waited for in vain.
    Cut(GroupId),
    /// This node knows that its catalog of the group is what others have. The session asks for it.
    Doubt(GroupId),
    /// The group is led here. The session looks who leads it: it goes there, or waits until
    /// somebody does.
    Leader(GroupId),
}

impl Stop {
    /// Run the statement again at once.
    pub fn again() -> Stop {
        Stop::Wait(Wait::Again)
    }
}

impl std::fmt::Debug for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wait::Lock(_) => f.write_str("Lock"),
            Wait::Position(group, position) => write!(f, "Position({group}, {position})"),
            Wait::Until(micros) => write!(f, "Until({micros})"),
            Wait::Feed(until) => write!(f, "Feed({until:?})"),
            Wait::Again => f.write_str("Again"),
            Wait::Group(group) => write!(f, "Group({group})"),
            Wait::Signal(_) => f.write_str("Signal"),
            Wait::SignalOr(_, until) => write!(f, "SignalOr({until})"),
            Wait::Wish(_) => f.write_str("Wish"),
            Wait::Table { table, .. } => write!(f, "Table({table})"),
            Wait::Cut(group) => write!(f, "Cut({group})"),
            Wait::Doubt(group) => write!(f, "Doubt({group})"),
            Wait::Leader(group) => write!(f, "Leader({group})"),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl From<storage::Error> for Stop {
    fn from(error: storage::Error) -> Stop {
        Stop::Error(error.into())
    }
}
