//! Who drives the engine.
//!
//! A thread that blocks in `wait`, `recv` or `submit` drives it itself while it waits: an answer then costs no hop between
//! threads. A background thread drives it when nobody waits. The lease is sticky: having been asked out, the background
//! thread comes back only when no caller has driven for `UNUSED` (see `background`), because asking it out at every call costs two context
//! switches each time. A caller that leaves hands the lease to one that still waits.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, MutexGuard, TryLockError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::lock::lock;
use super::looks::{LINGER, Looks};
use super::{Engine, Shared};

/// How what a caller waits for comes about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ComesAbout {
    /// By another thread too.
    Anywhere,
    /// In a turn of the engine only.
    InTurns,
}

/// Who holds the lease.
pub(super) const NOBODY: u8 = 0;
pub(super) const CALLER: u8 = 1;
pub(super) const BACKGROUND: u8 = 2;

impl Shared {
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
            _ => self.poked.load(Ordering::SeqCst) || self.stop.load(Ordering::SeqCst),
        };
        if self.gate.has_mail() || called { Some(Duration::ZERO) } else { patience }
    }

    /// Whether a thread of the user drives.
    pub(super) fn is_driven_by_caller(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == CALLER
    }

    /// Whether there is something to do for a caller that drives and is awake.
    pub(super) fn is_called(&self) -> bool {
        self.gate.has_mail() || self.poked.load(Ordering::SeqCst) || self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn after_sleep(&self) {
        self.sleeping.store(false, Ordering::Release);
    }

    pub(super) fn set_hungry(&self, hungry: bool) {
        // Written only when it changes: a store that all threads agree on costs as much as a lock.
        if self.hungry.load(Ordering::Relaxed) != hungry {
            self.hungry.store(hungry, Ordering::SeqCst);
        }
    }

    /// What the driving caller waits for may be there: it must look before it sleeps, or wake up.
    pub(super) fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Work came in, `gathered` tasks since the engine last looked: see that they get on their way. Whether it is time to look at
    /// them is for the sender to say, who knows how many came since that was last so.
    #[inline]
    pub(super) fn nudge(self: &Arc<Self>, looks: &Looks, gathered: usize, is_time: bool) {
        if is_time {
            looks.look();
        }
        let is_hungry = self.hungry.load(Ordering::SeqCst);
        if is_hungry && (is_time || !looks.are_worth_waiting_for()) {
            self.serve_the_hungry();
        } else if is_hungry && gathered == 1 && self.sleeping.load(Ordering::SeqCst) {
            self.waker.wake_in(LINGER);
        } else if is_time && self.holder.load(Ordering::SeqCst) == NOBODY {
            self.glance();
        }
    }

    /// Some worker has nothing to do, and there is something.
    #[cold]
    fn serve_the_hungry(self: &Arc<Self>) {
        if self.sleeping.load(Ordering::SeqCst) {
            self.hungry.store(false, Ordering::SeqCst);
            self.waker.wake();
        } else if self.holder.load(Ordering::SeqCst) == NOBODY {
            self.attend();
        }
    }

    /// Does what there is to do, without waiting, if nobody drives.
    #[cold]
    fn glance(self: &Arc<Self>) {
        self.turn_once(CALLER, |engine| engine.turn(self, Some(Duration::ZERO)));
        self.pass_on();
    }

    /// Sends what came in on its way, if nobody drives.
    fn attend(self: &Arc<Self>) {
        // Again for what came in meanwhile, whose sender saw the lease taken.
        while self.gate.has_mail() && self.turn_once(CALLER, |engine| engine.attend(self)).is_some() {}
        self.pass_on();
    }

    /// Does something with the engine if the lease is free, and then wakes whom it says and tells what happened, with the lease
    /// given back: wakers and observers are user's code, which may do anything, a wait in this pool or its drop included.
    pub(super) fn turn_once<R>(&self, who: u8, turn: impl FnOnce(&mut Engine) -> R) -> Option<R> {
        let mut lease = self.try_lease()?;
        let engine = lease.as_mut()?;
        self.calls.fetch_add(u64::from(who == CALLER), Ordering::Relaxed);
        let held = Held::new(&self.holder, who);
        let result = turn(engine);
        let wakes = engine.take_wakes();
        drop(held);
        drop(lease);
        wakes.wake();
        self.observer.pass_on();
        Some(result)
    }

    /// Whether the lease must be given back soon, because somebody is to be woken or told.
    pub(super) fn has_errands(&self, engine: &Engine) -> bool {
        engine.has_wakes() || self.observer.has_news()
    }

    /// The lease, if it is free and the pool is not being dismantled.
    fn try_lease(&self) -> Option<MutexGuard<'_, Option<Engine>>> {
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        match self.engine.try_lock() {
            Ok(engine) => Some(engine),
            Err(TryLockError::Poisoned(poisoned)) => {
                // Somebody panicked while driving: a bug of this crate, reported by the panic hook. Its turn is lost, the
                // engine goes on.
                self.engine.clear_poison();
                Some(poisoned.into_inner())
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Drives until `ready` or the deadline if the lease is free; `None` if it is not.
    fn drive_if_free(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        comes_about: ComesAbout,
        ready: &mut impl FnMut(Option<&Waker>) -> bool,
        caller: &Caller,
    ) -> Option<bool> {
        loop {
            let waker = (comes_about == ComesAbout::Anywhere).then(|| caller.waker());
            let result = self.turn_once(CALLER, |engine| {
                let _driving = waker.map(|_| caller.drives());
                self.drive(engine, deadline, ready, waker)
            })?;
            if result.is_some() {
                return result;
            }
        }
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

    /// Turns the engine until `ready` or the deadline; `None` if it must stop before, to wake or tell somebody, or to end.
    fn drive(
        self: &Arc<Self>,
        engine: &mut Engine,
        deadline: Option<Instant>,
        ready: &mut impl FnMut(Option<&Waker>) -> bool,
        waker: Option<&Waker>,
    ) -> Option<bool> {
        loop {
            engine.attend(self);
            if self.poked.load(Ordering::SeqCst) {
                self.poked.store(false, Ordering::SeqCst);
            }
            if ready(waker) {
                return Some(true);
            }
            if self.has_errands(engine) || self.stop.load(Ordering::SeqCst) {
                return None;
            }
            let patience = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            engine.turn(self, patience);
            if ready(None) {
                return Some(true);
            }
            if patience == Some(Duration::ZERO) {
                return Some(false);
            }
        }
    }

    /// The lease is free: a caller that waits should take it, else the background thread should watch it.
    pub(super) fn pass_on(&self) {
        if self.waiting_count.load(Ordering::SeqCst) > 0
            && let Some(next) = lock(&self.waiting).first()
        {
            next.unpark();
        } else if self.deep.swap(false, Ordering::SeqCst) {
            self.unpark_background();
        }
    }
}

/// Says who holds the lease for as long as it is there, a panic included.
struct Held<'a>(&'a AtomicU8);

impl<'a> Held<'a> {
    fn new(holder: &'a AtomicU8, who: u8) -> Self {
        holder.store(who, Ordering::SeqCst);
        Self(holder)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(NOBODY, Ordering::SeqCst);
    }
}
