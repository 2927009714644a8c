//! How a peer proves who it is: SCRAM with the role's stored verifier, or nothing under
//! `--insecure`, which the settings allow on loopback only.

use std::sync::Arc;
use std::time::Duration;

use sql::engine::Engine;
use storage::GroupId;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::scram::Verifier;
use wire::{Authenticate, ErrorFields, Method, Startup};

/// How long a login waits for the newest roles.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(2);

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

impl Login {
    /// A role that is not known here may have been made at another node a moment ago: waits until
    /// everything that was acknowledged is applied here. Without the directory's leader nothing
    /// is newer than what is here.
    async fn catch_up(&self) {
        let (told, passed) = oneshot::channel();
        // Nobody hears it if the client has left.
        let tell = move |_| told.send(()).unwrap_or_default();
        let cluster = self.engine.cluster();
        cluster.barrier(GroupId::DIRECTORY, Box::new(tell));
        // An error: it was dropped unsaid.
        let _ = timeout(CATCH_UP_TIME_MAX, passed).await;
    }
}

impl Authenticate for Login {
    async fn method(&self, startup: &Startup) -> Result<Method, Box<ErrorFields>> {
        if self.engine.catalog().role_by_name(&startup.user).is_none() {
            self.catch_up().await;
        }
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
