//! Reaping with the bill: the raw `waitid`, whose fifth argument, what the process has used, no library passes on.
//! Waits for nothing, and reaps nothing but the one process it is given.
#![expect(unsafe_code, reason = "waitid with its resource usage has no safe form")]

use std::ffi::{c_int, c_long};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;

/// What is known of a process once it is reaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    /// `None`: the kernel told something that is no end of a process.
    pub(super) status: Option<ExitStatus>,
    pub(super) user: Duration,
    pub(super) system: Duration,
}

/// Consumes the exit of the pidfd's process. `None`: it has not exited, or is not ours (the host reaped it).
pub(super) fn reap(pidfd: BorrowedFd<'_>) -> Option<Reaped> {
    // SAFETY: all zero is a valid value of this structure of numbers.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let mut used = KernelUsage::default();
    let options: c_int = libc::WEXITED | libc::WNOHANG;
    loop {
        let (at, fd) = (&raw mut info, pidfd.as_raw_fd());
        // SAFETY: both structures are as large as the kernel's and live as long as the call.
        let result = unsafe { libc::syscall(libc::SYS_waitid, P_PIDFD, fd, at, options, &raw mut used) };
        if result == 0 {
            break;
        }
        if Errno::from_io_error(&std::io::Error::last_os_error()) != Some(Errno::INTR) {
            return None;
        }
    }
    // SAFETY: `waitid` fills in this part, or leaves it zero when nobody has exited.
    if unsafe { info.si_pid() } == 0 {
        return None;
    }
    // SAFETY: likewise.
    let number = unsafe { info.si_status() };
    let status = raw_status(info.si_code, number).map(ExitStatus::from_raw);
    Some(Reaped { status, user: duration(used.user), system: duration(used.system) })
}

/// In the encoding of `wait`, which is what std takes.
const fn raw_status(code: c_int, number: c_int) -> Option<c_int> {
    match code {
        libc::CLD_EXITED => Some((number & 0xff) << 8),
        libc::CLD_KILLED => Some(number),
        libc::CLD_DUMPED => Some(number | CORE_DUMPED),
        _ => None,
    }
}

fn duration([seconds, micros]: [c_long; 2]) -> Duration {
    let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    whole + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The kernel's `struct rusage`: longs, also where the C library has a wider time.
#[repr(C)]
#[derive(Default)]
struct KernelUsage {
    user: [c_long; 2],
    system: [c_long; 2],
    rest: [c_long; 14],
}

const P_PIDFD: c_int = 3;
const CORE_DUMPED: c_int = 0x80;
