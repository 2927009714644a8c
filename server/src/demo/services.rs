//! The three services, each an ordinary PostgreSQL client in its own process. No broker, no
//! outbox, no inbox: `orders` writes its private and its integration table in one transaction,
//! `billing` reads the feed and keeps its cursor beside its rows.

use std::time::Duration;

use clap::Args;
use tokio::io::AsyncReadExt as _;
use tokio_postgres::{Client, Row, Transaction};

use crate::Failure;
use crate::client::connect;

/// `freehold demo-service NAME`, started by the demo.
#[derive(Args, Clone, Debug)]
pub struct ServiceFlags {
    /// customers, orders or billing.
    pub name: String,
    /// The only thing that a service is given.
    #[arg(long, env = "FREEHOLD_DEMO_URL", hide_env_values = true)]
    url: String,
}

/// Rows that billing takes at once.
const PAGE_ROWS: i32 = 500;

/// Runs one service until its standard input closes.
pub async fn serve(flags: ServiceFlags) -> Result<(), Failure> {
    let mut client = connect(&flags.url).await?;
    let (told, mut stop) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let mut nothing = [0];
        // End of input or an error of it: the demo has gone or wants us to.
        while matches!(tokio::io::stdin().read(&mut nothing).await, Ok(1..)) {}
        told.send(true)
    });
    let mut turn = 0;
    while !*stop.borrow_and_update() {
        match flags.name.as_str() {
            "customers" => customers(&mut client, turn).await?,
            "orders" => orders(&mut client, turn).await?,
            "billing" => billing(&mut client).await?,
            other => return Err(format!("there is no service {other}").into()),
        }
        turn += 1;
    }
    Ok(())
}

/// A new customer now and then, one renamed; private and integration table in one transaction.
async fn customers(client: &mut Client, turn: i64) -> Result<(), Failure> {
    let work = client.transaction().await?;
    let name = format!("customer {turn}");
    let email = format!("{turn}@example.com");
    work.execute(
        "INSERT INTO customer VALUES ($1, $2, $3, 'pays late')",
        &[&turn, &name, &email],
    )
    .await?;
    work.execute(
        "INSERT INTO public.customer_v1 VALUES ($1, $2)",
        &[&turn, &name],
    )
    .await?;
    if turn % 5 == 4 {
        let renamed = format!("customer {} (renamed)", turn - 1);
        for table in ["customer", "public.customer_v1"] {
            let update = format!("UPDATE {table} SET name = $2 WHERE id = $1");
            work.execute(&update, &[&(turn - 1), &renamed]).await?;
        }
    }
    work.commit().await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

/// Places an order; pays, cancels (a delete is a delete) or rolls back now and then.
async fn orders(client: &mut Client, turn: i64) -> Result<(), Failure> {
    // A read of another owner's table, granted by a pattern.
    let customer = "SELECT id FROM public.customer_v1 ORDER BY id DESC LIMIT 1";
    let Some(customer) = client.query_opt(customer, &[]).await? else {
        tokio::time::sleep(Duration::from_millis(10)).await;
        return Ok(());
    };
    let customer: i64 = customer.get(0);
    let work = client.transaction().await?;
    let cents = 100 + turn * 37 % 9900;
    let id: i64 = work
        .query_one(
            "INSERT INTO \"order\" (customer_id, cents, purchase_price_cents) \
             VALUES ($1, $2, $2::bigint / 2) RETURNING id",
            &[&customer, &cents],
        )
        .await?
        .get(0);
    publish(&work, id).await?;
    work.execute(
        "SELECT pg_logical_emit_message(true, 'order.placed', \
         jsonb_build_object('order', $1::bigint, 'customer', $2::bigint)::text)",
        &[&id, &customer],
    )
    .await?;
    if turn % 10 == 9 {
        // What is rolled back has never been, in the feed neither.
        work.rollback().await?;
        return Ok(());
    }
    work.commit().await?;
    if turn % 3 == 2 {
        change(
            client,
            "UPDATE \"order\" SET state = 'paid' WHERE id = $1",
            id,
        )
        .await?;
    }
    if turn % 7 == 6 {
        change(client, "DELETE FROM \"order\" WHERE id = $1", id).await?;
    }
    Ok(())
}

/// Changes the private row and publishes it, in one transaction.
async fn change(client: &mut Client, statement: &str, id: i64) -> Result<(), Failure> {
    let work = client.transaction().await?;
    work.execute(statement, &[&id]).await?;
    publish(&work, id).await?;
    work.commit().await?;
    Ok(())
}

/// Translates one private order into every version of the contract that exists.
async fn publish(work: &Transaction<'_>, id: i64) -> Result<(), Failure> {
    let v2 = work
        .query_one("SELECT to_regclass('public.order_v2') IS NOT NULL", &[])
        .await?;
    let mut versions = vec![("public.order_v1", "amount", "cents / 100.0")];
    if v2.get(0) {
        versions.push(("public.order_v2", "amount_cents", "cents"));
    }
    for (table, column, amount) in versions {
        work.execute(&format!("DELETE FROM {table} WHERE id = $1"), &[&id])
            .await?;
        let insert = format!(
            "INSERT INTO {table} (id, customer_id, {column}, state) \
             SELECT id, customer_id, {amount}, state FROM \"order\" WHERE id = $1"
        );
        work.execute(&insert, &[&id]).await?;
    }
    Ok(())
}

/// One page of the feed: effects and cursor in one transaction, so each takes effect once,
/// whenever this process dies.
async fn billing(client: &mut Client) -> Result<(), Failure> {
    let page = client
        .query(
            "SELECT position::text, op, (key->>'id')::bigint AS id, \
                    (new->>'customer_id')::bigint AS customer, new->>'amount' AS amount, \
                    new->>'state' AS state \
             FROM freehold.changes(after => (SELECT position FROM feed_cursor WHERE id = 1), \
                  tables => ARRAY['order_v1'], wait => '200ms', max_rows => $1)",
            &[&PAGE_ROWS],
        )
        .await?;
    let Some(last) = page.last() else {
        return Ok(());
    };
    let work = client.transaction().await?;
    let mut changes = 0_i64;
    for row in &page {
        changes += effect(&work, row).await?;
    }
    let position: String = last.get("position");
    work.execute(
        "UPDATE feed_cursor SET position = $1::text::pg_lsn, changes = changes + $2 WHERE id = 1",
        &[&position, &changes],
    )
    .await?;
    work.commit().await?;
    Ok(())
}

/// What a row of the feed does to the invoices; the number of changes that it is.
async fn effect(work: &Transaction<'_>, row: &Row) -> Result<i64, Failure> {
    let id: Option<i64> = row.get("id");
    match row.get("op") {
        "insert" => {
            work.execute(
                "INSERT INTO invoice SELECT $1, c.name, $3::text::numeric, $4 \
                 FROM public.customer_v1 AS c WHERE c.id = $2",
                &[
                    &id,
                    &row.get::<_, i64>("customer"),
                    &row.get::<_, String>("amount"),
                    &row.get::<_, String>("state"),
                ],
            )
            .await?;
        }
        "update" => {
            work.execute(
                "UPDATE invoice SET amount = $2::text::numeric, state = $3 WHERE order_id = $1",
                &[
                    &id,
                    &row.get::<_, String>("amount"),
                    &row.get::<_, String>("state"),
                ],
            )
            .await?;
        }
        "delete" | "erase" => {
            work.execute("DELETE FROM invoice WHERE order_id = $1", &[&id])
                .await?;
        }
        // Changes of the schema, and marks of progress, have no effect on invoices.
        _ => return Ok(0),
    }
    Ok(1)
}
