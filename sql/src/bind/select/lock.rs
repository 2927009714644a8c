//! FOR UPDATE and its kin: which rows of which tables are locked, and how.

use sqlparser::ast;

use crate::bind::Binder;
use crate::bind::scope::{Range, Scope};
use crate::bind::syntax::LOCK;
use crate::catalog::Privilege;
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr};
use crate::plan::{Rel, RowLock};
use crate::transaction::{Policy, RowMode, TableMode};
use crate::types::Type;

impl Binder<'_> {
    pub(super) fn lock_specs(&self, locks: &[ast::LockClause]) -> Result<Vec<LockSpec>> {
        locks
            .iter()
            .map(|lock| {
                let mut mode = match lock.lock_type {
                    ast::LockType::Share => RowMode::Share,
                    ast::LockType::Update => RowMode::Update,
                };
                let mut tables = match &lock.of {
                    Some(name) => self.name_parts(name)?,
                    None => Vec::new(),
                };
                if let Some(strength) = tables.first().and_then(|name| name.strip_prefix(LOCK)) {
                    mode = match strength {
                        "no key update" => RowMode::NoKeyUpdate,
                        "key share" => RowMode::KeyShare,
                        "share" => RowMode::Share,
                        _ => RowMode::Update,
                    };
                    tables.remove(0);
                }
                let policy = match lock.nonblock {
                    None => Policy::Wait,
                    Some(ast::NonBlock::Nowait) => Policy::NoWait,
                    Some(ast::NonBlock::SkipLocked) => Policy::SkipLocked,
                };
                Ok(LockSpec {
                    mode,
                    policy,
                    tables,
                })
            })
            .collect()
    }

    pub(super) fn locked(
        &mut self,
        mut rel: Rel,
        specs: Vec<LockSpec>,
        level: &Scope<'_>,
        refused: Option<&str>,
    ) -> Result<Rel> {
        if let Some(place) = refused {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("{} is not allowed with {place}", specs[0].words()),
            ));
        }
        self.locks_rows = true;
        let mut locks: Vec<RowLock> = Vec::new();
        for spec in &specs {
            for name in &spec.tables {
                if !level.ranges.iter().any(|range| range.alias == *name) {
                    return Err(Error::new(
                        state::UNDEFINED_TABLE,
                        format!(
                            "relation \"{name}\" in FOR UPDATE clause not found in FROM clause"
                        ),
                    ));
                }
            }
            for range in &level.ranges {
                let named = spec.tables.contains(&range.alias);
                if !spec.tables.is_empty() && !named {
                    continue;
                }
                if let Some(lock) = self.lock_range(&mut rel, range, spec)?
                    && !locks.iter().any(|other| other.key == lock.key)
                {
                    locks.push(lock);
                }
            }
        }
        Ok(Rel::Lock {
            input: Box::new(rel),
            locks,
        })
    }

    pub(super) fn lock_range(
        &mut self,
        rel: &mut Rel,
        range: &Range,
        spec: &LockSpec,
    ) -> Result<Option<RowLock>> {
        let Some(table) = range.table.clone() else {
            return Ok(None);
        };
        if !table.is_ordinary() {
            self.may_lock(&table, spec.words())?;
            return Ok(None);
        }
        let access = self.needs(&table, Privilege::Update);
        self.touch_table(access);
        self.uses(&table, TableMode::RowShare);
        let own: Vec<ColumnRef> = range
            .columns
            .iter()
            .filter_map(|column| match column.expr {
                Expr::Column { column, .. } => Some(column),
                _ => None,
            })
            .collect();
        let key = self.column("ctid", Type::BYTEA).id;
        let mut found = None;
        key_of_scan(rel, &own, key, &mut found).map_err(|AsItWas| {
            let message = format!(
                "{} cannot be applied to table \"{}\" as it was",
                spec.words(),
                range.alias
            );
            Error::new(state::FEATURE_NOT_SUPPORTED, message)
                .detail("FOR SYSTEM_TIME AS OF reads rows that do not change any more.")
                .hint("FOR UPDATE OF names the tables whose rows are locked.")
        })?;
        Ok(found.map(|key| RowLock {
            table,
            alias: range.alias.clone(),
            key,
            mode: spec.mode,
            policy: spec.policy,
        }))
    }
}

/// A row lock clause, read.
pub(super) struct LockSpec {
    mode: RowMode,
    policy: Policy,
    tables: Vec<String>,
}

impl LockSpec {
    /// As written.
    fn words(&self) -> &'static str {
        match self.mode {
            RowMode::KeyShare => "FOR KEY SHARE",
            RowMode::Share => "FOR SHARE",
            RowMode::NoKeyUpdate => "FOR NO KEY UPDATE",
            RowMode::Update => "FOR UPDATE",
        }
    }
}

/// `SELECT FOR UPDATE` and its kin, by the strength of the first FOR clause.
pub fn row_lock_name(locks: &[ast::LockClause]) -> &'static str {
    let Some(lock) = locks.first() else {
        return "SELECT";
    };
    let first = lock.of.as_ref().and_then(|name| name.0.first());
    let mark = first.and_then(|part| part.as_ident());
    match mark.and_then(|ident| ident.value.strip_prefix(LOCK)) {
        Some("no key update") => "SELECT FOR NO KEY UPDATE",
        Some("key share") => "SELECT FOR KEY SHARE",
        Some("share") => "SELECT FOR SHARE",
        _ => "SELECT FOR UPDATE",
    }
}

/// Makes the scan that produces one of `own` give its row key too.
fn key_of_scan(
    rel: &mut Rel,
    own: &[ColumnRef],
    key: ColumnRef,
    found: &mut Option<ColumnRef>,
) -> std::result::Result<(), AsItWas> {
    if let Rel::Scan(scan) = rel {
        if scan
            .columns
            .iter()
            .any(|(_, column)| own.contains(&column.id))
        {
            if scan.as_of.is_some() {
                return Err(AsItWas);
            }
            *found = Some(*scan.key.get_or_insert(key));
        }
        return Ok(());
    }
    let mut done = Ok(());
    rel.for_each_input_mut(&mut |input| {
        done = done.and_then(|()| key_of_scan(input, own, key, found));
    });
    done
}

/// The table is read as it was.
#[derive(Clone, Copy)]
struct AsItWas;
