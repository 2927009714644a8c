//! The source of a stream: a bootstrap of what is chosen, if one is needed, then every entry of the
//! group in order, with what is chosen in it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use journal::{Index, Kind, Position, Record};
use storage::{Applied, Change, Chosen, Direction, Entry, Export, Group};

use super::piece::{Piece, Request};
use crate::entry::Changes;
use crate::log::Log;
use crate::{Error, Feed, FeedEntry, Result};

/// Bytes of rows in one piece.
const ROWS_BYTES: usize = 256 << 10;
/// Bytes read from the journal at once.
const BATCH_BYTES: usize = 256 << 10;
/// The chosen changes of a large transaction up to this size are sent as one entry; for more it is
/// cheaper to begin anew.
const ENTRY_BYTES_MAX: usize = 16 << 20;

/// Says what is chosen of a group for one follower. Asked again and again: it knows at least what
/// is applied in the group.
pub trait Choice: Send + Sync {
    /// The trees.
    fn chosen(&self) -> Arc<Chosen>;
}

/// One stream.
pub struct Source {
    log: Arc<Log>,
    group: Arc<Group>,
    choice: Arc<dyn Choice>,
    chosen: Arc<Chosen>,
    stage: Stage,
    /// Told to the follower last.
    newest: Position,
}

enum Stage {
    /// The bootstrap is to begin.
    Begin,
    /// Its rows are being sent, so many pieces so far.
    Rows(Box<Export>, u32),
    /// Entries are.
    Tail(Tail),
    /// The follower must come again.
    Over,
}

impl Feed {
    /// Begins a stream: where the follower is, if that is possible, else with a bootstrap. Errors:
    /// [`Error::Unknown`] if the group is not held here by Raft.
    pub fn follow(&self, request: &Request, choice: Arc<dyn Choice>) -> Result<Source> {
        let id = request.group;
        let group = self.groups.get(id).filter(|group| !group.is_followed());
        let group = group.ok_or(Error::Unknown(id))?;
        let (chosen, stage) = match &request.has {
            Some((applied, chosen)) => {
                let chosen = Arc::new(chosen.clone());
                (chosen, Stage::Tail(Tail::after(*applied)))
            }
            None => (Arc::default(), Stage::Begin),
        };
        Ok(Source {
            log: self.log.clone(),
            group,
            choice,
            chosen,
            stage,
            newest: Position::ZERO,
        })
    }
}

impl Source {
    /// The group.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Is a bootstrap being sent, whose rows are read from the tables?
    pub fn is_sending_rows(&self) -> bool {
        matches!(self.stage, Stage::Begin | Stage::Rows(..))
    }

    /// The next piece; `None`: nothing for now, ask again when more is applied. Behind
    /// [`Piece::Again`] nothing comes any more. May read the disk.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Piece>> {
        match &mut self.stage {
            Stage::Begin => self.begin(),
            Stage::Rows(export, pieces) => {
                let bytes = export.read(ROWS_BYTES)?;
                if !bytes.is_empty() {
                    *pieces += 1;
                    return Ok(Some(Piece::Rows(bytes)));
                }
                let (applied, pieces) = (export.applied(), *pieces);
                self.stage = Stage::Tail(Tail::after(applied));
                Ok(Some(Piece::End(pieces)))
            }
            Stage::Tail(_) => self.tail(),
            Stage::Over => Ok(None),
        }
    }

    fn begin(&mut self) -> Result<Option<Piece>> {
        let chosen = self.choice.chosen();
        let Some(export) = self.group.export_chosen(&chosen)? else {
            return Ok(None);
        };
        self.chosen = chosen;
        let (applied, meta) = (export.applied(), export.meta().clone());
        self.stage = Stage::Rows(Box::new(export), 0);
        Ok(Some(Piece::Begin { applied, meta }))
    }

    fn tail(&mut self) -> Result<Option<Piece>> {
        let Stage::Tail(tail) = &mut self.stage else {
            return Ok(None);
        };
        // What is chosen is asked for afterwards, and so knows of what comes up to here.
        let upto = self.group.applied();
        let wanted = self.choice.chosen();
        if wanted != self.chosen {
            return match becomes(&self.group, &self.chosen, &wanted, tail.after.position)? {
                Some(chosen) if chosen == *self.chosen => self.entry(upto),
                Some(chosen) => {
                    self.chosen = Arc::new(chosen.clone());
                    Ok(Some(Piece::Choose(chosen)))
                }
                None => Ok(Some(self.end())),
            };
        }
        self.entry(upto)
    }

    fn entry(&mut self, upto: Position) -> Result<Option<Piece>> {
        let Stage::Tail(tail) = &mut self.stage else {
            return Ok(None);
        };
        let sent = match tail.next(&self.log, &self.group, upto) {
            Ok(Some((record, entry))) => send(&self.log, &self.group, &self.chosen, record, entry),
            Ok(None) => return Ok(self.tell_newest(upto)),
            Err(error) => Err(error),
        };
        match sent {
            Ok(Some(piece)) => Ok(Some(piece)),
            Ok(None) | Err(Error::Behind { .. }) => Ok(Some(self.end())),
            Err(error) => Err(error),
        }
    }

    fn tell_newest(&mut self, upto: Position) -> Option<Piece> {
        let news = upto > self.newest;
        self.newest = self.newest.max(upto);
        news.then_some(Piece::Newest(upto))
    }

    fn end(&mut self) -> Piece {
        self.stage = Stage::Over;
        Piece::Again
    }
}

/// What a follower at `at` holds from there on if `wanted` is chosen instead of `chosen`: trees that
/// come must be empty there, those that go must have been dropped, and leave with their entry.
/// `None`: it must begin anew.
fn becomes(
    group: &Group,
    chosen: &Chosen,
    wanted: &Chosen,
    at: Position,
) -> Result<Option<Chosen>> {
    for gone in chosen.trees().filter(|tree| !wanted.has(*tree)) {
        if !group.is_dropped(gone)? {
            return Ok(None);
        }
    }
    for new in wanted.trees().filter(|tree| !chosen.has(*tree)) {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut rows = match group.scan(new, all, at, Direction::Forward) {
            Ok(rows) => rows,
            Err(storage::Error::TooOld { .. } | storage::Error::NotReached { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if rows.next().transpose()?.is_some() {
            return Ok(None);
        }
    }
    Ok(Some(Chosen::new(chosen.trees().chain(wanted.trees()))))
}

/// An entry with what is chosen in it; `None`: it is too large to be sent.
fn send(
    log: &Arc<Log>,
    group: &Group,
    chosen: &Chosen,
    record: Record,
    mut entry: Entry,
) -> Result<Option<Piece>> {
    if entry.header.parts.is_some() {
        let whole = FeedEntry::new(log.clone(), group.id(), record.index, entry.clone());
        match chosen_changes(whole.into_changes()?, chosen)? {
            Some(changes) => entry.changes = changes,
            None => return Ok(None),
        }
        entry.header.parts = None;
    }
    entry.keep_only(chosen);
    let payload = entry.encode();
    if payload.len() > 2 * ENTRY_BYTES_MAX {
        return Ok(None);
    }
    let (term, index) = (record.term, record.index);
    Ok(Some(Piece::Entry {
        term,
        index,
        payload,
    }))
}

/// The chosen ones of many changes, in order; `None`: they are too large.
fn chosen_changes(mut changes: Changes, chosen: &Chosen) -> Result<Option<Vec<Change>>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(change) = changes.next()? {
        if !chosen.has(change.tree) {
            continue;
        }
        let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let index = change.index.iter();
        let index: usize = index.map(|w| w.key.len() + length(&w.value)).sum();
        bytes += change.key.len() + length(&change.old) + length(&change.new) + index;
        if bytes > ENTRY_BYTES_MAX {
            return Ok(None);
        }
        found.push(change);
    }
    found.sort_by_key(|change| change.seq);
    Ok(Some(found))
}

/// The entries of the log behind a place, the empty ones too.
struct Tail {
    /// The last entry that was taken.
    after: Applied,
    /// The next record to be read, once that is known.
    next: Option<Index>,
    batch: VecDeque<Record>,
}

impl Tail {
    fn after(after: Applied) -> Tail {
        Tail {
            after,
            next: None,
            batch: VecDeque::new(),
        }
    }

    /// The next entry up to a position that has had its effect. Errors: [`Error::Behind`] if one
    /// before it has left.
    fn next(
        &mut self,
        log: &Log,
        group: &Group,
        upto: Position,
    ) -> Result<Option<(Record, Entry)>> {
        while self.after.position < upto {
            let Some(record) = self.record(log, group, upto)? else {
                break;
            };
            if record.kind != Kind::Entry || group.broken(record.position) {
                continue;
            }
            let entry = Entry::decode(&record.payload)?;
            if entry.header.prev != self.after.position {
                return Err(log.behind(group.id(), record.position));
            }
            self.after = Applied {
                term: record.term,
                index: record.index,
                position: record.position,
            };
            return Ok(Some((record, entry)));
        }
        Ok(None)
    }

    fn record(&mut self, log: &Log, group: &Group, upto: Position) -> Result<Option<Record>> {
        if self.batch.is_empty() {
            let next = match self.next {
                Some(next) => next,
                None => match log.journal.seek(group.id(), self.after.position)? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
            let to = Index(u64::MAX);
            let read = log.journal.read(group.id(), next, to, BATCH_BYTES)?;
            log.check_next(group, next, read.first())?;
            self.next = Some(read.last().map_or(next, |last| Index(last.index.0 + 1)));
            self.batch = read.into();
        }
        let Some(record) = self.batch.pop_front() else {
            return Ok(None);
        };
        if record.position > upto {
            // Not committed yet, so that it may still become another one.
            self.batch.clear();
            self.next = Some(record.index);
            return Ok(None);
        }
        Ok(Some(record))
    }
}
