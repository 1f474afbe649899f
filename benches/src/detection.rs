//! How soon a death is noticed: from the SIGKILL of a worker that runs a task to the moment the task runs again, by one
//! clock. That includes the way to the next worker, so that the hand-out itself was sooner.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stokehold::{Pool, Request, Task, TaskStatus, WorkerCommand};

use crate::dice::Dice;
use crate::measure::{Outcome, Scratch, monotonic_ns, percentile};
use crate::ours;

/// Stamps the time and stays on its first attempt; gives the time on the next.
const PROBE: Request<(), u64> = Request::new("probe");
/// Sleeps for so many milliseconds and gives the worker's process id.
const NAP: Request<u64, u64> = Request::new("nap");

const KILLS: u64 = 200;
const GOAL_MS: f64 = 20.0;
/// Tasks of 10 ms that wait when all workers are to be busy.
const BACKLOG: usize = 8;
const BACKLOG_MS: u64 = 10;
/// For anything that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the task can go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Setting {
    /// Another worker has nothing to do.
    Free,
    /// The other worker is at tasks of 10 ms, and more of them wait.
    Busy,
    /// Only a new process in the place of the dead.
    Alone,
}

impl Setting {
    const ALL: [Self; 3] = [Self::Free, Self::Busy, Self::Alone];

    fn name(self) -> &'static str {
        match self {
            Self::Free => "2 workers, the other idle",
            Self::Busy => "2 workers, the other busy with 10 ms tasks, 8 of them waiting",
            Self::Alone => "1 worker: start of its replacement included",
        }
    }

    fn workers(self) -> usize {
        if self == Self::Alone { 1 } else { 2 }
    }
}

/// What this program does as a worker here.
pub(crate) fn serve(file: &str) -> ExitCode {
    stokehold_child::Worker::new(|_| Ok::<(), Infallible>(()))
        .on(PROBE, |(), (), task| {
            if task.attempt() == 1 {
                ours::stamp(file)?;
                thread::sleep(PATIENCE);
            }
            Ok::<_, io::Error>(monotonic_ns())
        })
        .on(NAP, |(), millis, _| {
            thread::sleep(Duration::from_millis(millis));
            Ok::<_, Infallible>(u64::from(process::id()))
        })
        .serve()
}

/// Measures and prints a table; an error when the goal is missed.
pub(crate) fn run() -> Outcome<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "From the SIGKILL of a worker that runs a task to the task running again, {KILLS} kills each:\n"
    )?;
    writeln!(out, "| where it can run again | p50 ms | p99 ms | max ms | goal |\n|---|---|---|---|---|")?;
    let mut missed = false;
    for setting in Setting::ALL {
        let mut times = measure(setting)?;
        times.sort_unstable_by(f64::total_cmp);
        let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(&times, percent));
        let verdict = if max <= GOAL_MS { "met" } else { "**missed**" };
        missed |= max > GOAL_MS;
        writeln!(
            out,
            "| {} | {p50:.2} | {p99:.2} | {max:.2} | ≤ {GOAL_MS:.0} ms, {verdict} |",
            setting.name()
        )?;
    }
    if missed { Err("a death was noticed too late".into()) } else { Ok(()) }
}

/// Milliseconds for each kill.
fn measure(setting: Setting) -> Outcome<Vec<f64>> {
    let file = Scratch::new("detection");
    let command = WorkerCommand::current_exe().args(["worker", "detection", ours::as_arg(&file)?]);
    let pool = Pool::builder(command).workers(setting.workers()).start()?;
    let mut dice = Dice::new(1);
    let mut times = Vec::new();
    for kill in 1..=usize::try_from(KILLS)? {
        wait_until_whole(&pool, setting.workers())?;
        let probe = pool.submit(PROBE, &())?;
        ours::wait_for_stamps(&file, kill)?;
        let TaskStatus::Running { pid, .. } = probe.status() else {
            return Err(format!("a task that runs is not said to: {probe:?}").into());
        };
        let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("a worker without a process id")?;
        let backlog = if setting == Setting::Busy { BACKLOG } else { 0 };
        let naps = (0..backlog).map(|_| pool.submit(NAP, &BACKLOG_MS)).collect::<Result<Vec<_>, _>>()?;
        // At any moment of the other worker's task.
        thread::sleep(Duration::from_micros(dice.below(BACKLOG_MS * 1000)));
        let killed = monotonic_ns();
        kill_process(pid, Signal::KILL)?;
        let again = answer(probe)?;
        times.push(again.saturating_sub(killed) as f64 / 1e6);
        naps.into_iter().try_for_each(|nap| answer(nap).map(drop))?;
    }
    ours::end(pool)?;
    Ok(times)
}

/// Waits until every worker has finished a task in its present life, so that each death is that of a working one.
fn wait_until_whole(pool: &Pool, workers: usize) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let naps = (0..workers).map(|_| pool.submit(NAP, &2)).collect::<Result<Vec<_>, _>>()?;
        let pids = naps.into_iter().map(answer).collect::<Outcome<BTreeSet<u64>>>()?;
        if pids.len() == workers {
            return Ok(());
        }
    }
    Err(format!("not all workers were back within {PATIENCE:?}").into())
}

fn answer(task: Task<u64>) -> Outcome<u64> {
    match task.wait_timeout(PATIENCE) {
        Ok(result) => Ok(result?),
        Err(task) => Err(format!("no outcome within {PATIENCE:?}: {task:?}").into()),
    }
}
