//! The background thread: it drives the engine when no caller does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::Shared;
use super::lease::{BACKGROUND, CALLER, NOBODY};

/// The background thread takes the lease back when no caller has had it for this long.
const UNUSED: Duration = Duration::from_millis(5);

impl Shared {
    /// Makes sure that somebody drives although nobody waits: for futures.
    pub(crate) fn drive_in_background(&self) {
        if self.holder.load(Ordering::SeqCst) == NOBODY && !self.urgent.swap(true, Ordering::SeqCst) {
            self.unpark_background();
        }
    }

    pub(super) fn unpark_background(&self) {
        if let Some(background) = self.background.get() {
            background.unpark();
        }
    }

    pub(super) fn is_background_unwanted(&self) -> bool {
        self.waiting_count.load(Ordering::SeqCst) > 0 || self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn run_in_background(self: Arc<Self>) {
        loop {
            self.stand_by();
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // A panic in a user's waker was told by the panic hook. It must not end this thread: nobody else would drive for
            // futures.
            let _ = catch_unwind(AssertUnwindSafe(|| self.drive_unattended()));
            self.pass_on();
        }
    }

    /// Drives until a caller comes.
    fn drive_unattended(self: &Arc<Self>) {
        self.urgent.store(false, Ordering::SeqCst);
        while !self.is_background_unwanted() {
            let turned = self.turn_once(BACKGROUND, |engine| {
                while !self.is_background_unwanted() && !self.has_errands(engine) {
                    engine.turn(self, None);
                }
            });
            if turned.is_none() {
                break;
            }
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
