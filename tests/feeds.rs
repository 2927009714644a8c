//! The feed over owners of which a node has no log: the same on every node, whoever gives it, and
//! nothing of it that the reader may not have.

use std::time::Duration;

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, Session, eventually};

use crate::http::Scrape;

const OWNER: &[&str] = &["--locality=region=owner"];
const OTHER: &[&str] = &["--locality=region=other"];
const PLACES: &[&[&str]] = &[OWNER, OWNER, OWNER, OTHER];
/// The last node: it has no log of `orders` and `stock`, and the only one of `billing`.
const LAST: usize = 4;
/// All that is asked for and may be read.
const TABLES: &str = "tables => ARRAY['order_*', 'stock_*', 'bill_*']";
/// What a row is, its place in the order first.
const COLUMNS: &str = "position, tx, seq, last_in_tx, owner, table_name, op, key, new, old, \
                       event_type, event, role, application_name, trace";
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than an owner of which nobody knows that it is asked for is waited for.
const LOST_FOR: Duration = Duration::from_secs(15);

/// `orders` and `stock` stand on nodes 1 to 3, `billing` on the last one. `audit` owns nothing, so
/// that its sessions run where they are connected.
fn apart(cluster: Cluster) -> Cluster {
    for role in ["orders", "stock", "billing", "audit"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for (owner, table) in [("orders", "order"), ("stock", "stock"), ("billing", "bill")] {
        let create =
            format!("CREATE TABLE IF NOT EXISTS public.{table}_v1 (id int PRIMARY KEY, t text)");
        cluster.settle(1, owner, &create);
        cluster.settle(1, owner, &format!("GRANT READ ON {table}_* TO audit"));
    }
    cluster.pin(1, "orders", "owner", 3);
    cluster.pin(1, "stock", "owner", 3);
    cluster.pin(LAST, "billing", "other", 1);
    // Whoever reads follows what it has no replica of.
    for (node, copies) in [
        (1, "{billing}"),
        (2, "{billing}"),
        (3, "{billing}"),
        (LAST, "{orders,stock}"),
    ] {
        let query = "SELECT array_agg(owner ORDER BY owner) FROM freehold.followers \
                     WHERE phase = 'following' AND node = (SELECT node FROM freehold.nodes WHERE is_self)";
        cluster.until(|| match cluster.ask(node, SUPERUSER, query)? {
            found if found == [copies] => Ok(()),
            found => Err(format!("{found:?} at node {node}")),
        });
    }
    cluster
}

fn put(cluster: &Cluster, owner: &str, id: u32) {
    let table = match owner {
        "orders" => "order_v1",
        "stock" => "stock_v1",
        _ => "bill_v1",
    };
    let insert = format!("INSERT INTO public.{table} VALUES ({id}, 'x') ON CONFLICT DO NOTHING");
    cluster.settle(1, owner, &insert);
}

/// Everything that a feed can show, of all three.
fn write(cluster: &Cluster) -> String {
    // From here on every replica has all of it, also one that has begun with a copy.
    let from = cluster.settle(1, "audit", "SELECT freehold.snapshot_position()");
    for turn in 0..8 {
        for owner in ["orders", "stock", "billing"] {
            put(cluster, owner, turn);
        }
    }
    cluster.settle(
        1,
        "orders",
        "UPDATE public.order_v1 SET t = 'new' WHERE id < 3",
    );
    cluster.settle(1, "stock", "DELETE FROM public.stock_v1 WHERE id = 1");
    cluster.settle(
        1,
        "stock",
        "SELECT pg_logical_emit_message(true, 'sold', '{\"n\": 1}')",
    );
    cluster.settle(
        1,
        "orders",
        "ALTER TABLE public.order_v1 ADD COLUMN IF NOT EXISTS more int",
    );
    // One that is journaled in parts, while others go on.
    let large = "INSERT INTO public.order_v1 SELECT g, repeat('large', 200) \
                 FROM generate_series(1000, 4999) g ON CONFLICT DO NOTHING";
    cluster.settle(1, "orders", large);
    put(cluster, "billing", 100);
    put(cluster, "stock", 100);
    from[0].clone()
}

/// The last row of what [`write`] leaves, whoever reads.
fn end(owner: &str, id: u32) -> impl Fn(&[String]) -> bool {
    let (owner, key) = (format!("|{owner}|"), format!("|insert|{{\"id\": {id}}}|"));
    move |rows: &[String]| {
        let mut rows = rows.iter();
        rows.any(|row| row.contains(&owner) && row.contains(&key))
    }
}

fn ask_page(after: &str, rows_max: u32) -> String {
    format!(
        "SELECT {COLUMNS} FROM freehold.changes(after => '{after}', {TABLES}, \
         max_rows => {rows_max}, wait => '10s')"
    )
}

fn position(row: &str) -> &str {
    row.split('|').next().unwrap()
}

/// Reads page by page, each at the next of the nodes, until the end is there. No page comes twice.
fn pages(
    cluster: &Cluster,
    nodes: &[usize],
    from: &str,
    rows_max: u32,
    ended: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), from.to_owned());
    for node in nodes.iter().cycle() {
        let ask = ask_page(&after, rows_max);
        let page = cluster.until(|| cluster.ask(*node, "audit", &ask));
        if let Some(last) = page.last() {
            after = position(last).to_owned();
        }
        let ends = ended(&page);
        all.extend(page.into_iter().filter(|row| !row.contains("|progress|")));
        if ends {
            break;
        }
    }
    all
}

/// In order, each once, and no transaction split.
fn check_order(rows: &[String]) {
    let place = |row: &String| {
        let fields: Vec<&str> = row.split('|').collect();
        let (high, low) = fields[0].split_once('/').unwrap();
        let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
        let seq: u32 = fields[2].parse().unwrap();
        (hex(high) << 32 | hex(low), fields[4].to_owned(), seq)
    };
    for pair in rows.windows(2) {
        let (first, second) = (place(&pair[0]), place(&pair[1]));
        let owners = (first.0 == second.0 && first.1 != second.1).then_some(());
        assert!(owners.is_some() || first < second, "{pair:?}");
    }
}

#[test]
fn the_feed_is_the_same_on_every_node_and_for_a_cursor_that_wanders() {
    let cluster = apart(Cluster::start_each(PLACES));
    let from = write(&cluster);
    let first = pages(&cluster, &[1], &from, 7, end("stock", 100));
    check_order(&first);
    for what in ["|update|", "|delete|", "|event|", "|ddl|"] {
        assert!(first.iter().any(|row| row.contains(what)), "{what}");
    }
    let count = |owner: &str| {
        let owner = format!("|{owner}|");
        first.iter().filter(|row| row.contains(&owner)).count()
    };
    assert!(count("orders") > 4000 && count("stock") > 8 && count("billing") > 8);
    for nodes in [&[2][..], &[3], &[LAST], &[LAST, 1, 3, 2]] {
        for rows_max in [7, 1_000_000] {
            let other = pages(&cluster, nodes, &from, rows_max, end("stock", 100));
            assert_eq!(other, first, "at {nodes:?}, {rows_max}");
        }
    }
    let feed = format!(
        "SELECT {COLUMNS} FROM freehold.feed WHERE position > '{from}' AND position <= '{}' ORDER BY position, owner, seq",
        position(first.last().unwrap())
    );
    let at_home = cluster.settle(1, "audit", &feed);
    assert!(at_home.len() >= first.len());
    for node in [2, 3, LAST] {
        cluster.until(|| match cluster.ask(node, "audit", &feed)? {
            there if there.len() >= at_home.len() => {
                assert!(there == at_home, "at node {node}");
                Ok(())
            }
            // It is not closed that far yet: what is there is the beginning.
            there => {
                assert!(at_home.starts_with(&there), "at node {node}");
                Err(format!("{} rows", there.len()))
            }
        });
    }
}

/// A replica that is made of a snapshot has no log of what came before. Who begins without a cursor
/// begins there where the cluster has it, whichever node is asked.
#[test]
fn the_feed_begins_where_the_cluster_has_it_and_not_where_a_late_replica_does() {
    const FIRST: &[&str] = &[
        "--locality=region=first",
        "--http=127.0.0.1:0",
        "--checkpoint-timeout=1s",
    ];
    let places: &[&[&str]] = &[FIRST, OWNER, OWNER, OTHER];
    let cluster = Cluster::start_each(places);
    for role in ["orders", "audit"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    let create = "CREATE TABLE IF NOT EXISTS public.order_v1 (id int PRIMARY KEY, t text)";
    cluster.settle(1, "orders", create);
    cluster.settle(1, "orders", "GRANT READ ON order_* TO audit");
    cluster.pin(1, "orders", "first", 1);
    (0..20).for_each(|id| put(&cluster, "orders", id));
    // After the next checkpoint that begins the other replicas get a snapshot, and no log.
    let checkpoints = || Scrape::of(cluster.program(1).http()).value("freehold_checkpoints_total");
    let before = checkpoints();
    eventually("the log is short", || checkpoints() >= before + 2.0);
    let more = "SELECT freehold.alter_owner('orders', 3, ARRAY['first', 'owner'])";
    cluster.ok(1, SUPERUSER, more);
    let voters = "SELECT count(*) FROM freehold.replicas WHERE owner = 'orders' AND voter";
    cluster.until(|| match cluster.ask(1, SUPERUSER, voters)? {
        found if found == ["3"] => Ok(()),
        found => Err(format!("{found:?} voters")),
    });
    for late in [2, 3] {
        let log = cluster.program(late).log();
        assert!(log.contains("a snapshot is installed"), "{log}");
    }
    put(&cluster, "orders", 100);
    let all = format!("SELECT {COLUMNS} FROM freehold.changes(tables => ARRAY['order_v1'])");
    let keys =
        "SELECT key->>'id' FROM freehold.changes(tables => ARRAY['order_v1']) WHERE op = 'insert'";
    let written: Vec<String> = (0..20).chain([100]).map(|id| id.to_string()).collect();
    assert_eq!(cluster.settle(1, "audit", keys), written);
    let first = cluster.settle(1, "audit", &all);
    for node in [2, 3, LAST] {
        cluster.until(|| match cluster.ask(node, "audit", &all)? {
            there if there.len() >= first.len() => {
                assert_eq!(there, first, "at node {node}");
                Ok(())
            }
            // It is not closed that far yet: what is there is the beginning.
            there => {
                assert!(first.starts_with(&there), "at node {node}: {there:?}");
                Err(format!("{} rows", there.len()))
            }
        });
    }
}

/// A session that reads a long page bit by bit.
struct Slow {
    session: Session,
    rows: Vec<String>,
}

impl Slow {
    fn begin(cluster: &Cluster, node: usize, from: &str) -> Slow {
        let mut session = cluster.open(node, "audit").unwrap();
        session.ok("BEGIN");
        session.ok(&format!(
            "DECLARE c CURSOR FOR SELECT {COLUMNS} FROM freehold.changes(after => '{from}', {TABLES})"
        ));
        let rows = Vec::new();
        Slow { session, rows }
    }

    fn fetch(&mut self, count: usize) -> bool {
        let rows = self.session.rows(&format!("FETCH {count} FROM c"));
        self.rows.extend_from_slice(&rows);
        rows.len() == count
    }
}

#[test]
fn whoever_gives_it_falls_and_no_row_is_missing_or_comes_twice() {
    let mut cluster = apart(Cluster::start_each(PLACES));
    let from = write(&cluster);
    // More than is under way between two nodes at any time.
    for turn in 0..12 {
        let from = 10_000 + turn * 1000;
        let rows = format!(
            "INSERT INTO public.stock_v1 SELECT g, repeat('much', 200) \
             FROM generate_series({from}, {from} + 999) g ON CONFLICT DO NOTHING"
        );
        cluster.settle(1, "stock", &rows);
    }
    put(&cluster, "stock", 200);
    let all = pages(&cluster, &[1], &from, 100_000, end("stock", 200));
    let mut slow = Slow::begin(&cluster, LAST, &from);
    assert!(slow.fetch(100));
    // Whichever it reads from: within a large transaction, and between transactions.
    for (at, node) in [1, 2, 3, 1].into_iter().enumerate() {
        match at {
            // One that is stopped looks like one that is slow, until it says nothing for long.
            3 => cluster.program(node).signal(Signal::STOP),
            _ => cluster.node(node).kill(),
        }
        assert!(slow.fetch(3000), "{at}");
        match at {
            3 => cluster.program(node).signal(Signal::CONT),
            _ => cluster.node(node).start_again(),
        }
        await_reader(&cluster, node);
    }
    while slow.fetch(5000) {}
    assert_eq!(slow.rows.len(), all.len());
    assert!(slow.rows == all);
}

/// A node that has come back knows what the others know.
fn await_reader(cluster: &Cluster, node: usize) {
    cluster.until(|| cluster.ask(node, "audit", "SELECT count(*) FROM public.stock_v1"));
}

#[test]
fn an_idle_owner_is_closed_where_it_is_and_a_wait_ends_with_the_commit() {
    let cluster = apart(Cluster::start_each(PLACES));
    let mut after = cluster.ok(LAST, "audit", "SELECT freehold.snapshot_position()")[0].clone();
    let mut reader = cluster.open(LAST, "audit").unwrap();
    // Two of the three have nothing to say, in turn.
    for (id, owner) in [(1, "orders"), (2, "stock"), (3, "billing"), (4, "orders")] {
        let row = format!("|{owner}|insert|{id}");
        let mut written = false;
        let mut found = false;
        while !found {
            reader.send(&format!(
                "SELECT position, owner, op, key->>'id' FROM freehold.changes(after => '{after}', \
                 {TABLES}, wait => '10 min')"
            ));
            if !std::mem::replace(&mut written, true) {
                put(&cluster, owner, id);
            }
            let answers = reader.answers_within(PATIENCE).unwrap();
            let answers = answers.expect("the commit ends the wait");
            // Before it there may be what has made the tables.
            let lines = answers[0].lines();
            found = lines.iter().any(|line| line.ends_with(&row));
            assert!(
                found || lines.iter().all(|line| line.contains("|ddl|")),
                "{lines:?}"
            );
            after = position(lines.last().expect("a row")).to_owned();
        }
    }
}

#[test]
fn a_snapshot_and_the_changes_after_it_are_everything_once_where_all_is_elsewhere() {
    let cluster = apart(Cluster::start_each(PLACES));
    let tables = "SELECT 'orders', id FROM public.order_v1 UNION ALL \
                  SELECT 'stock', id FROM public.stock_v1";
    // What is only read comes to the node now.
    cluster.until(|| cluster.ask(LAST, "audit", tables));
    let mut reader = cluster.open(LAST, "audit").unwrap();
    let mut last = 0;
    // Of three owners one writes; the others are closed by nothing but the question.
    for id in 1..=12 {
        put(&cluster, "orders", id);
        reader.ok("BEGIN ISOLATION LEVEL REPEATABLE READ");
        let at = reader.value("SELECT freehold.snapshot_position()");
        let before = reader.rows(tables);
        reader.ok("COMMIT");
        assert!(before.len() >= last, "{at}: {before:?}, {last} before");
        last = before.len();
        put(&cluster, "stock", 100 + id);
        let expected = 2 * id as usize;
        let mut after = Vec::new();
        // The place where one goes on is the last row's.
        let mut from = at.clone();
        while before.len() + after.len() < expected {
            let page = reader.rows(&format!(
                "SELECT position, owner, key->>'id', op FROM freehold.changes(after => '{from}', \
                 tables => ARRAY['order_*', 'stock_*'], wait => '10s')"
            ));
            from = position(page.last().expect("a row")).to_owned();
            let rows = page.iter().filter_map(|row| {
                let (_, row) = row.split_once('|')?;
                row.strip_suffix("|insert").map(str::to_owned)
            });
            after.extend(rows);
        }
        let mut seen: Vec<&String> = before.iter().chain(&after).collect();
        assert_eq!(seen.len(), expected, "at {at}: {before:?} {after:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), expected, "no overlap at {at}");
    }
    // It has moved along with the one that writes, whatever the idle ones do.
    let now = "SELECT freehold.snapshot_position() >= (SELECT max(position) FROM freehold.feed)";
    cluster.until(|| match cluster.ask(LAST, "audit", now)? {
        moved if moved == ["t"] => Ok(()),
        moved => Err(format!("{moved:?}")),
    });
}

#[test]
fn an_owner_that_is_away_is_named_and_others_go_on() {
    let mut cluster = apart(Cluster::start_each(PLACES));
    let from = write(&cluster);
    // Of whom a node has never heard it does not know what may be read.
    let whole = |node| pages(&cluster, &[node], &from, 100_000, end("stock", 100));
    let all = whole(1);
    assert_eq!([whole(2), whole(3)], [all.clone(), all.clone()]);
    cluster.node(LAST).kill();
    put(&cluster, "orders", 300);
    // All that was ever read of it is known to be closed no further than this.
    let after = position(all.last().unwrap()).to_owned();
    let page =
        format!("SELECT position, op, event FROM freehold.changes(after => '{after}', {TABLES})");
    for node in 1..=3 {
        let told = cluster.until(|| match cluster.ask(node, "audit", &page)? {
            told if told.len() == 1 && told[0].contains("billing") => Ok(told),
            told => Err(format!("{told:?}")),
        });
        let fields: Vec<&str> = told[0].splitn(3, '|').collect();
        assert_eq!(fields[1], "progress");
        assert!(fields[2].contains("\"orders\": \""), "{told:?}");
        assert!(fields[0] >= &after[..], "{told:?}");
        // Its entries are nowhere else.
        let oldest = cluster.ask(
            node,
            "audit",
            &format!("SELECT count(*) FROM freehold.changes({TABLES})"),
        );
        let why = oldest.unwrap_err();
        assert!(why.contains("OW003") && why.contains("billing"), "{why}");
        // Who drops it goes on.
        let orders = format!(
            "SELECT op, key->>'id' FROM freehold.changes(after => '{after}', \
             tables => ARRAY['public.order_v1', 'public.stock_v1'], wait => '10s')"
        );
        cluster.until(|| match cluster.ask(node, "audit", &orders)? {
            found if found == ["insert|300"] => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
    cluster.node(LAST).start_again();
    put(&cluster, "billing", 300);
    let whole = pages(&cluster, &[1, 2, 3], &from, 50, end("billing", 300));
    assert_eq!(whole[..all.len()], all);
    assert_eq!(
        pages(&cluster, &[LAST], &from, 50, end("billing", 300)),
        whole
    );
}

/// `billing` has a table that is asked for and may not be read; what it does about that is not heard.
#[test]
fn an_owner_that_is_asked_for_is_not_passed_over_while_it_is_not_heard() {
    let cluster = apart(Cluster::start_tapped(PLACES));
    let made = "CREATE TABLE IF NOT EXISTS public.late_v1 (id int PRIMARY KEY)";
    cluster.settle(LAST, "billing", made);
    let known = "SELECT count(*) FROM pg_class WHERE relname = 'late_v1'";
    cluster.until(|| match cluster.ask(1, SUPERUSER, known)? {
        found if found == ["1"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let mut after = cluster.settle(1, "audit", "SELECT freehold.snapshot_position()")[0].clone();
    let mut given = Vec::new();
    let mut page = || {
        let rows = format!(
            "SELECT position, table_name, key->>'id' FROM freehold.changes(after => '{after}', \
             tables => ARRAY['order_*', 'late_*'])"
        );
        let rows = cluster.ask(1, "audit", &rows)?;
        if let Some(last) = rows.last() {
            after = position(last).to_owned();
        }
        let told = |row: &String| row.split_once('|').map(|(_, row)| row.to_owned());
        given.extend(
            rows.iter()
                .filter_map(told)
                .filter(|row| row.contains("_v1|")),
        );
        Ok::<_, String>(given.clone())
    };
    cluster.tap(LAST).hold(cluster.tap(1).port());
    cluster.settle(LAST, "billing", "GRANT READ ON late_v1 TO audit");
    let row = "INSERT INTO public.late_v1 VALUES (1) ON CONFLICT DO NOTHING";
    cluster.settle(LAST, "billing", row);
    put(&cluster, "orders", 500);
    let begun = std::time::Instant::now();
    while begun.elapsed() < LOST_FOR {
        // It may say that it can't go on.
        if let Ok(given) = page() {
            assert!(given.is_empty(), "{given:?}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.tap(LAST).release();
    let given = cluster.until(|| match page()? {
        given if given.iter().any(|row| row.starts_with("order_v1")) => Ok(given),
        given => Err(format!("{given:?}")),
    });
    // Made readable by the same owner's entry, so the change of the schema comes before it.
    let inserted: Vec<_> = given.iter().filter(|row| !row.ends_with("|NULL")).collect();
    assert_eq!(inserted, ["late_v1|1", "order_v1|500"]);
}

#[test]
fn what_is_revoked_ends_a_stream_elsewhere_too() {
    let cluster = apart(Cluster::start_each(PLACES));
    let mut reader = cluster.open(LAST, "audit").unwrap();
    let after = cluster.ok(LAST, "audit", "SELECT freehold.snapshot_position()")[0].clone();
    reader.send(&format!(
        "COPY (SELECT owner, key->>'id' FROM freehold.changes(after => '{after}', \
         {TABLES}, wait => 'infinity') WHERE op = 'insert') TO STDOUT"
    ));
    put(&cluster, "orders", 1);
    let given = |session: &Session, line: &str| session.so_far().text().contains(line);
    let heard = reader.listen(PATIENCE, |session| given(session, "orders\t1"));
    assert!(heard, "the stream has begun");
    cluster.settle(1, "orders", "REVOKE READ ON order_* FROM audit");
    put(&cluster, "orders", 2);
    let answers = reader.answers_within(PATIENCE).unwrap().expect("it ends");
    assert_eq!(answers[0].sqlstate(), "42501");
    assert!(!answers[0].text().contains("orders\t2"));
    // And nothing of it is shown to who asks anew.
    let again = format!("SELECT owner FROM freehold.changes({TABLES}) WHERE owner = 'orders'");
    assert_eq!(cluster.ok(LAST, "audit", &again), [""; 0]);
}

#[test]
fn what_may_not_be_read_leaves_no_node() {
    const SHOWN: &str = "a-note-that-may-be-read";
    const PRIVATE: &str = "canary-in-a-private-table";
    const UNGRANTED: &str = "canary-in-public";
    const EVENT: &str = "canary-in-an-event";
    let cluster = apart(Cluster::start_tapped(PLACES));
    let after = cluster.ok(LAST, "audit", "SELECT freehold.snapshot_position()")[0].clone();
    cluster.settle(
        1,
        "orders",
        "CREATE TABLE IF NOT EXISTS secret (id int PRIMARY KEY, t text)",
    );
    let ungranted = "CREATE TABLE IF NOT EXISTS public.other_v1 (id int PRIMARY KEY, t text)";
    cluster.settle(1, "orders", ungranted);
    // One transaction has all of it.
    cluster.settle(
        1,
        "orders",
        &format!(
            "INSERT INTO secret VALUES (1, '{PRIVATE}') ON CONFLICT DO NOTHING; \
             INSERT INTO public.other_v1 VALUES (1, '{UNGRANTED}') ON CONFLICT DO NOTHING; \
             INSERT INTO public.order_v1 VALUES (1, '{SHOWN}') ON CONFLICT DO NOTHING"
        ),
    );
    // An event that names no table is for who may read a table of its owner's.
    cluster.settle(
        1,
        "stock",
        &format!(
            "REVOKE READ ON stock_* FROM audit; \
             SELECT pg_logical_emit_message(true, 'sold', '{EVENT}')"
        ),
    );
    let everything = format!(
        "SELECT new->>'t' FROM freehold.changes(after => '{after}', wait => '10s') \
         WHERE op = 'insert'"
    );
    cluster.until(|| match cluster.ask(LAST, "audit", &everything)? {
        found if found == [SHOWN] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let rows = format!("SELECT * FROM freehold.changes(after => '{after}')");
    let shown = cluster.ok(LAST, "audit", &rows).join("\n");
    // What can be seen is seen: replicas get all of it from whoever leads.
    for canary in [PRIVATE, UNGRANTED, EVENT] {
        assert!((1..=3).any(|node| has_got(&cluster, node, canary)));
        assert!(!has_got(&cluster, LAST, canary), "{canary}");
        assert!(!shown.contains(canary), "{shown}");
    }
    assert!(has_got(&cluster, LAST, SHOWN));
}

/// Has a node got a text from another one, whoever has called whom?
fn has_got(cluster: &Cluster, node: usize, text: &str) -> bool {
    let me = cluster.tap(node).port();
    let said = |other: usize| cluster.tap(other).has_said(text, me);
    cluster.tap(node).was_told(text) || (1..=LAST).any(said)
}
