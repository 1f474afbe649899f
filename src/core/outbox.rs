//! Bytes on their way to one worker: frames are appended whole, and taken in whatever pieces the pipe takes. Large payloads are
//! not copied here; they stand in line as they are. For a worker in text mode its frames become lines here, so that what is
//! counted are the bytes that it is sent.

use std::collections::VecDeque;

use stokehold_protocol::{Codec, SharedTail, text};

/// No further task is put in while so many bytes wait: the pipe is full, and what waits here could go to another worker.
pub(crate) const OUTBOX_BYTES_FULL: usize = 256 * 1024;

/// A buffer that grew beyond this is given back once it is empty.
const OUTBOX_BYTES_KEPT: usize = 1024 * 1024;

/// Pieces that are offered for one write.
const PIECES: usize = 8;

/// Bytes not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What is not large, one after the other.
    bytes: Vec<u8>,
    /// How many of them are written.
    taken: usize,
    /// What is large, each with the place in `bytes` in front of which it stands.
    large: VecDeque<(usize, SharedTail)>,
    /// How many bytes of the first of those are written.
    large_taken: usize,
    /// How many bytes wait.
    waiting: usize,
    /// How many bytes were written since the worker's life began.
    written_ever: u64,
    /// How the worker reads.
    codec: Codec,
}

impl Outbox {
    /// What is to be written next: the first pieces of it, in order. Those that are empty say nothing.
    pub(crate) fn pending(&self) -> [&[u8]; PIECES] {
        let mut pieces: [&[u8]; PIECES] = [&[]; PIECES];
        let (mut from, mut skip) = (self.taken, self.large_taken);
        let mut large = self.large.iter();
        for pair in pieces.chunks_mut(2) {
            let [small, big] = pair else { break };
            let next = large.next();
            let until = next.map_or(self.bytes.len(), |(place, _)| *place);
            *small = self.bytes.get(from..until).unwrap_or_default();
            from = until;
            let Some((_, tail)) = next else { break };
            *big = tail.get(skip..).unwrap_or_default();
            skip = 0;
        }
        pieces
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// The first `count` bytes of what waits are written.
    pub(crate) fn wrote(&mut self, count: usize) {
        let count = count.min(self.waiting);
        self.waiting -= count;
        self.written_ever += count as u64;
        if self.waiting > 0 {
            return self.advance(count);
        }
        self.taken = 0;
        self.large_taken = 0;
        self.large.clear();
        if self.bytes.capacity() > OUTBOX_BYTES_KEPT {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let until = self.large.front().map_or(self.bytes.len(), |(place, _)| *place);
            let small = count.min(until - self.taken);
            self.taken += small;
            count -= small;
            if self.taken < until {
                return;
            }
            let Some((_, tail)) = self.large.front() else { return };
            let big = count.min(tail.len() - self.large_taken);
            self.large_taken += big;
            count -= big;
            if self.large_taken < tail.len() {
                return;
            }
            self.large_taken = 0;
            self.large.pop_front();
        }
    }

    /// Frames are appended by `write`.
    #[inline]
    pub(crate) fn append<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.taken >= OUTBOX_BYTES_FULL {
            self.bytes.drain(..self.taken);
            for (place, _) in &mut self.large {
                *place -= self.taken;
            }
            self.taken = 0;
        }
        let before = self.bytes.len();
        let done = write(&mut self.bytes);
        if self.codec == Codec::Json {
            self.make_lines(before);
        }
        self.waiting += self.bytes.len() - before;
        done
    }

    /// Makes lines of the frames that begin there.
    #[cold]
    #[inline(never)]
    fn make_lines(&mut self, begin: usize) {
        let frames = self.bytes.split_off(begin);
        let lost = text::write_lines(&mut self.bytes, &frames);
        debug_assert_eq!(lost, 0, "what the protocol says has a form in every codec");
    }

    /// Appends the line of a message that has been written as JSON, as [`text::write_message`] does.
    pub(crate) fn append_line(&mut self, id: u32, message: &[u8]) {
        let before = self.bytes.len();
        text::write_line(&mut self.bytes, id, message);
        self.waiting += self.bytes.len() - before;
    }

    /// How the worker reads.
    #[inline]
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// The worker reads in that way.
    pub(crate) fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
    }

    /// Appends bytes that are shared.
    pub(crate) fn append_shared(&mut self, bytes: SharedTail) {
        self.waiting += bytes.len();
        self.large.push_back((self.bytes.len(), bytes));
    }

    /// Whether no further task should be put in.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting >= OUTBOX_BYTES_FULL
    }

    /// How many bytes were written since the worker's life began.
    pub(crate) fn written(&self) -> u64 {
        self.written_ever
    }

    /// What [`written`](Self::written) will be when all that waits now is written.
    pub(crate) fn end(&self) -> u64 {
        self.written_ever + self.waiting as u64
    }

    /// Throws away what waits: its reader is gone.
    pub(crate) fn discard(&mut self) {
        *self = Self { written_ever: self.written_ever, codec: self.codec, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what waits in pieces of up to `piece` bytes.
    fn take_all(outbox: &mut Outbox, piece: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while !outbox.is_empty() {
            let offered = outbox.pending().concat();
            let count = offered.len().min(piece);
            taken.extend_from_slice(&offered[..count]);
            outbox.wrote(count);
        }
        taken
    }

    #[test]
    fn small_and_large_pieces_come_out_in_order_whatever_the_pipe_takes() {
        for piece in [1, 3, 7, 1000] {
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            for round in 0..30_u8 {
                outbox.append(|bytes| bytes.extend_from_slice(&[round; 5]));
                expected.extend_from_slice(&[round; 5]);
                if round % 2 == 0 {
                    outbox.append_shared(SharedTail::new(vec![round + 100; 9]));
                    expected.extend_from_slice(&[round + 100; 9]);
                }
                if round % 7 == 0 {
                    let offered = outbox.pending().concat();
                    outbox.wrote(piece.min(offered.len()));
                }
            }
            let written = usize::try_from(outbox.written()).unwrap();
            assert_eq!(outbox.end(), expected.len() as u64);
            assert_eq!(take_all(&mut outbox, piece), expected[written..]);
            assert_eq!((outbox.written(), outbox.end()), (expected.len() as u64, expected.len() as u64));
        }
    }

    #[test]
    fn what_is_written_is_not_kept_while_more_comes() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.append(|bytes| bytes.extend_from_slice(&[1; 10_000]));
            outbox.append_shared(SharedTail::new(vec![2; 10]));
            outbox.append(|bytes| bytes.push(3));
            outbox.wrote(10_010);
        }
        assert!(outbox.bytes.len() <= OUTBOX_BYTES_FULL + 20_000, "{}", outbox.bytes.len());
        assert_eq!(take_all(&mut outbox, 100).len(), 100);
    }

    #[test]
    fn frames_become_lines_for_who_reads_lines_and_count_as_such() {
        let mut outbox = Outbox::default();
        outbox.set_codec(Codec::Json);
        outbox
            .append(|out| out.extend_from_slice(b"\0\0\0\x11\0\0\0\x07\x94\xa5READY\0\xc0\x93\x01\x02\x03"));
        assert_eq!(outbox.end(), outbox.len() as u64);
        outbox.append_line(8, b"[\"DO\",0,null,1]");
        let lines = b"7 [\"READY\",0,null,[1,2,3]]\n8 [\"DO\",0,null,1]\n";
        assert_eq!((outbox.end(), take_all(&mut outbox, 5)), (lines.len() as u64, lines.to_vec()));
        outbox.discard();
        assert_eq!(outbox.codec(), Codec::Json, "it is the same worker");
    }

    #[test]
    fn what_was_thrown_away_was_not_written() {
        let mut outbox = Outbox::default();
        outbox.append(|bytes| bytes.extend_from_slice(b"abc"));
        outbox.append_shared(SharedTail::new(vec![7; 10]));
        outbox.wrote(2);
        outbox.discard();
        assert_eq!((outbox.is_empty(), outbox.written(), outbox.end()), (true, 2, 2));
    }
}
