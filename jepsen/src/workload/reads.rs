//! Reads at each node's own cut (`freehold.read = 'local'`) of two owners' tables, one of which
//! tells what its writers have read in the other: cuts never go back in a session, hold causes
//! before effects, and hold what a token of any other session names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Workload, create_owners, too_few};
use crate::check::reads::{Look, Onlooker};
use crate::error::{Error, Result};
use crate::field::{CONFLICTS, Field};
use crate::finding::Kind as FindingKind;
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, integer, text};
use crate::options::Options;
use crate::victim::Kind;

/// The two owners, and who reads both.
const OWNERS: [&str; 2] = ["cause", "effect"];
const READER: &str = "onlooker";

/// Writers of each owner, each with a counter of its own, if nobody says how many.
const CLIENTS: u32 = 4;

/// Sessions that look, at each node.
const SESSIONS: u64 = 2;

/// Reads at the node's own cut from now on.
const LOCAL: &str = "SET freehold.read = 'local'";

/// Snapshots that a run must have judged to say anything.
const OBSERVED_MIN: u64 = 50;

/// The workload.
pub struct Reads {
    kind: Kind,
    clients: u32,
    counters: Arc<Vec<Counter>>,
    tasks: JoinSet<()>,
}

/// What is known of one of the first owner's counters.
#[derive(Default)]
struct Counter {
    /// Highest value that the server was asked to write.
    asked: AtomicI64,
    /// Highest value that was acknowledged, and the token that its session had then.
    told: Mutex<(i64, String)>,
    /// The second owner's counter, as acknowledged.
    effects: AtomicI64,
    /// The token that the last of these sessions had then.
    effect: Mutex<String>,
}

impl Counter {
    /// The tokens of the last acknowledged counts.
    fn tokens(&self) -> [String; 2] {
        let effect = self.effect.lock();
        let effect = effect.expect("no task panics while it holds this").clone();
        [self.told().1, effect]
    }

    fn told(&self) -> (i64, String) {
        self.told
            .lock()
            .expect("no task panics while it holds this")
            .clone()
    }
}

impl Workload for Reads {
    const OWNERS: &'static [&'static str] = &OWNERS;

    fn new(options: &Options) -> Reads {
        let clients = options.clients.unwrap_or(CLIENTS);
        Reads {
            kind: options.victim,
            clients,
            counters: Arc::new((0..clients).map(|_| Counter::default()).collect()),
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &[OWNERS[0], OWNERS[1], READER]).await?;
        let last = i64::from(self.clients) - 1;
        let link = Link::demand(&field.address, OWNERS[0]).await?;
        for sql in [
            "CREATE TABLE public.cause_v1 (id bigint PRIMARY KEY, n bigint NOT NULL)",
            &format!(
                "INSERT INTO public.cause_v1 SELECT g, 0 FROM generate_series(0, {last}) AS g"
            ),
            "GRANT READ ON cause_* TO effect",
            "GRANT READ ON cause_* TO onlooker",
        ] {
            link.must(sql).await?;
        }
        let link = Link::demand(&field.address, OWNERS[1]).await?;
        for sql in [
            "CREATE TABLE public.effect_v1 (id bigint PRIMARY KEY, n bigint NOT NULL, \
             cause bigint NOT NULL)",
            &format!(
                "INSERT INTO public.effect_v1 SELECT g, 0, 0 FROM generate_series(0, {last}) AS g"
            ),
            "GRANT READ ON effect_* TO onlooker",
        ] {
            link.must(sql).await?;
        }
        // Without it there is nothing to test: no server but Freehold has it.
        let local = link.run(LOCAL).await;
        local
            .map_err(|failure| Error::Setup(format!("no reads at a node's own cut: {failure}")))?;
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        for number in 0..u64::from(self.clients) {
            for (owner, writes) in [(0, Writes::Causes), (1, Writes::Effects)] {
                let what = OWNERS[owner];
                let writer = Writer {
                    field: field.clone(),
                    counters: self.counters.clone(),
                    number: number as usize,
                    process: number * 2 + owner as u64,
                };
                self.tasks.spawn(writer.live(what, writes));
            }
        }
        for node in 0..field.address.len() {
            for number in 0..SESSIONS {
                let session = Session {
                    field: field.at(field.address.only(node)),
                    counters: self.counters.clone(),
                    name: format!("session {number} at node {}", node + 1),
                    rng: field
                        .seed
                        .fork("session", node as u64 * SESSIONS + number)
                        .rng(),
                };
                self.tasks.spawn(session.live());
            }
        }
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a client does not panic");
        }
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        let link = Link::demand(&field.address, READER).await?;
        // Other owners' tables are read at the node's cut: what must be there is named.
        let tokens = self.counters.iter().flat_map(Counter::tokens);
        for token in tokens.filter(|token| !token.is_empty()) {
            link.must(&format!("SET freehold.token = '{token}'"))
                .await?;
            link.must("SELECT 1 FROM public.cause_v1, public.effect_v1 LIMIT 1")
                .await?;
        }
        let rows = link.must("SELECT id, n FROM public.cause_v1").await?;
        let there: BTreeMap<i64, i64> = rows
            .iter()
            .filter_map(|row| Some((integer(row, 0)?, integer(row, 1)?)))
            .collect();
        for (number, counter) in self.counters.iter().enumerate() {
            let (told, asked) = (counter.told().0, counter.asked.load(Ordering::SeqCst));
            let n = there.get(&(number as i64)).copied().unwrap_or(-1);
            if n < told {
                let what = format!("cause {number} is {n}, acknowledged was {told}");
                field.findings.add(FindingKind::Lost, what);
            }
            if n > asked {
                let what = format!("cause {number} is {n}, asked for was {asked}");
                field.findings.add(FindingKind::Anomaly, what);
            }
        }
        let rows = link.must("SELECT id, n FROM public.effect_v1").await?;
        for row in rows {
            let (id, n) = (
                integer(&row, 0).unwrap_or(0),
                integer(&row, 1).unwrap_or(-1),
            );
            let told = self.counters[id as usize].effects.load(Ordering::SeqCst);
            if n < told {
                let what = format!("effect {id} is {n}, acknowledged was {told}");
                field.findings.add(FindingKind::Lost, what);
            }
        }
        Ok(())
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        let looks = field.progress.observed.load(Ordering::Relaxed);
        let few = (looks < OBSERVED_MIN)
            .then(|| format!("{looks} snapshots judged, fewer than {OBSERVED_MIN}"));
        too_few(field).or(few)
    }
}

/// What a session has seen; empty if it can't say.
async fn token(link: &Link) -> String {
    let rows = link.run("SHOW freehold.token").await.unwrap_or_default();
    rows.first().map_or("", |row| text(row, 0)).to_owned()
}

/// Which of the two counters a writer counts up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writes {
    Causes,
    Effects,
}

/// One who counts up.
struct Writer {
    field: Field,
    counters: Arc<Vec<Counter>>,
    number: usize,
    process: u64,
}

impl Writer {
    async fn live(mut self, owner: &str, writes: Writes) {
        while let Some(link) = self.field.connect(owner, Protocol::Simple).await {
            while !self.field.is_stopped() {
                let value = json!(self.number);
                self.field
                    .history
                    .step(self.process, Step::Invoke, owner, value.clone());
                let outcome = match writes {
                    Writes::Causes => self.cause(&link).await,
                    Writes::Effects => self.effect(&link).await,
                };
                self.field
                    .ended(self.process, owner, &outcome, &CONFLICTS, value);
                if outcome.failure().is_some_and(Failure::is_end) {
                    break;
                }
            }
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    async fn cause(&self, link: &Link) -> Outcome {
        let counter = &self.counters[self.number];
        counter.asked.fetch_add(1, Ordering::SeqCst);
        let number = self.number;
        let sql = format!("UPDATE public.cause_v1 SET n = n + 1 WHERE id = {number} RETURNING n");
        let answer = link.run(&sql).await;
        let outcome = Outcome::of_commit(&answer);
        if matches!(outcome, Outcome::Failed(_)) {
            counter.asked.fetch_sub(1, Ordering::SeqCst);
        }
        let told = answer.ok().and_then(|rows| integer(rows.first()?, 0));
        if let Some(told) = told {
            let token = token(link).await;
            *counter
                .told
                .lock()
                .expect("no task panics while it holds this") = (told, token);
        }
        outcome
    }

    async fn effect(&self, link: &Link) -> Outcome {
        let outcome = match self.read_and_write(link).await {
            Ok(()) => Outcome::of_commit(&link.run("COMMIT").await),
            Err(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Outcome::Failed(failure)
            }
        };
        if matches!(outcome, Outcome::Acknowledged) {
            let counter = &self.counters[self.number];
            counter.effects.fetch_add(1, Ordering::SeqCst);
            let token = token(link).await;
            *counter
                .effect
                .lock()
                .expect("no task panics while it holds this") = token;
        }
        outcome
    }

    async fn read_and_write(&self, link: &Link) -> std::result::Result<(), Failure> {
        let number = self.number;
        link.run("BEGIN").await?;
        let sql = format!("SELECT n FROM public.cause_v1 WHERE id = {number}");
        let rows = link.run(&sql).await?;
        let cause = rows.first().and_then(|row| integer(row, 0)).unwrap_or(0);
        let sql =
            format!("UPDATE public.effect_v1 SET n = n + 1, cause = {cause} WHERE id = {number}");
        link.run(&sql).await.map(drop)
    }
}

/// One who looks, at one node.
struct Session {
    field: Field,
    counters: Arc<Vec<Counter>>,
    name: String,
    rng: StdRng,
}

impl Session {
    async fn live(mut self) {
        while let Some(link) = self.field.connect(READER, Protocol::Extended).await {
            // What a session has seen binds it alone.
            let mut onlooker = Onlooker::default();
            let mut failed = link.run(LOCAL).await.err();
            while !self.field.is_stopped() && failed.as_ref().is_none_or(|f| !f.is_end()) {
                if let Some(failure) = failed.take() {
                    let survived = self.field.survives(&failure, "look", &CONFLICTS).await;
                    if survived != Some(true) {
                        break;
                    }
                    self.field.roll_back(&link).await;
                }
                failed = self.look(&link, &mut onlooker).await.err();
            }
            if !self.field.goes_on() {
                return;
            }
        }
    }

    async fn look(
        &mut self,
        link: &Link,
        onlooker: &mut Onlooker,
    ) -> std::result::Result<(), Failure> {
        let mut least = None;
        if self.rng.random_bool(0.3) {
            let number = self.rng.random_range(0..self.counters.len());
            let (told, token) = self.counters[number].told();
            if !token.is_empty() {
                link.run(&format!("SET freehold.token = '{token}'")).await?;
                least = Some((number as i64, told));
            }
        }
        let look = snapshot(link).await?;
        let asked = self.counters.iter().enumerate();
        let asked = asked
            .map(|(number, counter)| (number as i64, counter.asked.load(Ordering::SeqCst)))
            .collect();
        self.field
            .findings
            .extend(onlooker.look(&self.name, look, &asked, least));
        self.field.progress.observed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Both tables in one snapshot.
async fn snapshot(link: &Link) -> std::result::Result<Look, Failure> {
    let mut look = Look::default();
    link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    for row in link
        .run("SELECT id, n, cause FROM public.effect_v1")
        .await?
    {
        if let (Some(id), Some(n), Some(cause)) =
            (integer(&row, 0), integer(&row, 1), integer(&row, 2))
        {
            look.effects.insert(id, (n, cause));
        }
    }
    for row in link.run("SELECT id, n FROM public.cause_v1").await? {
        if let (Some(id), Some(n)) = (integer(&row, 0), integer(&row, 1)) {
            look.causes.insert(id, n);
        }
    }
    link.run("COMMIT").await?;
    Ok(look)
}
