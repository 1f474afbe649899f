//! A started process, held by its pidfd: signals, its end, and reaping it. Does not read its pipes and does not
//! decide when to end it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_send_signal, waitid,
};

use super::signals;
use super::spawner::SpawnerThread;
use super::support::current_pid;

/// A child process and the group it leads. Keeps the spawner thread alive, because the kernel kills the child
/// when the thread that made it ends.
///
/// Dropping one that was not reaped kills its group, waits (up to 2 s, in practice about a millisecond) and reaps it. In a
/// forked copy of the host neither drop nor signals do anything: the child is not that copy's.
pub(crate) struct Process {
    leader: Leader,
    reaped: bool,
    spawner: Arc<SpawnerThread>,
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

impl Process {
    pub(super) fn new(leader: Leader, spawner: Arc<SpawnerThread>) -> Self {
        Self { leader, reaped: false, spawner }
    }

    /// Its number, for people. It is free for others once the process is reaped.
    pub(crate) fn pid(&self) -> u32 {
        self.leader.pid.as_raw_pid().unsigned_abs()
    }

    /// Readable when the process has exited. Remove it from a [`super::Poll`] before reaping.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.leader.pidfd.as_fd()
    }

    /// To all in its group, and to the process itself wherever it has moved. Nothing happens once the process is reaped, by us
    /// or by the host.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.is_ours() && !self.reaped {
            self.leader.signal_group(signal.into());
            if !self.leader.leads_its_group() {
                self.leader.signal(signal.into());
            }
        }
    }

    /// Whether it has exited; never reaps and never waits. True also if the host reaped it behind our back.
    pub(crate) fn has_exited(&self) -> bool {
        self.reaped || self.leader.has_exited()
    }

    /// To be called after [`has_exited`](Self::has_exited), and after its pipes were drained: kills what is left of its
    /// group, makes the guardian forget the group, and reaps. Waits (up to 2 s) if it has not exited after all.
    ///
    /// `None`: the status is unknown, because the host ignores SIGCHLD or reaps every child itself, or because this
    /// was called twice, or because the process has not exited.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        if self.reaped || !self.is_ours() {
            return None;
        }
        self.leader.signal_group(rustix::process::Signal::KILL);
        if !self.leader.wait_exited(KILL_PATIENCE) {
            // Stuck in the kernel. Its number is taken as long as it is, so the guardian keeps it, and kills the
            // group after us.
            return None;
        }
        if let Some(guardian) = self.spawner.guardian() {
            guardian.unregister(self.leader.pid);
        }
        self.reaped = true;
        self.leader.reap()
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

/// A child that leads its own group, without the rules about the guardian. What [`Process`] and the guardian are made of.
#[derive(Debug)]
pub(super) struct Leader {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Leader {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        // ESRCH: it has ended. EPERM: it changed its user, and there is nothing else we could do.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    pub(super) fn signal_group(&self, signal: rustix::process::Signal) {
        if signals::signal_group_by_pidfd(self.pidfd.as_fd(), signal) != Err(Errno::INVAL) {
            return;
        }
        // Before Linux 6.9 only the number is left. It is certainly still ours while the leader is not reaped;
        // if the host has reaped it, a stranger could have it, and what is left of the group escapes.
        if !matches!(self.end(), End::ReapedByHost) {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Whether it is still in the group it was started in.
    fn leads_its_group(&self) -> bool {
        rustix::process::getpgid(Some(self.pid)).is_ok_and(|group| group == self.pid)
    }

    pub(super) fn has_exited(&self) -> bool {
        !matches!(self.end(), End::Running)
    }

    /// Whether it has exited within `patience`.
    pub(super) fn wait_exited(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.has_exited() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // Patience is a few seconds, so neither conversion can fail.
            let timeout = Timespec::try_from(left).ok();
            // An interruption or a lack of memory only makes the loop ask again.
            let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], timeout.as_ref());
        }
        true
    }

    /// Consumes the exit status. Never waits.
    pub(super) fn reap(&self) -> Option<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)).ok().flatten()?;
        exit_status(&status)
    }

    fn end(&self) -> End {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)) {
            Ok(None) => End::Running,
            Ok(Some(_)) => End::Unreaped,
            Err(_) => End::ReapedByHost,
        }
    }
}

/// How far a process is.
enum End {
    Running,
    /// Exited, its number still reserved by the zombie.
    Unreaped,
    /// Gone, and with it the right to use its number.
    ReapedByHost,
}

/// In the encoding of `wait`, which is what std takes.
fn exit_status(status: &WaitIdStatus) -> Option<ExitStatus> {
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal | if status.dumped() { CORE_DUMPED } else { 0 },
        (None, None) => return None,
    };
    Some(ExitStatus::from_raw(raw))
}

const CORE_DUMPED: i32 = 0x80;
/// A killed process is gone within a millisecond or so, unless the kernel holds it in a broken device or file system.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
