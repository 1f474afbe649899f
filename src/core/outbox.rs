//! Bytes on their way to one worker: frames are appended whole, and taken in whatever pieces the pipe takes.

/// No further task is put in while so many bytes wait: the pipe is full, and what waits here could go to another worker.
pub(crate) const OUTBOX_BYTES_FULL: usize = 256 * 1024;

/// A buffer that grew beyond this is given back once it is empty.
const OUTBOX_BYTES_KEPT: usize = 1024 * 1024;

/// Bytes not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// How many bytes were written since the worker's life began.
    written_ever: u64,
}

impl Outbox {
    /// What is to be written next.
    pub(crate) fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// The first `count` bytes of [`pending`](Self::pending) are written.
    pub(crate) fn wrote(&mut self, count: usize) {
        let count = count.min(self.pending().len());
        self.written += count;
        self.written_ever += count as u64;
        if self.written == self.bytes.len() {
            self.written = 0;
            if self.bytes.capacity() > OUTBOX_BYTES_KEPT {
                self.bytes = Vec::new()
            } else {
                self.bytes.clear()
            }
        }
    }

    /// Where frames are appended.
    pub(crate) fn append(&mut self) -> &mut Vec<u8> {
        if self.written >= OUTBOX_BYTES_FULL {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        &mut self.bytes
    }

    /// Whether no further task should be put in.
    pub(crate) fn is_full(&self) -> bool {
        self.pending().len() >= OUTBOX_BYTES_FULL
    }

    /// How many bytes were written since the worker's life began.
    pub(crate) fn written(&self) -> u64 {
        self.written_ever
    }

    /// What [`written`](Self::written) will be when all that waits now is written.
    pub(crate) fn end(&self) -> u64 {
        self.written_ever + self.pending().len() as u64
    }

    /// Throws away what waits: its reader is gone.
    pub(crate) fn discard(&mut self) {
        self.bytes = Vec::new();
        self.written = 0;
    }
}
