//! The place where the outcomes of a channel through the workers wait for its receiver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::remember;
use crate::core::Outcome;

/// Outcomes of many tasks on their way to one receiver, each with its place in the order of input.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    unwanted: AtomicBool,
    /// How many outcomes wait in `arrived`; lets the receiver look without a lock.
    count: AtomicUsize,
    /// Bytes of outcomes that arrived and were not received.
    bytes: AtomicUsize,
    /// How many outcomes ever arrived.
    arrived_ever: AtomicU64,
    /// How large the largest of the latest outcomes was; forgotten slowly.
    large: AtomicUsize,
    /// Somebody watches.
    watched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    arrived: VecDeque<(u64, Outcome)>,
    waker: Option<Waker>,
    /// Who waits for either end to move.
    watchers: Vec<Waker>,
}

impl Lane {
    /// Nobody will receive any more.
    pub(crate) fn abandon(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    /// Whether somebody receives.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.unwanted.load(Ordering::Relaxed)
    }

    /// Bytes of outcomes that arrived and were not received.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many bytes there would be if all of the `sent` outcomes were here: those on their way are taken to be as large as
    /// the latest ones were. `None` before the first.
    pub(crate) fn bytes_expected(&self, sent: u64) -> Option<usize> {
        let arrived = self.arrived_ever.load(Ordering::Relaxed);
        let on_the_way = usize::try_from(sent.saturating_sub(arrived)).unwrap_or(usize::MAX);
        let each = self.large.load(Ordering::Relaxed);
        (arrived > 0).then(|| self.bytes().saturating_add(on_the_way.saturating_mul(each)))
    }

    /// So many bytes were received.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Moves everything that has arrived behind `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<(u64, Outcome)>) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut state = self.lock();
            self.count.store(0, Ordering::Release);
            into.append(&mut state.arrived);
        }
    }

    /// Whether something has arrived; if not, `waker` is woken when it does.
    pub(crate) fn has_arrived(&self, waker: Option<&Waker>) -> bool {
        if self.count.load(Ordering::Acquire) > 0 {
            return true;
        }
        let Some(waker) = waker else { return false };
        let mut state = self.lock();
        if !state.arrived.is_empty() {
            return true;
        }
        state.waker = Some(waker.clone());
        false
    }

    /// An outcome is here. Gives whom to wake when no lock is held.
    pub(super) fn deliver(&self, index: u64, outcome: Outcome) -> Option<Waker> {
        if !self.is_wanted() {
            return None;
        }
        let bytes = outcome.as_ref().map_or(0, |answered| answered.data.len());
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let large = self.large.load(Ordering::Relaxed);
        self.large.store(bytes.max(large - large / 64), Ordering::Relaxed);
        self.arrived_ever.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.arrived.push_back((index, outcome));
        self.count.store(state.arrived.len(), Ordering::Release);
        state.waker.take()
    }

    /// As [`deliver`](Self::deliver), from a thread that holds no lock.
    pub(crate) fn complete(&self, index: u64, outcome: Outcome) {
        if let Some(waker) = self.deliver(index, outcome) {
            waker.wake();
        }
    }

    /// Has `waker` woken when either end moves, or the pool closes.
    pub(crate) fn watch(&self, waker: &Waker) {
        let mut state = self.lock();
        remember(&mut state.watchers, waker);
        self.watched.store(true, Ordering::SeqCst);
    }

    /// Either end moved: who watches is woken. No lock may be held.
    pub(crate) fn moved(&self) {
        if self.watched.load(Ordering::SeqCst) {
            self.take_watchers().into_iter().for_each(Waker::wake);
        }
    }

    /// Who watches, to be woken when no lock is held.
    pub(super) fn take_watchers(&self) -> Vec<Waker> {
        self.watched.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.lock().watchers)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
