//! The static rows of `pg_proc`, `pg_operator`, `pg_cast` and `pg_aggregate` of PostgreSQL 15
//! (written by `static/generate.sh`), joined with what this crate computes.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::functions::{Function, Kind, Volatility, aggregate, scalar, set, window};

/// An operator of `pg_operator`.
#[derive(Debug)]
pub struct Operator {
    /// `oid`.
    pub oid: u32,
    /// `oprname`.
    pub name: &'static str,
    /// `oprleft`; `None` for prefix operators.
    pub left: Option<u32>,
    /// `oprright`.
    pub right: u32,
    /// `oprresult`.
    pub result: u32,
    /// `oprcode`.
    pub function: u32,
    /// `oprcom`: 0 = none.
    pub commutator: u32,
    /// `oprnegate`: 0 = none.
    pub negator: u32,
    /// `oprcanmerge`.
    pub can_merge: bool,
    /// `oprcanhash`.
    pub can_hash: bool,
    /// `oprrest`, `oprjoin`.
    pub estimators: [u32; 2],
}

/// A row of `pg_cast`.
#[derive(Debug)]
pub struct CastRow {
    /// `oid`.
    pub oid: u32,
    /// `castsource`.
    pub source: u32,
    /// `casttarget`.
    pub target: u32,
    /// `castfunc`: 0 = none.
    pub function: u32,
    /// `castcontext`: `i`, `a` or `e`.
    pub context: u8,
    /// `castmethod`: `f`, `b` or `i`.
    pub method: u8,
}

/// A row of `pg_aggregate`.
#[derive(Debug)]
pub struct AggregateRow {
    /// `aggfnoid`.
    pub function: u32,
    /// `aggkind`: `n`, `o` or `h`.
    pub kind: u8,
    /// `aggnumdirectargs`.
    pub direct: usize,
    /// `aggtransfn`, `aggfinalfn`, `aggtranstype`.
    pub parts: [u32; 3],
    /// `agginitval`.
    pub initial: &'static str,
}

struct Catalog {
    functions: Vec<Function>,
    by_oid: HashMap<u32, usize>,
    by_name: HashMap<&'static str, Vec<usize>>,
    operators: Vec<Operator>,
    operator_by_oid: HashMap<u32, usize>,
    operators_by_name: HashMap<&'static str, Vec<usize>>,
    casts: Vec<CastRow>,
    cast_by_types: HashMap<(u32, u32), usize>,
    aggregates: Vec<AggregateRow>,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(load);

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("generated rows hold numbers, not {text}"))
}

fn list(text: &str) -> Vec<u32> {
    text.split_whitespace().map(number).collect()
}

fn load() -> Catalog {
    let aggregates: Vec<AggregateRow> = include_str!("static/pg_aggregate.tsv")
        .lines()
        .map(aggregate_row)
        .collect();
    let operators: Vec<Operator> = include_str!("static/pg_operator.tsv")
        .lines()
        .map(operator_row)
        .collect();
    let comparisons: HashMap<u32, (&str, u32, u32)> = operators
        .iter()
        .filter(|o| matches!(o.name, "=" | "<>" | "<" | "<=" | ">" | ">="))
        .filter_map(|o| Some((o.function, (o.name, o.left?, o.right))))
        .collect();
    let functions: Vec<Function> = [
        ("pg_catalog", include_str!("static/pg_proc.tsv")),
        (
            "information_schema",
            include_str!("static/information_schema.tsv"),
        ),
        ("freehold", include_str!("static/freehold.tsv")),
    ]
    .into_iter()
    .flat_map(|(schema, rows)| rows.lines().map(move |line| (schema, line)))
    .map(|(schema, line)| function_row(schema, line, &aggregates, &comparisons))
    .collect();
    let mut by_name: HashMap<&'static str, Vec<usize>> = HashMap::new();
    for (index, function) in functions.iter().enumerate() {
        by_name.entry(function.name).or_default().push(index);
    }
    let mut operators_by_name: HashMap<&'static str, Vec<usize>> = HashMap::new();
    for (index, operator) in operators.iter().enumerate() {
        operators_by_name
            .entry(operator.name)
            .or_default()
            .push(index);
    }
    let casts: Vec<CastRow> = include_str!("static/pg_cast.tsv")
        .lines()
        .map(cast_row)
        .collect();
    Catalog {
        by_oid: functions
            .iter()
            .enumerate()
            .map(|(at, f)| (f.oid, at))
            .collect(),
        operator_by_oid: operators
            .iter()
            .enumerate()
            .map(|(at, o)| (o.oid, at))
            .collect(),
        cast_by_types: casts
            .iter()
            .enumerate()
            .map(|(at, c)| ((c.source, c.target), at))
            .collect(),
        functions,
        by_name,
        operators,
        operators_by_name,
        casts,
        aggregates,
    }
}

fn function_row(
    schema: &'static str,
    line: &'static str,
    aggregates: &[AggregateRow],
    comparisons: &HashMap<u32, (&str, u32, u32)>,
) -> Function {
    let f: Vec<&'static str> = line.split('\t').collect();
    let oid = number(f[0]);
    let source = f[2];
    let prokind = f[4].as_bytes()[0];
    let returns_set = f[6] == "t";
    Function {
        oid,
        schema,
        name: f[1],
        source,
        language: f[3],
        prokind,
        strict: f[5] == "t",
        returns_set,
        volatility: match f[7] {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        variadic: number(f[8]),
        defaults: number(f[9]),
        result: number(f[10]),
        arguments: list(f[11]),
        all_arguments: list(f[12]),
        modes: f[13],
        argument_names: f[14].split(' ').filter(|_| !f[14].is_empty()).collect(),
        default_text: f[15],
        leakproof: f[16] == "t",
        parallel: f[17].as_bytes()[0],
        cost: number(f[18]),
        rows: number(f[19]),
        kind: kind_of(&f, oid, returns_set, aggregates, comparisons),
    }
}

fn kind_of(
    fields: &[&'static str],
    oid: u32,
    returns_set: bool,
    aggregates: &[AggregateRow],
    comparisons: &HashMap<u32, (&str, u32, u32)>,
) -> Kind {
    let (name, source, prokind) = (fields[1], fields[2], fields[4].as_bytes()[0]);
    match prokind {
        b'w' => window::by_source(source).map_or(Kind::Unsupported, Kind::Window),
        b'a' => {
            let Some(make) = aggregate::by_name(name, oid) else {
                return Kind::Unsupported;
            };
            match aggregates.iter().find(|row| row.function == oid) {
                Some(row) if row.kind != b'n' => Kind::OrderedSet(row.direct, make),
                _ => Kind::Aggregate(make),
            }
        }
        _ if returns_set => set::by_source(source).map_or(Kind::SystemRows, Kind::SetReturning),
        _ => match scalar::by_source(source, comparisons.get(&oid).copied()) {
            Some(function) => Kind::Scalar(function),
            None if is_system(name) => Kind::System,
            None => Kind::Unsupported,
        },
    }
}

/// Functions of the session and the catalog: everything named so, and a few others.
fn is_system(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "format_type",
        "obj_description",
        "col_description",
        "shobj_description",
        "set_config",
        "current_setting",
        "nextval",
        "currval",
        "setval",
        "lastval",
        "version",
        "timeofday",
        "current_query",
        "to_regclass",
        "to_regproc",
        "to_regprocedure",
        "to_regtype",
        "to_regnamespace",
        "to_regrole",
        "to_regoper",
        "to_regoperator",
        "to_regcollation",
        "row_security_active",
        "inet_client_addr",
        "inet_client_port",
        "inet_server_addr",
        "inet_server_port",
        "txid_current",
        "txid_current_if_assigned",
        "txid_status",
        "txid_current_snapshot",
        "txid_snapshot_xmin",
        "txid_snapshot_xmax",
        "txid_visible_in_snapshot",
        "makeaclitem",
        "aclcontains",
        "acldefault",
        "getdatabaseencoding",
        "quote_all",
        "currtid2",
        "age",
        "mxid_age",
        "hashtext",
        "get_current_ts_config",
        "enum_first",
        "enum_last",
        "enum_range",
        "lo_create",
        "lo_unlink",
    ];
    name.starts_with("pg_") || name.starts_with("has_") || NAMES.contains(&name)
}

fn operator_row(line: &'static str) -> Operator {
    let f: Vec<&'static str> = line.split('\t').collect();
    let left: u32 = number(f[5]);
    Operator {
        oid: number(f[0]),
        name: f[1],
        can_merge: f[3] == "t",
        can_hash: f[4] == "t",
        left: (left != 0).then_some(left),
        right: number(f[6]),
        result: number(f[7]),
        commutator: number(f[8]),
        negator: number(f[9]),
        function: number(f[10]),
        estimators: [number(f[11]), number(f[12])],
    }
}

fn cast_row(line: &'static str) -> CastRow {
    let f: Vec<&'static str> = line.split('\t').collect();
    CastRow {
        oid: number(f[0]),
        source: number(f[1]),
        target: number(f[2]),
        function: number(f[3]),
        context: f[4].as_bytes()[0],
        method: f[5].as_bytes()[0],
    }
}

fn aggregate_row(line: &'static str) -> AggregateRow {
    let f: Vec<&'static str> = line.split('\t').collect();
    AggregateRow {
        function: number(f[0]),
        kind: f[1].as_bytes()[0],
        direct: number(f[2]),
        parts: [number(f[3]), number(f[4]), number(f[5])],
        initial: f[6],
    }
}

/// All functions, by schema and name.
pub fn functions() -> &'static [Function] {
    &CATALOG.functions
}

/// The function of an OID.
pub fn function(oid: u32) -> Option<&'static Function> {
    CATALOG
        .by_oid
        .get(&oid)
        .map(|index| &CATALOG.functions[*index])
}

/// All overloads of a name.
pub fn functions_named(name: &str) -> impl Iterator<Item = &'static Function> {
    let indexes = CATALOG.by_name.get(name).map_or(&[][..], Vec::as_slice);
    indexes.iter().map(|index| &CATALOG.functions[*index])
}

/// The overloads of a name in one schema: `pg_catalog`, `information_schema` or `freehold`.
pub fn functions_in(schema: &str, name: &str) -> impl Iterator<Item = &'static Function> {
    functions_named(name).filter(move |function| function.schema == schema)
}

/// All operators, by name.
pub fn operators() -> &'static [Operator] {
    &CATALOG.operators
}

/// The operator of an OID.
pub fn operator(oid: u32) -> Option<&'static Operator> {
    CATALOG
        .operator_by_oid
        .get(&oid)
        .map(|index| &CATALOG.operators[*index])
}

/// All operators of a name.
pub fn operators_named(name: &str) -> impl Iterator<Item = &'static Operator> {
    let indexes = CATALOG
        .operators_by_name
        .get(name)
        .map_or(&[][..], Vec::as_slice);
    indexes.iter().map(|index| &CATALOG.operators[*index])
}

/// The operator of exactly these operand types.
pub fn operator_exact(name: &str, left: Option<u32>, right: u32) -> Option<&'static Operator> {
    operators_named(name).find(|o| o.left == left && o.right == right)
}

/// All casts, by OID.
pub fn casts() -> &'static [CastRow] {
    &CATALOG.casts
}

/// The cast row from one type to another.
pub fn cast_row_of(source: u32, target: u32) -> Option<&'static CastRow> {
    CATALOG
        .cast_by_types
        .get(&(source, target))
        .map(|index| &CATALOG.casts[*index])
}

/// All rows of `pg_aggregate`, by OID.
pub fn aggregates() -> &'static [AggregateRow] {
    &CATALOG.aggregates
}
