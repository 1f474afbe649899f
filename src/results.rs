//! The end of a channel where results come out. It decodes each when it is asked for, where it lies; `inbox` says which.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use crate::channel::{Flow, check_or_watch, is_even};
use crate::core::Origin;
use crate::driver::{Admission, ComesAbout, Lane, Shared};
use crate::task::{Decode, undecodable};
use crate::{Order, TaskError};

mod inbox;

use inbox::{Inbox, Job};

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
    decode: Decode<R>,
    inbox: Inbox,
}

impl<R> Results<R> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        flow: Arc<Flow>,
        order: Order,
        decode: Decode<R>,
    ) -> Self {
        Self { shared, lane, flow, decode, inbox: Inbox::new(order) }
    }

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
    #[inline]
    pub fn try_recv(&mut self) -> Option<Completed<R>> {
        let decode = self.decode;
        let completed = self.inbox.receive(&self.lane, |index, job| match job {
            Job::Answered(value, origin) => Completed {
                index,
                answered_by: Some(AnsweredBy::from(origin)),
                result: decode(value).map_err(|error| undecodable(&error, origin)),
            },
            Job::Failed(error) => Completed { index, answered_by: None, result: Err(error) },
        });
        if completed.is_some() {
            self.lane.moved();
        }
        completed
    }

    /// Whether nothing more can come; if not, `waker` is woken when that may have changed. A pool that is closed lets no job
    /// in, and every job was counted before: when all of those were received there are no more, whatever the sender does.
    fn is_over(&self, waker: Option<&Waker>) -> bool {
        check_or_watch(&self.lane, waker, || {
            self.flow.has_ended(&self.lane) || self.shared.is_closed() && is_even(&self.lane)
        })
    }

    /// Blocks until a result arrives, or, if none is on its way, until the queue has room for so many jobs of `bytes` together.
    pub(crate) fn wait_to_go_on(&self, jobs: usize, bytes: usize) {
        if is_even(&self.lane) {
            self.shared.wait_for_room(jobs, bytes, Admission::Channel, None);
        } else {
            self.shared.block_until(None, ComesAbout::Anywhere, |waker| self.lane.has_arrived(waker));
        }
    }
}

impl From<Origin> for AnsweredBy {
    #[inline]
    fn from(origin: Origin) -> Self {
        let Origin { worker, pid, attempt, elapsed, .. } = origin;
        Self { worker, pid, attempt, elapsed }
    }
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
