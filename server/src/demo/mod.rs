//! `freehold demo`: four services on three nodes that are processes of their own. What glue between
//! services usually does is in their schemas; a node is killed in the middle, and in the end each number
//! is counted against what the clients were told.

mod claims;
mod forget;
mod login;
mod nodes;
mod work;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use self::login::Login;
use self::nodes::{NODES, Nodes};
use self::work::{CUSTOMERS, Order, Watcher, Work};
use crate::Failure;
use crate::start::Ending;
use crate::temporary::Temporary;

/// What the demo takes.
#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    /// Ends when the story is told, instead of staying up until Ctrl-C.
    #[arg(long)]
    pub once: bool,
    /// How many orders the shop sends.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(40..=100_000))]
    pub orders: u32,
    /// The orders are the same for the same seed; a random one if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Port of the first node for clients; those of the others follow, and those for other nodes lie
    /// 2000 above. 0 takes free ones.
    #[arg(long, default_value_t = 5433)]
    pub port: u16,
    /// Folder for the nodes' folders; a fresh temporary one if not given, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// The services, each a role, and all that there is of it. The shop has nothing.
const SERVICES: [(&str, &str); 4] = [
    ("customers", include_str!("sql/customers.sql")),
    ("orders", include_str!("sql/orders.sql")),
    ("billing", include_str!("sql/billing.sql")),
    ("shop", ""),
];

/// What `orders` publishes while its readers go on.
const ORDER_V2: &str = include_str!("sql/order_v2.sql");

/// `freehold demo`.
pub fn main(flags: &DemoFlags) -> Result<(), Failure> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut ending = Ending::listen()?;
        let temporary = match flags.data {
            Some(_) => None,
            None => Some(Temporary::make("demo")?),
        };
        let given = flags.data.as_deref();
        let data = given.or(temporary.as_ref().map(Temporary::path));
        let data = data.ok_or("there is no folder")?;
        let mut nodes = Nodes::start(data, flags.port).await?;
        let told = tokio::select! {
            biased;
            () = ending.asked() => Err("asked to end before the story was told".into()),
            told = run(flags, &mut nodes) => told,
        };
        if told.is_ok() && !flags.once {
            println!("\nlook around, or kill a node and look again (Ctrl-C ends the demo):");
            show(&nodes);
            ending.asked().await;
        }
        let stopped = nodes.stop().await;
        told.and(stopped)
    })
}

/// Tells the whole story.
async fn run(flags: &DemoFlags, nodes: &mut Nodes) -> Result<(), Failure> {
    let ports = nodes.ports();
    let mut admin = Login::new("postgres", &ports);
    introduce(nodes);
    create(&mut admin, &ports).await?;

    let orders = flags.orders as usize;
    let seed = flags
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u16>()));
    println!(
        "\n{orders} orders (--seed {seed}): the shop calls place_order, cashiers call pay_order from the \
         transaction that fills their till"
    );
    let plan = Order::plan(orders, seed);
    let watchers: Vec<Watcher> = ports.iter().map(|port| Watcher::begin(*port)).collect();
    let work = Work::begin(plan, &ports);
    let mut progress = Progress::begin(orders);

    work.allow(orders / 2);
    progress.until(&work, orders / 4).await?;
    let leader = leader_of(&mut admin, "orders").await?;
    let until_kill = work.told();
    let killed_at = now(&mut admin).await?;
    nodes.kill(leader).await?;
    println!("  kill -9 of node {leader}, which leads orders; its clients go on at other nodes");
    progress.until(&work, orders / 2).await?;

    work.allow(orders * 3 / 4);
    println!(
        "  orders publishes order_v2 beside order_v1, whose readers go on\n{}",
        indented(ORDER_V2)
    );
    execute("orders", &ports, ORDER_V2).await?;
    progress.until(&work, orders * 3 / 4).await?;

    work.allow(orders);
    nodes.start_again(leader).await?;
    println!("  node {leader} is back");
    progress.until(&work, orders).await?;

    println!("\nwhat came of it");
    let told = work.told();
    judge(&told)?;
    claims::check(&mut admin, &told, &until_kill, &killed_at).await?;
    claims::compare_nodes(&ports).await?;

    claims::follow_one(&ports, &told).await?;
    println!("\nwhat billing may not do");
    let write = "UPDATE order_v1 SET amount = 0";
    claims::refused("billing", &ports, write, "42501").await?;
    let read = "SELECT * FROM orders.\"order\"";
    claims::refused("billing", &ports, read, "42P01").await?;

    forget::tell(&ports, &told).await?;
    let mut looks = Vec::new();
    for watcher in watchers {
        looks.push(watcher.end().await?);
    }
    claims::count_looks(&looks)
}

fn introduce(nodes: &Nodes) {
    println!("three nodes, each a process of its own:");
    show(nodes);
    println!("  (or -U customers, billing, shop, or postgres, who sees all)");
    println!("\nthe services have tables, and no code beside this:");
    for (role, statements) in SERVICES {
        if !statements.is_empty() {
            println!("\n{role}=>\n{}", indented(statements));
        }
    }
}

/// How to look around.
fn show(nodes: &Nodes) {
    let processes = nodes.processes();
    for (number, (port, process)) in (1..).zip(nodes.ports().into_iter().zip(processes)) {
        println!(
            "  node {number}, process {process}: psql -h 127.0.0.1 -p {port} -U orders freehold"
        );
    }
}

/// Creates the roles as the superuser, and everything else as the services themselves, each at another
/// node; then all nodes know the customers.
async fn create(admin: &mut Login, ports: &[u16]) -> Result<(), Failure> {
    for (role, _) in SERVICES {
        let statement = format!("CREATE ROLE {role} LOGIN");
        admin.run(&statement).await?;
    }
    let mut ports = ports.to_vec();
    for (role, statements) in SERVICES {
        execute(role, &ports, statements).await?;
        ports.rotate_left(1);
    }
    let mut login = Login::new("customers", &ports);
    for (id, name) in (1_i64..).zip(CUSTOMERS) {
        let insert =
            "INSERT INTO customer VALUES ($1, $2, $2 || '@example.com') ON CONFLICT DO NOTHING";
        login.rows(insert, &[&id, &name]).await?;
    }
    let seen = login.row("SHOW freehold.token", &[]).await?;
    let seen: &str = seen.get(0);
    for port in &ports {
        // Whoever gives a token waits until the node shows what it stands for.
        let set = format!("SET freehold.token = '{seen}'; SELECT count(*) FROM customer_v1");
        Login::local("billing", *port).run(&set).await?;
    }
    Ok(())
}

/// Runs statements, those of a paragraph as one transaction.
async fn execute(role: &str, ports: &[u16], statements: &str) -> Result<(), Failure> {
    let mut login = Login::new(role, ports);
    for paragraph in statements.split("\n\n") {
        login.run(paragraph).await?;
    }
    Ok(())
}

/// The node that leads an owner's group, once each group has all its voters and so can lose one.
async fn leader_of(admin: &mut Login, owner: &str) -> Result<u16, Failure> {
    let leader = "SELECT leader FROM freehold.groups WHERE owner = $1 AND NOT EXISTS \
                  (SELECT FROM freehold.groups WHERE voters < $2)";
    let begun = Instant::now();
    loop {
        let nodes = i32::from(NODES);
        let found = admin.rows(leader, &[&owner, &nodes]).await?;
        match found.first().and_then(|row| row.get::<_, Option<i32>>(0)) {
            Some(leader) => return Ok(u16::try_from(leader)?),
            None if begun.elapsed() > login::PATIENCE => return Err("nobody leads orders".into()),
            None => tokio::time::sleep(login::PAUSE).await,
        }
    }
}

/// The time, as the server tells it.
async fn now(admin: &mut Login) -> Result<String, Failure> {
    let row = admin.row("SELECT clock_timestamp()::text", &[]).await?;
    Ok(row.get(0))
}

/// The verdicts are those that the plan deserves.
fn judge(told: &work::Told) -> Result<(), Failure> {
    let wrong = told.refused.iter().filter(|order| !order.is_for_nobody());
    let wrong = wrong.chain(told.placed.iter().filter(|order| order.is_for_nobody()));
    let wrong: Vec<i64> = wrong.map(|order| order.id).collect();
    let refused = told.refused.len();
    claims::tell(
        wrong.is_empty(),
        &format!("{refused} orders of nobody were refused, by the foreign key"),
    );
    if told.lost_answers > 0 {
        let lost = told.lost_answers;
        println!(
            "      COMMITs that were not answered: {lost}; pg_xact_status told what became of them"
        );
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("orders {wrong:?} got the wrong verdict").into()),
    }
}

/// Statements as the demo prints them.
fn indented(statements: &str) -> String {
    let lines = statements
        .trim_end()
        .lines()
        .map(|line| format!("    {line}").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// One line that is written over (or, in a file, a line a second): what the clients were told so far.
struct Progress {
    begun: Instant,
    orders: usize,
}

impl Progress {
    fn begin(orders: usize) -> Progress {
        let begun = Instant::now();
        Progress { begun, orders }
    }

    /// Until so many orders have their verdict.
    async fn until(&mut self, work: &Work, orders: usize) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        let mut tick =
            tokio::time::interval(Duration::from_millis(if terminal { 100 } else { 1000 }));
        let reached = work.reached(orders);
        tokio::pin!(reached);
        loop {
            let done = tokio::select! {
                biased;
                done = &mut reached => Some(done),
                _ = tick.tick() => None,
            };
            if done.is_some() || terminal {
                self.print(work, terminal)?;
            }
            if let Some(done) = done {
                if terminal {
                    println!();
                }
                return done;
            }
        }
    }

    fn print(&self, work: &Work, terminal: bool) -> std::io::Result<()> {
        let (time, told) = (self.begun.elapsed().as_secs_f64(), work.told());
        let (verdicts, paid) = (told.verdicts(), told.paid.len());
        let line = format!(
            "  {time:4.1} s  {verdicts} of {} orders, {paid} paid",
            self.orders
        );
        match terminal {
            true => print!("\r{line}\x1b[K"),
            false => println!("{line}"),
        }
        std::io::stdout().flush()
    }
}
