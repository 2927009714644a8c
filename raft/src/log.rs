//! openraft's log storage of one group, over the node's one journal.
//!
//! ```text
//! purged <= applied <= committed <= appended ; durable <= appended
//! ```
//! `append` returns at once and the journal's writer thread tells openraft when the fsync is done.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use futures_util::Stream;
use journal::{GroupId, Index, Journal, Kind, Payload, Position, Record, Term};
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, RaftLogReader};

use crate::types::{
    Ballot, Command, LogId, RaftEntry, Types, Vote, decode_ballot, decode_raft_image,
    encode_ballot, encode_blank, encode_membership, log_id, term_of,
};

/// Bytes that one read hands to replication at most.
const READ_BYTES_MAX: usize = 4 << 20;

/// The log of one group.
#[derive(Clone)]
pub struct GroupLog {
    group: GroupId,
    journal: Journal,
    /// Under which join number this node's replica votes.
    join: u32,
    /// Certainly committed: the tables have held it before.
    committed: Option<LogId>,
}

impl GroupLog {
    /// The log of `group` as it stands in the journal.
    pub fn new(group: GroupId, journal: Journal, join: u32) -> GroupLog {
        GroupLog {
            group,
            journal,
            join,
            committed: None,
        }
    }

    /// Says that the tables have held entries up to a position before the restart: the log is
    /// applied as far again when Raft opens, without a leader.
    pub fn known(self, held: Position) -> io::Result<GroupLog> {
        let Some(before) = held.0.checked_sub(1) else {
            return Ok(self);
        };
        // Positions grow along the log, so the first one that is not below is it, or, if only
        // the horizon had come so far, one that lies before an applied one.
        let found = self.journal.seek(self.group, Position(before));
        let index = found.map_err(io::Error::other)?;
        let committed = index.and_then(|index| {
            let term = self.journal.term_at(self.group, index)?;
            Some(log_id(term.0, index.0))
        });
        Ok(GroupLog { committed, ..self })
    }

    /// All entries of `[from, to)` that the log has, read until complete.
    fn read(&self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        let mut entries = Vec::new();
        let mut next = from;
        while next < to {
            let batch = self.read_some(next, to)?;
            let Some(last) = batch.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(batch);
        }
        Ok(entries)
    }

    /// Writes records, and waits for the disk.
    async fn write(&self, records: Vec<Record>) -> io::Result<()> {
        let (done, written) = tokio::sync::oneshot::channel();
        let told = Box::new(move |result: Result<(), journal::Error>| {
            // The receiver is gone only when this group's Raft has ended.
            let _ = done.send(result);
        });
        self.journal.append(records, told);
        let answer = written.await.map_err(io::Error::other)?;
        answer.map_err(io::Error::other)
    }

    /// As many entries of `[from, to)` as one read hands out.
    pub(crate) fn read_some(&self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        self.records(from, to)?.into_iter().map(entry).collect()
    }

    fn records(&self, from: u64, to: u64) -> io::Result<Vec<Record>> {
        self.journal
            .read(self.group, Index(from), Index(to), READ_BYTES_MAX)
            .map_err(io::Error::other)
    }
}

/// The journal's record of an entry.
pub(crate) fn record(group: GroupId, entry: RaftEntry) -> Record {
    let raft = |image: &[u8]| (Kind::Raft, Position::ZERO, Payload::of(image));
    let (kind, position, payload) = match entry.payload {
        EntryPayload::Normal(Command {
            kind,
            position,
            payload,
        }) => (kind, position, payload),
        EntryPayload::Blank => raft(&encode_blank()),
        EntryPayload::Membership(members) => raft(&encode_membership(&members)),
    };
    Record {
        group,
        kind,
        term: Term(term_of(&entry.log_id)),
        index: Index(entry.log_id.index),
        position,
        payload,
    }
}

/// The only image of a record of Raft's own.
fn only_image(record: &Record) -> io::Result<Bytes> {
    record
        .payload
        .images()
        .next()
        .unwrap_or(Ok(Bytes::new()))
        .map_err(io::Error::other)
}

/// openraft's entry from a record. What is erased of it would be missing where it is applied, so
/// such an entry is none any more.
pub(crate) fn entry(record: Record) -> io::Result<RaftEntry> {
    let id = log_id(record.term.0, record.index.0);
    if record.payload.has_erased() {
        return Err(undecodable(&record));
    }
    let payload = match record.kind {
        Kind::Entry | Kind::Part => EntryPayload::Normal(Command {
            kind: record.kind,
            position: record.position,
            payload: record.payload,
        }),
        Kind::Raft => match decode_raft_image(&only_image(&record)?) {
            Some(None) => EntryPayload::Blank,
            Some(Some(membership)) => EntryPayload::Membership(membership),
            None => return Err(undecodable(&record)),
        },
        Kind::Vote | Kind::Truncate | Kind::Purge | Kind::Erase | Kind::Mark | Kind::Footer => {
            return Err(undecodable(&record));
        }
    };
    Ok(RaftEntry::new(id, payload))
}

fn undecodable(record: &Record) -> io::Error {
    let (group, index) = (record.group, record.index.0);
    io::Error::other(format!(
        "group {group}: {:?} at index {index} is no entry{}",
        record.kind,
        match record.payload.has_erased() {
            true => ": of its images some are erased",
            false => "",
        }
    ))
}

/// `[from, to)` of a range of indexes.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(i) => i + 1,
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for GroupLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        self.read(from, to)
    }

    /// Reads on as the state machine consumes, so that the replay of a long log or of a large
    /// entry's parts never holds more than one batch in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        let start = (self.clone(), from, Vec::new().into_iter());
        futures_util::stream::try_unfold(start, move |(log, next, mut batch)| async move {
            if let Some(entry) = batch.next() {
                return Ok(Some((entry, (log, next, batch))));
            }
            if next >= to {
                return Ok(None);
            }
            let read = log.read_some(next, to)?;
            let Some(last) = read.last() else {
                return Ok(None);
            };
            let next = last.log_id.index + 1;
            let mut batch = read.into_iter();
            let entry = batch.next();
            Ok(entry.map(|entry| (entry, (log, next, batch))))
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        match self.journal.state(self.group).vote {
            None => Ok(None),
            Some(bytes) => match decode_ballot(&bytes) {
                Some(Ballot::Vote(vote, _)) => Ok(Some(vote)),
                // The replica that has ended had another id than the one that is opened now.
                Some(Ballot::Ended(_)) => Ok(None),
                None => Err(io::Error::other(format!(
                    "group {}: damaged vote",
                    self.group
                ))),
            },
        }
    }

    /// What is purged and erased while a follower is about to be sent it is left out: then that one
    /// gets a snapshot.
    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        let records = self.records(from, to)?;
        let erasable = self.journal.state(self.group).erasable;
        let gone = |record: &Record| record.payload.has_erased() && Some(record.index) <= erasable;
        let records = records.into_iter().take_while(|record| !gone(record));
        records.map(entry).collect()
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = GroupLog;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.journal.state(self.group);
        let purged = state.purged.map(|(term, index)| log_id(term.0, index.0));
        let last = state.last.map(|(term, index, _)| log_id(term.0, index.0));
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> GroupLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if !keeps_votes() {
            return Ok(());
        }
        let record = Record::vote(self.group, &encode_ballot(&Ballot::Vote(*vote, self.join)));
        self.write(vec![record]).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let records: Vec<Record> = entries
            .into_iter()
            .map(|entry| record(self.group, entry))
            .collect();
        let told = Box::new(move |result: Result<(), journal::Error>| {
            callback.io_completed(result.map_err(io::Error::other));
        });
        self.journal.append(records, told);
        Ok(())
    }

    /// Not kept by itself: what the tables hold is committed, the leader tells the rest.
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.committed)
    }

    /// Durable on return, for a snapshot that is installed next is durable in the tables: an old
    /// end of the log must not reach beyond it after a restart. A truncation alone waits for no
    /// disk, so the vote is written with it once more.
    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let first_gone = Index(last.map_or(0, |id| id.index + 1));
        let mut records = vec![Record::truncate(self.group, first_gone)];
        let vote = self.journal.state(self.group).vote;
        records.extend(vote.map(|vote| Record::vote(self.group, &vote)));
        self.write(records).await
    }

    /// Beyond the last record there is a snapshot that this node has installed: what comes next
    /// does not continue the records, so they are no longer part of the log, for readers of the
    /// feed neither.
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let last = self.journal.state(self.group).last;
        let mut records = Vec::new();
        if last.is_none_or(|(_, last, _)| last.0 < upto.index) {
            records.push(Record::truncate(self.group, Index(0)));
        }
        let (term, index) = (Term(term_of(&upto)), Index(upto.index));
        records.push(Record::purge(self.group, term, index));
        self.journal.append(records, Box::new(|_| ()));
        Ok(())
    }
}

/// Votes are kept, unless that is the planted fault.
pub(crate) fn keeps_votes() -> bool {
    #[cfg(feature = "sabotage")]
    if journal::sabotage::planted("vote-not-persisted") {
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use journal::MemoryDisk;
    use openraft::impls::leader_id_std::LeaderId;

    use super::*;
    use crate::types::FIRST_JOIN;

    #[tokio::test]
    async fn what_is_erased_goes_to_no_follower_and_into_no_table() {
        let (disk, group) = (Arc::new(MemoryDisk::new()), GroupId(1));
        let options = journal::Options::default();
        let journal = Journal::open(disk.clone(), "/journal".as_ref(), options).unwrap();
        let normal = |index: u64| {
            let payload = EntryPayload::Normal(Command {
                kind: Kind::Entry,
                position: Position(index),
                payload: Payload::builder().push(b"a row").push(b"header").finish(),
            });
            record(group, RaftEntry::new(log_id(1, index), payload))
        };
        journal.append_wait((1..=4).map(normal).collect()).unwrap();
        let upto_2 = Record::purge(group, Term(1), Index(2));
        journal.append_wait(vec![upto_2]).unwrap();
        let found = journal.remains(1).unwrap().into_iter();
        let of_2 = found.filter(|found| found.record.index == Index(2));
        let of_2 = of_2.map(|found| journal::Erasure {
            segment: 1,
            offset: found.offset,
            images: vec![(0, Bytes::new())],
        });
        journal.erase(&of_2.collect::<Vec<_>>()).unwrap();
        let mut log = GroupLog::new(group, journal.clone(), FIRST_JOIN);
        let sent = log.limited_get_log_entries(1, 5).await.unwrap();
        assert_eq!(sent.len(), 1, "what comes behind it needs a snapshot");
        assert!(log.limited_get_log_entries(2, 5).await.unwrap().is_empty());
        assert_eq!(log.limited_get_log_entries(3, 5).await.unwrap().len(), 2);
        let applied = log.try_get_log_entries(1..5).await;
        assert!(applied.unwrap_err().to_string().contains("erased"));
        let erased = journal.read(group, Index(2), Index(3), 1 << 20).unwrap();
        assert!(entry(erased[0].clone()).is_err());
    }

    #[tokio::test]
    async fn what_was_cut_off_does_not_come_back_when_the_power_goes() {
        let (disk, group) = (MemoryDisk::new(), GroupId(1));
        let open = |disk: MemoryDisk| {
            let options = journal::Options::default();
            Journal::open(Arc::new(disk), "/journal".as_ref(), options).unwrap()
        };
        let journal = open(disk.clone());
        let mut log = GroupLog::new(group, journal.clone(), FIRST_JOIN);
        let vote = Vote {
            leader_id: LeaderId {
                term: 2,
                voted_for: 3,
            },
            committed: true,
        };
        log.save_vote(&vote).await.unwrap();
        let blank = |index| RaftEntry::new(log_id(1, index), EntryPayload::Blank);
        let entries: Vec<Record> = (0..4).map(|index| record(group, blank(index))).collect();
        journal.append_wait(entries).unwrap();
        log.truncate_after(Some(log_id(1, 1))).await.unwrap();
        for seed in 0..16 {
            let left = open(disk.after_crash(seed));
            let last = left.state(group).last.map(|(_, last, _)| last);
            assert_eq!(last, Some(Index(1)), "seed {seed}");
            let mut log = GroupLog::new(group, left, FIRST_JOIN);
            assert_eq!(log.read_vote().await.unwrap(), Some(vote));
        }
    }
}
