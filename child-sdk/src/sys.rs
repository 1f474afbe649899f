//! The few calls that need `unsafe`: the only file of this crate that has any. It decides nothing.

#![expect(unsafe_code, reason = "these calls have no safe form in std or rustix")]

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Removes variables from the environment if this is the process's only thread. False, and nothing removed, if there are
/// several, or if they cannot be counted in `/proc/self/task`.
pub(crate) fn remove_vars_if_alone(names: &[OsString]) -> bool {
    let Ok(mut threads) = std::fs::read_dir("/proc/self/task") else { return false };
    if threads.next().is_none() || threads.next().is_some() {
        return false;
    }
    for name in names {
        // SAFETY: nobody reads the environment meanwhile: this is the only thread, and nothing here starts another.
        unsafe { std::env::remove_var(name) }
    }
    true
}

/// Takes over an inherited descriptor and keeps it from grandchildren. An error if it is not open.
///
/// The caller makes sure that nobody else in this process owns `fd`: it is above 2 and was named for the protocol by whoever
/// started the process, and each number is taken over once.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer, and fails harmlessly on a number that is not open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETFD takes an integer.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open, as the calls above proved, and is owned by nobody else: see this function's contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes SIGINT do nothing, by a handler and not by ignoring it: an ignored signal would stay ignored in every program that
/// a handler starts. Leaves alone what somebody else has set.
pub(crate) fn swallow_sigint() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; `now` has room for the answer.
    if unsafe { libc::sigaction(libc::SIGINT, ptr::null(), now.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid `sigaction`, and the call above filled it in.
    let mut action = unsafe { now.assume_init() };
    if action.sa_sigaction != libc::SIG_DFL {
        return Ok(());
    }
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is complete, and its handler touches nothing.
    if unsafe { libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Runs `start` with all signals blocked, so that a thread it starts has them blocked for ever: signals sent to the process
/// then reach the user's threads and interrupt the user's calls, as they would without that thread.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `all` has room for the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was filled above, `before` has room for the answer.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) } == 0;
    let outcome = start();
    if blocked {
        // SAFETY: the first call succeeded and filled `before` in.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
    outcome
}

/// Ends the process at once, from any thread: nothing is flushed and no exit handler runs, because the serving thread may be
/// inside a handler that such code would pull the ground from under.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
