//! What is answered in a turn: to the handle of a task at once, to a channel gathered until the turn is over, so that its two
//! ends meet once a turn and not once a task.

use std::sync::Arc;
use std::task::Waker;

use crate::core::{Answer, Answered, Answers, TaskError, Value};
use crate::driver::gate::Gate;
use crate::driver::lane::{Batch, Lane};
use crate::driver::{Target, Ticket};

/// Empty batches kept: as many as channels are usually busy at a time.
const SPARE_KEPT: usize = 4;

/// Outcomes that channels were not given yet, and whom to wake when the lease is not held.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    lanes: Vec<(Arc<Lane>, Batch)>,
    /// Empty ones.
    spare: Vec<Batch>,
    pub(super) wakes: Vec<Waker>,
}

/// Where answers go while they are read.
#[derive(Debug)]
pub(super) struct Outgo<'a> {
    pub(super) gathered: &'a mut Gathered,
    pub(super) gate: &'a Gate,
}

impl Gathered {
    /// A task has no answer.
    pub(super) fn fail(&mut self, mut ticket: Ticket, error: TaskError) {
        match ticket.take_target() {
            Target::Handle(handle) => {
                let (_, waker) = handle.cell().complete(Err(error));
                self.wakes.extend(waker);
            }
            Target::Lane { lane, index, .. } => self.batch(&lane).push_error(index, error),
            Target::Nobody => {}
        }
    }

    /// Gives every channel what was gathered for it.
    pub(super) fn deliver(&mut self) {
        for (lane, batch) in self.lanes.drain(..) {
            lane.set_place(usize::MAX);
            let (waker, spare) = lane.deliver(batch);
            if self.spare.len() < SPARE_KEPT {
                self.spare.extend(spare);
            }
            self.wakes.extend(waker);
        }
    }

    #[inline]
    fn batch(&mut self, lane: &Arc<Lane>) -> &mut Batch {
        let place = lane.place();
        if !self.lanes.get(place).is_some_and(|(known, _)| Arc::ptr_eq(known, lane)) {
            lane.set_place(self.lanes.len());
            self.lanes.push((Arc::clone(lane), self.spare.pop().unwrap_or_default()));
        }
        let place = lane.place();
        &mut self.lanes[place].1
    }
}

impl Answers<Ticket> for Outgo<'_> {
    #[inline]
    fn answered(&mut self, ticket: &mut Ticket, answer: Answer<'_>, body: &mut Vec<u8>) {
        match ticket.take_target() {
            Target::Lane { lane, index, .. } => {
                if lane.is_wanted() {
                    self.gathered.batch(&lane).push(index, answer);
                }
            }
            Target::Handle(handle) => {
                let Value::One(data) = answer.value else { return };
                // The answer takes the place of the question: most are of about its size, and both are the user's memory.
                let mut answered = std::mem::take(body);
                answered.clear();
                answered.extend_from_slice(data);
                self.gate.park(data.len());
                let outcome = Ok(Answered { data: answered, origin: answer.origin });
                let (is_heard, waker) = handle.cell().complete(outcome);
                if !is_heard {
                    self.gate.unpark(data.len());
                }
                self.gathered.wakes.extend(waker);
            }
            Target::Nobody => {}
        }
    }
}
