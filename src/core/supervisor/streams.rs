//! Results of tasks with many of them: handed on as they come, and held back at their source while nobody takes them.

use std::time::Instant;

use super::super::action::{Action, Event, ItemFate, Ticket};
use super::super::slot::Life;
use super::super::store::{Stop, Store};
use super::super::{Limit, TaskKey};
use super::{Supervisor, later};

impl<T: Ticket> Supervisor<T> {
    /// A worker gave one of a task's results.
    pub(super) fn handle_item(&mut self, slot: usize, key: TaskKey, data: &[u8], now: Instant) {
        // Of a ghost nobody wants any.
        let Some(task) = self.store.get_mut(key) else { return };
        // One that is told to stop may still come to its end in time, and its answer counts then. So its results do as well, as
        // long as there is room; once one is thrown away, there is no whole answer any more.
        let is_to_stop = !matches!(task.stop(), None | Some(Stop::Late(Limit::Soft)));
        if is_to_stop && task.extra().drops_items {
            task.extra().lost_items = true;
            return;
        }
        let fate = task.ticket.item(task.attempts, data);
        if fate == ItemFate::Unwanted {
            let number = task.number;
            return self.note_unwanted(slot, number);
        }
        task.extra().gave_items = true;
        if let Some(place) = self.slots.get_mut(slot) {
            place.streams = true;
        }
        if fate == ItemFate::Full && is_to_stop {
            task.extra().drops_items = true;
            return;
        }
        self.push_soft_limit(key, now);
        if fate == ItemFate::Full {
            self.pause(slot, key, now);
        }
    }

    fn note_unwanted(&mut self, slot: usize, task: u64) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if std::mem::replace(&mut place.gave_unwanted, true) {
            return;
        }
        let (worker, pid) = (place.number, place.pid);
        self.actions.push(Action::Notice(Event::ItemsUnwanted { task, worker, pid }));
    }

    /// Nothing is read of a worker until somebody takes what it gave. Its limits stand still meanwhile: it may be waiting to
    /// write. One that is being ended is left alone too, or it would fill the memory in its last moments.
    fn pause(&mut self, slot: usize, key: TaskKey, now: Instant) {
        let limit = self.config.stream_timeout;
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.paused_for.is_some() || !matches!(place.life, Life::Running | Life::Ending) {
            return;
        }
        place.paused_for = Some(key);
        self.actions.push(Action::PauseReading { slot });
        if place.life == Life::Ending {
            return;
        }
        let open: Vec<TaskKey> = if place.watched > 0 {
            place.session.leases().iter().map(|(_, key)| *key).collect()
        } else {
            Vec::new()
        };
        self.hold_ladder(slot, now);
        for key in open {
            self.freeze(key, now);
        }
        if let Some(task) = self.store.get_mut(key) {
            let clocks = &mut task.extra().clocks;
            self.timers.set(key, clocks, Limit::Stream, Some(later(now, limit)));
            #[cfg(test)]
            if self.flaw == Some(crate::core::Flaw::ForgetsTotalWhilePaused) {
                self.timers.set(key, clocks, Limit::Total, None);
            }
        }
    }

    /// There is room for more results of that task, or they are not wanted: its worker is read again.
    pub(crate) fn resume(&mut self, key: TaskKey, now: Instant) {
        let Some(task) = self.store.get_mut(key) else { return };
        let slot = task.holder.0;
        #[cfg(test)]
        if self.flaw == Some(crate::core::Flaw::NeverResumes) {
            return;
        }
        if self.slots.get(slot).is_some_and(|place| place.paused_for == Some(key)) {
            self.unpause(slot, now);
        }
    }

    /// A worker that nothing was read of is read again.
    pub(super) fn unpause(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(key) = place.paused_for.take() else { return };
        place.heard = now;
        place.inside_frame = place.inside_frame.map(|_| now);
        self.actions.push(Action::ResumeReading { slot });
        let open: Vec<TaskKey> = place.session.leases().iter().map(|(_, key)| *key).collect();
        if let Some(task) = self.store.get_mut(key) {
            let clocks = &mut task.extra().clocks;
            self.timers.set(key, clocks, Limit::Stream, None);
        }
        for key in open {
            self.thaw(key, now);
        }
        self.go_on_with_ladder(slot, now);
        self.review_turns(slot, now);
    }

    fn freeze(&mut self, key: TaskKey, now: Instant) {
        let Some(extra) = self.store.get_mut(key).and_then(|task| task.existing_extra()) else { return };
        let left = |limit| extra.clocks.at(limit).map(|at: Instant| at.saturating_duration_since(now));
        extra.frozen = Some((left(Limit::Attempt), left(Limit::Soft)));
        self.timers.set(key, &mut extra.clocks, Limit::Attempt, None);
        self.timers.set(key, &mut extra.clocks, Limit::Soft, None);
    }

    fn thaw(&mut self, key: TaskKey, now: Instant) {
        let Some(extra) = self.store.get_mut(key).and_then(|task| task.existing_extra()) else { return };
        let Some((hard, soft)) = extra.frozen.take() else { return };
        for (limit, left) in [(Limit::Attempt, hard), (Limit::Soft, soft)] {
            if let Some(left) = left {
                self.timers.set(key, &mut extra.clocks, limit, Some(later(now, left)));
            }
        }
    }
}
