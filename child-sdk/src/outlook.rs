//! Looks ahead for DIE with `now` in what has just arrived: tasks that wait before it are to be dropped, so it must be seen
//! before they are run. It steps from header to header and judges nothing else; the splitter and the session do that.

use stokehold_protocol::limits::{FRAME_HEADER_BYTES, FRAME_LEN_CEILING, FRAME_LEN_MIN};
use stokehold_protocol::{Die, Message};

/// A DIE with a longer reason is not found ahead; it works when its turn comes.
const DIE_LEN_MAX: u32 = 1024;

/// Where in the stream of frames it stands.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    /// Bytes to the next header.
    passing: usize,
    /// A frame that may be DIE, or a header, of which only this much has arrived.
    begun: Vec<u8>,
    /// The stream is not frames; the splitter will say so.
    lost: bool,
}

impl Outlook {
    /// Looks at the next bytes of the stream. True when a DIE with `now` has become complete in them.
    pub(crate) fn finds_die_now(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.lost {
            let passed = self.passing.min(bytes.len());
            self.passing = self.passing.saturating_sub(passed);
            bytes = bytes.get(passed..).unwrap_or_default();
            // The usual case: a whole header, of a frame that is no DIE.
            if self.begun.is_empty()
                && let Some((header, rest)) = bytes.split_first_chunk()
                && !self.may_be_die(header)
            {
                bytes = rest;
                continue;
            }
            let want = self.begun.first_chunk().map_or(FRAME_HEADER_BYTES, frame_bytes);
            let missing = want.saturating_sub(self.begun.len()).min(bytes.len());
            let (now, later) = bytes.split_at(missing);
            self.begun.extend_from_slice(now);
            bytes = later;
            if self.gathered() {
                return true;
            }
        }
        false
    }

    /// After more of a frame was gathered: whether that is a whole DIE with `now`.
    fn gathered(&mut self) -> bool {
        let Some((header, body)) = self.begun.split_first_chunk() else { return false };
        let header = *header;
        let whole = self.begun.len() == frame_bytes(&header);
        let found = whole && is_die_now(body);
        if whole || (body.is_empty() && !self.may_be_die(&header)) {
            self.begun.clear();
        }
        found
    }

    /// Whether the frame of this header may be DIE. If not, its body is passed by.
    fn may_be_die(&mut self, header: &[u8; FRAME_HEADER_BYTES]) -> bool {
        let [a, b, c, d, id @ ..] = *header;
        let len = u32::from_be_bytes([a, b, c, d]);
        if !(FRAME_LEN_MIN..=FRAME_LEN_CEILING).contains(&len) {
            self.lost = true;
            return false;
        }
        if id == [0; 4] && len <= DIE_LEN_MAX {
            return true;
        }
        self.passing = frame_bytes(header).saturating_sub(FRAME_HEADER_BYTES);
        false
    }
}

/// A frame's size with its header.
fn frame_bytes(header: &[u8; FRAME_HEADER_BYTES]) -> usize {
    let [a, b, c, d, ..] = *header;
    (u32::from_be_bytes([a, b, c, d]) as usize).saturating_add(4)
}

fn is_die_now(body: &[u8]) -> bool {
    Message::decode(body)
        .is_ok_and(|message| message.request == "DIE" && Die::decode(message.data).is_ok_and(|die| die.now))
}

#[cfg(test)]
mod tests {
    use stokehold_protocol::Recipient;

    use super::*;

    fn frame(id: u32, request: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Message { request, sender: 1, recipient: Recipient::Anyone, data }.encode_frame(id, &mut out);
        out
    }

    fn finds(bytes: &[u8], chunk: usize) -> bool {
        let mut outlook = Outlook::default();
        bytes.chunks(chunk).any(|chunk| outlook.finds_die_now(chunk))
    }

    const NOW: &[u8] = b"\x81\xa3now\xc3";

    #[test]
    fn die_now_is_found_behind_other_frames_however_the_bytes_arrive() {
        let long = [vec![0xc5, 0x10, 0x00], vec![0; 0x1000]].concat();
        let others = [
            frame(1, "DO", &long),
            frame(0, "HELLO", &[0x80]),
            frame(0, "tick", &long),
            frame(7, "DIE", NOW),
        ];
        let others = others.concat();
        let with_die = [others.clone(), frame(0, "DIE", NOW), frame(2, "DO", &[1])].concat();
        for chunk in (1..40).chain([with_die.len()]) {
            assert!(finds(&with_die, chunk), "in chunks of {chunk}");
            assert!(!finds(&others, chunk), "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_die_that_may_wait_is_not_what_it_looks_for() {
        assert!(!finds(&[frame(0, "DIE", &[0xc0]), frame(0, "DIE", b"\x81\xa3now\xc2")].concat(), 5));
    }

    #[test]
    fn bytes_that_are_no_frames_end_the_looking() {
        for junk in [&b"hello there, this is text"[..], &[0; 20], &[0xff; 20]] {
            for chunk in [1, 7, 20] {
                assert!(!finds(&[junk.to_vec(), frame(0, "DIE", NOW)].concat(), chunk));
            }
        }
    }
}
