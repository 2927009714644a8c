//! What one owner sends to another: commands, and what came of them. It is part of the sender's own
//! entry, as rows of a hidden tree (`storage::system::outbox`) of which there are copies where the
//! receiver's group is. The receiver's home takes it in order, with how far it has come in the same
//! entry as what it did: exactly once, whatever fails. What was taken the sender's home removes.
//!
//! ```text
//! sender's group                                receiver's group
//!   outbox(receiver)                              outbox(sender)
//!     0      next number, first kept                2      number of the last that was taken
//!     1 n    what was sent, by number   ─ copy ─>   inbox  rows          ─┐ one entry
//!     2      (what it has taken of the other)       1 m    a rejection   ─┘
//! ```
//! `place.rs` numbers and writes what a transaction sends, `take.rs` is the receiver's side, `parked.rs`
//! what it sets aside, `removed.rs` what of that is erased, `clear.rs` removes what was taken, `verdict.rs` is who waits for it, `sent.rs` the
//! bytes; `views.rs` and `functions.rs` are for the owners' eyes and hands. The sessions that do it without a client are `session::Courier`s.

mod call;
mod clear;
mod functions;
mod parked;
mod place;
mod removed;
mod sent;
mod take;
mod verdict;
mod views;

pub(crate) use call::Calls;
pub(crate) use clear::clear;
pub(crate) use functions::functions;
pub(crate) use parked::{What, park};
pub(crate) use place::{Commands, Outgoing, send};
pub(crate) use removed::{Gone, Swept, any_parked, erase_gone, is_key_altered, note_gone};
pub(crate) use sent::Reason;
pub use sent::Sent;
pub(crate) use take::{Accepting, NUMBER, SENDER, Step, next, note, pass};
pub use verdict::Pairs;
pub(crate) use verdict::{Verdict, Verdicts};
pub(crate) use views::relations;
