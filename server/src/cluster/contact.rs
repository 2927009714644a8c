//! Whether this node may have been replaced. Those who hear each other replace a node that they
//! have not heard for `--replace-after`; what its folder has may be revoked or erased from then on,
//! and it can't know. So a node that has not heard most of the directory's voters for so long, or
//! not since its start, gives no rows of what stands here, not of the groups either that it holds
//! by Raft. It goes on when the directory's leader has answered and the directory still names it,
//! and its groups here.
//!
//! What proves itself is read on: a role's own group as long as its leader, with most of the
//! group's voters, says that it leads. So an owner whose replicas hear each other goes on when the
//! directory can't.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sql::catalog::{Catalog, NodeState};
use sql::{Error, state};
use storage::GroupId;
use tokio::time::Instant;

use super::{Cluster, Parts};

/// What the leader of a group has proven counts for so long.
const PROVEN_FOR: Duration = Duration::from_secs(5);
/// To who is to be told that the node was given up.
const REPLACED: &str = "this node was replaced";

/// Until when nobody can have replaced this node.
pub struct Contact {
    began: Instant,
    /// In microseconds since `began`; 0: it was not heard of yet.
    until: AtomicU64,
    /// The others have given it up, for ever.
    gone: AtomicBool,
    /// There are some groups in `left`.
    any_left: AtomicBool,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    /// When the leaders of groups were asked that have answered.
    proven: BTreeMap<GroupId, Instant>,
    /// Held here by Raft, and not meant to be.
    left: BTreeSet<GroupId>,
    /// It was logged that this node is not heard.
    lost: bool,
}

impl Contact {
    /// Nothing is known yet.
    pub fn new() -> Contact {
        Contact {
            began: Instant::now(),
            until: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            any_left: AtomicBool::new(false),
            groups: Mutex::default(),
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn micros_after(&self, at: Instant, after: Duration) -> u64 {
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.micros(at).saturating_add(after)
    }

    /// Is it certain that nobody has replaced this node?
    fn is_trusted(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Acquire);
        self.micros(now) < until && !self.is_gone()
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Most of the directory's voters have answered what they were asked since then. Once that was
    /// too long ago it proves nothing any more: they may be others by now.
    fn heard(&self, since: Instant, after: Duration, now: Instant) {
        let (new, now) = (self.micros_after(since, after), self.micros(now));
        let longer = |until| (now < until).then_some(new.max(until));
        // None: it is too late.
        let _ = self
            .until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, longer);
    }

    /// The directory's leader has answered what it was asked then, and names this node.
    fn named(&self, asked: Instant, after: Duration) {
        let until = self.micros_after(asked, after);
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    /// The leader of a group has answered what it was asked then.
    fn proven(&self, group: GroupId, asked: Instant) {
        let mut groups = self.groups.lock();
        groups.proven.insert(group, asked);
        groups.left.remove(&group);
    }

    fn is_proven(&self, group: GroupId, now: Instant) -> bool {
        let groups = self.groups.lock();
        let asked = groups.proven.get(&group);
        asked.is_some_and(|asked| now.saturating_duration_since(*asked) < PROVEN_FOR)
    }

    /// The first of these groups of which nothing may be given, or the directory if it must be
    /// asked first. The reader's own group needs its own leader only.
    fn doubts(&self, groups: &[GroupId], own: Option<GroupId>, now: Instant) -> Option<GroupId> {
        if !self.is_trusted(now) {
            let own = own.filter(|own| *own != GroupId::DIRECTORY && !self.is_gone());
            let doubt = |id: &GroupId| match Some(*id) == own {
                true => (!self.is_proven(*id, now)).then_some(*id),
                false => Some(GroupId::DIRECTORY),
            };
            return groups.iter().find_map(doubt);
        }
        if !self.any_left.load(Ordering::Acquire) {
            return None;
        }
        let left = &self.groups.lock().left;
        groups.iter().find(|id| left.contains(id)).copied()
    }

    fn leave(&self, left: BTreeSet<GroupId>) {
        self.any_left.store(!left.is_empty(), Ordering::Release);
        self.groups.lock().left = left;
    }
}

impl Cluster {
    /// Looks whether this node is heard. Called again and again.
    pub(super) fn keep_contact(&self) {
        let (Some(parts), Some(catalog)) = (self.parts(), self.catalog()) else {
            return;
        };
        let (now, after) = (Instant::now(), self.place.replace_after);
        if let Some(since) = self.most_heard_since(&catalog, now) {
            self.contact.heard(since, after, now);
        }
        self.note_named(&catalog);
        if self.contact.any_left.load(Ordering::Acquire) {
            self.contact.leave(self.left(parts, &catalog));
        }
        let trusted = self.contact.is_trusted(now);
        let lost = !trusted && self.contact.until.load(Ordering::Acquire) > 0;
        let before = std::mem::replace(&mut self.contact.groups.lock().lost, lost);
        match (before, lost) {
            (false, true) => tracing::warn!(
                ?after,
                "most of the directory's voters were not heard for so long that this node may have \
                 been replaced: nothing that stands here is read until they are"
            ),
            (true, false) => {
                tracing::info!("this node is a member: what stands here is read")
            }
            _ => {}
        }
    }

    /// Since when most of the directory's voters have answered. This one always has.
    fn most_heard_since(&self, catalog: &Catalog, now: Instant) -> Option<Instant> {
        let Some(directory) = catalog.placement(GroupId::DIRECTORY) else {
            return Some(now);
        };
        let unproven = |voter: &u32| match *voter == self.me() {
            true => Some(Duration::ZERO),
            false => self.unproven(*voter),
        };
        let mut unproven: Vec<Duration> = directory.voters.iter().filter_map(unproven).collect();
        unproven.sort_unstable();
        let last = unproven.get(directory.voters.len() / 2)?;
        now.checked_sub(*last)
    }

    fn note_named(&self, catalog: &Catalog) {
        let known = catalog.node(self.me());
        if known.is_some_and(|known| known.state == NodeState::Gone) {
            self.note_gone();
        }
    }

    /// The others have given this node up.
    pub(super) fn note_gone(&self) {
        if !self.contact.gone.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "this node was replaced while it was away: nothing that stands here is read any \
                 more; start it with an empty folder"
            );
        }
    }

    /// Groups that are held here by Raft, and should not be any more.
    fn left(&self, parts: &Parts, catalog: &Catalog) -> BTreeSet<GroupId> {
        let me = self.me();
        let elsewhere = |id: &GroupId| {
            catalog
                .placement(*id)
                .is_some_and(|p| p.made && !p.is_on(me))
        };
        let held = parts.engine.groups().all().into_iter();
        let held = held.filter(|group| !group.is_followed() && group.term().is_none());
        held.map(|group| group.id()).filter(elsewhere).collect()
    }

    /// The leader of a group has answered what it was asked then, and what it had is here. Errors:
    /// that does not help.
    pub(super) fn note_proof(&self, group: GroupId, asked: Instant) -> Result<(), String> {
        self.contact.proven(group, asked);
        let (Some(parts), Some(catalog)) = (self.parts(), self.catalog()) else {
            return Err("the node is starting".into());
        };
        if group == GroupId::DIRECTORY {
            self.note_named(&catalog);
            self.contact.leave(self.left(parts, &catalog));
            self.contact.named(asked, self.place.replace_after);
        }
        match self.contact.is_gone() {
            true => Err(REPLACED.into()),
            false => Ok(()),
        }
    }

    /// One of these groups of which nothing may be given since this node may have been replaced, or
    /// the directory if it must be asked first.
    pub(super) fn may_be_replaced(
        &self,
        groups: &[GroupId],
        own: Option<GroupId>,
    ) -> Option<GroupId> {
        self.contact.doubts(groups, own, Instant::now())
    }

    /// Is it certain that nobody has replaced this node?
    pub(super) fn is_trusted(&self) -> bool {
        self.contact.is_trusted(Instant::now())
    }

    /// Is it certain that this node was replaced?
    pub(crate) fn is_replaced(&self) -> bool {
        self.contact.is_gone()
    }

    /// Why readers are refused here, if they are.
    pub(crate) fn refuses_readers(&self) -> Option<&'static str> {
        match self.is_reachable() && !self.is_trusted() {
            false => None,
            true if self.contact.is_gone() => Some(REPLACED),
            true => Some(
                "most of the directory's voters are not heard: the node may have been replaced",
            ),
        }
    }

    /// What a reader is told who is refused.
    pub(crate) fn replaced(&self) -> Error {
        let error = |what: &str| Error::new(state::CANNOT_CONNECT_NOW, what.to_owned());
        if self.contact.is_gone() {
            return error(REPLACED)
                .detail("While it was away its replicas were given to other nodes.")
                .hint(
                    "Connect to another node. Start this one with an empty folder: it joins under \
                     a new number.",
                );
        }
        let after = self.place.replace_after.as_secs();
        error("this node may have been replaced")
            .detail(format!(
                "It has not heard most of the directory's voters for {after} s, or not since its \
                 start: what it has may be revoked or erased."
            ))
            .hint(
                "Connect to another node. This one goes on by itself when it hears them and is \
                 still a member of the cluster.",
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(600);
    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);

    #[test]
    fn a_node_gives_nothing_before_it_is_named_and_after_it_was_not_heard_for_long() {
        let contact = Contact::new();
        let at = |seconds| contact.began + Duration::from_secs(seconds);
        let asked = |now| contact.doubts(&[A, B], None, at(now));
        assert_eq!(asked(1), Some(GroupId::DIRECTORY));
        contact.heard(at(1), AFTER, at(1));
        assert_eq!(asked(1), Some(GroupId::DIRECTORY), "hearing is not enough");
        contact.named(at(2), AFTER);
        assert_eq!((asked(2), asked(601)), (None, None));
        assert_eq!(asked(602), Some(GroupId::DIRECTORY));
        assert_eq!(contact.doubts(&[], None, at(602)), None);
        contact.heard(at(500), AFTER, at(600));
        assert_eq!((asked(1099), asked(1100)), (None, Some(GroupId::DIRECTORY)));
        // It is too late: those who answer may be no majority any more.
        contact.heard(at(1100), AFTER, at(1100));
        assert_eq!(asked(1100), Some(GroupId::DIRECTORY));
        contact.named(at(1200), AFTER);
        assert_eq!(asked(1200), None);
        contact.gone.store(true, Ordering::Release);
        assert_eq!(asked(1200), Some(GroupId::DIRECTORY));
    }

    #[test]
    fn an_owner_reads_its_own_while_its_leader_proves_itself() {
        let contact = Contact::new();
        let at = |seconds| contact.began + Duration::from_secs(seconds);
        let doubts = |groups: &[GroupId], now| contact.doubts(groups, Some(A), at(now));
        assert_eq!(doubts(&[A], 1), Some(A));
        contact.proven(A, at(1));
        assert_eq!(doubts(&[A], 5), None);
        assert_eq!(doubts(&[A], 6), Some(A));
        assert_eq!(doubts(&[A, B], 5), Some(GroupId::DIRECTORY));
        contact.proven(B, at(1));
        assert_eq!(
            doubts(&[B], 5),
            Some(GroupId::DIRECTORY),
            "of another owner"
        );
        contact.gone.store(true, Ordering::Release);
        assert_eq!(doubts(&[A], 5), Some(GroupId::DIRECTORY));
    }

    #[test]
    fn what_was_given_to_other_nodes_is_not_read_here() {
        let contact = Contact::new();
        let now = contact.began;
        contact.named(now, AFTER);
        contact.leave([B].into());
        let doubts = |groups: &[GroupId]| contact.doubts(groups, Some(B), now);
        assert_eq!((doubts(&[A]), doubts(&[A, B])), (None, Some(B)));
        contact.leave(BTreeSet::new());
        assert_eq!(doubts(&[A, B]), None);
    }

    #[test]
    fn a_node_that_is_never_replaced_is_trusted_for_ever() {
        let contact = Contact::new();
        contact.named(contact.began, Duration::MAX);
        let later = contact.began + Duration::from_secs(1 << 30);
        assert_eq!(contact.doubts(&[A], None, later), None);
    }
}
