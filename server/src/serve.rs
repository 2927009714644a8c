//! All sessions of this node: opening them, finding the one to cancel, telling them to end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sql::engine::Engine;
use sql::session::{Login, Session};
use wire::{Connection, Key, Serve, Severity, Startup};

use crate::connection::Client;
use crate::report;

/// The node behind the wire.
pub struct Sessions {
    engine: Arc<Engine>,
    keys: Mutex<BTreeMap<i32, Key>>,
}

impl Sessions {
    /// Nobody is connected yet.
    pub fn new(engine: Arc<Engine>) -> Sessions {
        Sessions {
            engine,
            keys: Mutex::default(),
        }
    }

    /// The sessions that are idle end with 57P01; those that run something go on.
    pub fn retire_idle(&self) {
        let sessions = self.engine.activities().all();
        sessions.iter().for_each(|activity| activity.retire());
    }

    /// Every session ends with 57P01.
    pub fn terminate_all(&self) {
        self.engine
            .activities()
            .all()
            .iter()
            .for_each(|activity| activity.terminate());
    }

    fn open(&self, startup: &Startup) -> Result<Session, sql::Error> {
        let settings = startup
            .settings()
            .map_err(|fields| sql::Error::new(sql::state::SYNTAX_ERROR, fields.message.clone()))?;
        let own = startup
            .parameters
            .iter()
            .filter(|(name, _)| *name != "options");
        let own = own.map(|(name, value)| (name.clone(), value.clone()));
        self.engine.session(&Login {
            user: startup.user.clone(),
            database: startup.database.clone(),
            parameters: settings.into_iter().chain(own).collect(),
            address: startup.peer.ip().to_string(),
            port: i32::from(startup.peer.port()),
        })
    }
}

impl Serve for Sessions {
    async fn serve(self: Arc<Self>, connection: Connection, startup: Startup) {
        let session = match self.open(&startup) {
            Ok(session) => session,
            Err(error) => {
                // The peer may be gone already; then nobody needs to know.
                let _ = connection
                    .end(&report::fields(Severity::Fatal, &error))
                    .await;
                return;
            }
        };
        let key = Key::random(session.activity().process());
        self.keys.lock().insert(key.pid(), key);
        let ended = Client::new(self.engine.clone(), connection, session)
            .run(key)
            .await;
        self.keys.lock().remove(&key.pid());
        if let Err(error) = ended {
            tracing::debug!(pid = key.pid(), %error, "connection lost");
        }
    }

    fn cancel(&self, pid: i32, secret: i32) {
        let admitted = self
            .keys
            .lock()
            .get(&pid)
            .is_some_and(|key| key.admits(pid, secret));
        if admitted && let Some(activity) = self.engine.activities().get(pid) {
            activity.cancel();
        }
    }
}
