//! What one client knows of its own rows, compared with what is there after a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::finding::{Finding, Kind};

/// A row of `item`: which transaction wrote it last, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The writing transaction's number in its slot.
    pub tx: i64,
    /// Any text.
    pub body: String,
}

/// One change of a transaction. No transaction changes a row twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert {
        /// Its key.
        id: i64,
        /// Its content.
        row: Row,
    },
    /// New content of a row.
    Update {
        /// Its key.
        id: i64,
        /// Its content from now on.
        row: Row,
    },
    /// A row goes.
    Delete {
        /// Its key.
        id: i64,
    },
}

impl Change {
    /// The key that it is about.
    pub fn id(&self) -> i64 {
        match self {
            Change::Insert { id, .. } | Change::Update { id, .. } | Change::Delete { id } => *id,
        }
    }

    /// What the row is afterwards.
    fn after(&self) -> Option<&Row> {
        match self {
            Change::Insert { row, .. } | Change::Update { row, .. } => Some(row),
            Change::Delete { .. } => None,
        }
    }
}

/// A transaction whose end has not been judged yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its number in its slot.
    pub tx: i64,
    /// Changes of `item`.
    pub changes: Vec<Change>,
    /// Whether it leaves a row in `trail`.
    pub trail: bool,
    /// Whether it counts the slot's counter up.
    pub beat: bool,
    /// What `pg_current_xact_id()` said in it.
    pub xid: Option<String>,
}

impl Pending {
    /// One that changes rows only.
    pub fn new(tx: i64, changes: Vec<Change>) -> Pending {
        Pending {
            tx,
            changes,
            trail: false,
            beat: false,
            xid: None,
        }
    }
}

/// What was read of one slot.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows of `item` by key.
    pub rows: BTreeMap<i64, Row>,
    /// Keys that were read twice.
    pub doubled: Vec<i64>,
    /// How often each transaction stands in `trail`.
    pub trail: BTreeMap<i64, u64>,
    /// The counter; `None` if its row is gone.
    pub beat: Option<i64>,
    /// `pg_xact_status` by transaction id.
    pub statuses: BTreeMap<String, Option<String>>,
}

impl Found {
    /// Adds a row as read.
    pub fn add_row(&mut self, id: i64, row: Row) {
        if self.rows.insert(id, row).is_some() {
            self.doubled.push(id);
        }
    }
}

/// One client's rows over all runs on a folder.
#[derive(Debug)]
pub struct Slot {
    /// Which client.
    pub number: u32,
    /// Number of its newest transaction.
    pub last_tx: i64,
    /// Key of its next row.
    pub next_id: i64,
    /// Its rows as acknowledged.
    pub live: BTreeMap<i64, Row>,
    /// Its counter as acknowledged.
    pub beat: i64,
    /// The highest value of the counter that anyone has read.
    pub beat_seen: i64,
    /// Keys of the newest bulk of rows.
    pub bulk: Range<i64>,
    /// The transaction whose end is unknown.
    pub pending: Option<Pending>,
    trail: BTreeSet<i64>,
    failed: BTreeSet<i64>,
    acknowledged_ids: Vec<String>,
    failed_ids: Vec<String>,
}

/// Whether an unknown transaction turned out to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Absent,
    Torn,
}

impl Slot {
    /// A client that has done nothing yet.
    pub fn new(number: u32) -> Slot {
        Slot {
            number,
            last_tx: 0,
            next_id: i64::from(number) << 32,
            live: BTreeMap::new(),
            beat: 0,
            beat_seen: 0,
            bulk: 0..0,
            pending: None,
            trail: BTreeSet::new(),
            failed: BTreeSet::new(),
            acknowledged_ids: Vec::new(),
            failed_ids: Vec::new(),
        }
    }

    /// A transaction is there for ever.
    pub fn acknowledge(&mut self, done: Pending) {
        for change in &done.changes {
            match change.after() {
                Some(row) => self.live.insert(change.id(), row.clone()),
                None => self.live.remove(&change.id()),
            };
        }
        if done.trail {
            self.trail.insert(done.tx);
        }
        self.beat += i64::from(done.beat);
        self.acknowledged_ids.extend(done.xid);
    }

    /// A transaction may never be seen.
    pub fn fail(&mut self, done: Pending) {
        self.failed.insert(done.tx);
        self.failed_ids.extend(done.xid);
    }

    /// Acknowledged transactions that leave a row in `trail`.
    pub fn trail(&self) -> impl Iterator<Item = i64> {
        self.trail.iter().copied()
    }

    /// Transactions that failed.
    pub fn failed(&self) -> impl Iterator<Item = i64> {
        self.failed.iter().copied()
    }

    /// Rows of the newest bulk that are there.
    pub fn live_bulk(&self) -> Vec<i64> {
        self.live
            .range(self.bulk.clone())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Transaction ids worth asking about: the unknown one, and the newest of each other kind.
    pub fn asked_about(&self, samples: usize) -> Vec<String> {
        let unknown = self
            .pending
            .as_ref()
            .and_then(|pending| pending.xid.clone());
        let told = self.acknowledged_ids.iter().rev().take(samples);
        let failed = self.failed_ids.iter().rev().take(samples);
        unknown
            .into_iter()
            .chain(told.cloned())
            .chain(failed.cloned())
            .collect()
    }

    /// Compares with what is there; the unknown transaction is known afterwards. What is there
    /// is taken as the truth from now on, so that one fault isn't found again in each later run.
    pub fn settle(&mut self, found: &Found) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.settle_pending(found, &mut findings);
        self.compare_rows(found, &mut findings);
        self.compare_trail(found, &mut findings);
        self.compare_beat(found, &mut findings);
        self.compare_statuses(found, &mut findings);
        self.live = found.rows.clone();
        self.trail = found.trail.keys().copied().collect();
        self.beat = found.beat.unwrap_or(0);
        self.beat_seen = self.beat;
        findings
    }

    fn complain(&self, findings: &mut Vec<Finding>, kind: Kind, what: String) {
        findings.push(Finding::new(kind, format!("slot {}: {what}", self.number)));
    }

    fn settle_pending(&mut self, found: &Found, findings: &mut Vec<Finding>) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let fate = self.fate(&pending, found);
        if let Some(id) = pending.xid.take() {
            let status = found.statuses.get(&id).cloned().flatten();
            let right = match fate {
                Fate::Whole => status.as_deref() == Some("committed"),
                Fate::Absent => status.as_deref() == Some("aborted"),
                Fate::Torn => true,
            };
            if !right {
                let what = format!(
                    "unknown transaction {} is {fate:?}, its status (id {id}) is {status:?}",
                    pending.tx
                );
                self.complain(findings, Kind::Anomaly, what);
            }
        }
        match fate {
            Fate::Whole => self.acknowledge(pending),
            Fate::Absent => self.fail(pending),
            Fate::Torn => {
                let what = format!("unknown transaction {} is there in part", pending.tx);
                self.complain(findings, Kind::Anomaly, what);
                self.acknowledge(pending);
            }
        }
    }

    /// Each part of the transaction is a witness; they must agree.
    fn fate(&self, pending: &Pending, found: &Found) -> Fate {
        let mut witnesses: Vec<bool> = Vec::new();
        for change in &pending.changes {
            witnesses.push(found.rows.get(&change.id()) == change.after());
        }
        if pending.trail {
            witnesses.push(found.trail.contains_key(&pending.tx));
        }
        if pending.beat {
            witnesses.push(found.beat > Some(self.beat));
        }
        match (witnesses.contains(&true), witnesses.contains(&false)) {
            (true, false) => Fate::Whole,
            (false, _) => Fate::Absent,
            (true, true) => Fate::Torn,
        }
    }

    /// One finding for each transaction whose rows aren't as they should be.
    fn compare_rows(&self, found: &Found, findings: &mut Vec<Finding>) {
        let mut lost: BTreeMap<i64, (i64, u64)> = BTreeMap::new();
        for (id, row) in &self.live {
            if found.rows.get(id) != Some(row) {
                lost.entry(row.tx).or_insert((*id, 0)).1 += 1;
            }
        }
        for (tx, (id, rows)) in lost {
            let there = found.rows.get(&id).map(|row| row.tx);
            let what = format!(
                "acknowledged transaction {tx} lost {rows} rows, among them {id} (there: {there:?})"
            );
            self.complain(findings, Kind::Lost, what);
        }
        let mut extra: BTreeMap<i64, (i64, u64)> = BTreeMap::new();
        for (id, row) in &found.rows {
            if !self.live.contains_key(id) {
                extra.entry(row.tx).or_insert((*id, 0)).1 += 1;
            }
        }
        for (tx, (id, rows)) in extra {
            let (kind, why) = if self.failed.contains(&tx) {
                (Kind::Anomaly, "of a transaction that failed")
            } else if tx >= 1 && tx <= self.last_tx {
                (Kind::Lost, "came back: an acknowledged delete is undone")
            } else {
                (Kind::Anomaly, "that nobody has written")
            };
            self.complain(
                findings,
                kind,
                format!("{rows} rows {why}: tx {tx}, row {id}"),
            );
        }
        for id in &found.doubled {
            self.complain(findings, Kind::Anomaly, format!("row {id} is there twice"));
        }
    }

    fn compare_trail(&self, found: &Found, findings: &mut Vec<Finding>) {
        for tx in self.trail.iter().filter(|tx| !found.trail.contains_key(tx)) {
            self.complain(
                findings,
                Kind::Lost,
                format!("acknowledged transaction {tx} is gone"),
            );
        }
        for (tx, times) in &found.trail {
            if *times > 1 {
                self.complain(
                    findings,
                    Kind::Anomaly,
                    format!("transaction {tx} took {times}x"),
                );
            }
            if self.failed.contains(tx) {
                self.complain(
                    findings,
                    Kind::Anomaly,
                    format!("failed transaction {tx} is there"),
                );
            } else if !self.trail.contains(tx) {
                self.complain(
                    findings,
                    Kind::Anomaly,
                    format!("unheard-of transaction {tx}"),
                );
            }
        }
    }

    fn compare_beat(&self, found: &Found, findings: &mut Vec<Finding>) {
        let Some(beat) = found.beat else {
            return self.complain(findings, Kind::Lost, "the counter's row is gone".into());
        };
        if beat < self.beat {
            let what = format!("the counter is {beat}, acknowledged was {}", self.beat);
            self.complain(findings, Kind::Lost, what);
        } else if beat > self.beat {
            let what = format!(
                "the counter is {beat}, more than the {} asked for",
                self.beat
            );
            self.complain(findings, Kind::Anomaly, what);
        }
        if beat < self.beat_seen && beat >= self.beat {
            let what = format!(
                "the counter is {beat}, another session has read {}",
                self.beat_seen
            );
            self.complain(findings, Kind::Lost, what);
        }
    }

    fn compare_statuses(&self, found: &Found, findings: &mut Vec<Finding>) {
        let told = self.acknowledged_ids.iter().map(|id| (id, "committed"));
        let failed = self.failed_ids.iter().map(|id| (id, "aborted"));
        for (id, right) in told.chain(failed) {
            let Some(status) = found.statuses.get(id) else {
                continue;
            };
            if status.as_deref() != Some(right) {
                let what = format!("status of transaction id {id} is {status:?}, it is {right}");
                self.complain(findings, Kind::Anomaly, what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tx: i64) -> Row {
        Row {
            tx,
            body: format!("body {tx}"),
        }
    }

    fn insert(id: i64, tx: i64) -> Change {
        Change::Insert { id, row: row(tx) }
    }

    fn trailed(tx: i64, changes: Vec<Change>) -> Pending {
        Pending {
            trail: true,
            ..Pending::new(tx, changes)
        }
    }

    /// Transactions 1 (rows 1, 2), 2 (row 3) and 3 (row 1 updated, row 2 deleted) acknowledged,
    /// 4 (row 4) failed.
    fn slot() -> Slot {
        let mut slot = Slot::new(0);
        slot.acknowledge(trailed(1, vec![insert(1, 1), insert(2, 1)]));
        slot.acknowledge(trailed(2, vec![insert(3, 2)]));
        let changes = vec![
            Change::Update { id: 1, row: row(3) },
            Change::Delete { id: 2 },
        ];
        slot.acknowledge(trailed(3, changes));
        slot.fail(trailed(4, vec![insert(4, 4)]));
        slot.beat = 5;
        slot.last_tx = 4;
        slot
    }

    fn found() -> Found {
        let mut found = Found {
            beat: Some(5),
            ..Found::default()
        };
        found.add_row(1, row(3));
        found.add_row(3, row(2));
        found.trail.extend([(1, 1), (2, 1), (3, 1)]);
        found
    }

    fn kinds(slot: &mut Slot, found: &Found) -> Vec<Kind> {
        slot.settle(found)
            .into_iter()
            .map(|finding| finding.kind)
            .collect()
    }

    #[test]
    fn what_is_as_told_gives_no_finding() {
        assert_eq!(kinds(&mut slot(), &found()), vec![]);
    }

    #[test]
    fn a_lost_insert_update_and_delete_are_lost() {
        let mut without_insert = found();
        without_insert.rows.remove(&3);
        assert_eq!(kinds(&mut slot(), &without_insert), vec![Kind::Lost]);
        let mut without_update = found();
        without_update.rows.insert(1, row(1));
        assert_eq!(kinds(&mut slot(), &without_update), vec![Kind::Lost]);
        let mut without_delete = found();
        without_delete.rows.insert(2, row(1));
        assert_eq!(kinds(&mut slot(), &without_delete), vec![Kind::Lost]);
    }

    #[test]
    fn a_failed_or_unheard_of_row_is_an_anomaly() {
        let mut failed = found();
        failed.rows.insert(4, row(4));
        assert_eq!(kinds(&mut slot(), &failed), vec![Kind::Anomaly]);
        let mut unheard = found();
        unheard.rows.insert(9, row(77));
        assert_eq!(kinds(&mut slot(), &unheard), vec![Kind::Anomaly]);
    }

    #[test]
    fn a_changed_body_is_found() {
        let mut torn = found();
        torn.rows.insert(
            3,
            Row {
                tx: 2,
                body: "body".into(),
            },
        );
        assert_eq!(kinds(&mut slot(), &torn), vec![Kind::Lost]);
    }

    #[test]
    fn a_transaction_that_took_twice_is_found() {
        let mut twice = found();
        twice.trail.insert(2, 2);
        assert_eq!(kinds(&mut slot(), &twice), vec![Kind::Anomaly]);
        let mut counted = found();
        counted.beat = Some(6);
        assert_eq!(kinds(&mut slot(), &counted), vec![Kind::Anomaly]);
    }

    #[test]
    fn a_counter_that_fell_or_was_read_higher_is_lost() {
        let mut fallen = found();
        fallen.beat = Some(4);
        assert_eq!(kinds(&mut slot(), &fallen), vec![Kind::Lost]);
        let mut reader_knows = slot();
        reader_knows.beat_seen = 6;
        assert_eq!(kinds(&mut reader_knows, &found()), vec![Kind::Lost]);
    }

    fn unknown(xid: Option<&str>) -> Pending {
        let changes = vec![insert(5, 5), Change::Delete { id: 3 }];
        Pending {
            xid: xid.map(str::to_owned),
            ..trailed(5, changes)
        }
    }

    #[test]
    fn an_unknown_transaction_may_be_there_whole_or_not_at_all() {
        let mut absent = slot();
        absent.pending = Some(unknown(None));
        assert_eq!(kinds(&mut absent, &found()), vec![]);
        let mut whole = slot();
        whole.pending = Some(unknown(None));
        let mut there = found();
        there.add_row(5, row(5));
        there.rows.remove(&3);
        there.trail.insert(5, 1);
        assert_eq!(kinds(&mut whole, &there), vec![]);
        assert!(whole.live.contains_key(&5));
    }

    #[test]
    fn an_unknown_transaction_in_part_is_an_anomaly() {
        let mut torn = slot();
        torn.pending = Some(unknown(None));
        let mut there = found();
        there.add_row(5, row(5));
        there.trail.insert(5, 1);
        assert!(kinds(&mut torn, &there).contains(&Kind::Anomaly));
    }

    #[test]
    fn a_status_that_contradicts_the_rows_is_an_anomaly() {
        for status in [Some("committed"), Some("in progress"), None] {
            let mut slot = slot();
            slot.pending = Some(unknown(Some("77")));
            let mut there = found();
            there
                .statuses
                .insert("77".into(), status.map(str::to_owned));
            assert_eq!(kinds(&mut slot, &there), vec![Kind::Anomaly], "{status:?}");
        }
        let mut slot = slot();
        slot.pending = Some(unknown(Some("77")));
        let mut there = found();
        there.statuses.insert("77".into(), Some("aborted".into()));
        assert_eq!(kinds(&mut slot, &there), vec![]);
    }

    #[test]
    fn an_unknown_count_takes_at_most_once() {
        for (beat, wrong) in [(5, 0), (6, 0), (7, 1)] {
            let mut slot = slot();
            slot.pending = Some(Pending {
                beat: true,
                ..Pending::new(5, vec![])
            });
            let there = Found {
                beat: Some(beat),
                ..found()
            };
            assert_eq!(slot.settle(&there).len(), wrong, "counter {beat}");
        }
    }
}
