//! The scenes of group C: the parent, and the machine below it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_bytes::{ByteBuf, Bytes};
use stokehold::{Containment, Event, Pool, Request, StartError};
use stokehold_tests::{
    ParentCase, block_on, eventually, is_alive, record_fact, record_outcome, record_submitted, wait_for_file,
};

use crate::ensure;
use crate::stage::{
    Desk, ECHO, MOMENT, Outcome, Scene, Stage, command, descriptors, one, outcome_of, prove_usable,
    wait_for_event,
};

/// What a program does to its own library.
mod host;
/// Parents that are killed.
mod killed;
/// Not enough of something.
mod shortage;

const WHO: Request<(), (u32, u32, u32)> = Request::new("who");
const WAIT_AT: Request<str, (u32, u32, u32)> = Request::new("wait_at");
const SPIN: Request<(), ()> = Request::new("spin");
const SQUARE: Request<u64, u64> = Request::new("square");
const LEAVE_A_SLEEPER: Request<(), u32> = Request::new("leave_a_sleeper");
const REVERSE: Request<Bytes, ByteBuf> = Request::new("reverse");
const ESCAPE: Request<(), u32> = Request::new("escape");

/// The scene of a case.
pub(crate) fn scene(case: ParentCase) -> Scene {
    match case {
        ParentCase::C1 => killed::killed_idle,
        ParentCase::C2 => killed::killed_busy,
        ParentCase::C3 => killed::killed_in_a_system_call,
        ParentCase::C4 => short_lived_thread,
        ParentCase::C5 => held_output,
        ParentCase::C6 => session_of_its_own,
        ParentCase::C7 => host::interrupted,
        ParentCase::C8 => host::nosy_host,
        ParentCase::C9 => shortage::shortage,
        ParentCase::C10 => interruptions,
        ParentCase::C11 => again_and_again,
        ParentCase::C12 => host::panics,
        ParentCase::C13 => host::forgotten,
        ParentCase::C14 => killed::number_comes_again,
        ParentCase::C15 => host::no_standard_streams,
        ParentCase::C16 => shortage::small_pipes,
    }
}

/// Until the test has seen enough, or has killed this process.
fn park() -> Outcome {
    Ok(wait_for_file("done")?)
}

/// The numbers of all workers that are ready.
fn ready(pool: &Pool, workers: usize) -> Outcome<Vec<u32>> {
    let mut pids = BTreeSet::new();
    let events = pool.events();
    while pids.len() < workers {
        pids.insert(wait_for_event(&events, |event| match event {
            Event::WorkerReady { pid, .. } => Some(*pid),
            _ => None,
        })?);
    }
    Ok(pids.into_iter().collect())
}

fn tell_workers(pids: &[u32]) -> Outcome {
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    Ok(record_fact("workers", list.join(" "))?)
}

/// Tells the test which threads there are, and waits until it has done something about them.
fn attend() -> Outcome {
    let name = |id: &str| fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let id = entry?.file_name().to_string_lossy().into_owned();
        threads.push(format!("{id}:{}", name(&id).trim()));
    }
    record_fact("threads", threads.join(" "))?;
    Ok(wait_for_file("go")?)
}

/// A pool made by a thread that ends at once. Its worker must not die with the thread.
fn short_lived_thread(_: &Stage) -> Outcome {
    let pool = thread::spawn(|| one("honest", &[]).record_events().start()).join();
    let pool = pool.map_err(|_| "it panicked")??;
    let events = pool.events();
    let desk = Desk::of(&pool);
    let (before, ..) = desk.submit("before", WHO, &())?.answer()?;
    // The thread has ended. What is tied to it dies now, or when the next one ends.
    for number in 0..20 {
        let task = thread::scope(|scope| scope.spawn(|| pool.submit(WHO, &())).join());
        let task = task.map_err(|_| "it panicked")??;
        let name = format!("later{number}");
        record_submitted(&name, 3)?;
        let answer = task.wait();
        outcome_of(&name, &answer)?;
        let (pid, _, attempt) = answer?;
        ensure!((pid, attempt) == (before, 1), "the worker was replaced");
    }
    let died = events.try_iter().any(|event| matches!(event, Event::WorkerDied(_)));
    ensure!(!died && is_alive(before), "the worker died with the thread");
    prove_usable(&pool)
}

/// A grandchild holds the output of a worker that died, and one the output of a worker that is shut down.
fn held_output(_: &Stage) -> Outcome {
    let pool = one("heir", &[]).start()?;
    let begun = Instant::now();
    Desk::of(&pool).submit("inherited", ECHO, "inherited")?.answer()?;
    record_fact("milliseconds", begun.elapsed().as_millis())?;
    prove_usable(&pool)?;
    drop(pool);
    let pool = one("honest", &[]).start()?;
    let sleeper = Desk::of(&pool).submit("sleeper", LEAVE_A_SLEEPER, &())?.answer()?;
    ensure!(is_alive(sleeper), "there is no sleeper");
    let begun = Instant::now();
    let report = pool.shutdown(MOMENT);
    record_fact("shutdown_milliseconds", begun.elapsed().as_millis())?;
    ensure!(report.complete && report.is_graceful(), "{report:?}");
    ensure!(eventually(Duration::from_secs(1), || !is_alive(sleeper)), "the sleeper lives");
    Ok(())
}

/// Arguments: the level, and `drop` or `park`. A grandchild in a session of its own.
fn session_of_its_own(stage: &Stage) -> Outcome {
    let level = match stage.argument(0)? {
        "group" => Containment::Group,
        "subreaper" => Containment::Subreaper,
        "cgroup" => Containment::Cgroup,
        _ => Containment::PidNamespace,
    };
    let pool = match one("doomed", &[]).containment(level).start() {
        Ok(pool) => pool,
        Err(error @ StartError::Containment { .. }) => return Ok(record_fact("refused", error)?),
        Err(error) => return Err(error.into()),
    };
    // In a namespace of its own it has another number, so it tells one that is seen here.
    Desk::of(&pool).submit("escape", ESCAPE, &())?.answer()?;
    record_fact("ready", true)?;
    if stage.argument(1)? == "park" {
        return park();
    }
    drop(pool);
    Ok(())
}

/// Argument: `injected` for what the test injects into every thread, `signals` for a storm of signals with a handler. Every
/// way to wait is used meanwhile.
fn interruptions(stage: &Stage) -> Outcome {
    let taken = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&taken))?;
    let pool = Pool::builder(command("honest")).workers(2).start()?;
    prove_usable(&pool)?;
    attend()?;
    let desk = Desk::of(&pool);
    for number in 0..20_u64 {
        let answer = desk.submit(&format!("square{number}"), SQUARE, &number)?.answer()?;
        ensure!(answer == number * number, "{number} squared is {answer}");
    }
    // Larger than any pipe, both ways.
    let megabyte: Vec<u8> = (0..1_000_000).map(|n: u32| n.to_le_bytes()[0]).collect();
    let mut answer = desk.submit("reverse", REVERSE, Bytes::new(&megabyte))?.answer()?.into_vec();
    answer.reverse();
    ensure!(answer == megabyte, "bytes were lost");
    for number in 0..5 {
        let name = format!("awaited{number}");
        let task = desk.submit(&name, ECHO, &name)?;
        record_outcome(&name, if block_on(task.task).is_ok() { "Done" } else { "Failed" })?;
    }
    let squares = pool.map(SQUARE, 0..200_u64);
    ensure!(squares.iter().filter(|square| square.is_ok()).count() == 200, "answers were lost");
    if stage.argument(0)? == "signals" {
        ensure!(taken.load(Ordering::Relaxed), "there was no signal");
    }
    let another = one("honest", &[]).start()?;
    Desk::of(&another).submit("another", ECHO, "another")?.answer()?;
    ensure!(another.shutdown(MOMENT).is_graceful(), "a shutdown needed force");
    ensure!(pool.shutdown(MOMENT).is_graceful(), "a shutdown needed force");
    Ok(())
}

/// Argument: how many cycles.
fn again_and_again(stage: &Stage) -> Outcome {
    let cycles = stage.number(0)?;
    let cycle = |number: u64| -> Outcome {
        let pool = one("parrot", &[]).start()?;
        if number.is_multiple_of(10) {
            ensure!(pool.submit(ECHO, "again")?.wait()? == "again", "it was not answered");
        }
        match number % 3 {
            0 => ensure!(pool.shutdown(MOMENT).is_graceful(), "a shutdown needed force"),
            1 => ensure!(pool.kill().complete, "a worker could not be ended"),
            _ => drop(pool),
        }
        Ok(())
    };
    // What is kept for ever is there after a few.
    for number in 0..cycles / 20 {
        cycle(number)?;
    }
    let (files, memory) = (descriptors(), resident_kibibytes());
    for number in cycles / 20..cycles {
        cycle(number)?;
    }
    ensure!(files == descriptors(), "descriptors were gained or lost");
    record_fact("grown_kibibytes", resident_kibibytes().saturating_sub(memory))?;
    Ok(())
}

fn resident_kibibytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}
