//! Keeps persistent worker processes fed, and gives exactly one outcome for everything sent to them, whatever happens to
//! them.
//!
//! A [`Pool`] starts worker processes from a [`WorkerCommand`] and streams tasks to them over a small framed protocol. Workers
//! are written with the `stokehold-child` crate, or in any language from the protocol's `SPEC.md`.
//!
//! # Hello
//!
//! ```no_run
//! use std::collections::BTreeMap;
//!
//! use stokehold::{Pool, Request, WorkerCommand};
//!
//! // `examples/python_worker/worker.py` of the repository counts how often each word is there.
//! const WORD_COUNT: Request<str, BTreeMap<String, u64>> = Request::new("word_count");
//!
//! let pool = Pool::builder(WorkerCommand::new("python3").arg("worker.py")).workers(4).start()?;
//! let words = pool.submit(WORD_COUNT, "stokers keep the fire hot")?.wait()?;
//! assert_eq!(words["fire"], 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Ways to feed it
//!
//! | for | use |
//! |---|---|
//! | one task with a handle | [`Pool::submit`] and [`Task::wait`], or `.await` |
//! | one task with many results | [`Pool::submit_stream`] and [`ResultStream`] |
//! | many tasks from one thread | [`Pool::map`], [`Pool::imap`] and their unordered forms |
//! | jobs on one thread, results on another | [`Pool::channel`] |
//! | async code that must not block in a submit | [`Pool::reserve`] |
//! | payloads that are encoded already | [`Pool::submit_data`], [`Pool::channel_data`] |
//!
//! Inputs and results are serde values, encoded once on the caller's thread. Everything is bounded: the queue in tasks and
//! bytes, what a channel holds, what results may wait. At a bound the input waits, or a `try_` form says so.
//!
//! # When a worker dies
//!
//! It is replaced. The task it was doing runs again, at most as often as its [`Policy`] says (3 attempts by default); the
//! other tasks it held go back unharmed. An answer that it wrote completely before it died counts. So a task may run more
//! than once, unless its policy is [`Policy::once`]; exactly-once is not offered by anybody, and not here.
//!
//! Every accepted task ends with its answer or with one [`TaskError`] that names task, attempt, worker, process, exit status
//! or signal, and the last lines of the worker's stderr. A worker that fails a task without dying (an error, a panic) is
//! [`TaskErrorKind::Failed`] and lives on.
//!
//! When workers cannot be kept alive (they exit before they are ready three times in a row, or die more than five times in
//! ten seconds without having been given anything to do, or more than twenty tasks in a row kill their workers), the pool breaks: every pending task is answered, and later calls say why.
//!
//! # Streams
//!
//! A worker may send results while it works (items); [`Pool::submit_stream`] gives them one by one, with the attempt that each
//! came from, and the answer last. What nobody takes yet is bounded, and holds up that worker only. If the worker dies after the
//! first result, the task ends as [`Dead`](TaskErrorKind::Dead), because whoever took it would see it twice, unless its policy
//! says otherwise ([`Policy::restart_stream`]). Dropping the stream cancels the task.
//!
//! # Deadlines
//!
//! A [`Policy`] limits an attempt ([`timeout`](Policy::timeout)), all attempts together
//! ([`total_timeout`](Policy::total_timeout)), and the time without a sign of progress ([`soft_timeout`](Policy::soft_timeout)).
//! The pool enforces them from outside: the worker is asked to stop the task, then gets SIGTERM, then SIGKILL
//! ([`PoolBuilder::stop_graces`]), and the next attempt begins when its process is gone, so that two attempts never overlap. A
//! worker that stops in time lives on. Time in which this process itself was stopped does not count.
//!
//! # Cancelling
//!
//! [`Task::cancel`] and [`ResultStream::cancel`], or a [`Canceller`] on another thread, stop a task that waits at once, and one
//! that runs by the same steps. The outcome is [`Cancelled`](TaskErrorKind::Cancelled), or the answer if that came first. The
//! tasks beside it and after it are not hurt.
//!
//! # Dead letters
//!
//! With [`PoolBuilder::dead_letters`] tasks that could not be done are kept with their inputs and the end of every attempt, for
//! [`Pool::dead_letters`] to take and [`Pool::resubmit`] to try again. None is dropped: while they fill their bound, no task is
//! let in.
//!
//! # Supervision
//!
//! A worker that dies is replaced, at once at first and then after growing pauses. One that did nothing wrong can be replaced too,
//! before it grows too large or too old ([`PoolBuilder::recycle`]). The number of workers can follow the work
//! ([`PoolBuilder::workers_max`]) or be set ([`Pool::resize`], [`Pool::resize_between`]). One that exits with code 125 says
//! that no other try will help, and is not started again. [`Pool::events`] tells what happens, on a bounded channel; [`tracing`](https://docs.rs/tracing) gets the
//! same, a span for each worker's life (target `stokehold`) with its log messages and the lines of its stderr in it
//! (`stokehold::worker`). No receiver of events can hold up a pool. A subscriber of `tracing` is called by threads that wait in
//! the pool, with nothing held: one that panics breaks nothing; one that blocks holds up the thread that it blocks.
//!
//! # Ending
//!
//! [`Pool::close`] lets nothing in any more. [`Pool::shutdown`] finishes what was accepted, asks the workers to end, and uses
//! force after a deadline; [`Pool::kill`] and dropping the pool use force at once. Afterwards no child, no zombie and no descriptor of it is left. If this process itself
//! is killed, its workers die with it, whatever they are, and so does what they have started, where there is a `/bin/sh`. What a
//! worker started and that left its process group is held by a firmer level of [`Containment`]. A forked copy of this process
//! has no use of a pool: dropping it there does nothing, anything else would take answers away from the original.
//!
//! # Threads and blocking
//!
//! A pool has one background thread; a process has one more that starts workers for all pools. A thread that blocks in
//! [`Task::wait`] or another blocking method moves the pool's bytes itself, so that an answer costs no hop between threads.
//! `submit`, `reserve` and `wait` have timed and trying forms; tasks, permits and channels can be awaited on any runtime or none.
//! Wakers and what they run are called with nothing held: they may use the pool, and drop it.
//!
//! # Tuning
//!
//! Defaults are meant to be the fast ones. How many tasks a worker holds adapts to how fast it answers
//! ([`PoolBuilder::window`] fixes it): one while tasks take a millisecond or more. Tiny tasks of a channel, of `map` and of `imap`
//! travel many to a frame, as many as take 250 µs, each with an outcome of its own; there is no chunk size to be found. Those of
//! [`Pool::submit`] travel one by one: it is the way for tasks that are worth a handle. What a policy says of each task (a time
//! limit, at most once, a key) keeps it in a frame of its own, at about three times the cost.
//!
//! Where one thread submits and waits, both ends look for what comes before they sleep, which costs processor time and saves most
//! of the way there and back ([`Latency`]).
//!
//! Large payloads move at the speed of the pipe where nobody encodes or copies them: a [`Data`] of 16 KiB or more
//! ([`Pool::submit_data`]) is shared and never copied in this process, and `Worker::on_raw` with `Ctx::keep` does the same in a
//! worker. Typed values are encoded and decoded with serde, which takes several times as long as the pipe. Bytes should be
//! `serde_bytes::ByteBuf` or `Bytes`: a plain `Vec<u8>` is a list of numbers to serde, up to twice as large and far slower.
//!
//! ```no_run
//! use stokehold::{Latency, Pool, WorkerCommand};
//!
//! // On a machine that is full anyhow, whose workers answer with up to 64 MiB, and a few bytes of head; for tasks as large as
//! // that, the worker says `Worker::max_frame`.
//! let command = WorkerCommand::sibling("worker");
//! let pool = Pool::builder(command).latency(Latency::Block).max_frame(65 << 20).start()?;
//! # Ok::<(), stokehold::StartError>(())
//! ```
//!
//! See [`PoolBuilder`] for the bounds and timeouts, each with its reason.
//!
//! # Platform
//!
//! Linux with kernel 5.4 or newer. Nothing else has been built or run yet.

mod builder;
mod channel;
mod command;
mod core;
mod dead_letters;
mod deadline;
mod driver;
mod error;
mod map;
mod pool;
mod report;
mod results;
mod stream;
mod sys;
mod task;

pub use builder::{Latency, PoolBuilder};
pub use channel::{JobSender, Order};
pub use command::WorkerCommand;
pub use core::{
    Attempt, AttemptEnd, Cause, CpuTime, DeadLetter, Death, Event, Limit, Policy, Recycle, Retirement,
    RetryFailures, TaskError, TaskErrorKind, WorkerState,
};
/// What [`Pool::events`] and [`Pool::dead_letters`] give: crossbeam-channel's receiver, to be used with its `select!`.
pub use crossbeam_channel::Receiver;
pub use error::{StartError, SubmitError, TrySubmitError};
pub use map::Imap;
pub use pool::{Permit, Pool, With};
pub use report::{Report, Rung, WorkerReport};
pub use results::{AnsweredBy, Completed, Results};
/// The wire protocol: what errors and requests are made of.
pub use stokehold_protocol as protocol;
pub use stokehold_protocol::{BadData, Data, Request};
pub use stream::{NothingYet, ResultStream, Streamed};
pub use sys::Containment;
pub use task::{Canceller, Task, TaskStatus, Unsent};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
