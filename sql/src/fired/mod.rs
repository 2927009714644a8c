//! Triggers on followed tables: the home of the role that follows reads the entries of the table's
//! owner in the order of the feed and runs its triggers for each row, with how far it has come in the
//! same entry as what they did. A row whose trigger fails is set aside, with those of its key behind
//! it; the others go on.
//!
//! ```text
//! Entries (entries.rs) ── rows of one entry ──> Courier::fire ── fire.rs ──> one entry of the reader's
//!   a page of the feed from the cursor on          effects, cursor.rs, parked.rs (`crate::outbox`)
//! ```

mod cursor;
mod entries;
mod fire;

pub(crate) use cursor::Cursor;
pub use entries::{Batch, Entries};
pub(crate) use fire::{Fires, Parked, check_hops, index_key, index_of};

/// Through so many triggers on followed tables and commands an effect may lead to another one.
pub(crate) const HOPS_MAX: u16 = 16;
