//! Functions, operators and aggregates: PostgreSQL 15's catalog of them, the rules by which a call
//! finds its function (PostgreSQL chapter 10), and what they compute.
//!
//! A call goes: [`resolve_function`] or [`resolve_operator`] gives a [`Resolved`]; the caller casts
//! each argument to `Resolved::arguments` and then calls [`Resolved::call`], [`Resolved::rows`] or
//! [`Resolved::accumulator`] with an [`Evaluation`].

pub mod catalog;
pub mod evaluation;
pub mod resolve;

pub mod aggregate;
pub(crate) mod json;
pub mod scalar;
pub mod set;
pub mod window;

use std::sync::Arc;

use crate::error::{Error, Result, state};
use crate::types::{Array, Datum, Shape, Type};

pub use aggregate::Accumulator;
pub use catalog::{Operator, function, functions_in, functions_named, operator, operators_named};
pub use evaluation::{Environment, Evaluation, System};
pub use resolve::{
    Argument, CommonContext, ResolvedOperator, cast_like_call, common_type, resolve_among,
    resolve_call, resolve_function, resolve_operator, select_common_type,
};
pub use set::Rows;
pub use window::Window;

/// Whether a function may give another result for the same arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Never: it may be folded at planning.
    Immutable,
    /// Not within one statement.
    Stable,
    /// At each call.
    Volatile,
}

/// What a scalar function is: the evaluation, the resolved call (for its types) and the arguments,
/// already cast, one per declared parameter (a VARIADIC parameter holds one array). Strict
/// functions never see NULL.
pub type ScalarFunction = fn(&mut Evaluation<'_>, &Resolved, &[Datum]) -> Result<Datum>;

/// What a set-returning function is; rows come lazily.
pub type SetFunction = fn(&mut Evaluation<'_>, &Resolved, &[Datum]) -> Result<Rows>;

/// Makes the accumulator of one group.
pub type AggregateFunction = fn(&Resolved) -> Box<dyn Accumulator>;

/// How a function computes.
#[derive(Clone, Copy)]
pub enum Kind {
    /// One value per call.
    Scalar(ScalarFunction),
    /// An aggregate of ordinary form: `sum(x)`.
    Aggregate(AggregateFunction),
    /// An ordered-set (or hypothetical-set) aggregate, `percentile_cont(0.5) WITHIN GROUP (ORDER
    /// BY x)`: the number of direct arguments. They are given to `Accumulator::add` before the
    /// aggregated one with each row; rows come in the order of WITHIN GROUP.
    OrderedSet(usize, AggregateFunction),
    /// Zero or more rows per call.
    SetReturning(SetFunction),
    /// Needs a window; the executor computes it by its kind.
    Window(Window),
    /// Answered by [`System::system`] under the function's name.
    System,
    /// Rows answered by [`System::system_rows`] under the function's name.
    SystemRows,
    /// Known by name, not computed here: calling it is 0A000.
    Unsupported,
}

/// A function, aggregate or window function of `pg_proc`.
pub struct Function {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// `pronamespace`: `pg_catalog`, `information_schema` or `freehold`, whose functions are here
    /// to be shown: the server plugs what they do.
    pub schema: &'static str,
    /// `proname`.
    pub name: &'static str,
    /// `prosrc` of internal functions; for others `name@oid`.
    pub source: &'static str,
    /// `proargtypes`: OIDs of the input parameters; may be polymorphic.
    pub arguments: Vec<u32>,
    /// `provariadic`: element type of the last parameter (or `any`); 0 = not variadic.
    pub variadic: u32,
    /// `pronargdefaults`: how many trailing parameters may be left out.
    pub defaults: usize,
    /// `pg_get_expr(proargdefaults)`: their texts, separated by commas.
    pub default_text: &'static str,
    /// `prorettype`.
    pub result: u32,
    /// `proisstrict`: NULL in, NULL out, without a call.
    pub strict: bool,
    /// `provolatile`.
    pub volatility: Volatility,
    /// `prokind`: `f`, `a`, `w` or `p`.
    pub prokind: u8,
    /// `proretset`.
    pub returns_set: bool,
    /// `proallargtypes`, empty when all parameters are IN.
    pub all_arguments: Vec<u32>,
    /// `proargmodes`: one of `iobvt` per entry of `all_arguments`, or empty.
    pub modes: &'static str,
    /// `proargnames`, empty when unnamed.
    pub argument_names: Vec<&'static str>,
    /// `lanname`.
    pub language: &'static str,
    /// `proleakproof`.
    pub leakproof: bool,
    /// `proparallel`.
    pub parallel: u8,
    /// `procost`.
    pub cost: f32,
    /// `prorows`.
    pub rows: f32,
    /// How it computes.
    pub kind: Kind,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.signature())
    }
}

impl Function {
    /// `name(type, type)`.
    pub fn signature(&self) -> String {
        let types: Vec<String> = self
            .arguments
            .iter()
            .map(|oid| Type::new(*oid).name())
            .collect();
        format!("{}({})", self.name, types.join(", "))
    }

    /// True for aggregates.
    pub fn is_aggregate(&self) -> bool {
        self.prokind == b'a'
    }

    /// True for pure window functions.
    pub fn is_window(&self) -> bool {
        self.prokind == b'w'
    }

    /// The output columns of a function with OUT parameters (or RETURNS TABLE): names and
    /// declared types. Empty when it has none.
    pub fn columns(&self) -> Vec<(&'static str, u32)> {
        self.modes
            .bytes()
            .enumerate()
            .filter(|(_, mode)| matches!(mode, b'o' | b'b' | b't'))
            .map(|(at, _)| {
                (
                    self.argument_names.get(at).copied().unwrap_or(""),
                    self.all_arguments[at],
                )
            })
            .collect()
    }
}

/// A value for a parameter that the call left out.
#[derive(Clone, Debug)]
enum Slot {
    Given(usize),
    Default(Datum),
}

/// A call bound to its function.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The function.
    pub function: &'static Function,
    /// What to cast each *given* argument to, in the order given.
    pub arguments: Vec<Type>,
    /// The type of the result, polymorphic types made concrete. For set-returning functions the
    /// type of one row.
    pub result: Type,
    /// Given arguments from here on are packed into one array for a VARIADIC parameter.
    pack_from: Option<(usize, Type)>,
    /// Parameters in declared order, when defaults or names are used.
    slots: Option<Vec<Slot>>,
    /// `VARIADIC array` given to a `VARIADIC "any"` parameter.
    spread: bool,
    /// The columns that the query defines for a function that returns `record`.
    shape: Option<Arc<Shape>>,
}

impl Resolved {
    /// A call of a known function with known types, all arguments given in declared order.
    pub fn direct(function: &'static Function, arguments: Vec<Type>, result: Type) -> Resolved {
        Resolved {
            function,
            arguments,
            result,
            pack_from: None,
            slots: None,
            spread: false,
            shape: None,
        }
    }

    /// The call with the column definition list that its query gives: `AS t (a int, b text)`.
    pub fn with_shape(mut self, shape: Arc<Shape>) -> Resolved {
        self.shape = Some(shape);
        self
    }

    /// The column definition list.
    ///
    /// # Errors
    /// 0A000 where the query gives none.
    pub fn shape(&self) -> Result<&Arc<Shape>> {
        self.shape.as_ref().ok_or_else(|| {
            let name = self.function.name;
            Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("could not determine row type for result of {name}"),
            )
            .hint(
                "Provide a non-null record argument, or call the function in the FROM clause \
                 using a column definition list.",
            )
        })
    }

    /// The types of the parameters as the function sees them (after packing and defaults are in).
    pub fn parameter(&self, index: usize) -> Type {
        match &self.slots {
            Some(slots) => match slots.get(index) {
                Some(Slot::Given(at)) => self.arguments.get(*at).copied().unwrap_or(Type::UNKNOWN),
                _ => Type::new(self.function.arguments.get(index).copied().unwrap_or(0)),
            },
            None => self.arguments.get(index).copied().unwrap_or(Type::UNKNOWN),
        }
    }

    /// True when a VARIADIC parameter gathers single arguments (no `VARIADIC` keyword).
    pub fn is_packed(&self) -> bool {
        self.pack_from.is_some()
    }

    /// True when the last argument is an array whose elements stand for the arguments of a
    /// `VARIADIC "any"` parameter.
    pub fn is_spread(&self) -> bool {
        self.spread
    }

    /// The names and types of the columns of one result row, when it is composite.
    pub fn columns(&self) -> Vec<(String, Type)> {
        resolve::output_columns(self)
    }

    /// Calls a scalar function; the arguments must have been cast to `self.arguments`.
    ///
    /// # Errors
    /// What the function raises; 0A000 when it is only known by name.
    #[inline]
    pub fn call(&self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<Datum> {
        if self.pack_from.is_some() || self.slots.is_some() {
            let packed = self.arrange(arguments);
            return self.call_arranged(evaluation, &packed);
        }
        self.call_arranged(evaluation, arguments)
    }

    #[inline]
    fn call_arranged(&self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<Datum> {
        if self.function.strict && arguments.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        match self.function.kind {
            Kind::Scalar(function) => function(evaluation, self, arguments),
            Kind::System => {
                let environment = evaluation.environment;
                environment.system(evaluation, self, arguments)
            }
            _ => Err(self.unsupported()),
        }
    }

    /// Calls a set-returning function (a scalar function gives one row).
    ///
    /// # Errors
    /// What the function raises; 0A000 when it is only known by name.
    pub fn rows(&self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<Rows> {
        let packed;
        let arguments = if self.pack_from.is_some() || self.slots.is_some() {
            packed = self.arrange(arguments);
            packed.as_slice()
        } else {
            arguments
        };
        match self.function.kind {
            Kind::SetReturning(_) | Kind::SystemRows
                if self.function.strict && arguments.iter().any(Datum::is_null) =>
            {
                Ok(Box::new(std::iter::empty()))
            }
            Kind::SetReturning(function) => function(evaluation, self, arguments),
            Kind::SystemRows => {
                let environment = evaluation.environment;
                environment.system_rows(evaluation, self, arguments)
            }
            _ => {
                let value = self.call_arranged(evaluation, arguments)?;
                Ok(Box::new(std::iter::once(Ok(value))))
            }
        }
    }

    /// The accumulator of a new group.
    ///
    /// # Errors
    /// 0A000 when the aggregate is only known by name.
    pub fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        match self.function.kind {
            Kind::Aggregate(make) | Kind::OrderedSet(_, make) => Ok(make(self)),
            _ => Err(self.unsupported()),
        }
    }

    fn unsupported(&self) -> Error {
        Error::unsupported(format!("function {}", self.function.signature()))
    }

    /// Puts given arguments into the declared order, with defaults and packed variadics. Public
    /// for aggregates and window functions, whose callers evaluate the arguments themselves.
    pub fn arrange(&self, arguments: &[Datum]) -> Vec<Datum> {
        let mut out = Vec::with_capacity(self.function.arguments.len());
        match &self.slots {
            Some(slots) => out.extend(slots.iter().map(|slot| match slot {
                Slot::Given(at) => arguments[*at].clone(),
                Slot::Default(value) => value.clone(),
            })),
            None => out.extend_from_slice(arguments),
        }
        if let Some((from, element)) = self.pack_from {
            let rest = out.split_off(from.min(out.len()));
            out.push(Datum::array(Array::of(element, rest)));
        }
        out
    }
}
