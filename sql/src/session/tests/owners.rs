//! Owners: one per transaction, who may act for them, and what the entry says.

use super::node::Node;

#[test]
fn a_transaction_writes_one_owner() {
    let node = Node::new();
    let mut root = node.client("postgres");
    root.ok("create role a login; create role b login");
    node.client("a").ok("create table ta (id int primary key)");
    node.client("b").ok("create table tb (id int primary key)");
    root.ok("begin; insert into a.ta values (1)");
    let result = root.run("insert into b.tb values (1)");
    assert!(
        result.starts_with("ERROR 0A000: a transaction can write the tables of one owner only DETAIL: It has written tables of owner \"a\" and now writes tables of owner \"b\"."),
        "{result}"
    );
    root.ok("rollback");
    root.ok("insert into a.ta values (1)");
    root.ok("insert into b.tb values (2)");
    assert_eq!(root.rows("select a.ta.id, b.tb.id from a.ta, b.tb"), "1|2");
}

#[test]
fn waiting_for_a_position_waits_for_what_the_role_may_read() {
    let node = Node::new();
    let mut root = node.client("postgres");
    root.ok("create role a login; create role b login; create role reader login");
    let (mut a, mut b) = (node.client("a"), node.client("b"));
    a.ok("create table ta (id int primary key, n int); grant select (n) on ta to reader");
    a.ok("grant usage on schema a to reader");
    b.ok("create table tb (id int primary key)");
    let group = |role: &str| node.local.groups().get(node.group(role)).expect("held");
    let (of_a, of_b) = (group("a"), group("b"));
    let before = of_b.applied();
    node.clock.advance(1_000);
    a.ok("insert into ta values (1)");
    let position = of_a.applied();
    assert!(position > before);
    node.clock.advance(1_000);
    let wait = format!("wait for lsn '{position}'");
    let mut reader = node.client("reader");
    assert_eq!(reader.rows(&wait), "success");
    assert_eq!(of_b.applied(), before, "b is none of the reader's business");
    // Nor does it wait when b has something under way.
    node.local.hold(node.group("b"));
    assert_eq!(b.start("insert into tb values (1)"), None);
    assert_eq!(reader.rows(&wait), "success");
    assert_eq!(root.start(&wait), None, "a superuser reads everything");
    node.local.release(node.group("b")).expect("applied");
    assert_eq!(b.go_on().as_deref(), Some("INSERT 0 1"));
    node.clock.advance(100_000);
    assert_eq!(root.go_on().as_deref(), Some("WAIT"));
    // Of what it may read it waits for all.
    b.ok("grant usage on schema b to reader; grant select on tb to reader");
    node.clock.advance(1_000);
    a.ok("insert into ta values (2)");
    let wait = format!("wait for lsn '{}'", of_a.applied());
    assert!(of_b.applied() < of_a.applied());
    node.clock.advance(1_000);
    assert_eq!(reader.rows(&wait), "success");
    assert!(of_b.applied() >= of_a.applied());
}

#[test]
fn what_a_role_may_not_see_does_not_exist() {
    let node = Node::new();
    let mut root = node.client("postgres");
    root.ok("create role a login; create role b login; create role m login; grant a to m");
    node.client("a")
        .ok("create table secret (id int primary key); insert into secret values (1)");
    let mut b = node.client("b");
    for sql in [
        "select * from a.secret",
        "insert into a.secret values (2)",
        "drop table a.secret",
        "copy a.secret to stdout",
    ] {
        let result = b.run(sql);
        assert!(result.starts_with("ERROR 42P01"), "{sql}: {result}");
    }
    let mut m = node.client("m");
    assert_eq!(
        m.run("insert into a.secret values (2)"),
        "INSERT 0 1",
        "a member acts for the owner"
    );
    m.ok("set role a");
    assert_eq!(
        m.rows("select current_user, session_user, id from secret order by id"),
        "a|m|1\na|m|2"
    );
    m.ok("reset role");
    assert!(m.run("set role b").starts_with("ERROR 42501"));
    assert!(
        m.run("set session authorization a")
            .starts_with("ERROR 42501")
    );
    root.ok("set session authorization b");
    assert_eq!(root.rows("select current_user"), "b");
    assert!(
        root.run("select * from a.secret")
            .starts_with("ERROR 42P01")
    );
    root.ok("reset session authorization");
    assert_eq!(root.rows("select current_user"), "postgres");
}

#[test]
fn ddl_and_rows_are_one_transaction() {
    let node = Node::new();
    node.client("postgres").ok("create role a login");
    let mut a = node.client("a");
    let mut other = node.client("a");
    a.ok("begin; create table t (id serial primary key, v text); insert into t (v) values ('x'), ('y')");
    assert_eq!(a.rows("select id, v from t order by id"), "1|x\n2|y");
    assert!(other.run("select * from t").starts_with("ERROR 42P01"));
    a.ok("rollback");
    assert!(a.run("select * from t").starts_with("ERROR 42P01"));
    a.ok("begin; create table t (id serial primary key, v text); insert into t (v) values ('x'), ('y'); commit");
    assert_eq!(
        other.rows("insert into t (v) values ('z') returning id"),
        "3",
        "the sequence goes on"
    );
    a.ok("begin; savepoint s; alter table t add column w int; update t set w = 1; rollback to s");
    assert!(a.run("select w from t").starts_with("ERROR 42703"));
    a.ok("rollback");
}

#[test]
fn sequences() {
    let node = Node::new();
    node.client("postgres").ok("create role a login");
    let (mut a, mut b) = (node.client("a"), node.client("a"));
    a.ok("create sequence s start 5");
    assert!(a.run("select currval('s')").starts_with("ERROR 55000"));
    assert_eq!(
        a.rows("select nextval('s'), nextval('s'), currval('s')"),
        "5|6|6"
    );
    assert_eq!(b.rows("select nextval('s')"), "7");
    assert_eq!(a.rows("select lastval()"), "6");
    assert_eq!(a.rows("select setval('s', 100)"), "100");
    assert_eq!(b.rows("select nextval('s')"), "101");
    a.ok("begin; select nextval('s'); rollback");
    assert_eq!(
        b.rows("select nextval('s')"),
        "103",
        "numbers are never taken back"
    );
    a.ok("alter sequence s restart with 7");
    assert_eq!(b.rows("select nextval('s')"), "7");
    let many = b.rows("select nextval('s') from generate_series(1, 1000)");
    let expected: Vec<String> = (8..1008).map(|n| n.to_string()).collect();
    assert_eq!(many, expected.join("\n"));
    a.ok("create sequence small maxvalue 2");
    assert_eq!(
        a.rows("select nextval('small') from generate_series(1, 2)"),
        "1\n2"
    );
    assert!(a.run("select nextval('small')").starts_with("ERROR 2200H"));
    a.ok("create sequence round minvalue 1 maxvalue 3 cycle");
    assert_eq!(
        a.rows("select nextval('round') from generate_series(1, 5)"),
        "1\n2\n3\n1\n2"
    );
    assert!(
        a.run("begin read only; select nextval('s')")
            .contains("ERROR 25006")
    );
}

#[test]
fn a_sequence_survives_refused_reservations() {
    let node = Node::new();
    node.client("postgres").ok("create role a login");
    let mut a = node.client("a");
    a.ok("create sequence s; create table t (id bigint default nextval('s') primary key)");
    a.ok("insert into t default values");
    let group = node.group("a");
    node.local.step_down(group);
    node.local.lead(group).unwrap();
    a.ok("insert into t default values");
    a.ok("insert into t default values");
    let ids = a.rows("select id from t order by id");
    let ids: Vec<i64> = ids.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.windows(2).all(|w| w[0] < w[1]), "{ids:?}");
}

#[test]
fn a_sequence_has_no_gaps_while_its_reservation_is_pending() {
    let node = Node::new();
    node.client("postgres").ok("create role a login");
    let mut a = node.client("a");
    a.ok("create table t (id bigint generated always as identity, n int)");
    let group = node.group("a");
    node.local.hold(group);
    assert_eq!(
        a.start("insert into t (n) values (1), (2), (3) returning id"),
        None
    );
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("INSERT 0 3"));
    assert_eq!(a.shown(), "1\n2\n3");
    a.ok("alter sequence t_id_seq restart");
    assert_eq!(a.rows("insert into t (n) values (4) returning id"), "1");
}

#[test]
fn an_id_may_be_older_than_its_owners_group() {
    let node = Node::new();
    node.client("postgres").ok("create role late login");
    let mut late = node.client("late");
    late.ok("begin");
    let id = late.rows("select pg_current_xact_id()");
    late.ok("create table t (a int); insert into t values (1); commit");
    assert_eq!(
        late.rows(&format!("select pg_xact_status('{id}')")),
        "committed"
    );
}
