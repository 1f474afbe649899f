//! MOVES bytes and time: the only place with threads, the clock and readiness polling. What is to be done is decided in
//! `core`; how the system does it is in `sys`.

mod background;
mod caller;
mod cell;
mod clock;
mod connection;
mod engine;
mod gate;
mod items;
mod lane;
mod lease;
mod letters;
mod listener;
mod lock;
mod looks;
mod observer;
mod shared;
mod stderr;
mod wakes;

pub(crate) use cell::{Cell, Place};
pub(crate) use connection::Launch;
pub(crate) use engine::{Ended, Engine};
pub(crate) use gate::{Admission, Bounds, Mail, Refusal};
pub(crate) use items::{Arrivals, Arrived, ItemBounds, Items};
pub(crate) use lane::{Batch, Lane, Outcome};
pub(crate) use lease::ComesAbout;
pub(crate) use shared::{Input, Shared};

use std::sync::Arc;
use std::task::Waker;

use crate::core::{self, ItemFate, Source, TaskError, TaskErrorKind, TaskKey};

/// Where the outcomes of a task, or of several of a channel that follow each other, go: what the core keeps for them. One that
/// is dropped without an outcome answers as closed, so that nobody waits for ever, whatever happens to the engine.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// The handle of one task.
    Handle(Handle),
    /// A channel through the workers.
    Lane {
        lane: Arc<Lane>,
        /// The place of the first job in the order of input.
        index: u64,
        /// How many jobs.
        count: u32,
    },
    /// It was answered.
    Nobody,
}

/// What one task's handle and the engine share.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// Of a task with one result.
    Task(Arc<Cell>),
    /// Of a task with a stream of them.
    Stream(Arc<Items>),
}

impl Handle {
    /// Where the outcome goes.
    pub(crate) fn cell(&self) -> &Cell {
        match self {
            Self::Task(cell) => cell,
            Self::Stream(items) => &items.cell,
        }
    }
}

impl Ticket {
    /// For the handle of one task.
    pub(crate) fn to_handle(number: u64, handle: Handle) -> Self {
        Self { number, target: Target::Handle(handle) }
    }

    /// For so many places in a channel.
    pub(crate) fn to_lane(number: u64, lane: Arc<Lane>, index: u64, count: u32) -> Self {
        Self { number, target: Target::Lane { lane, index, count } }
    }

    /// Adds a job, if it is one of that channel and follows those that it is for.
    fn extend(&mut self, to: &Arc<Lane>, at: u64, task: u64) -> bool {
        match &mut self.target {
            Target::Lane { lane, index, count }
                if Arc::ptr_eq(lane, to)
                    && *index + u64::from(*count) == at
                    && self.number + u64::from(*count) == task =>
            {
                *count += 1;
                true
            }
            _ => false,
        }
    }

    fn handle(&self) -> Option<&Handle> {
        match &self.target {
            Target::Handle(handle) => Some(handle),
            Target::Lane { .. } | Target::Nobody => None,
        }
    }

    /// Whom to tell of an outcome, once.
    fn take_target(&mut self) -> Target {
        std::mem::replace(&mut self.target, Target::Nobody)
    }
}

impl core::Ticket for Ticket {
    fn accepted(&self, key: TaskKey) {
        if let Some(handle) = self.handle() {
            handle.cell().set_key(key);
        }
    }

    fn source(&self) -> Option<&Source> {
        match &self.target {
            Target::Lane { lane, .. } => Some(lane.source()),
            Target::Handle(_) | Target::Nobody => None,
        }
    }

    fn split_front(&mut self, most: u32) -> Self {
        let number = self.number;
        let Target::Lane { lane, index, count } = &mut self.target else {
            return Self { number, target: self.take_target() };
        };
        let (first, taken) = (*index, most.min(*count));
        *index += u64::from(taken);
        *count -= taken;
        self.number += u64::from(taken);
        // The last ones take it along: no count of owners goes up and down for them.
        let target = match *count {
            0 => self.take_target(),
            _ => Target::Lane { lane: Arc::clone(lane), index: 0, count: 0 },
        };
        match target {
            Target::Lane { lane, .. } => {
                Self { number, target: Target::Lane { lane, index: first, count: taken } }
            }
            target => Self { number, target },
        }
    }

    fn delivered(&self, worker: usize, pid: u32, attempt: u32) {
        if let Some(handle) = self.handle() {
            handle.cell().place(Place::Running { worker, pid, attempt });
        }
    }

    fn is_wanted(&self) -> bool {
        match &self.target {
            Target::Handle(handle) => handle.cell().is_wanted(),
            Target::Lane { lane, .. } => lane.is_wanted(),
            Target::Nobody => false,
        }
    }

    fn item(&self, attempt: u32, data: &[u8]) -> ItemFate {
        match self.handle() {
            Some(Handle::Stream(items)) => items.put(attempt, data),
            Some(Handle::Task(_)) | None => ItemFate::Unwanted,
        }
    }

    fn restarted(&self, attempt: u32) {
        if let Some(Handle::Stream(items)) = self.handle() {
            items.restart(attempt);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let closed = |number| TaskError::new(TaskErrorKind::Closed, number, "the pool ended");
        match self.take_target() {
            Target::Handle(handle) => {
                if let (_, Some(waker)) = handle.cell().complete(Err(closed(self.number))) {
                    waker.wake();
                }
            }
            Target::Lane { lane, index, count } => {
                for place in 0..u64::from(count) {
                    lane.fail(index + place, closed(self.number + place));
                }
            }
            Target::Nobody => {}
        }
    }
}

/// Keeps `waker` to be woken, once however often it is asked for.
fn remember(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|other| other.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

#[cfg(test)]
mod tests;
