//! Aggregates as accumulators: one per group, fed row by row.

mod collect;
mod ordered;
mod statistics;
mod sum;

use crate::error::{Error, Result, state};
use crate::functions::{AggregateFunction, Evaluation, Resolved};
use crate::types::order::compare_as;
use crate::types::{Datum, Type};

/// The state of an aggregate over one group.
pub trait Accumulator: Send {
    /// Takes the arguments of one row, cast to the call's types. Strict aggregates skip rows with
    /// NULL arguments themselves. `count(*)` gets none.
    ///
    /// # Errors
    /// What the aggregate raises, e.g. 22003.
    fn add(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()>;

    /// Takes a row out again, for moving window frames. False = not possible: compute the frame
    /// anew.
    ///
    /// # Errors
    /// As `add`.
    fn remove(&mut self, evaluation: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<bool> {
        let _ = (evaluation, arguments);
        Ok(false)
    }

    /// The result so far; more rows may follow (window frames).
    ///
    /// # Errors
    /// What the aggregate raises.
    fn finish(&self, evaluation: &mut Evaluation<'_>) -> Result<Datum>;

    /// Bytes held, for `work_mem`.
    fn bytes(&self) -> usize;
}

/// The aggregate behind a name; overloads are told apart by their argument's type.
pub(super) fn by_name(name: &str, oid: u32) -> Option<AggregateFunction> {
    let _ = oid;
    Some(match name {
        "count" => |_| Box::new(Count { rows: 0 }),
        "min" => |call| Extreme::boxed(call, std::cmp::Ordering::Less),
        "max" => |call| Extreme::boxed(call, std::cmp::Ordering::Greater),
        "bool_and" | "every" => |_| {
            Box::new(Logical {
                value: None,
                and: true,
            })
        },
        "bool_or" => |_| {
            Box::new(Logical {
                value: None,
                and: false,
            })
        },
        "bit_and" => |_| {
            Box::new(Bits {
                value: Datum::Null,
                operation: BitOperation::And,
            })
        },
        "bit_or" => |_| {
            Box::new(Bits {
                value: Datum::Null,
                operation: BitOperation::Or,
            })
        },
        "bit_xor" => |_| {
            Box::new(Bits {
                value: Datum::Null,
                operation: BitOperation::Xor,
            })
        },
        _ => {
            return sum::by_name(name)
                .or_else(|| statistics::by_name(name))
                .or_else(|| collect::by_name(name))
                .or_else(|| ordered::by_name(name));
        }
    })
}

/// `count(*)` and `count(x)`.
struct Count {
    rows: i64,
}

impl Accumulator for Count {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        if !matches!(arguments.first(), Some(Datum::Null)) {
            self.rows += 1;
        }
        Ok(())
    }

    fn remove(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<bool> {
        if !matches!(arguments.first(), Some(Datum::Null)) {
            self.rows -= 1;
        }
        Ok(true)
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(Datum::Int8(self.rows))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Count>()
    }
}

/// `min` and `max`.
struct Extreme {
    kind: Type,
    wanted: std::cmp::Ordering,
    value: Datum,
}

impl Extreme {
    fn boxed(call: &Resolved, wanted: std::cmp::Ordering) -> Box<dyn Accumulator> {
        Box::new(Extreme {
            kind: call.parameter(0),
            wanted,
            value: Datum::Null,
        })
    }
}

impl Accumulator for Extreme {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let Some(value) = arguments.first().filter(|value| !value.is_null()) else {
            return Ok(());
        };
        // Of equal values the last one stays: 1.0 and 1.00, 30 days and a month.
        let order = || compare_as(self.kind, value, &self.value);
        if self.value.is_null() || order() != self.wanted.reverse() {
            self.value = value.clone();
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(self.value.clone())
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Extreme>() + self.value.bytes()
    }
}

/// `bool_and`, `bool_or`.
struct Logical {
    value: Option<bool>,
    and: bool,
}

impl Accumulator for Logical {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        if let Some(value) = arguments.first().and_then(Datum::as_bool) {
            let before = self.value.unwrap_or(self.and);
            self.value = Some(if self.and {
                before && value
            } else {
                before || value
            });
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(Datum::from(self.value))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Logical>()
    }
}

#[derive(Clone, Copy)]
enum BitOperation {
    And,
    Or,
    Xor,
}

impl BitOperation {
    fn apply<T>(self, a: T, b: T) -> T
    where
        T: std::ops::BitAnd<Output = T>
            + std::ops::BitOr<Output = T>
            + std::ops::BitXor<Output = T>,
    {
        match self {
            BitOperation::And => a & b,
            BitOperation::Or => a | b,
            BitOperation::Xor => a ^ b,
        }
    }
}

/// `bit_and`, `bit_or`, `bit_xor` over integers and bit strings.
struct Bits {
    value: Datum,
    operation: BitOperation,
}

impl Accumulator for Bits {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let Some(value) = arguments.first().filter(|value| !value.is_null()) else {
            return Ok(());
        };
        self.value = match (&self.value, value) {
            (Datum::Null, value) => value.clone(),
            (Datum::Int2(a), Datum::Int2(b)) => Datum::Int2(self.operation.apply(*a, *b)),
            (Datum::Int4(a), Datum::Int4(b)) => Datum::Int4(self.operation.apply(*a, *b)),
            (Datum::Int8(a), Datum::Int8(b)) => Datum::Int8(self.operation.apply(*a, *b)),
            (Datum::Bit(a), Datum::Bit(b)) => {
                if a.len() != b.len() {
                    return Err(Error::new(
                        crate::SqlState(*b"22026"),
                        "cannot AND bit strings of different sizes",
                    ));
                }
                let bits: String = a
                    .bytes()
                    .zip(b.bytes())
                    .map(|(a, b)| {
                        let bit = self.operation.apply(a & 1, b & 1);
                        char::from(b'0' + bit)
                    })
                    .collect();
                Datum::Bit(bits.into())
            }
            _ => return Err(wrong_argument("bit aggregate", value)),
        };
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(self.value.clone())
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Bits>() + self.value.bytes()
    }
}

/// XX000: the caller did not cast.
fn wrong_argument(aggregate: &str, value: &Datum) -> Error {
    Error::new(
        state::INTERNAL_ERROR,
        format!("{aggregate} got an unexpected value {value:?}"),
    )
}
