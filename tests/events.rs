//! Event tables over processes: the owner says what has happened, another node's reader has each event
//! once, by a trigger and by its own cursor, whoever falls.

use tests::{Cluster, SUPERUSER};

/// Events that are said while nodes fall.
const EVENTS: u32 = 60;
/// One of the nodes falls after so many.
const KILL_EVERY: u32 = 20;
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS public.order_v1 (id int PRIMARY KEY, total int)",
    "CREATE TABLE IF NOT EXISTS public.order_placed_v1 (id int NOT NULL REFERENCES order_v1, \
     total int CHECK (total > 0), by text DEFAULT current_user) WITH (event = true)",
    "GRANT READ ON order_* TO billing",
];
/// Without a key: what is done twice is there twice.
const READER: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS invoice (id int, total int, trace text)",
    "FOLLOW order_placed_v1",
    "CREATE OR REPLACE FUNCTION on_placed() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         INSERT INTO invoice VALUES (NEW.id, NEW.total, current_setting('freehold.traceparent'));
         RETURN NULL;
     END $$",
    "CREATE OR REPLACE TRIGGER bill AFTER INSERT ON order_placed_v1 FOR EACH ROW \
     EXECUTE FUNCTION on_placed()",
];

fn roles(cluster: &Cluster) {
    for role in ["orders", "billing"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in TABLES {
        cluster.settle(1, "orders", sql);
    }
    for sql in READER {
        cluster.settle(1, "billing", sql);
    }
}

/// An order and its event in one transaction, however often it is tried.
fn place(cluster: &Cluster, node: usize, id: u32) {
    let place = format!(
        "SET freehold.traceparent = '{TRACE}'; \
         WITH placed AS (INSERT INTO order_v1 VALUES ({id}, 10) ON CONFLICT DO NOTHING \
         RETURNING id, total) INSERT INTO order_placed_v1 (id, total) SELECT id, total FROM placed"
    );
    cluster.settle(node, "orders", &place);
}

/// What a consumer finds behind its cursor, a few at a time: where it is then.
fn consume(cluster: &Cluster, node: usize, cursor: &mut String, found: &mut Vec<u32>) {
    let page = format!(
        "SELECT position, event::jsonb->>'id', key, trace FROM freehold.changes(after => {cursor}, \
         tables => ARRAY['order_placed_v1'], max_rows => 7) WHERE op = 'event'"
    );
    for line in cluster.settle(node, "billing", &page) {
        let [position, id, key, trace] = line.split('|').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(key, format!("{{\"id\": {id}}}"));
        assert_eq!(trace, TRACE);
        found.push(id.parse().unwrap());
        *cursor = format!("'{position}'");
    }
}

fn await_invoices(cluster: &Cluster, node: usize, count: u32) {
    let all = "SELECT count(*), count(DISTINCT id), sum(total), min(trace) FROM invoice";
    let expected = [format!("{count}|{count}|{}|{TRACE}", 10 * count)];
    cluster.until(|| match cluster.ask(node, "billing", all)? {
        found if found == expected => Ok(()),
        found => Err(format!("{found:?}, not {expected:?}")),
    });
}

/// The reader's home has no log of the owner: another node makes the rows of its entries.
#[test]
fn a_reader_on_another_node_has_each_event_once() {
    let places: [&[&str]; 2] = [
        &["--locality=region=orders"],
        &["--locality=region=billing"],
    ];
    let mut cluster = Cluster::start_each(&places);
    roles(&cluster);
    cluster.pin(1, "orders", "orders", 1);
    cluster.pin(2, "billing", "billing", 1);
    let (mut cursor, mut found) = ("NULL".to_owned(), Vec::new());
    for id in 1..=EVENTS {
        place(&cluster, 2, id);
        if id % KILL_EVERY == 0 {
            let falls = 1 + (id / KILL_EVERY) as usize % 2;
            cluster.node(falls).kill();
            cluster.node(falls).start_again();
            consume(&cluster, falls, &mut cursor, &mut found);
        }
    }
    while found.len() < EVENTS as usize {
        consume(&cluster, 2, &mut cursor, &mut found);
    }
    assert_eq!(found, (1..=EVENTS).collect::<Vec<_>>());
    await_invoices(&cluster, 1, EVENTS);
    let parked = cluster.settle(1, "billing", "SELECT count(*) FROM freehold.parked");
    assert_eq!(parked, ["0"]);
    // A copy of a table without rows, and nobody asks it for any.
    let read = cluster.ask(2, "billing", "SELECT * FROM order_placed_v1");
    assert!(read.unwrap_err().contains("cannot read event table"));
}
