//! What a session takes along to another node.

use super::pair::Pair;
use crate::session::{Home, Portable};

fn pair() -> Pair {
    let pair = Pair::new();
    pair.a
        .client("postgres")
        .ok("create role app login; create role team; grant team to app");
    pair.a
        .client("app")
        .ok("create table t (id int primary key, n int); create sequence s");
    pair.sync();
    pair
}

/// A session with one of everything.
const BEFORE: [&str; 8] = [
    "set datestyle = 'SQL, DMY'; set application_name = 'tests'; set my.own = 'x'",
    "set work_mem = '8MB'",
    "prepare p (int) as select $1 + n from t where id = $1",
    "prepare q as values (1, 'a')",
    "select nextval('s'), nextval('s')",
    "listen first; listen second",
    "insert into t values (1, 10)",
    "set role team",
];

#[test]
fn everything_is_there_again() {
    let pair = pair();
    let mut before = pair.a.client("app");
    BEFORE.iter().for_each(|sql| {
        before.ok(sql);
    });
    before
        .session
        .parse("wire", "select $1::int8 + 1 as next", &[])
        .unwrap();
    pair.sync();
    let exported = before.session.export().expect("it can move");
    let asked = [
        "show datestyle",
        "show application_name",
        "show my.own",
        "show work_mem",
        "select current_user, session_user",
        "show freehold.token",
        "select current_setting('is_superuser')",
        "select name, statement, parameter_types, from_sql, prepare_time \
         from pg_prepared_statements order by name",
        "select * from pg_listening_channels()",
        "execute q",
        "reset role",
        "execute p (1)",
        "select currval('s'), lastval()",
    ];
    let answers = asked.map(|sql| before.rows(sql));
    let described = before.session.describe_statement("wire").unwrap();
    pair.hand_over(pair.a.group("app"));
    let mut after = pair.b.resumed("app", &exported);
    for (sql, answer) in asked.iter().zip(answers) {
        assert_eq!(after.rows(sql), answer, "{sql}");
    }
    assert_eq!(after.session.describe_statement("wire").unwrap(), described);
    assert!(
        after.answer.parameters.is_empty(),
        "the client knows them: {:?}",
        after.answer.parameters
    );
    after.ok("set timezone = 'Europe/Berlin'");
    let told = &after.answer.parameters;
    assert_eq!(told, &[("TimeZone".to_owned(), "Europe/Berlin".to_owned())]);
    assert_eq!(after.rows("reset all; show work_mem"), "4MB");
}

#[test]
fn changes_add_up_to_all() {
    let pair = pair();
    let mut client = pair.a.client("app");
    assert!(client.session.is_dirty());
    let first = client.session.export_changes().expect("it can move");
    let mut known = Portable::new(&first).unwrap();
    let statements = [
        "begin",
        "set local my.x = 'y'",
        "commit",
        "deallocate p",
        "prepare p as select 2",
        "unlisten first",
        "reset role",
        "select setval('s', 77)",
        "set freehold.token = '1:1/1'",
        "deallocate all",
        "discard all",
    ];
    for sql in BEFORE.iter().chain(&statements) {
        client.ok(sql);
        assert!(client.session.is_dirty(), "{sql}");
        known
            .merge(&client.session.export_changes().expect("it can move"))
            .unwrap();
        let all = client.session.export().expect("it can move");
        assert_eq!(known, Portable::new(&all).unwrap(), "{sql}");
        assert!(!client.session.is_dirty(), "{sql}");
    }
    client.ok("select * from t");
    assert!(client.session.is_dirty(), "it has read something newer");
    let changes = client.session.export_changes().expect("it can move");
    known.merge(&changes).unwrap();
    client.ok("select 1; select * from t");
    assert!(!client.session.is_dirty(), "nothing has changed");
}

#[test]
fn what_cannot_move_is_told_and_that_it_can_again() {
    let pair = pair();
    let mut client = pair.a.client("app");
    let first = client.session.export_changes().expect("it can move");
    let mut known = Portable::new(&first).unwrap();
    client.ok("begin; set my.x = '1'; insert into t values (1, 1)");
    assert!(client.session.is_dirty());
    assert_eq!(client.session.export_changes(), None);
    assert_eq!(client.session.export(), None);
    assert!(!client.session.is_dirty());
    assert_eq!(client.session.home(), Home::Anywhere);
    client.ok("commit");
    assert!(client.session.is_dirty());
    known
        .merge(&client.session.export_changes().expect("it can move"))
        .unwrap();
    let all = client.session.export().expect("it can move");
    assert_eq!(known, Portable::new(&all).unwrap());
    assert_eq!(client.session.home(), Home::Leader(pair.a.group("app")));
    client.ok("set role team");
    assert_eq!(
        client.session.home(),
        Home::Anywhere,
        "that role has no tables"
    );
    client.ok("reset role; set freehold.read = 'local'");
    assert_eq!(client.session.home(), Home::Client);
}

#[test]
fn a_failed_block_goes_along() {
    let pair = pair();
    let mut client = pair.a.client("app");
    client.ok("begin");
    assert!(client.run("select 1 / 0").starts_with("ERROR 22012"));
    let exported = client.session.export().expect("it can move");
    let mut client = pair.b.resumed("app", &exported);
    assert!(client.run("select 1").starts_with("ERROR 25P02"));
    assert_eq!(client.ok("commit"), "ROLLBACK");
    assert_eq!(client.rows("select 1"), "1");
}

#[test]
fn a_token_is_waited_for_where_the_session_goes_on() {
    let pair = pair();
    let mut client = pair.a.client("postgres");
    client.ok("insert into app.t values (1, 1)");
    let exported = client.session.export().expect("it can move");
    let mut client = pair.b.resumed("postgres", &exported);
    assert_eq!(client.start("select n from app.t"), None);
    pair.sync();
    assert_eq!(client.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(client.shown(), "1");
}

#[test]
fn damaged_bytes_open_no_session_and_never_panic() {
    let pair = pair();
    let mut client = pair.a.client("app");
    BEFORE.iter().for_each(|sql| {
        client.ok(sql);
    });
    client.ok("begin; set local my.x = 'y'");
    let exported = client.session.export().expect("it can move");
    let login = crate::session::Login {
        user: "app".into(),
        ..crate::session::Login::default()
    };
    let resume = |bytes: &[u8]| pair.b.engine.resume(&login, bytes);
    assert!(resume(&exported).is_ok());
    for end in 0..exported.len() {
        if let Ok(session) = resume(&exported[..end]) {
            panic!("{end}: {:?}", session.status());
        }
    }
    for at in 0..exported.len() {
        for change in [1, 0x40, 0xff] {
            let mut damaged = exported.clone();
            damaged[at] ^= change;
            let _ = resume(&damaged);
        }
    }
}
