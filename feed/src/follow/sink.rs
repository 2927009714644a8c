//! The other end of a stream: keeps a bootstrap aside until it is whole and installs it, applies
//! entries, and says from where to go on.

use std::sync::Arc;

use bytes::Bytes;
use journal::{GroupId, Position};
use storage::{
    Applied, Error as StorageError, Estimate, Group, Groups, PartSource, Scratch, Verdict,
    check_chosen,
};

use super::piece::{Piece, Request};
use crate::{Error, Result};

/// What a follower is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has no source, or has just found one.
    #[default]
    Connecting,
    /// The rows of a bootstrap come.
    Bootstrap,
    /// Entries come as they are committed.
    Following,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of this bootstrap so far; of the last one afterwards.
    pub bytes: u64,
    /// Pieces of rows in them.
    pub pieces: u32,
    /// About how many bytes this bootstrap has in all, as soon as that can be said.
    pub expected: Option<u64>,
    /// Entries applied since the start.
    pub entries: u64,
    /// Bootstraps installed since the start.
    pub bootstraps: u64,
    /// What the source has applied, as last heard.
    pub newest: Position,
}

/// The follower of one group.
pub struct Sink {
    groups: Arc<Groups>,
    group: Arc<Group>,
    staging: Option<Staging>,
    /// What is here can't be gone on from.
    anew: bool,
    progress: Progress,
}

/// A bootstrap that is arriving.
struct Staging {
    /// Beside what is here, not in its place.
    more: bool,
    applied: Applied,
    meta: Bytes,
    rows: Box<dyn Scratch>,
    pieces: u32,
    estimate: Estimate,
}

impl Sink {
    /// Of a group that is followed, as [`Groups::follow`] gave it.
    pub fn new(groups: Arc<Groups>, group: Arc<Group>) -> Sink {
        Sink {
            groups,
            group,
            staging: None,
            anew: false,
            progress: Progress::default(),
        }
    }

    /// The group.
    pub fn id(&self) -> GroupId {
        self.group.id()
    }

    /// Has the group left this node, or become another's?
    pub fn has_ended(&self) -> bool {
        self.group.has_ended()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What to ask a source for. What had arrived of a bootstrap is forgotten.
    pub fn request(&mut self) -> Request {
        self.staging = None;
        self.progress.phase = Phase::Connecting;
        let (applied, mark) = self.group.applied_log();
        let chosen = self.group.chosen().filter(|_| !mark.is_empty());
        let has = chosen.filter(|_| !self.anew);
        Request {
            group: self.id(),
            has: has.map(|chosen| (applied, (*chosen).clone())),
        }
    }

    /// Takes the next piece. False: this stream is over, the next one begins with a bootstrap.
    /// Errors: [`Error::Stream`] and damage: ask another source; `NoGroup`: the group is not
    /// followed any more.
    pub fn take(&mut self, piece: Piece) -> Result<bool> {
        let taken = self.take_one(piece);
        self.anew |= !matches!(taken, Ok(true));
        taken
    }

    fn take_one(&mut self, piece: Piece) -> Result<bool> {
        match piece {
            Piece::Begin { applied, meta } => {
                if applied.position < self.group.applied_log().0.position {
                    // Its source has less than what is here: another one, or later.
                    return Err(Error::Stream("a bootstrap lies before what is here"));
                }
                self.stage(false, applied, meta)?;
            }
            Piece::Come { applied, meta } => {
                self.check_following()?;
                if applied.position != self.group.applied_log().0.position {
                    return Err(Error::Stream("more trees come at another position"));
                }
                self.stage(true, applied, meta)?;
            }
            Piece::Rows(bytes) => {
                let staging = self.staging.as_mut();
                let staging = staging.ok_or(Error::Stream("rows come before their beginning"))?;
                staging.rows.put(&staging.pieces.to_be_bytes(), &bytes)?;
                staging.pieces += 1;
                staging.estimate.take(&bytes);
                self.progress.bytes = staging.estimate.bytes();
                self.progress.expected = staging.estimate.expected();
                self.progress.pieces = staging.pieces;
            }
            Piece::End(pieces) => {
                let staging = self.staging.take().filter(|s| s.pieces == pieces);
                let staging = staging.ok_or(Error::Stream("a bootstrap is not whole"))?;
                self.install(&staging)?;
            }
            Piece::Entry {
                term,
                index,
                payload,
            } => {
                self.check_following()?;
                match self.group.apply(term, index, &payload, &mut NoParts)? {
                    Verdict::Applied(position) => {
                        self.progress.entries += 1;
                        self.progress.newest = self.progress.newest.max(position);
                    }
                    Verdict::Repeated => {}
                    Verdict::Broken(_) => {
                        return Err(Error::Stream("an entry does not follow the last one"));
                    }
                }
                self.progress.phase = Phase::Following;
            }
            Piece::Choose(chosen) => {
                self.staging.take_if(|staging| staging.more);
                self.check_following()?;
                self.groups.choose(self.id(), chosen)?;
                self.progress.phase = Phase::Following;
            }
            Piece::Again => return Ok(false),
            Piece::Newest(position) => {
                self.progress.phase = Phase::Following;
                self.progress.newest = position;
            }
        }
        Ok(true)
    }

    /// Rows begin to come.
    fn stage(&mut self, more: bool, applied: Applied, meta: Bytes) -> Result<()> {
        // What has come of another one goes first.
        self.staging = None;
        let rows = self.groups.store().scratch()?;
        (self.progress.phase, self.progress.bytes) = (Phase::Bootstrap, 0);
        (self.progress.pieces, self.progress.expected) = (0, None);
        self.staging = Some(Staging {
            more,
            applied,
            estimate: Estimate::new(&meta),
            meta,
            rows,
            pieces: 0,
        });
        Ok(())
    }

    fn check_following(&self) -> Result<()> {
        match self.staging {
            None => Ok(()),
            Some(_) => Err(Error::Stream("an entry comes within a bootstrap")),
        }
    }

    /// Looks at all of it before anything is changed.
    fn install(&mut self, staging: &Staging) -> Result<()> {
        let (id, applied, meta) = (self.id(), staging.applied, &staging.meta);
        let has = self.group.chosen().filter(|_| staging.more);
        check_chosen(applied, meta, has.as_deref(), &mut staging.read())?;
        let pieces = &mut staging.read();
        match staging.more {
            true => self.groups.extend(id, applied, meta, pieces)?,
            false => self.groups.install(id, applied, meta, pieces)?,
        }
        self.anew = false;
        self.progress.bootstraps += 1;
        self.progress.phase = Phase::Following;
        Ok(())
    }
}

impl Staging {
    fn read(&self) -> impl FnMut() -> storage::Result<Option<Bytes>> {
        let mut next = 0u32;
        move || {
            if next == self.pieces {
                return Ok(None);
            }
            let piece = self.rows.get(&next.to_be_bytes())?;
            next += 1;
            let gone = || StorageError::Store("a piece of a bootstrap is gone".into());
            piece.map(Some).ok_or_else(gone)
        }
    }
}

/// A follower's entries have no parts.
struct NoParts;

impl PartSource for NoParts {
    fn part(&mut self, index: journal::Index) -> storage::Result<journal::Payload> {
        Err(StorageError::Corrupt {
            place: format!("stream, part at index {}", index.0),
            what: "a follower gets whole entries".into(),
        })
    }
}
