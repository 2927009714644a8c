//! TRUNCATE: the tables get new, empty trees, in the same entry as what else the transaction does.

use std::sync::Arc;

use super::draft::{Done, Draft, Work};
use crate::catalog::{Relation, Table, TableId, TableKind};
use crate::parse;
use crate::transaction::TableMode;
use crate::{Error, state};

impl Draft<'_> {
    pub fn truncate(&mut self, truncate: &parse::Truncate) -> Done<()> {
        let mut ids: Vec<TableId> = Vec::new();
        for name in &truncate.tables {
            let relation = self.relation(name)?;
            let table = match relation {
                Relation::Table(table) => table,
                Relation::Index(table, at) => {
                    return Err(Error::new(
                        state::WRONG_OBJECT_TYPE,
                        format!("\"{}\" is not a table", table.indexes[at].name),
                    )
                    .into());
                }
            };
            let privilege = crate::catalog::Privilege::Truncate;
            self.catalog.may(self.role, &table, privilege, None)?;
            if !table.is_ordinary() {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a table", table.name),
                )
                .into());
            }
            crate::catalog::check_changeable("truncate", &table)?;
            if !ids.contains(&table.id) {
                ids.push(table.id);
            }
        }
        self.add_referencing(&mut ids, truncate.cascade)?;
        for id in ids {
            let table = self.table(id)?;
            self.ground.lock(&table, TableMode::AccessExclusive)?;
            self.ask_about(&table);
            self.empty(&table)?;
            self.empty_projections(&table)?;
            if truncate.restart_identity {
                self.restart_sequences(id)?;
            }
        }
        Ok(())
    }

    /// Tables that reference one of these must be emptied too.
    fn add_referencing(&mut self, ids: &mut Vec<TableId>, cascade: bool) -> Done<()> {
        let mut at = 0;
        while at < ids.len() {
            let table = self.table(ids[at])?;
            at += 1;
            for (child, _) in &table.referenced_by {
                if ids.contains(child) || self.catalog.is_event(*child) {
                    continue;
                }
                let child = self.table(*child)?;
                if !cascade {
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        "cannot truncate a table referenced in a foreign key constraint",
                    )
                    .detail(format!(
                        "Table \"{}\" references \"{}\".",
                        child.name, table.name
                    ))
                    .hint(format!(
                        "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                        child.name
                    ))
                    .into());
                }
                self.notice(Error::new(
                    state::SUCCESSFUL_COMPLETION,
                    format!("truncate cascades to table \"{}\"", child.name),
                ));
                ids.push(child.id);
            }
        }
        Ok(())
    }

    /// Other owners may reference what goes.
    fn ask_about(&mut self, table: &Arc<Table>) {
        if !table.registered.is_empty() {
            let table = Arc::clone(table);
            self.work.push(Work::Ask { table });
        }
    }

    /// What is made of the table's rows goes with them.
    fn empty_projections(&mut self, base: &Table) -> Done<()> {
        let of = |other: &&Arc<Table>| other.projects(base.id);
        let found: Vec<Arc<Table>> = self.catalog.tables().filter(of).cloned().collect();
        for projection in found {
            self.ground.lock(&projection, TableMode::AccessExclusive)?;
            self.ask_about(&projection);
            self.empty(&projection)?;
        }
        Ok(())
    }

    fn empty(&mut self, old: &Arc<Table>) -> Done<()> {
        self.new_trees(old.id)?;
        let mut trees: Vec<u32> = old.indexes.iter().map(|i| i.tree).collect();
        trees.push(old.tree);
        trees.sort_unstable();
        trees.dedup();
        for tree in trees {
            self.work.push(Work::DropTree {
                group: old.group,
                tree,
            });
        }
        Ok(())
    }

    fn restart_sequences(&mut self, id: TableId) -> Done<()> {
        for sequence in self.owned_sequences(id, None) {
            let table = self.table(sequence)?;
            if let TableKind::Sequence(options) = &table.kind {
                self.work.push(Work::SetSequence {
                    group: table.group,
                    sequence,
                    last: options.start,
                    called: false,
                });
            }
        }
        Ok(())
    }
}
