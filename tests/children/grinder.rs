//! A worker with the SDK whose tasks are tiny, so that many travel in one frame; at some of them it dies, fails, panics or waits,
//! as the task says.

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use stokehold_child::{Ctx, Failure, Init, Request, Worker};
use stokehold_tests::{effect, note, wait_for_file};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// No handler waits longer than any test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which frame the last task came in, and how many of it were done: tasks that came together have one id.
#[derive(Debug, Default)]
struct Frame {
    id: u32,
    done: u32,
}

fn main() -> ExitCode {
    Worker::new(|_: &mut Init| Ok::<_, io::Error>(Frame::default()))
        .on(Request::<(u64, String), (u64, u32)>::DO, |frame, (number, fate), context| {
            if context.task_id() != frame.id {
                *frame = Frame { id: context.task_id(), done: 0 };
            }
            if !fate.is_empty() {
                meet(number, &fate, frame.done > 0, context)?;
            }
            frame.done += 1;
            Outcome::Ok((number * number + 1, context.attempt()))
        })
        .serve()
}

/// What is special about this one. Its run is noted, and whether others came before it in its frame.
#[expect(clippy::panic_in_result_fn, reason = "one of the fates")]
fn meet(number: u64, fate: &str, in_company: bool, context: &Ctx) -> Outcome<()> {
    effect(&format!("{fate} {number}"), context.attempt())?;
    if in_company {
        note("in company")?;
    }
    match fate {
        "abort" => std::process::abort(),
        "kill" => kill_process(getpid(), Signal::KILL)?,
        "fail" => {
            return Err(Failure::new(format!("{number} failed")).code("acme.sour").data(&number).into());
        }
        "fail once" if context.attempt() == 1 => return Err(Failure::new("not yet").into()),
        "panic" => panic!("{number} is a panic"),
        "wait" => wait_for_file(&format!("gate {number}"))?,
        "linger" => linger(context)?,
        _ => {}
    }
    Ok(())
}

/// Works until it is told to stop.
fn linger(context: &Ctx) -> Outcome<()> {
    let begun = Instant::now();
    while !context.is_cancelled() {
        if begun.elapsed() > PATIENCE {
            return Err("nobody cancelled it".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Failure::cancelled().into())
}
