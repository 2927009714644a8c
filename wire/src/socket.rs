//! What is under a connection, a socket (plain or TLS) or a stream to another node, and the watch
//! that learns when the peer has gone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::input::Input;
use crate::link::{Link, LinkWatch};

/// How often a peer is looked at while bytes that it has sent are still unread: then the socket
/// stays readable, and readiness alone can't tell data from the end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A TCP stream that can be watched while it is in use. Counts its writes.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    tcp: Arc<TcpStream>,
    writes: Arc<AtomicU64>,
}

impl Socket {
    pub fn new(tcp: TcpStream) -> Socket {
        Socket {
            tcp: Arc::new(tcp),
            writes: Arc::default(),
        }
    }

    /// Writes to the kernel so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Is there something to read, or the end?
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_read_ready(context)
    }

    async fn read_into(&self, input: &mut Input) -> io::Result<usize> {
        loop {
            self.tcp.readable().await?;
            match self.read_now(input.room()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Reads once. What does not fill the buffer was all there is: the socket then counts as read
    /// empty, without a second read that says so.
    fn read_now(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut done = None;
        // What arrives while this runs makes the socket readable again, whatever it returns.
        let emptied = self.tcp.try_io(Interest::READABLE, || {
            let read = self.tcp.try_read_buf(buffer);
            let emptied = matches!(read, Ok(1..)) && !buffer.spare_capacity_mut().is_empty();
            done = Some(read);
            match emptied {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        done.unwrap_or_else(|| emptied.map(|()| 0))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(context))?;
            match self.tcp.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(context))?;
            match self.tcp.try_write(bytes) {
                Ok(written) => {
                    self.writes.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = socket2::SockRef::from(&*self.tcp);
        Poll::Ready(socket.shutdown(std::net::Shutdown::Write))
    }
}

/// Plain, encrypted, or another node's; the rest of the crate hardly cares.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
    Link(Box<dyn Link>),
}

impl Stream {
    /// Reads once. Cancel-safe. Without TLS the room for it is made only when there is something to
    /// read, so that an idle connection needs none.
    pub async fn read(&mut self, input: &mut Input) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read_into(input).await,
            Stream::Tls(tls) => tls.read_buf(input.room()).await,
            Stream::Link(link) => link.read_buf(input.room()).await,
        }
    }

    /// The socket, if it is one.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Stream::Plain(socket) => Some(socket),
            Stream::Tls(tls) => Some(tls.get_ref().0),
            Stream::Link(_) => None,
        }
    }

    pub fn watch(&self) -> PeerWatch {
        match self {
            Stream::Plain(socket) => PeerWatch(Watched::Socket(socket.tcp.clone())),
            Stream::Tls(tls) => PeerWatch(Watched::Socket(tls.get_ref().0.tcp.clone())),
            Stream::Link(link) => PeerWatch(Watched::Link(link.watch())),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
            Stream::Link(link) => Pin::new(link).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
            Stream::Link(link) => Pin::new(link).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(context),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
            Stream::Link(link) => Pin::new(link).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
            Stream::Link(link) => Pin::new(link).poll_shutdown(context),
        }
    }
}

/// Learns that the peer has gone without reading from the connection, so that it can be waited for
/// beside a running statement. A peer that only closed its sending side counts as gone, as with
/// PostgreSQL's `client_connection_check_interval`.
#[derive(Clone)]
pub struct PeerWatch(Watched);

#[derive(Clone)]
enum Watched {
    Socket(Arc<TcpStream>),
    Link(LinkWatch),
}

impl PeerWatch {
    /// Resolves when the peer has closed the connection or the connection broke. Cancel-safe.
    pub async fn gone(&self) {
        match &self.0 {
            Watched::Socket(tcp) => {
                while !has_gone(tcp).await {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            Watched::Link(gone) => gone().await,
        }
    }
}

/// Waits for anything from the peer. False if that was data: its next message, which is not ours to
/// read.
async fn has_gone(tcp: &TcpStream) -> bool {
    match tcp.ready(Interest::READABLE).await {
        Ok(ready) if ready.is_read_closed() || ready.is_error() => return true,
        Ok(_) => {}
        Err(_) => return true,
    }
    !matches!(tcp.peek(&mut [0]).await, Ok(1..))
}
