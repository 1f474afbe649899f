//! What is answered in a turn: to the handle of a task at once, to a channel gathered until the turn is over, so that its two
//! ends meet once a turn and not once a task.

use std::sync::Arc;
use std::task::Waker;

use stokehold_protocol::{Data, LargeBody};

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
    pub(super) large: Option<&'a LargeBody>,
}

impl Outgo<'_> {
    /// The same for another frame.
    pub(super) fn again(&mut self) -> Outgo<'_> {
        Outgo { gathered: self.gathered, gate: self.gate, large: None }
    }

    /// `data` as one of several owners, if it is the end of the large frame.
    fn share(&self, data: &[u8]) -> Option<Data> {
        self.large?.share(data).map(Data::from_peer_shared)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stokehold_protocol::{Splitter, frame_header};

    use super::*;
    use crate::core::{Origin, Policy, Source};
    use crate::driver::gate::Bounds;
    use crate::driver::{Cell, Handle};

    fn lane() -> Arc<Lane> {
        Arc::new(Lane::new(Source::new("work", 7, Policy::default())))
    }

    fn answer(value: Value<'_>) -> Answer<'_> {
        let origin = Origin { worker: 1, pid: 11, task: 1, attempt: 1, elapsed: Duration::ZERO };
        Answer { value, origin }
    }

    fn indices(lane: &Lane) -> Vec<Vec<u64>> {
        let batches = std::iter::from_fn(|| lane.take());
        batches.map(|batch| (0..batch.len()).map(|place| batch.get(place).unwrap().index).collect()).collect()
    }

    #[test]
    fn each_channel_gets_what_is_its_own_once_a_turn() {
        let gate = Gate::new(Bounds { tasks: 9, bytes: 99, parked_bytes: 99, dead_letters: None });
        let mut gathered = Gathered::default();
        let (one, other, gone) = (lane(), lane(), lane());
        gone.abandon();
        for turn in 0..3 {
            let mut outgo = Outgo { gathered: &mut gathered, gate: &gate, large: None };
            for (lane, index) in [(&one, 0), (&other, 5), (&gone, 1), (&one, 1), (&other, 4)] {
                let mut ticket = Ticket::to_lane(index + 1, Arc::clone(lane), index, 1);
                let mut body = Body::from(vec![7]);
                outgo.answered(&mut ticket, answer(Value::One(b"\x07")), &mut body);
                assert_eq!(body.bytes(), [7], "memory that is not needed stays");
            }
            let error = TaskError::new(crate::TaskErrorKind::Dead, 3, "");
            gathered.fail(Ticket::to_lane(3, Arc::clone(&one), 2, 1), error);
            assert!(one.take().is_none(), "not in the middle of a turn");
            gathered.deliver();
            assert_eq!(indices(&one), [[0, 1, 2]], "in turn {turn}");
            assert_eq!(indices(&other), [[5, 4]]);
            assert_eq!(indices(&gone), Vec::<Vec<u64>>::new());
        }
    }

    #[test]
    fn the_answer_of_a_single_task_takes_the_place_of_its_question() {
        let gate = Gate::new(Bounds { tasks: 9, bytes: 99, parked_bytes: 99, dead_letters: None });
        let mut gathered = Gathered::default();
        let cell = Arc::new(Cell::new());
        let body = Vec::with_capacity(100);
        let place = body.as_ptr();
        let mut ticket = Ticket::to_handle(1, Handle::Task(Arc::clone(&cell)));
        let mut body = Body::from(body);
        let mut outgo = Outgo { gathered: &mut gathered, gate: &gate, large: None };
        outgo.answered(&mut ticket, answer(Value::One(b"\x07")), &mut body);
        let data = cell.take().unwrap().unwrap().data;
        assert_eq!((data.as_bytes(), data.as_bytes().as_ptr()), (&b"\x07"[..], place));
    }

    #[test]
    fn an_answer_at_the_end_of_a_large_frame_is_shared_and_not_copied() {
        let gate = Gate::new(Bounds { tasks: 9, bytes: 99, parked_bytes: 99, dead_letters: None });
        let mut gathered = Gathered::default();
        let mut splitter = Splitter::new();
        let frame = [&frame_header(1, 200_000)[..], &[7; 200_000]].concat();
        splitter.feed(&frame[..10]);
        assert!(splitter.next_frame().unwrap().is_none());
        splitter.feed(&frame[10..]);
        let (_, whole) = splitter.take_large().unwrap();
        let (cell, lane) = (Arc::new(Cell::new()), lane());
        let mut outgo = Outgo { gathered: &mut gathered, gate: &gate, large: Some(&whole) };
        for mut ticket in [
            Ticket::to_handle(1, Handle::Task(Arc::clone(&cell))),
            Ticket::to_lane(2, Arc::clone(&lane), 0, 1),
        ] {
            outgo.answered(&mut ticket, answer(Value::One(&whole[20..])), &mut Body::default());
        }
        // The same bytes elsewhere, and others of the frame.
        for data in [&frame[28..], &whole[20..90]] {
            let mut ticket = Ticket::to_lane(3, Arc::clone(&lane), 1, 1);
            outgo.answered(&mut ticket, answer(Value::One(data)), &mut Body::default());
        }
        gathered.deliver();
        let mut batch = lane.take().unwrap();
        let shared = [cell.take().unwrap().unwrap().data, batch.take_large(0).unwrap()];
        for data in shared {
            assert_eq!((data.as_bytes().as_ptr(), data.as_bytes().len()), (whole[20..].as_ptr(), 199_980));
        }
        assert!(batch.take_large(1).is_none() && batch.take_large(2).is_none());
    }
}
