//! Linux (kernel 5.4 or later): the vocabulary, and one file for each word of it. No code of its own.
//!
//! - `support`: is this kernel new enough; who am I.
//! - `command`: what to start; `failure`: what can go wrong.
//! - `image`: finds the program and prepares all that `execve` wants, while allocating is still allowed.
//! - `launch`: the vfork-style clone and the code between it and `execve`.
//! - `launcher`: puts one start together.
//! - `spawner`: the one thread that launches.
//! - `guardian`: the one shell that outlives a killed parent just long enough to kill what is left; `watch`: what it knows.
//! - `process`: what comes back, a started process; `leader`: any child of ours, by its pidfd; `wait`: reaping it.
//! - `containment`: how firmly workers are held: `enclosure` around one child, the levels `subreaper`, `cgroup` and
//!   `namespace`, `hold` on what they made; `trial`: whether this machine can do it.
//! - `memory`, `oom`: what a worker has in memory, and whether it died of it.
//! - `lineage`, `hierarchy`: reading the tree of processes, and finding control groups.
//! - `signals`: masks, SIGPIPE, group signals.
//! - `poll`, `pipe`: readiness and bytes.
//!
//! `unsafe` is in `enclosure`, `guardian`, `launch`, `namespace`, `pipe`, `poll`, `signals` and `wait` only, each for calls that
//! rustix has no safe form of.

mod cgroup;
mod command;
mod containment;
mod enclosure;
mod failure;
mod guardian;
mod hierarchy;
mod hold;
mod image;
mod launch;
mod launcher;
mod leader;
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
mod trial;
mod wait;
mod watch;

pub(crate) use command::{ChildIo, SpawnCommand};
pub use containment::Containment;
pub(crate) use failure::SpawnError;
pub(crate) use memory::Memory;
pub(crate) use pipe::{PROTOCOL_PIPE_BYTES, Widened, read, read_more, unread, write};
pub(crate) use poll::{Interest, Poll, Ready, Waker};
pub(crate) use process::{Ended, Process, Signal, Spawned};
pub(crate) use spawner::Spawner;
pub(crate) use support::{SELF_EXE, check_support, current_pid};
pub(crate) use trial::check_containment;
