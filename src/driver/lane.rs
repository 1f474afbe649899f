//! A channel through the workers, as its two ends and the engine share it: what its jobs have in common, how many are on the
//! way, and where their outcomes wait for the receiver.
//!
//! Outcomes come in batches, as they were read: their bytes in one buffer, which goes back and forth between the engine and the
//! receiver. Who writes a counter has its cache line for itself, and the others look only now and then.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use stokehold_protocol::Data;

use super::remember;
use super::wakes::Wakes;
use crate::core::{Answer, Buffer, Origin, Source, Spare, TaskError, Value};

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    source: Source,
    /// Jobs that were sent.
    sent: Line<AtomicU64>,
    /// What the engine put here.
    arrived: Line<Counts>,
    /// What the receiver took.
    taken: Line<Counts>,
    /// How many batches wait; lets the receiver look without a lock.
    waiting: Line<AtomicUsize>,
    /// How large the largest of the latest outcomes was; forgotten slowly.
    large: AtomicUsize,
    /// Where the engine gathers outcomes for this lane.
    place: AtomicUsize,
    unwanted: AtomicBool,
    /// Somebody watches.
    watched: AtomicBool,
    state: Mutex<State>,
}

/// What one side writes and the other looks at, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

#[derive(Debug, Default)]
struct Counts {
    outcomes: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// For the one thread at a time that writes them.
    fn add(&self, outcomes: u64, bytes: u64) {
        self.outcomes.store(self.outcomes.load(Ordering::Relaxed) + outcomes, Ordering::Release);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes, Ordering::Release);
    }
}

#[derive(Debug, Default)]
struct State {
    arrived: VecDeque<Batch>,
    spare: Spare<Batch>,
    waker: Option<Waker>,
    /// Who waits for either end to move.
    watchers: Vec<Waker>,
}

/// Outcomes that came together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Bytes of values that are not in `bytes`, because they are large.
    large_bytes: usize,
    outcomes: Vec<Arrived>,
}

/// The outcome of one job, or of several that follow each other.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The place of the (first) job in the order of input, from 0.
    pub(crate) index: u64,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// See [`Arrived::outcome`].
#[derive(Debug)]
pub(crate) enum Outcome {
    /// No answer. `None` when it was taken; likewise below.
    Error(Option<TaskError>),
    /// One value, large.
    Large(Option<Data>, Origin),
    /// So many values, in the form that [`GoodResults`](stokehold_protocol::GoodResults) reads, in the batch's bytes.
    Many(u32, Range<usize>, Origin),
    /// One value, there.
    One(Range<usize>, Origin),
}

impl Batch {
    /// How many outcomes it has, several jobs' counted as one.
    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// One of them.
    pub(crate) fn get(&self, place: usize) -> Option<&Arrived> {
        self.outcomes.get(place)
    }

    /// The error that one of them is, taken out.
    pub(crate) fn take_error(&mut self, place: usize) -> Option<TaskError> {
        let arrived = self.outcomes.get_mut(place)?;
        match &mut arrived.outcome {
            Outcome::Error(error) => error.take(),
            _ => None,
        }
    }

    /// The large value that one of them is, taken out.
    pub(crate) fn take_large(&mut self, place: usize) -> Option<Data> {
        match &mut self.outcomes.get_mut(place)?.outcome {
            Outcome::Large(data, _) => data.take(),
            _ => None,
        }
    }

    /// Bytes of values.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Adds answers to jobs from `index` on.
    #[inline]
    pub(crate) fn push(&mut self, index: u64, answer: Answer<'_>) {
        let Answer { value, origin } = answer;
        let from = self.bytes.len();
        let (Value::Many(_, data) | Value::One(data)) = value;
        self.bytes.extend_from_slice(data);
        let range = from..self.bytes.len();
        let outcome = match value {
            Value::Many(count, _) => Outcome::Many(count, range, origin),
            Value::One(_) => Outcome::One(range, origin),
        };
        self.outcomes.push(Arrived { index, outcome });
    }

    /// Adds a large answer to the job at `index`.
    pub(crate) fn push_large(&mut self, index: u64, data: Data, origin: Origin) {
        self.large_bytes += data.as_bytes().len();
        self.outcomes.push(Arrived { index, outcome: Outcome::Large(Some(data), origin) });
    }

    /// Adds the end of a job without an answer.
    pub(crate) fn push_error(&mut self, index: u64, error: TaskError) {
        self.outcomes.push(Arrived { index, outcome: Outcome::Error(Some(error)) });
    }

    /// How many outcomes these are, how many bytes, and how large the largest was.
    fn measure(&self) -> (u64, u64, usize) {
        let (mut outcomes, mut large) = (0, 0);
        for arrived in &self.outcomes {
            let (count, bytes) = match &arrived.outcome {
                Outcome::Error(_) => (1, 0),
                Outcome::Large(data, _) => (1, data.as_ref().map_or(0, |data| data.as_bytes().len())),
                Outcome::One(range, _) => (1, range.len()),
                Outcome::Many(count, range, _) => {
                    (u64::from(*count), range.len().div_ceil((*count).max(1) as usize))
                }
            };
            outcomes += count;
            large = large.max(bytes);
        }
        (outcomes, (self.bytes.len() + self.large_bytes) as u64, large)
    }
}

impl Buffer for Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.large_bytes = 0;
        self.outcomes.clear();
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.outcomes.capacity() * size_of::<Arrived>()
    }
}

impl Lane {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            sent: Line::default(),
            arrived: Line::default(),
            taken: Line::default(),
            waiting: Line::default(),
            large: AtomicUsize::new(0),
            place: AtomicUsize::new(usize::MAX),
            unwanted: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// What its jobs have in common.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    // For the sender.

    /// How many jobs were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.0.load(Ordering::SeqCst)
    }

    /// The place of the first of so many more jobs.
    pub(crate) fn next_index(&self, jobs: u32) -> u64 {
        self.sent.0.fetch_add(u64::from(jobs), Ordering::SeqCst)
    }

    /// How many results were received.
    pub(crate) fn received(&self) -> u64 {
        self.taken.0.outcomes.load(Ordering::SeqCst)
    }

    /// How many bytes of results wait to be received, for how many more jobs results are on the way, and how large each may be;
    /// `None` for that before the first.
    pub(crate) fn expected(&self, sent: u64) -> (u64, u64, Option<u64>) {
        // In this order, so that what moves meanwhile is counted rather twice than not at all.
        let taken = self.taken.0.bytes.load(Ordering::Acquire);
        let arrived = self.arrived.0.outcomes.load(Ordering::Acquire);
        let bytes = self.arrived.0.bytes.load(Ordering::Acquire).saturating_sub(taken);
        let each = self.large.load(Ordering::Relaxed) as u64;
        (bytes, sent.saturating_sub(arrived), (arrived > 0).then_some(each))
    }

    // For the receiver.

    /// Nobody will receive any more.
    pub(crate) fn abandon(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    /// Whether somebody receives.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.unwanted.load(Ordering::Relaxed)
    }

    /// A result of so many bytes was received.
    #[inline]
    pub(crate) fn receive(&self, bytes: usize) {
        self.taken.0.add(1, bytes as u64);
    }

    /// The next batch.
    pub(crate) fn take(&self) -> Option<Batch> {
        if self.waiting.0.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut state = self.lock();
        let batch = state.arrived.pop_front();
        self.waiting.0.store(state.arrived.len(), Ordering::Release);
        batch
    }

    /// The memory of a batch whose outcomes were all received.
    pub(crate) fn give_back(&self, mut batch: Batch) {
        batch.clear();
        self.lock().spare.keep(batch);
    }

    /// Whether something has arrived; if not, `waker` is woken when it does.
    pub(crate) fn has_arrived(&self, waker: Option<&Waker>) -> bool {
        if self.waiting.0.load(Ordering::Acquire) > 0 {
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

    // For the engine.

    /// Where outcomes are gathered for it, if that is not over.
    pub(super) fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }

    pub(super) fn set_place(&self, place: usize) {
        self.place.store(place, Ordering::Relaxed);
    }

    /// Outcomes are here. Gives whom to wake when no lock is held, and an empty batch if there is one to be filled.
    pub(crate) fn deliver(&self, batch: Batch) -> (Option<Waker>, Option<Batch>) {
        if !self.is_wanted() {
            return (None, None);
        }
        let (outcomes, bytes, largest) = batch.measure();
        let large = self.large.load(Ordering::Relaxed);
        self.large.store(largest.max(large - large / 64), Ordering::Relaxed);
        let mut state = self.lock();
        self.arrived.0.add(outcomes, bytes);
        state.arrived.push_back(batch);
        self.waiting.0.store(state.arrived.len(), Ordering::Release);
        (state.waker.take(), state.spare.pop())
    }

    /// Puts the end of a job here, from a thread that holds no lock.
    pub(crate) fn fail(&self, index: u64, error: TaskError) {
        let mut batch = Batch::default();
        batch.push_error(index, error);
        if let (Some(waker), _) = self.deliver(batch) {
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
    #[inline]
    pub(crate) fn moved(&self) {
        if self.watched.load(Ordering::SeqCst) {
            self.take_watchers().wake();
        }
    }

    /// Who watches, to be woken when no lock is held.
    pub(super) fn take_watchers(&self) -> Wakes {
        self.watched.store(false, Ordering::SeqCst);
        Wakes::take(&mut self.lock().watchers)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
