//! CREATE INDEX, DROP INDEX and what else concerns indexes alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::{self, Expr, IndexType, OrderBySort};

use super::draft::{Done, Draft, Use, Work};
use super::expression::plain_column;
use super::name::{ident, parts};
use crate::catalog::{Index, IndexColumn, IndexKey, IndexState, Table, TableId};
use crate::transaction::TableMode;
use crate::{Error, Result, state};

/// Key and included columns of one index, as in PostgreSQL.
const INDEX_COLUMNS_MAX: usize = 32;

impl Draft<'_> {
    /// Adds an index and the work of building it; `None` if it exists and that is fine.
    pub fn create_index(
        &mut self,
        create: &ast::CreateIndex,
        lock: TableMode,
    ) -> Done<Option<(TableId, u32)>> {
        let table = self.own_table(&create.table_name)?;
        if table.is_filling() {
            return Err(crate::catalog::unfilled(&table).into());
        }
        super::event::check_unindexed(&table)?;
        self.ground.lock(&table, lock)?;
        let method = method(create.using.as_ref())?;
        if create.columns.len() + create.include.len() > INDEX_COLUMNS_MAX {
            return Err(Error::new(
                state::TOO_MANY_COLUMNS,
                format!("cannot use more than {INDEX_COLUMNS_MAX} columns in an index"),
            )
            .into());
        }
        let mut columns = Vec::new();
        let mut words = Vec::new();
        for column in &create.columns {
            let (column, word) = self.index_column(&table, column)?;
            columns.push(column);
            words.push(word);
        }
        let include: Vec<_> = create
            .include
            .iter()
            .map(|i| super::constraint::column_named(&table, &ident(i)).map(|c| c.id))
            .collect::<Result<_>>()?;
        for i in &create.include {
            words.push(ident(i));
        }
        let name = match &create.name {
            Some(name) => {
                let name = parts(name)?.pop().unwrap_or_default();
                if create.if_not_exists
                    && self.catalog.relation_by_name(table.schema, &name).is_some()
                {
                    self.notice(Error::new(
                        state::DUPLICATE_TABLE,
                        format!("relation \"{name}\" already exists, skipping"),
                    ));
                    return Ok(None);
                }
                self.must_be_free(table.schema, &name)?;
                name
            }
            None => self.free_name(table.schema, &table.name, &words.join("_"), "idx", &[]),
        };
        self.reserve(table.schema, &[&name], table.owner)?;
        let predicate = match &create.predicate {
            Some(expr) => {
                let text = self.stored(expr)?;
                let catalog = Arc::clone(&self.catalog);
                let expected = None;
                self.ground
                    .check_expression(&catalog, &table, &text, expected, Use::Predicate)?;
                Some(text)
            }
            None => None,
        };
        let index = Index {
            id: self.oid(table.group)?,
            name,
            tree: self.oid(table.group)?,
            columns,
            include,
            unique: create.unique,
            nulls_not_distinct: create.nulls_distinct == Some(false),
            primary: false,
            predicate,
            state: IndexState::Ready,
            method,
            options: index_options(&create.with)?,
            comment: None,
            clustered: false,
        };
        let id = index.id;
        self.edit_table(table.id, |t| t.indexes.push(index))?;
        self.work.push(Work::BuildIndex {
            table: table.id,
            index: id,
        });
        Ok(Some((table.id, id)))
    }

    fn index_column(
        &mut self,
        table: &Arc<Table>,
        given: &ast::IndexColumn,
    ) -> Done<(IndexColumn, String)> {
        let (what, word) = match plain_column(strip_collation(&given.column.expr)?) {
            Some(name) => {
                let column = table.column(&name).ok_or_else(|| {
                    Error::new(
                        state::UNDEFINED_COLUMN,
                        format!("column \"{name}\" does not exist"),
                    )
                })?;
                (IndexKey::Column(column.id), name)
            }
            None => {
                let expr = strip_collation(&given.column.expr)?;
                let text = self.stored(unnest(expr))?;
                let catalog = Arc::clone(&self.catalog);
                self.ground
                    .check_expression(&catalog, table, &text, None, Use::Index)?;
                (IndexKey::Expression(text), expression_word(expr))
            }
        };
        let descending = match &given.column.options.sort {
            Some(OrderBySort::Desc) => true,
            None | Some(OrderBySort::Asc) => false,
            Some(other) => {
                return Err(
                    Error::new(state::SYNTAX_ERROR, format!("syntax error: {other:?}")).into(),
                );
            }
        };
        let nulls_first = given.column.options.nulls_first.unwrap_or(descending);
        let class = match &given.operator_class {
            Some(class) => operator_class(parts(class)?.pop().unwrap_or_default())?,
            None => None,
        };
        Ok((
            IndexColumn {
                what,
                descending,
                nulls_first,
                class,
            },
            word,
        ))
    }
}

fn unnest(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnest(inner),
        other => other,
    }
}

fn strip_collation(expr: &Expr) -> Result<&Expr> {
    match expr {
        Expr::Collate { expr, collation } => {
            super::create_table::check_collation(collation)?;
            Ok(expr)
        }
        other => Ok(other),
    }
}

/// What an unnamed index calls an expression: its function's name, or `expr`.
fn expression_word(expr: &Expr) -> String {
    match unnest(expr) {
        Expr::Function(f) => f
            .name
            .0
            .last()
            .and_then(|p| p.as_ident())
            .map_or_else(|| "expr".to_owned(), ident),
        _ => "expr".to_owned(),
    }
}

/// The access method by name. Every index is an ordered tree here; what an ordered tree cannot
/// answer is refused.
fn method(using: Option<&IndexType>) -> Result<String> {
    match using {
        None | Some(IndexType::BTree) => Ok("btree".to_owned()),
        Some(IndexType::Hash) => Ok("hash".to_owned()),
        Some(other) => {
            let name = other.to_string().to_lowercase();
            let known = ["gin", "gist", "spgist", "brin"].contains(&name.as_str());
            Err(if known {
                Error::unsupported(format!("index access method \"{name}\"")).hint("Use btree.")
            } else {
                Error::new(
                    state::UNDEFINED_OBJECT,
                    format!("access method \"{name}\" does not exist"),
                )
            })
        }
    }
}

/// Operator classes that mean the order that keys have anyway.
fn operator_class(name: String) -> Result<Option<String>> {
    let known = name.ends_with("_ops") && !name.contains("trgm") && !name.contains("path");
    if known || name == "text_pattern_ops" || name == "varchar_pattern_ops" {
        return Ok(name.contains("pattern").then_some(name));
    }
    Err(Error::new(
        state::UNDEFINED_OBJECT,
        format!("operator class \"{name}\" does not exist for access method \"btree\""),
    ))
}

fn index_options(with: &[Expr]) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for option in with {
        let (name, value) = match option {
            Expr::BinaryOp { left, right, .. } => {
                (plain_column(left).unwrap_or_default(), right.to_string())
            }
            other => (plain_column(other).unwrap_or_default(), "true".to_owned()),
        };
        match name.as_str() {
            "fillfactor" | "deduplicate_items" => out.insert(name, value),
            _ => {
                return Err(Error::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("unrecognized parameter \"{name}\""),
                ));
            }
        };
    }
    Ok(out)
}
