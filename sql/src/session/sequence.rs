//! Sequences: numbers are handed out only from ranges that a committed entry has reserved, so a
//! crash or a change of leaders leaves gaps and never a number twice.
//!
//! A row of the sequences' tree: key = OID (u32, big-endian), value = last (i64, little-endian)
//! and 1 if it was handed out. No row: nothing was handed out since the start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{Group, GroupId, Meta, Outcome, Position as LogPosition};

use super::environment::{Surroundings, read_only};
use super::signal::Signal;
use crate::catalog::{
    self, Object, Privilege, SequenceOptions, SystemWrite, TREE_SEQUENCES, Table, TableId,
    TableKind,
};
use crate::engine::Engine;
use crate::transaction::{Stop, Wait};
use crate::types::Datum;
use crate::{Error, Result, state};

/// Numbers reserved at once: the first time, and at most.
const RANGE_MIN: i64 = 32;
const RANGE_MAX: i64 = 4_096;

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last number, or the first one if `called` is false.
    pub last: i64,
    /// Was `last` handed out?
    pub called: bool,
}

impl Position {
    /// Before the first number.
    pub fn start(options: &SequenceOptions) -> Position {
        Position {
            last: options.start,
            called: false,
        }
    }

    /// The row's value.
    pub fn encode(self) -> Bytes {
        let mut out = Vec::with_capacity(9);
        out.extend_from_slice(&self.last.to_le_bytes());
        out.push(u8::from(self.called));
        out.into()
    }

    /// Reads a row's value.
    pub fn decode(bytes: &[u8]) -> Option<Position> {
        let last = i64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        Some(Position {
            last,
            called: *bytes.get(8)? == 1,
        })
    }

    /// The next number; 2200H at the end of a sequence that does not cycle.
    fn next(self, options: &SequenceOptions, name: &str) -> Result<i64> {
        if !self.called {
            return Ok(self.last);
        }
        let up = options.increment > 0;
        match self.last.checked_add(options.increment) {
            Some(next) if next >= options.min && next <= options.max => Ok(next),
            _ if options.cycle => Ok(if up { options.min } else { options.max }),
            _ => {
                let (what, end) = if up {
                    ("maximum", options.max)
                } else {
                    ("minimum", options.min)
                };
                Err(Error::new(
                    state::SEQUENCE_LIMIT_EXCEEDED,
                    format!("nextval: reached {what} value of sequence \"{name}\" ({end})"),
                ))
            }
        }
    }
}

/// The key of a sequence's row.
pub fn key(id: u32) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// A range of numbers: `first`, `first + step`, ...
#[derive(Clone, Copy, Debug)]
struct Range {
    next: i64,
    left: i64,
    step: i64,
}

/// What the engine has in hand of one sequence.
#[derive(Default)]
struct Hand {
    range: Option<Range>,
    /// Reserved by an entry that is perhaps not applied yet: the range, the row, the position.
    pending: Option<(Range, Position, LogPosition)>,
    /// The rows that it has written last.
    rows: VecDeque<Position>,
    /// The state that the first of these rows was computed on.
    base: Option<LogPosition>,
    /// The range in hand rests on this entry, which was not applied when it was taken.
    early: Option<(LogPosition, Signal)>,
    size: i64,
    handed: Option<i64>,
    rule: Option<(i64, i64, i64, bool)>,
}

/// The ranges in hand, by group and sequence.
#[derive(Default)]
pub struct Sequences {
    hands: Mutex<BTreeMap<(GroupId, u32), Arc<Mutex<Hand>>>>,
    /// Rows as they were applied, and where: one that no hand has written (ALTER SEQUENCE,
    /// TRUNCATE) empties the hand.
    applied: Mutex<BTreeMap<(GroupId, u32), (Option<Position>, LogPosition)>>,
}

/// Own rows remembered per hand.
const ROWS_MAX: usize = 8;

impl Sequences {
    fn hand(&self, group: GroupId, id: u32) -> Arc<Mutex<Hand>> {
        Arc::clone(self.hands.lock().entry((group, id)).or_default())
    }

    /// The entry at `at`, which has a sequence's row, was applied.
    pub fn observe(&self, group: GroupId, at: LogPosition, key: &[u8], row: Option<&[u8]>) {
        let Some(id) = key
            .get(..4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_be_bytes)
        else {
            return;
        };
        self.applied
            .lock()
            .insert((group, id), (row.and_then(Position::decode), at));
    }

    /// Was the applied row written by somebody else, behind what the hand began with? What the
    /// hand has read itself stays the applied row until its first reservation is applied.
    fn is_foreign(&self, group: GroupId, id: u32, hand: &Hand) -> bool {
        match self.applied.lock().get(&(group, id)) {
            None => false,
            Some((_, at)) if hand.base.is_some_and(|base| *at <= base) => false,
            Some((None, _)) => true,
            Some((Some(row), _)) => !hand.rows.contains(row),
        }
    }

    /// Forgets what is in hand (ALTER SEQUENCE, a new leader).
    pub fn forget(&self, group: GroupId, id: u32) {
        self.hands.lock().remove(&(group, id));
    }

    /// Takes the next number. `early`: a range may be used before its entry is applied, for the
    /// answer will wait for it (the position comes with the number), and what uses the number
    /// stands behind it in the same log.
    fn next(
        &self,
        engine: &Engine,
        group: &Arc<Group>,
        table: &Table,
        options: &SequenceOptions,
        early: bool,
    ) -> std::result::Result<(i64, Option<LogPosition>), Stop> {
        if group.term().is_none() {
            // What is left in hand would come out of turn.
            return Err(Stop::Wait(Wait::Leader(group.id())));
        }
        let hand = self.hand(group.id(), table.id.0);
        let mut hand = hand.lock();
        let rule = (options.increment, options.min, options.max, options.cycle);
        let in_hand = hand.range.is_some() || hand.pending.is_some();
        if hand.rule != Some(rule) || (in_hand && self.is_foreign(group.id(), table.id.0, &hand)) {
            *hand = Hand {
                rule: Some(rule),
                ..Hand::default()
            };
        }
        let outcome = hand
            .early
            .as_ref()
            .map(|(at, signal)| (*at, signal.outcome()));
        let unsure = match outcome {
            None => None,
            Some((_, Some(Outcome::Applied))) => {
                hand.early = None;
                None
            }
            Some((_, Some(Outcome::Lost | Outcome::Unknown))) => {
                // The range went with its leader.
                *hand = Hand {
                    rule: Some(rule),
                    ..Hand::default()
                };
                None
            }
            Some((at, None)) if early => Some(at),
            Some((at, None)) => return Err(Stop::Wait(Wait::Position(group.id(), at))),
        };
        if let Some(value) = take(&mut hand) {
            return Ok((value, unsure));
        }
        if let Some((range, row, position)) = hand.pending.take() {
            if group.applied() < position {
                hand.pending = Some((range, row, position));
                return Err(Stop::Wait(Wait::Position(group.id(), position)));
            }
            let applied = group.get(TREE_SEQUENCES, &key(table.id.0), group.applied())?;
            if applied.as_deref().and_then(Position::decode) == Some(row) {
                hand.range = Some(range);
                if let Some(value) = take(&mut hand) {
                    return Ok((value, None));
                }
            }
        }
        // What was applied until now is in the state that the range is computed from; only what
        // comes later can be foreign to it.
        self.applied.lock().remove(&(group.id(), table.id.0));
        let position = reserve(engine, group, table, options, &mut hand)?;
        if early && let Some((range, _, at)) = hand.pending.take() {
            hand.range = Some(range);
            let signal = Signal::default();
            let told = signal.clone();
            group.when(at, Box::new(move |outcome| told.finish(outcome)));
            hand.early = Some((at, signal));
            if let Some(value) = take(&mut hand) {
                return Ok((value, Some(at)));
            }
        }
        Err(Stop::Wait(Wait::Position(group.id(), position)))
    }
}

fn take(hand: &mut Hand) -> Option<i64> {
    let range = hand.range.as_mut().filter(|r| r.left > 0)?;
    let value = range.next;
    range.left -= 1;
    if range.left > 0 {
        range.next += range.step;
    }
    hand.handed = Some(value);
    Some(value)
}

/// Commits the reservation of the next range.
fn reserve(
    engine: &Engine,
    group: &Arc<Group>,
    table: &Table,
    options: &SequenceOptions,
    hand: &mut Hand,
) -> std::result::Result<LogPosition, Stop> {
    let (position, seen) = stored(group, table, options)?;
    let first = position.next(options, &table.name)?;
    let room = match options.increment {
        step if step > 0 => options.max.saturating_sub(first) / step,
        step => first.saturating_sub(options.min) / step.saturating_neg(),
    };
    hand.size = (hand.size * 2).clamp(RANGE_MIN.max(options.cache), RANGE_MAX.max(options.cache));
    let left = room.saturating_add(1).min(hand.size).max(1);
    let last = first + (left - 1) * options.increment;
    let row = Position { last, called: true };
    let at = store(engine, group, table.id, row, seen)?;
    if hand.rows.len() >= ROWS_MAX {
        hand.rows.pop_front();
    }
    hand.rows.push_back(row);
    hand.base.get_or_insert(seen);
    let range = Range {
        next: first,
        left,
        step: options.increment,
    };
    hand.pending = Some((range, row, at));
    Ok(at)
}

/// Commits where the sequence stands, if nobody has said that since `seen`. One that goes to another
/// owner stays as it is: that one goes on from there.
///
/// # Errors
/// 55006 once it has left; `Wait::Again` if it was written, or became another one, meanwhile.
pub(crate) fn store(
    engine: &Engine,
    group: &Arc<Group>,
    id: TableId,
    row: Position,
    seen: LogPosition,
) -> std::result::Result<LogPosition, Stop> {
    // As of `seen` at the earliest: what is placed of the catalog there is applied.
    let catalog = engine.catalog();
    let Some(now) = catalog.table_in(group.id(), id) else {
        return Err(Stop::again());
    };
    check_here(now)?;
    let write = SystemWrite {
        tree: TREE_SEQUENCES,
        key: key(id.0),
        value: Some(row.encode()),
    };
    let descriptor = catalog::place(&Object::Table(Arc::clone(now)));
    engine.side_entry_beside(group, vec![write], vec![descriptor], seen, Meta::default())
}

/// Where the sequence stands in the newest state.
fn stored(
    group: &Arc<Group>,
    table: &Table,
    options: &SequenceOptions,
) -> std::result::Result<(Position, LogPosition), Stop> {
    let newest = group
        .newest()
        .map_err(|wait| Stop::Wait(Wait::Position(group.id(), wait.0)))?;
    let row = group.get(TREE_SEQUENCES, &key(table.id.0), newest)?;
    let position = match row {
        None => Position::start(options),
        Some(bytes) => Position::decode(&bytes).ok_or_else(|| {
            Stop::Error(Error::new(
                state::DATA_CORRUPTED,
                "row of a sequence is damaged",
            ))
        })?,
    };
    Ok((position, newest))
}

/// The sequence behind an OID, if the role may use it so.
fn resolve(
    cx: &Surroundings<'_>,
    id: u32,
    privileges: &[Privilege],
) -> Result<(Arc<Table>, SequenceOptions)> {
    let table = cx
        .catalog
        .table(TableId(id))
        .filter(|t| cx.catalog.sees(cx.role(), t));
    let Some(table) = table else {
        return Err(Error::new(
            state::UNDEFINED_TABLE,
            format!("relation with OID {id} does not exist"),
        ));
    };
    let TableKind::Sequence(options) = &table.kind else {
        return Err(Error::new(
            state::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a sequence", table.name),
        ));
    };
    let own = cx.catalog.has_role(cx.role(), table.owner);
    let granted = cx.catalog.privileges(cx.role(), table);
    if !own && !privileges.iter().any(|p| granted.has(*p)) {
        return Err(Error::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for sequence {}", table.name),
        ));
    }
    Ok((Arc::clone(table), options.clone()))
}

/// 55006: it goes on with another owner.
pub(crate) fn check_here(sequence: &Table) -> Result<()> {
    match sequence.has_left() {
        true => Err(crate::moving::being_moved(sequence)),
        false => Ok(()),
    }
}

/// Is the sequence made by the open transaction, so that nobody else knows it?
fn is_own(cx: &Surroundings<'_>, table: &Table) -> bool {
    cx.engine.catalog().table(table.id).is_none()
}

/// `nextval`.
pub(super) fn next(cx: &Surroundings<'_>, id: u32) -> Result<Datum> {
    if cx.read_only {
        return Err(read_only("nextval()"));
    }
    let (table, options) = resolve(cx, id, &[Privilege::Usage, Privilege::Update])?;
    check_here(&table)?;
    let value = if is_own(cx, &table) {
        let mut memory = cx.memory.borrow_mut();
        let position = memory
            .own_sequences
            .entry(id)
            .or_insert_with(|| Position::start(&options));
        let value = position.next(&options, &table.name)?;
        *position = Position {
            last: value,
            called: true,
        };
        value
    } else {
        let group = group(cx, &table)?;
        let early = cx.catalog.has_role(cx.role(), table.owner);
        let next = cx
            .engine
            .sequences()
            .next(cx.engine, &group, &table, &options, early);
        let (value, unsure) = cx.stopping(next)?;
        if let Some(position) = unsure {
            cx.effects.borrow_mut().hold.push((group.id(), position));
        }
        value
    };
    let mut memory = cx.memory.borrow_mut();
    memory.current.insert(id, value);
    memory.last = Some(id);
    memory.changed = true;
    Ok(Datum::Int8(value))
}

fn group(cx: &Surroundings<'_>, table: &Table) -> Result<Arc<Group>> {
    cx.engine
        .groups()
        .get(table.group)
        .ok_or_else(|| storage::Error::NoGroup(table.group).into())
}

/// `currval`.
pub(super) fn current(cx: &Surroundings<'_>, id: u32) -> Result<Datum> {
    let (table, _) = resolve(cx, id, &[Privilege::Usage, Privilege::Select])?;
    let memory = cx.memory.borrow();
    memory
        .current
        .get(&id)
        .copied()
        .map(Datum::Int8)
        .ok_or_else(|| {
            Error::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "currval of sequence \"{}\" is not yet defined in this session",
                    table.name
                ),
            )
        })
}

/// `setval`: at once and for all, whatever becomes of the transaction, as in PostgreSQL.
pub(super) fn set(cx: &Surroundings<'_>, id: u32, value: i64, called: bool) -> Result<Datum> {
    if cx.read_only {
        return Err(read_only("setval()"));
    }
    let (table, options) = resolve(cx, id, &[Privilege::Update])?;
    check_here(&table)?;
    if value < options.min || value > options.max {
        return Err(Error::new(
            state::NUMERIC_VALUE_OUT_OF_RANGE,
            format!(
                "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                table.name, options.min, options.max
            ),
        ));
    }
    let position = Position {
        last: value,
        called,
    };
    let answer = if is_own(cx, &table) {
        cx.memory.borrow_mut().own_sequences.insert(id, position);
        Datum::Int8(value)
    } else {
        let group = group(cx, &table)?;
        cx.effects.borrow_mut().lasting = true;
        cx.after(|| {
            let (_, seen) = stored(&group, &table, &options)?;
            let at = store(cx.engine, &group, table.id, position, seen)?;
            cx.engine.sequences().forget(group.id(), id);
            Ok((Datum::Int8(value), group.id(), at))
        })?
    };
    if called {
        let mut memory = cx.memory.borrow_mut();
        memory.current.insert(id, value);
        memory.changed = true;
    }
    Ok(answer)
}

/// `pg_sequence_last_value`: NULL before the first number.
pub(super) fn last_value(cx: &Surroundings<'_>, id: u32) -> Result<Datum> {
    let (table, options) = resolve(cx, id, &[Privilege::Usage, Privilege::Select])?;
    let position = position(cx, &table, &options)?;
    Ok(if position.called {
        Datum::Int8(position.last)
    } else {
        Datum::Null
    })
}

/// Where a sequence stands for who asks: the last number handed out, not the reserved end.
pub(super) fn position(
    cx: &Surroundings<'_>,
    table: &Table,
    options: &SequenceOptions,
) -> Result<Position> {
    if let Some(own) = cx.memory.borrow().own_sequences.get(&table.id.0) {
        return Ok(*own);
    }
    let Some(group) = cx.engine.groups().get(table.group) else {
        return Ok(Position::start(options));
    };
    let hand = cx.engine.sequences().hand(table.group, table.id.0);
    // Elsewhere the end of the reserved range is all that is known.
    let handed = hand.lock().handed;
    if let Some(handed) = handed.filter(|_| group.term().is_some()) {
        return Ok(Position {
            last: handed,
            called: true,
        });
    }
    let at = crate::transaction::readable(cx.engine.groups(), &group);
    let row = group.get(TREE_SEQUENCES, &key(table.id.0), at)?;
    Ok(row
        .as_deref()
        .and_then(Position::decode)
        .unwrap_or(Position::start(options)))
}
