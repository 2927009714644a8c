//! Calls of users' functions.

use std::sync::Arc;

use super::function::Given;
use super::{Binder, Clause};
use crate::catalog::{Routine, SchemaId};
use crate::error::{Error, Result, state};
use crate::expr::{Expr, RoutineCall};
use crate::functions::resolve::{choose, no_function, several_functions};
use crate::functions::{Argument, functions_named};

/// A function seen with the arguments of one call.
struct Candidate {
    routine: Arc<Routine>,
    /// Which of its arguments each given one is.
    order: Vec<usize>,
    types: Vec<u32>,
}

impl Binder<'_> {
    /// The call of a user's function, if one of that name is visible here. Beside built-in ones of
    /// the same name it must fit exactly.
    pub(super) fn user_function(
        &mut self,
        schema: Option<&str>,
        name: &str,
        given: &Given,
        clause: Clause,
    ) -> Result<Option<Expr>> {
        let visible = self.visible_routines(schema, name);
        if visible.is_empty() || given.star {
            return Ok(None);
        }
        let built_in = schema.is_none() && functions_named(name).next().is_some();
        let arguments: Vec<Argument<'_>> = given
            .exprs
            .iter()
            .zip(&given.names)
            .map(|(expr, name)| Argument {
                name: name.as_deref(),
                kind: expr.ty(),
            })
            .collect();
        let candidates: Vec<Candidate> = visible
            .into_iter()
            .filter_map(|routine| candidate(routine, &arguments))
            .collect();
        let lists: Vec<&[u32]> = candidates.iter().map(|c| c.types.as_slice()).collect();
        let types: Vec<u32> = arguments.iter().map(|argument| argument.kind.oid).collect();
        let shown = match schema {
            Some(schema) => format!("{schema}.{name}"),
            None => name.to_owned(),
        };
        let chosen = match choose(&types, &lists) {
            Ok(Some(at)) if built_in && candidates[at].types != types => return Ok(None),
            Ok(Some(at)) => &candidates[at],
            Ok(None) | Err(()) if built_in => return Ok(None),
            Ok(None) => return Err(no_function(&shown, &arguments)),
            Err(()) => return Err(several_functions(&shown, &arguments)),
        };
        let routine = Arc::clone(&chosen.routine);
        check_callable(&routine)?;
        if let Clause::Stored(place) = clause {
            return Err(Error::unsupported(format!("a user's function in {place}")));
        }
        let args = self.routine_arguments(chosen, given)?;
        Ok(Some(Expr::Routine(Box::new(RoutineCall { routine, args }))))
    }

    /// The functions that a name may mean; of two with the same arguments the first on the path.
    fn visible_routines(&self, schema: Option<&str>, name: &str) -> Vec<Arc<Routine>> {
        let schemas: Vec<SchemaId> = match schema {
            Some(schema) => {
                let found = self.catalog.schema_by_name(schema);
                found.map(|schema| schema.id).into_iter().collect()
            }
            None => self.path.clone(),
        };
        let mut all: Vec<Arc<Routine>> = Vec::new();
        for schema in schemas {
            for routine in self.catalog.routines_named(schema, name) {
                let same = |other: &Arc<Routine>| {
                    let own = routine.arguments.iter().map(|a| a.ty.oid);
                    own.eq(other.arguments.iter().map(|a| a.ty.oid))
                };
                if self.catalog.sees_routine(self.role, routine) && !all.iter().any(same) {
                    all.push(Arc::clone(routine));
                }
            }
        }
        all
    }

    fn routine_arguments(&mut self, chosen: &Candidate, given: &Given) -> Result<Vec<Expr>> {
        let mut args = Vec::with_capacity(chosen.routine.arguments.len());
        for (at, argument) in chosen.routine.arguments.iter().enumerate() {
            let expr = match chosen.order.iter().position(|own| *own == at) {
                Some(given_at) => given.exprs[given_at].clone(),
                None => {
                    let text = argument.default.as_deref().unwrap_or("NULL");
                    self.stored(text, None, "DEFAULT expressions")?
                }
            };
            args.push(self.coerce(expr, argument.ty)?);
        }
        Ok(args)
    }
}

/// A function as these arguments fit it, if they may.
fn candidate(routine: Arc<Routine>, given: &[Argument<'_>]) -> Option<Candidate> {
    let declared = &routine.arguments;
    if given.len() > declared.len() {
        return None;
    }
    let mut order = Vec::with_capacity(given.len());
    for (index, argument) in given.iter().enumerate() {
        let at = match argument.name {
            None => index,
            Some(name) => declared
                .iter()
                .position(|own| own.name.as_deref() == Some(name))?,
        };
        if order.contains(&at) {
            return None;
        }
        order.push(at);
    }
    let left_out = |at: &usize| !order.contains(at) && declared[*at].default.is_none();
    if (0..declared.len()).any(|at| left_out(&at)) {
        return None;
    }
    let types = order.iter().map(|at| declared[*at].ty.oid).collect();
    Some(Candidate {
        routine,
        order,
        types,
    })
}

/// 0A000 for one whose value no expression may have.
fn check_callable(routine: &Routine) -> Result<()> {
    match routine.is_trigger() {
        false => Ok(()),
        true => Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "trigger functions can only be called as triggers",
        )),
    }
}
