//! What the node tells of itself in SQL: `freehold.groups` and `freehold.journal`.

use std::sync::Arc;

use journal::Journal;
use sql::Result;
use sql::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use sql::types::{Datum, Type};

/// Both of them.
pub fn relations(raft: &Arc<raft::Node>, journal: &Journal) -> Vec<Arc<dyn SystemRelation>> {
    let groups = GroupsView(raft.clone());
    vec![Arc::new(groups), Arc::new(JournalView(journal.clone()))]
}

const fn column(name: &'static str, ty: Type, not_null: bool) -> SystemColumn {
    SystemColumn { name, ty, not_null }
}

fn number(value: u64) -> Datum {
    Datum::Int8(i64::try_from(value).unwrap_or(i64::MAX))
}

fn given(rows: Vec<SystemRow>) -> SystemRows {
    Box::new(rows.into_iter().map(Ok))
}

/// The groups of the owners that the role acts for; the directory, which has no owner, is shown
/// to superusers.
struct GroupsView(Arc<raft::Node>);

const GROUPS: &[SystemColumn] = &[
    column("group_id", Type::INT4, true),
    column("owner", Type::NAME, false),
    column("term", Type::INT8, true),
    column("leads", Type::BOOL, true),
    column("position", Type::PG_LSN, true),
    column("last_index", Type::INT8, true),
    column("durable_index", Type::INT8, true),
    column("oldest", Type::PG_LSN, true),
];

impl SystemRelation for GroupsView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "groups")
    }

    fn columns(&self) -> &[SystemColumn] {
        GROUPS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut rows = Vec::new();
        for status in self.0.status() {
            let owner = cx.catalog.owner_of_group(status.group);
            let shown = match owner {
                Some(owner) => cx.acts_for(owner),
                None => cx.catalog.is_superuser(cx.role),
            };
            if !shown {
                continue;
            }
            let owner = owner.map(|role| cx.catalog.role_name(role));
            rows.push(vec![
                Datum::Int4(i32::try_from(status.group.0).unwrap_or(i32::MAX)),
                owner.map_or(Datum::Null, |name| Datum::Text(name.into())),
                number(status.term),
                Datum::Bool(status.term > 0),
                Datum::Lsn(status.applied.0),
                number(status.last_index.0),
                number(status.durable.0),
                Datum::Lsn(status.oldest.0),
            ]);
        }
        Ok(given(rows))
    }
}

/// The journal of the node: one row, for superusers.
struct JournalView(Journal);

const JOURNAL: &[SystemColumn] = &[
    column("segments", Type::INT8, true),
    column("bytes_written", Type::INT8, true),
    column("records_written", Type::INT8, true),
    column("fsyncs", Type::INT8, true),
    column("waiting_records", Type::INT8, true),
    column("memory_bytes", Type::INT8, true),
];

impl SystemRelation for JournalView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "journal")
    }

    fn columns(&self) -> &[SystemColumn] {
        JOURNAL
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        if !cx.catalog.is_superuser(cx.role) {
            return Ok(given(Vec::new()));
        }
        let stats = self.0.stats();
        let row = [
            stats.segments,
            stats.bytes,
            stats.records,
            stats.fsyncs,
            stats.queue,
            stats.tail_bytes,
        ];
        Ok(given(vec![row.map(number).to_vec()]))
    }
}
