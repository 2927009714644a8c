//! Faults, histories and their checkers against real processes: a black box that knows the
//! server by its program, its socket and its data folder only.

mod check;
mod cluster;
mod error;
mod fault;
mod field;
mod finding;
mod history;
mod link;
mod options;
mod processes;
mod program;
mod runs;
mod sabotage;
mod seed;
mod slices;
mod victim;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use error::Result;
use finding::Tally;
use options::{Cli, Command, Options};
use program::Build;
use runs::Setup;

/// A promise was seen to break, or a planted fault escaped.
const BROKEN: u8 = 1;
/// The harness could not do its work.
const NO_SETUP: u8 = 2;
/// Nothing broke, and too few runs were valid.
const INVALID: u8 = 3;
/// Ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Connections of the feed workload, the server's own files and some more.
const FILES_MIN: u64 = 8_192;

#[tokio::main]
async fn main() -> ExitCode {
    raise_file_limit();
    let cli = Cli::parse();
    // Leaving by either arm drops what is running, and with it servers and mounted disks.
    let played = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => return ExitCode::from(INTERRUPTED),
        played = run(cli) => played,
    };
    match played {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jepsen: {error}");
            ExitCode::from(NO_SETUP)
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Some(Command::Sabotage { only, options }) => {
            let caught = sabotage::play_all(only.as_deref(), &options).await?;
            Ok(if caught {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(BROKEN)
            })
        }
        Some(Command::Judged { options }) => {
            let program = program::find(&options, Build::Plain)?;
            let played = slices::play_judged(&options, program).await?;
            Ok(close(&played.tally, played.asked))
        }
        None if cli.ci => {
            let program = program::find(&cli.options, Build::Plain)?;
            let played = slices::play_short(&cli.options, program).await?;
            Ok(close(&played.tally, played.asked))
        }
        None => play(cli.options).await,
    }
}

async fn play(options: Options) -> Result<ExitCode> {
    let program = program::find(&options, Build::Plain)?;
    let asked = options.runs;
    let setup = Setup {
        options,
        program,
        sabotage: None,
        tracer: None,
        until_found: false,
    };
    let (tally, _) = runs::play(&setup).await?;
    Ok(close(&tally, asked))
}

/// Prints the closing table and line.
fn close(tally: &Tally, asked: u64) -> ExitCode {
    let (result, code) = if tally.is_broken() {
        ("broken", ExitCode::from(BROKEN))
    } else if tally.runs < asked || tally.runs == 0 {
        ("invalid", ExitCode::from(INVALID))
    } else {
        ("green", ExitCode::SUCCESS)
    };
    for skipped in &tally.skipped {
        println!("skipped: {skipped}");
    }
    println!("\n{}\n", tally.table());
    println!("{}", tally.line(result));
    code
}

/// Both this process and the server, which inherits the limit, hold a thousand sockets.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|files| files < FILES_MIN) {
        let wanted = maximum.map_or(FILES_MIN, |most| most.min(FILES_MIN));
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum,
            },
        );
        if let Err(error) = raised {
            eprintln!("jepsen: open files stay at {current:?}: {error}");
        }
    }
}
