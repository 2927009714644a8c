//! Reads one group's records back from the segments: a cursor over one run, through a window of the
//! file, so that a page of records is slices of one buffer.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, File, Open};
use crate::index::Piece;
use crate::record::{HEADER_BYTES, Header};
use crate::segment::{Segment, payload_at};
use crate::{GroupId, Index, Payload, Position, Result};

/// The least and the greatest window.
const WINDOW_MIN: usize = 16 << 10;
const WINDOW_MAX: usize = 1 << 20;

/// Goes over the log records of one group in one run.
pub(crate) struct Cursor {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    group: GroupId,
    at: u64,
    next: Index,
    last: Index,
    position: Position,
    window: Bytes,
    window_at: u64,
    window_bytes: usize,
}

/// A log record's header, where it lies, and its position (of Raft's own: the last before).
pub(crate) struct Found {
    pub header: Header,
    pub offset: u64,
    pub position: Position,
}

impl Cursor {
    /// Over a piece of a run, whose segment this is. `bytes` is what the caller wants in all.
    pub fn new(
        disk: &dyn Disk,
        segment: Arc<Segment>,
        group: GroupId,
        piece: Piece,
        bytes: usize,
    ) -> Result<Cursor> {
        let all = (piece.end - piece.start.offset) as usize;
        Ok(Cursor {
            file: segment.open(disk, Open::Read)?,
            segment,
            group,
            at: piece.start.offset,
            next: piece.start.index,
            last: piece.last,
            position: piece.start.position,
            window: Bytes::new(),
            window_at: 0,
            window_bytes: bytes
                .saturating_add(WINDOW_MIN)
                .min(all)
                .clamp(WINDOW_MIN, WINDOW_MAX),
        })
    }

    /// The next record of the group; `None` behind the last.
    pub fn next(&mut self) -> Result<Option<Found>> {
        while self.next <= self.last {
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
        Ok(self.window.slice(..len.min(self.window.len())))
    }
}

/// The payload in the bytes of one record.
pub(crate) fn record_payload(bytes: &Bytes, header: &Header) -> Result<Payload, &'static str> {
    payload_at(bytes, 0, header)
}
