//! Structured logs: one line an event, as text or JSON, on standard error.

use tracing_subscriber::EnvFilter;

use crate::settings::{Invalid, LogFormat};

/// Starts logging for the process. `filter` is `info` or `info,raft=debug`.
pub fn start(format: LogFormat, filter: &str) -> Result<(), Invalid> {
    // openraft tells at `info` what our own lines say better.
    let filter = format!("openraft=warn,lsm_tree=warn,sled=warn,{filter}");
    let filter =
        EnvFilter::try_new(&filter).map_err(|e| Invalid(format!("--log {filter}: {e}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| Invalid(format!("logging: {e}")))
}
