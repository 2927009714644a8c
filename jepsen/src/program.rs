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

/// Whether a package's test fails with this fault built in. The test must exist, and must be the
/// one that fails.
pub fn fails_sabotaged(package: &str, test: &str, fault: &str) -> Result<bool> {
    let (target, _) = folder(Build::Sabotage)?;
    let mut command = cargo();
    command
        .args(["test", "-p", package, "--features", "sabotage"])
        .arg("--target-dir")
        .arg(&target);
    fails(command, package, test, fault)
}

/// The package of the tests that play a program.
pub const PLAYING: &str = "tests";

/// Whether a test that plays a program fails with one that has this fault built in.
pub fn fails_with(program: &Path, test: &str, fault: &str) -> Result<bool> {
    let mut command = cargo();
    command.args(["test", "-p", PLAYING]);
    command.env("FREEHOLD_BIN", std::path::absolute(program)?);
    fails(command, PLAYING, test, fault)
}

fn fails(mut command: Command, package: &str, test: &str, fault: &str) -> Result<bool> {
    command
        .args(["--no-fail-fast", test])
        .env("FREEHOLD_SABOTAGE", fault);
    let output = command
        .output()
        .map_err(|e| Error::Setup(format!("cargo: {e}")))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let ran = said
        .lines()
        .filter(|line| line.starts_with("test ") && line.contains(test));
    match ran.clone().count() {
        0 => Err(Error::Setup(format!(
            "{package} has no test {test}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
        _ => Ok(ran.into_iter().any(|line| line.ends_with("FAILED"))),
    }
}

/// Without what cargo has set for this crate: it makes build scripts (ring's) run again, and with
/// them half of the build.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The target folder that this program itself was built in, or one beside it; and whether that
/// was a release build.
fn folder(build: Build) -> Result<(PathBuf, bool)> {
    let own = std::env::current_exe()?;
    let profile = own.parent().unwrap_or(Path::new("."));
    let is_release = profile.file_name().is_some_and(|name| name == "release");
    let target = profile.parent().unwrap_or(Path::new("."));
    Ok(match build {
        Build::Plain => (target.to_owned(), is_release),
        Build::Sabotage => (target.join("sabotage"), is_release),
    })
}

/// Builds Freehold as this program itself was built. A sabotage build has a folder of its own.
fn compile(build: Build) -> Result<PathBuf> {
    let (target, is_release) = folder(build)?;
    let mut command = cargo();
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
