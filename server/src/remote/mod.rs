//! Views whose tables must not come to the reader's node: one that holds their group by Raft makes
//! the rows (`sql::remote` says which, and as of when).
//!
//! ```text
//! reader.rs ── opening ──> source.rs: has it what the reader knows? It pins the position,
//!          <── rows ...──             and gives what the view gives
//!          <── end ──────
//!          (kept open ──>             if the reader's snapshot is kept: so is the pin)
//! ```
//! What goes over the stream is in `words.rs`. A source that says nothing is left for the next one;
//! one that was lost behind rows ends the statement. Memory is bounded by the stream's window: rows
//! are made as they are read.

mod reader;
mod source;
mod words;

use std::time::Duration;

pub use self::reader::read;
pub use self::source::{Sources, serve};
pub use self::words::FIRST_BYTE;

/// Views that a node gives at the same time, those of which only a position is held included.
const SOURCES_MAX: usize = 1024;
/// Rows that are made before they are sent.
const ROWS_BYTES: usize = 64 << 10;
/// A source that is so long without what the reader has says so.
const BEHIND_AFTER: Duration = Duration::from_secs(1);
/// Between two looks whether it has it.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A source says so often that it is there.
const SIGN_EVERY: Duration = Duration::from_millis(500);
/// One from which nothing comes for so long is left for another.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// A view is given up once all nodes that have its group have failed for so long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

const _: () = assert!(SIGN_EVERY.as_millis() * 4 < SILENT_AFTER.as_millis());
const _: () = assert!(BEHIND_AFTER.as_millis() < SILENT_AFTER.as_millis());
