//! The columns of the feed.

use storage::GroupId;

use crate::catalog::Catalog;
use crate::cluster::{Reader, Writer};
use crate::system::SystemColumn;
use crate::types::codec::{decode_value, encode_value};
use crate::types::{Datum, Json, Type};

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

/// The operations, by their number between nodes.
const OPS: [&str; 7] = [
    "insert", "update", "delete", "event", "ddl", "progress", "erase",
];
/// The number of an erase that is [`FeedRow::is_lost`].
const LOST: u8 = 7;

/// One row before it is laid out.
///
/// Between nodes:
/// ```text
/// position u64 | tx: 0, or 1 and u64 | seq u32 | op u8 | owner, table: 0, or 1 and text
/// key, new, old: the storage form of a jsonb | event: 0, or 1 and two texts
/// op: 7 is an erase of which nothing but the table is known
/// meta: 0, or 1 and login, application_name, trace, hops u32 | OID of the table u32
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FeedRow {
    pub(super) position: storage::Position,
    pub(super) tx: Option<u64>,
    pub(super) seq: u32,
    pub(super) owner: Option<String>,
    pub(super) table: Option<String>,
    pub(super) op: &'static str,
    pub(super) key: Datum,
    pub(super) new: Datum,
    pub(super) old: Datum,
    pub(super) event: Option<(String, String)>,
    pub(super) meta: Option<storage::Meta>,
    /// The table's OID; 0: none.
    pub(super) table_id: u32,
    /// An erase of which nothing but the table is known.
    pub(super) lost: bool,
}

impl FeedRow {
    /// Its entry's position.
    pub fn position(&self) -> storage::Position {
        self.position
    }

    /// Its number within the entry.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// The group of its entry, if its owner is known.
    pub(crate) fn group(&self, catalog: &Catalog) -> Option<GroupId> {
        let owner = catalog.role_by_name(self.owner.as_deref()?)?;
        catalog.group_of(owner.id)
    }

    /// Its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut to = Writer(std::mem::take(out));
        to.u64(self.position.0);
        to.u8(u8::from(self.tx.is_some()));
        self.tx.into_iter().for_each(|tx| to.u64(tx));
        to.u32(self.seq);
        let op = OPS.iter().position(|op| *op == self.op);
        let op = op.expect("every operation has a number") as u8;
        to.u8(if self.lost { LOST } else { op });
        for text in [&self.owner, &self.table] {
            to.u8(u8::from(text.is_some()));
            text.iter().for_each(|text| to.text(text));
        }
        for value in [&self.key, &self.new, &self.old] {
            let mut bytes = Vec::new();
            encode_value(value, &mut bytes);
            to.bytes(&bytes);
        }
        to.u8(u8::from(self.event.is_some()));
        if let Some((name, payload)) = &self.event {
            to.text(name);
            to.text(payload);
        }
        to.u8(u8::from(self.meta.is_some()));
        if let Some(meta) = &self.meta {
            to.text(&meta.login);
            to.text(&meta.application_name);
            to.text(&meta.trace);
            to.u32(u32::from(meta.hops));
        }
        to.u32(self.table_id);
        *out = to.0;
    }

    /// The inverse of [`FeedRow::encode`]; `None`: it is none.
    pub fn decode(bytes: &[u8]) -> Option<FeedRow> {
        let from = &mut Reader(bytes);
        let some = |from: &mut Reader<'_>| {
            let some = from.flag()?;
            Some(match some {
                true => Some(from.text()?.to_owned()),
                false => None,
            })
        };
        let value = |from: &mut Reader<'_>| decode_value(Type::JSONB, from.bytes()?).ok();
        let position = storage::Position(from.u64()?);
        let tx = match from.flag()? {
            true => Some(from.u64()?),
            false => None,
        };
        let (seq, op) = (from.u32()?, from.u8()?);
        let lost = op == LOST;
        let row = FeedRow {
            position,
            tx,
            seq,
            lost,
            op: if lost {
                "erase"
            } else {
                OPS.get(usize::from(op))?
            },
            owner: some(from)?,
            table: some(from)?,
            key: value(from)?,
            new: value(from)?,
            old: value(from)?,
            event: match from.flag()? {
                true => Some((from.text()?.to_owned(), from.text()?.to_owned())),
                false => None,
            },
            meta: match from.flag()? {
                true => Some(storage::Meta {
                    login: from.text()?.to_owned(),
                    application_name: from.text()?.to_owned(),
                    trace: from.text()?.to_owned(),
                    hops: u16::try_from(from.u32()?).ok()?,
                    ..storage::Meta::default()
                }),
                false => None,
            },
            table_id: from.u32()?,
        };
        from.is_empty().then_some(row)
    }

    /// A row that carries nothing but its position and operation.
    pub(super) fn bare(position: storage::Position, op: &'static str) -> FeedRow {
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
            table_id: 0,
            lost: false,
        }
    }

    /// A change of a row, or a row of an event table: the table's OID, the row before and after as
    /// jsonb objects. Of a row that was erased there is the key before it.
    pub(crate) fn change(&self) -> Option<(crate::catalog::TableId, &Datum, &Datum)> {
        let id = crate::catalog::TableId(self.table_id);
        match self.op {
            "insert" | "update" | "delete" => Some((id, &self.old, &self.new)),
            "erase" if !matches!(self.key, Datum::Null) => Some((id, &self.key, &self.new)),
            _ => self.is_event_row().then_some((id, &self.old, &self.new)),
        }
    }

    /// Is it gone to be erased?
    pub(crate) fn is_erase(&self) -> bool {
        self.op == "erase"
    }

    /// What was there of its table is not told any more: which row, or which event.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// If rows of a table are gone with it: the table, and the key, or all rows that it may have been.
    pub(crate) fn removed(&self) -> Option<(crate::catalog::TableId, Option<&Json>)> {
        let id = crate::catalog::TableId(self.table_id);
        let key = match &self.key {
            Datum::Jsonb(key) => Some(&**key),
            _ => None,
        };
        let truncated = |(command, _): &(String, String)| command == "TRUNCATE TABLE";
        match self.op {
            "delete" | "erase" => Some((id, key)),
            "ddl" if self.event.as_ref().is_some_and(truncated) => Some((id, None)),
            _ => None,
        }
        .filter(|_| self.table_id != 0)
    }

    /// If the table itself was changed by it: the table.
    pub(crate) fn altered(&self) -> Option<crate::catalog::TableId> {
        let altered = |(command, _): &(String, String)| command == "ALTER TABLE";
        let altered = self.op == "ddl" && self.event.as_ref().is_some_and(altered);
        let id = crate::catalog::TableId(self.table_id);
        (altered && self.table_id != 0).then_some(id)
    }

    /// Is it of an event table? Its row is `new` here, and the columns' `event`.
    fn is_event_row(&self) -> bool {
        self.op == "event" && !self.new.is_null()
    }

    /// Who made the entry.
    pub(crate) fn meta(&self) -> Option<&storage::Meta> {
        self.meta.as_ref()
    }

    /// The primary key's columns as a jsonb object; NULL for a table without one.
    pub(crate) fn key(&self) -> &Datum {
        &self.key
    }

    /// The values in the order of [`COLUMNS`]; `last_in_tx` is false.
    pub(super) fn values(mut self) -> Vec<Datum> {
        if self.is_event_row() {
            let row = std::mem::replace(&mut self.new, Datum::Null);
            if let (Some(table), Datum::Jsonb(row)) = (&self.table, &row) {
                self.event = Some((table.clone(), row.to_string()));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::json;

    #[test]
    fn rows_come_back_and_nothing_else_is_one() {
        let bare = FeedRow::bare(storage::Position(7), "ddl");
        let json = |text: &str| Datum::Jsonb(json::parse(text).unwrap().into());
        let full = FeedRow {
            tx: Some(9),
            seq: 3,
            owner: Some("orders".into()),
            table: Some("order_v1".into()),
            op: "update",
            key: json("{\"id\": 1}"),
            new: json("{\"id\": 1, \"n\": [1.50, null, \"x\"]}"),
            event: Some(("placed".into(), "{}".into())),
            meta: Some(storage::Meta {
                login: "orders".into(),
                trace: "00-1".into(),
                hops: 3,
                ..storage::Meta::default()
            }),
            table_id: 17_000,
            ..bare.clone()
        };
        let lost = FeedRow {
            lost: true,
            op: "erase",
            table_id: 17_000,
            ..bare.clone()
        };
        for row in [bare, full, lost] {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            assert_eq!(FeedRow::decode(&bytes), Some(row));
            for length in 0..bytes.len() {
                assert_eq!(FeedRow::decode(&bytes[..length]), None, "{length}");
            }
            bytes.push(0);
            assert_eq!(FeedRow::decode(&bytes), None);
        }
    }
}
