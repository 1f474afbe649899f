//! What one worker writes to stderr: always read, so that it never blocks there; the last part kept, lines cut for whoever
//! listens.

use std::collections::VecDeque;

/// How much of the end is kept for error texts.
const TAIL_BYTES: usize = 4 * 1024;

/// A longer line is handed out in pieces.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// The end of a worker's stderr, and the line in progress.
#[derive(Debug, Default)]
pub(super) struct StderrTail {
    tail: VecDeque<u8>,
    line: Vec<u8>,
}

impl StderrTail {
    /// Takes what was read; `line` gets each complete line if somebody listens.
    pub(super) fn feed(&mut self, bytes: &[u8], mut line: Option<impl FnMut(String)>) {
        let kept = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or(bytes);
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(kept);
        let Some(line) = &mut line else {
            self.line.clear();
            return;
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or(piece));
            if piece.ends_with(b"\n") || self.line.len() >= LINE_BYTES_MAX {
                self.finish(&mut *line);
            }
        }
    }

    /// The stream ended: what is left is the last line.
    pub(super) fn finish(&mut self, mut line: impl FnMut(String)) {
        if !self.line.is_empty() {
            while self.line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                self.line.pop();
            }
            line(String::from_utf8_lossy(&self.line).into_owned());
            self.line.clear();
        }
    }

    /// The end of what was written, whole lines if possible.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.find('\n') {
            Some(end) if bytes.len() >= TAIL_BYTES && end + 1 < text.len() => {
                text.get(end + 1..).unwrap_or_default().to_owned()
            }
            _ => text.into_owned(),
        }
    }
}
