//! Tasks that are cancelled, wherever they are: one outcome, and nothing happens to any other task.

use std::time::{Duration, Instant};

use stokehold::{Cause, Event, Policy, Pool, Rung, TaskErrorKind};
use stokehold_tests::{Arena, eventually, is_alive, within};

use crate::child;
use crate::performer::{
    ANSWER_ANYWAY, GRACE, LATER, LINGER, READ_AHEAD, RUN, STAY, assert_no_overlap, events_until, performers,
    pressed_performers, runs, wait_for_runs,
};
use crate::stage::{ECHO, MOMENT, PATIENCE, WHO, command, running_in, wait_for_effect};

const NEVER_RAN: TaskErrorKind = TaskErrorKind::Cancelled { may_have_run: false };
const MAY_HAVE_RUN: TaskErrorKind = TaskErrorKind::Cancelled { may_have_run: true };

#[test]
fn a_task_in_the_queue_is_cancelled_at_once_and_never_runs() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").window(1).start().unwrap();
        let first = pool.submit(STAY, "first").unwrap();
        wait_for_runs(&arena, "first", 1);
        let (queued, last) = (pool.submit(RUN, "queued").unwrap(), pool.submit(RUN, "last").unwrap());
        queued.cancel();
        queued.cancel();
        let error = queued.wait().unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.attempt(), error.worker()),
            (NEVER_RAN, "cancelled", 0, None)
        );
        assert!(!first.is_done());
        arena.open("first");
        first.wait().unwrap();
        assert_eq!(last.wait().unwrap(), 1);
        assert!(runs(&arena, "queued").is_empty());
    });
}

#[test]
fn a_running_task_is_told_and_its_worker_lives_on() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "notes TERM").start().unwrap();
        let task = pool.submit(LINGER, "slow").unwrap();
        let run = wait_for_runs(&arena, "slow", 1);
        task.cancel();
        task.cancel();
        let error = task.wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt(), error.pid()), (MAY_HAVE_RUN, 1, Some(run.pid)));
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (run.pid, 0, 1));
        assert_eq!((runs(&arena, "slow").len(), runs(&arena, "TERM").len()), (1, 0));
    });
}

#[test]
fn a_running_task_that_does_not_stop_loses_its_worker_and_its_neighbours_run_once() {
    within(PATIENCE, || {
        for (manner, rung) in [("notes TERM", Rung::Terminated), ("ignores TERM", Rung::Killed)] {
            let arena = Arena::new();
            let pool = pressed_performers(&arena, 1, manner).window(8).start().unwrap();
            let events = pool.events();
            let stuck = pool.submit(STAY, "stuck").unwrap();
            let neighbours = ["a", "b", "c"].map(|name| (name, pool.submit(RUN, name).unwrap()));
            let run = wait_for_runs(&arena, "stuck", 1);
            let begun = Instant::now();
            stuck.cancel();
            let error = stuck.wait().unwrap_err();
            assert_eq!((error.kind(), error.attempt(), error.pid()), (MAY_HAVE_RUN, 1, Some(run.pid)));
            assert!(begun.elapsed() >= GRACE && !is_alive(run.pid), "after {:?}", begun.elapsed());
            let died = events_until(&events, |event| matches!(event, Event::WorkerDied(_))).pop().unwrap();
            let Event::WorkerDied(death) = died else { panic!("{died:?}") };
            assert!(matches!(death.cause, Cause::CancelIgnored { task: 1 }), "{death:?}");
            assert_eq!((death.rung, death.task, death.attempt), (rung, Some(1), Some(1)));
            for (name, task) in neighbours {
                assert_eq!((task.wait().unwrap(), runs(&arena, name).len()), (1, 1), "{name}");
            }
            assert_eq!(runs(&arena, "stuck").len(), 1);
        }
    });
}

#[test]
fn a_task_behind_others_is_cancelled_and_hurts_none_of_them() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").window(8).start().unwrap();
        let events = pool.events();
        let first = pool.submit(READ_AHEAD, "first").unwrap();
        let tasks = ["a", "b", "c", "d"].map(|name| pool.submit(RUN, name).unwrap());
        wait_for_runs(&arena, "first", 1);
        let pids = tasks.each_ref().map(running_in);
        let [a, b, c, d] = tasks;
        for task in [&b, &c] {
            task.cancel();
        }
        // They are over while the first still runs.
        for task in [b, c] {
            assert_eq!(task.wait().unwrap_err().kind(), MAY_HAVE_RUN);
        }
        assert!(!first.is_done());
        // What was to be written before is written when this is handed over.
        let last = pool.submit(RUN, "last").unwrap();
        running_in(&last);
        arena.open("first");
        first.wait().unwrap();
        last.wait().unwrap();
        assert_eq!((a.wait().unwrap(), d.wait().unwrap()), (1, 1));
        assert_eq!(["a", "b", "c", "d"].map(|name| runs(&arena, name).len()), [1, 0, 0, 1]);
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap().0, pids[0]);
        assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))));
    });
}

#[test]
fn a_cancel_after_the_end_changes_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let task = pool.submit(RUN, "done").unwrap();
        assert!(eventually(MOMENT, || task.is_done()));
        task.cancel();
        task.cancel();
        assert_eq!(task.wait().unwrap(), 1);
        assert_eq!(pool.submit(RUN, "next").unwrap().wait().unwrap(), 1);
    });
}

#[test]
fn an_answer_that_crosses_the_cancel_is_the_outcome() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let task = pool.submit(ANSWER_ANYWAY, "crossing").unwrap();
        wait_for_runs(&arena, "crossing", 1);
        task.cancel();
        assert_eq!(task.wait().unwrap(), 1);
    });
}

#[test]
fn the_task_after_a_cancelled_one_is_untouched() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "notes TERM").window(4).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        for round in 0..40 {
            let (slow, next) = (format!("slow {round}"), format!("next {round}"));
            let cancelled = pool.submit(LINGER, slow.as_str()).unwrap();
            let after = pool.submit(RUN, next.as_str()).unwrap();
            // In the queue, at its start, or in the middle.
            if round % 2 == 0 {
                wait_for_runs(&arena, &slow, 1);
            }
            cancelled.cancel();
            assert!(matches!(cancelled.wait().unwrap_err().kind(), TaskErrorKind::Cancelled { .. }));
            assert_eq!((after.wait().unwrap(), runs(&arena, &next).len()), (1, 1));
        }
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
        assert!(runs(&arena, "TERM").is_empty());
    });
}

#[test]
fn cancels_that_race_with_answers_leave_every_task_one_outcome() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 2, "").start().unwrap();
        let names: Vec<String> = (0..400).map(|number| number.to_string()).collect();
        let mut done = 0;
        for names in names.chunks(8) {
            let tasks: Vec<_> = names.iter().map(|name| pool.submit(RUN, name.as_str()).unwrap()).collect();
            for task in tasks.iter().step_by(2) {
                task.cancel();
            }
            for (task, name) in tasks.into_iter().zip(names) {
                let ran = match task.wait() {
                    Ok(attempt) => {
                        assert_eq!(attempt, 1);
                        done += 1;
                        1..=1
                    }
                    Err(error) => match error.kind() {
                        NEVER_RAN => 0..=0,
                        MAY_HAVE_RUN => 0..=1,
                        other => panic!("{name}: {other:?}"),
                    },
                };
                assert!(
                    ran.contains(&runs(&arena, name).len()),
                    "{name} ran {} times",
                    runs(&arena, name).len()
                );
            }
        }
        assert!(done >= 200, "{done}");
    });
}

#[test]
fn a_worker_that_cannot_be_told_is_ended_at_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let command = command(&arena, child!("plain"));
        // No time is lost on a CANCEL that means nothing to it.
        let pool = Pool::builder(command).workers(1).stop_graces(PATIENCE, PATIENCE).start().unwrap();
        let events = pool.events();
        let task = pool.submit(ECHO, "stay").unwrap();
        let pid = running_in(&task);
        wait_for_effect(&arena, "stays");
        let begun = Instant::now();
        task.cancel();
        let error = task.wait().unwrap_err();
        assert_eq!((error.kind(), error.signal()), (MAY_HAVE_RUN, Some(15)));
        assert!(begun.elapsed() < MOMENT && !is_alive(pid));
        let died = events_until(&events, |event| matches!(event, Event::WorkerDied(_))).pop().unwrap();
        let Event::WorkerDied(death) = died else { panic!("{died:?}") };
        assert!(matches!(death.cause, Cause::CancelIgnored { task: 1 }), "{death:?}");
        assert_eq!(pool.submit(ECHO, "hello").unwrap().wait().unwrap(), "hello");
    });
}

#[test]
fn a_task_that_waits_for_its_next_attempt_is_cancelled_at_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let events = pool.events();
        let task = pool.submit(LATER, &("later", 3_600_000)).unwrap();
        events_until(&events, |event| matches!(event, Event::TaskRetried { task: 1, .. }));
        task.cancel();
        let error = task.wait().unwrap_err();
        assert_eq!((error.kind(), error.attempts().len()), (MAY_HAVE_RUN, 1));
        pool.submit(RUN, "after").unwrap().wait().unwrap();
        assert_eq!(runs(&arena, "later").len(), 1);
    });
}

#[test]
fn a_task_that_is_tried_again_can_be_cancelled_in_its_second_attempt() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let policy =
            Policy::default().timeout(Duration::from_millis(100)).backoff(Duration::ZERO, Duration::ZERO);
        let task = pool.with(policy.attempts(1_000)).submit(LINGER, "slow").unwrap();
        wait_for_runs(&arena, "slow", 2);
        task.cancel();
        let error = task.wait().unwrap_err();
        assert_eq!(error.kind(), MAY_HAVE_RUN);
        assert!(error.attempt() >= 2);
        assert_no_overlap(&arena);
    });
}

#[test]
fn what_is_waited_for_can_be_cancelled_from_elsewhere() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let task = pool.submit(LINGER, "slow").unwrap();
        let canceller = task.canceller();
        let waiting = std::thread::spawn(move || task.wait().unwrap_err().kind());
        wait_for_runs(&arena, "slow", 1);
        canceller.cancel();
        assert_eq!(waiting.join().unwrap(), MAY_HAVE_RUN);
        canceller.cancel();
        assert_eq!(pool.submit(RUN, "next").unwrap().wait().unwrap(), 1);
    });
}
