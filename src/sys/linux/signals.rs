//! Signal masks, SIGPIPE, and signals to a group through a pidfd. Installs no handler and changes no disposition.
#![expect(unsafe_code, reason = "signal masks and flagged pidfd signals have no safe form")]

use std::ffi::c_uint;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::Signal;

/// For a thread that must never run a handler of the host. The C library's own two signals stay open: `setuid` in
/// another thread waits until every thread has handled one.
pub(super) fn block_all_in_this_thread() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: initialises the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was initialised above; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
}

/// Does `operation`, a write to a pipe, without letting a vanished reader's SIGPIPE reach the host.
///
/// Where SIGPIPE is ignored, as in nearly every Rust program, this costs one system call (some 50 ns). Elsewhere the
/// signal is blocked in this thread for the time of the write and taken away if the write raised it; the
/// disposition is the host's and is not touched.
pub(super) fn without_sigpipe<T>(operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if sigpipe_is_ignored() {
        return operation();
    }
    let set = sigpipe_set();
    let mut before = MaybeUninit::uninit();
    // SAFETY: `set` is initialised, and `before` has room for the old mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) };
    let was_pending = sigpipe_is_pending();
    let result = operation();
    if !was_pending && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: valid set and time; nowhere to store what is known of the signal.
        unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const at_once) };
    }
    // SAFETY: `before` was filled in by the first call, which cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

/// Signals every process in the group that the pidfd's process leads or led. By the handle, so it cannot hit a
/// stranger, not even after the leader was reaped.
///
/// # Errors
/// `Errno::INVAL` on kernels before 6.9, which do not know the flag; `Errno::SRCH` when nobody is left.
pub(super) fn signal_group_by_pidfd(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    let (fd, number, no_info) = (pidfd.as_raw_fd(), signal.as_raw(), ptr::null::<u8>());
    // SAFETY: plain numbers and a null pointer, which means the usual signal information.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, number, no_info, PIDFD_SIGNAL_PROCESS_GROUP)
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

fn sigpipe_is_ignored() -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; `now` has room for the answer.
    if unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), now.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so the structure is filled in.
    unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
}

fn sigpipe_is_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: `pending` has room for the answer.
    if unsafe { libc::sigpending(pending.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so the set is filled in.
    unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 }
}

fn sigpipe_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: initialised above.
    unsafe { set.assume_init() }
}

/// From the kernel's `linux/pidfd.h`; libc has no name for it yet.
const PIDFD_SIGNAL_PROCESS_GROUP: c_uint = 1 << 2;
