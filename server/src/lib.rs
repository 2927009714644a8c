//! The Freehold program: sockets, lifecycle, commands. Knows all, decides nothing.

mod answer;
mod authenticate;
mod changes;
mod connection;
mod report;
mod serve;
mod system;

pub mod demo;
pub mod logging;
pub mod settings;
pub mod start;

/// What ends the program, for the person in front of the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
