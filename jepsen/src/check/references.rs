//! Foreign keys between owners: no snapshot shows a row without its parent, and what is there at
//! rest is what some transaction has written last, or what the action of a foreign key has made of
//! it because somebody has deleted its parent.

use std::collections::{BTreeMap, BTreeSet};

use super::books::End;
use crate::finding::{Finding, Kind};

/// Differences of one kind beyond this many aren't written out.
const SHOWN_MAX: usize = 5;

/// What a foreign key does when its parent is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnDelete {
    /// Refuses.
    Restrict,
    /// Refuses at the end of the statement.
    NoAction,
    /// The row goes, too.
    Cascade,
    /// It references nothing from then on.
    SetNull,
    /// It references the default from then on.
    SetDefault,
}

impl OnDelete {
    /// The word of the command line.
    pub fn flag(self) -> &'static str {
        match self {
            OnDelete::Restrict => "restrict",
            OnDelete::NoAction => "no-action",
            OnDelete::Cascade => "cascade",
            OnDelete::SetNull => "set-null",
            OnDelete::SetDefault => "set-default",
        }
    }

    /// As SQL says it.
    pub fn sql(self) -> &'static str {
        match self {
            OnDelete::Restrict => "RESTRICT",
            OnDelete::NoAction => "NO ACTION",
            OnDelete::Cascade => "CASCADE",
            OnDelete::SetNull => "SET NULL",
            OnDelete::SetDefault => "SET DEFAULT",
        }
    }
}

/// The parent that a referencing column has by default.
pub const DEFAULT: i64 = 1;

/// A table, as a place in [`Schema`].
pub type TableAt = usize;

/// A row's place: its table and its id.
pub type Key = (TableAt, i64);

/// A foreign key of one column.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The referencing column.
    pub column: &'static str,
    /// The referenced table; its `id` is what is referenced.
    pub parent: TableAt,
    /// When that is deleted.
    pub action: OnDelete,
    /// It is dropped and added under load: rows without parents may be there meanwhile.
    pub comes_and_goes: bool,
}

/// A table: `id`, `n`, and a column for each foreign key.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name in `public`.
    pub name: &'static str,
    /// Its owner, as a place in the workload's list.
    pub owner: usize,
    /// Its rows have ids from 1 to this.
    pub keys: i64,
    /// Its foreign keys.
    pub references: Vec<Reference>,
}

/// All tables; none references one behind it.
pub type Schema = Vec<Table>;

/// A row without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The transaction that wrote it.
    pub n: i64,
    /// What it references, in the order of the table's foreign keys.
    pub references: Vec<Option<i64>>,
}

/// All rows of one snapshot.
pub type Rows = BTreeMap<Key, Row>;

/// What one transaction, or a statement by itself, has done to rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What it left of each; `None`: nothing.
    pub left: BTreeMap<Key, Option<Row>>,
    /// What it has deleted at some time: foreign keys act.
    pub deleted: BTreeSet<Key>,
}

/// A transaction and its end.
#[derive(Clone, Debug)]
pub struct Deed {
    /// It has a row of its own that is never changed.
    pub has_mark: bool,
    /// What it did. Of a transaction whose end is unknown: all that it may have done.
    pub effects: Effects,
    /// Before its commit was asked for.
    pub asked: u64,
    /// After it was answered.
    pub told: u64,
    /// How it ended, as its client knows it.
    pub end: End,
}

/// What a quiet database shows.
#[derive(Debug, Default)]
pub struct Rest {
    /// All rows.
    pub rows: Rows,
    /// All marks.
    pub marks: BTreeSet<i64>,
    /// Foreign keys that come and go are there, and valid.
    pub all_in_force: bool,
}

/// What is known of all rows.
#[derive(Debug, Default)]
pub struct Books {
    schema: Schema,
    /// As it was at the last rest, and when that was.
    base: Rows,
    base_at: u64,
    /// Since then.
    deeds: BTreeMap<i64, Deed>,
    /// Of all transactions ever: how they ended, and whether they have a mark.
    ends: BTreeMap<i64, (End, bool)>,
    /// Whose rows readers have seen.
    seen: BTreeSet<i64>,
}

/// References to what is not there; of foreign keys that come and go only if they are `in_force`.
pub fn dangling(schema: &Schema, rows: &Rows, in_force: bool) -> Vec<String> {
    let mut all = Vec::new();
    for ((table, id), row) in rows {
        let keys = schema[*table].references.iter().zip(&row.references);
        for (key, value) in keys.filter(|(key, _)| in_force || !key.comes_and_goes) {
            let Some(value) = value else { continue };
            if !rows.contains_key(&(key.parent, *value)) {
                let (child, parent) = (schema[*table].name, schema[key.parent].name);
                all.push(format!(
                    "{child} {id} of transaction {} references {parent} {value}, which is not there",
                    row.n
                ));
            }
        }
    }
    all
}

impl Books {
    /// Of empty tables.
    pub fn new(schema: Schema) -> Books {
        Books {
            schema,
            ..Books::default()
        }
    }

    /// The tables.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The rows at the last rest.
    pub fn rows(&self) -> &Rows {
        &self.base
    }

    /// Takes note of how a transaction ended.
    pub fn enter(&mut self, id: i64, deed: Deed) {
        self.ends.insert(id, (deed.end, deed.has_mark));
        self.deeds.insert(id, deed);
    }

    /// Takes note of whose rows a reader has seen.
    pub fn see(&mut self, rows: &Rows) {
        self.seen.extend(rows.values().map(|row| row.n));
    }

    /// Transactions with a mark that ended so.
    pub fn marks(&self, end: End) -> impl Iterator<Item = i64> {
        let all = self.ends.iter();
        all.filter(move |(_, (is, has_mark))| *has_mark && *is == end)
            .map(|(id, _)| *id)
    }

    /// Judges a quiet database at the time `now`, and goes on from what it shows.
    pub fn settle(&mut self, rest: Rest, now: u64) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.settle_marks(&rest.marks, now, &mut findings);
        for what in dangling(&self.schema, &rest.rows, rest.all_in_force) {
            findings.push(Finding::new(Kind::Anomaly, format!("at rest {what}")));
        }
        let writes = Writes::of(self);
        let mut keys: BTreeSet<Key> = rest.rows.keys().copied().collect();
        keys.extend(self.base.keys());
        keys.extend(writes.of.keys());
        for key in keys {
            if !writes.explains(key, rest.rows.get(&key)) {
                findings.push(self.unexplained(key, rest.rows.get(&key), &writes));
            }
        }
        let is_failed = |id: &&i64| self.ends.get(id).is_none_or(|(end, _)| *end == End::Failed);
        for id in self.seen.iter().filter(is_failed).take(SHOWN_MAX) {
            let what = format!("a reader has seen a row of transaction {id}, which has failed");
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        self.deeds.clear();
        self.seen.clear();
        (self.base, self.base_at) = (rest.rows, now);
        findings
    }

    /// What was unknown is known by its mark.
    fn settle_marks(&mut self, marks: &BTreeSet<i64>, now: u64, findings: &mut Vec<Finding>) {
        for (id, (end, has_mark)) in &mut self.ends {
            if !*has_mark {
                continue;
            }
            match (*end, marks.contains(id)) {
                (End::Acknowledged, false) => {
                    let what = format!("the mark of acknowledged transaction {id} is gone");
                    findings.push(Finding::new(Kind::Lost, what));
                }
                (End::Failed, true) => {
                    let what = format!("the mark of failed transaction {id} is there");
                    findings.push(Finding::new(Kind::Anomaly, what));
                }
                (End::Unknown, is_there) => {
                    *end = match is_there {
                        true => End::Acknowledged,
                        false => End::Failed,
                    };
                    if let Some(deed) = self.deeds.get_mut(id) {
                        (deed.end, deed.told) = (*end, now);
                    }
                }
                (End::Acknowledged, true) | (End::Failed, false) => {}
            }
        }
    }

    fn unexplained(&self, (table, id): Key, row: Option<&Row>, writes: &Writes<'_>) -> Finding {
        let name = self.schema[table].name;
        let known = writes.newest((table, id));
        let kind = match row.map(|row| self.ends.get(&row.n)) {
            Some(None | Some((End::Failed, _))) => Kind::Anomaly,
            None | Some(Some(_)) => Kind::Lost,
        };
        let what = format!("at rest {name} {id} is {row:?}, which nobody left there last: {known}");
        Finding::new(kind, what)
    }
}

/// One who has written a row.
struct Write<'a> {
    id: i64,
    asked: u64,
    told: u64,
    /// It has happened; else it may have.
    sure: bool,
    row: Option<&'a Row>,
    deleted: bool,
}

/// All writes since the last rest, by row.
struct Writes<'a> {
    schema: &'a Schema,
    of: BTreeMap<Key, Vec<Write<'a>>>,
    base: &'a Rows,
    base_at: u64,
    /// When each row may have been deleted last, by itself or because of its parent.
    deleted: BTreeMap<Key, u64>,
    /// When the last write of each row was asked for that has certainly happened.
    sure: BTreeMap<Key, u64>,
}

impl<'a> Writes<'a> {
    fn of(books: &'a Books) -> Writes<'a> {
        let mut of: BTreeMap<Key, Vec<Write<'a>>> = BTreeMap::new();
        for (id, deed) in &books.deeds {
            if deed.end == End::Failed {
                continue;
            }
            let sure = deed.end == End::Acknowledged;
            for (key, row) in &deed.effects.left {
                of.entry(*key).or_default().push(Write {
                    id: *id,
                    asked: deed.asked,
                    told: if sure { deed.told } else { u64::MAX },
                    sure,
                    row: row.as_ref(),
                    deleted: deed.effects.deleted.contains(key),
                });
            }
        }
        let mut writes = Writes {
            schema: &books.schema,
            of,
            base: &books.base,
            base_at: books.base_at,
            deleted: BTreeMap::new(),
            sure: BTreeMap::new(),
        };
        let mut keys: BTreeSet<Key> = writes.base.keys().copied().collect();
        keys.extend(writes.of.keys());
        // Parents go before children, for no table references one behind it.
        for key in keys {
            let deleted = writes.deleted_last(key);
            writes.deleted.extend(deleted.map(|at| (key, at)));
            let sure = writes.all(key).filter(|write| write.sure);
            let sure = sure.map(|write| write.asked).max();
            writes.sure.extend(sure.map(|at| (key, at)));
        }
        writes
    }

    /// All who have written a row, the last rest being the first of them.
    fn all(&self, key: Key) -> impl Iterator<Item = Write<'a>> + '_ {
        let base = Write {
            id: 0,
            asked: self.base_at,
            told: self.base_at,
            sure: true,
            row: self.base.get(&key),
            deleted: false,
        };
        let since = self.of.get(&key).into_iter().flatten();
        let since = since.map(|write| Write { ..*write });
        std::iter::once(base).chain(since)
    }

    /// Can this be what is left of a row?
    fn explains(&self, key: Key, left: Option<&Row>) -> bool {
        self.all(key).any(|write| {
            let Some(told) = self.leaves(&write, key, left) else {
                return false;
            };
            self.sure.get(&key).is_none_or(|asked| *asked <= told)
        })
    }

    /// The latest time at which a write, with what foreign keys made of it, left this.
    fn leaves(&self, write: &Write<'_>, (table, _): Key, left: Option<&Row>) -> Option<u64> {
        if write.row == left {
            return Some(write.told);
        }
        let row = write.row?;
        let keys = || self.schema[table].references.iter().zip(&row.references);
        let gone = |key: &Reference, value: &Option<i64>| {
            self.deleted_after((key.parent, (*value)?), write.asked)
        };
        let Some(left) = left else {
            let cascades = keys().filter(|(key, _)| key.action == OnDelete::Cascade);
            let last = cascades.filter_map(|(key, value)| gone(key, value)).max();
            return last.map(|last| last.max(write.told));
        };
        if row.n != left.n {
            return None;
        }
        let mut told = write.told;
        for ((key, value), now) in keys().zip(&left.references) {
            if value == now {
                continue;
            }
            let may = match key.action {
                OnDelete::SetNull => now.is_none(),
                OnDelete::SetDefault => *now == Some(DEFAULT),
                OnDelete::Restrict | OnDelete::NoAction | OnDelete::Cascade => false,
            };
            told = told.max(gone(key, value).filter(|_| may)?);
        }
        Some(told)
    }

    /// The same if it was after `since`.
    fn deleted_after(&self, key: Key, since: u64) -> Option<u64> {
        self.deleted.get(&key).copied().filter(|at| *at > since)
    }

    /// When a row may have been deleted last, its parents being known.
    fn deleted_last(&self, key: Key) -> Option<u64> {
        let (table, _) = key;
        let last = |write: Write<'a>| {
            let itself = write.deleted.then_some(write.told);
            let keys = self.schema[table].references.iter();
            let values = write.row.into_iter().flat_map(|row| &row.references);
            let cascades = keys
                .zip(values)
                .filter(|(key, _)| key.action == OnDelete::Cascade);
            let gone = |(key, value): (&Reference, &Option<i64>)| {
                self.deleted_after((key.parent, (*value)?), write.asked)
            };
            cascades.filter_map(gone).chain(itself).max()
        };
        self.all(key).filter_map(last).max()
    }

    /// The last ones, in words.
    fn newest(&self, key: Key) -> String {
        let mut all: Vec<Write<'_>> = self.all(key).collect();
        all.sort_by_key(|write| (write.told, write.asked));
        let word = |write: &Write<'_>| {
            let sure = if write.sure { "" } else { " perhaps" };
            format!(
                "{}{sure} {}..{} {:?}",
                write.id, write.asked, write.told, write.row
            )
        };
        let last = all.iter().rev().take(SHOWN_MAX).map(word);
        last.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// customer <- order CASCADE <- invoice CASCADE; invoice -> customer SET NULL; visit -> customer
    /// SET DEFAULT, and comes and goes.
    fn schema() -> Schema {
        let reference = |column, parent, action| Reference {
            column,
            parent,
            action,
            comes_and_goes: action == OnDelete::SetDefault,
        };
        let table = |name, owner, references| Table {
            name,
            owner,
            keys: 3,
            references,
        };
        vec![
            table("customer", 0, vec![]),
            table(
                "order",
                1,
                vec![reference("customer", 0, OnDelete::Cascade)],
            ),
            table(
                "invoice",
                2,
                vec![
                    reference("customer", 0, OnDelete::SetNull),
                    reference("ord", 1, OnDelete::Cascade),
                ],
            ),
            table(
                "visit",
                2,
                vec![reference("customer", 0, OnDelete::SetDefault)],
            ),
        ]
    }

    const CUSTOMER: TableAt = 0;
    const ORDER: TableAt = 1;
    const INVOICE: TableAt = 2;
    const VISIT: TableAt = 3;

    fn row(n: i64, references: &[i64]) -> Row {
        let references = references
            .iter()
            .map(|value| Some(*value).filter(|v| *v > 0));
        Row {
            n,
            references: references.collect(),
        }
    }

    fn deed(end: End, asked: u64, left: &[(Key, Option<Row>)]) -> Deed {
        let gone = left.iter().filter(|(_, row)| row.is_none());
        Deed {
            has_mark: true,
            effects: Effects {
                left: left.iter().cloned().collect(),
                deleted: gone.map(|(key, _)| *key).collect(),
            },
            asked,
            told: asked + 1,
            end,
        }
    }

    /// Customers 1 and 2; order 1 of customer 2, with invoice 1; visit 1 of customer 2.
    fn full() -> Rows {
        BTreeMap::from([
            ((CUSTOMER, 1), row(1, &[])),
            ((CUSTOMER, 2), row(1, &[])),
            ((ORDER, 1), row(2, &[2])),
            ((INVOICE, 1), row(3, &[2, 1])),
            ((INVOICE, 2), row(3, &[2, 0])),
            ((VISIT, 1), row(3, &[2])),
        ])
    }

    /// What is found when [`full`] was written, then these deeds were done, and this is left.
    fn found(deeds: &[(i64, Deed)], marks: &[i64], rows: Rows) -> Vec<Kind> {
        let mut books = Books::new(schema());
        let all: Vec<(Key, Option<Row>)> = full().into_iter().map(|(k, r)| (k, Some(r))).collect();
        for n in [1, 2, 3] {
            let own = all
                .iter()
                .filter(|(_, row)| row.as_ref().is_some_and(|row| row.n == n));
            let own: Vec<_> = own.cloned().collect();
            books.enter(n, deed(End::Acknowledged, 10 * n as u64, &own));
        }
        for (id, deed) in deeds {
            books.enter(*id, deed.clone());
        }
        let marks = [1, 2, 3].iter().chain(marks).copied().collect();
        let rest = Rest {
            rows,
            marks,
            all_in_force: true,
        };
        let findings = books.settle(rest, 1_000);
        findings.iter().map(|finding| finding.kind).collect()
    }

    /// [`full`] without customer 2, and with what foreign keys make of that.
    fn acted() -> Rows {
        BTreeMap::from([
            ((CUSTOMER, 1), row(1, &[])),
            ((INVOICE, 2), row(3, &[0, 0])),
            ((VISIT, 1), row(3, &[1])),
        ])
    }

    fn delete(end: End, asked: u64) -> Deed {
        deed(end, asked, &[((CUSTOMER, 2), None)])
    }

    #[test]
    fn what_was_written_is_there() {
        assert_eq!(found(&[], &[], full()), []);
    }

    #[test]
    fn a_delete_acts_along_the_chain() {
        assert_eq!(
            found(&[(9, delete(End::Acknowledged, 90))], &[9], acted()),
            []
        );
        assert_eq!(found(&[(9, delete(End::Unknown, 90))], &[9], acted()), []);
    }

    #[test]
    fn what_a_failed_delete_has_taken_is_lost() {
        let lost = found(&[(9, delete(End::Failed, 90))], &[], acted());
        assert_eq!(lost.len(), 5, "{lost:?}");
        // The parent stays, one of its children is gone.
        let mut torn = full();
        torn.remove(&(INVOICE, 1));
        assert_eq!(
            found(&[(9, delete(End::Failed, 90))], &[], torn),
            [Kind::Lost]
        );
        let mut torn = full();
        torn.insert((VISIT, 1), row(3, &[1]));
        assert_eq!(
            found(&[(9, delete(End::Failed, 90))], &[], torn),
            [Kind::Lost]
        );
    }

    #[test]
    fn a_delete_before_the_row_does_not_explain_that_it_is_gone() {
        // Customer 2 comes again behind its delete, and then its visit.
        let again = deed(End::Acknowledged, 8, &[((CUSTOMER, 2), Some(row(8, &[])))]);
        let deeds = [(7, delete(End::Acknowledged, 6)), (8, again)];
        let mut rows = full();
        rows.remove(&(ORDER, 1));
        rows.remove(&(INVOICE, 1));
        assert_eq!(found(&deeds, &[7, 8], rows).len(), 2);
    }

    #[test]
    fn an_acknowledged_delete_that_is_undone_is_lost() {
        let kinds = found(&[(9, delete(End::Acknowledged, 90))], &[9], full());
        assert_eq!(kinds, [Kind::Lost]);
    }

    #[test]
    fn deeds_at_the_same_time_may_have_any_order() {
        let one = deed(End::Acknowledged, 90, &[((VISIT, 1), Some(row(9, &[1])))]);
        let mut other = deed(End::Acknowledged, 90, &[((VISIT, 1), Some(row(8, &[1])))]);
        let mut rows = full();
        rows.insert((VISIT, 1), row(9, &[1]));
        assert_eq!(
            found(
                &[(9, one.clone()), (8, other.clone())],
                &[8, 9],
                rows.clone()
            ),
            []
        );
        other.asked = 95;
        assert_eq!(found(&[(9, one), (8, other)], &[8, 9], rows), [Kind::Lost]);
    }

    #[test]
    fn a_child_without_its_parent_is_found() {
        let mut rows = full();
        rows.remove(&(CUSTOMER, 2));
        let kinds = found(&[(9, delete(End::Acknowledged, 90))], &[9], rows.clone());
        assert_eq!(kinds, [Kind::Anomaly; 4]);
        // Where the foreign key is not there, its rows are as they may be.
        assert_eq!(dangling(&schema(), &rows, false).len(), 3);
        assert_eq!(dangling(&schema(), &full(), true), Vec::<String>::new());
    }

    #[test]
    fn marks_tell_what_became_of_a_transaction() {
        let put = |end| deed(end, 90, &[((ORDER, 2), Some(row(9, &[1])))]);
        let mut with = full();
        with.insert((ORDER, 2), row(9, &[1]));
        assert_eq!(found(&[(9, put(End::Unknown))], &[9], with.clone()), []);
        assert_eq!(found(&[(9, put(End::Unknown))], &[], full()), []);
        assert_eq!(found(&[(9, put(End::Unknown))], &[9], full()), [Kind::Lost]);
        assert_eq!(
            found(&[(9, put(End::Unknown))], &[], with.clone()),
            [Kind::Anomaly]
        );
        assert_eq!(
            found(&[(9, put(End::Failed))], &[9], with),
            [Kind::Anomaly, Kind::Anomaly]
        );
        assert_eq!(
            found(&[(9, put(End::Acknowledged))], &[], full()),
            [Kind::Lost, Kind::Lost]
        );
    }

    #[test]
    fn what_a_reader_saw_of_a_failed_transaction_is_found() {
        let mut books = Books::new(schema());
        books.enter(
            9,
            deed(End::Failed, 90, &[((ORDER, 2), Some(row(9, &[0])))]),
        );
        books.see(&BTreeMap::from([((ORDER, 2), row(9, &[0]))]));
        let findings = books.settle(Rest::default(), 1_000);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].kind, Kind::Anomaly);
    }

    #[test]
    fn what_the_next_rest_shows_goes_on_from_this_one() {
        let mut books = Books::new(schema());
        let rest = |rows| Rest {
            rows,
            ..Rest::default()
        };
        books.enter(
            2,
            Deed {
                has_mark: false,
                ..deed(End::Unknown, 20, &[((CUSTOMER, 1), Some(row(2, &[])))])
            },
        );
        let rows = BTreeMap::from([((CUSTOMER, 1), row(2, &[]))]);
        assert_eq!(books.settle(rest(rows.clone()), 100), []);
        assert_eq!(books.settle(rest(rows), 101), []);
        assert_eq!(books.settle(rest(Rows::new()), 102).len(), 1);
    }
}
