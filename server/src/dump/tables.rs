//! `freehold dump tables`: a line per tree, with --rows one per row.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use clap::Args;
use journal::GroupId;
use serde_json::Value;
use sql::catalog::{self, Catalog, Table};
use storage::{Direction, Group, TreeId};

use super::line::{Line, Out};
use super::{Common, hex};
use crate::Failure;
use crate::stopped::{Stopped, Tables};

/// The system's trees.
const SYSTEM_TREES: [(u32, &str); 20] = [
    (catalog::TREE_DESCRIPTORS, "system.descriptors"),
    (catalog::TREE_HISTORY, "system.former-descriptors"),
    (storage::system::OUTCOMES, "system.outcomes"),
    (catalog::TREE_SEQUENCES, "system.sequences"),
    (catalog::TREE_TREES, "system.trees"),
    (catalog::TREE_ROLES, "system.roles"),
    (catalog::TREE_MEMBERSHIPS, "system.memberships"),
    (catalog::TREE_OWNERS, "system.owners"),
    (catalog::TREE_RESERVATIONS, "system.reservations"),
    (catalog::TREE_OIDS, "system.oids"),
    (storage::system::PARKED, "system.parked"),
    (storage::system::TRIGGER_CURSORS, "system.trigger-cursors"),
    (storage::system::FENCED, "system.fenced"),
    (storage::system::PREPARED, "system.prepared"),
    (storage::system::INTENTS, "system.intents"),
    (storage::system::LOCKS, "system.locks"),
    (storage::system::LEDGER, "system.removed"),
    (storage::system::ERASURES, "system.erasures"),
    (storage::system::KEPT_TREES, "system.kept-trees"),
    (storage::system::DROPPED_TREES, "system.dropped-trees"),
];

/// Which tables.
#[derive(Args, Clone, Debug)]
pub struct TablesFlags {
    #[command(flatten)]
    common: Common,
    /// Of this group only.
    #[arg(long, value_name = "N")]
    group: Option<u32>,
    /// The tables and indexes of this name only, as in `orders.order` or `order`.
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// A line for each row, too.
    #[arg(long)]
    rows: bool,
}

/// Prints the trees.
pub fn dump(flags: &TablesFlags) -> Result<bool, Failure> {
    let (stopped, mut out) = flags.common.open()?;
    let tables = replayed(&stopped)?;
    let names = Names::from(&tables);
    for tree in tables.groups.store().trees() {
        let name = names.name(tree.group, tree.number);
        let asked = flags.table.as_deref().is_none_or(|asked| {
            name == asked
                || name
                    .rsplit_once('.')
                    .is_some_and(|(_, short)| short == asked)
        });
        let group = tables.groups.get(tree.group);
        let Some(group) = group.filter(|_| asked && flags.group.is_none_or(|g| g == tree.group.0))
        else {
            continue;
        };
        if !print(flags, &names, &mut out, &group, &tables, tree)? {
            break;
        }
    }
    out.end()
}

/// The tables as a start would find them.
fn replayed(stopped: &Stopped) -> Result<Tables, Failure> {
    let tables = Tables::open(stopped.image()?, stopped)?;
    tables.replay(&stopped.journal()?)?;
    tables.load()?;
    Ok(tables)
}

fn print(
    flags: &TablesFlags,
    names: &Names,
    out: &mut Out,
    group: &Group,
    tables: &Tables,
    tree: TreeId,
) -> Result<bool, Failure> {
    let name = names.name(tree.group, tree.number);
    let all = (Bound::Unbounded, Bound::Unbounded);
    let line = Line::default()
        .with("group", tree.group.0)
        .with("tree", tree.number)
        .with("name", name.clone())
        .maybe("owner", names.owner(tree.group));
    let mut rows = 0_u64;
    for row in group.scan(tree.number, all, group.applied(), Direction::Forward)? {
        let (key, value) = match row {
            Ok(row) => row,
            Err(error) => return out.damage(line, error),
        };
        rows += 1;
        if flags.rows {
            let line = Line::default()
                .with("name", name.clone())
                .with("key", hex(&key))
                .with("row", names.row(tree.group, tree.number, &value));
            if !out.line(&line)? {
                return Ok(false);
            }
        }
    }
    let bytes = tables.groups.store().disk_bytes(tree);
    out.line(
        &line
            .with("rows", rows)
            .with("bytes", bytes)
            .shown("position", group.applied()),
    )
}

/// What trees are called, as the catalogs say at the end of the journal.
#[derive(Default)]
pub struct Names {
    trees: BTreeMap<(GroupId, u32), String>,
    tables: BTreeMap<(GroupId, u32), Arc<Table>>,
    owners: BTreeMap<GroupId, String>,
}

impl Names {
    /// Of a node; none if its tables can't be read.
    pub fn of(stopped: &Stopped) -> Names {
        replayed(stopped).map_or_else(|_| Names::default(), |tables| Names::from(&tables))
    }

    fn from(tables: &Tables) -> Names {
        let catalog: Arc<Catalog> = tables.engine.catalog();
        let mut names = Names::default();
        for table in catalog.tables().filter(|table| table.tree != 0) {
            let schema = catalog.schema_name(table.schema);
            let place = |tree| (table.group, tree);
            for index in &table.indexes {
                let name = format!("{schema}.{}", index.name);
                names.trees.insert(place(index.tree), name);
            }
            let name = format!("{schema}.{}", table.name);
            names.trees.insert(place(table.tree), name);
            names.tables.insert(place(table.tree), table.clone());
        }
        for (role, group) in catalog.owners() {
            names.owners.insert(group, catalog.role_name(role));
        }
        names
    }

    /// `schema.name`, or what kind of tree it is.
    pub fn name(&self, group: GroupId, tree: u32) -> String {
        let system = || SYSTEM_TREES.iter().find(|(number, _)| *number == tree);
        match self.trees.get(&(group, tree)) {
            Some(name) => name.clone(),
            None => match (system(), storage::system::of_keys(tree)) {
                (Some((_, name)), _) => (*name).into(),
                (None, Some(of)) => format!("keys of {}", self.name(group, of)),
                (None, None) => format!("tree-{tree}"),
            },
        }
    }

    /// The owner whose group it is.
    fn owner(&self, group: GroupId) -> Option<String> {
        self.owners.get(&group).cloned()
    }

    /// A row as an object by column name; of trees that are no tables, the bytes.
    pub fn row(&self, group: GroupId, tree: u32, bytes: &[u8]) -> Value {
        let table = self.tables.get(&(group, tree));
        let row = table.and_then(|table| sql::changes::row_text(table, bytes).ok());
        let parsed = row.and_then(|text| serde_json::from_str(&text).ok());
        parsed
            .or_else(|| descriptor(bytes))
            .unwrap_or_else(|| Value::String(hex(bytes)))
    }
}

/// A descriptor of the catalog: format, kind, JSON. What passwords are checked with stays out of
/// a text that is made to be passed on.
fn descriptor(bytes: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(bytes.get(2..)?).ok()?;
    if let Some(verifier) = value.as_object_mut()?.get_mut("verifier") {
        *verifier = "(not shown)".into();
    }
    Some(value)
}
