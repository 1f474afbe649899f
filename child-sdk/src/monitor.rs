//! The second thread: looks after the connection while the thread that serves is inside a handler. It ends the process when
//! nobody reads the answers any more, lets CANCEL and PING through to a handler that takes long, and writes what was held
//! back, answers that wait behind such a handler too. It runs nothing of the user's.
//!
//! ```text
//! ticking ──a tick without news──► settling ──another──► asleep, until a handler begins
//!    ▲                 │ a handler runs: read ahead for it, and wait for input too │
//!    └─────────────────┴────────── news: another turn, a wake-up ◄─────────────────┘
//! ```
//!
//! As long as the thread that serves comes back to the input in time, the monitor ticks and touches nothing, so that tiny
//! tasks never pay for it. It reads ahead when a handler, or a row of them, has kept that thread away for a tick. In an idle
//! worker it sleeps for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::line::Line;
use crate::stream::{Input, Output, Waited, Wake, is_reader_gone};
use crate::sys;

/// Status of a worker whose reader vanished.
pub(crate) const READER_GONE: u8 = 1;

/// How long a handler may run until it is looked after, and how long a CANCEL or PING may go unseen. Fifty wake-ups a second
/// cost nothing that can be measured; a parent that cancels waits longer before it uses force.
const TICK: Duration = Duration::from_millis(20);

/// How long a handler may run while answers wait, counted from when it is first seen. Some more wake-ups while tiny tasks
/// stream cost nothing that can be measured, and a worker that has nothing to do holds no answers.
const ANSWERS_TICK: Duration = Duration::from_millis(5);

/// It polls, reads and writes into buffers on the heap, which takes little stack.
const STACK_BYTES: usize = 64 * 1024;

/// The monitor, armed until told otherwise.
#[derive(Debug)]
pub(crate) struct Monitor {
    armed: Arc<AtomicBool>,
}

impl Monitor {
    /// Starts it. Where no thread can be had the worker works without: a write to nobody still ends it.
    pub(crate) fn start(line: &Arc<Line>, wake: Wake, input: Input, output: Output) -> Self {
        let armed = Arc::new(AtomicBool::new(true));
        let rounds = Rounds { line: Arc::clone(line), wake, input, output, armed: Arc::clone(&armed) };
        let thread = thread::Builder::new().name("stokehold-watch".to_owned()).stack_size(STACK_BYTES);
        if sys::with_signals_blocked(|| thread.spawn(move || rounds.go())).is_err() {
            line.set_unattended();
        }
        Self { armed }
    }

    /// From now on a vanished reader is no reason to end the process: all answers are written.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }
}

/// What the thread has.
struct Rounds {
    line: Arc<Line>,
    wake: Wake,
    input: Input,
    output: Output,
    armed: Arc<AtomicBool>,
}

impl Rounds {
    fn go(&self) {
        let (mut last, mut last_reads) = (self.line.turn(), self.line.reads());
        // Since when they are as they are.
        let (mut since, mut since_read) = (Instant::now(), Instant::now());
        // When it said that it would go to sleep. It does so a tick later: by then every handler that began without waking it
        // is seen to have begun.
        let mut announced: Option<Instant> = None;
        loop {
            let (turn, reads, now) = (self.line.turn(), self.line.reads(), Instant::now());
            if turn != last {
                (last, since) = (turn, now);
            }
            if reads != last_reads {
                (last_reads, since_read) = (reads, now);
            }
            let is_old = |then: Instant| now.saturating_duration_since(then) >= TICK;
            let quiet = is_old(since);
            self.line.set_asleep(quiet);
            announced = quiet.then(|| announced.unwrap_or(now));
            let (mut input, mut soon) = (None, (!announced.is_some_and(is_old)).then_some(TICK));
            if turn.is_running() && (quiet || is_old(since_read)) {
                let looked = self.line.look();
                // Behind short handlers a look every tick must do: input comes in small pieces there.
                input = (quiet && looked.more).then_some(&self.input);
                soon = soon.or(looked.again.then_some(TICK));
            }
            // The same turn for that long: these are no tiny handlers any more.
            match self.line.attend(now.saturating_duration_since(since) >= ANSWERS_TICK) {
                Ok((held, answers_wait)) => {
                    let again = answers_wait.then_some(ANSWERS_TICK);
                    soon = held.into_iter().chain(again).chain(soon).min();
                }
                Err(error) => return self.end(is_reader_gone(&error)),
            }
            match self.output.wait(&self.wake, input, soon) {
                Waited::Anything => {}
                Waited::Woken => announced = None,
                Waited::ReaderGone => return self.end(true),
                Waited::Failed => return self.end(false),
            }
        }
    }

    fn end(&self, reader_gone: bool) {
        if reader_gone && self.armed.load(Ordering::Acquire) {
            sys::exit_now(i32::from(READER_GONE));
        }
        self.line.set_unattended();
    }
}
