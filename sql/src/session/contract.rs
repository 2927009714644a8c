//! Reading other owners' contracts: it is noted that they are in use, and their readers are told when
//! they end.

use super::Session;
use crate::Error;
use crate::catalog::{Catalog, RoleId, Table};
use crate::plan::Planned;

impl Session {
    /// Notes that contracts are in use.
    pub(super) fn note_reads(&self, planned: &Planned) {
        for (reader, contract) in &planned.contracts {
            self.engine.note_read(*reader, *contract);
        }
    }

    /// Tells, once in a session, of contracts that end.
    pub(super) fn tell_sunsets(&mut self, planned: &Planned) {
        let Some(tx) = self.transaction.as_mut() else {
            return;
        };
        for (reader, id) in &planned.contracts {
            let catalog = tx.catalog();
            let Some(table) = catalog.table(*id) else {
                continue;
            };
            let Some(notice) = sunset(catalog, *reader, table) else {
                continue;
            };
            if self.sunsets.insert(*id) {
                tx.notice(notice);
            }
        }
    }
}

/// What readers of a contract that ends are told.
fn sunset(catalog: &Catalog, reader: RoleId, table: &Table) -> Option<Error> {
    let end = table.options.get("sunset")?;
    let message = format!("contract \"{}\" ends on {end}", table.name);
    let notice = Error::new(crate::state::SUCCESSFUL_COMPLETION, message);
    let next = table.version()?.next();
    let found = catalog.relation_by_name(table.schema, &next);
    // What the reader may not see does not exist for him.
    let there = found.is_some_and(|next| {
        let next = next.table();
        next.owner == table.owner && next.version().is_some() && catalog.sees(reader, next)
    });
    Some(match there {
        true => notice.hint(format!("Its next version is public.{next}.")),
        false => notice,
    })
}
