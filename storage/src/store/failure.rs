//! The first failed write to disk is final: what is in the files is not known any more.

use std::sync::OnceLock;

use crate::{Error, Result};

/// The first failure of a store.
#[derive(Debug, Default)]
pub(super) struct Failure(OnceLock<String>);

impl Failure {
    /// Fails with the first failure, if there was one.
    pub fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Store(format!("failed earlier: {reason}"))),
        }
    }

    /// Keeps a failure, if it is the first.
    pub fn keep(&self, error: &Error) {
        if self.0.set(error.to_string()).is_ok() {
            tracing::error!(%error, "table store failed");
        }
    }
}
