//! Tiny tasks of one call, which travel many to a frame: each has its own outcome all the same, whatever becomes of those beside
//! it. The oracle everywhere: one result for every job, the right one, and what the workers noted of the special ones.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stokehold::{
    AttemptEnd, Completed, Event, Limit, Order, Policy, Pool, PoolBuilder, Request, RetryFailures, TaskError,
    TaskErrorKind, TaskStatus, TrySubmitError,
};
use stokehold_tests::{Arena, eventually, kill, within};

use crate::child;
use crate::performer::{runs, wait_for_runs};
use crate::stage::{MOMENT, PATIENCE, command};

/// A number, and what is special about it; answered with the square and one, and with the attempt.
const GRIND: Request<Job, Answer> = Request::DO;

type Job = (u64, &'static str);

/// How many there are.
const MANY: u64 = 20_000;

type Answer = (u64, u32);
type Results = Vec<Result<Answer, TaskError>>;

/// So many attempts, and next to nothing between them.
fn attempts(count: u32) -> Policy {
    Policy::default().attempts(count).backoff(Duration::from_millis(1), Duration::from_millis(1))
}

/// A pool of so many grinders, to be started.
fn grinders(arena: &Arena, workers: usize) -> PoolBuilder {
    Pool::builder(command(arena, child!("grinder"))).workers(workers).policy(attempts(3))
}

/// The jobs from 0 on, of which those are special.
fn jobs(special: &[Job]) -> impl Iterator<Item = Job> + use<> {
    let special: BTreeMap<_, _> = special.iter().copied().collect();
    (0..MANY).map(move |number| (number, special.get(&number).copied().unwrap_or_default()))
}

fn answer(number: u64) -> u64 {
    number * number + 1
}

/// Sends all jobs through a channel, from a thread of its own; gives the results by the places of their jobs.
fn through_a_channel(pool: &Pool, order: Order, special: &[Job]) -> Results {
    let (sender, mut results) = pool.channel(GRIND, order);
    thread::scope(|scope| {
        scope.spawn(move || jobs(special).for_each(|job| sender.send(&job).unwrap()));
        let mut all: Vec<_> = (0..MANY).map(|_| None).collect();
        let mut next = 0;
        while let Some(Completed { index, result, .. }) = results.recv() {
            assert!(order == Order::Completion || index == next, "{index} came for {next}");
            assert!(all[index as usize].replace(result).is_none(), "{index} has two results");
            next += 1;
        }
        assert_eq!(next, MANY);
        all.into_iter().map(Option::unwrap).collect()
    })
}

/// A call for all jobs at once.
type Way = fn(&Pool, &[Job]) -> Results;

const BY_MAP: Way = |pool, special| pool.map(GRIND, jobs(special));
const IN_ORDER: Way = |pool, special| through_a_channel(pool, Order::Input, special);
const AS_DONE: Way = |pool, special| through_a_channel(pool, Order::Completion, special);

/// All that are not special have the right answer; gives the results of those that are.
fn assert_the_others_are_right(results: Results, special: &[Job]) -> Results {
    assert_eq!(results.len() as u64, MANY);
    let mut of_special = Vec::new();
    for (number, result) in (0..).zip(results) {
        if special.iter().any(|(of, _)| *of == number) {
            of_special.push(result);
        } else {
            assert_eq!(result.unwrap().0, answer(number));
        }
    }
    of_special
}

/// The end of a deadly job with so many lives: it ran as often, and once more for each time that others could have been to blame.
/// Its attempts are those runs, and those in which it was in the frame of another deadly one.
fn assert_dead(arena: &Arena, error: &TaskError, number: u64, fate: &str, lives: usize) {
    let signal = if fate == "abort" { 6 } else { 9 };
    let runs = runs(arena, &format!("{fate} {number}"));
    assert_eq!((error.kind(), error.task()), (TaskErrorKind::Dead, number + 1), "{error}");
    assert!((lives..=lives + 2).contains(&runs.len()), "{fate} {number} ran {} times of {lives}", runs.len());
    for attempt in error.attempts() {
        let AttemptEnd::Died(death) = &attempt.end else { panic!("{attempt}") };
        assert_eq!((Some(attempt.pid), death.signal()), (death.pid, Some(signal)), "{attempt}");
    }
    let pids: BTreeSet<u32> = error.attempts().iter().map(|attempt| attempt.pid).collect();
    assert!(runs.iter().all(|run| pids.contains(&run.pid)), "{runs:?} are not in {pids:?}");
}

#[test]
fn a_deadly_one_among_many_dies_as_often_as_it_may_and_alone() {
    within(PATIENCE, || {
        for (way, fate, lives) in [(BY_MAP, "abort", 3), (IN_ORDER, "kill", 1), (AS_DONE, "abort", 2)] {
            let arena = Arena::new();
            let pool = grinders(&arena, 2).policy(attempts(lives)).dead_letters(8).start().unwrap();
            let letters = pool.dead_letters();
            let special = [(12_345, fate)];
            let error = assert_the_others_are_right(way(&pool, &special), &special).remove(0).unwrap_err();
            assert_dead(&arena, &error, 12_345, fate, lives as usize);
            let letter = letters.try_recv().unwrap();
            assert_eq!(
                (letter.task, letter.request(), letter.error.kind()),
                (12_346, "DO", TaskErrorKind::Dead)
            );
            assert_eq!(letter.data().decode::<(u64, String)>().unwrap(), (12_345, fate.to_owned()));
            assert_eq!(letter.attempts().len(), error.attempts().len());
            assert!(letters.is_empty());
        }
    });
}

#[test]
fn several_deadly_ones_each_die_by_themselves() {
    within(PATIENCE, || {
        for way in [BY_MAP, AS_DONE] {
            let arena = Arena::new();
            let pool = grinders(&arena, 2).policy(attempts(2)).dead_letters(16).start().unwrap();
            // Some by themselves, some side by side, and the last of all.
            let special = [100, 7_000, 7_001, 7_002, 7_010, 15_000, MANY - 1].map(|number| (number, "abort"));
            let dead = assert_the_others_are_right(way(&pool, &special), &special);
            for ((number, fate), result) in special.into_iter().zip(dead) {
                assert_dead(&arena, &result.unwrap_err(), number, fate, 2);
            }
            let letters: BTreeSet<u64> =
                pool.dead_letters().try_iter().map(|letter| letter.task - 1).collect();
            assert_eq!(letters, special.map(|(number, _)| number).into());
            assert!(arena.count("in company") > 0, "they never travelled with others");
        }
    });
}

#[test]
fn one_that_fails_or_panics_among_many_fails_alone_and_costs_no_worker() {
    within(PATIENCE, || {
        for way in [BY_MAP, IN_ORDER, AS_DONE] {
            let arena = Arena::new();
            let pool = grinders(&arena, 2).start().unwrap();
            let events = pool.events();
            let fates = ["fail", "panic", "panic", "fail"];
            let numbers = [0, 9_000, 9_001, MANY - 1];
            let special: Vec<_> = numbers.into_iter().zip(fates).collect();
            let failed = assert_the_others_are_right(way(&pool, &special), &special);
            for ((number, fate), result) in special.into_iter().zip(failed) {
                let error = result.unwrap_err();
                assert_eq!(
                    (error.kind(), error.task(), error.attempt()),
                    (TaskErrorKind::Failed, number + 1, 1)
                );
                assert_eq!(error.code(), if fate == "fail" { "acme.sour" } else { "error" });
                assert!(error.message().contains(&number.to_string()), "{error}");
                let data = error.data().map(|data| data.decode::<u64>().unwrap());
                assert_eq!(data, (fate == "fail").then_some(number));
                assert_eq!(error.backtrace().is_some(), fate == "panic");
                assert_eq!(runs(&arena, &format!("{fate} {number}")).len(), 1);
            }
            assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))), "a worker died");
        }
    });
}

#[test]
fn one_that_fails_among_many_is_tried_again_as_its_policy_says() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let policy = attempts(2).retry_failures(RetryFailures::Always);
        let pool = grinders(&arena, 2).policy(policy).start().unwrap();
        let special = [(8_000, "fail"), (9_000, "fail once"), (9_001, "fail once")];
        let mut results = assert_the_others_are_right(BY_MAP(&pool, &special), &special).into_iter();
        let error = results.next().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.attempt()), (TaskErrorKind::Failed, 2));
        for number in [9_000, 9_001] {
            assert_eq!(results.next().unwrap().unwrap(), (answer(number), 2));
        }
        assert_eq!(runs(&arena, "fail 8000").len(), 2);
    });
}

#[test]
fn kills_from_outside_again_and_again_lose_nothing_and_double_nothing() {
    within(PATIENCE, || {
        for order in [Order::Input, Order::Completion] {
            let arena = Arena::new();
            let pool = grinders(&arena, 2).policy(attempts(20)).start().unwrap();
            let (sender, mut results) = pool.channel(GRIND, order);
            thread::scope(|scope| {
                scope.spawn(move || jobs(&[]).for_each(|job| sender.send(&job).unwrap()));
                let (mut missing, mut killed): (BTreeSet<u64>, _) = ((0..MANY).collect(), BTreeSet::new());
                while let Some(completed) = results.recv() {
                    let pid = completed.answered_by.unwrap().pid;
                    take(completed, &mut missing);
                    // Whoever gave this answer is most likely in the middle of the next frame.
                    if missing.len() % 1_000 == 0 {
                        kill(pid);
                        killed.insert(pid);
                    }
                }
                assert!(missing.is_empty());
                assert!(killed.len() > 5, "only {killed:?} were killed");
            });
        }
    });
}

#[test]
fn kills_of_all_workers_in_the_middle_of_a_map_lose_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).policy(attempts(20)).record_events().start().unwrap();
        let events = pool.events();
        let (mut alive, mut kills) = (BTreeSet::new(), 0);
        // A job is taken when there is room for it, so that workers die at the pace of their answers. One that is not ready is
        // spared: a pool whose workers never are breaks.
        let jobs = jobs(&[]).inspect(|(number, _)| {
            if number % 1_000 == 999 {
                for event in events.try_iter() {
                    match event {
                        Event::WorkerReady { pid, .. } => drop(alive.insert(pid)),
                        Event::WorkerDied(death) => drop(death.pid.map(|pid| alive.remove(&pid))),
                        _ => {}
                    }
                }
                kills += alive.len();
                std::mem::take(&mut alive).into_iter().for_each(kill);
            }
        });
        assert_the_others_are_right(pool.map(GRIND, jobs), &[]);
        assert!(kills > 5, "only {kills} were killed");
    });
}

/// Takes a right result of a job that had none yet.
fn take(completed: Completed<Answer>, missing: &mut BTreeSet<u64>) {
    assert_eq!(completed.result.unwrap().0, answer(completed.index));
    assert!(missing.remove(&completed.index), "{} has two results", completed.index);
}

#[test]
fn a_slow_one_among_many_holds_up_only_what_its_worker_holds() {
    /// In frames that its worker holds, at most: half of what is between both ends.
    const HELD: usize = 4_096;
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        let (sender, mut results) = pool.channel(GRIND, Order::Completion);
        let slow = 10_000;
        thread::scope(|scope| {
            scope.spawn(move || jobs(&[(slow, "wait")]).for_each(|job| sender.send(&job).unwrap()));
            let mut missing: BTreeSet<u64> = (0..MANY).collect();
            // As long as it waits, all before it come, those in its own frame too, and all others but for few.
            let is_alone = eventually(MOMENT, || {
                while let Some(completed) = results.try_recv() {
                    take(completed, &mut missing);
                }
                missing.len() <= HELD && missing.first() == Some(&slow)
            });
            assert!(is_alone, "{} are missing, the first is {:?}", missing.len(), missing.first());
            assert!(missing.contains(&slow));
            assert_eq!(runs(&arena, "wait 10000").len(), 1);
            arena.open("gate 10000");
            while let Some(completed) = results.recv() {
                take(completed, &mut missing);
            }
            assert!(missing.is_empty());
        });
    });
}

#[test]
fn nothing_tiny_is_put_behind_a_task_that_has_become_long() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        // Both workers are known to be quick.
        assert_the_others_are_right(BY_MAP(&pool, &[]), &[]);
        let long = pool.submit(GRIND, &(7, "wait")).unwrap();
        wait_for_runs(&arena, "wait 7", 1);
        // It takes longer than anything that its worker was given ahead of time.
        let begun = Instant::now();
        assert!(eventually(MOMENT, || begun.elapsed() > Duration::from_millis(20)));
        for way in [BY_MAP, IN_ORDER, AS_DONE] {
            assert_the_others_are_right(way(&pool, &[]), &[]);
        }
        let handles: Vec<_> = (0..2_000).map(|number| pool.submit(GRIND, &(number, "")).unwrap()).collect();
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.wait().unwrap().0, answer(number));
        }
        assert!(!long.is_done());
        arena.open("gate 7");
        assert_eq!(long.wait().unwrap().0, answer(7));
    });
}

#[test]
fn a_cancel_beside_many_stops_the_one_that_it_means() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).stop_graces(MOMENT, MOMENT).start().unwrap();
        let events = pool.events();
        thread::scope(|scope| {
            let lingers = [1, 2, 3].map(|number| pool.submit(GRIND, &(number, "linger")).unwrap());
            let many = scope.spawn(|| BY_MAP(&pool, &[]));
            // Some of them run, some stand in a worker or in the queue, with many behind them.
            assert!(eventually(MOMENT, || lingers.iter().any(|task| task.status() != TaskStatus::Queued)));
            for (task, number) in lingers.into_iter().zip([1, 2, 3]) {
                assert!(!task.is_done(), "a cancel of another one ended {number}");
                task.cancel();
                assert!(matches!(task.wait().unwrap_err().kind(), TaskErrorKind::Cancelled { .. }));
            }
            assert_the_others_are_right(many.join().unwrap(), &[]);
        });
        assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))), "a worker died");
    });
}

#[test]
fn many_that_are_not_wanted_any_more_take_nothing_of_others_with_them() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        for _ in 0..10 {
            let mut unwanted = pool.imap(GRIND, jobs(&[]));
            let mut wanted = pool.imap(GRIND, jobs(&[])).take(3_000);
            for number in 0..500 {
                assert_eq!(unwanted.next().unwrap().unwrap().0, answer(number));
                assert_eq!(wanted.next().unwrap().unwrap().0, answer(number));
            }
            // Frames of both are with the workers, and in the queue.
            drop(unwanted);
            let rest: Vec<_> = wanted.map(|result| result.unwrap().0).collect();
            assert!(rest.into_iter().eq((500..3_000).map(answer)));
        }
    });
}

/// A job of that fate passes that limit of its policy, in each of two attempts: a tiny one may do so in one of them, on a machine
/// that has much else to do.
fn pass_a_limit(policy: Policy, fate: &'static str, passed: Limit) {
    let arena = Arena::new();
    let grace = Duration::from_millis(50);
    let pool = grinders(&arena, 2).stop_graces(if fate == "wait" { grace } else { MOMENT }, grace);
    let pool = pool.policy(policy).start().unwrap();
    let special = [(10_000, fate)];
    let error = assert_the_others_are_right(BY_MAP(&pool, &special), &special).remove(0).unwrap_err();
    let kind = TaskErrorKind::TimedOut { limit: passed, may_have_run: true };
    assert_eq!((error.kind(), error.task(), error.attempt()), (kind, 10_001, 2));
    assert_eq!(runs(&arena, &format!("{fate} 10000")).len(), 2);
}

#[test]
fn a_limit_of_time_ends_the_one_that_passes_it() {
    within(PATIENCE, || {
        let limit = Duration::from_millis(300);
        thread::scope(|scope| {
            // One that stops when it is told, and one that is ended with its worker.
            scope.spawn(|| pass_a_limit(attempts(2).timeout(limit), "linger", Limit::Attempt));
            scope.spawn(|| pass_a_limit(attempts(2).timeout(limit), "wait", Limit::Attempt));
            scope.spawn(|| pass_a_limit(attempts(2).soft_timeout(limit), "linger", Limit::Soft));
        });
    });
}

#[test]
fn jobs_of_a_slow_iterator_begin_before_the_next_one_is_there() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        let slow_jobs = (0..50_u64).map(|number| {
            if let Some(before) = number.checked_sub(1) {
                wait_for_runs(&arena, &format!("note {before}"), 1);
            }
            (number, "note")
        });
        let results: Vec<_> = pool.imap(GRIND, slow_jobs).collect();
        assert!(results.into_iter().map(|result| result.unwrap().0).eq((0..50).map(answer)));
    });
}

#[test]
fn jobs_that_became_slow_do_not_wait_for_as_many_as_the_quick_ones_before_them() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        let special = [(15_000, "note")];
        let slow_jobs = jobs(&special).take(15_100).inspect(|(number, _)| match number {
            // Not a wait for something: the time that these take to come.
            15_001..15_032 => thread::sleep(Duration::from_millis(5)),
            15_032 => drop(wait_for_runs(&arena, "note 15000", 1)),
            _ => {}
        });
        let results: Vec<_> = pool.imap(GRIND, slow_jobs).collect();
        assert!(results.into_iter().map(|result| result.unwrap().0).eq((0..15_100).map(answer)));
    });
}

#[test]
fn a_result_comes_before_the_next_job_is_there() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        for order in [Order::Input, Order::Completion] {
            let (sender, mut results) = pool.channel(GRIND, order);
            for number in 0..200 {
                sender.send(&(number, "")).unwrap();
                assert_eq!(results.recv().unwrap().result.unwrap().0, answer(number));
                // Now and then many at once, after which one by itself comes as soon as before.
                if number % 50 == 0 {
                    let many = 200 + number..2_000;
                    many.clone().for_each(|number| sender.send(&(number, "")).unwrap());
                    let answers: BTreeSet<u64> =
                        many.clone().map(|_| results.recv().unwrap().result.unwrap().0).collect();
                    assert!(answers.into_iter().eq(many.map(answer)));
                }
            }
        }
    });
}

#[test]
fn an_iterator_is_read_only_so_far_ahead_of_whoever_takes_the_results() {
    /// Jobs between the two ends, at most: documented at `Pool::imap`.
    const BETWEEN: u64 = 8_192;
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = grinders(&arena, 2).start().unwrap();
        let pulled = Cell::new(0);
        let mut results = pool.imap_unordered(GRIND, jobs(&[]).inspect(|_| pulled.set(pulled.get() + 1)));
        let mut most = 0;
        for taken in 0..MANY {
            assert!(results.next().unwrap().is_ok());
            most = most.max(pulled.get() - taken);
        }
        assert!(most <= BETWEEN + 1, "{most} ahead");
        assert!(results.next().is_none());
    });
}

#[test]
fn a_queue_smaller_than_a_frame_is_never_overfull() {
    within(PATIENCE, || {
        let arena = Arena::new();
        // Four tasks, or as many bytes as four of them have: an array, a number and no text.
        for (tasks, bytes) in [(4, 1 << 20), (1_000, 4 * 3)] {
            let pool = grinders(&arena, 1).queue(tasks, bytes).start().unwrap();
            assert_the_others_are_right(BY_MAP(&pool, &[]), &[]);
            let held = pool.submit(GRIND, &(7, "wait")).unwrap();
            wait_for_runs(&arena, "wait 7", 1);
            let (sender, mut results) = pool.channel(GRIND, Order::Input);
            let sent = AtomicUsize::new(0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let sender = sender;
                    for number in 0..100 {
                        sender.send(&(number, "")).unwrap();
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                });
                let full = eventually(MOMENT, || {
                    matches!(pool.try_submit(GRIND, &(0, "")), Err(TrySubmitError::Full(_)))
                });
                assert!(full && sent.load(Ordering::SeqCst) <= 4, "{sent:?} were let in");
                arena.open("gate 7");
                held.wait().unwrap();
                let answers: Vec<_> = results.by_ref().map(|result| result.unwrap().0).collect();
                assert!(answers.into_iter().eq((0..100).map(answer)));
            });
            std::fs::remove_file(arena.path("gate 7")).unwrap();
            std::fs::remove_file(arena.path("effects")).unwrap();
        }
    });
}
