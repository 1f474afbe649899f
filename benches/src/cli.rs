//! The command line: how soon a worker has its first line, and how much memory and time a large input takes. Needs the
//! `stokehold` binary beside this one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{self, RawChild};
use crate::measure::{Outcome, Scale, Scratch, Spread, monotonic_ns, status_field};
use crate::ours;
use crate::table::{Goal, Row, Table};

/// With its newline.
const LINE_BYTES: u64 = 100;
/// Lines in one write of the generator: what a pipe holds by default.
const BATCH_LINES: u64 = 655;
/// The limit need not move more to be known.
const LIMIT_BYTES_MOST: u64 = 1 << 30;

pub(crate) fn run(scale: &Scale, table: &mut Table) -> Outcome<()> {
    let own = std::env::current_exe()?;
    let cli = own.with_file_name("stokehold");
    if !cli.exists() {
        table.note(format!(
            "The command line was not measured: {} is missing; run `cargo build --release -p stokehold-cli`.",
            cli.display()
        ));
        return Ok(());
    }
    let (mut bare, mut first) = (Vec::new(), Vec::new());
    for _ in 0..scale.cli_starts {
        bare.push(start_bare()?);
        first.push(start_to_first_task(&cli, &own)?);
    }
    table.add(Row {
        what: "stokehold run: start to the first task in the worker (limit: one bare process)".to_owned(),
        unit: "ms",
        limit: Some(Spread::of(bare)),
        ours: Spread::of(first),
        goal: Goal::AtMost(20.0),
    });
    let bytes = scale.cli_bytes;
    let limit = through(Command::new(&own).args(["limit", "copy"]), bytes.min(LIMIT_BYTES_MOST))?.rate;
    let mut run = Command::new(&cli);
    run.args(["run", "-j", "2", "--lines", "--raw", "--"]).arg(&own).args(["worker", "echo", "any"]);
    let Through { rate, peak_mib } = through(&mut run, bytes)?;
    let what = format!(
        "stokehold run -j 2 --lines --raw, {:.1} GiB of 100-byte lines",
        bytes as f64 / (1u64 << 30) as f64
    );
    table.add(Row {
        what: format!("{what} (limit: one process that copies)"),
        unit: "M lines/s",
        limit: Some(Spread::one(limit)),
        ours: Spread::one(rate),
        goal: Goal::None,
    });
    table.add(Row {
        what: format!("{what}: peak memory (VmHWM)"),
        unit: "MiB",
        limit: None,
        ours: Spread::one(peak_mib),
        goal: Goal::AtMost(64.0),
    });
    Ok(())
}

/// Writes that many bytes of lines: what this program does as the generator. The same batch again and again, so that the
/// generator is not what is measured.
pub(crate) fn generate(bytes: &str) -> Outcome<()> {
    let batch: String = (0..BATCH_LINES).map(|line| format!("{line:0>99}\n")).collect();
    let mut left = bytes.parse::<u64>()? / LINE_BYTES;
    while left > 0 {
        let lines = left.min(BATCH_LINES);
        let end = usize::try_from(lines * LINE_BYTES)?;
        limits::write_out(batch.as_bytes().get(..end).unwrap_or_default())?;
        left -= lines;
    }
    Ok(())
}

/// Milliseconds from here to the first line of `main` in a process of this program.
fn start_bare() -> Outcome<f64> {
    let started = monotonic_ns();
    let mut child = RawChild::start(&["stamp"])?;
    let stamp = u64::from_ne_bytes(child.first_bytes()?);
    child.finish()?;
    Ok(stamp.saturating_sub(started) as f64 / 1e6)
}

/// Milliseconds from here to the handler's first call.
fn start_to_first_task(cli: &Path, worker: &PathBuf) -> Outcome<f64> {
    let file = Scratch::new("first");
    let mut command = Command::new(cli);
    command.args(["run", "-j", "1", "--lines", "--raw", "--"]).arg(worker);
    command.args(["worker", "stamp-first-task", ours::as_arg(&file)?]);
    command.stdout(Stdio::null()).stdin(Stdio::piped());
    let started = monotonic_ns();
    let mut child = Running(command.spawn()?);
    if let Some(mut input) = child.0.stdin.take() {
        std::io::Write::write_all(&mut input, b"a line\n")?;
    }
    child.succeed()?;
    let stamp = ours::wait_for_stamps(&file, 1)?.first().copied().unwrap_or_default();
    Ok(stamp.saturating_sub(started) as f64 / 1e6)
}

/// Millions of lines a second, and peak memory.
#[derive(Clone, Copy, Debug)]
struct Through {
    rate: f64,
    peak_mib: f64,
}

/// Pipes generated lines through a command to nowhere.
fn through(command: &mut Command, bytes: u64) -> Outcome<Through> {
    let own = std::env::current_exe()?;
    let mut generator = Command::new(own);
    generator.args(["generate", &bytes.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut generator = Running(generator.spawn()?);
    let lines = generator.0.stdout.take().ok_or("no pipe from the generator")?;
    let mut child = Running(command.stdin(lines).stdout(Stdio::null()).spawn()?);
    let proc = PathBuf::from(format!("/proc/{}", child.0.id()));
    let mut peak_kib = 0;
    while child.0.try_wait()?.is_none() {
        // The peak never falls, so that the last look has it all but for the last moment.
        peak_kib = status_field(&proc, "VmHWM").unwrap_or(peak_kib);
        thread::sleep(Duration::from_millis(5));
    }
    let elapsed = started.elapsed();
    child.succeed()?;
    generator.succeed()?;
    let rate = (bytes / LINE_BYTES) as f64 / elapsed.as_secs_f64() / 1e6;
    Ok(Through { rate, peak_mib: peak_kib as f64 / 1024.0 })
}

/// A process that does not outlive a failed measurement.
#[derive(Debug)]
struct Running(Child);

impl Running {
    fn succeed(&mut self) -> Outcome<()> {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a measured process ended with {status}").into()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
