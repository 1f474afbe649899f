//! The wire between a case and its child: bytes out in the pieces that a case wants, messages in, and waiting that always ends.
//!
//! One thread does it all with `poll`: it goes on reading while it writes, as a parent must, unless a case tells it not to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use stokehold_protocol::{Codec, FrameError, FrameEvent, Message, Quote, Splitter};

use super::carrier::{Carrier, line_of};
use super::process::{Ended, Process, waiting};
use super::random::Random;
use super::referee::{Referee, failure};
use super::trace::Trace;
use super::verdict::{Checked, Finding, Stop};

/// The address that the kit gives itself, like the specification's example.
pub(crate) const PARENT: u64 = 1234;

/// Bytes kept of what the child wrote on standard error.
const STDERR_KEPT: usize = 16 * 1024;

/// Bytes of frames that are kept for a script before no more is read.
const HEARD_BYTES: usize = 64 * 1024 * 1024;

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// What keeps other text out of the output.
const GUARD: &str = "keep descriptor 1 for the protocol: put /dev/null on 0 and standard error on 1 before any other code runs";

/// How text mode begins.
const HELLO_LINE: &str = "begin with the line [\"HELLO\",0,null,{\"v\":1}]: it is JSON, where texts and keys stand in double quotes (a shell takes away those that are not quoted themselves)";

/// In which pieces bytes are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pacing {
    /// As many as the pipe takes.
    Whole,
    /// Cut at random places.
    Random,
    /// So many at a time, each piece when the child has taken the one before.
    Pieces(usize),
}

/// What a case leaves behind for its report.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) trace: Trace,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
    /// The last that a child wrote on standard error.
    pub(crate) stderr: String,
}

/// Frames that nobody has looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    frames: VecDeque<(u32, Vec<u8>)>,
    bytes: usize,
}

impl Heard {
    fn push(&mut self, id: u32, body: &[u8]) {
        self.bytes += body.len();
        self.frames.push_back((id, body.to_vec()));
    }

    /// The oldest one: its id and its body.
    pub(crate) fn pop(&mut self) -> Option<(u32, Vec<u8>)> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.1.len();
        Some(frame)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes >= HEARD_BYTES
    }
}

/// One child and the connection to it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) process: Process,
    pub(crate) referee: Referee,
    pub(crate) record: Rc<RefCell<Record>>,
    pub(crate) pacing: Pacing,
    /// Whether the child's frames are read at all.
    pub(crate) reading: bool,
    /// Frames are kept for a script, which judges them instead of the referee.
    pub(crate) heard: Option<Heard>,
    /// Frames are not recorded: there will be many.
    pub(crate) quiet: bool,
    /// How long one thing is waited for.
    pub(crate) patience: Duration,
    /// When the whole case must be over.
    pub(crate) ends: Instant,
    /// The address that the child is given.
    pub(crate) address: u64,
    carrier: Carrier,
    splitter: Splitter,
    pub(super) unsent: VecDeque<u8>,
    random: Random,
    pub(super) next_id: u32,
    stderr: Vec<u8>,
    /// All bytes of standard error, also those not kept.
    pub(crate) stderr_bytes: u64,
}

impl Session {
    pub(crate) fn new(
        process: Process,
        carrier: Carrier,
        address: u64,
        record: Rc<RefCell<Record>>,
        random: Random,
        patience: Duration,
        ends: Instant,
    ) -> Self {
        Self {
            process,
            referee: Referee::new(address, PARENT),
            record,
            pacing: Pacing::Random,
            reading: true,
            heard: None,
            quiet: false,
            patience,
            ends,
            address,
            carrier,
            splitter: carrier.splitter(),
            unsent: VecDeque::new(),
            random,
            next_id: 1,
            stderr: Vec::new(),
            stderr_bytes: 0,
        }
    }

    /// The child's frames up to this size are read: what the kit's HELLO says.
    pub(crate) fn set_max_frame(&mut self, max_frame: u32) {
        self.splitter.set_max_frame(max_frame);
    }

    /// In what the kit and the child speak.
    pub(crate) fn codec(&self) -> Codec {
        self.carrier.codec(self.splitter.codec())
    }

    /// Adds a remark to the record.
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.record.borrow_mut().trace.note(what);
    }

    /// Whether the child said something on standard error.
    pub(crate) fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Waits until all bytes are written, or nobody takes them any more.
    pub(crate) fn flush(&mut self) -> Checked<bool> {
        self.wait(|session| session.unsent.is_empty() || session.process.input.is_none())
    }

    /// Waits until the child has taken all bytes out of the pipe, which nothing tells: it is looked at.
    pub(crate) fn drain(&mut self) -> Checked<bool> {
        let until = (Instant::now() + self.patience).min(self.ends);
        loop {
            let left = self.process.input.as_ref().map_or(0, waiting);
            if self.process.input.is_none() || self.unsent.is_empty() && left == 0 {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            self.turn((Instant::now() + LOOK_EVERY).min(until))?;
        }
    }

    /// Waits until `done`; false if it is not within the case's patience.
    pub(crate) fn wait(&mut self, done: impl FnMut(&Self) -> bool) -> Checked<bool> {
        self.wait_for(self.patience, done)
    }

    pub(crate) fn wait_for(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Checked<bool> {
        let until = (Instant::now() + limit).min(self.ends);
        loop {
            if done(self) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            self.turn(until)?;
        }
    }

    /// Waits for one event at most, not longer than `until`; handles it. Whether there was one.
    pub(crate) fn turn(&mut self, until: Instant) -> Checked<bool> {
        let held_back = matches!(self.pacing, Pacing::Pieces(_))
            && self.process.input.as_ref().is_some_and(|end| waiting(end) > 0);
        let writes = !self.unsent.is_empty() && !held_back;
        let reads = self.reading && !self.heard.as_ref().is_some_and(Heard::is_full);
        let wait = until.saturating_duration_since(Instant::now());
        let wait = if held_back { wait.min(LOOK_EVERY) } else { wait };
        let (mut input, mut output, mut stderr) = (false, false, false);
        {
            let ended = self.process.ended().is_some();
            let mut fds = Vec::with_capacity(4);
            let mut whose = Vec::with_capacity(4);
            let ends = [
                (self.process.input.as_ref().filter(|_| writes), PollFlags::OUT, 0),
                (self.process.output.as_ref().filter(|_| reads), PollFlags::IN, 1),
                (self.process.stderr.as_ref(), PollFlags::IN, 2),
            ];
            for (end, flags, which) in ends {
                if let Some(end) = end {
                    fds.push(PollFd::from_borrowed_fd(end.as_fd(), flags));
                    whose.push(which);
                }
            }
            if !ended {
                fds.push(PollFd::from_borrowed_fd(self.process.end(), PollFlags::IN));
                whose.push(3);
            }
            let time = Timespec::try_from(wait).ok();
            match poll(&mut fds, time.as_ref()) {
                Ok(0) if held_back => return Ok(true),
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(true),
                Err(error) => return Err(Stop::system("poll", error)),
            }
            for (fd, which) in fds.iter().zip(&whose) {
                let is_ready = !fd.revents().is_empty();
                match which {
                    0 => input = is_ready,
                    1 => output = is_ready,
                    2 => stderr = is_ready,
                    _ => {}
                }
            }
        }
        if input {
            self.write_some()?;
        }
        if stderr {
            self.read_stderr();
        }
        if output {
            self.read_some()?;
        }
        // Its end is news only once: with nothing else ready, and it ended, the next round has nothing to watch.
        Ok(input || output || stderr || self.process.ended().is_none())
    }

    fn write_some(&mut self) -> Checked {
        let Some(end) = &self.process.input else { return Ok(()) };
        let (front, _) = self.unsent.as_slices();
        let most = match self.pacing {
            Pacing::Whole => front.len(),
            // Large ones are not cut small, or it would take for ever.
            Pacing::Random if front.len() > 64 * 1024 => 1 + self.random.below(64 * 1024),
            Pacing::Random => 1 + self.random.below(front.len()),
            Pacing::Pieces(most) => most.max(1),
        };
        let piece = front.get(..most.min(front.len())).unwrap_or_default();
        match rustix::io::write(end, piece) {
            Ok(count) => {
                self.unsent.drain(..count);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                // It has closed its input, or died: what follows tells which.
                self.unsent.clear();
                self.process.input = None;
                self.note("the child does not read any more");
            }
        }
        Ok(())
    }

    fn read_some(&mut self) -> Checked {
        let Some(end) = &self.process.output else { return Ok(()) };
        let count = match rustix::io::read(end, self.splitter.space()) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(Stop::system("reading from the child", error)),
        };
        if count == 0 {
            self.process.output = None;
            if self.quiet_about_the_end() {
                return Ok(());
            }
            let quote = self.splitter.quote();
            return self.splitter.finish().map_err(|error| {
                if let Some(stop) = self.no_beginning(quote) {
                    return stop;
                }
                let (statement, hint) = match error {
                    FrameError::UnfinishedLine { .. } => ("T-1", "end every line with LF, the last one too"),
                    _ => ("F-4", "write whole frames: the length counts the id and the body, and every byte of both must follow"),
                };
                Stop::fail(statement, format!("the child's output ends too early: {error}"), hint)
            });
        }
        self.splitter.filled(count);
        self.take_frames()
    }

    /// A child that was killed, or ends without a word, may leave half a frame.
    fn quiet_about_the_end(&self) -> bool {
        matches!(self.process.ended(), Some(Ended::Signal(_)))
    }

    /// A child that is offered lines only, and whose first bytes begin none ([T-8]).
    fn expect_lines(&mut self) -> Checked {
        if self.carrier != Carrier::Lines || self.splitter.codec() != Some(Codec::MessagePack) {
            return Ok(());
        }
        let quote = self.splitter.quote();
        if let Some(stop) = self.no_beginning(quote) {
            return Err(stop);
        }
        let refusal = match self.splitter.next_frame() {
            // Perhaps a refusal, once it is whole.
            Ok(None) => return Ok(()),
            Ok(Some(FrameEvent::Frame { id: 0, body })) => Message::decode(body).ok(),
            _ => None,
        };
        if let Some(refusal) = refusal.filter(|message| message.request == "FAILED") {
            return Err(Stop::fail(
                "T-8",
                format!("the child was offered lines, and it refused in a frame: {}", failure(refusal.data)),
                "test a child that speaks frames only with --level L2",
            ));
        }
        Err(Stop::fail(
            "T-8",
            format!("the child's output does not begin like HELLO in a line, but with {quote}"),
            "begin with [\"HELLO\",0,null,{\"v\":1}] on a line of its own; keep descriptor 1 for lines",
        ))
    }

    /// Whether the child seems to speak text mode, however well.
    pub(crate) fn is_in_lines(&self) -> bool {
        self.codec() == Codec::Json
            || self.referee.hello.is_none() && looks_like_a_line(self.splitter.quote())
    }

    /// What is wrong with text that nothing good stood before: people and print statements write such.
    fn no_beginning(&self, quote: Quote) -> Option<Stop> {
        let is_first = self.referee.hello.is_none() && self.referee.refused.is_none();
        if !is_first || !quote.looks_like_text() || self.splitter.codec() == Some(Codec::Json) {
            return None;
        }
        Some(if !looks_like_a_line(quote) {
            Stop::fail("F-1", format!("the child's output is text, and no message: {quote}"), GUARD)
        } else if self.carrier == Carrier::Frames {
            Stop::fail(
                "F-1",
                format!("the child was offered frames, and it speaks text mode: {quote}"),
                "try --level L1, which is about text mode",
            )
        } else {
            Stop::fail("T-8", format!("the child's first line is no HELLO: {quote}"), HELLO_LINE)
        })
    }

    fn take_frames(&mut self) -> Checked {
        loop {
            self.expect_lines()?;
            let codec = self.codec();
            let quote = self.splitter.quote();
            let event = self.splitter.next_frame().map_err(|error| {
                let statement = if codec == Codec::Json { "T-6" } else { "F-1" };
                Stop::fail(statement, format!("the child's output is no message: {error}"), GUARD)
            });
            let event = match event {
                Ok(event) => event,
                Err(stop) => return Err(self.no_beginning(quote).unwrap_or(stop)),
            };
            match event {
                None => return Ok(()),
                Some(FrameEvent::TooLarge { id, len, .. }) => {
                    let what = format!("a message of {len} bytes with id {id}, above the parent's max_frame");
                    if !self.referee.take_too_large(id, &what) {
                        return Err(Stop::fail(
                            "F-2",
                            what,
                            "answer FAILED `too_large` instead of a message above the parent's max_frame",
                        ));
                    }
                }
                Some(FrameEvent::Frame { id, body }) => {
                    if !self.quiet {
                        self.record.borrow_mut().trace.received(&as_received(codec, id, body), codec);
                    }
                    match &mut self.heard {
                        Some(heard) => heard.push(id, body),
                        None => self.referee.take(id, body)?,
                    }
                }
                Some(FrameEvent::BadData { id, head, error }) => {
                    self.record
                        .borrow_mut()
                        .trace
                        .note(format!("a line with id {id} whose data is none: {error}"));
                    self.referee.take_bad_data(id, head, error)?;
                }
                Some(FrameEvent::BadLine { id, quote, error }) => {
                    self.record.borrow_mut().trace.note(format!("the line {quote} is no message: {error}"));
                    let is_first = self.referee.hello.is_none();
                    self.referee.take_bad_line(id, *quote, error).map_err(|stop| match stop {
                        Stop::Fail(finding) if is_first => {
                            Stop::fail(finding.statement, finding.what, HELLO_LINE)
                        }
                        stop => stop,
                    })?;
                }
            }
            // A request of the child's own: version 1 has no answer but this ([R-32]).
            for id in std::mem::take(&mut self.referee.asked) {
                let refusal = self.frame(id, "FAILED", &super::trace::json(r#"{"code":"unavailable"}"#));
                self.unsent.extend(refusal);
            }
        }
    }

    fn read_stderr(&mut self) {
        let Some(end) = &self.process.stderr else { return };
        let mut piece = Vec::with_capacity(64 * 1024);
        match rustix::io::read(end, spare_capacity(&mut piece)) {
            Ok(0) => self.process.stderr = None,
            Ok(count) => {
                self.stderr_bytes += count as u64;
                self.stderr.extend_from_slice(&piece);
                let surplus = self.stderr.len().saturating_sub(STDERR_KEPT);
                self.stderr.drain(..surplus);
            }
            Err(_) => {}
        }
    }
}

/// Whether somebody may have meant a first line of text mode.
fn looks_like_a_line(quote: Quote) -> bool {
    let text = quote.as_bytes();
    quote.looks_like_text() && text.strip_prefix(b"0 ").unwrap_or(text).starts_with(b"[")
}

/// A message of the child as it came.
fn as_received(codec: Codec, id: u32, body: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Json => line_of(id, body),
        Codec::MessagePack => {
            let mut bytes = stokehold_protocol::frame_header(id, body.len()).to_vec();
            bytes.extend_from_slice(body);
            bytes
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut record = self.record.borrow_mut();
        record.warnings.append(&mut self.referee.warnings);
        if !self.stderr.is_empty() {
            record.stderr = self.stderr_text();
        }
    }
}
