//! The changes of a transaction with an ERASE: each removal says that it is to be erased.

use storage::{Change, Changes, LargeChanges};

/// The same changes.
pub(super) fn erasing(changes: Changes) -> Changes {
    match changes {
        Changes::Small(changes) => Changes::Small(changes.into_iter().map(marked).collect()),
        Changes::Large(changes) => Changes::Large(Box::new(Erasing(changes))),
    }
}

/// A removal says so.
pub(super) fn marked(change: Change) -> Change {
    let erase = change.new.is_none();
    Change { erase, ..change }
}

struct Erasing(Box<dyn LargeChanges>);

impl LargeChanges for Erasing {
    fn next(&mut self) -> storage::Result<Option<Change>> {
        Ok(self.0.next()?.map(marked))
    }

    fn trees(&self) -> Vec<u32> {
        self.0.trees()
    }
}
