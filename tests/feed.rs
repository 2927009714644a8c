//! The feed from outside: pages, waits, retention, tokens, notifications, over plain connections.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::{Answer, Place, Program, Security, Session};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two owners with an integration table each, and a reader who may read both.
fn owners(place: &Place) -> [Session; 3] {
    for role in ["alpha", "beta", "reader"] {
        place.add_owner(role);
    }
    for owner in ["alpha", "beta"] {
        let mut session = place.session(owner);
        session.ok(&format!(
            "CREATE TABLE public.{owner}_v1 (id int PRIMARY KEY, note text)"
        ));
        session.ok("CREATE TABLE secret (id int PRIMARY KEY)");
        session.ok(&format!("GRANT READ ON {owner}_* TO reader"));
    }
    ["alpha", "beta", "reader"].map(|role| place.session(role))
}

/// The newest position that the session may see.
fn position(session: &mut Session) -> String {
    session.value("SELECT freehold.snapshot_position()")
}

/// Cancels what the session runs. A cancel that comes before the statement has begun hits nothing.
fn cancelled(session: &mut Session) -> Vec<Answer> {
    loop {
        session.cancel();
        let answers = session.answers_within(Duration::from_millis(200)).unwrap();
        if let Some(answers) = answers {
            return answers;
        }
    }
}

/// Reads `from` on by pages; each page is what `ask` makes of a position.
fn read_on(
    reader: &mut Session,
    from: &str,
    ask: impl Fn(&str) -> String,
) -> Vec<(String, Vec<String>)> {
    let mut after = from.to_owned();
    let mut pages = Vec::new();
    loop {
        let rows = reader.rows(&ask(&after));
        let Some(last) = rows.last() else {
            return pages;
        };
        after = last.split('|').next().unwrap().to_owned();
        if !last.contains("|progress|") {
            pages.push((after.clone(), rows));
        }
    }
}

#[test]
fn pages_of_seven_lose_and_double_nothing() {
    const SIZES: [u32; 12] = [1, 5, 6, 7, 8, 13, 14, 15, 1_000, 1, 5_000, 2];
    let program = Program::start();
    let [mut alpha, mut beta, mut reader] = owners(program.place());
    let from = position(&mut reader);
    let mut first = 0;
    for (at, size) in SIZES.iter().enumerate() {
        let (owner, name) = match at % 2 {
            0 => (&mut alpha, "alpha"),
            _ => (&mut beta, "beta"),
        };
        let insert = format!(
            "INSERT INTO public.{name}_v1 SELECT g, 'x' FROM generate_series({first}, {}) AS g",
            first + size - 1
        );
        owner.ok(&format!("BEGIN; {insert}; ROLLBACK"));
        owner.ok(&insert);
        first += size;
    }
    let columns = "position, op, last_in_tx, key->>'id'";
    let function = |after: &str| {
        format!(
            "SELECT {columns} FROM freehold.changes(after => '{after}', max_rows => 7, \
             tables => ARRAY['alpha_*', 'beta_*'])"
        )
    };
    let view = |after: &str| {
        format!(
            "SELECT {columns} FROM freehold.feed WHERE position > '{after}' ORDER BY position \
             FETCH FIRST 7 ROWS WITH TIES"
        )
    };
    let by_function = read_on(&mut reader, &from, function);
    let by_view = read_on(&mut reader, &from, view);
    for pages in [by_function, by_view] {
        let rows: Vec<&String> = pages.iter().flat_map(|(_, rows)| rows).collect();
        let ids: BTreeSet<&str> = rows
            .iter()
            .map(|row| row.rsplit('|').next().unwrap())
            .collect();
        assert_eq!(rows.len(), first as usize, "each once");
        assert_eq!(ids.len(), first as usize, "all");
        let whole = |rows: &Vec<String>| rows.last().unwrap().contains("|insert|t|");
        assert!(
            pages.iter().all(|(_, rows)| whole(rows)),
            "whole transactions"
        );
        let ends = rows.iter().filter(|row| row.contains("|insert|t|")).count();
        assert_eq!(ends, SIZES.len());
        let positions: Vec<&String> = pages.iter().map(|(position, _)| position).collect();
        let distinct: BTreeSet<&&String> = positions.iter().collect();
        assert_eq!(positions.len(), distinct.len());
    }
}

#[test]
fn every_row_says_who_did_what() {
    let program = Program::start();
    let [mut alpha, _, mut reader] = owners(program.place());
    let from = position(&mut reader);
    alpha.ok("SET application_name = 'till 7'");
    alpha.ok("INSERT INTO alpha_v1 VALUES (1, 'one')");
    alpha.ok("UPDATE alpha_v1 SET note = 'two' WHERE id = 1");
    alpha.ok("INSERT INTO secret VALUES (1)");
    alpha.ok("SELECT pg_logical_emit_message(true, 'sold', '{\"id\": 1}')");
    alpha.ok("ALTER TABLE public.alpha_v1 ADD COLUMN more int");
    alpha.ok("DELETE FROM alpha_v1");
    let rows = reader.rows(&format!(
        "SELECT op, owner, table_name, key, new, old, event_type, event, role, application_name \
         FROM freehold.changes(after => '{from}') WHERE op <> 'ddl' ORDER BY position, seq"
    ));
    let by = "alpha|till 7";
    assert_eq!(
        rows,
        [
            format!(
                "insert|alpha|alpha_v1|{{\"id\": 1}}|{{\"id\": 1, \"note\": \"one\"}}|NULL|NULL|NULL|{by}"
            ),
            format!(
                "update|alpha|alpha_v1|{{\"id\": 1}}|{{\"id\": 1, \"note\": \"two\"}}|\
                 {{\"id\": 1, \"note\": \"one\"}}|NULL|NULL|{by}"
            ),
            format!("event|alpha|NULL|NULL|NULL|NULL|sold|{{\"id\": 1}}|{by}"),
            format!(
                "delete|alpha|alpha_v1|{{\"id\": 1}}|NULL|\
                 {{\"id\": 1, \"more\": null, \"note\": \"two\"}}|NULL|NULL|{by}"
            ),
        ]
    );
    let ddl = reader.rows(&format!(
        "SELECT table_name, event_type FROM freehold.changes(after => '{from}') WHERE op = 'ddl'"
    ));
    assert_eq!(ddl, ["alpha_v1|ALTER TABLE"]);
    let all = reader.ok("SELECT * FROM freehold.feed").text();
    assert!(!all.contains("secret"), "{all}");
}

#[test]
fn a_wait_ends_with_the_commit_that_it_waits_for() {
    let program = Program::start();
    let [mut alpha, mut beta, mut reader] = owners(program.place());
    let ask = |from: &str, wait: &str| {
        format!(
            "SELECT op, key->>'id' FROM freehold.changes(after => '{from}', wait => '{wait}', \
             tables => ARRAY['alpha_*'])"
        )
    };
    let from = position(&mut reader);
    reader.send(&ask(&from, "10 min"));
    // Neither a rollback nor what it did not ask for ends it.
    alpha.ok("BEGIN; INSERT INTO alpha_v1 VALUES (1); ROLLBACK");
    beta.ok("INSERT INTO beta_v1 VALUES (1)");
    alpha.ok("INSERT INTO alpha_v1 VALUES (2)");
    let answers = reader.answers_within(PATIENCE).unwrap();
    let answers = answers.expect("the commit ends the wait");
    let row = ["insert", "2"].map(|value| Some(value.to_owned()));
    assert_eq!(answers[0].rows, [row]);

    // It can be cancelled, and its time can be over.
    let from = position(&mut reader);
    reader.send(&ask(&from, "10 min"));
    assert_eq!(cancelled(&mut reader)[0].sqlstate(), "57014");
    assert!(reader.rows(&ask(&from, "50ms")).is_empty());
}

#[test]
fn a_stream_goes_on_without_end() {
    let program = Program::start();
    let [mut alpha, _, mut reader] = owners(program.place());
    let from = position(&mut reader);
    reader.send(&format!(
        "COPY (SELECT key->>'id' FROM freehold.changes(after => '{from}', wait => 'infinity', \
         tables => ARRAY['alpha_*'])) TO STDOUT"
    ));
    for id in 0..20 {
        alpha.ok(&format!("INSERT INTO alpha_v1 VALUES ({id})"));
        // Each at once, not when many have come together.
        let given = |session: &Session| session.so_far().rows.len() > id;
        assert!(reader.listen(PATIENCE, given), "{id}");
    }
    let answers = cancelled(&mut reader);
    let sent: Vec<String> = answers[0]
        .rows
        .iter()
        .flatten()
        .flatten()
        .cloned()
        .collect();
    let expected: Vec<String> = (0..20).map(|id| format!("{id}\n")).collect();
    assert_eq!(sent, expected[..sent.len()], "in order");
    assert_eq!(answers[0].sqlstate(), "57014");
}

#[test]
fn a_consumer_behind_retention_is_told_and_goes_on_from_a_bootstrap() {
    let program = Program::start_with(
        Security::Trust,
        &[
            "--retain-time=1ms",
            "--retain-size=4MB",
            "--segment-size=2MB",
            "--checkpoint-timeout=100ms",
        ],
    );
    let [mut alpha, _, mut reader] = owners(program.place());
    let from = position(&mut reader);
    let changes = format!("SELECT count(*) FROM freehold.changes(after => '{from}')");
    let feed = format!("SELECT count(*) FROM freehold.feed WHERE position > '{from}'");
    reader.ok(&changes);
    reader.ok(&feed);
    // It is noted that the contract is read, in an entry that leaves as soon as any: now, not later.
    reader.ok("SELECT count(*) FROM public.alpha_v1");
    let deadline = Instant::now() + PATIENCE;
    let mut id = 0;
    while reader.run(&changes).failure().is_none() {
        assert!(Instant::now() < deadline, "the journal keeps everything");
        alpha.ok(&format!(
            "INSERT INTO alpha_v1 SELECT {id} + g, repeat('x', 10000) FROM generate_series(1, 50) AS g"
        ));
        id += 50;
    }
    for sql in [&changes, &feed] {
        let failure = reader.fail(sql);
        assert_eq!(failure.sqlstate, "OW001", "{}", failure.text());
        let hint = failure.hint.unwrap_or_default();
        assert!(hint.contains("freehold.snapshot_position()"), "{hint}");
    }
    // As the hint says: the tables as of a position, and everything from there on.
    reader.ok("BEGIN ISOLATION LEVEL REPEATABLE READ");
    let again = position(&mut reader);
    let copied = reader.value("SELECT count(*) FROM public.alpha_v1");
    reader.ok("COMMIT");
    assert_eq!(copied, id.to_string());
    alpha.ok(&format!("INSERT INTO alpha_v1 VALUES ({id} + 1)"));
    let next = reader.rows(&format!(
        "SELECT key->>'id' FROM freehold.changes(after => '{again}', tables => ARRAY['alpha_*'])"
    ));
    assert_eq!(next, [(id + 1).to_string()]);
    // Without a cursor one begins at the oldest that is retained.
    reader.ok("SELECT count(*) FROM freehold.changes(after => NULL)");
    reader.ok("SELECT count(*) FROM freehold.feed");
    // The disk is given back, though the other owner's few entries are as old as ever.
    for _ in 0..20 {
        id += 50;
        alpha.ok(&format!(
            "INSERT INTO alpha_v1 SELECT {id} + g, repeat('x', 20000) \
             FROM generate_series(1, 50) AS g"
        ));
    }
    let journal = program.folder().join("data/journal");
    while bytes_of(&journal) > 16 << 20 {
        assert!(
            Instant::now() < deadline,
            "{} bytes stay",
            bytes_of(&journal)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The size of a folder's files.
fn bytes_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    // A segment may leave while it is looked at.
    let bytes = |file: std::fs::DirEntry| file.metadata().map_or(0, |metadata| metadata.len());
    files.map(|file| bytes(file.unwrap())).sum()
}

#[test]
fn a_listener_to_a_table_hears_the_newest_position_once() {
    let program = Program::start();
    let [mut alpha, mut beta, mut reader] = owners(program.place());
    reader.ok("LISTEN alpha_v1");
    alpha.ok("INSERT INTO alpha_v1 VALUES (1)");
    assert!(reader.listen(PATIENCE, |s| !s.notifications.is_empty()));
    let newest = |reader: &mut Session| {
        reader.value("SELECT max(position) FROM freehold.feed WHERE table_name = 'alpha_v1'")
    };
    let heard = std::mem::take(&mut reader.notifications);
    assert_eq!(heard, [("alpha_v1".to_owned(), newest(&mut reader))]);
    // In a transaction nothing comes; behind it one for all.
    reader.ok("BEGIN");
    for id in 2..50 {
        alpha.ok(&format!("INSERT INTO alpha_v1 VALUES ({id})"));
        beta.ok(&format!("INSERT INTO beta_v1 VALUES ({id})"));
    }
    assert!(reader.notifications.is_empty());
    reader.ok("COMMIT");
    assert!(reader.listen(PATIENCE, |s| !s.notifications.is_empty()));
    let heard = std::mem::take(&mut reader.notifications);
    assert_eq!(heard, [("alpha_v1".to_owned(), newest(&mut reader))]);
    // A table that one may not read is no channel that wakes.
    beta.ok("LISTEN alpha_v1");
    alpha.ok("INSERT INTO alpha_v1 VALUES (51)");
    assert!(reader.listen(PATIENCE, |s| !s.notifications.is_empty()));
    beta.ok("SELECT 1");
    assert!(beta.notifications.is_empty(), "{:?}", beta.notifications);
}

#[test]
fn a_token_carries_what_one_has_written_to_another_session() {
    let program = Program::start();
    let [mut alpha, _, mut reader] = owners(program.place());
    alpha.ok("INSERT INTO alpha_v1 VALUES (1)");
    let token = alpha.parameters["freehold.token"].clone();
    assert_eq!(alpha.value("SHOW freehold.token"), token);
    let newest = reader.value("SELECT max(position) FROM freehold.feed");
    assert!(token.ends_with(&format!(":{newest}")), "{token} {newest}");
    alpha.ok("INSERT INTO alpha_v1 VALUES (2)");
    let later = alpha.parameters["freehold.token"].clone();
    assert_ne!(token, later, "told after each commit");
    // A rollback and a read are no commits.
    alpha.ok("BEGIN; INSERT INTO alpha_v1 VALUES (3); ROLLBACK; SELECT 1");
    assert_eq!(alpha.parameters["freehold.token"], later);
    reader.ok(&format!("SET freehold.token = '{later}'"));
    assert_eq!(reader.value("SELECT count(*) FROM public.alpha_v1"), "2");
    assert_eq!(reader.fail("SET freehold.token = 'x'").sqlstate, "22023");
}

#[test]
fn a_consumer_without_rows_is_told_how_far_it_has_got() {
    let program = Program::start();
    let [mut alpha, mut beta, mut reader] = owners(program.place());
    let from = position(&mut reader);
    // Nothing of this is for who asks for beta's tables.
    alpha.ok("INSERT INTO alpha_v1 VALUES (1)");
    let ask = |after: &str| {
        format!(
            "SELECT position, op, owner, table_name, key FROM freehold.changes(after => '{after}', \
             tables => ARRAY['beta_*'])"
        )
    };
    let mut admin = program.place().session("postgres");
    admin.ok("CREATE ROLE someone");
    let told = reader.rows(&ask(&from));
    assert_eq!(told.len(), 1);
    let (progress, rest) = told[0].split_once('|').unwrap();
    assert_eq!(rest, "progress|NULL|NULL|NULL");
    let later = format!("SELECT '{progress}'::pg_lsn > '{from}'::pg_lsn");
    assert_eq!(reader.value(&later), "t");
    // No news, no row; and what comes then lies above what was told.
    assert!(reader.rows(&ask(progress)).is_empty());
    beta.ok("INSERT INTO beta_v1 VALUES (1)");
    let rows = reader.rows(&ask(progress));
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains("|insert|beta|beta_v1|"), "{rows:?}");
}

#[test]
fn positions_of_times_and_beyond_all_times() {
    let program = Program::start();
    let [mut alpha, _, mut reader] = owners(program.place());
    alpha.ok("INSERT INTO alpha_v1 VALUES (1)");
    let time = alpha.value("SELECT clock_timestamp()");
    alpha.ok("INSERT INTO alpha_v1 VALUES (2)");
    let since = |time: &str| {
        format!(
            "SELECT key->>'id' FROM freehold.changes(after => freehold.position_at({time}), \
             tables => ARRAY['alpha_*']) WHERE op = 'insert'"
        )
    };
    assert_eq!(reader.rows(&since(&format!("'{time}'"))), ["2"]);
    assert!(reader.rows(&since("now() + interval '1 day'")).is_empty());
    assert_eq!(
        reader.rows(&since("NULL")),
        ["1", "2"],
        "from the oldest on"
    );
    assert_eq!(
        reader.value("SELECT bool_and(committed_at <= now()) FROM freehold.feed"),
        "t"
    );

    // Who asks for the end of the number space waits, and moves nobody's clock.
    for far in ["FFFFFFFF/FFFFFFFF", "7FFFFFFF/FFFFFFFF", "FFFFFFFF/0"] {
        for wait in ["0", "50ms"] {
            let rows = reader.rows(&format!(
                "SELECT * FROM freehold.changes(after => '{far}', wait => '{wait}')"
            ));
            assert!(rows.is_empty(), "{far}: {rows:?}");
        }
        let feed = format!("SELECT * FROM freehold.feed WHERE position > '{far}'");
        assert!(reader.rows(&feed).is_empty());
    }
    alpha.ok("INSERT INTO alpha_v1 VALUES (3)");
    let moved =
        "SELECT max(position) <= freehold.position_at(clock_timestamp()) FROM freehold.feed";
    assert_eq!(reader.value(moved), "t");
}

#[test]
fn a_snapshot_and_the_changes_after_it_are_everything_once() {
    const ROWS: u32 = 400;
    let program = Program::start();
    let [mut alpha, mut beta, mut reader] = owners(program.place());
    let writer = std::thread::spawn(move || {
        for id in 0..ROWS {
            alpha.ok(&format!("INSERT INTO alpha_v1 VALUES ({id})"));
            beta.ok(&format!("INSERT INTO beta_v1 VALUES ({id})"));
        }
    });
    let mut met = 0;
    while met < 5 && !writer.is_finished() {
        reader.ok("BEGIN ISOLATION LEVEL REPEATABLE READ");
        let at = position(&mut reader);
        let tables = "SELECT 'alpha', id FROM public.alpha_v1 UNION ALL \
                      SELECT 'beta', id FROM public.beta_v1";
        let snapshot = reader.rows(tables);
        reader.ok("COMMIT");
        let after = reader.rows(&format!(
            "SELECT owner, key->>'id' FROM freehold.changes(after => '{at}', \
             tables => ARRAY['alpha_*', 'beta_*']) WHERE op <> 'progress'"
        ));
        let now = reader.rows(tables);
        met += u32::from(!snapshot.is_empty() && !after.is_empty());
        let seen: BTreeSet<&String> = snapshot.iter().chain(&after).collect();
        assert_eq!(
            seen.len(),
            snapshot.len() + after.len(),
            "no overlap at {at}"
        );
        // What is read later has at least what was seen, without a hole below it.
        for owner in ["alpha", "beta"] {
            let count = |rows: &[String]| rows.iter().filter(|row| row.starts_with(owner)).count();
            let (before, told, later) = (count(&snapshot), count(&after), count(&now));
            assert!(
                before + told <= later,
                "{owner}: {before} + {told} > {later}"
            );
            for id in 0..before + told {
                assert!(
                    seen.contains(&format!("{owner}|{id}")),
                    "{owner} {id} at {at}"
                );
            }
        }
    }
    writer.join().unwrap();
    assert!(met > 0, "the writers were never met at work");
}

/// The entry may come at any moment of the call that waits for it, the first ones included.
#[test]
fn no_entry_comes_unseen_while_a_call_begins_to_wait() {
    const ROUNDS: u32 = 400;
    let program = Program::start();
    let [mut alpha, _, mut reader] = owners(program.place());
    let mut after = position(&mut reader);
    for round in 0..ROUNDS {
        reader.send(&format!(
            "SELECT position FROM freehold.changes(after => '{after}', wait => '10 minutes')"
        ));
        alpha.ok(&format!("INSERT INTO public.alpha_v1 VALUES ({round})"));
        let answers = reader.answers_within(PATIENCE).unwrap();
        let answers = answers.unwrap_or_else(|| panic!("round {round}: the call sleeps on"));
        let row = answers[0].rows.last().expect("what has come");
        after = row[0].clone().expect("a position");
    }
}
