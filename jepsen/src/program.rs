//! Where the program under test is: built first, so that nobody tests yesterday's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::options::Options;
use crate::victim::Kind;

/// Debian's folder of PostgreSQL's programs.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// Whether faults are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As released.
    Plain,
    /// With the feature `sabotage`.
    Sabotage,
}

/// The program that `options` ask for.
pub fn find(options: &Options, build: Build) -> Result<PathBuf> {
    match (&options.program, options.victim) {
        (Some(program), _) => Ok(std::path::absolute(program)?),
        (None, Kind::Postgres) => Ok(POSTGRES.into()),
        (None, Kind::Freehold) => compile(build),
    }
}

/// Builds Freehold as this program itself was built. A sabotage build has a folder of its own.
fn compile(build: Build) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.parent().unwrap_or(Path::new("."));
    let is_release = profile.file_name().is_some_and(|name| name == "release");
    let mut target = profile.parent().unwrap_or(Path::new(".")).to_owned();
    if build == Build::Sabotage {
        target = target.join("sabotage");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "-p", "server", "--target-dir"])
        .arg(&target);
    if is_release {
        command.arg("--release");
    }
    if build == Build::Sabotage {
        command.args(["--features", "sabotage"]);
    }
    let status = command
        .status()
        .map_err(|e| Error::Setup(format!("cargo: {e}")))?;
    if !status.success() {
        return Err(Error::Setup(format!(
            "the server could not be built: {status}"
        )));
    }
    let program = target
        .join(if is_release { "release" } else { "debug" })
        .join("freehold");
    if program.exists() {
        Ok(program)
    } else {
        Err(Error::Setup(format!("there is no {}", program.display())))
    }
}
