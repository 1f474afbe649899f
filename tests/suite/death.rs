//! Workers that die or break the protocol while they have work. The oracle everywhere: every task has exactly one outcome, the
//! effects show who ran how often, the pool is usable afterwards, and the arena is empty at the end.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Serialize;
use stokehold::{Cause, Event, Policy, Pool, Request, TaskError, TaskErrorKind};
use stokehold_protocol::PeerError;
use stokehold_tests::{Arena, eventually, is_alive, kill, within};

use crate::child;
use crate::stage::{
    ECHO, Events, MOMENT, Overseer, PATIENCE, SQUARE, WAIT_AT, WHO, command, events, honest, running_in,
    wait_for_effect, wait_for_event,
};

#[derive(Clone, Debug, Serialize)]
struct Mortal<'a> {
    name: &'a str,
    how: &'a str,
    until: u32,
}

const WORK: Request<Mortal<'_>, (String, u32)> = Request::DO;

impl<'a> Mortal<'a> {
    fn fine(name: &'a str) -> Self {
        Self { name, how: "", until: 0 }
    }
}

fn mortals(arena: &Arena, workers: usize) -> Pool {
    Pool::builder(command(arena, child!("mortal"))).workers(workers).window(8).start().unwrap()
}

/// A pool of one worker, the child of that name, which misbehaves once.
fn one(arena: &Arena, program: &str, arguments: &[&str]) -> Pool {
    Pool::builder(command(arena, program).args(arguments)).workers(1).start().unwrap()
}

fn protocol_error(events: &impl Events) -> PeerError {
    wait_for_event(events, |event| match event {
        Event::WorkerDied(death) => match &death.cause {
            Cause::Protocol(error) => Some(PeerError::clone(error)),
            other => panic!("another cause: {other:?}"),
        },
        _ => None,
    })
}

#[test]
fn a_task_whose_worker_is_killed_runs_again_elsewhere() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let events = events(&pool);
        let task = pool.submit(WAIT_AT, "gate").unwrap();
        wait_for_effect(&arena, "at gate");
        let victim = running_in(&task);
        kill(victim);
        let (number, attempt, signal) = wait_for_event(&events, |event| match event {
            Event::TaskRetried { task, attempt, death, .. } => {
                Some((*task, *attempt, death.as_ref()?.signal()))
            }
            _ => None,
        });
        assert_eq!((number, attempt, signal), (1, 1, Some(9)));
        arena.open("gate");
        let (pid, _, attempt) = task.wait().unwrap();
        assert_ne!(pid, victim);
        assert_eq!((attempt, arena.count("at gate")), (2, 2));
    });
}

#[test]
fn the_neighbours_in_a_dead_workers_window_run_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = mortals(&arena, 1);
        let names = ["0", "1", "2", "3", "4", "5", "6", "7"];
        let jobs = names.map(|name| Mortal { name, how: "kill", until: u32::from(name == "5") });
        let tasks = jobs.map(|job| pool.submit(WORK, &job).unwrap());
        for (task, name) in tasks.into_iter().zip(names) {
            assert_eq!(task.wait().unwrap(), (name.to_owned(), 1 + u32::from(name == "5")));
            assert_eq!(arena.count(name), 1 + usize::from(name == "5"), "{name}");
        }
    });
}

#[test]
fn a_poisonous_task_is_dead_after_three_attempts_and_says_everything() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = mortals(&arena, 1);
        let names = ["0", "1", "2", "3", "poison", "5", "6", "7"];
        let jobs =
            names.map(|name| Mortal { name, how: "kill", until: if name == "poison" { 99 } else { 0 } });
        let mut tasks: Vec<_> = jobs.iter().map(|job| pool.submit(WORK, job).unwrap()).collect();
        let error = tasks.remove(4).wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Dead, "crashed"));
        assert_eq!((error.task(), error.attempt(), error.worker()), (5, 3, Some(0)));
        assert_eq!((error.signal(), error.exit_code()), (Some(9), None));
        assert!(error.stderr_tail().contains("poison ends me by kill"), "{:?}", error.stderr_tail());
        let pid = error.pid().unwrap().to_string();
        let text = error.to_string();
        for part in ["task 5", "worker 0", &pid, "3 times", "SIGKILL", "poison ends me by kill", "mortal"] {
            assert!(text.contains(part), "no {part:?} in {text:?}");
        }
        for task in tasks {
            assert_eq!(task.wait().unwrap().1, 1);
        }
        assert_eq!(arena.count("poison"), 3);
        assert!(names.iter().filter(|name| **name != "poison").all(|name| arena.count(name) == 1));
    });
}

#[test]
fn a_poisonous_task_is_found_among_the_tasks_of_a_worker_that_does_not_work_in_order() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("picky"))).workers(1).window(8).start().unwrap();
        pool.submit(ECHO, "first").unwrap().wait().unwrap();
        let names = ["a", "b", "c", "d", "poison", "e", "f", "g"];
        let tasks = names.map(|name| pool.submit(ECHO, name).unwrap());
        for (task, name) in tasks.into_iter().zip(names) {
            match task.wait() {
                Ok(answer) => assert_eq!(answer, name),
                Err(error) => {
                    assert_eq!((name, error.kind()), ("poison", TaskErrorKind::Dead));
                    assert_eq!(error.signal(), Some(6));
                }
            }
            let runs = arena.count(name);
            assert!(
                if name == "poison" { (3..=4).contains(&runs) } else { runs <= 2 },
                "{name} ran {runs} times"
            );
        }
        assert_eq!(pool.submit(ECHO, "last").unwrap().wait().unwrap(), "last");
    });
}

#[test]
fn a_panic_is_a_failure_with_a_backtrace_and_the_worker_lives() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let panic: Request<str, ()> = Request::new("panic");
        let error = pool.submit(panic, "out of cheese").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code(), error.pid()), (TaskErrorKind::Failed, "error", Some(pid)));
        assert!(
            error.message().contains("out of cheese") && error.message().contains("honest.rs"),
            "{error}"
        );
        assert!(error.backtrace().is_some_and(|trace| trace.contains("honest")), "{:?}", error.backtrace());
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
    });
}

#[test]
fn each_way_to_die_is_its_own_cause() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = mortals(&arena, 1);
        pool.submit(WORK, &Mortal::fine("first")).unwrap().wait().unwrap();
        let only_once = pool.with(Policy::default().attempts(1));
        let ways = [
            ("abort", None, Some(6), "SIGABRT"),
            ("exit 0", Some(0), None, "code 0"),
            ("exit 3", Some(3), None, "code 3"),
            ("segfault", None, Some(11), "SIGSEGV"),
            ("kill", None, Some(9), "SIGKILL"),
        ];
        for (how, code, signal, words) in ways {
            let job = Mortal { name: how, how, until: 9 };
            let error = only_once.submit(WORK, &job).unwrap().wait().unwrap_err();
            assert_eq!((error.kind(), error.attempt()), (TaskErrorKind::Dead, 1), "{error}");
            assert_eq!((error.exit_code(), error.signal()), (code, signal), "{error}");
            assert!(matches!(error.death().map(|death| &death.cause), Some(Cause::Exited)), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.stderr_tail().contains(how), "{error}");
            assert_eq!(pool.submit(WORK, &Mortal::fine(how)).unwrap().wait().unwrap().1, 1);
        }
    });
}

#[test]
fn a_worker_that_gives_up_for_good_breaks_the_pool_with_its_last_words() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = mortals(&arena, 1);
        let jobs = [Mortal { name: "last", how: "exit 125", until: 9 }, Mortal::fine("never")];
        let results = jobs.map(|job| pool.submit(WORK, &job).unwrap()).map(stokehold::Task::wait);
        let [Err(last), Err(never)] = results else { panic!("{results:?}") };
        for error in [&last, &never] {
            assert_eq!(error.kind(), TaskErrorKind::Broken, "{error}");
            assert!(error.to_string().contains("last ends me by exit 125"), "{error}");
        }
        let error = pool.submit(WORK, &Mortal::fine("late")).unwrap_err();
        assert!(matches!(error, stokehold::SubmitError::Broken(_)), "{error:?}");
        assert!(arena.survivors().is_empty());
    });
}

/// Kills a worker every 20 ms until `stop` closes. Gives how many.
fn storm(arena: &Arena, events: &impl Events, stop: &mpsc::Receiver<()>) -> usize {
    // Those that were ready before anybody listened are no event.
    let mut alive: BTreeSet<u32> = arena.survivors().into_iter().collect();
    let mut killed = 0;
    while stop.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        while let Some(event) = events.next(Duration::ZERO) {
            match event {
                Event::WorkerReady { pid, .. } => drop(alive.insert(pid)),
                Event::WorkerDied(death) => drop(death.pid.map(|pid| alive.remove(&pid))),
                _ => {}
            }
        }
        // Now one end of the set, now the other, so that both slots get their share.
        let victim = if killed % 2 == 0 { alive.pop_first() } else { alive.pop_last() };
        if let Some(pid) = victim {
            kill(pid);
            killed += 1;
        }
    }
    killed
}

#[test]
fn a_storm_of_kills_loses_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let nap: Request<u64, u64> = Request::new("nap");
        let events = events(&pool);
        let (stop, stopped) = mpsc::channel();
        std::thread::scope(|scope| {
            let killer = scope.spawn({
                let arena = &arena;
                move || storm(arena, &events, &stopped)
            });
            let tasks: Vec<_> = (0..300).map(|_| pool.submit(nap, &3).unwrap()).collect();
            for task in tasks {
                match task.wait() {
                    Ok(napped) => assert_eq!(napped, 3),
                    Err(error) => {
                        assert_eq!((error.kind(), error.attempt()), (TaskErrorKind::Dead, 3), "{error}")
                    }
                }
            }
            drop(stop);
            assert!(killer.join().unwrap() > 3, "the storm was none");
        });
        assert_eq!(pool.submit(SQUARE, &5).unwrap().wait().unwrap(), 25);
    });
}

#[test]
fn an_answer_written_before_the_exit_counts() {
    within(PATIENCE, || {
        let arena = Arena::new();
        // One worker: a task that reaches a process on its way out costs an attempt, and is then the next one's first. With
        // two, bad luck may bring it to three such processes in a row.
        let pool = one(&arena, child!("parting"), &[]);
        let words: Vec<String> = (0..40).map(|n| format!("word {n}")).collect();
        let answers =
            pool.map(ECHO, words.clone()).into_iter().collect::<Result<Vec<_>, TaskError>>().unwrap();
        assert_eq!(answers, words);
        drop(pool);
        assert_eq!(arena.count("runs"), 40, "an answered task ran again");
    });
}

#[test]
fn a_worker_that_closes_its_output_is_replaced_and_its_task_runs_again() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("mute"), &[]);
        let events = events(&pool);
        assert_eq!(pool.submit(ECHO, "hello").unwrap().wait().unwrap(), "hello");
        assert_eq!(arena.count("mute"), 1);
        let cause = wait_for_event(&events, |event| match event {
            Event::WorkerDied(death) => Some(death.cause.clone()),
            _ => None,
        });
        assert!(matches!(cause, Cause::ClosedOutput), "{cause:?}");
    });
}

#[test]
fn a_worker_that_closes_its_input_is_replaced_and_its_task_runs_again() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("deaf"), &[]);
        let events = events(&pool);
        for word in ["heard", "not heard", "heard again"] {
            assert_eq!(pool.submit(ECHO, word).unwrap().wait().unwrap(), word);
        }
        let cause = wait_for_event(&events, |event| match event {
            Event::WorkerDied(death) => Some(death.cause.clone()),
            _ => None,
        });
        assert!(matches!(cause, Cause::ClosedInput), "{cause:?}");
    });
}

#[test]
fn a_worker_that_closes_its_input_unread_is_replaced_and_its_task_keeps_its_attempt() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("deaf"), &["unread"]);
        let events = events(&pool);
        let task = pool.submit(ECHO, "not heard").unwrap();
        running_in(&task);
        arena.open("close");
        assert_eq!(task.wait_timeout(MOMENT).expect("its task hangs").unwrap(), "not heard");
        let cause = wait_for_event(&events, |event| match event {
            Event::WorkerDied(death) => Some(death.cause.clone()),
            _ => None,
        });
        assert!(matches!(cause, Cause::ClosedInput), "{cause:?}");
        // Nobody had begun the task, so that its first attempt was the honest one.
        let retried = std::iter::from_fn(|| events.next(Duration::ZERO))
            .any(|event| matches!(event, Event::TaskRetried { .. }));
        assert!(!retried, "an attempt was counted that never began");
    });
}

#[test]
fn a_worker_that_left_its_process_group_and_breaks_the_protocol_is_killed_all_the_same() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("fugitive"), &["garbage"]);
        let events = events(&pool);
        let task = pool.submit(ECHO, "hello").unwrap();
        let fugitive = running_in(&task);
        assert_eq!(task.wait_timeout(MOMENT).expect("its task hangs").unwrap(), "hello");
        assert!(matches!(protocol_error(&events), PeerError::Frame(_)));
        assert!(!is_alive(fugitive) && arena.count("fled") == 1, "{:?}", arena.effects());
        let begun = Instant::now();
        let report = pool.shutdown(MOMENT);
        assert!(report.complete && report.is_graceful(), "{report:?}");
        assert!(begun.elapsed() < MOMENT, "{report:?}");
    });
}

#[test]
fn garbage_after_a_thousand_good_frames_costs_one_worker_and_no_task() {
    within(PATIENCE, || {
        for (kind, quoted) in
            [("text", "\"warning: rare branch taken"), ("bytes", "de ad be ef"), ("message", "")]
        {
            let arena = Arena::new();
            let pool = one(&arena, child!("garbler"), &["1000", kind]);
            let events = events(&pool);
            let words: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
            let answers =
                pool.map(ECHO, words.clone()).into_iter().collect::<Result<Vec<_>, TaskError>>().unwrap();
            assert_eq!(answers, words);
            let error = protocol_error(&events);
            assert!(matches!(error, PeerError::Frame(_) | PeerError::BadMessage { .. }), "{error:?}");
            assert!(error.to_string().contains(quoted), "{error}");
        }
    });
}

#[test]
fn of_two_answers_the_first_counts() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("double_answer"), &[]);
        let events = events(&pool);
        for word in ["first", "second", "third"] {
            assert_eq!(pool.submit(ECHO, word).unwrap().wait().unwrap(), word);
        }
        let error = protocol_error(&events);
        assert!(matches!(error, PeerError::UnknownId { request: "FINISHED", .. }), "{error:?}");
    });
}

#[test]
fn an_answer_to_a_task_it_never_had_costs_the_worker_and_no_task() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("stranger"), &[]);
        let events = events(&pool);
        for word in ["first", "second"] {
            assert_eq!(pool.submit(ECHO, word).unwrap().wait().unwrap(), word);
        }
        let error = protocol_error(&events);
        assert!(matches!(error, PeerError::UnknownId { id: 4_000_000_000, .. }), "{error:?}");
    });
}

#[test]
fn a_part_of_an_answer_is_none() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("truncator"), &[]);
        let text = "a text that is cut at its last byte".repeat(100);
        assert_eq!(pool.submit(ECHO, &text).unwrap().wait().unwrap(), text);
        drop(pool);
        assert_eq!(arena.count("runs"), 2);
    });
}

#[test]
fn a_flood_on_stderr_neither_blocks_the_worker_nor_fills_the_parent() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let overseer = Overseer::run(&arena, "read once", 1, &[child!("flooder")]);
        assert_eq!(overseer.number("bytes"), 1_600 * 65_536);
        assert_eq!(overseer.fact("graceful"), "true");
        let peak = overseer.number("peak_memory");
        assert!(peak < 48 << 20, "{peak} bytes for a flood that is thrown away");
        overseer.assert_nothing_left();
    });
}

#[test]
fn the_last_words_of_a_flood_are_kept_and_every_line_is_told() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("flooder"), &[]);
        let events = events(&pool);
        let flood: Request<(), u64> = Request::DO;
        let task = pool.submit(flood, &()).unwrap();
        task.wait().unwrap();
        wait_for_event(&events, |event| match event {
            Event::Stderr { worker: 0, line, .. } if line == "the end of it" => Some(()),
            Event::Stderr { line, .. } => {
                assert!(line.len() <= 8 * 1024);
                None
            }
            _ => None,
        });
    });
}

#[test]
fn a_worker_that_never_stops_writing_disturbs_nobody_else() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let overseer = Overseer::run(&arena, "with news", 2, &[child!("sender_of_news")]);
        let peak = overseer.number("peak_memory");
        assert!(peak < 48 << 20, "{peak} bytes for frames that nobody asked for");
        overseer.assert_nothing_left();
    });
}

#[test]
fn a_grandchild_that_holds_the_output_delays_nothing_and_is_killed() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, child!("heir"), &[]);
        let begun = Instant::now();
        assert_eq!(pool.submit(ECHO, "hello").unwrap().wait().unwrap(), "hello");
        assert!(begun.elapsed() < MOMENT, "the answer took {:?}", begun.elapsed());
        // The worker that lives, and not the sleeper of the one that died.
        assert!(eventually(MOMENT, || arena.survivors().len() == 1), "{:?}", arena.survivors());
    });
}
