//! A run on a cluster: load, strikes, healing, comparison through every node, a graceful end, and
//! the nodes' folders beside each other.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::failover::{Probes, summary};
use super::links::Direction;
use super::nemesis::{Nemesis, Strike};
use super::{Cluster, oracle};
use crate::error::{Error, Result};
use crate::field::Field;
use crate::finding::{Finding, Findings, Kind, Tally};
use crate::history::{self, History};
use crate::options::{self, Options};
use crate::runs::{Report, Scratch, Setup, server_options};
use crate::seed::Seed;
use crate::victim::Pause;
use crate::workload::{
    ACKNOWLEDGED_MIN, Acknowledged, Append, Bank, Commands, Feed, Reads, References, Register,
    Workload,
};

/// Attempts beyond the asked runs before too many of them are invalid.
const SPARE_ATTEMPTS: u64 = 2;

/// Between two strikes, in milliseconds.
const QUIET_MS: std::ops::Range<u64> = 500..3_000;

/// How long a killed node is away, in milliseconds.
const AWAY_MS: std::ops::Range<u64> = 500..4_000;

/// How long a pause or a partition lasts, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 1_000..10_000;

/// A leading node's kill is measured; beyond this nothing comes any more.
const FAILOVER_MAX: Duration = Duration::from_secs(30);

/// After healing, each owner's writes are acknowledged within this.
const LEADER_MAX: Duration = Duration::from_secs(10);

/// After healing, each client has its answer within this.
const CLIENTS_MAX: Duration = Duration::from_secs(60);

/// Extra time for a slow machine to reach the least load before the first strike.
const LOAD_GRACE: Duration = Duration::from_secs(20);

/// Plays all runs of a call.
pub async fn play(setup: &Setup) -> Result<(Tally, Vec<Finding>)> {
    match setup.options.workload {
        options::Workload::Append => play_as::<Append>(setup).await,
        options::Workload::Bank => play_as::<Bank>(setup).await,
        options::Workload::Acknowledged => play_as::<Acknowledged>(setup).await,
        options::Workload::Feed => play_as::<Feed>(setup).await,
        options::Workload::Register => play_as::<Register>(setup).await,
        options::Workload::Reads => play_as::<Reads>(setup).await,
        options::Workload::Commands => play_as::<Commands>(setup).await,
        options::Workload::References => play_as::<References>(setup).await,
    }
}

async fn play_as<W: Workload>(setup: &Setup) -> Result<(Tally, Vec<Finding>)> {
    let (mut tally, mut findings) = (Tally::default(), Vec::new());
    let asked = setup.options.runs;
    let attempts_max = asked + SPARE_ATTEMPTS;
    let mut number = 0;
    while tally.runs < asked && tally.runs + tally.invalid < attempts_max {
        let seed = Seed(setup.options.seed.wrapping_add(number));
        let report = Run::<W>::play(setup, seed, number).await?;
        report.print(&setup.options, seed, 0, tally.runs + 1);
        tally.add(&report.tally);
        findings.extend(report.findings);
        number += 1;
        if tally.is_caught() && setup.until_found {
            break;
        }
    }
    if let Some(line) = summary(&tally.failovers) {
        println!("{line}");
    }
    Ok((tally, findings))
}

/// One cluster under one load.
struct Run<'a, W> {
    cluster: Cluster,
    workload: W,
    probes: Probes,
    field: Field,
    setup: &'a Setup,
    tally: Tally,
    bites: Bites,
}

/// What proves that the faults were felt.
#[derive(Default)]
struct Bites {
    strikes: u64,
    /// Strikes on a node that led one of the owners' groups.
    on_leader: u64,
    /// Partitions, and those that kept something from getting through.
    partitions: u64,
    kept: u64,
    /// Acknowledged when the last strike was over.
    acknowledged: u64,
}

impl<W: Workload> Run<'_, W> {
    async fn play(setup: &Setup, seed: Seed, number: u64) -> Result<Report> {
        let options = &setup.options;
        let out = folder_of(options, seed)?;
        let scratch = Scratch::make(options.scratch.as_deref(), number)?;
        let path = out.join("run-000.jsonl");
        let history = History::create(&path, &header(setup, seed))?;
        let findings = Findings::default();
        let cluster = Cluster::make(
            options,
            &setup.program,
            setup.sabotage.as_deref(),
            &server_options(options, seed),
            scratch.path(),
            &out,
        )
        .await?;
        let field = Field::new(
            cluster.address().clone(),
            seed,
            0,
            options.weaken,
            history.clone(),
            findings.clone(),
        );
        let mut run = Run {
            cluster,
            workload: W::new(options),
            probes: Probes::default(),
            field: field.of_cluster(),
            setup,
            tally: Tally::default(),
            bites: Bites::default(),
        };
        let played = run.play_to_end().await;
        run.close(played, &scratch, &out, path)
    }

    /// Why the run says nothing, if so.
    async fn play_to_end(&mut self) -> Result<Option<String>> {
        self.cluster.form().await?;
        self.workload.prepare(&self.field).await?;
        let address = self.cluster.address().clone();
        self.probes.prepare(&address, W::OWNERS).await?;
        self.cluster.wait_whole().await?;
        self.workload.begin(&self.field).await?;
        let struck = self.strike_on().await;
        self.cluster.heal()?;
        // Clients end before anything else does, whatever was found.
        let served = match struck {
            Ok(()) => self.serve_again().await,
            Err(error) => Err(error),
        };
        self.field.stop();
        if timeout(CLIENTS_MAX, self.workload.finish()).await.is_err() {
            let seconds = CLIENTS_MAX.as_secs();
            return Err(Error::Victim(format!(
                "a client has no answer {seconds} s after the end"
            )));
        }
        self.tally.acknowledged = self.field.acknowledged();
        served?;
        self.compare().await?;
        let invalid = self.bites.too_few(self.setup, &self.field);
        Ok(self.workload.too_low(&self.field).or(invalid))
    }

    /// Strikes until the time or the asked number of strikes is over.
    async fn strike_on(&mut self) -> Result<()> {
        let options = &self.setup.options;
        let mut rng = self.field.seed.fork("nemesis", 0).rng();
        let mut end = Instant::now() + Duration::from_secs(options.time);
        let loaded = Instant::now() + LOAD_GRACE;
        while self.field.acknowledged() < ACKNOWLEDGED_MIN && Instant::now() < loaded {
            sleep(Duration::from_millis(5)).await;
        }
        if let Some(strikes) = options.strikes {
            for strike in 0..strikes {
                let share = |all: u64| all * strike / strikes;
                self.await_commands(options.commands.map(share)).await;
                self.strike(&mut rng).await?;
            }
            end = Instant::now();
        }
        self.await_commands(options.commands).await;
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            match self.setup.options.nemeses[..] {
                [Nemesis::None] => sleep(left).await,
                _ => self.strike(&mut rng).await?,
            }
        }
        self.bites.acknowledged = self.field.acknowledged();
        Ok(())
    }

    /// Waits until so many commands were acknowledged. That none is for a minute is a finding.
    async fn await_commands(&self, count: Option<u64>) {
        let sent = || self.field.progress.commands.load(Ordering::Relaxed);
        let (mut before, mut moved) = (sent(), Instant::now());
        while sent() < count.unwrap_or(0) {
            sleep(Duration::from_millis(20)).await;
            if sent() > before {
                (before, moved) = (sent(), Instant::now());
            } else if moved.elapsed() > CLIENTS_MAX {
                let what = format!("no command is acknowledged after {before}");
                self.field.findings.add(Kind::Unexpected, what);
                return;
            }
        }
    }

    /// One strike from its quiet before to its end after.
    async fn strike(&mut self, rng: &mut StdRng) -> Result<()> {
        sleep(Duration::from_millis(rng.random_range(QUIET_MS))).await;
        let nemeses = &self.setup.options.nemeses;
        let nemesis = nemeses[rng.random_range(0..nemeses.len())];
        let leaders = self.cluster.leaders().await;
        let owner = W::OWNERS[rng.random_range(0..W::OWNERS.len())];
        let Some(leader) = leaders.get(owner).copied() else {
            self.note("no leader", json!({ "owner": owner }));
            return Ok(());
        };
        let strike = nemesis.strike(self.cluster.len(), leader, rng);
        let struck = strike.struck(self.cluster.len());
        let led = |owner: &&str| {
            leaders
                .get(*owner)
                .is_some_and(|node| struck.contains(node))
        };
        self.bites.strikes += 1;
        self.bites.on_leader += u64::from(W::OWNERS.iter().any(led));
        let value = json!({
            "strike": format!("{strike:?}"), "owner": owner, "leader": leader + 1,
            "acknowledged": self.field.acknowledged(),
        });
        self.note(nemesis.word(), value);
        let measured = struck.contains(&leader).then_some(owner);
        self.carry_out(strike, owner, measured, rng).await?;
        self.note("over", json!({}));
        self.cluster.wait_whole().await
    }

    async fn carry_out(
        &mut self,
        strike: Strike,
        owner: &str,
        measured: Option<&str>,
        rng: &mut StdRng,
    ) -> Result<()> {
        match strike {
            Strike::Shrink(_) => self.shrink(owner, rng).await,
            Strike::Claim(node) => self.claim(owner, node).await,
            Strike::Nothing => Ok(()),
            Strike::Kill(nodes) => self.kill(&nodes, measured, rng).await,
            Strike::Restart(node) => {
                self.cluster.nodes[node].stop().await?;
                sleep(Duration::from_millis(rng.random_range(AWAY_MS))).await;
                self.cluster.start_all().await
            }
            Strike::Pause(node) => {
                self.tally.pauses += 1;
                self.cluster.node(node).pause(Pause::Begin);
                sleep(Duration::from_millis(rng.random_range(LASTS_MS))).await;
                self.cluster.node(node).pause(Pause::End);
                Ok(())
            }
            Strike::Cut(directions) => self.cut(&directions, rng).await,
            Strike::Part(one, other) => self.cut(&[(one, other), (other, one)], rng).await,
        }
    }

    /// Nothing gets through in these directions for a while.
    async fn cut(&mut self, directions: &[Direction], rng: &mut StdRng) -> Result<()> {
        let before = self.cluster.links.kept()?;
        self.cluster.links.cut(directions)?;
        sleep(Duration::from_millis(rng.random_range(LASTS_MS))).await;
        self.cluster.links.heal()?;
        let kept = self.cluster.links.kept()? - before;
        self.note("healed", json!({ "kept": kept }));
        self.tally.partitions += 1;
        self.bites.partitions += 1;
        self.bites.kept += u64::from(kept > 0);
        Ok(())
    }

    /// Kills, measures until the next write if others are left, and starts again.
    async fn kill(
        &mut self,
        nodes: &[usize],
        measured: Option<&str>,
        rng: &mut StdRng,
    ) -> Result<()> {
        for node in nodes {
            if !self.cluster.node(*node).is_running() {
                let what = format!("node {} had ended before it was killed", node + 1);
                self.field.findings.add(Kind::Damage, what);
            }
        }
        let began = Instant::now();
        self.cluster.kill(nodes).await?;
        self.tally.kills += nodes.len() as u64;
        if let Some(owner) = measured.filter(|_| nodes.len() < self.cluster.len()) {
            let left = self.cluster.address().without(nodes);
            let wait = self
                .probes
                .first_write(&left, owner, began, FAILOVER_MAX)
                .await;
            self.note(
                "failover",
                json!({ "owner": owner, "seconds": wait.map(|w| w.as_secs_f64()) }),
            );
            match wait {
                Some(wait) => self.tally.failovers.push(wait),
                None => {
                    let seconds = FAILOVER_MAX.as_secs();
                    let what = format!("no write of {owner} within {seconds} s of a kill");
                    self.field.findings.add(Kind::Unexpected, what);
                }
            }
        }
        sleep(Duration::from_millis(rng.random_range(AWAY_MS))).await;
        self.cluster.start_all().await
    }

    /// One voter, and three again.
    async fn shrink(&mut self, owner: &str, rng: &mut StdRng) -> Result<()> {
        let all: Vec<usize> = (0..self.cluster.len()).collect();
        for count in [1, self.cluster.voters()] {
            let call = format!("SELECT freehold.alter_owner('{owner}', replicas => {count})");
            if !self.cluster.order(&all, &call).await {
                return Err(Error::Victim(format!("nobody took the order: {call}")));
            }
            if !self.cluster.wait_voters(owner, count, None).await {
                let what = format!("the group of {owner} does not come to {count} voters");
                self.field.findings.add(Kind::Unexpected, what);
            }
            self.note("voters", json!({ "owner": owner, "count": count }));
            sleep(Duration::from_millis(rng.random_range(QUIET_MS))).await;
        }
        Ok(())
    }

    /// A node of the pool takes the place of a killed one, which then comes back.
    async fn claim(&mut self, owner: &str, node: usize) -> Result<()> {
        self.cluster.kill(&[node]).await?;
        self.tally.kills += 1;
        let left: Vec<usize> = (0..self.cluster.len())
            .filter(|other| *other != node)
            .collect();
        let call = format!("SELECT freehold.claim('{owner}', 1)");
        if !self.cluster.order(&left, &call).await {
            return Err(Error::Victim(format!("nobody took the order: {call}")));
        }
        let voters = self.cluster.voters();
        if !self.cluster.wait_voters(owner, voters, Some(node)).await {
            let what = format!("nobody takes the place of a lost node for {owner}");
            self.field.findings.add(Kind::Unexpected, what);
        }
        self.note("claimed", json!({ "owner": owner }));
        self.cluster.start_all().await
    }

    /// After healing every owner's writes are acknowledged soon, and all nodes are level.
    async fn serve_again(&mut self) -> Result<()> {
        let address = self.cluster.address().clone();
        for owner in W::OWNERS {
            let began = Instant::now();
            let wait = self
                .probes
                .first_write(&address, owner, began, LEADER_MAX)
                .await;
            self.note(
                "healed",
                json!({ "owner": owner, "seconds": wait.map(|w| w.as_secs_f64()) }),
            );
            if wait.is_none() {
                let seconds = LEADER_MAX.as_secs();
                let what = format!("no write of {owner} within {seconds} s after healing");
                self.field.findings.add(Kind::Unexpected, what);
            }
        }
        self.cluster.wait_whole().await
    }

    /// Compares through each node, ends gracefully, compares the folders, and once more after a
    /// start of all.
    async fn compare(&mut self) -> Result<()> {
        self.verify().await?;
        self.cluster.stop().await?;
        self.tally.checks += self.cluster.len() as u64;
        oracle::judge(
            &self.cluster,
            &self.setup.program,
            &self.workload,
            &self.field,
        )
        .await?;
        self.cluster.start_all().await?;
        self.cluster.wait_whole().await?;
        self.verify().await?;
        let folders: Vec<PathBuf> = (0..self.cluster.len())
            .map(|node| self.cluster.node(node).data().to_owned())
            .collect();
        self.workload.verify_erased(&self.field, &folders).await?;
        self.cluster.stop().await?;
        if self.workload.verify_ended(&self.field, &folders)? {
            self.check_erased().await?;
        }
        Ok(())
    }

    /// By the program's own reader, too, nothing is left of what was removed.
    async fn check_erased(&mut self) -> Result<()> {
        self.tally.checks += self.cluster.len() as u64;
        for node in 0..self.cluster.len() {
            if let Some(complaint) = self.cluster.node(node).check_erased().await? {
                let what = format!("node {}: freehold check --erased: {complaint}", node + 1);
                self.field.findings.add(Kind::Anomaly, what);
            }
        }
        Ok(())
    }

    async fn verify(&mut self) -> Result<()> {
        for node in 0..self.cluster.len() {
            let field = self.field.at(self.cluster.address().only(node));
            self.workload.verify(&field).await?;
            self.probes.verify(&field).await?;
        }
        Ok(())
    }

    fn note(&self, what: &str, value: serde_json::Value) {
        self.field.history.note(what, value);
    }

    /// What the run gave; evidence is kept if something was found.
    fn close(
        mut self,
        played: Result<Option<String>>,
        scratch: &Scratch,
        out: &Path,
        history: PathBuf,
    ) -> Result<Report> {
        let mut invalid = None;
        match played {
            Ok(why) => invalid = why,
            Err(error @ (Error::Setup(_) | Error::Io(_))) => return Err(error),
            Err(error) => self.field.findings.add(Kind::Damage, error.to_string()),
        }
        for line in self.cluster.complaints(&[])?.0 {
            self.field
                .findings
                .add(Kind::Damage, format!("server log: {line}"));
        }
        let (found, counts) = self.field.findings.take();
        for finding in &found {
            let value = json!({ "kind": finding.kind.word(), "what": finding.what });
            self.note("finding", value);
        }
        self.note(
            "end",
            json!({ "invalid": invalid, "findings": found.len() }),
        );
        self.field.history.flush();
        history::write_edn(&history, &history.with_extension("edn"))?;
        if found.is_empty() && invalid.is_some() {
            self.tally.invalid = 1;
        } else {
            self.tally.runs = 1;
        }
        self.tally.found = counts;
        let failed = self.field.progress.failed.load(Ordering::Relaxed);
        let tally = self.tally;
        // The nodes end before their folders are copied.
        drop(self.cluster);
        if !found.is_empty() {
            keep(scratch.path(), &out.join("data"))?;
        }
        Ok(Report {
            tally,
            findings: found,
            invalid,
            history,
            is_over: true,
            failed,
        })
    }
}

impl Bites {
    /// Why the faults say nothing, if so.
    fn too_few(&self, setup: &Setup, field: &Field) -> Option<String> {
        if setup.options.nemeses[..] == [Nemesis::None] {
            return None;
        }
        let lost = field.progress.lost.load(Ordering::Relaxed);
        let is_cutting = |nemesis: &Nemesis| nemesis.ends_connections();
        let all_end = setup.options.nemeses.iter().all(is_cutting);
        if self.strikes == 0 {
            Some("nothing was struck".into())
        } else if self.on_leader == 0 {
            Some("no node that led was struck".into())
        } else if self.kept < self.partitions {
            Some("a partition kept nothing from getting through".into())
        } else if all_end && lost == 0 {
            Some("no client lost its connection".into())
        } else {
            None
        }
    }
}

/// The folder of a run's files, empty.
fn folder_of(options: &Options, seed: Seed) -> Result<PathBuf> {
    let words: Vec<&str> = options.nemeses.iter().map(|n| n.word()).collect();
    let name = format!(
        "{}-{}-n{}-{}-{}",
        options.workload.word(),
        words.join("+"),
        options.nodes,
        options.network.word(),
        seed.0
    );
    let out = std::path::absolute(options.out.join(name))?;
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    std::fs::create_dir_all(&out)?;
    Ok(out)
}

fn header(setup: &Setup, seed: Seed) -> serde_json::Value {
    json!({
        "line": setup.options.line(seed.0, 1),
        "seed": seed.0,
        "workload": setup.options.workload.word(),
        "nodes": setup.options.nodes,
        "server_options": server_options(&setup.options, seed),
        "sabotage": setup.sabotage,
    })
}

fn keep(from: &Path, to: &Path) -> Result<()> {
    let mut command = std::process::Command::new("cp");
    command.args(["-a", "--sparse=always"]).arg(from).arg(to);
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(Error::Setup(format!(
            "the folders could not be copied: {status}"
        ))),
    }
}
