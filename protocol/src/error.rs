//! The errors of this crate, sorted by blame: what the caller did wrong, what the peer did wrong, and what is nobody's fault
//! but cannot work together. Each names the rule that was broken.

use std::fmt;

use thiserror::Error;

use crate::limits;

/// `data`, the fourth field, is not one value of the data model. Wire code `bad_data`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum DataError {
    /// `{"$bin": …}` with something else than base64.
    #[error("the value of \"$bin\" is no base64")]
    BadBytes,
    /// Two equal keys in one map.
    #[error("a map has the same key twice")]
    DuplicateKey,
    /// An extension type; version 1 has none.
    #[error("an extension type, which version 1 of the protocol does not have")]
    Extension,
    /// An integer below −2^63 or above 2^64 − 1.
    #[error("an integer is below -2^63 or above 2^64 - 1")]
    IntegerRange,
    /// A text that is not valid UTF-8.
    #[error("a text is not valid UTF-8")]
    InvalidUtf8,
    /// Half of a surrogate pair, which is no character.
    #[error("a text has half of a surrogate pair in it")]
    LoneSurrogate,
    /// A key that must be there is not.
    #[error("a key that must be there is missing")]
    MissingKey,
    /// A map key that is not a text.
    #[error("a map key is not a text (use text keys, or a list of pairs)")]
    KeyNotText,
    /// NaN or an infinity, for which JSON has no form, or a number that a float of 64 bits cannot hold.
    #[error("a float that is NaN or infinite, for which JSON has no form")]
    NotFinite,
    /// The byte 0xc1, which MessagePack never uses.
    #[error("the byte 0xc1, which MessagePack never uses")]
    ReservedByte,
    /// Arrays and maps nested deeper than [`limits::DEPTH_MAX`].
    #[error("nested deeper than {} levels", limits::DEPTH_MAX)]
    TooDeep,
    /// Bytes behind the value.
    #[error("bytes follow the value")]
    TrailingBytes,
    /// The bytes end before the value does.
    #[error("the bytes end before the value does")]
    Truncated,
    /// A map whose only key begins with one `$`, and is not `$bin`.
    #[error(
        "the only key of a map begins with \"$\" and is not \"$bin\" (a key of one's own gets one more \"$\")"
    )]
    UnknownMark,
    /// A list is longer or shorter than it may be.
    #[error("a list is longer or shorter than it may be")]
    WrongCount,
    /// A value of another type than its place demands.
    #[error("a value has another type than its place demands")]
    WrongType,
}

/// The head of a message (everything but `data`) is not that of a message. Wire code `bad_message`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum MessageError {
    /// The body is not an array.
    #[error("the message is not an array")]
    NotAnArray,
    /// A line of text mode is no JSON.
    #[error("the line is no JSON from byte {at} of the array on")]
    NotJson {
        /// Where in the array the first byte is that cannot be there.
        at: u32,
    },
    /// The body is an array of another length than four.
    #[error("the message has {0} fields instead of 4")]
    FieldCount(u32),
    /// The first field is not a text of 1 to 255 bytes of valid UTF-8.
    #[error("the request is not a text of 1 to {} bytes of UTF-8", limits::REQUEST_BYTES_MAX)]
    BadRequest,
    /// The second field is not an integer from 0 to 2^53 − 1.
    #[error("the sender is not an integer from 0 to 2^53 - 1")]
    BadSender,
    /// The third field is neither nil, −1, nor an integer from 1 to 2^53 − 1.
    #[error("the recipient is neither nil, -1, nor an integer from 1 to 2^53 - 1")]
    BadRecipient,
    /// The body ends inside the head, or before `data`.
    #[error("the message ends inside its head")]
    Truncated,
}

/// The byte stream is not frames. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum FrameError {
    /// A length field that no frame has: the stream is something else.
    #[error("{}", Self::describe_desync(.quote))]
    Desync {
        /// The first bytes where a frame was expected.
        quote: Quote,
    },
    /// The stream ended inside a line of text mode.
    #[error("the stream ended inside a line, after {got} bytes of it")]
    UnfinishedLine {
        /// Bytes of it that had arrived.
        got: u64,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame: {got} of {want} bytes had arrived")]
    Truncated {
        /// Bytes that the frame has with its header, or 8 while the header itself was incomplete.
        want: u64,
        /// Bytes of it that had arrived.
        got: u64,
    },
}

impl FrameError {
    fn describe_desync(quote: &Quote) -> String {
        if quote.looks_like_text() {
            format!("text where a frame was expected: {quote}")
        } else {
            format!("bytes that are no frame: {quote}")
        }
    }
}

/// The first bytes of a stream that is not the protocol, for people to read.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Quote {
    bytes: [u8; limits::QUOTE_BYTES_MAX],
    len: usize,
}

impl Quote {
    /// The first [`limits::QUOTE_BYTES_MAX`] of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut quote = Self { bytes: [0; limits::QUOTE_BYTES_MAX], len: 0 };
        for (slot, byte) in quote.bytes.iter_mut().zip(bytes) {
            *slot = *byte;
            quote.len = quote.len.saturating_add(1);
        }
        quote
    }

    /// The quoted bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether a person would read this as text: all bytes are printable or white space, or those of the first lines, behind
    /// which frames go on.
    pub fn looks_like_text(&self) -> bool {
        self.text().is_some()
    }

    /// The part that a person would read as text.
    fn text(&self) -> Option<&[u8]> {
        let bytes = self.as_bytes();
        let printable = |byte: &u8| matches!(byte, 0x20..=0x7e | b'\n' | b'\r' | b'\t' | 0x1b | 0x80..=0xff);
        let end = bytes.iter().position(|byte| !printable(byte)).unwrap_or(bytes.len());
        let text = bytes.get(..end)?;
        if end == bytes.len() {
            return Some(text).filter(|text| looks_written(text));
        }
        let line_end = text.iter().rposition(|byte| *byte == b'\n')?;
        bytes.get(..=line_end).filter(|lines| lines.len() >= TEXT_BYTES_MIN)
    }
}

/// Whether somebody may have written these bytes as text: a letter, or UTF-8 from the start (its last character may be cut).
/// Bytes above ASCII alone are as likely anything.
fn looks_written(bytes: &[u8]) -> bool {
    let is_utf8 = match std::str::from_utf8(bytes) {
        Ok(text) => !text.is_empty(),
        Err(error) => error.valid_up_to() > 0 && error.error_len().is_none(),
    };
    is_utf8 || bytes.iter().any(u8::is_ascii_graphic)
}

/// Fewer bytes in front of something else are a chance.
const TEXT_BYTES_MIN: usize = 4;

impl fmt::Debug for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return write!(f, "{:?}", String::from_utf8_lossy(text));
        }
        for (index, byte) in self.as_bytes().iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// What a peer did against the protocol, or why two well-behaved peers cannot talk. Either ends the connection.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PeerError {
    /// A frame's body is no message.
    #[error("a frame with id {id} holds no message: {error}")]
    BadMessage {
        /// The frame's id.
        id: u32,
        /// What is wrong with it.
        error: MessageError,
    },
    /// A line of text mode is no message.
    #[error("the line {quote} is no message: {error}")]
    BadLine {
        /// Its id, 0 without one.
        id: u32,
        /// Its beginning.
        quote: Quote,
        /// What is wrong with it.
        error: MessageError,
    },
    /// A protocol request's `data` has not the shape the protocol gives it.
    #[error("{request} came with data that is not what the protocol says: {detail}")]
    BadProtocolData {
        /// The request.
        request: &'static str,
        /// What was expected.
        detail: &'static str,
    },
    /// The stream is not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Incompatibility: no version in common.
    #[error("it speaks version {theirs} of the protocol, this side speaks {ours}")]
    Incompatible {
        /// The peer's version.
        theirs: u64,
        /// This side's version.
        ours: u64,
    },
    /// A request that this side of the connection may not send, or not now.
    #[error("{request} {why}")]
    NotAllowed {
        /// The request.
        request: String,
        /// Why not.
        why: &'static str,
    },
    /// The peer said in its first frame that it cannot work here.
    #[error("it refused to start: {code}: {message}")]
    Refused {
        /// The wire code, `version` or `codec`.
        code: String,
        /// Its words.
        message: String,
    },
    /// An answer to an id that is not open.
    #[error("{request} for id {id}, which is not open")]
    UnknownId {
        /// The request.
        request: &'static str,
        /// The id.
        id: u32,
    },
}

/// What the caller of this crate did wrong. Never depends on bytes from a peer.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// An answer to an id that is not open, or was answered already.
    #[error("id {0} is not open: each task gets exactly one final answer")]
    NotOpen(u32),
    /// The state of the session forbids it: for instance an answer before READY or after BYE.
    #[error("{0} is not possible in this state of the session")]
    WrongState(&'static str),
    /// A frame larger than the peer takes.
    #[error("the frame has {len} bytes, the peer takes at most {max}")]
    TooLarge {
        /// The `len` field the frame would have.
        len: u64,
        /// The peer's `max_frame`.
        max: u32,
    },
    /// An ALL-CAPS name for a user request.
    #[error("a user request must not have an ALL-CAPS name other than DO: those belong to the protocol")]
    ReservedName,
    /// An empty name, or one longer than 255 bytes.
    #[error("a request name has 1 to {} bytes", limits::REQUEST_BYTES_MAX)]
    NameLength,
}

#[cfg(test)]
mod tests;
