//! Stored expressions and queries as text: names settled when they are stored (relations by OID
//! or qualified), so that a later search_path or rename does not change their meaning.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query,
    SelectItem, TableAlias, TableFactor, Value, VisitMut,
};

use super::draft::{Done, Draft};
use super::name::{self, parts};
use crate::Result;
use crate::bind::restore::restore;
use crate::bind::syntax::expansion;
use crate::catalog::{ColumnId, Relation, Table, TableId};
use crate::parse::{Node, NodeMut, fold, parse_expression, walk, walk_mut};

/// Functions whose text argument names a sequence.
const SEQUENCE_FUNCTIONS: [&str; 3] = ["nextval", "currval", "setval"];

impl Draft<'_> {
    /// The text to store for an expression: `'name'::regclass` holds the OID instead of the name.
    pub fn stored(&self, expr: &Expr) -> Result<String> {
        let mut expr = expr.clone();
        self.settle(&mut expr)?;
        Ok(expr.to_string())
    }

    fn settle(&self, tree: &mut impl VisitMut) -> Result<()> {
        walk_mut(tree, &mut |node| match node {
            NodeMut::Expr(expr) => self.settle_one(expr),
            _ => Ok(()),
        })
    }

    fn settle_one(&self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Cast {
                expr: inner,
                data_type,
                ..
            } if data_type.to_string().eq_ignore_ascii_case("regclass") => {
                if let Some(name) = string_of(inner) {
                    let oid = self.oid_of(&name)?;
                    **inner = literal(&oid.to_string());
                }
            }
            Expr::Function(function) if is_sequence_function(&function.name) => {
                if let FunctionArguments::List(list) = &mut function.args
                    && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) =
                        list.args.first_mut()
                    && let Some(name) = string_of(first)
                {
                    *first = regclass(self.oid_of(&name)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The relation that a `regclass` literal names.
    fn oid_of(&self, text: &str) -> Result<u32> {
        if let Ok(oid) = text.parse::<u32>() {
            return Ok(oid);
        }
        let name = split_name(text)?;
        let parts: Vec<&str> = name.iter().map(String::as_str).collect();
        Ok(self.catalog.resolve(&parts, &self.path, self.role)?.oid())
    }

    /// The text to store for a view's query: relations are qualified.
    pub fn stored_query(&self, query: &Query) -> Result<String> {
        let mut query = query.clone();
        self.settle(&mut query)?;
        let qualify = Qualify {
            draft: self,
            ctes: cte_names(&mut query)?,
        };
        walk_mut(&mut query, &mut |node| match node {
            NodeMut::Select(select) => {
                qualify.select(select);
                Ok(())
            }
            NodeMut::Relation(relation) => qualify.relation(relation),
            _ => Ok(()),
        })?;
        Ok(restore(query.to_string()))
    }
}

impl Draft<'_> {
    /// The relations that a query names, each with those of its columns whose names appear: more
    /// than are read perhaps, never less.
    pub fn reads_of(&self, query: &Query) -> Result<Vec<(TableId, Vec<ColumnId>)>> {
        let mut query = query.clone();
        let ctes = cte_names(&mut query)?;
        let mut tables: Vec<Arc<Table>> = Vec::new();
        let mut names = Names::default();
        walk_mut(&mut query, &mut |node| {
            match node {
                NodeMut::Relation(name) => {
                    let cte = parts(name).is_ok_and(|p| p.len() == 1 && ctes.contains(&p[0]));
                    if let Ok(Some(Relation::Table(table))) = self.find(name)
                        && !cte
                        && !tables.iter().any(|t| t.id == table.id)
                    {
                        tables.push(table);
                    }
                }
                NodeMut::Select(select) => names.select(select),
                NodeMut::Expr(expr) => names.expr(expr),
                NodeMut::Query(_) | NodeMut::TableFactor(_) => {}
            }
            Ok(())
        })?;
        let read = tables.iter().map(|table| {
            let columns = table
                .live_columns()
                .filter(|c| names.all || names.seen.contains(&c.name));
            (table.id, columns.map(|c| c.id).collect())
        });
        Ok(read.collect())
    }
}

/// The identifiers of a query, and whether it has a `*`.
#[derive(Default)]
struct Names {
    seen: BTreeSet<String>,
    all: bool,
}

impl Names {
    fn select(&mut self, select: &ast::Select) {
        self.all |= select.projection.iter().any(|item| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
            ) || expanded(item).is_some()
        });
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(i) => {
                self.seen.insert(fold(i));
            }
            Expr::CompoundIdentifier(is) => self.seen.extend(is.iter().map(fold)),
            _ => {}
        }
    }
}

fn is_sequence_function(function: &ObjectName) -> bool {
    let last = function.0.last().and_then(|p| p.as_ident()).map(fold);
    last.is_some_and(|n| SEQUENCE_FUNCTIONS.contains(&n.as_str()))
}

fn string_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) => Some(s.clone()),
            _ => None,
        },
        Expr::Nested(inner) => string_of(inner),
        _ => None,
    }
}

fn literal(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).into())
}

/// `'oid'::regclass`.
fn regclass(oid: u32) -> Expr {
    parse_expression(&format!("'{oid}'::regclass")).unwrap_or_else(|_| literal(&oid.to_string()))
}

/// The default of a serial column: `nextval('oid'::regclass)`.
pub(super) fn nextval(sequence: u32) -> String {
    format!("nextval('{sequence}'::regclass)")
}

/// Splits `schema."Name"` as `::regclass` reads it.
pub(crate) fn split_name(text: &str) -> Result<Vec<String>> {
    let bad = || {
        crate::Error::new(
            crate::state::INVALID_NAME,
            format!("invalid name syntax: \"{text}\""),
        )
    };
    let mut out = Vec::new();
    let mut rest = text.trim();
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next() {
                    Some((at, '"')) if quoted[at + 1..].starts_with('"') => {
                        name.push('"');
                        chars.next();
                    }
                    Some((at, '"')) => break at + 1,
                    Some((_, c)) => name.push(c),
                    None => return Err(bad()),
                }
            };
            out.push(name);
            rest = quoted[end..].trim_start();
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let name = rest[..end].trim();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(bad());
            }
            out.push(name.to_lowercase());
            rest = &rest[end..];
        }
        match rest.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Ok(out),
            None => return Err(bad()),
        }
    }
}

/// The names of all CTEs within a query.
fn cte_names(query: &mut Query) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    walk_mut(query, &mut |node| {
        if let NodeMut::Query(query) = node
            && let Some(with) = &query.with
        {
            names.extend(with.cte_tables.iter().map(|cte| fold(&cte.alias.name)));
        }
        Ok(())
    })?;
    Ok(names)
}

struct Qualify<'a, 'b> {
    draft: &'a Draft<'b>,
    ctes: BTreeSet<String>,
}

impl Qualify<'_, '_> {
    /// `*` is written out: columns that come later are not the view's.
    fn select(&self, select: &mut ast::Select) {
        let Some(ranges) = self.ranges(&select.from) else {
            return;
        };
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match &item {
                SelectItem::Wildcard(_) => {
                    for (alias, table) in &ranges {
                        projection.extend(columns_as_items(alias, table));
                    }
                }
                SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let last = parts(name).ok().and_then(|mut p| p.pop());
                    match ranges.iter().find(|(alias, _)| Some(fold(alias)) == last) {
                        Some((alias, table)) => projection.extend(columns_as_items(alias, table)),
                        None => projection.push(item),
                    }
                }
                _ => {
                    let row = expanded(&item);
                    let range = row.and_then(|row| ranges.iter().find(|(a, _)| fold(a) == row));
                    match range {
                        Some((alias, table)) => projection.extend(columns_as_items(alias, table)),
                        None => projection.push(item),
                    }
                }
            }
        }
        select.projection = projection;
    }

    fn relation(&self, relation: &mut ObjectName) -> Result<()> {
        let names = parts(relation)?;
        if names.len() == 1 && self.ctes.contains(&names[0]) {
            return Ok(());
        }
        // Table functions are relations here too: what is no relation stays as it is.
        if let Ok(Some(found)) = self.draft.find(relation) {
            let schema = self.draft.catalog.schema_name(found.table().schema);
            *relation = qualified(schema, found.name());
        }
        Ok(())
    }

    /// The tables of a FROM clause with the names that columns are qualified by, if `*` over it is
    /// just their columns (plain tables, joined without USING).
    fn ranges(&self, from: &[ast::TableWithJoins]) -> Option<Vec<(Ident, Arc<Table>)>> {
        let mut out = Vec::new();
        for item in from {
            out.push(self.range(&item.relation)?);
            for join in &item.joins {
                let constraint = match &join.join_operator {
                    ast::JoinOperator::Join(c)
                    | ast::JoinOperator::Inner(c)
                    | ast::JoinOperator::Left(c)
                    | ast::JoinOperator::LeftOuter(c)
                    | ast::JoinOperator::Right(c)
                    | ast::JoinOperator::RightOuter(c)
                    | ast::JoinOperator::FullOuter(c)
                    | ast::JoinOperator::CrossJoin(c) => c,
                    _ => return None,
                };
                if matches!(
                    constraint,
                    ast::JoinConstraint::Using(_) | ast::JoinConstraint::Natural
                ) {
                    return None;
                }
                out.push(self.range(&join.relation)?);
            }
        }
        Some(out)
    }

    fn range(&self, factor: &TableFactor) -> Option<(Ident, Arc<Table>)> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
        else {
            return None;
        };
        let names = parts(name).ok()?;
        if names.len() == 1 && self.ctes.contains(&names[0]) {
            return None;
        }
        let Ok(Some(Relation::Table(table))) = self.draft.find(name) else {
            return None;
        };
        match alias {
            Some(alias) if !alias.columns.is_empty() => None,
            Some(alias) => Some((alias.name.clone(), table)),
            None => Some((quoted(&table.name), table)),
        }
    }
}

/// `*` as the columns that there are now, so that later ones do not change a view.
/// The name in `(name).*`; empty if it is of something else.
fn expanded(item: &SelectItem) -> Option<String> {
    let SelectItem::UnnamedExpr(expr) = item else {
        return None;
    };
    let mut row = expansion(expr)?;
    while let Expr::Nested(inner) = row {
        row = *inner;
    }
    match row {
        Expr::Identifier(name) => Some(fold(&name)),
        _ => Some(String::new()),
    }
}

fn columns_as_items(alias: &Ident, table: &Table) -> Vec<SelectItem> {
    table
        .live_columns()
        .map(|c| {
            let names = vec![alias.clone(), quoted(&c.name)];
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names))
        })
        .collect()
}

/// `schema.name` as a tree, quoted where needed.
pub(super) fn qualified(schema: &str, name: &str) -> ObjectName {
    ObjectName::from(vec![quoted(schema), quoted(name)])
}

/// An identifier that reads back as `name`.
pub(super) fn quoted(name: &str) -> Ident {
    let text = quote(name);
    if text.starts_with('"') {
        Ident::with_quote('"', name)
    } else {
        Ident::new(name)
    }
}

/// `quote_ident`: quoted only if the name needs it.
pub(crate) fn quote(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain && !is_keyword(name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Keywords that PostgreSQL quotes as identifiers (all but the unreserved ones), sorted.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

fn is_keyword(name: &str) -> bool {
    KEYWORDS.binary_search(&name).is_ok()
}

/// The columns of a table that an expression names.
pub(crate) fn columns_of(table: &Table, expr: &Expr) -> Vec<ColumnId> {
    let mut found = BTreeSet::new();
    let _ = walk(expr, &mut |node| {
        let name = match node {
            Node::Expr(Expr::Identifier(i)) => Some(fold(i)),
            Node::Expr(Expr::CompoundIdentifier(is)) => is.last().map(fold),
            Node::Expr(_) | Node::Relation(_) => None,
        };
        if let Some(column) = name.and_then(|n| table.column(&n)) {
            found.insert(column.id);
        }
        ControlFlow::Continue(())
    });
    found.into_iter().collect()
}

/// Does an expression name any column? (`CURRENT_DATE` and its kin are none.)
pub(super) fn names_columns(expr: &Expr) -> bool {
    walk(expr, &mut |node| match node {
        Node::Expr(Expr::Identifier(i)) => {
            let name = i.value.to_ascii_lowercase();
            let value = i.quote_style.is_none()
                && (name.starts_with("current_")
                    || ["localtime", "localtimestamp", "session_user", "user"]
                        .contains(&name.as_str()));
            if value {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        }
        Node::Expr(Expr::CompoundIdentifier(_)) => ControlFlow::Break(()),
        Node::Expr(_) | Node::Relation(_) => ControlFlow::Continue(()),
    })
    .is_break()
}

/// The columns that stored text names; none if it cannot be read.
pub(crate) fn columns_in(table: &Table, text: &str) -> Vec<ColumnId> {
    parse_expression(text).map_or_else(|_| Vec::new(), |e| columns_of(table, &e))
}

/// The relations that stored text names by OID (`'16400'::regclass`).
pub(crate) fn relations_in(text: &str) -> Vec<u32> {
    let Ok(expr) = parse_expression(text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let _ = walk(&expr, &mut |node| {
        if let Node::Expr(Expr::Cast {
            expr: inner,
            data_type,
            ..
        }) = node
            && data_type.to_string().eq_ignore_ascii_case("regclass")
            && let Some(oid) = string_of(inner).and_then(|s| s.parse().ok())
        {
            found.push(oid);
        }
        ControlFlow::Continue(())
    });
    found
}

/// Stored text of one table's expression with a column renamed.
pub(super) fn rename_column(text: &str, from: &str, to: &str) -> Result<String> {
    let mut expr = parse_expression(text)?;
    walk_mut(&mut expr, &mut |node| {
        let last = match node {
            NodeMut::Expr(Expr::Identifier(i)) => Some(i),
            NodeMut::Expr(Expr::CompoundIdentifier(is)) => is.last_mut(),
            _ => None,
        };
        if let Some(ident) = last.filter(|i| fold(i) == from) {
            *ident = quoted(to);
        }
        Ok(())
    })?;
    Ok(expr.to_string())
}

/// Every expression text of a table with a column renamed.
pub(super) fn rename_in_table(table: &mut Table, from: &str, to: &str) -> Done<()> {
    use crate::catalog::{Constraint, IndexKey};
    for constraint in &mut table.constraints {
        if let Constraint::Check { expression, .. } = constraint {
            *expression = rename_column(expression, from, to)?;
        }
    }
    for index in &mut table.indexes {
        for column in &mut index.columns {
            if let IndexKey::Expression(text) = &mut column.what {
                *text = rename_column(text, from, to)?;
            }
        }
        if let Some(text) = &mut index.predicate {
            *text = rename_column(text, from, to)?;
        }
    }
    for column in &mut table.columns {
        if let Some(text) = &mut column.generated {
            *text = rename_column(text, from, to)?;
        }
    }
    Ok(())
}

/// A view's text with a relation renamed (or moved); unaliased uses keep their old name as alias.
pub(super) fn rename_relation(
    definition: &str,
    from: (&str, &str),
    to: (&str, &str),
) -> Result<String> {
    let mut query = parse_query(definition)?;
    walk_mut(&mut query, &mut |node| {
        if let NodeMut::TableFactor(TableFactor::Table { name, alias, .. }) = node
            && parts(name).is_ok_and(|p| p == [from.0, from.1])
        {
            if alias.is_none() && from.1 != to.1 {
                *alias = Some(TableAlias {
                    explicit: false,
                    name: quoted(from.1),
                    columns: Vec::new(),
                    at: None,
                });
            }
            *name = qualified(to.0, to.1);
        }
        Ok(())
    })?;
    Ok(query.to_string())
}

/// Reads a view's stored query.
pub(crate) fn parse_query(definition: &str) -> Result<Query> {
    let mut statements = crate::parse::parse(definition)?;
    match statements.pop().map(|p| p.statement) {
        Some(crate::parse::Statement::Query(statement)) => match *statement {
            ast::Statement::Query(query) => Ok(*query),
            _ => Err(crate::Error::internal("a stored view is no query")),
        },
        _ => Err(crate::Error::internal("a stored view is no query")),
    }
}

/// A column's name, folded, from an expression that is a plain name.
pub(super) fn plain_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(i) => Some(name::ident(i)),
        Expr::Nested(inner) => plain_column(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_needs_it() {
        assert!(KEYWORDS.is_sorted());
        for (name, expected) in [
            ("orders", "orders"),
            ("Orders", "\"Orders\""),
            ("a\"b", "\"a\"\"b\""),
            ("select", "\"select\""),
            ("1a", "\"1a\""),
            ("a$1", "a$1"),
            ("name", "name"),
            ("", "\"\""),
        ] {
            assert_eq!(quote(name), expected);
        }
    }

    #[test]
    fn splits_regclass_names() {
        assert_eq!(split_name("a").expect("plain"), ["a"]);
        assert_eq!(split_name("S.\"T t\"").expect("quoted"), ["s", "T t"]);
        assert_eq!(split_name("\"a\"\"b\".c").expect("doubled"), ["a\"b", "c"]);
        for bad in ["", "a.", ".a", "a b", "\"a", "\"a\"b"] {
            assert!(split_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn renames_columns_in_text() {
        assert_eq!(
            rename_column("a > 0 AND b < t.a", "a", "New").expect("reads"),
            "\"New\" > 0 AND b < t.\"New\""
        );
    }

    #[test]
    fn renames_relations_in_views() {
        let text = rename_relation("SELECT old.x FROM s.old", ("s", "old"), ("s", "new"));
        assert_eq!(text.expect("reads"), "SELECT old.x FROM s.new old");
    }
}
