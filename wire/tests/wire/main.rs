//! The wire against clients: raw bytes where the bytes matter, tokio-postgres where a real driver
//! does. Each server runs in the test's process on a port of its own.

// clippy.toml allows it in tests, but knows only functions marked so, not what they call.
#![allow(clippy::unwrap_used)]

mod attacks;
mod exchange;
mod golden;
mod login;
mod raw;
mod relay;
mod server;
mod startup;
