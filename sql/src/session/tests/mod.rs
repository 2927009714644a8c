//! Sessions over storage without Raft: what clients see, step by step.

mod anomalies;
mod basic;
mod held;
mod locks;
mod node;

pub(crate) use node::{Client, Node};
