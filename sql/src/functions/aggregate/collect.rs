//! Aggregates that collect values: strings, arrays, JSON.

use std::sync::Arc;

use super::{Accumulator, wrong_argument};
use crate::error::{Error, Result, state};
use crate::functions::{AggregateFunction, Evaluation, Resolved, json};
use crate::types::{Array, Datum, Dimension, Json, Type};

/// The aggregate of a name.
pub(super) fn by_name(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "string_agg" => |_| {
            Box::new(Strings {
                text: String::new(),
                bytes: Vec::new(),
                kind: None,
            })
        },
        "array_agg" => array_agg,
        "json_agg" => |call| Box::new(JsonText::new(call, false)),
        "json_object_agg" => |call| Box::new(JsonText::new(call, true)),
        "jsonb_agg" => |call| {
            Box::new(Jsonb {
                items: Vec::new(),
                held: 0,
                kind: call.parameter(0),
            })
        },
        "jsonb_object_agg" => |call| {
            Box::new(JsonbObject {
                pairs: Vec::new(),
                held: 0,
                kinds: [call.parameter(0), call.parameter(1)],
            })
        },
        _ => return None,
    })
}

enum StringKind {
    Text,
    Bytes,
}

/// `string_agg(value, delimiter)`: the delimiter of each row but the first stands before its value.
struct Strings {
    text: String,
    bytes: Vec<u8>,
    kind: Option<StringKind>,
}

impl Accumulator for Strings {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        match arguments.first() {
            Some(Datum::Text(value)) => {
                if self.kind.is_some()
                    && let Some(Datum::Text(delimiter)) = arguments.get(1)
                {
                    self.text.push_str(delimiter);
                }
                self.kind = Some(StringKind::Text);
                self.text.push_str(value);
            }
            Some(Datum::Bytea(value)) => {
                if self.kind.is_some()
                    && let Some(Datum::Bytea(delimiter)) = arguments.get(1)
                {
                    self.bytes.extend_from_slice(delimiter);
                }
                self.kind = Some(StringKind::Bytes);
                self.bytes.extend_from_slice(value);
            }
            Some(Datum::Null) | None => {}
            Some(other) => return Err(wrong_argument("string_agg", other)),
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(match self.kind {
            None => Datum::Null,
            Some(StringKind::Text) => Datum::text(&self.text),
            Some(StringKind::Bytes) => Datum::Bytea(Arc::from(self.bytes.as_slice())),
        })
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Strings>() + self.text.capacity() + self.bytes.capacity()
    }
}

fn array_agg(call: &Resolved) -> Box<dyn Accumulator> {
    let kind = call.parameter(0);
    // Arrays stack into one of a dimension more.
    match kind.element().filter(|_| call.result.oid == kind.oid) {
        Some(element) => Box::new(Arrays {
            element,
            values: Vec::new(),
            held: 0,
        }),
        None => Box::new(Elements {
            element: kind,
            values: Vec::new(),
            held: 0,
        }),
    }
}

/// `array_agg` of single values, NULLs included.
struct Elements {
    element: Type,
    values: Vec<Datum>,
    held: usize,
}

impl Accumulator for Elements {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let value = arguments.first().cloned().unwrap_or_default();
        self.held += value.bytes();
        self.values.push(value);
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.values.is_empty() {
            return Ok(Datum::Null);
        }
        Ok(Datum::array(Array::of(self.element, self.values.clone())))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Elements>() + self.held
    }
}

/// `array_agg` of arrays of one shape.
struct Arrays {
    element: Type,
    values: Vec<Datum>,
    held: usize,
}

impl Accumulator for Arrays {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let refused = |message: &str| Err(Error::new(state::ARRAY_SUBSCRIPT_ERROR, message));
        let array = match arguments.first() {
            Some(Datum::Array(array)) => array,
            _ => {
                return Err(Error::new(
                    state::NULL_VALUE_NOT_ALLOWED,
                    "cannot accumulate null arrays",
                ));
            }
        };
        if array.is_empty() {
            return refused("cannot accumulate empty arrays");
        }
        let lengths = |a: &Array| -> Vec<i32> { a.dimensions.iter().map(|d| d.length).collect() };
        if let Some(Datum::Array(first)) = self.values.first()
            && lengths(first) != lengths(array)
        {
            return refused("cannot accumulate arrays of different dimensionality");
        }
        self.held += arguments[0].bytes();
        self.values.push(arguments[0].clone());
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        let Some(Datum::Array(first)) = self.values.first() else {
            return Ok(Datum::Null);
        };
        let mut dimensions = vec![Dimension {
            length: self.values.len() as i32,
            lower: 1,
        }];
        dimensions.extend_from_slice(&first.dimensions);
        let values = self
            .values
            .iter()
            .filter_map(|value| match value {
                Datum::Array(array) => Some(array.values.iter().cloned()),
                _ => None,
            })
            .flatten()
            .collect();
        Ok(Datum::array(Array::shaped(
            self.element,
            dimensions,
            values,
        )?))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Arrays>() + self.held
    }
}

/// `json_agg` and `json_object_agg`: text as PostgreSQL puts it together.
struct JsonText {
    text: Vec<u8>,
    rows: usize,
    object: bool,
    kinds: [Type; 2],
}

impl JsonText {
    fn new(call: &Resolved, object: bool) -> JsonText {
        let kinds = [call.parameter(0), call.parameter(1)];
        JsonText {
            text: Vec::new(),
            rows: 0,
            object,
            kinds,
        }
    }
}

impl Accumulator for JsonText {
    fn add(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let nothing = Datum::Null;
        let first = arguments.first().unwrap_or(&nothing);
        if self.object {
            self.text
                .extend_from_slice(if self.rows == 0 { b"{ " } else { b", " });
            if first.is_null() {
                return Err(Error::new(
                    state::NULL_VALUE_NOT_ALLOWED,
                    "field name must not be null",
                ));
            }
            json::write_key(first, self.kinds[0], evaluation.format, &mut self.text)?;
            self.text.extend_from_slice(b" : ");
            let value = arguments.get(1).unwrap_or(&nothing);
            json::write_json(value, self.kinds[1], evaluation.format, &mut self.text)?;
        } else {
            self.text
                .extend_from_slice(if self.rows == 0 { b"[" } else { b", " });
            // Composite values begin on lines of their own.
            if self.rows > 0 && matches!(first, Datum::Record(_) | Datum::Array(_)) {
                self.text.extend_from_slice(b"\n ");
            }
            json::write_json(first, self.kinds[0], evaluation.format, &mut self.text)?;
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.rows == 0 {
            return Ok(Datum::Null);
        }
        let mut text = String::from_utf8_lossy(&self.text).into_owned();
        text.push_str(if self.object { " }" } else { "]" });
        Ok(Datum::from(text))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<JsonText>() + self.text.capacity()
    }
}

struct Jsonb {
    items: Vec<Json>,
    held: usize,
    kind: Type,
}

impl Accumulator for Jsonb {
    fn add(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let value = arguments.first().cloned().unwrap_or_default();
        let item = json::to_json(&value, self.kind, evaluation.format)?;
        self.held += item.bytes();
        self.items.push(item);
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.items.is_empty() {
            return Ok(Datum::Null);
        }
        Ok(Datum::jsonb(Json::Array(self.items.clone())))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Jsonb>() + self.held
    }
}

struct JsonbObject {
    pairs: Vec<(Arc<str>, Json)>,
    held: usize,
    kinds: [Type; 2],
}

impl Accumulator for JsonbObject {
    fn add(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let key = arguments.first().cloned().unwrap_or_default();
        if key.is_null() {
            return Err(Error::new(
                state::INVALID_PARAMETER_VALUE,
                "field name must not be null",
            ));
        }
        let key = json::key_text(&key, self.kinds[0], evaluation.format)?;
        let value = arguments.get(1).cloned().unwrap_or_default();
        let value = json::to_json(&value, self.kinds[1], evaluation.format)?;
        self.held += key.len() + value.bytes() + 32;
        self.pairs.push((Arc::from(key), value));
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.pairs.is_empty() {
            return Ok(Datum::Null);
        }
        Ok(Datum::jsonb(Json::object(self.pairs.clone())))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<JsonbObject>() + self.held
    }
}
