//! The limits of the wire, each with its default.

use std::sync::Arc;
use std::time::Duration;

/// Limits and TLS of a listener. `Config::default()` is what the server starts with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Answers SSLRequest with `S` if there is one, else with `N`.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Authenticated connections (`max_connections`); one more gets 53300.
    pub connections_max: usize,
    /// Peers that have not proved who they are yet, cancel requests included; an allowance of their
    /// own, so that strangers can't keep users out. One more gets 53300 at once.
    pub unauthenticated_max: usize,
    /// From accept to AuthenticationOk, the TLS handshake included (`authentication_timeout`).
    pub authentication_timeout: Duration,
    /// Bytes of one message after authentication, CopyData aside. Longer: 54000 and the end.
    pub message_bytes_max: usize,
    /// Bytes of one piece of CopyData. A longer CopyData arrives in several pieces, because the
    /// borders of CopyData messages mean nothing.
    pub copy_bytes_max: usize,
    /// Output bytes above which [`Connection::relieve`](crate::Connection::relieve) writes.
    pub output_bytes_high: usize,
    /// How long [`run`](crate::run) waits for the connections after shutdown, before it drops them.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            tls: None,
            connections_max: 100,
            unauthenticated_max: 1_000,
            authentication_timeout: Duration::from_secs(60),
            message_bytes_max: 16 << 20,
            copy_bytes_max: 1 << 20,
            output_bytes_high: 64 << 10,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}
