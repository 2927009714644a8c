//! What the tests share: a journal on a memory disk, records, a seeded workload, and the model that
//! a recovered journal is compared with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use journal::{
    Disk, Error, GroupId, Index, Journal, Kind, Options, Payload, Position, Record, Result, Spare,
    Term,
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
    try_all(journal, group).expect("readable")
}

fn try_all(journal: &Journal, group: u32) -> Result<Vec<Record>> {
    let (from, to) = (Index(0), Index(u64::MAX));
    journal.read(GroupId(group), from, to, usize::MAX)
}

/// What a group should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub log: BTreeMap<u64, Record>,
    pub vote: Option<Vec<u8>>,
    pub purged: Option<(u64, u64)>,
}

impl Model {
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
        Model::try_of(journal, group).expect("readable")
    }

    pub fn try_of(journal: &Journal, group: u32) -> Result<Model> {
        let state = journal.state(GroupId(group));
        Ok(Model {
            log: try_all(journal, group)?
                .into_iter()
                .map(|r| (r.index.0, r))
                .collect(),
            vote: state.vote.map(|vote| vote.to_vec()),
            purged: state.purged.map(|(term, index)| (index.0, term.0)),
        })
    }

    /// The same, if what is below `floor` may or may not be there.
    fn is_seen_as(&self, seen: &Model, floor: u64) -> bool {
        let from = seen
            .log
            .keys()
            .next()
            .map_or(floor, |first| floor.min(*first));
        (&self.vote, self.purged) == (&seen.vote, seen.purged)
            && self.log.range(from..).eq(seen.log.iter())
    }

    fn next(&self) -> u64 {
        let last = self.log.keys().next_back().copied();
        last.max(self.purged.map(|(index, _)| index))
            .map_or(1, |last| last + 1)
    }
}

/// A small generator: the same seed, the same workload.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    Append(Vec<Record>),
    Release(u32, u64),
}

pub const GROUPS: u32 = 3;

/// A valid workload: entries and parts of three groups, votes, truncations, purges, releases.
pub fn workload(seed: u64, steps: usize) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut models = vec![Model::default(); GROUPS as usize + 1];
    let mut term = 1;
    let mut out = Vec::new();
    for _ in 0..steps {
        let group = 1 + dice.roll(GROUPS.into()) as u32;
        let model = &models[group as usize];
        let (next, purged) = (model.next(), model.purged.map_or(0, |(index, _)| index));
        let mut records = Vec::new();
        match dice.roll(12) {
            0 => {
                term += 1;
                records.push(Record::vote(
                    GroupId(group),
                    format!("vote {term}").as_bytes(),
                ));
            }
            1 if next > purged + 1 => {
                let at = purged + 1 + dice.roll(next - purged - 1);
                term += 1;
                records.push(Record::truncate(GroupId(group), Index(at)));
                records.push(entry(group, term, at));
            }
            2 if next > purged + 4 => {
                let upto = purged + 1 + dice.roll(next - purged - 2);
                let of = model.log[&upto].term;
                records.push(Record::purge(GroupId(group), of, Index(upto)));
            }
            3 => {
                out.push(Step::Release(group, purged + 1));
                continue;
            }
            _ => {
                for group in 1..=GROUPS {
                    let next = models[group as usize].next();
                    for index in next..next + dice.roll(3) {
                        let more = dice.roll(8) as usize * 40;
                        records.push(sized_entry(group, term, index, more));
                    }
                }
            }
        }
        for record in &records {
            models[record.group.0 as usize].apply(record);
        }
        if !records.is_empty() {
            out.push(Step::Append(records));
        }
    }
    out
}

/// What was asked of a journal, and answered.
#[derive(Default)]
pub struct History {
    /// Per group: every record given, in order.
    pub given: BTreeMap<u32, Vec<Record>>,
    /// Per group: how many of them must be there.
    pub acknowledged: BTreeMap<u32, usize>,
    /// Per group: below, records may be gone.
    pub floor: BTreeMap<u32, u64>,
}

impl History {
    /// Drives the workload until the first error.
    pub fn drive(journal: &Journal, steps: &[Step]) -> (History, Option<Error>) {
        let mut history = History::default();
        for step in steps {
            if let Err(error) = history.step(journal, step) {
                return (history, Some(error));
            }
        }
        (history, None)
    }

    pub fn step(&mut self, journal: &Journal, step: &Step) -> Result<()> {
        match step {
            Step::Release(group, below) => {
                self.floor.insert(*group, *below);
                journal.release(GroupId(*group), Index(*below))
            }
            Step::Append(records) => {
                for record in records {
                    self.given
                        .entry(record.group.0)
                        .or_default()
                        .push(record.clone());
                }
                journal.append_wait(records.clone())?;
                // An append of purges or truncations alone is written, not synced.
                for record in records {
                    if !matches!(record.kind, Kind::Purge | Kind::Truncate) {
                        let given = self.given[&record.group.0].len();
                        self.acknowledged.insert(record.group.0, given);
                    }
                }
                Ok(())
            }
        }
    }

    /// Is what a journal shows a prefix of what was given? With the acknowledged records in it?
    pub fn check(&self, journal: &Journal, acknowledged: Acknowledged) -> Result<(), String> {
        for group in 1..=GROUPS {
            let seen = Model::try_of(journal, group).map_err(|e| format!("unreadable: {e}"))?;
            let none = Vec::new();
            let given = self.given.get(&group).unwrap_or(&none);
            let floor = self.floor.get(&group).copied().unwrap_or(0);
            let least = match acknowledged {
                Acknowledged::Kept => self.acknowledged.get(&group).copied().unwrap_or(0),
                Acknowledged::MayBeLost => 0,
            };
            let mut model = Model::default();
            let mut found = least == 0 && model.is_seen_as(&seen, floor);
            for (at, record) in given.iter().enumerate() {
                model.apply(record);
                found |= at + 1 >= least && model.is_seen_as(&seen, floor);
            }
            let greatest = journal.state(GroupId(group)).greatest;
            let positions = |n: usize| given[..n].iter().map(|r| r.position).max();
            let kept = Some(greatest) >= positions(least);
            if !found || !kept || Some(greatest) > positions(given.len()).max(Some(Position(0))) {
                let last = seen.log.keys().next_back();
                return Err(format!(
                    "group {group}: {} records given, {least} to be kept, floor {floor}, \
                     greatest {greatest}, seen up to {last:?}, vote {:?}, purged {:?}",
                    given.len(),
                    seen.vote,
                    seen.purged
                ));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Acknowledged {
    Kept,
    MayBeLost,
}
