//! The feed over owners of which this node has no log: a node that has a replica makes the rows of
//! their entries, as far as the role that reads here may see them.
//!
//! ```text
//! changes.rs: the feed in SQL ─┬─ close.rs: how far the groups asked for are closed
//!                              ├─ merge.rs: units of this node's journal and of others, in order
//!                              └─ leg.rs: what one other node gives of some groups, and the next
//!                                   │     one if it fails
//!                                words.rs: what the two nodes say
//!                                source.rs: the other end; it decides what it gives
//! ```
//! **How far.** A node follows every group that it has no replica of, at least its catalog, entry by
//! entry: so it knows how far each one is closed, and what names and rights are valid there. A page
//! asks another node for what lies between its cursor and that, and for nothing if no entry does.
//!
//! **Who may read.** The source, by its own catalog, which has what the reader's had when it asked.
//!
//! **Who waits.** A statement that reads tables or the feed runs on a thread that others don't need
//! (`Step::Heavy`). It waits there, as it does for a disk, and looks every now and then whether it
//! was interrupted.

mod close;
mod leg;
mod merge;
mod source;
mod words;

use std::future::Future;
use std::time::Duration;

use sql::changes::Interrupt;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio::time::timeout;

pub use self::close::Closing;
pub use self::merge::read;
pub use self::source::{Sources, serve};
pub use self::words::FIRST_BYTE;

/// Streams that a node gives at the same time.
const SOURCES_MAX: usize = 1024;
/// Groups of one stream.
const GROUPS_MAX: usize = 4096;
/// The longest filter: names and patterns.
const FILTER_BYTES_MAX: usize = 128 << 10;
/// What a source writes at once.
const WRITE_BYTES: usize = 64 << 10;
/// A source that is so long without what is asked for says so.
const BEHIND_AFTER: Duration = Duration::from_secs(1);
/// Between two looks whether it has it.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A source says so often that it is there.
const SIGN_EVERY: Duration = Duration::from_millis(500);
/// One from which nothing comes for so long is left for another.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// A group is given up once all nodes that have it, and are there, have failed; a page waits for so
/// long for that to change, for all of its groups together.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// A reader that takes nothing for so long is left: it comes again.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// Who waits looks so often whether it was interrupted.
pub const INTERRUPT_EVERY: Duration = Duration::from_millis(50);
/// So long a page waits for groups to be closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// A group of which nothing is known that is asked for is not waited for once it could not be closed
/// for so long: its owner is away. So long a page waits for a group that this node has not got yet.
const WATCHED_WITHIN: Duration = Duration::from_secs(10);
/// Groups that only could make a table visible are asked to be closed so often at most, whoever
/// reads: there may be many, and each writes an entry.
const WATCHED_CLOSE_EVERY: Duration = Duration::from_millis(500);

const _: () = assert!(SIGN_EVERY.as_millis() * 4 < SILENT_AFTER.as_millis());
const _: () = assert!(WATCHED_CLOSE_EVERY.as_millis() < CLOSE_WITHIN.as_millis());
const _: () = assert!(BEHIND_AFTER.as_millis() < SILENT_AFTER.as_millis());
const _: () = assert!(FILTER_BYTES_MAX + GROUPS_MAX * 12 < crate::peer::OPENING_BYTES_MAX);

/// Waits on this thread, and looks whether it was interrupted.
pub fn wait<T>(interrupt: &Interrupt, what: impl Future<Output = T>) -> Result<T, sql::Error> {
    let waiting = async {
        tokio::pin!(what);
        loop {
            // First, for what is there at once may come again and again.
            interrupt()?;
            if let Ok(done) = timeout(INTERRUPT_EVERY, &mut what).await {
                return Ok(done);
            }
        }
    };
    block_in_place(|| Handle::current().block_on(waiting))
}
