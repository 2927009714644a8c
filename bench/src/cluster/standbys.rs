//! PostgreSQL 15 with two synchronous standbys, one of which must have a commit on its disk before
//! the client has its answer: `synchronous_commit = on`, `ANY 1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::Result;
use crate::peers::{POSTGRES_BIN, Server, as_postgres, free_port, give_to_postgres, run};

/// The standbys.
const NAMES: [&str; 2] = ["s1", "s2"];

/// A primary with its standbys; they end when it is dropped.
pub struct Standbys {
    servers: Vec<Server>,
    folders: Vec<PathBuf>,
}

impl Standbys {
    /// Starts all three below `folder`.
    pub fn start(folder: &Path) -> Result<Standbys> {
        if !Path::new(POSTGRES_BIN).exists() {
            return Err("PostgreSQL 15 is not installed: apt-get install postgresql-15".into());
        }
        fs::create_dir_all(folder)?;
        give_to_postgres(folder);
        let mut all = Standbys {
            servers: Vec::new(),
            folders: Vec::new(),
        };
        let data = folder.join("primary");
        let flags = [
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ];
        run(as_postgres(&format!("{POSTGRES_BIN}/initdb"))
            .args(flags)
            .arg(&data))?;
        let primary = free_port()?;
        all.begin(folder, &data, primary)?;
        for name in NAMES {
            let data = folder.join(name);
            let from =
                format!("host=127.0.0.1 port={primary} user=postgres application_name={name}");
            run(as_postgres(&format!("{POSTGRES_BIN}/pg_basebackup"))
                .args(["-R", "-X", "stream", "-c", "fast", "-d", &from, "-D"])
                .arg(&data))?;
            all.begin(folder, &data, free_port()?)?;
        }
        let primary = all.primary();
        primary.run("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (s1, s2)'")?;
        primary.run("ALTER SYSTEM SET synchronous_commit = on")?;
        primary.run("SELECT pg_reload_conf()")?;
        Ok(all)
    }

    fn begin(&mut self, folder: &Path, data: &Path, port: u16) -> Result<()> {
        let settings = format!(
            "-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} \
             -c max_connections=300 -c shared_buffers=256MB -c hot_standby=on \
             -c wal_level=logical -c max_wal_senders=20",
            folder.display()
        );
        let log = data.with_extension("log");
        self.folders.push(data.to_owned());
        let status = as_postgres(&format!("{POSTGRES_BIN}/pg_ctl"))
            .args(["-w", "start", "-o", &settings, "-l"])
            .arg(&log)
            .arg("-D")
            .arg(data)
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("PostgreSQL did not start, see {}", log.display()).into());
        }
        self.servers.push(Server {
            name: "postgres",
            port,
            database: "postgres",
        });
        Ok(())
    }

    /// The one that is written to.
    pub fn primary(&self) -> &Server {
        &self.servers[0]
    }

    /// A standby.
    pub fn standby(&self) -> &Server {
        &self.servers[1]
    }
}

impl Drop for Standbys {
    fn drop(&mut self) {
        for data in &self.folders {
            // Ending a benchmark must not hide its result: what fails here is left to the system.
            let _ = as_postgres(&format!("{POSTGRES_BIN}/pg_ctl"))
                .args(["-m", "immediate", "-w", "stop", "-D"])
                .arg(data)
                .stdout(Stdio::null())
                .status();
        }
    }
}
