//! What can be asked of the spawner. Starts nothing itself.

use std::ffi::OsString;
use std::path::PathBuf;

use super::containment::Containment;

/// A program to start. Nothing is inherited beyond what is written here and the usual process attributes
/// (user, limits, umask, root, and the working directory when `cwd` is `None`).
#[derive(Debug)]
pub(crate) struct SpawnCommand {
    /// With a slash: the file, as given; a relative one is resolved *after* the change to `cwd`, so it is
    /// relative to `cwd`. Without: searched in `PATH` of `env`, or of the parent when `env` has none.
    pub(crate) program: OsString,
    /// What the child sees as its own name. `None`: `program` as given.
    pub(crate) arg0: Option<OsString>,
    /// The arguments after the name.
    pub(crate) args: Vec<OsString>,
    /// The complete environment of the child. A name must not be empty or contain `=`.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where the child starts. `None`: where the parent is at that moment.
    pub(crate) cwd: Option<PathBuf>,
    /// Which descriptors carry the protocol.
    pub(crate) io: ChildIo,
    /// How firmly it and what it starts are held. Never a lower level than this one.
    pub(crate) containment: Containment,
}

/// The child's descriptors. It has these and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildIo {
    /// The child reads the protocol at 3 and writes it at 4. 0 is `/dev/null`, 1 and 2 are both captured.
    Fds,
    /// The child reads the protocol at 0 and writes it at 1. 2 is captured.
    Stdio,
}
