//! `freehold dump raft`: a line per group: vote, log, checkpoint, members.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use journal::{GroupId, Record};

use super::Common;
use super::line::Line;
use crate::Failure;

/// Which groups.
#[derive(Args, Clone, Debug)]
pub struct RaftFlags {
    #[command(flatten)]
    common: Common,
    /// This group only.
    #[arg(long, value_name = "N")]
    group: Option<u32>,
}

/// Prints the groups.
pub fn dump(flags: &RaftFlags) -> Result<bool, Failure> {
    let (stopped, mut out) = flags.common.open()?;
    let journal = stopped.journal()?;
    let checkpoints = storage::read_checkpoint(&stopped.tables_folder())?;
    let checkpoints: BTreeMap<GroupId, _> = checkpoints
        .into_iter()
        .map(|checkpoint| (checkpoint.group, checkpoint))
        .collect();
    let mut groups: BTreeSet<GroupId> = journal.groups().into_iter().collect();
    groups.extend(checkpoints.keys());
    for id in groups {
        if flags.group.is_some_and(|group| group != id.0) {
            continue;
        }
        let state = journal.state(id);
        let vote = state.vote.as_deref();
        let vote = vote.and_then(|vote| raft::describe(&Record::vote(id, vote)));
        let checkpoint = checkpoints.get(&id);
        let applied = checkpoint.map(|checkpoint| checkpoint.applied);
        let line = Line::default()
            .with("group", id.0)
            .maybe("vote", vote)
            .maybe("last_term", state.last.map(|(term, _, _)| term.0))
            .maybe("last_index", state.last.map(|(_, index, _)| index.0))
            .shown("greatest_position", state.greatest)
            .maybe("purged_index", state.purged.map(|(_, index)| index.0))
            .maybe("oldest_index", state.oldest.map(|(index, _)| index.0))
            .maybe("checkpoint_term", applied.map(|applied| applied.term.0))
            .maybe("checkpoint_index", applied.map(|applied| applied.index.0))
            .maybe(
                "checkpoint_position",
                applied.map(|applied| applied.position.to_string()),
            )
            .maybe("members", checkpoint.map(members).transpose()?);
        if !out.line(&line)? {
            break;
        }
    }
    out.end()
}

fn members(checkpoint: &storage::GroupCheckpoint) -> Result<String, storage::Error> {
    let state = checkpoint.raft_state()?;
    Ok(match storage::Chosen::decode(&state) {
        Ok(chosen) => format!("none, a copy of {} trees", chosen.trees().count()),
        Err(_) => raft::describe_state(&state),
    })
}
