//! Limits of time: of an attempt, of a task in all, between two signs of progress, of a worker's silence. Each is kept whatever the
//! handler does, none is early, and no attempt begins while the process of another lives.

use std::time::{Duration, Instant};

use stokehold::{AttemptEnd, Cause, Death, Event, Limit, Policy, Pool, Request, Rung, TaskErrorKind};
use stokehold_tests::{Arena, eventually, is_alive, stop, within};

use crate::child;
use crate::performer::{
    ANSWER_ANYWAY, DRIP, GRACE, LINGER, PROGRESS, READ_AHEAD, RUN, STAY, assert_no_overlap, events_until,
    now, performers, pressed_performers, runs, wait_for_runs,
};
use crate::stage::{ECHO, MOMENT, PATIENCE, WAIT_AT, WHO, command, honest, running_in, wait_for_effect};

const LIMIT: Duration = Duration::from_millis(200);
/// How late anything here may be on a busy machine; on an idle one it is some milliseconds.
const LATE: Duration = Duration::from_secs(1);

const TIME_LEFT: Request<(), Option<u64>> = Request::new("time_left");
const NAP: Request<u64, u64> = Request::new("nap");

const OVERRAN: TaskErrorKind = TaskErrorKind::TimedOut { limit: Limit::Attempt, may_have_run: true };

/// So many attempts of `LIMIT` each, with next to no pause in between.
fn limited(attempts: u32) -> Policy {
    Policy::default()
        .attempts(attempts)
        .timeout(LIMIT)
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
}

/// How far `at` is behind a time that was due, which it must not be before. `since` is a time before the clock was started,
/// `start` one after it.
fn lateness(what: &str, since: Duration, start: Duration, at: Duration, due: Duration) {
    let late = at.saturating_sub(start + due);
    eprintln!("{what}: {late:?} after its {due:?}");
    assert!(at >= since + due, "{what} after {:?} instead of {due:?}", at - since);
    assert!(late < LATE, "{what} {late:?} late");
}

/// The deaths in a pool's events until now.
fn deaths(events: &stokehold::Receiver<Event>) -> Vec<std::sync::Arc<Death>> {
    let deaths = events.try_iter().filter_map(|event| match event {
        Event::WorkerDied(death) => Some(death),
        _ => None,
    });
    deaths.collect()
}

#[test]
fn a_task_that_takes_too_long_is_stopped_and_a_worker_that_listens_lives_on() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "notes TERM").start().unwrap();
        let (events, (pid, ..)) = (pool.events(), pool.submit(WHO, &()).unwrap().wait().unwrap());
        let begun = now();
        let error = pool.with(limited(2)).submit(LINGER, "slow").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt(), error.code()), (OVERRAN, 2, "timeout"));
        let ends: Vec<_> =
            error.attempts().iter().map(|attempt| (attempt.number, attempt.pid, &attempt.end)).collect();
        assert!(
            matches!(
                ends[..],
                [
                    (1, first, AttemptEnd::TimedOut { limit: Limit::Attempt }),
                    (2, second, AttemptEnd::TimedOut { limit: Limit::Attempt })
                ] if (first, second) == (pid, pid)
            ),
            "{ends:?}"
        );
        let (started, told) = (runs(&arena, "slow"), runs(&arena, "slow told"));
        lateness("CANCEL", begun, started[0].at, told[0].at, LIMIT);
        lateness("CANCEL again", told[0].at, started[1].at, told[1].at, LIMIT);
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
        assert!(deaths(&events).is_empty() && runs(&arena, "TERM").is_empty());
    });
}

#[test]
fn a_worker_that_ignores_a_cancel_is_terminated() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "notes TERM").stop_graces(GRACE, MOMENT).start().unwrap();
        let events = pool.events();
        let begun = now();
        let error = pool.with(limited(2)).submit(STAY, "stuck").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt(), error.signal()), (OVERRAN, 2, Some(15)));
        let (started, terms) = (runs(&arena, "stuck"), runs(&arena, "TERM"));
        assert_eq!((started.len(), terms.len()), (2, 2));
        lateness("SIGTERM", begun, started[0].at, terms[0].at, LIMIT + GRACE);
        assert!(started[1].at >= terms[0].at && started[1].pid != started[0].pid);
        assert_no_overlap(&arena);
        let deaths = deaths(&events);
        assert_eq!(deaths.len(), 2);
        for (death, attempt) in deaths.iter().zip(1..) {
            assert!(
                matches!(death.cause, Cause::Overran { task: 1, limit: Limit::Attempt, after: LIMIT }),
                "{death:?}"
            );
            assert_eq!((death.rung, death.task, death.attempt), (Rung::Terminated, Some(1), Some(attempt)));
        }
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap().2, 1);
    });
}

#[test]
fn a_worker_that_ignores_everything_is_killed_before_the_next_attempt() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 2, "ignores TERM").start().unwrap();
        let events = pool.events();
        let begun = now();
        let task = pool.with(limited(3)).submit(STAY, "stuck").unwrap();
        // Somebody else is free all the time, and does not get it before its last worker is dead.
        let first = wait_for_runs(&arena, "stuck", 1);
        let other = pool.submit(RUN, "other").unwrap();
        assert_eq!(other.wait().unwrap(), 1);
        wait_for_runs(&arena, "stuck", 2);
        assert!(!is_alive(first.pid));
        let error = task.wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt(), error.signal()), (OVERRAN, 3, Some(9)));
        let (started, terms) = (runs(&arena, "stuck"), runs(&arena, "TERM"));
        assert_eq!((started.len(), terms.len()), (3, 3));
        lateness("SIGTERM", begun, started[0].at, terms[0].at, LIMIT + GRACE);
        lateness("the attempt after SIGKILL", begun, started[0].at, started[1].at, LIMIT + GRACE + GRACE);
        assert_no_overlap(&arena);
        let deaths = deaths(&events);
        assert_eq!(deaths.len(), 3);
        assert!(deaths.iter().all(|death| death.rung == Rung::Killed), "{deaths:?}");
    });
}

#[test]
fn a_stopped_worker_is_ended_too() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 1, "").start().unwrap();
        let events = pool.events();
        let task = pool.with(limited(1)).submit(STAY, "stuck").unwrap();
        let run = wait_for_runs(&arena, "stuck", 1);
        stop(run.pid);
        let error = task.wait().unwrap_err();
        // SIGCONT came with SIGTERM.
        assert_eq!((error.kind(), error.attempt(), error.signal()), (OVERRAN, 1, Some(15)));
        let deaths = deaths(&events);
        assert!(matches!(&deaths[..], [death] if death.rung == Rung::Terminated), "{deaths:?}");
        assert_eq!(pool.submit(RUN, "after").unwrap().wait().unwrap(), 1);
    });
}

#[test]
fn an_answer_that_comes_when_the_task_is_to_stop_counts() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        assert_eq!(pool.with(limited(3)).submit(ANSWER_ANYWAY, "late").unwrap().wait().unwrap(), 1);
        assert_eq!(runs(&arena, "late").len(), 1);
    });
}

#[test]
fn a_task_that_took_too_long_is_not_tried_again_if_its_policy_says_so() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 1, "").start().unwrap();
        for (policy, name) in
            [(limited(3).retry_timeouts(false), "stuck"), (Policy::once().timeout(LIMIT), "once")]
        {
            let error = pool.with(policy).submit(STAY, name).unwrap().wait().unwrap_err();
            assert_eq!((error.kind(), error.attempt()), (OVERRAN, 1));
            assert_eq!(runs(&arena, name).len(), 1);
        }
    });
}

#[test]
fn the_neighbours_of_a_task_that_takes_too_long_run_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 1, "ignores TERM").window(8).start().unwrap();
        let stuck = pool.with(limited(1)).submit(STAY, "stuck").unwrap();
        let names = ["a", "b", "c", "d"];
        let tasks = names.map(|name| pool.submit(RUN, name).unwrap());
        assert_eq!(stuck.wait().unwrap_err().kind(), OVERRAN);
        for (task, name) in tasks.into_iter().zip(names) {
            assert_eq!((task.wait().unwrap(), runs(&arena, name).len()), (1, 1));
        }
    });
}

#[test]
fn the_clock_of_an_attempt_stands_while_it_waits_behind_others() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).window(8).start().unwrap();
        let limit = Policy::default().attempts(1).timeout(Duration::from_millis(600));
        let naps: Vec<_> = (0..6).map(|_| pool.with(limit).submit(NAP, &150).unwrap()).collect();
        for nap in naps {
            assert_eq!(nap.wait().unwrap(), 150);
        }
    });
}

#[test]
fn an_attempt_without_progress_is_told_of_and_not_ended() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = pressed_performers(&arena, 1, "notes TERM").start().unwrap();
        let events = pool.events();
        let soft = Policy::default().soft_timeout(LIMIT);
        let begun = now();
        let task = pool.with(soft).submit(STAY, "quiet").unwrap();
        let run = wait_for_runs(&arena, "quiet", 1);
        let overdue =
            events_until(&events, |event| matches!(event, Event::TaskOverdue { .. })).pop().unwrap();
        lateness("the event", begun, run.at, now(), LIMIT);
        let Event::TaskOverdue { task: 1, worker: 0, pid, attempt: 1, limit: LIMIT } = overdue else {
            panic!("{overdue:?}");
        };
        assert_eq!(pid, run.pid);
        // Far longer than any grace.
        assert!(task.wait_timeout(GRACE * 4).is_err());
        let again = pool.with(soft).submit(STAY, "quiet again").unwrap();
        arena.open("quiet");
        events_until(&events, |event| matches!(event, Event::TaskOverdue { task: 2, .. }));
        arena.open("quiet again");
        again.wait().unwrap();
        assert!(runs(&arena, "TERM").is_empty() && deaths(&events).is_empty());
    });
}

#[test]
fn an_attempt_without_progress_may_stop_when_it_is_told() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let soft = Policy::default().attempts(1).soft_timeout(LIMIT);
        let begun = now();
        let error = pool.with(soft).submit(LINGER, "quiet").unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Soft, may_have_run: true });
        lateness("CANCEL", begun, runs(&arena, "quiet")[0].at, runs(&arena, "quiet told")[0].at, LIMIT);
        assert_eq!(pool.with(soft).submit(ANSWER_ANYWAY, "late").unwrap().wait().unwrap(), 1);
    });
}

#[test]
fn signs_of_progress_and_results_put_off_the_soft_limit_only() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 3, "").start().unwrap();
        let events = pool.events();
        let soft = Policy::default().attempts(1).soft_timeout(Duration::from_millis(500));
        let progress = pool.with(soft).submit(PROGRESS, &(14, 60)).unwrap();
        let stream = pool.with(soft).submit_stream::<u64, _, _>(DRIP, &(14, 60)).unwrap();
        let begun = Instant::now();
        let error = pool.with(limited(1)).submit(PROGRESS, &(100, 20)).unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), OVERRAN);
        assert!(begun.elapsed() >= LIMIT && begun.elapsed() < LIMIT + LATE);
        assert_eq!(progress.wait().unwrap(), 14);
        assert_eq!(stream.count(), 15);
        let overdue = events.try_iter().find(|event| matches!(event, Event::TaskOverdue { .. }));
        assert!(overdue.is_none(), "{overdue:?}");
    });
}

#[test]
fn the_limit_of_all_attempts_ends_them() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let total = LIMIT * 3;
        let policy = limited(100).total_timeout(total);
        let (begun, at) = (now(), Instant::now());
        let error = pool.with(policy).submit(LINGER, "slow").unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Total, may_have_run: true });
        assert!(at.elapsed() >= total, "after {:?}", at.elapsed());
        let (started, told) = (runs(&arena, "slow"), runs(&arena, "slow told"));
        assert!((2..=4).contains(&started.len()), "{started:?}");
        lateness("the end", begun, started[0].at, told.last().unwrap().at, total);
        // Those before were ended by their own limit.
        for (attempt, end) in error.attempts().iter().zip(1_usize..) {
            let expected = if end < started.len() { Limit::Attempt } else { Limit::Total };
            assert!(
                matches!(attempt.end, AttemptEnd::TimedOut { limit } if limit == expected),
                "{attempt:?}"
            );
        }
    });
}

#[test]
fn the_limit_of_all_attempts_counts_in_the_queue() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").window(1).start().unwrap();
        let first = pool.submit(STAY, "first").unwrap();
        wait_for_runs(&arena, "first", 1);
        let begun = Instant::now();
        let error = pool
            .with(Policy::default().total_timeout(LIMIT))
            .submit(RUN, "never")
            .unwrap()
            .wait()
            .unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Total, may_have_run: false });
        assert_eq!((error.attempt(), error.worker()), (0, None));
        assert!((LIMIT..LIMIT + LATE).contains(&begun.elapsed()), "after {:?}", begun.elapsed());
        arena.open("first");
        first.wait().unwrap();
        pool.submit(RUN, "after").unwrap().wait().unwrap();
        assert!(runs(&arena, "never").is_empty());
    });
}

#[test]
fn the_limit_of_all_attempts_counts_behind_others_and_hurts_none_of_them() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").window(8).start().unwrap();
        let events = pool.events();
        let first = pool.submit(READ_AHEAD, "first").unwrap();
        let late = pool.with(Policy::default().total_timeout(LIMIT)).submit(RUN, "never").unwrap();
        let begun = Instant::now();
        let error = late.wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Total, may_have_run: true });
        assert!(begun.elapsed() < LIMIT + LATE);
        let last = pool.submit(RUN, "last").unwrap();
        // What was to be written before is written when this is handed over.
        running_in(&last);
        arena.open("first");
        first.wait().unwrap();
        assert_eq!(last.wait().unwrap(), 1);
        assert!(runs(&arena, "never").is_empty(), "it was told before it began");
        assert!(deaths(&events).is_empty());
    });
}

#[test]
fn a_handler_is_told_its_deadline() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let (long, short) = (Duration::from_secs(3600), Duration::from_secs(60));
        let left = |policy: Policy| pool.with(policy).submit(TIME_LEFT, &()).unwrap().wait().unwrap();
        let within_short = |left: Option<u64>| left.is_some_and(|left| (30_000..=60_000).contains(&left));
        assert_eq!(left(Policy::default()), None);
        assert!(within_short(left(Policy::default().timeout(short))));
        assert!(within_short(left(Policy::default().total_timeout(short))));
        assert!(within_short(left(Policy::default().timeout(short).total_timeout(long))));
        assert!(within_short(left(Policy::default().timeout(long).total_timeout(short))));
    });
}

#[test]
fn a_worker_without_a_sign_of_life_is_killed() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let silence = Duration::from_millis(600);
        let pool = performers(&arena, 1, "").heartbeat(silence).start().unwrap();
        let events = pool.events();
        let task = pool.submit(STAY, "stuck").unwrap();
        let run = wait_for_runs(&arena, "stuck", 1);
        stop(run.pid);
        let stopped = now();
        let second = wait_for_runs(&arena, "stuck", 2);
        // It may have been asked, and have answered, just before.
        lateness("the next attempt", run.at, stopped, second.at, silence);
        let deaths = deaths(&events);
        assert!(
            matches!(&deaths[..], [death] if matches!(death.cause, Cause::Silent(limit) if limit == silence)),
            "{deaths:?}"
        );
        arena.open("stuck");
        task.wait().unwrap();
        assert_no_overlap(&arena);
    });
}

#[test]
fn a_worker_that_is_busy_for_long_gives_signs_of_life() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let silence = Duration::from_millis(500);
        let pool = honest(&arena, 1).heartbeat(silence).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let nap = pool.submit(NAP, &1_500).unwrap();
        assert_eq!(nap.wait().unwrap(), 1_500);
        // An idle one is not asked for any.
        let held = pool.submit(WAIT_AT, "gate").unwrap();
        wait_for_effect(&arena, "at gate");
        assert!(held.wait_timeout(silence * 2).is_err_and(|held| {
            arena.open("gate");
            held.wait().unwrap() == (pid, 0, 1)
        }));
    });
}

#[test]
fn a_worker_that_is_idle_need_not_give_signs_of_life() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let silence = Duration::from_millis(100);
        let pool = honest(&arena, 2).heartbeat(silence).start().unwrap();
        let events = pool.events();
        let (pid, slot, _) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        stop(pid);
        // The other one works meanwhile, for far longer than the silence.
        let begun = Instant::now();
        assert!(eventually(MOMENT, || begun.elapsed() > silence * 5));
        assert!(deaths(&events).is_empty(), "worker {slot} was killed");
    });
}

#[test]
fn a_worker_that_stops_inside_a_frame_is_killed() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let limit = Duration::from_millis(250);
        let command = command(&arena, child!("halfway"));
        let pool = Pool::builder(command).workers(1).frame_timeout(limit).start().unwrap();
        let events = pool.events();
        let begun = Instant::now();
        assert_eq!(pool.submit(ECHO, "whole").unwrap().wait().unwrap(), "whole");
        assert!((limit..limit + LATE).contains(&begun.elapsed()), "after {:?}", begun.elapsed());
        let deaths = deaths(&events);
        assert!(
            matches!(&deaths[..], [death] if matches!(death.cause, Cause::SlowFrame(after) if after == limit)),
            "{deaths:?}"
        );
    });
}
