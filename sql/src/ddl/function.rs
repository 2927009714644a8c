//! CREATE FUNCTION: its types are resolved and its body is read, but nothing of it is run.

use std::sync::Arc;

use super::draft::{Done, Draft};
use crate::catalog::{Argument, Change, Language, Object, Routine};
use crate::parse::{self, CreateRoutine};
use crate::plpgsql;
use crate::types::Type;
use crate::types::kind::oid;
use crate::{Error, Result, state};

/// Arguments of one function, as in PostgreSQL (`FUNC_MAX_ARGS`).
const ARGUMENTS_MAX: usize = 100;

impl Draft<'_> {
    pub fn create_routine(&mut self, create: &CreateRoutine) -> Done<()> {
        if let Some(what) = create.unsupported {
            return Err(Error::unsupported(what).into());
        }
        let invalid = |message: &str| Error::new(state::INVALID_FUNCTION_DEFINITION, message);
        let body = create.body.clone();
        let source = body.ok_or_else(|| invalid("no function body specified"))?;
        let named = create.language.as_deref();
        let language = plpgsql::language(named.ok_or_else(|| invalid("no language specified"))?)?;
        let returned = create.returns.as_deref();
        let returned = returned.ok_or_else(|| invalid("function result type must be specified"))?;
        let returns = return_type(returned, language)?;
        let arguments = arguments(&create.arguments)?;
        if returns.oid == oid::TRIGGER && !arguments.is_empty() {
            return Err(invalid("trigger functions cannot have declared arguments")
                .hint(
                    "The arguments of the trigger can be accessed through TG_NARGS and TG_ARGV \
                     instead.",
                )
                .into());
        }
        let target = self.target(&create.name)?;
        let mut routine = Routine {
            id: 0,
            owner: target.owner,
            group: target.group,
            schema: target.schema,
            name: target.name.clone(),
            arguments,
            returns,
            language,
            source,
            volatility: create.volatility,
            strict: create.strict,
            acl: None,
            comment: None,
        };
        let types: Vec<Type> = routine.arguments.iter().map(|a| a.ty).collect();
        let named = self.catalog.routines_named(target.schema, &target.name);
        let old = named.into_iter().find(|old| old.takes(&types)).cloned();
        if let Some(old) = &old {
            self.check_replacement(old, &routine, create.or_replace)?;
        }
        plpgsql::check(&routine, &self.catalog, self.role, &self.path)?;
        match old {
            Some(old) => {
                routine.id = old.id;
                routine.acl.clone_from(&old.acl);
                routine.comment.clone_from(&old.comment);
                let new = Object::Routine(Arc::new(routine));
                self.change(Change::replace(old.group, Object::Routine(old), new));
            }
            None => {
                let name = routine.signature();
                self.reserve(target.schema, &[&name], target.owner)?;
                routine.id = self.oid(target.group)?;
                let new = Object::Routine(Arc::new(routine));
                self.change(Change::create(target.group, new));
            }
        }
        Ok(())
    }

    fn check_replacement(&self, old: &Routine, new: &Routine, or_replace: bool) -> Result<()> {
        if !or_replace {
            let message = format!(
                "function \"{}\" already exists with same argument types",
                old.name
            );
            return Err(Error::new(state::DUPLICATE_FUNCTION, message));
        }
        self.own_routine(old)?;
        let invalid = |message: String| Error::new(state::INVALID_FUNCTION_DEFINITION, message);
        let signature = format!("{}({})", old.name, types_of(old));
        let hint = format!("Use DROP FUNCTION {signature} first.");
        if old.returns.oid != new.returns.oid {
            let message = "cannot change return type of existing function".to_owned();
            return Err(invalid(message).hint(hint));
        }
        for (old, new) in old.arguments.iter().zip(&new.arguments) {
            if let Some(name) = &old.name
                && new.name.as_ref() != Some(name)
            {
                let message = format!("cannot change name of input parameter \"{name}\"");
                return Err(invalid(message).hint(hint));
            }
            if old.default.is_some() && new.default.is_none() {
                let message = "cannot remove parameter defaults from existing function";
                return Err(invalid(message.to_owned()).hint(hint));
            }
        }
        Ok(())
    }

    /// 42501 unless the role acts for the function's owner.
    pub fn own_routine(&self, routine: &Routine) -> Result<()> {
        match self.catalog.has_role(self.role, routine.owner) {
            true => Ok(()),
            false => Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("must be owner of function {}", routine.name),
            )),
        }
    }
}

fn types_of(routine: &Routine) -> String {
    let types = routine.arguments.iter().map(|argument| argument.ty.name());
    types.collect::<Vec<_>>().join(",")
}

fn return_type(text: &str, language: Language) -> Result<Type> {
    if text.eq_ignore_ascii_case("trigger") {
        return match language {
            Language::Plpgsql => Ok(Type::new(oid::TRIGGER)),
            Language::Sql => Err(Error::new(
                state::INVALID_FUNCTION_DEFINITION,
                "SQL functions cannot return type trigger",
            )),
        };
    }
    if text.eq_ignore_ascii_case("void") {
        return Ok(Type::new(oid::VOID));
    }
    let ty = Type::parse(text)?.plain();
    match ty.is_pseudo() || ty.is_polymorphic() {
        false => Ok(ty),
        true => Err(Error::unsupported(format!(
            "a function that returns {}",
            ty.name()
        ))),
    }
}

fn arguments(given: &[parse::NewArgument]) -> Result<Vec<Argument>> {
    if given.len() > ARGUMENTS_MAX {
        let message = format!("functions cannot have more than {ARGUMENTS_MAX} arguments");
        return Err(Error::new(state::TOO_MANY_ARGUMENTS, message));
    }
    let mut all: Vec<Argument> = Vec::with_capacity(given.len());
    for argument in given {
        let ty = Type::parse(&argument.ty).map_err(|mut error| {
            error.0.message = error.0.message.replace('"', "");
            error
        });
        let ty = ty?.plain();
        if ty.is_pseudo() || ty.is_polymorphic() {
            let what = format!("an argument of type {}", ty.name());
            return Err(Error::unsupported(what));
        }
        let known = |other: &Argument| other.name.is_some() && other.name == argument.name;
        if all.iter().any(known) {
            let name = argument.name.as_deref().unwrap_or_default();
            let message = format!("parameter name \"{name}\" used more than once");
            return Err(Error::new(state::INVALID_FUNCTION_DEFINITION, message));
        }
        let before = all.last().is_some_and(|last| last.default.is_some());
        if before && argument.default.is_none() {
            return Err(Error::new(
                state::INVALID_FUNCTION_DEFINITION,
                "input parameters after one with a default value must also have defaults",
            ));
        }
        all.push(Argument {
            name: argument.name.clone(),
            ty,
            default: argument.default.clone(),
        });
    }
    Ok(all)
}
