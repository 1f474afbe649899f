//! How a thread of the user that waits in a pool is woken: out of the system's wait while it drives, else by its token.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use super::Shared;

/// A caller's waker.
pub(super) struct Caller {
    state: Arc<State>,
    waker: Waker,
}

struct State {
    thread: Thread,
    shared: Weak<Shared>,
    driving: AtomicBool,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.driving.load(Ordering::SeqCst) {
            return self.thread.unpark();
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.poke();
        }
    }
}

thread_local! {
    /// The waker for this thread's last pool: most threads wait in one pool only.
    static LAST: RefCell<Option<Rc<Caller>>> = const { RefCell::new(None) };
}

impl Caller {
    /// This thread, waiting in that pool.
    pub(super) fn of(shared: &Arc<Shared>) -> Rc<Self> {
        let kept = LAST.try_with(|last| {
            let mut last = last.try_borrow_mut().ok()?;
            match &*last {
                Some(caller) if std::ptr::eq(caller.state.shared.as_ptr(), Arc::as_ptr(shared)) => {
                    Some(Rc::clone(caller))
                }
                _ => Some(Rc::clone(last.insert(Self::new(shared)))),
            }
        });
        // A pool may be dropped while its thread ends, when thread-locals are gone.
        kept.ok().flatten().unwrap_or_else(|| Self::new(shared))
    }

    fn new(shared: &Arc<Shared>) -> Rc<Self> {
        let state = Arc::new(State {
            thread: thread::current(),
            shared: Arc::downgrade(shared),
            driving: AtomicBool::new(false),
        });
        Rc::new(Self { waker: Waker::from(Arc::clone(&state)), state })
    }

    /// Wakes this thread.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// While the result is there, it is woken out of the system's wait instead of by its token.
    pub(super) fn drives(&self) -> Driving<'_> {
        self.state.driving.store(true, Ordering::SeqCst);
        Driving(&self.state.driving)
    }
}

/// See [`Caller::drives`].
pub(super) struct Driving<'a>(&'a AtomicBool);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
