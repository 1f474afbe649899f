//! The death certificate: how one worker ended, in one value that prints as one text.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use stokehold_protocol::PeerError;

use super::Rung;

mod explain;

use explain::Explained;

/// How one worker ended: its death certificate. `Display` is one line; [`explain`](Self::explain) tells everything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Death {
    /// The worker's number, from 0.
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
    /// What it was at.
    pub state: WorkerState,
    /// For how long it had been at that.
    pub in_state: Duration,
    /// How long its process lived.
    pub lifetime: Duration,
    /// How many tasks it had answered.
    pub answered: u64,
    /// How many tasks it had and did not answer.
    pub unanswered: u32,
    /// The number of the task it was doing, when that is known for sure.
    pub task: Option<u64>,
    /// Which attempt of that task it was.
    pub attempt: Option<u32>,
    /// The hardest means that the parent used against it.
    pub rung: Rung,
    /// Whether the kernel ended it for want of memory; `None` if that cannot be told.
    pub out_of_memory: Option<bool>,
    /// The most memory it was seen to have, in bytes (the peak of its resident set). It is looked at four times a second while
    /// it works, so a life shorter than that has none.
    pub peak_memory: Option<u64>,
    /// The processor time it used, with that of the children it waited for.
    pub cpu: Option<CpuTime>,
}

/// What a worker is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WorkerState {
    /// There is no process yet.
    Starting,
    /// It has not said READY.
    Loading,
    /// It has nothing to do.
    Idle,
    /// It has tasks.
    Busy,
    /// It was told to end.
    Ending,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuTime {
    /// In its own code.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// What the system tells of a process that ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remains {
    /// Its exit status; `None` if somebody else took it.
    pub(crate) status: Option<ExitStatus>,
    /// Its processor time.
    pub(crate) cpu: Option<CpuTime>,
    /// Whether it was ended for want of memory, if that can be told.
    pub(crate) out_of_memory: Option<bool>,
    /// Of what was written to it, so many bytes at the end never reached it.
    pub(crate) unread: u64,
}

/// What ended a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It closed its output and lived on, so that no answer can come any more.
    ClosedOutput,
    /// It closed its input and lived on, so that no task can reach it any more.
    ClosedInput,
    /// A task was cancelled and it did not stop doing it.
    CancelIgnored {
        /// The task's number.
        task: u64,
    },
    /// It exited by itself, with a code or by a signal that the parent did not send.
    Exited,
    /// A task took too long.
    Overran {
        /// The task's number.
        task: u64,
        /// Which limit it passed.
        limit: Limit,
        /// How long that is.
        after: Duration,
    },
    /// It did not say HELLO in time.
    HelloTimeout(Duration),
    /// It broke the protocol, or speaks another.
    Protocol(Arc<PeerError>),
    /// It did not say READY in time.
    ReadyTimeout(Duration),
    /// It said BYE and lived on.
    SaidBye,
    /// It had tasks and gave no sign of life for so long, though it was asked.
    Silent(Duration),
    /// It began a frame and wrote no more of it for so long.
    SlowFrame(Duration),
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

/// A limit of time that a task can pass.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Limit {
    /// Of one attempt ([`Policy::timeout`](crate::Policy::timeout)).
    Attempt,
    /// Between two signs of progress ([`Policy::soft_timeout`](crate::Policy::soft_timeout)).
    Soft,
    /// Of how long the results of its stream may lie there untaken.
    Stream,
    /// Of all attempts together ([`Policy::total_timeout`](crate::Policy::total_timeout)).
    Total,
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

    /// Everything that is known, as a text of several lines: what happened, the likely cause, what to do.
    ///
    /// ```
    /// # fn show(death: &stokehold::Death) {
    /// eprintln!("{}", death.explain());
    /// # }
    /// ```
    pub fn explain(&self) -> impl fmt::Display + '_ {
        Explained(self)
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
            Cause::Exited => {
                write!(f, " {}{before}", Status(self.status))?;
                if let Some(task) = self.task {
                    write!(f, " while doing task {task}")?;
                }
                if self.out_of_memory == Some(true) {
                    f.write_str(" (out of memory)")?;
                }
            }
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
            Cause::CancelIgnored { task } => {
                write!(f, " did not stop doing task {task}, which was cancelled, so it was ended")?;
            }
            Cause::Overran { task, limit, after } => {
                write!(f, " was ended, because task {task} took longer than {after:?} {limit}")?;
            }
            Cause::Silent(limit) => write!(
                f,
                " gave no sign of life for {limit:?} with tasks in hand, so it was killed (is it stopped, or starved?)"
            )?,
            Cause::SlowFrame(limit) => {
                write!(f, " began a frame and wrote no more of it for {limit:?}, so it was killed")?;
            }
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

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempt => "in one attempt",
            Self::Soft => "without a sign of progress",
            Self::Stream => "for somebody to take its results",
            Self::Total => "in all",
        })
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Ending => "ending",
        })
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
