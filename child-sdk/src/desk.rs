//! Where a frame meets its handler, and a handler's end becomes an answer. It reads nothing; what it writes, it writes when
//! `coalesce` or the next handler demands it.
//!
//! Frames are handled where they lie in the splitter's buffer; nothing is copied or allocated for a task besides what the
//! handler does.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{
    ChildEvent, ChildSession, DataError, Die, Failure as WireFailure, FrameEvent, Kind, Message, Meta,
    PeerError, SPIN_BYTES_MAX, SharedTail, Spin, Splitter, code,
};

use crate::coalesce::Before;
use crate::context::Ctx;
use crate::outbox::Outbox;
use crate::probe::{Point, Probe};
use crate::stop::Stop;
use crate::{cores, failure, panics, report};

mod batch;
mod probed;
mod stride;

use probed::Steps;
use stride::Stride;

/// Bytes that may wait for a write; with more, even refusals are written before the next frame is looked at.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Between two looks at the clock while answers are held back: a tenth of how long they may wait.
const STRIDE: Stride = Stride::new(Duration::from_micros(10), 16);

/// Memory for frames that an idle worker keeps.
const MEMORY_KEPT: usize = 4 * 1024 * 1024;

/// What is beyond it, for giant frames, is given back when no other came for so long: to get it anew takes the system about as
/// long as to fill it.
const IDLE: Duration = Duration::from_secs(1);

/// Names listed to somebody who asked for a request that nobody handles.
const NAMES_LISTED_MAX: usize = 16;

/// A handler under its name.
pub(crate) struct Entry<'h, S> {
    /// The request's name.
    pub(crate) name: &'static str,
    /// Reads the input, runs the handler, and appends the encoded result to the last argument, or gives it if it is large.
    pub(crate) run: Run<'h, S>,
}

/// A handler without its types.
pub(crate) type Run<'h, S> = Box<
    dyn FnMut(&mut S, &[u8], &mut Ctx, &mut Vec<u8>) -> Result<Option<SharedTail>, Box<WireFailure>> + 'h,
>;

impl<S> fmt::Debug for Entry<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}

/// What comes after a frame.
pub(crate) enum After {
    GoOn,
    /// All that was received is done: say BYE.
    Finish,
    /// End without a word.
    Drop,
}

/// Everything that a frame meets.
pub(crate) struct Desk<'e, 'h, S, P> {
    session: ChildSession,
    pub(crate) out: Outbox,
    entries: &'e mut [Entry<'h, S>],
    state: S,
    context: Ctx,
    /// Whether tasks may wait here behind the one in hand.
    has_company: bool,
    /// Whether the parent is told of every start. Then no answer ever waits across a handler.
    tells_starts: bool,
    /// Whether to look for input before sleeping for it; not known before it would be done for the first time.
    spin: Option<Spin>,
    /// Whether the parent allows it.
    may_spin: bool,
    /// Frames whose turn has come.
    frames: u64,
    /// How many frames and tasks had had their turn at the last read.
    at_read: (u64, u64),
    /// How long the body of the last task was.
    frame_bytes: usize,
    /// Tasks whose handler has begun.
    tasks: u64,
    /// The results of the batch in hand, encoded.
    scratch: Vec<u8>,
    batch_stride: Stride,
    /// For tasks that come one by one and are proven to be tiny.
    stride: Stride,
    /// The clock as it was last read: the end of one handler is the start of the next.
    now: Instant,
    probe: Arc<P>,
    steps: Steps,
}

impl<'e, 'h, S, P: Probe> Desk<'e, 'h, S, P> {
    pub(crate) fn new(
        session: ChildSession,
        out: Outbox,
        entries: &'e mut [Entry<'h, S>],
        state: S,
        context: Ctx,
        probe: Arc<P>,
    ) -> Self {
        Self {
            // With a window of 1 nothing ever stands behind a task, so that nothing needs to be said of held-back answers.
            has_company: session.window() > 1,
            session,
            out,
            entries,
            state,
            context,
            tells_starts: false,
            spin: None,
            may_spin: false,
            frames: 0,
            at_read: (0, 0),
            frame_bytes: 0,
            tasks: 0,
            scratch: Vec::new(),
            batch_stride: batch::STRIDE,
            stride: STRIDE,
            now: Instant::now(),
            probe,
            steps: Steps::default(),
        }
    }

    /// Reads into the splitter, waiting for more. 0 is the end.
    pub(crate) fn read(&mut self, splitter: &mut Splitter) -> Result<usize, Stop> {
        if self.may_spin && self.is_in_step() {
            let spin = self.spin.get_or_insert_with(|| Spin::new(cores::are_several()));
            if self.out.line.look_for_input(spin) {
                cores::leave_this_one();
            }
        }
        self.at_read = (self.frames, self.tasks);
        if splitter.memory() > MEMORY_KEPT && !self.out.line.wait_for_input(IDLE) {
            splitter.shrink();
        }
        let count = match splitter.large().filter(|_| !self.probe.is_active()) {
            Some(large) => self.out.line.read_more(large)?,
            None => {
                let space = splitter.space();
                let count = if self.probe.is_active() {
                    self.read_probed(space)?
                } else {
                    self.out.line.read(space)?
                };
                splitter.filled(count);
                count
            }
        };
        self.now = Instant::now();
        Ok(count)
    }

    /// Whether there was one small task since the last read, and nothing else: if there is another, it comes soon.
    fn is_in_step(&self) -> bool {
        let (frames, tasks) = self.at_read;
        self.frames == frames.wrapping_add(1)
            && self.tasks == tasks.wrapping_add(1)
            && self.frame_bytes <= SPIN_BYTES_MAX
    }

    /// Handles every whole frame there is.
    pub(crate) fn work_through(&mut self, splitter: &mut Splitter) -> Result<After, Stop> {
        if let Some((id, body)) = splitter.take_large() {
            if self.out.line.must_drop() {
                return Ok(After::Drop);
            }
            self.frames = self.frames.wrapping_add(1);
            self.context.set_large(Some(body.clone()));
            let after = self.take(id, &body)?;
            self.context.set_large(None);
            splitter.reuse(body);
            if !matches!(after, After::GoOn) {
                return Ok(after);
            }
        }
        while let Some(frame) = splitter.next_frame().map_err(PeerError::from)? {
            if self.out.line.must_drop() {
                return Ok(After::Drop);
            }
            self.frames = self.frames.wrapping_add(1);
            let after = match frame {
                FrameEvent::Frame { id, body } => self.take(id, body)?,
                FrameEvent::TooLarge { id, len, head } => {
                    self.session.handle_too_large(id, len, head, &mut self.out.bytes);
                    After::GoOn
                }
                FrameEvent::BadLine { id, error, .. } => {
                    self.session.handle_bad_message(id, &error, &mut self.out.bytes);
                    After::GoOn
                }
                FrameEvent::BadData { id, head, error } => self.take_bad_data(id, head, &error)?,
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

    /// Writes what waits. If answers are held back no longer, the parent is told behind the last that was.
    pub(crate) fn write_out(&mut self) -> Result<(), Stop> {
        if self.stride.is_behind() {
            // A long handler may have been among the last ones.
            self.look();
        }
        if self.out.coalesce.has_ended() {
            self.out.coalesce.announce(false);
            self.session.serial(true, &mut self.out.bytes)?;
        }
        self.out.flush()
    }

    /// The parent closed its end.
    pub(crate) fn handle_eof(&mut self) {
        self.session.handle_eof();
    }

    /// Says BYE, when all answers are written.
    pub(crate) fn bye(&mut self) -> Result<(), Stop> {
        let next = self.tasks.wrapping_add(1);
        self.probe.reach(Point::BeforeBye, next);
        self.session.bye(&mut self.out.bytes)?;
        self.out.flush()?;
        self.probe.reach(Point::AfterBye, next);
        Ok(())
    }

    #[inline]
    fn take(&mut self, id: u32, body: &[u8]) -> Result<After, Stop> {
        self.frame_bytes = body.len();
        // Matched where it lies: to move an event costs more than to handle it.
        match &self.session.handle_frame(id, body, &mut self.out.bytes) {
            Ok(ChildEvent::Task { id, request, data, meta }) => self.run(*id, request, data, meta)?,
            Ok(ChildEvent::Batch { id, request, items }) => return self.run_batch(*id, request, items),
            Ok(ChildEvent::OneWay { request, data }) => self.run(0, request, data, &Meta::default())?,
            Ok(ChildEvent::Ping { data }) => {
                if !self.out.line.has_notes() || self.out.line.take_ping(self.frames) {
                    self.session.pong(data, &mut self.out.bytes);
                }
            }
            Ok(ChildEvent::Die(Die { now: true, .. })) => return Ok(After::Drop),
            Ok(ChildEvent::Die(_)) => return Ok(After::Finish),
            Ok(ChildEvent::Hello) => {
                self.context.set_voice(self.session.voice());
                self.tells_starts = self.session.tells_starts();
                self.may_spin = self.session.parent().is_none_or(|parent| parent.spin);
            }
            // A task whose CANCEL has its turn is answered: it was seen ahead, in time or never.
            Ok(ChildEvent::Cancel { .. } | ChildEvent::Refused | ChildEvent::Ignored) => {}
            Err(error) => return Err(Stop::Peer(error.clone())),
        }
        Ok(After::GoOn)
    }

    /// A line whose data cannot be read. A request that nobody handles is refused as that, whatever its data is.
    #[cold]
    fn take_bad_data(&mut self, id: u32, head: &[u8], error: &DataError) -> Result<After, Stop> {
        let request = Message::decode(head).map(|message| message.request);
        let is_unknown = request.is_ok_and(|request| {
            Kind::of(request) == Kind::User && !self.entries.iter().any(|entry| entry.name == request)
        });
        if is_unknown {
            return self.take(id, head);
        }
        self.session.handle_bad_data(id, head, error, &mut self.out.bytes);
        Ok(After::GoOn)
    }

    /// Runs a task, or with id 0 a one-way request, and appends its answer.
    fn run(&mut self, id: u32, request: &str, data: &[u8], meta: &Meta) -> Result<(), Stop> {
        let Some(index) = self.entries.iter().position(|entry| entry.name == request) else {
            return if id == 0 { Ok(()) } else { self.refuse_unknown(id, request) };
        };
        if self.out.line.has_notes() && id != 0 && self.out.line.cancels(self.frames, id) {
            return self.refuse_cancelled(id);
        }
        self.tasks = self.tasks.wrapping_add(1);
        if meta.deadline_ms.is_some() {
            // It counts from now, and not from when the clock was read last.
            self.look();
        }
        self.prepare(id)?;
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        self.context.begin(entry.name, id, meta, self.now, self.tasks);
        let (state, context) = (&mut self.state, &mut self.context);
        let mut handle =
            |out: &mut Vec<u8>| panics::catch(|| (entry.run)(state, data, context, out)).unwrap_or_else(Err);
        // The result is encoded where it is written from: behind the head of its frame.
        let outcome = match id {
            0 => handle(&mut Vec::new()),
            _ => self.session.try_finished(id, &mut self.out.bytes, handle)?,
        };
        self.context.end();
        if self.stride.step() || !self.out.coalesce.is_proven() {
            self.look();
        } else {
            self.out.coalesce.answer_waits(self.now);
        }
        self.reach(Point::AfterHandler);
        match outcome {
            // Of a one-way request not even a large result goes out.
            Ok(_) if id == 0 => {}
            Ok(None) => {}
            Ok(Some(rest)) if self.probe.is_active() => self.out.bytes.extend_from_slice(&rest),
            Ok(Some(rest)) => self.out.flush_with(&rest)?,
            // Nobody will be told, but it should not vanish either.
            Err(failure) if id == 0 => {
                report::line(format_args!("one-way request {request:?} failed: {}", failure.message));
            }
            Err(failure) => self.session.failed(id, &failure, &mut self.out.bytes)?,
        }
        if self.probe.is_active() { self.answer_probed() } else { Ok(()) }
    }

    /// Looks at the clock, and learns how long the handlers since the last look took.
    fn look(&mut self) {
        let now = Instant::now();
        let handlers = self.stride.looked(now.saturating_duration_since(self.now));
        self.out.coalesce.handlers_ran(handlers, self.now, now);
        self.now = now;
    }

    /// Before a handler: writes what must not wait until it ends.
    fn prepare(&mut self, id: u32) -> Result<(), Stop> {
        if self.tells_starts || self.probe.is_active() {
            return self.tell_start(id);
        }
        if self.out.bytes.is_empty() {
            return Ok(());
        }
        let may_wait = match self.out.coalesce.before_handler(self.out.bytes.len(), self.now) {
            Before::Announce if self.has_company && self.out.line.is_attended() => return self.announce(),
            Before::Nothing | Before::Announce => self.out.hold(),
            Before::Write => false,
        };
        if !may_wait {
            self.write_out()?;
            self.now = Instant::now();
        }
        Ok(())
    }

    /// Writes all answers, and with them that the handler of `id` begins.
    fn tell_start(&mut self, id: u32) -> Result<(), Stop> {
        self.reach(Point::AfterRead);
        if self.tells_starts && id != 0 {
            self.session.started(id, &mut self.out.bytes)?;
        }
        self.out.flush()?;
        self.now = Instant::now();
        self.reach(Point::AfterStarted);
        Ok(())
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

    #[cold]
    fn refuse_cancelled(&mut self, id: u32) -> Result<(), Stop> {
        let refusal = failure::not_begun(code::CANCELLED, "cancelled before it began");
        Ok(self.session.failed(id, &refusal, &mut self.out.bytes)?)
    }

    fn reach(&self, point: Point) {
        self.probe.reach(point, self.tasks);
    }
}
