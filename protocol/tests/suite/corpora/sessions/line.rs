//! Bytes on their way to one side, cut into frames where they arrive. It knows no session.

use stokehold_protocol::{FrameEvent, Message, PeerError, Splitter};

/// Bytes on their way to one side, and its splitter.
#[derive(Default)]
pub(super) struct Line {
    pub(super) flying: Vec<u8>,
    pub(super) splitter: Splitter,
    /// Nothing more will be written.
    pub(super) closed: bool,
    /// Somebody broke a rule here: what its reader makes of it is open.
    pub(super) tampered: bool,
}

/// A splitter's event, owned.
pub(super) enum Arrival {
    Frame(u32, Vec<u8>),
    TooLarge(u32, Vec<u8>),
}

impl Line {
    /// Appends bytes unless the line is closed.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.flying.extend_from_slice(bytes);
        }
    }

    /// The next thing that has arrived.
    pub(super) fn arrival(&mut self) -> Option<Result<Arrival, PeerError>> {
        match self.splitter.next_frame() {
            Ok(Some(FrameEvent::Frame { id, body })) => Some(Ok(Arrival::Frame(id, body.to_vec()))),
            Ok(Some(FrameEvent::TooLarge { id, head, .. })) => Some(Ok(Arrival::TooLarge(id, head.to_vec()))),
            Ok(Some(FrameEvent::BadLine { .. } | FrameEvent::BadData { .. })) => unreachable!("no lines"),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    pub(super) fn at_end(&self) -> bool {
        self.closed && self.flying.is_empty()
    }
}

/// For each frame that was written, whether it is a final answer.
pub(super) fn finals(written: &[u8]) -> Vec<bool> {
    let mut splitter = Splitter::new();
    splitter.feed(written);
    let mut finals = Vec::new();
    while let Some(event) = splitter.next_frame().expect("a session writes frames") {
        let FrameEvent::Frame { body, .. } = event else { panic!("a session writes frames that fit") };
        let message = Message::decode(body).expect("a session writes messages");
        finals.push(matches!(message.request, "FINISHED" | "FAILED"));
    }
    assert_eq!(splitter.finish(), Ok(()), "a session writes whole frames");
    finals
}
