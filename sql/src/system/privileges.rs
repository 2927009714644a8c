//! `has_*_privilege`, `pg_has_role` and the functions over `aclitem`.

use super::cell::acl_items;
use super::query::relation_named;
use super::{SystemCx, names::CatalogNames};
use crate::catalog::{
    Acl, AclItem, ColumnId, Privilege, Privileges, Relation, RoleId, Schema, SchemaId, Table,
    TableId, TableKind,
};
use crate::functions::Function;
use crate::types::{Datum, Names, RegKind};
use crate::{Error, Result, state};

fn invalid(privilege: &str) -> Error {
    Error::new(
        state::INVALID_PARAMETER_VALUE,
        format!("unrecognized privilege type: \"{privilege}\""),
    )
}

/// The role of a first argument: a name, an OID, or `public`.
fn role(cx: &SystemCx<'_>, value: &Datum) -> Result<RoleId> {
    match value {
        Datum::Oid(oid) => Ok(RoleId(*oid)),
        Datum::Text(name) if &**name == "public" => Ok(RoleId::PUBLIC),
        Datum::Text(name) => Ok(cx.catalog.find_role(name)?.id),
        _ => Err(Error::internal("a role is a name or an OID")),
    }
}

/// The words of a privilege argument: (name, with grant option).
fn words(text: &str) -> Vec<(String, bool)> {
    text.split(',')
        .map(|word| {
            let word = word.trim().to_ascii_uppercase();
            match word.strip_suffix(" WITH GRANT OPTION") {
                Some(name) => (name.to_owned(), true),
                None => (word, false),
            }
        })
        .collect()
}

fn table_privilege(name: &str) -> Option<Privileges> {
    Some(match name {
        "SELECT" => Privilege::Select.into(),
        "INSERT" => Privilege::Insert.into(),
        "UPDATE" => Privilege::Update.into(),
        "DELETE" => Privilege::Delete.into(),
        "TRUNCATE" => Privilege::Truncate.into(),
        "REFERENCES" => Privilege::References.into(),
        "TRIGGER" => Privilege::Trigger.into(),
        "USAGE" => Privilege::Usage.into(),
        "READ" => Privileges::READ,
        _ => return None,
    })
}

/// Answers `has_*_privilege` and `pg_has_role`; `None` for anything else.
pub(super) fn call(
    cx: &SystemCx<'_>,
    function: &Function,
    arguments: &[Datum],
) -> Result<Option<Datum>> {
    let name = function.name;
    let column = matches!(name, "has_column_privilege");
    let objects = if column { 2 } else { 1 };
    let (who, rest) = match arguments.len().checked_sub(objects + 1) {
        Some(0) => (cx.role, arguments),
        Some(1) => (role(cx, &arguments[0])?, &arguments[1..]),
        _ => return Ok(None),
    };
    let wanted = words(rest[objects].as_str().unwrap_or(""));
    Ok(Some(match name {
        "has_table_privilege" | "has_sequence_privilege" | "has_any_column_privilege" => {
            let Some(table) = table(cx, &rest[0])? else {
                return Ok(Some(Datum::Null));
            };
            any(&wanted, |name, option| {
                let privilege = table_privilege(name).ok_or_else(|| invalid(name))?;
                let on_table = on_table(cx, who, &table, privilege, option);
                let on_column = name_of_any(function) && on_some_column(cx, who, &table, privilege);
                Ok(on_table || on_column)
            })?
        }
        "has_column_privilege" => {
            let Some(table) = table(cx, &rest[0])? else {
                return Ok(Some(Datum::Null));
            };
            let Some(id) = column_id(&table, &rest[1])? else {
                return Ok(Some(Datum::Null));
            };
            any(&wanted, |name, option| {
                let privilege = table_privilege(name).ok_or_else(|| invalid(name))?;
                let own = cx
                    .catalog
                    .column_privileges(who, &table, id)
                    .contains(privilege);
                Ok(own || on_table(cx, who, &table, privilege, option))
            })?
        }
        "has_schema_privilege" => {
            let Some(schema) = schema(cx, &rest[0])? else {
                return Ok(Some(Datum::Null));
            };
            any(&wanted, |name, option| {
                let privilege = match name {
                    "USAGE" => Privilege::Usage,
                    "CREATE" => Privilege::Create,
                    _ => return Err(invalid(name)),
                };
                Ok(cx.catalog.schema_privileges(who, &schema).has(privilege)
                    && (!option || cx.catalog.has_role(who, schema.owner)))
            })?
        }
        "has_database_privilege" => any(&wanted, |name, option| match name {
            "CONNECT" => Ok(!option),
            "CREATE" => Ok(!option),
            "TEMPORARY" | "TEMP" => Ok(false),
            _ => Err(invalid(name)),
        })?,
        "has_function_privilege"
            if let Some(Datum::Oid(oid)) = rest.first()
                && let Some(routine) = cx.catalog.routine(*oid) =>
        {
            any(&wanted, |name, option| match name {
                "EXECUTE" if option => Ok(cx.catalog.has_role(who, routine.owner)),
                "EXECUTE" => Ok(cx.catalog.sees_routine(who, routine)),
                _ => Err(invalid(name)),
            })?
        }
        "has_function_privilege" => any(&wanted, |name, option| match name {
            "EXECUTE" => Ok(!option),
            _ => Err(invalid(name)),
        })?,
        "has_type_privilege" | "has_language_privilege" => {
            any(&wanted, |name, option| match name {
                "USAGE" => Ok(!option),
                _ => Err(invalid(name)),
            })?
        }
        "has_tablespace_privilege" => Datum::Bool(cx.catalog.is_superuser(who)),
        "pg_has_role" => {
            let of = role(cx, &rest[0])?;
            any(&wanted, |name, option| match name {
                "USAGE" => Ok(cx.catalog.has_role(who, of)),
                "MEMBER" if option => Ok(cx.catalog.administers(who, of)),
                "MEMBER" => Ok(cx.catalog.is_member(who, of)),
                _ => Err(invalid(name)),
            })?
        }
        "row_security_active" => Datum::Bool(false),
        _ => return Ok(None),
    }))
}

fn name_of_any(function: &Function) -> bool {
    function.name == "has_any_column_privilege"
}

fn any(wanted: &[(String, bool)], has: impl Fn(&str, bool) -> Result<bool>) -> Result<Datum> {
    let mut found = false;
    for (name, option) in wanted {
        found |= has(name, *option)?;
    }
    Ok(Datum::Bool(found))
}

/// What the role may do: writes by others than the owner count as not granted, for they are
/// refused (but into inboxes).
fn on_table(
    cx: &SystemCx<'_>,
    who: RoleId,
    table: &Table,
    privilege: Privileges,
    option: bool,
) -> bool {
    let acts = cx.catalog.has_role(who, table.owner);
    if option {
        let grantable = table.acl.as_ref().map_or(Privileges::NONE, |acl| {
            acl.grantable(|g| cx.catalog.inherits(who, g))
        });
        return acts || grantable.contains(privilege);
    }
    let writes = [
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
        Privilege::Truncate,
    ]
    .into_iter()
    .any(|p| privilege.has(p));
    let idle = writes && !acts && table.kind == TableKind::Table && !table.is_inbox();
    !idle && cx.catalog.privileges(who, table).contains(privilege)
}

fn on_some_column(cx: &SystemCx<'_>, who: RoleId, table: &Table, privilege: Privileges) -> bool {
    table.live_columns().any(|c| {
        cx.catalog
            .column_privileges(who, table, c.id)
            .contains(privilege)
    })
}

/// The table of an argument: NULL for an OID that is not there, 42P01 for a name.
fn table(cx: &SystemCx<'_>, value: &Datum) -> Result<Option<Table>> {
    Ok(match value {
        Datum::Text(name) => match relation_named(cx, name)? {
            Relation::Table(table) | Relation::Index(table, _) => Some(Table::clone(&table)),
        },
        Datum::Oid(oid) => cx.table(TableId(*oid)).map(|t| Table::clone(t)),
        _ => None,
    })
}

fn column_id(table: &Table, value: &Datum) -> Result<Option<ColumnId>> {
    Ok(match value {
        Datum::Text(name) => Some(
            table
                .column(name)
                .ok_or_else(|| {
                    Error::new(
                        state::UNDEFINED_COLUMN,
                        format!(
                            "column \"{name}\" of relation \"{}\" does not exist",
                            table.name
                        ),
                    )
                })?
                .id,
        ),
        Datum::Int2(number) => table
            .live_columns()
            .find(|c| c.number == *number)
            .map(|c| c.id),
        _ => None,
    })
}

fn schema(cx: &SystemCx<'_>, value: &Datum) -> Result<Option<Schema>> {
    let found = match value {
        Datum::Text(name) => {
            let schema = cx.catalog.schema_by_name(name);
            let seen = schema.filter(|s| cx.catalog.sees_schema(cx.role, s));
            if seen.is_none() {
                return Err(Error::new(
                    state::INVALID_SCHEMA_NAME,
                    format!("schema \"{name}\" does not exist"),
                ));
            }
            seen
        }
        Datum::Oid(oid) => cx
            .catalog
            .schema(SchemaId(*oid))
            .filter(|s| cx.catalog.sees_schema(cx.role, s)),
        _ => None,
    };
    Ok(found.map(|s| Schema::clone(s)))
}

fn named(cx: &SystemCx<'_>, role: RoleId) -> String {
    crate::ddl::quote(&cx.catalog.role_name(role))
}

/// `acldefault(type, owner)`.
pub(super) fn acl_default(cx: &SystemCx<'_>, arguments: &[Datum]) -> Datum {
    let kind = match arguments.first() {
        Some(Datum::Char(c)) => *c,
        Some(Datum::Text(t)) => t.bytes().next().unwrap_or(0),
        _ => 0,
    };
    let owner = match arguments.get(1) {
        Some(Datum::Oid(oid)) => RoleId(*oid),
        _ => RoleId(0),
    };
    let bits = |list: &[Privilege]| {
        list.iter()
            .fold(Privileges::NONE, |all, p| all | (*p).into())
    };
    let (own, public) = match kind {
        b'r' => (Privileges::TABLE, Privileges::NONE),
        b's' => (Privileges::SEQUENCE, Privileges::NONE),
        b'n' => (Privileges::SCHEMA, Privileges::NONE),
        b'd' => (
            bits(&[Privilege::Create, Privilege::Temporary, Privilege::Connect]),
            bits(&[Privilege::Temporary, Privilege::Connect]),
        ),
        b'f' => (Privilege::Execute.into(), Privilege::Execute.into()),
        b'T' | b'l' => (Privilege::Usage.into(), Privilege::Usage.into()),
        _ => (Privileges::NONE, Privileges::NONE),
    };
    let mut items = Vec::new();
    for (grantee, privileges) in [(RoleId::PUBLIC, public), (owner, own)] {
        if !privileges.is_empty() {
            let item = AclItem {
                grantee,
                grantor: owner,
                privileges,
                options: Privileges::NONE,
            };
            items.push(item.text(|r| named(cx, r)));
        }
    }
    acl_items(items)
}

/// `makeaclitem(grantee, grantor, privilege, grantable)`.
pub(super) fn make_acl_item(cx: &SystemCx<'_>, arguments: &[Datum]) -> Result<Datum> {
    let (Some(Datum::Oid(grantee)), Some(Datum::Oid(grantor)), Some(Datum::Text(names))) =
        (arguments.first(), arguments.get(1), arguments.get(2))
    else {
        return Ok(Datum::Null);
    };
    let mut acl = Acl::default();
    let option = arguments.get(3).is_some_and(Datum::is_true);
    for (name, _) in words(names) {
        let privilege = table_privilege(&name).ok_or_else(|| invalid(&name))?;
        acl.grant(RoleId(*grantee), RoleId(*grantor), privilege, option);
    }
    let item = acl.0.first().map(|i| i.text(|r| named(cx, r)));
    Ok(item.map_or(Datum::Null, Datum::text))
}

/// `aclexplode(acl)`: (grantor, grantee, privilege_type, is_grantable).
pub(super) fn acl_explode(cx: &SystemCx<'_>, arguments: &[Datum]) -> Result<Vec<Vec<Datum>>> {
    let Some(Datum::Array(items)) = arguments.first() else {
        return Ok(Vec::new());
    };
    let names = CatalogNames {
        catalog: std::sync::Arc::clone(cx.catalog),
        path: cx.path.to_vec(),
        role: cx.role,
    };
    let mut rows = Vec::new();
    for item in items.values.iter().filter_map(Datum::as_str) {
        let Some((head, grantor)) = item.rsplit_once('/') else {
            continue;
        };
        let Some((grantee, letters)) = head.rsplit_once('=') else {
            continue;
        };
        let grantor = names.oid_of(RegKind::Role, grantor)?.unwrap_or(0);
        let grantee = match grantee {
            "" => 0,
            name => names.oid_of(RegKind::Role, name)?.unwrap_or(0),
        };
        let mut letters = letters.chars().peekable();
        while let Some(letter) = letters.next() {
            let option = letters.next_if_eq(&'*').is_some();
            let all = Privileges(u16::MAX);
            let Some(privilege) = all.iter().find(|p| p.letter() == letter) else {
                continue;
            };
            rows.push(vec![
                Datum::Oid(grantor),
                Datum::Oid(grantee),
                Datum::text(privilege.name()),
                Datum::Bool(option),
            ]);
        }
    }
    Ok(rows)
}
