//! What becomes of a task: an answer, or exactly one error that says who, what and why.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stokehold_protocol::{Data, Failure};

use super::{Death, Limit};

/// The end of a task, as the core gives it out.
pub(crate) type Outcome = Result<Answered, TaskError>;

/// An answer with where it came from.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The answer's data, unchecked.
    pub(crate) data: Data,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The worker's number.
    pub(crate) worker: usize,
    /// Its process id.
    pub(crate) pid: u32,
    /// The task's number; for several answers that of the first.
    pub(crate) task: u64,
    /// Which attempt was answered, from 1.
    pub(crate) attempt: u32,
    /// From the hand-out to the answer.
    pub(crate) elapsed: Duration,
}

/// Why a task has no answer. Every accepted task ends with its answer or with exactly one of these.
///
/// Its `Debug` is its text in brackets: that is what a `main` that returns an error prints.
#[derive(Clone)]
pub struct TaskError {
    /// Apart, so that a result that is good is not as large as the story of a bad one.
    pub(crate) details: Box<Details>,
}

/// What is known of the end of a task without an answer.
#[derive(Clone)]
pub(crate) struct Details {
    pub(crate) kind: TaskErrorKind,
    pub(crate) task: u64,
    pub(crate) attempt: u32,
    pub(crate) worker: Option<usize>,
    pub(crate) pid: Option<u32>,
    pub(crate) detail: String,
    pub(crate) failure: Option<Box<Failure>>,
    pub(crate) death: Option<Arc<Death>>,
    pub(crate) attempts: Vec<Attempt>,
    /// It is not tried again only because results of its stream were handed out.
    pub(crate) shown: bool,
}

/// How one attempt of a task ended without an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The worker's number.
    pub worker: usize,
    /// Its process id.
    pub pid: u32,
    /// From the hand-out to its end.
    pub elapsed: Duration,
    /// How it ended.
    pub end: AttemptEnd,
}

/// See [`Attempt::end`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// The worker died doing it, or was ended because it took too long.
    Died(Arc<Death>),
    /// The worker said that it failed.
    Failed {
        /// The failure's code.
        code: Arc<str>,
        /// The failure's message.
        message: Arc<str>,
    },
    /// It was stopped in time by the worker when it took too long.
    TimedOut {
        /// Which limit it passed.
        limit: Limit,
    },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "attempt {} in worker {} (pid {}), after {:.1?}: ",
            self.number, self.worker, self.pid, self.elapsed
        )?;
        match &self.end {
            AttemptEnd::Died(death) => write!(f, "{death}"),
            AttemptEnd::Failed { code, message } => write!(f, "{message} [{code}]"),
            AttemptEnd::TimedOut { limit } => write!(f, "took too long {limit}"),
        }
    }
}

/// The ways a task can end without an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// The pool broke: its workers cannot be kept alive.
    Broken,
    /// It was cancelled.
    Cancelled {
        /// Whether a worker may have run it, wholly or in part.
        may_have_run: bool,
    },
    /// The pool was shut down before it was done.
    Closed,
    /// Workers died doing it, as often as its policy allows.
    Dead,
    /// The answer is not of the type that was asked for.
    Decode,
    /// The input cannot be written as data, so that no worker ever saw it.
    Encode,
    /// The worker says that it failed: [`TaskError::code`] and [`TaskError::chain`] tell how.
    Failed,
    /// A worker died while it may have been running, and its policy forbids a second run.
    Lost,
    /// It was not let in, and no worker ever saw it.
    Refused,
    /// It took longer than its policy allows, and was stopped.
    TimedOut {
        /// The limit that it passed at last.
        limit: Limit,
        /// Whether a worker may have run it, wholly or in part.
        may_have_run: bool,
    },
}

impl TaskError {
    pub(crate) fn new(kind: TaskErrorKind, task: u64, detail: impl Into<String>) -> Self {
        let details = Details {
            kind,
            task,
            attempt: 0,
            worker: None,
            pid: None,
            detail: detail.into(),
            failure: None,
            death: None,
            attempts: Vec::new(),
            shown: false,
        };
        Self { details: Box::new(details) }
    }

    /// How its attempts ended, oldest first: those that a worker may have begun. Empty for a task that ended at its first
    /// failure without another try.
    pub fn attempts(&self) -> &[Attempt] {
        &self.details.attempts
    }

    /// Which of the ways.
    pub fn kind(&self) -> TaskErrorKind {
        self.details.kind
    }

    /// The task's number: tasks of a pool are counted from 1 in the order of submission.
    pub fn task(&self) -> u64 {
        self.details.task
    }

    /// Which attempt ended so, from 1; 0 if it was never handed to a worker.
    pub fn attempt(&self) -> u32 {
        self.details.attempt
    }

    /// The worker that had it last, by slot.
    pub fn worker(&self) -> Option<usize> {
        self.details.worker
    }

    /// That worker's process id.
    pub fn pid(&self) -> Option<u32> {
        self.details.pid
    }

    /// How that worker died, if it did.
    pub fn death(&self) -> Option<&Death> {
        self.details.death.as_deref()
    }

    /// The exit code of the worker that died.
    pub fn exit_code(&self) -> Option<i32> {
        self.details.death.as_ref().and_then(|death| death.code())
    }

    /// The signal that ended the worker.
    pub fn signal(&self) -> Option<i32> {
        self.details.death.as_ref().and_then(|death| death.signal())
    }

    /// The last lines that the worker which died wrote to stderr.
    pub fn stderr_tail(&self) -> &str {
        self.details.death.as_ref().map_or("", |death| &death.stderr_tail)
    }

    /// The code of a failure, as the worker gave it ("error", "bad_data", "acme.no_such_user"), or the matching one of the
    /// protocol for what the parent decided.
    pub fn code(&self) -> &str {
        use stokehold_protocol::code;
        match (self.details.kind, &self.details.failure) {
            (TaskErrorKind::Failed, Some(failure)) => &failure.code,
            (TaskErrorKind::Failed, None) => code::ERROR,
            (TaskErrorKind::Cancelled { .. }, _) => code::CANCELLED,
            (TaskErrorKind::Dead, _) => code::CRASHED,
            (TaskErrorKind::Decode | TaskErrorKind::Encode, _) => code::BAD_DATA,
            (TaskErrorKind::Lost, _) => code::LOST,
            (TaskErrorKind::TimedOut { .. }, _) => code::TIMEOUT,
            (TaskErrorKind::Broken | TaskErrorKind::Closed | TaskErrorKind::Refused, _) => code::UNAVAILABLE,
        }
    }

    /// What the worker said of its failure, or what happened, without the names around it.
    pub fn message(&self) -> &str {
        self.details.failure.as_ref().map_or(&self.details.detail, |failure| &failure.message)
    }

    /// The causes behind a failure's message, outermost first.
    pub fn chain(&self) -> &[String] {
        self.details.failure.as_ref().map_or(&[], |failure| &failure.chain)
    }

    /// The worker's backtrace or stack trace.
    pub fn backtrace(&self) -> Option<&str> {
        self.details.failure.as_ref().and_then(|failure| failure.trace.as_deref())
    }

    /// What the worker sent with its failure, for programs.
    ///
    /// ```
    /// # fn look(error: &stokehold::TaskError) -> Result<(), stokehold::BadData> {
    /// if let ("acme.no_such_page", Some(data)) = (error.code(), error.data()) {
    ///     let (number, pages): (u32, u32) = data.decode()?;
    ///     println!("page {number} of {pages}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn data(&self) -> Option<Data> {
        self.details.failure.as_ref().and_then(|failure| failure.data.clone()).map(Data::from_peer)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.details.task {
            0 => f.write_str("a job")?,
            number => write!(f, "task {number}")?,
        }
        match self.details.kind {
            TaskErrorKind::Broken => {
                write!(f, " has no answer, because the pool broke: {}", self.details.detail)
            }
            TaskErrorKind::Cancelled { may_have_run: false } => f.write_str(" was cancelled before it began"),
            TaskErrorKind::Cancelled { may_have_run: true } => {
                f.write_str(" was cancelled; a worker may have run it in part")
            }
            TaskErrorKind::Closed => f.write_str(" has no answer, because the pool was shut down"),
            TaskErrorKind::Decode => {
                write!(f, " was answered, but with something else: {}", self.details.detail)
            }
            TaskErrorKind::Encode | TaskErrorKind::Refused => {
                write!(f, " could not be sent: {}", self.details.detail)
            }
            TaskErrorKind::Failed => {
                if let (Some(worker), Some(pid)) = (self.details.worker, self.details.pid) {
                    write!(f, " failed in worker {worker} (pid {pid})")?;
                } else {
                    f.write_str(" failed")?;
                }
                if self.details.attempt > 1 {
                    write!(f, ", attempt {}", self.details.attempt)?;
                }
                write!(f, ": {}", self.message())?;
                if self.code() != stokehold_protocol::code::ERROR {
                    write!(f, " [{}]", self.code())?;
                }
                for cause in self.chain() {
                    write!(f, ": {cause}")?;
                }
                Ok(())
            }
            TaskErrorKind::Dead => {
                match self.deaths() {
                    0 | 1 => f.write_str(" killed its worker, or died with it: ")?,
                    times => write!(f, " killed its worker, or died with it, {times} times; the last time ")?,
                }
                self.write_death(f)?;
                match self.details.shown {
                    true => f.write_str("; results of it were handed out, so it is not tried again (see Policy::restart_stream)"),
                    false => Ok(()),
                }
            }
            TaskErrorKind::TimedOut { limit, may_have_run } => {
                write!(f, " took too long {limit}")?;
                match (self.details.attempt, may_have_run) {
                    (_, false) => f.write_str(" and never began")?,
                    (0 | 1, true) => {}
                    (last, true) => write!(f, ", the last time in attempt {last}")?,
                }
                if !self.details.detail.is_empty() {
                    write!(f, ": {}", self.details.detail)?;
                }
                Ok(())
            }
            TaskErrorKind::Lost => {
                f.write_str(" may or may not have run, and may run only once: ")?;
                self.write_death(f)
            }
        }
    }
}

impl TaskError {
    /// How many workers died doing it, as far as that was kept.
    fn deaths(&self) -> u32 {
        let died =
            self.details.attempts.iter().filter(|attempt| matches!(attempt.end, AttemptEnd::Died(_))).count();
        if died == 0 { self.details.attempt } else { u32::try_from(died).unwrap_or(u32::MAX) }
    }

    fn write_death(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details.death {
            Some(death) => write!(f, "{death}"),
            None => f.write_str(&self.details.detail),
        }
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskError({:?}: {self})", self.details.kind)
    }
}

impl std::error::Error for TaskError {}
