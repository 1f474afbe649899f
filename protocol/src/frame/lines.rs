//! Text mode: where a line ends, what becomes of one that is too large, and whether a stream is lines at all. What a line says is
//! for `text` to read.

use super::{FrameEvent, Splitter, State};
use crate::error::{FrameError, Quote};
use crate::limits::{BLANK_LINES_MAX, FRAME_LEN_CEILING, QUOTE_BYTES_MAX};
use crate::text::{LineError, read_head, read_line, split_id};

/// A body buffer that grew beyond this is given back with the next line.
const BODY_BYTES_KEPT: usize = 1024 * 1024;

/// Bytes of a line that is too large in which its head must be: the longest head there is, each byte of it escaped, and its id.
const LINE_HEAD_BYTES: usize = 2048;

/// Spaces before the first request that are waited through.
const SPACES_MAX: usize = 64;

/// The line at hand.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// So many bytes of it have been looked through for its end.
    scanned: usize,
    /// The body that was lent last, or the head of a line that is being skipped.
    body: Vec<u8>,
    /// What came of the head of a line that is being skipped.
    skipped: Option<Result<u32, LineError>>,
    /// The beginning of the line that was given out last, or is being skipped.
    quote: Option<Quote>,
    /// What was thrown away last of a line ended with a CR.
    has_cr: bool,
    /// So many lines in a row had nothing in them.
    blank: u32,
}

/// What a stream is, by its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Recognised {
    Lines,
    /// Frames, or nothing.
    Other,
    NotYet,
}

/// What begins like that is lines if a child's first message does: `["HELLO"` or `["FAILED"`, perhaps with the id 0 in front. A
/// frame has another first byte, and what is printed by chance another beginning.
pub(super) fn recognise(bytes: &[u8]) -> Recognised {
    let array = match bytes {
        [] | [b'0'] | [b'0', b' '] => return Recognised::NotYet,
        [b'0', b' ', array @ ..] => array,
        array => array,
    };
    let Some(fields) = array.strip_prefix(b"[") else { return Recognised::Other };
    let spaces = fields.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let request = fields.get(spaces..).unwrap_or_default();
    let names: [&[u8]; 2] = [b"\"HELLO\"", b"\"FAILED\""];
    if spaces > SPACES_MAX {
        Recognised::Other
    } else if names.iter().any(|name| request.starts_with(name)) {
        Recognised::Lines
    } else if names.iter().any(|name| name.starts_with(request)) {
        Recognised::NotYet
    } else {
        Recognised::Other
    }
}

/// No line is that long (SPEC T-4).
fn is_endless(len: u64) -> bool {
    len > u64::from(FRAME_LEN_CEILING)
}

/// A line without its end.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl Splitter {
    /// What the next line gives.
    pub(super) fn next_line(&mut self) -> Result<Option<FrameEvent<'_>>, FrameError> {
        while let Some(end) = self.line_end() {
            let from = self.start;
            self.start = from.saturating_add(end).saturating_add(1).min(self.end);
            self.line.scanned = 0;
            let until = from.saturating_add(end);
            if let State::SkippingLine(thrown) = self.state {
                self.note_cr(from, until);
                let len = thrown.saturating_add(end as u64);
                return self.skipped_line(len.saturating_sub(u64::from(self.line.has_cr)));
            }
            let line = without_cr(self.buffer.get(from..until).unwrap_or_default());
            if line.trim_ascii().is_empty() {
                self.line.blank = self.line.blank.saturating_add(1);
                if self.line.blank > BLANK_LINES_MAX {
                    self.line.quote = Some(Quote::new(b"\n"));
                    return self.broken();
                }
                continue;
            }
            self.line.blank = 0;
            self.line.quote = Some(Quote::new(line));
            if line.len() > self.max_frame as usize {
                let len = line.len() as u64;
                self.begin_skipping(from, until);
                return self.skipped_line(len);
            }
            self.line.body.clear();
            self.line.body.shrink_to(BODY_BYTES_KEPT);
            let read = read_line(line, &mut self.line.body);
            return self.line_event(read);
        }
        // One byte more may be a CR.
        let begun = self.end.saturating_sub(self.start);
        if let State::SkippingLine(thrown) = self.state {
            self.note_cr(self.start, self.end);
            let thrown = thrown.saturating_add(begun as u64);
            self.state = State::SkippingLine(thrown);
            self.start = self.end;
            self.line.scanned = 0;
            if is_endless(thrown) {
                return self.broken();
            }
        } else if begun > (self.max_frame as usize).saturating_add(1) {
            self.begin_skipping(self.start, self.end);
            self.note_cr(self.start, self.end);
            self.state = State::SkippingLine(begun as u64);
            self.start = self.end;
            self.line.scanned = 0;
            if self.line.skipped == Some(Err(LineError::Stray)) {
                return self.broken();
            }
        } else if begun >= QUOTE_BYTES_MAX {
            // What no line begins with is told at once: its end may never come. So much of it is quoted in any case.
            let arrived = self.arrived();
            if split_id(arrived).is_err() && !arrived.trim_ascii().is_empty() {
                self.line.quote = Some(Quote::new(arrived));
                return self.broken();
            }
        }
        Ok(None)
    }

    /// Where the line at hand ends, if that has arrived.
    fn line_end(&mut self) -> Option<usize> {
        let scanned = self.line.scanned;
        let arrived = self.arrived();
        let end = arrived.get(scanned..)?.iter().position(|byte| *byte == b'\n');
        let looked = arrived.len();
        match end {
            Some(end) => Some(scanned.saturating_add(end)),
            None => {
                self.line.scanned = looked;
                None
            }
        }
    }

    /// Notes how the part between these places ends of a line that is thrown away.
    fn note_cr(&mut self, from: usize, until: usize) {
        if let Some(last) = self.buffer.get(from..until).and_then(<[u8]>::last) {
            self.line.has_cr = *last == b'\r';
        }
    }

    /// Keeps what is to be told of a line that is too large and lies, as far as it has arrived, between these places.
    fn begin_skipping(&mut self, from: usize, until: usize) {
        let line = self.buffer.get(from..until).unwrap_or_default();
        let beginning = line.get(..LINE_HEAD_BYTES).unwrap_or(line);
        self.line.body.clear();
        self.line.body.shrink_to(BODY_BYTES_KEPT);
        self.line.skipped = Some(read_head(beginning, &mut self.line.body));
        self.line.quote = Some(Quote::new(line));
    }

    /// The line that is quoted is none: the stream is no lines any more.
    fn broken(&mut self) -> Result<Option<FrameEvent<'_>>, FrameError> {
        let quote = self.line.quote.unwrap_or(Quote::new(&[]));
        self.state = State::Broken(quote);
        Err(FrameError::Desync { quote })
    }

    /// A line of so many bytes was skipped.
    fn skipped_line(&mut self, len: u64) -> Result<Option<FrameEvent<'_>>, FrameError> {
        if is_endless(len) {
            return self.broken();
        }
        self.state = State::InLines;
        match self.line.skipped.take() {
            Some(Ok(id)) => {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                Ok(Some(FrameEvent::TooLarge { id, len, head: &self.line.body }))
            }
            Some(error) => self.line_event(error),
            None => Ok(None),
        }
    }

    /// What a line gives; its body is there.
    fn line_event(&mut self, read: Result<u32, LineError>) -> Result<Option<FrameEvent<'_>>, FrameError> {
        let quote = self.line.quote.get_or_insert(Quote::new(&[]));
        let body = &self.line.body;
        Ok(Some(match read {
            Ok(id) => FrameEvent::Frame { id, body },
            Err(LineError::Message { id, error }) => FrameEvent::BadLine { id, quote, error },
            Err(LineError::Data { id, error }) => FrameEvent::BadData { id, head: body, error },
            Err(LineError::Stray) => {
                self.state = State::Broken(*quote);
                return Err(FrameError::Desync { quote: *quote });
            }
        }))
    }

    /// Whether lines may end here.
    pub(super) fn finish_line(&self) -> Result<(), FrameError> {
        let thrown = match self.state {
            State::SkippingLine(thrown) => thrown,
            _ => 0,
        };
        let arrived = self.arrived();
        let got = thrown.saturating_add(arrived.len() as u64);
        let is_blank = thrown == 0 && arrived.trim_ascii().is_empty();
        if is_blank { Ok(()) } else { Err(FrameError::UnfinishedLine { got }) }
    }
}

#[cfg(test)]
mod tests;
