//! How a pool and its workers are ended: asked first, then made to, rung by rung.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{Die, PeerError};

use super::super::action::{Action, Ticket};
use super::super::slot::{Due, Life, Rung};
use super::super::store::Store;
use super::super::{Cause, Death};
use super::{Phase, Supervisor, broken, closed};

/// How long a worker may take to end after SIGTERM.
const TERMINATE_GRACE: Duration = Duration::from_millis(500);

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
        for task in self.store.bury_waiting() {
            let error = broken(task.number, &death);
            self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
        }
        for slot in 0..self.slots.len() {
            self.end_by_force(slot, Cause::Stopped);
        }
    }

    /// While draining: what to do when the time is over, or when nothing is left to do.
    pub(super) fn drain(&mut self, now: Instant) {
        let Phase::Draining(deadline) = self.phase else { return };
        if deadline > now {
            return self.end_idle();
        }
        self.phase = Phase::Stopping;
        self.answer_waiting();
        for slot in 0..self.slots.len() {
            self.terminate(slot, now);
        }
    }

    /// How many tasks no worker holds.
    pub(super) fn unheld(&self) -> usize {
        self.store.len().saturating_sub(self.held())
    }

    /// While draining: workers with nothing left to do are asked to end.
    pub(super) fn end_idle(&mut self) {
        let Phase::Draining(deadline) = self.phase else { return };
        if self.unheld() > 0 {
            return;
        }
        let tasks_left = self.held() > 0;
        for (slot, place) in self.slots.iter_mut().enumerate() {
            match place.life {
                Life::Running if place.session.open_count() == 0 => {
                    // Nothing may be sent to a child before its HELLO (SPEC S-3): the end of its input says the same.
                    if place.greeted && !place.deaf {
                        place.session.die(&Die::default(), place.outbox.append());
                        self.dirty.push(slot);
                    }
                    place.life = Life::Ending;
                    // One that must exit within a moment anyway does not get more time by this.
                    if !place.must_exit() || place.deadline.is_none_or(|(at, _)| at > deadline) {
                        place.deadline = Some((deadline, Due::Terminate));
                    }
                    self.actions.push(Action::CloseInput { slot });
                }
                Life::Vacant if !tasks_left => {
                    place.life = Life::Retired;
                    place.deadline = None;
                }
                _ => {}
            }
        }
    }

    /// SIGTERM, with a moment until SIGKILL.
    pub(super) fn terminate(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.life {
            Life::Running | Life::Ending if place.rung < Rung::Terminated => {
                place.life = Life::Ending;
                place.deaf = true;
                place.rung = Rung::Terminated;
                place.fault.get_or_insert(Cause::Stopped);
                place.deadline = Some((now + TERMINATE_GRACE, Due::Kill));
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

    /// How many tasks workers hold.
    fn held(&self) -> usize {
        self.slots.iter().map(|place| place.session.open_count() as usize).sum()
    }

    /// The answer of everything that waits in a pool that is being ended.
    fn answer_waiting(&mut self) {
        for task in self.store.bury_waiting() {
            self.complete(task.ticket, task.body.len(), Err(Box::new(closed(task.number))));
        }
    }
}
