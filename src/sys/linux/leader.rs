//! A child of ours by its number and its pidfd: signals to it and its group, whether it has ended, and reaping it. Knows nothing
//! of what else holds it, nor of the guardian.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};

use super::signals;
use super::wait::{self, Reaped};

/// A child that leads its own group, without the rules about the guardian. What [`Process`](super::Process) and the guardian are made of.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
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
    pub(super) fn leads_its_group(&self) -> bool {
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
    pub(super) fn reap(&self) -> Option<Reaped> {
        wait::reap(self.pidfd.as_fd())
    }

    pub(super) fn end(&self) -> End {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)) {
            Ok(None) => End::Running,
            Ok(Some(_)) => End::Unreaped,
            Err(_) => End::ReapedByHost,
        }
    }
}

/// How far a process is.
pub(super) enum End {
    Running,
    /// Exited, its number still reserved by the zombie.
    Unreaped,
    /// Gone, and with it the right to use its number.
    ReapedByHost,
}
