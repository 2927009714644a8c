//! LISTEN and NOTIFY's checks, and the end of advisory locks.

use std::cell::RefCell;

use storage::GroupId;

use super::environment::Memory;
use crate::engine::Engine;
use crate::{Error, Result, state};

/// PostgreSQL's limit on a notification's payload.
const PAYLOAD_BYTES_MAX: usize = 8_000;

/// Checks a channel's name and a payload.
///
/// # Errors
/// 22023.
pub(super) fn check_notification(channel: &str, payload: &str) -> Result<()> {
    let invalid = |what: &str| Err(Error::new(state::INVALID_PARAMETER_VALUE, what.to_owned()));
    if channel.is_empty() {
        return invalid("channel name cannot be empty");
    }
    if channel.len() > crate::parse::NAME_BYTES_MAX {
        return invalid("channel name too long");
    }
    if payload.len() >= PAYLOAD_BYTES_MAX {
        return invalid("payload string too long");
    }
    Ok(())
}

/// Releases a session's advisory locks.
pub(super) fn unlock_all(engine: &Engine, memory: &RefCell<Memory>) {
    unlock_transaction(engine, memory);
    if let Some(session) = memory.borrow_mut().session_locks.take()
        && let Some(directory) = engine.groups().get(GroupId::DIRECTORY)
    {
        directory.locks().release(session);
    }
}

/// Releases the transaction's advisory locks.
pub(super) fn unlock_transaction(engine: &Engine, memory: &RefCell<Memory>) {
    if let Some(tx) = memory.borrow_mut().transaction_locks.take()
        && let Some(directory) = engine.groups().get(GroupId::DIRECTORY)
    {
        directory.locks().release(tx);
    }
}
