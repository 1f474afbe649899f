//! Splits a byte stream into frames: `u32 BE len | u32 BE id | body`, fed with any chunking (SPEC 4). In text mode its frames are
//! lines, which are given out as what they stand for (SPEC 10).
//!
//! The splitter owns the buffer that a reader fills, hands frames out as slices of it, and never writes to more memory than twice
//! what has arrived. It does not look into bodies, but for those of lines.

use crate::error::{DataError, FrameError, MessageError, Quote};
use crate::limits::{
    FRAME_HEADER_BYTES, FRAME_LEN_CEILING, FRAME_LEN_MIN, HEAD_BYTES_MAX, MAX_FRAME_DEFAULT, MAX_FRAME_FLOOR,
};
use crate::text::Codec;

mod large;
mod lines;

pub use large::LargeBody;
use large::{LARGE_BYTES_MIN, Large};
use lines::{Line, Recognised};

/// Bytes offered to a read at least: a whole default pipe.
const SPACE_BYTES_MIN: usize = 64 * 1024;

/// Bytes offered behind a large frame, if the next is to be a large one too: all but its beginning goes where it stays. Less than a
/// page, so that a full pipe stays full, and its writer asleep, until the rest is read.
const PEEK_BYTES: usize = 512;

/// A buffer that grew beyond this is given back once it is empty, so that one giant frame does not stay paid for.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// Takes bytes, gives frames.
///
/// ```
/// use stokehold_protocol::{FrameEvent, Splitter};
///
/// let mut splitter = Splitter::new();
/// splitter.feed(&[0, 0, 0, 5, 0, 0, 0, 7]); // a header, its body still on the way
/// assert!(splitter.next_frame().unwrap().is_none());
/// splitter.feed(&[0xc0]);
/// assert!(matches!(splitter.next_frame().unwrap(), Some(FrameEvent::Frame { id: 7, body: [0xc0] })));
/// ```
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    max_frame: u32,
    state: State,
    /// The frame that is being read into a buffer of its own. Nothing is in the other buffer then.
    large: Option<Large>,
    /// The last large frame that was lent.
    lent: Option<LargeBody>,
    /// The memory for the next.
    spare: Vec<u8>,
    /// The last frame was a large one.
    peeks: bool,
    /// What is known of the line at hand, in text mode.
    line: Line,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At a frame's first byte, or inside a frame that is kept.
    Collecting,
    /// Inside a frame that is too large: of its `len` and the four bytes before it, `left` are still to be thrown away.
    Skipping { len: u32, left: u64 },
    /// The stream was not frames.
    Broken(Quote),
    /// Before the first byte, which may begin frames or lines.
    Recognising,
    /// At a line's first byte, or inside one.
    InLines,
    /// Inside a line that is too large, of which so many bytes have been thrown away.
    SkippingLine(u64),
}

/// What the splitter found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameEvent<'a> {
    /// A whole frame.
    Frame {
        /// Its id; 0 means none.
        id: u32,
        /// Its body: one message if the peer kept the rules.
        body: &'a [u8],
    },
    /// A frame above `max_frame`. It is skipped; the stream goes on behind it.
    TooLarge {
        /// Its id.
        id: u32,
        /// Its `len` field.
        len: u32,
        /// The first bytes of its body, enough to read the head of its message.
        head: &'a [u8],
    },
    /// A line that is no message. The stream goes on behind it. In text mode only.
    BadLine {
        /// Its id, 0 without one.
        id: u32,
        /// Its beginning.
        quote: &'a Quote,
        /// What is wrong with it.
        error: MessageError,
    },
    /// A line whose fourth field stands for no value of the data model. In text mode only.
    BadData {
        /// Its id; 0 means none.
        id: u32,
        /// Its message, with nil in place of the data.
        head: &'a [u8],
        /// What is wrong with the data.
        error: DataError,
    },
}

impl Splitter {
    /// An empty splitter that takes frames up to [`MAX_FRAME_DEFAULT`]. No memory is taken before bytes arrive.
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            max_frame: MAX_FRAME_DEFAULT,
            state: State::Collecting,
            large: None,
            lent: None,
            spare: Vec::new(),
            peeks: false,
            line: Line::default(),
        }
    }

    /// One for what a child writes: frames or lines, as its first bytes say (SPEC 10).
    pub fn recognising() -> Self {
        Self { state: State::Recognising, ..Self::new() }
    }

    /// One for lines.
    pub fn lines() -> Self {
        Self { state: State::InLines, ..Self::new() }
    }

    /// How the stream is written, if that is known from what has arrived.
    pub fn codec(&self) -> Option<Codec> {
        match self.state {
            State::Collecting | State::Skipping { .. } => Some(Codec::MessagePack),
            State::InLines | State::SkippingLine(_) => Some(Codec::Json),
            State::Broken(_) => None,
            State::Recognising => match lines::recognise(self.arrived()) {
                Recognised::Lines => Some(Codec::Json),
                Recognised::Other => Some(Codec::MessagePack),
                Recognised::NotYet => None,
            },
        }
    }

    /// Takes frames up to `max_frame` from now on, clamped to what the protocol allows.
    pub fn set_max_frame(&mut self, max_frame: u32) {
        self.max_frame = max_frame.clamp(MAX_FRAME_FLOOR, FRAME_LEN_CEILING);
    }

    /// Room for the next read, whatever is in it: at least 64 KiB, or 512 bytes behind a large frame,
    /// or what is left of one. Tell how much was written there
    /// with [`filled`](Self::filled).
    pub fn space(&mut self) -> &mut [u8] {
        if let Some(large) = &mut self.large {
            return large.space();
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > BUFFER_BYTES_KEPT {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.len().saturating_sub(self.end) < SPACE_BYTES_MIN && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        if self.buffer.len().saturating_sub(self.end) < SPACE_BYTES_MIN {
            // By what has arrived, not by what the buffer has: a few bytes of a frame must not double it.
            let wanted = self.end.saturating_mul(2).saturating_add(SPACE_BYTES_MIN);
            // Exactly that much: the vector's own way of growing would make it twice as much again.
            self.buffer.reserve_exact(wanted.saturating_sub(self.buffer.len()));
            self.buffer.resize(wanted, 0);
        }
        let until = if self.peeks && self.start == self.end {
            self.end.saturating_add(PEEK_BYTES)
        } else {
            self.buffer.len()
        };
        self.buffer.get_mut(self.end..until).unwrap_or_default()
    }

    /// A frame that is so large that it has a buffer of its own, and has not arrived as a whole: the rest may be appended there, as
    /// much as there is capacity for, instead of being read into [`space`](Self::space) first.
    pub fn large(&mut self) -> Option<&mut Vec<u8>> {
        self.large.as_mut().map(Large::rest)
    }

    /// The id and the body of that frame, if it has arrived as a whole: to be kept, in place of what
    /// [`next_frame`](Self::next_frame) would lend.
    pub fn take_large(&mut self) -> Option<(u32, LargeBody)> {
        let large = self.large.take_if(|large| large.is_whole())?;
        let id = large.id();
        let (body, behind) = large.into_parts();
        if !behind.is_empty() {
            self.feed(&behind);
        }
        Some((id, body))
    }

    /// Takes the memory of a large body for the next one, if nobody else owns any of it.
    pub fn reuse(&mut self, body: LargeBody) {
        if let Some(memory) = body.into_memory() {
            self.spare = memory;
        }
    }

    /// How many bytes of memory it has, but for those of a large frame that is on its way.
    pub fn memory(&self) -> usize {
        let lent = self.lent.as_ref().map_or(0, |body| body.len());
        self.buffer.capacity().saturating_add(self.spare.capacity()).saturating_add(lent)
    }

    /// Gives back the memory that is kept for large frames, and that which a frame in the middle of its arrival does not need.
    pub fn shrink(&mut self) {
        self.lent = None;
        self.spare = Vec::new();
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.buffer = Vec::new();
        }
    }

    /// The first `count` bytes of the last [`space`](Self::space) have been filled. More than there was is cut.
    pub fn filled(&mut self, count: usize) {
        if let Some(large) = &mut self.large {
            return large.filled(count);
        }
        self.end = self.end.saturating_add(count).min(self.buffer.len());
        if let State::Skipping { len, left } = self.state {
            self.skip(len, left);
        }
    }

    /// Copies `bytes` in: for callers that do not read into [`space`](Self::space) themselves.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let count = space.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            if let Some(space) = space.get_mut(..count) {
                space.copy_from_slice(now);
            }
            self.filled(count);
            bytes = later;
        }
    }

    /// The next frame, or `None` until more bytes arrive. After an error it gives that error for ever.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<FrameEvent<'_>>, FrameError> {
        match self.state {
            State::Collecting => self.next_collected(),
            _ => self.next_elsewhere(),
        }
    }

    /// The next frame of a stream that is anything but frames to be kept.
    #[cold]
    #[inline(never)]
    fn next_elsewhere(&mut self) -> Result<Option<FrameEvent<'_>>, FrameError> {
        match self.state {
            State::Collecting | State::Skipping { .. } => Ok(None),
            State::Broken(quote) => Err(FrameError::Desync { quote }),
            State::InLines | State::SkippingLine(_) => self.next_line(),
            State::Recognising => match lines::recognise(self.arrived()) {
                Recognised::NotYet => Ok(None),
                Recognised::Other => {
                    self.state = State::Collecting;
                    self.next_collected()
                }
                Recognised::Lines => {
                    self.state = State::InLines;
                    self.next_line()
                }
            },
        }
    }

    #[inline]
    fn next_collected(&mut self) -> Result<Option<FrameEvent<'_>>, FrameError> {
        if self.large.is_some() {
            return Ok(self.lend_large());
        }
        let arrived = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((len, _)) = arrived.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*len);
        if !(FRAME_LEN_MIN..=FRAME_LEN_CEILING).contains(&len) {
            let quote = Quote::new(arrived);
            self.state = State::Broken(quote);
            return Err(FrameError::Desync { quote });
        }
        let Some((header, rest)) = arrived.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let [_, _, _, _, id @ ..] = *header;
        let id = u32::from_be_bytes(id);
        let body_len = (len as usize).saturating_sub(4);
        if len > self.max_frame {
            return Ok(self.too_large(id, len, body_len));
        }
        if rest.len() < body_len {
            if body_len >= LARGE_BYTES_MIN {
                self.begin_large(id, body_len);
            }
            return Ok(None);
        }
        self.peeks = false;
        let body_start = self.start.saturating_add(FRAME_HEADER_BYTES);
        self.start = body_start.saturating_add(body_len);
        let body = self.buffer.get(body_start..self.start).unwrap_or_default();
        Ok(Some(FrameEvent::Frame { id, body }))
    }

    /// Whether the stream may end here: an error if it would end inside a frame. Ask when
    /// [`next_frame`](Self::next_frame) has given `None`; a whole frame not yet taken counts as one cut off.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.state {
            State::Collecting => {}
            State::Skipping { len, left } => {
                let want = u64::from(len).saturating_add(4);
                return Err(FrameError::Truncated { want, got: want.saturating_sub(left) });
            }
            State::Broken(quote) => return Err(FrameError::Desync { quote }),
            State::Recognising | State::InLines | State::SkippingLine(_) => return self.finish_line(),
        }
        if let Some(large) = &self.large {
            return Err(FrameError::Truncated { want: large.frame_bytes(), got: large.arrived() });
        }
        let arrived = self.buffer.get(self.start..self.end).unwrap_or_default();
        if arrived.is_empty() {
            return Ok(());
        }
        let want = arrived.split_first_chunk::<4>().map_or(FRAME_HEADER_BYTES as u64, |(len, _)| {
            u64::from(u32::from_be_bytes(*len)).saturating_add(4)
        });
        Err(FrameError::Truncated { want, got: arrived.len() as u64 })
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.start == self.end && self.large.is_none()
    }

    /// Exchanges the buffer of an empty splitter with `spare`, so that many connections share one buffer while none of them
    /// is inside a frame, or each only inside a large one. Does nothing while bytes wait.
    pub fn swap_buffer(&mut self, spare: &mut Vec<u8>) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            std::mem::swap(&mut self.buffer, spare);
        }
    }

    /// The first bytes that wait, for an error text.
    pub fn quote(&self) -> Quote {
        Quote::new(self.arrived())
    }

    fn arrived(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// A large frame begins in the buffer, and ends elsewhere.
    fn begin_large(&mut self, id: u32, body_len: usize) {
        if let Some(lent) = self.lent.take() {
            self.reuse(lent);
        }
        let mut large = Large::new(id, body_len, std::mem::take(&mut self.spare));
        let begin = self.start.saturating_add(FRAME_HEADER_BYTES);
        let mut arrived = self.buffer.get(begin..self.end).unwrap_or_default();
        while !arrived.is_empty() {
            let rest = large.rest();
            let (now, later) =
                arrived.split_at(arrived.len().min(rest.capacity().saturating_sub(rest.len())));
            rest.extend_from_slice(now);
            arrived = later;
        }
        self.large = Some(large);
        self.start = self.end;
        self.peeks = true;
    }

    fn lend_large(&mut self) -> Option<FrameEvent<'_>> {
        let (id, body) = self.take_large()?;
        Some(FrameEvent::Frame { id, body: self.lent.insert(body) })
    }

    fn too_large(&mut self, id: u32, len: u32, body_len: usize) -> Option<FrameEvent<'_>> {
        let head_len = body_len.min(HEAD_BYTES_MAX);
        let head_start = self.start.saturating_add(FRAME_HEADER_BYTES);
        let head_end = head_start.saturating_add(head_len);
        if head_end > self.end {
            return None;
        }
        self.start = head_start;
        let before = self.end;
        self.skip(len, body_len as u64);
        // The head's bytes still stand in the buffer: skipping only moves the marks.
        debug_assert!(head_end <= before);
        Some(FrameEvent::TooLarge {
            id,
            len,
            head: self.buffer.get(head_start..head_end).unwrap_or_default(),
        })
    }

    fn skip(&mut self, len: u32, left: u64) {
        let waiting = self.end.saturating_sub(self.start) as u64;
        let now = waiting.min(left);
        self.start = self.start.saturating_add(usize::try_from(now).unwrap_or(usize::MAX)).min(self.end);
        let left = left.saturating_sub(now);
        self.state = if left == 0 { State::Collecting } else { State::Skipping { len, left } };
    }
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
