//! The one task table, and the queue in front of the workers.
//!
//! The core reaches it through [`Store`] only: push, pull against free credit, finish, release, bury. A task is in the table
//! from the moment it is accepted until its outcome is given out, and its body stays with it for another attempt.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use super::Policy;

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

/// A task to be accepted.
#[derive(Debug)]
pub(crate) struct NewTask<T> {
    /// Given back with the outcome.
    pub(crate) ticket: T,
    /// Its number, for people.
    pub(crate) number: u64,
    /// Head and data, encoded.
    pub(crate) body: Vec<u8>,
    /// How it is treated.
    pub(crate) policy: Policy,
}

/// A task of the table.
#[derive(Debug)]
pub(crate) struct Task<T> {
    /// Given back with the outcome.
    pub(crate) ticket: T,
    /// Its number, for people.
    pub(crate) number: u64,
    /// Head and data, encoded.
    pub(crate) body: Vec<u8>,
    /// How it is treated.
    pub(crate) policy: Policy,
    /// How many runs may have begun.
    pub(crate) attempts: u32,
    /// How many workers died by its fault, or asked for another try.
    pub(crate) lives_used: u32,
    /// How often it was handed out.
    pub(crate) deliveries: u32,
    /// When it was handed out last.
    pub(crate) sent_at: Option<Instant>,
}

/// How a task that was handed out comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    /// To the front of the queue.
    Again,
    /// Not before that time.
    Later(Instant),
    /// To be run with nothing else in its worker's window, until it is known who is to blame.
    Alone,
}

/// Which tasks a worker may be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pull {
    /// One of those that must run alone: the worker is idle.
    Alone,
    /// An ordinary one.
    Ordinary,
}

/// The boundary between the decisions and the place where tasks wait.
pub(crate) trait Store<T> {
    /// Accepts a task at the back of the queue.
    fn push(&mut self, task: NewTask<T>) -> TaskKey;
    /// Takes the next waiting task. It stays in the table, handed out.
    fn pull(&mut self, which: Pull) -> Option<TaskKey>;
    /// Whether a task is in the table and no worker holds it.
    fn is_waiting(&self, key: TaskKey) -> bool;
    /// A task that is in the table.
    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task<T>>;
    /// Removes a task for good: it is answered, or dead, or cancelled.
    fn finish(&mut self, key: TaskKey) -> Option<Task<T>>;
    /// Gives a task that was handed out back to the queue.
    fn release(&mut self, key: TaskKey, how: Release);
    /// Removes every task that waits, for a pool that ends.
    fn bury_waiting(&mut self) -> Vec<Task<T>>;
    /// Tasks whose pause is over join the queue.
    fn wake(&mut self, now: Instant);
    /// When the next pause is over.
    fn next_wake(&self) -> Option<Instant>;
    /// How many tasks wait for a worker now, without those that pause.
    fn waiting(&self) -> usize;
    /// How many of them must run alone.
    fn waiting_alone(&self) -> usize;
    /// How many tasks are in the table.
    fn len(&self) -> usize;
}

/// The store that lives in the parent's memory.
#[derive(Debug)]
pub(crate) struct MemoryStore<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    queue: VecDeque<TaskKey>,
    alone: VecDeque<TaskKey>,
    paused: BinaryHeap<Reverse<(Instant, TaskKey)>>,
    /// Keys in `queue` and `alone` whose task was finished while it waited.
    stale: usize,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    waits: bool,
    task: Option<Task<T>>,
}

impl<T> MemoryStore<T> {
    /// An empty store.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            alone: VecDeque::new(),
            paused: BinaryHeap::new(),
            stale: 0,
            len: 0,
        }
    }

    fn entry(&mut self, key: TaskKey) -> Option<&mut Entry<T>> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    fn pop(&mut self, which: Pull) -> Option<TaskKey> {
        match which {
            Pull::Alone => self.alone.pop_front(),
            Pull::Ordinary => self.queue.pop_front(),
        }
    }
}

impl<T> Store<T> for MemoryStore<T> {
    fn push(&mut self, new: NewTask<T>) -> TaskKey {
        let NewTask { ticket, number, body, policy } = new;
        let task =
            Task { ticket, number, body, policy, attempts: 0, lives_used: 0, deliveries: 0, sent_at: None };
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, waits: false, task: None });
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return TaskKey { index, generation: u32::MAX };
        };
        entry.task = Some(task);
        entry.waits = true;
        let key = TaskKey { index, generation: entry.generation };
        self.queue.push_back(key);
        self.len += 1;
        key
    }

    fn pull(&mut self, which: Pull) -> Option<TaskKey> {
        loop {
            let key = self.pop(which)?;
            match self.entry(key) {
                Some(entry) if entry.waits && entry.task.is_some() => {
                    entry.waits = false;
                    return Some(key);
                }
                _ => self.stale = self.stale.saturating_sub(1),
            }
        }
    }

    fn is_waiting(&self, key: TaskKey) -> bool {
        let entry = self.entries.get(key.index as usize);
        entry.is_some_and(|entry| entry.generation == key.generation && entry.waits && entry.task.is_some())
    }

    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task<T>> {
        self.entry(key)?.task.as_mut()
    }

    fn finish(&mut self, key: TaskKey) -> Option<Task<T>> {
        let entry = self.entry(key)?;
        let task = entry.task.take()?;
        let waited = std::mem::take(&mut entry.waits);
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        self.stale += usize::from(waited);
        Some(task)
    }

    fn release(&mut self, key: TaskKey, how: Release) {
        let Some(entry) = self.entry(key) else { return };
        if entry.task.is_none() {
            return;
        }
        entry.waits = true;
        match how {
            Release::Again => self.queue.push_front(key),
            Release::Later(at) => self.paused.push(Reverse((at, key))),
            Release::Alone => self.alone.push_back(key),
        }
    }

    fn bury_waiting(&mut self) -> Vec<Task<T>> {
        self.paused.clear();
        self.alone.clear();
        self.queue.clear();
        self.stale = 0;
        let waiting: Vec<TaskKey> = (0u32..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.waits && entry.task.is_some())
            .map(|(index, entry)| TaskKey { index, generation: entry.generation })
            .collect();
        let mut buried: Vec<Task<T>> = waiting.into_iter().filter_map(|key| self.finish(key)).collect();
        self.stale = 0;
        buried.sort_by_key(|task| task.number);
        buried
    }

    fn wake(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.paused.peek().copied() {
            if at > now {
                break;
            }
            self.paused.pop();
            if self.entry(key).is_some_and(|entry| entry.task.is_some()) {
                self.queue.push_front(key);
            } else {
                self.stale = self.stale.saturating_sub(1);
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.paused.peek().map(|Reverse((at, _))| *at)
    }

    fn waiting(&self) -> usize {
        (self.queue.len() + self.alone.len()).saturating_sub(self.stale)
    }

    fn waiting_alone(&self) -> usize {
        self.alone.len()
    }

    fn len(&self) -> usize {
        self.len
    }
}
