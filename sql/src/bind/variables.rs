//! Names that a function gives a statement from outside: its variables. They are the outermost
//! scope of the statement, and their values are its parameters.

use super::Binder;
use super::scope::{Range, Scope, Visible, ambiguous};
use crate::error::{Error, Result, state};
use crate::expr::Expr;

/// Which of two things a name means that is a variable and a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// Neither: 42702.
    #[default]
    Error,
    /// The variable.
    Variable,
    /// The column.
    Column,
}

/// The variables that a statement may name.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// Rows, and blocks by their labels.
    pub ranges: Vec<Range>,
    /// Variables by their bare names.
    pub visible: Vec<Visible>,
    /// Rows that have no shape yet.
    pub unassigned: Vec<String>,
    /// How many `$n` there are.
    pub arguments: usize,
    /// What a name means that a column has, too.
    pub conflict: Conflict,
}

impl Variables {
    /// The scope around the statement.
    pub fn scope(&self) -> Scope<'static> {
        Scope {
            parent: None,
            ranges: self.ranges.clone(),
            visible: self.visible.clone(),
            forbidden: Vec::new(),
        }
    }
}

impl Binder<'_> {
    /// Decides what a bare name means that was found as `found`.
    ///
    /// # Errors
    /// 42702 if a variable has the name, too.
    pub(super) fn or_variable(&self, name: &str, found: Expr, scope: &Scope<'_>) -> Result<Expr> {
        let Some(variables) = self.cx.variables else {
            return Ok(found);
        };
        if variables.conflict == Conflict::Column || matches!(found, Expr::Parameter { .. }) {
            return Ok(found);
        }
        let mut root = scope;
        while let Some(parent) = root.parent {
            root = parent;
        }
        // Views and stored expressions see no variables.
        let reaches = root.ranges.len() == variables.ranges.len()
            && root.visible.len() == variables.visible.len();
        let same = variables.visible.iter().find(|v| v.name == name);
        match same.filter(|_| reaches && !std::ptr::eq(root, scope)) {
            None => Ok(found),
            Some(variable) if variables.conflict == Conflict::Variable => Ok(variable.expr.clone()),
            Some(_) => Err(ambiguous(name)
                .detail("It could refer to either a PL/pgSQL variable or a table column.")),
        }
    }

    /// The error for a field that a row has not, if the range is a variable's.
    pub(super) fn no_field(&self, range: &Range, field: &str) -> Option<Error> {
        let of_row = |expr: &Expr| match expr {
            Expr::Field { input, .. } => matches!(**input, Expr::Parameter { .. }),
            _ => false,
        };
        let is_row = range
            .columns
            .first()
            .is_some_and(|column| of_row(&column.expr));
        is_row.then(|| {
            let message = format!("record \"{}\" has no field \"{field}\"", range.alias);
            Error::new(state::UNDEFINED_COLUMN, message)
        })
    }

    /// 55000 if the name is a row without a shape.
    pub(super) fn check_assigned(&self, name: &str) -> Result<()> {
        let unassigned = |variables: &&Variables| variables.unassigned.iter().any(|n| n == name);
        match self.cx.variables.filter(unassigned) {
            None => Ok(()),
            Some(_) => Err(not_assigned(name)),
        }
    }
}

/// 55000.
pub(crate) fn not_assigned(name: &str) -> Error {
    Error::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("record \"{name}\" is not assigned yet"),
    )
    .detail("The tuple structure of a not-yet-assigned record is indeterminate.")
}
