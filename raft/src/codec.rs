//! The bytes of requests between replicas and of their answers, written by hand. Entries travel
//! as the images that the journal has: encoded once, their CRCs checked by who receives them.
//!
//! ```text
//! request: version u8 | kind u8 | group u32 | to u64 | body | CRC u32 of all before
//! answer:  version u8 | kind u8 | body | CRC u32 of all before
//! entry:   kind u8 | term u64 | index u64 | position u64 | length u32 | images
//! ```
//! Numbers are little-endian. Nothing is trusted: a length is compared with what is there before
//! anything of that size is made.

mod snapshot;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::{GroupId, Index, Kind, Payload, Position, Record, Term};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

pub use self::snapshot::{CHUNK_BYTES_MAX, Offer, SnapshotAnswer, SnapshotRequest};
use crate::log;
use crate::transport::REQUEST_BYTES_MAX;
use crate::types::{
    LogId, RaftEntry, ReplicaId, Types, Vote, get_log_id, get_vote, put_log_id, put_vote, term_of,
};

const VERSION: u8 = 1;
/// Entries in one request at most.
const ENTRIES_MAX: u32 = 4096;
/// Bytes of an entry beside its images.
const ENTRY_BYTES: usize = 29;
const CRC_BYTES: usize = 4;
/// Groups in one request that is about many, at most.
pub const GROUPS_MAX: usize = 1024;
/// Bytes of one of them at most.
const REST_BYTES: usize = 46;
const _: () = assert!(GROUPS_MAX + 16 <= crate::ANSWER_BYTES_MAX);

/// What one replica asks another.
pub struct Request {
    /// The group of both.
    pub group: GroupId,
    /// Who is asked.
    pub to: ReplicaId,
    /// What.
    pub body: Body,
}

/// The kinds of requests.
pub enum Body {
    /// Entries, or none (a heartbeat).
    Append(AppendEntriesRequest<Types>),
    /// A vote.
    Vote(VoteRequest<Types>),
    /// Whether there would be a vote.
    PreVote(VoteRequest<Types>),
    /// To take the leadership.
    Transfer(TransferLeaderRequest<Types>),
    /// A part of a snapshot.
    Snapshot(SnapshotRequest),
    /// To the leader: to close the group, for someone waits for it.
    Close,
    /// To a node: whether this replica of another node was removed from the group.
    Removed(ReplicaId),
    /// To a node, from the leader of these groups: to be quiet in them.
    Rest(Vec<Rest>),
    /// To a node: to be awake in those of these groups that it leads.
    Wake(Vec<GroupId>),
}

/// A group that may be quiet, if the replica that is asked has all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    /// The group.
    pub group: GroupId,
    /// The replica that is asked.
    pub to: ReplicaId,
    /// The leadership.
    pub vote: Vote,
    /// The last entry, which is committed.
    pub last: LogId,
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing was done. The replica that was asked is not here, or can't answer now.
    Refused,
    /// To [`Body::Append`].
    Append(AppendEntriesResponse<Types>),
    /// To [`Body::Vote`] and [`Body::PreVote`].
    Vote(VoteResponse<Types>),
    /// To [`Body::Transfer`]: whether it will.
    Transfer(bool),
    /// To [`Body::Snapshot`].
    Snapshot(SnapshotAnswer),
    /// To [`Body::Close`]: it was heard.
    Close,
    /// To [`Body::Removed`]: true if it was, for ever; false if that is not known here.
    Removed(bool),
    /// To [`Body::Rest`]: for each group whether the replica is quiet now.
    Rest(Vec<bool>),
    /// To [`Body::Wake`]: for each group whether the node leads it, and is awake.
    Wake(Vec<bool>),
}

/// The bytes are no request or no answer; says what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

type Result<T, E = Malformed> = std::result::Result<T, E>;

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;
const SNAPSHOT: u8 = 5;
const CLOSE: u8 = 6;
const REMOVED: u8 = 7;
const REST: u8 = 8;
const WAKE: u8 = 9;
const REFUSED: u8 = 0;

impl Request {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes_about());
        out.put_u8(VERSION);
        out.put_u8(match &self.body {
            Body::Append(_) => APPEND,
            Body::Vote(_) => VOTE,
            Body::PreVote(_) => PRE_VOTE,
            Body::Transfer(_) => TRANSFER,
            Body::Snapshot(_) => SNAPSHOT,
            Body::Close => CLOSE,
            Body::Removed(_) => REMOVED,
            Body::Rest(_) => REST,
            Body::Wake(_) => WAKE,
        });
        out.put_u32_le(self.group.0);
        out.put_u64_le(self.to);
        match &self.body {
            Body::Append(append) => put_append(&mut out, self.group, append),
            Body::Vote(vote) | Body::PreVote(vote) => {
                put_vote(&mut out, &vote.vote);
                put_log_id(&mut out, vote.last_log_id.as_ref());
                out.put_u8(u8::from(vote.leadership_transfer));
            }
            Body::Transfer(transfer) => {
                put_vote(&mut out, transfer.from_leader());
                put_log_id(&mut out, transfer.last_log_id());
            }
            Body::Snapshot(snapshot) => snapshot.put(&mut out),
            Body::Close => {}
            Body::Removed(replica) => out.put_u64_le(*replica),
            Body::Rest(groups) => {
                out.put_u32_le(groups.len() as u32);
                groups.iter().for_each(|rest| put_rest(&mut out, rest));
            }
            Body::Wake(groups) => {
                out.put_u32_le(groups.len() as u32);
                groups.iter().for_each(|group| out.put_u32_le(group.0));
            }
        }
        seal(out)
    }

    fn bytes_about(&self) -> usize {
        const REST: usize = 128;
        let body = match &self.body {
            Body::Append(append) => append.entries.iter().map(images_bytes).sum(),
            Body::Snapshot(snapshot) => snapshot.bytes_about(),
            Body::Rest(groups) => groups.len() * REST_BYTES,
            Body::Wake(groups) => groups.len() * 4,
            Body::Vote(_)
            | Body::PreVote(_)
            | Body::Transfer(_)
            | Body::Close
            | Body::Removed(_) => 0,
        };
        REST + body
    }

    /// Reads a request of another node.
    pub fn decode(bytes: Bytes) -> Result<Request> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Malformed("longer than any request"));
        }
        let (kind, mut rest) = open(bytes)?;
        let (group, to) = (GroupId(u32(&mut rest)?), u64(&mut rest)?);
        let body = match kind {
            APPEND => Body::Append(get_append(&mut rest, group)?),
            VOTE => Body::Vote(get_vote_request(&mut rest)?),
            PRE_VOTE => Body::PreVote(get_vote_request(&mut rest)?),
            TRANSFER => {
                let vote = get_vote(&mut rest).ok_or(Malformed("vote"))?;
                let last = get_log_id(&mut rest).ok_or(Malformed("log id"))?;
                Body::Transfer(TransferLeaderRequest::new(vote, to, last))
            }
            SNAPSHOT => Body::Snapshot(SnapshotRequest::get(&mut rest)?),
            CLOSE => Body::Close,
            REMOVED => Body::Removed(u64(&mut rest)?),
            REST => Body::Rest(get_list(&mut rest, get_rest)?),
            WAKE => Body::Wake(get_list(&mut rest, |rest| Ok(GroupId(u32(rest)?)))?),
            _ => return Err(Malformed("unknown kind of request")),
        };
        end(&rest)?;
        Ok(Request { group, to, body })
    }
}

/// About the bytes that an entry takes.
fn images_bytes(entry: &RaftEntry) -> usize {
    const OWN_BYTES: usize = 256;
    let images = match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.payload.len(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => OWN_BYTES,
    };
    ENTRY_BYTES + images
}

fn put_append(out: &mut BytesMut, group: GroupId, append: &AppendEntriesRequest<Types>) {
    put_vote(out, &append.vote);
    put_log_id(out, append.prev_log_id.as_ref());
    put_log_id(out, append.leader_commit.as_ref());
    out.put_u32_le(append.entries.len() as u32);
    for entry in &append.entries {
        let record = log::record(group, entry.clone());
        out.put_u8(record.kind as u8);
        out.put_u64_le(record.term.0);
        out.put_u64_le(record.index.0);
        out.put_u64_le(record.position.0);
        out.put_u32_le(record.payload.len() as u32);
        out.put_slice(record.payload.as_bytes());
    }
}

/// Entries must continue `prev_log_id` without a gap and be of no later term than their sender:
/// Raft takes it for granted.
fn get_append(rest: &mut Bytes, group: GroupId) -> Result<AppendEntriesRequest<Types>> {
    let vote = get_vote(rest).ok_or(Malformed("vote"))?;
    let prev_log_id = get_log_id(rest).ok_or(Malformed("log id"))?;
    let leader_commit = get_log_id(rest).ok_or(Malformed("log id"))?;
    let count = u32(rest)?;
    if count > ENTRIES_MAX {
        return Err(Malformed("too many entries"));
    }
    let mut entries = Vec::with_capacity((count as usize).min(rest.len() / ENTRY_BYTES));
    let (mut term, mut next) = match &prev_log_id {
        Some(id) => (term_of(id), id.index.checked_add(1)),
        None => (0, Some(0)),
    };
    for _ in 0..count {
        let entry = get_entry(rest, group)?;
        let id: &LogId = &entry.log_id;
        if Some(id.index) != next || term_of(id) < term || term_of(id) > vote.leader_id.term {
            return Err(Malformed("an entry out of order"));
        }
        (term, next) = (term_of(id), id.index.checked_add(1));
        entries.push(entry);
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

fn get_entry(rest: &mut Bytes, group: GroupId) -> Result<RaftEntry> {
    let kind = match u8(rest)? {
        kind if kind == Kind::Entry as u8 => Kind::Entry,
        kind if kind == Kind::Part as u8 => Kind::Part,
        kind if kind == Kind::Raft as u8 => Kind::Raft,
        _ => return Err(Malformed("unknown kind of entry")),
    };
    let (term, index) = (Term(u64(rest)?), Index(u64(rest)?));
    let position = Position(u64(rest)?);
    let length = u32(rest)? as usize;
    let images = take(rest, length)?;
    let payload = Payload::from_bytes(images).map_err(|_| Malformed("damaged images"))?;
    let record = Record {
        group,
        kind,
        term,
        index,
        position,
        payload,
    };
    log::entry(record).map_err(|_| Malformed("an entry of Raft's own, or an erased one"))
}

fn get_vote_request(rest: &mut Bytes) -> Result<VoteRequest<Types>> {
    let vote = get_vote(rest).ok_or(Malformed("vote"))?;
    let last = get_log_id(rest).ok_or(Malformed("log id"))?;
    let mut request = VoteRequest::new(vote, last);
    request.leadership_transfer = flag(rest)?;
    Ok(request)
}

fn put_rest(out: &mut BytesMut, rest: &Rest) {
    out.put_u32_le(rest.group.0);
    out.put_u64_le(rest.to);
    put_vote(out, &rest.vote);
    put_log_id(out, Some(&rest.last));
}

fn get_rest(rest: &mut Bytes) -> Result<Rest> {
    let (group, to) = (GroupId(u32(rest)?), u64(rest)?);
    let vote = get_vote(rest).ok_or(Malformed("vote"))?;
    let last = get_log_id(rest).ok_or(Malformed("log id"))?;
    let last = last.ok_or(Malformed("a log without entries"))?;
    Ok(Rest {
        group,
        to,
        vote,
        last,
    })
}

/// A counted list.
fn get_list<T>(rest: &mut Bytes, get: impl Fn(&mut Bytes) -> Result<T>) -> Result<Vec<T>> {
    let count = u32(rest)? as usize;
    if count > GROUPS_MAX {
        return Err(Malformed("too many groups"));
    }
    (0..count).map(|_| get(rest)).collect()
}

fn put_flags(out: &mut BytesMut, flags: &[bool]) {
    out.put_u32_le(flags.len() as u32);
    flags.iter().for_each(|flag| out.put_u8(u8::from(*flag)));
}

const SUCCESS: u8 = 0;
const PARTIAL: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

impl Answer {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self {
            Answer::Refused => out.put_u8(REFUSED),
            Answer::Append(append) => {
                out.put_u8(APPEND);
                put_appended(&mut out, append);
            }
            Answer::Vote(vote) => {
                out.put_u8(VOTE);
                put_vote(&mut out, &vote.vote);
                out.put_u8(u8::from(vote.vote_granted));
                put_log_id(&mut out, vote.last_log_id.as_ref());
            }
            Answer::Transfer(will) => {
                out.put_u8(TRANSFER);
                out.put_u8(u8::from(*will));
            }
            Answer::Snapshot(snapshot) => {
                out.put_u8(SNAPSHOT);
                snapshot.put(&mut out);
            }
            Answer::Close => out.put_u8(CLOSE),
            Answer::Removed(removed) => {
                out.put_u8(REMOVED);
                out.put_u8(u8::from(*removed));
            }
            Answer::Rest(flags) => {
                out.put_u8(REST);
                put_flags(&mut out, flags);
            }
            Answer::Wake(flags) => {
                out.put_u8(WAKE);
                put_flags(&mut out, flags);
            }
        }
        seal(out)
    }

    /// Reads an answer of another node.
    pub fn decode(bytes: Bytes) -> Result<Answer> {
        let (kind, mut rest) = open(bytes)?;
        let answer = match kind {
            REFUSED => Answer::Refused,
            APPEND => Answer::Append(get_appended(&mut rest)?),
            VOTE => {
                let vote = get_vote(&mut rest).ok_or(Malformed("vote"))?;
                let granted = flag(&mut rest)?;
                let last = get_log_id(&mut rest).ok_or(Malformed("log id"))?;
                Answer::Vote(VoteResponse::new(vote, last, granted))
            }
            TRANSFER => Answer::Transfer(flag(&mut rest)?),
            SNAPSHOT => Answer::Snapshot(SnapshotAnswer::get(&mut rest)?),
            CLOSE => Answer::Close,
            REMOVED => Answer::Removed(flag(&mut rest)?),
            REST => Answer::Rest(get_list(&mut rest, flag)?),
            WAKE => Answer::Wake(get_list(&mut rest, flag)?),
            _ => return Err(Malformed("unknown kind of answer")),
        };
        end(&rest)?;
        Ok(answer)
    }
}

fn put_appended(out: &mut BytesMut, append: &AppendEntriesResponse<Types>) {
    match append {
        AppendEntriesResponse::Success => out.put_u8(SUCCESS),
        AppendEntriesResponse::PartialSuccess(upto) => {
            out.put_u8(PARTIAL);
            put_log_id(out, upto.as_ref());
        }
        AppendEntriesResponse::Conflict => out.put_u8(CONFLICT),
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(HIGHER_VOTE);
            put_vote(out, vote);
        }
    }
}

fn get_appended(rest: &mut Bytes) -> Result<AppendEntriesResponse<Types>> {
    Ok(match u8(rest)? {
        SUCCESS => AppendEntriesResponse::Success,
        PARTIAL => {
            let upto = get_log_id(rest).ok_or(Malformed("log id"))?;
            AppendEntriesResponse::PartialSuccess(upto)
        }
        CONFLICT => AppendEntriesResponse::Conflict,
        HIGHER_VOTE => {
            let vote = get_vote(rest).ok_or(Malformed("vote"))?;
            AppendEntriesResponse::HigherVote(vote)
        }
        _ => return Err(Malformed("unknown result of an append")),
    })
}

/// Puts the CRC behind a message.
fn seal(mut out: BytesMut) -> Bytes {
    let crc = crc32fast::hash(&out);
    out.put_u32_le(crc);
    out.freeze()
}

/// Checks CRC and version; gives the kind and the body.
fn open(mut bytes: Bytes) -> Result<(u8, Bytes)> {
    let Some(length) = bytes.len().checked_sub(CRC_BYTES) else {
        return Err(Malformed("cut off"));
    };
    let mut crc = bytes.split_off(length);
    if crc.get_u32_le() != crc32fast::hash(&bytes) {
        return Err(Malformed("checksum mismatch"));
    }
    if u8(&mut bytes)? != VERSION {
        return Err(Malformed("unknown version"));
    }
    Ok((u8(&mut bytes)?, bytes))
}

fn end(rest: &Bytes) -> Result<()> {
    match rest.is_empty() {
        true => Ok(()),
        false => Err(Malformed("too long")),
    }
}

/// Takes a slice of a given length from the front.
fn take(rest: &mut Bytes, length: usize) -> Result<Bytes> {
    if length > rest.len() {
        return Err(Malformed("cut off"));
    }
    Ok(rest.split_to(length))
}

fn u8(rest: &mut Bytes) -> Result<u8> {
    rest.try_get_u8().map_err(|_| Malformed("cut off"))
}

fn u32(rest: &mut Bytes) -> Result<u32> {
    rest.try_get_u32_le().map_err(|_| Malformed("cut off"))
}

fn u64(rest: &mut Bytes) -> Result<u64> {
    rest.try_get_u64_le().map_err(|_| Malformed("cut off"))
}

fn flag(rest: &mut Bytes) -> Result<bool> {
    match u8(rest)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag is 0 or 1")),
    }
}
