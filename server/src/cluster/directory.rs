//! The directory's leader writes what other nodes and `freehold.*` functions ask it for.

use std::time::Duration;

use sql::catalog::{Catalog, Change};
use storage::{GroupId, Outcome, Position};
use tokio::time::Instant;

use super::ask::{Ask, Told};
use super::keep::seen;
use super::{ASK_TIME_MAX, Cluster, Parts, plan};

/// Between two attempts while the directory changes.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a question is sent on to another node.
const HOPS_MAX: u32 = 4;

impl Cluster {
    /// What a node is told that asks the wrong one; `None`: this one leads the directory.
    pub(super) fn directory_elsewhere(&self, parts: &Parts) -> Option<Told> {
        let directory = parts.engine.groups().get(GroupId::DIRECTORY);
        if directory.is_some_and(|directory| directory.term().is_some()) {
            return None;
        }
        let leader = self.leader(GroupId::DIRECTORY);
        let leader = leader.filter(|leader| *leader != self.me());
        Some(match leader.and_then(|leader| self.address(leader)) {
            Some(address) => Told::Elsewhere { address },
            None => Told::NotNow {
                why: "no leader of the directory is known".into(),
            },
        })
    }

    /// Writes what `decide` wants of the newest catalog, until it wants nothing more: then all of
    /// it is committed. Gives the position up to which it is.
    pub(super) async fn write_directory(
        &self,
        parts: &Parts,
        mut decide: impl FnMut(&Catalog) -> Vec<Change>,
    ) -> Result<Position, String> {
        let until = Instant::now() + ASK_TIME_MAX;
        let directory = parts.engine.groups().get(GroupId::DIRECTORY);
        let directory = directory.ok_or("the node is starting")?;
        while Instant::now() < until {
            match parts.engine.change_directory(&mut decide) {
                Ok(None) => {
                    self.note_change();
                    return Ok(directory.applied());
                }
                Ok(Some(position)) => {
                    let (told, outcome) = tokio::sync::oneshot::channel();
                    // Nobody hears it if this call was given up.
                    let tell = move |outcome| told.send(outcome).unwrap_or_default();
                    directory.when(position, Box::new(tell));
                    if outcome.await != Ok(Outcome::Applied) {
                        return Err("the directory's leader has changed".into());
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        Err("the directory does not come to rest".into())
    }

    /// Serves [`Ask::Alter`] and [`Ask::Claim`].
    pub(super) async fn alter(&self, ask: &Ask) -> Told {
        let Some(parts) = self.parts() else {
            let why = "the node is starting".into();
            return Told::NotNow { why };
        };
        if let Some(elsewhere) = self.directory_elsewhere(parts) {
            return elsewhere;
        }
        let seen = seen(self, parts);
        let mut claimed = false;
        let decide = |catalog: &Catalog| match ask {
            Ask::Alter {
                group,
                replicas,
                regions,
            } => {
                let group = GroupId(*group);
                plan::alter(catalog, group, *replicas, regions.clone(), &seen)
            }
            Ask::Claim { group, count } if !claimed => {
                let changes = plan::claim(catalog, GroupId(*group), *count as usize, &seen);
                claimed = !changes.is_empty();
                changes
            }
            _ => Vec::new(),
        };
        match self.write_directory(parts, decide).await {
            Ok(position) => Told::Done {
                position: position.0,
            },
            Err(why) => Told::NotNow { why },
        }
    }

    /// Asks the directory's leader, wherever it is. Err: why it could not be done.
    pub(super) async fn ask_directory_leader(&self, ask: &Ask) -> Result<Position, String> {
        let mut told = self.alter(ask).await;
        for _ in 0..HOPS_MAX {
            match told {
                Told::Done { position } => return Ok(Position(position)),
                Told::Elsewhere { address } => {
                    told = self.ask_at(&address, ask, ASK_TIME_MAX).await?;
                }
                Told::NotNow { why } | Told::Refused { why } => return Err(why),
                Told::Here { .. }
                | Told::Leads { .. }
                | Told::Joined { .. }
                | Told::Passed { .. } => {
                    return Err("no answer to it".into());
                }
            }
        }
        Err("no node leads the directory".into())
    }
}
