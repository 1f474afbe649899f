//! What Stokehold is measured with: pools of this program re-executed, and what it does as their worker.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use stokehold::{Pool, PoolBuilder, WorkerCommand};
use stokehold_child::{Data, Init, Worker};

use crate::contest::touch;
use crate::measure::{Outcome, Scratch, monotonic_ns};

/// Longer than any worker of these should need for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// As large as the protocol allows.
const FRAME_BYTES: u32 = 134_217_727;

/// What this program does as a worker.
pub(crate) fn serve(mode: &[&str]) -> ExitCode {
    let worker = |_: &mut Init| Ok::<_, io::Error>(0_u64);
    match *mode {
        ["echo"] => Worker::new(worker)
            .max_frame(FRAME_BYTES)
            .on_raw("DO", |_, input, context| Ok::<_, io::Error>(context.keep(input)))
            .serve(),
        ["touch"] => Worker::new(worker)
            .max_frame(FRAME_BYTES)
            .on_raw("DO", |_, input, _| Data::encode(&touch(input)))
            .serve(),
        ["count"] => Worker::new(worker)
            .on_raw("DO", |count, _, _| {
                *count += 1;
                Ok::<_, io::Error>(Data::nil())
            })
            .serve(),
        ["add-one"] => stokehold_child::serve(|number: u64, _| Ok::<_, io::Error>(number + 1)),
        ["stamp-ready", file] => Worker::new(move |_: &mut Init| stamp(file))
            .on_raw("DO", |(), input, _| Data::from_encoded(input.to_vec()))
            .serve(),
        ["stamp-first-task", file] => {
            let mut stamped = false;
            stokehold_child::serve_raw(move |input, _| {
                if !stamped {
                    stamp(file)?;
                    stamped = true;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Data::from_encoded(input.to_vec())?)
            })
        }
        _ => ExitCode::FAILURE,
    }
}

/// A pool of workers in that mode, all settings at their defaults.
pub(crate) fn builder(mode: &[&str]) -> Outcome<PoolBuilder> {
    Ok(Pool::builder(WorkerCommand::current_exe().arg("worker").args(mode)))
}

/// Ends a pool and makes sure that its workers' processor time is counted and none is left.
pub(crate) fn end(pool: Pool) -> Outcome<()> {
    let report = pool.shutdown(PATIENCE);
    if report.is_graceful() {
        Ok(())
    } else {
        Err(format!("the pool did not end by itself: {report:?}").into())
    }
}

/// Appends the time as one line.
pub(crate) fn stamp(file: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{}\n", monotonic_ns()).as_bytes())
}

/// Waits until `count` times were stamped, and gives them sorted.
pub(crate) fn wait_for_stamps(file: &Scratch, count: usize) -> Outcome<Vec<u64>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stamps = stamps(&file.0);
        if stamps.len() >= count {
            stamps.sort_unstable();
            return Ok(stamps);
        }
        if Instant::now() > deadline {
            return Err(format!("{} of {count} workers in {PATIENCE:?}", stamps.len()).into());
        }
        // Seldom, so that the looking does not disturb what is measured; the times are the workers' own.
        thread::sleep(Duration::from_millis(2));
    }
}

fn stamps(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The path as an argument.
pub(crate) fn as_arg(file: &Scratch) -> Outcome<&str> {
    file.0.to_str().ok_or_else(|| "the directory for temporary files has no UTF-8 name".into())
}
