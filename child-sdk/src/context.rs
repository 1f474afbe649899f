//! What a handler and the start are told about their surroundings, and what they can say to the parent while they run.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use stokehold_protocol::{ChildVoice, Data, LargeBody, LogLine, Meta, Progress, data};

use crate::failure::cut_text;
use crate::line::Line;
use crate::log_meter::LogMeter;
use crate::probe::{Point, Probe};
use crate::talk::{ItemError, Level};
use crate::turn::Turn;

/// Bytes kept of a line for the log, or of a note: with its head it fits the smallest frame a parent may announce.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Buffers of items that grew beyond this are given back.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// The task that a handler is running: what is known of it, and a way to speak about it.
///
/// What takes `&self` may be called from threads that the handler starts and joins.
pub struct Ctx {
    pub(crate) request: &'static str,
    task_id: u32,
    attempt: u32,
    worker: Option<u32>,
    deadline: Option<Instant>,
    key: Option<String>,
    /// Its results are not sent: it is one of a batch, whose items mean something else.
    is_mute: bool,
    turn: Turn,
    voice: ChildVoice,
    line: Arc<Line>,
    /// The handler was told that it is cancelled; that stays so.
    cancelled: AtomicBool,
    /// Something was said that may wait for the answer.
    spoke: AtomicBool,
    log_meter: Mutex<LogMeter>,
    /// An item, encoded.
    scratch: Vec<u8>,
    probe: Option<Arc<dyn Probe>>,
    tasks: u64,
    /// The frame of the task in hand, if it is a large one.
    large: Option<LargeBody>,
}

impl Ctx {
    pub(crate) fn new(
        line: Arc<Line>,
        voice: ChildVoice,
        worker: Option<u32>,
        probe: Option<Arc<dyn Probe>>,
    ) -> Self {
        Self {
            request: "",
            task_id: 0,
            attempt: 1,
            worker,
            deadline: None,
            key: None,
            is_mute: false,
            turn: Turn::NONE,
            voice,
            line,
            cancelled: AtomicBool::new(false),
            spoke: AtomicBool::new(false),
            log_meter: Mutex::default(),
            scratch: Vec::new(),
            probe,
            tasks: 0,
            large: None,
        }
    }

    pub(crate) fn set_voice(&mut self, voice: ChildVoice) {
        self.voice = voice;
        self.line.set_voice(voice);
    }

    /// The next frame is a large one, or none is any more.
    pub(crate) fn set_large(&mut self, large: Option<LargeBody>) {
        self.large = large;
    }

    /// A task is taken into hand; its handler begins now.
    #[inline]
    pub(crate) fn begin(&mut self, request: &'static str, id: u32, meta: &Meta, now: Instant, task: u64) {
        self.request = request;
        self.task_id = id;
        self.attempt = meta.attempt.unwrap_or(1).max(1);
        // Tasks without a key follow each other without a look at the old one's memory.
        if self.key.is_some() || meta.key.is_some() {
            self.key.clone_from(&meta.key);
        }
        self.deadline = meta.deadline_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms)));
        *self.cancelled.get_mut() = false;
        self.is_mute = false;
        self.tasks = task;
        self.turn = self.line.begin(self.turn, id);
    }

    /// The first task of a batch is taken into hand; [`begin_next`](Self::begin_next) begins each.
    pub(crate) fn begin_batch(&mut self, request: &'static str, id: u32) {
        self.request = request;
        self.task_id = id;
        self.attempt = 1;
        self.key = None;
        self.deadline = None;
        self.is_mute = true;
    }

    /// The next task of a batch: its handler begins now.
    #[inline]
    pub(crate) fn begin_next(&mut self, task: u64) {
        *self.cancelled.get_mut() = false;
        self.tasks = task;
        self.turn = self.line.begin(self.turn, self.task_id);
    }

    /// The handler has ended; its answer comes next.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.line.end(self.turn);
        if std::mem::take(self.spoke.get_mut()) {
            self.line.end_task();
        }
    }

    /// The request's name: `DO`, or the name the handler was registered under.
    pub fn request(&self) -> &str {
        self.request
    }

    /// The input of a [raw handler](crate::Worker::on_raw), to be kept or given back: `input` must be that. A large one (64 KiB and
    /// more) is not copied but shared with the buffer that it was read into; only as long as it is kept is there no other use of
    /// that.
    ///
    /// ```no_run
    /// use std::io;
    /// use std::process::ExitCode;
    ///
    /// fn main() -> ExitCode {
    ///     // Gives back what it gets, 64 MiB if need be, without a copy.
    ///     stokehold_child::serve_raw(|input, context| Ok::<_, io::Error>(context.keep(input)))
    /// }
    /// ```
    pub fn keep(&self, input: &[u8]) -> Data {
        let shared = self.large.as_ref().and_then(|large| large.share(input));
        shared.map_or_else(|| Data::from_peer(input.to_vec()), Data::from_peer_shared)
    }

    /// Which attempt this is, from 1. Above 1 the task was begun before, here or in another worker, by an attempt that gave
    /// no answer: what that attempt did outside its process may have been done. 1 also when the parent says nothing.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The task's id on this connection. Ids come again once they are answered, so it names a task only while that runs. Tiny
    /// tasks that the parent sent together have one id. 0 for a one-way request, which is never answered.
    pub fn task_id(&self) -> u32 {
        self.task_id
    }

    /// A key that is the same for every attempt of this task, and for no other task, whichever worker runs it. Write it down
    /// together with what the task does outside this process, and a later attempt can tell that it was done. `None` when the
    /// parent gave none.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The number of this worker's slot in its pool, from 0. A replacement gets the number of the worker it replaces. `None`
    /// when the parent gave none.
    pub fn worker(&self) -> Option<u32> {
        self.worker
    }

    /// When this attempt must be answered, or the parent will end it. Counted from the handler's start; `None` when there is
    /// no limit, or the parent told none.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time until [`deadline`](Self::deadline): zero when it has passed, `None` when there is none.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody wants the answer any more: the task was cancelled, or the parent told the worker to end at once.
    ///
    /// Nothing stops by itself. A handler that takes long asks from time to time and returns early, best with
    /// [`Failure::cancelled`](crate::Failure::cancelled); any other answer is as good. A parent waits a while for it, then
    /// ends the worker by force. True stays true until the handler returns, and never concerns the next task.
    ///
    /// Costs a load and a look at the clock; once a millisecond also a look at the input (a `poll`, without waiting). So a
    /// loop may ask in every round.
    pub fn is_cancelled(&self) -> bool {
        if self.cancelled.load(Ordering::Relaxed) {
            return true;
        }
        let stopped = self.line.is_stopped(self.turn);
        if stopped {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        stopped
    }

    /// Sends one of several results, at once or, while they follow each other quickly, together with others within about a
    /// millisecond; always before the answer, and in order. What the handler returns is the end of them, and a result of its
    /// own.
    ///
    /// Blocks while the parent does not read. For a one-way request, for one of many tiny tasks that the parent sent together, and
    /// when the task is cancelled, it is sent to nobody or ignored there, which is no error: nobody asked for several results.
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded or breaks the data model, when its frame is larger than the parent takes (16 MiB by
    /// default), or when the connection is broken. Nothing of it was sent then.
    pub fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ItemError> {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        let sent = match data::encode_into(value, &mut encoded) {
            Ok(()) => self.send_item(&encoded),
            Err(error) => Err(ItemError::bad_data(error)),
        };
        encoded.shrink_to(BUFFER_BYTES_KEPT);
        self.scratch = encoded;
        sent
    }

    /// As [`item`](Self::item), with a value that is encoded already.
    ///
    /// # Errors
    ///
    /// As [`item`](Self::item), save that the value is known to be good.
    pub fn item_data(&mut self, value: &Data) -> Result<(), ItemError> {
        self.send_item(value.as_bytes())
    }

    /// Tells how far the task is: `done` of `total`, if that is known, and what it is at. In the task's own unit. The parent
    /// takes it for a sign of life: a soft deadline starts anew with it, a hard one does not.
    ///
    /// May be called as often as you like: one report in 50 ms is sent, the latest, and the last one before the answer. Notes
    /// are cut after 32 KiB. For a one-way request nothing is sent. Blocks while the parent does not read.
    pub fn progress(&self, done: u64, total: Option<u64>, note: Option<&str>) {
        if self.task_id == 0 {
            return;
        }
        let progress = Progress { done: Some(whole(done)), total: total.map(whole), note: note.map(cut) };
        self.spoke.store(true, Ordering::Relaxed);
        send_progress(&self.line, &self.voice, self.task_id, &progress);
    }

    /// Sends a line for the parent's log, at once. It knows the task it is about. Cut after 32 KiB. Blocks while the parent
    /// does not read. More than 10,000 lines in a second are dropped; a line then says how many.
    ///
    /// For what must be seen even if this process dies the next moment, stderr is as good: the parent keeps its last lines.
    pub fn log(&self, level: Level, message: impl fmt::Display) {
        let admitted = self.log_meter.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        let Some(dropped) = admitted else { return };
        if dropped > 0 {
            self.send_log(
                Level::Warn,
                format!("{dropped} lines for the log were dropped: too many in a second"),
            );
        }
        self.send_log(level, message.to_string());
    }

    fn send_log(&self, level: Level, message: String) {
        let line = LogLine { level: level.name().to_owned(), message: cut(message) };
        let mut data = Vec::new();
        line.encode(&mut data);
        // It was cut to fit, and a broken connection is found by whoever writes the answer.
        let _ = self.line.say(false, |out| self.voice.log(self.task_id, &data, out));
    }

    fn send_item(&self, data: &[u8]) -> Result<(), ItemError> {
        if self.task_id == 0 || self.is_mute {
            return Ok(());
        }
        if let Some(probe) = &self.probe {
            return self.send_item_probed(data, probe.as_ref());
        }
        match self.line.say(true, |out| self.voice.item(self.task_id, data, out)) {
            Ok(written) => written.map_err(ItemError::broken),
            Err(misuse) => Err(ItemError::too_large(misuse)),
        }
    }

    #[cold]
    fn send_item_probed(&self, data: &[u8], probe: &dyn Probe) -> Result<(), ItemError> {
        let mut frame = Vec::new();
        self.voice.item(self.task_id, data, &mut frame).map_err(ItemError::too_large)?;
        let between = || probe.reach(Point::MidItem, self.tasks);
        self.line.write_halves(&frame, between).map_err(ItemError::broken)
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("request", &self.request)
            .field("task_id", &self.task_id)
            .field("attempt", &self.attempt)
            .field("worker", &self.worker)
            .field("deadline", &self.deadline)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What the start of a worker is told, before there are tasks.
pub struct Init {
    pub(crate) worker: Option<u32>,
    pub(crate) run: Option<String>,
    pub(crate) line: Arc<Line>,
    pub(crate) voice: ChildVoice,
}

impl Init {
    /// The number of this worker's slot in its pool, as [`Ctx::worker`]: for choosing a device or a cache of its own.
    pub fn worker(&self) -> Option<u32> {
        self.worker
    }

    /// The name of the parent's run, a UUID in text form; the same for all its workers. `None` when the parent gave none.
    pub fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// Tells what the start is at, while it takes long: the parent's ready timeout starts anew with it, up to a limit of the
    /// parent's. May be called as often as you like: one note in 50 ms is sent, the latest. Cut after 32 KiB. Blocks while
    /// the parent does not read.
    pub fn progress(&mut self, note: &str) {
        let progress = Progress { note: Some(cut(note)), ..Progress::default() };
        send_progress(&self.line, &self.voice, 0, &progress);
    }
}

impl fmt::Debug for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Init").field("worker", &self.worker).field("run", &self.run).finish_non_exhaustive()
    }
}

fn send_progress(line: &Line, voice: &ChildVoice, id: u32, progress: &Progress) {
    let (mut data, mut frame) = (Vec::new(), Vec::new());
    progress.encode(&mut data);
    if voice.progress(id, &data, &mut frame).is_ok() {
        // A broken connection is found by whoever writes the next answer.
        let _ = line.progress(frame);
    }
}

#[expect(clippy::cast_precision_loss, reason = "progress is for people")]
fn whole(number: u64) -> f64 {
    number as f64
}

fn cut(text: impl Into<String>) -> String {
    let mut text = text.into();
    cut_text(&mut text, TEXT_BYTES_MAX);
    text
}
