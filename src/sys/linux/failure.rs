//! How a start fails, and how that reads. Tries nothing again.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::command::SpawnCommand;

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
    pub(super) fn new(command: &SpawnCommand, stage: SpawnStage, error: io::Error) -> Self {
        let (program, cwd) = (command.program.clone(), command.cwd.clone());
        Self { stage, program, cwd, searched: None, error }
    }

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
