//! What is erased is nowhere: canaries are looked for in all files of all nodes, before and after.

use std::path::Path;

use tests::{Cluster, Program, SUPERUSER, Security, until};

use crate::check::{freehold, said};
use crate::follow::{LAST, apart, await_copy};

/// In a value, in a value before that one, in a key, and in what stays.
const VALUE: &str = "canary-of-a-value";
const BEFORE: &str = "canary-of-an-older-value";
const KEY: &str = "canary-of-a-key";
const STAYS: &str = "neighbour-that-stays";

/// Files below a folder that have a text in them.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        match path.is_dir() {
            true => found.extend(files_with(&path, text)),
            // One that goes meanwhile has nothing.
            false if std::fs::read(&path).is_ok_and(has) => found.push(path.display().to_string()),
            false => {}
        }
    }
    found
}

/// All entries of the journal of a node that has ended, as the program reads them.
fn dump(data: &Path) -> String {
    said(&freehold(&["dump", "journal", "--changes"], data))
}

/// `Err` while one of the canaries is anywhere below the folders.
fn nowhere(folders: &[std::path::PathBuf], canaries: &[&str]) -> Result<(), String> {
    for canary in canaries {
        for folder in folders {
            let found = files_with(folder, canary);
            if !found.is_empty() {
                return Err(format!("{canary} is in {found:?}"));
            }
        }
    }
    Ok(())
}

const MAKE: &str = "CREATE TABLE public.person_v1 (id text PRIMARY KEY, note text);
     CREATE INDEX ON public.person_v1 (note);
     CREATE INDEX ON public.person_v1 (lower(note)) WHERE note LIKE 'canary-of-an%'";

fn fill() -> Vec<String> {
    vec![
        format!("INSERT INTO public.person_v1 VALUES ('{KEY}', '{BEFORE}'), ('a', '{STAYS}')"),
        format!("UPDATE public.person_v1 SET note = '{VALUE}' WHERE id = '{KEY}'"),
    ]
}

#[test]
fn an_erased_row_is_in_no_file_of_a_node() {
    let mut program = Program::start();
    program.place().add_owner("people");
    let mut session = program.place().session("people");
    session.ok(MAKE);
    fill().iter().for_each(|sql| drop(session.ok(sql)));
    // Its entries are in no change of the rows.
    session.ok("CREATE INDEX ON public.person_v1 (note, id)");
    let feed = "SELECT op, key, new->>'note' FROM freehold.changes(tables => ARRAY['person_v1'])
         WHERE op NOT IN ('ddl', 'progress')";
    let before = [
        format!("insert|{{\"id\": \"{KEY}\"}}|{BEFORE}"),
        format!("insert|{{\"id\": \"a\"}}|{STAYS}"),
        format!("update|{{\"id\": \"{KEY}\"}}|{VALUE}"),
    ];
    assert_eq!(session.ok(feed).lines(), before);
    for canary in [VALUE, BEFORE, KEY] {
        assert!(
            !files_with(&program.data(), canary).is_empty(),
            "{canary} was never there"
        );
    }
    drop(session);
    program.kill();
    assert!(
        dump(&program.data()).contains(VALUE),
        "the program's own reader finds it"
    );
    program.start_again();
    let mut session = program.place().session("people");

    let verify = format!(
        "SELECT node, images > 0, rows > 0, erased
         FROM freehold.verify_erased('public.person_v1', '{{\"id\": \"{KEY}\"}}')"
    );
    assert_eq!(session.ok(&verify).lines(), ["1|t|t|f"]);
    let erase = session.ok(&format!(
        "ERASE FROM public.person_v1 WHERE id = '{KEY}' RETURNING id"
    ));
    assert_eq!(
        (erase.lines(), erase.tag()),
        (vec![KEY.to_owned()], "ERASE 1")
    );
    // The removal is seen at once, by its key alone, which goes in the end, too.
    let erased = format!("erase|{{\"id\": \"{KEY}\"}}|NULL");
    let seen = session.ok(feed).lines().pop();
    assert!(
        [Some(erased), Some("erase|NULL|NULL".into())].contains(&seen),
        "{seen:?}"
    );
    let folders = [program.data()];
    until(|| nowhere(&folders, &[VALUE, BEFORE, KEY]));
    let stays = format!("insert|{{\"id\": \"a\"}}|{STAYS}");
    until(|| match session.ok(feed).lines() {
        // That something was erased is told, and no more.
        found if found == [&stays[..], "erase|NULL|NULL"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let told = "SELECT copy, erased_at IS NOT NULL, keys_erased, reachable FROM freehold.erasures";
    until(|| match session.ok(told).lines() {
        found if found == ["replica|t|t|t"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    assert_eq!(session.ok(&verify).lines(), ["1|f|f|t"]);
    let other = "SELECT count(*) FROM freehold.erasures";
    program.place().add_owner("other");
    let mut stranger = program.place().session("other");
    assert_eq!(stranger.value(other), "0");
    assert_eq!(stranger.fail(&verify).sqlstate, "42P01");
    drop(stranger);

    drop(session);
    program.kill();
    assert!(!dump(&program.data()).contains(KEY));
    let checked = said(&freehold(&["check", "--erased"], &program.data()));
    assert!(
        checked.contains("nothing is left of removed rows"),
        "{checked}"
    );
    program.start_again();
    assert_eq!(nowhere(&folders, &[VALUE, BEFORE, KEY]), Ok(()));
    let mut session = program.place().session("people");
    assert_eq!(
        session.ok("SELECT * FROM public.person_v1").lines(),
        [format!("a|{STAYS}")]
    );
}

/// An ERASE says of the rows that it removes itself that they are erased, of no others of its transaction.
#[test]
fn a_delete_beside_an_erase_is_a_delete() {
    let program = Program::start();
    program.place().add_owner("people");
    let mut session = program.place().session("people");
    session.ok("CREATE TABLE public.a_v1 (id int PRIMARY KEY);
         CREATE TABLE public.b_v1 (id int PRIMARY KEY);
         CREATE TABLE public.c_v1 (id int PRIMARY KEY REFERENCES public.b_v1 ON DELETE CASCADE);
         INSERT INTO public.a_v1 SELECT generate_series(1, 5);
         INSERT INTO public.b_v1 SELECT generate_series(1, 2);
         INSERT INTO public.c_v1 VALUES (1)");
    let mut removed = |sql: &str| {
        let from = session.value("SELECT pg_current_wal_lsn()");
        session.ok(sql);
        let ops = format!(
            "SELECT op || ' of ' || table_name, key->>'id' FROM freehold.changes(after => '{from}')
             WHERE op IN ('delete', 'erase')"
        );
        session.ok(&ops).lines()
    };
    let gone_back_to = "BEGIN; DELETE FROM public.a_v1 WHERE id = 1; SAVEPOINT s;
         ERASE FROM public.a_v1 WHERE id = 2; ROLLBACK TO s; COMMIT";
    assert_eq!(removed(gone_back_to), ["delete of a_v1|1"]);
    let of_no_row =
        "BEGIN; DELETE FROM public.a_v1 WHERE id = 2; ERASE FROM public.b_v1 WHERE id = 9;
         COMMIT";
    assert_eq!(removed(of_no_row), ["delete of a_v1|2"]);
    let in_a_block = "DO $$ BEGIN
           DELETE FROM public.a_v1 WHERE id = 3;
           BEGIN ERASE FROM public.a_v1 WHERE id = 4; PERFORM 1 / 0;
           EXCEPTION WHEN division_by_zero THEN NULL; END;
         END $$";
    assert_eq!(removed(in_a_block), ["delete of a_v1|3"]);
    let beside = "BEGIN; DELETE FROM public.a_v1 WHERE id = 4; ERASE FROM public.b_v1 WHERE id = 1;
         COMMIT";
    let with_what_references_it = ["delete of a_v1|4", "erase of b_v1|1", "erase of c_v1|1"];
    assert_eq!(removed(beside), with_what_references_it);
    // One that has come with the transaction, and comes again.
    let again = "BEGIN; ERASE FROM public.a_v1 WHERE id = 5; INSERT INTO public.a_v1 VALUES (6);
         ERASE FROM public.a_v1 WHERE id = 6; INSERT INTO public.a_v1 VALUES (6);
         DELETE FROM public.a_v1 WHERE id = 6; COMMIT";
    assert_eq!(removed(again), ["erase of a_v1|5"]);
}

/// Everything that was deleted, too, with its bound; a row of the same key that came again stays.
#[test]
fn a_deleted_row_is_gone_within_the_bound() {
    let program = Program::start_with(Security::Trust, &["--erase-after=20s"]);
    program.place().add_owner("people");
    let mut session = program.place().session("people");
    assert_eq!(session.value("SHOW freehold.erase_after"), "20s");
    session.ok(MAKE);
    fill().iter().for_each(|sql| drop(session.ok(sql)));
    session.ok(&format!("DELETE FROM public.person_v1 WHERE id = '{KEY}'"));
    session.ok(&format!(
        "INSERT INTO public.person_v1 VALUES ('{KEY}', 'came-again')"
    ));
    session.ok("CREATE TABLE gone (t text)");
    session.ok("INSERT INTO gone VALUES ('canary-of-a-dropped-table')");
    session.ok("DROP TABLE gone");
    let folders = [program.data()];
    let canaries = [VALUE, BEFORE, "canary-of-a-dropped-table"];
    until(|| nowhere(&folders, &canaries));
    let again = format!("SELECT note FROM public.person_v1 WHERE id = '{KEY}'");
    assert_eq!(session.value(&again), "came-again");
}

/// What stood there before a TRUNCATE, or before a column became another type, is gone; what has come since is
/// in the feed as before.
#[test]
fn rows_that_have_come_behind_a_truncate_stay_in_the_feed() {
    let program = Program::start_with(Security::Trust, &["--erase-after=20s"]);
    program.place().add_owner("people");
    let mut session = program.place().session("people");
    session.ok(MAKE);
    session.ok("CREATE INDEX ON public.person_v1 (note, id)");
    session.ok(&format!(
        "INSERT INTO public.person_v1 (id, note) VALUES ('{KEY}', '{VALUE}')"
    ));
    session.ok(&format!("DELETE FROM public.person_v1 WHERE id = '{KEY}'"));
    session.ok("TRUNCATE public.person_v1");
    session
        .ok("INSERT INTO public.person_v1 (id, note) VALUES ('lives', 'here'), ('goes', 'soon')");
    session.ok("ERASE FROM public.person_v1 WHERE id = 'goes'");
    until(|| nowhere(&[program.data()], &[VALUE, KEY]));
    let feed = "SELECT op, key->>'id', new->>'note'
         FROM freehold.changes(tables => ARRAY['person_v1'])
         WHERE op NOT IN ('ddl', 'progress') AND key->>'id' = 'lives'";
    assert_eq!(session.ok(feed).lines(), ["insert|lives|here"]);
}

/// What the former owner still has of a row that the new one has erased is not said to be gone.
#[test]
fn a_row_of_a_table_that_has_moved_is_erased_when_its_former_owner_has_it_no_more() {
    let program = Program::start_with(Security::Trust, &["--erase-after=20s"]);
    program.place().add_owner("people");
    program.place().add_owner("crm");
    let (mut people, mut crm) = (
        program.place().session("people"),
        program.place().session("crm"),
    );
    people.ok(MAKE);
    fill().iter().for_each(|sql| drop(people.ok(sql)));
    let move_it = "ALTER TABLE public.person_v1 OWNER TO crm";
    program.place().session(SUPERUSER).ok(move_it);
    crm.ok(&format!("ERASE FROM public.person_v1 WHERE id = '{KEY}'"));
    let verify = format!(
        "SELECT erased FROM freehold.verify_erased('public.person_v1', '{{\"id\": \"{KEY}\"}}')"
    );
    until(|| match crm.ok(&verify).lines() {
        found if found == ["t"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    assert_eq!(nowhere(&[program.data()], &[VALUE, BEFORE, KEY]), Ok(()));
    assert_eq!(people.fail(&verify).sqlstate, "42P01");
    assert_eq!(crm.value("SELECT note FROM public.person_v1"), STAYS);
}

/// Three replicas and a node that follows: the canary is on all of them, and then on none.
#[test]
fn an_erased_row_is_on_no_replica_and_no_follower() {
    let mut cluster: Cluster = apart();
    cluster.settle(
        1,
        "orders",
        "CREATE TABLE IF NOT EXISTS public.order_v3 (id text PRIMARY KEY, note text)",
    );
    cluster.settle(LAST, "billing", "FOLLOW order_*");
    await_copy(
        &cluster,
        LAST,
        "orders",
        "following|{public.order_v1,public.order_v3}",
    );
    let put = format!(
        "INSERT INTO public.order_v3 VALUES ('{KEY}', '{VALUE}'), ('a', '{STAYS}') ON CONFLICT DO NOTHING"
    );
    cluster.settle(1, "orders", &put);
    let count = "SELECT count(*) FROM public.order_v3";
    cluster.until(|| match cluster.ask(LAST, "billing", count)? {
        found if found == ["2"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let folders: Vec<_> = (1..=LAST)
        .map(|node| cluster.program(node).data())
        .collect();
    // Copies and replicas write their tables to files with a checkpoint, or when they end.
    cluster.kill_all_and_start_again();
    for (node, folder) in (1..).zip(&folders) {
        cluster.until(|| match files_with(folder, VALUE).is_empty() {
            true => Err(format!("it is not on node {node}")),
            false => Ok(()),
        });
    }
    cluster.settle(
        1,
        "orders",
        &format!("ERASE FROM public.order_v3 WHERE id = '{KEY}'"),
    );
    cluster.until(|| nowhere(&folders, &[VALUE, KEY]));
    let told = "SELECT node, copy FROM freehold.erasures WHERE erased_at IS NOT NULL
         GROUP BY node, copy ORDER BY node";
    let all = ["1|replica", "2|replica", "3|replica", "4|follower"];
    cluster.until(|| match cluster.ask(1, SUPERUSER, told)? {
        found if found == all => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let left = "SELECT id FROM public.order_v3";
    for (node, user) in [(1, "orders"), (2, "orders"), (LAST, "billing")] {
        assert_eq!(cluster.settle(node, user, left), ["a"], "node {node}");
    }
}

/// A row with a history, with events about it, and with references to its key from another owner's node:
/// nothing of it stays at either of them, nor of what they have asked each other.
#[test]
fn a_key_that_another_owner_references_is_erased_there_too() {
    const EVENT: &str = "canary-of-an-event";
    const CHILD: &str = "canary-of-a-child";
    let places: [&[&str]; 2] = [
        &["--locality=region=crm", "--erase-after=20s"],
        &["--locality=region=shop", "--erase-after=20s"],
    ];
    let cluster = Cluster::start_each(&places);
    for role in ["crm", "shop"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in [
        "CREATE TABLE IF NOT EXISTS public.customer_v1 (id text PRIMARY KEY, note text) \
         WITH (history = 'forever')",
        "CREATE TABLE IF NOT EXISTS public.said_v1 (id text REFERENCES customer_v1, words text) \
         WITH (event = true)",
        "GRANT REFERENCES ON customer_v1 TO shop",
    ] {
        cluster.settle(1, "crm", sql);
    }
    cluster.settle(
        2,
        "shop",
        "CREATE TABLE IF NOT EXISTS other (id int PRIMARY KEY)",
    );
    cluster.pin(1, "crm", "crm", 1);
    cluster.pin(2, "shop", "shop", 1);
    let child = "CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, note text, \
                 customer text REFERENCES customer_v1 ON DELETE CASCADE)";
    cluster.settle(2, "shop", child);
    let both = format!("('{KEY}', '{BEFORE}'), ('a', '{STAYS}')");
    let put = format!("INSERT INTO customer_v1 VALUES {both} ON CONFLICT DO NOTHING");
    for sql in [
        put,
        format!("UPDATE customer_v1 SET note = '{VALUE}' WHERE id = '{KEY}'"),
        format!("INSERT INTO said_v1 VALUES ('{KEY}', '{EVENT}')"),
    ] {
        cluster.settle(1, "crm", &sql);
    }
    let put = format!(
        "INSERT INTO orders VALUES (1, '{CHILD}', '{KEY}'), (2, '{STAYS}', 'a') ON CONFLICT DO NOTHING"
    );
    cluster.settle(2, "shop", &put);
    let history = format!("SELECT row->>'note' FROM freehold.history('customer_v1', '\"{KEY}\"')");
    assert_eq!(cluster.settle(1, "crm", &history), [BEFORE, VALUE]);
    let folders = [1, 2].map(|node| cluster.program(node).data());
    for folder in &folders {
        assert!(!files_with(folder, KEY).is_empty(), "it was never there");
    }

    let erase = format!("ERASE FROM customer_v1 WHERE id = '{KEY}'");
    cluster.settle(1, "crm", &erase);
    let orders = cluster.settle(2, "shop", "SELECT id FROM orders");
    assert_eq!(orders, ["2"]);
    let gone = [VALUE, BEFORE, EVENT, CHILD, KEY];
    cluster.until(|| nowhere(&folders, &gone));
    assert_eq!(cluster.settle(1, "crm", &history), [""; 0]);
    let stays = "SELECT note FROM customer_v1 JOIN freehold.history('customer_v1', '\"a\"') h \
                 ON h.row->>'note' = note";
    assert_eq!(cluster.settle(1, "crm", stays), [STAYS]);
}

/// What another owner's trigger could not do is set aside with the row, and with what its function has said
/// of it. It goes with the row, there too: from tables, journals and files.
#[test]
fn a_row_that_is_set_aside_elsewhere_is_erased_there_too() {
    const GONE: &str = "canary-of-a-deleted-row";
    let places: [&[&str]; 2] = [
        &["--locality=region=crm", "--erase-after=20s"],
        &["--locality=region=shop", "--erase-after=20s"],
    ];
    let cluster = Cluster::start_each(&places);
    for role in ["crm", "shop"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in [
        "CREATE TABLE IF NOT EXISTS public.customer_v1 (id text PRIMARY KEY, note text)",
        "GRANT READ ON customer_* TO shop",
    ] {
        cluster.settle(1, "crm", sql);
    }
    for sql in [
        "CREATE TABLE IF NOT EXISTS seen (id int PRIMARY KEY)",
        "FOLLOW customer_v1",
        "CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'what is this: %', NEW.note; END $$",
        "CREATE OR REPLACE TRIGGER see AFTER INSERT OR UPDATE ON customer_v1 FOR EACH ROW \
           EXECUTE FUNCTION see()",
    ] {
        cluster.settle(2, "shop", sql);
    }
    cluster.pin(1, "crm", "crm", 1);
    cluster.pin(2, "shop", "shop", 1);
    for sql in [
        format!("INSERT INTO customer_v1 VALUES ('{KEY}', '{BEFORE}') ON CONFLICT DO NOTHING"),
        format!("UPDATE customer_v1 SET note = '{VALUE}' WHERE id = '{KEY}'"),
        format!("INSERT INTO customer_v1 VALUES ('b', '{GONE}') ON CONFLICT DO NOTHING"),
        format!("INSERT INTO customer_v1 VALUES ('a', '{STAYS}') ON CONFLICT DO NOTHING"),
    ] {
        cluster.settle(1, "crm", &sql);
    }
    let parked =
        "SELECT key->>'id', op, coalesce(new->>'note', '-') FROM freehold.parked ORDER BY id";
    let until_parked = |expected: &[String]| {
        cluster.until(|| match cluster.ask(2, "shop", parked)? {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}")),
        });
    };
    let stay = [format!("b|insert|{GONE}"), format!("a|insert|{STAYS}")];
    let whole = [
        format!("{KEY}|insert|{BEFORE}"),
        format!("{KEY}|update|{VALUE}"),
    ];
    until_parked(&[&whole[..], &stay[..]].concat());
    let folders = [1, 2].map(|node| cluster.program(node).data());
    for canary in [VALUE, BEFORE, GONE] {
        let found = files_with(&folders[1], canary);
        assert!(!found.is_empty(), "{canary} was never there");
    }

    let erase = format!("ERASE FROM customer_v1 WHERE id = '{KEY}'");
    cluster.settle(1, "crm", &erase);
    let erased = [format!("{KEY}|insert|-"), format!("{KEY}|update|-")];
    until_parked(&[&erased[..], &stay[..]].concat());
    cluster.until(|| nowhere(&folders, &[VALUE, BEFORE]));
    cluster.settle(1, "crm", "DELETE FROM customer_v1 WHERE id = 'b'");
    cluster.until(|| nowhere(&folders, &[GONE]));
    let mut left = erased.to_vec();
    left.extend(["b|insert|-".to_owned(), stay[1].clone()]);
    until_parked(&left);
    // The key goes with what is set aside.
    let skip = format!("SELECT freehold.skip(id) FROM freehold.parked WHERE key->>'id' = '{KEY}'");
    cluster.settle(2, "shop", &skip);
    cluster.until(|| nowhere(&folders, &[KEY]));
}
