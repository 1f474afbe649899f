//! How many lines for the log a worker may send: a handler that logs in a tight loop must not make the parent take it for a
//! worker gone wild (SPEC R-46). Pure: time is an argument.

use std::time::{Duration, Instant};

/// Lines in a second; a tenth of what a parent bears.
const LINES_MAX: u32 = 10_000;

const SECOND: Duration = Duration::from_secs(1);

/// The lines of the current second.
#[derive(Debug, Default)]
pub(crate) struct LogMeter {
    since: Option<Instant>,
    sent: u32,
    dropped: u64,
}

impl LogMeter {
    /// Whether a line may be sent now, and how many were dropped since the last that was.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            self.since = Some(now);
            self.sent = 0;
        }
        if self.sent == LINES_MAX {
            self.dropped += 1;
            return None;
        }
        self.sent += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_a_second_is_dropped_and_counted() {
        let mut meter = LogMeter::default();
        let now = Instant::now();
        let admitted = (0..LINES_MAX + 7).filter(|_| meter.admit(now) == Some(0)).count();
        assert_eq!(admitted, LINES_MAX as usize);
        assert_eq!(meter.admit(now + SECOND), Some(7), "told once, when there is room again");
        assert_eq!(meter.admit(now + SECOND), Some(0));
    }
}
