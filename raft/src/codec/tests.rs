//! Round trips, golden bytes, and what damaged bytes do: nothing but an error.

use std::collections::BTreeSet;

use openraft::Membership;
use openraft::impls::leader_id_std::LeaderId;

use super::snapshot::Offer;
use super::*;
use crate::types::{Command, Vote, log_id};

fn vote(term: u64) -> Vote {
    Vote {
        leader_id: LeaderId {
            term,
            voted_for: 1 << 32 | 1,
        },
        committed: true,
    }
}

fn entry(term: u64, index: u64, payload: openraft::EntryPayload<Command, u64, ()>) -> RaftEntry {
    openraft::entry::RaftEntry::new(log_id(term, index), payload)
}

fn append() -> AppendEntriesRequest<Types> {
    let command = |kind, position| Command {
        kind,
        position: Position(position),
        payload: Payload::builder().push(b"one").push(b"two").finish(),
    };
    let members =
        Membership::new_with_defaults(vec![BTreeSet::from([1, 2]), BTreeSet::from([2])], [7]);
    AppendEntriesRequest {
        vote: vote(5),
        prev_log_id: Some(log_id(4, 8)),
        entries: vec![
            entry(5, 9, openraft::EntryPayload::Blank),
            entry(
                5,
                10,
                openraft::EntryPayload::Normal(command(Kind::Part, 0)),
            ),
            entry(
                5,
                11,
                openraft::EntryPayload::Normal(command(Kind::Entry, 77)),
            ),
            entry(5, 12, openraft::EntryPayload::Membership(members)),
        ],
        leader_commit: Some(log_id(4, 8)),
    }
}

fn rest(group: u32) -> Rest {
    Rest {
        group: GroupId(group),
        to: 1 << 33 | 1,
        vote: vote(5),
        last: log_id(4, 8),
    }
}

fn requests() -> Vec<Request> {
    let offer = Offer {
        id: 9,
        vote: vote(5),
        last: log_id(4, 8),
        position: Position(77),
        meta: Bytes::from_static(b"meta"),
    };
    let chunk = SnapshotRequest::Chunk {
        id: 9,
        number: 3,
        bytes: Bytes::from_static(b"rows"),
    };
    let bodies = [
        Body::Append(append()),
        Body::Vote(VoteRequest::new(vote(6), Some(log_id(5, 12)))),
        Body::PreVote(VoteRequest::new(vote(6), None)),
        Body::Transfer(TransferLeaderRequest::new(vote(5), 1 << 33 | 1, None)),
        Body::Snapshot(SnapshotRequest::Offer(offer)),
        Body::Snapshot(chunk),
        Body::Snapshot(SnapshotRequest::End { id: 9, chunks: 4 }),
        Body::Close,
        Body::Removed(1 << 33 | 2),
        Body::Rest(vec![rest(3), rest(4)]),
        Body::Wake(vec![GroupId(3), GroupId(9)]),
    ];
    let request = |body| Request {
        group: GroupId(3),
        to: 1 << 33 | 1,
        body,
    };
    bodies.into_iter().map(request).collect()
}

fn answers() -> Vec<Answer> {
    vec![
        Answer::Refused,
        Answer::Append(AppendEntriesResponse::Success),
        Answer::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(5, 9)))),
        Answer::Append(AppendEntriesResponse::Conflict),
        Answer::Append(AppendEntriesResponse::HigherVote(vote(9))),
        Answer::Vote(VoteResponse::new(vote(6), Some(log_id(5, 12)), true)),
        Answer::Transfer(true),
        Answer::Snapshot(SnapshotAnswer::Next(4)),
        Answer::Snapshot(SnapshotAnswer::Done(vote(5))),
        Answer::Snapshot(SnapshotAnswer::Installing),
        Answer::Close,
        Answer::Removed(true),
        Answer::Rest(vec![true, false]),
        Answer::Wake(vec![false]),
    ]
}

/// The next number of a small generator: the tests need no better one.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *seed >> 33
}

#[test]
fn requests_and_answers_round_trip() {
    for request in requests() {
        let bytes = request.encode();
        let read = Request::decode(bytes.clone()).expect("whole");
        assert_eq!((read.group, read.to), (request.group, request.to));
        assert_eq!(read.encode(), bytes);
        if let Body::Append(read) = read.body {
            assert_eq!(read.entries, append().entries);
        }
    }
    for answer in answers() {
        assert_eq!(Answer::decode(answer.encode()), Ok(answer));
    }
}

#[test]
fn the_bytes_stay_what_they_are() {
    let hex = |bytes: Bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let vote = &requests()[1];
    assert_eq!(
        hex(vote.encode().slice(..39)),
        "01020300000001000000020000000600000000000000010000000100000001\
         0105000000000000"
    );
    assert_eq!(hex(Answer::Refused.encode().slice(..2)), "0100");
}

#[test]
fn what_is_cut_off_or_flipped_is_an_error() {
    let requests = requests().into_iter().map(|request| request.encode());
    let answers = answers().into_iter().map(|answer| answer.encode());
    for bytes in requests.chain(answers) {
        for length in 0..bytes.len() {
            assert!(Request::decode(bytes.slice(..length)).is_err());
            assert!(Answer::decode(bytes.slice(..length)).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Request::decode(flipped.clone().into()).is_err());
            assert!(Answer::decode(flipped.into()).is_err());
        }
    }
}

/// With a right CRC behind them, so that every decoder behind it is reached.
#[test]
fn random_bytes_neither_panic_nor_allocate() {
    let mut seed = 7;
    let whole: Vec<Bytes> = requests().iter().map(Request::encode).collect();
    for round in 0..20_000 {
        let mut bytes = match round % 3 {
            0 => (0..next(&mut seed) % 200)
                .map(|_| next(&mut seed) as u8)
                .collect(),
            _ => whole[round % whole.len()][..].to_vec(),
        };
        bytes.truncate(bytes.len().saturating_sub(next(&mut seed) as usize % 40));
        for _ in 0..next(&mut seed) % 4 {
            if !bytes.is_empty() {
                let at = next(&mut seed) as usize % bytes.len();
                bytes[at] = next(&mut seed) as u8;
            }
        }
        if let [version, ..] = &mut bytes[..] {
            *version = VERSION;
        }
        let sealed = seal(BytesMut::from(&bytes[..]));
        // Whether it is one by chance does not matter.
        let _ = Request::decode(sealed.clone());
        let _ = Answer::decode(sealed);
    }
}

#[test]
fn entries_with_a_gap_or_of_a_later_term_are_refused() {
    let with = |change: fn(&mut AppendEntriesRequest<Types>)| {
        let mut append = append();
        change(&mut append);
        let request = Request {
            group: GroupId(3),
            to: 1,
            body: Body::Append(append),
        };
        Request::decode(request.encode()).err()
    };
    let order = Some(Malformed("an entry out of order"));
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|append| drop(append.entries.remove(1))), order);
    assert_eq!(with(|append| append.prev_log_id = None), order);
    assert_eq!(with(|append| append.vote = vote(4)), order);
}
