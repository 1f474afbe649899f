//! What comes of a case, and how a case says in its middle that it is over.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What a case found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Pass,
    /// A MUST was broken.
    Fail,
    /// The same, and the file of known failures has it.
    Known,
    /// A SHOULD was not kept.
    Warn,
    /// Something to know, neither right nor wrong.
    Info,
    /// The child cannot do what the case is about, and need not.
    Skip,
    /// The kit itself, or the machine, failed: nothing is known about the child.
    Harness,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Known => "KNOWN",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Skip => "SKIP",
            Self::Harness => "HARNESS",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One rule that the child did not keep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// The statement of the specification.
    pub(crate) statement: Cow<'static, str>,
    /// What was seen.
    pub(crate) what: String,
    /// What to change in the child.
    pub(crate) hint: String,
}

/// Why a case goes no further.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    Fail(Finding),
    Skip(String),
    Harness(String),
}

/// What every step of a case gives.
pub(crate) type Checked<T = ()> = Result<T, Stop>;

impl Stop {
    pub(crate) fn fail(
        statement: impl Into<Cow<'static, str>>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Fail(Finding { statement: statement.into(), what: what.into(), hint: hint.into() })
    }

    pub(crate) fn skip(why: impl Into<String>) -> Self {
        Self::Skip(why.into())
    }

    /// A system call of the kit failed.
    pub(crate) fn system(what: &str, error: impl Into<io::Error>) -> Self {
        let error: io::Error = error.into();
        Self::Harness(format!("{what}: {error}"))
    }
}

/// Fails with the statement unless `holds`.
pub(crate) fn must(
    holds: bool,
    statement: &'static str,
    what: impl FnOnce() -> String,
    hint: &str,
) -> Checked {
    if holds { Ok(()) } else { Err(Stop::fail(statement, what(), hint)) }
}
