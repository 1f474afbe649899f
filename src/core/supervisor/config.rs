//! What a pool is made with: numbers and names, no decision.

use std::sync::Arc;
use std::time::Duration;

use super::super::Recycle;

/// What a pool is made with.
#[derive(Clone, Debug)]
pub(crate) struct SupervisorConfig {
    /// How many workers, at least.
    pub(crate) workers: usize,
    /// How many workers, at most.
    pub(crate) workers_max: usize,
    /// A worker above the minimum ends when it had nothing to do for so long.
    pub(crate) idle_timeout: Option<Duration>,
    /// When a worker is replaced by a fresh one.
    pub(crate) recycle: Recycle,
    /// How many processors workers and parent have together.
    pub(crate) cores: usize,
    /// The program, for people.
    pub(crate) program: Arc<str>,
    /// The parent's process id.
    pub(crate) parent_pid: u32,
    /// The name of this run: what makes a task's key one of its kind.
    pub(crate) run: Arc<str>,
    /// The largest frame to accept.
    pub(crate) max_frame: u32,
    /// A fixed window, if the user wants one.
    pub(crate) window: Option<u32>,
    /// From the start to HELLO.
    pub(crate) hello_timeout: Duration,
    /// From HELLO to READY.
    pub(crate) ready_timeout: Duration,
    /// A worker with tasks that answers PING gives a sign of life so often.
    pub(crate) heartbeat: Option<Duration>,
    /// A worker that has begun a frame goes on writing it within that time.
    pub(crate) frame_timeout: Duration,
    /// How long the results of a stream may fill its buffer with nobody taking any.
    pub(crate) stream_timeout: Duration,
    /// From CANCEL to SIGTERM.
    pub(crate) cancel_grace: Duration,
    /// From SIGTERM to SIGKILL.
    pub(crate) terminate_grace: Duration,
    /// Workers may look for frames a moment before they sleep for them.
    pub(crate) spin: bool,
    /// Workers are asked to say STARTED.
    pub(crate) reports_starts: bool,
    /// Every hand-out is told.
    pub(crate) task_events: bool,
    /// Tasks that could not be done are kept.
    pub(crate) keeps_dead_letters: bool,
    /// What makes this pool's random pauses other than those of others.
    pub(crate) seed: u64,
}
