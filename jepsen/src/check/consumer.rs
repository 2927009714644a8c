//! What a consumer of the feed sees, page by page, against the rules of the feed: every commit
//! once, in order, whole, nothing else; the same again after a restart of the cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::finding::{Finding, Kind};

/// What a line of the feed says about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// A new row.
    Insert,
    /// New content.
    Update,
    /// A row went.
    Delete,
}

/// One line of the feed about a row of the watched tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Position of its entry.
    pub position: u64,
    /// The transaction's name in the feed.
    pub tx: String,
    /// Its number within the entry.
    pub seq: i64,
    /// Whether the transaction ends here.
    pub last_in_tx: bool,
    /// Whose table.
    pub owner: String,
    /// Which table.
    pub table: String,
    /// What happened.
    pub op: Op,
    /// The row's key.
    pub id: i64,
    /// The writer's own number of the transaction, from the new content; none in a delete.
    pub mark: Option<i64>,
}

/// An entry as a consumer has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A hash of all its lines.
    pub hash: u64,
    /// Its lines, if the consumer keeps them.
    pub lines: Vec<Line>,
}

/// Entries are named by position and owner: two owners may share a position.
type Name = (u64, String);

/// A consumer with its cursor and all that it has seen.
#[derive(Debug)]
pub struct Consumer {
    name: String,
    start: u64,
    cursor: u64,
    passed: u64,
    keeps: bool,
    entries: BTreeMap<Name, Entry>,
}

impl Consumer {
    /// A consumer that begins behind `start`. One that keeps has every line at hand afterwards.
    pub fn new(name: impl Into<String>, start: u64, keeps: bool) -> Consumer {
        Consumer {
            name: name.into(),
            start,
            cursor: start,
            passed: start,
            keeps,
            entries: BTreeMap::new(),
        }
    }

    /// Where to read on.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The highest position that it has ever had.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// The position of the newest entry that it has seen.
    pub fn newest(&self) -> u64 {
        self.entries.keys().last().map_or(0, |name| name.0)
    }

    /// All entries so far, in feed order.
    pub fn entries(&self) -> &BTreeMap<Name, Entry> {
        &self.entries
    }

    /// Goes back to an older cursor, as one does that ended before it stored the newer one.
    pub fn rewind(&mut self, cursor: u64) {
        self.cursor = cursor.clamp(self.start, self.cursor);
    }

    /// Moves the cursor to a position up to which the feed says that there is nothing more.
    pub fn progress(&mut self, position: u64) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.judge_again(&BTreeMap::new(), position, &mut findings);
        if position < self.cursor {
            self.complain(&mut findings, format!("progress to {position} goes back"));
        }
        self.cursor = self.cursor.max(position);
        self.passed = self.passed.max(position);
        findings
    }

    fn complain(&self, findings: &mut Vec<Finding>, what: String) {
        findings.push(Finding::new(Kind::Feed, format!("{}: {what}", self.name)));
    }

    /// Takes a page that was asked for behind the cursor with `rows_max`, and moves the cursor.
    pub fn page(&mut self, rows_max: usize, lines: Vec<Line>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let Some(end) = lines.iter().map(|line| line.position).max() else {
            return findings;
        };
        self.judge_order(&lines, &mut findings);
        self.judge_size(rows_max, &lines, &mut findings);
        let page = self.split(lines, &mut findings);
        self.judge_again(&page, end, &mut findings);
        for (name, entry) in page {
            self.entries.entry(name).or_insert(entry);
        }
        self.cursor = end;
        self.passed = self.passed.max(end);
        findings
    }

    /// Positions never fall, lie behind the cursor; an entry's lines stand together and in order.
    fn judge_order(&self, lines: &[Line], findings: &mut Vec<Finding>) {
        for line in lines.iter().filter(|line| line.position <= self.cursor) {
            let what = format!("{} is not behind the cursor {}", line.position, self.cursor);
            self.complain(findings, what);
        }
        for pair in lines.windows(2) {
            let (one, two) = (&pair[0], &pair[1]);
            if two.position < one.position {
                let what = format!("{} comes behind {}", two.position, one.position);
                self.complain(findings, what);
            }
            let same = one.position == two.position && one.owner == two.owner;
            if same && two.seq <= one.seq {
                let what = format!("at {}: seq {} behind {}", two.position, two.seq, one.seq);
                self.complain(findings, what);
            }
            if same && one.tx != two.tx {
                let what = format!("at {}: two transactions of {}", two.position, two.owner);
                self.complain(findings, what);
            }
            if same == one.last_in_tx {
                let what = format!("at {}: last_in_tx is {same}, wrongly", one.position);
                self.complain(findings, what);
            }
        }
        if let Some(last) = lines.last().filter(|line| !line.last_in_tx) {
            self.complain(
                findings,
                format!("the page ends within {} at {}", last.tx, last.position),
            );
        }
    }

    /// Only the last position may reach beyond the page's size.
    fn judge_size(&self, rows_max: usize, lines: &[Line], findings: &mut Vec<Finding>) {
        let last = lines.last().map(|line| line.position);
        let before = lines
            .iter()
            .filter(|line| Some(line.position) != last)
            .count();
        if before >= rows_max {
            let what = format!("a page of {rows_max} has {before} lines before its last position");
            self.complain(findings, what);
        }
    }

    /// Lines to entries.
    fn split(&self, lines: Vec<Line>, findings: &mut Vec<Finding>) -> BTreeMap<Name, Entry> {
        let mut page: BTreeMap<Name, Entry> = BTreeMap::new();
        let mut rest = lines.into_iter().peekable();
        while let Some(first) = rest.next() {
            let name = (first.position, first.owner.clone());
            let mut whole = vec![first];
            while let Some(line) =
                rest.next_if(|line| line.position == name.0 && line.owner == name.1)
            {
                whole.push(line);
            }
            let mut hasher = DefaultHasher::new();
            whole.hash(&mut hasher);
            let lines = if self.keeps { whole } else { Vec::new() };
            let entry = Entry {
                hash: hasher.finish(),
                lines,
            };
            if page.insert(name.clone(), entry).is_some() {
                self.complain(findings, format!("{} of {} is there twice", name.0, name.1));
            }
        }
        page
    }

    /// What was seen before must be there again, with the same content, and nothing new among it.
    fn judge_again(&self, page: &BTreeMap<Name, Entry>, end: u64, findings: &mut Vec<Finding>) {
        let again = end.min(self.passed);
        if again <= self.cursor {
            return;
        }
        let range = (self.cursor + 1, String::new())..(again + 1, String::new());
        for (name, entry) in self.entries.range(range.clone()) {
            match page.get(name) {
                None => {
                    let what = format!("{} of {} is gone when read again", name.0, name.1);
                    self.complain(findings, what);
                }
                Some(other) if other.hash != entry.hash => {
                    let what = format!("{} of {} is another when read again", name.0, name.1);
                    self.complain(findings, what);
                }
                Some(_) => {}
            }
        }
        for (name, _) in page
            .range(range)
            .filter(|(name, _)| !self.entries.contains_key(name))
        {
            let what = format!(
                "{} of {} came after {} was given",
                name.0, name.1, self.passed
            );
            self.complain(findings, what);
        }
    }

    /// Everything that this consumer has passed must be what the whole feed, read at rest, holds.
    pub fn compare(&self, whole: &Consumer) -> Vec<Finding> {
        let mut findings = Vec::new();
        let range = (self.start + 1, String::new())..(self.passed + 1, String::new());
        let mut skipped = Stretches::default();
        for (name, entry) in whole.entries.range(range.clone()) {
            let mine = self.entries.get(name);
            skipped.see(name, mine.is_none());
            if mine.is_some_and(|mine| mine.hash != entry.hash) {
                let what = format!("{} of {} was another", name.0, name.1);
                self.complain(&mut findings, what);
            }
        }
        let mut gone = Stretches::default();
        for (name, _) in self.entries.range(range) {
            gone.see(name, !whole.entries.contains_key(name));
        }
        for stretch in skipped.found {
            self.complain(&mut findings, format!("{stretch} skipped"));
        }
        for stretch in gone.found {
            self.complain(&mut findings, format!("{stretch} seen, which is not there"));
        }
        findings
    }
}

/// Entries that are not where they should be, those next to each other as one finding.
#[derive(Default)]
struct Stretches {
    found: Vec<Stretch>,
    is_open: bool,
}

/// Entries next to each other.
struct Stretch {
    first: Name,
    last: Name,
    count: u64,
}

impl Stretches {
    /// Looks at the next entry.
    fn see(&mut self, name: &Name, is_missing: bool) {
        let was_open = std::mem::replace(&mut self.is_open, is_missing);
        if !is_missing {
            return;
        }
        match self.found.last_mut().filter(|_| was_open) {
            Some(stretch) => {
                stretch.last = name.clone();
                stretch.count += 1;
            }
            None => self.found.push(Stretch {
                first: name.clone(),
                last: name.clone(),
                count: 1,
            }),
        }
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stretch { first, last, count } = self;
        write!(
            f,
            "{count} entries from {} of {} to {} of {}",
            first.0, first.1, last.0, last.1
        )
    }
}

/// Changes of one transaction, as its writer planned them: net, each row once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Ranges of keys: first and count.
    pub inserted: Vec<(i64, i64)>,
    /// Likewise.
    pub updated: Vec<(i64, i64)>,
    /// Likewise.
    pub deleted: Vec<(i64, i64)>,
}

impl Changes {
    /// All of them, sorted.
    fn expand(&self) -> Vec<(Op, i64)> {
        let parts = [
            (Op::Insert, &self.inserted),
            (Op::Update, &self.updated),
            (Op::Delete, &self.deleted),
        ];
        let mut all = Vec::new();
        for (op, ranges) in parts {
            for (first, count) in ranges {
                all.extend((*first..first + count).map(|id| (op, id)));
            }
        }
        all.sort_unstable();
        all
    }
}

/// How a writer's transaction ended, as the writer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It must be in the feed.
    Acknowledged,
    /// It must not.
    Failed,
    /// It may.
    Unknown,
}

/// A writer's transaction.
#[derive(Clone, Debug)]
pub struct Written {
    /// Whose.
    pub owner: String,
    /// When it was begun, microseconds of one clock.
    pub begun: u64,
    /// When its end was known, by the same clock.
    pub ended: u64,
    /// How.
    pub end: End,
    /// What it was to change.
    pub changes: Changes,
}

/// All transactions by the writers' numbers.
pub type Transactions = HashMap<i64, Written>;

/// Judges the whole feed, read at rest, against what the writers know; `visible` says which
/// tables may be seen. What was unknown is known afterwards.
pub fn judge_whole(
    whole: &Consumer,
    written: &mut Transactions,
    visible: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut places: BTreeMap<i64, &Name> = BTreeMap::new();
    for (name, entry) in &whole.entries {
        let Some(mark) = judge_entry(name, entry, written, visible, &mut findings) else {
            continue;
        };
        if let Some(other) = places.get(&mark) {
            let what = format!("transaction {mark} is at {} and at {}", other.0, name.0);
            findings.push(Finding::new(Kind::Feed, what));
        } else {
            places.insert(mark, name);
        }
    }
    for (mark, transaction) in written.iter_mut() {
        let there = places.contains_key(mark);
        if transaction.end == End::Acknowledged && !there {
            let what = format!("acknowledged transaction {mark} is not in the feed");
            findings.push(Finding::new(Kind::Feed, what));
        }
        if transaction.end == End::Unknown {
            transaction.end = if there {
                End::Acknowledged
            } else {
                End::Failed
            };
        }
    }
    judge_real_time(&places, written, &mut findings);
    findings
}

/// One entry: one transaction, not failed, with exactly its changes. Its number.
fn judge_entry(
    name: &Name,
    entry: &Entry,
    written: &Transactions,
    visible: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Option<i64> {
    let mut complain = |what: String| {
        findings.push(Finding::new(
            Kind::Feed,
            format!("{} of {}: {what}", name.0, name.1),
        ));
    };
    for line in entry
        .lines
        .iter()
        .filter(|line| !visible.contains(&line.table))
    {
        complain(format!("table {} is none of the reader's", line.table));
    }
    let marks: BTreeSet<i64> = entry.lines.iter().filter_map(|line| line.mark).collect();
    let mark = match marks.iter().collect::<Vec<_>>()[..] {
        [mark] => *mark,
        _ => {
            complain(format!("holds parts of the transactions {marks:?}"));
            return None;
        }
    };
    let Some(transaction) = written.get(&mark) else {
        complain(format!("transaction {mark} was never written"));
        return None;
    };
    if transaction.end == End::Failed {
        complain(format!("transaction {mark} was rolled back or refused"));
    }
    if transaction.owner != name.1 {
        complain(format!("transaction {mark} is {}'s", transaction.owner));
    }
    let mut there: Vec<(Op, i64)> = entry.lines.iter().map(|line| (line.op, line.id)).collect();
    there.sort_unstable();
    if there != transaction.changes.expand() {
        let (is, should) = (there.len(), transaction.changes.expand().len());
        complain(format!(
            "transaction {mark} has {is} changes, written were {should}, or others"
        ));
    }
    Some(mark)
}

/// Who was answered before another of the same owner began stands before it.
fn judge_real_time(
    places: &BTreeMap<i64, &Name>,
    written: &Transactions,
    findings: &mut Vec<Finding>,
) {
    let mut ordered: Vec<(&Name, i64)> = places.iter().map(|(mark, name)| (*name, *mark)).collect();
    ordered.sort_unstable();
    let mut newest_begin: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    for (name, mark) in ordered {
        let Some(transaction) = written.get(&mark) else {
            continue;
        };
        let newest = newest_begin.entry(&transaction.owner).or_default();
        if transaction.end == End::Acknowledged && transaction.ended < newest.0 {
            let what = format!(
                "{}: transaction {mark} stands behind {}, which began after its answer",
                name.0, newest.1
            );
            findings.push(Finding::new(Kind::Feed, what));
        }
        *newest = (*newest).max((transaction.begun, mark));
    }
}

/// A copy of the watched tables, kept by the feed: key to the number of the last writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// The rows.
    pub rows: BTreeMap<i64, i64>,
}

impl Copy {
    /// Applies a line. What is there already, or isn't there, is an overlap or a gap.
    pub fn apply(&mut self, line: &Line) -> Option<Finding> {
        let before = match line.op {
            Op::Insert | Op::Update => self.rows.insert(line.id, line.mark.unwrap_or(-1)),
            Op::Delete => self.rows.remove(&line.id),
        };
        let right = before.is_some() == (line.op != Op::Insert);
        (!right).then(|| {
            let what = format!(
                "at {}: {:?} of row {} on {before:?}",
                line.position, line.op, line.id
            );
            Finding::new(Kind::Feed, what)
        })
    }

    /// Compares with what was read, `how` saying where.
    pub fn compare(&self, read: &Copy, how: &str) -> Vec<Finding> {
        if self == read {
            return Vec::new();
        }
        let missing = self
            .rows
            .iter()
            .filter(|(id, mark)| read.rows.get(id) != Some(mark));
        let extra = read
            .rows
            .iter()
            .filter(|(id, mark)| self.rows.get(id) != Some(mark));
        let what = format!(
            "{how}: of {} rows {} differ from the feed's, first {:?}; of {} read {}, first {:?}",
            self.rows.len(),
            missing.clone().count(),
            missing.clone().next(),
            read.rows.len(),
            extra.clone().count(),
            extra.clone().next(),
        );
        vec![Finding::new(Kind::Feed, what)]
    }
}

/// Judges snapshots, each taken at a position: they must be what the feed gives up to there, and
/// `last` what it gives up to its end.
pub fn judge_copies(whole: &Consumer, snapshots: &[(u64, Copy)], last: &Copy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut sorted: Vec<&(u64, Copy)> = snapshots.iter().collect();
    sorted.sort_by_key(|(position, _)| *position);
    let mut waiting = sorted.into_iter().peekable();
    let mut copy = Copy::default();
    for (name, entry) in &whole.entries {
        while let Some((position, read)) = waiting.next_if(|(position, _)| *position < name.0) {
            findings.extend(copy.compare(read, &format!("snapshot at {position}")));
        }
        findings.extend(entry.lines.iter().filter_map(|line| copy.apply(line)));
    }
    for (position, read) in waiting {
        findings.extend(copy.compare(read, &format!("snapshot at {position}")));
    }
    findings.extend(copy.compare(last, "the tables at rest"));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(position: u64, seq: i64, last: bool, id: i64, mark: i64) -> Line {
        Line {
            position,
            tx: format!("t{position}"),
            seq,
            last_in_tx: last,
            owner: "alpha".into(),
            table: "alpha_v1".into(),
            op: Op::Insert,
            id,
            mark: Some(mark),
        }
    }

    /// Entries at 10 (rows 1, 2), 20 (row 3), 30 (row 4).
    fn feed() -> Vec<Line> {
        vec![
            line(10, 0, false, 1, 1),
            line(10, 1, true, 2, 1),
            line(20, 0, true, 3, 2),
            line(30, 0, true, 4, 3),
        ]
    }

    fn consumer(lines: Vec<Line>) -> Consumer {
        let mut consumer = Consumer::new("test", 0, true);
        assert_eq!(consumer.page(500, lines), vec![]);
        consumer
    }

    #[test]
    fn a_sound_page_moves_the_cursor() {
        assert_eq!(consumer(feed()).cursor(), 30);
    }

    fn complaints(rows_max: usize, lines: Vec<Line>) -> usize {
        Consumer::new("test", 5, true).page(rows_max, lines).len()
    }

    #[test]
    fn a_page_split_within_a_transaction_is_found() {
        let mut lines = feed();
        lines.truncate(1);
        assert_eq!(complaints(500, lines), 1);
    }

    #[test]
    fn a_page_out_of_order_is_found() {
        let mut lines = feed();
        lines.swap(2, 3);
        assert_eq!(complaints(500, lines), 1);
        let mut lines = feed();
        lines[1].seq = 0;
        assert_eq!(complaints(500, lines), 1);
    }

    #[test]
    fn a_page_at_or_below_the_cursor_is_found() {
        let mut consumer = consumer(feed());
        assert!(!consumer.page(500, vec![line(30, 0, true, 4, 3)]).is_empty());
    }

    #[test]
    fn a_page_beyond_its_size_is_found() {
        assert_eq!(complaints(2, feed()), 1);
        assert_eq!(complaints(4, feed()), 0);
    }

    #[test]
    fn after_a_rewind_the_same_is_seen_again() {
        let mut sound = consumer(feed());
        sound.rewind(10);
        let again = vec![line(20, 0, true, 3, 2), line(30, 0, true, 4, 3)];
        assert_eq!(sound.page(500, again.clone()), vec![]);
        let mut gap = consumer(feed());
        gap.rewind(10);
        assert_eq!(gap.page(500, again[1..].to_vec()).len(), 1);
        let mut reused = consumer(feed());
        reused.rewind(10);
        let other = vec![line(20, 0, true, 99, 9), again[1].clone()];
        assert_eq!(reused.page(500, other).len(), 1);
        let mut late = consumer(feed());
        late.rewind(10);
        let between = vec![again[0].clone(), line(25, 0, true, 8, 8), again[1].clone()];
        assert_eq!(late.page(500, between).len(), 1);
    }

    #[test]
    fn what_comes_at_or_below_a_progress_is_found() {
        let mut consumer = consumer(feed());
        assert_eq!(consumer.progress(40), vec![]);
        assert!(!consumer.page(500, vec![line(35, 0, true, 9, 9)]).is_empty());
        let mut whole = feed();
        whole.push(line(35, 0, true, 9, 9));
        let mut passed = super::Consumer::new("test", 0, true);
        assert_eq!(passed.page(500, feed()), vec![]);
        assert_eq!(passed.progress(40), vec![]);
        assert_eq!(passed.compare(&self::consumer(whole)).len(), 1);
    }

    #[test]
    fn a_skipped_an_invented_and_another_entry_are_found_by_comparison() {
        let whole = consumer(feed());
        assert_eq!(consumer(feed()).compare(&whole), vec![]);
        let mut skipped = feed();
        skipped.remove(2);
        assert_eq!(consumer(skipped).compare(&whole).len(), 1);
        let mut invented = feed();
        invented.insert(3, line(25, 0, true, 9, 9));
        assert_eq!(consumer(invented).compare(&whole).len(), 1);
        let mut other = feed();
        other[2].id = 77;
        assert_eq!(consumer(other).compare(&whole).len(), 1);
    }

    fn written(begun: u64, ended: u64, end: End, inserted: &[(i64, i64)]) -> Written {
        let changes = Changes {
            inserted: inserted.to_vec(),
            ..Changes::default()
        };
        Written {
            owner: "alpha".into(),
            begun,
            ended,
            end,
            changes,
        }
    }

    fn transactions() -> Transactions {
        Transactions::from([
            (1, written(0, 9, End::Acknowledged, &[(1, 2)])),
            (2, written(5, 15, End::Acknowledged, &[(3, 1)])),
            (3, written(16, 30, End::Unknown, &[(4, 1)])),
            (4, written(17, 31, End::Failed, &[(5, 1)])),
        ])
    }

    fn judge(lines: Vec<Line>, mut transactions: Transactions) -> usize {
        let visible = BTreeSet::from(["alpha_v1".to_owned()]);
        judge_whole(&consumer(lines), &mut transactions, &visible).len()
    }

    #[test]
    fn a_sound_feed_has_no_finding_with_or_without_the_unknown() {
        assert_eq!(judge(feed(), transactions()), 0);
        assert_eq!(judge(feed()[..3].to_vec(), transactions()), 0);
    }

    #[test]
    fn a_missing_a_doubled_and_a_failed_transaction_are_found() {
        let mut missing = feed();
        missing.remove(2);
        assert_eq!(judge(missing, transactions()), 1);
        let mut doubled = feed();
        doubled.push(line(40, 0, true, 3, 2));
        assert_eq!(judge(doubled, transactions()), 1);
        let mut failed = feed();
        failed.push(line(40, 0, true, 5, 4));
        assert_eq!(judge(failed, transactions()), 1);
        let mut unheard = feed();
        unheard.push(line(40, 0, true, 6, 66));
        assert_eq!(judge(unheard, transactions()), 1);
    }

    #[test]
    fn a_torn_transaction_is_found() {
        let mut torn = feed();
        torn.remove(0);
        assert_eq!(judge(torn, transactions()), 1);
        let mut dropped_delete = transactions();
        dropped_delete
            .get_mut(&2)
            .expect("it is above")
            .changes
            .deleted
            .push((1, 1));
        assert_eq!(judge(feed(), dropped_delete), 1);
    }

    #[test]
    fn an_order_against_real_time_is_found() {
        let mut late = transactions();
        late.get_mut(&1).expect("it is above").begun = 20;
        late.get_mut(&1).expect("it is above").ended = 21;
        assert_eq!(judge(feed(), late), 1);
    }

    #[test]
    fn a_private_table_is_found() {
        let mut leaked = feed();
        leaked[2].table = "secret".into();
        assert_eq!(judge(leaked, transactions()), 1);
    }

    fn copy(rows: &[(i64, i64)]) -> Copy {
        Copy {
            rows: rows.iter().copied().collect(),
        }
    }

    #[test]
    fn snapshots_are_judged_at_their_position() {
        let whole = consumer(feed());
        let last = copy(&[(1, 1), (2, 1), (3, 2), (4, 3)]);
        let right = vec![(20, copy(&[(1, 1), (2, 1), (3, 2)])), (9, copy(&[]))];
        assert_eq!(judge_copies(&whole, &right, &last), vec![]);
        let gap = vec![(20, copy(&[(1, 1), (2, 1)]))];
        assert_eq!(judge_copies(&whole, &gap, &last).len(), 1);
        let overlap = vec![(20, last.clone())];
        assert_eq!(judge_copies(&whole, &overlap, &last).len(), 1);
        assert_eq!(judge_copies(&whole, &[], &copy(&[(1, 1)])).len(), 1);
    }

    #[test]
    fn a_change_that_does_not_fit_the_copy_is_found() {
        let mut copy = copy(&[(1, 1)]);
        assert!(copy.apply(&line(10, 0, true, 1, 2)).is_some());
        let delete = Line {
            op: Op::Delete,
            mark: None,
            ..line(11, 0, true, 7, 0)
        };
        assert!(copy.apply(&delete).is_some());
        assert!(copy.apply(&line(12, 0, true, 2, 2)).is_none());
    }
}
