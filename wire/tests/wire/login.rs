//! SCRAM-SHA-256 and TLS with a real driver, channel binding included.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use wire::Config;

use crate::raw::{Answer, Raw, frame, request, startup};
use crate::server::Server;

const V3_0: u32 = 3 << 16;

/// A server's configuration and a client's that trusts it, and nobody else.
pub fn self_signed() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = wire::tls::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, Arc::new(client))
}

fn configuration(server: &Server, user: &str, password: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .port(server.address.port())
        .user(user)
        .password(password);
    config
}

async fn connect(
    server: &Server,
    user: &str,
    password: &str,
) -> Result<Client, tokio_postgres::Error> {
    let config = configuration(server, user, password);
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = config.connect_raw(tcp, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn the_right_password_lets_in() {
    let server = Server::trusting().await;
    let client = connect(&server, "alice", "wonderland").await.unwrap();
    let statement = client.prepare("echo").await.unwrap();
    let row = client.query_one(&statement, &[&"hello"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "hello");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_words() {
    let server = Server::trusting().await;
    for user in ["alice", "nobody"] {
        let error = connect(&server, user, "looking-glass").await.err().unwrap();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::INVALID_PASSWORD);
        let expected = format!("password authentication failed for user \"{user}\"");
        assert_eq!(error.message(), expected);
        assert_eq!(error.severity(), "FATAL");
    }
}

fn client_first(mechanism: &str, message: &str) -> Vec<u8> {
    let mut body = mechanism.as_bytes().to_vec();
    body.push(0);
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message.as_bytes());
    frame(b'p', &body)
}

/// All that the server says to a user who gets his proof wrong.
async fn failed_exchange(server: &Server, user: &str) -> Vec<Answer> {
    let mut raw = Raw::connect(server.address).await;
    raw.send(&startup(V3_0, &["user", user])).await;
    let mut answers = vec![raw.answer().await];
    raw.send(&client_first("SCRAM-SHA-256", "n,,n=,r=nonce"))
        .await;
    answers.push(raw.answer().await);
    let first = String::from_utf8(answers[1].body[4..].to_vec()).unwrap();
    let nonce = first.split(',').next().unwrap();
    let proof = "A".repeat(43);
    raw.send(&frame(
        b'p',
        format!("c=biws,{nonce},p={proof}=").as_bytes(),
    ))
    .await;
    answers.push(raw.answer().await);
    assert_eq!(raw.rest().await, b"");
    answers
}

#[tokio::test]
async fn an_unknown_user_looks_like_a_known_one() {
    let server = Server::trusting().await;
    let known = failed_exchange(&server, "alice").await;
    let unknown = failed_exchange(&server, "elica").await;
    for (known, unknown) in known.iter().zip(&unknown) {
        assert_eq!(known.message_type, unknown.message_type);
        assert_eq!(known.body.len(), unknown.body.len());
    }
    assert_eq!(known[0], unknown[0]);
    assert_eq!(known[2].field(b'C'), unknown[2].field(b'C'));
    // Salts stay what they are from try to try, or they would tell.
    let salt = |answers: &[Answer]| {
        let text = String::from_utf8(answers[1].body[4..].to_vec()).unwrap();
        text.split(',').nth(1).unwrap().to_owned()
    };
    assert_eq!(
        salt(&unknown),
        salt(&failed_exchange(&server, "elica").await)
    );
}

#[tokio::test]
async fn what_is_not_scram_is_refused() {
    let server = Server::trusting().await;
    let first = "n,,n=,r=nonce";
    for message in [
        frame(b'p', b""),
        frame(b'p', b"secret\0"),
        frame(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,"),
        client_first("SCRAM-SHA-256", ""),
        client_first("SCRAM-SHA-256", ",,,,,,"),
        client_first("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=nonce"),
        client_first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=nonce"),
        client_first("SCRAM-SHA-1", first),
        [client_first("SCRAM-SHA-256", first), frame(b'p', b"c=biws")].concat(),
        [
            client_first("SCRAM-SHA-256", first),
            frame(b'p', b"c=biws,r=other,p=AAAA"),
        ]
        .concat(),
        [
            client_first("SCRAM-SHA-256", first),
            frame(b'p', b"\xff\xff"),
        ]
        .concat(),
    ] {
        let mut raw = Raw::connect(server.address).await;
        raw.send(&[startup(V3_0, &["user", "alice"]), message].concat())
            .await;
        let answers = raw.until('E').await;
        let error = answers.last().unwrap().error();
        assert_eq!(error, "08P01 malformed SCRAM message");
    }
}

/// tokio-postgres over rustls.
mod driver {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
    use tokio_rustls::client;

    use super::*;

    pub struct Connector(pub Arc<ClientConfig>);
    pub struct Encrypted(client::TlsStream<TcpStream>);

    impl TlsConnect<TcpStream> for Connector {
        type Stream = Encrypted;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

        fn connect(self, tcp: TcpStream) -> Self::Future {
            Box::pin(async move {
                let name = ServerName::try_from("localhost").unwrap();
                let connector = tokio_rustls::TlsConnector::from(self.0);
                connector.connect(name, tcp).await.map(Encrypted)
            })
        }
    }

    impl TlsStream for Encrypted {
        fn channel_binding(&self) -> ChannelBinding {
            let certificate = &self.0.get_ref().1.peer_certificates().unwrap()[0];
            let hash = ring::digest::digest(&ring::digest::SHA256, certificate);
            ChannelBinding::tls_server_end_point(hash.as_ref().to_vec())
        }
    }

    impl AsyncRead for Encrypted {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Encrypted {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().0).poll_flush(context)
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().0).poll_shutdown(context)
        }
    }
}

#[tokio::test]
async fn channel_binding_over_tls() {
    let (tls, trust) = self_signed();
    let server = Server::start(Config {
        tls: Some(tls),
        ..Config::default()
    })
    .await;
    for binding in [ChannelBinding::Require, ChannelBinding::Disable] {
        for (password, right) in [("wonderland", true), ("looking-glass", false)] {
            let mut config = configuration(&server, "alice", password);
            config.ssl_mode(SslMode::Require).channel_binding(binding);
            let tcp = TcpStream::connect(server.address).await.unwrap();
            let connected = config
                .connect_raw(tcp, driver::Connector(trust.clone()))
                .await;
            assert_eq!(connected.is_ok(), right, "{binding:?}");
            let Ok((client, connection)) = connected else {
                continue;
            };
            tokio::spawn(connection);
            let statement = client.prepare("echo").await.unwrap();
            // More than one TLS record.
            let long = "x".repeat(100_000);
            let row = client.query_one(&statement, &[&long]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), long);
            assert!(server.echo.startup.lock().unwrap().take().unwrap().tls);
        }
    }
}

#[tokio::test]
async fn a_peer_over_tls_is_watched_too() {
    let (tls, trust) = self_signed();
    let server = Server::start(Config {
        tls: Some(tls),
        ..Config::default()
    })
    .await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&request(5679)).await;
    assert_eq!(raw.byte().await, b'S');
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(trust);
    let mut stream = connector.connect(name, raw.into_tcp()).await.unwrap();
    let bytes = [wire::attack::startup("trusted"), crate::raw::query("sleep")].concat();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes)
        .await
        .unwrap();
    server.echo.asleep.notified().await;
    drop(stream);
    server.echo.deserted.notified().await;
}

/// An address of this machine that isn't the loopback's, if it has one. Sends nothing.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[tokio::test]
async fn a_trusted_user_from_outside_is_refused() {
    let Some(address) = outer_address() else {
        println!("this machine has no outer address; the unit test beside the rule must do");
        return;
    };
    let server = Server::at((address, 0).into(), Config::default()).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&wire::attack::startup("trusted")).await;
    let expected = "28000 connections without a password are accepted on the loopback only";
    assert_eq!(raw.fatal().await, expected);
}

#[test]
fn bad_pem_is_refused() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for (certificate, key) in [
        ("", key.as_str()),
        (certificate.as_str(), ""),
        (key.as_str(), certificate.as_str()),
        (
            certificate.as_str(),
            other.signing_key.serialize_pem().as_str(),
        ),
    ] {
        assert!(wire::tls::from_pem(certificate.as_bytes(), key.as_bytes()).is_err());
    }
    let missing = std::path::Path::new("/nowhere/cert.pem");
    let error = wire::tls::from_files(missing, missing).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("could not read /nowhere/cert.pem: ")
    );
}
