//! One entry as the feed gives it. The changes of a large one are read from its parts while the
//! reader goes on, so that its size does not matter.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use journal::{GroupId, Index, Kind, Position};
use storage::{Change, Entry, Erased, ErasedImage, Part};

use crate::log::Log;
use crate::{Error, Result};

/// Bytes read at once when the parts of a large entry are looked for.
const SEARCH_BYTES_MAX: usize = 4 << 20;
/// Records looked at in one step back.
const SEARCH_RECORDS: u64 = 16;

/// A committed entry.
pub struct FeedEntry {
    log: Arc<Log>,
    group: GroupId,
    index: Index,
    entry: Entry,
}

impl FeedEntry {
    pub(crate) fn new(log: Arc<Log>, group: GroupId, index: Index, entry: Entry) -> FeedEntry {
        FeedEntry {
            log,
            group,
            index,
            entry,
        }
    }

    /// The group that it belongs to.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Header, events and, of an ordinary entry, all changes.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// All changes in order of `seq`. Errors: [`Error::Behind`], here or later, if parts have
    /// left meanwhile.
    pub fn into_changes(self) -> Result<Changes> {
        let parts = match self.entry.header.parts {
            None => Vec::new(),
            Some(parts) => self.find_parts(parts.parts)?,
        };
        let Entry {
            header,
            changes,
            erased,
            ..
        } = self.entry;
        Ok(Changes {
            log: self.log,
            group: self.group,
            position: header.position,
            parts: parts.into_iter(),
            ready: Vec::new().into_iter().peekable(),
            own: with_lost(changes, &erased).into_iter().peekable(),
            erased,
        })
    }

    /// The indexes of the parts in order: they lie before the entry, perhaps among others.
    fn find_parts(&self, count: u32) -> Result<Vec<Index>> {
        let mut found = BTreeMap::new();
        let mut end = self.index;
        while (found.len() as u32) < count && end > self.oldest() {
            let begin = Index(end.0.saturating_sub(SEARCH_RECORDS));
            let mut from = begin;
            while from < end {
                let read = self
                    .log
                    .journal
                    .read(self.group, from, end, SEARCH_BYTES_MAX)?;
                let Some(last) = read.last() else { break };
                from = Index(last.index.0 + 1);
                for record in read.iter().filter(|record| record.kind == Kind::Part) {
                    let header = Part::decode_header(&record.payload)?;
                    if header.txid == self.entry.header.txid
                        && header.epoch == self.entry.header.epoch
                    {
                        found.insert(header.number, record.index);
                    }
                }
            }
            end = begin;
        }
        if (found.len() as u32) < count {
            return Err(self.lacks_parts(count, &found));
        }
        Ok(found.into_values().collect())
    }

    /// The oldest record of the group.
    fn oldest(&self) -> Index {
        let oldest = self.log.journal.state(self.group).oldest;
        oldest.map_or(Index(u64::MAX), |(index, _)| index)
    }

    /// Retention takes the first ones first, and nothing of a log that begins at its beginning.
    fn lacks_parts(&self, count: u32, found: &BTreeMap<u32, Index>) -> Error {
        if self.oldest().0 > 1 && !found.contains_key(&0) {
            return self.log.behind(self.group, self.entry.header.position);
        }
        Error::Storage(storage::Error::Corrupt {
            place: format!(
                "journal, group {}, entry at index {}",
                self.group, self.index.0
            ),
            what: format!("{} of its {count} parts are there", found.len()),
        })
    }
}

/// With a removal of no known key for each change and event of which nothing in the log tells any more:
/// of a removal that has lost its key, too; of what went with a tree whose table may live on; of an event.
/// A change of a row that was removed by itself is told by that removal.
fn with_lost(mut changes: Vec<Change>, erased: &[Erased]) -> Vec<Change> {
    let is_lost = |erased: &&Erased| match erased.what {
        ErasedImage::Removal | ErasedImage::Dropped | ErasedImage::Event => true,
        ErasedImage::Change | ErasedImage::Rest | ErasedImage::Unknown => false,
    };
    let before = changes.len();
    changes.extend(erased.iter().filter(is_lost).map(|erased| Change {
        seq: erased.seq,
        tree: erased.tree,
        feed: erased.feed,
        erase: true,
        ..Change::default()
    }));
    if changes.len() > before {
        changes.sort_by_key(|change| change.seq);
    }
    changes
}

/// The changes of one entry.
pub struct Changes {
    log: Arc<Log>,
    group: GroupId,
    position: Position,
    parts: IntoIter<Index>,
    /// Of the part that was read last.
    ready: Peekable<IntoIter<Change>>,
    /// Of the entry itself: of a large one what stands for its events.
    own: Peekable<IntoIter<Change>>,
    /// What was left of erased changes in the parts so far, and in the entry.
    erased: Vec<Erased>,
}

impl Changes {
    /// What was left of the changes that are erased; of a large entry as far as it was read.
    pub fn erased(&self) -> &[Erased] {
        &self.erased
    }

    fn ready(&mut self) -> Option<Change> {
        match (self.ready.peek(), self.own.peek()) {
            (Some(part), Some(own)) if own.seq < part.seq => self.own.next(),
            (Some(_), _) => self.ready.next(),
            (None, Some(_)) if self.parts.len() == 0 => self.own.next(),
            (None, _) => None,
        }
    }

    /// The next change. One without a key ([`Change::is_lost`]) stands for a change or an event of
    /// which only that is known.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Change>> {
        loop {
            if let Some(change) = self.ready() {
                #[cfg(feature = "sabotage")]
                if change.new.is_none() && journal::sabotage::planted("feed-drops-deletes") {
                    continue;
                }
                return Ok(Some(change));
            }
            let Some(index) = self.parts.next() else {
                return Ok(None);
            };
            let records =
                self.log
                    .journal
                    .read(self.group, index, Index(index.0 + 1), usize::MAX)?;
            let Some(record) = records.into_iter().next() else {
                // It was there when the parts were looked for.
                return Err(self.log.behind(self.group, self.position));
            };
            let part = Part::decode(&record.payload)?;
            self.ready = with_lost(part.changes, &part.erased).into_iter().peekable();
            self.erased.extend(part.erased);
        }
    }
}
