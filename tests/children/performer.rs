//! Wrong in no way: a worker with the SDK that does what a handler can do besides answering: results one by one, progress, lines
//! for the log, a look whether it is cancelled, the use of memory and time. With the argument "notes TERM" it notes a SIGTERM
//! before it ends of it, with "ignores TERM" it notes it and goes on.

use std::error::Error;
use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_bytes::Bytes;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use stokehold_child::{Ctx, Failure, Init, Level, Request, Worker};
use stokehold_tests::{directory, effect, is_alive, note, wait_for_file};

type BoxError = Box<dyn Error + Send + Sync>;
type Outcome<T> = Result<T, BoxError>;

/// No handler waits longer than any test.
const PATIENCE: Duration = Duration::from_secs(30);

/// What tasks leave in the memory of their worker.
type Hoard = Vec<Vec<u8>>;

fn main() -> ExitCode {
    // When the SDK has looked at the environment, which it does while no other thread runs.
    let start = |_: &mut Init| -> io::Result<Hoard> {
        match std::env::args().nth(1).as_deref() {
            Some("notes TERM") => watch_for_term(true)?,
            Some("ignores TERM") => watch_for_term(false)?,
            _ => {}
        }
        Ok(Hoard::new())
    };
    serve(with_results(with_ends(Worker::new(start))))
}

/// Handlers that give results one by one.
fn with_results(worker: Worker<'static, Hoard>) -> Worker<'static, Hoard> {
    worker
        .on(Request::<u64, u64>::new("count"), |_, count, context| {
            for number in 0..count {
                context.item(&number)?;
            }
            Outcome::Ok(count)
        })
        .on(Request::<(u64, usize), u64>::new("spill"), |_, (count, bytes), context| {
            spill(count, bytes, context)
        })
        .on(Request::<(String, u64, u64), u32>::new("hold"), |_, (name, before, after), context| {
            hold(&name, before, after, context)
        })
        .on(Request::<String, ()>::new("mixed"), |_, name, context| {
            context.item(&1_u64)?;
            context.item("two")?;
            linger(&name, context)?;
            Outcome::Err(Failure::cancelled().into())
        })
        .on(Request::<(u64, u64), u64>::new("drip"), |_, (times, pause), context| {
            steps(times, pause, context, |step, context| Ok(context.item(&step)?))
        })
        .on(Request::<(u64, u64), u64>::new("progress"), |_, (times, pause), context| {
            steps(times, pause, context, |step, context| {
                context.progress(step, Some(times), Some("on the way"));
                Ok(())
            })
        })
}

/// Handlers that go on until they are told to stop, or do not stop, or end their process.
fn with_ends(worker: Worker<'static, Hoard>) -> Worker<'static, Hoard> {
    worker
        .on(Request::<String, ()>::new("linger"), |_, name, context| {
            linger(&name, context)?;
            Outcome::Err(Failure::cancelled().into())
        })
        .on(Request::<String, u32>::new("answer_anyway"), |_, name, context| {
            linger(&name, context)?;
            Outcome::Ok(context.attempt())
        })
        .on(Request::<String, ()>::new("stay"), |_, name, context| {
            begin(&name, context)?;
            Outcome::Ok(wait_for_file(&name)?)
        })
        .on(Request::<String, ()>::new("read_ahead"), |_, name, context| {
            begin(&name, context)?;
            wait_for_file(&name)?;
            // A look is taken once in a millisecond, and may find the other thread of the SDK looking.
            for _ in 0..20 {
                context.is_cancelled();
                std::thread::sleep(Duration::from_millis(2));
            }
            Outcome::Ok(())
        })
        .on(Request::<String, u32>::new("sick"), |_, name, context| {
            begin(&name, context)?;
            if !directory()?.join("cured").exists() {
                std::process::abort();
            }
            Outcome::Ok(context.attempt())
        })
        .on(Request::<(String, u64), u32>::new("later"), |_, (name, milliseconds), context| {
            begin(&name, context)?;
            Outcome::Err(Failure::new("not now").retry_after(Duration::from_millis(milliseconds)).into())
        })
        .on(Request::<(usize, u64), usize>::new("eat"), |hoard, (mebibytes, milliseconds), _| {
            eat(hoard, mebibytes, milliseconds);
            Outcome::Ok(hoard.len())
        })
        .on(Request::<(usize, u64), ()>::new("eat_and_die"), |hoard, (mebibytes, milliseconds), _| {
            eat(hoard, mebibytes, milliseconds);
            die_of("too much to eat")
        })
}

/// Handlers that tell something.
fn serve(worker: Worker<'static, Hoard>) -> ExitCode {
    worker
        .on(Request::<(), (u32, u32, u32)>::new("who"), |_, (), context| {
            Outcome::Ok((std::process::id(), context.worker().unwrap_or(u32::MAX), context.attempt()))
        })
        .on(Request::<String, u32>::new("note"), |_, name, context| {
            begin(&name, context)?;
            Outcome::Ok(context.attempt())
        })
        .on(Request::<(), Option<u64>>::new("time_left"), |_, (), context| {
            let left = context.time_left();
            Outcome::Ok(left.map(|left| left.as_millis().try_into().unwrap_or(u64::MAX)))
        })
        .on(Request::<(), Option<String>>::new("key"), |_, (), context| {
            Outcome::Ok(context.key().map(str::to_owned))
        })
        .on(Request::<String, ()>::new("say"), |_, words, context| {
            say(&words, context);
            Outcome::Ok(())
        })
        .on(Request::<(), ()>::new("leave_a_family"), |_, (), _| leave_a_family())
        .serve()
}

/// Tells the arena what SIGTERM does.
fn watch_for_term(ends: bool) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    std::thread::spawn(move || {
        for _ in &mut signals {
            // A worker that cannot note it still ends by it.
            let _ = effect("TERM", 0);
            if ends {
                let _ = emulate_default_handler(SIGTERM);
            }
        }
    });
    Ok(())
}

/// Notes the run, and whether an earlier run of the same task is still going on in a process that lives.
fn begin(name: &str, context: &Ctx) -> io::Result<()> {
    let earlier = std::fs::read_to_string(directory()?.join("effects")).unwrap_or_default();
    for line in earlier.lines() {
        let mut fields = line.rsplitn(4, ' ').skip(1);
        let (pid, _, run) = (fields.next(), fields.next(), fields.next());
        let pid = pid.and_then(|pid| pid.parse().ok());
        if run == Some(name) && pid.is_some_and(|pid| pid != std::process::id() && is_alive(pid)) {
            note("overlap")?;
        }
    }
    effect(name, context.attempt())
}

/// Works until it is told to stop, and notes when.
fn linger(name: &str, context: &Ctx) -> Outcome<()> {
    begin(name, context)?;
    let begun = Instant::now();
    while !context.is_cancelled() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("nobody cancelled {name}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(effect(&format!("{name} told"), context.attempt())?)
}

/// Results of that size, each with its number; every tenth is noted.
fn spill(count: u64, bytes: usize, context: &mut Ctx) -> Outcome<u64> {
    let filling = vec![7; bytes];
    for number in 0..count {
        if context.is_cancelled() {
            note("spill stopped")?;
            return Err(Failure::cancelled().into());
        }
        context.item(&(number, Bytes::new(&filling)))?;
        if number % 10 == 0 {
            note(&format!("spilled {number}"))?;
        }
    }
    Ok(count)
}

/// Some results, a wait at the gate "NAME ATTEMPT", and the others.
fn hold(name: &str, before: u64, after: u64, context: &mut Ctx) -> Outcome<u32> {
    for number in 0..before {
        context.item(&number)?;
    }
    begin(name, context)?;
    wait_for_file(&format!("{name} {}", context.attempt()))?;
    for number in before..before + after {
        context.item(&number)?;
    }
    Ok(context.attempt())
}

/// Steps with pauses in between, until it is told to stop.
fn steps(
    times: u64,
    pause: u64,
    context: &mut Ctx,
    mut step: impl FnMut(u64, &mut Ctx) -> Outcome<()>,
) -> Outcome<u64> {
    for number in 0..times {
        if context.is_cancelled() {
            return Err(Failure::cancelled().into());
        }
        std::thread::sleep(Duration::from_millis(pause));
        step(number, context)?;
    }
    Ok(times)
}

/// Takes memory for good, touches all of it, and works for a while.
fn eat(hoard: &mut Hoard, mebibytes: usize, milliseconds: u64) {
    hoard.push(vec![1; mebibytes << 20]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(milliseconds) {
        std::hint::spin_loop();
    }
}

#[expect(clippy::print_stderr, reason = "its last words")]
fn die_of(cause: &str) -> Outcome<()> {
    eprintln!("I die of {cause}");
    std::process::abort()
}

/// The same words by every way there is.
#[expect(clippy::print_stderr, reason = "one of the ways")]
fn say(words: &str, context: &Ctx) {
    context.log(Level::Warn, words);
    context.progress(1, Some(2), Some(words));
    eprintln!("{words}");
}

/// A child, and one in a session of its own, both with this process's environment.
fn leave_a_family() -> Outcome<()> {
    for (program, arguments) in [("sleep", &["1000"][..]), ("setsid", &["sleep", "1000"])] {
        Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
    }
    Ok(())
}
