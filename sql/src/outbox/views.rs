//! What an owner sees of commands: `freehold.outbox`, those that are not taken yet; `freehold.rejected`,
//! those that were not accepted; `freehold.replies`, what came back; `freehold.parked`, what it has set
//! aside itself.

use std::ops::Bound;
use std::sync::{Arc, LazyLock, Weak};

use bytes::Bytes;
use storage::{Direction, Group, GroupId, system};

use super::Sent;
use super::parked::{self, ID_MAX, Parked, What};
use super::sent::{self, Kept, Reason, Replied};
use crate::Result;
use crate::catalog::{Catalog, TableId};
use crate::engine::{Engine, since_2000};
use crate::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use crate::types::{Datum, Type, json};

/// Rows of one relation for one group.
type Fill = fn(&Catalog, &Group) -> Result<Vec<SystemRow>>;

struct Relation {
    name: &'static str,
    columns: &'static [SystemColumn],
    engine: Weak<Engine>,
    fill: Fill,
}

const fn column(name: &'static str, ty: Type, not_null: bool) -> SystemColumn {
    SystemColumn { name, ty, not_null }
}

static OUTBOX: LazyLock<Vec<SystemColumn>> = LazyLock::new(|| {
    vec![
        column("sender", Type::NAME, true),
        column("receiver", Type::NAME, true),
        column("inbox", Type::NAME, false),
        column("number", Type::INT8, true),
        column("command", Type::JSONB, false),
    ]
});

static REJECTED: LazyLock<Vec<SystemColumn>> = LazyLock::new(|| {
    let mut columns = OUTBOX.clone();
    columns.push(column("rejected_at", Type::TIMESTAMPTZ, true));
    columns.extend(REASON);
    columns
});

static REPLIES: LazyLock<Vec<SystemColumn>> = LazyLock::new(|| {
    vec![
        column("sender", Type::NAME, true),
        column("receiver", Type::NAME, true),
        column("number", Type::INT8, true),
        column("replied_at", Type::TIMESTAMPTZ, true),
        column("reply", Type::JSONB, true),
    ]
});

static PARKED: LazyLock<Vec<SystemColumn>> = LazyLock::new(|| {
    let mut columns = vec![
        column("id", Type::INT8, true),
        column("owner", Type::NAME, true),
        column("parked_at", Type::TIMESTAMPTZ, true),
        column("table_name", Type::NAME, false),
        column("sender", Type::NAME, true),
        column("number", Type::INT8, true),
        column("command", Type::JSONB, false),
        column("trigger", Type::NAME, false),
        column("position", Type::PG_LSN, false),
        column("op", Type::TEXT, false),
        column("key", Type::JSONB, false),
        column("old", Type::JSONB, false),
        column("new", Type::JSONB, false),
    ];
    columns.extend(REASON);
    columns
});

const REASON: [SystemColumn; 4] = [
    column("sqlstate", Type::TEXT, true),
    column("message", Type::TEXT, true),
    column("detail", Type::TEXT, false),
    column("hint", Type::TEXT, false),
];

/// The relations, over an engine that is being made.
pub(crate) fn relations(engine: &Weak<Engine>) -> Vec<Arc<dyn SystemRelation>> {
    let all: [(&'static str, &'static [SystemColumn], Fill); 4] = [
        ("outbox", &OUTBOX, outbox),
        ("rejected", &REJECTED, rejected),
        ("replies", &REPLIES, replies),
        ("parked", &PARKED, parked_rows),
    ];
    let relation = |(name, columns, fill)| {
        Arc::new(Relation {
            name,
            columns,
            engine: engine.clone(),
            fill,
        }) as Arc<dyn SystemRelation>
    };
    all.into_iter().map(relation).collect()
}

impl SystemRelation for Relation {
    fn name(&self) -> (&str, &str) {
        ("freehold", self.name)
    }

    fn columns(&self) -> &[SystemColumn] {
        self.columns
    }

    /// Of the owners that the role acts for and whose groups are here; where its own is not, the
    /// statement goes to its home.
    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let Some(engine) = self.engine.upgrade() else {
            return Ok(Box::new(std::iter::empty()));
        };
        let mut rows = Vec::new();
        for (role, id) in cx.catalog.owners() {
            if !cx.acts_for(role) {
                continue;
            }
            let held = engine.groups().get(id).filter(|group| !group.is_followed());
            match held {
                Some(group) => rows.extend((self.fill)(cx.catalog, &group)?),
                None if role == cx.role => cx.environment.go_home(id)?,
                None => {}
            }
        }
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// All rows of a tree whose keys have this prefix and a number.
fn numbered(group: &Group, tree: u32, from: Bytes, to: Bytes) -> Result<Vec<(u64, Bytes)>> {
    let range = (Bound::Included(from), Bound::Included(to));
    let mut out = Vec::new();
    for row in group.scan(tree, range, group.applied(), Direction::Forward)? {
        let (key, value) = row?;
        let number = key.last_chunk::<8>().map_or(0, |n| u64::from_be_bytes(*n));
        out.push((number, value));
    }
    Ok(out)
}

fn name(text: &str) -> Datum {
    Datum::Text(text.into())
}

fn owner(catalog: &Catalog, group: GroupId) -> Datum {
    let owner = catalog.owner_of_group(group);
    owner.map_or(Datum::Null, |role| name(&catalog.role_name(role)))
}

/// The inbox's name and the row, of a command.
fn command(catalog: &Catalog, bytes: &[u8]) -> Result<[Datum; 2]> {
    let Sent::Command { table, row, .. } = Sent::decode(bytes)? else {
        return Ok([Datum::Null, Datum::Null]);
    };
    Ok(match catalog.table(table) {
        // A row that its table does not take any more is shown without its content.
        Some(table) => {
            let row = crate::changes::command(table, &row).unwrap_or(Datum::Null);
            [name(&table.name), row]
        }
        None => [Datum::Null, Datum::Null],
    })
}

fn reason(error: &Reason) -> [Datum; 4] {
    let or_null = |text: &Option<String>| text.as_deref().map_or(Datum::Null, name);
    [
        name(error.state.as_str()),
        name(&error.message),
        or_null(&error.detail),
        or_null(&error.hint),
    ]
}

fn at(micros: u64) -> Datum {
    Datum::Timestamptz(since_2000(micros))
}

fn outbox(catalog: &Catalog, group: &Group) -> Result<Vec<SystemRow>> {
    let mut rows = Vec::new();
    for to in catalog.outboxes(group.id()) {
        let (first, last) = (sent::key(0), sent::key(u64::MAX));
        for (number, bytes) in numbered(group, system::outbox(to), first, last)? {
            let ends = [owner(catalog, group.id()), owner(catalog, to)];
            let [inbox, row] = command(catalog, &bytes)?;
            if !inbox.is_null() {
                let rest = [inbox, Datum::Int8(number as i64), row];
                rows.push(ends.into_iter().chain(rest).collect());
            }
        }
    }
    Ok(rows)
}

fn rejected(catalog: &Catalog, group: &Group) -> Result<Vec<SystemRow>> {
    let mut rows = Vec::new();
    for to in catalog.outboxes(group.id()) {
        let (first, last) = (sent::rejected_key(0), sent::rejected_key(u64::MAX));
        for (number, bytes) in numbered(group, system::outbox(to), first, last)? {
            let kept = Kept::decode(&bytes)?;
            let [inbox, row] = command(catalog, &kept.command)?;
            let mut out = vec![owner(catalog, group.id()), owner(catalog, to)];
            out.extend([inbox, Datum::Int8(number as i64), row, at(kept.at)]);
            out.extend(reason(&kept.error));
            rows.push(out);
        }
    }
    Ok(rows)
}

fn replies(catalog: &Catalog, group: &Group) -> Result<Vec<SystemRow>> {
    let mut rows = Vec::new();
    for to in catalog.outboxes(group.id()) {
        let (first, last) = (sent::replied_key(0), sent::replied_key(u64::MAX));
        for (number, bytes) in numbered(group, system::outbox(to), first, last)? {
            let replied = Replied::decode(&bytes)?;
            rows.push(vec![
                owner(catalog, group.id()),
                owner(catalog, to),
                Datum::Int8(number as i64),
                at(replied.at),
                Datum::jsonb(json::parse(&replied.payload)?),
            ]);
        }
    }
    Ok(rows)
}

fn parked_rows(catalog: &Catalog, group: &Group) -> Result<Vec<SystemRow>> {
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for key in [parked::key, parked::erased_key] {
        all.extend(numbered(group, system::PARKED, key(1), key(ID_MAX))?);
    }
    all.sort_by_key(|(id, _)| *id);
    for (id, bytes) in all {
        let parked = Parked::decode(&bytes)?;
        let mut out = vec![
            Datum::Int8(id as i64),
            owner(catalog, group.id()),
            at(parked.at),
        ];
        match &parked.what {
            What::Command {
                from,
                number,
                command: bytes,
            } => {
                let [inbox, row] = command(catalog, bytes)?;
                let sender = owner(catalog, GroupId(*from));
                out.extend([inbox, sender, Datum::Int8(*number as i64), row]);
                out.extend([const { Datum::Null }; 6]);
            }
            What::Trigger(row) => out.extend(fired_row(catalog, row)?),
        }
        out.extend(reason(&parked.error));
        rows.push(out);
    }
    Ok(rows)
}

fn fired_row(catalog: &Catalog, row: &crate::fired::Parked) -> Result<Vec<Datum>> {
    let shown = |text: Option<&String>| -> Result<Datum> {
        let parsed = text.map(|text| json::parse(text)).transpose()?;
        Ok(parsed.map_or(Datum::Null, Datum::jsonb))
    };
    let table = catalog.table(TableId(row.table));
    let trigger = catalog.trigger(row.trigger);
    Ok(vec![
        table.map_or(Datum::Null, |table| name(&table.name)),
        owner(catalog, GroupId(row.source)),
        Datum::Int8(i64::from(row.seq)),
        Datum::Null,
        trigger.map_or(Datum::Null, |trigger| name(&trigger.name)),
        Datum::Lsn(row.position),
        name(row.op()),
        shown(Some(&row.key).filter(|key| !key.is_empty()))?,
        shown(row.old.as_ref())?,
        shown(row.new.as_ref())?,
    ])
}
