//! A session that goes elsewhere: finding the place, taking state and messages there, passing the
//! client's bytes on, and going on when that place falls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sql::engine::Led;
use sql::session::{Login, Portable, Status};
use storage::GroupId;
use tokio::time::Instant;
use wire::{Connection, ErrorFields, Event, Fate, Key, Relay, Severity, TransactionStatus};

use super::opening::{Resume, opening};
use super::verdict::{Verdict, judge, prepares};
use crate::connection::{Client, Ran};
use crate::peer::PeerStream;
use crate::report;
use crate::serve::Sessions;

/// How long a place is looked for.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two attempts to get there.
const SEARCH_PAUSE: Duration = Duration::from_millis(20);

/// Who is connected.
pub struct Who {
    /// As it logged in.
    pub login: Login,
    /// The key that it was given.
    pub key: Key,
}

/// A session between two places.
pub struct Moving {
    /// The client's, with the turn's messages in front of its input.
    pub connection: Connection,
    /// Its state at the turn's begin.
    pub known: Portable,
    /// ReadyForQuery's letter at the turn's begin.
    pub status: TransactionStatus,
    /// The first messages, which were answered.
    pub answered: u64,
    /// The group at whose leader it goes on.
    pub group: GroupId,
    /// Its last home has fallen.
    pub fallen: bool,
    /// This turn has been at another place before: so long one is looked for.
    pub until: Option<Instant>,
    /// Since when the statement is at work that was not answered, wherever it was.
    pub since: Instant,
}

/// A turn that a place here is given.
struct Given {
    /// The first messages, which were answered.
    answered: u64,
    /// Until then another one is looked for, if it does not stay.
    until: Option<Instant>,
    since: Instant,
}

/// Where a session goes on.
enum Place {
    Here,
    At(u32, PeerStream),
    /// Nowhere: the turn fails.
    None(Box<ErrorFields>),
}

/// What a relay has led to.
enum Passed {
    /// On, elsewhere: with the turn that it came with, or with a later one.
    On(Turn),
    /// On, here, with a turn.
    Back,
    /// On, here: it waits for its client.
    Rests,
    /// The connection is to be closed, with these words if it can have any.
    Over(Option<Box<ErrorFields>>),
}

/// Which turn goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Same,
    Later,
}

/// When a place that is looked for from now on has not been found.
fn search_end() -> Instant {
    Instant::now() + SEARCH_TIME_MAX
}

impl Sessions {
    /// Goes on with a session that has left its place, until it runs here or is over.
    pub async fn travel(self: &Arc<Self>, who: &Who, mut moving: Moving) -> Ran {
        let mut again = moving.until.is_some();
        let mut until = moving.until.unwrap_or_else(search_end);
        let mut rests = false;
        loop {
            if moving.connection.flush().await.is_err() {
                return Ran::Ended;
            }
            let place = match rests || moving.has_lost_its_block() {
                true => Place::Here,
                false => {
                    if again {
                        tokio::time::sleep(SEARCH_PAUSE).await;
                    }
                    self.place(who, &moving, until, again).await
                }
            };
            match place {
                Place::Here => {
                    let turn = (!rests).then(|| moving.given(Some(until)));
                    return self.run_here(who, moving, turn).await;
                }
                Place::None(fields) => {
                    if prepares(moving.connection.unread(), &moving.known) {
                        let turn = Some(moving.given(Some(until)));
                        return self.run_here(who, moving, turn).await;
                    }
                    let status = moving.status;
                    if !moving.fail(&fields, status, 0).await {
                        return Ran::Ended;
                    }
                    rests = true;
                }
                Place::At(node, stream) => {
                    self.put(who, Some(node));
                    let begun = Instant::now();
                    match self.pass(who, &mut moving, stream).await {
                        Passed::On(Turn::Same) => {
                            // What it took there is no search.
                            until += begun.elapsed();
                            again = true;
                        }
                        Passed::On(Turn::Later) => (until, again) = (search_end(), false),
                        Passed::Back => {
                            // No place was looked for yet.
                            let turn = Some(moving.given(None));
                            return self.run_here(who, moving, turn).await;
                        }
                        Passed::Rests => rests = true,
                        Passed::Over(fields) => return moving.close(fields).await,
                    }
                }
            }
        }
    }

    /// The leader of the group, once it is known and can be reached. `again`: the turn has been at
    /// another one.
    async fn place(&self, who: &Who, moving: &Moving, until: Instant, again: bool) -> Place {
        if again && Instant::now() >= until {
            let why = "Its leader has changed again and again.";
            return Place::None(Box::new(self.leaderless(who, moving.group, why)));
        }
        let timeout = self.engine().statement_timeout(&moving.known);
        loop {
            let why = match self.engine().led(moving.group) {
                Led::Here => return Place::Here,
                Led::Nowhere => "No leader is known.".to_owned(),
                Led::At(node) => match self.open_at(who, moving, node).await {
                    Ok(stream) => return Place::At(node, stream),
                    Err(why) => format!("Its leader was node {node}: {why}."),
                },
            };
            if Instant::now() >= until {
                return Place::None(Box::new(self.leaderless(who, moving.group, &why)));
            }
            if timeout.is_some_and(|timeout| moving.since.elapsed() >= timeout) {
                return Place::None(Box::new(timed_out(&why)));
            }
            tokio::time::sleep(SEARCH_PAUSE).await;
        }
    }

    /// 57P03. The owner is named to itself.
    fn leaderless(&self, who: &Who, group: GroupId, why: &str) -> ErrorFields {
        let catalog = self.engine().catalog();
        let own = catalog.role_by_name(&who.login.user).map(|role| role.id);
        let what = match catalog.owner_of_group(group) {
            Some(owner) if Some(owner) == own => {
                format!("the tables of owner \"{}\"", who.login.user)
            }
            _ => "what the statement needs".to_owned(),
        };
        let message = format!("{what} can't be reached now: there is no leader of its group");
        ErrorFields::error("57P03", message)
            .with_detail(why)
            .with_hint(
                "Try again: a group has a leader as soon as most of its replicas can reach each \
                 other.",
            )
    }

    /// A stream to a node, as long as that leads the group: who has fallen is tried for seconds, and
    /// another one leads before.
    async fn open_at(&self, who: &Who, moving: &Moving, node: u32) -> Result<PeerStream, String> {
        let group = moving.group;
        let opening = opening(&who.login, moving.since.elapsed());
        let opened = self.nodes().open(node, opening);
        tokio::pin!(opened);
        loop {
            tokio::select! {
                biased;
                opened = &mut opened => return opened.map_err(|error| error.to_string()),
                () = tokio::time::sleep(SEARCH_PAUSE) => {}
            }
            if self.engine().led(group) != Led::At(node) {
                return Err("it leads no more".to_owned());
            }
        }
    }

    /// The session runs here, with the turn that is in front of its input, has so many answers
    /// already and is given a place until then. Without one it waits for its client; the next turn
    /// goes wherever its home is then.
    async fn run_here(self: &Arc<Self>, who: &Who, moving: Moving, turn: Option<Given>) -> Ran {
        self.put(who, None);
        let Moving {
            connection,
            known,
            status,
            fallen,
            ..
        } = moving;
        let mut session = match self.engine().resume(&who.login, &known.encode()) {
            Ok(session) => session,
            Err(error) => {
                // The client may be gone already; then nobody needs to know.
                let _ = connection
                    .end(&report::fields(Severity::Fatal, &error))
                    .await;
                return Ran::Ended;
            }
        };
        if fallen {
            session.fallen(status_of(status));
        }
        let client = Client::new(self.clone(), connection, session);
        match turn {
            None => client.run().await,
            Some(turn) => {
                let Given {
                    answered,
                    until,
                    since,
                } = turn;
                let client = client.repeating(answered, until, Some(since));
                client.run().await
            }
        }
    }

    /// Passes the client's bytes to a home and back, until something else is to be done.
    async fn pass(&self, who: &Who, moving: &mut Moving, home: PeerStream) -> Passed {
        let first = moving.resume();
        let Moving {
            connection, known, ..
        } = moving;
        let mut keep = |changes: &[u8]| {
            known
                .merge(changes)
                .map_err(|error| wire::Error::protocol("XX001", error.to_string()))
        };
        let fate = Fate::new(moving.status, moving.answered);
        let mut relay = Relay::new(connection, Box::new(home), first, fate, &mut keep);
        let mut closing = self.closing();
        let event = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            event = relay.run() => Some(event),
        };
        let fate = relay.end();
        let begun = fate.status != moving.status || !fate.idle;
        let turn = if fate.later { Turn::Later } else { Turn::Same };
        moving.since = fate.since.unwrap_or(moving.since);
        moving.status = fate.status;
        match event {
            None if fate.torn => Passed::Over(None),
            None => Passed::Over(Some(Box::new(ErrorFields::fatal(
                "57P01",
                "terminating connection due to administrator command",
            )))),
            Some(Ok(Event::Ended | Event::Left)) => Passed::Over(None),
            Some(Ok(Event::Elsewhere { group, answered })) => {
                moving.answered = answered;
                // A block that fell goes nowhere, and this home knows of no other fall.
                moving.fallen = false;
                let Some(group) = group else {
                    return Passed::Back;
                };
                moving.group = GroupId(group);
                Passed::On(turn)
            }
            Some(Ok(Event::Broken(error))) => {
                tracing::info!(pid = who.key.pid(), %error, begun, "a session's home has gone");
                moving.broken(&fate, turn).await
            }
            Some(Err(error)) => {
                tracing::warn!(pid = who.key.pid(), %error, "a session's home can't be understood");
                Passed::Over(error.fields().cloned().map(Box::new).filter(|_| !fate.torn))
            }
        }
    }
}

impl Moving {
    /// The turn, for a place here.
    fn given(&self, until: Option<Instant>) -> Given {
        Given {
            answered: self.answered,
            until,
            since: self.since,
        }
    }

    /// Was a block open when its home fell? All that it can do is to end, which needs no leader.
    fn has_lost_its_block(&self) -> bool {
        self.fallen && self.status != TransactionStatus::Idle
    }

    /// The first frame for a home.
    fn resume(&self) -> Bytes {
        let resume = Resume {
            group: self.group.0,
            fallen: self.fallen.then_some(self.status),
            answered: self.answered,
            state: self.known.encode().into(),
        };
        resume.encode()
    }

    /// The home has fallen.
    async fn broken(&mut self, fate: &Fate, turn: Turn) -> Passed {
        self.fallen = true;
        if fate.torn {
            return Passed::Over(None);
        }
        if fate.idle && !fate.bound {
            return Passed::Rests;
        }
        let verdict = judge(fate, self.connection.unread(), &self.known);
        if !fate.answered {
            self.connection.retract();
        }
        match verdict {
            Verdict::Again(answered) => {
                self.answered = answered;
                Passed::On(turn)
            }
            Verdict::Fails(fields, status) => {
                let told = fate.failed && fate.answered;
                let fields = (!told).then_some(&*fields);
                match self.answer(fields, status, fate.ignored).await {
                    true => Passed::Rests,
                    false => Passed::Over(None),
                }
            }
            Verdict::Closes(fields) => Passed::Over(Some(fields)),
        }
    }

    /// Answers the turn with an error. False if the client has left.
    async fn fail(
        &mut self,
        fields: &ErrorFields,
        status: TransactionStatus,
        ignored: u64,
    ) -> bool {
        let status = match status {
            TransactionStatus::Idle => TransactionStatus::Idle,
            TransactionStatus::Transaction | TransactionStatus::Failed => TransactionStatus::Failed,
        };
        // The block is gone with the turn.
        self.fallen |= status != TransactionStatus::Idle;
        self.answer(Some(fields), status, ignored).await
    }

    async fn answer(
        &mut self,
        fields: Option<&ErrorFields>,
        status: TransactionStatus,
        ignored: u64,
    ) -> bool {
        if let Some(fields) = fields {
            self.connection.error(fields);
        }
        self.status = status;
        self.answered = 0;
        // The error is no secret while the client sends the rest of its turn.
        if self.connection.flush().await.is_err() {
            return false;
        }
        match self.connection.skip_turn(ignored).await {
            Ok(true) => {
                self.connection.ready(status);
                self.connection.flush().await.is_ok()
            }
            Ok(false) | Err(_) => false,
        }
    }

    /// Ends the connection; nobody needs to know if the client is gone already.
    async fn close(self, fields: Option<Box<ErrorFields>>) -> Ran {
        let _ = match fields {
            Some(fields) => self.connection.end(&fields).await,
            None => self.connection.close().await,
        };
        Ran::Ended
    }
}

/// 57014.
fn timed_out(why: &str) -> ErrorFields {
    ErrorFields::error("57014", "canceling statement due to statement timeout").with_detail(why)
}

/// The status as SQL has it.
pub fn status_of(status: TransactionStatus) -> Status {
    match status {
        TransactionStatus::Idle => Status::Idle,
        TransactionStatus::Transaction => Status::InTransaction,
        TransactionStatus::Failed => Status::Failed,
    }
}
