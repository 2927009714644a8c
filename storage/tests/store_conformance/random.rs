//! A store beside its model under random operations, closed and opened again in between.

use super::*;

struct OpenScan {
    scan: Scan,
    expected: std::vec::IntoIter<(Bytes, Bytes)>,
}

impl OpenScan {
    fn advance(&mut self, rows: usize) -> bool {
        for _ in 0..rows {
            let found = self.scan.next().map(|row| row.unwrap());
            assert_eq!(found, self.expected.next());
            if found.is_none() {
                return false;
            }
        }
        true
    }
}

/// A store with its model under random operations.
struct Driver {
    seed: u64,
    rng: StdRng,
    kind: StoreKind,
    dir: tempfile::TempDir,
    store: Arc<dyn TableStore>,
    model: Model,
    /// Reads are served from here on after a reopening.
    served_from: u64,
    begun: Option<(u64, Arc<dyn Checkpoint>)>,
    checkpointed: u64,
    scans: Vec<OpenScan>,
}

impl Driver {
    fn new(kind: StoreKind, seed: u64) -> Driver {
        let dir = tempfile::tempdir().unwrap();
        let store = open(kind, dir.path());
        let rng = StdRng::seed_from_u64(seed);
        let model = Model::default();
        Driver {
            seed,
            rng,
            kind,
            dir,
            store,
            model,
            served_from: 0,
            begun: None,
            checkpointed: 0,
            scans: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..1000) {
            0..590 => self.apply_next(),
            590..595 => self.keep(),
            595..600 => self.versions(),
            600..760 => self.get(),
            760..880 => self.scan(),
            880..900 => self.begin_checkpoint(),
            900..925 => self.finish_checkpoint(),
            925..950 => self.move_horizon(),
            950..960 => self.read_too_old(),
            960..992 => self.advance_scans(),
            992..996 => self.purge(),
            _ => self.reopen(),
        }
    }

    fn apply_next(&mut self) {
        let index = self.model.index + 1;
        let entry = entry(self.seed, index);
        apply(&*self.store, &entry);
        self.model.apply(&entry, index);
    }

    fn tree(&mut self) -> TreeId {
        let group = GroupId(self.rng.random_range(0..GROUPS));
        TreeId {
            group,
            number: self.rng.random_range(0..TREES),
        }
    }

    fn position(&mut self, tree: TreeId) -> Position {
        let low = (self.store.kept(tree).0 >> 14).max(self.served_from);
        let index = self.rng.random_range(low..=self.model.index);
        position(index).max(self.store.kept(tree))
    }

    /// A tree keeps its history from some position on, or goes with its group again.
    fn keep(&mut self) {
        let tree = self.tree();
        let from = self.rng.random_bool(0.9).then(|| self.position(tree));
        let (before, existed) = (self.store.kept(tree), self.store.trees().contains(&tree));
        self.store.keep(tree, from).unwrap();
        let horizon = self.store.horizon(tree.group);
        let expected = match from {
            Some(from) if existed => from.max(before).min(horizon),
            Some(from) => from.min(horizon),
            None => horizon,
        };
        assert_eq!(self.store.kept(tree), expected);
    }

    fn versions(&mut self) {
        let tree = self.tree();
        let (one, other) = (self.position(tree), self.position(tree));
        let (from, to) = (one.min(other), one.max(other));
        let range = (self.bound(), self.bound());
        let found = self.store.versions(tree, range.clone(), from, to).unwrap();
        let found: Vec<_> = found.map(|version| version.unwrap()).collect();
        let expected = self.model.versions(tree, &range, from, to);
        assert_eq!(found, expected, "{tree:?} {range:?} {from}..{to}");
    }

    fn get(&mut self) {
        let tree = self.tree();
        let at = self.position(tree);
        let key = key(self.rng.random_range(0..KEYS));
        let found = self.store.get(tree, &key, at).unwrap();
        assert_eq!(
            found,
            self.model.get(tree, &key, at),
            "{tree:?} {key:?} at {at}"
        );
    }

    fn bound(&mut self) -> Bound<Bytes> {
        let key = key(self.rng.random_range(0..KEYS));
        match self.rng.random_range(0..3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    fn scan(&mut self) {
        let tree = self.tree();
        let at = self.position(tree);
        let range = (self.bound(), self.bound());
        let backward = self.rng.random_bool(0.5);
        let direction = if backward {
            Direction::Backward
        } else {
            Direction::Forward
        };
        let expected = self.model.scan(tree, &range, at, direction);
        if self.scans.len() < 8 && self.rng.random_bool(0.2) {
            let scan = self.store.scan(tree, range, at, direction).unwrap();
            self.scans.push(OpenScan {
                scan,
                expected: expected.into_iter(),
            });
            return;
        }
        let found = rows(&*self.store, tree, &range, at, direction);
        assert_same(
            &found,
            &expected,
            &format!("{tree:?} {range:?} at {at} {direction:?}"),
        );
    }

    fn advance_scans(&mut self) {
        let rows = self.rng.random_range(1..40);
        self.scans.retain_mut(|scan| scan.advance(rows));
    }

    fn begin_checkpoint(&mut self) {
        let index = self.model.index;
        let checkpoint = self.store.begin_checkpoint(checkpoint_at(index)).unwrap();
        if let Some((_, older)) = self.begun.replace((index, checkpoint)) {
            drop(older);
        }
    }

    fn finish_checkpoint(&mut self) {
        if let Some((index, checkpoint)) = self.begun.take() {
            checkpoint.finish().unwrap();
            self.checkpointed = index;
            assert_eq!(checkpoint_index(&*self.store), index);
        }
    }

    fn move_horizon(&mut self) {
        let group = GroupId(self.rng.random_range(0..GROUPS));
        let low = self.store.horizon(group).0 >> 14;
        let index = self.rng.random_range(low..=self.model.index);
        // Entry by entry as the server does, with room for reads behind the newest.
        let index = low + (index - low) / 2;
        if index > 0 {
            self.store.set_horizon(group, position(index));
            assert!(self.store.horizon(group) >= position(index));
        }
    }

    fn read_too_old(&mut self) {
        let tree = self.tree();
        let horizon = self.store.kept(tree);
        if horizon > Position::ZERO {
            let at = Position(self.rng.random_range(0..horizon.0));
            let get = self.store.get(tree, b"a", at);
            assert!(matches!(get, Err(Error::TooOld { .. })), "{get:?}");
            let scan = self.store.scan(tree, ALL, at, Direction::Forward);
            assert!(matches!(scan.err(), Some(Error::TooOld { .. })));
        }
    }

    /// What trees keep beyond their group's horizon is all there.
    fn compare_kept(&self) {
        for tree in self.store.trees() {
            let (from, to) = (self.store.kept(tree), position(self.model.index));
            let found = self.store.versions(tree, ALL, from, to).unwrap();
            let found: Vec<_> = found.map(|version| version.unwrap()).collect();
            assert_eq!(found, self.model.versions(tree, &ALL, from, to), "{tree:?}");
        }
    }

    fn purge(&mut self) {
        let tree = self.tree();
        self.store.purge(tree).unwrap();
    }

    fn reopen(&mut self) {
        self.scans.retain_mut(|scan| scan.advance(usize::MAX));
        self.begun = None;
        let horizons: Vec<_> = (0..GROUPS)
            .map(|g| self.store.horizon(GroupId(g)))
            .collect();
        self.store = Arc::new(Nothing);
        self.store = open(self.kind, self.dir.path());
        for (group, horizon) in (0..).zip(horizons) {
            assert!(self.store.horizon(GroupId(group)) <= horizon);
        }
        assert_eq!(checkpoint_index(&*self.store), self.checkpointed);
        let persisted = persisted_index(&*self.store);
        assert!(persisted <= self.model.index);
        // Replay what a crashed node would: at least up to what is persisted.
        let until = self
            .rng
            .random_range(persisted.max(self.checkpointed)..=self.model.index);
        self.model = Model::at(self.seed, until);
        for index in self.checkpointed + 1..=until {
            apply(&*self.store, &entry(self.seed, index));
        }
        // Reads below the checkpoint are fine again, too: nothing above the horizon is gone.
        self.served_from = 0;
        compare(
            &*self.store,
            &self.model,
            readable_from(&*self.store),
            "reopened",
        );
        self.compare_kept();
    }
}

/// Stands in for a store that is closed.
struct Nothing;

impl TableStore for Nothing {
    fn get(&self, _: TreeId, _: &[u8], _: Position) -> storage::Result<Option<Bytes>> {
        unreachable!()
    }
    fn scan(&self, _: TreeId, _: Range, _: Position, _: Direction) -> storage::Result<Scan> {
        unreachable!()
    }
    fn versions(
        &self,
        _: TreeId,
        _: Range,
        _: Position,
        _: Position,
    ) -> storage::Result<storage::Versions> {
        unreachable!()
    }
    fn keep(&self, _: TreeId, _: Option<Position>) -> storage::Result<()> {
        unreachable!()
    }
    fn kept(&self, _: TreeId) -> Position {
        unreachable!()
    }
    fn write(
        &self,
        _: TreeId,
        _: Position,
        _: &mut dyn Iterator<Item = storage::Write>,
    ) -> storage::Result<()> {
        unreachable!()
    }
    fn drop_tree(&self, _: TreeId) -> storage::Result<()> {
        unreachable!()
    }
    fn trees(&self) -> Vec<TreeId> {
        unreachable!()
    }
    fn memory(&self) -> u64 {
        unreachable!()
    }
    fn begin_checkpoint(
        &self,
        _: Vec<storage::GroupCheckpoint>,
    ) -> storage::Result<Arc<dyn Checkpoint>> {
        unreachable!()
    }
    fn begin_checkpoint_of(
        &self,
        _: storage::GroupCheckpoint,
    ) -> storage::Result<Arc<dyn Checkpoint>> {
        unreachable!()
    }
    fn checkpoint(&self) -> Vec<storage::GroupCheckpoint> {
        unreachable!()
    }
    fn persisted(&self, _: GroupId) -> Position {
        unreachable!()
    }
    fn set_horizon(&self, _: GroupId, _: Position) {
        unreachable!()
    }
    fn refuse_below(&self, _: GroupId, _: Position) {}
    fn forget(&self, _: GroupId) {
        unreachable!()
    }

    fn horizon(&self, _: GroupId) -> Position {
        unreachable!()
    }
    fn erase(&self, _: TreeId, _: &Arc<ErasedKeys>) -> storage::Result<Position> {
        unreachable!()
    }
    fn has_dropped(&self, _: GroupId) -> bool {
        unreachable!()
    }
    fn scratch(&self) -> storage::Result<Box<dyn storage::Scratch>> {
        unreachable!()
    }
    fn disk_bytes(&self, _: TreeId) -> u64 {
        unreachable!()
    }
}

pub fn random_operations_agree_with_the_model(kind: StoreKind) {
    let first = env_number("STORE_SEED", 1);
    for seed in first..first + env_number("STORE_SEEDS", 4) {
        println!("STORE_SEED={seed} STORE_SEEDS=1 ({kind:?})");
        let mut driver = Driver::new(kind, seed);
        for _ in 0..env_number("STORE_STEPS", 2500) {
            driver.step();
        }
        driver.advance_scans();
        let from = readable_from(&*driver.store);
        compare(&*driver.store, &driver.model, from, "at the end");
        driver.reopen();
    }
}
