//! When a worker that did nothing wrong is replaced by a fresh one.

use std::time::{Duration, Instant};

use super::Retirement;

/// When a worker is replaced by a fresh one: for programs that leak, fragment their memory, or grow slow with age.
///
/// Each limit is drawn anew for every process, up to a tenth more or less, so that the workers of a pool are not replaced all at
/// once. The replacement is started first; only when it is ready the old worker gets no more tasks, finishes those it has, and
/// ends. So a pool never has fewer workers for it, and for a moment one more. No limit by default.
///
/// ```
/// use std::time::Duration;
/// use stokehold::Recycle;
///
/// let leaky = Recycle::default().tasks(10_000).memory(2 << 30).age(Duration::from_secs(3600));
/// # let _ = leaky;
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recycle {
    pub(crate) tasks: Option<u64>,
    pub(crate) age: Option<Duration>,
    pub(crate) memory: Option<u64>,
}

impl Recycle {
    /// After so many answered tasks.
    #[must_use]
    pub fn tasks(mut self, tasks: u64) -> Self {
        self.tasks = Some(tasks.max(1));
        self
    }

    /// After so long a life.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// When its resident memory is above so many bytes. It is looked at four times a second while the worker has tasks. A bound
    /// below what a fresh worker needs makes every worker be replaced as soon as it is seen: look at
    /// [`Death::peak_memory`](crate::Death::peak_memory), or at the worker itself, before you choose.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The limits of one life; `draw` gives a number of 0 to 1,000, all equally likely.
    pub(super) fn rotation(&self, born: Instant, mut draw: impl FnMut() -> u32) -> Rotation {
        // Between nine and eleven tenths.
        let mut share = || 9_000 + 2 * draw();
        let tasks =
            self.tasks.map_or(u64::MAX, |tasks| (tasks.saturating_mul(u64::from(share())) / 10_000).max(1));
        let age = self.age.map(|age| age.saturating_mul(share()) / 10_000);
        let memory = self.memory.map_or(u64::MAX, |bytes| bytes.saturating_mul(u64::from(share())) / 10_000);
        Rotation { tasks, at: age.and_then(|age| born.checked_add(age)), why: Retirement::Age, memory }
    }
}

/// The limits of one life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) tasks: u64,
    pub(super) at: Option<Instant>,
    /// What it is replaced for then.
    pub(super) why: Retirement,
    pub(super) memory: u64,
}

impl Rotation {
    pub(super) const NEVER: Self = Self { tasks: u64::MAX, at: None, why: Retirement::Age, memory: u64::MAX };
}
