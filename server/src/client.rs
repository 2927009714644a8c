//! Connections of the program's own commands, as any client of PostgreSQL makes them.

use tokio_postgres::{Client, NoTls};

use crate::Failure;

/// Connects, and lets the connection run beside.
pub async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // An error of the connection reaches the client's next call.
    tokio::spawn(connection);
    Ok(client)
}
