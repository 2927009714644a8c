//! The system relations of PostgreSQL, each with the function that computes its rows; one
//! without is empty, with every column.

use std::sync::Arc;

use super::shape::{Shape, shapes, static_rows};
use super::{
    SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows, database, information, objects,
    own, procs, roles, routines, tables, usage,
};
use crate::Result;

/// Computes the rows that the asking role may see.
pub(super) type Fill = fn(&SystemCx<'_>, &mut Vec<SystemRow>);

struct Postgres {
    shape: &'static Shape,
    fill: Option<Fill>,
}

impl SystemRelation for Postgres {
    fn oid(&self) -> u32 {
        self.shape.oid
    }

    fn name(&self) -> (&str, &str) {
        (self.shape.schema, self.shape.name)
    }

    fn columns(&self) -> &[SystemColumn] {
        &self.shape.columns
    }

    fn is_confidential(&self, column: &str) -> bool {
        match (self.shape.schema, self.shape.name) {
            ("pg_catalog", "pg_subscription") => column == "subconninfo",
            relation => CONFIDENTIAL.contains(&relation),
        }
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut rows = Vec::new();
        if self.shape.schema == "pg_catalog" {
            rows.extend_from_slice(static_rows(self.shape.name));
        }
        if let Some(fill) = self.fill {
            fill(cx, &mut rows);
        }
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// Relations whose rows are the session's or the server's own: registered by them.
const ELSEWHERE: [&str; 6] = [
    "pg_settings",
    "pg_stat_activity",
    "pg_locks",
    "pg_prepared_statements",
    "pg_cursors",
    "pg_timezone_names",
];

/// What PostgreSQL lets nobody but superusers read.
const CONFIDENTIAL: [(&str, &str); 20] = [
    ("information_schema", "_pg_foreign_data_wrappers"),
    ("information_schema", "_pg_foreign_servers"),
    ("information_schema", "_pg_foreign_table_columns"),
    ("information_schema", "_pg_foreign_tables"),
    ("information_schema", "_pg_user_mappings"),
    ("information_schema", "sql_parts"),
    ("information_schema", "transforms"),
    ("pg_catalog", "pg_authid"),
    ("pg_catalog", "pg_backend_memory_contexts"),
    ("pg_catalog", "pg_config"),
    ("pg_catalog", "pg_file_settings"),
    ("pg_catalog", "pg_hba_file_rules"),
    ("pg_catalog", "pg_ident_file_mappings"),
    ("pg_catalog", "pg_largeobject"),
    ("pg_catalog", "pg_replication_origin_status"),
    ("pg_catalog", "pg_shadow"),
    ("pg_catalog", "pg_shmem_allocations"),
    ("pg_catalog", "pg_statistic"),
    ("pg_catalog", "pg_statistic_ext_data"),
    ("pg_catalog", "pg_user_mapping"),
];

/// All relations of `pg_catalog` and `information_schema` that this module answers, and those of
/// `freehold` that come from the catalog. `present` names relations that others have registered.
pub fn relations() -> Vec<Arc<dyn SystemRelation>> {
    let mut out: Vec<Arc<dyn SystemRelation>> = shapes()
        .iter()
        .filter(|s| !ELSEWHERE.contains(&s.name))
        .map(|shape| {
            let fill = fill_of(shape.schema, shape.name);
            Arc::new(Postgres { shape, fill }) as Arc<dyn SystemRelation>
        })
        .collect();
    out.extend(own::relations());
    out
}

/// The columns that a relation of `pg_catalog` has in PostgreSQL 15, for those who compute one
/// of it elsewhere.
pub fn columns_of(name: &str) -> Option<(u32, &'static [SystemColumn])> {
    let shape = shapes()
        .iter()
        .find(|s| s.schema == "pg_catalog" && s.name == name)?;
    Some((shape.oid, &shape.columns))
}

fn fill_of(schema: &str, name: &str) -> Option<Fill> {
    if schema == "information_schema" {
        return information::fill_of(name);
    }
    Some(match name {
        "pg_class" => tables::pg_class,
        "pg_attribute" => tables::pg_attribute,
        "pg_attrdef" => tables::pg_attrdef,
        "pg_index" => tables::pg_index,
        "pg_constraint" => tables::pg_constraint,
        "pg_sequence" => tables::pg_sequence,
        "pg_rewrite" => tables::pg_rewrite,
        "pg_namespace" => objects::pg_namespace,
        "pg_description" => objects::pg_description,
        "pg_shdescription" => objects::pg_shdescription,
        "pg_depend" => objects::pg_depend,
        "pg_tables" => objects::pg_tables,
        "pg_matviews" => objects::pg_matviews,
        "pg_views" => objects::pg_views,
        "pg_indexes" => objects::pg_indexes,
        "pg_sequences" => objects::pg_sequences,
        "pg_authid" => roles::pg_authid,
        "pg_roles" => roles::pg_roles,
        "pg_user" => roles::pg_user,
        "pg_shadow" => roles::pg_shadow,
        "pg_group" => roles::pg_group,
        "pg_auth_members" => roles::pg_auth_members,
        "pg_db_role_setting" => roles::pg_db_role_setting,
        "pg_database" => database::pg_database,
        "pg_available_extensions" => database::pg_available_extensions,
        "pg_type" => procs::pg_type,
        "pg_proc" => routines::pg_proc,
        "pg_trigger" => routines::pg_trigger,
        "pg_operator" => procs::pg_operator,
        "pg_cast" => procs::pg_cast,
        "pg_aggregate" => procs::pg_aggregate,
        "pg_stat_user_tables" | "pg_stat_all_tables" => usage::pg_stat_tables,
        "pg_stat_user_indexes" | "pg_stat_all_indexes" => usage::pg_stat_indexes,
        "pg_statio_user_tables" | "pg_statio_all_tables" => usage::pg_statio_tables,
        "pg_statio_user_indexes" | "pg_statio_all_indexes" => usage::pg_statio_indexes,
        "pg_statio_user_sequences" | "pg_statio_all_sequences" => usage::pg_statio_sequences,
        "pg_stat_xact_user_tables" | "pg_stat_xact_all_tables" => usage::pg_stat_xact_tables,
        "pg_stat_database" => usage::pg_stat_database,
        _ => return None,
    })
}

/// Is the relation one of this module's?
#[cfg(test)]
pub(super) fn is_here(name: &str) -> bool {
    !ELSEWHERE.contains(&name)
}
