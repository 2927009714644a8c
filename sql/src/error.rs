//! The error that a client sees: SQLSTATE, message, DETAIL, HINT and the names it is about
//! (PostgreSQL 15, Appendix A and 55.8 "Error and Notice Message Fields").

use std::fmt;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! states {
    ($($name:ident = $code:literal),* $(,)?) => {
        /// The codes by PostgreSQL's names (Appendix A), and Freehold's own class `OW`.
        #[allow(missing_docs)]
        pub mod state {
            use super::SqlState;
            $(pub const $name: SqlState = SqlState(*$code);)*
        }
    };
}

states! {
    SUCCESSFUL_COMPLETION = b"00000", WARNING = b"01000", PRIVILEGE_NOT_GRANTED = b"01007",
    PRIVILEGE_NOT_REVOKED = b"01006", NO_DATA = b"02000",
    CONNECTION_FAILURE = b"08006", TRANSACTION_RESOLUTION_UNKNOWN = b"08007",
    PROTOCOL_VIOLATION = b"08P01", FEATURE_NOT_SUPPORTED = b"0A000",
    INVALID_GRANT_OPERATION = b"0LP01",
    CARDINALITY_VIOLATION = b"21000", STRING_DATA_RIGHT_TRUNCATION = b"22001",
    NULL_VALUE_NOT_ALLOWED = b"22004", INVALID_DATETIME_FORMAT = b"22007",
    DATETIME_FIELD_OVERFLOW = b"22008", INVALID_TIME_ZONE_DISPLACEMENT = b"22009",
    DIVISION_BY_ZERO = b"22012", INTERVAL_FIELD_OVERFLOW = b"22015",
    NUMERIC_VALUE_OUT_OF_RANGE = b"22003", SUBSTRING_ERROR = b"22011",
    INVALID_PARAMETER_VALUE = b"22023", CHARACTER_NOT_IN_REPERTOIRE = b"22021",
    INVALID_ESCAPE_SEQUENCE = b"22025", INVALID_REGULAR_EXPRESSION = b"2201B",
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = b"2201W", INVALID_ROW_COUNT_IN_OFFSET_CLAUSE = b"2201X",
    INVALID_ARGUMENT_FOR_LOGARITHM = b"2201E", INVALID_ARGUMENT_FOR_POWER_FUNCTION = b"2201F",
    ARRAY_SUBSCRIPT_ERROR = b"2202E", INVALID_TEXT_REPRESENTATION = b"22P02",
    INVALID_BINARY_REPRESENTATION = b"22P03", BAD_COPY_FILE_FORMAT = b"22P04",
    UNTRANSLATABLE_CHARACTER = b"22P05", SEQUENCE_LIMIT_EXCEEDED = b"2200H",
    INTEGRITY_CONSTRAINT_VIOLATION = b"23000", RESTRICT_VIOLATION = b"23001",
    NOT_NULL_VIOLATION = b"23502", FOREIGN_KEY_VIOLATION = b"23503",
    UNIQUE_VIOLATION = b"23505", CHECK_VIOLATION = b"23514", EXCLUSION_VIOLATION = b"23P01",
    INVALID_CURSOR_STATE = b"24000", INVALID_TRANSACTION_STATE = b"25000",
    ACTIVE_SQL_TRANSACTION = b"25001", READ_ONLY_SQL_TRANSACTION = b"25006",
    NO_ACTIVE_SQL_TRANSACTION = b"25P01", IN_FAILED_SQL_TRANSACTION = b"25P02",
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03",
    IDLE_SESSION_TIMEOUT = b"57P05", INVALID_SQL_STATEMENT_NAME = b"26000", INVALID_AUTHORIZATION_SPECIFICATION = b"28000",
    INVALID_PASSWORD = b"28P01", DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST = b"2B000",
    DEPENDENT_OBJECTS_STILL_EXIST = b"2BP01", INVALID_CURSOR_NAME = b"34000",
    INVALID_CATALOG_NAME = b"3D000", INVALID_SCHEMA_NAME = b"3F000",
    SAVEPOINT_EXCEPTION = b"3B001", SERIALIZATION_FAILURE = b"40001",
    TRANSACTION_ROLLBACK = b"40000", DEADLOCK_DETECTED = b"40P01",
    SYNTAX_ERROR = b"42601", INSUFFICIENT_PRIVILEGE = b"42501", CANNOT_COERCE = b"42846",
    GROUPING_ERROR = b"42803", WINDOWING_ERROR = b"42P20", INVALID_RECURSION = b"42P19",
    INVALID_FOREIGN_KEY = b"42830", INVALID_NAME = b"42602", NAME_TOO_LONG = b"42622",
    RESERVED_NAME = b"42939", DATATYPE_MISMATCH = b"42804", INDETERMINATE_DATATYPE = b"42P18",
    COLLATION_MISMATCH = b"42P21", WRONG_OBJECT_TYPE = b"42809", UNDEFINED_COLUMN = b"42703",
    UNDEFINED_CURSOR = b"34000", UNDEFINED_FUNCTION = b"42883", UNDEFINED_TABLE = b"42P01",
    UNDEFINED_PARAMETER = b"42P02", UNDEFINED_OBJECT = b"42704", DUPLICATE_COLUMN = b"42701",
    DUPLICATE_CURSOR = b"42P03", DUPLICATE_DATABASE = b"42P04", DUPLICATE_FUNCTION = b"42723",
    DUPLICATE_PREPARED_STATEMENT = b"42P05", DUPLICATE_SCHEMA = b"42P06",
    DUPLICATE_TABLE = b"42P07", DUPLICATE_ALIAS = b"42712", DUPLICATE_OBJECT = b"42710",
    AMBIGUOUS_COLUMN = b"42702", AMBIGUOUS_FUNCTION = b"42725", INVALID_COLUMN_REFERENCE = b"42P10",
    INVALID_COLUMN_DEFINITION = b"42611", INVALID_TABLE_DEFINITION = b"42P16",
    INVALID_FUNCTION_DEFINITION = b"42P13", INVALID_CURSOR_DEFINITION = b"42P11", RAISE_EXCEPTION = b"P0001", NO_DATA_FOUND = b"P0002",
    TOO_MANY_ROWS = b"P0003", ASSERT_FAILURE = b"P0004", CASE_NOT_FOUND = b"20000",
    NO_ACTIVE_HANDLER = b"0Z002", ERROR_IN_ASSIGNMENT = b"22005",
    TRIGGERED_DATA_CHANGE_VIOLATION = b"27000", INVALID_TRANSACTION_TERMINATION = b"2D000",
    NO_RETURN_STATEMENT = b"2F005", TRIGGER_PROTOCOL_VIOLATED = b"39P01",
    INVALID_OBJECT_DEFINITION = b"42P17", INVALID_SCHEMA_DEFINITION = b"42P15",
    WITH_CHECK_OPTION_VIOLATION = b"44000", INSUFFICIENT_RESOURCES = b"53000",
    DISK_FULL = b"53100", OUT_OF_MEMORY = b"53200", TOO_MANY_CONNECTIONS = b"53300",
    CONFIGURATION_LIMIT_EXCEEDED = b"53400", PROGRAM_LIMIT_EXCEEDED = b"54000",
    STATEMENT_TOO_COMPLEX = b"54001", TOO_MANY_COLUMNS = b"54011", TOO_MANY_ARGUMENTS = b"54023",
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000", OBJECT_IN_USE = b"55006",
    CANT_CHANGE_RUNTIME_PARAM = b"55P02", LOCK_NOT_AVAILABLE = b"55P03",
    OPERATOR_INTERVENTION = b"57000", QUERY_CANCELED = b"57014", ADMIN_SHUTDOWN = b"57P01",
    CANNOT_CONNECT_NOW = b"57P03", SYSTEM_ERROR = b"58000", IO_ERROR = b"58030",
    SNAPSHOT_TOO_OLD = b"72000", INTERNAL_ERROR = b"XX000", DATA_CORRUPTED = b"XX001",
    BEHIND_RETENTION = b"OW001", STALER_THAN_MAX_STALENESS = b"OW002",
    OWNER_UNREACHABLE = b"OW003", CONTRACT_IN_USE = b"OW004",
}

/// What a client is told. Boxed, so that `Result<T>` stays small on the hot path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub Box<Report>);

/// The fields of an error or notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The five-character code.
    pub state: SqlState,
    /// Primary message: lower case, no period.
    pub message: String,
    /// A full sentence with the particulars.
    pub detail: Option<String>,
    /// A full sentence that says what to do next.
    pub hint: Option<String>,
    /// 1-based character offset into the statement's text.
    pub position: Option<u32>,
    /// The schema of the object that the error is about.
    pub schema: Option<String>,
    /// The table.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// The data type.
    pub data_type: Option<String>,
    /// The constraint.
    pub constraint: Option<String>,
    /// Where in a function or COPY it happened.
    pub context: Option<String>,
    /// PostgreSQL's routine, where clients tell errors of one code apart by it.
    pub routine: Option<&'static str>,
    /// A leader has changed, and with it all is gone that was done: whoever was told nothing of it
    /// can have it done from the beginning. No client sees this.
    pub begins_anew: bool,
    /// Its words were chosen for another owner than the one whose statement or courier it comes from. No
    /// client sees this.
    pub for_other_owner: bool,
}

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a code and a primary message.
    pub fn new(state: SqlState, message: impl Into<String>) -> Error {
        Error(Box::new(Report {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
            context: None,
            routine: None,
            begins_anew: false,
            for_other_owner: false,
        }))
    }

    /// "x is not supported" (0A000).
    pub fn unsupported(what: impl fmt::Display) -> Error {
        Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("{what} is not supported"),
        )
    }

    /// A state that the code holds to be impossible (XX000).
    pub fn internal(what: impl Into<String>) -> Error {
        Error::new(state::INTERNAL_ERROR, what)
    }

    /// Adds DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the 1-based character offset into the statement.
    #[must_use]
    pub fn at(mut self, position: u32) -> Error {
        self.0.position = Some(position);
        self
    }

    /// Names the table that the error is about.
    #[must_use]
    pub fn table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Error {
        self.0.schema = Some(schema.into());
        self.0.table = Some(table.into());
        self
    }

    /// Names the column.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Error {
        self.0.column = Some(column.into());
        self
    }

    /// Names the constraint.
    #[must_use]
    pub fn constraint(mut self, constraint: impl Into<String>) -> Error {
        self.0.constraint = Some(constraint.into());
        self
    }

    /// Adds CONTEXT.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Error {
        self.0.context = Some(context.into());
        self
    }

    /// Names PostgreSQL's routine.
    #[must_use]
    pub fn routine(mut self, routine: &'static str) -> Error {
        self.0.routine = Some(routine);
        self
    }

    /// Its words may be heard by the other owner.
    #[must_use]
    pub(crate) fn for_other_owner(mut self) -> Error {
        self.0.for_other_owner = true;
        self
    }

    /// Says whether what has failed came to nothing and can be done from the beginning.
    #[must_use]
    pub(crate) fn begins_anew(mut self, anew: bool) -> Error {
        self.0.begins_anew = anew;
        self
    }

    /// The code.
    pub fn state(&self) -> SqlState {
        self.0.state
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Error {
        let state = match &error {
            // What was pending when it was read went with the leader, or the replica has.
            storage::Error::NotReached { .. } | storage::Error::NoGroup(_) => {
                return crate::transaction::leader_changed();
            }
            storage::Error::TooOld { .. } => state::SERIALIZATION_FAILURE,
            storage::Error::Corrupt { .. } => state::DATA_CORRUPTED,
            storage::Error::Disk(_) => state::IO_ERROR,
            _ => state::SYSTEM_ERROR,
        };
        Error::new(state, error.to_string())
    }
}
