//! The messages by which a snapshot travels: an offer, chunks in order, the end.
//!
//! ```text
//! offer: 1 u8 | id u64 | vote | last log id | position u64 | meta: length u32, bytes
//! chunk: 2 u8 | id u64 | number u32 | length u32, bytes
//! end:   3 u8 | id u64 | chunks u32
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use journal::Position;

use super::{Malformed, Result, take, u8, u32, u64};
use crate::types::{LogId, Vote, get_log_id, get_vote, put_log_id, put_vote};

/// Bytes of one chunk at most.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// What storage keeps of a group beside its trees, at most.
const META_BYTES_MAX: usize = 64 << 20;

/// What the sender of a snapshot says.
#[derive(Clone, Debug, PartialEq)]
pub enum SnapshotRequest {
    /// This is what it is. Answered with the chunk to begin with.
    Offer(Offer),
    /// The next bytes of it.
    Chunk {
        /// Names the snapshot among all of the sender.
        id: u64,
        /// Counted from 0.
        number: u32,
        /// [`CHUNK_BYTES_MAX`] at most.
        bytes: Bytes,
    },
    /// That was all: install it.
    End {
        /// Names the snapshot.
        id: u64,
        /// How many chunks it has.
        chunks: u32,
    },
}

/// What a snapshot is.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Names it among all of the sender.
    pub id: u64,
    /// The sender's leadership.
    pub vote: Vote,
    /// The last entry that it contains.
    pub last: LogId,
    /// The position as of which the trees are.
    pub position: Position,
    /// What storage keeps beside the trees.
    pub meta: Bytes,
}

/// What the receiver of a snapshot answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SnapshotAnswer {
    /// Go on with this chunk.
    Next(u32),
    /// It is installed, or not needed; this is the receiver's vote.
    Done(Vote),
    /// All of it is there, or of another one, and is being installed: ask again.
    Installing,
}

const OFFER: u8 = 1;
const CHUNK: u8 = 2;
const END: u8 = 3;

impl SnapshotRequest {
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            SnapshotRequest::Offer(offer) => {
                out.put_u8(OFFER);
                out.put_u64_le(offer.id);
                put_vote(out, &offer.vote);
                put_log_id(out, Some(&offer.last));
                out.put_u64_le(offer.position.0);
                put_bytes(out, &offer.meta);
            }
            SnapshotRequest::Chunk { id, number, bytes } => {
                out.put_u8(CHUNK);
                out.put_u64_le(*id);
                out.put_u32_le(*number);
                put_bytes(out, bytes);
            }
            SnapshotRequest::End { id, chunks } => {
                out.put_u8(END);
                out.put_u64_le(*id);
                out.put_u32_le(*chunks);
            }
        }
    }

    pub(super) fn bytes_about(&self) -> usize {
        match self {
            SnapshotRequest::Offer(offer) => offer.meta.len(),
            SnapshotRequest::Chunk { bytes, .. } => bytes.len(),
            SnapshotRequest::End { .. } => 0,
        }
    }

    pub(super) fn get(rest: &mut Bytes) -> Result<SnapshotRequest> {
        let (kind, id) = (u8(rest)?, u64(rest)?);
        Ok(match kind {
            OFFER => {
                let vote = get_vote(rest).ok_or(Malformed("vote"))?;
                let last = get_log_id(rest).ok_or(Malformed("log id"))?;
                SnapshotRequest::Offer(Offer {
                    id,
                    vote,
                    last: last.ok_or(Malformed("an empty snapshot"))?,
                    position: Position(u64(rest)?),
                    meta: get_bytes(rest, META_BYTES_MAX)?,
                })
            }
            CHUNK => SnapshotRequest::Chunk {
                id,
                number: u32(rest)?,
                bytes: get_bytes(rest, CHUNK_BYTES_MAX)?,
            },
            END => SnapshotRequest::End {
                id,
                chunks: u32(rest)?,
            },
            _ => return Err(Malformed("unknown part of a snapshot")),
        })
    }
}

const NEXT: u8 = 1;
const DONE: u8 = 2;
const INSTALLING: u8 = 3;

impl SnapshotAnswer {
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            SnapshotAnswer::Next(number) => {
                out.put_u8(NEXT);
                out.put_u32_le(*number);
            }
            SnapshotAnswer::Done(vote) => {
                out.put_u8(DONE);
                put_vote(out, vote);
            }
            SnapshotAnswer::Installing => out.put_u8(INSTALLING),
        }
    }

    pub(super) fn get(rest: &mut Bytes) -> Result<SnapshotAnswer> {
        Ok(match u8(rest)? {
            NEXT => SnapshotAnswer::Next(u32(rest)?),
            DONE => SnapshotAnswer::Done(get_vote(rest).ok_or(Malformed("vote"))?),
            INSTALLING => SnapshotAnswer::Installing,
            _ => return Err(Malformed("unknown answer to a snapshot")),
        })
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

fn get_bytes(rest: &mut Bytes, max: usize) -> Result<Bytes> {
    let length = u32(rest)? as usize;
    if length > max {
        return Err(Malformed("longer than allowed"));
    }
    take(rest, length)
}
