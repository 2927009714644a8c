//! What is noted of reads of other owners' contracts: in the directory, by its leader, at most once
//! in a while for a role and a contract. Nobody waits for it: who reads depends on the directory no
//! more than before, and a contract is in use a few milliseconds after it was read first.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use storage::{GroupId, Position};

use super::Stop;
use crate::catalog::{READ_NOTED_EVERY, RoleId, TableId};
use crate::cluster::Wish;
use crate::engine::Engine;

/// What is not noted after this time, in microseconds, is asked for again.
const AGAIN_AFTER: u64 = 5_000_000;
/// Notes that are remembered to be on their way.
const NOTES_MAX: usize = 10_000;

/// When it was asked for notes.
pub(super) type Noting = Mutex<BTreeMap<(TableId, RoleId), u64>>;

impl Engine {
    /// Notes that a role reads a contract of another one.
    pub fn note_read(&self, role: RoleId, table: TableId) {
        let now = self.clock().unix_micros();
        let noted = self.catalog().last_read(table, role).map(|read| read.at);
        if noted.is_some_and(|at| at.saturating_add(READ_NOTED_EVERY) > now) {
            return;
        }
        {
            let mut noting = self.allocations().noting.lock();
            let waits = |asked: &u64| asked.saturating_add(AGAIN_AFTER) > now;
            if noting.get(&(table, role)).is_some_and(waits) {
                return;
            }
            if noting.len() >= NOTES_MAX {
                noting.retain(|_, asked| waits(asked));
            }
            if noting.len() >= NOTES_MAX {
                // It comes with another read.
                return;
            }
            noting.insert((table, role), now);
        }
        let wish = Wish::Read(table, role);
        match self.leads(GroupId::DIRECTORY) {
            // Where it has to wait it comes with another read.
            true => drop(self.grant(&wish)),
            false => self.cluster().ask_directory(wish, Box::new(drop)),
        }
    }

    /// Commits the note, unless it is there.
    pub(super) fn place_read(
        &self,
        table: TableId,
        role: RoleId,
    ) -> Result<Option<Position>, Stop> {
        let now = self.clock().unix_micros();
        self.change_directory(|catalog| catalog.note_read(table, role, now))
    }
}
