//! What the segments of an open journal hold, record by record and whether or not anyone can read
//! it: for the eraser, which looks for keys in what was purged, truncated or left behind, too.

use bytes::Bytes;

use crate::disk::Open;
use crate::erase::is_live;
use crate::journal::{Journal, State};
use crate::record::Header;
use crate::segment::{HEAD_BYTES, Segment, Step, Walk, payload_at};
use crate::{Record, Result};

/// Who may still need a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Raft: it is above the purge point as the file has it, and must not change.
    Live,
    /// Readers of the group's log only.
    Purged,
    /// Nobody: it was truncated, or its log has ended.
    Dead,
}

/// A log record in a segment.
#[derive(Clone, Debug)]
pub struct Remains {
    /// Where it begins in the segment.
    pub offset: u64,
    /// The record.
    pub record: Record,
    /// Who may need it.
    pub fate: Fate,
}

impl Journal {
    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<u64> {
        let state = self.shared().state.lock();
        state.segments.keys().copied().collect()
    }

    /// All log records of a segment in order, of whatever group; nothing if it was released. Reads
    /// the whole segment. What is being written meanwhile is not among them. Errors: `Corrupt`.
    pub fn remains(&self, segment: u64) -> Result<Vec<Remains>> {
        let shared = self.shared();
        // No segment goes and no image is overwritten meanwhile.
        let _one = shared.upkeep.lock();
        let state = shared.state.lock();
        let Some(found) = state.segments.get(&segment).cloned() else {
            return Ok(Vec::new());
        };
        let end = state.end_of(segment);
        drop(state);
        let file = found.open(&*shared.disk, Open::Read)?;
        let size = end.map_or_else(|| found.size(&*file), Ok)?;
        let bytes = found.read(&*file, 0, size as usize)?;
        drop(file);
        let records = records(&found, &bytes)?;
        let state = shared.state.lock();
        let with_fate = |(offset, header, record): (u64, Header, Record)| Remains {
            offset,
            fate: state.fate(segment, offset, &header),
            record,
        };
        Ok(records.into_iter().map(with_fate).collect())
    }
}

/// The log records in the bytes of a segment.
fn records(segment: &Segment, bytes: &Bytes) -> Result<Vec<(u64, Header, Record)>> {
    let mut walk = Walk {
        bytes,
        segment: segment.number,
        at: HEAD_BYTES,
    };
    let mut out = Vec::new();
    loop {
        match walk.step() {
            Step::End { .. } => return Ok(out),
            // What follows is the trailer.
            Step::Record { header, .. } if header.kind == crate::Kind::Footer => return Ok(out),
            Step::Record { offset, header } if header.kind.is_log() => {
                let payload = payload_at(bytes, offset, &header);
                let payload = payload.map_err(|reason| segment.corrupt(offset, reason))?;
                out.push((offset, header, header.with(payload)));
            }
            Step::Record { .. } => {}
            Step::Bad { offset, reason } => return Err(segment.corrupt(offset, reason)),
        }
    }
}

impl State {
    /// Where the records of a segment end that the index knows; `None`: with the file.
    fn end_of(&self, segment: u64) -> Option<u64> {
        let (open, end) = self.noted;
        match segment.cmp(&open) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(end),
            std::cmp::Ordering::Greater => Some(HEAD_BYTES),
        }
    }

    fn fate(&self, segment: u64, offset: u64, header: &Header) -> Fate {
        let group = self.groups.get(&header.group);
        let Some(group) = group.filter(|group| is_live(group, segment, offset, header)) else {
            return Fate::Dead;
        };
        match group.purge_written.is_some_and(|upto| header.index <= upto) {
            true => Fate::Purged,
            false => Fate::Live,
        }
    }
}
