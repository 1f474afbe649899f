//! Linux (kernel 5.4 or later): the vocabulary, and one file for each word of it. No code of its own.
//!
//! - `support`: is this kernel new enough; who am I.
//! - `command`: what to start, what comes back, what can go wrong.
//! - `image`: finds the program and prepares all that `execve` wants, while allocating is still allowed.
//! - `launch`: the vfork-style clone and the code between it and `execve`.
//! - `launcher`: puts one start together.
//! - `spawner`: the one thread that launches.
//! - `guardian`: the one shell that outlives a killed parent just long enough to kill what is left; `watch`: what it knows.
//! - `process`: a started process, by its pidfd; `wait`: reaping it.
//! - `containment`: how firmly workers are held: `enclosure` around one child, and the levels `subreaper`, `cgroup` and
//!   `namespace`.
//! - `memory`, `oom`: what a worker has in memory, and whether it died of it.
//! - `lineage`, `hierarchy`: reading the tree of processes, and finding control groups.
//! - `signals`: masks, SIGPIPE, group signals.
//! - `poll`, `pipe`: readiness and bytes.
//!
//! `unsafe` is in `enclosure`, `guardian`, `launch`, `namespace`, `poll`, `signals` and `wait` only, each for calls that
//! rustix has no safe form of.

mod cgroup;
mod command;
mod containment;
mod enclosure;
mod guardian;
mod hierarchy;
mod image;
mod launch;
mod launcher;
mod lineage;
mod memory;
mod namespace;
mod oom;
mod pipe;
mod poll;
mod process;
mod signals;
mod spawner;
mod subreaper;
mod support;
#[cfg(test)]
mod tests;
mod wait;
mod watch;

pub(crate) use command::{ChildIo, SpawnCommand, SpawnError, Spawned};
pub use containment::Containment;
pub(crate) use containment::check_containment;
pub(crate) use memory::Memory;
pub(crate) use pipe::{read, unread, write};
pub(crate) use poll::{Interest, Poll, Ready, Waker};
pub(crate) use process::Ended;
pub(crate) use process::{Process, Signal};
pub(crate) use spawner::Spawner;
pub(crate) use support::{SELF_EXE, check_support, current_pid};
