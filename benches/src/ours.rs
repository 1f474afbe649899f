//! What Stokehold is measured with: pools of this program re-executed, and what it does as their worker.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use stokehold::{Pool, WorkerCommand};
use stokehold_child::{Data, Init, Worker};

use crate::measure::{Outcome, Scratch, monotonic_ns, pin_by_arg};

/// Longer than any worker of these should need for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this program does as a worker.
pub(crate) fn serve(mode: &[&str]) -> ExitCode {
    match *mode {
        ["echo", cpu] => match pin_by_arg(cpu) {
            Ok(()) => stokehold_child::serve_raw(|input, _| Data::from_encoded(input.to_vec())),
            Err(_) => ExitCode::FAILURE,
        },
        ["numbers"] => stokehold_child::serve(|number: u64, _| Ok::<_, io::Error>(number)),
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

/// How the protocol reaches a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    Stdio,
    Dedicated,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Stdio, Self::Dedicated];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Dedicated => "dedicated pipes",
        }
    }
}

/// A pool of workers in that mode, all settings at their defaults.
pub(crate) fn start(transport: Transport, workers: usize, mode: &[&str]) -> Outcome<Pool> {
    let command = match transport {
        Transport::Stdio => WorkerCommand::new(std::env::current_exe()?),
        Transport::Dedicated => WorkerCommand::current_exe(),
    };
    Ok(Pool::builder(command.arg("worker").args(mode)).workers(workers).start()?)
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
