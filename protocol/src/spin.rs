//! Whether it pays to look for bytes a moment before sleeping for them; the same for both ends. Pure: time is an argument.
//!
//! To be woken on another core costs some tens of microseconds, so that in a lock-step of tiny tasks both ends would do little
//! but wait to be woken. Looking for no longer than a wake-up costs is never worse than twice what sleeping at once would have
//! cost (the ski-rental bound), and when it does not pay it is soon given up: each wait that it could not shorten makes a
//! doubling number of later ones sleep at once.
//!
//! Whoever is looked for may be waiting for the very core that the look keeps busy: a write to a sleeper leaves it on the core of
//! the writer, who is expected to sleep at once. So the core is given away now and then; if that is what brought the bytes, one
//! of the two should move.

use std::time::{Duration, Instant};

/// No look takes longer: about the cost of waking a process on another core.
const LOOK_MAX: Duration = Duration::from_micros(50);

/// One in so many gives the core away: after a few microseconds, in which a tiny task on another core would have been done.
const YIELD_EVERY: u32 = 16;

/// To give the core away takes longer than this if somebody wants it.
const SWITCH_MIN: Duration = Duration::from_micros(1);

/// A look during which nothing was seen for so long was not looking: others had the core.
const GAP_MAX: Duration = Duration::from_micros(20);

/// So many times in a row the other end was on this core before the first move; twice as many before each later one, which is
/// likely not to help either.
const SHARED_BEFORE_MOVE: u32 = 2;

/// Moves that make the next one less likely.
const MOVES_COUNTED: u32 = 12;

/// After so many times in a row on one core it is better to sleep.
const SHARED_MAX: u32 = 8;

/// After so many failures in a row, one wait in 2 to the power of them is looked through: with 50 µs each, what it costs is lost
/// beside the waits themselves.
const FAILURES_MAX: u32 = 12;

/// A task with more bytes takes so long to be moved that a wake-up is lost beside it, and is moved faster by two processes that take
/// turns on one core, where the bytes stay in its cache.
pub const SPIN_BYTES_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Spin {
    /// Off: by policy, or because there is one core only.
    enabled: bool,
    /// Looks in vain that no look with success has made good.
    failures: u32,
    /// Waits that sleep at once before the next look.
    skip: u32,
    /// How often in a row the other end was on this core.
    shared: u32,
    /// How often that was said to be mended by a move.
    moves: u32,
    /// The look that is going on.
    look: Option<Look>,
}

/// What to do when nothing is there yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Look again.
    Look,
    /// Give the core away, and then look again.
    Yield,
    /// Sleep.
    Sleep,
}

/// A look that is going on.
#[derive(Clone, Copy, Debug)]
struct Look {
    times: u32,
    began: Instant,
    last: Instant,
    /// The core was just given away.
    yielded: bool,
    interrupted: bool,
}

impl Spin {
    /// One that may look, or never does.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, failures: 0, skip: 0, shared: 0, moves: 0, look: None }
    }

    /// A wait begins. Whether to look first; then until [`not_yet`](Self::not_yet) says to sleep or [`found`](Self::found) ends it.
    pub fn begin(&mut self, now: Instant) -> bool {
        if !self.enabled {
            return false;
        }
        if let Some(left) = self.skip.checked_sub(1) {
            self.skip = left;
            return false;
        }
        self.look = Some(Look { times: 0, began: now, last: now, yielded: false, interrupted: false });
        true
    }

    /// Nothing is there yet: what now?
    #[inline]
    pub fn not_yet(&mut self, now: Instant) -> Next {
        let Some(look) = &mut self.look else { return Next::Sleep };
        look.interrupted |= now.saturating_duration_since(look.last) > GAP_MAX;
        look.last = now;
        look.times = look.times.wrapping_add(1);
        look.yielded = look.times.is_multiple_of(YIELD_EVERY);
        if now.saturating_duration_since(look.began) >= LOOK_MAX {
            self.fail();
            return Next::Sleep;
        }
        if look.yielded { Next::Yield } else { Next::Look }
    }

    /// It is there. True if whoever wrote it has been on this core for a while, so that both would be faster if this thread
    /// moved to another.
    #[inline]
    pub fn found(&mut self, now: Instant) -> bool {
        let Some(look) = self.look.take() else { return false };
        let gap = now.saturating_duration_since(look.last);
        if look.interrupted || gap > GAP_MAX {
            // Whoever needed the core may need it again.
            self.fail();
        } else if look.yielded && gap > SWITCH_MIN {
            return self.found_on_this_core();
        } else {
            self.shared = 0;
            self.failures = self.failures.saturating_sub(1);
        }
        false
    }

    /// The look ended for another reason, which says nothing about whether looks pay.
    pub fn leave(&mut self) {
        self.look = None;
    }

    #[cold]
    fn found_on_this_core(&mut self) -> bool {
        self.shared += 1;
        let move_on = self.shared == SHARED_BEFORE_MOVE << self.moves;
        if move_on {
            self.moves = (self.moves + 1).min(MOVES_COUNTED);
        }
        if self.shared.is_multiple_of(SHARED_MAX) {
            self.fail();
        }
        move_on
    }

    #[cold]
    fn fail(&mut self) {
        self.look = None;
        self.failures = (self.failures + 1).min(FAILURES_MAX);
        self.skip = (1 << self.failures) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    #[expect(clippy::disallowed_methods, reason = "any time will do, and there is no other way to get one")]
    fn some_time() -> Instant {
        Instant::now()
    }

    /// Goes through a wait that ends after `wait`, looking once a microsecond. Gives how long it looked.
    fn wait(spin: &mut Spin, wait: Duration) -> Duration {
        let start = some_time();
        if !spin.begin(start) {
            return Duration::ZERO;
        }
        let mut now = start;
        loop {
            now += MICRO;
            if now - start >= wait {
                assert!(!spin.found(now), "nobody shares the core");
                break;
            }
            if spin.not_yet(now) == Next::Sleep {
                break;
            }
        }
        now - start
    }

    /// Goes through a wait that ends as soon as the core is given away. Whether it is said to move; `None` if it sleeps.
    fn wait_on_one_core(spin: &mut Spin) -> Option<bool> {
        let start = some_time();
        if !spin.begin(start) {
            return None;
        }
        while spin.not_yet(start) != Next::Yield {}
        Some(spin.found(start + 5 * MICRO))
    }

    #[test]
    fn short_waits_are_looked_through() {
        let mut spin = Spin::new(true);
        for micros in (1..50).cycle().take(1000) {
            assert_eq!(wait(&mut spin, micros * MICRO), micros * MICRO);
        }
    }

    #[test]
    fn long_waits_cost_next_to_nothing() {
        let mut spin = Spin::new(true);
        let long = 200 * MICRO;
        let looked: Duration = (0..100_000).map(|_| wait(&mut spin, long)).sum();
        assert!(looked < long * 100_000 / 1000, "{looked:?} is more than a thousandth of the waits");
    }

    #[test]
    fn short_waits_are_found_again_after_long_ones() {
        let mut spin = Spin::new(true);
        for _ in 0..100_000 {
            wait(&mut spin, 1000 * MICRO);
        }
        let until = (0..100_000).find(|_| wait(&mut spin, MICRO) > Duration::ZERO);
        assert!(until.is_some_and(|waits| waits < 1 << FAILURES_MAX), "{until:?}");
        let looked = (0..10_000).filter(|_| wait(&mut spin, MICRO) > Duration::ZERO).count();
        assert!(looked > 9_000, "{looked}");
    }

    #[test]
    fn what_was_found_after_others_had_the_core_is_no_success() {
        let mut spin = Spin::new(true);
        let start = some_time();
        assert!(spin.begin(start));
        assert!(!spin.found(start + GAP_MAX + MICRO));
        assert!(!spin.begin(start), "the next wait sleeps");
    }

    #[test]
    fn who_shares_the_core_with_the_other_end_is_told_to_move_and_less_often_when_that_does_not_help() {
        let mut spin = Spin::new(true);
        let mut moves = Vec::new();
        let mut looks = 0;
        for round in 0..10_000 {
            let told = wait_on_one_core(&mut spin);
            looks += u32::from(told.is_some());
            if told == Some(true) {
                moves.push(round);
            }
        }
        assert_eq!(moves[..2], [1, 3]);
        assert!(moves.len() < 8, "{moves:?}");
        assert!(looks < 200, "{looks}: it is better to sleep than to share a core awake");
    }

    #[test]
    fn the_core_is_given_away_now_and_then() {
        let mut spin = Spin::new(true);
        let start = some_time();
        assert!(spin.begin(start));
        let yields = (0..10 * YIELD_EVERY).filter(|_| spin.not_yet(start) == Next::Yield).count();
        assert_eq!(yields, 10);
    }

    #[test]
    fn one_that_is_off_never_looks() {
        assert!(!Spin::new(false).begin(some_time()));
    }

    #[test]
    fn a_look_that_was_left_says_nothing() {
        let mut spin = Spin::new(true);
        for _ in 0..10 {
            assert!(spin.begin(some_time()));
            spin.leave();
        }
    }
}
