//! The source of a stream: a bootstrap of what is chosen, if one is needed, then every entry of the
//! group in order, with what is chosen in it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use journal::{Index, Kind, Position, Record};
use storage::erase::Streamed;
use storage::{
    Applied, Change, Chosen, Direction, Entry, Erased, ErasedImage, Export, Group, TreeId, system,
};

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
    /// So far nothing that it needs is in the log: an eraser that has time leaves the rest.
    streamed: Streamed,
}

enum Stage {
    /// The bootstrap is to begin.
    Begin,
    /// Rows are being sent.
    Rows(Sending),
    /// Entries are; more trees may be about to come.
    Tail(Tail, Option<Coming>),
    /// The follower must come again.
    Over,
}

/// Rows on their way.
struct Sending {
    export: Box<Export>,
    /// Beside what the follower has.
    more: bool,
    /// Pieces sent so far.
    pieces: u32,
    /// The last entry that the follower has with them.
    after: Applied,
    /// What it holds then.
    then: Arc<Chosen>,
}

/// More trees, whose rows follow the entry as of which they were taken.
struct Coming {
    export: Box<Export>,
    then: Arc<Chosen>,
    /// What was wanted when they were taken.
    wanted: Arc<Chosen>,
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
                (chosen, Stage::Tail(Tail::after(*applied), None))
            }
            None => (Arc::default(), Stage::Begin),
        };
        // A bootstrap that is to begin has what is applied by then.
        let after = request.has.as_ref().map(|(applied, _)| applied.position);
        let streamed = group.stream(after.unwrap_or_else(|| group.applied()));
        Ok(Source {
            log: self.log.clone(),
            streamed,
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

    /// May the next piece take long? It is one of a bootstrap, or what is chosen becomes another:
    /// tables are read then, and a snapshot that is being installed is waited for.
    pub fn is_long(&self) -> bool {
        match &self.stage {
            Stage::Tail(_, coming) => coming.is_some() || self.choice.chosen() != self.chosen,
            Stage::Begin | Stage::Rows(_) => true,
            Stage::Over => false,
        }
    }

    /// The next piece; `None`: nothing for now, ask again when more is applied. Behind
    /// [`Piece::Again`] nothing comes any more. May read the disk.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Piece>> {
        let next = match &mut self.stage {
            Stage::Begin => self.begin(),
            Stage::Rows(_) => self.rows(),
            Stage::Tail(..) => self.tail(),
            Stage::Over => Ok(None),
        };
        match &self.stage {
            Stage::Begin => {}
            Stage::Rows(sending) => self.streamed.read(sending.after.position),
            Stage::Tail(tail, _) => self.streamed.read(tail.after.position),
            Stage::Over => self.streamed.read(Position::MAX),
        }
        next
    }

    fn begin(&mut self) -> Result<Option<Piece>> {
        let then = self.choice.chosen();
        let Some(export) = self.group.export_chosen(&then, &Chosen::default())? else {
            return Ok(None);
        };
        let (applied, meta) = (export.applied(), export.meta().clone());
        self.stage = Stage::Rows(Sending {
            export: Box::new(export),
            more: false,
            pieces: 0,
            after: applied,
            then,
        });
        Ok(Some(Piece::Begin { applied, meta }))
    }

    /// The next rows, unless the follower may not have them any more.
    fn rows(&mut self) -> Result<Option<Piece>> {
        let wanted = self.choice.chosen();
        let Stage::Rows(sending) = &mut self.stage else {
            return Ok(None);
        };
        if !revoked(&self.group, &sending.then, &wanted)?.is_empty() {
            if !sending.more {
                self.stage = Stage::Begin;
                return self.begin();
            }
            self.stage = Stage::Tail(Tail::after(sending.after), None);
            return Ok(Some(Piece::Choose((*self.chosen).clone())));
        }
        let bytes = sending.export.read(ROWS_BYTES)?;
        if !bytes.is_empty() {
            sending.pieces += 1;
            return Ok(Some(Piece::Rows(bytes)));
        }
        let (pieces, after) = (sending.pieces, sending.after);
        self.chosen = Arc::clone(&sending.then);
        self.stage = Stage::Tail(Tail::after(after), None);
        Ok(Some(Piece::End(pieces)))
    }

    fn tail(&mut self) -> Result<Option<Piece>> {
        // What is chosen is asked for afterwards, and so knows of what comes up to here.
        let upto = self.group.applied();
        let wanted = self.choice.chosen();
        let Stage::Tail(tail, coming) = &mut self.stage else {
            return Ok(None);
        };
        coming.take_if(|coming| coming.wanted != wanted);
        // A follower that had a source which was further is judged when this one is as far: until then
        // its catalog is older than what it would take away.
        if wanted != self.chosen && coming.is_none() && upto >= tail.after.position {
            match becomes(&self.group, &self.chosen, &wanted, tail.after.position)? {
                Becomes::Same => {}
                Becomes::Now(chosen) => {
                    self.chosen = Arc::new(chosen.clone());
                    return Ok(Some(Piece::Choose(chosen)));
                }
                Becomes::With(then) => {
                    let Some(export) = self.group.export_chosen(&then, &self.chosen)? else {
                        return Ok(None);
                    };
                    *coming = Some(Coming {
                        export: Box::new(export),
                        then: Arc::new(then),
                        wanted,
                    });
                }
                Becomes::Anew => return Ok(Some(self.end())),
            }
        }
        self.entry(upto)
    }

    fn entry(&mut self, upto: Position) -> Result<Option<Piece>> {
        let Stage::Tail(tail, coming) = &mut self.stage else {
            return Ok(None);
        };
        let taken = coming.as_ref().map(|c| c.export.applied().position);
        let sent = match tail.next(&self.log, &self.group, taken.unwrap_or(upto)) {
            Ok(Some((record, entry))) => send(&self.log, &self.group, &self.chosen, record, entry),
            Ok(None) => match coming.take() {
                Some(coming) => return Ok(Some(self.come(coming))),
                None => return Ok(self.tell_newest(upto)),
            },
            Err(error) => Err(error),
        };
        match sent {
            Ok(Some(piece)) => Ok(Some(piece)),
            Ok(None) | Err(Error::Behind { .. }) => Ok(Some(self.end())),
            Err(error) => Err(error),
        }
    }

    /// The follower has all entries up to where the rows of more trees were taken.
    fn come(&mut self, coming: Coming) -> Piece {
        let Coming { export, then, .. } = coming;
        let (applied, meta) = (export.applied(), export.meta().clone());
        self.stage = Stage::Rows(Sending {
            export,
            more: true,
            pieces: 0,
            after: applied,
            then,
        });
        Piece::Come { applied, meta }
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

/// What becomes of what a follower holds if something else is wanted.
enum Becomes {
    /// Nothing yet: what is gone was dropped, and leaves with its entry.
    Same,
    /// It holds this from here on.
    Now(Chosen),
    /// It holds this once it has the rows of the trees that come.
    With(Chosen),
    /// It must begin anew.
    Anew,
}

/// The trees of `chosen` that a follower may hold no longer. Dropped ones leave with their entry.
fn revoked(group: &Group, chosen: &Chosen, wanted: &Chosen) -> Result<Vec<u32>> {
    let mut revoked = Vec::new();
    for gone in chosen.trees().filter(|tree| !wanted.has(*tree)) {
        if !group.is_dropped(gone)? {
            revoked.push(gone);
        }
    }
    Ok(revoked)
}

/// What becomes of `chosen` at a follower that has all entries up to `at`. First goes what may not
/// be there any more. Trees that are empty there come by themselves; the system's come with a whole
/// bootstrap only, for the catalog is read from them.
fn becomes(group: &Group, chosen: &Chosen, wanted: &Chosen, at: Position) -> Result<Becomes> {
    let gone = revoked(group, chosen, wanted)?;
    if !gone.is_empty() {
        let kept = chosen.trees().filter(|tree| !gone.contains(tree));
        return Ok(Becomes::Now(Chosen::new(kept)));
    }
    let all = Chosen::new(chosen.trees().chain(wanted.trees()));
    if all == *chosen {
        return Ok(Becomes::Same);
    }
    let mut empty = true;
    for new in wanted.trees().filter(|tree| !chosen.has(*tree)) {
        if new <= TreeId::SYSTEM_MAX {
            return Ok(Becomes::Anew);
        }
        empty &= is_empty(group, new, at)?;
    }
    Ok(match empty {
        true => Becomes::Now(all),
        false => Becomes::With(all),
    })
}

/// Is it known that a tree has no rows as of a position?
fn is_empty(group: &Group, tree: u32, at: Position) -> Result<bool> {
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    match group.scan(system::tree_of(tree), all, at, Direction::Forward) {
        Ok(mut rows) => Ok(rows.next().transpose()?.is_none()),
        Err(storage::Error::TooOld { .. } | storage::Error::NotReached { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn may_concern(erased: &Erased, chosen: &Chosen) -> bool {
    match erased.what {
        ErasedImage::Unknown => true,
        ErasedImage::Event => false,
        ErasedImage::Change | ErasedImage::Dropped | ErasedImage::Rest | ErasedImage::Removal => {
            // Which keys its indexes had is not known any more.
            chosen.has(erased.tree) || chosen.has_keys() && system::is_of_table(erased.tree)
        }
    }
}

/// An entry with what is chosen in it; `None`: it is too large to be sent, or some of it is erased.
fn send(
    log: &Arc<Log>,
    group: &Group,
    chosen: &Chosen,
    record: Record,
    mut entry: Entry,
) -> Result<Option<Piece>> {
    let mut erased = std::mem::take(&mut entry.erased);
    if entry.header.parts.is_some() {
        let whole = FeedEntry::new(log.clone(), group.id(), record.index, entry.clone());
        let mut changes = whole.into_changes()?;
        match chosen_changes(&mut changes, chosen)? {
            Some(chosen) => entry.changes = chosen,
            None => return Ok(None),
        }
        erased.extend_from_slice(changes.erased());
        entry.header.parts = None;
    }
    // Half of what it would see between a change and the removal that erased it is not there.
    if erased.iter().any(|erased| may_concern(erased, chosen)) {
        return Ok(None);
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
fn chosen_changes(changes: &mut Changes, chosen: &Chosen) -> Result<Option<Vec<Change>>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(change) = changes.next()? {
        // Of what is erased it sees the images themselves.
        if change.is_lost() || !chosen.wants(&change) {
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
                    None => {
                        // What is above may have left, of a log that is empty since.
                        let retained = log.retained(group)?;
                        return match retained > self.after.position {
                            true => Err(log.behind(group.id(), retained)),
                            false => Ok(None),
                        };
                    }
                },
            };
            let to = Index(u64::MAX);
            // Beforehand: what is read and applied by then is what was applied.
            let applied = group.applied_log().0.index;
            let read = log.journal.read(group.id(), next, to, BATCH_BYTES)?;
            log.check_next(group, next, read.first())?;
            // What is not committed at this moment may still become another one. Raft's own records
            // have no position.
            let committed = |record: &Record| record.position <= upto && record.index <= applied;
            let end = read.iter().position(|record| !committed(record));
            let mut read = VecDeque::from(read);
            let behind = read.back().map_or(next, |last| Index(last.index.0 + 1));
            self.next = Some(end.map_or(behind, |end| read[end].index));
            read.truncate(end.unwrap_or(read.len()));
            self.batch = read;
        }
        Ok(self.batch.pop_front())
    }
}
