//! `sum` and `avg`.

use super::{Accumulator, wrong_argument};
use crate::error::{Error, Result, state};
use crate::functions::{AggregateFunction, Evaluation, Resolved};
use crate::types::datetime::compute::interval_divided;
use crate::types::kind::oid;
use crate::types::{Datum, Interval, Numeric};

/// The aggregate of a name.
pub(super) fn by_name(name: &str) -> Option<AggregateFunction> {
    match name {
        "sum" => Some(|call| sum(call, false)),
        "avg" => Some(|call| sum(call, true)),
        _ => None,
    }
}

fn sum(call: &Resolved, average: bool) -> Box<dyn Accumulator> {
    match call.parameter(0).oid {
        oid::INT2 | oid::INT4 => Box::new(Integers {
            sum: 0,
            rows: 0,
            average,
            wide: false,
        }),
        oid::INT8 => Box::new(Integers {
            sum: 0,
            rows: 0,
            average,
            wide: true,
        }),
        oid::FLOAT4 if !average => Box::new(Singles { sum: None }),
        oid::FLOAT4 | oid::FLOAT8 => Box::new(Doubles {
            sum: 0.0,
            rows: 0,
            average,
        }),
        oid::INTERVAL => Box::new(Intervals {
            sum: Interval::ZERO,
            rows: 0,
            average,
        }),
        _ => Box::new(Numerics::new(average)),
    }
}

fn float_overflow() -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        "value out of range: overflow",
    )
}

/// Integers; 64-bit ones sum to a numeric.
struct Integers {
    sum: i128,
    rows: i64,
    average: bool,
    wide: bool,
}

impl Accumulator for Integers {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        if let Some(value) = arguments.first().and_then(Datum::as_i64) {
            self.sum += i128::from(value);
            self.rows += 1;
        }
        Ok(())
    }

    fn remove(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<bool> {
        if let Some(value) = arguments.first().and_then(Datum::as_i64) {
            self.sum -= i128::from(value);
            self.rows -= 1;
        }
        Ok(true)
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.rows == 0 {
            return Ok(Datum::Null);
        }
        let sum = Numeric::from_parts(self.sum, 0);
        if self.average {
            return Ok(Datum::numeric(sum.div(&Numeric::from_i64(self.rows))?));
        }
        if self.wide {
            return Ok(Datum::numeric(sum));
        }
        i64::try_from(self.sum)
            .map(Datum::Int8)
            .map_err(|_| Error::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Integers>()
    }
}

/// `sum(real)`, kept in single precision as PostgreSQL keeps it.
struct Singles {
    sum: Option<f32>,
}

impl Accumulator for Singles {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        if let Some(Datum::Float4(value)) = arguments.first() {
            self.sum = Some(match self.sum {
                None => *value,
                Some(before) => {
                    let sum = before + value;
                    if sum.is_infinite() && !before.is_infinite() && !value.is_infinite() {
                        return Err(float_overflow());
                    }
                    sum
                }
            });
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(self.sum.map_or(Datum::Null, Datum::Float4))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Singles>()
    }
}

/// Doubles, and averages of singles.
struct Doubles {
    sum: f64,
    rows: i64,
    average: bool,
}

impl Accumulator for Doubles {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let value = match arguments.first() {
            Some(Datum::Float8(value)) => *value,
            Some(Datum::Float4(value)) => f64::from(*value),
            _ => return Ok(()),
        };
        let sum = if self.rows == 0 {
            value
        } else {
            self.sum + value
        };
        if sum.is_infinite() && !self.sum.is_infinite() && !value.is_infinite() {
            return Err(float_overflow());
        }
        self.sum = sum;
        self.rows += 1;
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.rows == 0 {
            return Ok(Datum::Null);
        }
        Ok(Datum::Float8(if self.average {
            self.sum / self.rows as f64
        } else {
            self.sum
        }))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Doubles>()
    }
}

/// Numerics, with NaN and the infinities counted apart.
struct Numerics {
    sum: Numeric,
    rows: i64,
    average: bool,
}

impl Numerics {
    fn new(average: bool) -> Numerics {
        Numerics {
            sum: Numeric::ZERO,
            rows: 0,
            average,
        }
    }
}

impl Accumulator for Numerics {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        match arguments.first() {
            Some(Datum::Numeric(value)) => {
                self.sum = self.sum.add(value)?;
                self.rows += 1;
                Ok(())
            }
            Some(Datum::Null) | None => Ok(()),
            Some(other) => Err(wrong_argument("sum", other)),
        }
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.rows == 0 {
            return Ok(Datum::Null);
        }
        if self.average {
            return Ok(Datum::numeric(self.sum.div(&Numeric::from_i64(self.rows))?));
        }
        Ok(Datum::numeric(self.sum.clone()))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Numerics>() + self.sum.bytes()
    }
}

struct Intervals {
    sum: Interval,
    rows: i64,
    average: bool,
}

fn interval_overflow() -> Error {
    Error::new(state::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

impl Accumulator for Intervals {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        if let Some(Datum::Interval(value)) = arguments.first() {
            self.sum = self.sum.checked_add(*value).ok_or_else(interval_overflow)?;
            self.rows += 1;
        }
        Ok(())
    }

    fn remove(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<bool> {
        if let Some(Datum::Interval(value)) = arguments.first() {
            self.sum = self.sum.checked_sub(*value).ok_or_else(interval_overflow)?;
            self.rows -= 1;
        }
        Ok(true)
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        if self.rows == 0 {
            return Ok(Datum::Null);
        }
        if self.average {
            return Ok(Datum::Interval(interval_divided(
                &self.sum,
                self.rows as f64,
            )?));
        }
        Ok(Datum::Interval(self.sum))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Intervals>()
    }
}
