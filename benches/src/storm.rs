//! Stokehold in the kill storm: 400 tasks of 10 ms on 2 workers, all settings at their defaults, one line for each outcome.
//! It kills nobody: the storm comes from `benches/kill_storm/compare.py`, which reads the lines.

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use stokehold::{Pool, Request, TaskError, TaskErrorKind, WorkerCommand};

use crate::measure::Outcome;
use crate::ours;

const NAP: Request<u64, u64> = Request::new("nap");
const NAP_TIME: Duration = Duration::from_millis(10);
const TASKS: u64 = 400;
const WORKERS: usize = 2;
/// Before the storm, as the other pools of the comparison do.
const WARM_UP_TASKS: u64 = 8;
/// As long as the other pools of the comparison have.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this program does as a worker of the storm.
pub(crate) fn serve() -> ExitCode {
    stokehold_child::Worker::new(|_| Ok::<(), Infallible>(()))
        .on(NAP, |(), number, _| {
            thread::sleep(NAP_TIME);
            Ok::<_, Infallible>(number)
        })
        .serve()
}

/// Warms up, says `start` and submits, then `I done` or `I failed WHY` for task I, then `end` when the pool is closed.
pub(crate) fn run() -> Outcome<()> {
    let command = WorkerCommand::current_exe().args(["worker", "storm"]);
    let pool = Pool::builder(command).workers(WORKERS).start()?;
    let warm_up =
        (0..WARM_UP_TASKS).map(|number| pool.submit(NAP, &number)).collect::<Result<Vec<_>, _>>()?;
    for task in warm_up {
        task.wait()?;
    }
    tell("start")?;
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        match pool.submit(NAP, &number) {
            Ok(task) => tasks.push((number, task)),
            Err(_) => tell(&format!("{number} failed Submit"))?,
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for (number, task) in tasks {
        // One that is not done in time is not told of, and so counts as lost.
        let Ok(result) = task.wait_timeout(deadline.saturating_duration_since(Instant::now())) else { break };
        match result {
            Ok(answer) if answer == number => tell(&format!("{number} done"))?,
            Ok(_) => tell(&format!("{number} failed WrongResult"))?,
            Err(error) => tell(&format!("{number} failed {}", why(&error)))?,
        }
    }
    ours::end(pool)?;
    tell("end")
}

/// In one word; with the attempt for `Dead`, because a task must have had all its lives.
fn why(error: &TaskError) -> String {
    match error.kind() {
        TaskErrorKind::Dead => format!("Dead/{}", error.attempt()),
        kind => format!("{kind:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
    }
}

/// A line, at once.
fn tell(line: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
