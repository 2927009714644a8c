//! The demo as a newcomer runs it: three nodes of which it kills one, its claims, and nothing that it leaves.

use std::path::Path;

use tests::{command, run};

/// What follows this word, up to the next blank, wherever it is.
fn behind<'a>(told: &'a str, word: &str) -> Vec<&'a str> {
    let rest = told.split(word).skip(1);
    rest.filter_map(|rest| rest.split([' ', ':', ',']).next())
        .collect()
}

/// The number with which a line of the result begins.
fn number(told: &str, claim: &str) -> u64 {
    let line = told.lines().find(|line| line.contains(claim));
    let line = line.unwrap_or_else(|| panic!("{claim} is not in\n{told}"));
    let line = line.trim_start();
    let number = line.strip_prefix("ok  ").and_then(|l| l.split(' ').next());
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no number is ok in {line}"))
}

#[test]
fn the_demo_counts_what_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = command();
    demo.args([
        "demo", "--once", "--orders", "60", "--seed", "7", "--port", "0",
    ])
    .env("TMPDIR", folder.path());
    let output = run(&mut demo, "");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    assert_eq!(errors, "", "a user sees no errors");
    for telling in [
        "CREATE MATERIALIZED VIEW public.customer_v1",
        "60 orders (--seed 7)",
        ", which leads orders; its clients go on at other nodes",
        "orders publishes order_v2 beside order_v1",
        "ok  all nodes show the same, the killed one, too",
        "ERROR:  42501: permission denied for materialized view order_v1",
        "DETAIL:  Only its owner \"orders\" writes table \"order_v1\".",
        "ERROR:  42P01: relation \"orders.order\" does not exist",
        "DETAIL:  Key (id)=(1) is still referenced by another owner.",
        "ok  customer {\"id\": 1} is in no table, no history and no journal of any node",
        "snapshots of the three nodes: no order without its customer in any",
    ] {
        assert!(told.contains(telling), "{telling} is not in\n{told}");
    }
    // Alone: a position may have these letters, too.
    assert!(!told.contains(" BAD "), "{told}");
    // What the shop was told of is what there is, counted in five places.
    let refused = number(&told, "orders of nobody were refused");
    for counted in [
        "exactly those that the shop was told of",
        "invoices: each order has one",
        "order_placed events in the feed",
        "rows of order_v2 say the same",
    ] {
        assert_eq!(number(&told, counted) + refused, 60, "{counted}\n{told}");
    }
    assert!(number(&told, "of them were told before the kill") > 0);
    // The cause stands before its effects.
    let life = told
        .lines()
        .skip_while(|line| !line.starts_with("the life of order"));
    let life: Vec<&str> = life.skip(1).take(3).collect();
    assert!(life[0].contains("  insert  order_v1 "), "{life:?}");
    assert!(life[1].contains("  event   order_placed_v1 "), "{life:?}");
    let killed = behind(&told, "kill -9 of node ");
    assert_eq!(killed.len(), 1, "{told}");
    let back = format!("node {} is back", killed[0]);
    assert!(told.contains(&back), "{back} is not in\n{told}");
    let processes = behind(&told, ", process ");
    assert_eq!(processes.len(), 3, "{told}");
    for process in processes {
        let runs = Path::new("/proc").join(process).exists();
        assert!(!runs, "process {process} still runs");
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "its folder is left");
}

#[test]
fn the_demo_does_not_touch_a_node() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("n1")).unwrap();
    let mut demo = command();
    demo.args(["demo", "--once", "--port", "0", "--data"])
        .arg(folder.path());
    let output = run(&mut demo, "");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("holds a node already"), "{errors}");
}
