//! A parent of its own process that holds one worker at the level of containment of its first argument, with a family that the
//! worker started. It tells what it has as `name=value` lines, waits for the end of its input, ends the pool, tells so, and
//! waits to be killed. Judges nothing.
//!
//! `keeper LEVEL PROGRAM`

#![expect(clippy::print_stdout, reason = "the facts go to the test by standard output")]

use std::error::Error;
use std::time::Duration;

use stokehold::{Containment, Event, Pool, Request, StartError, WorkerCommand};
use stokehold_tests::{park_until_end_of_input, wait_for_file};

const LEAVE_A_FAMILY: Request<(), ()> = Request::new("leave_a_family");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let level = match arguments.next().as_deref() {
        Some("group") => Containment::Group,
        Some("subreaper") => Containment::Subreaper,
        Some("cgroup") => Containment::Cgroup,
        Some("namespace") => Containment::PidNamespace,
        other => return Err(format!("no level is called {other:?}").into()),
    };
    let command = WorkerCommand::new(arguments.next().ok_or("no program")?);
    let pool = match Pool::builder(command).workers(1).record_events().containment(level).start() {
        Ok(pool) => pool,
        Err(StartError::Containment { level: missing, reason }) => {
            println!("is_the_level_asked_for={}", missing == level);
            println!("missing={reason}");
            return Ok(());
        }
        Err(other) => {
            println!("error={other}");
            return Ok(());
        }
    };
    let ready = pool.events().iter().find_map(|event| match event {
        Event::WorkerReady { pid, .. } => Some(pid),
        _ => None,
    });
    pool.submit(LEAVE_A_FAMILY, &())?.wait()?;
    println!("worker={}", ready.ok_or("no worker")?);
    park_until_end_of_input()?;
    println!("complete={}", pool.shutdown(Duration::from_secs(5)).complete);
    Ok(wait_for_file("never")?)
}
