//! How many handlers run between two looks at the clock: a look costs as much as a tiny handler. Pure: time is an argument.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stride {
    /// About how long handlers run between two looks.
    every: Duration,
    /// How many run between two looks, at the most.
    most: u32,
    handlers: u32,
    done: u32,
}

impl Stride {
    /// A look after the first handler; later about one in `every`, and after `most` handlers at the latest.
    pub(super) const fn new(every: Duration, most: u32) -> Self {
        Self { every, most, handlers: 1, done: 0 }
    }

    /// Another handler is done. Whether to look at the clock.
    #[inline]
    pub(super) fn step(&mut self) -> bool {
        self.done += 1;
        self.done >= self.handlers
    }

    /// Whether handlers have run since the last look.
    pub(super) fn is_behind(&self) -> bool {
        self.done > 0
    }

    /// The clock was looked at; the handlers since the last look took that long. Gives how many those were.
    pub(super) fn looked(&mut self, took: Duration) -> u32 {
        let done = std::mem::take(&mut self.done);
        let each = took.as_nanos() / u128::from(done.max(1));
        let wanted = u32::try_from(self.every.as_nanos() / each.max(1)).unwrap_or(u32::MAX);
        // Longer by doubling: one quick handler says little of the next.
        self.handlers = wanted.clamp(1, (self.handlers * 2).min(self.most));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_micros(50);

    #[test]
    fn the_clock_is_looked_at_often_when_handlers_take_long_and_seldom_when_they_do_not() {
        let mut stride = Stride::new(EVERY, 64);
        assert!(stride.step(), "nothing is known at first");
        for handlers in [2, 4, 8, 16, 32, 64, 64] {
            stride.looked(Duration::from_nanos(100));
            assert_eq!(stride.handlers, handlers);
        }
        assert_eq!((0..64).filter(|_| stride.step()).count(), 1);
        assert_eq!(stride.looked(EVERY * 64), 64);
        assert_eq!(stride.handlers, 1);
        assert!(stride.step());
        for _ in 0..6 {
            stride.looked(EVERY / 10);
        }
        assert_eq!(stride.handlers, 10);
    }
}
