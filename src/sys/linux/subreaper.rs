//! Containment by mark: this process adopts what its workers leave behind, tells by a mark in the environment whose
//! it is, kills it and reaps it. Never touches a child that belongs to no worker, and never waits for "any child".

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, child_subreaper, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper,
};

use super::lineage::{children_of, kin_of};
use super::support::current_pid;
use super::wait;

/// What tells one worker's descendants from another's: `RUN.NUMBER;`, unique for ever.
#[derive(Clone, Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// `run` must not be used by any other process.
    pub(super) fn new(run: &str, number: u64) -> Self {
        Self(format!("{run}.{number};"))
    }

    /// Puts the mark into an environment, after the marks of a pool around this one, which must find it as well.
    pub(super) fn put_into(&self, env: &mut Vec<(OsString, OsString)>) {
        match env.iter_mut().find(|(name, _)| name == OsStr::new(VARIABLE)) {
            Some((_, value)) => value.push(&self.0),
            None => env.push((VARIABLE.into(), OsString::from(&self.0))),
        }
    }

    /// False also for a zombie, which has no environment any more.
    fn is_carried_by(&self, pid: Pid) -> bool {
        fs::read(format!("/proc/{}/environ", pid.as_raw_pid()))
            .is_ok_and(|environ| environ.windows(self.0.len()).any(|part| part == self.0.as_bytes()))
    }
}

/// Whether the system has what [`sweep`] looks at. Changes nothing.
pub(super) fn try_out() -> Result<(), String> {
    child_subreaper().map_err(|errno| format!("prctl(PR_GET_CHILD_SUBREAPER): {errno}"))?;
    let own = getpid().as_raw_pid();
    for file in [format!("/proc/{own}/environ"), format!("/proc/{own}/task/{own}/children")] {
        fs::read(&file).map_err(|error| {
            format!("{file}: {error}; /proc must be mounted, and the kernel have CONFIG_PROC_CHILDREN")
        })?;
    }
    Ok(())
}

/// Makes this process the one that adopts. For good: what was adopted must not be left to somebody else.
///
/// # Errors
/// A seccomp filter.
pub(super) fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    ADOPTER.store(current_pid(), Ordering::Release);
    Ok(())
}

/// Whether [`adopt_orphans`] was called in this process; a forked copy does not inherit it.
pub(super) fn adopts_orphans() -> bool {
    ADOPTER.load(Ordering::Acquire) == current_pid()
}

/// Kills and reaps what a worker has left: children of this process in the group it led, or with its mark, and
/// all that descends from these. To be called between the worker's exit and its reaping, so that the group is still its own.
/// `leader` is `None` if the group may be somebody else's already. `is_worker` tells the leaders that are not reaped, this one included: each has its own end.
///
/// Usually one round that finds nothing. Waits for what it kills, at most a second in all.
pub(super) fn sweep(leader: Option<Pid>, mark: Option<&Mark>, is_worker: impl Fn(Pid) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let caught = catch(leader, mark, &is_worker);
        if caught.is_empty() || Instant::now() > deadline {
            return;
        }
        for one in &caught {
            let _ = pidfd_send_signal(&one.handle, Signal::KILL);
        }
        // All must have ended before the first is reaped: only then the children of one that was killed are ours.
        for one in &caught {
            one.wait_exited(deadline);
        }
        for one in &caught {
            wait::reap(one.handle.as_fd());
        }
        // What one of them has started in the meantime is ours by now.
    }
}

fn catch(leader: Option<Pid>, mark: Option<&Mark>, is_worker: impl Fn(Pid) -> bool) -> Vec<Held> {
    let own = getpid();
    let in_group = |pid| leader.is_some_and(|leader| kin_of(pid).is_some_and(|kin| kin.group == leader));
    let is_left = |pid| in_group(pid) || mark.is_some_and(|mark| mark.is_carried_by(pid));
    let mut caught: Vec<Held> = children_of("self")
        .into_iter()
        .filter(|&pid| !is_worker(pid) && is_left(pid))
        .filter_map(|pid| Held::new(pid, own).filter(|_| is_left(pid)))
        .take(CAUGHT_AT_ONCE)
        .collect();
    // Their descendants now, because one without a mark cannot be told from others once it is adopted.
    let mut next = 0;
    while let Some(parent) = caught.get(next).map(|one| one.pid)
        && caught.len() < CAUGHT_AT_ONCE
    {
        let children = children_of(&parent.as_raw_pid().to_string());
        caught.extend(children.into_iter().filter_map(|pid| Held::new(pid, parent)).take(CAUGHT_AT_ONCE));
        next += 1;
    }
    caught
}

/// A process that is certainly the one that was looked at: the handle was taken, then its parent asked for.
struct Held {
    pid: Pid,
    handle: OwnedFd,
}

impl Held {
    fn new(pid: Pid, parent: Pid) -> Option<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let is_child = kin_of(pid).is_some_and(|kin| kin.parent == parent);
        is_child.then_some(Self { pid, handle })
    }

    fn wait_exited(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        // However it ends, the next round looks again.
        let _ = poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], timeout.as_ref());
    }
}

/// Not `STOKEHOLD_…`: those variables are for the worker itself, which removes them before it starts others.
const VARIABLE: &str = "_STOKEHOLD_MARK";
/// A killed process is gone within a millisecond or so.
const PATIENCE: Duration = Duration::from_secs(1);
/// Each is a descriptor for a moment.
const CAUGHT_AT_ONCE: usize = 256;
/// The process that adopts.
static ADOPTER: AtomicU32 = AtomicU32::new(0);
