//! Plays runs: load, fault, `freehold check`, restart, comparison; again on the same folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster;
use crate::error::{Error, Result};
use crate::fault::{Fault, LoopDisk, Medium, Replay};
use crate::field::Field;
use crate::finding::{Finding, Findings, Kind, Tally};
use crate::history::History;
use crate::options::{self, Options};
use crate::seed::Seed;
use crate::victim::{ANY_PORT, Plan, Tracer, Victim};
use crate::workload::{
    ACKNOWLEDGED_MIN, Acknowledged, Append, Bank, Commands, Feed, Reads, References, Register,
    Workload,
};

/// Attempts beyond the asked runs before too many of them are invalid.
const SPARE_ATTEMPTS: u64 = 3;

/// Share of kills after which the server is killed once more while it recovers.
const KILLED_AGAIN: f64 = 0.3;

/// Latest moment of such a second kill, in milliseconds after the start.
const KILLED_AGAIN_MS: u64 = 400;

/// Extra time for a slow machine to reach the least load before the fault comes anyway.
const LOAD_GRACE: Duration = Duration::from_secs(20);

/// Findings of a run that are printed; the history has more.
const PRINTED_MAX: usize = 8;

/// Characters of a finding that are printed.
const PRINTED_CHARS_MAX: usize = 400;

/// What to play, and against what.
pub struct Setup {
    /// The command line.
    pub options: Options,
    /// The program under test.
    pub program: PathBuf,
    /// The fault built into it.
    pub sabotage: Option<String>,
    /// The command under which the server runs, if any.
    pub tracer: Option<Tracer>,
    /// Whether the first finding, wrong errors aside, ends the call.
    pub until_found: bool,
}

/// Plays all runs of a call.
pub async fn play(setup: &Setup) -> Result<(Tally, Vec<Finding>)> {
    if setup.options.nodes > 1 {
        return cluster::play(setup).await;
    }
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
    let mut tally = Tally::default();
    let mut findings = Vec::new();
    let asked = setup.options.runs;
    let attempts_max = asked + asked / 2 + SPARE_ATTEMPTS;
    let mut folder_number = 0;
    while tally.runs < asked && tally.runs + tally.invalid < attempts_max {
        let seed = Seed(setup.options.seed.wrapping_add(folder_number));
        let mut folder: Folder<W> = Folder::make(setup, seed, folder_number).await?;
        for run in 0..setup.options.same_folder {
            let report = folder.play(run).await?;
            report.print(&setup.options, seed, run, tally.runs + 1);
            tally.add(&report.tally);
            findings.extend(report.findings);
            let found = tally.is_caught() && setup.until_found;
            if report.is_over || found || tally.runs >= asked {
                break;
            }
        }
        folder_number += 1;
        if tally.is_caught() && setup.until_found {
            break;
        }
    }
    Ok((tally, findings))
}

/// What one run gave.
pub struct Report {
    /// Its counts.
    pub tally: Tally,
    /// What it found, the first of each kind.
    pub findings: Vec<Finding>,
    /// Why it counts for nothing, if so.
    pub invalid: Option<String>,
    /// Its history.
    pub history: PathBuf,
    /// Whether the folder can't be used any more.
    pub is_over: bool,
    /// Transactions that were not acknowledged.
    pub failed: u64,
}

impl Report {
    /// Some lines for people.
    pub fn print(&self, options: &Options, seed: Seed, run: u64, number: u64) {
        let end = match (&self.invalid, self.findings.is_empty()) {
            (_, false) => "BROKEN".to_owned(),
            (Some(why), true) => format!("invalid: {why}"),
            (None, true) => "ok".to_owned(),
        };
        println!(
            "{} {} run {number}/{} (seed {} run {run}): {} acknowledged, {} failed, {end}",
            options.workload.word(),
            options.fault_words(),
            options.runs,
            seed.0,
            self.tally.acknowledged,
            self.failed,
        );
        for finding in self.findings.iter().take(PRINTED_MAX) {
            let text: String = finding
                .to_string()
                .chars()
                .take(PRINTED_CHARS_MAX)
                .collect();
            println!("  {text}");
        }
        if !self.findings.is_empty() {
            println!("  history: {}", self.history.display());
            println!("  again: {}", options.line(seed.0, run + 1));
        }
    }
}

/// A data folder with its server and what it must hold.
struct Folder<'a, W> {
    // Fields drop in this order: the server ends before its disk is unmounted.
    victim: Victim,
    medium: Medium,
    /// Held to be removed at the end.
    _scratch: Scratch,
    workload: W,
    setup: &'a Setup,
    seed: Seed,
    out: PathBuf,
    is_prepared: bool,
    log_read: u64,
}

impl<'a, W: Workload> Folder<'a, W> {
    async fn make(setup: &'a Setup, seed: Seed, number: u64) -> Result<Folder<'a, W>> {
        let options = &setup.options;
        let name = format!(
            "{}-{}-{}-{}",
            options.workload.word(),
            options.fault.word(),
            options.table_store.word(),
            seed.0
        );
        let out = std::path::absolute(options.out.join(&name))?;
        // An earlier call's files under this name would be taken for this one's.
        if out.exists() {
            std::fs::remove_dir_all(&out)?;
        }
        std::fs::create_dir_all(&out)?;
        let scratch = Scratch::make(options.scratch.as_deref(), number)?;
        let medium = make_medium(options.fault, &scratch.0)?;
        let data = medium.data(&scratch.0);
        let plan = Plan {
            kind: options.victim,
            program: setup.program.clone(),
            store: options.table_store,
            options: server_options(options, seed),
            sabotage: setup.sabotage.clone(),
            listen: ANY_PORT,
            password: None,
            prefix: Vec::new(),
        };
        let log = out.join("server.log");
        std::fs::write(&log, "")?;
        let mut victim = Victim::new(plan, data, log);
        victim.trace(setup.tracer.clone());
        victim.create().await?;
        let workload = W::new(options);
        let (is_prepared, log_read) = (false, 0);
        Ok(Folder {
            victim,
            medium,
            _scratch: scratch,
            workload,
            setup,
            seed,
            out,
            is_prepared,
            log_read,
        })
    }

    /// One run. What keeps it from its end is a finding if it is the server's doing.
    async fn play(&mut self, run: u64) -> Result<Report> {
        let path = self.out.join(format!("run-{run:03}.jsonl"));
        let history = History::create(&path, &self.header(run))?;
        let findings = Findings::default();
        let mut tally = Tally::default();
        let mut failed = 0;
        let played = self
            .play_run(run, &history, &findings, &mut tally, &mut failed)
            .await;
        let mut is_over = false;
        let mut invalid = None;
        match played {
            Ok(why) => invalid = why,
            Err(error @ (Error::Setup(_) | Error::Io(_))) => return Err(error),
            Err(error) => {
                is_over = true;
                findings.add(Kind::Damage, error.to_string());
            }
        }
        self.read_log(&findings)?;
        let (found, counts) = findings.take();
        for finding in &found {
            history.note(
                "finding",
                json!({"kind": finding.kind.word(), "what": finding.what}),
            );
        }
        history.note("end", json!({"invalid": invalid, "findings": found.len()}));
        history.flush();
        // A wrong error leaves the folder as the clients know it; anything else does not.
        is_over |= found.iter().any(|finding| finding.kind != Kind::Unexpected);
        self.settle_evidence(run, !found.is_empty())?;
        // A finding counts whether or not the run's load was enough.
        if found.is_empty() && invalid.is_some() {
            tally.invalid = 1
        } else {
            tally.runs = 1
        }
        tally.found = counts;
        Ok(Report {
            tally,
            findings: found,
            invalid,
            history: path,
            is_over,
            failed,
        })
    }

    fn header(&self, run: u64) -> serde_json::Value {
        let options = &self.setup.options;
        json!({
            "line": options.line(self.seed.0, run + 1),
            "seed": self.seed.0,
            "run": run,
            "workload": options.workload.word(),
            "fault": options.fault.word(),
            "table_store": options.table_store.word(),
            "server_options": server_options(options, self.seed),
            "sabotage": self.setup.sabotage,
        })
    }

    /// Why the run says nothing, if so.
    async fn play_run(
        &mut self,
        run: u64,
        history: &History,
        findings: &Findings,
        tally: &mut Tally,
        failed: &mut u64,
    ) -> Result<Option<String>> {
        let seed = self.seed.fork("run", run);
        let address = self.start().await?;
        let weaken = self.setup.options.weaken;
        let field = Field::new(
            address,
            seed,
            run,
            weaken,
            history.clone(),
            findings.clone(),
        );
        if !self.is_prepared {
            self.workload.prepare(&field).await?;
            self.is_prepared = true;
        }
        self.workload.begin(&field).await?;
        let mut rng = seed.fork("nemesis", 0).rng();
        let struck = self.strike(&field, &mut rng, tally).await;
        field.stop();
        self.workload.finish().await;
        tally.acknowledged = field.acknowledged();
        *failed = field
            .progress
            .failed
            .load(std::sync::atomic::Ordering::Relaxed);
        let mut invalid = struck?;
        if invalid.is_none() && self.setup.options.fault != Fault::None {
            invalid = no_bite(&field);
        }
        if self.setup.options.fault == Fault::None {
            self.rest(&field, tally).await?;
        } else {
            self.recover(&field, &mut rng, tally).await?;
        }
        Ok(self.workload.too_low(&field).or(invalid))
    }

    async fn start(&mut self) -> Result<crate::link::Address> {
        if self.victim.is_running() {
            return self.victim.address();
        }
        if let Medium::Replay(replay) = &mut self.medium {
            let tracer = replay.arm()?;
            self.victim.trace(Some(tracer));
        }
        self.victim.start().await
    }

    /// Waits for the moment and does what the fault is. Why it did not bite, if so.
    async fn strike(
        &mut self,
        field: &Field,
        rng: &mut StdRng,
        tally: &mut Tally,
    ) -> Result<Option<String>> {
        let longest = self.setup.options.seconds * 1000;
        if self.setup.options.fault == Fault::None {
            sleep(Duration::from_millis(longest)).await;
            return Ok(None);
        }
        let moment = rng.random_range(longest / 10..=longest);
        sleep(Duration::from_millis(moment)).await;
        let end = Instant::now() + LOAD_GRACE;
        while field.acknowledged() < ACKNOWLEDGED_MIN && Instant::now() < end {
            sleep(Duration::from_millis(1)).await;
        }
        field
            .history
            .note("kill", json!({ "acknowledged": field.acknowledged() }));
        if !self.victim.is_running() {
            field
                .findings
                .add(Kind::Damage, "the server had ended before it was killed");
        }
        self.darken(field)?;
        self.victim.kill().await?;
        if matches!(self.medium, Medium::Disk(_)) {
            // What it said when its disk was gone.
            self.log_read = self.victim.log_bytes()?;
        }
        self.cut_power(field, rng, tally).await
    }

    /// Takes the power of a disk while the server runs, so that a write that it has answered for
    /// and not yet synced is lost, too.
    fn darken(&mut self, field: &Field) -> Result<()> {
        self.read_log(&field.findings)?;
        if let Medium::Disk(disk) = &self.medium {
            disk.plant()?;
            field.darken();
            disk.cut()?;
        }
        Ok(())
    }

    async fn cut_power(
        &mut self,
        field: &Field,
        rng: &mut StdRng,
        tally: &mut Tally,
    ) -> Result<Option<String>> {
        let bit = match &mut self.medium {
            Medium::Plain => {
                tally.kills += 1;
                return Ok(None);
            }
            Medium::Disk(disk) => {
                let bit = disk.restore().await?;
                field
                    .history
                    .note("power cut", json!({ "took the unsynced file": bit }));
                bit
            }
            Medium::Replay(replay) => {
                let cut = replay.cut(rng)?;
                let value = json!({
                    "unsynced": cut.unsynced, "dropped": cut.dropped_bytes, "undone": cut.undone,
                });
                field.history.note("replay", value);
                cut.bit()
            }
        };
        tally.power_cuts += 1;
        Ok((!bit).then(|| "the power cut took nothing".to_owned()))
    }

    /// Checks the dead server's folder, starts it again and compares.
    async fn recover(&mut self, field: &Field, rng: &mut StdRng, tally: &mut Tally) -> Result<()> {
        self.keep_evidence(field.run)?;
        self.check(field, tally).await?;
        if self.setup.options.fault == Fault::Kill && rng.random_bool(KILLED_AGAIN) {
            let moment = rng.random_range(0..KILLED_AGAIN_MS);
            self.victim.launch()?;
            sleep(Duration::from_millis(moment)).await;
            self.victim.kill().await?;
            tally.kills += 1;
            field
                .history
                .note("killed again", json!({ "after ms": moment }));
            self.check(field, tally).await?;
        }
        let address = self.start().await?;
        let field = field.at(address);
        self.workload.verify(&field).await?;
        self.verify_erased(&field).await
    }

    /// What was removed is gone.
    async fn verify_erased(&mut self, field: &Field) -> Result<()> {
        let folders = [self.victim.data().to_owned()];
        self.workload.verify_erased(field, &folders).await
    }

    /// After a load without fault: compares, ends gracefully, checks, starts, compares again.
    async fn rest(&mut self, field: &Field, tally: &mut Tally) -> Result<()> {
        self.workload.verify(field).await?;
        if !field.findings.is_empty() {
            return Ok(());
        }
        self.victim.stop().await?;
        self.check(field, tally).await?;
        let address = self.start().await?;
        let field = field.at(address);
        self.workload.verify(&field).await?;
        self.verify_erased(&field).await
    }

    async fn check(&self, field: &Field, tally: &mut Tally) -> Result<()> {
        tally.checks += u64::from(self.victim.has_check());
        if let Some(complaint) = self.victim.check().await? {
            field
                .findings
                .add(Kind::Damage, format!("freehold check: {complaint}"));
        }
        Ok(())
    }

    fn read_log(&mut self, findings: &Findings) -> Result<()> {
        let (complaints, end) = self.victim.complaints(self.log_read)?;
        self.log_read = end;
        for line in complaints {
            findings.add(Kind::Damage, format!("server log: {line}"));
        }
        Ok(())
    }

    fn evidence(&self, run: u64) -> PathBuf {
        self.out.join(format!("data-{run:03}"))
    }

    /// Copies the folder as the fault left it.
    fn keep_evidence(&self, run: u64) -> Result<()> {
        if !self.victim.data().exists() {
            return Err(Error::Victim("nothing is left of the data folder".into()));
        }
        let target = self.evidence(run);
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        let mut command = Command::new("cp");
        command
            .args(["-a", "--sparse=always"])
            .arg(self.victim.data())
            .arg(&target);
        let status = command.status()?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Setup(format!(
                "the data folder could not be copied: {status}"
            )))
        }
    }

    /// Keeps the copy only if something was found.
    fn settle_evidence(&self, run: u64, found: bool) -> Result<()> {
        let target = self.evidence(run);
        if !found && target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        Ok(())
    }
}

/// A fault that no client noticed was none.
fn no_bite(field: &Field) -> Option<String> {
    let lost = field
        .progress
        .lost
        .load(std::sync::atomic::Ordering::Relaxed);
    (lost == 0).then(|| "no client lost its connection".to_owned())
}

fn make_medium(fault: Fault, scratch: &Path) -> Result<Medium> {
    let replay = || {
        Ok(Medium::Replay(Replay::make(
            scratch,
            &scratch.join("data"),
        )?))
    };
    match fault {
        Fault::None | Fault::Kill => Ok(Medium::Plain),
        Fault::Replay => replay(),
        Fault::Power => match LoopDisk::make(scratch) {
            Ok(disk) => Ok(Medium::Disk(disk)),
            Err(Error::Setup(why)) => {
                println!("no power cut by a loop disk here ({why}); replaying writes instead");
                replay()
            }
            Err(error) => Err(error),
        },
    }
}

/// Every other folder makes checkpoints and segments so small that faults hit them.
pub fn server_options(options: &Options, seed: Seed) -> Vec<String> {
    let mut all = Vec::new();
    if options.victim == crate::victim::Kind::Freehold {
        all.extend(["--max-connections".to_owned(), "1200".to_owned()]);
        if seed.0.is_multiple_of(2) {
            all.extend(["--checkpoint-timeout", "1s", "--segment-size", "4MB"].map(String::from));
        }
    }
    if options.workload == options::Workload::References {
        all.extend(["--erase-after", References::ERASE_AFTER].map(String::from));
    }
    all.extend(options.victim_options.iter().cloned());
    all
}

/// A folder that is removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// One below `parent` that nobody else has.
    pub fn make(parent: Option<&Path>, number: u64) -> Result<Scratch> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let unique = SCRATCHES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = parent.join(format!("jepsen-{}-{unique}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(std::path::absolute(path)?))
    }
}

static SCRATCHES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
