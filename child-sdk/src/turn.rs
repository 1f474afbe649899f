//! A handler's run as one word, so that two threads can share it without a lock.

/// A handler's run: which it is, the id of its task, and whether it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Turn(pub(crate) u64);

impl Turn {
    const RUNNING: u64 = 1 << 63;

    /// The one before the first.
    pub(crate) const NONE: Self = Self(0);

    /// The next turn, for task `id`. Counted in 31 bits: nobody remembers one that is two thousand million turns old.
    pub(crate) fn next(self, id: u32) -> Self {
        let count = (self.0 >> 32).wrapping_add(1) << 32;
        Self(Self::RUNNING | (count & !Self::RUNNING) | u64::from(id))
    }

    pub(crate) fn over(self) -> Self {
        Self(self.0 & !Self::RUNNING)
    }

    pub(crate) fn is_running(self) -> bool {
        self.0 & Self::RUNNING != 0
    }

    pub(crate) fn id(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the id")]
        let id = self.0 as u32;
        id
    }
}
