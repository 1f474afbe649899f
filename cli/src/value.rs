//! Values between JSON and the protocol's MessagePack, both ways, without a tree in between: the order of keys stays.
//!
//! JSON to data: integers from −2^63 to 2^64 − 1 stay exact, every other number is a float of 64 bits. Data to JSON: a float
//! that JSON cannot express (NaN, infinities) becomes `null`. Byte strings are `{"$bin":"…"}` in base64 both ways, and a map whose
//! only key begins with `$` has one more `$` there, as in text mode ([T-13]), so that no map is taken for bytes. Text mode
//! refuses any other single key with one `$`; here it is a key like others, because much JSON has such keys and no byte strings.

use std::fmt;
use std::io::Write;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use stokehold_protocol::text::{BIN_KEY, base64};
use stokehold_protocol::wire::{self, Marker, Reader};
use stokehold_protocol::{DataError, check};

/// Appends the JSON text of one encoded value. On an error `out` is as before: what a worker sent is no valid data.
pub(crate) fn write_json(data: &[u8], out: &mut Vec<u8>) -> Result<(), DataError> {
    // Also bounds the depth of what follows.
    check(data)?;
    let start = out.len();
    let written = write_value(&mut Reader::new(data), out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Appends a JSON string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing text into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends one value as somebody wants it who asked for raw output: a text or a byte string as it is, anything else as JSON.
pub(crate) fn write_raw(data: &[u8], out: &mut Vec<u8>) -> Result<(), DataError> {
    let mut reader = Reader::new(data);
    match reader.marker()? {
        Marker::Str(text) if reader.rest().is_empty() => out.extend_from_slice(text.as_bytes()),
        Marker::Bin(bytes) if reader.rest().is_empty() => out.extend_from_slice(bytes),
        _ => write_json(data, out)?,
    }
    Ok(())
}

/// Appends the data that one JSON text stands for. On an error, which says what is wrong and where, `out` is as before.
pub(crate) fn encode_json(json: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = Encode(out).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    let encoded = match read {
        Ok(()) => check(out.get(start..).unwrap_or_default()).map_err(|error| error.to_string()),
        Err(error) => Err(in_column(&error)),
    };
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

/// The error without its line, which is always the first.
fn in_column(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

fn write_value(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), DataError> {
    match reader.marker()? {
        Marker::Array(len) => {
            out.push(b'[');
            for index in 0..len {
                if index > 0 {
                    out.push(b',');
                }
                write_value(reader, out)?;
            }
            out.push(b']');
        }
        Marker::Map(len) => {
            out.push(b'{');
            for index in 0..len {
                if index > 0 {
                    out.push(b',');
                }
                match reader.marker()? {
                    Marker::Str(key) if len == 1 && key.starts_with('$') => {
                        write_text(&format!("${key}"), out)
                    }
                    Marker::Str(key) => write_text(key, out),
                    _ => return Err(DataError::KeyNotText),
                }
                out.push(b':');
                write_value(reader, out)?;
            }
            out.push(b'}');
        }
        Marker::Bin(bytes) => {
            out.extend_from_slice(b"{\"$bin\":\"");
            base64::encode(bytes, out);
            out.extend_from_slice(b"\"}");
        }
        Marker::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        // serde_json writes `null` for what is not finite.
        Marker::Float(value) => {
            let _ = serde_json::to_writer(out, &value);
        }
        Marker::Negative(value) => {
            let _ = write!(out, "{value}");
        }
        Marker::Nil => out.extend_from_slice(b"null"),
        Marker::Str(text) => write_text(text, out),
        Marker::Unsigned(value) => {
            let _ = write!(out, "{value}");
        }
    }
    Ok(())
}

/// Writes what it is given to the end of a buffer.
struct Encode<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Encode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Encode<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        wire::write_bool(self.0, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        write_int(self.0, value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        wire::write_uint(self.0, value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        wire::write_float(self.0, value);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        wire::write_str(self.0, value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        wire::write_nil(self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let start = self.0.len();
        let mut count: u32 = 0;
        while items.next_element_seed(Encode(self.0))?.is_some() {
            count = count.checked_add(1).ok_or_else(|| A::Error::custom("too many values"))?;
        }
        insert_head(self.0, start, |head| wire::write_array_len(head, count));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let start = self.0.len();
        let mut count: u32 = 0;
        while entries.next_key_seed(Encode(self.0))?.is_some() {
            entries.next_value_seed(Encode(self.0))?;
            count = count.checked_add(1).ok_or_else(|| A::Error::custom("too many keys"))?;
        }
        if count == 1 && begins_marked(self.0.get(start..).unwrap_or_default()) {
            return marked(self.0, start).map_err(A::Error::custom);
        }
        insert_head(self.0, start, |head| wire::write_map_len(head, count));
        Ok(())
    }
}

/// Whether the text in front begins with `$`.
fn begins_marked(pair: &[u8]) -> bool {
    matches!(Reader::new(pair).marker(), Ok(Marker::Str(key)) if key.starts_with('$'))
}

/// The pair of a map with one key, which begins with `$`, stands behind `start`: makes it the bytes or the map that it means.
fn marked(out: &mut Vec<u8>, start: usize) -> Result<(), &'static str> {
    let pair = out.split_off(start);
    let mut reader = Reader::new(&pair);
    let Ok(Marker::Str(key)) = reader.marker() else { return Err("a key that is no text") };
    if key == BIN_KEY {
        let text = match reader.marker() {
            Ok(Marker::Str(text)) => base64::decode(text.as_bytes()),
            _ => None,
        };
        wire::write_bin(out, &text.ok_or("the value of \"$bin\" is no base64")?);
        return Ok(());
    }
    wire::write_map_len(out, 1);
    let plain = key.strip_prefix('$').filter(|rest| rest.starts_with('$'));
    wire::write_str(out, plain.unwrap_or(key));
    out.extend_from_slice(reader.rest());
    Ok(())
}

/// JSON tells the length of a list by its end, MessagePack at its start: the items are moved aside for it. They are short
/// nearly always, and the depth is bounded, so that this costs less than a tree would.
fn insert_head(out: &mut Vec<u8>, start: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let mut head = Vec::with_capacity(5);
    write(&mut head);
    out.splice(start..start, head);
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(value) = u64::try_from(value) {
        return wire::write_uint(out, value);
    }
    if let Ok(value) = i8::try_from(value) {
        // −32 to −1 are their own marker.
        if value < -32 {
            out.push(0xd0);
        }
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xd1);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xd2);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
