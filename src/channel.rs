//! A channel with the workers in the middle: jobs go in at one end, on one thread, and come out as results at the other, on
//! another. Bounded both ways; nothing is kept for longer than somebody needs it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::{
    BadData, Data, Request, SHARED_BYTES_MIN, SharedTail, check, check_user_name, data,
};

use crate::core::{RunBuffers, Source};
use crate::driver::{Admission, ComesAbout, Input, Lane, Refusal, Shared};
use crate::pool::With;
use crate::results::Results;
use crate::task::{Decode, decode_as, leave_encoded};
use crate::{Pool, SubmitError, TaskError};

/// Jobs sent and not received as results, at most: two workers with the widest window and as much again on the way.
const CAPACITY: u64 = 8_192;

/// Bytes of results between the two ends, those on their way taken to be as large as the latest were; beyond it no further job
/// is taken in.
const RESULT_BYTES: u64 = 16 << 20;

/// Jobs sent before the first result is there: nobody knows yet how large results are.
const UNSEEN: u64 = 16;

/// After so many jobs the sender looks again how much room there is.
const LOOK_EVERY: u64 = 256;

/// The memory for encoding a job that a thread keeps, at most.
const SCRATCH_BYTES_KEPT: usize = 64 * 1024;

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
    /// the results after the last, dropping the results withdraws what has not begun and has the sender fail with
    /// [`NoReceiver`](SubmitError::NoReceiver).
    ///
    /// At most 8192 jobs are between the two ends, and fewer when results are large: the sender waits while more than 16 MiB of
    /// them are not received, or are to be expected. So whoever sends more than that before receiving waits for ever: put the
    /// ends on two threads, or use [`imap`](Self::imap).
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
        Ok(ends(self.with(self.policy()), request, order, leave_encoded))
    }
}

impl With<'_> {
    /// As [`Pool::channel`].
    pub fn channel<J, R>(&self, request: Request<J, R>, order: Order) -> (JobSender<J>, Results<R>)
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        ends(*self, request.name(), order, decode_as::<R>)
    }
}

fn ends<J: ?Sized, R>(
    with: With<'_>,
    request: &str,
    order: Order,
    decode: Decode<R>,
) -> (JobSender<J>, Results<R>) {
    let shared = Arc::clone(with.pool().shared());
    let lane = Arc::new(Lane::new(Source::new(request, shared.parent(), with.policy())));
    let flow = Arc::new(Flow::default());
    shared.watch_over(&lane);
    let sender = JobSender {
        shared: Arc::clone(&shared),
        lane: Arc::clone(&lane),
        flow: Arc::clone(&flow),
        room_until: AtomicU64::new(0),
        jobs: PhantomData,
    };
    (sender, Results::new(shared, lane, flow, order, decode))
}

/// What the two ends know of each other besides what is on the way.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    input_ended: AtomicBool,
}

impl Flow {
    /// Whether every job has a result that was received, and no other will come.
    pub(crate) fn has_ended(&self, lane: &Lane) -> bool {
        self.input_ended.load(Ordering::SeqCst) && is_even(lane)
    }
}

/// Whether every job that was sent was received as a result.
pub(crate) fn is_even(lane: &Lane) -> bool {
    lane.sent() == lane.received()
}

/// For how many jobs more there is room in a channel when so many were sent.
fn room(lane: &Lane, sent: u64) -> u64 {
    let between = sent.saturating_sub(lane.received());
    if between == 0 || !lane.is_wanted() {
        return 1;
    }
    let (bytes, on_the_way, each) = lane.expected(sent);
    let left = match each {
        None => UNSEEN.saturating_sub(between),
        Some(0) => u64::MAX,
        Some(each) => (RESULT_BYTES.saturating_sub(bytes) / each).saturating_sub(on_the_way),
    };
    left.min(CAPACITY.saturating_sub(between))
}

/// Whether `check` holds; if not, `waker` is woken when it may.
pub(crate) fn check_or_watch(lane: &Lane, waker: Option<&Waker>, check: impl Fn() -> bool) -> bool {
    if check() {
        return true;
    }
    let Some(waker) = waker else { return false };
    lane.watch(waker);
    check()
}

thread_local! {
    /// Where jobs are encoded before they are let in.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Gives `encode` an empty buffer. It is out of its place meanwhile: encoding runs the user's code, which may send as well.
fn with_scratch<T>(encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    let done = encode(&mut scratch);
    if scratch.capacity() <= SCRATCH_BYTES_KEPT {
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }
    done
}

/// The end of a channel where jobs go in. Dropping it ends the input.
#[derive(Debug)]
pub struct JobSender<J: ?Sized> {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    flow: Arc<Flow>,
    /// As many jobs may be sent in all before it is looked again whether there is room.
    room_until: AtomicU64,
    jobs: PhantomData<fn(&J)>,
}

impl<J: Serialize + ?Sized> JobSender<J> {
    /// Sends a job. Blocks while the channel or the pool's queue is full.
    ///
    /// An input that cannot be written as data gives an error here and takes no place among the results.
    pub fn send(&self, job: &J) -> Result<(), SubmitError> {
        with_scratch(|input| {
            encode(job, input)?;
            if input.len() < SHARED_BYTES_MIN {
                return self.send_input(Input::Lent(input));
            }
            self.send_input(Input::Shared(&SharedTail::new(std::mem::take(input))))
        })
    }
}

impl JobSender<Data> {
    /// Sends a job that is encoded already. Blocks while the channel or the pool's queue is full.
    ///
    /// What came from a peer and is no value of the data model gives an error, as an input that cannot be written does: in a
    /// frame with others it would be taken for several, or for a part of the next.
    pub fn send_data(&self, data: &Data) -> Result<(), SubmitError> {
        let bytes = one_value(data)?;
        self.send_input(data.shared().map_or(Input::Lent(bytes), Input::Shared))
    }
}

/// The bytes of one value and nothing else: what came from a worker may be anything (SPEC D-16).
pub(crate) fn one_value(data: &Data) -> Result<&[u8], BadData> {
    if check(data.as_bytes()).is_err() {
        Data::from_encoded(data.as_bytes().to_vec())?;
    }
    Ok(data.as_bytes())
}

/// Writes a job behind what is in `input`.
pub(crate) fn encode<J: Serialize + ?Sized>(job: &J, input: &mut Vec<u8>) -> Result<(), BadData> {
    data::encode_into(job, input)
}

impl<J: ?Sized> JobSender<J> {
    /// Blocks until both the channel and the queue take the input.
    fn send_input(&self, input: Input<'_>) -> Result<(), SubmitError> {
        let mut claim = None;
        loop {
            match self.offer(input) {
                Ok(()) => return Ok(()),
                Err(Refusal::Full) if self.has_room() => {
                    claim.get_or_insert_with(|| self.shared.claim_room(input.len()));
                    self.shared.wait_for_room(1, input.len(), Admission::Channel, None);
                }
                Err(Refusal::Full) => {
                    self.shared.block_until(None, ComesAbout::Anywhere, |waker| {
                        check_or_watch(&self.lane, waker, || self.has_room() || self.shared.is_closed())
                    });
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// Whether the channel itself takes another job now.
    fn has_room(&self) -> bool {
        self.has_room_behind(0)
    }

    /// Whether it takes another job behind so many that are about to be sent.
    #[inline]
    pub(crate) fn has_room_behind(&self, jobs: usize) -> bool {
        let sent = self.lane.sent() + jobs as u64;
        if sent < self.room_until.load(Ordering::Relaxed) {
            return true;
        }
        let room = room(&self.lane, sent).min(LOOK_EVERY);
        self.room_until.store(sent + room, Ordering::Relaxed);
        room > 0
    }

    /// Whether jobs in hand had better be sent than wait for more.
    #[inline]
    pub(crate) fn are_due(&self, jobs: &RunBuffers) -> bool {
        self.shared.are_due(jobs)
    }

    /// Takes all of the jobs if there is room for them now, for each of which there was room in the channel.
    pub(crate) fn offer_all(&self, jobs: &mut RunBuffers) -> Result<(), Refusal> {
        self.check()?;
        self.shared.submit_jobs(&self.lane, jobs)
    }

    /// Whether a job would have a receiver, and the pool lets tasks in.
    fn check(&self) -> Result<(), Refusal> {
        // First: the results of a pool that is over are taken to their end, and their receiver is gone then as well.
        match self.shared.is_closed().then(|| self.shared.refusal()).flatten() {
            Some(refusal) => Err(refusal),
            None if !self.lane.is_wanted() => Err(Refusal::NoReceiver),
            None => Ok(()),
        }
    }

    /// Takes the input if there is room for it now.
    fn offer(&self, input: Input<'_>) -> Result<(), Refusal> {
        self.check()?;
        if !self.has_room() {
            return Err(Refusal::Full);
        }
        self.shared.submit_job(&self.lane, input)
    }

    /// Puts an outcome in place of a job that cannot be sent.
    pub(crate) fn refuse(&self, error: TaskError) {
        self.lane.fail(self.lane.next_index(1), error);
    }
}

impl<J: ?Sized> Drop for JobSender<J> {
    fn drop(&mut self) {
        self.flow.input_ended.store(true, Ordering::SeqCst);
        self.lane.moved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_one_value_does_not_come_among_others() {
        for bytes in [&b""[..], b"\x01\x02", b"\x92\x01", b"\xc1", b"\x81\x01\x02"] {
            let data = Data::from_peer(bytes.to_vec());
            assert!(one_value(&data).is_err(), "{bytes:?}");
        }
        let data = Data::from_peer(b"\x92\x01\x02".to_vec());
        assert_eq!(one_value(&data).unwrap(), data.as_bytes());
    }
}
