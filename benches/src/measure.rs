//! What is measured with: medians, clocks, figures from `/proc`. It knows no workload.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use rustix::time::{ClockId, clock_gettime};

/// A measurement that cannot be made ends the run with the reason.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

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
