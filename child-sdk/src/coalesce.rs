//! Decides when answers that wait in the buffer must be written. Pure: time is an argument.
//!
//! One write for each answer costs a system call a task; one write for many costs a hundredth. But an answer that waits
//! while the next handler runs is late by that handler, and lost if it crashes: the parent would blame, and run again, a task
//! that had been done. So the buffer is written before every handler, until the handlers have proven to be tiny; then a few
//! answers may wait together, for no longer than a wake-up of the parent takes anyway. And the parent is told, before the
//! first of them waits and when that is over: in between it blames none of the unanswered tasks by its place alone.
//!
//! This is asked between handlers only. That no answer waits for a handler which turns out to be long is the monitor's work.

use std::time::{Duration, Instant};

use crate::shelf::SHELF_BYTES;

/// Tasks in a row that must be tiny before answers wait for each other.
const PROOF_TASKS: u32 = 1024;

/// What one exception costs a worker with proven handlers: so many tiny ones make up for it. Exceptions must be borne,
/// because most are the scheduler's work: on a busy machine each read wakes the parent, which takes this core for a moment.
/// (Measured with raw echo on two busy cores: a whole new proof after each exception meant 2.0 M writes for 3.6 M tasks.)
const EXCEPTION_TASKS: u32 = 32;

/// A handler below this is tiny: it costs little more than the write that is saved.
const TINY: Duration = Duration::from_micros(20);

/// A handler from this on is no exception but work, whose neighbours must not wait for it.
const LONG: Duration = Duration::from_millis(1);

/// No answer waits longer than this and the handler in hand: about the cost of waking a process on another core.
const AGE_MAX: Duration = Duration::from_micros(100);

/// Bytes that wait at most.
const WAITING_BYTES_MAX: usize = SHELF_BYTES;

/// What is known about the handlers, and how old the oldest waiting answer is.
#[derive(Debug, Default)]
pub(crate) struct Coalesce {
    /// From 0 to [`PROOF_TASKS`]: tiny handlers in a row, until proven; then what exceptions have left of them.
    trust: u32,
    proven: bool,
    oldest: Option<Instant>,
    /// Whether the parent was told that answers may wait.
    announced: bool,
}

/// What must be done before a handler starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Before {
    /// Nothing: what waits may wait.
    Nothing,
    /// The buffer must be written.
    Write,
    /// The parent must be told that answers will wait, and all be written.
    Announce,
}

impl Coalesce {
    /// So many handlers ran from `start` to `end`. Until they are proven each is told by itself.
    pub(crate) fn handlers_ran(&mut self, count: u32, start: Instant, end: Instant) {
        if count == 0 {
            return;
        }
        let took = end.saturating_duration_since(start);
        if took < TINY * count {
            self.trust = self.trust.saturating_add(count).min(PROOF_TASKS);
            self.proven |= self.trust == PROOF_TASKS;
        } else {
            let exception = self.proven && took < LONG;
            self.trust = if exception { self.trust.saturating_sub(EXCEPTION_TASKS) } else { 0 };
            self.proven &= self.trust > 0;
        }
        self.answer_waits(end);
    }

    /// There is an answer that is not written, at the time as it is known.
    #[inline]
    pub(crate) fn answer_waits(&mut self, now: Instant) {
        self.oldest.get_or_insert(now);
    }

    /// Whether handlers are proven to be tiny, so that answers may wait.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// The buffer was written.
    pub(crate) fn flushed(&mut self) {
        self.oldest = None;
    }

    /// What must be done with the buffer, with so many bytes in it, before a handler starts at `now`.
    pub(crate) fn before_handler(&self, waiting_bytes: usize, now: Instant) -> Before {
        if waiting_bytes == 0 {
            Before::Nothing
        } else if self.must_flush(waiting_bytes, now) {
            Before::Write
        } else if self.announced {
            Before::Nothing
        } else {
            Before::Announce
        }
    }

    /// The parent is told so, with the next write.
    pub(crate) fn announce(&mut self, held_back: bool) {
        self.announced = held_back;
    }

    /// Whether the parent takes answers for held back, and none will be any more: it is to be told behind what waits now.
    pub(crate) fn has_ended(&self) -> bool {
        self.announced && !self.proven
    }

    fn must_flush(&self, waiting_bytes: usize, now: Instant) -> bool {
        if waiting_bytes == 0 {
            return false;
        }
        let old = self.oldest.is_none_or(|oldest| now.saturating_duration_since(oldest) > AGE_MAX);
        !self.proven || waiting_bytes > WAITING_BYTES_MAX || old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(start: Instant) -> Coalesce {
        let mut coalesce = Coalesce::default();
        for _ in 0..PROOF_TASKS {
            coalesce.handlers_ran(1, start, start);
        }
        coalesce.flushed();
        coalesce
    }

    #[test]
    fn nothing_is_written_when_nothing_waits() {
        let now = Instant::now();
        assert!(!Coalesce::default().must_flush(0, now));
        assert!(!proven(now).must_flush(0, now));
    }

    #[test]
    fn unproven_handlers_never_hold_an_answer_back() {
        let now = Instant::now();
        let mut coalesce = Coalesce::default();
        for _ in 0..PROOF_TASKS - 1 {
            coalesce.handlers_ran(1, now, now);
            assert!(coalesce.must_flush(1, now));
            coalesce.flushed();
        }
        coalesce.handlers_ran(1, now, now);
        assert!(!coalesce.must_flush(1, now));
    }

    /// How many tiny handlers it takes until answers wait.
    fn proof(coalesce: &mut Coalesce, now: Instant) -> u32 {
        let mut tiny = 0;
        while coalesce.must_flush(1, now) {
            coalesce.flushed();
            coalesce.handlers_ran(1, now, now);
            tiny += 1;
        }
        tiny
    }

    #[test]
    fn a_slow_handler_on_the_way_starts_the_proof_again() {
        let now = Instant::now();
        let mut coalesce = Coalesce::default();
        for _ in 0..PROOF_TASKS - 1 {
            coalesce.handlers_ran(1, now, now);
        }
        coalesce.handlers_ran(1, now, now + TINY);
        assert_eq!(proof(&mut coalesce, now), PROOF_TASKS);
    }

    #[test]
    fn a_long_handler_ends_it_at_once() {
        let now = Instant::now();
        let mut coalesce = proven(now);
        coalesce.handlers_ran(1, now, now + LONG);
        assert_eq!(proof(&mut coalesce, now), PROOF_TASKS);
    }

    #[test]
    fn a_look_at_the_clock_without_a_handler_says_nothing_of_handlers() {
        let now = Instant::now();
        let mut coalesce = proven(now);
        coalesce.handlers_ran(0, now, now + LONG);
        assert!(coalesce.is_proven());
    }

    #[test]
    fn rare_exceptions_are_borne_and_frequent_ones_end_it() {
        let now = Instant::now();
        let mut coalesce = proven(now);
        for _ in 0..1000 {
            coalesce.handlers_ran(1, now, now + TINY);
            for _ in 0..EXCEPTION_TASKS {
                coalesce.flushed();
                coalesce.handlers_ran(1, now, now);
                assert!(!coalesce.must_flush(1, now));
            }
        }
        for _ in 0..PROOF_TASKS / EXCEPTION_TASKS {
            coalesce.handlers_ran(1, now, now + TINY);
        }
        assert_eq!(proof(&mut coalesce, now), PROOF_TASKS);
    }

    #[test]
    fn the_parent_is_told_before_the_first_answer_waits_and_when_none_will_any_more() {
        let now = Instant::now();
        let mut coalesce = Coalesce::default();
        coalesce.handlers_ran(1, now, now);
        assert_eq!(coalesce.before_handler(1, now), Before::Write);
        let mut coalesce = proven(now);
        assert_eq!(coalesce.before_handler(0, now), Before::Nothing, "nothing waits yet");
        coalesce.handlers_ran(1, now, now);
        assert_eq!(coalesce.before_handler(1, now), Before::Announce);
        assert_eq!(coalesce.before_handler(WAITING_BYTES_MAX + 1, now), Before::Write);
        coalesce.announce(true);
        coalesce.flushed();
        coalesce.handlers_ran(1, now, now);
        assert_eq!(coalesce.before_handler(1, now), Before::Nothing);
        assert!(!coalesce.has_ended());
        coalesce.handlers_ran(1, now, now + LONG);
        assert!(coalesce.has_ended());
        coalesce.announce(false);
        assert!(!coalesce.has_ended(), "said once");
    }

    #[test]
    fn many_bytes_are_written() {
        let now = Instant::now();
        let mut coalesce = proven(now);
        coalesce.handlers_ran(1, now, now);
        assert!(!coalesce.must_flush(WAITING_BYTES_MAX, now));
        assert!(coalesce.must_flush(WAITING_BYTES_MAX + 1, now));
    }

    #[test]
    fn an_answer_waits_no_longer_than_its_limit_counted_from_the_oldest() {
        let now = Instant::now();
        let mut coalesce = proven(now);
        coalesce.handlers_ran(1, now, now);
        coalesce.handlers_ran(1, now, now + Duration::from_micros(10));
        assert!(!coalesce.must_flush(1, now + AGE_MAX));
        assert!(coalesce.must_flush(1, now + AGE_MAX + Duration::from_nanos(1)));
    }

    #[test]
    fn what_is_no_answer_is_written_before_a_handler() {
        let now = Instant::now();
        assert!(proven(now).must_flush(1, now), "a refusal or PONG has no age, so it must not wait");
    }
}
