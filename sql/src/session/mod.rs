//! One client's session: prepared statements, portals, settings and the state of its transaction.

pub mod activity;
mod bridge;
mod control;
mod environment;
pub mod notify;
mod output;
pub(crate) mod plans;
pub mod sequence;
pub(crate) mod signal;
mod step;
pub(crate) mod system;
pub mod token;
mod user;

pub use output::{Field, Output};
pub use step::{Step, Waiting};
pub use user::User;
