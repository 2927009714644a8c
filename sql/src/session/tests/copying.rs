//! COPY through a session: both directions, errors with their line, waits, large data.

use super::node::{Client, Node};
use crate::engine::Limits;

fn client() -> (Node, Client) {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key, b text default 'd', c numeric(5,2))");
    (node, c)
}

#[test]
fn text_in_and_out() {
    let (_node, mut c) = client();
    assert_eq!(c.run("copy t from stdin"), "COPY IN");
    let data = b"1\tone\t1.5\n2\t\\N\t\\N\n3\tx\\ty\t99.99\n\\.\n";
    assert_eq!(c.copy(data, 7), "COPY 3");
    c.ok("copy t to stdout");
    assert_eq!(
        c.answer.copied,
        b"1\tone\t1.50\n2\t\\N\t\\N\n3\tx\\ty\t99.99\n"
    );
    c.ok("copy (select a, b from t where a > 1 order by a desc) to stdout (format csv, header)");
    assert_eq!(c.answer.copied, b"a,b\n3,x\ty\n2,\n");
}

#[test]
fn columns_defaults_where_and_options() {
    let (_node, mut c) = client();
    assert_eq!(
        c.run("copy t (a, c) from stdin with (format csv, header match, freeze)"),
        "COPY IN"
    );
    assert_eq!(c.copy(b"a,c\n7,1\n8,2\n", 3), "COPY 2");
    assert_eq!(
        c.rows("select a, b, c from t order by a"),
        "7|d|1.00\n8|d|2.00"
    );
    assert_eq!(c.run("copy t (a) from stdin where a > 10"), "COPY IN");
    assert_eq!(c.copy(b"9\n11\n12\n", 100), "COPY 2");
    assert_eq!(c.rows("select a from t order by a"), "7\n8\n11\n12");
}

#[test]
fn errors_name_the_line() {
    let (_node, mut c) = client();
    for (data, expected) in [
        (
            &b"1\tx\t1\nz\ty\t1\n"[..],
            "ERROR 22P02: invalid input syntax for type integer: \"z\" CONTEXT: COPY t, line 2, column a: \"z\"",
        ),
        (
            b"1\tx\n",
            "ERROR 22P04: missing data for column \"c\" CONTEXT: COPY t, line 1: \"1\tx\"",
        ),
        (
            b"1\tx\t1\t1\n",
            "ERROR 22P04: extra data after last expected column CONTEXT: COPY t, line 1: \"1\tx\t1\t1\"",
        ),
        (
            b"1\tx\t1\n1\ty\t1\n",
            "ERROR 23505: duplicate key value violates unique constraint \"t_pkey\" DETAIL: Key (a)=(1) already exists. CONTEXT: COPY t, line 2",
        ),
        (
            b"\\N\tx\t1\n",
            "ERROR 23502: null value in column \"a\" of relation \"t\" violates not-null constraint DETAIL: Failing row contains (null, x, 1.00). CONTEXT: COPY t, line 1: \"\\N\tx\t1\"",
        ),
        (
            b"1\t\xff\t1\n",
            "ERROR 22021: invalid byte sequence for encoding \"UTF8\"",
        ),
    ] {
        assert_eq!(c.run("copy t from stdin"), "COPY IN");
        let result = c.copy(data, 64);
        assert!(result.starts_with(expected), "{result}\n{expected}");
        assert_eq!(c.rows("select a from t"), "");
    }
    for (sql, state) in [
        ("copy nowhere from stdin", "42P01"),
        ("copy t from '/etc/passwd'", "42501"),
        ("copy t (a, a) from stdin", "42701"),
        ("copy t (z) from stdin", "42703"),
        ("copy t to stdout (format csv, quote 'ab')", "0A000"),
    ] {
        let result = c.run(sql);
        assert!(
            result.starts_with(&format!("ERROR {state}")),
            "{sql}: {result}"
        );
    }
    assert_eq!(c.run("copy t from stdin"), "COPY IN");
    let error = c.session.copy_fail("client gave up").expect_err("it fails");
    assert_eq!(error.0.message, "COPY from stdin failed: client gave up");
}

#[test]
fn binary_round_trip() {
    let (_node, mut c) = client();
    c.ok("insert into t values (1, 'é', 1.25), (2, null, null)");
    c.ok("copy t to stdout (format binary)");
    let data = std::mem::take(&mut c.answer.copied);
    c.ok("delete from t");
    assert_eq!(c.run("copy t from stdin (format binary)"), "COPY IN");
    assert_eq!(c.copy(&data, 5), "COPY 2");
    assert_eq!(
        c.rows("select * from t order by a"),
        "1|é|1.25\n2|NULL|NULL"
    );
}

#[test]
fn a_row_waits_for_another_transaction() {
    let (node, mut c) = client();
    let mut other = node.client("postgres");
    other.ok("begin; insert into t values (2)");
    assert_eq!(c.run("copy t (a) from stdin"), "COPY IN");
    let step = c.session.copy_data(b"1\n2\n3\n").expect("no error yet");
    assert!(matches!(step, crate::session::Step::Wait(_)), "{step:?}");
    other.ok("rollback");
    let step = c.session.copy_data(b"").expect("the key is free");
    assert!(matches!(step, crate::session::Step::More), "{step:?}");
    assert_eq!(c.copy(b"4\n", 2), "COPY 4");
    assert_eq!(c.rows("select a from t order by a"), "1\n2\n3\n4");
}

#[test]
fn a_row_waits_as_long_as_lock_timeout_allows() {
    let (node, mut c) = client();
    let mut other = node.client("postgres");
    other.ok("begin; insert into t values (2)");
    c.ok("set lock_timeout = '100ms'");
    assert_eq!(c.run("copy t (a) from stdin"), "COPY IN");
    let until = |step| match step {
        Ok(crate::session::Step::Wait(waiting)) => waiting.until().expect("some time"),
        other => panic!("{other:?}"),
    };
    let now = || storage::Clock::unix_micros(&*node.clock);
    assert_eq!(until(c.session.copy_data(b"1\n2\n3\n")), now() + 100_000);
    node.clock.advance(99_000);
    other.ok("rollback; begin; insert into t values (4)");
    assert!(matches!(
        c.session.copy_data(b""),
        Ok(crate::session::Step::More)
    ));
    // Another row, long after.
    node.clock.advance(60_000_000);
    assert_eq!(until(c.session.copy_data(b"4\n")), now() + 100_000);
    node.clock.advance(100_000);
    let error = c.session.copy_data(b"").expect_err("too long");
    assert_eq!(
        super::node::told(&error),
        "ERROR 55P03: canceling statement due to lock timeout CONTEXT: COPY t, line 4"
    );
    other.ok("commit");
    assert_eq!(c.rows("select a from t"), "4");
}

#[test]
fn a_check_that_had_to_wait_is_made_after_it() {
    let (node, mut c) = client();
    c.ok("create table child (a int references t); insert into t values (1), (2)");
    let mut other = node.client("postgres");
    other.ok("begin; delete from t where a = 1");
    assert_eq!(c.run("copy child from stdin"), "COPY IN");
    let step = c.session.copy_data(b"2\n1\n").expect("no error yet");
    assert!(matches!(step, crate::session::Step::More), "{step:?}");
    let step = c.session.copy_done(&mut c.answer).expect("no error yet");
    assert!(matches!(step, crate::session::Step::Wait(_)), "{step:?}");
    other.ok("commit");
    let error = c.session.copy_done(&mut c.answer).expect_err("it is gone");
    assert_eq!(error.state().as_str(), "23503", "{error}");
    assert_eq!(c.rows("select a from child"), "");
}

#[test]
fn a_key_that_is_referenced_is_waited_for_as_long_as_lock_timeout_allows() {
    let (node, mut c) = client();
    c.ok("create table child (a int references t); insert into t values (1)");
    let mut other = node.client("postgres");
    other.ok("begin; delete from t");
    c.ok("set lock_timeout = '100ms'");
    assert_eq!(c.run("copy child from stdin"), "COPY IN");
    assert!(matches!(
        c.session.copy_data(b"1\n"),
        Ok(crate::session::Step::More)
    ));
    let mut end = || c.session.copy_done(&mut c.answer);
    assert!(matches!(end(), Ok(crate::session::Step::Wait(_))));
    node.clock.advance(99_000);
    assert!(
        matches!(end(), Ok(crate::session::Step::Wait(_))),
        "asked too early"
    );
    node.clock.advance(100_000);
    let error = end().expect_err("too long");
    assert_eq!(
        super::node::told(&error),
        "ERROR 55P03: canceling statement due to lock timeout"
    );
}

/// `n` lines that each name a row of `p`, the first a missing one if `bad`.
fn children(n: u32, bad: bool) -> Vec<u8> {
    let parent = |i: u32| if bad && i == 0 { 77 } else { i % 3 + 1 };
    let lines = (0..n).map(|i| format!("{i}\t{}\n", parent(i)));
    lines.collect::<String>().into_bytes()
}

#[test]
fn foreign_keys_are_checked_on_the_way() {
    let node = Node::with(Limits {
        transaction_bytes_max: 100 << 10,
        ..Limits::default()
    });
    let mut c = node.client("postgres");
    c.ok(
        "create table p (id int primary key); insert into p values (1), (2), (3); \
          create table c (id int primary key, p int references p)",
    );
    let missing = "ERROR 23503: insert or update on table \"c\" violates foreign key constraint \
                   \"c_p_fkey\" DETAIL: Key (p)=(77) is not present in table \"p\".";
    // Said while the data still comes, and not of the line that is just read.
    assert_eq!(c.run("copy c from stdin"), "COPY IN");
    let error = c
        .session
        .copy_data(&children(2_000, true))
        .expect_err("p 77");
    assert_eq!(super::node::told(&error), missing);
    assert_eq!(
        c.run(
            "insert into c select i, case i when 1 then 77 else 1 end \
               from generate_series(1, 100000) i"
        ),
        missing
    );
    // All of them at the end would be more than the limit.
    assert_eq!(c.run("copy c from stdin"), "COPY IN");
    assert_eq!(c.copy(&children(2_000, false), 1 << 20), "COPY 2000");
    assert_eq!(
        c.run("insert into c select i, i % 3 + 1 from generate_series(2001, 4000) i"),
        "INSERT 0 2000"
    );
    let result = c.run("update c set p = p % 3 + 1 where id < 1200");
    assert!(
        result.starts_with("ERROR 54000: transaction is too large"),
        "{result}"
    );
    // Those of a table that references itself see all rows of their statement.
    c.ok("create table tree (id int primary key, up int references tree)");
    c.ok("insert into tree select i, nullif(i + 1, 601) from generate_series(1, 600) i");
    assert_eq!(c.run("copy tree from stdin"), "COPY IN");
    let chain: String = (700..1_300).map(|i| format!("{i}\t{}\n", i + 1)).collect();
    assert_eq!(
        c.copy(format!("{chain}1300\t1\n").as_bytes(), 1 << 20),
        "COPY 601"
    );
    assert_eq!(c.run("copy tree from stdin"), "COPY IN");
    let error = c.copy(b"2000\t2001\n", 100);
    assert!(error.starts_with("ERROR 23503"), "{error}");
}

#[test]
fn deferred_checks_count_against_the_transaction() {
    let node = Node::with(Limits {
        transaction_bytes_max: 100 << 10,
        ..Limits::default()
    });
    let mut c = node.client("postgres");
    c.ok(
        "create table p (id int primary key); insert into p values (1), (2), (3); \
          create table c (id int primary key, \
                          p int references p deferrable initially deferred)",
    );
    let too_large = "ERROR 54000: transaction is too large";
    let result = c.run("insert into c select i, i % 3 + 1 from generate_series(1, 2000) i");
    assert!(result.starts_with(too_large), "{result}");
    assert_eq!(c.run("copy c from stdin"), "COPY IN");
    let result = c.copy(&children(2_000, false), 1 << 20);
    assert!(result.starts_with(too_large), "{result}");
    // What was taken back, and what was made, is not counted.
    let rows = |from: u32| {
        format!("insert into c select i, i % 3 + 1 from generate_series({from}, {from} + 399) i")
    };
    c.ok(&format!("begin; savepoint s; {}; rollback to s", rows(1)));
    c.ok(&format!("{}; set constraints all immediate", rows(1)));
    c.ok(&format!(
        "set constraints all deferred; {}; commit",
        rows(1_000)
    ));
    assert_eq!(c.rows("select count(*) from c"), "800");
    c.ok("begin");
    c.ok(&rows(3_000));
    c.ok(&rows(4_000));
    let result = c.run(&rows(5_000));
    assert!(result.starts_with(too_large), "{result}");
}

#[test]
fn more_than_memory_is_spooled_and_can_be_rolled_back() {
    let node = Node::with(Limits {
        write_memory_bytes: 64 << 10,
        ..Limits::default()
    });
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key, b int, c text); create index on t (b)");
    let lines = |from: i32, to: i32| -> Vec<u8> {
        (from..to)
            .flat_map(|i| format!("{i}\t{}\tsome text of row {i}\n", i % 100).into_bytes())
            .collect()
    };
    c.ok("begin");
    assert_eq!(c.run("copy t from stdin"), "COPY IN");
    assert_eq!(c.copy(&lines(0, 5_000), 1_000), "COPY 5000");
    // Its own writes are seen in the spool, by key and by index.
    assert_eq!(
        c.rows("select c from t where a = 4321"),
        "some text of row 4321"
    );
    assert_eq!(
        c.rows("select a from t where b = 7 order by a limit 3"),
        "7\n107\n207"
    );
    c.ok("update t set b = 1000 where a = 7; delete from t where a = 107");
    c.ok("savepoint s");
    c.ok("delete from t where b = 1000");
    c.ok("rollback to s");
    assert_eq!(c.rows("select a from t where b = 1000"), "7");
    c.ok("commit");
    assert_eq!(
        c.rows("select a from t where b = 7 order by a limit 2"),
        "207\n307"
    );
    assert_eq!(c.rows("select a from t where b = 1000"), "7");
    assert_eq!(
        c.rows("select a from t where a in (0, 107, 4999) order by a"),
        "0\n4999"
    );
    c.ok("begin");
    assert_eq!(c.run("copy t from stdin"), "COPY IN");
    assert_eq!(c.copy(&lines(5_000, 9_000), 1_000), "COPY 4000");
    c.ok("rollback");
    assert_eq!(c.rows("select a from t where a >= 5000"), "");
}

#[test]
fn too_large_is_54000() {
    let node = Node::with(Limits {
        transaction_bytes_max: 100 << 10,
        ..Limits::default()
    });
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key, c text)");
    let result = c.run("insert into t select i, repeat('x', 100) from generate_series(1, 5000) i");
    assert!(
        result.starts_with("ERROR 54000: transaction is too large"),
        "{result}"
    );
    assert_eq!(c.rows("select a from t"), "");
}
