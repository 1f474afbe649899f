//! What can be asked of the spawner, what it gives back, and how a failed start reads. Starts nothing itself.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::containment::Containment;
use super::process::Process;

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

/// A started program, and our ends of its three pipes: close-on-exec and non-blocking. The child's ends
/// stay blocking, as programs expect.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The process; dropping it kills it.
    pub(crate) process: Process,
    /// What we write here, the child reads. Dropping it is the child's end of input.
    pub(crate) to_child: OwnedFd,
    /// What the child writes as protocol, we read here.
    pub(crate) from_child: OwnedFd,
    /// What the child writes for people, we read here. Must be drained, or the child stops when it is full.
    pub(crate) stderr: OwnedFd,
}

/// A program could not be started. Nothing of the attempt is left: no process, no descriptor.
#[derive(Debug)]
pub(crate) struct SpawnError {
    /// The step that failed.
    pub(crate) stage: SpawnStage,
    /// The program as it was asked for.
    pub(crate) program: OsString,
    /// The directory it was to start in, if one was asked for.
    pub(crate) cwd: Option<PathBuf>,
    /// The `PATH` that was searched; `None` when the program was given with a slash.
    pub(crate) searched: Option<OsString>,
    /// The reason.
    pub(crate) error: io::Error,
}

/// The steps of a start, each of which can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpawnStage {
    /// The program, an argument, the environment or the directory cannot be passed to a program (a NUL byte, say).
    Argument,
    /// The working directory could not be entered.
    ChangeDirectory,
    /// The system would not make another process.
    Clone,
    /// It could not be contained as asked, on this machine or this time.
    Containment,
    /// The descriptors could not be put in their places.
    Descriptors,
    /// The program was found and would not execute.
    Execute,
    /// The program was not found, or only files that may not be executed were.
    FindProgram,
    /// The process group could not be made.
    Group,
    /// The program is there; the interpreter in its `#!` line, or its dynamic loader, is not.
    Interpreter,
    /// The null device could not be opened.
    NullDevice,
    /// The parent died while it was starting the child, or the child could not be tied to the parent's life.
    ParentDeath,
    /// A pipe could not be made.
    Pipe,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {:?} ", self.program)?;
        let error = &self.error;
        match self.stage {
            SpawnStage::FindProgram | SpawnStage::Execute => self.fmt_not_run(f),
            SpawnStage::Interpreter => f.write_str(
                "exists, but the interpreter it asks for (its #! line, or its dynamic loader) does not: \
                 correct the #! line or install the interpreter",
            ),
            SpawnStage::ChangeDirectory => {
                let cwd = self.cwd.as_deref().unwrap_or_else(|| ".".as_ref());
                write!(f, "not started: working directory {cwd:?} cannot be entered: {error}")
            }
            SpawnStage::Argument => write!(f, "not started: {error}"),
            SpawnStage::Clone => write!(f, "not started: no new process: {error}"),
            SpawnStage::Containment => write!(f, "not started: it could not be contained: {error}"),
            SpawnStage::Descriptors => write!(f, "not started: its descriptors could not be set: {error}"),
            SpawnStage::Group => write!(f, "not started: no process group of its own: {error}"),
            SpawnStage::NullDevice => write!(f, "not started: /dev/null cannot be opened: {error}"),
            SpawnStage::ParentDeath => write!(f, "not started: its parent is going away: {error}"),
            SpawnStage::Pipe => write!(f, "not started: no pipe to it: {error}"),
        }
    }
}

impl SpawnError {
    /// The reasons that have to do with the file itself, each with what to do about it.
    fn fmt_not_run(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.error.raw_os_error() == Some(libc::ENOEXEC) {
            return f.write_str("not started: exec format error: no #! line or wrong architecture");
        }
        match (self.error.kind(), &self.searched) {
            (ErrorKind::NotFound, Some(path)) => {
                write!(f, "not found: searched PATH {path:?}; give a path with a slash, or correct PATH")
            }
            (ErrorKind::NotFound, None) => {
                f.write_str("not found: the path was used as given, PATH was not searched")
            }
            (ErrorKind::PermissionDenied, Some(path)) => write!(
                f,
                "not executable: found in PATH {path:?} only as a file that may not be executed: {}; chmod +x it",
                self.error
            ),
            (ErrorKind::PermissionDenied, None) => {
                write!(f, "not executable: {}; chmod +x it, unless it is a directory", self.error)
            }
            _ => write!(f, "not started: {}", self.error),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
