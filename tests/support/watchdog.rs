//! Waiting with an end: for something observable, and for a whole test.

use std::io::{self, Write};
use std::panic::Location;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks again and again until `seen` says so; false if it does not within `limit`.
pub fn eventually(limit: Duration, mut seen: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if seen() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Runs a test's body. One that takes longer than `limit` hangs: the whole test process is aborted, with the test's name,
/// because a thread that hangs cannot be stopped.
///
/// # Panics
/// With the body's own panic.
#[track_caller]
pub fn within<T>(limit: Duration, body: impl FnOnce() -> T) -> T {
    let place = Location::caller();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln!`, which the test harness catches and would lose.
            let _ = writeln!(io::stderr(), "{name} ({place}) hangs: it is not done after {limit:?}");
            std::process::abort();
        }
    });
    let result = body();
    drop(done);
    // It only waits for the end of the channel.
    let _ = watchdog.join();
    result
}
