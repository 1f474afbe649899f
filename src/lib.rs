//! Keeps persistent worker processes fed, and gives exactly one outcome for everything sent to them, whatever happens to
//! them.

mod channel;
mod command;
mod core;
mod driver;
mod error;
mod map;
mod pool;
mod report;
mod sys;
mod task;

pub use channel::{AnsweredBy, Completed, Imap, JobSender, Order, Results};
pub use command::WorkerCommand;
pub use core::{Cause, Death, Event, Policy, TaskError, TaskErrorKind};
pub use error::{StartError, SubmitError, TrySubmitError};
pub use pool::{Permit, Pool, PoolBuilder, With};
pub use report::{Report, Rung, WorkerReport};
pub use stokehold_protocol::{BadData, Data, Request};
pub use task::{Task, TaskStatus, Unsent};
