//! The clock that the core is given: time in which nobody could drive the engine does not count. It reads no clock itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a busy machine may be late without further ado. Whatever is later was no lateness: this process was stopped, or the
/// machine was.
const LATENESS: Duration = Duration::from_secs(1);

/// Turns the system's time into the core's, and back. A worker must not be judged for time in which this process was stopped
/// (by Ctrl-Z, say) and could not read its answers.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// How much time was lost so far, in nanoseconds.
    lost: AtomicU64,
}

impl Clock {
    /// The core's time at the system's time `at`. Never goes back while `at` does not.
    pub(super) fn inside(&self, at: Instant) -> Instant {
        at.checked_sub(self.lost()).unwrap_or(at)
    }

    /// The system's time at the core's time `at`, if no more is lost until then.
    pub(super) fn outside(&self, at: Instant) -> Instant {
        at.checked_add(self.lost()).unwrap_or(at)
    }

    /// The system's time is `at`, and something was due at the core's time `due`. If that is long past, nobody could look in
    /// time. Only the one who drives may say so.
    pub(super) fn look(&self, at: Instant, due: Instant) {
        let late = self.inside(at).saturating_duration_since(due);
        if late > LATENESS {
            let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
            self.lost.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    fn lost(&self) -> Duration {
        Duration::from_nanos(self.lost.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn time_is_the_systems_while_nothing_is_lost() {
        let (clock, now) = (Clock::default(), Instant::now() + MINUTE);
        clock.look(now, now + MINUTE);
        clock.look(now, now - Duration::from_millis(900));
        assert_eq!(clock.inside(now), now);
        assert_eq!(clock.outside(now), now);
    }

    #[test]
    fn a_look_that_comes_far_too_late_comes_at_the_time_that_was_due() {
        let (clock, due) = (Clock::default(), Instant::now());
        clock.look(due + 3 * MINUTE, due);
        assert_eq!(clock.inside(due + 3 * MINUTE), due);
        clock.look(due + 3 * MINUTE, due);
        assert_eq!(clock.inside(due + 3 * MINUTE), due, "the same time is lost once");
    }

    #[test]
    fn what_is_lost_adds_up() {
        let (clock, due) = (Clock::default(), Instant::now());
        clock.look(due + 2 * MINUTE, due);
        clock.look(due + 6 * MINUTE, due + MINUTE);
        assert_eq!(clock.inside(due + 6 * MINUTE), due + MINUTE);
    }

    #[test]
    fn a_time_that_is_turned_and_turned_back_is_the_same() {
        let (clock, at) = (Clock::default(), Instant::now() + MINUTE);
        clock.look(at, at - MINUTE);
        assert_eq!(clock.outside(clock.inside(at)), at);
    }
}
