//! The times at which limits of tasks pass. Every entry belongs to a task of the table, which knows it too.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Limit, TaskKey};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeSet<(Instant, TaskKey, Limit)>,
    /// A mistake to be made on purpose: those of a task that ended stay.
    #[cfg(test)]
    pub(in crate::core) keeps: bool,
}

/// The times at which the limits of one task pass, each of which is in [`Timers`] too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks([Option<Instant>; 4]);

impl Clocks {
    fn slot(&mut self, limit: Limit) -> &mut Option<Instant> {
        let [attempt, soft, stream, total] = &mut self.0;
        match limit {
            Limit::Attempt => attempt,
            Limit::Soft => soft,
            Limit::Stream => stream,
            Limit::Total => total,
        }
    }

    /// When a limit passes.
    pub(crate) fn at(mut self, limit: Limit) -> Option<Instant> {
        *self.slot(limit)
    }

    /// How many run.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

impl Timers {
    /// A limit of a task passes then, or never.
    pub(crate) fn set(&mut self, key: TaskKey, clocks: &mut Clocks, limit: Limit, at: Option<Instant>) {
        let slot = clocks.slot(limit);
        if let Some(before) = slot.take() {
            self.entries.remove(&(before, key, limit));
        }
        if let Some(at) = at {
            *slot = Some(at);
            self.entries.insert((at, key, limit));
        }
    }

    /// None of a task's limits passes any more.
    pub(crate) fn clear(&mut self, key: TaskKey, clocks: &mut Clocks) {
        #[cfg(test)]
        if self.keeps {
            return;
        }
        for limit in [Limit::Attempt, Limit::Soft, Limit::Stream, Limit::Total] {
            self.set(key, clocks, limit, None);
        }
    }

    /// When the next limit passes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _, _)| *at)
    }

    /// Takes out a limit that has passed. The caller clears the task's clock.
    pub(crate) fn take_passed(&mut self, now: Instant) -> Option<(TaskKey, Limit)> {
        self.entries.first().filter(|(at, _, _)| *at <= now)?;
        self.entries.pop_first().map(|(_, key, limit)| (key, limit))
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
