//! `freehold.retry(id)` and `freehold.skip(id)`: what becomes of a command or a trigger that was set
//! aside.

use std::sync::Arc;

use super::parked::{self, What};
use crate::exec::ExecCx;
use crate::plan::{Argument, RowSource, SystemFunction};
use crate::system::SystemColumn;
use crate::transaction::{Locks, Stop};
use crate::types::{Datum, Type};
use crate::{Error, state};

/// All functions of commands.
pub(crate) fn functions() -> Vec<Arc<dyn SystemFunction>> {
    let function = |name, retries| -> Arc<dyn SystemFunction> {
        let id = Argument {
            name: "id",
            ty: Type::INT8,
            default: None,
        };
        Arc::new(Unpark {
            name,
            retries,
            arguments: [id],
        })
    };
    let mut all = super::call::functions();
    all.extend([function("retry", true), function("skip", false)]);
    all
}

/// The command's number among those of its sender, or the row's in its entry.
const COLUMNS: &[SystemColumn] = &[SystemColumn {
    name: "number",
    ty: Type::INT8,
    not_null: true,
}];

/// Takes a command out of those that are set aside, with the caller's transaction.
struct Unpark {
    name: &'static str,
    /// It is put into its inbox, rather than forgotten.
    retries: bool,
    arguments: [Argument; 1],
}

impl SystemFunction for Unpark {
    fn name(&self) -> (&str, &str) {
        ("freehold", self.name)
    }

    fn arguments(&self) -> &[Argument] {
        &self.arguments
    }

    fn writes(&self) -> bool {
        true
    }

    fn columns(&self) -> &[SystemColumn] {
        COLUMNS
    }

    fn open(&self, arguments: &[Datum], cx: &mut ExecCx<'_>) -> Result<Box<dyn RowSource>, Stop> {
        let Some(Datum::Int8(id)) = arguments.first() else {
            let message = "id must not be null";
            return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into());
        };
        let missing = || {
            Error::new(
                state::UNDEFINED_OBJECT,
                format!("nothing is parked as {id}"),
            )
            .hint("Look at freehold.parked.")
        };
        let home = cx.catalog.group_of(cx.role).ok_or_else(missing)?;
        let id = u64::try_from(*id).map_err(|_| missing())?;
        // A read has no mark of its own to go back to when it has to begin again.
        let mark = cx.transaction.statement_mark();
        let done = self.unpark(home, id, cx);
        if done.is_err() {
            cx.transaction.undo_to(&mark, Locks::Keep)?;
        }
        cx.transaction.unmark();
        let unparked = done?.ok_or_else(missing)?;
        // Of a command its number, of a row its number in the entry.
        let number = match unparked {
            What::Command { number, .. } => number as i64,
            What::Trigger(row) => i64::from(row.seq),
        };
        Ok(Box::new(One::new(Datum::Int8(number))))
    }
}

impl Unpark {
    fn unpark(
        &self,
        home: storage::GroupId,
        id: u64,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<What>, Stop> {
        cx.transaction.writes_to(home)?;
        let Some(what) = parked::unpark(home, id, cx.transaction)? else {
            return Ok(None);
        };
        if self.retries {
            what.again(home, id, cx)?;
        }
        Ok(Some(what))
    }
}

/// One row of one column.
pub(super) struct One(Option<Vec<Datum>>);

impl One {
    /// This value.
    pub fn new(value: Datum) -> One {
        One(Some(vec![value]))
    }
}

impl RowSource for One {
    fn next(&mut self, _cx: &mut ExecCx<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        Ok(self.0.take())
    }
}
