//! One client's session: prepared statements, portals, settings and the state of its transaction.

mod output;
mod step;

pub use output::Output;
pub use step::Step;
