//! Catches a handler's panic together with its place and backtrace, which only a panic hook sees.
//!
//! The hook stands in front of the one that was there. It is quiet for a panic that becomes FAILED and lets every other one
//! through, on other threads or outside handlers.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use stokehold_protocol::Failure as WireFailure;

use crate::failure;

thread_local! {
    /// Whether this thread is inside a handler.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
    /// Whether there is a record. Looked at for every task, unlike the record itself, which costs more.
    static HAS_RECORD: Cell<bool> = const { Cell::new(false) };
    /// The first panic of the handler that runs.
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

struct Record {
    place: String,
    backtrace: Backtrace,
}

/// Puts the hook in front of the present one.
pub(crate) fn install_hook() {
    // With panic=abort nothing becomes FAILED: the process dies, and the present hook must say why.
    if cfg!(panic = "abort") {
        return;
    }
    let present = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !record(info) {
            present(info);
        }
    }));
}

/// Runs a handler. A panic becomes FAILED.
pub(crate) fn catch<T>(handler: impl FnOnce() -> T) -> Result<T, Box<WireFailure>> {
    // A handler may have caught a panic itself; what was kept of that is not this handler's.
    if HAS_RECORD.take() {
        RECORD.take();
    }
    IN_HANDLER.set(true);
    // The state may be left half-changed by a panic. That is the author's to judge, and documented on `Worker::on`.
    let outcome = panic::catch_unwind(AssertUnwindSafe(handler));
    IN_HANDLER.set(false);
    outcome.map_err(|payload| {
        let record = RECORD.take();
        let words = words(payload.as_ref());
        let failure = match record {
            Some(Record { place, backtrace }) => {
                failure::from_panic(format!("panicked at {place}: {words}"), Some(backtrace.to_string()))
            }
            None => failure::from_panic(format!("panicked: {words}"), None),
        };
        drop_payload(payload);
        failure
    })
}

/// Drops what a handler threw. Any type can be thrown, and its drop may panic too: that must not end the worker either. The
/// present hook tells of it, since no answer does.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Its drop could go on like that for ever, so it is never dropped.
        let _kept = ManuallyDrop::new(second);
    }
}

/// Keeps a panic that will become FAILED. False if it is not one, or not the first of this handler: a second may be about
/// to abort the process, and then its words must be seen.
fn record(info: &PanicHookInfo<'_>) -> bool {
    if !IN_HANDLER.get() {
        return false;
    }
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    HAS_RECORD.set(true);
    RECORD.with_borrow_mut(|slot| {
        let first = slot.is_none();
        *slot = Some(Record { place, backtrace: Backtrace::force_capture() });
        first
    })
}

fn words(payload: &(dyn Any + Send)) -> &str {
    if let Some(words) = payload.downcast_ref::<&'static str>() {
        words
    } else if let Some(words) = payload.downcast_ref::<String>() {
        words
    } else {
        "(no text)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped, with another of its kind until `left` is used up.
    struct Bomb {
        left: u32,
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.left > 0 {
                panic::panic_any(Self { left: self.left - 1 });
            }
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_fails_its_task_only() {
        for left in [0, 1, 2, 9] {
            let failure = catch(|| panic::panic_any(Bomb { left })).map(|()| "done").unwrap_err();
            assert!(failure.message.contains("(no text)"), "{}", failure.message);
            assert_eq!(catch(|| 7).ok(), Some(7), "the next task is not touched by it");
        }
    }
}
