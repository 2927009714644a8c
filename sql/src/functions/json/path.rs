//! Evaluation of `jsonpath`: `jsonb_path_query` and its kin, the operators `@?` and `@@`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{Error, Result, SqlState, state};
use crate::functions::ScalarFunction;
use crate::functions::scalar::arguments as arg;
use crate::functions::scalar::regexp::{Flags, compile};
use crate::types::json::path::{self, Expression, Operator, Path, Step};
use crate::types::{Datum, Json, Numeric};

const NOT_FOUND: SqlState = SqlState(*b"2203A");
const NOT_ARRAY: SqlState = SqlState(*b"22039");
const NOT_OBJECT: SqlState = SqlState(*b"2203C");
const OUT_OF_BOUNDS: SqlState = SqlState(*b"22033");
const NOT_SINGLE: SqlState = SqlState(*b"22038");
const NOT_NUMBER: SqlState = SqlState(*b"22036");

/// What a predicate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Unknown,
}

struct Evaluator<'a> {
    root: &'a Json,
    /// `None`: the operators have no place for them, and every variable is null.
    variables: Option<&'a Json>,
    lax: bool,
    /// Structural errors are ignored (lax mode, outside of its exceptions).
    ignore: bool,
    /// Length of the innermost subscripted array, for `last`.
    length: Option<i64>,
}

fn failed(code: SqlState, message: impl Into<String>) -> Error {
    Error::new(code, message)
}

/// The results of a path over a value; `any` = it only matters whether there is one.
///
/// # Errors
/// The errors of SQL/JSON (class 22) unless `silent`; 42704 for an unknown variable.
fn query(a: &[Datum], silent: bool, any: bool) -> Result<Option<Vec<Json>>> {
    let parsed: Path = path::parse(arg::text(a, 1)?)?;
    let variables = match a.get(2) {
        Some(Datum::Jsonb(variables)) => Some(variables.as_ref()),
        _ => None,
    };
    if variables.is_some_and(|variables| !matches!(variables, Json::Object(_))) {
        return Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "\"vars\" argument is not an object",
        )
        .detail("Jsonpath parameters should be encoded as key-value pairs of \"vars\" object."));
    }
    let root = arg::jsonb(a, 0)?;
    let mut evaluator = Evaluator {
        root,
        variables,
        lax: !parsed.strict,
        ignore: !parsed.strict,
        length: None,
    };
    let mut out = Vec::new();
    match evaluator.values(&parsed.expression, root, &mut out) {
        Ok(()) => Ok(Some(out)),
        // A lax question about existence ends with the first value.
        Err(_) if any && !parsed.strict && !out.is_empty() => Ok(Some(out)),
        Err(error) if silent && can_be_silenced(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `silent` hides errors of the data, not of the path.
fn can_be_silenced(error: &Error) -> bool {
    error.state().as_str().starts_with("22")
}

/// Rows of `jsonb_path_query`.
pub(super) fn rows(a: &[Datum]) -> Result<Vec<Json>> {
    let silent = matches!(a.get(3), Some(Datum::Bool(true)));
    Ok(query(a, silent, false)?.unwrap_or_default())
}

impl Evaluator<'_> {
    /// Appends what the expression gives for the item.
    fn values(&mut self, expression: &Expression, item: &Json, out: &mut Vec<Json>) -> Result<()> {
        match expression {
            Expression::Root => out.push(self.root.clone()),
            Expression::Current => out.push(item.clone()),
            Expression::Literal(value) => out.push(value.clone()),
            Expression::Variable(name) => {
                let Some(variables) = self.variables else {
                    out.push(Json::Null);
                    return Ok(());
                };
                let value = variables.get(name).ok_or_else(|| {
                    Error::new(
                        state::UNDEFINED_OBJECT,
                        format!("could not find jsonpath variable \"{name}\""),
                    )
                })?;
                out.push(value.clone());
            }
            Expression::Last => {
                let length = self.length.ok_or_else(|| {
                    Error::internal("evaluating jsonpath LAST outside of array subscript")
                })?;
                out.push(Json::Number(Numeric::from_i64(length - 1)));
            }
            Expression::Steps(base, steps) => {
                let mut values = Vec::new();
                self.values(base, item, &mut values)?;
                self.steps(values, steps, item, out)?;
            }
            Expression::Signed(minus, inner) => self.sign(*minus, inner, item, out)?,
            Expression::Binary(operator, left, right) if !operator.is_predicate() => {
                out.push(self.arithmetic(*operator, left, right, item)?);
            }
            _ => out.push(match self.truth(expression, item)? {
                Truth::True => Json::Bool(true),
                Truth::False => Json::Bool(false),
                Truth::Unknown => Json::Null,
            }),
        }
        Ok(())
    }

    fn steps(
        &mut self,
        values: Vec<Json>,
        steps: &[Step],
        item: &Json,
        out: &mut Vec<Json>,
    ) -> Result<()> {
        let mut values = values;
        for step in steps {
            let mut next = Vec::new();
            for value in &values {
                self.step(step, value, item, &mut next)?;
            }
            values = next;
        }
        out.extend(values);
        Ok(())
    }

    fn step(&mut self, step: &Step, value: &Json, item: &Json, out: &mut Vec<Json>) -> Result<()> {
        match step {
            Step::Key(key) => self.key(key, value, out),
            Step::AnyKey => match value {
                Json::Object(pairs) => {
                    out.extend(pairs.iter().map(|(_, value)| value.clone()));
                    Ok(())
                }
                Json::Array(items) if self.lax => {
                    for item in items {
                        if let Json::Object(pairs) = item {
                            out.extend(pairs.iter().map(|(_, value)| value.clone()));
                        }
                    }
                    Ok(())
                }
                _ if self.ignore => Ok(()),
                _ => Err(failed(
                    NOT_OBJECT,
                    "jsonpath wildcard member accessor can only be applied to an object",
                )),
            },
            Step::AnyElement => match value {
                Json::Array(items) => {
                    out.extend(items.iter().cloned());
                    Ok(())
                }
                other if self.lax => {
                    out.push(other.clone());
                    Ok(())
                }
                _ => Err(failed(
                    NOT_ARRAY,
                    "jsonpath wildcard array accessor can only be applied to an array",
                )),
            },
            Step::Elements(list) => self.elements(list, value, item, out),
            Step::Levels(from, to) => {
                levels(value, 0, *from, *to, out);
                Ok(())
            }
            Step::Filter(predicate) => {
                let items = match value {
                    Json::Array(items) if self.lax => items.as_slice(),
                    other => std::slice::from_ref(other),
                };
                for item in items {
                    if self.truth(predicate, item)? == Truth::True {
                        out.push(item.clone());
                    }
                }
                Ok(())
            }
            Step::Method(name) => self.method(name, value, out),
            Step::Datetime(_) => Err(Error::unsupported("jsonpath item method .datetime()")),
        }
    }

    fn key(&mut self, key: &str, value: &Json, out: &mut Vec<Json>) -> Result<()> {
        match value {
            Json::Object(_) => match value.get(key) {
                Some(found) => out.push(found.clone()),
                None if self.ignore => {}
                None => {
                    return Err(failed(
                        NOT_FOUND,
                        format!("JSON object does not contain key \"{key}\""),
                    ));
                }
            },
            Json::Array(items) if self.lax => {
                for item in items {
                    if let Some(found) = item.get(key) {
                        out.push(found.clone());
                    }
                }
            }
            _ if self.ignore => {}
            _ => {
                return Err(failed(
                    NOT_FOUND,
                    "jsonpath member accessor can only be applied to an object",
                ));
            }
        }
        Ok(())
    }

    fn elements(
        &mut self,
        list: &[(Expression, Option<Expression>)],
        value: &Json,
        item: &Json,
        out: &mut Vec<Json>,
    ) -> Result<()> {
        let items = match value {
            Json::Array(items) => items.as_slice(),
            other if self.lax => std::slice::from_ref(other),
            _ => {
                return Err(failed(
                    NOT_ARRAY,
                    "jsonpath array accessor can only be applied to an array",
                ));
            }
        };
        let length = items.len() as i64;
        let before = self.length.replace(length);
        for (from, to) in list {
            let from = self.subscript(from, item)?;
            let to = match to {
                Some(to) => self.subscript(to, item)?,
                None => from,
            };
            if !self.ignore && (from < 0 || from > to || to >= length) {
                return Err(failed(
                    OUT_OF_BOUNDS,
                    "jsonpath array subscript is out of bounds",
                ));
            }
            for index in from.max(0)..=to.min(length - 1) {
                out.push(items[index as usize].clone());
            }
        }
        self.length = before;
        Ok(())
    }

    fn subscript(&mut self, expression: &Expression, item: &Json) -> Result<i64> {
        let mut found = Vec::new();
        self.values(expression, item, &mut found)?;
        match found.as_slice() {
            [Json::Number(number)] => number
                .trunc(0)?
                .to_i64()
                .filter(|index| i32::try_from(*index).is_ok())
                .ok_or_else(|| {
                    failed(
                        OUT_OF_BOUNDS,
                        "jsonpath array subscript is out of integer range",
                    )
                }),
            _ => Err(failed(
                OUT_OF_BOUNDS,
                "jsonpath array subscript is not a single numeric value",
            )),
        }
    }

    fn method(&mut self, name: &str, value: &Json, out: &mut Vec<Json>) -> Result<()> {
        let numeric_only = || {
            failed(
                NOT_NUMBER,
                format!("jsonpath item method .{name}() can only be applied to a numeric value"),
            )
        };
        if let (Json::Array(items), true) = (value, self.lax)
            && !matches!(name, "type" | "size")
        {
            for item in items {
                if matches!(item, Json::Array(_)) {
                    return Err(self.method_error(name));
                }
                self.method(name, item, out)?;
            }
            return Ok(());
        }
        out.push(match (name, value) {
            ("type", value) => Json::string(value.type_name()),
            ("size", Json::Array(items)) => Json::Number(Numeric::from_i64(items.len() as i64)),
            ("size", _) if self.lax => Json::Number(Numeric::ONE),
            ("size", _) => {
                return Err(failed(
                    NOT_ARRAY,
                    "jsonpath item method .size() can only be applied to an array",
                ));
            }
            ("abs", Json::Number(number)) => Json::Number(number.abs()),
            ("floor", Json::Number(number)) => Json::Number(number.floor()?),
            ("ceiling", Json::Number(number)) => Json::Number(number.ceil()?),
            ("double", Json::Number(number)) => Json::Number(double(&number.to_string())?),
            ("double", Json::String(text)) => Json::Number(double(text)?),
            ("keyvalue", Json::Object(pairs)) => {
                for (key, value) in pairs {
                    out.push(Json::object(vec![
                        (Arc::from("key"), Json::String(key.clone())),
                        (Arc::from("value"), value.clone()),
                        (Arc::from("id"), Json::Number(Numeric::ZERO)),
                    ]));
                }
                return Ok(());
            }
            ("abs" | "floor" | "ceiling", _) => return Err(numeric_only()),
            _ => return Err(self.method_error(name)),
        });
        Ok(())
    }

    fn method_error(&self, name: &str) -> Error {
        match name {
            "double" => failed(
                NOT_NUMBER,
                "jsonpath item method .double() can only be applied to a string or numeric value",
            ),
            "keyvalue" => failed(
                NOT_OBJECT,
                "jsonpath item method .keyvalue() can only be applied to an object",
            ),
            _ => failed(
                NOT_NUMBER,
                format!("jsonpath item method .{name}() can only be applied to a numeric value"),
            ),
        }
    }

    /// Values with arrays unwrapped in lax mode.
    fn unwrapped(&mut self, expression: &Expression, item: &Json) -> Result<Vec<Json>> {
        let mut found = Vec::new();
        self.values(expression, item, &mut found)?;
        if !self.lax {
            return Ok(found);
        }
        let mut out = Vec::new();
        for value in found {
            match value {
                Json::Array(items) => out.extend(items),
                other => out.push(other),
            }
        }
        Ok(out)
    }

    fn sign(
        &mut self,
        minus: bool,
        inner: &Expression,
        item: &Json,
        out: &mut Vec<Json>,
    ) -> Result<()> {
        for value in self.unwrapped(inner, item)? {
            match value {
                Json::Number(number) if minus => out.push(Json::Number(number.neg())),
                Json::Number(number) => out.push(Json::Number(number)),
                _ => {
                    let symbol = if minus { '-' } else { '+' };
                    return Err(failed(
                        SqlState(*b"2203B"),
                        format!(
                            "operand of unary jsonpath operator {symbol} is not a numeric value"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    fn operand(
        &mut self,
        operator: Operator,
        side: &str,
        expression: &Expression,
        item: &Json,
    ) -> Result<Numeric> {
        match self.unwrapped(expression, item)?.as_slice() {
            [Json::Number(number)] => Ok(number.clone()),
            _ => Err(failed(
                NOT_SINGLE,
                format!(
                    "{side} operand of jsonpath operator {} is not a single numeric value",
                    operator.symbol()
                ),
            )),
        }
    }

    fn arithmetic(
        &mut self,
        operator: Operator,
        left: &Expression,
        right: &Expression,
        item: &Json,
    ) -> Result<Json> {
        let a = self.operand(operator, "left", left, item)?;
        let b = self.operand(operator, "right", right, item)?;
        let result = match operator {
            Operator::Add => a.add(&b),
            Operator::Subtract => a.sub(&b),
            Operator::Multiply => a.mul(&b),
            Operator::Divide => a.div(&b),
            _ => a.rem(&b),
        };
        Ok(Json::Number(result?))
    }

    fn truth(&mut self, expression: &Expression, item: &Json) -> Result<Truth> {
        match expression {
            Expression::Binary(Operator::And, left, right) => {
                let a = self.truth(left, item)?;
                if a == Truth::False {
                    return Ok(Truth::False);
                }
                let b = self.truth(right, item)?;
                Ok(if b == Truth::True { a } else { b })
            }
            Expression::Binary(Operator::Or, left, right) => {
                let a = self.truth(left, item)?;
                if a == Truth::True {
                    return Ok(Truth::True);
                }
                let b = self.truth(right, item)?;
                Ok(if b == Truth::False { a } else { b })
            }
            Expression::Not(inner) => Ok(match self.truth(inner, item)? {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                Truth::Unknown => Truth::Unknown,
            }),
            Expression::IsUnknown(inner) => Ok(match self.truth(inner, item)? {
                Truth::Unknown => Truth::True,
                _ => Truth::False,
            }),
            Expression::Exists(inner) => {
                let mut found = Vec::new();
                match self.values(inner, item, &mut found) {
                    Err(_) if self.lax && !found.is_empty() => Ok(Truth::True),
                    Err(error) if can_be_silenced(&error) => Ok(Truth::Unknown),
                    Err(error) => Err(error),
                    Ok(()) if found.is_empty() => Ok(Truth::False),
                    Ok(()) => Ok(Truth::True),
                }
            }
            Expression::Binary(operator, left, right) => {
                let operator = *operator;
                self.pairs(left, Some(right), item, |a, b| compare(operator, a, b))
            }
            Expression::LikeRegex(left, pattern, flags) => {
                // XQuery's `s` lets the dot match newlines; without it the dot stops there.
                let letters: String = flags
                    .chars()
                    .filter(|flag| "imxq".contains(*flag))
                    .collect();
                let newline = if flags.contains('s') { "" } else { "p" };
                let regex = compile(pattern, Flags::parse(&format!("{newline}{letters}"))?)?;
                self.pairs(left, None, item, |a, _| match a {
                    Json::String(text) if regex.is_match(text) => Truth::True,
                    Json::String(_) => Truth::False,
                    _ => Truth::Unknown,
                })
            }
            other => {
                let mut found = Vec::new();
                self.values(other, item, &mut found)?;
                Ok(match found.as_slice() {
                    [Json::Bool(true)] => Truth::True,
                    [Json::Bool(false)] => Truth::False,
                    _ => Truth::Unknown,
                })
            }
        }
    }

    /// A predicate over all pairs of both sides' values.
    fn pairs(
        &mut self,
        left: &Expression,
        right: Option<&Expression>,
        item: &Json,
        test: impl Fn(&Json, &Json) -> Truth,
    ) -> Result<Truth> {
        let nothing = [Json::Null];
        let a = match self.unwrapped(left, item) {
            Err(error) if can_be_silenced(&error) => return Ok(Truth::Unknown),
            other => other?,
        };
        let b = match right.map(|right| self.unwrapped(right, item)) {
            None => nothing.to_vec(),
            Some(Err(error)) if can_be_silenced(&error) => return Ok(Truth::Unknown),
            Some(other) => other?,
        };
        let (mut unknown, mut found) = (false, false);
        for x in &a {
            for y in &b {
                match test(x, y) {
                    Truth::Unknown if !self.lax => return Ok(Truth::Unknown),
                    Truth::Unknown => unknown = true,
                    Truth::True if self.lax => return Ok(Truth::True),
                    Truth::True => found = true,
                    Truth::False => {}
                }
            }
        }
        Ok(if found {
            Truth::True
        } else if unknown {
            Truth::Unknown
        } else {
            Truth::False
        })
    }
}

fn double(text: &str) -> Result<Numeric> {
    let invalid = || {
        failed(
            NOT_NUMBER,
            "string argument of jsonpath item method .double() is not a valid representation of \
             a double precision number",
        )
    };
    let value = crate::types::text::read_f64(text, "double precision").map_err(|_| invalid())?;
    if !value.is_finite() {
        return Err(failed(
            NOT_NUMBER,
            "NaN or Infinity is not allowed for jsonpath item method .double()",
        ));
    }
    Ok(Numeric::from_f64(value))
}

fn levels(value: &Json, level: u32, from: Option<u32>, to: Option<u32>, out: &mut Vec<Json>) {
    let children: Vec<&Json> = match value {
        Json::Array(items) => items.iter().collect(),
        Json::Object(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        _ => Vec::new(),
    };
    // `last` is the level of the leaves.
    let reached = match from {
        Some(from) => level >= from,
        None => level > 0 && value.is_scalar(),
    };
    if reached && to.is_none_or(|to| level <= to) {
        out.push(value.clone());
    }
    if to.is_none_or(|to| level < to) {
        for child in children {
            levels(child, level + 1, from, to, out);
        }
    }
}

fn compare(operator: Operator, a: &Json, b: &Json) -> Truth {
    if operator == Operator::StartsWith {
        return match (a, b) {
            (Json::String(a), Json::String(b)) if a.starts_with(&**b) => Truth::True,
            (Json::String(_), Json::String(_)) => Truth::False,
            _ => Truth::Unknown,
        };
    }
    let order = match (a, b) {
        (Json::Null, Json::Null) => Ordering::Equal,
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        (Json::Number(a), Json::Number(b)) => a.cmp(b),
        (Json::String(a), Json::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        // A null differs from everything; other kinds cannot be compared.
        (Json::Null, _) | (_, Json::Null) => {
            let unequal = operator == Operator::NotEqual;
            return if unequal { Truth::True } else { Truth::False };
        }
        _ => return Truth::Unknown,
    };
    let holds = match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    };
    if holds { Truth::True } else { Truth::False }
}

fn is_silent(a: &[Datum]) -> bool {
    matches!(a.get(3), Some(Datum::Bool(true)))
}

fn exists(a: &[Datum], silent: bool) -> Result<Datum> {
    Ok(query(a, silent, true)?.map_or(Datum::Null, |found| Datum::Bool(!found.is_empty())))
}

fn matches(a: &[Datum], silent: bool) -> Result<Datum> {
    match query(a, silent, false)?.as_deref() {
        Some([Json::Bool(value)]) => Ok(Datum::Bool(*value)),
        Some([Json::Null]) => Ok(Datum::Null),
        _ if silent => Ok(Datum::Null),
        _ => Err(failed(NOT_SINGLE, "single boolean result is expected")),
    }
}

fn first(a: &[Datum]) -> Result<Datum> {
    let found = query(a, is_silent(a), false)?.unwrap_or_default();
    Ok(found.into_iter().next().map_or(Datum::Null, Datum::jsonb))
}

fn array(a: &[Datum]) -> Result<Datum> {
    Ok(Datum::jsonb(Json::Array(
        query(a, is_silent(a), false)?.unwrap_or_default(),
    )))
}

/// Path functions and operators.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("jsonb_path_exists", |_, _, a| exists(a, is_silent(a))),
    ("jsonb_path_exists_tz", |_, _, a| exists(a, is_silent(a))),
    ("jsonb_path_exists_opr", |_, _, a| exists(a, true)),
    ("jsonb_path_match", |_, _, a| matches(a, is_silent(a))),
    ("jsonb_path_match_tz", |_, _, a| matches(a, is_silent(a))),
    ("jsonb_path_match_opr", |_, _, a| matches(a, true)),
    ("jsonb_path_query_array", |_, _, a| array(a)),
    ("jsonb_path_query_array_tz", |_, _, a| array(a)),
    ("jsonb_path_query_first", |_, _, a| first(a)),
    ("jsonb_path_query_first_tz", |_, _, a| first(a)),
];
