//! `freehold dump`: what a stopped node has on its disk, one record a line, as text or JSON.
//! Never writes.

mod journal;
mod line;
mod raft;
mod tables;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::Failure;
use crate::stopped::Stopped;
use line::{Format, Out};

/// What is dumped.
#[derive(Subcommand, Clone, Debug)]
pub enum DumpCommand {
    /// Every record of the journal, dead ones too, in the order of the disk.
    Journal(journal::JournalFlags),
    /// Every table and index, as a start would find it; with --rows, their rows.
    Tables(tables::TablesFlags),
    /// Of each group: vote, log, checkpoint, members.
    Raft(raft::RaftFlags),
}

/// What all of them take.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Folder of the stopped node.
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    data: PathBuf,
    /// A line as text or as a JSON object.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    format: Format,
}

impl Common {
    fn open(&self) -> Result<(Stopped, Out), Failure> {
        Ok((Stopped::open(&self.data)?, Out::new(self.format)))
    }
}

/// Whether nothing was damaged. Errors: it could not be read at all.
pub fn main(command: &DumpCommand) -> Result<bool, Failure> {
    match command {
        DumpCommand::Journal(flags) => journal::dump(flags),
        DumpCommand::Tables(flags) => tables::dump(flags),
        DumpCommand::Raft(flags) => raft::dump(flags),
    }
}

/// Bytes that have no better form.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
