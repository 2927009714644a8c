//! The one database, and what can be "installed" in it.

use super::cell::{NULL, Oid, acl_items, row};
use super::{SystemCx, SystemRow};
use crate::catalog::{DATABASE, DATABASE_OID, RoleId};

pub(super) fn pg_database(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let _ = cx;
    out.push(row![
        Oid(DATABASE_OID),
        DATABASE,
        Oid(RoleId::POSTGRES.0),
        6i32,
        b'c',
        false,
        true,
        -1i32,
        Oid(3),
        Oid(1),
        Oid(1663),
        "C.UTF-8",
        "C.UTF-8",
        NULL,
        NULL,
        NULL,
    ]);
}

pub(super) fn pg_available_extensions(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let _ = (cx, acl_items([]));
    for (name, version, comment) in [
        ("pgcrypto", "1.3", "cryptographic functions"),
        ("plpgsql", "1.0", "PL/pgSQL procedural language"),
        (
            "uuid-ossp",
            "1.1",
            "generate universally unique identifiers (UUIDs)",
        ),
    ] {
        out.push(row![name, version, version, comment]);
    }
}
