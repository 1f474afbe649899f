//! The one task table, and the queue in front of the workers.
//!
//! The core reaches it through [`Store`] only: push, pull against free credit, finish, release, bury. A task is in the table
//! from the moment it is accepted until its outcome is given out, and its body stays with it for another attempt. Tasks that
//! came together as a [`Run`] become entries of the table when they are handed out, several as one if they go in one frame.

use std::time::Instant;

use super::Body;

mod line;
mod memory;
mod run;
mod task;

pub(crate) use memory::MemoryStore;
pub(crate) use run::{Run, RunBuffers};
pub(crate) use task::{NewTask, Stop, Task};

/// Names a task of the table. A key whose task is gone is recognised as such.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct TaskKey {
    index: u32,
    generation: u32,
}

impl TaskKey {
    /// As one number, for keeping it in an atomic.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// Back from [`to_bits`](Self::to_bits).
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are taken apart")]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { index: (bits >> 32) as u32, generation: bits as u32 }
    }
}

/// How a task that was handed out comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    /// To the front of the queue.
    Again,
    /// Not before that time.
    Later(Instant),
    /// To the front of those that run with nothing else in their worker's window, until it is known who is to blame.
    Alone,
    /// The same, not before that time.
    AloneLater(Instant),
}

impl Release {
    /// The same, but not before that time.
    pub(crate) fn not_before(self, at: Instant) -> Self {
        match self {
            Self::Again | Self::Later(_) => Self::Later(at),
            Self::Alone | Self::AloneLater(_) => Self::AloneLater(at),
        }
    }
}

/// Bytes of inputs in one frame, at most: with its head within the smallest `max_frame` that there is, and within what a pipe
/// takes at once.
pub(crate) const BATCH_BYTES: usize = 62 * 1024;

/// Which tasks a worker may be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pull {
    /// One of those that must run alone: the worker is idle.
    Alone,
    /// The first of the queue, unless it must not run twice: the worker has others, and those go alone.
    Company,
    /// The first of the queue: the worker is idle.
    First,
}

/// The boundary between the decisions and the place where tasks wait.
pub(crate) trait Store<T> {
    /// Accepts a task at the back of the queue.
    fn push(&mut self, task: NewTask<T>) -> TaskKey;
    /// Accepts many tasks of one source at the back of the queue.
    fn push_run(&mut self, run: Run<T>);
    /// The ticket of the task, or of the run, that [`pull`](Self::pull) would take next of the queue.
    fn peek_ticket(&mut self) -> Option<&T>;
    /// Takes the next waiting task, or of a run up to `most` tasks with `bytes` of inputs. It stays in the table, handed out.
    fn pull(&mut self, which: Pull, most: u32, bytes: usize) -> Option<TaskKey>;
    /// Makes an entry of its own of each task of one that was handed out, those whose results were given left out. They are as
    /// handed out as it was. Gives them in order, and how many bytes of the queue are free without the results given before.
    fn split(&mut self, key: TaskKey) -> (Vec<TaskKey>, usize);
    /// Puts a task into the table as one that was handed out, like the one that it was part of.
    fn insert_held(&mut self, task: NewTask<T>, like: &Task<T>) -> Option<TaskKey>;
    /// Memory of bodies that is needed no more, to be used again.
    fn recycle(&mut self, body: Body);
    /// Whether a task is in the table and no worker holds it.
    fn is_waiting(&self, key: TaskKey) -> bool;
    /// A task that is in the table.
    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task<T>>;
    /// Removes a task for good: it is answered, or dead, or cancelled.
    fn finish(&mut self, key: TaskKey) -> Option<Task<T>>;
    /// The same for one that was handed out and has given away what it had, in its place.
    fn clear(&mut self, key: TaskKey);
    /// Gives a task that was handed out back to the queue.
    fn release(&mut self, key: TaskKey, how: Release);
    /// Takes a task that was handed out out of its place, which stays its own until it is put back.
    fn lend(&mut self, key: TaskKey) -> Option<Task<T>>;
    /// Puts a task back into its place; the results of `given` more of it were given meanwhile.
    fn take_back(&mut self, key: TaskKey, task: Task<T>, given: u32);
    /// Puts a task that was finished into the table again, as one that is handed out.
    fn hold(&mut self, task: Task<T>) -> Option<TaskKey>;
    /// Every task that waits, by number, for a pool that ends.
    fn take_waiting(&mut self) -> Vec<TaskKey>;
    /// Tasks whose pause is over join the queue.
    fn wake(&mut self, now: Instant);
    /// When the next pause is over.
    fn next_wake(&self) -> Option<Instant>;
    /// How many tasks wait for a worker now, without those that pause.
    fn waiting(&self) -> usize;
    /// How many of them must run alone.
    fn waiting_alone(&self) -> usize;
    /// How many pause.
    fn pausing(&self) -> usize;
    /// How many tasks are in the table.
    fn len(&self) -> usize;
}

#[cfg(test)]
mod tests;
