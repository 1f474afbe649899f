//! What the thread that serves, its handler and the monitor share of one connection: the two streams, which task is in hand,
//! and whether it is to stop. It decides nothing about tasks and sees no frame but PONG.
//!
//! The thread that serves pays for all this with two plain stores and two plain loads a task. There is no fence between its
//! store of the turn and its loads, so the monitor may act on a turn that is just over, and the thread that serves may miss
//! what the monitor has just said. Both are made good: what the monitor says names its turn, and everything is looked at again
//! at the monitor's next tick, ages after any store has become visible.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use stokehold_protocol::{ApiMisuse, ChildVoice, Next, Spin};

use crate::intake::{Intake, Source};
use crate::outlet::{Care, Outlet};
use crate::shelf::{Lying, Shelf};
use crate::stream::Wake;
use crate::turn::Turn;

/// A handler that asks whether it is cancelled looks at the input no more often.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a look at the input found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Looked {
    /// More may come: wait for it.
    pub(crate) more: bool,
    /// Something could not be done now: look again soon.
    pub(crate) again: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Line {
    turn: AtomicU64,
    /// How often the thread that serves has read.
    reads: AtomicU64,
    /// The turn that is cancelled.
    stopped: AtomicU64,
    /// DIE with `now` was seen.
    die_now: AtomicBool,
    /// There are notes in the intake.
    noted: AtomicBool,
    /// When a handler looked last, in nanoseconds since `epoch`.
    looked: AtomicU64,
    epoch: Instant,
    /// The monitor is about to sleep until it is woken.
    asleep: AtomicBool,
    /// Wakes the monitor, if there is one.
    wake: Option<Wake>,
    /// The monitor has ended, or never began.
    unattended: AtomicBool,
    intake: Mutex<Intake>,
    outlet: Mutex<Outlet>,
    /// Answers that wait while a handler runs; the outlet takes them from here.
    shelf: Arc<Shelf>,
}

impl Line {
    /// A line over these streams. Without `wake` there is no monitor, and nothing is held back for it.
    pub(crate) fn new(source: Box<dyn Source>, sink: Box<dyn io::Write + Send>, wake: Option<Wake>) -> Self {
        let shelf = Arc::new(Shelf::default());
        Self {
            turn: AtomicU64::new(Turn::NONE.0),
            reads: AtomicU64::new(0),
            stopped: AtomicU64::new(Turn::NONE.0),
            die_now: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            looked: AtomicU64::new(0),
            epoch: Instant::now(),
            asleep: AtomicBool::new(false),
            unattended: AtomicBool::new(wake.is_none()),
            wake,
            intake: Mutex::new(Intake::new(source)),
            outlet: Mutex::new(Outlet::new(sink, Arc::clone(&shelf))),
            shelf,
        }
    }

    // For the thread that serves.

    /// Reads the next bytes, waiting for them. 0 is the end.
    pub(crate) fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        self.read_with(|intake| intake.read(space))
    }

    /// Looks for input without sleeping, for as long as `spin` says. True if this thread had better move to another core.
    pub(crate) fn look_for_input(&self, spin: &mut Spin) -> bool {
        if !spin.begin(Instant::now()) {
            return false;
        }
        let intake = lock(&self.intake);
        loop {
            if intake.is_ready() {
                return spin.found(Instant::now());
            }
            match spin.not_yet(Instant::now()) {
                Next::Look => {}
                Next::Yield => thread::yield_now(),
                Next::Sleep => return false,
            }
        }
    }

    /// Reads the next bytes behind what is in `into`, as much as that has capacity for, waiting for them. 0 is the end.
    pub(crate) fn read_more(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.read_with(|intake| intake.read_more(into))
    }

    fn read_with(&self, read: impl FnOnce(&mut Intake) -> io::Result<usize>) -> io::Result<usize> {
        let mut intake = lock(&self.intake);
        let count = read(&mut intake)?;
        if std::mem::take(&mut intake.seen) {
            self.publish(&intake);
        }
        self.reads.store(self.reads.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        Ok(count)
    }

    /// Waits for input, for so long at the most. Whether there is some.
    pub(crate) fn wait_for_input(&self, time: Duration) -> bool {
        lock(&self.intake).wait(time)
    }

    /// Writes all answers, after all that was said. What was held of them and is written already is not written again. `rest` is
    /// the end of the last answer, if that is large.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8], rest: &[u8]) -> io::Result<()> {
        lock(&self.outlet).write_answers(bytes, rest)
    }

    /// Whether there is a monitor, so that something may be held back.
    #[inline]
    pub(crate) fn is_attended(&self) -> bool {
        !self.unattended.load(Ordering::Relaxed)
    }

    /// Holds answers back while a handler runs: all of `bytes`, of which the first `held` are held already. Whoever speaks
    /// first, or the monitor when the handler takes long, writes them. False if that cannot be done.
    #[inline]
    pub(crate) fn hold(&self, bytes: &[u8], held: usize) -> bool {
        self.is_attended() && self.shelf.put(bytes, held, 0)
    }

    /// A batch begins: its results are held as answers are. All answers before it are written.
    pub(crate) fn begin_batch(&self, id: u32, voice: ChildVoice) {
        lock(&self.outlet).begin_batch(id, voice);
    }

    /// Holds results of the batch in hand while the next handler runs: all of `bytes`, so many, of which the first `held` bytes
    /// are held already. False if that cannot be done.
    #[inline]
    pub(crate) fn hold_results(&self, bytes: &[u8], held: usize, results: u32) -> bool {
        self.is_attended() && self.shelf.put(bytes, held, results)
    }

    /// Ends the list of results that are held, with `end` the batch as well, and gives how many were told of already.
    pub(crate) fn take_results(&self, end: bool) -> Lying {
        lock(&self.outlet).take_results(end)
    }

    /// Whether DIE with `now` has been seen.
    #[inline]
    pub(crate) fn must_drop(&self) -> bool {
        self.die_now.load(Ordering::Acquire)
    }

    /// Whether something was noted about tasks or PINGs whose turn has not come.
    #[inline]
    pub(crate) fn has_notes(&self) -> bool {
        self.noted.load(Ordering::Acquire)
    }

    /// Whether the task `id` in frame `number`, whose turn has come, was cancelled while it waited.
    #[cold]
    pub(crate) fn cancels(&self, number: u64, id: u32) -> bool {
        let mut intake = lock(&self.intake);
        intake.notes.reach(number);
        self.publish(&intake);
        intake.notes.cancels(id)
    }

    /// Whether the PING in frame `number`, whose turn has come, is still to be answered.
    #[cold]
    pub(crate) fn take_ping(&self, number: u64) -> bool {
        let mut intake = lock(&self.intake);
        let take = intake.notes.take_ping(number);
        intake.notes.reach(number);
        self.publish(&intake);
        take
    }

    /// A handler begins. Wakes the monitor if it sleeps: once after every idle while.
    #[inline]
    pub(crate) fn begin(&self, last: Turn, id: u32) -> Turn {
        let turn = last.next(id);
        self.turn.store(turn.0, Ordering::Release);
        if self.asleep.load(Ordering::Relaxed) {
            self.rouse();
        }
        turn
    }

    /// The handler has ended.
    #[inline]
    pub(crate) fn end(&self, turn: Turn) {
        self.turn.store(turn.over().0, Ordering::Release);
    }

    /// All is said about the task in hand but its answer.
    pub(crate) fn end_task(&self) {
        lock(&self.outlet).end_task();
    }

    /// Writes the two halves of a frame, for crash points.
    pub(crate) fn write_halves(&self, bytes: &[u8], between: impl FnOnce()) -> io::Result<()> {
        lock(&self.outlet).write_halves(bytes, between)
    }

    // For a handler.

    /// Whether the handler of `turn` should stop. Looks at the input itself, at most once a millisecond.
    pub(crate) fn is_stopped(&self, turn: Turn) -> bool {
        if self.stopped.load(Ordering::Acquire) == turn.0 || self.must_drop() {
            return true;
        }
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let last = self.looked.load(Ordering::Relaxed);
        let every = LOOK_EVERY.as_nanos();
        if last != 0 && u128::from(now.saturating_sub(last)) < every {
            return false;
        }
        self.looked.store(now.max(1), Ordering::Relaxed);
        self.look();
        self.stopped.load(Ordering::Acquire) == turn.0 || self.must_drop()
    }

    /// Says something about the task in hand: a frame that `append` appends.
    pub(crate) fn say(
        &self,
        hold: bool,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), ApiMisuse>,
    ) -> Result<io::Result<()>, ApiMisuse> {
        let hold = hold && self.is_attended();
        let said = lock(&self.outlet).say(hold, append)?;
        Ok(said.map(|care| self.attend_to(care)))
    }

    /// Says how far the task in hand is.
    pub(crate) fn progress(&self, frame: Vec<u8>) -> io::Result<()> {
        let care = lock(&self.outlet).progress(self.is_attended(), frame)?;
        self.attend_to(care);
        Ok(())
    }

    // For the monitor.

    pub(crate) fn turn(&self) -> Turn {
        Turn(self.turn.load(Ordering::Acquire))
    }

    /// Changes whenever the thread that serves has read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Acquire)
    }

    /// Says whether the monitor is about to sleep until it is woken.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
    }

    /// There is no monitor any more: nothing is held back for it.
    pub(crate) fn set_unattended(&self) {
        self.unattended.store(true, Ordering::Relaxed);
    }

    /// Reads ahead on behalf of the handler that runs, marks it if it is cancelled, and answers PINGs. Waits for no other
    /// thread.
    pub(crate) fn look(&self) -> Looked {
        // The thread that serves may wait for input with the lock in hand; then no handler runs.
        let Some(mut intake) = try_lock(&self.intake) else { return Looked { more: false, again: true } };
        let turn = self.turn();
        if !turn.is_running() {
            return Looked { more: false, again: false };
        }
        intake.look();
        self.publish(&intake);
        if intake.notes.cancels(turn.id()) {
            self.stopped.store(turn.0, Ordering::Release);
        }
        let again = intake.notes.has_ping() && !self.answer_pings(&mut intake);
        Looked { more: intake.may_look(), again }
    }

    /// Writes what has been held back for long enough; with `answers`, answers too. Gives the time until it must be asked
    /// again, answers left aside, and whether answers wait.
    pub(crate) fn attend(&self, answers: bool) -> io::Result<(Option<Duration>, bool)> {
        // This may wait for a write, and then for the parent to read. Meanwhile there is nothing the monitor could do: that
        // write learns of a vanished reader itself.
        let mut outlet = lock(&self.outlet);
        if answers {
            outlet.gather();
        }
        Ok((outlet.attend(Instant::now())?, outlet.has_answers()))
    }

    /// False if somebody else is writing.
    fn answer_pings(&self, intake: &mut Intake) -> bool {
        let Some(mut outlet) = try_lock(&self.outlet) else { return false };
        let mut frames = Vec::new();
        while let Some(data) = intake.notes.next_ping() {
            intake.voice.pong(&data, &mut frames);
        }
        // A connection that is broken is found by whoever writes the next answer.
        let _ = outlet.write(&frames);
        true
    }

    /// How PONGs are addressed.
    pub(crate) fn set_voice(&self, voice: ChildVoice) {
        lock(&self.intake).voice = voice;
    }

    fn publish(&self, intake: &Intake) {
        if intake.die_now {
            self.die_now.store(true, Ordering::Release);
        }
        let noted = !intake.notes.is_empty();
        if noted != self.noted.load(Ordering::Relaxed) {
            self.noted.store(noted, Ordering::Release);
        }
    }

    fn attend_to(&self, care: Care) {
        if care == Care::Attend {
            self.asleep.store(false, Ordering::Relaxed);
            if let Some(wake) = &self.wake {
                wake.wake();
            }
        }
    }

    #[cold]
    fn rouse(&self) {
        if self.asleep.swap(false, Ordering::AcqRel)
            && let Some(wake) = &self.wake
        {
            wake.wake();
        }
    }
}

/// No code of a user runs under these locks, and what they guard is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
