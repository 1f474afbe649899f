//! The command line: lines through `stokehold run`, and how soon its worker has the first. It needs the binary beside this one.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Report, Settings, compete};
use crate::measure::{Outcome, Scratch, monotonic_ns, status_field};
use crate::ours;
use crate::raw::{RawChild, Transport};

/// `stokehold run`, reading lines from us and writing to nowhere. Dropping it kills it.
pub(super) struct CommandLine {
    child: Child,
    input: Option<ChildStdin>,
}

impl CommandLine {
    /// With so many workers, which are this program in that mode.
    pub(super) fn start(workers: &str, mode: &[&str]) -> Outcome<Self> {
        let own = std::env::current_exe()?;
        let program: PathBuf = own.with_file_name("stokehold");
        if !program.exists() {
            let program = program.display();
            return Err(format!("{program} is missing: cargo build --release -p stokehold-cli").into());
        }
        let mut command = Command::new(program);
        command.args(["run", "-j", workers, "--lines", "--raw", "--"]).arg(own).arg("worker").args(mode);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.input.as_mut().ok_or("its input is closed")?.write_all(bytes)?)
    }

    /// The most memory it had so far, in KiB.
    pub(super) fn peak_kib(&self) -> f64 {
        status_field(format!("/proc/{}", self.child.id()), "VmHWM").unwrap_or_default() as f64
    }

    /// Closes its input and waits for its end.
    pub(super) fn finish(mut self) -> Outcome<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("stokehold run ended with {status}").into()) }
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From here to the first line in the worker; the limit is from here to the first line of `main` of a bare process. Medians.
pub(super) fn start(settings: &Settings<'_>) -> Outcome<()> {
    let starts = settings.size("n", 20)?;
    let ours = settings.is_ours();
    compete(|| {
        let mut micros = Vec::with_capacity(starts);
        for _ in 0..starts {
            micros.push(if ours { first_line()? } else { bare()? } as f64 / 1e3);
        }
        micros.sort_unstable_by(f64::total_cmp);
        let median = micros.get(starts / 2).copied().unwrap_or_default();
        Ok(Report::of("first_ms", median / 1e3))
    })
}

/// Nanoseconds.
fn first_line() -> Outcome<u64> {
    let file = Scratch::new("first");
    let started = monotonic_ns();
    let mut command = CommandLine::start("1", &["stamp-first-task", ours::as_arg(&file)?])?;
    command.send(b"a line\n")?;
    command.finish()?;
    let stamp = ours::wait_for_stamps(&file, 1)?.first().copied().unwrap_or_default();
    Ok(stamp.saturating_sub(started))
}

fn bare() -> Outcome<u64> {
    let started = monotonic_ns();
    let child = RawChild::start(&["stamp"], Transport::Pipe)?;
    let stamp = u64::from_ne_bytes(child.first_bytes()?);
    child.finish()?;
    Ok(stamp.saturating_sub(started))
}
