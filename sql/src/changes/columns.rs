//! The columns of the feed.

use crate::system::SystemColumn;
use crate::types::{Datum, Type};

const fn column(name: &'static str, ty: Type, not_null: bool) -> SystemColumn {
    SystemColumn { name, ty, not_null }
}

/// `freehold.feed` and `freehold.changes`.
pub const COLUMNS: &[SystemColumn] = &[
    column("position", Type::PG_LSN, true),
    column("tx", Type::XID8, false),
    column("seq", Type::INT4, true),
    column("last_in_tx", Type::BOOL, true),
    column("committed_at", Type::TIMESTAMPTZ, true),
    column("owner", Type::TEXT, false),
    column("table_name", Type::TEXT, false),
    column("op", Type::TEXT, true),
    column("key", Type::JSONB, false),
    column("new", Type::JSONB, false),
    column("old", Type::JSONB, false),
    column("event_type", Type::TEXT, false),
    column("event", Type::TEXT, false),
    column("role", Type::TEXT, false),
    column("application_name", Type::TEXT, false),
    column("trace", Type::TEXT, false),
];

/// Numbers of the columns that are set or read by themselves.
pub(super) const POSITION: usize = 0;
pub(super) const LAST_IN_TX: usize = 3;

/// Microseconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// One row before it is laid out.
pub(super) struct FeedRow {
    pub position: storage::Position,
    pub tx: Option<u64>,
    pub seq: u32,
    pub owner: Option<String>,
    pub table: Option<String>,
    pub op: &'static str,
    pub key: Datum,
    pub new: Datum,
    pub old: Datum,
    pub event: Option<(String, String)>,
    pub meta: Option<storage::Meta>,
}

impl FeedRow {
    /// A row that carries nothing but its position and operation.
    pub fn bare(position: storage::Position, op: &'static str) -> FeedRow {
        FeedRow {
            position,
            tx: None,
            seq: 0,
            owner: None,
            table: None,
            op,
            key: Datum::Null,
            new: Datum::Null,
            old: Datum::Null,
            event: None,
            meta: None,
        }
    }

    /// The values in the order of [`COLUMNS`]; `last_in_tx` is false.
    pub fn values(self) -> Vec<Datum> {
        let micros = i64::try_from(self.position.unix_micros()).unwrap_or(i64::MAX);
        let (event_type, event) = self.event.map_or((None, None), |(t, e)| (Some(t), Some(e)));
        let meta = self.meta.unwrap_or_default();
        vec![
            Datum::Lsn(self.position.0),
            self.tx.map_or(Datum::Null, Datum::Xid8),
            Datum::Int4(i32::try_from(self.seq).unwrap_or(i32::MAX)),
            Datum::Bool(false),
            Datum::Timestamptz(micros.saturating_sub(EPOCH_2000)),
            text(self.owner),
            text(self.table),
            Datum::Text(self.op.into()),
            self.key,
            self.new,
            self.old,
            text(event_type),
            text(event),
            text(some(meta.login)),
            text(some(meta.application_name)),
            text(some(meta.trace)),
        ]
    }
}

fn some(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

fn text(value: Option<String>) -> Datum {
    value.map_or(Datum::Null, |value| Datum::Text(value.into()))
}
