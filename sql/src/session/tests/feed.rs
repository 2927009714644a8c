//! The feed in SQL over a log in memory that counts what is read of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use storage::{Change, Entry, GroupId, Local, Position, Proposed};

use super::Node;
use super::node::Registered;
use crate::Error;
use crate::changes::{
    Asked, Changes, Closed, FeedRelation, History, Interrupt, Log, LogChanges, LogEntry,
    PositionAt, Request, SnapshotPosition, UnitEntry, Units,
};
use crate::functions::functions_in;

/// Each function of Freehold's own stands in `pg_proc` as it is called.
#[test]
fn functions_are_in_pg_proc_as_they_are_called() {
    let mut functions = Vec::new();
    Node::journaled(|local| {
        let all = registered(local, Arc::default());
        functions.clone_from(&all.functions);
        all
    });
    assert!(!functions.is_empty());
    for function in functions {
        let (schema, name) = function.name();
        let shown: Vec<_> = functions_in(schema, name).collect();
        let [shown] = shown.as_slice() else {
            panic!("{schema}.{name} stands in pg_proc {} times", shown.len());
        };
        let arguments = function.arguments();
        let types: Vec<u32> = arguments.iter().map(|a| a.ty.oid).collect();
        assert_eq!(shown.arguments, types, "{name}");
        let given = arguments.iter().filter(|a| a.default.is_some()).count();
        assert_eq!(shown.defaults, given, "{name}");
        let mut names: Vec<&str> = arguments.iter().map(|a| a.name).collect();
        if shown.returns_set {
            names.extend(function.columns().iter().map(|c| c.name));
            let columns = function.columns().iter().map(|c| c.ty.oid);
            let all: Vec<u32> = types.into_iter().chain(columns).collect();
            assert_eq!(shown.all_arguments, all, "{name}");
        } else {
            let columns: Vec<u32> = function.columns().iter().map(|c| c.ty.oid).collect();
            assert_eq!(columns, [shown.result], "{name}");
        }
        assert_eq!(shown.argument_names, names, "{name}");
    }
}

/// The entries of a [`Local`]'s log, units in order.
struct Counted {
    local: Arc<Local>,
    read: Arc<AtomicUsize>,
    /// Of changes up to there nothing is known any more but their tables.
    lost: Position,
}

impl Log for Counted {
    fn closed(&self, asked: &Asked, _: Option<Position>, _: &Interrupt) -> Result<Closed, Error> {
        let all = self.local.groups();
        let ids = asked.read.iter().chain(&asked.wanted).chain(&asked.watched);
        let groups: Vec<_> = ids.filter_map(|id| all.get(*id)).collect();
        let newest = groups.iter().map(|group| group.applied()).max();
        // Each is the only voter of its group, so it can promise.
        groups.iter().for_each(|group| group.set_sole(true));
        let closed = groups
            .iter()
            .map(|g| g.close_up_to(newest.unwrap_or_default()));
        Ok(Closed {
            upto: closed.min().unwrap_or_default(),
            ..Closed::default()
        })
    }

    fn read(&self, request: &Request<'_>, _: &Interrupt) -> Result<Box<dyn Units>, Error> {
        let Request {
            groups,
            after,
            closed,
            ..
        } = *request;
        let mut entries = Vec::new();
        for id in groups {
            for record in self.local.log(*id) {
                if let Some(Proposed::Entry(position)) = record.what
                    && after.is_none_or(|after| position > after)
                    && position <= closed
                {
                    entries.push((position, *id, Entry::decode(&record.payload)?));
                }
            }
        }
        entries.sort_by_key(|(position, id, _)| (*position, *id));
        let held = self.local.groups();
        let followed = |id: &GroupId| held.get(*id).is_some_and(|group| group.is_followed());
        let lacks = groups.iter().copied().find(followed);
        if lacks.is_some() {
            entries.clear();
        }
        Ok(Box::new(CountedUnits {
            lacks,
            unit: None,
            entries: entries.into(),
            closed,
            read: self.read.clone(),
            lost: self.lost,
        }))
    }

    fn now(&self) -> u64 {
        self.local.groups().clock().unix_micros()
    }
}

struct CountedUnits {
    unit: Option<Position>,
    /// Nobody has the log of a group that is only followed.
    lacks: Option<GroupId>,
    entries: std::collections::VecDeque<(Position, GroupId, Entry)>,
    closed: Position,
    read: Arc<AtomicUsize>,
    lost: Position,
}

impl Units for CountedUnits {
    fn closed(&self) -> Position {
        match self.lacks {
            None => self.closed,
            Some(_) => Position::ZERO,
        }
    }

    fn lacks(&self) -> Option<GroupId> {
        self.lacks
    }

    fn next_unit(&mut self) -> Result<Option<Position>, Error> {
        self.unit = self.entries.front().map(|(at, _, _)| *at);
        Ok(self.unit)
    }

    fn next_entry(&mut self) -> Result<Option<UnitEntry>, Error> {
        let of_unit = self
            .entries
            .pop_front_if(|(at, _, _)| Some(*at) == self.unit);
        Ok(of_unit.map(|(_, group, entry)| {
            self.read.fetch_add(1, Ordering::SeqCst);
            UnitEntry::Here(Box::new(Read(group, losing(entry, self.lost))))
        }))
    }
}

/// An entry as it is read once the images of its changes are erased with their keys.
fn losing(mut entry: Entry, lost: Position) -> Entry {
    if entry.header.position <= lost {
        for change in entry.changes.iter_mut().filter(|change| change.feed) {
            *change = Change {
                seq: change.seq,
                tree: change.tree,
                feed: true,
                erase: true,
                ..Change::default()
            };
        }
    }
    entry
}

struct Read(GroupId, Entry);

impl LogEntry for Read {
    fn group(&self) -> GroupId {
        self.0
    }

    fn entry(&self) -> &Entry {
        &self.1
    }

    fn into_changes(self: Box<Self>) -> Result<LogChanges, Error> {
        Ok(Box::new(self.1.changes.into_iter().map(Ok)))
    }
}

/// A node with owner `a`, table `public.t_v1`, and what its feed has read so far.
fn node() -> (Node, Arc<AtomicUsize>) {
    let read: Arc<AtomicUsize> = Arc::default();
    let count = read.clone();
    let node = Node::journaled(|local| registered(local, count));
    node.client("postgres").ok("CREATE ROLE a LOGIN");
    node.client("a")
        .ok("CREATE TABLE public.t_v1 (id int PRIMARY KEY)");
    (node, read)
}

#[test]
fn a_page_of_the_feed_reads_no_more_than_it_shows() {
    let (node, read) = node();
    let mut a = node.client("a");
    for id in 0..200 {
        a.ok(&format!("INSERT INTO t_v1 VALUES ({id})"));
    }
    let fifty = a.rows("SELECT position FROM freehold.feed WHERE key = '{\"id\": 50}'");
    let page = format!(
        "SELECT key->>'id' FROM freehold.feed WHERE position > '{fifty}' ORDER BY position \
         FETCH FIRST 5 ROWS WITH TIES"
    );
    let plan = a.rows(&format!("EXPLAIN {page}"));
    assert!(!plan.contains("Sort"), "{plan}");
    read.store(0, Ordering::SeqCst);
    assert_eq!(a.rows(&page), "51\n52\n53\n54\n55");
    // The five, and the one that shows that the ties are over.
    assert_eq!(read.load(Ordering::SeqCst), 6);

    // The other ways of saying it.
    for (condition, first) in [
        (format!("'{fifty}' < position"), "51"),
        (format!("position >= '{fifty}'"), "50"),
        (format!("position = '{fifty}'"), "50"),
        (format!("position BETWEEN '{fifty}' AND 'FFFFFFFF/0'"), "50"),
    ] {
        read.store(0, Ordering::SeqCst);
        let sql = format!(
            "SELECT key->>'id' FROM freehold.feed WHERE {condition} ORDER BY position LIMIT 1"
        );
        assert_eq!(a.rows(&sql), first, "{condition}");
        assert_eq!(read.load(Ordering::SeqCst), 1, "{condition}");
    }
    // An order that the feed does not have is sorted.
    let plan = a.rows("EXPLAIN SELECT * FROM freehold.feed ORDER BY position DESC LIMIT 1");
    assert!(plan.contains("Sort"), "{plan}");
    let newest = "SELECT key->>'id' FROM freehold.feed ORDER BY position DESC LIMIT 1";
    assert_eq!(a.rows(newest), "199");
}

#[test]
fn a_page_takes_whole_transactions() {
    let (node, read) = node();
    let mut a = node.client("a");
    a.ok("INSERT INTO t_v1 SELECT generate_series(1, 20)");
    node.clock.advance(10);
    a.ok("INSERT INTO t_v1 VALUES (21)");
    let begin = a.rows("SELECT min(position) FROM freehold.feed WHERE op = 'insert'");
    let rows = |a: &mut super::Client, sql: &str| a.rows(sql).lines().count();
    let page = format!(
        "SELECT * FROM freehold.feed WHERE position >= '{begin}' ORDER BY position \
         FETCH FIRST 7 ROWS WITH TIES"
    );
    assert_eq!(rows(&mut a, &page), 20);
    read.store(0, Ordering::SeqCst);
    let changes = "SELECT * FROM freehold.changes(tables => ARRAY['t_v1'], max_rows => 7) \
                   WHERE op = 'insert'";
    assert_eq!(rows(&mut a, changes), 20);
}

#[test]
fn a_wait_is_ended_by_an_entry_and_not_by_looking_again() {
    let (node, read) = node();
    let mut reader = node.client("postgres");
    let from = reader.rows("SELECT freehold.snapshot_position()");
    let ask = format!(
        "SELECT key FROM freehold.changes(after => '{from}', tables => ARRAY['t_v1'], \
         wait => '30s')"
    );
    assert_eq!(reader.start(&ask), None);
    let waiting = reader.waits().expect("no rows yet");
    let end = node.local.groups().clock().unix_micros() + 30_000_000;
    assert_eq!(waiting.until(), Some(end), "it is not called before");
    waiting.on_ready(Box::new(|| ()));
    read.store(0, Ordering::SeqCst);
    assert_eq!(reader.go_on(), None);
    assert_eq!(read.load(Ordering::SeqCst), 0);
    node.client("a").ok("INSERT INTO t_v1 VALUES (1)");
    assert!(reader.waits().expect("not called yet").ready(), "woken");
    assert_eq!(reader.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(reader.shown(), "{\"id\": 1}");
    // Without an entry it ends with its time.
    let from = reader.rows("SELECT max(position) FROM freehold.feed");
    let again = format!(
        "SELECT key FROM freehold.changes(after => '{from}', wait => '30s', \
         tables => ARRAY['t_v1'])"
    );
    assert_eq!(reader.start(&again), None);
    node.clock.advance(30_000_000);
    assert_eq!(reader.go_on().as_deref(), Some("SELECT 0"));
}

/// A stream of `a_v1` and `b_v1` for a role that may read both, which waits.
fn stream(node: &Node) -> super::Client {
    node.client("postgres").ok("CREATE ROLE reader LOGIN");
    node.client("a")
        .ok("CREATE TABLE public.a_v1 (id int PRIMARY KEY); \
         CREATE TABLE public.b_v1 (id int PRIMARY KEY); \
         GRANT READ ON a_v1, b_v1 TO reader");
    let mut reader = node.client("reader");
    let from = reader.rows("SELECT freehold.snapshot_position()");
    let all = format!(
        "SELECT table_name FROM freehold.changes(after => '{from}', \
         tables => ARRAY['a_v1', 'b_v1'], wait => 'infinity')"
    );
    assert_eq!(reader.start(&all), None);
    reader
        .waits()
        .expect("no rows yet")
        .on_ready(Box::new(|| ()));
    reader
}

#[test]
fn a_stream_ends_when_a_part_of_what_it_follows_is_revoked() {
    let (node, _) = node();
    let mut reader = stream(&node);
    let mut a = node.client("a");
    a.ok("INSERT INTO a_v1 VALUES (1)");
    assert_eq!(reader.go_on(), None);
    assert_eq!(reader.shown(), "a_v1");
    reader.waits().expect("a stream").on_ready(Box::new(|| ()));
    a.ok("REVOKE ALL ON a_v1 FROM reader");
    assert_eq!(
        reader.go_on().as_deref(),
        Some("ERROR 42501: permission denied for table a_v1")
    );
}

#[test]
fn a_stream_goes_on_when_a_part_of_what_it_follows_is_dropped() {
    let (node, _) = node();
    let mut reader = stream(&node);
    let mut a = node.client("a");
    a.ok("DROP TABLE a_v1 CASCADE; INSERT INTO b_v1 VALUES (1)");
    assert_eq!(reader.go_on(), None);
    let shown = reader.shown();
    assert_eq!(shown.lines().last(), Some("b_v1"), "{shown}");
    // To the last one: then there is nothing left, and no error either.
    reader.waits().expect("a stream").on_ready(Box::new(|| ()));
    a.ok("DROP TABLE b_v1 CASCADE");
    assert_eq!(reader.go_on(), None);
}

#[test]
fn a_page_that_is_being_read_ends_when_a_table_is_revoked() {
    let (node, _) = node();
    drop(stream(&node));
    let mut a = node.client("a");
    for id in 0..4 {
        a.ok(&format!("INSERT INTO a_v1 VALUES ({id})"));
    }
    let mut reader = node.client("reader");
    reader.ok("BEGIN");
    reader.ok("DECLARE c CURSOR FOR SELECT key->>'id' FROM freehold.changes() WHERE op = 'insert'");
    assert_eq!(reader.rows("FETCH 2 FROM c"), "0\n1");
    a.ok("REVOKE ALL ON b_v1 FROM reader");
    assert_eq!(
        reader.rows("FETCH 1 FROM c"),
        "ERROR 42501: permission denied for table b_v1"
    );
}

#[test]
fn two_owners_at_one_position_are_one_unit() {
    let (node, _) = node();
    node.client("postgres").ok("CREATE ROLE b LOGIN");
    let mut b = node.client("b");
    b.ok("CREATE TABLE public.u_v1 (id int PRIMARY KEY)");
    let mut a = node.client("a");
    // A clock far beyond what either owner has used, and the same for both.
    node.clock.advance(1_000_000);
    a.ok("INSERT INTO t_v1 VALUES (1), (2)");
    b.ok("INSERT INTO u_v1 VALUES (1)");
    node.clock.advance(1_000_000);
    a.ok("INSERT INTO t_v1 VALUES (3)");
    let mut reader = node.client("postgres");
    let all = "SELECT count(*), count(DISTINCT position), count(DISTINCT owner) \
               FROM freehold.feed WHERE op = 'insert'";
    assert_eq!(reader.rows(all), "4|2|2", "the first two share a position");
    for page in [
        "SELECT owner, last_in_tx FROM freehold.feed WHERE op = 'insert' ORDER BY position \
         FETCH FIRST 1 ROWS WITH TIES",
        "SELECT owner, last_in_tx FROM freehold.changes(max_rows => 1, \
         tables => ARRAY['t_v1', 'u_v1'], after => freehold.position_at(now() - interval '1.5 s'))",
    ] {
        assert_eq!(reader.rows(page), "a|f\na|t\nb|t", "{page}");
    }
}

#[test]
fn an_owner_whose_first_table_is_on_its_way_is_not_passed_over() {
    let (node, _) = node();
    let mut admin = node.client("postgres");
    admin.ok("CREATE ROLE b LOGIN; CREATE ROLE reader LOGIN");
    node.client("a").ok("GRANT READ ON t_* TO reader");
    let mut b = node.client("b");
    b.ok("CREATE TABLE private (id int PRIMARY KEY); GRANT READ ON u_* TO reader");
    let mut reader = node.client("reader");
    let from = reader.rows("SELECT max(position) FROM freehold.feed");
    // b's table and its first row are placed before a's row, and written after it.
    let group = node.group("b");
    node.local.hold(group);
    node.clock.advance(10);
    b.ok("BEGIN; CREATE TABLE public.u_v1 (id int PRIMARY KEY); INSERT INTO u_v1 VALUES (1)");
    assert_eq!(b.start("COMMIT"), None);
    node.clock.advance(10);
    node.client("a").ok("INSERT INTO t_v1 VALUES (1)");
    let mut seen = Vec::new();
    let mut after = from.clone();
    for turn in 0..2 {
        let page =
            format!("SELECT position, op, table_name FROM freehold.changes(after => '{after}')");
        let feed = format!(
            "SELECT position, op, table_name FROM freehold.feed WHERE position > '{after}'"
        );
        let by_feed = reader.rows(&feed);
        for row in reader.rows(&page).lines() {
            let (position, what) = row.split_once('|').expect("three columns");
            after = position.to_owned();
            if !what.starts_with("progress") {
                assert!(by_feed.contains(row), "{by_feed} lacks {row}");
                seen.push(what.to_owned());
            }
        }
        if turn == 0 {
            node.local.release(group).expect("applied");
            assert_eq!(b.go_on().as_deref(), Some("COMMIT"));
        }
    }
    assert_eq!(seen, ["ddl|u_v1", "insert|u_v1", "insert|t_v1"]);
}

/// What the server plugs for the feed.
/// The log of a node.
pub(super) fn log(node: &Node) -> Arc<dyn Log> {
    log_without(node, Position::ZERO)
}

/// A log in which nothing is known of changes up to a position but their tables.
pub(super) fn log_without(node: &Node, lost: Position) -> Arc<dyn Log> {
    Arc::new(Counted {
        local: node.local.clone(),
        read: Arc::default(),
        lost,
    })
}

pub(super) fn registered(local: &Arc<Local>, read: Arc<AtomicUsize>) -> Registered {
    let log: Arc<dyn Log> = Arc::new(Counted {
        local: local.clone(),
        read,
        lost: Position::ZERO,
    });
    let groups = local.groups().clone();
    Registered {
        relations: vec![Arc::new(FeedRelation::new(log.clone(), groups.clone()))],
        functions: vec![
            Arc::new(Changes::new(log.clone(), groups.clone())),
            Arc::new(SnapshotPosition::new(log, groups)),
            Arc::new(PositionAt::default()),
            Arc::new(History::default()),
        ],
    }
}

/// A reader of the feed gets every row of a projection that is filled meanwhile, each in the entry of
/// what it is made of, and nothing when nothing of it changes.
#[test]
fn projections_are_in_the_feed_as_tables() {
    let (node, _) = node();
    let mut a = node.client("a");
    node.client("postgres").ok("CREATE ROLE b LOGIN");
    a.ok("CREATE TABLE own (id int PRIMARY KEY, n int, secret text)");
    a.ok("INSERT INTO own SELECT i, i, 's' FROM generate_series(1, 300) i");
    a.ok("GRANT READ ON t_* TO b");
    let mut b = node.client("b");
    let read = |b: &mut super::Client, after: &str| {
        b.rows(&format!(
            "SELECT op, key->>'id', new, old FROM freehold.feed WHERE position > '{after}' \
             AND table_name = 't_v2' AND op <> 'progress' ORDER BY position, seq"
        ))
    };
    let newest = |a: &mut super::Client| a.rows("SELECT max(position) FROM freehold.feed");
    let start = newest(&mut a);
    a.ok("CREATE MATERIALIZED VIEW public.t_v2 AS SELECT id, n * 2 AS m FROM own WHERE n < 290");
    let filled = read(&mut b, &start);
    let lines: Vec<&str> = filled.lines().collect();
    assert!(lines[0].starts_with("ddl|"), "{}", lines[0]);
    let made = "SELECT event_type FROM freehold.feed WHERE op = 'ddl' AND table_name = 't_v2'";
    assert_eq!(b.rows(made), "CREATE MATERIALIZED VIEW");
    let inserts: Vec<String> = (1..290)
        .map(|i| format!("insert|{i}|{{\"m\": {}, \"id\": {i}}}|NULL", 2 * i))
        .collect();
    assert_eq!(lines[1..], inserts);
    let filled = newest(&mut a);
    a.ok("UPDATE own SET secret = 't'");
    assert_eq!(read(&mut b, &filled), "");
    a.ok("UPDATE own SET n = 7 WHERE id = 1");
    a.ok("UPDATE own SET n = 1 WHERE id = 299");
    a.ok("UPDATE own SET id = 1000 WHERE id = 2");
    a.ok("DELETE FROM own WHERE id >= 3 AND id <= 4");
    a.ok("DELETE FROM own WHERE id = 298");
    a.ok("BEGIN; INSERT INTO own VALUES (5000, 1); DELETE FROM own WHERE id = 5000; COMMIT");
    assert_eq!(
        read(&mut b, &filled),
        "update|1|{\"m\": 14, \"id\": 1}|{\"m\": 2, \"id\": 1}\n\
         insert|299|{\"m\": 2, \"id\": 299}|NULL\n\
         delete|2|NULL|{\"m\": 4, \"id\": 2}\n\
         insert|1000|{\"m\": 4, \"id\": 1000}|NULL\n\
         delete|3|NULL|{\"m\": 6, \"id\": 3}\n\
         delete|4|NULL|{\"m\": 8, \"id\": 4}"
    );
    // Each is in the entry of the row that it is made of.
    assert_eq!(
        a.rows(&format!(
            "SELECT count(*) FROM freehold.feed v WHERE position > '{filled}' AND table_name = \
             't_v2' AND NOT EXISTS (SELECT 1 FROM freehold.feed o WHERE o.position = \
             v.position AND o.table_name = 'own')"
        )),
        "0"
    );
}
