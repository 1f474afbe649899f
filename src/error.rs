//! The errors at the edge, one type for each operation. What becomes of an accepted task is [`TaskError`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use stokehold_protocol::{ApiMisuse, BadData};
use thiserror::Error;

use crate::driver::Refusal;
use crate::task::Unsent;
use crate::{Containment, Death};

/// A pool could not be started.
///
/// Its `Debug` is its text in brackets: that is what a `main` that returns an error prints.
#[derive(Error)]
#[non_exhaustive]
pub enum StartError {
    /// This machine, or what this process may do on it, does not allow the level of containment that was asked for
    /// ([`PoolBuilder::containment`](crate::PoolBuilder::containment)).
    #[error("workers cannot be held by {level} here: {reason}")]
    Containment {
        /// The level.
        level: Containment,
        /// What is missing, and what could be done about it.
        reason: String,
    },
    /// This system lacks something that a pool needs.
    #[error("this system cannot run worker processes safely: {0}")]
    Unsupported(String),
    /// The system refused threads or descriptors.
    #[error("the system has no resources for a pool: {0}")]
    System(#[from] io::Error),
    /// No worker was ready in time, and none had failed for good.
    #[error("no worker was ready within {limit:?}{}", after(last.as_deref()))]
    Timeout {
        /// The time there was.
        limit: Duration,
        /// How the last worker ended meanwhile, if one did: for instance that there was no process to be had.
        last: Option<Arc<Death>>,
    },
    /// The workers cannot be started: how the last one ended.
    #[error("{0}")]
    Worker(Arc<Death>),
}

/// A task was not accepted. Its `Debug` is its text in brackets.
#[derive(Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool broke: its workers cannot be kept alive.
    #[error("the pool is broken, because {0}")]
    Broken(Arc<Death>),
    /// The pool is being shut down.
    #[error("the pool is being shut down")]
    Closed,
    /// Dead letters that nobody took fill their bound: take some from [`Pool::dead_letters`](crate::Pool::dead_letters), or raise
    /// the bound. A task that is let in might become one more, and none is ever dropped.
    #[error(
        "dead letters that nobody has taken fill their bound; take some first, or raise the pool's dead_letters"
    )]
    DeadLettersFull,
    /// The input cannot be written as data.
    #[error("the input was not sent: {0}")]
    Encode(#[from] BadData),
    /// The name cannot be a user's request.
    #[error(transparent)]
    Name(#[from] ApiMisuse),
    /// The results' end of the channel was dropped, so that nobody is there to receive.
    #[error("the channel's results were dropped, so that nobody is there to receive")]
    NoReceiver,
    /// Results that nobody took fill their bound: take some, or raise `parked_bytes`.
    #[error(
        "results that nobody has taken fill their bound; take some first, or raise the pool's parked_bytes"
    )]
    ResultsFull,
    /// The queue stayed full until the time was over.
    #[error("the queue stayed full for {0:?}")]
    Timeout(Duration),
}

/// A task was not accepted without waiting.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrySubmitError<R> {
    /// The queue is full. The encoded input is kept for another try.
    #[error("the queue is full")]
    Full(Unsent<R>),
    /// Another reason, which waiting would not have changed.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<Refusal> for SubmitError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Broken(death) => Self::Broken(death),
            Refusal::Closed => Self::Closed,
            Refusal::DeadLettersFull => Self::DeadLettersFull,
            Refusal::NoReceiver => Self::NoReceiver,
            Refusal::Full | Refusal::ResultsFull => Self::ResultsFull,
        }
    }
}

/// What to add about a death.
fn after(last: Option<&Death>) -> String {
    last.map_or_else(String::new, |death| format!("; the last try: {death}"))
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StartError({self})")
    }
}

impl fmt::Debug for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubmitError({self})")
    }
}
