//! The two servers of a run: Freehold, and a PostgreSQL 15 with default durability that is
//! started here on a free port. Both end, and their folders go, when the value is dropped.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::node::Node;
use crate::{Options, Result};

/// Where Debian puts PostgreSQL 15's programs.
pub const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

/// One server that pgbench can be pointed at.
pub struct Server {
    /// Name in the table.
    pub name: &'static str,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Database to connect to.
    pub database: &'static str,
}

impl Server {
    /// A libpq connection string.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// That of another user.
    pub fn url_of(&self, user: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={user} dbname={}",
            self.port, self.database
        )
    }
}

/// Freehold and PostgreSQL.
pub struct Peers {
    /// The one that is measured.
    pub freehold: Server,
    /// The one beside it.
    pub postgres: Server,
    node: Node,
    folder: PathBuf,
}

impl Peers {
    /// Starts both in `options.folder`.
    pub fn start(options: &Options) -> Result<Peers> {
        let folder = std::path::absolute(&options.folder)?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let postgres = start_postgres(&folder.join("postgres"))?;
        let program = match &options.freehold {
            Some(path) => path.clone(),
            None => build()?,
        };
        let data = folder.join("freehold");
        let mut node = Node::start(&program, &data, &options.table_store, &[])?;
        let freehold = node.ready()?;
        let postgres = Server {
            name: "postgres",
            port: postgres,
            database: "postgres",
        };
        Ok(Peers {
            freehold,
            postgres,
            node,
            folder,
        })
    }

    /// `PostgreSQL 15.x`.
    pub fn postgres_version(&self) -> Result<String> {
        let out = Command::new(format!("{POSTGRES_BIN}/postgres"))
            .arg("--version")
            .output()?;
        Ok(String::from_utf8_lossy(&out.stdout)
            .trim()
            .replace("postgres (PostgreSQL)", "PostgreSQL"))
    }

    /// The most resident memory that Freehold has had so far (VmHWM), in MB.
    pub fn freehold_peak_mb(&self) -> Result<u64> {
        Ok(self.node.peak_kb()? / 1024)
    }

    /// CPU seconds (user and system) that Freehold has used so far.
    pub fn freehold_cpu_seconds(&self) -> Result<f64> {
        self.node.cpu_seconds()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // Ending a benchmark must not hide its result: what fails here is left to the system.
        let _ = self.node.kill();
        let data = self.folder.join("postgres/data");
        let _ = as_postgres(&format!("{POSTGRES_BIN}/pg_ctl"))
            .args(["-m", "immediate", "-w", "stop", "-D"])
            .arg(data)
            .stdout(Stdio::null())
            .status();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// PostgreSQL refuses to run as root: then it runs as the user `postgres`.
pub fn as_postgres(program: &str) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|m| {
        use std::os::unix::fs::MetadataExt as _;
        m.uid() == 0
    });
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", program]);
    command
}

/// The folder above may be closed to the user `postgres`; its own must be open to it.
pub fn give_to_postgres(folder: &Path) {
    let _ = Command::new("chown").arg("postgres").arg(folder).status();
}

/// Runs a command to its end; what it said if that is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let out = command.output()?;
    if !out.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr)).into());
    }
    Ok(())
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start_postgres(folder: &Path) -> Result<u16> {
    if !Path::new(POSTGRES_BIN).exists() {
        return Err("PostgreSQL 15 is not installed: apt-get install postgresql-15".into());
    }
    fs::create_dir_all(folder)?;
    give_to_postgres(folder);
    let data = folder.join("data");
    run(as_postgres(&format!("{POSTGRES_BIN}/initdb"))
        .args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ])
        .arg(&data))?;
    let port = free_port()?;
    let settings = format!(
        "-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} \
         -c max_connections=300 -c shared_buffers=1GB -c wal_level=logical",
        folder.display()
    );
    let log = folder.join("log");
    let status = as_postgres(&format!("{POSTGRES_BIN}/pg_ctl"))
        .args(["-w", "start", "-o", &settings, "-l"])
        .arg(&log)
        .arg("-D")
        .arg(&data)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("PostgreSQL did not start, see {}", log.display()).into());
    }
    Ok(port)
}

/// Builds the program in release mode and returns its path.
pub fn build() -> Result<PathBuf> {
    run(Command::new("cargo").args(["build", "--release", "-p", "server", "-q"]))?;
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    Ok(Path::new(&target).join("release/freehold"))
}
