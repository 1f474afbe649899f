//! What a handler can say besides its answer: the importance of a line for the log, and why an item could not be sent.

use std::error::Error;
use std::fmt;
use std::io;

use stokehold_protocol::{ApiMisuse, BadData};

/// How important a line for the log is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// What people may want to know.
    Info,
    /// Something is wrong, and the task goes on.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The name on the wire: `trace`, `debug`, `info`, `warn` or `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an item was not sent. The task goes on if the handler wants it to; a handler that returns this error fails its task
/// with the code `bad_data` or `too_large`.
#[derive(Debug)]
pub struct ItemError(Why);

#[derive(Debug)]
enum Why {
    BadData(BadData),
    TooLarge(ApiMisuse),
    Broken(io::Error),
}

impl ItemError {
    pub(crate) fn bad_data(error: BadData) -> Self {
        Self(Why::BadData(error))
    }

    /// The only thing for which an item's frame is refused.
    pub(crate) fn too_large(misuse: ApiMisuse) -> Self {
        Self(Why::TooLarge(misuse))
    }

    pub(crate) fn broken(error: io::Error) -> Self {
        Self(Why::Broken(error))
    }

    /// Whether the value cannot be sent to anybody: it does not serialize, or breaks the data model.
    pub fn is_bad_data(&self) -> bool {
        matches!(self.0, Why::BadData(_))
    }

    /// Whether the item is larger than the parent takes. Smaller ones can still be sent.
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, Why::TooLarge(_))
    }

    /// Whether nothing can be written to the parent any more. The worker ends when the handler returns, if not before.
    pub fn is_broken(&self) -> bool {
        matches!(self.0, Why::Broken(_))
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::BadData(error) => write!(f, "the item was not sent: {error}"),
            Why::TooLarge(misuse) => write!(f, "the item was not sent, send smaller ones: {misuse}"),
            Why::Broken(error) => {
                write!(f, "the item was not sent, nothing can be written to the parent: {error}")
            }
        }
    }
}

// No `source`: its words are part of the message already, and would come twice in a chain.
impl Error for ItemError {}
