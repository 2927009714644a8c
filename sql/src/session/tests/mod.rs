//! Sessions over storage without Raft: what clients see, step by step.

mod anomalies;
mod basic;
mod copying;
mod elsewhere;
mod export;
mod feed;
mod held;
mod locks;
mod node;
mod owners;
mod pair;
mod protocol;
mod reads;
mod settings;

pub(crate) use node::{Client, Node};
