//! A channel with the workers in the middle: jobs go in at one end, on one thread, and come out as results at the other, on
//! another. Bounded both ways; nothing is kept for longer than somebody needs it.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::{BadData, Data, Request, check_user_name};

use crate::core::{Answered, Outcome};
use crate::driver::{Admission, ComesAbout, Lane, Refusal, Shared, Ticket};
use crate::pool::{With, body, encoded_body};
use crate::task::{Decode, decode_as, leave_encoded};
use crate::{Policy, Pool, SubmitError, TaskError};

/// Jobs sent and not received as results, at most: two workers with the widest window and as much again on the way.
const CAPACITY: u64 = 8_192;

/// Bytes of results between the two ends, those on their way taken to be as large as the latest were; beyond it no further job
/// is taken in.
const RESULT_BYTES: usize = 16 << 20;

/// Jobs sent before the first result is there: nobody knows yet how large results are.
const UNSEEN: u64 = 16;

/// In which order results come out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// As they are done.
    Completion,
    /// As their jobs went in. A slow one holds back those behind it, and at the bound the input.
    Input,
}

impl Pool {
    /// A channel through the workers for one kind of request. Each end may live on its own thread; dropping the sender ends
    /// the results after the last, dropping the results withdraws what has not begun.
    ///
    /// At most 8192 jobs are between the two ends, and fewer when results are large: the sender waits while more than 16 MiB of
    /// them are not received, or are to be expected.
    ///
    /// ```no_run
    /// use stokehold::{Order, Pool, Request};
    /// # fn resize(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// const RESIZE: Request<str, String> = Request::new("resize");
    ///
    /// let (jobs, results) = pool.channel(RESIZE, Order::Input);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(move || ["a.png", "b.png"].iter().try_for_each(|file| jobs.send(file)));
    ///     for result in results {
    ///         println!("{}", result?);
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn channel<J, R>(&self, request: Request<J, R>, order: Order) -> (JobSender<J>, Results<R>)
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy()).channel(request, order)
    }

    /// As [`channel`](Self::channel), with payloads that are encoded already and are left so.
    pub fn channel_data(
        &self,
        request: &str,
        order: Order,
    ) -> Result<(JobSender<Data>, Results<Data>), SubmitError> {
        check_user_name(request)?;
        Ok(ends(self.with(self.policy()), request.to_owned(), order, leave_encoded))
    }
}

impl With<'_> {
    /// As [`Pool::channel`].
    pub fn channel<J, R>(&self, request: Request<J, R>, order: Order) -> (JobSender<J>, Results<R>)
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        ends(*self, request.name().to_owned(), order, decode_as::<R>)
    }
}

fn ends<J: ?Sized, R>(
    with: With<'_>,
    request: String,
    order: Order,
    decode: Decode<R>,
) -> (JobSender<J>, Results<R>) {
    let lane = Arc::new(Lane::default());
    let flow = Arc::new(Flow::default());
    let shared = Arc::clone(with.pool().shared());
    shared.watch_over(&lane);
    let sender = JobSender {
        shared: Arc::clone(&shared),
        lane: Arc::clone(&lane),
        flow: Arc::clone(&flow),
        request,
        policy: with.policy(),
        jobs: PhantomData,
    };
    let results = Results {
        shared,
        lane,
        flow,
        order,
        decode,
        arrived: VecDeque::new(),
        early: VecDeque::new(),
        next: 0,
    };
    (sender, results)
}

/// How much is between the two ends.
#[derive(Debug, Default)]
struct Flow {
    sent: AtomicU64,
    received: AtomicU64,
    input_ended: AtomicBool,
}

impl Flow {
    fn has_room(&self, lane: &Lane) -> bool {
        let sent = self.sent.load(Ordering::SeqCst);
        let between = sent.saturating_sub(self.received.load(Ordering::SeqCst));
        let fits = match lane.bytes_expected(sent) {
            Some(bytes) => between < CAPACITY && bytes < RESULT_BYTES,
            None => between < UNSEEN,
        };
        fits || between == 0 || !lane.is_wanted()
    }

    fn has_ended(&self) -> bool {
        self.input_ended.load(Ordering::SeqCst) && self.is_even()
    }

    /// Whether every job that was sent was received as a result.
    fn is_even(&self) -> bool {
        self.sent.load(Ordering::SeqCst) == self.received.load(Ordering::SeqCst)
    }
}

/// Whether `check` holds; if not, `waker` is woken when it may.
fn check_or_watch(lane: &Lane, waker: Option<&Waker>, check: impl Fn() -> bool) -> bool {
    if check() {
        return true;
    }
    let Some(waker) = waker else { return false };
    lane.watch(waker);
    check()
}

/// The end of a channel where jobs go in. Dropping it ends the input.
#[derive(Debug)]
pub struct JobSender<J: ?Sized> {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    flow: Arc<Flow>,
    request: String,
    policy: Policy,
    jobs: PhantomData<fn(&J)>,
}

impl<J: Serialize + ?Sized> JobSender<J> {
    /// Sends a job. Blocks while the channel or the pool's queue is full.
    ///
    /// An input that cannot be written as data gives an error here and takes no place among the results.
    pub fn send(&self, job: &J) -> Result<(), SubmitError> {
        let mut body = self.body(job)?;
        self.send_body(&mut body)
    }
}

impl JobSender<Data> {
    /// Sends a job that is encoded already. Blocks while the channel or the pool's queue is full.
    pub fn send_data(&self, data: &Data) -> Result<(), SubmitError> {
        let mut body = encoded_body(self.shared.parent(), &self.request, data);
        self.send_body(&mut body)
    }
}

impl<J: ?Sized> JobSender<J> {
    /// Blocks until both the channel and the queue take the body.
    fn send_body(&self, body: &mut Vec<u8>) -> Result<(), SubmitError> {
        let mut claim = None;
        loop {
            self.shared.block_until(None, ComesAbout::Anywhere, |waker| {
                check_or_watch(&self.lane, waker, || self.has_room() || self.shared.is_closed())
            });
            match self.offer(body) {
                Ok(()) => return Ok(()),
                Err(Refusal::Full) => {
                    claim.get_or_insert_with(|| self.shared.claim_room(body.len()));
                    self.shared.wait_for_room(body.len(), Admission::Channel, None);
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// Whether the channel itself takes another job now.
    pub(crate) fn has_room(&self) -> bool {
        self.flow.has_room(&self.lane)
    }

    /// The body of a job.
    pub(crate) fn body(&self, job: &J) -> Result<Vec<u8>, BadData>
    where
        J: Serialize,
    {
        body(self.shared.parent(), &self.request, job)
    }

    /// Takes the body if there is room for it now.
    pub(crate) fn offer(&self, body: &mut Vec<u8>) -> Result<(), Refusal> {
        if !self.lane.is_wanted() {
            return Err(Refusal::Closed);
        }
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        if !self.flow.has_room(&self.lane) {
            return Err(Refusal::Full);
        }
        self.shared.submit(body, self.policy, Admission::Channel, |number| {
            let index = self.flow.sent.fetch_add(1, Ordering::SeqCst);
            Ticket::to_lane(number, Arc::clone(&self.lane), index)
        })?;
        Ok(())
    }

    /// Puts an outcome in place of a job that cannot be sent.
    pub(crate) fn refuse(&self, error: TaskError) {
        let index = self.flow.sent.fetch_add(1, Ordering::SeqCst);
        self.lane.complete(index, Err(Box::new(error)));
    }
}

impl<J: ?Sized> Drop for JobSender<J> {
    fn drop(&mut self) {
        self.flow.input_ended.store(true, Ordering::SeqCst);
        self.lane.moved();
    }
}

/// One result with where it came from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completed<R> {
    /// The place of its job in the input, from 0.
    pub index: u64,
    /// The worker's number and the attempt that was answered, if it was.
    pub answered_by: Option<AnsweredBy>,
    /// The result.
    pub result: Result<R, TaskError>,
}

/// Who answered a task, and how long it took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct AnsweredBy {
    /// The worker's number, from 0.
    pub worker: usize,
    /// Its process id.
    pub pid: u32,
    /// Which attempt was answered, from 1.
    pub attempt: u32,
    /// From the hand-out to the answer, the wait in the worker's window included.
    pub elapsed: Duration,
}

/// The end of a channel where results come out: an iterator that blocks, and a `Stream` that does not. Dropping it withdraws
/// what has not begun.
#[derive(Debug)]
pub struct Results<R> {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    flow: Arc<Flow>,
    order: Order,
    decode: Decode<R>,
    /// Taken from the lane, in the order of completion.
    arrived: VecDeque<(u64, Outcome)>,
    /// For [`Order::Input`]: what came before its turn, by distance from `next`.
    early: VecDeque<Option<Outcome>>,
    next: u64,
}

impl<R> Results<R> {
    /// The next result with where it came from. Blocks until it is there; `None` when everything was received and nothing more
    /// can come, because the sender is gone or the pool takes no more.
    pub fn recv(&mut self) -> Option<Completed<R>> {
        loop {
            if let Some(completed) = self.try_recv() {
                return Some(completed);
            }
            if self.is_over(None) {
                return None;
            }
            self.shared.block_until(None, ComesAbout::Anywhere, |waker| {
                self.lane.has_arrived(waker) || self.is_over(waker)
            });
        }
    }

    /// The next result if it is there. Never blocks.
    pub fn try_recv(&mut self) -> Option<Completed<R>> {
        let (index, outcome) = self.next_outcome()?;
        if let Ok(answered) = &outcome {
            self.lane.received(answered.data.len());
        }
        self.flow.received.fetch_add(1, Ordering::SeqCst);
        self.lane.moved();
        let answered_by = outcome.as_ref().ok().map(answered_by);
        Some(Completed { index, answered_by, result: outcome.and_then(self.decode).map_err(|error| *error) })
    }

    /// Whether nothing more can come; if not, `waker` is woken when that may have changed. A pool that is closed lets no job
    /// in, and every job was counted before: when all of those were received there are no more, whatever the sender does.
    fn is_over(&self, waker: Option<&Waker>) -> bool {
        check_or_watch(&self.lane, waker, || {
            self.flow.has_ended() || self.shared.is_closed() && self.flow.is_even()
        })
    }

    /// Blocks until a result arrives, or, if none is on its way, until the queue has room for `bytes`.
    pub(crate) fn wait_to_go_on(&self, bytes: usize) {
        let on_the_way = self.flow.sent.load(Ordering::SeqCst) > self.flow.received.load(Ordering::SeqCst);
        if on_the_way {
            self.shared.block_until(None, ComesAbout::Anywhere, |waker| self.lane.has_arrived(waker));
        } else {
            self.shared.wait_for_room(bytes, Admission::Channel, None);
        }
    }

    fn next_outcome(&mut self) -> Option<(u64, Outcome)> {
        if self.arrived.is_empty() {
            self.lane.take(&mut self.arrived);
        }
        match self.order {
            Order::Completion => self.arrived.pop_front(),
            Order::Input => {
                while !matches!(self.early.front(), Some(Some(_))) {
                    let (index, outcome) = self.arrived.pop_front()?;
                    let place = usize::try_from(index.saturating_sub(self.next)).unwrap_or(usize::MAX);
                    if place == 0 && self.early.is_empty() {
                        self.next += 1;
                        return Some((index, outcome));
                    }
                    if self.early.len() <= place {
                        self.early.resize_with(place + 1, || None);
                    }
                    if let Some(slot) = self.early.get_mut(place) {
                        *slot = Some(outcome);
                    }
                }
                let outcome = self.early.pop_front()??;
                self.next += 1;
                Some((self.next - 1, outcome))
            }
        }
    }
}

fn answered_by(answered: &Answered) -> AnsweredBy {
    let Answered { worker, pid, attempt, elapsed, .. } = *answered;
    AnsweredBy { worker, pid, attempt, elapsed }
}

impl<R> Iterator for Results<R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().map(|completed| completed.result)
    }
}

impl<R> Stream for Results<R> {
    type Item = Result<R, TaskError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(completed) = this.try_recv() {
                return Poll::Ready(Some(completed.result));
            }
            if this.is_over(Some(cx.waker())) {
                return Poll::Ready(None);
            }
            if !this.lane.has_arrived(Some(cx.waker())) {
                this.shared.drive_in_background();
                return Poll::Pending;
            }
        }
    }
}

impl<R> Drop for Results<R> {
    fn drop(&mut self) {
        self.lane.abandon();
        self.lane.moved();
    }
}

impl<R> Unpin for Results<R> {}
