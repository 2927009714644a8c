//! The session settings that text forms depend on: DateStyle, IntervalStyle, TimeZone,
//! extra_float_digits, bytea_output, the time of the transaction and the catalog's names.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
pub use crate::types::datetime::zone::Zone;

/// How dates are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DateStyle {
    /// `1997-12-17 07:37:16-08`.
    #[default]
    Iso,
    /// `12/17/1997 07:37:16.00 PST`.
    Sql,
    /// `Wed Dec 17 07:37:16 1997 PST`.
    Postgres,
    /// `17.12.1997 07:37:16.00 PST`.
    German,
}

/// The order of day, month and year in ambiguous input (and in SQL and Postgres output).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DateOrder {
    /// Month, day, year.
    #[default]
    Mdy,
    /// Day, month, year.
    Dmy,
    /// Year, month, day.
    Ymd,
}

/// How intervals are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IntervalStyle {
    /// `1 year 2 mons 3 days 04:05:06`.
    #[default]
    Postgres,
    /// `@ 1 year 2 mons 3 days 4 hours 5 mins 6 secs`.
    PostgresVerbose,
    /// `1-2 3 4:05:06` with signs.
    SqlStandard,
    /// `P1Y2M3DT4H5M6S`.
    Iso8601,
}

/// How bytea is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ByteaOutput {
    /// `\x00ff`.
    #[default]
    Hex,
    /// `\000\377`.
    Escape,
}

/// The kinds of catalog objects that an OID alias type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegKind {
    /// `regclass`: a relation.
    Class,
    /// `regtype`: a type (built-in types are known without the catalog).
    Type,
    /// `regproc`: a function by name.
    Proc,
    /// `regprocedure`: a function by name and argument types.
    Procedure,
    /// `regoper`: an operator by name.
    Oper,
    /// `regoperator`: an operator by name and argument types.
    Operator,
    /// `regnamespace`: a schema.
    Namespace,
    /// `regrole`: a role.
    Role,
    /// `regcollation`: a collation.
    Collation,
    /// `regconfig`: a text search configuration.
    Config,
    /// `regdictionary`: a text search dictionary.
    Dictionary,
}

/// The catalog's names behind the OID alias types, under the session's search_path.
pub trait Names: Send + Sync {
    /// The name to print for `oid`, quoted and qualified as needed; `None` = print the number.
    fn name_of(&self, kind: RegKind, oid: u32) -> Option<String>;

    /// The OID that `name` (possibly quoted and qualified) means; `None` = no such object.
    ///
    /// # Errors
    /// 42602 for a malformed name, 42725 for an ambiguous one.
    fn oid_of(&self, kind: RegKind, name: &str) -> Result<Option<u32>>;
}

/// What reading and writing text forms depends on. Cheap to clone.
#[derive(Clone)]
pub struct FormatSettings {
    /// `DateStyle`, first part.
    pub date_style: DateStyle,
    /// `DateStyle`, second part.
    pub date_order: DateOrder,
    /// `IntervalStyle`.
    pub interval_style: IntervalStyle,
    /// `TimeZone`.
    pub zone: Zone,
    /// `extra_float_digits`, -15 to 3; above 0 = shortest exact form.
    pub extra_float_digits: i32,
    /// `bytea_output`.
    pub bytea_output: ByteaOutput,
    /// Start of the transaction in microseconds since 2000-01-01 UTC: what `'now'` means.
    pub transaction_start: i64,
    /// The catalog, for reg* types; `None` knows built-in types only.
    pub names: Option<Arc<dyn Names>>,
}

impl Default for FormatSettings {
    fn default() -> FormatSettings {
        FormatSettings {
            date_style: DateStyle::Iso,
            date_order: DateOrder::Mdy,
            interval_style: IntervalStyle::Postgres,
            zone: Zone::UTC,
            extra_float_digits: 1,
            bytea_output: ByteaOutput::Hex,
            transaction_start: 0,
            names: None,
        }
    }
}

impl fmt::Debug for FormatSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormatSettings")
            .field("date_style", &self.date_style)
            .field("date_order", &self.date_order)
            .field("interval_style", &self.interval_style)
            .field("zone", &self.zone)
            .field("extra_float_digits", &self.extra_float_digits)
            .field("bytea_output", &self.bytea_output)
            .field("transaction_start", &self.transaction_start)
            .finish_non_exhaustive()
    }
}
