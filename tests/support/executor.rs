//! The smallest executor there is, to show that futures of the library need no runtime.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Wakes a thread, and counts how often.
#[derive(Debug)]
pub struct Wakes {
    thread: Thread,
    count: AtomicU32,
}

impl Wakes {
    /// Wakes for this thread.
    pub fn of_this_thread() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), count: AtomicU32::new(0) })
    }

    /// How often it was woken.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Blocks this thread until the future is ready.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Wakes::of_this_thread());
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
