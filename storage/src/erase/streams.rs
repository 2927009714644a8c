//! Streams of a group's log to followers: while there is time, an eraser leaves what they have not
//! read yet. A follower that meets an erased image begins anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use journal::Position;
use parking_lot::Mutex;

use crate::Group;

/// Where a group's streams are.
#[derive(Default)]
pub(crate) struct Streams(Mutex<Vec<Weak<AtomicU64>>>);

/// How far a stream has read; it ends when this is dropped.
pub struct Streamed(Arc<AtomicU64>);

impl Streamed {
    /// It has read everything up to a position; of a bootstrap it has that position's rows.
    pub fn read(&self, upto: Position) {
        self.0.store(upto.0, Ordering::Release);
    }
}

impl Group {
    /// A stream begins behind a position.
    pub fn stream(&self, after: Position) -> Streamed {
        let stream = Arc::new(AtomicU64::new(after.0));
        let mut streams = self.streams.0.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&stream));
        Streamed(stream)
    }

    /// All streams have read up to here; without any, everything.
    pub fn streamed(&self) -> Position {
        let streams = self.streams.0.lock();
        let read = streams.iter().filter_map(Weak::upgrade);
        let least = read.map(|stream| stream.load(Ordering::Acquire)).min();
        least.map_or(Position::MAX, Position)
    }
}
