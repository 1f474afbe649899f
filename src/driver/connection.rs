//! One worker's process with its three pipes, as the engine holds them.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use stokehold_protocol::{Splitter, copy};

use super::stderr::StderrTail;
use crate::core::{CpuTime, Outbox, Remains};
use crate::sys::{self, ChildIo, Interest, Poll, Process};

/// How a pool's workers are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: OsString,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    /// The whole environment but for what tells one worker from another.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) dedicated_pipes: bool,
    /// How firmly they are held.
    pub(crate) containment: sys::Containment,
}

impl Launch {
    /// The command for the worker of that number.
    pub(super) fn command(&self, worker: usize) -> sys::SpawnCommand {
        let (io, transport) = match self.dedicated_pipes {
            true => (ChildIo::Fds, "fd:3,4"),
            false => (ChildIo::Stdio, "stdio"),
        };
        let mut env = self.env.clone();
        env.push(("STOKEHOLD_IO".into(), transport.into()));
        env.push(("STOKEHOLD_WORKER".into(), worker.to_string().into()));
        sys::SpawnCommand {
            program: self.program.clone(),
            arg0: self.arg0.clone(),
            args: self.args.clone(),
            env,
            cwd: self.cwd.clone(),
            io,
            containment: self.containment,
        }
    }
}

/// Which of a connection's descriptors is ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Output,
    Input,
    Stderr,
    Process,
}

/// A token names the slot, the process that filled it, and the descriptor: what is left of an earlier process is recognised.
pub(super) fn token(slot: usize, incarnation: u32, part: Part) -> u64 {
    (slot as u64) << 34 | u64::from(incarnation) << 2 | part as u64
}

/// Back from [`token`].
#[expect(clippy::cast_possible_truncation, reason = "the packed parts are taken apart")]
pub(super) fn from_token(token: u64) -> (usize, u32, Part) {
    let part = match token & 3 {
        0 => Part::Output,
        1 => Part::Input,
        2 => Part::Stderr,
        _ => Part::Process,
    };
    ((token >> 34) as usize, (token >> 2) as u32, part)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) incarnation: u32,
    slot: usize,
    pub(super) process: Process,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// The output is not watched, because what came of it is not wanted yet.
    paused: bool,
    stderr: Option<OwnedFd>,
    pub(super) splitter: Splitter,
    pub(super) stderr_tail: StderrTail,
    closes_input: bool,
    /// What the worker had not read when it closed its input.
    unread_when_closed: u64,
    wide_input: Width,
    wide_output: Width,
}

/// How wide a pipe is.
#[derive(Debug, Default)]
enum Width {
    /// As it was made.
    #[default]
    Ordinary,
    /// Wide, or it cannot be.
    Settled { _widened: Option<sys::Widened> },
}

impl Width {
    /// Makes it wide, if that was never tried.
    fn widen(&mut self, pipe: BorrowedFd<'_>) {
        if matches!(self, Self::Ordinary) {
            *self = Self::Settled { _widened: sys::Widened::new(pipe) };
        }
    }
}

/// How far a flush got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flushed {
    /// As far as the pipe takes bytes, or the outbox has them.
    Enough,
    /// The worker reads no more.
    Closed,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadOutcome {
    /// So many bytes; fewer than there was room for if the flag is false.
    Bytes(usize, bool),
    /// Nothing now.
    Blocked,
    /// Nothing ever again.
    End,
}

impl Connection {
    /// Takes a new process and watches its descriptors.
    pub(super) fn new(slot: usize, incarnation: u32, spawned: sys::Spawned, poll: &Poll) -> io::Result<Self> {
        let sys::Spawned { process, to_child, from_child, stderr } = spawned;
        poll.add(process.pidfd(), token(slot, incarnation, Part::Process), Interest::Read)?;
        poll.add(from_child.as_fd(), token(slot, incarnation, Part::Output), Interest::Read)?;
        poll.add(stderr.as_fd(), token(slot, incarnation, Part::Stderr), Interest::Read)?;
        // A worker that closes its input would otherwise not be noticed before the next write.
        poll.add(to_child.as_fd(), token(slot, incarnation, Part::Input), Interest::Room)?;
        Ok(Self {
            incarnation,
            slot,
            process,
            input: Some(to_child),
            output: Some(from_child),
            paused: false,
            stderr: Some(stderr),
            splitter: Splitter::recognising(),
            stderr_tail: StderrTail::default(),
            closes_input: false,
            unread_when_closed: 0,
            wide_input: Width::default(),
            wide_output: Width::default(),
        })
    }

    /// Writes what the pipe takes of the outbox. When it takes no more, the next wait tells when it does.
    pub(super) fn flush(&mut self, outbox: &mut Outbox, poll: &Poll) -> Flushed {
        while !outbox.is_empty() {
            let Some(input) = &self.input else { return Flushed::Closed };
            let mut pieces = outbox.pending();
            if pieces.iter().any(|piece| piece.len() > sys::PROTOCOL_PIPE_BYTES) {
                self.wide_input.widen(input.as_fd());
            }
            copy::cut(&mut pieces);
            // One is written faster than one and empty ones behind it.
            let count = pieces.iter().rposition(|piece| !piece.is_empty()).map_or(0, |last| last + 1);
            let pieces = pieces.map(IoSlice::new);
            match sys::write(input.as_fd(), pieces.get(..count).unwrap_or(&pieces)) {
                Ok(count) => outbox.wrote(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Enough,
                Err(_) => {
                    self.lose_input(poll);
                    return Flushed::Closed;
                }
            }
        }
        if self.closes_input {
            self.close_input(poll);
        }
        Flushed::Enough
    }

    /// The input is closed as soon as the outbox is empty.
    pub(super) fn close_input_when_flushed(&mut self) {
        self.closes_input = true;
    }

    /// Reads frames' bytes into the splitter.
    pub(super) fn read_output(&mut self) -> ReadOutcome {
        let Some(output) = &self.output else { return ReadOutcome::End };
        if let Some(large) = self.splitter.large() {
            self.wide_output.widen(output.as_fd());
            let room = large.capacity() - large.len();
            return outcome(sys::read_more(output.as_fd(), large), room);
        }
        let space = self.splitter.space();
        let room = space.len();
        let outcome = outcome(sys::read(output.as_fd(), space), room);
        if let ReadOutcome::Bytes(count, _) = outcome {
            self.splitter.filled(count);
            return ReadOutcome::Bytes(count, count == room);
        }
        outcome
    }

    /// Reads stderr into `scratch`.
    pub(super) fn read_stderr(&self, scratch: &mut [u8]) -> ReadOutcome {
        match &self.stderr {
            Some(stderr) => outcome(sys::read(stderr.as_fd(), scratch), scratch.len()),
            None => ReadOutcome::End,
        }
    }

    /// Whether the output is to be left alone.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// The output is left alone for a while. It is not watched at all then: an end of it is always reported, and would wake the
    /// engine again and again.
    pub(super) fn pause_output(&mut self, poll: &Poll) {
        if let Some(output) = &self.output {
            self.paused = true;
            let _ = poll.remove(output.as_fd());
        }
    }

    /// The output is read again. Fails when the system has no memory for it.
    pub(super) fn resume_output(&mut self, poll: &Poll) -> io::Result<()> {
        if let (true, Some(output)) = (self.paused, &self.output) {
            poll.add(output.as_fd(), token(self.slot, self.incarnation, Part::Output), Interest::Read)?;
        }
        self.paused = false;
        Ok(())
    }

    /// No more output is read.
    pub(super) fn close_output(&mut self, poll: &Poll) {
        close(&mut self.output, poll);
    }

    /// No more stderr is read.
    pub(super) fn close_stderr(&mut self, poll: &Poll) {
        close(&mut self.stderr, poll);
    }

    /// How many bytes written to the worker it has not read.
    fn unread_input(&self) -> u64 {
        self.input.as_ref().map_or(self.unread_when_closed, |input| sys::unread(input.as_fd()))
    }

    /// The worker is gone: what the system tells of it. Drain the pipes after, and then close them.
    pub(super) fn reap(&mut self, poll: &Poll) -> Remains {
        // An error here means that the descriptor is not watched: what was wanted.
        let _ = poll.remove(self.process.pidfd());
        let sys::Ended { status, user, system } = self.process.reap();
        let cpu = user.zip(system).map(|(user, system)| CpuTime { user, system });
        let out_of_memory = self.process.was_oom_killed();
        Remains { status, cpu, out_of_memory, unread: self.unread_input() }
    }

    /// How much memory its process has now, and had at the most, in bytes.
    pub(super) fn memory(&self) -> Option<(u64, u64)> {
        let sys::Memory { resident, peak } = self.process.memory()?;
        Some((resident, peak))
    }

    /// Closes the pipes.
    pub(super) fn close(&mut self, poll: &Poll) {
        self.close_input(poll);
        self.close_output(poll);
        self.close_stderr(poll);
    }

    /// The worker closed its input.
    pub(super) fn lose_input(&mut self, poll: &Poll) {
        if let Some(input) = &self.input {
            self.unread_when_closed = sys::unread(input.as_fd());
        }
        self.close_input(poll);
    }

    fn close_input(&mut self, poll: &Poll) {
        close(&mut self.input, poll);
    }
}

fn close(fd: &mut Option<OwnedFd>, poll: &Poll) {
    if let Some(fd) = fd.take() {
        let _ = poll.remove(fd.as_fd());
    }
}

/// What a read into `room` bytes of room brought.
fn outcome(read: io::Result<usize>, room: usize) -> ReadOutcome {
    match read {
        Ok(0) => ReadOutcome::End,
        Ok(count) => ReadOutcome::Bytes(count, count == room),
        Err(error) if error.kind() == ErrorKind::WouldBlock => ReadOutcome::Blocked,
        Err(_) => ReadOutcome::End,
    }
}
