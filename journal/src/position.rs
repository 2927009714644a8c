//! The numbers that name places in the log: `Position`, `GroupId`, `Term`, `Index`.
//! Each is its own type, so that no signature takes two bare integers.

use std::fmt;

/// Microseconds between 1970-01-01 and 2020-01-01, the zero of [`Position`].
pub const EPOCH_UNIX_MICROS: u64 = 1_577_836_800_000_000;

/// Bits of a [`Position`] below the microseconds: a counter within one microsecond.
pub const COUNTER_BITS: u32 = 10;

/// The commit timestamp of an entry: microseconds since 2020-01-01 << 10, plus a counter.
/// 63 bits are used, until the year 2305. Printed as `pg_lsn` (two hexadecimal halves).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before every entry.
    pub const ZERO: Position = Position(0);
    /// After every entry (63 bits).
    pub const MAX: Position = Position(i64::MAX as u64);

    /// The first position of the given microsecond since 1970.
    pub fn from_unix_micros(micros: u64) -> Position {
        Position((micros.saturating_sub(EPOCH_UNIX_MICROS) << COUNTER_BITS).min(Self::MAX.0))
    }

    /// Microseconds since 1970 of this position.
    pub fn unix_micros(self) -> u64 {
        (self.0 >> COUNTER_BITS) + EPOCH_UNIX_MICROS
    }

    /// The position right behind this one.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }

    /// Parses the `pg_lsn` form, `16/B374D848`.
    pub fn parse(text: &str) -> Option<Position> {
        let (high, low) = text.trim().split_once('/')?;
        let half = |s: &str| {
            let digits = !s.is_empty() && s.len() <= 8 && s.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(s, 16).ok()).flatten()
        };
        Some(Position(half(high)? << 32 | half(low)?))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

/// A Raft group: one per owner. Group 0 is the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// Group 0: roles, groups, blocks of OIDs, reservations of names in `public`.
    pub const DIRECTORY: GroupId = GroupId(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A Raft term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A Raft log index within one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_as_pg_lsn() {
        let p = Position(0x16_B374_D848);
        assert_eq!(p.to_string(), "16/B374D848");
        assert_eq!(Position::parse("16/B374D848"), Some(p));
        for bad in ["", "1", "/", "1/", "/1", "123456789/0", "g/0", "+1/0"] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn carries_the_clock() {
        let micros = 1_795_000_000_123_456;
        assert_eq!(Position::from_unix_micros(micros).unix_micros(), micros);
    }
}
