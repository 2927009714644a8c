//! All sessions whose clients are connected to this node: opening them, finding the one to cancel,
//! telling them to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use sql::engine::Engine;
use sql::session::activity::Activities;
use sql::session::{Login, Session};
use tokio::sync::watch;
use wire::{Connection, Key, Serve, Severity, Startup};

use crate::connection::{Client, Ran};
use crate::gateway::{Nodes, Request, Who};
use crate::report;

/// The node behind the wire.
pub struct Sessions {
    engine: Arc<Engine>,
    nodes: Arc<dyn Nodes>,
    clients: Mutex<BTreeMap<i32, Known>>,
    closing: watch::Sender<bool>,
    /// Sessions of other nodes' clients had better go on elsewhere.
    leaving: AtomicBool,
}

/// A client that is connected here.
struct Known {
    key: Key,
    /// The node where its session runs; None: here.
    place: Option<u32>,
}

impl Sessions {
    /// Nobody is connected yet.
    pub fn new(engine: Arc<Engine>, nodes: Arc<dyn Nodes>) -> Sessions {
        Sessions {
            engine,
            nodes,
            clients: Mutex::default(),
            closing: watch::Sender::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// The sessions that are idle end with 57P01; those that run something go on. Those of other
    /// nodes' clients go on elsewhere.
    pub fn retire_idle(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        let sessions = self.engine.activities().all();
        sessions.iter().for_each(|activity| activity.retire());
    }

    /// Every session ends with 57P01; those of other nodes' clients go on elsewhere.
    pub fn terminate_all(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.closing.send_replace(true);
        self.engine
            .activities()
            .all()
            .iter()
            .for_each(|activity| activity.terminate());
    }

    /// The engine of this node.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The other nodes.
    pub fn nodes(&self) -> Arc<dyn Nodes> {
        self.nodes.clone()
    }

    /// Turns true when the node is about to end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Do sessions of other nodes' clients leave this node, when they are told to end?
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Notes where a client's session runs.
    pub fn put(&self, who: &Who, place: Option<u32>) {
        if let Some(known) = self.clients.lock().get_mut(&who.key.pid()) {
            known.place = place;
        }
    }

    /// Cancels the statement of a session that runs here.
    pub fn cancel_here(&self, process: i32) {
        if let Some(activity) = self.engine.activities().get(process) {
            activity.cancel();
        }
    }

    /// Cancels the statement of the client who shows this key, wherever its session runs.
    pub fn cancel_by(&self, process: i32, secret: i32) {
        let place = match self.clients.lock().get(&process) {
            Some(known) if known.key.admits(process, secret) => known.place,
            Some(_) | None => return,
        };
        match place {
            None => self.cancel_here(process),
            Some(node) => self.ask(node, Request::Cancel { process }),
        }
    }

    /// Asks another node without waiting: whoever cancels is told nothing.
    fn ask(&self, node: u32, request: Request) {
        let call = self.nodes.clone().call(node, request.encode());
        tokio::spawn(async move {
            if let Err(error) = call.await {
                tracing::info!(%error, "a request to cancel did not arrive");
            }
        });
    }

    fn open(&self, startup: &Startup) -> Result<(Login, Session), sql::Error> {
        let settings = startup
            .settings()
            .map_err(|fields| sql::Error::new(sql::state::SYNTAX_ERROR, fields.message.clone()))?;
        let own = startup
            .parameters
            .iter()
            .filter(|(name, _)| *name != "options");
        let own = own.map(|(name, value)| (name.clone(), value.clone()));
        let mut login = Login {
            user: startup.user.clone(),
            database: startup.database.clone(),
            parameters: settings.into_iter().chain(own).collect(),
            address: startup.peer.ip().to_string(),
            port: i32::from(startup.peer.port()),
            process: 0,
        };
        let session = self.engine.session(&login)?;
        login.process = session.activity().process();
        Ok((login, session))
    }
}

impl Serve for Sessions {
    async fn serve(self: Arc<Self>, connection: Connection, startup: Startup) {
        let (login, session) = match self.open(&startup) {
            Ok(opened) => opened,
            Err(error) => {
                // The peer may be gone already; then nobody needs to know.
                let _ = connection
                    .end(&report::fields(Severity::Fatal, &error))
                    .await;
                return;
            }
        };
        let key = Key::random(login.process);
        let known = Known { key, place: None };
        self.clients.lock().insert(key.pid(), known);
        let client = Client::new(self.clone(), connection, session);
        let mut ran = client.greet(key).await;
        // The way of most: a session that never leaves.
        if let Ran::Elsewhere(_) = ran {
            let who = Who { login, key };
            while let Ran::Elsewhere(moving) = ran {
                ran = self.travel(&who, *moving).await;
            }
        }
        self.clients.lock().remove(&key.pid());
    }

    fn cancel(&self, pid: i32, secret: i32) {
        let node = Activities::node_of(pid);
        let connected_here = self.clients.lock().contains_key(&pid);
        match connected_here || node == self.engine.cluster().node() {
            true => self.cancel_by(pid, secret),
            false => self.ask(
                node,
                Request::CancelByKey {
                    process: pid,
                    secret,
                },
            ),
        }
    }
}
