//! What a pool is made with: its options, each with its default and the reason for it.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use stokehold_protocol::limits::{FRAME_LEN_CEILING, MAX_FRAME_DEFAULT};
use uuid::Uuid;

use crate::core::{Recycle, Supervisor, SupervisorConfig};
use crate::driver::{Bounds, Engine, ItemBounds, Refusal, Shared};
use crate::{Containment, Policy, Pool, StartError, WorkerCommand, deadline, sys};

/// More workers than any machine runs, and few enough to look at all of them in a turn.
pub(crate) const WORKERS_MAX: usize = 4_096;

/// What a pool is made with; see [`Pool::builder`].
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    command: WorkerCommand,
    containment: Containment,
    workers: usize,
    workers_max: usize,
    idle_timeout: Duration,
    recycle: Recycle,
    policy: Policy,
    max_frame: u32,
    window: Option<u32>,
    hello_timeout: Duration,
    ready_timeout: Duration,
    start_timeout: Duration,
    heartbeat: Option<Duration>,
    frame_timeout: Duration,
    stream_timeout: Duration,
    graces: StopGraces,
    bounds: Bounds,
    stream_buffer: ItemBounds,
    records_events: bool,
    reports_starts: bool,
    task_events: bool,
    latency: Latency,
}

/// Whether a thread that waits for an answer, and a worker that waits for a task, look for it a moment before they sleep.
///
/// To be woken costs 5 µs on the same core and up to 50 µs on another, which is most of the time of a tiny task that somebody
/// waits for. Where tasks are slow or many are on their way, both are the same.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Latency {
    /// Looks, for no longer than 50 µs a wait, where there is a core to spare: only while each busy worker has one task and
    /// somebody blocks for the answer; only as long as it pays (each look in vain makes a doubling number of waits, up to 4095,
    /// sleep at once); never in an idle pool; never on a machine with one core. While it pays, the cores of the
    /// caller and of the worker are busy all the time. This is the default, because it makes lock-step several times faster.
    #[default]
    Spin,
    /// Always sleeps: the least processor time, for machines that are full.
    Block,
}

/// How many processors this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// How long a worker has to stop before the next harder means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopGraces {
    /// From CANCEL to SIGTERM.
    pub(crate) cancel: Duration,
    /// From SIGTERM to SIGKILL.
    pub(crate) terminate: Duration,
}

impl PoolBuilder {
    pub(crate) fn new(command: WorkerCommand) -> Self {
        Self {
            command,
            containment: Containment::default(),
            workers: cores(),
            workers_max: 1,
            idle_timeout: Duration::from_secs(30),
            recycle: Recycle::default(),
            policy: Policy::default(),
            max_frame: MAX_FRAME_DEFAULT,
            window: None,
            hello_timeout: Duration::from_secs(5),
            ready_timeout: Duration::from_secs(60),
            start_timeout: Duration::from_secs(65),
            heartbeat: None,
            frame_timeout: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(60),
            graces: StopGraces { cancel: Duration::from_millis(500), terminate: Duration::from_millis(500) },
            bounds: Bounds { tasks: 16_384, bytes: 32 << 20, parked_bytes: 256 << 20, dead_letters: None },
            stream_buffer: ItemBounds { items: 1_024, bytes: 8 << 20 },
            records_events: false,
            reports_starts: false,
            task_events: false,
            latency: Latency::default(),
        }
    }

    /// How many workers, from 1 to 4096; with [`workers_max`](Self::workers_max) the fewest there are. The default is the number
    /// of processors this process may use.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.clamp(1, WORKERS_MAX);
        self
    }

    /// Lets the pool start more workers, up to so many (4096 at most), while tasks wait and no worker is free; they end when they
    /// were idle for [`idle_timeout`](Self::idle_timeout). [`Pool::resize_between`] changes both bounds later. By default there are always as many as [`workers`](Self::workers)
    /// says: a start costs from milliseconds to minutes, and only you know.
    #[must_use]
    pub fn workers_max(mut self, workers: usize) -> Self {
        self.workers_max = workers.clamp(1, WORKERS_MAX);
        self
    }

    /// How long a worker above the minimum may have nothing to do before it is ended. The default is 30 s: long enough that a
    /// short lull costs no restart, short enough that memory comes back.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How firmly workers are held, with everything that they start; see [`Containment`]. A level that this machine cannot give
    /// is [`StartError::Containment`], never a lower one. The default is [`Containment::Group`]: it works everywhere and costs
    /// nothing.
    #[must_use]
    pub fn containment(mut self, level: Containment) -> Self {
        self.containment = level;
        self
    }

    /// When a worker that did nothing wrong is replaced by a fresh one: after so many tasks, at an age, above a size; see
    /// [`Recycle`]. Never by default: a healthy worker costs nothing to keep.
    #[must_use]
    pub fn recycle(mut self, recycle: Recycle) -> Self {
        self.recycle = recycle;
        self
    }

    /// How tasks are treated unless a call says otherwise. The default is [`Policy::default`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The largest frame that workers may send, in bytes, from 16 MiB to 128 MiB. The default is 16 MiB: enough for an image,
    /// and a hundred workers sending their largest answer at once stay below 2 GiB. It cannot be less, because the protocol
    /// promises that much to every worker. A frame is an answer with some bytes of head. A larger answer fails its task with
    /// `too_large` and nothing else. How large a task may be is for the worker to say: `Worker::max_frame` in Rust.
    #[must_use]
    pub fn max_frame(mut self, bytes: u32) -> Self {
        self.max_frame = bytes.clamp(MAX_FRAME_DEFAULT, FRAME_LEN_CEILING);
        self
    }

    /// How many unanswered tasks a worker may hold, at most what it announced itself. By default this adapts: 1 while tasks
    /// take a millisecond or more, so that nothing waits behind a slow one; more, the faster they are answered; and nothing is put
    /// behind a task that takes longer than 4 ms, or gives results one by one. What was put behind one that was not known to be slow
    /// waits for it.
    #[must_use]
    pub fn window(mut self, tasks: u32) -> Self {
        self.window = Some(tasks.max(1));
        self
    }

    /// How long a new process may take to say HELLO. The default is 5 s: an SDK says it first of all.
    #[must_use]
    pub fn hello_timeout(mut self, timeout: Duration) -> Self {
        self.hello_timeout = timeout;
        self
    }

    /// How long a worker may take from HELLO to READY, or between two PROGRESS messages meanwhile. The default is 60 s:
    /// loading a model takes its time.
    #[must_use]
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }

    /// How long [`start`](Self::start) waits for the first READY. The default is the sum of the two other timeouts' defaults,
    /// 65 s.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long a worker with tasks in hand may be silent before it is ended; at half of it, it is asked for a sign of life. Only
    /// for workers that announced that they can answer while they work (`ping`); any bytes count as life. Off by default: a
    /// stopped worker, a starved one and one under a debugger look the same, and a task's own limit ([`Policy::timeout`]) ends
    /// all three.
    #[must_use]
    pub fn heartbeat(mut self, silence: Duration) -> Self {
        self.heartbeat = Some(silence);
        self
    }

    /// How long a worker that has begun a frame may write nothing more of it. The default is 30 s: a frame is written in one
    /// go, so that a pause of that length is a hang, but a machine that swaps is slow. The time in which the pool itself does not
    /// read counts for nothing.
    #[must_use]
    pub fn frame_timeout(mut self, timeout: Duration) -> Self {
        self.frame_timeout = timeout;
        self
    }

    /// How long a full [stream](Pool::submit_stream) may go without room for another result, because nobody takes them. After it the
    /// task ends as [`TimedOut`](crate::TaskErrorKind::TimedOut), and its worker is free for others. The default is 60 s: a
    /// consumer that is slower than that has most likely been forgotten.
    #[must_use]
    pub fn stream_timeout(mut self, timeout: Duration) -> Self {
        self.stream_timeout = timeout;
        self
    }

    /// How long a worker has to stop a task that was cancelled or took too long before it gets SIGTERM, and from that to SIGKILL.
    /// The defaults are 500 ms each: a handler that asks whether it is cancelled does so more often than that, and a second in
    /// all is bearable for whoever waits.
    #[must_use]
    pub fn stop_graces(mut self, cancel: Duration, terminate: Duration) -> Self {
        self.graces = StopGraces { cancel, terminate };
        self
    }

    /// How many tasks may be unanswered, and how many bytes of them; beyond either a submit waits. The defaults are 16 384
    /// tasks and 32 MiB: enough to hide any scheduling, little enough to forget about.
    #[must_use]
    pub fn queue(mut self, tasks: usize, bytes: usize) -> Self {
        self.bounds.tasks = tasks.max(1);
        self.bounds.bytes = bytes;
        self
    }

    /// How many bytes of results may wait in [`Task`](crate::Task) handles; beyond it a submit fails with
    /// [`ResultsFull`](crate::SubmitError::ResultsFull) instead of waiting for handles that may be waited for later. Tasks that
    /// were let in before still bring their results: to bound many large ones, bound [`queue`](Self::queue) in tasks as well, or
    /// use a [channel](Pool::channel), which looks ahead. The default is 256 MiB.
    #[must_use]
    pub fn parked_bytes(mut self, bytes: usize) -> Self {
        self.bounds.parked_bytes = bytes;
        self
    }

    /// How many results of one [stream](Pool::submit_stream) may wait to be taken, and how many bytes of them, before its worker
    /// is left waiting; it goes on when half is taken. The result that reaches the bound is kept, and so is what came in the same
    /// read of the pipe (256 KiB at most). The defaults are 1024 results and 8 MiB: enough to hide the scheduling of whoever takes
    /// them.
    #[must_use]
    pub fn stream_buffer(mut self, items: usize, bytes: usize) -> Self {
        self.stream_buffer = ItemBounds { items: items.max(1), bytes: bytes.max(1) };
        self
    }

    /// Keeps tasks that could not be done, with their inputs, for [`Pool::dead_letters`]. While `capacity` of them (at least 1)
    /// lie there untaken, no task is let in: [`DeadLettersFull`](crate::SubmitError::DeadLettersFull). Tasks that were let in
    /// before may still add theirs, so at most `capacity` and the [`queue`](Self::queue) together are kept. Off by default,
    /// because a pool whose letters nobody takes would stop.
    #[must_use]
    pub fn dead_letters(mut self, capacity: usize) -> Self {
        self.bounds.dead_letters = Some(capacity.max(1));
        self
    }

    /// Keeps events from the very start for the first call of [`Pool::events`]: what workers print before the pool is ready
    /// is then there too. Not by default, because nobody may ever ask.
    #[must_use]
    pub fn record_events(mut self) -> Self {
        self.records_events = true;
        self
    }

    /// Has workers that can say when they begin a task say so. Then a death tells exactly which task it hit also where a worker
    /// runs several at a time. Not by default: it costs a message a task, and a worker that does one task at a time needs none.
    #[must_use]
    pub fn report_starts(mut self) -> Self {
        self.reports_starts = true;
        self
    }

    /// Tells of every task that is handed to a worker ([`Event::TaskStarted`](crate::Event::TaskStarted)). Not by default: with a
    /// million tasks a second nobody wants to know.
    #[must_use]
    pub fn task_events(mut self) -> Self {
        self.task_events = true;
        self
    }

    /// Whether both ends look for what comes before they sleep: see [`Latency`]. The default is [`Latency::Spin`].
    #[must_use]
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Starts the workers, and waits until the first is ready; the others join when they are. Fails when they cannot be
    /// started: the error says how the last one ended.
    pub fn start(&self) -> Result<Pool, StartError> {
        sys::check_support().map_err(|error| StartError::Unsupported(error.to_string()))?;
        sys::check_containment(self.containment)
            .map_err(|error| StartError::Containment { level: error.level, reason: error.reason })?;
        let run = Uuid::now_v7();
        let parent = sys::current_pid();
        let core = Supervisor::new(self.supervision(run, parent), Instant::now());
        let engine =
            Engine::new(core, self.command.launch(run, self.containment), self.latency == Latency::Spin)?;
        let (shared, background) = Shared::start(engine, self.bounds, parent, self.records_events)?;
        let pool = Pool {
            shared,
            background: Mutex::new(Some(background)),
            policy: self.policy,
            graces: self.graces,
            stream_buffer: self.stream_buffer,
        };
        if !pool.shared.wait_for_start(deadline::after(self.start_timeout)) {
            let last = pool.shared().early_death();
            return Err(StartError::Timeout { limit: self.start_timeout, last });
        }
        match pool.shared.refusal() {
            Some(Refusal::Broken(death)) => Err(StartError::Worker(death)),
            _ => Ok(pool),
        }
    }

    fn supervision(&self, run: Uuid, parent: u32) -> SupervisorConfig {
        let workers_max = self.workers_max.max(self.workers);
        SupervisorConfig {
            workers: self.workers,
            workers_max,
            // Also where nobody can be above the minimum: `Pool::resize_between` may change that.
            idle_timeout: Some(self.idle_timeout),
            recycle: self.recycle,
            cores: cores(),
            program: self.command.name().into(),
            parent_pid: parent,
            run: run.to_string().into(),
            max_frame: self.max_frame,
            window: self.window,
            hello_timeout: self.hello_timeout,
            ready_timeout: self.ready_timeout,
            heartbeat: self.heartbeat,
            frame_timeout: self.frame_timeout,
            stream_timeout: self.stream_timeout,
            cancel_grace: self.graces.cancel,
            terminate_grace: self.graces.terminate,
            spin: self.latency == Latency::Spin,
            reports_starts: self.reports_starts,
            task_events: self.task_events,
            keeps_dead_letters: self.bounds.dead_letters.is_some(),
            // The last 62 bits of the run's name are random.
            seed: run.as_u64_pair().1,
        }
    }
}
