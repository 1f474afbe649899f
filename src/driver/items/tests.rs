//! What a stream's buffer keeps, when it is full, and whom it wakes. No engine, no process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::{Arrivals, Arrived, ItemBounds, Items};
use crate::core::ItemFate;

fn stream(items: usize, bytes: usize) -> (Items, Arc<Arrivals>) {
    let arrivals = Arc::new(Arrivals::default());
    (Items::new(ItemBounds { items, bytes }, Arc::clone(&arrivals)), arrivals)
}

fn item(attempt: u32, data: &[u8]) -> Arrived {
    Arrived::Item { attempt, data: data.to_vec() }
}

#[test]
fn items_come_out_as_they_went_in() {
    let (stream, _) = stream(8, 100);
    assert_eq!(stream.put(1, b"a"), ItemFate::Taken);
    stream.restart(2);
    assert_eq!(stream.put(2, b"b"), ItemFate::Taken);
    assert_eq!(stream.take(), Some((item(1, b"a"), false)));
    assert_eq!(stream.take(), Some((Arrived::Restarted { attempt: 2 }, false)));
    assert_eq!(stream.take(), Some((item(2, b"b"), false)));
    assert_eq!(stream.take(), None);
}

#[test]
fn the_item_that_reaches_the_bound_is_kept() {
    let (by_count, arrivals) = stream(2, 100);
    assert_eq!(by_count.put(1, b"a"), ItemFate::Taken);
    assert!(!arrivals.take_full());
    assert_eq!(by_count.put(1, b"b"), ItemFate::Full);
    assert!(arrivals.take_full());
    assert!(!arrivals.take_full(), "it is told once");
    let (by_bytes, _) = stream(100, 4);
    assert_eq!(by_bytes.put(1, b"abc"), ItemFate::Taken);
    assert_eq!(by_bytes.put(1, b"de"), ItemFate::Full);
    assert_eq!(std::iter::from_fn(|| by_bytes.take()).count(), 2);
}

#[test]
fn one_item_above_every_bound_is_taken() {
    let (stream, _) = stream(1, 1);
    assert_eq!(stream.put(1, b"large"), ItemFate::Full);
    assert_eq!(stream.take(), Some((item(1, b"large"), true)));
}

#[test]
fn room_is_told_once_when_half_is_taken() {
    let (stream, _) = stream(4, 100);
    let fates: Vec<_> = (0..4).map(|_| stream.put(1, b"x")).collect();
    assert_eq!(fates.last(), Some(&ItemFate::Full));
    let told: Vec<bool> = std::iter::from_fn(|| stream.take()).map(|(_, room)| room).collect();
    assert_eq!(told, [false, true, false, false]);
}

#[test]
fn what_comes_after_a_skip_is_dropped_and_what_was_there_stays() {
    let (stream, _) = stream(1, 100);
    assert_eq!(stream.put(1, b"x"), ItemFate::Full);
    assert!(stream.skip(), "the engine is to read on");
    assert!(!stream.skip());
    assert_eq!(stream.put(1, b"y"), ItemFate::Taken);
    stream.restart(2);
    assert_eq!(stream.take(), Some((item(1, b"x"), false)));
    assert_eq!(stream.take(), None);
}

#[test]
fn a_stream_that_was_dropped_wants_nothing() {
    let (stream, _) = stream(4, 100);
    assert!(stream.cell.abandon().is_none());
    assert_eq!(stream.put(1, b"x"), ItemFate::Unwanted);
}

#[test]
fn attempts_that_fill_the_buffer_do_not_heap_up() {
    let (stream, _) = stream(3, 100);
    for attempt in 1..100 {
        while stream.put(attempt, b"x") != ItemFate::Full {}
        stream.restart(attempt + 1);
    }
    assert_eq!(stream.take(), Some((Arrived::Restarted { attempt: 100 }, true)));
    assert_eq!(stream.take(), None);
}

#[test]
fn whoever_waits_is_gathered_once_an_item_comes() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let (stream, arrivals) = stream(4, 100);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    assert!(!stream.has_arrived(Some(&waker)));
    assert!(!stream.has_arrived(Some(&waker)));
    stream.put(1, b"x");
    stream.put(1, b"y");
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "nobody is woken while the engine is held");
    let mut wakes = Vec::new();
    arrivals.take(&mut wakes);
    wakes.into_iter().for_each(Waker::wake);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(stream.has_arrived(None));
}
