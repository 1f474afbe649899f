//! Containment by control group (version 2): one directory for this process below its own group, one for each worker
//! in it. Kills by `cgroup.kill`, removes what is empty. Sets no limits and switches no controllers.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

use super::lineage::start_of;
use super::pipe::above_child_numbers;
use super::support::current_pid;

/// Where this process may make groups: its own group's directory.
#[derive(Debug)]
pub(super) struct Site(pub(super) PathBuf);

/// The group around all workers of this process, empty itself. Removed when dropped.
#[derive(Debug)]
pub(super) struct RunGroup {
    directory: PathBuf,
    started: u64,
}

impl RunGroup {
    /// Also removes what processes that are dead have left at the site.
    pub(super) fn new(site: &Site) -> io::Result<Self> {
        remove_leftovers(site);
        Self::at(site)
    }

    /// At a site as it is.
    pub(super) fn at(site: &Site) -> io::Result<Self> {
        let owner = Owner::this_process().ok_or(ErrorKind::Unsupported)?;
        // A process can have several one after the other, and the end of one overlap with the next.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let directory = site.0.join(format!("{}-{number}", owner.directory_name()));
        fs::create_dir(&directory)?;
        Ok(Self { directory, started: 0 })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A group for the next worker.
    pub(super) fn worker(&mut self) -> io::Result<WorkerGroup> {
        self.started += 1;
        WorkerGroup::new(self.directory.join(self.started.to_string()))
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        remove_tree(&self.directory);
    }
}

/// The group of one worker. Killed and removed when dropped.
#[derive(Debug)]
pub(super) struct WorkerGroup {
    directory: PathBuf,
    /// Open, so that a kill never fails for want of a descriptor.
    kill: File,
    /// Until the worker is in: what it writes `0` to.
    entrance: Option<OwnedFd>,
    /// The process that made it; a forked copy of it must leave it alone.
    owner: u32,
}

impl WorkerGroup {
    fn new(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        let writing = |name| open(directory.join(name), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let files = writing("cgroup.kill").map_err(io::Error::from).and_then(|kill| {
            let entrance = above_child_numbers(writing("cgroup.procs")?)?;
            Ok((kill, entrance))
        });
        match files {
            Ok((kill, entrance)) => {
                Ok(Self { directory, kill: kill.into(), entrance: Some(entrance), owner: current_pid() })
            }
            Err(error) => {
                let _ = fs::remove_dir(&directory);
                Err(error)
            }
        }
    }

    /// For the child, before it executes; -1 once it is closed, which no child can write to.
    pub(super) fn entrance(&self) -> RawFd {
        self.entrance.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// The worker is in.
    pub(super) fn close_entrance(&mut self) {
        self.entrance = None;
    }

    /// Everybody in it, and in groups below it.
    pub(super) fn kill(&self) -> io::Result<()> {
        (&self.kill).write_all(b"1")
    }
}

impl Drop for WorkerGroup {
    fn drop(&mut self) {
        if self.owner != current_pid() {
            return;
        }
        // It fails only for a group that somebody has removed.
        let _ = self.kill();
        wait_empty(&self.directory);
        remove_tree(&self.directory);
    }
}

/// What was killed needs a moment to go. What the kernel holds on to stays, and its group with it, until the guardian
/// or the next process that makes groups here removes it.
fn wait_empty(directory: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while let Ok(events) = File::open(directory.join("cgroup.events"))
        && let Ok(text) = io::read_to_string(&events)
        && text.contains("populated 1")
    {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let timeout = Timespec::try_from(left).ok();
        // The file reports each change as an exception, from the last read of this opening on.
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], timeout.as_ref());
    }
}

/// Removes a group and those below it, as far as they are empty. A worker that was root may have made some.
fn remove_tree(directory: &Path) {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(parent) = found.get(next)
        && found.len() < REMOVED_AT_ONCE
    {
        found.extend(subdirectories(parent));
        next += 1;
    }
    for group in found.iter().rev() {
        let _ = fs::remove_dir(group);
    }
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_directory).take(REMOVED_AT_ONCE).map(|entry| entry.path()).collect()
}

/// Kills and removes the groups of processes that no longer exist.
fn remove_leftovers(site: &Site) {
    for directory in subdirectories(&site.0) {
        let owner = directory.file_name().and_then(|name| Owner::parse(name.to_str()?));
        if owner.is_some_and(|owner| owner.is_dead()) {
            let _ = fs::write(directory.join("cgroup.kill"), "1");
            wait_empty(&directory);
            remove_tree(&directory);
        }
    }
}

/// The process that a run's group belongs to, named so that no other process ever has the name.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    /// The PID namespace in which the number counts.
    namespace: u64,
    pid: i32,
    /// When it started, in ticks since the machine did.
    started: u64,
}

impl Owner {
    fn this_process() -> Option<Self> {
        Some(Self { namespace: own_namespace()?, pid: getpid().as_raw_pid(), started: start_of("self")? })
    }

    fn directory_name(&self) -> String {
        format!("{PREFIX}{}-{}-{}", self.namespace, self.pid, self.started)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let (namespace, pid, started) = (parts.next()?, parts.next()?, parts.next()?);
        let (namespace, pid, started) = (namespace.parse().ok()?, pid.parse().ok()?, started.parse().ok()?);
        Some(Self { namespace, pid, started })
    }

    /// False where it cannot be told: of another namespace we know nothing.
    fn is_dead(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| own_namespace() == Some(self.namespace)) else {
            return false;
        };
        let is_another = || start_of(&self.pid.to_string()).is_some_and(|started| started != self.started);
        test_kill_process(pid) == Err(Errno::SRCH) || is_another()
    }
}

fn own_namespace() -> Option<u64> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// How many groups of its own this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);
const PREFIX: &str = "stokehold-";
const PATIENCE: Duration = Duration::from_secs(2);
/// Far more than an honest worker makes. The rest is removed another time.
const REMOVED_AT_ONCE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_known_by_name_and_this_one_lives() {
        let own = Owner::this_process().unwrap();
        assert_eq!(Owner::parse(&own.directory_name()), Owner::this_process());
        assert_eq!(Owner::parse(&format!("{}-7", own.directory_name())), Owner::this_process());
        assert!(!own.is_dead());
        assert!(Owner { started: own.started - 1, ..Owner::this_process().unwrap() }.is_dead());
        assert!(!Owner { namespace: 1, started: 0, ..own }.is_dead(), "nothing is known of it");
        assert_eq!(Owner::parse("stokehold-1-x-3"), None);
        assert_eq!(Owner::parse("user.slice"), None);
    }
}
