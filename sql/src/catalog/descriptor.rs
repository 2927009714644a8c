//! Descriptors of relations: tables, views, sequences and system relations with their columns,
//! indexes and constraints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage::{GroupId, Position};

use super::{Acl, ColumnId, RoleId, SchemaId, TableId};
use crate::types::Type;

/// A relation: its rows' shape, its owner and what holds for its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// `pg_class.oid`.
    pub id: TableId,
    /// The only writer.
    pub owner: RoleId,
    /// The owner's group, whose entries hold the rows.
    #[serde(with = "group")]
    pub group: GroupId,
    /// Where its name lives.
    pub schema: SchemaId,
    /// Unique within the schema, also among indexes.
    pub name: String,
    /// Table, view, sequence or system relation.
    pub kind: TableKind,
    /// The tree of the rows within the group (a rewrite takes a new one); 0 without rows.
    pub tree: u32,
    /// How rows are keyed.
    pub key: Key,
    /// All columns in order of creation, dropped ones included: `columns[n].number == n + 1`.
    pub columns: Vec<Column>,
    /// Indexes, the primary key's included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Index>,
    /// Checks, keys and foreign keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Foreign keys that reference this table: (table, constraint OID), its own included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referenced_by: Vec<(TableId, u32)>,
    /// Other owners' foreign keys that reference it, as its own owner knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registered: Vec<Registration>,
    /// Explicit grants; `None` = the owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl>,
    /// `WITH (...)`, keys lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// `COMMENT ON TABLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Relations that a view's definition (or a default) reads: (relation, columns; empty = all).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<(TableId, Vec<ColumnId>)>,
    /// Its rows are made of other tables' rows (CREATE MATERIALIZED VIEW).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projection>,
    /// Old versions of its rows are kept beyond the general horizon (`WITH (history = ...)`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<super::History>,
    /// The groups that held it before, the first owner's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "groups")]
    pub former: Vec<GroupId>,
    /// Where it is on its way to another owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<super::Moving>,
    /// Entries above this position are described by this descriptor; those at or below by the
    /// one before it (history tree).
    #[serde(with = "position")]
    pub since: Position,
}

/// A foreign key of another owner's: who is asked before keys are removed (`crate::integrity`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The owner's group.
    #[serde(with = "group")]
    pub group: GroupId,
    /// `pg_constraint.oid`.
    pub constraint: u32,
    /// The unique index that it relies on.
    pub index: u32,
    /// The referenced columns.
    pub columns: Vec<ColumnId>,
}

/// What a relation is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Rows in a tree.
    Table,
    /// A stored query.
    View(View),
    /// Numbers (state in the sequence tree).
    Sequence(SequenceOptions),
    /// Rows computed by a `SystemRelation`.
    System,
}

/// A view's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The query, as SQL text with qualified names, without a trailing semicolon.
    pub definition: String,
}

/// What a table's rows are made of, in the entries that change those: `depends_on` names the tables
/// that it reads, the one that it is made of first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// The query, as SQL text with qualified names; the n-th column of the table is its n-th.
    pub definition: String,
    /// The foreign keys (`pg_constraint.oid`) by which it joins, in the order of the joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<u32>,
    /// May it be read?
    pub state: IndexState,
}

/// How the rows of a table are keyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// By these columns, in key order.
    Primary(Vec<ColumnId>),
    /// By a hidden ascending row id.
    RowId,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// What row bytes carry.
    pub id: ColumnId,
    /// `attnum`, 1-based.
    pub number: i16,
    /// Unique among the columns that are not dropped.
    pub name: String,
    /// Type and modifier.
    #[serde(with = "ty")]
    pub ty: Type,
    /// `NOT NULL`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_null: bool,
    /// `DEFAULT` as SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// `GENERATED ... AS IDENTITY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// `GENERATED ALWAYS AS (...) STORED`, as SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<String>,
    /// Encoded value (`types::encode_value`) of rows older than ADD COLUMN ... DEFAULT constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<u8>>,
    /// Dropped: keeps its number and id, has no name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dropped: bool,
    /// Column grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl>,
    /// `COMMENT ON COLUMN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// OID of the default in `pg_attrdef` (0 without default or generation).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub default_id: u32,
}

/// An identity column's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `ALWAYS` rather than `BY DEFAULT`.
    pub always: bool,
    /// The sequence behind it.
    pub sequence: TableId,
}

/// Where a column's value comes from when it isn't given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated<'a> {
    /// NULL.
    Nothing,
    /// The text of `DEFAULT`.
    Default(&'a str),
    /// The next number of the identity's sequence.
    Identity(Identity),
    /// The text of `GENERATED ALWAYS AS (...) STORED`.
    Stored(&'a str),
}

/// An index; entries as in the table's own group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// `pg_class.oid` of the index.
    pub id: u32,
    /// Unique within the table's schema among relations and indexes.
    pub name: String,
    /// The tree of the entries; the table's tree for the primary key that rows are keyed by.
    pub tree: u32,
    /// Key columns in order.
    pub columns: Vec<IndexColumn>,
    /// `INCLUDE` columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<ColumnId>,
    /// No two equal keys.
    pub unique: bool,
    /// NULLs are equal too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nulls_not_distinct: bool,
    /// The primary key.
    #[serde(default, skip_serializing_if = "is_false")]
    pub primary: bool,
    /// `WHERE`, as SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// May it be read?
    pub state: IndexState,
    /// `btree`, `hash`, ...: as it was asked for; all are ordered trees here.
    #[serde(default = "btree")]
    pub method: String,
    /// `WITH (...)`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// `COMMENT ON INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `CLUSTER` / `REPLICA IDENTITY` marks, kept for the catalogs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clustered: bool,
}

/// One key column of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// A column or an expression.
    pub what: IndexKey,
    /// `DESC`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub descending: bool,
    /// `NULLS FIRST` (the default of `DESC`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub nulls_first: bool,
    /// Operator class as it was asked for (`text_pattern_ops`), if not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// What an index column holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKey {
    /// A column of the table.
    Column(ColumnId),
    /// An expression over its columns, as SQL text.
    Expression(String),
}

/// How far an index, or a projection, is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexState {
    /// Holds every row.
    Ready,
    /// Writers maintain it; old rows are still being added; nobody reads it.
    Building,
}

/// A table constraint (NOT NULL lives at the column, as in PostgreSQL 15).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// `CHECK (...)`.
    Check {
        /// `pg_constraint.oid`.
        id: u32,
        /// Unique within the table.
        name: String,
        /// As SQL text.
        expression: String,
        /// Old rows are known to hold it.
        validated: bool,
        /// `NO INHERIT`, kept for the catalogs.
        no_inherit: bool,
        /// `COMMENT ON CONSTRAINT`.
        comment: Option<String>,
    },
    /// `UNIQUE`, by its index.
    Unique {
        /// `pg_constraint.oid`.
        id: u32,
        /// The index's name too.
        name: String,
        /// `Index::id`.
        index: u32,
        /// Checked at the end of the statement or at COMMIT when so set.
        deferrable: bool,
        /// `INITIALLY DEFERRED`.
        deferred: bool,
        /// `COMMENT ON CONSTRAINT`.
        comment: Option<String>,
    },
    /// `PRIMARY KEY`, by its index.
    Primary {
        /// `pg_constraint.oid`.
        id: u32,
        /// The index's name too.
        name: String,
        /// `Index::id`.
        index: u32,
        /// `COMMENT ON CONSTRAINT`.
        comment: Option<String>,
    },
    /// `FOREIGN KEY`.
    Foreign(ForeignKey),
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// `pg_constraint.oid`.
    pub id: u32,
    /// Unique within the table.
    pub name: String,
    /// Referencing columns.
    pub columns: Vec<ColumnId>,
    /// The referenced table.
    pub references: TableId,
    /// Referenced columns, pairwise with `columns`.
    pub referenced_columns: Vec<ColumnId>,
    /// The unique index of the referenced table that it relies on.
    pub referenced_index: u32,
    /// `ON DELETE`.
    pub on_delete: ReferentialAction,
    /// `ON UPDATE`.
    pub on_update: ReferentialAction,
    /// `ON DELETE SET NULL (columns)`; empty = all.
    pub set_columns: Vec<ColumnId>,
    /// `MATCH FULL`.
    pub full: bool,
    /// `DEFERRABLE`.
    pub deferrable: bool,
    /// `INITIALLY DEFERRED`.
    pub deferred: bool,
    /// Old rows are known to hold it.
    pub validated: bool,
    /// `COMMENT ON CONSTRAINT`.
    pub comment: Option<String>,
}

/// What a foreign key does when the referenced key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferentialAction {
    /// Refuse, checked at the end of the statement (or COMMIT).
    NoAction,
    /// Refuse at once.
    Restrict,
    /// Do the same to the referencing rows.
    Cascade,
    /// Set the referencing columns to NULL.
    SetNull,
    /// Set them to their defaults.
    SetDefault,
}

/// A sequence's rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceOptions {
    /// smallint, integer or bigint.
    #[serde(with = "ty")]
    pub ty: Type,
    /// First value.
    pub start: i64,
    /// Step, never 0.
    pub increment: i64,
    /// Least value.
    pub min: i64,
    /// Greatest value.
    pub max: i64,
    /// Numbers that a session takes at once.
    pub cache: i64,
    /// Begin again after the last.
    pub cycle: bool,
    /// `OWNED BY`: dropped with the column.
    pub owned_by: Option<(TableId, ColumnId)>,
    /// Belongs to an identity column.
    pub identity: bool,
}

impl Table {
    /// The columns that exist, in order.
    pub fn live_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| !c.dropped)
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.live_columns().find(|c| c.name == name)
    }

    /// A column by id; dropped ones too.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// Where in `columns` an id is.
    pub fn column_index(&self, id: ColumnId) -> Option<usize> {
        self.columns.iter().position(|c| c.id == id)
    }

    /// The trees of its rows and indexes, ascending.
    pub fn trees(&self) -> Vec<u32> {
        let mut trees: Vec<u32> = self.indexes.iter().map(|i| i.tree).collect();
        trees.push(self.tree);
        trees.retain(|t| *t != 0);
        trees.sort_unstable();
        trees.dedup();
        trees
    }

    /// The columns that rows are keyed by; none if that is a hidden row id.
    pub fn key_columns(&self) -> &[ColumnId] {
        match &self.key {
            Key::Primary(ids) => ids,
            Key::RowId => &[],
        }
    }

    /// The primary key's index.
    pub fn primary_index(&self) -> Option<&Index> {
        self.indexes.iter().find(|i| i.primary)
    }

    /// An index by OID.
    pub fn index(&self, id: u32) -> Option<&Index> {
        self.indexes.iter().find(|i| i.id == id)
    }

    /// Does the index share the table's tree (rows are keyed by it)?
    pub fn is_clustering(&self, index: &Index) -> bool {
        index.tree == self.tree
    }

    /// The foreign keys of this table.
    pub fn foreign_keys(&self) -> impl Iterator<Item = &ForeignKey> {
        self.constraints.iter().filter_map(|c| match c {
            Constraint::Foreign(key) => Some(key),
            Constraint::Check { .. } | Constraint::Unique { .. } | Constraint::Primary { .. } => {
                None
            }
        })
    }

    /// Is it an inbox, into which granted roles may INSERT?
    pub fn is_inbox(&self) -> bool {
        self.options.get("inbox").is_some_and(|v| v == "true")
    }

    /// Is it a table that its owner writes: no view, no sequence, no projection?
    pub fn is_ordinary(&self) -> bool {
        self.kind == TableKind::Table && self.projection.is_none()
    }

    /// Is it a projection that is still being filled?
    pub fn is_filling(&self) -> bool {
        let state = self.projection.as_ref().map(|p| p.state);
        state == Some(IndexState::Building)
    }

    /// Is it a projection of the table's rows, each with the key of the one that it is made of?
    pub fn projects(&self, base: TableId) -> bool {
        self.projection.is_some() && self.depends_on.first().is_some_and(|(on, _)| *on == base)
    }

    /// `r`, `v`, `m`, `S` of `pg_class.relkind`; system relations say `r`.
    pub fn relkind(&self) -> u8 {
        match self.kind {
            TableKind::Table if self.projection.is_some() => b'm',
            TableKind::Table | TableKind::System => b'r',
            TableKind::View(_) => b'v',
            TableKind::Sequence(_) => b'S',
        }
    }
}

impl Column {
    /// Where the value comes from when none is given.
    pub fn source(&self) -> Generated<'_> {
        if let Some(identity) = self.identity {
            Generated::Identity(identity)
        } else if let Some(text) = &self.generated {
            Generated::Stored(text)
        } else if let Some(text) = &self.default {
            Generated::Default(text)
        } else {
            Generated::Nothing
        }
    }
}

impl Constraint {
    /// `pg_constraint.oid`.
    pub fn id(&self) -> u32 {
        match self {
            Constraint::Check { id, .. }
            | Constraint::Unique { id, .. }
            | Constraint::Primary { id, .. } => *id,
            Constraint::Foreign(key) => key.id,
        }
    }

    /// Its name, unique within the table.
    pub fn name(&self) -> &str {
        match self {
            Constraint::Check { name, .. }
            | Constraint::Unique { name, .. }
            | Constraint::Primary { name, .. } => name,
            Constraint::Foreign(key) => &key.name,
        }
    }

    /// Sets the name.
    pub fn rename(&mut self, to: String) {
        match self {
            Constraint::Check { name, .. }
            | Constraint::Unique { name, .. }
            | Constraint::Primary { name, .. } => *name = to,
            Constraint::Foreign(key) => key.name = to,
        }
    }

    /// The comment.
    pub fn comment(&self) -> Option<&str> {
        match self {
            Constraint::Check { comment, .. }
            | Constraint::Unique { comment, .. }
            | Constraint::Primary { comment, .. } => comment.as_deref(),
            Constraint::Foreign(key) => key.comment.as_deref(),
        }
    }

    /// Sets the comment.
    pub fn set_comment(&mut self, to: Option<String>) {
        match self {
            Constraint::Check { comment, .. }
            | Constraint::Unique { comment, .. }
            | Constraint::Primary { comment, .. } => *comment = to,
            Constraint::Foreign(key) => key.comment = to,
        }
    }

    /// The index that it lives by.
    pub fn index(&self) -> Option<u32> {
        match self {
            Constraint::Unique { index, .. } | Constraint::Primary { index, .. } => Some(*index),
            Constraint::Check { .. } | Constraint::Foreign(_) => None,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn btree() -> String {
    "btree".to_owned()
}

pub(super) mod ty {
    use super::Type;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(ty: &Type, s: S) -> Result<S::Ok, S::Error> {
        (ty.oid, ty.modifier).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Type, D::Error> {
        <(u32, i32)>::deserialize(d).map(|(oid, modifier)| Type { oid, modifier })
    }
}

pub(super) mod group {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use storage::GroupId;

    pub fn serialize<S: Serializer>(group: &GroupId, s: S) -> Result<S::Ok, S::Error> {
        group.0.serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<GroupId, D::Error> {
        u32::deserialize(d).map(GroupId)
    }
}

pub(super) mod groups {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use storage::GroupId;

    pub fn serialize<S: Serializer>(groups: &[GroupId], s: S) -> Result<S::Ok, S::Error> {
        let numbers: Vec<u32> = groups.iter().map(|group| group.0).collect();
        numbers.serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<GroupId>, D::Error> {
        let numbers = Vec::<u32>::deserialize(d)?;
        Ok(numbers.into_iter().map(GroupId).collect())
    }
}

pub(super) mod position {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use storage::Position;

    pub fn serialize<S: Serializer>(position: &Position, s: S) -> Result<S::Ok, S::Error> {
        position.0.serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Position, D::Error> {
        u64::deserialize(d).map(Position)
    }
}
