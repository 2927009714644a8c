//! One client whose session runs here: its messages to the session, the session's answers to it,
//! and what lies between: awaiting what a call of the session asks for, notifications to an idle
//! client, timeouts, cancel, the end, and what must be run by another node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sql::engine::{Engine, Led};
use sql::session::{Home, Portable, Session, Status, Step, Waiting};
use storage::GroupId;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use wire::{
    Connection, Error, ErrorFields, Format, Frontend, Key, Private, Severity, Target,
    TransactionStatus,
};

use crate::answer::{Answer, Frame};
use crate::gateway::Moving;
use crate::report;
use crate::serve::Sessions;

/// The end of a connection's service: a reason to close, or the peer's own.
type Served<T> = Result<T, End>;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The socket broke, or the peer broke the protocol.
    #[error(transparent)]
    Wire(#[from] Error),
    /// The server ends it with a FATAL.
    #[error("{0}")]
    Fatal(Box<ErrorFields>),
    /// The peer said goodbye or went away.
    #[error("the client has left")]
    Left,
    /// The turn is to be run by the leader of a group, or, if none is named, where the client is.
    #[error("the session goes on at another node")]
    Elsewhere(Option<GroupId>),
    /// This node is about to end, and the client is connected to another one.
    #[error("the client's node takes its session along")]
    Leaving,
}

/// How a session's stay at this node has ended.
pub enum Ran {
    /// It is over.
    Ended,
    /// It goes on elsewhere.
    Elsewhere(Box<Moving>),
}

/// A connected client: directly, or over its gateway.
pub struct Client {
    sessions: Arc<Sessions>,
    engine: Arc<Engine>,
    connection: Connection,
    session: Session,
    frame: Frame,
    /// Rings on notifications, cancel and terminate.
    bell: Arc<Notify>,
    /// The next messages, so many, were answered at another node.
    answered: u64,
    /// The present turn was sent here on purpose.
    placed: bool,
    /// Until then a place is looked for in which it can be run, if that was begun; this place is
    /// found since `came`.
    until: Option<Instant>,
    came: Instant,
    /// Since when the statement is at work that was not answered at its last place.
    since: Option<Instant>,
    /// Since when that which is handled now is.
    begun: Instant,
    /// The gateway knows that the present turn commits nothing.
    promised: bool,
}

/// A call of the session that may have to be repeated after a wait.
#[derive(Clone, Copy)]
enum Call<'a> {
    /// The query string goes on.
    Next,
    /// A portal is executed.
    Execute(&'a str, u64),
    /// The implicit transaction ends.
    Sync,
    /// COPY data is at its end.
    CopyDone,
}

impl Client {
    /// A client whose session is open.
    pub fn new(sessions: Arc<Sessions>, connection: Connection, session: Session) -> Client {
        let bell = Arc::new(Notify::new());
        let ring = bell.clone();
        session
            .activity()
            .on_interrupt(Arc::new(move || ring.notify_one()));
        let ring = bell.clone();
        session
            .activity()
            .mailbox()
            .on_arrival(Arc::new(move || ring.notify_one()));
        Client {
            engine: sessions.engine().clone(),
            sessions,
            connection,
            session,
            frame: Frame::default(),
            bell,
            answered: 0,
            placed: false,
            until: None,
            came: Instant::now(),
            since: None,
            begun: Instant::now(),
            promised: false,
        }
    }

    /// It has come with a turn that was sent here, of which the first messages were answered; if it
    /// does not stay, another place is looked for until then. `since`: the next statement is at work.
    pub fn repeating(
        mut self,
        answered: u64,
        until: Option<Instant>,
        since: Option<Instant>,
    ) -> Client {
        self.connection.answered_before(answered);
        self.answered = answered;
        self.placed = true;
        self.until = until;
        self.since = since;
        self
    }

    /// Tells a new client the settings and its key, then serves it.
    pub async fn greet(mut self, key: Key) -> Ran {
        self.session
            .report(&mut Answer::new(&mut self.connection, &mut self.frame));
        self.connection.backend_key(key.pid(), key.secret());
        self.ready();
        match self.connection.flush().await {
            Ok(()) => self.run().await,
            Err(error) => self.part(End::Wire(error)).await,
        }
    }

    /// Serves until the client leaves or must, or the session has to go elsewhere.
    pub async fn run(mut self) -> Ran {
        let Err(end) = self.serve().await;
        self.part(end).await
    }

    async fn part(self, end: End) -> Ran {
        let pid = self.session.activity().process();
        let closed = match end {
            End::Elsewhere(group) => return self.leave(group).await,
            End::Leaving => return Ran::Ended,
            End::Left => self.close(None).await,
            End::Fatal(fields) => self.close(Some(&fields)).await,
            End::Wire(error) => match error.fields().cloned() {
                Some(fields) => self.close(Some(&fields)).await,
                None => Err(error),
            },
        };
        if let Err(error) = closed {
            tracing::debug!(pid, %error, "connection lost");
        }
        Ran::Ended
    }

    /// The end of a session, which a gateway must tell from the end of this node.
    async fn close(mut self, fields: Option<&ErrorFields>) -> Result<(), Error> {
        if let Some(fields) = fields {
            self.connection.error(fields);
        } else if !self.connection.is_link() {
            return Ok(());
        }
        if self.connection.is_link() {
            self.connection.tell(&Private::Bye);
        }
        self.connection.close().await
    }

    /// The turn goes elsewhere: with state and messages, or by a word to the gateway, which has both.
    async fn leave(mut self, group: Option<GroupId>) -> Ran {
        let status = transaction_status(&self.session);
        let Some(answered) = self.connection.give_up_turn() else {
            // Asked before; nothing has been sent since.
            return Ran::Ended;
        };
        if self.connection.is_link() {
            let group = group.map(|group| group.0);
            self.connection
                .tell(&Private::Elsewhere { group, answered });
            if let Err(error) = self.connection.close().await {
                tracing::debug!(%error, "the gateway was lost");
            }
            return Ran::Ended;
        }
        let known = self
            .session
            .export()
            .and_then(|state| Portable::new(&state).ok());
        let (Some(known), Some(group)) = (known, group) else {
            return Ran::Ended;
        };
        Ran::Elsewhere(Box::new(Moving {
            connection: self.connection,
            known,
            status,
            answered,
            group,
            fallen: false,
            // What it took here is no search.
            until: self.until.map(|until| until + self.came.elapsed()),
            since: self.since.unwrap_or(self.begun),
        }))
    }

    async fn serve(&mut self) -> Served<Infallible> {
        loop {
            let message = match self.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(End::Left),
                Err(End::Wire(error)) if !error.is_fatal() => {
                    self.refuse(&error).await?;
                    continue;
                }
                Err(end) => return Err(end),
            };
            if self.connection.turn_messages() <= 1 && !self.placed {
                (self.begun, self.since) = (Instant::now(), None);
                self.go_home()?;
            }
            match self.answered {
                0 => {
                    if matches!(message, Frontend::Query(_) | Frontend::Execute { .. }) {
                        self.begun = self.since.take().unwrap_or_else(Instant::now);
                        let spent = self.begun.elapsed().as_micros();
                        self.session
                            .has_spent(u64::try_from(spent).unwrap_or(u64::MAX));
                    }
                    self.handle(message).await?;
                }
                _ => self.repeat(message).await?,
            }
        }
    }

    /// At the begin of a turn: the session goes to its home, if that is elsewhere.
    fn go_home(&self) -> Served<()> {
        if self.engine.cluster().is_alone() {
            return Ok(());
        }
        let group = match self.session.home() {
            Home::Leader(group) if self.engine.led(group) != Led::Here => Some(group),
            Home::Client if self.connection.is_link() => None,
            Home::Leader(_) | Home::Client | Home::Anywhere => return Ok(()),
        };
        if !self.connection.turn_may_go() {
            return Ok(());
        }
        // What it holds ends with the leadership that it is held under; until then it stays.
        match self.session.export() {
            Some(_) => Err(End::Elsewhere(group)),
            None => Ok(()),
        }
    }

    /// A message that was answered before it came here: only what it does is wanted, unless that
    /// fails now.
    async fn repeat(&mut self, message: Frontend) -> Served<()> {
        self.answered -= 1;
        if matches!(message, Frontend::Flush) {
            return Ok(());
        }
        let before = self.connection.len();
        self.handle(message).await?;
        if self.connection.is_skipping() {
            self.answered = 0;
        } else {
            self.connection.truncate(before);
        }
        Ok(())
    }

    /// A message that could not be read: the protocol goes on as after any other error.
    async fn refuse(&mut self, error: &Error) -> Served<()> {
        if let Some(fields) = error.fields() {
            let fields = fields.clone();
            self.connection.error(&fields);
        }
        if error.skips_to_sync() {
            self.connection.skip_to_sync();
            Ok(())
        } else {
            self.end_of_turn().await
        }
    }

    /// The next message. An idle client gets its notifications meanwhile.
    async fn message(&mut self) -> Served<Option<Frontend>> {
        loop {
            if self.connection.buffered() {
                return Ok(self.connection.next().await?);
            }
            self.check_terminated()?;
            let deadline = self.session.idle_deadline();
            let at = deadline.as_ref().map(|(micros, _)| self.instant(*micros));
            let bell = self.bell.clone();
            tokio::select! {
                biased;
                message = self.connection.next() => return Ok(message?),
                () = bell.notified() => {}
                () = sleep_until(at) => {
                    if let Some((_, error)) = deadline {
                        return Err(fatal(&error));
                    }
                }
            }
            if self.session.status() == Status::Idle && self.notify() {
                self.make_room().await?;
            }
        }
    }

    /// Appends what has arrived; true if something has.
    fn notify(&mut self) -> bool {
        let arrived = self.session.activity().mailbox().take();
        for n in &arrived {
            self.connection
                .notification(n.process, &n.channel, &n.payload);
        }
        !arrived.is_empty()
    }

    fn check_terminated(&self) -> Served<()> {
        let activity = self.session.activity();
        if !activity.is_terminated() {
            return Ok(());
        }
        if self.connection.is_link() && self.sessions.is_leaving() {
            return Err(End::Leaving);
        }
        Err(fatal(&activity.interrupted()))
    }

    /// One message, one method.
    async fn handle(&mut self, message: Frontend) -> Served<()> {
        match message {
            Frontend::Query(sql) => self.query(&sql).await,
            Frontend::Parse {
                name,
                sql,
                parameter_types,
            } => {
                let parsed = self.session.parse(&name, &sql, &parameter_types);
                self.extended(parsed, |out, ()| out.parse_complete()).await
            }
            Frontend::Bind {
                portal,
                statement,
                parameter_formats,
                parameters,
                result_formats,
            } => {
                let values = parameters.iter().map(|value| value.as_deref());
                let bound = self.session.bind(
                    &portal,
                    &statement,
                    &parameter_formats,
                    values,
                    &result_formats,
                );
                self.extended(bound, |out, ()| out.bind_complete()).await
            }
            Frontend::Describe {
                target: Target::Statement,
                name,
            } => {
                let described = self.session.describe_statement(&name);
                self.extended(described, |out, described| {
                    out.parameter_description(&described.parameters);
                    describe(out, described.columns.as_deref());
                })
                .await
            }
            Frontend::Describe {
                target: Target::Portal,
                name,
            } => {
                let described = self.session.describe_portal(&name);
                self.extended(described, |out, columns| describe(out, columns.as_deref()))
                    .await
            }
            Frontend::Execute { portal, rows_max } => {
                self.execute(&portal, u64::from(rows_max)).await
            }
            Frontend::Close { target, name } => {
                match target {
                    Target::Statement => self.session.close_statement(&name),
                    Target::Portal => self.session.close_portal(&name),
                }
                self.connection.close_complete();
                Ok(())
            }
            Frontend::Flush => self.make_room().await,
            Frontend::Sync => self.sync().await,
            // What is left of a COPY that has failed: its answer may wait for it to pass.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => {
                if !self.connection.buffered() {
                    self.connection.flush().await?;
                }
                Ok(())
            }
            Frontend::FunctionCall => {
                let fields =
                    ErrorFields::error("0A000", "the function call protocol is not supported")
                        .with_hint("Call the function with SELECT.");
                self.connection.error(&fields);
                self.end_of_turn().await
            }
            Frontend::Terminate => Err(End::Left),
        }
    }

    /// The answer to a message of the extended protocol that needs no waiting.
    async fn extended<T>(
        &mut self,
        result: sql::Result<T>,
        answer: impl FnOnce(&mut wire::Output, T),
    ) -> Served<()> {
        match result {
            Ok(value) => answer(&mut self.connection, value),
            Err(error) => self.fail(error).await?,
        }
        Ok(())
    }

    /// An error of the extended protocol: everything up to Sync is skipped.
    async fn fail(&mut self, error: sql::Error) -> Served<()> {
        self.tell(error).await?;
        self.connection.skip_to_sync();
        Ok(())
    }

    /// An error leaves when what it rests on is committed; if it is lost, another one does.
    async fn tell(&mut self, mut error: sql::Error) -> Served<()> {
        loop {
            match self.session.settle() {
                Ok(None) => break,
                Ok(Some(waiting)) => {
                    let woken = wake(&waiting);
                    self.wait(&waiting, woken).await?;
                }
                Err(instead) => {
                    error = instead;
                    break;
                }
            }
        }
        self.check_terminated()?;
        self.connection
            .error(&report::fields(Severity::Error, &error));
        Ok(())
    }

    async fn query(&mut self, sql: &str) -> Served<()> {
        if let Err(error) = self.query_string(sql).await? {
            self.tell(error).await?;
        }
        self.end_of_turn().await
    }

    async fn query_string(&mut self, sql: &str) -> Served<sql::Result<()>> {
        if let Err(error) = self.session.query(sql) {
            return Ok(Err(error));
        }
        loop {
            match self.call(Call::Next).await? {
                Ok(Step::End) => return Ok(Ok(())),
                Ok(step) => {
                    if let Err(error) = self.answer(step).await? {
                        return Ok(Err(error));
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    async fn execute(&mut self, portal: &str, rows_max: u64) -> Served<()> {
        loop {
            match self.call(Call::Execute(portal, rows_max)).await? {
                Ok(Step::CopyOut { binary, columns }) => self.copy_out(binary, columns),
                Ok(step) => {
                    if let Err(error) = self.answer(step).await? {
                        self.fail(error).await?;
                    }
                    return Ok(());
                }
                Err(error) => return self.fail(error).await,
            }
        }
    }

    async fn sync(&mut self) -> Served<()> {
        match self.call(Call::Sync).await? {
            Ok(_) => {}
            Err(error) => self.tell(error).await?,
        }
        self.end_of_turn().await
    }

    /// What a finished or suspended step is answered with.
    async fn answer(&mut self, step: Step) -> Served<sql::Result<()>> {
        match step {
            Step::Done { tag } => {
                if std::mem::take(&mut self.frame.copying) {
                    self.connection.copy_done();
                }
                match tag.as_str() {
                    "" => self.connection.empty_query(),
                    tag => self.connection.command_complete(tag),
                }
            }
            Step::Suspended => self.connection.portal_suspended(),
            Step::CopyIn { binary, columns } => return self.copy_in(binary, columns).await,
            Step::CopyOut { binary, columns } => self.copy_out(binary, columns),
            Step::Elsewhere(_) => return Ok(Err(self.session.stay())),
            Step::Wait(_) | Step::More | Step::Heavy | Step::End => {}
        }
        Ok(Ok(()))
    }

    fn copy_out(&mut self, binary: bool, columns: u16) {
        let (overall, formats) = copy_formats(binary, columns);
        self.connection.copy_out_response(overall, &formats);
        self.frame.copying = true;
    }

    /// COPY FROM STDIN: the client's data until it says that this is all.
    async fn copy_in(&mut self, binary: bool, columns: u16) -> Served<sql::Result<()>> {
        let (overall, formats) = copy_formats(binary, columns);
        self.connection.copy_in_response(overall, &formats);
        self.connection.flush().await?;
        loop {
            let message = match self.copy_message().await? {
                Ok(message) => message,
                Err(error) => return Ok(self.session.copy_abort(error).map(drop)),
            };
            let call = match message {
                Frontend::CopyData(data) => self.copy_data(&data).await?,
                Frontend::CopyDone => {
                    return match self.call(Call::CopyDone).await? {
                        Ok(step) => Box::pin(self.answer(step)).await,
                        Err(error) => Ok(Err(error)),
                    };
                }
                Frontend::CopyFail(reason) => return Ok(self.session.copy_fail(&reason).map(drop)),
                Frontend::Flush | Frontend::Sync => continue,
                Frontend::Terminate => return Err(End::Left),
                other => {
                    let fields = ErrorFields::fatal(
                        "08P01",
                        format!(
                            "unexpected message during COPY from stdin: {}",
                            name_of(&other)
                        ),
                    );
                    return Err(End::Fatal(Box::new(fields)));
                }
            };
            if let Err(error) = call {
                return Ok(Err(error));
            }
        }
    }

    /// Rows of one CopyData; a row that meets a lock makes the rest of them wait.
    async fn copy_data(&mut self, data: &[u8]) -> Served<sql::Result<()>> {
        let mut data = data;
        loop {
            let session = &mut self.session;
            match tokio::task::block_in_place(|| session.copy_data(data)) {
                Ok(Step::Wait(waiting)) => {
                    let woken = wake(&waiting);
                    self.wait(&waiting, woken).await?;
                    data = &[];
                }
                Ok(_) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// A message during COPY; cancel and terminate interrupt the waiting for it.
    async fn copy_message(&mut self) -> Served<sql::Result<Frontend>> {
        loop {
            let bell = self.bell.clone();
            tokio::select! {
                biased;
                message = self.connection.next() => return message?.ok_or(End::Left).map(Ok),
                () = bell.notified() => self.check_terminated()?,
            }
            if let Err(error) = self.session.activity().check_interrupt() {
                return Ok(Err(error));
            }
        }
    }

    /// Calls the session until it has an answer, awaiting what it asks for in between.
    async fn call(&mut self, call: Call<'_>) -> Served<sql::Result<Step>> {
        let mut entry: Option<(Waiting, oneshot::Receiver<()>)> = None;
        loop {
            let step = match self.step(call) {
                Ok(Step::Heavy) => {
                    self.promise().await?;
                    self.heavy_step(call)
                }
                step => step,
            };
            if let Ok(Step::Wait(_) | Step::More) = step {
                self.promise().await?;
            }
            match step {
                Ok(Step::Elsewhere(group)) if self.connection.turn_may_go() => {
                    return Err(End::Elsewhere(Some(group)));
                }
                Ok(Step::Elsewhere(_)) => return Ok(Err(self.session.stay())),
                Ok(Step::Wait(waiting)) if waiting.rechecks() => match entry.take() {
                    Some((waiting, woken)) => {
                        if waiting.streams() {
                            self.make_room().await?;
                        }
                        self.wait(&waiting, woken).await?;
                    }
                    // What it waits for may have come before the waker was in place.
                    None => {
                        let woken = wake(&waiting);
                        entry = Some((waiting, woken));
                    }
                },
                Ok(Step::Wait(waiting)) => {
                    let woken = wake(&waiting);
                    self.wait(&waiting, woken).await?;
                }
                Ok(Step::More) => self.make_room().await?,
                step => return Ok(step),
            }
        }
    }

    /// Before a query makes its client wait, a gateway learns that nothing is lost with it.
    async fn promise(&mut self) -> Served<()> {
        if self.promised
            || !self.connection.is_link()
            || !self.connection.turn_runs_only_this()
            || !self.session.only_reads()
        {
            return Ok(());
        }
        self.promised = true;
        Ok(self
            .connection
            .tell_at_once(&Private::CommitsNothing)
            .await?)
    }

    /// Lets the client read what there is. One that does not read can still be terminated; it gets
    /// no word then, for which it would have to read first.
    async fn make_room(&mut self) -> Served<()> {
        loop {
            let bell = self.bell.clone();
            tokio::select! {
                biased;
                sent = self.connection.flush() => return Ok(sent?),
                () = bell.notified() => {
                    if self.session.activity().is_terminated() {
                        return Err(End::Left);
                    }
                }
            }
        }
    }

    /// One call on this thread, or on one of its own if a large transaction ends.
    fn step(&mut self, call: Call<'_>) -> sql::Result<Step> {
        if self.session.is_heavy() {
            self.heavy_step(call)
        } else {
            self.run_step(call)
        }
    }

    fn run_step(&mut self, call: Call<'_>) -> sql::Result<Step> {
        let session = &mut self.session;
        let mut answer = Answer::new(&mut self.connection, &mut self.frame);
        match call {
            Call::Next => session.next(&mut answer),
            Call::Execute(portal, rows_max) => session.execute(portal, rows_max, &mut answer),
            Call::Sync => session.sync(&mut answer),
            Call::CopyDone => session.copy_done(&mut answer),
        }
    }

    /// A call that may compute for long: other connections go on elsewhere, and a task beside it
    /// interrupts it when its time is over or its client has gone.
    fn heavy_step(&mut self, call: Call<'_>) -> sql::Result<Step> {
        let now = self.engine.clock().unix_micros();
        let deadline = self
            .session
            .statement_deadline(now)
            .map(|at| self.instant(at));
        let activity = self.session.activity().clone();
        let peer = self.connection.watch_peer();
        let guard = tokio::spawn(async move {
            tokio::select! {
                () = sleep_until(deadline) => activity.time_out(),
                () = peer.gone() => activity.terminate(),
            }
        });
        self.session.give_room(true);
        let step = tokio::task::block_in_place(|| self.run_step(call));
        self.session.give_room(false);
        guard.abort();
        step
    }

    /// Until the waiting is over, its time has come, or somebody interrupts; a client that has
    /// gone interrupts, too.
    async fn wait(&mut self, waiting: &Waiting, woken: oneshot::Receiver<()>) -> Served<()> {
        let at = waiting.until().map(|micros| self.instant(micros));
        let peer = self.connection.watch_peer();
        let bell = self.bell.clone();
        tokio::pin!(woken);
        loop {
            tokio::select! {
                biased;
                _ = &mut woken => return Ok(()),
                () = sleep_until(at) => return Ok(()),
                () = bell.notified() => {
                    if self.session.activity().check_interrupt().is_err() {
                        return Ok(());
                    }
                }
                () = peer.gone() => return Err(End::Left),
            }
        }
    }

    /// ReadyForQuery with what precedes it; sent at once unless the client has more for us.
    async fn end_of_turn(&mut self) -> Served<()> {
        self.frame.copying = false;
        self.check_terminated()?;
        self.session
            .report(&mut Answer::new(&mut self.connection, &mut self.frame));
        if self.session.status() == Status::Idle {
            self.notify();
        }
        self.ready();
        if self.connection.buffered() {
            self.connection.relieve().await?;
        } else {
            self.make_room().await?;
        }
        Ok(())
    }

    fn ready(&mut self) {
        (self.answered, self.placed, self.promised) = (0, false, false);
        self.until = None;
        if self.connection.is_link() {
            let changes = match self.session.is_dirty() {
                true => self.session.export_changes(),
                false => None,
            };
            let done = Private::Done {
                frames: self.connection.messages(),
                bound: self.session.is_held(),
                changes: changes.map(Into::into),
            };
            self.connection.tell(&done);
        } else if !self.engine.cluster().is_alone() {
            self.connection.keep_turns();
        }
        self.session.idle();
        self.connection.ready(transaction_status(&self.session));
    }

    /// The moment of a time in microseconds since 1970.
    fn instant(&self, micros: u64) -> Instant {
        let now = self.engine.clock().unix_micros();
        Instant::now() + Duration::from_micros(micros.saturating_sub(now))
    }
}

fn transaction_status(session: &Session) -> TransactionStatus {
    match session.status() {
        Status::Idle => TransactionStatus::Idle,
        Status::InTransaction => TransactionStatus::Transaction,
        Status::Failed => TransactionStatus::Failed,
    }
}

/// A receiver that is told when the waiting is over.
fn wake(waiting: &Waiting) -> oneshot::Receiver<()> {
    let (over, woken) = oneshot::channel();
    let tell = move || {
        // The session may be gone.
        let _ = over.send(());
    };
    waiting.on_ready(Box::new(tell));
    woken
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn fatal(error: &sql::Error) -> End {
    End::Fatal(Box::new(report::fields(Severity::Fatal, error)))
}

fn describe(out: &mut wire::Output, columns: Option<&[sql::session::Field]>) {
    match columns {
        Some(columns) => {
            let fields: Vec<wire::Field> = columns.iter().map(report::field).collect();
            out.row_description(&fields);
        }
        None => out.no_data(),
    }
}

fn copy_formats(binary: bool, columns: u16) -> (Format, Vec<Format>) {
    let format = if binary { Format::Binary } else { Format::Text };
    (format, vec![format; usize::from(columns)])
}

fn name_of(message: &Frontend) -> &'static str {
    match message {
        Frontend::Query(_) => "Query",
        Frontend::Parse { .. } => "Parse",
        Frontend::Bind { .. } => "Bind",
        Frontend::Describe { .. } => "Describe",
        Frontend::Execute { .. } => "Execute",
        Frontend::Close { .. } => "Close",
        Frontend::Flush => "Flush",
        Frontend::Sync => "Sync",
        Frontend::CopyData(_) => "CopyData",
        Frontend::CopyDone => "CopyDone",
        Frontend::CopyFail(_) => "CopyFail",
        Frontend::FunctionCall => "FunctionCall",
        Frontend::Terminate => "Terminate",
    }
}
