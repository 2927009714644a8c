//! Which function or operator a call means, and what type a set of expressions has in common:
//! PostgreSQL chapter 10, "Type Conversion", rule by rule (parse_func.c, parse_oper.c,
//! parse_coerce.c).

use crate::error::{Error, Result, state};
use crate::functions::catalog::{self, Operator};
use crate::functions::{Function, Resolved, Slot};
use crate::types::cast::{CastContext, can_coerce};
use crate::types::kind::oid;
use crate::types::{Datum, FormatSettings, Type};

/// One argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a> {
    /// The name in `name => value` notation.
    pub name: Option<&'a str>,
    /// Its type; [`Type::UNKNOWN`] for an untyped literal, NULL or parameter.
    pub kind: Type,
}

/// A function seen with the number of arguments of one call.
#[derive(Clone)]
struct Candidate {
    function: &'static Function,
    /// Parameter types, one per given argument, in the order given.
    types: Vec<u32>,
    /// VARIADIC parameter gathers single arguments.
    expanded: bool,
    /// Parameters left to defaults.
    defaulted: usize,
    /// Declared position of each given argument, when names are used.
    order: Option<Vec<usize>>,
}

/// Finds the function for a call with positional arguments; aggregates and window functions too.
///
/// # Errors
/// 42883 when there is none, 42725 when several fit equally, 42804 when polymorphic types do not
/// agree.
pub fn resolve_function(name: &str, arguments: &[Type]) -> Result<Resolved> {
    let arguments: Vec<Argument<'_>> = arguments
        .iter()
        .map(|kind| Argument {
            name: None,
            kind: *kind,
        })
        .collect();
    resolve_call(name, &arguments, false)
}

/// Finds the function for a call with named arguments or an explicit `VARIADIC`.
///
/// # Errors
/// As [`resolve_function`].
pub fn resolve_call(name: &str, arguments: &[Argument<'_>], variadic: bool) -> Result<Resolved> {
    resolve_among(catalog::functions_named(name), name, arguments, variadic)
}

/// [`resolve_call`] over given overloads, for functions that are not in the static catalog.
///
/// # Errors
/// As [`resolve_function`].
pub fn resolve_among(
    functions: impl Iterator<Item = &'static Function>,
    name: &str,
    arguments: &[Argument<'_>],
    variadic: bool,
) -> Result<Resolved> {
    let types: Vec<u32> = arguments.iter().map(|argument| argument.kind.oid).collect();
    let candidates = candidates(functions, arguments, variadic);
    let chosen = match candidates.iter().find(|candidate| candidate.types == types) {
        Some(exact) => exact.clone(),
        None => {
            let lists: Vec<&[u32]> = candidates.iter().map(|c| c.types.as_slice()).collect();
            match select(&types, &lists) {
                Selection::One(at) => candidates[at].clone(),
                Selection::None => return Err(no_function(name, arguments)),
                Selection::Several => return Err(several_functions(name, arguments)),
            }
        }
    };
    let mut resolved = bind(chosen, arguments)?;
    resolved.spread = variadic && resolved.function.variadic == oid::ANY;
    Ok(resolved)
}

/// The overloads that could take this many (and these named) arguments.
fn candidates(
    functions: impl Iterator<Item = &'static Function>,
    arguments: &[Argument<'_>],
    variadic: bool,
) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for function in functions {
        let candidate = if arguments.iter().any(|argument| argument.name.is_some()) {
            named_candidate(function, arguments)
        } else {
            positional_candidate(function, arguments.len(), variadic)
        };
        let Some(candidate) = candidate else {
            continue;
        };
        // Of two with the same parameters, the plain one hides the variadic or defaulted one.
        if let Some(other) = found
            .iter_mut()
            .find(|other| other.types == candidate.types)
        {
            let rank = |c: &Candidate| (c.expanded, c.defaulted);
            if rank(&candidate) < rank(other) {
                *other = candidate;
            }
            continue;
        }
        found.push(candidate);
    }
    found
}

fn positional_candidate(
    function: &'static Function,
    given: usize,
    variadic: bool,
) -> Option<Candidate> {
    let declared = function.arguments.len();
    let mut types = function.arguments.clone();
    if function.variadic != 0 && !variadic && given >= declared {
        types.truncate(declared - 1);
        types.resize(given, function.variadic);
        // "any" gathers nothing: the function sees the arguments one by one.
        let expanded = function.variadic != oid::ANY;
        return Some(Candidate {
            function,
            types,
            expanded,
            defaulted: 0,
            order: None,
        });
    }
    if variadic && (function.variadic == 0 || given != declared) {
        return None;
    }
    if given > declared || given + function.defaults < declared {
        return None;
    }
    types.truncate(given);
    Some(Candidate {
        function,
        types,
        expanded: false,
        defaulted: declared - given,
        order: None,
    })
}

fn named_candidate(function: &'static Function, arguments: &[Argument<'_>]) -> Option<Candidate> {
    let declared = function.arguments.len();
    if arguments.len() > declared || function.argument_names.is_empty() {
        return None;
    }
    let inputs: Vec<&str> = input_names(function);
    let mut order = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        let at = match argument.name {
            None => index,
            Some(name) => inputs.iter().position(|input| *input == name)?,
        };
        if order.contains(&at) {
            return None;
        }
        order.push(at);
    }
    let required = declared - function.defaults;
    if (0..required).any(|at| !order.contains(&at)) {
        return None;
    }
    Some(Candidate {
        function,
        types: order.iter().map(|at| function.arguments[*at]).collect(),
        expanded: false,
        defaulted: declared - arguments.len(),
        order: Some(order),
    })
}

fn input_names(function: &Function) -> Vec<&'static str> {
    let names = function.argument_names.iter().copied();
    if function.modes.is_empty() {
        return names.collect();
    }
    names
        .zip(function.modes.bytes())
        .filter(|(_, mode)| matches!(mode, b'i' | b'b' | b'v'))
        .map(|(name, _)| name)
        .collect()
}

fn bind(candidate: Candidate, arguments: &[Argument<'_>]) -> Result<Resolved> {
    let actual: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
    let function = candidate.function;
    let (types, result) = make_concrete(&candidate.types, function.result, &actual)?;
    let pack_from = candidate.expanded.then(|| {
        let from = function.arguments.len() - 1;
        let element = types
            .get(from)
            .copied()
            .unwrap_or(Type::new(function.variadic));
        (from, element.plain())
    });
    let slots = if candidate.defaulted > 0 || candidate.order.is_some() {
        Some(fill_slots(&candidate)?)
    } else {
        None
    };
    Ok(Resolved {
        function,
        arguments: types,
        result,
        pack_from,
        slots,
        spread: false,
        shape: None,
    })
}

fn fill_slots(candidate: &Candidate) -> Result<Vec<Slot>> {
    let function = candidate.function;
    let declared = function.arguments.len();
    let defaults: Vec<&str> = split_defaults(function.default_text);
    let first_default = declared - function.defaults;
    (0..declared)
        .map(|at| {
            let given = match &candidate.order {
                Some(order) => order.iter().position(|slot| *slot == at),
                None => (at < candidate.types.len()).then_some(at),
            };
            if let Some(given) = given {
                return Ok(Slot::Given(given));
            }
            let text = defaults
                .get(at.wrapping_sub(first_default))
                .copied()
                .unwrap_or("NULL");
            let kind = Type::new(function.arguments[at]);
            let bare = text.split("::").next().unwrap_or(text).trim_matches('\'');
            Ok(Slot::Default(Datum::from_text(
                bare,
                kind,
                &FormatSettings::default(),
            )?))
        })
        .collect()
}

/// The texts of a default list; the built-in ones hold no commas of their own.
fn split_defaults(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

/// Which of several parameter lists fits given types best, exact ones first; `Err` if several do.
pub(crate) fn choose(
    given: &[u32],
    candidates: &[&[u32]],
) -> std::result::Result<Option<usize>, ()> {
    if let Some(exact) = candidates.iter().position(|types| *types == given) {
        return Ok(Some(exact));
    }
    match select(given, candidates) {
        Selection::One(at) => Ok(Some(at)),
        Selection::None => Ok(None),
        Selection::Several => Err(()),
    }
}

enum Selection {
    None,
    One(usize),
    Several,
}

/// Chooses among parameter lists that are not an exact match (func_match_argtypes, then
/// func_select_candidate).
fn select(given: &[u32], candidates: &[&[u32]]) -> Selection {
    let mut left: Vec<usize> = (0..candidates.len())
        .filter(|at| coercible(given, candidates[*at]))
        .collect();
    if left.len() <= 1 {
        return left
            .first()
            .map_or(Selection::None, |at| Selection::One(*at));
    }
    let known = |index: usize| given[index] != oid::UNKNOWN;
    // Most exact matches.
    left = keep_best(&left, |at| {
        (0..given.len())
            .filter(|i| known(*i) && candidates[at][*i] == given[*i])
            .count()
    });
    if let [one] = left[..] {
        return Selection::One(one);
    }
    // Most exact or preferred matches.
    left = keep_best(&left, |at| {
        (0..given.len())
            .filter(|i| {
                let (have, want) = (Type::new(given[*i]), Type::new(candidates[at][*i]));
                known(*i)
                    && (have == want || (want.is_preferred() && want.category() == have.category()))
            })
            .count()
    });
    if let [one] = left[..] {
        return Selection::One(one);
    }
    if given.iter().all(|kind| *kind != oid::UNKNOWN) {
        return Selection::Several;
    }
    left = keep_by_unknown_categories(given, candidates, left);
    if let [one] = left[..] {
        return Selection::One(one);
    }
    assume_one_type(given, candidates, &left)
}

fn keep_best(left: &[usize], score: impl Fn(usize) -> usize) -> Vec<usize> {
    let best = left.iter().map(|at| score(*at)).max().unwrap_or(0);
    left.iter()
        .copied()
        .filter(|at| score(*at) == best)
        .collect()
}

/// Rule 4.e: unknown arguments take the string category if any candidate does, else the one
/// category all candidates share; within it, preferred types win.
fn keep_by_unknown_categories(
    given: &[u32],
    candidates: &[&[u32]],
    left: Vec<usize>,
) -> Vec<usize> {
    let mut wanted: Vec<Option<(u8, bool)>> = vec![None; given.len()];
    for (index, slot) in wanted.iter_mut().enumerate() {
        if given[index] != oid::UNKNOWN {
            continue;
        }
        let mut category: Option<(u8, bool)> = None;
        let mut conflict = false;
        for at in &left {
            let kind = Type::new(candidates[*at][index]);
            let (own, preferred) = (kind.category(), kind.is_preferred());
            category = match category {
                None => Some((own, preferred)),
                Some((seen, has)) if seen == own => Some((seen, has || preferred)),
                Some(_) if own == b'S' => Some((own, preferred)),
                Some((b'S', has)) => Some((b'S', has)),
                Some(other) => {
                    conflict = true;
                    Some(other)
                }
            };
        }
        if conflict && category.is_some_and(|(seen, _)| seen != b'S') {
            return left;
        }
        *slot = category;
    }
    let kept: Vec<usize> = left
        .iter()
        .copied()
        .filter(|at| {
            wanted.iter().enumerate().all(|(index, slot)| {
                slot.is_none_or(|(category, preferred)| {
                    let kind = Type::new(candidates[*at][index]);
                    kind.category() == category && (!preferred || kind.is_preferred())
                })
            })
        })
        .collect();
    if kept.is_empty() { left } else { kept }
}

/// Rule 4.f: when all known arguments have one type, the unknown ones are taken to have it too.
fn assume_one_type(given: &[u32], candidates: &[&[u32]], left: &[usize]) -> Selection {
    let mut known = given.iter().copied().filter(|kind| *kind != oid::UNKNOWN);
    let Some(first) = known.next() else {
        return Selection::Several;
    };
    if known.any(|kind| kind != first) {
        return Selection::Several;
    }
    let assumed = vec![first; given.len()];
    let fitting: Vec<usize> = left
        .iter()
        .copied()
        .filter(|at| coercible(&assumed, candidates[*at]))
        .collect();
    match fitting[..] {
        [one] => Selection::One(one),
        _ => Selection::Several,
    }
}

/// Whether each argument can be cast implicitly, and polymorphic parameters agree.
fn coercible(given: &[u32], wanted: &[u32]) -> bool {
    if given.len() != wanted.len() {
        return false;
    }
    let mut generic = false;
    for (have, want) in given.iter().zip(wanted) {
        if Type::new(*want).is_polymorphic() {
            generic = true;
        } else if !can_coerce(Type::new(*have), Type::new(*want), CastContext::Implicit) {
            return false;
        }
    }
    if !generic {
        return true;
    }
    let actual: Vec<Type> = given.iter().map(|kind| Type::new(*kind)).collect();
    let mut generics = Generics::default();
    wanted
        .iter()
        .zip(&actual)
        .all(|(want, have)| generics.take(*want, *have).is_ok())
        && generics.settle().is_ok()
}

/// What the polymorphic parameters of one call stand for.
#[derive(Default)]
struct Generics {
    element: Option<Type>,
    array: Option<Type>,
    used: bool,
    nonarray: bool,
    enumeration: bool,
    compatible: Vec<Type>,
    compatible_used: bool,
    compatible_nonarray: bool,
    common: Option<Type>,
}

fn mismatch(detail: impl Into<String>) -> Error {
    Error::new(state::DATATYPE_MISMATCH, detail)
}

impl Generics {
    /// Takes one parameter with its argument.
    fn take(&mut self, want: u32, have: Type) -> Result<()> {
        match want {
            oid::ANYELEMENT | oid::ANYNONARRAY | oid::ANYENUM => {
                self.used = true;
                self.nonarray |= want == oid::ANYNONARRAY;
                self.enumeration |= want == oid::ANYENUM;
                if have.oid == oid::UNKNOWN {
                    return Ok(());
                }
                match self.element {
                    Some(element) if element.oid != have.oid => Err(mismatch(
                        "arguments declared \"anyelement\" are not all alike",
                    )
                    .detail(format!("{} versus {}", element.plain(), have.plain()))),
                    _ => {
                        self.element = Some(have);
                        Ok(())
                    }
                }
            }
            oid::ANYARRAY => {
                self.used = true;
                if have.oid == oid::UNKNOWN {
                    return Ok(());
                }
                match self.array {
                    Some(array) if array.oid != have.oid => Err(mismatch(
                        "arguments declared \"anyarray\" are not all alike",
                    )
                    .detail(format!("{} versus {}", array.plain(), have.plain()))),
                    _ => {
                        self.array = Some(have);
                        Ok(())
                    }
                }
            }
            oid::ANYCOMPATIBLE | oid::ANYCOMPATIBLENONARRAY => {
                self.compatible_used = true;
                self.compatible_nonarray |= want == oid::ANYCOMPATIBLENONARRAY;
                if have.oid != oid::UNKNOWN {
                    self.compatible.push(have);
                }
                Ok(())
            }
            oid::ANYCOMPATIBLEARRAY => {
                self.compatible_used = true;
                if have.oid == oid::UNKNOWN {
                    return Ok(());
                }
                let element = have.element().ok_or_else(|| not_an_array(want, have))?;
                self.compatible.push(element);
                Ok(())
            }
            oid::ANYRANGE
            | oid::ANYMULTIRANGE
            | oid::ANYCOMPATIBLERANGE
            | oid::ANYCOMPATIBLEMULTIRANGE => {
                // Ranges are known by name only; no call on them is computed.
                let fits = have.oid == oid::UNKNOWN || have.category() == b'R';
                if fits {
                    Ok(())
                } else {
                    Err(mismatch("argument is not a range"))
                }
            }
            _ => Ok(()),
        }
    }

    /// Derives elements from arrays and back, and the common type.
    fn settle(&mut self) -> Result<()> {
        if let Some(array) = self.array {
            let element = match array.oid {
                oid::ANYARRAY => Type::ANYELEMENT,
                _ => array
                    .element()
                    .ok_or_else(|| not_an_array(oid::ANYARRAY, array))?,
            };
            match self.element {
                Some(own) if own.oid != element.oid => {
                    return Err(mismatch(
                        "argument declared anyarray is not consistent with argument declared \
                         anyelement",
                    )
                    .detail(format!(
                        "{} versus {}",
                        array.plain(),
                        own.plain()
                    )));
                }
                _ => self.element = Some(element),
            }
        }
        if self.nonarray && self.element.is_some_and(Type::is_array) {
            return Err(mismatch("type matched to anynonarray is an array type"));
        }
        if self.enumeration && self.element.is_some_and(|element| element.row().is_some()) {
            return Err(mismatch("type matched to anyenum is not an enum type"));
        }
        if self.compatible_used {
            let common = if self.compatible.is_empty() {
                Type::TEXT
            } else {
                select_common_type(&self.compatible)
                    .ok_or_else(|| mismatch("arguments of anycompatible family cannot be cast"))?
            };
            if self.compatible_nonarray && common.is_array() {
                return Err(mismatch(
                    "type matched to anycompatiblenonarray is an array type",
                ));
            }
            let castable = |kind: &Type| can_coerce(*kind, common, CastContext::Implicit);
            if !self.compatible.iter().all(castable) {
                return Err(mismatch("arguments of anycompatible family cannot be cast"));
            }
            self.common = Some(common.plain());
        }
        Ok(())
    }

    /// The concrete type for a declared one.
    fn concrete(&self, declared: u32) -> Result<Type> {
        let undetermined =
            || mismatch("could not determine polymorphic type because input has type unknown");
        let array_over = |element: Type| {
            element.array_of().ok_or_else(|| {
                Error::new(
                    state::UNDEFINED_OBJECT,
                    format!(
                        "could not find array type for data type {}",
                        element.plain()
                    ),
                )
            })
        };
        match declared {
            oid::ANYELEMENT | oid::ANYNONARRAY | oid::ANYENUM => {
                self.element.ok_or_else(undetermined)
            }
            oid::ANYARRAY => match (self.array, self.element) {
                (Some(array), _) => Ok(array),
                (None, Some(element)) => array_over(element),
                (None, None) => Err(undetermined()),
            },
            oid::ANYCOMPATIBLE | oid::ANYCOMPATIBLENONARRAY => self.common.ok_or_else(undetermined),
            oid::ANYCOMPATIBLEARRAY => array_over(self.common.ok_or_else(undetermined)?),
            other => Ok(Type::new(other)),
        }
    }
}

fn not_an_array(want: u32, have: Type) -> Error {
    mismatch(format!(
        "argument declared {} is not an array but type {}",
        Type::new(want),
        have.plain()
    ))
}

/// Replaces polymorphic types by what the arguments make them.
fn make_concrete(wanted: &[u32], result: u32, actual: &[Type]) -> Result<(Vec<Type>, Type)> {
    let mut generics = Generics::default();
    for (want, have) in wanted.iter().zip(actual) {
        generics.take(*want, *have)?;
    }
    generics.settle()?;
    let types = wanted
        .iter()
        .zip(actual)
        .map(|(want, have)| {
            if *want == oid::ANY {
                return Ok(have.plain());
            }
            Ok(generics.concrete(*want)?.plain())
        })
        .collect::<Result<Vec<Type>>>()?;
    Ok((types, generics.concrete(result)?.plain()))
}

/// Output columns of a call with OUT parameters, polymorphic ones made concrete.
pub(super) fn output_columns(resolved: &Resolved) -> Vec<(String, Type)> {
    let function = resolved.function;
    let mut generics = Generics::default();
    for (at, want) in function.arguments.iter().enumerate() {
        let _ = generics.take(*want, resolved.parameter(at));
    }
    let _ = generics.settle();
    function
        .columns()
        .into_iter()
        .map(|(name, kind)| {
            (
                name.to_owned(),
                generics.concrete(kind).unwrap_or(Type::new(kind)).plain(),
            )
        })
        .collect()
}

fn type_list(arguments: &[Argument<'_>]) -> String {
    let one = |argument: &Argument<'_>| match argument.name {
        Some(name) => format!("{name} => {}", argument.kind.plain()),
        None => argument.kind.plain().name(),
    };
    arguments.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// 42883 for a function.
pub fn no_function(name: &str, arguments: &[Argument<'_>]) -> Error {
    Error::new(
        state::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", type_list(arguments)),
    )
    .hint(
        "No function matches the given name and argument types. You might need to add explicit \
         type casts.",
    )
}

/// 42725.
pub fn several_functions(name: &str, arguments: &[Argument<'_>]) -> Error {
    Error::new(
        state::AMBIGUOUS_FUNCTION,
        format!("function {name}({}) is not unique", type_list(arguments)),
    )
    .hint("Could not choose a best candidate function. You might need to add explicit type casts.")
}

/// When `name(argument)` is no function but a cast in function notation (`text(5)`,
/// `date('2020-01-01')`): the type to cast to. Ask before [`resolve_function`].
pub fn cast_like_call(name: &str, argument: Type) -> Option<Type> {
    let exact = |f: &'static Function| f.arguments.len() == 1 && f.arguments[0] == argument.oid;
    if catalog::functions_named(name).any(exact) {
        return None;
    }
    let target = Type::by_name(name)?;
    if target.is_pseudo() {
        return None;
    }
    let castable = argument.oid == oid::UNKNOWN
        || crate::types::cast_function(argument, target).is_some_and(|cast| {
            cast.is_relabel() || (cast.is_text_io() && !argument.is_composite_like())
        });
    castable.then_some(target)
}

/// An operator call bound to its function.
#[derive(Clone, Debug)]
pub struct ResolvedOperator {
    /// The operator.
    pub operator: &'static Operator,
    /// Its function, with the operand types to cast to and the result type.
    pub call: Resolved,
}

/// Finds the operator for operands of these types; `left` is `None` for prefix operators.
///
/// # Errors
/// 42883 when there is none, 42725 when several fit equally.
pub fn resolve_operator(name: &str, left: Option<Type>, right: Type) -> Result<ResolvedOperator> {
    let Some(operator) = find_operator(name, left, right)? else {
        return Err(no_operator(name, left, right));
    };
    let function =
        catalog::function(operator.function).ok_or_else(|| no_operator(name, left, right))?;
    let actual: Vec<Type> = left.into_iter().chain([right]).collect();
    let wanted: Vec<u32> = operator.left.into_iter().chain([operator.right]).collect();
    let (arguments, result) = make_concrete(&wanted, operator.result, &actual)?;
    let call = Resolved {
        function,
        arguments,
        result,
        pack_from: None,
        slots: None,
        spread: false,
        shape: None,
    };
    Ok(ResolvedOperator { operator, call })
}

fn find_operator(name: &str, left: Option<Type>, right: Type) -> Result<Option<&'static Operator>> {
    // An untyped operand is first taken to have the other's type.
    let (exact_left, exact_right) = match left.map(|left| left.oid) {
        Some(oid::UNKNOWN) => (Some(right.oid), right.oid),
        Some(left) if right.oid == oid::UNKNOWN => (Some(left), left),
        left => (left, right.oid),
    };
    if let Some(operator) = catalog::operator_exact(name, exact_left, exact_right) {
        return Ok(Some(operator));
    }
    let operators: Vec<&'static Operator> = catalog::operators_named(name)
        .filter(|operator| operator.left.is_some() == left.is_some())
        .collect();
    let given: Vec<u32> = left
        .into_iter()
        .chain([right])
        .map(|kind| kind.oid)
        .collect();
    let lists: Vec<Vec<u32>> = operators
        .iter()
        .map(|operator| operator.left.into_iter().chain([operator.right]).collect())
        .collect();
    let lists: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
    match select(&given, &lists) {
        Selection::One(at) => Ok(Some(operators[at])),
        Selection::None => Ok(None),
        Selection::Several => Err(Error::new(
            state::AMBIGUOUS_FUNCTION,
            format!(
                "operator is not unique: {}",
                operator_text(name, left, right)
            ),
        )
        .hint(
            "Could not choose a best candidate operator. You might need to add explicit type \
             casts.",
        )),
    }
}

fn operator_text(name: &str, left: Option<Type>, right: Type) -> String {
    match left {
        Some(left) => format!("{} {name} {}", left.plain(), right.plain()),
        None => format!("{name} {}", right.plain()),
    }
}

fn no_operator(name: &str, left: Option<Type>, right: Type) -> Error {
    let hint = if left.is_some() {
        "No operator matches the given name and argument types. You might need to add explicit \
         type casts."
    } else {
        "No operator matches the given name and argument type. You might need to add an explicit \
         type cast."
    };
    Error::new(
        state::UNDEFINED_FUNCTION,
        format!(
            "operator does not exist: {}",
            operator_text(name, left, right)
        ),
    )
    .hint(hint)
}

/// Where a common type is sought; it names the construct in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommonContext {
    /// UNION and VALUES with several rows under it.
    Union,
    /// INTERSECT.
    Intersect,
    /// EXCEPT.
    Except,
    /// VALUES.
    Values,
    /// CASE results.
    Case,
    /// COALESCE.
    Coalesce,
    /// GREATEST.
    Greatest,
    /// LEAST.
    Least,
    /// ARRAY[...].
    Array,
    /// IN lists.
    In,
}

impl CommonContext {
    /// The word in messages.
    pub fn word(self) -> &'static str {
        match self {
            CommonContext::Union => "UNION",
            CommonContext::Intersect => "INTERSECT",
            CommonContext::Except => "EXCEPT",
            CommonContext::Values => "VALUES",
            CommonContext::Case => "CASE",
            CommonContext::Coalesce => "COALESCE",
            CommonContext::Greatest => "GREATEST",
            CommonContext::Least => "LEAST",
            CommonContext::Array => "ARRAY",
            CommonContext::In => "IN",
        }
    }
}

/// The type that all of `types` are cast to (chapter 10.5); all unknown gives `text`. The
/// modifier is kept when all share type and modifier.
///
/// # Errors
/// 42804 when two are of different categories, 42846 when one cannot be cast implicitly.
pub fn common_type(types: &[Type], context: CommonContext) -> Result<Type> {
    let common = common_or(types).map_err(|(a, b)| {
        Error::new(
            state::DATATYPE_MISMATCH,
            format!(
                "{} types {} and {} cannot be matched",
                context.word(),
                a.plain(),
                b.plain()
            ),
        )
    })?;
    for kind in types {
        if !can_coerce(*kind, common, CastContext::Implicit) {
            let message = format!(
                "{} could not convert type {} to {}",
                context.word(),
                kind.plain(),
                common.plain()
            );
            return Err(Error::new(state::CANNOT_COERCE, message));
        }
    }
    Ok(common)
}

/// The common type, `None` when categories differ.
pub fn select_common_type(types: &[Type]) -> Option<Type> {
    common_or(types).ok()
}

fn common_or(types: &[Type]) -> std::result::Result<Type, (Type, Type)> {
    let Some(first) = types.first().copied() else {
        return Ok(Type::TEXT);
    };
    let mut common = first;
    for next in types.iter().skip(1).copied() {
        if next.oid == common.oid {
            if next.modifier != common.modifier {
                common = common.plain();
            }
            continue;
        }
        common = common.plain();
        if next.oid == oid::UNKNOWN {
            continue;
        }
        if common.oid == oid::UNKNOWN {
            common = next.plain();
        } else if next.category() != common.category() {
            return Err((common, next));
        } else if !common.is_preferred()
            && can_coerce(common, next, CastContext::Implicit)
            && !can_coerce(next, common, CastContext::Implicit)
        {
            common = next.plain();
        }
    }
    Ok(if common.oid == oid::UNKNOWN {
        Type::TEXT
    } else {
        common
    })
}
