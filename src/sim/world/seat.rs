//! What is known of a slot from outside: which tasks its worker has, and since when.

use std::ops::Range;
use std::time::{Duration, Instant};

/// What is known of a slot.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// The tasks that the worker was handed and whose final answer was not read, oldest first.
    pub(super) leases: Vec<Lease>,
    /// Since when nothing is read of it.
    pub(super) paused_since: Option<Instant>,
    /// The task that its worker is ended for was answered after that was decided.
    pub(super) is_excused: bool,
    /// When its fruitless lives ended.
    pub(super) fruitless: Vec<Instant>,
}

/// A task that a worker was handed, or several in one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) id: u32,
    /// The first.
    pub(super) task: u64,
    /// How many.
    pub(super) count: u32,
    /// Of how many of a batch the results were read.
    pub(super) given: u32,
    /// One of the results was larger than a frame may be.
    pub(super) is_doomed: bool,
    /// Its task has ended.
    pub(super) is_ghost: bool,
    /// Since when the worker may be doing it.
    pub(super) turn: Option<Instant>,
    /// How long nothing was read meanwhile.
    pub(super) held_up: Duration,
    /// The worker said STARTED.
    pub(super) started: bool,
    /// The last sign of progress.
    pub(super) sign: Instant,
}

impl Lease {
    /// The tasks whose results were not read.
    pub(super) fn open(&self) -> Range<u64> {
        self.task + u64::from(self.given)..self.task + u64::from(self.count)
    }

    pub(super) fn left(&self) -> u32 {
        self.count - self.given
    }

    pub(super) fn is_batch(&self) -> bool {
        self.count > 1
    }
}

impl Seat {
    /// What a worker reads under that id are the inputs of the tasks that it was handed.
    pub(super) fn check_input(&self, id: u32, tasks: Range<u64>) {
        let lease = self.leases.iter().find(|lease| lease.id == id).expect("a lease of what a worker reads");
        assert_eq!(lease.task..lease.task + u64::from(lease.count), tasks, "inputs of other tasks");
    }
}
