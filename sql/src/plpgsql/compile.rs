//! From a function's descriptor to its code, kept for as long as the catalog is the same.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::parse::{Parser, Types};
use super::query::{Names, Query, without_position};
use super::tree::{Block, Code, Into, Kind, Returns, Sql, Statement, Target, Variable, What};
use crate::bind::Conflict;
use crate::catalog::{Catalog, Language, RoleId, Routine, SchemaId, Table, Volatility};
use crate::exec::ExecCx;
use crate::parse;
use crate::types::kind::oid;
use crate::types::{Shape, Type};
use crate::{Error, Result, state};

/// Functions whose code is kept; all are dropped when there are more.
const CODES_MAX: usize = 2048;

struct Kept {
    version: u64,
    code: Arc<Code>,
}

/// By function and table (0 = none).
static KEPT: LazyLock<Mutex<HashMap<(u32, u32), Kept>>> = LazyLock::new(Mutex::default);

/// A function's code, for a trigger of a table or for a plain call.
///
/// # Errors
/// What its text raises: it may name what is gone.
pub(super) fn of_routine(
    routine: &Arc<Routine>,
    table: Option<&Arc<Table>>,
    cx: &ExecCx<'_>,
) -> Result<Arc<Code>> {
    let catalog = cx.transaction.catalog();
    let key = (routine.id, table.map_or(0, |table| table.id.0));
    let version = catalog.version();
    if let Some(kept) = KEPT.lock().get(&key)
        && kept.version == version
    {
        return Ok(Arc::clone(&kept.code));
    }
    let types = CatalogTypes {
        catalog,
        role: cx.role,
        path: cx.path,
    };
    let code = Arc::new(compile(routine, table, &types)?);
    let mut all = KEPT.lock();
    if all.len() >= CODES_MAX {
        all.clear();
    }
    let kept = Kept {
        version,
        code: Arc::clone(&code),
    };
    all.insert(key, kept);
    Ok(code)
}

/// The code of a DO block.
///
/// # Errors
/// What its text raises.
pub(super) fn of_block(block: &parse::Block, cx: &ExecCx<'_>) -> Result<Code> {
    let language = block.language.as_deref().unwrap_or("plpgsql");
    if super::language(language)? != Language::Plpgsql {
        let message = format!("language \"{language}\" does not support inline code execution");
        return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
    }
    let types = CatalogTypes {
        catalog: cx.transaction.catalog(),
        role: cx.role,
        path: cx.path,
    };
    let made = Made::new("inline_code_block", Vec::new(), Vec::new());
    made.plpgsql(&block.body, &types, Returns::Nothing, true)
}

/// Checks the text of a function that is being created.
///
/// # Errors
/// 42601 and what else is found in it without running it.
pub fn check(
    routine: &Routine,
    catalog: &Arc<Catalog>,
    role: RoleId,
    path: &[SchemaId],
) -> Result<()> {
    let types = CatalogTypes {
        catalog,
        role,
        path,
    };
    compile(routine, None, &types).map(drop)
}

fn compile(
    routine: &Routine,
    table: Option<&Arc<Table>>,
    types: &CatalogTypes<'_>,
) -> Result<Code> {
    let writes = routine.volatility == Volatility::Volatile;
    let made = match routine.is_trigger() {
        true => trigger_variables(routine, table),
        false => argument_variables(routine),
    };
    let returns = match routine.returns.oid {
        oid::VOID => Returns::Nothing,
        oid::TRIGGER => Returns::Row,
        _ => Returns::Value(routine.returns),
    };
    match routine.language {
        Language::Plpgsql => made.plpgsql(&routine.source, types, returns, writes),
        Language::Sql => made.sql(&routine.source, returns, writes),
    }
}

/// A function before its body: the variables that nobody declares.
struct Made {
    name: String,
    variables: Vec<Variable>,
    arguments: usize,
    names: Vec<(String, usize)>,
    label: Option<String>,
}

impl Made {
    fn new(name: &str, variables: Vec<Variable>, names: Vec<(String, usize)>) -> Made {
        Made {
            name: name.to_owned(),
            arguments: variables.len(),
            variables,
            names,
            label: None,
        }
    }

    /// Adds a variable under its own name.
    fn add(&mut self, name: &str, kind: Kind) {
        self.names.push((name.to_owned(), self.variables.len()));
        self.variables.push(Variable::made(name, kind));
    }

    fn plpgsql(
        mut self,
        source: &str,
        types: &CatalogTypes<'_>,
        returns: Returns,
        writes: bool,
    ) -> Result<Code> {
        let found = self.variables.len();
        self.variables
            .push(Variable::made("found", Kind::Scalar(Type::BOOL)));
        let outermost = Names {
            outer: None,
            label: None,
            names: vec![("found".to_owned(), found)],
        };
        let names = Names {
            outer: Some(Arc::new(outermost)),
            label: self.label,
            names: self.names,
        };
        let mut parser = Parser::new(source, types, self.variables, Arc::new(names), returns)?;
        let body = parser.body().map_err(without_position)?;
        Ok(Code {
            name: self.name,
            language: Language::Plpgsql,
            variables: parser.variables,
            arguments: self.arguments,
            found,
            returns,
            writes,
            body,
        })
    }

    /// Statements of SQL: the first row of the last one is the result.
    fn sql(mut self, source: &str, returns: Returns, writes: bool) -> Result<Code> {
        let found = self.variables.len();
        self.variables
            .push(Variable::made("", Kind::Scalar(Type::BOOL)));
        let value = self.variables.len();
        let kind = match returns {
            Returns::Value(ty) => Kind::Scalar(ty),
            Returns::Nothing | Returns::Row => Kind::Record,
        };
        self.variables.push(Variable::made("", kind));
        let names = Arc::new(Names {
            outer: None,
            label: self.label,
            names: self.names,
        });
        let statements = parse::parse(source).map_err(without_position)?;
        let count = statements.len();
        let mut body = Vec::with_capacity(count + 1);
        for (at, parsed) in statements.into_iter().enumerate() {
            let last = at + 1 == count && returns != Returns::Nothing;
            let text = parsed.text;
            let query = Query::statement(&text, &text, &names, Conflict::Column)?;
            let into = match (gives_rows(&query), last) {
                (true, true) => Some(Into::Each(vec![Target::of(value)])),
                (true, false) => Some(Into::Each(Vec::new())),
                (false, true) => return Err(no_result(returns)),
                (false, false) => None,
            };
            let into = into.map(|into| (into, false));
            body.push(Statement {
                line: u32::try_from(at + 1).unwrap_or(u32::MAX),
                what: What::Sql(Box::new(Sql { query, into })),
            });
        }
        if returns != Returns::Nothing {
            if count == 0 {
                return Err(no_result(returns));
            }
            let query = Query::variable(value, &names)?;
            body.push(Statement {
                line: 0,
                what: What::Return(Some(query)),
            });
        }
        Ok(Code {
            name: self.name,
            language: Language::Sql,
            variables: self.variables,
            arguments: self.arguments,
            found,
            returns,
            writes,
            body: Block::of(body),
        })
    }
}

/// Does a statement give rows, by its form?
fn gives_rows(query: &Query) -> bool {
    use sqlparser::ast::{SetExpr, Statement as Ast};
    let super::query::Form::Query(statement) = &query.form else {
        return false;
    };
    match statement.as_ref() {
        Ast::Query(query) => !matches!(
            query.body.as_ref(),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)
        ),
        Ast::Insert(insert) => insert.returning.is_some(),
        Ast::Update(update) => update.returning.is_some(),
        Ast::Delete(delete) => delete.returning.is_some(),
        _ => false,
    }
}

/// 42P13.
fn no_result(returns: Returns) -> Error {
    let ty = match returns {
        Returns::Value(ty) => ty.name(),
        Returns::Nothing | Returns::Row => "record".to_owned(),
    };
    Error::new(
        state::INVALID_FUNCTION_DEFINITION,
        format!("return type mismatch in function declared to return {ty}"),
    )
    .detail("Function's final statement must be SELECT or INSERT/UPDATE/DELETE RETURNING.")
}

fn argument_variables(routine: &Routine) -> Made {
    let (mut variables, mut names) = (Vec::new(), Vec::new());
    for (at, argument) in routine.arguments.iter().enumerate() {
        let name = match &argument.name {
            Some(name) => {
                names.push((name.clone(), at));
                name.clone()
            }
            None => format!("${}", at + 1),
        };
        variables.push(Variable::made(&name, Kind::Scalar(argument.ty)));
    }
    let name = match routine.language {
        Language::Plpgsql => routine.signature_with(","),
        Language::Sql => routine.name.clone(),
    };
    let mut made = Made::new(&name, variables, names);
    made.label = Some(routine.name.clone());
    made
}

/// What a trigger's function knows, in the order of [`super::trigger::values`].
fn trigger_variables(routine: &Routine, table: Option<&Arc<Table>>) -> Made {
    let mut made = Made::new(&routine.signature_with(","), Vec::new(), Vec::new());
    made.label = Some(routine.name.clone());
    let row = || match table {
        Some(table) => Kind::Row(row_shape(table)),
        None => Kind::Record,
    };
    made.add("new", row());
    made.add("old", row());
    for (name, ty) in [
        ("tg_name", Type::NAME),
        ("tg_when", Type::TEXT),
        ("tg_level", Type::TEXT),
        ("tg_op", Type::TEXT),
        ("tg_relid", Type::OID),
        ("tg_relname", Type::NAME),
        ("tg_table_name", Type::NAME),
        ("tg_table_schema", Type::NAME),
        ("tg_nargs", Type::INT4),
        ("tg_argv", Type::new(oid::TEXT_ARRAY)),
    ] {
        made.add(name, Kind::Scalar(ty));
    }
    made
}

/// The shape of a table's rows: the columns that there are.
pub(super) fn row_shape(table: &Table) -> Arc<Shape> {
    Arc::new(Shape {
        names: table
            .live_columns()
            .map(|c| Arc::from(c.name.as_str()))
            .collect(),
        types: table.live_columns().map(|c| c.ty).collect(),
    })
}

/// Types by name, as a role sees them.
struct CatalogTypes<'a> {
    catalog: &'a Arc<Catalog>,
    role: RoleId,
    path: &'a [SchemaId],
}

impl CatalogTypes<'_> {
    fn table(&self, parts: &[String]) -> Result<Arc<Table>> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.catalog.resolve_table(&parts, self.path, self.role)
    }
}

impl Types for CatalogTypes<'_> {
    fn named(&self, text: &str) -> Result<Kind> {
        if text.eq_ignore_ascii_case("record") {
            return Ok(Kind::Record);
        }
        if let Some((name, suffix)) = text.rsplit_once('%') {
            let mut parts = crate::parse::name_parts(name)?;
            return match suffix.trim().to_ascii_lowercase().as_str() {
                "rowtype" => Ok(Kind::Row(row_shape(&*self.table(&parts)?))),
                "type" => {
                    let column = parts.pop().unwrap_or_default();
                    if parts.is_empty() {
                        let message = format!("variable \"{column}\" does not exist");
                        return Err(Error::new(state::UNDEFINED_OBJECT, message));
                    }
                    let table = self.table(&parts)?;
                    let found = table.column(&column).map(|column| Kind::Scalar(column.ty));
                    found.ok_or_else(|| {
                        let message = format!(
                            "column \"{column}\" of relation \"{}\" does not exist",
                            table.name
                        );
                        Error::new(state::UNDEFINED_COLUMN, message)
                    })
                }
                _ => Err(Error::new(state::SYNTAX_ERROR, "invalid type name")),
            };
        }
        let error = match Type::parse(text) {
            Ok(ty) if ty.is_pseudo() => {
                let message = format!("variable has pseudo-type {}", ty.name());
                return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
            }
            Ok(ty) => return Ok(Kind::Scalar(ty)),
            Err(error) => error,
        };
        if let Ok(parts) = crate::parse::name_parts(text)
            && let Ok(table) = self.table(&parts)
        {
            return Ok(Kind::Row(row_shape(&table)));
        }
        Err(without_position(error))
    }
}
