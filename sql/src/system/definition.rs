//! Definitions as SQL text: what `pg_get_expr`, `pg_get_constraintdef`, `pg_get_indexdef` and
//! `pg_get_viewdef` print.

use std::sync::Arc;

use sqlparser::ast::{Expr, FunctionArguments, Value, VisitMut};

use super::deparse::Deparse;

use crate::Result;
use crate::catalog::{
    Catalog, Column, ColumnId, Constraint, ForeignKey, Index, IndexKey, ReferentialAction,
    Relation, RoleId, SchemaId, Table, TableKind,
};
use crate::ddl::{columns_in, parse_query, quote, relations_in};
use crate::parse::{NodeMut, walk_mut};
use crate::plan::stored_expression;

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
    match name_relations(catalog, path, &mut expr) {
        Ok(()) => expr.to_string(),
        Err(_) => text.to_owned(),
    }
}

/// The text of a column's default or generation expression as `pg_attrdef.adbin` shows it: with
/// the column's number, for literals get their type from it.
pub(super) fn of_column(column: &Column, text: &str) -> String {
    format!("{{COLUMN {}}} {text}", column.number)
}

fn column_of<'t>(table: &'t Table, tree: &'t str) -> (Option<&'t Column>, &'t str) {
    let parsed = tree
        .strip_prefix("{COLUMN ")
        .and_then(|rest| rest.split_once("} "));
    match parsed.and_then(|(number, text)| Some((number.parse::<i16>().ok()?, text))) {
        Some((number, text)) => (table.live_columns().find(|c| c.number == number), text),
        None => (None, tree),
    }
}

/// The SQL text within a stored tree.
pub(super) fn text_of(tree: &str) -> &str {
    match tree
        .strip_prefix("{COLUMN ")
        .and_then(|rest| rest.split_once("} "))
    {
        Some((_, text)) => text,
        None => tree,
    }
}

/// A stored expression of a table as `pg_get_expr` prints it. What cannot be bound any more is
/// shown as it was written.
pub(crate) fn expression_of(
    catalog: &Arc<Catalog>,
    path: &[SchemaId],
    table: &Arc<Table>,
    tree: &str,
    pretty: bool,
) -> String {
    let (column, text) = column_of(table, tree);
    if let Ok(ast) = crate::parse::parse_expression(text)
        && let Some(value) = session_value(&ast)
    {
        return value.to_owned();
    }
    let column = column.map(|c| Column {
        ty: c.ty.plain(),
        ..c.clone()
    });
    let place = "stored expressions";
    let bound = stored_expression(catalog, table, text, column.as_ref(), place, false);
    let deparse = Deparse {
        catalog,
        path,
        table,
        pretty,
    };
    let printed = bound.ok().and_then(|expr| deparse.text(&expr));
    printed.unwrap_or_else(|| expression(catalog, path, text))
}

/// `CURRENT_TIMESTAMP` and its kin, which are printed as they are written.
fn session_value(expr: &Expr) -> Option<&'static str> {
    let name = match expr {
        Expr::Identifier(i) if i.quote_style.is_none() => i.value.to_ascii_lowercase(),
        Expr::Function(f) if matches!(f.args, FunctionArguments::None) => {
            f.name.to_string().to_ascii_lowercase()
        }
        _ => return None,
    };
    const VALUES: [&str; 9] = [
        "CURRENT_DATE",
        "CURRENT_TIME",
        "CURRENT_TIMESTAMP",
        "LOCALTIME",
        "LOCALTIMESTAMP",
        "CURRENT_USER",
        "CURRENT_ROLE",
        "SESSION_USER",
        "CURRENT_CATALOG",
    ];
    VALUES.into_iter().find(|v| v.eq_ignore_ascii_case(&name))
}

/// Puts names where `'oid'::regclass` stands.
fn name_relations(catalog: &Catalog, path: &[SchemaId], tree: &mut impl VisitMut) -> Result<()> {
    walk_mut(tree, &mut |node| {
        if let NodeMut::Expr(Expr::Cast {
            expr: inner,
            data_type,
            ..
        }) = node
            && data_type.to_string().eq_ignore_ascii_case("regclass")
            && let Expr::Value(value) = inner.as_mut()
            && let Value::SingleQuotedString(oid) = &value.value
            && let Some(relation) = oid.parse().ok().and_then(|oid| catalog.relation(oid))
        {
            value.value = Value::SingleQuotedString(relation_name(catalog, path, &relation));
        }
        Ok(())
    })
}

/// The query of a view, NULL to who may not see all that it names; that of a projection, NULL to all
/// but its owner.
pub(crate) fn view(catalog: &Catalog, role: RoleId, view: &Table) -> Option<String> {
    let definition = match (&view.kind, &view.projection) {
        (TableKind::View(view), _) => &view.definition,
        (_, Some(projection)) if catalog.has_role(role, view.owner) => &projection.definition,
        _ => return None,
    };
    let sees_all = view
        .depends_on
        .iter()
        .all(|(on, _)| catalog.table(*on).is_some_and(|t| catalog.sees(role, t)));
    if !sees_all {
        return None;
    }
    let mut query = parse_query(definition).ok()?;
    name_relations(catalog, &[], &mut query).ok()?;
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
    catalog: &Arc<Catalog>,
    path: &[SchemaId],
    table: &Arc<Table>,
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
            let mut out = format!("CHECK ({shown})");
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

fn index_column(
    catalog: &Arc<Catalog>,
    path: &[SchemaId],
    table: &Arc<Table>,
    key: &IndexKey,
    pretty: bool,
) -> String {
    match key {
        IndexKey::Column(id) => table
            .column_by_id(*id)
            .map_or_else(String::new, |c| quote(&c.name)),
        IndexKey::Expression(text) => {
            let shown = expression_of(catalog, path, table, text, pretty);
            let call = matches!(crate::parse::parse_expression(text), Ok(Expr::Function(_)));
            if call { shown } else { format!("({shown})") }
        }
    }
}

/// `pg_get_indexdef`; one column (from 1) or the whole statement.
pub(crate) fn index(
    catalog: &Arc<Catalog>,
    path: &[SchemaId],
    table: &Arc<Table>,
    index: &Index,
    column: Option<usize>,
    pretty: bool,
) -> String {
    if let Some(column) = column {
        let key = index.columns.get(column.wrapping_sub(1));
        return match key {
            Some(key) => index_column(catalog, path, table, &key.what, pretty),
            None => index
                .include
                .get(column.wrapping_sub(1 + index.columns.len()))
                .and_then(|id| table.column_by_id(*id))
                .map_or_else(String::new, |c| quote(&c.name)),
        };
    }
    let mut columns = Vec::new();
    for key in &index.columns {
        let mut text = index_column(catalog, path, table, &key.what, pretty);
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
        "CREATE {}INDEX {} ON {} USING {} ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote(&index.name),
        relation_name(catalog, path, &Relation::Table(Arc::clone(table))),
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
        let text = expression_of(catalog, path, table, predicate, pretty);
        let text = if pretty { text } else { parenthesized(&text) };
        out.push_str(&format!(" WHERE {text}"));
    }
    out
}
