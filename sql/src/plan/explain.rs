//! EXPLAIN: the plan as PostgreSQL prints it, with what ANALYZE measured. Relations that the
//! asking role may not see (behind views) are shown without name and conditions.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Access, JoinKind, ModifyKind, Op, PlanNode, Planned, SetKind};
use crate::exec::{ExecCx, Operator, Row, open_measured};
use crate::expr::{Expr, Measured, Names, SortKey, show};
use crate::parse::{ExplainFormat, ExplainOptions};
use crate::transaction::Stop;
use crate::types::Datum;

/// The rows of EXPLAIN: one `text` column (`json` for FORMAT JSON) named `QUERY PLAN`. With
/// ANALYZE the statement runs when the operator is first asked for a row.
pub fn explain(
    planned: &Arc<Planned>,
    options: &ExplainOptions,
    parameters: Arc<[Datum]>,
) -> Box<dyn Operator> {
    Box::new(Lines {
        planned: planned.clone(),
        options: *options,
        parameters,
        lines: None,
    })
}

struct Lines {
    planned: Arc<Planned>,
    options: ExplainOptions,
    parameters: Arc<[Datum]>,
    lines: Option<std::vec::IntoIter<String>>,
}

impl Operator for Lines {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        if self.lines.is_none() {
            self.lines = Some(self.produce(cx)?.into_iter());
        }
        let line = self.lines.as_mut().and_then(Iterator::next);
        Ok(line.map(|line| vec![Datum::from(line)]))
    }
}

impl Lines {
    fn produce(&self, cx: &mut ExecCx<'_>) -> Result<Vec<String>, Stop> {
        let mut measured = None;
        let mut total_us = 0;
        if self.options.analyze {
            let start = cx.evaluation.environment.clock();
            measured = Some(open_measured(&self.planned, self.parameters.clone(), cx)?);
            total_us = cx.evaluation.environment.clock() - start;
        }
        let mut printer = Printer {
            options: &self.options,
            measured: measured.as_deref(),
            cx,
            qualified: relations(&self.planned.plan) > 1,
        };
        let tree = printer.node(&self.planned.plan, &[], None);
        Ok(match self.options.format {
            ExplainFormat::Json => {
                let mut top = Map::new();
                top.insert("Plan".to_owned(), tree.json(&self.options));
                if self.options.analyze && self.options.summary {
                    top.insert("Execution Time".to_owned(), json!(millis(total_us)));
                }
                let text = serde_json::to_string_pretty(&json!([top])).unwrap_or_default();
                vec![text]
            }
            ExplainFormat::Text | ExplainFormat::Xml | ExplainFormat::Yaml => {
                let mut out = Vec::new();
                tree.text(&self.options, 0, &mut out);
                if self.options.analyze && self.options.summary {
                    out.push(format!("Execution Time: {:.3} ms", millis(total_us)));
                }
                out
            }
        })
    }
}

fn millis(us: i64) -> f64 {
    us as f64 / 1000.0
}

/// How many relations a plan reads.
fn relations(node: &PlanNode) -> usize {
    let own = usize::from(matches!(
        node.op,
        Op::Scan(_) | Op::System { .. } | Op::Function { .. } | Op::Cte { .. }
    ));
    let mut count = own;
    node.for_each_input(&mut |input| count += relations(input));
    node.for_each_subplan(&mut |plan| count += 1 + relations(&plan.plan));
    count
}

/// A node as it is shown.
struct Shown {
    title: String,
    kind: &'static str,
    details: Vec<(&'static str, String)>,
    properties: Vec<(&'static str, Value)>,
    rows: f64,
    cost: f64,
    width: usize,
    actual: Option<Measured>,
    children: Vec<(Option<String>, Shown)>,
}

struct Printer<'p, 'a> {
    options: &'p ExplainOptions,
    measured: Option<&'p [Measured]>,
    cx: &'p mut ExecCx<'a>,
    qualified: bool,
}

impl Printer<'_, '_> {
    fn names(&self, node: &PlanNode) -> Vec<String> {
        node.names
            .iter()
            .map(|name| match name.rsplit_once('.') {
                Some((_, last)) if !self.qualified => last.to_owned(),
                _ => name.clone(),
            })
            .collect()
    }

    fn conditions(&self, conditions: &[Expr], columns: &[String], arguments: &[String]) -> String {
        let names = Names { columns, arguments };
        let parts: Vec<String> = conditions.iter().map(|c| show(c, &names)).collect();
        match parts.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(" AND ")),
        }
    }

    fn keys(&self, keys: &[SortKey], columns: &[String], arguments: &[String]) -> String {
        let names = Names { columns, arguments };
        keys.iter()
            .map(|key| {
                let mut text = show(&key.expr, &names);
                if key.descending {
                    text.push_str(" DESC");
                }
                if key.nulls_first != key.descending {
                    text.push_str(if key.nulls_first {
                        " NULLS FIRST"
                    } else {
                        " NULLS LAST"
                    });
                }
                text
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A node and what is below it. `extra` are conditions of a Filter right above.
    fn node(
        &mut self,
        node: &PlanNode,
        arguments: &[String],
        extra: Option<(&[Expr], &PlanNode)>,
    ) -> Shown {
        match &node.op {
            // As in PostgreSQL, a projection is part of the node below it.
            Op::Project { input, .. } if extra.is_none() && !is_result(input) => {
                let mut shown = self.node(input, arguments, None);
                self.subplans(node, arguments, &mut shown);
                return shown;
            }
            Op::Filter { input, conditions } if extra.is_none() => {
                let mut shown = self.node(input, arguments, Some((conditions, node)));
                shown.rows = node.rows;
                self.subplans(node, arguments, &mut shown);
                return shown;
            }
            _ => {}
        }
        let mut shown = Shown {
            title: String::new(),
            kind: "Result",
            details: Vec::new(),
            properties: Vec::new(),
            rows: node.rows,
            cost: node.cost,
            width: node.types.iter().map(|ty| width(*ty)).sum(),
            actual: self.measured.and_then(|all| all.get(node.id).copied()),
            children: Vec::new(),
        };
        self.describe(node, arguments, &mut shown);
        if let Some((conditions, _)) = extra {
            let columns = self.names(node);
            shown
                .details
                .push(("Filter", self.conditions(conditions, &columns, arguments)));
        }
        self.subplans(node, arguments, &mut shown);
        shown
    }

    fn subplans(&mut self, node: &PlanNode, arguments: &[String], shown: &mut Shown) {
        let mut found = Vec::new();
        node.for_each_subplan(&mut |plan| found.push(plan.clone()));
        let columns = self.names_of_input(node);
        for plan in found {
            let names = Names {
                columns: &columns,
                arguments,
            };
            let inner: Vec<String> = plan.arguments.iter().map(|e| show(e, &names)).collect();
            let child = self.node(&plan.plan, &inner, None);
            let label = if plan.arguments.is_empty() && plan.hashed.is_none() {
                format!("InitPlan {}", plan.index + 1)
            } else {
                format!("SubPlan {}", plan.index + 1)
            };
            shown.children.push((Some(label), child));
        }
    }

    fn names_of_input(&self, node: &PlanNode) -> Vec<String> {
        let mut names = Vec::new();
        match &node.op {
            Op::Scan(_) | Op::System { .. } => names = self.names(node),
            _ => node.for_each_input(&mut |input| names.extend(self.names(input))),
        }
        names
    }

    #[allow(clippy::too_many_lines)]
    fn describe(&mut self, node: &PlanNode, arguments: &[String], shown: &mut Shown) {
        let columns = self.names_of_input(node);
        let show_all = |printer: &Self, exprs: &[Expr]| {
            let names = Names {
                columns: &columns,
                arguments,
            };
            let _ = printer;
            exprs
                .iter()
                .map(|e| show(e, &names))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match &node.op {
            Op::Values(rows) if node.types.is_empty() || rows.len() == 1 => {
                shown.title = "Result".to_owned();
            }
            Op::Values(_) => {
                shown.kind = "Values Scan";
                shown.title = "Values Scan on \"*VALUES*\"".to_owned();
            }
            Op::Scan(scan) => {
                if !self.cx.catalog.sees(self.cx.role, &scan.table) {
                    shown.kind = "Custom Scan";
                    shown.title = "Custom Scan on a relation behind a view".to_owned();
                    return;
                }
                let on = aliased(&scan.table.name, &scan.alias);
                match &scan.access {
                    Access::Full if !scan.backward => {
                        shown.kind = "Seq Scan";
                        shown.title = format!("Seq Scan on {on}");
                    }
                    access => {
                        let back = if scan.backward { " Backward" } else { "" };
                        let index = match access {
                            Access::Range(range) => range.index,
                            Access::Full => None,
                        };
                        let name = match index {
                            Some(at) => scan.table.indexes[at].name.clone(),
                            None => scan.table.primary_index().map_or_else(
                                || format!("{}_pkey", scan.table.name),
                                |i| i.name.clone(),
                            ),
                        };
                        shown.kind = "Index Scan";
                        shown.title = format!("Index Scan{back} using {name} on {on}");
                        let direction = if scan.backward { "Backward" } else { "Forward" };
                        shown.properties.push(("Scan Direction", json!(direction)));
                        shown.properties.push(("Index Name", json!(name)));
                        if let Access::Range(range) = access
                            && !range.shown.is_empty()
                        {
                            let all: Vec<String> = scan
                                .table
                                .live_columns()
                                .map(|column| {
                                    if self.qualified {
                                        format!("{}.{}", scan.alias, column.name)
                                    } else {
                                        column.name.clone()
                                    }
                                })
                                .collect();
                            let text = self.conditions(&range.shown, &all, arguments);
                            shown.details.push(("Index Cond", text));
                        }
                    }
                }
                shown
                    .properties
                    .push(("Relation Name", json!(scan.table.name)));
                shown.properties.push(("Alias", json!(scan.alias)));
                if let Some(at) = &scan.as_of {
                    let text = show_all(self, std::slice::from_ref(at));
                    shown.details.push(("As Of", text));
                }
                if !scan.filter.is_empty() {
                    let text = self.conditions(&scan.filter, &columns, arguments);
                    shown.details.push(("Filter", text));
                }
            }
            Op::System {
                name,
                alias,
                filter,
                ..
            } => {
                shown.kind = "Seq Scan";
                shown.title = format!("Seq Scan on {}", aliased(&name.1, alias));
                shown.properties.push(("Relation Name", json!(name.1)));
                shown.properties.push(("Alias", json!(alias)));
                if !filter.is_empty() {
                    let text = self.conditions(filter, &columns, arguments);
                    shown.details.push(("Filter", text));
                }
            }
            Op::Function { alias, .. } => {
                shown.kind = "Function Scan";
                shown.title = format!("Function Scan on {alias}");
                shown.properties.push(("Alias", json!(alias)));
            }
            Op::Cte { name, working, .. } => {
                shown.kind = if *working {
                    "WorkTable Scan"
                } else {
                    "CTE Scan"
                };
                shown.title = format!("{} on {name}", shown.kind);
                shown.properties.push(("CTE Name", json!(name)));
            }
            Op::NestedLoop {
                kind,
                left,
                right,
                on,
            } => {
                shown.kind = "Nested Loop";
                shown.title = format!("Nested Loop{}", join_suffix(*kind, ""));
                shown
                    .properties
                    .push(("Join Type", json!(join_name(*kind))));
                if !on.is_empty() {
                    let text = self.conditions(on, &columns, arguments);
                    shown.details.push(("Join Filter", text));
                }
                let left_names = self.names(left);
                let child = self.node(left, arguments, None);
                shown.children.push((None, child));
                let names = Names {
                    columns: &left_names,
                    arguments,
                };
                let inner: Vec<String> = if right.arguments.is_empty() {
                    arguments.to_vec()
                } else {
                    right.arguments.iter().map(|e| show(e, &names)).collect()
                };
                let child = self.node(&right.node, &inner, None);
                shown.children.push((None, child));
            }
            Op::HashJoin {
                kind,
                left,
                right,
                left_keys,
                right_keys,
                on,
            } => {
                shown.kind = "Hash Join";
                shown.title = format!("Hash{}", join_suffix(*kind, " Join"));
                shown
                    .properties
                    .push(("Join Type", json!(join_name(*kind))));
                let (left_names, right_names) = (self.names(left), self.names(right));
                let l = Names {
                    columns: &left_names,
                    arguments,
                };
                let r = Names {
                    columns: &right_names,
                    arguments,
                };
                let pairs: Vec<String> = left_keys
                    .iter()
                    .zip(right_keys)
                    .map(|(a, b)| format!("({} = {})", show(a, &l), show(b, &r)))
                    .collect();
                let text = match pairs.as_slice() {
                    [one] => one.clone(),
                    many => format!("({})", many.join(" AND ")),
                };
                shown.details.push(("Hash Cond", text));
                if !on.is_empty() {
                    let text = self.conditions(on, &columns, arguments);
                    shown.details.push(("Join Filter", text));
                }
                let child = self.node(left, arguments, None);
                shown.children.push((None, child));
                let below = self.node(right, arguments, None);
                let hash = Shown {
                    title: "Hash".to_owned(),
                    kind: "Hash",
                    details: Vec::new(),
                    properties: Vec::new(),
                    rows: below.rows,
                    cost: below.cost,
                    width: below.width,
                    actual: below.actual,
                    children: vec![(None, below)],
                };
                shown.children.push((None, hash));
            }
            Op::Filter { input, conditions } => {
                shown.title = "Result".to_owned();
                let text = self.conditions(conditions, &columns, arguments);
                shown.details.push(("Filter", text));
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Project { input, .. } => {
                shown.title = "Result".to_owned();
                if !is_result(input) {
                    let child = self.node(input, arguments, None);
                    shown.children.push((None, child));
                }
            }
            Op::ProjectSet { input, .. } => {
                shown.kind = "ProjectSet";
                shown.title = "ProjectSet".to_owned();
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Aggregate {
                input,
                groups,
                sets,
                sorted,
                ..
            } => {
                shown.kind = "Aggregate";
                shown.title = match (groups.is_empty(), sorted, sets.is_some()) {
                    (true, _, false) => "Aggregate".to_owned(),
                    (_, true, false) => "GroupAggregate".to_owned(),
                    (_, _, true) => "MixedAggregate".to_owned(),
                    (false, false, false) => "HashAggregate".to_owned(),
                };
                let strategy = match shown.title.as_str() {
                    "Aggregate" => "Plain",
                    "GroupAggregate" => "Sorted",
                    "MixedAggregate" => "Mixed",
                    _ => "Hashed",
                };
                shown.properties.push(("Strategy", json!(strategy)));
                if !groups.is_empty() {
                    shown.details.push(("Group Key", show_all(self, groups)));
                }
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Window { input, .. } => {
                shown.kind = "WindowAgg";
                shown.title = "WindowAgg".to_owned();
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Sort { input, keys } => {
                shown.kind = "Sort";
                shown.title = "Sort".to_owned();
                shown
                    .details
                    .push(("Sort Key", self.keys(keys, &columns, arguments)));
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Distinct { input, on } => {
                shown.kind = "Unique";
                shown.title = "Unique".to_owned();
                shown.details.push(("Group Key", show_all(self, on)));
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Limit { input, .. } => {
                shown.kind = "Limit";
                shown.title = "Limit".to_owned();
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Set {
                kind,
                all,
                left,
                right,
                ..
            } => {
                let all = if *all { " All" } else { "" };
                (shown.kind, shown.title) = match kind {
                    SetKind::Union if !all.is_empty() => ("Append", "Append".to_owned()),
                    SetKind::Union => ("Append", "Unique Append".to_owned()),
                    SetKind::Intersect => ("SetOp", format!("HashSetOp Intersect{all}")),
                    SetKind::Except => ("SetOp", format!("HashSetOp Except{all}")),
                };
                for side in [left, right] {
                    let child = self.node(side, arguments, None);
                    shown.children.push((None, child));
                }
            }
            Op::With { ctes, body } => {
                *shown = self.node(body, arguments, None);
                for cte in ctes.iter().rev() {
                    let mut child = self.node(&cte.node, arguments, None);
                    if let Some((step, _, _)) = &cte.recursive {
                        let step = self.node(step, arguments, None);
                        child = Shown {
                            title: "Recursive Union".to_owned(),
                            kind: "Recursive Union",
                            details: Vec::new(),
                            properties: Vec::new(),
                            rows: child.rows * 10.0,
                            cost: child.cost + step.cost,
                            width: child.width,
                            actual: None,
                            children: vec![(None, child), (None, step)],
                        };
                    }
                    shown
                        .children
                        .insert(0, (Some(format!("CTE {}", cte.name)), child));
                }
            }
            Op::Lock { input, .. } => {
                shown.kind = "LockRows";
                shown.title = "LockRows".to_owned();
                let child = self.node(input, arguments, None);
                shown.children.push((None, child));
            }
            Op::Modify(modify) => {
                let verb = match modify.kind {
                    ModifyKind::Insert => "Insert",
                    ModifyKind::Update => "Update",
                    ModifyKind::Delete => "Delete",
                    ModifyKind::Erase => "Erase",
                };
                shown.kind = "ModifyTable";
                shown.title = format!("{verb} on {}", aliased(&modify.table.name, &modify.alias));
                shown.properties.push(("Operation", json!(verb)));
                shown
                    .properties
                    .push(("Relation Name", json!(modify.table.name)));
                shown.properties.push(("Alias", json!(modify.alias)));
                if let Some(conflict) = &modify.conflict {
                    let word = if conflict.update.is_some() {
                        "UPDATE"
                    } else {
                        "NOTHING"
                    };
                    shown.details.push(("Conflict Resolution", word.to_owned()));
                    let names: Vec<&str> = conflict
                        .arbiters
                        .iter()
                        .filter_map(|id| modify.table.index(*id).map(|index| index.name.as_str()))
                        .collect();
                    if !names.is_empty() {
                        shown
                            .details
                            .push(("Conflict Arbiter Indexes", names.join(", ")));
                    }
                }
                let child = self.node(&modify.source, arguments, None);
                shown.children.push((None, child));
            }
        }
        let _ = self.options;
    }
}

fn is_result(node: &PlanNode) -> bool {
    matches!(&node.op, Op::Values(rows) if rows.len() <= 1)
}

fn aliased(name: &str, alias: &str) -> String {
    if name == alias {
        name.to_owned()
    } else {
        format!("{name} {alias}")
    }
}

fn join_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "Inner",
        JoinKind::Left => "Left",
        JoinKind::Right => "Right",
        JoinKind::Full => "Full",
        JoinKind::Semi => "Semi",
        JoinKind::Anti => "Anti",
    }
}

fn join_suffix(kind: JoinKind, inner: &'static str) -> String {
    match kind {
        JoinKind::Inner => inner.to_owned(),
        other => format!(" {} Join", join_name(other)),
    }
}

/// Average width of a type's values, as PostgreSQL guesses.
fn width(ty: crate::types::Type) -> usize {
    match ty.length() {
        length if length > 0 => usize::try_from(length).unwrap_or(32),
        _ => 32,
    }
}

impl Shown {
    fn line(&self, options: &ExplainOptions) -> String {
        let mut line = self.title.clone();
        if options.costs {
            line.push_str(&format!(
                "  (cost=0.00..{:.2} rows={:.0} width={})",
                self.cost, self.rows, self.width
            ));
        }
        if options.analyze {
            match self.actual {
                Some(actual) if actual.loops > 0 => {
                    let rows = actual.rows as f64 / actual.loops as f64;
                    if options.timing {
                        line.push_str(&format!(
                            " (actual time={:.3}..{:.3} rows={rows:.0} loops={})",
                            millis(actual.first_us),
                            millis(actual.total_us) / actual.loops as f64,
                            actual.loops
                        ));
                    } else {
                        line.push_str(&format!(" (actual rows={rows:.0} loops={})", actual.loops));
                    }
                }
                _ => line.push_str(" (never executed)"),
            }
        }
        line
    }

    fn text(&self, options: &ExplainOptions, indent: usize, out: &mut Vec<String>) {
        let lead = if indent == 0 {
            String::new()
        } else {
            format!("{}->  ", " ".repeat(indent * 6 - 4))
        };
        out.push(format!("{lead}{}", self.line(options)));
        let pad = " ".repeat(indent * 6 + 2);
        for (name, text) in &self.details {
            out.push(format!("{pad}{name}: {text}"));
        }
        for (label, child) in &self.children {
            match label {
                None => child.text(options, indent + 1, out),
                Some(label) => {
                    out.push(format!("{pad}{label}"));
                    let mut below = Vec::new();
                    child.text(options, 1, &mut below);
                    let shift = " ".repeat(indent * 6 + 2);
                    out.extend(below.into_iter().map(|line| format!("{shift}{line}")));
                }
            }
        }
    }

    fn json(&self, options: &ExplainOptions) -> Value {
        let mut map = Map::new();
        map.insert("Node Type".to_owned(), json!(self.kind));
        for (name, value) in &self.properties {
            map.insert((*name).to_owned(), value.clone());
        }
        if options.costs {
            map.insert("Startup Cost".to_owned(), json!(0.0));
            map.insert(
                "Total Cost".to_owned(),
                json!((self.cost * 100.0).round() / 100.0),
            );
            map.insert("Plan Rows".to_owned(), json!(self.rows.round() as i64));
            map.insert("Plan Width".to_owned(), json!(self.width));
        }
        if let Some(actual) = self.actual.filter(|_| options.analyze) {
            let loops = actual.loops.max(1) as f64;
            if options.timing {
                map.insert(
                    "Actual Startup Time".to_owned(),
                    json!(millis(actual.first_us)),
                );
                map.insert(
                    "Actual Total Time".to_owned(),
                    json!(millis(actual.total_us) / loops),
                );
            }
            map.insert(
                "Actual Rows".to_owned(),
                json!((actual.rows as f64 / loops).round() as i64),
            );
            map.insert("Actual Loops".to_owned(), json!(actual.loops));
        }
        for (name, text) in &self.details {
            map.insert((*name).to_owned(), json!(text));
        }
        if !self.children.is_empty() {
            let plans = self
                .children
                .iter()
                .map(|(label, child)| {
                    let mut value = child.json(options);
                    if let (Some(label), Value::Object(map)) = (label, &mut value) {
                        map.insert("Subplan Name".to_owned(), json!(label));
                    }
                    value
                })
                .collect();
            map.insert("Plans".to_owned(), Value::Array(plans));
        }
        Value::Object(map)
    }
}
