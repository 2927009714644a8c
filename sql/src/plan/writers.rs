//! The compiled write paths of tables: expressions of defaults, checks, generated columns and
//! indexes, bound once per catalog version.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::build::Writers;
use super::projection::Shape;
use super::{BindCx, Registry, SystemFunction};
use crate::bind::Binder;
use crate::bind::scope::Range;
use crate::catalog::{
    Catalog, Constraint, ForeignKey, Generated, RoleId, SchemaId, Table, TableId,
};
use crate::error::{Error, Result};
use crate::exec::{Parts, Projected, Referenced, Writer};
use crate::expr::{ColumnRef, Expr, Flow};
use crate::plpgsql::RowTrigger;
use crate::system::SystemRelation;
use crate::types::{CastContext, FormatSettings};

/// Compiled writers kept; all are dropped when there are more.
const WRITERS_MAX: usize = 2048;

struct Kept {
    table: Weak<Table>,
    version: u64,
    writer: Arc<Writer>,
}

static KEPT: LazyLock<Mutex<HashMap<usize, Kept>>> = LazyLock::new(Mutex::default);

/// The write path of a table as the catalog describes it.
///
/// # Errors
/// XX000 when the table is gone; what binding its expressions raises.
pub fn writer(catalog: &Arc<Catalog>, id: TableId) -> Result<Arc<Writer>> {
    let table = catalog
        .table(id)
        .ok_or_else(|| Error::internal(format!("table {} is not in the catalog", id.0)))?;
    let at = Arc::as_ptr(table) as usize;
    let version = catalog.version();
    if let Some(kept) = KEPT.lock().get(&at)
        && kept.version == version
        && kept
            .table
            .upgrade()
            .is_some_and(|own| Arc::ptr_eq(&own, table))
    {
        return Ok(kept.writer.clone());
    }
    let made = Arc::new(make(catalog, table)?);
    let mut all = KEPT.lock();
    if all.len() >= WRITERS_MAX {
        all.clear();
    }
    all.insert(
        at,
        Kept {
            table: Arc::downgrade(table),
            version,
            writer: made.clone(),
        },
    );
    Ok(made)
}

/// Writers out of one catalog, for the builder.
pub(super) struct OfCatalog<'a> {
    pub(super) catalog: &'a Arc<Catalog>,
}

impl Writers for OfCatalog<'_> {
    fn writer(&mut self, table: TableId) -> Result<Arc<Writer>> {
        writer(self.catalog, table)
    }
}

/// Stored expressions see no system relations.
struct Nothing;

impl Registry for Nothing {
    fn relation(&self, _id: TableId) -> Option<Arc<dyn SystemRelation>> {
        None
    }

    fn function(&self, _schema: Option<&str>, _name: &str) -> Option<Arc<dyn SystemFunction>> {
        None
    }
}

/// Runs `f` with a binder for stored text.
fn with_binder<R>(
    catalog: &Arc<Catalog>,
    f: impl FnOnce(&mut Binder<'_>) -> Result<R>,
) -> Result<R> {
    let format = FormatSettings::default();
    let path = [SchemaId::PG_CATALOG, SchemaId::PUBLIC];
    let cx = BindCx {
        role: RoleId::POSTGRES,
        login: RoleId::POSTGRES,
        path: &path,
        text: "",
        parameter_types: &[],
        format: &format,
        registry: &Nothing,
        variables: None,
    };
    f(&mut Binder::new(catalog, &cx))
}

/// Column ids become places in `Table::columns`.
fn over_row(mut expr: Expr, range: &Range) -> Expr {
    expr.visit_mut(&mut |node| {
        if let Expr::Column { column, .. } = node {
            let place = range
                .columns
                .iter()
                .find_map(|own| (own.id() == Some(*column)).then_some(own.origin).flatten());
            if let Some(place) = place {
                *column = ColumnRef(u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
        Flow::Enter
    });
    expr
}

/// Binds one expression over a table's row.
pub(super) fn compile(text: &str, table: &Arc<Table>, catalog: &Arc<Catalog>) -> Result<Expr> {
    with_binder(catalog, |binder| {
        let range = binder.stored_range(table);
        let expr = binder.stored(text, Some(&range), "stored expressions")?;
        Ok(over_row(expr, &range))
    })
}

/// Binds one expression over a table's row for DDL: `place` is what errors call it, `column` whom
/// it is assigned to (a condition is one without).
///
/// # Errors
/// What binding raises; 42804 when it does not fit.
pub fn stored_expression(
    catalog: &Arc<Catalog>,
    table: &Arc<Table>,
    text: &str,
    column: Option<&crate::catalog::Column>,
    place: &'static str,
    condition: bool,
) -> Result<Expr> {
    with_binder(catalog, |binder| {
        let range = binder.stored_range(table);
        let over = (place != "DEFAULT expressions").then_some(&range);
        let mut expr = binder.stored(text, over, place)?;
        if let Some(column) = column {
            expr = binder.assigned(expr, column)?;
        } else if condition {
            expr = binder.truth(expr)?;
        }
        Ok(over_row(expr, &range))
    })
}

fn make(catalog: &Arc<Catalog>, table: &Arc<Table>) -> Result<Writer> {
    let parts = with_binder(catalog, |binder| parts(binder, catalog, table))?;
    Writer::new(table, parts)
}

fn parts(binder: &mut Binder<'_>, catalog: &Arc<Catalog>, table: &Arc<Table>) -> Result<Parts> {
    let range = binder.stored_range(table);
    let mut checks = Vec::new();
    for constraint in &table.constraints {
        if let Constraint::Check {
            name, expression, ..
        } = constraint
        {
            let expr = binder.stored(expression, Some(&range), "check constraints")?;
            checks.push((name.clone(), over_row(binder.truth(expr)?, &range)));
        }
    }
    checks.sort_by(|a, b| a.0.cmp(&b.0));
    let mut generated = Vec::new();
    let mut defaults = Vec::new();
    for (slot, column) in table.columns.iter().enumerate().filter(|(_, c)| !c.dropped) {
        match column.source() {
            Generated::Nothing => {}
            Generated::Stored(text) => {
                let place = "column generation expressions";
                let expr = binder.stored(text, Some(&range), place)?;
                let expr = binder.assigned(expr, column)?;
                generated.push((slot, over_row(expr, &range)));
            }
            Generated::Default(_) | Generated::Identity(_) => {
                defaults.push((slot, binder.default_of(table, slot)?));
            }
        }
    }
    let mut indexes = Vec::with_capacity(table.indexes.len());
    for index in &table.indexes {
        let keys = binder.index_expressions(index, table, &range)?;
        let mut predicate = Vec::new();
        if let Some(text) = &index.predicate {
            let expr = binder.stored(text, Some(&range), "index predicates")?;
            binder.truth(expr)?.conjuncts(&mut predicate);
        }
        let place = |exprs: Vec<Expr>| -> Vec<Expr> {
            exprs
                .into_iter()
                .map(|expr| over_row(expr, &range))
                .collect()
        };
        indexes.push((place(keys), place(predicate)));
    }
    let _ = CastContext::Assignment;
    Ok(Parts {
        checks,
        generated,
        defaults,
        indexes,
        schema: catalog.schema_name(table.schema).to_owned(),
        foreign: foreign_keys(catalog, table),
        referenced: referenced(catalog, table),
        projections: catalog
            .tables()
            .filter(|t| {
                t.projection.is_some() && t.depends_on.iter().any(|(on, _)| *on == table.id)
            })
            .map(|t| projected(catalog, t))
            .collect::<Result<_>>()?,
        triggers: triggers(binder, catalog, table)?,
    })
}

/// The foreign keys of a table. One whose parent another owner has dropped goes before long
/// (`crate::integrity`).
fn foreign_keys(catalog: &Catalog, table: &Table) -> Vec<Arc<ForeignKey>> {
    let stands = |key: &&ForeignKey| !catalog.was_dropped(key.references);
    let keys = table.foreign_keys().filter(stands);
    keys.cloned().map(Arc::new).collect()
}

/// A projection as it is kept.
///
/// # Errors
/// XX000 when there is none of this OID; what binding its query raises.
pub fn projection(catalog: &Arc<Catalog>, id: TableId) -> Result<Arc<Projected>> {
    let table = catalog.table(id);
    let table = table.ok_or_else(|| Error::internal(format!("table {} is gone", id.0)))?;
    projected(catalog, table)
}

fn projected(catalog: &Arc<Catalog>, table: &Arc<Table>) -> Result<Arc<Projected>> {
    let Some(projection) = &table.projection else {
        return Err(Error::internal(format!(
            "\"{}\" is no projection",
            table.name
        )));
    };
    let query = crate::ddl::parse_query(&projection.definition)?;
    let shape = projection_shape(catalog, &query)?;
    if shape.outputs.len() != table.columns.len() {
        let message = format!("the query of \"{}\" has other columns", table.name);
        return Err(Error::internal(message));
    }
    let projected = Projected::new(shape, writer(catalog, table.id)?)?;
    Ok(Arc::new(projected))
}

/// What a query makes of the rows of a table, if it can be kept as a projection. Its names are
/// qualified.
///
/// # Errors
/// What binding raises; 0A000 when it can't.
pub fn projection_shape(catalog: &Arc<Catalog>, query: &sqlparser::ast::Query) -> Result<Shape> {
    with_binder(catalog, |binder| {
        let bound = binder.stored_query(query)?;
        Shape::of(catalog, bound.rel, bound.outputs)
    })
}

/// The triggers of a table that fire.
fn triggers(
    binder: &mut Binder<'_>,
    catalog: &Arc<Catalog>,
    table: &Arc<Table>,
) -> Result<Vec<RowTrigger>> {
    let mut all = Vec::new();
    for trigger in catalog.triggers_of(table.id) {
        // Those of others are run where the table is followed.
        if !trigger.enabled.fires() || trigger.is_on_followed() {
            continue;
        }
        all.push(compiled(binder, catalog, table, trigger)?);
    }
    Ok(all)
}

/// The triggers of a group's owner on a table that it follows, by name.
///
/// # Errors
/// What binding their conditions raises; XX000 if a function is gone.
pub fn followed_triggers(
    catalog: &Arc<Catalog>,
    table: &Arc<Table>,
    group: storage::GroupId,
) -> Result<Vec<RowTrigger>> {
    with_binder(catalog, |binder| {
        let all = catalog.triggers_of(table.id).into_iter();
        all.filter(|t| t.is_on_followed() && t.group == group && t.enabled.fires())
            .map(|trigger| compiled(binder, catalog, table, trigger))
            .collect()
    })
}

fn compiled(
    binder: &mut Binder<'_>,
    catalog: &Arc<Catalog>,
    table: &Arc<Table>,
    trigger: Arc<crate::catalog::Trigger>,
) -> Result<RowTrigger> {
    let routine = catalog.routine(trigger.routine).cloned().ok_or_else(|| {
        Error::internal(format!(
            "the function of trigger \"{}\" is gone",
            trigger.name
        ))
    })?;
    let when = match &trigger.when {
        Some(text) => Some(trigger_condition(binder, text, table)?),
        None => None,
    };
    let places = trigger.columns.iter();
    Ok(RowTrigger {
        columns: places.filter_map(|id| table.column_index(*id)).collect(),
        trigger,
        routine,
        when,
    })
}

/// A WHEN over the old row's columns and then the new one's.
fn trigger_condition(binder: &mut Binder<'_>, text: &str, table: &Arc<Table>) -> Result<Expr> {
    let [old, new] = ["old", "new"].map(|alias| binder.named_range(table, alias));
    let ranges = [old, new];
    let expr = binder.stored_over(text, &ranges, "trigger WHEN conditions")?;
    let mut expr = binder.condition_of(expr, "WHEN")?;
    let width = table.columns.len();
    expr.visit_mut(&mut |node| {
        if let Expr::Column { column, .. } = node {
            for (at, range) in ranges.iter().enumerate() {
                let own = range.columns.iter().find(|own| own.id() == Some(*column));
                if let Some(place) = own.and_then(|own| own.origin) {
                    *column = ColumnRef(u32::try_from(place + at * width).unwrap_or(u32::MAX));
                    break;
                }
            }
        }
        Flow::Enter
    });
    Ok(expr)
}

/// Binds the WHEN of a trigger that is being created.
///
/// # Errors
/// What binding raises; 0A000 for a subquery.
pub fn check_trigger_condition(
    catalog: &Arc<Catalog>,
    table: &Arc<Table>,
    text: &str,
) -> Result<()> {
    let expr = with_binder(catalog, |binder| trigger_condition(binder, text, table))?;
    match expr.has_subquery() {
        false => Ok(()),
        true => Err(Error::new(
            crate::error::state::FEATURE_NOT_SUPPORTED,
            "cannot use subquery in trigger WHEN condition",
        )),
    }
}

/// The foreign keys that reference a table, but for those of events: these keep no row from going.
fn referenced(catalog: &Catalog, table: &Table) -> Vec<Referenced> {
    let mut all: Vec<Referenced> = table
        .referenced_by
        .iter()
        .filter_map(|(id, constraint)| {
            let child = catalog.table(*id).filter(|child| !child.is_event())?;
            let key = child.foreign_keys().find(|key| key.id == *constraint)?;
            Some(Referenced {
                table: child.clone(),
                key: Arc::new(key.clone()),
            })
        })
        .collect();
    // PostgreSQL's triggers fire in the order of their names, which is that of creation.
    all.sort_by_key(|reference| reference.key.id);
    all
}
