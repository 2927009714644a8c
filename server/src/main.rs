//! The `freehold` command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use server::cert::{self, CertCommand};
use server::check::{self, CheckFlags};
use server::cluster::init::{self, InitFlags};
use server::cluster::local::{self, ClusterFlags};
use server::contract::{self, ContractCommand};
use server::demo::{self, DemoFlags};
use server::drain::{self, DrainFlags};
use server::dump::{self, DumpCommand};
use server::settings::Flags;
use server::{Failure, explain, logging, start};

/// What one thread of the runtime allocates another one frees, all the time; the C library's
/// allocator keeps the holes of that for each thread, several hundred MB of them under load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Freehold: just The Database.
#[derive(Parser)]
#[command(name = "freehold", version, about, arg_required_else_help = true)]
struct Freehold {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a server until SIGTERM or Ctrl-C.
    Start {
        #[command(flatten)]
        flags: Box<Flags>,
        /// TOML file with settings by the flags' names; flags and variables go first.
        #[arg(long, env = "FREEHOLD_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Begins a cluster with one of several empty nodes that were started with --join.
    Init(InitFlags),
    /// Runs a cluster for development on this machine, until Ctrl-C.
    Cluster(ClusterFlags),
    /// Hands over what a running node leads, so that it can be ended without anybody waiting.
    Drain(DrainFlags),
    /// Checks a stopped node: every checksum, and its tables against its journal. Exit code 0:
    /// nothing is wrong, 1: something is, 2: it could not be checked.
    Check(CheckFlags),
    /// Shows what a stopped node has on its disk. Exit codes as of `check`.
    #[command(subcommand)]
    Dump(DumpCommand),
    /// Makes certificates for the connections between nodes.
    #[command(subcommand)]
    Cert(CertCommand),
    /// Compares the contracts of a team's schema before they are deployed.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Shows the main job: services without glue on three nodes, of which one is killed.
    Demo(DemoFlags),
}

fn main() -> ExitCode {
    let result = match Freehold::parse().command {
        Command::Start { flags, config } => run_start(*flags, config),
        Command::Init(flags) => init::main(&flags),
        Command::Cluster(flags) => local::main(&flags),
        Command::Check(flags) => return judged(check::main(&flags)),
        Command::Dump(command) => return judged(dump::main(&command)),
        Command::Drain(flags) => drain::main(&flags),
        Command::Cert(command) => cert::main(&command),
        Command::Contract(command) => return judged(contract::main(&command)),
        Command::Demo(flags) => demo::main(&flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("freehold: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// 0: all is well, 1: damage was found and printed, 2: nobody could look.
fn judged(sound: Result<bool, Failure>) -> ExitCode {
    match sound {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("freehold: {}", explain(&error));
            ExitCode::from(2)
        }
    }
}

fn run_start(flags: Flags, config: Option<PathBuf>) -> Result<(), Failure> {
    let flags = match config {
        Some(path) => flags.with_file(&path)?,
        None => flags,
    };
    let settings = flags.check()?;
    logging::start(settings.log_format, &settings.log)?;
    refuse_huge_pages();
    start::main(settings)
}

/// The allocator asks for huge pages. A group reserves some buffers of which it touches a little,
/// and each of these would take 2 MiB: an idle replica twelve times what it needs.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "huge pages can't be refused: idle groups take more memory");
    }
}
