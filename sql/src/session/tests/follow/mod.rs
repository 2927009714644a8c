//! Reading other owners' tables at a node that follows them. The first node leads everything; the
//! second one has the directory and copies of what is chosen, brought when the test says so.

mod copies;
mod revoke;
mod statements;
mod views;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use storage::{
    Clock as _, Entry, GroupId, Local, ManualClock, MemoryStore, PartSource, Payload, Position,
    Proposed, TxId,
};

use super::feed::registered;
use super::node::{Client, Node};
use crate::catalog::{Change, Object, Placement, RoleId, TableId};
use crate::changes::Interrupt;
use crate::cluster::{Answer, Asking, Cluster, Done, News, Untold, Wish};
use crate::engine::{Engine, Limits};
use crate::remote::{
    Answer as Remote, Held, Reading, Refused, Request, decode_error, encode_error,
};
use crate::session::{Piece, Source};
use crate::transaction::leader_changed;

/// A table that is wanted at the second node.
type Wanted = (RoleId, GroupId, TableId, Done<()>);

/// What the nodes know of each other.
#[derive(Default)]
struct Wires {
    nodes: OnceLock<[Arc<Local>; 2]>,
    engines: OnceLock<[Arc<Engine>; 2]>,
    clock: OnceLock<Arc<ManualClock>>,
    wanted: Mutex<Vec<Wanted>>,
    /// Of which no rows may be given.
    doubted: Mutex<Option<GroupId>>,
    vouching: Mutex<Vec<(GroupId, Done<()>)>>,
    /// The nodes have not heard of all owners since they started.
    late: AtomicBool,
    /// What is taken away waits until the test has told it.
    tells: AtomicBool,
    telling: Mutex<Vec<(Untold, Done<()>)>>,
    /// What was asked of views, and whom first.
    asked: Mutex<Vec<(Request, Option<u32>)>>,
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

    fn ask_undecided(&self, node: u32, id: TxId, done: Done<bool>) {
        let engines = self.wires.engines.get().expect("they are made");
        done(engines[node as usize - 1].is_undecided(id));
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

    fn want(&self, role: RoleId, group: GroupId, table: TableId, done: Done<()>) -> Asking {
        assert_eq!(self.index, 1, "the first node has everything");
        self.wires.wanted.lock().push((role, group, table, done));
        Box::new(())
    }

    fn taken_away(&self, _: GroupId, _: Position, untold: Untold, done: Done<()>) -> Asking {
        match self.wires.tells.load(Ordering::Relaxed) {
            true => {
                untold.begin([2, 3]);
                self.wires.telling.lock().push((untold, done));
            }
            false => done(Ok(())),
        }
        Box::new(())
    }

    fn doubts(&self, groups: &[GroupId], own: Option<GroupId>) -> Option<GroupId> {
        let needs = |id: &GroupId| match *id == GroupId::DIRECTORY {
            true => groups.iter().any(|group| Some(*group) != own),
            false => groups.contains(id),
        };
        self.wires.doubted.lock().filter(needs)
    }

    fn vouch(&self, group: GroupId, done: Done<()>) -> Asking {
        self.wires.vouching.lock().push((group, done));
        Box::new(())
    }

    fn knows_all(&self) -> bool {
        !self.wires.late.load(Ordering::Relaxed)
    }

    /// The first node holds every group.
    fn read_view(&self, request: Request, near: Option<u32>, _: Interrupt) -> Box<dyn Reading> {
        assert_eq!(self.index, 1, "the first node has everything");
        let request = Request::decode(&request.encode()).expect("a request");
        self.wires.asked.lock().push((request.clone(), near));
        let given = self.wires.engines.get().expect("engines")[0].give_view(&request);
        let clock = self.wires.clock.get().expect("a clock").clone();
        Box::new(Reads(given.map_err(Some), clock))
    }

    fn has_listeners(&self) -> bool {
        false
    }

    fn notify(&self, _: &News) {}
}

/// What the first node gives of a view; once what it refuses with. While it waits, time passes.
struct Reads(
    std::result::Result<(Source, storage::Pin), Option<Refused>>,
    Arc<ManualClock>,
);

impl Reading for Reads {
    fn next(&mut self) -> crate::Result<Remote> {
        let given = match &mut self.0 {
            Ok((source, _)) => match source.next(40) {
                Ok(Piece::Wait(waiting)) => {
                    let until = waiting.until().expect("it waits for ever");
                    let now = self.1.unix_micros();
                    self.1.advance(until.saturating_sub(now));
                    source.next(40)
                }
                given => given,
            },
            Err(refused) => Err(refused.take().expect("said once")),
        };
        Ok(match given {
            Ok(Piece::Rows(rows)) => Remote::Rows(rows),
            Ok(Piece::End) => Remote::End,
            Ok(Piece::Wait(waiting)) => panic!("the source waits: {waiting:?}"),
            Err(Refused::Ahead(group, at)) => Remote::Ahead(group, at),
            Err(Refused::Old(at)) => Remote::Old(at),
            Err(refused @ (Refused::Behind | Refused::NotHere)) => {
                Remote::Away(format!("{refused:?}"))
            }
            Err(Refused::Error(error)) => return Err(decode_error(&encode_error(&error))?),
        })
    }

    fn hold(self: Box<Self>) -> Option<Held> {
        let (_, pin) = self.0.ok()?;
        let stream = Box::new(pin);
        Some(Held { node: 1, stream })
    }
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
        assert!(wires.clock.set(clock.clone()).is_ok());
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
            leaving: Some(Vec::new()),
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
            let nothing = storage::Chosen::default();
            let export = source.export_chosen(&chosen, &nothing);
            let mut export = export.expect("read").expect("ready");
            let (applied, meta) = (export.applied(), export.meta().clone());
            let mut pieces = || {
                let bytes = export.read(1 << 10)?;
                Ok((!bytes.is_empty()).then_some(bytes))
            };
            groups
                .install(id, applied, &meta, &mut pieces)
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
