//! ALTER TABLE ... OWNER TO as a statement: who may, and the wish. Then it waits for the end of the move,
//! which needs neither it nor its session.

use std::sync::Arc;

use storage::GroupId;

use super::{being_moved, check_movable};
use crate::catalog::{self, Catalog, Change, Moving, Object, RoleId, Table, TableId, TableKind};
use crate::engine::Led;
use crate::exec::ExecCx;
use crate::transaction::{Identity, Isolation, Stop, Transaction, Wait};
use crate::{Error, Result, state};

/// The statement looks so often how far the move has come, in microseconds.
const LOOK_EVERY: u64 = 20_000;

/// A move that a statement has begun, or found under way.
pub(crate) struct Moved {
    table: TableId,
    name: String,
    /// Owners it had before the present one.
    former: usize,
    to: RoleId,
}

/// May the role give the table to another owner, and may that have it?
///
/// # Errors
/// 42501, PostgreSQL's; what the table can't be moved with.
pub(crate) fn check(catalog: &Catalog, role: RoleId, table: &Table, to: RoleId) -> Result<()> {
    let name = catalog.role_name(to);
    let denied = |message| Error::new(state::INSUFFICIENT_PRIVILEGE, message);
    if !catalog.is_member(role, to) {
        return Err(denied(format!("must be member of role \"{name}\"")));
    }
    let schema = catalog.schema(table.schema);
    let schema = schema.ok_or_else(|| Error::internal("a table's schema is not there"))?;
    let makes = match schema.id {
        catalog::SchemaId::PUBLIC => {
            let own = catalog.schema_privileges(to, schema);
            own.has(catalog::Privilege::Create)
        }
        _ => schema.owner == to,
    };
    if !makes {
        let error = denied(format!("permission denied for schema {}", schema.name));
        return Err(match schema.id {
            catalog::SchemaId::PUBLIC => error,
            _ => error
                .detail(format!(
                    "Its tables are all its owner's, and \"{name}\" is not."
                ))
                .hint("ALTER TABLE ... SET SCHEMA public first."),
        });
    }
    check_movable(catalog, table)
}

/// Wishes for the move, in an entry of its own, unless it is under way already.
///
/// # Errors
/// 55006 if it is on its way to another one; `Wait` until the wish is there.
pub(crate) fn begin(table: &Arc<Table>, to: RoleId, cx: &mut ExecCx<'_>) -> Stop {
    match wish(table, to, cx) {
        Ok(wait) => {
            cx.transaction.moved = Some(Moved {
                table: table.id,
                name: table.name.clone(),
                former: table.former.len(),
                to,
            });
            Stop::Wait(wait)
        }
        Err(stop) => stop,
    }
}

fn wish(table: &Arc<Table>, to: RoleId, cx: &mut ExecCx<'_>) -> std::result::Result<Wait, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    let group = table.group;
    match table.moving {
        None => {}
        Some(Moving::Leaving { to: wished } | Moving::Left { to: wished }) if wished == to => {
            return Ok(Wait::Again);
        }
        Some(_) => return Err(being_moved(table).into()),
    }
    let other = engine.have_group(to)?;
    if engine.groups().get(other).is_none() && engine.led(other) == Led::Nowhere {
        // It is made now, where its place is.
        engine.owner_group(to)?;
    }
    let mut step = Transaction::new(&engine, Isolation::ReadCommitted, false, false);
    step.begin_statement(None, &[GroupId::DIRECTORY, group], Some(group))?;
    if !step.is_of(cx.transaction.catalog()) {
        return Err(Stop::again());
    }
    let leaving = Table {
        moving: Some(Moving::Leaving { to }),
        since: step.position(group)?,
        ..Table::clone(table)
    };
    let (old, new) = (Arc::clone(table), Arc::new(leaving));
    let change = Change::replace(group, Object::Table(old), Object::Table(new));
    for row in catalog::rows(&change) {
        step.write_system(group, row.tree, row.key, row.value)?;
    }
    let setting = cx.evaluation.environment.setting("application_name");
    let identity = Identity {
        role: cx.role,
        login: cx.catalog.role_name(cx.login),
        application_name: setting.unwrap_or_default(),
        trace: String::new(),
    };
    let committed = step.commit(&identity)?;
    Ok(match committed.entry {
        Some((group, position)) => Wait::Position(group, position),
        None => Wait::Again,
    })
}

/// Waits until the table is the new owner's for good.
///
/// # Errors
/// `Wait` until then; 55000 if the move was ended.
pub(crate) fn await_end(moved: Moved, cx: &mut ExecCx<'_>) -> std::result::Result<(), Stop> {
    let catalog = Arc::clone(cx.transaction.catalog());
    let table = catalog.table(moved.table);
    let under_way = match table {
        Some(table) if table.former.len() == moved.former => table.goes_to() == Some(moved.to),
        Some(table) => {
            // It may have gone on from there since, or come back.
            let came = table.former.get(moved.former + 1).unwrap_or(&table.group);
            let there = catalog.group_of(moved.to) == Some(*came);
            let settles = came == &table.group && table.moving == Some(Moving::Arrived);
            if there && !settles {
                return Ok(());
            }
            there
        }
        None => false,
    };
    if under_way {
        let now = cx.transaction.engine().clock().unix_micros();
        cx.transaction.moved = Some(moved);
        return Err(Stop::Wait(Wait::Until(now + LOOK_EVERY)));
    }
    // What has come between says so itself.
    if let Some(table) = table {
        check_movable(&catalog, table)?;
    }
    let name = moved.name;
    let message = format!("the move of table \"{name}\" to another owner was ended");
    Err(Error::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message).into())
}

/// 0A000: only tables move, with what is theirs.
pub(crate) fn stays(catalog: &Catalog, relation: &Table) -> Error {
    match &relation.kind {
        TableKind::Sequence(options) => {
            let message = format!("cannot change owner of sequence \"{}\"", relation.name);
            let error = Error::new(state::FEATURE_NOT_SUPPORTED, message);
            let of = options.owned_by.and_then(|(table, _)| catalog.table(table));
            match of {
                Some(table) => error.detail(format!(
                    "Sequence \"{}\" is linked to table \"{}\".",
                    relation.name, table.name
                )),
                None => error.hint("ALTER SEQUENCE ... OWNED BY a column: it goes with the table."),
            }
        }
        TableKind::Table | TableKind::View(_) | TableKind::System => {
            let what = catalog::kind(relation);
            Error::unsupported(format!("changing the owner of a {what}"))
                .hint("Create it as the other role.")
        }
    }
}
