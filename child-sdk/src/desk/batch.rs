//! Many inputs in one frame: the handler runs once for each, and the results are answered together. What takes longer than was
//! to be expected of a batch is answered in parts, so that one long input does not hold up the results before it: by this thread
//! when the long one is done, by the monitor while it runs.

use std::time::{Duration, Instant};

use stokehold_protocol::limits::FRAME_HEADER_BYTES;
use stokehold_protocol::{Failure as WireFailure, ResultList, Values, code, write_result_list};

use super::stride::Stride;
use super::{After, Desk};
use crate::outbox::empty;
use crate::probe::{Point, Probe};
use crate::stop::Stop;
use crate::{failure, panics};

/// Results that waited for so long are given. Batches are made to be done sooner; then they are one answer.
const AGE_MAX: Duration = Duration::from_millis(2);

/// Bytes of results that are given without waiting for more: a whole default pipe.
const PART_BYTES: usize = 64 * 1024;

/// Between two looks at the clock: much less than what results may wait, much more than a look costs.
pub(super) const STRIDE: Stride = Stride::new(Duration::from_micros(50), 64);

/// Bytes around a value in a frame of its own: header, head of the message, list and result.
const AROUND_BYTES: usize = FRAME_HEADER_BYTES + 64;

impl<S, P: Probe> Desk<'_, '_, S, P> {
    /// Runs every input of a batch, and answers it.
    pub(super) fn run_batch(&mut self, id: u32, request: &str, items: &Values<'_>) -> Result<After, Stop> {
        let Some(index) = self.entries.iter().position(|entry| entry.name == request) else {
            self.refuse_unknown(id, request)?;
            return Ok(After::GoOn);
        };
        if self.out.line.has_notes() && self.out.line.cancels(self.frames, id) {
            self.refuse_cancelled(id)?;
            return Ok(After::GoOn);
        }
        // Nothing is held back across a batch: what it is to blame for is then exact.
        self.write_out()?;
        if self.tells_starts {
            self.tell_start(id)?;
        }
        self.now = Instant::now();
        if let Some(entry) = self.entries.get(index) {
            self.context.begin_batch(entry.name, id);
        }
        let mut items = *items;
        let mut results = std::mem::take(&mut self.scratch);
        let mut list = ResultList::begin(items.left(), &mut results);
        // How many bytes of the results the monitor can get at.
        let mut held = 0;
        self.out.line.begin_batch(id, self.session.voice());
        let mut since = self.now;
        let broken = loop {
            let item = match items.next_value() {
                Ok(Some(item)) => item,
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            if self.out.line.must_drop() {
                return Ok(After::Drop);
            }
            let done = list.results(&results);
            if !done.is_empty() && self.out.line.hold_results(done, held, list.count()) {
                held = done.len();
            }
            self.run_input(index, id, item, &mut list, &mut results);
            if self.batch_stride.step() || results.len() > PART_BYTES {
                let now = Instant::now();
                self.batch_stride.looked(now.saturating_duration_since(self.now));
                self.now = now;
                let is_due = now.saturating_duration_since(since) > AGE_MAX || results.len() > PART_BYTES;
                if is_due && items.left() > 0 {
                    self.give_part(id, &list, &results, false)?;
                    self.out.flush()?;
                    results.clear();
                    list = ResultList::begin(items.left(), &mut results);
                    held = 0;
                    since = now;
                }
            }
        };
        if let Some(error) = broken {
            // What was done is told all the same.
            self.give_part(id, &list, &results, true)?;
            let refusal = failure::not_begun(code::BAD_DATA, format!("the batch breaks off: {error}"));
            self.session.failed(id, &refusal, &mut self.out.bytes)?;
        } else {
            let (count, rest) = self.not_given(&list, &results, true);
            self.session.finished(id, &mut self.out.bytes, |out| write_result_list(out, count, rest))?;
        }
        empty(&mut results);
        self.scratch = results;
        self.out.flush()?;
        Ok(After::GoOn)
    }

    /// The results of a list that the monitor has not given: how many, and their bytes. It gives none of them from now on; with
    /// `end` the batch is over.
    fn not_given<'a>(&self, list: &ResultList, results: &'a [u8], end: bool) -> (u32, &'a [u8]) {
        let given = self.out.line.take_results(end);
        let rest = list.results(results).get(given.bytes..).unwrap_or_default();
        (list.count().saturating_sub(given.results), rest)
    }

    /// Appends an ITEM with those.
    fn give_part(&mut self, id: u32, list: &ResultList, results: &[u8], end: bool) -> Result<(), Stop> {
        let (count, rest) = self.not_given(list, results, end);
        if count > 0 {
            let mut part = Vec::with_capacity(rest.len() + 5);
            write_result_list(&mut part, count, rest);
            self.session.item(id, &part, &mut self.out.bytes)?;
        }
        Ok(())
    }

    /// Runs one input, and adds its result.
    #[inline]
    fn run_input(
        &mut self,
        index: usize,
        id: u32,
        item: &[u8],
        list: &mut ResultList,
        results: &mut Vec<u8>,
    ) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        if self.out.line.has_notes() && self.out.line.cancels(self.frames, id) {
            return list.bad(results, &failure::not_begun(code::CANCELLED, "cancelled before it began"));
        }
        self.tasks = self.tasks.wrapping_add(1);
        self.context.begin_next(self.tasks);
        let (state, context) = (&mut self.state, &mut self.context);
        let max = self.session.peer_max_frame();
        let outcome = list.good(results, |out| {
            let before = out.len();
            let rest = panics::catch(|| (entry.run)(state, item, context, out)).unwrap_or_else(Err)?;
            out.extend_from_slice(rest.as_deref().unwrap_or_default());
            let len = out.len().saturating_sub(before).saturating_add(AROUND_BYTES);
            if u32::try_from(len).is_ok_and(|len| len <= max) {
                return Ok(());
            }
            let message =
                format!("the answer's frame has {len} bytes, the parent takes {max}: raise its max_frame");
            Err(Box::new(WireFailure::new(code::TOO_LARGE, message)))
        });
        self.context.end();
        self.reach(Point::AfterHandler);
        if let Err(failed) = outcome {
            list.bad(results, &failure::within(failed, max));
        }
    }
}
