//! Who of the other nodes answers. A silent one is suspected at once, so that the groups that it
//! leads elect another leader before their own timeouts; a false alarm does no harm there, but it
//! costs the groups their rest. So the times follow the measured round trip: a node far away is heard
//! less often than every [`PING_EVERY`]. Nodes that have nothing to do with each other, which are most
//! pairs of a large cluster, ask less often: no group waits for what they find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft::NodeId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Cluster;
use super::ask::{Ask, Told};
use super::identity::Member;

/// Between two pings to a node that votes where this one has a replica, or has streams of this one.
const PING_EVERY: Duration = Duration::from_millis(100);
/// Between two pings to another one; it tells when what it would say has changed.
const PING_OTHERS_EVERY: Duration = Duration::from_millis(500);
/// Silence after which a node is suspected, at least and at most.
const SUSPECT_AFTER: Duration = Duration::from_millis(400);
const SUSPECT_AFTER_MAX: Duration = Duration::from_secs(3);
/// Silence after which a node counts as not there, likewise.
const LIVE_FOR: Duration = Duration::from_secs(2);
const LIVE_FOR_MAX: Duration = Duration::from_secs(15);
/// How long one ping may take, likewise.
const PING_TIME: Duration = Duration::from_secs(1);
const PING_TIME_MAX: Duration = Duration::from_secs(5);
/// The weight of what was measured before beside one new round trip.
const SMOOTHING: u32 = 7;

/// The times for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    suspect_after: Duration,
    live_for: Duration,
    ping_time: Duration,
}

impl Times {
    /// For a node at this distance that is asked this often.
    fn of(round_trip: Duration, every: Duration) -> Times {
        // There is one ping at a time, begun at the next tick: two of them may fail to come.
        let suspect_after = 2 * (round_trip + every) + PING_EVERY;
        let suspect_after = suspect_after.clamp(SUSPECT_AFTER, SUSPECT_AFTER_MAX);
        Times {
            suspect_after,
            live_for: (5 * suspect_after).clamp(LIVE_FOR, LIVE_FOR_MAX),
            ping_time: (3 * round_trip).clamp(PING_TIME, PING_TIME_MAX),
        }
    }
}

/// When nodes were last heard.
#[derive(Default)]
pub struct Heard(Mutex<BTreeMap<u32, Known>>);

struct Known {
    /// When it was heard, or, if it never was, when it was first looked for.
    last: Instant,
    ever: bool,
    /// A ping is under way.
    asked: bool,
    /// When the next one is due.
    due: Instant,
    /// How often it is asked; more often than before only once such a ping was answered.
    every: Duration,
    /// How long its last answer took.
    round_trip: Option<Duration>,
    /// How long its answers take: one that was late says little.
    distance: Duration,
    /// When that was asked for which it answered last.
    proven: Option<Instant>,
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

    /// A node that is asked `every` so often has answered a ping that was sent at `asked`.
    pub(super) fn answered(
        &self,
        node: u32,
        (asked, every): (Instant, Duration),
        draining: bool,
        listens: bool,
    ) {
        let now = Instant::now();
        self.note(node, now);
        if let Some(known) = self.0.lock().get_mut(&node) {
            known.every = every;
            known.measured(now - asked);
            known.proven = known.proven.max(Some(asked));
            known.draining = draining;
            known.listens = listens;
        }
    }

    /// Have most of these nodes answered what they were asked since then? This one always has.
    pub fn most_answer(&self, nodes: &[u32], me: u32, since: Instant) -> bool {
        let heard = self.0.lock();
        let answers = |node: &&u32| {
            let proven = heard.get(*node).and_then(|known| known.proven);
            **node == me || proven.is_some_and(|proven| proven >= since)
        };
        nodes.iter().filter(answers).count() > nodes.len() / 2
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

    /// How long the answers of the farthest node take of those that are not suspected.
    fn farthest(&self, now: Instant) -> Duration {
        let heard = self.0.lock();
        let there = |known: &&Known| known.silence(now) < known.times().suspect_after;
        let distances = heard.values().filter(there).map(|known| known.distance);
        distances.max().unwrap_or_default()
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

    /// How long ago that was asked for which a node answered last; `None`: it never did.
    pub fn unproven(&self, node: u32) -> Option<Duration> {
        let proven = self.0.lock().get(&node)?.proven?;
        Some(Instant::now().saturating_duration_since(proven))
    }

    /// The nodes that are there.
    pub fn live(&self, now: Instant) -> BTreeSet<u32> {
        let heard = self.0.lock();
        let live = |(_, known): &(&u32, &Known)| known.is_live(now);
        heard.iter().filter(live).map(|(node, _)| *node).collect()
    }

    /// Is a node there?
    pub fn is_live(&self, node: u32) -> bool {
        let heard = self.0.lock();
        let known = heard.get(&node);
        known.is_some_and(|known| known.is_live(Instant::now()))
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

    /// Marks a ping as under way if one is due at a node that is asked `every` so often, and none is.
    fn begin(&self, node: u32, every: Duration, now: Instant) -> bool {
        let mut heard = self.0.lock();
        let known = heard.entry(node).or_insert_with(|| Known::new(now));
        known.every = known.every.max(every);
        known.due = known.due.min(now + every);
        // Ticks are not exact.
        if known.asked || known.due > now + PING_EVERY / 2 {
            return false;
        }
        known.asked = true;
        known.due = now + every;
        true
    }

    /// What a node would say has changed: it is asked at the next tick.
    pub(super) fn ask_soon(&self, node: u32, now: Instant) {
        if let Some(known) = self.0.lock().get_mut(&node) {
            known.due = now;
        }
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
        known.is_some_and(|known| known.silence(now) >= known.times().suspect_after)
    }

    /// How long a ping to a node may take; `connected`: what its connection has measured.
    fn ping_time(&self, node: u32, connected: Option<Duration>) -> Duration {
        let heard = self.0.lock();
        let known = heard.get(&node).map(|known| known.distance);
        Times::of(known.max(connected).unwrap_or_default(), PING_EVERY).ping_time
    }
}

impl Known {
    fn new(now: Instant) -> Known {
        Known {
            last: now,
            ever: false,
            asked: false,
            due: now,
            every: PING_EVERY,
            round_trip: None,
            distance: Duration::ZERO,
            proven: None,
            draining: false,
            listens: false,
        }
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    fn measured(&mut self, round_trip: Duration) {
        self.distance = match self.round_trip {
            None => round_trip,
            Some(_) => (SMOOTHING * self.distance + round_trip) / (SMOOTHING + 1),
        };
        self.round_trip = Some(round_trip);
    }

    fn times(&self) -> Times {
        Times::of(self.distance, self.every)
    }

    fn is_live(&self, now: Instant) -> bool {
        self.ever && self.silence(now) < self.times().live_for
    }
}

/// Pings the other nodes, for ever. Runs beside Raft, which a busy SQL runtime must not delay.
pub async fn detect(cluster: Arc<Cluster>) {
    let mut tick = interval(PING_EVERY);
    // A process that was stopped has heard nobody meanwhile, and that is nobody's fault.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Instant::now();
    let mut told = None;
    loop {
        let now = tick.tick().await;
        let stopped = now.duration_since(before) > SUSPECT_AFTER;
        before = now;
        // What was asked before a stop of the process proves nothing after it: so first this.
        cluster.note_contact();
        let others = cluster.others();
        cluster.clock.keep(&others);
        let news = cluster.news();
        let is_news = told.replace(news) != Some(news);
        for node in others {
            let every = cluster.ping_every(node);
            if cluster.heard.begin(node, every, now) {
                tokio::spawn(ping(cluster.clone(), node, every));
            }
            if is_news {
                tokio::spawn(tell_news(cluster.clone(), node));
            }
            if !stopped && cluster.heard.suspects(node, now) {
                cluster.suspect(node);
            }
        }
    }
}

/// A node that asks seldom is to ask now.
async fn tell_news(cluster: Arc<Cluster>, node: u32) {
    let told = cluster.ask(node, &Ask::PingMe, PING_TIME).await;
    if let Err(why) = told {
        tracing::trace!(node, why, "it was not told of the news");
    }
}

async fn ping(cluster: Arc<Cluster>, node: u32, every: Duration) {
    let begun = Instant::now();
    let time = cluster.heard.ping_time(node, cluster.round_trip(node));
    let asked = cluster.ask(node, &Ask::Ping, time).await;
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
            clock,
        }) if fellow(&member) => {
            cluster
                .heard
                .answered(node, (begun, every), draining, listens);
            if clock > 0 {
                cluster.note_clock(node, clock, begun.into_std());
            }
            if let Some(parts) = cluster.parts() {
                parts.raft.heard(NodeId(node));
            }
            if cluster.leads.lacks(node, leads) {
                cluster.ask_leads(node).await;
            }
        }
        Ok(Told::Gone) => cluster.note_gone(),
        Ok(_) => {}
        // Nobody listens there: no need to wait for more silence.
        Err(why) => tracing::trace!(node, why, "no answer to a ping"),
    }
}

impl Cluster {
    /// What changes in what this node answers to a ping: whether it drains, whether its sessions
    /// LISTEN, and the version of what it leads.
    pub(super) fn news(&self) -> (bool, bool, u64) {
        let parts = self.parts();
        (
            parts.is_some_and(|parts| parts.raft.abstains()),
            parts.is_some_and(|parts| parts.engine.is_listening()),
            self.leads.version(),
        )
    }

    /// How often a node is asked.
    fn ping_every(&self, node: u32) -> Duration {
        let votes = self
            .voters
            .lock()
            .as_ref()
            .is_none_or(|voters| voters.contains(&node));
        match votes || self.has_streams(node) {
            true => PING_EVERY,
            false => PING_OTHERS_EVERY,
        }
    }

    /// What another node's clock showed when it was asked since `begun`.
    pub(super) fn note_clock(&self, node: u32, micros: u64, begun: std::time::Instant) {
        let now = std::time::Instant::now();
        match self.clock.note(node, micros, begun, now) {
            None => {}
            Some(Duration::ZERO) => tracing::info!("this node's clock agrees with most again"),
            Some(ahead) => tracing::warn!(
                ?ahead,
                "this node's clock is ahead of most others: positions follow theirs"
            ),
        }
    }

    /// A node says that it leads other groups than before.
    async fn ask_leads(&self, node: u32) {
        // If it gives none, the next ping tells the version again.
        let time = self.heard.ping_time(node, self.round_trip(node));
        let told = self.ask(node, &Ask::Leads, time).await;
        if let Ok(Told::Leads { version, says }) = told {
            self.leads.learn(node, version, says);
            self.note_change();
        }
    }

    /// The groups that a silent node leads elect another one.
    fn suspect(&self, node: u32) {
        if let Some(parts) = self.parts() {
            let round_trip = self.heard.farthest(Instant::now());
            parts.raft.suspect(NodeId(node), round_trip);
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
    fn times_follow_the_round_trip_between_floor_and_ceiling() {
        let ms = Duration::from_millis;
        let times = |round_trip, suspect_after, live_for, ping_time| {
            let expected = Times {
                suspect_after: ms(suspect_after),
                live_for: ms(live_for),
                ping_time: ms(ping_time),
            };
            assert_eq!(
                Times::of(ms(round_trip), PING_EVERY),
                expected,
                "{round_trip} ms"
            );
        };
        times(0, 400, 2_000, 1_000);
        times(50, 400, 2_000, 1_000);
        times(300, 900, 4_500, 1_000);
        times(700, 1_700, 8_500, 2_100);
        times(60_000, 3_000, 15_000, 5_000);
    }

    /// Its answers come every 400 ms, and a lost one is no reason to suspect it.
    #[test]
    fn a_node_far_away_is_not_suspected_for_its_distance() {
        let far = Duration::from_millis(300);
        let mut now = Instant::now();
        let heard = Heard::default();
        heard.note(1, now);
        assert!(
            heard.suspects(1, now + far + PING_EVERY),
            "nothing is known of it"
        );
        for _ in 0..20 {
            now += far + PING_EVERY;
            heard.note(1, now);
            heard.0.lock().get_mut(&1).unwrap().measured(far);
        }
        assert!(!heard.suspects(1, now + 2 * (far + PING_EVERY)));
        assert!(heard.suspects(1, now + 3 * (far + PING_EVERY)));
        // One late answer changes little, and not for long.
        heard.0.lock().get_mut(&1).unwrap().measured(8 * far);
        assert!(heard.suspects(1, now + 5 * far));
        assert_eq!(
            heard.ping_time(2, Some(Duration::from_secs(1))),
            3 * PING_TIME
        );
    }

    #[test]
    fn one_ping_at_a_time() {
        let now = Instant::now();
        let heard = Heard::default();
        let begin = |at| heard.begin(1, PING_EVERY, at);
        assert!(begin(now));
        assert!(!begin(now + 9 * PING_EVERY));
        heard.end(1);
        assert!(begin(now + 9 * PING_EVERY));
    }

    #[test]
    fn who_has_nothing_to_do_with_this_node_is_asked_less_often() {
        let mut now = Instant::now();
        let heard = Heard::default();
        let mut begun = |every, ticks: u32| {
            let mut begun = 0;
            for _ in 0..ticks {
                if heard.begin(1, every, now) {
                    begun += 1;
                    heard.end(1);
                    heard.note(1, now);
                }
                now += PING_EVERY;
            }
            (begun, now)
        };
        assert_eq!(begun(PING_OTHERS_EVERY, 20).0, 4);
        // At once if it is wanted more often, or has news.
        let (first, at) = begun(PING_EVERY, 1);
        assert_eq!(first, 1);
        assert!(
            !heard.suspects(1, at + SUSPECT_AFTER),
            "it may have been asked less often until now"
        );
        let asked = (at, PING_EVERY);
        heard.answered(1, asked, false, false);
        assert!(heard.suspects(1, Instant::now() + SUSPECT_AFTER));
        assert_eq!(begun(PING_OTHERS_EVERY, 6).0, 2);
        assert!(!heard.suspects(1, Instant::now() + SUSPECT_AFTER));
        heard.ask_soon(1, at);
        assert_eq!(begun(PING_OTHERS_EVERY, 4).0, 1);
    }
}
