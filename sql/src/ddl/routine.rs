//! DROP FUNCTION and its kin. The built-in routines cannot be dropped: PostgreSQL's ways to say so
//! are here, too.

use std::sync::Arc;

use super::draft::{Done, Draft};
use super::name::{parts, shown};
use crate::catalog::{self, Change, Object, SchemaId};
use crate::functions::{Function, functions_in};
use crate::parse::{DropRoutines, Routine, RoutineArgument, RoutineKind};
use crate::types::Type;
use crate::{Error, Result, state};

impl Draft<'_> {
    /// Drops users' functions; IF EXISTS is satisfied by what is not there.
    pub fn drop_routines(&mut self, drop: &DropRoutines) -> Done<()> {
        let mut doomed: Vec<Arc<catalog::Routine>> = Vec::new();
        for routine in &drop.routines {
            if let Some(found) = self.own_routine_named(drop.kind, routine)? {
                self.own_routine(&found)?;
                if !doomed.iter().any(|other| other.id == found.id) {
                    doomed.push(found);
                }
                continue;
            }
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
        self.drop_all_routines(&doomed, drop.cascade)
    }

    /// The user's function that is meant, if there is one.
    ///
    /// # Errors
    /// 42725 if several are.
    fn own_routine_named(
        &self,
        kind: RoutineKind,
        routine: &Routine,
    ) -> Result<Option<Arc<catalog::Routine>>> {
        if !kind.fits(b'f') {
            return Ok(None);
        }
        let names = parts(&routine.name)?;
        let schemas: Vec<SchemaId> = match names.as_slice() {
            [.., schema, _] => match self.schema_named(schema) {
                Ok(schema) => vec![schema.id],
                Err(_) => return Ok(None),
            },
            _ => self.path.clone(),
        };
        let Some(name) = names.last() else {
            return Ok(None);
        };
        let types: Option<Result<Vec<Type>>> = routine.arguments.as_ref().map(|arguments| {
            let types = arguments.iter().map(|argument| Type::parse(&argument.text));
            types.collect()
        });
        let types = match types {
            Some(Err(_)) => return Ok(None),
            Some(Ok(types)) => Some(types),
            None => None,
        };
        for schema in schemas {
            let named = self.catalog.routines_named(schema, name);
            let mut found = named
                .filter(|r| self.catalog.sees_routine(self.role, r))
                .filter(|r| types.as_ref().is_none_or(|types| r.takes(types)));
            let Some(one) = found.next() else { continue };
            if found.next().is_none() {
                return Ok(Some(Arc::clone(one)));
            }
            let word = kind.lookup();
            let message = format!("{word} name \"{}\" is not unique", shown(&names));
            return Err(Error::new(state::AMBIGUOUS_FUNCTION, message).hint(format!(
                "Specify the argument list to select the {word} unambiguously."
            )));
        }
        Ok(None)
    }

    /// A user's function that a statement other than DROP names.
    ///
    /// # Errors
    /// 42883; 42501 for a built-in one.
    pub fn routine_to_change(&self, routine: &Routine) -> Result<Arc<catalog::Routine>> {
        let kind = RoutineKind::Function;
        match self.own_routine_named(kind, routine)? {
            Some(found) => Ok(found),
            None => Err(self.missing_routine(kind, routine)?),
        }
    }

    /// Puts another descriptor in a function's place.
    pub fn replace_routine(&mut self, old: Arc<catalog::Routine>, new: catalog::Routine) {
        let group = old.group;
        let new = Object::Routine(Arc::new(new));
        self.change(Change::replace(group, Object::Routine(old), new));
    }

    /// Drops functions and, with CASCADE, the triggers that run them.
    fn drop_all_routines(&mut self, doomed: &[Arc<catalog::Routine>], cascade: bool) -> Done<()> {
        let mut triggers = Vec::new();
        let mut lines = Vec::new();
        let mut cascades = Vec::new();
        for routine in doomed {
            let using = self.catalog.triggers().filter(|t| t.routine == routine.id);
            for trigger in using.cloned().collect::<Vec<_>>() {
                let Ok(table) = self.table(trigger.table) else {
                    // One whose followed table is gone.
                    if trigger.group == routine.group {
                        self.remove_trigger(trigger);
                    }
                    continue;
                };
                let text = format!("trigger {} on table {}", trigger.name, self.display(&table));
                let function = self.display_routine(routine);
                lines.push(format!("{text} depends on function {function}"));
                cascades.push(format!("drop cascades to {text}"));
                triggers.push(trigger);
            }
        }
        if !triggers.is_empty() && !cascade {
            let subject = match doomed {
                [one] => format!("function {}", self.display_routine(one)),
                _ => "desired object(s)".to_owned(),
            };
            return Err(Error::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {subject} because other objects depend on it"),
            )
            .detail(lines.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
            .into());
        }
        let success = state::SUCCESSFUL_COMPLETION;
        match cascades.as_slice() {
            [] => {}
            [one] => self.notice(Error::new(success, one.clone())),
            many => {
                let message = format!("drop cascades to {} other objects", many.len());
                self.notice(Error::new(success, message).detail(many.join("\n")));
            }
        }
        for trigger in triggers {
            self.remove_trigger(trigger);
        }
        for routine in doomed {
            let object = Object::Routine(Arc::clone(routine));
            self.change(Change::drop(routine.group, object));
        }
        Ok(())
    }

    /// A function as errors show it: qualified unless it is found unqualified.
    pub fn display_routine(&self, routine: &catalog::Routine) -> String {
        let signature = routine.signature_with(",");
        match self.path.contains(&routine.schema) {
            true => signature,
            false => format!("{}.{signature}", self.catalog.schema_name(routine.schema)),
        }
    }

    /// The functions of a schema that is dropped.
    pub fn drop_routines_in(&mut self, schema: SchemaId) -> Done<()> {
        let inside = self.catalog.routines().filter(|r| r.schema == schema);
        let inside: Vec<Arc<catalog::Routine>> = inside.cloned().collect();
        self.drop_all_routines(&inside, true)
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
