//! Who of the other nodes answers. A silent one is suspected at once, so that the groups that it
//! leads elect another leader before their own timeouts; a false alarm does no harm there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft::NodeId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Cluster;
use super::ask::{Ask, Told};
use super::identity::Member;

/// Between two pings to a node.
const PING_EVERY: Duration = Duration::from_millis(100);
/// Silence after which a node is suspected.
const SUSPECT_AFTER: Duration = Duration::from_millis(400);
/// Silence after which a node counts as not there.
const LIVE_FOR: Duration = Duration::from_secs(2);
/// How long one ping may take.
const PING_TIME_MAX: Duration = Duration::from_secs(1);

/// When nodes were last heard.
#[derive(Default)]
pub struct Heard(Mutex<BTreeMap<u32, Known>>);

struct Known {
    /// When it was heard, or, if it never was, when it was first looked for.
    last: Instant,
    ever: bool,
    /// A ping is under way.
    asked: bool,
    /// How long its last answer took.
    round_trip: Option<Duration>,
    /// It gives away what it leads, said its last answer.
    draining: bool,
    /// Some of its sessions LISTEN, said its last answer.
    listens: bool,
}

impl Heard {
    /// A node has answered, or asked.
    pub fn note(&self, node: u32, now: Instant) {
        let mut heard = self.0.lock();
        let known = heard.entry(node).or_insert_with(|| Known::new(now));
        known.last = now;
        known.ever = true;
    }

    /// A node has answered a ping that was sent at `asked`.
    fn answered(&self, node: u32, asked: Instant, draining: bool, listens: bool) {
        let now = Instant::now();
        self.note(node, now);
        if let Some(known) = self.0.lock().get_mut(&node) {
            known.round_trip = Some(now - asked);
            known.draining = draining;
            known.listens = listens;
        }
    }

    /// The nodes of which some sessions LISTEN.
    pub fn listening(&self) -> Vec<u32> {
        let heard = self.0.lock();
        let listens = heard.iter().filter(|(_, known)| known.listens);
        listens.map(|(node, _)| *node).collect()
    }

    /// How long the last answer of a node took.
    pub fn round_trip(&self, node: u32) -> Option<Duration> {
        self.0.lock().get(&node)?.round_trip
    }

    /// Does a node give away what it leads?
    pub fn is_draining(&self, node: u32) -> bool {
        self.0.lock().get(&node).is_some_and(|known| known.draining)
    }

    /// How long a node has been silent; `None`: it was never heard.
    pub fn silence(&self, node: u32) -> Option<Duration> {
        let heard = self.0.lock();
        let known = heard.get(&node)?;
        known.ever.then(|| known.silence(Instant::now()))
    }

    /// The nodes that are there.
    pub fn live(&self, now: Instant) -> BTreeSet<u32> {
        let heard = self.0.lock();
        let live = |(_, known): &(&u32, &Known)| known.ever && known.silence(now) < LIVE_FOR;
        heard.iter().filter(live).map(|(node, _)| *node).collect()
    }

    /// Is a node there?
    pub fn is_live(&self, node: u32) -> bool {
        let heard = self.0.lock();
        let known = heard.get(&node);
        known.is_some_and(|known| known.ever && known.silence(Instant::now()) < LIVE_FOR)
    }

    /// Those of these nodes that have been silent for so long since they were first looked for.
    pub fn lost(&self, nodes: &[u32], after: Duration, now: Instant) -> BTreeSet<u32> {
        let mut heard = self.0.lock();
        let silent = |node: &u32| {
            let known = heard.entry(*node).or_insert_with(|| Known::new(now));
            known.silence(now) >= after
        };
        nodes.iter().copied().filter(silent).collect()
    }

    /// Marks a ping as under way; false if there is one.
    fn begin(&self, node: u32, now: Instant) -> bool {
        let mut heard = self.0.lock();
        let known = heard.entry(node).or_insert_with(|| Known::new(now));
        !std::mem::replace(&mut known.asked, true)
    }

    fn end(&self, node: u32) {
        if let Some(known) = self.0.lock().get_mut(&node) {
            known.asked = false;
        }
    }

    /// Is the silence of a node so long that it is suspected?
    pub fn suspects(&self, node: u32, now: Instant) -> bool {
        let heard = self.0.lock();
        let known = heard.get(&node);
        known.is_some_and(|known| known.silence(now) >= SUSPECT_AFTER)
    }
}

impl Known {
    fn new(now: Instant) -> Known {
        Known {
            last: now,
            ever: false,
            asked: false,
            round_trip: None,
            draining: false,
            listens: false,
        }
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }
}

/// Pings the other nodes, for ever. Runs beside Raft, which a busy SQL runtime must not delay.
pub async fn detect(cluster: Arc<Cluster>) {
    let mut tick = interval(PING_EVERY);
    // A process that was stopped has heard nobody meanwhile, and that is nobody's fault.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        let now = tick.tick().await;
        let stopped = now.duration_since(before) > SUSPECT_AFTER;
        before = now;
        for node in cluster.others() {
            if cluster.heard.begin(node, now) {
                tokio::spawn(ping(cluster.clone(), node));
            }
            if !stopped && cluster.heard.suspects(node, now) {
                cluster.suspect(node);
            }
        }
    }
}

async fn ping(cluster: Arc<Cluster>, node: u32) {
    let begun = Instant::now();
    let asked = cluster.ask(node, &Ask::Ping, PING_TIME_MAX).await;
    cluster.heard.end(node);
    let fellow = |member: &Member| {
        let me = cluster.member().map(|member| member.cluster);
        member.node == node && Some(member.cluster) == me
    };
    match asked {
        Ok(Told::Here {
            member: Some(member),
            draining,
            listens,
            leads,
        }) if fellow(&member) => {
            cluster.heard.answered(node, begun, draining, listens);
            if let Some(parts) = cluster.parts() {
                parts.raft.heard(NodeId(node));
            }
            if cluster.leads.lacks(node, leads) {
                cluster.ask_leads(node).await;
            }
        }
        Ok(_) => {}
        // Nobody listens there: no need to wait for more silence.
        Err(why) => tracing::trace!(node, why, "no answer to a ping"),
    }
}

impl Cluster {
    /// A node says that it leads other groups than before.
    async fn ask_leads(&self, node: u32) {
        // If it gives none, the next ping tells the version again.
        let told = self.ask(node, &Ask::Leads, PING_TIME_MAX).await;
        if let Ok(Told::Leads { version, says }) = told {
            self.leads.learn(node, version, says);
            self.note_change();
        }
    }

    /// The groups that a silent node leads elect another one.
    fn suspect(&self, node: u32) {
        if let Some(parts) = self.parts() {
            parts.raft.suspect(NodeId(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_there_until_it_was_silent_for_long() {
        let long = Duration::from_secs(9);
        let mut now = Instant::now();
        let heard = Heard::default();
        assert!(heard.lost(&[2], long, now).is_empty());
        heard.note(1, now);
        assert_eq!(heard.live(now), [1].into());
        assert!(!heard.suspects(1, now));
        now += SUSPECT_AFTER;
        assert!(heard.suspects(1, now) && heard.live(now).contains(&1));
        now += LIVE_FOR;
        assert!(heard.live(now).is_empty());
        now += long;
        let lost = heard.lost(&[1, 2, 3], long, now);
        assert_eq!(lost, [1, 2].into(), "3 was not looked for before");
        heard.note(1, now);
        assert_eq!(heard.live(now), [1].into());
    }

    #[test]
    fn one_ping_at_a_time() {
        let now = Instant::now();
        let heard = Heard::default();
        assert!(heard.begin(1, now));
        assert!(!heard.begin(1, now));
        heard.end(1);
        assert!(heard.begin(1, now));
    }
}
