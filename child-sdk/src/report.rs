//! Lines for people on stderr. Nothing here may fail loudly: stderr can be closed or full.

use std::fmt::Display;
use std::io::Write;

/// Writes one line, in one write so that lines of several processes do not mix.
pub(crate) fn line(message: impl Display) {
    let text = format!("stokehold worker {}: {message}\n", std::process::id());
    // A line that cannot be written has nowhere else to go.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
