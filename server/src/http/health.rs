//! Whether clients should be sent to this node, and if not, why.

use std::time::Duration;

use journal::GroupId;
use serde_json::{Value, json};

use super::{Stage, Told};

/// A directory that may be further behind than this is too old to serve from.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// What keeps clients away from the node; empty if nothing does.
pub fn reasons(stage: &Stage) -> Vec<String> {
    match stage {
        Stage::Starting(why) => vec![format!("the node is starting: {why}")],
        Stage::Serving(told) => {
            let refuses = told.cluster.refuses_readers().map(str::to_owned);
            let reasons = draining(told).into_iter().chain(directory(told));
            reasons.chain(refuses).collect()
        }
        Stage::Ending => vec!["the node is ending".into()],
    }
}

/// The body of `/health/ready`.
pub fn body(reasons: &[String]) -> Value {
    json!({ "ready": reasons.is_empty(), "reasons": reasons })
}

fn draining(told: &Told) -> Option<String> {
    told.drain
        .is_draining()
        .then(|| "the node is draining".into())
}

/// Roles, grants and placements are in the directory: who knows it and its leader can serve.
fn directory(told: &Told) -> Option<String> {
    let status = told.raft.status();
    let Some(directory) = status
        .iter()
        .find(|status| status.group == GroupId::DIRECTORY)
    else {
        return Some("the node has no directory".into());
    };
    if directory.leader.is_none() {
        return Some("no leader of the directory is known".into());
    }
    match directory.behind {
        None => Some("nothing was heard of the directory's leader".into()),
        Some(behind) if behind > BEHIND_MAX => Some(format!(
            "the directory may be {:.1} s behind its leader",
            behind.as_secs_f64()
        )),
        Some(_) => None,
    }
}
