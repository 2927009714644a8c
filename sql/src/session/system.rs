//! System relations of sessions: pg_stat_activity, pg_locks, pg_settings, ...

use std::sync::{Arc, Weak};

use crate::engine::Engine;
use crate::system::SystemRelation;

/// The relations, over an engine that is being made.
pub(crate) fn relations(_engine: Weak<Engine>) -> Vec<Arc<dyn SystemRelation>> {
    Vec::new()
}
