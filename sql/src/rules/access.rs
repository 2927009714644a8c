//! Index selection: which tree to read, from where to where, and whether its order is the order
//! that is asked for.

use super::fold::is_fixed;
use crate::catalog::{IndexKey, IndexState, Key, Table};
use crate::exec::Writer;
use crate::expr::{ColumnRef, Expr, Flow, SortKey, same};
use crate::plan::{Access, KeyPart, RangeAccess, ScanRel};
use crate::types::Type;

/// The order that a parent would like, and how many rows it takes.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// ORDER BY keys.
    pub keys: &'a [SortKey],
    /// LIMIT, when it is known.
    pub limit: Option<f64>,
}

/// The choice for one scan.
pub struct Chosen {
    /// The access; expressions still name columns of enclosing relations by id.
    pub access: Access,
    /// Read from the end.
    pub backward: bool,
    /// The rows come in the wanted order.
    pub ordered: bool,
    /// Conditions (indices into the filter) that the access itself enforces.
    pub enforced: Vec<usize>,
    /// Estimated rows that come out of the tree.
    pub rows: f64,
    /// Estimated cost.
    pub cost: f64,
}

/// One way to bind a key column.
enum Match<'f> {
    Equal(&'f Expr),
    Any(&'f Expr),
    Null,
    Lower(&'f Expr, bool),
    Upper(&'f Expr, bool),
}

struct Candidate<'s> {
    index: Option<usize>,
    columns: Vec<Keyed<'s>>,
    unique: bool,
    indirect: bool,
}

/// A key column of a candidate.
struct Keyed<'s> {
    expr: std::borrow::Cow<'s, Expr>,
    ty: Type,
    descending: bool,
    nulls_first: bool,
    not_null: bool,
}

/// Cost of starting to read a tree.
const SEEK_COST: f64 = 2.0;
/// Cost of one row in tree order.
const ROW_COST: f64 = 0.01;
/// Cost of one row fetched through an index.
const FETCH_COST: f64 = 0.04;

/// Chooses how to read a table under conditions.
pub fn choose(
    scan: &ScanRel,
    writer: &Writer,
    table_rows: f64,
    wanted: Option<Wanted<'_>>,
) -> Chosen {
    let mut best = Chosen {
        access: Access::Full,
        backward: false,
        ordered: false,
        enforced: Vec::new(),
        rows: table_rows,
        cost: SEEK_COST + table_rows * ROW_COST,
    };
    let mut best_total = total(&best, wanted);
    for candidate in candidates(scan, writer) {
        let Some(chosen) = consider(scan, &candidate, table_rows, wanted) else {
            continue;
        };
        let cost = total(&chosen, wanted);
        if cost < best_total {
            best = chosen;
            best_total = cost;
        }
    }
    best
}

/// The cost with the sort that is still needed, or with LIMIT's early end.
fn total(chosen: &Chosen, wanted: Option<Wanted<'_>>) -> f64 {
    let Some(wanted) = wanted else {
        return chosen.cost;
    };
    if !chosen.ordered {
        let rows = chosen.rows.max(2.0);
        return chosen.cost + rows * rows.log2() * 0.005;
    }
    match wanted.limit {
        Some(limit) if limit < chosen.rows => {
            SEEK_COST + (chosen.cost - SEEK_COST) * (limit / chosen.rows)
        }
        _ => chosen.cost,
    }
}

fn column_expr(scan: &ScanRel, index: usize) -> Option<Expr> {
    scan.columns
        .iter()
        .find(|(at, _)| *at == index)
        .map(|(_, column)| Expr::Column {
            column: column.id,
            ty: column.ty,
        })
}

fn candidates<'s>(scan: &'s ScanRel, writer: &Writer) -> Vec<Candidate<'s>> {
    let table = &scan.table;
    let mut out = Vec::new();
    if let Key::Primary(ids) = &table.key {
        let columns: Option<Vec<Keyed<'_>>> = ids
            .iter()
            .map(|id| {
                let at = table.column_index(*id)?;
                let clustering = table
                    .indexes
                    .iter()
                    .find(|index| table.is_clustering(index));
                let part = clustering.and_then(|index| {
                    index
                        .columns
                        .iter()
                        .find(|key| key.what == IndexKey::Column(*id))
                });
                Some(Keyed {
                    expr: std::borrow::Cow::Owned(column_expr(scan, at)?),
                    ty: table.columns[at].ty.plain(),
                    descending: part.is_some_and(|part| part.descending),
                    nulls_first: part.is_some_and(|part| part.nulls_first),
                    not_null: true,
                })
            })
            .collect();
        if let Some(columns) = columns {
            out.push(Candidate {
                index: None,
                columns,
                unique: true,
                indirect: false,
            });
        }
    }
    // Only the rows' own tree keeps its history.
    if scan.as_of.is_some() {
        return out;
    }
    for (at, index) in table.indexes.iter().enumerate() {
        if table.is_clustering(index) || index.state != IndexState::Ready {
            continue;
        }
        let shape = writer.index_shape(at);
        let implied = shape.predicate.iter().all(|part| {
            let part = over_scan(part, scan);
            scan.filter.iter().any(|have| same(have, &part))
        });
        if !implied {
            continue;
        }
        let columns = index
            .columns
            .iter()
            .zip(&shape.keys)
            .map(|(key, expr)| Keyed {
                expr: std::borrow::Cow::Owned(over_scan(expr, scan)),
                ty: expr.ty().plain(),
                descending: key.descending,
                nulls_first: key.nulls_first,
                not_null: is_not_null(table, &key.what),
            })
            .collect();
        out.push(Candidate {
            index: Some(at),
            columns,
            unique: index.unique,
            indirect: true,
        });
    }
    out
}

fn is_not_null(table: &Table, key: &IndexKey) -> bool {
    match key {
        IndexKey::Column(id) => table
            .column_by_id(*id)
            .is_some_and(|column| column.not_null),
        IndexKey::Expression(_) => false,
    }
}

/// An expression over a table's row (slots = places in `Table::columns`) as one over the scan.
fn over_scan(expr: &Expr, scan: &ScanRel) -> Expr {
    let mut expr = expr.clone();
    expr.visit_mut(&mut |node| {
        if let Expr::Column { column, .. } = node
            && let Some((_, own)) = scan.columns.iter().find(|(at, _)| *at == column.0 as usize)
        {
            *column = own.id;
        }
        Flow::Enter
    });
    expr
}

fn consider(
    scan: &ScanRel,
    candidate: &Candidate<'_>,
    table_rows: f64,
    wanted: Option<Wanted<'_>>,
) -> Option<Chosen> {
    let mut access = RangeAccess {
        index: candidate.index,
        key: candidate
            .columns
            .iter()
            .map(|c| (c.ty, c.descending, c.nulls_first))
            .collect(),
        equal: Vec::new(),
        lower: None,
        upper: None,
        single: false,
        indirect: candidate.indirect,
        shown: Vec::new(),
    };
    let mut enforced = Vec::new();
    let mut fraction = 1.0;
    let mut multiple = false;
    for column in &candidate.columns {
        let (part, at, part_fraction) = match equality(scan, column) {
            Some(found) => found,
            None => {
                range(scan, column, &mut access, &mut enforced, &mut fraction);
                break;
            }
        };
        multiple |= matches!(part, KeyPart::Any(_));
        fraction *= part_fraction;
        access.equal.push(part);
        access.shown.push(scan.filter[at].clone());
        enforced.push(at);
    }
    let nulls = access
        .equal
        .iter()
        .any(|part| matches!(part, KeyPart::Null));
    access.single = candidate.unique && access.equal.len() == candidate.columns.len() && !nulls;
    let (ordered, backward) = match wanted {
        Some(wanted) if !multiple => match order(candidate, access.equal.len(), wanted.keys) {
            Some(backward) => (true, backward),
            None => (false, false),
        },
        _ => (false, false),
    };
    let bound = !access.equal.is_empty() || access.lower.is_some() || access.upper.is_some();
    if !bound && !ordered {
        return None;
    }
    let rows = if access.single {
        access
            .equal
            .iter()
            .map(|part| {
                if matches!(part, KeyPart::Any(_)) {
                    5.0
                } else {
                    1.0
                }
            })
            .product()
    } else {
        (table_rows * fraction).max(1.0)
    };
    let row_cost = if candidate.indirect {
        FETCH_COST
    } else {
        ROW_COST
    };
    Some(Chosen {
        access: if bound || candidate.indirect {
            Access::Range(Box::new(access))
        } else {
            Access::Full
        },
        backward,
        ordered,
        enforced,
        rows,
        cost: if rows <= 1.0 {
            0.5
        } else {
            SEEK_COST + rows * row_cost
        },
    })
}

/// Direction in which the candidate gives the wanted order.
fn order(candidate: &Candidate<'_>, fixed: usize, keys: &[SortKey]) -> Option<bool> {
    let mut backward: Option<bool> = None;
    let mut at = fixed;
    for key in keys {
        let is_fixed_column = candidate.columns[..fixed]
            .iter()
            .any(|column| same(&column.expr, &key.expr));
        if is_fixed_column {
            continue;
        }
        if candidate.unique && at == candidate.columns.len() && fixed_or_not_null(candidate) {
            // A unique key has been ordered by: later keys decide nothing.
            break;
        }
        let column = candidate.columns.get(at)?;
        if !same(&column.expr, &key.expr) {
            return None;
        }
        let back = column.descending != key.descending;
        let nulls_fit = column.not_null || (column.nulls_first != back) == key.nulls_first;
        if !nulls_fit || backward.is_some_and(|other| other != back) {
            return None;
        }
        backward = Some(back);
        at += 1;
    }
    Some(backward.unwrap_or(false))
}

fn fixed_or_not_null(candidate: &Candidate<'_>) -> bool {
    candidate.columns.iter().all(|column| column.not_null)
}

/// An equality on a key column: the part, which condition, and its selectivity.
fn equality(scan: &ScanRel, column: &Keyed<'_>) -> Option<(KeyPart, usize, f64)> {
    let mut fallback = None;
    for (at, condition) in scan.filter.iter().enumerate() {
        match matches(scan, condition, column) {
            Some(Match::Equal(value)) => {
                return Some((KeyPart::One(value.clone()), at, 0.005));
            }
            Some(Match::Any(array)) if fallback.is_none() => {
                fallback = Some((KeyPart::Any(array.clone()), at, 0.025));
            }
            Some(Match::Null) if fallback.is_none() => {
                fallback = Some((KeyPart::Null, at, 0.005));
            }
            _ => {}
        }
    }
    fallback
}

fn range(
    scan: &ScanRel,
    column: &Keyed<'_>,
    access: &mut RangeAccess,
    enforced: &mut Vec<usize>,
    fraction: &mut f64,
) {
    for (at, condition) in scan.filter.iter().enumerate() {
        match matches(scan, condition, column) {
            Some(Match::Lower(value, inclusive)) if access.lower.is_none() => {
                access.lower = Some((value.clone(), inclusive));
            }
            Some(Match::Upper(value, inclusive)) if access.upper.is_none() => {
                access.upper = Some((value.clone(), inclusive));
            }
            _ => continue,
        }
        access.shown.push(condition.clone());
        enforced.push(at);
        *fraction *= if access.lower.is_some() && access.upper.is_some() {
            0.015
        } else {
            0.333
        };
    }
}

/// How a condition binds a key column, if it does.
fn matches<'f>(scan: &ScanRel, condition: &'f Expr, column: &Keyed<'_>) -> Option<Match<'f>> {
    let own =
        |id: &ColumnRef| scan.columns.iter().any(|(_, c)| c.id == *id) || scan.key == Some(*id);
    let outside = |expr: &Expr| {
        let mut used = Vec::new();
        expr.free_columns(&mut used);
        !used.iter().any(own) && !expr.is_volatile() && !expr.has_subquery()
    };
    let _ = is_fixed;
    match condition {
        Expr::Call(call) => {
            let op = call.operator?;
            let [left, right] = call.args.as_slice() else {
                return None;
            };
            let (value, op) = if same(strip_keeps(left), &column.expr) && outside(right) {
                (right, op)
            } else if same(strip_keeps(right), &column.expr) && outside(left) {
                (left, flip(op)?)
            } else {
                return None;
            };
            if !comparable(column.ty, value.ty()) {
                return None;
            }
            Some(match op {
                "=" => Match::Equal(value),
                ">" => Match::Lower(value, false),
                ">=" => Match::Lower(value, true),
                "<" => Match::Upper(value, false),
                "<=" => Match::Upper(value, true),
                _ => return None,
            })
        }
        Expr::AnyArray(any) if !any.all => {
            let Expr::Call(test) = &any.test else {
                return None;
            };
            let element = any.array.ty().element()?;
            (test.operator == Some("=")
                && same(strip_keeps(&any.left), &column.expr)
                && outside(&any.array)
                && comparable(column.ty, element))
            .then_some(Match::Any(&any.array))
        }
        Expr::IsNull {
            input,
            negated: false,
            row: false,
        } => same(input, &column.expr).then_some(Match::Null),
        _ => None,
    }
}

/// Without casts that keep the representation (`varchar` to `text`).
fn strip_keeps(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if cast.keeps => strip_keeps(&cast.input),
        other => other,
    }
}

fn flip(op: &str) -> Option<&'static str> {
    Some(match op {
        "=" => "=",
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        _ => return None,
    })
}

/// Whether values of `value` can be turned into keys of `key` without changing the comparison.
fn comparable(key: Type, value: Type) -> bool {
    let integer = |ty: Type| [Type::INT2.oid, Type::INT4.oid, Type::INT8.oid].contains(&ty.oid);
    let text = |ty: Type| [Type::TEXT.oid, Type::VARCHAR.oid, Type::NAME.oid].contains(&ty.oid);
    key.oid == value.oid || (integer(key) && integer(value)) || (text(key) && text(value))
}
