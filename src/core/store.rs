//! The one task table, and the queue in front of the workers.
//!
//! The core reaches it through [`Store`] only: push, pull against free credit, finish, release, bury. A task is in the table
//! from the moment it is accepted until its outcome is given out, and its body stays with it for another attempt.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

mod task;

pub(crate) use task::{Finished, NewTask, Stop, Task};

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
    /// Takes the next waiting task. It stays in the table, handed out.
    fn pull(&mut self, which: Pull) -> Option<TaskKey>;
    /// Whether a task is in the table and no worker holds it.
    fn is_waiting(&self, key: TaskKey) -> bool;
    /// A task that is in the table.
    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task<T>>;
    /// Removes a task for good: it is answered, or dead, or cancelled.
    fn finish(&mut self, key: TaskKey) -> Option<Finished<T>>;
    /// Gives a task that was handed out back to the queue.
    fn release(&mut self, key: TaskKey, how: Release);
    /// Every task that waits, by number, for a pool that ends.
    fn waiting_keys(&self) -> Vec<TaskKey>;
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

/// The store that lives in the parent's memory.
#[derive(Debug)]
pub(crate) struct MemoryStore<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    queue: Line,
    alone: Line,
    paused: BinaryHeap<Reverse<(Instant, TaskKey)>>,
    /// How many of `paused` still name a task that pauses.
    pausing: usize,
    len: usize,
}

/// A line of keys. One whose task was taken out of turn stays in it until it is passed or swept.
#[derive(Debug, Default)]
struct Line {
    keys: VecDeque<TaskKey>,
    /// How many of the keys name a task that waits here.
    live: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    place: Place,
    task: Option<Task<T>>,
}

/// Where a task of the table is: in one place at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// In the line of those that must run alone.
    Alone,
    /// With a worker.
    Held,
    /// Waiting for its time.
    Paused {
        /// It then joins the line of those that must run alone.
        alone: bool,
    },
    /// In the ordinary line.
    Queue,
}

/// Keys that name nothing are swept out when they are more than the living ones by so many: often enough that they never
/// grow with the number of tasks cancelled, seldom enough to cost nothing.
const STALE_KEPT: usize = 64;

impl<T> MemoryStore<T> {
    /// An empty store.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            queue: Line::default(),
            alone: Line::default(),
            paused: BinaryHeap::new(),
            pausing: 0,
            len: 0,
        }
    }

    /// A task of the table, to look at.
    #[cfg(test)]
    pub(crate) fn peek(&self, key: TaskKey) -> Option<&Task<T>> {
        let entry =
            self.entries.get(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        entry.task.as_ref()
    }

    /// How many clocks of tasks run.
    #[cfg(test)]
    pub(crate) fn clocks_running(&self) -> usize {
        let extras = self.entries.iter().filter_map(|entry| entry.task.as_ref()?.extra.as_ref());
        extras.map(|extra| extra.clocks.running()).sum()
    }

    /// How many keys stand in lines.
    #[cfg(test)]
    pub(crate) fn lines_len(&self) -> usize {
        self.queue.keys.len() + self.alone.keys.len() + self.paused.len()
    }

    fn entry(&mut self, key: TaskKey) -> Option<&mut Entry<T>> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    /// A task was taken out of the place where it waited, and its key is still there.
    fn forget(&mut self, place: Place) {
        let entries = &self.entries;
        match place {
            Place::Alone => self.alone.forget(|key| is_at(entries, key, Place::Alone)),
            Place::Held => {}
            Place::Paused { .. } => {
                self.pausing = self.pausing.saturating_sub(1);
                if self.pausing == 0 {
                    // Nobody is to be woken for what is gone.
                    self.paused.clear();
                }
                if self.paused.len() > 2 * self.pausing + STALE_KEPT {
                    self.paused.retain(|Reverse((_, key))| is_paused(entries, *key));
                }
            }
            Place::Queue => self.queue.forget(|key| is_at(entries, key, Place::Queue)),
        }
    }
}

impl Line {
    fn forget(&mut self, is_live: impl Fn(TaskKey) -> bool) {
        self.live = self.live.saturating_sub(1);
        if self.keys.len() > 2 * self.live + STALE_KEPT {
            self.keys.retain(|key| is_live(*key));
        }
    }

    fn push_front(&mut self, key: TaskKey) {
        self.keys.push_front(key);
        self.live += 1;
    }
}

fn is_paused<T>(entries: &[Entry<T>], key: TaskKey) -> bool {
    [true, false].into_iter().any(|alone| is_at(entries, key, Place::Paused { alone }))
}

fn is_at<T>(entries: &[Entry<T>], key: TaskKey, place: Place) -> bool {
    let entry = entries.get(key.index as usize);
    entry.is_some_and(|entry| {
        entry.generation == key.generation && entry.place == place && entry.task.is_some()
    })
}

impl<T> Store<T> for MemoryStore<T> {
    fn push(&mut self, new: NewTask<T>) -> TaskKey {
        let NewTask { ticket, number, body, policy } = new;
        let task = Task {
            ticket,
            number,
            body,
            policy,
            attempts: 0,
            lives_used: 0,
            deliveries: 0,
            sent_at: None,
            frame_end: 0,
            holder: (0, 0),
            started: false,
            watched: false,
            extra: None,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, place: Place::Held, task: None });
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(entry) = self.entries.get_mut(index as usize) else {
            return TaskKey { index, generation: u32::MAX };
        };
        entry.task = Some(task);
        entry.place = Place::Queue;
        let key = TaskKey { index, generation: entry.generation };
        self.queue.keys.push_back(key);
        self.queue.live += 1;
        self.len += 1;
        key
    }

    fn pull(&mut self, which: Pull) -> Option<TaskKey> {
        let (line, place) = match which {
            Pull::Alone => (&mut self.alone, Place::Alone),
            Pull::Company | Pull::First => (&mut self.queue, Place::Queue),
        };
        loop {
            let key = line.keys.pop_front()?;
            let entry =
                self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation);
            if let Some(entry) = entry
                && entry.place == place
                && let Some(task) = &entry.task
            {
                if which == Pull::Company && task.policy.at_most_once {
                    line.keys.push_front(key);
                    return None;
                }
                entry.place = Place::Held;
                line.live -= 1;
                return Some(key);
            }
        }
    }

    fn is_waiting(&self, key: TaskKey) -> bool {
        let entry = self.entries.get(key.index as usize);
        entry.is_some_and(|entry| {
            entry.generation == key.generation && entry.place != Place::Held && entry.task.is_some()
        })
    }

    fn get_mut(&mut self, key: TaskKey) -> Option<&mut Task<T>> {
        self.entry(key)?.task.as_mut()
    }

    #[inline]
    fn finish(&mut self, key: TaskKey) -> Option<Finished<T>> {
        let entry = self.entry(key)?;
        let Task { ticket, number, body, attempts, sent_at, watched, extra, .. } = entry.task.take()?;
        let place = std::mem::replace(&mut entry.place, Place::Held);
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        if place != Place::Held {
            self.forget(place);
        }
        Some(Finished { ticket, number, body, attempts, sent_at, watched, extra })
    }

    fn release(&mut self, key: TaskKey, how: Release) {
        let Some(entry) = self.entry(key) else { return };
        if entry.task.is_none() || entry.place != Place::Held {
            return;
        }
        match how {
            Release::Again => {
                entry.place = Place::Queue;
                self.queue.push_front(key);
            }
            Release::Later(at) | Release::AloneLater(at) => {
                entry.place = Place::Paused { alone: matches!(how, Release::AloneLater(_)) };
                self.paused.push(Reverse((at, key)));
                self.pausing += 1;
            }
            Release::Alone => {
                entry.place = Place::Alone;
                self.alone.push_front(key);
            }
        }
    }

    fn waiting_keys(&self) -> Vec<TaskKey> {
        let mut waiting: Vec<(u64, TaskKey)> = (0u32..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.place != Place::Held)
            .filter_map(|(index, entry)| {
                let key = TaskKey { index, generation: entry.generation };
                Some((entry.task.as_ref()?.number, key))
            })
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, key)| key).collect()
    }

    fn wake(&mut self, now: Instant) {
        let mut woken = Vec::new();
        while let Some(Reverse((at, key))) = self.paused.peek().copied() {
            if at > now {
                break;
            }
            self.paused.pop();
            if let Some(entry) = self.entry(key)
                && let Place::Paused { alone } = entry.place
                && entry.task.is_some()
            {
                entry.place = if alone { Place::Alone } else { Place::Queue };
                woken.push((key, alone));
            }
        }
        self.pausing -= woken.len();
        if self.pausing == 0 {
            self.paused.clear();
        }
        // The one whose pause was over first stands first.
        for (key, alone) in woken.into_iter().rev() {
            if alone { &mut self.alone } else { &mut self.queue }.push_front(key);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.paused.peek().map(|Reverse((at, _))| *at)
    }

    fn waiting(&self) -> usize {
        self.queue.live + self.alone.live
    }

    fn waiting_alone(&self) -> usize {
        self.alone.live
    }

    fn pausing(&self) -> usize {
        self.pausing
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests;
