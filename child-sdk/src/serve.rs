//! The loop: read, hand each task to its handler, write the answers. Works on any byte streams; what a process needs around
//! it is in `worker.rs` and `guard.rs`.
//!
//! Frames are handled where they lie in the splitter's buffer; nothing is copied or allocated for a task besides what the
//! handler does.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use stokehold_protocol::{
    ApiMisuse, ChildEvent, ChildHello, ChildSession, Die, Failure as WireFailure, FrameError, FrameEvent,
    Kind, Message, Meta, PeerError, Recipient, Splitter, code,
};

use crate::coalesce::{Before, Coalesce};
use crate::context::Ctx;
use crate::outlook::Outlook;
use crate::{failure, panics, report};

/// Bytes that may wait for a write; with more, even refusals are written before the next frame is looked at.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// A buffer that grew beyond this is given back, so that one giant answer does not stay paid for.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// Names listed to somebody who asked for a request that nobody handles.
const NAMES_LISTED_MAX: usize = 16;

/// A handler under its name.
pub(crate) struct Entry<'h, S> {
    /// The request's name.
    pub(crate) name: &'static str,
    /// Reads the input, runs the handler, and leaves the encoded result in the last argument, which comes empty.
    pub(crate) run: Run<'h, S>,
}

/// A handler without its types.
pub(crate) type Run<'h, S> =
    Box<dyn FnMut(&mut S, &[u8], &mut Ctx, &mut Vec<u8>) -> Result<(), Box<WireFailure>> + 'h>;

impl<S> fmt::Debug for Entry<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}

/// Why serving ended before its time.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This crate broke the rules of its own session.
    Bug(ApiMisuse),
    /// Reading or writing failed.
    Io(io::Error),
    /// `init` failed.
    NotReady(Box<dyn Error + Send + Sync>),
    /// The parent broke the protocol.
    Peer(PeerError),
    /// Nobody reads the answers.
    ReaderGone,
    /// The input ended inside a frame.
    Truncated(FrameError),
}

impl From<ApiMisuse> for Stop {
    fn from(misuse: ApiMisuse) -> Self {
        Self::Bug(misuse)
    }
}

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::ReaderGone,
            _ => Self::Io(error),
        }
    }
}

/// What a whole connection needs besides its streams.
pub(crate) struct Plan<'e, 'h, S> {
    /// What HELLO says.
    pub(crate) hello: ChildHello,
    /// This process.
    pub(crate) pid: u64,
    /// The handlers.
    pub(crate) entries: &'e mut [Entry<'h, S>],
    /// The slot, for handlers.
    pub(crate) worker: Option<u32>,
}

/// Serves one connection from HELLO to BYE. `init` runs after HELLO was written; `before_bye` when all answers are.
pub(crate) fn serve<S>(
    mut input: impl Read,
    output: impl Write,
    plan: Plan<'_, '_, S>,
    init: impl FnOnce() -> Result<S, Box<dyn Error + Send + Sync>>,
    before_bye: impl FnOnce(),
) -> Result<(), Stop> {
    // With a window of 1 nothing ever stands behind a task, so that nothing needs to be said of held-back answers.
    let has_company = plan.hello.window > 1;
    let mut session = ChildSession::new(plan.hello, plan.pid);
    let mut out = Outbox { bytes: Vec::new(), output, coalesce: Coalesce::default() };
    session.hello(&mut out.bytes)?;
    out.flush()?;
    let state = init().map_err(Stop::NotReady)?;
    session.ready(&mut out.bytes)?;
    let context = Ctx { request: "", task_id: 0, attempt: 1, worker: plan.worker };
    let now = Instant::now();
    let mut desk = Desk {
        session,
        out,
        entries: plan.entries,
        state,
        context,
        pid: plan.pid,
        has_company,
        scratch: Vec::new(),
        now,
    };
    let mut splitter = Splitter::new();
    let mut outlook = Outlook::default();
    loop {
        desk.write_out()?;
        let space = splitter.space();
        let count = input.read(space)?;
        if count == 0 {
            splitter.finish().map_err(Stop::Truncated)?;
            desk.session.handle_eof();
            break;
        }
        if outlook.finds_die_now(space.get(..count).unwrap_or_default()) {
            return Ok(());
        }
        splitter.filled(count);
        desk.now = Instant::now();
        match desk.work_through(&mut splitter) {
            Ok(After::GoOn) => {}
            Ok(After::Finish) => break,
            Ok(After::Drop) => return Ok(()),
            Err(stop) => {
                if matches!(stop, Stop::Peer(_)) {
                    // What was answered before the parent went wrong is still an answer.
                    let _ = desk.out.flush();
                }
                return Err(stop);
            }
        }
    }
    desk.out.flush()?;
    before_bye();
    desk.session.bye(&mut desk.out.bytes)?;
    desk.out.flush()
}

/// What comes after a frame.
enum After {
    GoOn,
    /// All that was received is done: say BYE.
    Finish,
    /// End without a word.
    Drop,
}

/// Answers on their way out.
struct Outbox<W> {
    bytes: Vec<u8>,
    output: W,
    coalesce: Coalesce,
}

impl<W: Write> Outbox<W> {
    fn flush(&mut self) -> Result<(), Stop> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.output.write_all(&self.bytes)?;
        self.coalesce.flushed();
        empty(&mut self.bytes);
        Ok(())
    }
}

/// Everything that a frame meets.
struct Desk<'e, 'h, S, W> {
    session: ChildSession,
    out: Outbox<W>,
    entries: &'e mut [Entry<'h, S>],
    state: S,
    context: Ctx,
    pid: u64,
    /// Whether tasks may wait here behind the one in hand.
    has_company: bool,
    /// The result of the task in hand, encoded.
    scratch: Vec<u8>,
    /// The clock as it was last read: the end of one handler is the start of the next.
    now: Instant,
}

impl<S, W: Write> Desk<'_, '_, S, W> {
    fn work_through(&mut self, splitter: &mut Splitter) -> Result<After, Stop> {
        while let Some(frame) = splitter.next_frame().map_err(PeerError::from)? {
            let after = match frame {
                FrameEvent::Frame { id, body } => self.take(id, body)?,
                FrameEvent::TooLarge { id, len, head } => {
                    self.refuse_too_large(id, len, head);
                    After::GoOn
                }
            };
            if !matches!(after, After::GoOn) {
                return Ok(after);
            }
            if self.out.bytes.len() > WAITING_BYTES_MAX {
                self.write_out()?;
            }
        }
        Ok(After::GoOn)
    }

    fn take(&mut self, id: u32, body: &[u8]) -> Result<After, Stop> {
        match self.session.handle_frame(id, body, &mut self.out.bytes)? {
            ChildEvent::Task { id, request, data, meta } => self.run(id, request, data, &meta)?,
            ChildEvent::OneWay { request, data } => self.run(0, request, data, &Meta::default())?,
            ChildEvent::Ping { data } => self.session.pong(data, &mut self.out.bytes),
            ChildEvent::Die(Die { now: true, .. }) => return Ok(After::Drop),
            ChildEvent::Die(_) => return Ok(After::Finish),
            // A serial worker has no way to stop a task, and does not list the capability.
            ChildEvent::Hello | ChildEvent::Cancel { .. } | ChildEvent::Refused | ChildEvent::Ignored => {}
        }
        Ok(After::GoOn)
    }

    /// Runs a task, or with id 0 a one-way request, and appends its answer.
    fn run(&mut self, id: u32, request: &str, data: &[u8], meta: &Meta) -> Result<(), Stop> {
        let Some(index) = self.entries.iter().position(|entry| entry.name == request) else {
            return if id == 0 { Ok(()) } else { self.refuse_unknown(id, request) };
        };
        match self.out.coalesce.before_handler(self.out.bytes.len(), self.now) {
            Before::Announce if self.has_company => self.announce()?,
            Before::Nothing | Before::Announce => {}
            Before::Write => {
                self.write_out()?;
                self.now = Instant::now();
            }
        }
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        self.context.request = entry.name;
        self.context.task_id = id;
        self.context.attempt = meta.attempt.unwrap_or(1).max(1);
        empty(&mut self.scratch);
        let (state, context, scratch) = (&mut self.state, &mut self.context, &mut self.scratch);
        let outcome = panics::catch(|| (entry.run)(state, data, context, scratch)).unwrap_or_else(Err);
        let end = Instant::now();
        self.out.coalesce.handler_ran(self.now, end);
        self.now = end;
        match outcome {
            Ok(()) if id == 0 => {}
            Ok(()) => {
                let result = &self.scratch;
                self.session.finished(id, &mut self.out.bytes, |out| out.extend_from_slice(result))?;
            }
            // Nobody will be told, but it should not vanish either.
            Err(failure) if id == 0 => {
                report::line(format_args!("one-way request {request:?} failed: {}", failure.message));
            }
            Err(failure) => self.session.failed(id, &failure, &mut self.out.bytes)?,
        }
        Ok(())
    }

    /// Writes what waits. If answers are held back no longer, the parent is told behind the last that was.
    fn write_out(&mut self) -> Result<(), Stop> {
        if self.out.coalesce.has_ended() {
            self.out.coalesce.announce(false);
            self.session.serial(true, &mut self.out.bytes)?;
        }
        self.out.flush()
    }

    /// Tells the parent that answers will be held back. It must know before the first of them is, so this is written now.
    #[cold]
    fn announce(&mut self) -> Result<(), Stop> {
        self.out.coalesce.announce(true);
        self.session.serial(false, &mut self.out.bytes)?;
        self.out.flush()?;
        self.now = Instant::now();
        Ok(())
    }

    #[cold]
    fn refuse_unknown(&mut self, id: u32, request: &str) -> Result<(), Stop> {
        let names: Vec<&str> = self.entries.iter().map(|entry| entry.name).take(NAMES_LISTED_MAX).collect();
        let more = if self.entries.len() > names.len() { ", …" } else { "" };
        let message = format!("no handler for {request:?}; this worker has: {}{more}", names.join(", "));
        let refusal = failure::not_begun(code::UNKNOWN_REQUEST, message);
        Ok(self.session.failed(id, &refusal, &mut self.out.bytes)?)
    }

    /// Answers a task whose frame was skipped. The session has not seen it, so this is the one frame written past it.
    #[cold]
    fn refuse_too_large(&mut self, id: u32, len: u32, head: &[u8]) {
        let is_task =
            Message::decode(head).is_ok_and(|message| matches!(Kind::of(message.request), Kind::User));
        if id == 0 || !is_task {
            return;
        }
        let message =
            format!("the task's frame has {len} bytes, more than this worker announced that it takes");
        let refusal = failure::not_begun(code::TOO_LARGE, message);
        let mut data = Vec::new();
        refusal.encode(&mut data);
        Message { request: "FAILED", sender: self.pid, recipient: Recipient::Anyone, data: &data }
            .encode_frame(id, &mut self.out.bytes);
    }
}

/// Empties a buffer, and gives back what a giant left.
fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(BUFFER_BYTES_KEPT);
}

#[cfg(test)]
mod tests;
