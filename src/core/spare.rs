//! Memory that is used again: emptied buffers, as many as are in use at a time when a pool is busy, and so few bytes of them that
//! an idle one may keep them.

/// Bytes kept, those of the buffers' own heads included.
const BYTES_KEPT: usize = 2 * 1024 * 1024;

/// A buffer that is larger is given back: it would keep out many others.
const BUFFER_BYTES_MAX: usize = BYTES_KEPT / 4;

/// What can be emptied and filled again.
pub(crate) trait Buffer {
    /// Throws away what is in it, and keeps the memory.
    fn clear(&mut self);
    /// How many bytes of memory it has.
    fn memory(&self) -> usize;
}

/// Emptied buffers.
#[derive(Debug)]
pub(crate) struct Spare<B> {
    buffers: Vec<B>,
    /// What they count for.
    bytes: usize,
}

impl<B> Default for Spare<B> {
    fn default() -> Self {
        Self { buffers: Vec::new(), bytes: 0 }
    }
}

impl<B: Buffer> Spare<B> {
    /// An empty buffer, if there is one.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<B> {
        let buffer = self.buffers.pop()?;
        self.bytes -= weight(&buffer);
        Some(buffer)
    }

    /// Keeps a buffer for the next use, if it has any memory and there is room.
    #[inline]
    pub(crate) fn keep(&mut self, mut buffer: B) {
        let memory = buffer.memory();
        let bytes = self.bytes + weight(&buffer);
        if memory > 0 && memory <= BUFFER_BYTES_MAX && bytes <= BYTES_KEPT {
            buffer.clear();
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }

    /// Takes all that the other has, as far as there is room.
    pub(crate) fn take_from(&mut self, other: &mut Self) {
        while let Some(buffer) = other.pop() {
            self.keep(buffer);
        }
    }
}

/// What a buffer counts for.
fn weight<B: Buffer>(buffer: &B) -> usize {
    size_of::<B>() + buffer.memory()
}

impl Buffer for Vec<u8> {
    #[inline]
    fn clear(&mut self) {
        Self::clear(self);
    }

    #[inline]
    fn memory(&self) -> usize {
        self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_and_forth() {
        let mut spare = Spare::default();
        assert!(spare.pop().is_none());
        let buffer = vec![7; 100];
        let place = buffer.as_ptr();
        spare.keep(buffer);
        let buffer: Vec<u8> = spare.pop().unwrap();
        assert_eq!((buffer.len(), buffer.as_ptr(), spare.bytes), (0, place, 0));
    }

    #[test]
    fn neither_many_nor_large_ones_heap_up() {
        let mut spare = Spare::default();
        spare.keep(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        spare.keep(Vec::new());
        assert!(spare.buffers.is_empty(), "too much and nothing are not worth keeping");
        for capacity in [100_000, 1_000, 1] {
            (0..100_000).for_each(|_| spare.keep(Vec::with_capacity(capacity)));
            assert!(spare.bytes <= BYTES_KEPT);
        }
        let mut other = Spare::default();
        other.keep(Vec::with_capacity(10));
        let kept = spare.buffers.len();
        other.take_from(&mut spare);
        assert!(spare.buffers.is_empty() && spare.bytes == 0);
        assert!(other.bytes <= BYTES_KEPT && other.buffers.len() <= kept + 1);
    }
}
