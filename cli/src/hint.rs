//! Why workers could not be started, in words that help: what happened, its cause, what to do.

use std::ffi::OsString;
use std::io;

use stokehold::{Cause, StartError};
use stokehold_protocol::PeerError;

use crate::console::{self, escaped};

/// Why the workers could not be started, and what to do about it.
pub(crate) fn explain_start(error: &StartError, program: Option<&OsString>) {
    console::line(format_args!(
        "error: the workers cannot be started\ncause: {}",
        escaped(&error.to_string())
    ));
    let program = program.map(|program| escaped(&program.to_string_lossy())).unwrap_or_default();
    let hint = match error {
        StartError::Worker(death) => match &death.cause {
            Cause::Spawn { kind: io::ErrorKind::NotFound, .. } if program.contains('/') => {
                format!("check the path `{program}`; it is taken from the current directory, or from the root")
            }
            Cause::Spawn { kind: io::ErrorKind::NotFound, .. } => {
                format!("check the name `{program}`, or give a path (./{program} if it is right here)")
            }
            Cause::Spawn { kind: io::ErrorKind::PermissionDenied, .. } => {
                format!("make it executable (chmod +x {program}), or name its interpreter in front of it")
            }
            Cause::Spawn { .. } => "the program or its interpreter cannot be run on this system".to_owned(),
            Cause::Protocol(error)
                if matches!(&**error, PeerError::Refused { code, .. } if code == "codec") =>
            {
                "the worker does not speak the codec on offer: leave out --codec".to_owned()
            }
            Cause::Protocol(_) => "the protocol has the worker's stdout to itself: serve first thing in the worker, and print \
                                   to stderr; a program that knows no protocol cannot be a worker"
                .to_owned(),
            Cause::HelloTimeout(_) | Cause::Exited => "a worker is a program that speaks the protocol on stdin and stdout; for \
                                                       one to compare with, try: stokehold run -- stokehold echo-worker"
                .to_owned(),
            _ => return,
        },
        _ => return,
    };
    console::line(format_args!("hint:  {hint}"));
}
