//! The forms of a report, and where it goes: stdout.

pub(crate) mod human;
mod json;
mod junit;
mod markdown;
mod tap;

use std::io::{Write, stdout};

use clap::ValueEnum;

use super::case::Score;
use crate::console;

/// How a report looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Form {
    /// For people, as it goes
    Human,
    /// One JSON object
    Json,
    /// XML as JUnit writes it, for build servers
    Junit,
    /// The Test Anything Protocol
    Tap,
    /// A table in Markdown
    Md,
}

/// The whole report.
pub(crate) fn render(form: Form, score: &Score) -> String {
    match form {
        Form::Human => human::whole(score),
        Form::Json => json::render(score),
        Form::Junit => junit::render(score),
        Form::Tap => tap::render(score),
        Form::Md => markdown::render(score),
    }
}

/// Writes to stdout; false, and a line on stderr, if that cannot be done.
pub(crate) fn print(text: &str) -> bool {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            console::line(format_args!("error: cannot write stdout: {error}"));
            false
        }
    }
}
