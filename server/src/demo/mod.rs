//! `freehold demo`: a server and three services as separate processes that share nothing but a
//! connection string; counts at the end what came through, and says how to look for oneself.

mod schema;
mod services;
mod story;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::process::{Child, Command};
use tokio_postgres::Client;

pub use services::ServiceFlags;

use crate::client::connect;
use crate::settings::{Flags, LogFormat};
use crate::start::{self, Ending, Node};
use crate::temporary::Temporary;
use crate::{Failure, explain, logging};

/// What the demo takes.
#[derive(Args, Clone, Debug)]
pub struct DemoFlags {
    /// Ends when the story is told, instead of staying up until Ctrl-C.
    #[arg(long)]
    pub once: bool,
    /// Seconds that the services work.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(4..=3600))]
    pub seconds: u64,
    /// Address of the server; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:5433", value_name = "HOST:PORT")]
    pub listen: String,
    /// Folder of the server; a fresh temporary one if not given, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// The three services; each name is a role, an owner and a private schema.
pub const SERVICES: [&str; 3] = ["customers", "orders", "billing"];

/// How a role reaches the server.
#[derive(Clone, Debug)]
pub struct Url {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Password of every role of the demo, made up for this run.
    pub password: String,
}

impl Url {
    /// The connection string of a role, as any PostgreSQL driver takes it.
    pub fn of(&self, role: &str) -> String {
        format!(
            "postgresql://{role}:{}@127.0.0.1:{}/freehold",
            self.password, self.port
        )
    }

    /// Connects as a role.
    pub async fn connect(&self, role: &str) -> Result<Client, Failure> {
        connect(&self.of(role)).await
    }
}

/// `freehold demo`.
pub fn main(flags: &DemoFlags) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "warn")?;
    let runtime = start::runtime(CONNECTIONS_MAX)?;
    runtime.block_on(async {
        let mut ending = Ending::listen()?;
        let folder = Folder::of(flags.data.clone())?;
        let password = format!("{:016x}", rand::random::<u64>());
        let settings = Flags {
            data: Some(folder.path().to_owned()),
            listen: Some(flags.listen.clone()),
            superuser_password: Some(password.clone()),
            max_connections: Some(CONNECTIONS_MAX),
            ..Flags::default()
        }
        .check()?;
        let node = Node::start_with(&settings, Some(self_signed()?)).await?;
        println!(
            "a server listens on {}, its data is in {}",
            node.address,
            folder.path().display()
        );
        let url = Url {
            port: node.address.port(),
            password,
        };
        let told = tokio::select! {
            biased;
            () = ending.asked() => Err("asked to end before the story was told".into()),
            told = run(flags, &url) => told,
        };
        if told.is_ok() && !flags.once {
            println!("\nlook around with psql (Ctrl-C ends the demo):");
            for role in ["postgres"].iter().chain(&SERVICES) {
                println!("  psql {}", url.of(role));
            }
            std::io::stdout().flush()?;
            ending.asked().await;
        }
        node.stop().await;
        told
    })
}

/// `freehold demo-service NAME`.
pub fn service(flags: ServiceFlags) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let name = flags.name.clone();
    let served = runtime.block_on(services::serve(flags));
    if let Err(failure) = &served {
        eprintln!("\nthe service {name} failed: {}", explain(failure));
        std::process::exit(1);
    }
    // Standard input is read by a thread that can't be woken.
    runtime.shutdown_background();
    served
}

/// Clients of the demo.
const CONNECTIONS_MAX: u32 = 100;

/// The server's folder; a temporary one is removed with the value.
enum Folder {
    Given(PathBuf),
    Temporary(Temporary),
}

impl Folder {
    fn of(data: Option<PathBuf>) -> Result<Folder, Failure> {
        match data {
            Some(path) if path.join("journal").exists() => Err(format!(
                "{} holds a node already: give the demo a folder of its own",
                path.display()
            )
            .into()),
            Some(path) => Ok(Folder::Given(path)),
            None => Ok(Folder::Temporary(Temporary::make("demo")?)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Given(path) => path,
            Folder::Temporary(folder) => folder.path(),
        }
    }
}

/// A certificate for this run: psql encrypts by itself when the server offers it.
fn self_signed() -> Result<std::sync::Arc<rustls::ServerConfig>, Failure> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Ok(wire::tls::from_pem(certificate.as_bytes(), key.as_bytes())?)
}

/// Tells the whole story against a running server.
async fn run(flags: &DemoFlags, url: &Url) -> Result<(), Failure> {
    let admin = url.connect("postgres").await?;
    println!("creating the services customers, orders and billing");
    schema::create(&admin, url).await?;
    let mut running = Running::start(url)?;
    println!("three processes, each knows a connection string and nothing else:");
    for (name, child) in &running.0 {
        println!("  {name:<9}  process {}", child.id().unwrap_or_default());
    }
    let begun = Instant::now();
    let half = Duration::from_secs(flags.seconds) / 2;

    running.progress(&admin, begun, half).await?;
    println!("  kill -9 of billing in the middle of its work; a new process goes on");
    running.kill_and_restart("billing", url).await?;
    println!("  orders publishes order_v2, a copy of order_v1 with one column changed:");
    println!("    amount numeric -> amount_cents bigint; readers of order_v1 go on");
    story::publish_v2(url).await?;
    running.progress(&admin, begun, half * 2).await?;

    running.stop("customers").await?;
    running.stop("orders").await?;
    story::wait_until_billing_has_all(&admin).await?;
    running.stop("billing").await?;
    story::tell(&admin, url).await
}

/// The services' processes.
struct Running(Vec<(&'static str, Child)>);

impl Running {
    fn start(url: &Url) -> Result<Running, Failure> {
        let started = SERVICES.iter().map(|name| Ok((*name, spawn(name, url)?)));
        Ok(Running(started.collect::<Result<_, Failure>>()?))
    }

    fn child(&mut self, name: &str) -> &mut Child {
        &mut self
            .0
            .iter_mut()
            .find(|(n, _)| *n == name)
            .expect("one of SERVICES")
            .1
    }

    /// One line that is written over (or, in a file, a line a second): what the services have
    /// done so far. A service that ends meanwhile ends the demo.
    async fn progress(
        &mut self,
        admin: &Client,
        begun: Instant,
        until: Duration,
    ) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        let pause = if terminal { 250 } else { 1000 };
        let mut tick = tokio::time::interval(Duration::from_millis(pause));
        loop {
            tick.tick().await;
            self.all_run()?;
            let (time, counts) = (begun.elapsed(), story::Counts::read(admin).await?);
            let line = format!("  {:4.1} s  {counts}", time.as_secs_f64());
            if terminal {
                print!("\r{line}\x1b[K");
                std::io::stdout().flush()?;
            } else {
                println!("{line}");
            }
            if time >= until {
                break;
            }
        }
        if terminal {
            println!();
        }
        Ok(())
    }

    fn all_run(&mut self) -> Result<(), Failure> {
        for (name, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the service {name} ended with {status}; see above").into());
            }
        }
        Ok(())
    }

    async fn kill_and_restart(&mut self, name: &'static str, url: &Url) -> Result<(), Failure> {
        self.child(name).kill().await?;
        *self.child(name) = spawn(name, url)?;
        Ok(())
    }

    /// Asks a service to finish its transaction and end (its standard input closes).
    async fn stop(&mut self, name: &str) -> Result<(), Failure> {
        let child = self.child(name);
        drop(child.stdin.take());
        let status = child.wait().await?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the service {name} ended with {status}; see above").into())
        }
    }
}

fn spawn(name: &str, url: &Url) -> Result<Child, Failure> {
    let child = Command::new(std::env::current_exe()?)
        .args(["demo-service", name])
        .env("FREEHOLD_DEMO_URL", url.of(name))
        .stdin(Stdio::piped())
        // Ctrl-C is for the demo, which then ends its services.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}
