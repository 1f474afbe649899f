//! Answers that wait for each other, or results of a batch, where another thread can get at them: the thread that serves puts down what is to be
//! written, and whoever has the output in hand may take it from here before that thread comes back from its handler.
//!
//! It is filled for every tiny task, so that it must cost next to nothing: no lock, no exchange, a few plain stores. One thread
//! fills it and nobody changes what was put down; only with the output in hand is it emptied. Bytes travel as whole words,
//! because words can be shared without unsafe code and are quicker than single bytes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that wait at most: a whole default pipe.
pub(crate) const SHELF_BYTES: usize = 64 * 1024;

const WORD_BYTES: usize = size_of::<u64>();

/// Bytes at rest. Made when the first are put down: most workers never hold anything back.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    words: OnceLock<Box<[AtomicU64]>>,
    /// How many bytes lie here, and in the upper half how many results those are, where somebody counts.
    mark: AtomicU64,
}

/// How much lies on a shelf.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Lying {
    pub(crate) bytes: usize,
    /// So many results, where somebody counts.
    pub(crate) results: u32,
}

impl Shelf {
    /// Puts down what follows the first `from` bytes of `bytes`; those lie here already. All of it is so many `results`. False,
    /// and nothing is put down, if there is no room. For the thread that serves only.
    #[inline]
    #[must_use]
    pub(crate) fn put(&self, bytes: &[u8], from: usize, results: u32) -> bool {
        if bytes.len() > SHELF_BYTES {
            return false;
        }
        let words = self.words.get_or_init(make);
        // A word that was begun is put down again, with the same bytes and more behind them.
        let first = from / WORD_BYTES;
        let (Some(words), Some(bytes_left)) = (words.get(first..), bytes.get(first * WORD_BYTES..)) else {
            return false;
        };
        let (whole, rest) = bytes_left.as_chunks::<WORD_BYTES>();
        for (word, bytes) in words.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if let (Some(word), false) = (words.get(whole.len()), rest.is_empty()) {
            let mut padded = [0; WORD_BYTES];
            for (to, byte) in padded.iter_mut().zip(rest) {
                *to = *byte;
            }
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        self.mark.store(u64::from(results) << 32 | bytes.len() as u64, Ordering::Release);
        true
    }

    /// How much lies here.
    pub(crate) fn lying(&self) -> Lying {
        let mark = self.mark.load(Ordering::Acquire);
        let [bytes, results] =
            [mark & u64::from(u32::MAX), mark >> 32].map(|half| u32::try_from(half).unwrap_or(0));
        Lying { bytes: bytes as usize, results }
    }

    /// Appends to `out` what lies here behind the first `from` bytes, and gives how much lies here. With the output in hand
    /// only.
    pub(crate) fn copy(&self, from: usize, out: &mut Vec<u8>) -> Lying {
        let lying = self.lying();
        let len = lying.bytes;
        let Some(words) = self.words.get().filter(|_| from < len) else { return lying };
        let first = from / WORD_BYTES;
        let begun = out.len();
        for word in words.get(first..len.div_ceil(WORD_BYTES)).unwrap_or_default() {
            out.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        out.truncate(begun + (len - first * WORD_BYTES));
        out.drain(begun..begun + from % WORD_BYTES);
        lying
    }

    /// Empties it. For the thread that serves, with the output in hand.
    pub(crate) fn clear(&self) {
        self.mark.store(0, Ordering::Release);
    }
}

fn make() -> Box<[AtomicU64]> {
    (0..SHELF_BYTES / WORD_BYTES).map(|_| AtomicU64::new(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_down_in_pieces_of_any_size_is_taken_in_pieces_of_any_size() {
        let bytes: Vec<u8> = (0..200).collect();
        for piece in 1..40 {
            for taken_every in 1..5 {
                let (shelf, mut out, mut put, mut taken) = (Shelf::default(), Vec::new(), 0, 0);
                for (round, end) in (piece..=bytes.len()).step_by(piece).enumerate() {
                    assert!(shelf.put(&bytes[..end], put, round as u32));
                    put = end;
                    if round % taken_every == 0 {
                        let lying = shelf.copy(taken, &mut out);
                        assert_eq!(lying, Lying { bytes: end, results: round as u32 });
                        taken = lying.bytes;
                        assert_eq!(out, bytes[..end]);
                    }
                }
                taken = shelf.copy(taken, &mut out).bytes;
                assert_eq!((taken, &out[..]), (put, &bytes[..put]));
            }
        }
    }

    #[test]
    fn it_takes_what_it_has_room_for_and_nothing_of_more() {
        let shelf = Shelf::default();
        assert!(shelf.put(&[7; SHELF_BYTES], 0, u32::MAX));
        assert!(!shelf.put(&[8; SHELF_BYTES + 1], 0, 1));
        let mut out = Vec::new();
        assert_eq!(shelf.copy(0, &mut out), Lying { bytes: SHELF_BYTES, results: u32::MAX });
        assert_eq!(out, [7; SHELF_BYTES]);
        shelf.clear();
        assert_eq!(shelf.copy(0, &mut out), Lying::default());
    }
}
