//! What the demo shows and counts: the numbers are checked, not hoped for.

use std::fmt;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::Url;
use crate::Failure;
use crate::explain::told;

/// Time within which billing must have caught up after the last order.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);

/// Rows so far.
pub struct Counts {
    customers: i64,
    orders: i64,
    invoices: i64,
}

impl Counts {
    /// Counts in one statement, so that they are of one moment of each owner.
    pub async fn read(admin: &Client) -> Result<Counts, Failure> {
        let row = admin
            .query_one(
                "SELECT (SELECT count(*) FROM public.customer_v1), \
                 (SELECT count(*) FROM public.order_v1), (SELECT count(*) FROM billing.invoice)",
                &[],
            )
            .await?;
        Ok(Counts {
            customers: row.get(0),
            orders: row.get(1),
            invoices: row.get(2),
        })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            customers,
            orders,
            invoices,
        } = self;
        write!(
            f,
            "{customers} customers, {orders} orders, {invoices} invoices"
        )
    }
}

/// `orders` publishes the next version of its contract while readers of v1 go on: one
/// transaction creates the table and copies what is there; from its commit on the service
/// writes both.
pub async fn publish_v2(url: &Url) -> Result<(), Failure> {
    let orders = url.connect("orders").await?;
    orders
        .batch_execute(
            "BEGIN;
             LOCK TABLE \"order\" IN SHARE MODE;
             CREATE TABLE public.order_v2 (
                 id bigint PRIMARY KEY, customer_id bigint NOT NULL,
                 amount_cents bigint NOT NULL, state text NOT NULL);
             INSERT INTO public.order_v2
                 SELECT id, customer_id, (amount * 100)::bigint, state FROM public.order_v1;
             COMMIT;",
        )
        .await?;
    Ok(())
}

/// Waits until billing's cursor has passed the last change of `order_v1`.
pub async fn wait_until_billing_has_all(admin: &Client) -> Result<(), Failure> {
    let begun = Instant::now();
    let behind = "SELECT count(*) FROM freehold.changes(\
                  after => (SELECT position FROM billing.feed_cursor), \
                  tables => ARRAY['order_v1'], max_rows => 1) WHERE table_name IS NOT NULL";
    while admin.query_one(behind, &[]).await?.get::<_, i64>(0) > 0 {
        if begun.elapsed() > CATCH_UP_MAX {
            return Err("billing has not caught up with the feed".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Prints what happened and checks it.
pub async fn tell(admin: &Client, url: &Url) -> Result<(), Failure> {
    println!("\nwhat happened");
    println!("  {}", Counts::read(admin).await?);
    let mut wrong = Vec::new();
    for (claim, query) in CLAIMS {
        let row = admin.query_one(*query, &[]).await?;
        let (differences, seen): (i64, i64) = (row.get(0), row.get(1));
        let holds = differences == 0 && seen > 0;
        let word = if holds { "ok " } else { "BAD" };
        println!("  {word} {claim} ({seen})");
        if !holds {
            wrong.push(format!("{claim} ({differences} of {seen} differ)"));
        }
    }
    if !wrong.is_empty() {
        return Err(format!("not true: {}", wrong.join("; ")).into());
    }
    let billing = url.connect("billing").await?;
    feed(&billing).await?;
    grants(&billing).await?;
    refusals(&billing).await
}

/// Each query gives the number of things that contradict the claim, and of those looked at.
const CLAIMS: &[(&str, &str)] = &[
    (
        "every private order is in order_v1, and nothing else is",
        "SELECT count(*) FILTER (WHERE o.id IS NULL OR v.id IS NULL OR o.state <> v.state \
                                 OR o.customer_id <> v.customer_id \
                                 OR o.cents <> v.amount * 100), count(*) \
         FROM orders.\"order\" AS o FULL JOIN public.order_v1 AS v ON v.id = o.id",
    ),
    (
        "billing's invoices are exactly the orders, though billing was killed",
        "SELECT count(*) FILTER (WHERE i.order_id IS NULL OR v.id IS NULL \
                                 OR i.amount <> v.amount OR i.state <> v.state), count(*) \
         FROM billing.invoice AS i FULL JOIN public.order_v1 AS v ON v.id = i.order_id",
    ),
    (
        "billing has taken each change of order_v1 once: inserts, updates, deletes",
        "SELECT abs(count(*) - (SELECT changes FROM billing.feed_cursor)), count(*) \
         FROM freehold.feed \
         WHERE table_name = 'order_v1' AND op IN ('insert', 'update', 'delete')",
    ),
    (
        "order_v1 and its readers went on after order_v2 was there",
        "SELECT 0::bigint, count(*) FROM freehold.feed \
         WHERE table_name = 'order_v1' AND op = 'insert' AND position > \
               (SELECT min(position) FROM freehold.feed WHERE table_name = 'order_v2')",
    ),
    (
        "order_v2 says the same as order_v1",
        "SELECT count(*) FILTER (WHERE a.id IS NULL OR b.id IS NULL OR a.state <> b.state \
                                 OR a.amount * 100 <> b.amount_cents), count(*) \
         FROM public.order_v1 AS a FULL JOIN public.order_v2 AS b ON b.id = a.id",
    ),
    (
        "each placed order has its one event in the journal, rolled back ones have none",
        "WITH event AS (SELECT (event::jsonb->>'order')::bigint AS id FROM freehold.feed \
                        WHERE op = 'event' AND event_type = 'order.placed'), \
              placed AS (SELECT (key->>'id')::bigint AS id FROM freehold.feed \
                         WHERE op = 'insert' AND table_name = 'order_v1') \
         SELECT count(*) FILTER (WHERE e.id IS NULL OR p.id IS NULL) \
                + count(*) - count(DISTINCT coalesce(e.id, p.id)), count(*) \
         FROM event AS e FULL JOIN placed AS p ON p.id = e.id",
    ),
];

/// The feed of one order, as billing reads it.
async fn feed(billing: &Client) -> Result<(), Failure> {
    let rows = billing
        .query(
            "WITH f AS (SELECT * FROM freehold.feed WHERE op <> 'ddl'), \
                  one AS (SELECT key->'id' AS id FROM f \
                          WHERE op = 'delete' AND table_name = 'order_v1' \
                          ORDER BY position LIMIT 1) \
             SELECT position::text, op, coalesce(table_name, event_type), \
                    coalesce(new, old, event::jsonb)::text \
             FROM f WHERE coalesce(key->'id', event::jsonb->'order') = (SELECT id FROM one) \
                      AND (table_name IS NULL OR table_name = 'order_v1') \
             ORDER BY position, seq",
            &[],
        )
        .await?;
    if rows.len() < 3 {
        return Err("the feed lacks the life of a deleted order".into());
    }
    println!("\nthe life of an order in the feed, as billing reads it");
    for row in rows {
        let [position, op, name, row]: [String; 4] = std::array::from_fn(|n| row.get(n));
        println!("  {position}  {op:<6}  {name:<12}  {row}");
    }
    Ok(())
}

/// Version 2 came later, and the pattern grant `order_*` covers it.
async fn grants(billing: &Client) -> Result<(), Failure> {
    let query = "SELECT (SELECT count(*) FROM public.order_v2), (SELECT count(*) \
                 FROM freehold.feed WHERE table_name = 'order_v2' AND op = 'insert')";
    let row = billing.query_one(query, &[]).await?;
    let (rows, changes): (i64, i64) = (row.get(0), row.get(1));
    if rows == 0 || changes == 0 {
        return Err("GRANT READ ON order_* does not cover order_v2".into());
    }
    println!("\nGRANT READ ON order_* was given before order_v2 was there, and covers it:");
    println!("  billing reads its {rows} rows, and {changes} inserts in the feed");
    Ok(())
}

/// What billing may not do, in the server's own words.
async fn refusals(billing: &Client) -> Result<(), Failure> {
    println!("\nwhat billing may not do");
    for (statement, state) in [
        ("UPDATE public.order_v1 SET state = 'free'", "42501"),
        ("SELECT * FROM orders.\"order\"", "42P01"),
    ] {
        println!("  billing=> {statement};");
        let Err(error) = billing.batch_execute(statement).await else {
            return Err(format!("the server allowed: {statement}").into());
        };
        let error = error.as_db_error().ok_or("the connection broke")?;
        told(error).lines().for_each(|line| println!("  {line}"));
        if error.code().code() != state {
            return Err(format!("{state} was expected").into());
        }
    }
    Ok(())
}
