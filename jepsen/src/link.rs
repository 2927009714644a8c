//! One client connection: statements with a time limit, and what their ends mean for a transaction.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::{PgLsn, Type};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Row, SimpleQueryMessage, Socket,
};

use crate::error::{Error, Result};

/// Longest wait for an answer under load. Beyond it the server is taken to hang.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Longest wait for the harness's own reads of everything.
pub const READ_MAX: Duration = Duration::from_secs(120);

/// Longest wait for one of several nodes to let a client in, before the next one is tried: a
/// paused node accepts connections and says nothing.
const NODE_MAX: Duration = Duration::from_secs(2);

/// Where the server listens: one node, or several that are all as good.
#[derive(Clone, Debug)]
pub struct Address {
    nodes: Arc<[SocketAddr]>,
    /// Where the next connection goes first.
    next: Arc<AtomicUsize>,
    database: &'static str,
    password: Option<&'static str>,
}

impl Address {
    /// Of nodes that need no password.
    pub fn new(nodes: &[SocketAddr], database: &'static str) -> Address {
        Address {
            nodes: nodes.into(),
            next: Arc::default(),
            database,
            password: None,
        }
    }

    /// The same, every role having this password.
    pub fn with_password(self, password: Option<&'static str>) -> Address {
        Address { password, ..self }
    }

    /// What roles are made with.
    pub fn password(&self) -> Option<&'static str> {
        self.password
    }

    /// One of the nodes alone.
    pub fn only(&self, node: usize) -> Address {
        Address {
            nodes: Arc::from([self.nodes[node]]),
            next: Arc::default(),
            ..self.clone()
        }
    }

    /// The nodes but these.
    pub fn without(&self, gone: &[usize]) -> Address {
        let all = self.nodes.iter().enumerate();
        let left = all.filter(|(node, _)| !gone.contains(node));
        Address {
            nodes: left.map(|(_, place)| *place).collect(),
            next: Arc::default(),
            ..self.clone()
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes in the order in which the next connection tries them.
    fn turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.next.fetch_add(1, Ordering::Relaxed), self.len());
        (0..count).map(move |step| (first + step) % count)
    }
}

/// Why a statement gave nothing.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The server said no.
    Refused {
        /// SQLSTATE.
        state: String,
        /// Primary message and detail.
        message: String,
    },
    /// The connection broke.
    Lost(String),
    /// No answer for so long.
    Silent(Duration),
}

impl Failure {
    /// Whether the connection can't be used any more.
    pub fn is_end(&self) -> bool {
        match self {
            Failure::Refused { state, .. } => state.starts_with("57P") || state.starts_with("08"),
            Failure::Lost(_) | Failure::Silent(_) => true,
        }
    }

    fn of(error: &tokio_postgres::Error) -> Failure {
        match error.as_db_error() {
            Some(db) => Failure::Refused {
                state: db.code().code().to_owned(),
                message: match db.detail() {
                    Some(detail) => format!("{} ({detail})", db.message()),
                    None => db.message().to_owned(),
                },
            },
            None => Failure::Lost(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { state, message } => write!(f, "{state} {message}"),
            Failure::Lost(what) => write!(f, "connection lost: {what}"),
            Failure::Silent(limit) => write!(f, "no answer within {} s", limit.as_secs()),
        }
    }
}

/// How a transaction ended, as its client knows it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Committed: it must be there for ever.
    Acknowledged,
    /// Certainly not committed: it may never be seen.
    Failed(Failure),
    /// Asked for and not answered: there once and whole, or not at all.
    Unknown(Failure),
}

impl Outcome {
    /// Of what came back for a COMMIT or for a statement outside a transaction block.
    pub fn of_commit<T>(answer: &std::result::Result<T, Failure>) -> Outcome {
        match answer {
            Ok(_) => Outcome::Acknowledged,
            Err(failure) => match failure {
                Failure::Refused { .. } if !failure.is_end() => Outcome::Failed(failure.clone()),
                _ => Outcome::Unknown(failure.clone()),
            },
        }
    }

    /// The failure, if it isn't acknowledged.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Outcome::Acknowledged => None,
            Outcome::Failed(failure) | Outcome::Unknown(failure) => Some(failure),
        }
    }
}

/// Which of PostgreSQL's two protocols a connection uses for its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// One Query message.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync.
    Extended,
}

/// A row of values in text form.
pub type Texts = Vec<Option<String>>;

/// One connection.
pub struct Link {
    client: Client,
    driver: JoinHandle<()>,
    protocol: Protocol,
    warnings: Arc<AtomicU64>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects as `user` to the node whose turn it is, or to another one if that doesn't let in.
    pub async fn open(
        address: &Address,
        user: &str,
        protocol: Protocol,
    ) -> std::result::Result<Link, Failure> {
        let mut last = Failure::Lost("there is no node".into());
        for node in address.turn() {
            match Link::open_at(address, node, user, protocol).await {
                Ok(link) => return Ok(link),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn open_at(
        address: &Address,
        node: usize,
        user: &str,
        protocol: Protocol,
    ) -> std::result::Result<Link, Failure> {
        let place = address.nodes[node];
        let limit = if address.len() > 1 {
            NODE_MAX
        } else {
            ANSWER_MAX
        };
        let mut config = Config::new();
        config
            .host(place.ip().to_string())
            .port(place.port())
            .user(user)
            .dbname(address.database);
        config.connect_timeout(limit).application_name("jepsen");
        if let Some(password) = address.password {
            config.password(password);
        }
        let opened = timeout(limit, config.connect(NoTls)).await;
        let (client, connection) = opened
            .map_err(|_| Failure::Silent(limit))?
            .map_err(|error| Failure::of(&error))?;
        let warnings = Arc::default();
        let driver = tokio::spawn(drive(connection, Arc::clone(&warnings)));
        Ok(Link {
            client,
            driver,
            protocol,
            warnings,
        })
    }

    /// How many warnings (01000) have come so far; those of a statement before its answer.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::SeqCst)
    }

    /// Connects for the harness's own needs: not to be let in is an error.
    pub async fn demand(address: &Address, user: &str) -> Result<Link> {
        let opened = Link::open(address, user, Protocol::Simple).await;
        opened.map_err(|failure| Error::Victim(format!("{user} could not connect: {failure}")))
    }

    /// Runs one statement by this connection's protocol; its rows as text.
    pub async fn run(&self, sql: &str) -> std::result::Result<Vec<Texts>, Failure> {
        self.run_within(sql, ANSWER_MAX).await
    }

    async fn run_within(
        &self,
        sql: &str,
        limit: Duration,
    ) -> std::result::Result<Vec<Texts>, Failure> {
        let answer = match self.protocol {
            Protocol::Simple => timeout(limit, self.simple(sql)).await,
            Protocol::Extended => timeout(limit, self.extended(sql)).await,
        };
        answer
            .map_err(|_| Failure::Silent(limit))?
            .map_err(|error| Failure::of(&error))
    }

    async fn simple(&self, sql: &str) -> std::result::Result<Vec<Texts>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|i| row.get(i).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    async fn extended(&self, sql: &str) -> std::result::Result<Vec<Texts>, tokio_postgres::Error> {
        let rows = self.client.query(sql, &[]).await?;
        Ok(rows.iter().map(texts).collect())
    }

    /// Runs a statement of the harness itself, which has to succeed.
    pub async fn must(&self, sql: &str) -> Result<Vec<Texts>> {
        self.run_within(sql, READ_MAX)
            .await
            .map_err(|failure| Error::Statement {
                statement: sql.chars().take(200).collect(),
                failure,
            })
    }

    /// The driver's own client, for parameters and prepared statements.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs a driver call under the answer limit.
    pub async fn limited<T>(
        call: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> std::result::Result<T, Failure> {
        let answer = timeout(ANSWER_MAX, call).await;
        answer
            .map_err(|_| Failure::Silent(ANSWER_MAX))?
            .map_err(|error| Failure::of(&error))
    }
}

/// Reads a connection until it ends, which shows as the failure of whatever is asked next.
async fn drive(mut connection: Connection<Socket, NoTlsStream>, warnings: Arc<AtomicU64>) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message
            && *notice.code() == SqlState::WARNING
        {
            warnings.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// All values of a binary row in text form.
pub fn texts(row: &Row) -> Texts {
    (0..row.len()).map(|index| text_of(row, index)).collect()
}

/// The text form of a binary value, for the types that the workloads read.
fn text_of(row: &Row, index: usize) -> Option<String> {
    let ty = row.columns()[index].type_();
    match *ty {
        Type::BOOL => row.get::<_, Option<bool>>(index).map(|v| v.to_string()),
        Type::INT2 => row.get::<_, Option<i16>>(index).map(|v| v.to_string()),
        Type::INT4 => row.get::<_, Option<i32>>(index).map(|v| v.to_string()),
        Type::INT8 => row.get::<_, Option<i64>>(index).map(|v| v.to_string()),
        Type::PG_LSN => row.get::<_, Option<PgLsn>>(index).map(|v| v.to_string()),
        Type::JSON | Type::JSONB => row
            .get::<_, Option<serde_json::Value>>(index)
            .map(|v| v.to_string()),
        Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::UNKNOWN => {
            row.get::<_, Option<String>>(index)
        }
        _ => Some(format!("(a value of type {ty})")),
    }
}

/// The integer in column `index` of a text row.
pub fn integer(row: &Texts, index: usize) -> Option<i64> {
    row.get(index)?.as_deref()?.parse().ok()
}

/// The text in column `index` of a text row, empty if NULL or missing.
pub fn text(row: &Texts, index: usize) -> &str {
    row.get(index)
        .and_then(|value| value.as_deref())
        .unwrap_or("")
}
