//! What the machine can do without Stokehold: raw pipes to a re-executed child, one message at a time or in batches, and
//! bare processes. Blocking where that is fastest; no leases, no acknowledgement beyond the echo.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::fcntl_setpipe_size;
use stokehold_protocol::{Data, FrameEvent, Message, Recipient, Splitter};

use crate::measure::{Outcome, monotonic_ns, pin_by_arg};

/// Stokehold asks for the same: the limit is that of the same transport.
const PIPE_BYTES: usize = 256 * 1024;
/// Bytes gathered before a write.
const BATCH_BYTES: usize = 64 * 1024;
/// Unanswered messages of one child; more gained nothing.
const IN_FLIGHT: u32 = 4096;

/// What this program does as a child of a limit.
pub(crate) fn serve(mode: &[&str]) -> Outcome<()> {
    match *mode {
        ["echo", bytes, cpu] => {
            pin_by_arg(cpu)?;
            echo(bytes.parse()?)
        }
        ["frames"] => echo_frames(),
        ["copy"] => copy(),
        ["stamp"] => Ok(write_out(&monotonic_ns().to_ne_bytes())?),
        ["wait"] => {
            write_out(b".")?;
            read_some(&mut [0])?;
            Ok(())
        }
        _ => Err(format!("unknown limit {mode:?}").into()),
    }
}

/// A child of a limit, on pipes. Dropping it kills it, so that none outlives a failed measurement.
#[derive(Debug)]
pub(crate) struct RawChild {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
}

impl RawChild {
    pub(crate) fn start(mode: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("limit").args(mode).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let to = child.stdin.take().ok_or("no pipe to the child")?;
        let from = child.stdout.take().ok_or("no pipe from the child")?;
        // As in Stokehold, a refusal is not an error.
        let _ = fcntl_setpipe_size(&to, PIPE_BYTES);
        let _ = fcntl_setpipe_size(&from, PIPE_BYTES);
        Ok(Self { child, to: Some(to), from })
    }

    /// Sends the bytes and waits until as many came back in their place.
    pub(crate) fn round_trip(&mut self, bytes: &mut [u8]) -> Outcome<()> {
        self.to.as_mut().ok_or("the pipe is closed")?.write_all(bytes)?;
        Ok(self.from.read_exact(bytes)?)
    }

    /// Waits for the child's first bytes.
    pub(crate) fn first_bytes<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Closes its input and waits for its end.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        drop(self.to.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a raw child ended with {status}").into()) }
    }
}

impl Drop for RawChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `tasks` copies of `data` as frames through `children` echoing children, batched, and counts the answers.
pub(crate) fn batched_frames(children: usize, tasks: u64, data: &Data) -> Outcome<Duration> {
    let mut lanes = (0..children).map(|_| Lane::start()).collect::<Outcome<Vec<_>>>()?;
    let (mut sent, mut answered) = (0, 0);
    let started = Instant::now();
    while answered < tasks {
        let mut moved = false;
        for lane in &mut lanes {
            sent += lane.fill(tasks - sent, data);
            moved |= lane.write()?;
            let answers = lane.read(data)?;
            answered += u64::from(answers);
            moved |= answers > 0;
        }
        if !moved {
            wait_for_any(&lanes)?;
        }
    }
    let elapsed = started.elapsed();
    lanes.into_iter().try_for_each(|lane| lane.raw.finish())?;
    Ok(elapsed)
}

/// One child of the batched limit.
struct Lane {
    raw: RawChild,
    splitter: Splitter,
    out: Vec<u8>,
    written: usize,
    in_flight: u32,
    last_id: u32,
}

impl Lane {
    fn start() -> Outcome<Self> {
        let raw = RawChild::start(&["frames"])?;
        if let Some(to) = &raw.to {
            fcntl_setfl(to, fcntl_getfl(to)? | OFlags::NONBLOCK)?;
        }
        fcntl_setfl(&raw.from, fcntl_getfl(&raw.from)? | OFlags::NONBLOCK)?;
        Ok(Self { raw, splitter: Splitter::new(), out: Vec::new(), written: 0, in_flight: 0, last_id: 0 })
    }

    /// Encodes another batch when the last one is written. Returns how many tasks it has.
    fn fill(&mut self, most: u64, data: &Data) -> u64 {
        let mut filled = 0;
        if self.written < self.out.len() {
            return filled;
        }
        self.out.clear();
        self.written = 0;
        let message =
            Message { request: "DO", sender: 1, recipient: Recipient::Anyone, data: data.as_bytes() };
        while filled < most && self.in_flight < IN_FLIGHT && self.out.len() < BATCH_BYTES {
            self.last_id = self.last_id.wrapping_add(1);
            message.encode_frame(self.last_id, &mut self.out);
            self.in_flight += 1;
            filled += 1;
        }
        filled
    }

    fn write(&mut self) -> Outcome<bool> {
        let rest = self.out.get(self.written..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        let count = unless_blocked(self.raw.to.as_mut().ok_or("the pipe is closed")?.write(rest))?;
        self.written += count;
        Ok(count > 0)
    }

    fn read(&mut self, data: &Data) -> Outcome<u32> {
        let count = unless_blocked(self.raw.from.read(self.splitter.space()))?;
        self.splitter.filled(count);
        let mut answers = 0;
        while let Some(FrameEvent::Frame { body, .. }) = self.splitter.next_frame()? {
            if Message::decode(body)?.data.len() != data.as_bytes().len() {
                return Err("an echo of another length".into());
            }
            answers += 1;
        }
        self.in_flight -= answers;
        Ok(answers)
    }
}

fn unless_blocked(done: io::Result<usize>) -> Outcome<usize> {
    match done {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        done => Ok(done?),
    }
}

fn wait_for_any(lanes: &[Lane]) -> Outcome<()> {
    let mut fds = Vec::with_capacity(lanes.len() * 2);
    for lane in lanes {
        fds.push(PollFd::new(&lane.raw.from, PollFlags::IN));
        if let Some(to) = lane.raw.to.as_ref().filter(|_| lane.written < lane.out.len()) {
            fds.push(PollFd::new(to, PollFlags::OUT));
        }
    }
    poll(&mut fds, None)?;
    Ok(())
}

/// Gives back every `size` bytes when they are complete.
fn echo(size: usize) -> Outcome<()> {
    let mut bytes = vec![0; size];
    loop {
        let mut got = 0;
        while got < size {
            match read_some(bytes.get_mut(got..).unwrap_or_default())? {
                0 => return Ok(()),
                count => got += count,
            }
        }
        write_out(&bytes)?;
    }
}

/// Answers every frame, writing when the input is dry or a batch is full.
fn echo_frames() -> Outcome<()> {
    let mut splitter = Splitter::new();
    let mut out = Vec::with_capacity(2 * BATCH_BYTES);
    loop {
        let count = read_some(splitter.space())?;
        if count == 0 {
            return Ok(());
        }
        splitter.filled(count);
        while let Some(FrameEvent::Frame { id, body }) = splitter.next_frame()? {
            let data = Message::decode(body)?.data;
            Message { request: "FINISHED", sender: 2, recipient: Recipient::Anyone, data }
                .encode_frame(id, &mut out);
            if out.len() >= BATCH_BYTES {
                write_out(&out)?;
                out.clear();
            }
        }
        write_out(&out)?;
        out.clear();
    }
}

/// Passes bytes on as they come.
fn copy() -> Outcome<()> {
    let mut bytes = vec![0; PIPE_BYTES];
    loop {
        let count = read_some(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        write_out(bytes.get(..count).unwrap_or_default())?;
    }
}

/// Past the buffers of std, which would copy once more.
fn read_some(bytes: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(rustix::stdio::stdin(), bytes)?)
}

/// As [`read_some`].
pub(crate) fn write_out(mut bytes: &[u8]) -> io::Result<()> {
    let out = rustix::stdio::stdout();
    while !bytes.is_empty() {
        let count = rustix::io::write(out.as_fd(), bytes)?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}
