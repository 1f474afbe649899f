//! A large frame that has arrived in part: it is read into a buffer of its own, which the last reader may keep, so that its body
//! is never copied. It does not know the frames beside it.

use crate::limits::FRAME_HEADER_BYTES;

/// Bodies from here on have a buffer of their own, unless they have arrived as a whole: as much as a default pipe holds.
pub(super) const LARGE_BYTES_MIN: usize = 64 * 1024;

/// Memory is taken for so many bytes at once, or for as many again as have arrived: enough that most large frames are never
/// moved, and not much for one that is announced and never comes.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// Bytes offered to a reader that takes no vector, at least.
const SPACE_BYTES_MIN: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Large {
    id: u32,
    /// Of the body.
    len: usize,
    bytes: Vec<u8>,
    /// Where what has arrived ends. What stands behind it was offered and is not filled yet.
    end: usize,
    /// The vector was given out to be appended to.
    is_lent: bool,
}

impl Large {
    /// A frame with a body of `len` bytes. Uses the memory of `spare`, unless that is much more: what follows would be read into
    /// it as well.
    pub(super) fn new(id: u32, len: usize, mut spare: Vec<u8>) -> Self {
        spare.clear();
        let fits = spare.capacity() <= len.saturating_mul(2);
        Self { id, len, bytes: if fits { spare } else { Vec::new() }, end: 0, is_lent: false }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// How many bytes the frame has, its header included.
    pub(super) fn frame_bytes(&self) -> u64 {
        (self.len as u64).saturating_add(FRAME_HEADER_BYTES as u64)
    }

    /// How many of them have arrived.
    pub(super) fn arrived(&self) -> u64 {
        (self.end().min(self.len) as u64).saturating_add(FRAME_HEADER_BYTES as u64)
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
        self.end() >= self.len
    }

    /// Its body, when all of it is there, and what came behind it.
    pub(super) fn into_parts(mut self) -> (Vec<u8>, Vec<u8>) {
        self.bytes.truncate(self.end());
        let behind = self.bytes.get(self.len..).unwrap_or_default().to_vec();
        self.bytes.truncate(self.len);
        (self.bytes, behind)
    }

    fn end(&self) -> usize {
        if self.is_lent { self.bytes.len() } else { self.end }
    }

    /// Sees that there is room behind what has arrived.
    fn reserve(&mut self) {
        self.filled(0);
        if self.end == self.bytes.capacity() {
            let missing = self.len.saturating_sub(self.end).max(1);
            self.bytes.reserve_exact(missing.min(self.end.max(BYTES_AT_ONCE)));
        }
    }
}
