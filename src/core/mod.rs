//! DECIDES: the life of workers, who does which task, what a death means, when to try again, when to give up.
//!
//! No I/O, no clock, no threads: facts go in through `handle_*` with the time as an argument, decisions come out as
//! [`Action`]s, bytes for a worker as its [`Outbox`]. The whole delivery contract is here and nowhere else, so that it can be
//! run without a process.

mod action;
mod death;
mod outbox;
mod outcome;
mod policy;
mod restart;
mod slot;
mod store;
mod supervisor;
mod window;

pub use action::Event;
pub(crate) use action::{Action, Ticket};
pub use death::{Cause, Death};
pub(crate) use outbox::Outbox;
pub(crate) use outcome::{Answered, Outcome};
pub use outcome::{TaskError, TaskErrorKind};
pub use policy::Policy;
pub use slot::Rung;
pub(crate) use store::{NewTask, TaskKey};
pub(crate) use supervisor::{Supervisor, SupervisorConfig};

#[cfg(test)]
mod tests;
