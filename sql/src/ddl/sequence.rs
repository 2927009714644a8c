//! CREATE and ALTER SEQUENCE, and the sequences behind serial and identity columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::{self, Expr};
use storage::Position;

use super::draft::{Done, Draft, Work};
use super::name::{Target, no_column, parts, shown};
use crate::catalog::{
    ColumnId, Identity, Key, Relation, SequenceOptions, Table, TableId, TableKind,
};
use crate::parse::{self, IdentityChange};
use crate::session::sequence::check_here;
use crate::transaction::TableMode;
use crate::types::Type;
use crate::types::kind::oid;
use crate::{Error, Result, state};

/// Who a sequence belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owned {
    /// Dropped with this column.
    pub by: Option<(TableId, ColumnId)>,
    /// It is an identity column's.
    pub identity: bool,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, message)
}

fn bounds(ty: Type) -> Result<(i64, i64)> {
    match ty.oid {
        oid::INT2 => Ok((i64::from(i16::MIN), i64::from(i16::MAX))),
        oid::INT4 => Ok((i64::from(i32::MIN), i64::from(i32::MAX))),
        oid::INT8 => Ok((i64::MIN, i64::MAX)),
        _ => Err(invalid(
            "sequence type must be smallint, integer, or bigint",
        )),
    }
}

/// The rule of a new sequence, with PostgreSQL's defaults and checks.
pub(super) fn new_options(
    given: &parse::SequenceOptions,
    default_type: Type,
    owned: Owned,
) -> Result<SequenceOptions> {
    let ty = match &given.data_type {
        Some(ty) => Type::parse(&ty.to_string())?,
        None => default_type,
    };
    let (least, most) = bounds(ty)?;
    let increment = given.increment.unwrap_or(1);
    let up = increment > 0;
    let min = given.min.flatten().unwrap_or(if up { 1 } else { least });
    let max = given.max.flatten().unwrap_or(if up { most } else { -1 });
    let options = SequenceOptions {
        ty,
        start: given.start.unwrap_or(if up { min } else { max }),
        increment,
        min,
        max,
        cache: given.cache.unwrap_or(1),
        cycle: given.cycle.unwrap_or(false),
        owned_by: owned.by,
        identity: owned.identity,
    };
    check(&options)?;
    Ok(options)
}

fn check(o: &SequenceOptions) -> Result<()> {
    let (least, most) = bounds(o.ty)?;
    let name = crate::types::kind::format_type(o.ty.oid, -1);
    if o.increment == 0 {
        return Err(invalid("INCREMENT must not be zero"));
    }
    if o.max > most || o.max < least {
        return Err(invalid(format!(
            "MAXVALUE ({}) is out of range for sequence data type {name}",
            o.max
        )));
    }
    if o.min > most || o.min < least {
        return Err(invalid(format!(
            "MINVALUE ({}) is out of range for sequence data type {name}",
            o.min
        )));
    }
    if o.min >= o.max {
        return Err(invalid(format!(
            "MINVALUE ({}) must be less than MAXVALUE ({})",
            o.min, o.max
        )));
    }
    if o.start < o.min {
        return Err(invalid(format!(
            "START value ({}) cannot be less than MINVALUE ({})",
            o.start, o.min
        )));
    }
    if o.start > o.max {
        return Err(invalid(format!(
            "START value ({}) cannot be greater than MAXVALUE ({})",
            o.start, o.max
        )));
    }
    if o.cache < 1 {
        return Err(invalid(format!(
            "CACHE ({}) must be greater than zero",
            o.cache
        )));
    }
    Ok(())
}

/// The options of an identity column as sqlparser holds them.
pub(super) fn identity_options(
    given: Option<&Vec<ast::SequenceOptions>>,
) -> Result<parse::SequenceOptions> {
    let mut out = parse::SequenceOptions::default();
    for option in given.into_iter().flatten() {
        match option {
            ast::SequenceOptions::IncrementBy(n, _) => out.increment = Some(integer(n)?),
            ast::SequenceOptions::MinValue(n) => {
                out.min = Some(n.as_ref().map(integer).transpose()?)
            }
            ast::SequenceOptions::MaxValue(n) => {
                out.max = Some(n.as_ref().map(integer).transpose()?)
            }
            ast::SequenceOptions::StartWith(n, _) => out.start = Some(integer(n)?),
            ast::SequenceOptions::Cache(n) => out.cache = Some(integer(n)?),
            ast::SequenceOptions::Cycle(no) => out.cycle = Some(!no),
        }
    }
    Ok(out)
}

fn integer(expr: &Expr) -> Result<i64> {
    expr.to_string().replace(' ', "").parse().map_err(|_| {
        Error::new(
            state::SYNTAX_ERROR,
            format!("sequence option \"{expr}\" is not a number"),
        )
    })
}

impl Draft<'_> {
    pub fn create_sequence(&mut self, create: &parse::CreateSequence) -> Done<()> {
        if create.temporary {
            return Err(Error::unsupported("a temporary sequence").into());
        }
        let target = self.target(&create.name)?;
        if self.exists_already(&target, create.if_not_exists)? {
            return Ok(());
        }
        self.reserve(target.schema, &[&target.name], target.owner)?;
        let by = match create.options.owned_by.as_ref() {
            Some(Some(column)) => Some(self.owned_column(column, &target)?),
            _ => None,
        };
        let owned = Owned {
            by,
            identity: false,
        };
        let options = new_options(&create.options, Type::INT8, owned)?;
        self.put_sequence(target, options)?;
        Ok(())
    }

    /// Says whether the name is taken and that is fine (IF NOT EXISTS); 42P07 if it isn't.
    pub fn exists_already(&mut self, target: &Target, if_not_exists: bool) -> Result<bool> {
        if if_not_exists
            && self
                .catalog
                .relation_by_name(target.schema, &target.name)
                .is_some()
        {
            self.notice(Error::new(
                state::DUPLICATE_TABLE,
                format!("relation \"{}\" already exists, skipping", target.name),
            ));
            return Ok(true);
        }
        self.must_be_free(target.schema, &target.name)?;
        Ok(false)
    }

    /// Makes the relation behind a sequence and its first state.
    pub fn put_sequence(&mut self, target: Target, options: SequenceOptions) -> Done<Arc<Table>> {
        let id = TableId(self.oid(target.group)?);
        let (group, start) = (target.group, options.start);
        let table = Table {
            id,
            owner: target.owner,
            group,
            schema: target.schema,
            name: target.name,
            kind: TableKind::Sequence(options),
            tree: 0,
            key: Key::RowId,
            columns: sequence_columns(),
            indexes: Vec::new(),
            constraints: Vec::new(),
            referenced_by: Vec::new(),
            registered: Vec::new(),
            acl: None,
            options: BTreeMap::new(),
            comment: None,
            depends_on: Vec::new(),
            projection: None,
            history: None,
            former: Vec::new(),
            moving: None,
            since: Position::ZERO,
        };
        let table = self.create_table(table)?;
        self.work.push(Work::SetSequence {
            group,
            sequence: id,
            last: start,
            called: false,
        });
        Ok(table)
    }

    fn owned_column(
        &mut self,
        name: &ast::ObjectName,
        sequence: &Target,
    ) -> Done<(TableId, ColumnId)> {
        let mut names = parts(name)?;
        let column = names.pop().unwrap_or_default();
        if names.is_empty() {
            return Err(Error::new(state::SYNTAX_ERROR, "invalid OWNED BY option")
                .hint("Specify OWNED BY table.column or OWNED BY NONE.")
                .into());
        }
        let path: Vec<&str> = names.iter().map(String::as_str).collect();
        let table = self.catalog.resolve_table(&path, &self.path, self.role)?;
        if !table.is_ordinary() {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("sequence cannot be owned by relation \"{}\"", shown(&names)),
            )
            .into());
        }
        // What is a table's own goes with it.
        self.ground.lock(&table, TableMode::ShareUpdateExclusive)?;
        if table.owner != sequence.owner {
            return Err(Error::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "sequence must have same owner as table it is linked to",
            )
            .into());
        }
        if table.schema != sequence.schema {
            return Err(Error::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "sequence must be in same schema as table it is linked to",
            )
            .into());
        }
        let column = table
            .column(&column)
            .ok_or_else(|| no_column(&table, &column))?;
        Ok((table.id, column.id))
    }

    pub fn alter_sequence(&mut self, alter: &parse::AlterSequence) -> Done<()> {
        let Some(table) = self.sequence_named(&alter.name, alter.if_exists)? else {
            return Ok(());
        };
        self.alter_options(&table, &alter.options)
    }

    /// ALTER TABLE ... ALTER COLUMN ... SET GENERATED, RESTART, DROP IDENTITY.
    pub fn alter_identity(
        &mut self,
        name: &ast::ObjectName,
        column: &str,
        change: &IdentityChange,
    ) -> Done<()> {
        let table = self.own_table(name)?;
        self.ground.lock(&table, TableMode::AccessExclusive)?;
        let Some(column) = table.column(column).cloned() else {
            return Err(no_column(&table, column).into());
        };
        let Some(identity) = column.identity else {
            let message = format!(
                "column \"{}\" of relation \"{}\" is not an identity column",
                column.name, table.name
            );
            if *change == (IdentityChange::Drop { if_exists: true }) {
                let notice = format!("{message}, skipping");
                self.notice(Error::new(state::SUCCESSFUL_COMPLETION, notice));
                return Ok(());
            }
            return Err(Error::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message).into());
        };
        match change {
            IdentityChange::Drop { .. } => {
                self.remove_sequence(identity.sequence)?;
                self.edit_column(table.id, column.id, |c| c.identity = None)
            }
            IdentityChange::Set { always, options } => {
                let sequence = self.table(identity.sequence)?;
                self.alter_options(&sequence, options)?;
                let Some(always) = *always else {
                    return Ok(());
                };
                self.edit_column(table.id, column.id, |c| {
                    c.identity = Some(Identity { always, ..identity });
                })
            }
        }
    }

    fn alter_options(&mut self, table: &Table, given: &parse::SequenceOptions) -> Done<()> {
        self.ground.lock(table, TableMode::ShareRowExclusive)?;
        check_here(table)?;
        let TableKind::Sequence(old) = &table.kind else {
            return Err(Error::internal("a sequence has no options").into());
        };
        let changed = changed_options(old, given)?;
        let owned_by = match &given.owned_by {
            None => old.owned_by,
            Some(_) if old.identity => {
                return Err(Error::new(
                    state::FEATURE_NOT_SUPPORTED,
                    "cannot change ownership of identity sequence",
                )
                .into());
            }
            Some(None) => None,
            Some(Some(column)) => {
                let target = Target {
                    schema: table.schema,
                    name: table.name.clone(),
                    owner: table.owner,
                    group: table.group,
                };
                Some(self.owned_column(column, &target)?)
            }
        };
        let options = SequenceOptions {
            owned_by,
            ..changed
        };
        check(&options)?;
        if let Some(restart) = given.restart {
            let last = restart.unwrap_or(options.start);
            check_restart(last, &options)?;
            self.work.push(Work::SetSequence {
                group: table.group,
                sequence: table.id,
                last,
                called: false,
            });
        }
        self.edit_table(table.id, |t| t.kind = TableKind::Sequence(options))?;
        Ok(())
    }

    /// A sequence that the role acts for.
    pub fn sequence_named(
        &mut self,
        name: &ast::ObjectName,
        if_exists: bool,
    ) -> Result<Option<Arc<Table>>> {
        let found = match self.find(name)? {
            Some(found) => found,
            None if if_exists => {
                let name = shown(&parts(name)?);
                self.skips(&format!("relation \"{name}\" does not exist"));
                return Ok(None);
            }
            None => self.relation(name)?,
        };
        match found {
            Relation::Table(table) if matches!(table.kind, TableKind::Sequence(_)) => {
                self.catalog.must_own(self.role, &table)?;
                Ok(Some(table))
            }
            other => Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a sequence", other.name()),
            )),
        }
    }
}

fn check_restart(last: i64, o: &SequenceOptions) -> Result<()> {
    if last < o.min {
        return Err(invalid(format!(
            "RESTART value ({last}) cannot be less than MINVALUE ({})",
            o.min
        )));
    }
    if last > o.max {
        return Err(invalid(format!(
            "RESTART value ({last}) cannot be greater than MAXVALUE ({})",
            o.max
        )));
    }
    Ok(())
}

fn changed_options(
    old: &SequenceOptions,
    given: &parse::SequenceOptions,
) -> Result<SequenceOptions> {
    let mut new = old.clone();
    if let Some(ty) = &given.data_type {
        let ty = Type::parse(&ty.to_string())?;
        let (before, after) = (bounds(old.ty)?, bounds(ty)?);
        if old.max == before.1 {
            new.max = after.1;
        }
        if old.min == before.0 {
            new.min = after.0;
        }
        new.ty = ty;
    }
    let (least, most) = bounds(new.ty)?;
    if let Some(increment) = given.increment {
        new.increment = increment;
    }
    let up = new.increment > 0;
    if let Some(min) = given.min {
        new.min = min.unwrap_or(if up { 1 } else { least });
    }
    if let Some(max) = given.max {
        new.max = max.unwrap_or(if up { most } else { -1 });
    }
    if let Some(start) = given.start {
        new.start = start;
    }
    if let Some(cache) = given.cache {
        new.cache = cache;
    }
    if let Some(cycle) = given.cycle {
        new.cycle = cycle;
    }
    Ok(new)
}

/// What `SELECT * FROM sequence` shows.
fn sequence_columns() -> Vec<crate::catalog::Column> {
    [
        ("last_value", Type::INT8),
        ("log_cnt", Type::INT8),
        ("is_called", Type::BOOL),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (name, ty))| crate::catalog::Column {
        id: ColumnId(at as u32 + 1),
        number: at as i16 + 1,
        name: name.to_owned(),
        ty,
        not_null: true,
        default: None,
        identity: None,
        generated: None,
        missing: None,
        dropped: false,
        acl: None,
        comment: None,
        default_id: 0,
    })
    .collect()
}
