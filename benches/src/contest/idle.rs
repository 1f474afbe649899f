//! A pool at rest: its threads, its memory, and whether anything moves. A thread that was never switched to or from has made no
//! system call and has not run at all, so that context switches say it.

use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use stokehold::Data;

use super::{Report, Settings, compete};
use crate::measure::{Outcome, own_children, own_threads, status_field};
use crate::ours;

/// How long buffers and timers of the work before may take to settle: workers give back what was for giant frames after 1 s.
const SETTLE: Duration = Duration::from_millis(1500);

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let workers = settings.size("workers", 2)?;
    let watched = Duration::from_secs(settings.number("seconds", 2)?);
    let own = Path::new("/proc/self");
    let before = status_field(own, "VmRSS").unwrap_or_default();
    let pool = ours::builder(&["echo"])?.workers(workers).start()?;
    let tasks = (0..workers * 4).map(|_| pool.submit_data("DO", &Data::bytes(&[7; 64])));
    for task in tasks.collect::<Result<Vec<_>, _>>()? {
        task.wait()?;
    }
    thread::sleep(SETTLE);
    let grown = status_field(own, "VmRSS").unwrap_or_default().saturating_sub(before);
    let mut engine = own_threads()?;
    let threads = engine.len();
    engine.retain(|thread| !thread.ends_with(process::id().to_string()));
    let children = own_children()?;
    compete(|| {
        let (before, before_children) = (switches(&engine), switches(&children));
        thread::sleep(watched);
        Ok(Report::of("threads", threads as f64)
            .with("rss_kib_per_worker", grown as f64 / workers as f64)
            .with("wake_ups", (switches(&engine) - before) as f64)
            .with("wake_ups_of_workers", (switches(&children) - before_children) as f64))
    })?;
    ours::end(pool)
}

fn switches(of: &[PathBuf]) -> u64 {
    let both = |path| {
        ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
            .map(|field| status_field(path, field).unwrap_or_default())
    };
    of.iter().flat_map(both).sum()
}
