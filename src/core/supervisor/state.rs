//! What can be asked of a pool. Nothing is changed.

use std::sync::Arc;

use stokehold_protocol::SPIN_BYTES_MAX;

use super::super::Death;
use super::super::action::Ticket;
use super::super::slot::{Life, Rung};
use super::{Phase, Supervisor};

/// How the worker of one slot ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    /// Its number.
    pub(crate) worker: usize,
    /// Its last process.
    pub(crate) pid: u32,
    /// The hardest means that was needed to end it.
    pub(crate) rung: Rung,
    /// How many tasks it finished in all its lives.
    pub(crate) finished: u64,
}

impl<T: Ticket> Supervisor<T> {
    /// The largest frame that worker may write now.
    pub(crate) fn max_frame(&self, slot: usize) -> u32 {
        self.slots.get(slot).map_or(0, |slot| slot.session.max_frame())
    }

    /// Whether no worker has a process, and none will get one.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.phase, Phase::Serving) && self.slots.iter().all(|slot| slot.life == Life::Retired)
    }

    /// Whether some worker takes tasks with nothing to do.
    pub(crate) fn has_idle_worker(&self) -> bool {
        self.slots.iter().any(|slot| slot.credit() > 0 && !slot.is_busy())
    }

    /// Whether every worker that has something to do has one frame, a small one, and no more, and there are some, but at most `most`.
    /// Gives them.
    pub(crate) fn is_in_step(&self, most: usize, busy: &mut Vec<usize>) -> bool {
        busy.clear();
        for (slot, place) in self.slots.iter().enumerate() {
            match place.session.open_count() {
                0 => {}
                // What is to be read of no worker is not to be looked for either.
                1 if busy.len() < most
                    && place.paused_for.is_none()
                    && place.open_bytes <= SPIN_BYTES_MAX as u64 =>
                {
                    busy.push(slot);
                }
                _ => return false,
            }
        }
        !busy.is_empty()
    }

    /// Why the pool broke, if it did.
    pub(crate) fn broken(&self) -> Option<&Arc<Death>> {
        match &self.phase {
            Phase::Broken(death) => Some(death),
            _ => None,
        }
    }

    /// How the last worker of a slot ended; `None` for a slot that never had one.
    pub(crate) fn summary(&self, slot: usize) -> Option<Summary> {
        let place = self.slots.get(slot)?;
        // Where a worker is replaced two slots have its number: what was done elsewhere counts once.
        let is_first = self.slots.iter().position(|other| other.number == place.number) == Some(slot);
        let record = self.records.get(&place.number).filter(|_| is_first);
        let elsewhere = record.map_or(0, |record| record.finished);
        Some(Summary {
            worker: place.number,
            pid: place.pid,
            rung: place.rung,
            finished: place.finished_ever + place.finished + elsewhere,
        })
    }

    /// How many slots there are. More may come; none ever goes.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }
}
