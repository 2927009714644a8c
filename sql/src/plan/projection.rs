//! Projections (CREATE MATERIALIZED VIEW): which queries can be kept up row by row, and what they
//! make of a row of their base table. The first table of FROM is the base; each other one is joined
//! by a foreign key, so that every row of the base gives one row or none, under its own key.

use std::sync::Arc;

use super::{JoinKind, Rel};
use crate::bind::scope::Output;
use crate::catalog::{Catalog, ColumnId, ForeignKey, Key, Table, TableId, TableKind};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr, Flow};
use crate::types::Type;

/// Tables of one projection.
const SOURCES_MAX: usize = 16;

/// What a projection may be, for errors.
const HINT: &str = "A projection selects immutable expressions FROM one table, with JOIN or LEFT \
                    JOIN along its foreign keys to other tables of the same owner, and WHERE.";

/// A projection's query over *joined rows*: the rows of its tables side by side, one slot for each
/// column of a table, dropped ones included.
#[derive(Debug)]
pub struct Shape {
    /// The tables, the base first.
    pub sources: Vec<Source>,
    /// WHERE, as conjuncts.
    pub filter: Vec<Expr>,
    /// The select list.
    pub outputs: Vec<ShapeOutput>,
}

/// A table of a projection.
#[derive(Debug)]
pub struct Source {
    /// The table.
    pub table: Arc<Table>,
    /// The slot of its first column in the joined row.
    pub start: usize,
    /// The places in `Table::columns` of what the query reads.
    pub reads: Vec<usize>,
    /// How its row is found; `None`: it is the base.
    pub join: Option<KeyJoin>,
}

/// A join along a foreign key.
#[derive(Debug)]
pub struct KeyJoin {
    /// LEFT JOIN.
    pub outer: bool,
    /// The whole condition, as conjuncts.
    pub on: Vec<Expr>,
    /// The source whose foreign key it is.
    pub from: usize,
    /// The key.
    pub key: Arc<ForeignKey>,
}

/// An entry of the select list.
#[derive(Debug)]
pub struct ShapeOutput {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Its value over the joined row.
    pub expr: Expr,
    /// The source and the column, if it is a plain one.
    pub plain: Option<(usize, ColumnId)>,
}

impl Shape {
    /// Of a bound query.
    ///
    /// # Errors
    /// 0A000 when its rows can't be kept up one by one.
    pub(super) fn of(catalog: &Catalog, rel: Rel, outputs: Vec<Output>) -> Result<Shape> {
        let mut parts = Parts::default();
        parts.select(catalog, rel)?;
        let mut shape = Shape {
            outputs: parts.outputs(outputs),
            sources: parts.sources,
            filter: parts.filter,
        };
        shape.number(&parts.slots)?;
        shape.note_reads();
        shape.check_keys(catalog)?;
        Ok(shape)
    }

    /// The base table.
    pub fn base(&self) -> &Arc<Table> {
        &self.sources[0].table
    }

    /// All expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let on = self.sources.iter().filter_map(|s| s.join.as_ref());
        let on = on.flat_map(|join| &join.on);
        let outputs = self.outputs.iter().map(|output| &output.expr);
        self.filter.iter().chain(on).chain(outputs)
    }

    /// The foreign keys, in the order of the joins.
    pub fn keys(&self) -> Vec<u32> {
        let joins = self.sources.iter().filter_map(|s| s.join.as_ref());
        joins.map(|join| join.key.id).collect()
    }

    /// The tables, each once, the base first, with the columns that are read.
    pub fn depends_on(&self) -> Vec<(TableId, Vec<ColumnId>)> {
        let mut out: Vec<(TableId, Vec<ColumnId>)> = Vec::new();
        for source in &self.sources {
            let ids = source.reads.iter().map(|at| source.table.columns[*at].id);
            let at = match out.iter().position(|(id, _)| *id == source.table.id) {
                Some(at) => at,
                None => {
                    out.push((source.table.id, Vec::new()));
                    out.len() - 1
                }
            };
            for id in ids {
                if !out[at].1.contains(&id) {
                    out[at].1.push(id);
                }
            }
        }
        out.iter_mut().for_each(|(_, ids)| ids.sort_unstable());
        out
    }

    /// Which entries of the select list are the base's key, in the key's order.
    ///
    /// # Errors
    /// 42P10 when one is missing.
    pub fn key(&self) -> Result<Vec<usize>> {
        let base = self.base();
        let Key::Primary(ids) = &base.key else {
            return Err(Error::new(
                state::INVALID_COLUMN_REFERENCE,
                format!("table \"{}\" has no primary key", base.name),
            )
            .hint("A projection's rows have the keys of the rows that they are made of."));
        };
        let place = |id: &ColumnId| {
            let plain = |output: &ShapeOutput| output.plain == Some((0, *id));
            self.outputs.iter().position(plain).ok_or_else(|| {
                let name = base.column_by_id(*id).map_or("?", |c| c.name.as_str());
                Error::new(
                    state::INVALID_COLUMN_REFERENCE,
                    format!(
                        "column \"{name}\" of the primary key of table \"{}\" is not in the select \
                         list",
                        base.name
                    ),
                )
                .hint("A projection's rows have the keys of the rows that they are made of.")
            })
        };
        ids.iter().map(place).collect()
    }

    /// May an entry of the select list never be NULL, for it is a column that may not be?
    pub fn is_not_null(&self, output: &ShapeOutput) -> bool {
        output.plain.is_some_and(|(source, id)| {
            let source = &self.sources[source];
            let outer = source.join.as_ref().is_some_and(|join| join.outer);
            let in_key = matches!(&source.table.key, Key::Primary(key) if key.contains(&id));
            let column = source.table.column_by_id(id);
            !outer && (in_key || column.is_some_and(|column| column.not_null))
        })
    }

    /// Column ids become slots of the joined row.
    fn number(&mut self, slots: &[(ColumnRef, usize)]) -> Result<()> {
        let mut unknown = false;
        let mut number = |expr: &mut Expr| {
            expr.visit_mut(&mut |node| {
                if let Expr::Column { column, .. } = node {
                    match slots.iter().find(|(id, _)| id == column) {
                        Some((_, slot)) => *column = ColumnRef(*slot as u32),
                        None => unknown = true,
                    }
                }
                Flow::Enter
            });
        };
        self.filter.iter_mut().for_each(&mut number);
        for output in &mut self.outputs {
            number(&mut output.expr);
        }
        let joins = self.sources.iter_mut().filter_map(|s| s.join.as_mut());
        joins.flat_map(|join| &mut join.on).for_each(&mut number);
        for expr in self.exprs() {
            check(expr)?;
        }
        match unknown {
            true => Err(refused("this query")),
            false => Ok(()),
        }
    }

    /// Which columns of each table are read: by expressions, as its key, and by the joins.
    fn note_reads(&mut self) {
        let mut slots = Vec::new();
        self.exprs().for_each(|expr| expr.free_columns(&mut slots));
        for source in &mut self.sources {
            let places = 0..source.table.columns.len();
            let read = |at: &usize| slots.contains(&ColumnRef((source.start + at) as u32));
            source.reads = places.filter(read).collect();
        }
    }

    /// Gives each join its foreign key.
    fn check_keys(&mut self, catalog: &Catalog) -> Result<()> {
        for at in 1..self.sources.len() {
            let (from, key) = self.key_of_join(catalog, at)?;
            if let Some(join) = &mut self.sources[at].join {
                (join.from, join.key) = (from, Arc::new(key));
            }
        }
        self.note_key_columns();
        Ok(())
    }

    /// Foreign keys are read even where only the referenced columns are named.
    fn note_key_columns(&mut self) {
        for at in 1..self.sources.len() {
            let Some(join) = &self.sources[at].join else {
                continue;
            };
            let (from, key) = (join.from, Arc::clone(&join.key));
            self.sources[from].read(&key.columns);
            self.sources[at].read(&key.referenced_columns);
        }
        if let Key::Primary(key) = &self.base().key.clone() {
            self.sources[0].read(key);
        }
    }

    fn key_of_join(&self, catalog: &Catalog, at: usize) -> Result<(usize, ForeignKey)> {
        let parent = &self.sources[at];
        let outer = parent.join.as_ref().is_some_and(|join| join.outer);
        let on = parent.join.as_ref().map(|join| &join.on);
        // What is filtered later than an outer join does not find its row.
        let filter = self.filter.iter().filter(|_| !outer);
        let equal: Vec<(usize, usize)> = on
            .into_iter()
            .flatten()
            .chain(filter)
            .filter_map(|condition| self.equal_columns(condition))
            .collect();
        for (from, child) in self.sources[..at].iter().enumerate() {
            let keys = child.table.foreign_keys();
            let keys = keys.filter(|key| key.references == parent.table.id);
            for key in keys {
                let pairs = key.columns.iter().zip(&key.referenced_columns);
                let mut pairs = pairs.map(|(own, other)| (child.slot(*own), parent.slot(*other)));
                let holds = pairs.all(|(own, other)| {
                    equal.contains(&(own, other)) || equal.contains(&(other, own))
                });
                if holds {
                    return Ok((from, key.clone()));
                }
            }
        }
        let name = catalog.schema_name(parent.table.schema);
        Err(Error::unsupported(format!(
            "a projection that joins {name}.{} not by a foreign key",
            parent.table.name
        ))
        .hint(HINT))
    }

    /// The two slots of `a = b`, if both are columns of types whose equality is that of keys.
    fn equal_columns(&self, condition: &Expr) -> Option<(usize, usize)> {
        let Expr::Call(call) = condition else {
            return None;
        };
        let [left, right] = call.args.as_slice() else {
            return None;
        };
        if call.operator != Some("=") {
            return None;
        }
        let (left, right) = (column(left)?, column(right)?);
        let same = left.1 == right.1 || is_integer(left.1) && is_integer(right.1);
        same.then_some((left.0, right.0))
    }
}

impl Source {
    /// The slot of a column.
    fn slot(&self, id: ColumnId) -> usize {
        self.start + self.table.column_index(id).unwrap_or(usize::MAX / 2)
    }

    fn read(&mut self, ids: &[ColumnId]) {
        let places = ids.iter().filter_map(|id| self.table.column_index(*id));
        self.reads.extend(places);
        self.reads.sort_unstable();
        self.reads.dedup();
    }
}

/// The slot and type of a column, or of one that is only widened.
fn column(expr: &Expr) -> Option<(usize, Type)> {
    match expr {
        Expr::Column { column, ty } => Some((column.0 as usize, text_or(ty.plain()))),
        Expr::Cast(cast) => {
            let inner = column(&cast.input)?;
            let to = text_or(cast.ty.plain());
            let widened = inner.1 == to || is_integer(inner.1) && is_integer(to);
            widened.then_some(inner)
        }
        _ => None,
    }
}

fn is_integer(ty: Type) -> bool {
    [Type::INT2, Type::INT4, Type::INT8].contains(&ty)
}

/// Text and varchar are equal in the same way.
fn text_or(ty: Type) -> Type {
    match ty == Type::VARCHAR {
        true => Type::TEXT,
        false => ty,
    }
}

/// What has been found of a query.
#[derive(Default)]
struct Parts {
    sources: Vec<Source>,
    slots: Vec<(ColumnRef, usize)>,
    filter: Vec<Expr>,
    computed: Vec<(ColumnRef, Expr)>,
}

impl Parts {
    /// Project over Filter over joins of tables.
    fn select(&mut self, catalog: &Catalog, rel: Rel) -> Result<()> {
        let rel = match rel {
            Rel::Project { input, items } => {
                let computed = items.into_iter().map(|(column, expr)| (column.id, expr));
                self.computed.extend(computed);
                *input
            }
            other => other,
        };
        match rel {
            Rel::Filter { input, conditions } => {
                self.filter = conditions;
                self.from(catalog, *input)
            }
            other => self.from(catalog, other),
        }
    }

    fn from(&mut self, catalog: &Catalog, rel: Rel) -> Result<()> {
        let (kind, left, right, on) = match rel {
            Rel::Scan(_) => return self.source(catalog, rel, None),
            Rel::Join {
                kind,
                left,
                right,
                on,
            } => (kind, left, right, on),
            other => return Err(refused(word(&other))),
        };
        let outer = match kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            JoinKind::Right | JoinKind::Full | JoinKind::Semi | JoinKind::Anti => {
                return Err(refused("RIGHT or FULL JOIN"));
            }
        };
        self.from(catalog, *left)?;
        self.source(catalog, *right, Some((outer, on)))
    }

    fn source(
        &mut self,
        catalog: &Catalog,
        rel: Rel,
        join: Option<(bool, Vec<Expr>)>,
    ) -> Result<()> {
        let scan = match rel {
            Rel::Scan(scan) if scan.as_of.is_some() => {
                return Err(refused("FOR SYSTEM_TIME AS OF"));
            }
            Rel::Scan(scan) => scan,
            other => return Err(refused(word(&other))),
        };
        let base = self.sources.first().map(|base| base.table.owner);
        check_source(catalog, &scan.table, base)?;
        if self.sources.len() >= SOURCES_MAX {
            let message = format!("a projection can read at most {SOURCES_MAX} tables");
            return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let last = self.sources.last();
        let start = last.map_or(0, |last| last.start + last.table.columns.len());
        for (at, column) in &scan.columns {
            self.slots.push((column.id, start + at));
        }
        self.sources.push(Source {
            table: scan.table,
            start,
            reads: Vec::new(),
            join: join.map(|(outer, on)| KeyJoin {
                outer,
                on,
                from: 0,
                key: Arc::new(no_key()),
            }),
        });
        Ok(())
    }

    fn outputs(&mut self, outputs: Vec<Output>) -> Vec<ShapeOutput> {
        let of = |output: Output| {
            let computed = self.computed.iter().find(|(id, _)| *id == output.id);
            let expr = match computed {
                Some((_, expr)) => expr.clone(),
                None => Expr::Column {
                    column: output.id,
                    ty: output.ty,
                },
            };
            ShapeOutput {
                plain: self.plain(&expr),
                name: output.name,
                ty: output.ty,
                expr,
            }
        };
        outputs.into_iter().map(of).collect()
    }

    fn plain(&self, expr: &Expr) -> Option<(usize, ColumnId)> {
        let Expr::Column { column, .. } = expr else {
            return None;
        };
        let (_, slot) = self.slots.iter().find(|(id, _)| id == column)?;
        let at = self.sources.iter().rposition(|s| s.start <= *slot)?;
        let source = &self.sources[at];
        Some((at, source.table.columns.get(slot - source.start)?.id))
    }
}

/// Until the foreign key of a join is found.
fn no_key() -> ForeignKey {
    use crate::catalog::ReferentialAction::NoAction;
    ForeignKey {
        id: 0,
        name: String::new(),
        columns: Vec::new(),
        references: TableId(0),
        referenced_columns: Vec::new(),
        referenced_index: 0,
        on_delete: NoAction,
        on_update: NoAction,
        set_columns: Vec::new(),
        full: false,
        deferrable: false,
        deferred: false,
        validated: false,
        comment: None,
    }
}

/// Only tables that the owner writes: their rows change in entries of the same log.
fn check_source(
    catalog: &Catalog,
    table: &Table,
    owner: Option<crate::catalog::RoleId>,
) -> Result<()> {
    if owner.is_some_and(|owner| owner != table.owner) {
        return Err(refused("another owner's table"));
    }
    match (&table.kind, &table.projection) {
        (TableKind::Table, None) => Ok(()),
        (TableKind::Table, Some(_)) => {
            let name = format!("{}.{}", catalog.schema_name(table.schema), table.name);
            Err(refused(&format!("the materialized view {name}")))
        }
        (TableKind::View(_) | TableKind::Sequence(_) | TableKind::System, _) => {
            Err(refused("what is no table"))
        }
    }
}

/// A value is the same whenever it is computed.
fn check(expr: &Expr) -> Result<()> {
    if expr.has_subquery() {
        return Err(refused("a subquery"));
    }
    if !expr.is_immutable() {
        return Err(
            Error::unsupported("a function or cast that is not immutable in a projection")
                .detail("Its result may depend on when or in which session it is computed.")
                .hint(HINT),
        );
    }
    Ok(())
}

fn refused(what: &str) -> Error {
    Error::unsupported(format!("{what} in a projection")).hint(HINT)
}

/// What stands in the way.
fn word(rel: &Rel) -> &'static str {
    match rel {
        Rel::Values { .. } => "a query without a table",
        Rel::System(_) => "a system relation",
        Rel::Function(_) => "a function in FROM",
        Rel::Cte { .. } | Rel::With { .. } => "WITH",
        Rel::ProjectSet { .. } => "a set-returning function",
        Rel::Aggregate { .. } => "GROUP BY or an aggregate",
        Rel::Window { .. } => "a window function",
        Rel::Sort { .. } => "ORDER BY",
        Rel::Distinct { .. } => "DISTINCT",
        Rel::Limit { .. } => "LIMIT or OFFSET",
        Rel::Set { .. } => "UNION, INTERSECT or EXCEPT",
        Rel::Lock { .. } => "FOR UPDATE",
        Rel::Filter { .. } | Rel::Project { .. } | Rel::Scan(_) | Rel::Join { .. } => {
            "a subquery or a nested join"
        }
        Rel::Modify(_) => "a modifying statement",
    }
}
