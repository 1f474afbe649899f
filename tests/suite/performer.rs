//! What the suites about streams, limits, cancels and supervision begin with: the requests of the child `performer`, its pools,
//! the runs that it notes, and parents in processes of their own. No test stands here.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use stokehold::{Event, Pool, PoolBuilder, Receiver, Request};
use stokehold_tests::{Arena, Record, Run, eventually};

use crate::child;
use crate::stage::{MOMENT, command};

/// Gives the numbers below its input as results, and that as its answer.
pub(crate) const COUNT: Request<u64, u64> = Request::new("count");
/// Gives so many results of so many bytes, each with its number; notes every tenth. Stops when cancelled, and notes it.
pub(crate) const SPILL: Request<(u64, usize), u64> = Request::new("spill");
/// Gives numbers, notes its run, waits at the gate "NAME ATTEMPT", gives the others, and answers with the attempt.
pub(crate) const HOLD: Request<(&str, u64, u64), u32> = Request::new("hold");
/// Gives so many results, each after so many milliseconds; stops when cancelled.
pub(crate) const DRIP: Request<(u64, u64), u64> = Request::new("drip");
/// As `DRIP`, with signs of progress.
pub(crate) const PROGRESS: Request<(u64, u64), u64> = Request::new("progress");
/// Works until it is cancelled, and says so. Notes both ends.
pub(crate) const LINGER: Request<str, ()> = Request::new("linger");
/// As `LINGER`, and answers all the same.
pub(crate) const ANSWER_ANYWAY: Request<str, u32> = Request::new("answer_anyway");
/// Notes its run and waits at the gate of its name, cancelled or not.
pub(crate) const STAY: Request<str, ()> = Request::new("stay");
/// As `STAY`. What the pool wrote to its worker before the gate was opened, the worker has seen when this ends.
pub(crate) const READ_AHEAD: Request<str, ()> = Request::new("read_ahead");
/// Notes its run, and answers with the attempt.
pub(crate) const RUN: Request<str, u32> = Request::new("note");
/// Fails, and asks to be tried again after so many milliseconds.
pub(crate) const LATER: Request<(&str, u64), u32> = Request::new("later");
/// Aborts until the gate "cured" is open.
pub(crate) const SICK: Request<str, u32> = Request::new("sick");

/// How long a worker has for CANCEL, and for SIGTERM, where a test wants it to pass.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// A pool of so many performers, to be started. It is patient with those that are to stop, so that none is ended for being slow.
pub(crate) fn performers(arena: &Arena, workers: usize, manner: &str) -> PoolBuilder {
    let command = command(arena, child!("performer")).arg(manner);
    Pool::builder(command).workers(workers).stop_graces(MOMENT, MOMENT)
}

/// The same, without patience.
pub(crate) fn pressed_performers(arena: &Arena, workers: usize, manner: &str) -> PoolBuilder {
    performers(arena, workers, manner).stop_graces(GRACE, GRACE)
}

/// The time as runs are noted with.
pub(crate) fn now() -> Duration {
    let at = clock_gettime(ClockId::Monotonic);
    Duration::new(at.tv_sec.try_into().unwrap(), at.tv_nsec.try_into().unwrap())
}

/// The runs of that name so far.
pub(crate) fn runs(arena: &Arena, name: &str) -> Vec<Run> {
    Record::read(arena).runs.remove(name).unwrap_or_default()
}

/// Waits until there are so many runs of that name; gives the last of them.
pub(crate) fn wait_for_runs(arena: &Arena, name: &str, count: usize) -> Run {
    let seen = eventually(MOMENT, || runs(arena, name).len() >= count);
    assert!(seen, "{name} did not run {count} times: {:?}", arena.effects());
    runs(arena, name)[count - 1]
}

/// Attempts followed each other, and none began while the process of another lived.
pub(crate) fn assert_no_overlap(arena: &Arena) {
    assert_eq!(arena.count("overlap"), 0, "{:?}", arena.effects());
}

/// The events up to the first that is looked for, and that one.
pub(crate) fn events_until(events: &Receiver<Event>, mut is_last: impl FnMut(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let Ok(event) = events.recv_timeout(MOMENT) else {
            panic!("an event that was expected did not come, only {seen:#?}");
        };
        let ends = is_last(&event);
        seen.push(event);
        if ends {
            return seen;
        }
    }
}

/// A program of this package in the arena that tells facts as `name=value` lines. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Aide {
    child: Child,
    output: BufReader<ChildStdout>,
    told: Vec<String>,
}

impl Aide {
    /// Starts it. With `user` it runs as that user, for which this one must be root.
    pub(crate) fn start(arena: &Arena, user: Option<u32>, program: &str, arguments: &[&str]) -> Self {
        let (name, value) = arena.mark();
        let mut command = Command::new(program);
        command.args(arguments).env(name, value).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user).current_dir("/");
        }
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, told: Vec::new() }
    }

    /// Its next fact of that name, or its last word if there is none.
    pub(crate) fn next(&mut self, name: &str) -> Result<String, String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return Err(self.told.last().cloned().unwrap_or_default());
            }
            let line = line.trim_end().to_owned();
            self.told.push(line.clone());
            if let Some(value) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                return Ok(value.to_owned());
            }
        }
    }

    /// All that it says until its end, which is a good one.
    pub(crate) fn finish(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        while self.next("\n").is_ok() {}
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.told);
        std::mem::take(&mut self.told)
    }

    /// The end of its input.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Aide {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
