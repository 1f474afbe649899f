//! The guardian: one small shell per parent process that knows the group of every child and, when the parent is gone,
//! kills what is left of them, and what carries a mark of the parent, and what is in its control groups, which it then
//! removes. It is what reaches grandchildren after a `kill -9` of the parent; direct children die
//! by their parent-death signal anyway. Decides nothing else, and holds no descriptor of ours but its own end.
//!
//! The link is a socket pair, not a pipe: a send can be told not to raise SIGPIPE, in the vfork child as in the host,
//! and the link can be shut down even while a forked copy of the host holds it open.
//!
//! Invariant: a group is unregistered before its leader is reaped, so the guardian never holds a number that the
//! system can give to somebody else. A registration that is lost (the guardian was killed) only loses its
//! protection, until the next start of a child brings a new guardian, which is told of everything (see `watch`). An unregistration that cannot be delivered (the guardian was stopped) would break the invariant, so
//! the guardian is then killed.
#![expect(unsafe_code, reason = "send with flags has no safe form in the enabled features of rustix")]

use std::ffi::{OsString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::command::{ChildIo, SpawnCommand};
use super::containment::Containment;
use super::leader::Leader;

/// Our end of the link, and the shell.
#[derive(Debug)]
pub(super) struct Guardian {
    link: UnixStream,
    shell: Leader,
    lost: AtomicBool,
}

impl Guardian {
    pub(super) fn new(link: UnixStream, shell: Leader) -> Self {
        Self { link, shell, lost: AtomicBool::new(false) }
    }

    /// Where a child registers itself.
    pub(super) fn link(&self) -> RawFd {
        self.link.as_raw_fd()
    }

    /// False once it was found dead or had to be killed.
    pub(super) fn is_there(&self) -> bool {
        !self.lost.load(Ordering::Acquire) && !self.shell.has_exited()
    }

    /// For a child that could not register itself because the link was full: many starts in a short time.
    pub(super) fn register_late(&self, group: Pid) {
        self.deliver(Line::new(b'+', group).as_bytes());
    }

    /// To be called before the leader of the group is reaped. Waits only for a guardian that has stopped reading.
    pub(super) fn unregister(&self, group: Pid) {
        self.deliver(Line::new(b'-', group).as_bytes());
    }

    pub(super) fn take_on(&self, duty: &Duty) {
        let (sign, rest) = match duty {
            Duty::Cgroup(directory) => (b'c', directory.as_os_str().as_bytes()),
            Duty::Marks(run) => (b'm', run.as_bytes()),
        };
        self.deliver(&[&[sign, b' '], rest, b"\n"].concat());
    }

    fn deliver(&self, line: &[u8]) {
        if self.lost.load(Ordering::Acquire) {
            return;
        }
        for _ in 0..SEND_ATTEMPTS {
            match send(self.link.as_raw_fd(), line) {
                Ok(()) => return,
                Err(Errno::AGAIN | Errno::INTR) => wait_writable(self.link.as_fd()),
                Err(_) => break,
            }
        }
        self.lost.store(true, Ordering::Release);
        self.shell.signal(Signal::KILL);
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> Pid {
        self.shell.pid()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // It sees the end of its input, has nobody left to kill, and exits.
        // An error means that it is gone already.
        let _ = self.link.shutdown(std::net::Shutdown::Both);
        if !self.shell.wait_exited(EXIT_GRACE) {
            self.shell.signal(Signal::KILL);
            self.shell.wait_exited(EXIT_GRACE);
        }
        self.shell.reap();
    }
}

/// What is to be done besides killing groups, if there is a group left when the parent is gone. A newer one of a kind
/// replaces the older.
#[derive(Debug)]
pub(super) enum Duty {
    /// Kill everybody in this control group and those below, and remove them. No newline in it.
    Cgroup(PathBuf),
    /// Kill everybody whose environment contains this text.
    Marks(String),
}

/// The two ends of a link: ours, and the guardian's standard input.
///
/// # Errors
/// Out of descriptors or memory.
pub(super) fn link() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours, theirs.into()))
}

/// The shell. Its environment is empty and its directory is `/`, so that it keeps nothing busy.
pub(super) fn shell_command() -> SpawnCommand {
    SpawnCommand {
        program: SHELL.into(),
        // Busybox goes by this name; the one that `ps` should show comes after the script.
        arg0: Some("sh".into()),
        args: ["-c", SCRIPT, "stokehold-guardian"].map(OsString::from).to_vec(),
        env: Vec::new(),
        cwd: Some(PathBuf::from("/")),
        io: ChildIo::Stdio,
        containment: Containment::Group,
    }
}

/// Called by the child itself between clone and `execve`: system calls only. Whether it was delivered; the parent
/// tries again if not.
pub(super) fn register(link: RawFd, group: Pid) -> bool {
    send(link, Line::new(b'+', group).as_bytes()).is_ok()
}

/// One line, whole or not at all: it is far smaller than what the socket takes in one piece.
fn send(link: RawFd, line: &[u8]) -> Result<(), Errno> {
    let flags: c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the bytes are readable for their whole length; the call keeps no pointer to them.
    let sent = unsafe { libc::send(link, line.as_ptr().cast(), line.len(), flags) };
    if sent >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

fn wait_writable(link: BorrowedFd<'_>) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: SEND_PATIENCE.subsec_nanos().into() };
    // However it ends, the caller tries again.
    let _ = poll(&mut [PollFd::new(&link, PollFlags::OUT)], Some(&timeout));
}

/// `+ PID\n` or `- PID\n`, written from the right without anything that could allocate or panic.
#[derive(Debug)]
struct Line {
    bytes: [u8; Self::CAPACITY],
    start: usize,
}

impl Line {
    /// Sign, space, ten digits, newline.
    const CAPACITY: usize = 13;

    fn new(sign: u8, group: Pid) -> Self {
        let mut line = Self { bytes: [b'\n'; Self::CAPACITY], start: Self::CAPACITY - 1 };
        let mut rest = group.as_raw_pid().unsigned_abs();
        while rest > 0 {
            line.push_front(b'0' | (rest % 10) as u8);
            rest /= 10;
        }
        line.push_front(b' ');
        line.push_front(sign);
        line
    }

    fn push_front(&mut self, byte: u8) {
        self.start = self.start.saturating_sub(1);
        if let Some(place) = self.bytes.get_mut(self.start) {
            *place = byte;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

const SHELL: &str = "/bin/sh";

/// Groups need builtins and parameter expansion only: no program is started, and any POSIX shell will do. `g` is the set
/// of groups, each between two spaces. Marks need `grep`, the removal of control groups `rmdir`; where these are not, it
/// is not done. (Killing by control group needs nothing.) Whatever ends the parent's session must not end the
/// guardian, hence the trap. The test of the number is a last guard: "kill -1" would reach everything.
///
/// Marked processes can start others while they are being looked for, hence the rounds, with an end for a fork bomb.
pub(super) const SCRIPT: &str = r#"trap '' INT TERM HUP QUIT TSTP
PATH=/usr/bin:/bin:/usr/sbin:/sbin
g=' ' c='' m='' n=0
while read -r sign p; do
  case $sign in c) c=$p ;; m) m=$p ;; esac
  case $p in ''|0|1|*[!0-9]*) continue ;; esac
  case $sign in
    +) g="$g$p " ;;
    -) case $g in *" $p "*) g="${g%% $p *} ${g#* $p }" ;; esac ;;
  esac
done
[ "$g" = ' ' ] && m=''
[ -n "$c" ] && echo 1 > "$c/cgroup.kill"
for p in $g; do kill -s KILL -- "-$p"; done
while [ -n "$m" ] && [ $n -lt 100 ]; do
  f=$(grep -lsF -e "$m" /proc/[0-9]*/environ)
  [ -n "$f" ] || break
  for p in $f; do p=${p#/proc/}; kill -s KILL "${p%/environ}"; done
  n=$((n + 1))
done
n=0
while [ -n "$c" ] && [ $n -lt 100 ] && [ -d "$c" ]; do
  rmdir "$c"/*/ "$c" || sleep 0.02
  n=$((n + 1))
done
exit 0
"#;

/// It needs a millisecond; this is for a machine that is busy.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// A reading guardian makes room within microseconds.
const SEND_PATIENCE: Duration = Duration::from_millis(250);
const SEND_ATTEMPTS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sign_number_newline() {
        let largest = Pid::from_raw(i32::MAX).unwrap();
        assert_eq!(Line::new(b'+', largest).as_bytes(), b"+ 2147483647\n");
        assert_eq!(Line::new(b'-', Pid::from_raw(10).unwrap()).as_bytes(), b"- 10\n");
    }
}
