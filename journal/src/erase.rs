//! Erasing: images are overwritten in place, with their length kept, after a record that lists them
//! is on disk, so that open can finish what a crash has interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, File, Open};
use crate::index::Group;
use crate::journal::{Journal, Shared, State};
use crate::payload::{self, IMAGE_HEAD_BYTES};
use crate::record::{HEADER_BYTES, Header, Kind};
use crate::segment::{Columns, Reader, Segment};
use crate::writer::Ticket;
use crate::{Error, GroupId, Index, Payload, Position, Record, Result, Term};

/// Bytes of images in an erase record, and so what is planned in memory before it is done.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Images of one record to be erased. Segments and offsets are those of
/// [`Journal::remains`] and [`crate::inspect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The segment's number.
    pub segment: u64,
    /// The record's offset in it.
    pub offset: u64,
    /// Numbers of the images, counted from 0, ascending, and what is left in the place of each:
    /// of what does not fit into it the beginning, behind it zeros.
    pub images: Vec<(u32, Bytes)>,
}

/// The bytes of one image that are overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// Offset of the image's head in the payload.
    start: usize,
    /// Length of the image, without its head.
    len: usize,
    left: Bytes,
}

const COLUMN_BYTES: usize = 8;
/// Of a target beside its ranges: the head of its image, and three columns.
const TARGET_BYTES: usize = IMAGE_HEAD_BYTES + 3 * COLUMN_BYTES;

impl Range {
    fn erased(&self) -> Vec<u8> {
        payload::erased_image(self.len, &self.left)
    }

    fn decode(input: &mut Reader) -> Option<Range> {
        let (start, len) = (input.get()? as usize, input.get()? as usize);
        input.get()?; // The CRC follows from the rest.
        let left = input.bytes()?;
        Some(Range { start, len, left })
    }
}

/// One record in an erase record: which of its bytes are overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub segment: u64,
    pub offset: u64,
    pub ranges: Vec<Range>,
}

impl Range {
    /// Bytes in the image of an erase record.
    fn encoded_bytes(&self) -> usize {
        4 * COLUMN_BYTES + self.left.len().next_multiple_of(COLUMN_BYTES)
    }
}

impl Target {
    /// The same in pieces whose images have so many bytes at most, if a range is not longer than that.
    fn pieces(self, bytes_max: usize) -> Vec<Target> {
        let (segment, offset) = (self.segment, self.offset);
        let (mut pieces, mut bytes) = (Vec::<Target>::new(), 0);
        for range in self.ranges {
            bytes += range.encoded_bytes();
            match pieces.last_mut() {
                Some(piece) if bytes <= bytes_max => piece.ranges.push(range),
                _ => {
                    bytes = TARGET_BYTES + range.encoded_bytes();
                    let ranges = vec![range];
                    pieces.push(Target {
                        segment,
                        offset,
                        ranges,
                    });
                }
            }
        }
        pieces
    }

    /// Bytes in an erase record.
    fn encoded_bytes(&self) -> usize {
        let ranges = self.ranges.iter().map(Range::encoded_bytes);
        TARGET_BYTES + ranges.sum::<usize>()
    }

    /// The image of an erase record: segment, offset, number of ranges, then for each range its
    /// start in the payload, its image's length, the new CRC, and what is left.
    fn encode(&self) -> Vec<u8> {
        let mut out = Columns::default();
        out.put(self.segment);
        out.put(self.offset);
        out.put(self.ranges.len() as u64);
        for range in &self.ranges {
            let erased = range.erased();
            out.put(range.start as u64);
            out.put(range.len as u64);
            out.put(u32::from_le_bytes(erased[..4].try_into().expect("four bytes")).into());
            out.put_bytes(&range.left);
        }
        out.0
    }

    fn decode(bytes: Bytes) -> Option<Target> {
        let mut input = Reader(bytes);
        let (segment, offset) = (input.get()?, input.get()?);
        let count = input.count(32)?;
        let ranges = (0..count).map(|_| Range::decode(&mut input));
        Some(Target {
            segment,
            offset,
            ranges: ranges.collect::<Option<_>>()?,
        })
    }

    /// Overwrites the ranges in the payload's bytes.
    pub fn apply(&self, payload: &mut [u8]) {
        for range in &self.ranges {
            let end = range.start + IMAGE_HEAD_BYTES + range.len;
            if let Some(bytes) = payload.get_mut(range.start..end) {
                bytes.copy_from_slice(&range.erased());
            }
        }
    }
}

/// The targets of an erase record.
pub(crate) fn targets(record: &Payload) -> Vec<Target> {
    record
        .images()
        .filter_map(|image| Target::decode(image.ok()?))
        .collect()
}

/// Segments whose images are overwritten, each opened once.
pub(crate) struct Overwriting<'a> {
    disk: &'a dyn Disk,
    files: BTreeMap<u64, (Arc<Segment>, Arc<dyn File>)>,
    /// Those in which something was written that is not synced.
    touched: BTreeSet<u64>,
}

impl<'a> Overwriting<'a> {
    pub fn new(disk: &'a dyn Disk) -> Overwriting<'a> {
        Overwriting {
            disk,
            files: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    fn file(&mut self, segment: &Arc<Segment>) -> Result<Arc<dyn File>> {
        if let Some((_, file)) = self.files.get(&segment.number) {
            return Ok(file.clone());
        }
        let file = segment.open(self.disk, Open::Write)?;
        let opened = (segment.clone(), file.clone());
        self.files.insert(segment.number, opened);
        Ok(file)
    }

    /// Gives every range of an erase record its erased bytes that does not have them yet.
    pub fn redo(&mut self, segments: &BTreeMap<u64, Arc<Segment>>, record: &Payload) -> Result<()> {
        for target in targets(record) {
            // Released meanwhile: nothing is left to erase.
            let Some(segment) = segments.get(&target.segment) else {
                continue;
            };
            let file = self.file(segment)?;
            if overwrite(segment, &*file, &target)? {
                self.touched.insert(target.segment);
            }
        }
        Ok(())
    }

    /// Returns when all of it is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.touched) {
            let (segment, file) = &self.files[&number];
            file.sync()
                .map_err(|e| Error::io("sync", &segment.path, e))?;
        }
        Ok(())
    }
}

/// Overwrites a target's ranges where that is not done yet. Answers whether anything was written.
fn overwrite(segment: &Segment, file: &dyn File, target: &Target) -> Result<bool> {
    let (header, old) = record_at(segment, file, target.offset)?;
    let mut new = old.to_vec();
    for range in &target.ranges {
        let end = range.start.checked_add(IMAGE_HEAD_BYTES + range.len);
        if end.is_none_or(|end| end > header.payload as usize) {
            return Err(segment.corrupt(target.offset, "an erase record goes beyond the record"));
        }
    }
    target.apply(&mut new);
    if new == old {
        return Ok(false);
    }
    let at = target.offset + HEADER_BYTES as u64;
    let _readers_wait = segment.erasing.write();
    file.write_at(&new, at)
        .map_err(|e| Error::io("write", &segment.path, e))?;
    Ok(true)
}

/// The header and the payload's bytes, unchecked, of the record at an offset.
fn record_at(segment: &Segment, file: &dyn File, offset: u64) -> Result<(Header, Bytes)> {
    let head = segment.read(file, offset, HEADER_BYTES)?;
    let header = Header::decode(&head, segment.number, offset)
        .map_err(|reason| segment.corrupt(offset, reason))?;
    let len = header.payload as usize;
    let bytes = segment.read(file, offset + HEADER_BYTES as u64, len)?;
    if bytes.len() < len {
        return Err(segment.corrupt(offset, "the file ends within a record"));
    }
    Ok((header, bytes))
}

impl Journal {
    /// Overwrites images in place and returns when they are gone from the disk and from memory.
    /// Log records must be below the purge point that is written, or truncated. Blocks for a few
    /// fsyncs per MiB of ranges. Errors: `Invalid` for what may not be erased, `Corrupt` if there is
    /// no such record; then what stands before it in the list may be erased.
    pub fn erase(&self, erasures: &[Erasure]) -> Result<()> {
        let shared = self.shared();
        let _one = shared.upkeep.lock();
        let bytes_max = (self.payload_bytes_max() - IMAGE_HEAD_BYTES).min(RECORD_BYTES_MAX);
        let mut batch = Batch {
            shared,
            files: Overwriting::new(&*shared.disk),
            segments: BTreeMap::new(),
            planned: Vec::new(),
            bytes: 0,
            live: Vec::new(),
        };
        for erasure in erasures {
            let Some(segment) = shared.state.lock().segments.get(&erasure.segment).cloned() else {
                continue;
            };
            let (target, header) = plan(&segment, &*batch.files.file(&segment)?, erasure)?;
            let live = shared.state.lock().may_erase(erasure, &header)?;
            batch.segments.insert(erasure.segment, segment);
            for piece in target.pieces(bytes_max) {
                batch.push(piece, bytes_max)?;
            }
            batch.live.extend(live);
        }
        batch.erase()
    }
}

/// Erasures of one erase record.
struct Batch<'a> {
    shared: &'a Shared,
    files: Overwriting<'a>,
    segments: BTreeMap<u64, Arc<Segment>>,
    planned: Vec<Target>,
    /// Of the planned targets in the record.
    bytes: usize,
    /// Records that are live and all planned, now or before.
    live: Vec<(GroupId, Index)>,
}

impl Batch<'_> {
    fn push(&mut self, target: Target, bytes_max: usize) -> Result<()> {
        let bytes = target.encoded_bytes();
        if bytes > bytes_max {
            let (bytes, limit) = (bytes as u64, bytes_max as u64);
            return Err(Error::TooLarge { bytes, limit });
        }
        if self.bytes + bytes > bytes_max {
            self.erase()?;
        }
        self.bytes += bytes;
        self.planned.push(target);
        Ok(())
    }

    /// Writes the record, and does what it says.
    fn erase(&mut self) -> Result<()> {
        if self.planned.is_empty() {
            return Ok(());
        }
        let mut images = Payload::builder();
        for target in self.planned.drain(..) {
            images.push(&target.encode());
        }
        let record = images.finish();
        self.bytes = 0;
        self.write(&record)?;
        let redone = self.files.redo(&self.segments, &record);
        let synced = redone.and_then(|()| self.files.sync());
        synced.map_err(|error| self.shared.fail(error))?;
        let mut state = self.shared.state.lock();
        // All that there are, for no other erase goes on: no open has to look at them.
        state.open_erases.clear();
        for (group, index) in self.live.drain(..) {
            state.drop_held(group, index);
        }
        Ok(())
    }

    fn write(&self, record: &Payload) -> Result<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut state = self.shared.state.lock();
        state.usable()?;
        let done = Ticket::new(Box::new(move |answer| drop(sender.send(answer))));
        let own = Record::own(Kind::Erase, GroupId::DIRECTORY, Term(0), Index(0));
        let record = Record {
            payload: record.clone(),
            ..own
        };
        state.enqueue(record, Position::ZERO, Some(done));
        drop(state);
        self.shared.work.notify_one();
        receiver.recv().unwrap_or(Err(Error::Closed))
    }
}

/// Finds the byte ranges of the images.
fn plan(segment: &Segment, file: &dyn File, erasure: &Erasure) -> Result<(Target, Header)> {
    let (header, bytes) = record_at(segment, file, erasure.offset)?;
    let mut ranges = Vec::new();
    let (mut at, mut number) = (0, 0);
    while at < bytes.len() {
        let Some(image) = payload::extent_at(&bytes, at) else {
            return Err(segment.corrupt(erasure.offset, "image checksum mismatch"));
        };
        if let Ok(found) = erasure.images.binary_search_by_key(&number, |(n, _)| *n) {
            let len = image.end - image.start;
            let left = erasure.images[found].1.clone();
            let left = left.slice(..left.len().min(len));
            let start = at;
            ranges.push(Range { start, len, left });
        }
        (at, number) = (image.end, number + 1);
    }
    let Erasure {
        segment, offset, ..
    } = *erasure;
    Ok((
        Target {
            segment,
            offset,
            ranges,
        },
        header,
    ))
}

impl State {
    /// Is the record one that may be erased? Answers its group and index if it is live.
    fn may_erase(&self, erasure: &Erasure, header: &Header) -> Result<Option<(GroupId, Index)>> {
        if !header.kind.is_log() {
            return Err(Error::Invalid("only log records can be erased"));
        }
        let Some(group) = self.groups.get(&header.group) else {
            return Ok(None);
        };
        if !is_live(group, erasure.segment, erasure.offset, header) {
            return Ok(None);
        }
        // As the file has it: else the erase record could be on disk before its purge, and after a
        // crash what is overwritten would be Raft's again.
        if group
            .purge_written
            .is_none_or(|purged| purged < header.index)
        {
            return Err(Error::Invalid(
                "a record is erased only after its purge for Raft",
            ));
        }
        Ok(Some((header.group, header.index)))
    }

    /// Drops a group's written records up to an index from memory.
    fn drop_held(&mut self, group: GroupId, upto: Index) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        while let Some(held) = group.tail.pop_front_if(|held| held.record.index <= upto) {
            self.tail_bytes -= held.bytes();
        }
    }
}

/// Does the place belong to the group's log, not to a truncated part?
pub(crate) fn is_live(group: &Group, segment: u64, offset: u64, header: &Header) -> bool {
    group.runs.iter().any(|run| {
        run.segment == segment
            && (run.first..=run.last).contains(&header.index)
            && run.samples[0].offset <= offset
    })
}
