//! Reading and answering in small steps, for a probe that kills the worker between two of them. No worker does so without one.

use super::Desk;
use crate::probe::{Pace, Point, Probe};
use crate::stop::Stop;

/// What an active probe has been told about the next task.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pace: Pace,
    waits: bool,
    has_header: bool,
}

impl<S, P: Probe> Desk<'_, '_, S, P> {
    /// Reads a header or a body.
    #[cold]
    pub(super) fn read_probed(&mut self, space: &mut [u8]) -> Result<usize, Stop> {
        let next = self.tasks.wrapping_add(1);
        if !std::mem::replace(&mut self.steps.waits, true) {
            self.probe.reach(Point::BeforeRead, next);
        }
        let wanted = self.steps.pace.wanted().min(space.len());
        let count = self.out.line.read(space.get_mut(..wanted).unwrap_or_default())?;
        let header = self.steps.pace.took(space.get(..count).unwrap_or_default());
        if header.is_some_and(|id| id != 0) && !std::mem::replace(&mut self.steps.has_header, true) {
            self.probe.reach(Point::AfterHeader, next);
        }
        Ok(count)
    }

    /// Writes the answer just made, by itself and in two parts.
    #[cold]
    pub(super) fn answer_probed(&mut self) -> Result<(), Stop> {
        if !self.out.bytes.is_empty() {
            let between = || self.probe.reach(Point::MidFinished, self.tasks);
            self.out.line.write_halves(&self.out.bytes, between)?;
            self.out.bytes.clear();
            self.reach(Point::AfterFinished);
        }
        (self.steps.waits, self.steps.has_header) = (false, false);
        Ok(())
    }
}
