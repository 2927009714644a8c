//! Definitions as SQL text: what `pg_get_expr`, `pg_get_constraintdef`, `pg_get_indexdef` and
//! `pg_get_viewdef` print.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Value, VisitMut, visit_expressions_mut};

use crate::catalog::{
    Catalog, ColumnId, Constraint, ForeignKey, Index, IndexKey, ReferentialAction, Relation,
    RoleId, SchemaId, Table, TableKind,
};
use crate::ddl::{columns_in, parse_query, quote, relations_in};

/// A relation's name as `regclass` prints it: qualified unless the path finds it.
pub(crate) fn relation_name(catalog: &Catalog, path: &[SchemaId], relation: &Relation) -> String {
    let name = relation.name();
    let found = path.iter().find_map(|s| catalog.relation_by_name(*s, name));
    if found.is_some_and(|r| r.oid() == relation.oid()) {
        return quote(name);
    }
    let schema = catalog.schema_name(relation.table().schema);
    format!("{}.{}", quote(schema), quote(name))
}

/// Does everything that an expression names exist for the role?
pub(super) fn sees_expression(catalog: &Catalog, role: RoleId, text: &str) -> bool {
    relations_in(text).into_iter().all(|oid| {
        catalog
            .relation(oid)
            .is_none_or(|r| catalog.sees(role, r.table()))
    })
}

/// A stored expression with names instead of OIDs.
pub(crate) fn expression(catalog: &Catalog, path: &[SchemaId], text: &str) -> String {
    let Ok(mut expr) = crate::parse::parse_expression(text) else {
        return text.to_owned();
    };
    name_relations(catalog, path, &mut expr);
    expr.to_string()
}

/// A stored expression of a table as `pg_get_expr` prints it.
pub(crate) fn expression_of(
    catalog: &Catalog,
    path: &[SchemaId],
    table: &Table,
    text: &str,
    pretty: bool,
) -> String {
    let _ = (table, pretty);
    expression(catalog, path, text)
}

/// Puts names where `'oid'::regclass` stands.
fn name_relations<V: VisitMut>(catalog: &Catalog, path: &[SchemaId], tree: &mut V) {
    let _ = visit_expressions_mut(tree, |e| {
        if let Expr::Cast {
            expr: inner,
            data_type,
            ..
        } = e
            && data_type.to_string().eq_ignore_ascii_case("regclass")
            && let Expr::Value(value) = inner.as_mut()
            && let Value::SingleQuotedString(oid) = &value.value
            && let Some(relation) = oid.parse().ok().and_then(|oid| catalog.relation(oid))
        {
            value.value = Value::SingleQuotedString(relation_name(catalog, path, &relation));
        }
        ControlFlow::<()>::Continue(())
    });
}

/// The query of a view, NULL to who may not see all that it names.
pub(crate) fn view(catalog: &Catalog, role: RoleId, view: &Table) -> Option<String> {
    let TableKind::View(definition) = &view.kind else {
        return None;
    };
    let sees_all = view
        .depends_on
        .iter()
        .all(|(on, _)| catalog.table(*on).is_some_and(|t| catalog.sees(role, t)));
    if !sees_all {
        return None;
    }
    let mut query = parse_query(&definition.definition).ok()?;
    name_relations(catalog, &[], &mut query);
    Some(format!(" {query};"))
}

fn column_list(table: &Table, ids: &[ColumnId]) -> String {
    let names: Vec<String> = ids
        .iter()
        .filter_map(|id| table.column_by_id(*id))
        .map(|c| quote(&c.name))
        .collect();
    names.join(", ")
}

fn index_columns(index: &Index) -> Vec<ColumnId> {
    index
        .columns
        .iter()
        .filter_map(|c| match c.what {
            IndexKey::Column(id) => Some(id),
            IndexKey::Expression(_) => None,
        })
        .collect()
}

/// The columns that a constraint is about.
pub(super) fn constraint_columns(table: &Table, constraint: &Constraint) -> Vec<ColumnId> {
    match constraint {
        Constraint::Check { expression, .. } => columns_in(table, expression),
        Constraint::Unique { index, .. } | Constraint::Primary { index, .. } => {
            table.index(*index).map_or_else(Vec::new, index_columns)
        }
        Constraint::Foreign(key) => key.columns.clone(),
    }
}

/// `pg_get_constraintdef`.
pub(crate) fn constraint(
    catalog: &Catalog,
    path: &[SchemaId],
    table: &Table,
    constraint: &Constraint,
    pretty: bool,
) -> String {
    match constraint {
        Constraint::Check {
            expression: text,
            validated,
            no_inherit,
            ..
        } => {
            let shown = expression_of(catalog, path, table, text, pretty);
            let mut out = if pretty {
                format!("CHECK ({shown})")
            } else {
                format!("CHECK ({})", parenthesized(&shown))
            };
            if *no_inherit {
                out.push_str(" NO INHERIT");
            }
            if !validated {
                out.push_str(" NOT VALID");
            }
            out
        }
        Constraint::Primary { index, .. } => {
            format!(
                "PRIMARY KEY ({}){}",
                key_list(table, *index),
                include_list(table, *index)
            )
        }
        Constraint::Unique {
            index,
            deferrable,
            deferred,
            ..
        } => {
            let nulls = table.index(*index).is_some_and(|i| i.nulls_not_distinct);
            let mut out = format!(
                "UNIQUE {}({}){}",
                if nulls { "NULLS NOT DISTINCT " } else { "" },
                key_list(table, *index),
                include_list(table, *index)
            );
            timing(&mut out, *deferrable, *deferred);
            out
        }
        Constraint::Foreign(key) => foreign(catalog, path, table, key),
    }
}

fn parenthesized(text: &str) -> String {
    if text.starts_with('(') && text.ends_with(')') {
        text.to_owned()
    } else {
        format!("({text})")
    }
}

fn key_list(table: &Table, index: u32) -> String {
    table
        .index(index)
        .map_or_else(String::new, |i| column_list(table, &index_columns(i)))
}

fn include_list(table: &Table, index: u32) -> String {
    match table.index(index) {
        Some(i) if !i.include.is_empty() => {
            format!(" INCLUDE ({})", column_list(table, &i.include))
        }
        _ => String::new(),
    }
}

fn timing(out: &mut String, deferrable: bool, deferred: bool) {
    if deferrable {
        out.push_str(" DEFERRABLE");
    }
    if deferred {
        out.push_str(" INITIALLY DEFERRED");
    }
}

fn foreign(catalog: &Catalog, path: &[SchemaId], table: &Table, key: &ForeignKey) -> String {
    let mut out = format!(
        "FOREIGN KEY ({}) REFERENCES ",
        column_list(table, &key.columns)
    );
    if let Some(parent) = catalog.table(key.references) {
        let name = relation_name(catalog, path, &Relation::Table(parent.clone()));
        out.push_str(&format!(
            "{name}({})",
            column_list(parent, &key.referenced_columns)
        ));
    }
    if key.full {
        out.push_str(" MATCH FULL");
    }
    for (word, action) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
        let text = match action {
            ReferentialAction::NoAction => continue,
            ReferentialAction::Restrict => "RESTRICT",
            ReferentialAction::Cascade => "CASCADE",
            ReferentialAction::SetNull => "SET NULL",
            ReferentialAction::SetDefault => "SET DEFAULT",
        };
        out.push_str(&format!(" ON {word} {text}"));
    }
    if !key.set_columns.is_empty() {
        out.push_str(&format!(" ({})", column_list(table, &key.set_columns)));
    }
    timing(&mut out, key.deferrable, key.deferred);
    if !key.validated {
        out.push_str(" NOT VALID");
    }
    out
}

/// The name of an index column that is an expression.
pub(super) fn expression_column_name(index: &Index, at: usize) -> String {
    let word = |text: &str| match crate::parse::parse_expression(text) {
        Ok(Expr::Function(f)) => f
            .name
            .0
            .last()
            .and_then(|p| p.as_ident())
            .map(crate::parse::fold),
        _ => None,
    };
    let base = match index.columns.get(at).map(|c| &c.what) {
        Some(IndexKey::Expression(text)) => word(text).unwrap_or_else(|| "expr".to_owned()),
        _ => "expr".to_owned(),
    };
    let before = index.columns[..at.min(index.columns.len())]
        .iter()
        .filter(|c| {
            matches!(&c.what, IndexKey::Expression(t) if word(t).unwrap_or_else(|| "expr".to_owned()) == base)
        })
        .count();
    if before == 0 {
        base
    } else {
        format!("{base}{before}")
    }
}

fn index_column(catalog: &Catalog, path: &[SchemaId], table: &Table, key: &IndexKey) -> String {
    match key {
        IndexKey::Column(id) => table
            .column_by_id(*id)
            .map_or_else(String::new, |c| quote(&c.name)),
        IndexKey::Expression(text) => {
            let shown = expression(catalog, path, text);
            let call = matches!(crate::parse::parse_expression(text), Ok(Expr::Function(_)));
            if call { shown } else { parenthesized(&shown) }
        }
    }
}

/// `pg_get_indexdef`; one column (from 1) or the whole statement.
pub(crate) fn index(
    catalog: &Catalog,
    path: &[SchemaId],
    table: &Table,
    index: &Index,
    column: Option<usize>,
) -> String {
    if let Some(column) = column {
        let key = index.columns.get(column.wrapping_sub(1));
        return match key {
            Some(key) => index_column(catalog, path, table, &key.what),
            None => index
                .include
                .get(column.wrapping_sub(1 + index.columns.len()))
                .and_then(|id| table.column_by_id(*id))
                .map_or_else(String::new, |c| quote(&c.name)),
        };
    }
    let mut columns = Vec::new();
    for key in &index.columns {
        let mut text = index_column(catalog, path, table, &key.what);
        if let Some(class) = &key.class {
            text.push_str(&format!(" {class}"));
        }
        match (key.descending, key.nulls_first) {
            (false, false) => {}
            (false, true) => text.push_str(" NULLS FIRST"),
            (true, true) => text.push_str(" DESC"),
            (true, false) => text.push_str(" DESC NULLS LAST"),
        }
        columns.push(text);
    }
    let mut out = format!(
        "CREATE {}INDEX {} ON {}.{} USING {} ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote(&index.name),
        quote(catalog.schema_name(table.schema)),
        quote(&table.name),
        index.method,
        columns.join(", ")
    );
    out.push_str(&include_list(table, index.id));
    if index.nulls_not_distinct {
        out.push_str(" NULLS NOT DISTINCT");
    }
    if !index.options.is_empty() {
        let list: Vec<String> = index
            .options
            .iter()
            .map(|(k, v)| format!("{k}='{}'", v.trim_matches('\'')))
            .collect();
        out.push_str(&format!(" WITH ({})", list.join(", ")));
    }
    if let Some(predicate) = &index.predicate {
        let text = parenthesized(&expression(catalog, path, predicate));
        out.push_str(&format!(" WHERE {text}"));
    }
    out
}
