//! The fixtures themselves, tested on PostgreSQL: a harness that lies is worse than none.

use std::time::Duration;

use tests::{End, Oracle, SUPERUSER, Security};

#[test]
fn the_oracle_answers_with_every_detail() {
    let Some(oracle) = Oracle::start_with(Security::Passwords) else {
        return;
    };
    oracle.place().add_owner("app");
    let mut session = oracle.place().session("app");
    assert!(session.parameters["server_version"].starts_with("15."));
    let answer = session.ok("SELECT 1::int8 AS one, NULL AS nothing");
    let columns = answer.columns.as_ref().expect("a SELECT has columns");
    assert_eq!((columns[0].name.as_str(), columns[0].type_oid), ("one", 20));
    assert_eq!(answer.rows, [[Some("1".to_owned()), None]]);
    assert_eq!(answer.end, End::Tag("SELECT 1".into()));
    assert_eq!(session.fail("SELECT 1/0").sqlstate, "22012");
    session.ok("CREATE TABLE t (i int)");
    session.give_copy_data(b"1\n2\n");
    assert_eq!(session.ok("COPY t FROM STDIN").tag(), "COPY 2");
    assert_eq!(session.rows("COPY t TO STDOUT"), ["1\n", "2\n"]);
    assert_eq!(
        session
            .extended("SELECT $1::int + 1", &[Some("41")])
            .unwrap()
            .text(),
        "?column?|\n42|\nSELECT 1"
    );

    let mut wrong = oracle.place().login("app");
    wrong.password = "wrong".into();
    assert_eq!(wrong.open().err().map(|e| e.sqlstate), Some("28P01".into()));

    session.send("SELECT pg_sleep(60)");
    assert_eq!(
        session.answers_within(Duration::from_millis(50)).unwrap(),
        None
    );
    session.cancel();
    let answers = session
        .answers_within(Duration::from_secs(10))
        .unwrap()
        .expect("cancelled");
    assert_eq!(answers[0].sqlstate(), "57014");

    let mut superuser = oracle.place().session(SUPERUSER);
    superuser.ok(&format!("SELECT pg_terminate_backend({})", session.process));
    let last = session
        .last_words(Duration::from_secs(10))
        .expect("it says why it ends");
    assert_eq!(last.sqlstate, "57P01");
}
