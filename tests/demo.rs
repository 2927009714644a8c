//! The demo as a newcomer runs it: it tells its story, checks it, and leaves nothing behind.

use tests::{command, run};

#[test]
fn the_demo_counts_what_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = command();
    demo.args([
        "demo",
        "--once",
        "--seconds",
        "4",
        "--listen",
        "127.0.0.1:0",
    ])
    .env("TMPDIR", folder.path());
    let output = run(&mut demo, "");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    assert_eq!(errors, "", "a user sees no warnings");
    for telling in [
        "kill -9 of billing",
        "orders publishes order_v2",
        "ok  every private order is in order_v1, and nothing else is",
        "ok  billing's invoices are exactly the orders, though billing was killed",
        "ok  billing has taken each change of order_v1 once",
        "ok  order_v1 and its readers went on after order_v2 was there",
        "ok  order_v2 says the same as order_v1",
        "ok  each placed order has its one event in the journal",
        "GRANT READ ON order_* was given before order_v2 was there, and covers it",
        "ERROR:  42501: permission denied for table order_v1",
        "DETAIL:  Only its owner \"orders\" writes table \"order_v1\".",
        "ERROR:  42P01: relation \"orders.order\" does not exist",
    ] {
        assert!(told.contains(telling), "{telling} is not in\n{told}");
    }
    // Alone: a position may have these letters, too.
    assert!(!told.contains(" BAD "), "{told}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "its folder is left"
    );
}

#[test]
fn the_demo_does_not_touch_a_node() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    let mut demo = command();
    demo.args(["demo", "--once", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path());
    let output = run(&mut demo, "");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("holds a node already"), "{errors}");
}
