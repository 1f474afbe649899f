//! The death certificate: how one worker ended, in one value that prints as one text.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use stokehold_protocol::PeerError;

/// How one worker ended.
#[derive(Clone, Debug)]
pub struct Death {
    /// The worker's slot, from 0.
    pub worker: usize,
    /// Its process id; `None` if it never started.
    pub pid: Option<u32>,
    /// The program, as it was asked for.
    pub program: Arc<str>,
    /// What ended it, or made the parent end it.
    pub cause: Cause,
    /// What the system said of its end; `None` if it never started or somebody else reaped it.
    pub status: Option<ExitStatus>,
    /// Whether it had said READY.
    pub was_ready: bool,
    /// The last lines it wrote to stderr, at most 4 KiB.
    pub stderr_tail: Arc<str>,
}

/// What ended a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It closed its output and lived on, so that no answer can come any more.
    ClosedOutput,
    /// It closed its input and lived on, so that no task can reach it any more.
    ClosedInput,
    /// It exited by itself, with a code or by a signal that the parent did not send.
    Exited,
    /// It did not say HELLO in time.
    HelloTimeout(Duration),
    /// It broke the protocol, or speaks another.
    Protocol(Arc<PeerError>),
    /// It did not say READY in time.
    ReadyTimeout(Duration),
    /// It said BYE and lived on.
    SaidBye,
    /// The parent ended it: shutdown, or the pool was dropped.
    Stopped,
    /// It could not be started.
    Spawn {
        /// What kind of failure, such as `NotFound` or `PermissionDenied`.
        kind: std::io::ErrorKind,
        /// The step that failed and why.
        message: Arc<str>,
    },
}

impl Death {
    /// The exit code, if it exited by itself.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.and_then(|status| status.signal())
    }

    /// "worker 3 (pid 4711, python3)".
    fn who(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.worker)?;
        match self.pid {
            Some(pid) => write!(f, " (pid {pid}, {})", self.program),
            None => write!(f, " ({})", self.program),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who(f)?;
        let before = if self.was_ready { "" } else { " before it was ready" };
        match &self.cause {
            Cause::ClosedOutput => f.write_str(" closed its output and lived on, so it was killed")?,
            Cause::ClosedInput => f.write_str(" closed its input and lived on, so it was killed")?,
            Cause::Exited => write!(f, " {}{before}", Status(self.status))?,
            Cause::HelloTimeout(limit) => write!(
                f,
                " said no HELLO within {limit:?}: it does not speak the protocol, or something before its SDK takes too long"
            )?,
            Cause::ReadyTimeout(limit) => {
                write!(f, " said HELLO but not READY within {limit:?}: its start takes too long")?
            }
            Cause::SaidBye => f.write_str(" said BYE and lived on, so it was killed")?,
            Cause::Protocol(error) => match error.as_ref() {
                PeerError::Frame(error) => write!(f, " wrote {error}{}", hint(error))?,
                error => write!(f, " broke the protocol: {error}")?,
            },
            Cause::Stopped => write!(f, " was stopped ({})", Status(self.status))?,
            Cause::Spawn { message, .. } => write!(f, " could not be started: {message}")?,
        }
        let tail = self.stderr_tail.trim_end();
        if !tail.is_empty() {
            write!(f, "; last lines on its stderr: {tail:?}")?;
        }
        Ok(())
    }
}

/// What to do about a stream that is not frames.
fn hint(error: &stokehold_protocol::FrameError) -> &'static str {
    match error {
        stokehold_protocol::FrameError::Desync { quote } if quote.looks_like_text() => {
            " (something printed to stdout: let the worker's SDK start first, or print to stderr)"
        }
        _ => "",
    }
}

/// An exit status in words.
struct Status(Option<ExitStatus>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.0 else {
            return f.write_str("ended, and somebody else took its exit status");
        };
        if let Some(code) = status.code() {
            return write!(f, "exited with code {code}");
        }
        let signal = status.signal().unwrap_or(0);
        match signal_name(signal) {
            Some(name) => write!(f, "was killed by {name}")?,
            None => write!(f, "was killed by signal {signal}")?,
        }
        if status.core_dumped() { f.write_str(" (core dumped)") } else { Ok(()) }
    }
}

/// The names of the signals that have the same number on every Linux this runs on.
fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 15] = [
        "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL",
        "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM",
    ];
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}
