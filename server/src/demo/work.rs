//! What the demo's clients do, each an ordinary connection, and what they are told: against that the
//! demo counts in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use super::login::{Login, PATIENCE, PAUSE, passes};
use crate::Failure;

/// The customers, by their numbers from 1 on.
pub const CUSTOMERS: [&str; 8] = [
    "Ada Lovelace",
    "Grace Hopper",
    "Edgar Codd",
    "Barbara Liskov",
    "Jim Gray",
    "Radia Perlman",
    "Leslie Lamport",
    "Edsger Dijkstra",
];
/// Clients that place orders at the same time.
const CLERKS: usize = 6;
/// Between two looks at one node.
const LOOK: Duration = Duration::from_millis(50);

/// What a client of the shop wants.
#[derive(Clone, Copy)]
pub struct Order {
    pub id: i64,
    /// One more than there are: nobody.
    pub customer: i64,
    pub cents: i64,
    /// Does the customer pay?
    pub pays: bool,
}

impl Order {
    /// So many orders, the same for the same seed.
    pub fn plan(count: usize, seed: u64) -> Vec<Order> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut order = |id| Order {
            id,
            customer: rng.random_range(1..=CUSTOMERS.len() as i64 + 1),
            cents: rng.random_range(100..10_000),
            pays: rng.random_bool(0.5),
        };
        (1..=count as i64).map(&mut order).collect()
    }

    /// Is there such a customer?
    pub fn is_for_nobody(self) -> bool {
        self.customer > CUSTOMERS.len() as i64
    }
}

/// What the clients were told.
#[derive(Clone, Default)]
pub struct Told {
    pub placed: Vec<Order>,
    pub refused: Vec<Order>,
    /// Orders whose payment was committed.
    pub paid: Vec<Order>,
    /// COMMITs that were not answered, whose outcome `pg_xact_status` knew.
    pub lost_answers: usize,
    /// What no client can go on after.
    failed: Option<String>,
}

impl Told {
    /// Orders with a verdict.
    pub fn verdicts(&self) -> usize {
        self.placed.len() + self.refused.len()
    }
}

/// The clerks at their work.
pub struct Work {
    plan: Vec<Order>,
    next: AtomicUsize,
    /// So many orders may be placed now.
    allowed: watch::Sender<usize>,
    told: watch::Sender<Told>,
}

impl Work {
    /// Sends clerks to all nodes; they wait to be allowed.
    pub fn begin(plan: Vec<Order>, ports: &[u16]) -> Arc<Work> {
        let work = Arc::new(Work {
            plan,
            next: AtomicUsize::new(0),
            allowed: watch::Sender::new(0),
            told: watch::Sender::default(),
        });
        for clerk in 0..CLERKS {
            let mut ports = ports.to_vec();
            let at = clerk % ports.len();
            ports.rotate_left(at);
            let work = work.clone();
            tokio::spawn(async move {
                if let Err(failure) = work.serve(&ports).await {
                    let failed = Some(crate::explain(&failure));
                    work.told.send_modify(|told| told.failed = failed);
                }
            });
        }
        work
    }

    /// So many orders may be placed from now on.
    pub fn allow(&self, orders: usize) {
        self.allowed.send_replace(orders);
    }

    /// What the clients were told so far.
    pub fn told(&self) -> Told {
        self.told.borrow().clone()
    }

    /// Returns when so many orders have their verdict.
    ///
    /// # Errors
    /// What a client can't go on after.
    pub async fn reached(&self, orders: usize) -> Result<(), Failure> {
        let mut told = self.told.subscribe();
        let there = |told: &Told| told.verdicts() >= orders || told.failed.is_some();
        match &told.wait_for(there).await?.failed {
            Some(failed) => Err(failed.as_str().into()),
            None => Ok(()),
        }
    }

    /// Takes one order after the other.
    async fn serve(&self, ports: &[u16]) -> Result<(), Failure> {
        let (mut shop, mut billing) = (Login::new("shop", ports), Login::new("billing", ports));
        let mut allowed = self.allowed.subscribe();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(order) = self.plan.get(at).copied() else {
                return Ok(());
            };
            allowed.wait_for(|allowed| at < *allowed).await?;
            let placed = place(&mut shop, order).await?;
            let lost = match placed && order.pays {
                true => Some(pay(&mut billing, order).await?),
                false => None,
            };
            self.told.send_modify(|told| {
                match placed {
                    true => told.placed.push(order),
                    false => told.refused.push(order),
                }
                told.paid.extend(lost.map(|_| order));
                told.lost_answers += lost.unwrap_or_default();
            });
        }
    }
}

/// Sends a command and waits for its verdict: true if the order is placed.
async fn place(shop: &mut Login, order: Order) -> Result<bool, Failure> {
    let call = "SELECT freehold.call('place_order', \
                jsonb_build_object('id', $1::bigint, 'customer_id', $2::bigint, 'cents', $3::bigint), \
                timeout => '10 s') ->> 'verdict'";
    let values: &[&(dyn ToSql + Sync)] = &[&order.id, &order.customer, &order.cents];
    let row = shop.row(call, values).await?;
    Ok(row.get::<_, Option<&str>>(0) == Some("placed"))
}

/// Takes the money: the till and the command to `orders` are one transaction. What is done twice is
/// there twice, so whoever was not answered asks what became of it; how often that was.
async fn pay(billing: &mut Login, order: Order) -> Result<usize, Failure> {
    let begun = Instant::now();
    let mut lost = 0;
    loop {
        let mut transaction = None;
        let taken = match billing.client().await {
            Ok(client) => take(client, order, &mut transaction).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => return Ok(lost),
            Err(error) if passes(&error) && begun.elapsed() < PATIENCE => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(transaction) = transaction {
            lost += 1;
            if is_committed(billing, &transaction).await? {
                return Ok(lost);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn take(
    client: &mut Client,
    order: Order,
    transaction: &mut Option<String>,
) -> Result<(), Error> {
    let work = client.transaction().await?;
    work.execute("UPDATE till SET cents = cents + $1", &[&order.cents])
        .await?;
    work.execute("INSERT INTO pay_order VALUES ($1)", &[&order.id])
        .await?;
    let id = work
        .query_one("SELECT pg_current_xact_id()::text", &[])
        .await?;
    *transaction = Some(id.get(0));
    work.commit().await
}

/// What became of a transaction.
async fn is_committed(login: &mut Login, transaction: &str) -> Result<bool, Failure> {
    let status = "SELECT pg_xact_status($1::text::xid8)";
    let begun = Instant::now();
    loop {
        let row = login.row(status, &[&transaction]).await?;
        match row.get(0) {
            "in progress" if begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            "in progress" => return Err("what became of a transaction is not known".into()),
            status => return Ok(status == "committed"),
        }
    }
}

/// Looks at one node again and again, at one snapshot each time, for what must never be seen.
pub struct Watcher {
    ended: watch::Sender<bool>,
    looking: JoinHandle<Result<u64, Failure>>,
}

impl Watcher {
    /// Begins.
    pub fn begin(port: u16) -> Watcher {
        let (ended, end) = watch::channel(false);
        let looking = tokio::spawn(look(port, end));
        Watcher { ended, looking }
    }

    /// How many snapshots it has seen.
    ///
    /// # Errors
    /// It has seen what must not be.
    pub async fn end(self) -> Result<u64, Failure> {
        // If it has ended already it tells why.
        let _ = self.ended.send(true);
        self.looking.await?
    }
}

/// Orders without a customer, and invoices that are paid while their orders, which say so first, are not.
const IMPOSSIBLE: &str = "SELECT count(*) FILTER (WHERE c.id IS NULL), \
                                 count(*) FILTER (WHERE i.paid AND NOT o.paid) \
                          FROM order_v1 AS o LEFT JOIN customer_v1 AS c ON c.id = o.customer_id \
                               LEFT JOIN invoice AS i ON i.order_id = o.id";

async fn look(port: u16, mut end: watch::Receiver<bool>) -> Result<u64, Failure> {
    let mut billing = Login::local("billing", port);
    let mut looks = 0;
    while !*end.borrow_and_update() {
        let seen = match billing.client().await {
            Ok(client) => client.query_one(IMPOSSIBLE, &[]).await,
            Err(error) => Err(error),
        };
        match seen {
            Ok(row) => {
                let (orphans, early): (i64, i64) = (row.get(0), row.get(1));
                if orphans + early > 0 {
                    return Err(format!(
                        "the node at port {port} shows {orphans} orders without their customer, \
                         and {early} invoices that are paid before their order"
                    )
                    .into());
                }
                looks += 1;
            }
            // Its node is down, which it may be.
            Err(error) if passes(&error) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(looks)
}
