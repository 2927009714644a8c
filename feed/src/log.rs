//! A node's journal as the feed reads it: from which position on a group's entries are all there,
//! and whole.
//!
//! ```text
//! ... part 0 | part 1   other   part 2   entry   later ...      entry is not whole:
//!            ^ oldest record                     ^ retained     who has it may go on
//! ```
//! Segments leave whatever lies in them, so that a large entry may outlive some of its parts.

use std::collections::BTreeMap;

use journal::{GroupId, Index, Journal, Kind, Position, Record, Term};
use parking_lot::Mutex;
use storage::{Entry, Group, Part, TxId};

use crate::{Error, Result};

/// Bytes read at once where it is looked for what was cut.
const SEARCH_BYTES_MAX: usize = 4 << 20;

/// The journal, and what was found out about its cuts.
pub(crate) struct Log {
    pub journal: Journal,
    cuts: Mutex<BTreeMap<GroupId, Cut>>,
}

/// Where the log of a group was cut off.
#[derive(Clone, Copy, Default)]
struct Cut {
    /// The oldest record when it was last looked.
    oldest: Index,
    /// No entry up to here need be whole.
    upto: Position,
}

impl Log {
    pub fn new(journal: Journal) -> Log {
        Log {
            journal,
            cuts: Mutex::default(),
        }
    }

    /// How far, at most `upto`, no entry of a replica can come any more, and all are on the disk.
    pub fn closed(&self, group: &Group, upto: Position) -> Position {
        let closed = group.close_up_to(upto);
        closed.min(self.journal.durable_position(group.id()))
    }

    /// After this position the group's entries are all there, and whole. Looks at the records
    /// once for each cut.
    pub fn retained(&self, group: &Group) -> Result<Position> {
        let applied = group.applied();
        let state = self.journal.state(group.id());
        let Some((oldest, position)) = state.oldest else {
            // Nothing was ever written; or it began with a snapshot, of what is applied.
            return Ok(state.purged.map_or(Position::ZERO, |_| applied));
        };
        // A log that still has its first record is complete; of another one the oldest record
        // left only tells how far it was cut.
        if oldest.0 <= 1 {
            return Ok(Position::ZERO);
        }
        // A log that goes on behind a snapshot may begin with records of Raft's own, which have
        // no position.
        let position = match position {
            Position::ZERO => self.first_position(group.id())?.unwrap_or(applied),
            position => position,
        };
        let known = self.cuts.lock().get(&group.id()).copied();
        if let Some(cut) = known.filter(|cut| cut.oldest == oldest) {
            return Ok(position.max(cut.upto));
        }
        let upto = self.last_cut(group, oldest)?;
        let mut cuts = self.cuts.lock();
        let cut = cuts.entry(group.id()).or_default();
        cut.oldest = oldest;
        cut.upto = cut.upto.max(upto);
        Ok(position.max(cut.upto))
    }

    /// The position of the oldest entry; `None` if there is none yet.
    fn first_position(&self, id: GroupId) -> Result<Option<Position>> {
        let Some(first) = self.journal.seek(id, Position::ZERO)? else {
            return Ok(None);
        };
        let read = self.journal.read(id, first, Index(first.0 + 1), 0)?;
        Ok(read.first().map(|record| record.position))
    }

    /// The last entry that has lost parts before `oldest`, as far as the records behind it tell:
    /// until every transaction that has lost its first parts has ended. One that has lost all of
    /// them leaves no trace but its entry, which follows its last part closely; if it does not,
    /// [`Log::behind`] is what its reader is told.
    fn last_cut(&self, group: &Group, oldest: Index) -> Result<Position> {
        let mut open = Open::default();
        let mut from = oldest;
        while from == oldest || open.any_cut() {
            let read = self
                .journal
                .read(group.id(), from, Index(u64::MAX), SEARCH_BYTES_MAX)?;
            let Some(last) = read.last() else { break };
            from = Index(last.index.0 + 1);
            for record in &read {
                open.pass(group, record)?;
            }
        }
        Ok(open.upto)
    }

    /// May a reader go on with this record, if `next` is the index that it needs? The journal goes
    /// on at the oldest record that is left.
    pub fn check_next(&self, group: &Group, next: Index, found: Option<&Record>) -> Result<()> {
        let purged = || self.journal.state(group.id()).purged;
        let gone = match found {
            Some(record) => record.index > next,
            None => purged().is_some_and(|(_, purged)| purged >= next),
        };
        if gone && group.has_ended() {
            // Another replica's log may stand in its place already.
            return Err(Error::Unknown(group.id()));
        }
        if gone {
            let (group, oldest) = (group.id(), self.retained(group)?);
            return Err(Error::Behind { group, oldest });
        }
        Ok(())
    }

    /// What a reader is told that has come to an entry which is not whole. It is remembered, so
    /// that nobody begins before it any more. A log of which nothing is left was taken away whole.
    pub fn behind(&self, group: GroupId, entry: Position) -> Error {
        let state = self.journal.state(group);
        if state.oldest.is_none() && state.purged.is_none() {
            return Error::Unknown(group);
        }
        let mut cuts = self.cuts.lock();
        let cut = cuts.entry(group).or_default();
        cut.upto = cut.upto.max(entry);
        let oldest = cut.upto;
        Error::Behind { group, oldest }
    }
}

/// Large transactions whose entry has not come yet, while records pass.
#[derive(Default)]
struct Open {
    /// The number of the first part that was seen: above 0 if those before it have left.
    first: BTreeMap<(Term, TxId), u32>,
    /// The last entry that has lost parts.
    upto: Position,
}

impl Open {
    fn any_cut(&self) -> bool {
        self.first.values().any(|number| *number > 0)
    }

    fn pass(&mut self, group: &Group, record: &Record) -> Result<()> {
        // What an earlier term has begun ends with it.
        self.first.retain(|(term, _), _| *term >= record.term);
        match record.kind {
            Kind::Part => {
                let header = Part::decode_header(&record.payload)?;
                let transaction = (header.epoch, header.txid);
                self.first.entry(transaction).or_insert(header.number);
            }
            Kind::Entry => self.end(group, Entry::decode(&record.payload)?),
            Kind::Raft
            | Kind::Vote
            | Kind::Truncate
            | Kind::Purge
            | Kind::Erase
            | Kind::Mark
            | Kind::Footer => (),
        }
        Ok(())
    }

    fn end(&mut self, group: &Group, entry: Entry) {
        let header = entry.header;
        for txid in entry.abandoned {
            self.first.remove(&(header.epoch, txid));
        }
        let first = self.first.remove(&(header.epoch, header.txid));
        if header.parts.is_some() && first != Some(0) && !group.broken(header.position) {
            self.upto = self.upto.max(header.position);
        }
    }
}
