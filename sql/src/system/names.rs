//! The catalog's names behind `regclass`, `regtype` and their kin, as one role sees them.

use std::sync::Arc;

use super::definition::relation_name;
use crate::Result;
use crate::catalog::{Catalog, RoleId, Routine, SchemaId};
use crate::ddl::{quote, split_name};
use crate::functions::{Function, Operator, function, functions_named, operator, operators_named};
use crate::types::{Names, RegKind, Type};
use crate::{Error, state};

/// Names under a session's role and search_path.
pub struct CatalogNames {
    /// The statement's catalog.
    pub catalog: Arc<Catalog>,
    /// Where unqualified names are looked up.
    pub path: Vec<SchemaId>,
    /// Whose eyes.
    pub role: RoleId,
}

/// Types of arguments as `regprocedure` prints them.
fn argument_types(types: &[u32]) -> String {
    let names: Vec<String> = types.iter().map(|t| Type::new(*t).name()).collect();
    names.join(",")
}

fn signature(f: &Function) -> String {
    format!("{}({})", quote(f.name), argument_types(&f.arguments))
}

fn operator_signature(o: &Operator) -> String {
    let left = o
        .left
        .map_or_else(|| "NONE".to_owned(), |t| Type::new(t).name());
    format!("{}({left},{})", o.name, Type::new(o.right).name())
}

impl CatalogNames {
    /// A user's function, if it exists for the role.
    fn routine(&self, oid: u32) -> Option<&Arc<Routine>> {
        let found = self.catalog.routine(oid)?;
        self.catalog.sees_routine(self.role, found).then_some(found)
    }

    /// The users' functions that a name may mean.
    fn routines_named(&self, name: &str) -> Result<Vec<Arc<Routine>>> {
        let parts = split_name(name.trim())?;
        let (schemas, name) = match parts.as_slice() {
            [.., schema, name] => {
                let found = self.catalog.schema_by_name(schema);
                (found.map(|s| s.id).into_iter().collect(), name)
            }
            [name] => (self.path.clone(), name),
            [] => return Ok(Vec::new()),
        };
        let all = schemas
            .iter()
            .flat_map(|schema| self.catalog.routines_named(*schema, name));
        let seen = all.filter(|routine| self.catalog.sees_routine(self.role, routine));
        Ok(seen.cloned().collect())
    }
}

impl Names for CatalogNames {
    fn name_of(&self, kind: RegKind, oid: u32) -> Option<String> {
        match kind {
            RegKind::Class => {
                let relation = self.catalog.relation(oid)?;
                self.catalog
                    .sees(self.role, relation.table())
                    .then(|| relation_name(&self.catalog, &self.path, &relation))
            }
            RegKind::Type => Type::new(oid).row().map(|_| Type::new(oid).name()),
            RegKind::Proc | RegKind::Procedure if let Some(routine) = self.routine(oid) => {
                let name = match self.path.contains(&routine.schema) {
                    true => quote(&routine.name),
                    false => {
                        let schema = self.catalog.schema_name(routine.schema);
                        format!("{}.{}", quote(schema), quote(&routine.name))
                    }
                };
                let types: Vec<u32> = routine.arguments.iter().map(|a| a.ty.oid).collect();
                Some(match kind {
                    RegKind::Proc => name,
                    _ => format!("{name}({})", argument_types(&types)),
                })
            }
            RegKind::Proc => {
                let f = function(oid)?;
                let unique = functions_named(f.name).nth(1).is_none();
                Some(if unique && f.schema == "pg_catalog" {
                    quote(f.name)
                } else {
                    format!("{}.{}", f.schema, quote(f.name))
                })
            }
            RegKind::Procedure => function(oid).map(signature),
            RegKind::Oper => {
                let o = operator(oid)?;
                let unique = operators_named(o.name).nth(1).is_none();
                Some(if unique {
                    o.name.to_owned()
                } else {
                    format!("pg_catalog.{}", o.name)
                })
            }
            RegKind::Operator => operator(oid).map(operator_signature),
            RegKind::Namespace => {
                let schema = self.catalog.schema(SchemaId(oid))?;
                self.catalog
                    .sees_schema(self.role, schema)
                    .then(|| quote(&schema.name))
            }
            RegKind::Role => self.catalog.role(RoleId(oid)).map(|r| quote(&r.name)),
            RegKind::Collation => named("pg_collation", oid),
            RegKind::Config => named("pg_ts_config", oid),
            RegKind::Dictionary => named("pg_ts_dict", oid),
        }
    }

    fn oid_of(&self, kind: RegKind, name: &str) -> Result<Option<u32>> {
        match kind {
            RegKind::Class => {
                let parts = split_name(name)?;
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let found = self.catalog.lookup(&parts, &self.path, self.role)?;
                Ok(found.map(|r| r.oid()))
            }
            RegKind::Type => Ok(Type::parse(name).ok().map(|t| t.oid)),
            RegKind::Proc => {
                let own = self.routines_named(name)?;
                let name = last(name)?;
                let own = own.iter().map(|routine| routine.id);
                let mut found = functions_named(&name).map(|f| f.oid).chain(own);
                let first = found.next();
                if found.next().is_some() {
                    return Err(Error::new(
                        state::AMBIGUOUS_FUNCTION,
                        format!("more than one function named \"{name}\""),
                    ));
                }
                Ok(first)
            }
            RegKind::Procedure => {
                let whole = name.split_once('(').map_or(name, |(name, _)| name);
                let own = self.routines_named(whole)?;
                let (name, types) = with_types(name)?;
                let takes = |r: &&Arc<Routine>| {
                    let given = r.arguments.iter().map(|a| a.ty.oid);
                    given.eq(types.iter().copied())
                };
                let own = own.iter().find(takes).map(|routine| routine.id);
                let mut built_in = functions_named(&name);
                let built_in = built_in.find(|f| f.arguments == types).map(|f| f.oid);
                Ok(built_in.or(own))
            }
            RegKind::Oper => {
                let name = name.rsplit('.').next().unwrap_or(name).trim();
                let mut found = operators_named(name);
                let first = found.next();
                if found.next().is_some() {
                    return Err(Error::new(
                        state::AMBIGUOUS_FUNCTION,
                        format!("more than one operator named {name}"),
                    ));
                }
                Ok(first.map(|o| o.oid))
            }
            RegKind::Operator => {
                let (name, types) = with_types(name)?;
                let fits = |o: &&Operator| types == [o.left.unwrap_or(0), o.right];
                Ok(operators_named(&name).find(fits).map(|o| o.oid))
            }
            RegKind::Namespace => {
                let name = last(name)?;
                let found = self.catalog.schema_by_name(&name);
                Ok(found
                    .filter(|s| self.catalog.sees_schema(self.role, s))
                    .map(|s| s.id.0))
            }
            RegKind::Role => Ok(self.catalog.role_by_name(&last(name)?).map(|r| r.id.0)),
            RegKind::Collation => Ok(numbered("pg_collation", &last_exact(name)?)),
            RegKind::Config => Ok(numbered("pg_ts_config", &last(name)?)),
            RegKind::Dictionary => Ok(numbered("pg_ts_dict", &last(name)?)),
        }
    }
}

fn last(name: &str) -> Result<String> {
    Ok(split_name(name)?.pop().unwrap_or_default())
}

/// Collations have upper-case names that people quote.
fn last_exact(name: &str) -> Result<String> {
    last(name)
}

/// `name(type, type)`; NONE is 0.
fn with_types(text: &str) -> Result<(String, Vec<u32>)> {
    let invalid = || {
        Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a left parenthesis",
        )
    };
    let (name, rest) = text.split_once('(').ok_or_else(invalid)?;
    let list = rest.strip_suffix(')').ok_or_else(|| {
        Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a right parenthesis",
        )
    })?;
    let name = match name.trim().chars().next() {
        Some(c) if c.is_alphanumeric() || c == '_' || c == '"' => last(name)?,
        _ => name.rsplit('.').next().unwrap_or(name).trim().to_owned(),
    };
    let types = list
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(|t| {
            if t.eq_ignore_ascii_case("none") {
                Ok(0)
            } else {
                Type::parse(t).map(|t| t.oid)
            }
        })
        .collect::<Result<_>>()?;
    Ok((name, types))
}

fn named(relation: &str, oid: u32) -> Option<String> {
    use crate::types::Datum;
    let rows = super::shape::static_rows(relation);
    let row = rows
        .iter()
        .find(|r| matches!(r[0], Datum::Oid(o) if o == oid))?;
    row[1].as_str().map(quote)
}

fn numbered(relation: &str, name: &str) -> Option<u32> {
    use crate::types::Datum;
    let rows = super::shape::static_rows(relation);
    let row = rows.iter().find(|r| r[1].as_str() == Some(name))?;
    match row[0] {
        Datum::Oid(oid) => Some(oid),
        _ => None,
    }
}
