//! Functions and triggers in sessions: statements that run again, recursion, cancellation, roles,
//! COPY and what clients are told.

use std::time::Duration;

use super::node::{Client, Node};

/// An owner with a table whose trigger counts its rows in another one.
fn counted() -> (Node, Client, Client) {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create role app login");
    let mut a = node.client("app");
    a.ok("create table t (id int primary key, n int); \
          create table counter (id int primary key, n int); insert into counter values (1, 0); \
          create table log (id serial primary key, what text); \
          create function counts() returns trigger language plpgsql as $$ begin \
            insert into log (what) values (tg_op); \
            raise notice 'counts %', new.id; \
            update counter set n = n + 1 where id = 1; \
            return new; end $$");
    let b = node.client("app");
    (node, a, b)
}

#[test]
fn a_trigger_that_waits_runs_again_and_has_its_effects_once() {
    for timing in ["before", "after"] {
        let (_node, mut a, mut b) = counted();
        a.ok(&format!(
            "create trigger c {timing} insert on t for each row execute function counts()"
        ));
        a.ok("begin; update counter set n = 10 where id = 1");
        assert_eq!(
            b.start("insert into t values (1, 1), (2, 2)"),
            None,
            "{timing}"
        );
        a.ok("commit");
        assert_eq!(b.go_on().as_deref(), Some("INSERT 0 2"));
        assert_eq!(b.answer.notices, ["NOTICE: counts 1", "NOTICE: counts 2"]);
        assert_eq!(a.rows("select n from counter"), "12");
        assert_eq!(a.rows("select count(*) from log"), "2");
        assert_eq!(a.rows("select count(*) from t"), "2");
    }
}

#[test]
fn an_exception_block_does_not_catch_a_wait() {
    let (_node, mut a, mut b) = counted();
    a.ok(
        "create function f() returns text language plpgsql as $$ begin \
            begin \
              update counter set n = n + 1 where id = 1; \
              perform pg_sleep(0.001); \
              perform nextval('log_id_seq'); \
            exception when others then return 'caught ' || sqlerrm; end; \
            return 'through'; end $$",
    );
    a.ok("begin; update counter set n = 10 where id = 1");
    assert_eq!(b.start("select f()"), None);
    a.ok("commit");
    let mut answer = b.go_on();
    while answer.is_none() {
        // The sleep.
        _node.clock.advance(2_000);
        answer = b.go_on();
    }
    assert_eq!(answer.as_deref(), Some("SELECT 1"));
    assert_eq!(b.shown(), "through");
    assert_eq!(a.rows("select n from counter"), "11");
}

#[test]
fn what_an_exception_block_takes_back_is_gone() {
    let (_node, mut a, mut b) = counted();
    a.ok("create table child (id int primary key, c int references counter deferrable initially deferred); \
          create function f(k int) returns text language plpgsql as $$ begin \
            begin \
              insert into child values (k, 99); \
              insert into t values (k, k); \
              insert into counter values (1, 1); \
            exception when unique_violation then return 'undone'; end; \
            return 'done'; end $$");
    assert_eq!(a.rows("select f(1)"), "undone");
    assert_eq!(
        a.rows("select count(*) from child, t"),
        "0",
        "its deferred check is gone, too"
    );
    a.ok(
        "create function quiet() returns text language plpgsql as $$ begin \
            begin \
              perform set_config('application_name', 'inner', false); \
              perform pg_logical_emit_message(true, 'm', 'x'); \
              raise notice 'told'; \
              raise exception 'no'; \
            exception when raise_exception then null; end; \
            return current_setting('application_name'); end $$; \
          set application_name = 'outer'",
    );
    assert_eq!(a.rows("select quiet()"), "outer");
    assert_eq!(a.answer.notices, ["NOTICE: told"], "as in PostgreSQL");
    assert_eq!(a.rows("show application_name"), "outer");
    // The lock that it took is free: the key can be taken by others while the block is open.
    a.ok("begin");
    assert_eq!(a.rows("select f(2)"), "undone");
    assert_eq!(b.run("insert into t values (2, 2)"), "INSERT 0 1");
    a.ok("commit");
    // A savepoint outside and a block inside.
    a.ok("begin; insert into t values (5, 5); savepoint s");
    assert_eq!(a.rows("select f(3)"), "undone");
    a.ok("insert into t values (6, 6); rollback to s; commit");
    assert_eq!(a.rows("select id from t order by id"), "2\n5");
}

#[test]
fn recursion_without_end_is_an_error() {
    let (_node, mut a, _b) = counted();
    a.ok("create function deep(n int) returns int language plpgsql as $$ begin return deep(n + 1); end $$; \
          create function down(n int) returns int language plpgsql as $$ begin \
            if n = 0 then return 0; end if; return 1 + down(n - 1); end $$; \
          create function again() returns trigger language plpgsql as $$ begin \
            insert into t values (new.id + 1, 0); return new; end $$; \
          create trigger again after insert on t for each row execute function again()");
    let result = a.run("select deep(1)");
    assert!(
        result.starts_with("ERROR 54001: stack depth limit exceeded"),
        "{result}"
    );
    assert_eq!(a.rows("select down(300)"), "300");
    let result = a.run("insert into t values (1, 1)");
    assert!(
        result.starts_with("ERROR 54001: stack depth limit exceeded"),
        "{result}"
    );
    assert_eq!(a.rows("select count(*) from t"), "0");
    let caught = "do $$ begin perform deep(1); exception when statement_too_complex then \
                  raise notice 'caught'; end $$";
    assert_eq!(a.ok(caught), "DO");
    assert_eq!(a.answer.notices, ["NOTICE: caught"]);
}

#[test]
fn endless_loops_can_be_cancelled() {
    let (node, mut a, _b) = counted();
    a.ok(
        "create function endless() returns trigger language plpgsql as $$ begin \
            loop null; end loop; end $$; \
          create trigger e before insert on t for each row execute function endless()",
    );
    for endless in [
        "do $$ begin loop end loop; end $$",
        "do $$ begin while true loop null; end loop; end $$",
        "do $$ begin loop begin perform 1; exception when others then null; end; end loop; end $$",
        "do $$ begin for i in 1..2000000000 loop for j in reverse 2000000000..1 loop end loop; end loop; end $$",
        "do $$ declare r record; begin for r in select generate_series(1, 1000000000000) loop null; end loop; end $$",
        "do $$ begin begin loop end loop; exception when query_canceled then null; end; loop end loop; end $$",
        "insert into t values (1, 1)",
    ] {
        let process = a.session.activity().process();
        let activity = node.engine.activities().get(process).expect("registered");
        let cancels = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            activity.cancel();
        });
        let result = a.run(endless);
        cancels.join().expect("it ends");
        assert!(
            result.starts_with("ERROR 57014: canceling statement due to user request"),
            "{endless}: {result}"
        );
    }
    assert_eq!(a.rows("select count(*) from t"), "0");
}

#[test]
fn functions_and_triggers_are_their_owners() {
    let (node, mut a, _b) = counted();
    let mut admin = node.client("postgres");
    admin.ok("create role other login; grant app to postgres");
    let mut other = node.client("other");
    a.ok("create trigger c after insert on t for each row execute function counts(); \
          create function secret(a int) returns int language plpgsql as $$ begin return a; end $$; \
          create function public.shared() returns int language plpgsql as $$ begin return 5; end $$; \
          create table public.shown (id int primary key); grant select on public.shown to other");
    let missing = "ERROR 42883: function secret(integer) does not exist";
    assert!(other.run("select secret(1)").starts_with(missing));
    let result = other.run("select app.secret(1)");
    assert!(
        result.starts_with("ERROR 42883: function app.secret(integer)"),
        "{result}"
    );
    assert!(other.run("select shared()").starts_with("ERROR 42883"));
    let names =
        "select proname from pg_proc where proname in ('secret', 'shared', 'counts') order by 1";
    assert_eq!(other.rows(names), "");
    assert_eq!(other.rows("select count(*) from pg_trigger"), "0");
    assert_eq!(a.rows("select count(*) from pg_trigger"), "1");
    assert_eq!(a.rows(names), "counts\nsecret\nshared");
    let result = other.run("drop function public.shared()");
    assert_eq!(
        result,
        "ERROR 42883: function public.shared() does not exist"
    );
    a.ok("grant execute on function public.shared() to other");
    assert_eq!(other.rows("select shared()"), "5");
    assert_eq!(
        other.rows(
            "select proname, prosrc, pg_get_functiondef(oid) from pg_proc where proname = 'shared'"
        ),
        "shared|NULL|NULL"
    );
    assert_eq!(
        other.rows("select has_function_privilege('shared()'::regprocedure, 'execute')"),
        "t"
    );
    let result = other.run("drop function public.shared()");
    assert_eq!(result, "ERROR 42501: must be owner of function shared");
    let taken =
        "create function public.shared() returns int language plpgsql as $$ begin return 6; end $$";
    let result = other.run(taken);
    assert!(result.starts_with("ERROR 42723"), "{result}");
    other.ok(
        "create function mine() returns trigger language plpgsql as $$ begin return new; end $$",
    );
    let result = other
        .run("create trigger x after insert on public.shown for each row execute function mine()");
    assert!(
        result.starts_with("ERROR 55000: table \"shown\" is not followed"),
        "{result}"
    );
    let result =
        other.run("create trigger x after insert on app.t for each row execute function mine()");
    assert!(
        result.starts_with("ERROR 42P01: relation \"app.t\" does not exist"),
        "{result}"
    );
    a.ok("revoke execute on function public.shared() from other");
    assert!(other.run("select shared()").starts_with("ERROR 42883"));
    // Its functions act for who calls them.
    a.ok("create function public.reads() returns bigint language plpgsql as $$ begin \
            return (select count(*) from app.t); end $$; grant execute on function public.reads() to other");
    let result = other.run("select reads()");
    assert!(
        result.starts_with("ERROR 42P01: relation \"app.t\" does not exist"),
        "{result}"
    );
}

#[test]
fn copy_fires_triggers() {
    let (_node, mut a, mut b) = counted();
    a.ok(
        "create function doubles() returns trigger language plpgsql as $$ begin \
            if new.id = 3 then return null; end if; new.n := new.n * 2; return new; end $$; \
          create trigger d before insert on t for each row execute function doubles(); \
          create trigger c after insert on t for each row execute function counts()",
    );
    assert_eq!(a.run("copy t from stdin"), "COPY IN");
    assert_eq!(a.copy(b"1\t1\n2\t2\n3\t3\n", 5), "COPY 2");
    assert_eq!(a.answer.notices, ["NOTICE: counts 1", "NOTICE: counts 2"]);
    assert_eq!(a.rows("select * from t order by id"), "1|2\n2|4");
    assert_eq!(a.rows("select n from counter"), "2");
    // A trigger that waits at the end of COPY has its effects once.
    a.ok("begin; update counter set n = 100 where id = 1");
    assert_eq!(b.run("copy t from stdin"), "COPY IN");
    assert!(b.session.copy_data(b"11\t1\n12\t2\n").is_ok());
    let step = b.session.copy_done(&mut b.answer);
    assert!(
        matches!(step, Ok(crate::session::Step::Wait(_))),
        "{step:?}"
    );
    a.ok("commit");
    let mut step = b.session.copy_done(&mut b.answer);
    while let Ok(crate::session::Step::Wait(waiting)) = &step {
        assert!(waiting.ready(), "it looks again with another snapshot");
        step = b.session.copy_done(&mut b.answer);
    }
    assert!(
        matches!(step, Ok(crate::session::Step::Done { .. })),
        "{step:?}"
    );
    assert_eq!(b.go_on().as_deref(), Some(""));
    assert_eq!(a.rows("select n from counter"), "102");
    assert_eq!(a.rows("select count(*) from log"), "4");
    assert_eq!(b.answer.notices, ["NOTICE: counts 11", "NOTICE: counts 12"]);
}

#[test]
fn clients_are_told_what_is_raised() {
    let (_node, mut a, _b) = counted();
    let raises = "do $$ begin raise debug 'd'; raise log 'l'; raise info 'i'; raise notice 'n'; \
                  raise warning 'w'; end $$";
    a.ok(raises);
    assert_eq!(a.answer.notices, ["INFO: i", "NOTICE: n", "WARNING: w"]);
    a.ok("set client_min_messages = warning");
    a.ok(raises);
    assert_eq!(a.answer.notices, ["INFO: i", "WARNING: w"]);
    a.ok("set client_min_messages = debug1");
    a.ok(raises);
    assert_eq!(a.answer.notices.len(), 5);
    a.ok("reset client_min_messages");
    let result = a.run("do $$ begin raise notice 'before'; raise exception 'over'; end $$");
    assert_eq!(
        result,
        "ERROR P0001: over CONTEXT: PL/pgSQL function inline_code_block line 1 at RAISE"
    );
    assert_eq!(a.answer.notices, ["NOTICE: before"], "as in PostgreSQL");
    let result = a.run("do $$ begin loop raise notice 'too much'; end loop; end $$");
    assert!(
        result.starts_with("ERROR 54000: too many messages raised"),
        "{result}"
    );
}

#[test]
fn errors_say_where_they_come_from() {
    let (_node, mut a, _b) = counted();
    a.ok("create function inner_f(a int) returns int language plpgsql as $$\ndeclare\n  x int := 1 / a;\nbegin\n  return x;\nend $$");
    a.ok("create function outer_f() returns void language plpgsql as $$\nbegin\n  insert into t values (1, inner_f(0));\nend $$");
    assert_eq!(
        a.run("select outer_f()"),
        "ERROR 22012: division by zero CONTEXT: PL/pgSQL function inner_f(integer) line 3 during \
         statement block local variable initialization\nSQL statement \"insert into t values (1, \
         inner_f(0))\"\nPL/pgSQL function outer_f() line 3 at SQL statement"
    );
    a.ok("create function fails() returns trigger language plpgsql as $$\nbegin\n  raise 'no';\nend $$; \
          create trigger f before insert on t for each row execute function fails()");
    assert_eq!(
        a.run("insert into t values (1, 1)"),
        "ERROR P0001: no CONTEXT: PL/pgSQL function fails() line 3 at RAISE"
    );
    assert_eq!(
        a.run("do $$ begin perform 1 from nothing; end $$"),
        "ERROR 42P01: relation \"nothing\" does not exist CONTEXT: SQL statement \"SELECT 1 from \
         nothing\"\nPL/pgSQL function inline_code_block line 1 at PERFORM"
    );
}

#[test]
fn a_function_that_writes_makes_one_entry_and_sees_its_own_writes() {
    let (node, mut a, mut b) = counted();
    a.ok(
        "create function puts(k int) returns bigint language plpgsql as $$ begin \
            insert into t values (k, 0); \
            update t set n = (select count(*) from t) where id = k; \
            return (select n from t where id = k); end $$",
    );
    let group = node.group("app");
    let newest = || {
        node.engine
            .groups()
            .get(group)
            .expect("the group")
            .applied()
    };
    let before = newest();
    assert_eq!(a.rows("select puts(1)"), "1");
    assert!(newest() > before);
    assert_eq!(a.rows("select puts(2), puts(3)"), "2|3");
    assert_eq!(
        a.rows("select puts(g) from generate_series(4, 6) g"),
        "4\n5\n6"
    );
    for level in ["read committed", "repeatable read", "serializable"] {
        a.ok(&format!(
            "begin isolation level {level}; delete from t where id > 1"
        ));
        assert_eq!(a.rows("select puts(7)"), "2", "{level}");
        a.ok("rollback");
    }
    a.ok("begin read only");
    assert!(
        a.run("select puts(9)")
            .starts_with("ERROR 25006: cannot execute INSERT in a read-only transaction")
    );
    a.ok("rollback");
    // Of two that write the same row, one waits.
    a.ok("begin; select puts(20)");
    assert_eq!(b.start("select puts(20)"), None);
    a.ok("rollback");
    assert_eq!(b.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(b.shown(), "7");
}

#[test]
fn plans_follow_the_catalog() {
    let (_node, mut a, mut b) = counted();
    a.ok(
        "create function f() returns text language plpgsql as $$ declare r t%rowtype; begin \
            select * into r from t where id = 1; return r::text; end $$",
    );
    a.ok("insert into t values (1, 5); prepare p as select f()");
    assert_eq!(a.rows("execute p"), "(1,5)");
    b.ok("alter table t add column x text default 'x'");
    assert_eq!(a.rows("execute p"), "(1,5,x)");
    b.ok("create or replace function f() returns text language plpgsql as $$ begin return 'new'; end $$");
    assert_eq!(a.rows("execute p"), "new");
    a.ok("begin; create or replace function f() returns text language plpgsql as $$ begin return 'mine'; end $$");
    assert_eq!(a.rows("execute p"), "mine");
    assert_eq!(b.rows("select f()"), "new");
    a.ok("rollback");
    assert_eq!(a.rows("execute p"), "new");
    b.ok("drop function f()");
    assert!(a.run("execute p").starts_with("ERROR 42883"));
    // A record whose shape changes from one call to the next.
    a.ok(
        "create function shapes(k int) returns text language plpgsql as $$ declare r record; begin \
            if k = 1 then select 1 as a into r; else select 'x'::text as a, 2 as b into r; end if; \
            return r.a || r::text; end $$",
    );
    assert_eq!(
        a.rows("select shapes(1), shapes(2), shapes(1)"),
        "1(1)|x(x,2)|1(1)"
    );
}

#[test]
fn a_restart_of_the_statement_forgets_what_was_set() {
    let (_node, mut a, mut b) = counted();
    a.ok("create function sets() returns void language plpgsql as $$ begin \
            perform set_config('application_name', current_setting('application_name') || 'x', false); \
            perform pg_notify('c', 'once'); \
            update counter set n = n + 1 where id = 1; end $$");
    a.ok("begin; update counter set n = 10 where id = 1");
    b.ok("set application_name = 'a'");
    assert_eq!(b.start("select sets()"), None);
    a.ok("commit");
    assert_eq!(b.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(b.rows("show application_name"), "ax");
}

#[test]
fn views_and_defaults_have_no_functions_of_users() {
    let (_node, mut a, _b) = counted();
    a.ok("create function f(a int) returns int language plpgsql as $$ begin return a; end $$");
    for refused in [
        "create view v as select f(1)",
        "create table x (a int default app.f(1))",
        "create table x (a int check (app.f(a) > 0))",
        "create index on t (app.f(n))",
        "create trigger x before insert on t for each row when (app.f(new.n) > 0) execute function counts()",
    ] {
        let result = a.run(refused);
        assert!(result.starts_with("ERROR 0A000"), "{refused}: {result}");
    }
    a.ok("begin");
    let result = a.run("declare c cursor for select f(n) from t");
    assert!(result.starts_with("ERROR 0A000: a cursor over"), "{result}");
    a.ok("rollback");
    a.ok("create table made as select f(3) as a");
    assert_eq!(a.rows("select a from made"), "3");
}

#[test]
fn what_is_not_supported_says_so() {
    let (_node, mut a, _b) = counted();
    let head = "create function g() returns";
    let body = "language plpgsql as $$ begin return 1; end $$";
    for refused in [
        format!("{head} setof int {body}"),
        format!("{head} table (a int) {body}"),
        format!("{head} int security definer {body}"),
        format!("{head} record {body}"),
        format!("{head} anyelement {body}"),
        "create function g(out a int) language plpgsql as $$ begin end $$".to_owned(),
        "create procedure g() language plpgsql as $$ begin end $$".to_owned(),
        "create trigger x after insert on t execute function counts()".to_owned(),
        "create trigger x after insert on t for each statement execute function counts()".to_owned(),
        "create trigger x after truncate on t for each statement execute function counts()".to_owned(),
        "create trigger x after insert on t referencing new table as n for each row execute function counts()"
            .to_owned(),
        "create constraint trigger x after insert on t for each row execute function counts()".to_owned(),
        "do $$ declare c cursor for select 1; begin end $$".to_owned(),
        "do language sql $$ select 1 $$".to_owned(),
    ] {
        let result = a.run(&refused);
        assert!(result.starts_with("ERROR 0A000"), "{refused}: {result}");
    }
}

#[test]
fn dependencies_and_roles_that_go() {
    let (node, mut a, _b) = counted();
    a.ok("create trigger c after insert on t for each row execute function counts(); \
          create schema s; create function s.f() returns int language plpgsql as $$ begin return 1; end $$");
    let mut admin = node.client("postgres");
    let result = admin.run("drop role app");
    assert!(
        result.contains("owner of function app.counts()"),
        "{result}"
    );
    let result = a.run("drop schema s");
    assert!(
        result.contains("function s.f() depends on schema s"),
        "{result}"
    );
    a.ok("drop schema s cascade");
    assert_eq!(
        a.rows("select count(*) from pg_proc where proname = 'f'"),
        "0"
    );
    a.ok("drop table t");
    assert_eq!(a.rows("select count(*) from pg_trigger"), "0");
    a.ok("drop function counts()");
    a.ok("begin; create table u (id int primary key); \
          create function uf() returns trigger language plpgsql as $$ begin new.id := new.id + 1; return new; end $$; \
          create trigger u before insert on u for each row execute function uf(); \
          insert into u values (1); commit");
    assert_eq!(a.rows("select id from u"), "2");
    assert_eq!(
        a.rows("select pg_get_triggerdef(oid), pg_get_triggerdef(oid, true) from pg_trigger"),
        "CREATE TRIGGER u BEFORE INSERT ON app.u FOR EACH ROW EXECUTE FUNCTION uf()|\
         CREATE TRIGGER u BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION uf()"
    );
    assert_eq!(
        a.rows("select trigger_name, event_manipulation, action_timing from information_schema.triggers"),
        "u|INSERT|BEFORE"
    );
    assert_eq!(
        a.rows(
            "select routine_name, data_type, external_language from information_schema.routines"
        ),
        "uf|trigger|PLPGSQL"
    );
}
