//! Foreign keys: rows that reference another owner's table, and its keys removed, beside the same within one
//! owner and beside PostgreSQL, where all is one database.

use std::fs;
use std::path::Path;

use tokio_postgres::{Client, NoTls};

use crate::peers::{Peers, Server};
use crate::pgbench::rate;
use crate::table::{Row, median};
use crate::{Options, Result};

/// Keys of each referenced table, of which half are referenced at most and half are removed.
const KEYS: u64 = 1_000_000;
/// Transactions that may miss the key that they are to remove, of a run: more are an error.
const MISSED_MAX: f64 = 0.02;

/// What a cell does.
#[derive(Clone, Copy)]
enum What {
    Insert,
    Delete,
    /// The removed key has one row that references it and goes with it.
    Cascade,
}

struct Cell {
    name: &'static str,
    what: What,
    user: &'static str,
    table: &'static str,
}

/// `one` owns what is referenced, `two` references it.
const CELLS: [Cell; 8] = [
    cell("insert, no foreign key", What::Insert, "two", "two.plain"),
    cell("insert, own table", What::Insert, "one", "one.own"),
    cell("insert, other owner's", What::Insert, "two", "two.other"),
    cell("delete, no foreign key", What::Delete, "one", "one.k_plain"),
    cell("delete, own table's", What::Delete, "one", "one.k_own"),
    cell("delete, other owner's", What::Delete, "one", "public.k_v1"),
    cell(
        "cascade, own table's",
        What::Cascade,
        "one",
        "one.k_own_cascade",
    ),
    cell(
        "cascade, other owner's",
        What::Cascade,
        "one",
        "public.k_v2",
    ),
];

const fn cell(name: &'static str, what: What, user: &'static str, table: &'static str) -> Cell {
    Cell {
        name,
        what,
        user,
        table,
    }
}

/// What both servers have first.
const SCHEMA: [(&str, &str); 2] = [
    (
        "one",
        "CREATE TABLE one.k_plain (id bigint PRIMARY KEY);
         CREATE TABLE one.k_own (id bigint PRIMARY KEY);
         CREATE TABLE one.k_own_cascade (id bigint PRIMARY KEY);
         CREATE TABLE public.k_v1 (id bigint PRIMARY KEY);
         CREATE TABLE public.k_v2 (id bigint PRIMARY KEY);
         GRANT SELECT, REFERENCES ON public.k_v1, public.k_v2 TO two;
         CREATE TABLE one.own (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k bigint \
             REFERENCES one.k_own);
         CREATE INDEX ON one.own (k);
         CREATE TABLE one.own_cascade (id bigint PRIMARY KEY, k bigint \
             REFERENCES one.k_own_cascade ON DELETE CASCADE);
         CREATE INDEX ON one.own_cascade (k);",
    ),
    (
        "two",
        "CREATE TABLE two.plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k bigint);
         CREATE INDEX ON two.plain (k);
         CREATE TABLE two.other (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k bigint \
             REFERENCES public.k_v1);
         CREATE INDEX ON two.other (k);
         CREATE TABLE two.other_cascade (id bigint PRIMARY KEY, k bigint \
             REFERENCES public.k_v2 ON DELETE CASCADE);
         CREATE INDEX ON two.other_cascade (k);",
    ),
];

/// Keys, and then rows that go with them; filled before anything is measured.
const FILL: [(&str, &[&str]); 2] = [
    (
        "one",
        &[
            "one.k_plain",
            "one.k_own",
            "one.k_own_cascade",
            "public.k_v1",
            "public.k_v2",
            "one.own_cascade",
        ],
    ),
    ("two", &["two.other_cascade"]),
];

/// All of them.
const ALL: &str = "references";

/// Is this the name of all of them, or a part of one's?
pub fn names(only: &str) -> bool {
    only == ALL || CELLS.iter().any(|cell| only.starts_with(cell.name))
}

/// Runs the wanted cells.
pub fn run(peers: &Peers, options: &Options) -> Result<()> {
    let only = options.only.as_deref().unwrap_or(ALL);
    let wanted = |name: &str| only == ALL || name.starts_with(only);
    let runtime = tokio::runtime::Runtime::new()?;
    for server in [&peers.postgres, &peers.freehold] {
        runtime.block_on(set_up(server))?;
    }
    let folder = std::path::absolute(&options.folder)?;
    Row::head();
    for cell in &CELLS {
        let mut keys = [KEYS / 2; 2];
        for clients in [1, 16] {
            let name = format!("{} {clients}", cell.name);
            if !wanted(&name) {
                continue;
            }
            let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            let mut cpu = Vec::new();
            for number in 0..options.pairs {
                let before = peers.freehold_cpu_seconds()?;
                let mut of = |at: usize| {
                    let server = [&peers.freehold, &peers.postgres][at];
                    let run = Run {
                        server,
                        cell,
                        clients,
                        seconds: options.seconds,
                    };
                    run.measure(&folder, &mut keys[at], &runtime)
                };
                // Who goes first alternates, so that a drift of the machine hits both alike.
                let (f, p) = match number % 2 {
                    0 => {
                        let p = of(1)?;
                        (of(0)?, p)
                    }
                    _ => (of(0)?, of(1)?),
                };
                let used = peers.freehold_cpu_seconds()? - before;
                cpu.push(used / (f * f64::from(options.seconds)) * 1e6);
                ours.push(f);
                theirs.push(p);
                ratios.push(f / p);
            }
            let row = Row {
                name,
                ours: median(&mut ours),
                theirs: median(&mut theirs),
                ratio: median(&mut ratios),
                cpu_us: median(&mut cpu),
                bar: None,
            };
            row.print();
        }
    }
    Ok(())
}

struct Run<'a> {
    server: &'a Server,
    cell: &'a Cell,
    clients: u32,
    seconds: u32,
}

impl Run<'_> {
    /// Transactions per second; each removes a key of its own, from `next` on.
    fn measure(
        &self,
        folder: &Path,
        next: &mut u64,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<f64> {
        let (table, half) = (self.cell.table, KEYS / 2);
        let removes = !matches!(self.cell.what, What::Insert);
        let script = match removes {
            false => format!("\\set k random(1, {half})\nINSERT INTO {table} (k) VALUES (:k);\n"),
            true => format!(
                "\\set i :i + 1\n\\set k :base + :i * :clients + :client_id\n\
                 DELETE FROM {table} WHERE id = :k;\n"
            ),
        };
        let file = folder.join("references.sql");
        fs::write(&file, script)?;
        let file = file.to_str().ok_or("the folder's name is not UTF-8")?;
        let (base, clients) = (format!("base={next}"), format!("clients={}", self.clients));
        let arguments = [
            "-U",
            self.cell.user,
            "-M",
            "prepared",
            "-f",
            file,
            "-D",
            "i=0",
            "-D",
            &base,
            "-D",
            &clients,
        ];
        let count = || runtime.block_on(count(self.server, self.cell));
        let before = if removes { count()? } else { 0 };
        let tps = rate(self.server, self.seconds, self.clients, &arguments)?;
        if removes {
            let (gone, sent) = (before - count()?, tps * f64::from(self.seconds));
            if (gone as f64) < sent * (1.0 - MISSED_MAX) {
                return Err(format!("{table}: {gone} of {sent:.0} keys were there").into());
            }
            // Clients are not equally fast.
            *next += 2 * gone as u64 + 1000;
        }
        Ok(tps)
    }
}

async fn connect(server: &Server, user: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&server.url_of(user), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(server: &Server, cell: &Cell) -> Result<i64> {
    let client = connect(server, cell.user).await?;
    let count = format!("SELECT count(*) FROM {}", cell.table);
    Ok(client.query_one(&count, &[]).await?.get(0))
}

async fn set_up(server: &Server) -> Result<()> {
    let admin = connect(server, "postgres").await?;
    for (role, _) in SCHEMA {
        admin
            .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
            .await?;
        if server.name == "postgres" {
            // A role of Freehold has a schema of its name, and may publish.
            let schema = format!(
                "CREATE SCHEMA {role} AUTHORIZATION {role}; GRANT CREATE ON SCHEMA public TO {role}"
            );
            admin.batch_execute(&schema).await?;
        }
    }
    for (role, schema) in SCHEMA {
        let owner = connect(server, role).await?;
        for statement in schema.split(';').filter(|s| !s.trim().is_empty()) {
            owner.batch_execute(statement).await?;
        }
        let (_, tables) = FILL
            .iter()
            .find(|(of, _)| *of == role)
            .ok_or("a role without rows")?;
        for table in *tables {
            let columns = match table.ends_with("_cascade") && !table.contains(".k_") {
                true => "i, i",
                false => "i",
            };
            for first in (1..=KEYS).step_by(100_000) {
                let last = first + 99_999;
                let fill = format!(
                    "INSERT INTO {table} SELECT {columns} FROM generate_series({first}, {last}) AS g(i)"
                );
                owner.batch_execute(&fill).await?;
            }
        }
    }
    Ok(())
}
