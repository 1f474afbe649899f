//! The input as two threads share it: bytes are read once, looked at once, and kept for the thread that serves, in order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use stokehold_protocol::ChildVoice;

use crate::lookahead::{Lookahead, Sight};
use crate::notes::Notes;

/// Bytes read ahead at most while a handler runs. What stands behind them is seen when it ends. Windows of tiny tasks are far
/// below; a window of giant ones had better wait in the parent.
const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes read ahead at a time: a whole default pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where bytes come from.
pub(crate) trait Source: Read + Send {
    /// Waits for so long at the most. Whether a read would give bytes, the end or an error without waiting.
    fn wait(&self, time: Duration) -> bool;

    /// Reads behind what is in `into`, at most as much as it has capacity for.
    fn read_more(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        into.resize(into.capacity(), 0);
        let read = self.read(into.get_mut(before..).unwrap_or_default());
        into.truncate(before.saturating_add(*read.as_ref().unwrap_or(&0)));
        read
    }
}

/// The input, what was read ahead, and what was seen in it.
pub(crate) struct Intake {
    source: Box<dyn Source>,
    /// Read while a handler ran, and not yet taken.
    ahead: VecDeque<u8>,
    /// The end or an error has come; the thread that serves learns of it behind `ahead`.
    ended: Option<io::Result<()>>,
    lookahead: Lookahead,
    /// Something was seen since this was last set to false.
    pub(crate) seen: bool,
    /// What is to be done before its turn.
    pub(crate) notes: Notes,
    /// DIE with `now` was seen.
    pub(crate) die_now: bool,
    /// How PONGs are addressed.
    pub(crate) voice: ChildVoice,
}

impl Intake {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self {
            source,
            ahead: VecDeque::new(),
            ended: None,
            lookahead: Lookahead::default(),
            seen: false,
            notes: Notes::default(),
            die_now: false,
            voice: ChildVoice::new(1),
        }
    }

    /// Gives what was read ahead, or waits for more. 0 is the end.
    pub(crate) fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if let Some(count) = self.read_kept(|ahead| ahead.read(space)) {
            return count;
        }
        let count = self.source.read(space)?;
        self.pass(space.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// The same behind what is in `into`, at most as much as it has capacity for.
    pub(crate) fn read_more(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        let room = into.capacity().saturating_sub(before);
        let kept = self.read_kept(|ahead| {
            into.extend(ahead.drain(..ahead.len().min(room)));
            Ok(into.len().saturating_sub(before))
        });
        if let Some(count) = kept {
            return count;
        }
        let count = self.source.read_more(into)?;
        self.pass(into.get(before..).unwrap_or_default());
        Ok(count)
    }

    /// Reads what was read ahead, if anything was.
    fn read_kept(
        &mut self,
        read: impl FnOnce(&mut VecDeque<u8>) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        if !self.ahead.is_empty() {
            let count = read(&mut self.ahead);
            if self.ahead.is_empty() {
                self.ahead = VecDeque::new();
            }
            return Some(count);
        }
        let ended = self.ended.as_mut()?;
        Some(std::mem::replace(ended, Ok(())).map(|()| 0))
    }

    /// Whether a read would not wait.
    pub(crate) fn is_ready(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for so long at the most, until a read would not wait.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        !self.ahead.is_empty() || self.ended.is_some() || self.source.wait(time)
    }

    /// Reads ahead what is there, without waiting.
    pub(crate) fn look(&mut self) {
        while self.may_look() && self.source.wait(Duration::ZERO) {
            let mut chunk = vec![0; CHUNK_BYTES];
            match self.source.read(&mut chunk) {
                Ok(0) => self.ended = Some(Ok(())),
                Ok(count) => {
                    chunk.truncate(count);
                    self.pass(&chunk);
                    self.ahead.extend(&chunk);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.ended = Some(Err(error)),
            }
        }
    }

    /// Whether there may be more to read ahead: the input has not ended, and there is room.
    pub(crate) fn may_look(&self) -> bool {
        self.ended.is_none() && self.ahead.len() < AHEAD_BYTES_MAX
    }

    fn pass(&mut self, bytes: &[u8]) {
        let (notes, die_now, seen) = (&mut self.notes, &mut self.die_now, &mut self.seen);
        self.lookahead.pass(bytes, |number, sight| {
            *seen = true;
            match sight {
                Sight::Cancel(id) => notes.add_cancel(number, id),
                Sight::DieNow => *die_now = true,
                Sight::Ping(data) => notes.add_ping(number, data),
            }
        });
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake")
            .field("ahead", &self.ahead.len())
            .field("ended", &self.ended)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}
