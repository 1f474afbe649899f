//! Dead letters: what could not be done is kept whole, can be tried again, and is never dropped: a full box lets nothing in.

use std::time::Duration;

use stokehold::{
    AttemptEnd, DeadLetter, Event, Limit, Policy, Pool, Receiver, RetryFailures, SubmitError, TaskErrorKind,
};
use stokehold_tests::{Arena, within};

use crate::performer::{LATER, LINGER, RUN, SICK, events_until, performers, runs, wait_for_runs};
use crate::stage::{MOMENT, PATIENCE, WAIT_AT};

/// A pool that keeps so many letters, with no pause between attempts.
fn keeping(arena: &Arena, letters: usize) -> Pool {
    let policy = Policy::default().backoff(Duration::from_millis(1), Duration::from_millis(1));
    performers(arena, 1, "").policy(policy).dead_letters(letters).start().unwrap()
}

fn next(letters: &Receiver<DeadLetter>) -> DeadLetter {
    letters.recv_timeout(MOMENT).unwrap()
}

#[test]
fn a_letter_has_the_input_and_the_end_of_every_attempt() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 8);
        let (events, letters) = (pool.events(), pool.dead_letters());
        let error = pool.submit(SICK, "patient").unwrap().wait().unwrap_err();
        // It lies there before the outcome is told.
        let letter = letters.try_recv().unwrap();
        assert_eq!((letter.task, letter.request()), (1, "sick"));
        assert_eq!(letter.data().decode::<String>().unwrap(), "patient");
        assert_eq!((letter.error.kind(), error.kind()), (TaskErrorKind::Dead, TaskErrorKind::Dead));
        assert_eq!(letter.error.to_string(), error.to_string());
        let (attempts, runs) = (letter.attempts(), runs(&arena, "patient"));
        assert_eq!((attempts.len(), runs.len()), (3, 3));
        for (attempt, run) in attempts.iter().zip(runs) {
            assert_eq!((attempt.number, attempt.worker, attempt.pid), (run.attempt, 0, run.pid));
            let AttemptEnd::Died(death) = &attempt.end else { panic!("{attempt}") };
            assert_eq!((death.signal(), death.pid, death.task), (Some(6), Some(run.pid), Some(1)));
            assert!(attempt.to_string().contains("SIGABRT"), "{attempt}");
        }
        let told = events_until(&events, |event| matches!(event, Event::DeadLettered { .. })).pop().unwrap();
        assert!(
            matches!(&told, Event::DeadLettered { task: 1, error } if error.kind() == TaskErrorKind::Dead),
            "{told:?}"
        );
        assert!(letters.is_empty());
    });
}

#[test]
fn a_letter_can_be_submitted_again() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 1);
        pool.submit(SICK, "patient").unwrap().detach();
        let letter = next(&pool.dead_letters());
        // It is no better: all its attempts are before it again, and it is another task.
        let error = pool.resubmit(&letter).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.task(), error.attempt()), (TaskErrorKind::Dead, 2, 3));
        let letter = next(&pool.dead_letters());
        arena.open("cured");
        assert_eq!(pool.resubmit(&letter).unwrap().wait().unwrap().decode::<u32>().unwrap(), 1);
        let once = pool.with(Policy::once()).resubmit(&letter).unwrap();
        assert_eq!(once.wait().unwrap().decode::<u32>().unwrap(), 1);
        assert_eq!(runs(&arena, "patient").len(), 8);
    });
}

#[test]
fn a_full_box_lets_nothing_in_until_a_letter_is_taken() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 2);
        let letters = pool.dead_letters();
        // They are let in before there is any letter, and their letters are not dropped.
        let tasks = ["a", "b", "c"].map(|name| pool.submit(SICK, name).unwrap());
        for task in tasks {
            assert_eq!(task.wait().unwrap_err().kind(), TaskErrorKind::Dead);
        }
        assert_eq!(letters.len(), 3);
        let refused = pool.submit(RUN, "refused").unwrap_err();
        assert!(matches!(refused, SubmitError::DeadLettersFull), "{refused}");
        assert!(refused.to_string().contains("dead letters"), "{refused}");
        assert!(matches!(pool.reserve_blocking(), Err(SubmitError::DeadLettersFull)));
        let stream = pool.submit_stream::<(), _, _>(RUN, "refused");
        assert!(matches!(stream, Err(SubmitError::DeadLettersFull)), "{stream:?}");
        assert_eq!(next(&letters).data().decode::<String>().unwrap(), "a");
        assert!(matches!(pool.submit(RUN, "refused"), Err(SubmitError::DeadLettersFull)));
        assert_eq!(next(&letters).data().decode::<String>().unwrap(), "b");
        assert_eq!(pool.submit(RUN, "let in").unwrap().wait().unwrap(), 1);
        assert_eq!(next(&letters).data().decode::<String>().unwrap(), "c");
        assert!(runs(&arena, "refused").is_empty());
    });
}

#[test]
fn a_submit_that_waits_for_room_learns_that_the_box_is_full() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let policy = Policy::default().backoff(Duration::from_millis(1), Duration::from_millis(1));
        let pool =
            performers(&arena, 1, "").policy(policy).dead_letters(1).queue(1, 1 << 20).start().unwrap();
        std::thread::scope(|scope| {
            let sick = pool.submit(SICK, "patient").unwrap();
            let waiting = scope.spawn(|| pool.submit(RUN, "waiting").map(drop));
            assert_eq!(sick.wait().unwrap_err().kind(), TaskErrorKind::Dead);
            let refused = waiting.join().unwrap();
            assert!(matches!(refused, Err(SubmitError::DeadLettersFull)), "{refused:?}");
        });
    });
}

#[test]
fn there_are_no_letters_by_default() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let letters = pool.dead_letters();
        let policy = Policy::default().attempts(1);
        for _ in 0..3 {
            assert_eq!(
                pool.with(policy).submit(SICK, "patient").unwrap().wait().unwrap_err().kind(),
                TaskErrorKind::Dead
            );
        }
        assert!(letters.is_empty());
        drop(pool);
        assert!(letters.recv_timeout(MOMENT).is_err_and(|error| error.is_disconnected()));
    });
}

#[test]
fn which_outcomes_become_letters() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 8);
        let letters = pool.dead_letters();
        let kind = |policy: Policy, name: &'static str| {
            let error = pool.with(policy).submit(LATER, &(name, 1)).unwrap().wait().unwrap_err();
            (error.kind(), letters.try_recv().ok().map(|letter| letter.attempts().len()))
        };
        // A failure that was not tried again is an answer.
        let never = Policy::default().retry_failures(RetryFailures::Never);
        assert_eq!(kind(never, "first"), (TaskErrorKind::Failed, None));
        assert_eq!(kind(Policy::default(), "again"), (TaskErrorKind::Failed, Some(3)));
        let error = pool.with(Policy::once()).submit(SICK, "once").unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::Lost);
        assert_eq!(next(&letters).attempts().len(), 1);
        let limited = Policy::default().attempts(1).timeout(Duration::from_millis(50));
        let error = pool.with(limited).submit(LINGER, "slow").unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Attempt, may_have_run: true });
        assert!(matches!(next(&letters).attempts()[0].end, AttemptEnd::TimedOut { limit: Limit::Attempt }));
        let cancelled = pool.submit(LINGER, "cancelled").unwrap();
        wait_for_runs(&arena, "cancelled", 1);
        cancelled.cancel();
        assert!(cancelled.wait().is_err());
        pool.submit(RUN, "fine").unwrap().wait().unwrap();
        assert!(letters.is_empty());
    });
}

#[test]
fn letters_outlive_their_pool() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 8);
        let letters = pool.dead_letters();
        let tasks = ["a", "b"].map(|name| pool.submit(SICK, name).unwrap());
        assert!(pool.shutdown(MOMENT).is_graceful());
        for task in tasks {
            assert_eq!(task.wait().unwrap_err().kind(), TaskErrorKind::Dead);
        }
        let names: Vec<String> = letters.iter().map(|letter| letter.data().decode().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
    });
}

#[test]
fn tasks_that_end_with_their_pool_are_no_letters() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 8);
        let letters = pool.dead_letters();
        let held = pool.submit(LINGER, "held").unwrap();
        let queued = pool.submit(WAIT_AT, "never").unwrap();
        wait_for_runs(&arena, "held", 1);
        pool.kill();
        assert_eq!(held.wait().unwrap_err().kind(), TaskErrorKind::Closed);
        assert_eq!(queued.wait().unwrap_err().kind(), TaskErrorKind::Closed);
        assert!(letters.recv_timeout(MOMENT).is_err_and(|error| error.is_disconnected()));
    });
}

#[test]
fn a_letter_keeps_the_policy_of_its_task() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 8);
        pool.with(Policy::default().attempts(1)).submit(SICK, "patient").unwrap().wait().unwrap_err();
        let error = pool.resubmit(&next(&pool.dead_letters())).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt()), (TaskErrorKind::Dead, 1));
        assert_eq!(runs(&arena, "patient").len(), 2);
    });
}

#[test]
fn a_map_has_a_result_for_every_job_also_when_the_pool_takes_no_more() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = keeping(&arena, 1);
        pool.submit(SICK, "patient").unwrap().wait().unwrap_err();
        let kinds = |results: Vec<Result<u32, stokehold::TaskError>>| {
            results.into_iter().map(|result| result.unwrap_err().kind()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(pool.map(RUN, ["a", "b", "c"])), [TaskErrorKind::Refused; 3]);
        assert_eq!(pool.map_unordered(RUN, ["a", "b", "c"]).len(), 3);
        assert_eq!(kinds(pool.imap(RUN, ["a", "b", "c"]).collect()), [TaskErrorKind::Refused]);
        drop(next(&pool.dead_letters()));
        pool.close();
        assert_eq!(kinds(pool.map(RUN, ["a", "b", "c"])), [TaskErrorKind::Closed; 3]);
        assert!(matches!(pool.submit(RUN, "d"), Err(SubmitError::Closed)));
    });
}
