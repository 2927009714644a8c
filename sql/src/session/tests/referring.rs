//! Foreign keys between owners on one node, whose couriers the test calls.

use storage::GroupId;

use super::emptied::Trees;
use super::node::{Client, Node};
use crate::session::{Courier, Taking};

type Task = fn(&mut Courier) -> crate::Result<Taking>;

/// What the homes of `crm` and `shop` do without a client, each task by a courier of its own.
struct Homes(Vec<(Courier, Task)>);

impl Homes {
    fn new(node: &Node) -> Homes {
        let (crm, shop) = (node.group("crm"), node.group("shop"));
        let tasks: [Task; 5] = [
            Courier::take,
            Courier::clear,
            Courier::settle_references,
            Courier::register,
            Courier::answer,
        ];
        let pairs = [(crm, shop), (shop, crm)].into_iter();
        let all = pairs.flat_map(|(home, other)| {
            tasks.map(|task| (node.engine.courier(home, other).expect("led here"), task))
        });
        Homes(all.collect())
    }

    /// All that can be done now; whether there was anything.
    fn run(&mut self) -> bool {
        let mut any = false;
        for (courier, task) in &mut self.0 {
            for _ in 0..1_000 {
                match task(courier).expect("nothing speaks against it") {
                    Taking::Placed => any = true,
                    Taking::Wait(waiting) if waiting.ready() => {}
                    Taking::Nothing | Taking::Wait(_) => break,
                }
            }
            while let Some(waiting) = courier.settle().expect("they stand") {
                if !waiting.ready() {
                    break;
                }
            }
        }
        any
    }

    /// Until a client's statement is over.
    fn until(&mut self, node: &Node, client: &mut Client, answer: Option<String>) -> String {
        let mut answer = answer;
        for _ in 0..1_000 {
            if let Some(answer) = answer {
                return answer;
            }
            self.run();
            node.clock.advance(10_000);
            answer = client.go_on();
        }
        panic!("it does not come to an end");
    }
}

/// Orders of `shop` reference customers of `crm`.
fn owners(action: &str) -> (Node, Homes, [Client; 2]) {
    let node = Node::new();
    let mut root = node.client("postgres");
    root.ok("create role crm login; create role shop login");
    let (mut crm, mut shop) = (node.client("crm"), node.client("shop"));
    crm.ok("create table public.customer_v1 (id int primary key); \
         insert into customer_v1 values (1); grant references on customer_v1 to shop");
    shop.ok("create table own (id int)");
    let mut homes = Homes::new(&node);
    let made = shop.start(&format!(
        "create table orders (id int primary key, of int references customer_v1 \
         on delete {action})"
    ));
    assert_eq!(homes.until(&node, &mut shop, made), "CREATE TABLE");
    shop.ok("insert into orders values (1, 1)");
    (node, homes, [crm, shop])
}

#[test]
fn a_parent_that_is_not_known_yet_is_not_gone() {
    let (node, _homes, _clients) = owners("cascade");
    let late = node.restarted();
    for group in [GroupId::DIRECTORY, node.group("shop")] {
        late.engine.load(group).expect("a catalog");
    }
    let mut shop = late.client("shop");
    for sql in [
        "insert into orders values (2, 1)",
        "insert into orders values (1, 1) on conflict (id) do update set of = 2",
        "update orders set of = 2",
    ] {
        let told = shop.run(sql);
        assert!(told.starts_with("ERROR 57P03"), "{sql}: {told}");
    }
    assert_eq!(shop.rows("select id, of from orders"), "1|1");
    late.engine.load(node.group("crm")).expect("a catalog");
    assert_eq!(shop.run("insert into orders values (2, 1)"), "INSERT 0 1");
}

#[test]
fn an_action_on_another_owners_rows_waits_for_their_table() {
    for (action, left) in [("cascade", ""), ("set null", "3|NULL")] {
        let (node, mut homes, [mut crm, mut shop]) = owners(action);
        let before = Trees::of(&node, "orders");
        shop.ok("begin; truncate orders; insert into orders values (3, 1)");
        assert_eq!(crm.start("delete from customer_v1"), None, "{action}");
        while homes.run() {}
        node.local.hold(before.group);
        assert_eq!(shop.start("commit"), None);
        while homes.run() {}
        node.local.release(before.group).unwrap();
        assert_eq!(shop.go_on().as_deref(), Some("COMMIT"));
        let answer = crm.go_on();
        assert_eq!(homes.until(&node, &mut crm, answer), "DELETE 1", "{action}");
        while homes.run() {}
        before.assert_unwritten(&node, action);
        assert_eq!(shop.rows("select id, of from orders"), left, "{action}");
    }
}
