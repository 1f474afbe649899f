//! How a child's frames are addressed, as a plain value: for whoever speaks beside the session, such as a handler that
//! streams or a thread that answers PING. It knows no tasks: that an id is open is its user's to know.

use crate::error::ApiMisuse;
use crate::limits::MAX_FRAME_DEFAULT;
use crate::message::{begin_frame, finish_frame, write_head};
use crate::request::Verb;
use crate::{Recipient, wire};

/// Sender, recipient and largest frame, as [`ChildSession::voice`](crate::ChildSession::voice) gives them. They change once
/// at most, with the parent's HELLO, which comes before every task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChildVoice {
    pub(super) pid: u64,
    pub(super) parent: Recipient,
    pub(super) max_frame: u32,
}

impl ChildVoice {
    /// The voice of process `pid` before the parent's HELLO: to whoever reads, in frames of the default size.
    pub fn new(pid: u64) -> Self {
        Self { pid, parent: Recipient::Anyone, max_frame: MAX_FRAME_DEFAULT }
    }

    /// Appends ITEM for the open task `id`, one value in `data`. [`ApiMisuse::TooLarge`] and nothing appended if the parent
    /// does not take so large a frame.
    pub fn item(&self, id: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.frame_within(out, id, Verb::Item, self.max_frame, |out| out.extend_from_slice(data))
    }

    /// Appends PROGRESS for the open task `id`, or for the start with id 0; `data` is a number or a map. Errors as
    /// [`item`](Self::item).
    pub fn progress(&self, id: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.frame_within(out, id, Verb::Progress, self.max_frame, |out| out.extend_from_slice(data))
    }

    /// Appends LOG about the open task `id`, or about no task with id 0; `data` is a map. Errors as [`item`](Self::item).
    pub fn log(&self, id: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.frame_within(out, id, Verb::Log, self.max_frame, |out| out.extend_from_slice(data))
    }

    /// Appends PONG with the data of its PING, which has 64 bytes at most.
    pub fn pong(&self, data: &[u8], out: &mut Vec<u8>) {
        self.frame(out, 0, Verb::Pong, |out| out.extend_from_slice(data));
    }

    /// Appends STARTED for the open task `id`.
    pub(super) fn started(&self, id: u32, out: &mut Vec<u8>) {
        self.frame(out, id, Verb::Started, wire::write_nil);
    }

    /// Appends a frame. Returns its `len`, which is not compared with anything.
    #[inline]
    pub(super) fn frame(
        &self,
        out: &mut Vec<u8>,
        id: u32,
        verb: Verb,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> u64 {
        let start = self.begin(out, id, verb);
        data(out);
        finish_frame(out, start)
    }

    /// Appends the beginning of a frame, up to its data. Gives its place for [`finish_frame`].
    #[inline]
    pub(super) fn begin(&self, out: &mut Vec<u8>, id: u32, verb: Verb) -> usize {
        let start = begin_frame(out, id);
        write_head(out, verb.name(), self.pid, self.parent);
        start
    }

    /// Like [`frame`](Self::frame), but a frame whose `len` would be above `max` is taken back.
    pub(super) fn frame_within(
        &self,
        out: &mut Vec<u8>,
        id: u32,
        verb: Verb,
        max: u32,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ApiMisuse> {
        let start = out.len();
        let len = self.frame(out, id, verb, data);
        if len > u64::from(max) {
            out.truncate(start);
            return Err(ApiMisuse::TooLarge { len, max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_FRAME_FLOOR, PING_BYTES_MAX};
    use crate::{FrameEvent, Message, Splitter};

    #[test]
    fn what_is_too_large_leaves_nothing_behind() {
        let voice = ChildVoice { max_frame: MAX_FRAME_FLOOR, ..ChildVoice::new(7) };
        let large = vec![0xc0; MAX_FRAME_FLOOR as usize];
        let mut out = vec![1];
        for refused in [
            voice.item(1, &large, &mut out),
            voice.progress(1, &large, &mut out),
            voice.log(0, &large, &mut out),
        ] {
            assert!(matches!(refused, Err(ApiMisuse::TooLarge { max: MAX_FRAME_FLOOR, .. })), "{refused:?}");
        }
        assert_eq!(out, [1]);
    }

    #[test]
    fn frames_carry_who_speaks_to_whom() {
        let voice = ChildVoice { parent: Recipient::Process(3), ..ChildVoice::new(7) };
        let mut splitter = Splitter::new();
        let mut out = Vec::new();
        voice.pong(&[0xc4; PING_BYTES_MAX], &mut out);
        voice.item(5, b"\x01", &mut out).unwrap();
        voice.started(6, &mut out);
        splitter.feed(&out);
        for (expected, request) in [(0, "PONG"), (5, "ITEM"), (6, "STARTED")] {
            let Some(FrameEvent::Frame { id, body }) = splitter.next_frame().unwrap() else {
                panic!("a frame")
            };
            let message = Message::decode(body).unwrap();
            assert_eq!((id, message.request), (expected, request));
            assert_eq!((message.sender, message.recipient), (7, Recipient::Process(3)));
        }
    }
}
