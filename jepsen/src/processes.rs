//! Signals to processes and their children, which Linux lists under /proc.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// Longest wait for processes to be gone after SIGKILL.
const GONE_MAX: Duration = Duration::from_secs(10);

/// All processes below `root`, itself not included, parents before children.
pub fn descendants(root: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let pairs: Vec<(u32, u32)> = numbers
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(
            pairs
                .iter()
                .filter(|(_, of)| *of == pid)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found.remove(0);
    found
}

/// The parent of a process, from the fields behind its name in /proc/PID/stat.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The words of a process's command line.
pub fn command_line(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The inode of the connected TCP socket whose own end is `address`, an IPv4 one of this machine.
pub fn socket_inode(address: SocketAddr) -> Option<u64> {
    const ESTABLISHED: &str = "01";
    let SocketAddr::V4(v4) = address else {
        return None;
    };
    // The kernel prints the address as the machine's own number.
    let ip = u32::from_ne_bytes(v4.ip().octets());
    let own = format!("{ip:08X}:{:04X}", v4.port());
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&own.as_str()) && fields.get(3) == Some(&ESTABLISHED);
        if is_it {
            fields.get(9)?.parse().ok()
        } else {
            None
        }
    })
}

/// Whether a process has this socket open.
pub fn has_socket(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == wanted.as_str())
}

/// Whether a process runs: there, and no zombie.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Sends a signal; whether the process was there to get it.
pub fn signal(pid: u32, signal: Signal) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    kill_process(pid, signal).is_ok()
}

/// Waits until none of them runs any more; false if one is left.
pub async fn gone(pids: &[u32]) -> bool {
    let end = Instant::now() + GONE_MAX;
    while pids.iter().any(|pid| is_running(*pid)) {
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(5)).await;
    }
    true
}
