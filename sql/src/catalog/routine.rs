//! Descriptors of functions and of row triggers.
//!
//! A trigger is an object of its own, not a part of its table: one on a table that its owner only
//! follows belongs to the follower, whose group can't change the table's descriptor.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::GroupId;

use super::descriptor::{group, ty};
use super::{Acl, Catalog, ColumnId, RoleId, SchemaId, Table, TableId};
use crate::types::Type;

/// A function of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routine {
    /// `pg_proc.oid`.
    pub id: u32,
    /// Who may replace and drop it.
    pub owner: RoleId,
    /// The owner's group.
    #[serde(with = "group")]
    pub group: GroupId,
    /// Where its name lives.
    pub schema: SchemaId,
    /// Unique within the schema together with the types of its arguments.
    pub name: String,
    /// Its arguments in order; all are input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Argument>,
    /// What it gives back; `trigger` and `void` included.
    #[serde(with = "ty")]
    pub returns: Type,
    /// What `source` is written in.
    pub language: Language,
    /// The text behind AS.
    pub source: String,
    /// IMMUTABLE, STABLE or VOLATILE.
    #[serde(default)]
    pub volatility: Volatility,
    /// NULL for a NULL argument, without a call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Explicit grants; `None` = the owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl>,
    /// `COMMENT ON FUNCTION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// An argument of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its type, without a modifier.
    #[serde(with = "ty")]
    pub ty: Type,
    /// `DEFAULT`, as SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// The language of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// PL/pgSQL.
    Plpgsql,
    /// SQL statements.
    Sql,
}

/// What a function promises of its results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Volatility {
    /// The same for the same arguments, for ever.
    Immutable,
    /// The same within one statement; it writes nothing.
    Stable,
    /// Nothing.
    #[default]
    Volatile,
}

/// A row trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// `pg_trigger.oid`.
    pub id: u32,
    /// Whose it is.
    pub owner: RoleId,
    /// The owner's group.
    #[serde(with = "group")]
    pub group: GroupId,
    /// The table or view whose rows fire it.
    pub table: TableId,
    /// Unique among the table's triggers of one owner.
    pub name: String,
    /// `Routine::id` of its function.
    pub routine: u32,
    /// When it fires.
    pub timing: Timing,
    /// On what.
    pub events: Events,
    /// `UPDATE OF`; empty = any column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnId>,
    /// `WHEN`, as SQL text over `old` and `new`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// `TG_ARGV`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Does it fire?
    #[serde(default)]
    pub enabled: Enabled,
    /// `COMMENT ON TRIGGER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// On a followed table: the position from which on its entries fire it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// On a followed table: the group that had the table then. How far it has run is kept by it, wherever
    /// the table goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<u32>,
}

impl Trigger {
    /// By which group it is kept how far it has run, if it is on a followed table.
    pub fn source(&self, table: &Table) -> GroupId {
        self.source.map_or(table.group, GroupId)
    }

    /// Does it fire for rows of other owners' entries, rather than of its own one's?
    pub fn is_on_followed(&self) -> bool {
        self.after.is_some()
    }
}

/// When a trigger fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// Before the row is written; it may change or refuse it.
    Before,
    /// At the end of the statement.
    After,
    /// In place of a write into a view.
    InsteadOf,
}

/// What a trigger fires on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// INSERT.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insert: bool,
    /// UPDATE.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub update: bool,
    /// DELETE.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

/// ALTER TABLE ... ENABLE and DISABLE TRIGGER. Nothing here runs as a replica, so `Replica` never
/// fires and `Always` is `Origin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enabled {
    /// As it is created.
    #[default]
    Origin,
    /// Never.
    Disabled,
    /// ENABLE REPLICA.
    Replica,
    /// ENABLE ALWAYS.
    Always,
}

impl Enabled {
    /// Does it fire in a session?
    pub fn fires(self) -> bool {
        match self {
            Enabled::Origin | Enabled::Always => true,
            Enabled::Disabled | Enabled::Replica => false,
        }
    }

    /// `pg_trigger.tgenabled`.
    pub fn letter(self) -> u8 {
        match self {
            Enabled::Origin => b'O',
            Enabled::Disabled => b'D',
            Enabled::Replica => b'R',
            Enabled::Always => b'A',
        }
    }
}

impl Volatility {
    /// `pg_proc.provolatile`.
    pub fn letter(self) -> u8 {
        match self {
            Volatility::Immutable => b'i',
            Volatility::Stable => b's',
            Volatility::Volatile => b'v',
        }
    }
}

impl Language {
    /// As in CREATE FUNCTION.
    pub fn name(self) -> &'static str {
        match self {
            Language::Plpgsql => "plpgsql",
            Language::Sql => "sql",
        }
    }
}

impl Routine {
    /// `f(integer, text)`.
    pub fn signature(&self) -> String {
        self.signature_with(", ")
    }

    /// As `regprocedure` shows it: `f(integer,text)`.
    pub fn signature_with(&self, separator: &str) -> String {
        let types = self.arguments.iter().map(|argument| argument.ty.name());
        let types: Vec<String> = types.collect();
        format!("{}({})", self.name, types.join(separator))
    }

    /// Do its arguments have these types?
    pub fn takes(&self, types: &[Type]) -> bool {
        let own = self.arguments.iter().map(|argument| argument.ty.oid);
        own.eq(types.iter().map(|ty| ty.oid))
    }

    /// Is it a trigger's function?
    pub fn is_trigger(&self) -> bool {
        self.returns.oid == crate::types::kind::oid::TRIGGER
    }
}

impl Catalog {
    /// A function by OID.
    pub fn routine(&self, id: u32) -> Option<&Arc<Routine>> {
        self.routines.get(&id)
    }

    /// All functions of users by OID.
    pub fn routines(&self) -> impl Iterator<Item = &Arc<Routine>> {
        self.routines.values()
    }

    /// The functions of one name in a schema, whoever may see them.
    pub fn routines_named<'a>(
        &'a self,
        schema: SchemaId,
        name: &str,
    ) -> impl Iterator<Item = &'a Arc<Routine>> {
        let named = self.routine_names.get(&(schema, name.to_owned()));
        named
            .into_iter()
            .flatten()
            .filter_map(|id| self.routines.get(id))
    }

    /// Does the function exist for the role? It does for its owner, and for whom it was granted to.
    pub fn sees_routine(&self, role: RoleId, routine: &Routine) -> bool {
        if self.has_role(role, routine.owner) {
            return true;
        }
        let usable = self
            .schema(routine.schema)
            .is_some_and(|schema| self.uses_schema(role, schema));
        let granted = routine.acl.as_ref().is_some_and(|acl| {
            let granted = acl.granted(|grantee| self.inherits(role, grantee));
            granted.has(super::Privilege::Execute)
        });
        usable && granted
    }

    /// A trigger by OID.
    pub fn trigger(&self, id: u32) -> Option<&Arc<Trigger>> {
        self.triggers.get(&id)
    }

    /// All triggers by OID.
    pub fn triggers(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.triggers.values()
    }

    /// A table's triggers, in the order in which they fire: by name.
    pub fn triggers_of(&self, table: TableId) -> Vec<Arc<Trigger>> {
        let named = self.table_triggers.get(&table);
        let ids = named.into_iter().flatten();
        let mut all: Vec<Arc<Trigger>> = ids
            .filter_map(|id| self.triggers.get(id).cloned())
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The triggers of a group's owner on tables that it follows, each with its [`Trigger::source`].
    pub fn triggers_on_followed(&self, group: GroupId) -> Vec<(GroupId, Arc<Trigger>)> {
        let mine = |t: &&Arc<Trigger>| t.group == group && t.is_on_followed();
        let of = |t: &Arc<Trigger>| Some((t.source(self.table(t.table)?), Arc::clone(t)));
        self.triggers.values().filter(mine).filter_map(of).collect()
    }

    /// Does the trigger exist for the role? It is its owner's alone.
    pub fn sees_trigger(&self, role: RoleId, trigger: &Trigger) -> bool {
        self.has_role(role, trigger.owner)
    }

    pub(super) fn insert_routine(&mut self, routine: &Arc<Routine>) {
        self.routines.insert_mut(routine.id, Arc::clone(routine));
        let key = (routine.schema, routine.name.clone());
        let mut named = self.routine_names.get(&key).cloned().unwrap_or_default();
        named.push(routine.id);
        self.routine_names.insert_mut(key, named);
    }

    pub(super) fn remove_routine(&mut self, routine: &Routine, for_good: bool) {
        self.routines.remove_mut(&routine.id);
        let key = (routine.schema, routine.name.clone());
        let mut named = self.routine_names.get(&key).cloned().unwrap_or_default();
        named.retain(|id| *id != routine.id);
        match named.is_empty() {
            true => self.routine_names.remove_mut(&key),
            false => {
                self.routine_names.insert_mut(key, named);
                true
            }
        };
        if for_good && routine.schema == SchemaId::PUBLIC {
            self.reservations
                .remove_mut(&(routine.schema, routine.signature()));
        }
    }

    pub(super) fn insert_trigger(&mut self, trigger: &Arc<Trigger>) {
        self.triggers.insert_mut(trigger.id, Arc::clone(trigger));
        let of_table = self.table_triggers.get(&trigger.table).cloned();
        let mut of_table = of_table.unwrap_or_default();
        of_table.push(trigger.id);
        self.table_triggers.insert_mut(trigger.table, of_table);
    }

    pub(super) fn remove_trigger(&mut self, trigger: &Trigger) {
        self.triggers.remove_mut(&trigger.id);
        let of_table = self.table_triggers.get(&trigger.table).cloned();
        let mut of_table = of_table.unwrap_or_default();
        of_table.retain(|id| *id != trigger.id);
        match of_table.is_empty() {
            true => self.table_triggers.remove_mut(&trigger.table),
            false => {
                self.table_triggers.insert_mut(trigger.table, of_table);
                true
            }
        };
    }
}
