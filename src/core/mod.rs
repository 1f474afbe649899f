//! DECIDES: the life of workers, who does which task, what a death means, when to try again, when to give up.
//!
//! No I/O, no clock, no threads: facts go in through `handle_*` with the time as an argument, decisions come out as
//! [`Action`]s, bytes for a worker as its [`Outbox`]. The whole delivery contract is here and nowhere else, so that it can be
//! run without a process.

mod action;
mod addresses;
mod body;
mod death;
#[cfg(test)]
mod flaw;
mod outbox;
mod outcome;
mod policy;
mod recycle;
mod restart;
mod slot;
mod source;
mod spare;
mod store;
mod supervisor;
mod timers;
mod window;

pub(crate) use action::{Action, Answer, Answers, ItemFate, Ticket, Value};
pub use action::{DeadLetter, Event, Retirement};
pub(crate) use body::Body;
pub(crate) use death::Remains;
pub use death::{Cause, CpuTime, Death, Limit, WorkerState};
#[cfg(test)]
pub(crate) use flaw::Flaw;
pub(crate) use outbox::Outbox;
pub(crate) use outcome::{Answered, Details, Origin, Outcome};
pub use outcome::{Attempt, AttemptEnd, TaskError, TaskErrorKind};
pub use policy::{Policy, RetryFailures};
pub use recycle::Recycle;
pub use slot::Rung;
pub(crate) use source::Source;
pub(crate) use spare::{Buffer, Spare};
pub(crate) use store::{NewTask, Run, RunBuffers, TaskKey};
pub(crate) use supervisor::{Released, Supervisor, SupervisorConfig};

// Beside the core and not in it, as what it tests; below it in the tree of modules, because it looks inside.
#[cfg(test)]
#[path = "../sim/mod.rs"]
pub(crate) mod sim;
