//! CREATE TABLE: columns, LIKE, options; constraints are in `constraint`.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::{self, ColumnOption, CreateTableOptions, GeneratedAs, SqlOption};
use storage::Position;

use super::draft::{Done, Draft, Use, Work};
use super::expression;
use super::name::{Target, ident};
use super::sequence::{self, Owned};
use super::wanted::Wanted;
use crate::catalog::{
    Column, ColumnId, Constraint, HISTORY, Identity, Index, IndexKey, Key, Relation, Table,
    TableId, TableKind, read_history,
};
use crate::parse::{self, Including, LikeClause};
use crate::types::datetime::read_timestamptz;
use crate::types::kind::oid;
use crate::types::{FormatSettings, Type};
use crate::{Error, Result, state};

/// Columns of one table, as in PostgreSQL.
const COLUMNS_MAX: usize = 1600;

/// Storage parameters of PostgreSQL: accepted, without effect here.
const IGNORED_OPTIONS: [&str; 4] = [
    "fillfactor",
    "toast_tuple_target",
    "parallel_workers",
    "oids",
];

impl Draft<'_> {
    /// CREATE TABLE and CREATE TABLE AS; false: IF NOT EXISTS, and it does.
    pub fn create_table_statement(&mut self, create: &parse::CreateTable) -> Done<bool> {
        let ast = &create.table;
        self.refuse_unsupported(ast)?;
        let target = self.target(&ast.name)?;
        if self.exists_already(&target, ast.if_not_exists)? {
            return Ok(false);
        }
        self.reserve(target.schema, &[&target.name], target.owner)?;
        let id = TableId(self.oid(target.group)?);
        let options = self.table_options(&ast.table_options)?;
        let mut table = empty_table(&target, id, options);
        let mut wanted = Vec::new();
        let mut serials = Vec::new();
        if let Some(query) = &ast.query {
            self.query_columns(&mut table, query, &ast.columns)?;
        } else {
            self.columns_and_likes(create, &mut table, &mut wanted, &mut serials)?;
        }
        if table.is_event() && ast.query.is_some() {
            let error = Error::unsupported("CREATE TABLE AS for an event table");
            return Err(error.hint("Create it, and INSERT the events.").into());
        }
        let inbox = table.is_inbox();
        if inbox {
            self.check_inbox(&table, serials.is_empty())?;
            self.inbox_columns(&mut table)?;
        }
        self.create_table(table)?;
        for (column, kind) in serials {
            self.add_sequence(id, &column, kind, create)?;
        }
        for constraint in &ast.constraints {
            wanted.push(Wanted::of_table(constraint)?);
        }
        if inbox {
            Wanted::of_inbox(&mut wanted);
        }
        self.add_constraints(id, wanted, true)?;
        self.check_columns(id)?;
        if let Some(query) = &ast.query
            && create.with_data
        {
            self.work.push(Work::Fill {
                table: id,
                query: query.clone(),
            });
        }
        Ok(true)
    }

    fn refuse_unsupported(&mut self, ast: &ast::CreateTable) -> Result<()> {
        let refuse = |what: &str| Err(Error::unsupported(what));
        if ast.temporary {
            return Err(Error::unsupported("a temporary table")
                .hint("Create an ordinary table in your private schema and drop it."));
        }
        if ast.partition_by.is_some() || ast.partition_of.is_some() {
            return refuse("partitioning of tables");
        }
        if ast.inherits.is_some() {
            return refuse("inheritance of tables");
        }
        if ast.unlogged {
            self.notice(Error::new(
                state::SUCCESSFUL_COMPLETION,
                "UNLOGGED is ignored: the table is durable",
            ));
        }
        Ok(())
    }

    fn columns_and_likes(
        &mut self,
        create: &parse::CreateTable,
        table: &mut Table,
        wanted: &mut Vec<Wanted>,
        serials: &mut Vec<(String, Numbered)>,
    ) -> Done<()> {
        let mut likes = create.likes.iter().peekable();
        for at in 0..=create.table.columns.len() {
            while let Some(like) = likes.next_if(|l| l.after_columns <= at) {
                self.like(table, like, wanted, serials)?;
            }
            if let Some(column) = create.table.columns.get(at) {
                self.column(table, column, wanted, serials)?;
            }
        }
        Ok(())
    }

    /// Adds one column of a definition; its constraints and its sequence come later.
    pub fn column(
        &mut self,
        table: &mut Table,
        def: &ast::ColumnDef,
        wanted: &mut Vec<Wanted>,
        serials: &mut Vec<(String, Numbered)>,
    ) -> Done<()> {
        let name = ident(&def.name);
        let (ty, serial) = column_type(&def.data_type, &name)?;
        let mut column = new_column(table, name.clone(), ty)?;
        if serial {
            column.not_null = true;
            serials.push((name.clone(), Numbered::Serial));
        }
        let mut null = false;
        for option in &def.options {
            let named = option.name.as_ref().map(ident);
            match &option.option {
                ColumnOption::Null => null = true,
                ColumnOption::NotNull => column.not_null = true,
                ColumnOption::Default(expr) => {
                    if serial {
                        return Err(several("default values", &name, table).into());
                    }
                    // As PostgreSQL: a plain NULL is no default.
                    if !matches!(expr, ast::Expr::Value(v) if v.value == ast::Value::Null) {
                        column.default = Some(self.stored(expr)?);
                        column.default_id = self.oid(table.group)?;
                    }
                }
                ColumnOption::Generated {
                    generated_as,
                    sequence_options,
                    generation_expr,
                    ..
                } => match (generated_as, generation_expr) {
                    (GeneratedAs::Always | GeneratedAs::ByDefault, None) => {
                        let always = matches!(generated_as, GeneratedAs::Always);
                        let options = sequence::identity_options(sequence_options.as_ref())?;
                        if serials.iter().any(|(numbered, _)| *numbered == name) {
                            let message = format!(
                                "multiple identity specifications for column \"{name}\" of table \
                                 \"{}\"",
                                table.name
                            );
                            return Err(Error::new(state::SYNTAX_ERROR, message).into());
                        }
                        column.not_null = true;
                        serials.push((name.clone(), Numbered::Identity { always, options }));
                    }
                    (_, Some(expr)) => {
                        column.generated = Some(self.stored(expr)?);
                        column.default_id = self.oid(table.group)?;
                    }
                    (GeneratedAs::ExpStored, None) => {
                        return Err(Error::new(state::SYNTAX_ERROR, "syntax error").into());
                    }
                },
                ColumnOption::Collation(collation) => {
                    check_collation(collation)?;
                    if !is_collatable(ty) {
                        let message =
                            format!("collations are not supported by type {}", ty.plain().name());
                        return Err(Error::new(state::DATATYPE_MISMATCH, message).into());
                    }
                }
                other => match Wanted::of_column(other, named, &name)? {
                    Some(constraint) => wanted.push(constraint),
                    None => {
                        return Err(Error::unsupported(format!("column option \"{other}\"")).into());
                    }
                },
            }
        }
        if column.default.is_some() && serials.iter().any(|(numbered, _)| *numbered == name) {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!(
                    "both default and identity specified for column \"{name}\" of table \"{}\"",
                    table.name
                ),
            )
            .into());
        }
        if null && column.not_null {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!(
                    "conflicting NULL/NOT NULL declarations for column \"{name}\" of table \"{}\"",
                    table.name
                ),
            )
            .into());
        }
        if column.generated.is_some() && column.default.is_some() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!(
                    "both default and generation expression specified for column \"{name}\" of \
                     table \"{}\"",
                    table.name
                ),
            )
            .into());
        }
        table.columns.push(column);
        Ok(())
    }

    /// Makes the sequence of a serial or identity column and ties it to the column.
    pub fn add_sequence(
        &mut self,
        id: TableId,
        column: &str,
        kind: Numbered,
        create: &parse::CreateTable,
    ) -> Done<()> {
        let named = create
            .sequences
            .iter()
            .find(|(c, _)| c == column)
            .map(|(_, name)| name);
        self.add_sequence_named(id, column, kind, named)
    }

    pub fn add_sequence_named(
        &mut self,
        id: TableId,
        column: &str,
        kind: Numbered,
        named: Option<&ast::ObjectName>,
    ) -> Done<()> {
        let table = self.table(id)?;
        let found = table.column(column);
        let found = found.ok_or_else(|| Error::internal("a serial column is missing"))?;
        let owned = Owned {
            by: Some((id, found.id)),
            identity: matches!(kind, Numbered::Identity { .. }),
        };
        let given = match &kind {
            Numbered::Serial => parse::SequenceOptions::default(),
            Numbered::Identity { options, .. } => options.clone(),
        };
        if owned.identity && !matches!(found.ty.oid, oid::INT2 | oid::INT4 | oid::INT8) {
            return Err(Error::new(
                state::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            )
            .into());
        }
        let options = sequence::new_options(&given, found.ty, owned)?;
        let name = match named {
            Some(name) => super::name::parts(name)?.pop().unwrap_or_default(),
            None => self.free_name(table.schema, &table.name, column, "seq", &[]),
        };
        self.must_be_free(table.schema, &name)?;
        self.reserve(table.schema, &[&name], table.owner)?;
        let target = Target {
            schema: table.schema,
            name,
            owner: table.owner,
            group: table.group,
        };
        let sequence = self.put_sequence(target, options)?.id;
        let default_id = match kind {
            Numbered::Serial => self.oid(table.group)?,
            Numbered::Identity { .. } => 0,
        };
        let at = table
            .columns
            .iter()
            .position(|c| !c.dropped && c.name == column);
        self.edit_table(id, |t| {
            let Some(column) = at.and_then(|at| t.columns.get_mut(at)) else {
                return;
            };
            match kind {
                Numbered::Serial => {
                    column.default = Some(expression::nextval(sequence.0));
                    column.default_id = default_id;
                }
                Numbered::Identity { always, .. } => {
                    column.identity = Some(Identity { always, sequence });
                }
            }
        })?;
        Ok(())
    }

    /// `WITH (...)`, checked.
    pub fn table_options(&self, options: &CreateTableOptions) -> Result<BTreeMap<String, String>> {
        let list = match options {
            CreateTableOptions::None => return Ok(BTreeMap::new()),
            CreateTableOptions::With(list)
            | CreateTableOptions::Options(list)
            | CreateTableOptions::Plain(list)
            | CreateTableOptions::TableProperties(list) => list,
        };
        self.options(list)
    }

    /// Storage parameters as a map; unknown ones are 22023.
    pub fn options(&self, list: &[SqlOption]) -> Result<BTreeMap<String, String>> {
        let mut out = BTreeMap::new();
        for option in list {
            let (name, value) = match option {
                SqlOption::KeyValue { key, value } => (ident(key), option_value(value)),
                SqlOption::Ident(key) => (ident(key), "true".to_owned()),
                other => {
                    return Err(Error::new(
                        state::INVALID_PARAMETER_VALUE,
                        format!("unrecognized parameter \"{other}\""),
                    ));
                }
            };
            check_option(&name, &value)?;
            out.insert(name, value);
        }
        Ok(out)
    }

    fn query_columns(
        &mut self,
        table: &mut Table,
        query: &ast::Query,
        names: &[ast::ColumnDef],
    ) -> Done<()> {
        let described = self.ground.describe_query(&self.catalog, query)?;
        if names.len() > described.columns.len() {
            return Err(
                Error::new(state::SYNTAX_ERROR, "too many column names were specified").into(),
            );
        }
        for (at, (name, ty)) in described.columns.into_iter().enumerate() {
            let name = names.get(at).map_or(name, |def| ident(&def.name));
            if ty.is_pseudo() && ty.oid != oid::UNKNOWN {
                return Err(pseudo(&name, ty).into());
            }
            // As PostgreSQL: literals without a type become text.
            let ty = if ty.oid == oid::UNKNOWN {
                Type::TEXT
            } else {
                ty
            };
            let column = new_column(table, name, ty)?;
            table.columns.push(column);
        }
        Ok(())
    }

    /// Columns of LIKE and what INCLUDING asks for.
    fn like(
        &mut self,
        table: &mut Table,
        like: &LikeClause,
        wanted: &mut Vec<Wanted>,
        serials: &mut Vec<(String, Numbered)>,
    ) -> Done<()> {
        let source = match self.relation(&like.table)? {
            Relation::Table(source)
                if matches!(source.kind, TableKind::Table | TableKind::View(_)) =>
            {
                source
            }
            other => {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("relation \"{}\" is invalid in LIKE clause", other.name()),
                )
                .into());
            }
        };
        self.catalog
            .may(self.role, &source, crate::catalog::Privilege::Select, None)?;
        let first = table.columns.len();
        let mut map = BTreeMap::new();
        for from in source.live_columns() {
            let mut column = new_column(table, from.name.clone(), from.ty)?;
            column.not_null = from.not_null;
            self.like_value(&source, from, like.including, &mut column, serials)?;
            if column.default.is_some() || column.generated.is_some() {
                column.default_id = self.oid(table.group)?;
            }
            if like.including.comments {
                column.comment.clone_from(&from.comment);
            }
            map.insert(from.id, column.id);
            table.columns.push(column);
        }
        debug_assert!(table.columns.len() >= first);
        if like.including.comments && source.comment.is_some() && table.comment.is_none() {
            // As PostgreSQL: comments of columns, constraints and indexes only.
        }
        like_constraints(&source, like.including, wanted);
        if like.including.indexes {
            for index in &source.indexes {
                wanted.push(Wanted::copy_of_index(&source, index, &map));
            }
        }
        Ok(())
    }

    fn like_value(
        &mut self,
        source: &Table,
        from: &Column,
        including: Including,
        column: &mut Column,
        serials: &mut Vec<(String, Numbered)>,
    ) -> Done<()> {
        if including.defaults {
            column.default.clone_from(&from.default);
        }
        if including.generated {
            column.generated.clone_from(&from.generated);
        }
        if let (true, Some(identity)) = (including.identity, from.identity) {
            let options = match self.table(identity.sequence)?.kind.clone() {
                TableKind::Sequence(o) => parse::SequenceOptions {
                    increment: Some(o.increment),
                    min: Some(Some(o.min)),
                    max: Some(Some(o.max)),
                    start: Some(o.start),
                    cache: Some(o.cache),
                    cycle: Some(o.cycle),
                    ..parse::SequenceOptions::default()
                },
                _ => return Err(Error::internal("an identity column has no sequence").into()),
            };
            let always = identity.always;
            serials.push((from.name.clone(), Numbered::Identity { always, options }));
        }
        let _ = source;
        Ok(())
    }

    /// Checks defaults and generated columns, once all columns are known.
    pub fn check_columns(&mut self, id: TableId) -> Done<()> {
        let table = self.table(id)?;
        for column in table.live_columns() {
            self.check_column(&table, column)?;
        }
        Ok(())
    }

    /// Checks one column's default or generation expression.
    pub fn check_column(&mut self, table: &Arc<Table>, column: &Column) -> Done<()> {
        let catalog = Arc::clone(&self.catalog);
        if let Some(text) = &column.default {
            self.ground
                .check_expression(&catalog, table, text, Some(column), Use::Default)?;
        }
        if let Some(text) = &column.generated {
            let uses = expression::columns_in(table, text);
            for other in table.live_columns().filter(|c| uses.contains(&c.id)) {
                if other.generated.is_some() {
                    return Err(Error::new(
                        state::INVALID_OBJECT_DEFINITION,
                        format!(
                            "cannot use generated column \"{}\" in column generation expression",
                            other.name
                        ),
                    )
                    .detail("A generated column cannot reference another generated column.")
                    .into());
                }
            }
            self.ground
                .check_expression(&catalog, table, text, Some(column), Use::Generated)?;
        }
        Ok(())
    }
}

/// A column whose numbers come from a sequence of its own.
#[derive(Clone, Debug)]
pub(super) enum Numbered {
    /// `serial`.
    Serial,
    /// `GENERATED ... AS IDENTITY`.
    Identity {
        always: bool,
        options: parse::SequenceOptions,
    },
}

fn like_constraints(source: &Table, including: Including, wanted: &mut Vec<Wanted>) {
    for constraint in &source.constraints {
        if let Constraint::Check {
            name,
            expression,
            comment,
            ..
        } = constraint
            && including.constraints
        {
            wanted.push(Wanted::Check {
                name: Some(name.clone()),
                column: None,
                expression: expression.clone(),
                comment: comment.clone().filter(|_| including.comments),
            });
        }
    }
}

/// A relation without columns.
pub(super) fn empty_table(
    target: &Target,
    id: TableId,
    options: BTreeMap<String, String>,
) -> Table {
    Table {
        id,
        owner: target.owner,
        group: target.group,
        schema: target.schema,
        name: target.name.clone(),
        kind: TableKind::Table,
        tree: id.0,
        key: Key::RowId,
        columns: Vec::new(),
        indexes: Vec::new(),
        constraints: Vec::new(),
        referenced_by: Vec::new(),
        registered: Vec::new(),
        acl: None,
        options,
        comment: None,
        depends_on: Vec::new(),
        projection: None,
        history: None,
        former: Vec::new(),
        moving: None,
        since: Position::ZERO,
    }
}

/// The next column of a table.
pub(super) fn new_column(table: &Table, name: String, ty: Type) -> Result<Column> {
    if table.column(&name).is_some() {
        return Err(Error::new(
            state::DUPLICATE_COLUMN,
            format!("column \"{name}\" specified more than once"),
        ));
    }
    if table.columns.len() >= COLUMNS_MAX {
        return Err(Error::new(
            state::TOO_MANY_COLUMNS,
            format!("tables can have at most {COLUMNS_MAX} columns"),
        ));
    }
    if crate::catalog::SYSTEM_COLUMNS.contains(&name.as_str()) {
        return Err(Error::new(
            state::DUPLICATE_COLUMN,
            format!("column name \"{name}\" conflicts with a system column name"),
        ));
    }
    let number = table.columns.len() as i16 + 1;
    Ok(Column {
        id: ColumnId(number as u32),
        number,
        name,
        ty,
        not_null: false,
        default: None,
        identity: None,
        generated: None,
        missing: None,
        dropped: false,
        acl: None,
        comment: None,
        default_id: 0,
    })
}

/// A column's type; the serial types say so.
pub(super) fn column_type(data_type: &ast::DataType, column: &str) -> Result<(Type, bool)> {
    let text = data_type.to_string();
    let serial = match text.to_ascii_lowercase().as_str() {
        "serial" | "serial4" => Some(Type::INT4),
        "bigserial" | "serial8" => Some(Type::INT8),
        "smallserial" | "serial2" => Some(Type::INT2),
        _ => None,
    };
    if let Some(ty) = serial {
        return Ok((ty, true));
    }
    let ty = Type::parse(&text)?;
    if ty.is_pseudo() {
        return Err(pseudo(column, ty));
    }
    Ok((ty, false))
}

fn pseudo(column: &str, ty: Type) -> Error {
    Error::new(
        state::INVALID_TABLE_DEFINITION,
        format!("column \"{column}\" has pseudo-type {}", ty.name()),
    )
}

fn several(what: &str, column: &str, table: &Table) -> Error {
    Error::new(
        state::SYNTAX_ERROR,
        format!(
            "multiple {what} specified for column \"{column}\" of table \"{}\"",
            table.name
        ),
    )
}

/// Text is ordered as in C.UTF-8: the collations that mean it are accepted.
pub(super) fn check_collation(collation: &ast::ObjectName) -> Result<()> {
    let name = super::name::parts(collation)?.pop().unwrap_or_default();
    match name.as_str() {
        "default" | "C" | "POSIX" | "c" | "posix" | "ucs_basic" | "C.UTF-8" | "C.utf8" => Ok(()),
        _ => Err(Error::new(
            state::UNDEFINED_OBJECT,
            format!("collation \"{name}\" for encoding \"UTF8\" does not exist"),
        )),
    }
}

/// Whether values of a type have an order that a collation gives.
fn is_collatable(ty: Type) -> bool {
    let base = ty.element().unwrap_or(ty).plain();
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME].contains(&base)
}

/// The value of a `WITH` option as text.
fn option_value(value: &ast::Expr) -> String {
    match value {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::SingleQuotedString(s) => s.clone(),
            other => other.to_string().to_lowercase(),
        },
        other => other.to_string().to_lowercase(),
    }
}

fn check_option(name: &str, value: &str) -> Result<()> {
    let invalid = |expected: &str| {
        Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{name}\": \"{value}\""),
        )
        .hint(expected.to_owned()))
    };
    match name {
        HISTORY => match read_history(value) {
            Some(_) => Ok(()),
            None => invalid("It is 'off', 'forever', or an interval as '30 days'."),
        },
        "sunset" => match read_timestamptz(value, &FormatSettings::default()) {
            Ok(_) => Ok(()),
            Err(_) => invalid("It is a date, as '2027-01-31'."),
        },
        "inbox" | "event" => match value {
            "true" | "false" => Ok(()),
            _ => invalid("It is true or false."),
        },
        _ if IGNORED_OPTIONS.contains(&name)
            || name.starts_with("autovacuum_")
            || name.starts_with("toast.")
            || name == "user_catalog_table"
            || name == "log_autovacuum_min_duration"
            || name == "vacuum_truncate"
            || name == "vacuum_index_cleanup" =>
        {
            Ok(())
        }
        _ => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("unrecognized parameter \"{name}\""),
        )),
    }
}

/// The index key columns of a copied index, in the new table's ids.
pub(super) fn map_index(
    index: &Index,
    map: &BTreeMap<ColumnId, ColumnId>,
) -> Vec<crate::catalog::IndexColumn> {
    let mut columns = index.columns.clone();
    for column in &mut columns {
        if let IndexKey::Column(id) = &mut column.what
            && let Some(new) = map.get(id)
        {
            *id = *new;
        }
    }
    columns
}
