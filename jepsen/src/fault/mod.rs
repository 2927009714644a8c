//! What is done to the server under load, and the proof that it was done.

mod disk;
mod replay;
mod trace;

use std::path::PathBuf;

pub use disk::LoopDisk;
pub use replay::Replay;

/// The faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Nothing but load.
    None,
    /// SIGKILL at a random moment, and sometimes once more in the middle of recovery.
    Kill,
    /// SIGKILL and a file system that loses what wasn't synced: a loop disk that is shut down
    /// (root), else as `replay`.
    Power,
    /// SIGKILL and a folder from which unsynced writes are dropped or torn, after a trace of the
    /// server's system calls.
    Replay,
}

impl Fault {
    /// The word of the flag.
    pub fn word(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Kill => "kill",
            Fault::Power => "power",
            Fault::Replay => "replay",
        }
    }
}

/// What takes the unsynced writes away.
pub enum Medium {
    /// Nothing does.
    Plain,
    /// A loop disk.
    Disk(LoopDisk),
    /// A trace of system calls and a generator of lost writes.
    Replay(Replay),
}

impl Medium {
    /// The place of the data folder.
    pub fn data(&self, folder: &std::path::Path) -> PathBuf {
        match self {
            Medium::Plain | Medium::Replay(_) => folder.join("data"),
            Medium::Disk(disk) => disk.mounted().join("data"),
        }
    }
}
