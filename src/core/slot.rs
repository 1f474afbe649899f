//! One place for a worker: the life of the process that fills it now, and what is known of it.
//!
//! ```text
//!            spawn            HELLO, READY                 exit
//!  Vacant ──────────► Spawning ──► Running ─────────────────────► Vacant (restart) or Retired
//!    ▲                   │            │ fault or shutdown           ▲
//!    └──── failed ◄──────┘            └──► Ending (rung by rung) ───┘
//! ```

use std::time::{Duration, Instant};

use stokehold_protocol::{Capability, Failure, ParentHello, ParentSession, code, text};

use super::body::Body;
use super::recycle::Rotation;
use super::restart::RestartHistory;
use super::window::Window;
use super::{Cause, Outbox, Retirement, TaskKey, WorkerState};

/// Tasks that a worker holds at the most when several go in one frame: some frames of the largest batches.
const BATCHED_TASKS_MAX: u32 = 8_192;

/// Bytes of the id, which a frame's length counts.
const ID_BYTES: usize = 4;

/// A worker's place.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The worker's number, as it is told and shown. A worker that takes the place of another has the same.
    pub(super) number: usize,
    /// Where its process is in its life.
    pub(super) life: Life,
    /// The connection to it.
    pub(super) session: ParentSession<TaskKey>,
    /// Bytes on their way to it.
    pub(super) outbox: Outbox,
    /// Its process id, while there is a process.
    pub(super) pid: u32,
    /// What is due when.
    pub(super) deadline: Option<(Instant, Due)>,
    /// Why it is being ended, or what it did wrong; the first reason stays.
    pub(super) fault: Option<Cause>,
    /// It can take no more tasks: one of its pipes is closed, or it is being ended.
    pub(super) deaf: bool,
    /// It broke the protocol: whatever else it writes means nothing.
    pub(super) garbled: bool,
    /// HELLO was there in this life.
    pub(super) greeted: bool,
    /// However often it says that it comes on, READY must be there by then.
    pub(super) ready_limit: Option<Instant>,
    /// Requests of its own that were refused while its outbox was full.
    pub(super) refusals: u32,
    /// It has a task that must be with it alone: a suspect, or one that must not run twice.
    pub(super) alone: bool,
    /// How many of its tasks are timed, or are to stop, or were given up while it had them.
    pub(super) watched: u32,
    /// The task that it must stop doing, and what it is ended for if it does not.
    pub(super) stopping: Option<(TaskKey, Cause)>,
    /// The task whose stream is full: nothing is read until somebody takes of it.
    pub(super) paused_for: Option<TaskKey>,
    /// What is left of its time to stop a task, while nothing is read of it.
    pub(super) grace_left: Option<Duration>,
    /// Tasks that ended while it has them.
    pub(super) ghosts: Vec<Ghost>,
    /// How many tasks it has, each of a batch counted, ghosts included.
    pub(super) open_tasks: u32,
    /// Bytes of its tasks, ghosts included.
    pub(super) open_bytes: u64,
    /// How many tasks it may hold.
    pub(super) window: Window,
    /// The task that it is at gives results one by one, and has no answer yet.
    pub(super) streams: bool,
    /// It was told that nobody takes its results one by one.
    pub(super) gave_unwanted: bool,
    /// When it was last heard.
    pub(super) heard: Instant,
    /// It was asked for a sign of life since.
    pub(super) pinged: bool,
    /// Since when it has written nothing of a frame that it began.
    pub(super) inside_frame: Option<Instant>,
    /// Messages that answer nothing, and since when they are counted.
    pub(super) chatter: (u32, Instant),
    /// Tasks finished in this life.
    pub(super) finished: u64,
    /// Tasks whose answers were read since the last look at the clock.
    pub(super) fresh_answers: u32,
    /// A final answer was, perhaps to a batch whose results were all there before.
    pub(super) has_answered: bool,
    /// The latest answers, for learning how long tasks take.
    pub(super) pace: Pace,
    /// READY was there in this life.
    pub(super) was_ready: bool,
    /// The hardest means used to end it.
    pub(super) rung: Rung,
    /// When its process began.
    pub(super) born: Instant,
    /// Since when it is at what it is at.
    pub(super) since: Instant,
    /// What it was at when the parent began to use force against it, and since when.
    pub(super) was_at: Option<(WorkerState, Instant)>,
    /// The most memory it was seen to have, in bytes.
    pub(super) peak_memory: Option<u64>,
    /// When another takes its place.
    pub(super) rotation: Rotation,
    /// It is to end when it has nothing to do.
    pub(super) retiring: Option<Retirement>,
    /// The slot that takes its place when it is ready.
    pub(super) successor: Option<(usize, Retirement)>,
    /// The slot whose place it takes when it is ready.
    pub(super) successor_of: Option<usize>,
    /// Nothing is started here any more.
    pub(super) given_up: bool,
    /// What came before.
    pub(super) history: RestartHistory,
    /// Tasks finished in all lives.
    pub(super) finished_ever: u64,
}

/// What is left of a task that ended in a worker which was not doing it: a lease without a task.
#[derive(Clone, Debug)]
pub(super) struct Ghost {
    /// What the lease names.
    pub(super) key: TaskKey,
    /// How many bytes it takes there.
    pub(super) bytes: u64,
    /// Where its frame ends in what the worker is sent.
    pub(super) frame_end: u64,
    /// The worker said that it began it all the same.
    pub(super) started: bool,
    /// What the worker is ended for if it does it and does not stop.
    pub(super) cause: Cause,
}

/// Answers that were read together, and since when the worker can have worked on them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    read_at: Option<Instant>,
    since: Option<Instant>,
    tasks: u32,
}

impl Pace {
    /// `tasks` that were sent at `sent` were answered, as is seen `now`. Gives how many answers that makes together, and how long
    /// the worker took for them: since it was sent them, or gave the answers before.
    pub(super) fn answered(&mut self, tasks: u32, sent: Instant, now: Instant) -> (u32, Duration) {
        if self.read_at != Some(now) {
            *self = Self { read_at: Some(now), since: self.read_at.max(Some(sent)), tasks: 0 };
        }
        self.tasks = self.tasks.saturating_add(tasks);
        (self.tasks, self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)))
    }
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    /// No process; one is due when the deadline says, or at once.
    Vacant,
    /// Asked for, not there yet.
    Spawning,
    /// There is a process.
    Running,
    /// It was told to end, or is being made to.
    Ending,
    /// No process, and none will come.
    Retired,
}

/// What a slot's deadline is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// It said BYE: it must have exited.
    ExitBye,
    /// It closed its input: it must have exited.
    ExitInput,
    /// It closed its output: it must have exited.
    ExitOutput,
    /// HELLO must have come.
    Hello,
    /// SIGTERM was sent: SIGKILL comes.
    Kill,
    /// READY must have come.
    Ready,
    /// A task must have stopped: SIGTERM comes.
    Stop,
    /// The pause before a restart is over.
    Respawn,
    /// It was asked to end: SIGTERM comes.
    Terminate,
}

/// By what means a worker was ended, from soft to hard.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Rung {
    /// It ended by itself: after DIE and the end of its input, or before anybody asked.
    Asked,
    /// SIGTERM and SIGCONT to its group.
    Terminated,
    /// SIGKILL to its group.
    Killed,
}

impl Rung {
    /// "sent it SIGTERM".
    pub(super) fn as_words(self) -> &'static str {
        match self {
            Self::Asked => "asked it to end",
            Self::Terminated => "sent it SIGTERM",
            Self::Killed => "sent it SIGKILL",
        }
    }
}

impl Slot {
    /// A vacant place for the worker of that number.
    pub(super) fn new(number: usize, hello: ParentHello, window: Option<u32>, now: Instant) -> Self {
        Self {
            number,
            life: Life::Vacant,
            session: ParentSession::new(hello),
            outbox: Outbox::default(),
            pid: 0,
            deadline: None,
            fault: None,
            deaf: false,
            garbled: false,
            greeted: false,
            ready_limit: None,
            refusals: 0,
            alone: false,
            watched: 0,
            stopping: None,
            paused_for: None,
            grace_left: None,
            ghosts: Vec::new(),
            open_tasks: 0,
            open_bytes: 0,
            window: Window::new(window),
            streams: false,
            gave_unwanted: false,
            heard: now,
            pinged: false,
            inside_frame: None,
            chatter: (0, now),
            finished: 0,
            fresh_answers: 0,
            has_answered: false,
            pace: Pace::default(),
            was_ready: false,
            rung: Rung::Asked,
            born: now,
            since: now,
            was_at: None,
            peak_memory: None,
            rotation: Rotation::NEVER,
            retiring: None,
            successor: None,
            successor_of: None,
            given_up: false,
            history: RestartHistory::default(),
            finished_ever: 0,
        }
    }

    /// Everything about the last process is forgotten; a new one is there.
    pub(super) fn begin_life(&mut self, hello: ParentHello, window: Option<u32>, now: Instant) {
        let fresh = Self::new(self.number, hello, window, now);
        let last = std::mem::replace(self, fresh);
        self.life = Life::Spawning;
        self.history = last.history;
        self.finished_ever = last.finished_ever;
        self.retiring = last.retiring;
        self.successor_of = last.successor_of;
    }

    /// Whether tasks may be handed to it.
    pub(super) fn takes_tasks(&self) -> bool {
        self.life == Life::Running
            && !self.deaf
            && !self.alone
            && self.retiring.is_none()
            && self.stopping.is_none()
            // Whoever waits for a slow consumer is not to keep other tasks waiting with it.
            && self.paused_for.is_none()
            && self.session.is_open()
    }

    /// Whether it counts as one of the pool's workers: not one that is to go, and none that only takes another's place.
    pub(super) fn is_counted(&self) -> bool {
        self.life != Life::Retired && self.retiring.is_none() && self.successor_of.is_none()
    }

    /// Whether it is not there yet, and will be.
    pub(super) fn is_coming(&self) -> bool {
        match self.life {
            Life::Vacant | Life::Spawning => true,
            Life::Running => !self.was_ready,
            Life::Ending | Life::Retired => false,
        }
    }

    /// Whether it is alive for no longer than a moment: it closed a pipe or said BYE, and must exit.
    pub(super) fn must_exit(&self) -> bool {
        matches!(self.deadline, Some((_, Due::ExitBye | Due::ExitInput | Due::ExitOutput)))
    }

    /// Whether what it has yet to say is HELLO or READY.
    pub(super) fn is_starting(&self) -> bool {
        self.life == Life::Running && matches!(self.deadline, Some((_, Due::Hello | Due::Ready)))
    }

    /// Whether it has tasks.
    pub(super) fn is_busy(&self) -> bool {
        self.session.open_count() > 0
    }

    /// What it is at.
    pub(super) fn state(&self) -> WorkerState {
        match self.life {
            Life::Vacant | Life::Spawning | Life::Retired => WorkerState::Starting,
            Life::Ending => WorkerState::Ending,
            Life::Running if !self.was_ready => WorkerState::Loading,
            Life::Running if self.is_busy() => WorkerState::Busy,
            Life::Running => WorkerState::Idle,
        }
    }

    /// What it is at and for how long, or was at before force was used.
    pub(super) fn at_the_end(&self, now: Instant) -> (WorkerState, Duration) {
        let (state, since) = self.was_at.unwrap_or((self.state(), self.since));
        (state, now.saturating_duration_since(since))
    }

    /// How many tasks it may be given now.
    pub(super) fn credit(&self) -> u32 {
        if !self.takes_tasks() || !self.takes_frames() {
            return 0;
        }
        self.window.size(self.tasks_max()).saturating_sub(self.open_tasks)
    }

    /// Whether what is put behind the task that it is at would wait for nobody knows how long: for a handler that takes longer than was
    /// to be expected, or for somebody to take the results that it gives, who may be waiting for just what would stand there.
    pub(super) fn is_held_up(&self, now: Instant) -> bool {
        self.session.works_in_order() && (self.streams || self.window.is_overrun(now))
    }

    /// Whether another frame may be sent to it now.
    pub(super) fn takes_frames(&self) -> bool {
        !self.outbox.is_full() && self.session.open_count() < self.session.window()
    }

    /// How many tasks it may hold at the most. Its own window counts frames.
    pub(super) fn tasks_max(&self) -> u32 {
        let frames = self.session.window();
        if self.takes_batches() { frames.max(BATCHED_TASKS_MAX) } else { frames }
    }

    /// Whether several tasks may go to it in one frame.
    pub(super) fn takes_batches(&self) -> bool {
        self.session.child().capabilities.has(Capability::Batch)
    }

    /// Why a task is too large for it: as a frame, or as the line of so many bytes that its message is in text mode.
    pub(super) fn too_large(&self, body: &Body, line: Option<usize>) -> Option<Failure> {
        let (what, len) = match line {
            None => ("frame", body.len() + ID_BYTES),
            Some(len) => ("line", len + text::ID_BYTES_MAX),
        };
        let max = self.session.child().max_frame;
        if len as u64 <= u64::from(max) {
            return None;
        }
        let message = format!(
            "the task's {what} has {len} bytes, the worker takes {max}: raise its max_frame, or send a path instead of the bytes"
        );
        Some(Failure { begun: Some(false), ..Failure::new(code::TOO_LARGE, message) })
    }

    /// Whether a task of so many bytes is within what it takes besides the others; one always is.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let limit = self.session.child().window_bytes.unwrap_or(u64::MAX);
        !self.is_busy() || self.open_bytes.saturating_add(bytes as u64) <= limit
    }
}
