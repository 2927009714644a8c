//! Descriptors as rows of system trees: which tree, which key, which bytes.
//!
//! ```text
//! tree   group      key                          value
//!    1   any        OID                          descriptor: table, schema, pattern grant, function or trigger
//!    2   any        OID, !since                  descriptor valid for entries in (since, next since]
//!    4   any        OID of a sequence            last number reserved (sequence.rs)
//!    5   any        tree number                  OID of the table whose rows or entries it holds
//!   30   any        tree number                  how much of its history it keeps (`storage::Keep`)
//!   10   directory  OID of a role                role
//!   11   directory  OID of role, OID of member   membership
//!   12   directory  OID of a role                its group
//!   13   directory  OID of schema or 0, name     reservation
//!   14   directory  0                            next OID that no block contains
//!   15   directory  number of a node             node
//!   16   directory  number of a group            placement
//!   17   directory  OID of role, what            follow; what: 0, OID of a table | 1, pattern
//!   18   directory  OID of table, OID of role    when the role has last read the contract
//! ```
//! Numbers in keys are big-endian u32, positions u64. A value is one byte of format version, one
//! byte of kind, then JSON: readable in a dump, and open to new fields with defaults.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use storage::{GroupId, Position};

use super::directory::FIRST_OID;
use super::{
    Change, Follow, Followed, Membership, Object, RoleId, Schema, SchemaId, TableId, TableKind,
};
use crate::{Error, Result, state};

/// Descriptors by OID.
pub const TREE_DESCRIPTORS: u32 = 1;
/// Former descriptors by OID and position.
pub const TREE_HISTORY: u32 = 2;
/// States of sequences by OID.
pub const TREE_SEQUENCES: u32 = 4;
/// Tables by tree number.
pub const TREE_TREES: u32 = 5;
/// Roles (directory).
pub const TREE_ROLES: u32 = 10;
/// Memberships (directory).
pub const TREE_MEMBERSHIPS: u32 = 11;
/// Groups of owners (directory).
pub const TREE_OWNERS: u32 = 12;
/// Reserved names (directory).
pub const TREE_RESERVATIONS: u32 = 13;
/// Blocks of OIDs (directory).
pub const TREE_OIDS: u32 = 14;
/// Nodes of the cluster (directory).
pub const TREE_NODES: u32 = 15;
/// Where groups are (directory).
pub const TREE_PLACEMENTS: u32 = 16;

/// What roles follow (directory).
pub const TREE_FOLLOWS: u32 = 17;
/// When roles have last read contracts (directory).
pub const TREE_READS: u32 = 18;

/// The trees that only the directory has.
pub(super) const DIRECTORY_TREES: std::ops::RangeInclusive<u32> = TREE_ROLES..=TREE_READS;

/// The trees that the catalog is made of, to be read at start in this order.
pub const CATALOG_TREES: [u32; 10] = [
    TREE_ROLES,
    TREE_MEMBERSHIPS,
    TREE_OWNERS,
    TREE_RESERVATIONS,
    TREE_NODES,
    TREE_PLACEMENTS,
    TREE_FOLLOWS,
    TREE_READS,
    TREE_DESCRIPTORS,
    TREE_TREES,
];

const FORMAT: u8 = 1;
const KIND_TABLE: u8 = 1;
const KIND_SCHEMA: u8 = 2;
const KIND_PATTERN: u8 = 3;
const KIND_ROLE: u8 = 4;
const KIND_MEMBERSHIP: u8 = 5;
const KIND_OWNER: u8 = 6;
const KIND_RESERVATION: u8 = 7;
const KIND_NODE: u8 = 8;
const KIND_PLACEMENT: u8 = 9;
const KIND_FOLLOW: u8 = 10;
const KIND_LAST_READ: u8 = 11;
const KIND_ROUTINE: u8 = 20;
const KIND_TRIGGER: u8 = 21;

/// One row of a system tree; no value = deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemWrite {
    /// The tree's number.
    pub tree: u32,
    /// The key.
    pub key: Bytes,
    /// The new value.
    pub value: Option<Bytes>,
}

/// What a row of a catalog tree says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    /// A descriptor.
    Object(Object),
    /// A tree belongs to a table, which it `left` with its rows for another owner, or never came to have.
    Tree {
        tree: u32,
        table: TableId,
        left: bool,
    },
}

/// The rows that a change writes, its history included.
pub fn rows(change: &Change) -> Vec<SystemWrite> {
    let mut out = Vec::new();
    let subject = change.new.as_ref().or(change.old.as_ref());
    let Some(subject) = subject else { return out };
    let (tree, key) = place(subject);
    if let (Some(old), Some(new)) = (&change.old, &change.new) {
        let before = place(old);
        if before != place(new) {
            out.push(SystemWrite {
                tree: before.0,
                key: before.1,
                value: None,
            });
        }
    }
    out.push(SystemWrite {
        tree,
        key,
        value: change.new.as_ref().map(encode),
    });
    if let Some(old @ Object::Table(table)) = &change.old {
        out.push(SystemWrite {
            tree: TREE_HISTORY,
            key: history_key(table.id.0, table.since),
            value: Some(encode(old)),
        });
    }
    out.extend(super::keep::kept_rows(change));
    if let Some(Object::Table(table)) = &change.new {
        let before = match &change.old {
            Some(Object::Table(old)) => old.trees(),
            _ => Vec::new(),
        };
        for tree in table.trees().into_iter().filter(|t| !before.contains(t)) {
            out.push(SystemWrite {
                tree: TREE_TREES,
                key: number(tree),
                value: Some(number(table.id.0)),
            });
        }
    }
    out
}

/// The history row of a descriptor that was valid above `since`.
pub fn history_key(oid: u32, since: Position) -> Bytes {
    let mut key = oid.to_be_bytes().to_vec();
    key.extend_from_slice(&(!since.0).to_be_bytes());
    key.into()
}

/// The row of a tree whose table goes on in another group. Its being gone here says nothing of the table.
pub(crate) fn left_tree(tree: u32, table: TableId) -> SystemWrite {
    let mut value = table.0.to_be_bytes().to_vec();
    value.push(1);
    SystemWrite {
        tree: TREE_TREES,
        key: number(tree),
        value: Some(value.into()),
    }
}

pub(super) fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// Where an object's row is: its tree, its key.
pub(crate) fn place(object: &Object) -> (u32, Bytes) {
    match object {
        Object::Table(t) => (TREE_DESCRIPTORS, number(t.id.0)),
        Object::Schema(s) => (TREE_DESCRIPTORS, number(s.id.0)),
        Object::Pattern(p) => (TREE_DESCRIPTORS, number(p.id)),
        Object::Role(r) => (TREE_ROLES, number(r.id.0)),
        Object::Membership(m) => (TREE_MEMBERSHIPS, pair(m.role.0, m.member.0)),
        Object::Owner(o) => (TREE_OWNERS, number(o.role.0)),
        Object::Reservation(r) => (TREE_RESERVATIONS, reservation_key(r.schema, &r.name)),
        Object::Node(n) => (TREE_NODES, number(n.number)),
        Object::Placement(p) => (TREE_PLACEMENTS, number(p.group)),
        Object::Follow(f) => (TREE_FOLLOWS, follow_key(f)),
        Object::LastRead(r) => (TREE_READS, pair(r.table.0, r.role.0)),
        Object::Routine(r) => (TREE_DESCRIPTORS, number(r.id)),
        Object::Trigger(t) => (TREE_DESCRIPTORS, number(t.id)),
    }
}

fn pair(a: u32, b: u32) -> Bytes {
    let mut key = a.to_be_bytes().to_vec();
    key.extend_from_slice(&b.to_be_bytes());
    key.into()
}

fn follow_key(follow: &Follow) -> Bytes {
    let mut key = follow.role.0.to_be_bytes().to_vec();
    match &follow.what {
        Followed::Table(table) => {
            key.push(0);
            key.extend_from_slice(&table.0.to_be_bytes());
        }
        Followed::Pattern(pattern) => {
            key.push(1);
            key.extend_from_slice(pattern.as_bytes());
        }
    }
    key.into()
}

/// What a role follows, by the rest of the key.
fn followed(key: &[u8]) -> Option<Followed> {
    match key.split_first()? {
        (0, table) => Some(Followed::Table(TableId(be(table)?))),
        (1, pattern) => Some(Followed::Pattern(
            std::str::from_utf8(pattern).ok()?.to_owned(),
        )),
        _ => None,
    }
}

/// The key of a reserved name.
pub fn reservation_key(schema: SchemaId, name: &str) -> Bytes {
    let mut key = schema.0.to_be_bytes().to_vec();
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// The bytes of a descriptor.
pub fn encode(object: &Object) -> Bytes {
    match object {
        Object::Table(t) => value(KIND_TABLE, &**t),
        Object::Schema(s) => value(KIND_SCHEMA, &**s),
        Object::Pattern(p) => value(KIND_PATTERN, &**p),
        Object::Role(r) => value(KIND_ROLE, &**r),
        Object::Membership(m) => value(KIND_MEMBERSHIP, m),
        Object::Owner(o) => value(KIND_OWNER, o),
        Object::Reservation(r) => value(KIND_RESERVATION, &**r),
        Object::Node(n) => value(KIND_NODE, &**n),
        Object::Placement(p) => value(KIND_PLACEMENT, &**p),
        Object::Follow(f) => value(KIND_FOLLOW, &**f),
        Object::LastRead(r) => value(KIND_LAST_READ, r),
        Object::Routine(r) => value(KIND_ROUTINE, &**r),
        Object::Trigger(t) => value(KIND_TRIGGER, &**t),
    }
}

fn value<T: Serialize>(kind: u8, object: &T) -> Bytes {
    let mut out = vec![FORMAT, kind];
    serde_json::to_writer(&mut out, object).expect("descriptors have string keys only");
    out.into()
}

/// Reads the bytes of a descriptor.
pub fn decode(bytes: &[u8]) -> Result<Object> {
    let (head, body) = bytes
        .split_at_checked(2)
        .ok_or_else(|| corrupt("it is too short"))?;
    if head[0] != FORMAT {
        return Err(corrupt(&format!(
            "format {} is newer than this program",
            head[0]
        )));
    }
    Ok(match head[1] {
        KIND_TABLE => Object::Table(Arc::new(json(body)?)),
        KIND_SCHEMA => Object::Schema(Arc::new(json(body)?)),
        KIND_PATTERN => Object::Pattern(Arc::new(json(body)?)),
        KIND_ROLE => Object::Role(Arc::new(json(body)?)),
        KIND_MEMBERSHIP => Object::Membership(json(body)?),
        KIND_OWNER => Object::Owner(json(body)?),
        KIND_RESERVATION => Object::Reservation(Arc::new(json(body)?)),
        KIND_NODE => Object::Node(Arc::new(json(body)?)),
        KIND_PLACEMENT => Object::Placement(Arc::new(json(body)?)),
        KIND_FOLLOW => Object::Follow(Arc::new(json(body)?)),
        KIND_LAST_READ => Object::LastRead(json(body)?),
        KIND_ROUTINE => Object::Routine(Arc::new(json(body)?)),
        KIND_TRIGGER => Object::Trigger(Arc::new(json(body)?)),
        kind => return Err(corrupt(&format!("kind {kind} is unknown"))),
    })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| corrupt(&e.to_string()))
}

fn corrupt(what: &str) -> Error {
    Error::new(
        state::DATA_CORRUPTED,
        format!("catalog row cannot be read: {what}"),
    )
}

/// What a written row of a catalog tree says; `None` for rows that are not the catalog's.
pub(super) fn stored(tree: u32, key: &[u8], value: &[u8]) -> Result<Option<Stored>> {
    match tree {
        TREE_DESCRIPTORS | TREE_ROLES | TREE_MEMBERSHIPS | TREE_OWNERS | TREE_RESERVATIONS
        | TREE_NODES | TREE_PLACEMENTS | TREE_FOLLOWS | TREE_READS => {
            decode(value).map(|object| Some(Stored::Object(object)))
        }
        TREE_TREES => {
            let tree = be(key).ok_or_else(|| corrupt("its key is no tree number"))?;
            let table = be(value).ok_or_else(|| corrupt("its value is no OID"))?;
            Ok(Some(Stored::Tree {
                tree,
                table: TableId(table),
                left: value.len() > 4,
            }))
        }
        _ => Ok(None),
    }
}

pub(super) fn be(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The object that a key of a catalog tree names, as it is in `catalog`.
pub(super) fn object_at(
    catalog: &super::Catalog,
    group: GroupId,
    tree: u32,
    key: &[u8],
) -> Option<Object> {
    let oid = be(key)?;
    match tree {
        TREE_DESCRIPTORS => descriptor_at(catalog, group, oid),
        TREE_ROLES => catalog
            .role(RoleId(oid))
            .map(|r| Object::Role(Arc::clone(r))),
        TREE_MEMBERSHIPS => {
            let member = RoleId(be(key.get(4..)?)?);
            let found: Option<&Membership> = catalog.memberships.get(&(member, RoleId(oid)));
            found.map(|m| Object::Membership(m.clone()))
        }
        TREE_OWNERS => catalog.group_of(RoleId(oid)).map(|g| {
            Object::Owner(super::Owner {
                role: RoleId(oid),
                group: g.0,
            })
        }),
        TREE_RESERVATIONS => {
            let name = std::str::from_utf8(key.get(4..)?).ok()?;
            catalog
                .reservation(SchemaId(oid), name)
                .map(|r| Object::Reservation(Arc::clone(r)))
        }
        TREE_NODES => catalog.node(oid).map(|n| Object::Node(Arc::clone(n))),
        TREE_PLACEMENTS => catalog
            .placement(GroupId(oid))
            .map(|p| Object::Placement(Arc::clone(p))),
        TREE_FOLLOWS => catalog
            .follow(RoleId(oid), &followed(key.get(4..)?)?)
            .map(|f| Object::Follow(Arc::clone(f))),
        TREE_READS => {
            let role = RoleId(be(key.get(4..)?)?);
            let found = catalog.last_read(TableId(oid), role);
            found.map(|read| Object::LastRead(*read))
        }
        _ => None,
    }
}

/// The keys of a catalog tree's rows, as far as `catalog` has objects of them.
pub(super) fn keys_of(catalog: &super::Catalog, group: GroupId, tree: u32) -> BTreeSet<Bytes> {
    let mut keys = BTreeSet::new();
    let mut add = |object: Object| keys.insert(place(&object).1);
    match tree {
        TREE_DESCRIPTORS => {
            let tables = catalog.tables().chain(catalog.tables_aside());
            let tables = tables.filter(|t| t.group == group);
            for table in tables.filter(|t| t.kind != TableKind::System) {
                add(Object::Table(Arc::clone(table)));
            }
            for routine in catalog.routines().filter(|r| r.group == group) {
                add(Object::Routine(Arc::clone(routine)));
            }
            for trigger in catalog.triggers().filter(|t| t.group == group) {
                add(Object::Trigger(Arc::clone(trigger)));
            }
            let Some(owner) = catalog.owner_of_group(group) else {
                return keys;
            };
            for pattern in catalog.patterns().filter(|p| p.owner == owner) {
                add(Object::Pattern(Arc::clone(pattern)));
            }
            // One that comes with its role has no row.
            let private = catalog.role(owner).map(|role| role.schema);
            let own = |s: &&Arc<Schema>| s.owner == owner && s.id.0 >= FIRST_OID;
            for schema in catalog.schemas().filter(own) {
                if Some(schema.id) != private {
                    add(Object::Schema(Arc::clone(schema)));
                }
            }
        }
        TREE_ROLES => {
            for role in catalog.roles() {
                add(Object::Role(Arc::clone(role)));
            }
        }
        TREE_MEMBERSHIPS => {
            for membership in catalog.memberships() {
                add(Object::Membership(membership.clone()));
            }
        }
        TREE_OWNERS => {
            for (role, group) in catalog.owners() {
                let group = group.0;
                add(Object::Owner(super::Owner { role, group }));
            }
        }
        TREE_RESERVATIONS => {
            for reservation in catalog.reservations.values() {
                add(Object::Reservation(Arc::clone(reservation)));
            }
        }
        TREE_NODES => {
            for node in catalog.nodes() {
                add(Object::Node(Arc::clone(node)));
            }
        }
        TREE_PLACEMENTS => {
            for placement in catalog.placements() {
                add(Object::Placement(Arc::clone(placement)));
            }
        }
        TREE_FOLLOWS => {
            for follow in catalog.follows() {
                add(Object::Follow(Arc::clone(follow)));
            }
        }
        TREE_READS => {
            for read in catalog.last_reads.values() {
                add(Object::LastRead(*read));
            }
        }
        // Trees are numbered once: who had one has had it.
        _ => {}
    }
    keys
}

fn descriptor_at(catalog: &super::Catalog, group: GroupId, oid: u32) -> Option<Object> {
    let id = TableId(oid);
    if catalog.table(id).is_some() || catalog.table_in(group, id).is_some() {
        let table = catalog.table_in(group, id);
        return table.map(|table| Object::Table(Arc::clone(table)));
    }
    if let Some(routine) = catalog.routine(oid) {
        return Some(Object::Routine(Arc::clone(routine)));
    }
    if let Some(trigger) = catalog.trigger(oid) {
        return Some(Object::Trigger(Arc::clone(trigger)));
    }
    if let Some(pattern) = catalog.patterns.get(&oid) {
        return Some(Object::Pattern(Arc::clone(pattern)));
    }
    catalog
        .schema(SchemaId(oid))
        .map(|s| Object::Schema(Arc::clone(s)))
}
