//! The exit codes of the command, in one place.

use std::process::ExitCode;

use rustix::process::Signal;

/// How a run ended, for whoever called it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Everything went well; also when the reader of the output had enough of it.
    Success,
    /// Some records failed, or input or output did.
    SomeFailed,
    /// The command line is wrong, or names a file that cannot be opened.
    Usage,
    /// The workers could not be started, or not kept alive.
    NoWorkers,
    /// The workers broke the protocol so often that they were given up.
    Protocol,
    /// A child that was played ends so.
    Played(u8),
    /// A signal asked for the end.
    Signal(Signal),
}

impl Exit {
    /// The number: for signals 128 and theirs, as shells have it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::SomeFailed => 1,
            Self::Usage => 2,
            Self::NoWorkers => 3,
            Self::Protocol => 4,
            Self::Played(code) => code,
            Self::Signal(signal) => u8::try_from(signal.as_raw()).unwrap_or(0).saturating_add(128),
        }
    }

    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}
