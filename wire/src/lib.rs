//! Bytes from PostgreSQL clients to messages and back.
