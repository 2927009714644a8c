//! Units of this node's journal and of what other nodes give, in one order: (position, group, seq).

use std::collections::VecDeque;
use std::sync::Arc;

use feed::{FeedEntry, Unit};
use parking_lot::Mutex;
use sql::changes::{FeedRow, Interrupt, Request, UnitEntry, Units};
use sql::{Error, state};
use storage::{GroupId, Groups, Position};

use super::leg::{Ask, Late, Leg, Next};
use crate::changes::{JournalEntry, MeteredFeed, Reading, sql_error};
use crate::cluster::Cluster;

/// How often a reader without a cursor looks for where to begin: segments leave under it.
const TRIES: usize = 3;

/// Opens a page's units.
///
/// # Errors
/// OW001 behind retention; 42501; the interrupt's.
pub fn read(
    metered: &MeteredFeed,
    cluster: &Arc<Cluster>,
    groups: &Groups,
    request: &Request<'_>,
    interrupt: &Interrupt,
) -> Result<Box<dyn Units>, Error> {
    let mut here = Vec::new();
    let mut there = Vec::new();
    for id in request.groups {
        match groups.get(*id) {
            Some(group) if !group.is_followed() && !group.has_ended() => here.push(*id),
            // It has nothing that would be asked for. One that was made only now has less than the
            // replica that was found closed.
            Some(group)
                if group.applied() >= request.closed
                    && request.after.is_some_and(|after| group.content() <= after) => {}
            Some(_) | None => there.push(*id),
        }
    }
    let mut merged = Merged {
        ask: Arc::new(Ask::new(cluster, &metered.meter, interrupt, request)),
        here: None,
        head: None,
        legs: Vec::new(),
        closed: request.closed,
        given: request.after,
        unit: None,
        entries: VecDeque::new(),
        lacks: None,
        _reading: Reading::begin(&metered.meter),
        metered: metered.clone(),
    };
    match request.after {
        Some(after) => merged.open_behind(&here, &there, after)?,
        None => merged.open_oldest(&here, &there)?,
    }
    Ok(Box::new(merged))
}

type Shared = Arc<Mutex<Leg>>;

fn shared(leg: Leg) -> Shared {
    Arc::new(Mutex::new(leg))
}

struct Merged {
    metered: MeteredFeed,
    ask: Arc<Ask>,
    here: Option<feed::Units>,
    head: Option<Unit>,
    legs: Vec<Shared>,
    closed: Position,
    /// The last unit that was begun.
    given: Option<Position>,
    unit: Option<Position>,
    /// This node's entries of the unit.
    entries: VecDeque<FeedEntry>,
    lacks: Option<GroupId>,
    _reading: Reading,
}

impl Merged {
    /// Begins behind a position. Of what this node retains too little of, as it came here late,
    /// others may have more.
    fn open_behind(
        &mut self,
        here: &[GroupId],
        there: &[GroupId],
        after: Position,
    ) -> Result<(), Error> {
        let feed = &self.metered.feed;
        let mut kept = here.to_vec();
        let mut late = feed.behind(here, after).map_err(sql_error)?;
        let units = loop {
            kept.retain(|id| !late.iter().any(|(group, _)| group == id));
            match feed.read(&kept, after, self.closed) {
                // Segments have left meanwhile.
                Err(feed::Error::Behind { group, oldest }) => late.push((group, oldest)),
                units => break units,
            }
        };
        self.legs.clear();
        if !there.is_empty() {
            let leg = Leg::new(self.ask.clone(), there.to_vec(), after);
            self.legs.push(shared(leg));
        }
        if !late.is_empty() {
            let leg = Leg::instead(self.ask.clone(), late, after);
            self.legs.push(shared(leg));
        }
        self.here = self.or_lacks(units)?;
        self.advance()
    }

    /// Begins everywhere behind the same position: the oldest from which on each group is retained
    /// by some node that answers.
    fn open_oldest(&mut self, here: &[GroupId], there: &[GroupId]) -> Result<(), Error> {
        let mut oldest = Position::ZERO;
        for _ in 0..TRIES {
            self.open_behind(here, there, oldest)?;
            match self.oldest()? {
                Some(found) if self.lacks.is_none() => oldest = found.max(oldest),
                Some(_) | None => return Ok(()),
            }
        }
        Err(behind())
    }

    /// From where on each group is retained, if that is too little of one.
    fn oldest(&mut self) -> Result<Option<Position>, Error> {
        let mut oldest = None;
        let mut at = 0;
        while let Some(leg) = self.legs.get(at).cloned() {
            let mut leg = leg.lock();
            match leg.oldest()? {
                Ok(found) => oldest = oldest.max(found),
                // Nothing is given without it.
                Err(group) => {
                    self.lacks = Some(group);
                    return Ok(oldest);
                }
            }
            self.legs.extend(leg.take_split().into_iter().map(shared));
            at += 1;
        }
        Ok(oldest)
    }

    /// The next unit of this node's journal.
    fn advance(&mut self) -> Result<(), Error> {
        let next = self.here.as_mut().map_or(Ok(None), feed::Units::next);
        self.head = self.or_lacks(next)?.flatten();
        Ok(())
    }

    /// A replica of this node may leave while it is read: whoever comes again finds another one.
    fn or_lacks<T>(&mut self, read: feed::Result<T>) -> Result<Option<T>, Error> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(feed::Error::Unknown(group)) => {
                self.lacks = Some(group);
                Ok(None)
            }
            Err(error) => Err(sql_error(error)),
        }
    }
}

impl Units for Merged {
    fn closed(&self) -> Position {
        match self.lacks {
            None => self.closed,
            Some(_) => self.given.unwrap_or_default(),
        }
    }

    fn lacks(&self) -> Option<GroupId> {
        self.lacks
    }

    fn next_unit(&mut self) -> Result<Option<Position>, Error> {
        self.unit = None;
        if self.lacks.is_some() {
            return Ok(None);
        }
        let mut first = self.head.as_ref().map(|unit| unit.position);
        let mut at = 0;
        while let Some(leg) = self.legs.get(at).cloned() {
            let mut leg = leg.lock();
            match leg.peek()? {
                Next::Row(position, _) => {
                    first = Some(first.map_or(position, |first| first.min(position)));
                }
                Next::Over => {}
                Next::Behind(late) if !late.others => return Err(behind()),
                // What comes next of it is not known, and it may be the first of all.
                Next::Lacks(group) | Next::Behind(Late { group, .. }) => {
                    self.lacks = Some(group);
                    return Ok(None);
                }
            }
            self.legs.extend(leg.take_split().into_iter().map(shared));
            at += 1;
        }
        if first.is_none() {
            return Ok(None);
        }
        (self.unit, self.given) = (first, first);
        if let Some(unit) = self.head.take_if(|unit| Some(unit.position) == self.unit) {
            self.metered.meter.read(unit.entries.len());
            self.entries = unit.entries.into();
            self.advance()?;
        }
        Ok(self.unit)
    }

    fn next_entry(&mut self) -> Result<Option<UnitEntry>, Error> {
        let Some(unit) = self.unit else {
            return Ok(None);
        };
        let mut first: Option<(GroupId, Shared)> = None;
        let mut at = 0;
        while let Some(shared_leg) = self.legs.get(at).cloned() {
            let mut leg = shared_leg.lock();
            match leg.peek()? {
                Next::Row(position, group) if position == unit => {
                    if first.as_ref().is_none_or(|(first, _)| group < *first) {
                        first = Some((group, shared_leg.clone()));
                    }
                }
                Next::Row(..) | Next::Over => {}
                Next::Behind(late) if !late.others => return Err(behind()),
                // The unit was begun and can't be ended.
                Next::Lacks(group) | Next::Behind(Late { group, .. }) => {
                    return Err(cut_off(group));
                }
            }
            let split = leg.take_split();
            drop(leg);
            self.legs.extend(split.into_iter().map(shared));
            at += 1;
        }
        let here = self.entries.front().map(FeedEntry::group);
        Ok(match first {
            Some((group, leg)) if here.is_none_or(|here| group < here) => {
                let rows = Rows {
                    leg,
                    entry: Some((unit, group)),
                };
                Some(UnitEntry::Given(group, Box::new(rows)))
            }
            _ => {
                let entry = self.entries.pop_front();
                entry.map(|entry| UnitEntry::Here(Box::new(JournalEntry(entry))))
            }
        })
    }
}

fn behind() -> Error {
    crate::changes::behind("No node has all entries behind it.")
}

fn cut_off(group: GroupId) -> Error {
    let message = "the feed was cut off within a transaction";
    Error::new(state::OWNER_UNREACHABLE, message)
        .detail(format!("No other node that has group {group} answers."))
        .hint("Read on behind the last whole transaction.")
}

/// The rows of one entry.
struct Rows {
    leg: Shared,
    entry: Option<(Position, GroupId)>,
}

impl Iterator for Rows {
    type Item = Result<FeedRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entry?;
        let mut leg = self.leg.lock();
        match leg.peek() {
            Err(error) => Some(Err(error)),
            Ok(Next::Row(position, group)) if (position, group) == entry => {
                let (last, row) = leg.take()?;
                if last {
                    self.entry = None;
                }
                Some(Ok(row))
            }
            Ok(Next::Row(..) | Next::Over) => {
                self.entry = None;
                None
            }
            Ok(Next::Behind(late)) if !late.others => Some(Err(behind())),
            Ok(Next::Lacks(group) | Next::Behind(Late { group, .. })) => Some(Err(cut_off(group))),
        }
    }
}
