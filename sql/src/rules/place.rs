//! Conditions are placed as deep as they can be checked; clusters of inner joins are flattened
//! and put in an order; walls of projections inside them are taken down.

use std::collections::{HashMap, HashSet};

use super::estimate::{Statistics, is_equality, join_rows, rows};
use super::semi;
use crate::expr::{ColumnRef, Expr, Flow};
use crate::plan::{JoinKind, Rel, RelColumn, SetKind};

/// Places all conditions of a relation and of the subqueries in it.
pub fn place(rel: Rel, statistics: &dyn Statistics) -> Rel {
    let mut rel = push(rel, Vec::new(), statistics);
    subqueries(&mut rel, statistics);
    rel
}

fn subqueries(rel: &mut Rel, statistics: &dyn Statistics) {
    rel.for_each_expr_mut(&mut |expr| {
        expr.visit_mut(&mut |node| {
            if let Expr::Subquery(subquery) = node {
                let taken = std::mem::replace(&mut subquery.rel, Rel::one_row());
                subquery.rel = place(taken, statistics);
                return Flow::Skip;
            }
            Flow::Enter
        });
    });
    rel.for_each_input_mut(&mut |input| subqueries(input, statistics));
}

fn ids(columns: &[RelColumn]) -> HashSet<ColumnRef> {
    columns.iter().map(|column| column.id).collect()
}

fn used(expr: &Expr) -> Vec<ColumnRef> {
    let mut out = Vec::new();
    expr.free_columns(&mut out);
    out
}

fn push(rel: Rel, conditions: Vec<Expr>, statistics: &dyn Statistics) -> Rel {
    crate::expr::deep(|| push_inner(rel, conditions, statistics))
}

fn boxed(rel: Rel, statistics: &dyn Statistics) -> Box<Rel> {
    Box::new(push(rel, Vec::new(), statistics))
}

fn push_inner(rel: Rel, mut conditions: Vec<Expr>, statistics: &dyn Statistics) -> Rel {
    match rel {
        Rel::Filter {
            input,
            conditions: own,
        } => {
            for condition in own {
                condition.conjuncts(&mut conditions);
            }
            push(*input, conditions, statistics)
        }
        Rel::Join {
            kind: JoinKind::Inner,
            ..
        } => cluster(rel, conditions, statistics),
        Rel::Join {
            kind: JoinKind::Right,
            left,
            right,
            on,
        } => push(
            Rel::Join {
                kind: JoinKind::Left,
                left: right,
                right: left,
                on,
            },
            conditions,
            statistics,
        ),
        Rel::Join {
            kind: JoinKind::Left,
            left,
            right,
            on,
        } => outer(*left, *right, on, conditions, statistics),
        Rel::Join {
            kind: JoinKind::Full,
            left,
            right,
            on,
        } => {
            let (left, right) = (boxed(*left, statistics), boxed(*right, statistics));
            finish(
                Rel::Join {
                    kind: JoinKind::Full,
                    left,
                    right,
                    on,
                },
                conditions,
            )
        }
        Rel::Join {
            kind,
            left,
            right,
            on,
        } => {
            let own = ids(&left.columns());
            let (down, rest) = split(conditions, |c| used(c).iter().all(|id| own.contains(id)));
            let left = Box::new(push(*left, down, statistics));
            let right = boxed(*right, statistics);
            finish(
                Rel::Join {
                    kind,
                    left,
                    right,
                    on,
                },
                rest,
            )
        }
        Rel::Scan(mut scan) => {
            let (plain, rest) = split(conditions, |c| !c.has_subquery() && !c.is_volatile());
            scan.filter.extend(plain);
            finish(Rel::Scan(scan), rest)
        }
        Rel::System(mut system) => {
            let (plain, rest) = split(conditions, |c| !c.has_subquery() && !c.is_volatile());
            system.filter.extend(plain);
            finish(Rel::System(system), rest)
        }
        Rel::Project { input, items } => {
            let map: HashMap<ColumnRef, Expr> = items
                .iter()
                .map(|(column, expr)| (column.id, expr.clone()))
                .collect();
            let (mut down, rest) = split(conditions, |c| substitutable(c, &map));
            down.iter_mut()
                .for_each(|condition| substitute(condition, &map));
            let input = Box::new(push(*input, down, statistics));
            finish(Rel::Project { input, items }, rest)
        }
        Rel::ProjectSet { input, items } => {
            let made: HashSet<ColumnRef> = items.iter().map(|(c, _)| c.id).collect();
            let (down, rest) = split(conditions, |c| !used(c).iter().any(|id| made.contains(id)));
            let input = Box::new(push(*input, down, statistics));
            finish(Rel::ProjectSet { input, items }, rest)
        }
        Rel::Aggregate {
            input,
            groups,
            sets,
            set_number,
            calls,
        } => {
            let map: HashMap<ColumnRef, Expr> = if sets.is_none() && !groups.is_empty() {
                groups
                    .iter()
                    .map(|(column, expr)| (column.id, expr.clone()))
                    .collect()
            } else {
                HashMap::new()
            };
            let (mut down, rest) = split(conditions, |c| {
                let used = used(c);
                !used.is_empty()
                    && used.iter().all(|id| map.contains_key(id))
                    && substitutable(c, &map)
            });
            down.iter_mut()
                .for_each(|condition| substitute(condition, &map));
            let input = Box::new(push(*input, down, statistics));
            finish(
                Rel::Aggregate {
                    input,
                    groups,
                    sets,
                    set_number,
                    calls,
                },
                rest,
            )
        }
        Rel::Window { input, calls } => {
            let partitioned = |id: &ColumnRef| {
                calls.iter().all(|(_, call)| {
                    call.spec
                        .partition
                        .iter()
                        .any(|expr| matches!(expr, Expr::Column { column, .. } if column == id))
                })
            };
            let (down, rest) = split(conditions, |c| {
                let used = used(c);
                !used.is_empty() && used.iter().all(partitioned)
            });
            let input = Box::new(push(*input, down, statistics));
            finish(Rel::Window { input, calls }, rest)
        }
        Rel::Sort { input, keys } => Rel::Sort {
            input: Box::new(push(*input, conditions, statistics)),
            keys,
        },
        Rel::Distinct { input, on } => {
            let kept: HashSet<ColumnRef> = on
                .iter()
                .filter_map(|expr| match expr {
                    Expr::Column { column, .. } => Some(*column),
                    _ => None,
                })
                .collect();
            let (down, rest) = split(conditions, |c| {
                let used = used(c);
                !used.is_empty() && used.iter().all(|id| kept.contains(id))
            });
            let input = Box::new(push(*input, down, statistics));
            finish(Rel::Distinct { input, on }, rest)
        }
        Rel::Limit {
            input,
            limit,
            offset,
            ties,
        } => {
            let input = boxed(*input, statistics);
            finish(
                Rel::Limit {
                    input,
                    limit,
                    offset,
                    ties,
                },
                conditions,
            )
        }
        Rel::Lock { input, locks } => {
            let input = boxed(*input, statistics);
            finish(Rel::Lock { input, locks }, conditions)
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
            let map = |side: &[ColumnRef]| -> HashMap<ColumnRef, Expr> {
                columns
                    .iter()
                    .zip(side)
                    .map(|(column, id)| {
                        (
                            column.id,
                            Expr::Column {
                                column: *id,
                                ty: column.ty,
                            },
                        )
                    })
                    .collect()
            };
            let (left_map, right_map) = (map(&left_columns), map(&right_columns));
            let (down, rest) = split(conditions, |c| {
                !used(c).is_empty() && !c.is_volatile() && !c.has_subquery()
            });
            let mapped = |map: &HashMap<ColumnRef, Expr>| -> Vec<Expr> {
                let mut out = down.clone();
                out.iter_mut()
                    .for_each(|condition| substitute(condition, map));
                out
            };
            let _ = SetKind::Union;
            let left = Box::new(push(*left, mapped(&left_map), statistics));
            let right = Box::new(push(*right, mapped(&right_map), statistics));
            let set = Rel::Set {
                kind,
                all,
                left,
                left_columns,
                right,
                right_columns,
                columns,
            };
            finish(set, rest)
        }
        Rel::With { mut ctes, body } => {
            for cte in &mut ctes {
                let taken = std::mem::replace(&mut cte.rel, Rel::one_row());
                cte.rel = push(taken, Vec::new(), statistics);
                if let Some((step, _, _)) = &mut cte.recursive {
                    let taken = std::mem::replace(&mut **step, Rel::one_row());
                    **step = push(taken, Vec::new(), statistics);
                }
            }
            Rel::With {
                ctes,
                body: Box::new(push(*body, conditions, statistics)),
            }
        }
        Rel::Modify(mut modify) => {
            let taken = std::mem::replace(&mut modify.source, Rel::one_row());
            modify.source = push(taken, Vec::new(), statistics);
            finish(Rel::Modify(modify), conditions)
        }
        rel @ (Rel::Values { .. } | Rel::Function(_) | Rel::Cte { .. }) => finish(rel, conditions),
    }
}

fn split(conditions: Vec<Expr>, test: impl Fn(&Expr) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    conditions
        .into_iter()
        .partition(|condition| test(condition))
}

/// Puts what could not go deeper on top: semi-joins first, then a filter.
fn finish(mut rel: Rel, conditions: Vec<Expr>) -> Rel {
    let mut rest = Vec::new();
    for condition in conditions {
        match semi::join(rel, condition) {
            Ok(joined) => rel = joined,
            Err(back) => {
                let (same, condition) = *back;
                rel = same;
                rest.push(condition);
            }
        }
    }
    if rest.is_empty() {
        rel
    } else {
        Rel::Filter {
            input: Box::new(rel),
            conditions: rest,
        }
    }
}

fn substitutable(condition: &Expr, map: &HashMap<ColumnRef, Expr>) -> bool {
    !condition.is_volatile()
        && used(condition).iter().all(|id| {
            map.get(id)
                .is_none_or(|expr| !expr.is_volatile() && !expr.has_subquery())
        })
}

fn substitute(condition: &mut Expr, map: &HashMap<ColumnRef, Expr>) {
    condition.visit_mut(&mut |node| {
        if let Expr::Column { column, .. } = node
            && let Some(expr) = map.get(column)
        {
            *node = expr.clone();
            return Flow::Skip;
        }
        Flow::Enter
    });
}

/// LEFT JOIN: conditions on the left go left; one that no all-NULL right row can pass makes it an
/// inner join.
fn outer(
    left: Rel,
    right: Rel,
    on: Vec<Expr>,
    conditions: Vec<Expr>,
    statistics: &dyn Statistics,
) -> Rel {
    let left_ids = ids(&left.columns());
    let right_ids = ids(&right.columns());
    if conditions
        .iter()
        .any(|condition| rejects(condition, &right_ids))
    {
        let (left, right) = (Box::new(left), Box::new(right));
        let join = Rel::Join {
            kind: JoinKind::Inner,
            left,
            right,
            on,
        };
        return push(join, conditions, statistics);
    }
    let (down, rest) = split(conditions, |c| {
        !used(c).iter().any(|id| right_ids.contains(id))
    });
    let mut conjuncts = Vec::new();
    on.into_iter()
        .for_each(|condition| condition.conjuncts(&mut conjuncts));
    let (inside, on) = split(conjuncts, |c| {
        !used(c).iter().any(|id| left_ids.contains(id)) && !c.is_volatile()
    });
    let left = Box::new(push(left, down, statistics));
    let right = Box::new(push(right, inside, statistics));
    finish(
        Rel::Join {
            kind: JoinKind::Left,
            left,
            right,
            on,
        },
        rest,
    )
}

/// Whether a condition cannot be true when all these columns are NULL.
fn rejects(condition: &Expr, columns: &HashSet<ColumnRef>) -> bool {
    fn strict_in(expr: &Expr, columns: &HashSet<ColumnRef>) -> bool {
        match expr {
            Expr::Column { column, .. } => columns.contains(column),
            Expr::Call(call) => {
                call.resolved.function.strict && call.args.iter().any(|arg| strict_in(arg, columns))
            }
            Expr::Cast(cast) => strict_in(&cast.input, columns),
            _ => false,
        }
    }
    match condition {
        Expr::Call(_) => strict_in(condition, columns),
        Expr::IsNull {
            input,
            negated: true,
            row: false,
        } => strict_in(input, columns),
        Expr::AnyArray(any) => any.test.is_strict_call() && strict_in(&any.left, columns),
        Expr::And(items) => items.iter().any(|item| rejects(item, columns)),
        Expr::Or(items) => items.iter().all(|item| rejects(item, columns)),
        _ => false,
    }
}

impl Expr {
    fn is_strict_call(&self) -> bool {
        matches!(self, Expr::Call(call) if call.resolved.function.strict)
    }
}

/// A cluster of inner joins, taken apart.
#[derive(Default)]
struct Parts {
    leaves: Vec<Rel>,
    conditions: Vec<Expr>,
    /// Computed columns of projections that were taken down.
    items: Vec<(RelColumn, Expr)>,
}

impl Parts {
    fn take(&mut self, rel: Rel) {
        match rel {
            Rel::Join {
                kind: JoinKind::Inner,
                left,
                right,
                on,
            } => {
                self.take(*left);
                self.take(*right);
                on.into_iter()
                    .for_each(|condition| condition.conjuncts(&mut self.conditions));
            }
            Rel::Filter { input, conditions } => {
                self.take(*input);
                for condition in conditions {
                    condition.conjuncts(&mut self.conditions);
                }
            }
            Rel::Project { input, items }
                if items
                    .iter()
                    .all(|(_, expr)| !expr.is_volatile() && !expr.has_subquery()) =>
            {
                self.take(*input);
                self.items.extend(items);
            }
            other => self.leaves.push(other),
        }
    }

    /// Replaces columns of taken-down projections by their expressions.
    fn resolve(&mut self) {
        if self.items.is_empty() {
            return;
        }
        let mut map: HashMap<ColumnRef, Expr> = HashMap::new();
        for (column, expr) in &mut self.items {
            substitute(expr, &map);
            map.insert(column.id, expr.clone());
        }
        self.conditions
            .iter_mut()
            .for_each(|condition| substitute(condition, &map));
        for leaf in &mut self.leaves {
            leaf.visit_mut(&mut |node| {
                if let Expr::Column { column, .. } = node
                    && let Some(expr) = map.get(column)
                {
                    *node = expr.clone();
                    return Flow::Skip;
                }
                Flow::Enter
            });
        }
    }
}

fn cluster(rel: Rel, conditions: Vec<Expr>, statistics: &dyn Statistics) -> Rel {
    let mut parts = Parts {
        conditions,
        ..Parts::default()
    };
    parts.take(rel);
    parts.resolve();
    let Parts {
        mut leaves,
        conditions,
        items,
    } = parts;
    if leaves.len() > 1 {
        let plain = |leaf: &Rel| matches!(leaf, Rel::Values { columns, rows } if columns.is_empty() && rows.len() == 1);
        let mut kept: Vec<Rel> = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            if !plain(&leaf) {
                kept.push(leaf);
            }
        }
        if kept.is_empty() {
            kept.push(Rel::one_row());
        }
        leaves = kept;
    }
    let columns: Vec<HashSet<ColumnRef>> = leaves.iter().map(|leaf| ids(&leaf.columns())).collect();
    let mut own: Vec<Vec<Expr>> = vec![Vec::new(); leaves.len()];
    let mut joining = Vec::new();
    let mut top = Vec::new();
    for condition in conditions {
        let used = used(&condition);
        let touched: Vec<usize> = (0..leaves.len())
            .filter(|at| used.iter().any(|id| columns[*at].contains(id)))
            .collect();
        match touched.as_slice() {
            [] => top.push(condition),
            [one] => own[*one].push(condition),
            _ => joining.push(condition),
        }
    }
    let leaves: Vec<Rel> = leaves
        .into_iter()
        .zip(own)
        .map(|(leaf, conditions)| push(leaf, conditions, statistics))
        .collect();
    let rel = order(leaves, &columns, joining, statistics);
    let rel = finish(rel, top);
    if items.is_empty() {
        rel
    } else {
        Rel::Project {
            input: Box::new(rel),
            items,
        }
    }
}

/// Joins the leaves one after another, the cheapest step first.
fn order(
    leaves: Vec<Rel>,
    columns: &[HashSet<ColumnRef>],
    mut joining: Vec<Expr>,
    statistics: &dyn Statistics,
) -> Rel {
    let count = leaves.len();
    let needs: Vec<Vec<usize>> = leaves
        .iter()
        .enumerate()
        .map(|(at, leaf)| {
            let mut free = Vec::new();
            leaf.free_columns(&mut free);
            (0..count)
                .filter(|other| *other != at && free.iter().any(|id| columns[*other].contains(id)))
                .collect()
        })
        .collect();
    let sizes: Vec<f64> = leaves.iter().map(|leaf| rows(leaf, statistics)).collect();
    let mut slots: Vec<Option<Rel>> = leaves.into_iter().map(Some).collect();
    let mut placed: Vec<usize> = Vec::new();
    let mut have: HashSet<ColumnRef> = HashSet::new();
    let mut current: Option<(Rel, f64)> = None;
    while placed.len() < count {
        let ready = |at: &usize| {
            slots[*at].is_some() && needs[*at].iter().all(|need| placed.contains(need))
        };
        let candidates: Vec<usize> = (0..count).filter(ready).collect();
        let score = |at: usize| -> f64 {
            let Some((_, size)) = &current else {
                return sizes[at];
            };
            let on: Vec<Expr> = joining
                .iter()
                .filter(|c| covered(c, &have, &columns[at], columns))
                .cloned()
                .collect();
            let joined = if on.iter().any(is_equality) {
                join_rows(*size, sizes[at], &on)
            } else {
                // A product: later rather than sooner.
                size * sizes[at] * 10.0
            };
            if needs[at].is_empty() {
                joined
            } else {
                size * sizes[at]
            }
        };
        let next = candidates
            .iter()
            .copied()
            .min_by(|a, b| score(*a).total_cmp(&score(*b)))
            // A cycle of LATERAL references cannot be bound; take any leaf.
            .unwrap_or_else(|| (0..count).find(|at| slots[*at].is_some()).unwrap_or(0));
        let Some(leaf) = slots[next].take() else {
            break;
        };
        placed.push(next);
        let (on, later) = split(std::mem::take(&mut joining), |c| {
            current.is_some() && covered(c, &have, &columns[next], columns)
        });
        joining = later;
        have.extend(&columns[next]);
        current = Some(match current {
            None => (leaf, sizes[next]),
            Some((left, size)) => {
                let estimate = join_rows(size, sizes[next], &on);
                let (on, special) = split(on, |c| !matches!(c, Expr::Subquery(_) | Expr::Not(_)));
                let (left, right) = (Box::new(left), Box::new(leaf));
                let join = Rel::Join {
                    kind: JoinKind::Inner,
                    left,
                    right,
                    on,
                };
                (finish(join, special), estimate)
            }
        });
    }
    let (rel, _) = current.unwrap_or_else(|| (Rel::one_row(), 1.0));
    finish(rel, joining)
}

/// Whether a condition needs nothing of the cluster but what is there and the next leaf.
fn covered(
    condition: &Expr,
    have: &HashSet<ColumnRef>,
    next: &HashSet<ColumnRef>,
    all: &[HashSet<ColumnRef>],
) -> bool {
    let used = used(condition);
    used.iter().any(|id| next.contains(id))
        && used.iter().all(|id| {
            have.contains(id)
                || next.contains(id)
                || !all.iter().any(|columns| columns.contains(id))
        })
}
