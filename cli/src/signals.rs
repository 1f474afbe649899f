//! The end by a signal: the workers are killed first, then the process ends with 128 and the signal's number.
//!
//! One signal is enough. Signals that were ignored when the command was started (`nohup`, a background job of a script) stay
//! ignored.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use stokehold::{Pool, Report};

use crate::exit::Exit;

/// How long the main thread may take to write what it has, once the workers are dead. It may be stuck in a pipe that nobody
/// reads.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Who may end the pool: the main thread or a signal, whichever is first.
#[derive(Debug)]
pub(crate) struct Stop {
    signal: AtomicI32,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
enum Phase {
    /// The workers are being started by a call that cannot be interrupted.
    Starting,
    Running(Pool),
    /// The pool was taken by whoever ends it.
    Ending,
}

impl Stop {
    /// Watches for signals from now on.
    pub(crate) fn watch() -> io::Result<Arc<Self>> {
        let stop = Arc::new(Self { signal: AtomicI32::new(0), phase: Mutex::new(Phase::Starting) });
        let ignored = ignored_signals();
        let heeded =
            [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = Signals::new(heeded)?;
        let theirs = Arc::clone(&stop);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                theirs.end_by(signal);
            }
        })?;
        Ok(stop)
    }

    /// Keeps the pool where a signal finds it.
    pub(crate) fn keep(&self, pool: Pool) {
        *self.lock() = Phase::Running(pool);
    }

    /// Does something with the pool, unless it is being ended.
    pub(crate) fn with_pool<R>(&self, act: impl FnOnce(&Pool) -> R) -> Option<R> {
        match &*self.lock() {
            Phase::Running(pool) => Some(act(pool)),
            Phase::Starting | Phase::Ending => None,
        }
    }

    /// The signal that ends this run, if one came.
    pub(crate) fn signal(&self) -> Option<Signal> {
        Signal::from_named_raw(self.signal.load(Ordering::SeqCst))
    }

    /// Kills the workers now. Waits for a signal that does the same.
    pub(crate) fn kill(&self) {
        let mut phase = self.lock();
        if let Phase::Running(pool) = std::mem::replace(&mut *phase, Phase::Ending) {
            pool.kill();
        }
    }

    /// Ends the workers in order; `None` if a signal was faster. A signal that comes meanwhile ends the process at once.
    pub(crate) fn shutdown(&self, deadline: Duration) -> Option<Report> {
        let pool = match std::mem::replace(&mut *self.lock(), Phase::Ending) {
            Phase::Running(pool) => pool,
            Phase::Starting | Phase::Ending => return None,
        };
        Some(pool.shutdown(deadline))
    }

    /// Kills and exits. The main thread may be stuck in a call that nothing else ends.
    fn end_by(&self, signal: i32) {
        self.signal.store(signal, Ordering::SeqCst);
        let exit = self.signal().map_or(Exit::SomeFailed, Exit::Signal);
        let mut phase = self.lock();
        if let Phase::Running(pool) = std::mem::replace(&mut *phase, Phase::Ending) {
            pool.kill();
            drop(phase);
            thread::sleep(LAST_WORDS);
        }
        // Where the pool is not to be had (starting, or being shut down with all results written), the workers die with this
        // process: the system kills them.
        std::process::exit(i32::from(exit.number()));
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that whoever started this process had set to be ignored: bit 0 is signal 1.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
