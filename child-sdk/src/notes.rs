//! What was seen ahead and is not done yet: tasks to be cancelled, PINGs to be answered. Every frame comes again in its turn,
//! and what was done by then must not be done twice. Pure book-keeping; frames are known by their number in the stream.

use std::collections::{HashMap, VecDeque};

use stokehold_protocol::limits::OVERDRAFT_MAX;

/// CANCELs kept: as many as tasks may wait beyond the widest window. More cannot be meant for tasks that wait; they are
/// forgotten, and their tasks run.
const CANCELS_MAX: usize = 2 * OVERDRAFT_MAX;

/// PINGs kept. A parent that sends more is answered in their turn.
const PINGS_MAX: usize = 1024;

/// The notes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The frame that cancels each task.
    cancels: HashMap<u32, u64>,
    /// The same in the order of the stream, to be forgotten when their turn has come.
    cancel_order: VecDeque<(u64, u32)>,
    pings: VecDeque<(u64, Vec<u8>)>,
    /// PINGs answered before their turn.
    answered: VecDeque<u64>,
}

impl Notes {
    /// Frame `number` cancels the task `id` that came before it.
    pub(crate) fn add_cancel(&mut self, number: u64, id: u32) {
        if self.cancel_order.len() < CANCELS_MAX {
            self.cancels.insert(id, number);
            self.cancel_order.push_back((number, id));
        }
    }

    /// Frame `number` is a PING with `data`.
    pub(crate) fn add_ping(&mut self, number: u64, data: &[u8]) {
        if self.pings.len().saturating_add(self.answered.len()) < PINGS_MAX {
            self.pings.push_back((number, data.to_vec()));
        }
    }

    /// The turn of frame `number` has come. A CANCEL up to there was for a task before it: it is forgotten, so that it never
    /// meets a later task with the same id.
    pub(crate) fn reach(&mut self, number: u64) {
        while let Some(&(seen, id)) = self.cancel_order.front()
            && seen <= number
        {
            self.cancel_order.pop_front();
            if self.cancels.get(&id) == Some(&seen) {
                self.cancels.remove(&id);
            }
        }
    }

    /// Whether the task `id`, whose turn has come, is to be cancelled.
    pub(crate) fn cancels(&self, id: u32) -> bool {
        self.cancels.contains_key(&id)
    }

    /// The next PING that is not answered; it counts as answered from now on.
    pub(crate) fn next_ping(&mut self) -> Option<Vec<u8>> {
        let (number, data) = self.pings.pop_front()?;
        self.answered.push_back(number);
        Some(data)
    }

    /// Whether a PING waits for its answer.
    pub(crate) fn has_ping(&self) -> bool {
        !self.pings.is_empty()
    }

    /// The turn of frame `number`, a PING, has come: whether it is still to be answered.
    pub(crate) fn take_ping(&mut self, number: u64) -> bool {
        if self.pings.front().is_some_and(|(seen, _)| *seen == number) {
            self.pings.pop_front();
        }
        let answered = self.answered.front() == Some(&number);
        if answered {
            self.answered.pop_front();
        }
        !answered
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.cancel_order.is_empty() && self.pings.is_empty() && self.answered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_is_for_the_task_before_it_and_no_later_one() {
        let mut notes = Notes::default();
        notes.add_cancel(5, 1);
        notes.add_cancel(7, 2);
        notes.reach(3);
        assert!(notes.cancels(1) && notes.cancels(2) && !notes.cancels(3));
        notes.reach(5);
        assert!(!notes.cancels(1) && notes.cancels(2), "an id 1 from here on is another task");
        notes.reach(9);
        assert!(notes.is_empty() && notes.cancels.is_empty());
    }

    #[test]
    fn a_second_cancel_of_an_id_outlives_the_first() {
        let mut notes = Notes::default();
        notes.add_cancel(5, 1);
        notes.add_cancel(9, 1);
        notes.reach(5);
        assert!(notes.cancels(1));
    }

    #[test]
    fn each_ping_is_answered_once_early_or_in_its_turn() {
        let mut notes = Notes::default();
        for number in 1..=3 {
            notes.add_ping(number, b"\x01");
        }
        assert!(notes.next_ping().is_some());
        assert!(!notes.take_ping(1), "answered early");
        assert!(notes.take_ping(2), "in its turn");
        assert!(notes.next_ping().is_some() && notes.next_ping().is_none());
        assert!(!notes.take_ping(3));
        assert!(notes.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_is_answered_in_its_turn() {
        let mut notes = Notes::default();
        for number in 0..10 * CANCELS_MAX as u64 {
            notes.add_ping(number, b"\x01");
            notes.add_cancel(number, 1);
        }
        assert_eq!((notes.pings.len(), notes.cancel_order.len()), (PINGS_MAX, CANCELS_MAX));
        while notes.next_ping().is_some() {}
        notes.add_ping(u64::MAX, b"\x01");
        assert!(!notes.has_ping(), "those answered early are remembered, and count");
        let kept = PINGS_MAX as u64;
        assert!((0..kept).all(|number| !notes.take_ping(number)));
        assert!(notes.take_ping(kept));
    }
}
