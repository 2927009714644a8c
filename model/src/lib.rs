//! The protocol of foreign keys across owners (`docs/integrity.md`) as a model that is small enough
//! to look at every state: all orders of what groups, clients and faults may do.
//!
//! ```text
//! rules.rs      the rules, each of which can be taken out
//! group.rs      a group: its log and the state that the log makes
//! state.rs      a state of all: logs, followers' cursors, open transactions, budgets
//! steps.rs      what may happen next
//! promises.rs   what must hold in each state
//! scenario.rs   who references whom, and what is played
//! tests.rs      the check, and that each rule is missed when it is gone
//! ```
//! What is not modelled: Raft itself (an entry of a log is followed by nobody, and may be lost
//! with its leader, or it is followed and stays), several keys in one statement, and groups that a
//! reader does not hold.

mod group;
mod promises;
mod rules;
mod scenario;
mod state;
mod steps;
#[cfg(test)]
mod tests;

pub use rules::{Rule, Rules};
pub use scenario::{Action, Scenario};
pub use state::{Budget, State, Transaction};
pub use steps::Step;
