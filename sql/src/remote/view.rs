//! The reader's side: a view as a leaf of the plan.

use std::sync::Arc;

use storage::GroupId;

use super::{Answer, Compare, Condition, Ground, Held, Holds, Reading, Request, Rows};
use crate::catalog::{Catalog, RoleId, Table, TableKind};
use crate::cluster::Writer;
use crate::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use crate::transaction::{Stop, Wait};
use crate::types::{Datum, Type};
use crate::{Error, Result, state};

/// A view that is read where the group behind it is held.
pub(crate) struct View {
    /// Its descriptor.
    pub table: Arc<Table>,
    /// Its schema's name.
    pub schema: String,
    /// The group of all tables behind it.
    pub group: GroupId,
    /// Whose right to read it counts.
    pub reader: RoleId,
    /// The groups whose catalogs say what it shows.
    pub told_by: Vec<GroupId>,
}

/// What a view is to its readers: definition, owner, columns. Who may read it is not in it.
pub(crate) fn shape(view: &Table) -> Vec<u8> {
    let mut out = Writer::default();
    if let TableKind::View(view) = &view.kind {
        out.text(&view.definition);
    }
    out.u32(view.owner.0);
    for column in view.live_columns() {
        out.u32(column.id.0);
        out.text(&column.name);
        out.u32(column.ty.oid);
        out.u32(column.ty.modifier as u32);
    }
    out.0
}

impl SystemRelation for View {
    fn name(&self) -> (&str, &str) {
        (&self.schema, &self.table.name)
    }

    /// Those of the descriptor count.
    fn columns(&self) -> &[SystemColumn] {
        &[]
    }

    fn group(&self) -> Option<GroupId> {
        Some(self.group)
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let Some(ground) = cx.ground else {
            return Err(Error::internal("a view of another node needs a snapshot"));
        };
        let columns: Vec<_> = self.table.live_columns().collect();
        let types = cx.columns.iter().map(|column| columns[*column].ty);
        let mut coming = Coming {
            request: Some(self.request(ground, cx)),
            reading: None,
            interrupt: cx.environment.interrupt(),
            rows: Rows::default(),
            columns: cx.columns.to_vec(),
            types: types.collect(),
            width: columns.len(),
            reader: Arc::clone(cx.catalog),
            role: cx.role,
            group: self.group,
            kept: ground.kept,
            holds: Arc::clone(&ground.holds),
            engine: Arc::clone(&ground.engine),
        };
        Ok(Box::new(std::iter::from_fn(move || {
            coming.next().transpose()
        })))
    }
}

impl View {
    fn request(&self, ground: &Ground, cx: &SystemCx<'_>) -> Request {
        // There are at most 1,600 columns.
        let number = |column: usize| u16::try_from(column).unwrap_or(u16::MAX);
        let equal = cx.equal.iter().map(|(column, value)| Condition {
            column: number(*column),
            compare: Compare::Equal,
            value: value.clone(),
        });
        let above = cx.above.iter().map(|above| Condition {
            column: number(above.column),
            compare: match above.inclusive {
                true => Compare::From,
                false => Compare::Above,
            },
            value: above.value.clone(),
        });
        let known = self.told_by.iter();
        Request {
            group: self.group,
            at: ground.at,
            known: known.map(|id| (*id, cx.catalog.as_of(*id))).collect(),
            view: self.table.id,
            shape: shape(&self.table),
            reader: self.reader,
            columns: cx.columns.iter().map(|column| number(*column)).collect(),
            conditions: equal.chain(above).collect(),
            asker: cx.environment.asker(),
            started: ground.started,
            begun: ground.begun,
            holds: ground.kept,
        }
    }
}

/// Rows that come. Nobody is asked before the first one is wanted.
struct Coming {
    request: Option<Request>,
    reading: Option<Box<dyn Reading>>,
    interrupt: crate::changes::Interrupt,
    rows: Rows,
    /// Which columns come, of which types, and how many there are.
    columns: Vec<usize>,
    types: Vec<Type>,
    width: usize,
    reader: Arc<Catalog>,
    role: RoleId,
    group: GroupId,
    kept: bool,
    holds: Holds,
    engine: Arc<crate::engine::Engine>,
}

impl Coming {
    fn next(&mut self) -> std::result::Result<Option<SystemRow>, Stop> {
        loop {
            if let Some(row) = self.rows.next(&self.types)? {
                let mut full = vec![Datum::Null; self.width];
                for (column, value) in self.columns.iter().zip(row) {
                    full[*column] = value;
                }
                return Ok(Some(full));
            }
            if let Some(request) = self.request.take() {
                let near = self.holds.lock().get(&self.group).map(|held| held.node);
                let cluster = self.engine.cluster();
                let interrupt = Arc::clone(&self.interrupt);
                self.reading = Some(cluster.read_view(request, near, interrupt));
            }
            let Some(reading) = self.reading.as_mut() else {
                return Ok(None);
            };
            match reading.next()? {
                Answer::Rows(bytes) => self.rows = Rows::new(bytes)?,
                Answer::End => self.end(),
                // Between the reader's catalog and its snapshot lies nothing of the kind.
                Answer::Ahead(group, at) if self.kept || self.reader.as_of(group) >= at => {
                    return Err(changed().into());
                }
                // The next snapshot is newer, once more of the group is shown here.
                Answer::Ahead(group, _) => return Err(Stop::Wait(Wait::Cut(group))),
                Answer::Old(_) if self.kept => return Err(changed().into()),
                Answer::Old(_) => return Err(Stop::Wait(Wait::Cut(self.group))),
                Answer::Lost => return Err(lost().into()),
                Answer::Away(why) => return Err(self.away(&why).into()),
            }
        }
    }

    /// What was read stays readable until the transaction ends.
    fn end(&mut self) {
        let reading = self.reading.take();
        if let Some(reading) = reading.filter(|_| self.kept) {
            let held: Option<Held> = reading.hold();
            let mut holds = self.holds.lock();
            if let (Some(held), None) = (held, holds.get(&self.group)) {
                holds.insert(self.group, held);
            }
        }
    }

    /// OW003. The owner is named to who may know it.
    fn away(&self, why: &str) -> Error {
        let owner = self.reader.owner_of_group(self.group);
        let owner = owner.filter(|_| self.reader.reads_group(self.role, self.group));
        let whose = match owner {
            Some(owner) => format!("a view of owner \"{}\"", self.reader.role_name(owner)),
            None => "a view of another owner".to_owned(),
        };
        Error::new(state::OWNER_UNREACHABLE, format!("{whose} can't be read"))
            .detail(format!("Its rows are made on other nodes: {why}."))
            .hint("Look at freehold.nodes, and try again.")
    }
}

/// 40001.
fn changed() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: a view of another owner can't be read any more as of the \
         transaction's snapshot",
    )
    .hint("Run the transaction again.")
}

/// 40001.
fn lost() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: the node that gave a view's rows was lost",
    )
    .hint("Run the transaction again.")
}
