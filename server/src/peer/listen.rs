//! The incoming connections: from a socket to a peer that is known, its requests to the service and
//! the answers back, and the end of all of it in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::Reader;
use super::link::{Ear, Incoming, Link, Over, REQUESTS_MAX};
use super::tls::{Error, Sink, Source};
use super::{
    BODY_BYTES_MAX, HELLO_BYTES_MAX, Hello, Identity, Lane, Options, PeerTls, Service, hello,
};

/// The longest request. All that of one connection arrive in parts, or are being answered, have no
/// more bytes together.
pub const REQUEST_BYTES_MAX: usize = 80 << 20;
/// The pause after a failed accept (no file descriptors left, mostly), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The same refusal is logged again after this: a peer that is refused comes again and again.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// What peers are told when the listener ends.
const ENDING: &str = "the node is shutting down";

const _: () = assert!(REQUEST_BYTES_MAX >= BODY_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX <= u32::MAX as usize);

/// What all connections of a listener share.
struct Shared {
    service: Arc<dyn Service>,
    tls: PeerTls,
    options: Options,
    connections: Arc<Semaphore>,
    refusals: Mutex<Option<(String, Instant)>>,
}

/// Serves peers until `until` resolves; then says goodbye to them, lets what is under way end for a
/// moment, and closes the connections. Err: it may not listen there.
pub async fn listen(
    listener: TcpListener,
    service: Arc<dyn Service>,
    tls: PeerTls,
    until: impl Future<Output = ()>,
) -> Result<(), Error> {
    listen_with(listener, service, tls, Options::default(), until).await
}

/// The same with other times and numbers.
pub async fn listen_with(
    listener: TcpListener,
    service: Arc<dyn Service>,
    tls: PeerTls,
    options: Options,
    until: impl Future<Output = ()>,
) -> Result<(), Error> {
    // A socket without an address accepts nobody, and says so below.
    if let Ok(address) = listener.local_addr() {
        tls.check(address)?;
    }
    let strangers = Arc::new(Semaphore::new(options.strangers_max));
    let shared = Arc::new(Shared {
        service,
        tls,
        connections: Arc::new(Semaphore::new(options.connections_max)),
        options,
        refusals: Mutex::default(),
    });
    let (closing, closed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                // A stranger too many is dropped without a word, and comes again.
                Ok((tcp, address)) => if let Ok(stranger) = strangers.clone().try_acquire_owned() {
                    tasks.spawn(attend(shared.clone(), tcp, address, stranger, closed.clone()));
                },
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection of a peer");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        report(ended);
    }
    Ok(())
}

/// A panic ends one request or connection, never the node; the panic hook has said where it was.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a panic while a peer was served");
    }
}

/// One connection from accept to end. `stranger` is given back as soon as the peer is known.
async fn attend(
    shared: Arc<Shared>,
    tcp: TcpStream,
    address: SocketAddr,
    stranger: OwnedSemaphorePermit,
    mut closed: watch::Receiver<bool>,
) {
    let greeted = tokio::select! {
        biased;
        () = told(&mut closed) => return,
        greeted = timeout(shared.options.handshake_timeout, greet(&shared, tcp)) => greeted,
    };
    let (hello, reader, writer) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return shared.refused(address, &error.to_string()),
        Err(_) => return shared.refused(address, "it did not say who it is"),
    };
    drop(stranger);
    let Ok(_place) = shared.connections.clone().try_acquire_owned() else {
        return shared.refused(address, "there are too many connections of peers");
    };
    let lane = hello.lane;
    let node = hello.identity.node;
    tracing::debug!(peer = %address, node, %lane, "a peer has connected");
    let over = serve(&shared, hello, reader, writer, closed).await;
    match over.fault {
        true => tracing::warn!(peer = %address, node, %lane, why = over.why, "connection closed"),
        false => tracing::debug!(peer = %address, node, %lane, why = over.why, "connection over"),
    }
}

/// Resolves when the listener ends.
async fn told(closed: &mut watch::Receiver<bool>) {
    // An error means that it is gone already.
    let _ = closed.wait_for(|closed| *closed).await;
}

async fn greet(
    shared: &Shared,
    tcp: TcpStream,
) -> Result<(Hello, Reader<Source>, Sink), hello::Error> {
    tcp.set_nodelay(true)?;
    let (reader, mut writer) = shared.tls.accept(tcp).await?;
    let mut reader = Reader::new(reader, HELLO_BYTES_MAX);
    let hello = hello::accept(&mut reader, &mut writer, &*shared.service).await?;
    Ok((hello, reader, writer))
}

/// Serves a peer that is known until its connection is over and its requests have ended.
async fn serve(
    shared: &Shared,
    hello: Hello,
    reader: Reader<Source>,
    writer: Sink,
    closed: watch::Receiver<bool>,
) -> Over {
    let options = &shared.options;
    let link = Link::new(hello.lane);
    let mut served = Served {
        service: shared.service.clone(),
        peer: Arc::new(hello.identity),
        lane: hello.lane,
        link: link.clone(),
        places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        bytes: Arc::new(Semaphore::new(REQUEST_BYTES_MAX)),
        arriving: None,
        tasks: JoinSet::new(),
    };
    let ear = Ear::new(reader, options.ping_every, options.silent_pings_max);
    let mut writing = JoinSet::new();
    let (writer_link, ping_every) = (link.clone(), options.ping_every);
    writing.spawn(async move { writer_link.write(writer, ping_every).await });
    let over = tokio::select! {
        biased;
        why = link.over() => Over { why: why.to_string(), fault: false },
        over = served.attend(ear, closed, options.grace) => over,
    };
    if over.fault {
        link.goodbye(&over.why);
    }
    // What waits is written, if the peer takes it.
    link.close();
    let written = async { while writing.join_next().await.is_some() {} };
    // Whether it did or not: the connection is over.
    let _ = timeout(options.grace, written).await;
    link.end(&over.why);
    served.finish().await;
    over
}

/// A connection whose peer is served.
struct Served {
    service: Arc<dyn Service>,
    peer: Arc<Identity>,
    lane: Lane,
    link: Arc<Link>,
    /// For requests.
    places: Arc<Semaphore>,
    /// For the bytes of requests.
    bytes: Arc<Semaphore>,
    /// A request of which parts have come. A sound peer sends one at a time.
    arriving: Option<Arriving>,
    tasks: JoinSet<()>,
}

/// A request of which parts have come.
struct Arriving {
    id: u64,
    bytes: BytesMut,
    room: OwnedSemaphorePermit,
}

impl Served {
    /// Deals with what comes until the connection is over, or `closed` and all has ended that was
    /// under way.
    async fn attend(
        &mut self,
        mut ear: Ear<Source>,
        mut closed: watch::Receiver<bool>,
        grace: Duration,
    ) -> Over {
        let mut closed_meanwhile = closed.clone();
        loop {
            tokio::select! {
                biased;
                () = told(&mut closed) => break,
                Some(ended) = self.tasks.join_next() => report(ended),
                incoming = self.link.next(&mut ear) => match incoming {
                    Ok(incoming) => tokio::select! {
                        biased;
                        () = told(&mut closed_meanwhile) => break,
                        begun = self.begin(incoming) => if let Err(over) = begun {
                            return over;
                        },
                    },
                    Err(over) => return over,
                },
            }
        }
        self.link.goodbye(ENDING);
        self.arriving = None;
        let end = Instant::now() + grace;
        while !self.tasks.is_empty() {
            tokio::select! {
                biased;
                () = sleep_until(end) => break,
                Some(ended) = self.tasks.join_next() => report(ended),
                incoming = self.link.next(&mut ear) => match incoming {
                    Ok(Incoming::Request(id, _)) => self.link.fail(id, ENDING),
                    Ok(Incoming::Stream(stream, _)) => stream.reset(ENDING),
                    // What lacks its last part has not begun.
                    Ok(Incoming::Part(..) | Incoming::Abandon(_) | Incoming::Goodbye(_)) => {}
                    Err(over) => return over,
                },
            }
        }
        Over {
            why: ENDING.into(),
            fault: false,
        }
    }

    /// Begins what the peer wants. Waits for a place and for bytes, and nothing more is read
    /// meanwhile: that holds the peer.
    async fn begin(&mut self, incoming: Incoming) -> Result<(), Over> {
        match incoming {
            Incoming::Request(id, request) => {
                let place = self.places.clone().acquire_owned().await;
                let (request, room) = self.whole(id, request).await?;
                self.answer(id, request, (place, room));
            }
            Incoming::Part(id, part) => {
                let arrived = self.join(id, part).await?;
                self.arriving = Some(arrived);
            }
            Incoming::Abandon(id) => {
                // It may have been given up before the first part was on its way.
                self.arriving.take_if(|arriving| arriving.id == id);
            }
            Incoming::Stream(stream, opening) => {
                let service = self.service.clone();
                self.tasks
                    .spawn(service.stream(self.peer.clone(), opening, stream));
            }
            // It calls no more; what it has called for is answered.
            Incoming::Goodbye(_) => {}
        }
        Ok(())
    }

    /// A request with its room, from its last part, which may be all of it.
    async fn whole(&mut self, id: u64, last: Bytes) -> Result<(Bytes, OwnedSemaphorePermit), Over> {
        if self
            .arriving
            .as_ref()
            .is_some_and(|arriving| arriving.id == id)
        {
            let arrived = self.join(id, last).await?;
            return Ok((arrived.bytes.freeze(), arrived.room));
        }
        let room = self.room(last.len()).await?;
        Ok((last, room))
    }

    /// The request that arrives, with one more part. What runs gives its room back, whatever
    /// arrives, so there is enough for one of the greatest length.
    async fn join(&mut self, id: u64, part: Bytes) -> Result<Arriving, Over> {
        let arrived_bytes = match &self.arriving {
            Some(arriving) if arriving.id != id => {
                return Err(Over::fault("two requests in parts at the same time"));
            }
            Some(arriving) => arriving.bytes.len(),
            None => 0,
        };
        if arrived_bytes + part.len() > REQUEST_BYTES_MAX {
            return Err(Over::fault("a request that is longer than allowed"));
        }
        let room = self.room(part.len()).await?;
        Ok(match self.arriving.take() {
            Some(mut arriving) => {
                arriving.bytes.extend_from_slice(&part);
                arriving.room.merge(room);
                arriving
            }
            None => Arriving {
                id,
                bytes: BytesMut::from(&part[..]),
                room,
            },
        })
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Over> {
        let bytes = u32::try_from(bytes).expect("a body is within its limit");
        let room = self.bytes.clone().acquire_many_owned(bytes).await;
        room.map_err(|_| Over::fault("the connection is over"))
    }

    fn answer<P: Send + 'static>(&mut self, id: u64, request: Bytes, place: P) {
        let owed = Owed {
            link: self.link.clone(),
            id,
            paid: false,
        };
        let service = self.service.clone();
        let answer = service.request(self.peer.clone(), self.lane, request);
        self.tasks.spawn(async move {
            let answer = answer.await;
            owed.pay(answer).await;
            drop(place);
        });
    }

    /// Waits for what is still under way: its caller is gone, and it is not cut off.
    async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }
}

/// An answer that the peer waits for. If the request panics it is told so.
struct Owed {
    link: Arc<Link>,
    id: u64,
    paid: bool,
}

impl Owed {
    async fn pay(mut self, answer: Bytes) {
        self.paid = true;
        self.link.answer(self.id, answer).await;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.paid {
            self.link.fail(self.id, "the request failed");
        }
    }
}

impl Shared {
    /// Logs that a connection was refused, the same thing not again and again.
    fn refused(&self, peer: SocketAddr, why: &str) {
        let mut refusals = self.refusals.lock();
        let known = refusals
            .as_ref()
            .is_some_and(|(last, at)| last == why && at.elapsed() < LOG_AGAIN_AFTER);
        if !known {
            *refusals = Some((why.to_owned(), Instant::now()));
            tracing::info!(%peer, why, "a connection between nodes was refused");
        }
    }
}
