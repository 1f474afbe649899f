//! What a pool tells: its events in order, the certificate of a death, and what a subscriber of `tracing` sees. None of it can hold
//! up or break the pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stokehold::{Cause, CpuTime, Death, Event, Policy, Pool, Request, Rung, TaskErrorKind, WorkerState};
use stokehold_tests::{Arena, kill, stop, within};

use crate::child;
use crate::performer::{
    Aide, DRIP, LINGER, RUN, SICK, STAY, events_until, performers, pressed_performers, wait_for_runs,
};
use crate::stage::{MOMENT, PATIENCE, SQUARE, WHO, honest};

const SAY: Request<str, ()> = Request::new("say");
const EAT_AND_DIE: Request<(usize, u64), ()> = Request::new("eat_and_die");

/// A pool's events may be as many as this before the oldest are dropped.
const EVENTS_KEPT: usize = 4_096;

/// What happened, in a word for each; numbers that differ from run to run left out.
fn in_words(events: &[Event]) -> Vec<String> {
    let words = events.iter().map(|event| match event {
        Event::WorkerStarted { worker, restarts, .. } => {
            format!("worker {worker} started, {restarts} before it")
        }
        Event::WorkerReady { worker, .. } => format!("worker {worker} ready"),
        Event::WorkerRetired { worker, why, .. } => format!("worker {worker} retired: {why:?}"),
        Event::WorkerDied(death) => format!("worker {} died of {:?}", death.worker, death.signal()),
        Event::TaskStarted { task, worker, attempt, .. } => format!("task {task}.{attempt} in {worker}"),
        Event::TaskRetried { task, attempt, pause, .. } => {
            format!("task {task}.{attempt} retried after {pause:?}")
        }
        Event::DeadLettered { task, .. } => format!("task {task} is a dead letter"),
        Event::Progress { task, done, total, note, .. } => {
            format!("task {task} at {done:?} of {total:?}: {note:?}")
        }
        Event::Log { worker, task, level, message, .. } => {
            format!("{level} of {worker} on {task:?}: {message}")
        }
        Event::Stderr { worker, line, .. } => format!("stderr of {worker}: {line}"),
        other => panic!("{other:?}"),
    });
    words.collect()
}

#[test]
fn a_life_is_told_in_order() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").record_events().task_events().start().unwrap();
        let events = pool.events();
        pool.submit(SAY, "a word").unwrap().wait().unwrap();
        // Standard error is another pipe, and comes when it comes.
        let mut seen = events_until(&events, |event| matches!(event, Event::Stderr { .. }));
        let stderr = seen.pop().unwrap();
        seen.extend(events.try_iter());
        assert_eq!(in_words(&[stderr]), ["stderr of 0: a word"]);
        let held = pool.submit(STAY, "held").unwrap();
        let first = wait_for_runs(&arena, "held", 1).pid;
        kill(first);
        let second = wait_for_runs(&arena, "held", 2).pid;
        arena.open("held");
        held.wait().unwrap();
        assert!(pool.shutdown(MOMENT).is_graceful());
        seen.extend(events.iter());
        let told = in_words(&seen);
        let expected = [
            "worker 0 started, 0 before it",
            "worker 0 ready",
            "task 1.1 in 0",
            "warn of 0 on Some(1): a word",
            "task 1 at Some(1.0) of Some(2.0): Some(\"a word\")",
            "task 2.1 in 0",
            "worker 0 died of Some(9)",
            "task 2.1 retried after 0ns",
            "worker 0 started, 1 before it",
            "worker 0 ready",
            "task 2.2 in 0",
        ];
        assert_eq!(told, expected);
        let pids: Vec<u32> = seen
            .iter()
            .filter_map(|event| match event {
                Event::WorkerReady { pid, .. } | Event::TaskStarted { pid, .. } => Some(*pid),
                _ => None,
            })
            .collect();
        assert_eq!(pids, [first, first, first, second, second]);
    });
}

#[test]
fn letters_and_restarts_are_told() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let policy = Policy::default().attempts(2).backoff(Duration::ZERO, Duration::ZERO);
        let pool = performers(&arena, 1, "").policy(policy).dead_letters(4).start().unwrap();
        let events = pool.events();
        assert_eq!(pool.submit(SICK, "patient").unwrap().wait().unwrap_err().kind(), TaskErrorKind::Dead);
        pool.submit(RUN, "after").unwrap().wait().unwrap();
        let seen: Vec<_> = events.try_iter().filter(|event| !matches!(event, Event::Stderr { .. })).collect();
        let told = in_words(&seen);
        for line in ["task 1.1 retried after 0ns", "task 1 is a dead letter", "worker 0 started, 2 before it"]
        {
            assert_eq!(told.iter().filter(|told| *told == line).count(), 1, "{line} in {told:#?}");
        }
        assert_eq!(told.iter().filter(|told| *told == "worker 0 died of Some(6)").count(), 2, "{told:#?}");
    });
}

#[test]
fn events_that_nobody_takes_hold_up_nothing_and_the_newest_are_kept() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).task_events().start().unwrap();
        let events = pool.events();
        let count = 3 * EVENTS_KEPT as u64;
        assert!(pool.map(SQUARE, 0..count).into_iter().all(|square| square.is_ok()));
        let numbers: Vec<u64> = events
            .try_iter()
            .filter_map(|event| match event {
                Event::TaskStarted { task, .. } => Some(task),
                _ => None,
            })
            .collect();
        assert_eq!((numbers.len(), numbers.last()), (EVENTS_KEPT, Some(&count)));
        assert!(numbers.is_sorted(), "a worker's tasks are handed out in order");
    });
}

/// How the worker dies that is doing what `submit` submits, and `end` ends it.
fn death_of<R>(pool: &Pool, submit: impl FnOnce(&Pool) -> R, end: impl FnOnce(&R)) -> Arc<Death> {
    let events = pool.events();
    let running = submit(pool);
    end(&running);
    let died = events_until(&events, |event| matches!(event, Event::WorkerDied(_))).pop();
    let Some(Event::WorkerDied(death)) = died else { panic!("{died:?}") };
    death
}

#[test]
fn a_certificate_tells_all_of_a_life_that_ended_at_work() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").policy(Policy::default().attempts(1)).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let mut error = None;
        let death = death_of(
            &pool,
            |pool| error = Some(pool.submit(EAT_AND_DIE, &(64, 700)).unwrap().wait().unwrap_err()),
            |()| (),
        );
        assert!(matches!(death.cause, Cause::Exited), "{death:?}");
        assert_eq!((death.worker, death.pid, death.signal(), death.code()), (0, Some(pid), Some(6), None));
        assert_eq!((death.task, death.attempt, death.answered, death.unanswered), (Some(2), Some(1), 1, 1));
        assert_eq!((death.rung, death.was_ready, death.state), (Rung::Asked, true, WorkerState::Busy));
        assert!(death.stderr_tail.contains("I die of too much to eat"), "{death:?}");
        assert!(death.program.contains("performer"), "{death:?}");
        let working = Duration::from_millis(700);
        assert!(death.in_state >= working && death.lifetime >= death.in_state, "{death:?}");
        assert!(death.peak_memory.is_some_and(|peak| peak > 64 << 20 && peak < 512 << 20), "{death:?}");
        // It was kept from the processor by other tests at times.
        let CpuTime { user, system } = death.cpu.unwrap();
        assert!(user + system > working / 20 && user + system < PATIENCE, "{death:?}");
        assert_ne!(death.out_of_memory, Some(true));
        let of_error = error.unwrap();
        assert_eq!(of_error.death().unwrap().pid, Some(pid));
        assert_eq!(of_error.kind(), TaskErrorKind::Dead);
    });
}

#[test]
fn a_certificate_tells_what_an_idle_worker_and_one_that_was_ended_died_of() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 1, "").start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let idle = death_of(&pool, |_| (), |()| kill(pid));
        assert_eq!((idle.pid, idle.signal(), idle.state), (Some(pid), Some(9), WorkerState::Idle));
        assert_eq!((idle.task, idle.attempt, idle.answered, idle.unanswered), (None, None, 1, 0));
        assert!(idle.cpu.is_some_and(|cpu| cpu.user + cpu.system > Duration::ZERO), "{idle:?}");
        let ended = death_of(
            &pool,
            |pool| pool.submit(STAY, "stuck").unwrap(),
            |task| {
                stop(wait_for_runs(&arena, "stuck", 1).pid);
                task.cancel();
            },
        );
        assert!(matches!(ended.cause, Cause::CancelIgnored { task: 2 }), "{ended:?}");
        assert_eq!((ended.signal(), ended.rung, ended.task), (Some(15), Rung::Terminated, Some(2)));
    });
}

/// Numbers and what depends on the machine as `N`, so that texts can be compared: "1.2ms" and "34.5 MiB" too.
fn masked(text: &str) -> String {
    const UNITS: [&str; 8] = ["ns", "µs", "ms", "s", " bytes", " KiB", " MiB", " GiB"];
    let text = text.replace(child!("performer"), "PROGRAM");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_digit() {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
        let unit = UNITS.into_iter().find(|unit| rest.strip_prefix(unit).is_some_and(is_end));
        rest = unit.map_or(rest, |unit| &rest[unit.len()..]);
        out.push_str(if unit.is_some() { "N UNIT" } else { "N" });
    }
    out
}

#[test]
fn a_death_is_explained_in_three_parts() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 1, "").policy(Policy::default().attempts(1)).start().unwrap();
        let at_work =
            death_of(&pool, |pool| pool.submit(EAT_AND_DIE, &(8, 700)).unwrap().wait().unwrap_err(), |_| ());
        let expected = "\
error: worker N (pid N, PROGRAM ) was killed by SIGABRT while doing task N
cause: it had lived for N UNIT, was busy for N UNIT; had answered N tasks and had N in hand; its memory was N UNIT at the most; it used N UNIT of processor time
       last lines on its stderr: \"I die of too much to eat\"
hint:  the task runs again on another worker if its policy allows";
        assert_eq!(masked(&at_work.explain().to_string()), expected);
        let limited = Policy::default().attempts(1).timeout(Duration::from_millis(100));
        let ended = death_of(
            &pool,
            |pool| pool.with(limited).submit(STAY, "stuck").unwrap().wait().unwrap_err(),
            |_| (),
        );
        let explained = masked(&ended.explain().to_string());
        // Whether its memory was looked at in so short a life is chance.
        let explained = explained.replace("; its memory was N UNIT at the most", "");
        let expected = "\
error: worker N (pid N, PROGRAM ) was ended, because task N took longer than N UNIT in one attempt
cause: the parent sent it SIGTERM; it had lived for N UNIT, was busy for N UNIT; had answered N tasks and had N in hand; it used N UNIT of processor time
hint:  raise the time limit, or let the handler ask whether it is cancelled";
        assert_eq!(explained, expected);
        let one_line = masked(&at_work.to_string());
        assert_eq!(
            one_line,
            "worker N (pid N, PROGRAM ) was killed by SIGABRT while doing task N; last lines on its stderr: \"I die of too much to eat\""
        );
    });
}

#[test]
fn a_subscriber_of_traces_sees_each_life_as_a_span() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let told = Aide::start(&arena, None, child!("watcher"), &["prints", child!("performer")]).finish();
        let mut spans: BTreeMap<&str, &str> = BTreeMap::new();
        let mut events: Vec<(&str, &str)> = Vec::new();
        let mut closed = 0;
        for (name, value) in told.iter().filter_map(|line| line.split_once('=')) {
            match name.split_once(' ') {
                Some(("span", id)) => drop(spans.insert(id, value)),
                Some(("in", id)) => events.push((id, value)),
                _ if name == "closed" => closed += 1,
                _ => {}
            }
        }
        let pids = told.iter().find_map(|line| line.strip_prefix("pids=")).unwrap();
        let (first, second) = pids.split_once(' ').unwrap();
        assert_eq!((spans.len(), closed), (2, 2), "{told:#?}");
        for (id, pid) in [("1", first), ("2", second)] {
            assert_eq!(spans[id], format!("stokehold worker number=0 pid={pid}"));
            let of_life: Vec<&str> =
                events.iter().filter(|(span, _)| *span == id).map(|(_, event)| *event).collect();
            assert!(
                of_life[0].starts_with("DEBUG stokehold message=worker started restarts="),
                "{of_life:#?}"
            );
            assert_eq!(of_life[1], "INFO stokehold message=worker ready");
        }
        let of_first =
            |wanted: &str| events.iter().any(|(span, event)| *span == "1" && event.starts_with(wanted));
        assert!(of_first("WARN stokehold::worker message=a word task="), "{told:#?}");
        assert!(of_first("INFO stokehold::worker message=a word"), "{told:#?}");
        assert!(of_first("WARN stokehold message=worker 0"), "{told:#?}");
        assert!(
            events.iter().any(|(_, event)| event.contains("progress") && event.contains("note=\"a word\""))
        );
    });
}

#[test]
fn a_subscriber_that_panics_breaks_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let told = Aide::start(&arena, None, child!("watcher"), &["panics", child!("performer")]).finish();
        assert_eq!(told.len(), 2, "{told:#?}");
        let (first, second) = told[0].strip_prefix("pids=").unwrap().split_once(' ').unwrap();
        assert_ne!(first, second);
        assert_eq!(told[1], "complete=true");
    });
}

#[test]
fn what_is_told_of_a_stream_is_told_of_a_task() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").task_events().start().unwrap();
        let events = pool.events();
        assert_eq!(pool.submit_stream::<u64, _, _>(DRIP, &(3, 1)).unwrap().finish().unwrap(), 3);
        let cancelled = pool.submit(LINGER, "cancelled").unwrap();
        wait_for_runs(&arena, "cancelled", 1);
        cancelled.cancel();
        assert!(cancelled.wait().is_err());
        let seen: Vec<_> = events.try_iter().collect();
        assert_eq!(in_words(&seen), ["task 1.1 in 0", "task 2.1 in 0"]);
    });
}
