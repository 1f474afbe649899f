//! The end of a task: out of the table, its outcome to whoever waits, and among the dead letters if it belongs there. Why it
//! ends is for others to say; only how often it may be handed out in vain is said here.

use std::sync::Arc;

use super::super::action::{Action, DeadLetter, Event, Ticket};
use super::super::store::{Store, Task, TaskKey};
use super::super::{Death, Details, TaskError, TaskErrorKind};
use super::Supervisor;

/// A task may be handed out in vain so many times more than it has lives: enough for workers that die before they begin it,
/// and an end for a message that kills them while it is read.
const DELIVERIES_BEYOND_LIVES: u32 = 8;

impl<T: Ticket> Supervisor<T> {
    /// Tells whoever waits for a task that it has no answer. Room of so many bytes is free.
    pub(super) fn fail_task(&mut self, ticket: T, weight: usize, error: TaskError) {
        self.released.tasks += 1;
        self.released.bytes += weight;
        self.actions.push(Action::Fail { ticket, error });
    }

    /// Takes a task out of the table for good.
    #[inline]
    pub(super) fn take_out(&mut self, key: TaskKey) -> Option<Task<T>> {
        let mut task = self.store.finish(key)?;
        task.stop_clocks(key, &mut self.timers);
        Some(task)
    }

    /// The end of a task that has no answer.
    pub(super) fn end(&mut self, key: TaskKey, kind: TaskErrorKind, dress: impl FnOnce(&mut Details)) {
        let Some(mut task) = self.take_out(key) else { return };
        if task.is_batch() {
            return self.end_batch(task, kind, dress);
        }
        let mut error = TaskError::new(kind, task.number, "");
        error.details.attempt = task.attempts;
        error.details.attempts = task.extra.take().map_or_else(Vec::new, |extra| extra.attempts);
        dress(&mut error.details);
        #[cfg(test)]
        let drops = self.has_flaw(crate::core::Flaw::DropsDeadLetters);
        #[cfg(not(test))]
        let drops = false;
        if self.config.keeps_dead_letters && !drops && is_for_dead_letters(&error) {
            let error = Arc::new(error.clone());
            let event = Event::DeadLettered { task: task.number, error: Arc::clone(&error) };
            self.actions.push(Action::Bury(Box::new(DeadLetter {
                task: task.number,
                body: task.body.into_vec(),
                policy: task.policy,
                error,
            })));
            self.actions.push(Action::Notice(event));
        }
        self.fail_task(task.ticket, task.weight, error);
    }

    /// The end of what is left of a batch, for a reason that has nothing to do with any one of it.
    fn end_batch(&mut self, mut task: Task<T>, kind: TaskErrorKind, dress: impl FnOnce(&mut Details)) {
        let mut error = TaskError::new(kind, task.number, "");
        error.details.attempt = task.attempts;
        dress(&mut error.details);
        for _ in 0..task.left() {
            let ticket = task.ticket.split_front(1);
            self.fail_task(ticket, std::mem::take(&mut task.weight), error.clone());
            error.details.task += 1;
        }
        self.released.bytes += task.weight;
    }
}

/// Whether a task that ended so is kept: its attempts were spent, or it may have been done and must not be done again. A
/// failure that a worker reports as final is an answer.
fn is_for_dead_letters(error: &TaskError) -> bool {
    match error.details.kind {
        TaskErrorKind::Dead | TaskErrorKind::Lost | TaskErrorKind::TimedOut { .. } => true,
        TaskErrorKind::Failed => error.details.attempts.len() > 1,
        _ => false,
    }
}

/// Whether a task was handed out in vain so often that it is given up.
pub(super) fn is_delivered_enough<T>(task: &Task<T>) -> bool {
    task.deliveries >= task.policy.attempts.saturating_add(DELIVERIES_BEYOND_LIVES)
}

pub(super) fn closed(number: u64) -> TaskError {
    TaskError::new(TaskErrorKind::Closed, number, "the pool was shut down")
}

pub(super) fn broken(number: u64, death: &Arc<Death>) -> TaskError {
    let mut error = TaskError::new(TaskErrorKind::Broken, number, death.to_string());
    error.details.death = Some(Arc::clone(death));
    error
}
