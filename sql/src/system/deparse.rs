//! Bound expressions as SQL text in the form that PostgreSQL prints (`ruleutils.c`): every
//! operator in parentheses, literals with their types, implicit casts where it shows them.

use crate::catalog::{Catalog, SchemaId, Table};
use crate::ddl::quote;
use crate::expr::{Call, Case, Cast, Expr, RowOp};
use crate::types::kind::{format_type, oid};
use crate::types::{CastContext, Datum, FormatSettings, RegKind, Type};

/// Prints expressions over the rows of one table.
pub(super) struct Deparse<'a> {
    /// For relations behind `regclass`.
    pub catalog: &'a Catalog,
    /// Which names need no schema.
    pub path: &'a [SchemaId],
    /// Slots are places in its columns.
    pub table: &'a Table,
    /// Leave out parentheses that are not needed around the outermost operator.
    pub pretty: bool,
}

/// Spaces per level of what is printed on lines of its own.
const INDENT: usize = 4;

impl Deparse<'_> {
    /// A whole expression; `None` if it has something that stored expressions have not.
    pub fn text(&self, expr: &Expr) -> Option<String> {
        let mut out = String::new();
        self.expr(expr, false, self.pretty, 0, &mut out)?;
        Some(out)
    }

    /// `implicit`: show implicit casts. `bare`: no parentheses around an operator here.
    fn expr(
        &self,
        expr: &Expr,
        implicit: bool,
        bare: bool,
        depth: usize,
        out: &mut String,
    ) -> Option<()> {
        match expr {
            Expr::Const { value, ty } => out.push_str(&self.constant(value, *ty)),
            Expr::Column { column, .. } => {
                out.push_str(&quote(&self.table.columns.get(column.0 as usize)?.name));
            }
            Expr::Call(call) => self.call(call, bare, depth, out)?,
            Expr::Cast(cast) => self.cast(cast, implicit, bare, depth, out)?,
            Expr::And(items) => self.joined(items, " AND ", bare, depth, out)?,
            Expr::Or(items) => self.joined(items, " OR ", bare, depth, out)?,
            Expr::Not(inner) => self.bracketed(bare, out, |out| {
                out.push_str("NOT ");
                self.expr(inner, false, self.pretty && is_plain(inner), depth, out)
            })?,
            Expr::IsNull { input, negated, .. } => self.bracketed(bare, out, |out| {
                self.expr(input, true, false, depth, out)?;
                out.push_str(if *negated { " IS NOT NULL" } else { " IS NULL" });
                Some(())
            })?,
            Expr::IsBool {
                input,
                value,
                negated,
            } => self.bracketed(bare, out, |out| {
                self.expr(input, false, false, depth, out)?;
                let word = match value {
                    Some(true) => "TRUE",
                    Some(false) => "FALSE",
                    None => "UNKNOWN",
                };
                out.push_str(if *negated { " IS NOT " } else { " IS " });
                out.push_str(word);
                Some(())
            })?,
            Expr::Distinct {
                left,
                right,
                negated,
                ..
            } => self.bracketed(bare, out, |out| {
                // PostgreSQL stores IS NOT DISTINCT FROM as its negation.
                if *negated {
                    out.push_str("NOT (");
                }
                self.expr(left, true, false, depth, out)?;
                out.push_str(" IS DISTINCT FROM ");
                self.expr(right, true, false, depth, out)?;
                if *negated {
                    out.push(')');
                }
                Some(())
            })?,
            Expr::Case(case) => self.case(case, depth, out)?,
            Expr::Coalesce(items, _) => self.function("COALESCE", items, depth, out)?,
            Expr::Extreme { args, greatest, .. } => {
                let name = if *greatest { "GREATEST" } else { "LEAST" };
                self.function(name, args, depth, out)?;
            }
            Expr::AnyArray(any) => self.bracketed(bare, out, |out| {
                let Expr::Call(test) = &any.test else {
                    return None;
                };
                self.expr(&any.left, true, false, depth, out)?;
                let word = if any.all { "ALL" } else { "ANY" };
                out.push_str(&format!(" {} {word} (", test.operator?));
                self.expr(&any.array, true, false, depth, out)?;
                out.push(')');
                Some(())
            })?,
            Expr::Array { items, ty } => {
                out.push_str("ARRAY[");
                self.list(items, depth, out)?;
                out.push(']');
                if items.is_empty() {
                    out.push_str(&format!("::{}", ty.name()));
                }
            }
            Expr::Subscript { array, indexes, .. } => {
                let plain = matches!(**array, Expr::Column { .. });
                if !plain {
                    out.push('(');
                }
                self.expr(array, true, false, depth, out)?;
                if !plain {
                    out.push(')');
                }
                for index in indexes {
                    out.push('[');
                    self.expr(index, false, true, depth, out)?;
                    out.push(']');
                }
            }
            Expr::Row {
                items,
                whole: false,
                ..
            } => {
                out.push_str("ROW(");
                self.list(items, depth, out)?;
                out.push(')');
            }
            Expr::RowCompare(compare) => self.bracketed(bare, out, |out| {
                let op = match compare.op {
                    RowOp::Less => "<",
                    RowOp::LessEqual => "<=",
                    RowOp::Greater => ">",
                    RowOp::GreaterEqual => ">=",
                };
                out.push_str("ROW(");
                self.list(&compare.left, depth, out)?;
                out.push_str(&format!(") {op} ROW("));
                self.list(&compare.right, depth, out)?;
                out.push(')');
                Some(())
            })?,
            Expr::Argument { .. }
            | Expr::Parameter { .. }
            | Expr::Local { .. }
            | Expr::Slice { .. }
            | Expr::Row { .. }
            | Expr::Field { .. }
            | Expr::Subquery(_)
            | Expr::SubPlan(_)
            | Expr::Aggregate(_)
            | Expr::Window(_)
            | Expr::SetReturning(_)
            | Expr::Routine(_)
            | Expr::Grouping(_)
            | Expr::Default => return None,
        }
        Some(())
    }

    fn bracketed(
        &self,
        bare: bool,
        out: &mut String,
        body: impl FnOnce(&mut String) -> Option<()>,
    ) -> Option<()> {
        if !bare {
            out.push('(');
        }
        body(out)?;
        if !bare {
            out.push(')');
        }
        Some(())
    }

    fn joined(
        &self,
        items: &[Expr],
        word: &str,
        bare: bool,
        depth: usize,
        out: &mut String,
    ) -> Option<()> {
        self.bracketed(bare, out, |out| {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(word);
                }
                self.expr(item, false, self.pretty && is_plain(item), depth, out)?;
            }
            Some(())
        })
    }

    fn list(&self, items: &[Expr], depth: usize, out: &mut String) -> Option<()> {
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push_str(", ");
            }
            self.expr(item, true, self.pretty, depth, out)?;
        }
        Some(())
    }

    fn function(&self, name: &str, items: &[Expr], depth: usize, out: &mut String) -> Option<()> {
        out.push_str(name);
        out.push('(');
        self.list(items, depth, out)?;
        out.push(')');
        Some(())
    }

    fn call(&self, call: &Call, bare: bool, depth: usize, out: &mut String) -> Option<()> {
        let Some(operator) = call.operator else {
            let f = call.resolved.function;
            if f.name == "extract" || f.name == "date_part" && f.result == oid::NUMERIC {
                return self.extract(&call.args, depth, out);
            }
            return self.function(&quote(f.name), &call.args, depth, out);
        };
        self.bracketed(bare, out, |out| match call.args.as_slice() {
            [operand] => {
                out.push_str(operator);
                out.push(' ');
                self.expr(operand, true, false, depth, out)
            }
            [left, right] => {
                self.expr(left, true, false, depth, out)?;
                out.push_str(&format!(" {operator} "));
                self.expr(right, true, false, depth, out)
            }
            _ => None,
        })
    }

    fn extract(&self, args: &[Expr], depth: usize, out: &mut String) -> Option<()> {
        let [Expr::Const { value, .. }, from] = args else {
            return None;
        };
        out.push_str(&format!("EXTRACT({} FROM ", value.as_str()?));
        self.expr(from, false, self.pretty, depth, out)?;
        out.push(')');
        Some(())
    }

    fn cast(
        &self,
        cast: &Cast,
        implicit: bool,
        bare: bool,
        depth: usize,
        out: &mut String,
    ) -> Option<()> {
        if cast.context != CastContext::Explicit && !implicit {
            return self.expr(&cast.input, false, bare, depth, out);
        }
        // Changes of the modifier alone are never shown when they are implicit.
        if cast.context != CastContext::Explicit && cast.input.ty().oid == cast.ty.oid {
            return self.expr(&cast.input, implicit, bare, depth, out);
        }
        let simple = self.pretty && !is_operator(&cast.input);
        if !simple {
            out.push('(');
        }
        self.expr(
            &cast.input,
            false,
            self.pretty || !is_operator(&cast.input),
            depth,
            out,
        )?;
        if !simple {
            out.push(')');
        }
        out.push_str("::");
        out.push_str(&format_type(cast.ty.oid, cast.ty.modifier));
        Some(())
    }

    fn case(&self, case: &Case, depth: usize, out: &mut String) -> Option<()> {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth * INDENT));
        };
        line(out, depth);
        out.push_str("CASE");
        if let Some(operand) = &case.operand {
            out.push(' ');
            self.expr(operand, true, self.pretty, depth, out)?;
        }
        for (condition, result) in &case.whens {
            line(out, depth + 1);
            out.push_str("WHEN ");
            let condition = match (condition, &case.operand) {
                // `CASE a WHEN b`: b alone is printed.
                (Expr::Call(call), Some(_)) => call.args.get(1)?,
                (other, _) => other,
            };
            self.expr(condition, false, self.pretty, depth + 1, out)?;
            out.push_str(" THEN ");
            self.expr(result, true, self.pretty, depth + 1, out)?;
        }
        line(out, depth + 1);
        out.push_str("ELSE ");
        match &case.otherwise {
            Some(otherwise) => self.expr(otherwise, true, self.pretty, depth + 1, out)?,
            None => out.push_str(&format!("NULL::{}", case.ty.name())),
        }
        line(out, depth);
        out.push_str("END");
        Some(())
    }

    /// A literal as `get_const_expr` prints it.
    fn constant(&self, value: &Datum, ty: Type) -> String {
        let label = match ty.oid {
            oid::BPCHAR if ty.modifier < 0 => "bpchar".to_owned(),
            other => format_type(other, ty.modifier),
        };
        if let (Datum::Oid(relation), Some(RegKind::Class)) = (value, ty.reg_kind()) {
            let name = self.catalog.relation(*relation).map_or_else(
                || relation.to_string(),
                |r| super::definition::relation_name(self.catalog, self.path, &r),
            );
            return format!("{}::regclass", literal(&name));
        }
        let Some(text) = value.to_text(ty.plain(), &FormatSettings::default()) else {
            return format!("NULL::{label}");
        };
        match ty.oid {
            oid::BOOL => if text == "t" { "true" } else { "false" }.to_owned(),
            oid::INT4 if !text.starts_with('-') => text,
            oid::NUMERIC if text.starts_with(|c: char| c.is_ascii_digit()) => {
                let bare = text.contains(['e', 'E', '.']);
                match (bare, ty.modifier >= 0) {
                    (true, false) => text,
                    (true, true) => format!("{text}::{label}"),
                    (false, _) => format!("'{text}'::{label}"),
                }
            }
            oid::UNKNOWN => literal(&text),
            _ => format!("{}::{label}", literal(&text)),
        }
    }
}

/// Under AND, OR and NOT the pretty form leaves out the parentheses of these.
fn is_plain(expr: &Expr) -> bool {
    !matches!(
        expr,
        Expr::And(_) | Expr::Or(_) | Expr::AnyArray(_) | Expr::RowCompare(_)
    )
}

/// Is it printed in parentheses of its own?
fn is_operator(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => call.operator.is_some(),
        Expr::And(_)
        | Expr::Or(_)
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::IsBool { .. }
        | Expr::Distinct { .. }
        | Expr::AnyArray(_)
        | Expr::RowCompare(_) => true,
        Expr::Cast(cast) => cast.context != CastContext::Explicit && is_operator(&cast.input),
        _ => false,
    }
}

/// A string literal (`standard_conforming_strings` is on).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
