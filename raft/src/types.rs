//! openraft's type parameters for Freehold, and the bytes of what only Raft writes: votes,
//! memberships. Nothing of openraft leaves this crate.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::{Kind, Payload, Position};
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;

/// A replica's id within its group: `node number << 32 | join number`. Never reused with an
/// empty log (openraft "Node IDs Must Not Be Reused").
pub type ReplicaId = u64;

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

/// A vote's bytes: term, voted-for, committed (17 bytes).
pub fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
    out.freeze()
}

/// The inverse of [`encode_vote`]; `None` if the length is wrong.
pub fn decode_vote(mut bytes: &[u8]) -> Option<Vote> {
    if bytes.len() != 17 {
        return None;
    }
    let leader_id = LeaderId {
        term: bytes.get_u64_le(),
        voted_for: bytes.get_u64_le(),
    };
    Some(Vote {
        leader_id,
        committed: bytes.get_u8() != 0,
    })
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

/// The bytes kept in a checkpoint for Raft: the last applied membership and its log id.
pub fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let mut out = BytesMut::new();
    let (term, index) = match stored.log_id() {
        Some(id) => (term_of(id), id.index),
        None => (0, 0),
    };
    out.put_u8(u8::from(stored.log_id().is_some()));
    out.put_u64_le(term);
    out.put_u64_le(index);
    out.put_slice(&encode_membership(stored.membership()));
    out.freeze()
}

/// The inverse of [`encode_stored_membership`]; empty bytes are the default.
pub fn decode_stored_membership(mut bytes: &[u8]) -> Option<StoredMembership> {
    if bytes.is_empty() {
        return Some(StoredMembership::default());
    }
    let some = bytes.try_get_u8().ok()? != 0;
    let (term, index) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let membership = decode_raft_image(bytes)??;
    Some(StoredMembership::new(
        some.then(|| log_id(term, index)),
        membership,
    ))
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
        assert_eq!(decode_vote(&encode_vote(&vote)), Some(vote));
        assert_eq!(decode_vote(&[0; 16]), None);

        let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        let membership = Membership::new_with_defaults(configs, [9]);
        let bytes = encode_membership(&membership);
        assert_eq!(decode_raft_image(&bytes), Some(Some(membership.clone())));
        for cut in 1..bytes.len() {
            assert_eq!(decode_raft_image(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode_raft_image(&encode_blank()), Some(None));

        let stored = StoredMembership::new(Some(log_id(3, 8)), membership);
        assert_eq!(
            decode_stored_membership(&encode_stored_membership(&stored)),
            Some(stored)
        );
    }
}
