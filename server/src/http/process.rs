//! What Linux says of this process, under the names that Prometheus' own clients use.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::text::{Kind, Text};

/// Linux counts the times of a process in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `/proc/self` says; what can't be read is left out.
pub fn collect(text: &mut Text) {
    if let Some(stat) = Stat::read() {
        text.single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time of the process, user and system.",
            stat.cpu_seconds,
        );
        text.single(
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, in seconds since 1970.",
            stat.started,
        );
        text.single(
            "process_threads",
            Kind::Gauge,
            "Threads of the process.",
            stat.threads,
        );
    }
    if let Some(bytes) = status_kilobytes("VmRSS:") {
        text.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory of the process that is resident.",
            bytes * 1024,
        );
    }
    if let Some(bytes) = status_kilobytes("VmSize:") {
        text.single(
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory of the process.",
            bytes * 1024,
        );
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.single(
            "process_open_fds",
            Kind::Gauge,
            "Open file descriptors of the process.",
            open.count(),
        );
    }
    if let Some(max) = files_max() {
        text.single(
            "process_max_fds",
            Kind::Gauge,
            "How many file descriptors the process may have open.",
            max,
        );
    }
}

/// Of `/proc/self/stat`.
struct Stat {
    cpu_seconds: f64,
    started: f64,
    threads: u64,
}

impl Stat {
    fn read() -> Option<Stat> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in parentheses, may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Field 3 of proc(5) is the first behind the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let (user, system) = (field(14)?, field(15)?);
        Some(Stat {
            cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND,
            started: booted()? + field(22)? as f64 / TICKS_PER_SECOND,
            threads: field(20)?,
        })
    }
}

/// When the machine was started, in seconds since 1970.
fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = text.split_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.as_secs_f64() - up)
}

fn status_kilobytes(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn files_max() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
