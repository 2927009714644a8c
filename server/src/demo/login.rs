//! A role's connection that goes on at another node when its own one falls, as any service's does.

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Row, SimpleQueryMessage};

use crate::Failure;

/// For so long a statement is done again.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Before it is done again.
pub const PAUSE: Duration = Duration::from_millis(100);
/// A node that does not answer for so long is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What passes by itself, of the server's answers: nothing has happened (40001, a deadlock), nobody leads
/// just now, the node ends, a wait was too long, what happened is not known.
const PASSES: &[&str] = &[
    "40001", "40P01", "57P03", "57P01", "57014", "OW002", "OW003", "08007", "08006",
];

/// One role at one or several nodes, the first one that answers.
pub struct Login {
    config: Config,
    client: Option<Client>,
}

impl Login {
    /// Connects when it is first used.
    pub fn new(role: &str, ports: &[u16]) -> Login {
        let mut config = Config::new();
        config.user(role).dbname("freehold");
        config
            .application_name("demo")
            .connect_timeout(CONNECT_TIMEOUT);
        for port in ports {
            config.host("127.0.0.1").port(*port);
        }
        Login {
            config,
            client: None,
        }
    }

    /// The same, to see what the node itself has.
    pub fn local(role: &str, port: u16) -> Login {
        let mut login = Login::new(role, &[port]);
        login.config.options("-c freehold.read=local");
        login
    }

    /// The connection, a new one if the old one broke.
    pub async fn client(&mut self) -> Result<&mut Client, Error> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let (client, connection) = self.config.connect(tokio_postgres::NoTls).await?;
                // An error of the connection reaches the client's next call.
                tokio::spawn(connection);
                client
            }
        };
        Ok(self.client.insert(client))
    }

    /// A statement that has one effect however often it is done, until it is done.
    pub async fn rows(
        &mut self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let begun = Instant::now();
        loop {
            let done = match self.client().await {
                Ok(client) => client.query(statement, values).await,
                Err(error) => Err(error),
            };
            if let Some(done) = settled(done, begun).await {
                return done;
            }
        }
    }

    /// The same of one that has a row.
    pub async fn row(
        &mut self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Failure> {
        let mut rows = self.rows(statement, values).await?;
        rows.pop()
            .ok_or_else(|| format!("no row: {statement}").into())
    }

    /// Statements that are one transaction, until they are done; the rows that the last one has written.
    pub async fn run(&mut self, statements: &str) -> Result<u64, Failure> {
        let begun = Instant::now();
        let done = loop {
            let done = match self.client().await {
                Ok(client) => client.simple_query(statements).await,
                Err(error) => Err(error),
            };
            if let Some(done) = settled(done, begun).await {
                break done?;
            }
        };
        match done.last() {
            Some(SimpleQueryMessage::CommandComplete(rows)) => Ok(*rows),
            _ => Ok(0),
        }
    }
}

/// `None`, after a pause: it is done again.
async fn settled<T>(done: Result<T, Error>, begun: Instant) -> Option<Result<T, Failure>> {
    match done {
        Err(error) if passes(&error) && begun.elapsed() < PATIENCE => {
            tokio::time::sleep(PAUSE).await;
            None
        }
        done => Some(done.map_err(Failure::from)),
    }
}

/// May it be otherwise the next time? So may whatever is no answer of a server: the connection broke.
pub fn passes(error: &Error) -> bool {
    error
        .as_db_error()
        .is_none_or(|answer| PASSES.contains(&answer.code().code()))
}
