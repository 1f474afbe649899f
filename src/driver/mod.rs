//! MOVES bytes and time: the only place with threads, the clock and readiness polling. What is to be done is decided in
//! `core`; how the system does it is in `sys`.

mod cell;
mod connection;
mod engine;
mod gate;
mod lane;
mod lease;
mod stderr;

pub(crate) use cell::{Cell, Place};
pub(crate) use connection::Launch;
pub(crate) use engine::{Ended, Engine};
pub(crate) use gate::{Admission, Bounds, Mail, Refusal};
pub(crate) use lane::Lane;
pub(crate) use lease::Shared;

use std::sync::Arc;

use crate::core;

/// Where a task's outcome goes: what the core keeps for it.
#[derive(Debug)]
pub(crate) enum Ticket {
    /// To the handle of one task.
    Cell(Arc<Cell>),
    /// To a channel through the workers, with its place in the order of input.
    Lane {
        /// The channel.
        lane: Arc<Lane>,
        /// Its place.
        index: u64,
    },
}

impl core::Ticket for Ticket {
    fn delivered(&self, worker: usize, pid: u32, attempt: u32) {
        if let Self::Cell(cell) = self {
            cell.place(Place::Running { worker, pid, attempt });
        }
    }

    fn is_wanted(&self) -> bool {
        match self {
            Self::Cell(cell) => cell.is_wanted(),
            Self::Lane { lane, .. } => lane.is_wanted(),
        }
    }
}

impl Ticket {
    /// Hands the outcome over, and counts what waits to be taken. Channels count their own.
    fn complete(self, outcome: core::Outcome, gate: &gate::Gate) {
        match self {
            Self::Cell(cell) => {
                let bytes = outcome.as_ref().map_or(0, |answered| answered.data.len());
                gate.park(bytes);
                if !cell.complete(outcome) {
                    gate.unpark(bytes);
                }
            }
            Self::Lane { lane, index } => lane.complete(index, outcome),
        }
    }
}
