//! What the demo says in the end: each number is counted against what the clients were told.

use std::time::Instant;

use super::login::{Login, PATIENCE, PAUSE};
use super::work::{CUSTOMERS, Order, Told};
use crate::Failure;
use crate::explain::told;

/// Each query gives the number of things that contradict the claim, and of those looked at. `told` and
/// `until_kill` are what the clients were told, in the end and before the kill.
const CLAIMS: &[(&str, &str)] = &[
    (
        "orders there are, exactly those that the shop was told of",
        "SELECT count(*) FILTER (WHERE o.customer_id IS DISTINCT FROM t.customer_id \
                                 OR o.cents <> t.cents OR o.paid <> t.paid), count(*) \
         FROM orders.\"order\" AS o FULL JOIN told AS t USING (id)",
    ),
    (
        "of them were told before the kill: they are what the table's history has of that moment",
        "SELECT count(*) FILTER (WHERE o.cents IS NULL), count(*) FROM until_kill AS t \
         LEFT JOIN orders.\"order\" FOR SYSTEM_TIME AS OF :killed_at AS o USING (id)",
    ),
    (
        "invoices: each order has one, with its amount and its customer's name",
        "SELECT count(*) FILTER (WHERE i.amount IS DISTINCT FROM o.amount OR i.paid <> o.paid \
                                 OR i.customer IS DISTINCT FROM c.name), count(*) \
         FROM order_v1 AS o FULL JOIN billing.invoice AS i ON i.order_id = o.id \
              LEFT JOIN customer_v1 AS c ON c.id = o.customer_id",
    ),
    (
        "cents in the till, as the cashiers were told",
        "SELECT abs(cents - (SELECT sum(cents) FROM told WHERE paid))::bigint, cents \
         FROM billing.till",
    ),
    (
        "order_placed events in the feed, one for each order",
        "SELECT count(*) FILTER (WHERE e.id IS NULL OR t.id IS NULL) \
                + count(*) - count(DISTINCT t.id), count(*) \
         FROM (SELECT (key->>'order_id')::bigint AS id FROM freehold.feed \
               WHERE op = 'event' AND event_type = 'order_placed_v1') AS e \
              FULL JOIN told AS t USING (id)",
    ),
    (
        "rows of order_v2 say the same as order_v1",
        "SELECT count(*) FILTER (WHERE b.cents IS DISTINCT FROM (a.amount * 100)::bigint \
                                 OR (b.state = 'paid') <> a.paid), count(*) \
         FROM order_v1 AS a FULL JOIN order_v2 AS b USING (id)",
    ),
    (
        "versions of the contract order; billing follows both, and the older one has a sunset",
        "SELECT count(*) FILTER (WHERE followers <> '{billing}' OR newest <> (sunset IS NULL)), \
                count(*) FROM freehold.contracts WHERE contract = 'order'",
    ),
    (
        "customers are what was registered; no command waits, and none was set aside",
        "SELECT (SELECT count(*) FROM freehold.outbox) + (SELECT count(*) FROM freehold.parked) \
                + abs(count(*) - :customers), count(*) FROM customers.customer",
    ),
];

/// What all nodes must have alike.
const CONTENT: &str = "SELECT md5(string_agg(concat_ws('|', o.*, c.*, i.*), ',' ORDER BY o.id)) \
     FROM order_v1 AS o JOIN customer_v1 AS c ON c.id = o.customer_id \
          JOIN invoice AS i ON i.order_id = o.id";

/// What the clients were told, as a table.
fn rows(name: &str, told: &Told) -> String {
    let column = |value: &dyn Fn(&Order) -> String| -> String {
        let all: Vec<String> = told.placed.iter().map(value).collect();
        all.join(",")
    };
    format!(
        "{name} AS (SELECT * FROM unnest('{{{}}}'::bigint[], '{{{}}}'::bigint[], '{{{}}}'::bigint[], \
         '{{{}}}'::boolean[]) AS t (id, customer_id, cents, paid))",
        column(&|order| order.id.to_string()),
        column(&|order| order.customer.to_string()),
        column(&|order| order.cents.to_string()),
        column(&|order| order.pays.to_string()),
    )
}

/// Checks and prints each claim, as soon as billing and orders have heard all of each other.
///
/// # Errors
/// One is not true.
pub async fn check(
    admin: &mut Login,
    told: &Told,
    until_kill: &Told,
    killed_at: &str,
) -> Result<(), Failure> {
    let told = format!(
        "WITH {}, {}",
        rows("told", told),
        rows("until_kill", until_kill)
    );
    let begun = Instant::now();
    let mut wrong = Vec::new();
    for (claim, query) in CLAIMS {
        let query = format!("{told} {query}")
            .replace(":killed_at", &format!("'{killed_at}'"))
            .replace(":customers", &CUSTOMERS.len().to_string());
        let (differ, seen) = loop {
            let row = admin.row(&query, &[]).await?;
            let (differ, seen): (i64, i64) = (row.get(0), row.get(1));
            if differ == 0 || begun.elapsed() > PATIENCE {
                break (differ, seen);
            }
            tokio::time::sleep(PAUSE).await;
        };
        tell(differ == 0 && seen > 0, &format!("{seen} {claim}"));
        if differ > 0 || seen == 0 {
            wrong.push(format!("{seen} {claim} ({differ} differ)"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("not true: {}", wrong.join("; ")).into()),
    }
}

/// All nodes show the same.
///
/// # Errors
/// They do not.
pub async fn compare_nodes(ports: &[u16]) -> Result<(), Failure> {
    let mut contents = Vec::new();
    let mut seen = String::new();
    for port in ports {
        let mut billing = Login::local("billing", *port);
        // It waits for what was seen at the others.
        billing
            .run(&format!("SET freehold.token = '{seen}'"))
            .await?;
        contents.push(billing.row(CONTENT, &[]).await?.get::<_, String>(0));
        seen = billing.row("SHOW freehold.token", &[]).await?.get(0);
    }
    let same = contents.iter().all(|content| *content == contents[0]);
    tell(same, "all nodes show the same, the killed one, too");
    match same {
        true => Ok(()),
        false => Err(format!("the nodes differ: {contents:?}").into()),
    }
}

/// The feed of one order that was paid, as billing reads it.
///
/// # Errors
/// There is none.
pub async fn follow_one(ports: &[u16], told: &Told) -> Result<(), Failure> {
    let order = told.paid.first().ok_or("nobody has paid")?.id.to_string();
    println!("\nthe life of order {order} in the feed, as billing reads it");
    let feed = "SELECT position::text AS at, op, table_name, coalesce(new, event::jsonb)::text \
                FROM freehold.feed WHERE table_name IN ('order_placed_v1', 'order_v1', 'invoice') \
                     AND coalesce(key->>'id', key->>'order_id') = $1 ORDER BY position, seq";
    for row in Login::new("billing", ports).rows(feed, &[&order]).await? {
        let [position, op, table, row]: [&str; 4] = std::array::from_fn(|column| row.get(column));
        println!("  {position}  {op:<6}  {table:<15}  {row}");
    }
    Ok(())
}

/// What a role may not do, in the server's own words.
///
/// # Errors
/// It may, or the server says something else.
pub async fn refused(
    role: &str,
    ports: &[u16],
    statement: &str,
    state: &str,
) -> Result<(), Failure> {
    println!("  {role}=> {statement};");
    let Err(failure) = Login::new(role, ports).run(statement).await else {
        return Err(format!("the server allowed: {statement}").into());
    };
    let error = failure.downcast_ref::<tokio_postgres::Error>();
    match error.and_then(tokio_postgres::Error::as_db_error) {
        Some(error) if error.code().code() == state => {
            told(error).lines().for_each(|line| println!("  {line}"));
            Ok(())
        }
        _ => Err(failure),
    }
}

/// How many snapshots were seen at each node, all of them as they must be.
///
/// # Errors
/// None were.
pub fn count_looks(looks: &[u64]) -> Result<(), Failure> {
    let seen = !looks.contains(&0);
    let counts: Vec<String> = looks.iter().map(u64::to_string).collect();
    let counts = counts.join(", ");
    tell(
        seen,
        &format!("{counts} snapshots of the three nodes: no order without its customer in any"),
    );
    match seen {
        true => Ok(()),
        false => Err("a node was never looked at".into()),
    }
}

/// A line of the result.
pub fn tell(holds: bool, claim: &str) {
    println!("  {} {claim}", if holds { "ok " } else { "BAD" });
}
