//! Hours of mixed work on one pool whose workers are killed at random: does the process grow, is a task lost? Says so by its
//! status. The work is in `load`, the sums in `trend`; how fast it is, it does not ask.

mod load;
mod trend;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use stokehold::{Pool, WorkerCommand};

use crate::census::{Census, living_workers};
use crate::dice::Dice;
use crate::measure::{Outcome, monotonic_ns};

pub(crate) use load::serve;
use load::{Load, Reins, Tally};
use trend::Trends;

const WORKERS: usize = 4;
/// Threads that submit and wait.
const USERS: u64 = 3;
/// Between two kills, at random: a quarter of a second on average.
const KILL_PAUSE_MS: (u64, u64) = (50, 400);
/// How long the pool may take to have all its workers again before it is looked at.
const WHOLE_WITHIN: Duration = Duration::from_secs(2);
/// Makes the C library give back what is freed, instead of keeping it for later: what grows then is what is held. Read when a
/// process starts, so that the soak begins anew with it.
const GIVE_BACK: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536")];
/// How long the last tasks may take.
const END_WITHIN: Duration = Duration::from_secs(60);

/// How long, from which seed, and where every sample goes.
#[derive(Clone, Debug)]
struct Plan {
    time: Duration,
    seed: u64,
    samples: Option<PathBuf>,
}

impl Plan {
    /// `--minutes N` (60, fractions are fine), `--seed N` (by the clock), `--samples FILE` (none).
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut plan = Self { time: Duration::from_secs(3600), seed: monotonic_ns(), samples: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            match *word {
                "--minutes" => plan.time = Duration::try_from_secs_f64(value.parse::<f64>()? * 60.0)?,
                "--seed" => plan.seed = value.parse()?,
                "--samples" => plan.samples = Some(PathBuf::from(value)),
                other => return Err(format!("unknown argument {other:?}; see --help").into()),
            }
        }
        Ok(plan)
    }

    /// Every few seconds, and often enough in a short run.
    fn sample_pause(&self) -> Duration {
        (self.time / 60).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }
}

/// Runs for the time asked for, prints what was counted, and fails if the process grew or a task was lost.
pub(crate) fn run(words: &[&str]) -> Outcome<()> {
    let plan = Plan::parse(words)?;
    if GIVE_BACK.iter().any(|(name, _)| env::var_os(name).is_none()) {
        let mut again = Command::new(env::current_exe()?);
        return Err(again.arg("soak").args(words).envs(GIVE_BACK).exec().into());
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "A soak of {:?} from seed {} (`soak --seed {} …` repeats it).\n",
        plan.time, plan.seed, plan.seed
    )?;
    let command = WorkerCommand::current_exe().args(["worker", "soak"]);
    let pool = Pool::builder(command).workers(WORKERS).start()?;
    let (tally, reins) = (Tally::default(), Reins::default());
    let (trends, kills) = thread::scope(|scope| {
        for user in 0..USERS {
            let load = Load::new(&pool, &tally, &reins, plan.seed.wrapping_add(user + 1));
            scope.spawn(move || load.run());
        }
        let watched = watch(&plan, &tally, &reins);
        reins.end();
        watched
    })?;
    if let Some(file) = &plan.samples {
        fs::write(file, trends.to_csv())?;
    }
    let complete = pool.shutdown(END_WITHIN).complete;
    let left = living_workers("soak")?.len() as u64 + Census::take()?.zombies;
    writeln!(out, "{trends}\n{tally}; {kills} workers killed; {left} left after the end.")?;
    let faults = [
        (trends.has_grown(), "the process grew"),
        (!tally.is_right(), "a task was lost or ended wrongly"),
        (!complete || left > 0, "workers were left"),
    ];
    let faults: Vec<&str> = faults.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join(", and ").into()) }
}

/// Kills and looks in turn until the time is over, or everything has failed. Both on one thread, so that no look meets a pool
/// that was hit just before.
fn watch(plan: &Plan, tally: &Tally, reins: &Reins) -> Outcome<(Trends, u64)> {
    let mut dice = Dice::new(plan.seed);
    let mut trends = Trends::default();
    let mut kills = 0;
    let started = Instant::now();
    let mut next_look = started + plan.sample_pause();
    let mut next_word = started + Duration::from_secs(60);
    while started.elapsed() < plan.time && !reins.is_over() {
        let (least, spread) = KILL_PAUSE_MS;
        thread::sleep(Duration::from_millis(least + dice.below(spread + 1)));
        if Instant::now() >= next_look {
            next_look += plan.sample_pause();
            trends.add(started.elapsed(), look_at_rest(reins)?);
        }
        if Instant::now() >= next_word {
            next_word += Duration::from_secs(60);
            writeln!(io::stderr(), "{} s: {tally}; {kills} workers killed", started.elapsed().as_secs())?;
        }
        kills += u64::from(kill_one(&mut dice)?);
    }
    Ok((trends, kills))
}

/// Whether a worker was hit.
fn kill_one(dice: &mut Dice) -> Outcome<bool> {
    let workers = living_workers("soak")?;
    let place = usize::try_from(dice.below(workers.len() as u64))?;
    let Some(pid) = workers.get(place).copied() else { return Ok(false) };
    let Some(handle) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return Ok(false);
    };
    // It may have ended before it was opened, and its number may be another's now: only what still is a worker is hit.
    Ok(living_workers("soak")?.contains(&pid) && pidfd_send_signal(&handle, Signal::KILL).is_ok())
}

/// A look while nothing is on its way, so that it sees what is held for nothing.
fn look_at_rest(reins: &Reins) -> Outcome<Census> {
    reins.halt(USERS);
    wait_until_whole()?;
    let census = Census::take();
    reins.go_on();
    census
}

/// A pool that is not whole in time is looked at all the same: that is a finding.
fn wait_until_whole() -> Outcome<()> {
    let deadline = Instant::now() + WHOLE_WITHIN;
    while living_workers("soak")?.len() < WORKERS && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
