//! How a peer proves who it is: trust on loopback, or SCRAM-SHA-256 against a stored verifier.

use std::future::Future;
use std::io;
use std::net::IpAddr;

use bytes::{Buf, Bytes};
use pgwire::messages::Message;
use pgwire::messages::startup::Authentication;
use rustls::pki_types::CertificateDer;

use crate::connection::Connection;
use crate::error::{Error, ErrorFields};
use crate::scram::{Exchange, Failure, Verifier};
use crate::startup::Startup;

/// What a peer has to do to be let in.
#[derive(Debug, Clone)]
pub enum Method {
    /// Nothing. Only peers on the loopback interface are let in so, whatever the server says.
    Trust,
    /// Show the password of this verifier. For unknown users and those who may not log in:
    /// [`Verifier::mock`], so that they can't be told from others.
    Scram(Verifier),
}

/// The server's knowledge of who may connect how.
pub trait Authenticate: Send + Sync + 'static {
    /// The method for this user and peer, or the FATAL to refuse it with. Takes the same time for
    /// known and unknown users, or it tells who exists.
    fn method(
        &self,
        startup: &Startup,
    ) -> impl Future<Output = Result<Method, Box<ErrorFields>>> + Send;
}

/// Lets the peer in or fails with what to tell it. Does not send AuthenticationOk.
pub(crate) async fn prove<A: Authenticate>(
    connection: &mut Connection,
    startup: &Startup,
    authenticate: &A,
    certificate: Option<&CertificateDer<'_>>,
) -> Result<(), Error> {
    let method = authenticate.method(startup).await;
    match method.map_err(Error::Protocol)? {
        Method::Trust if may_be_trusted(startup.peer.ip()) => Ok(()),
        Method::Trust => {
            let message = "connections without a password are accepted on the loopback only";
            Err(Error::protocol("28000", message))
        }
        Method::Scram(verifier) => prove_scram(connection, startup, &verifier, certificate).await,
    }
}

/// An IPv4 address may come in IPv6's clothes.
fn may_be_trusted(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

async fn prove_scram(
    connection: &mut Connection,
    startup: &Startup,
    verifier: &Verifier,
    certificate: Option<&CertificateDer<'_>>,
) -> Result<(), Error> {
    let exchange = Exchange::new(certificate);
    ask(connection, &Authentication::SASL(exchange.mechanisms()));
    connection.flush().await?;

    let (mechanism, client_first) = initial_response(next_password(connection).await?)?;
    let refuse = |failure| refusal(failure, &startup.user);
    let (server_first, waiting) = exchange
        .first(&mechanism, &client_first, verifier)
        .map_err(refuse)?;
    ask(
        connection,
        &Authentication::SASLContinue(server_first.into()),
    );
    connection.flush().await?;

    let client_final = next_password(connection).await?;
    let server_final = waiting
        .on_client_final_message(&client_final)
        .map_err(|error| refuse(Failure::from(error)))?;
    ask(connection, &Authentication::SASLFinal(server_final.into()));
    Ok(())
}

fn ask(connection: &mut Connection, message: &Authentication) {
    message
        .encode(connection.bytes_mut())
        .expect("authentication messages are far below pgwire's limit of 30,000 bytes");
}

/// The body of the next message of type `p`.
async fn next_password(connection: &mut Connection) -> Result<Bytes, Error> {
    loop {
        if let Some(body) = connection.input.cut_password()? {
            return Ok(body);
        }
        if !connection.fill().await? {
            return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// SASLInitialResponse: the chosen mechanism and client-first.
fn initial_response(mut body: Bytes) -> Result<(String, Bytes), Error> {
    let end = body
        .iter()
        .position(|&byte| byte == 0)
        .ok_or_else(malformed)?;
    let mechanism = String::from_utf8(body.split_to(end).to_vec()).map_err(|_| malformed())?;
    body.advance(1);
    let len = body.try_get_i32().map_err(|_| malformed())?;
    if usize::try_from(len) != Ok(body.len()) {
        return Err(malformed());
    }
    Ok((mechanism, body))
}

fn refusal(failure: Failure, user: &str) -> Error {
    match failure {
        Failure::Password => Error::protocol(
            "28P01",
            format!("password authentication failed for user \"{user}\""),
        ),
        Failure::Malformed => malformed(),
    }
}

fn malformed() -> Error {
    Error::protocol("08P01", "malformed SCRAM message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_ends_at_the_loopback() {
        for (peer, trusted) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("0.0.0.0", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(may_be_trusted(peer.parse().unwrap()), trusted, "{peer}");
        }
    }
}
