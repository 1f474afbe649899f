//! The one listener to a pool's events. Telling never blocks: a slow listener loses the oldest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::core::Event;

/// Events kept for a listener that is slow.
pub(super) const EVENTS_KEPT: usize = 4_096;

/// Bytes of text in them: a worker may say 64 KiB at a time for the log.
pub(super) const TEXT_BYTES_KEPT: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listener {
    ends: Mutex<Option<Ends>>,
    is_there: AtomicBool,
    /// The receiver is there and nobody has asked for it.
    unclaimed: AtomicBool,
}

#[derive(Debug)]
struct Ends {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    /// How many bytes of text each of the events in the channel has; those at the front may have been received meanwhile.
    weights: VecDeque<usize>,
    /// Their sum.
    weight: usize,
}

impl Listener {
    /// Keeps what is told from now on for the first who listens.
    pub(super) fn record(&self) {
        let _ = self.listen();
        self.unclaimed.store(true, Ordering::Release);
    }

    /// A receiver of what is told from now on, in place of an earlier one; or the one that has recorded.
    pub(super) fn listen(&self) -> Receiver<Event> {
        let mut ends = self.lock();
        if self.unclaimed.swap(false, Ordering::AcqRel)
            && let Some(ends) = &*ends
        {
            return ends.receiver.clone();
        }
        let (sender, receiver) = bounded(EVENTS_KEPT);
        let theirs = receiver.clone();
        *ends = Some(Ends { sender, receiver, weights: VecDeque::new(), weight: 0 });
        self.is_there.store(true, Ordering::Release);
        theirs
    }

    /// Whether anybody ever listened.
    pub(super) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Acquire)
    }

    /// Tells the listener, if there is one.
    pub(super) fn tell(&self, event: Event) {
        if self.is_there()
            && let Some(ends) = &mut *self.lock()
        {
            ends.send(event);
        }
    }

    /// Nothing more will be told: the receiver's iteration ends.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ends>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    fn send(&mut self, event: Event) {
        let weight = text_bytes(&event);
        while self.weights.len() > self.receiver.len() {
            self.forget_oldest();
        }
        while !self.weights.is_empty() && self.weight + weight > TEXT_BYTES_KEPT {
            let _ = self.receiver.try_recv();
            self.forget_oldest();
        }
        if let Err(TrySendError::Full(event)) = self.sender.try_send(event) {
            let _ = self.receiver.try_recv();
            self.forget_oldest();
            let _ = self.sender.try_send(event);
        }
        self.weights.push_back(weight);
        self.weight += weight;
    }

    fn forget_oldest(&mut self) {
        self.weight -= self.weights.pop_front().unwrap_or_default();
    }
}

/// How many bytes of text an event has that a worker can make as long as it likes.
pub(super) fn text_bytes(event: &Event) -> usize {
    match event {
        Event::Log { message, .. } => message.len(),
        Event::Progress { note, .. } => note.as_ref().map_or(0, String::len),
        Event::Stderr { line, .. } => line.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, bytes: usize) -> Event {
        Event::Stderr { worker: number, pid: 1, line: "x".repeat(bytes) }
    }

    fn numbers(receiver: &Receiver<Event>) -> Vec<usize> {
        let number = |event| match event {
            Event::Stderr { worker, .. } => worker,
            other => panic!("{other:?}"),
        };
        receiver.try_iter().map(number).collect()
    }

    #[test]
    fn a_slow_listener_loses_the_oldest() {
        let listener = Listener::default();
        let receiver = listener.listen();
        (0..EVENTS_KEPT + 3).for_each(|number| listener.tell(line(number, 1)));
        assert_eq!(numbers(&receiver), (3..EVENTS_KEPT + 3).collect::<Vec<_>>());
    }

    #[test]
    fn long_texts_are_bounded_in_bytes() {
        let listener = Listener::default();
        let receiver = listener.listen();
        (0..6).for_each(|number| listener.tell(line(number, TEXT_BYTES_KEPT / 4)));
        assert_eq!(numbers(&receiver), [2, 3, 4, 5]);
    }

    #[test]
    fn what_was_received_counts_no_more() {
        let listener = Listener::default();
        let receiver = listener.listen();
        for number in 0..20 {
            listener.tell(line(number, TEXT_BYTES_KEPT / 2));
            assert_eq!(numbers(&receiver), [number]);
        }
    }

    #[test]
    fn what_was_recorded_is_for_the_first_who_listens() {
        let listener = Listener::default();
        listener.record();
        listener.tell(line(1, 1));
        assert_eq!(numbers(&listener.listen()), [1]);
        listener.tell(line(2, 1));
        assert_eq!(numbers(&listener.listen()), [], "a second one starts anew");
    }
}
