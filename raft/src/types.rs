//! openraft's type parameters for Freehold, and the bytes of what only Raft writes: votes,
//! memberships. Nothing of openraft leaves this crate.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::{Kind, Payload, Position};
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;

use crate::transport::NodeId;

/// A replica's id within its group: `node number << 32 | join number`. Never reused with an
/// empty log (openraft "Node IDs Must Not Be Reused").
pub type ReplicaId = u64;

/// The join number of a group's first voters.
pub const FIRST_JOIN: u32 = 1;
/// That of replicas from before there were numbers: the only voters of their groups.
const UNNUMBERED: u32 = 0;

/// The id of the replica of a node that joined with this number.
pub fn replica(node: NodeId, join: u32) -> ReplicaId {
    u64::from(node.0) << 32 | u64::from(join)
}

/// The node of a replica.
pub fn node_of(replica: ReplicaId) -> NodeId {
    NodeId((replica >> 32) as u32)
}

/// The join number of a replica.
pub fn join_of(replica: ReplicaId) -> u32 {
    replica as u32
}

/// The type parameters: one leader per term, so that a term is the fencing epoch.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Command;
    type R = ();
    type NodeId = ReplicaId;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId<u64, ReplicaId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Command, ReplicaId, ()>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type Responder<X>
        = openraft::impls::OneshotResponder<Self, X>
    where
        X: Send + 'static;
    type Batch<X>
        = openraft::impls::InlineBatch<X>
    where
        X: Send + 'static;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// openraft's log id for [`Types`].
pub type LogId = openraft::alias::LogIdOf<Types>;
/// openraft's vote for [`Types`].
pub type Vote = openraft::alias::VoteOf<Types>;
/// openraft's entry for [`Types`].
pub type RaftEntry = openraft::alias::EntryOf<Types>;
/// openraft's membership for [`Types`].
pub type Membership = openraft::Membership<ReplicaId, ()>;
/// openraft's stored membership for [`Types`].
pub type StoredMembership = openraft::alias::StoredMembershipOf<Types>;

/// What is proposed: the bytes of one entry or of one part of a large one, encoded once.
#[derive(Clone, PartialEq)]
pub struct Command {
    /// [`Kind::Entry`] or [`Kind::Part`].
    pub kind: Kind,
    /// The entry's position; a part carries that of the newest entry before it.
    pub position: Position,
    /// The images.
    pub payload: Payload,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.kind, self.position)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A log id from its two numbers.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// The term of a log id.
pub fn term_of(id: &LogId) -> u64 {
    **id.committed_leader_id()
}

/// Bytes of a vote.
pub const VOTE_BYTES: usize = 17;

/// Appends a vote: term, voted-for, committed.
pub fn put_vote(out: &mut BytesMut, vote: &Vote) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
}

/// Takes a vote from the front.
pub fn get_vote(bytes: &mut impl Buf) -> Option<Vote> {
    let leader_id = LeaderId {
        term: bytes.try_get_u64_le().ok()?,
        voted_for: bytes.try_get_u64_le().ok()?,
    };
    let committed = match bytes.try_get_u8().ok()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Vote {
        leader_id,
        committed,
    })
}

/// What the journal keeps in a group's vote record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ballot {
    /// The vote, and with which join number this node's replica is in the group: a replica is
    /// opened under the id under which it has voted.
    Vote(Vote, u32),
    /// This node's replica has ended; this join number and those below it never come back.
    Ended(u32),
}

/// First byte of the record of an ended replica; no vote is that short.
const ENDED: u8 = 0xED;

/// The bytes of a vote record: vote and join number, 21 bytes; of an ended replica 5. (Votes of
/// 17 bytes, from before there were numbers, are read, too.)
pub fn encode_ballot(ballot: &Ballot) -> Bytes {
    let mut out = BytesMut::with_capacity(VOTE_BYTES + 4);
    match ballot {
        Ballot::Vote(vote, join) => {
            put_vote(&mut out, vote);
            out.put_u32_le(*join);
        }
        Ballot::Ended(join) => {
            out.put_u8(ENDED);
            out.put_u32_le(*join);
        }
    }
    out.freeze()
}

/// The inverse of [`encode_ballot`]; `None` if the bytes are damaged.
pub fn decode_ballot(mut bytes: &[u8]) -> Option<Ballot> {
    const ENDED_BYTES: usize = 5;
    const NUMBERED_BYTES: usize = VOTE_BYTES + 4;
    match bytes.len() {
        VOTE_BYTES => Some(Ballot::Vote(get_vote(&mut bytes)?, UNNUMBERED)),
        NUMBERED_BYTES => {
            let vote = get_vote(&mut bytes)?;
            Some(Ballot::Vote(vote, bytes.try_get_u32_le().ok()?))
        }
        ENDED_BYTES if bytes.get_u8() == ENDED => Some(Ballot::Ended(bytes.get_u32_le())),
        _ => None,
    }
}

/// Appends what may be a log id.
pub fn put_log_id(out: &mut BytesMut, id: Option<&LogId>) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        out.put_u64_le(term_of(id));
        out.put_u64_le(id.index);
    }
}

/// Takes what may be a log id from the front.
pub fn get_log_id(bytes: &mut impl Buf) -> Option<Option<LogId>> {
    match bytes.try_get_u8().ok()? {
        0 => Some(None),
        1 => {
            let (term, index) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
            Some(Some(log_id(term, index)))
        }
        _ => None,
    }
}

/// First byte of the image of a record that is Raft's own.
const BLANK: u8 = 0;
const MEMBERSHIP: u8 = 1;

/// The image of a blank entry.
pub fn encode_blank() -> Bytes {
    Bytes::from_static(&[BLANK])
}

/// A membership's bytes: tag, number of configurations, each as a counted list of voters, then
/// all nodes (learners included) as a counted list.
pub fn encode_membership(membership: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(MEMBERSHIP);
    let configs = membership.get_joint_config();
    out.put_u32_le(configs.len() as u32);
    for config in configs {
        put_ids(&mut out, config.len(), config.iter().copied());
    }
    let nodes: Vec<ReplicaId> = membership.nodes().map(|(id, ())| *id).collect();
    put_ids(&mut out, nodes.len(), nodes.into_iter());
    out.freeze()
}

fn put_ids(out: &mut BytesMut, count: usize, ids: impl Iterator<Item = ReplicaId>) {
    out.put_u32_le(count as u32);
    ids.for_each(|id| out.put_u64_le(id));
}

/// What a record of Raft's own holds: `None` inside = blank; the outer `None` = not decodable.
pub fn decode_raft_image(mut bytes: &[u8]) -> Option<Option<Membership>> {
    match bytes.try_get_u8().ok()? {
        BLANK => Some(None),
        MEMBERSHIP => {
            let count = bytes.try_get_u32_le().ok()?;
            let mut configs = Vec::new();
            for _ in 0..count {
                configs.push(get_ids(&mut bytes)?);
            }
            // Raft takes it for granted.
            if configs.iter().any(BTreeSet::is_empty) {
                return None;
            }
            let nodes = get_ids(&mut bytes)?;
            bytes
                .is_empty()
                .then(|| Some(Membership::new_with_defaults(configs, nodes)))
        }
        _ => None,
    }
}

fn get_ids(bytes: &mut &[u8]) -> Option<BTreeSet<ReplicaId>> {
    let count = bytes.try_get_u32_le().ok()?;
    (0..count).map(|_| bytes.try_get_u64_le().ok()).collect()
}

/// What a checkpoint keeps for Raft.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The last applied membership and its log id.
    pub members: StoredMembership,
    /// The greatest join number that any applied membership had.
    pub joins: u32,
}

impl State {
    /// The state as a membership is applied.
    pub fn then(&self, members: StoredMembership) -> State {
        let joins = members.nodes().map(|(id, ())| join_of(*id)).max();
        State {
            joins: self.joins.max(joins.unwrap_or_default()),
            members,
        }
    }
}

/// Bits of the first byte of [`encode_state`].
const HAS_LOG_ID: u8 = 1;
const HAS_JOINS: u8 = 2;

/// The bytes kept in a checkpoint for Raft: flags, log id of the membership, greatest join
/// number, membership. (Without the flag for it there is no number: it is what the members have.)
pub fn encode_state(state: &State) -> Bytes {
    let mut out = BytesMut::new();
    let (flags, term, index) = match state.members.log_id() {
        Some(id) => (HAS_JOINS | HAS_LOG_ID, term_of(id), id.index),
        None => (HAS_JOINS, 0, 0),
    };
    out.put_u8(flags);
    out.put_u64_le(term);
    out.put_u64_le(index);
    out.put_u32_le(state.joins);
    out.put_slice(&encode_membership(state.members.membership()));
    out.freeze()
}

/// The inverse of [`encode_state`]; empty bytes are the default.
pub fn decode_state(mut bytes: &[u8]) -> Option<State> {
    if bytes.is_empty() {
        return Some(State::default());
    }
    let flags = bytes.try_get_u8().ok()?;
    if flags & !(HAS_LOG_ID | HAS_JOINS) != 0 {
        return None;
    }
    let (term, index) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let joins = match flags & HAS_JOINS {
        0 => 0,
        _ => bytes.try_get_u32_le().ok()?,
    };
    let membership = decode_raft_image(bytes)??;
    let id = (flags & HAS_LOG_ID != 0).then(|| log_id(term, index));
    let before = State {
        joins,
        ..State::default()
    };
    Some(before.then(StoredMembership::new(id, membership)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_and_memberships_round_trip() {
        let leader_id = LeaderId {
            term: 7,
            voted_for: 1 << 32 | 3,
        };
        let vote = Vote {
            leader_id,
            committed: true,
        };
        for ballot in [Ballot::Vote(vote, 7), Ballot::Ended(9)] {
            let bytes = encode_ballot(&ballot);
            assert_eq!(decode_ballot(&bytes), Some(ballot));
            assert_eq!(decode_ballot(&bytes[1..]), None);
        }
        let unnumbered = &encode_ballot(&Ballot::Vote(vote, 7))[..VOTE_BYTES];
        assert_eq!(decode_ballot(unnumbered), Some(Ballot::Vote(vote, 0)));
        assert_eq!(decode_ballot(&[0; 16]), None);

        let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        let membership = Membership::new_with_defaults(configs, [9]);
        let bytes = encode_membership(&membership);
        assert_eq!(decode_raft_image(&bytes), Some(Some(membership.clone())));
        for cut in 1..bytes.len() {
            assert_eq!(decode_raft_image(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode_raft_image(&encode_blank()), Some(None));

        let members = StoredMembership::new(Some(log_id(3, 8)), membership);
        let state = State { joins: 12, members };
        assert_eq!(decode_state(&encode_state(&state)), Some(state));
    }
}
