//! What the node tells over HTTP: `/metrics` for Prometheus, `/health/live` and `/health/ready`
//! for whoever starts nodes and sends clients to them. Numbers and names of owners, no data.
//!
//! It has a thread of its own: a node that computes with all others still answers its probes, and
//! nobody who asks takes time from Raft. Each connection carries one request. Everything has a
//! limit: connections, the request's head, the time for it and for the whole connection.

mod health;
mod metrics;
mod process;
mod text;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use journal::Journal;
use parking_lot::RwLock;
use serde_json::json;
use sql::engine::Engine;
use sql::meter::Latencies;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::Failure;
use crate::changes::FeedMeter;
use crate::cluster::Cluster;
use crate::drain::Drain;

/// Connections at once; one more is closed without a word.
const CONNECTIONS_MAX: usize = 64;
/// The head of a request, and how many lines it has; the least that hyper takes.
const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// A request's head must be here by then.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// The answer must have been read by then.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(15);
/// The pause after a failed accept (no file descriptors left, mostly), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a running node is asked for its metrics and its health.
pub struct Told {
    /// Its journal.
    pub journal: Journal,
    /// How long the journal's fsyncs take.
    pub fsyncs: Arc<Latencies>,
    /// Its groups.
    pub raft: Arc<raft::Node>,
    /// Its sessions.
    pub engine: Arc<Engine>,
    /// Whether it gives its leaderships away.
    pub drain: Arc<Drain>,
    /// The other nodes, and what is followed.
    pub cluster: Arc<Cluster>,
    /// Who reads its feed.
    pub feed: Arc<FeedMeter>,
    /// `--max-connections`.
    pub connections_max: u32,
    /// `--erase-after`.
    pub erase_after: Duration,
}

/// Where a node is in its life.
pub enum Stage {
    /// Not serving yet; what it does meanwhile or waits for.
    Starting(&'static str),
    /// Clients can connect.
    Serving(Told),
    /// It was asked to end.
    Ending,
}

/// The listener of a node; dropped, it ends.
pub struct Http {
    address: SocketAddr,
    stage: Arc<RwLock<Stage>>,
    ending: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves HTTP at an address from now on, on a thread of its own.
pub fn serve(address: SocketAddr) -> Result<Http, Failure> {
    let listener = std::net::TcpListener::bind(address).map_err(|e| {
        format!("can't serve HTTP on {address}: {e}; choose another address with --http")
    })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stage = Arc::new(RwLock::new(Stage::Starting("it has just begun")));
    let (ending, ended) = oneshot::channel();
    let shown = stage.clone();
    let run = move || {
        runtime.block_on(async {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, shown, ended).await,
                Err(error) => tracing::error!(%error, "HTTP is not served"),
            }
        });
    };
    let thread = std::thread::Builder::new().name("http".into()).spawn(run)?;
    tracing::info!(%address, "serving HTTP");
    Ok(Http {
        address,
        stage,
        ending: Some(ending),
        thread: Some(thread),
    })
}

impl Http {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node has come to the next stage of its life.
    pub fn enter(&self, stage: Stage) {
        *self.stage.write() = stage;
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        drop(self.ending.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that served HTTP had panicked");
        }
    }
}

/// Accepts connections until `ended` resolves.
async fn accept(listener: TcpListener, stage: Arc<RwLock<Stage>>, ended: impl Future) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    // Dropped, the socket is closed.
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        tokio::spawn(attend(socket, stage.clone(), place));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection for HTTP");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One connection: one request, one answer.
async fn attend(socket: TcpStream, stage: Arc<RwLock<Stage>>, place: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<Incoming>| {
        let stage = stage.clone();
        async move {
            let path = request.uri().path();
            if path == METRICS {
                look_around(&stage).await;
            }
            let response = answer(&stage.read(), request.method(), path);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    match timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request over HTTP failed"),
        Err(_) => tracing::debug!("a client of HTTP does not read its answer"),
    }
    drop(place);
}

const INDEX: &str = "Freehold\n\n\
    /metrics       metrics for Prometheus\n\
    /health/live   200 while the process runs\n\
    /health/ready  200 while clients should be sent here, 503 and why if not\n";

const METRICS: &str = "/metrics";
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What other nodes know is asked before the metrics are told.
async fn look_around(stage: &RwLock<Stage>) {
    let cluster = match &*stage.read() {
        Stage::Serving(told) => told.cluster.clone(),
        Stage::Starting(_) | Stage::Ending => return,
    };
    cluster.await_copies_everywhere().await;
}

fn answer(stage: &Stage, method: &Method, path: &str) -> Response<String> {
    let known = ["/", METRICS, "/health/live", "/health/ready"].contains(&path);
    if !known {
        return response(
            StatusCode::NOT_FOUND,
            PLAIN,
            "there is nothing here\n".into(),
        );
    }
    if method != Method::GET && method != Method::HEAD {
        let text = "only GET and HEAD are answered\n".into();
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match path {
        METRICS => response(StatusCode::OK, text::CONTENT_TYPE, metrics::collect(stage)),
        "/health/live" => response(StatusCode::OK, JSON, json!({ "live": true }).to_string()),
        "/health/ready" => {
            let reasons = health::reasons(stage);
            let status = match reasons.is_empty() {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            response(status, JSON, health::body(&reasons).to_string())
        }
        _ => response(StatusCode::OK, PLAIN, INDEX.into()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
