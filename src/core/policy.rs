//! What a task is worth: how often it may run.

/// How a task is treated when a worker dies doing it. A value, set for a pool and changed for single calls.
///
/// ```
/// use stokehold::Policy;
///
/// let stubborn = Policy::default().attempts(5);
/// let only_once = Policy::once();
/// # let _ = (stubborn, only_once);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    pub(crate) attempts: u32,
    pub(crate) at_most_once: bool,
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
        Self { attempts: 1, at_most_once: true }
    }

    /// How many workers may die doing it before it ends as [`Dead`](crate::TaskErrorKind::Dead); at least 1. The default is
    /// 3: a crash by chance is repaired, a task that kills every worker is recognised soon.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}

impl Default for Policy {
    /// At least once, 3 attempts.
    fn default() -> Self {
        Self { attempts: 3, at_most_once: false }
    }
}
