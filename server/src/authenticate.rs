//! How a peer proves who it is: SCRAM with the role's stored verifier, or nothing under
//! `--insecure`, which the settings allow on loopback only.

use std::sync::Arc;

use sql::engine::Engine;
use wire::scram::Verifier;
use wire::{Authenticate, ErrorFields, Method, Startup};

/// Who may log in how.
pub struct Login {
    engine: Arc<Engine>,
    insecure: bool,
    /// Makes the verifiers of users that do not exist.
    secret: [u8; 32],
}

impl Login {
    /// Against the engine's roles.
    pub fn new(engine: Arc<Engine>, insecure: bool) -> Login {
        Login {
            engine,
            insecure,
            secret: rand::random(),
        }
    }
}

impl Authenticate for Login {
    async fn method(&self, startup: &Startup) -> Result<Method, Box<ErrorFields>> {
        if self.insecure {
            return Ok(Method::Trust);
        }
        // Made for everybody, so that a known user takes as long as an unknown one.
        let mock = Verifier::mock(&self.secret, &startup.user);
        let stored = self.engine.verifier(&startup.user);
        Ok(Method::Scram(
            stored.and_then(|text| text.parse().ok()).unwrap_or(mock),
        ))
    }
}
