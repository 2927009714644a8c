//! DDL on a node that does not lead the directory: its leader grants what only it can.

use std::sync::atomic::Ordering;

use storage::GroupId;

use super::node::Client;
use super::pair::Pair;
use crate::cluster::{Answer, Wish};

/// The second node leads the directory.
fn pair() -> Pair {
    let pair = Pair::new();
    pair.a.client("postgres").ok(
        "create role app login; create role other login; grant create on schema public to public",
    );
    pair.hand_over(GroupId::DIRECTORY);
    pair
}

/// Runs a statement; entries go to and fro meanwhile.
fn run(pair: &Pair, client: &mut Client, sql: &str) -> String {
    let mut told = client.start(sql);
    for _ in 0..100 {
        if let Some(told) = told {
            return told;
        }
        pair.sync();
        pair.clock.advance(1_000);
        told = client.go_on();
    }
    panic!("waits: {sql}");
}

#[test]
fn an_owner_makes_its_tables_where_it_is_led() {
    let pair = pair();
    let mut app = pair.a.client("app");
    assert_eq!(
        run(
            &pair,
            &mut app,
            "create table t (id serial primary key, n int)"
        ),
        "CREATE TABLE"
    );
    assert_eq!(
        run(&pair, &mut app, "insert into t (n) values (7) returning id"),
        "INSERT 0 1"
    );
    assert_eq!(
        run(&pair, &mut app, "create table public.orders_v1 (id int)"),
        "CREATE TABLE"
    );
    assert!(pair.a.engine.leads(pair.a.group("app")) && !pair.a.engine.leads(GroupId::DIRECTORY));
    let wishes = std::mem::take(&mut *pair.script.wishes.lock());
    let asked = |wanted: fn(&Wish) -> bool| wishes.iter().filter(|wish| wanted(wish)).count();
    assert_eq!(
        asked(|wish| matches!(wish, Wish::Group(_))),
        1,
        "{wishes:?}"
    );
    assert_eq!(
        asked(|wish| matches!(wish, Wish::Reserve(..))),
        1,
        "{wishes:?}"
    );
    let mut other = pair.a.client("other");
    let told = run(&pair, &mut other, "create table public.orders_v1 (id int)");
    assert!(told.starts_with("ERROR 42P07"), "{told}");
}

#[test]
fn ids_are_given_out_once() {
    let pair = pair();
    let (mut here, mut there) = (pair.a.client("app"), pair.b.client("postgres"));
    run(&pair, &mut here, "create table first (id int)");
    for n in 0..300 {
        assert_eq!(
            run(&pair, &mut here, &format!("create table t{n} (id int)")),
            "CREATE TABLE"
        );
    }
    there.ok("create role late");
    let asked = pair
        .script
        .wishes
        .lock()
        .iter()
        .filter(|wish| **wish == Wish::Oids)
        .count();
    assert!(asked >= 1, "the directory's leader has given them: {asked}");
    pair.sync();
    let sql = "select count(*), count(distinct oid) from \
               (select oid from pg_class where oid >= 16384 union all select oid from pg_roles) x";
    let counts = there.rows(sql);
    let (all, different) = counts.split_once('|').expect("two columns");
    assert_eq!(all, different);
}

#[test]
fn names_are_the_firsts_though_both_ask() {
    let pair = pair();
    let (mut app, mut other) = (pair.a.client("app"), pair.a.client("other"));
    run(&pair, &mut app, "create table mine (id int)");
    run(&pair, &mut other, "create table mine (id int)");
    run(&pair, &mut app, "begin; create table public.name (id int)");
    let told = run(&pair, &mut other, "create table public.name (id int)");
    assert!(
        told.starts_with("ERROR 42P07"),
        "the name is reserved: {told}"
    );
    assert_eq!(run(&pair, &mut app, "commit"), "COMMIT");
}

#[test]
fn a_reservation_that_has_aged_is_renewed_at_the_leader() {
    let pair = pair();
    let mut app = pair.a.client("app");
    run(&pair, &mut app, "create table mine (id int)");
    run(&pair, &mut app, "begin; create table public.name (id int)");
    pair.clock.advance(6 * 60 * 1_000_000);
    assert_eq!(run(&pair, &mut app, "commit"), "COMMIT");
    let wishes = pair.script.wishes.lock();
    assert!(
        wishes.iter().any(|wish| matches!(wish, Wish::Renew(..))),
        "{wishes:?}"
    );
}

#[test]
fn a_directory_that_cannot_be_reached_is_waited_for_five_seconds() {
    let pair = pair();
    let mut app = pair.a.client("app");
    pair.script.cut.store(true, Ordering::SeqCst);
    assert_eq!(app.start("create table t (id int)"), None);
    pair.clock.advance(2_000_000);
    assert_eq!(app.go_on(), None);
    pair.clock.advance(2_900_000);
    assert_eq!(app.go_on(), None);
    pair.clock.advance(200_000);
    let told = app.go_on().expect("its time is over");
    assert!(
        told.starts_with("ERROR 57P03: roles, memberships"),
        "{told}"
    );
    let asked = pair.script.wishes.lock().len();
    assert!(asked < 10, "it is not asked without a pause: {asked}");
    assert_eq!(app.start("create table t (id int)"), None);
    pair.script.cut.store(false, Ordering::SeqCst);
    pair.clock.advance(20_000);
    let told = app.go_on();
    let told = told.unwrap_or_else(|| {
        pair.sync();
        pair.clock.advance(20_000);
        loop {
            pair.sync();
            pair.clock.advance(20_000);
            if let Some(told) = app.go_on() {
                break told;
            }
        }
    });
    assert_eq!(told, "CREATE TABLE");
}

#[test]
fn a_wish_is_answered_when_its_entry_is_there_for_good() {
    use std::sync::Arc;
    let pair = pair();
    let answer = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let ask = |wish: Wish| {
        let told = answer.clone();
        pair.b
            .engine
            .serve_wish(wish, Box::new(move |a| told.lock().push(a)));
    };
    pair.b.local.hold(GroupId::DIRECTORY);
    ask(Wish::Oids);
    ask(Wish::Oids);
    assert!(answer.lock().is_empty(), "nothing is committed");
    pair.b.local.release(GroupId::DIRECTORY).unwrap();
    let answers = std::mem::take(&mut *answer.lock());
    let blocks: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(Answer::Oids(block)) => block,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0].end, blocks[1].start, "{blocks:?}");
    pair.b.local.hold(GroupId::DIRECTORY);
    ask(Wish::Oids);
    pair.b.local.refuse(GroupId::DIRECTORY, 1);
    pair.b.local.release(GroupId::DIRECTORY).unwrap();
    assert!(matches!(answer.lock().pop(), Some(Err(_))), "it was lost");
    pair.b.local.step_down(GroupId::DIRECTORY);
    ask(Wish::Oids);
    assert!(
        matches!(answer.lock().pop(), Some(Err(_))),
        "it leads no more"
    );
}
