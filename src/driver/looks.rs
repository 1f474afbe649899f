//! How often a sender of many jobs has them looked at: about ten thousand times a second, whatever their number. Seldom enough
//! that a look, a system call or two, is lost in the jobs that it finds; often enough that no worker waits for long for jobs that
//! are there.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Looks that follow each other faster find too little.
const SOON: Duration = Duration::from_micros(40);

/// Looks that follow each other slower come too late.
const LATE: Duration = Duration::from_micros(160);

/// With more jobs than so many between two looks, they come so fast that the first had better wait for others.
const FAST: usize = 16;

/// After so long without a look jobs come slowly, however fast they came before.
const OVERDUE: Duration = Duration::from_millis(1);

/// To find that out, the clock is read for each of so many jobs that gather first, and later once in so many: a reading costs about
/// as much as a tiny job.
const CLOCK_EVERY: usize = 16;

/// Jobs between two looks, at most.
const MOST: usize = 1_024;

/// How long jobs of a sender that has many wait for others behind them while a worker has nothing to do.
pub(super) const LINGER: Duration = Duration::from_micros(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Looks {
    /// Jobs between two looks.
    every: AtomicUsize,
    /// When the last look was, in nanoseconds since `epoch`.
    last: AtomicU64,
    epoch: Instant,
}

impl Default for Looks {
    fn default() -> Self {
        Self { every: AtomicUsize::new(1), last: AtomicU64::new(0), epoch: Instant::now() }
    }
}

impl Looks {
    /// Whether it is time to look when so many jobs have gathered.
    #[inline]
    pub(super) fn is_time(&self, gathered: usize) -> bool {
        gathered.is_multiple_of(self.every.load(Ordering::Relaxed))
    }

    /// Whether the last look was so long ago that those that have gathered had better not wait for as many as came in that time
    /// before.
    #[inline]
    pub(super) fn is_overdue(&self, gathered: usize) -> bool {
        (gathered <= CLOCK_EVERY || gathered.is_multiple_of(CLOCK_EVERY))
            && self.is_overdue_at(self.epoch.elapsed())
    }

    fn is_overdue_at(&self, now: Duration) -> bool {
        now.saturating_sub(Duration::from_nanos(self.last.load(Ordering::Relaxed))) > OVERDUE
    }

    /// Whether jobs come so fast that the first of them had better wait for others.
    #[inline]
    pub(super) fn are_worth_waiting_for(&self) -> bool {
        self.every.load(Ordering::Relaxed) > FAST
    }

    /// It is looked now.
    pub(super) fn look(&self) {
        self.look_at(self.epoch.elapsed());
    }

    fn look_at(&self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let since = Duration::from_nanos(now.saturating_sub(self.last.swap(now, Ordering::Relaxed)));
        let every = self.every.load(Ordering::Relaxed);
        // Two senders may both look and one of them is not counted: the next look mends that.
        if since < SOON {
            self.every.store((every * 2).min(MOST), Ordering::Relaxed);
        } else if since > LATE {
            self.every.store((every / 2).max(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many jobs come, each after `pause`.
    fn send(looks: &Looks, jobs: usize, pause: Duration, now: &mut Duration) {
        for gathered in 1..=jobs {
            *now += pause;
            if looks.is_time(gathered) {
                looks.look_at(*now);
            }
        }
    }

    #[test]
    fn looks_are_ten_thousand_a_second_whatever_the_pace() {
        for nanos in [50, 500, 5_000] {
            let (looks, mut now) = (Looks::default(), Duration::from_secs(1));
            let pause = Duration::from_nanos(nanos);
            send(&looks, 50_000, pause, &mut now);
            let between = pause * u32::try_from(looks.every.load(Ordering::Relaxed)).unwrap();
            assert!(
                (SOON..=LATE).contains(&between),
                "{between:?} between two looks at one job in {pause:?}"
            );
        }
    }

    #[test]
    fn a_look_is_overdue_when_jobs_come_slower_than_before() {
        let (looks, mut now) = (Looks::default(), Duration::from_secs(1));
        send(&looks, 10_000, Duration::from_nanos(50), &mut now);
        looks.look_at(now);
        assert!(!looks.is_overdue_at(now + LATE));
        assert!(looks.is_overdue_at(now + OVERDUE + LATE));
    }

    #[test]
    fn a_sender_with_pauses_has_every_job_looked_at() {
        let (looks, mut now) = (Looks::default(), Duration::from_secs(1));
        send(&looks, 10_000, Duration::from_nanos(50), &mut now);
        assert!(looks.are_worth_waiting_for());
        send(&looks, 10_000, Duration::from_millis(1), &mut now);
        assert!(looks.is_time(1) && !looks.are_worth_waiting_for());
    }
}
