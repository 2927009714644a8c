//! The extended protocol, prepared statements, portals and cursors.

use super::node::{Client, Node, told};
use crate::Error;
use crate::session::{Status, Step};

fn client() -> (Node, Client) {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create table t (a int primary key, b text)");
    c.ok("insert into t select i, 'row ' || i from generate_series(1, 10) i");
    (node, c)
}

impl Client {
    /// Execute and its tag.
    fn execute(&mut self, portal: &str, max: u64) -> String {
        self.answer.rows.clear();
        loop {
            let step = self.session.execute(portal, max, &mut self.answer);
            self.session.give_room(matches!(step, Ok(Step::Heavy)));
            match step {
                Ok(Step::Done { tag }) => return tag,
                Ok(Step::Suspended) => return "suspended".to_owned(),
                Ok(Step::Wait(waiting)) => assert!(waiting.ready(), "waits"),
                Ok(Step::More | Step::Heavy) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => return told(&error),
            }
        }
    }

    fn sync(&mut self) -> String {
        loop {
            match self.session.sync(&mut self.answer) {
                Ok(Step::End) => return "ready".to_owned(),
                Ok(Step::Wait(waiting)) => assert!(waiting.ready(), "waits"),
                Ok(other) => panic!("{other:?}"),
                Err(error) => return told(&error),
            }
        }
    }

    fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        values: &[Option<&str>],
    ) -> Result<(), Error> {
        let values = values.iter().map(|v| v.map(str::as_bytes));
        self.session.bind(portal, statement, &[], values, &[])
    }
}

#[test]
fn parse_bind_describe_execute() {
    let (_node, mut c) = client();
    c.session
        .parse("s", "select b, a + $1 from t where a = $2", &[])
        .unwrap();
    let described = c.session.describe_statement("s").unwrap();
    assert_eq!(described.parameters, [23, 23]);
    let columns = described.columns.unwrap();
    assert_eq!(
        (
            columns[0].name.as_str(),
            columns[0].type_oid,
            columns[0].number
        ),
        ("b", 25, 2)
    );
    assert_eq!(
        (columns[1].name.as_str(), columns[1].type_oid),
        ("?column?", 23)
    );
    c.bind("", "s", &[Some("100"), Some("3")]).unwrap();
    assert_eq!(c.execute("", 0), "SELECT 1");
    assert_eq!(c.shown(), "row 3|103");
    assert_eq!(c.execute("", 0), "SELECT 0", "at its end");
    assert_eq!(c.sync(), "ready");
    // Binary in, binary out.
    c.session
        .bind(
            "",
            "s",
            &[1],
            [Some(&[0, 0, 0, 1][..]), Some(&[0, 0, 0, 2][..])].into_iter(),
            &[0, 1],
        )
        .unwrap();
    assert_eq!(c.execute("", 0), "SELECT 1");
    assert_eq!(c.shown(), "row 2|\0\0\0\u{3}");
    c.sync();
    for (values, state) in [
        (vec![Some("1")], "08P01"),
        (vec![Some("x"), Some("1")], "22P02"),
    ] {
        let error = c.bind("", "s", &values).expect_err("refused");
        assert_eq!(format!("{:?}", error.state()), state);
        c.sync();
    }
    assert!(c.bind("", "nothing", &[]).is_err());
    c.sync();
    assert!(
        c.session.parse("s", "select 1", &[]).is_err(),
        "the name is in use"
    );
    c.sync();
    c.session.close_statement("s");
    c.session
        .parse("s", "select $1::text || $2", &[0, 25])
        .unwrap();
    assert_eq!(
        c.session.describe_statement("s").unwrap().parameters,
        [25, 25]
    );
    let error = c
        .session
        .parse("", "select 1; select 2", &[])
        .expect_err("two");
    assert_eq!(
        error.0.message,
        "cannot insert multiple commands into a prepared statement"
    );
    c.sync();
    c.session.parse("", "", &[]).unwrap();
    c.bind("", "", &[]).unwrap();
    assert_eq!(c.execute("", 0), "", "EmptyQueryResponse");
    c.sync();
}

#[test]
fn a_pipeline_is_one_transaction() {
    let (_node, mut c) = client();
    c.session
        .parse("i", "insert into t values ($1, 'new')", &[])
        .unwrap();
    for key in ["20", "21"] {
        c.bind("", "i", &[Some(key)]).unwrap();
        assert_eq!(c.execute("", 0), "INSERT 0 1");
    }
    assert_eq!(c.session.status(), Status::Idle);
    c.bind("", "i", &[Some("20")]).unwrap();
    assert!(c.execute("", 0).starts_with("ERROR 23505"));
    assert_eq!(c.sync(), "ready");
    assert_eq!(
        c.rows("select a from t where a >= 20"),
        "",
        "all of it is gone"
    );
    c.bind("", "i", &[Some("20")]).unwrap();
    c.execute("", 0);
    assert_eq!(c.sync(), "ready");
    assert_eq!(c.rows("select a from t where a >= 20"), "20");
}

#[test]
fn row_limits_suspend_a_portal_that_keeps_its_snapshot() {
    let (node, mut c) = client();
    c.ok("begin");
    c.session
        .parse("s", "select a from t order by a", &[])
        .unwrap();
    c.bind("p", "s", &[]).unwrap();
    assert_eq!(c.execute("p", 4), "suspended");
    assert_eq!(c.shown(), "1\n2\n3\n4");
    node.client("postgres").ok("delete from t where a > 5");
    assert_eq!(
        c.rows("select a from t where a = 9"),
        "",
        "a new statement sees it"
    );
    assert_eq!(c.execute("p", 4), "suspended");
    assert_eq!(c.shown(), "5\n6\n7\n8", "the portal does not");
    assert_eq!(c.execute("p", 4), "SELECT 2");
    c.ok("commit");
    assert!(c.execute("p", 1).starts_with("ERROR 34000"));
    c.sync();
}

#[test]
fn writes_with_returning_run_to_their_end_before_the_first_row() {
    let (_node, mut c) = client();
    c.session
        .parse("", "update t set b = 'x' where a < 5 returning a", &[])
        .unwrap();
    c.bind("", "", &[]).unwrap();
    assert_eq!(c.execute("", 2), "suspended");
    assert_eq!(c.answer.rows.len(), 2);
    assert_eq!(c.sync(), "ready");
    assert_eq!(
        c.rows("select a from t where b = 'x' order by a"),
        "1\n2\n3\n4"
    );
}

#[test]
fn prepare_execute_deallocate() {
    let (_node, mut c) = client();
    c.ok("prepare p (int) as select b from t where a = $1");
    assert_eq!(c.rows("execute p(1 + 1)"), "row 2");
    assert_eq!(
        c.rows("select name, from_sql from pg_prepared_statements"),
        "p|t"
    );
    assert!(c.run("execute p").starts_with("ERROR 42601"));
    assert!(c.run("prepare p as select 1").starts_with("ERROR 42P05"));
    c.ok("deallocate p");
    assert!(c.run("execute p(1)").starts_with("ERROR 26000"));
    c.ok("prepare q as insert into t values ($1, $2)");
    assert_eq!(c.run("execute q(77, 'z')"), "INSERT 0 1");
    c.ok("discard all");
    assert!(c.run("execute q(78, 'z')").starts_with("ERROR 26000"));
}

#[test]
fn cached_plans_follow_the_catalog() {
    let (_node, mut c) = client();
    let all = "select * from t where a = 1";
    c.session.parse("all", all, &[]).unwrap();
    let one = "select a from t where a = 1";
    c.session.parse("one", one, &[]).unwrap();
    c.ok("alter table t add column d int default 5");
    // The client was told of two columns: it never gets three.
    let refused = |error: crate::Error| (error.state(), error.to_string());
    let changed = (
        crate::state::FEATURE_NOT_SUPPORTED,
        "cached plan must not change result type".to_owned(),
    );
    let error = c.session.describe_statement("all").unwrap_err();
    assert_eq!(refused(error), changed);
    c.sync();
    assert_eq!(refused(c.bind("", "all", &[]).unwrap_err()), changed);
    c.sync();
    c.session.parse("", all, &[]).unwrap();
    c.bind("", "", &[]).unwrap();
    assert_eq!(c.execute("", 0), "SELECT 1");
    assert_eq!(c.shown(), "1|row 1|5");
    c.sync();
    c.bind("", "one", &[]).unwrap();
    assert_eq!(c.execute("", 0), "SELECT 1");
    c.sync();
    c.ok("drop table t");
    let error = c.bind("", "one", &[]).unwrap_err();
    assert_eq!(error.state(), crate::state::UNDEFINED_TABLE);
    c.sync();
}

#[test]
fn cursors() {
    let (_node, mut c) = client();
    assert!(
        c.run("declare c cursor for select 1")
            .starts_with("ERROR 25P01")
    );
    c.ok("begin; declare c cursor for select a from t order by a");
    assert_eq!(c.rows("fetch 2 from c"), "1\n2");
    assert_eq!(c.rows("fetch c"), "3");
    assert_eq!(c.run("move 2 in c"), "MOVE 2");
    assert_eq!(c.rows("fetch next from c"), "6");
    assert!(
        c.run("fetch prior from c")
            .starts_with("ERROR 55000: cursor can only scan forward")
    );
    c.ok("rollback; begin; declare c scroll cursor for select a from t order by a");
    assert_eq!(c.rows("fetch last from c"), "10");
    assert_eq!(c.rows("fetch prior from c"), "9");
    assert_eq!(c.rows("fetch absolute 3 from c"), "3");
    assert_eq!(c.rows("fetch backward 5 from c"), "2\n1");
    assert_eq!(
        c.rows("fetch forward all from c"),
        "1\n2\n3\n4\n5\n6\n7\n8\n9\n10"
    );
    assert_eq!(c.rows("fetch c"), "");
    assert_eq!(c.rows("select name, is_scrollable from pg_cursors"), "c|t");
    c.ok("commit");
    assert!(c.run("fetch c").starts_with("ERROR 34000"));
    c.ok(
        "begin; declare h cursor with hold for select a from t order by a; fetch 3 from h; commit",
    );
    c.ok("delete from t");
    assert_eq!(c.rows("fetch 2 from h"), "4\n5", "it has its rows already");
    c.ok("close h");
    assert!(c.run("close h").starts_with("ERROR 34000"));
}

#[test]
fn explain_and_show_are_described() {
    let (_node, mut c) = client();
    for (sql, column) in [
        ("show work_mem", "work_mem"),
        ("explain select 1", "QUERY PLAN"),
    ] {
        c.session.parse("", sql, &[]).unwrap();
        let columns = c.session.describe_statement("").unwrap().columns.unwrap();
        assert_eq!(columns[0].name, column);
        c.bind("", "", &[]).unwrap();
        assert_eq!(
            c.session.describe_portal("").unwrap().unwrap()[0].name,
            column
        );
        c.execute("", 0);
        assert!(!c.answer.rows.is_empty());
        c.sync();
    }
    c.session.parse("", "begin", &[]).unwrap();
    assert_eq!(c.session.describe_statement("").unwrap().columns, None);
    c.bind("", "", &[]).unwrap();
    assert_eq!(c.execute("", 0), "BEGIN");
    c.sync();
    assert_eq!(c.session.status(), Status::InTransaction);
    assert!(c.session.parse("", "select nonsense", &[]).is_err());
    c.sync();
    assert_eq!(c.session.status(), Status::Failed);
    c.session.parse("", "rollback", &[]).unwrap();
    c.bind("", "", &[]).unwrap();
    assert_eq!(c.execute("", 0), "ROLLBACK");
    c.sync();
    assert_eq!(c.session.status(), Status::Idle);
}
