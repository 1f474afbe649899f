//! Tasks with many results: the handle of their stream.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::{Request, data};

use crate::core::Outcome;
use crate::driver::{Arrived, Cell, ComesAbout, Handle, Items, Mail, Shared};
use crate::pool::With;
use crate::task::{Canceller, Decode, TaskStatus, decoded, discard, status, taken};
use crate::{Pool, SubmitError, TaskError, TaskErrorKind, TrySubmitError, deadline};

impl Pool {
    /// Submits a task that has many results, which come one by one as the worker sends them. Blocks while the queue is full.
    ///
    /// At most 1024 results or 8 MiB of them wait to be taken ([`PoolBuilder::stream_buffer`](crate::PoolBuilder::stream_buffer)).
    /// At the bound the pool reads no more from that worker, which then waits too; all others go on. A stream whose results lie
    /// there untaken for a minute ([`PoolBuilder::stream_timeout`](crate::PoolBuilder::stream_timeout)) is given up.
    ///
    /// ```no_run
    /// # use stokehold::{Pool, Request, Streamed};
    /// # fn list(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// const LIST: Request<str, u64> = Request::new("list");
    ///
    /// for element in pool.submit_stream::<String, _, _>(LIST, "/var/log")? {
    ///     match element? {
    ///         Streamed::Item { value, .. } => println!("{value}"),
    ///         Streamed::Restarted { .. } => println!("once more from the beginning"),
    ///         Streamed::Finished(count) => println!("{count} in all"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn submit_stream<I, J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
    ) -> Result<ResultStream<I, R>, SubmitError>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy()).submit_stream(request, job)
    }

    /// As [`submit_stream`](Self::submit_stream), without waiting. On a full queue the encoded input comes back for another
    /// try: [`Unsent::try_submit_stream`](crate::Unsent::try_submit_stream).
    pub fn try_submit_stream<I, J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
    ) -> Result<ResultStream<I, R>, TrySubmitError<R>>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy()).try_submit_stream(request, job)
    }

    /// As [`submit_stream`](Self::submit_stream). Blocks while the queue is full, at most `timeout`.
    pub fn submit_stream_timeout<I, J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
        timeout: Duration,
    ) -> Result<ResultStream<I, R>, SubmitError>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.with(self.policy()).submit_stream_timeout(request, job, timeout)
    }
}

impl With<'_> {
    /// As [`Pool::submit_stream`].
    pub fn submit_stream<I, J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
    ) -> Result<ResultStream<I, R>, SubmitError>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.unsent(request, job)?.submit_stream(self.pool(), None)
    }

    /// As [`Pool::try_submit_stream`].
    pub fn try_submit_stream<I, J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
    ) -> Result<ResultStream<I, R>, TrySubmitError<R>>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.unsent(request, job)?.try_submit_stream(self.pool())
    }

    /// As [`Pool::submit_stream_timeout`].
    pub fn submit_stream_timeout<I, J, R>(
        &self,
        request: Request<J, R>,
        job: &J,
        timeout: Duration,
    ) -> Result<ResultStream<I, R>, SubmitError>
    where
        I: DeserializeOwned,
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = Some((deadline::after(timeout), timeout));
        self.unsent(request, job)?.submit_stream(self.pool(), deadline)
    }
}

/// The results of one task: an iterator that blocks, and a `Stream` that does not.
///
/// Its last element is either [`Streamed::Finished`] or an error, exactly one of them, whatever happens to the workers.
/// Dropping it cancels the task, whether it runs or not: nobody is left who could take what it makes.
/// [`finish`](Self::finish) waits for the end without the rest of the results.
#[must_use = "a dropped stream cancels its task"]
pub struct ResultStream<I, R> {
    shared: Arc<Shared>,
    items: Arc<Items>,
    number: u64,
    decode: Decode<R>,
    /// The last element was given out.
    ended: bool,
    types: PhantomData<fn() -> I>,
}

/// One element of a [`ResultStream`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Streamed<I, R> {
    /// One of the results.
    Item {
        /// Which attempt it came from, from 1.
        attempt: u32,
        /// The result.
        value: I,
    },
    /// The task begins again, because its worker died: all results so far are void, and will come again. Only with
    /// [`Policy::restart_stream`](crate::Policy::restart_stream). Void results that did not leave room for new ones are left
    /// out.
    Restarted {
        /// The attempt that begins.
        attempt: u32,
    },
    /// The task is done: its answer. The last element.
    Finished(R),
}

/// There was no element yet, in the time there was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nothing came of the stream yet")]
pub struct NothingYet;

/// An element, or how the task failed; `None` after the last.
type Element<I, R> = Option<Result<Streamed<I, R>, TaskError>>;

impl<I, R> ResultStream<I, R> {
    pub(crate) fn new(shared: Arc<Shared>, items: Arc<Items>, number: u64, decode: Decode<R>) -> Self {
        Self { shared, items, number, decode, ended: false, types: PhantomData }
    }

    /// The task's number: tasks of a pool are counted from 1 in the order of submission.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the task is. It may be [`Done`](TaskStatus::Done) while results still wait here. Only a look.
    pub fn status(&self) -> TaskStatus {
        status(&self.items.cell)
    }

    /// Stops the task, whether it runs or not. Results that are here already can still be taken, those that come later are
    /// dropped; the last element is [`Cancelled`](TaskErrorKind::Cancelled), or the answer if that came first. A worker that
    /// does not stop doing it is ended: see [`PoolBuilder::stop_graces`](crate::PoolBuilder::stop_graces). Does not block.
    pub fn cancel(&self) {
        self.items.skip();
        if !self.items.cell.is_done() {
            self.shared.post(Mail::Cancel(Handle::Stream(Arc::clone(&self.items))));
        }
    }

    /// What cancels it from elsewhere, while its results are waited for here.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use stokehold::{Pool, Request, Streamed};
    /// # fn tail(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// const TAIL: Request<str, ()> = Request::new("tail");
    ///
    /// let lines = pool.submit_stream::<String, _, _>(TAIL, "/var/log/messages")?;
    /// let canceller = lines.canceller();
    /// std::thread::spawn(move || {
    ///     std::thread::sleep(Duration::from_secs(60));
    ///     canceller.cancel(); // the loop below ends with the error `Cancelled`
    /// });
    /// for line in lines {
    ///     if let Streamed::Item { value, .. } = line? {
    ///         println!("{value}");
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn canceller(&self) -> Canceller {
        Canceller::new(&self.shared, Handle::Stream(Arc::clone(&self.items)))
    }

    /// Blocks until the task is done, and gives its answer. Results that were not taken are dropped.
    pub fn finish(mut self) -> Result<R, TaskError> {
        if self.ended {
            return Err(taken(self.number));
        }
        let room = self.items.skip();
        self.items.clear();
        if room {
            self.tell_of_room();
        }
        self.shared.block_until(None, ComesAbout::InTurns, |waker| is_done(&self.items.cell, waker));
        self.outcome().unwrap_or_else(|| Err(taken(self.number)))
    }

    fn tell_of_room(&self) {
        self.shared.post(Mail::StreamRoom(Arc::clone(&self.items)));
    }

    /// Takes the outcome, if it is there.
    fn outcome(&mut self) -> Option<Result<R, TaskError>> {
        if self.ended || !self.items.cell.is_done() {
            return None;
        }
        self.ended = true;
        let outcome: Outcome = self.items.cell.take()?;
        discard(&self.shared, &outcome);
        Some(decoded(outcome, self.decode))
    }

    /// Whether an element is there; if not, `waker` is woken when it is.
    fn is_ready(&self, waker: Option<&Waker>) -> bool {
        // The outcome comes after the last result, so it is asked for first: what is seen of it, is seen of all results.
        is_done(&self.items.cell, waker) || self.items.has_arrived(waker)
    }

    /// Nobody will take what is still to come.
    fn abandon(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.items.skip();
        self.items.clear();
        match self.items.cell.abandon() {
            Some(outcome) => discard(&self.shared, &outcome),
            None => self.shared.post(Mail::Cancel(Handle::Stream(Arc::clone(&self.items)))),
        }
    }
}

impl<I: DeserializeOwned, R> ResultStream<I, R> {
    /// The next element. Blocks until it is there; `None` after the last.
    pub fn recv(&mut self) -> Option<Result<Streamed<I, R>, TaskError>> {
        loop {
            if let Ok(element) = self.try_recv() {
                return element;
            }
            self.shared.block_until(None, ComesAbout::InTurns, |waker| self.is_ready(waker));
        }
    }

    /// The next element, or `None` after the last. Blocks until it is there, at most `timeout`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Element<I, R>, NothingYet> {
        self.recv_until(deadline::after(timeout))
    }

    /// The next element if it is there, or `None` after the last. Never blocks.
    pub fn try_recv(&mut self) -> Result<Element<I, R>, NothingYet> {
        if self.ended {
            return Ok(None);
        }
        // Asked before the results are looked at: see `is_ready`.
        let done = self.items.cell.is_done();
        if let Some((arrived, room)) = self.items.take() {
            if room {
                self.tell_of_room();
            }
            return Ok(Some(self.element(arrived)));
        }
        if !done {
            return Err(NothingYet);
        }
        let result = self.outcome().unwrap_or_else(|| Err(taken(self.number)));
        Ok(Some(result.map(Streamed::Finished)))
    }

    fn recv_until(&mut self, deadline: Instant) -> Result<Element<I, R>, NothingYet> {
        if let Ok(element) = self.try_recv() {
            return Ok(element);
        }
        self.shared.block_until(Some(deadline), ComesAbout::InTurns, |waker| self.is_ready(waker));
        self.try_recv()
    }

    fn element(&mut self, arrived: Arrived) -> Result<Streamed<I, R>, TaskError> {
        match arrived {
            Arrived::Restarted { attempt } => Ok(Streamed::Restarted { attempt }),
            Arrived::Item { attempt, data } => match data::decode(&data) {
                Ok(value) => Ok(Streamed::Item { attempt, value }),
                Err(error) => {
                    self.abandon();
                    let mut error = TaskError::new(TaskErrorKind::Decode, self.number, error.to_string());
                    error.details.attempt = attempt;
                    Err(error)
                }
            },
        }
    }
}

/// Whether the outcome is there; if not, `waker` is woken when it is.
fn is_done(cell: &Cell, waker: Option<&Waker>) -> bool {
    match waker {
        None => cell.is_done(),
        Some(waker) => !cell.register(waker),
    }
}

impl<I: DeserializeOwned, R> Iterator for ResultStream<I, R> {
    type Item = Result<Streamed<I, R>, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv()
    }
}

impl<I: DeserializeOwned, R> FusedIterator for ResultStream<I, R> {}

impl<I: DeserializeOwned, R> Stream for ResultStream<I, R> {
    type Item = Result<Streamed<I, R>, TaskError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Ok(element) = this.try_recv() {
                return Poll::Ready(element);
            }
            if !this.is_ready(Some(cx.waker())) {
                this.shared.drive_in_background();
                return Poll::Pending;
            }
        }
    }
}

impl<I, R> Unpin for ResultStream<I, R> {}

impl<I, R> Drop for ResultStream<I, R> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<I, R> fmt::Debug for ResultStream<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultStream")
            .field("number", &self.number)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
