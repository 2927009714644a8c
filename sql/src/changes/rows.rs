//! One entry as rows: its changes and events by `seq`, as far as the reader may see them.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use storage::{Change, Direction, Event, EventKind, Groups, Header, Position};

use super::columns::FeedRow;
use super::filter::Filter;
use super::{LogChanges, LogEntry, json};
use crate::catalog::{self, Catalog, Rows, Table};
use crate::{Error, Result};

/// What entries are read with: the catalog as it is, and the history of descriptors.
#[derive(Clone)]
pub(super) struct Reading {
    pub catalog: Arc<Catalog>,
    pub groups: Arc<Groups>,
    pub filter: Filter,
}

/// The rows of one entry.
pub(super) struct EntryRows {
    reading: Reading,
    group: storage::GroupId,
    header: Header,
    owner: Option<String>,
    events: Peekable<IntoIter<Event>>,
    changes: Peekable<LogChanges>,
    /// Descriptors by tree, as they were at this position; `None` = not for this reader.
    tables: BTreeMap<u32, Option<Arc<Table>>>,
    heard: bool,
}

impl EntryRows {
    /// # Errors
    /// The journal can't be read.
    pub fn new(reading: &Reading, entry: Box<dyn LogEntry>) -> Result<EntryRows> {
        let group = entry.group();
        let header = entry.entry().header.clone();
        let mut events = entry.entry().events.clone();
        events.sort_by_key(|event| event.seq);
        let catalog = &reading.catalog;
        let owner = catalog
            .owner_of_group(group)
            .map(|role| catalog.role_name(role));
        let heard = reading.filter.heard(catalog).contains_key(&group);
        Ok(EntryRows {
            reading: reading.clone(),
            group,
            header,
            owner,
            events: events.into_iter().peekable(),
            changes: entry.into_changes()?.peekable(),
            tables: BTreeMap::new(),
            heard,
        })
    }

    /// The next row that the reader may see.
    pub fn next(&mut self) -> Result<Option<FeedRow>> {
        loop {
            let event = self.events.peek().map(|event| event.seq);
            let change = match self.changes.peek() {
                Some(Ok(change)) => Some(change.seq),
                Some(Err(error)) => return Err(error.clone()),
                None => None,
            };
            let row = match (event, change) {
                (None, None) => return Ok(None),
                (Some(event), change) if change.is_none_or(|change| event < change) => {
                    let event = self.events.next();
                    event.map(|event| self.event(event)).transpose()?.flatten()
                }
                _ => {
                    let change = self.changes.next().transpose()?;
                    change
                        .map(|change| self.change(&change))
                        .transpose()?
                        .flatten()
                }
            };
            if row.is_some() {
                return Ok(row);
            }
        }
    }

    fn row(&self, seq: u32, op: &'static str) -> FeedRow {
        FeedRow {
            tx: Some(self.header.txid.0),
            seq,
            owner: self.owner.clone(),
            meta: Some(self.header.meta.clone()),
            ..FeedRow::bare(self.header.position, op)
        }
    }

    fn change(&mut self, change: &Change) -> Result<Option<FeedRow>> {
        if !change.feed {
            return Ok(None);
        }
        let Some(table) = self.table(change.tree)? else {
            return Ok(None);
        };
        let image = |bytes: &Option<Bytes>| match bytes {
            Some(bytes) => json::row(&table, bytes),
            None => Ok(crate::types::Datum::Null),
        };
        let op = match (&change.old, &change.new) {
            (None, Some(_)) => "insert",
            (Some(_), Some(_)) => "update",
            _ if change.erase => return self.erase(&table, change),
            (Some(_), None) => "delete",
            (None, None) => return Ok(None),
        };
        let of_key = change.new.as_ref().or(change.old.as_ref());
        let key = of_key.map(|bytes| json::key(&table, bytes)).transpose()?;
        Ok(Some(FeedRow {
            table: Some(table.name.clone()),
            table_id: table.id.0,
            key: key.unwrap_or(crate::types::Datum::Null),
            new: image(&change.new)?,
            old: image(&change.old)?,
            ..self.row(change.seq, op)
        }))
    }

    /// A row of an event table.
    fn event_row(&mut self, event: &Event) -> Result<Option<FeedRow>> {
        let table = event.table.map(|tree| self.table(tree)).transpose()?;
        let Some(table) = table.flatten() else {
            return Ok(None);
        };
        Ok(Some(FeedRow {
            table: Some(table.name.clone()),
            table_id: table.id.0,
            key: json::about(&table, &event.payload)?,
            new: json::row(&table, &event.payload)?,
            ..self.row(event.seq, "event")
        }))
    }

    /// What it has removed may be erased already, and its key, too. Nothing is lost of a table that is
    /// gone: its end is told.
    fn erase(&self, table: &Table, change: &Change) -> Result<Option<FeedRow>> {
        let lost = change.is_lost();
        if lost && self.reading.catalog.table(table.id).is_none() {
            return Ok(None);
        }
        Ok(Some(FeedRow {
            lost,
            table: Some(table.name.clone()),
            table_id: table.id.0,
            key: json::key_of(table, &change.key)?,
            ..self.row(change.seq, "erase")
        }))
    }

    fn event(&mut self, event: Event) -> Result<Option<FeedRow>> {
        let op = match event.kind {
            EventKind::Row => return self.event_row(&event),
            EventKind::Message => "event",
            EventKind::Ddl => "ddl",
        };
        let table = match event.table {
            Some(tree) => match self.table(tree)? {
                Some(table) => Some(table),
                None => return Ok(None),
            },
            None => None,
        };
        if table.is_none() && !self.hears(event.kind) {
            return Ok(None);
        }
        let payload = String::from_utf8_lossy(&event.payload).into_owned();
        Ok(Some(FeedRow {
            table_id: table.as_ref().map_or(0, |table| table.id.0),
            table: table.map(|table| table.name.clone()),
            event: Some((event.name, payload)),
            ..self.row(event.seq, op)
        }))
    }

    /// May the reader have an event or a change of the schema that names no table?
    fn hears(&self, kind: EventKind) -> bool {
        let (catalog, filter) = (&self.reading.catalog, &self.reading.filter);
        match kind {
            EventKind::Row => false,
            EventKind::Message => self.heard,
            EventKind::Ddl => filter.wants_all() && catalog.is_superuser(filter.role),
        }
    }

    /// The descriptor of a tree's table as it was, if the reader may have its changes: by the
    /// grants of now while the table exists, by its last ones when it is gone.
    fn table(&mut self, tree: u32) -> Result<Option<Arc<Table>>> {
        if let Some(known) = self.tables.get(&tree) {
            return Ok(known.clone());
        }
        let table = self.find(tree)?;
        self.tables.insert(tree, table.clone());
        Ok(table)
    }

    fn find(&self, tree: u32) -> Result<Option<Arc<Table>>> {
        let (catalog, filter) = (&self.reading.catalog, &self.reading.filter);
        let Some(id) = catalog.table_of_tree(self.group, tree) else {
            return Ok(None);
        };
        let Some(then) = self.descriptor(id)? else {
            return Ok(None);
        };
        let now = catalog.table(id).unwrap_or(&then);
        let seen = filter.may(catalog, now) && filter.wants(catalog, &then);
        Ok(seen.then_some(then))
    }

    fn descriptor(&self, id: catalog::TableId) -> Result<Option<Arc<Table>>> {
        let Reading {
            catalog, groups, ..
        } = &self.reading;
        descriptor_at(catalog, groups, (self.group, id), self.header.position)
    }
}

/// A table of a group as an entry at this position was written with it.
///
/// # Errors
/// The history can't be read.
pub(crate) fn descriptor_at(
    catalog: &Catalog,
    groups: &Groups,
    (owner, id): (storage::GroupId, catalog::TableId),
    at: Position,
) -> Result<Option<Arc<Table>>> {
    let Some(group) = groups.get(owner) else {
        return Ok(None);
    };
    let scan = |tree: u32, range: (Bound<Bytes>, Bound<Bytes>)| -> Result<Rows<'static>> {
        let rows = group.scan(tree, range, group.applied(), Direction::Forward)?;
        Ok(Box::new(rows.map(|row| row.map_err(Error::from))))
    };
    // A descriptor holds for the entries above it; the one that makes a table holds for the
    // rows of its own entry, too.
    let found = catalog::table_at(catalog, (owner, id), at, scan)?;
    match found {
        Some(table) => Ok(Some(table)),
        None => catalog::table_at(catalog, (owner, id), at.next(), scan),
    }
}
