//! The statement layer: what it reads, and how it says what it can't.

use super::*;

fn one(sql: &str) -> Statement {
    let mut all = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    assert_eq!(all.len(), 1, "{sql}");
    all.remove(0).statement
}

fn ddl(sql: &str) -> Ddl {
    match one(sql) {
        Statement::Ddl(ddl) => *ddl,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn splits_at_semicolons_outside_of_brackets_and_strings() {
    let all = parse(" select 1 ; ; insert into t values (';') -- x;\n ;").unwrap();
    let texts: Vec<&str> = all.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(texts, ["select 1", "insert into t values (';')"]);
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" ; -- nothing").unwrap().is_empty());
}

#[test]
fn says_where_the_syntax_ends() {
    for (sql, message, position) in [
        ("selec 1", "syntax error at or near \"selec\"", 1),
        ("select 1 from", "syntax error at end of input", 14),
        ("select 'ü' from t ) x", "syntax error at or near \")\"", 19),
        (
            "create table t (a int,,)",
            "syntax error at or near \",\"",
            23,
        ),
        ("grant select on t", "syntax error at end of input", 18),
        ("select 1;\nfoo bar", "syntax error at or near \"foo\"", 11),
        ("commit nonsense", "syntax error at or near \"nonsense\"", 8),
        (
            "select 'abc",
            "unterminated quoted string at or near \"'abc\"",
            8,
        ),
    ] {
        let error = parse(sql).expect_err(sql);
        assert_eq!(error.0.message, message, "{sql}");
        assert_eq!(error.state(), crate::state::SYNTAX_ERROR);
        assert_eq!(error.0.position, Some(position), "{sql}");
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let brackets = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let middle = format!("select {}1{}", "(".repeat(900), ")".repeat(900));
    let chain = format!("select 1{}", "+1".repeat(10_000));
    let not = format!("select {} true", "not ".repeat(10_000));
    let minus = format!("select {} 1", "- ".repeat(10_000));
    let case = format!("select {} 1", "case when true then ".repeat(5_000));
    for sql in [brackets, middle, chain, not, minus, case] {
        let error = parse(&sql).expect_err("too deep");
        assert_eq!(error.state(), crate::state::STATEMENT_TOO_COMPLEX);
    }
    assert!(parse(&format!("select 1{}", "+1".repeat(500))).is_ok());
    let list = (0..20_000)
        .map(|i| i.to_string())
        .collect::<Vec<_>>()
        .join(",");
    assert!(parse(&format!("select 1 where 1 in ({list})")).is_ok());
}

#[test]
fn transactions() {
    use crate::transaction::Isolation::*;
    let tx = |sql: &str| match one(sql) {
        Statement::Transaction(tx) => tx,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        tx("begin"),
        TransactionStatement::Begin(Modes::default(), false)
    );
    let modes = Modes {
        isolation: Some(Serializable),
        read_only: Some(true),
        deferrable: Some(false),
    };
    assert_eq!(
        tx("START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY NOT DEFERRABLE"),
        TransactionStatement::Begin(modes, true)
    );
    assert_eq!(
        tx("END AND CHAIN"),
        TransactionStatement::Commit { chain: true }
    );
    assert_eq!(
        tx("abort and no chain"),
        TransactionStatement::Rollback { chain: false }
    );
    assert_eq!(
        tx("rollback to a"),
        TransactionStatement::RollbackTo("a".into())
    );
    assert_eq!(
        tx("release savepoint \"A\""),
        TransactionStatement::Release("A".into())
    );
}

#[test]
fn settings() {
    use SettingStatement::*;
    let setting = |sql: &str| match one(sql) {
        Statement::Setting(s) => s,
        other => panic!("{other:?}"),
    };
    let set = |name: &str, values: &[&str], local| Set {
        name: name.into(),
        value: Some(values.iter().map(|v| (*v).to_owned()).collect()),
        local,
    };
    assert_eq!(
        setting("set search_path = a, \"B\""),
        set("search_path", &["a", "B"], false)
    );
    assert_eq!(
        setting("SET LOCAL x.y TO -1.5"),
        set("x.y", &["-1.5"], true)
    );
    assert_eq!(
        setting("set session statement_timeout = 100"),
        set("statement_timeout", &["100"], false)
    );
    assert_eq!(
        setting("set time zone 'UTC'"),
        set("TimeZone", &["UTC"], false)
    );
    assert_eq!(
        setting("set names 'utf-8'"),
        set("client_encoding", &["utf-8"], false)
    );
    assert_eq!(setting("set role none"), set("role", &["none"], false));
    assert_eq!(setting("set role to bob"), set("role", &["bob"], false));
    assert_eq!(
        setting("show transaction isolation level"),
        Show("transaction_isolation".into())
    );
    assert_eq!(
        setting("set session authorization default"),
        SessionAuthorization {
            role: None,
            local: false
        }
    );
    assert_eq!(
        setting("set x to default"),
        Set {
            name: "x".into(),
            value: None,
            local: false
        }
    );
    assert_eq!(setting("discard all"), DiscardAll);
    assert_eq!(
        setting("set constraints all deferred"),
        Constraints(None, true)
    );
}

#[test]
fn grants() {
    let grant = |sql: &str| match ddl(sql) {
        Ddl::Grant(grant) => grant,
        other => panic!("{other:?}"),
    };
    let g = grant("GRANT READ ON order_* TO billing, public");
    assert!(matches!(&g.objects, GrantObjects::Patterns(p) if p == &["order_*"]));
    assert_eq!(
        g.grantees,
        [RoleName::Name("billing".into()), RoleName::Public]
    );
    assert_eq!(g.privileges.unwrap()[0].name, "READ");
    let g = grant("revoke grant option for select (a, b), update on table t, s.u from x cascade");
    assert!(g.revoke && g.grant_option && g.cascade);
    assert_eq!(g.privileges.unwrap()[0].columns, ["a", "b"]);
    let g = grant("grant all privileges on all tables in schema a, b to c with grant option");
    assert!(matches!(&g.objects, GrantObjects::AllTablesIn(s) if s == &["a", "b"]));
    assert!(g.grant_option && g.privileges.is_none());
    assert!(matches!(grant("grant insert on public.x*_v1 to c").objects,
        GrantObjects::Patterns(p) if p == ["x*_v1"]));
    assert!(
        matches!(ddl("grant a, b to c with admin option"), Ddl::GrantRole(g)
        if g.roles.len() == 2 && g.admin_option)
    );
    assert!(parse("grant select on private.order_* to b").is_err());
}

#[test]
fn tables() {
    let table = |sql: &str| match ddl(sql) {
        Ddl::CreateTable(table) => table,
        other => panic!("{other:?}"),
    };
    let t = table(
        "create table t (a int primary key, like s.u including all excluding indexes, b text not null default 'x', check (b <> ''))",
    );
    assert_eq!(t.table.columns.len(), 2);
    assert_eq!(t.likes.len(), 1);
    assert_eq!(t.likes[0].after_columns, 1);
    assert!(t.likes[0].including.defaults && !t.likes[0].including.indexes);
    let t = table("create table v2 (like v1 including all)");
    assert!(t.table.columns.is_empty() && t.likes.len() == 1);
    let t = table(
        "create table t (id bigint generated by default as identity (sequence name s.q start with 5 \
         increment by 2 no minvalue cache 1) primary key, x int)",
    );
    assert_eq!(t.sequences.len(), 1);
    assert_eq!(t.sequences[0].0, "id");
    let t = table("create table t as select 1 as a with no data");
    assert!(!t.with_data && t.table.query.is_some());
    let t = table("select 1 as a into t from x");
    assert!(t.table.query.is_some());
    table("create temp table t (a int) on commit drop");
    table("create unlogged table if not exists t (a int) with (fillfactor=100) tablespace x");
    ddl(
        "alter table t alter column id add generated always as identity (sequence name q no maxvalue start 1)",
    );
    ddl(
        "alter table only public.a add constraint b foreign key (x) references c (y) on delete cascade deferrable",
    );
    ddl("alter table pgbench_accounts add primary key (aid)");
    assert!(
        matches!(ddl("create sequence if not exists s start 5 as bigint no cycle owned by t.a"),
        Ddl::CreateSequence(s) if s.options.start == Some(5) && s.options.cycle == Some(false))
    );
    assert!(matches!(
        ddl("alter table a set schema b"),
        Ddl::SetSchema(..)
    ));
}

#[test]
fn copies() {
    let copy = |sql: &str| match one(sql) {
        Statement::Copy(copy) => *copy,
        other => panic!("{other:?}"),
    };
    let c = copy("copy pgbench_accounts from stdin with (freeze on)");
    assert!(c.from && c.options.freeze && c.standard);
    let c = copy("COPY t (a, \"B\") TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *, NULL 'x')");
    assert_eq!(c.options.format, Some(CopyFormat::Csv));
    assert_eq!(c.options.force_quote, Some(vec![]));
    let c = copy("copy t from stdin with csv header delimiter as ';' quote '\"' null ''");
    assert_eq!(c.options.delimiter.as_deref(), Some(";"));
    let c = copy("copy (select * from f(after => 1)) to stdout");
    assert!(matches!(c.source, CopySource::Query(_)));
    assert!(!copy("copy t to '/tmp/x'").standard);
    assert!(copy("copy t from stdin where a > 1").condition.is_some());
}

#[test]
fn small_commands() {
    assert!(matches!(
        one("vacuum analyze pgbench_branches"),
        Statement::Vacuum(_)
    ));
    assert!(
        matches!(one("vacuum (verbose, parallel 2) a (x), b"), Statement::Vacuum(v) if v.verbose)
    );
    assert!(
        matches!(one("lock table a, only b in share row exclusive mode nowait"),
        Statement::Lock(l) if l.no_wait && l.tables.len() == 2)
    );
    assert!(
        matches!(one("wait for lsn '0/1' with (timeout '2s', no_throw)"),
        Statement::WaitForLsn(w) if w.no_throw)
    );
    assert!(matches!(one("notify a, 'b'"), Statement::Notify(a, b) if a == "a" && b == "b"));
    assert!(matches!(
        one("fetch forward 5 from c"),
        Statement::Fetch(Fetch {
            direction: FetchDirection::Forward(5),
            ..
        })
    ));
    assert!(matches!(one("fetch c"), Statement::Fetch(f) if f.cursor == "c"));
    assert!(matches!(
        one("fetch all in c"),
        Statement::Fetch(Fetch {
            direction: FetchDirection::ForwardAll,
            ..
        })
    ));
    assert!(matches!(one("move backward all c"), Statement::Fetch(f) if f.discard));
    assert!(
        matches!(one("declare c binary no scroll cursor with hold for select 1"),
        Statement::Declare(d) if d.hold && d.binary && d.scroll == Some(false))
    );
    assert!(
        matches!(one("prepare p (int, text) as select $1, $2"), Statement::Prepare(p)
        if p.types.len() == 2)
    );
    assert!(matches!(one("execute p(1, 'x')"), Statement::Execute(e) if e.arguments.len() == 2));
    assert!(
        matches!(one("explain (analyze, costs off, format json) select 1"), Statement::Explain(e)
        if e.options.analyze && !e.options.costs && e.options.format == ExplainFormat::Json)
    );
    assert!(matches!(one("explain (select 1)"), Statement::Explain(_)));
    assert!(matches!(one("do $$ begin end $$"), Statement::Do(_)));
    assert!(
        matches!(ddl("follow public.order_*, a, \"B\".c"), Ddl::Follow(f)
        if !f.ends && f.what.len() == 3 && matches!(&f.what[0], FollowName::Pattern(p) if p == "order_*"))
    );
    assert!(matches!(ddl("unfollow *"), Ddl::Follow(f) if f.ends));
    for wrong in ["follow", "follow order_* to a", "unfollow a b", "follow a,"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let elsewhere = parse("follow private.order_*").expect_err("not in public");
    assert_eq!(elsewhere.state().as_str(), "0A000");
    assert!(matches!(
        one("create publication p for all tables"),
        Statement::Unsupported(..)
    ));
    assert!(
        matches!(ddl("create role a with login password 'x' valid until 'infinity'"),
        Ddl::CreateRole(r) if r.options.login == Some(true))
    );
    assert!(matches!(ddl("create user a"), Ddl::CreateRole(r) if r.options.login == Some(true)));
    assert!(matches!(
        ddl("alter role a set search_path to b, c"),
        Ddl::AlterRoleSet(_)
    ));
    assert!(matches!(ddl("drop table if exists a, b.c cascade"), Ddl::Drop(d) if d.cascade));
    assert!(matches!(
        ddl("comment on column a.b is 'x'"),
        Ddl::Comment(_)
    ));
    assert!(matches!(
        ddl("truncate a, only b restart identity cascade"),
        Ddl::Truncate(_)
    ));
    assert!(matches!(one("table x"), Statement::Query(_)));
    assert!(matches!(
        one("(select 1) union all (select 2)"),
        Statement::Query(_)
    ));
    assert!(matches!(
        one("with a as (select 1) insert into t select * from a"),
        Statement::Query(_)
    ));
    assert!(matches!(one("values (1, 2)"), Statement::Query(_)));
    assert!(matches!(
        ddl(
            "create unique index concurrently i on t using btree (a desc nulls last, lower(b)) include (c) where a > 1"
        ),
        Ddl::Sql(_)
    ));
    assert!(matches!(
        ddl("create or replace view v as select 1"),
        Ddl::Sql(_)
    ));
    assert!(matches!(
        ddl("create schema if not exists s authorization bob"),
        Ddl::Sql(_)
    ));
    assert!(matches!(
        ddl("drop index concurrently if exists i"),
        Ddl::Drop(_)
    ));
}

/// A DELETE instead would be done and leave everything.
#[test]
fn an_erase_is_one_wherever_it_stands() {
    for sql in [
        "erase from t",
        " erase from t",
        "\n\tERASE FROM t",
        "select 1; Erase from t",
        "select 1;\n-- a note\nerase from t",
        "select 1;/* a note */erase from t",
    ] {
        let statement = parse(sql).expect("it is one").pop().expect("it is there");
        let Statement::Query(query) = statement.statement else {
            panic!("{sql}");
        };
        let sqlparser::ast::Statement::Delete(delete) = *query else {
            panic!("{sql}");
        };
        assert!(crate::bind::is_erase(&delete), "{sql}");
    }
    assert!(parse("erase t").is_err());
    let erases = |sql: &str| {
        let all = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        format!("{:?}", all[0].statement)
            .matches("\"erase\"")
            .count()
    };
    for (sql, count) in [
        ("with a as (erase from t returning *) select * from a", 1),
        ("with a as materialized ( erase from t) erase from u", 2),
        ("explain with a as (select 1) erase from t", 1),
        // A name like any other.
        ("with a as (select 1) select f(x) erase from t", 1),
        ("with a as (select erase from t) select \"erase\" from a", 2),
    ] {
        assert_eq!(erases(sql), count, "{sql}");
    }
}
