//! Structured logs: one line an event, as text or JSON, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::settings::{Invalid, LogFormat};

/// Starts logging for the process. `filter` is `info` or `info,raft=debug`.
pub fn start(format: LogFormat, filter: &str) -> Result<(), Invalid> {
    // What the libraries tell is about their insides: openraft warns of messages that an election
    // made old, of which there is one with every start, and takes a question or a heartbeat that its
    // orderly end leaves open for an error. Whoever asks gets that error as well.
    let openraft = "openraft=error,openraft::raft::raft_inner=off,openraft::core::heartbeat=off";
    let filter = format!("{openraft},lsm_tree=warn,sled=warn,{filter}");
    let filter =
        EnvFilter::try_new(&filter).map_err(|e| Invalid(format!("--log {filter}: {e}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| Invalid(format!("logging: {e}")))
}
