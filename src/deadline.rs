//! When a timeout is over.

use std::time::{Duration, Instant};

/// Farther than any clock is looked at; near enough to be added to any time.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Now and `timeout`, a century at most: `Duration::MAX` means "never" to a caller, and must not overflow.
pub(crate) fn after(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(FAR)
}

/// `at` and `grace`, a century at most.
pub(crate) fn plus(at: Instant, grace: Duration) -> Instant {
    at + grace.min(FAR)
}
