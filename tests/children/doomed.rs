//! A worker with the SDK that notes every run of a task, and dies where and how it is told: by the task, or at one of the
//! SDK's points (`CRASH_AT=POINT:N`, at the N-th time; the first process only, unless there is `CRASH_ALWAYS`).

use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use serde_bytes::ByteBuf;
use stokehold_child::{Ctx, Init, Point, Probe, Request, Worker};
use stokehold_tests::{effect, first_time, note, wait_for_file};

#[derive(Clone, Debug, Deserialize)]
struct Job {
    name: String,
    /// How to die; empty for not at all.
    how: String,
    /// Up to which attempt.
    until: u32,
    /// How long to work, in milliseconds.
    nap: u64,
}

fn main() -> ExitCode {
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on(Request::<Job, (String, u32)>::DO, |(), job, context| work(job, context))
        .on(Request::<(String, usize), ByteBuf>::new("inflate"), |(), (name, len), context| {
            effect(&name, context.attempt())?;
            Ok::<_, io::Error>(ByteBuf::from(vec![7; len]))
        })
        .on(Request::<String, u32>::new("wait_at"), |(), gate, context| {
            effect(&gate, context.attempt())?;
            wait_for_file(&gate)?;
            Ok::<_, io::Error>(context.attempt())
        })
        .on(Request::<(), u32>::new("escape"), |(), (), context| {
            effect("escape", context.attempt())?;
            escape()
        });
    match KillAt::from_environment() {
        Some(probe) => worker.serve_probed(probe),
        None => worker.serve(),
    }
}

fn work(job: Job, context: &mut Ctx) -> io::Result<(String, u32)> {
    effect(&job.name, context.attempt())?;
    if context.attempt() <= job.until {
        die(&job)?;
    }
    std::thread::sleep(Duration::from_millis(job.nap));
    context.item(&job.name).map_err(io::Error::other)?;
    Ok((job.name, context.attempt()))
}

/// A program in a session of its own, as daemons are.
fn escape() -> io::Result<u32> {
    const DAEMON: &str = "echo > \"$ARENA_OF_TEST/escaped\"; exec sleep 1000";
    let daemon = Command::new("setsid").args(["sh", "-c", DAEMON]).stdin(Stdio::null()).spawn()?;
    wait_for_file("escaped")?;
    Ok(daemon.id())
}

#[expect(clippy::exit, reason = "ending at once is what it is for")]
#[expect(clippy::print_stderr, reason = "its last words")]
#[expect(clippy::panic_in_result_fn, reason = "one of the ways")]
fn die(job: &Job) -> io::Result<()> {
    eprintln!("{} ends me by {}", job.name, job.how);
    match job.how.as_str() {
        "abort" => std::process::abort(),
        "exit 0" => std::process::exit(0),
        "exit 3" => std::process::exit(3),
        "exit 125" => std::process::exit(125),
        "panic" => panic!("{} is a panic", job.name),
        "segfault" => loop {
            // The first one only takes the runtime's handler away.
            kill_process(getpid(), Signal::SEGV)?;
        },
        "kill" => kill_process(getpid(), Signal::KILL)?,
        _ => {}
    }
    Ok(())
}

/// SIGKILL at a point.
#[derive(Debug)]
struct KillAt {
    point: Point,
    time: u64,
    always: bool,
}

impl KillAt {
    fn from_environment() -> Option<Self> {
        let text = std::env::var("CRASH_AT").ok()?;
        let (name, time) = text.split_once(':')?;
        let point = Point::ALL.into_iter().find(|point| format!("{point:?}") == name)?;
        Some(Self { point, time: time.parse().ok()?, always: std::env::var_os("CRASH_ALWAYS").is_some() })
    }
}

impl Probe for KillAt {
    fn reach(&self, point: Point, task: u64) {
        if point != self.point || task != self.time {
            return;
        }
        let is_mine = self.always || first_time("crashed").unwrap_or(false);
        if is_mine {
            // That it was here is what is judged; a kill that fails shows there.
            let _ = note(&format!("crashed at {point:?}"));
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
