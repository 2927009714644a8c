//! What the tests share: a journal on a memory disk, records, and a model to compare with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use journal::{
    Disk, GroupId, Index, Journal, Kind, Options, Payload, Position, Record, Result, Spare, Term,
};

pub fn dir() -> &'static Path {
    Path::new("/journal")
}

/// Small segments, no threads beside the writer, no abort.
pub fn options() -> Options {
    Options {
        segment_bytes: 4096,
        tail_bytes_max: 1024,
        spare: Spare::OnDemand,
        on_fatal: Arc::new(|_| {}),
        ..Options::default()
    }
}

pub fn open(disk: &(impl Disk + Clone + 'static)) -> Result<Journal> {
    Journal::open(Arc::new(disk.clone()), dir(), options())
}

/// An entry whose images name it.
pub fn entry(group: u32, term: u64, index: u64) -> Record {
    sized_entry(group, term, index, 0)
}

/// The same with so many bytes more.
pub fn sized_entry(group: u32, term: u64, index: u64, more: usize) -> Record {
    let name = format!("group {group} term {term} index {index}");
    let payload = Payload::builder()
        .push(name.as_bytes())
        .push(&vec![7; more])
        .finish();
    Record {
        group: GroupId(group),
        kind: Kind::Entry,
        term: Term(term),
        index: Index(index),
        position: Position(index * 10 + term),
        payload,
    }
}

/// All records of a group.
pub fn all(journal: &Journal, group: u32) -> Vec<Record> {
    let (from, to) = (Index(0), Index(u64::MAX));
    journal
        .read(GroupId(group), from, to, usize::MAX)
        .expect("readable")
}

/// What a group should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub log: BTreeMap<u64, Record>,
    pub vote: Option<Vec<u8>>,
    pub purged: Option<(u64, u64)>,
}

impl Model {
    #[allow(dead_code)] // the crash tests replay with it
    pub fn apply(&mut self, record: &Record) {
        let index = record.index.0;
        match record.kind {
            Kind::Truncate => {
                self.log.split_off(&index);
            }
            Kind::Purge => self.purged = self.purged.max(Some((index, record.term.0))),
            Kind::Vote => {
                self.vote = record
                    .payload
                    .image(0)
                    .and_then(|i| i.ok())
                    .map(|i| i.to_vec());
            }
            _ => {
                self.log.insert(index, record.clone());
            }
        }
    }

    /// The same as seen through a journal.
    pub fn of(journal: &Journal, group: u32) -> Model {
        let state = journal.state(GroupId(group));
        Model {
            log: all(journal, group)
                .into_iter()
                .map(|r| (r.index.0, r))
                .collect(),
            vote: state.vote.map(|vote| vote.to_vec()),
            purged: state.purged.map(|(term, index)| (index.0, term.0)),
        }
    }
}
