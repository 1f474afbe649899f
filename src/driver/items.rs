//! The place where the results of one task's stream wait for whoever takes them, in front of the place of its outcome. It does
//! not decode them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::Cell;
use crate::core::ItemFate;

/// How much of a stream may wait to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ItemBounds {
    /// Results.
    pub(crate) items: usize,
    /// Bytes of them.
    pub(crate) bytes: usize,
}

/// One task's stream.
#[derive(Debug)]
pub(crate) struct Items {
    /// Where the outcome will be, behind all results.
    pub(crate) cell: Cell,
    bounds: ItemBounds,
    arrivals: Arc<Arrivals>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arrived>,
    /// Of the results in `waiting`.
    bytes: usize,
    /// The bound was reached and nobody was told yet that there is room again.
    full: bool,
    /// Whatever comes from now on is dropped.
    skips: bool,
    waker: Option<Waker>,
}

/// What came of a stream, undecoded.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Arrived {
    /// A result.
    Item {
        /// The attempt that it came from.
        attempt: u32,
        /// Its data, unchecked.
        data: Vec<u8>,
    },
    /// The task begins again.
    Restarted {
        /// The attempt that begins.
        attempt: u32,
    },
}

impl Items {
    pub(crate) fn new(bounds: ItemBounds, arrivals: Arc<Arrivals>) -> Self {
        Self { cell: Cell::new(), bounds, arrivals, state: Mutex::default() }
    }

    /// What came next, and whether there is room again, of which the engine must be told.
    pub(crate) fn take(&self) -> Option<(Arrived, bool)> {
        let mut state = self.lock();
        let arrived = state.waiting.pop_front()?;
        if let Arrived::Item { data, .. } = &arrived {
            state.bytes -= data.len();
        }
        let room = state.full
            && state.waiting.len() <= self.bounds.items / 2
            && state.bytes <= self.bounds.bytes / 2;
        state.full &= !room;
        Some((arrived, room))
    }

    /// Whether something waits to be taken; if not, `waker` is woken when it does.
    pub(crate) fn has_arrived(&self, waker: Option<&Waker>) -> bool {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            return true;
        }
        if let Some(waker) = waker
            && !state.waker.as_ref().is_some_and(|old| old.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
        false
    }

    /// Keeps what is here, and drops whatever comes from now on. Tells whether there is room again, of which the engine must
    /// be told.
    pub(crate) fn skip(&self) -> bool {
        let mut state = self.lock();
        state.skips = true;
        std::mem::take(&mut state.full)
    }

    /// Drops what is here.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        let dropped = std::mem::take(&mut state.waiting);
        state.bytes = 0;
        drop(state);
        drop(dropped);
    }

    /// A result is here.
    pub(super) fn put(&self, attempt: u32, data: &[u8]) -> ItemFate {
        if !self.cell.is_wanted() {
            return ItemFate::Unwanted;
        }
        let mut state = self.lock();
        if state.skips {
            // Asked for and not needed any more: what is called unwanted counts against the worker.
            return ItemFate::Taken;
        }
        state.waiting.push_back(Arrived::Item { attempt, data: data.to_vec() });
        state.bytes += data.len();
        self.rouse(&mut state);
        if !self.is_full(&state) {
            return ItemFate::Taken;
        }
        state.full = true;
        self.arrivals.has_full.store(true, Ordering::Relaxed);
        ItemFate::Full
    }

    /// The task begins again. Results that nobody has taken stay, unless they would leave no room for new ones: attempts that
    /// fill the buffer one after the other must not heap up what is void.
    pub(super) fn restart(&self, attempt: u32) {
        let mut state = self.lock();
        if state.skips {
            return;
        }
        if self.is_full(&state) {
            state.waiting.clear();
            state.bytes = 0;
        }
        state.waiting.push_back(Arrived::Restarted { attempt });
        self.rouse(&mut state);
    }

    fn is_full(&self, state: &State) -> bool {
        state.waiting.len() >= self.bounds.items || state.bytes >= self.bounds.bytes
    }

    fn rouse(&self, state: &mut State) {
        if let Some(waker) = state.waker.take() {
            self.arrivals.add(waker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom to wake because results came, gathered while the engine is held: a waker is user's code.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    any: AtomicBool,
    /// Some stream became full since this was last asked.
    has_full: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Arrivals {
    /// Moves whom to wake behind `into`.
    pub(super) fn take(&self, into: &mut Vec<Waker>) {
        if self.any.load(Ordering::Relaxed) {
            let mut wakers = self.lock();
            self.any.store(false, Ordering::Relaxed);
            into.append(&mut wakers);
        }
    }

    /// Whether some stream became full since the last call.
    pub(super) fn take_full(&self) -> bool {
        self.has_full.load(Ordering::Relaxed) && self.has_full.swap(false, Ordering::Relaxed)
    }

    fn add(&self, waker: Waker) {
        self.lock().push(waker);
        self.any.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
