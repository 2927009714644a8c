//! The four drivers that Freehold names: what applications do with each, the same script against
//! PostgreSQL 15 and Freehold, over TLS with SCRAM.

mod tokio_postgres;

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Oracle, Place, Program, Security, node_modules, python, report, run, skipped, tool};

/// Debian's package libpostgresql-jdbc-java.
const PGJDBC: &str = "/usr/share/java/postgresql.jar";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("drivers")
        .join(name)
}

/// Runs a driver's script as the owner `role`; its last line is `N passed, N failed`.
fn judge(place: &Place, role: &str, command: &mut Command) {
    place.add_owner(role);
    place.environment(command, role);
    let output = run(command, "");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said.lines().filter(|line| line.starts_with("ok ")).count();
    if place.freehold {
        report("driver checks", passed);
    }
    assert!(
        output.status.success() && passed > 0,
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn on_postgresql(role: &str, command: Option<Command>) {
    let Some(mut command) = command else { return };
    let Some(oracle) = Oracle::start_with(Security::Passwords) else {
        return;
    };
    judge(oracle.place(), role, &mut command);
}

fn on_freehold(role: &str, command: Option<Command>) {
    let Some(mut command) = command else { return };
    let program = Program::start_with(Security::Passwords, &[]);
    judge(program.place(), role, &mut command);
}

fn psycopg() -> Option<Command> {
    let mut command = Command::new(python("psycopg")?);
    command.arg(script("psycopg3.py"));
    Some(command)
}

fn pgjdbc() -> Option<Command> {
    let java = tool("java")?;
    if !Path::new(PGJDBC).is_file() {
        skipped("libpostgresql-jdbc-java");
        return None;
    }
    let mut command = Command::new(java);
    command.args(["-cp", PGJDBC]).arg(script("Pgjdbc.java"));
    Some(command)
}

fn node_postgres() -> Option<Command> {
    let node = tool("node")?;
    let modules = node_modules(&["pg", "pg-cursor", "pg-copy-streams"])?;
    let mut command = Command::new(node);
    // CommonJS: the way of node that looks into NODE_PATH.
    command
        .arg(script("node_postgres.cjs"))
        .env("NODE_PATH", modules);
    Some(command)
}

#[test]
fn psycopg_3_on_postgresql() {
    on_postgresql("snake", psycopg());
}

#[test]
fn psycopg_3_on_freehold() {
    on_freehold("snake", psycopg());
}

#[test]
fn pgjdbc_on_postgresql() {
    on_postgresql("bean", pgjdbc());
}

#[test]
fn pgjdbc_on_freehold() {
    on_freehold("bean", pgjdbc());
}

#[test]
fn node_postgres_on_postgresql() {
    on_postgresql("knot", node_postgres());
}

#[test]
fn node_postgres_on_freehold() {
    on_freehold("knot", node_postgres());
}
