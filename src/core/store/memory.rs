//! The store that lives in the parent's memory: a table whose places are used again, and the lines in front of the workers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use stokehold_protocol::{SHARED_BYTES_MIN, SharedTail};

use super::super::action::Ticket;
use super::super::source::Source;
use super::super::{Body, Policy, Spare};
use super::line::{Line, STALE_KEPT, Waiting};
use super::run::Taken;
use super::{NewTask, Pull, Release, Run, RunBuffers, Store, Task, TaskKey};

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryStore<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    queue: Line<T>,
    alone: Line<T>,
    /// Empty bodies.
    bodies: Spare<Vec<u8>>,
    /// The memory of runs that are handed out to the end.
    run_buffers: Spare<RunBuffers>,
    /// The rest of those whose inputs are on their way as they lie.
    run_shells: Spare<RunBuffers>,
    paused: BinaryHeap<Reverse<(Instant, TaskKey)>>,
    /// How many of `paused` still name a task that pauses.
    pausing: usize,
    len: usize,
    /// A mistake to be made on purpose: what is left of a batch is taken for what stands at its front.
    #[cfg(test)]
    pub(in crate::core) forgets_given: bool,
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

impl<T> MemoryStore<T> {
    /// An empty store.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            queue: Line::new(),
            alone: Line::new(),
            bodies: Spare::default(),
            run_buffers: Spare::default(),
            run_shells: Spare::default(),
            paused: BinaryHeap::new(),
            pausing: 0,
            len: 0,
            #[cfg(test)]
            forgets_given: false,
        }
    }

    /// A task of the table, to look at.
    #[cfg(test)]
    pub(crate) fn peek(&self, key: TaskKey) -> Option<&Task<T>> {
        let entry =
            self.entries.get(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        entry.task.as_ref()
    }

    /// The tasks of the table, those in runs left out.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (TaskKey, &Task<T>)> {
        let keyed = (0..).zip(&self.entries).map(|(index, entry)| {
            let key = TaskKey { index, generation: entry.generation };
            Some((key, entry.task.as_ref()?))
        });
        keyed.flatten()
    }

    /// How many tasks there are in runs, and how many bytes of inputs.
    #[cfg(test)]
    pub(crate) fn in_runs(&self) -> (usize, usize) {
        let runs = self.queue.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Run(run) => Some((run.left() as usize, run.bytes_left())),
            Waiting::Task(_) => None,
        });
        runs.fold((0, 0), |(tasks, bytes), (more, more_bytes)| (tasks + more, bytes + more_bytes))
    }

    /// How many places for tasks there are, empty ones too.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
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
        self.queue.waiting.len() + self.alone.waiting.len() + self.paused.len()
    }

    fn entry(&mut self, key: TaskKey) -> Option<&mut Entry<T>> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)
    }

    /// A task was taken out of the place where it waited, and its key is still there.
    fn forget(&mut self, place: Place, tasks: usize) {
        let entries = &self.entries;
        match place {
            Place::Alone => self.alone.forget(tasks, |key| is_at(entries, key, Place::Alone)),
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
            Place::Queue => self.queue.forget(tasks, |key| is_at(entries, key, Place::Queue)),
        }
    }

    /// Puts a task into the table.
    fn insert(&mut self, task: Task<T>, place: Place) -> Option<TaskKey> {
        let tasks = task.left() as usize;
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, place: Place::Held, task: None });
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = self.entries.get_mut(index as usize)?;
        entry.task = Some(task);
        entry.place = place;
        self.len += tasks;
        Some(TaskKey { index, generation: entry.generation })
    }

    /// Makes an entry of what is taken of the run at the front of the queue.
    fn take_of_run(&mut self, most: u32, bytes: usize) -> Option<TaskKey>
    where
        T: Ticket,
    {
        let mut body = self.body();
        let Some(Waiting::Run(run)) = self.queue.waiting.front_mut() else { return None };
        let Taken { ticket, number, count, inputs, is_last, is_first } = run.take(most, bytes);
        let weight = inputs.len();
        // What is shared stays where it is: the run is then of no use to anybody else.
        let is_shared = weight >= SHARED_BYTES_MIN && is_last && (count == 1 || is_first);
        let inputs = if is_shared { &[] } else { inputs };
        let mut policy = Policy::default();
        if let Some(source) = ticket.source() {
            policy = source.policy();
            source.sent(count);
            match count {
                1 => source.write_one(inputs, &mut body),
                _ => source.write_batch(count, inputs, &mut body),
            }
        }
        let mut body = if count == 1 { Body::from(body) } else { Body::in_one_piece(body) };
        if is_last && let Some(Waiting::Run(run)) = self.queue.waiting.pop_front() {
            if is_shared {
                let inputs = match count {
                    1 => run.into_last_input(),
                    _ => {
                        let (inputs, shell) = run.into_inputs();
                        self.run_shells.keep(shell);
                        inputs
                    }
                };
                body = Body::with_rest(body.take_memory(), inputs);
            } else {
                self.run_buffers.keep(run.into_buffers());
            }
        }
        let tasks = count as usize;
        self.queue.live -= tasks;
        // An entry counts its tasks.
        self.len -= tasks;
        self.insert(
            Task { items: count, ..Task::new(NewTask { ticket, number, body, weight, policy }) },
            Place::Held,
        )
    }

    /// A body to be written, with the memory of another.
    fn body(&mut self) -> Vec<u8> {
        self.bodies.pop().unwrap_or_default()
    }

    /// The memory of runs that were handed out to the end.
    pub(crate) fn run_buffers(&mut self) -> &mut Spare<RunBuffers> {
        &mut self.run_buffers
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

impl<T: Ticket> Store<T> for MemoryStore<T> {
    fn push(&mut self, new: NewTask<T>) -> TaskKey {
        let key = self.insert(Task::new(new), Place::Queue);
        let Some(key) = key else { return TaskKey { index: u32::MAX, generation: u32::MAX } };
        self.queue.waiting.push_back(Waiting::Task(key));
        self.queue.live += 1;
        key
    }

    fn push_run(&mut self, run: Run<T>) {
        let tasks = run.left() as usize;
        self.queue.live += tasks;
        self.len += tasks;
        self.queue.waiting.push_back(Waiting::Run(run));
    }

    fn peek_ticket(&mut self) -> Option<&T> {
        loop {
            match self.queue.waiting.front()? {
                Waiting::Task(key) if !is_at(&self.entries, *key, Place::Queue) => {
                    self.queue.waiting.pop_front();
                }
                _ => break,
            }
        }
        match self.queue.waiting.front_mut()? {
            Waiting::Run(run) => Some(run.ticket()),
            Waiting::Task(key) => {
                let entry = self.entries.get(key.index as usize)?;
                entry.task.as_ref().map(|task| &task.ticket)
            }
        }
    }

    fn pull(&mut self, which: Pull, most: u32, bytes: usize) -> Option<TaskKey> {
        let (line, place) = match which {
            Pull::Alone => (&mut self.alone, Place::Alone),
            Pull::Company | Pull::First => (&mut self.queue, Place::Queue),
        };
        loop {
            let key = match line.waiting.front_mut()? {
                Waiting::Task(key) => *key,
                Waiting::Run(run) => {
                    let policy = run.ticket().source().map(Source::policy);
                    if which == Pull::Company && policy.is_some_and(|policy| policy.at_most_once) {
                        return None;
                    }
                    return self.take_of_run(most, bytes);
                }
            };
            line.waiting.pop_front();
            let entry =
                self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation);
            if let Some(entry) = entry
                && entry.place == place
                && let Some(task) = &entry.task
            {
                if which == Pull::Company && task.policy.at_most_once {
                    line.waiting.push_front(Waiting::Task(key));
                    return None;
                }
                entry.place = Place::Held;
                line.live -= task.left() as usize;
                return Some(key);
            }
        }
    }

    fn split(&mut self, key: TaskKey) -> (Vec<TaskKey>, usize) {
        let mut keys = Vec::new();
        let Some(mut task) = self.finish(key) else { return (keys, 0) };
        let whole = std::mem::take(&mut task.body);
        let Some(source) = task.ticket.source() else { return (keys, task.weight) };
        let policy = source.policy();
        let mut inputs = source.inputs(task.items, &whole);
        let mut freed = task.weight;
        let given = task.given;
        #[cfg(test)]
        let given = if self.forgets_given { 0 } else { given };
        for _ in 0..given {
            let _ = inputs.next_value();
        }
        for _ in 0..task.left() {
            let Ok(Some(input)) = inputs.next_value() else { break };
            let mut body = Vec::new();
            if let Some(source) = task.ticket.source() {
                source.write_one(input, &mut body);
            }
            freed = freed.saturating_sub(input.len());
            let new = NewTask {
                ticket: task.ticket.split_front(1),
                number: task.number,
                body: body.into(),
                weight: input.len(),
                policy,
            };
            task.number += 1;
            keys.extend(self.insert_held(new, &task));
        }
        (keys, freed)
    }

    fn insert_held(&mut self, new: NewTask<T>, like: &Task<T>) -> Option<TaskKey> {
        let task = Task {
            attempts: like.attempts,
            deliveries: like.deliveries,
            sent_at: like.sent_at,
            frame_end: like.frame_end,
            frame_start: like.frame_start,
            holder: like.holder,
            started: like.started,
            ..Task::new(new)
        };
        self.insert(task, Place::Held)
    }

    fn lend(&mut self, key: TaskKey) -> Option<Task<T>> {
        self.entry(key)?.task.take()
    }

    fn take_back(&mut self, key: TaskKey, task: Task<T>, given: u32) {
        if let Some(entry) = self.entry(key) {
            entry.task = Some(task);
            self.len -= given as usize;
        }
    }

    fn hold(&mut self, task: Task<T>) -> Option<TaskKey> {
        self.insert(task, Place::Held)
    }

    fn recycle(&mut self, body: Body) {
        let (body, rest) = body.into_parts();
        self.bodies.keep(body);
        // The inputs of a run that was sent as it lay: it was written to the end, so that nobody else owns them.
        if let Some(bytes) = rest.and_then(SharedTail::into_sole) {
            self.run_buffers.keep(self.run_shells.pop().unwrap_or_default().with_memory(bytes));
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
    fn finish(&mut self, key: TaskKey) -> Option<Task<T>> {
        let entry = self.entry(key)?;
        let task = entry.task.take()?;
        let place = std::mem::replace(&mut entry.place, Place::Held);
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        let tasks = task.left() as usize;
        self.len -= tasks;
        if place != Place::Held {
            self.forget(place, tasks);
        }
        Some(task)
    }

    #[inline]
    fn clear(&mut self, key: TaskKey) {
        let Some(entry) = self.entry(key) else { return };
        let Some(task) = &mut entry.task else { return };
        let (tasks, body) = (task.left() as usize, std::mem::take(&mut task.body));
        entry.task = None;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= tasks;
        self.recycle(body);
    }

    fn release(&mut self, key: TaskKey, how: Release) {
        let Some(entry) = self.entry(key) else { return };
        let Some(tasks) = entry.task.as_ref().map(|task| task.left() as usize) else { return };
        if entry.place != Place::Held {
            return;
        }
        match how {
            Release::Again => {
                entry.place = Place::Queue;
                self.queue.push_front(key, tasks);
            }
            Release::Later(at) | Release::AloneLater(at) => {
                entry.place = Place::Paused { alone: matches!(how, Release::AloneLater(_)) };
                self.paused.push(Reverse((at, key)));
                self.pausing += 1;
            }
            Release::Alone => {
                entry.place = Place::Alone;
                self.alone.push_front(key, tasks);
            }
        }
    }

    fn take_waiting(&mut self) -> Vec<TaskKey> {
        // Runs become entries like all others.
        let mut waiting = std::mem::take(&mut self.queue.waiting);
        waiting.retain_mut(|waiting| {
            let Waiting::Run(run) = waiting else { return true };
            let taken = run.take(u32::MAX, usize::MAX);
            let (number, weight, items) = (taken.number, taken.inputs.len(), taken.count);
            let policy = taken.ticket.source().map(Source::policy).unwrap_or_default();
            let new = NewTask { ticket: taken.ticket, number, body: Body::default(), weight, policy };
            // The table counts them already.
            self.len -= items as usize;
            self.insert(Task { items, ..Task::new(new) }, Place::Queue);
            false
        });
        self.queue.waiting = waiting;
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
            // One that pauses is no batch.
            if alone { &mut self.alone } else { &mut self.queue }.push_front(key, 1);
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
