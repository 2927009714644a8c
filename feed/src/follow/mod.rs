//! Followers: what one node gives another of the groups that it holds by Raft, so that the other
//! one has the rows of chosen tables, at one position per group, without a vote and without a log.
//!
//! ```text
//! source (holds the group by Raft)          sink (another node)
//!   Source::next ── Piece ── bytes ──────────> Sink::take
//!     Begin, Rows ..., End                       kept aside, installed when it is whole
//!     Entry, Entry, Choose, Entry ...            applied one by one
//!     Come, Rows ..., End                        more trees, while the others wait
//!     Again                                      come again without a position
//!   Request <────────────────────────────────  Sink::request: from where to go on
//! ```
//! Every committed entry of the group is sent, one that touches nothing chosen too: so the chain
//! is checked by the one who applies it, and what it depends on is known there. No sockets here,
//! no clock: server brings the bytes from one to the other.

mod piece;
mod sink;
mod source;

pub use piece::{HEAD_BYTES, PIECE_BYTES_MAX, Piece, Request, body_bytes};
pub use sink::{Phase, Progress, Sink};
pub use source::{Choice, Source};
