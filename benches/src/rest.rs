//! A pool at rest: threads, memory, and whether anything moves. Measured in a process of its own, so that what earlier
//! measurements left in memory does not count.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use stokehold::Data;

use crate::measure::{Outcome, Scale, Scratch, Spread, own_children, own_threads, status_field};
use crate::ours::{self, Transport};
use crate::table::{Goal, Row, Table};

/// Main and three of the engine.
const THREADS_MOST: f64 = 4.0;
/// How long buffers and timers of the work before may take to settle.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn run(scale: &Scale, table: &mut Table) -> Outcome<()> {
    for workers in [2, 64] {
        let args = ["probe".to_owned(), workers.to_string(), scale.idle_secs.to_string()];
        let output = Command::new(std::env::current_exe()?).args(args).output()?;
        if !output.status.success() {
            return Err(format!("the probe failed: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let figures = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [threads, parent, worker, moves, worker_moves] = figures[..] else {
            return Err(format!("the probe said {text:?}").into());
        };
        let mut add = |what: &str, unit, figure, goal| {
            let what = format!("{workers} idle workers: {what}");
            table.add(Row { what, unit, limit: None, ours: Spread::one(figure), goal });
        };
        add("threads of the parent", "threads", threads, Goal::AtMost(THREADS_MOST));
        add("memory of the parent (growth of VmRSS)", "KiB/worker", parent, Goal::None);
        add("memory of a worker (VmRSS)", "KiB", worker, Goal::None);
        let secs = scale.idle_secs;
        add(&format!("wake-ups of the engine's threads in {secs} s"), "times", moves, Goal::AtMost(0.0));
        add(
            &format!("wake-ups of the workers and their guardian in {secs} s"),
            "times",
            worker_moves,
            Goal::None,
        );
    }
    table.note(
        "A thread that was never switched to or from has made no system call, and has not run at all: idle pools are judged \
         by the context switches of every thread but the one that measures.",
    );
    Ok(())
}

/// Starts a pool, works with it a little, lets it rest, and prints the figures of [`run`] in that order.
pub(crate) fn probe(workers: &str, seconds: &str) -> Outcome<()> {
    let (workers, idle) = (workers.parse::<usize>()?, Duration::from_secs(seconds.parse()?));
    let own = PathBuf::from("/proc/self");
    let before = status_field(&own, "VmRSS").unwrap_or_default();
    let file = Scratch::new("rest");
    let pool = ours::start(Transport::Dedicated, workers, &["stamp-ready", ours::as_arg(&file)?])?;
    ours::wait_for_stamps(&file, workers)?;
    let tasks = (0..workers * 4).map(|_| pool.submit_data("DO", &Data::bytes(&[7; 64])));
    for task in tasks.collect::<Result<Vec<_>, _>>()? {
        task.wait()?;
    }
    thread::sleep(SETTLE);
    let growth = status_field(&own, "VmRSS").unwrap_or_default().saturating_sub(before);
    let mut threads = own_threads()?;
    let thread_count = threads.len();
    threads.retain(|thread| !thread.ends_with(process::id().to_string()));
    let children = own_children()?;
    let memory = children.iter().filter_map(|child| status_field(child, "VmRSS"));
    let memory = Spread::of(memory.map(|kib| kib as f64).collect()).median;
    let (engine_before, workers_before) = (switches(&threads), switches(&children));
    thread::sleep(idle);
    let (engine, worker) = (switches(&threads) - engine_before, switches(&children) - workers_before);
    ours::end(pool)?;
    let per_worker = growth as f64 / workers as f64;
    writeln!(io::stdout(), "{thread_count} {per_worker} {memory} {engine} {worker}")?;
    Ok(())
}

fn switches(of: &[PathBuf]) -> u64 {
    let both = |path| {
        ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
            .map(|field| status_field(path, field).unwrap_or_default())
    };
    of.iter().flat_map(both).sum()
}
