//! The end of a buffer that several may own, so that a large payload is never copied on its way. It does not know what is in it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// From so many bytes on it is cheaper to share a payload than to copy it: a copy of 16 KiB takes about as long as the
/// bookkeeping of another owner.
pub const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Bytes with several owners: all of a buffer from some place on. Cloning it copies nothing.
///
/// ```
/// use std::sync::Arc;
///
/// use stokehold_protocol::SharedTail;
///
/// let whole = Arc::new(b"head and data".to_vec());
/// let data = SharedTail::of(Arc::clone(&whole), 9);
/// assert_eq!(&data[..], b"data");
/// ```
#[derive(Clone)]
pub struct SharedTail {
    whole: Arc<Vec<u8>>,
    start: usize,
}

impl SharedTail {
    /// All of `bytes`, which are not copied.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { whole: Arc::new(bytes), start: 0 }
    }

    /// The bytes of `whole` from `start` on; none if there are no more than that.
    pub fn of(whole: Arc<Vec<u8>>, start: usize) -> Self {
        Self { whole, start }
    }

    /// The bytes as a vector. Copies nothing for the last owner of a whole buffer, moves the bytes for the last owner of a part of
    /// one, and copies them else.
    pub fn into_vec(self) -> Vec<u8> {
        let start = self.start.min(self.whole.len());
        match Arc::try_unwrap(self.whole) {
            Ok(mut bytes) => {
                bytes.drain(..start);
                bytes
            }
            Err(whole) => whole.get(start..).unwrap_or_default().to_vec(),
        }
    }

    /// The whole buffer, if nobody else owns it and none of it was left out; else it is dropped.
    pub fn into_sole(self) -> Option<Vec<u8>> {
        Arc::try_unwrap(self.whole).ok().filter(|_| self.start == 0)
    }
}

impl Deref for SharedTail {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.whole.get(self.start..).unwrap_or_default()
    }
}

impl fmt::Debug for SharedTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedTail({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_owner_of_a_whole_buffer_gets_it_without_a_copy() {
        let bytes = vec![7; 100];
        let address = bytes.as_ptr();
        let tail = SharedTail::new(bytes);
        let copy = tail.clone().into_vec();
        assert_ne!(copy.as_ptr(), address, "somebody else still owns it");
        assert!(tail.clone().into_sole().is_none());
        let back = tail.into_vec();
        assert_eq!((back.as_ptr(), &back), (address, &copy));
    }

    #[test]
    fn a_part_begins_where_it_says_and_none_is_no_panic() {
        let whole = Arc::new(vec![1, 2, 3]);
        for (start, expected) in [(0, &[1, 2, 3][..]), (2, &[3]), (3, &[]), (9, &[])] {
            let tail = SharedTail::of(Arc::clone(&whole), start);
            assert_eq!(&tail[..], expected);
            assert_eq!(tail.into_vec(), expected);
            assert_eq!(SharedTail::of(Arc::new(whole.to_vec()), start).into_vec(), expected);
        }
    }
}
