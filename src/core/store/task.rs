//! What is known of a task: as it comes, in the table, and at its end. Where it waits is in `store.rs`.

use std::time::{Duration, Instant};

use super::super::timers::{Clocks, Timers};
use super::super::{Attempt, Body, Limit, Policy, TaskErrorKind};
use super::TaskKey;

/// A task to be accepted.
#[derive(Debug)]
pub(crate) struct NewTask<T> {
    /// Given back with the outcome.
    pub(crate) ticket: T,
    /// Its number, for people.
    pub(crate) number: u64,
    /// Head and data, encoded.
    pub(crate) body: Body,
    /// For how many bytes it counts in the queue.
    pub(crate) weight: usize,
    /// How it is treated.
    pub(crate) policy: Policy,
}

/// A task of the table, or several of one source that go in one frame: a *batch*.
#[derive(Debug)]
pub(crate) struct Task<T> {
    /// Given back with the outcome.
    pub(crate) ticket: T,
    /// Its number, for people; of a batch that of the first without a result.
    pub(crate) number: u64,
    /// Head and data, encoded.
    pub(crate) body: Body,
    /// How many tasks it is; more than 1 in a batch only.
    pub(crate) items: u32,
    /// Of how many of them the results were given.
    pub(crate) given: u32,
    /// For how many bytes it counts in the queue.
    pub(crate) weight: usize,
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
    /// Where its frame ends in what its worker is sent: as long as less is written, the worker cannot have begun it.
    pub(crate) frame_end: u64,
    /// Where it begins.
    pub(crate) frame_start: u64,
    /// Which slot had it last, and under which id.
    pub(crate) holder: (usize, u32),
    /// Its worker said that it began it.
    pub(crate) started: bool,
    /// It counts among the watched ones of its slot.
    pub(crate) watched: bool,
    /// What most tasks have nothing of.
    pub(crate) extra: Option<Box<Extra>>,
}

/// What is known of a task that is timed, was tried before, gives many results, or is to stop.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// How its earlier attempts ended.
    pub(crate) attempts: Vec<Attempt>,
    /// When its limits pass.
    pub(crate) clocks: Clocks,
    /// What is left of the limits of its attempt while nothing is read of its worker.
    pub(crate) frozen: Option<(Option<Duration>, Option<Duration>)>,
    /// Its worker was told to stop doing it, or is being ended.
    pub(crate) stop: Option<Stop>,
    /// Since when it is to stop.
    pub(crate) stopped_at: Option<Instant>,
    /// CANCEL was sent for it.
    pub(crate) cancel_sent: bool,
    /// Results of its stream were handed out.
    pub(crate) gave_items: bool,
    /// The clocks of its attempt were started.
    pub(crate) timed: bool,
    /// It is to stop and its stream is full: further results are thrown away.
    pub(crate) drops_items: bool,
    /// Results were thrown away, so that no answer can be the whole one any more.
    pub(crate) lost_items: bool,
}

/// Why a task is to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// The user says so.
    Cancelled,
    /// It passed a limit.
    Late(Limit),
}

impl Stop {
    /// How a task ends that was stopped for this reason.
    pub(crate) fn kind(self, may_have_run: bool) -> TaskErrorKind {
        match self {
            Self::Cancelled => TaskErrorKind::Cancelled { may_have_run },
            Self::Late(limit) => TaskErrorKind::TimedOut { limit, may_have_run },
        }
    }
}

impl<T> Task<T> {
    /// One that was never handed out.
    #[inline]
    pub(super) fn new(new: NewTask<T>) -> Self {
        let NewTask { ticket, number, body, weight, policy } = new;
        Self {
            ticket,
            number,
            body,
            items: 1,
            given: 0,
            weight,
            policy,
            attempts: 0,
            lives_used: 0,
            deliveries: 0,
            sent_at: None,
            frame_end: 0,
            frame_start: 0,
            holder: (0, 0),
            started: false,
            watched: false,
            extra: None,
        }
    }

    /// Of how many tasks the results were not given.
    pub(crate) fn left(&self) -> u32 {
        self.items - self.given
    }

    /// Whether it is several tasks.
    pub(crate) fn is_batch(&self) -> bool {
        self.items > 1
    }

    /// None of its limits passes any more.
    #[inline]
    pub(crate) fn stop_clocks(&mut self, key: TaskKey, timers: &mut Timers) {
        if let Some(extra) = &mut self.extra {
            timers.clear(key, &mut extra.clocks);
        }
    }

    /// What most tasks have nothing of.
    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The same, if there is any.
    pub(crate) fn existing_extra(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    /// Whether it is to stop, and why.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.extra.as_ref().and_then(|extra| extra.stop)
    }

    /// Whether results of its stream were handed out.
    pub(crate) fn gave_items(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.gave_items)
    }

    /// Whether results of it were thrown away.
    pub(crate) fn lost_items(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.lost_items)
    }
}
