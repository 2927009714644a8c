//! The names of output columns without alias (PostgreSQL's `FigureColname`).

use sqlparser::ast;

use super::scope::fold;
use crate::types::Type;

/// The name of an unaliased select item.
pub(super) fn output_name(expr: &ast::Expr) -> String {
    crate::expr::deep(|| figure(expr)).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// A name and whether it is a good one (else an enclosing cast replaces it by its type's).
fn figure(expr: &ast::Expr) -> Option<(String, bool)> {
    let good = |name: &str| Some((name.to_owned(), true));
    match expr {
        ast::Expr::Identifier(ident) => Some((fold(ident), true)),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map(|ident| (fold(ident), true)),
        ast::Expr::Nested(inner) => figure(inner),
        ast::Expr::Collate { expr, .. } => figure(expr),
        ast::Expr::BinaryOp {
            op: ast::BinaryOperator::Overlaps,
            ..
        } => good("overlaps"),
        ast::Expr::Function(function) => match function.name.0.last() {
            Some(ast::ObjectNamePart::Identifier(ident)) => {
                let name = fold(ident);
                if name.starts_with('\u{1}') {
                    None
                } else {
                    Some((name, true))
                }
            }
            _ => None,
        },
        ast::Expr::Cast {
            expr, data_type, ..
        } => match figure(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_label(data_type)?, false)),
        },
        ast::Expr::TypedString(typed) => Some((type_label(&typed.data_type)?, false)),
        ast::Expr::Interval(_) => Some(("interval".to_owned(), false)),
        ast::Expr::Case { else_result, .. } => {
            match else_result.as_ref().and_then(|otherwise| figure(otherwise)) {
                Some((name, true)) => Some((name, true)),
                _ => Some(("case".to_owned(), false)),
            }
        }
        ast::Expr::Subquery(query) => match query.body.as_ref() {
            ast::SetExpr::Select(select) => match select.projection.first()? {
                ast::SelectItem::UnnamedExpr(expr) => figure(expr),
                ast::SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), true)),
                _ => None,
            },
            ast::SetExpr::Values(_) => good("column1"),
            _ => None,
        },
        ast::Expr::Exists { negated: false, .. } => good("exists"),
        ast::Expr::Array(_) => good("array"),
        ast::Expr::Tuple(_) => good("row"),
        ast::Expr::Extract { .. } => good("extract"),
        ast::Expr::Ceil { .. } => good("ceil"),
        ast::Expr::Floor { .. } => good("floor"),
        ast::Expr::Position { .. } => good("position"),
        ast::Expr::Substring { shorthand, .. } => {
            good(if *shorthand { "substr" } else { "substring" })
        }
        ast::Expr::Overlay { .. } => good("overlay"),
        ast::Expr::Trim { trim_where, .. } => good(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            Some(ast::TrimWhereField::Both) | None => "btrim",
        }),
        ast::Expr::AtTimeZone { .. } => good("timezone"),
        ast::Expr::CompoundFieldAccess { root, access_chain } => access_chain
            .iter()
            .rev()
            .find_map(|access| match access {
                ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => Some((fold(ident), true)),
                _ => None,
            })
            .or_else(|| figure(root)),
        _ => None,
    }
}

/// The `typname` of a type: `int4`, `_text`.
fn type_label(ty: &ast::DataType) -> Option<String> {
    let ty = Type::parse(&ty.to_string()).ok()?;
    let scalar = ty.element().unwrap_or(ty);
    scalar.row().map(|row| row.name.to_owned())
}
