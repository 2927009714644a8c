//! A customer wants to be forgotten: what a foreign key says to that, and what is left after ERASE.

use std::time::Instant;

use super::claims;
use super::login::{Login, PATIENCE, PAUSE};
use super::nodes::NODES;
use super::work::{CUSTOMERS, Told};
use crate::Failure;

/// Who wants to be forgotten.
const CUSTOMER: i64 = 1;

/// Forgets one on all nodes.
///
/// # Errors
/// Something is left.
pub async fn tell(ports: &[u16], told: &Told) -> Result<(), Failure> {
    let name = CUSTOMERS[CUSTOMER as usize - 1];
    let mut placed = told.placed.iter();
    let order = placed.find(|order| order.customer == CUSTOMER);
    let order = order.ok_or("who wants to be forgotten has no orders")?.id;
    println!("\n{name} wants to be forgotten");
    let customer = format!("ERASE FROM customer WHERE id = {CUSTOMER}");
    claims::refused("customers", ports, &customer, "23503").await?;
    let orders = format!("ERASE FROM \"order\" WHERE customer_id = {CUSTOMER}");
    erase("orders", ports, &orders).await?;
    println!("  (billing's trigger erases the invoices)");
    erase("customers", ports, &customer).await?;
    for (role, table, key) in [
        ("customers", "customer", format!("{{\"id\": {CUSTOMER}}}")),
        ("orders", "order", format!("{{\"id\": {order}}}")),
        ("billing", "invoice", format!("{{\"order_id\": {order}}}")),
    ] {
        await_erased(role, ports, table, &key).await?;
        let of = "is in no table, no history and no journal of any node";
        claims::tell(true, &format!("{table} {key} {of}"));
    }
    let mut billing = Login::new("billing", ports);
    let left = format!("SELECT count(*) FROM invoice WHERE customer = '{name}'");
    let row = billing.row(&left, &[]).await?;
    match row.get(0) {
        0_i64 => Ok(()),
        left => Err(format!("{left} invoices of {name} are left").into()),
    }
}

async fn erase(role: &str, ports: &[u16], statement: &str) -> Result<(), Failure> {
    let count = Login::new(role, ports).run(statement).await?;
    println!("  {role}=> {statement};\n  ERASE {count}");
    Ok(())
}

/// Until a row is nowhere on any node, as its owner is told.
async fn await_erased(role: &str, ports: &[u16], table: &str, key: &str) -> Result<(), Failure> {
    let gone = "SELECT count(*) FILTER (WHERE erased) \
                FROM freehold.verify_erased($1, $2::text::jsonb)";
    let mut login = Login::new(role, ports);
    let begun = Instant::now();
    loop {
        let row = login.row(gone, &[&table, &key]).await?;
        let nodes: i64 = row.get(0);
        if nodes == i64::from(NODES) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{table} {key} is erased on {nodes} of {NODES} nodes only").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
