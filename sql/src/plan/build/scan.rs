//! Tables, system relations and functions: which access they get, and what they give.

use super::{Builder, Built, count_expr, described, ids, is_ascending};
use crate::error::Result;
use crate::exec::RowReader;
use crate::expr::{ColumnRef, Expr, SortKey, Subquery, SubqueryKind};
use crate::plan::node::{Access, KeyPart, LowerBound, Op, ScanPlan, TablePlan};
use crate::plan::{Rel, RelColumn, ScanRel, TableCall};
use crate::rules::{Wanted, choose, rows};
use crate::types::Type;

impl<'a> Builder<'a> {
    pub(super) fn scan(&mut self, scan: &ScanRel, wanted: Option<Wanted<'_>>) -> Result<Built> {
        let writer = self.writers.writer(scan.table.id)?;
        let table_rows = self
            .statistics
            .rows(scan.table.id)
            .unwrap_or(crate::rules::TABLE_ROWS);
        let chosen = choose(scan, &writer, table_rows, wanted);
        // Conditions that the access enforces need no columns.
        let mut used = self.used.clone();
        for at in &chosen.enforced {
            let mut ids = Vec::new();
            count_expr(&scan.filter[*at], &mut |id| ids.push(id));
            for id in ids {
                if let Some(count) = used.get_mut(&id) {
                    *count = count.saturating_sub(1);
                }
            }
        }
        let mut layout = Vec::new();
        let mut columns = Vec::new();
        let mut described = Vec::new();
        for (index, column) in &scan.columns {
            if used.get(&column.id).is_some_and(|count| *count > 0) {
                layout.push(column.id);
                columns.push(*index);
                described.push((format!("{}.{}", scan.alias, column.name), column.ty));
            }
        }
        let key = scan.key.is_some();
        if let Some(id) = scan.key {
            layout.push(id);
            described.push(("ctid".to_owned(), Type::BYTEA));
        }
        let mut filter = Vec::new();
        for (at, condition) in scan.filter.iter().enumerate() {
            if !chosen.enforced.contains(&at) {
                filter.push(self.compile(condition, &layout)?);
            }
        }
        let access = self.compile_access(chosen.access, &scan.columns)?;
        let as_of = scan.as_of.as_ref();
        let as_of = as_of.map(|at| self.compile(at, &[])).transpose()?;
        let rows = rows(&Rel::Scan(Box::new(scan.clone())), self.statistics).min(chosen.rows);
        let reader = RowReader::new(&scan.table, &columns)?;
        let plan = ScanPlan {
            table: scan.table.clone(),
            alias: scan.alias.clone(),
            columns,
            key,
            access,
            backward: chosen.backward,
            as_of,
            filter,
            reader,
        };
        let node = self.node(Op::Scan(Box::new(plan)), described, rows, chosen.cost);
        Ok(Built {
            node,
            layout,
            ordered: chosen.ordered,
        })
    }

    pub(super) fn compile_access(
        &mut self,
        access: Access,
        own: &[(usize, RelColumn)],
    ) -> Result<Access> {
        let Access::Range(mut range) = access else {
            return Ok(Access::Full);
        };
        for part in &mut range.equal {
            match part {
                KeyPart::One(expr) | KeyPart::Any(expr) => self.compile_mut(expr, &[])?,
                KeyPart::Null => {}
            }
        }
        if let Some((expr, _)) = &mut range.lower {
            self.compile_mut(expr, &[])?;
        }
        if let Some((expr, _)) = &mut range.upper {
            self.compile_mut(expr, &[])?;
        }
        let layout: Vec<ColumnRef> = own.iter().map(|(_, column)| column.id).collect();
        let names: Vec<String> = own.iter().map(|(_, column)| column.name.clone()).collect();
        let _ = names;
        for condition in &mut range.shown {
            self.compile_mut(condition, &layout)?;
        }
        Ok(Access::Range(range))
    }

    pub(super) fn system(
        &mut self,
        system: &crate::plan::SystemRel,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Built> {
        let mut layout = Vec::new();
        let mut columns = Vec::new();
        let mut described = Vec::new();
        for (index, column) in system.columns.iter().enumerate() {
            if self.used.contains_key(&column.id) {
                layout.push(column.id);
                columns.push(index);
                described.push((format!("{}.{}", system.alias, column.name), column.ty));
            }
        }
        let own: Vec<ColumnRef> = system.columns.iter().map(|column| column.id).collect();
        let (mut equal, mut above) = (Vec::new(), Vec::new());
        for condition in &system.filter {
            let Some((operator, id, value)) = fixed_comparison(condition, &own) else {
                continue;
            };
            let Some(column) = own.iter().position(|other| *other == id) else {
                continue;
            };
            if system.columns[column].ty.oid != value.ty().oid {
                continue;
            }
            match operator {
                "=" => equal.push((column, self.compile(value, &[])?)),
                ">" | ">=" => above.push(LowerBound {
                    column,
                    value: self.compile(value, &[])?,
                    inclusive: operator == ">=",
                }),
                _ => {}
            }
        }
        let order = system.relation.order().map(|column| own[column]);
        let ordered =
            order.is_some_and(|column| wanted.is_some_and(|w| is_ascending(w.keys, column)));
        let filter = self.compile_all(&system.filter, &layout)?;
        let rows = rows(&Rel::System(Box::new(system.clone())), self.statistics);
        let cost = if equal.is_empty() { 5.0 } else { 1.0 };
        let op = Op::System {
            relation: system.relation.clone(),
            name: system.name.clone(),
            alias: system.alias.clone(),
            columns,
            equal,
            above,
            filter,
        };
        let node = self.node(op, described, rows, cost);
        Ok(Built {
            node,
            layout,
            ordered,
        })
    }

    pub(super) fn function(&mut self, function: &crate::plan::FunctionRel) -> Result<Built> {
        let mut calls = Vec::with_capacity(function.calls.len());
        for (call, columns) in &function.calls {
            let width = columns.len();
            calls.push(match call {
                TableCall::Function(call, record) => {
                    let mut call = (**call).clone();
                    for arg in &mut call.args {
                        self.compile_mut(arg, &[])?;
                    }
                    TablePlan::Function {
                        call,
                        record: *record,
                        width,
                    }
                }
                TableCall::Scalar(expr) => TablePlan::Scalar(self.compile(expr, &[])?),
                TableCall::System(function, arguments) => TablePlan::System {
                    function: function.clone(),
                    arguments: self.compile_all(arguments, &[])?,
                    width,
                },
            });
        }
        let columns = Rel::Function(Box::new(function.clone())).columns();
        let op = Op::Function {
            calls,
            ordinality: function.ordinality.is_some(),
            alias: function.alias.clone(),
        };
        let node = self.node(op, described(&columns), 100.0, 1.0);
        Ok(Built {
            node,
            layout: ids(&columns),
            ordered: false,
        })
    }

    /// `SELECT min(a), max(b) FROM t WHERE ...` by the ends of indexes.
    pub(super) fn min_max(
        &mut self,
        input: &Rel,
        groups: &[(RelColumn, Expr)],
        sets: bool,
        calls: &[(RelColumn, crate::expr::AggregateCall)],
    ) -> Result<Option<Built>> {
        let Rel::Scan(scan) = input else {
            return Ok(None);
        };
        if !groups.is_empty() || sets || calls.is_empty() || !self.used_writer(scan)? {
            return Ok(None);
        }
        let mut row = Vec::with_capacity(calls.len());
        for (column, call) in calls {
            let descending = match call.resolved.function.name {
                "min" => false,
                "max" => true,
                _ => return Ok(None),
            };
            let [arg @ Expr::Column { column: id, .. }] = call.args.as_slice() else {
                return Ok(None);
            };
            if call.filter.is_some() {
                return Ok(None);
            }
            let key = SortKey {
                expr: arg.clone(),
                descending,
                nulls_first: false,
            };
            let mut narrowed = (**scan).clone();
            narrowed.filter.push(Expr::IsNull {
                input: Box::new(arg.clone()),
                negated: true,
                row: false,
            });
            let keys = [SortKey {
                nulls_first: descending,
                ..key.clone()
            }];
            let writer = self.writers.writer(scan.table.id)?;
            let table_rows = self
                .statistics
                .rows(scan.table.id)
                .unwrap_or(crate::rules::TABLE_ROWS);
            let chosen = choose(
                &narrowed,
                &writer,
                table_rows,
                Some(Wanted {
                    keys: &keys,
                    limit: Some(1.0),
                }),
            );
            if !chosen.ordered {
                return Ok(None);
            }
            let [key] = keys;
            let one = Expr::constant(crate::types::Datum::Int8(1), Type::INT8);
            let rel = Rel::Limit {
                input: Box::new(Rel::Sort {
                    input: Box::new(Rel::Scan(Box::new(narrowed))),
                    keys: vec![key],
                }),
                limit: Some(one),
                offset: None,
                ties: None,
            };
            *self.used.entry(*id).or_default() += 1;
            row.push(Expr::Subquery(Box::new(Subquery {
                kind: SubqueryKind::Scalar,
                rel,
                outputs: vec![(*id, arg.ty())],
                ty: column.ty,
            })));
        }
        let columns: Vec<RelColumn> = calls.iter().map(|(column, _)| column.clone()).collect();
        let values = Rel::Values {
            columns,
            rows: vec![row],
        };
        self.build(&values, None).map(Some)
    }
}

/// `column <operator> value` with a value from outside; turned around if it was written so.
fn fixed_comparison<'e>(
    condition: &'e Expr,
    own: &[ColumnRef],
) -> Option<(&'static str, ColumnRef, &'e Expr)> {
    let Expr::Call(call) = condition else {
        return None;
    };
    let (straight, turned) = match call.operator? {
        "=" => ("=", "="),
        ">" => (">", "<"),
        ">=" => (">=", "<="),
        "<" => ("<", ">"),
        "<=" => ("<=", ">="),
        _ => return None,
    };
    let outside = |expr: &Expr| {
        let mut used = Vec::new();
        expr.free_columns(&mut used);
        !used.iter().any(|id| own.contains(id)) && !expr.has_subquery() && !expr.is_volatile()
    };
    match call.args.as_slice() {
        [Expr::Column { column, .. }, value] if own.contains(column) && outside(value) => {
            Some((straight, *column, value))
        }
        [value, Expr::Column { column, .. }] if own.contains(column) && outside(value) => {
            Some((turned, *column, value))
        }
        _ => None,
    }
}
