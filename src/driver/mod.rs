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
mod observer;
mod shared;
mod stderr;

pub(crate) use cell::{Cell, Place};
pub(crate) use connection::Launch;
pub(crate) use engine::{Ended, Engine};
pub(crate) use gate::{Admission, Bounds, Mail, Refusal};
pub(crate) use items::{Arrivals, Arrived, ItemBounds, Items};
pub(crate) use lane::Lane;
pub(crate) use lease::ComesAbout;
pub(crate) use shared::Shared;

use std::sync::Arc;
use std::task::Waker;

use crate::core::{self, ItemFate, TaskError, TaskErrorKind};

/// Where a task's outcome goes: what the core keeps for it. One that is dropped without an outcome answers as closed, so that
/// nobody waits for ever, whatever happens to the engine.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    target: Option<Target>,
}

#[derive(Debug)]
enum Target {
    /// The handle of one task.
    Handle(Handle),
    /// A channel through the workers, with its place in the order of input.
    Lane(Arc<Lane>, u64),
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
        Self { number, target: Some(Target::Handle(handle)) }
    }

    /// For a place in a channel.
    pub(crate) fn to_lane(number: u64, lane: Arc<Lane>, index: u64) -> Self {
        Self { number, target: Some(Target::Lane(lane, index)) }
    }

    fn handle(&self) -> Option<&Handle> {
        match &self.target {
            Some(Target::Handle(handle)) => Some(handle),
            Some(Target::Lane(..)) | None => None,
        }
    }

    /// Hands the outcome over, and counts what waits to be taken; channels count their own. Gives whom to wake when the lease
    /// is not held: a waker is user's code.
    fn complete(mut self, outcome: core::Outcome, gate: &gate::Gate) -> Option<Waker> {
        match self.target.take() {
            Some(Target::Handle(handle)) => {
                let bytes = outcome.as_ref().map_or(0, |answered| answered.data.len());
                gate.park(bytes);
                let (heard, waker) = handle.cell().complete(outcome);
                if !heard {
                    gate.unpark(bytes);
                }
                waker
            }
            Some(Target::Lane(lane, index)) => lane.deliver(index, outcome),
            None => None,
        }
    }
}

impl core::Ticket for Ticket {
    fn delivered(&self, worker: usize, pid: u32, attempt: u32) {
        if let Some(handle) = self.handle() {
            handle.cell().place(Place::Running { worker, pid, attempt });
        }
    }

    fn is_wanted(&self) -> bool {
        match &self.target {
            Some(Target::Handle(handle)) => handle.cell().is_wanted(),
            Some(Target::Lane(lane, _)) => lane.is_wanted(),
            None => false,
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
        let closed = || Err(Box::new(TaskError::new(TaskErrorKind::Closed, self.number, "the pool ended")));
        match self.target.take() {
            Some(Target::Handle(handle)) => {
                if let (_, Some(waker)) = handle.cell().complete(closed()) {
                    waker.wake();
                }
            }
            Some(Target::Lane(lane, index)) => lane.complete(index, closed()),
            None => {}
        }
    }
}

/// Keeps `waker` to be woken, once however often it is asked for.
fn remember(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|other| other.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
