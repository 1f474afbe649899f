//! What is measured and with what: amounts, medians, clocks, figures from `/proc`, processors. It knows no workload.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A measurement that cannot be made ends the run with the reason.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Interleaved rounds of each comparison.
    pub(crate) rounds: usize,
    /// Slices of lock-step round trips. More than rounds, and short, because the scheduler changes its mind about which
    /// cores to use, and each side of the comparison should meet both.
    pub(crate) slices: usize,
    /// Round trips in a slice.
    pub(crate) trips: usize,
    /// Pipelined tasks in a round.
    pub(crate) tasks: u64,
    /// Large payloads in a round.
    pub(crate) payloads: usize,
    /// Starts of the command line.
    pub(crate) cli_starts: usize,
    /// Bytes of lines through the command line.
    pub(crate) cli_bytes: u64,
    /// How long an idle pool is watched.
    pub(crate) idle_secs: u64,
}

impl Scale {
    /// For figures to keep.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        slices: 20,
        trips: 2000,
        tasks: 2_000_000,
        payloads: 1000,
        cli_starts: 40,
        cli_bytes: 1 << 30,
        idle_secs: 5,
    };
    /// For a look.
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        slices: 20,
        trips: 300,
        tasks: 400_000,
        payloads: 200,
        cli_starts: 10,
        cli_bytes: 128 << 20,
        idle_secs: 2,
    };
}

/// Median and extremes of some rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { median: percentile(&values, 50), min: percentile(&values, 0), max: percentile(&values, 100) }
    }

    pub(crate) fn one(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
}

/// Of sorted values; 0 of none.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

/// CLOCK_MONOTONIC in ns: the same in every process, unlike an `Instant`, which cannot be handed to another.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Processor time of this process and of its children that have ended and been waited for, in ns. The children's part
/// comes in clock ticks, usually of 10 ms.
pub(crate) fn cpu_ns() -> Outcome<u64> {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Fields 16 and 17, counted behind the program's name, which is field 2 and may contain anything.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let own = own.tv_sec.unsigned_abs() * 1_000_000_000 + own.tv_nsec.unsigned_abs();
    Ok(own + ticks * 1_000_000_000 / clock_ticks_per_second())
}

/// A number of `/proc/PID/status`, or of a thread's, such as VmRSS in KiB. `None` when the process is gone.
pub(crate) fn status_field(of: impl AsRef<Path>, field: &str) -> Option<u64> {
    let status = fs::read_to_string(of.as_ref().join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The directories in `/proc/self/task`, one for each thread.
pub(crate) fn own_threads() -> Outcome<Vec<PathBuf>> {
    fs::read_dir("/proc/self/task")?.map(|entry| Ok(entry?.path())).collect()
}

/// The directories in `/proc` of this process's children.
pub(crate) fn own_children() -> Outcome<Vec<PathBuf>> {
    let own = u64::from(process::id());
    let all = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(all.filter(|path| status_field(path, "PPid") == Some(own)).collect())
}

/// Which processors a comparison runs on. The children pin themselves, everything else is inherited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cores {
    /// As the scheduler likes.
    Free,
    /// Parent and child share one.
    One(usize),
    /// The parent on the first, the child on the second.
    Two(usize, usize),
}

impl Cores {
    /// All that this machine, or the set this process was started in, allows.
    pub(crate) fn all() -> Outcome<Vec<Self>> {
        let set = sched_getaffinity(None)?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).take(2).collect();
        Ok(match allowed.as_slice() {
            [first, second] => vec![Self::Free, Self::One(*first), Self::Two(*first, *second)],
            _ => vec![Self::Free],
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Free => "as scheduled",
            Self::One(_) => "one core",
            Self::Two(..) => "two cores",
        }
    }

    /// The argument that tells a child where to pin itself.
    pub(crate) fn child_arg(self) -> String {
        match self {
            Self::Free => "any".to_owned(),
            Self::One(cpu) | Self::Two(_, cpu) => cpu.to_string(),
        }
    }

    /// Runs `body` with this thread, and all that it starts, on the parent's processor.
    pub(crate) fn around<T>(self, body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let before = sched_getaffinity(None)?;
        if let Self::One(cpu) | Self::Two(cpu, _) = self {
            pin(cpu)?;
        }
        let result = body();
        sched_setaffinity(None, &before)?;
        result
    }
}

/// What a child does with the argument of [`Cores::child_arg`].
pub(crate) fn pin_by_arg(arg: &str) -> Outcome<()> {
    if arg == "any" { Ok(()) } else { pin(arg.parse()?) }
}

fn pin(cpu: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// A file in the directory for temporary files that goes when this does.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let unique = format!("stokehold-benches-{}-{}-{name}", process::id(), monotonic_ns());
        Self(std::env::temp_dir().join(unique))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
