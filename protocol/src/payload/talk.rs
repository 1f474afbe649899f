//! What a child says about a task beside its results: PROGRESS and LOG. Read leniently: nothing in them ends a connection.

use super::{cut, lenient_text, read_map, text};
use crate::error::DataError;
use crate::wire::{self, Marker, Reader};

/// The data of PROGRESS: a number, or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// How much is done.
    pub done: Option<f64>,
    /// Of how much.
    pub total: Option<f64>,
    /// What it is at.
    pub note: Option<String>,
}

impl Progress {
    /// Appends it as one value: nil when it says nothing.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let present = [self.done.is_some(), self.total.is_some(), self.note.is_some()]
            .iter()
            .filter(|there| **there)
            .count();
        if present == 0 {
            return wire::write_nil(out);
        }
        wire::write_map_len(out, u32::try_from(present).unwrap_or(0));
        for (key, number) in [("done", self.done), ("total", self.total)] {
            if let Some(number) = number {
                wire::write_str(out, key);
                wire::write_float(out, number);
            }
        }
        if let Some(note) = &self.note {
            wire::write_str(out, "note");
            wire::write_str(out, cut(note));
        }
    }

    /// Reads what can be read of it.
    pub fn decode(data: &[u8]) -> Self {
        if let Ok(done) = number(&mut Reader::new(data)) {
            return Self { done: Some(done), ..Self::default() };
        }
        let mut progress = Self::default();
        let _ = read_map("PROGRESS", data, |key, reader| {
            let mut value = *reader;
            reader.skip()?;
            match key {
                "done" => progress.done = number(&mut value).ok(),
                "total" => progress.total = number(&mut value).ok(),
                "note" => progress.note = Some(lenient_text(&mut value)),
                _ => {}
            }
            Ok(())
        });
        progress
    }
}

/// The data of LOG: a map, or just a text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogLine {
    /// How important: `trace`, `debug`, `info`, `warn`, `error`, or another word of the child's.
    pub level: String,
    /// For people.
    pub message: String,
}

impl LogLine {
    /// Appends it as one value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        wire::write_map_len(out, 2);
        wire::write_str(out, "level");
        wire::write_str(out, cut(&self.level));
        wire::write_str(out, "msg");
        wire::write_str(out, cut(&self.message));
    }

    /// Reads what can be read of it; without a level it is `info`.
    pub fn decode(data: &[u8]) -> Self {
        let mut line = Self { level: "info".to_owned(), message: String::new() };
        let read = read_map("LOG", data, |key, reader| {
            let mut value = *reader;
            reader.skip()?;
            match key {
                "level" => line.level = text(&mut value).unwrap_or_else(|_| "info".to_owned()),
                "msg" => line.message = lenient_text(&mut value),
                _ => {}
            }
            Ok(())
        });
        if read.is_err() && line.message.is_empty() {
            line.message = lenient_text(&mut Reader::new(data));
        }
        line
    }
}

/// Any number, as a float.
#[expect(clippy::cast_precision_loss, reason = "progress is for people")]
fn number(reader: &mut Reader<'_>) -> Result<f64, DataError> {
    match reader.marker()? {
        Marker::Unsigned(value) => Ok(value as f64),
        Marker::Negative(value) => Ok(value as f64),
        Marker::Float(value) => Ok(value),
        _ => Err(DataError::Truncated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let progress = Progress { done: Some(3.0), total: Some(4.5), note: Some("half".to_owned()) };
        for progress in [progress, Progress::default(), Progress { done: Some(0.0), ..Progress::default() }] {
            let mut bytes = Vec::new();
            progress.encode(&mut bytes);
            assert_eq!(Progress::decode(&bytes), progress);
        }
        let line = LogLine { level: "warn".to_owned(), message: "hm".to_owned() };
        let mut bytes = Vec::new();
        line.encode(&mut bytes);
        assert_eq!(LogLine::decode(&bytes), line);
    }

    #[test]
    fn anything_else_is_read_as_far_as_it_goes() {
        assert_eq!(Progress::decode(&[7]).done, Some(7.0));
        assert_eq!(Progress::decode(&[0xff]).done, Some(-1.0));
        assert_eq!(Progress::decode(b"\xa3abc"), Progress::default());
        assert_eq!(Progress::decode(&[0xc1]), Progress::default());
        assert_eq!(Progress::decode(b"\x82\xa4done\xa1x\xa5total\x02").total, Some(2.0));
        assert_eq!(
            LogLine::decode(b"\xa3abc"),
            LogLine { level: "info".to_owned(), message: "abc".to_owned() }
        );
        assert_eq!(LogLine::decode(&[]).message, "");
        assert_eq!(LogLine::decode(b"\x81\xa5level\x07").level, "info");
    }
}
