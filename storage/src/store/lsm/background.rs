//! Two threads per store: one flushes memtables so that memory stays bounded, one compacts,
//! a step per tree in turn. The first failure is kept and ends all writing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::super::failure::Failure;
use super::Shared;
use crate::store::TreeId;
use crate::{Error, Result};

/// How much the thread that flushes lets others go first, as nice(1) says it: a little, for when
/// memory is used up those who apply entries wait for it.
const FLUSH_NICE: i32 = 5;
/// How much the one does that compacts, for which nobody waits.
const COMPACT_NICE: i32 = 10;

/// What there is to do.
#[derive(Default)]
pub(super) struct Work {
    todo: Mutex<Todo>,
    /// Something to do.
    wake: Condvar,
    /// Memory has been freed.
    room: Condvar,
    failure: Failure,
}

#[derive(Default)]
struct Todo {
    /// Trees with sealed memtables.
    flush: BTreeSet<TreeId>,
    /// More than half of the memory is used.
    relieve: bool,
    /// Trees to compact, in turn; each at most once (so bounded by the number of trees).
    compact: VecDeque<TreeId>,
    stop: bool,
}

impl Work {
    /// Fails with the first failure, if there was one.
    pub fn check(&self) -> Result<()> {
        self.failure.check()
    }

    /// Keeps a failure: what is in the files is not known any more.
    pub fn fail(&self, error: &Error) {
        self.failure.keep(error);
        let _todo = self.todo.lock();
        self.room.notify_all();
    }

    pub fn flush_soon(&self, id: TreeId) {
        if self.todo.lock().flush.insert(id) {
            self.wake.notify_all();
        }
    }

    pub fn compact_soon(&self, id: TreeId) {
        let mut todo = self.todo.lock();
        if !todo.compact.contains(&id) {
            todo.compact.push_back(id);
            self.wake.notify_all();
        }
    }

    /// Asks for the largest memtables to be flushed.
    pub fn relieve(&self) {
        let mut todo = self.todo.lock();
        if !todo.relieve {
            todo.relieve = true;
            self.wake.notify_all();
        }
    }

    /// Tells waiting writers to look again.
    pub fn relieved(&self) {
        let _todo = self.todo.lock();
        self.room.notify_all();
    }

    /// Waits while memory is used up.
    pub fn wait_while(&self, full: impl Fn() -> bool) -> Result<()> {
        let mut todo = self.todo.lock();
        loop {
            self.check()?;
            if !full() {
                return Ok(());
            }
            todo.relieve = true;
            self.wake.notify_all();
            self.room.wait(&mut todo);
        }
    }

    /// Waits for the next task of one kind; `None` ends the thread.
    fn next<T>(&self, take: impl Fn(&mut Todo) -> Option<T>) -> Option<T> {
        let mut todo = self.todo.lock();
        loop {
            if todo.stop || self.check().is_err() {
                return None;
            }
            if let Some(task) = take(&mut todo) {
                return Some(task);
            }
            self.wake.wait(&mut todo);
        }
    }
}

/// The running threads.
pub(super) struct Background(Vec<JoinHandle<()>>);

impl Background {
    /// Starts them.
    pub fn start(shared: &Arc<Shared>) -> Result<Background> {
        let start = |name: &str, nice: i32, run: fn(&Shared)| {
            let shared = shared.clone();
            thread::Builder::new().name(name.into()).spawn(move || {
                step_back(nice);
                run(&shared);
            })
        };
        let flush = start("tables-flush", FLUSH_NICE, flush_loop)?;
        let compact = start("tables-compact", COMPACT_NICE, compact_loop)?;
        Ok(Background(vec![flush, compact]))
    }

    /// Ends them and waits for that; called once, when the store closes.
    pub fn stop(&mut self, shared: &Shared) {
        shared.work.todo.lock().stop = true;
        shared.work.wake.notify_all();
        for thread in self.0.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the table store panicked");
            }
        }
    }
}

/// Lets other threads of the machine go first.
fn step_back(nice: i32) {
    // Elsewhere it would count for the whole process.
    if !cfg!(target_os = "linux") {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, "the table store's threads do not step back");
    }
}

enum Flush {
    Tree(TreeId),
    Largest,
}

fn flush_loop(shared: &Shared) {
    let take = |todo: &mut Todo| match todo.flush.pop_first() {
        Some(id) => Some(Flush::Tree(id)),
        None => std::mem::take(&mut todo.relieve).then_some(Flush::Largest),
    };
    while let Some(task) = shared.work.next(take) {
        let done = match task {
            Flush::Tree(id) => flush_tree(shared, id),
            Flush::Largest => flush_largest(shared),
        };
        if let Err(error) = done {
            shared.work.fail(&error);
        }
    }
}

/// Flushes the oldest sealed memtable of a tree.
pub(super) fn flush_tree(shared: &Shared, id: TreeId) -> Result<()> {
    let Some(tree) = shared.catalog.get(id) else {
        return Ok(());
    };
    let Some(oldest) = tree.view().sealed.last().map(|memtable| memtable.id) else {
        return Ok(());
    };
    if tree.is_crowded() {
        // Reads look into every run: rather let the writers wait than the runs pile up; but not
        // for as long as a rewrite of all of it may take.
        compact_step(shared, id)?;
    }
    shared.flush(id, &tree, oldest)?;
    if !tree.view().sealed.is_empty() {
        shared.work.flush_soon(id);
    }
    Ok(())
}

fn flush_largest(shared: &Shared) -> Result<()> {
    let memory = || shared.resources.memory.load(Ordering::Relaxed);
    while memory() > shared.options.memtable_bytes_max / 2 {
        let trees = shared.catalog.trees();
        let bytes = |id: &TreeId| {
            trees.get(id).map_or(0, |tree| {
                let view = tree.view();
                view.active.bytes() + view.sealed.iter().map(|m| m.bytes()).sum::<u64>()
            })
        };
        let Some(&largest) = trees.keys().max_by_key(|id| (bytes(id), **id)) else {
            break;
        };
        let Some(tree) = trees.get(&largest).cloned() else {
            break;
        };
        drop(trees);
        match tree.rotate() {
            Some(until) => shared.flush(largest, &tree, until)?,
            // Dropped meanwhile, or all in the files: what is left is not ours to free.
            None => break,
        }
    }
    shared.work.relieved();
    Ok(())
}

fn compact_loop(shared: &Shared) {
    while let Some(id) = shared.work.next(|todo| todo.compact.pop_front()) {
        match compact_step(shared, id) {
            Ok(true) => shared.work.compact_soon(id),
            Ok(false) => {}
            Err(error) => shared.work.fail(&error),
        }
    }
}

fn compact_step(shared: &Shared, id: TreeId) -> Result<bool> {
    let Some(tree) = shared.catalog.get(id) else {
        return Ok(false);
    };
    shared.folder.persist_horizons(&shared.horizons)?;
    tree.compact()
}
