//! What a waker may do, and where a pool may end: the pool calls wakers with nothing held, and keeps none it no longer needs.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use futures_core::Stream;
use stokehold::{Order, Pool, Task, TaskErrorKind};
use stokehold_tests::{Arena, Wakes, block_on, eventually, within};

use crate::stage::{MOMENT, PATIENCE, SQUARE, WAIT_AT, honest, wait_for_effect};

type Answer = (u32, u32, u32);
type Owner = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls once; the future must not be ready.
fn poll_once(future: Pin<&mut (impl Future + ?Sized)>, waker: &Waker) {
    assert!(future.poll(&mut Context::from_waker(waker)).is_pending(), "it is ready too early");
}

/// An executor that is shutting down: instead of polling the future that was woken it drops it.
struct Dropping {
    future: Mutex<Option<Owner>>,
    dropped: Sender<()>,
}

impl Wake for Dropping {
    fn wake(self: Arc<Self>) {
        let future = self.future.lock().unwrap().take();
        if future.is_some() {
            drop(future);
            // The test may have failed already.
            let _ = self.dropped.send(());
        }
    }
}

/// Gives the pool to a future that waits at that gate, and is dropped with the pool when it is woken. Says when that is done.
fn drop_when_woken(arena: &Arena, pool: Pool, gate: &'static str) -> Receiver<()> {
    let task = pool.submit(WAIT_AT, gate).unwrap();
    wait_for_effect(arena, &format!("at {gate}"));
    let owner: Owner = Box::pin(async move {
        // It never gets there.
        let _ = task.await;
        drop(pool);
    });
    let (dropped, seen) = mpsc::channel();
    let dropping = Arc::new(Dropping { future: Mutex::new(Some(owner)), dropped });
    let waker = Waker::from(Arc::clone(&dropping));
    poll_once(dropping.future.lock().unwrap().as_mut().unwrap().as_mut(), &waker);
    seen
}

#[test]
fn a_waker_may_drop_the_pool_that_calls_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let dropped = drop_when_woken(&arena, pool, "gate");
        arena.open("gate");
        dropped.recv_timeout(MOMENT).expect("the drop of the pool hangs");
        assert!(eventually(MOMENT, || arena.survivors().is_empty()), "{:?}", arena.survivors());
    });
}

#[test]
fn a_waker_may_drop_the_pool_while_another_thread_waits_for_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).window(1).start().unwrap();
        let other = pool.submit(WAIT_AT, "never").unwrap();
        wait_for_effect(&arena, "at never");
        let (begins, begun) = mpsc::channel();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                begins.send(()).unwrap();
                other.wait()
            });
            begun.recv_timeout(MOMENT).unwrap();
            let dropped = drop_when_woken(&arena, pool, "gate");
            arena.open("gate");
            dropped.recv_timeout(MOMENT).expect("the drop of the pool hangs");
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), TaskErrorKind::Closed);
        });
    });
}

/// Waits for another task of the pool that calls it.
struct Waiting {
    task: Mutex<Option<Task<Answer>>>,
    answers: Sender<Answer>,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            // The test may have failed already.
            let _ = self.answers.send(task.wait().unwrap());
        }
    }
}

#[test]
fn a_waker_may_wait_for_a_task_of_the_pool_that_calls_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let mut first = pool.submit(WAIT_AT, "first").unwrap();
        let second = pool.submit(WAIT_AT, "second").unwrap();
        let (answers, answered) = mpsc::channel();
        let waker = Waker::from(Arc::new(Waiting { task: Mutex::new(Some(second)), answers }));
        poll_once(Pin::new(&mut first), &waker);
        arena.open("first");
        wait_for_effect(&arena, "at second");
        arena.open("second");
        assert_eq!(answered.recv_timeout(MOMENT).expect("the waker hangs").2, 1);
        // Other threads are served as before, and so is the end.
        assert_eq!(pool.submit(SQUARE, &5).unwrap().wait_timeout(MOMENT).unwrap().unwrap(), 25);
        assert_eq!(first.wait().unwrap().2, 1);
        assert!(pool.shutdown(MOMENT).is_graceful());
    });
}

/// Panics, without the message that would clutter the output.
struct Panicking(Sender<()>);

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
        std::panic::resume_unwind(Box::new("a waker that panics"));
    }
}

#[test]
fn futures_are_woken_after_another_waker_panicked() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let mut first = pool.submit(WAIT_AT, "first").unwrap();
        let (called, calls) = mpsc::channel();
        poll_once(Pin::new(&mut first), &Waker::from(Arc::new(Panicking(called))));
        arena.open("first");
        calls.recv_timeout(MOMENT).expect("the first waker was never called");
        let mut second = pool.submit(WAIT_AT, "second").unwrap();
        let wakes = Wakes::of_this_thread();
        poll_once(Pin::new(&mut second), &Waker::from(Arc::clone(&wakes)));
        arena.open("second");
        assert!(eventually(MOMENT, || wakes.count() > 0), "nobody wakes futures any more");
        assert_eq!(block_on(second).unwrap().2, 1);
        assert_eq!(first.wait().unwrap().2, 1);
        assert!(pool.shutdown(MOMENT).is_graceful());
    });
}

thread_local! {
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

#[test]
fn a_pool_in_a_thread_local_ends_with_its_thread() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let thread = std::thread::spawn(move || {
            // In place before the first wait, so that whatever the wait keeps per thread is gone when the pool is dropped.
            POOL.set(Some(pool));
            POOL.with_borrow(|pool| pool.as_ref().unwrap().submit(SQUARE, &3).unwrap().wait().unwrap())
        });
        assert_eq!(thread.join().unwrap(), 9);
        assert!(eventually(MOMENT, || arena.survivors().is_empty()), "{:?}", arena.survivors());
    });
}

/// Does nothing but be counted.
struct Counted(#[expect(dead_code, reason = "its count is looked at from outside")] Arc<()>);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn channels_that_ended_leave_no_waker_behind() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let held = Arc::new(());
        for n in 0..300_u64 {
            let (jobs, mut results) = pool.channel(SQUARE, Order::Input);
            jobs.send(&n).unwrap();
            let waker = Waker::from(Arc::new(Counted(Arc::clone(&held))));
            // Ready or not: the answer may be there already.
            let _ = Pin::new(&mut results).poll_next(&mut Context::from_waker(&waker));
        }
        let left = || Arc::strong_count(&held) - 1;
        assert!(eventually(MOMENT, || left() == 0), "the pool keeps {} wakers of ended channels", left());
        assert_eq!(pool.submit(SQUARE, &2).unwrap().wait().unwrap(), 4);
    });
}
