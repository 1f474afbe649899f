//! The body of a frame as JSON. Iterative; every value of the data model has a form, but for NaN and the infinities.

use super::{BIN_KEY, base64};
use crate::check::check;
use crate::error::DataError;
use crate::limits::DEPTH_MAX;
use crate::message::Message;
use crate::wire::{Marker, Reader};

/// An array or map that is being written.
struct Level {
    /// Values still owed: in a map, two for each pair.
    owed: u64,
    is_map: bool,
    /// A map with one key, before which a `$` stands if it begins with one.
    is_single: bool,
    is_first: bool,
}

/// Appends the message of a frame's body as a JSON array. [`write_line`](super::write_line) makes a line of it. On an error,
/// nothing is appended.
pub fn write_message(out: &mut Vec<u8>, body: &[u8]) -> Result<(), DataError> {
    let start = out.len();
    let written = write_whole(out, body);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_whole(out: &mut Vec<u8>, body: &[u8]) -> Result<(), DataError> {
    let message = Message::decode(body).map_err(|_| DataError::WrongType)?;
    check(message.data)?;
    let mut reader = Reader::new(body);
    let mut levels: Vec<Level> = Vec::new();
    loop {
        let mut at_key = None;
        if let Some(level) = levels.last_mut() {
            let is_key = level.is_map && level.owed.is_multiple_of(2);
            if level.is_map && !is_key {
                out.push(b':');
            } else if !level.is_first {
                out.push(b',');
            }
            level.is_first = false;
            level.owed = level.owed.saturating_sub(1);
            at_key = is_key.then_some(level.is_single);
        }
        match reader.marker()? {
            Marker::Nil => out.extend_from_slice(b"null"),
            Marker::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Marker::Unsigned(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Marker::Negative(value) => out.extend_from_slice(value.to_string().as_bytes()),
            // The shortest digits that mean the same number, with a fraction or an exponent.
            Marker::Float(value) if value.is_finite() => {
                out.extend_from_slice(format!("{value:?}").as_bytes())
            }
            Marker::Float(_) => return Err(DataError::NotFinite),
            Marker::Str(text) => {
                let is_escaped = at_key == Some(true) && text.starts_with('$');
                write_text(out, if is_escaped { "$" } else { "" }, text);
            }
            Marker::Bin(bytes) => {
                out.push(b'{');
                write_text(out, "", BIN_KEY);
                out.extend_from_slice(b":\"");
                base64::encode(bytes, out);
                out.extend_from_slice(b"\"}");
            }
            Marker::Array(len) => begin(out, &mut levels, u64::from(len), false)?,
            Marker::Map(len) => begin(out, &mut levels, u64::from(len), true)?,
        }
        while let Some(level) = levels.pop_if(|level| level.owed == 0) {
            out.push(if level.is_map { b'}' } else { b']' });
        }
        if levels.is_empty() {
            return Ok(());
        }
    }
}

fn begin(out: &mut Vec<u8>, levels: &mut Vec<Level>, len: u64, is_map: bool) -> Result<(), DataError> {
    // The array of the message is one more.
    if levels.len() > DEPTH_MAX {
        return Err(DataError::TooDeep);
    }
    out.push(if is_map { b'{' } else { b'[' });
    let owed = if is_map { len.saturating_mul(2) } else { len };
    levels.push(Level { owed, is_map, is_single: is_map && len == 1, is_first: true });
    Ok(())
}

/// Appends a text in quotes, `prefix` before it. Only what must be is escaped: everything else is as readable as it was.
fn write_text(out: &mut Vec<u8>, prefix: &str, text: &str) {
    out.push(b'"');
    out.extend_from_slice(prefix.as_bytes());
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, behind)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
