//! A stopped node's log, looked at without running Raft: replay over the tables, and the records
//! of Raft's own in words.

use journal::{Journal, Kind, Record};
use storage::Group;

use crate::log::GroupLog;
use crate::machine;
use crate::types::{
    Ballot, FIRST_JOIN, Membership, StoredMembership, decode_ballot, decode_raft_image,
    decode_state, join_of, node_of, term_of,
};
use crate::{Error, Result};

/// Applies everything that the journal has of the group behind what is applied already, as a
/// start would. Only for the journal of a single voter that is stopped: there, all that is in
/// the log counts as committed. Errors: those of reading and applying; a log that does not
/// continue the tables or does not reach as far as their files.
pub fn replay(journal: &Journal, group: &Group) -> Result<()> {
    let id = group.id();
    let log = GroupLog::new(id, journal.clone(), FIRST_JOIN);
    let (applied, state) = group.applied_log();
    // The membership is a group's first entry: without one nothing is applied.
    let mut next = if state.is_empty() {
        0
    } else {
        applied.index.0 + 1
    };
    let end = journal.state(id).last.map_or(0, |(_, last, _)| last.0 + 1);
    while next < end {
        let batch = log.read_some(next, end)?;
        let first = batch.first().map(|entry| entry.log_id.index);
        if first != Some(next) {
            let what = format!("the journal has no record {next}, which the tables need next");
            return Err(Error::Raft(id, what));
        }
        for entry in batch {
            next = entry.log_id.index + 1;
            machine::apply(group, journal, entry.log_id, entry.payload)?;
        }
    }
    if !group.ready() {
        let what = "the tables hold entries that the journal does not have";
        return Err(Error::Raft(id, what.into()));
    }
    Ok(())
}

/// A vote, or a record of Raft's own, in words; `None` for records of other kinds. What can't be
/// decoded is called damaged.
pub fn describe(record: &Record) -> Option<String> {
    let image = || record.payload.images().next()?.ok();
    let known = match record.kind {
        Kind::Vote => image()
            .and_then(|bytes| decode_ballot(&bytes))
            .map(|ballot| match ballot {
                Ballot::Vote(vote, _) => {
                    let (term, replica) = (vote.leader_id.term, vote.leader_id.voted_for);
                    let sure = if vote.committed { ", elected" } else { "" };
                    format!("vote in term {term} for {}{sure}", name(replica))
                }
                Ballot::Ended(join) => format!("the replica has ended (join {join})"),
            }),
        Kind::Raft => match image().and_then(|bytes| decode_raft_image(&bytes)) {
            Some(Some(membership)) => Some(members(&membership)),
            Some(None) => Some("a leader begins".into()),
            None => None,
        },
        _ => return None,
    };
    Some(known.unwrap_or_else(|| "damaged".into()))
}

/// What a checkpoint keeps for Raft (`GroupCheckpoint::raft_state()`), in words.
pub fn describe_state(state: &[u8]) -> String {
    let Some(state) = decode_state(state) else {
        return "damaged".into();
    };
    let stored = state.members;
    match StoredMembership::log_id(&stored) {
        Some(id) => format!(
            "{} since index {} of term {}",
            members(stored.membership()),
            id.index,
            term_of(id)
        ),
        None => "no members yet".into(),
    }
}

fn members(membership: &Membership) -> String {
    let names = |ids: Vec<u64>| ids.into_iter().map(name).collect::<Vec<_>>().join(", ");
    let configs = membership.get_joint_config().iter();
    let voters: Vec<String> = configs
        .map(|config| names(config.iter().copied().collect()))
        .collect();
    let learners = names(membership.learner_ids().collect());
    let mut text = format!("voters {}", voters.join(" and at once "));
    if !learners.is_empty() {
        text += &format!(", learners {learners}");
    }
    text
}

/// A replica's id in its two halves.
fn name(replica: u64) -> String {
    format!("node {} (join {})", node_of(replica), join_of(replica))
}
