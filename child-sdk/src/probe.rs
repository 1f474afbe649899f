//! Crash points: named places of a worker's life at which a test may let it die. A worker without a probe is compiled without
//! them. Hidden from the documentation, and no part of what this crate promises.

use std::fmt;

use stokehold_protocol::limits::FRAME_HEADER_BYTES;

/// A place in a worker's life. For each task those from `BeforeRead` to `AfterFinished` come in their order here, save that
/// `MidItem` comes once for each item, between `AfterStarted` and `AfterHandler`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Point {
    /// Serving was called; nothing is done yet.
    Start,
    /// The streams are taken, HELLO is not written.
    BeforeHello,
    /// HELLO is written, `init` has not begun.
    AfterHello,
    /// `init` is done, READY is not written.
    BeforeReady,
    /// READY is written.
    AfterReady,
    /// Before the first byte that comes after the last answer, or after READY, is read. Reached also when no task comes.
    BeforeRead,
    /// Of a task, or of the META before it, the eight bytes of the header are read.
    AfterHeader,
    /// The task is read whole. STARTED is not written, the handler has not begun.
    AfterRead,
    /// STARTED is written, if it is used; the handler begins now.
    AfterStarted,
    /// Half of an item's frame is written.
    MidItem,
    /// The handler is done, nothing of the answer is written.
    AfterHandler,
    /// Half of the final answer's frame is written. The answer may be FAILED.
    MidFinished,
    /// The final answer is written.
    AfterFinished,
    /// All answers are written, BYE is not.
    BeforeBye,
    /// BYE is written.
    AfterBye,
}

impl Point {
    /// All, in their order.
    pub const ALL: [Self; 15] = [
        Self::Start,
        Self::BeforeHello,
        Self::AfterHello,
        Self::BeforeReady,
        Self::AfterReady,
        Self::BeforeRead,
        Self::AfterHeader,
        Self::AfterRead,
        Self::AfterStarted,
        Self::MidItem,
        Self::AfterHandler,
        Self::MidFinished,
        Self::AfterFinished,
        Self::BeforeBye,
        Self::AfterBye,
    ];
}

/// Is told of every point that is reached, and may do anything there, such as ending the process.
///
/// While a probe is active every answer and item is written by itself, and input is read a header and a body at a time, so
/// that the points are exact. (What a handler of some milliseconds lets come in meanwhile is still read ahead.)
pub trait Probe: Send + Sync + 'static {
    /// `point` is reached. `task` is the task in hand, or the next one, counted from 1; one-way requests count too. Called on
    /// the thread that serves, or for [`Point::MidItem`] on the one that called `item`.
    fn reach(&self, point: Point, task: u64);

    /// Whether the points are wanted; asked once. Default: yes.
    fn is_active(&self) -> bool {
        true
    }
}

/// No probe, at no cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    #[inline]
    fn reach(&self, _: Point, _: u64) {}

    #[inline]
    fn is_active(&self) -> bool {
        false
    }
}

impl fmt::Debug for dyn Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// Reads a stream of frames a header and a body at a time.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    header: [u8; FRAME_HEADER_BYTES],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the body that have not.
    left: usize,
}

impl Pace {
    /// How many bytes may be read now, at least 1.
    pub(crate) fn wanted(&self) -> usize {
        if self.left > 0 { self.left } else { FRAME_HEADER_BYTES.saturating_sub(self.have) }
    }

    /// These were read. Gives the id when a header has become complete.
    pub(crate) fn took(&mut self, bytes: &[u8]) -> Option<u32> {
        if self.left > 0 {
            self.left = self.left.saturating_sub(bytes.len());
            return None;
        }
        for (place, byte) in self.header.iter_mut().skip(self.have).zip(bytes) {
            *place = *byte;
        }
        self.have = self.have.saturating_add(bytes.len());
        if self.have < FRAME_HEADER_BYTES {
            return None;
        }
        self.have = 0;
        let [a, b, c, d, id @ ..] = self.header;
        self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
        Some(u32::from_be_bytes(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_points_are_there_once_and_in_order() {
        assert!(Point::ALL.windows(2).all(|two| two[0] < two[1]));
        assert_eq!(Point::ALL.len(), Point::AfterBye as usize + 1);
    }

    #[test]
    fn headers_and_bodies_are_asked_for_one_by_one() {
        let stream = [&[0, 0, 0, 6, 0, 0, 0, 7, 1, 2][..], &[0, 0, 0, 5, 0, 0, 0, 9, 1]].concat();
        for most in [1, 3, 100] {
            let (mut pace, mut rest, mut ids) = (Pace::default(), &stream[..], Vec::new());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(pace.wanted().min(most).min(rest.len()));
                ids.extend(pace.took(now).map(|id| (id, later.len())));
                rest = later;
            }
            assert_eq!(ids, [(7, 11), (9, 1)]);
        }
    }
}
