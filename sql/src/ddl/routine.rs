//! DROP FUNCTION and its kin. There are no routines but the built-in ones, which cannot be dropped:
//! what is left are PostgreSQL's ways to say so.

use super::draft::{Done, Draft};
use super::name::{parts, shown};
use crate::functions::{Function, functions_in};
use crate::parse::{DropRoutines, Routine, RoutineArgument, RoutineKind};
use crate::types::Type;
use crate::{Error, Result, state};

impl Draft<'_> {
    /// Drops nothing: IF EXISTS is satisfied, the rest is an error.
    pub fn drop_routines(&mut self, drop: &DropRoutines) -> Done<()> {
        for routine in &drop.routines {
            let missing = self.missing_routine(drop.kind, routine)?;
            if !drop.if_exists {
                return Err(missing.into());
            }
            let signature = match missing.0.state {
                state::UNDEFINED_FUNCTION => Some(skipped(drop.kind, routine)?),
                _ => None,
            };
            self.skips(&signature.unwrap_or(missing.0.message));
        }
        Ok(())
    }

    /// Why there is no such routine. An error if there is one.
    fn missing_routine(&self, kind: RoutineKind, routine: &Routine) -> Result<Error> {
        let mut types = Vec::new();
        for argument in routine.arguments.iter().flatten() {
            match Type::parse(&argument.text) {
                Ok(ty) => types.push(ty),
                Err(error) if error.0.state == state::UNDEFINED_OBJECT => return Ok(error),
                Err(error) => return Err(error),
            }
        }
        let names = parts(&routine.name)?;
        let (name, schema) = match names.as_slice() {
            [.., schema, name] => (name, schema.as_str()),
            [name] => (name, "pg_catalog"),
            [] => return Err(Error::internal("a routine without a name")),
        };
        if let Err(missing) = self.schema_named(schema) {
            return Ok(missing);
        }
        let fits = |function: &&Function| {
            let given = routine.arguments.is_some();
            let oids = types.iter().map(|ty| ty.oid);
            kind.fits(function.prokind) && (!given || oids.eq(function.arguments.iter().copied()))
        };
        let mut found = functions_in(schema, name).filter(fits);
        let Some(one) = found.next() else {
            return Ok(undefined(kind, routine, &names, &types));
        };
        if found.next().is_some() {
            let word = kind.lookup();
            let message = format!("{word} name \"{}\" is not unique", shown(&names));
            return Err(Error::new(state::AMBIGUOUS_FUNCTION, message).hint(format!(
                "Specify the argument list to select the {word} unambiguously."
            )));
        }
        Err(self.built_in(kind, one))
    }

    fn built_in(&self, kind: RoutineKind, function: &Function) -> Error {
        let word = kind.lookup();
        if !self.catalog.is_superuser(self.role) {
            let message = format!("must be owner of {word} {}", function.name);
            return Error::new(state::INSUFFICIENT_PRIVILEGE, message);
        }
        let types = function.arguments.iter().map(|oid| Type::new(*oid));
        let signature = signature(function.name, types);
        Error::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {word} {signature} because it is required by the database system"),
        )
    }
}

/// 42883.
fn undefined(kind: RoutineKind, routine: &Routine, names: &[String], types: &[Type]) -> Error {
    let (word, name) = (kind.lookup(), shown(names));
    let message = match &routine.arguments {
        None => format!("could not find a {word} named \"{name}\""),
        Some(given) if given.is_empty() && kind == RoutineKind::Aggregate => {
            format!("{word} {name}(*) does not exist")
        }
        Some(_) => {
            let signature = signature(&name, types.iter().copied());
            format!("{word} {signature} does not exist")
        }
    };
    Error::new(state::UNDEFINED_FUNCTION, message)
}

fn signature(name: &str, types: impl Iterator<Item = Type>) -> String {
    let types: Vec<String> = types.map(|ty| ty.plain().name()).collect();
    format!("{name}({})", types.join(", "))
}

/// What IF EXISTS skips: the types as PostgreSQL's grammar keeps them.
fn skipped(kind: RoutineKind, routine: &Routine) -> Result<String> {
    let types: Vec<String> = routine
        .arguments
        .iter()
        .flatten()
        .map(written)
        .collect::<Result<_>>()?;
    let name = shown(&parts(&routine.name)?);
    let word = kind.word();
    Ok(format!("{word} {name}({}) does not exist", types.join(",")))
}

fn written(argument: &RoutineArgument) -> Result<String> {
    if !argument.in_grammar {
        return Ok(argument.text.to_lowercase());
    }
    let ty = Type::parse(&argument.text)?;
    let scalar = ty.element().unwrap_or(ty);
    let name = scalar.row().map_or("???", |row| row.name);
    let brackets = if ty.is_array() { "[]" } else { "" };
    Ok(format!("pg_catalog.{name}{brackets}"))
}
