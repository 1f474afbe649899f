//! Linux (kernel 5.4 or later): the vocabulary, and one file for each word of it. No code of its own.
//!
//! - `support`: is this kernel new enough; who am I.
//! - `command`: what to start, what comes back, what can go wrong.
//! - `image`: finds the program and prepares all that `execve` wants, while allocating is still allowed.
//! - `launch`: the vfork-style clone and the code between it and `execve`.
//! - `spawner`: the one thread that launches.
//! - `guardian`: the one shell that outlives a killed parent just long enough to kill what is left.
//! - `process`: a started process, by its pidfd.
//! - `signals`: masks, SIGPIPE, group signals.
//! - `poll`, `pipe`: readiness and bytes.
//!
//! `unsafe` is in `launch`, `guardian`, `signals` and `poll` only, each for calls that rustix has no safe form of.

mod command;
mod guardian;
mod image;
mod launch;
mod pipe;
mod poll;
mod process;
mod signals;
mod spawner;
mod support;
#[cfg(test)]
mod tests;

pub(crate) use command::{ChildIo, SpawnCommand, SpawnError, Spawned};
pub(crate) use pipe::{read, unread, write};
pub(crate) use poll::{Interest, Poll, Ready, Waker};
pub(crate) use process::{Process, Signal};
pub(crate) use spawner::Spawner;
pub(crate) use support::{SELF_EXE, check_support, current_pid};
