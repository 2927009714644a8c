//! The statements of Freehold's SQL: sqlparser's tree where it has PostgreSQL's grammar, own
//! nodes where it has not. What a session runs is decided by matching on [`Statement`].

use sqlparser::ast;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub enum Statement {
    /// Nothing between two semicolons.
    Empty,
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE: planned by `plan`.
    Query(Box<ast::Statement>),
    /// EXPLAIN of a query.
    Explain(Box<Explain>),
    /// What changes the catalog, or a table as a whole (TRUNCATE).
    Ddl(Box<Ddl>),
    /// COPY in either direction.
    Copy(Box<Copy>),
    /// BEGIN, COMMIT, SAVEPOINT and their kin.
    Transaction(TransactionStatement),
    /// SET, RESET, SHOW, DISCARD.
    Setting(SettingStatement),
    /// PREPARE.
    Prepare(Box<Prepare>),
    /// EXECUTE with its arguments (expressions without columns).
    Execute(Box<Execute>),
    /// DEALLOCATE; `None` = ALL.
    Deallocate(Option<String>),
    /// DECLARE.
    Declare(Box<Declare>),
    /// FETCH and MOVE.
    Fetch(Fetch),
    /// CLOSE; `None` = ALL.
    Close(Option<String>),
    /// LISTEN.
    Listen(String),
    /// UNLISTEN; `None` = `*`.
    Unlisten(Option<String>),
    /// NOTIFY channel, payload.
    Notify(String, String),
    /// LOCK TABLE.
    Lock(Box<LockTables>),
    /// VACUUM and ANALYZE of the named tables (none = all).
    Vacuum(Box<Vacuum>),
    /// CHECKPOINT.
    Checkpoint,
    /// WAIT FOR LSN.
    WaitForLsn(WaitForLsn),
    /// DO.
    Do(Block),
    /// A statement of PostgreSQL or of a later Freehold that this version has not: its name and a
    /// hint; always 0A000 when run.
    Unsupported(&'static str, Option<&'static str>),
}

/// What the catalog's owner carries out.
#[derive(Clone, Debug)]
pub enum Ddl {
    /// CREATE TABLE, CREATE TABLE AS.
    CreateTable(CreateTable),
    /// CREATE SEQUENCE.
    CreateSequence(CreateSequence),
    /// ALTER SEQUENCE.
    AlterSequence(AlterSequence),
    /// ALTER TABLE x ALTER COLUMN y, for what it says about y's identity.
    AlterIdentity(AlterIdentity),
    /// ALTER TABLE with several actions that one grammar does not read.
    AlterTableParts(AlterTableParts),
    /// ALTER TABLE x RESET (options).
    ResetOptions(ResetOptions),
    /// CREATE ROLE, CREATE USER, CREATE GROUP.
    CreateRole(CreateRole),
    /// ALTER ROLE name WITH options.
    AlterRole(AlterRole),
    /// ALTER ROLE name [IN DATABASE x] SET / RESET setting.
    AlterRoleSet(AlterRoleSet),
    /// ALTER ROLE name RENAME TO other.
    RenameRole(String, String),
    /// DROP ROLE: names, IF EXISTS.
    DropRole(Vec<RoleName>, bool),
    /// GRANT and REVOKE of privileges on objects.
    Grant(Grant),
    /// GRANT and REVOKE of membership.
    GrantRole(GrantRole),
    /// FOLLOW and UNFOLLOW.
    Follow(Follow),
    /// COMMENT ON.
    Comment(Comment),
    /// ALTER ... OWNER TO, for what sqlparser can't (tables go through `AlterTable`).
    AlterOwner(ObjectKind, ast::ObjectName, RoleName, bool),
    /// ALTER <kind> x RENAME TO y, for views, sequences, schemas and indexes.
    Rename(ObjectKind, ast::ObjectName, String, bool),
    /// ALTER <kind> x SET SCHEMA y.
    SetSchema(ObjectKind, ast::ObjectName, String, bool),
    /// REINDEX, CLUSTER: nothing to do on this storage, but the object must exist.
    Maintain(&'static str, Option<ast::ObjectName>),
    /// ALTER MATERIALIZED VIEW, for what ALTER TABLE does as well.
    AlterMaterializedView(ast::ObjectName, Box<Ddl>),
    /// REFRESH MATERIALIZED VIEW.
    Refresh(ast::ObjectName),
    /// DROP SCHEMA, TABLE, VIEW, INDEX, SEQUENCE...
    Drop(Drop),
    /// CREATE FUNCTION.
    CreateRoutine(CreateRoutine),
    /// DROP FUNCTION and its kin.
    DropRoutines(DropRoutines),
    /// CREATE TRIGGER.
    CreateTrigger(CreateTrigger),
    /// DROP TRIGGER.
    DropTrigger(DropTrigger),
    /// ALTER TRIGGER a ON t RENAME TO b: a, t, b.
    RenameTrigger(String, ast::ObjectName, String),
    /// ALTER TABLE ... ENABLE and DISABLE TRIGGER.
    EnableTrigger(EnableTrigger),
    /// REASSIGN OWNED BY a TO b.
    Reassign(Vec<RoleName>, RoleName),
    /// DROP OWNED BY a [CASCADE].
    DropOwned(Vec<RoleName>, bool),
    /// TRUNCATE.
    Truncate(Truncate),
    /// What sqlparser reads as PostgreSQL does: CreateIndex, CreateView, AlterTable, AlterIndex,
    /// CreateSchema, AlterSchema, CreateExtension, CreateType, CreateDomain, CreateFunction,
    /// CreateTrigger ...
    Sql(ast::Statement),
}

/// The kind of an object in DROP, COMMENT, GRANT and ALTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ObjectKind {
    Table,
    View,
    MaterializedView,
    Index,
    Sequence,
    Schema,
    Role,
    Database,
    Column,
    Constraint,
    Function,
    Type,
    Domain,
    Extension,
    Language,
    Trigger,
    Policy,
    Collation,
    Tablespace,
}

/// FOLLOW and UNFOLLOW.
#[derive(Clone, Debug)]
pub struct Follow {
    /// UNFOLLOW.
    pub ends: bool,
    /// What.
    pub what: Vec<FollowName>,
}

/// What FOLLOW names.
#[derive(Clone, Debug)]
pub enum FollowName {
    /// A table.
    Table(ast::ObjectName),
    /// Tables in `public`.
    Pattern(String),
}

/// A role as GRANT and OWNER TO name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// By name.
    Name(String),
    /// CURRENT_USER, CURRENT_ROLE.
    CurrentUser,
    /// SESSION_USER.
    SessionUser,
    /// PUBLIC (grantees only).
    Public,
}

/// CREATE TABLE with what sqlparser can't hold.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// Columns, constraints, options, query. LIKE clauses and identity sequence names are cut out.
    pub table: ast::CreateTable,
    /// The LIKE clauses in order.
    pub likes: Vec<LikeClause>,
    /// CREATE TABLE AS ... WITH DATA (true unless WITH NO DATA).
    pub with_data: bool,
    /// `SEQUENCE NAME x` of identity columns: (column name, sequence).
    pub sequences: Vec<(String, ast::ObjectName)>,
}

/// LIKE table [INCLUDING ...].
#[derive(Clone, Debug)]
pub struct LikeClause {
    /// How many entries of `table.columns` stand before it.
    pub after_columns: usize,
    /// The source.
    pub table: ast::ObjectName,
    /// In PostgreSQL's order: comments, compression, constraints, defaults, generated, identity,
    /// indexes, statistics, storage.
    pub including: Including,
}

/// The properties that LIKE copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Including {
    pub comments: bool,
    pub constraints: bool,
    pub defaults: bool,
    pub generated: bool,
    pub identity: bool,
    pub indexes: bool,
}

/// Options of CREATE and ALTER SEQUENCE and of identity columns, in any order. `None` = not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SequenceOptions {
    pub data_type: Option<ast::DataType>,
    pub increment: Option<i64>,
    /// `Some(None)` = NO MINVALUE.
    pub min: Option<Option<i64>>,
    /// `Some(None)` = NO MAXVALUE.
    pub max: Option<Option<i64>>,
    pub start: Option<i64>,
    /// `Some(None)` = RESTART without a value.
    pub restart: Option<Option<i64>>,
    pub cache: Option<i64>,
    pub cycle: Option<bool>,
    /// `Some(None)` = OWNED BY NONE; otherwise table.column.
    pub owned_by: Option<Option<ast::ObjectName>>,
}

/// CREATE SEQUENCE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct CreateSequence {
    pub name: ast::ObjectName,
    pub if_not_exists: bool,
    pub temporary: bool,
    pub options: SequenceOptions,
}

/// ALTER SEQUENCE with options (RENAME, OWNER TO and SET SCHEMA are their own nodes).
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct AlterSequence {
    pub name: ast::ObjectName,
    pub if_exists: bool,
    pub options: SequenceOptions,
}

/// What becomes of a column's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum IdentityChange {
    /// DROP IDENTITY.
    Drop { if_exists: bool },
    /// SET GENERATED (ALWAYS = true), RESTART, SET of the sequence's options.
    Set {
        always: Option<bool>,
        options: SequenceOptions,
    },
}

/// ALTER TABLE x ALTER COLUMN y, for what it says about y's identity.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct AlterIdentity {
    pub table: ast::ObjectName,
    pub if_exists: bool,
    pub column: String,
    pub change: IdentityChange,
}

/// The actions of one ALTER TABLE as statements, in order.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct AlterTableParts {
    pub table: ast::ObjectName,
    pub if_exists: bool,
    pub parts: Vec<Ddl>,
}

/// The options of a table that are not given any more.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ResetOptions {
    pub table: ast::ObjectName,
    pub if_exists: bool,
    pub options: Vec<String>,
}

/// The options of a role. `None` = not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RoleOptions {
    pub superuser: Option<bool>,
    pub create_db: Option<bool>,
    pub create_role: Option<bool>,
    pub inherit: Option<bool>,
    pub login: Option<bool>,
    pub replication: Option<bool>,
    pub bypass_rls: Option<bool>,
    pub connection_limit: Option<i32>,
    /// `Some(None)` = PASSWORD NULL. Text or a SCRAM verifier.
    pub password: Option<Option<String>>,
    pub valid_until: Option<String>,
    pub in_role: Vec<RoleName>,
    pub role: Vec<RoleName>,
    pub admin: Vec<RoleName>,
}

/// CREATE ROLE / USER (login by default) / GROUP.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct CreateRole {
    pub name: String,
    pub options: RoleOptions,
}

/// ALTER ROLE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct AlterRole {
    pub role: RoleName,
    pub options: RoleOptions,
}

/// ALTER ROLE { name | ALL } [IN DATABASE x] SET.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct AlterRoleSet {
    /// `None` = ALL.
    pub role: Option<RoleName>,
    pub database: Option<String>,
    /// `None` = RESET ALL.
    pub setting: Option<String>,
    /// `None` = RESET or SET TO DEFAULT.
    pub value: Option<Vec<String>>,
}

/// GRANT or REVOKE of privileges.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Grant {
    pub revoke: bool,
    /// WITH GRANT OPTION, or GRANT OPTION FOR.
    pub grant_option: bool,
    /// `None` = ALL [PRIVILEGES], with optional columns; names in upper case (READ included).
    pub privileges: Option<Vec<PrivilegeName>>,
    /// ALL PRIVILEGES (a, b).
    pub all_columns: Vec<String>,
    pub objects: GrantObjects,
    pub grantees: Vec<RoleName>,
    pub granted_by: Option<RoleName>,
    /// REVOKE ... CASCADE.
    pub cascade: bool,
}

/// One privilege, for some columns or for the whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PrivilegeName {
    pub name: String,
    pub columns: Vec<String>,
}

/// What is granted on.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum GrantObjects {
    /// Tables, views, (and sequences, as PostgreSQL lets TABLE be left out).
    Tables(Vec<ast::ObjectName>),
    /// `order_*`, `public.order_*`: the pattern, without the schema, as written.
    Patterns(Vec<String>),
    Sequences(Vec<ast::ObjectName>),
    AllTablesIn(Vec<String>),
    AllSequencesIn(Vec<String>),
    AllFunctionsIn(Vec<String>),
    Schemas(Vec<String>),
    Databases(Vec<String>),
    Routines(Vec<Routine>),
    /// LANGUAGE, TYPE, ...: accepted words whose objects nobody owns here.
    Other(ObjectKind, Vec<ast::ObjectName>),
}

/// GRANT role TO role.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct GrantRole {
    pub revoke: bool,
    pub roles: Vec<RoleName>,
    pub grantees: Vec<RoleName>,
    /// WITH ADMIN OPTION, or ADMIN OPTION FOR.
    pub admin_option: bool,
    pub granted_by: Option<RoleName>,
    pub cascade: bool,
}

/// COMMENT ON.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Comment {
    pub kind: ObjectKind,
    /// For a column: table and column; for a constraint or trigger: its name alone.
    pub name: ast::ObjectName,
    /// The arguments' types of a function.
    pub routine: Option<Routine>,
    /// `CONSTRAINT x ON table`, `TRIGGER x ON table`.
    pub on: Option<ast::ObjectName>,
    /// `None` = NULL.
    pub text: Option<String>,
}

/// DROP of anything that is named by a list of names.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Drop {
    pub kind: ObjectKind,
    pub names: Vec<ast::ObjectName>,
    pub if_exists: bool,
    pub cascade: bool,
    pub concurrently: bool,
}

/// DROP FUNCTION, PROCEDURE, ROUTINE, AGGREGATE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct DropRoutines {
    pub kind: RoutineKind,
    pub routines: Vec<Routine>,
    pub if_exists: bool,
    pub cascade: bool,
}

/// CREATE FUNCTION.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct CreateRoutine {
    pub name: ast::ObjectName,
    pub or_replace: bool,
    pub arguments: Vec<NewArgument>,
    /// The type behind RETURNS, as text.
    pub returns: Option<String>,
    pub language: Option<String>,
    pub body: Option<String>,
    pub volatility: crate::catalog::Volatility,
    pub strict: bool,
    /// What of it is not supported.
    pub unsupported: Option<&'static str>,
}

/// An argument of CREATE FUNCTION.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NewArgument {
    pub name: Option<String>,
    /// The type, as text.
    pub ty: String,
    /// DEFAULT, as SQL text.
    pub default: Option<String>,
}

/// CREATE TRIGGER.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct CreateTrigger {
    pub name: String,
    pub or_replace: bool,
    pub timing: crate::catalog::Timing,
    pub events: crate::catalog::Events,
    /// UPDATE OF.
    pub columns: Vec<String>,
    pub table: ast::ObjectName,
    /// WHEN, as SQL text.
    pub when: Option<String>,
    pub routine: ast::ObjectName,
    pub arguments: Vec<String>,
    /// What of it is not supported.
    pub unsupported: Option<&'static str>,
}

/// DROP TRIGGER.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct DropTrigger {
    pub name: String,
    pub table: ast::ObjectName,
    pub if_exists: bool,
}

/// ALTER TABLE ... ENABLE and DISABLE TRIGGER.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct EnableTrigger {
    pub table: ast::ObjectName,
    pub if_exists: bool,
    /// `None` = ALL or USER.
    pub name: Option<String>,
    pub enabled: crate::catalog::Enabled,
}

/// DO: code without a name.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Block {
    pub language: Option<String>,
    pub body: String,
}

/// A routine by name; its arguments' types if they were given.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Routine {
    pub name: ast::ObjectName,
    pub arguments: Option<Vec<RoutineArgument>>,
}

/// The type of an argument, as text.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct RoutineArgument {
    pub text: String,
    /// It is a word of PostgreSQL's grammar, not a name.
    pub in_grammar: bool,
}

/// What DROP calls a routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RoutineKind {
    Function,
    Procedure,
    Routine,
    Aggregate,
}

impl RoutineKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            RoutineKind::Function => "function",
            RoutineKind::Procedure => "procedure",
            RoutineKind::Routine => "routine",
            RoutineKind::Aggregate => "aggregate",
        }
    }

    /// The word for what was looked up: a routine is a function in errors.
    pub fn lookup(self) -> &'static str {
        match self {
            RoutineKind::Routine => "function",
            RoutineKind::Function | RoutineKind::Procedure | RoutineKind::Aggregate => self.word(),
        }
    }

    /// Whether a routine with this `prokind` may be meant.
    pub fn fits(self, prokind: u8) -> bool {
        match self {
            RoutineKind::Function => matches!(prokind, b'f' | b'w'),
            RoutineKind::Procedure => prokind == b'p',
            RoutineKind::Routine => true,
            RoutineKind::Aggregate => prokind == b'a',
        }
    }
}

/// TRUNCATE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Truncate {
    pub tables: Vec<ast::ObjectName>,
    pub restart_identity: bool,
    pub cascade: bool,
}

/// EXPLAIN.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Explain {
    pub options: ExplainOptions,
    pub statement: Statement,
}

/// Options of EXPLAIN with PostgreSQL's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExplainOptions {
    pub analyze: bool,
    pub verbose: bool,
    pub costs: bool,
    pub buffers: bool,
    pub timing: bool,
    pub summary: bool,
    pub settings: bool,
    pub format: ExplainFormat,
}

/// EXPLAIN (FORMAT ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ExplainFormat {
    Text,
    Json,
    Xml,
    Yaml,
}

/// COPY.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Copy {
    pub source: CopySource,
    pub from: bool,
    /// False for a file or program: 42501 or 0A000.
    pub standard: bool,
    pub options: CopyOptions,
    /// COPY ... FROM ... WHERE condition.
    pub condition: Option<ast::Expr>,
}

/// What is copied.
#[derive(Clone, Debug)]
pub enum CopySource {
    /// A table and its columns (none = all).
    Table(ast::ObjectName, Vec<String>),
    /// A query (TO only), or a writing statement with RETURNING.
    Query(Box<ast::Statement>),
}

/// Options of COPY as given; defaults depend on the format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CopyOptions {
    pub format: Option<CopyFormat>,
    pub freeze: bool,
    pub delimiter: Option<String>,
    pub null: Option<String>,
    pub header: Option<CopyHeader>,
    pub quote: Option<String>,
    pub escape: Option<String>,
    /// `Some(empty)` = `*`.
    pub force_quote: Option<Vec<String>>,
    pub force_not_null: Option<Vec<String>>,
    pub force_null: Option<Vec<String>>,
    pub encoding: Option<String>,
}

/// FORMAT of COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// HEADER of COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CopyHeader {
    Off,
    On,
    Match,
}

/// Transaction control.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TransactionStatement {
    /// BEGIN (true: written START TRANSACTION, which has another tag).
    Begin(Modes, bool),
    /// COMMIT, END [AND CHAIN].
    Commit {
        chain: bool,
    },
    /// ROLLBACK, ABORT [AND CHAIN].
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// SET TRANSACTION.
    Set(Modes),
    /// SET TRANSACTION SNAPSHOT 'x'.
    Snapshot(String),
    /// SET SESSION CHARACTERISTICS AS TRANSACTION.
    Characteristics(Modes),
}

/// Modes of a transaction; `None` = not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Modes {
    pub isolation: Option<crate::transaction::Isolation>,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

/// SET and its kin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SettingStatement {
    /// SET [SESSION | LOCAL] name = values; `None` = DEFAULT.
    Set {
        name: String,
        value: Option<Vec<String>>,
        local: bool,
    },
    /// SET CONSTRAINTS: names (`None` = ALL), deferred.
    Constraints(Option<Vec<String>>, bool),
    Reset(String),
    ResetAll,
    /// SET SESSION AUTHORIZATION; `None` = DEFAULT.
    SessionAuthorization {
        role: Option<String>,
        local: bool,
    },
    Show(String),
    ShowAll,
    DiscardAll,
    DiscardPlans,
    DiscardSequences,
    DiscardTemp,
}

/// PREPARE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Prepare {
    pub name: String,
    pub types: Vec<ast::DataType>,
    pub statement: Statement,
    /// Its text, for pg_prepared_statements.
    pub text: String,
}

/// EXECUTE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Execute {
    pub name: String,
    pub arguments: Vec<ast::Expr>,
}

/// DECLARE CURSOR.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Declare {
    pub name: String,
    pub binary: bool,
    /// `Some(false)` = NO SCROLL.
    pub scroll: Option<bool>,
    pub hold: bool,
    pub query: Box<ast::Statement>,
    pub text: String,
}

/// FETCH, or MOVE when `discard`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Fetch {
    pub cursor: String,
    pub direction: FetchDirection,
    pub discard: bool,
}

/// Where FETCH goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FetchDirection {
    Forward(i64),
    ForwardAll,
    BackwardAll,
    Absolute(i64),
    Relative(i64),
}

/// LOCK TABLE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LockTables {
    pub tables: Vec<ast::ObjectName>,
    pub mode: crate::transaction::TableMode,
    pub no_wait: bool,
}

/// VACUUM or ANALYZE.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Vacuum {
    /// ANALYZE alone (its own tag).
    pub analyze_only: bool,
    pub tables: Vec<ast::ObjectName>,
    pub verbose: bool,
}

/// WAIT FOR LSN 'x' WITH (TIMEOUT '2s', NO_THROW).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WaitForLsn {
    pub position: String,
    pub timeout: Option<String>,
    pub no_throw: bool,
}
