//! Opening: finish erasures, read the footers of the sealed segments and the records of the last,
//! cut a torn tail, refuse damage.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, File, Open};
use crate::erase::Overwriting;
use crate::index::Group;
use crate::journal::{Options, Shared, State};
use crate::record::{HEADER_BYTES, Header, Kind};
use crate::segment::{self, Footer, HEAD_BYTES, Segment, Step, Walk, payload_at};
use crate::spare::{self, Need};
use crate::writer::{self, Active, Waiting};
use crate::{Error, GroupId, Payload, Position, Record, Result};

/// The least size of a segment: a vote and its neighbours must fit.
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// The greatest: open reads the last one whole, and lengths are 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Opens the folder and rebuilds what is known of it.
pub(crate) fn recover(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
) -> Result<(Shared, Active)> {
    disk.sync_dir(dir)
        .map_err(|e| Error::io("create", dir, e))?;
    let lock = disk.lock(&dir.join("lock")).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked {
            path: dir.to_owned(),
        },
        _ => Error::io("lock", dir, e),
    })?;
    let segment_bytes = options
        .segment_bytes
        .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let shared = Shared {
        disk,
        dir: dir.to_owned(),
        options: Options {
            segment_bytes,
            ..options
        },
        state: Mutex::new(State::default()),
        work: Condvar::new(),
        spare: Mutex::new(()),
        need: Need::default(),
        upkeep: Mutex::new(()),
        lock: Mutex::new(Some(lock)),
    };
    let names = shared
        .disk
        .list(dir)
        .map_err(|e| Error::io("list", dir, e))?;
    tidy(&shared, &names)?;
    let mut state = State {
        segments: segments(dir, &names)?,
        ..State::default()
    };
    let active = Recovery {
        shared: &shared,
        state: &mut state,
    }
    .run()?;
    state
        .segments
        .insert(active.segment.number, active.segment.clone());
    state.noted = (active.segment.number, active.end);
    for group in state.groups.values_mut() {
        // Everything read was synced, here or before its segment was sealed.
        group.durable = group.last_index().max(group.purged.map(|(_, index)| index));
    }
    *shared.state.lock() = state;
    Ok((shared, active))
}

/// Removes what a crash left unfinished, and a spare file of another size.
fn tidy(shared: &Shared, names: &[String]) -> Result<()> {
    for name in names {
        let path = shared.dir.join(name);
        let remove = match name.as_str() {
            spare::UNFINISHED => true,
            spare::SPARE => {
                let spare = shared.disk.open(&path, Open::Read);
                let size = spare.and_then(|file| file.size());
                size.map_err(|e| Error::io("read", &path, e))? < shared.options.segment_bytes
            }
            _ => false,
        };
        if remove {
            spare::remove(shared, &path)?;
        }
    }
    Ok(())
}

/// The segments of a folder by number; none may be missing between others.
pub(crate) fn segments(dir: &Path, names: &[String]) -> Result<BTreeMap<u64, Arc<Segment>>> {
    let numbers = names.iter().filter_map(|name| segment::number(name));
    let segments: BTreeMap<_, _> = numbers.map(|n| (n, Segment::new(dir, n))).collect();
    for number in segments.keys() {
        let next = number + 1;
        if !segments.contains_key(&next) && segments.range(next..).next().is_some() {
            return Err(Error::corrupt(
                &dir.join(segment::name(next)),
                0,
                "the file is missing",
            ));
        }
    }
    Ok(segments)
}

/// The footer of a segment, if it is sealed and its end is whole. Errors: a bad head.
pub(crate) fn footer(segment: &Segment, file: &dyn File) -> Result<Option<Footer>> {
    let size = segment.size(file)?;
    let head = segment.read(file, 0, HEAD_BYTES as usize)?;
    if segment::check_head(segment, &head, size)?.is_none() {
        return Ok(None);
    }
    let trailer = segment.read(file, size.saturating_sub(HEAD_BYTES), HEAD_BYTES as usize)?;
    let Some(at) = segment::footer_offset(segment, &trailer) else {
        return Ok(None);
    };
    let bytes = segment.read(file, at, HEADER_BYTES)?;
    let header = match Header::decode(&bytes, segment.number, at) {
        Ok(header) if header.kind == Kind::Footer && at + header.disk_bytes() <= size => header,
        _ => return Ok(None),
    };
    let bytes = segment.read(file, at, header.disk_bytes() as usize)?;
    let image = payload_at(&bytes, 0, &header)
        .ok()
        .and_then(|payload| payload.image(0)?.ok());
    Ok(image.and_then(|image| Footer::decode(segment.number, image)))
}

struct Recovery<'a> {
    shared: &'a Shared,
    state: &'a mut State,
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<Active> {
        let segments: Vec<_> = self.state.segments.values().cloned().collect();
        let Some((last, sealed)) = segments.split_last() else {
            return writer::begin(self.shared, 1);
        };
        let disk = &*self.shared.disk;
        let mut erasing = Overwriting::new(disk);
        let mut cut = BTreeSet::new();
        for segment in sealed {
            let file = segment.open(disk, Open::Read)?;
            let Some(footer) = footer(segment, &*file)? else {
                let end = segment.size(&*file)?.saturating_sub(HEAD_BYTES);
                return Err(segment.corrupt(end, "the head, footer or trailer does not fit"));
            };
            self.redo(&mut erasing, segment, &*file, &footer)?;
            self.take_footer(segment.number, footer, &mut cut);
        }
        let file = last.open(disk, Open::Write)?;
        if let Some(footer) = footer(last, &*file)? {
            self.redo(&mut erasing, last, &*file, &footer)?;
            self.take_footer(last.number, footer, &mut cut);
            erasing.sync()?;
            self.settle_positions(&cut)?;
            return writer::begin(self.shared, last.number + 1);
        }
        self.settle_positions(&cut)?;
        self.open_last(last, file, erasing)
    }

    /// Finishes what a sealed segment says was not finished, one record after the other.
    fn redo(
        &self,
        erasing: &mut Overwriting<'_>,
        segment: &Segment,
        file: &dyn File,
        footer: &Footer,
    ) -> Result<()> {
        for offset in &footer.erases {
            let record = erase_record(segment, file, *offset)?;
            erasing.redo(&self.state.segments, &record)?;
        }
        Ok(())
    }

    /// Takes what a sealed segment says about its groups.
    fn take_footer(&mut self, number: u64, footer: Footer, cut: &mut BTreeSet<GroupId>) {
        for said in footer.groups {
            let group = self.state.groups.entry(said.group).or_default();
            if let Some(at) = said.truncated {
                group.truncate(at, Position::ZERO);
                group.cut_runs(at);
                cut.insert(said.group);
            }
            for run in said.runs {
                group.push(run.term, run.first, run.last_position);
                if let Some(stretch) = group.stretches.back_mut() {
                    stretch.last = run.last;
                }
                group.runs.push_back(run);
            }
            if let Some((term, upto)) = said.purged {
                group.purge(term, upto);
                group.purge_written(number, upto);
            }
            if let Some(vote) = said.vote {
                group.vote = Some(vote);
                group.vote_segment = Some(number);
            }
            group.greatest = group.greatest.max(said.greatest);
        }
    }

    /// After truncations a run only bounds its last position: looks it up.
    fn settle_positions(&mut self, cut: &BTreeSet<GroupId>) -> Result<()> {
        for id in cut {
            let group = &self.state.groups[id];
            let Some(last) = group.last_index() else {
                continue;
            };
            let position = self.shared.position_at(self.state, *id, group, last)?;
            if let Some(group) = self.state.groups.get_mut(id) {
                group.last_position = position;
            }
        }
        Ok(())
    }

    /// Goes through the last segment: erasures first, then every record; cuts a torn tail.
    fn open_last(
        &mut self,
        segment: &Arc<Segment>,
        file: Arc<dyn File>,
        mut erasing: Overwriting<'_>,
    ) -> Result<Active> {
        let size = segment.size(&*file)?;
        let mut bytes = segment.read(&*file, 0, size as usize)?;
        if segment::check_head(segment, &bytes, size)?.is_none() {
            if size < HEAD_BYTES || !segment::is_zero(&bytes[HEAD_BYTES as usize..]) {
                return Err(segment.corrupt(0, "segment head checksum mismatch"));
            }
            // Records come only after the head is durable, so there were none.
            erasing.sync()?;
            return writer::write_head(segment.clone(), file);
        }
        let records = erase_records(segment, &bytes);
        for record in &records {
            erasing.redo(&self.state.segments, record)?;
        }
        erasing.sync()?;
        if !records.is_empty() {
            bytes = segment.read(&*file, 0, size as usize)?;
        }
        let end = self.replay(segment, &bytes)?;
        // They are finished, with all that came before.
        self.state.open_erases.clear();
        if !segment::is_zero(&bytes[end as usize..]) {
            tracing::info!(file = %segment.path.display(), offset = end, "cut a torn journal tail");
            let zeros = vec![0; (size - end) as usize];
            file.write_at(&zeros, end)
                .map_err(|e| Error::io("write", &segment.path, e))?;
        }
        // What a killed process wrote may be in the page cache only.
        file.sync()
            .map_err(|e| Error::io("sync", &segment.path, e))?;
        Ok(Active {
            segment: segment.clone(),
            file,
            file_bytes: size,
            end,
            synced: end,
        })
    }

    /// Takes every record of the last segment; answers where they end.
    fn replay(&mut self, segment: &Segment, bytes: &Bytes) -> Result<u64> {
        let mut walk = Walk {
            bytes,
            segment: segment.number,
            at: HEAD_BYTES,
        };
        loop {
            let (bad, reason) = match walk.step() {
                Step::End { offset } => return Ok(offset),
                // The trailer behind it is not whole: the segment was not sealed.
                Step::Record { offset, header } if header.kind == Kind::Footer => {
                    return Ok(offset);
                }
                Step::Record { offset, header } => match payload_at(bytes, offset, &header) {
                    Ok(payload) => {
                        self.take(segment, offset, &header, payload)?;
                        continue;
                    }
                    Err(reason) => (offset, reason),
                },
                Step::Bad { offset, reason } => (offset, reason),
            };
            if segment::proves_damage(bytes, segment.number, bad) {
                return Err(segment.corrupt(bad, reason));
            }
            return Ok(bad);
        }
    }

    fn take(
        &mut self,
        segment: &Segment,
        offset: u64,
        header: &Header,
        payload: Payload,
    ) -> Result<()> {
        if matches!(header.kind, Kind::Mark | Kind::Footer) {
            return Ok(());
        }
        let record = Record {
            group: header.group,
            ..header.with(payload)
        };
        let mut position = record.position;
        if record.kind != Kind::Erase {
            position = self.take_logical(segment, offset, &record)?;
        }
        self.state.seq += 1;
        let seq = self.state.seq;
        let waiting = Waiting {
            record,
            seq,
            position,
            sync: false,
            ticket: None,
        };
        self.state.written(segment.number, offset, &waiting);
        Ok(())
    }

    /// The part that `append` does for a new record. Answers its position.
    fn take_logical(
        &mut self,
        segment: &Segment,
        offset: u64,
        record: &Record,
    ) -> Result<Position> {
        let id = record.group;
        let mut before = None;
        if record.kind == Kind::Truncate
            && let Some(group) = self.state.groups.get(&id)
        {
            before = group.position_before(record.index);
            if before.is_none() {
                let last = crate::Index(record.index.0 - 1);
                before = Some(self.shared.position_at(self.state, id, group, last)?);
            }
        }
        let group: &mut Group = self.state.groups.entry(id).or_default();
        let mut position = record.position;
        match record.kind {
            Kind::Truncate => {
                group.truncate(record.index, before.unwrap_or_default());
            }
            Kind::Purge => group.purge(record.term, record.index),
            Kind::Vote => group.vote = Some(record.payload.clone()),
            _ => {
                if group.next_index().is_some_and(|next| next != record.index) {
                    return Err(segment.corrupt(offset, "another log index was expected here"));
                }
                position = group.push(record.term, record.index, record.position);
            }
        }
        group.greatest = group.greatest.max(record.position);
        Ok(position)
    }
}

/// The erase record at an offset that a footer names.
fn erase_record(segment: &Segment, file: &dyn File, offset: u64) -> Result<Payload> {
    let head = segment.read(file, offset, HEADER_BYTES)?;
    let header = Header::decode(&head, segment.number, offset)
        .map_err(|reason| segment.corrupt(offset, reason))?;
    let bytes = segment.read(file, offset, header.disk_bytes() as usize)?;
    payload_at(&bytes, 0, &header).map_err(|reason| segment.corrupt(offset, reason))
}

/// The erase records among a segment's records, by their headers alone: other payloads may be half
/// erased.
pub(crate) fn erase_records(segment: &Segment, bytes: &Bytes) -> Vec<Payload> {
    let mut walk = Walk {
        bytes,
        segment: segment.number,
        at: HEAD_BYTES,
    };
    let mut out = Vec::new();
    while let Step::Record { offset, header } = walk.step() {
        if header.kind == Kind::Erase {
            out.extend(payload_at(bytes, offset, &header));
        }
    }
    out
}
