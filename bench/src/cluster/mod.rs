//! Three nodes of Freehold beside PostgreSQL 15 with two synchronous standbys and beside three
//! nodes of etcd, all on this machine in one run, in interleaved pairs.

mod copies;
mod etcd;
mod freehold;
mod idle;
mod isolation;
mod load;
mod standbys;
mod visible;

use std::fs;
use std::path::Path;

use crate::peers::Server;
use crate::table::median;
use crate::{Options, Result, peers, pgbench};
use etcd::Etcd;
use freehold::Nodes;
use standbys::Standbys;

/// Clients of each load.
const CLIENTS: u32 = 32;

/// pgbench's scale.
const SCALE: u32 = 10;

/// Bytes of a single row's text, and of an etcd value; the keys are 8 and 16 bytes.
const VALUE_BYTES: usize = 100;

/// The table of single-row inserts.
const INSERTS: &str = "CREATE TABLE kv (k bigint PRIMARY KEY, v text NOT NULL)";

/// Everything that is compared. Its parts end and its folder goes when it is dropped.
struct Compared {
    freehold: Nodes,
    postgres: Standbys,
    etcd: Etcd,
}

/// Runs all of it and prints as it goes.
pub fn run(options: &Options) -> Result<()> {
    let folder = std::path::absolute(&options.folder)?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let program = match &options.freehold {
        Some(path) => path.clone(),
        None => peers::build()?,
    };
    let wants = |name: &str| {
        let only = options.only.as_deref();
        only.is_none_or(|only| name.contains(only))
    };
    if ["simple-update", "inserts", "visible"]
        .into_iter()
        .any(wants)
    {
        compare(&program, &folder, options)?;
    }
    for (name, part) in [
        ("isolation", isolation::run as Part),
        ("copies", copies::run),
        ("idle", idle::run),
    ] {
        if wants(name) {
            part(&program, &folder.join(name), options)?;
        }
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Something that is measured of Freehold alone.
type Part = fn(&Path, &Path, &Options) -> Result<()>;

fn compare(program: &Path, folder: &Path, options: &Options) -> Result<()> {
    let mut compared = Compared {
        postgres: Standbys::start(&folder.join("postgres"))?,
        etcd: Etcd::start(&folder.join("etcd"))?,
        freehold: Nodes::start(program, &folder.join("freehold"), options)?,
    };
    println!("# Three nodes of Freehold beside what has three, too\n");
    println!(
        "{} interleaved pairs of {} s; {CLIENTS} clients; everything on this machine and its one \
         file system, fsync on in all. PostgreSQL 15: a primary and two standbys, \
         synchronous_commit = on, ANY 1. etcd 3.4: three members, one connection for each client. \
         Medians; ratio = median of the pairs' ratios.\n",
        options.pairs, options.seconds
    );
    println!("| load | Freehold a second | beside | a second | ratio | CPU us | bar |");
    println!("|---|---|---|---|---|---|---|");
    let wants = |name: &str| {
        options
            .only
            .as_deref()
            .is_none_or(|only| name.contains(only))
    };
    if wants("simple-update") {
        updates(&compared, options)?;
    }
    if wants("inserts") {
        inserts(&compared, options)?;
    }
    if wants("visible") {
        visible::run(&mut compared.freehold, &compared.postgres)?;
    }
    println!(
        "\nFreehold's peak memory: {} MB for all three nodes",
        compared.freehold.peak_mb()?
    );
    Ok(())
}

/// pgbench's simple-update, at the node that leads and at one that passes statements on.
fn updates(compared: &Compared, options: &Options) -> Result<()> {
    let primary = compared.postgres.primary();
    pgbench::load(primary, SCALE)?;
    pgbench::load(compared.freehold.any(), SCALE)?;
    let home = compared.freehold.home()?;
    let away = compared.freehold.away()?;
    for (name, node, bar) in [
        ("simple-update, at the home", home, ">= 1.0"),
        ("simple-update, at another node", away, ""),
    ] {
        let arguments = ["-b", "simple-update", "-M", "prepared"];
        let ours = || pgbench::rate(node, options.seconds, CLIENTS, &arguments);
        let theirs = || pgbench::rate(primary, options.seconds, CLIENTS, &arguments);
        let cell = Cell::of(compared, options, ours, theirs)?;
        cell.print(name, "PostgreSQL", bar);
    }
    Ok(())
}

/// Rows of one key and one value, beside PostgreSQL's and beside etcd's puts.
fn inserts(compared: &Compared, options: &Options) -> Result<()> {
    let primary = compared.postgres.primary();
    primary.run(INSERTS)?;
    compared.freehold.any().run(INSERTS)?;
    let home = compared.freehold.home()?;
    let script = std::path::absolute(&options.folder)?.join("insert.sql");
    fs::write(
        &script,
        "\\set k random(1, 9000000000000000000)\nINSERT INTO kv VALUES (:k, :v);\n",
    )?;
    let (script, value) = (script.display().to_string(), "v".repeat(VALUE_BYTES));
    let value = format!("v={value}");
    let arguments = ["-f", &script, "-D", &value, "-M", "prepared"];
    let ours = || pgbench::rate(home, options.seconds, CLIENTS, &arguments);
    let puts = || compared.etcd.puts(options.seconds, CLIENTS, VALUE_BYTES);
    Cell::of(compared, options, ours, puts)?.print("single-row inserts", "etcd puts", ">= 2");
    let theirs = || pgbench::rate(primary, options.seconds, CLIENTS, &arguments);
    Cell::of(compared, options, ours, theirs)?.print("single-row inserts", "PostgreSQL", "");
    Ok(())
}

/// Interleaved pairs of one load.
struct Cell {
    ours: f64,
    theirs: f64,
    ratio: f64,
    cpu_us: f64,
}

impl Cell {
    fn of(
        compared: &Compared,
        options: &Options,
        ours: impl Fn() -> Result<f64>,
        theirs: impl Fn() -> Result<f64>,
    ) -> Result<Cell> {
        let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
        let (mut ratios, mut cpu) = (Vec::new(), Vec::new());
        for number in 0..options.pairs {
            // Who goes first alternates, so that a drift of the machine hits both alike.
            let first = if number % 2 == 0 {
                Some(theirs()?)
            } else {
                None
            };
            let before = compared.freehold.cpu_seconds()?;
            let rate = ours()?;
            let used = compared.freehold.cpu_seconds()? - before;
            let other = match first {
                Some(other) => other,
                None => theirs()?,
            };
            cpu.push(used / (rate * f64::from(options.seconds)) * 1e6);
            ratios.push(rate / other);
            all_ours.push(rate);
            all_theirs.push(other);
        }
        Ok(Cell {
            ours: median(&mut all_ours),
            theirs: median(&mut all_theirs),
            ratio: median(&mut ratios),
            cpu_us: median(&mut cpu),
        })
    }

    /// A line of the table, at once so that a long run shows its progress.
    fn print(&self, name: &str, beside: &str, bar: &str) {
        println!(
            "| {name} | {:.0} | {beside} | {:.0} | {:.2} | {:.0} | {bar} |",
            self.ours, self.theirs, self.ratio, self.cpu_us
        );
    }
}

impl Server {
    /// Runs one statement.
    fn run(&self, sql: &str) -> Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(sql).await?;
            Ok(())
        })
    }
}
