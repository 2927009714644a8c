//! The bytes of the images of an entry. The first byte of an image says what it is; lengths come
//! before what they measure; integers are little-endian.

use bytes::Bytes;
use journal::{GroupId, Payload, PayloadBuilder, Position, Term};

use super::{
    Change, Entry, Erased, Event, EventKind, Header, IndexWrite, Meta, Part, PartHeader, PartsRef,
    RowKey, TxId,
};
use crate::{Error, Result};

/// The version of all images of an entry, in its header and in the header of each part. In version
/// 1 a removal was one image, with what it has removed.
const VERSION: u8 = 2;
/// The length of something absent.
const ABSENT: u32 = u32::MAX;

/// What an image is.
mod kind {
    pub const CHANGE: u8 = 1;
    pub const EVENT: u8 = 2;
    pub const DROP_TREE: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const PART: u8 = 5;
    pub const HEADER: u8 = 6;
    pub const ABANDON: u8 = 7;
    pub const REST: u8 = 8;
}

const FEED: u8 = 1;
/// Removed to be erased.
const ERASE: u8 = 2;
/// What the removal has removed is in the next image.
const REST: u8 = 4;
const OUTCOME: u8 = 1;
const PARTS: u8 = 2;

/// Encodes a payload image by image; the header comes last.
#[derive(Default)]
pub struct EntryBuilder {
    payload: PayloadBuilder,
    image: Vec<u8>,
    images: u32,
}

impl EntryBuilder {
    /// An entry without images.
    pub fn new() -> EntryBuilder {
        EntryBuilder::default()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Images so far.
    pub fn images(&self) -> u32 {
        self.images
    }

    /// Adds a row's net change: of a removal two images, so that what it has removed can be erased
    /// and the key stay.
    pub fn change(&mut self, change: &Change) {
        let removal = change.new.is_none();
        let rest = removal && (change.old.is_some() || !change.index.is_empty());
        let (old, index) = match rest {
            true => (&None, &[][..]),
            false => (&change.old, &change.index[..]),
        };
        let flags = if change.feed { FEED } else { 0 };
        let flags = flags | if change.erase && removal { ERASE } else { 0 };
        let flags = flags | if rest { REST } else { 0 };
        let image = &mut self.image;
        image.extend([kind::CHANGE, flags]);
        image.extend(index_count(index));
        u32s(image, [change.seq, change.tree, length(&change.key)]);
        u32s(image, [optional_length(old), optional_length(&change.new)]);
        image.extend_from_slice(&change.key);
        image.extend_from_slice(old.as_deref().unwrap_or_default());
        image.extend_from_slice(change.new.as_deref().unwrap_or_default());
        put_index(image, index);
        self.push();
        if rest {
            let image = &mut self.image;
            image.extend([kind::REST, 0]);
            image.extend(index_count(&change.index));
            u32s(image, [change.seq, change.tree]);
            u32s(image, [optional_length(&change.old)]);
            image.extend_from_slice(change.old.as_deref().unwrap_or_default());
            put_index(image, &change.index);
            self.push();
        }
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event) {
        let what = match event.kind {
            EventKind::Message => 1,
            EventKind::Ddl => 2,
            EventKind::Row => 3,
        };
        let about = u8::try_from(event.about.len()).expect("no event is about so many rows");
        self.image
            .extend([kind::EVENT, what, u8::from(event.table.is_some()), about]);
        u32s(&mut self.image, [event.seq, event.table.unwrap_or(0)]);
        u32s(
            &mut self.image,
            [length(event.name.as_bytes()), length(&event.payload)],
        );
        self.image.extend_from_slice(event.name.as_bytes());
        self.image.extend_from_slice(&event.payload);
        for row in &event.about {
            u32s(&mut self.image, [row.tree, length(&row.key)]);
            self.image.extend_from_slice(&row.key);
        }
        self.push();
    }

    /// Says that a tree is gone.
    pub fn drop_tree(&mut self, tree: u32) {
        self.image.extend([kind::DROP_TREE, 0, 0, 0]);
        u32s(&mut self.image, [tree]);
        self.push();
    }

    /// Says that the parts of a transaction so far are all there will be of it.
    pub fn abandon(&mut self, txid: TxId) {
        self.image.extend([kind::ABANDON, 0, 0, 0, 0, 0, 0, 0]);
        u64s(&mut self.image, [txid.0]);
        self.push();
    }

    /// Marks an entry that only closes its group.
    pub fn close(&mut self) {
        self.image.extend([kind::CLOSE, 0, 0, 0]);
        self.push();
    }

    /// Ends an entry; `header.images` is set here. The builder is empty again.
    pub fn finish(&mut self, header: Header) -> Payload {
        let image = &mut self.image;
        let flags = if header.outcome { OUTCOME } else { 0 };
        let flags = flags | if header.parts.is_some() { PARTS } else { 0 };
        image.extend([kind::HEADER, VERSION, flags, 0]);
        u32s(image, [std::mem::take(&mut self.images)]);
        u64s(
            image,
            [
                header.epoch.0,
                header.prev.0,
                header.position.0,
                header.txid.0,
            ],
        );
        let parts = header.parts.unwrap_or_default();
        u64s(image, [parts.changes]);
        u32s(image, [parts.parts, header.deps.len() as u32]);
        for (group, position) in &header.deps {
            u32s(image, [group.0, 0]);
            u64s(image, [position.0]);
        }
        let Meta {
            role,
            login,
            application_name,
            trace,
            hops,
        } = &header.meta;
        u32s(image, [u32::from(*hops)]);
        for text in [role, login, application_name, trace] {
            u32s(image, [length(text.as_bytes())]);
            image.extend_from_slice(text.as_bytes());
        }
        self.push_header();
        self.payload.finish()
    }

    /// Ends a part; `header.images` is set here. The builder is empty again.
    pub fn finish_part(&mut self, header: PartHeader) -> Payload {
        self.image.extend([kind::PART, VERSION, 0, 0]);
        u32s(&mut self.image, [std::mem::take(&mut self.images)]);
        u64s(&mut self.image, [header.epoch.0, header.txid.0]);
        u32s(&mut self.image, [header.number, 0]);
        self.push_header();
        self.payload.finish()
    }

    fn push(&mut self) {
        self.images += 1;
        self.push_header();
    }

    fn push_header(&mut self) {
        self.payload.push(&self.image);
        self.image.clear();
    }
}

fn index_count(index: &[IndexWrite]) -> [u8; 2] {
    let count = u16::try_from(index.len()).expect("fewer indexes");
    count.to_le_bytes()
}

fn put_index(image: &mut Vec<u8>, index: &[IndexWrite]) {
    for IndexWrite { tree, key, value } in index {
        u32s(image, [*tree, length(key), optional_length(value)]);
        image.extend_from_slice(key);
        image.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

fn u32s<const N: usize>(out: &mut Vec<u8>, values: [u32; N]) {
    values
        .iter()
        .for_each(|value| out.extend(value.to_le_bytes()));
}

fn u64s<const N: usize>(out: &mut Vec<u8>, values: [u64; N]) {
    values
        .iter()
        .for_each(|value| out.extend(value.to_le_bytes()));
}

fn length(bytes: &[u8]) -> u32 {
    let length = u32::try_from(bytes.len()).expect("an image holds less than 2 GiB");
    assert!(length != ABSENT, "an image holds less than 2 GiB");
    length
}

fn optional_length(bytes: &Option<Bytes>) -> u32 {
    bytes.as_ref().map_or(ABSENT, |bytes| length(bytes))
}

/// Takes an image apart. Every slice shares the payload's memory.
struct Reader {
    bytes: Bytes,
}

fn corrupt(what: &str) -> Error {
    Error::Corrupt {
        place: "entry".into(),
        what: what.into(),
    }
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes> {
        if self.bytes.len() < length {
            return Err(corrupt("an image is cut off"));
        }
        Ok(self.bytes.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(array) = self.bytes.first_chunk::<N>().copied() else {
            return Err(corrupt("an image is cut off"));
        };
        bytes::Buf::advance(&mut self.bytes, N);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn optional(&mut self, length: u32) -> Result<Option<Bytes>> {
        if length == ABSENT {
            Ok(None)
        } else {
            self.take(length as usize).map(Some)
        }
    }

    fn text(&mut self, length: u32) -> Result<String> {
        let bytes = self.take(length as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| corrupt("a name is not UTF-8"))
    }

    fn done(&self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(corrupt("an image is too long"))
        }
    }
}

/// What one image says.
enum Image {
    /// True if the next image is the rest of it.
    Change(Change, bool),
    Rest(Change),
    Event(Event),
    DropTree(u32),
    Abandon(TxId),
    Close,
    Part(PartHeader),
    Header(Header),
}

fn decode_image(bytes: Bytes) -> Result<Image> {
    let mut reader = Reader { bytes };
    let [what, a, b, c] = reader.array()?;
    let image = match what {
        kind::CHANGE => {
            let change = change(&mut reader, a, u16::from_le_bytes([b, c]))?;
            Image::Change(change, a & REST != 0)
        }
        kind::REST => Image::Rest(rest(&mut reader, u16::from_le_bytes([b, c]))?),
        kind::EVENT => Image::Event(event(&mut reader, [a, b, c])?),
        kind::DROP_TREE => Image::DropTree(reader.u32()?),
        kind::ABANDON => {
            reader.u32()?;
            Image::Abandon(TxId(reader.u64()?))
        }
        kind::CLOSE => Image::Close,
        kind::PART => Image::Part(part_header(&mut reader, a)?),
        kind::HEADER => Image::Header(header(&mut reader, a, b)?),
        _ => return Err(corrupt("an image of no known kind")),
    };
    reader.done()?;
    Ok(image)
}

fn change(reader: &mut Reader, flags: u8, index: u16) -> Result<Change> {
    let (seq, tree) = (reader.u32()?, reader.u32()?);
    let (key, old, new) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (key, old, new) = (
        reader.take(key as usize)?,
        reader.optional(old)?,
        reader.optional(new)?,
    );
    Ok(Change {
        seq,
        tree,
        feed: flags & FEED != 0,
        key,
        old,
        new,
        index: index_writes(reader, index)?,
        erase: flags & ERASE != 0,
    })
}

fn rest(reader: &mut Reader, index: u16) -> Result<Change> {
    let (seq, tree, old) = (reader.u32()?, reader.u32()?, reader.u32()?);
    Ok(Change {
        seq,
        tree,
        old: reader.optional(old)?,
        index: index_writes(reader, index)?,
        ..Change::default()
    })
}

fn index_writes(reader: &mut Reader, count: u16) -> Result<Vec<IndexWrite>> {
    let mut writes = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (tree, key, value) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (key, value) = (reader.take(key as usize)?, reader.optional(value)?);
        writes.push(IndexWrite { tree, key, value });
    }
    Ok(writes)
}

fn event(reader: &mut Reader, [what, has_table, rows]: [u8; 3]) -> Result<Event> {
    let kind = match what {
        1 => EventKind::Message,
        2 => EventKind::Ddl,
        3 => EventKind::Row,
        _ => return Err(corrupt("an event of no known kind")),
    };
    let (seq, table) = (reader.u32()?, reader.u32()?);
    let (name, payload) = (reader.u32()?, reader.u32()?);
    let (name, payload) = (reader.text(name)?, reader.take(payload as usize)?);
    let mut about = Vec::with_capacity(usize::from(rows));
    for _ in 0..rows {
        let (tree, key) = (reader.u32()?, reader.u32()?);
        let key = reader.take(key as usize)?;
        about.push(RowKey { tree, key });
    }
    Ok(Event {
        seq,
        kind,
        name,
        table: (has_table != 0).then_some(table),
        payload,
        about,
    })
}

fn check_version(version: u8) -> Result<()> {
    if (1..=VERSION).contains(&version) {
        return Ok(());
    }
    Err(Error::Format(format!(
        "entry of version {version}, this program knows 1 to {VERSION}"
    )))
}

fn header(reader: &mut Reader, version: u8, flags: u8) -> Result<Header> {
    check_version(version)?;
    let images = reader.u32()?;
    let epoch = Term(reader.u64()?);
    let (prev, position) = (Position(reader.u64()?), Position(reader.u64()?));
    let txid = TxId(reader.u64()?);
    let changes = reader.u64()?;
    let parts = PartsRef {
        parts: reader.u32()?,
        changes,
    };
    let count = reader.u32()?;
    let mut deps = Vec::new();
    for _ in 0..count {
        let group = GroupId(reader.u32()?);
        reader.u32()?;
        deps.push((group, Position(reader.u64()?)));
    }
    let hops = u16::try_from(reader.u32()?).map_err(|_| corrupt("too many hops"))?;
    let mut text = || reader.u32().and_then(|length| reader.text(length));
    let (role, login, application_name, trace) = (text()?, text()?, text()?, text()?);
    let meta = Meta {
        role,
        login,
        application_name,
        trace,
        hops,
    };
    let (parts, outcome) = ((flags & PARTS != 0).then_some(parts), flags & OUTCOME != 0);
    Ok(Header {
        epoch,
        prev,
        position,
        txid,
        meta,
        deps,
        images,
        parts,
        outcome,
    })
}

fn part_header(reader: &mut Reader, version: u8) -> Result<PartHeader> {
    check_version(version)?;
    let images = reader.u32()?;
    let (epoch, txid) = (Term(reader.u64()?), TxId(reader.u64()?));
    let (number, _) = (reader.u32()?, reader.u32()?);
    Ok(PartHeader {
        epoch,
        txid,
        number,
        images,
    })
}

/// The changes of a payload, while its images are read one after the other.
#[derive(Default)]
struct Reading {
    changes: Vec<Change>,
    erased: Vec<Erased>,
    /// The next image is the rest of the last change, or what is left of it.
    rest: bool,
    count: u32,
}

impl Reading {
    /// Takes an image; gives what is none of a change.
    fn take(&mut self, image: journal::Result<Bytes>) -> Result<Option<Image>> {
        self.count += 1;
        let rest_due = std::mem::take(&mut self.rest);
        let image = match image {
            Ok(bytes) => decode_image(bytes)?,
            Err(journal::Error::Erased { left }) => {
                self.erased.push(Erased::decode(&left));
                if let Some(change) = self.changes.last_mut().filter(|_| rest_due) {
                    change.erase = true;
                }
                return Ok(None);
            }
            Err(error) => return Err(corrupt(&error.to_string())),
        };
        match (image, rest_due) {
            (Image::Rest(rest), true) => {
                let change = self.changes.last_mut();
                let change = change.filter(|c| (c.seq, c.tree) == (rest.seq, rest.tree));
                let change = change.ok_or_else(|| corrupt("the rest of another change"))?;
                (change.old, change.index) = (rest.old, rest.index);
                Ok(None)
            }
            // Its change is erased, or it is out of place.
            (Image::Rest(_), false) if !self.erased.is_empty() => Ok(None),
            (Image::Rest(_), false) => Err(corrupt("the rest of no change")),
            (_, true) => Err(corrupt("the rest of a change is missing")),
            (Image::Change(change, rest), false) => {
                self.changes.push(change);
                self.rest = rest;
                Ok(None)
            }
            (image, false) => Ok(Some(image)),
        }
    }
}

pub(super) fn decode_entry(payload: &Payload) -> Result<Entry> {
    let (mut entry, mut reading) = (Entry::default(), Reading::default());
    let mut last = None;
    for image in payload.images() {
        if last.is_some() {
            return Err(corrupt("an image follows the header"));
        }
        match reading.take(image)? {
            None => {}
            Some(Image::Event(event)) => entry.events.push(event),
            Some(Image::DropTree(tree)) => entry.dropped_trees.push(tree),
            Some(Image::Abandon(txid)) => entry.abandoned.push(txid),
            Some(Image::Close) => entry.close = true,
            Some(Image::Header(header)) => last = Some(header),
            Some(Image::Part(_)) => return Err(corrupt("a part where an entry is due")),
            Some(Image::Change(..) | Image::Rest(_)) => unreachable!("taken with the changes"),
        }
    }
    entry.header = last.ok_or_else(|| corrupt("no header"))?;
    if entry.header.images != reading.count - 1 {
        return Err(corrupt("images are missing"));
    }
    (entry.changes, entry.erased) = (reading.changes, reading.erased);
    Ok(entry)
}

pub(super) fn decode_header(payload: &Payload) -> Result<Header> {
    match payload.images().last() {
        Some(Ok(bytes)) => match decode_image(bytes)? {
            Image::Header(header) => Ok(header),
            _ => Err(corrupt("no header")),
        },
        Some(Err(error)) => Err(corrupt(&error.to_string())),
        None => Err(corrupt("no header")),
    }
}

pub(super) fn decode_part_header(payload: &Payload) -> Result<PartHeader> {
    match payload.images().last() {
        Some(Ok(bytes)) => match decode_image(bytes)? {
            Image::Part(header) => Ok(header),
            _ => Err(corrupt("no part header")),
        },
        Some(Err(error)) => Err(corrupt(&error.to_string())),
        None => Err(corrupt("no part header")),
    }
}

pub(super) fn decode_part(payload: &Payload) -> Result<Part> {
    let mut reading = Reading::default();
    let mut last = None;
    for image in payload.images() {
        if last.is_some() {
            return Err(corrupt("an image follows the part's header"));
        }
        match reading.take(image)? {
            None => {}
            Some(Image::Part(header)) => last = Some(header),
            Some(_) => return Err(corrupt("a part holds changes only")),
        }
    }
    let header = last.ok_or_else(|| corrupt("no part header"))?;
    if header.images != reading.count - 1 {
        return Err(corrupt("images are missing"));
    }
    let Reading {
        changes, erased, ..
    } = reading;
    Ok(Part {
        header,
        changes,
        erased,
    })
}

/// What an eraser must know of an image.
pub(crate) enum Said {
    /// A change of a row.
    Change {
        seq: u32,
        tree: u32,
        feed: bool,
        key: Bytes,
        /// Is the row gone after it?
        removal: bool,
        /// What it has removed is in an image of its own.
        rest: bool,
        /// It holds nothing but the key.
        bare: bool,
        /// What stood there before it, and what after it.
        values: [Option<Bytes>; 2],
    },
    /// What the removal before it has removed.
    Rest { seq: u32, tree: u32 },
    /// An event; of a row of an event table with that table's tree.
    Event {
        seq: u32,
        tree: Option<u32>,
        about: Vec<RowKey>,
    },
    /// None of a row.
    Other,
}

/// What an image says of a row. Errors: `Corrupt`.
pub(crate) fn said(image: Bytes) -> Result<Said> {
    match image.first() {
        Some(&kind::CHANGE | &kind::REST | &kind::EVENT) => {}
        _ => return Ok(Said::Other),
    }
    Ok(match decode_image(image)? {
        Image::Change(change, rest) => Said::Change {
            seq: change.seq,
            tree: change.tree,
            feed: change.feed,
            removal: change.new.is_none(),
            bare: change.new.is_none() && change.old.is_none() && change.index.is_empty(),
            key: change.key,
            rest,
            values: [change.old, change.new],
        },
        Image::Rest(change) => Said::Rest {
            seq: change.seq,
            tree: change.tree,
        },
        Image::Event(event) => Said::Event {
            seq: event.seq,
            tree: event.table.filter(|_| event.kind == EventKind::Row),
            about: event.about,
        },
        _ => Said::Other,
    })
}

#[cfg(test)]
mod tests;
