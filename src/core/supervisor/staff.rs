//! How many workers there are, and of what age: growing and shrinking with the work, replacing those that grew old, watching
//! over their life and their memory.

use std::time::{Duration, Instant};

use stokehold_protocol::Capability;

use super::super::Cause;
use super::super::action::{Action, Event, Retirement, Ticket};
use super::super::recycle::Rotation;
use super::super::slot::{Life, Slot};
use super::super::store::Store;
use super::{Phase, Supervisor, later};

/// How often the memory of workers with tasks is looked at: often enough to see one grow, seldom enough to cost nothing (a look
/// takes some 20 µs).
const SAMPLE_PERIOD: Duration = Duration::from_millis(250);

/// A replacement that did not come to be ready is tried again after this.
const REPLACEMENT_PAUSE: Duration = Duration::from_secs(10);

impl<T: Ticket> Supervisor<T> {
    /// From now on there are from `min` to `max` workers. Those missing are started at once; those too many finish what they
    /// have, those with nothing to do first.
    pub(crate) fn resize(&mut self, min: usize, max: usize, now: Instant) {
        if !matches!(self.phase, Phase::Serving) {
            return;
        }
        self.config.workers = min.max(1);
        self.config.workers_max = max.max(self.config.workers);
        for place in &mut self.slots {
            place.given_up = false;
        }
        while self.counted() < self.config.workers {
            self.engage(now);
        }
        let mut surplus: Vec<(bool, bool, std::cmp::Reverse<usize>, usize)> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, place)| place.is_counted())
            .map(|(slot, place)| (place.was_ready, place.is_busy(), std::cmp::Reverse(place.number), slot))
            .collect();
        surplus.sort_unstable();
        let count = surplus.len().saturating_sub(self.config.workers_max);
        for (_, _, _, slot) in surplus.into_iter().take(count) {
            self.retire(slot, Retirement::Resized, now);
        }
    }

    /// One worker more.
    pub(super) fn engage(&mut self, now: Instant) {
        let taken = |number| {
            self.slots
                .iter()
                .any(|place| place.number == number && (place.life != Life::Retired || place.given_up))
        };
        let number = (0..).find(|number| !taken(*number)).unwrap_or(usize::MAX);
        let slot = self.vacant_slot(number, now);
        self.spawn(slot);
    }

    /// A slot without a process, for the worker of that number.
    fn vacant_slot(&mut self, number: usize, now: Instant) -> usize {
        let fresh = Slot::new(number, self.hello(0), self.config.window, now);
        let free = self.slots.iter().position(|place| place.life == Life::Retired && !place.given_up);
        let Some(slot) = free else {
            self.slots.push(fresh);
            return self.slots.len() - 1;
        };
        if let Some(place) = self.slots.get_mut(slot) {
            let last = std::mem::replace(place, fresh);
            self.records.entry(last.number).or_default().finished += last.finished_ever;
        }
        slot
    }

    /// How many workers the pool has.
    pub(super) fn counted(&self) -> usize {
        self.slots.iter().filter(|place| place.is_counted()).count()
    }

    /// Tasks wait: as many workers more as there may be, and are waited for.
    pub(super) fn grow(&mut self, now: Instant) {
        if self.config.workers_max <= self.config.workers || !matches!(self.phase, Phase::Serving) {
            return;
        }
        let given_up = self.slots.iter().filter(|place| place.given_up).count();
        let most = self.config.workers_max.saturating_sub(given_up);
        let counted = self.counted();
        let coming = self.slots.iter().filter(|place| place.is_counted() && place.is_coming()).count();
        let missing = self.store.waiting().saturating_sub(coming);
        for _ in 0..missing.min(most.saturating_sub(counted)) {
            self.engage(now);
        }
    }

    /// Workers above the minimum that had nothing to do for long are let go.
    pub(super) fn shrink(&mut self, now: Instant) {
        while self.next_shrink().is_some_and(|at| at <= now) {
            let Some(timeout) = self.config.idle_timeout else { return };
            let idle = self.idle_workers().filter(|(_, place)| later(place.since, timeout) <= now);
            let Some((slot, _)) = idle.max_by_key(|(_, place)| place.number) else { return };
            self.retire(slot, Retirement::Idle, now);
        }
    }

    /// When the next worker has had nothing to do for long.
    pub(super) fn next_shrink(&self) -> Option<Instant> {
        let timeout = self.config.idle_timeout?;
        if self.config.workers_max <= self.config.workers
            || !matches!(self.phase, Phase::Serving)
            || self.counted() <= self.config.workers
        {
            return None;
        }
        self.idle_workers().map(|(_, place)| later(place.since, timeout)).min()
    }

    fn idle_workers(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let places = self.slots.iter().enumerate();
        places.filter(|(_, place)| {
            place.is_counted() && place.takes_tasks() && !place.is_busy() && place.successor.is_none()
        })
    }

    /// A worker gets no more tasks, and ends when it has done those it has.
    fn retire(&mut self, slot: usize, why: Retirement, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.life == Life::Vacant {
            place.life = Life::Retired;
            place.deadline = None;
            return;
        }
        place.retiring = Some(why);
        let successor = place.successor.take();
        let (worker, pid) = (place.number, place.pid);
        if place.was_ready {
            self.actions.push(Action::Notice(Event::WorkerRetired { worker, pid, why }));
        }
        if let Some((successor, _)) = successor
            && let Some(place) = self.slots.get_mut(successor)
            && place.successor_of.take().is_some()
            && why == Retirement::Resized
        {
            // Nobody is to come in its place.
            place.retiring = Some(why);
            self.let_go(successor, now);
        }
        self.let_go(slot, now);
    }

    /// A worker is gone for good: nobody takes its place, and it takes nobody's.
    pub(super) fn unlink(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let (old, successor) = (place.successor_of.take(), place.successor.take());
        if let Some(old) = old.and_then(|old| self.slots.get_mut(old)) {
            old.successor = None;
        }
        if let Some(successor) = successor.and_then(|(successor, _)| self.slots.get_mut(successor)) {
            successor.successor_of = None;
        }
    }

    /// A worker is ready. If it was started for another, it takes its place.
    pub(super) fn take_over(&mut self, slot: usize, now: Instant) {
        let Some(old) = self.slots.get_mut(slot).and_then(|place| place.successor_of.take()) else { return };
        let Some(place) = self.slots.get_mut(old) else { return };
        if let Some((_, why)) = place.successor.take() {
            self.retire(old, why, now);
        }
    }

    /// What is to be looked at when a worker has given answers.
    pub(super) fn after_answers(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get(slot) else { return };
        if place.retiring.is_some() {
            self.let_go(slot, now);
        } else if place.finished >= place.rotation.tasks {
            self.replace(slot, Retirement::Tasks, now);
        }
    }

    /// Another worker is started, which takes the place of this one when it is ready.
    fn replace(&mut self, slot: usize, why: Retirement, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let serves = place.life == Life::Running && place.is_counted() && place.session.is_open();
        if !serves || place.successor.is_some() || !matches!(self.phase, Phase::Serving) {
            return;
        }
        let number = place.number;
        let successor = self.vacant_slot(number, now);
        if let Some(place) = self.slots.get_mut(slot) {
            place.successor = Some((successor, why));
        }
        if let Some(place) = self.slots.get_mut(successor) {
            place.successor_of = Some(slot);
        }
        self.spawn(successor);
        #[cfg(test)]
        if self.has_flaw(crate::core::Flaw::RetiresBeforeReady) {
            self.take_over(successor, now);
        }
    }

    /// Whether nobody is to be started in the place of a dead worker: it was to go, or another comes already, or it was itself
    /// to take the place of one that lives.
    pub(super) fn is_replaced(&mut self, slot: usize, now: Instant) -> bool {
        let Some(place) = self.slots.get_mut(slot) else { return false };
        if let Some(old) = place.successor_of.take() {
            place.life = Life::Retired;
            if let Some(place) = self.slots.get_mut(old)
                && let Some((_, why)) = place.successor.take()
            {
                // It goes on meanwhile. Whatever the reason is, the next try has to wait: it may fail as well.
                place.rotation = Rotation { at: Some(later(now, REPLACEMENT_PAUSE)), why, ..Rotation::NEVER };
            }
            return true;
        }
        if let Some((successor, _)) = place.successor.take() {
            place.life = Life::Retired;
            if let Some(place) = self.slots.get_mut(successor) {
                place.successor_of = None;
            }
            return true;
        }
        let is_leaving = place.retiring.take().is_some();
        if is_leaving {
            place.life = Life::Retired;
        }
        // In a pool that ends, somebody must do what is left.
        is_leaving && self.counted() > 0
    }

    /// A worker's memory was looked at.
    pub(crate) fn handle_memory(&mut self, slot: usize, resident: u64, peak: u64, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.peak_memory = place.peak_memory.max(Some(peak.max(resident)));
        if resident > place.rotation.memory {
            self.replace(slot, Retirement::Memory, now);
        }
    }

    /// The memory of busy workers is to be looked at in a while.
    pub(super) fn look_at_memory_soon(&mut self, now: Instant) {
        self.next_sample.get_or_insert(now + SAMPLE_PERIOD);
    }

    /// When it is looked at. Nothing happens in an idle pool, this neither.
    pub(super) fn sample_due(&self) -> Option<Instant> {
        self.next_sample.filter(|_| self.slots.iter().any(grows))
    }

    /// Looks at the memory of busy workers when it is time, and goes on as long as some are.
    pub(super) fn sample(&mut self, now: Instant) {
        if self.next_sample.is_none_or(|at| at > now) {
            return;
        }
        self.next_sample = None;
        for (slot, place) in self.slots.iter().enumerate() {
            if grows(place) {
                self.actions.push(Action::Sample { slot });
                self.next_sample = Some(now + SAMPLE_PERIOD);
            }
        }
    }

    /// When a worker is to be looked after.
    pub(super) fn next_look(&self, place: &Slot) -> Option<Instant> {
        if place.life != Life::Running {
            return None;
        }
        let age =
            place.rotation.at.filter(|_| place.is_counted() && place.was_ready && place.successor.is_none());
        [age, self.end_of_frame(place), self.next_beat(place)].into_iter().flatten().min()
    }

    /// When a worker must have gone on with a frame that it began.
    fn end_of_frame(&self, place: &Slot) -> Option<Instant> {
        // A worker that is not read cannot be blamed for what it does not write.
        let since = place.inside_frame.filter(|_| place.paused_for.is_none())?;
        Some(later(since, self.config.frame_timeout))
    }

    /// When a worker with tasks must have given a sign of life, or is to be asked for one.
    fn next_beat(&self, place: &Slot) -> Option<Instant> {
        let period = self.config.heartbeat?;
        let answers = place.session.child().capabilities.has(Capability::Ping);
        if !answers || !place.is_busy() || place.paused_for.is_some() || place.deaf {
            return None;
        }
        Some(later(place.heard.max(place.since), if place.pinged { period } else { period / 2 }))
    }

    /// Whatever time has brought for a worker.
    pub(super) fn look_after(&mut self, slot: usize, now: Instant) {
        let Some(place) =
            self.slots.get(slot).filter(|place| self.next_look(place).is_some_and(|at| at <= now))
        else {
            return;
        };
        let frame = self.end_of_frame(place).is_some_and(|at| at <= now);
        let beat = self.next_beat(place).is_some_and(|at| at <= now);
        let age = place.rotation.at.is_some_and(|at| at <= now);
        if frame {
            return self.end_by_force(slot, Cause::SlowFrame(self.config.frame_timeout));
        }
        if beat && place.pinged {
            return self.end_by_force(slot, Cause::Silent(self.config.heartbeat.unwrap_or_default()));
        }
        if beat && let Some(place) = self.slots.get_mut(slot) {
            place.pinged = true;
            place.outbox.append(|out| place.session.ping(0, out));
            self.dirty.push(slot);
        }
        if age && let Some(place) = self.slots.get_mut(slot) {
            place.rotation.at = None;
            let why = place.rotation.why;
            self.replace(slot, why, now);
        }
    }
}

/// Whether a worker's memory may be growing.
fn grows(place: &Slot) -> bool {
    place.life == Life::Running && (place.is_busy() || !place.was_ready)
}
