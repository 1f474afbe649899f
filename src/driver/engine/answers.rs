//! What is answered in a turn: to the handle of a task at once, to a channel gathered until the turn is over, so that its two
//! ends meet once a turn and not once a task.

use std::sync::Arc;
use std::task::Waker;

use stokehold_protocol::{Data, SharedTail};

use crate::core::{Answer, Answered, Answers, Body, TaskError, Value};
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
    /// The large frame that is being read: an answer in it is shared instead of copied.
    pub(super) whole: Option<Arc<Vec<u8>>>,
}

impl Outgo<'_> {
    /// `data` as one of several owners, if it is the end of the large frame.
    fn share(&self, data: &[u8]) -> Option<Data> {
        let whole = self.whole.as_ref()?;
        let start = whole.len().checked_sub(data.len())?;
        let is_its_end = std::ptr::eq(whole.get(start..)?, data);
        is_its_end.then(|| Data::from_peer_shared(SharedTail::of(Arc::clone(whole), start)))
    }
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
    fn answered(&mut self, ticket: &mut Ticket, answer: Answer<'_>, body: &mut Body) {
        match ticket.take_target() {
            Target::Lane { lane, index, .. } => {
                if lane.is_wanted() {
                    let shared = match answer.value {
                        Value::One(data) => self.share(data),
                        Value::Many(..) => None,
                    };
                    let batch = self.gathered.batch(&lane);
                    match shared {
                        Some(data) => batch.push_large(index, data, answer.origin),
                        None => batch.push(index, answer),
                    }
                }
            }
            Target::Handle(handle) => {
                let Value::One(data) = answer.value else { return };
                self.gate.park(data.len());
                let answered = self.share(data).unwrap_or_else(|| {
                    // The answer takes the place of the question: most are of about its size, and both are the user's memory.
                    let mut answered = body.take_memory();
                    answered.clear();
                    answered.extend_from_slice(data);
                    Data::from_peer(answered)
                });
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
