//! What a process and all that it started have used: processor time, and calls that read and write.

use std::collections::BTreeMap;
use std::fs;

use rustix::param::clock_ticks_per_second;

/// Of all processes of a tree together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// User and system, those of processes that have ended included.
    pub(super) cpu_ns: u64,
    /// System calls that read or write, of processes that live.
    pub(super) calls: u64,
}

impl Usage {
    /// What came after `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            calls: self.calls.saturating_sub(before.calls),
        }
    }
}

/// One look at the tree below `root`, which counts too.
pub(super) fn usage(root: u32) -> Usage {
    let processes = processes();
    let tick = 1_000_000_000 / clock_ticks_per_second();
    let mut usage = Usage::default();
    let mut to_do = vec![root];
    while let Some(pid) = to_do.pop() {
        if let Some((_, ticks)) = processes.get(&pid) {
            usage.cpu_ns += ticks * tick;
            usage.calls += calls(pid);
        }
        to_do.extend(processes.iter().filter(|(_, (parent, _))| *parent == pid).map(|(pid, _)| *pid));
    }
    usage
}

/// Every process with its parent and its ticks.
fn processes() -> BTreeMap<u32, (u32, u64)> {
    let Ok(all) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Counted behind the program's name, which is field 2 and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    // User and system, of it and of its children that it has waited for: fields 14 to 17.
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((parent, ticks))
}

fn calls(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let counts = io.lines().filter_map(|line| {
        let (name, count) = line.split_once(": ")?;
        ["syscr", "syscw"].contains(&name).then(|| count.parse::<u64>().ok())?
    });
    counts.sum()
}
