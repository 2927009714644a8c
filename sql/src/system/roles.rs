//! Roles and memberships.

use super::cell::{NULL, Oid, oids, row, texts};
use super::{SystemCx, SystemRow};
use crate::catalog::Role;
use crate::types::Datum;

fn until(role: &Role) -> Datum {
    role.valid_until.map_or(Datum::Null, Datum::Timestamptz)
}

fn config(role: &Role) -> Datum {
    if role.settings.is_empty() {
        return Datum::Null;
    }
    texts(
        role.settings
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    )
}

/// With the passwords, so that only superusers may read it.
pub(super) fn pg_authid(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for role in cx.catalog.roles() {
        out.push(row![
            Oid(role.id.0),
            role.name.as_str(),
            role.superuser,
            role.inherit,
            role.create_role,
            role.create_db,
            role.login,
            role.replication,
            role.bypass_rls,
            role.connection_limit,
            role.verifier.clone(),
            until(role),
        ]);
    }
}

pub(super) fn pg_roles(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for role in cx.catalog.roles() {
        out.push(row![
            role.name.as_str(),
            role.superuser,
            role.inherit,
            role.create_role,
            role.create_db,
            role.login,
            role.replication,
            role.connection_limit,
            "********",
            until(role),
            role.bypass_rls,
            config(role),
            Oid(role.id.0),
        ]);
    }
}

fn user(role: &Role, password: Datum) -> SystemRow {
    row![
        role.name.as_str(),
        Oid(role.id.0),
        role.create_db,
        role.superuser,
        role.replication,
        role.bypass_rls,
        password,
        until(role),
        config(role),
    ]
}

pub(super) fn pg_user(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for role in cx.catalog.roles().filter(|r| r.login) {
        out.push(user(role, Datum::text("********")));
    }
}

pub(super) fn pg_shadow(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for role in cx.catalog.roles().filter(|r| r.login) {
        out.push(user(
            role,
            role.verifier.as_deref().map_or(Datum::Null, Datum::text),
        ));
    }
}

pub(super) fn pg_group(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for role in cx.catalog.roles().filter(|r| !r.login) {
        let members = cx.catalog.memberships().filter(|m| m.role == role.id);
        out.push(row![
            role.name.as_str(),
            Oid(role.id.0),
            oids(members.map(|m| m.member.0))
        ]);
    }
}

pub(super) fn pg_auth_members(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for m in cx.catalog.memberships() {
        out.push(row![
            Oid(m.role.0),
            Oid(m.member.0),
            Oid(m.grantor.0),
            m.admin
        ]);
    }
}

pub(super) fn pg_db_role_setting(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let _ = NULL;
    for role in cx.catalog.roles().filter(|r| !r.settings.is_empty()) {
        out.push(row![Oid(0), Oid(role.id.0), config(role)]);
    }
}
