//! `interval`: months, days and microseconds, kept apart as PostgreSQL keeps them; order and
//! equality see them as one span of 30-day months and 24-hour days.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// A span of time. `'1 mon' = '30 days' = '720:00:00'` in comparisons, as in PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    /// Months, years included.
    pub months: i32,
    /// Days, weeks included.
    pub days: i32,
    /// Microseconds, hours and minutes included.
    pub microseconds: i64,
}

impl Interval {
    /// The zero span.
    pub const ZERO: Interval = Interval {
        months: 0,
        days: 0,
        microseconds: 0,
    };

    /// A span of its three parts.
    pub const fn new(months: i32, days: i32, microseconds: i64) -> Interval {
        Interval {
            months,
            days,
            microseconds,
        }
    }

    /// The span in microseconds for comparison: a month has 30 days, a day 24 hours.
    pub fn linear(&self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(DAY_US) + i128::from(self.microseconds)
    }

    /// Sum, `None` where a part overflows.
    pub fn checked_add(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            microseconds: self.microseconds.checked_add(other.microseconds)?,
        })
    }

    /// Difference, `None` where a part overflows.
    pub fn checked_sub(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_sub(other.months)?,
            days: self.days.checked_sub(other.days)?,
            microseconds: self.microseconds.checked_sub(other.microseconds)?,
        })
    }

    /// The opposite, `None` where a part overflows.
    pub fn checked_neg(self) -> Option<Interval> {
        Interval::ZERO.checked_sub(self)
    }

    /// `-1`, `0` or `1`, by the linear span.
    pub fn signum(&self) -> i32 {
        match self.linear().cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Interval) -> bool {
        self.linear() == other.linear()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Interval) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Interval) -> Ordering {
        self.linear().cmp(&other.linear())
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.linear().hash(state);
    }
}
