//! The syntax tree of a function: names of variables are slots already, SQL is parsed and waits
//! to be planned with the types that the variables have when it runs.

use std::sync::Arc;

use super::conditions::Condition;
use super::query::Query;
use crate::catalog::Language;
use crate::types::{Datum, Shape, Type};

/// A function or DO block, ready to run.
#[derive(Debug)]
pub(super) struct Code {
    /// As CONTEXT names it: `f(integer)`, `inline_code_block`.
    pub name: String,
    pub language: Language,
    /// Every variable of every block, by slot. The first ones are the arguments.
    pub variables: Vec<Variable>,
    /// How many arguments there are.
    pub arguments: usize,
    /// Where FOUND is.
    pub found: usize,
    /// What RETURN gives.
    pub returns: Returns,
    /// May its statements write?
    pub writes: bool,
    /// The outermost block.
    pub body: Block,
}

/// What a function gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    /// Nothing: `void`, and DO blocks.
    Nothing,
    /// A value.
    Value(Type),
    /// A row, or NULL.
    Row,
}

/// A variable.
#[derive(Debug)]
pub(super) struct Variable {
    pub name: String,
    pub kind: Kind,
    pub not_null: bool,
    pub constant: bool,
    /// The value at the beginning of its block.
    pub default: Option<Query>,
    pub line: u32,
}

/// What a variable holds.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// One value.
    Scalar(Type),
    /// A row of any shape.
    Record,
    /// A row of this shape.
    Row(Arc<Shape>),
}

/// `[ <<label>> ] [ DECLARE ... ] BEGIN ... [ EXCEPTION ... ] END`.
#[derive(Debug)]
pub(super) struct Block {
    pub label: Option<String>,
    pub line: u32,
    /// Slots of the variables declared here, in order.
    pub declared: Vec<usize>,
    pub body: Vec<Statement>,
    pub handlers: Vec<Handler>,
    /// Where SQLSTATE and SQLERRM are, if there are handlers.
    pub caught: Option<(usize, usize)>,
}

/// `WHEN a OR b THEN ...`.
#[derive(Debug)]
pub(super) struct Handler {
    pub conditions: Vec<Condition>,
    pub body: Vec<Statement>,
}

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Statement {
    pub line: u32,
    pub what: What,
}

/// What a statement does.
#[derive(Debug)]
pub(super) enum What {
    Block(Block),
    Assign(Target, Query),
    If(Vec<(Query, Vec<Statement>)>, Option<Vec<Statement>>),
    Case(Case),
    Loop(Option<String>, Vec<Statement>),
    While(Option<String>, Query, Vec<Statement>),
    ForRange(Box<ForRange>),
    ForQuery(Box<ForQuery>),
    ForEach(Box<ForEach>),
    Exit(Exit),
    Return(Option<Query>),
    Raise(Box<Raise>),
    Assert(Query, Option<Query>),
    Perform(Query),
    Sql(Box<Sql>),
    Execute(Box<Execute>),
    Diagnostics(bool, Vec<(Target, Item)>),
    Null,
}

impl What {
    /// As CONTEXT names it.
    pub fn name(&self) -> &'static str {
        match self {
            What::Block(_) => "statement block",
            What::Assign(..) => "assignment",
            What::If(..) => "IF",
            What::Case(_) => "CASE",
            What::Loop(..) => "LOOP",
            What::While(..) => "WHILE",
            What::ForRange(_) => "FOR with integer loop variable",
            What::ForQuery(each) => match each.source {
                Source::Query(_) => "FOR over SELECT rows",
                Source::Execute(_) => "FOR over EXECUTE statement",
            },
            What::ForEach(_) => "FOREACH over array",
            What::Exit(exit) if exit.continues => "CONTINUE",
            What::Exit(_) => "EXIT",
            What::Return(_) => "RETURN",
            What::Raise(_) => "RAISE",
            What::Assert(..) => "ASSERT",
            What::Perform(_) => "PERFORM",
            What::Sql(_) => "SQL statement",
            What::Execute(_) => "EXECUTE",
            What::Diagnostics(true, _) => "GET STACKED DIAGNOSTICS",
            What::Diagnostics(false, _) => "GET DIAGNOSTICS",
            What::Null => "NULL",
        }
    }
}

/// Where a value goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub slot: usize,
    /// A field of a row.
    pub field: Option<String>,
    /// An element of an array.
    pub subscripts: Vec<Arc<Query>>,
}

/// `CASE`.
#[derive(Debug)]
pub(super) struct Case {
    /// The operand and the slot that holds it meanwhile.
    pub operand: Option<(usize, Query)>,
    pub whens: Vec<(Query, Vec<Statement>)>,
    pub otherwise: Option<Vec<Statement>>,
}

/// `FOR i IN [REVERSE] a .. b [BY c] LOOP`.
#[derive(Debug)]
pub(super) struct ForRange {
    pub label: Option<String>,
    pub slot: usize,
    pub reverse: bool,
    pub from: Query,
    pub to: Query,
    pub by: Option<Query>,
    pub body: Vec<Statement>,
}

/// `FOR r IN query LOOP`.
#[derive(Debug)]
pub(super) struct ForQuery {
    pub label: Option<String>,
    pub targets: Into,
    pub source: Source,
    pub body: Vec<Statement>,
}

/// The rows of a loop.
#[derive(Debug)]
pub(super) enum Source {
    Query(Query),
    Execute(Dynamic),
}

/// `FOREACH x IN ARRAY a LOOP`.
#[derive(Debug)]
pub(super) struct ForEach {
    pub label: Option<String>,
    pub targets: Into,
    pub array: Query,
    pub body: Vec<Statement>,
}

/// `EXIT` and `CONTINUE`.
#[derive(Debug)]
pub(super) struct Exit {
    pub continues: bool,
    pub label: Option<String>,
    pub when: Option<Query>,
}

/// Where the columns of a row go.
#[derive(Clone, Debug)]
pub(super) enum Into {
    /// All into one row.
    Row(usize),
    /// One by one.
    Each(Vec<Target>),
}

/// An SQL statement.
#[derive(Debug)]
pub(super) struct Sql {
    pub query: Query,
    pub into: Option<(Into, bool)>,
}

/// Text that is put together at run time, and its arguments.
#[derive(Debug)]
pub(super) struct Dynamic {
    pub text: Query,
    pub using: Vec<Query>,
}

/// `EXECUTE text [INTO ...] [USING ...]`.
#[derive(Debug)]
pub(super) struct Execute {
    pub dynamic: Dynamic,
    pub into: Option<(Into, bool)>,
}

/// `RAISE`.
#[derive(Debug)]
pub(super) struct Raise {
    /// `None`: a RAISE without anything, which throws again what was caught.
    pub level: Option<Level>,
    pub condition: Option<Condition>,
    /// The condition as it is written.
    pub condition_text: Option<String>,
    pub message: Option<String>,
    pub arguments: Vec<Query>,
    pub options: Vec<(RaiseOption, Query)>,
}

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Debug,
    Log,
    Info,
    Notice,
    Warning,
    Exception,
}

impl Level {
    /// As clients are told.
    pub fn severity(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Log => "LOG",
            Level::Info => "INFO",
            Level::Notice => "NOTICE",
            Level::Warning => "WARNING",
            Level::Exception => "ERROR",
        }
    }
}

/// What USING sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RaiseOption {
    Errcode,
    Message,
    Detail,
    Hint,
    Column,
    Constraint,
    Datatype,
    Table,
    Schema,
}

impl RaiseOption {
    pub fn name(self) -> &'static str {
        match self {
            RaiseOption::Errcode => "ERRCODE",
            RaiseOption::Message => "MESSAGE",
            RaiseOption::Detail => "DETAIL",
            RaiseOption::Hint => "HINT",
            RaiseOption::Column => "COLUMN",
            RaiseOption::Constraint => "CONSTRAINT",
            RaiseOption::Datatype => "DATATYPE",
            RaiseOption::Table => "TABLE",
            RaiseOption::Schema => "SCHEMA",
        }
    }
}

/// What GET DIAGNOSTICS asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    RowCount,
    Context,
    State,
    Message,
    Detail,
    Hint,
    ErrorContext,
    Column,
    Constraint,
    Datatype,
    Table,
    Schema,
}

impl Target {
    /// A variable as a whole.
    pub fn of(slot: usize) -> Target {
        Target {
            slot,
            field: None,
            subscripts: Vec::new(),
        }
    }
}

impl Block {
    /// Statements without variables and handlers.
    pub fn of(body: Vec<Statement>) -> Block {
        Block {
            label: None,
            line: 0,
            declared: Vec::new(),
            body,
            handlers: Vec::new(),
            caught: None,
        }
    }
}

impl Variable {
    /// A variable that no one declares: arguments, FOUND, TG_OP.
    pub fn made(name: &str, kind: Kind) -> Variable {
        Variable {
            name: name.to_owned(),
            kind,
            not_null: false,
            constant: false,
            default: None,
            line: 0,
        }
    }

    /// The shape of its row: what it holds now, or what it is declared to hold.
    pub fn shape(&self, value: &Datum) -> Option<Arc<Shape>> {
        match (value, &self.kind) {
            (_, Kind::Row(shape)) => Some(Arc::clone(shape)),
            (Datum::Record(record), _) => Some(Arc::clone(&record.shape)),
            _ => None,
        }
    }

    /// Is it a row?
    pub fn is_row(&self) -> bool {
        matches!(self.kind, Kind::Record | Kind::Row(_))
    }
}
