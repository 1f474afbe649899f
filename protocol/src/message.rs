//! The message: an array of exactly four fields, `[request, sender, recipient, data]`. Its head is read and written here
//! without recursion or allocation; `data` stays opaque bytes (SPEC 5).

use crate::address::Recipient;
use crate::error::{DataError, MessageError};
use crate::limits::{ADDRESS_MAX, FRAME_HEADER_BYTES, REQUEST_BYTES_MAX};
use crate::wire::{self, Marker, Reader};

/// One message, borrowed from the body of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message<'a> {
    /// What is asked or answered: 1 to 255 bytes of UTF-8. ALL-CAPS names are the protocol's.
    pub request: &'a str,
    /// Address of the sender. A parent ignores what a child writes here: identity is the connection.
    pub sender: u64,
    /// Whom it is for.
    pub recipient: Recipient,
    /// The rest of the body, not walked: one value if the peer kept the rules. [`crate::check`] tells.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the head of `body`. `data` is what follows it, at least one byte, unchecked.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = match body.split_first() {
            Some((0x94, rest)) => Reader::new(rest),
            _ => Self::unusual_array(body)?,
        };
        let request = Self::request(&mut reader)?;
        let sender = match reader.marker() {
            Ok(Marker::Unsigned(pid)) if pid <= ADDRESS_MAX => pid,
            Err(DataError::Truncated) => return Err(MessageError::Truncated),
            _ => return Err(MessageError::BadSender),
        };
        let recipient = match reader.marker() {
            Ok(Marker::Nil) => Recipient::Anyone,
            Ok(Marker::Negative(-1)) => Recipient::Everyone,
            Ok(Marker::Unsigned(pid)) if (1..=ADDRESS_MAX).contains(&pid) => Recipient::Process(pid),
            Err(DataError::Truncated) => return Err(MessageError::Truncated),
            _ => return Err(MessageError::BadRecipient),
        };
        let data = reader.rest();
        if data.is_empty() {
            return Err(MessageError::Truncated);
        }
        Ok(Self { request, sender, recipient, data })
    }

    /// Appends the whole frame to `out`: header with `id`, head, data.
    ///
    /// Nothing is checked: `data` must be one value, and the frame within the peer's `max_frame`.
    pub fn encode_frame(&self, id: u32, out: &mut Vec<u8>) {
        let start = begin_frame(out, id);
        write_head(out, self.request, self.sender, self.recipient);
        out.extend_from_slice(self.data);
        finish_frame(out, start);
    }

    /// The first field. The two names that nearly every frame has are compared instead of parsed: that takes a third off the time.
    #[inline]
    fn request(reader: &mut Reader<'a>) -> Result<&'a str, MessageError> {
        for (encoded, name) in [(&b"\xa8FINISHED"[..], "FINISHED"), (b"\xa2DO", "DO")] {
            if let Some(rest) = reader.rest().strip_prefix(encoded) {
                *reader = Reader::new(rest);
                return Ok(name);
            }
        }
        match reader.marker() {
            Ok(Marker::Str(text)) if !text.is_empty() && text.len() <= REQUEST_BYTES_MAX => Ok(text),
            Err(DataError::Truncated) => Err(MessageError::Truncated),
            _ => Err(MessageError::BadRequest),
        }
    }

    fn unusual_array(body: &'a [u8]) -> Result<Reader<'a>, MessageError> {
        let mut reader = Reader::new(body);
        match reader.marker() {
            Ok(Marker::Array(4)) => Ok(reader),
            Ok(Marker::Array(count)) => Err(MessageError::FieldCount(count)),
            Err(DataError::Truncated) => Err(MessageError::Truncated),
            _ => Err(MessageError::NotAnArray),
        }
    }
}

/// Appends the array mark and the first three fields; `data` must follow as one value.
#[inline]
pub fn write_head(out: &mut Vec<u8>, request: &str, sender: u64, recipient: Recipient) {
    out.push(0x94);
    wire::write_str(out, request);
    wire::write_uint(out, sender);
    match recipient {
        Recipient::Anyone => wire::write_nil(out),
        Recipient::Everyone => out.push(0xff),
        Recipient::Process(pid) => wire::write_uint(out, pid),
    }
}

/// The eight bytes before a body of `body_len` bytes. Bodies longer than any frame may be give a length that no peer takes.
#[inline]
pub fn frame_header(id: u32, body_len: usize) -> [u8; FRAME_HEADER_BYTES] {
    let len = u32::try_from(body_len).unwrap_or(u32::MAX).saturating_add(4);
    let [a, b, c, d] = len.to_be_bytes();
    let [e, f, g, h] = id.to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Appends a header whose length is not known yet. Returns its place for [`finish_frame`].
#[must_use]
pub fn begin_frame(out: &mut Vec<u8>, id: u32) -> usize {
    let start = out.len();
    out.extend_from_slice(&frame_header(id, 0));
    start
}

/// Writes the length of the frame that began at `start` and reaches to the end of `out`. Returns its `len` field, which the
/// caller compares with the peer's `max_frame`.
pub fn finish_frame(out: &mut [u8], start: usize) -> u64 {
    finish_frame_before(out, start, 0)
}

/// As [`finish_frame`], for a frame of which so many bytes are still to come.
pub fn finish_frame_before(out: &mut [u8], start: usize, rest_len: usize) -> u64 {
    let written = out.len().saturating_sub(start).saturating_sub(FRAME_HEADER_BYTES);
    let body_len = written.saturating_add(rest_len);
    let header = frame_header(0, body_len);
    if let (Some(place), Some(len)) =
        (out.get_mut(start..).and_then(|frame| frame.get_mut(..4)), header.get(..4))
    {
        place.copy_from_slice(len);
    }
    (body_len as u64).saturating_add(4)
}

#[cfg(test)]
mod tests;
