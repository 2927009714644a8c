//! Reads a journal folder without ever writing: for `freehold dump` and `freehold check`, and to
//! find what is to be erased.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, Open};
use crate::erase::{self, Target};
use crate::record::{HEADER_BYTES, Header, Kind};
use crate::recover;
use crate::segment::{self, HEAD_BYTES, Segment, Step, Walk, payload_at};
use crate::{Error, Payload, Record, Result};

/// A segment's number, a record's offset in it, and the record or what is wrong there.
pub type Inspected = (u64, u64, Result<Record>);

/// Every record of a folder in order, dead ones and the journal's own included; all checksums are
/// checked. After an error the next segment follows. An incomplete end of the last segment is
/// [`Error::Torn`] (open cuts it); interrupted erasures are shown as done.
pub fn inspect(disk: Arc<dyn Disk>, dir: &Path) -> Inspect {
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e));
    let found = names.and_then(|names| recover::segments(dir, &names));
    let (segments, error) = match found {
        Ok(segments) => (segments.into_values().collect(), None),
        Err(error) => (Vec::new(), Some(error)),
    };
    Inspect {
        disk,
        segments,
        next: 0,
        open: None,
        error,
        erased: None,
    }
}

/// Iterator of [`inspect`].
pub struct Inspect {
    disk: Arc<dyn Disk>,
    segments: Vec<Arc<Segment>>,
    /// The segment after the open one.
    next: usize,
    open: Option<(Arc<Segment>, Bytes, u64)>,
    error: Option<Error>,
    /// All erasures, once a checksum has failed.
    erased: Option<Vec<Target>>,
}

impl Iterator for Inspect {
    type Item = Inspected;

    fn next(&mut self) -> Option<Inspected> {
        if let Some(error) = self.error.take() {
            return Some((0, 0, Err(error)));
        }
        loop {
            let Some((segment, bytes, at)) = self.open.take() else {
                let segment = self.segments.get(self.next)?.clone();
                self.next += 1;
                match self.load(&segment) {
                    Ok(Some(bytes)) => self.open = Some((segment, bytes, HEAD_BYTES)),
                    Ok(None) => {}
                    Err(error) => return Some((segment.number, 0, Err(error))),
                }
                continue;
            };
            if let Some(found) = self.step(segment, bytes, at) {
                return Some(found);
            }
        }
    }
}

impl Inspect {
    fn is_last(&self) -> bool {
        self.next == self.segments.len()
    }

    /// The bytes of a segment; none if it was not begun.
    fn load(&self, segment: &Segment) -> Result<Option<Bytes>> {
        let file = segment.open(&*self.disk, Open::Read)?;
        let size = segment.size(&*file)?;
        let bytes = segment.read(&*file, 0, size as usize)?;
        if segment::check_head(segment, &bytes, size)?.is_some() {
            if !self.is_last() && recover::footer(segment, &*file)?.is_none() {
                let end = size.saturating_sub(HEAD_BYTES);
                return Err(segment.corrupt(end, "the footer or trailer does not fit"));
            }
            return Ok(Some(bytes));
        }
        let begun = bytes
            .get(HEAD_BYTES as usize..)
            .is_none_or(|rest| !segment::is_zero(rest));
        match begun || !self.is_last() {
            true => Err(segment.corrupt(0, "segment head checksum mismatch")),
            false => Ok(None),
        }
    }

    /// The next item of the open segment; `None` at its end.
    fn step(&mut self, segment: Arc<Segment>, bytes: Bytes, at: u64) -> Option<Inspected> {
        let number = segment.number;
        let mut walk = Walk {
            bytes: &bytes,
            segment: number,
            at,
        };
        let (bad, reason) = match walk.step() {
            Step::End { .. } => return None,
            Step::Record { offset, header } => {
                match self.payload(number, &bytes, offset, &header) {
                    Ok(payload) => {
                        let after = walk.at;
                        // Behind a footer come zeros and the trailer.
                        if header.kind != Kind::Footer {
                            self.open = Some((segment, bytes.clone(), after));
                        }
                        return Some((number, offset, Ok(header.with(payload))));
                    }
                    Err(reason) => (offset, reason),
                }
            }
            Step::Bad { offset, reason } => (offset, reason),
        };
        let torn = self.is_last() && !segment::proves_damage(&bytes, number, bad);
        let error = match torn {
            true => Error::Torn {
                path: segment.path.clone(),
                offset: bad,
            },
            false => segment.corrupt(bad, reason),
        };
        Some((number, bad, Err(error)))
    }

    /// The payload of a record, with interrupted erasures done.
    fn payload(
        &mut self,
        segment: u64,
        bytes: &Bytes,
        offset: u64,
        header: &Header,
    ) -> Result<Payload, &'static str> {
        let first = payload_at(bytes, offset, header);
        if first.is_ok() {
            return first;
        }
        if self.erased.is_none() {
            self.erased = Some(self.all_erased());
        }
        let start = offset as usize;
        let mut record = bytes[start..start + header.disk_bytes() as usize].to_vec();
        let erased = self.erased.iter().flatten();
        erased
            .filter(|target| target.segment == segment && target.offset == offset)
            .for_each(|target| target.apply(&mut record[HEADER_BYTES..]));
        payload_at(&record.into(), 0, header)
    }

    fn all_erased(&self) -> Vec<Target> {
        let mut out = Vec::new();
        for segment in &self.segments {
            let bytes = segment.open(&*self.disk, Open::Read).and_then(|file| {
                let size = segment.size(&*file)?;
                segment.read(&*file, 0, size as usize)
            });
            // A segment that cannot be read is reported when it is its turn.
            let records = bytes.map(|bytes| recover::erase_records(segment, &bytes));
            out.extend(records.unwrap_or_default().iter().flat_map(erase::targets));
        }
        out
    }
}
