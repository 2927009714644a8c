//! One segment file: its name, head and trailer, the walk over its records, and the footer that
//! spares open the walk. The bytes are drawn in `docs/formats.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::disk::{Disk, File, Open};
use crate::index::{Run, Sample};
use crate::record::{HEADER_BYTES, Header};
use crate::{Error, GroupId, Index, Payload, Position, Result, Term};

/// Bytes of the head at the start of a segment, and of the trailer at its end.
pub(crate) const HEAD_BYTES: u64 = 32;
/// The format version that this program writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
const HEAD_MAGIC: &[u8; 8] = b"FREEHOLD";
const TRAILER_MAGIC: &[u8; 8] = b"SEALED.1";

/// A segment's number and file.
pub(crate) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    /// Held for writing while an erase overwrites images: a reader whose CRC fails looks again
    /// under it.
    pub erasing: RwLock<()>,
}

impl Segment {
    pub fn new(dir: &Path, number: u64) -> Arc<Segment> {
        let path = dir.join(name(number));
        Arc::new(Segment {
            number,
            path,
            erasing: RwLock::new(()),
        })
    }

    pub fn open(&self, disk: &dyn Disk, how: Open) -> Result<Arc<dyn File>> {
        disk.open(&self.path, how)
            .map_err(|e| Error::io("open", &self.path, e))
    }

    pub fn corrupt(&self, offset: u64, reason: &'static str) -> Error {
        Error::corrupt(&self.path, offset, reason)
    }

    /// Reads `bytes` from `offset`, or fewer at the end of the file.
    pub fn read(&self, file: &dyn File, offset: u64, bytes: usize) -> Result<Bytes> {
        let mut buffer = vec![0; bytes];
        let n = file
            .read_at(&mut buffer, offset)
            .map_err(|e| Error::io("read", &self.path, e))?;
        buffer.truncate(n);
        Ok(buffer.into())
    }

    pub fn size(&self, file: &dyn File) -> Result<u64> {
        file.size().map_err(|e| Error::io("read", &self.path, e))
    }
}

/// The file name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:016x}.segment")
}

/// The number in a file name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let well_formed = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn block(magic: &[u8; 8], number: u64, value: u64) -> [u8; HEAD_BYTES as usize] {
    let mut out = [0; HEAD_BYTES as usize];
    out[..8].copy_from_slice(magic);
    out[12..16].copy_from_slice(&VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&number.to_le_bytes());
    out[24..32].copy_from_slice(&value.to_le_bytes());
    let crc = block_crc(&out);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out
}

fn block_crc(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..8]);
    hasher.update(&block[12..HEAD_BYTES as usize]);
    hasher.finalize()
}

/// The (version, number, value) of a block, if it is whole.
fn read_block(magic: &[u8; 8], bytes: &[u8]) -> Option<(u32, u64, u64)> {
    let bytes = bytes.get(..HEAD_BYTES as usize)?;
    let u32_at =
        |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("in the block"));
    let u64_at =
        |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("in the block"));
    (bytes[..8] == magic[..] && u32_at(8) == block_crc(bytes))
        .then(|| (u32_at(12), u64_at(16), u64_at(24)))
}

/// The head of a segment whose file has `file_bytes` bytes when it is begun.
pub(crate) fn head(number: u64, file_bytes: u64) -> [u8; HEAD_BYTES as usize] {
    block(HEAD_MAGIC, number, file_bytes)
}

/// The trailer of a sealed segment whose footer record lies at `footer`.
pub(crate) fn trailer(number: u64, footer: u64) -> [u8; HEAD_BYTES as usize] {
    block(TRAILER_MAGIC, number, footer)
}

/// Checks the head. `Ok(None)` if it is not whole.
pub(crate) fn check_head(segment: &Segment, bytes: &[u8], file_bytes: u64) -> Result<Option<()>> {
    let Some((version, number, begun_with)) = read_block(HEAD_MAGIC, bytes) else {
        return Ok(None);
    };
    if version > VERSION {
        let path = segment.path.clone();
        return Err(Error::NewerVersion {
            path,
            found: version,
            supported: VERSION,
        });
    }
    if number != segment.number {
        return Err(segment.corrupt(0, "the file holds another segment"));
    }
    if file_bytes < begun_with {
        // The file had this length, synced, before its first record.
        return Err(segment.corrupt(file_bytes, "the file was cut off"));
    }
    Ok(Some(()))
}

/// The offset of the footer of a sealed segment.
pub(crate) fn footer_offset(segment: &Segment, trailer: &[u8]) -> Option<u64> {
    let (_, number, footer) = read_block(TRAILER_MAGIC, trailer)?;
    (number == segment.number).then_some(footer)
}

/// Are there only zeros? Compares pages: the rest of a segment is long.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|page| page == &ZEROS[..page.len()])
}

/// A step of the walk over the bytes of a segment.
pub(crate) enum Step {
    /// A record whose header is right.
    Record { offset: u64, header: Header },
    /// Zeros up to the end of the file: everything before is whole.
    End { offset: u64 },
    /// Something else.
    Bad { offset: u64, reason: &'static str },
}

/// Goes over the records of a segment's bytes by their headers.
pub(crate) struct Walk<'a> {
    pub bytes: &'a [u8],
    pub segment: u64,
    pub at: u64,
}

impl Walk<'_> {
    /// The next step; after `End` and `Bad` it stays there.
    pub fn step(&mut self) -> Step {
        let offset = self.at;
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        if rest.iter().take(HEADER_BYTES).all(|b| *b == 0) {
            let reason = "bytes behind the end of the records";
            return match is_zero(rest) {
                true => Step::End { offset },
                false => Step::Bad { offset, reason },
            };
        }
        match Header::decode(rest, self.segment, offset) {
            Err(reason) => Step::Bad { offset, reason },
            Ok(header) if header.disk_bytes() > rest.len() as u64 => Step::Bad {
                offset,
                reason: "the file ends within a record",
            },
            Ok(header) => {
                self.at += header.disk_bytes();
                Step::Record { offset, header }
            }
        }
    }
}

/// The payload of a record in the segment's bytes, if every image is whole and the padding zero.
pub(crate) fn payload_at(
    bytes: &Bytes,
    offset: u64,
    header: &Header,
) -> Result<Payload, &'static str> {
    let start = offset as usize + HEADER_BYTES;
    let end = start + header.payload as usize;
    let padding = end..offset as usize + header.disk_bytes() as usize;
    if padding.end > bytes.len() {
        return Err("the file ends within a record");
    }
    if bytes[padding].iter().any(|b| *b != 0) {
        return Err("padding is not zero");
    }
    let payload = Payload::unchecked(bytes.slice(start..end));
    payload.check().map_err(|_| "image checksum mismatch")?;
    Ok(payload)
}

/// Is there, behind a bad place, a record that was written when that place was on disk already?
pub(crate) fn proves_damage(bytes: &[u8], segment: u64, bad: u64) -> bool {
    let mut at = (bad + 8) as usize;
    while at + HEADER_BYTES <= bytes.len() {
        if bytes[at + 8] != 0
            && Header::decode(&bytes[at..], segment, at as u64).is_ok_and(|h| h.durable > bad)
        {
            return true;
        }
        at += 8;
    }
    false
}

/// What a sealed segment says about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupFooter {
    pub group: GroupId,
    /// The least index at which this segment truncates: earlier segments hold nothing live from it.
    pub truncated: Option<Index>,
    pub vote: Option<Payload>,
    pub purged: Option<(Term, Index)>,
    pub greatest: Position,
    pub runs: Vec<Run>,
}

/// The index of a sealed segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Offsets of the erase records that were not finished when the segment was sealed.
    pub erases: Vec<u64>,
    pub groups: Vec<GroupFooter>,
}

impl Footer {
    /// One image: 8-byte columns, little-endian.
    pub fn encode(&self) -> Payload {
        let mut out = Columns::default();
        out.put(self.erases.len() as u64);
        self.erases.iter().for_each(|offset| out.put(*offset));
        out.put(self.groups.len() as u64);
        for group in &self.groups {
            out.put(group.group.0.into());
            out.put(group.greatest.0);
            out.option(group.truncated.map(|index| [index.0]));
            out.option(group.purged.map(|(term, index)| [term.0, index.0]));
            out.put(group.vote.is_some().into());
            if let Some(vote) = &group.vote {
                out.put_bytes(vote.as_bytes());
            }
            out.put(group.runs.len() as u64);
            for run in &group.runs {
                let numbers = [run.term.0, run.first.0, run.last.0, run.last_position.0];
                numbers.into_iter().for_each(|n| out.put(n));
                out.put(run.samples.len() as u64);
                for s in &run.samples {
                    [s.index.0, s.offset, s.position.0]
                        .into_iter()
                        .for_each(|n| out.put(n));
                }
            }
        }
        Payload::of(&out.0)
    }

    /// The inverse. `None` if the bytes are no footer.
    pub fn decode(segment: u64, bytes: Bytes) -> Option<Footer> {
        let mut input = Reader(bytes);
        let erases = (0..input.count(8)?)
            .map(|_| input.get())
            .collect::<Option<_>>()?;
        let count = input.count(48)?;
        let groups = (0..count)
            .map(|_| input.group(segment))
            .collect::<Option<_>>()?;
        input.0.is_empty().then_some(Footer { erases, groups })
    }
}

/// Writes 8-byte columns.
#[derive(Default)]
pub(crate) struct Columns(pub Vec<u8>);

impl Columns {
    pub fn put(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Their number, the bytes, zeros up to a multiple of 8.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.put(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    fn option<const N: usize>(&mut self, numbers: Option<[u64; N]>) {
        self.put(numbers.is_some().into());
        numbers.into_iter().flatten().for_each(|n| self.put(n));
    }
}

/// Reads 8-byte columns.
pub(crate) struct Reader(pub Bytes);

impl Reader {
    pub fn get(&mut self) -> Option<u64> {
        (self.0.len() >= 8).then(|| {
            let column = self.0.split_to(8);
            u64::from_le_bytes(column[..].try_into().expect("eight bytes were split off"))
        })
    }

    /// A count of things of at least `size` bytes each: no more than there can be.
    pub fn count(&mut self, size: usize) -> Option<u64> {
        self.get().filter(|n| *n <= (self.0.len() / size) as u64)
    }

    /// What [`Columns::put_bytes`] has put.
    pub fn bytes(&mut self) -> Option<Bytes> {
        let len = self.count(1)? as usize;
        let padded = len.next_multiple_of(8);
        let bytes = (padded <= self.0.len()).then(|| self.0.split_to(padded))?;
        Some(bytes.slice(..len))
    }

    fn flag(&mut self) -> Option<bool> {
        self.get().map(|n| n != 0)
    }

    fn group(&mut self, segment: u64) -> Option<GroupFooter> {
        let group = GroupId(u32::try_from(self.get()?).ok()?);
        let greatest = Position(self.get()?);
        let truncated = if self.flag()? {
            Some(Index(self.get()?))
        } else {
            None
        };
        let purged = if self.flag()? {
            Some((Term(self.get()?), Index(self.get()?)))
        } else {
            None
        };
        let vote = if self.flag()? {
            Some(Payload::from_bytes(self.bytes()?).ok()?)
        } else {
            None
        };
        let count = self.count(40)?;
        let runs = (0..count)
            .map(|_| self.run(segment))
            .collect::<Option<_>>()?;
        Some(GroupFooter {
            group,
            truncated,
            vote,
            purged,
            greatest,
            runs,
        })
    }

    fn run(&mut self, segment: u64) -> Option<Run> {
        let (term, first, last) = (Term(self.get()?), Index(self.get()?), Index(self.get()?));
        let last_position = Position(self.get()?);
        let count = self.count(24)?;
        let samples = (0..count)
            .map(|_| {
                let (index, offset) = (Index(self.get()?), self.get()?);
                Some(Sample {
                    index,
                    offset,
                    position: Position(self.get()?),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let whole = samples.first().is_some_and(|s| s.index == first) && first <= last;
        let run = Run {
            segment,
            term,
            first,
            last,
            last_position,
            samples,
            ended: true,
        };
        whole.then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_head() {
        let head = head(0x0102, 0x0400_0000);
        let hex: Vec<String> = head
            .chunks(8)
            .map(|c| {
                c.iter()
                    .map(|b| format!("{b:02x}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let golden = [
            "46 52 45 45 48 4f 4c 44",
            "70 a6 27 c5 01 00 00 00",
            "02 01 00 00 00 00 00 00",
            "00 00 00 04 00 00 00 00",
        ];
        assert_eq!(hex, golden);
    }

    #[test]
    fn names_are_numbers() {
        assert_eq!(name(255), "00000000000000ff.segment");
        assert_eq!(number("00000000000000ff.segment"), Some(255));
        for bad in [
            "ff.segment",
            "00000000000000ff",
            "+0000000000000ff.segment",
            "lock",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_footer_comes_back_and_no_other_bytes_panic() {
        let sample = Sample {
            index: Index(5),
            offset: 4096,
            position: Position(9),
        };
        let run = Run {
            segment: 3,
            term: Term(2),
            first: Index(5),
            last: Index(8),
            last_position: Position(12),
            samples: vec![sample],
            ended: true,
        };
        let group = GroupFooter {
            group: GroupId(4),
            truncated: Some(Index(5)),
            vote: Some(Payload::of(b"voted")),
            purged: Some((Term(1), Index(3))),
            greatest: Position(13),
            runs: vec![run],
        };
        let footer = Footer {
            erases: vec![64],
            groups: vec![group],
        };
        let image = footer.encode().image(0).expect("one image").expect("whole");
        assert_eq!(Footer::decode(3, image.clone()), Some(footer));
        for cut in 0..image.len() {
            assert_eq!(Footer::decode(3, image.slice(..cut)), None, "cut at {cut}");
        }
        for byte in 0..image.len() {
            let mut bytes = image.to_vec();
            bytes[byte] = 0xFF;
            Footer::decode(3, bytes.into());
        }
    }
}
