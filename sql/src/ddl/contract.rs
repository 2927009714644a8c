//! What DDL may not take from those who use a contract: it grows, or is dropped when nobody needs it
//! any more.

use super::draft::{Done, Draft};
use crate::catalog::{Broken, Catalog, Object, Table, TableId, User};
use crate::engine::since_2000;
use crate::types::FormatSettings;
use crate::types::datetime::write_timestamptz;
use crate::{Error, Result, state};

fn time(at: u64) -> String {
    let mut out = Vec::new();
    write_timestamptz(since_2000(at), &FormatSettings::default(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// What a user does with a contract.
fn shown(catalog: &Catalog, user: &User) -> String {
    let role = catalog.role_name(user.role);
    match user.read {
        _ if user.references => format!("role \"{role}\" references it"),
        _ if user.follows => format!("role \"{role}\" follows it"),
        Some(at) => format!("role \"{role}\" read it last at {}", time(at)),
        None => format!("role \"{role}\" uses it"),
    }
}

impl Draft<'_> {
    /// What was decided takes nothing from those who use a contract, and makes nothing of an inbox
    /// or an event table that it can't be.
    ///
    /// # Errors
    /// OW004, 0A000.
    pub(super) fn check_contracts(&self) -> Result<()> {
        for change in self.changes() {
            if let Some(Object::Table(new)) = &change.new {
                super::event::check(&self.catalog, new)?;
            }
            if let (Some(Object::Table(old)), Some(Object::Table(new))) = (&change.old, &change.new)
            {
                self.check_contract(old, new)?;
                super::inbox::check_changed(old, new)?;
            }
        }
        Ok(())
    }

    fn check_contract(&self, old: &Table, new: &Table) -> Result<()> {
        if old.version().is_none() {
            return Ok(());
        }
        let mut broken = old.broken_by(new, &|one, other| one == other);
        // Another column may have come under the name of one that went.
        for column in old.live_columns() {
            if new
                .column(&column.name)
                .is_some_and(|now| now.id != column.id)
            {
                broken.push(Broken::Column(column.name.clone()));
            }
        }
        if broken.is_empty() {
            return Ok(());
        }
        let users = self.catalog.contract_users(old);
        if users.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = broken.iter().map(ToString::to_string).collect();
        lines.extend(users.iter().map(|user| shown(&self.catalog, user)));
        let message = format!("contract \"{}\" is in use: it may only grow", old.name);
        let next = self.catalog.next_version(old).unwrap_or_default();
        Err(Error::new(state::CONTRACT_IN_USE, message)
            .detail(lines.join("\n"))
            .hint(format!(
                "Create the next version, public.{next}, beside it, and drop this one when \
                 freehold.contracts shows no reader any more."
            )))
    }

    /// Nobody follows or lately reads the contracts among these tables.
    ///
    /// # Errors
    /// 2BP01.
    pub(super) fn check_unused(&self, ids: &[TableId]) -> Done<()> {
        for id in ids {
            let table = self.table(*id)?;
            if table.version().is_some() {
                self.check_unused_contract(&table)?;
            }
        }
        Ok(())
    }

    fn check_unused_contract(&self, table: &Table) -> Result<()> {
        let now = self.ground.now();
        let users = self.catalog.contract_users(table);
        let recent = users.iter().filter(|user| user.is_recent(now));
        let lines: Vec<String> = recent.map(|user| shown(&self.catalog, user)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let message = format!(
            "cannot drop {} {} because it is in use",
            crate::catalog::kind(table),
            self.display(table)
        );
        let state = state::DEPENDENT_OBJECTS_STILL_EXIST;
        Err(Error::new(state, message).detail(lines.join("\n")).hint(
            "Use DROP ... CASCADE to drop it all the same: its readers see its end in the feed.",
        ))
    }
}
