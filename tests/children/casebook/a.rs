//! The scenes of group A: children that die. What became of their tasks is judged from the record; here only what nobody else
//! can see is.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_bytes::ByteBuf;
use stokehold::{
    Cause, Event, Policy, Pool, Receiver, Request, StartError, SubmitError, TaskErrorKind, WorkerCommand,
};
use stokehold_tests::{DeathCase, directory, eventually, kill, record_fact};

use crate::ensure;
use crate::stage::{
    Desk, ECHO, MOMENT, Outcome, Scene, Stage, child, command, one, prove_usable, prove_usable_by, tell,
    tell_error, wait_for_event,
};

/// What the machine does to children.
mod machine;

/// A task of the child `doomed`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// How to die; empty for not at all.
    pub(crate) how: String,
    /// Up to which attempt.
    pub(crate) until: u32,
    /// How long to work, in milliseconds.
    pub(crate) nap: u64,
}

impl Job {
    pub(crate) fn fine(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn deadly(name: &str, how: &str) -> Self {
        Self { name: name.to_owned(), how: how.to_owned(), until: 99, nap: 0 }
    }
}

pub(crate) const WORK: Request<Job, (String, u32)> = Request::DO;
const INFLATE: Request<(&str, usize), ByteBuf> = Request::new("inflate");

/// Retries come at once, so that no case waits for chance.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The scene of a case.
pub(crate) fn scene(case: DeathCase) -> Scene {
    match case {
        DeathCase::A1 => before_the_handshake,
        DeathCase::A2
        | DeathCase::A3
        | DeathCase::A4
        | DeathCase::A5
        | DeathCase::A6
        | DeathCase::A7
        | DeathCase::A8
        | DeathCase::A9 => crash,
        DeathCase::A10 => crash_in_a_system_call,
        DeathCase::A11 => poison,
        DeathCase::A12 => poison_in_company,
        DeathCase::A13 => long_answer,
        DeathCase::A14 => storm,
        DeathCase::A15 => ways_to_die,
        DeathCase::A16 => machine::out_of_memory,
        DeathCase::A17 => restart_storm,
        DeathCase::A18 => machine::no_program,
        DeathCase::A19 => closed_output,
        DeathCase::A20 => closed_input,
    }
}

/// The pool starts, or does not; the environment says how often it crashes.
fn before_the_handshake(_: &Stage) -> Outcome {
    let begun = Instant::now();
    match one("doomed", &[]).start() {
        Ok(pool) => prove_usable_by(&pool, WORK, &Job::fine("usable"))?,
        Err(StartError::Worker(death)) => {
            ensure!(!death.was_ready && death.signal() == Some(9), "{death}");
            tell(&death.cause)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(record_fact("milliseconds", begun.elapsed().as_millis())?)
}

/// Arguments: how many tasks, the window, whether each may run `once`, whether starts are `told`.
fn crash(stage: &Stage) -> Outcome {
    play_crash(stage, command("doomed"))
}

/// As [`crash`]; the first process is under strace, with the expression of the variable.
fn crash_in_a_system_call(stage: &Stage) -> Outcome {
    const WRAPPER: &str = r#"if mkdir "$ARENA_OF_TEST/straced" 2>/dev/null; then
        exec strace -qq -o "$ARENA_OF_TEST/strace" -e "$STRACE" "$0"
    fi
    exec "$0""#;
    play_crash(stage, WorkerCommand::new("/bin/sh").arg("-c").arg(WRAPPER).arg(child("doomed")))
}

fn play_crash(stage: &Stage, command: WorkerCommand) -> Outcome {
    let (tasks, window) = (stage.number(0)?, u32::try_from(stage.number(1)?)?);
    let mut builder = Pool::builder(command).workers(1).window(window);
    if stage.argument(3)? == "told" {
        builder = builder.report_starts();
    }
    let pool = builder.start()?;
    let desk = match stage.argument(2)? {
        "once" => Desk::once(&pool),
        _ => Desk::with(&pool, Policy::default().backoff(AT_ONCE, AT_ONCE), 3),
    };
    let names: Vec<String> = (1..=tasks).map(|number| format!("t{number}")).collect();
    let tasks =
        names.iter().map(|name| desk.submit(name, WORK, &Job::fine(name))).collect::<Outcome<Vec<_>>>()?;
    for task in tasks {
        let name = task.name.clone();
        match task.wait()? {
            Ok((answer, _)) => ensure!(answer == name, "{name} was answered with {answer}"),
            Err(error) => tell_error(&error)?,
        }
    }
    prove_usable_by(&pool, WORK, &Job::fine("usable"))?;
    ensure!(pool.shutdown(MOMENT).complete, "a worker could not be ended");
    Ok(())
}

/// Arguments: how many lives. A deadly task among others, two workers.
fn poison(stage: &Stage) -> Outcome {
    let lives = u32::try_from(stage.number(0)?)?;
    let pool = Pool::builder(command("doomed")).workers(2).window(1).start()?;
    let desk = Desk::with(&pool, Policy::default().backoff(AT_ONCE, AT_ONCE), lives);
    let mut neighbours = Vec::new();
    for number in 0..5 {
        neighbours.push(desk.submit(
            &format!("before{number}"),
            WORK,
            &Job::fine(&format!("before{number}")),
        )?);
    }
    let poison = desk.submit("poison", WORK, &Job::deadly("poison", "kill"))?;
    for number in 0..5 {
        neighbours.push(desk.submit(
            &format!("after{number}"),
            WORK,
            &Job::fine(&format!("after{number}")),
        )?);
    }
    let error = poison.error()?;
    ensure!(error.attempt() == lives && error.signal() == Some(9), "{error}");
    for task in neighbours {
        task.answer()?;
    }
    prove_usable_by(&pool, WORK, &Job::fine("usable"))
}

/// Eight tasks in the window of one worker; the fifth is deadly.
fn poison_in_company(_: &Stage) -> Outcome {
    let pool = Pool::builder(command("doomed")).workers(1).window(8).dead_letters(8).start()?;
    let desk = Desk::with(&pool, Policy::default().backoff(AT_ONCE, AT_ONCE), 3);
    let mut tasks = Vec::new();
    for name in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let job = if name == "5" { Job::deadly(name, "kill") } else { Job::fine(name) };
        tasks.push(desk.submit(name, WORK, &job)?);
    }
    for task in tasks {
        if task.name == "5" {
            task.error()?;
        } else {
            ensure!(task.answer()?.1 == 1, "a neighbour lost a life");
        }
    }
    let letters: Vec<_> = pool.dead_letters().try_iter().collect();
    let [letter] = &letters[..] else { return Err(format!("{} dead letters", letters.len()).into()) };
    ensure!(letter.task == 5 && letter.attempts().len() == 3, "{letter:?}");
    prove_usable_by(&pool, WORK, &Job::fine("usable"))
}

/// The worker is killed in the middle of a result of 100 MB, as seen by this process growing.
fn long_answer(_: &Stage) -> Outcome {
    const LEN: usize = 100_000_000;
    /// A part of the answer that surely lies here already, and more than anything else here takes.
    const PART: u64 = 8 << 20;
    let pool = one("doomed", &[]).max_frame(128 << 20).start()?;
    let events = pool.events();
    let task = Desk::of(&pool).submit("long", INFLATE, &("long", LEN))?;
    let worker = task.running_in()?;
    let before = resident_bytes();
    let grown = eventually(MOMENT, || resident_bytes() > before + PART);
    kill(worker);
    let killed = Instant::now();
    ensure!(grown, "no part of the answer came");
    let (signal, cause) = wait_for_event(&events, |event| match event {
        Event::TaskRetried { attempt: 1, death: Some(death), .. } => {
            Some((death.signal(), death.cause.clone()))
        }
        _ => None,
    })?;
    record_fact("milliseconds", killed.elapsed().as_millis())?;
    ensure!(signal == Some(9), "it did not die of the kill");
    tell(&cause)?;
    let answer = task.answer()?;
    ensure!(answer.len() == LEN && answer.iter().all(|byte| *byte == 7), "the answer was damaged");
    drop(answer);
    prove_usable_by(&pool, WORK, &Job::fine("usable"))
}

/// How much memory this process has now.
fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Arguments: a seed. A random worker is killed every 50 ms while two of them do 400 tasks of 10 ms.
fn storm(stage: &Stage) -> Outcome {
    const TASKS: usize = 400;
    let mut chance = stage.number(0)? | 1;
    let pool = Pool::builder(command("doomed")).workers(2).record_events().start()?;
    let (events, over) = (pool.events(), AtomicBool::new(false));
    let kills = std::thread::scope(|scope| -> Outcome<usize> {
        let killer = scope.spawn(|| {
            let (mut alive, mut kills) = (Vec::new(), 0);
            while !over.load(Ordering::Relaxed) {
                // The storm's own beat, and no wait for anything.
                std::thread::sleep(Duration::from_millis(50));
                keep_alive_list(&events, &mut alive);
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                let Some(index) = usize::try_from(chance).unwrap_or(0).checked_rem(alive.len()) else {
                    continue;
                };
                kill(alive.swap_remove(index));
                kills += 1;
            }
            kills
        });
        let desk = Desk::of(&pool);
        let worked = (|| -> Outcome {
            let mut tasks = Vec::new();
            for number in 0..TASKS {
                let job = Job { nap: 10, ..Job::fine(&format!("s{number}")) };
                tasks.push(desk.submit(&job.name, WORK, &job)?);
            }
            for task in tasks {
                if let Err(error) = task.wait()? {
                    ensure!(error.kind() == TaskErrorKind::Dead && error.attempt() == 3, "{error}");
                }
            }
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        worked?;
        killer.join().map_err(|_| "the storm panicked".into())
    })?;
    record_fact("kills", kills)?;
    prove_usable_by(&pool, WORK, &Job::fine("usable"))
}

/// Brings the list of ready workers up to date.
fn keep_alive_list(events: &Receiver<Event>, alive: &mut Vec<u32>) {
    for event in events.try_iter() {
        match event {
            Event::WorkerReady { pid, .. } => alive.push(pid),
            Event::WorkerDied(death) => alive.retain(|pid| Some(*pid) != death.pid),
            _ => {}
        }
    }
}

/// Each way to die is a cause of its own; a panic is none; 125 is the end.
fn ways_to_die(_: &Stage) -> Outcome {
    let pool = one("doomed", &[]).start()?;
    let once = Desk::with(&pool, Policy::default(), 1);
    let ways = [
        ("segfault", None, Some(11), "SIGSEGV"),
        ("abort", None, Some(6), "SIGABRT"),
        ("kill", None, Some(9), "SIGKILL"),
        ("exit 0", Some(0), None, "code 0"),
        ("exit 3", Some(3), None, "code 3"),
    ];
    for (how, code, signal, words) in ways {
        let error = once.submit(how, WORK, &Job::deadly(how, how))?.error()?;
        ensure!(error.kind() == TaskErrorKind::Dead, "{how}: {error}");
        ensure!((error.exit_code(), error.signal()) == (code, signal), "{how}: {error}");
        ensure!(error.to_string().contains(words), "no {words} in: {error}");
        ensure!(error.stderr_tail().contains(how), "its last words are missing: {error}");
        let fine = format!("after {how}");
        once.submit(&fine, WORK, &Job::fine(&fine))?.answer()?;
    }
    let panic = once.submit("panic", WORK, &Job::deadly("panic", "panic"))?.error()?;
    ensure!(panic.kind() == TaskErrorKind::Failed && panic.message().contains("panic is a panic"), "{panic}");
    let before = panic.pid();
    let task = once.submit("after panic", WORK, &Job { nap: 20, ..Job::fine("after panic") })?;
    ensure!(Some(task.running_in()?) == before, "a panic ended the worker");
    task.answer()?;
    prove_usable_by(&pool, WORK, &Job::fine("usable"))?;
    let events = pool.events();
    let last = Desk::of(&pool).submit("exit 125", WORK, &Job::deadly("exit 125", "exit 125"))?.error()?;
    ensure!(last.kind() == TaskErrorKind::Broken, "{last}");
    let restarted = events.try_iter().any(|event| matches!(event, Event::WorkerStarted { .. }));
    ensure!(!restarted, "one that gave up for good was started again");
    refused_as_broken(&pool)
}

/// Argument: how many workers. Every process dies at READY (the environment says so), with twenty tasks waiting.
fn restart_storm(stage: &Stage) -> Outcome {
    let workers = usize::try_from(stage.number(0)?)?;
    let pool = Pool::builder(command("doomed")).workers(workers).start()?;
    let desk = Desk::of(&pool);
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..20 {
        let name = format!("pending{number}");
        match desk.submit(&name, WORK, &Job::fine(&name)) {
            Ok(task) => tasks.push(task),
            Err(error) => return Err(format!("it broke before {name}: {error}").into()),
        }
    }
    for task in tasks {
        let error = task.error()?;
        ensure!(error.kind() == TaskErrorKind::Broken, "{error}");
    }
    record_fact("milliseconds", begun.elapsed().as_millis())?;
    refused_as_broken(&pool)
}

/// A broken pool says so, and how.
fn refused_as_broken(pool: &Pool) -> Outcome {
    match pool.submit(ECHO, "late").err() {
        Some(SubmitError::Broken(death)) => {
            tell(&SubmitError::Broken(death.clone()))?;
            tell(&death.cause)
        }
        other => Err(format!("a broken pool took a task, or said {other:?}").into()),
    }
}

/// It closes its output and lives on.
fn closed_output(_: &Stage) -> Outcome {
    let pool = one("mute", &[]).start()?;
    let events = pool.events();
    Desk::of(&pool).submit("unanswered", ECHO, "unanswered")?.answer()?;
    died_of(&events, |cause| matches!(cause, Cause::ClosedOutput))?;
    prove_usable(&pool)
}

/// It closes its input, having read its task (argument `read`) or not (`unread`).
fn closed_input(stage: &Stage) -> Outcome {
    let how = stage.argument(0)?;
    let pool = one("deaf", &[how]).start()?;
    let events = pool.events();
    let desk = Desk::of(&pool);
    let first = desk.submit("first", ECHO, "first")?;
    if how == "unread" {
        first.running_in()?;
        fs::write(directory()?.join("close"), "")?;
    }
    first.answer()?;
    desk.submit("second", ECHO, "second")?.answer()?;
    died_of(&events, |cause| matches!(cause, Cause::ClosedInput))?;
    prove_usable(&pool)
}

/// Waits for a death, which must have that cause.
fn died_of(events: &Receiver<Event>, is_right: impl Fn(&Cause) -> bool) -> Outcome {
    let cause = wait_for_event(events, |event| match event {
        Event::WorkerDied(death) => Some(death.cause.clone()),
        _ => None,
    })?;
    ensure!(is_right(&cause), "it died of {cause:?}");
    tell(&cause)
}
