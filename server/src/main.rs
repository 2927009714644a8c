//! The `freehold` command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use server::demo::{self, DemoFlags, ServiceFlags};
use server::settings::Flags;
use server::{Failure, logging, start};

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
    /// Shows the main job: three services, their tables, the feed, a killed consumer.
    Demo(DemoFlags),
    /// One service of the demo.
    #[command(hide = true)]
    DemoService(ServiceFlags),
}

fn main() -> ExitCode {
    let result = match Freehold::parse().command {
        Command::Start { flags, config } => run_start(*flags, config),
        Command::Demo(flags) => demo::main(&flags),
        Command::DemoService(flags) => demo::service(flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("freehold: {error}");
            ExitCode::FAILURE
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
    start::main(settings)
}
