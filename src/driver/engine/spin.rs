//! Looking for answers without sleeping, while a caller waits for few tasks that are all being done: see [`Spin`].

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use stokehold_protocol::{Next, Spin};

use super::Engine;
use crate::driver::Shared;
use crate::driver::connection::ReadOutcome;

/// So many waits in a row may be looked through; then everything else is looked at too: other workers' ends, standard error.
const IN_A_ROW: u32 = 64;

/// What the engine knows about looking.
#[derive(Debug)]
pub(super) struct Look {
    spin: Spin,
    /// With more busy workers there is no core to look from.
    busy_max: usize,
    /// Waits looked through since everything was looked at.
    in_a_row: u32,
    /// The workers to look at.
    slots: Vec<usize>,
}

impl Look {
    /// One for a machine of so many processors, off if `spin` is false.
    pub(super) fn new(spin: bool, cores: usize) -> Self {
        let busy_max = cores.saturating_sub(1);
        Self { spin: Spin::new(spin && busy_max > 0), busy_max, in_a_row: 0, slots: Vec::new() }
    }
}

/// What came of looking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Looked {
    /// An answer, which was handled.
    Found,
    /// Nothing: the wait goes on as always.
    Nothing,
    /// It is time to look at everything else, and then to look again.
    Aside,
}

impl Engine {
    /// Looks for an answer, if that may pay.
    pub(super) fn look_for_answers(&mut self, shared: &Arc<Shared>, patience: Option<Duration>) -> Looked {
        let may_look = patience != Some(Duration::ZERO) && shared.is_driven_by_caller();
        if !may_look || !self.core.is_in_step(self.look.busy_max, &mut self.look.slots) {
            return Looked::Nothing;
        }
        self.look.in_a_row += 1;
        if self.look.in_a_row > IN_A_ROW {
            self.look.in_a_row = 0;
            return Looked::Aside;
        }
        if !self.look.spin.begin(Instant::now()) {
            return Looked::Nothing;
        }
        let slots = std::mem::take(&mut self.look.slots);
        let looked = self.look_at(shared, &slots);
        self.look.slots = slots;
        looked
    }

    fn look_at(&mut self, shared: &Arc<Shared>, slots: &[usize]) -> Looked {
        loop {
            let now = Instant::now();
            for &slot in slots {
                match self.read_frames(shared, slot, shared.clock.inside(now)) {
                    ReadOutcome::Blocked => {}
                    ReadOutcome::Bytes(..) => {
                        // Not to move if told to: this is a thread of the user.
                        self.look.spin.found(Instant::now());
                        return Looked::Found;
                    }
                    // The wait sees it too, and everything else about a worker that ends.
                    ReadOutcome::End => {
                        self.look.spin.leave();
                        return Looked::Nothing;
                    }
                }
            }
            if shared.is_called() {
                self.look.spin.leave();
                return Looked::Nothing;
            }
            match self.look.spin.not_yet(now) {
                Next::Look => {}
                Next::Yield => thread::yield_now(),
                Next::Sleep => return Looked::Nothing,
            }
        }
    }
}
