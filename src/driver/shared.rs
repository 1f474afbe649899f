//! What the handles of a pool and its threads share, and what handles may ask of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use crossbeam_channel::Receiver;
use stokehold_protocol::SharedTail;
use tracing::Level;

use super::clock::Clock;
use super::gate::{Admission, Bounds, Gate, Mail, Refusal};
use super::lease::NOBODY;
use super::listener::Listener;
use super::lock::lock;
use super::looks::Looks;
use super::observer::Observer;
use super::{Arrivals, ComesAbout, Ended, Engine, Lane, Ticket, remember};
use crate::core::{Body, DeadLetter, Death, Event, Policy, RunBuffers};
use crate::sys;

/// The input of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    /// It is copied.
    Lent(&'a [u8]),
    /// It is so large that it is shared.
    Shared(&'a SharedTail),
}

impl Input<'_> {
    /// How many bytes it has.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Lent(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

/// What the handles of a pool and its threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// This process's id, asked for once.
    pub(super) parent: u32,
    pub(super) gate: Gate,
    pub(super) engine: Mutex<Option<Engine>>,
    pub(super) waker: sys::Waker,
    pub(super) holder: AtomicU8,
    /// The holder waits in the system; it must be woken to see what comes in.
    pub(super) sleeping: AtomicBool,
    /// What a driving caller waits for may have come from another thread.
    pub(super) poked: AtomicBool,
    /// Some worker has nothing to do: a task that comes in should reach it at once.
    pub(super) hungry: AtomicBool,
    /// How often a caller took the lease.
    pub(super) calls: AtomicU64,
    pub(super) waiting: Mutex<Vec<Thread>>,
    pub(super) waiting_count: AtomicUsize,
    pub(super) background: OnceLock<Thread>,
    /// The background thread sleeps until it is woken, because a caller drives for long.
    pub(super) deep: AtomicBool,
    /// The background thread should drive now.
    pub(super) urgent: AtomicBool,
    pub(super) stop: AtomicBool,
    pub(super) over: AtomicBool,
    pub(super) over_wakers: Mutex<Vec<Waker>>,
    pub(super) listener: Listener,
    pub(super) observer: Observer,
    pub(super) clock: Clock,
    /// How often those are looked at who submit one task after the other.
    task_looks: Looks,
    /// The same for jobs of channels.
    job_looks: Looks,
    arrivals: Arc<Arrivals>,
}

impl Shared {
    /// Takes an engine, and starts the background thread.
    pub(crate) fn start(
        engine: Engine,
        bounds: Bounds,
        parent: u32,
        records_events: bool,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let shared = Arc::new(Self {
            parent,
            gate: Gate::new(bounds),
            waker: engine.waker(),
            engine: Mutex::new(Some(engine)),
            holder: AtomicU8::new(NOBODY),
            sleeping: AtomicBool::new(false),
            poked: AtomicBool::new(false),
            hungry: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            waiting: Mutex::default(),
            waiting_count: AtomicUsize::new(0),
            background: OnceLock::new(),
            deep: AtomicBool::new(false),
            urgent: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            over: AtomicBool::new(false),
            over_wakers: Mutex::default(),
            listener: Listener::default(),
            observer: Observer::default(),
            clock: Clock::default(),
            task_looks: Looks::default(),
            job_looks: Looks::default(),
            arrivals: Arc::default(),
        });
        if records_events {
            shared.listener.record();
        }
        if let Some(engine) = lock(&shared.engine).as_mut() {
            engine.begin(&shared);
        }
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("stokehold-engine".to_owned())
            .spawn(move || theirs.run_in_background())?;
        let _ = shared.background.set(thread.thread().clone());
        Ok((shared, thread))
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// This process's id.
    pub(crate) fn parent(&self) -> u32 {
        self.parent
    }

    /// Lets a task in, or says why not. Never blocks. `body` is taken only on success.
    pub(crate) fn submit(
        self: &Arc<Self>,
        body: &mut Body,
        policy: Policy,
        admission: Admission,
        ticket: impl FnOnce(u64) -> Ticket,
    ) -> Result<u64, Refusal> {
        let (number, gathered) = self.gate.submit(body, policy, admission, ticket)?;
        self.nudge(&self.task_looks, gathered, self.task_looks.is_time(gathered));
        Ok(number)
    }

    /// Lets a job of a channel in, or says why not. Never blocks.
    pub(crate) fn submit_job(self: &Arc<Self>, lane: &Arc<Lane>, input: Input<'_>) -> Result<(), Refusal> {
        let gathered = match input {
            Input::Lent(bytes) => self.gate.submit_job(lane, bytes)?,
            Input::Shared(bytes) => self.gate.submit_large_job(lane, bytes)?,
        };
        self.nudge(&self.job_looks, gathered, self.job_looks.is_time(gathered));
        Ok(())
    }

    /// Lets jobs of a channel in, all or none. Never blocks. `jobs` is empty after success.
    pub(crate) fn submit_jobs(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        jobs: &mut RunBuffers,
    ) -> Result<(), Refusal> {
        let gathered = self.gate.submit_jobs(lane, jobs)?;
        self.nudge(&self.job_looks, gathered, true);
        Ok(())
    }

    /// Whether jobs in hand had better be let in than wait for more.
    #[inline]
    pub(crate) fn are_due(&self, jobs: &RunBuffers) -> bool {
        self.job_looks.is_time(jobs.len())
            || jobs.is_full()
            || self.gate.are_many(jobs)
            || self.hungry.load(Ordering::SeqCst) && !self.job_looks.are_worth_waiting_for()
            || self.job_looks.is_overdue(jobs.len())
    }

    /// Blocks until so many tasks of `bytes` together may be let in, or none ever will; false if the deadline passes first.
    pub(crate) fn wait_for_room(
        self: &Arc<Self>,
        tasks: usize,
        bytes: usize,
        admission: Admission,
        deadline: Option<Instant>,
    ) -> bool {
        self.block_until(deadline, ComesAbout::Anywhere, |waker| {
            self.gate.has_room(tasks, bytes, admission, waker)
        })
    }

    /// While it is there, small tasks do not overtake a large one of `bytes`; `None` for a small one.
    pub(crate) fn claim_room(&self, bytes: usize) -> Option<RoomClaim<'_>> {
        self.gate.is_large(bytes).then(|| {
            self.gate.large_begins();
            RoomClaim(&self.gate)
        })
    }

    /// Whether a task of `bytes` would be let in; if not, `waker` is woken when that may have changed.
    pub(crate) fn poll_room(&self, bytes: usize, waker: &Waker) -> bool {
        let room = self.gate.has_room(1, bytes, Admission::Ordinary, Some(waker));
        if !room {
            self.drive_in_background();
        }
        room
    }

    /// Counts a place for a task to come.
    pub(crate) fn reserve(&self) -> Result<(), Refusal> {
        self.gate.reserve()
    }

    /// Gives a place back.
    pub(crate) fn give_back(&self) {
        self.gate.release(1, 0).wake();
    }

    /// A result of so many bytes was taken.
    pub(crate) fn unpark_result(&self, bytes: usize) {
        self.gate.unpark(bytes);
    }

    /// Blocks until some worker is ready or none ever will be; false if the deadline passes first.
    pub(crate) fn wait_for_start(self: &Arc<Self>, deadline: Instant) -> bool {
        self.block_until(Some(deadline), ComesAbout::InTurns, |waker| self.gate.has_started(waker))
    }

    /// How the last worker ended before any was ready.
    pub(crate) fn early_death(&self) -> Option<Arc<Death>> {
        self.gate.early_death()
    }

    /// Whether no task will ever be let in again.
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Has the ends of a channel told when the pool closes.
    pub(crate) fn watch_over(&self, lane: &Arc<Lane>) {
        self.gate.add_lane(lane);
    }

    /// Why no task is let in, if so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.gate.refusal()
    }

    /// No task is let in from now on.
    pub(crate) fn close(&self) {
        self.close_for(Refusal::Closed).into_iter().for_each(Waker::wake);
    }

    /// No task is let in from now on. Gives whom to wake when no lock is held.
    #[must_use]
    pub(super) fn close_for(&self, refusal: Refusal) -> Vec<Waker> {
        let (mut wakers, lanes) = self.gate.close(refusal);
        for lane in lanes.iter().filter_map(Weak::upgrade) {
            wakers.extend(lane.take_watchers().into_wakers());
        }
        wakers
    }

    /// Sends a message to the engine, and has it looked at.
    pub(crate) fn post(&self, mail: Mail) {
        self.gate.post(mail);
        if self.sleeping.load(Ordering::SeqCst) {
            self.waker.wake();
        }
        self.drive_in_background();
    }

    /// Blocks until every worker is gone; false if the deadline passes first. The deadline moves by the time that is lost (see
    /// [`Clock`]), as those of the engine do.
    pub(crate) fn wait_until_over(self: &Arc<Self>, deadline: Instant) -> bool {
        let inside = self.clock.inside(deadline);
        let is_over = |waker: Option<&Waker>| {
            if self.over.load(Ordering::SeqCst) {
                return true;
            }
            if let Some(waker) = waker {
                remember(&mut lock(&self.over_wakers), waker);
            }
            self.over.load(Ordering::SeqCst)
        };
        loop {
            let outside = self.clock.outside(inside);
            if self.block_until(Some(outside), ComesAbout::InTurns, is_over) {
                return true;
            }
            if self.clock.outside(inside) == outside {
                return false;
            }
        }
    }

    /// Ends the background thread, takes the engine out, and gives how its workers ended. Every descriptor is closed after it.
    pub(crate) fn dismantle(&self, background: JoinHandle<()>) -> Vec<Ended> {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        background.thread().unpark();
        // A waker of a user may drop a pool on the background thread itself, which then ends by itself.
        if background.thread().id() != thread::current().id() {
            // A panic there was reported by the panic hook already; the engine is taken down all the same.
            let _ = background.join();
        }
        // Whoever drives leaves: see `drive`.
        let engine = lock(&self.engine).take();
        let endings = engine.as_ref().map_or_else(Vec::new, Engine::endings);
        // Whatever it still holds is answered as closed by being dropped.
        drop(engine);
        self.listener.close();
        self.gate.close_letters();
        self.observer.close();
        endings
    }

    /// A receiver of what happens from now on, or since the start if that was recorded. A later one takes the place of an
    /// earlier one.
    pub(crate) fn listen(&self) -> Receiver<Event> {
        self.listener.listen()
    }

    /// Where tasks that could not be done lie; one that ends at once if none are kept.
    pub(crate) fn dead_letters(&self) -> Receiver<DeadLetter> {
        self.gate.dead_letters()
    }

    /// Who is to be woken for results of streams is gathered there.
    pub(crate) fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }

    /// Tells whoever listens. Runs no user's code.
    pub(super) fn tell(&self, event: Event) {
        self.observer.note(&event);
        self.listener.tell(event);
    }

    /// Whether anybody wants the lines that workers write to stderr.
    pub(super) fn wants_stderr(&self) -> bool {
        self.listener.is_there() || Observer::wants(Level::INFO)
    }

    pub(super) fn set_over(&self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            std::mem::take(&mut *lock(&self.over_wakers)).into_iter().for_each(Waker::wake);
        }
    }
}

/// A large task that waits for room; see [`Shared::claim_room`].
#[derive(Debug)]
pub(crate) struct RoomClaim<'a>(&'a Gate);

impl Drop for RoomClaim<'_> {
    fn drop(&mut self) {
        self.0.large_ends().into_iter().for_each(Waker::wake);
    }
}
