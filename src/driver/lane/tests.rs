//! What a channel keeps for its receiver, what it counts, and whom it wakes. No engine, no process.

use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use super::*;
use crate::core::{Policy, TaskErrorKind};

/// How often it was woken.
#[derive(Debug, Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        let waker = Waker::from(Arc::clone(&bell));
        (bell, waker)
    }

    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn lane() -> Lane {
    Lane::new(Source::new("work", 7, Policy::default()))
}

fn answer(value: Value<'_>) -> Answer<'_> {
    let origin = Origin { worker: 3, pid: 33, task: 12, attempt: 1, elapsed: Duration::ZERO };
    Answer { value, origin }
}

/// Outcomes of the jobs from `index` on: two in one, one by itself, and an error.
fn four(index: u64) -> Batch {
    let mut batch = Batch::default();
    batch.push(index, answer(Value::Many(2, b"\x92\xc3\x07\x92\xc3\xa5seven")));
    batch.push(index + 2, answer(Value::One(b"\x08")));
    batch.push_error(index + 3, TaskError::new(TaskErrorKind::Dead, 15, ""));
    batch
}

fn put(lane: &Lane, batch: Batch) -> Option<Batch> {
    let (waker, spare) = lane.deliver(batch);
    waker.into_iter().for_each(Waker::wake);
    spare
}

#[test]
fn outcomes_come_out_as_they_were_put_in() {
    let lane = lane();
    assert!(lane.take().is_none());
    put(&lane, four(4));
    put(&lane, four(0));
    for index in [4, 0] {
        let mut batch = lane.take().unwrap();
        assert_eq!(batch.len(), 3, "two in one are one outcome");
        let Outcome::Many(2, range, origin) = &batch.get(0).unwrap().outcome else { panic!("{batch:?}") };
        assert_eq!((batch.bytes(range.clone()), origin.pid), (&b"\x92\xc3\x07\x92\xc3\xa5seven"[..], 33));
        let Outcome::One(range, _) = &batch.get(1).unwrap().outcome else { panic!("{batch:?}") };
        assert_eq!(batch.bytes(range.clone()), b"\x08");
        assert_eq!(batch.take_error(1).map(|error| error.task()), None, "it is none");
        assert_eq!(batch.take_error(2).map(|error| error.task()), Some(15));
        assert!(batch.take_error(2).is_none(), "it was taken");
        let places: Vec<u64> =
            (0..3).filter_map(|place| batch.get(place)).map(|arrived| arrived.index).collect();
        assert_eq!(places, [index, index + 2, index + 3]);
    }
    assert!(lane.take().is_none());
}

#[test]
fn what_is_expected_follows_from_what_came_and_what_was_taken() {
    let lane = lane();
    assert_eq!((0..10).map(|_| lane.next_index(1)).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!((lane.sent(), lane.received()), (10, 0));
    assert_eq!(lane.expected(10), (0, 10, None), "nobody knows how large they are");
    put(&lane, four(0));
    assert_eq!(lane.expected(10), (12, 6, Some(6)), "six bytes is the mean of the two in one");
    lane.receive(3);
    lane.receive(8);
    assert_eq!(lane.expected(10), (1, 6, Some(6)));
    lane.receive(1);
    lane.receive(0);
    assert_eq!((lane.expected(10).0, lane.received()), (0, 4));
}

#[test]
fn a_large_result_is_remembered_and_forgotten_slowly() {
    let lane = lane();
    let put_one = |bytes: &[u8]| {
        let mut batch = Batch::default();
        batch.push(0, answer(Value::One(bytes)));
        put(&lane, batch);
        lane.expected(0).2.unwrap()
    };
    assert_eq!(put_one(&[0; 6_400]), 6_400);
    assert_eq!(put_one(b"\x01"), 6_300);
    let mut batches = 0;
    while put_one(b"\x01") > 100 {
        batches += 1;
        assert!(batches < 1_000);
    }
    assert!(batches > 100, "{batches}");
}

#[test]
fn memory_goes_back_and_forth() {
    let lane = lane();
    assert!(put(&lane, four(0)).is_none(), "there is none yet");
    let mut batch = lane.take().unwrap();
    batch.bytes.reserve(1_000);
    let place = batch.bytes.as_ptr();
    lane.give_back(batch);
    let spare = put(&lane, four(4)).unwrap();
    assert_eq!((spare.len(), spare.bytes.len(), spare.bytes.as_ptr()), (0, 0, place));
    assert!(put(&lane, Batch::default()).is_none(), "there was one");
}

#[test]
fn the_receiver_is_woken_once_by_what_arrives() {
    let lane = lane();
    let (bell, waker) = Bell::new();
    assert!(!lane.has_arrived(None) && !lane.has_arrived(Some(&waker)));
    put(&lane, four(0));
    put(&lane, four(4));
    assert_eq!(bell.rings(), 1);
    assert!(lane.has_arrived(Some(&waker)));
    lane.take();
    assert!(lane.has_arrived(None), "the second is there");
    lane.take();
    assert!(!lane.has_arrived(Some(&waker)));
    lane.fail(8, TaskError::new(TaskErrorKind::Closed, 9, ""));
    assert_eq!(bell.rings(), 2, "an error is an outcome too");
    assert_eq!(lane.take().unwrap().get(0).unwrap().index, 8);
}

#[test]
fn whoever_watches_is_told_of_the_next_move_only() {
    let lane = lane();
    let ((bell, waker), (other_bell, other)) = (Bell::new(), Bell::new());
    lane.moved();
    lane.watch(&waker);
    lane.watch(&waker);
    lane.watch(&other);
    lane.moved();
    lane.moved();
    assert_eq!((bell.rings(), other_bell.rings()), (1, 1));
    lane.watch(&waker);
    assert_eq!(lane.take_watchers().into_wakers().count(), 1);
    lane.moved();
    assert_eq!(bell.rings(), 1, "they were taken");
}

#[test]
fn nothing_is_kept_for_nobody() {
    let lane = lane();
    assert!(lane.is_wanted());
    lane.abandon();
    assert!(!lane.is_wanted());
    put(&lane, four(0));
    lane.fail(4, TaskError::new(TaskErrorKind::Closed, 5, ""));
    assert!(lane.take().is_none() && !lane.has_arrived(None));
}
