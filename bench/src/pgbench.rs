//! pgbench's standard scripts, unmodified, in interleaved pairs.

use std::process::Command;

use crate::peers::{Peers, Server};
use crate::table::{Row, median};
use crate::{Options, Result};

/// One cell: a script at a scale, a protocol mode and a number of clients.
struct Cell {
    script: &'static str,
    scale: u32,
    mode: &'static str,
    clients: u32,
    judged: Option<&'static str>,
}

impl Cell {
    fn name(&self) -> String {
        format!(
            "{} s{} {} {}",
            self.script, self.scale, self.mode, self.clients
        )
    }
}

/// All cells: three scripts at scale 10, and TPC-B-like at scale 1 for the hot row.
fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (script, scale) in [
        ("select-only", 10),
        ("simple-update", 10),
        ("tpcb-like", 10),
        ("tpcb-like", 1),
    ] {
        for mode in ["simple", "prepared"] {
            for clients in [1, 8, 32] {
                cells.push(Cell {
                    script,
                    scale,
                    mode,
                    clients,
                    judged: None,
                });
            }
        }
    }
    for cell in &mut cells {
        cell.judged = match (cell.script, cell.scale, cell.mode, cell.clients) {
            ("select-only", 10, "prepared", 8) => Some(">= 1.0"),
            ("simple-update", 10, "prepared", 32) => Some(">= 1.0"),
            ("tpcb-like", 1, "prepared", 32) => Some(">= 3"),
            _ => None,
        };
    }
    cells
}

/// Runs the wanted cells and prints the table as it grows.
pub fn run(peers: &Peers, options: &Options) -> Result<()> {
    let wanted = |cell: &Cell| {
        options
            .only
            .as_ref()
            .is_none_or(|text| cell.name().contains(text.as_str()))
            && (!options.judged || cell.judged.is_some())
    };
    let cells: Vec<Cell> = cells().into_iter().filter(wanted).collect();
    Row::head();
    let mut loaded = 0;
    for cell in &cells {
        if loaded != cell.scale {
            for server in [&peers.postgres, &peers.freehold] {
                load(server, cell.scale)?;
            }
            loaded = cell.scale;
        }
        pair(peers, options, cell)?.print();
    }
    Ok(())
}

/// `pgbench -i`.
pub fn load(server: &Server, scale: u32) -> Result<()> {
    pgbench(server, &["-i", "-q", "-s", &scale.to_string()]).map(drop)
}

fn pair(peers: &Peers, options: &Options, cell: &Cell) -> Result<Row> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut cpu = Vec::new();
    for number in 0..options.pairs {
        let before = peers.freehold_cpu_seconds()?;
        // Who goes first alternates, so that a drift of the machine hits both alike.
        let (f, p) = if number % 2 == 0 {
            let p = tps(&peers.postgres, options.seconds, cell)?;
            (tps(&peers.freehold, options.seconds, cell)?, p)
        } else {
            let f = tps(&peers.freehold, options.seconds, cell)?;
            (f, tps(&peers.postgres, options.seconds, cell)?)
        };
        let used = peers.freehold_cpu_seconds()? - before;
        cpu.push(used / (f * f64::from(options.seconds)) * 1e6);
        ours.push(f);
        theirs.push(p);
        ratios.push(f / p);
    }
    Ok(Row {
        name: cell.name(),
        ours: median(&mut ours),
        theirs: median(&mut theirs),
        ratio: median(&mut ratios),
        cpu_us: median(&mut cpu),
        bar: cell.judged,
    })
}

/// Transactions per second of one run of a cell.
fn tps(server: &Server, seconds: u32, cell: &Cell) -> Result<f64> {
    let arguments = ["-b", cell.script, "-M", cell.mode];
    rate(server, seconds, cell.clients, &arguments)
}

/// Transactions per second of one run of pgbench with these arguments, too.
pub fn rate(server: &Server, seconds: u32, clients: u32, arguments: &[&str]) -> Result<f64> {
    let threads = if clients == 1 { "1" } else { "2" };
    let (clients, seconds) = (clients.to_string(), seconds.to_string());
    let common = ["-n", "-c", &clients, "-j", threads, "-T", &seconds];
    let out = pgbench(server, &[&common[..], arguments].concat())?;
    let line = out
        .lines()
        .find(|l| l.starts_with("tps = "))
        .ok_or("pgbench printed no tps")?;
    let failed = out
        .lines()
        .find(|l| l.starts_with("number of failed transactions: "));
    if let Some(line) = failed.filter(|l| !l.contains(": 0 (")) {
        eprintln!("{} {arguments:?}: {line}", server.name);
    }
    Ok(line["tps = ".len()..]
        .split(' ')
        .next()
        .ok_or("no number")?
        .parse()?)
}

fn pgbench(server: &Server, arguments: &[&str]) -> Result<String> {
    let out = Command::new("pgbench")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port.to_string(),
            "-U",
            "postgres",
        ])
        .args(arguments)
        .arg(server.database)
        .output()
        .map_err(|e| format!("pgbench: {e}; apt-get install postgresql-contrib-15"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(format!("pgbench {arguments:?} on {}: {errors}", server.name).into());
    }
    Ok(text)
}
