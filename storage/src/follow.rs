//! Followers: copies of chosen trees of a group, kept by another node's feed instead of Raft. A
//! follower has no vote and no log on this node's disk: what a checkpoint says of it is where it
//! goes on after a restart.
//!
//! ```text
//! a replica:  journal, votes      all trees      checkpoint <= durable journal
//! a follower: nothing             chosen trees   checkpoint <= applied
//! ```
//! In the place of Raft's state stands the mark of what was chosen; what a checkpoint keeps says
//! too since when trees are known that came later than the rest:
//! ```text
//! 'F' | version u8 = 1 | count u32 | tree u32 *        ascending
//! 'F' | version u8 = 2 | count u32 | tree u32 * | count u32 | (tree u32 | position u64)*
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::Position;
use parking_lot::RwLock;

use crate::meta::Meta;
use crate::snapshot::{Export, Item, Rows, damaged, each_row};
use crate::{Applied, Change, Entry, Error, Group, Pieces, RaftState, Result, TreeId, system};

/// The first byte of a mark. No state of Raft's begins with it.
const MARK: u8 = b'F';
const VERSION: u8 = 1;
const VERSION_SINCE: u8 = 2;

/// The trees of a group that a follower holds: system trees by name, tables with their indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen(BTreeSet<u32>);

impl Chosen {
    /// These trees.
    pub fn new(trees: impl IntoIterator<Item = u32>) -> Chosen {
        Chosen(trees.into_iter().collect())
    }

    /// Is the tree one of them?
    pub fn has(&self, tree: u32) -> bool {
        self.0.contains(&tree)
    }

    /// Is there one whose removed rows leave something that must be erased?
    pub fn leaves_bytes(&self) -> bool {
        self.0.iter().any(|tree| crate::erase::leaves_bytes(*tree))
    }

    /// Are there trees of which it holds the keys alone?
    pub fn has_keys(&self) -> bool {
        self.0.iter().any(|tree| system::of_keys(*tree).is_some())
    }

    /// Is anything of the change one of them?
    pub fn wants(&self, change: &Change) -> bool {
        let wants = |tree: u32| self.has(tree) || self.has(system::keys_of(tree));
        wants(change.tree) || change.index.iter().any(|write| wants(write.tree))
    }

    /// The keys that a change brings or takes of trees of which there are only those.
    fn keys(&self, change: &Change, keys: &mut BTreeMap<(u32, Bytes), Change>) {
        let nothing = |value: &Option<Bytes>| value.as_ref().map(|_| Bytes::new());
        let mut add = |tree: u32, key: &Bytes, old: Option<Bytes>, new: Option<Bytes>| {
            let tree = system::keys_of(tree);
            if !self.has(tree) || old == new {
                return;
            }
            let of_key = (tree, key.clone());
            // Where one row gives a key up and another takes it, the put holds.
            if new.is_none() && keys.contains_key(&of_key) {
                return;
            }
            let (seq, key) = (change.seq, key.clone());
            let made = Change {
                seq,
                tree,
                key,
                old,
                new,
                erase: change.erase,
                ..Change::default()
            };
            keys.insert(of_key, made);
        };
        let (old, new) = (nothing(&change.old), nothing(&change.new));
        add(change.tree, &change.key, old, new);
        for write in &change.index {
            // What was there is not said.
            let old = write.value.is_none().then(Bytes::new);
            add(write.tree, &write.key, old, nothing(&write.value));
        }
    }

    /// All of them, ascending.
    pub fn trees(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// The mark that says so, in the place of Raft's state.
    pub fn encode(&self) -> RaftState {
        let mut out = BytesMut::new();
        self.put(VERSION, &mut out);
        out.freeze()
    }

    fn put(&self, version: u8, out: &mut BytesMut) {
        out.put_slice(&[MARK, version]);
        out.put_u32_le(self.0.len() as u32);
        self.trees().for_each(|tree| out.put_u32_le(tree));
    }

    /// The inverse of [`Chosen::encode`]. Errors: `Corrupt` if it is no mark.
    pub fn decode(mark: &RaftState) -> Result<Chosen> {
        let mut rest = mark.clone();
        let chosen = Chosen::get(VERSION, &mut rest).filter(|_| rest.is_empty());
        chosen.ok_or_else(|| damaged("it does not say what was chosen"))
    }

    fn get(version: u8, rest: &mut Bytes) -> Option<Chosen> {
        let head = [rest.try_get_u8().ok()?, rest.try_get_u8().ok()?];
        let count = rest.try_get_u32_le().ok()? as usize;
        if head != [MARK, version] || rest.len() / 4 < count {
            return None;
        }
        let trees = (0..count).map(|_| rest.get_u32_le());
        Some(Chosen(trees.collect()))
    }
}

/// Is what a checkpoint keeps in the place of Raft's state a follower's mark?
pub(crate) fn is_mark(state: &RaftState) -> bool {
    state.first() == Some(&MARK)
}

/// What a group has if it is followed.
pub(crate) struct Follower {
    /// What is held; another one whenever that changes, so that who reads can tell.
    pub held: RwLock<Arc<Held>>,
    /// Asks the source to close the group.
    pub ask_close: Box<dyn Fn() + Send + Sync>,
}

/// What a follower holds; nothing while one copy is put in another's place.
#[derive(Default)]
pub(crate) struct Held {
    pub chosen: Arc<Chosen>,
    /// Trees that came later than the rest: what they held before that position nobody knows here.
    since: BTreeMap<u32, Position>,
}

impl Held {
    pub fn all(chosen: Chosen) -> Arc<Held> {
        Arc::new(Held {
            chosen: Arc::new(chosen),
            since: BTreeMap::new(),
        })
    }

    fn is_behind(&self, tree: u32, at: Position) -> bool {
        self.since.get(&tree).is_some_and(|since| at < *since)
    }

    /// These trees instead: those that come are known as of `at`.
    fn with(&self, chosen: Chosen, at: Position) -> Held {
        let mut since = self.since.clone();
        since.retain(|tree, _| chosen.has(*tree));
        let new = chosen.trees().filter(|tree| !self.chosen.has(*tree));
        since.extend(new.map(|tree| (tree, at)));
        let chosen = Arc::new(chosen);
        Held { chosen, since }
    }

    /// What a checkpoint keeps of it.
    fn encode(&self) -> RaftState {
        let mut out = BytesMut::new();
        self.chosen.put(VERSION_SINCE, &mut out);
        out.put_u32_le(self.since.len() as u32);
        for (tree, since) in &self.since {
            out.put_u32_le(*tree);
            out.put_u64_le(since.0);
        }
        out.freeze()
    }

    /// What a checkpoint has kept. Errors: `Corrupt`.
    pub fn decode(mark: &RaftState) -> Result<Arc<Held>> {
        if mark.get(1) != Some(&VERSION_SINCE) {
            return Chosen::decode(mark).map(Held::all);
        }
        let mut rest = mark.clone();
        let mut read = || {
            let chosen = Chosen::get(VERSION_SINCE, &mut rest)?;
            let mut since = BTreeMap::new();
            for _ in 0..rest.try_get_u32_le().ok()? {
                let tree = rest.try_get_u32_le().ok()?;
                since.insert(tree, Position(rest.try_get_u64_le().ok()?));
            }
            let chosen = Arc::new(chosen);
            rest.is_empty().then(|| Arc::new(Held { chosen, since }))
        };
        read().ok_or_else(|| damaged("it does not say what was chosen"))
    }
}

/// How a read of a tree has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked<T> {
    /// This was read.
    Found(T),
    /// The tree is not held here (any more).
    NotHeld,
    /// It is held, but only as of later positions.
    Later,
}

impl Entry {
    /// Drops what a follower of these trees may not see: changes and index writes of other trees,
    /// events, who asked for it, what only replicas need. Its place in the chain stays, and what
    /// must be shown before it.
    pub fn keep_only(&mut self, chosen: &Chosen) {
        let mut keys = BTreeMap::new();
        for change in &self.changes {
            chosen.keys(change, &mut keys);
        }
        self.changes.retain(|change| chosen.has(change.tree));
        #[cfg(feature = "sabotage")]
        if journal::sabotage::planted("half-a-transaction") {
            self.changes.truncate(self.changes.len() / 2);
        }
        for change in &mut self.changes {
            change.index.retain(|write| chosen.has(write.tree));
        }
        self.changes.extend(keys.into_values());
        self.changes.sort_by_key(|change| change.seq);
        let gone = self.dropped_trees.iter().map(|tree| system::keys_of(*tree));
        let gone: Vec<u32> = gone.filter(|tree| chosen.has(*tree)).collect();
        self.dropped_trees.retain(|tree| chosen.has(*tree));
        self.dropped_trees.extend(gone);
        self.events.clear();
        self.abandoned.clear();
        self.header.meta = crate::Meta::default();
        self.header.outcome = false;
    }
}

impl Group {
    /// Is this a follower's copy? It is never led here, and there is no log of it.
    pub fn is_followed(&self) -> bool {
        self.follower.is_some()
    }

    /// What a follower holds; `None`: this is a replica, which holds all.
    pub fn chosen(&self) -> Option<Arc<Chosen>> {
        let follower = self.follower.as_ref()?;
        Some(Arc::clone(&follower.held.read().chosen))
    }

    /// Are the rows of this tree here, and as new as what was shown here before? Those of a tree
    /// that a follower has not chosen are not, which must never look as if there were none. A
    /// copy that has just come may hold effects whose causes have not; a replica that took a
    /// copy's place begins empty.
    pub fn holds(&self, tree: u32) -> bool {
        if let Some(follower) = &self.follower
            && !(self.ready() && follower.held.read().chosen.has(tree))
        {
            return false;
        }
        !self.has_ended() && self.is_shown_since()
    }

    /// Reads a tree as of a position, if it is held, and was all the time that `read` took: what
    /// is not here, or only half, must never look as if there were nothing.
    pub fn look<T>(
        &self,
        tree: u32,
        at: Position,
        read: impl Fn(&Group) -> Result<T>,
    ) -> Result<Looked<T>> {
        loop {
            let held = self.follower.as_ref().map(|f| Arc::clone(&f.held.read()));
            match &held {
                _ if self.has_ended() || !self.is_shown_since() => return Ok(Looked::NotHeld),
                Some(held) if !held.chosen.has(tree) => return Ok(Looked::NotHeld),
                Some(held) if held.is_behind(tree, at) => return Ok(Looked::Later),
                _ => {}
            }
            let found = read(self);
            let now = self.follower.as_ref().map(|f| Arc::clone(&f.held.read()));
            if held.as_ref().map(Arc::as_ptr) != now.as_ref().map(Arc::as_ptr) || self.has_ended() {
                continue;
            }
            return match found {
                Err(Error::TooOld { .. }) if held.is_some() => Ok(Looked::Later),
                found => found.map(Looked::Found),
            };
        }
    }

    /// A follower holds these trees from now on. It lacks nothing of those that come: they are
    /// empty as of what is applied. Those that go are removed, and a checkpoint is to say so: true
    /// if there are any. Errors: `NoGroup` if it has ended.
    pub(crate) fn choose(&self, chosen: Chosen) -> Result<bool> {
        let follower = self.follower.as_ref().ok_or(Error::NoGroup(self.id()))?;
        let mut state = self.lock_log();
        self.check_alive(&state)?;
        let before = Arc::clone(&follower.held.read());
        let held = before.with(chosen, state.applied.position);
        state.raft = held.encode();
        self.note_progress(&state);
        let gone = before.chosen.trees().filter(|tree| !held.chosen.has(*tree));
        let gone: Vec<u32> = gone.collect();
        // First nobody reads them, then they go.
        *follower.held.write() = Arc::new(held);
        for tree in &gone {
            state.sums.forget(*tree);
            self.drop_tree(*tree)?;
        }
        Ok(!gone.is_empty())
    }

    /// A follower holds more trees from now on, with these rows as of what is applied; a
    /// checkpoint is to say so. Errors: `NoGroup` if it has ended, `Corrupt` if they are of
    /// another position.
    pub(crate) fn extend(&self, applied: Applied, meta: Meta, rows: &mut Rows<'_>) -> Result<()> {
        let follower = self.follower.as_ref().ok_or(Error::NoGroup(self.id()))?;
        let mut state = self.lock_log();
        self.check_alive(&state)?;
        if state.applied.position != applied.position {
            return Err(damaged("more trees come at another position"));
        }
        let before = Arc::clone(&follower.held.read());
        let held = before.with(Chosen::decode(&meta.raft)?, applied.position);
        let new = |tree: u32| held.chosen.has(tree) && !before.chosen.has(tree);
        for tree in held.chosen.trees().filter(|tree| new(*tree)) {
            state.sums.forget(tree);
            self.drop_tree(tree)?;
        }
        self.write_rows(applied.position, rows)?;
        state.sums.merge(meta.sums.of(new));
        state.raft = held.encode();
        self.note_progress(&state);
        *follower.held.write() = Arc::new(held);
        Ok(())
    }

    /// At a start: the rows of trees that are not held go. They were about to come.
    pub(crate) fn drop_unchosen(&self) -> Result<()> {
        let chosen = self.chosen().unwrap_or_default();
        let trees = self.store().trees().into_iter();
        let of_group = trees.filter(|tree| tree.group == self.id());
        for tree in of_group.map(|tree| tree.number) {
            // The system's are written by apply, too.
            if !chosen.has(tree) && !system::is_system(tree) {
                self.drop_tree(tree)?;
            }
        }
        Ok(())
    }

    fn drop_tree(&self, number: u32) -> Result<()> {
        let group = self.id();
        self.store().drop_tree(TreeId { group, number })
    }

    /// The state of chosen trees as of what is applied, to be sent to a follower that has some of
    /// them already: of the others. `None` while it can't be: the replay goes on.
    pub fn export_chosen(&self, chosen: &Chosen, has: &Chosen) -> Result<Option<Export>> {
        if !self.ready() {
            return Ok(None);
        }
        let state = self.lock_log();
        let (applied, whole) = (state.applied, self.meta(&state));
        let pin = self.pin(applied.position);
        drop(state);
        let come = |tree: u32| chosen.has(tree) && !has.has(tree);
        let meta = Meta {
            top: applied.position,
            sums: whole.sums.of(come),
            rests: whole.rests,
            raft: chosen.encode(),
            ..Meta::default()
        };
        let dropped = self.dropped_trees(applied.position)?;
        let sent = |tree: u32| come(tree) && !dropped.contains(&system::tree_of(tree));
        let (id, store) = (self.id(), self.store());
        // Live rows only: the history is in the owner's replicas.
        let none = BTreeSet::new();
        Export::new(id, store, applied, &meta, pin, &sent, &none)
    }

    /// Has a tree of this group been dropped, as of what is applied?
    pub fn is_dropped(&self, tree: u32) -> Result<bool> {
        let row = self.get(system::DROPPED_TREES, &tree.to_be_bytes(), self.applied())?;
        Ok(row.is_some())
    }
}

/// Looks whether an export for a follower that came from elsewhere can be installed, before
/// anything is changed: it is whole, and has nothing but what it says was chosen, and nothing of
/// what the follower `has`. What the system keeps comes with the first copy. Errors: `Corrupt`,
/// `Format`, `Store`.
pub fn check_chosen(
    applied: Applied,
    meta: &Bytes,
    has: Option<&Chosen>,
    pieces: &mut Pieces<'_>,
) -> Result<()> {
    let mark = Meta::decode(meta)?.raft;
    let chosen = Chosen::decode(&mark)?;
    let comes = |tree: u32| match has {
        _ if !chosen.has(tree) => false,
        Some(has) => !has.has(tree) && !system::is_system(tree),
        None => true,
    };
    if has.is_some_and(|has| has.trees().any(|tree| !chosen.has(tree))) {
        return Err(damaged("trees go where others come"));
    }
    each_row(applied, meta, pieces, &mut |item| match item {
        Item::Row(tree, ..) if comes(*tree) => Ok(()),
        Item::Row(..) => Err(damaged("it has rows that were not chosen")),
        Item::Kept(..) | Item::Version(..) => Err(damaged("it has more than live rows")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventKind, Header, IndexWrite, PartsRef, TxId};

    #[test]
    fn marks_come_back_and_nothing_else_is_one() {
        let chosen = Chosen::new([1000, 1, 2]);
        let mark = chosen.encode();
        assert_eq!(Chosen::decode(&mark).expect("whole"), chosen);
        assert!(is_mark(&mark) && !is_mark(&Bytes::new()));
        for length in 0..mark.len() {
            assert!(Chosen::decode(&mark.slice(..length)).is_err(), "{length}");
        }
        let longer = [&mark[..], &[0]].concat();
        assert!(Chosen::decode(&longer.into()).is_err());
        let endless = Bytes::from_static(&[MARK, VERSION, 255, 255, 255, 255]);
        assert!(Chosen::decode(&endless).is_err());
    }

    #[test]
    fn a_checkpoint_says_since_when_trees_are_known() {
        let held = Held::all(Chosen::new([1, 1000])).with(Chosen::new([1, 1001]), Position(7));
        assert!(held.is_behind(1001, Position(6)) && !held.is_behind(1001, Position(7)));
        let mark = held.encode();
        let read = Held::decode(&mark).expect("whole");
        assert_eq!((&read.chosen, &read.since), (&held.chosen, &held.since));
        assert!(is_mark(&mark) && Chosen::decode(&mark).is_err());
        for length in 0..mark.len() {
            assert!(Held::decode(&mark.slice(..length)).is_err(), "{length}");
        }
        let before = Held::decode(&held.chosen.encode()).expect("without");
        assert_eq!((&before.chosen, before.since.len()), (&held.chosen, 0));
        let endless = [MARK, VERSION_SINCE, 255, 255, 255, 255];
        assert!(Held::decode(&Bytes::copy_from_slice(&endless)).is_err());
    }

    #[test]
    fn nothing_private_is_kept() {
        let secret = || Bytes::from_static(b"secret");
        let change = |tree: u32, key: &'static str, indexes: &[u32]| Change {
            tree,
            key: Bytes::from_static(key.as_bytes()),
            index: indexes
                .iter()
                .map(|tree| IndexWrite {
                    tree: *tree,
                    ..IndexWrite::default()
                })
                .collect(),
            ..Change::default()
        };
        let mut entry = Entry {
            header: Header {
                meta: crate::Meta {
                    role: "secret".into(),
                    login: "secret".into(),
                    application_name: "secret".into(),
                    trace: "secret".into(),
                    hops: 3,
                },
                outcome: true,
                deps: vec![(crate::GroupId(2), crate::Position(7))],
                parts: Some(PartsRef::default()),
                ..Header::default()
            },
            changes: vec![
                change(1000, "shown", &[1001, 1003]),
                change(1002, "secret", &[1003]),
            ],
            events: vec![Event {
                seq: 1,
                kind: EventKind::Message,
                name: "secret".into(),
                table: Some(1000),
                payload: secret(),
                about: Vec::new(),
            }],
            dropped_trees: vec![1001, 1003],
            abandoned: vec![TxId(1)],
            ..Entry::default()
        };
        let before = entry.header.clone();
        entry.keep_only(&Chosen::new([1000, 1001]));
        assert_eq!(entry.changes, [change(1000, "shown", &[1001])]);
        assert_eq!(entry.dropped_trees, [1001]);
        assert_eq!(entry.header.deps, before.deps);
        let bytes = entry.encode();
        let found = |text: &[u8]| bytes.as_bytes().windows(text.len()).any(|w| w == text);
        assert!(found(b"shown") && !found(b"secret"));
    }
}
