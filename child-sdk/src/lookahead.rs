//! Looks ahead for what must not wait until its turn comes: CANCEL, DIE with `now`, PING. It steps from header to header over
//! bytes as they arrive and judges nothing else; the splitter and the session see the same frames later, in order.

use stokehold_protocol::limits::{FRAME_HEADER_BYTES, FRAME_LEN_CEILING, FRAME_LEN_MIN, PING_BYTES_MAX};
use stokehold_protocol::{Die, Message, check};

/// A longer frame is not looked at: one that matters says hardly more than its name. A DIE or PING that is longer works when
/// its turn comes, a CANCEL does nothing then.
const LEN_MAX: u32 = 1024;

/// No body that matters is shorter: DIE with nil.
const BODY_BYTES_MIN: usize = 8;

/// A header and the bytes behind it that tell what a usual frame is: array mark, text mark, first letter.
const START_BYTES: usize = FRAME_HEADER_BYTES + 3;

/// A frame that matters at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sight<'a> {
    /// CANCEL of this task.
    Cancel(u32),
    /// DIE with `now`: what waits is to be dropped, also what came before it.
    DieNow,
    /// PING with this data.
    Ping(&'a [u8]),
}

/// Where in the stream of frames it stands.
#[derive(Debug, Default)]
pub(crate) struct Lookahead {
    /// Frames whose header has passed.
    frames: u64,
    /// Bytes to the next header.
    passing: usize,
    /// A frame that may matter, or a header, of which only this much has arrived.
    begun: Vec<u8>,
    /// The stream is not frames; the splitter will say so.
    lost: bool,
}

impl Lookahead {
    /// Looks at the next bytes of the stream. `seen` gets what matters, with the number of its frame, counted from 1.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u64, Sight<'_>)) {
        while !bytes.is_empty() && !self.lost {
            let passed = self.passing.min(bytes.len());
            self.passing = self.passing.saturating_sub(passed);
            bytes = bytes.get(passed..).unwrap_or_default();
            if self.begun.is_empty()
                && let Some(start) = bytes.first_chunk::<START_BYTES>()
            {
                // The usual case: a frame that does not matter.
                if !self.may_matter(start) {
                    bytes = bytes.get(FRAME_HEADER_BYTES..).unwrap_or_default();
                    continue;
                }
                if let Some((frame, rest)) = bytes.split_at_checked(frame_bytes(start)) {
                    self.whole(frame, &mut seen);
                    bytes = rest;
                    continue;
                }
            }
            let missing = self.wanted().saturating_sub(self.begun.len()).min(bytes.len());
            let (now, later) = bytes.split_at(missing);
            self.begun.extend_from_slice(now);
            bytes = later;
            self.gathered(&mut seen);
        }
    }

    /// How much of the frame at hand has to be gathered before it can be looked at again.
    fn wanted(&self) -> usize {
        match self.begun.len() {
            0..FRAME_HEADER_BYTES => FRAME_HEADER_BYTES,
            FRAME_HEADER_BYTES..START_BYTES => START_BYTES,
            _ => self.begun.first_chunk::<FRAME_HEADER_BYTES>().map_or(START_BYTES, frame_bytes),
        }
    }

    /// After more of a frame was gathered.
    fn gathered(&mut self, seen: &mut impl FnMut(u64, Sight<'_>)) {
        let begun = std::mem::take(&mut self.begun);
        let Some(header) = begun.first_chunk::<FRAME_HEADER_BYTES>() else {
            self.begun = begun;
            return;
        };
        // The length alone lets most frames pass; a frame may even be shorter than `START_BYTES`.
        let matters = match begun.first_chunk::<START_BYTES>() {
            Some(start) if begun.len() == START_BYTES => self.may_matter(start),
            Some(_) => true,
            None => begun.len() > FRAME_HEADER_BYTES || self.fits(header),
        };
        if !matters {
            let got = begun.len().saturating_sub(FRAME_HEADER_BYTES);
            self.passing = self.passing.saturating_sub(got);
        } else if begun.len() == frame_bytes(header) {
            self.whole(&begun, seen);
        } else {
            self.begun = begun;
        }
    }

    /// Whether the frame that starts like this may matter. If not, it is counted, and passed by from behind its header on.
    #[inline]
    fn may_matter(&mut self, start: &[u8; START_BYTES]) -> bool {
        let Some((header, &[array, text, letter])) = start.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return false;
        };
        let matters = match (text, letter) {
            (0xa6, b'C') | (0xa3, b'D') | (0xa4, b'P') => true,
            // Unusual widths are read properly; they are rare.
            _ => array != 0x94 || !(0xa0..=0xbf).contains(&text),
        };
        if matters {
            return self.fits(header);
        }
        self.pass_by(header);
        false
    }

    /// Whether a frame with this header may be one that matters, by its length. If not, it is counted and passed by.
    fn fits(&mut self, header: &[u8; FRAME_HEADER_BYTES]) -> bool {
        let [a, b, c, d, ..] = *header;
        if u32::from_be_bytes([a, b, c, d]) <= LEN_MAX && body_bytes(header) >= BODY_BYTES_MIN {
            return true;
        }
        self.pass_by(header);
        false
    }

    #[inline]
    fn pass_by(&mut self, header: &[u8; FRAME_HEADER_BYTES]) {
        let [a, b, c, d, ..] = *header;
        let len = u32::from_be_bytes([a, b, c, d]);
        self.lost = !(FRAME_LEN_MIN..=FRAME_LEN_CEILING).contains(&len);
        self.frames = self.frames.wrapping_add(1);
        self.passing = body_bytes(header);
    }

    /// A whole frame that may matter.
    fn whole(&mut self, frame: &[u8], seen: &mut impl FnMut(u64, Sight<'_>)) {
        self.frames = self.frames.wrapping_add(1);
        if let Some(sight) = frame.split_first_chunk().and_then(|(header, body)| sight(header, body)) {
            seen(self.frames, sight);
        }
    }
}

fn sight<'a>(header: &[u8; FRAME_HEADER_BYTES], body: &'a [u8]) -> Option<Sight<'a>> {
    let [_, _, _, _, id @ ..] = *header;
    let message = Message::decode(body).ok()?;
    match (message.request, u32::from_be_bytes(id)) {
        ("CANCEL", id @ 1..) => Some(Sight::Cancel(id)),
        ("DIE", 0) => Die::decode(message.data).is_ok_and(|die| die.now).then_some(Sight::DieNow),
        // As the session takes them: each PING is seen by both or by none.
        ("PING", 0) => {
            let data = message.data;
            (data.len() <= PING_BYTES_MAX && check(data).is_ok()).then_some(Sight::Ping(data))
        }
        _ => None,
    }
}

/// A frame's size behind its header.
fn body_bytes(header: &[u8; FRAME_HEADER_BYTES]) -> usize {
    let [a, b, c, d, ..] = *header;
    (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4)
}

/// A frame's size with its header.
fn frame_bytes<const N: usize>(start: &[u8; N]) -> usize {
    start.first_chunk().map_or(0, body_bytes).saturating_add(FRAME_HEADER_BYTES)
}

#[cfg(test)]
mod tests;
