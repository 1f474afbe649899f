//! One place for a worker: the life of the process that fills it now, and what is known of it.
//!
//! ```text
//!            spawn            HELLO, READY                 exit
//!  Vacant ──────────► Spawning ──► Running ─────────────────────► Vacant (restart) or Retired
//!    ▲                   │            │ fault or shutdown           ▲
//!    └──── failed ◄──────┘            └──► Ending (rung by rung) ───┘
//! ```

use std::time::Instant;

use stokehold_protocol::{ParentHello, ParentSession};

use super::restart::RestartHistory;
use super::window::Window;
use super::{Cause, Outbox, TaskKey};

/// A worker's place.
#[derive(Debug)]
pub(crate) struct Slot {
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
    /// How many tasks it may hold.
    pub(super) window: Window,
    /// Tasks finished in this life.
    pub(super) finished: u64,
    /// Answers read since the last look at the clock.
    pub(super) fresh_answers: u32,
    /// READY was there in this life.
    pub(super) was_ready: bool,
    /// The hardest means used to end it.
    pub(super) rung: Rung,
    /// What came before.
    pub(super) history: RestartHistory,
    /// Tasks finished in all lives.
    pub(super) finished_ever: u64,
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

impl Slot {
    /// A vacant place.
    pub(super) fn new(hello: ParentHello, window: Option<u32>) -> Self {
        Self {
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
            window: Window::new(window),
            finished: 0,
            fresh_answers: 0,
            was_ready: false,
            rung: Rung::Asked,
            history: RestartHistory::default(),
            finished_ever: 0,
        }
    }

    /// Everything about the last process is forgotten; a new one is awaited.
    pub(super) fn begin_life(&mut self, hello: ParentHello, window: Option<u32>) {
        let history = std::mem::take(&mut self.history);
        let finished_ever = self.finished_ever;
        *self = Self { life: Life::Spawning, history, finished_ever, ..Self::new(hello, window) };
    }

    /// Whether tasks may be handed to it.
    pub(super) fn takes_tasks(&self) -> bool {
        self.life == Life::Running && !self.deaf && !self.alone && self.session.is_open()
    }

    /// Whether it is alive for no longer than a moment: it closed a pipe or said BYE, and must exit.
    pub(super) fn must_exit(&self) -> bool {
        matches!(self.deadline, Some((_, Due::ExitBye | Due::ExitInput | Due::ExitOutput)))
    }

    /// Whether what it has yet to say is HELLO or READY.
    pub(super) fn is_starting(&self) -> bool {
        self.life == Life::Running && matches!(self.deadline, Some((_, Due::Hello | Due::Ready)))
    }

    /// How many tasks it may be given now.
    pub(super) fn credit(&self) -> u32 {
        if !self.takes_tasks() || self.outbox.is_full() {
            return 0;
        }
        self.window.size(self.session.window()).saturating_sub(self.session.open_count())
    }
}
