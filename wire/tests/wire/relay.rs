//! A client, a gateway and a home in one process: what passes between them, cut at every byte; what
//! is left when one of them goes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use wire::{
    Config, Connection, Event, Fate, Key, Link, LinkWatch, Private, Relay, Serve, Startup,
    TransactionStatus,
};

use crate::raw::{Answer, Raw, bind, extended, frame, query, sync};
use crate::server::{Echo, Roles, Server};

/// One end of a pipe between two nodes.
struct Pipe {
    stream: DuplexStream,
    /// Bytes that this end may still read; then the other one is dead.
    left: usize,
    /// Bytes that this end has written.
    written: Arc<AtomicUsize>,
    gone: watch::Receiver<bool>,
    _alive: watch::Sender<bool>,
}

/// Two ends with so many bytes on the way. The first one reads at most `left` bytes.
fn pipe(size: usize, left: usize) -> (Pipe, Pipe) {
    let (a, b) = tokio::io::duplex(size);
    let (alive_a, gone_a) = watch::channel(false);
    let (alive_b, gone_b) = watch::channel(false);
    let end = |stream, left, gone, alive| Pipe {
        stream,
        left,
        written: Arc::default(),
        gone,
        _alive: alive,
    };
    (
        end(a, left, gone_b, alive_a),
        end(b, usize::MAX, gone_a, alive_b),
    )
}

impl Link for Pipe {
    fn watch(&self) -> LinkWatch {
        let gone = self.gone.clone();
        Arc::new(move || {
            let mut gone = gone.clone();
            Box::pin(async move {
                let _ = gone.wait_for(|gone| *gone).await;
            }) as Pin<Box<dyn Future<Output = ()> + Send>>
        })
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut bytes = vec![0; into.remaining().min(self.left)];
        let mut some = ReadBuf::new(&mut bytes);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut some);
        let read = some.filled();
        self.left -= read.len();
        into.put_slice(read);
        polled
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.written.fetch_add(written, Ordering::SeqCst);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A relay has ended.
#[derive(Debug)]
struct Told {
    event: Result<Event, wire::Error>,
    fate: Fate,
    states: usize,
}

/// Serves each connection by relays to the homes that the test gives, one after the other.
struct Gate {
    homes: tokio::sync::Mutex<mpsc::UnboundedReceiver<Pipe>>,
    told: mpsc::UnboundedSender<Told>,
    /// What is answered in place of a home that has died: nothing, or this error.
    instead: Mutex<Option<&'static str>>,
}

impl Serve for Gate {
    async fn serve(self: Arc<Self>, mut connection: Connection, _: Startup) {
        let key = Key::random(1);
        connection.parameter_status("client_encoding", "UTF8");
        connection.backend_key(key.pid(), key.secret());
        connection.ready(TransactionStatus::Idle);
        connection.flush().await.unwrap();
        let mut homes = self.homes.lock().await;
        let mut status = TransactionStatus::Idle;
        let mut muted = 0;
        loop {
            let Some(home) = homes.recv().await else {
                return;
            };
            let mut states = 0;
            let mut keep = |_: &[u8]| {
                states += 1;
                Ok(())
            };
            let first = Bytes::from_static(b"session");
            let fate = Fate::new(status, muted);
            let mut relay = Relay::new(&mut connection, Box::new(home), first, fate, &mut keep);
            let event = relay.run().await;
            let fate = relay.end();
            status = fate.status;
            muted = match &event {
                Ok(Event::Elsewhere { answered, .. }) => *answered,
                _ => 0,
            };
            let goes_on = matches!(event, Ok(Event::Elsewhere { .. } | Event::Broken(_)));
            let torn = fate.torn;
            let answered = fate.answered;
            let broken = matches!(event, Ok(Event::Broken(_)));
            let ended = Told {
                event,
                fate,
                states,
            };
            let _ = self.told.send(ended);
            if !goes_on || torn {
                let _ = connection.close().await;
                return;
            }
            if broken && !answered {
                connection.retract();
            }
            connection.flush().await.unwrap();
            let instead = *self.instead.lock().unwrap();
            if let Some(code) = instead
                && broken
            {
                connection.error(&wire::ErrorFields::error(code, "the home has gone"));
                if !connection.skip_turn(fate.ignored).await.unwrap() {
                    return;
                }
                connection.ready(TransactionStatus::Idle);
                connection.flush().await.unwrap();
            }
        }
    }

    fn cancel(&self, _: i32, _: i32) {}
}

struct Gateway {
    address: SocketAddr,
    homes: mpsc::UnboundedSender<Pipe>,
    told: mpsc::UnboundedReceiver<Told>,
    gate: Arc<Gate>,
    echo: Arc<Echo>,
}

impl Gateway {
    async fn start() -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (homes, given) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let gate = Arc::new(Gate {
            homes: tokio::sync::Mutex::new(given),
            told: tell,
            instead: Mutex::default(),
        });
        let never = std::future::pending();
        tokio::spawn(wire::run(
            listener,
            Config::default(),
            Arc::new(Roles),
            gate.clone(),
            never,
        ));
        Gateway {
            address,
            homes,
            told,
            gate,
            echo: Arc::default(),
        }
    }

    /// A home that echoes, over a pipe of which the gateway reads at most `left` bytes.
    fn home(&self, size: usize, left: usize) -> tokio::task::JoinHandle<Result<(), wire::Error>> {
        let (ours, theirs) = pipe(size, left);
        self.homes
            .send(ours)
            .unwrap_or_else(|_| panic!("it has ended"));
        tokio::spawn(self.echo.clone().home(Box::new(theirs), Config::default()))
    }

    /// The home's end of a pipe, to be played by the test.
    fn played(&self, size: usize) -> Connection {
        let (ours, theirs) = pipe(size, usize::MAX);
        self.homes
            .send(ours)
            .unwrap_or_else(|_| panic!("it has ended"));
        Connection::over(Box::new(theirs), &Config::default())
    }

    async fn login(&self) -> Raw {
        Raw::login(self.address, "trusted").await
    }

    async fn told(&mut self) -> Told {
        tokio::time::timeout(crate::raw::PATIENCE, self.told.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

/// A bit of everything, ended by Terminate.
fn script() -> Vec<u8> {
    let long = "x".repeat(100_000);
    let pieces: [Vec<u8>; 16] = [
        query("simple"),
        query(""),
        extended("one"),
        sync(),
        extended("two"),
        frame(b'H', b""),
        extended(&long),
        sync(),
        frame(b'B', b"\0none\0\0\0\0\0\0\0"),
        frame(b'C', b"S\0"),
        sync(),
        query("copy in"),
        frame(b'd', b"1\n"),
        frame(b'c', b""),
        query("copy out"),
        frame(b'X', b""),
    ];
    pieces.concat()
}

#[tokio::test]
async fn everything_passes_cut_at_any_byte() {
    let server = Server::trusting().await;
    let mut direct = Raw::login(server.address, "trusted").await;
    direct.send(&script()).await;
    let expected = direct.rest().await;
    assert!(expected.len() > 100_000);
    for size in [1, 2, 3, 7, 64, 4096, 1 << 20] {
        let mut gateway = Gateway::start().await;
        let mut client = gateway.login().await;
        let home = gateway.home(size, usize::MAX);
        client.send(&script()).await;
        assert!(client.rest().await == expected, "pipe of {size}");
        home.await.unwrap().unwrap();
        let told = gateway.told().await;
        assert!(matches!(told.event, Ok(Event::Ended)), "{told:?}");
        assert_eq!(told.states, 7);
        assert!(told.fate.kept && !told.fate.torn);
    }
}

#[tokio::test]
async fn one_byte_at_a_time_passes() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.login().await;
    gateway.home(1, usize::MAX);
    for byte in [extended("slow"), sync(), query("simple")].concat() {
        client.send(&[byte]).await;
    }
    assert_eq!(client.types().await, "12TDCZ");
    assert_eq!(client.types().await, "TDCZ");
    client.send(&frame(b'X', b"")).await;
    assert!(matches!(gateway.told().await.event, Ok(Event::Ended)));
}

/// The home dies after each byte that it could have sent: the client gets whole messages, then the
/// error of the gateway, and goes on at another home.
#[tokio::test]
async fn a_home_that_dies_leaves_no_half_message() {
    let turn = [extended("dying"), sync()].concat();
    // Resume is not of the home; its answer is 1, 2, T, D, C, a private frame and Z.
    let mut left = 0;
    loop {
        let mut gateway = Gateway::start().await;
        *gateway.gate.instead.lock().unwrap() = Some("08007");
        let mut client = gateway.login().await;
        gateway.home(4096, left);
        client.send(&turn).await;
        let types = client.types().await;
        if types == "12TDCZ" {
            break;
        }
        assert!(types.ends_with("EZ"), "{types} after {left} bytes");
        assert!("12TDCZ".starts_with(types.trim_end_matches("EZ")));
        let told = gateway.told().await;
        assert!(matches!(told.event, Ok(Event::Broken(_))), "{told:?}");
        assert!(!told.fate.torn && told.fate.kept);
        // Without a byte it may have died before the client said anything.
        assert_eq!((told.fate.idle && left > 0, told.states), (false, 0));
        gateway.home(4096, usize::MAX);
        client.send(&turn).await;
        assert_eq!(client.types().await, "12TDCZ");
        left += 1;
    }
    assert!(left > 80, "{left}");
}

#[tokio::test]
async fn a_long_message_that_is_cut_closes_the_connection() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.login().await;
    // More than is held back, less than all of it.
    gateway.home(4096, 200_000);
    client.send(&query(&"long".repeat(100_000))).await;
    assert_eq!(client.answer().await.message_type, 'T');
    let rest = client.rest().await;
    assert_eq!(rest[0], b'D');
    assert!(rest.len() > 100_000);
    let told = gateway.told().await;
    assert!(told.fate.torn && told.fate.answered, "{told:?}");
}

#[tokio::test]
async fn the_turn_that_goes_elsewhere_is_told_there_from_its_beginning() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.login().await;
    gateway.home(64, usize::MAX);
    // The first turn stays; behind the one that goes, another one is on its way already.
    let turns = [
        query("first"),
        extended("second"),
        query("move"),
        query("third"),
    ];
    client.send(&turns.concat()).await;
    assert_eq!(client.types().await, "TDCZ");
    let told = gateway.told().await;
    assert!(matches!(
        told.event,
        Ok(Event::Elsewhere {
            group: Some(7),
            answered: 0
        })
    ));
    let mut home = gateway.played(64);
    assert_eq!(&home.resume().await.unwrap().unwrap()[..], b"session");
    let mut seen = Vec::new();
    while seen.len() < 6 {
        seen.push(format!("{:?}", home.next().await.unwrap().unwrap()));
    }
    assert!(seen[0].starts_with("Parse"), "{seen:?}");
    assert_eq!(seen[4..], ["Query(\"move\")", "Query(\"third\")"]);
    home.tell(&Private::Done {
        frames: 5,
        bound: true,
        changes: None,
    });
    home.ready(TransactionStatus::Transaction);
    home.flush().await.unwrap();
    assert_eq!(client.types().await, "Z");
    drop(home);
    let told = gateway.told().await;
    assert!(matches!(told.event, Ok(Event::Broken(_))));
    assert_eq!(told.fate.status, TransactionStatus::Transaction);
    assert!(told.fate.bound && told.fate.kept && !told.fate.idle);
}

/// What prepares may have been answered: the next home is told how much of the turn that is.
#[tokio::test]
async fn answers_to_what_prepares_stand() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.login().await;
    gateway.home(4096, usize::MAX);
    let prepare = [frame(b'P', b"\0echo\0\0\0"), bind("x"), frame(b'H', b"")];
    client.send(&prepare.concat()).await;
    assert_eq!(client.answer().await.message_type, '1');
    assert_eq!(client.answer().await.message_type, '2');
    client.send(&query("move")).await;
    let told = gateway.told().await;
    assert!(
        matches!(told.event, Ok(Event::Elsewhere { answered: 3, .. })),
        "{told:?}"
    );
    let mut home = gateway.played(4096);
    home.resume().await.unwrap().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(home.next().await.unwrap().unwrap());
    }
    drop(home);
    let told = gateway.told().await;
    assert_eq!(told.fate.muted, 3);
}

/// A turn above 1 MiB is passed on, and neither kept nor moved.
#[tokio::test]
async fn a_long_turn_stays() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.login().await;
    gateway.home(4096, usize::MAX);
    let long = [extended(&"y".repeat(2 << 20)), query("move")].concat();
    client.send(&long).await;
    // Echo, then the refusal to move.
    assert_eq!(client.types().await, "12TDCEZ");
    // The next turn is kept again.
    client
        .send(&[extended("short"), query("move")].concat())
        .await;
    let told = gateway.told().await;
    assert!(
        matches!(told.event, Ok(Event::Elsewhere { .. })),
        "{told:?}"
    );
    assert!(told.fate.kept);

    let mut home = gateway.played(4096);
    home.resume().await.unwrap().unwrap();
    let mut copied = 0;
    while copied < 5 {
        assert!(home.next().await.unwrap().is_some());
        copied += 1;
    }
    client.send(&frame(b'd', &vec![b'z'; 3 << 20])).await;
    while copied < 8 {
        copied += usize::from(matches!(
            home.next().await.unwrap().unwrap(),
            wire::Frontend::CopyData(_)
        ));
    }
    drop(home);
    let told = gateway.told().await;
    assert!(!told.fate.kept, "{told:?}");
}

#[tokio::test]
async fn what_looks_private_is_refused_from_a_client() {
    for bytes in [
        frame(b'!', b"\x02"),
        frame(b'!', b"\x06\0\0\0\0\0\0\0\0\0"),
        frame(b'?', b""),
        b"Q\xff\xff\xff\xff".to_vec(),
        b"Q\0\0\0\x02".to_vec(),
    ] {
        let server = Server::trusting().await;
        let mut direct = Raw::login(server.address, "trusted").await;
        let script = [query("before"), bytes, query("behind")].concat();
        direct.send(&script).await;
        let expected = direct.until('E').await;
        assert_eq!(expected.last().unwrap().field(b'S').unwrap(), "FATAL");
        let mut gateway = Gateway::start().await;
        let mut client = gateway.login().await;
        gateway.home(4096, usize::MAX);
        client.send(&script).await;
        let answers: Vec<Answer> = client.until('E').await;
        assert_eq!(answers, expected);
        assert_eq!(client.rest().await, b"");
        assert!(matches!(gateway.told().await.event, Ok(Event::Ended)));
    }
}

/// What may be under way: sockets' buffers, and the relay's, which are small.
const UNDER_WAY_BYTES_MAX: usize = 24 << 20;

/// A client that reads slowly holds the home.
#[tokio::test]
async fn a_slow_client_slows_the_home() {
    let gateway = Gateway::start().await;
    let mut client = gateway.login().await;
    let (ours, theirs) = pipe(4096, usize::MAX);
    let written = theirs.written.clone();
    gateway.homes.send(ours).unwrap_or_else(|_| panic!());
    let home = gateway.echo.clone();
    tokio::spawn(home.home(Box::new(theirs), Config::default()));
    client.send(&query("rows 60000")).await;
    let mut read = 0;
    loop {
        let answer = client.answer().await;
        read += answer.body.len() + 5;
        let under_way = written.load(Ordering::SeqCst) - read;
        assert!(under_way < UNDER_WAY_BYTES_MAX, "{under_way}");
        if answer.message_type == 'Z' {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(read > 60_000_000);
}

/// A home that reads slowly holds the client.
#[tokio::test]
async fn a_slow_home_slows_the_client() {
    let gateway = Gateway::start().await;
    let client = gateway.login().await;
    let (ours, theirs) = pipe(4096, usize::MAX);
    gateway.homes.send(ours).unwrap_or_else(|_| panic!());
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    // It closes when it has sent all; the home gets all nevertheless.
    tokio::spawn(async move {
        let mut client = client;
        let data = frame(b'd', &vec![b'a'; 10_000]);
        for _ in 0..6_000 {
            client.send(&data).await;
            count.fetch_add(data.len(), Ordering::SeqCst);
        }
    });
    let mut home = Connection::over(Box::new(theirs), &Config::default());
    home.resume().await.unwrap().unwrap();
    let mut read = 0;
    while read < 6_000 * 10_005 {
        let Some(wire::Frontend::CopyData(data)) = home.next().await.unwrap() else {
            panic!("something else");
        };
        read += data.len() + 5;
        let under_way = sent.load(Ordering::SeqCst).saturating_sub(read);
        assert!(under_way < UNDER_WAY_BYTES_MAX, "{under_way}");
        tokio::task::yield_now().await;
    }
    assert!(home.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_leaves_is_told_to_the_home() {
    let mut gateway = Gateway::start().await;
    let client = gateway.login().await;
    let mut home = gateway.played(4096);
    home.resume().await.unwrap().unwrap();
    let watch = home.watch_peer();
    drop(client);
    assert!(matches!(gateway.told().await.event, Ok(Event::Left)));
    watch.gone().await;
    assert!(home.next().await.unwrap().is_none());
}
