//! The functions of the catalog: `pg_get_*def`, `has_*_privilege`, `*_is_visible`, comments,
//! sizes. Each sees what the asking role sees: what does not exist for it gives NULL (by OID) or
//! 42P01 (by name), as in PostgreSQL for what is not there.

use std::sync::Arc;

use storage::GroupId;

use super::cell::{Cell, Oid, texts};
use super::objects::{CLASS_PG_CLASS, CLASS_PG_CONSTRAINT, CLASS_PG_NAMESPACE, comment};
use super::{CatalogNames, SystemCx, definition, privileges};
use crate::catalog::{Relation, RoleId, SchemaId, Table, TableId, TableKind};
use crate::ddl::{quote, split_name};
use crate::functions::{Function, function, operator};
use crate::types::kind::format_type;
use crate::types::{Datum, Names, RegKind, Type};
use crate::{Error, Result, state};

/// Bytes of a tree on disk; `None`: it is not held here.
pub type TreeBytes<'a> = &'a dyn Fn(GroupId, u32) -> Option<u64>;

fn text(value: Option<impl AsRef<str>>) -> Datum {
    value.map_or(Datum::Null, Datum::text)
}

fn oid(arguments: &[Datum], at: usize) -> u32 {
    match arguments.get(at) {
        Some(Datum::Oid(oid)) => *oid,
        other => other
            .and_then(Datum::as_i64)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
    }
}

fn string(arguments: &[Datum], at: usize) -> &str {
    arguments.get(at).and_then(Datum::as_str).unwrap_or("")
}

fn int(arguments: &[Datum], at: usize) -> i64 {
    arguments.get(at).and_then(Datum::as_i64).unwrap_or(0)
}

/// Answers a scalar function, or `None` if it is not one of the catalog. Arguments are in
/// declared order; strict functions are not called with NULLs.
///
/// # Errors
/// As the function of PostgreSQL: 42P01 for names that are not there, 22023 for privileges.
pub fn call(
    cx: &SystemCx<'_>,
    function: &Function,
    arguments: &[Datum],
    bytes: TreeBytes<'_>,
) -> Result<Option<Datum>> {
    let name = function.name;
    if name.starts_with("has_") || name == "pg_has_role" || name == "row_security_active" {
        return privileges::call(cx, function, arguments);
    }
    if let Some(kind) = name.strip_prefix("to_reg") {
        return to_reg(cx, kind, string(arguments, 0));
    }
    if name.starts_with("pg_get_") {
        return get(cx, function, arguments);
    }
    if let Some(kind) = name
        .strip_prefix("pg_")
        .and_then(|n| n.strip_suffix("_is_visible"))
    {
        return Ok(visible(cx, kind, oid(arguments, 0)));
    }
    if name.ends_with("_size") && name.starts_with("pg_") {
        return sizes(cx, function, arguments, bytes);
    }
    Ok(Some(match name {
        "format_type" => match arguments.first() {
            None | Some(Datum::Null) => Datum::Null,
            Some(_) => {
                let modifier = match arguments.get(1) {
                    Some(Datum::Int4(m)) => *m,
                    _ => -1,
                };
                Datum::text(format_type(oid(arguments, 0), modifier))
            }
        },
        "obj_description" => {
            let class = match arguments.get(1) {
                Some(Datum::Text(class)) => class_oid(class),
                // Without a catalog's name: whatever has the OID.
                _ => return Ok(Some(text(any_comment(cx, oid(arguments, 0))))),
            };
            text(comment(cx, class, oid(arguments, 0), 0))
        }
        "col_description" => {
            let sub = int(arguments, 1) as i32;
            text(if sub == 0 {
                None
            } else {
                comment(cx, CLASS_PG_CLASS, oid(arguments, 0), sub)
            })
        }
        "shobj_description" => shared_comment(cx, oid(arguments, 0), string(arguments, 1)),
        "acldefault" => privileges::acl_default(cx, arguments),
        "makeaclitem" => privileges::make_acl_item(cx, arguments)?,
        "pg_relation_filenode" => {
            let table = seen_table(cx, oid(arguments, 0));
            table.map_or(Datum::Null, |_| Datum::Oid(oid(arguments, 0)))
        }
        "pg_relation_filepath" => Datum::Null,
        "pg_relation_is_updatable" => {
            let table = seen_table(cx, oid(arguments, 0));
            Datum::Int4(if table.is_some_and(|t| t.is_ordinary()) {
                28
            } else {
                0
            })
        }
        "pg_column_is_updatable" => {
            let table = seen_table(cx, oid(arguments, 0));
            Datum::Bool(table.is_some_and(|t| t.is_ordinary()))
        }
        "pg_relation_is_publishable" => {
            let table = seen_table(cx, oid(arguments, 0));
            Datum::Bool(table.is_some_and(|t| t.is_ordinary()))
        }
        "pg_partition_root" => Datum::Null,
        "pg_describe_object" => {
            describe(cx, oid(arguments, 0), oid(arguments, 1), int(arguments, 2))
        }
        "pg_index_column_has_property" => index_column_property(cx, arguments),
        "pg_index_has_property" => match string(arguments, 1) {
            "clusterable" | "index_scan" | "backward_scan" => Datum::Bool(true),
            "bitmap_scan" => Datum::Bool(false),
            _ => Datum::Null,
        },
        "pg_indexam_has_property" => match string(arguments, 1) {
            "can_order" | "can_unique" | "can_multi_col" | "can_include" => Datum::Bool(true),
            "can_exclude" => Datum::Bool(false),
            _ => Datum::Null,
        },
        "pg_tablespace_location" => Datum::text(""),
        "pg_my_temp_schema" => Datum::Oid(0),
        "pg_is_other_temp_schema" => Datum::Bool(false),
        "pg_collation_actual_version" | "pg_database_collation_actual_version" => Datum::Null,
        _ => return Ok(None),
    }))
}

/// Answers a set-returning function, one value (or record of values) per row; `None` if it is
/// not one of the catalog.
pub fn call_rows(
    cx: &SystemCx<'_>,
    function: &Function,
    arguments: &[Datum],
) -> Result<Option<Vec<Vec<Datum>>>> {
    Ok(Some(match function.name {
        // There are no partitions: nothing has ancestors, and a table's tree is itself.
        "pg_partition_ancestors" => Vec::new(),
        "pg_partition_tree" => Vec::new(),
        "pg_get_publication_tables" | "pg_get_replication_slots" => Vec::new(),
        "pg_available_extension_versions" | "pg_available_extensions" => {
            let mut rows = Vec::new();
            super::database::pg_available_extensions(cx, &mut rows);
            rows
        }
        "pg_sequence_parameters" => {
            let Some(table) = seen_table(cx, oid(arguments, 0)) else {
                return Ok(Some(Vec::new()));
            };
            match &table.kind {
                TableKind::Sequence(o) => vec![vec![
                    o.start.datum(),
                    o.min.datum(),
                    o.max.datum(),
                    o.increment.datum(),
                    o.cycle.datum(),
                    o.cache.datum(),
                    Oid(o.ty.oid).datum(),
                ]],
                _ => Vec::new(),
            }
        }
        "pg_options_to_table" => options_to_table(arguments.first()),
        "aclexplode" => privileges::acl_explode(cx, arguments)?,
        _ => return Ok(None),
    }))
}

fn options_to_table(options: Option<&Datum>) -> Vec<Vec<Datum>> {
    let Some(Datum::Array(list)) = options else {
        return Vec::new();
    };
    list.values
        .iter()
        .filter_map(Datum::as_str)
        .map(|option| match option.split_once('=') {
            Some((name, value)) => vec![Datum::text(name), Datum::text(value)],
            None => vec![Datum::text(option), Datum::Null],
        })
        .collect()
}

fn names(cx: &SystemCx<'_>) -> CatalogNames {
    CatalogNames {
        catalog: Arc::clone(cx.catalog),
        path: cx.path.to_vec(),
        role: cx.role,
    }
}

fn to_reg(cx: &SystemCx<'_>, kind: &str, name: &str) -> Result<Option<Datum>> {
    let kind = match kind {
        "class" => RegKind::Class,
        "type" => RegKind::Type,
        "proc" => RegKind::Proc,
        "procedure" => RegKind::Procedure,
        "oper" => RegKind::Oper,
        "operator" => RegKind::Operator,
        "namespace" => RegKind::Namespace,
        "role" => RegKind::Role,
        "collation" => RegKind::Collation,
        _ => return Ok(None),
    };
    // As PostgreSQL: NULL for what is not there and for what is ambiguous.
    Ok(Some(match names(cx).oid_of(kind, name) {
        Ok(found) => found.map_or(Datum::Null, Datum::Oid),
        Err(e) if e.state() == state::AMBIGUOUS_FUNCTION => Datum::Null,
        Err(e) => return Err(e),
    }))
}

fn seen_table<'a>(cx: &SystemCx<'a>, oid: u32) -> Option<&'a Arc<Table>> {
    cx.table(TableId(oid))
}

/// A relation by the text form of `regclass`.
pub(super) fn relation_named(cx: &SystemCx<'_>, name: &str) -> Result<Relation> {
    if let Ok(oid) = name.parse::<u32>()
        && let Some(relation) = cx.catalog.relation(oid)
    {
        return Ok(relation);
    }
    let parts = split_name(name)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    cx.catalog.resolve(&parts, cx.path, cx.role)
}

fn get(cx: &SystemCx<'_>, function: &Function, arguments: &[Datum]) -> Result<Option<Datum>> {
    let id = oid(arguments, 0);
    Ok(Some(match function.name {
        "pg_get_userbyid" => Datum::text(cx.catalog.role_name(RoleId(id))),
        "pg_get_expr" => expression(cx, arguments),
        "pg_get_constraintdef" => {
            let pretty = matches!(arguments.get(1), Some(Datum::Bool(true)));
            text(
                cx.catalog
                    .constraint_table(id)
                    .filter(|t| cx.sees_all(t))
                    .and_then(|table| {
                        let constraint = table.constraints.iter().find(|c| c.id() == id)?;
                        Some(definition::constraint(
                            cx.catalog, cx.path, table, constraint, pretty,
                        ))
                    }),
            )
        }
        "pg_get_indexdef" => {
            let column = usize::try_from(int(arguments, 1)).ok().filter(|c| *c > 0);
            let pretty = matches!(arguments.get(2), Some(Datum::Bool(true)));
            text(
                cx.catalog
                    .index(id)
                    .filter(|(t, _)| cx.sees_all(t))
                    .map(|(table, index)| {
                        let path = if pretty { cx.path } else { &[] };
                        definition::index(cx.catalog, path, table, index, column, pretty)
                    }),
            )
        }
        "pg_get_viewdef" => {
            let view = match arguments.first() {
                Some(Datum::Text(name)) => match relation_named(cx, name)? {
                    Relation::Table(table) => Some(table),
                    Relation::Index(..) => None,
                },
                _ => seen_table(cx, id).cloned(),
            };
            text(view.and_then(|v| definition::view(cx.catalog, cx.role, &v)))
        }
        "pg_get_ruledef" => {
            let view = seen_table(cx, id);
            text(view.and_then(|v| {
                let query = definition::view(cx.catalog, cx.role, v)?;
                Some(format!(
                    "CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {}.{} DO INSTEAD{query}",
                    quote(cx.catalog.schema_name(v.schema)),
                    quote(&v.name)
                ))
            }))
        }
        "pg_get_serial_sequence" => {
            serial_sequence(cx, string(arguments, 0), string(arguments, 1))?
        }
        "pg_get_function_result" if let Some(routine) = super::routines::routine(cx, id) => {
            Datum::text(routine.returns.name())
        }
        "pg_get_function_arguments" if let Some(routine) = super::routines::routine(cx, id) => {
            Datum::text(super::routines::arguments(routine, true))
        }
        "pg_get_function_identity_arguments"
            if let Some(routine) = super::routines::routine(cx, id) =>
        {
            Datum::text(super::routines::arguments(routine, false))
        }
        "pg_get_function_result" => text(function_of(id).map(function_result)),
        "pg_get_function_arguments" => text(function_of(id).map(|f| function_arguments(f, true))),
        "pg_get_function_identity_arguments" => {
            text(function_of(id).map(|f| function_arguments(f, false)))
        }
        "pg_get_functiondef" => text(super::routines::function_definition(cx, id)),
        "pg_get_triggerdef" => {
            let pretty = matches!(arguments.get(1), Some(Datum::Bool(true)));
            text(super::routines::trigger_definition(cx, id, pretty))
        }
        "pg_get_function_sqlbody"
        | "pg_get_function_arg_default"
        | "pg_get_partkeydef"
        | "pg_get_partition_constraintdef"
        | "pg_get_statisticsobjdef"
        | "pg_get_statisticsobjdef_columns"
        | "pg_get_replica_identity_index" => Datum::Null,
        "pg_get_statisticsobjdef_expressions" => texts([]),
        _ => return Ok(None),
    }))
}

fn function_of(oid: u32) -> Option<&'static Function> {
    function(oid)
}

/// `pg_get_expr(tree, relation)`: our trees are SQL text.
fn expression(cx: &SystemCx<'_>, arguments: &[Datum]) -> Datum {
    let source = string(arguments, 0);
    let pretty = matches!(arguments.get(2), Some(Datum::Bool(true)));
    if source.is_empty() || !super::seen::sees_text(cx, definition::text_of(source)) {
        return Datum::Null;
    }
    let id = oid(arguments, 1);
    let Some(relation) = cx.catalog.relation(id) else {
        return if id == 0 {
            Datum::text(definition::text_of(source))
        } else {
            Datum::Null
        };
    };
    let table = relation.table();
    if !cx.sees(table) {
        return Datum::Null;
    }
    Datum::text(definition::expression_of(
        cx.catalog, cx.path, table, source, pretty,
    ))
}

fn serial_sequence(cx: &SystemCx<'_>, table: &str, column: &str) -> Result<Datum> {
    let relation = relation_named(cx, table)?;
    let table = relation.table();
    let Some(found) = table.column(column) else {
        return Err(Error::new(
            state::UNDEFINED_COLUMN,
            format!(
                "column \"{column}\" of relation \"{}\" does not exist",
                table.name
            ),
        ));
    };
    let sequence = cx.catalog.tables().find(|t| match &t.kind {
        TableKind::Sequence(o) => o.owned_by == Some((table.id, found.id)),
        _ => false,
    });
    // Always qualified, as in PostgreSQL.
    Ok(text(sequence.map(|s| {
        format!(
            "{}.{}",
            quote(cx.catalog.schema_name(s.schema)),
            quote(&s.name)
        )
    })))
}

fn function_result(f: &Function) -> String {
    let table: Vec<String> = f
        .modes
        .bytes()
        .zip(&f.all_arguments)
        .enumerate()
        .filter(|(_, (mode, _))| *mode == b't')
        .map(|(at, (_, ty))| {
            let name = f.argument_names.get(at).copied().unwrap_or("");
            format!("{} {}", quote(name), Type::new(*ty).name())
        })
        .collect();
    if !table.is_empty() {
        return format!("TABLE({})", table.join(", "));
    }
    let name = Type::new(f.result).name();
    if f.returns_set {
        format!("SETOF {name}")
    } else {
        name
    }
}

fn function_arguments(f: &Function, defaults: bool) -> String {
    let all: &[u32] = if f.all_arguments.is_empty() {
        &f.arguments
    } else {
        &f.all_arguments
    };
    let inputs = f.arguments.len();
    let texts: Vec<&str> = split_defaults(f.default_text);
    let first_default = inputs.saturating_sub(f.defaults);
    let mut out = Vec::new();
    let mut input = 0;
    for (at, ty) in all.iter().enumerate() {
        let mode = f.modes.as_bytes().get(at).copied().unwrap_or(b'i');
        let is_input = matches!(mode, b'i' | b'b' | b'v');
        if mode == b't' || !defaults && !is_input {
            continue;
        }
        let mut text = match mode {
            b'o' => "OUT ".to_owned(),
            b'b' => "INOUT ".to_owned(),
            b'v' => "VARIADIC ".to_owned(),
            _ => String::new(),
        };
        if let Some(name) = f.argument_names.get(at).filter(|n| !n.is_empty()) {
            text.push_str(&quote(name));
            text.push(' ');
        }
        text.push_str(&Type::new(*ty).name());
        if is_input {
            if defaults
                && input >= first_default
                && let Some(d) = texts.get(input - first_default)
            {
                text.push_str(&format!(" DEFAULT {d}"));
            }
            input += 1;
        }
        out.push(text);
    }
    out.join(", ")
}

/// Splits `a, 'b, c'::text` at its own commas.
fn split_defaults(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut depth, mut quoted, mut start) = (0i32, false, 0);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' | '[' if !quoted => depth += 1,
            ')' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                out.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        out.push(text[start..].trim());
    }
    out
}

/// Is the object found without its schema's name?
fn visible(cx: &SystemCx<'_>, kind: &str, oid: u32) -> Option<Datum> {
    Some(match kind {
        "table" => {
            let Some(relation) = cx.catalog.relation(oid).filter(|r| cx.sees(r.table())) else {
                return Some(Datum::Null);
            };
            let first = cx
                .path
                .iter()
                .find_map(|s| cx.catalog.relation_by_name(*s, relation.name()))
                .map(|r| r.oid());
            Datum::Bool(first == Some(oid))
        }
        "type" => Type::new(oid)
            .row()
            .map_or(Datum::Null, |_| Datum::Bool(true)),
        "function" if let Some(routine) = super::routines::routine(cx, oid) => {
            Datum::Bool(cx.path.contains(&routine.schema))
        }
        "function" => function(oid).map_or(Datum::Null, |f| {
            let schema = super::procs::schema_of(f);
            // PostgreSQL looks into its catalog whether the path names it or not.
            Datum::Bool(schema == SchemaId::PG_CATALOG || cx.path.contains(&schema))
        }),
        "operator" => operator(oid).map_or(Datum::Null, |_| Datum::Bool(true)),
        "opclass" | "opfamily" | "collation" | "conversion" | "ts_config" | "ts_dict"
        | "ts_parser" | "ts_template" => Datum::Bool(true),
        "statistics_obj" => Datum::Null,
        _ => return None,
    })
}

/// The OID of a catalog by name, as `obj_description` takes it.
fn class_oid(name: &str) -> u32 {
    super::shape::shapes()
        .iter()
        .find(|s| s.schema == "pg_catalog" && s.name == name)
        .map_or(0, |s| s.oid)
}

fn any_comment(cx: &SystemCx<'_>, object: u32) -> Option<String> {
    [
        CLASS_PG_CLASS,
        CLASS_PG_CONSTRAINT,
        CLASS_PG_NAMESPACE,
        super::routines::CLASS_PG_PROC,
        super::routines::CLASS_PG_TRIGGER,
        1247,
    ]
    .into_iter()
    .find_map(|class| comment(cx, class, object, 0))
}

fn shared_comment(cx: &SystemCx<'_>, object: u32, class: &str) -> Datum {
    let mut rows = Vec::new();
    super::objects::pg_shdescription(cx, &mut rows);
    let class = class_oid(class);
    let found = rows.into_iter().find(
        |r| matches!((&r[0], &r[1]), (Datum::Oid(o), Datum::Oid(c)) if *o == object && *c == class),
    );
    found.and_then(|mut r| r.pop()).unwrap_or(Datum::Null)
}

/// `pg_describe_object` of what a catalog query usually asks for.
fn describe(cx: &SystemCx<'_>, class: u32, object: u32, sub: i64) -> Datum {
    let described = match class {
        CLASS_PG_CLASS => cx
            .catalog
            .relation(object)
            .filter(|r| cx.sees(r.table()))
            .map(|r| {
                let name = definition::relation_name(cx.catalog, cx.path, &r);
                let word = match &r {
                    Relation::Index(..) => "index",
                    Relation::Table(t) => crate::catalog::kind(t),
                };
                let column = r
                    .table()
                    .live_columns()
                    .find(|c| i64::from(c.number) == sub)
                    .map(|c| format!("column {} of ", quote(&c.name)));
                format!("{}{word} {name}", column.unwrap_or_default())
            }),
        CLASS_PG_CONSTRAINT => cx
            .catalog
            .constraint_table(object)
            .filter(|t| cx.sees_all(t))
            .and_then(|t| {
                let constraint = t.constraints.iter().find(|c| c.id() == object)?;
                let table = Relation::Table(Arc::clone(t));
                let name = definition::relation_name(cx.catalog, cx.path, &table);
                Some(format!(
                    "constraint {} on table {name}",
                    quote(constraint.name())
                ))
            }),
        CLASS_PG_NAMESPACE => names(cx)
            .name_of(RegKind::Namespace, object)
            .map(|name| format!("schema {name}")),
        _ => None,
    };
    text(described)
}

fn index_column_property(cx: &SystemCx<'_>, arguments: &[Datum]) -> Datum {
    let Some((table, index)) = cx.catalog.index(oid(arguments, 0)) else {
        return Datum::Null;
    };
    let at = usize::try_from(int(arguments, 1)).unwrap_or(0);
    if !cx.sees_all(table) {
        return Datum::Null;
    }
    let Some(column) = index.columns.get(at.wrapping_sub(1)) else {
        return Datum::Null;
    };
    match string(arguments, 2) {
        "asc" => Datum::Bool(!column.descending),
        "desc" => Datum::Bool(column.descending),
        "nulls_first" => Datum::Bool(column.nulls_first),
        "nulls_last" => Datum::Bool(!column.nulls_first),
        "orderable" | "returnable" | "search_array" | "search_nulls" => Datum::Bool(true),
        "distance_orderable" => Datum::Bool(false),
        _ => Datum::Null,
    }
}

fn sizes(
    cx: &SystemCx<'_>,
    function: &Function,
    arguments: &[Datum],
    bytes: TreeBytes<'_>,
) -> Result<Option<Datum>> {
    // Of rows and indexes.
    let all = |table: &Table| -> Option<(u64, u64)> {
        if table.kind != TableKind::Table {
            return Some((0, 0));
        }
        let rows = bytes(table.group, table.tree)?;
        let secondary = table
            .indexes
            .iter()
            .filter(|i| i.tree != table.tree && i.tree != 0);
        let secondary = secondary.map(|i| bytes(table.group, i.tree));
        Some((rows, secondary.sum::<Option<u64>>()?))
    };
    let id = oid(arguments, 0);
    let relation = || cx.catalog.relation(id).filter(|r| cx.sees(r.table()));
    let total = match function.name {
        "pg_database_size" | "pg_tablespace_size" => cx
            .catalog
            .tables()
            .filter(|t| cx.sees(t))
            .filter_map(|t| all(t))
            .map(|(rows, indexes)| rows + indexes)
            .sum::<u64>()
            .into(),
        "pg_relation_size" => relation().and_then(|relation| match relation {
            Relation::Table(table) => Some(all(&table)?.0),
            Relation::Index(table, at) => bytes(table.group, table.indexes[at].tree),
        }),
        "pg_table_size" => relation().and_then(|r| Some(all(r.table())?.0)),
        "pg_indexes_size" => relation().and_then(|r| Some(all(r.table())?.1)),
        "pg_total_relation_size" => relation()
            .and_then(|r| all(r.table()))
            .map(|(rows, indexes)| rows + indexes),
        _ => return Ok(None),
    };
    Ok(Some(match total {
        Some(total) => Datum::Int8(i64::try_from(total).unwrap_or(i64::MAX)),
        None => Datum::Null,
    }))
}
