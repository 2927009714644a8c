//! Kill -9 and power cuts at random moments: a child process writes a deterministic stream and
//! checkpoints it; what is found afterwards plus the replay must be exactly the model, and no
//! checkpoint that was reported may be gone.
//!
//! `STORE_CRASH_RUNS=n` sets the runs per store (10), `STORE_CRASH_SEED` the first seed. Power
//! cuts need root (an ext4 image that is shut down without flushing its log) and are skipped
//! without, or fail if `FREEHOLD_REQUIRE=all`.
#![allow(clippy::unwrap_used)]

mod store_model;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::{GroupId, StoreKind};
use store_model::*;

/// Crashes in a row on one folder.
const CRASHES_PER_RUN: u32 = 3;

#[test]
fn kill_9_lsm() {
    kill_9(StoreKind::Lsm);
}

#[test]
fn kill_9_sled() {
    kill_9(StoreKind::Sled);
}

#[test]
fn power_cut_lsm() {
    power_cut(StoreKind::Lsm);
}

#[test]
fn power_cut_sled() {
    power_cut(StoreKind::Sled);
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var("STORE_CRASH_DIR") else {
        return;
    };
    let kind = match std::env::var("STORE_CRASH_KIND").unwrap().as_str() {
        "lsm" => StoreKind::Lsm,
        _ => StoreKind::Sled,
    };
    let seed = env_number("STORE_CRASH_CHILD_SEED", 0);
    let store = open(kind, Path::new(&dir));
    let mut index = checkpoint_index(&*store);
    println!("opened {index}");
    // The moments of checkpoints differ from run to run, the entries don't.
    let mut rng = StdRng::seed_from_u64(seed ^ index);
    let mut finishing: Option<thread::JoinHandle<()>> = None;
    loop {
        index += 1;
        apply(&*store, &entry(seed, index));
        if index.is_multiple_of(7) && index > persisted_index(&*store) {
            // As a server does: behind what is applied, by more or less.
            let lag = [5, 60, 600][seed as usize % 3];
            let horizon = position(index.saturating_sub(lag).max(1));
            let group = GroupId(rng.random_range(0..GROUPS));
            store.set_horizon(group, horizon);
        }
        if rng.random_range(0..40) == 0 && finishing.as_ref().is_none_or(|f| f.is_finished()) {
            let checkpoint = store.begin_checkpoint(checkpoint_at(index)).unwrap();
            // The second half runs beside the writes.
            finishing = Some(thread::spawn(move || {
                checkpoint.finish().unwrap();
                println!("checkpoint {index}");
            }));
        }
    }
}

fn spawn(kind: StoreKind, dir: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("STORE_CRASH_DIR", dir)
        .env("STORE_CRASH_KIND", kind.name())
        .env("STORE_CRASH_CHILD_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the child for a while after it has opened, kills it; returns the greatest checkpoint
/// that it reported.
fn run_and_kill(kind: StoreKind, dir: &Path, seed: u64, rng: &mut StdRng) -> u64 {
    let mut child = spawn(kind, dir, seed);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let opened = lines
        .by_ref()
        .map(|line| line.unwrap())
        .find(|line| line.contains("opened "));
    assert!(opened.is_some(), "the child did not open its store");
    let reported = thread::spawn(move || {
        let numbers = lines.map_while(|line| line.ok()?.strip_prefix("checkpoint ")?.parse().ok());
        numbers.fold(0u64, u64::max)
    });
    thread::sleep(Duration::from_millis(rng.random_range(1..400)));
    child.kill().unwrap();
    child.wait().unwrap();
    reported.join().unwrap()
}

/// Opens what the crash left, replays, and compares everything that can be read.
fn verify(kind: StoreKind, dir: &Path, seed: u64, reported: u64, what: &str) {
    let store = open(kind, dir);
    let checkpoint = checkpoint_index(&*store);
    assert!(
        checkpoint >= reported,
        "{what}: checkpoint {reported} was reported, {checkpoint} is"
    );
    let until = persisted_index(&*store).max(checkpoint) + 20;
    for index in checkpoint + 1..=until {
        apply(&*store, &entry(seed, index));
    }
    let from = readable_from(&*store);
    println!(
        "{what}: checkpoint {checkpoint}, readable from {}, to {until}",
        from.0 >> 14
    );
    compare(&*store, &Model::at(seed, until), from, what);
}

fn kill_9(kind: StoreKind) {
    let first = env_number("STORE_CRASH_SEED", 100);
    for seed in first..first + env_number("STORE_CRASH_RUNS", 10) {
        println!("STORE_CRASH_SEED={seed} STORE_CRASH_RUNS=1 ({kind:?})");
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut reported = 0;
        for _ in 0..CRASHES_PER_RUN {
            reported = run_and_kill(kind, dir.path(), seed, &mut rng).max(reported);
        }
        verify(
            kind,
            dir.path(),
            seed,
            reported,
            &format!("{kind:?} seed {seed}"),
        );
    }
}

/// An ext4 image on a loop device whose power can be cut.
struct Disk {
    _dir: tempfile::TempDir,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn new() -> Result<Disk, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        run("truncate", &["-s".as_ref(), "192M".as_ref(), &image])?;
        run(
            "mkfs.ext4",
            &[
                "-q".as_ref(),
                "-F".as_ref(),
                "-m".as_ref(),
                "0".as_ref(),
                &image,
            ],
        )?;
        let disk = Disk {
            _dir: dir,
            image,
            mount,
        };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run(
            "mount",
            &["-o".as_ref(), "loop".as_ref(), &self.image, &self.mount],
        )
    }

    /// EXT4_IOC_SHUTDOWN without flushing the log: what was not synced is gone.
    fn cut(&self) -> Result<(), String> {
        let shutdown = "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], \
                        os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run("python3", &["-c".as_ref(), shutdown.as_ref(), &self.mount])?;
        run("umount", &[&self.mount])?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l".as_ref(), &self.mount]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

fn power_cut(kind: StoreKind) {
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(reason) if std::env::var("FREEHOLD_REQUIRE").as_deref() == Ok("all") => {
            panic!("power cuts can't be simulated here: {reason}")
        }
        Err(reason) => {
            println!("SKIPPED: power cuts can't be simulated here: {reason}");
            return;
        }
    };
    let first = env_number("STORE_CRASH_SEED", 200);
    for seed in first..first + env_number("STORE_CRASH_RUNS", 10) {
        println!("STORE_CRASH_SEED={seed} STORE_CRASH_RUNS=1 (power cut, {kind:?})");
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = disk.mount.join(seed.to_string());
        let mut reported = 0;
        for _ in 0..CRASHES_PER_RUN {
            reported = run_and_kill(kind, &dir, seed, &mut rng).max(reported);
            disk.cut().unwrap();
        }
        verify(
            kind,
            &dir,
            seed,
            reported,
            &format!("power cut, {kind:?} seed {seed}"),
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
