//! Whether the kernel killed for lack of memory: the `oom_kill` counter of a worker's memory group, before and after.
//! Says nothing about why memory was short, and limits none.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Pid;

use super::hierarchy::Hierarchy;

/// The counter of one memory group. Shared by the workers that start in it.
#[derive(Debug)]
pub(super) struct OomCounter {
    hierarchy: Hierarchy,
    group: String,
    file: File,
}

impl OomCounter {
    /// The one that new workers fall under: that of this process. `None` where there is none: no memory controller,
    /// or the root group, which counts nothing in version 2.
    pub(super) fn of_this_process() -> Option<Arc<Self>> {
        Self::open(&fs::read_to_string("/proc/self/cgroup").ok()?).map(Arc::new)
    }

    /// By the text of a `/proc/PID/cgroup`.
    fn open(text: &str) -> Option<Self> {
        let (hierarchy, group) = memory_group(text)?;
        let directory = hierarchy.directory(group)?;
        let file = match hierarchy {
            Hierarchy::Memory => File::open(directory.join("memory.oom_control")).ok()?,
            // Where the controller is not switched on for a group, it is accounted to the next one above.
            Hierarchy::Unified => directory.ancestors().find_map(events_file)?,
        };
        Some(Self { hierarchy, group: group.to_owned(), file })
    }

    fn is_for(&self, text: &str) -> bool {
        memory_group(text) == Some((self.hierarchy, self.group.as_str()))
    }

    fn read(&self) -> Option<u64> {
        let mut buffer = [0; 512];
        let count = self.file.read_at(&mut buffer, 0).ok()?;
        kills_in(buffer.get(..count)?)
    }
}

/// One worker's view of its counter.
#[derive(Debug)]
pub(super) struct OomWatch {
    counter: Option<Arc<OomCounter>>,
    /// What it was at the look before the latest one. The latest may have come between the kernel's decision, which counts, and
    /// the end of the process.
    before: Option<u64>,
    /// What it was at the latest look.
    latest: Option<u64>,
}

impl OomWatch {
    /// For a worker that has just been started under `counter`. One read.
    pub(super) fn new(counter: Option<Arc<OomCounter>>) -> Self {
        let before = counter.as_ref().and_then(|counter| counter.read());
        Self { counter, before, latest: before }
    }

    /// Looks where the living worker is now, and counts from the last look but one. The closer to its death, the surer the
    /// answer.
    pub(super) fn refresh(&mut self, pid: Pid) {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid())) else { return };
        if !self.counter.as_ref().is_some_and(|counter| counter.is_for(&text)) {
            // What has exited seems to be in the root group.
            if is_root(&text) {
                return;
            }
            self.counter = OomCounter::open(&text).map(Arc::new);
            self.latest = self.counter.as_ref().and_then(|counter| counter.read());
        }
        self.before = self.latest;
        self.latest = self.counter.as_ref().and_then(|counter| counter.read());
    }

    /// Whether somebody in the group was killed since then. `None`: cannot be told.
    pub(super) fn has_grown(&self) -> Option<bool> {
        Some(self.counter.as_ref()?.read()? > self.before?)
    }
}

fn events_file(directory: &Path) -> Option<File> {
    File::open(directory.join("memory.events")).ok()
}

fn memory_group(text: &str) -> Option<(Hierarchy, &str)> {
    [Hierarchy::Memory, Hierarchy::Unified]
        .into_iter()
        .find_map(|hierarchy| Some((hierarchy, hierarchy.group_in(text)?)))
}

fn is_root(text: &str) -> bool {
    memory_group(text).is_none_or(|(_, group)| group == "/")
}

/// The same line in both versions.
fn kills_in(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(kills_in(b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(kills_in(b"low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(kills_in(b"oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
