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
use crate::task::Encoded;

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    order: Order,
    batches: VecDeque<Held>,
    /// How many batches went before those that are here.
    gone: u64,
    /// The outcome that is looked at next, in the order of arrival.
    arrival: Spot,
    /// For [`Order::Input`]: what came before its turn, by distance from `next`. Of several jobs that have one outcome the first
    /// has the spot.
    early: VecDeque<Option<Spot>>,
    /// The index of the first job whose outcome was not begun.
    next: u64,
    current: Option<Current>,
}

/// A batch, and how many of its outcomes were not received to the end.
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

/// The outcome that is being received: of jobs that follow each other, with their values in a row.
#[derive(Debug)]
struct Current {
    /// Where its batch is.
    batch: usize,
    /// The next job.
    index: u64,
    /// How many of them are left.
    left: u32,
    values: Range<usize>,
    origin: Origin,
}

/// What came of one job.
#[derive(Debug)]
pub(super) enum Job<'a> {
    Answered(Encoded<'a>, Origin),
    Failed(TaskError),
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

    /// Gives the next job whose outcome is there, with its index, to `take`.
    #[inline]
    pub(super) fn receive<R>(&mut self, lane: &Lane, take: impl FnOnce(u64, Job<'_>) -> R) -> Option<R> {
        if self.current.is_none() {
            return self.begin(lane, take);
        }
        let current = self.current.as_mut()?;
        let bytes = self.batches.get(current.batch)?.batch.bytes(current.values.clone());
        // The core has read all of them: each is there.
        let (value, len) = GoodResults::new(bytes).first()?;
        let received = take(current.index, Job::Answered(Encoded::Lent(value), current.origin));
        lane.receive(len);
        current.values.start += len;
        current.index += 1;
        current.origin.task += 1;
        current.left -= 1;
        if current.left == 0 {
            self.end(lane);
        }
        Some(received)
    }

    /// Begins the next outcome.
    fn begin<R>(&mut self, lane: &Lane, take: impl FnOnce(u64, Job<'_>) -> R) -> Option<R> {
        let spot = match self.order {
            Order::Completion => self.next_arrival(lane)?,
            Order::Input => self.next_in_turn(lane)?,
        };
        let batch = usize::try_from(spot.batch.checked_sub(self.gone)?).ok()?;
        let held = self.batches.get_mut(batch)?;
        let arrived = held.batch.get(spot.place)?;
        let index = arrived.index;
        let (jobs, received) = match &arrived.outcome {
            Outcome::Many(0, ..) => (0, None),
            Outcome::Many(count, values, origin) => {
                let (left, values, origin) = (*count, values.clone(), *origin);
                self.current = Some(Current { batch, index, left, values, origin });
                self.turn(left);
                return self.receive(lane, take);
            }
            Outcome::One(value, origin) => {
                lane.receive(value.len());
                let value = Encoded::Lent(held.batch.bytes(value.clone()));
                (1, Some(take(index, Job::Answered(value, *origin))))
            }
            Outcome::Large(_, origin) => {
                let origin = *origin;
                let value = held.batch.take_large(spot.place);
                lane.receive(value.as_ref().map_or(0, |data| data.as_bytes().len()));
                (1, value.map(|data| take(index, Job::Answered(Encoded::Data(data), origin))))
            }
            Outcome::Error(_) => {
                lane.receive(0);
                (1, held.batch.take_error(spot.place).map(|error| take(index, Job::Failed(error))))
            }
        };
        self.turn(jobs);
        self.current = None;
        self.end_in(batch, lane);
        received
    }

    /// The outcome that was being received is received to the end.
    fn end(&mut self, lane: &Lane) {
        if let Some(current) = self.current.take() {
            self.end_in(current.batch, lane);
        }
    }

    /// An outcome of that batch is received: batches with nothing left go back.
    fn end_in(&mut self, batch: usize, lane: &Lane) {
        if let Some(held) = self.batches.get_mut(batch) {
            held.left = held.left.saturating_sub(1);
        }
        while self.batches.front().is_some_and(|held| held.left == 0)
            && let Some(held) = self.batches.pop_front()
        {
            self.gone += 1;
            lane.give_back(held.batch);
        }
    }

    /// So many jobs have had their turn.
    fn turn(&mut self, jobs: u32) {
        self.next += u64::from(jobs);
        let over = self.early.len().min(jobs as usize);
        self.early.drain(..over);
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

    fn held(&self, batch: u64) -> Option<&Held> {
        self.batches.get(usize::try_from(batch.checked_sub(self.gone)?).ok()?)
    }
}

#[cfg(test)]
mod tests;
