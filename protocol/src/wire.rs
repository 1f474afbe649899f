//! The MessagePack markers this protocol needs, read and written over byte slices.
//!
//! Reading is bounds-checked, iterative, and never allocates from a count that the peer declared. Any legal width is accepted;
//! the shortest one is written. Source: the MessagePack specification, "Formats".

use crate::error::DataError;

/// Reads MessagePack values from a slice, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// A value's marker with its inline length: what follows is known, nothing behind it has been read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Marker<'a> {
    /// An array of that many values.
    Array(u32),
    /// A byte string, complete.
    Bin(&'a [u8]),
    /// A truth value.
    Bool(bool),
    /// A float of 64 bits, or one of 32 bits widened.
    Float(f64),
    /// A map of that many pairs.
    Map(u32),
    /// An integer below zero.
    Negative(i64),
    /// No value.
    Nil,
    /// A text, complete; valid UTF-8.
    Str(&'a str),
    /// An integer from zero on.
    Unsigned(u64),
}

impl<'a> Reader<'a> {
    /// A reader at the front of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads one marker with its inline value; arrays and maps give their count only.
    #[inline]
    pub fn marker(&mut self) -> Result<Marker<'a>, DataError> {
        let mark = self.byte()?;
        Ok(match mark {
            0x00..=0x7f => Marker::Unsigned(u64::from(mark)),
            0x80..=0x8f => Marker::Map(u32::from(mark & 0x0f)),
            0x90..=0x9f => Marker::Array(u32::from(mark & 0x0f)),
            0xa0..=0xbf => self.str(u32::from(mark & 0x1f))?,
            0xc0 => Marker::Nil,
            0xc2 => Marker::Bool(false),
            0xc3 => Marker::Bool(true),
            0xc4 => self.bin(1)?,
            0xc5 => self.bin(2)?,
            0xc6 => self.bin(4)?,
            0xca => Marker::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Marker::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Marker::Unsigned(u64::from(self.byte()?)),
            0xcd => Marker::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Marker::Unsigned(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Marker::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd9 => {
                let len = u32::from(self.byte()?);
                self.str(len)?
            }
            0xda => {
                let len = u32::from(u16::from_be_bytes(self.array()?));
                self.str(len)?
            }
            0xdb => {
                let len = u32::from_be_bytes(self.array()?);
                self.str(len)?
            }
            0xdc => Marker::Array(u32::from(u16::from_be_bytes(self.array()?))),
            0xdd => Marker::Array(u32::from_be_bytes(self.array()?)),
            0xde => Marker::Map(u32::from(u16::from_be_bytes(self.array()?))),
            0xdf => Marker::Map(u32::from_be_bytes(self.array()?)),
            0xe0..=0xff => Marker::Negative(i64::from(i8::from_be_bytes([mark]))),
            0xc1 => return Err(DataError::ReservedByte),
            0xc7..=0xc9 | 0xd4..=0xd8 => return Err(DataError::Extension),
        })
    }

    /// Steps over one whole value, however deep, without recursion: it only counts how many values are still owed.
    pub fn skip(&mut self) -> Result<(), DataError> {
        let mut owed: u64 = 1;
        while owed > 0 {
            owed = owed.saturating_sub(1);
            owed = owed.saturating_add(match self.marker()? {
                Marker::Array(len) => u64::from(len),
                Marker::Map(len) => u64::from(len).saturating_mul(2),
                _ => 0,
            });
        }
        Ok(())
    }

    /// Takes so many whole values. Their texts are not looked into.
    pub fn take_values(&mut self, count: u32) -> Result<&'a [u8], DataError> {
        let len = values_len(self.rest, u64::from(count))?;
        let (values, rest) = self.rest.split_at_checked(len).ok_or(DataError::Truncated)?;
        self.rest = rest;
        Ok(values)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, DataError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DataError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(DataError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn take(&mut self, len: u32) -> Result<&'a [u8], DataError> {
        let len = usize::try_from(len).map_err(|_| DataError::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DataError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn str(&mut self, len: u32) -> Result<Marker<'a>, DataError> {
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map(Marker::Str).map_err(|_| DataError::InvalidUtf8)
    }

    fn bin(&mut self, width: u8) -> Result<Marker<'a>, DataError> {
        let len = match width {
            1 => u32::from(self.byte()?),
            2 => u32::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?),
        };
        self.take(len).map(Marker::Bin)
    }
}

/// How many bytes a value with that mark takes, the mark included, if the mark alone says so; else 0.
static FIXED_LENS: [u8; 256] = fixed_lens();

const fn fixed_lens() -> [u8; 256] {
    let mut lens = [0; 256];
    let mut mark = 0;
    while mark < lens.len() {
        #[expect(clippy::cast_possible_truncation, reason = "a mark is one byte")]
        let len = match mark as u8 {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 1,
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            _ => 0,
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "the loop ends with the array; in a constant it is a compile error"
        )]
        {
            lens[mark] = len;
        }
        mark = mark.saturating_add(1);
    }
    lens
}

/// How many bytes a value with that mark takes, the mark included, if the mark alone says so.
#[inline]
pub(crate) fn fixed_len(mark: u8) -> Option<usize> {
    FIXED_LENS.get(usize::from(mark)).map(|len| usize::from(*len)).filter(|len| *len > 0)
}

/// How many bytes the value at the front of `bytes` takes. Its texts are not looked into, and it may be cut off: then its length
/// is an error or reaches beyond `bytes`.
#[inline]
pub fn value_len(bytes: &[u8]) -> Result<usize, DataError> {
    // Most values are no lists: their length stands in front.
    if let Some(len) = bytes.first().and_then(|mark| fixed_len(*mark)) {
        return Ok(len);
    }
    match *bytes {
        [mark @ 0xa0..=0xbf, ..] => Ok(usize::from(mark & 0x1f).saturating_add(1)),
        [0xc4 | 0xd9, len, ..] => Ok(usize::from(len).saturating_add(2)),
        [0xc5 | 0xda, high, low, ..] => Ok(usize::from(u16::from_be_bytes([high, low])).saturating_add(3)),
        _ => values_len(bytes, 1),
    }
}

/// How many bytes `owed` values at the front of `bytes` take: counts, whatever the depth, how many values are still owed.
fn values_len(bytes: &[u8], mut owed: u64) -> Result<usize, DataError> {
    let mut end = 0_usize;
    while owed > 0 {
        let rest = bytes.get(end..).ok_or(DataError::Truncated)?;
        let (&mark, rest) = rest.split_first().ok_or(DataError::Truncated)?;
        owed = owed.saturating_sub(1);
        // Bytes behind the mark, and values that belong to it.
        let (len, values) = match mark {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, u64::from(mark & 0x0f).saturating_mul(2)),
            0x90..=0x9f => (0, u64::from(mark & 0x0f)),
            0xa0..=0xbf => (usize::from(mark & 0x1f), 0),
            0xc4 | 0xd9 => (declared::<1>(rest)?.saturating_add(1), 0),
            0xc5 | 0xda => (declared::<2>(rest)?.saturating_add(2), 0),
            0xc6 | 0xdb => (declared::<4>(rest)?.saturating_add(4), 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xdc => (2, declared::<2>(rest)? as u64),
            0xdd => (4, declared::<4>(rest)? as u64),
            0xde => (2, (declared::<2>(rest)? as u64).saturating_mul(2)),
            0xdf => (4, (declared::<4>(rest)? as u64).saturating_mul(2)),
            0xc1 => return Err(DataError::ReservedByte),
            0xc7..=0xc9 | 0xd4..=0xd8 => return Err(DataError::Extension),
        };
        end = end.saturating_add(1).saturating_add(len);
        owed = owed.saturating_add(values);
    }
    Ok(end)
}

/// A length or count of `N` bytes.
fn declared<const N: usize>(bytes: &[u8]) -> Result<usize, DataError> {
    let (bytes, _) = bytes.split_first_chunk::<N>().ok_or(DataError::Truncated)?;
    Ok(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

fn signed(value: i64) -> Marker<'static> {
    u64::try_from(value).map_or(Marker::Negative(value), Marker::Unsigned)
}

/// Writes nil.
pub fn write_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Writes a truth value.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

/// Writes an integer from zero on in its shortest form.
#[expect(clippy::cast_possible_truncation, reason = "each arm is guarded by its range")]
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Writes an integer in its shortest form.
#[expect(clippy::cast_possible_truncation, reason = "each arm is guarded by its range")]
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    match value {
        0.. => write_uint(out, value.unsigned_abs()),
        -32..=-1 => out.extend_from_slice(&(value as i8).to_be_bytes()),
        -0x80..=-33 => {
            out.push(0xd0);
            out.extend_from_slice(&(value as i8).to_be_bytes());
        }
        -0x8000..=-0x81 => {
            out.push(0xd1);
            out.extend_from_slice(&(value as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Writes a float of 64 bits.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a text. One of 4 GiB or more gets a length that is not its own: no frame can hold it, and its frame's length is
/// compared with the limit before it is sent.
#[expect(clippy::cast_possible_truncation, reason = "each arm is guarded by its range")]
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Writes a byte string. For 4 GiB or more see [`write_str`].
#[expect(clippy::cast_possible_truncation, reason = "each arm is guarded by its range")]
pub fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..=0xff => out.extend_from_slice(&[0xc4, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xc6);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Writes the mark of an array; `len` values must follow.
#[expect(clippy::cast_possible_truncation, reason = "each arm is guarded by its range")]
pub fn write_array_len(out: &mut Vec<u8>, len: u32) {
    match len {
        0..=15 => out.push(0x90 | len as u8),
        16..=0xffff => {
            out.push(0xdc);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Writes the mark of a map; `len` pairs must follow, their keys texts.
#[expect(clippy::cast_possible_truncation, reason = "each arm is guarded by its range")]
pub fn write_map_len(out: &mut Vec<u8>, len: u32) {
    match len {
        0..=15 => out.push(0x80 | len as u8),
        16..=0xffff => {
            out.push(0xde);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdf);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
