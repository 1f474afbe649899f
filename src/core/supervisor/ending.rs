//! How a pool and its workers are ended: asked first, then made to, rung by rung.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{Die, PeerError};

use super::super::action::{Action, Event, Ticket};
use super::super::slot::{Due, Life, Rung};
use super::super::store::Store;
use super::super::{Cause, Death, Details, TaskKey};
use super::{Phase, Supervisor, broken, closed, later};

/// How long a worker that is told to end because it is not needed may take to do so.
const RETIRE_GRACE: Duration = Duration::from_secs(5);

impl<T: Ticket> Supervisor<T> {
    /// Finishes what was accepted, then ends every worker; from `deadline` on by force.
    pub(crate) fn shutdown(&mut self, deadline: Instant, now: Instant) {
        if matches!(self.phase, Phase::Serving) {
            self.phase = Phase::Draining(deadline);
            self.handle_time(now);
        }
    }

    /// Ends everything now.
    pub(crate) fn kill(&mut self) {
        // A pool that broke stays so: that is what later submissions are to be told.
        if !matches!(self.phase, Phase::Broken(_)) {
            self.phase = Phase::Stopping;
        }
        self.answer_waiting();
        for slot in 0..self.slots.len() {
            self.end_by_force(slot, Cause::Stopped);
        }
    }

    /// No worker is left, or none can come: every task is answered, and so will be every later one.
    pub(super) fn break_down(&mut self, death: Arc<Death>) {
        self.phase = Phase::Broken(Arc::clone(&death));
        self.actions.push(Action::Notice(Event::Broken(Arc::clone(&death))));
        self.answer_waiting();
        for slot in 0..self.slots.len() {
            self.end_by_force(slot, Cause::Stopped);
        }
    }

    /// While draining: what to do when the time is over, or when nothing is left to do.
    pub(super) fn drain(&mut self, now: Instant) {
        let Phase::Draining(deadline) = self.phase else { return };
        if deadline > now {
            return self.end_idle(now);
        }
        self.phase = Phase::Stopping;
        self.answer_waiting();
        for slot in 0..self.slots.len() {
            self.terminate(slot, Cause::Stopped, now);
        }
    }

    /// How many tasks no worker holds.
    pub(super) fn unheld(&self) -> usize {
        self.store.waiting() + self.store.pausing()
    }

    /// While draining: workers with nothing left to do are asked to end.
    pub(super) fn end_idle(&mut self, now: Instant) {
        let Phase::Draining(deadline) = self.phase else { return };
        if self.unheld() > 0 {
            return;
        }
        let tasks_left = self.store.len() > 0;
        let mut idle = Vec::new();
        for (slot, place) in self.slots.iter_mut().enumerate() {
            match place.life {
                Life::Running if !place.is_busy() => idle.push(slot),
                Life::Vacant if !tasks_left => {
                    place.life = Life::Retired;
                    place.deadline = None;
                }
                _ => {}
            }
        }
        for slot in idle {
            self.ask_to_end(slot, deadline, now);
        }
    }

    /// A worker that is to go, and has nothing to do, is asked to.
    pub(super) fn let_go(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get(slot) else { return };
        if place.retiring.is_some() && place.life == Life::Running && !place.is_busy() {
            self.ask_to_end(slot, now + RETIRE_GRACE, now);
        }
    }

    /// A worker with nothing to do is asked to end, by force from the deadline on.
    fn ask_to_end(&mut self, slot: usize, deadline: Instant, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        // Nothing may be sent to a child before its HELLO (SPEC S-3): the end of its input says the same.
        if place.greeted && !place.deaf {
            place.outbox.append(|out| place.session.die(&Die::default(), out));
            self.dirty.push(slot);
        }
        place.life = Life::Ending;
        place.since = now;
        // One that must exit within a moment anyway does not get more time by this.
        if !place.must_exit() || place.deadline.is_none_or(|(at, _)| at > deadline) {
            place.deadline = Some((deadline, Due::Terminate));
        }
        self.actions.push(Action::CloseInput { slot });
    }

    /// SIGTERM, with a moment until SIGKILL.
    pub(super) fn terminate(&mut self, slot: usize, cause: Cause, now: Instant) {
        let grace = self.config.terminate_grace;
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.life {
            Life::Running | Life::Ending if place.rung < Rung::Terminated => {
                place.was_at.get_or_insert((place.state(), place.since));
                place.life = Life::Ending;
                place.deaf = true;
                place.rung = Rung::Terminated;
                place.fault.get_or_insert(cause);
                place.deadline = Some((later(now, grace), Due::Kill));
                #[cfg(test)]
                let target = place.stopping.as_ref().map(|(key, _)| *key);
                #[cfg(test)]
                if let Some(key) = target.filter(|_| self.has_flaw(crate::core::Flaw::RetriesBeforeReap)) {
                    self.end_attempt(key);
                    self.store.release(key, crate::core::store::Release::Again);
                }
                self.actions.push(Action::Terminate { slot });
            }
            Life::Vacant => {
                place.life = Life::Retired;
                place.deadline = None;
            }
            _ => {}
        }
    }

    /// SIGKILL. What comes next is the exit.
    pub(super) fn end_by_force(&mut self, slot: usize, cause: Cause) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.life {
            Life::Running | Life::Ending => {
                place.fault.get_or_insert(cause);
                place.was_at.get_or_insert((place.state(), place.since));
                place.life = Life::Ending;
                place.deaf = true;
                place.rung = Rung::Killed;
                place.deadline = None;
                self.actions.push(Action::Kill { slot });
            }
            Life::Vacant => {
                place.life = Life::Retired;
                place.deadline = None;
            }
            Life::Spawning | Life::Retired => {}
        }
    }

    /// The end of a worker that broke the protocol. What it writes from now on is not read.
    pub(super) fn end_garbled(&mut self, slot: usize, error: PeerError) {
        if let Some(place) = self.slots.get_mut(slot)
            && !std::mem::replace(&mut place.garbled, true)
        {
            self.end_by_force(slot, Cause::Protocol(Arc::new(error)));
        }
    }

    /// The answer of everything that waits in a pool that is being ended.
    fn answer_waiting(&mut self) {
        for key in self.store.take_waiting() {
            self.turn_out(key);
        }
    }

    /// The answer of a task that no worker has, in a pool that is being ended.
    pub(super) fn turn_out(&mut self, key: TaskKey) {
        let reason = match &self.phase {
            Phase::Broken(death) => broken(0, death),
            _ => closed(0),
        };
        self.end(key, reason.details.kind, |error| {
            *error = Details { task: error.task, ..*reason.details };
        });
    }
}
