//! SQL text to transactions, with PostgreSQL's semantics.
