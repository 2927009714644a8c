//! What was taken away counts everywhere, and nothing is read where that is in doubt.

use std::sync::atomic::Ordering;

use storage::{Clock as _, GroupId};

use super::Far;

/// A statement that waits begins again: it is the first one still.
#[test]
fn what_waits_for_its_position_is_the_first_statement_of_its_block() {
    let far = Far::new();
    let orders = far.a.group("orders");
    let mut reader = far.a.client("reader");
    let ask = "select freehold.snapshot_position() is not null";
    reader.ok("begin isolation level repeatable read");
    *far.wires.doubted.lock() = Some(orders);
    assert_eq!(reader.start(ask), None);
    *far.wires.doubted.lock() = None;
    let (_, done) = far.wires.vouching.lock().pop().expect("it asks");
    done(Ok(()));
    assert_eq!(reader.go_on().as_deref(), Some("SELECT 1"));
    reader.ok("rollback");
    reader.ok("begin isolation level repeatable read");
    reader.ok("select count(*) from order_v1");
    let second = reader.run(ask);
    assert!(second.starts_with("ERROR 25001"), "{second}");
}

/// What was taken away elsewhere and is not known here yet is not given by the feed either.
#[test]
fn the_feed_gives_nothing_that_is_in_doubt() {
    let far = Far::new();
    let orders = far.a.group("orders");
    let mut reader = far.a.client("reader");
    let stream = "select op from freehold.changes(after => '0/0', wait => 'infinity')";
    for asked in [
        "select op from freehold.changes(after => '0/0')",
        "select op from freehold.feed",
        "select freehold.snapshot_position()",
        stream,
    ] {
        *far.wires.doubted.lock() = Some(orders);
        assert_eq!(reader.start(asked), None, "{asked}");
        assert_eq!(reader.shown(), "", "{asked}");
        let [(group, done)] = std::mem::take(&mut *far.wires.vouching.lock())
            .try_into()
            .unwrap_or_else(|_| panic!("{asked} asks for nothing, or for too much"));
        assert_eq!(group, orders);
        *far.wires.doubted.lock() = None;
        done(Ok(()));
        assert_eq!(reader.go_on().is_none(), asked == stream, "{asked}");
        assert_ne!(reader.shown(), "", "{asked}");
    }
    // A stream that has given rows goes on where it was.
    let shown = reader.shown();
    reader.waits().expect("a stream").on_ready(Box::new(|| ()));
    far.a
        .client("orders")
        .ok("insert into order_v1 values (77, 7)");
    *far.wires.doubted.lock() = Some(orders);
    assert_eq!(reader.go_on(), None);
    // The answer of last time is no answer: it is asked anew, a moment later.
    far.clock.advance(1_000_000);
    assert_eq!(reader.go_on(), None);
    let (_, done) = far.wires.vouching.lock().pop().expect("asked");
    assert_eq!(reader.shown(), shown);
    *far.wires.doubted.lock() = None;
    done(Ok(()));
    assert_eq!(reader.go_on(), None);
    assert_eq!(reader.shown(), format!("{shown}\ninsert"));
}

/// What is committed has happened, whether all others are known to have it or not.
#[test]
fn a_revoke_that_is_committed_is_no_error_whoever_has_not_heard_of_it() {
    let far = Far::new();
    let mut owner = far.a.client("orders");
    let mut reader = far.a.client("reader");
    let told = || {
        let mut telling = far.wires.telling.lock();
        telling.pop().expect("the others are told")
    };
    let read = "select count(*) from public.order_v1";
    let grants = [
        (
            "grant read on order_* to reader",
            "revoke read on order_* from reader",
        ),
        (
            "grant select on order_v1 to reader",
            "begin; revoke select on order_v1 from reader; commit",
        ),
    ];
    owner.ok("revoke read on order_* from reader");
    for (grant, revoke) in grants {
        // All have it.
        owner.ok(grant);
        assert_eq!(reader.rows(read), "3");
        far.wires.tells.store(true, Ordering::Relaxed);
        assert_eq!(owner.start(revoke), None, "{revoke}");
        let (untold, done) = told();
        untold.counts(2);
        untold.counts(3);
        done(Ok(()));
        let answer = owner.go_on().expect("an answer");
        assert!(!answer.contains("ERROR"), "{answer}");
        assert_eq!(owner.answer.notices, [""; 0]);
        // One has not, after all the time that there is.
        far.wires.tells.store(false, Ordering::Relaxed);
        owner.ok(grant);
        far.wires.tells.store(true, Ordering::Relaxed);
        assert_eq!(owner.start(revoke), None, "{revoke}");
        let (untold, done) = told();
        untold.counts(2);
        done(Ok(()));
        let answer = owner.go_on().expect("an answer");
        assert!(!answer.contains("ERROR"), "{answer}");
        assert!(owner.answer.notices[0].starts_with("WARNING: "), "{revoke}");
        assert_eq!(owner.answer.notices.len(), 1);
        // Nobody waits for them any more.
        far.wires.tells.store(false, Ordering::Relaxed);
        owner.ok(grant);
        far.wires.tells.store(true, Ordering::Relaxed);
        assert_eq!(owner.start(revoke), None, "{revoke}");
        let (_untold, _done) = told();
        owner.session.activity().cancel();
        owner.stop_waiting();
        let answer = owner.go_on().expect("an answer");
        assert!(!answer.contains("ERROR"), "{answer}");
        assert!(owner.answer.notices[0].starts_with("WARNING: "), "{revoke}");
        assert!(reader.run(read).contains("42P01"));
        far.wires.tells.store(false, Ordering::Relaxed);
        owner.ok("select 1");
    }
}

/// A view that is another one may show less: it counts everywhere before that is answered.
#[test]
fn a_view_that_is_replaced_is_told_like_a_revoke() {
    let far = Far::new();
    let mut owner = far.a.client("orders");
    owner.ok("create view public.order_view as select id, n from order_v1");
    far.wires.tells.store(true, Ordering::Relaxed);
    let less =
        "create or replace view public.order_view as select id, n from order_v1 where n > 10";
    for (replace, tells) in [(less, true), (less, false)] {
        let waits = owner.start(replace).is_none();
        assert_eq!(waits, tells, "{replace}");
        if waits {
            let (untold, done) = far.wires.telling.lock().pop().expect("told");
            [2, 3].iter().for_each(|node| untold.counts(*node));
            done(Ok(()));
            assert_eq!(owner.go_on().as_deref(), Some("CREATE VIEW"));
        }
    }
}

/// Whether a role may still be taken on is said by the directory.
#[test]
fn who_acts_for_an_owner_needs_news_of_roles() {
    let far = Far::new();
    far.a
        .client("postgres")
        .ok("create role clerk login; grant orders to clerk");
    let mut clerk = far.a.client("clerk");
    clerk.ok("set role orders");
    let ask = "select count(*) from order_v1";
    assert_eq!(clerk.rows(ask), "3");
    *far.wires.doubted.lock() = Some(GroupId::DIRECTORY);
    assert_eq!(clerk.start(ask), None, "it may have been revoked");
    assert_eq!(far.a.client("orders").rows(ask), "3");
}

/// What a role owns it may read, whatever is not known of roles.
#[test]
fn who_reads_own_tables_needs_no_news_of_roles() {
    let far = Far::new();
    *far.wires.doubted.lock() = Some(GroupId::DIRECTORY);
    let read = "select count(*) from public.order_v1";
    assert_eq!(far.a.client("orders").rows(read), "3");
    far.a
        .client("orders")
        .ok("insert into order_v1 values (4, 4)");
    for user in ["reader", "postgres"] {
        let mut other = far.a.client(user);
        assert_eq!(other.start(read), None, "{user}");
        let (group, _) = far.wires.vouching.lock().pop().expect("asked");
        assert_eq!(group, GroupId::DIRECTORY);
    }
    // Also where a role that reads its own reads others'.
    let both = "select count(*) from public.order_v1, public.shop_v1";
    far.a.client("shop").start(both);
    assert_eq!(far.wires.vouching.lock().len(), 1);
}

/// A node that loses contact again and again is told that all is well each time, and in doubt again.
#[test]
fn doubts_that_come_again_and_again_have_an_end() {
    let far = Far::new();
    let mut reader = far.a.client("reader");
    *far.wires.doubted.lock() = Some(far.a.group("orders"));
    let begun = far.clock.unix_micros();
    let mut ended = reader.start("select op from freehold.changes(after => '0/0')");
    while ended.is_none() {
        let waited = far.clock.unix_micros() - begun;
        assert!(waited < 15_000_000, "it waits for ever");
        for (_, done) in std::mem::take(&mut *far.wires.vouching.lock()) {
            done(Ok(()));
        }
        far.clock.advance(500_000);
        ended = reader.go_on();
    }
    let ended = ended.expect("it has ended");
    assert!(
        ended.starts_with("ERROR OW003: it is not known whether"),
        "{ended}"
    );
}
