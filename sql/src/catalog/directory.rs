//! What the directory (group 0) gives out before an owner's commit: blocks of OIDs, groups, and
//! names in `public`. Pure: each function says which rows a side entry must write.

use std::ops::Range;

use bytes::Bytes;
use storage::GroupId;

use super::codec::{self, SystemWrite, TREE_OIDS};
use super::{Catalog, Change, Object, Owner, Reservation, RoleId, SchemaId};
use crate::{Error, Result, state};

/// The first OID that is not the system's, as in PostgreSQL.
pub const FIRST_OID: u32 = 16_384;
/// OIDs taken at once by one group.
pub const OID_BLOCK: u32 = 256;
/// Microseconds after which a reserved name is free again if no commit has used it.
pub const RESERVATION_LAPSE: u64 = 10 * 60 * 1_000_000;

/// The answer to a wish for names.
#[derive(Debug)]
pub enum Reserved {
    /// They are the role's already.
    Held,
    /// They are, once these rows are committed in the directory, each unchanged since it was read.
    Write(Vec<SystemWrite>),
}

/// The next block of OIDs: `current` is the value of the row with [`oid_key`].
pub fn oid_block(current: Option<&[u8]>) -> Result<(Range<u32>, SystemWrite)> {
    let start = match current {
        Some(bytes) => codec::be(bytes)
            .ok_or_else(|| Error::new(state::DATA_CORRUPTED, "row of OID blocks is damaged"))?,
        None => FIRST_OID,
    };
    let end = start.checked_add(OID_BLOCK).ok_or_else(|| {
        Error::new(
            state::PROGRAM_LIMIT_EXCEEDED,
            "all object identifiers are used up",
        )
    })?;
    let value = Some(codec::number(end));
    Ok((
        start..end,
        SystemWrite {
            tree: TREE_OIDS,
            key: oid_key(),
            value,
        },
    ))
}

/// The key of the row of [`oid_block`] in [`TREE_OIDS`].
pub fn oid_key() -> Bytes {
    codec::number(0)
}

/// Gives a role a group of its own.
pub fn owner(catalog: &Catalog, role: RoleId) -> (GroupId, Vec<SystemWrite>) {
    let last = catalog
        .owners()
        .map(|(_, group)| group.0)
        .max()
        .unwrap_or(0);
    let group = GroupId(last + 1);
    let owner = Object::Owner(Owner {
        role,
        group: group.0,
    });
    (
        group,
        codec::rows(&Change::create(GroupId::DIRECTORY, owner)),
    )
}

/// Reserves names in `public` (or schema names: schema 0) for a role. `now` is microseconds
/// since 1970.
///
/// # Errors
/// 42P07 (42P06 for schemas) when another owner has the name, visible or not: the one stated
/// exception to "private is non-existent".
pub fn reserve(
    catalog: &Catalog,
    names: &[(SchemaId, String)],
    role: RoleId,
    now: u64,
) -> Result<Reserved> {
    let mut writes = Vec::new();
    for (schema, name) in names {
        let taken = match schema.0 {
            0 => catalog.schema_by_name(name).map(|s| s.owner),
            _ => catalog
                .relation_by_name(*schema, name)
                .map(|r| r.table().owner),
        };
        let held = catalog.reservation(*schema, name);
        let fresh = held.filter(|r| !lapsed(r, now));
        match taken.or(fresh.map(|r| r.role)) {
            Some(other) if other != role => return Err(exists(*schema, name)),
            _ => {}
        }
        if fresh.is_some_and(|r| now.saturating_sub(r.taken_at) < RESERVATION_LAPSE / 2) {
            continue;
        }
        let reservation = Reservation {
            schema: *schema,
            name: name.clone(),
            role,
            taken_at: now,
        };
        let object = Object::Reservation(reservation.into());
        writes.extend(codec::rows(&Change::create(GroupId::DIRECTORY, object)));
    }
    Ok(if writes.is_empty() {
        Reserved::Held
    } else {
        Reserved::Write(writes)
    })
}

/// Must hold at the commit of a transaction that uses reserved names: if not `Held`, the rows
/// are committed first (they renew the reservation), then it is asked again.
pub fn renew(
    catalog: &Catalog,
    names: &[(SchemaId, String)],
    role: RoleId,
    now: u64,
) -> Result<Reserved> {
    for (schema, name) in names {
        let held = catalog.reservation(*schema, name);
        if held.is_some_and(|r| r.role != role) {
            return Err(Error::new(
                state::SERIALIZATION_FAILURE,
                format!("the reservation of the name \"{name}\" has lapsed"),
            )
            .hint("Run the transaction again."));
        }
    }
    reserve(catalog, names, role, now)
}

fn lapsed(reservation: &Reservation, now: u64) -> bool {
    now.saturating_sub(reservation.taken_at) >= RESERVATION_LAPSE
}

fn exists(schema: SchemaId, name: &str) -> Error {
    if schema.0 == 0 {
        Error::new(
            state::DUPLICATE_SCHEMA,
            format!("schema \"{name}\" already exists"),
        )
    } else {
        Error::new(
            state::DUPLICATE_TABLE,
            format!("relation \"{name}\" already exists"),
        )
    }
}
