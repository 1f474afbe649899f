//! The place where one task's outcome waits for its handle.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::core::{Outcome, TaskKey};

/// One task's outcome, or who waits for it.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The task's key in the table, once it is there.
    key: AtomicU64,
    /// Where the task is: worker, process and attempt, packed.
    place: AtomicU64,
    done: AtomicBool,
    /// See [`WITHDRAWN`] and [`UNHEARD`].
    flags: AtomicU8,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Pending(Option<Waker>),
    Done(Outcome),
    Taken,
}

/// Where a task is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// No worker has it.
    Queued,
    /// A worker has it.
    Running {
        /// The worker's slot.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// Which attempt it is.
        attempt: u32,
    },
}

const NO_KEY: u64 = u64::MAX;

/// The task need not run if it has not begun.
const WITHDRAWN: u8 = 1;

/// Nobody will ask for the outcome.
const UNHEARD: u8 = 2;

impl Cell {
    /// A task that is not in the table yet.
    pub(crate) fn new() -> Self {
        Self {
            key: AtomicU64::new(NO_KEY),
            place: AtomicU64::new(0),
            done: AtomicBool::new(false),
            flags: AtomicU8::new(0),
            state: Mutex::new(State::Pending(None)),
        }
    }

    /// The task is in the table now.
    pub(super) fn set_key(&self, key: TaskKey) {
        self.key.store(key.to_bits(), Ordering::Relaxed);
    }

    /// The task's key, if it is in the table.
    pub(super) fn key(&self) -> Option<TaskKey> {
        let bits = self.key.load(Ordering::Relaxed);
        (bits != NO_KEY).then(|| TaskKey::from_bits(bits))
    }

    /// The task is somewhere else now.
    pub(super) fn place(&self, place: Place) {
        let bits = match place {
            Place::Queued => 0,
            Place::Running { worker, pid, attempt } => {
                1 << 63
                    | (worker as u64 & 0x7fff) << 48
                    | (u64::from(attempt) & 0xffff) << 32
                    | u64::from(pid)
            }
        };
        self.place.store(bits, Ordering::Relaxed);
    }

    /// Where the task is.
    #[expect(clippy::cast_possible_truncation, reason = "the packed parts are taken apart")]
    pub(crate) fn current_place(&self) -> Place {
        let bits = self.place.load(Ordering::Relaxed);
        if bits == 0 {
            return Place::Queued;
        }
        let worker = (bits >> 48 & 0x7fff) as usize;
        Place::Running { worker, pid: bits as u32, attempt: (bits >> 32 & 0xffff) as u32 }
    }

    /// Whether the outcome is here.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Nobody will ask for the outcome, and the task need not run: gives an outcome that is here already.
    pub(crate) fn abandon(&self) -> Option<Outcome> {
        self.flags.fetch_or(WITHDRAWN | UNHEARD, Ordering::SeqCst);
        self.take()
    }

    /// Nobody will ask for the outcome, but the task is to run: gives an outcome that is here already.
    pub(crate) fn detach(&self) -> Option<Outcome> {
        self.flags.fetch_or(UNHEARD, Ordering::SeqCst);
        self.take()
    }

    /// Whether the task should be run.
    pub(super) fn is_wanted(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & WITHDRAWN == 0
    }

    /// The outcome, once.
    pub(crate) fn take(&self) -> Option<Outcome> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(outcome) => Some(outcome),
            pending @ State::Pending(_) => {
                *state = pending;
                None
            }
            State::Taken => None,
        }
    }

    /// Has `waker` woken when the outcome is here; false if it is here already.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        match &mut *self.lock() {
            State::Pending(Some(old)) if old.will_wake(waker) => true,
            State::Pending(slot) => {
                *slot = Some(waker.clone());
                true
            }
            State::Done(_) | State::Taken => false,
        }
    }

    /// The outcome is here. Tells whether somebody will take it, and whom to wake when no lock is held.
    pub(super) fn complete(&self, outcome: Outcome) -> (bool, Option<Waker>) {
        let mut state = self.lock();
        let heard = self.flags.load(Ordering::SeqCst) & UNHEARD == 0;
        let new = if heard { State::Done(outcome) } else { State::Taken };
        let old = std::mem::replace(&mut *state, new);
        self.done.store(true, Ordering::Release);
        match old {
            State::Pending(waker) => (heard, waker),
            State::Done(_) | State::Taken => (heard, None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
