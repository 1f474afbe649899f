//! What a death means: for the tasks that the worker held, and for its place.

use std::sync::Arc;
use std::time::Instant;

use super::super::action::{Action, Event, Ticket};
use super::super::restart::{Life as PastLife, RestartHistory, Verdict};
use super::super::slot::{Due, Life};
use super::super::store::{Release, Store};
use super::super::{Cause, Death, TaskError, TaskErrorKind, TaskKey};
use super::{Phase, Supervisor, broken, is_delivered_enough};

/// A worker that exits with this code says that another start would fail as well.
const EXIT_PERMANENT: i32 = 125;

/// A pool breaks when more tasks than this ended by the death of their workers with no answer in between: then it is not the
/// tasks. Twenty deadly records in a row happen in real inputs; a program that dies on every task must not be started for each
/// of a million.
const DEADLY_IN_A_ROW_MAX: u32 = 20;

/// What a worker was doing with a task when it died.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Guilt {
    /// It was running this one.
    Certain,
    /// It surely had not begun it. `in_vain` if no task came further by the worker's life or death.
    None { in_vain: bool },
    /// It was running this one, or not, or several.
    Possible,
}

impl<T: Ticket> Supervisor<T> {
    /// What becomes of the tasks that a dead worker had not answered.
    pub(super) fn judge_tasks(&mut self, slot: usize, unread: u64, death: &Arc<Death>) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let ended_with_bye = place.session.has_ended();
        let serial = place.session.child().serial;
        let fruitful = place.finished > 0;
        let alone = std::mem::take(&mut place.alone);
        let reached = place.outbox.written().saturating_sub(unread);
        let open = place.session.leases().close_all();
        // What did not reach it to the end cannot have been begun. Tasks go out in order, so the others stand in front.
        let store = &mut self.store;
        let read = open
            .iter()
            .take_while(|(_, key)| store.get_mut(*key).is_none_or(|task| task.frame_end <= reached));
        let suspects = if ended_with_bye { 0 } else { read.count() };
        let blame_one = suspects == 1 || (suspects > 1 && (serial || alone));
        // Back to the front of the queue, the oldest last, so that it stands first.
        for (place_in_line, (_, key)) in open.into_iter().enumerate().rev() {
            let guilt = match (place_in_line < suspects, blame_one) {
                (true, true) if place_in_line == 0 => Guilt::Certain,
                (true, false) => Guilt::Possible,
                (_, true) => Guilt::None { in_vain: false },
                (false, false) => Guilt::None { in_vain: !fruitful },
            };
            // Once alone, always alone: in company it would make suspects of its neighbours again.
            let again = if serial && !alone { Release::Again } else { Release::Alone };
            self.judge_task(key, guilt, again, death);
        }
    }

    /// Back into the queue, or the end. If it is to blame and has lives left, it goes back as `again`.
    fn judge_task(&mut self, key: TaskKey, guilt: Guilt, again: Release, death: &Arc<Death>) {
        if matches!(self.phase, Phase::Stopping | Phase::Broken(_)) {
            return self.end_stopped(key, death);
        }
        let Some(task) = self.store.get_mut(key) else { return };
        let mut event = Some(Event::TaskRetried {
            task: task.number,
            attempt: task.attempts,
            death: Some(Arc::clone(death)),
        });
        let how = match guilt {
            Guilt::None { in_vain } => {
                if in_vain && is_delivered_enough(task) {
                    return self.end_task(key, TaskErrorKind::Dead, death);
                }
                // It loses nothing: not a life, and not one of its deliveries either, since it stood behind something that
                // made way. A queue behind ten deadly tasks must not be counted out.
                task.attempts = task.attempts.saturating_sub(1);
                task.deliveries = task.deliveries.saturating_sub(u32::from(!in_vain));
                event = None;
                Release::Again
            }
            Guilt::Certain | Guilt::Possible if task.policy.at_most_once => {
                return self.end_task(key, TaskErrorKind::Lost, death);
            }
            Guilt::Possible if is_delivered_enough(task) => {
                return self.end_task(key, TaskErrorKind::Dead, death);
            }
            Guilt::Possible => Release::Alone,
            Guilt::Certain => {
                task.lives_used += 1;
                if task.lives_used >= task.policy.attempts {
                    return self.end_task(key, TaskErrorKind::Dead, death);
                }
                again
            }
        };
        self.actions.extend(event.map(Action::Notice));
        self.store.release(key, how);
    }

    /// The end of a task by the death of its worker.
    fn end_task(&mut self, key: TaskKey, kind: TaskErrorKind, death: &Arc<Death>) {
        if matches!(kind, TaskErrorKind::Dead | TaskErrorKind::Lost) {
            // The task killed its workers, not they themselves: none of them is to be given up for it.
            self.deadly_in_a_row = self.deadly_in_a_row.saturating_add(1);
            for place in &mut self.slots {
                place.history = RestartHistory::default();
            }
        }
        let Some(task) = self.store.finish(key) else { return };
        let mut error = TaskError::new(kind, task.number, death.to_string());
        error.attempt = task.attempts;
        error.worker = Some(death.worker);
        error.pid = death.pid;
        error.death = Some(Arc::clone(death));
        self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
    }

    /// The end of a task that a worker held when the pool was ended.
    fn end_stopped(&mut self, key: TaskKey, death: &Arc<Death>) {
        let Phase::Broken(first) = &self.phase else {
            return self.end_task(key, TaskErrorKind::Closed, death);
        };
        let first = Arc::clone(first);
        if let Some(task) = self.store.finish(key) {
            let mut error = broken(task.number, &first);
            error.attempt = task.attempts;
            error.worker = Some(death.worker);
            error.pid = death.pid;
            self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
        }
    }

    /// Tells of a death that nobody asked for.
    pub(super) fn announce(&mut self, slot: usize, death: &Arc<Death>) {
        let was_ending = self.slots.get(slot).is_some_and(|place| place.life == Life::Ending);
        let was_asked = was_ending && matches!(death.cause, Cause::Exited);
        if !was_asked && !matches!(death.cause, Cause::Stopped) {
            self.actions.push(Action::Notice(Event::WorkerDied(Arc::clone(death))));
        }
    }

    /// What becomes of the slot of a dead worker.
    pub(super) fn judge_slot(&mut self, slot: usize, death: Arc<Death>, life: PastLife, now: Instant) {
        let unheld = self.unheld();
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.finished_ever += std::mem::take(&mut place.finished);
        place.outbox.discard();
        place.deadline = None;
        // While draining, tasks that nobody holds need somebody, were it one that had been told to go.
        let restart = match self.phase {
            Phase::Serving => true,
            Phase::Draining(_) => unheld > 0,
            Phase::Stopping | Phase::Broken(_) => false,
        };
        if !restart {
            place.life = Life::Retired;
            return;
        }
        place.life = Life::Vacant;
        // Before anybody was ready these are no accidents: the next try would end the same.
        let hopeless = !self.ever_ready
            && life != PastLife::Unborn
            && matches!(death.cause, Cause::Spawn { .. } | Cause::HelloTimeout(_) | Cause::Protocol(_));
        let verdict = match death.code() {
            _ if hopeless => Verdict::GiveUp,
            _ if life == PastLife::Unborn => place.history.ended(life, now),
            Some(EXIT_PERMANENT) => Verdict::GiveUp,
            _ if self.deadly_in_a_row > DEADLY_IN_A_ROW_MAX => Verdict::GiveUp,
            _ => place.history.ended(life, now),
        };
        match verdict {
            Verdict::Restart(pause) if pause.is_zero() => self.spawn(slot),
            Verdict::Restart(pause) => place.deadline = Some((now + pause, Due::Respawn)),
            Verdict::GiveUp => {
                place.life = Life::Retired;
                let deadly = self.deadly_in_a_row > DEADLY_IN_A_ROW_MAX;
                if hopeless || deadly || self.is_over() {
                    self.break_down(death);
                }
            }
        }
    }
}
