//! One connection after its handshake: what waits to be sent, the calls that wait for an answer, the
//! streams, and how the connection ends. A task writes ([`Link::write`]), another reads
//! ([`Link::next`]); everybody else only touches what is under the lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::Lane;
use super::frame::{BODY_BYTES_MAX, FRAME_BYTES_MAX, Frame, HEADER_BYTES, Kind, Reader};
use super::stream::{PeerStream, STREAMS_MAX, Streams, Violation};

/// Requests of one connection that are being answered at the same time.
pub const REQUESTS_MAX: usize = 1024;
/// Bytes of requests and answers that wait to be written to one connection.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// A longer request goes in parts of this length, so that others of its connection pass between them.
pub(super) const PART_BYTES: usize = 256 << 10;
/// Of a request in parts so much waits to be written at a time.
const PARTS_QUEUE_BYTES_MAX: usize = 1 << 20;
/// Frames that wait to be written though nobody waits for room for them: pongs, credit, resets. A
/// sound peer that reads causes two for each stream and a few more.
const PRESSING_MAX: usize = 4 * STREAMS_MAX;
/// A write takes frames until it has so many bytes.
const WRITE_BYTES: usize = 256 << 10;
/// The buffer of writes is given back when it has grown beyond this.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

const _: () = assert!(QUEUE_BYTES_MAX >= FRAME_BYTES_MAX);
const _: () = assert!(QUEUE_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(PART_BYTES <= BODY_BYTES_MAX);
const _: () = assert!(PARTS_QUEUE_BYTES_MAX >= HEADER_BYTES + PART_BYTES);

/// The connection.
pub struct Link {
    lane: Lane,
    state: Mutex<State>,
    /// Rings when there is something to write.
    bell: Notify,
    room: Arc<Semaphore>,
    /// The room of requests in parts, which don't take that of the others.
    parts_room: Arc<Semaphore>,
    /// Held while a request goes in parts: one at a time, so that the peer need not hold several.
    parting: Semaphore,
    calls: Semaphore,
    /// Why it is over, once it is.
    over: watch::Sender<Option<Arc<str>>>,
    /// The peer said goodbye.
    leaving: AtomicBool,
    /// 0: not measured yet.
    round_trip_micros: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Outgoing>,
    /// How many of the queue are there without having asked for room.
    pressing: usize,
    calls: HashMap<u64, oneshot::Sender<Result<Bytes, String>>>,
    streams: Streams,
    /// The last number given to a call, a stream or a ping.
    last_id: u64,
    /// The last stream that the peer opened.
    opened: u64,
    /// A ping that is not answered yet, and when it was sent.
    ping: Option<(u64, Instant)>,
    /// Is a ping in the queue?
    pinging: bool,
    /// When all is written the connection ends.
    closing: bool,
    over: bool,
}

/// A frame that waits, with the room that it takes.
struct Outgoing {
    frame: Frame,
    room: Option<OwnedSemaphorePermit>,
}

/// What the peer wants that is not the connection's own matter.
pub enum Incoming {
    /// A request to be answered under this number, or its last part.
    Request(u64, Bytes),
    /// A part of a request, but the last.
    Part(u64, Bytes),
    /// The rest of a request will not come.
    Abandon(u64),
    /// A stream, opened with these bytes.
    Stream(PeerStream, Bytes),
    /// It will close the connection; why.
    Goodbye(String),
}

/// Why a connection is over.
#[derive(Debug)]
pub struct Over {
    /// In words.
    pub why: String,
    /// Has the peer done what no sound peer does?
    pub fault: bool,
}

impl Over {
    fn lost(why: impl Into<String>) -> Over {
        Over {
            why: why.into(),
            fault: false,
        }
    }

    /// The peer has done what no sound peer does.
    pub fn fault(why: impl Into<String>) -> Over {
        Over {
            why: why.into(),
            fault: true,
        }
    }
}

impl From<super::frame::Error> for Over {
    fn from(error: super::frame::Error) -> Over {
        use super::frame::Error;
        let why = error.to_string();
        match error {
            Error::Io(_) | Error::Torn => Over::lost(why),
            Error::TooLong { .. }
            | Error::TooShort(_)
            | Error::Checksum
            | Error::UnknownKind(_) => Over::fault(why),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The connection was over before the request was sent: it may be sent over another one.
    Unsent,
    /// The connection ended before the answer came: the request may have taken effect.
    Broken(Arc<str>),
    /// The peer has no answer.
    Failed(String),
}

enum Filled {
    Frames,
    Nothing,
    Over,
}

impl Link {
    /// A connection whose handshake is done.
    pub fn new(lane: Lane) -> Arc<Link> {
        Arc::new(Link {
            lane,
            state: Mutex::default(),
            bell: Notify::new(),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            parts_room: Arc::new(Semaphore::new(PARTS_QUEUE_BYTES_MAX)),
            parting: Semaphore::new(1),
            calls: Semaphore::new(REQUESTS_MAX),
            over: watch::Sender::new(None),
            leaving: AtomicBool::new(false),
            round_trip_micros: AtomicU64::new(0),
        })
    }

    /// May new calls and streams begin here?
    pub fn is_usable(&self) -> bool {
        !self.leaving.load(Ordering::Acquire) && self.over.borrow().is_none()
    }

    /// The peer has said goodbye: what is under way may end, nothing new begins.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Resolves when the connection is over; says why.
    pub async fn over(&self) -> Arc<str> {
        let mut over = self.over.subscribe();
        match over.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(why)) => why.clone(),
            Ok(None) | Err(_) => "the connection is over".into(),
        }
    }

    fn why(&self) -> Arc<str> {
        let why = self.over.borrow().clone();
        why.unwrap_or_else(|| "the connection is over".into())
    }

    /// The last measured time from here to the peer and back.
    pub fn round_trip(&self) -> Option<Duration> {
        match self.round_trip_micros.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Sends a request and waits for its answer. To drop the future is to lose interest: the peer
    /// is not told.
    pub async fn call(&self, request: Bytes) -> Result<Bytes, CallError> {
        let place = self.calls.acquire().await;
        let _place = place.map_err(|_| CallError::Unsent)?;
        if request.len() > PART_BYTES {
            return self.call_in_parts(request).await;
        }
        let room = room(&self.room, request.len()).await;
        let room = room.ok_or(CallError::Unsent)?;
        let (interest, answered) = self.expect().ok_or(CallError::Unsent)?;
        let sent = self.send(Kind::Request, interest.id, request, room);
        sent.ok_or(CallError::Unsent)?;
        self.hear(answered).await
    }

    /// The same for a request that is longer than a part.
    async fn call_in_parts(&self, request: Bytes) -> Result<Bytes, CallError> {
        let turn = self.parting.acquire().await;
        let turn = turn.map_err(|_| CallError::Unsent)?;
        let (interest, answered) = self.expect().ok_or(CallError::Unsent)?;
        let id = interest.id;
        let mut parts = Parts {
            link: self,
            id,
            rest: request,
        };
        while !parts.rest.is_empty() {
            let bytes = parts.rest.len().min(PART_BYTES);
            let room = room(&self.parts_room, bytes).await;
            // What lacks its last part takes no effect.
            let room = room.ok_or(CallError::Unsent)?;
            let part = parts.rest.split_to(bytes);
            let kind = match parts.rest.is_empty() {
                true => Kind::Request,
                false => Kind::Part,
            };
            self.send(kind, id, part, room).ok_or(CallError::Unsent)?;
        }
        drop((parts, turn));
        self.hear(answered).await
    }

    /// A number for a call, and where its answer will come; None: the connection is over.
    fn expect(&self) -> Option<(Interest<'_>, Answered)> {
        let (answer, answered) = oneshot::channel();
        let id = self.locked(|state| {
            (!state.over).then(|| {
                let id = state.fresh_id();
                state.calls.insert(id, answer);
                id
            })
        })?;
        Some((Interest { link: self, id }, answered))
    }

    /// Queues a frame that has its room; None: the connection is over.
    fn send(&self, kind: Kind, id: u64, body: Bytes, room: OwnedSemaphorePermit) -> Option<()> {
        self.locked(|state| {
            if state.over {
                return None;
            }
            state.queue.push_back(Outgoing {
                frame: Frame::new(kind, id, body),
                room: Some(room),
            });
            Some(())
        })
    }

    async fn hear(&self, answered: Answered) -> Result<Bytes, CallError> {
        match answered.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(CallError::Failed(why)),
            Err(_) => Err(CallError::Broken(self.why())),
        }
    }

    /// Opens a stream. None: the connection is over, or has too many.
    pub fn open(self: &Arc<Link>, opening: Bytes) -> Option<PeerStream> {
        self.locked(|state| {
            let id = state.fresh_id();
            let opened = !state.over && state.streams.open(id, Some(opening));
            opened.then(|| PeerStream::new(self.clone(), id))
        })
    }

    /// Answers the peer's request; waits for room. A connection that is over needs no answer.
    pub async fn answer(&self, id: u64, answer: Bytes) {
        if answer.len() > BODY_BYTES_MAX {
            let bytes = answer.len();
            let why = format!("an answer of {bytes} bytes, {BODY_BYTES_MAX} are allowed");
            return self.fail(id, &why);
        }
        if let Some(room) = room(&self.room, answer.len()).await {
            self.send(Kind::Answer, id, answer, room);
        }
    }

    /// Says that the peer's request has no answer.
    pub fn fail(&self, id: u64, why: &str) {
        self.locked(|state| state.press(Frame::words(Kind::Failure, id, why)));
    }

    /// Says goodbye; the connection ends when what waits has been written.
    pub fn goodbye(&self, why: &str) {
        self.locked(|state| state.press(Frame::words(Kind::Goodbye, 0, why)));
    }

    /// The connection ends when what waits has been written.
    pub fn close(&self) {
        self.locked(|state| state.closing = true);
    }

    /// The connection is over; the first reason counts. Calls fail, streams too.
    pub fn end(&self, why: &str) {
        let why: Arc<str> = why.into();
        let first = self.over.send_if_modified(|over| {
            let first = over.is_none();
            if first {
                *over = Some(why.clone());
            }
            first
        });
        if !first {
            return;
        }
        for room in [&*self.room, &*self.parts_room, &self.parting, &self.calls] {
            room.close();
        }
        self.locked(|state| {
            state.over = true;
            state.queue.clear();
            state.calls.clear();
            state.streams.end_all(&why);
        });
    }

    /// The streams, for [`PeerStream`].
    pub(super) fn with_streams<T>(&self, work: impl FnOnce(&mut Streams) -> T) -> T {
        self.locked(|state| work(&mut state.streams))
    }

    /// Works under the lock; behind it wakes the writer and whoever can go on.
    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = work(&mut state);
        let wakers = state.settle();
        let flooded = state.pressing > PRESSING_MAX;
        let ring = state.has_work();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if ring {
            self.bell.notify_one();
        }
        if flooded {
            self.end("the peer sends and does not read");
        }
        result
    }

    /// Writes what waits, in as few writes as it takes, until the connection is over; asks the peer
    /// for a sign of life now and then. The connection's one writer.
    pub async fn write<W: AsyncWrite + Unpin>(&self, mut writer: W, ping_every: Duration) {
        let written = async {
            let mut beat = Instant::now();
            let (mut batch, mut buffer) = (Vec::new(), BytesMut::new());
            loop {
                if beat <= Instant::now() {
                    self.locked(State::ping);
                    beat = Instant::now() + ping_every;
                }
                match self.fill(&mut batch) {
                    Filled::Frames => {
                        for Outgoing { frame, room } in batch.drain(..) {
                            frame.encode(&mut buffer);
                            drop(room);
                        }
                        writer.write_all(&buffer).await?;
                        writer.flush().await?;
                        reuse(&mut buffer);
                    }
                    // Whether it rang or the time came is looked at above.
                    Filled::Nothing => drop(timeout_at(beat, self.bell.notified()).await),
                    Filled::Over => return writer.shutdown().await,
                }
            }
        };
        tokio::select! {
            biased;
            _ = self.over() => {}
            written = written => {
                if let Err(error) = written {
                    self.end(&error.to_string());
                }
            }
        }
    }

    /// Takes frames for one write, whole ones and those of streams by turns.
    fn fill(&self, batch: &mut Vec<Outgoing>) -> Filled {
        let mut state = self.state.lock();
        if state.over {
            return Filled::Over;
        }
        let mut bytes = 0;
        while bytes < WRITE_BYTES {
            let queued = state.dequeue();
            let data = state.streams.next_frame();
            if queued.is_none() && data.is_none() {
                break;
            }
            let data = data.map(|frame| Outgoing { frame, room: None });
            for outgoing in queued.into_iter().chain(data) {
                bytes += outgoing.frame.wire_bytes();
                batch.push(outgoing);
            }
        }
        let wakers = state.settle();
        let closing = state.closing && !state.has_frames();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        match bytes {
            0 if closing => Filled::Over,
            0 => Filled::Nothing,
            _ => Filled::Frames,
        }
    }

    /// What the peer wants next. Answers, streams and pings are dealt with on the way. Cancel-safe.
    pub async fn next<R: AsyncRead + Unpin>(
        self: &Arc<Link>,
        ear: &mut Ear<R>,
    ) -> Result<Incoming, Over> {
        loop {
            let frame = ear.next().await?;
            let id = frame.id;
            match frame.kind {
                Kind::Request => return Ok(Incoming::Request(id, frame.body)),
                Kind::Part => return Ok(Incoming::Part(id, frame.body)),
                Kind::Abandon => return Ok(Incoming::Abandon(id)),
                Kind::Goodbye => return Ok(Incoming::Goodbye(frame.text())),
                Kind::Open => {
                    if let Some(stream) = self.opened(id)? {
                        return Ok(Incoming::Stream(stream, frame.body));
                    }
                }
                Kind::Answer => self.answered(id, Ok(frame.body)),
                Kind::Failure => self.answered(id, Err(frame.text())),
                Kind::Data => self.checked(|streams| streams.data(id, &frame.body))?,
                Kind::Credit => self.checked(|streams| streams.credit(id, &frame.body))?,
                Kind::End => self.checked(|streams| streams.end(id))?,
                Kind::Reset => self.with_streams(|streams| streams.reset(id, &frame.text())),
                Kind::Ping => self.locked(|state| state.press(Frame::bare(Kind::Pong, id))),
                Kind::Pong => self.pong(id),
                Kind::Hello | Kind::Admit | Kind::Refuse => {
                    return Err(Over::fault("a handshake within a connection"));
                }
            }
        }
    }

    fn answered(&self, id: u64, answer: Result<Bytes, String>) {
        let call = self.locked(|state| state.calls.remove(&id));
        // Nobody may be interested any more.
        if let Some(call) = call {
            let _ = call.send(answer);
        }
    }

    fn checked(
        &self,
        work: impl FnOnce(&mut Streams) -> Result<(), Violation>,
    ) -> Result<(), Over> {
        self.with_streams(work).map_err(Over::fault)
    }

    /// The peer opens a stream. None: there are too many, and it has been told.
    fn opened(self: &Arc<Link>, id: u64) -> Result<Option<PeerStream>, Over> {
        if self.lane != Lane::Sessions {
            return Err(Over::fault(format!("a stream on the lane {}", self.lane)));
        }
        self.locked(|state| {
            if id <= state.opened {
                return Err(Over::fault("a stream with a number that is not fresh"));
            }
            state.opened = id;
            if !state.streams.open(id, None) {
                let why = format!("there are {STREAMS_MAX} streams already");
                state.press(Frame::words(Kind::Reset, id, &why));
                return Ok(None);
            }
            Ok(Some(PeerStream::new(self.clone(), id)))
        })
    }

    fn pong(&self, id: u64) {
        let sent = self.locked(|state| state.ping.take_if(|(ping, _)| *ping == id));
        if let Some((_, sent)) = sent {
            let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.round_trip_micros
                .store(micros.max(1), Ordering::Relaxed);
        }
    }
}

/// Keeps the buffer's memory unless it has become much.
fn reuse(buffer: &mut BytesMut) {
    match buffer.capacity() > WRITE_BUFFER_BYTES {
        true => *buffer = BytesMut::new(),
        false => buffer.clear(),
    }
}

impl State {
    fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Queues a frame that asks for no room: there are few of these, or the peer is unsound.
    fn press(&mut self, frame: Frame) {
        if !self.over {
            self.pressing += 1;
            self.queue.push_back(Outgoing { frame, room: None });
        }
    }

    fn ping(&mut self) {
        if self.pinging {
            return;
        }
        self.pinging = true;
        let id = self.fresh_id();
        self.ping.get_or_insert_with(|| (id, Instant::now()));
        self.press(Frame::bare(Kind::Ping, id));
    }

    fn dequeue(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.pop_front()?;
        if outgoing.room.is_none() {
            self.pressing -= 1;
        }
        if outgoing.frame.kind == Kind::Ping {
            self.pinging = false;
        }
        Some(outgoing)
    }

    /// Queues what the streams want to be sent; gives whom to wake.
    fn settle(&mut self) -> Vec<Waker> {
        for frame in std::mem::take(&mut self.streams.frames) {
            self.press(frame);
        }
        std::mem::take(&mut self.streams.wakers)
    }

    fn has_frames(&self) -> bool {
        !self.queue.is_empty() || self.streams.has_line()
    }

    fn has_work(&self) -> bool {
        self.over || self.closing || self.has_frames()
    }
}

/// Where the answer to a call comes.
type Answered = oneshot::Receiver<Result<Bytes, String>>;

/// Room in a queue; None: the connection is over.
async fn room(of: &Arc<Semaphore>, body_bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(HEADER_BYTES + body_bytes).ok()?;
    of.clone().acquire_many_owned(bytes).await.ok()
}

/// A request that goes in parts. If its caller gives up on the way the peer is told, which has
/// memory in it.
struct Parts<'a> {
    link: &'a Link,
    id: u64,
    rest: Bytes,
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            let abandon = Frame::bare(Kind::Abandon, self.id);
            self.link.locked(|state| state.press(abandon));
        }
    }
}

/// The interest in an answer; ends with the call.
struct Interest<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        self.link.locked(|state| state.calls.remove(&self.id));
    }
}

/// Reads frames and notices when a peer has gone silent. What counts is how often it was listened
/// for in vain, not the clock alone: a process that was stopped for a while must not take what it
/// has not read yet for silence.
pub struct Ear<R> {
    reader: Reader<R>,
    ping_every: Duration,
    silent_pings_max: u32,
    beat: Instant,
    silent_pings: u32,
    heard_bytes: u64,
}

impl<R: AsyncRead + Unpin> Ear<R> {
    /// An ear for a peer that says something at least with every ping.
    pub fn new(mut reader: Reader<R>, ping_every: Duration, silent_pings_max: u32) -> Ear<R> {
        reader.admit();
        Ear {
            heard_bytes: reader.received_bytes(),
            reader,
            ping_every,
            silent_pings_max,
            beat: Instant::now() + ping_every,
            silent_pings: 0,
        }
    }

    /// The next frame. Cancel-safe.
    async fn next(&mut self) -> Result<Frame, Over> {
        loop {
            match timeout_at(self.beat, self.reader.next()).await {
                Ok(Ok(Some(frame))) => return Ok(frame),
                Ok(Ok(None)) => return Err(Over::lost("the peer closed the connection")),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => self.count()?,
            }
        }
    }

    /// A beat is over. Part of a large frame is a sign of life, too.
    fn count(&mut self) -> Result<(), Over> {
        self.beat = Instant::now() + self.ping_every;
        let received = self.reader.received_bytes();
        self.silent_pings = match received == self.heard_bytes {
            true => self.silent_pings + 1,
            false => 0,
        };
        self.heard_bytes = received;
        if self.silent_pings >= self.silent_pings_max {
            let silence = self.ping_every * self.silent_pings;
            return Err(Over::lost(format!("the peer was silent for {silence:?}")));
        }
        Ok(())
    }
}
