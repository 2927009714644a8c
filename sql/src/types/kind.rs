//! Types: OIDs, names, categories and modifiers, with PostgreSQL 15's built-in rows of `pg_type`.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::error::{Error, Result, state};

/// A type as PostgreSQL names it: its OID and its modifier (`-1` = none; `varchar(10)` and
/// `numeric(12,2)` carry theirs in PostgreSQL's encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `atttypmod`.
    pub modifier: i32,
}

macro_rules! types {
    ($($name:ident = $oid:literal,)*) => {
        /// The OIDs of the built-in types, by PostgreSQL's names.
        #[allow(missing_docs)]
        pub mod oid {
            $(pub const $name: u32 = $oid;)*
        }

        /// The built-in types without modifier, by PostgreSQL's names.
        #[allow(missing_docs)]
        impl Type {
            $(pub const $name: Type = Type::new($oid);)*
        }
    };
}

types! {
        BOOL = 16,
        BYTEA = 17,
        CHAR = 18,
        NAME = 19,
        INT8 = 20,
        INT2 = 21,
        INT2VECTOR = 22,
        INT4 = 23,
        REGPROC = 24,
        TEXT = 25,
        OID = 26,
        TID = 27,
        XID = 28,
        CID = 29,
        OIDVECTOR = 30,
        PG_DDL_COMMAND = 32,
        JSON = 114,
        XML = 142,
        PG_NODE_TREE = 194,
        TABLE_AM_HANDLER = 269,
        INDEX_AM_HANDLER = 325,
        POINT = 600,
        LSEG = 601,
        PATH = 602,
        BOX = 603,
        POLYGON = 604,
        LINE = 628,
        CIDR = 650,
        FLOAT4 = 700,
        FLOAT8 = 701,
        UNKNOWN = 705,
        CIRCLE = 718,
        MACADDR8 = 774,
        MONEY = 790,
        MACADDR = 829,
        INET = 869,
        ACLITEM = 1033,
        BPCHAR = 1042,
        VARCHAR = 1043,
        DATE = 1082,
        TIME = 1083,
        TIMESTAMP = 1114,
        TIMESTAMPTZ = 1184,
        INTERVAL = 1186,
        TIMETZ = 1266,
        BIT = 1560,
        VARBIT = 1562,
        NUMERIC = 1700,
        REFCURSOR = 1790,
        REGPROCEDURE = 2202,
        REGOPER = 2203,
        REGOPERATOR = 2204,
        REGCLASS = 2205,
        REGTYPE = 2206,
        RECORD = 2249,
        CSTRING = 2275,
        ANY = 2276,
        ANYARRAY = 2277,
        VOID = 2278,
        TRIGGER = 2279,
        LANGUAGE_HANDLER = 2280,
        INTERNAL = 2281,
        ANYELEMENT = 2283,
        ANYNONARRAY = 2776,
        UUID = 2950,
        TXID_SNAPSHOT = 2970,
        FDW_HANDLER = 3115,
        PG_LSN = 3220,
        TSM_HANDLER = 3310,
        PG_NDISTINCT = 3361,
        PG_DEPENDENCIES = 3402,
        ANYENUM = 3500,
        TSVECTOR = 3614,
        TSQUERY = 3615,
        GTSVECTOR = 3642,
        REGCONFIG = 3734,
        REGDICTIONARY = 3769,
        JSONB = 3802,
        ANYRANGE = 3831,
        EVENT_TRIGGER = 3838,
        INT4RANGE = 3904,
        NUMRANGE = 3906,
        TSRANGE = 3908,
        TSTZRANGE = 3910,
        DATERANGE = 3912,
        INT8RANGE = 3926,
        JSONPATH = 4072,
        REGNAMESPACE = 4089,
        REGROLE = 4096,
        REGCOLLATION = 4191,
        INT4MULTIRANGE = 4451,
        NUMMULTIRANGE = 4532,
        TSMULTIRANGE = 4533,
        TSTZMULTIRANGE = 4534,
        DATEMULTIRANGE = 4535,
        INT8MULTIRANGE = 4536,
        ANYMULTIRANGE = 4537,
        ANYCOMPATIBLEMULTIRANGE = 4538,
        PG_BRIN_BLOOM_SUMMARY = 4600,
        PG_BRIN_MINMAX_MULTI_SUMMARY = 4601,
        PG_MCV_LIST = 5017,
        PG_SNAPSHOT = 5038,
        XID8 = 5069,
        ANYCOMPATIBLE = 5077,
        ANYCOMPATIBLEARRAY = 5078,
        ANYCOMPATIBLENONARRAY = 5079,
        ANYCOMPATIBLERANGE = 5080,
        BOOL_ARRAY = 1000,
        BYTEA_ARRAY = 1001,
        CHAR_ARRAY = 1002,
        NAME_ARRAY = 1003,
        INT8_ARRAY = 1016,
        INT2_ARRAY = 1005,
        INT4_ARRAY = 1007,
        TEXT_ARRAY = 1009,
        OID_ARRAY = 1028,
        JSON_ARRAY = 199,
        JSONB_ARRAY = 3807,
        FLOAT4_ARRAY = 1021,
        FLOAT8_ARRAY = 1022,
        NUMERIC_ARRAY = 1231,
        VARCHAR_ARRAY = 1015,
        BPCHAR_ARRAY = 1014,
        DATE_ARRAY = 1182,
        TIME_ARRAY = 1183,
        TIMETZ_ARRAY = 1270,
        TIMESTAMP_ARRAY = 1115,
        TIMESTAMPTZ_ARRAY = 1185,
        INTERVAL_ARRAY = 1187,
        UUID_ARRAY = 2951,
        REGCLASS_ARRAY = 2210,
        REGTYPE_ARRAY = 2211,
        REGPROC_ARRAY = 1008,
        PG_LSN_ARRAY = 3221,
        ACLITEM_ARRAY = 1034,
        RECORD_ARRAY = 2287,
        XID_ARRAY = 1011,
        CSTRING_ARRAY = 1263,
}

/// A row of `pg_type`.
#[derive(Clone, Debug)]
pub struct TypeRow {
    /// `oid`.
    pub oid: u32,
    /// `typname`.
    pub name: &'static str,
    /// `typlen`: bytes, -1 = varlena, -2 = cstring.
    pub length: i16,
    /// `typbyval`.
    pub by_value: bool,
    /// `typtype`: `b`, `p` (pseudo), `r`, `m`, ...
    pub kind: u8,
    /// `typcategory`.
    pub category: u8,
    /// `typispreferred`.
    pub preferred: bool,
    /// `typdelim`.
    pub delimiter: u8,
    /// `typelem`: 0 = none.
    pub element: u32,
    /// `typarray`: 0 = none.
    pub array: u32,
    /// `typinput`, `typoutput`, `typreceive`, `typsend`, `typmodin`, `typmodout`.
    pub functions: [u32; 6],
    /// `typalign`.
    pub alignment: u8,
    /// `typstorage`.
    pub storage: u8,
    /// `typcollation`.
    pub collation: u32,
}

static ROWS: LazyLock<Vec<TypeRow>> = LazyLock::new(|| {
    let text = include_str!("../functions/static/pg_type.tsv");
    let mut rows: Vec<TypeRow> = text.lines().map(parse_row).collect();
    rows.sort_by_key(|row| row.oid);
    rows
});

static BY_NAME: LazyLock<HashMap<&'static str, u32>> =
    LazyLock::new(|| ROWS.iter().map(|row| (row.name, row.oid)).collect());

fn parse_row(line: &'static str) -> TypeRow {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let number = |index: usize| {
        fields[index]
            .parse::<i64>()
            .expect("generated rows are numbers")
    };
    let byte = |index: usize| fields[index].as_bytes()[0];
    TypeRow {
        oid: number(0) as u32,
        name: fields[1],
        length: number(2) as i16,
        by_value: fields[3] == "t",
        kind: byte(4),
        category: byte(5),
        preferred: fields[6] == "t",
        delimiter: byte(7),
        element: number(8) as u32,
        array: number(9) as u32,
        functions: std::array::from_fn(|index| number(10 + index) as u32),
        alignment: byte(16),
        storage: byte(17),
        collation: number(18) as u32,
    }
}

impl Type {
    /// A type without modifier.
    pub const fn new(oid: u32) -> Type {
        Type { oid, modifier: -1 }
    }

    /// The same type with a modifier.
    pub const fn with_modifier(self, modifier: i32) -> Type {
        Type {
            oid: self.oid,
            modifier,
        }
    }

    /// The same type without its modifier.
    pub const fn plain(self) -> Type {
        Type::new(self.oid)
    }

    /// `numeric(precision, scale)`.
    pub const fn numeric(precision: i32, scale: i32) -> Type {
        Type {
            oid: oid::NUMERIC,
            modifier: ((precision << 16) | (scale & 0x7ff)) + 4,
        }
    }

    /// `varchar(length)`.
    pub const fn varchar(length: i32) -> Type {
        Type {
            oid: oid::VARCHAR,
            modifier: length + 4,
        }
    }

    /// `char(length)`.
    pub const fn bpchar(length: i32) -> Type {
        Type {
            oid: oid::BPCHAR,
            modifier: length + 4,
        }
    }

    /// All built-in rows of `pg_type`, by OID.
    pub fn rows() -> &'static [TypeRow] {
        &ROWS
    }

    /// The row of a built-in type.
    pub fn row(self) -> Option<&'static TypeRow> {
        let index = ROWS.binary_search_by_key(&self.oid, |row| row.oid).ok()?;
        Some(&ROWS[index])
    }

    /// The built-in type of this `typname` (`int4`, `_text`), without aliases.
    pub fn by_name(name: &str) -> Option<Type> {
        BY_NAME.get(name).map(|oid| Type::new(*oid))
    }

    /// The array type over this one; `None` for arrays and pseudo-types. The modifier stays: an
    /// array's modifier is its elements'.
    pub fn array_of(self) -> Option<Type> {
        let array = self.row()?.array;
        (array != 0).then_some(Type {
            oid: array,
            modifier: self.modifier,
        })
    }

    /// The element type of an array, `int2vector` or `oidvector` (not of `name`).
    pub fn element(self) -> Option<Type> {
        let row = self.row()?;
        (row.category == b'A' && row.length == -1 && row.element != 0).then_some(Type {
            oid: row.element,
            modifier: self.modifier,
        })
    }

    /// What subscripting gives: the element of an array, `int2vector` or `oidvector`, a `"char"`
    /// of a name, jsonb of jsonb.
    pub fn subscript(self) -> Option<Type> {
        match self.oid {
            oid::NAME => Some(Type::CHAR),
            oid::JSONB => Some(Type::JSONB),
            _ => self.element(),
        }
    }

    /// `int2vector` or `oidvector`.
    pub fn is_vector(self) -> bool {
        matches!(self.oid, oid::INT2VECTOR | oid::OIDVECTOR)
    }

    /// True for array types proper.
    pub fn is_array(self) -> bool {
        self.element().is_some()
    }

    /// `typcategory`; unknown OIDs count as user-defined.
    pub fn category(self) -> u8 {
        self.row().map_or(b'U', |row| row.category)
    }

    /// `typispreferred`.
    pub fn is_preferred(self) -> bool {
        self.row().is_some_and(|row| row.preferred)
    }

    /// `typlen`.
    pub fn length(self) -> i16 {
        self.row().map_or(-1, |row| row.length)
    }

    /// A type of the string category whose values are `Datum::Text`.
    pub fn is_string(self) -> bool {
        matches!(
            self.oid,
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::UNKNOWN
        )
    }

    /// `smallint`, `integer`, `bigint`, `real`, `double precision` or `numeric`.
    pub fn is_number(self) -> bool {
        matches!(
            self.oid,
            oid::INT2 | oid::INT4 | oid::INT8 | oid::FLOAT4 | oid::FLOAT8 | oid::NUMERIC
        )
    }

    /// `anyelement` and its kin.
    pub fn is_polymorphic(self) -> bool {
        matches!(
            self.oid,
            oid::ANYELEMENT
                | oid::ANYARRAY
                | oid::ANYNONARRAY
                | oid::ANYENUM
                | oid::ANYRANGE
                | oid::ANYMULTIRANGE
                | oid::ANYCOMPATIBLE
                | oid::ANYCOMPATIBLEARRAY
                | oid::ANYCOMPATIBLENONARRAY
                | oid::ANYCOMPATIBLERANGE
                | oid::ANYCOMPATIBLEMULTIRANGE
        )
    }

    /// `record`: its text form cannot be reached by function notation.
    pub fn is_composite_like(self) -> bool {
        self.oid == oid::RECORD
    }

    /// A pseudo-type: it cannot be a column's type.
    pub fn is_pseudo(self) -> bool {
        self.row().is_some_and(|row| row.kind == b'p')
    }

    /// An OID alias type's kind of object.
    pub fn reg_kind(self) -> Option<crate::types::RegKind> {
        use crate::types::RegKind;
        Some(match self.oid {
            oid::REGCLASS => RegKind::Class,
            oid::REGTYPE => RegKind::Type,
            oid::REGPROC => RegKind::Proc,
            oid::REGPROCEDURE => RegKind::Procedure,
            oid::REGOPER => RegKind::Oper,
            oid::REGOPERATOR => RegKind::Operator,
            oid::REGNAMESPACE => RegKind::Namespace,
            oid::REGROLE => RegKind::Role,
            oid::REGCOLLATION => RegKind::Collation,
            oid::REGCONFIG => RegKind::Config,
            oid::REGDICTIONARY => RegKind::Dictionary,
            _ => return None,
        })
    }

    /// Whether values of this type have an order (can be sorted, indexed, grouped).
    pub fn is_ordered(self) -> bool {
        match self.element() {
            Some(element) => element.is_ordered(),
            None => !matches!(
                self.oid,
                oid::JSON
                    | oid::XML
                    | oid::JSONPATH
                    | oid::ACLITEM
                    | oid::CID
                    | oid::XID
                    | oid::PG_NODE_TREE
                    | oid::POINT
                    | oid::LSEG
                    | oid::PATH
                    | oid::BOX
                    | oid::POLYGON
                    | oid::LINE
                    | oid::CIRCLE
            ),
        }
    }

    /// The name as `format_type(oid, modifier)` prints it: `character varying(10)`, `integer[]`.
    /// OIDs that are not built in print as `???`; the catalog knows their names.
    pub fn name(self) -> String {
        format_type(self.oid, self.modifier)
    }

    /// Reads a type name as SQL or `regtype` input writes it: `int`, `character varying(10)`,
    /// `timestamp(3) with time zone`, `_int4`, `"char"`, `pg_catalog.text[]`, `numeric(10,2)[]`.
    ///
    /// # Errors
    /// 42704 when no built-in type has that name; 42601 for a malformed one; 22023 for a modifier
    /// out of range.
    pub fn parse(text: &str) -> Result<Type> {
        parse_type(text)
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// PostgreSQL's `format_type`: with modifier `-1` only the name, else the modifier in brackets.
pub fn format_type(type_oid: u32, modifier: i32) -> String {
    if type_oid == 0 {
        return "-".to_owned();
    }
    let Some(row) = Type::new(type_oid).row() else {
        return "???".to_owned();
    };
    let vector = Type::new(type_oid).is_vector();
    if let Some(element) = Type::new(type_oid).element().filter(|_| !vector) {
        return format!("{}[]", format_type(element.oid, modifier));
    }
    let m = modifier;
    match type_oid {
        oid::BIT if m >= 0 => format!("bit({m})"),
        oid::BIT => "bit".to_owned(),
        oid::BOOL => "boolean".to_owned(),
        oid::BPCHAR if m >= 0 => format!("character({})", m - 4),
        oid::BPCHAR => "character".to_owned(),
        oid::CHAR => "\"char\"".to_owned(),
        oid::FLOAT4 => "real".to_owned(),
        oid::FLOAT8 => "double precision".to_owned(),
        oid::INT2 => "smallint".to_owned(),
        oid::INT4 => "integer".to_owned(),
        oid::INT8 => "bigint".to_owned(),
        oid::NUMERIC if m >= 4 => {
            let (precision, scale) = super::typmod::numeric_parts(m);
            format!("numeric({precision},{scale})")
        }
        oid::INTERVAL if m >= 0 => format!("interval{}", super::typmod::interval_suffix(m)),
        oid::TIME if m >= 0 => format!("time({m}) without time zone"),
        oid::TIME => "time without time zone".to_owned(),
        oid::TIMETZ if m >= 0 => format!("time({m}) with time zone"),
        oid::TIMETZ => "time with time zone".to_owned(),
        oid::TIMESTAMP if m >= 0 => format!("timestamp({m}) without time zone"),
        oid::TIMESTAMP => "timestamp without time zone".to_owned(),
        oid::TIMESTAMPTZ if m >= 0 => format!("timestamp({m}) with time zone"),
        oid::TIMESTAMPTZ => "timestamp with time zone".to_owned(),
        oid::VARBIT if m >= 0 => format!("bit varying({m})"),
        oid::VARBIT => "bit varying".to_owned(),
        oid::VARCHAR if m >= 0 => format!("character varying({})", m - 4),
        oid::VARCHAR => "character varying".to_owned(),
        oid::ANY => "\"any\"".to_owned(),
        _ => row.name.to_owned(),
    }
}

fn unknown_type(name: &str) -> Error {
    Error::new(
        state::UNDEFINED_OBJECT,
        format!("type \"{name}\" does not exist"),
    )
}

fn parse_type(text: &str) -> Result<Type> {
    let mut rest = text.trim();
    let mut dimensions = 0;
    while let Some(inner) = rest.strip_suffix(']') {
        let open = inner.rfind('[').ok_or_else(|| unknown_type(text))?;
        if !inner[open + 1..].trim().bytes().all(|b| b.is_ascii_digit()) {
            return Err(unknown_type(text));
        }
        rest = inner[..open].trim_end();
        dimensions += 1;
    }
    let lower = rest.to_ascii_lowercase();
    if let Some(inner) = lower.strip_suffix(" array") {
        rest = &rest[..inner.len()];
        dimensions += 1;
    }
    let base = parse_scalar(rest.trim(), text)?;
    if dimensions == 0 {
        return Ok(base);
    }
    base.array_of().ok_or_else(|| {
        Error::new(
            state::UNDEFINED_OBJECT,
            format!("could not find array type for data type {}", base.name()),
        )
    })
}

/// Splits `timestamp (3) with time zone` into its words and its modifiers.
fn split_modifiers<'a>(text: &'a str, whole: &str) -> Result<(String, Vec<&'a str>)> {
    let Some(open) = text.find('(') else {
        return Ok((text.to_owned(), Vec::new()));
    };
    let close = text.find(')').ok_or_else(|| {
        Error::new(
            state::SYNTAX_ERROR,
            format!("syntax error in type name \"{whole}\""),
        )
    })?;
    let modifiers = text[open + 1..close].split(',').map(str::trim).collect();
    Ok((
        format!("{} {}", text[..open].trim(), text[close + 1..].trim()),
        modifiers,
    ))
}

fn parse_scalar(text: &str, whole: &str) -> Result<Type> {
    let (name, modifiers) = split_modifiers(text, whole)?;
    let name = name.trim();
    if name.contains('"') || name.contains('.') {
        return parse_qualified(name, &modifiers, whole);
    }
    let words: Vec<String> = name.split_whitespace().map(|w| w.to_lowercase()).collect();
    let name = words.join(" ");
    let name = name.as_str();
    if let Some(fields) = name.strip_prefix("interval ") {
        return super::typmod::interval_type(fields, &modifiers);
    }
    let base = match name {
        "int" | "integer" | "int4" => Type::INT4,
        "smallint" => Type::INT2,
        "bigint" => Type::INT8,
        "real" => Type::FLOAT4,
        "double precision" => Type::FLOAT8,
        "float" => return float_type(&modifiers),
        "decimal" | "dec" => Type::NUMERIC,
        "boolean" => Type::BOOL,
        "char varying"
        | "character varying"
        | "nchar varying"
        | "national character varying"
        | "national char varying" => Type::VARCHAR,
        "char" | "character" | "nchar" | "national character" | "national char" => {
            if modifiers.is_empty() {
                return Ok(Type::bpchar(1));
            }
            Type::BPCHAR
        }
        "bit" if modifiers.is_empty() => return Ok(Type::BIT.with_modifier(1)),
        "bit varying" => Type::VARBIT,
        "timestamp with time zone" => Type::TIMESTAMPTZ,
        "timestamp without time zone" => Type::TIMESTAMP,
        "time with time zone" => Type::TIMETZ,
        "time without time zone" => Type::TIME,
        _ => Type::by_name(name).ok_or_else(|| unknown_type(name))?,
    };
    super::typmod::apply_modifiers(base, &modifiers)
}

fn float_type(modifiers: &[&str]) -> Result<Type> {
    let Some(digits) = modifiers.first() else {
        return Ok(Type::FLOAT8);
    };
    match digits.parse::<i32>() {
        Ok(..=0) | Err(_) => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "precision for type float must be at least 1 bit",
        )),
        Ok(1..=24) => Ok(Type::FLOAT4),
        Ok(25..=53) => Ok(Type::FLOAT8),
        Ok(_) => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "precision for type float must be less than 54 bits",
        )),
    }
}

fn parse_qualified(name: &str, modifiers: &[&str], whole: &str) -> Result<Type> {
    let parts = super::text::split_identifiers(name).ok_or_else(|| {
        Error::new(
            state::SYNTAX_ERROR,
            format!("invalid type name \"{whole}\""),
        )
    })?;
    let (schema, base) = match parts.as_slice() {
        [base] => (None, base.as_str()),
        [schema, base] => (Some(schema.as_str()), base.as_str()),
        _ => return Err(unknown_type(whole)),
    };
    if schema.is_some_and(|schema| schema != "pg_catalog") {
        return Err(unknown_type(whole));
    }
    let base = Type::by_name(base).ok_or_else(|| unknown_type(whole))?;
    super::typmod::apply_modifiers(base, modifiers)
}

/// A key word of SQL, as `pg_get_keywords()` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Keyword {
    /// The word, in lower case.
    pub word: &'static str,
    /// `U` unreserved, `C` column name, `T` type or function name, `R` reserved.
    pub category: u8,
    /// Whether it can be a column label without AS.
    pub bare_label: bool,
    /// The category in words.
    pub description: &'static str,
    /// `bare_label` in words.
    pub label_description: &'static str,
}

/// PostgreSQL's key words, by word.
pub fn keywords() -> &'static [Keyword] {
    static WORDS: LazyLock<Vec<Keyword>> = LazyLock::new(|| {
        include_str!("keywords.tsv")
            .lines()
            .map(|line| {
                let fields: Vec<&'static str> = line.split('\t').collect();
                Keyword {
                    word: fields[0],
                    category: fields[1].as_bytes()[0],
                    bare_label: fields[2] == "t",
                    description: fields[3],
                    label_description: fields[4],
                }
            })
            .collect()
    });
    &WORDS
}

/// True for key words that an identifier must be quoted for (all but the unreserved ones).
pub fn is_reserved(word: &str) -> bool {
    let words = keywords();
    let found = words.binary_search_by_key(&word, |keyword| keyword.word);
    found.is_ok_and(|at| words[at].category != b'U')
}
