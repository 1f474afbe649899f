//! Pipes to a child: made, and read from and written to without ever waiting. Keeps no bytes.
#![expect(unsafe_code, reason = "advice about memory has no safe form")]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::signals::without_sigpipe;

/// Reads what is there, at most `into`. `Ok(0)` is the end of the stream (or an empty `into`).
///
/// # Errors
/// `WouldBlock` when nothing is there yet. Never `Interrupted`.
pub(crate) fn read(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::read(fd, &mut *into))?)
}

/// Reads what is there behind what is in `into`, at most as much as it has capacity for. `Ok(0)` is the end of the stream.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_more(fd: BorrowedFd<'_>, into: &mut Vec<u8>) -> io::Result<usize> {
    expect_much(into);
    Ok(retry_on_intr(|| rustix::io::read(fd, spare_capacity(&mut *into)))?)
}

/// Has the system give memory for a giant buffer in pieces of two megabytes instead of page by page, where it can: to fill 64 MiB
/// page by page takes as long again as to move them through a pipe.
fn expect_much(into: &mut Vec<u8>) {
    let space = into.spare_capacity_mut();
    if space.len() < GIANT_BYTES {
        return;
    }
    let begin = space.as_mut_ptr().map_addr(|at| at.next_multiple_of(PAGE_BYTES));
    let len = space.len() - PAGE_BYTES;
    // SAFETY: whole pages within memory that this vector owns, of which nothing is used yet. The advice changes nothing of it.
    let _ = unsafe { libc::madvise(begin.cast(), len, libc::MADV_HUGEPAGE) };
}

/// Writes as much of `from` as fits, and says how much that was.
///
/// # Errors
/// `WouldBlock` when nothing fits; `BrokenPipe` when nobody will read, without a SIGPIPE for the host whatever
/// it does with that signal. Never `Interrupted`.
pub(crate) fn write(fd: BorrowedFd<'_>, from: &[IoSlice<'_>]) -> io::Result<usize> {
    // Since 6.18 the kernel can be told with the write itself; before, the host's disposition has to be asked for each time.
    if QUIET_WRITES.load(Ordering::Relaxed) {
        match retry_on_intr(|| rustix::io::pwritev2(fd, from, u64::MAX, NO_SIGNAL)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                QUIET_WRITES.store(false, Ordering::Relaxed)
            }
            result => return Ok(result?),
        }
    }
    without_sigpipe(|| Ok(retry_on_intr(|| rustix::io::writev(fd, from))?))
}

/// How many bytes wait in a pipe for its reader, asked at either end; 0 if that cannot be told. They wait also when the reader
/// is gone.
pub(crate) fn unread(fd: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(0)
}

/// `RWF_NOSIGNAL`: no SIGPIPE from this write. See pwritev2(2).
const NO_SIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// A buffer with so much space is given memory in large pieces.
const GIANT_BYTES: usize = 4 * 1024 * 1024;

const PAGE_BYTES: usize = 4096;

/// Whether the kernel knows [`NO_SIGNAL`], as far as known.
static QUIET_WRITES: AtomicBool = AtomicBool::new(true);

/// Which end of a new pipe stays here.
#[derive(Clone, Copy, Debug)]
pub(super) enum OurEnd {
    Reading,
    Writing,
}

/// A pipe: our end, non-blocking, and the child's, blocking. Each is close-on-exec. (`O_NONBLOCK` belongs to the open
/// file description, and the two ends are two of these, so the child's stays as programs expect it.)
#[derive(Debug)]
pub(super) struct ChildPipe {
    pub(super) ours: OwnedFd,
    pub(super) childs: OwnedFd,
}

impl ChildPipe {
    /// # Errors
    /// Out of descriptors or memory.
    pub(super) fn new(end: OurEnd) -> io::Result<Self> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ours, childs) = match end {
            OurEnd::Reading => (reading, writing),
            OurEnd::Writing => (writing, reading),
        };
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        Ok(Self { ours, childs: above_child_numbers(childs)? })
    }

    /// Asks for a larger buffer: fewer wake-ups for a stream of frames. The system may refuse (a user's pipes share a
    /// limit), and nothing relies on it.
    pub(super) fn enlarge(&self) {
        let _ = fcntl_setpipe_size(&self.ours, PROTOCOL_PIPE_BYTES);
    }
}

/// A pipe that was made as large as the system allows, because large payloads go through it.
#[derive(Debug)]
pub(crate) struct Widened(());

impl Widened {
    /// Widens the pipe of which `fd` is an end. `None` if there are too many such pipes already, or the system refuses; nothing
    /// relies on it.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Option<Self> {
        let before = WIDENED.fetch_add(1, Ordering::Relaxed);
        // From here on it is counted, and taken back when it is dropped.
        let widened = Self(());
        (before < WIDENED_MAX && fcntl_setpipe_size(fd, WIDE_PIPE_BYTES).is_ok()).then_some(widened)
    }
}

impl Drop for Widened {
    fn drop(&mut self) {
        WIDENED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many pipes of this process are wide.
static WIDENED: AtomicUsize = AtomicUsize::new(0);

/// Half of the usual 64 MiB that all pipes of a user may have together, before everybody's new pipes become tiny.
const WIDENED_MAX: usize = 32;

/// As much as an unprivileged process usually may have. A payload moves through it with a fourth of the wake-ups.
const WIDE_PIPE_BYTES: usize = 1024 * 1024;

/// The same file at a number that no child's descriptor has, so that putting one in its place never overwrites
/// another that is still needed. Only a host that runs without 0, 1 or 2, or has closed much, gets low numbers at all.
///
/// # Errors
/// Out of descriptors.
pub(super) fn above_child_numbers(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_FREE_NUMBER {
        return Ok(fd);
    }
    match fcntl_dupfd_cloexec(&fd, FIRST_FREE_NUMBER) {
        // So the kernel says that the limit of descriptors is below the number asked for.
        Err(Errno::INVAL) => Err(Errno::MFILE.into()),
        moved => Ok(moved?),
    }
}

/// A child has 0 to 4 at most; the rest is room to grow.
const FIRST_FREE_NUMBER: i32 = 10;
/// Four times the usual 64 KiB. The usual limit of 64 MiB for all pipes of a user is reached with 128 children.
pub(crate) const PROTOCOL_PIPE_BYTES: usize = 256 * 1024;
