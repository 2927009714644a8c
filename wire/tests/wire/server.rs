//! A small server behind the wire: it echoes, streams rows, sleeps, copies and notifies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::BufMut;
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::task::JoinHandle;
use wire::scram::Verifier;
use wire::{
    Authenticate, Config, Connection, Error, ErrorFields, Field, Format, Frontend, Key, Link,
    Method, Private, Serve, Startup, Target, TransactionStatus,
};

const TEXT: u32 = 25;

pub struct Server {
    pub address: SocketAddr,
    pub echo: Arc<Echo>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Server {
    pub async fn start(config: Config) -> Server {
        Server::at("127.0.0.1:0".parse().unwrap(), config).await
    }

    pub async fn at(address: SocketAddr, config: Config) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Arc::new(Echo::default());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(wire::run(
            listener,
            config,
            Arc::new(Roles),
            echo.clone(),
            async move {
                let _ = stopped.await;
            },
        ));
        Server {
            address,
            echo,
            stop: Some(stop),
            running,
        }
    }

    pub async fn trusting() -> Server {
        Server::start(Config::default()).await
    }

    /// Tells the sessions to end and waits for [`wire::run`] to return.
    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.echo.closing.notify_waiters();
        self.running.await.unwrap();
    }
}

/// `trusted` needs no password, `alice` has one, `banned` is refused; others don't exist.
pub struct Roles;

impl Authenticate for Roles {
    async fn method(&self, startup: &Startup) -> Result<Method, Box<ErrorFields>> {
        match startup.user.as_str() {
            "trusted" | "attacker" => Ok(Method::Trust),
            "alice" => Ok(Method::Scram(Verifier::from_password("wonderland"))),
            "banned" => Err(Box::new(ErrorFields::fatal(
                "28000",
                "role \"banned\" is banned",
            ))),
            other => Ok(Method::Scram(Verifier::mock(b"server secret", other))),
        }
    }
}

#[derive(Default)]
pub struct Echo {
    pids: AtomicI32,
    sessions: Mutex<BTreeMap<i32, (Key, Arc<Notify>)>>,
    pub closing: Notify,
    /// Signalled when a `sleep` begins, and when it ends because the peer has gone.
    pub asleep: Notify,
    pub deserted: Notify,
    /// Socket writes of the connection that was flushed last.
    pub writes: AtomicU64,
    /// The longest output buffer seen while rows streamed.
    pub buffered_max: AtomicUsize,
    pub copied: AtomicUsize,
    pub copy_pieces: AtomicUsize,
    /// The newest.
    pub startup: Mutex<Option<Startup>>,
    pub notifications: Notifications,
}

pub struct Notifications(pub broadcast::Sender<String>);

impl Default for Notifications {
    fn default() -> Self {
        Notifications(broadcast::channel(16).0)
    }
}

impl Serve for Echo {
    async fn serve(self: Arc<Self>, connection: Connection, startup: Startup) {
        let pid = self.pids.fetch_add(1, Ordering::Relaxed) + 1;
        let cancelled = Arc::new(Notify::new());
        let key = Key::random(pid);
        self.sessions
            .lock()
            .unwrap()
            .insert(pid, (key, cancelled.clone()));
        *self.startup.lock().unwrap() = Some(startup);
        let mut session = Session {
            echo: self.clone(),
            connection,
            cancelled,
            parsed: false,
            bound: None,
        };
        if let Err(error) = session.run(key).await
            && error.is_fatal()
            && let Some(fields) = error.fields()
        {
            let _ = session.connection.end(fields).await;
        }
        self.sessions.lock().unwrap().remove(&pid);
    }

    fn cancel(&self, pid: i32, secret: i32) {
        if let Some((key, cancelled)) = self.sessions.lock().unwrap().get(&pid)
            && key.admits(pid, secret)
        {
            cancelled.notify_one();
        }
    }
}

struct Session {
    echo: Arc<Echo>,
    connection: Connection,
    cancelled: Arc<Notify>,
    parsed: bool,
    bound: Option<Vec<u8>>,
}

impl Echo {
    /// Serves a session whose client is connected to another node. Its state is the number of its
    /// turns.
    pub async fn home(self: Arc<Echo>, link: Box<dyn Link>, config: Config) -> Result<(), Error> {
        let mut session = Session {
            echo: self,
            connection: Connection::over(link, &config),
            cancelled: Arc::default(),
            parsed: false,
            bound: None,
        };
        if session.connection.resume().await?.is_none() {
            return Ok(());
        }
        let end = session.serve().await;
        if let Err(error) = &end
            && let Some(fields) = error.fields()
        {
            session.connection.error(fields);
        }
        session.connection.tell(&Private::Bye);
        session.connection.close().await?;
        end
    }
}

impl Session {
    async fn run(&mut self, key: Key) -> Result<(), Error> {
        self.connection.parameter_status("client_encoding", "UTF8");
        self.connection.backend_key(key.pid(), key.secret());
        self.ready().await?;
        self.serve().await
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let echo = self.echo.clone();
        let mut notifications = echo.notifications.0.subscribe();
        loop {
            tokio::select! {
                biased;
                () = echo.closing.notified() => {
                    let message = "terminating connection due to administrator command";
                    self.connection.error(&ErrorFields::fatal("57P01", message));
                    return self.connection.flush().await;
                }
                Ok(payload) = notifications.recv() => {
                    self.connection.notification(1, "channel", &payload);
                    self.connection.flush().await?;
                }
                message = self.connection.next() => match message {
                    Ok(None | Some(Frontend::Terminate)) => return Ok(()),
                    Ok(Some(message)) => self.handle(message).await?,
                    Err(error) if error.skips_to_sync() => {
                        self.fail(error.fields().unwrap());
                    }
                    Err(Error::Message { fields, .. }) => {
                        self.connection.error(&fields);
                        self.ready().await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn fail(&mut self, fields: &ErrorFields) {
        self.connection.error(fields);
        self.connection.skip_to_sync();
    }

    async fn handle(&mut self, message: Frontend) -> Result<(), Error> {
        match message {
            Frontend::Query(sql) if sql == "move" && self.connection.is_link() => {
                if let Some(answered) = self.connection.give_up_turn() {
                    let group = Some(7);
                    self.connection
                        .tell(&Private::Elsewhere { group, answered });
                    self.connection.flush().await?;
                    return Ok(());
                }
                let stays = ErrorFields::error("40001", "it has to stay");
                self.connection.error(&stays);
                self.ready().await?;
            }
            Frontend::Query(sql) => {
                self.query(&sql).await?;
                self.ready().await?;
            }
            Frontend::Parse { .. } => {
                self.parsed = true;
                self.connection.parse_complete();
            }
            Frontend::Bind { parameters, .. } if self.parsed => {
                self.connection.bind_complete();
                let value = parameters.into_iter().next().flatten();
                self.bound = value.map(|value| value.to_vec());
            }
            Frontend::Describe { target, .. } => {
                if target == Target::Statement {
                    self.connection.parameter_description(&[TEXT]);
                }
                self.connection
                    .row_description(&[Field::computed("echo", TEXT, -1)]);
            }
            Frontend::Execute { .. } => self.execute()?,
            Frontend::Close { .. } => self.connection.close_complete(),
            Frontend::Sync => self.ready().await?,
            Frontend::Flush => self.connection.flush().await?,
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => {}
            Frontend::Bind { .. } => self.fail(&ErrorFields::error(
                "26000",
                "unnamed prepared statement does not exist",
            )),
            Frontend::FunctionCall => {
                self.connection
                    .error(&ErrorFields::error("0A000", "no function calls"));
                self.ready().await?;
            }
            Frontend::Terminate => {}
        }
        Ok(())
    }
}

impl Session {
    fn execute(&mut self) -> Result<(), Error> {
        let mut row = self.connection.data_row();
        match &self.bound {
            Some(value) => row.bytes(value),
            None => row.null(),
        }
        row.finish()?;
        self.connection.command_complete("SELECT 1");
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), Error> {
        if self.connection.is_link() {
            let done = Private::Done {
                frames: self.connection.messages(),
                bound: false,
                changes: Some(vec![1].into()),
            };
            self.connection.tell(&done);
        }
        self.connection.ready(TransactionStatus::Idle);
        self.connection.flush().await?;
        self.echo
            .writes
            .store(self.connection.socket_writes(), Ordering::Relaxed);
        Ok(())
    }

    async fn query(&mut self, sql: &str) -> Result<(), Error> {
        match sql.split_once(' ') {
            Some(("rows", count)) => self.rows(count.parse().unwrap()).await,
            Some(("copy", "in")) => self.copy_in().await,
            Some(("copy", "out")) => {
                self.connection
                    .copy_out_response(Format::Text, &[Format::Text]);
                self.connection.copy_data(b"one\n")?;
                self.connection.copy_data(b"two\n")?;
                self.connection.copy_done();
                self.connection.command_complete("COPY 2");
                Ok(())
            }
            _ if sql == "sleep" => self.sleep().await,
            _ if sql == "panic" => panic!("as asked for"),
            _ if sql.is_empty() => {
                self.connection.empty_query();
                Ok(())
            }
            _ => {
                self.connection
                    .row_description(&[Field::computed("echo", TEXT, -1)]);
                self.bound = Some(sql.as_bytes().to_vec());
                self.execute()
            }
        }
    }

    async fn rows(&mut self, count: usize) -> Result<(), Error> {
        self.connection
            .row_description(&[Field::computed("n", TEXT, -1)]);
        for number in 0..count {
            let mut row = self.connection.data_row();
            row.value(|bytes| bytes.put_slice(format!("{number:01000}").as_bytes()));
            row.finish()?;
            self.echo
                .buffered_max
                .fetch_max(self.connection.len(), Ordering::Relaxed);
            self.connection.relieve().await?;
        }
        self.connection.command_complete(&format!("SELECT {count}"));
        Ok(())
    }

    async fn copy_in(&mut self) -> Result<(), Error> {
        self.connection
            .copy_in_response(Format::Text, &[Format::Text]);
        self.connection.flush().await?;
        let mut copied = 0;
        loop {
            match self.connection.next().await? {
                Some(Frontend::CopyData(data)) => {
                    copied += data.len();
                    self.echo.copy_pieces.fetch_add(1, Ordering::Relaxed);
                }
                Some(Frontend::CopyDone) => break,
                Some(Frontend::CopyFail(reason)) => {
                    let message = format!("COPY from stdin failed: {reason}");
                    self.connection.error(&ErrorFields::error("57014", message));
                    return Ok(());
                }
                other => panic!("{other:?} within COPY"),
            }
        }
        self.echo.copied.store(copied, Ordering::Relaxed);
        self.connection.command_complete("COPY 1");
        Ok(())
    }

    async fn sleep(&mut self) -> Result<(), Error> {
        let watch = self.connection.watch_peer();
        self.echo.asleep.notify_one();
        tokio::select! {
            () = self.cancelled.notified() => {
                let message = "canceling statement due to user request";
                self.connection.error(&ErrorFields::error("57014", message));
            }
            () = watch.gone() => self.echo.deserted.notify_one(),
        }
        Ok(())
    }
}
