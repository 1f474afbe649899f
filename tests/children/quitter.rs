//! Ends before it says anything, by the exit code or the signal of its argument: a missing library, a bad option.

use std::process::ExitCode;

use rustix::process::{Signal, getpid, kill_process};

#[expect(clippy::print_stderr, reason = "its last words")]
fn main() -> ExitCode {
    eprintln!("first line of a long story");
    eprintln!("cannot open the model: no such file");
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "KILL" {
        // If it fails, the code says so.
        let _ = kill_process(getpid(), Signal::KILL);
    }
    ExitCode::from(argument.parse::<u8>().unwrap_or(99))
}
