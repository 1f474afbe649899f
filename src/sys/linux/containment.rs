//! How firmly a worker and all that it starts are held, as a choice. The levels themselves are in `subreaper`, `cgroup` and
//! `namespace`; whether this machine can do it is found in `trial`.

use std::fmt;

/// How firmly a worker is held, with everything that it starts, when it ends and when this process ends.
///
/// Every level ends the worker itself, at once, when this process dies of whatever cause, SIGKILL included. They differ
/// in what becomes of the processes that the worker has started and that try to leave it. A level that the machine
/// cannot give is an error, never a lower level.
///
/// | level | a grandchild | one that called `setsid` | a daemon (forked twice) | needs |
/// |---|---|---|---|---|
/// | `Group` | ends | stays | stays | nothing |
/// | `Subreaper` | ends | ends | ends, if it kept its environment | `/proc`, and `grep` after a SIGKILL of this process |
/// | `Cgroup` | ends | ends | ends | Linux 5.14, control groups version 2, the right to make one |
/// | `PidNamespace` | ends | ends | ends | `/proc`, and the right to make a PID namespace, or user namespaces for everybody |
///
/// What `Group`, `Subreaper` and `Cgroup` do about grandchildren after a SIGKILL of this process is done by a small shell
/// (`/bin/sh`) that outlives it for that. Without one, only `PidNamespace` holds grandchildren in that case.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Containment {
    /// A process group of its own for each worker. The default, because it works everywhere and costs nothing. A process
    /// that leaves the group (`setsid`, as daemons do) escapes.
    #[default]
    Group,
    /// As `Group`, and what left the group is found by a mark in its environment, `_STOKEHOLD_MARK`, when the worker
    /// ends: it is killed wherever it has moved.
    ///
    /// This process becomes a *child subreaper* (see `prctl(2)`), which is a property of the whole process and stays: the
    /// orphans of all its descendants become its children, also those that other parts of the program have started.
    /// Only those that belong to a worker are reaped here; no other child of the program is touched. Limits: a process
    /// that cleared its environment, or that this process may not look at (another user's), is found only while the one
    /// that started it lives. One that left its group and ended by itself before its worker stays as a zombie
    /// until this process ends. Each end of a worker costs a look at every child of this process (some 5 µs each).
    Subreaper,
    /// As `Group`, and each worker starts in a control group of its own, which nobody leaves without the right to:
    /// a program running as root can. The groups are made below the group of this process, as
    /// `stokehold-…`, and removed at the end; those of a process that died with its shell are removed by the next one.
    /// They limit nothing.
    Cgroup,
    /// Each worker is process 1 of a PID namespace of its own: when it ends, the kernel kills whatever it has started,
    /// with no way out. The firmest level.
    ///
    /// Without the right to make one (CAP_SYS_ADMIN), a user namespace is made with it, in which the worker has the same
    /// user and group, and no supplementary groups.
    ///
    /// Being process 1 has rules. Its `getpid()` is 1 and its `getppid()` 0, while `/proc` still shows the numbers
    /// of outside. A SIGTERM that it has no handler for is ignored, so that it is ended by SIGKILL when its grace is
    /// over. Orphans inside become its children, and stay as zombies as long as it lives unless it waits for them.
    PidNamespace,
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Group => "group",
            Self::Subreaper => "subreaper",
            Self::Cgroup => "cgroup",
            Self::PidNamespace => "pid namespace",
        })
    }
}

/// This machine, or what this process may do on it, does not allow a level of containment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("containment by {level} is not possible here: {reason}")]
pub(crate) struct ContainmentError {
    /// The level asked for.
    pub(crate) level: Containment,
    /// What is missing, and what could be done about it.
    pub(crate) reason: String,
}
