//! Ordered-set aggregates: percentiles and the mode. Rows come in the order of WITHIN GROUP.

use super::Accumulator;
use crate::error::{Error, Result, state};
use crate::functions::{AggregateFunction, Evaluation, Resolved};
use crate::types::datetime::compute::interval_times;
use crate::types::order::compare_as;
use crate::types::{Array, Datum, Type};

/// The aggregate of a name.
pub(super) fn by_name(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "percentile_cont" => |call| Box::new(Percentile::new(call, true)),
        "percentile_disc" => |call| Box::new(Percentile::new(call, false)),
        "mode" => |call| {
            Box::new(Mode {
                kind: call.parameter(0),
                best: (Datum::Null, 0),
                current: (Datum::Null, 0),
            })
        },
        _ => return None,
    })
}

/// `percentile_cont` and `percentile_disc`, with one fraction or an array of them.
struct Percentile {
    continuous: bool,
    result: Type,
    fractions: Datum,
    values: Vec<Datum>,
    held: usize,
}

impl Percentile {
    fn new(call: &Resolved, continuous: bool) -> Percentile {
        Percentile {
            continuous,
            result: call.result,
            fractions: Datum::Null,
            values: Vec::new(),
            held: 0,
        }
    }

    fn at(&self, fraction: &Datum) -> Result<Datum> {
        let Datum::Float8(fraction) = fraction else {
            return Ok(Datum::Null);
        };
        if !(0.0..=1.0).contains(fraction) {
            return Err(Error::new(
                state::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("percentile value {fraction} is not between 0 and 1"),
            ));
        }
        let count = self.values.len();
        if count == 0 {
            return Ok(Datum::Null);
        }
        if !self.continuous {
            let row = (fraction * count as f64).ceil().max(1.0) as usize;
            return Ok(self.values[row.min(count) - 1].clone());
        }
        let position = fraction * (count - 1) as f64;
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        if low == high {
            return Ok(self.values[low].clone());
        }
        between(&self.values[low], &self.values[high], position - low as f64)
    }
}

/// The value at a part of the way from one to the other.
fn between(low: &Datum, high: &Datum, part: f64) -> Result<Datum> {
    match (low, high) {
        (Datum::Float8(a), Datum::Float8(b)) => Ok(Datum::Float8(a + part * (b - a))),
        (Datum::Interval(a), Datum::Interval(b)) => {
            let overflow = || Error::new(state::DATETIME_FIELD_OVERFLOW, "interval out of range");
            let way = interval_times(&b.checked_sub(*a).ok_or_else(overflow)?, part)?;
            Ok(Datum::Interval(a.checked_add(way).ok_or_else(overflow)?))
        }
        _ => Err(super::wrong_argument("percentile_cont", low)),
    }
}

impl Accumulator for Percentile {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        if let Some(fractions) = arguments.first() {
            self.fractions = fractions.clone();
        }
        if let Some(value) = arguments.get(1).filter(|value| !value.is_null()) {
            self.held += value.bytes();
            self.values.push(value.clone());
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        match &self.fractions {
            Datum::Array(fractions) => {
                if self.values.is_empty() {
                    return Ok(Datum::Null);
                }
                let values: Result<Vec<Datum>> = fractions
                    .values
                    .iter()
                    .map(|fraction| self.at(fraction))
                    .collect();
                let element = self.result.element().unwrap_or(self.result);
                let dimensions = fractions.dimensions.clone();
                Ok(Datum::array(Array::shaped(element, dimensions, values?)?))
            }
            fraction => self.at(fraction),
        }
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Percentile>() + self.held
    }
}

/// The most frequent value; of several the first in order.
struct Mode {
    kind: Type,
    best: (Datum, u64),
    current: (Datum, u64),
}

impl Accumulator for Mode {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let Some(value) = arguments.first().filter(|value| !value.is_null()) else {
            return Ok(());
        };
        let same = self.current.1 > 0 && compare_as(self.kind, &self.current.0, value).is_eq();
        if same {
            self.current.1 += 1;
        } else {
            self.current = (value.clone(), 1);
        }
        if self.current.1 > self.best.1 {
            self.best = self.current.clone();
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        Ok(self.best.0.clone())
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Mode>() + self.best.0.bytes() + self.current.0.bytes()
    }
}
