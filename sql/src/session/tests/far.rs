//! What a node that does not lead tells: outcomes of transactions, notifications, sequences, positions.

use std::sync::atomic::Ordering;

use storage::GroupId;

use super::pair::Pair;
use crate::cluster::News;

fn pair() -> (Pair, GroupId) {
    let pair = Pair::new();
    pair.a
        .client("postgres")
        .ok("create role app login; create role reader login");
    pair.a.client("app").ok(
        "create table t (id int primary key, n int); create sequence s; \
         grant usage on schema app to public; grant select on t to reader",
    );
    pair.sync();
    let app = pair.a.group("app");
    (pair, app)
}

#[test]
fn the_outcome_of_a_transaction_is_told_anywhere() {
    let (pair, app) = pair();
    let mut client = pair.a.client("app");
    client.ok("begin");
    let done = client.rows("select pg_current_xact_id()");
    client.ok("insert into t values (1, 1); commit; begin");
    let gone = client.rows("select pg_current_xact_id()");
    client.ok("rollback; begin");
    let open = client.rows("select pg_current_xact_id()");
    let ask = |id: &str| format!("select pg_xact_status('{id}')");
    let mut reader = pair.b.client("reader");
    // The node of the transaction leads still: it says what is open there.
    assert_eq!(reader.rows(&ask(&open)), "in progress");
    assert_eq!(
        reader.start(&ask(&gone)),
        None,
        "it is not proven that it has not committed"
    );
    pair.clock.advance(5_100_000);
    reader.go_on().expect("its time is over");
    assert_eq!(reader.shown(), "in progress", "nobody can say");
    pair.sync();
    assert_eq!(reader.rows(&ask(&done)), "committed");
    // One of several is not told what is true of another.
    let both = format!("select pg_xact_status('{gone}'), pg_xact_status('{open}')");
    assert_eq!(reader.rows(&both), "aborted|in progress");
    let mut here = pair.a.client("reader");
    assert_eq!(here.rows(&ask(&open)), "in progress");
    assert_eq!(here.rows(&ask(&gone)), "aborted");
    for group in [app, GroupId::DIRECTORY] {
        pair.hand_over(group);
    }
    let before = pair.script.barriers.load(Ordering::SeqCst);
    assert_eq!(reader.rows(&ask(&gone)), "aborted");
    let after = pair.script.barriers.load(Ordering::SeqCst);
    assert_eq!(after - before, 2, "each group is proven");
    assert_eq!(reader.rows(&ask(&done)), "committed");
    // A barrier that fails is tried again.
    let script = &pair.script;
    script.held.store(true, Ordering::SeqCst);
    assert_eq!(reader.start(&ask(&gone)), None);
    script.cut.store(true, Ordering::SeqCst);
    script.release();
    assert_eq!(reader.go_on(), None);
    script.cut.store(false, Ordering::SeqCst);
    script.held.store(false, Ordering::SeqCst);
    pair.clock.advance(100_000);
    reader.go_on().expect("told");
    assert_eq!(reader.shown(), "aborted");
    pair.b.local.step_down(app);
    assert_eq!(
        reader.start(&ask(&gone)),
        None,
        "there may be a leader soon"
    );
    pair.clock.advance(5_100_000);
    reader.go_on().expect("its time is over");
    assert_eq!(reader.shown(), "in progress", "nobody can say");
    assert_eq!(reader.rows(&ask(&done)), "committed");
}

#[test]
fn notifications_reach_the_other_node_with_their_entry() {
    let (pair, _) = pair();
    let mut listener = pair.b.client("reader");
    let mut stranger = pair.b.client("postgres");
    listener.ok("listen c; listen t");
    stranger.ok("listen other");
    assert!(pair.b.engine.is_listening() && !pair.a.engine.is_listening());
    let mut writer = pair.a.client("app");
    pair.script.news.lock().clear();
    writer.ok("begin; notify c, 'one'; notify c, 'two'; insert into t values (1, 1); commit");
    writer.ok("select 1");
    let news: Vec<News> = std::mem::take(&mut *pair.script.news.lock());
    assert_eq!(news.len(), 1, "{news:?}");
    let sent = News::decode(&news[0].encode()).unwrap();
    pair.b.engine.notified(sent);
    let take = |client: &super::Client| {
        let notes = client.session.activity().mailbox().take();
        let text = |n: crate::session::notify::Notification| format!("{}={}", n.channel, n.payload);
        notes.into_iter().map(text).collect::<Vec<_>>()
    };
    assert!(take(&listener).is_empty(), "its entry is not applied there");
    pair.sync();
    let position = pair
        .a
        .local
        .groups()
        .get(pair.a.group("app"))
        .unwrap()
        .applied();
    assert_eq!(
        take(&listener),
        ["c=one".to_owned(), "c=two".into(), format!("t={position}")]
    );
    assert!(take(&stranger).is_empty());
    let before = pair.script.news.lock().len();
    writer.ok("begin; notify c, 'one'; rollback");
    assert_eq!(pair.script.news.lock().len(), before);
}

#[test]
fn a_sequence_counts_at_its_leader_only() {
    let (pair, app) = pair();
    let mut client = pair.a.client("app");
    assert_eq!(client.rows("select nextval('s')"), "1");
    pair.hand_over(app);
    assert_eq!(
        client.run("select nextval('s')"),
        format!("ELSEWHERE {app}"),
        "though numbers are left in hand"
    );
    let mut there = pair.b.client("app");
    let next: i64 = there.rows("select nextval('s')").parse().unwrap();
    assert!(next > 1);
}

#[test]
fn a_position_is_waited_for_where_the_group_is_not_led() {
    let (pair, app) = pair();
    let mut writer = pair.a.client("app");
    writer.ok("insert into t values (1, 1)");
    let position = pair.a.local.groups().get(app).unwrap().applied();
    let token = writer.rows("show freehold.token");
    let mut reader = pair.b.client("reader");
    assert_eq!(
        reader.start(&format!(
            "set freehold.token = '{token}'; select n from app.t"
        )),
        None
    );
    let mut waiter = pair.b.client("reader");
    let wait = format!("wait for lsn '{position}'");
    assert_eq!(waiter.start(&wait), None);
    pair.clock.advance(1_000);
    pair.a
        .local
        .groups()
        .all()
        .iter()
        .for_each(|group| group.close());
    pair.sync();
    pair.clock.advance(200_000);
    assert_eq!(reader.go_on().as_deref(), Some("SET; SELECT 1"));
    assert_eq!(reader.shown(), "1");
    assert_eq!(waiter.go_on().as_deref(), Some("WAIT"));
}
