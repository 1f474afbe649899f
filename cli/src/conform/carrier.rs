//! How messages travel between the kit and a child: as frames, or as lines of text mode. Cases say and hear frames either way.

use std::fmt;

use stokehold_protocol::limits::FRAME_HEADER_BYTES;
use stokehold_protocol::text::{write_line, write_message};
use stokehold_protocol::{Codec, Splitter};

/// What a child is offered, and is expected to speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    Frames,
    Lines,
    /// Whatever the child begins with.
    Either,
}

impl Carrier {
    /// The value of `STOKEHOLD_CODEC`.
    pub(crate) fn offer(self) -> &'static str {
        match self {
            Self::Frames => "msgpack",
            Self::Lines => "json",
            Self::Either => "msgpack,json",
        }
    }

    /// A reader for what the child writes. Lines are recognised by their first bytes, as a parent does it ([T-8]).
    pub(crate) fn splitter(self) -> Splitter {
        match self {
            Self::Frames => Splitter::new(),
            Self::Lines | Self::Either => Splitter::recognising(),
        }
    }

    /// In what the kit writes to a child whose first bytes are in `heard`, if any have come.
    pub(crate) fn codec(self, heard: Option<Codec>) -> Codec {
        match self {
            Self::Frames => Codec::MessagePack,
            Self::Lines => Codec::Json,
            Self::Either => heard.unwrap_or_default(),
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frames => "frames",
            Self::Lines => "lines",
            Self::Either => "either",
        })
    }
}

/// The line that stands for a frame. Empty if its data has no form in JSON, which that of no case for lines is.
pub(crate) fn line_of(id: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    if write_message(&mut message, body).is_ok() {
        write_line(&mut line, id, &message);
    }
    line
}

/// A frame of the kit's own as it travels in that codec.
pub(crate) fn carried(codec: Codec, id: u32, frame: Vec<u8>) -> Vec<u8> {
    match codec {
        Codec::MessagePack => frame,
        Codec::Json => line_of(id, frame.get(FRAME_HEADER_BYTES..).unwrap_or_default()),
    }
}
