//! The parent under test as a program that runs: its input is written, its output read, its memory looked at, until it ends or
//! the patience does.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::conform::carrier::Carrier;
use crate::conform::process::{Ended, Process, Setup};
use crate::conform::verdict::{Checked, Stop};

/// How often it is looked at: its memory, and how busy it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// More bytes than the outcomes of any case have.
const OUTPUT_KEPT: usize = 128 << 20;

/// Bytes kept of what it wrote on standard error.
const STDERR_KEPT: usize = 256 * 1024;

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How it ended; none if it did not within the patience.
    pub(crate) ended: Option<Ended>,
    pub(crate) output: Vec<u8>,
    /// The last of it.
    pub(crate) stderr: String,
    /// The largest peak of memory of it, or of a process below it.
    pub(crate) memory: u64,
    /// How long its busiest thread ran, or waited for a processor.
    pub(crate) busy: Duration,
    pub(crate) took: Duration,
}

/// Runs it. It is gone afterwards, whatever it did.
pub(crate) fn run(command: &[OsString], input: Vec<u8>, patience: Duration) -> Checked<Ran> {
    let begun = Instant::now();
    let mut process = Process::start(command, Carrier::Either, &Setup::of_a_parent())?;
    let mut ran = Ran {
        ended: None,
        output: Vec::new(),
        stderr: String::new(),
        memory: 0,
        busy: Duration::ZERO,
        took: Duration::ZERO,
    };
    let mut unsent = input.as_slice();
    let mut stderr = Vec::new();
    let (until, mut next_look) = (begun + patience, begun);
    loop {
        if unsent.is_empty() {
            process.input = None;
        }
        if Instant::now() >= next_look {
            ran.memory = ran.memory.max(process.peak_memory());
            ran.busy = ran.busy.max(process.busy());
            next_look = Instant::now() + LOOK_EVERY;
        }
        ran.ended = process.ended();
        let is_late = Instant::now() >= until;
        wait(&process, if ran.ended.is_some() || is_late { Duration::ZERO } else { LOOK_EVERY })?;
        let written = process.input.as_ref().map(|end| rustix::io::write(end, unsent));
        match written {
            Some(Ok(count)) => unsent = unsent.get(count..).unwrap_or_default(),
            None | Some(Err(Errno::AGAIN | Errno::INTR)) => {}
            // It takes no more.
            Some(Err(_)) => unsent = &[],
        }
        let read = read(&mut process.output, &mut ran.output)? + read(&mut process.stderr, &mut stderr)?;
        ran.output.truncate(OUTPUT_KEPT);
        let surplus = stderr.len().saturating_sub(STDERR_KEPT);
        stderr.drain(..surplus);
        // What it wrote before its end is in the pipe. A process it left behind may hold that open: the end is not waited for.
        if is_late || ran.ended.is_some() && read == 0 {
            break;
        }
    }
    ran.stderr = String::from_utf8_lossy(&stderr).into_owned();
    ran.took = begun.elapsed();
    Ok(ran)
}

/// Waits for anything to happen.
fn wait(process: &Process, limit: Duration) -> Checked {
    let mut fds = vec![PollFd::from_borrowed_fd(process.end(), PollFlags::IN)];
    let ends = [
        (&process.input, PollFlags::OUT),
        (&process.output, PollFlags::IN),
        (&process.stderr, PollFlags::IN),
    ];
    for (end, flags) in ends {
        fds.extend(end.as_ref().map(|end| PollFd::from_borrowed_fd(end.as_fd(), flags)));
    }
    match poll(&mut fds, Timespec::try_from(limit).ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(Stop::system("poll", error)),
    }
}

/// Appends what is there. How much that is.
fn read(end: &mut Option<OwnedFd>, out: &mut Vec<u8>) -> Checked<usize> {
    let Some(open) = end else { return Ok(0) };
    let start = out.len();
    out.resize(start + 64 * 1024, 0);
    let count = rustix::io::read(&*open, out.get_mut(start..).unwrap_or_default());
    out.truncate(start + count.unwrap_or(0));
    match count {
        Ok(0) => *end = None,
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
        Err(error) => return Err(Stop::system("reading from the parent", error)),
    }
    Ok(count.unwrap_or(0))
}
