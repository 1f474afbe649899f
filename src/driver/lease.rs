//! Who drives the engine.
//!
//! A thread that blocks in `wait`, `recv` or `submit` drives it itself while it waits: an answer then costs no hop between
//! threads. A background thread drives it when nobody waits. The lease is sticky: having been asked out, the background
//! thread comes back only when no caller has driven for [`UNUSED`], because asking it out at every call costs two context
//! switches each time. A caller that leaves hands the lease to one that still waits.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::Waker;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::caller::Caller;
use super::gate::{Admission, Bounds, Gate, Mail, Refusal};
use super::listener::Listener;
use super::{Ended, Engine, Ticket};
use crate::core::{Event, Policy};
use crate::sys;

/// The background thread takes the lease back when no caller has had it for this long.
const UNUSED: Duration = Duration::from_millis(5);

/// So many tasks may gather before the background thread is asked to look at them when nobody drives.
const UNATTENDED: usize = 64;

/// What the handles of a pool and its threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// This process's id, asked for once.
    parent: u32,
    gate: Gate,
    engine: Mutex<Option<Engine>>,
    waker: sys::Waker,
    holder: AtomicU8,
    /// The holder waits in the system; it must be woken to see what comes in.
    sleeping: AtomicBool,
    /// What a driving caller waits for may have come from another thread.
    poked: AtomicBool,
    /// Some worker has nothing to do: a task that comes in should reach it at once.
    hungry: AtomicBool,
    /// How often a caller took the lease.
    calls: AtomicU64,
    waiting: Mutex<Vec<Thread>>,
    waiting_count: AtomicUsize,
    background: OnceLock<Thread>,
    /// The background thread sleeps until it is woken, because a caller drives for long.
    deep: AtomicBool,
    /// The background thread should drive now.
    urgent: AtomicBool,
    stop: AtomicBool,
    over: AtomicBool,
    over_wakers: Mutex<Vec<Waker>>,
    listener: Listener,
}

/// How what a caller waits for comes about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ComesAbout {
    /// By another thread too.
    Anywhere,
    /// In a turn of the engine only.
    InTurns,
}

const NOBODY: u8 = 0;
const CALLER: u8 = 1;
const BACKGROUND: u8 = 2;

impl Shared {
    /// Takes an engine, and starts the background thread.
    pub(crate) fn start(
        engine: Engine,
        bounds: Bounds,
        parent: u32,
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
        });
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

    // For handles.

    /// This process's id.
    pub(crate) fn parent(&self) -> u32 {
        self.parent
    }

    /// Lets a task in, or says why not. Never blocks. `body` is taken only on success.
    pub(crate) fn submit(
        self: &Arc<Self>,
        body: &mut Vec<u8>,
        policy: Policy,
        admission: Admission,
        ticket: impl FnOnce(u64) -> Ticket,
    ) -> Result<u64, Refusal> {
        let (number, gathered) = self.gate.submit(body, policy, admission, ticket)?;
        self.nudge(gathered);
        Ok(number)
    }

    /// Blocks until a task of `bytes` may be let in, or none ever will; false if the deadline passes first.
    pub(crate) fn wait_for_room(self: &Arc<Self>, bytes: usize, deadline: Option<Instant>) -> bool {
        self.block_until(deadline, ComesAbout::Anywhere, |waker| self.gate.has_room(bytes, waker))
    }

    /// Whether a task of `bytes` would be let in; if not, `waker` is woken when that may have changed.
    pub(crate) fn poll_room(&self, bytes: usize, waker: &Waker) -> bool {
        let room = self.gate.has_room(bytes, Some(waker));
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
        self.gate.release(1, 0);
    }

    /// A result of so many bytes was taken.
    pub(crate) fn unpark_result(&self, bytes: usize) {
        self.gate.unpark(bytes);
    }

    /// Blocks until some worker is ready or none ever will be; false if the deadline passes first.
    pub(crate) fn wait_for_start(self: &Arc<Self>, deadline: Instant) -> bool {
        self.block_until(Some(deadline), ComesAbout::InTurns, |waker| self.gate.has_started(waker))
    }

    /// Whether no task will ever be let in again; if not, `waker` is woken when that changes.
    pub(crate) fn is_closed(&self, waker: Option<&Waker>) -> bool {
        self.gate.is_closed(waker)
    }

    /// Why no task is let in, if so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.gate.refusal()
    }

    /// No task is let in from now on.
    pub(crate) fn close(&self) {
        self.gate.close(Refusal::Closed);
    }

    /// Sends a message to the engine, and has it looked at.
    pub(crate) fn post(&self, mail: Mail) {
        self.gate.post(mail);
        if self.sleeping.load(Ordering::SeqCst) {
            self.waker.wake();
        }
        self.drive_in_background();
    }

    /// Blocks until every worker is gone; false if the deadline passes first.
    pub(crate) fn wait_until_over(self: &Arc<Self>, deadline: Instant) -> bool {
        self.block_until(Some(deadline), ComesAbout::InTurns, |waker| {
            if self.over.load(Ordering::SeqCst) {
                return true;
            }
            if let Some(waker) = waker {
                let mut wakers = lock(&self.over_wakers);
                if !wakers.iter().any(|other| other.will_wake(waker)) {
                    wakers.push(waker.clone());
                }
            }
            self.over.load(Ordering::SeqCst)
        })
    }

    /// Ends the background thread, takes the engine out, and gives how its workers ended. Every descriptor is closed after it.
    pub(crate) fn dismantle(&self, background: JoinHandle<()>) -> Vec<Ended> {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        background.thread().unpark();
        // A panic there was reported by the panic hook already; the engine is taken down all the same.
        let _ = background.join();
        let engine = lock(&self.engine).take();
        let endings = engine.as_ref().map_or_else(Vec::new, Engine::endings);
        // Whatever it still holds is answered as closed by being dropped.
        drop(engine);
        self.listener.close();
        endings
    }

    /// A receiver of what happens from now on. A later one takes the place of an earlier one.
    pub(crate) fn listen(&self) -> Receiver<Event> {
        self.listener.listen()
    }

    /// Makes sure that somebody drives although nobody waits: for futures.
    pub(crate) fn drive_in_background(&self) {
        if self.holder.load(Ordering::SeqCst) == NOBODY && !self.urgent.swap(true, Ordering::SeqCst) {
            self.unpark_background();
        }
    }

    /// Blocks until `ready` says so, driving the engine meanwhile if nobody else does; false if the deadline passes first.
    /// `ready` gets a waker to register when this thread is about to sleep.
    ///
    /// What only a turn of the engine can bring about needs no waker while this thread does the turns.
    pub(crate) fn block_until(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        comes_about: ComesAbout,
        mut ready: impl FnMut(Option<&Waker>) -> bool,
    ) -> bool {
        if ready(None) {
            return true;
        }
        let caller = Caller::of(self);
        let result = match self.drive_if_free(deadline, comes_about, &mut ready, &caller) {
            Some(result) => result,
            None => self.wait_in_line(deadline, comes_about, &mut ready, &caller),
        };
        if self.gate.has_mail() && self.holder.load(Ordering::SeqCst) == NOBODY {
            // It came in while this thread was on its way out, and whoever sent it saw the lease taken.
            self.attend();
        } else {
            self.pass_on();
        }
        result
    }

    // For the engine, called by whoever drives it.

    /// The driver is about to wait for so long; what it may really wait.
    pub(super) fn before_sleep(&self, patience: Option<Duration>) -> Option<Duration> {
        if patience == Some(Duration::ZERO) {
            return patience;
        }
        self.sleeping.store(true, Ordering::SeqCst);
        // A poke is for a caller that drives. One that came too late for it must not keep the background thread awake, which
        // would never take it back.
        let called = match self.holder.load(Ordering::SeqCst) {
            BACKGROUND => self.is_background_unwanted(),
            _ => self.poked.load(Ordering::SeqCst),
        };
        if self.gate.has_mail() || called { Some(Duration::ZERO) } else { patience }
    }

    pub(super) fn after_sleep(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_hungry(&self, hungry: bool) {
        self.hungry.store(hungry, Ordering::SeqCst);
    }

    pub(super) fn set_over(&self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            std::mem::take(&mut *lock(&self.over_wakers)).into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// What the driving caller waits for may be there: it must look before it sleeps, or wake up.
    pub(super) fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    // Inside.

    /// A task came in, `gathered` of them since the engine last looked: see that it gets on its way.
    fn nudge(self: &Arc<Self>, gathered: usize) {
        if self.hungry.load(Ordering::SeqCst) {
            if self.sleeping.load(Ordering::SeqCst) {
                self.hungry.store(false, Ordering::SeqCst);
                self.waker.wake();
            } else if self.holder.load(Ordering::SeqCst) == NOBODY {
                self.attend();
            }
        } else if gathered == UNATTENDED {
            self.drive_in_background();
        }
    }

    /// Sends what came in on its way, if nobody drives.
    fn attend(self: &Arc<Self>) {
        if let Ok(mut engine) = self.engine.try_lock()
            && let Some(engine) = engine.as_mut()
        {
            self.holder.store(CALLER, Ordering::SeqCst);
            self.calls.fetch_add(1, Ordering::Relaxed);
            engine.attend(self);
            self.holder.store(NOBODY, Ordering::SeqCst);
        }
        self.pass_on();
    }

    /// Drives until `ready` or the deadline if the lease is free; `None` if it is not.
    fn drive_if_free(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        comes_about: ComesAbout,
        ready: &mut impl FnMut(Option<&Waker>) -> bool,
        caller: &Caller,
    ) -> Option<bool> {
        let mut engine = match self.engine.try_lock() {
            Ok(engine) => engine,
            Err(TryLockError::Poisoned(poisoned)) => {
                // Somebody panicked while driving: a bug of this crate, reported by the panic hook. Its turn is lost, the
                // engine goes on.
                self.engine.clear_poison();
                poisoned.into_inner()
            }
            Err(TryLockError::WouldBlock) => return None,
        };
        let engine = engine.as_mut()?;
        self.holder.store(CALLER, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let waker = (comes_about == ComesAbout::Anywhere).then(|| caller.waker());
        caller.set_driving(true);
        let result = self.drive(engine, deadline, ready, waker);
        caller.set_driving(false);
        self.holder.store(NOBODY, Ordering::SeqCst);
        Some(result)
    }

    /// Waits while somebody else drives, ready to take the lease over.
    fn wait_in_line(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        comes_about: ComesAbout,
        ready: &mut impl FnMut(Option<&Waker>) -> bool,
        caller: &Caller,
    ) -> bool {
        let thread = thread::current();
        let me = thread.id();
        lock(&self.waiting).push(thread);
        self.waiting_count.fetch_add(1, Ordering::SeqCst);
        let result = loop {
            if let Some(result) = self.drive_if_free(deadline, comes_about, ready, caller) {
                break result;
            }
            if ready(Some(caller.waker())) {
                break true;
            }
            if self.holder.load(Ordering::SeqCst) == BACKGROUND {
                self.waker.wake();
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break ready(None),
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
            if ready(None) {
                break true;
            }
        };
        let mut waiting = lock(&self.waiting);
        if let Some(place) = waiting.iter().position(|thread| thread.id() == me) {
            waiting.remove(place);
        }
        drop(waiting);
        self.waiting_count.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn drive(
        self: &Arc<Self>,
        engine: &mut Engine,
        deadline: Option<Instant>,
        ready: &mut impl FnMut(Option<&Waker>) -> bool,
        waker: Option<&Waker>,
    ) -> bool {
        loop {
            engine.attend(self);
            self.poked.store(false, Ordering::SeqCst);
            if ready(waker) {
                return true;
            }
            let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            engine.turn(self, patience);
            if ready(None) {
                return true;
            }
            if patience == Some(Duration::ZERO) {
                return false;
            }
        }
    }

    /// The lease is free: a caller that waits should take it, else the background thread should watch it.
    fn pass_on(&self) {
        if self.waiting_count.load(Ordering::SeqCst) > 0
            && let Some(next) = lock(&self.waiting).first()
        {
            next.unpark();
        } else if self.deep.swap(false, Ordering::SeqCst) {
            self.unpark_background();
        }
    }

    fn unpark_background(&self) {
        if let Some(background) = self.background.get() {
            background.unpark();
        }
    }

    fn is_background_unwanted(&self) -> bool {
        self.waiting_count.load(Ordering::SeqCst) > 0 || self.stop.load(Ordering::SeqCst)
    }

    fn run_in_background(self: Arc<Self>) {
        loop {
            self.stand_by();
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if let Ok(mut engine) = self.engine.try_lock() {
                let Some(engine) = engine.as_mut() else { return };
                self.holder.store(BACKGROUND, Ordering::SeqCst);
                self.urgent.store(false, Ordering::SeqCst);
                while !self.is_background_unwanted() {
                    engine.turn(&self, None);
                }
                self.holder.store(NOBODY, Ordering::SeqCst);
            }
            self.pass_on();
        }
    }

    /// Waits until the lease has not been used for [`UNUSED`], or is urgently needed.
    fn stand_by(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let calls = self.calls.load(Ordering::Relaxed);
            if self.urgent.swap(false, Ordering::SeqCst) && self.waiting_count.load(Ordering::SeqCst) == 0 {
                return;
            }
            thread::park_timeout(UNUSED);
            if self.holder.load(Ordering::SeqCst) == CALLER {
                self.deep.store(true, Ordering::SeqCst);
                if self.holder.load(Ordering::SeqCst) == CALLER {
                    thread::park();
                }
                self.deep.store(false, Ordering::SeqCst);
            } else if self.waiting_count.load(Ordering::SeqCst) > 0 {
                self.pass_on();
            } else if self.calls.load(Ordering::Relaxed) == calls {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
