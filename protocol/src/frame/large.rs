//! A large frame that has arrived in part: it is read into a buffer of its own, which the last reader may keep, so that its body
//! is never copied. It does not know the frames beside it.
//!
//! The body has [`BODY_OFFSET`] bytes in front of it, which mean nothing: see there.

use std::ops::Deref;
use std::sync::Arc;

use crate::copy::BODY_OFFSET;
use crate::limits::FRAME_HEADER_BYTES;
use crate::tail::SharedTail;

/// Bodies from here on have a buffer of their own, unless they have arrived as a whole: as much as a default pipe holds.
pub(super) const LARGE_BYTES_MIN: usize = 64 * 1024;

/// Room is made for so many bytes at first, and for all when they have arrived: enough that most large frames are never moved, and
/// not much for one that is announced and never comes. The system gives memory for what is written to, and no more.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// Bytes offered to a reader that takes no vector, at least.
const SPACE_BYTES_MIN: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Large {
    id: u32,
    /// Where the body ends.
    until: usize,
    bytes: Vec<u8>,
    /// Where what has arrived ends. What stands behind it was offered and is not filled yet.
    end: usize,
    /// The vector was given out to be appended to.
    is_lent: bool,
}

impl Large {
    /// A frame with a body of `len` bytes. Uses the memory of `spare`, unless that is much more: what follows would be read into
    /// it as well.
    pub(super) fn new(id: u32, len: usize, spare: Vec<u8>) -> Self {
        let until = len.saturating_add(BODY_OFFSET);
        let mut bytes = if spare.capacity() <= until.saturating_mul(2) { spare } else { Vec::new() };
        bytes.clear();
        bytes.resize(BODY_OFFSET, 0);
        Self { id, until, bytes, end: BODY_OFFSET, is_lent: false }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// How many bytes the frame has, its header included.
    pub(super) fn frame_bytes(&self) -> u64 {
        on_the_wire(self.until)
    }

    /// How many of them have arrived.
    pub(super) fn arrived(&self) -> u64 {
        on_the_wire(self.end().min(self.until))
    }

    /// Where the rest is to be appended: there is room for some of it, perhaps for more than it has.
    pub(super) fn rest(&mut self) -> &mut Vec<u8> {
        self.reserve();
        self.bytes.truncate(self.end);
        self.is_lent = true;
        &mut self.bytes
    }

    /// Room for some of the rest, to be overwritten. Tell how much was with [`filled`](Self::filled).
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.reserve();
        if self.bytes.len() == self.end {
            // No more than has arrived: what is offered is written to.
            let room = self.bytes.capacity().saturating_sub(self.end).min(self.end.max(SPACE_BYTES_MIN));
            self.bytes.resize(self.end.saturating_add(room), 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// The first `count` bytes of what was offered are there.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = self.end().saturating_add(count).min(self.bytes.len());
        self.is_lent = false;
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.end() >= self.until
    }

    /// The buffer with its body, when all of it is there, and what came behind it.
    pub(super) fn into_parts(mut self) -> (LargeBody, Vec<u8>) {
        self.bytes.truncate(self.end());
        let behind = self.bytes.get(self.until..).unwrap_or_default().to_vec();
        self.bytes.truncate(self.until);
        (LargeBody(Arc::new(self.bytes)), behind)
    }

    fn end(&self) -> usize {
        if self.is_lent { self.bytes.len() } else { self.end }
    }

    /// Sees that there is room behind what has arrived.
    fn reserve(&mut self) {
        self.filled(0);
        if self.end == self.bytes.capacity() {
            let missing = self.until.saturating_sub(self.end).max(1);
            self.bytes.reserve_exact(if self.end < BYTES_AT_ONCE {
                missing.min(BYTES_AT_ONCE)
            } else {
                missing
            });
        }
    }
}

/// How many bytes of a frame are in a buffer that is filled up to `end`.
fn on_the_wire(end: usize) -> u64 {
    (end.saturating_sub(BODY_OFFSET) as u64).saturating_add(FRAME_HEADER_BYTES as u64)
}

/// The body of a large frame, in a buffer of its own. A clone is another owner of it.
#[derive(Clone, Debug)]
pub struct LargeBody(Arc<Vec<u8>>);

impl LargeBody {
    /// The bytes of `part`, which is the end of it, as one of several owners; `None` if `part` is something else.
    pub fn share(&self, part: &[u8]) -> Option<SharedTail> {
        let start = self.0.len().checked_sub(part.len())?;
        let is_its_end = std::ptr::eq(self.0.get(start..)?, part);
        is_its_end.then(|| SharedTail::of(Arc::clone(&self.0), start))
    }

    /// The memory, if nobody else owns any of it.
    pub(super) fn into_memory(self) -> Option<Vec<u8>> {
        Arc::into_inner(self.0)
    }
}

impl Deref for LargeBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.get(BODY_OFFSET..).unwrap_or_default()
    }
}
