//! openraft's state machine of one group: hands committed records to `storage::Group` in log
//! order.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use journal::{Index, Journal, Kind, Payload, Term};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, SnapshotMeta};
use storage::{Entry, Group, GroupCheckpoint, Groups, PartSource, Verdict};

use crate::leadership::Leadership;
use crate::snapshot::{Data, Staged, meta_of};
use crate::types::{
    Command, LogId, ReplicaId, State, StoredMembership, Types, decode_state, encode_state, log_id,
    term_of,
};
use crate::upkeep::OnDisk;

/// openraft's snapshot metadata for [`Types`].
type Meta = openraft::alias::SnapshotMetaOf<Types>;
/// openraft's snapshot for [`Types`].
type Snapshot = openraft::alias::SnapshotOf<Types, Data>;
/// What an entry of the log holds.
type Content = EntryPayload<Command, u64, ()>;

/// The state machine.
pub struct Machine {
    group: Arc<Group>,
    groups: Arc<Groups>,
    journal: Journal,
    leadership: Arc<Leadership>,
    me: ReplicaId,
    state: State,
}

impl Machine {
    /// The state machine of a group as its last checkpoint left it.
    pub fn new(
        group: Arc<Group>,
        groups: Arc<Groups>,
        journal: Journal,
        leadership: Arc<Leadership>,
        me: ReplicaId,
    ) -> io::Result<Machine> {
        let (_, state) = group.applied_log();
        let state = decoded(&state)?;
        group.set_sole(is_sole(&state.members, me));
        Ok(Machine {
            group,
            groups,
            journal,
            leadership,
            me,
            state,
        })
    }

    fn apply_one(&mut self, id: LogId, payload: Content) -> io::Result<()> {
        let begins = matches!(payload, EntryPayload::Blank);
        if let Some(state) = apply(&self.group, &self.journal, id, payload)? {
            self.group.set_sole(is_sole(&state.members, self.me));
            // A leader that is no member any more hears of no other: its time is over. One that has
            // lost its vote only leads on until it has handed over.
            if !state.members.nodes().any(|(id, ())| *id == self.me) {
                self.leadership.removed(term_of(&id));
            }
            self.state = state;
        }
        if begins {
            self.leadership.begun(term_of(&id));
        }
        Ok(())
    }

    fn install(&self, staged: &Staged) -> storage::Result<()> {
        let (id, applied, meta) = (self.group.id(), staged.applied, &staged.meta);
        // What it rests on is on disk before it is: after a restart its tables are to be read even
        // if another owner is away then.
        self.groups.checkpoint(&OnDisk(self.journal.clone()))?;
        staged.read(|pieces| self.groups.install(id, applied, meta, pieces))?;
        tracing::info!(group = %id, position = %applied.position, "a snapshot is installed");
        Ok(())
    }

    fn checkpoint(&self) -> Option<GroupCheckpoint> {
        let store = self.groups.store();
        store
            .checkpoint()
            .into_iter()
            .find(|c| c.group == self.group.id())
    }
}

/// Applies one committed entry of the log to its group. Returns Raft's new state, if it is a
/// membership.
pub(crate) fn apply(
    group: &Group,
    journal: &Journal,
    id: LogId,
    payload: Content,
) -> io::Result<Option<State>> {
    let (term, index) = (Term(term_of(&id)), Index(id.index));
    match payload {
        EntryPayload::Blank => group.apply_raft(term, index, None),
        EntryPayload::Membership(membership) => {
            let before = decoded(&group.applied_log().1)?;
            let state = before.then(StoredMembership::new(Some(id), membership));
            group.apply_raft(term, index, Some(encode_state(&state)));
            return Ok(Some(state));
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
    let large = group.has_open_parts() && has_parts(command)?;
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

fn has_parts(command: &Command) -> io::Result<bool> {
    let header = Entry::decode_header(&command.payload).map_err(io::Error::other)?;
    Ok(header.parts.is_some())
}

/// What a checkpoint has kept for Raft.
pub(crate) fn decoded(state: &[u8]) -> io::Result<State> {
    decode_state(state).ok_or_else(|| io::Error::other("damaged membership"))
}

/// One voter decides alone; a learner or a second voter may lead next.
fn is_sole(membership: &StoredMembership, me: ReplicaId) -> bool {
    membership.voter_ids().eq([me]) && membership.membership().learner_ids().count() == 0
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
    meta_of(checkpoint.applied, &state)
}

/// Names the last checkpoint.
pub struct Builder(Option<GroupCheckpoint>);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Data;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        Ok(Snapshot {
            meta: meta(self.0.take())?,
            snapshot: Data::Checkpoint,
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Data;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let (applied, state) = self.group.applied_log();
        // The membership is a group's first entry: without one nothing is applied.
        let id = (!state.is_empty()).then(|| log_id(applied.term.0, applied.index.0));
        Ok((id, self.state.members.clone()))
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

    /// Durable on return, for openraft purges the log behind it.
    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Data) -> io::Result<()> {
        let Data::Staged(staged) = snapshot else {
            let what = format!("nothing to install at {:?}", meta.last_log_id);
            return Err(io::Error::other(what));
        };
        tokio::task::block_in_place(|| self.install(&staged)).map_err(io::Error::other)?;
        self.state = decoded(&self.group.applied_log().1)?;
        self.group.set_sole(is_sole(&self.state.members, self.me));
        Ok(())
    }

    /// What is applied, to be sent; or, while that can't be, the name of the last checkpoint.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if let Some(export) = self.group.export().map_err(io::Error::other)? {
            return Ok(Some(Snapshot {
                meta: meta_of(export.applied(), export.raft_state())?,
                snapshot: Data::Export(Box::new(export)),
            }));
        }
        let meta = meta(self.checkpoint())?;
        Ok(meta.last_log_id.is_some().then_some(Snapshot {
            meta,
            snapshot: Data::Checkpoint,
        }))
    }
}
