//! Bytes from PostgreSQL clients to messages and back: accept loop, startup, TLS, authentication,
//! framing, decoding and encoding of protocol 3.0. Knows nothing of SQL, storage or the server.
//!
//! The way of a connection: [`run`] accepts it, [`Startup`] is read (through TLS if the client asks),
//! [`Authenticate`] says how the peer proves itself, and [`Serve::serve`] gets a [`Connection`] whose
//! output buffer already holds AuthenticationOk. The server adds ParameterStatus, BackendKeyData and
//! ReadyForQuery, flushes, and then takes one [`Frontend`] message after the other.
//!
//! pgwire gives the SCRAM exchange and the authentication messages. Its decoders are not used: they
//! panic on short frames and replace invalid UTF-8 silently, so [`Frontend`] is decoded here.

pub mod attack;
mod authentication;
mod config;
mod connection;
mod error;
mod field;
mod frontend;
mod input;
mod key;
mod link;
mod listen;
mod output;
mod relay;
pub mod scram;
mod socket;
mod startup;
pub mod tls;
mod turn;

pub use authentication::{Authenticate, Method};
pub use config::Config;
pub use connection::Connection;
pub use error::{Error, ErrorFields, Severity, SqlState};
pub use field::{Field, Format, TransactionStatus};
pub use frontend::{Frontend, Target};
pub use key::Key;
pub use link::{Link, LinkWatch, Private};
pub use listen::{Serve, refuse, run};
pub use output::{Output, RowWriter};
pub use relay::{Event, Fate, Keep, Relay};
pub use socket::PeerWatch;
pub use startup::Startup;
