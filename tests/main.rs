//! The one test binary: what is tested against the running program, and the rules of the house.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod authorization;
mod away;
mod chain;
mod check;
mod cluster;
mod cluster_views;
mod commands;
mod compare;
mod contracts;
mod demo;
mod drivers;
mod erase;
mod events;
mod feed;
mod feeds;
mod fired;
mod fixtures;
mod follow;
mod gateway;
mod http;
mod isolation;
mod moves;
mod past;
mod pooled;
mod projections;
mod psql;
mod references;
mod replaced;
mod revoke;
mod start;
mod tidy;
mod tour;
mod views_remote;
mod wire;
