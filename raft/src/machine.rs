//! openraft's state machine of one group: hands committed records to `storage::Group` in log
//! order, and says who leads once everything before the own term is applied.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use journal::{Index, Journal, Kind, Payload, Position, Term};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, SnapshotMeta};
use parking_lot::Mutex;
use storage::{Group, GroupCheckpoint, Groups, PartSource, TableStore, Verdict};

use crate::types::{
    Command, LogId, StoredMembership, Types, decode_stored_membership, encode_stored_membership,
    log_id, term_of,
};

/// openraft's snapshot metadata for [`Types`].
type Meta = openraft::alias::SnapshotMetaOf<Types>;
/// A snapshot is the last checkpoint, named by its metadata. The groups of one voter that this
/// version makes have nobody to send one to, so it carries no data.
type Snapshot = openraft::alias::SnapshotOf<Types, ()>;
/// What an entry of the log holds.
type Content = EntryPayload<Command, u64, ()>;

/// Leads the group when both are true, in either order: this replica won the election of a term,
/// and the first entry of that term is applied (so everything before it is, too).
pub struct Leadership {
    group: Arc<Group>,
    groups: Arc<Groups>,
    /// Positions begin above it: nothing in this node's journal lies beyond.
    floor: Position,
    state: Mutex<Terms>,
}

#[derive(Default)]
struct Terms {
    elected: Option<u64>,
    begun: u64,
    leads: Option<u64>,
}

impl Leadership {
    /// Nobody leads yet.
    pub fn new(group: Arc<Group>, groups: Arc<Groups>, floor: Position) -> Leadership {
        Leadership {
            group,
            groups,
            floor,
            state: Mutex::default(),
        }
    }

    /// This replica won the election of `term`.
    pub fn elected(&self, term: u64) {
        let mut state = self.state.lock();
        state.elected = Some(term);
        self.lead(&mut state);
    }

    /// Another one was heard of: what is pending is in doubt now.
    pub fn deposed(&self) {
        let mut state = self.state.lock();
        state.elected = None;
        if state.leads.take().is_some() {
            self.group.step_down();
        }
    }

    /// The first entry of `term` is applied.
    fn begun(&self, term: u64) {
        let mut state = self.state.lock();
        state.begun = state.begun.max(term);
        self.lead(&mut state);
    }

    fn lead(&self, state: &mut Terms) {
        if let Some(term) = state.elected
            && state.begun == term
            && state.leads != Some(term)
        {
            state.leads = Some(term);
            // Readers of the feed may have passed what the others have applied.
            let applied = self.groups.all().iter().map(|group| group.applied()).max();
            let floor = self.floor.max(applied.unwrap_or_default());
            self.group.lead(Term(term), floor);
        }
    }
}

/// The state machine.
pub struct Machine {
    group: Arc<Group>,
    store: Arc<dyn TableStore>,
    journal: Journal,
    leadership: Arc<Leadership>,
    membership: StoredMembership,
}

impl Machine {
    /// The state machine of a group as its last checkpoint left it.
    pub fn new(
        group: Arc<Group>,
        store: Arc<dyn TableStore>,
        journal: Journal,
        leadership: Arc<Leadership>,
    ) -> io::Result<Machine> {
        let (_, state) = group.applied_log();
        let membership = membership(&state)?;
        group.set_sole(is_sole(&membership));
        Ok(Machine {
            group,
            store,
            journal,
            leadership,
            membership,
        })
    }

    fn apply_one(&mut self, id: LogId, payload: Content) -> io::Result<()> {
        let begins = matches!(payload, EntryPayload::Blank);
        if let Some(membership) = apply(&self.group, &self.journal, id, payload)? {
            self.group.set_sole(is_sole(&membership));
            self.membership = membership;
        }
        if begins {
            self.leadership.begun(term_of(&id));
        }
        Ok(())
    }

    fn checkpoint(&self) -> Option<GroupCheckpoint> {
        self.store
            .checkpoint()
            .into_iter()
            .find(|c| c.group == self.group.id())
    }
}

/// Applies one committed entry of the log to its group. Returns the membership, if it is one.
pub(crate) fn apply(
    group: &Group,
    journal: &Journal,
    id: LogId,
    payload: Content,
) -> io::Result<Option<StoredMembership>> {
    let (term, index) = (Term(term_of(&id)), Index(id.index));
    match payload {
        EntryPayload::Blank => group.apply_raft(term, index, None),
        EntryPayload::Membership(membership) => {
            let membership = StoredMembership::new(Some(id), membership);
            let state = encode_stored_membership(&membership);
            group.apply_raft(term, index, Some(state));
            return Ok(Some(membership));
        }
        EntryPayload::Normal(command) => apply_command(group, journal, term, index, &command)?,
    }
    Ok(None)
}

fn apply_command(
    group: &Group,
    journal: &Journal,
    term: Term,
    index: Index,
    command: &Command,
) -> io::Result<()> {
    if command.kind == Kind::Part {
        group
            .apply_part(term, index, &command.payload)
            .map_err(io::Error::other)?;
        return Ok(());
    }
    let large = group.parts_floor().is_some();
    let mut parts = JournalParts { group, journal };
    let mut apply = || group.apply(term, index, &command.payload, &mut parts);
    // A large entry takes seconds: the other groups of this thread go on elsewhere.
    let verdict = if large {
        tokio::task::block_in_place(apply)
    } else {
        apply()
    };
    match verdict.map_err(io::Error::other)? {
        Verdict::Applied(_) | Verdict::Repeated => {}
        Verdict::Broken(position) => {
            tracing::warn!(group = %group.id(), %position, "entry off the chain, no effect");
        }
    }
    Ok(())
}

fn membership(state: &[u8]) -> io::Result<StoredMembership> {
    decode_stored_membership(state).ok_or_else(|| io::Error::other("damaged membership"))
}

/// One voter decides alone; a learner or a second voter may lead next.
fn is_sole(membership: &StoredMembership) -> bool {
    membership.voter_ids().count() == 1 && membership.membership().learner_ids().count() == 0
}

/// A large entry's parts, read back from the journal.
struct JournalParts<'a> {
    group: &'a Group,
    journal: &'a Journal,
}

impl PartSource for JournalParts<'_> {
    fn part(&mut self, index: Index) -> storage::Result<Payload> {
        let corrupt = |what: String| storage::Error::Corrupt {
            place: format!(
                "journal, group {}, part at index {}",
                self.group.id(),
                index.0
            ),
            what,
        };
        let records = self
            .journal
            .read(self.group.id(), index, Index(index.0 + 1), usize::MAX)
            .map_err(|e| corrupt(e.to_string()))?;
        match records.into_iter().next() {
            Some(record) if record.kind == Kind::Part => Ok(record.payload),
            Some(record) => Err(corrupt(format!("found {:?}", record.kind))),
            None => Err(corrupt("not there".into())),
        }
    }
}

/// The metadata of a checkpoint.
fn meta(checkpoint: Option<GroupCheckpoint>) -> io::Result<Meta> {
    let Some(checkpoint) = checkpoint else {
        return Ok(SnapshotMeta::default());
    };
    let state = checkpoint.raft_state().map_err(io::Error::other)?;
    if state.is_empty() {
        return Ok(SnapshotMeta::default());
    }
    let applied = checkpoint.applied;
    Ok(SnapshotMeta {
        last_log_id: Some(log_id(applied.term.0, applied.index.0)),
        last_membership: membership(&state)?,
    })
}

/// Names the last checkpoint.
pub struct Builder(Option<GroupCheckpoint>);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        Ok(Snapshot {
            meta: meta(self.0.take())?,
            snapshot: (),
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let (applied, state) = self.group.applied_log();
        // The membership is a group's first entry: without one nothing is applied.
        let id = (!state.is_empty()).then(|| log_id(applied.term.0, applied.index.0));
        Ok((id, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.apply_one(entry.log_id, entry.payload)?;
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(Builder(self.checkpoint()))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.checkpoint())
    }

    async fn install_snapshot(&mut self, meta: &Meta, _snapshot: ()) -> io::Result<()> {
        Err(io::Error::other(format!(
            "nobody can have sent a snapshot: {:?}",
            meta.last_log_id
        )))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let meta = meta(self.checkpoint())?;
        Ok(meta
            .last_log_id
            .is_some()
            .then_some(Snapshot { meta, snapshot: () }))
    }
}
