//! Any node takes any connection; a session runs at its role's home, the node that leads its group.
//!
//! ```text
//! client ── serve.rs ─┬─ connection.rs: the session, here
//!                     └─ travel.rs: a stream to the home ── home.rs there: the session
//! ```
//!
//! **Moving.** A session that runs here goes elsewhere at the begin of a turn, if its home is there,
//! or with the turn in which a statement needs the leader of another group (`Step::Elsewhere`): the
//! session's state as it was at the turn's begin is taken along, and the turn's messages are run
//! there from the first one. What of them was answered before (only what prepares may be) is run
//! again without an answer. A home that wants its session elsewhere says so to the gateway, which
//! has state and messages, and goes there. The gateway may be that place itself, and is it between
//! two turns of a session that reads its client's node (`freehold.read = 'local'`).
//!
//! **A home that falls.** The gateway knows the session's state at the begin of the turn, and the
//! turn's messages. It goes on at another home; what it does with the turn is decided in `verdict.rs`:
//! - Nothing of the turn can have been committed, and nothing was answered: it is run again. In a
//!   block, that block is gone: the session goes on here, for it needs no leader to end, and
//!   answers its first statement with 40001, as if leadership had moved.
//! - The turn only prepares: what was answered stands, and the rest is run; drivers ask for the next
//!   statement before they have seen the end of such a turn, and would miss an error there.
//! - Nothing can have been committed, but something was answered: 40001.
//! - Otherwise: 08007, the outcome is unknown.
//!
//! **What can have been committed.** After a turn is sent, anything may have been, unless the home
//! has promised otherwise; a promise that comes late costs only a retry. The home promises for a
//! statement that makes it wait or compute, if it is a query whose plan neither writes nor locks rows
//! nor calls a volatile function, and it is all that the turn runs: the whole query string, or the
//! one Execute before the Sync that has arrived already. It keeps the promise because such a plan
//! can do nothing else. In a block nothing is committed before it ends, so there the gateway asks
//! whether the turn's texts can end one. Outside of these two nothing is run a second time. So no
//! turn is executed twice, whatever is lost on the way; what is lost is at most a retry.
//!
//! **What can't be taken along.** A turn above 1 MiB is not kept. A session with session-level
//! advisory locks or cursors WITH HOLD ends with its home (57P01), and so does one of which half a
//! message was sent.

mod home;
mod nodes;
mod opening;
mod travel;
mod verdict;

pub use home::{serve_request, serve_stream};
pub use nodes::{Alone, Nodes};
pub use opening::{REQUEST, Request};
pub use travel::{Moving, Who};
