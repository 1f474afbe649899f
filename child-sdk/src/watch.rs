//! Ends the process when nobody reads its answers any more.
//!
//! The serving thread sees a vanished reader only when it writes, which may be an hour away inside a slow handler. So one
//! thread sleeps in `poll` on the output for as long as the worker serves; it costs nothing until it fires. (A thread that
//! starts at the end of input would be too late: inside a handler nobody looks at the input.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::stream::Output;
use crate::sys;

/// Status of a worker whose reader vanished.
pub(crate) const READER_GONE: u8 = 1;

/// It polls and exits, which takes next to no stack.
const STACK_BYTES: usize = 64 * 1024;

/// The watcher, armed until told otherwise.
#[derive(Debug)]
pub(crate) struct ReaderWatch {
    armed: Arc<AtomicBool>,
}

impl ReaderWatch {
    /// Starts watching. Where no thread can be had the worker works without: a write to nobody still ends it.
    pub(crate) fn start(output: Output) -> Self {
        let armed = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&armed);
        let watch = move || {
            if output.wait_until_reader_gone() && seen.load(Ordering::Acquire) {
                sys::exit_now(i32::from(READER_GONE));
            }
        };
        let thread = thread::Builder::new().name("stokehold-watch".to_owned()).stack_size(STACK_BYTES);
        let _ = sys::with_signals_blocked(|| thread.spawn(watch));
        Self { armed }
    }

    /// From now on a vanished reader is no reason to end the process: all answers are written.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }
}
