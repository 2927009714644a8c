//! The accept loop: from a socket to an authenticated [`Connection`] in the server's hands, with an
//! allowance of its own for peers that have not proved who they are.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::authentication::{Authenticate, prove};
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{Error, ErrorFields};
use crate::output::Output;
use crate::socket::{Socket, Stream};
use crate::startup::{Packet, Startup, unsupported_again};

/// How long a refused peer may take to read why.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);
/// The pause after a failed accept (no file descriptors left, mostly), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The server behind the wire.
pub trait Serve: Send + Sync + 'static {
    /// Serves one authenticated connection to its end. AuthenticationOk waits in the output buffer:
    /// add ParameterStatus, BackendKeyData and ReadyForQuery, and flush.
    fn serve(
        self: Arc<Self>,
        connection: Connection,
        startup: Startup,
    ) -> impl Future<Output = ()> + Send;

    /// A CancelRequest came, from anybody: compare with [`Key::admits`](crate::Key::admits) and
    /// cancel that session's statement. The peer is told nothing.
    fn cancel(&self, pid: i32, secret: i32);
}

/// What all connections of a listener share.
struct Shared<A, S> {
    config: Config,
    authenticate: Arc<A>,
    serve: Arc<S>,
    connections: Arc<Semaphore>,
}

/// Accepts connections until `shutdown` resolves; then closes the listener, drops the peers that
/// are not authenticated and waits for the others, at most `shutdown_grace`. Telling them to end
/// (57P01) is the server's part.
pub async fn run<A: Authenticate, S: Serve>(
    listener: TcpListener,
    config: Config,
    authenticate: Arc<A>,
    serve: Arc<S>,
    shutdown: impl Future<Output = ()>,
) {
    let unauthenticated = Arc::new(Semaphore::new(config.unauthenticated_max));
    let connections = Arc::new(Semaphore::new(config.connections_max));
    let shared = Arc::new(Shared {
        config,
        authenticate,
        serve,
        connections,
    });
    let (closing, closed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => match unauthenticated.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let shared = shared.clone();
                        tasks.spawn(attend(shared, tcp, peer, permit, closed.clone()));
                    }
                    Err(_) => turn_away(&tcp, &too_many()),
                },
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let _ = closing.send(true);
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if timeout(shared.config.shutdown_grace, all_ended)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = tasks.len(),
            "connections were dropped at shutdown"
        );
    }
    tasks.shutdown().await;
}

/// Refuses every connection with these words until `ready` resolves, and gives the listener back: a
/// server that is starting has its port, and nobody is to wait there without a word.
pub async fn refuse(
    listener: TcpListener,
    config: &Config,
    why: &ErrorFields,
    ready: impl Future<Output = ()>,
) -> TcpListener {
    let places = Arc::new(Semaphore::new(config.unauthenticated_max));
    let mut tasks = JoinSet::new();
    tokio::pin!(ready);
    loop {
        tokio::select! {
            biased;
            () = &mut ready => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let (config, why) = (config.clone(), why.clone());
                        tasks.spawn(async move {
                            let time = config.authentication_timeout;
                            // A peer that left, or is too slow, needs no word.
                            let _ = timeout(time, refuse_one(tcp, &config, &why)).await;
                            drop(place);
                        });
                    }
                    Err(_) => turn_away(&tcp, why),
                },
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    // They end by themselves, in that time.
    tasks.detach_all();
    listener
}

async fn refuse_one(tcp: TcpStream, config: &Config, why: &ErrorFields) -> Result<(), Error> {
    prepare(&tcp)?;
    let mut connection = Connection::new(Stream::Plain(Socket::new(tcp)), config);
    match opening(config, &mut connection, &mut None).await? {
        // Who cancels hears nothing, whatever becomes of it.
        None | Some(Packet::Cancel { .. }) => Ok(()),
        Some(_) => connection.end(why).await,
    }
}

/// A panic ends one connection, never the server; the panic hook has said where it was.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection was ended by a panic");
    }
}

/// Refuses without spending a task or a wait: what the kernel doesn't take at once is lost.
fn turn_away(tcp: &TcpStream, why: &ErrorFields) {
    let mut output = Output::new();
    output.error(why);
    let _ = tcp.try_write(output.as_bytes());
}

fn too_many() -> ErrorFields {
    ErrorFields::fatal("53300", "sorry, too many clients already")
}

/// One connection from accept to end. `stranger` is given back as soon as the peer is known.
async fn attend<A: Authenticate, S: Serve>(
    shared: Arc<Shared<A, S>>,
    tcp: TcpStream,
    peer: SocketAddr,
    stranger: OwnedSemaphorePermit,
    mut closed: watch::Receiver<bool>,
) {
    if let Err(error) = prepare(&tcp) {
        tracing::debug!(%peer, %error, "connection was lost at once");
        return;
    }
    let mut connection = Connection::new(Stream::Plain(Socket::new(tcp)), &shared.config);
    let greeted = tokio::select! {
        biased;
        // The sender lives until all connections have ended, so this is the shutdown.
        _ = closed.changed() => return,
        greeted = timeout(
            shared.config.authentication_timeout,
            greet(&shared, &mut connection, peer),
        ) => greeted,
    };
    match greeted {
        Ok(Ok(Some((startup, _place)))) => {
            drop(stranger);
            shared.serve.clone().serve(connection, startup).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection was refused");
            if let Error::Protocol(fields) = error {
                let _ = timeout(REFUSAL_TIME_MAX, connection.end(&fields)).await;
            }
        }
        Err(_) => tracing::debug!(%peer, "authentication timeout"),
    }
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    socket2::SockRef::from(tcp).set_keepalive(true)
}

/// Everything before the first ReadyForQuery that is the wire's part. None if the peer wanted
/// nothing more: it left, or it cancelled a statement.
async fn greet<A: Authenticate, S: Serve>(
    shared: &Shared<A, S>,
    connection: &mut Connection,
    peer: SocketAddr,
) -> Result<Option<(Startup, OwnedSemaphorePermit)>, Error> {
    let mut certificate = None;
    let Some(packet) = opening(&shared.config, connection, &mut certificate).await? else {
        return Ok(None);
    };
    let (user, mut parameters, negotiate) = match packet {
        Packet::Startup {
            user,
            parameters,
            negotiate,
        } => (user, parameters, negotiate),
        Packet::Cancel { pid, secret } => {
            shared.serve.cancel(pid, secret);
            return Ok(None);
        }
        again => return Err(unsupported_again(&again)),
    };
    if let Some(unknown) = &negotiate {
        connection.negotiate_protocol_version(unknown);
    }
    let database = parameters
        .remove("database")
        .filter(|name| !name.is_empty());
    let database = database.unwrap_or_else(|| user.clone());
    let startup = Startup {
        user,
        database,
        parameters,
        peer,
        tls: connection.is_tls(),
    };
    prove(
        connection,
        &startup,
        &*shared.authenticate,
        certificate.as_ref(),
    )
    .await?;
    let Ok(place) = shared.connections.clone().try_acquire_owned() else {
        return Err(Error::Protocol(Box::new(too_many())));
    };
    connection.authentication_ok();
    Ok(Some((startup, place)))
}

/// Answers requests for encryption, each once, and gives the packet that isn't one.
async fn opening(
    config: &Config,
    connection: &mut Connection,
    certificate: &mut Option<CertificateDer<'static>>,
) -> Result<Option<Packet>, Error> {
    let (mut ssl_done, mut gssenc_done) = (false, false);
    loop {
        let Some(packet) = next_packet(connection).await? else {
            return Ok(None);
        };
        match packet {
            Packet::Ssl if !ssl_done => {
                ssl_done = true;
                encrypt(config, connection, certificate).await?;
                // What runs inside TLS is not encrypted once more.
                gssenc_done |= connection.is_tls();
            }
            Packet::GssEnc if !gssenc_done => {
                gssenc_done = true;
                answer_plainly(connection, b'N').await?;
            }
            other => return Ok(Some(other)),
        }
    }
}

async fn next_packet(connection: &mut Connection) -> Result<Option<Packet>, Error> {
    loop {
        if let Some(packet) = connection.input.cut_startup()? {
            return Packet::decode(packet).map(Some);
        }
        if !connection.fill().await? {
            return connection.end_of_input().map(|()| None);
        }
    }
}

async fn encrypt(
    config: &Config,
    connection: &mut Connection,
    certificate: &mut Option<CertificateDer<'static>>,
) -> Result<(), Error> {
    let Some(tls) = config.tls.clone() else {
        return answer_plainly(connection, b'N').await;
    };
    answer_plainly(connection, b'S').await?;
    let Some(socket) = connection.stream.socket().cloned() else {
        let message = "a stream between nodes is not encrypted a second time";
        return Err(Error::Io(io::Error::other(message)));
    };
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
    // rustls doesn't tell which certificate it sent, so its resolver is asked the same question.
    let resolved = tls.cert_resolver.resolve(start.client_hello());
    *certificate = resolved.and_then(|key| key.cert.first().cloned());
    connection.stream = Stream::Tls(Box::new(start.into_stream(tls).await?));
    Ok(())
}

/// Sends the one byte that answers a request for encryption. Bytes that are here already came
/// before the answer, so in clear: whoever sent them must not be heard as if they had come over TLS
/// (CVE-2021-23214), and the connection is closed without a word.
async fn answer_plainly(connection: &mut Connection, answer: u8) -> Result<(), Error> {
    if !connection.input.is_empty() {
        let message = "received unencrypted data after a request for encryption";
        return Err(Error::Io(io::Error::new(
            io::ErrorKind::InvalidData,
            message,
        )));
    }
    connection.stream.write_all(&[answer]).await?;
    connection.stream.flush().await?;
    Ok(())
}
