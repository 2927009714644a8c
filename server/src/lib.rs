//! The Freehold program: sockets, lifecycle, commands. Knows all, decides nothing.

mod answer;
mod authenticate;
mod changes;
mod client;
mod connection;
mod couriers;
mod explain;
mod feeds;
mod follow;
mod remote;
mod report;
mod serve;
mod stopped;
mod system;
mod temporary;
mod timed;
mod views;

pub use explain::explain;

pub mod cert;
pub mod check;
pub mod cluster;
pub mod contract;
pub mod demo;
pub mod drain;
pub mod dump;
mod erase;
mod gateway;
pub mod http;
pub mod logging;
pub mod peer;
pub mod settings;
pub mod start;

/// What ends the program, for the person in front of the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
