//! Whether this kernel has what the rest needs, and the few facts a process knows about itself. Changes nothing.

use std::io;
use std::os::fd::AsFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};

/// The running program, for a parent that starts itself as its worker. A link that stays right when the file was
/// moved or replaced after the start; resolved by the child, where it names the same program still.
pub(crate) const SELF_EXE: &str = "/proc/self/exe";

/// The kernel lacks something that Stokehold cannot do without.
#[derive(Debug, thiserror::Error)]
#[error("this kernel has no {what} ({}): Linux 5.4 or later is needed, with no seccomp filter against it", io::Error::from(*.errno))]
pub(crate) struct Unsupported {
    /// The missing call, as its manual page names it.
    pub(crate) what: &'static str,
    /// What the kernel answered to a trial call.
    pub(crate) errno: Errno,
}

/// Tries the calls that the whole of this directory builds on, on ourselves. Costs a few microseconds, changes nothing.
///
/// # Errors
/// [`Unsupported`] on kernels before 5.4, and under a seccomp filter that forbids the calls. Being out of descriptors
/// is no answer to the question and passes; the first spawn will report it with its own error.
pub(crate) fn check_support() -> Result<(), Unsupported> {
    let pidfd = match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return Ok(()),
        Err(errno) => return Err(Unsupported { what: "pidfd_open", errno }),
    };
    // We are not our own child: a kernel that understands the question answers ECHILD.
    let ask = || waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    match retry_on_intr(ask) {
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(errno) => Err(Unsupported { what: "waitid(P_PIDFD)", errno }),
    }
}

/// The number of this process, as it is now: a forked copy of the host gets its own.
pub(crate) fn current_pid() -> u32 {
    getpid().as_raw_pid().unsigned_abs()
}
