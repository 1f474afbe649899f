//! The last phase of a turn: what the core decided is carried out, and what others may ask without the lease is told them.

use std::sync::Arc;
use std::time::Instant;

use super::{Engine, Place};
use crate::core::{Action, Event, Released};
use crate::driver::connection::Flushed;
use crate::driver::gate::{Mail, Refusal};
use crate::driver::{Shared, Ticket};
use crate::sys::Signal;

impl Engine {
    /// Hands out, carries out, writes, until nothing more follows.
    pub(super) fn settle(&mut self, shared: &Arc<Shared>, now: Instant) {
        self.core.dispatch(now);
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            self.core.take_actions(&mut actions);
            let quiet = actions.is_empty();
            for action in actions.drain(..) {
                self.perform(shared, action, now);
            }
            self.actions = actions;
            // After what was told of its end, which belongs to its life.
            for pid in self.gone.drain(..) {
                shared.observer.note_gone(pid);
            }
            self.flush(now);
            if quiet {
                break;
            }
            self.core.dispatch(now);
        }
        self.gathered.deliver();
        let Released { tasks, bytes } = self.core.take_released();
        if tasks > 0 || bytes > 0 {
            self.gathered.wakes.extend(shared.gate().release(tasks, bytes).into_wakers());
        }
        self.publish(shared);
    }

    /// What the engine has for a slot. Slots are added at any time, by the core alone, which bounds them.
    pub(super) fn place(&mut self, slot: usize) -> &mut Place {
        if self.places.len() <= slot {
            self.places.resize_with(slot + 1, Place::default);
        }
        &mut self.places[slot]
    }

    fn perform(&mut self, shared: &Arc<Shared>, action: Action<Ticket>, now: Instant) {
        match action {
            Action::Bury(letter) => shared.gate().bury(*letter),
            Action::CloseInput { slot } => {
                if let Some(connection) = self.connection(slot) {
                    connection.close_input_when_flushed();
                }
                self.dirty.push(slot);
            }
            Action::Fail { ticket, error } => self.gathered.fail(ticket, error),
            Action::Kill { slot } => self.signal(slot, &[Signal::Kill]),
            Action::Terminate { slot } => self.signal(slot, &[Signal::Term, Signal::Cont]),
            Action::Notice(event) => {
                if let Event::WorkerDied(death) = &event {
                    shared.gate().note_death(death);
                }
                if matches!(event, Event::WorkerReady { .. }) {
                    self.gathered.wakes.extend(shared.gate().set_ready());
                }
                shared.tell(event);
            }
            Action::PauseReading { slot } => {
                if let Some(connection) =
                    self.places.get_mut(slot).and_then(|place| place.connection.as_mut())
                {
                    connection.pause_output(&self.poll);
                }
            }
            Action::ResumeReading { slot } => self.resume_reading(slot, now),
            Action::Sample { slot } => self.sample(slot, now),
            Action::Spawn { slot, worker } => {
                self.place(slot).worker = worker;
                let shared = Arc::clone(shared);
                let reply = move |result| shared.post(Mail::Spawned { slot, result });
                self.spawner.spawn(self.launch.command(worker), reply);
            }
        }
    }

    fn signal(&mut self, slot: usize, signals: &[Signal]) {
        if let Some(connection) = self.connection(slot) {
            for signal in signals {
                connection.process.signal_group(*signal);
            }
        }
    }

    /// A worker that cannot be watched any more, for want of memory, is treated as one that says no more.
    fn resume_reading(&mut self, slot: usize, now: Instant) {
        let Some(connection) = self.places.get_mut(slot).and_then(|place| place.connection.as_mut()) else {
            return;
        };
        if connection.resume_output(&self.poll).is_err() {
            self.end_output(slot, now);
        }
    }

    fn sample(&mut self, slot: usize, now: Instant) {
        if let Some((resident, peak)) = self.connection(slot).and_then(|connection| connection.memory()) {
            self.core.handle_memory(slot, resident, peak, now);
        }
    }

    fn flush(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.core.take_dirty(&mut dirty);
        for slot in dirty.drain(..) {
            let Some(connection) = self.places.get_mut(slot).and_then(|place| place.connection.as_mut())
            else {
                continue;
            };
            let Some(outbox) = self.core.outbox(slot) else { continue };
            if connection.flush(outbox, &self.poll) == Flushed::Closed {
                self.core.handle_input_closed(slot, now);
            }
        }
        self.dirty = dirty;
    }

    /// Lets the other threads see what they may ask for without the lease.
    fn publish(&mut self, shared: &Shared) {
        shared.arrivals().take(&mut self.gathered.wakes);
        shared.set_hungry(self.core.has_idle_worker());
        if let Some(death) = self.core.broken() {
            self.gathered.wakes.extend(shared.close_for(Refusal::Broken(Arc::clone(death))));
        }
        if self.core.is_over() {
            shared.set_over();
        }
    }
}
