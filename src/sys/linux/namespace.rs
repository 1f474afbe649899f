//! Containment by PID namespace: with a user namespace or without, and what the child does in it before it executes. Which of
//! the two this machine allows is found in `trial`.
#![expect(unsafe_code, reason = "the child may only make system calls, and opens files before it executes")]

use std::ffi::{CStr, c_int};
use std::io::{self, Write};

use rustix::io::Errno;
use rustix::process::{Pid, getegid, geteuid};

/// With or without a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The right to make PID namespaces (CAP_SYS_ADMIN) is there.
    Privileged,
    /// It comes with a user namespace.
    WithUser,
}

/// What the child writes to keep its user and its group. Prepared by the parent, because the child must not format.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserMaps {
    user: MapLine,
    group: MapLine,
}

impl UserMaps {
    pub(super) fn identity() -> Self {
        Self { user: MapLine::new(geteuid().as_raw()), group: MapLine::new(getegid().as_raw()) }
    }

    /// In the child, as the first thing it does: system calls only.
    pub(super) fn write(&self) -> Result<(), Errno> {
        // Without this the kernel lets nobody map a group who could not before.
        match write_file(c"/proc/self/setgroups", b"deny") {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        write_file(c"/proc/self/uid_map", self.user.as_bytes())?;
        write_file(c"/proc/self/gid_map", self.group.as_bytes())
    }
}

/// `ID ID 1\n`.
#[derive(Clone, Copy, Debug)]
struct MapLine {
    bytes: [u8; 32],
    length: usize,
}

impl MapLine {
    fn new(id: u32) -> Self {
        let mut bytes = [0; 32];
        let mut rest = &mut bytes[..];
        // Two numbers of ten digits fit.
        let _ = writeln!(rest, "{id} {id} 1");
        let length = 32 - rest.len();
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The numbers of the calling process and its parent as the world outside counts them, for a child in a new namespace:
/// `/proc` is still that of outside. `None` where `/proc` is not mounted. System calls only.
pub(super) fn seen_from_outside() -> Option<(Pid, Pid)> {
    let mut buffer = [0; 128];
    let count = read_file(c"/proc/self/stat", &mut buffer).ok()?;
    let stat = buffer.get(..count)?;
    // The name before the parent's number is at most 15 bytes of anything, in brackets.
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    let parent = stat.get(end_of_name + 4..)?;
    Some((number(stat)?, number(parent)?))
}

/// The digits at the front.
fn number(text: &[u8]) -> Option<Pid> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let add = |sum: i32, digit: &u8| sum.checked_mul(10)?.checked_add(i32::from(digit & 0x0f));
    Pid::from_raw(digits.copied().try_fold(0, |sum, digit| add(sum, &digit))?)
}

fn read_file(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let fd = open_file(path, libc::O_RDONLY)?;
    // SAFETY: as many bytes as the buffer has.
    let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    let errno = last_errno();
    close_file(fd);
    usize::try_from(count).map_err(|_| errno)
}

fn write_file(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let fd = open_file(path, libc::O_WRONLY)?;
    // SAFETY: the bytes are readable for their whole length.
    let count = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    let errno = last_errno();
    close_file(fd);
    if usize::try_from(count) == Ok(text.len()) { Ok(()) } else { Err(errno) }
}

fn open_file(path: &CStr, flags: c_int) -> Result<c_int, Errno> {
    // SAFETY: a C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 { Err(last_errno()) } else { Ok(fd) }
}

fn close_file(fd: c_int) {
    // SAFETY: opened by the caller in this process, whose table of descriptors is its own.
    unsafe { libc::close(fd) };
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outside_is_here_outside_of_namespaces() {
        let parent = rustix::process::getppid();
        assert_eq!(seen_from_outside(), parent.map(|parent| (rustix::process::getpid(), parent)));
        assert_eq!(number(b"2147483648 "), None);
        assert_eq!(number(b" 1"), None);
    }

    #[test]
    fn the_largest_line_fits() {
        assert_eq!(MapLine::new(u32::MAX).as_bytes(), b"4294967295 4294967295 1\n");
    }
}
