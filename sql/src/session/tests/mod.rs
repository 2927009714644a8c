//! Sessions over storage without Raft: what clients see, step by step.

mod anomalies;
mod basic;
mod commands;
mod contracts;
mod copying;
mod elsewhere;
mod emptied;
mod eras;
mod erase;
mod events;
mod export;
mod far;
mod feed;
mod fired;
mod follow;
mod held;
mod locks;
mod moves;
mod moves_beside;
mod node;
mod owners;
mod pair;
mod past;
mod protocol;
mod reads;
mod referring;
mod routines;
mod settings;
mod wishes;

pub(crate) use node::{Client, Node};
