//! Tasks that take too long or are not wanted any more: their clocks, and how they are stopped.
//!
//! A task is stopped where it is. If it waits, it just ends. If a worker is doing it, the worker is told (CANCEL), and ended if
//! it does not stop: only then is the attempt over, so that two attempts never overlap. If it stands in a worker behind
//! others, it ends at once and leaves a ghost: a lease without a task, whose answer means nothing, and which is stopped like a
//! task when its turn comes.

use std::time::{Duration, Instant};

use super::super::action::{Action, Event, Ticket};
use super::super::slot::{Due, Ghost, Life};
use super::super::store::{Stop, Store};
use super::super::{Cause, Limit, TaskKey};
use super::{Supervisor, later};

impl<T: Ticket> Supervisor<T> {
    /// Cancels a task: at once if no worker is doing it, else as soon as its worker has stopped or is gone.
    pub(crate) fn cancel(&mut self, key: TaskKey, now: Instant) {
        self.stop(key, Stop::Cancelled, now);
    }

    /// A limit of a task has passed.
    pub(super) fn overran(&mut self, key: TaskKey, limit: Limit, now: Instant) {
        let Some(task) = self.store.get_mut(key) else { return };
        let clocks = &mut task.extra().clocks;
        self.timers.set(key, clocks, limit, None);
        if limit == Limit::Soft {
            self.warn(key, now);
        } else {
            self.stop(key, Stop::Late(limit), now);
        }
    }

    /// A task passed its soft limit: it is told, and its worker asked to stop doing it.
    fn warn(&mut self, key: TaskKey, now: Instant) {
        // One that is being stopped has been told already.
        let Some(task) = self.store.get_mut(key).filter(|task| task.stop().is_none()) else { return };
        let (slot, id) = task.holder;
        let Some(place) = self.slots.get_mut(slot) else { return };
        let limit = task.policy.soft_limit().unwrap_or_default();
        let (worker, pid, attempt) = (place.number, place.pid, task.attempts);
        let event = Event::TaskOverdue { task: task.number, worker, pid, attempt, limit };
        self.actions.push(Action::Notice(event));
        if place.life == Life::Running
            && !place.deaf
            && place.outbox.append(|out| place.session.cancel(id, out))
        {
            let extra = task.extra();
            extra.cancel_sent = true;
            extra.stop.get_or_insert(Stop::Late(Limit::Soft));
            self.dirty.push(slot);
            // It may stand before a full stream and not see it.
            self.resume(key, now);
        }
    }

    fn stop(&mut self, key: TaskKey, why: Stop, now: Instant) {
        if self.store.is_waiting(key) {
            return self.end_unheld(key, why);
        }
        let Some(task) = self.store.get_mut(key) else { return };
        let (slot, id) = task.holder;
        match (task.stop(), why) {
            // It is being stopped already, and for a reason that ends it.
            (Some(Stop::Cancelled | Stop::Late(Limit::Total | Limit::Stream)), _) => return,
            (Some(Stop::Late(Limit::Attempt)), Stop::Late(Limit::Attempt)) => return,
            _ => {}
        }
        // From now on it is looked at when it is answered, whatever else comes.
        let was_watched = std::mem::replace(&mut task.watched, true);
        let extra = task.extra();
        extra.stop = Some(why);
        if extra.stopped_at.is_none() {
            extra.stopped_at = Some(now);
        }
        let Some(place) = self.slots.get_mut(slot) else { return };
        if !was_watched {
            place.watched += 1;
        }
        if place.life != Life::Running {
            // Its worker is on its way out already.
            return;
        }
        if !extra.cancel_sent && !place.deaf {
            extra.cancel_sent = place.outbox.append(|out| place.session.cancel(id, out));
            self.dirty.push(slot);
        }
        let told = extra.cancel_sent;
        self.resume(key, now);
        let has_turn = self.has_its_turn(slot, id);
        // While another's stream is full nothing of this one can be read, and it is not to wait for that.
        let is_paused = self.slots.get(slot).is_some_and(|place| place.paused_for.is_some());
        if !has_turn || is_paused {
            self.leave_ghost(slot, key, why);
        }
        if has_turn {
            let grace = if told { self.config.cancel_grace } else { Duration::ZERO };
            self.begin_ladder(slot, key, grace, now);
        }
    }

    /// The end of a task that a worker has and need not be waited for.
    fn leave_ghost(&mut self, slot: usize, key: TaskKey, why: Stop) {
        let cause = self.cause_of_stop(slot, key);
        let Some(task) = self.store.get_mut(key) else { return };
        let (bytes, frame_end, started) = (task.body.len() as u64, task.frame_end, task.started);
        if let Some(place) = self.slots.get_mut(slot) {
            place.ghosts.push(Ghost { key, bytes, frame_end, started, cause });
        }
        self.end_unheld(key, why);
    }

    /// The end of a task that no worker is doing.
    fn end_unheld(&mut self, key: TaskKey, why: Stop) {
        let Some(task) = self.store.get_mut(key) else { return };
        let may_have_run = task.attempts > 0;
        self.end(key, why.kind(may_have_run), |_| ());
    }

    /// Whether a worker may be doing that task now.
    pub(super) fn has_its_turn(&mut self, slot: usize, id: u32) -> bool {
        let Some(place) = self.slots.get_mut(slot) else { return false };
        let (in_order, tells_starts) = (place.session.works_in_order(), place.session.tells_starts());
        let Some(key) = place.session.leases().get(id).copied() else { return false };
        // What once had its turn keeps it, in whatever order the worker goes on.
        if self.store.get_mut(key).is_some_and(|task| task.existing_extra().is_some_and(|extra| extra.timed))
        {
            return true;
        }
        // Behind nothing else it is waited for, whatever the worker says of its beginning.
        if place.session.open_count() == 1 {
            return true;
        }
        if in_order && place.session.leases().oldest().is_some_and(|(oldest, _)| oldest == id) {
            return true;
        }
        if !tells_starts {
            return !in_order;
        }
        place.ghosts.iter().any(|ghost| ghost.key == key && ghost.started)
            || self.store.get_mut(key).is_some_and(|task| task.started)
    }

    /// The worker has so long to stop doing that task, or it is ended.
    fn begin_ladder(&mut self, slot: usize, key: TaskKey, grace: Duration, now: Instant) {
        let cause = self.cause_of_stop(slot, key);
        let Some(place) = self.slots.get_mut(slot).filter(|place| place.life == Life::Running) else {
            return;
        };
        if place.stopping.is_some() || place.must_exit() {
            return;
        }
        place.stopping = Some((key, cause.clone()));
        if place.paused_for.is_some() {
            // Its answer could not be read. The time counts from when it can.
            place.grace_left = Some(grace);
        } else if grace.is_zero() {
            self.terminate(slot, cause, now);
        } else {
            place.deadline = Some((later(now, grace), Due::Stop));
        }
    }

    /// Nothing is read of a worker from now on: the time to stop a task stands still, and one that is to end for good does not
    /// wait for that.
    pub(super) fn hold_ladder(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some((at, Due::Stop)) = place.deadline else { return };
        place.grace_left = Some(at.saturating_duration_since(now));
        place.deadline = None;
        let open: Vec<TaskKey> = place.session.leases().iter().map(|(_, key)| *key).collect();
        for key in open {
            let stop = self.store.get_mut(key).and_then(|task| task.stop());
            if let Some(why @ (Stop::Cancelled | Stop::Late(Limit::Total | Limit::Stream))) = stop {
                self.leave_ghost(slot, key, why);
            }
        }
    }

    /// A worker is read again: its time to stop a task goes on.
    pub(super) fn go_on_with_ladder(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if let Some(left) = place.grace_left.take()
            && place.life == Life::Running
            && place.stopping.is_some()
            && !place.must_exit()
        {
            place.deadline = Some((later(now, left), Due::Stop));
        }
    }

    fn cause_of_stop(&mut self, slot: usize, key: TaskKey) -> Cause {
        let Some(task) = self.store.get_mut(key) else {
            let ghosts = self.slots.get(slot).map_or(&[][..], |place| &place.ghosts);
            let ghost = ghosts.iter().find(|ghost| ghost.key == key);
            return ghost.map_or(Cause::Stopped, |ghost| ghost.cause.clone());
        };
        let number = task.number;
        match task.stop() {
            Some(Stop::Late(limit)) => {
                let after = match limit {
                    Limit::Attempt => task.policy.time_limit(),
                    Limit::Soft => task.policy.soft_limit(),
                    Limit::Stream => Some(self.config.stream_timeout),
                    Limit::Total => task.policy.total_limit(),
                };
                Cause::Overran { task: number, limit, after: after.unwrap_or_default() }
            }
            Some(Stop::Cancelled) | None => Cause::CancelIgnored { task: number },
        }
    }

    /// A worker with watched tasks gave a final answer, to `key`.
    #[cold]
    pub(super) fn after_final(&mut self, slot: usize, key: TaskKey, was_watched: bool, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.watched = place.watched.saturating_sub(u32::from(was_watched));
        if let Some(index) = place.ghosts.iter().position(|ghost| ghost.key == key) {
            let ghost = place.ghosts.swap_remove(index);
            place.open_bytes = place.open_bytes.saturating_sub(ghost.bytes);
        }
        if place.paused_for == Some(key) {
            self.unpause(slot, now);
        }
        let Some(place) = self.slots.get_mut(slot) else { return };
        // Once SIGTERM is sent it stays the reason of the end: whatever the worker begins now is not to blame for it.
        let has_stopped = place.life == Life::Running
            && place.stopping.as_ref().is_some_and(|(stopping, _)| *stopping == key);
        #[cfg(test)]
        let has_stopped = has_stopped && self.flaw != Some(crate::core::Flaw::CancelHitsTheNext);
        if has_stopped {
            place.stopping = None;
            place.grace_left = None;
            if matches!(place.deadline, Some((_, Due::Stop))) {
                place.deadline = None;
            }
            // What is to stop besides has had its CANCEL; its time begins now.
            return self.review_turns(slot, now);
        }
        if place.watched > 0 && (place.session.works_in_order() || place.session.open_count() == 1) {
            let next = place.session.leases().oldest().map(|(_, key)| *key);
            if let Some(next) = next {
                self.take_turn(slot, next, now);
            }
        }
    }

    /// Looks at every task of a worker whose turn it may be.
    pub(super) fn review_turns(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.watched == 0 || place.life != Life::Running {
            return;
        }
        // The one that is to stop since longest comes first: of several only one can be waited for.
        let store = &mut self.store;
        let mut since = |key| store.get_mut(key)?.existing_extra()?.stopped_at;
        let leases = place.session.leases().iter();
        let mut open: Vec<(Instant, u32, TaskKey)> =
            leases.map(|(id, key)| (since(*key).unwrap_or(now), id, *key)).collect();
        open.sort_unstable();
        for (_, id, key) in open {
            if self.has_its_turn(slot, id) {
                self.take_turn(slot, key, now);
            }
        }
    }

    /// A worker says that it works in order from now on: what stands behind its oldest task is not timed yet.
    pub(super) fn take_back_turns(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot).filter(|place| place.watched > 0) else { return };
        let oldest = place.session.leases().oldest().map(|(_, key)| *key);
        let open: Vec<TaskKey> = place.session.leases().iter().map(|(_, key)| *key).collect();
        for key in open.into_iter().filter(|key| Some(*key) != oldest) {
            let Some(task) = self.store.get_mut(key).filter(|task| task.stop().is_none()) else { continue };
            let Some(extra) = task.existing_extra() else { continue };
            extra.timed = false;
            extra.frozen = None;
            for limit in [Limit::Attempt, Limit::Soft] {
                self.timers.set(key, &mut extra.clocks, limit, None);
            }
        }
    }

    /// A worker begins that task, or the ghost of one.
    pub(super) fn take_turn(&mut self, slot: usize, key: TaskKey, now: Instant) {
        #[cfg(test)]
        if self.store.get_mut(key).is_none() && self.has_flaw(crate::core::Flaw::LeavesGhosts) {
            return;
        }
        let grace = self.config.cancel_grace;
        match self.store.get_mut(key) {
            // The soft limit uses no force.
            Some(task) if matches!(task.stop(), None | Some(Stop::Late(Limit::Soft))) => {
                self.start_clocks(key, now)
            }
            Some(task) => {
                // It was told when its time was over, and did not have to wait for others to stop.
                let (told, since) = task
                    .existing_extra()
                    .map_or((true, now), |extra| (extra.cancel_sent, extra.stopped_at.unwrap_or(now)));
                let grace = if told { grace } else { Duration::ZERO };
                self.begin_ladder(slot, key, grace.saturating_sub(now.saturating_duration_since(since)), now);
            }
            None => self.begin_ladder(slot, key, grace, now),
        }
    }

    /// An attempt begins to run.
    pub(super) fn start_clocks(&mut self, key: TaskKey, now: Instant) {
        let Some(task) = self.store.get_mut(key) else { return };
        if !task.policy.times_attempts() {
            return;
        }
        let (hard, soft, slot) = (task.policy.time_limit(), task.policy.soft_limit(), task.holder.0);
        let extra = task.extra();
        if std::mem::replace(&mut extra.timed, true) {
            return;
        }
        if self.slots.get(slot).is_some_and(|place| place.paused_for.is_some()) {
            extra.frozen = Some((hard, soft));
            return;
        }
        self.timers.set(key, &mut extra.clocks, Limit::Attempt, hard.map(|limit| later(now, limit)));
        self.timers.set(key, &mut extra.clocks, Limit::Soft, soft.map(|limit| later(now, limit)));
    }

    /// A sign of progress: the soft limit counts from now.
    pub(super) fn push_soft_limit(&mut self, key: TaskKey, now: Instant) {
        let Some(task) = self.store.get_mut(key) else { return };
        #[cfg(test)]
        let hard = task.policy.time_limit().map(|limit| later(now, limit));
        #[cfg(test)]
        match self.flaw {
            Some(crate::core::Flaw::ProgressExtendsNothing) => return,
            Some(crate::core::Flaw::ProgressExtendsTheHardLimit) => {
                self.timers.set(key, &mut task.extra().clocks, Limit::Attempt, hard);
            }
            _ => {}
        }
        let Some(limit) = task.policy.soft_limit() else { return };
        let extra = task.extra();
        if extra.clocks.at(Limit::Soft).is_some() {
            self.timers.set(key, &mut extra.clocks, Limit::Soft, Some(later(now, limit)));
        }
        if let Some((_, Some(soft))) = &mut extra.frozen {
            *soft = limit;
        }
    }

    /// An attempt is over; the limit of all attempts together goes on.
    pub(super) fn end_attempt(&mut self, key: TaskKey) {
        let Some(task) = self.store.get_mut(key) else { return };
        task.started = false;
        task.watched = false;
        let Some(extra) = task.existing_extra() else { return };
        extra.stop = None;
        extra.stopped_at = None;
        extra.cancel_sent = false;
        extra.frozen = None;
        extra.timed = false;
        extra.drops_items = false;
        extra.lost_items = false;
        for limit in [Limit::Attempt, Limit::Soft, Limit::Stream] {
            self.timers.set(key, &mut extra.clocks, limit, None);
        }
    }
}
