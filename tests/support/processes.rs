//! What /proc tells about processes, and two signals. Reads only, apart from those.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The live processes whose environment says `name=value`. Zombies have no environment any more.
pub fn marked(name: &str, value: &Path) -> Vec<u32> {
    let mut wanted = name.as_bytes().to_vec();
    wanted.push(b'=');
    wanted.extend_from_slice(value.as_os_str().as_encoded_bytes());
    let has_mark = |pid: &u32| {
        // A process that ends meanwhile is not there.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted) && is_alive(*pid)
    };
    all().into_iter().filter(has_mark).collect()
}

/// The children of a process, zombies too.
pub fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| stat(*pid).is_some_and(|(_, of)| of == parent);
    all().into_iter().filter(is_child).collect()
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Sends SIGKILL. Nothing happens if there is no such process.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends SIGSTOP. Nothing happens if there is no such process.
pub fn stop(pid: u32) {
    signal(pid, Signal::STOP);
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// How many descriptors this process has open.
pub fn descriptor_count() -> usize {
    entries("/proc/self/fd")
}

/// How many threads this process has.
pub fn thread_count() -> usize {
    entries("/proc/self/task")
}

/// A number that stands still as long as no thread of the process runs: how often they were taken off a processor, and the
/// clock ticks they spent there. A sleeping thread cannot make a system call without changing the first, one that never sleeps
/// changes the second.
pub fn stirrings(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of_thread = |path: &Path| -> u64 {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let switches = status.lines().filter_map(|line| {
            let (name, count) = line.split_once(':')?;
            if name.ends_with("ctxt_switches") { count.trim().parse::<u64>().ok() } else { None }
        });
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
        switches.chain(ticks).sum()
    };
    threads.flatten().map(|thread| of_thread(&thread.path())).sum()
}

/// How much memory a process has resident, in bytes; none if it is gone.
pub fn resident_bytes(pid: u32) -> u64 {
    status_bytes(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0)
}

/// The most memory that this process ever had resident, in bytes.
pub fn peak_memory_bytes() -> u64 {
    status_bytes("/proc/self/status", "VmHWM:").unwrap_or(u64::MAX)
}

fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// State and parent of a process. The name in between may have anything in it, so the last bracket counts.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}
