//! SET, SHOW, notifications, functions of the session.

use super::node::Node;

#[test]
fn settings_belong_to_the_transaction() {
    let node = Node::new();
    let mut c = node.client("postgres");
    assert_eq!(c.rows("show work_mem"), "4MB");
    c.ok("begin; set work_mem = '8MB'; rollback");
    assert_eq!(c.rows("show work_mem"), "4MB");
    c.ok("begin; set local work_mem = '16MB'");
    assert_eq!(c.rows("show work_mem"), "16MB");
    c.ok("savepoint s; set work_mem = '32MB'; rollback to s");
    assert_eq!(c.rows("show work_mem"), "16MB");
    c.ok("commit");
    assert_eq!(c.rows("show work_mem"), "4MB");
    c.ok("set work_mem = '64MB'; set application_name = 'x'");
    assert_eq!(
        c.rows("select current_setting('work_mem'), current_setting('nope', true)"),
        "64MB|NULL"
    );
    assert_eq!(c.rows("select set_config('my.var', 'v', false)"), "v");
    assert_eq!(c.rows("show my.var"), "v");
    assert_eq!(
        c.rows("select setting, unit, source from pg_settings where name = 'work_mem'"),
        "65536|kB|session"
    );
    c.ok("reset all");
    assert_eq!(c.rows("show work_mem"), "4MB");
    assert!(c.run("show nope").starts_with("ERROR 42704"));
    assert!(c.run("set nope = 1").starts_with("ERROR 42704"));
    assert_eq!(c.rows("show transaction_isolation"), "read committed");
    c.ok("begin isolation level serializable");
    assert_eq!(c.rows("show transaction isolation level"), "serializable");
    c.ok("rollback");
    c.ok("set session characteristics as transaction isolation level repeatable read, read only");
    c.ok("begin");
    assert_eq!(c.rows("show transaction_isolation"), "repeatable read");
    assert_eq!(c.rows("show transaction_read_only"), "on");
    c.ok("rollback; set default_transaction_isolation = default; set default_transaction_read_only = off");
    c.ok("set search_path = pg_catalog, \"Odd\"");
    assert_eq!(c.rows("show search_path"), "pg_catalog, \"Odd\"");
    c.ok("set time zone 'Europe/Berlin'; set datestyle = 'German'");
    assert_eq!(
        c.rows("select timestamptz '2024-01-01 00:00+00'"),
        "01.01.2024 01:00:00 CET"
    );
    assert_eq!(c.rows("select count(*) > 300 from pg_settings"), "t");
}

#[test]
fn what_drivers_set_is_accepted() {
    let node = Node::new();
    let mut c = node.client("postgres");
    for sql in [
        "set extra_float_digits = 3",
        "set client_min_messages to warning",
        "set standard_conforming_strings = on",
        "set bytea_output = 'hex'",
        "set client_encoding = 'utf-8'",
        "set names 'UTF8'",
        "set intervalstyle = 'iso_8601'",
        "set statement_timeout = 0",
        "set idle_in_transaction_session_timeout = 0",
        "set lock_timeout = 0",
        "set row_security = off",
        "set default_table_access_method = heap",
        "set default_tablespace = ''",
        "set xmloption = content",
        "set check_function_bodies = false",
        "set synchronous_commit = off",
        "set jit = off",
        "set enable_seqscan = off",
        "set plan_cache_mode = force_custom_plan",
        "set escape_string_warning = off",
        "set session_replication_role = replica",
        "set geqo = off",
        "set timezone to 'UTC'",
        "select pg_catalog.set_config('search_path', '', false)",
    ] {
        c.ok(sql);
    }
}

#[test]
fn changed_settings_are_reported() {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.session.report(&mut c.answer);
    let names: Vec<&str> = c
        .answer
        .parameters
        .iter()
        .map(|(n, _)| n.as_str())
        .collect();
    for name in [
        "server_version",
        "client_encoding",
        "TimeZone",
        "is_superuser",
        "DateStyle",
        "integer_datetimes",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    c.ok("set application_name = 'me'");
    assert_eq!(
        c.answer.parameters,
        [("application_name".to_owned(), "me".to_owned())]
    );
    c.ok("select 1");
    assert!(c.answer.parameters.is_empty());
    c.ok("create table t (a int); insert into t values (1)");
    let token = c.rows("show freehold.token");
    c.ok("insert into t values (2)");
    let reported = c.answer.parameters.clone();
    assert_eq!(reported.len(), 1);
    assert_eq!(reported[0].0, "freehold.token");
    assert_ne!(reported[0].1, token);
    let mut d = node.client("postgres");
    d.ok(&format!("set freehold.token = '{}'", reported[0].1));
    assert_eq!(d.rows("select a from t order by a"), "1\n2");
    assert!(d.run("set freehold.token = 'x'").starts_with("ERROR 22023"));
}

#[test]
fn notifications_come_with_the_commit() {
    let node = Node::new();
    let (mut a, mut b) = (node.client("postgres"), node.client("postgres"));
    b.ok("listen ch; listen t");
    a.ok("create table t (a int primary key)");
    a.ok("begin; notify ch, 'one'; notify ch, 'one'; select pg_notify('ch', 'two')");
    assert!(b.session.activity().mailbox().take().is_empty());
    a.ok("commit");
    let got: Vec<String> = b
        .session
        .activity()
        .mailbox()
        .take()
        .into_iter()
        .map(|n| n.payload)
        .collect();
    assert_eq!(got, ["one", "two"]);
    a.ok("begin; notify ch, 'never'; rollback");
    a.ok("insert into t values (1)");
    a.ok("insert into t values (2)");
    let got = b.session.activity().mailbox().take();
    assert_eq!(got.len(), 1, "coalesced: {got:?}");
    assert_eq!(got[0].channel, "t");
    b.ok("unlisten *");
    a.ok("notify ch");
    assert!(b.session.activity().mailbox().take().is_empty());
    assert!(
        a.run("select pg_notify('', 'x')")
            .starts_with("ERROR 22023")
    );
}

#[test]
fn a_transaction_sends_so_many_notifications_and_each_once() {
    let node = Node::new();
    let (mut a, mut b) = (node.client("postgres"), node.client("postgres"));
    b.ok("listen c");
    let same = "select pg_notify('c', repeat('x', 7000)) from generate_series(1, 3000)";
    a.ok(same);
    assert_eq!(b.session.activity().mailbox().take().len(), 1);
    let many = |from: u32, to: u32| {
        format!(
            "select pg_notify('c', {from} || repeat('x', 7000) || i) from generate_series({from}, {to}) i"
        )
    };
    let full = "ERROR 54000: too many notifications in the NOTIFY queue";
    let result = a.run(&many(1, 5_000));
    assert!(result.starts_with(full), "{result}");
    // Over statements, but for what was taken back.
    a.ok(&format!("begin; {}", many(1, 1_000)));
    a.ok(&format!(
        "savepoint s; {}; rollback to s",
        many(1_001, 2_000)
    ));
    a.ok(&many(1_001, 2_000));
    a.ok(same);
    let result = a.run(&many(2_001, 3_000));
    assert!(result.starts_with(full), "{result}");
    a.ok("rollback");
    assert!(b.session.activity().mailbox().take().is_empty());
    a.ok("begin; notify c, 'one'; savepoint s; notify c, 'two'; rollback to s; notify c, 'two'");
    a.ok("notify c, 'one'; commit");
    let got = b.session.activity().mailbox().take();
    let payloads: Vec<&str> = got.iter().map(|n| n.payload.as_str()).collect();
    assert_eq!(payloads, ["one", "two"]);
}

#[test]
fn events_count_against_the_transaction() {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key)");
    let emit = |bytes: usize, times: usize| {
        format!(
            "select pg_logical_emit_message(true, 'a', repeat('x', {bytes})) \
             from generate_series(1, {times})"
        )
    };
    let result = c.run(&emit(1_000_000, 100));
    assert!(
        result.starts_with(
            "ERROR 54000: transaction is too large DETAIL: Its events take more than 67108864"
        ),
        "{result}"
    );
    // All statements of a transaction, but for what was taken back.
    c.ok(&format!(
        "begin; insert into t values (1); {}",
        emit(1_000_000, 40)
    ));
    c.ok(&format!(
        "savepoint s; {}; rollback to s",
        emit(1_000_000, 20)
    ));
    c.ok(&emit(1_000_000, 10));
    let result = c.run(&emit(1_000_000, 20));
    assert!(
        result.starts_with("ERROR 54000: transaction is too large"),
        "{result}"
    );
    c.ok("rollback");
    assert_eq!(c.rows("select a from t"), "");
}

#[test]
fn events_and_rows_share_the_limit() {
    let node = Node::with(crate::engine::Limits {
        transaction_bytes_max: 100 << 10,
        ..crate::engine::Limits::default()
    });
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key, c text)");
    // Empty ones are not for nothing.
    let empty = "select pg_logical_emit_message(true, 'a', '') from generate_series(1, 1200)";
    let result = c.run(empty);
    assert!(
        result
            .starts_with("ERROR 54000: transaction is too large DETAIL: It has written more than"),
        "{result}"
    );
    let result = c.run("select pg_logical_emit_message(true, 'a', repeat('x', 110000))");
    let too_large = "ERROR 54000: transaction is too large DETAIL: It has written more than 102400";
    assert!(result.starts_with(too_large), "{result}");
    c.ok("begin; insert into t values (1, repeat('x', 60000))");
    let result = c.run("select pg_logical_emit_message(true, 'a', repeat('x', 60000))");
    assert!(result.starts_with(too_large), "{result}");
    c.ok("rollback; begin; select pg_logical_emit_message(true, 'a', repeat('x', 60000))");
    let result = c.run("insert into t values (1, repeat('x', 60000))");
    assert!(result.starts_with(too_large), "{result}");
}

#[test]
fn sleeping_blocks_nobody() {
    let node = Node::new();
    let mut c = node.client("postgres");
    assert_eq!(c.start("select pg_sleep(2), 7"), None);
    node.clock.advance(1_999_000);
    assert_eq!(c.go_on(), None);
    node.clock.advance(2_000);
    assert_eq!(c.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(c.shown(), "|7");
}

#[test]
fn sleeping_knows_no_overflow() {
    let node = Node::new();
    let mut c = node.client("postgres");
    for none in [
        "pg_sleep_until('-infinity')",
        "pg_sleep_until('4713-01-01 BC')",
        "pg_sleep_for('-1 year')",
        "pg_sleep('-infinity')",
        "pg_sleep('nan')",
        "pg_sleep(-1e300)",
    ] {
        assert_eq!(c.run(&format!("select {none}")), "SELECT 1", "{none}");
    }
    for (long, most) in [
        ("pg_sleep_until('infinity')", true),
        ("pg_sleep('infinity')", true),
        ("pg_sleep(1e300)", true),
        ("pg_sleep_for('200000 years')", false),
        ("pg_sleep_until('294276-12-31')", false),
    ] {
        assert_eq!(c.start(&format!("select {long}")), None, "{long}");
        let until = c.waits().expect("asleep").until().expect("some time");
        assert_eq!(until == u64::MAX, most, "{long}: {until}");
        node.clock.advance(3_600_000_000);
        assert_eq!(c.go_on(), None, "{long}");
        c.session.activity().cancel();
        c.stop_waiting();
        let result = c.go_on().expect("woken");
        assert!(result.starts_with("ERROR 57014"), "{long}: {result}");
    }
    // PostgreSQL adds it to the time.
    for far in ["2000000 years", "9223372036854 s"] {
        assert_eq!(
            c.run(&format!("select pg_sleep_for('{far}')")),
            "ERROR 22008: timestamp out of range",
            "{far}"
        );
    }
    // Months of the calendar, as there.
    assert_eq!(c.start("select pg_sleep_for('1 mon')"), None);
    let until = c.waits().expect("asleep").until().expect("some time");
    let days = (until - storage::Clock::unix_micros(&*node.clock)) / 86_400_000_000;
    assert!((28..=31).contains(&days), "{days}");
}

#[test]
fn transaction_ids_and_their_outcome() {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int)");
    c.ok("begin");
    assert_eq!(c.rows("select pg_current_xact_id_if_assigned()"), "NULL");
    let id = c.rows("select pg_current_xact_id()");
    assert_eq!(
        c.rows("select pg_current_xact_id()"),
        id,
        "one id per transaction"
    );
    c.ok("insert into t values (1)");
    assert_eq!(
        c.rows(&format!("select pg_xact_status('{id}'::xid8)")),
        "in progress"
    );
    c.ok("commit");
    assert_eq!(
        c.rows(&format!("select pg_xact_status('{id}'::xid8)")),
        "committed"
    );
    c.ok("begin");
    let id = c.rows("select pg_current_xact_id()");
    c.ok("insert into t values (1); rollback");
    assert_eq!(
        c.rows(&format!("select pg_xact_status('{id}'::xid8)")),
        "aborted"
    );
}

#[test]
fn waiting_for_a_position() {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int)");
    let position = c.rows("select pg_current_wal_lsn()");
    node.clock.advance(1);
    assert_eq!(c.rows(&format!("wait for lsn '{position}'")), "success");
    let far = "7FFFFFFF/0";
    assert_eq!(
        c.start(&format!("wait for lsn '{far}' with (timeout '1s')")),
        None
    );
    node.clock.advance(1_000_001);
    let result = c.go_on().expect("timed out");
    assert!(result.starts_with("ERROR 57014: timed out"), "{result}");
    assert_eq!(
        c.start(&format!(
            "wait for lsn '{far}' with (timeout 100, no_throw)"
        )),
        None
    );
    node.clock.advance(100_001);
    assert_eq!(c.go_on().as_deref(), Some("WAIT"));
    assert_eq!(c.shown(), "timeout");
}

#[test]
fn startup_parameters() {
    let node = Node::new();
    let login = |parameters: &[(&str, &str)]| crate::session::Login {
        user: "postgres".into(),
        parameters: parameters
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        ..crate::session::Login::default()
    };
    let with = login(&[
        ("client_encoding", "'utf-8'"),
        ("options", "-c search_path=a,b --work-mem=1MB"),
        ("application_name", "psql"),
    ]);
    let session = node.engine.session(&with).expect("accepted");
    drop(session);
    assert!(node.engine.session(&login(&[("options", "-x")])).is_err());
    assert!(node.engine.session(&login(&[("no_such", "1")])).is_err());
    let nobody = crate::session::Login {
        user: "nobody".into(),
        ..Default::default()
    };
    assert!(node.engine.session(&nobody).is_err());
    let elsewhere = crate::session::Login {
        user: "postgres".into(),
        database: "other".into(),
        ..Default::default()
    };
    let error = node.engine.session(&elsewhere).err().expect("refused");
    assert_eq!(error.state(), crate::state::INVALID_CATALOG_NAME);
    assert_eq!(
        node.engine.activities().all().len(),
        0,
        "sessions leave the registry"
    );
}
