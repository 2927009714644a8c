//! Names of catalog objects as text: what `regclass` and its kin read and write, and quoting.

use super::{read_oid, write_i64};
use crate::error::{Error, Result, state};
use crate::types::{FormatSettings, RegKind, Type};

/// Reads the name or number of a catalog object.
pub(super) fn read_reg(
    text: &str,
    reg: RegKind,
    kind: Type,
    format: &FormatSettings,
) -> Result<u32> {
    if text == "-" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return read_oid(text, "oid");
    }
    if let Some(names) = &format.names
        && let Some(found) = names.oid_of(reg, text)?
    {
        return Ok(found);
    }
    find_builtin(text, reg)?.ok_or_else(|| no_such_object(text, reg, kind))
}

/// The OID of a built-in object by its name; `None` = there is none.
fn find_builtin(text: &str, reg: RegKind) -> Result<Option<u32>> {
    use crate::functions::catalog;
    Ok(match reg {
        RegKind::Type => match Type::parse(text) {
            Ok(kind) => Some(kind.oid),
            Err(error) if error.state() == state::UNDEFINED_OBJECT => None,
            Err(error) => return Err(error),
        },
        RegKind::Proc => {
            let name = bare_name(text);
            let found = catalog::functions_named(&name).map(|one| one.oid);
            only(found, || format!("more than one function named \"{text}\""))?
        }
        RegKind::Procedure => {
            let Some((name, types)) = split_signature(text)? else {
                return Ok(None);
            };
            catalog::functions_named(&name)
                .find(|f| f.arguments == types)
                .map(|f| f.oid)
        }
        RegKind::Oper => {
            let name = text.strip_prefix("pg_catalog.").unwrap_or(text);
            let found = catalog::operators_named(name).map(|one| one.oid);
            only(found, || format!("more than one operator named {text}"))?
        }
        RegKind::Operator => {
            let Some((name, types)) = split_signature(text)? else {
                return Ok(None);
            };
            let (left, right) = match types[..] {
                [right] => (None, right),
                [0, right] => (None, right),
                [left, right] => (Some(left), right),
                _ => return Ok(None),
            };
            catalog::operator_exact(&name, left, right).map(|o| o.oid)
        }
        RegKind::Namespace => match bare_name(text).as_str() {
            "pg_catalog" => Some(11),
            "public" => Some(2200),
            _ => None,
        },
        RegKind::Collation => match bare_name(text).as_str() {
            "default" => Some(100),
            "C" => Some(950),
            "POSIX" => Some(951),
            _ => None,
        },
        RegKind::Class | RegKind::Role | RegKind::Config | RegKind::Dictionary => None,
    })
}

fn bare_name(text: &str) -> String {
    split_identifiers(text)
        .and_then(|parts| parts.last().cloned())
        .unwrap_or_default()
}

/// Splits `name(type, type)`; `None` when a type is unknown or the form is another.
fn split_signature(text: &str) -> Result<Option<(String, Vec<u32>)>> {
    let Some((name, rest)) = text.split_once('(') else {
        return Err(Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a left parenthesis",
        ));
    };
    let Some(list) = rest.trim_end().strip_suffix(')') else {
        return Err(Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a right parenthesis",
        ));
    };
    let name = name.trim();
    let is_word = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
    let name = if is_word {
        bare_name(name)
    } else {
        name.strip_prefix("pg_catalog.").unwrap_or(name).to_owned()
    };
    let mut types = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if part.eq_ignore_ascii_case("none") {
            types.push(0);
            continue;
        }
        match Type::parse(part) {
            Ok(kind) => types.push(kind.oid),
            Err(error) => return Err(error),
        }
    }
    Ok(Some((name, types)))
}

fn no_such_object(text: &str, reg: RegKind, kind: Type) -> Error {
    let (code, message) = match reg {
        RegKind::Class => (
            state::UNDEFINED_TABLE,
            format!("relation \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Type => (
            state::UNDEFINED_OBJECT,
            format!("type \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Proc | RegKind::Procedure => (
            state::UNDEFINED_FUNCTION,
            format!("function \"{text}\" does not exist"),
        ),
        RegKind::Oper | RegKind::Operator => (
            state::UNDEFINED_FUNCTION,
            format!("operator does not exist: {text}"),
        ),
        RegKind::Namespace => (
            state::INVALID_SCHEMA_NAME,
            format!("schema \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Role => (
            state::UNDEFINED_OBJECT,
            format!("role \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Collation => (
            state::UNDEFINED_OBJECT,
            format!(
                "collation \"{}\" for encoding \"UTF8\" does not exist",
                unquoted(text)
            ),
        ),
        RegKind::Config => (
            state::UNDEFINED_OBJECT,
            format!(
                "text search configuration \"{}\" does not exist",
                unquoted(text)
            ),
        ),
        RegKind::Dictionary => (
            state::UNDEFINED_OBJECT,
            format!(
                "text search dictionary \"{}\" does not exist",
                unquoted(text)
            ),
        ),
    };
    let _ = kind;
    Error::new(code, message)
}

fn unquoted(text: &str) -> String {
    split_identifiers(text).map_or_else(|| text.to_owned(), |parts| parts.join("."))
}

/// Splits `schema."Name"` into its identifiers, folded to lower case where they are not quoted.
/// `None` when the text is no such list.
pub fn split_identifiers(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut chars = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next()? {
                    '"' if chars.peek() == Some(&'"') => {
                        chars.next();
                        part.push('"');
                    }
                    '"' => break,
                    c => part.push(c),
                }
            }
        } else {
            while let Some(c) = chars.peek().copied().filter(|c| *c != '.' && *c != '"') {
                part.push(if c.is_ascii() {
                    c.to_ascii_lowercase()
                } else {
                    c
                });
                chars.next();
            }
            part = part.trim().to_owned();
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match chars.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

pub(super) fn write_oid(value: u32, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
    let Some(reg) = kind.reg_kind() else {
        return write_i64(i64::from(value), out);
    };
    if value == 0 {
        out.push(b'-');
        return;
    }
    let name = format
        .names
        .as_ref()
        .and_then(|names| names.name_of(reg, value));
    match name.or_else(|| builtin_name(reg, value)) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => write_i64(i64::from(value), out),
    }
}

fn builtin_name(reg: RegKind, value: u32) -> Option<String> {
    use crate::functions::catalog;
    match reg {
        RegKind::Type => Type::new(value).row().map(|_| Type::new(value).name()),
        RegKind::Proc => {
            let function = catalog::function(value)?;
            let unique = catalog::functions_named(function.name).count() == 1;
            let name = quote_identifier(function.name);
            Some(if unique && function.schema == "pg_catalog" {
                name
            } else {
                format!("{}.{name}", function.schema)
            })
        }
        RegKind::Procedure => {
            let function = catalog::function(value)?;
            let types: Vec<String> = function
                .arguments
                .iter()
                .map(|oid| Type::new(*oid).name())
                .collect();
            Some(format!(
                "{}({})",
                quote_identifier(function.name),
                types.join(",")
            ))
        }
        RegKind::Oper => {
            let operator = catalog::operator(value)?;
            let unique = catalog::operators_named(operator.name).count() == 1;
            Some(if unique {
                operator.name.to_owned()
            } else {
                format!("pg_catalog.{}", operator.name)
            })
        }
        RegKind::Operator => {
            let operator = catalog::operator(value)?;
            let left = operator
                .left
                .map_or("NONE".to_owned(), |left| Type::new(left).name());
            Some(format!(
                "{}({left},{})",
                operator.name,
                Type::new(operator.right)
            ))
        }
        RegKind::Namespace => match value {
            11 => Some("pg_catalog".to_owned()),
            2200 => Some("public".to_owned()),
            _ => None,
        },
        RegKind::Collation => match value {
            100 => Some("\"default\"".to_owned()),
            950 => Some("\"C\"".to_owned()),
            951 => Some("\"POSIX\"".to_owned()),
            _ => None,
        },
        RegKind::Class | RegKind::Role | RegKind::Config | RegKind::Dictionary => None,
    }
}

/// Quotes an identifier when it must be (`quote_ident`).
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !crate::types::kind::is_reserved(name);
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// The one that there is. Errors: 42725 if there are several, in these words.
fn only<T>(mut found: impl Iterator<Item = T>, several: impl Fn() -> String) -> Result<Option<T>> {
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Error::new(state::AMBIGUOUS_FUNCTION, several())),
        (one, None) => Ok(one),
    }
}
