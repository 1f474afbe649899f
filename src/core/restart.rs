//! When a worker that ended is started again, and when it is given up.
//!
//! Only ends that say something about the worker count: a life that finished a task resets everything, so that a storm of
//! kills over working children never breaks a pool, and a shortage of what a process needs says nothing of the program.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many fruitless lives within [`INTENSITY_PERIOD`] and a worker is given up (Erlang's supervisors call it intensity).
const INTENSITY: usize = 5;

/// See [`INTENSITY`].
const INTENSITY_PERIOD: Duration = Duration::from_secs(10);

/// So many starts in a row that never reached READY and a worker is given up.
const BOOT_FAILURES: u32 = 3;

/// The pause before the second restart in a row; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The history of one slot.
#[derive(Debug, Default)]
pub(crate) struct RestartHistory {
    fruitless: VecDeque<Instant>,
    in_a_row: u32,
    boot_failures: u32,
    /// Starts in a row that failed for want of something.
    shortages: u32,
}

/// What to do about a slot whose worker ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Start it again, after a pause.
    Restart(Duration),
    /// Give it up.
    GiveUp,
}

/// How far a life got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Life {
    /// It never reached READY.
    NeverReady,
    /// It was ready and finished no task.
    Fruitless,
    /// It finished a task.
    Fruitful,
    /// The parent ended it because of a task, which says nothing of the worker.
    Spoiled,
    /// There was no process, for want of processes, descriptors or memory.
    Unborn,
}

impl RestartHistory {
    /// A worker ended after such a life.
    pub(crate) fn ended(&mut self, life: Life, now: Instant) -> Verdict {
        match life {
            Life::Fruitful => {
                *self = Self::default();
                return Verdict::Restart(Duration::ZERO);
            }
            Life::Spoiled => return Verdict::Restart(Duration::ZERO),
            Life::Unborn => {
                self.shortages = self.shortages.saturating_add(1);
                return Verdict::Restart(pause_after(self.shortages));
            }
            Life::NeverReady => {
                self.boot_failures = self.boot_failures.saturating_add(1);
                if self.boot_failures >= BOOT_FAILURES {
                    return Verdict::GiveUp;
                }
            }
            Life::Fruitless => {
                self.boot_failures = 0;
                self.fruitless.push_back(now);
                while self
                    .fruitless
                    .front()
                    .is_some_and(|first| now.saturating_duration_since(*first) > INTENSITY_PERIOD)
                {
                    self.fruitless.pop_front();
                }
                if self.fruitless.len() > INTENSITY {
                    return Verdict::GiveUp;
                }
            }
        }
        let pause = pause_after(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Verdict::Restart(pause)
    }

    /// There is a process: a shortage is over.
    pub(crate) fn started(&mut self) {
        self.shortages = 0;
    }
}

/// The pause after so many ends in a row.
fn pause_after(times: u32) -> Duration {
    match times {
        0 => Duration::ZERO,
        times => BACKOFF.saturating_mul(1 << (times - 1).min(16)).min(BACKOFF_MAX),
    }
}
