//! Reads one group's records back from the segments: a cursor over one run, through a window of the
//! file, so that a page of records is slices of one buffer.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, File, Open};
use crate::index::Piece;
use crate::journal::State;
use crate::record::{HEADER_BYTES, Header};
use crate::segment::{Segment, payload_at};
use crate::{GroupId, Index, Payload, Position, Result};

/// The least and the greatest window.
const WINDOW_MIN: usize = 16 << 10;
const WINDOW_MAX: usize = 1 << 20;
/// After so much of other groups it is asked where the next record lies. The first window there
/// is as large; each is twice the one before.
const FAR_BYTES: usize = 4 << 10;

/// Goes over the log records of one group in one run. Many records of others in between are not
/// read.
pub(crate) struct Cursor<'a> {
    /// Where samples are found; without it everything in between is read.
    state: Option<&'a Mutex<State>>,
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    group: GroupId,
    piece: Piece,
    at: u64,
    next: Index,
    position: Position,
    /// From here to `at` there is none of the group's.
    foreign: u64,
    window: Bytes,
    window_at: u64,
    /// How much is read at once now, and at most.
    window_bytes: usize,
    window_bytes_max: usize,
}

/// A log record's header, where it lies, and its position (of Raft's own: the last before).
pub(crate) struct Found {
    pub header: Header,
    pub offset: u64,
    pub position: Position,
}

impl<'a> Cursor<'a> {
    /// Over a piece of a run, whose segment this is. `bytes` is what the caller wants in all. A
    /// caller who has locked the state, and wants what lies near the beginning, gives none.
    pub fn new(
        disk: &dyn Disk,
        state: Option<&'a Mutex<State>>,
        segment: Arc<Segment>,
        group: GroupId,
        piece: Piece,
        bytes: usize,
    ) -> Result<Cursor<'a>> {
        let all = (piece.end - piece.start.offset) as usize;
        let window_bytes = bytes
            .saturating_add(WINDOW_MIN)
            .min(all)
            .clamp(WINDOW_MIN, WINDOW_MAX);
        Ok(Cursor {
            state,
            file: segment.open(disk, Open::Read)?,
            segment,
            group,
            piece,
            at: piece.start.offset,
            next: piece.start.index,
            position: piece.start.position,
            foreign: piece.start.offset,
            window: Bytes::new(),
            window_at: 0,
            window_bytes,
            window_bytes_max: window_bytes,
        })
    }

    /// The next record of the group; `None` behind the last.
    pub fn next(&mut self) -> Result<Option<Found>> {
        while self.next <= self.piece.last {
            self.pass_over();
            let offset = self.at;
            let bytes = self.bytes(offset, HEADER_BYTES)?;
            let header = Header::decode(&bytes, self.segment.number, offset)
                .map_err(|reason| self.segment.corrupt(offset, reason))?;
            self.at += header.disk_bytes();
            if header.group != self.group || !header.kind.is_log() {
                continue;
            }
            if header.index != self.next {
                return Err(self
                    .segment
                    .corrupt(offset, "another log index was expected here"));
            }
            self.foreign = self.at;
            self.next = Index(self.next.0 + 1);
            self.position = self.position.max(header.position);
            return Ok(Some(Found {
                header,
                offset,
                position: self.position,
            }));
        }
        Ok(None)
    }

    /// Goes on at the next record if that is far: then there is a sample of it.
    fn pass_over(&mut self) {
        let Some(state) = self
            .state
            .filter(|_| self.at - self.foreign >= FAR_BYTES as u64)
        else {
            return;
        };
        self.foreign = self.at;
        let state = state.lock();
        let group = state.groups.get(&self.group);
        let sampled = group.and_then(|group| group.sampled(&self.piece, self.next));
        if let Some(offset) = sampled.filter(|offset| *offset > self.at) {
            (self.at, self.foreign) = (offset, offset);
            self.window_bytes = FAR_BYTES;
        }
    }

    /// The payload of a record just found. If a checksum fails, an erase may be at work: looks
    /// again when it is done.
    pub fn payload(&mut self, found: &Found) -> Result<Payload> {
        let size = found.header.disk_bytes() as usize;
        let bytes = self.bytes(found.offset, size)?;
        let at = |bytes: &Bytes| record_payload(bytes, &found.header);
        if let Ok(payload) = at(&bytes) {
            return Ok(payload);
        }
        let again = {
            let _erased = self.segment.erasing.read();
            self.segment.read(&*self.file, found.offset, size)?
        };
        at(&again).map_err(|reason| self.segment.corrupt(found.offset, reason))
    }

    /// Bytes of the segment through the window, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        let inside = |window_at: u64, window: &Bytes| {
            let start = usize::try_from(offset.checked_sub(window_at)?).ok()?;
            (start + len <= window.len()).then(|| window.slice(start..start + len))
        };
        if let Some(bytes) = inside(self.window_at, &self.window) {
            return Ok(bytes);
        }
        self.window = self
            .segment
            .read(&*self.file, offset, len.max(self.window_bytes))?;
        self.window_at = offset;
        self.window_bytes = (2 * self.window_bytes).min(self.window_bytes_max);
        Ok(self.window.slice(..len.min(self.window.len())))
    }
}

/// The payload in the bytes of one record.
pub(crate) fn record_payload(bytes: &Bytes, header: &Header) -> Result<Payload, &'static str> {
    payload_at(bytes, 0, header)
}
