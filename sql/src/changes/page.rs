//! Pages: whole units up to a number of rows, the last row of each transaction marked.

use std::sync::Arc;

use storage::{GroupId, Groups, Position};

use super::columns::{FeedRow, LAST_IN_TX};
use super::filter::Filter;
use super::rows::Reading;
use super::walk::Walk;
use super::{Interrupt, Log, Request};
use crate::catalog::Catalog;
use crate::transaction::{Stop, Wait};
use crate::types::{Datum, FormatSettings, Json, Type};
use crate::{Error, Result, state};

/// How often it is looked anew which owners there are, while groups are made.
const LOOKS_MAX: usize = 8;

/// Rows in order from a position on, unit by unit.
pub(crate) struct Page {
    walk: Walk,
    /// How far each owner is closed, if one of them holds the page up.
    held_up: Vec<(GroupId, Position)>,
    /// How far it may go.
    upto: Position,
    rows: u64,
    /// The groups that are read.
    ids: Vec<GroupId>,
}

impl Page {
    /// Opens the feed after a position. First it is seen how far everything is closed, then which
    /// owners there are to read: one whose first table became visible up to there is not passed
    /// over, even if it was on its way to the disk a moment ago.
    ///
    /// # Errors
    /// `Wait` while `doubts` names one of what is read; OW003 if nothing was ever known here of an
    /// owner that is asked for.
    ///
    /// It ends at `most` for these groups, if there is more.
    #[allow(clippy::too_many_arguments)]
    pub fn open(
        log: &dyn Log,
        newest: impl Fn() -> Arc<Catalog>,
        doubts: impl Fn(&[GroupId]) -> Option<GroupId>,
        groups: &Arc<Groups>,
        filter: Filter,
        after: Option<Position>,
        most: impl Fn(&[GroupId]) -> Position,
        interrupt: &Interrupt,
    ) -> std::result::Result<Page, Stop> {
        for _ in 0..LOOKS_MAX {
            let asked = filter.asked(&newest(), groups);
            let mut closed = log.closed(&asked, after, interrupt)?;
            let ids = filter.held(&newest(), groups);
            closed.upto = closed.upto.min(most(&ids));
            let counted = asked.read.iter().chain(&asked.wanted).chain(&asked.watched);
            let known = |id| counted.clone().any(|counted| counted == id);
            if !ids
                .iter()
                .all(|id| known(id) && !closed.left_out.contains(id))
            {
                continue;
            }
            check_vouched(&doubts, &ids)?;
            // What was in doubt before is in it now.
            let catalog = newest();
            if filter.held(&catalog, groups) != ids {
                continue;
            }
            let never = |(_, at): &&(GroupId, Position)| *at == Position::ZERO;
            if let Some((id, _)) = closed.held_up.iter().find(never) {
                return Err(unreachable(&catalog, *id).into());
            }
            let request = Request {
                filter: &filter,
                catalog: &catalog,
                groups: &ids,
                after,
                closed: closed.upto,
            };
            let units = log.read(&request, interrupt)?;
            let reading = Reading {
                catalog,
                groups: Arc::clone(groups),
                filter,
            };
            return Ok(Page {
                walk: Walk::new(reading, units),
                held_up: closed.held_up,
                upto: closed.upto,
                rows: 0,
                ids,
            });
        }
        let message = "owners come and go faster than the feed can be opened";
        Err(Error::new(state::SERIALIZATION_FAILURE, message).into())
    }

    /// Rows given so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next row; ends between units once `rows_max` are given. `between` is called before
    /// each unit with the groups that are read, also when it has no row for this reader; if it
    /// stops, the page goes on there when it is called again.
    pub fn next(
        &mut self,
        rows_max: u64,
        mut between: impl FnMut(&[GroupId]) -> std::result::Result<(), Stop>,
    ) -> std::result::Result<Option<Vec<Datum>>, Stop> {
        loop {
            if let Some(walked) = self.walk.next_row()? {
                let mut values = walked.row.values();
                values[LAST_IN_TX] = Datum::Bool(walked.last);
                self.rows += 1;
                return Ok(Some(values));
            }
            if self.rows >= rows_max {
                return Ok(None);
            }
            between(&self.ids)?;
            if !self.walk.next_unit()? {
                return Ok(None);
            }
        }
    }

    /// The next row as it is, and whether it is the last one of its entry.
    pub fn next_plain(&mut self) -> Result<Option<(FeedRow, bool)>> {
        loop {
            if let Some(walked) = self.walk.next_row()? {
                return Ok(Some((walked.row, walked.last)));
            }
            if !self.walk.next_unit()? {
                return Ok(None);
            }
        }
    }

    /// How far a consumer that has taken all rows has come: the end of what is closed, or the
    /// last unit if the page stopped at its limit.
    pub fn reached(&self, rows_max: u64) -> Position {
        match self.walk.position() {
            Some(position) if self.rows >= rows_max => position,
            _ => self.walk.units().closed(),
        }
    }

    /// If the page can't go on for now, as an owner that is asked for can't be reached: what a
    /// consumer is told, how far each one is closed.
    pub fn held_up(&self) -> Option<String> {
        let Reading {
            catalog,
            groups,
            filter,
        } = &self.walk.reading;
        let (lacks, upto) = (self.walk.units().lacks(), self.upto);
        let mut closed = self.held_up.clone();
        if lacks.is_some() && closed.is_empty() {
            let ids = filter.held(catalog, groups).into_iter();
            closed = ids.map(|id| (id, upto)).collect();
        }
        if closed.is_empty() {
            return None;
        }
        let of_owner = |(id, at): (GroupId, Position)| {
            let owner = catalog.owner_of_group(id)?;
            let at = match lacks == Some(id) {
                true => at.min(self.walk.units().closed()),
                false => at,
            };
            let name = Arc::from(catalog.role_name(owner).as_str());
            Some((name, Json::string(at.to_string())))
        };
        let owners = Json::object(closed.into_iter().filter_map(of_owner).collect());
        let mut out = Vec::new();
        Datum::Jsonb(Arc::new(owners)).write_text(
            Type::JSONB,
            &FormatSettings::default(),
            &mut out,
        );
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    /// For who has no row that could tell it.
    ///
    /// # Errors
    /// OW003 if there is more of an owner, and no node that has it answers.
    pub fn check_going(&self) -> Result<()> {
        match self.walk.units().lacks() {
            Some(id) => Err(unreachable(&self.walk.reading.catalog, id)),
            None => Ok(()),
        }
    }
}

/// Rows of these groups are given only by a node that knows what may be read of them.
///
/// # Errors
/// `Wait` until it does.
pub(super) fn check_vouched(
    doubts: impl Fn(&[GroupId]) -> Option<GroupId>,
    ids: &[GroupId],
) -> std::result::Result<(), Stop> {
    match doubts(ids) {
        None => Ok(()),
        Some(group) => Err(Stop::Wait(Wait::Doubt(group))),
    }
}

fn unreachable(catalog: &Catalog, group: GroupId) -> Error {
    let whose = match catalog.owner_of_group(group) {
        Some(owner) => format!("owner \"{}\"", catalog.role_name(owner)),
        None => "the directory".to_owned(),
    };
    let message = format!("the changes of {whose} can't be read now");
    Error::new(state::OWNER_UNREACHABLE, message)
        .detail("No node that has them answers.")
        .hint("Try again, or ask for the tables of other owners.")
}
