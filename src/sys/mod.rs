//! The platform contract: what an operating system must provide, and the one file set that provides it here.
//!
//! Nothing outside this directory makes a system call or contains `unsafe`. Nothing in here decides
//! anything about tasks, workers or retries, and nothing in here knows the protocol. Everything is
//! `pub(crate)`. A port to another platform is one more directory beside `linux` with the same names.
//!
//! # What a platform must provide
//!
//! **Starting** ([`Spawner`], [`SpawnCommand`], [`ChildIo`])
//!
//! - Never a plain fork: its cost grows with the parent's memory (60 ms at 1 GiB). Starting a child must cost the same
//!   from a parent of any size.
//! - The caller never waits. The result comes by callback, so that a slow disk under the program cannot stop the engine.
//! - The child has the declared descriptors and no other, so that an end-of-file is seen by the child it is meant for.
//! - The child starts with default signal dispositions and an empty mask, whatever the host did with its own, so that
//!   it can be stopped by the ordinary signals and ends when a pipe breaks.
//! - Every failure names the program, the step and the reason, and leaves neither a process nor a descriptor behind.
//!
//! **Containing**
//!
//! - Each child leads a process group of its own, so that what it started can be ended with it, and so that Ctrl-C at a
//!   terminal reaches the parent only, which then ends its children in order.
//! - When the parent dies, by SIGKILL too, each direct child dies at once, also one that never heard of us; what they
//!   started themselves dies with them where the platform has a way (here the guardian, which is replaced when it was killed).
//! - What left its group (`setsid`, a daemon) is reached by the firmer levels of [`Containment`], each of which holds in three
//!   cases: the worker ends, it is killed, this process is killed. A level is given as asked, or it is an error
//!   ([`check_containment`], and the spawn itself): never silently less.
//! - No child of the host is ever killed or reaped. What a level makes in the system (marks, groups, directories) is
//!   named so that it cannot be mistaken for somebody else's, and is gone after the end, at the latest when the next
//!   process of ours comes by.
//! - The default level costs nothing at a start.
//!
//! **Identity and ending** ([`Process`], [`Signal`])
//!
//! - A process is held by a handle that no reuse of its number can redirect. Signals go through the handle.
//! - Its end can be waited for together with pipes, can be asked for without being consumed, and is consumed only by
//!   [`Process::reap`]. The order is: see the end, drain the pipes, kill the rest of the group, forget the group, reap.
//!   The number is free for others after the reap only, so nothing that names the group may outlive it.
//! - It works beside a host that reaps or ignores children itself; the exit status is then unknown, and nothing else is lost.
//! - A handle that is dropped ends its process. No zombie and no descriptor is left.
//!
//! **Using** ([`Memory`], [`Ended`])
//!
//! - The memory of a living process can be asked for at any time, and is its own, not what it inherited from the parent.
//! - Its computing time comes with its end.
//! - Whether it was killed for want of memory: yes, no, or not known. Never a guess that is called knowledge.
//!
//! **Waiting** ([`Poll`], [`Waker`])
//!
//! - Level-triggered readiness of pipes and process handles in one wait, with a timeout finer than a millisecond
//!   where the system has one; one system call a wait; nothing is called while nothing happens.
//! - Any thread can end a wait from outside at the price of one write.
//! - One alarm ends a wait at a set time, so that what is due later need not be told to every wait before.
//!
//! **Moving bytes** ([`read()`], [`write()`])
//!
//! - Never blocks, never ends in `Interrupted`, and never raises SIGPIPE in a host that did not ignore it.
//! - A pipe can be made wider ([`Widened`]) for large payloads; where it cannot, all works as before.
//! - How much of what was written nobody has read can be asked, also after the reader's end ([`unread`]); where it cannot, 0.

mod linux;

pub use linux::Containment;
pub(crate) use linux::{
    ChildIo, Ended, Interest, Memory, PROTOCOL_PIPE_BYTES, Poll, Process, Ready, SELF_EXE, Signal,
    SpawnCommand, SpawnError, Spawned, Spawner, Waker, Widened, check_containment, check_support,
    current_pid, read, read_more, unread, write,
};
