//! What was taken from a channel and not received yet: the batches that outcomes came in, and which outcome is the next one.
//!
//! A batch stays until its last outcome was received, so that values are decoded where they lie. With [`Order::Input`] those that
//! came before their turn stand in a line by their distance from it.

use std::collections::VecDeque;
use std::ops::Range;

use stokehold_protocol::GoodResults;

use crate::Order;
use crate::core::{Origin, TaskError};
use crate::driver::{Batch, Lane, Outcome};

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    order: Order,
    batches: VecDeque<Held>,
    /// How many batches went before those that are here.
    gone: u64,
    /// The outcome that is looked at next, in the order of arrival.
    arrival: Spot,
    /// For [`Order::Input`]: what came before its turn, by distance from `next`. Of several that follow each other the first has
    /// the spot.
    early: VecDeque<Option<Spot>>,
    /// The index whose turn is next.
    next: u64,
    current: Option<Current>,
}

/// A batch, and how many of its outcomes were not received.
#[derive(Debug)]
struct Held {
    batch: Batch,
    left: usize,
}

/// An outcome: which batch, counted from the first ever, and where in it.
#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    batch: u64,
    place: usize,
}

/// An outcome of several jobs that is being received.
#[derive(Clone, Debug)]
struct Current {
    spot: Spot,
    index: u64,
    left: u32,
    range: Range<usize>,
    origin: Origin,
}

/// What came of one job.
#[derive(Debug)]
pub(super) enum Job {
    Answered {
        /// Where its value is.
        value: Value,
        /// How many bytes of the channel it takes.
        bytes: usize,
        origin: Origin,
    },
    Failed(Box<TaskError>),
}

/// Where a value is, until [`Inbox::release`].
#[derive(Clone, Debug)]
pub(super) struct Value {
    batch: u64,
    range: Range<usize>,
}

impl Inbox {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            batches: VecDeque::new(),
            gone: 0,
            arrival: Spot::default(),
            early: VecDeque::new(),
            next: 0,
            current: None,
        }
    }

    /// The next job whose outcome is there, with its index.
    #[inline]
    pub(super) fn next(&mut self, lane: &Lane) -> Option<(u64, Job)> {
        if self.current.is_none() {
            let spot = match self.order {
                Order::Completion => self.next_arrival(lane)?,
                Order::Input => self.next_in_turn(lane)?,
            };
            let held = self.held(spot.batch)?;
            let arrived = held.batch.get(spot.place)?;
            let index = arrived.index;
            match &arrived.outcome {
                Outcome::Many(count, range, origin) => {
                    let (left, range, origin) = (*count, range.clone(), *origin);
                    self.current = Some(Current { spot, index, left, range, origin });
                }
                Outcome::One(range, origin) => {
                    let (range, origin) = (range.clone(), *origin);
                    held.left -= 1;
                    self.step();
                    let bytes = range.len();
                    let value = Value { batch: spot.batch, range };
                    return Some((index, Job::Answered { value, bytes, origin }));
                }
                Outcome::Error(_) => {
                    let error = held.batch.take_error(spot.place)?;
                    held.left -= 1;
                    self.step();
                    return Some((index, Job::Failed(error)));
                }
            }
        }
        self.next_of_current()
    }

    /// The value of the job that was just given.
    #[inline]
    pub(super) fn bytes(&self, value: &Value) -> &[u8] {
        let place = usize::try_from(value.batch - self.gone).unwrap_or(usize::MAX);
        self.batches.get(place).map_or(&[], |held| held.batch.bytes(value.range.clone()))
    }

    /// The job that was just given is received: batches with nothing left go back.
    #[inline]
    pub(super) fn release(&mut self, lane: &Lane) {
        while self.batches.front().is_some_and(|held| held.left == 0)
            && let Some(held) = self.batches.pop_front()
        {
            self.gone += 1;
            lane.give_back(held.batch);
        }
    }

    #[inline]
    fn next_of_current(&mut self) -> Option<(u64, Job)> {
        let current = self.current.as_mut()?;
        let batch = current.spot.batch;
        let place = usize::try_from(batch - self.gone).ok()?;
        let held = self.batches.get_mut(place)?;
        let (index, origin) = (current.index, current.origin);
        // The core has read all of them: each is there.
        let (value, bytes) = GoodResults::new(held.batch.bytes(current.range.clone())).first()?;
        let end = current.range.start + bytes;
        let value = Value { batch, range: end - value.len()..end };
        current.range.start = end;
        current.index += 1;
        current.origin.task += 1;
        current.left -= 1;
        if current.left == 0 {
            held.left -= 1;
            self.current = None;
        }
        self.step();
        Some((index, Job::Answered { value, bytes, origin }))
    }

    /// The outcome that arrived next.
    fn next_arrival(&mut self, lane: &Lane) -> Option<Spot> {
        loop {
            if self.arrival.batch < self.gone {
                self.arrival = Spot { batch: self.gone, place: 0 };
            }
            let spot = self.arrival;
            match self.held(spot.batch) {
                Some(held) if spot.place < held.batch.len() => {
                    self.arrival.place += 1;
                    return Some(spot);
                }
                Some(_) => self.arrival = Spot { batch: spot.batch + 1, place: 0 },
                None => {
                    let batch = lane.take()?;
                    self.batches.push_back(Held { left: batch.len(), batch });
                }
            }
        }
    }

    /// The outcome whose turn it is, if it has arrived.
    fn next_in_turn(&mut self, lane: &Lane) -> Option<Spot> {
        while !matches!(self.early.front(), Some(Some(_))) {
            let spot = self.next_arrival(lane)?;
            let index = self.held(spot.batch)?.batch.get(spot.place)?.index;
            let distance = usize::try_from(index.saturating_sub(self.next)).unwrap_or(usize::MAX);
            if distance == 0 && self.early.is_empty() {
                return Some(spot);
            }
            if self.early.len() <= distance {
                self.early.resize(distance + 1, None);
            }
            if let Some(place) = self.early.get_mut(distance) {
                *place = Some(spot);
            }
        }
        self.early.front().copied().flatten()
    }

    /// A job is given; the turn is the next one's.
    #[inline]
    fn step(&mut self) {
        self.next += 1;
        self.early.pop_front();
    }

    fn held(&mut self, batch: u64) -> Option<&mut Held> {
        self.batches.get_mut(usize::try_from(batch.checked_sub(self.gone)?).ok()?)
    }
}

#[cfg(test)]
mod tests;
