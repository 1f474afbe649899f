//! What the core wants done, and what it tells.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::source::Source;
use super::{Body, Death, Origin, Policy, TaskError, TaskKey};

/// What the caller keeps for a task, or for several of one source that follow each other. The core gives it back with the
/// outcome and never looks into it. No method may block or run a user's code.
pub(crate) trait Ticket: Sized {
    /// The task is in the table under that key. Not told of tasks of a source.
    fn accepted(&self, key: TaskKey);
    /// The source that it is of, if it is of one.
    fn source(&self) -> Option<&Source>;
    /// Takes the first `count` of several tasks out of it, into a ticket of their own.
    fn split_front(&mut self, count: u32) -> Self;
    /// The task is handed to a worker now.
    fn delivered(&self, worker: usize, pid: u32, attempt: u32);
    /// Whether somebody may still ask for the outcome. A task that nobody wants is not handed out.
    fn is_wanted(&self) -> bool;
    /// One of the task's results.
    fn item(&self, attempt: u32, data: &[u8]) -> ItemFate;
    /// The task is tried again although results were handed out.
    fn restarted(&self, attempt: u32);
}

/// Where answers go, as they are read. No method may block or run a user's code.
pub(crate) trait Answers<T> {
    /// The tasks of `ticket` are answered; it is not used again. `body` is what they were sent in: memory that may be taken for the
    /// answer, and is used again if it is not.
    fn answered(&mut self, ticket: &mut T, answer: Answer<'_>, body: &mut Body);
}

/// An answer as it lies in the buffer that it was read into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// What was answered.
    pub(crate) value: Value<'a>,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// See [`Answer::value`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// So many values, in the form that [`GoodResults`](stokehold_protocol::GoodResults) reads.
    Many(u32, &'a [u8]),
    /// One value, unchecked.
    One(&'a [u8]),
}

/// What became of one of a task's results.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ItemFate {
    /// It is there, and there is room for more.
    Taken,
    /// It is there, and no more should come until there is room: the caller says so by `Supervisor::resume`.
    Full,
    /// Nobody asked for it.
    Unwanted,
}

/// A decision for the driver to carry out. Every one of them is answered by a `handle_*` sooner or later, except
/// [`Bury`](Self::Bury), [`Fail`](Self::Fail) and [`Notice`](Self::Notice).
#[derive(Debug)]
pub(crate) enum Action<T> {
    /// Put a task that could not be done where the user finds it. Its outcome is another action.
    Bury(Box<DeadLetter>),
    /// Close the worker's input once its outbox is empty: the end of its work.
    CloseInput {
        /// Which worker.
        slot: usize,
    },
    /// Tell whoever waits for a task that it has no answer.
    Fail {
        /// Whose it is.
        ticket: T,
        /// How it ended.
        error: TaskError,
    },
    /// SIGKILL to the worker's group.
    Kill {
        /// Which worker.
        slot: usize,
    },
    /// Tell whoever listens.
    Notice(Event),
    /// Read nothing of that worker until [`ResumeReading`](Self::ResumeReading).
    PauseReading {
        /// Which worker.
        slot: usize,
    },
    /// Read that worker again.
    ResumeReading {
        /// Which worker.
        slot: usize,
    },
    /// See how much memory it has; answered by `handle_memory`.
    Sample {
        /// Which worker.
        slot: usize,
    },
    /// Start the worker's process; answered by `handle_spawned` or `handle_spawn_failed`.
    Spawn {
        /// Which slot.
        slot: usize,
        /// The worker's number, as it is told and shown.
        worker: usize,
    },
    /// SIGTERM and SIGCONT to the worker's group.
    Terminate {
        /// Which worker.
        slot: usize,
    },
}

/// Something that happened in a pool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The pool broke: its workers cannot be kept alive, and every task is answered so.
    Broken(Arc<Death>),
    /// A task could not be done and lies with the dead letters.
    DeadLettered {
        /// Its number.
        task: u64,
        /// Why.
        error: Arc<TaskError>,
    },
    /// A worker gives a task's results one by one, and nobody takes them: the task was not submitted as a stream, or its stream
    /// was dropped. They are dropped too. Told once for each process.
    ItemsUnwanted {
        /// The first such task's number.
        task: u64,
        /// The worker's number.
        worker: usize,
        /// Its process id.
        pid: u32,
    },
    /// A worker said something for the log.
    Log {
        /// Its number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// The task it was about, if it was.
        task: Option<u64>,
        /// How important, by the worker's word: `trace`, `debug`, `info`, `warn`, `error`, or another, at most 32 bytes.
        level: String,
        /// What, at most 64 KiB.
        message: String,
    },
    /// A worker told how far a task is.
    Progress {
        /// The task's number.
        task: u64,
        /// The worker's number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// How much is done.
        done: Option<f64>,
        /// Of how much.
        total: Option<f64>,
        /// What it is at, at most 64 KiB.
        note: Option<String>,
    },
    /// A worker wrote a line to stderr.
    Stderr {
        /// Its number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// The line without its end, lossily as UTF-8, at most 8 KiB.
        line: String,
    },
    /// An attempt passed its soft time limit.
    TaskOverdue {
        /// The task's number.
        task: u64,
        /// The worker's number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// The attempt.
        attempt: u32,
        /// The limit that passed.
        limit: Duration,
    },
    /// A task goes back into the queue.
    TaskRetried {
        /// Its number.
        task: u64,
        /// The attempt that ended.
        attempt: u32,
        /// How its worker died, if it did.
        death: Option<Arc<Death>>,
        /// How long it waits before it may run again.
        pause: Duration,
    },
    /// A task was handed to a worker. Told only by a pool with [`task_events`](crate::PoolBuilder::task_events).
    TaskStarted {
        /// Its number.
        task: u64,
        /// The worker's number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// Which attempt it is, from 1.
        attempt: u32,
    },
    /// A worker ended without being told to.
    WorkerDied(Arc<Death>),
    /// A worker ended so often that no other is started in its place.
    WorkerGivenUp(Arc<Death>),
    /// A worker can take tasks.
    WorkerReady {
        /// Its number.
        worker: usize,
        /// Its process id.
        pid: u32,
    },
    /// A worker is told to end, for a reason that is no fault.
    WorkerRetired {
        /// Its number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// Why.
        why: Retirement,
    },
    /// A worker's process was started.
    WorkerStarted {
        /// Its number.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// How many processes had that number before.
        restarts: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(death) => write!(f, "the pool broke: {death}"),
            Self::DeadLettered { error, .. } => write!(f, "dead letter: {error}"),
            Self::ItemsUnwanted { task, worker, pid } => write!(
                f,
                "worker {worker} (pid {pid}) gives results of task {task} one by one, and nobody takes them"
            ),
            Self::Log { worker, pid, task, level, message } => {
                write!(f, "worker {worker} (pid {pid}) says")?;
                if let Some(task) = task {
                    write!(f, " of task {task}")?;
                }
                write!(f, ": {level}: {message}")
            }
            Self::Progress { task, worker, done, total, note, .. } => {
                write!(f, "task {task} in worker {worker} goes on")?;
                match (done, total) {
                    (Some(done), Some(total)) => write!(f, ": {done} of {total}")?,
                    (Some(done), None) => write!(f, ": {done}")?,
                    (None, _) => {}
                }
                note.as_ref().map_or(Ok(()), |note| write!(f, ": {note}"))
            }
            Self::Stderr { worker, pid, line } => write!(f, "worker {worker} (pid {pid}) wrote: {line}"),
            Self::TaskOverdue { task, worker, pid, attempt, limit } => write!(
                f,
                "task {task} is overdue in worker {worker} (pid {pid}), attempt {attempt}: no sign of progress for {limit:?}"
            ),
            Self::TaskRetried { task, attempt, death, pause } => {
                write!(f, "task {task} is tried again after attempt {attempt}")?;
                if !pause.is_zero() {
                    write!(f, ", in {pause:.1?}")?;
                }
                death.as_ref().map_or(Ok(()), |death| write!(f, ": {death}"))
            }
            Self::TaskStarted { task, worker, pid, attempt } => {
                write!(f, "task {task} is with worker {worker} (pid {pid}), attempt {attempt}")
            }
            Self::WorkerDied(death) => write!(f, "{death}"),
            Self::WorkerGivenUp(death) => {
                write!(f, "worker {} is not started again: {death}", death.worker)
            }
            Self::WorkerReady { worker, pid } => write!(f, "worker {worker} (pid {pid}) is ready"),
            Self::WorkerRetired { worker, pid, why } => {
                write!(f, "worker {worker} (pid {pid}) is let go: {why}")
            }
            Self::WorkerStarted { worker, pid, restarts: 0 } => {
                write!(f, "worker {worker} (pid {pid}) was started")
            }
            Self::WorkerStarted { worker, pid, restarts } => {
                write!(f, "worker {worker} (pid {pid}) was started, after {restarts} before it")
            }
        }
    }
}

impl fmt::Display for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Age => "it lived long enough",
            Self::Idle => "it had nothing to do",
            Self::Memory => "it grew too large",
            Self::Resized => "the pool was made smaller",
            Self::Tasks => "it did enough tasks",
        })
    }
}

/// Why a worker that did nothing wrong is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Retirement {
    /// It lived long enough.
    Age,
    /// It had nothing to do, and there are more workers than the minimum.
    Idle,
    /// It grew too large.
    Memory,
    /// The pool was made smaller.
    Resized,
    /// It did enough tasks.
    Tasks,
}

/// A task that could not be done, with everything that is known of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number.
    pub task: u64,
    /// The request's name and the input, encoded as they were sent.
    pub(crate) body: Vec<u8>,
    /// How it was treated.
    pub(crate) policy: Policy,
    /// Why, with the end of every attempt ([`TaskError::attempts`]).
    pub error: Arc<TaskError>,
}
