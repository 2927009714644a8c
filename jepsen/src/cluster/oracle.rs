//! The second oracle, beside the checkers of histories: the folders of all nodes after a graceful
//! end. Each is sound by `freehold check`; no index of a group has two contents on any two nodes;
//! replaying a group's log through a map gives the tables that the nodes have; and each transaction
//! of the clients stands in the log once, not at all, or either, as its client was told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::journal::{self, Change, Log, Record, Tables};
use super::{Cluster, VOTERS_MAX};
use crate::error::Result;
use crate::field::Field;
use crate::finding::{Finding, Kind};
use crate::workload::{Marks, Workload};

/// A table that no change fills: what is applied writes it.
const OUTCOMES: &str = "system.outcomes";

/// The trees that TRUNCATE, DROP and other changes of the schema have emptied: an entry names them
/// beside its changes.
const DROPPED_TREES: &str = "system.dropped-trees";

/// What each node still has to erase, which it forgets by itself; and what copies have erased, which
/// leaders write down while their nodes end, behind what is certain.
const ERASING: [&str; 2] = ["system.removed", "system.erasures"];

/// Ends the names of indexes, which have no changes of their own: apply makes them of their table's.
const INDEX: &str = "_idx";

/// Differences of one kind beyond this many aren't written out.
const SHOWN_MAX: usize = 3;

/// The folder of one node, read.
struct Folder {
    node: usize,
    logs: BTreeMap<u64, Log>,
    tables: Tables,
}

/// Judges the folders of a stopped cluster.
pub async fn judge<W: Workload>(
    cluster: &Cluster,
    program: &Path,
    workload: &W,
    field: &Field,
) -> Result<()> {
    let mut folders = Vec::new();
    for node in 0..cluster.len() {
        let victim = cluster.node(node);
        if let Some(complaint) = victim.check().await? {
            let what = format!("node {}: freehold check: {complaint}", node + 1);
            field.findings.add(Kind::Damage, what);
        }
        folders.push(Folder {
            node,
            logs: journal::logs(program, victim.data())?,
            tables: journal::tables(program, victim.data())?,
        });
    }
    let marks = workload.marks();
    let mut findings = compare_logs(&folders);
    findings.extend(compare_tables(&folders));
    let mut replayed = 0;
    for folder in &folders {
        replayed += replay_all(folder, &mut findings);
    }
    if let Some(marks) = &marks {
        findings.extend(judge_marks(&folders, marks));
    }
    let records: usize = folders
        .iter()
        .flat_map(|folder| folder.logs.values())
        .map(|log| log.records.len())
        .sum();
    let value = json!({ "records": records, "replayed groups": replayed });
    field.history.note("oracle", value);
    if replayed == 0 {
        findings.push(Finding::new(
            Kind::Damage,
            "no log could be replayed from its begin",
        ));
    }
    field.findings.extend(findings);
    Ok(())
}

/// No two contents at one (group, index) that is certain on both nodes.
fn compare_logs(folders: &[Folder]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, one) in folders.iter().enumerate() {
        for other in &folders[at + 1..] {
            for (group, log) in &one.logs {
                let Some(second) = other.logs.get(group) else {
                    continue;
                };
                let differing = differing(log, second);
                for index in differing.iter().take(SHOWN_MAX) {
                    let what = format!(
                        "group {group} index {index}: node {} has {:?}, node {} {:?}",
                        one.node + 1,
                        brief(&log.records[index]),
                        other.node + 1,
                        brief(&second.records[index]),
                    );
                    findings.push(Finding::new(Kind::Damage, what));
                }
            }
        }
    }
    findings
}

/// Certain indexes of both at which they have different records.
fn differing(one: &Log, other: &Log) -> Vec<u64> {
    let certain = one.certain.min(other.certain);
    let both = one.records.range(..=certain);
    both.filter(|(index, record)| {
        let second = other.records.get(index);
        second.is_some_and(|second| !record.is_like(second))
    })
    .map(|(index, _)| *index)
    .collect()
}

fn brief(record: &Record) -> String {
    let Record {
        kind,
        term,
        position,
        tx,
        changes,
        ..
    } = record;
    format!(
        "{kind} term {term} position {position} tx {tx} with {} changes",
        changes.len()
    )
}

/// All nodes have the same rows in each table.
fn compare_tables(folders: &[Folder]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some((first, others)) = folders.split_first() else {
        return findings;
    };
    let names: BTreeSet<_> = folders
        .iter()
        .flat_map(|folder| folder.tables.keys())
        .collect();
    for name in names {
        for other in others {
            let (one, two) = (first.tables.get(name), other.tables.get(name));
            // With more nodes than voters, not every node has every owner's tables.
            let is_elsewhere = folders.len() > VOTERS_MAX && (one.is_none() || two.is_none());
            // A snapshot carries rows: of a tree that has none nothing comes to a new replica.
            let empty = BTreeMap::new();
            let is_same = one.unwrap_or(&empty) == two.unwrap_or(&empty);
            if !is_same && !is_elsewhere && !is_erasing(&name.1) {
                let what = format!(
                    "group {} table {}: {} on node {}, {} on node {}",
                    name.0,
                    name.1,
                    rows(one),
                    first.node + 1,
                    rows(two),
                    other.node + 1
                );
                findings.push(Finding::new(Kind::Damage, what));
            }
        }
    }
    findings
}

fn is_erasing(table: &str) -> bool {
    ERASING.contains(&table)
}

fn rows(table: Option<&BTreeMap<String, u64>>) -> String {
    match table {
        Some(rows) => {
            let sum = rows
                .values()
                .fold(0u64, |sum, hash| sum.wrapping_add(*hash));
            format!("{} rows with sum {sum:x}", rows.len())
        }
        None => "not there".into(),
    }
}

/// The records of a log that took effect, each with its transaction's parts, up to what is certain.
/// An entry that was computed on another one than the last is none of them.
fn effective(log: &Log) -> Vec<(&Record, Vec<&Change>)> {
    let mut done = Vec::new();
    // Other entries may stand between the parts of one.
    let mut parts: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    let mut last = None;
    for record in log.records.range(..=log.certain).map(|(_, record)| record) {
        match record.kind.as_str() {
            "part" => parts.entry(record.tx).or_default().push(record),
            "entry" => {
                let mine = parts.remove(&record.tx).unwrap_or_default();
                let mine = mine.into_iter().filter(|_| record.parts > 0);
                if last.is_none_or(|last| last == record.prev) {
                    let all = mine.chain([record]);
                    done.push((record, all.flat_map(|one| &one.changes).collect()));
                    last = Some(record.position);
                }
            }
            _ => {}
        }
    }
    done
}

/// Replays each whole log of a node and compares with its tables; how many that were.
fn replay_all(folder: &Folder, findings: &mut Vec<Finding>) -> usize {
    let mut replayed = 0;
    for (group, log) in folder.logs.iter().filter(|(_, log)| is_whole(log)) {
        replayed += 1;
        let model = replay(log);
        for ((_, name), rows) in folder
            .tables
            .range((*group, String::new())..(*group + 1, String::new()))
        {
            let is_apart = name == OUTCOMES || name == DROPPED_TREES || is_erasing(name);
            if is_apart || name.ends_with(INDEX) {
                continue;
            }
            let empty = BTreeMap::new();
            let modelled = model.get(name).unwrap_or(&empty);
            if modelled != rows {
                let what = format!(
                    "node {} group {group} table {name}: {} in the table, {} by its log",
                    folder.node + 1,
                    self::rows(Some(rows)),
                    self::rows(Some(modelled)),
                );
                findings.push(Finding::new(Kind::Damage, what));
            }
        }
    }
    replayed
}

/// Whether a log has everything from its begin on: it wasn't begun with a snapshot.
fn is_whole(log: &Log) -> bool {
    let indexes = || log.records.keys();
    let begins = indexes().next().is_some_and(|index| *index <= 1);
    begins
        && indexes()
            .zip(indexes().skip(1))
            .all(|(one, next)| one + 1 == *next)
}

/// The tables that a log makes.
fn replay(log: &Log) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut model: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (_, changes) in effective(log) {
        for change in changes {
            let table = model.entry(change.table.clone()).or_default();
            match &change.row {
                Some(row) => drop(table.insert(change.key.clone(), row.hash)),
                None => drop(table.remove(&change.key)),
            }
        }
    }
    model
}

/// What the clients were told of their transactions, against each node's log.
fn judge_marks(folders: &[Folder], marks: &Marks) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What a node got as a snapshot isn't in its log, and it may have no replica of a group.
    let groups: BTreeSet<_> = folders
        .iter()
        .flat_map(|folder| folder.logs.keys())
        .collect();
    let is_whole = |folder: &Folder, group| folder.logs.get(group).is_some_and(is_whole);
    let whole = |folder: &&Folder| groups.iter().all(|group| is_whole(folder, *group));
    for folder in folders.iter().filter(whole) {
        let there = marks_of(folder, marks);
        let name = format!("node {}'s log", folder.node + 1);
        let lost = marks.told.iter().filter(|mark| !there.contains_key(*mark));
        for mark in lost.take(SHOWN_MAX) {
            let what = format!("{name} lacks the acknowledged {} {mark:?}", marks.table);
            findings.push(Finding::new(Kind::Lost, what));
        }
        let doubled = there.iter().filter(|(_, times)| **times > 1);
        for (mark, times) in doubled.take(SHOWN_MAX) {
            let what = format!("{name} has {} {mark:?} {times} times", marks.table);
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        let failed = there.keys().filter(|mark| marks.failed.contains(*mark));
        for mark in failed.take(SHOWN_MAX) {
            let what = format!("{name} has the failed {} {mark:?}", marks.table);
            findings.push(Finding::new(Kind::Anomaly, what));
        }
    }
    findings
}

/// How often each mark was inserted by what took effect.
fn marks_of(folder: &Folder, marks: &Marks) -> BTreeMap<Vec<i64>, u64> {
    let mut there = BTreeMap::new();
    let is_it = |table: &str| table.rsplit('.').next() == Some(marks.table);
    for log in folder.logs.values() {
        let changes = effective(log).into_iter().flat_map(|(_, changes)| changes);
        for change in changes.filter(|change| is_it(&change.table)) {
            let row = change.row.as_ref().and_then(|row| row.row.as_ref());
            let number =
                |column: &&str| row.and_then(|row| row.get(*column)).and_then(Value::as_i64);
            let mark: Option<Vec<i64>> = marks.columns.iter().map(number).collect();
            if let Some(mark) = mark {
                *there.entry(mark).or_default() += 1;
            }
        }
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::journal::Content;

    fn change(key: &str, hash: Option<u64>) -> Change {
        Change {
            seq: 1,
            table: "a.t".into(),
            key: key.into(),
            row: hash.map(|hash| Content {
                hash,
                row: Some(json!({ "id": hash })),
            }),
        }
    }

    fn entry(position: u64, prev: u64, changes: Vec<Change>) -> Record {
        Record {
            kind: "entry".into(),
            term: 1,
            position,
            prev,
            tx: position,
            parts: 0,
            changes,
            erased: 0,
        }
    }

    fn log(records: Vec<Record>) -> Log {
        let certain = records.len() as u64;
        let records = (1..).zip(records).collect();
        Log { certain, records }
    }

    fn folder(node: usize, log: Log, rows: &[(&str, u64)]) -> Folder {
        let rows = rows.iter().map(|(key, hash)| ((*key).to_owned(), *hash));
        Folder {
            node,
            logs: BTreeMap::from([(1, log)]),
            tables: BTreeMap::from([((1, "a.t".to_owned()), rows.collect())]),
        }
    }

    fn two_entries() -> Vec<Record> {
        vec![
            entry(10, 0, vec![change("1", Some(1)), change("2", Some(2))]),
            entry(20, 10, vec![change("1", Some(3)), change("2", None)]),
        ]
    }

    #[test]
    fn a_log_replays_to_its_tables() {
        let mut findings = Vec::new();
        let right = folder(0, log(two_entries()), &[("1", 3)]);
        assert_eq!(replay_all(&right, &mut findings), 1);
        assert_eq!(findings, vec![]);
        let wrong = folder(0, log(two_entries()), &[("1", 1)]);
        replay_all(&wrong, &mut findings);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn what_was_computed_on_a_refused_entry_has_no_effect() {
        let mut records = two_entries();
        records.push(entry(40, 30, vec![change("1", Some(9))]));
        records.push(entry(50, 20, vec![change("3", Some(4))]));
        let model = replay(&log(records));
        assert_eq!(
            model["a.t"],
            BTreeMap::from([("1".into(), 3), ("3".into(), 4)])
        );
    }

    #[test]
    fn parts_take_effect_with_their_entry_alone() {
        let part = |tx: u64, key: &str| Record {
            kind: "part".into(),
            tx,
            ..entry(0, 0, vec![change(key, Some(1))])
        };
        let mut last = entry(10, 0, vec![change("3", Some(1))]);
        last.parts = 1;
        let other = entry(8, 0, vec![change("4", Some(1))]);
        last.prev = 8;
        let records = vec![part(10, "1"), other, last, part(99, "2")];
        let model = replay(&log(records));
        assert_eq!(model["a.t"].keys().collect::<Vec<_>>(), ["1", "3", "4"]);
    }

    #[test]
    fn two_contents_at_one_index_are_found_if_certain() {
        let mut other = two_entries();
        other[1].term = 2;
        let second = |certain| {
            let mut log = log(other.clone());
            log.certain = certain;
            folder(1, log, &[])
        };
        let first = || folder(0, log(two_entries()), &[]);
        assert_eq!(compare_logs(&[first(), second(2)]).len(), 1);
        assert_eq!(compare_logs(&[first(), second(1)]), vec![]);
    }

    #[test]
    fn what_one_node_has_erased_is_no_difference_and_what_is_left_still_is() {
        let erased = |left: Vec<Change>| {
            let mut records = two_entries();
            (records[0].changes, records[0].erased) = (left, 1);
            folder(1, log(records), &[("1", 3)])
        };
        let first = || folder(0, log(two_entries()), &[]);
        assert_eq!(compare_logs(&[first(), erased(vec![])]), vec![]);
        let other = vec![change("1", Some(9))];
        assert_eq!(compare_logs(&[first(), erased(other)]).len(), 1);
        let mut findings = Vec::new();
        replay_all(&erased(vec![]), &mut findings);
        assert_eq!(findings, vec![]);
    }

    #[test]
    fn tables_that_differ_are_found() {
        let with = |node, rows: &[(&str, u64)]| folder(node, log(vec![]), rows);
        let same = [with(0, &[("1", 1)]), with(1, &[("1", 1)])];
        assert_eq!(compare_tables(&same), vec![]);
        assert_eq!(
            compare_tables(&[with(0, &[("1", 1)]), with(1, &[])]).len(),
            1
        );
        let without = || Folder {
            tables: Tables::new(),
            ..folder(1, log(vec![]), &[])
        };
        assert_eq!(compare_tables(&[with(0, &[]), without()]), vec![]);
        assert_eq!(compare_tables(&[with(0, &[("1", 1)]), without()]).len(), 1);
    }

    #[test]
    fn each_mark_is_judged() {
        let records = vec![
            entry(10, 0, vec![change("1", Some(1))]),
            entry(20, 10, vec![change("2", Some(2))]),
            entry(30, 20, vec![change("3", Some(2))]),
        ];
        let folders = [folder(0, log(records), &[])];
        let marks = |told: &[i64], failed: &[i64]| Marks {
            table: "t",
            columns: &["id"],
            told: told.iter().map(|id| vec![*id]).collect(),
            failed: failed.iter().map(|id| vec![*id]).collect(),
        };
        let kinds = |marks: Marks| -> Vec<Kind> {
            judge_marks(&folders, &marks)
                .iter()
                .map(|f| f.kind)
                .collect()
        };
        // Number 2 is there twice in any case.
        assert_eq!(kinds(marks(&[1], &[])), [Kind::Anomaly]);
        assert_eq!(kinds(marks(&[1, 4], &[])), [Kind::Lost, Kind::Anomaly]);
        assert_eq!(kinds(marks(&[], &[1])), [Kind::Anomaly, Kind::Anomaly]);
    }
}
