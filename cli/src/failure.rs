//! The `error` of a result record: a JSON object with everything that is known about a failure.

use std::fmt::Display;
use std::io::Write;

use stokehold::{TaskError, TaskErrorKind};

use crate::value;

/// The JSON object of an error, its last brace not yet written.
#[derive(Debug)]
pub(crate) struct ErrorObject(Vec<u8>);

impl ErrorObject {
    /// The error of a task.
    pub(crate) fn of(error: &TaskError) -> Self {
        let mut object = Self::new(error.code(), &message_of(error));
        if let Some(worker) = error.worker() {
            object.number("worker", worker);
        }
        if let Some(pid) = error.pid() {
            object.number("pid", pid);
        }
        if error.attempt() > 0 {
            object.number("attempt", error.attempt());
        }
        // The death that broke the pool is not the end of this record's worker.
        if error.kind() != TaskErrorKind::Broken {
            if let Some(code) = error.exit_code() {
                object.number("exit_code", code);
            }
            if let Some(signal) = error.signal() {
                object.number("signal", signal);
            }
            if !error.stderr_tail().is_empty() {
                object.text("stderr_tail", error.stderr_tail());
            }
        }
        if let Some(data) = error.data() {
            object.data("data", data.as_bytes());
        }
        object.texts("chain", error.chain());
        if let Some(trace) = error.backtrace() {
            object.text("trace", trace);
        }
        object
    }

    /// An error with a code and words, both mandatory.
    pub(crate) fn new(code: &str, message: &str) -> Self {
        let mut object = Self(b"{\"code\":".to_vec());
        value::write_text(code, &mut object.0);
        object.text("message", message);
        object
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, key: &str, value: impl Display) {
        let _ = write!(self.0, ",\"{key}\":{value}");
    }

    /// Appends the whole object.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        out.push(b'}');
    }

    /// Adds a value; one that is none is left out.
    fn data(&mut self, key: &str, value: &[u8]) {
        let before = self.0.len();
        let _ = write!(self.0, ",\"{key}\":");
        if value::write_json(value, &mut self.0).is_err() {
            self.0.truncate(before);
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        let _ = write!(self.0, ",\"{key}\":");
        value::write_text(value, &mut self.0);
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let _ = write!(self.0, ",\"{key}\":[");
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            value::write_text(value, &mut self.0);
        }
        self.0.push(b']');
    }
}

/// What went wrong, in the words of the worker where it is the one who says so.
fn message_of(error: &TaskError) -> String {
    match (error.kind(), error.death()) {
        (TaskErrorKind::Dead | TaskErrorKind::Lost, Some(death)) => death.to_string(),
        // The worker stopped it itself, and says that it was cancelled: why is the parent's to tell.
        (TaskErrorKind::TimedOut { limit, .. }, None) => {
            format!("took too long {limit}; the worker stopped it: {}", error.message())
        }
        _ => error.message().to_owned(),
    }
}
