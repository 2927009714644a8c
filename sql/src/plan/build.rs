//! From relations to operators: columns become slots, correlated columns become arguments,
//! subqueries become subplans, and each join and scan gets its method.

mod compile;
mod join;
mod scan;

use std::collections::HashMap;
use std::sync::Arc;

use self::compile::{slot_of, slot_ref};
use crate::catalog::TableId;
use crate::error::{Error, Result};
use crate::exec::Writer;
use crate::expr::{ColumnRef, Expr, SortKey, deep};
use crate::plan::node::{Access, ConflictPlan, CtePlan, LockPlan, ModifyPlan, Op, PlanNode};
use crate::plan::{ConflictAction, Cte, Modify, ModifyKind, Rel, RelColumn, ScanRel};
use crate::rules::{Statistics, Wanted};
use crate::types::Type;

/// A node with the columns that its slots hold.
pub(super) struct Built {
    pub(super) node: PlanNode,
    pub(super) layout: Vec<ColumnRef>,
    ordered: bool,
}

/// Makes the writers of tables; cached by the planner's caller.
pub trait Writers {
    /// The write path of a table, with its expressions compiled.
    fn writer(&mut self, table: TableId) -> Result<Arc<Writer>>;
}

/// The builder of one statement.
pub(super) struct Builder<'a> {
    writers: &'a mut dyn Writers,
    statistics: &'a dyn Statistics,
    /// How often each column is referred to.
    used: HashMap<ColumnRef, usize>,
    arguments: Vec<ColumnRef>,
    subplans: usize,
    nodes: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        writers: &'a mut dyn Writers,
        statistics: &'a dyn Statistics,
        rel: &Rel,
        outputs: &[ColumnRef],
    ) -> Builder<'a> {
        let mut used = HashMap::new();
        count_uses(rel, &mut used);
        for id in outputs {
            *used.entry(*id).or_default() += 1;
        }
        Builder {
            writers,
            statistics,
            used,
            arguments: Vec::new(),
            subplans: 0,
            nodes: 0,
        }
    }

    /// Builds a relation whose rows are exactly the given columns.
    pub(super) fn outputs(&mut self, rel: &Rel, outputs: &[(ColumnRef, Type)]) -> Result<PlanNode> {
        let ids: Vec<ColumnRef> = outputs.iter().map(|(id, _)| *id).collect();
        if let Rel::Project { input, items } = rel {
            let input = self.build(input, None)?;
            return self.projected(input, items, &ids, outputs);
        }
        if let Rel::Limit {
            input,
            limit,
            offset,
            ties: None,
        } = rel
            && let Rel::Project {
                input: below,
                items,
            } = &**input
        {
            // LIMIT commutes with a projection: compute only what is shown.
            let below = Rel::Limit {
                input: below.clone(),
                limit: limit.clone(),
                offset: offset.clone(),
                ties: None,
            };
            let input = self.build(&below, None)?;
            return self.projected(input, items, &ids, outputs);
        }
        let built = self.build(rel, None)?;
        if built.layout == ids {
            return Ok(built.node);
        }
        let exprs = outputs
            .iter()
            .map(|(id, ty)| {
                self.compile(
                    &Expr::Column {
                        column: *id,
                        ty: *ty,
                    },
                    &built.layout,
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let columns = named(&built.node, &built.layout, outputs);
        Ok(self.over(built.node, columns, |input| Op::Project { input, exprs }))
    }

    fn projected(
        &mut self,
        input: Built,
        items: &[(RelColumn, Expr)],
        ids: &[ColumnRef],
        outputs: &[(ColumnRef, Type)],
    ) -> Result<PlanNode> {
        let mut exprs = Vec::with_capacity(ids.len());
        let mut columns = Vec::with_capacity(ids.len());
        for (id, ty) in outputs {
            let item = items.iter().find(|(column, _)| column.id == *id);
            let expr = match item {
                Some((_, expr)) => expr.clone(),
                None => Expr::Column {
                    column: *id,
                    ty: *ty,
                },
            };
            let mut expr = expr;
            // An item may refer to an earlier one (merged projections).
            resolve_items(&mut expr, items);
            exprs.push(self.compile(&expr, &input.layout)?);
            let name = item.map_or_else(String::new, |(column, _)| column.name.clone());
            columns.push((name, *ty));
        }
        Ok(self.over(input.node, columns, |input| Op::Project { input, exprs }))
    }

    fn node(&mut self, op: Op, columns: Vec<(String, Type)>, rows: f64, cost: f64) -> PlanNode {
        self.nodes += 1;
        let (names, types) = columns.into_iter().unzip();
        PlanNode {
            op,
            names,
            types,
            rows: rows.max(1.0),
            cost,
            id: self.nodes - 1,
        }
    }

    /// A node on top of another with its rows and a little more cost.
    fn over(
        &mut self,
        input: PlanNode,
        columns: Vec<(String, Type)>,
        op: impl FnOnce(Arc<PlanNode>) -> Op,
    ) -> PlanNode {
        let (rows, cost) = (input.rows, input.cost + input.rows * 0.01);
        self.node(op(Arc::new(input)), columns, rows, cost)
    }

    fn build(&mut self, rel: &Rel, wanted: Option<Wanted<'_>>) -> Result<Built> {
        deep(|| self.build_inner(rel, wanted))
    }

    fn build_inner(&mut self, rel: &Rel, wanted: Option<Wanted<'_>>) -> Result<Built> {
        let plain = |node: PlanNode, layout: Vec<ColumnRef>| {
            Ok(Built {
                node,
                layout,
                ordered: false,
            })
        };
        match rel {
            Rel::Values { columns, rows } => {
                let count = rows.len() as f64;
                let rows = rows
                    .iter()
                    .map(|row| row.iter().map(|expr| self.compile(expr, &[])).collect())
                    .collect::<Result<Vec<Vec<_>>>>()?;
                let layout = ids(columns);
                let node = self.node(Op::Values(rows), described(columns), count, count * 0.01);
                plain(node, layout)
            }
            Rel::Scan(scan) => self.scan(scan, wanted),
            Rel::System(system) => self.system(system, wanted),
            Rel::Function(function) => self.function(function),
            Rel::Cte {
                index,
                name,
                columns,
                working,
            } => {
                let op = Op::Cte {
                    index: *index,
                    name: name.clone(),
                    columns: columns.iter().map(|(at, _)| *at).collect(),
                    working: *working,
                };
                let columns: Vec<RelColumn> = columns.iter().map(|(_, c)| c.clone()).collect();
                let node = self.node(op, described(&columns), 100.0, 1.0);
                plain(node, ids(&columns))
            }
            Rel::Join {
                kind,
                left,
                right,
                on,
            } => self.join(*kind, left, right, on, wanted),
            Rel::Filter { input, conditions } => {
                let input = self.build(input, wanted)?;
                let conditions = self.compile_all(conditions, &input.layout)?;
                let columns = columns_of(&input.node);
                let rows = input.node.rows * 0.3;
                let mut node = self.over(input.node, columns, |input| Op::Filter {
                    input,
                    conditions,
                });
                node.rows = rows.max(1.0);
                Ok(Built {
                    node,
                    layout: input.layout,
                    ordered: input.ordered,
                })
            }
            Rel::Project { input, items } => {
                let wanted = wanted.filter(|wanted| !mentions(wanted.keys, items));
                let input = self.build(input, wanted)?;
                let mut layout = Vec::new();
                let mut exprs = Vec::new();
                let mut columns = Vec::new();
                for (slot, id) in input.layout.iter().enumerate() {
                    if self.used.contains_key(id) && !items.iter().any(|(c, _)| c.id == *id) {
                        layout.push(*id);
                        let ty = input.node.types[slot];
                        exprs.push(Expr::Column {
                            column: slot_ref(slot),
                            ty,
                        });
                        columns.push((input.node.names[slot].clone(), ty));
                    }
                }
                for (column, expr) in items {
                    let mut expr = expr.clone();
                    resolve_items(&mut expr, items);
                    exprs.push(self.compile(&expr, &input.layout)?);
                    layout.push(column.id);
                    columns.push((column.name.clone(), column.ty));
                }
                let node = self.over(input.node, columns, |input| Op::Project { input, exprs });
                Ok(Built {
                    node,
                    layout,
                    ordered: input.ordered,
                })
            }
            Rel::ProjectSet { input, items } => {
                let input = self.build(input, None)?;
                let mut calls = Vec::with_capacity(items.len());
                let mut columns = columns_of(&input.node);
                let mut layout = input.layout.clone();
                for (column, expr) in items {
                    calls.push(self.compile(expr, &input.layout)?);
                    columns.push((column.name.clone(), column.ty));
                    layout.push(column.id);
                }
                let mut node =
                    self.over(input.node, columns, |input| Op::ProjectSet { input, calls });
                node.rows *= 10.0;
                plain(node, layout)
            }
            Rel::Aggregate {
                input,
                groups,
                sets,
                set_number,
                calls,
            } => {
                if let Some(built) = self.min_max(input, groups, sets.is_some(), calls)? {
                    return Ok(built);
                }
                let keys: Vec<SortKey> = groups
                    .iter()
                    .map(|(_, expr)| SortKey {
                        expr: expr.clone(),
                        descending: false,
                        nulls_first: false,
                    })
                    .collect();
                let order = (!keys.is_empty() && sets.is_none()).then_some(Wanted {
                    keys: &keys,
                    limit: None,
                });
                let input = self.build(input, order)?;
                let sorted = input.ordered;
                let mut columns: Vec<(String, Type)> = Vec::new();
                let mut layout = Vec::new();
                let mut exprs = Vec::new();
                for (column, expr) in groups {
                    exprs.push(self.compile(expr, &input.layout)?);
                    columns.push((column.name.clone(), column.ty));
                    layout.push(column.id);
                }
                if let Some(column) = set_number {
                    columns.push((column.name.clone(), column.ty));
                    layout.push(column.id);
                }
                let mut compiled = Vec::with_capacity(calls.len());
                for (column, call) in calls {
                    let mut call = call.clone();
                    let mut failed = None;
                    call.for_each_expr_mut(&mut |expr| {
                        failed = failed
                            .take()
                            .or(self.compile_mut(expr, &input.layout).err());
                    });
                    if let Some(error) = failed {
                        return Err(error);
                    }
                    compiled.push(call);
                    columns.push((column.name.clone(), column.ty));
                    layout.push(column.id);
                }
                let rows = if exprs.is_empty() {
                    1.0
                } else {
                    input.node.rows * 0.1
                };
                let (groups, sets) = (exprs, sets.clone());
                let mut node = self.over(input.node, columns, |input| Op::Aggregate {
                    input,
                    groups,
                    sets,
                    calls: compiled,
                    sorted,
                });
                node.rows = rows.max(1.0);
                Ok(Built {
                    node,
                    layout,
                    ordered: false,
                })
            }
            Rel::Window { input, calls } => {
                let input = self.build(input, None)?;
                let mut columns = columns_of(&input.node);
                let mut layout = input.layout.clone();
                let mut compiled = Vec::with_capacity(calls.len());
                for (column, call) in calls {
                    let mut call = call.clone();
                    let mut failed = None;
                    call.for_each_expr_mut(&mut |expr| {
                        failed = failed
                            .take()
                            .or(self.compile_mut(expr, &input.layout).err());
                    });
                    if let Some(error) = failed {
                        return Err(error);
                    }
                    compiled.push(call);
                    columns.push((column.name.clone(), column.ty));
                    layout.push(column.id);
                }
                let node = self.over(input.node, columns, |input| Op::Window {
                    input,
                    calls: compiled,
                });
                plain(node, layout)
            }
            Rel::Sort { input, keys } => self.sort(input, keys, None),
            Rel::Distinct { input, on } => {
                let input = self.build(input, wanted)?;
                let on = self.compile_all(on, &input.layout)?;
                let columns = columns_of(&input.node);
                let node = self.over(input.node, columns, |input| Op::Distinct { input, on });
                Ok(Built {
                    node,
                    layout: input.layout,
                    ordered: input.ordered,
                })
            }
            Rel::Limit {
                input,
                limit,
                offset,
                ties,
            } => {
                let known = |expr: &Option<Expr>| match expr {
                    None => Some(0.0),
                    Some(Expr::Const { value, .. }) => value.as_i64().map(|n| n as f64),
                    Some(_) => None,
                };
                let count = match limit {
                    Some(_) => known(limit)
                        .zip(known(offset))
                        .map_or(Some(100.0), |(l, o)| Some(l + o)),
                    None => None,
                };
                let input = match &**input {
                    Rel::Sort { input, keys } => self.sort(input, keys, count)?,
                    Rel::Project {
                        input: below,
                        items,
                    } if matches!(&**below, Rel::Sort { .. }) => {
                        // Sort below a projection: sort with the limit, then project.
                        let Rel::Sort { input, keys } = &**below else {
                            return Err(Error::internal("matched above"));
                        };
                        let sorted = self.sort(input, keys, count)?;
                        self.project_over(sorted, items)?
                    }
                    other => self.build(other, wanted.map(|w| Wanted { limit: count, ..w }))?,
                };
                let limit = self.compile_option(limit.as_ref(), &[])?;
                let offset = self.compile_option(offset.as_ref(), &[])?;
                let ties = match ties {
                    Some(keys) => Some(self.compile_keys(keys, &input.layout)?),
                    None => None,
                };
                let columns = columns_of(&input.node);
                let rows = count.map_or(input.node.rows, |count| input.node.rows.min(count));
                let mut node = self.over(input.node, columns, |input| Op::Limit {
                    input,
                    limit,
                    offset,
                    ties,
                });
                node.rows = rows.max(1.0);
                Ok(Built {
                    node,
                    layout: input.layout,
                    ordered: input.ordered,
                })
            }
            Rel::Set {
                kind,
                all,
                left,
                left_columns,
                right,
                right_columns,
                columns,
            } => {
                let left = self.build(left, None)?;
                let right = self.build(right, None)?;
                let slots = |built: &Built, ids: &[ColumnRef]| -> Result<Vec<usize>> {
                    ids.iter().map(|id| slot_of(&built.layout, *id)).collect()
                };
                let left_slots = slots(&left, left_columns)?;
                let right_slots = slots(&right, right_columns)?;
                let rows = left.node.rows + right.node.rows;
                let cost = left.node.cost + right.node.cost + rows * 0.01;
                let op = Op::Set {
                    kind: *kind,
                    all: *all,
                    left: Arc::new(left.node),
                    left_slots,
                    right: Arc::new(right.node),
                    right_slots,
                };
                let node = self.node(op, described(columns), rows, cost);
                plain(node, ids(columns))
            }
            Rel::With { ctes, body } => {
                let ctes = ctes
                    .iter()
                    .map(|cte| self.cte(cte).map(Arc::new))
                    .collect::<Result<Vec<_>>>()?;
                let body = self.build(body, wanted)?;
                let columns = columns_of(&body.node);
                let node = self.over(body.node, columns, |body| Op::With { ctes, body });
                Ok(Built {
                    node,
                    layout: body.layout,
                    ordered: body.ordered,
                })
            }
            Rel::Lock { input, locks } => {
                let input = self.build(input, wanted)?;
                let locks = locks
                    .iter()
                    .map(|lock| {
                        Ok(LockPlan {
                            table: lock.table.clone(),
                            key: slot_of(&input.layout, lock.key)?,
                            mode: lock.mode,
                            policy: lock.policy,
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                let columns = columns_of(&input.node);
                let node = self.over(input.node, columns, |input| Op::Lock { input, locks });
                Ok(Built {
                    node,
                    layout: input.layout,
                    ordered: input.ordered,
                })
            }
            Rel::Modify(modify) => self.modify(modify),
        }
    }

    fn project_over(&mut self, input: Built, items: &[(RelColumn, Expr)]) -> Result<Built> {
        let mut layout = input.layout.clone();
        let mut columns = columns_of(&input.node);
        let mut exprs: Vec<Expr> = layout
            .iter()
            .enumerate()
            .map(|(slot, _)| Expr::Column {
                column: slot_ref(slot),
                ty: input.node.types[slot],
            })
            .collect();
        for (column, expr) in items {
            let mut expr = expr.clone();
            resolve_items(&mut expr, items);
            exprs.push(self.compile(&expr, &input.layout)?);
            layout.push(column.id);
            columns.push((column.name.clone(), column.ty));
        }
        let node = self.over(input.node, columns, |input| Op::Project { input, exprs });
        Ok(Built {
            node,
            layout,
            ordered: input.ordered,
        })
    }

    fn sort(&mut self, input: &Rel, keys: &[SortKey], limit: Option<f64>) -> Result<Built> {
        let built = self.build(input, Some(Wanted { keys, limit }))?;
        if built.ordered {
            return Ok(built);
        }
        let keys = self.compile_keys(keys, &built.layout)?;
        let columns = columns_of(&built.node);
        let rows = built.node.rows;
        let mut node = self.over(built.node, columns, |input| Op::Sort { input, keys });
        node.cost += rows * rows.max(2.0).log2() * 0.005;
        Ok(Built {
            node,
            layout: built.layout,
            ordered: true,
        })
    }

    fn cte(&mut self, cte: &Cte) -> Result<CtePlan> {
        let built = self.build(&cte.rel, None)?;
        let outputs = cte
            .outputs
            .iter()
            .map(|id| slot_of(&built.layout, *id))
            .collect::<Result<Vec<_>>>()?;
        let recursive = match &cte.recursive {
            None => None,
            Some((step, ids, distinct)) => {
                let step = self.build(step, None)?;
                let slots = ids
                    .iter()
                    .map(|id| slot_of(&step.layout, *id))
                    .collect::<Result<Vec<_>>>()?;
                Some((Arc::new(step.node), slots, *distinct))
            }
        };
        Ok(CtePlan {
            index: cte.index,
            name: cte.name.clone(),
            node: Arc::new(built.node),
            outputs,
            recursive,
            modifies: cte.modifies,
        })
    }

    fn modify(&mut self, modify: &Modify) -> Result<Built> {
        let writer = self.writers.writer(modify.table.id)?;
        let source = self.build(&modify.source, None)?;
        let width = source.layout.len();
        let columns = modify.table.columns.len();
        let key = match modify.key {
            Some(key) => Some(slot_of(&source.layout, key)?),
            None => None,
        };
        let old = modify
            .old
            .iter()
            .map(|(index, id)| Ok((*index, slot_of(&source.layout, *id)?)))
            .collect::<Result<Vec<_>>>()?;
        let assign = self.compile_pairs(&modify.assign, &source.layout)?;
        let nowhere = ColumnRef(u32::MAX);
        let mut layout = source.layout.clone();
        layout.resize(width + columns, nowhere);
        for (index, id) in &modify.new {
            layout[width + index] = *id;
        }
        let returning = modify
            .returning
            .iter()
            .map(|(_, expr)| self.compile(expr, &layout))
            .collect::<Result<Vec<_>>>()?;
        let conflict = match &modify.conflict {
            None => None,
            Some(conflict) => {
                let mut layout = vec![nowhere; columns * 2];
                for (index, id) in &conflict.existing {
                    layout[*index] = *id;
                }
                for (index, id) in &conflict.excluded {
                    layout[columns + index] = *id;
                }
                let update = match &conflict.action {
                    ConflictAction::Nothing => None,
                    ConflictAction::Update { assign, filter } => Some((
                        self.compile_pairs(assign, &layout)?,
                        self.compile_option(filter.as_ref(), &layout)?,
                    )),
                };
                Some(ConflictPlan {
                    arbiters: conflict.arbiters.clone(),
                    update,
                })
            }
        };
        let described: Vec<RelColumn> = modify
            .returning
            .iter()
            .map(|(column, _)| column.clone())
            .collect();
        let spool = needs_spool(modify, &source.node);
        let (rows, cost) = (source.node.rows, source.node.cost);
        let plan = ModifyPlan {
            kind: modify.kind,
            table: modify.table.clone(),
            writer,
            alias: modify.alias.clone(),
            source: Arc::new(source.node),
            key,
            old,
            assign,
            conflict,
            sends: modify.sends,
            returning,
            spool,
        };
        let node = self.node(
            Op::Modify(Box::new(plan)),
            self::described(&described),
            rows,
            cost + rows * 0.05,
        );
        Ok(Built {
            node,
            layout: ids(&described),
            ordered: false,
        })
    }

    fn used_writer(&mut self, scan: &ScanRel) -> Result<bool> {
        Ok(!self
            .writers
            .writer(scan.table.id)?
            .table()
            .indexes
            .is_empty())
    }
}

fn named(
    node: &PlanNode,
    layout: &[ColumnRef],
    outputs: &[(ColumnRef, Type)],
) -> Vec<(String, Type)> {
    outputs
        .iter()
        .map(|(id, ty)| {
            let slot = layout.iter().position(|other| other == id);
            (
                slot.map_or_else(String::new, |slot| node.names[slot].clone()),
                *ty,
            )
        })
        .collect()
}

fn ids(columns: &[RelColumn]) -> Vec<ColumnRef> {
    columns.iter().map(|column| column.id).collect()
}

fn described(columns: &[RelColumn]) -> Vec<(String, Type)> {
    columns
        .iter()
        .map(|column| (column.name.clone(), column.ty))
        .collect()
}

fn columns_of(node: &PlanNode) -> Vec<(String, Type)> {
    node.names
        .iter()
        .cloned()
        .zip(node.types.iter().copied())
        .collect()
}

/// Items of one projection that refer to its other items.
fn resolve_items(expr: &mut Expr, items: &[(RelColumn, Expr)]) {
    expr.visit_mut(&mut |node| {
        if let Expr::Column { column, .. } = node
            && let Some((_, item)) = items.iter().find(|(c, _)| c.id == *column)
        {
            if matches!(item, Expr::Column { column: own, .. } if own == column) {
                return crate::expr::Flow::Skip;
            }
            *node = item.clone();
            return crate::expr::Flow::Skip;
        }
        crate::expr::Flow::Enter
    });
}

fn mentions(keys: &[SortKey], items: &[(RelColumn, Expr)]) -> bool {
    keys.iter().any(|key| {
        let mut used = Vec::new();
        key.expr.free_columns(&mut used);
        used.iter()
            .any(|id| items.iter().any(|(column, _)| column.id == *id))
    })
}

fn count_expr(expr: &Expr, f: &mut dyn FnMut(ColumnRef)) {
    expr.visit(&mut |node| {
        match node {
            Expr::Column { column, .. } => f(*column),
            Expr::Subquery(subquery) => {
                subquery.outputs.iter().for_each(|(id, _)| f(*id));
                count_structure(&subquery.rel, f);
            }
            _ => {}
        }
        crate::expr::Flow::Enter
    });
}

fn count_uses(rel: &Rel, used: &mut HashMap<ColumnRef, usize>) {
    let mut count = |id: ColumnRef| *used.entry(id).or_default() += 1;
    rel.visit(&mut |node| {
        match node {
            Expr::Column { column, .. } => count(*column),
            Expr::Subquery(subquery) => {
                subquery.outputs.iter().for_each(|(id, _)| count(*id));
                count_structure(&subquery.rel, &mut count);
            }
            _ => {}
        }
        crate::expr::Flow::Enter
    });
    count_structure(rel, &mut count);
}

/// Columns that relations name outside of expressions.
fn count_structure(rel: &Rel, f: &mut dyn FnMut(ColumnRef)) {
    match rel {
        Rel::Set {
            left_columns,
            right_columns,
            ..
        } => {
            left_columns
                .iter()
                .chain(right_columns)
                .for_each(|id| f(*id));
        }
        Rel::With { ctes, .. } => {
            for cte in ctes {
                cte.outputs.iter().for_each(|id| f(*id));
                if let Some((_, ids, _)) = &cte.recursive {
                    ids.iter().for_each(|id| f(*id));
                }
            }
        }
        Rel::Lock { locks, .. } => locks.iter().for_each(|lock| f(lock.key)),
        Rel::Modify(modify) => {
            modify.key.iter().for_each(|id| f(*id));
            modify.old.iter().for_each(|(_, id)| f(*id));
        }
        _ => {}
    }
    rel.for_each_input(&mut |input| count_structure(input, f));
}

/// Is this one column, ascending, all that is ordered by? It must have no nulls.
fn is_ascending(keys: &[SortKey], wanted: ColumnRef) -> bool {
    let [key] = keys else { return false };
    !key.descending && matches!(&key.expr, Expr::Column { column, .. } if *column == wanted)
}

/// Does it call a volatile function?
pub(super) fn is_volatile(rel: &Rel) -> bool {
    let mut volatile = false;
    rel.visit(&mut |expr| {
        volatile |= matches!(expr, Expr::Call(call)
            if call.resolved.function.volatility == crate::functions::Volatility::Volatile);
        // One that writes nothing says so.
        volatile |= matches!(expr, Expr::Routine(call)
            if call.routine.volatility == crate::catalog::Volatility::Volatile);
        crate::expr::Flow::Enter
    });
    volatile
}

/// Whether functions of users are called.
pub(super) fn calls_routines(rel: &Rel) -> bool {
    let mut calls = false;
    rel.visit(&mut |expr| {
        calls |= matches!(expr, Expr::Routine(_));
        crate::expr::Flow::Enter
    });
    calls
}

/// Whether a subquery reads rows of a CTE that may change between its runs.
fn reads_cte(rel: &Rel, nested: bool) -> bool {
    let mut found = matches!(rel, Rel::Cte { working, .. } if *working || nested);
    rel.for_each_input(&mut |input| found |= reads_cte(input, nested));
    rel.for_each_expr(&mut |expr| {
        expr.visit(&mut |node| {
            if let Expr::Subquery(subquery) = node {
                found |= reads_cte(&subquery.rel, nested);
            }
            crate::expr::Flow::Enter
        });
    });
    found
}

/// Whether the rows must be collected before the first is written: an INSERT that reads its own
/// target, or a change of rows that come any other way than by a plain scan of the target (which
/// sees one moment) or as one row.
fn needs_spool(modify: &Modify, source: &PlanNode) -> bool {
    let subqueries = modify.assign.iter().any(|(_, expr)| has_subplan(expr));
    if modify.kind == ModifyKind::Insert {
        return subqueries || reads(source, modify.table.id);
    }
    subqueries || !is_plain(source)
}

fn has_subplan(expr: &Expr) -> bool {
    expr.has_subquery()
}

/// Whether a table is read anywhere below.
fn reads(node: &PlanNode, table: TableId) -> bool {
    let mut found = matches!(&node.op, Op::Scan(scan) if scan.table.id == table);
    node.for_each_input(&mut |input| found |= reads(input, table));
    node.for_each_subplan(&mut |plan| found |= reads(&plan.plan, table));
    found
}

fn is_plain(node: &PlanNode) -> bool {
    match &node.op {
        Op::Scan(scan) => {
            let indirect = matches!(&scan.access, Access::Range(r) if r.indirect && !r.single);
            !indirect && !scan.filter.iter().any(has_subplan)
        }
        Op::Filter { input, conditions } => is_plain(input) && !conditions.iter().any(has_subplan),
        _ => false,
    }
}
