//! What a death means: for the tasks that the worker held, and for its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::action::{Action, Event, Ticket};
use super::super::restart::{Life as PastLife, RestartHistory, Verdict};
use super::super::slot::{Due, Life};
use super::super::store::{Release, Stop, Store};
use super::super::{AttemptEnd, Cause, Death, Limit, TaskErrorKind, TaskKey};
use super::messages::record;
use super::{Phase, Supervisor, is_delivered_enough};

/// A worker that exits with this code says that another start would fail as well.
const EXIT_PERMANENT: i32 = 125;

/// A pool breaks when more tasks than this ended by the death of their workers with no answer in between: then it is not the
/// tasks. Twenty deadly records in a row happen in real inputs; a program that dies on every task must not be started for each
/// of a million.
const DEADLY_IN_A_ROW_MAX: u32 = 20;

/// What a worker was doing with a task when it died.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Guilt {
    /// It was running this one.
    Certain,
    /// It surely had not begun it. `in_vain` if it had read of it, and no task came further by its life or death.
    None { in_vain: bool },
    /// It was running this one, or not, or several.
    Possible,
    /// It may have been running this one, and was ended for the sake of another.
    Spared,
    /// It was ended for the sake of this one, and had not even read it.
    Unread,
}

/// A task that a dead worker had not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    key: TaskKey,
    /// How many it is.
    tasks: u32,
    /// It may have begun it.
    suspect: bool,
    /// It had read of it. One that read nothing cannot have died of it.
    touched: bool,
}

/// What was found at the place of a dead worker.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The tasks that it had not answered, oldest first.
    pub(super) open: Vec<Open>,
    /// The one that it was doing, if that is certain.
    blamed: Option<TaskKey>,
    /// The one it was ended for, if it was.
    target: Option<TaskKey>,
    /// It worked in order, and wrote every answer before it went on.
    serial: bool,
    /// It worked in order.
    in_order: bool,
    /// It had nothing but one task that must be alone.
    alone: bool,
    /// It had answered some.
    fruitful: bool,
}

impl Found {
    /// The one that the worker was doing, or was ended for, if that is certain.
    pub(super) fn culprit(&self) -> Option<TaskKey> {
        // What it was ended for it may have answered since.
        let target = self.target.filter(|target| self.open.iter().any(|open| open.key == *target));
        target.or(self.blamed)
    }

    /// How many tasks it had not answered.
    pub(super) fn tasks(&self) -> u32 {
        self.open.iter().map(|open| open.tasks).sum()
    }

    /// Whether the parent ended the worker because of one of its tasks.
    pub(super) fn is_for_a_task(&self) -> bool {
        self.target.is_some()
    }
}

impl<T: Ticket> Supervisor<T> {
    /// Which tasks a dead worker had not answered, and which of them it may have begun.
    pub(super) fn examine(&mut self, slot: usize, unread: u64) -> Found {
        let Some(place) = self.slots.get_mut(slot) else { return Found::default() };
        let ended_with_bye = place.session.has_ended();
        let tells_starts = place.session.tells_starts();
        let serial = place.session.child().serial;
        let in_order = place.session.works_in_order() && !tells_starts;
        let target = match place.fault {
            Some(Cause::Overran { .. } | Cause::CancelIgnored { .. }) => {
                place.stopping.as_ref().map(|(key, _)| *key)
            }
            _ => None,
        };
        let alone = std::mem::take(&mut place.alone);
        let reached = place.outbox.written().saturating_sub(unread);
        let fruitful = place.finished > 0;
        let leases = place.session.leases().close_all();
        place.open_tasks = 0;
        let ghosts = std::mem::take(&mut place.ghosts);
        // What did not reach it to the end cannot have been begun. Tasks go out in order, so the others stand in front.
        let store = &mut self.store;
        let mut has_read = !ended_with_bye;
        let mut open = Vec::with_capacity(leases.len());
        for (_, key) in leases {
            let ghost =
                ghosts.iter().find(|ghost| ghost.key == key).map(|ghost| (ghost.frame_end, ghost.started));
            let task = store.get_mut(key);
            let tasks = task.as_ref().map_or(1, |task| task.left());
            let frame_start = task.as_ref().map_or(u64::MAX, |task| task.frame_start);
            let (frame_end, started) =
                task.map(|task| (task.frame_end, task.started)).or(ghost).unwrap_or((0, true));
            has_read &= frame_end <= reached;
            open.push(Open {
                key,
                tasks,
                suspect: has_read && (started || !tells_starts),
                touched: frame_start < reached,
            });
        }
        let mut suspects = open.iter().filter(|open| open.suspect).map(|open| open.key);
        let first = suspects.next();
        let is_one = first.is_some() && (suspects.next().is_none() || alone || (serial && !tells_starts));
        #[cfg(test)]
        let is_one = is_one || (first.is_some() && self.has_flaw(crate::core::Flaw::BlamesTheOldestAlways));
        let blamed = first.filter(|_| is_one);
        Found { open, blamed, target, serial, in_order, alone, fruitful }
    }

    /// What becomes of the tasks that a dead worker had not answered.
    pub(super) fn judge_tasks(&mut self, found: Found, death: &Arc<Death>, now: Instant) {
        let Found { open, blamed, target, serial, in_order, alone, fruitful } = found;
        // Until the one that it was ended for is met, going from the newest to the oldest.
        let mut is_behind =
            in_order && target.is_some_and(|target| open.iter().any(|open| open.key == target));
        // Once alone, always alone: in company it would make suspects of its neighbours again.
        let again = if serial && !alone { Release::Again } else { Release::Alone };
        // Back to the front of the queue, the oldest last, so that it stands first.
        for Open { key, suspect, touched, .. } in open.into_iter().rev() {
            is_behind &= target != Some(key);
            let guilt = match (suspect, blamed) {
                _ if is_behind => Guilt::None { in_vain: false },
                (true, _) if target == Some(key) => Guilt::Certain,
                (false, _) if target == Some(key) => Guilt::Unread,
                (true, _) if target.is_some() => Guilt::Spared,
                (true, Some(blamed)) if blamed == key => Guilt::Certain,
                (true, None) => Guilt::Possible,
                (_, Some(_)) => Guilt::None { in_vain: false },
                (false, None) => Guilt::None { in_vain: touched && !fruitful && target.is_none() },
            };
            #[cfg(test)]
            let guilt = match guilt {
                Guilt::None { .. } if self.has_flaw(crate::core::Flaw::BlamesTheQueued) => Guilt::Certain,
                guilt => guilt,
            };
            self.judge_task(key, guilt, again, death, now);
        }
    }

    /// Back into the queue, or the end. If it is to blame and may be tried again, it goes back as `again`.
    pub(super) fn judge_task(
        &mut self,
        key: TaskKey,
        guilt: Guilt,
        again: Release,
        death: &Arc<Death>,
        now: Instant,
    ) {
        if matches!(self.phase, Phase::Stopping | Phase::Broken(_)) {
            return self.end_stopped(key, death);
        }
        let (worker, pid) = (death.worker, death.pid.unwrap_or(0));
        #[cfg(test)]
        let tries_for_ever = self.has_flaw(crate::core::Flaw::RetriesForEver);
        let Some(task) = self.store.get_mut(key) else { return };
        if task.left() == 0 {
            // All results of it were given.
            return self.end(key, TaskErrorKind::Dead, |_| ());
        }
        // Untouched, it goes whole to another worker.
        if task.is_batch() && (task.given > 0 || !matches!(guilt, Guilt::None { in_vain: false })) {
            return self.judge_batch(key, guilt, again, death, now);
        }
        let stop = task.stop();
        let is_once = task.policy.at_most_once;
        let shows_items = task.gave_items() && !task.policy.restarts_stream;
        if !matches!(guilt, Guilt::None { .. }) {
            record(task, worker, pid, AttemptEnd::Died(Arc::clone(death)), now);
        }
        match stop {
            Some(stop @ (Stop::Cancelled | Stop::Late(Limit::Total | Limit::Stream))) => {
                return self.end_wanted(key, stop, guilt, death);
            }
            Some(stop @ Stop::Late(_)) if matches!(guilt, Guilt::Certain | Guilt::Unread) => {
                task.lives_used += 1;
                let is_spent = task.lives_used >= task.policy.attempts;
                if is_spent || is_once || shows_items || !task.policy.retries_timeouts {
                    return self.end_wanted(key, stop, guilt, death);
                }
                let pause = task.policy.longest_pause(task.lives_used);
                let pause = self.random.up_to(pause);
                return self.try_again(key, again, pause, Some(death), now);
            }
            _ => {}
        }
        match guilt {
            Guilt::None { in_vain } => {
                if in_vain && is_delivered_enough(task) {
                    return self.end_task(key, TaskErrorKind::Dead, death);
                }
                // It loses nothing: not a life, and not one of its deliveries either, since it stood behind something that
                // made way. A queue behind ten deadly tasks must not be counted out.
                task.attempts = task.attempts.saturating_sub(1);
                task.deliveries = task.deliveries.saturating_sub(u32::from(!in_vain));
                self.end_attempt(key);
                self.store.release(key, Release::Again);
            }
            _ if is_once => self.end_task(key, TaskErrorKind::Lost, death),
            _ if shows_items => {
                let shown = task.lives_used + 1 < task.policy.attempts;
                self.end_dead(key, TaskErrorKind::Dead, death, shown);
            }
            // One that is a target is to stop, and was seen to above.
            Guilt::Spared | Guilt::Unread => {
                task.deliveries = task.deliveries.saturating_sub(1);
                self.try_again(key, Release::Again, Duration::ZERO, Some(death), now);
            }
            Guilt::Certain | Guilt::Possible if !task.policy.retries_crashes => {
                self.end_task(key, TaskErrorKind::Dead, death);
            }
            Guilt::Possible if is_delivered_enough(task) => self.end_task(key, TaskErrorKind::Dead, death),
            Guilt::Possible => self.try_again(key, Release::Alone, Duration::ZERO, Some(death), now),
            Guilt::Certain => {
                task.lives_used += 1;
                let is_spent = task.lives_used >= task.policy.attempts;
                #[cfg(test)]
                let is_spent = is_spent && !tries_for_ever;
                if is_spent {
                    return self.end_task(key, TaskErrorKind::Dead, death);
                }
                // The first retry comes at once; after that a crash is no chance any more.
                let pause = match task.lives_used {
                    0 | 1 => Duration::ZERO,
                    lives => task.policy.longest_pause(lives - 1),
                };
                let pause = self.random.up_to(pause);
                self.try_again(key, again, pause, Some(death), now);
            }
        }
    }

    /// An attempt is over and another follows, after the pause.
    pub(super) fn try_again(
        &mut self,
        key: TaskKey,
        how: Release,
        pause: Duration,
        death: Option<&Arc<Death>>,
        now: Instant,
    ) {
        let Some(task) = self.store.get_mut(key) else { return };
        let (number, attempt) = (task.number, task.attempts);
        let death = death.map(Arc::clone);
        self.actions.push(Action::Notice(Event::TaskRetried { task: number, attempt, death, pause }));
        self.end_attempt(key);
        self.store.release(key, if pause.is_zero() { how } else { how.not_before(now + pause) });
    }

    /// The end of a task that was to stop.
    fn end_wanted(&mut self, key: TaskKey, stop: Stop, guilt: Guilt, death: &Arc<Death>) {
        let Some(task) = self.store.get_mut(key) else { return };
        let may_have_run = !matches!(guilt, Guilt::None { .. } | Guilt::Unread) || task.attempts > 1;
        self.end_task(key, stop.kind(may_have_run), death);
    }

    /// The end of a task by the death of its worker.
    fn end_task(&mut self, key: TaskKey, kind: TaskErrorKind, death: &Arc<Death>) {
        self.end_dead(key, kind, death, false);
    }

    /// The same, perhaps only because results of it were `shown` to somebody.
    fn end_dead(&mut self, key: TaskKey, kind: TaskErrorKind, death: &Arc<Death>, shown: bool) {
        if matches!(kind, TaskErrorKind::Dead | TaskErrorKind::Lost) {
            // The task killed its workers, not they themselves: none of them is to be given up for it.
            self.deadly_in_a_row = self.deadly_in_a_row.saturating_add(1);
            for place in &mut self.slots {
                place.history = RestartHistory::default();
            }
        }
        self.end(key, kind, |error| {
            error.detail = death.to_string();
            error.shown = shown;
            error.worker = Some(death.worker);
            error.pid = death.pid;
            error.death = Some(Arc::clone(death));
        });
    }

    /// The end of a task that a worker held when the pool was ended.
    fn end_stopped(&mut self, key: TaskKey, death: &Arc<Death>) {
        let Phase::Broken(first) = &self.phase else {
            return self.end_task(key, TaskErrorKind::Closed, death);
        };
        let first = Arc::clone(first);
        self.end(key, TaskErrorKind::Broken, |error| {
            error.detail = first.to_string();
            error.worker = Some(death.worker);
            error.pid = death.pid;
            error.death = Some(first);
        });
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
        place.stopping = None;
        place.paused_for = None;
        place.grace_left = None;
        // While draining, tasks that nobody holds need somebody, were it one that had been told to go.
        let restart = match self.phase {
            Phase::Serving => true,
            Phase::Draining(_) => unheld > 0,
            Phase::Stopping | Phase::Broken(_) => false,
        };
        if !restart {
            place.life = Life::Retired;
            return self.unlink(slot);
        }
        if self.is_replaced(slot, now) {
            return;
        }
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.life = Life::Vacant;
        #[cfg(test)]
        if self.flaw == Some(crate::core::Flaw::ForgetsIntensity) && life == PastLife::Fruitless {
            place.history = RestartHistory::default();
        }
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
                place.given_up = true;
                self.actions.push(Action::Notice(Event::WorkerGivenUp(Arc::clone(&death))));
                let deadly = self.deadly_in_a_row > DEADLY_IN_A_ROW_MAX;
                if hopeless || deadly || self.counted() == 0 {
                    self.break_down(death);
                }
            }
        }
    }
}
