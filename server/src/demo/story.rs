//! What the demo shows and counts: the numbers are checked, not hoped for.

use std::fmt;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::Url;
use crate::Failure;

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
        println!(
            "  {} {claim} ({seen} rows)",
            if differences == 0 { "ok " } else { "BAD" }
        );
        if differences != 0 || seen == 0 {
            wrong.push(*claim);
        }
    }
    refusals(url).await?;
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("not true: {}", wrong.join("; ")).into())
    }
}

/// Each query gives the number of rows that contradict the claim, and of those looked at.
const CLAIMS: &[(&str, &str)] = &[
    (
        "every private order is in order_v1 and nothing else is",
        "SELECT count(*) FILTER (WHERE o.id IS NULL OR v.id IS NULL OR o.state <> v.state \
                                 OR o.cents <> v.amount * 100), count(*) \
         FROM orders.\"order\" AS o FULL JOIN public.order_v1 AS v ON v.id = o.id",
    ),
    (
        "billing's invoices are exactly the orders, though it was killed",
        "SELECT count(*) FILTER (WHERE i.order_id IS NULL OR v.id IS NULL \
                                 OR i.amount <> v.amount OR i.state <> v.state), count(*) \
         FROM billing.invoice AS i FULL JOIN public.order_v1 AS v ON v.id = i.order_id",
    ),
    (
        "order_v2 says the same as order_v1",
        "SELECT count(*) FILTER (WHERE a.id IS NULL OR b.id IS NULL \
                                 OR a.amount * 100 <> b.amount_cents), count(*) \
         FROM public.order_v1 AS a FULL JOIN public.order_v2 AS b ON b.id = a.id",
    ),
    (
        "each placed order has its one event in the journal, rolled back ones have none",
        "SELECT count(*) - count(DISTINCT (event::jsonb->>'order')), count(*) \
         FROM freehold.feed WHERE op = 'event' AND event_type = 'order.placed'",
    ),
];

/// What billing may not do, in the server's own words.
async fn refusals(url: &Url) -> Result<(), Failure> {
    let billing = url.connect("billing").await?;
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
        println!("  ERROR:  {}: {}", error.code().code(), error.message());
        for (name, text) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
            text.iter().for_each(|text| println!("  {name}:  {text}"));
        }
        if error.code().code() != state {
            return Err(format!("{state} was expected").into());
        }
    }
    // Version 2 came later, and the pattern grant `order_*` covers it.
    let row = billing
        .query_one("SELECT count(*) FROM public.order_v2", &[])
        .await?;
    println!(
        "\nbilling reads order_v2 by the grant on order_*: {} rows",
        row.get::<_, i64>(0)
    );
    Ok(())
}
