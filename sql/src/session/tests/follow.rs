//! Reading other owners' tables at a node that follows them. The first node leads everything; the
//! second one has the directory and copies of what is chosen, brought when the test says so.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use storage::{
    Entry, GroupId, Local, ManualClock, MemoryStore, PartSource, Payload, Position, Proposed,
};

use super::feed::registered;
use super::node::{Client, Node};
use crate::catalog::{Change, Object, Placement, RoleId, TableId};
use crate::cluster::{Answer, Cluster, Done, News, Wish};
use crate::engine::{Engine, Limits};
use crate::transaction::leader_changed;
use crate::{Error, state};

/// A table that is wanted at the second node.
type Wanted = (RoleId, GroupId, TableId, Done<()>);

/// What the nodes know of each other.
#[derive(Default)]
struct Wires {
    nodes: OnceLock<[Arc<Local>; 2]>,
    engines: OnceLock<[Arc<Engine>; 2]>,
    wanted: Mutex<Vec<Wanted>>,
}

struct View {
    index: usize,
    wires: Arc<Wires>,
}

impl Wires {
    fn leader(&self, group: GroupId) -> Option<usize> {
        let leads = |node: &Arc<Local>| {
            let held = node.groups().get(group);
            held.is_some_and(|held| held.term().is_some())
        };
        self.nodes.get()?.iter().position(leads)
    }
}

impl Cluster for View {
    fn node(&self) -> u32 {
        self.index as u32 + 1
    }

    fn leader(&self, group: GroupId) -> Option<u32> {
        self.wires.leader(group).map(|index| index as u32 + 1)
    }

    /// What the leader has must be here already, or there is no proof.
    fn barrier(&self, group: GroupId, done: Done<Position>) {
        let at = |index: usize| {
            Some(
                self.wires.nodes.get()?[index]
                    .groups()
                    .get(group)?
                    .applied(),
            )
        };
        let newest = self.wires.leader(group).and_then(at);
        let proven = newest.filter(|newest| at(self.index) >= Some(*newest));
        done(proven.ok_or_else(leader_changed));
    }

    fn ask_directory(&self, wish: Wish, done: Done<Answer>) {
        match (
            self.wires.leader(GroupId::DIRECTORY),
            self.wires.engines.get(),
        ) {
            (Some(leader), Some(engines)) => engines[leader].serve_wish(wish, done),
            _ => done(Err(leader_changed())),
        }
    }

    fn want(&self, role: RoleId, group: GroupId, table: TableId, done: Done<()>) {
        assert_eq!(self.index, 1, "the first node has everything");
        self.wires.wanted.lock().push((role, group, table, done));
    }

    fn has_listeners(&self) -> bool {
        false
    }

    fn notify(&self, _: &News) {}
}

struct NoParts;

impl PartSource for NoParts {
    fn part(&mut self, index: storage::Index) -> storage::Result<Payload> {
        panic!("part {index:?} of a large transaction");
    }
}

/// The two nodes.
struct Far {
    a: Node,
    b: Node,
    wires: Arc<Wires>,
    clock: Arc<ManualClock>,
    /// What is asked for at the second node.
    asked: Mutex<BTreeSet<(RoleId, TableId)>>,
}

impl Far {
    /// With roles `orders`, `shop` and `reader`, all of which the first node leads, and a table of
    /// each of the first two: `order_v1` and `shop_v1`, both readable to `reader` and `shop`.
    fn new() -> Far {
        let clock = Arc::new(ManualClock::new(1_795_000_000_000_000));
        let wires = Arc::new(Wires::default());
        let [a, b] = [0, 1].map(|index| {
            let local = Local::journaled(MemoryStore::new(), clock.clone());
            local.groups().number_node(index as u64 + 1);
            let wires = wires.clone();
            let view = Arc::new(View { index, wires });
            let feed = |local: &Arc<Local>| registered(local, Arc::default());
            Node::among(local, clock.clone(), Limits::default(), view, feed)
        });
        assert!(wires.nodes.set([&a, &b].map(|n| n.local.clone())).is_ok());
        let engines = [a.engine.clone(), b.engine.clone()];
        assert!(wires.engines.set(engines).is_ok());
        a.local.lead(GroupId::DIRECTORY).expect("the directory");
        a.engine.load(GroupId::DIRECTORY).expect("no catalog");
        a.engine.bootstrap(None).expect("the first entry");
        let far = Far {
            a,
            b,
            wires,
            clock,
            asked: Mutex::default(),
        };
        far.directory();
        far.b.engine.load(GroupId::DIRECTORY).expect("a catalog");
        far.a
            .client("postgres")
            .ok("create role orders login; create role shop login; create role reader login");
        far.a
            .client("orders")
            .ok("create table public.order_v1 (id int primary key, n int); \
             create index order_n on public.order_v1 (n); \
             insert into public.order_v1 values (1, 10), (2, 20), (3, 30); \
             grant read on order_* to reader, shop");
        far.a
            .client("shop")
            .ok("create table public.shop_v1 (id int primary key, n int); \
             insert into public.shop_v1 values (1, 1); \
             grant read on shop_* to reader");
        far.directory();
        for owner in ["orders", "shop"] {
            far.bring(owner);
        }
        far
    }

    /// The second node applies what the directory has.
    fn directory(&self) {
        let id = GroupId::DIRECTORY;
        let log = self.a.local.log(id);
        self.b.local.replay(id, log).expect("applies");
    }

    /// The role's group has a place at the second node.
    fn place(&self, role: &str) {
        let group = self.a.group(role);
        let placement = Placement {
            group: group.0,
            replicas: 1,
            regions: Vec::new(),
            voters: vec![2],
            learners: Vec::new(),
            made: true,
        };
        let object = Object::Placement(Arc::new(placement));
        let change = Change::create(GroupId::DIRECTORY, object);
        let placed = self.a.engine.change_directory(|_| vec![change]);
        assert!(placed.expect("written").is_some());
        self.directory();
    }

    /// The second node gets everything that it is to have of an owner, and is at its end.
    fn bring(&self, owner: &str) {
        let id = self.a.group(owner);
        let source = self.a.local.groups().get(id).expect("led");
        let asked: Vec<_> = self.asked.lock().iter().copied().collect();
        let chosen = self.a.engine.catalog().chosen(2, id, &asked);
        let groups = self.b.local.groups();
        let group = groups.follow(id, Box::new(|| ())).expect("followed");
        if group.chosen().is_none_or(|has| *has != chosen) {
            let mut export = source.export_chosen(&chosen).expect("read").expect("ready");
            let (applied, meta) = (export.applied(), export.meta().clone());
            let mut pieces = || {
                let bytes = export.read(1 << 10)?;
                Ok((!bytes.is_empty()).then_some(bytes))
            };
            groups
                .install(id, applied, &meta, &mut pieces, &*self.b.local)
                .expect("installed");
            self.b.engine.load(id).expect("a catalog");
            return;
        }
        for record in self.a.local.log(id) {
            if record
                .what
                .is_some_and(|what| matches!(what, Proposed::Entry(_)))
            {
                let mut entry = Entry::decode(&record.payload).expect("an entry");
                entry.keep_only(&chosen);
                let (term, index) = (record.term, record.index);
                group
                    .apply(term, index, &entry.encode(), &mut NoParts)
                    .expect("applied");
            }
        }
    }

    /// Answers those who want a table: it comes.
    fn serve(&self) {
        for (role, group, table, done) in std::mem::take(&mut *self.wires.wanted.lock()) {
            self.asked.lock().insert((role, table));
            let owner = self.a.engine.catalog().owner_of_group(group);
            let owner = self.a.engine.catalog().role_name(owner.expect("an owner"));
            self.bring(&owner);
            done(Ok(()));
        }
    }

    /// Runs at the second node, with whatever tables that needs: its rows or its error.
    fn read(&self, client: &mut Client, sql: &str) -> String {
        let begun = client.start(sql);
        self.finish(client, begun)
    }

    fn finish(&self, client: &mut Client, mut result: Option<String>) -> String {
        while result.is_none() && !self.wires.wanted.lock().is_empty() {
            self.serve();
            result = client.go_on();
        }
        let result = result.expect("waits for something else");
        match result.contains("ERROR") {
            true => result,
            false => client.shown(),
        }
    }

    /// Who wants what now: (role, table).
    fn wanted(&self) -> Vec<(String, String)> {
        let catalog = self.a.engine.catalog();
        let wanted = self.wires.wanted.lock();
        let name = |(role, _, table, _): &Wanted| {
            let table = catalog.table(*table).expect("a table");
            (catalog.role_name(*role), table.name.clone())
        };
        wanted.iter().map(name).collect()
    }
}

fn unreachable() -> Error {
    Error::new(state::OWNER_UNREACHABLE, "no node that has it answers")
}

#[test]
fn what_is_not_here_is_brought_and_never_looks_empty() {
    for sql in [
        "select count(*) from order_v1",
        "select id from order_v1 where id = 2",
        "select id from order_v1 where n = 20",
        "select sum(n) from order_v1 where n > 5",
        "select (select max(n) from order_v1)",
        "with o as (select * from order_v1) select count(*) from o",
        "select s.n, o.n from shop_v1 s join order_v1 o on o.id = s.id",
        "copy order_v1 to stdout",
        "begin; declare c cursor for select * from order_v1 order by id; fetch all from c; commit",
    ] {
        let far = Far::new();
        let mut there = far.a.client("reader");
        there.ok(sql);
        let mut client = far.b.client("reader");
        let begun = client.start(sql);
        assert_eq!(begun, None, "{sql}");
        assert!(far.wanted()[0].0 == "reader", "{sql}");
        assert_eq!(far.finish(&mut client, begun), there.shown(), "{sql}");
        assert_eq!(client.answer.copied, there.answer.copied, "{sql}");
        // Now it is here.
        client.ok(sql);
        assert_eq!(client.shown(), there.shown(), "{sql}");
    }
    let far = Far::new();
    let mut client = far.b.client("reader");
    let explained = far.read(&mut client, "explain analyze select * from order_v1");
    assert!(explained.contains("rows=3"), "{explained}");
}

#[test]
fn the_size_of_what_is_not_here_is_not_zero() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let sizes = "select pg_table_size('order_v1'), pg_indexes_size('order_v1'), \
                 pg_relation_size('order_n'), pg_total_relation_size('order_v1')";
    assert_eq!(client.rows(sizes), "NULL|NULL|NULL|NULL");
    let count = "select reltuples from pg_class where relname = 'order_v1'";
    assert_eq!(client.rows(count), "-1");
    far.read(&mut client, "select from order_v1");
    assert_eq!(client.rows(sizes), "0|0|0|0", "it is in memory");
}

#[test]
fn an_owner_that_is_away_is_named_and_waiting_ends() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    assert_eq!(client.start("select * from order_v1"), None);
    for (.., done) in std::mem::take(&mut *far.wires.wanted.lock()) {
        done(Err(unreachable()));
    }
    let told = client.go_on().expect("an answer");
    assert_eq!(told, "ERROR OW003: no node that has it answers");
    // The next one asks again; it can be cancelled, and has its time.
    assert_eq!(client.start("select * from order_v1"), None);
    assert_eq!(far.wanted(), [("reader".to_owned(), "order_v1".to_owned())]);
    client.session.activity().cancel();
    client.stop_waiting();
    let told = client.go_on().expect("an answer");
    assert!(
        told.starts_with("ERROR 57014: canceling statement due to user request"),
        "{told}"
    );
    client.ok("set statement_timeout = '1s'");
    assert_eq!(client.start("select * from order_v1"), None);
    far.clock.advance(1_000_001);
    let told = client.go_on().expect("an answer");
    assert!(
        told.starts_with("ERROR 57014: canceling statement due to statement timeout"),
        "{told}"
    );
    client.ok("reset statement_timeout");
    far.wires.wanted.lock().clear();
    assert_eq!(far.read(&mut client, "select count(*) from order_v1"), "3");
}

#[test]
fn a_view_is_read_as_its_owner_reads() {
    let far = Far::new();
    far.a.client("orders").ok(
        "create table secret (id int primary key); insert into secret values (7); \
         create view public.order_view as select id from secret; \
         grant select on public.order_view to reader",
    );
    far.bring("orders");
    let mut client = far.b.client("reader");
    let begun = client.start("select * from order_view");
    assert_eq!(far.wanted(), [("orders".to_owned(), "secret".to_owned())]);
    assert_eq!(far.finish(&mut client, begun), "7");
    let told = client.run("select * from orders.secret");
    assert!(told.starts_with("ERROR 42P01"), "{told}");
}

#[test]
fn a_snapshot_that_is_older_than_the_copy_does_not_read_it() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    far.read(&mut client, "select count(*) from shop_v1");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows("select n from shop_v1"), "1");
    far.a.client("orders").ok("delete from public.order_v1");
    far.a.client("shop").ok("update public.shop_v1 set n = 2");
    far.bring("shop");
    assert_eq!(
        client.rows("select n from shop_v1"),
        "1",
        "its snapshot is kept"
    );
    let told = far.read(&mut client, "select count(*) from order_v1");
    assert_eq!(
        told,
        "ERROR 40001: could not serialize access: a table has come to this node after the \
         transaction's snapshot HINT: Run the transaction again: the table is here now."
    );
    client.ok("rollback; begin isolation level repeatable read");
    assert_eq!(client.rows("select count(*) from order_v1"), "0");
    assert_eq!(client.rows("select n from shop_v1"), "2");
    client.ok("commit");
    // One that needs the table at once takes its snapshot when it is there.
    let far = Far::new();
    let mut client = far.b.client("reader");
    client.ok("begin isolation level repeatable read");
    assert_eq!(far.read(&mut client, "select count(*) from order_v1"), "3");
}

#[test]
fn a_table_that_came_empty_is_not_read_below() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    far.read(&mut client, "select count(*) from shop_v1");
    // Rows that were there, and are not any more when the table is chosen.
    let mut orders = far.a.client("orders");
    orders.ok("delete from public.order_v1");
    let id = far.a.group("orders");
    let group = far.b.local.groups().get(id).expect("followed");
    client.ok("begin isolation level repeatable read; select from shop_v1");
    far.bring("orders");
    let table = far.a.engine.catalog();
    let table = table.tables().find(|t| t.name == "order_v1").cloned();
    let role = far
        .a
        .engine
        .catalog()
        .find_role("reader")
        .expect("a role")
        .id;
    far.asked.lock().insert((role, table.expect("a table").id));
    let asked: Vec<_> = far.asked.lock().iter().copied().collect();
    let chosen = far.a.engine.catalog().chosen(2, id, &asked);
    group.choose(chosen).expect("chosen");
    let told = far.read(&mut client, "select count(*) from order_v1");
    assert!(
        told.starts_with("ERROR 40001: could not serialize access: a table"),
        "{told}"
    );
    client.ok("rollback");
    assert_eq!(client.rows("select count(*) from order_v1"), "0");
}

/// `shop` reads `order_v1` and writes what rests on it: a node that has only `shop`'s entry yet does
/// not show it, whatever it reads and however it asks.
#[test]
fn one_table_alone_is_read_at_the_cut() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let both = "select (select sum(n) from order_v1), (select n from shop_v1)";
    assert_eq!(far.read(&mut client, both), "60|1");
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let copied = "update public.shop_v1 set n = (select n from public.order_v1 where id = 1)";
    let mut shop = far.a.client("shop");
    shop.ok(copied);
    let token = shop.rows("show freehold.token");
    far.bring("shop");
    assert_eq!(
        client.rows("select n from shop_v1"),
        "1",
        "an effect before its cause"
    );
    assert_eq!(client.rows(both), "60|1");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows("select n from shop_v1"), "1");
    client.ok("commit");
    // A token and WAIT FOR LSN ask for what is shown, not for what has arrived.
    let mut waits = far.b.client("reader");
    let read = format!("set freehold.token = '{token}'; select n from shop_v1");
    assert_eq!(waits.start(&read), None);
    let mut waiter = far.b.client("reader");
    let position = token.split(':').next_back().expect("a position");
    let lsn = format!("wait for lsn '{position}' with (timeout '5s')");
    assert_eq!(waiter.start(&lsn), None);
    far.clock.advance(200_000);
    assert_eq!((waits.go_on(), waiter.go_on()), (None, None));
    far.bring("orders");
    assert_eq!(client.rows(both), "61|11");
    assert_eq!(waits.go_on().as_deref(), Some("SET; SELECT 1"));
    assert_eq!(waits.shown(), "11");
}

/// A table that is moved by an entry that is not shown yet is not looked for in its new place.
#[test]
fn the_catalog_is_not_ahead_of_what_is_read() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let both = "select (select sum(n) from order_v1), (select n from shop_v1)";
    assert_eq!(far.read(&mut client, both), "60|1");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows(both), "60|1");
    let mut other = far.b.client("reader");
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let mut shop = far.a.client("shop");
    shop.ok("update public.shop_v1 set n = (select n from public.order_v1 where id = 1)");
    shop.ok("alter table public.shop_v1 alter column n type text using 'n' || n");
    far.bring("shop");
    assert_eq!(other.start("select n from shop_v1"), None, "it looks empty");
    far.bring("orders");
    far.serve();
    assert_eq!(other.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(other.shown(), "n11");
    let told = client.run("select n from shop_v1");
    assert!(
        told.starts_with("ERROR 40001: could not serialize access: a table"),
        "{told}"
    );
    client.ok("rollback");
    assert_eq!(client.rows("select n from shop_v1"), "n11");
}

#[test]
fn what_is_revoked_or_removed_here_is_not_read_as_empty() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let count = "select count(*) from order_v1";
    assert_eq!(far.read(&mut client, count), "3");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows(count), "3");
    let id = far.a.group("orders");
    let groups = far.b.local.groups();
    groups.unfollow(id, &*far.b.local).expect("removed");
    assert!(far.read(&mut client, count).starts_with("ERROR 40001"));
    client.ok("rollback");
    // It begins again, behind what the catalog had from before: nothing is lost by that.
    assert_eq!(far.read(&mut client, count), "3");
    far.a
        .client("orders")
        .ok("create table public.order_v2 (id int primary key)");
    groups.unfollow(id, &*far.b.local).expect("removed");
    far.a.client("orders").ok("drop table public.order_v1");
    far.bring("orders");
    assert!(client.run(count).starts_with("ERROR 42P01"));
    assert_eq!(far.read(&mut client, "select count(*) from order_v2"), "0");
    far.b.engine.load(id).expect("once more");
    assert_eq!(client.rows("select count(*) from order_v2"), "0");
    far.a
        .client("orders")
        .ok("revoke read on order_* from reader");
    far.bring("orders");
    assert!(
        client
            .run("select count(*) from order_v2")
            .starts_with("ERROR 42P01")
    );
}

#[test]
fn a_followed_group_is_led_elsewhere() {
    let far = Far::new();
    let id = far.a.group("orders");
    let mut client = far.b.client("orders");
    for sql in [
        "insert into order_v1 values (4, 40)",
        "select * from order_v1 for update",
        "alter table order_v1 add column c int",
        "create table more (id int)",
        "select * from order_v1",
    ] {
        assert_eq!(client.run(sql), format!("ELSEWHERE {id}"), "{sql}");
        client = far.b.client("orders");
    }
    let mut writer = far.a.client("orders");
    writer.ok("begin");
    let done = writer.rows("select pg_current_xact_id()");
    writer.ok("insert into order_v1 values (4, 40); commit");
    far.bring("orders");
    // The copy does not tell what became of transactions: the owner's leader does.
    let status = format!("select pg_xact_status('{done}')");
    assert_eq!(client.run(&status), format!("ELSEWHERE {id}"));
    assert_eq!(far.b.client("postgres").rows(&status), "in progress");
}

#[test]
fn staleness_is_bounded_by_proof() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let sum = "select sum(n) from order_v1";
    assert_eq!(far.read(&mut client, sum), "60");
    client.ok("set freehold.max_staleness = '1s'");
    far.clock.advance(2_000_000);
    assert_eq!(client.rows(sum), "60", "idle, and proven to be the newest");
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let told = client.run(sum);
    let expected = "ERROR OW002: the tables of owner \"orders\" may be staler here than \
                    freehold.max_staleness allows";
    assert!(told.starts_with(expected), "{told}");
    client.ok("set freehold.max_staleness = 0");
    assert_eq!(client.rows(sum), "60");
    client.ok("set freehold.max_staleness = '1s'");
    far.bring("orders");
    assert_eq!(client.rows(sum), "61");
}

#[test]
fn a_role_follows_tables_and_patterns() {
    let far = Far::new();
    // It has no group yet: it gets one.
    let mut reader = far.a.client("reader");
    assert_eq!(reader.run("follow order_v1, public.shop_*"), "FOLLOW");
    let shown = "select * from freehold.follows order by what";
    let all = "reader|public.order_v1|{public.order_v1}\nreader|public.shop_*|{public.shop_v1}";
    assert_eq!(reader.rows(shown), all);
    assert_eq!(far.a.client("shop").rows(shown), "");
    assert_eq!(far.a.client("postgres").rows(shown), all);
    assert_eq!(reader.run("follow public.order_v1"), "FOLLOW");
    let notice = "NOTICE: role \"reader\" follows table \"order_v1\" already, skipping";
    assert_eq!(reader.answer.notices, [notice]);
    // Transactional, and nothing that matches yet is needed.
    reader.ok("begin; unfollow order_v1; follow nothing_*");
    let within = "reader|public.nothing_*|{}\nreader|public.shop_*|{public.shop_v1}";
    assert_eq!(reader.rows(shown), within);
    reader.ok("rollback");
    assert_eq!(reader.rows(shown), all);
    // What is taken away does not exist, and comes back with the grant.
    let mut orders = far.a.client("orders");
    orders.ok("revoke read on order_* from reader");
    assert_eq!(reader.rows(shown), "reader|public.shop_*|{public.shop_v1}");
    orders.ok("grant read on order_v1 to reader");
    assert_eq!(reader.rows(shown), all);
    orders.ok("drop table order_v1");
    assert_eq!(reader.rows(shown), "reader|public.shop_*|{public.shop_v1}");
    let follows = || far.a.engine.catalog().follows().count();
    assert_eq!(follows(), 2);
    assert_eq!(reader.run("unfollow shop_*"), "UNFOLLOW");
    assert_eq!(follows(), 0, "the dropped table's row has gone along");
    reader.ok("follow shop_v1");
    assert_eq!(follows(), 1);
    far.a.client("shop").ok("revoke read on shop_* from reader");
    far.a.client("postgres").ok("drop role reader");
    assert_eq!(follows(), 0);
}

#[test]
fn what_can_not_be_followed() {
    let far = Far::new();
    far.a.client("orders").ok(
        "create table secret (id int); create sequence public.order_s; \
         create view public.order_view as select 1 as one; \
         grant select on public.order_view, public.order_s to reader; \
         create table public.order_in (id int primary key); \
         revoke read on order_* from reader; grant read on order_v1 to reader; \
         grant insert on public.order_in to reader",
    );
    let mut reader = far.a.client("reader");
    for (sql, error) in [
        (
            "follow nothing",
            "ERROR 42P01: relation \"nothing\" does not exist",
        ),
        (
            "follow orders.secret",
            "ERROR 42P01: relation \"orders.secret\" does not exist",
        ),
        (
            "follow order_view",
            "ERROR 42809: \"order_view\" is not a table",
        ),
        ("follow order_s", "ERROR 42809: \"order_s\" is not a table"),
        ("follow order_n", "ERROR 42809: \"order_n\" is an index"),
        (
            "follow order_in",
            "ERROR 42501: permission denied for table order_in",
        ),
        (
            "follow pg_class",
            "ERROR 42501: permission denied: \"pg_class\" is a system catalog",
        ),
        (
            "follow orders.order_*",
            "ERROR 0A000: patterns cover tables in schema",
        ),
        (
            "unfollow order_v1",
            "ERROR 42704: role \"reader\" does not follow table \"order_v1\"",
        ),
        (
            "unfollow x_*",
            "ERROR 42704: role \"reader\" does not follow pattern \"x_*\"",
        ),
        (
            "begin read only; follow order_v1",
            "BEGIN; ERROR 25006: cannot execute FOLLOW in a",
        ),
    ] {
        let told = reader.run(sql);
        assert!(told.starts_with(error), "{sql}: {told}");
    }
    let told = far.a.client("orders").run("follow order_v1");
    assert!(told.starts_with("ERROR 42809: table \"order_v1\" can't be followed by its owner"));
    assert_eq!(far.a.engine.catalog().follows().count(), 0);
}

/// FOLLOW returns when the tables are here, if this node is to keep them.
#[test]
fn follow_waits_for_the_copy() {
    let far = Far::new();
    far.a
        .client("reader")
        .ok("create table own (id int primary key)");
    far.directory();
    let mut client = far.b.client("reader");
    let away = format!("ELSEWHERE {}", GroupId::DIRECTORY);
    assert_eq!(
        client.run("follow order_*"),
        away,
        "nothing is kept at this node"
    );
    client = far.b.client("reader");
    far.place("reader");
    let begun = client.start("follow order_*");
    assert_eq!(begun, None);
    assert_eq!(far.wanted(), [("reader".to_owned(), "order_v1".to_owned())]);
    far.serve();
    assert_eq!(client.go_on(), Some(away));
    client = far.b.client("reader");
    assert_eq!(client.rows("select count(*) from order_v1"), "3");
    // What is followed stays without being asked for, and what comes later comes by itself.
    far.a.client("reader").ok("follow order_*");
    far.directory();
    far.asked.lock().clear();
    far.a
        .client("orders")
        .ok("create table public.order_v2 (id int primary key); insert into order_v2 values (1)");
    far.bring("orders");
    assert_eq!(client.rows("select count(*) from order_v1, order_v2"), "3");
    far.a.client("reader").ok("unfollow order_*");
    far.bring("orders");
    assert_eq!(client.start("select count(*) from order_v2"), None);
}

/// The feed is read from a log, and of a followed group there is none here.
#[test]
fn the_feed_of_what_is_only_followed_is_refused() {
    let far = Far::new();
    let changes = "select count(*) from freehold.changes(after => '0/0')";
    let feed = "select count(*) from freehold.feed where position > '0/0'";
    for user in ["reader", "postgres"] {
        let mut client = far.b.client(user);
        for sql in [changes, feed] {
            let told = client.run(sql);
            let expected =
                "ERROR 0A000: the changes of owner \"orders\" can't be read on this node";
            assert!(told.starts_with(expected), "{user}: {told}");
        }
        far.a.client(user).ok(changes);
    }
    far.a.client("postgres").ok("create role stranger login");
    far.directory();
    far.b.client("stranger").ok(changes);
}
