//! What the core wants done, and what it tells.

use std::sync::Arc;

use super::{Death, Outcome};

/// What the caller keeps for a task. The core gives it back with the outcome and never looks into it.
pub(crate) trait Ticket {
    /// The task is handed to a worker now.
    fn delivered(&self, worker: usize, pid: u32, attempt: u32);
    /// Whether somebody may still ask for the outcome. A task that nobody wants is not handed out.
    fn is_wanted(&self) -> bool;
}

/// A decision for the driver to carry out. Every one of them is answered by a `handle_*` sooner or later, except
/// [`Complete`](Self::Complete) and [`Notice`](Self::Notice).
#[derive(Debug)]
pub(crate) enum Action<T> {
    /// Hand the end of a task to whoever waits for it.
    Complete {
        /// Whose it is.
        ticket: T,
        /// How it ended.
        outcome: Outcome,
        /// How many bytes of the queue it took.
        bytes: usize,
    },
    /// Close the worker's input once its outbox is empty: the end of its work.
    CloseInput {
        /// Which worker.
        slot: usize,
    },
    /// SIGKILL to the worker's group.
    Kill {
        /// Which worker.
        slot: usize,
    },
    /// Tell whoever listens.
    Notice(Event),
    /// Start the worker's process; answered by `handle_spawned` or `handle_spawn_failed`.
    Spawn {
        /// Which worker.
        slot: usize,
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
    /// A worker wrote a line to stderr.
    Stderr {
        /// Its slot.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// The line without its end, lossily as UTF-8, at most 8 KiB.
        line: String,
    },
    /// A task goes back into the queue, because its worker died or the worker asked for another try.
    TaskRetried {
        /// Its number.
        task: u64,
        /// The attempt that ended.
        attempt: u32,
        /// How its worker died, if it did.
        death: Option<Arc<Death>>,
    },
    /// A worker ended without being told to.
    WorkerDied(Arc<Death>),
    /// A worker can take tasks.
    WorkerReady {
        /// Its slot.
        worker: usize,
        /// Its process id.
        pid: u32,
    },
}
