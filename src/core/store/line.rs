//! A line of what waits: tasks by their keys, and runs of tasks that are no entries of the table yet.

use std::collections::VecDeque;

use super::{Run, TaskKey};

/// Keys that name nothing are swept out when they are more than the living ones by so many: often enough that they never
/// grow with the number of tasks cancelled, seldom enough to cost nothing.
pub(super) const STALE_KEPT: usize = 64;

/// A line of what waits. The key of a task that was taken out of turn stays in it until it is passed or swept.
#[derive(Debug)]
pub(super) struct Line<T> {
    pub(super) waiting: VecDeque<Waiting<T>>,
    /// How many tasks wait here.
    pub(super) live: usize,
}

/// What stands in a line.
#[derive(Debug)]
pub(super) enum Waiting<T> {
    Run(Run<T>),
    Task(TaskKey),
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), live: 0 }
    }

    /// Tasks were taken out of turn; the key of the one that they are still stands here.
    pub(super) fn forget(&mut self, tasks: usize, is_live: impl Fn(TaskKey) -> bool) {
        self.live = self.live.saturating_sub(tasks);
        if self.waiting.len() > 2 * self.live + STALE_KEPT {
            self.waiting.retain(|waiting| match waiting {
                Waiting::Run(_) => true,
                Waiting::Task(key) => is_live(*key),
            });
        }
    }

    pub(super) fn push_front(&mut self, key: TaskKey, tasks: usize) {
        self.waiting.push_front(Waiting::Task(key));
        self.live += tasks;
    }
}
