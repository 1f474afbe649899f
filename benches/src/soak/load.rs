//! The mixed work of a soak: what a user's thread submits and expects, and what a worker does with it. It kills nobody but
//! the worker itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stokehold::{Pool, Task, TaskError, TaskErrorKind};
use stokehold_child::{BadData, Ctx, Data, Failure, Worker};

use crate::dice::Dice;

/// Unanswered tasks of one user.
const IN_FLIGHT: usize = 32;
/// Longer than any task can take with three lives. What has no outcome by then is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the first fault, so that the soak ends soon. What is late then is counted with it.
const PATIENCE_AFTER_FAULT: Duration = Duration::from_secs(1);
/// What the policy allows by default: a task that three workers died with ends as dead, which is right.
const LIVES: u32 = 3;

/// Between two looks at the reins.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Kinds of tasks: request, share in percent, least and most bytes.
const KINDS: [(&str, u64, u64, u64); 5] = [
    ("fast", 74, 8, 256),
    ("slow", 15, 8, 64),
    ("again", 8, 8, 64),
    ("deadly", 1, 8, 64),
    ("big", 2, 64 << 10, 2 << 20),
];

/// What this program does as a worker of a soak. All requests give back what they get, sooner or later.
pub(crate) fn serve() -> ExitCode {
    Worker::new(|_| Ok::<(), Infallible>(()))
        .on_raw("fast", |(), input, _| echo(input))
        .on_raw("big", |(), input, _| echo(input))
        .on_raw("slow", |(), input, _| {
            let millis = input.last().map_or(0, |last| u64::from(last % 32));
            thread::sleep(Duration::from_millis(millis));
            echo(input)
        })
        .on_raw("again", |(), input, task: &mut Ctx| {
            if task.attempt() == 1 {
                return Err(Failure::new("not at the first try").retry());
            }
            echo(input).map_err(|error| Failure::new(error.to_string()))
        })
        .on_raw("deadly", |(), input, task: &mut Ctx| {
            if task.attempt() == 1 {
                // As a crash would, but without a core file.
                let own = i32::try_from(process::id()).ok().and_then(Pid::from_raw);
                let _ = own.map(|own| kill_process(own, Signal::KILL));
            }
            echo(input)
        })
        .serve()
}

fn echo(input: &[u8]) -> Result<Data, BadData> {
    Data::from_encoded(input.to_vec())
}

/// A user: one thread that submits and waits.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pool: &'a Pool,
    tally: &'a Tally,
    reins: &'a Reins,
    dice: Dice,
    waiting: VecDeque<(Task<Data>, Data)>,
}

impl<'a> Load<'a> {
    pub(super) fn new(pool: &'a Pool, tally: &'a Tally, reins: &'a Reins, seed: u64) -> Self {
        Self { pool, tally, reins, dice: Dice::new(seed), waiting: VecDeque::new() }
    }

    /// Works until it is over, and then waits for every outcome.
    pub(super) fn run(mut self) {
        while !self.reins.is_over() {
            if self.reins.is_halted() {
                self.rest();
            } else if self.waiting.len() < IN_FLIGHT {
                self.submit();
            } else {
                self.wait();
            }
        }
        self.wait_for_all();
    }

    fn rest(&mut self) {
        self.wait_for_all();
        self.reins.resting.fetch_add(1, Ordering::SeqCst);
        while self.reins.is_halted() && !self.reins.is_over() {
            thread::sleep(LOOK_PAUSE);
        }
        self.reins.resting.fetch_sub(1, Ordering::SeqCst);
    }

    fn wait_for_all(&mut self) {
        while !self.waiting.is_empty() {
            self.wait();
        }
    }

    fn submit(&mut self) {
        let mut share = self.dice.below(100);
        let kind = KINDS.iter().find(|(_, percent, ..)| {
            let is_it = share < *percent;
            share = share.saturating_sub(*percent);
            is_it
        });
        let Some((request, _, least, most)) = kind else { return };
        let bytes = usize::try_from(least + self.dice.below(most - least + 1)).unwrap_or_default();
        let byte = u8::try_from(self.dice.below(256)).unwrap_or_default();
        let data = Data::bytes(&vec![byte; bytes]);
        match self.pool.submit_data(request, &data) {
            Ok(task) => {
                self.tally.submitted.fetch_add(1, Ordering::Relaxed);
                self.waiting.push_back((task, data));
            }
            Err(error) => self.fail(format!("a task was not accepted: {error}")),
        }
    }

    fn wait(&mut self) {
        let Some((task, sent)) = self.waiting.pop_front() else { return };
        let is_hurt = self.tally.faults.load(Ordering::Relaxed) > 0;
        let patience = if is_hurt { PATIENCE_AFTER_FAULT } else { PATIENCE };
        match task.wait_timeout(patience) {
            Ok(Ok(answer)) if answer == sent => {
                self.tally.done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Ok(_)) => self.fail("an answer is not what was sent".to_owned()),
            Ok(Err(error)) if is_dead(&error) => {
                self.tally.dead.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(error)) => self.fail(error.to_string()),
            Err(task) => self.fail(format!("no outcome within {patience:?}: {task:?}")),
        }
    }

    /// Ends the soak: what comes after the first fault says little.
    fn fail(&self, what: String) {
        self.tally.faults.fetch_add(1, Ordering::Relaxed);
        self.tally.first_fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        self.reins.end();
    }
}

/// How the users are held.
#[derive(Debug, Default)]
pub(super) struct Reins {
    over: AtomicBool,
    halted: AtomicBool,
    resting: AtomicU64,
}

impl Reins {
    /// Submits nothing more and waits until all `users` have all their outcomes, or all is over. Bounded, because every wait
    /// of theirs is.
    pub(super) fn halt(&self, users: u64) {
        self.halted.store(true, Ordering::SeqCst);
        while self.resting.load(Ordering::SeqCst) < users && !self.is_over() {
            thread::sleep(LOOK_PAUSE);
        }
    }

    pub(super) fn go_on(&self) {
        self.halted.store(false, Ordering::SeqCst);
    }

    /// No user submits any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }
}

/// Whether it used up its lives and no more.
fn is_dead(error: &TaskError) -> bool {
    error.kind() == TaskErrorKind::Dead && error.attempt() >= LIVES
}

/// What became of all tasks.
#[derive(Debug, Default)]
pub(super) struct Tally {
    submitted: AtomicU64,
    done: AtomicU64,
    dead: AtomicU64,
    faults: AtomicU64,
    first_fault: Mutex<Option<String>>,
}

impl Tally {
    /// Whether every task accepted has ended, and as it should. To be asked when all users are done.
    pub(super) fn is_right(&self) -> bool {
        let [submitted, done, dead, faults] = self.counts();
        faults == 0 && submitted == done + dead
    }

    fn counts(&self) -> [u64; 4] {
        [&self.submitted, &self.done, &self.dead, &self.faults].map(|count| count.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [submitted, done, dead, faults] = self.counts();
        write!(
            f,
            "{submitted} tasks accepted, {done} done, {dead} dead after {LIVES} lives, {faults} lost or wrong"
        )?;
        match &*self.first_fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(first) => write!(f, " (first: {first})"),
            None => Ok(()),
        }
    }
}
