//! Running a statement inside the statement that called the function: with its snapshot, in its
//! transaction, as its role.
//!
//! A client's statement takes its snapshot before it knows what its functions will read and write.
//! What they turn out to need is noted in the transaction, and the statement begins again with
//! it, so that there is one causally closed snapshot for all of it ([`Transaction::also`]).

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::exec::{self, ExecCx, Operator, Row};
use crate::parse::Ddl;
use crate::plan::{BindCx, Planned, Tag};
use crate::transaction::{Policy, Stop, TableMode, Transaction, Wait};
use crate::types::Datum;
use crate::{Error, Result, ddl, state};
use storage::GroupId;

/// A running statement.
pub(super) struct Running {
    pub planned: Arc<Planned>,
    operator: Box<dyn Operator>,
    catalog: Arc<Catalog>,
}

impl Running {
    /// Opens a plan. `writes`: may it write?
    ///
    /// # Errors
    /// 25006 and 0A000 for writes where there may be none; waits for what it needs.
    pub fn open(
        planned: Arc<Planned>,
        parameters: Arc<[Datum]>,
        writes: bool,
        cx: &mut ExecCx<'_>,
    ) -> std::result::Result<Running, Stop> {
        check_writes(&planned, writes, cx.transaction)?;
        prepare(&planned, cx)?;
        let catalog = Arc::clone(cx.transaction.catalog());
        let operator = cx.beside(&catalog, None, |cx| exec::open(&planned, parameters, cx))?;
        Ok(Running {
            planned,
            operator,
            catalog,
        })
    }

    /// The next row.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn next(&mut self, cx: &mut ExecCx<'_>) -> std::result::Result<Option<Row>, Stop> {
        let Running {
            operator, catalog, ..
        } = self;
        match cx.beside(catalog, None, |cx| operator.next(cx)) {
            Err(Stop::Pause(_)) => {
                Err(Error::unsupported("waiting for the feed in a function").into())
            }
            other => other,
        }
    }

    /// Rows written.
    pub fn affected(&self) -> u64 {
        self.operator.affected()
    }
}

/// `INSERT is not allowed in a non-volatile function` (0A000), and 25006.
fn check_writes(planned: &Planned, writes: bool, tx: &Transaction) -> Result<()> {
    if planned.writes.is_none() && !planned.locks_rows {
        return Ok(());
    }
    let command = match planned.tag {
        Tag::Insert => "INSERT",
        Tag::Update => "UPDATE",
        Tag::Delete => "DELETE",
        Tag::Erase => "ERASE",
        Tag::Select => "SELECT FOR UPDATE",
    };
    check_command(command, writes, tx)
}

fn check_command(command: &str, writes: bool, tx: &Transaction) -> Result<()> {
    if tx.read_only() {
        let message = format!("cannot execute {command} in a read-only transaction");
        return Err(Error::new(state::READ_ONLY_SQL_TRANSACTION, message));
    }
    if !writes {
        let message = format!("{command} is not allowed in a non-volatile function");
        return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
    }
    Ok(())
}

/// Locks the tables and sees to it that the snapshot has their groups.
fn prepare(planned: &Planned, cx: &mut ExecCx<'_>) -> std::result::Result<(), Stop> {
    let role = cx.role;
    let tx = &mut *cx.transaction;
    let mut groups: Vec<GroupId> = planned.remote.clone();
    for table in &planned.tables {
        let leads = tx.leads(table.group);
        if leads {
            tx.lock_table(table.group, table.tree, table.mode, Policy::Wait)?;
        } else if table.mode != TableMode::AccessShare {
            tx.may_write(planned.writes)?;
            return Err(Stop::Wait(Wait::Leader(table.group)));
        } else {
            let reader = tx.reader(role, table);
            tx.bring(reader, table.group, table.tree)?;
        }
        if !groups.contains(&table.group) {
            groups.push(table.group);
        }
    }
    let writes = planned.writes.or_else(|| match planned.locks_rows {
        true => groups.first().copied(),
        false => None,
    });
    tx.may_write(planned.writes)?;
    tx.also(&groups, writes)?;
    if tx.keeps_snapshot() {
        for table in &planned.tables {
            tx.check_unchanged(table.group, table.table)?;
        }
    }
    for (reader, contract) in &planned.contracts {
        tx.engine().note_read(*reader, *contract);
    }
    Ok(())
}

/// Carries out DDL.
///
/// # Errors
/// PostgreSQL's; waits for what it needs.
pub(super) fn run_ddl(
    ddl: &Ddl,
    writes: bool,
    cx: &mut ExecCx<'_>,
) -> std::result::Result<(), Stop> {
    check_command("DDL", writes, cx.transaction)?;
    let catalog = Arc::clone(cx.transaction.catalog());
    let own = catalog.group_of(cx.role);
    let held = own.filter(|id| cx.transaction.engine().groups().get(*id).is_some());
    let home = cx.transaction.writing().or(held);
    let home = home.filter(|id| cx.transaction.leads(*id));
    let groups: Vec<GroupId> = std::iter::once(GroupId::DIRECTORY).chain(home).collect();
    cx.transaction.also(&groups, home)?;
    let engine = Arc::clone(cx.transaction.engine());
    let format = cx.evaluation.format;
    let bind = BindCx {
        role: cx.role,
        login: cx.login,
        path: cx.path,
        text: "",
        parameter_types: &[],
        format,
        registry: engine.as_ref(),
        variables: None,
    };
    cx.beside(&catalog, None, |cx| ddl::execute(ddl, &bind, cx))
        .map(drop)
}
