//! Variances, standard deviations, correlation and regression.

use super::Accumulator;
use crate::error::{Error, Result, state};
use crate::functions::{AggregateFunction, Evaluation, Resolved};
use crate::types::kind::oid;
use crate::types::{Datum, Numeric};

/// What a spread aggregate gives.
#[derive(Clone, Copy)]
struct Wanted {
    sample: bool,
    root: bool,
}

/// The aggregate of a name.
pub(super) fn by_name(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "variance" | "var_samp" => |call| {
            spread(
                call,
                Wanted {
                    sample: true,
                    root: false,
                },
            )
        },
        "var_pop" => |call| {
            spread(
                call,
                Wanted {
                    sample: false,
                    root: false,
                },
            )
        },
        "stddev" | "stddev_samp" => |call| {
            spread(
                call,
                Wanted {
                    sample: true,
                    root: true,
                },
            )
        },
        "stddev_pop" => |call| {
            spread(
                call,
                Wanted {
                    sample: false,
                    root: true,
                },
            )
        },
        "corr" => |_| pairs(Regression::Correlation),
        "covar_pop" => |_| pairs(Regression::CovariancePopulation),
        "covar_samp" => |_| pairs(Regression::CovarianceSample),
        "regr_avgx" => |_| pairs(Regression::AverageX),
        "regr_avgy" => |_| pairs(Regression::AverageY),
        "regr_count" => |_| pairs(Regression::Count),
        "regr_intercept" => |_| pairs(Regression::Intercept),
        "regr_r2" => |_| pairs(Regression::R2),
        "regr_slope" => |_| pairs(Regression::Slope),
        "regr_sxx" => |_| pairs(Regression::Sxx),
        "regr_sxy" => |_| pairs(Regression::Sxy),
        "regr_syy" => |_| pairs(Regression::Syy),
        _ => return None,
    })
}

fn spread(call: &Resolved, wanted: Wanted) -> Box<dyn Accumulator> {
    match call.parameter(0).oid {
        oid::FLOAT4 | oid::FLOAT8 => Box::new(Floats {
            state: Moments::default(),
            wanted,
        }),
        _ => Box::new(Exact {
            rows: 0,
            sum: Numeric::ZERO,
            squares: Numeric::ZERO,
            wanted,
        }),
    }
}

fn pairs(wanted: Regression) -> Box<dyn Accumulator> {
    Box::new(Pairs {
        x: Moments::default(),
        y: Moments::default(),
        sxy: 0.0,
        wanted,
    })
}

fn overflow() -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        "value out of range: overflow",
    )
}

/// Count, sum and sum of squared deviations, updated as Youngs and Cramer do.
#[derive(Clone, Copy, Default)]
struct Moments {
    rows: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) -> Result<()> {
        let before = *self;
        self.rows += 1.0;
        self.sum += value;
        if before.rows > 0.0 {
            let difference = value * self.rows - self.sum;
            self.squares += difference * difference / (self.rows * before.rows);
            if self.sum.is_infinite() || self.squares.is_infinite() {
                if !before.sum.is_infinite() && !value.is_infinite() {
                    return Err(overflow());
                }
                self.squares = f64::NAN;
            }
        } else if !value.is_finite() {
            self.squares = f64::NAN;
        }
        Ok(())
    }
}

struct Floats {
    state: Moments,
    wanted: Wanted,
}

fn as_double(value: Option<&Datum>) -> Option<f64> {
    match value {
        Some(Datum::Float8(value)) => Some(*value),
        Some(Datum::Float4(value)) => Some(f64::from(*value)),
        _ => None,
    }
}

impl Accumulator for Floats {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        match as_double(arguments.first()) {
            Some(value) => self.state.add(value),
            None => Ok(()),
        }
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        let Moments { rows, squares, .. } = self.state;
        let divisor = if self.wanted.sample { rows - 1.0 } else { rows };
        if divisor <= 0.0 {
            return Ok(Datum::Null);
        }
        let variance = squares / divisor;
        Ok(Datum::Float8(if self.wanted.root {
            variance.sqrt()
        } else {
            variance
        }))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Floats>()
    }
}

/// Over integers and numerics: exact sums, PostgreSQL's division scale.
struct Exact {
    rows: i64,
    sum: Numeric,
    squares: Numeric,
    wanted: Wanted,
}

impl Accumulator for Exact {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let value = match arguments.first() {
            Some(Datum::Numeric(value)) => (**value).clone(),
            Some(other) => match other.as_i64() {
                Some(value) => Numeric::from_i64(value),
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        self.squares = self.squares.add(&value.mul(&value)?)?;
        self.sum = self.sum.add(&value)?;
        self.rows += 1;
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        let divisor = if self.wanted.sample {
            self.rows - 1
        } else {
            self.rows
        };
        if divisor <= 0 {
            return Ok(Datum::Null);
        }
        if !self.sum.is_finite() {
            return Ok(Datum::numeric(Numeric::NaN));
        }
        let rows = Numeric::from_i64(self.rows);
        let numerator = rows.mul(&self.squares)?.sub(&self.sum.mul(&self.sum)?)?;
        if numerator.is_zero() || numerator.is_negative() {
            return Ok(Datum::numeric(Numeric::ZERO));
        }
        let denominator = rows.mul(&Numeric::from_i64(divisor))?;
        let scale = crate::types::numeric::select_division_scale(&numerator, &denominator);
        let variance = numerator.div_at_scale(&denominator, scale)?;
        Ok(Datum::numeric(if self.wanted.root {
            variance.sqrt_at_scale(scale)?
        } else {
            variance
        }))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Exact>() + self.sum.bytes() + self.squares.bytes()
    }
}

/// What an aggregate over pairs gives.
#[derive(Clone, Copy)]
enum Regression {
    Correlation,
    CovariancePopulation,
    CovarianceSample,
    AverageX,
    AverageY,
    Count,
    Intercept,
    R2,
    Slope,
    Sxx,
    Sxy,
    Syy,
}

/// Over pairs `(y, x)`; a pair with a NULL does not count.
struct Pairs {
    x: Moments,
    y: Moments,
    sxy: f64,
    wanted: Regression,
}

impl Accumulator for Pairs {
    fn add(&mut self, _: &mut Evaluation<'_>, arguments: &[Datum]) -> Result<()> {
        let pair = (as_double(arguments.first()), as_double(arguments.get(1)));
        let (Some(y), Some(x)) = pair else {
            return Ok(());
        };
        let before = self.x.rows;
        self.x.add(x)?;
        self.y.add(y)?;
        if before > 0.0 {
            let dx = x * self.x.rows - self.x.sum;
            let dy = y * self.y.rows - self.y.sum;
            self.sxy += dx * dy / (self.x.rows * before);
            if self.sxy.is_infinite() {
                self.sxy = f64::NAN;
            }
        } else if !x.is_finite() || !y.is_finite() {
            self.sxy = f64::NAN;
        }
        Ok(())
    }

    fn finish(&self, _: &mut Evaluation<'_>) -> Result<Datum> {
        let rows = self.x.rows;
        if matches!(self.wanted, Regression::Count) {
            return Ok(Datum::Int8(rows as i64));
        }
        let (sxx, syy, sxy) = (self.x.squares, self.y.squares, self.sxy);
        if rows < 1.0 {
            return Ok(Datum::Null);
        }
        let value = match self.wanted {
            Regression::Count => None,
            Regression::Correlation => (sxx != 0.0 && syy != 0.0).then(|| sxy / (sxx * syy).sqrt()),
            Regression::CovariancePopulation => Some(sxy / rows),
            Regression::CovarianceSample => (rows >= 2.0).then(|| sxy / (rows - 1.0)),
            Regression::AverageX => Some(self.x.sum / rows),
            Regression::AverageY => Some(self.y.sum / rows),
            Regression::Intercept => {
                (sxx != 0.0).then(|| (self.y.sum - self.x.sum * sxy / sxx) / rows)
            }
            Regression::R2 if sxx == 0.0 => None,
            Regression::R2 if syy == 0.0 => Some(1.0),
            Regression::R2 => Some((sxy * sxy) / (sxx * syy)),
            Regression::Slope => (sxx != 0.0).then(|| sxy / sxx),
            Regression::Sxx => Some(sxx),
            Regression::Sxy => Some(sxy),
            Regression::Syy => Some(syy),
        };
        Ok(Datum::from(value))
    }

    fn bytes(&self) -> usize {
        std::mem::size_of::<Pairs>()
    }
}
