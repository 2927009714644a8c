//! Large transactions: their changes are journaled as parts before the entry itself, while other
//! transactions go on. The entry then makes all of them count at one position.

use std::collections::HashSet;

use bytes::Bytes;
use journal::Term;
use parking_lot::MutexGuard;

use super::queue::Writer;
use super::{Changes, Commit, Group, LargeChanges, Refused, TRANSACTION_BYTES_MAX};
use crate::entry::EntryBuilder;
use crate::memory::check_size;
use crate::{Change, Event, PartHeader, PartsRef, Proposal, Proposed, Result, TxId, system};

/// A transaction above this size is journaled in parts of about this size.
pub const PART_BYTES_MAX: usize = 1 << 20;
/// Parts of one transaction that are proposed and not yet committed.
const PARTS_IN_FLIGHT_MAX: u32 = 8;

impl Group {
    pub(super) fn commit_changes(&self, mut commit: Commit) -> Result<journal::Position, Refused> {
        let events_bytes = commit.events.iter().map(event_bytes).sum();
        self.check_record(events_bytes)?;
        let changes = std::mem::replace(&mut commit.changes, Changes::Small(Vec::new()));
        let mut large: Box<dyn LargeChanges> = match changes {
            Changes::Small(changes) => {
                changes
                    .iter()
                    .try_for_each(|change| self.check_sizes(change))?;
                if changes.iter().map(size).sum::<usize>() <= PART_BYTES_MAX {
                    let mut images = EntryBuilder::new();
                    changes.iter().for_each(|change| images.change(change));
                    let writes = super::log::tree_writes(changes, Vec::new());
                    return self.place_commit(commit, images, writes, None, Vec::new());
                }
                Box::new(Split::new(changes))
            }
            Changes::Large(large) => large,
        };
        let mut trees = large.trees();
        trees.retain(|tree| !system::is_system(*tree));
        let mut sender = Sender::new(self, commit.txid, commit.epoch);
        let (parts, system) = sender.send_all(large.as_mut())?;
        let mut images = EntryBuilder::new();
        system.iter().for_each(|change| images.change(change));
        let writes = super::log::tree_writes(system, Vec::new());
        let parts = (parts.parts > 0).then_some(parts);
        let position = self.place_commit(commit, images, writes, parts, trees)?;
        sender.placed = true;
        Ok(position)
    }

    /// What no table store takes, and no record. Looked at before the change is encoded, for an
    /// image holds less than 2 GiB.
    fn check_sizes(&self, change: &Change) -> Result<(), Refused> {
        check_size(&change.key, &change.new).map_err(Refused::Storage)?;
        for write in &change.index {
            check_size(&write.key, &write.value).map_err(Refused::Storage)?;
        }
        self.check_record(size(change))
    }

    /// Does the log take a payload of so many bytes? Where it is not encoded yet: what is in it.
    pub(super) fn check_record(&self, bytes: usize) -> Result<(), Refused> {
        let bytes_max = self.propose.payload_bytes_max();
        if bytes > bytes_max {
            return Err(Refused::RecordTooLarge(bytes_max));
        }
        Ok(())
    }
}

/// The bytes of an event's image.
fn event_bytes(event: &Event) -> usize {
    let about: usize = event.about.iter().map(|row| 8 + row.key.len()).sum();
    28 + event.name.len() + event.payload.len() + about
}

/// The bytes of a change's image, or of a removal's two.
fn size(change: &Change) -> usize {
    let optional = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let index: usize = change
        .index
        .iter()
        .map(|write| 12 + write.key.len() + optional(&write.value))
        .sum();
    let rest = if change.new.is_none() { 24 } else { 0 };
    32 + rest + change.key.len() + optional(&change.old) + optional(&change.new) + index
}

/// Sends the parts of one transaction, a few at a time.
struct Sender<'a> {
    group: &'a Group,
    txid: TxId,
    epoch: Term,
    /// The entry has its place behind the parts.
    placed: bool,
}

impl<'a> Sender<'a> {
    fn new(group: &'a Group, txid: TxId, epoch: Term) -> Sender<'a> {
        group.writer.lock().parts.insert(txid, Default::default());
        Sender {
            group,
            txid,
            epoch,
            placed: false,
        }
    }

    /// Sends everything but changes of system trees, which go into the entry itself: who applies
    /// it must see them at once. Returns these too.
    fn send_all(&self, changes: &mut dyn LargeChanges) -> Result<(PartsRef, Vec<Change>), Refused> {
        let mut system = Vec::new();
        let mut images = EntryBuilder::new();
        let mut sent = PartsRef::default();
        let mut bytes = 0u64;
        let mut system_bytes = 0;
        while let Some(change) = changes.next().map_err(Refused::Storage)? {
            self.group.check_sizes(&change)?;
            if system::is_system(change.tree) {
                system_bytes += size(&change);
                self.group.check_record(system_bytes)?;
                system.push(change);
                continue;
            }
            if images.images() > 0 && images.bytes() + size(&change) > PART_BYTES_MAX {
                self.send(&mut images, &mut sent)?;
            }
            bytes += size(&change) as u64;
            if bytes > TRANSACTION_BYTES_MAX {
                return Err(Refused::TooLarge);
            }
            images.change(&change);
            sent.changes += 1;
        }
        if images.images() > 0 {
            self.send(&mut images, &mut sent)?;
        }
        // The entry goes only when all its parts are in the log.
        self.wait(0).map(|_| (sent, system))
    }

    fn send(&self, images: &mut EntryBuilder, sent: &mut PartsRef) -> Result<(), Refused> {
        let (txid, epoch) = (self.txid, self.epoch);
        let header = PartHeader {
            epoch,
            txid,
            number: sent.parts,
            images: 0,
        };
        let payload = images.finish_part(header);
        self.group.check_record(payload.len())?;
        let mut writer = self.wait(PARTS_IN_FLIGHT_MAX - 1)?;
        if let Some(progress) = writer.parts.get_mut(&txid) {
            progress.sent += 1;
        }
        sent.parts += 1;
        let proposal = Proposal {
            epoch,
            txid,
            what: Proposed::Part,
            payload,
        };
        self.group.propose.propose(self.group.shared.id, proposal);
        drop(writer);
        self.group.propose.placed(self.group.shared.id);
        Ok(())
    }

    /// Waits until at most so many parts are in flight.
    fn wait(&self, in_flight: u32) -> Result<MutexGuard<'a, Writer>, Refused> {
        let mut writer = self.group.writer.lock();
        loop {
            let Some(parts) = writer.parts.get(&self.txid) else {
                return Err(Refused::NotLeader);
            };
            if parts.refused || writer.term != Some(self.epoch) {
                return Err(Refused::NotLeader);
            }
            if parts.sent - parts.applied <= in_flight {
                return Ok(writer);
            }
            self.group.parts_moved.wait(&mut writer);
        }
    }
}

impl Drop for Sender<'_> {
    /// Without its entry the parts would be kept until the term ends: the next entry says that
    /// nobody needs them, and that entry comes at once.
    fn drop(&mut self) {
        let mut writer = self.group.writer.lock();
        let sent = writer
            .parts
            .remove(&self.txid)
            .is_some_and(|parts| parts.sent > 0);
        if !sent || self.placed || writer.term != Some(self.epoch) {
            return;
        }
        writer.abandoned.insert(self.txid);
        self.group.place_close(&mut writer);
        drop(writer);
        self.group.propose.placed(self.group.shared.id);
    }
}

/// Changes in memory that are too many for one record.
struct Split {
    changes: std::vec::IntoIter<Change>,
    /// Index keys that some row puts: another row's removal of one does not count.
    put: HashSet<(u32, Bytes)>,
    trees: Vec<u32>,
}

impl Split {
    fn new(changes: Vec<Change>) -> Split {
        let mut put = HashSet::new();
        let mut trees = Vec::new();
        for change in &changes {
            trees.push(change.tree);
            for write in &change.index {
                trees.push(write.tree);
                if write.value.is_some() {
                    put.insert((write.tree, write.key.clone()));
                }
            }
        }
        trees.sort_unstable();
        trees.dedup();
        Split {
            changes: changes.into_iter(),
            put,
            trees,
        }
    }
}

impl LargeChanges for Split {
    fn next(&mut self) -> Result<Option<Change>> {
        let Some(mut change) = self.changes.next() else {
            return Ok(None);
        };
        change.index.retain(|write| {
            write.value.is_some() || !self.put.contains(&(write.tree, write.key.clone()))
        });
        Ok(Some(change))
    }

    fn trees(&self) -> Vec<u32> {
        self.trees.clone()
    }
}
