//! One task: the ways to submit it, to wait for it, to give it up, and what it may carry.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use stokehold::{Data, Policy, Pool, Request, SubmitError, Task, TaskErrorKind, TaskStatus, TrySubmitError};
use stokehold_tests::{Arena, block_on, eventually, within};

use crate::child;
use crate::stage::{
    ECHO, MOMENT, NOTE, PATIENCE, SQUARE, WAIT_AT, WHO, command, honest, running_in, wait_for_effect,
};

const REVERSE: Request<Bytes, ByteBuf> = Request::new("reverse");
const INFLATE: Request<usize, ByteBuf> = Request::new("inflate");

/// A pool of one worker that holds one task at a time, and a task that keeps it busy until the gate opens.
fn busy(arena: &Arena, tasks: usize) -> (Pool, Task<(u32, u32, u32)>) {
    let pool = honest(arena, 1).window(1).queue(tasks, 1 << 20).start().unwrap();
    let task = pool.submit(WAIT_AT, "gate").unwrap();
    wait_for_effect(arena, "at gate");
    (pool, task)
}

#[test]
fn an_answer_comes_back() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        assert_eq!(pool.submit(SQUARE, &12).unwrap().wait().unwrap(), 144);
        assert_eq!(pool.submit(ECHO, "hello").unwrap().wait().unwrap(), "hello");
        let task = pool.submit(SQUARE, &3).unwrap();
        assert_eq!(task.number(), 3);
        assert_eq!(task.wait().unwrap(), 9);
    });
}

#[test]
fn a_task_that_is_waited_for_too_briefly_comes_back() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (_pool, task) = busy(&arena, 8);
        let begun = Instant::now();
        let task = task.wait_timeout(Duration::from_millis(30)).unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let task = task.wait_timeout(Duration::ZERO).unwrap_err();
        assert!(!task.is_done());
        arena.open("gate");
        assert_eq!(task.wait_timeout(MOMENT).unwrap().unwrap().2, 1);
    });
}

#[test]
fn a_status_goes_from_queued_over_running_to_done() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 8);
        let second = pool.submit(WAIT_AT, "second").unwrap();
        assert_eq!(second.status(), TaskStatus::Queued);
        let pid = running_in(&first);
        assert_eq!(first.status(), TaskStatus::Running { worker: 0, pid, attempt: 1 });
        arena.open("gate");
        assert_eq!(first.wait().unwrap(), (pid, 0, 1));
        assert_eq!(running_in(&second), pid);
        arena.open("second");
        assert!(eventually(MOMENT, || second.is_done()), "nobody drives the pool while nobody waits");
        assert_eq!(second.status(), TaskStatus::Done);
        second.wait().unwrap();
    });
}

#[test]
fn a_full_queue_gives_the_input_back_for_another_try() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 2);
        let second = pool.try_submit(SQUARE, &7).unwrap();
        let TrySubmitError::Full(unsent) = pool.try_submit(SQUARE, &8).unwrap_err() else { panic!() };
        let TrySubmitError::Full(unsent) = unsent.try_submit(&pool).unwrap_err() else { panic!() };
        arena.open("gate");
        first.wait().unwrap();
        assert_eq!(second.wait().unwrap(), 49);
        assert_eq!(unsent.try_submit(&pool).unwrap().wait().unwrap(), 64);
    });
}

#[test]
fn a_submit_to_a_full_queue_waits_and_the_timed_one_gives_up() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 1);
        let limit = Duration::from_millis(30);
        let error = pool.submit_timeout(SQUARE, &1, limit).unwrap_err();
        assert!(matches!(error, SubmitError::Timeout(asked) if asked == limit), "{error:?}");
        std::thread::scope(|scope| {
            let submitter = scope.spawn(|| pool.submit(SQUARE, &2).unwrap().wait().unwrap());
            arena.open("gate");
            assert_eq!(submitter.join().unwrap(), 4);
        });
        first.wait().unwrap();
        assert_eq!(pool.submit_timeout(SQUARE, &3, MOMENT).unwrap().wait().unwrap(), 9);
    });
}

#[test]
fn the_queue_is_bounded_in_bytes_too_but_lets_one_task_of_any_size_in() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).window(1).queue(1000, 1000).start().unwrap();
        let large = "x".repeat(100_000);
        assert_eq!(pool.submit(ECHO, &large).unwrap().wait().unwrap(), large);
        let first = pool.submit(WAIT_AT, "gate").unwrap();
        assert!(matches!(pool.try_submit(ECHO, &large), Err(TrySubmitError::Full(_))));
        let second = pool.try_submit(ECHO, "small").unwrap();
        arena.open("gate");
        first.wait().unwrap();
        second.wait().unwrap();
    });
}

#[test]
fn a_task_larger_than_the_bound_gets_in_beside_threads_that_submit_small_ones() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let nap: Request<u64, u64> = Request::new("nap");
        let pool = honest(&arena, 2).queue(1000, 100_000).start().unwrap();
        let large = "x".repeat(200_000);
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        pool.submit(nap, &1).unwrap().wait().unwrap();
                        answers.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let busy = eventually(MOMENT, || answers.load(Ordering::SeqCst) > 20);
            let task = pool.submit_timeout(ECHO, &large, MOMENT);
            stop.store(true, Ordering::SeqCst);
            assert!(busy);
            assert_eq!(task.expect("the small ones keep it out").wait().unwrap(), large);
        });
    });
}

#[test]
fn a_permit_holds_a_place_and_gives_it_back_when_dropped() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 2);
        let permit = pool.reserve_blocking().unwrap();
        assert!(matches!(pool.try_submit(SQUARE, &1), Err(TrySubmitError::Full(_))));
        let limit = Duration::from_millis(20);
        assert!(matches!(pool.reserve_timeout(limit), Err(SubmitError::Timeout(_))));
        drop(permit);
        let permit = pool.reserve_timeout(MOMENT).unwrap();
        let task = permit.submit(SQUARE, &5).unwrap();
        arena.open("gate");
        first.wait().unwrap();
        assert_eq!(task.wait().unwrap(), 25);
        // A permit whose input cannot be encoded gives its place back as well.
        for _ in 0..4 {
            let permit = pool.reserve_blocking().unwrap();
            let request: Request<BTreeMap<u32, u32>, ()> = Request::DO;
            assert!(matches!(permit.submit(request, &BTreeMap::from([(1, 1)])), Err(SubmitError::Encode(_))));
        }
    });
}

#[test]
fn reserving_and_waiting_work_in_any_executor() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).queue(4, 1 << 20).start().unwrap();
        let sum = block_on(async {
            let mut sum = 0;
            for n in 1..=200_u64 {
                let task = pool.reserve().await.unwrap().submit(SQUARE, &n).unwrap();
                sum += task.await.unwrap();
            }
            sum
        });
        assert_eq!(sum, (1..=200).map(|n: u64| n * n).sum::<u64>());
    });
}

#[test]
fn an_async_reserve_waits_for_room_without_blocking_the_thread_that_makes_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 1);
        std::thread::scope(|scope| {
            let reserved = scope.spawn(|| {
                block_on(async { pool.reserve().await.unwrap().submit(SQUARE, &6).unwrap().await.unwrap() })
            });
            arena.open("gate");
            assert_eq!(reserved.join().unwrap(), 36);
        });
        first.wait().unwrap();
    });
}

#[test]
fn futures_are_ready_on_whichever_thread_polls_them() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let tasks: Vec<_> = (0..100).map(|n| (n, pool.submit(SQUARE, &n).unwrap())).collect();
        std::thread::scope(|scope| {
            for (n, task) in tasks {
                scope.spawn(move || assert_eq!(block_on(task).unwrap(), n * n));
            }
        });
    });
}

#[test]
fn a_future_polled_here_and_waited_for_there_is_answered() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (_pool, mut task) = busy(&arena, 8);
        let wakes = stokehold_tests::Wakes::of_this_thread();
        let waker = wakes.clone().into();
        let mut context = std::task::Context::from_waker(&waker);
        assert!(std::pin::Pin::new(&mut task).poll(&mut context).is_pending());
        arena.open("gate");
        assert!(eventually(MOMENT, || wakes.count() > 0), "a pending future was never woken");
        let answer = std::thread::spawn(move || block_on(task)).join().unwrap();
        assert_eq!(answer.unwrap().2, 1);
    });
}

#[test]
fn a_detached_task_runs() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 8);
        pool.submit(NOTE, "detached").unwrap().detach();
        arena.open("gate");
        first.detach();
        wait_for_effect(&arena, "detached");
        assert!(pool.shutdown(MOMENT).is_graceful());
    });
}

#[test]
fn a_dropped_task_that_no_worker_has_does_not_run() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 8);
        drop(pool.submit(NOTE, "dropped").unwrap());
        let last = pool.submit(NOTE, "kept").unwrap();
        arena.open("gate");
        first.wait().unwrap();
        last.wait().unwrap();
        assert_eq!(arena.effects(), ["at gate", "kept"]);
    });
}

#[test]
fn a_dropped_task_that_runs_is_finished_and_its_worker_lives() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 8);
        let pid = running_in(&first);
        drop(first);
        arena.open("gate");
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
    });
}

#[test]
fn cancel_ends_a_queued_task_and_leaves_a_running_one_alone() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, first) = busy(&arena, 8);
        let second = pool.submit(NOTE, "cancelled").unwrap();
        second.cancel();
        first.cancel();
        let error = second.wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::Cancelled { may_have_run: false });
        assert_eq!((error.task(), error.attempt(), error.code()), (2, 0, "cancelled"));
        arena.open("gate");
        assert_eq!(first.wait().unwrap().2, 1);
        let third = pool.submit(WHO, &()).unwrap();
        assert!(eventually(MOMENT, || third.is_done()));
        third.cancel();
        third.wait().unwrap();
        assert_eq!(arena.effects(), ["at gate"]);
    });
}

#[test]
fn many_threads_submit_and_wait_on_one_pool() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..2_000 {
                        let n = thread * 10_000 + n;
                        assert_eq!(pool.submit(SQUARE, &n).unwrap().wait().unwrap(), n * n);
                    }
                });
            }
        });
        let report = pool.shutdown(MOMENT);
        assert_eq!(report.workers.iter().map(|worker| worker.tasks).sum::<u64>(), 16_000);
    });
}

#[test]
fn fifty_thousand_handles_are_waited_for_in_any_order() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let mut tasks: Vec<_> = (0..50_000_u64).map(|n| Some(pool.submit(SQUARE, &n).unwrap())).collect();
        // A walk with a step that shares no factor with the count comes by every place once.
        for step in 0..tasks.len() {
            let place = (step * 7_919) % tasks.len();
            let n = u64::try_from(place).unwrap();
            assert_eq!(tasks[place].take().unwrap().wait().unwrap(), n * n);
        }
    });
}

#[test]
fn handles_given_to_other_threads_are_waited_for_there() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let tasks =
            Mutex::new((0..4_000_u64).map(|n| (n, pool.submit(SQUARE, &n).unwrap())).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let Some((n, task)) = tasks.lock().unwrap().pop() else { break };
                        assert_eq!(task.wait().unwrap(), n * n);
                    }
                });
            }
        });
    });
}

#[test]
fn results_that_nobody_takes_fill_their_bound() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).parked_bytes(100_000).start().unwrap();
        let mut parked = Vec::new();
        let error = loop {
            match pool.submit(INFLATE, &30_000) {
                Ok(task) => {
                    assert!(eventually(MOMENT, || task.is_done()));
                    parked.push(task);
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SubmitError::ResultsFull), "{error:?}");
        assert_eq!(parked.len(), 4);
        assert!(matches!(pool.reserve_blocking(), Err(SubmitError::ResultsFull)));
        // Taking one makes room, and so does dropping one.
        assert_eq!(parked.pop().unwrap().wait().unwrap().len(), 30_000);
        assert_eq!(pool.submit(SQUARE, &4).unwrap().wait().unwrap(), 16);
        parked.clear();
        assert_eq!(pool.submit(INFLATE, &50_000).unwrap().wait().unwrap().len(), 50_000);
    });
}

#[test]
fn a_result_larger_than_the_bound_is_delivered() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).parked_bytes(1000).start().unwrap();
        for _ in 0..3 {
            assert_eq!(pool.submit(INFLATE, &1_000_000).unwrap().wait().unwrap().len(), 1_000_000);
        }
    });
}

#[test]
fn an_unknown_request_fails_with_the_names_there_are() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let request: Request<(), ()> = Request::new("never_heard_of");
        let error = pool.submit(request, &()).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "unknown_request"));
        assert!(error.message().contains("square"), "{error}");
        assert!(
            pool.submit_data("FINISHED", &Data::text("x")).is_err(),
            "a name of the protocol was let through"
        );
        assert!(matches!(pool.submit_data("", &Data::text("x")), Err(SubmitError::Name(_))));
    });
}

#[test]
fn a_failure_carries_its_code_its_chain_and_who_failed() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let fail: Request<str, ()> = Request::new("fail");
        let error = pool.submit(fail, "acme.no_such_user").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "acme.no_such_user"));
        assert_eq!((error.worker(), error.pid(), error.task(), error.attempt()), (Some(0), Some(pid), 2, 1));
        assert_eq!((error.message(), error.chain()), ("it failed", &["a deeper reason".to_owned()][..]));
        let text = error.to_string();
        for part in
            ["task 2", "worker 0", &pid.to_string(), "it failed", "acme.no_such_user", "a deeper reason"]
        {
            assert!(text.contains(part), "no {part:?} in {text:?}");
        }
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
    });
}

#[test]
fn a_failure_carries_data_for_programs_as_far_as_there_is_room() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let fail_with: Request<(&str, usize), ()> = Request::new("fail_with");
        for bytes in [0, 3, 1 << 20] {
            let error = pool.submit(fail_with, &("grüße", bytes)).unwrap().wait().unwrap_err();
            assert_eq!((error.code(), error.message()), ("acme.with_data", "it failed"));
            let (text, sent): (String, ByteBuf) = error.data().unwrap().decode().unwrap();
            assert_eq!((text.as_str(), sent.into_vec()), ("grüße", vec![7; bytes]));
        }
        let error = pool.submit(fail_with, &("x", 17 << 20)).unwrap().wait().unwrap_err();
        assert_eq!((error.code(), error.data()), ("acme.with_data", None));
        assert!(error.message().starts_with("it failed (its data, 178"), "{}", error.message());
        let fail: Request<str, ()> = Request::new("fail");
        assert_eq!(pool.submit(fail, "acme.x").unwrap().wait().unwrap_err().data(), None);
    });
}

#[test]
fn a_failure_that_asks_for_another_try_gets_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let fail_until: Request<u32, u32> = Request::new("fail_until");
        assert_eq!(pool.submit(fail_until, &3).unwrap().wait().unwrap(), 3);
        let error = pool.submit(fail_until, &4).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt(), error.code()), (TaskErrorKind::Failed, 3, "overloaded"));
        let patient = pool.with(Policy::default().attempts(4));
        assert_eq!(patient.submit(fail_until, &4).unwrap().wait().unwrap(), 4);
    });
}

#[derive(Serialize)]
struct Mortal<'a> {
    name: &'a str,
    how: &'a str,
    until: u32,
}

#[test]
fn a_policy_holds_for_the_calls_made_with_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("mortal"))).workers(1).start().unwrap();
        let work: Request<Mortal<'_>, (String, u32)> = Request::DO;
        let fine = Mortal { name: "fine", how: "", until: 0 };
        pool.submit(work, &fine).unwrap().wait().unwrap();
        let once = Mortal { name: "once", how: "exit 3", until: 9 };
        let error = pool.with(Policy::once()).submit(work, &once).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt()), (TaskErrorKind::Lost, 1));
        assert_eq!((error.exit_code(), error.code()), (Some(3), "lost"));
        let twice = Mortal { name: "twice", how: "exit 3", until: 9 };
        let error =
            pool.with(Policy::default().attempts(2)).submit(work, &twice).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.attempt()), (TaskErrorKind::Dead, 2));
        assert_eq!((arena.count("once"), arena.count("twice")), (1, 2));
        pool.submit(work, &fine).unwrap().wait().unwrap();
    });
}

#[derive(Serialize)]
struct Purchase {
    item: &'static str,
    count: u32,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Receipt {
    Sold { item: String, total: u32 },
    Refused(String),
    Nothing,
}

#[test]
fn structs_go_out_and_enums_come_back() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let buy: Request<Purchase, Receipt> = Request::new("buy");
        let answer = |item, count| pool.submit(buy, &Purchase { item, count }).unwrap().wait().unwrap();
        assert_eq!(answer("coal", 4), Receipt::Sold { item: "coal".into(), total: 12 });
        assert_eq!(answer("coal", 40), Receipt::Refused("no 40 coal here".into()));
        assert_eq!(answer("coal", 0), Receipt::Nothing);
    });
}

#[test]
fn bytes_come_back_as_bytes() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let reversed = pool.submit(REVERSE, Bytes::new(&[0, 1, 0xff])).unwrap().wait().unwrap();
        assert_eq!(*reversed, [0xff, 1, 0]);
        let numbers: Request<Vec<u8>, Vec<u8>> = Request::DO;
        assert_eq!(pool.submit(numbers, &vec![1, 2, 3]).unwrap().wait().unwrap(), [1, 2, 3]);
        let data = Data::bytes(&[1, 2, 3]);
        assert_eq!(pool.submit_data("reverse", &data).unwrap().wait().unwrap(), Data::bytes(&[3, 2, 1]));
    });
}

#[test]
fn an_answer_of_another_type_is_that_tasks_error() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let wrong: Request<str, u64> = Request::DO;
        let error = pool.submit(wrong, "text").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Decode, "bad_data"));
        assert_eq!((error.worker(), error.task(), error.attempt()), (Some(0), 1, 1));
        assert!(error.to_string().contains("u64"), "{error}");
        let wrong: Request<str, u64> = Request::new("square");
        let error = pool.submit(wrong, "text").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "bad_data"));
        assert_eq!(pool.submit(SQUARE, &2).unwrap().wait().unwrap(), 4);
    });
}

#[test]
fn values_outside_the_data_model_are_errors_both_ways() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let request: Request<BTreeMap<u32, u32>, ()> = Request::DO;
        let error = pool.submit(request, &BTreeMap::from([(1, 1)])).unwrap_err();
        assert!(matches!(error, SubmitError::Encode(_)), "{error:?}");
        let answer: Request<(), BTreeMap<u32, u32>> = Request::new("number_keys");
        let error = pool.submit(answer, &()).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "bad_data"));
        assert_eq!(pool.submit(SQUARE, &2).unwrap().wait().unwrap(), 4);
    });
}

#[test]
fn a_frame_too_large_in_either_direction_fails_its_task_and_nothing_else() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let large = vec![1; 17 << 20];
        let error = pool.submit(REVERSE, Bytes::new(&large)).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "too_large"), "{error}");
        let error = pool.submit(INFLATE, &(17 << 20)).unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "too_large"), "{error}");
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
    });
}

#[test]
fn an_answer_above_the_agreed_limit_is_skipped_and_the_connection_survives() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("oversize"))).workers(1).start().unwrap();
        let events = pool.events();
        for _ in 0..3 {
            let before = pool.submit(ECHO, "before").unwrap();
            let large = pool.submit(ECHO, "big").unwrap();
            let after = pool.submit(ECHO, "after").unwrap();
            assert_eq!(before.wait().unwrap(), "before");
            let error = large.wait().unwrap_err();
            assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "too_large"), "{error}");
            assert_eq!(after.wait().unwrap(), "after");
        }
        assert!(events.try_recv().is_err(), "something happened to the worker");
    });
}

#[test]
fn payloads_of_every_size_go_both_ways_at_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).window(8).start().unwrap();
        let sizes = [0, 1, 2, 255, 256, 4_095, 4_096, 65_535, 65_536, 1 << 20, 10_000_000];
        let inputs: Vec<Data> = sizes
            .iter()
            .cycle()
            .take(3 * sizes.len())
            .map(|size| {
                Data::bytes(
                    &(0..*size).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect::<Vec<_>>(),
                )
            })
            .collect();
        let tasks: Vec<_> = inputs.iter().map(|input| pool.submit_data("DO", input).unwrap()).collect();
        for (input, task) in inputs.iter().zip(tasks) {
            let answer = task.wait().unwrap();
            assert!(
                answer == *input,
                "{} bytes came back as {}",
                input.as_bytes().len(),
                answer.as_bytes().len()
            );
        }
    });
}
