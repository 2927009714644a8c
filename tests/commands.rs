//! Commands over processes: wherever sender and receiver are led, and whichever of them falls, each
//! reaches the inbox once, in the order in which its sender has committed it.

use tests::{Cluster, SUPERUSER};

/// Commands that are sent while leaders fall.
const COMMANDS: u32 = 300;
/// One of the leaders falls after so many.
const KILL_EVERY: u32 = 75;

const INBOX: &str = "CREATE TABLE IF NOT EXISTS public.order_commands \
                     (id int PRIMARY KEY, what text NOT NULL) WITH (inbox = true)";

fn roles(cluster: &Cluster) {
    for role in ["orders", "shop", "audit"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    cluster.settle(1, "orders", INBOX);
    cluster.settle(1, "orders", "GRANT INSERT ON order_commands TO shop");
    cluster.settle(
        1,
        "shop",
        "CREATE TABLE IF NOT EXISTS sent (id int PRIMARY KEY)",
    );
}

/// Each owner has its one replica on a node of its own; a third one belongs to neither.
#[test]
fn a_command_reaches_an_owner_on_another_node_and_no_third_one() {
    let places: [&[&str]; 3] = [
        &["--locality=region=orders"],
        &["--locality=region=shop"],
        &["--locality=region=else"],
    ];
    let cluster = Cluster::start_each(&places);
    roles(&cluster);
    cluster.pin(1, "orders", "orders", 1);
    cluster.pin(2, "shop", "shop", 1);
    // By itself: the answer is the receiver's, whichever node the client is at.
    for (node, id) in [(3, 1), (1, 2), (2, 3)] {
        let canary = format!("INSERT INTO order_commands VALUES ({id}, 'canary-4711')");
        cluster.settle(node, "shop", &canary);
        let seen = cluster.settle(node, "orders", "SELECT count(*) FROM order_commands");
        assert_eq!(seen, [id.to_string()], "it is there when it is answered");
    }
    let twice = cluster.ask(3, "shop", "INSERT INTO order_commands VALUES (1, 'twice')");
    assert!(
        twice.as_ref().is_err_and(|e| e.contains("23505")),
        "{twice:?}"
    );
    let lines = "SELECT id, sender, number FROM order_commands ORDER BY number";
    let expected = ["1|shop|1", "2|shop|2", "3|shop|3"];
    assert_eq!(cluster.settle(3, "orders", lines), expected);
    let own = "SELECT id, what FROM order_commands WHERE number > 1 ORDER BY id DESC";
    assert_eq!(
        cluster.settle(3, "shop", own),
        ["3|canary-4711", "2|canary-4711"]
    );
    let denied = cluster.ask(3, "audit", own);
    assert!(
        denied.as_ref().is_err_and(|e| e.contains("42P01")),
        "{denied:?}"
    );
    // What is told of it is told to the two.
    let rejected = "SELECT inbox, number, sqlstate FROM freehold.rejected";
    // The sender's home notes it behind the receiver's answer.
    cluster.until(|| match cluster.ask(3, "shop", rejected)? {
        told if told == ["order_commands|4|23505"] => Ok(()),
        told => Err(format!("{told:?}")),
    });
    let parked = "SELECT id, table_name, sender, number, sqlstate FROM freehold.parked";
    assert_eq!(
        cluster.settle(3, "orders", parked),
        ["1|order_commands|shop|4|23505"]
    );
    for view in ["outbox", "rejected", "parked"] {
        let none = format!("SELECT * FROM freehold.{view}");
        assert_eq!(cluster.settle(3, "audit", &none), Vec::<String>::new());
    }
    assert_eq!(
        cluster.settle(3, "orders", "SELECT freehold.skip(1)"),
        ["4"]
    );
    cluster.until(
        || match cluster.ask(3, "shop", "SELECT count(*) FROM freehold.outbox")? {
            left if left == ["0"] => Ok(()),
            left => Err(format!("{left:?} were not removed")),
        },
    );
    // The third node has heard nothing of their rows.
    assert!(!cluster.holds(3, b"canary-4711"));
    assert!(cluster.holds(1, b"canary-4711"));
}

#[test]
fn each_command_comes_once_and_in_order_while_leaders_fall() {
    let mut cluster = Cluster::start(3);
    roles(&cluster);
    let mut fallen = 0;
    for id in 1..=COMMANDS {
        if id % KILL_EVERY == 0 {
            let owner = ["orders", "shop"][fallen % 2];
            let leader = cluster.leader(owner);
            cluster.node(leader).kill();
            fallen += 1;
            send(&mut cluster, id);
            cluster.node(leader).start_again();
        } else {
            send(&mut cluster, id);
        }
    }
    let all = "SELECT id, number FROM order_commands ORDER BY number";
    let expected: Vec<String> = (1..=COMMANDS).map(|id| format!("{id}|{id}")).collect();
    cluster.until(|| match cluster.ask(1, "orders", all)? {
        found if found.len() < expected.len() => Err(format!("only {} have come", found.len())),
        found => {
            assert_eq!(found, expected);
            Ok(())
        }
    });
    let parked = cluster.settle(2, "orders", "SELECT count(*) FROM freehold.parked");
    assert_eq!(parked, ["0"]);
}

/// Sends a command with a row of the sender's own, which tells what became of it.
fn send(cluster: &mut Cluster, id: u32) {
    let node = *cluster.running().first().unwrap();
    let transaction = format!(
        "BEGIN; INSERT INTO sent VALUES ({id}); INSERT INTO order_commands VALUES ({id}, 'x'); COMMIT"
    );
    let sent = format!("SELECT count(*) FROM sent WHERE id = {id}");
    cluster.until(|| match cluster.ask(node, "shop", &transaction) {
        Ok(_) => Ok(()),
        Err(why) => match cluster.ask(node, "shop", &sent)? {
            found if found == ["1"] => Ok(()),
            _ => Err(why),
        },
    });
}
