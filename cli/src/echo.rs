//! `stokehold echo-worker`: a worker that gives everything back as it came.

use std::process::ExitCode;

use stokehold_child::Data;

/// Serves until the parent ends it.
pub(crate) fn serve() -> ExitCode {
    stokehold_child::serve_raw(|input, _| Data::from_encoded(input.to_vec()))
}
