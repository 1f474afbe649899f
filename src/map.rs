//! One call for many jobs: `map` and `imap`, in order or as they are done.

use std::borrow::Borrow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::Request;

use crate::channel::{JobSender, encode};
use crate::core::RunBuffers;
use crate::driver::Refusal;
use crate::pool::With;
use crate::results::{Completed, Results};
use crate::{Order, Pool, SubmitError, TaskError, TaskErrorKind};

impl Pool {
    /// The results of many jobs, in the order of the jobs. Blocks until all are there; one that fails does not stop the others.
    /// There is exactly one result for each job: when the pool takes no more in the middle, each of the rest is
    /// [`Closed`](TaskErrorKind::Closed), [`Broken`](TaskErrorKind::Broken), or, where dead letters fill their bound,
    /// [`Refused`](TaskErrorKind::Refused). So the jobs must have an end; [`imap`](Self::imap) is for those without.
    ///
    /// ```no_run
    /// # use stokehold::{Pool, Request, TaskError};
    /// # fn squares(pool: &Pool) -> Result<(), TaskError> {
    /// const SQUARE: Request<u64, u64> = Request::new("square");
    ///
    /// let all = pool.map(SQUARE, 1..=3); // every result, good or bad
    /// let good: Vec<u64> = pool.imap(SQUARE, 1..=3).collect::<Result<_, _>>()?; // stops at the first failure
    ///
    /// // Jobs that are borrowed, for requests that take a `str` or a slice.
    /// const SHOUT: Request<str, String> = Request::new("shout");
    /// let words = vec!["some".to_owned(), "words".to_owned()];
    /// let loud = pool.map(SHOUT, words.iter().map(String::as_str));
    /// # let _ = (all, good, loud); Ok(()) }
    /// ```
    pub fn map<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Vec<Result<R, TaskError>>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        self.imap(request, jobs).complete().collect()
    }

    /// The results of many jobs with the places of their jobs, in the order in which they were done. Blocks until all are
    /// there, one for every job.
    pub fn map_unordered<J, R, I>(&self, request: Request<J, R>, jobs: I) -> Vec<(u64, Result<R, TaskError>)>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
        I: IntoIterator<Item: Borrow<J>>,
    {
        let mut results = self.imap_unordered(request, jobs).complete();
        std::iter::from_fn(|| results.recv()).map(|completed| (completed.index, completed.result)).collect()
    }

    /// An iterator over the results of an iterator of jobs, in the order of the jobs. Jobs are taken as there is room for
    /// them, so that an endless iterator will do: at most 8192 jobs are between the two, and fewer when results are
    /// large: no more are taken while more than 16 MiB of them wait, or are to be expected. Dropping it withdraws what has not
    /// begun.
    ///
    /// Whoever asks for a result also asks the iterator for jobs, and takes some together where they come quickly. While the
    /// iterator blocks, results wait, and so may jobs that it gave before; one that waits for the results of its own jobs belongs
    /// into another thread, with a [`channel`](Self::channel).
    ///
    /// When the pool takes no more, the first job that it refuses has that error for its result and is the last: no other is
    /// taken from the iterator, which may have no end. So there can be fewer results than jobs; [`map`](Self::map) has one for
    /// each.
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

/// An iterator over the results of an iterator of jobs; see [`Pool::imap`].
#[derive(Debug)]
pub struct Imap<I: Iterator, J: ?Sized, R> {
    jobs: I,
    sender: Option<JobSender<J>>,
    results: Results<R>,
    /// Jobs that are encoded and not sent.
    input: RunBuffers,
    /// What became of the job behind them that cannot be sent.
    unsendable: Option<TaskError>,
    /// The iterator has no more.
    is_exhausted: bool,
    /// Whether every job has a result, also those that the pool does not take any more.
    complete: bool,
    /// Why the pool takes no more.
    refusal: Option<TaskError>,
}

impl<I, J, R> Imap<I, J, R>
where
    I: Iterator,
    I::Item: Borrow<J>,
    J: Serialize + ?Sized,
{
    pub(crate) fn new(jobs: I, (sender, results): (JobSender<J>, Results<R>)) -> Self {
        Self {
            jobs,
            sender: Some(sender),
            results,
            input: RunBuffers::default(),
            unsendable: None,
            is_exhausted: false,
            complete: false,
            refusal: None,
        }
    }

    /// The same with a result for every job. The iterator of jobs must have an end.
    fn complete(self) -> Self {
        Self { complete: true, ..self }
    }

    /// The next result with where it came from; otherwise as the iterator.
    pub fn recv(&mut self) -> Option<Completed<R>> {
        loop {
            if let Some(completed) = self.results.try_recv() {
                return Some(completed);
            }
            if self.put_in() {
                continue;
            }
            if self.sender.is_none() {
                return self.results.recv();
            }
            // Full: either a result comes, or the queue gets room because somebody else's task is done.
            self.results.wait_to_go_on(self.input.len(), self.input.bytes());
        }
    }

    /// Takes jobs from the iterator, as many as are to be sent together, and sends them; false if there is no room.
    fn put_in(&mut self) -> bool {
        let Some(sender) = &self.sender else { return false };
        if let Some(refusal) = &self.refusal {
            match self.jobs.next() {
                Some(_) => sender.refuse(refusal.clone()),
                None => self.sender = None,
            }
            return true;
        }
        while self.unsendable.is_none() && !self.is_exhausted && sender.has_room_behind(self.input.len()) {
            match self.jobs.next() {
                None => self.is_exhausted = true,
                Some(job) => match self.input.try_push(|input| encode(job.borrow(), input)) {
                    Ok(()) if sender.are_due(&self.input) => break,
                    Ok(()) => {}
                    Err(error) => {
                        self.unsendable = Some(TaskError::new(TaskErrorKind::Encode, 0, error.to_string()));
                    }
                },
            }
        }
        let sent = match self.input.len() {
            0 if self.unsendable.is_none() && !self.is_exhausted => return false,
            0 => Ok(()),
            _ => sender.offer_all(&mut self.input),
        };
        match sent {
            Err(Refusal::Full) => return false,
            Err(refusal) => {
                let refusal = refused(refusal);
                // Those in hand have that for their result, each; no other is taken.
                for _ in 0..self.input.len() + usize::from(self.unsendable.is_some()) {
                    sender.refuse(refusal.clone());
                }
                self.input = RunBuffers::default();
                self.unsendable = None;
                match self.complete {
                    true => self.refusal = Some(refusal),
                    false => self.is_exhausted = true,
                }
            }
            Ok(()) => {
                if let Some(error) = self.unsendable.take() {
                    sender.refuse(error);
                }
            }
        }
        if self.is_exhausted {
            self.sender = None;
        }
        true
    }
}

/// What a job gets that came too late. No later one would fare better.
fn refused(refusal: Refusal) -> TaskError {
    match refusal {
        Refusal::Broken(death) => {
            let mut error = TaskError::new(TaskErrorKind::Broken, 0, death.to_string());
            error.details.death = Some(death);
            error
        }
        // No other kind says that it was not sent.
        Refusal::DeadLettersFull => {
            TaskError::new(TaskErrorKind::Refused, 0, SubmitError::DeadLettersFull.to_string())
        }
        Refusal::Closed | Refusal::Full | Refusal::NoReceiver | Refusal::ResultsFull => {
            TaskError::new(TaskErrorKind::Closed, 0, SubmitError::from(refusal).to_string())
        }
    }
}

impl<I, J, R> Iterator for Imap<I, J, R>
where
    I: Iterator,
    I::Item: Borrow<J>,
    J: Serialize + ?Sized,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().map(|completed| completed.result)
    }
}
