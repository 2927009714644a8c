//! Tables materialized from the journal.
