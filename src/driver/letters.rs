//! Where tasks that could not be done lie until somebody takes them. Bounded by the gate, which lets no task in while it is full.

use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::core::DeadLetter;

/// See the module.
///
/// The channel has no bound of its own, because burying must neither wait nor lose anything. Each letter is a task that was let
/// in while there were fewer than `capacity`, so there are never more than `capacity` and the pool's queue together.
#[derive(Debug)]
pub(super) struct Letters {
    capacity: usize,
    receiver: Receiver<DeadLetter>,
    /// `None` once the pool has ended.
    sender: Mutex<Option<Sender<DeadLetter>>>,
}

impl Letters {
    pub(super) fn new(capacity: usize) -> Self {
        let (sender, receiver) = unbounded();
        Self { capacity: capacity.max(1), receiver, sender: Mutex::new(Some(sender)) }
    }

    /// Whether so many lie here that no task may be let in.
    pub(super) fn is_full(&self) -> bool {
        self.receiver.len() >= self.capacity
    }

    pub(super) fn bury(&self, letter: DeadLetter) {
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            // Cannot fail: a receiver is kept here.
            let _ = sender.send(letter);
        }
    }

    pub(super) fn receiver(&self) -> Receiver<DeadLetter> {
        self.receiver.clone()
    }

    /// None will come any more: who receives gets what lies here, and then the end.
    pub(super) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::{TaskError, TaskErrorKind};

    fn letter(task: u64) -> DeadLetter {
        let error = Arc::new(TaskError::new(TaskErrorKind::Dead, task, ""));
        DeadLetter { task, body: Vec::new(), policy: crate::Policy::default(), error }
    }

    #[test]
    fn it_is_full_at_its_capacity_until_one_is_taken() {
        let letters = Letters::new(2);
        letters.bury(letter(1));
        assert!(!letters.is_full());
        letters.bury(letter(2));
        assert!(letters.is_full());
        assert_eq!(letters.receiver().try_recv().map(|letter| letter.task), Ok(1));
        assert!(!letters.is_full());
    }

    #[test]
    fn nothing_is_lost_above_the_capacity() {
        let letters = Letters::new(1);
        (1..=5).for_each(|task| letters.bury(letter(task)));
        let tasks: Vec<u64> = letters.receiver().try_iter().map(|letter| letter.task).collect();
        assert_eq!(tasks, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn letters_outlive_the_pool_and_then_end() {
        let letters = Letters::new(1);
        letters.bury(letter(7));
        letters.close();
        let tasks: Vec<u64> = letters.receiver().iter().map(|letter| letter.task).collect();
        assert_eq!(tasks, [7]);
    }
}
