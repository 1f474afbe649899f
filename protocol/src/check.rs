//! The check of `data`: one value, nothing behind it, at most 64 levels deep, texts valid UTF-8, map keys texts and unique,
//! no extension types (SPEC 5). Iterative; memory grows with the keys seen, never with a count that was declared.

use std::cmp::Ordering;

use crate::error::DataError;
use crate::limits::DEPTH_MAX;
use crate::wire::{Marker, Reader, fixed_len};

/// Checks that `data` is exactly one value of the data model.
///
/// The engine never calls this for payloads it only carries; SDKs and typed decoding do. Cost: a few ns for a byte string of
/// any size, otherwise linear in the number of values.
#[inline]
pub fn check(data: &[u8]) -> Result<(), DataError> {
    // A number, a truth value or nil is known by its first byte.
    match data.first().and_then(|mark| fixed_len(*mark)).map(|len| data.len().cmp(&len)) {
        Some(Ordering::Equal) => Ok(()),
        Some(Ordering::Less) => Err(DataError::Truncated),
        Some(Ordering::Greater) => Err(DataError::TrailingBytes),
        None if matches!(data, [0xc4..=0xc6, ..]) => check_bytes(data),
        None => check_long(data),
    }
}

/// The same for a byte string, which is known by its length.
fn check_bytes(data: &[u8]) -> Result<(), DataError> {
    let mut reader = Reader::new(data);
    reader.marker()?;
    if reader.rest().is_empty() { Ok(()) } else { Err(DataError::TrailingBytes) }
}

/// The same for all other values.
fn check_long(data: &[u8]) -> Result<(), DataError> {
    let mut reader = Reader::new(data);
    let mut levels: Vec<Level> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    loop {
        let at_key = levels.last().is_some_and(Level::at_key);
        let marker = reader.marker()?;
        if at_key {
            let Marker::Str(key) = marker else { return Err(DataError::KeyNotText) };
            keys.push(key);
        }
        if let Some(level) = levels.last_mut() {
            level.owed = level.owed.saturating_sub(1);
        }
        match marker {
            Marker::Array(len) => push(&mut levels, Level { owed: u64::from(len), keys_from: None })?,
            Marker::Map(len) => {
                push(
                    &mut levels,
                    Level { owed: u64::from(len).saturating_mul(2), keys_from: Some(keys.len()) },
                )?;
            }
            _ => {}
        }
        while let Some(level) = levels.pop_if(|level| level.owed == 0) {
            if let Some(from) = level.keys_from {
                unique(keys.get_mut(from..).unwrap_or_default())?;
                keys.truncate(from);
            }
        }
        if levels.is_empty() {
            return if reader.rest().is_empty() { Ok(()) } else { Err(DataError::TrailingBytes) };
        }
    }
}

/// An array or map whose values are still owed.
struct Level {
    owed: u64,
    /// For a map: where its keys begin in the list of keys.
    keys_from: Option<usize>,
}

impl Level {
    /// Keys stand where an even number of values is owed.
    fn at_key(&self) -> bool {
        self.keys_from.is_some() && self.owed.is_multiple_of(2)
    }
}

fn push(levels: &mut Vec<Level>, level: Level) -> Result<(), DataError> {
    if levels.len() == DEPTH_MAX {
        return Err(DataError::TooDeep);
    }
    levels.push(level);
    Ok(())
}

fn unique(keys: &mut [&str]) -> Result<(), DataError> {
    keys.sort_unstable();
    if keys.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(DataError::DuplicateKey);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
