//! A worker with the SDK that dies in the handler, in the way the task says: a parser with a bug, a tool out of memory.

use std::process::ExitCode;

use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use stokehold_child::Ctx;
use stokehold_tests::note;

#[derive(Debug, Deserialize)]
struct Task {
    name: String,
    /// How to die; empty for not at all.
    how: String,
    /// Up to which attempt.
    until: u32,
}

fn main() -> ExitCode {
    stokehold_child::serve(work)
}

fn work(task: Task, context: &mut Ctx) -> std::io::Result<(String, u32)> {
    note(&task.name)?;
    if context.attempt() <= task.until {
        die(&task)?;
    }
    Ok((task.name, context.attempt()))
}

#[expect(clippy::exit, reason = "ending at once is what it is for")]
#[expect(clippy::print_stderr, reason = "its last words")]
fn die(task: &Task) -> std::io::Result<()> {
    eprintln!("{} ends me by {}", task.name, task.how);
    match task.how.as_str() {
        "abort" => std::process::abort(),
        "exit 0" => std::process::exit(0),
        "exit 3" => std::process::exit(3),
        "exit 125" => std::process::exit(125),
        "segfault" => loop {
            // The first one only takes the runtime's handler away.
            kill_process(getpid(), Signal::SEGV)?;
        },
        "kill" => kill_process(getpid(), Signal::KILL)?,
        _ => {}
    }
    Ok(())
}
