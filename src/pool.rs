//! A pool of workers of one kind: its making, its ways to take tasks, its end.

use std::future::poll_fn;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::limits::{FRAME_LEN_CEILING, MAX_FRAME_DEFAULT};
use stokehold_protocol::{BadData, Data, Recipient, Request, check_user_name, data, write_head};
use uuid::Uuid;

use crate::core::{Supervisor, SupervisorConfig};
use crate::driver::{Admission, Bounds, Engine, Mail, Refusal, Shared};
use crate::task::{Decode, Unsent, decode_as, leave_encoded};
use crate::{
    Event, Policy, Report, StartError, SubmitError, Task, TrySubmitError, WorkerCommand, deadline, sys,
};

/// How long the end of all workers may take after SIGKILL. Only a process stuck in a device takes longer.
const REAP_GRACE: Duration = Duration::from_secs(2);

/// More workers than any machine runs, and few enough to look at all of them in a turn.
const WORKERS_MAX: usize = 4_096;

/// After the deadline of a shutdown: SIGTERM, half a second, SIGKILL, the end.
const FORCE_GRACE: Duration = Duration::from_millis(500);

/// Persistent worker processes of one kind, fed with tasks.
///
/// Share it by reference or in an `Arc`. Dropping it kills the workers; [`shutdown`](Self::shutdown) ends them in order.
///
/// ```no_run
/// use stokehold::{Pool, Request, WorkerCommand};
///
/// const SQUARE: Request<u64, u64> = Request::new("square");
///
/// let pool = Pool::builder(WorkerCommand::new("./square-worker")).workers(2).start()?;
/// let task = pool.submit(SQUARE, &12)?;
/// assert_eq!(task.wait()?, 144);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    background: Mutex<Option<JoinHandle<()>>>,
    policy: Policy,
}

/// What a pool is made with; see [`Pool::builder`].
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    command: WorkerCommand,
    workers: usize,
    policy: Policy,
    max_frame: u32,
    window: Option<u32>,
    hello_timeout: Duration,
    ready_timeout: Duration,
    start_timeout: Duration,
    bounds: Bounds,
    records_events: bool,
}

impl PoolBuilder {
    /// How many workers, from 1 to 4096. The default is the number of processors this process may use.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.clamp(1, WORKERS_MAX);
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
    /// promises that much to every worker. A larger answer fails its task with `too_large` and nothing else.
    #[must_use]
    pub fn max_frame(mut self, bytes: u32) -> Self {
        self.max_frame = bytes.clamp(MAX_FRAME_DEFAULT, FRAME_LEN_CEILING);
        self
    }

    /// How many unanswered tasks a worker may hold, at most what it announced itself. By default this adapts: 1 while tasks
    /// take a millisecond or more, so that nothing waits behind a slow one; more, the faster they are answered.
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

    /// How many tasks may be unanswered, and how many bytes of them; beyond either a submit waits. The defaults are 16 384
    /// tasks and 32 MiB: enough to hide any scheduling, little enough to forget about.
    #[must_use]
    pub fn queue(mut self, tasks: usize, bytes: usize) -> Self {
        self.bounds.tasks = tasks.max(1);
        self.bounds.bytes = bytes;
        self
    }

    /// How many bytes of results may wait in [`Task`] handles; beyond it a submit fails with
    /// [`ResultsFull`](SubmitError::ResultsFull) instead of waiting for handles that may be waited for later. Tasks that were
    /// let in before still bring their results: to bound many large ones, bound [`queue`](Self::queue) in tasks as well, or use
    /// a [channel](Pool::channel), which looks ahead. The default is 256 MiB.
    #[must_use]
    pub fn parked_bytes(mut self, bytes: usize) -> Self {
        self.bounds.parked_bytes = bytes;
        self
    }

    /// Keeps events from the very start for the first call of [`Pool::events`]: what workers print before the pool is ready
    /// is then there too. Not by default, because nobody may ever ask.
    #[must_use]
    pub fn record_events(mut self) -> Self {
        self.records_events = true;
        self
    }

    /// Starts the workers, and waits until the first is ready; the others join when they are. Fails when they cannot be
    /// started: the error says how the last one ended.
    pub fn start(&self) -> Result<Pool, StartError> {
        sys::check_support().map_err(|error| StartError::Unsupported(error.to_string()))?;
        let run = Uuid::now_v7();
        let parent = sys::current_pid();
        let core = Supervisor::new(SupervisorConfig {
            workers: self.workers,
            program: self.command.name().into(),
            parent_pid: parent,
            max_frame: self.max_frame,
            window: self.window,
            hello_timeout: self.hello_timeout,
            ready_timeout: self.ready_timeout,
        });
        let engine = Engine::new(core, self.command.launch(run), self.workers)?;
        let (shared, background) = Shared::start(engine, self.bounds, parent, self.records_events)?;
        let pool = Pool { shared, background: Mutex::new(Some(background)), policy: self.policy };
        if !pool.shared.wait_for_start(deadline::after(self.start_timeout)) {
            return Err(StartError::Timeout(self.start_timeout));
        }
        match pool.shared.refusal() {
            Some(Refusal::Broken(death)) => Err(StartError::Worker(death)),
            _ => Ok(pool),
        }
    }
}

impl Pool {
    /// A pool whose workers are started by `command`.
    pub fn builder(command: impl Into<WorkerCommand>) -> PoolBuilder {
        PoolBuilder {
            command: command.into(),
            workers: thread::available_parallelism().map_or(1, NonZero::get),
            policy: Policy::default(),
            max_frame: MAX_FRAME_DEFAULT,
            window: None,
            hello_timeout: Duration::from_secs(5),
            ready_timeout: Duration::from_secs(60),
            start_timeout: Duration::from_secs(65),
            bounds: Bounds { tasks: 16_384, bytes: 32 << 20, parked_bytes: 256 << 20 },
            records_events: false,
        }
    }

    /// Submits a task. Blocks while the queue is full.
    pub fn submit<J, R>(&self, request: Request<J, R>, job: &J) -> Result<Task<R>, SubmitError>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy).submit(request, job)
    }

    /// Submits a task without waiting. On a full queue the encoded input comes back for another try.
    pub fn try_submit<J, R>(&self, request: Request<J, R>, job: &J) -> Result<Task<R>, TrySubmitError<R>>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy).try_submit(request, job)
    }

    /// Submits a task. Blocks while the queue is full, at most `timeout`.
    pub fn submit_timeout<J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
        timeout: Duration,
    ) -> Result<Task<R>, SubmitError>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy).submit_timeout(request, job, timeout)
    }

    /// Submits data that is encoded already, and leaves the answer encoded. Blocks while the queue is full.
    pub fn submit_data(&self, request: &str, data: &Data) -> Result<Task<Data>, SubmitError> {
        self.with(self.policy).submit_data(request, data)
    }

    /// The same pool with another policy for the calls made through it.
    ///
    /// ```no_run
    /// # use stokehold::{Policy, Pool, Request};
    /// # fn charge(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// const CHARGE: Request<str, ()> = Request::new("charge");
    /// pool.with(Policy::once()).submit(CHARGE, "account 4711")?.wait()?;
    /// # Ok(()) }
    /// ```
    pub fn with(&self, policy: Policy) -> With<'_> {
        With { pool: self, policy }
    }

    /// Reserves a place in the queue, so that the submit itself never waits: for async callers. A place counts against the bound
    /// in tasks; how many bytes will come on it is not known yet, and not refused then.
    pub async fn reserve(&self) -> Result<Permit<'_>, SubmitError> {
        loop {
            match self.shared.reserve() {
                Ok(()) => return Ok(Permit { pool: self, used: false }),
                Err(Refusal::Full) => {
                    poll_fn(|cx| match self.shared.poll_room(0, cx.waker()) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    })
                    .await;
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// Reserves a place in the queue. Blocks while the queue is full.
    pub fn reserve_blocking(&self) -> Result<Permit<'_>, SubmitError> {
        self.reserve_until(None)
    }

    /// Reserves a place in the queue. Blocks while the queue is full, at most `timeout`.
    pub fn reserve_timeout(&self, timeout: Duration) -> Result<Permit<'_>, SubmitError> {
        self.reserve_until(Some((deadline::after(timeout), timeout)))
    }

    /// A receiver of what happens in the pool from now on (or since its start, see [`PoolBuilder::record_events`]): workers that get ready, die or write to stderr, tasks that are
    /// tried again. At most 4096 events are kept for a slow receiver; beyond that the oldest are dropped. A later call takes
    /// the place of an earlier one.
    pub fn events(&self) -> Receiver<Event> {
        self.shared.listen()
    }

    /// Ends the pool in order: finishes every accepted task, sends DIE and closes the workers' inputs, and waits until they
    /// are gone. What is left after `deadline` gets SIGTERM and SIGCONT, half a second later SIGKILL, its whole process group;
    /// tasks not done by then end as [`Closed`](crate::TaskErrorKind::Closed). Returns at most about a second after
    /// `deadline`; the report says what each worker needed. Afterwards no child, no zombie and no descriptor of the pool is left.
    pub fn shutdown(self, deadline: Duration) -> Report {
        self.shared.close();
        let at = deadline::after(deadline);
        self.shared.post(Mail::Shutdown(at));
        self.end(at + FORCE_GRACE + REAP_GRACE)
    }

    /// Ends the pool now: SIGKILL to every worker's process group. Unanswered tasks end as
    /// [`Closed`](crate::TaskErrorKind::Closed).
    pub fn kill(self) -> Report {
        self.kill_workers()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    fn reserve_until(&self, deadline: Option<(Instant, Duration)>) -> Result<Permit<'_>, SubmitError> {
        loop {
            match self.shared.reserve() {
                Ok(()) => return Ok(Permit { pool: self, used: false }),
                Err(Refusal::Full) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            if !self.shared.wait_for_room(0, Admission::Ordinary, deadline.map(|(at, _)| at)) {
                return Err(SubmitError::Timeout(deadline.map_or(Duration::MAX, |(_, asked)| asked)));
            }
        }
    }

    fn kill_workers(&self) -> Report {
        self.shared.close();
        self.shared.post(Mail::Kill);
        self.end(Instant::now() + REAP_GRACE)
    }

    fn end(&self, patience: Instant) -> Report {
        let complete = self.shared.wait_until_over(patience);
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        let endings = background.map_or_else(Vec::new, |background| self.shared.dismantle(background));
        Report::new(endings, complete)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let background = self.background.get_mut().unwrap_or_else(PoisonError::into_inner);
        if background.is_some() {
            self.kill_workers();
        }
    }
}

/// A pool with a policy for the calls made through it; see [`Pool::with`].
#[derive(Clone, Copy, Debug)]
pub struct With<'a> {
    pool: &'a Pool,
    policy: Policy,
}

impl With<'_> {
    /// As [`Pool::submit`].
    pub fn submit<J, R>(&self, request: Request<J, R>, job: &J) -> Result<Task<R>, SubmitError>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.encode(request.name(), job, decode_as::<R>)?.submit(&self.pool.shared, None)
    }

    /// As [`Pool::try_submit`].
    pub fn try_submit<J, R>(&self, request: Request<J, R>, job: &J) -> Result<Task<R>, TrySubmitError<R>>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.encode(request.name(), job, decode_as::<R>)?.try_admit(&self.pool.shared, Admission::Ordinary)
    }

    /// As [`Pool::submit_timeout`].
    pub fn submit_timeout<J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
        timeout: Duration,
    ) -> Result<Task<R>, SubmitError>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = Some((deadline::after(timeout), timeout));
        self.encode(request.name(), job, decode_as::<R>)?.submit(&self.pool.shared, deadline)
    }

    /// As [`Pool::submit_data`].
    pub fn submit_data(&self, request: &str, data: &Data) -> Result<Task<Data>, SubmitError> {
        check_user_name(request)?;
        let body = encoded_body(self.pool.shared.parent(), request, data);
        Unsent::new(body, self.policy, leave_encoded).submit(&self.pool.shared, None)
    }

    pub(crate) fn pool(&self) -> &Pool {
        self.pool
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    fn encode<J, R>(&self, request: &str, job: &J, decode: Decode<R>) -> Result<Unsent<R>, SubmitError>
    where
        J: Serialize + ?Sized,
    {
        Ok(Unsent::new(body(self.pool.shared.parent(), request, job)?, self.policy, decode))
    }
}

/// A place in the queue; see [`Pool::reserve`]. Dropping it gives the place back.
#[derive(Debug)]
#[must_use = "a permit holds a place in the queue"]
pub struct Permit<'a> {
    pool: &'a Pool,
    used: bool,
}

impl Permit<'_> {
    /// Submits a task on this place. Never blocks.
    pub fn submit<J, R>(mut self, request: Request<J, R>, job: &J) -> Result<Task<R>, SubmitError>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let unsent = self.pool.with(self.pool.policy).encode(request.name(), job, decode_as::<R>)?;
        self.used = true;
        unsent.try_admit(&self.pool.shared, Admission::Reserved).map_err(|error| match error {
            TrySubmitError::Submit(error) => error,
            TrySubmitError::Full(_) => SubmitError::ResultsFull,
        })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.pool.shared.give_back();
        }
    }
}

/// A task's body, to anyone: whichever worker takes it. It is encoded once and sent as it is on every attempt.
pub(crate) fn body<J: Serialize + ?Sized>(parent: u32, request: &str, job: &J) -> Result<Vec<u8>, BadData> {
    let mut body = Vec::with_capacity(64);
    write_head(&mut body, request, u64::from(parent), Recipient::Anyone);
    data::encode_into(job, &mut body)?;
    Ok(body)
}

/// As [`body`], of data that is encoded already.
pub(crate) fn encoded_body(parent: u32, request: &str, data: &Data) -> Vec<u8> {
    let mut body = Vec::with_capacity(32 + data.as_bytes().len());
    write_head(&mut body, request, u64::from(parent), Recipient::Anyone);
    body.extend_from_slice(data.as_bytes());
    body
}
