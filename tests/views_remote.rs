//! Views over private tables, read at a node that has no replica of their owner: what the view gives
//! travels, and nothing else of the tables.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, command, eventually};

use crate::follow::{LAST, apart, await_copy, contains, create};

/// What the views leave out: a column, and a column of the rows that they don't show.
const COLUMN: &str = "canary-of-a-column-left-out";
const ROW: &str = "canary-of-a-row-left-out";

/// `orders` has a private table with views over it for `billing`, and for a role without tables.
fn shown() -> Cluster {
    let cluster = apart();
    create(
        &cluster,
        "orders",
        "private (id int PRIMARY KEY, n int, label text, kept_back text)",
    );
    let rows = format!(
        "INSERT INTO private SELECT g, g * 10, CASE WHEN g <= 100 THEN 'label ' || g ELSE '{ROW}' END, \
         '{COLUMN}' FROM generate_series(1, 200) g ON CONFLICT DO NOTHING"
    );
    cluster.settle(1, "orders", &rows);
    cluster.ok(1, SUPERUSER, "CREATE ROLE guest LOGIN");
    for (view, query) in [
        ("shown", "SELECT id, n, label FROM private WHERE id <= 100"),
        (
            "mine",
            "SELECT id FROM private WHERE label = 'label ' || length(current_user)",
        ),
        ("slow", "SELECT id, pg_sleep(30) FROM private WHERE id <= 2"),
        ("broken", "SELECT 1 / (n - n) AS n FROM private"),
    ] {
        let view = format!("CREATE OR REPLACE VIEW public.{view} AS {query}");
        cluster.settle(1, "orders", &view);
    }
    let grant =
        "GRANT SELECT ON public.shown, public.mine, public.slow, public.broken TO billing, guest";
    cluster.settle(1, "orders", grant);
    cluster.settle(
        LAST,
        "billing",
        "INSERT INTO own VALUES (1), (2), (150) ON CONFLICT DO NOTHING",
    );
    let count = |user| cluster.ask(LAST, user, "SELECT count(*) FROM public.shown");
    for user in ["billing", "guest"] {
        cluster.until(|| match count(user)? {
            found if found == ["100"] => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
    cluster
}

/// What `freehold dump` says of a stopped node's folder.
fn dump(data: &Path, arguments: &[&str]) -> String {
    let mut dump = command();
    let output = dump
        .arg("dump")
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_a_view_gives_travels_and_nothing_else() {
    let mut cluster = shown();
    for (query, expected) in [
        (
            "SELECT n, label FROM public.shown WHERE id = 7",
            &["70|label 7"][..],
        ),
        (
            "SELECT id FROM public.shown WHERE n > 980 ORDER BY id DESC",
            &["100", "99"],
        ),
        (
            "SELECT count(*), sum(n), max(label) FROM public.shown",
            &["100|50500|label 99"],
        ),
        (
            "SELECT count(*) FROM public.shown WHERE label = 'label 5'",
            &["1"],
        ),
        ("SELECT id FROM public.mine", &["7"]),
        (
            "SELECT own.id, s.n FROM own LEFT JOIN public.shown s USING (id) ORDER BY 1",
            &["1|10", "2|20", "150|NULL"],
        ),
        (
            "SELECT id, (SELECT label FROM public.shown s WHERE s.id = own.id) FROM own ORDER BY 1",
            &["1|label 1", "2|label 2", "150|NULL"],
        ),
        (
            "SELECT o.id, s.n FROM public.order_v1 o JOIN public.shown s USING (id)",
            &["1|10"],
        ),
        (
            "WITH w AS (SELECT id % 10 AS d, count(*) AS c FROM public.shown GROUP BY 1) \
             SELECT count(*), sum(c) FROM w",
            &["10|100"],
        ),
    ] {
        assert_eq!(cluster.ok(LAST, "billing", query), expected, "{query}");
        assert_eq!(
            cluster.ok(1, "billing", query),
            expected,
            "{query}, elsewhere"
        );
    }
    let added = "INSERT INTO own SELECT id + 1000 FROM public.shown WHERE id >= 99";
    cluster.ok(LAST, "billing", added);
    assert_eq!(
        cluster.ok(LAST, "billing", "SELECT count(*) FROM own"),
        ["5"]
    );
    let taken = "CREATE TABLE taken AS SELECT id, n FROM public.shown WHERE id < 5";
    cluster.ok(LAST, "billing", taken);
    assert_eq!(
        cluster.ok(LAST, "billing", "SELECT sum(n) FROM taken"),
        ["100"]
    );
    assert_eq!(
        cluster.ok(LAST, "guest", "SELECT id FROM public.mine"),
        ["5"]
    );
    let failed = cluster
        .ask(LAST, "billing", "SELECT * FROM public.broken")
        .unwrap_err();
    assert!(
        failed.contains("22012") && !failed.contains("private"),
        "{failed}"
    );
    for hidden in ["private", "orders.private", "secret"] {
        let read = format!("SELECT * FROM {hidden}");
        let refused = cluster.ask(LAST, "billing", &read).unwrap_err();
        assert!(refused.contains("42P01"), "{refused}");
    }

    // Of the owner's tables only what `billing` may read itself has come.
    await_copy(&cluster, LAST, "orders", "following|{public.order_v1}");
    cluster.node(LAST).restart();
    cluster.until(|| cluster.ask(LAST, "billing", "SELECT count(*) FROM public.shown"));
    await_copy(&cluster, LAST, "orders", "following|{}");
    cluster.node(LAST).signal(Signal::TERM);
    cluster.node(LAST).wait();
    let (there, here) = (cluster.node(1).data(), cluster.node(LAST).data());
    for canary in [COLUMN, ROW] {
        assert!(contains(&there, canary), "{canary}");
        assert!(!contains(&here, canary), "{canary}");
    }
    for what in [&["tables", "--rows"][..], &["journal"]] {
        let said = dump(&here, what);
        assert!(!said.contains(COLUMN) && !said.contains(ROW), "{what:?}");
    }
    cluster.node(LAST).start_again();
}

#[test]
fn a_view_of_another_node_is_read_as_the_owner_has_left_it() {
    let cluster = shown();
    let read = "SELECT n FROM public.shown WHERE id = 1";
    let mut block = cluster.open(LAST, "guest").unwrap();
    block.ok("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
    assert_eq!(block.rows(read), ["10"]);
    for n in [1000, 2000, 3000] {
        let mut owner = cluster.open(1, "orders").unwrap();
        owner.ok(&format!("UPDATE private SET n = {n} WHERE id = 1"));
        let token = owner.value("SHOW freehold.token");
        for user in ["billing", "guest"] {
            let mut reader = cluster.open(LAST, user).unwrap();
            reader.ok(&format!("SET freehold.token = '{token}'"));
            assert_eq!(reader.rows(read), [n.to_string()], "{user} sees its write");
        }
        assert_eq!(block.rows(read), ["10"], "its snapshot is kept");
        assert_eq!(block.rows("SELECT sum(n) FROM public.shown"), ["50500"]);
    }
    block.ok("COMMIT");
    assert_eq!(block.rows(read), ["3000"]);
}

#[test]
fn a_view_of_another_node_ends_with_its_grant() {
    let cluster = shown();
    let read = "SELECT count(*) FROM public.shown";
    for user in ["billing", "guest"] {
        assert_eq!(cluster.ok(LAST, user, read), ["100"]);
        cluster.until(|| {
            cluster.ask(
                1,
                "orders",
                &format!("GRANT SELECT ON public.shown TO {user}"),
            )?;
            let revoke = format!("REVOKE SELECT ON public.shown FROM {user}");
            cluster.ask(1, "orders", &revoke).map(drop)
        });
        let refused = cluster.ask(LAST, user, read).unwrap_err();
        assert!(
            refused.contains("42P01") || refused.contains("42501"),
            "{refused}"
        );
    }
}

#[test]
fn whoever_reads_a_view_of_another_node_can_be_stopped() {
    let cluster = shown();
    let begun = Instant::now();
    let timed = "SET statement_timeout = '300ms'; SELECT * FROM public.slow";
    let told = cluster.ask(LAST, "guest", timed).unwrap_err();
    assert!(told.contains("57014"), "{told}");
    let mut reader = cluster.open(LAST, "guest").unwrap();
    reader.send("SELECT * FROM public.slow");
    let at_work =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'guest' AND state = 'active'";
    let sources = || (1..LAST).map(|node| cluster.ok(node, SUPERUSER, at_work)[0].clone());
    eventually("a node evaluates it", || sources().any(|n| n != "0"));
    reader.cancel();
    let answers = reader.answers_within(Duration::from_secs(20)).unwrap();
    assert_eq!(answers.expect("an answer")[0].sqlstate(), "57014");
    eventually("nobody evaluates it any more", || {
        sources().all(|n| n == "0")
    });
    assert!(
        begun.elapsed() < Duration::from_secs(29),
        "it has not slept to its end"
    );
}

#[test]
fn a_view_is_read_from_whoever_has_its_owner() {
    let mut cluster = shown();
    let read = "SELECT sum(n) FROM public.shown";
    for node in 1..LAST {
        cluster.node(node).kill();
        cluster.until(|| match cluster.ask(LAST, "guest", read)? {
            found if found == ["50500"] => Ok(()),
            found => panic!("{found:?} without node {node}"),
        });
        cluster.node(node).start_again();
    }
}

/// Where nobody holds both owners' private tables nothing is evaluated, and nothing copied.
#[test]
fn private_tables_of_two_owners_are_joined_where_both_are() {
    let cluster = shown();
    cluster.settle(1, "orders", "GRANT USAGE ON SCHEMA orders TO billing");
    cluster.settle(1, "orders", "GRANT SELECT ON orders.private TO billing");
    let view = "CREATE OR REPLACE VIEW public.both AS \
                SELECT p.id, p.n FROM own JOIN orders.private p USING (id)";
    cluster.settle(LAST, "billing", view);
    cluster.settle(LAST, "billing", "GRANT SELECT ON public.both TO guest");
    let read = "SELECT * FROM public.both ORDER BY 1";
    // A node of `billing` may have what `billing` may read; others may not.
    cluster.until(|| match cluster.ask(LAST, "guest", read)? {
        found if found == ["1|10", "2|20", "150|1500"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    cluster.until(|| match cluster.ask(1, "guest", read) {
        Err(why) if why.contains("0A000") && !why.contains("private") => Ok(()),
        found => Err(format!("{found:?}")),
    });
}
