//! The output as two threads share it: whole frames, in order. What a handler says besides its answer may be held back for a
//! moment, so that a burst costs one write; whoever writes next writes it first, and the monitor does so in time. Answers that
//! wait on the shelf go before whatever is said after them; so do results of the batch in hand, as an ITEM of their own.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{ChildVoice, copy, write_result_list};

use crate::shelf::{Lying, Shelf};

/// Items that follow each other faster wait for each other, for so long at most: about what a wake-up costs on a busy machine.
const HELD_FOR: Duration = Duration::from_millis(1);

/// Held bytes that are written at once.
const HELD_BYTES_MAX: usize = 16 * 1024;

/// Between two PROGRESS of a task: as often as a person can follow, so that a loop may report every round.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// A buffer that grew beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// The output with what is to be written.
pub(crate) struct Outlet {
    sink: Box<dyn Write + Send>,
    /// What was said and not written, and answers that came between. All of it is older than what the shelf still has: before
    /// more is said, that is gathered.
    held: Vec<u8>,
    shelf: Arc<Shelf>,
    /// How many of the shelf's bytes have been gathered.
    gathered: usize,
    /// What lies on the shelf are results of this batch.
    batch: Option<BatchInHand>,
    /// When `held` was begun.
    held_since: Option<Instant>,
    /// When something held was written last.
    written: Option<Instant>,
    /// The latest PROGRESS of the task in hand, if it came too soon after the one before.
    progress: Vec<u8>,
    progress_sent: Option<Instant>,
    /// Somebody looks again in time for what is held.
    pub(crate) attended: bool,
    /// Writing failed, perhaps inside a frame: nothing more can be said.
    failed: Option<(ErrorKind, Option<i32>)>,
}

/// A batch whose inputs are being worked through.
#[derive(Clone, Copy, Debug)]
struct BatchInHand {
    id: u32,
    voice: ChildVoice,
    /// How many results of the list in hand have been gathered.
    given: u32,
}

/// What is to be done for what has been held back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Care {
    /// Nothing.
    None,
    /// Somebody must look again, and has not been told.
    Attend,
}

impl Outlet {
    pub(crate) fn new(sink: Box<dyn Write + Send>, shelf: Arc<Shelf>) -> Self {
        Self {
            sink,
            held: Vec::new(),
            shelf,
            gathered: 0,
            batch: None,
            held_since: None,
            written: None,
            progress: Vec::new(),
            progress_sent: None,
            attended: false,
            failed: None,
        }
    }

    /// Writes all answers, those on the shelf and those behind them; but what has been gathered of them only once. The shelf
    /// is empty then. `rest` is the end of the last answer, if that is large.
    pub(crate) fn write_answers(&mut self, bytes: &[u8], rest: &[u8]) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        self.shelf.clear();
        if !self.held.is_empty() {
            self.flush_held()?;
        }
        self.put([bytes.get(gathered..).unwrap_or_default(), rest])
    }

    /// Takes the answers from the shelf, to be written as soon as anything is. What is said next comes behind them.
    pub(crate) fn gather(&mut self) {
        let Some(batch) = &mut self.batch else {
            self.gathered = self.shelf.copy(self.gathered, &mut self.held).bytes;
            return;
        };
        let mut results = Vec::new();
        let lying = self.shelf.copy(self.gathered, &mut results);
        let count = lying.results.saturating_sub(batch.given);
        let mut list = Vec::new();
        write_result_list(&mut list, count, &results);
        // What is too much for a frame is left to the thread that serves.
        if count > 0 && batch.voice.item(batch.id, &list, &mut self.held).is_ok() {
            (batch.given, self.gathered) = (lying.results, lying.bytes);
        }
    }

    /// From now on results of this batch lie on the shelf, which is empty.
    pub(crate) fn begin_batch(&mut self, id: u32, voice: ChildVoice) {
        self.batch = Some(BatchInHand { id, voice, given: 0 });
    }

    /// The thread that serves goes on with an empty shelf, and answers what was not given from there; what was it is told. With
    /// `end` no results will lie there any more.
    pub(crate) fn take_results(&mut self, end: bool) -> Lying {
        self.shelf.clear();
        let bytes = std::mem::take(&mut self.gathered);
        let results = self.batch.as_mut().map_or(0, |batch| std::mem::take(&mut batch.given));
        if end {
            self.batch = None;
        }
        Lying { bytes, results }
    }

    /// Whether there are answers on the shelf that have not been gathered.
    pub(crate) fn has_answers(&self) -> bool {
        self.shelf.lying().bytes > self.gathered
    }

    /// Writes the answers that wait and what is held, then `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gather();
        if !self.held.is_empty() {
            self.flush_held()?;
        }
        self.put([bytes])
    }

    /// Holds a frame back, which `append` appends, or writes it with all that is held: if it is the first for a while, or if
    /// much is held, or if `hold` is false because nobody would look again.
    pub(crate) fn say<E>(
        &mut self,
        hold: bool,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<io::Result<Care>, E> {
        self.gather();
        append(&mut self.held)?;
        if hold && self.held.len() <= HELD_BYTES_MAX {
            let now = Instant::now();
            let first = self.written.is_none_or(|written| now.saturating_duration_since(written) >= HELD_FOR);
            let since = *self.held_since.get_or_insert(now);
            if !first && now.saturating_duration_since(since) < HELD_FOR {
                return Ok(Ok(self.care()));
            }
            self.written = Some(now);
        }
        Ok(self.flush_held().map(|()| Care::None))
    }

    /// Takes the PROGRESS frame of the task in hand: the first is said at once, one that comes too soon waits, and takes the
    /// place of one that waits already.
    pub(crate) fn progress(&mut self, hold: bool, frame: Vec<u8>) -> io::Result<Care> {
        self.gather();
        let now = Instant::now();
        if self.progress_sent.is_some_and(|sent| now.saturating_duration_since(sent) < PROGRESS_EVERY) {
            self.progress = frame;
            return Ok(if hold { self.care() } else { Care::None });
        }
        self.progress_sent = Some(now);
        self.progress.clear();
        self.held.extend_from_slice(&frame);
        self.flush_held().map(|()| Care::None)
    }

    /// The task in hand is done: its last PROGRESS goes before its answer, and the next task's first need not wait.
    pub(crate) fn end_task(&mut self) {
        self.held.append(&mut self.progress);
        self.progress_sent = None;
    }

    /// Writes what has been held for long enough. Gives the time until it must be asked again, if anything is held.
    pub(crate) fn attend(&mut self, now: Instant) -> io::Result<Option<Duration>> {
        let left = |since: Option<Instant>, limit: Duration| {
            since.map_or(Duration::ZERO, |since| limit.saturating_sub(now.saturating_duration_since(since)))
        };
        if !self.progress.is_empty() && left(self.progress_sent, PROGRESS_EVERY).is_zero() {
            self.held.append(&mut self.progress);
            self.progress_sent = Some(now);
            self.flush_held()?;
        }
        if !self.held.is_empty() && left(self.held_since, HELD_FOR).is_zero() {
            self.written = Some(now);
            self.flush_held()?;
        }
        let held = (!self.held.is_empty()).then(|| left(self.held_since, HELD_FOR));
        let progress = (!self.progress.is_empty()).then(|| left(self.progress_sent, PROGRESS_EVERY));
        let next = held.into_iter().chain(progress).min();
        self.attended = next.is_some();
        Ok(next)
    }

    /// Writes `bytes` in two parts, and calls `between` when the first is out. For crash points only.
    pub(crate) fn write_halves(&mut self, bytes: &[u8], between: impl FnOnce()) -> io::Result<()> {
        self.write(&[])?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.put([first])?;
        between();
        self.put([second])
    }

    fn care(&mut self) -> Care {
        if std::mem::replace(&mut self.attended, true) { Care::None } else { Care::Attend }
    }

    fn flush_held(&mut self) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        self.held_since = None;
        let done = self.put([&held]);
        held.clear();
        held.shrink_to(BUFFER_BYTES_KEPT);
        self.held = held;
        done
    }

    fn put<const N: usize>(&mut self, pieces: [&[u8]; N]) -> io::Result<()> {
        if let Some((kind, code)) = self.failed {
            return Err(code.map_or_else(|| kind.into(), io::Error::from_raw_os_error));
        }
        let mut first = pieces;
        copy::cut(&mut first);
        let count = first.iter().map(|piece| piece.len()).sum();
        let (mut first, mut rest) = (first.map(IoSlice::new), pieces.map(IoSlice::new));
        let mut rest = &mut rest[..];
        IoSlice::advance_slices(&mut rest, count);
        let written = write_all(&mut self.sink, &mut first).and_then(|()| write_all(&mut self.sink, rest));
        written.inspect_err(|error| self.failed = Some((error.kind(), error.raw_os_error())))
    }
}

/// Writes all pieces, together where the sink can.
fn write_all(sink: &mut impl Write, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty ones in front are taken away.
    IoSlice::advance_slices(&mut pieces, 0);
    // One is written faster than one and an empty one behind it.
    let count = pieces.iter().rposition(|piece| !piece.is_empty()).map_or(0, |last| last + 1);
    pieces = pieces.get_mut(..count).unwrap_or_default();
    while !pieces.is_empty() {
        match sink.write_vectored(pieces) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut pieces, count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("held", &self.held.len())
            .field("attended", &self.attended)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps each write.
    #[derive(Clone, Default)]
    struct Tape(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Tape {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Tape {
        fn writes(&self) -> Vec<Vec<u8>> {
            self.0.lock().unwrap().clone()
        }
    }

    fn outlet() -> (Outlet, Tape) {
        let tape = Tape::default();
        (Outlet::new(Box::new(tape.clone()), Arc::default()), tape)
    }

    fn say(outlet: &mut Outlet, hold: bool, byte: u8, count: usize) -> Care {
        let append = |out: &mut Vec<u8>| {
            out.extend(std::iter::repeat_n(byte, count));
            Ok::<(), ()>(())
        };
        outlet.say(hold, append).unwrap().unwrap()
    }

    #[test]
    fn the_first_item_is_written_at_once_and_a_burst_waits_for_somebody_who_is_told_once() {
        let (mut outlet, tape) = outlet();
        assert_eq!(say(&mut outlet, true, 1, 1), Care::None);
        // As if the first had just been written, whatever this machine did meanwhile.
        outlet.written = Some(Instant::now() + Duration::from_secs(9));
        assert_eq!(say(&mut outlet, true, 2, 1), Care::Attend);
        outlet.held_since = Some(Instant::now() + Duration::from_secs(9));
        assert_eq!(say(&mut outlet, true, 3, 1), Care::None);
        assert_eq!(tape.writes(), [[1]]);
        let later = Instant::now() + Duration::from_secs(10);
        assert_eq!(outlet.attend(later).unwrap(), None);
        assert_eq!(tape.writes(), [vec![1], vec![2, 3]]);
        assert!(!outlet.attended);
    }

    #[test]
    fn what_is_held_goes_before_what_is_written() {
        let (mut outlet, tape) = outlet();
        outlet.written = Some(Instant::now() + Duration::from_secs(9));
        say(&mut outlet, true, 2, 1);
        assert!(outlet.attend(Instant::now()).unwrap().is_some_and(|left| left <= HELD_FOR));
        outlet.write(&[3]).unwrap();
        assert_eq!(tape.writes().concat(), [2, 3]);
    }

    #[test]
    fn much_at_a_time_or_nobody_to_look_again_means_a_write() {
        let (mut outlet, tape) = outlet();
        outlet.written = Some(Instant::now() + Duration::from_secs(9));
        assert_eq!(say(&mut outlet, true, 1, HELD_BYTES_MAX + 1), Care::None);
        assert_eq!(say(&mut outlet, false, 2, 1), Care::None);
        assert_eq!(tape.writes().len(), 2);
    }

    #[test]
    fn progress_comes_at_once_then_seldom_and_the_last_one_before_the_answer() {
        let (mut outlet, tape) = outlet();
        for n in 1..=3 {
            outlet.progress_sent = outlet.progress_sent.map(|_| Instant::now() + Duration::from_secs(9));
            outlet.progress(true, vec![n]).unwrap();
        }
        assert_eq!(tape.writes(), [[1]]);
        outlet.end_task();
        outlet.write(&[9]).unwrap();
        assert_eq!(tape.writes().concat(), [1, 3, 9]);
        outlet.progress(true, vec![4]).unwrap();
        assert_eq!(tape.writes().concat(), [1, 3, 9, 4], "another task's first does not wait");
        outlet.progress_sent = Some(Instant::now() + Duration::from_secs(9));
        outlet.progress(true, vec![5]).unwrap();
        outlet.attend(Instant::now() + Duration::from_secs(10)).unwrap();
        assert_eq!(tape.writes().concat(), [1, 3, 9, 4, 5]);
    }

    #[test]
    fn results_of_a_batch_are_given_once_by_whoever_comes_first() {
        // An outlet writes PONGs while a batch is in hand; two results lie there, then three.
        let (mut outlet, tape) = outlet();
        outlet.begin_batch(5, ChildVoice::new(7));
        assert!(outlet.shelf.put(&[0x92, 0xc3, 1, 0x92, 0xc3, 2], 0, 2));
        assert!(outlet.has_answers());
        outlet.write(&[]).unwrap();
        assert!(!outlet.has_answers());
        let item = tape.writes().concat();
        assert!(item.ends_with(&[0x92, 0x92, 0xc3, 1, 0x92, 0xc3, 2]), "a list of two: {item:?}");
        assert!(outlet.shelf.put(&[0x92, 0xc3, 1, 0x92, 0xc3, 2, 0x92, 0xc3, 3], 6, 3));
        assert_eq!(
            outlet.take_results(false),
            Lying { bytes: 6, results: 2 },
            "the third is left to who serves"
        );
        outlet.write(&[]).unwrap();
        assert!(outlet.shelf.put(&[0x92, 0xc3, 4], 0, 1));
        outlet.write(&[]).unwrap();
        assert!(tape.writes().concat().ends_with(&[0x91, 0x92, 0xc3, 4]));
        assert_eq!(outlet.take_results(true), Lying { bytes: 3, results: 1 });
        assert_eq!(outlet.take_results(true), Lying::default());
        assert!(outlet.shelf.put(&[9], 0, 0));
        outlet.write(&[]).unwrap();
        assert!(tape.writes().concat().ends_with(&[0x92, 0xc3, 4, 9]), "answers again");
    }

    #[test]
    fn answers_that_wait_go_between_what_was_said_before_and_after_them_and_only_once() {
        let (mut outlet, tape) = outlet();
        outlet.written = Some(Instant::now() + Duration::from_secs(9));
        outlet.held_since = outlet.written;
        say(&mut outlet, true, 1, 1);
        // The answer of 1 and two more; then another handler begins, and speaks twice.
        assert!(outlet.shelf.put(&[2, 3], 0, 0));
        assert!(outlet.shelf.put(&[2, 3, 4], 2, 0));
        assert!(outlet.has_answers());
        say(&mut outlet, true, 5, 1);
        assert!(!outlet.has_answers());
        outlet.progress_sent = Some(Instant::now() + Duration::from_secs(9));
        outlet.progress(true, vec![6]).unwrap();
        outlet.end_task();
        assert!(tape.writes().is_empty(), "all of it may wait a moment");
        // Its answer waits as well, and the next one says how far it is.
        assert!(outlet.shelf.put(&[2, 3, 4, 7], 3, 0));
        outlet.progress(true, vec![8]).unwrap();
        assert_eq!(tape.writes().concat(), [1, 2, 3, 4, 5, 6, 7, 8]);
        // A PONG comes when everything is written; then the answers that never waited.
        outlet.write(&[9]).unwrap();
        outlet.write_answers(&[2, 3, 4, 7, 10], &[]).unwrap();
        assert_eq!(tape.writes().concat(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert!(outlet.shelf.put(&[11], 0, 0));
        outlet.write(&[12]).unwrap();
        assert_eq!(tape.writes().concat(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn gathered_answers_are_written_by_whoever_attends_and_those_on_the_shelf_are_left() {
        let (mut outlet, tape) = outlet();
        assert!(outlet.shelf.put(&[1, 2], 0, 0));
        assert_eq!(outlet.attend(Instant::now()).unwrap(), None);
        assert!(tape.writes().is_empty() && outlet.has_answers());
        outlet.gather();
        assert_eq!(outlet.attend(Instant::now()).unwrap(), None);
        assert_eq!(tape.writes(), [[1, 2]]);
        outlet.write_answers(&[1, 2, 3], &[]).unwrap();
        assert_eq!(tape.writes(), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn after_a_failed_write_nothing_is_written() {
        struct Broken(Arc<Mutex<u32>>);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                *self.0.lock().unwrap() += 1;
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writes = Arc::new(Mutex::new(0));
        let mut outlet = Outlet::new(Box::new(Broken(Arc::clone(&writes))), Arc::default());
        for _ in 0..3 {
            assert_eq!(outlet.write(&[1]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
        assert_eq!(*writes.lock().unwrap(), 1);
    }
}
