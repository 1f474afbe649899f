//! A pool of workers of one kind: its ways to take tasks, its end. What it is made with is in `builder`.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::{BadData, Data, Recipient, Request, check_user_name, data, write_head};

use crate::builder::{StopGraces, WORKERS_MAX};
use crate::channel::one_value;
use crate::core::Body;
use crate::driver::{Admission, ItemBounds, Mail, Refusal, Shared};
use crate::task::{Unsent, decode_as, leave_encoded};
use crate::{
    Event, Policy, PoolBuilder, Report, ResultStream, SubmitError, Task, TrySubmitError, WorkerCommand,
    deadline,
};

/// How long the end of all workers may take after SIGKILL. Only a process stuck in a device takes longer.
const REAP_GRACE: Duration = Duration::from_secs(2);

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
///
/// # The end of a pool that is shared
///
/// [`shutdown`](Self::shutdown) takes the pool itself, so that nobody is left who uses it. Where threads share one in an `Arc`,
/// [`close`](Self::close) has them come to an end, and the last owner shuts it down:
///
/// ```no_run
/// # use std::{sync::Arc, thread, time::Duration};
/// # use stokehold::{Pool, Request, SubmitError, WorkerCommand};
/// # const SQUARE: Request<u64, u64> = Request::new("square");
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Arc::new(Pool::builder(WorkerCommand::new("./square-worker")).start()?);
/// let feeders = [0, 1].map(|first| {
///     let pool = Arc::clone(&pool);
///     thread::spawn(move || {
///         for number in (first..).step_by(2) {
///             match pool.submit(SQUARE, &number) {
///                 Ok(task) => println!("{:?}", task.wait()),
///                 Err(SubmitError::Closed) => break, // nothing is lost: what was let in has its answer
///                 Err(error) => return Err(error),
///             }
///         }
///         Ok(())
///     })
/// });
/// thread::sleep(Duration::from_secs(60));
/// pool.close();
/// for feeder in feeders {
///     feeder.join().map_err(|_| "a feeder panicked")??;
/// }
/// // `Some`, because nobody else has it any more.
/// let report = Arc::into_inner(pool).map(|pool| pool.shutdown(Duration::from_secs(5)));
/// # let _ = report; Ok(()) }
/// ```
///
/// Ctrl-C does not reach the workers: each leads a process group of its own. A program that closes its pool at Ctrl-C ends in
/// order, as the example `supervised` does; one that does nothing about it dies, and its workers die with it.
#[derive(Debug)]
pub struct Pool {
    pub(crate) shared: Arc<Shared>,
    pub(crate) background: Mutex<Option<JoinHandle<()>>>,
    pub(crate) policy: Policy,
    pub(crate) graces: StopGraces,
    pub(crate) stream_buffer: ItemBounds,
}

impl Pool {
    /// A pool whose workers are started by `command`.
    pub fn builder(command: impl Into<WorkerCommand>) -> PoolBuilder {
        PoolBuilder::new(command.into())
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
    ///
    /// Data that came from a worker and is no value of the data model gives an error, as an input that cannot be written does.
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

    /// Has so many workers from now on, from 1 to 4096, neither more nor fewer, whatever the builder said: a pool that followed
    /// the work ([`PoolBuilder::workers_max`]) does so no more. New ones are started at once; those too many finish what they
    /// have and end, those with nothing to do first. Does not block; in a pool that is being shut down it does nothing.
    pub fn resize(&self, workers: usize) {
        self.resize_between(workers, workers);
    }

    /// Has from `min` to `max` workers from now on, each from 1 to 4096, as [`PoolBuilder::workers`] and
    /// [`PoolBuilder::workers_max`] say it at the start: more than `min` while tasks wait, until they were idle for
    /// [`PoolBuilder::idle_timeout`]. A `max` below `min` counts as `min`. Otherwise as [`resize`](Self::resize).
    pub fn resize_between(&self, min: usize, max: usize) {
        let min = min.clamp(1, WORKERS_MAX);
        self.shared.post(Mail::Resize(min, max.clamp(min, WORKERS_MAX)));
    }

    /// Lets no task in any more: a submit fails with [`SubmitError::Closed`], also one that is waiting for room, and one on a
    /// permit that was reserved before. What was accepted goes on, retries included, and its outcomes can be waited for. The
    /// workers stay until the pool is shut down. Does not block; another call does nothing.
    ///
    /// So the threads that share a pool learn that it is to end: see [`Pool`].
    pub fn close(&self) {
        self.shared.close();
    }

    /// A receiver of what happens in the pool from now on (or since its start, see [`PoolBuilder::record_events`]): workers
    /// that get ready, die, or write to stderr or for the log, tasks that are tried again. At most 4096 events, and 16 MiB of
    /// their texts, are kept for a slow receiver; beyond that the oldest are dropped, so that it can never hold up the pool. A
    /// later call takes the place of an earlier one.
    ///
    /// The same is told to [`tracing`](https://docs.rs/tracing), if there is a subscriber. What is about one worker stands in the
    /// span of its life: `worker`, of level info and target `stokehold`, with the fields `number` and `pid`.
    ///
    /// | target | level | events |
    /// |---|---|---|
    /// | `stokehold` | error | [`Broken`](Event::Broken), [`DeadLettered`](Event::DeadLettered), [`WorkerGivenUp`](Event::WorkerGivenUp) |
    /// | `stokehold` | warn | [`WorkerDied`](Event::WorkerDied), [`TaskRetried`](Event::TaskRetried), [`TaskOverdue`](Event::TaskOverdue) |
    /// | `stokehold` | info | [`WorkerReady`](Event::WorkerReady), [`WorkerRetired`](Event::WorkerRetired) |
    /// | `stokehold` | debug | [`WorkerStarted`](Event::WorkerStarted), [`ItemsUnwanted`](Event::ItemsUnwanted) |
    /// | `stokehold` | trace | [`Progress`](Event::Progress), [`TaskStarted`](Event::TaskStarted) |
    /// | `stokehold::worker` | info | [`Stderr`](Event::Stderr), the line as it is |
    /// | `stokehold::worker` | the one that the worker named, or else info | [`Log`](Event::Log) |
    pub fn events(&self) -> Receiver<Event> {
        self.shared.listen()
    }

    /// Ends the pool in order: finishes every accepted task, sends DIE and closes the workers' inputs, and waits until they
    /// are gone. What is left after `deadline` gets SIGTERM and SIGCONT, half a second later ([`PoolBuilder::stop_graces`])
    /// SIGKILL, its whole process group; tasks not done by then end as [`Closed`](crate::TaskErrorKind::Closed). Returns at
    /// most about a second after these times; the report says what each worker needed. Afterwards no child, no zombie and no
    /// descriptor of the pool is left.
    pub fn shutdown(self, deadline: Duration) -> Report {
        self.shared.close();
        let at = deadline::after(deadline);
        self.shared.post(Mail::Shutdown(at));
        self.end(deadline::plus(at, self.graces.cancel.saturating_add(self.graces.terminate)) + REAP_GRACE)
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
            if !self.shared.wait_for_room(1, 0, Admission::Ordinary, deadline.map(|(at, _)| at)) {
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
        // In a forked copy of the host the pool is not that copy's: its threads are not there, and its workers are the
        // original's.
        if crate::sys::current_pid() != self.shared.parent() {
            let background = self.background.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _not_ours = std::mem::ManuallyDrop::new(background.take());
            return;
        }
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
        self.unsent(request, job)?.submit(&self.pool.shared, None)
    }

    /// As [`Pool::try_submit`].
    pub fn try_submit<J, R>(&self, request: Request<J, R>, job: &J) -> Result<Task<R>, TrySubmitError<R>>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.unsent(request, job)?.try_admit(&self.pool.shared, Admission::Ordinary)
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
        self.unsent(request, job)?.submit(&self.pool.shared, deadline)
    }

    /// As [`Pool::submit_data`].
    pub fn submit_data(&self, request: &str, data: &Data) -> Result<Task<Data>, SubmitError> {
        check_user_name(request)?;
        one_value(data)?;
        let body = encoded_body(self.pool.shared.parent(), request, data);
        Unsent::new(body, self.policy, leave_encoded).submit(&self.pool.shared, None)
    }

    pub(crate) fn pool(&self) -> &Pool {
        self.pool
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// The task, encoded.
    pub(crate) fn unsent<J, R>(&self, request: Request<J, R>, job: &J) -> Result<Unsent<R>, SubmitError>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let body = body(self.pool.shared.parent(), request.name(), job)?;
        Ok(Unsent::new(body, self.policy, decode_as::<R>))
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
        let unsent = self.pool.with(self.pool.policy).unsent(request, job)?;
        self.used = true;
        unsent.try_admit(&self.pool.shared, Admission::Reserved).map_err(without_input)
    }

    /// Submits a task with a stream of results on this place, as [`Pool::submit_stream`]. Never blocks.
    pub fn submit_stream<I, J, R>(
        mut self,
        request: Request<J, R>,
        job: &J,
    ) -> Result<ResultStream<I, R>, SubmitError>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let unsent = self.pool.with(self.pool.policy).unsent(request, job)?;
        self.used = true;
        unsent.try_admit_stream(self.pool, Admission::Reserved).map_err(without_input)
    }
}

/// Why a task on a reserved place was not let in. That the queue is full cannot be the reason.
fn without_input<R>(error: TrySubmitError<R>) -> SubmitError {
    match error {
        TrySubmitError::Submit(error) => error,
        TrySubmitError::Full(_) => SubmitError::ResultsFull,
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
pub(crate) fn encoded_body(parent: u32, request: &str, data: &Data) -> Body {
    let mut head = Vec::with_capacity(32 + if data.shared().is_some() { 0 } else { data.as_bytes().len() });
    write_head(&mut head, request, u64::from(parent), Recipient::Anyone);
    Body::with_data(head, data)
}
