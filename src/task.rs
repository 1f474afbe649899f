//! The handle of one task.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use stokehold_protocol::{BadData, Data, data};

use crate::core::{Answered, Body, Origin, Outcome};
use crate::driver::{Admission, Cell, ComesAbout, Handle, Items, Mail, Place, Refusal, Shared, Ticket};
use crate::{Policy, Pool, ResultStream, SubmitError, TaskError, TaskErrorKind, TrySubmitError, deadline};

/// A task on its way. It ends with exactly one outcome, whatever happens to the workers.
///
/// It can be waited for ([`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout)) or awaited; no runtime is needed for
/// either. A thread that waits moves the pool's bytes meanwhile. Dropping the handle withdraws a task that no worker has, and
/// discards the answer of one that runs; it never kills. [`cancel`](Self::cancel) stops one that runs, too;
/// [`detach`](Self::detach) says that the answer is not wanted but the work is.
///
/// How long a task may take is said by its [`Policy`]: [`timeout`](Policy::timeout) for an attempt,
/// [`total_timeout`](Policy::total_timeout) for all. [`wait_timeout`](Self::wait_timeout) is about the waiting only.
#[must_use = "a dropped task is withdrawn; wait for it, or detach it"]
pub struct Task<R> {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
    number: u64,
    decode: Decode<R>,
    /// Its outcome was taken.
    finished: bool,
}

/// How an answer becomes what was asked for.
pub(crate) type Decode<R> = fn(Encoded<'_>) -> Result<R, BadData>;

/// An answer before it is decoded.
#[derive(Debug)]
pub(crate) enum Encoded<'a> {
    /// Where it lies.
    Lent(&'a [u8]),
    /// To be kept.
    Data(Data),
}

impl Encoded<'_> {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Data(data) => data.as_bytes(),
        }
    }
}

/// Where a task is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TaskStatus {
    /// Its outcome is there.
    Done,
    /// No worker has had it yet.
    Queued,
    /// A worker has it: it runs, or is next. A task that waits for another attempt shows the last one.
    Running {
        /// The worker's number, from 0.
        worker: usize,
        /// Its process id.
        pid: u32,
        /// Which attempt it is, from 1.
        attempt: u32,
    },
}

impl<R> Task<R> {
    /// Its number: tasks of a pool are counted from 1 in the order of submission.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether [`wait`](Self::wait) would return at once.
    pub fn is_done(&self) -> bool {
        self.cell.is_done()
    }

    /// Where it is. Only a look: it may be elsewhere already.
    pub fn status(&self) -> TaskStatus {
        status(&self.cell)
    }

    /// Blocks until its outcome is there.
    pub fn wait(mut self) -> Result<R, TaskError> {
        self.block(None);
        self.finish().unwrap_or_else(|| Err(taken(self.number)))
    }

    /// Blocks until its outcome is there, at most `timeout`. Then the task comes back, to be waited for again.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<R, TaskError>, Self> {
        self.block(Some(deadline::after(timeout)));
        self.finish().ok_or(self)
    }

    /// Stops it, whether it runs or not. Does not block; the task has one outcome as ever, which [`wait`](Self::wait) gives:
    /// [`Cancelled`](TaskErrorKind::Cancelled), with `may_have_run` telling whether a worker may have begun it, or its answer if
    /// that came first.
    ///
    /// A worker that runs it is told to stop. If it can and does, it lives on. If it has not stopped in the times of
    /// [`PoolBuilder::stop_graces`](crate::PoolBuilder::stop_graces), it is ended, so that the outcome is there about a second
    /// later at the most; other tasks that it held go back into the queue unharmed. There is no other attempt.
    pub fn cancel(&self) {
        if !self.cell.is_done() {
            self.shared.post(Mail::Cancel(Handle::Task(Arc::clone(&self.cell))));
        }
    }

    /// What cancels it from elsewhere, while this handle is waited for.
    ///
    /// ```no_run
    /// # use stokehold::{Pool, Request};
    /// # fn work(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// const RENDER: Request<str, ()> = Request::new("render");
    ///
    /// let task = pool.submit(RENDER, "scene 1")?;
    /// let canceller = task.canceller();
    /// std::thread::spawn(move || {
    ///     // When somebody presses a key:
    ///     canceller.cancel();
    /// });
    /// println!("{:?}", task.wait());
    /// # Ok(()) }
    /// ```
    pub fn canceller(&self) -> Canceller {
        Canceller::new(&self.shared, Handle::Task(Arc::clone(&self.cell)))
    }

    /// Lets it run without wanting its answer.
    pub fn detach(self) {
        if let Some(outcome) = self.cell.detach() {
            discard(&self.shared, &outcome);
        }
        let mut this = self;
        // The cell of a detached task is left to the engine; the handle gets an empty one to drop.
        this.cell = Arc::new(Cell::new());
    }

    fn block(&self, deadline: Option<Instant>) {
        self.shared.block_until(deadline, ComesAbout::InTurns, |waker| match waker {
            None => self.cell.is_done(),
            Some(waker) => !self.cell.register(waker),
        });
    }

    fn finish(&mut self) -> Option<Result<R, TaskError>> {
        if !self.cell.is_done() {
            return None;
        }
        let outcome = self.cell.take()?;
        self.finished = true;
        discard(&self.shared, &outcome);
        Some(decoded(outcome, self.decode))
    }
}

/// Where the task of a cell is.
pub(crate) fn status(cell: &Cell) -> TaskStatus {
    match cell.current_place() {
        _ if cell.is_done() => TaskStatus::Done,
        Place::Queued => TaskStatus::Queued,
        Place::Running { worker, pid, attempt } => TaskStatus::Running { worker, pid, attempt },
    }
}

/// An outcome was taken: its bytes wait no more.
pub(crate) fn discard(shared: &Shared, outcome: &Outcome) {
    if let Ok(answered) = outcome {
        shared.unpark_result(answered.data.as_bytes().len());
    }
}

/// What whoever asks twice for an outcome gets.
pub(crate) fn taken(number: u64) -> TaskError {
    TaskError::new(TaskErrorKind::Closed, number, "its outcome was taken before")
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if !self.finished
            && let Some(outcome) = self.cell.abandon()
        {
            discard(&self.shared, &outcome);
        }
    }
}

impl<R> Future for Task<R> {
    type Output = Result<R, TaskError>;

    /// Polling it again after it was ready gives an error, not a panic.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.finish() {
            return Poll::Ready(result);
        }
        if self.cell.register(cx.waker()) {
            self.shared.drive_in_background();
            return Poll::Pending;
        }
        Poll::Ready(self.finish().unwrap_or_else(|| Err(taken(self.number))))
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("number", &self.number).field("status", &self.status()).finish()
    }
}

/// Cancels one task, from any thread: see [`Task::canceller`] and [`ResultStream::canceller`]. It may outlive the task and the
/// pool, and does nothing then; it keeps neither of them.
#[derive(Clone)]
pub struct Canceller {
    shared: Weak<Shared>,
    handle: Handle,
}

impl Canceller {
    pub(crate) fn new(shared: &Arc<Shared>, handle: Handle) -> Self {
        Self { shared: Arc::downgrade(shared), handle }
    }

    /// Stops the task, as [`Task::cancel`] and [`ResultStream::cancel`] do, also when it was [detached](Task::detach). Does not
    /// block; another call does nothing more.
    pub fn cancel(&self) {
        if let Handle::Stream(items) = &self.handle {
            items.skip();
        }
        if !self.handle.cell().is_done()
            && let Some(shared) = self.shared.upgrade()
        {
            shared.post(Mail::Cancel(self.handle.clone()));
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("done", &self.handle.cell().is_done()).finish()
    }
}

/// An encoded input that found the queue full.
pub struct Unsent<R> {
    body: Body,
    policy: Policy,
    decode: Decode<R>,
    result: PhantomData<fn() -> R>,
}

impl<R> Unsent<R> {
    pub(crate) fn new(body: impl Into<Body>, policy: Policy, decode: Decode<R>) -> Self {
        Self { body: body.into(), policy, decode, result: PhantomData }
    }

    /// Tries again without waiting.
    pub fn try_submit(self, pool: &Pool) -> Result<Task<R>, TrySubmitError<R>> {
        self.try_admit(pool.shared(), Admission::Ordinary)
    }

    /// Tries again without waiting, for a task with many results: see [`Pool::submit_stream`].
    pub fn try_submit_stream<I>(self, pool: &Pool) -> Result<ResultStream<I, R>, TrySubmitError<R>> {
        self.try_admit_stream(pool, Admission::Ordinary)
    }

    pub(crate) fn try_admit(
        self,
        shared: &Arc<Shared>,
        admission: Admission,
    ) -> Result<Task<R>, TrySubmitError<R>> {
        let decode = self.decode;
        let (number, cell) = self.admit(shared, admission, || {
            let cell = Arc::new(Cell::new());
            (Handle::Task(Arc::clone(&cell)), cell)
        })?;
        Ok(Task { shared: Arc::clone(shared), cell, number, decode, finished: false })
    }

    pub(crate) fn try_admit_stream<I>(
        self,
        pool: &Pool,
        admission: Admission,
    ) -> Result<ResultStream<I, R>, TrySubmitError<R>> {
        let (shared, decode) = (pool.shared(), self.decode);
        let (number, items) = self.admit(shared, admission, || {
            let items = Arc::new(Items::new(pool.stream_buffer, Arc::clone(shared.arrivals())));
            (Handle::Stream(Arc::clone(&items)), items)
        })?;
        Ok(ResultStream::new(Arc::clone(shared), items, number, decode))
    }

    /// Lets the task in, and gives its number and what `handle` made for whoever waits for it.
    fn admit<H>(
        mut self,
        shared: &Arc<Shared>,
        admission: Admission,
        handle: impl FnOnce() -> (Handle, H),
    ) -> Result<(u64, H), TrySubmitError<R>> {
        let mut ours = None;
        let submitted = shared.submit(&mut self.body, self.policy, admission, |number| {
            let (theirs, kept) = handle();
            ours = Some(kept);
            Ticket::to_handle(number, theirs)
        });
        match (submitted, ours) {
            (Ok(number), Some(ours)) => Ok((number, ours)),
            (Err(Refusal::Full), _) => Err(TrySubmitError::Full(self)),
            (Err(refusal), _) => Err(SubmitError::from(refusal).into()),
            (Ok(_), None) => Err(SubmitError::Closed.into()),
        }
    }

    /// Tries until the queue has room, at most until the deadline.
    pub(crate) fn submit(
        self,
        shared: &Arc<Shared>,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<Task<R>, SubmitError> {
        self.persist(shared, deadline, |unsent| unsent.try_admit(shared, Admission::Ordinary))
    }

    /// As [`submit`](Self::submit), for a task with many results.
    pub(crate) fn submit_stream<I>(
        self,
        pool: &Pool,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<ResultStream<I, R>, SubmitError> {
        self.persist(pool.shared(), deadline, |unsent| unsent.try_admit_stream(pool, Admission::Ordinary))
    }

    fn persist<H>(
        self,
        shared: &Arc<Shared>,
        deadline: Option<(Instant, Duration)>,
        attempt: impl Fn(Self) -> Result<H, TrySubmitError<R>>,
    ) -> Result<H, SubmitError> {
        let mut unsent = self;
        let mut claim = None;
        loop {
            match attempt(unsent) {
                Ok(handle) => return Ok(handle),
                Err(TrySubmitError::Submit(error)) => return Err(error),
                Err(TrySubmitError::Full(again)) => unsent = again,
            }
            claim.get_or_insert_with(|| shared.claim_room(unsent.body.len()));
            if !shared.wait_for_room(1, unsent.body.len(), Admission::Ordinary, deadline.map(|(at, _)| at)) {
                return Err(SubmitError::Timeout(deadline.map_or(Duration::MAX, |(_, asked)| asked)));
            }
        }
    }
}

impl<R> fmt::Debug for Unsent<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsent({} bytes)", self.body.len())
    }
}

/// An answer decoded as `R`.
pub(crate) fn decode_as<R: DeserializeOwned>(answer: Encoded<'_>) -> Result<R, BadData> {
    data::decode(answer.as_bytes())
}

/// An answer left encoded.
#[expect(clippy::unnecessary_wraps, reason = "the signature is that of every decoder")]
pub(crate) fn leave_encoded(answer: Encoded<'_>) -> Result<Data, BadData> {
    Ok(match answer {
        Encoded::Lent(bytes) => Data::from_peer(bytes.to_vec()),
        Encoded::Data(data) => data,
    })
}

/// What an outcome is for whoever asked.
pub(crate) fn decoded<R>(outcome: Outcome, decode: Decode<R>) -> Result<R, TaskError> {
    let Answered { data, origin } = outcome?;
    decode(Encoded::Data(data)).map_err(|error| undecodable(&error, origin))
}

/// An answer that is no `R`.
#[cold]
pub(crate) fn undecodable(error: &BadData, origin: Origin) -> TaskError {
    let mut task_error = TaskError::new(TaskErrorKind::Decode, origin.task, error.to_string());
    task_error.details.attempt = origin.attempt;
    task_error.details.worker = Some(origin.worker);
    task_error.details.pid = Some(origin.pid);
    task_error
}
