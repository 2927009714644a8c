//! LISTEN and NOTIFY between the sessions of a node, and the wake-up of those who listen to a
//! table: delivered when the commit is applied, coalesced, never a promise (the feed is).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::{Error, Result, state};

/// Bytes of one transaction's notifications. PostgreSQL's queue, which all sessions share, has
/// 8 GiB on disk; here they wait for the commit in memory.
const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// What a notification costs there beside its text.
const NOTE_BYTES: usize = 128;

/// A channel and a payload.
type Note = Arc<(String, String)>;

/// What a transaction will send: in order, and what is the same but once.
#[derive(Default)]
pub(super) struct Outbox {
    notes: Vec<Note>,
    seen: HashSet<Note>,
    bytes: usize,
}

impl Outbox {
    /// Adds one, unless it is there.
    ///
    /// # Errors
    /// 54000 when there are too many.
    pub fn push(&mut self, channel: &str, payload: &str) -> Result<()> {
        self.add(Arc::new((channel.to_owned(), payload.to_owned())))
    }

    /// Adds what a statement has left.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub fn append(&mut self, other: Outbox) -> Result<()> {
        other.notes.into_iter().try_for_each(|note| self.add(note))
    }

    fn add(&mut self, note: Note) -> Result<()> {
        if self.seen.contains(&note) {
            return Ok(());
        }
        let bytes = cost(&note);
        if self.bytes + bytes > OUTBOX_BYTES_MAX {
            return Err(Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "too many notifications in the NOTIFY queue",
            )
            .detail(format!(
                "A transaction can send {OUTBOX_BYTES_MAX} bytes of them."
            )));
        }
        self.bytes += bytes;
        self.seen.insert(Arc::clone(&note));
        self.notes.push(note);
        Ok(())
    }

    /// How many there are (savepoints go back to it with `truncate`).
    pub fn len(&self) -> usize {
        self.notes.len()
    }

    /// Forgets those that were added later.
    pub fn truncate(&mut self, len: usize) {
        for note in self.notes.drain(len.min(self.notes.len())..) {
            self.bytes -= cost(&note);
            self.seen.remove(&note);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Channels and payloads, in order.
    pub fn into_notes(self) -> impl Iterator<Item = (String, String)> {
        drop(self.seen);
        self.notes.into_iter().map(Arc::unwrap_or_clone)
    }
}

fn cost(note: &Note) -> usize {
    note.0.len() + note.1.len() + NOTE_BYTES
}

/// One NotificationResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The sender's process id.
    pub process: i32,
    /// The channel.
    pub channel: String,
    /// The payload.
    pub payload: String,
}

/// What waits for one session.
pub struct Mailbox {
    inner: Mutex<Inner>,
    max: usize,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Notification>,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Mailbox {
    /// An empty mailbox for at most `max` notifications.
    pub fn new(max: usize) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            inner: Mutex::default(),
            max,
        })
    }

    /// Says whom to wake when something comes while the session is idle.
    pub fn on_arrival(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.inner.lock().wake = Some(wake);
    }

    /// Takes what has come.
    pub fn take(&self) -> Vec<Notification> {
        self.inner.lock().queue.drain(..).collect()
    }

    /// Adds one. `latest`: an older one of the same channel is replaced by it (table wake-ups).
    /// A session that does not read loses its oldest.
    fn push(&self, notification: Notification, latest: bool) {
        let wake = {
            let mut inner = self.inner.lock();
            if latest {
                inner.queue.retain(|n| n.channel != notification.channel);
            }
            if inner.queue.len() >= self.max {
                inner.queue.pop_front();
            }
            inner.queue.push_back(notification);
            inner.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// Who listens to what on this node.
#[derive(Default)]
pub struct Notifier {
    channels: Mutex<BTreeMap<String, Vec<Listener>>>,
}

struct Listener {
    process: i32,
    mailbox: Weak<Mailbox>,
}

impl Notifier {
    /// LISTEN. Listening twice is once.
    pub fn listen(&self, channel: &str, process: i32, mailbox: &Arc<Mailbox>) {
        let mut channels = self.channels.lock();
        let listeners = channels.entry(channel.to_owned()).or_default();
        if !listeners.iter().any(|l| l.process == process) {
            listeners.push(Listener {
                process,
                mailbox: Arc::downgrade(mailbox),
            });
        }
    }

    /// UNLISTEN one channel, or all.
    pub fn unlisten(&self, channel: Option<&str>, process: i32) {
        let mut channels = self.channels.lock();
        channels.retain(|name, listeners| {
            if channel.is_none_or(|c| c == name) {
                listeners.retain(|l| l.process != process);
            }
            !listeners.is_empty()
        });
    }

    /// Does anyone listen to the channel?
    pub fn has_listeners(&self, channel: &str) -> bool {
        self.channels.lock().contains_key(channel)
    }

    /// Does anyone listen at all?
    pub fn is_idle(&self) -> bool {
        self.channels.lock().is_empty()
    }

    /// Delivers a notification to all who listen and may hear it.
    pub fn send_to(
        &self,
        notification: &Notification,
        latest: bool,
        may_hear: impl Fn(i32) -> bool,
    ) {
        let listeners: Vec<(i32, Arc<Mailbox>)> = {
            let channels = self.channels.lock();
            let Some(listeners) = channels.get(&notification.channel) else {
                return;
            };
            let live = |l: &Listener| Some((l.process, l.mailbox.upgrade()?));
            listeners.iter().filter_map(live).collect()
        };
        let mailboxes = listeners
            .into_iter()
            .filter(|(p, _)| may_hear(*p))
            .map(|(_, m)| m);
        for mailbox in mailboxes {
            mailbox.push(notification.clone(), latest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(payload: &str) -> Notification {
        Notification {
            process: 1,
            channel: "c".into(),
            payload: payload.into(),
        }
    }

    #[test]
    fn bounded_and_coalesced() {
        let notifier = Notifier::default();
        let mailbox = Mailbox::new(2);
        notifier.listen("c", 7, &mailbox);
        notifier.listen("c", 7, &mailbox);
        for payload in ["1", "2", "3"] {
            notifier.send_to(&note(payload), false, |p| p == 7);
        }
        assert_eq!(mailbox.take(), [note("2"), note("3")]);
        notifier.send_to(&note("1"), true, |_| true);
        notifier.send_to(&note("2"), true, |_| true);
        assert_eq!(mailbox.take(), [note("2")]);
        notifier.unlisten(None, 7);
        notifier.send_to(&note("4"), false, |_| true);
        assert!(mailbox.take().is_empty() && notifier.is_idle());
    }
}
