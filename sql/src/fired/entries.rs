//! The rows of followed tables with triggers, as they come in the feed, an entry at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use storage::{GroupId, Groups, Position};

use super::Cursor;
use crate::catalog::{RoleId, SchemaId, TableId};
use crate::changes::{FeedRow, Filter, Interrupt, Log, Page, may_follow};
use crate::engine::Engine;
use crate::transaction::{Stop, readable};
use crate::{Error, Result, state};

/// Rows of an entry that are run together: a larger entry comes in portions.
const ROWS_MAX: usize = 500;

/// Rows of one entry.
pub struct Batch {
    /// The entry.
    pub(crate) position: Position,
    pub(crate) rows: Vec<FeedRow>,
    /// What must be stored before: all that was given until then.
    pub(crate) behind: Option<Cursor>,
    /// Behind them.
    pub(crate) cursor: Cursor,
}

impl Batch {
    /// No rows: the feed has nothing for the triggers up to there.
    pub(crate) fn passed(position: Position) -> Batch {
        Batch {
            position,
            behind: None,
            rows: Vec::new(),
            cursor: Cursor::behind(position),
        }
    }
}

/// What triggers of one group's owner have to run on of another group.
pub struct Entries {
    log: Arc<dyn Log>,
    home: GroupId,
    source: GroupId,
    /// Behind what was read.
    cursor: Option<Cursor>,
    /// Behind what was given to be run.
    given: Option<Cursor>,
    page: Option<Page>,
    /// A row that was read and does not belong to the batch before it.
    ahead: Option<(FeedRow, bool)>,
    /// How far it is known to have read.
    told: Option<Position>,
    tables: BTreeSet<TableId>,
}

impl Engine {
    /// The groups that are led here and whose owners have triggers on followed tables, each with the
    /// group of the tables.
    pub fn firing(&self) -> BTreeSet<(GroupId, GroupId)> {
        let catalog = self.catalog();
        let mut pairs = BTreeSet::new();
        for home in self.groups().all().iter().map(|group| group.id()) {
            let triggers = catalog.triggers_on_followed(home).into_iter();
            pairs.extend(triggers.map(|(source, _)| (home, source)));
        }
        pairs.retain(|(home, _)| self.leads(*home));
        pairs
    }
}

impl Entries {
    /// Of `source`, for the owner of `home`.
    pub fn new(log: Arc<dyn Log>, home: GroupId, source: GroupId) -> Entries {
        Entries {
            log,
            home,
            source,
            cursor: None,
            given: None,
            page: None,
            ahead: None,
            told: None,
            tables: BTreeSet::new(),
        }
    }

    /// How far it has read, if it has begun.
    pub fn read(&self) -> Position {
        self.cursor.map_or(Position::ZERO, |cursor| cursor.position)
    }

    /// Is there something that it has not read?
    pub fn is_behind(&self, engine: &Engine) -> bool {
        let catalog = engine.catalog();
        let tables = self.tables.iter().filter_map(|id| catalog.table(*id));
        let mut groups = tables.map(|table| table.group).chain([self.source]);
        groups.any(|id| {
            let held = engine.groups().get(id);
            held.is_some_and(|held| held.content() > self.read())
        })
    }

    /// Nothing but a cursor, if there was nothing to run for so long (in microseconds) that it is time
    /// to say how far the feed was read.
    pub fn passed(&mut self, micros: u64) -> Option<Batch> {
        let read = self.read();
        let told = self.told.get_or_insert(read);
        let due = read.unix_micros().saturating_sub(told.unix_micros()) >= micros;
        due.then(|| {
            *told = read;
            let passed = Batch {
                behind: self.given,
                ..Batch::passed(read)
            };
            self.given = Some(passed.cursor);
            passed
        })
    }

    /// The next rows of one entry; `None`: there are none now. May wait for disks and other nodes.
    ///
    /// # Errors
    /// OW001 behind retention; `Wait` while something is in doubt.
    pub fn next(
        &mut self,
        engine: &Arc<Engine>,
        interrupt: &Interrupt,
    ) -> std::result::Result<Option<Batch>, Stop> {
        let Some(cursor) = self.begin(engine)? else {
            return Ok(None);
        };
        if self.page.is_none() {
            self.page = Some(self.open(engine, cursor, interrupt)?);
        }
        let Some(page) = &mut self.page else {
            return Ok(None);
        };
        let catalog = engine.catalog();
        let mut batch: Option<Batch> = None;
        while let Some((row, last)) = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => page.next_plain()?,
        } {
            let at = Cursor {
                position: row.position(),
                group: row.group(&catalog).unwrap_or(self.source),
                seq: row.seq(),
            };
            let concerns =
                row.change().is_some() || row.removed().is_some() || row.altered().is_some();
            if at <= cursor || !concerns {
                match (&mut batch, last) {
                    (Some(batch), true) if batch.position == at.position => break,
                    _ => continue,
                }
            }
            if let Some(batch) = &batch
                && (batch.position != at.position || batch.rows.len() >= ROWS_MAX)
            {
                self.ahead = Some((row, last));
                break;
            }
            let batch = batch.get_or_insert_with(|| Batch::passed(at.position));
            batch.rows.push(row);
            batch.cursor = at;
            if last {
                break;
            }
        }
        match batch {
            Some(mut batch) => {
                batch.behind = self.given;
                self.cursor = Some(batch.cursor);
                self.given = self.cursor;
                Ok(Some(batch))
            }
            None => {
                let reached = Cursor::behind(page.reached(u64::MAX));
                self.page = None;
                self.cursor = Some(cursor.max(reached));
                Ok(None)
            }
        }
    }

    /// Where to go on; `None`: there is no trigger.
    fn begin(&mut self, engine: &Engine) -> Result<Option<Cursor>> {
        let catalog = engine.catalog();
        let triggers = catalog.triggers_on_followed(self.home).into_iter();
        let mut triggers = triggers.filter(|(source, _)| *source == self.source);
        let role = catalog.owner_of_group(self.home).unwrap_or(RoleId::PUBLIC);
        let mut tables = BTreeSet::new();
        let mut first = None;
        for (_, trigger) in &mut triggers {
            // What may not be read now is not passed over.
            let table = catalog.table(trigger.table);
            if table.is_some_and(|table| !may_follow(&catalog, role, table)) {
                let message = "a table with a trigger may not be read any more";
                return Err(Error::new(state::INSUFFICIENT_PRIVILEGE, message));
            }
            tables.insert(trigger.table);
            let after = Position(trigger.after.unwrap_or_default());
            first = Some(first.map_or(after, |first: Position| first.min(after)));
        }
        if tables != self.tables {
            self.tables = tables;
            self.page = None;
            self.ahead = None;
            // It may have read further than it has given.
            self.cursor = self.given;
        }
        let Some(first) = first else {
            return Ok(None);
        };
        if self.cursor.is_none() {
            let home = engine.groups().get(self.home);
            let stored = match home {
                Some(home) => Cursor::applied(&home, self.source)?,
                None => None,
            };
            self.given = stored;
            let first = Cursor::behind(first);
            self.cursor = Some(stored.map_or(first, |stored| stored.max(first)));
        }
        Ok(self.cursor)
    }

    fn open(
        &self,
        engine: &Arc<Engine>,
        cursor: Cursor,
        interrupt: &Interrupt,
    ) -> std::result::Result<Page, Stop> {
        let catalog = engine.catalog();
        let role = catalog.owner_of_group(self.home).unwrap_or(RoleId::PUBLIC);
        let names = self.tables.iter().map(|id| Filter::pattern_of(*id));
        let filter = Filter::new(role, &[SchemaId::PUBLIC], Some(names.collect()));
        Page::open(
            &*self.log,
            || engine.catalog(),
            |groups| engine.cluster().doubts(groups, None),
            engine.groups(),
            filter,
            Some(cursor.after()),
            // What is not shown yet a trigger that is created now is to fire for.
            |ids| {
                let shown = ids.iter().map(|id| shown(engine.groups(), *id));
                shown.min().unwrap_or_default()
            },
            interrupt,
        )
    }
}

/// How far a group is shown here: without an end, if all that it has is. One whose table has gone to
/// another owner may be idle for ever.
fn shown(groups: &Groups, id: GroupId) -> Position {
    let Some(held) = groups.get(id) else {
        return Position::ZERO;
    };
    let at = readable(groups, &held);
    match held.content() <= at {
        true => Position::MAX,
        false => at,
    }
}
