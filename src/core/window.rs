//! How many unanswered tasks a worker may hold now: 1 while tasks are slow, so that nothing is hoarded, and as many as hide
//! the way there and back when they are tiny.

use std::time::{Duration, Instant};

/// Tasks that take longer than this are not prefetched: the way there and back is lost in them.
const SLOW: Duration = Duration::from_millis(1);

/// How much work, in time, a worker may have waiting: long enough to sleep through a scheduler's tick, short enough that a
/// neighbour who runs dry waits no longer than that.
const AHEAD: Duration = Duration::from_millis(4);

/// The window of one worker, learned from how fast it answers.
#[derive(Debug)]
pub(crate) struct Window {
    now: u32,
    /// Since when the worker has been busy without a break, if it is.
    busy_since: Option<Instant>,
    /// A fixed size asked for by the user.
    fixed: Option<u32>,
}

impl Window {
    /// A window that starts at 1, or stays at `fixed`.
    pub(crate) fn new(fixed: Option<u32>) -> Self {
        Self { now: fixed.unwrap_or(1).max(1), busy_since: None, fixed }
    }

    /// How many tasks the worker may hold, itself taking at most `limit`.
    pub(crate) fn size(&self, limit: u32) -> u32 {
        self.now.min(limit)
    }

    /// Whether the worker has been at what it has for so long, without an answer, that nothing should be put behind it: what was
    /// learned does not hold now. Never where the size is the user's.
    pub(crate) fn is_overrun(&self, now: Instant) -> bool {
        self.fixed.is_none()
            && self.busy_since.is_some_and(|since| now.saturating_duration_since(since) > AHEAD)
    }

    /// Tasks were handed out; the worker was idle before if `was_idle`.
    pub(crate) fn sent(&mut self, was_idle: bool, now: Instant) {
        if was_idle || self.busy_since.is_none() {
            self.busy_since = Some(now);
        }
    }

    /// `count` answers came in together, and `open` tasks are still out. The worker itself takes at most `limit`: growing
    /// beyond it would only have to be unlearned when the tasks become slow.
    pub(crate) fn answered(&mut self, count: u32, open: u32, limit: u32, now: Instant) {
        let Some(since) = self.busy_since.filter(|_| count > 0) else { return };
        let each = now.saturating_duration_since(since) / count;
        self.busy_since = (open > 0).then_some(now);
        if self.fixed.is_some() {
            return;
        }
        let wanted = if each >= SLOW {
            1
        } else {
            u32::try_from(AHEAD.as_nanos() / each.as_nanos().max(1)).unwrap_or(u32::MAX)
        };
        // Widen by doubling at most, so that one lucky measurement hoards nothing; shrink at once to a half.
        self.now = wanted.clamp((self.now / 2).max(1), self.now.saturating_mul(2)).min(limit.max(1));
    }
}
