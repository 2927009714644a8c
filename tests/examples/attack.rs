//! The proof that hostile bytes don't take the server down: random frames, seeded, and the known
//! attacks, against the program with trust (three quarters of the frames, most of them after
//! authentication) and against the program that asks for passwords (the rest, all of strangers).
//! `cargo run --release -p tests --example attack -- --frames 1000000 --seed 1`

use std::process::ExitCode;
use std::time::Instant;

use tests::attack::{ATTACKER, GROWTH_BYTES_MAX, Toll, assault};
use tests::{Program, Security};

fn main() -> ExitCode {
    match options().and_then(|(frames, seed)| prove(frames, seed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attack: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `--frames N --seed N`, both optional.
fn options() -> Result<(usize, u64), String> {
    let (mut frames, mut seed) = (1_000_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = value.parse().map_err(|e| format!("{name} {value}: {e}"))?;
        match name.as_str() {
            "--frames" => frames = number,
            "--seed" => seed = number as u64,
            _ => return Err(format!("{name}: give --frames N and --seed N")),
        }
    }
    Ok((frames, seed))
}

fn prove(frames: usize, seed: u64) -> Result<(), String> {
    println!("seed {seed}");
    let strangers = frames / 4;
    attack("trust", Security::Trust, seed, frames - strangers)?;
    attack("passwords", Security::Passwords, seed, strangers)
}

fn attack(name: &str, security: Security, seed: u64, frames: usize) -> Result<(), String> {
    let program = Program::start_with(security, &[]);
    program.place().add_owner(ATTACKER);
    let mut witness = program.place().session(ATTACKER);
    witness.ok("CREATE TABLE t (i int)");
    // What every server keeps once it has worked: pools, caches, threads' stacks.
    assault(&program, seed.wrapping_add(1), 5_000.min(frames))?;
    let began = Instant::now();
    let toll = assault(&program, seed, frames)?;
    show(name, &toll, began);
    if witness.value("SELECT 1") != "1" {
        return Err("a session that was there before gets wrong answers".into());
    }
    if program.log().contains("panicked") {
        return Err(format!("a panic:\n{}", program.log()));
    }
    match toll.peak_growth_bytes() {
        grown if grown >= GROWTH_BYTES_MAX => Err(format!("{} MiB more memory", grown >> 20)),
        _ => Ok(()),
    }
}

fn show(name: &str, toll: &Toll, began: Instant) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{name}: {} frames on {} connections in {:.1} s; memory before {:.1} MiB, peak {:.1} MiB, \
         after {:.1} MiB; the server stands",
        toll.frames,
        toll.connections,
        began.elapsed().as_secs_f64(),
        mib(toll.before_bytes),
        mib(toll.peak_bytes),
        mib(toll.after_bytes),
    );
}
