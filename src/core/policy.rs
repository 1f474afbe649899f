//! What a task is worth: how often it may run, for how long, and what is tried again.

use std::time::Duration;

/// How a task is treated when a worker dies doing it, takes too long, or says that it failed. A value, set for a pool and
/// changed for single calls.
///
/// ```
/// use std::time::Duration;
/// use stokehold::{Policy, RetryFailures};
///
/// let stubborn = Policy::default().attempts(5).retry_failures(RetryFailures::Always);
/// let only_once = Policy::once();
/// let impatient = Policy::default().timeout(Duration::from_secs(2)).total_timeout(Duration::from_secs(10));
/// # let _ = (stubborn, only_once, impatient);
/// ```
///
/// Times are kept in milliseconds, at most 49 days; a shorter one than a millisecond counts as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    pub(crate) attempts: u32,
    pub(crate) at_most_once: bool,
    pub(crate) retries_crashes: bool,
    pub(crate) retries_timeouts: bool,
    pub(crate) retries_failures: RetryFailures,
    pub(crate) restarts_stream: bool,
    pub(crate) tells_key: bool,
    timeout: Millis,
    soft_timeout: Millis,
    total_timeout: Millis,
    backoff: Millis,
    backoff_max: Millis,
}

/// Which failures that a worker reports (FAILED) are tried again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum RetryFailures {
    /// All of them: for handlers that fail by chance and do not know it.
    Always,
    /// None, whatever the worker says.
    Never,
    /// Those of which the worker says that another try may help (`retry`). The default: an error that a handler noticed is
    /// most often the input's fault, and only the handler knows better.
    #[default]
    WhenAsked,
}

/// A time in milliseconds; 0 is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Millis(u32);

impl Millis {
    const NONE: Self = Self(0);

    fn new(time: Duration) -> Self {
        Self(u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1))
    }

    fn get(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_millis(u64::from(self.0)))
    }
}

impl Policy {
    /// At most one run, ever: if the worker dies, the task ends as [`Lost`](crate::TaskErrorKind::Lost) unless it surely had
    /// not begun. For work that must not be done twice.
    ///
    /// Such tasks go one at a time to a worker that has nothing else, and nothing else goes to it until they are answered,
    /// whatever the window is. Only so does a death tell exactly whether the task had been handed over: with others in the
    /// same pipe it would be a guess which of them had begun. They keep their place in the queue: when one stands first, the
    /// tasks behind it wait until some worker is free for it. So each costs the way to the worker and back; for many tiny
    /// tasks the default is far faster.
    pub fn once() -> Self {
        Self { attempts: 1, at_most_once: true, ..Self::default() }
    }

    /// How many attempts may begin, at least 1. An attempt is used up when its worker dies doing it, when it takes too long,
    /// or when it fails and is tried again; after the last the task ends as [`Dead`](crate::TaskErrorKind::Dead),
    /// [`TimedOut`](crate::TaskErrorKind::TimedOut) or [`Failed`](crate::TaskErrorKind::Failed). The default is 3: a crash by
    /// chance is repaired, a task that kills every worker is recognised soon.
    ///
    /// The handler may begin more often than that, in two cases that are no fault of the task's and cost it nothing: the worker
    /// was ended because of *another* of its tasks, or died and nobody can tell which of several it was doing. The second
    /// happens to tiny tasks of a channel or a map, which travel many to a frame: one that kills its worker does so once more
    /// than this number, the first time among others. It does not happen to tasks with 1 attempt, which travel alone. Only
    /// [`once`](Self::once) rules both out.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long one attempt may run. After it the worker is told to cancel the task if it can, and is ended if it does not: see
    /// [`PoolBuilder::stop_graces`](crate::PoolBuilder::stop_graces). The attempt counts as used up; the next one begins only
    /// when the process of this one is gone. By default there is no limit, because nobody but you knows how long your work
    /// takes.
    ///
    /// The clock starts when the task's turn comes in its worker, not while it waits there behind others.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Millis::new(limit);
        self
    }

    /// How long one attempt may go on without an answer, a result of a stream, or PROGRESS. After it the pool tells so
    /// ([`Event::TaskOverdue`](crate::Event::TaskOverdue)) and asks the worker to cancel the task, but uses no force: that is
    /// for [`timeout`](Self::timeout), which PROGRESS does not extend. None by default.
    #[must_use]
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.soft_timeout = Millis::new(limit);
        self
    }

    /// How long the task may take in all, from its acceptance, over all attempts and the waits between them. After it there are
    /// no more attempts, one that runs is stopped, and the task ends as [`TimedOut`](crate::TaskErrorKind::TimedOut). None by
    /// default.
    #[must_use]
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.total_timeout = Millis::new(limit);
        self
    }

    /// The pause before another attempt: a random time from zero to `first`, doubled with every further attempt up to `max`
    /// ("full jitter": what failed together does not come back together). The first retry after a crash comes at once; a
    /// worker that names a time itself gets that. The defaults are 100 ms and 10 s.
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = Millis::new(first);
        self.backoff_max = Millis::new(max);
        self
    }

    /// Whether a task whose worker died is tried again. It is by default: most crashes are not the input's fault, and a handler
    /// cannot report them. Without it the task ends as [`Dead`](crate::TaskErrorKind::Dead) at the first one that it was doing.
    #[must_use]
    pub fn retry_crashes(mut self, retry: bool) -> Self {
        self.retries_crashes = retry;
        self
    }

    /// Which reported failures are tried again; by default those for which the worker asks.
    #[must_use]
    pub fn retry_failures(mut self, which: RetryFailures) -> Self {
        self.retries_failures = which;
        self
    }

    /// Whether an attempt that took too long is followed by another. It is by default.
    #[must_use]
    pub fn retry_timeouts(mut self, retry: bool) -> Self {
        self.retries_timeouts = retry;
        self
    }

    /// Lets a task be tried again although results of its stream were handed out already; the stream then tells so
    /// ([`Streamed::Restarted`](crate::Streamed::Restarted)). Not by default: whoever took the first results would see them
    /// twice. Without it such a task ends as [`Dead`](crate::TaskErrorKind::Dead).
    #[must_use]
    pub fn restart_stream(mut self) -> Self {
        self.restarts_stream = true;
        self
    }

    /// Tells the worker a key that is the same for all attempts of the task and no other, in this run or any: what a handler
    /// needs to recognise work that an earlier attempt has done. Not by default, because it costs some 70 bytes a task.
    #[must_use]
    pub fn with_key(mut self) -> Self {
        self.tells_key = true;
        self
    }

    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.timeout.get()
    }

    pub(crate) fn soft_limit(&self) -> Option<Duration> {
        self.soft_timeout.get()
    }

    pub(crate) fn total_limit(&self) -> Option<Duration> {
        self.total_timeout.get()
    }

    /// Whether an attempt is timed.
    pub(crate) fn times_attempts(&self) -> bool {
        self.timeout != Millis::NONE || self.soft_timeout != Millis::NONE
    }

    /// Whether tasks need nothing that is of each by itself, so that several may go in one frame. One that is not to be tried
    /// again after a crash needs to be known as the one that was being done.
    pub(crate) fn is_plain(&self) -> bool {
        !self.at_most_once
            && self.attempts > 1
            && self.retries_crashes
            && !self.tells_key
            && !self.times_attempts()
            && self.total_timeout == Millis::NONE
    }

    /// The longest pause before the retry that follows the `times`-th used-up attempt.
    pub(crate) fn longest_pause(&self, times: u32) -> Duration {
        let first = self.backoff.get().unwrap_or_default();
        let max = self.backoff_max.get().unwrap_or_default();
        first.saturating_mul(1 << times.saturating_sub(1).min(24)).min(max)
    }
}

impl Default for Policy {
    /// At least once: 3 attempts, crashes and timeouts tried again, failures when the worker asks, no time limits.
    fn default() -> Self {
        Self {
            attempts: 3,
            at_most_once: false,
            retries_crashes: true,
            retries_timeouts: true,
            retries_failures: RetryFailures::WhenAsked,
            restarts_stream: false,
            tells_key: false,
            timeout: Millis::NONE,
            soft_timeout: Millis::NONE,
            total_timeout: Millis::NONE,
            backoff: Millis(100),
            backoff_max: Millis(10_000),
        }
    }
}
