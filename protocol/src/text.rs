//! Text mode: a message as one line of JSON, and back (SPEC 10). For languages that read lines and numbers better than bytes. It
//! knows lines only; where one ends is for the [`Splitter`] to find.
//!
//! Written by hand because no JSON library keeps this data model: integers from −2^63 to 2^64 − 1 exactly and no other ones,
//! `1.0` as a float, a key only once, 64 levels without recursion, and a verdict that tells a broken line from a bad value.

pub mod base64;
mod reader;
mod writer;

use crate::error::{DataError, MessageError};
use crate::frame::{FrameEvent, Splitter};
use crate::limits::FRAME_LEN_CEILING;

pub use reader::read_line;
pub(crate) use reader::{read_head, split_id};
pub use writer::write_message;

/// The name that the key of encoded bytes has.
pub const BIN_KEY: &str = "$bin";

/// More bytes than the id and the space before a message never take.
pub const ID_BYTES_MAX: usize = 11;

/// How frames are written on a connection.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Codec {
    /// Length, id, MessagePack.
    #[default]
    MessagePack,
    /// Text mode: lines of JSON.
    Json,
}

impl Codec {
    /// Its name in `STOKEHOLD_CODEC`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessagePack => "msgpack",
            Self::Json => "json",
        }
    }
}

/// Why a line gives no frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineError {
    /// It begins like no message: somebody printed something.
    Stray,
    /// It is no JSON array of four, or its head is not that of a message. Wire code `bad_message`.
    Message {
        /// Its id.
        id: u32,
        /// What is wrong.
        error: MessageError,
    },
    /// Its fourth field stands for no value of the data model. Wire code `bad_data`. What was written of the body is its head,
    /// and nil in place of the data.
    Data {
        /// Its id.
        id: u32,
        /// What is wrong.
        error: DataError,
    },
}

/// Appends the line of a message that [`write_message`] made.
pub fn write_line(out: &mut Vec<u8>, id: u32, message: &[u8]) {
    out.extend_from_slice(id.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(message);
    out.push(b'\n');
}

/// Appends a line for each of the whole `frames`. One whose body has no JSON form gives none and is counted: whoever sends users'
/// data looks at that first, with [`write_message`].
pub fn write_lines(out: &mut Vec<u8>, frames: &[u8]) -> usize {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(FRAME_LEN_CEILING);
    splitter.feed(frames);
    let mut lost = 0;
    let mut message = Vec::new();
    while let Ok(Some(FrameEvent::Frame { id, body })) = splitter.next_frame() {
        message.clear();
        match write_message(&mut message, body) {
            Ok(()) => write_line(out, id, &message),
            Err(_) => lost = usize::saturating_add(lost, 1),
        }
    }
    lost
}

#[cfg(test)]
mod tests;
