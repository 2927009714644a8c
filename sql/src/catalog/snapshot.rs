//! The catalog as of one moment: immutable, cheap to clone and to derive (persistent maps).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rpds::RedBlackTreeMapSync as Map;
use storage::{GroupId, Position};

use super::{
    Change, Follow, Followed, Index, LastRead, Membership, Node, Object, PatternGrant, Placement,
    Reservation, Role, RoleId, Routine, Schema, SchemaId, Table, TableId, Trigger,
};
use crate::{Error, Result, state};

/// Names that the one database answers to, besides the role's own name.
pub const DATABASE_NAMES: [&str; 2] = ["freehold", "postgres"];

/// Everything that exists, as of one position per group. Cloning copies no descriptor.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) version: u64,
    pub(super) as_of: Map<GroupId, Position>,
    pub(super) roles: Map<RoleId, Arc<Role>>,
    pub(super) role_names: Map<String, RoleId>,
    /// By (member, role).
    pub(super) memberships: Map<(RoleId, RoleId), Membership>,
    pub(super) schemas: Map<SchemaId, Arc<Schema>>,
    pub(super) schema_names: Map<String, SchemaId>,
    pub(super) tables: Map<TableId, Arc<Table>>,
    /// Descriptors of tables in groups of other owners than those that have them: what is arriving
    /// there, or has left.
    pub(super) aside: Map<(GroupId, TableId), Arc<Table>>,
    /// What a former owner has removed, and is known to have arrived nowhere yet: the entry that says so
    /// is on its way here. Until then it holds, for there is no moment in which the table is not.
    pub(super) gone: Map<TableId, GroupId>,
    /// Relations and indexes by (schema, name).
    pub(super) names: Map<(SchemaId, String), u32>,
    /// Index OID to its table.
    pub(super) indexes: Map<u32, TableId>,
    /// Constraint OID to its table.
    pub(super) constraints: Map<u32, TableId>,
    /// Tree of a table or index to its table, old trees (before a rewrite) included.
    pub(super) trees: Map<(GroupId, u32), TableId>,
    /// Those of them whose table goes on in another group.
    pub(super) left: Map<(GroupId, u32), TableId>,
    pub(super) patterns: Map<u32, Arc<PatternGrant>>,
    pub(super) owners: Map<RoleId, GroupId>,
    pub(super) groups: Map<GroupId, RoleId>,
    pub(super) reservations: Map<(SchemaId, String), Arc<Reservation>>,
    pub(super) nodes: Map<u32, Arc<Node>>,
    pub(super) placements: Map<GroupId, Arc<Placement>>,
    pub(super) follows: Map<(RoleId, Followed), Arc<Follow>>,
    pub(super) last_reads: Map<(TableId, RoleId), LastRead>,
    pub(super) routines: Map<u32, Arc<Routine>>,
    /// Functions by (schema, name).
    pub(super) routine_names: Map<(SchemaId, String), Vec<u32>>,
    pub(super) triggers: Map<u32, Arc<Trigger>>,
    pub(super) table_triggers: Map<TableId, Vec<u32>>,
}

/// What a name in `pg_class` stands for.
#[derive(Clone, Debug)]
pub enum Relation {
    /// Table, view, sequence, system relation.
    Table(Arc<Table>),
    /// An index: its table and its place in `Table::indexes`.
    Index(Arc<Table>, usize),
}

impl Relation {
    /// `pg_class.oid`.
    pub fn oid(&self) -> u32 {
        match self {
            Relation::Table(table) => table.id.0,
            Relation::Index(table, at) => table.indexes[*at].id,
        }
    }

    /// `pg_class.relname`.
    pub fn name(&self) -> &str {
        match self {
            Relation::Table(table) => &table.name,
            Relation::Index(table, at) => &table.indexes[*at].name,
        }
    }

    /// The table, or the index's table.
    pub fn table(&self) -> &Arc<Table> {
        match self {
            Relation::Table(table) | Relation::Index(table, _) => table,
        }
    }
}

impl Catalog {
    /// Differs between any two catalogs of the process that differ.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The position of the group's last entry that is contained (zero: none yet).
    pub fn as_of(&self, group: GroupId) -> Position {
        self.as_of.get(&group).copied().unwrap_or(Position::ZERO)
    }

    /// This catalog with changes, as a transaction's own DDL sees it.
    #[must_use]
    pub fn with(&self, changes: &[Change]) -> Catalog {
        let mut next = self.clone();
        next.version = fresh_version();
        for change in changes {
            next.change(change);
        }
        next
    }

    /// Marks an entry of the group as contained.
    pub(super) fn set_as_of(&mut self, group: GroupId, position: Position) {
        self.as_of.insert_mut(group, position);
    }

    pub(super) fn change(&mut self, change: &Change) {
        if let Some(old) = &change.old {
            self.remove(old, change.new.is_none());
        }
        if let Some(new) = &change.new {
            self.insert(new);
        }
    }

    fn remove(&mut self, object: &Object, for_good: bool) {
        match object {
            Object::Table(table) => self.remove_table(table, for_good),
            Object::Schema(schema) => {
                self.schemas.remove_mut(&schema.id);
                self.schema_names.remove_mut(&schema.name);
                if for_good {
                    self.reservations
                        .remove_mut(&(SchemaId(0), schema.name.clone()));
                }
            }
            Object::Pattern(pattern) => {
                self.patterns.remove_mut(&pattern.id);
            }
            Object::Role(role) => {
                self.roles.remove_mut(&role.id);
                self.role_names.remove_mut(&role.name);
                self.remove_private_schema(role);
            }
            Object::Membership(m) => {
                self.memberships.remove_mut(&(m.member, m.role));
            }
            Object::Owner(owner) => {
                self.owners.remove_mut(&owner.role);
                self.groups.remove_mut(&GroupId(owner.group));
            }
            Object::Reservation(r) => {
                self.reservations.remove_mut(&(r.schema, r.name.clone()));
            }
            Object::Node(node) => {
                self.nodes.remove_mut(&node.number);
            }
            Object::Placement(placement) => {
                self.placements.remove_mut(&GroupId(placement.group));
            }
            Object::Follow(follow) => {
                self.follows.remove_mut(&(follow.role, follow.what.clone()));
            }
            Object::LastRead(read) => {
                self.last_reads.remove_mut(&(read.table, read.role));
            }
            Object::Routine(routine) => self.remove_routine(routine, for_good),
            Object::Trigger(trigger) => self.remove_trigger(trigger),
        }
    }

    fn remove_table(&mut self, table: &Table, for_good: bool) {
        if self.aside.remove_mut(&(table.group, table.id)) {
            return;
        }
        if for_good && table.has_left() {
            self.gone.insert_mut(table.id, table.group);
            return;
        }
        self.unlist(table);
        if for_good && table.schema == SchemaId::PUBLIC {
            self.reservations
                .remove_mut(&(table.schema, table.name.clone()));
        }
    }

    /// All that there is of a group is known: what should have arrived there was removed since.
    pub(super) fn forget_gone(&mut self, group: GroupId) {
        let gone: Vec<TableId> = self.gone.keys().copied().collect();
        for id in gone {
            let Some(table) = self.tables.get(&id).cloned() else {
                continue;
            };
            let to = table.goes_to().and_then(|to| self.group_of(to));
            if to == Some(group) && self.table_in(group, table.id).is_none() {
                self.gone.remove_mut(&table.id);
                self.unlist(&table);
            }
        }
    }

    fn unlist(&mut self, table: &Table) {
        self.tables.remove_mut(&table.id);
        self.names.remove_mut(&(table.schema, table.name.clone()));
        for index in &table.indexes {
            self.names.remove_mut(&(table.schema, index.name.clone()));
            self.indexes.remove_mut(&index.id);
        }
        for constraint in &table.constraints {
            self.constraints.remove_mut(&constraint.id());
        }
    }

    fn insert(&mut self, object: &Object) {
        match object {
            Object::Table(table) => self.insert_table(table),
            Object::Schema(schema) => {
                self.schemas.insert_mut(schema.id, Arc::clone(schema));
                self.schema_names.insert_mut(schema.name.clone(), schema.id);
            }
            Object::Pattern(pattern) => {
                self.patterns.insert_mut(pattern.id, Arc::clone(pattern));
            }
            Object::Role(role) => {
                self.roles.insert_mut(role.id, Arc::clone(role));
                self.role_names.insert_mut(role.name.clone(), role.id);
                self.insert_private_schema(role);
            }
            Object::Membership(m) => {
                self.memberships.insert_mut((m.member, m.role), m.clone());
            }
            Object::Owner(owner) => {
                self.owners.insert_mut(owner.role, GroupId(owner.group));
                self.groups.insert_mut(GroupId(owner.group), owner.role);
            }
            Object::Reservation(r) => {
                self.reservations
                    .insert_mut((r.schema, r.name.clone()), Arc::clone(r));
            }
            Object::Node(node) => {
                self.nodes.insert_mut(node.number, Arc::clone(node));
            }
            Object::Placement(placement) => {
                let group = GroupId(placement.group);
                self.placements.insert_mut(group, Arc::clone(placement));
            }
            Object::Follow(follow) => {
                let key = (follow.role, follow.what.clone());
                self.follows.insert_mut(key, Arc::clone(follow));
            }
            Object::LastRead(read) => {
                self.last_reads.insert_mut((read.table, read.role), *read);
            }
            Object::Routine(routine) => self.insert_routine(routine),
            Object::Trigger(trigger) => self.insert_trigger(trigger),
        }
    }

    fn insert_table(&mut self, table: &Arc<Table>) {
        for tree in table.trees() {
            self.trees.insert_mut((table.group, tree), table.id);
        }
        let held = self.tables.get(&table.id);
        let other = held.filter(|held| held.group != table.group).cloned();
        let holds = |other: &Arc<Table>| table.holds_over(other);
        if table.is_arriving() || !other.as_ref().is_none_or(holds) {
            let place = (table.group, table.id);
            self.aside.insert_mut(place, Arc::clone(table));
            return;
        }
        if self.gone.remove_mut(&table.id) {
            // It may have come back to the very group that had removed it.
            if let Some(gone) = self.tables.get(&table.id).cloned() {
                self.unlist(&gone);
            }
        } else if let Some(other) = other {
            self.unlist(&other);
            self.aside.insert_mut((other.group, other.id), other);
        }
        self.names
            .insert_mut((table.schema, table.name.clone()), table.id.0);
        for index in &table.indexes {
            self.names
                .insert_mut((table.schema, index.name.clone()), index.id);
            self.indexes.insert_mut(index.id, table.id);
        }
        for constraint in &table.constraints {
            self.constraints.insert_mut(constraint.id(), table.id);
        }
        self.tables.insert_mut(table.id, Arc::clone(table));
    }

    /// The private schema comes with the role, until the owner's group holds a row of its own
    /// for it (a grant, a comment), which wins.
    fn insert_private_schema(&mut self, role: &Role) {
        if role.schema.0 == 0 {
            return;
        }
        let own = self
            .schemas
            .get(&role.schema)
            .filter(|s| s.acl.is_some() || s.comment.is_some());
        let schema = Schema {
            id: role.schema,
            name: role.name.clone(),
            owner: role.id,
            acl: own.and_then(|s| s.acl.clone()),
            comment: own.and_then(|s| s.comment.clone()),
        };
        self.schema_names.insert_mut(schema.name.clone(), schema.id);
        self.schemas.insert_mut(schema.id, Arc::new(schema));
    }

    fn remove_private_schema(&mut self, role: &Role) {
        if let Some(schema) = self.schemas.get(&role.schema).cloned() {
            self.schema_names.remove_mut(&schema.name);
            if schema.acl.is_none() && schema.comment.is_none() {
                self.schemas.remove_mut(&role.schema);
            }
        }
    }

    /// A node of the cluster.
    pub fn node(&self, number: u32) -> Option<&Arc<Node>> {
        self.nodes.get(&number)
    }

    /// The nodes of the cluster by number, those that are gone included.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// Where a group's replicas should be.
    pub fn placement(&self, group: GroupId) -> Option<&Arc<Placement>> {
        self.placements.get(&group)
    }

    /// Where all groups' replicas should be.
    pub fn placements(&self) -> impl Iterator<Item = &Arc<Placement>> {
        self.placements.values()
    }

    /// A role by OID.
    pub fn role(&self, id: RoleId) -> Option<&Arc<Role>> {
        self.roles.get(&id)
    }

    /// A role by name.
    pub fn role_by_name(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.get(self.role_names.get(name)?)
    }

    /// A role by name, or 42704.
    pub fn find_role(&self, name: &str) -> Result<&Arc<Role>> {
        self.role_by_name(name).ok_or_else(|| {
            Error::new(
                state::UNDEFINED_OBJECT,
                format!("role \"{name}\" does not exist"),
            )
        })
    }

    /// `pg_get_userbyid`.
    pub fn role_name(&self, id: RoleId) -> String {
        self.roles
            .get(&id)
            .map_or_else(|| format!("unknown (OID={})", id.0), |r| r.name.clone())
    }

    /// All roles by OID.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    /// All memberships by (member, role).
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        self.memberships.values()
    }

    /// What a role is a direct member of.
    pub fn member_of(&self, member: RoleId) -> impl Iterator<Item = &Membership> {
        self.memberships
            .range((member, RoleId(0))..=(member, RoleId(u32::MAX)))
            .map(|(_, membership)| membership)
    }

    /// A schema by OID.
    pub fn schema(&self, id: SchemaId) -> Option<&Arc<Schema>> {
        self.schemas.get(&id)
    }

    /// A schema by name, whoever may see it.
    pub fn schema_by_name(&self, name: &str) -> Option<&Arc<Schema>> {
        self.schemas.get(self.schema_names.get(name)?)
    }

    /// A schema's name, or its OID in brackets if it is gone.
    pub fn schema_name(&self, id: SchemaId) -> &str {
        self.schemas.get(&id).map_or("?", |s| s.name.as_str())
    }

    /// All schemas by OID.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<Schema>> {
        self.schemas.values()
    }

    /// A table, view, sequence or system relation by OID.
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(&id)
    }

    /// All relations by OID, system relations included.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// Whatever has the OID in `pg_class`.
    pub fn relation(&self, oid: u32) -> Option<Relation> {
        if let Some(table) = self.tables.get(&TableId(oid)) {
            return Some(Relation::Table(Arc::clone(table)));
        }
        let table = self.tables.get(self.indexes.get(&oid)?)?;
        let at = table.indexes.iter().position(|i| i.id == oid)?;
        Some(Relation::Index(Arc::clone(table), at))
    }

    /// Whatever has the name in a schema, whoever may see it.
    pub fn relation_by_name(&self, schema: SchemaId, name: &str) -> Option<Relation> {
        self.relation(*self.names.get(&(schema, name.to_owned()))?)
    }

    /// An index by OID, with its table.
    pub fn index(&self, oid: u32) -> Option<(&Arc<Table>, &Index)> {
        let table = self.tables.get(self.indexes.get(&oid)?)?;
        Some((table, table.index(oid)?))
    }

    /// The table of a constraint.
    pub fn constraint_table(&self, oid: u32) -> Option<&Arc<Table>> {
        self.tables.get(self.constraints.get(&oid)?)
    }

    /// The table whose rows or index entries a tree holds (or held before a rewrite or a drop).
    pub fn table_of_tree(&self, group: GroupId, tree: u32) -> Option<TableId> {
        self.trees.get(&(group, tree)).copied()
    }

    /// All pattern grants by OID.
    pub fn patterns(&self) -> impl Iterator<Item = &Arc<PatternGrant>> {
        self.patterns.values()
    }

    /// The group of a role's tables, once it has one.
    pub fn group_of(&self, role: RoleId) -> Option<GroupId> {
        self.owners.get(&role).copied()
    }

    /// Whose tables a group holds.
    pub fn owner_of_group(&self, group: GroupId) -> Option<RoleId> {
        self.groups.get(&group).copied()
    }

    /// All (role, group) pairs.
    pub fn owners(&self) -> impl Iterator<Item = (RoleId, GroupId)> {
        self.owners.iter().map(|(role, group)| (*role, *group))
    }

    /// Who has reserved a name in `public` ([`SchemaId::PUBLIC`]) or a schema name (0).
    pub fn reservation(&self, schema: SchemaId, name: &str) -> Option<&Arc<Reservation>> {
        self.reservations.get(&(schema, name.to_owned()))
    }

    /// All reserved names.
    pub fn reservations(&self) -> impl Iterator<Item = &Arc<Reservation>> {
        self.reservations.values()
    }

    /// The schemas that a `search_path` setting stands for, in order, `pg_catalog` first unless
    /// it is named; elements that do not exist or may not be used are left out.
    pub fn search_path(&self, setting: &[String], role: RoleId) -> Vec<SchemaId> {
        let mut path = Vec::with_capacity(setting.len() + 1);
        for element in setting {
            let found = if element == "$user" {
                self.role(role).and_then(|r| self.schema_by_name(&r.name))
            } else {
                self.schema_by_name(element)
            };
            if let Some(schema) = found.filter(|s| self.uses_schema(role, s))
                && !path.contains(&schema.id)
            {
                path.push(schema.id);
            }
        }
        if !path.contains(&SchemaId::PG_CATALOG) {
            path.insert(0, SchemaId::PG_CATALOG);
        }
        path
    }

    /// The relation that a name of one to three parts stands for; 42P01 if there is none or the
    /// role may not see it.
    pub fn resolve(&self, name: &[&str], path: &[SchemaId], role: RoleId) -> Result<Relation> {
        self.lookup(name, path, role)?
            .ok_or_else(|| undefined(name))
    }

    /// The same, without an error when there is none (`to_regclass`, `IF EXISTS`).
    pub fn lookup(
        &self,
        name: &[&str],
        path: &[SchemaId],
        role: RoleId,
    ) -> Result<Option<Relation>> {
        let visible = |relation: &Relation| self.sees(role, relation.table());
        match name {
            [name] => Ok(path
                .iter()
                .filter_map(|schema| self.relation_by_name(*schema, name))
                .find(visible)),
            [schema, name] => Ok(self
                .schema_by_name(schema)
                .and_then(|s| self.relation_by_name(s.id, name))
                .filter(visible)),
            [database, schema, name] => {
                let ours = DATABASE_NAMES.contains(database)
                    || self.role(role).is_some_and(|r| r.name == *database);
                if !ours {
                    let name = format!("{database}.{schema}.{name}");
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        format!("cross-database references are not implemented: \"{name}\""),
                    ));
                }
                self.lookup(&[schema, name], path, role)
            }
            _ => Err(Error::new(
                state::SYNTAX_ERROR,
                format!(
                    "improper qualified name (too many dotted names): {}",
                    name.join(".")
                ),
            )),
        }
    }

    /// The table, view or sequence that a name stands for; 42P01 if the role may not see it,
    /// 42809 if it is an index.
    pub fn resolve_table(
        &self,
        name: &[&str],
        path: &[SchemaId],
        role: RoleId,
    ) -> Result<Arc<Table>> {
        match self.resolve(name, path, role)? {
            Relation::Table(table) => Ok(table),
            Relation::Index(table, at) => Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is an index", table.indexes[at].name),
            )),
        }
    }
}

/// Versions are unique within the process, so that plans can be cached by them even while
/// transactions have DDL of their own.
pub(super) fn fresh_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// 57P03: after a start the other owners' catalogs may be late.
pub(crate) fn not_known_yet() -> Error {
    let message = "what this node knows of other owners' tables is not there yet";
    Error::new(state::CANNOT_CONNECT_NOW, message)
        .hint("Try again in a moment, or go to another node.")
}

/// `relation "x" does not exist` (42P01).
pub(crate) fn undefined(name: &[&str]) -> Error {
    let name = name.join(".");
    Error::new(
        state::UNDEFINED_TABLE,
        format!("relation \"{name}\" does not exist"),
    )
}
