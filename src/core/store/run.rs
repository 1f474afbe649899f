//! Tasks of one source that came one after the other and wait together: their inputs lie in one buffer, and only what is handed
//! out becomes an entry of the table.

use std::sync::Arc;

use stokehold_protocol::SharedTail;

use super::super::Buffer;
use super::super::action::Ticket;
use super::NewTask;

/// Bytes of inputs in one run, at most, but for one input: a slow task of many holds no more than that. As many as one frame takes
/// ([`BATCH_BYTES`](super::BATCH_BYTES)), but for one of some bytes, so that a run of small ones that are not tiny goes as it is.
const RUN_BYTES: usize = 60 * 1024;

/// Inputs in one run, at most.
const RUN_ITEMS: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Run<T> {
    /// Of those that are left.
    ticket: T,
    /// Of the first that is left, for people.
    number: u64,
    buffers: RunBuffers,
    /// How many were taken.
    taken: usize,
}

/// The inputs of a run; emptied, memory to be used again. It is no larger than a pointer, because runs stand in line beside the
/// keys of tasks, and that is memory to be used again as well.
#[derive(Debug, Default)]
pub(crate) struct RunBuffers(Box<Inputs>);

#[derive(Debug, Default)]
struct Inputs {
    /// The inputs, one after the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl RunBuffers {
    /// Adds an input.
    pub(crate) fn push(&mut self, input: &[u8]) {
        self.0.bytes.extend_from_slice(input);
        self.end_input();
    }

    /// Adds an input that `write` appends, unless that fails: then nothing is added.
    #[inline]
    pub(crate) fn try_push<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let bytes = &mut self.0.bytes;
        let before = bytes.len();
        write(bytes).inspect_err(|_| bytes.truncate(before))?;
        self.end_input();
        Ok(())
    }

    /// How many inputs there are.
    pub(crate) fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// How many bytes they have.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.len()
    }

    /// Whether the next input belongs to another run.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= RUN_BYTES || self.len() >= RUN_ITEMS
    }

    /// The same, emptied, with memory for inputs that was in use elsewhere.
    pub(super) fn with_memory(mut self, bytes: Vec<u8>) -> Self {
        self.0.bytes = bytes;
        self.clear();
        // One with a single large input is not to be kept at that size.
        self.0.bytes.shrink_to(2 * RUN_BYTES);
        self
    }

    fn end_input(&mut self) {
        let end = u32::try_from(self.bytes()).unwrap_or(u32::MAX);
        self.0.ends.push(end);
    }
}

impl Buffer for RunBuffers {
    fn clear(&mut self) {
        self.0.bytes.clear();
        self.0.ends.clear();
    }

    fn memory(&self) -> usize {
        let Inputs { bytes, ends } = &*self.0;
        size_of::<Inputs>() + bytes.capacity() + ends.capacity() * size_of::<u32>()
    }
}

/// Some of a run, taken from its front.
#[derive(Debug)]
pub(super) struct Taken<'a, T> {
    pub(super) ticket: T,
    pub(super) number: u64,
    pub(super) count: u32,
    pub(super) inputs: &'a [u8],
    /// None is left behind them.
    pub(super) is_last: bool,
    /// Nothing was taken before them.
    pub(super) is_first: bool,
}

impl<T> Run<T> {
    /// A run that begins with the task of that number. `ticket` is for as many tasks as there are inputs, and for one more with
    /// each that is pushed.
    pub(crate) fn new(ticket: T, number: u64, buffers: RunBuffers) -> Self {
        Self { ticket, number, buffers, taken: 0 }
    }

    /// Of the tasks in it.
    pub(crate) fn ticket(&mut self) -> &mut T {
        &mut self.ticket
    }

    /// Adds an input.
    pub(crate) fn push(&mut self, input: &[u8]) {
        self.buffers.push(input);
    }

    /// Whether the next input belongs to another one.
    pub(crate) fn is_full(&self) -> bool {
        self.buffers.is_full()
    }

    /// How many tasks are left.
    pub(crate) fn left(&self) -> u32 {
        u32::try_from(self.buffers.len() - self.taken).unwrap_or(u32::MAX)
    }

    /// How many bytes the inputs of those have.
    #[cfg(test)]
    pub(super) fn bytes_left(&self) -> usize {
        self.buffers.bytes() - self.end_of(0)
    }

    /// Its memory, emptied.
    pub(super) fn into_buffers(self) -> RunBuffers {
        let mut buffers = self.buffers;
        let bytes = std::mem::take(&mut buffers.0.bytes);
        buffers.with_memory(bytes)
    }

    /// All inputs of one that was taken as a whole, where they lie, and the rest of its memory, emptied.
    pub(super) fn into_inputs(self) -> (SharedTail, RunBuffers) {
        let mut buffers = self.buffers;
        let bytes = std::mem::take(&mut buffers.0.bytes);
        buffers.clear();
        (SharedTail::new(bytes), buffers)
    }

    /// The last input of one that was taken to the end, where it lies.
    pub(super) fn into_last_input(self) -> SharedTail {
        let Inputs { bytes, ends } = *self.buffers.0;
        let start = ends.iter().nth_back(1).map_or(0, |end| *end as usize);
        SharedTail::of(Arc::new(bytes), start)
    }

    /// Where the inputs of the next `count` tasks end.
    fn end_of(&self, count: usize) -> usize {
        let last = (self.taken + count).checked_sub(1).and_then(|last| self.buffers.0.ends.get(last));
        last.map_or(0, |end| *end as usize)
    }
}

impl<T: Ticket> Run<T> {
    /// Takes the first as a task by itself.
    pub(crate) fn take_one(&mut self) -> Option<NewTask<T>> {
        if self.left() == 0 {
            return None;
        }
        let Taken { ticket, number, inputs, .. } = self.take(1, 0);
        let (mut body, weight) = (Vec::new(), inputs.len());
        let source = ticket.source()?;
        let policy = source.policy();
        source.write_one(inputs, &mut body);
        Some(NewTask { ticket, number, body: body.into(), weight, policy })
    }

    /// Takes up to `most` tasks whose inputs have `bytes` together, but at least one.
    pub(super) fn take(&mut self, most: u32, bytes: usize) -> Taken<'_, T> {
        let begin = self.end_of(0);
        let mut count = (most.min(self.left()) as usize).max(1);
        if count > 1 && self.end_of(count) - begin > bytes {
            let ends = self.buffers.0.ends.get(self.taken..self.taken + count).unwrap_or_default();
            count = ends.partition_point(|end| *end as usize - begin <= bytes).max(1);
        }
        let end = self.end_of(count);
        let taken = u32::try_from(count).unwrap_or(u32::MAX);
        let (ticket, number) = (self.ticket.split_front(taken), self.number);
        let is_first = self.taken == 0;
        self.taken += count;
        self.number += u64::from(taken);
        let inputs = self.buffers.0.bytes.get(begin..end).unwrap_or_default();
        let is_last = self.taken == self.buffers.len();
        Taken { ticket, number, count: taken, inputs, is_last, is_first }
    }
}

#[cfg(test)]
mod tests;
