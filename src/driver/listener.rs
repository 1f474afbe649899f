//! The one listener to a pool's events. Telling never blocks: a slow listener loses the oldest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::core::Event;

/// Events kept for a listener that is slow.
const EVENTS_KEPT: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listener {
    ends: Mutex<Option<(Sender<Event>, Receiver<Event>)>>,
    is_there: AtomicBool,
    /// The receiver is there and nobody has asked for it.
    unclaimed: AtomicBool,
}

impl Listener {
    /// Keeps what is told from now on for the first who listens.
    pub(super) fn record(&self) {
        let _ = self.listen();
        self.unclaimed.store(true, Ordering::Release);
    }

    /// A receiver of what is told from now on, in place of an earlier one; or the one that has recorded.
    pub(super) fn listen(&self) -> Receiver<Event> {
        if self.unclaimed.swap(false, Ordering::AcqRel)
            && let Some((_, receiver)) = &*self.ends.lock().unwrap_or_else(PoisonError::into_inner)
        {
            return receiver.clone();
        }
        let (sender, receiver) = bounded(EVENTS_KEPT);
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some((sender, receiver.clone()));
        self.is_there.store(true, Ordering::Release);
        receiver
    }

    /// Whether anybody ever listened.
    pub(super) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Acquire)
    }

    /// Tells the listener, if there is one.
    pub(super) fn tell(&self, event: Event) {
        if !self.is_there() {
            return;
        }
        if let Some((sender, receiver)) = &*self.ends.lock().unwrap_or_else(PoisonError::into_inner)
            && let Err(TrySendError::Full(event)) = sender.try_send(event)
        {
            let _ = receiver.try_recv();
            let _ = sender.try_send(event);
        }
    }

    /// Nothing more will be told: the receiver's iteration ends.
    pub(super) fn close(&self) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
