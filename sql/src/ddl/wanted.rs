//! What a statement says of a constraint that it asks for, before any table is looked at.

use std::collections::BTreeMap;

use sqlparser::ast::{
    self, ColumnOption, ConstraintCharacteristics, ConstraintReferenceMatchKind, DeferrableInitial,
    NullsDistinctOption, ObjectName, TableConstraint,
};

use super::create_table::map_index;
use super::expression::plain_column;
use super::name::{clip, ident};
use crate::bind::syntax::DELETE_SETS;
use crate::catalog::{ColumnId, Index, ReferentialAction, Table};
use crate::{Error, Result, state};

/// A constraint that a statement asks for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// CHECK as it was written.
    CheckExpr {
        name: Option<String>,
        column: Option<String>,
        expr: Box<ast::Expr>,
        no_inherit: bool,
        valid: bool,
    },
    /// CHECK as stored text (LIKE).
    Check {
        name: Option<String>,
        column: Option<String>,
        expression: String,
        comment: Option<String>,
    },
    /// PRIMARY KEY or UNIQUE.
    Key(WantedKey),
    /// An index, or a key's, copied from another table (LIKE), columns already mapped.
    Copy { index: Index, constraint: bool },
    /// FOREIGN KEY.
    Foreign(WantedForeign),
    /// PRIMARY KEY or UNIQUE USING INDEX.
    UsingIndex {
        name: Option<String>,
        index: String,
        primary: bool,
        timing: Timing,
    },
}

/// PRIMARY KEY or UNIQUE.
#[derive(Clone, Debug)]
pub(super) struct WantedKey {
    pub(super) name: Option<String>,
    pub(super) columns: Vec<String>,
    pub(super) include: Vec<String>,
    pub(super) primary: bool,
    pub(super) nulls_not_distinct: bool,
    pub(super) timing: Timing,
}

/// FOREIGN KEY.
#[derive(Clone, Debug)]
pub(super) struct WantedForeign {
    pub(super) name: Option<String>,
    pub(super) columns: Vec<String>,
    pub(super) table: ObjectName,
    pub(super) referred: Vec<String>,
    pub(super) on_delete: ReferentialAction,
    pub(super) on_update: ReferentialAction,
    /// What ON DELETE SET NULL or SET DEFAULT sets; none = all columns.
    pub(super) set: Vec<String>,
    pub(super) full: bool,
    pub(super) timing: Timing,
    pub(super) valid: bool,
}

/// When a constraint is checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    pub(super) deferrable: bool,
    pub(super) deferred: bool,
}

impl Timing {
    fn of(given: Option<&ConstraintCharacteristics>) -> Result<Timing> {
        let Some(given) = given else {
            return Ok(Timing::default());
        };
        let deferred = matches!(given.initially, Some(DeferrableInitial::Deferred));
        if deferred && given.deferrable == Some(false) {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "constraint declared INITIALLY DEFERRED must be DEFERRABLE",
            ));
        }
        Ok(Timing {
            deferrable: given.deferrable.unwrap_or(deferred),
            deferred,
        })
    }
}

/// When a key is checked: at once. Its index holds no two rows of one key, not even until the end
/// of a statement, so a key that asks for that is refused rather than checked too early.
fn key_timing(given: Option<&ConstraintCharacteristics>) -> Result<Timing> {
    let timing = Timing::of(given)?;
    if timing.deferrable {
        return Err(
            Error::unsupported("a deferrable primary key or unique constraint")
                .detail("Keys are checked row by row; foreign keys can be deferred."),
        );
    }
    Ok(timing)
}

fn action(given: Option<&ast::ReferentialAction>) -> ReferentialAction {
    match given {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    }
}

fn idents(given: &[ast::Ident]) -> Vec<String> {
    given.iter().map(ident).collect()
}

fn key_columns(given: &[ast::IndexColumn]) -> Result<Vec<String>> {
    given
        .iter()
        .map(|c| {
            plain_column(&c.column.expr).ok_or_else(|| {
                Error::new(
                    state::SYNTAX_ERROR,
                    "a key is made of columns, not of expressions",
                )
            })
        })
        .collect()
}

fn foreign(given: &ast::ForeignKeyConstraint, name: Option<String>) -> Result<WantedForeign> {
    if matches!(
        given.match_kind,
        Some(ConstraintReferenceMatchKind::Partial)
    ) {
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "MATCH PARTIAL not yet implemented",
        ));
    }
    Ok(WantedForeign {
        name: given.name.as_ref().map(ident).or(name),
        columns: idents(&given.columns),
        table: given.foreign_table.clone(),
        referred: given
            .referred_columns
            .iter()
            .filter(|column| !column.value.starts_with(DELETE_SETS))
            .map(ident)
            .collect(),
        set: given
            .referred_columns
            .iter()
            .filter_map(|column| column.value.strip_prefix(DELETE_SETS))
            .map(|name| clip(name.to_owned()))
            .collect(),
        on_delete: action(given.on_delete.as_ref()),
        on_update: action(given.on_update.as_ref()),
        full: matches!(given.match_kind, Some(ConstraintReferenceMatchKind::Full)),
        timing: Timing::of(given.characteristics.as_ref())?,
        valid: true,
    })
}

impl WantedKey {
    /// PRIMARY KEY of these columns.
    pub(super) fn primary(columns: &[&str]) -> WantedKey {
        WantedKey {
            name: None,
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            include: Vec::new(),
            primary: true,
            nulls_not_distinct: false,
            timing: Timing::default(),
        }
    }
}

impl Wanted {
    /// If it is a primary or unique key.
    pub(super) fn as_key(&mut self) -> Option<&mut WantedKey> {
        match self {
            Wanted::Key(key) => Some(key),
            _ => None,
        }
    }

    /// A table constraint.
    pub fn of_table(given: &TableConstraint) -> Result<Wanted> {
        Ok(match given {
            TableConstraint::Check(check) => Wanted::CheckExpr {
                name: check.name.as_ref().map(ident),
                column: None,
                expr: check.expr.clone(),
                no_inherit: check.no_inherit,
                valid: true,
            },
            TableConstraint::PrimaryKey(key) => Wanted::Key(WantedKey {
                name: key.name.as_ref().map(ident),
                columns: key_columns(&key.columns)?,
                include: idents(&key.include),
                primary: true,
                nulls_not_distinct: false,
                timing: key_timing(key.characteristics.as_ref())?,
            }),
            TableConstraint::Unique(key) => Wanted::Key(WantedKey {
                name: key.name.as_ref().map(ident),
                columns: key_columns(&key.columns)?,
                include: idents(&key.include),
                primary: false,
                nulls_not_distinct: matches!(key.nulls_distinct, NullsDistinctOption::NotDistinct),
                timing: key_timing(key.characteristics.as_ref())?,
            }),
            TableConstraint::ForeignKey(key) => Wanted::Foreign(foreign(key, None)?),
            TableConstraint::PrimaryKeyUsingIndex(using) => Wanted::UsingIndex {
                name: using.name.as_ref().map(ident),
                index: ident(&using.index_name),
                primary: true,
                timing: key_timing(using.characteristics.as_ref())?,
            },
            TableConstraint::UniqueUsingIndex(using) => Wanted::UsingIndex {
                name: using.name.as_ref().map(ident),
                index: ident(&using.index_name),
                primary: false,
                timing: key_timing(using.characteristics.as_ref())?,
            },
            TableConstraint::Exclude(_) => {
                return Err(Error::unsupported("an exclusion constraint"));
            }
            TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    format!("syntax error: {given}"),
                ));
            }
        })
    }

    /// A column constraint; `None` if the option is none.
    pub fn of_column(
        option: &ColumnOption,
        name: Option<String>,
        column: &str,
    ) -> Result<Option<Wanted>> {
        let own = vec![column.to_owned()];
        Ok(Some(match option {
            ColumnOption::PrimaryKey(key) => Wanted::Key(WantedKey {
                name,
                columns: own,
                include: Vec::new(),
                primary: true,
                nulls_not_distinct: false,
                timing: key_timing(key.characteristics.as_ref())?,
            }),
            ColumnOption::Unique(key) => Wanted::Key(WantedKey {
                name,
                columns: own,
                include: Vec::new(),
                primary: false,
                nulls_not_distinct: matches!(key.nulls_distinct, NullsDistinctOption::NotDistinct),
                timing: key_timing(key.characteristics.as_ref())?,
            }),
            ColumnOption::Check(check) => Wanted::CheckExpr {
                name: check.name.as_ref().map(ident).or(name),
                column: Some(column.to_owned()),
                expr: check.expr.clone(),
                no_inherit: check.no_inherit,
                valid: true,
            },
            ColumnOption::ForeignKey(key) => {
                let mut key = foreign(key, name)?;
                key.columns = own;
                Wanted::Foreign(key)
            }
            _ => return Ok(None),
        }))
    }

    /// PRIMARY KEY over these columns.
    pub fn primary_key(columns: Vec<String>) -> Wanted {
        Wanted::Key(WantedKey {
            name: None,
            columns,
            include: Vec::new(),
            primary: true,
            nulls_not_distinct: false,
            timing: Timing::default(),
        })
    }

    /// An index that LIKE ... INCLUDING INDEXES copies.
    pub fn copy_of_index(
        source: &Table,
        index: &Index,
        map: &BTreeMap<ColumnId, ColumnId>,
    ) -> Wanted {
        let mut copy = index.clone();
        copy.columns = map_index(index, map);
        copy.include = index
            .include
            .iter()
            .filter_map(|c| map.get(c).copied())
            .collect();
        let constraint = source
            .constraints
            .iter()
            .any(|c| c.index() == Some(index.id));
        Wanted::Copy {
            index: copy,
            constraint,
        }
    }

    pub(super) fn rank(&self) -> u8 {
        match self {
            Wanted::CheckExpr { .. } | Wanted::Check { .. } => 0,
            Wanted::Key(key) if key.primary => 1,
            Wanted::Copy { index, .. } if index.primary => 1,
            Wanted::UsingIndex { primary: true, .. } => 1,
            Wanted::Key(_) | Wanted::Copy { .. } | Wanted::UsingIndex { .. } => 2,
            Wanted::Foreign(_) => 3,
        }
    }
}
