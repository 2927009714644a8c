//! What sender and receiver of a snapshot say to each other, each with the other played by the test.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use journal::{Journal, MemoryDisk, Position};
use openraft::impls::leader_id_std::LeaderId;
use storage::{Change, Changes, Commit, Groups, Local, ManualClock, MemoryStore, Meta, Observer};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::*;
use crate::network::Network;
use crate::node::{Node, Options};
use crate::transport::{Alone, Played};
use crate::types::{FIRST_JOIN, Membership, StoredMembership, Vote, encode_state, replica};

const GROUP: GroupId = GroupId(7);
const NOW: u64 = 1_700_000_000_000_000;
/// What has not happened by then does not.
const TIME_MAX: Duration = Duration::from_secs(30);

fn sender() -> ReplicaId {
    replica(NodeId(2), FIRST_JOIN)
}

fn vote() -> Vote {
    let (term, voted_for) = (5, sender());
    let leader_id = LeaderId { term, voted_for };
    Vote {
        leader_id,
        committed: true,
    }
}

/// A group with a row.
fn exported() -> (Arc<Local>, Box<Export>) {
    let local = Local::new(MemoryStore::new(), Arc::new(ManualClock::new(NOW)));
    let group = local.lead(GROUP).unwrap();
    let voters = BTreeSet::from([replica(NodeId(1), FIRST_JOIN), sender()]);
    let members = Membership::new_with_defaults(vec![voters], []);
    let term = group.applied_log().0.term;
    let members = StoredMembership::new(Some(log_id(term.0, 1)), members);
    let state = decoded(&[]).unwrap().then(members);
    group.apply_raft(term, Index(1), Some(encode_state(&state)));
    let base = group.newest().unwrap();
    let row = Change {
        tree: 1000,
        key: Bytes::from_static(b"key"),
        new: Some(Bytes::from_static(b"value")),
        ..Change::default()
    };
    let commit = Commit {
        txid: group.begin(),
        epoch: group.term().unwrap(),
        base,
        meta: Meta::default(),
        changes: Changes::Small(vec![row]),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
        keeps_locks: false,
    };
    group.commit(commit).unwrap();
    let export = group.export().unwrap().unwrap();
    (local, Box::new(export))
}

fn offer(export: &Export) -> Offer {
    Offer {
        id: 1,
        vote: vote(),
        last: log_id(export.applied().term.0, export.applied().index.0),
        position: export.applied().position,
        meta: export.meta().clone(),
    }
}

/// The way to a receiver, of a node that may send so many snapshots at once.
fn network<F>(permits: usize, answer: F) -> Network
where
    F: Fn(SnapshotRequest) -> Option<SnapshotAnswer> + Send + Sync + 'static,
{
    let receiver = Played(move |body| {
        let Body::Snapshot(part) = body else {
            panic!("something else was asked");
        };
        answer(part).map(Answer::Snapshot)
    });
    Network {
        sending: Arc::new(Semaphore::new(permits)),
        ..Network::through(receiver, GROUP, sender())
    }
}

fn snapshot(export: Box<Export>) -> SnapshotOf<Types, Data> {
    SnapshotOf::<Types, Data> {
        meta: meta_of(export.applied(), export.raft_state()).unwrap(),
        snapshot: Data::Export(export),
    }
}

#[tokio::test]
async fn who_is_dead_keeps_no_other_snapshot_waiting() {
    let (_local, export) = exported();
    let (told, mut offered) = mpsc::unbounded_channel();
    let network = network(1, move |_| {
        told.send(()).unwrap();
        None
    });
    let (sending, under_way) = (network.sending.clone(), network.under_way.clone());
    let peer = network.peer(1, Lane::Bulk);
    let last = export.applied().index.0;
    let task = tokio::spawn(async move { send(&peer, vote(), snapshot(export)).await.is_ok() });
    timeout(TIME_MAX, offered.recv()).await.unwrap().unwrap();
    assert_eq!(sending.available_permits(), 1);
    // The log behind it stays meanwhile, and no longer.
    assert_eq!(under_way.needed(0, |_| Some(0)), Some(last));
    task.abort();
    assert!(task.await.is_err());
    assert_eq!(under_way.needed(0, |_| Some(0)), None);
}

#[tokio::test]
async fn a_snapshot_that_waits_for_others_is_given_up() {
    let (_local, export) = exported();
    let network = network(0, |_| Some(SnapshotAnswer::Next(0)));
    let peer = network.peer(1, Lane::Bulk);
    let sent = timeout(TIME_MAX, send(&peer, vote(), snapshot(export))).await;
    assert!(sent.expect("it does not wait for ever").is_err());
}

#[tokio::test]
async fn the_sender_waits_as_long_as_the_receiver_installs() {
    const ASKED: u64 = 30;
    let (_local, export) = exported();
    let asked = AtomicU64::new(0);
    let network = network(1, move |part| match part {
        SnapshotRequest::Offer(offer) => {
            match asked.fetch_add(1, Ordering::Relaxed) {
                // The end was lost.
                0 => Some(SnapshotAnswer::Next(3)),
                n if n < ASKED => Some(SnapshotAnswer::Installing),
                _ => Some(SnapshotAnswer::Done(offer.vote)),
            }
        }
        SnapshotRequest::End { .. } => Some(SnapshotAnswer::Next(0)),
        SnapshotRequest::Chunk { .. } => None,
    });
    let peer = network.peer(1, Lane::Bulk);
    let offer = offer(&export);
    let done = timeout(TIME_MAX, peer.await_installed(&offer, 3)).await;
    assert_eq!(done.unwrap().unwrap(), vote());
}

#[test]
fn the_log_behind_a_snapshot_is_kept_until_its_receiver_has_caught_up() {
    let under_way = UnderWay::default();
    let needed = |far, matched| under_way.needed(far, |_| matched);
    let held = under_way.begin(2, 10);
    assert_eq!(needed(50, Some(0)), Some(10), "it comes");
    assert_eq!(needed(50, None), Some(10));
    held.arrived();
    assert_eq!(needed(50, Some(0)), Some(10), "it is there");
    assert_eq!(needed(50, Some(30)), Some(30), "it goes on with the log");
    let other = under_way.begin(3, 40);
    assert_eq!(needed(50, Some(35)), Some(35), "the slowest counts");
    assert_eq!(needed(50, Some(50)), Some(40), "one has caught up");
    // It fails, and begins anew; the old one is dropped late.
    let anew = under_way.begin(3, 45);
    drop(other);
    assert_eq!(needed(50, Some(0)), Some(45));
    drop(anew);
    assert_eq!(needed(50, Some(0)), None);
    under_way.begin(2, 60).arrived();
    assert_eq!(needed(50, None), None, "it is no replica any more");
}

/// Stops the one that says that something is published until the test has seen it.
struct Gate {
    reached: Mutex<Option<mpsc::UnboundedSender<()>>>,
    go: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Observer for Gate {
    fn published(&self, _group: GroupId, _position: Position) {
        if let Some(reached) = self.reached.lock().take() {
            reached.send(()).unwrap();
            self.go.lock().recv().unwrap();
        }
    }
}

/// A node that holds nothing yet.
fn receiver(observer: Gate) -> (Arc<Node>, Journal) {
    let disk = Arc::new(MemoryDisk::new());
    let options = journal::Options::default();
    let journal = Journal::open(disk, "/journal".as_ref(), options).unwrap();
    let groups = Groups::new(MemoryStore::new(), Arc::new(ManualClock::new(NOW)));
    groups.observe(Arc::new(observer));
    let options = Options {
        checkpoint_timeout: Duration::MAX,
        checkpoint_bytes: u64::MAX,
        retain_time: Duration::ZERO,
        retain_bytes: u64::MAX,
        horizon: Duration::ZERO,
    };
    let (runtime, me, alone) = (Handle::current(), NodeId(1), Arc::new(Alone));
    let node = Node::new(journal.clone(), groups, options, runtime, me, alone);
    (node, journal)
}

/// Half a snapshot whose sender is gone has rows that may be removed since: neither a round ends
/// beside it, nor does it stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_snapshot_does_not_outlive_an_erase() {
    let (told, _reached) = mpsc::unbounded_channel();
    let (_go, goes) = std::sync::mpsc::channel();
    let (node, journal) = receiver(Gate {
        reached: Mutex::new(Some(told)),
        go: Mutex::new(goes),
    });
    let opened = node.open_group(GROUP, FIRST_JOIN, Position::ZERO).await;
    let (member, store) = (opened.unwrap(), node.groups().store().clone());
    let (_local, export) = exported();
    let offer = offer(&export);
    let offered = || SnapshotRequest::Offer(offer.clone());
    let wanted = |upto, overdue| EraseGroup {
        group: GROUP,
        upto,
        keys: Position::ZERO,
        horizon: upto,
        overdue,
    };
    let (at, later) = (offer.position, offer.position.next());
    assert!(!member.stages(&wanted(later, false)).await);
    let begun = Some(SnapshotAnswer::Next(0));
    assert_eq!(member.receive(NodeId(2), offered(), &*store).await, begun);
    assert!(member.stages(&wanted(later, false)).await, "a round waits");
    assert!(
        !member.stages(&wanted(at, false)).await,
        "it has no such row"
    );
    assert!(!member.stages(&wanted(at, true)).await);
    assert!(member.staging.lock().await.is_some(), "so it stays");
    assert!(!member.stages(&wanted(later, true)).await, "it is given up");
    assert!(member.staging.lock().await.is_none());

    assert_eq!(member.receive(NodeId(2), offered(), &*store).await, begun);
    let silent_for = async |time| {
        let mut staging = member.staging.lock().await;
        staging.as_mut().unwrap().heard = Instant::now() - time;
    };
    silent_for(STAGED_IDLE_MAX).await;
    assert_eq!(member.receive(NodeId(2), offered(), &*store).await, begun);
    member.give_up_idle();
    assert!(member.staging.lock().await.is_some(), "it still comes");
    silent_for(STAGED_IDLE_MAX).await;
    member.give_up_idle();
    assert!(member.staging.lock().await.is_none(), "its sender is gone");
    node.shutdown().await;
    journal.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_installs_a_snapshot_says_so() {
    let (told, mut reached) = mpsc::unbounded_channel();
    let (go, goes) = std::sync::mpsc::channel();
    let (node, journal) = receiver(Gate {
        reached: Mutex::new(Some(told)),
        go: Mutex::new(goes),
    });
    let opened = node.open_group(GROUP, FIRST_JOIN, Position::ZERO).await;
    let (member, store) = (opened.unwrap(), node.groups().store().clone());
    let take = move |part| {
        let (member, store) = (member.clone(), store.clone());
        let taken = async move { member.receive(NodeId(2), part, &*store).await };
        tokio::spawn(timeout(TIME_MAX, taken)).map(|taken| taken.unwrap().unwrap())
    };

    let (_local, mut export) = exported();
    let offer = offer(&export);
    let (id, offered) = (offer.id, || SnapshotRequest::Offer(offer.clone()));
    assert_eq!(take(offered()).await, Some(SnapshotAnswer::Next(0)));
    let bytes = export.read(CHUNK_BYTES_MAX).unwrap();
    let number = 0;
    let chunk = SnapshotRequest::Chunk { id, number, bytes };
    assert_eq!(take(chunk).await, Some(SnapshotAnswer::Next(1)));
    assert!(export.read(CHUNK_BYTES_MAX).unwrap().is_empty());
    let end = || SnapshotRequest::End { id, chunks: 1 };
    let installing = take(end());
    timeout(TIME_MAX, reached.recv()).await.unwrap().unwrap();
    // Done is only what has been installed to the end: Raft cuts its log then.
    let applied = node.groups().get(GROUP).unwrap().applied_log().0;
    assert_eq!(applied.index.0, offer.last.index);
    assert_eq!(take(offered()).await, Some(SnapshotAnswer::Installing));
    assert_eq!(take(end()).await, None);
    go.send(()).unwrap();
    assert_eq!(installing.await, Some(SnapshotAnswer::Done(vote())));
    assert_eq!(take(offered()).await, Some(SnapshotAnswer::Done(vote())));
    node.shutdown().await;
    journal.close();
}
