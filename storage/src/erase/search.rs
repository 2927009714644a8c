//! The search for images that name removed rows: record by record, in the order in which they were
//! written.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use journal::{Kind, Position, Record, Term};

use super::{IndexTrees, Ledger};
use crate::entry::{Said, said};
use crate::{Entry, Erased, ErasedImage, Group, Part, Result, TxId};

impl Ledger {
    fn removed(&self, tree: u32, key: &Bytes) -> Option<Position> {
        let row = self.rows.get(&(tree, key.clone())).copied();
        row.max(self.dropped.get(&tree).copied())
    }

    /// What becomes of an image of an entry at a position; `None`: it stays.
    fn judge(&self, image: &RowImage, position: Position) -> Option<Erased> {
        if image.event {
            return self.judge_event(image, position);
        }
        let removed = self.removed(image.tree, &image.key);
        // What was removed later is looked for later, but not what stood there before.
        let due = position <= self.upto;
        let row = self.rows.get(&(image.tree, image.key.clone())).copied();
        let gone = row.is_some_and(|at| position < at && due);
        let dropped = self.dropped.contains_key(&image.tree);
        let here = removed == Some(position) && due;
        let keyless = image.removal && position <= self.everywhere;
        let what = match () {
            () if gone && !image.is_rest => ErasedImage::Change,
            () if dropped && !image.is_rest => ErasedImage::Dropped,
            () if gone || dropped => ErasedImage::Rest,
            () if image.is_rest && (keyless || here) => ErasedImage::Rest,
            () if image.is_rest => return None,
            () if keyless => ErasedImage::Removal,
            // What version 1 has written: the key stands in one image with what was removed.
            () if image.removal && !image.has_rest && here => match image.bare {
                true => return None,
                false => ErasedImage::Removal,
            },
            () => return None,
        };
        Some(Erased {
            what,
            seq: image.seq,
            tree: image.of,
            feed: image.feed,
            at: match what {
                ErasedImage::Change | ErasedImage::Dropped => removed.unwrap_or(position),
                ErasedImage::Rest
                | ErasedImage::Removal
                | ErasedImage::Event
                | ErasedImage::Unknown => position,
            },
        })
    }

    /// An event goes with the row that it is about, also where that is removed in the same entry. What is
    /// left names the event's own table: who reads that one alone is to know of it.
    fn judge_event(&self, image: &RowImage, position: Position) -> Option<Erased> {
        let removed = self.removed(image.tree, &image.key)?;
        let gone = position <= removed.min(self.upto) || self.dropped.contains_key(&image.tree);
        gone.then_some(Erased {
            what: ErasedImage::Event,
            seq: image.seq,
            tree: image.of,
            feed: image.feed,
            at: removed,
        })
    }
}

/// An image that names a row.
#[derive(Clone, Debug)]
struct RowImage {
    number: u32,
    seq: u32,
    /// The tree of the row that it names.
    tree: u32,
    /// The tree that it is of: an event's own table, an index of the row's.
    of: u32,
    feed: bool,
    key: Bytes,
    /// It is of a change after which the row is gone.
    removal: bool,
    /// It is what that change has removed.
    is_rest: bool,
    /// What it has removed is in the next image.
    has_rest: bool,
    /// It holds nothing but the key.
    bare: bool,
    /// It is an event about the row.
    event: bool,
}

/// The images of a payload that name a row, and how many there are in all. Erased ones name none; an
/// event that is about several rows is there for each, and an index's entry for the rows that it leads to, too.
fn row_images(record: &Record, indexes: &IndexTrees) -> Result<(Vec<RowImage>, u32)> {
    let mut found: Vec<RowImage> = Vec::new();
    let mut count = 0;
    for (number, image) in (0..).zip(record.payload.images()) {
        count = number + 1;
        // Damage was found where the segment was read.
        let Ok(bytes) = image else { continue };
        match said(bytes)? {
            Said::Change {
                seq,
                tree,
                feed,
                key,
                removal,
                rest,
                bare,
                values,
            } => {
                let own = RowImage {
                    number,
                    seq,
                    tree,
                    of: tree,
                    feed,
                    key,
                    removal,
                    is_rest: false,
                    has_rest: rest,
                    bare,
                    event: false,
                };
                let table = indexes.get(&tree).filter(|_| !removal);
                let rows = values.into_iter().flatten().zip(table.into_iter().cycle());
                found.extend(rows.map(|(key, table)| RowImage {
                    tree: *table,
                    key,
                    ..own.clone()
                }));
                found.push(own);
            }
            Said::Rest { seq, tree } => {
                let of = found.last().filter(|of| of.has_rest && of.seq == seq);
                let feed = of.is_some_and(|of| of.feed);
                let key = of.map(|of| of.key.clone()).unwrap_or_default();
                found.push(RowImage {
                    number,
                    seq,
                    tree,
                    of: tree,
                    feed,
                    key,
                    removal: true,
                    is_rest: true,
                    has_rest: false,
                    bare: false,
                    event: false,
                });
            }
            Said::Event { seq, tree, about } => {
                // Without a key: the event's own table.
                let table = tree.map(|tree| (tree, Bytes::new()));
                let of = tree;
                let rows = about.into_iter().map(|row| (row.tree, row.key));
                found.extend(rows.chain(table).map(|(tree, key)| RowImage {
                    number,
                    seq,
                    tree,
                    of: of.unwrap_or(tree),
                    feed: true,
                    key,
                    removal: false,
                    is_rest: false,
                    has_rest: false,
                    bare: false,
                    event: true,
                }));
            }
            Said::Other => {}
        }
    }
    Ok((found, count))
}

/// How many images of a record name a row that stands or stood in these trees: its changes, what a removal has
/// removed, entries of these indexes, and events about it.
///
/// # Errors
/// `Corrupt`: it is no record of an entry.
pub fn naming(record: &Record, trees: &[u32], indexes: &IndexTrees, key: &[u8]) -> Result<usize> {
    let (mut images, _) = row_images(record, indexes)?;
    images.retain(|image| trees.contains(&image.tree) && image.key == key);
    images.dedup_by_key(|image| image.number);
    Ok(images.len())
}

/// The images of a record that nobody needs any more: all but its header.
///
/// # Errors
/// `Corrupt`: it is no record of an entry.
pub fn remains(record: &Record) -> Result<Vec<(u32, Bytes)>> {
    if !matches!(record.kind, Kind::Entry | Kind::Part) {
        return Ok(Vec::new());
    }
    Ok(unknown(&whole(record)))
}

/// The images of a record that are not erased, but for the last one, its header; runs of numbers.
fn whole(record: &Record) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for (number, image) in (0..).zip(record.payload.images()) {
        match runs.last_mut() {
            _ if image.is_err() => {}
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    if let Some(last) = runs.last_mut() {
        last.end -= 1;
    }
    runs
}

/// Of these images nothing is to be left.
fn unknown(images: &[Range<u32>]) -> Vec<(u32, Bytes)> {
    let unknown = Erased::default().encode();
    let numbers = images.iter().cloned().flatten();
    numbers.map(|number| (number, unknown.clone())).collect()
}

/// What a search has found in one record: the images, and what is left of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<P> {
    /// Where the record lies, as the caller has said it.
    pub place: P,
    /// Numbers of the images, ascending.
    pub images: Vec<(u32, Bytes)>,
    /// Raft or a follower still needs the record as it is.
    pub live: bool,
}

impl<P> Found<P> {
    fn new(place: P, images: Vec<(u32, Bytes)>, live: bool) -> Option<Found<P>> {
        (!images.is_empty()).then_some(Found {
            place,
            images,
            live,
        })
    }
}

/// What is kept of a part until its entry says at which position it is: not its record, which is a
/// piece of a whole segment.
struct Waiting<P> {
    place: P,
    live: bool,
    /// What may be erased of it.
    images: Vec<RowImage>,
    /// What is to go if it has had no effect.
    whole: Vec<Range<u32>>,
}

/// Goes over the records of a group in the order in which they were written, dead ones left out,
/// and finds the images that name removed rows.
pub struct Search<'a, P> {
    group: &'a Group,
    ledger: &'a Ledger,
    /// What comes behind it is still needed, as what Raft needs is.
    read: Position,
    /// Parts whose entry has not come yet.
    parts: HashMap<(Term, TxId), Vec<Waiting<P>>>,
}

impl<'a, P> Search<'a, P> {
    /// A search for the rows of a ledger; what comes behind `read` is left to somebody.
    pub fn new(group: &'a Group, ledger: &'a Ledger, read: Position) -> Search<'a, P> {
        let parts = HashMap::new();
        Search {
            group,
            ledger,
            read,
            parts,
        }
    }

    /// The next record: what is found in it, and in the parts of its entry.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn pass(&mut self, place: P, record: &Record, live: bool) -> Result<Vec<Found<P>>> {
        let mut found = Vec::new();
        match record.kind {
            Kind::Part => {
                let header = Part::decode_header(&record.payload)?;
                let (mut images, _) = row_images(record, &self.ledger.indexes)?;
                images.retain(|image| self.may(image));
                for image in &mut images {
                    image.key = Bytes::copy_from_slice(&image.key);
                }
                let parts = self.parts.entry((header.epoch, header.txid)).or_default();
                parts.push(Waiting {
                    place,
                    live,
                    images,
                    whole: whole(record),
                });
            }
            Kind::Entry => {
                let entry = Entry::decode(&record.payload)?;
                let header = &entry.header;
                let broken = self.group.broken(header.position);
                let at = (!broken).then_some(header.position);
                found.extend(self.judge_parts((header.epoch, header.txid), at));
                let images = match at {
                    None => remains(record)?,
                    Some(at) => self.erased(&row_images(record, &self.ledger.indexes)?.0, at),
                };
                let live = live || header.position > self.read;
                found.extend(Found::new(place, images, live));
                for txid in &entry.abandoned {
                    found.extend(self.judge_parts((header.epoch, *txid), None));
                }
            }
            Kind::Raft
            | Kind::Vote
            | Kind::Truncate
            | Kind::Purge
            | Kind::Erase
            | Kind::Mark
            | Kind::Footer => {}
        }
        Ok(found)
    }

    /// Behind the last record: parts that no entry has followed. Those that Raft needs wait for theirs,
    /// which lies above all that is looked for.
    pub fn end(mut self) -> Vec<Found<P>> {
        for parts in self.parts.values_mut() {
            parts.retain(|part| !part.live);
        }
        let open: Vec<_> = self.parts.keys().copied().collect();
        let found = open.into_iter().flat_map(|of| self.judge_parts(of, None));
        found.collect()
    }

    fn may(&self, image: &RowImage) -> bool {
        let removed = self.ledger.removed(image.tree, &image.key).is_some();
        removed || image.removal && self.ledger.everywhere > Position::ZERO
    }

    /// The parts of a transaction. Without a position nothing of them has had an effect, and nothing
    /// of them ever will, unless Raft still needs them: then those that name no removed row wait for
    /// nothing.
    fn judge_parts(&mut self, of: (Term, TxId), position: Option<Position>) -> Vec<Found<P>> {
        let parts = self.parts.remove(&of).unwrap_or_default().into_iter();
        let found = parts.filter_map(|part| {
            let images = match position {
                Some(position) => self.erased(&part.images, position),
                None if part.live && part.images.is_empty() => return None,
                None => unknown(&part.whole),
            };
            let unread = position.is_some_and(|position| position > self.read);
            Found::new(part.place, images, part.live || unread)
        });
        found.collect()
    }

    /// What is to be erased of a record at a position.
    fn erased(&self, images: &[RowImage], position: Position) -> Vec<(u32, Bytes)> {
        let erased = images.iter().filter_map(|image| {
            let erased = self.ledger.judge(image, position)?;
            Some((image.number, erased.encode()))
        });
        let mut erased: Vec<(u32, Bytes)> = erased.collect();
        erased.dedup_by_key(|(number, _)| *number);
        erased
    }
}
