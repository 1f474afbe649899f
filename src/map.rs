//! One call for many jobs: `map` and `imap`, in order or as they are done.

use std::borrow::Borrow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::Request;

use crate::channel::Imap;
use crate::pool::With;
use crate::{Order, Pool, TaskError};

impl Pool {
    /// The results of many jobs, in the order of the jobs. Blocks until all are there; one that fails does not stop the others.
    ///
    /// ```no_run
    /// # use stokehold::{Pool, Request, TaskError};
    /// # fn squares(pool: &Pool) -> Result<(), TaskError> {
    /// const SQUARE: Request<u64, u64> = Request::new("square");
    ///
    /// let all = pool.map(SQUARE, 1..=3); // every result, good or bad
    /// let good: Vec<u64> = pool.imap(SQUARE, 1..=3).collect::<Result<_, _>>()?; // stops at the first failure
    /// # let _ = (all, good); Ok(()) }
    /// ```
    pub fn map<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Vec<Result<R, TaskError>>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        self.imap(request, jobs).collect()
    }

    /// The results of many jobs with the places of their jobs, in the order in which they were done. Blocks until all are
    /// there.
    pub fn map_unordered<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Vec<(u64, Result<R, TaskError>)>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        let mut results = self.imap_unordered(request, jobs);
        std::iter::from_fn(|| results.recv()).map(|completed| (completed.index, completed.result)).collect()
    }

    /// An iterator over the results of an iterator of jobs, in the order of the jobs. Jobs are taken as there is room for
    /// them, so that an endless iterator will do: at most 8192 jobs are between the two, and no more are taken while more
    /// than 16 MiB of results wait. Dropping it withdraws what has not begun.
    pub fn imap<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Imap<I::IntoIter, J, R>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        self.with(self.policy()).imap(request, jobs)
    }

    /// As [`imap`](Self::imap), in the order in which the results are done.
    pub fn imap_unordered<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Imap<I::IntoIter, J, R>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        self.with(self.policy()).imap_unordered(request, jobs)
    }
}

impl With<'_> {
    /// As [`Pool::imap`].
    pub fn imap<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Imap<I::IntoIter, J, R>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        Imap::new(jobs.into_iter(), self.channel(request, Order::Input))
    }

    /// As [`Pool::imap_unordered`].
    pub fn imap_unordered<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Imap<I::IntoIter, J, R>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        Imap::new(jobs.into_iter(), self.channel(request, Order::Completion))
    }
}
