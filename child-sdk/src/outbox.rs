//! Answers on their way out: one buffer, written as a whole. When it is written is for the `desk` and `coalesce` to say. What
//! is not written before a handler starts lies on the shelf too, so that it does not depend on that handler's end.

use std::sync::Arc;

use crate::coalesce::Coalesce;
use crate::line::Line;
use crate::stop::Stop;

/// A buffer that grew beyond this is given back, so that one giant answer does not stay paid for.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// Answers on their way out.
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    /// How many of them lie on the shelf.
    shelved: usize,
    pub(crate) line: Arc<Line>,
    pub(crate) coalesce: Coalesce,
}

impl Outbox {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self { bytes: Vec::new(), shelved: 0, line, coalesce: Coalesce::default() }
    }

    /// Lets the answers wait while a handler runs. False if they must be written: nobody would do so in time.
    #[inline]
    #[must_use]
    pub(crate) fn hold(&mut self) -> bool {
        let held = self.line.hold(&self.bytes, self.shelved);
        if held {
            self.shelved = self.bytes.len();
        }
        held
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        if self.bytes.is_empty() { Ok(()) } else { self.flush_with(&[]) }
    }

    /// Writes the answers and the end of the last, which is large.
    pub(crate) fn flush_with(&mut self, rest: &[u8]) -> Result<(), Stop> {
        self.line.write(&self.bytes, rest)?;
        self.shelved = 0;
        self.coalesce.flushed();
        empty(&mut self.bytes);
        Ok(())
    }
}

/// Empties a buffer, and gives back what a giant left.
pub(crate) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(BUFFER_BYTES_KEPT);
}
