//! Readiness of many descriptors in one wait (epoll: data as long as it is there, room each time it comes), waking it from another thread (eventfd), and one alarm
//! (timerfd). Knows nothing about what the descriptors and the alarm are for.
#![expect(unsafe_code, reason = "epoll_pwait2 has no safe form that falls back on older kernels")]

use std::ffi::c_int;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// A set of descriptors to wait for. One thread waits at a time; all methods may be called from any.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
    wakes: Arc<Wakes>,
    alarm: OwnedFd,
    /// False once the kernel has said that it cannot wait with nanoseconds.
    fine: AtomicBool,
}

/// Ends a wait of the [`Poll`] it came from. Cheap to clone; works after the poll is gone, to no effect.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<Wakes>);

/// What a waker uses.
#[derive(Debug)]
struct Wakes {
    now: OwnedFd,
    later: OwnedFd,
}

/// One descriptor that has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// As given to [`Poll::add`].
    pub(crate) token: u64,
    /// A read will not block: data, end of stream, or for a pidfd the exit of the process.
    pub(crate) readable: bool,
    /// A write will not block.
    pub(crate) writable: bool,
    /// The other end is closed, or the descriptor is broken. There may still be data to read.
    pub(crate) closed: bool,
}

/// What to wait for. A closed other end is always reported, so a descriptor that is of no interest any more
/// should be removed, or each wait returns at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Data, or the end of the stream: reported as long as it is there.
    Read,
    /// Room: reported once, and once more each time it is there after a write has found none. So the interest need not be changed
    /// at every full pipe, which costs two system calls.
    Room,
}

impl Poll {
    /// # Errors
    /// Out of descriptors or memory.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let now = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let timer =
            || timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK);
        let (later, alarm) = (timer()?, timer()?);
        for fd in [&now, &later, &alarm] {
            // Edge-triggered: every write is one event, so the counter need never be read.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, fd, epoll::EventData::new_u64(WAKE_TOKEN), flags)?;
        }
        let wakes = Arc::new(Wakes { now, later });
        Ok(Self { epoll, wakes, alarm, fine: AtomicBool::new(true) })
    }

    /// Ends the wait that is going on in so long, or else the next one, once; `None`: not any more. In place of what was set
    /// before. For what is due at a time that many waits come before: a timeout of each of them costs a tenth of a microsecond
    /// each time, an alarm only when it is set.
    ///
    /// # Errors
    /// None in ordinary operation.
    pub(crate) fn set_alarm(&self, after: Option<Duration>) -> io::Result<()> {
        set_timer(&self.alarm, after)
    }

    /// Starts to watch `fd`, which must be removed before it is closed. `token` comes back in [`Ready`] and may be
    /// anything but `u64::MAX`.
    ///
    /// # Errors
    /// `InvalidInput` for that token; `AlreadyExists` for a descriptor that is watched already; out of memory.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, data(token)?, interest.flags())?)
    }

    /// No longer watches `fd`. What a wait has already put out stays out.
    ///
    /// # Errors
    /// `NotFound` for a descriptor that is not watched.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready, the timeout is over (`None`: never), the alarm or a [`Waker`] was used, or a signal came. `out`
    /// is cleared and then holds at most 128 entries; what did not fit comes with the next wait. It stays empty
    /// in all but the first case.
    ///
    /// Never returns before the timeout without a reason. Its grain is the kernel's timer slack (50 µs) on Linux 5.11
    /// or later, and a millisecond, rounded up, before.
    ///
    /// # Errors
    /// None in ordinary operation.
    pub(crate) fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Ready>) -> io::Result<()> {
        out.clear();
        let timeout = timeout.map(timespec);
        if let Some(timeout) = &timeout
            && timeout.tv_nsec % NANOS_PER_MILLI != 0
            && self.fine.load(Ordering::Relaxed)
        {
            match self.wait_finely(timeout, out) {
                // EPERM is how some seccomp filters say that they have never heard of a call.
                Err(Errno::NOSYS | Errno::PERM) => self.fine.store(false, Ordering::Relaxed),
                result => return Ok(result?),
            }
        }
        // Not initialised: writing 1.5 KiB at every wait is a tenth of a lock-step's time of our own.
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_AT_ONCE];
        match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok((events, _)) => take(events, out),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// As [`wait`](Self::wait), to the nanosecond.
    fn wait_finely(&self, timeout: &Timespec, out: &mut Vec<Ready>) -> Result<(), Errno> {
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [none; EVENTS_AT_ONCE];
        match epoll_pwait2(self.epoll.as_fd(), &mut events, timeout) {
            Ok(count) => take(events.get(..count).unwrap_or_default(), out),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// As on a kernel before 5.11.
    #[cfg(test)]
    pub(super) fn without_nanoseconds() -> io::Result<Self> {
        Ok(Self { fine: AtomicBool::new(false), ..Self::new()? })
    }

    /// Another handle to end a wait with.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wakes))
    }
}

/// A timer rings once in so long, or not any more.
fn set_timer(timer: &OwnedFd, after: Option<Duration>) -> io::Result<()> {
    // Nothing at all would be "not any more".
    let it_value = after.map_or(NEVER, |after| timespec(after.max(Duration::from_nanos(1))));
    let value = Itimerspec { it_interval: NEVER, it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &value)?;
    Ok(())
}

/// What the kernel told, without the wakes.
fn take(events: &[epoll::Event], out: &mut Vec<Ready>) {
    for event in events {
        // Copied out, because the structure is packed.
        let (flags, token) = (event.flags, event.data.u64());
        if token != WAKE_TOKEN {
            out.push(Ready::new(token, flags));
        }
    }
}

impl Waker {
    /// Ends the wait that is going on, or else the next one. Several wakes may end one wait together.
    pub(crate) fn wake(&self) {
        let write = || retry_on_intr(|| rustix::io::write(&self.0.now, &1_u64.to_ne_bytes()));
        if write() == Err(Errno::AGAIN) {
            // Full after 2^64 wakes. Emptied, it takes the next; an error here would mean that another did so.
            let _ = rustix::io::read(&self.0.now, &mut [0_u8; 8]);
            let _ = write();
        }
    }

    /// Ends the wait that is going on then, or else the next one, in so long, in place of what was asked for by this before.
    pub(crate) fn wake_in(&self, after: Duration) {
        // What cannot be done later is done now.
        if set_timer(&self.0.later, Some(after)).is_err() {
            self.wake();
        }
    }
}

impl Ready {
    fn new(token: u64, flags: epoll::EventFlags) -> Self {
        Self {
            token,
            readable: flags.contains(epoll::EventFlags::IN),
            writable: flags.contains(epoll::EventFlags::OUT),
            closed: flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
        }
    }
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::Room => epoll::EventFlags::OUT | epoll::EventFlags::ET,
        }
    }
}

fn data(token: u64) -> io::Result<epoll::EventData> {
    if token == WAKE_TOKEN {
        return Err(io::Error::new(ErrorKind::InvalidInput, "token u64::MAX is the waker's: use another"));
    }
    Ok(epoll::EventData::new_u64(token))
}

/// Cut to a year, which every kernel takes.
fn timespec(timeout: Duration) -> Timespec {
    let timeout = timeout.min(LONGEST_WAIT);
    Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() }
}

/// Waits with nanoseconds, which rustix does only when it is built for kernels from 5.11 on.
fn epoll_pwait2(
    epoll: BorrowedFd<'_>,
    events: &mut [epoll::Event],
    timeout: &Timespec,
) -> Result<usize, Errno> {
    let (fd, capacity) = (epoll.as_raw_fd(), c_int::try_from(events.len()).unwrap_or(c_int::MAX));
    let (room, timeout, no_mask) = (events.as_mut_ptr(), ptr::from_ref(timeout), ptr::null::<u8>());
    // SAFETY: rustix's `Event` is the kernel's structure and its `Timespec` the kernel's 64-bit one, as it passes
    // both to the kernel itself; there is room for `capacity` events, and they are initialised. No mask is given.
    let count =
        unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, room, capacity, timeout, no_mask, 0_usize) };
    usize::try_from(count)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

const WAKE_TOKEN: u64 = u64::MAX;
/// How a timer is told that it is not set.
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// 1.5 KiB of stack. More are ready together only with more than 40 busy workers, and then a second wait costs little.
const EVENTS_AT_ONCE: usize = 128;
const NANOS_PER_MILLI: i64 = 1_000_000;
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
