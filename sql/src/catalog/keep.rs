//! How long a table keeps the old versions of its rows: what `WITH (history = ...)` says, and the
//! row by which storage knows it.

use serde::{Deserialize, Serialize};
use storage::{Keep, Position, system};

use super::codec::SystemWrite;
use super::{Change, Object, Table};
use crate::types::FormatSettings;
use crate::types::datetime::read_interval;

/// The name of the option.
pub const HISTORY: &str = "history";

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// A month is 30 days long here, as where PostgreSQL has to compare intervals.
const DAYS_PER_MONTH: i64 = 30;

/// A table keeps its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// What was there before may be gone.
    #[serde(with = "super::descriptor::position")]
    pub since: Position,
    /// So long, in microseconds; `None` = for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micros: Option<u64>,
}

impl History {
    fn keep(self) -> Keep {
        Keep {
            since: self.since,
            micros: self.micros,
        }
    }
}

/// What the option's value means: nothing is kept, so many microseconds, or (`Some(None)`) for ever.
/// `None` if it has no meaning.
pub fn read_history(value: &str) -> Option<Option<Option<u64>>> {
    match value {
        "off" => return Some(None),
        "forever" => return Some(Some(None)),
        _ => {}
    }
    let span = read_interval(value, -1, &FormatSettings::default()).ok()?;
    let days = i64::from(span.months) * DAYS_PER_MONTH + i64::from(span.days);
    let micros = days
        .checked_mul(MICROS_PER_DAY)?
        .checked_add(span.microseconds)?;
    let micros = u64::try_from(micros).ok().filter(|micros| *micros > 0)?;
    Some(Some(Some(micros)))
}

/// What a table keeps from `table.since` on, by its options. Who keeps it longer than before has what
/// was kept until now; a table with new trees begins again.
pub fn history_of(old: Option<&Table>, table: &Table) -> Option<History> {
    let option = table.options.get(HISTORY)?;
    let micros = read_history(option)??;
    let before = old.filter(|old| old.tree == table.tree);
    let since = match before.and_then(|old| old.history) {
        Some(history) if history.micros == micros => return Some(history),
        Some(history) => history.keep().from(table.since),
        None => table.since,
    };
    Some(History { since, micros })
}

/// The rows that tell storage what a change means for the history.
pub(super) fn kept_rows(change: &Change) -> Vec<SystemWrite> {
    let kept = |object: &Option<Object>| match object {
        Some(Object::Table(table)) => table.history.map(|history| (table.tree, history)),
        _ => None,
    };
    let (old, new) = (kept(&change.old), kept(&change.new));
    if old == new {
        return Vec::new();
    }
    let gone = old.filter(|(tree, _)| new.is_none_or(|(now, _)| now != *tree));
    let rows = [
        gone.map(|(tree, _)| Keep::row(tree, None)),
        new.map(|(tree, history)| Keep::row(tree, Some(history.keep()))),
    ];
    let row = |(key, value)| SystemWrite {
        tree: system::KEPT_TREES,
        key,
        value,
    };
    rows.into_iter().flatten().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_option() {
        assert_eq!(read_history("off"), Some(None));
        assert_eq!(read_history("forever"), Some(Some(None)));
        let days = |n: u64| Some(Some(Some(n * 86_400_000_000)));
        assert_eq!(read_history("30 days"), days(30));
        assert_eq!(read_history("1 mon"), days(30));
        assert_eq!(
            read_history("1 day 00:00:01"),
            Some(Some(Some(86_401_000_000)))
        );
        for wrong in ["", "on", "0", "-1 day", "for ever", "thirty days"] {
            assert_eq!(read_history(wrong), None, "{wrong}");
        }
    }
}
