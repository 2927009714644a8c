//! The node's catalog: read from the system trees at start, then fed with every applied entry
//! that changes one.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use storage::{GroupId, Position};

use super::codec::{self, CATALOG_TREES, Stored};
use super::{Catalog, Change};
use crate::Result;

/// Holds the newest catalog. Statements take one [`Arc`] and keep it.
pub struct Cache {
    newest: RwLock<Arc<Catalog>>,
}

/// Rows of one tree, in key order.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + 'a>;

impl Cache {
    /// Begins with what exists before any entry (system schemas and relations).
    pub fn new(base: Catalog) -> Cache {
        Cache {
            newest: RwLock::new(Arc::new(base)),
        }
    }

    /// The newest catalog.
    pub fn get(&self) -> Arc<Catalog> {
        Arc::clone(&self.newest.read())
    }

    /// Reads a group's catalog trees as of `position`; the directory first, so that owners are
    /// known before their tables. `rows` gives the rows of one tree. What was known of the group
    /// and is not there any more goes. False, and nothing is read, if a later entry was taken in
    /// already: then `position` is behind.
    pub fn load<'a>(
        &self,
        group: GroupId,
        position: Position,
        mut rows: impl FnMut(u32) -> Result<Rows<'a>>,
    ) -> Result<bool> {
        let mut newest = self.newest.write();
        if newest.as_of(group) > position {
            return Ok(false);
        }
        let mut next = Catalog::clone(&newest);
        for tree in CATALOG_TREES {
            if group != GroupId::DIRECTORY && codec::DIRECTORY_TREES.contains(&tree) {
                continue;
            }
            let mut gone = codec::keys_of(&newest, group, tree);
            for row in rows(tree)? {
                let (key, value) = row?;
                gone.remove(&key);
                next.apply_row(group, tree, &key, Some(&value))?;
            }
            for key in gone {
                next.apply_row(group, tree, &key, None)?;
            }
        }
        next.forget_gone(group);
        next.advance(group, position);
        *newest = Arc::new(next);
        Ok(true)
    }

    /// Takes an entry in, before its position becomes visible. `changes` are (tree, key, new
    /// value); anything but catalog trees is passed over. Says whether the catalog changed: it
    /// does not by what it had before (a copy of the group that begins again further back).
    ///
    /// # Errors
    /// A row that this program cannot read (XX001): the node must stop.
    pub fn apply<'a>(
        &self,
        group: GroupId,
        position: Position,
        changes: impl Iterator<Item = (u32, &'a [u8], Option<&'a [u8]>)>,
    ) -> Result<bool> {
        let mut changes = changes
            .filter(|(tree, ..)| CATALOG_TREES.contains(tree))
            .peekable();
        if changes.peek().is_none() {
            return Ok(false);
        }
        // Held from here on: groups apply beside each other, and none may undo another's change.
        let mut newest = self.newest.write();
        if newest.as_of(group) >= position {
            return Ok(false);
        }
        let mut next = Catalog::clone(&newest);
        for (tree, key, value) in changes {
            next.apply_row(group, tree, key, value)?;
        }
        next.advance(group, position);
        *newest = Arc::new(next);
        Ok(true)
    }

    /// Registers further system relations (before any session).
    pub fn update(&self, with: impl FnOnce(&Catalog) -> Catalog) {
        let mut newest = self.newest.write();
        let next = with(&newest);
        *newest = Arc::new(next);
    }
}

impl Catalog {
    /// Takes one row of a catalog tree in.
    fn apply_row(
        &mut self,
        group: GroupId,
        tree: u32,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let old = codec::object_at(self, group, tree, key);
        let new = match value {
            Some(value) => match codec::stored(tree, key, value)? {
                Some(Stored::Object(object)) => Some(object),
                Some(Stored::Tree { tree, table, left }) => {
                    self.trees.insert_mut((group, tree), table);
                    if left {
                        self.left.insert_mut((group, tree), table);
                    }
                    return Ok(());
                }
                None => return Ok(()),
            },
            None => None,
        };
        if old.is_some() || new.is_some() {
            self.change(&Change { group, old, new });
        }
        Ok(())
    }

    fn advance(&mut self, group: GroupId, position: Position) {
        self.version = super::snapshot::fresh_version();
        self.set_as_of(group, position);
    }
}
