//! The vfork-style clone, and the code that runs in the child between it and `execve`.
//!
//! The child shares the parent's memory until it executes, while the launching thread stands still and every other
//! thread of the parent runs on. So the child must not allocate, lock, panic, unwind or touch anything but its plan
//! and its stack: another thread may hold the allocator's lock, and nobody would ever release it. It makes system
//! calls only. (`posix_spawn` does the same, but cannot ask for a parent-death signal, and through std passes no
//! extra descriptors; a plain fork costs 60 ms in a parent of 1 GiB.)
//!
//! Knows nothing about pipes, `PATH` or errors in words: it gets numbers and gives numbers.
#![expect(unsafe_code, reason = "clone, execve and the signal calls around them have no safe form")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::enclosure::Enclosure;
use super::failure::SpawnStage;
use super::guardian;

/// All that the child needs, prepared by the parent.
pub(super) struct Plan<'a> {
    /// `None`: the child exits instead, with everything around it done.
    pub(super) path: Option<&'a CStr>,
    /// NULL-terminated.
    pub(super) argv: *const *const c_char,
    /// NULL-terminated.
    pub(super) envp: *const *const c_char,
    pub(super) cwd: Option<&'a CStr>,
    /// (ours, the child's). Ours are all above every one of the child's, so no copy overwrites a later source.
    pub(super) descriptors: &'a [(RawFd, RawFd)],
    /// The first number that the child must not have.
    pub(super) close_from: c_uint,
    /// Die with the launching thread, which lives as long as this process; the number of that process.
    pub(super) die_with: Option<Pid>,
    /// Where to register the child's group.
    pub(super) guardian: Option<RawFd>,
    pub(super) enclosure: Enclosure,
}

/// A child that exists. `failure` is set if it did not get as far as its program; it is then about to exit.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) failure: Option<(SpawnStage, Errno)>,
    /// The guardian has been told of its group, or must not be.
    pub(super) registered: bool,
}

/// Makes the child and waits (a fraction of a millisecond, and as long as the disk takes to bring in the program)
/// until it executes or gives up.
///
/// # Errors
/// The reason why there is no child.
pub(super) fn launch(stack: &mut ChildStack, plan: &Plan<'_>) -> Result<Launched, Errno> {
    let shared = Shared {
        plan,
        stage: AtomicI32::new(REACHED_PROGRAM),
        errno: AtomicI32::new(0),
        registered: AtomicBool::new(false),
    };
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let flags = flags | plan.enclosure.clone_flags();
    let argument = ptr::from_ref(&shared).cast_mut().cast::<c_void>();
    let pidfd_at: *mut c_int = &raw mut pidfd;
    // No handler of the host may run in the child, where it would scribble over the parent's memory.
    let before = set_mask(ALL_SIGNALS);
    // SAFETY: `child` runs on its own stack, whose top this is, and returns only by exiting. CLONE_VFORK suspends
    // this thread until then, so `shared`, the plan and the stack outlive every use. The last argument is where
    // CLONE_PIDFD puts its answer.
    let pid = unsafe { libc::clone(child, stack.top(), flags, argument, pidfd_at) };
    let failed = io::Error::last_os_error();
    set_mask(before);

    // Not for negative numbers: `from_raw` takes them for our bug.
    let Some(pid) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else {
        return Err(Errno::from_io_error(&failed).unwrap_or(Errno::AGAIN));
    };
    // SAFETY: the clone succeeded, so the kernel has stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // Zero is no error number, and it is what is there when nothing failed.
    let failure = stage_from_code(shared.stage.load(Ordering::Acquire))
        .map(|stage| (stage, Errno::from_raw_os_error(shared.errno.load(Ordering::Acquire))));
    Ok(Launched { pid, pidfd, failure, registered: shared.registered.load(Ordering::Acquire) })
}

/// The memory a child runs on until it executes. Used by one child at a time.
pub(super) struct ChildStack {
    base: *mut c_void,
}

// SAFETY: plain memory, owned by this value and reached through it only.
unsafe impl Send for ChildStack {}

impl ChildStack {
    /// # Errors
    /// No memory.
    pub(super) fn new() -> io::Result<Self> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
        // SAFETY: a new mapping, placed by the kernel, overlaps nothing.
        let base = unsafe { libc::mmap(ptr::null_mut(), GUARD_BYTES + STACK_BYTES, access, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the lowest part of the mapping just made; a child that runs too deep faults there.
        if unsafe { libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// One past the highest byte; stacks grow down. `&mut`, because a second child at the same time would share it.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "the exclusive borrow is the point")]
    fn top(&mut self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD_BYTES + STACK_BYTES)
    }
}

impl fmt::Debug for ChildStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildStack").finish_non_exhaustive()
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the whole mapping made by `new`; no child is running on it, as `launch` has returned.
        unsafe { libc::munmap(self.base, GUARD_BYTES + STACK_BYTES) };
    }
}

/// What child and parent both see.
struct Shared<'a> {
    plan: &'a Plan<'a>,
    stage: AtomicI32,
    errno: AtomicI32,
    registered: AtomicBool,
}

/// The child, from its first instruction to `execve`.
extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: `launch` passes its `Shared`, which lives until this process has left the shared memory.
    let shared = unsafe { &*argument.cast::<Shared<'_>>() };
    if let Err((stage, errno)) = prepare_and_execute(shared) {
        shared.errno.store(errno.raw_os_error(), Ordering::Release);
        shared.stage.store(code_of_stage(stage), Ordering::Release);
    }
    // SAFETY: ends this process at once; `exit` would run the parent's exit handlers.
    unsafe { libc::_exit(EXIT_NOT_STARTED) }
}

/// Returns only when something failed, or when there is nothing to execute.
fn prepare_and_execute(shared: &Shared<'_>) -> Result<(), (SpawnStage, Errno)> {
    let plan = shared.plan;
    let at = |stage| move |errno| (stage, errno);
    plan.enclosure.enter().map_err(at(SpawnStage::Containment))?;
    rustix::process::setpgid(None, None).map_err(at(SpawnStage::Group))?;
    reset_dispositions();
    if plan.die_with.is_some() {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(at(SpawnStage::ParentDeath))?;
    }
    let numbers = plan.enclosure.numbers().map_err(at(SpawnStage::Containment))?;
    // It may have died before it was asked to take us with it. (None: it is outside our namespace, which is no news.)
    if plan.die_with.is_some() && numbers.parent.is_some() && numbers.parent != plan.die_with {
        return Err((SpawnStage::ParentDeath, Errno::SRCH));
    }
    let Some(path) = plan.path else { return Ok(()) };
    if let Some(cwd) = plan.cwd {
        rustix::process::chdir(cwd).map_err(at(SpawnStage::ChangeDirectory))?;
    }
    if let Some(link) = plan.guardian {
        // Before execve, so that no grandchild exists that the guardian does not know of. Without a number that means
        // something to the guardian: not registered at all.
        let registered = numbers.own.is_none_or(|own| guardian::register(link, own));
        shared.registered.store(registered, Ordering::Release);
    }
    for &(ours, childs) in plan.descriptors {
        // SAFETY: numbers only; the copy is not close-on-exec, which is what lets it through.
        if unsafe { libc::dup2(ours, childs) } < 0 {
            return Err((SpawnStage::Descriptors, last_errno()));
        }
    }
    // All of ours are close-on-exec already. This is for what the host left open; a kernel before 5.11 lets
    // that through, as it does for every program that the host starts by other means.
    // SAFETY: marks descriptors of this process, whose table is its own.
    unsafe { libc::syscall(libc::SYS_close_range, plan.close_from, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    set_mask(NO_SIGNALS);
    // SAFETY: a C string and two NULL-terminated arrays of C strings, all kept alive by the parent.
    unsafe { libc::execve(path.as_ptr(), plan.argv, plan.envp) };
    Err((SpawnStage::Execute, last_errno()))
}

/// Every signal to its default. The host's handlers must not run here, and what the host ignores (SIGPIPE in every
/// Rust program) the child's program must not find ignored. The kernel is called directly: the C library's
/// `sigaction` refuses the signals it uses itself, and takes a lock for SIGABRT.
fn reset_dispositions() {
    // Larger than the kernel's structure on every platform. All zero: SIG_DFL, no flags, empty mask.
    let default = [0_u64; 20];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: reads one structure from `default`, which is as large; stores nothing. SIGKILL and SIGSTOP are
        // refused, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<u8>(),
                SIGNAL_SET_BYTES,
            )
        };
        if matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) {
            discard_pending(signal);
        }
    }
}

/// A Ctrl-Z that came before the child left the parent's group is pending here; once let through it would stop the
/// child, and with it the thread that waits for it to execute, with nobody to continue them. Ignoring a signal discards it.
fn discard_pending(signal: c_int) {
    for handler in [libc::SIG_IGN, libc::SIG_DFL] {
        // SAFETY: all zero is a valid value of this structure of integers and optional pointers.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler;
        // SAFETY: a valid structure, and nowhere to store the old one.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

/// Sets this thread's signal mask, without the exceptions that the C library makes for its own two signals.
fn set_mask(mask: u64) -> u64 {
    let (new, mut old) = ([mask; 2], [0_u64; 2]);
    let (how, from, to) = (libc::SIG_SETMASK, new.as_ptr(), old.as_mut_ptr());
    // SAFETY: reads and writes SIGNAL_SET_BYTES of arrays that are at least as large.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, from, to, SIGNAL_SET_BYTES) };
    old[0]
}

fn last_errno() -> Errno {
    // Allocates nothing: it only carries the number.
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

const fn code_of_stage(stage: SpawnStage) -> i32 {
    match stage {
        SpawnStage::Group => 1,
        SpawnStage::ParentDeath => 2,
        SpawnStage::ChangeDirectory => 3,
        SpawnStage::Descriptors => 4,
        SpawnStage::Containment => 5,
        _ => 6,
    }
}

const fn stage_from_code(code: i32) -> Option<SpawnStage> {
    match code {
        REACHED_PROGRAM => None,
        1 => Some(SpawnStage::Group),
        2 => Some(SpawnStage::ParentDeath),
        3 => Some(SpawnStage::ChangeDirectory),
        4 => Some(SpawnStage::Descriptors),
        5 => Some(SpawnStage::Containment),
        _ => Some(SpawnStage::Execute),
    }
}

const REACHED_PROGRAM: i32 = 0;
/// As shells say "could not be run". Nobody sees it: a child with a failure is reaped by its launcher.
const EXIT_NOT_STARTED: c_int = 127;
/// The child uses a few hundred bytes; the rest is for unoptimised builds and sanitizers.
const STACK_BYTES: usize = 128 * 1024;
/// A multiple of every page size in use.
const GUARD_BYTES: usize = 64 * 1024;
const ALL_SIGNALS: u64 = u64::MAX;
const NO_SIGNALS: u64 = 0;
const LAST_SIGNAL: c_int = 64;
/// The kernel's signal set: 64 signals everywhere but on MIPS.
const SIGNAL_SET_BYTES: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };
