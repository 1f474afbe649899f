//! The gate between the user's threads and the engine: what may come in, and what has come in since the engine last looked.
//!
//! Unanswered tasks are bounded in number and in bytes, and so are the bytes of results that nobody has taken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use stokehold_protocol::SharedTail;

use super::letters::Letters;
use super::wakes::Wakes;
use super::{Handle, Items, Lane, Ticket, remember};
use crate::core::{Body, DeadLetter, Death, NewTask, Policy, Run, RunBuffers, Spare};
use crate::sys;

/// How much may be in a pool at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Unanswered tasks.
    pub(crate) tasks: usize,
    /// Bytes of unanswered tasks; one task is always let in.
    pub(crate) bytes: usize,
    /// Bytes of results that nobody has taken.
    pub(crate) parked_bytes: usize,
    /// Dead letters that nobody has taken, if any are kept.
    pub(crate) dead_letters: Option<usize>,
}

/// Why a task is not let in.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The pool broke.
    Broken(Arc<Death>),
    /// The pool is being shut down.
    Closed,
    /// So many dead letters wait to be taken that no task is let in, which might become another.
    DeadLettersFull,
    /// So many tasks, or bytes of them, are unanswered that no more fit.
    Full,
    /// Nobody is there to take the result: the other end of the channel was dropped.
    NoReceiver,
    /// So many bytes of results wait to be taken that no more fit.
    ResultsFull,
}

/// How a task asks to be let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admission {
    /// In its turn, its result being counted by its channel.
    Channel,
    /// In its turn.
    Ordinary,
    /// On a permit that was counted before.
    Reserved,
}

/// A message to the engine.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Cancel that task, also if a worker does it.
    Cancel(Handle),
    /// End everything now.
    Kill,
    /// Have so many workers from now on, at least and at most.
    Resize(usize, usize),
    /// Finish what was accepted until then, and end.
    Shutdown(Instant),
    /// The spawner's answer.
    Spawned {
        /// For which slot.
        slot: usize,
        /// The process, or why there is none.
        result: Result<sys::Spawned, sys::SpawnError>,
    },
    /// A stream that was full has room again.
    StreamRoom(Arc<Items>),
}

/// Work that was let in.
#[derive(Debug)]
pub(crate) enum NewWork {
    /// Jobs of one channel that came one after the other.
    Run(Run<Ticket>),
    /// A task.
    Task(NewTask<Ticket>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    bounds: Bounds,
    letters: Option<Letters>,
    state: Mutex<State>,
    has_mail: AtomicBool,
    /// No task will ever be let in again.
    closed: AtomicBool,
    parked_bytes: AtomicUsize,
    /// How large the largest of the latest results was; forgotten slowly.
    large: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    work: Vec<NewWork>,
    mail: Vec<Mail>,
    /// Tasks in `work`.
    gathered: usize,
    /// Memory for the next runs.
    run_buffers: Spare<RunBuffers>,
    unanswered: usize,
    unanswered_bytes: usize,
    next_number: u64,
    /// Who waits for room.
    wakers: Vec<Waker>,
    /// Channels, whose ends wait for each other, but not in a pool that is closed.
    lanes: Vec<Weak<Lane>>,
    /// How many large tasks wait for room; small ones do not overtake them for ever.
    large_waiting: usize,
    refusal: Option<Refusal>,
    ready: bool,
    /// How a worker ended before any was ready.
    early_death: Option<Arc<Death>>,
}

impl State {
    /// Jobs are let in. Gives the number of the first and its place in its channel.
    fn count_jobs(&mut self, lane: &Lane, count: u32, bytes: usize) -> (u64, u64) {
        self.unanswered += count as usize;
        self.unanswered_bytes += bytes;
        let number = self.next_number + 1;
        self.next_number += u64::from(count);
        (number, lane.next_index(count))
    }
}

impl Gate {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            letters: bounds.dead_letters.map(Letters::new),
            state: Mutex::default(),
            has_mail: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            parked_bytes: AtomicUsize::new(0),
            large: AtomicUsize::new(0),
        }
    }

    /// Lets a task in and gives its number, or says why not. Never blocks. `body` is taken only on success.
    pub(super) fn submit(
        &self,
        body: &mut Body,
        policy: Policy,
        admission: Admission,
        ticket: impl FnOnce(u64) -> Ticket,
    ) -> Result<(u64, usize), Refusal> {
        let mut state = self.lock();
        if admission != Admission::Reserved {
            self.check(&state, 1, body.len(), admission)?;
            state.unanswered += 1;
        } else if let Some(refusal) = &state.refusal {
            let refusal = refusal.clone();
            state.unanswered = state.unanswered.saturating_sub(1);
            return Err(refusal);
        }
        let weight = body.len();
        state.unanswered_bytes += weight;
        state.next_number += 1;
        let number = state.next_number;
        let task = NewTask { ticket: ticket(number), number, body: std::mem::take(body), weight, policy };
        state.work.push(NewWork::Task(task));
        Ok((number, self.note_mail(&mut state, 1)))
    }

    /// Lets a job of a channel in, or says why not. Never blocks.
    pub(super) fn submit_job(&self, lane: &Arc<Lane>, input: &[u8]) -> Result<usize, Refusal> {
        let mut state = self.lock();
        self.check(&state, 1, input.len(), Admission::Channel)?;
        let (number, index) = state.count_jobs(lane, 1, input.len());
        if let Some(NewWork::Run(run)) = state.work.last_mut()
            && !run.is_full()
            && run.ticket().extend(lane, index, number)
        {
            run.push(input);
        } else {
            let mut buffers = state.run_buffers.pop().unwrap_or_default();
            buffers.push(input);
            let ticket = Ticket::to_lane(number, Arc::clone(lane), index, 1);
            state.work.push(NewWork::Run(Run::new(ticket, number, buffers)));
        }
        Ok(self.note_mail(&mut state, 1))
    }

    /// The same for a job whose input is so large that it is shared.
    pub(super) fn submit_large_job(&self, lane: &Arc<Lane>, input: &SharedTail) -> Result<usize, Refusal> {
        let weight = input.len();
        let mut state = self.lock();
        self.check(&state, 1, weight, Admission::Channel)?;
        let (number, index) = state.count_jobs(lane, 1, weight);
        let ticket = Ticket::to_lane(number, Arc::clone(lane), index, 1);
        let mut head = Vec::new();
        lane.source().write_one(&[], &mut head);
        let body = Body::with_rest(head, input.clone());
        let policy = lane.source().policy();
        state.work.push(NewWork::Task(NewTask { ticket, number, body, weight, policy }));
        Ok(self.note_mail(&mut state, 1))
    }

    /// Lets jobs of a channel in, all or none. Never blocks. `jobs` is empty after success.
    pub(super) fn submit_jobs(&self, lane: &Arc<Lane>, jobs: &mut RunBuffers) -> Result<usize, Refusal> {
        let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        let mut state = self.lock();
        self.check(&state, jobs.len(), jobs.bytes(), Admission::Channel)?;
        let (number, index) = state.count_jobs(lane, count, jobs.bytes());
        let buffers = std::mem::replace(jobs, state.run_buffers.pop().unwrap_or_default());
        let ticket = Ticket::to_lane(number, Arc::clone(lane), index, count);
        state.work.push(NewWork::Run(Run::new(ticket, number, buffers)));
        Ok(self.note_mail(&mut state, count as usize))
    }

    /// A task came in; gives how many did since the engine last looked. Whoever looks before the lock is given back looks again
    /// after, so that what was said before need not be said again.
    fn note_mail(&self, state: &mut State, tasks: usize) -> usize {
        if !self.has_mail.load(Ordering::Relaxed) {
            self.has_mail.store(true, Ordering::SeqCst);
        }
        state.gathered += tasks;
        state.gathered
    }

    /// Whether so many tasks of `bytes` together would be let in; if not, `waker` is woken when that may have changed.
    pub(super) fn has_room(
        &self,
        tasks: usize,
        bytes: usize,
        admission: Admission,
        waker: Option<&Waker>,
    ) -> bool {
        let mut state = self.lock();
        if !matches!(self.check(&state, tasks, bytes, admission), Err(Refusal::Full)) {
            return true;
        }
        if let Some(waker) = waker {
            remember(&mut state.wakers, waker);
        }
        false
    }

    /// Counts a place for a task to come.
    pub(super) fn reserve(&self) -> Result<(), Refusal> {
        let mut state = self.lock();
        self.check(&state, 1, 0, Admission::Ordinary)?;
        state.unanswered += 1;
        Ok(())
    }

    /// Answered tasks, or permits given back, make room. Gives whom to wake when no lock is held.
    #[must_use]
    pub(super) fn release(&self, tasks: usize, bytes: usize) -> Wakes {
        let mut state = self.lock();
        state.unanswered = state.unanswered.saturating_sub(tasks);
        state.unanswered_bytes = state.unanswered_bytes.saturating_sub(bytes);
        Wakes::take(&mut state.wakers)
    }

    /// Whether jobs in hand are so many, or so large together, that they might not be let in with more.
    pub(super) fn are_many(&self, jobs: &RunBuffers) -> bool {
        jobs.len() >= self.bounds.tasks / 4 || jobs.bytes() >= self.bounds.bytes / 4
    }

    /// Whether a task of so many bytes is a large one, which others might overtake for ever.
    pub(super) fn is_large(&self, bytes: usize) -> bool {
        bytes > self.bounds.bytes / 4
    }

    /// A large task begins to wait for room.
    pub(super) fn large_begins(&self) {
        self.lock().large_waiting += 1;
    }

    /// A large task waits no more. Gives whom to wake.
    #[must_use]
    pub(super) fn large_ends(&self) -> Vec<Waker> {
        let mut state = self.lock();
        state.large_waiting = state.large_waiting.saturating_sub(1);
        std::mem::take(&mut state.wakers)
    }

    /// A message to the engine.
    pub(super) fn post(&self, mail: Mail) {
        self.lock().mail.push(mail);
        self.has_mail.store(true, Ordering::SeqCst);
    }

    /// Everything that came in. Memory for the next runs is left for it.
    pub(super) fn collect(
        &self,
        work: &mut Vec<NewWork>,
        mail: &mut Vec<Mail>,
        buffers: &mut Spare<RunBuffers>,
    ) {
        let mut state = self.lock();
        self.has_mail.store(false, Ordering::SeqCst);
        std::mem::swap(&mut state.work, work);
        std::mem::swap(&mut state.mail, mail);
        state.gathered = 0;
        state.run_buffers.take_from(buffers);
    }

    /// Whether something came in.
    pub(super) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::SeqCst)
    }

    /// No task is let in from now on; the first reason stays. Gives whom to wake and what to tell when no lock is held.
    #[must_use]
    pub(super) fn close(&self, refusal: Refusal) -> (Vec<Waker>, Vec<Weak<Lane>>) {
        let mut state = self.lock();
        state.refusal.get_or_insert(refusal);
        self.closed.store(true, Ordering::SeqCst);
        (std::mem::take(&mut state.wakers), std::mem::take(&mut state.lanes))
    }

    /// Whether no task will ever be let in again.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Has the ends of a channel told when the pool closes.
    pub(super) fn add_lane(&self, lane: &Arc<Lane>) {
        let mut state = self.lock();
        if state.lanes.len() == state.lanes.capacity() {
            state.lanes.retain(|lane| lane.strong_count() > 0);
        }
        state.lanes.push(Arc::downgrade(lane));
    }

    /// Why no task is let in, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.lock().refusal.clone()
    }

    /// A worker died. As long as none was ready, it says why.
    pub(super) fn note_death(&self, death: &Arc<Death>) {
        let mut state = self.lock();
        if !state.ready {
            state.early_death = Some(Arc::clone(death));
        }
    }

    /// How the last worker ended before any was ready.
    pub(super) fn early_death(&self) -> Option<Arc<Death>> {
        self.lock().early_death.clone()
    }

    /// Some worker can take tasks. Gives whom to wake when no lock is held.
    #[must_use]
    pub(super) fn set_ready(&self) -> Vec<Waker> {
        let mut state = self.lock();
        state.ready = true;
        std::mem::take(&mut state.wakers)
    }

    /// Whether some worker was able to take tasks, or none ever will; if neither, `waker` is woken when that changes.
    pub(super) fn has_started(&self, waker: Option<&Waker>) -> bool {
        let mut state = self.lock();
        if state.ready || state.refusal.is_some() {
            return true;
        }
        if let Some(waker) = waker {
            remember(&mut state.wakers, waker);
        }
        false
    }

    /// A result waits to be taken.
    pub(super) fn park(&self, bytes: usize) {
        self.parked_bytes.fetch_add(bytes, Ordering::Relaxed);
        let large = self.large.load(Ordering::Relaxed);
        self.large.store(bytes.max(large - large / 64), Ordering::Relaxed);
    }

    /// A result was taken.
    pub(super) fn unpark(&self, bytes: usize) {
        self.parked_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Keeps a task that could not be done.
    pub(super) fn bury(&self, letter: DeadLetter) {
        if let Some(letters) = &self.letters {
            letters.bury(letter);
        }
    }

    /// Where dead letters come out; one that ends at once if none are kept.
    pub(super) fn dead_letters(&self) -> Receiver<DeadLetter> {
        self.letters.as_ref().map_or_else(|| bounded(0).1, Letters::receiver)
    }

    /// No more letters will come.
    pub(super) fn close_letters(&self) {
        if let Some(letters) = &self.letters {
            letters.close();
        }
    }

    /// Whether so many more tasks of `bytes` together fit.
    fn check(&self, state: &State, tasks: usize, bytes: usize, admission: Admission) -> Result<(), Refusal> {
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        if self.letters.as_ref().is_some_and(Letters::is_full) {
            return Err(Refusal::DeadLettersFull);
        }
        // One always fits, however large.
        let is_first = state.unanswered == 0;
        let mut fits = is_first
            || state.unanswered.saturating_add(tasks) <= self.bounds.tasks
                && state.unanswered_bytes.saturating_add(bytes) <= self.bounds.bytes
                && (state.large_waiting == 0 || self.is_large(bytes));
        if admission == Admission::Ordinary {
            let parked = self.parked_bytes.load(Ordering::Relaxed);
            if parked > self.bounds.parked_bytes {
                return Err(Refusal::ResultsFull);
            }
            // What is unanswered will be parked too, and is taken to be as large as the latest results were.
            let to_come = state.unanswered.saturating_mul(self.large.load(Ordering::Relaxed));
            fits &= is_first || parked.saturating_add(to_come) <= self.bounds.parked_bytes;
        }
        if fits { Ok(()) } else { Err(Refusal::Full) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Source, TaskError, TaskErrorKind};
    use crate::driver::Cell;

    fn submit(gate: &Gate) -> Result<(u64, usize), Refusal> {
        gate.submit(&mut Body::from(vec![0; 8]), Policy::default(), Admission::Ordinary, |number| {
            Ticket::to_handle(number, Handle::Task(Arc::new(Cell::new())))
        })
    }

    #[test]
    fn dead_letters_that_nobody_takes_let_no_task_in() {
        let gate = Gate::new(Bounds { tasks: 2, bytes: 100, parked_bytes: 100, dead_letters: Some(1) });
        assert!(submit(&gate).is_ok());
        let error = Arc::new(TaskError::new(TaskErrorKind::Dead, 1, ""));
        gate.bury(DeadLetter { task: 1, body: Vec::new(), policy: Policy::default(), error });
        assert!(matches!(submit(&gate), Err(Refusal::DeadLettersFull)));
        assert!(matches!(gate.reserve(), Err(Refusal::DeadLettersFull)));
        assert!(
            gate.has_room(1, 8, Admission::Ordinary, None),
            "who waits for room is to be told, not to wait on"
        );
        assert_eq!(gate.dead_letters().try_recv().map(|letter| letter.task), Ok(1));
        assert!(submit(&gate).is_ok());
    }

    #[test]
    fn a_pool_without_dead_letters_has_a_receiver_that_ends_at_once() {
        let gate = Gate::new(Bounds { tasks: 2, bytes: 100, parked_bytes: 100, dead_letters: None });
        assert_eq!(gate.dead_letters().iter().count(), 0);
    }

    fn lane() -> Arc<Lane> {
        Arc::new(Lane::new(Source::new("work", 7, Policy::default())))
    }

    /// What came in: how many jobs each run has, 0 for a task.
    fn collect(gate: &Gate) -> Vec<u32> {
        let (mut work, mut mail) = (Vec::new(), Vec::new());
        gate.collect(&mut work, &mut mail, &mut Spare::default());
        let lens = work.iter().map(|work| match work {
            NewWork::Run(run) => run.left(),
            NewWork::Task(_) => 0,
        });
        lens.collect()
    }

    #[test]
    fn jobs_that_follow_each_other_come_as_one_run() {
        let bounds = Bounds { tasks: 10_000, bytes: 1 << 20, parked_bytes: 100, dead_letters: None };
        let (gate, lane, other) = (Gate::new(bounds), lane(), lane());
        let gathered: Vec<usize> = (0..3).filter_map(|_| gate.submit_job(&lane, b"\x01").ok()).collect();
        assert_eq!(gathered, [1, 2, 3]);
        assert_eq!(collect(&gate), [3]);
        for to in [&lane, &lane, &other, &lane] {
            assert!(gate.submit_job(to, b"\x01").is_ok());
        }
        assert!(submit(&gate).is_ok());
        // Its place is taken by something that is never sent.
        assert!(gate.submit_job(&lane, b"\x01").is_ok());
        lane.next_index(1);
        assert!(gate.submit_job(&lane, b"\x01").is_ok());
        assert_eq!(collect(&gate), [2, 1, 1, 0, 1, 1]);
        (0..5_000).for_each(|_| drop(gate.submit_job(&lane, b"\x01")));
        assert_eq!(collect(&gate), [4_096, 904], "a run has an end");
    }

    #[test]
    fn a_job_that_is_not_let_in_takes_no_place() {
        let bounds = Bounds { tasks: 2, bytes: 100, parked_bytes: 100, dead_letters: None };
        let (gate, lane) = (Gate::new(bounds), lane());
        assert!(gate.submit_job(&lane, b"\x01").is_ok() && gate.submit_job(&lane, b"\x01").is_ok());
        assert!(matches!(gate.submit_job(&lane, b"\x01"), Err(Refusal::Full)));
        assert_eq!(lane.sent(), 2);
        assert_eq!(gate.release(1, 1).into_wakers().count(), 0);
        assert!(matches!(gate.submit_job(&lane, &[0xc0; 100]), Err(Refusal::Full)), "by its bytes");
        assert!(gate.submit_job(&lane, b"\x01").is_ok());
        assert_eq!((lane.sent(), collect(&gate)), (3, vec![3]));
    }
}
