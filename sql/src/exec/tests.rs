//! Statements from text to rows over a memory store, without a session.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use storage::{GroupId, Local, MemoryStore};

use crate::catalog::{Catalog, RoleId};
use crate::ddl::tests::Fixture;
use crate::engine::{Engine, Limits, Parts, Random};
use crate::exec::{Deferred, ExecCx, open};
use crate::functions::Evaluation;
use crate::functions::evaluation::Bare;
use crate::parse::{self, Statement};
use crate::plan::{BindCx, Planned, plan};
use crate::transaction::{Identity, Isolation, Stop, Transaction, Wait};
use crate::types::{Datum, FormatSettings};
use crate::{Error, Result};

struct Seed;

impl Random for Seed {
    fn bits(&self) -> u64 {
        7
    }
}

/// Groups are opened by the test itself.
struct Nowhere;

impl storage::Propose for Nowhere {
    fn propose(&self, _group: GroupId, _proposal: storage::Proposal) {}

    fn create(
        &self,
        _group: GroupId,
        _above: storage::Position,
        _done: Box<dyn FnOnce(storage::Result<()>) + Send>,
    ) {
    }
}

struct Time;

impl storage::Clock for Time {
    fn unix_micros(&self) -> u64 {
        1_700_000_000_000_000
    }
}

/// One role `a` with its tables.
pub(crate) struct Bench {
    fixture: Fixture,
    engine: Arc<Engine>,
    local: Arc<Local>,
    role: RoleId,
    pub(crate) tag: String,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let fixture = Fixture::with_roles();
        let clock: Arc<dyn storage::Clock> = Arc::new(Time);
        let local = Local::new(MemoryStore::new(), clock.clone());
        let engine = Engine::new(Parts {
            groups: local.groups().clone(),
            propose: Arc::new(Nowhere),
            cluster: crate::cluster::Alone::new(local.groups().clone()),
            clock,
            random: Arc::new(Seed),
            relations: Vec::new(),
            functions: Vec::new(),
            settings: Vec::new(),
            limits: Limits::default(),
        })
        .expect("the engine starts");
        let role = fixture.role("a").id;
        Bench {
            fixture,
            engine,
            local,
            role,
            tag: String::new(),
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.fixture.catalog()
    }

    /// Rows of the last statement as text, `|` between columns.
    pub(crate) fn run(&mut self, sql: &str) -> Result<Vec<String>> {
        self.run_with(sql, &[])
    }

    pub(crate) fn run_with(&mut self, sql: &str, parameters: &[Datum]) -> Result<Vec<String>> {
        let mut out = Vec::new();
        for parsed in parse::parse(sql)? {
            match parsed.statement {
                Statement::Query(statement) => {
                    out = self.query(&statement, &parsed.text, parameters)?;
                }
                Statement::Ddl(_) => {
                    self.tag = self.fixture.run("a", &parsed.text)?;
                    for (_, group) in self.catalog().owners() {
                        if self.local.groups().get(group).is_none() {
                            self.local.lead(group).expect("a group opens");
                        }
                    }
                }
                other => panic!("not for this test: {other:?}"),
            }
        }
        Ok(out)
    }

    fn planned(&self, statement: &sqlparser::ast::Statement, text: &str) -> Result<Arc<Planned>> {
        let catalog = self.catalog();
        let path = catalog.search_path(&["$user".to_owned(), "public".to_owned()], self.role);
        let format = FormatSettings::default();
        plan(
            statement,
            &catalog,
            &BindCx {
                role: self.role,
                login: self.role,
                path: &path,
                text,
                parameter_types: &[],
                format: &format,
                registry: &*self.engine,
                variables: None,
            },
        )
    }

    fn query(
        &mut self,
        statement: &sqlparser::ast::Statement,
        text: &str,
        parameters: &[Datum],
    ) -> Result<Vec<String>> {
        let planned = self.planned(statement, text)?;
        let mut transaction =
            Transaction::new(&self.engine, Isolation::ReadCommitted, false, false);
        loop {
            match self.attempt(&planned, parameters, &mut transaction) {
                Ok(rows) => {
                    let identity = Identity::default();
                    match transaction.commit(&identity) {
                        Ok(_) => return Ok(rows),
                        Err(Stop::Error(error)) => return Err(error),
                        Err(stop) => panic!("commit waits: {stop:?}"),
                    }
                }
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Wait(Wait::Again)) => {}
                Err(stop) => return Err(Error::internal(format!("waits: {stop:?}"))),
            }
        }
    }

    fn attempt(
        &mut self,
        planned: &Arc<Planned>,
        parameters: &[Datum],
        transaction: &mut Transaction,
    ) -> std::result::Result<Vec<String>, Stop> {
        let catalog = self.catalog();
        let groups: Vec<GroupId> = planned.tables.iter().map(|table| table.group).collect();
        transaction.begin_statement(None, &groups, planned.writes)?;
        let path = catalog.search_path(&["$user".to_owned(), "public".to_owned()], self.role);
        let format = FormatSettings::default();
        let bare = Bare::default();
        let cancel = AtomicBool::new(false);
        let mut deferred = Deferred::default();
        let mut cx = ExecCx {
            transaction,
            catalog: &catalog,
            role: self.role,
            login: self.role,
            path: &path,
            cancel: &cancel,
            work_mem: 4 << 20,
            evaluation: Evaluation::new(&format, 0, &bare),
            locals: Vec::new(),
            deferred: &mut deferred,
            ticks: 0,
            calls: crate::plpgsql::Calls::default(),
        };
        let mut operator = open(planned, parameters.into(), &mut cx)?;
        let mut rows = Vec::new();
        while let Some(row) = operator.next(&mut cx)? {
            let texts: Vec<String> = row
                .iter()
                .zip(&planned.columns)
                .map(|(value, column)| {
                    value
                        .to_text(column.ty, &format)
                        .unwrap_or_else(|| "\\N".to_owned())
                })
                .collect();
            rows.push(texts.join("|"));
        }
        self.tag = planned
            .tag
            .text(if planned.tag == crate::plan::Tag::Select {
                rows.len() as u64
            } else {
                operator.affected()
            });
        Ok(rows)
    }

    #[track_caller]
    fn ok(&mut self, sql: &str) -> Vec<String> {
        self.run(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    #[track_caller]
    fn rows(&mut self, sql: &str, expected: &[&str]) {
        assert_eq!(self.ok(sql), expected, "{sql}");
    }

    #[track_caller]
    fn fails(&mut self, sql: &str, code: &str, message: &str) {
        match self.run(sql) {
            Ok(rows) => panic!("{sql}: {rows:?}, and should have failed"),
            Err(error) => {
                assert_eq!(
                    (error.state().as_str(), error.0.message.as_str()),
                    (code, message)
                );
            }
        }
    }
}

#[test]
fn selects_without_tables() {
    let mut b = Bench::new();
    b.rows("select 1", &["1"]);
    b.rows("select 1 + 2 * 3, 'a', null, true", &["7|a|\\N|t"]);
    b.rows(
        "select x from (values (1), (2), (3)) v(x) where x > 1 order by x desc",
        &["3", "2"],
    );
    b.rows("select case when 1 = 2 then 'no' else 'yes' end", &["yes"]);
    b.rows(
        "select case 2 when 1 then 'one' when 2 then 'two' end",
        &["two"],
    );
    b.rows(
        "select 1 in (1, 2), 3 not in (1, 2), 1 = any (array[1, 2])",
        &["t|t|t"],
    );
    b.rows("select -2 ^ 2, 2 between symmetric 3 and 1", &["4|t"]);
    b.rows("values (1, 'a'), (2, 'b')", &["1|a", "2|b"]);
    b.rows(
        "select 1 union select 2 union select 1 order by 1",
        &["1", "2"],
    );
    b.rows(
        "select (select 5), exists (select 1), array(select 1)",
        &["5|t|{1}"],
    );
    b.rows("with a as (select 1 as x) select x + 1 from a", &["2"]);
    b.rows(
        "with recursive t(n) as (values (1) union all select n + 1 from t where n < 4) \
         select n from t",
        &["1", "2", "3", "4"],
    );
}

#[test]
fn keyed_table_end_to_end() {
    let mut b = Bench::new();
    b.ok("create table t (id int primary key, name text not null, n int default 5)");
    b.ok("insert into t values (1, 'one', default), (2, 'two', 7), (3, 'three', default)");
    assert_eq!(b.tag, "INSERT 0 3");
    b.rows(
        "select * from t order by id",
        &["1|one|5", "2|two|7", "3|three|5"],
    );
    b.rows("select name from t where id = 2", &["two"]);
    b.rows(
        "update t set n = n + 1 where id = 2 returning n, name",
        &["8|two"],
    );
    b.rows(
        "select id from t where id > 1 order by id desc limit 1",
        &["3"],
    );
    b.rows("delete from t where id = 3 returning *", &["3|three|5"]);
    b.rows(
        "select count(*), sum(n), max(id), min(name) from t",
        &["2|13|2|one"],
    );
    b.fails(
        "insert into t values (1, 'x')",
        "23505",
        "duplicate key value violates unique constraint \"t_pkey\"",
    );
    b.fails(
        "insert into t values (9, null)",
        "23502",
        "null value in column \"name\" of relation \"t\" violates not-null constraint",
    );
    b.ok("update t set id = id + 10");
    b.rows("select id from t order by 1", &["11", "12"]);
    b.rows(
        "insert into t values (11, 'x') on conflict (id) do update \
         set name = excluded.name || t.name returning name",
        &["xone"],
    );
    b.rows(
        "insert into t values (11, 'x') on conflict do nothing returning 1",
        &[],
    );
}

#[test]
fn joins_groups_and_subqueries() {
    let mut b = Bench::new();
    b.ok("create table c (id int primary key, name text)");
    b.ok("create table o (id int primary key, c int, amount numeric)");
    b.ok("insert into c values (1, 'ann'), (2, 'bob'), (3, 'cyd')");
    b.ok("insert into o values (1, 1, 10), (2, 1, 20), (3, 2, 5), (4, null, 1)");
    b.rows(
        "select name, sum(amount) from c join o on o.c = c.id group by name order by name",
        &["ann|30", "bob|5"],
    );
    b.rows(
        "select c.name, o.id from c left join o on o.c = c.id order by c.id, o.id",
        &["ann|1", "ann|2", "bob|3", "cyd|\\N"],
    );
    b.rows(
        "select c.id, o.id from c full join o on o.c = c.id order by 1, 2",
        &["1|1", "1|2", "2|3", "3|\\N", "\\N|4"],
    );
    b.rows(
        "select name from c where exists (select 1 from o where o.c = c.id) order by 1",
        &["ann", "bob"],
    );
    b.rows(
        "select name from c where id not in (select c from o where c is not null)",
        &["cyd"],
    );
    b.rows(
        "select name, (select count(*) from o where o.c = c.id) from c order by 1",
        &["ann|2", "bob|1", "cyd|0"],
    );
    b.rows(
        "select name from c, lateral (select amount from o where o.c = c.id \
         order by amount desc limit 1) x where x.amount > 5",
        &["ann"],
    );
    b.fails(
        "select name, id from c group by name",
        "42803",
        "column \"c.id\" must appear in the GROUP BY clause or be used in an aggregate function",
    );
    b.rows(
        "update c set name = name || o.id from o where o.c = c.id and o.id = 3 returning c.name",
        &["bob3"],
    );
    b.rows(
        "delete from c using o where o.c = c.id and o.amount = 5 returning c.id",
        &["2"],
    );
}
