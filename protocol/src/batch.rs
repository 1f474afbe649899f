//! BATCH and its answer: many small inputs of one request in one frame, and one result for each of them, in order (SPEC 6.7).
//!
//! Inputs and results are handed out where they lie, front to back, each when its turn comes: a long list is walked once, and
//! nothing is allocated for it. Values are not judged here; only the list around them is.

use crate::error::DataError;
use crate::limits::BATCH_ITEMS_MAX;
use crate::payload::Failure;
use crate::wire::{self, Marker, Reader, value_len};

/// The two bytes in front of the value of a good result, as they are written: an array of two, true.
const GOOD: [u8; 2] = [0x92, 0xc3];

/// Appends the data of BATCH up to its inputs; `items` values must follow.
pub fn write_batch_head(out: &mut Vec<u8>, request: &str, items: u32) {
    wire::write_map_len(out, 2);
    wire::write_str(out, "req");
    wire::write_str(out, request);
    wire::write_str(out, "items");
    wire::write_array_len(out, items);
}

/// The data of BATCH, as a child reads it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What is asked, of each input by itself.
    pub request: &'a str,
    /// The inputs.
    pub items: Values<'a>,
}

impl<'a> Batch<'a> {
    /// Reads it up to its inputs, whose number is from 1 to [`BATCH_ITEMS_MAX`]. That they are there, and nothing behind them, is
    /// found out when they are read.
    pub fn decode(data: &'a [u8]) -> Result<Self, DataError> {
        let mut reader = Reader::new(data);
        let Marker::Map(pairs) = reader.marker()? else { return Err(DataError::WrongType) };
        let (mut request, mut items) = (None, None);
        for place in 1..=pairs {
            let Marker::Str(key) = reader.marker()? else { return Err(DataError::KeyNotText) };
            match key {
                "req" if request.is_none() => {
                    let Marker::Str(name) = reader.marker()? else { return Err(DataError::WrongType) };
                    request = Some(name);
                }
                "items" if items.is_none() => {
                    let Marker::Array(count) = reader.marker()? else { return Err(DataError::WrongType) };
                    if !(1..=BATCH_ITEMS_MAX).contains(&count) {
                        return Err(DataError::WrongCount);
                    }
                    // Usually the last key: then what follows is not walked twice.
                    let rest = if place == pairs { reader.rest() } else { reader.take_values(count)? };
                    items = Some(Values { left: count, rest });
                }
                "req" | "items" => return Err(DataError::DuplicateKey),
                _ => reader.skip()?,
            }
        }
        match (request, items) {
            (Some(request), Some(items)) => Ok(Self { request, items }),
            _ => Err(DataError::MissingKey),
        }
    }
}

/// A number of values one after the other, and nothing behind them. Each is complete; nothing else is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Values<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    /// So many values, which `bytes` should consist of.
    pub fn new(count: u32, bytes: &'a [u8]) -> Self {
        Self { left: count, rest: bytes }
    }

    /// How many have not been read.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The next value; `None` behind the last. After an error there are no more.
    #[inline]
    pub fn next_value(&mut self) -> Result<Option<&'a [u8]>, DataError> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(DataError::TrailingBytes) };
        }
        let split = value_len(self.rest).map(|len| self.rest.split_at_checked(len));
        let Ok(Some((value, rest))) = split else {
            self.left = 0;
            self.rest = &[];
            return Err(split.err().unwrap_or(DataError::Truncated));
        };
        self.left = self.left.saturating_sub(1);
        self.rest = rest;
        Ok(Some(value))
    }
}

/// A list of results that a child is writing: the data of a batch's FINISHED or ITEM.
#[derive(Debug)]
#[must_use = "a list that is not finished has a wrong length"]
pub struct ResultList {
    start: usize,
    width: usize,
    count: u32,
}

impl ResultList {
    /// Begins one of at most `most` results. Its length is written by [`finish`](Self::finish).
    pub fn begin(most: u32, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        wire::write_array_len(out, most.min(BATCH_ITEMS_MAX));
        Self { start, width: out.len().saturating_sub(start), count: 0 }
    }

    /// How many results are in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Appends a good result whose value `write` appends, unless that fails: then nothing is appended.
    #[inline]
    pub fn good<E>(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        out.extend_from_slice(&GOOD);
        write(out).inspect_err(|_| out.truncate(start))?;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Appends a bad one.
    pub fn bad(&mut self, out: &mut Vec<u8>, failure: &Failure) {
        wire::write_array_len(out, 2);
        wire::write_bool(out, false);
        failure.encode(out);
        self.count = self.count.saturating_add(1);
    }

    /// The results in it, without what stands in front of them.
    pub fn results<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.start.saturating_add(self.width)..).unwrap_or_default()
    }

    /// Writes how many there are.
    pub fn finish(self, out: &mut [u8]) {
        let [mark, high, low] = match self.width {
            // At most 15 were announced.
            1 => [0x90 | u8::try_from(self.count).unwrap_or(15), 0, 0],
            _ => {
                let [high, low] = u16::try_from(self.count).unwrap_or(u16::MAX).to_be_bytes();
                [0xdc, high, low]
            }
        };
        let header = out.get_mut(self.start..).and_then(|rest| rest.get_mut(..self.width));
        for (place, byte) in header.into_iter().flatten().zip([mark, high, low]) {
            *place = byte;
        }
    }
}

/// Appends a list of results that are written already, the last `count` of a [`ResultList`].
pub fn write_result_list(out: &mut Vec<u8>, count: u32, results: &[u8]) {
    wire::write_array_len(out, count);
    out.extend_from_slice(results);
}

/// A list of results, as a parent reads it.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    left: u32,
    rest: &'a [u8],
}

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BatchResult<'a> {
    /// The input was done: its value, unchecked.
    Good(&'a [u8]),
    /// It failed: the data of a [`Failure`].
    Bad(&'a [u8]),
}

impl<'a> Results<'a> {
    /// Reads how many there are. That they are there, and nothing behind them, is found out when they are read.
    pub fn decode(data: &'a [u8]) -> Result<Self, DataError> {
        let mut reader = Reader::new(data);
        let Marker::Array(left) = reader.marker()? else { return Err(DataError::WrongType) };
        Ok(Self { left, rest: reader.rest() })
    }

    /// How many have not been read.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Reads good results as far as they go, and gives how many there are with their bytes, for [`GoodResults`].
    pub fn next_good(&mut self) -> Result<(u32, &'a [u8]), DataError> {
        let (mut count, mut end) = (0_u32, 0_usize);
        while count < self.left
            && let Some(value) = self.rest.get(end..).and_then(|rest| rest.strip_prefix(&GOOD))
        {
            end = end.saturating_add(GOOD.len()).saturating_add(value_len(value)?);
            count = count.saturating_add(1);
        }
        let (good, rest) = self.rest.split_at_checked(end).ok_or(DataError::Truncated)?;
        self.left = self.left.saturating_sub(count);
        self.rest = rest;
        Ok((count, good))
    }

    /// The next result; `None` behind the last.
    pub fn next_result(&mut self) -> Result<Option<BatchResult<'a>>, DataError> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(DataError::TrailingBytes) };
        }
        let mut reader = Reader::new(self.rest);
        let Marker::Array(2) = reader.marker()? else { return Err(DataError::WrongType) };
        let Marker::Bool(good) = reader.marker()? else { return Err(DataError::WrongType) };
        let value = reader.take_values(1)?;
        self.rest = reader.rest();
        self.left = self.left.saturating_sub(1);
        Ok(Some(if good { BatchResult::Good(value) } else { BatchResult::Bad(value) }))
    }
}

/// The values of good results that [`Results::next_good`] found, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct GoodResults<'a>(&'a [u8]);

impl<'a> GoodResults<'a> {
    /// Of the bytes that [`Results::next_good`] gave, or what is left of them behind some.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value of the next one, and how many bytes it takes with what stands in front of it.
    #[inline]
    pub fn first(&self) -> Option<(&'a [u8], usize)> {
        let value = self.0.strip_prefix(&GOOD)?;
        let value = value.get(..value_len(value).ok()?)?;
        Some((value, value.len().saturating_add(GOOD.len())))
    }
}

impl<'a> Iterator for GoodResults<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (value, len) = self.first()?;
        self.0 = self.0.get(len..)?;
        Some(value)
    }
}

#[cfg(test)]
mod tests;
