//! `jsonb`: parsed JSON with exact numbers and sorted, unique keys; its text form, order and
//! equality are PostgreSQL's.

pub mod parse;
pub mod path;
pub mod write;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::types::Numeric;

pub use parse::{parse, validate};
pub use write::write_string;

/// How deep values may nest before the parser gives up (54001).
pub const DEPTH_MAX: usize = 1_000;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A finite number with its decimals.
    Number(Numeric),
    /// A string.
    String(Arc<str>),
    /// An array.
    Array(Vec<Json>),
    /// An object, sorted by [`key_order`], keys unique.
    Object(Vec<(Arc<str>, Json)>),
}

/// The order of keys inside a jsonb object: shorter first, then bytewise.
pub fn key_order(a: &str, b: &str) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

impl Json {
    /// An object of possibly unsorted and repeated pairs; the last value of a key wins.
    pub fn object(pairs: Vec<(Arc<str>, Json)>) -> Json {
        let mut pairs = pairs;
        pairs.sort_by(|a, b| key_order(&a.0, &b.0));
        let mut unique: Vec<(Arc<str>, Json)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        Json::Object(unique)
    }

    /// A string value.
    pub fn string(text: impl AsRef<str>) -> Json {
        Json::String(Arc::from(text.as_ref()))
    }

    /// The field of an object.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => {
                let at = pairs
                    .binary_search_by(|pair| key_order(&pair.0, key))
                    .ok()?;
                Some(&pairs[at].1)
            }
            _ => None,
        }
    }

    /// The element of an array; negative indexes count from its end.
    pub fn index(&self, index: i64) -> Option<&Json> {
        match self {
            Json::Array(items) => {
                let length = items.len() as i64;
                let at = if index < 0 { index + length } else { index };
                usize::try_from(at).ok().and_then(|at| items.get(at))
            }
            _ => None,
        }
    }

    /// `json_typeof`: `null`, `boolean`, `number`, `string`, `array`, `object`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// Neither array nor object.
    pub fn is_scalar(&self) -> bool {
        !matches!(self, Json::Array(_) | Json::Object(_))
    }

    /// Bytes kept alive, for memory accounting.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Json>()
            + match self {
                Json::Null | Json::Bool(_) => 0,
                Json::Number(number) => number.bytes(),
                Json::String(text) => text.len(),
                Json::Array(items) => items.iter().map(Json::bytes).sum(),
                Json::Object(pairs) => pairs.iter().map(|p| p.0.len() + 16 + p.1.bytes()).sum(),
            }
    }

    fn rank(&self) -> u8 {
        match self {
            Json::Null => 0,
            Json::String(_) => 1,
            Json::Number(_) => 2,
            Json::Bool(_) => 3,
            Json::Array(_) => 4,
            Json::Object(_) => 5,
        }
    }

    /// Containment, the `@>` operator.
    pub fn contains(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Array(items), scalar) if scalar.is_scalar() => {
                items.iter().any(|item| item == scalar)
            }
            _ => contains_same_kind(self, other),
        }
    }
}

fn contains_same_kind(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Object(_), Json::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| a.get(key).is_some_and(|own| contains_same_kind(own, value))),
        (Json::Array(items), Json::Array(wanted)) => wanted.iter().all(|value| {
            items.iter().any(|item| match value.is_scalar() {
                true => item == value,
                false => contains_same_kind(item, value),
            })
        }),
        (Json::Object(_) | Json::Array(_), _) | (_, Json::Object(_) | Json::Array(_)) => false,
        _ => a == b,
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Json {}

impl PartialOrd for Json {
    fn partial_cmp(&self, other: &Json) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The btree order of jsonb (PostgreSQL 8.14.4): Object > Array > Boolean > Number > String >
/// Null; fewer pairs or elements first; but an empty array at top level sorts below everything.
impl Ord for Json {
    fn cmp(&self, other: &Json) -> Ordering {
        let empty = |value: &Json| matches!(value, Json::Array(items) if items.is_empty());
        match (empty(self), empty(other)) {
            (true, true) => return Ordering::Equal,
            // compareJsonbContainers meets the end of the empty array first.
            (true, false) if other.rank() < 5 => return Ordering::Less,
            (false, true) if self.rank() < 5 => return Ordering::Greater,
            _ => {}
        }
        compare_values(self, other)
    }
}

fn compare_values(a: &Json, b: &Json) -> Ordering {
    match (a, b) {
        (Json::Null, Json::Null) => Ordering::Equal,
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        (Json::Number(a), Json::Number(b)) => a.cmp(b),
        (Json::String(a), Json::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Json::Array(a), Json::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
            a.iter()
                .zip(b)
                .map(|(a, b)| compare_values(a, b))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        (Json::Object(a), Json::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            a.iter()
                .zip(b)
                .map(|(a, b)| {
                    // Keys inside the order of two objects compare as strings.
                    a.0.as_bytes()
                        .cmp(b.0.as_bytes())
                        .then_with(|| compare_values(&a.1, &b.1))
                })
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        _ => a.rank().cmp(&b.rank()),
    }
}

impl Hash for Json {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Json::Null => {}
            Json::Bool(value) => value.hash(state),
            Json::Number(value) => value.hash(state),
            Json::String(value) => value.hash(state),
            Json::Array(items) => items.hash(state),
            Json::Object(pairs) => pairs.hash(state),
        }
    }
}
