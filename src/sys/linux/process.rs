//! A started process, held by its pidfd: signals, what it uses, its end, and reaping it with all that it has left. Does not
//! read its pipes and does not decide when to end it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::hold::Hold;
use super::leader::{End, Leader};
use super::memory::{self, Memory};
use super::oom::OomWatch;
use super::spawner::SpawnerThread;
use super::subreaper;
use super::support::current_pid;

/// A child process and the group it leads, and what else holds its descendants (see [`Containment`](super::Containment)). Keeps the spawner thread alive, because the kernel kills the child
/// when the thread that made it ends.
///
/// Dropping one that was not reaped kills its group, waits (up to some seconds, in practice about a millisecond) and reaps
/// it. In a forked copy of the host neither drop nor signals do anything: the child is not that copy's.
pub(crate) struct Process {
    leader: Leader,
    hold: Hold,
    oom: Mutex<OomWatch>,
    /// Filled in by the reaping.
    oom_killed: Option<bool>,
    reaped: bool,
    spawner: Arc<SpawnerThread>,
}

/// A started program, and our ends of its three pipes: close-on-exec and non-blocking. The child's ends
/// stay blocking, as programs expect.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The process; dropping it kills it.
    pub(crate) process: Process,
    /// What we write here, the child reads. Dropping it is the child's end of input.
    pub(crate) to_child: OwnedFd,
    /// What the child writes as protocol, we read here.
    pub(crate) from_child: OwnedFd,
    /// What the child writes for people, we read here. Must be drained, or the child stops when it is full.
    pub(crate) stderr: OwnedFd,
}

/// The signals that the engine sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Continue a stopped process; sent after `Term`, which a stopped process does not see.
    Cont,
    /// End at once.
    Kill,
    /// Please end.
    Term,
}

/// What is left to say of a process when it is reaped. All `None` if that is unknown: the host ignores SIGCHLD or reaps
/// every child itself, or it was reaped before, or it does not go away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) status: Option<ExitStatus>,
    /// The time it has computed in its own code, with that of its children that it has waited for. From the kernel's ticks,
    /// which on some machines are as coarse as 10 ms.
    pub(crate) user: Option<Duration>,
    /// The time that the kernel has computed for it, likewise.
    pub(crate) system: Option<Duration>,
}

impl Process {
    pub(super) fn new(leader: Leader, hold: Hold, oom: OomWatch, spawner: Arc<SpawnerThread>) -> Self {
        Self { leader, hold, oom: Mutex::new(oom), oom_killed: None, reaped: false, spawner }
    }

    /// Its number, for people. It is free for others once the process is reaped.
    pub(crate) fn pid(&self) -> u32 {
        self.leader.pid.as_raw_pid().unsigned_abs()
    }

    /// Readable when the process has exited. Remove it from a [`super::Poll`] before reaping.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.leader.pidfd.as_fd()
    }

    /// To all in its group, and to the process itself wherever it has moved; a `Kill` to all in its control group too, where
    /// it has one. Nothing happens once the process is reaped, by us or by the host.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.is_ours() && !self.reaped {
            self.leader.signal_group(signal.into());
            if !self.leader.leads_its_group() {
                self.leader.signal(signal.into());
            }
            if signal == Signal::Kill {
                self.kill_cgroup();
            }
        }
    }

    /// Whether it has exited; never reaps and never waits. True also if the host reaped it behind our back.
    pub(crate) fn has_exited(&self) -> bool {
        self.reaped || self.leader.has_exited()
    }

    /// What it has in memory now, and the most it ever had. `None` once it has exited, or where there is no `/proc`.
    ///
    /// Never waits; costs some 10 µs. Also notes the state of its memory group for [`was_oom_killed`](Self::was_oom_killed),
    /// whose answer is the surer the shorter before the end this was called.
    pub(crate) fn memory(&self) -> Option<Memory> {
        if self.reaped || !self.is_ours() {
            return None;
        }
        let memory = memory::read(self.leader.pid)?;
        self.oom.lock().unwrap_or_else(PoisonError::into_inner).refresh(self.leader.pid);
        // Only while it is not reaped was the number certainly its own.
        (!matches!(self.leader.end(), End::ReapedByHost)).then_some(memory)
    }

    /// Whether it was killed because memory ran out. To be asked after [`reap`](Self::reap).
    ///
    /// `Some(true)`: it died by SIGKILL, and since the last look (the start, or [`memory`](Self::memory)) the kernel has
    /// killed somebody in its memory control group for lack of memory: if it was not this process, it was a neighbour
    /// in the same moment. `Some(false)`: it ended otherwise, or nobody was. `None`: it cannot be told, without a memory
    /// control group for instance, as on a desktop or in the root group.
    pub(crate) fn was_oom_killed(&self) -> Option<bool> {
        self.oom_killed
    }

    /// To be called after [`has_exited`](Self::has_exited), and after its pipes were drained: kills what is left of its
    /// group and of what else held it, makes the guardian forget the group, and reaps. Waits (up to 2 s) if it has
    /// not exited after all. With `Subreaper` and `Cgroup` it waits for what it has to kill, in practice a
    /// millisecond or two, at most 2 s.
    ///
    /// Everything in [`Ended`] is `None` when called twice, and when the process has not exited.
    pub(crate) fn reap(&mut self) -> Ended {
        if self.reaped || !self.is_ours() {
            return Ended::default();
        }
        self.leader.signal_group(rustix::process::Signal::KILL);
        self.kill_cgroup();
        if !self.leader.wait_exited(KILL_PATIENCE) {
            // Stuck in the kernel. Its number is taken as long as it is, so the guardian keeps it, and kills the
            // group after us.
            return Ended::default();
        }
        // While its control group is still there.
        let has_grown = self.oom.get_mut().unwrap_or_else(PoisonError::into_inner).has_grown();
        self.end_what_is_left();
        if let Some(watch) = self.spawner.watch() {
            watch.remove(self.leader.pid);
        }
        self.reaped = true;
        let Some(reaped) = self.leader.reap() else { return Ended::default() };
        self.oom_killed = match reaped.status.and_then(|status| status.signal()) {
            Some(libc::SIGKILL) => has_grown,
            _ => Some(false),
        };
        Ended { status: reaped.status, user: Some(reaped.user), system: Some(reaped.system) }
    }

    /// Beyond its group. While its number is still reserved.
    fn end_what_is_left(&mut self) {
        let mark = match std::mem::replace(&mut self.hold, Hold::None) {
            Hold::Mark(mark) => Some(mark),
            // Kills, and waits until it can be removed.
            Hold::Cgroup(group) => {
                drop(group);
                None
            }
            Hold::None => None,
        };
        // What other levels leave behind is adopted as well, once this process adopts.
        if subreaper::adopts_orphans()
            && let Some(watch) = self.spawner.watch()
        {
            let is_reserved = !matches!(self.leader.end(), End::ReapedByHost);
            let group = is_reserved.then_some(self.leader.pid);
            subreaper::sweep(group, mark.as_ref(), |pid| pid == self.leader.pid || watch.is_leader(pid));
        }
    }

    fn kill_cgroup(&self) {
        if let Hold::Cgroup(group) = &self.hold {
            // It fails only for a group that somebody has removed, with nobody in it.
            let _ = group.kill();
        }
    }

    fn is_ours(&self) -> bool {
        self.spawner.owner() == current_pid()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped && self.is_ours() {
            // Apart from its group: a program may have moved itself to another.
            self.leader.signal(rustix::process::Signal::KILL);
            self.reap();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid())
            .field("reaped", &self.reaped)
            .finish_non_exhaustive()
    }
}

impl From<Signal> for rustix::process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Cont => Self::CONT,
            Signal::Kill => Self::KILL,
            Signal::Term => Self::TERM,
        }
    }
}

/// A killed process is gone within a millisecond or so, unless the kernel holds it in a broken device or file system.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
