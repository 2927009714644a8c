//! What each service creates: a private table that nobody else can see, an integration table
//! whose schema is the contract, and the grants.

use tokio_postgres::Client;

use super::{SERVICES, Url};
use crate::Failure;

/// The service `customers`.
const CUSTOMERS: &str = "
    CREATE TABLE customer (
        id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, internal_note text);
    CREATE TABLE public.customer_v1 (id bigint PRIMARY KEY, name text NOT NULL);
    GRANT READ ON customer_* TO orders, billing;";

/// The service `orders`. Its private row has what nobody else is to know.
const ORDERS: &str = "
    CREATE TABLE \"order\" (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id bigint NOT NULL,
        cents bigint NOT NULL CHECK (cents > 0), purchase_price_cents bigint NOT NULL,
        state text NOT NULL DEFAULT 'placed');
    CREATE TABLE public.order_v1 (
        id bigint PRIMARY KEY, customer_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
        state text NOT NULL);
    GRANT READ ON order_* TO billing;";

/// The service `billing`: its own copy of what it needs, and its cursor beside it, which counts
/// the changes that it has taken.
const BILLING: &str = "
    CREATE TABLE invoice (
        order_id bigint PRIMARY KEY, customer text NOT NULL, amount numeric(12,2) NOT NULL,
        state text NOT NULL);
    CREATE TABLE feed_cursor (
        id integer PRIMARY KEY, position pg_lsn, changes bigint NOT NULL);
    INSERT INTO feed_cursor VALUES (1, NULL, 0);";

/// Creates the roles as the superuser, and everything else as the services themselves.
pub async fn create(admin: &Client, url: &Url) -> Result<(), Failure> {
    for role in SERVICES {
        let statement = format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", url.password);
        admin.batch_execute(&statement).await?;
    }
    for (role, statements) in SERVICES.iter().zip([CUSTOMERS, ORDERS, BILLING]) {
        url.connect(role).await?.batch_execute(statements).await?;
    }
    Ok(())
}
