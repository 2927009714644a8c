//! What is removed leaves every copy: each version of a row carries a canary that nothing else has, and
//! bytes are searched for them.
//!
//! A canary must be gone if its row is not there any more, or if the row was certainly removed after
//! that version was written. Of a row that lives, older versions may stay in the feed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::books::End;
use super::references::{Deed, Key, Rows, TableAt};

/// Characters of a canary, and of the pieces by which it is searched for: a table store that compresses
/// its blocks may break some of them, never all.
const LENGTH: usize = 30;
const PIECE: usize = 10;

/// What canaries are made of: so many that a block's compression finds next to nothing in them.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A version of a row: its place, and the transaction that wrote it.
pub type Version = (Key, i64);

/// The canary of a version.
pub fn canary(((table, id), n): Version) -> String {
    // Splitmix64, begun at what names the version.
    let mut state = (n as u64)
        .wrapping_mul(1_000)
        .wrapping_add(table as u64 * 100)
        .wrapping_add(id as u64);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let one = |_| char::from(ALPHABET[(next() % ALPHABET.len() as u64) as usize]);
    (0..LENGTH).map(one).collect()
}

/// All versions of all rows that were ever asked for, and when rows were certainly removed.
#[derive(Debug, Default)]
pub struct Canaries {
    /// When what wrote it was over; [`u64::MAX`]: it may happen at any time.
    written: BTreeMap<Key, BTreeMap<i64, u64>>,
    /// When the last removal that has happened was asked for.
    removed: BTreeMap<Key, u64>,
}

impl Canaries {
    /// Takes note of a transaction.
    pub fn enter(&mut self, deed: &Deed) {
        for (key, row) in &deed.effects.left {
            match row {
                Some(row) => {
                    let told = match deed.end {
                        End::Unknown => u64::MAX,
                        End::Acknowledged | End::Failed => deed.told,
                    };
                    self.write((*key, row.n), told);
                }
                None if deed.end == End::Acknowledged => self.remove(*key, deed.asked),
                None => {}
            }
        }
    }

    /// A version was written again, and that was over then.
    pub fn write(&mut self, (key, n): Version, told: u64) {
        self.written.entry(key).or_default().insert(n, told);
    }

    /// A removal that was asked for then has happened.
    pub fn remove(&mut self, key: Key, asked: u64) {
        let last = self.removed.entry(key).or_default();
        *last = (*last).max(asked);
    }

    /// Had this version been written, and its transaction ended, before that time?
    pub fn was_there(&self, (key, n): Version, before: u64) -> bool {
        let told = self.written.get(&key).and_then(|of| of.get(&n));
        told.is_some_and(|told| *told < before)
    }

    /// What is to be found once nobody writes and these rows are there.
    pub fn fates(&self, live: &Rows) -> Fates {
        let mut fates = Fates::default();
        for (key, versions) in &self.written {
            let row = live.get(key);
            let removed = self.removed.get(key).copied().unwrap_or(0);
            for (n, told) in versions {
                let version = (*key, *n);
                if row.is_some_and(|row| row.n == *n) {
                    fates.know(version, Fate::Lives);
                } else if row.is_none() || removed > *told {
                    fates.know(version, Fate::Gone);
                }
            }
        }
        fates
    }
}

/// What must be true of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is the row.
    Lives,
    /// Nothing may be left of it.
    Gone,
}

/// Versions to be searched for.
#[derive(Debug, Default)]
pub struct Fates {
    of: BTreeMap<Version, Fate>,
    pieces: HashMap<[u8; PIECE], Version>,
}

impl Fates {
    fn know(&mut self, version: Version, fate: Fate) {
        self.of.insert(version, fate);
        for piece in canary(version).as_bytes().chunks_exact(PIECE) {
            let piece: [u8; PIECE] = piece.try_into().expect("chunks are as long as asked for");
            self.pieces.insert(piece, version);
        }
    }

    /// How many of them have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.of.values().filter(|of| **of == fate).count()
    }

    /// Those of this fate of which these bytes have something.
    pub fn in_bytes(&self, bytes: &[u8], fate: Fate) -> BTreeSet<Version> {
        let mut found = BTreeSet::new();
        let mut run = 0;
        for (at, byte) in bytes.iter().enumerate() {
            run = if byte.is_ascii_alphanumeric() {
                run + 1
            } else {
                0
            };
            if run < PIECE {
                continue;
            }
            let known = self.pieces.get(&bytes[at + 1 - PIECE..=at]);
            found.extend(known.filter(|known| self.of[*known] == fate));
        }
        found
    }
}

/// What one session has seen in one snapshot after the other: what was gone never comes back.
#[derive(Debug, Default)]
pub struct Sight {
    last: BTreeSet<Version>,
    gone: HashSet<Version>,
}

impl Sight {
    /// Takes note of a snapshot; the versions that had been gone. A table that shows no row says
    /// nothing: one that was emptied by TRUNCATE is empty for older snapshots, too.
    pub fn see(&mut self, rows: &Rows) -> Vec<Version> {
        let now: BTreeSet<Version> = rows.iter().map(|(key, row)| (*key, row.n)).collect();
        let shown: BTreeSet<TableAt> = rows.keys().map(|(table, _)| *table).collect();
        let before = std::mem::take(&mut self.last);
        let (judged, unsaid): (BTreeSet<_>, BTreeSet<_>) = before
            .into_iter()
            .partition(|((table, _), _)| shown.contains(table));
        self.gone.extend(judged.difference(&now));
        let back = now.iter().filter(|version| self.gone.contains(*version));
        let back = back.copied().collect();
        self.last = now;
        self.last.extend(unsaid);
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::references::{Effects, Row};

    const KEY: Key = (2, 4);

    fn row(n: i64) -> Row {
        let references = vec![];
        Row { n, references }
    }

    fn deed(left: Option<i64>, asked: u64, end: End) -> Deed {
        let mut effects = Effects::default();
        effects.left.insert(KEY, left.map(row));
        Deed {
            has_mark: false,
            effects,
            asked,
            told: asked + 1,
            end,
        }
    }

    fn fates(deeds: &[Deed], live: Option<i64>) -> BTreeMap<i64, Fate> {
        let mut canaries = Canaries::default();
        deeds.iter().for_each(|deed| canaries.enter(deed));
        let live = live.map(|n| (KEY, row(n))).into_iter().collect();
        let fates = canaries.fates(&live).of;
        fates.into_iter().map(|((_, n), fate)| (n, fate)).collect()
    }

    #[test]
    fn what_was_removed_is_gone_and_older_versions_of_what_lives_may_stay() {
        let put = |n, asked| deed(Some(n), asked, End::Acknowledged);
        let removal = |asked, end| deed(None, asked, end);
        let both = [put(1, 10), put(2, 20)];
        assert_eq!(fates(&both, Some(2)), BTreeMap::from([(2, Fate::Lives)]));
        let all_gone = BTreeMap::from([(1, Fate::Gone), (2, Fate::Gone)]);
        assert_eq!(fates(&both, None), all_gone);
        let between = [put(1, 10), removal(15, End::Acknowledged), put(2, 20)];
        let one = BTreeMap::from([(1, Fate::Gone), (2, Fate::Lives)]);
        assert_eq!(fates(&between, Some(2)), one);
        let perhaps = [put(1, 10), removal(15, End::Unknown), put(2, 20)];
        assert_eq!(fates(&perhaps, Some(2)), BTreeMap::from([(2, Fate::Lives)]));
        let late = [
            deed(Some(1), 10, End::Unknown),
            removal(15, End::Acknowledged),
            put(2, 20),
        ];
        assert_eq!(fates(&late, Some(2)), BTreeMap::from([(2, Fate::Lives)]));
    }

    #[test]
    fn a_version_that_came_again_is_as_new_as_that() {
        let mut canaries = Canaries::default();
        canaries.enter(&deed(Some(1), 10, End::Acknowledged));
        canaries.remove(KEY, 20);
        canaries.write((KEY, 1), 21);
        canaries.enter(&deed(Some(2), 30, End::Acknowledged));
        let live = [(KEY, row(2))].into_iter().collect();
        assert_eq!(canaries.fates(&live).count(Fate::Gone), 0);
    }

    #[test]
    fn a_canary_is_found_whole_and_by_each_of_its_pieces() {
        let mut fates = Fates::default();
        let (gone, lives) = ((KEY, 7), ((0, 1), 7));
        fates.know(gone, Fate::Gone);
        fates.know(lives, Fate::Lives);
        let text = canary(gone);
        assert_eq!(text.len(), LENGTH);
        for piece in [&text[..], &text[..10], &text[10..20], &text[20..]] {
            let bytes = format!("\0x {piece}\u{1}{}", canary(lives));
            let found = fates.in_bytes(bytes.as_bytes(), Fate::Gone);
            assert_eq!(found, BTreeSet::from([gone]), "{piece}");
        }
        let found = fates.in_bytes(&text.as_bytes()[1..10], Fate::Gone);
        assert_eq!(found, BTreeSet::new());
    }

    #[test]
    fn what_a_session_has_seen_go_does_not_come_back() {
        let shown = |versions: &[(Key, i64)]| -> Rows {
            versions.iter().map(|(key, n)| (*key, row(*n))).collect()
        };
        let (one, other) = ((0, 1), (0, 2));
        let mut sight = Sight::default();
        let nothing: Vec<Version> = vec![];
        assert_eq!(sight.see(&shown(&[(one, 1), (other, 2)])), nothing);
        // An older snapshot of an emptied table.
        assert_eq!(sight.see(&shown(&[])), nothing);
        assert_eq!(sight.see(&shown(&[(one, 1), (other, 3)])), nothing);
        assert_eq!(sight.see(&shown(&[(one, 1), (other, 2)])), [(other, 2)]);
    }

    #[test]
    fn a_version_was_there_once_its_transaction_had_ended() {
        let mut canaries = Canaries::default();
        canaries.enter(&deed(Some(1), 10, End::Acknowledged));
        assert!(canaries.was_there((KEY, 1), 12));
        assert!(!canaries.was_there((KEY, 1), 11));
        assert!(!canaries.was_there((KEY, 2), 12));
    }
}
