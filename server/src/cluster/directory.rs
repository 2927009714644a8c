//! The directory's leader writes what other nodes and `freehold.*` functions ask it for.

use std::time::Duration;

use sql::catalog::{Catalog, Change};
use storage::{GroupId, Outcome, Position};
use tokio::time::Instant;

use super::ask::{Ask, Remark, Told};
use super::keep::seen;
use super::{ASK_TIME_MAX, Cluster, Parts, wishes};

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
        while Instant::now() < until {
            if let (position, false) = self.write_once(parts, &mut decide).await? {
                self.note_change();
                return Ok(position);
            }
        }
        Err("the directory does not come to rest".into())
    }

    /// Writes what `decide` wants of the newest catalog, once. Gives the position up to which that
    /// is committed, and whether it wanted anything. What it has said last counts.
    async fn write_once(
        &self,
        parts: &Parts,
        mut decide: impl FnMut(&Catalog) -> Vec<Change>,
    ) -> Result<(Position, bool), String> {
        let until = Instant::now() + ASK_TIME_MAX;
        let directory = parts.engine.groups().get(GroupId::DIRECTORY);
        let directory = directory.ok_or("the node is starting")?;
        while Instant::now() < until {
            match parts.engine.change_directory(&mut decide) {
                Ok(None) => return Ok((directory.applied(), false)),
                Ok(Some(position)) => {
                    let (told, outcome) = tokio::sync::oneshot::channel();
                    // Nobody hears it if this call was given up.
                    let tell = move |outcome| told.send(outcome).unwrap_or_default();
                    directory.when(position, Box::new(tell));
                    return match outcome.await {
                        Ok(Outcome::Applied) => Ok((position, true)),
                        Ok(_) | Err(_) => Err("the directory's leader has changed".into()),
                    };
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
        let mut remark = None;
        let decide = |catalog: &Catalog| {
            let wished = match ask {
                Ask::Alter {
                    group,
                    replicas,
                    regions,
                } => {
                    let group = GroupId(*group);
                    wishes::alter(catalog, group, *replicas, regions.clone(), &seen)
                }
                Ask::Claim { group, count } => {
                    wishes::claim(catalog, GroupId(*group), *count as usize, &seen)
                }
                _ => return Vec::new(),
            };
            remark = wished.remark;
            wished.changes
        };
        // Asked once more, a claim would replace the next one.
        match self.write_once(parts, decide).await {
            Ok((position, _)) => {
                self.note_change();
                Told::Done {
                    position: position.0,
                    remark,
                }
            }
            Err(why) => Told::NotNow { why },
        }
    }

    /// Asks the directory's leader, wherever it is. Err: why it could not be done.
    pub(super) async fn ask_directory_leader(
        &self,
        ask: &Ask,
    ) -> Result<(Position, Option<Remark>), String> {
        let mut told = self.alter(ask).await;
        for _ in 0..HOPS_MAX {
            match told {
                Told::Done { position, remark } => return Ok((Position(position), remark)),
                Told::Elsewhere { address } => {
                    told = self.ask_at(&address, ask, ASK_TIME_MAX).await?;
                }
                Told::NotNow { why } | Told::Refused { why } => return Err(why),
                Told::Here { .. }
                | Told::Leads { .. }
                | Told::Copies { .. }
                | Told::Erased { .. }
                | Told::Traces { .. }
                | Told::Lags { .. }
                | Told::Joined { .. }
                | Told::Undecided { .. }
                | Told::Passed { .. }
                | Told::Gone
                | Told::Silent => {
                    return Err("no answer to it".into());
                }
            }
        }
        Err("no node leads the directory".into())
    }
}
