//! Many jobs through one call: the order of results, how far ahead jobs are taken, what dropping an end does.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

use futures_core::Stream;
use serde_bytes::ByteBuf;
use stokehold::{Data, Order, Policy, Request, SubmitError, TaskErrorKind};
use stokehold_tests::{Arena, block_on, eventually, within};

use crate::stage::{ECHO, MOMENT, NOTE, PATIENCE, SQUARE, WAIT_AT, honest, wait_for_effect};

/// Jobs between the two ends of a channel, at most: documented at `Pool::channel`.
const BETWEEN: u64 = 8_192;

const INFLATE: Request<usize, ByteBuf> = Request::new("inflate");

#[test]
fn map_gives_every_result_in_the_order_of_the_jobs() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let squares: Vec<u64> = pool.map(SQUARE, 0..20_000_u64).into_iter().map(Result::unwrap).collect();
        assert!(squares.iter().zip(0..).all(|(square, n): (&u64, u64)| *square == n * n));
        assert_eq!(squares.len(), 20_000);
        let words = pool.map(ECHO, ["a", "b"].map(str::to_owned));
        assert_eq!(words.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
        assert!(pool.map(SQUARE, Vec::<u64>::new()).is_empty());
    });
}

#[test]
fn map_unordered_gives_every_result_once_with_its_place() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let mut places = BTreeSet::new();
        for (place, square) in pool.map_unordered(SQUARE, 100..10_100_u64) {
            assert_eq!(square.unwrap(), (place + 100) * (place + 100));
            assert!(places.insert(place));
        }
        assert_eq!(places.len(), 10_000);
    });
}

#[test]
fn an_endless_iterator_is_taken_only_so_far_ahead() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let pulled = Cell::new(0);
        let jobs = (0_u64..).inspect(|_| pulled.set(pulled.get() + 1));
        let mut results = pool.imap(SQUARE, jobs);
        for received in 0..20_000 {
            assert_eq!(results.next().unwrap().unwrap(), received * received);
            assert!(pulled.get() <= received + 1 + BETWEEN, "{} jobs for {received} results", pulled.get());
        }
        drop(results);
        // The pool is as good as before.
        assert_eq!(pool.map(SQUARE, 0..10_u64).len(), 10);
    });
}

#[test]
fn nothing_is_taken_before_the_first_result_is_asked_for() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let pulled = Cell::new(0);
        let results = pool.imap(SQUARE, (0_u64..).inspect(|_| pulled.set(pulled.get() + 1)));
        drop(results);
        assert_eq!(pulled.get(), 0);
    });
}

#[test]
fn dropping_the_results_withdraws_what_has_not_begun() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).window(1).start().unwrap();
        let held = pool.submit(WAIT_AT, "gate").unwrap();
        wait_for_effect(&arena, "at gate");
        let (jobs, results) = pool.channel(NOTE, Order::Input);
        for _ in 0..10 {
            jobs.send("too late").unwrap();
        }
        drop(results);
        arena.open("gate");
        held.wait().unwrap();
        assert!(pool.shutdown(MOMENT).is_graceful());
        assert_eq!(arena.count("too late"), 0);
    });
}

#[test]
fn dropping_an_imap_in_the_middle_runs_no_more_than_was_begun() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).window(1).start().unwrap();
        arena.open("open");
        let jobs = (0..).map(|n| if n < 10 { "open" } else { "closed" }.to_owned());
        let mut results = pool.imap(WAIT_AT, jobs);
        for _ in 0..10 {
            results.next().unwrap().unwrap();
        }
        drop(results);
        arena.open("closed");
        assert!(pool.shutdown(MOMENT).is_graceful());
        // The worker holds one task at a time, and may have begun the one behind the tenth.
        assert_eq!(arena.count("at open"), 10);
        assert!(arena.count("at closed") <= 1, "{:?}", arena.effects());
    });
}

#[test]
fn results_come_as_they_are_done_or_in_the_order_of_the_input() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        for order in [Order::Completion, Order::Input] {
            let gate = format!("{order:?}");
            let (jobs, mut results) = pool.channel(WAIT_AT, order);
            jobs.send(&gate).unwrap();
            wait_for_effect(&arena, &format!("at {gate}"));
            arena.open("open");
            jobs.send("open").unwrap();
            drop(jobs);
            let first = match order {
                Order::Completion => {
                    let first = results.recv().unwrap().index;
                    arena.open(&gate);
                    first
                }
                Order::Input => {
                    wait_for_effect(&arena, "at open");
                    assert!(results.try_recv().is_none(), "a result overtook another");
                    arena.open(&gate);
                    results.recv().unwrap().index
                }
            };
            assert_eq!(first, u64::from(order == Order::Completion));
            assert_eq!(results.recv().unwrap().index, 1 - first);
            assert!(results.recv().is_none() && results.recv().is_none(), "the end does not stay the end");
        }
    });
}

#[test]
fn a_result_says_who_answered_it() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let (jobs, mut results) = pool.channel(WAIT_AT, Order::Completion);
        jobs.send("gate").unwrap();
        wait_for_effect(&arena, "at gate");
        arena.open("gate");
        let completed = results.recv().unwrap();
        let (pid, worker, attempt) = completed.result.unwrap();
        let by = completed.answered_by.unwrap();
        assert_eq!((by.pid, by.worker, by.attempt), (pid, worker as usize, attempt));
        assert!(!by.elapsed.is_zero());
    });
}

#[test]
fn a_sender_runs_ahead_of_a_slow_receiver_only_so_far() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let (jobs, mut results) = pool.channel(SQUARE, Order::Input);
        let sent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let jobs = jobs;
                for n in 0..BETWEEN + 1_000 {
                    jobs.send(&n).unwrap();
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
            assert!(eventually(MOMENT, || sent.load(Ordering::SeqCst) == BETWEEN));
            for received in 0..1_000 {
                assert!(sent.load(Ordering::SeqCst) <= BETWEEN + received);
                assert_eq!(results.next().unwrap().unwrap(), received * received);
            }
            assert_eq!(results.by_ref().count() as u64, BETWEEN);
        });
    });
}

#[test]
fn a_sender_waits_while_many_bytes_of_results_are_not_received() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).queue(16, 1 << 20).start().unwrap();
        let (jobs, results) = pool.channel(INFLATE, Order::Completion);
        let sent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let jobs = jobs;
                for _ in 0..100 {
                    jobs.send(&(1 << 20)).unwrap();
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
            // 16 MiB of results, 16 tasks in the queue, and one that is being sent.
            let mut received = 0;
            for result in results {
                assert_eq!(result.unwrap().len(), 1 << 20);
                received += 1;
                let ahead = sent.load(Ordering::SeqCst).saturating_sub(received);
                assert!(ahead <= 16 + 16 + 1, "{ahead} MiB ahead");
            }
            assert_eq!(received, 100);
        });
    });
}

#[test]
fn results_are_a_stream_for_any_executor() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let (jobs, mut results) = pool.channel(SQUARE, Order::Input);
        std::thread::scope(|scope| {
            scope.spawn(move || (0..5_000_u64).for_each(|n| jobs.send(&n).unwrap()));
            for n in 0..5_000 {
                let next = block_on(std::future::poll_fn(|cx: &mut Context<'_>| {
                    Pin::new(&mut results).poll_next(cx)
                }));
                assert_eq!(next.unwrap().unwrap(), n * n);
            }
            let end =
                block_on(std::future::poll_fn(|cx: &mut Context<'_>| Pin::new(&mut results).poll_next(cx)));
            assert!(end.is_none());
        });
    });
}

#[test]
fn a_job_that_cannot_be_encoded_is_an_error_in_its_place() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        type Numbers = BTreeMap<u32, u32>;
        let request: Request<Numbers, Numbers> = Request::DO;
        let jobs = [Numbers::new(), Numbers::from([(1, 1)]), Numbers::new()];
        let results = pool.map(request, &jobs);
        let kinds: Vec<_> =
            results.iter().map(|result| result.as_ref().map_err(|error| error.kind()).err()).collect();
        assert_eq!(kinds, [None, Some(TaskErrorKind::Encode), None]);
        let (sender, results) = pool.channel(request, Order::Input);
        sender.send(&jobs[0]).unwrap();
        assert!(matches!(sender.send(&jobs[1]), Err(SubmitError::Encode(_))));
        sender.send(&jobs[2]).unwrap();
        drop(sender);
        assert_eq!(results.filter(Result::is_ok).count(), 2);
    });
}

#[test]
fn one_failure_does_not_stop_the_others() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let squares: Request<i64, u64> = Request::new("square");
        let results = pool.with(Policy::once()).imap(squares, -3..100_i64);
        let good = results.filter(Result::is_ok).count();
        assert_eq!(good, 100);
    });
}

#[test]
fn map_goes_on_while_results_of_others_fill_their_bound() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).parked_bytes(100_000).start().unwrap();
        let parked = [(); 2].map(|()| pool.submit(INFLATE, &60_000).unwrap());
        assert!(eventually(MOMENT, || parked.iter().all(|task| task.is_done())));
        assert!(matches!(pool.submit(SQUARE, &1), Err(SubmitError::ResultsFull)));
        let squares: Vec<u64> = pool.map(SQUARE, 0..100_u64).into_iter().map(Result::unwrap).collect();
        assert_eq!(squares, (0..100).map(|n: u64| n * n).collect::<Vec<_>>());
        for task in parked {
            assert_eq!(task.wait().unwrap().len(), 60_000);
        }
    });
}

#[test]
fn two_channels_on_one_pool_do_not_mix() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        std::thread::scope(|scope| {
            for offset in [0, 1_000_000_u64] {
                let (jobs, results) = pool.channel(SQUARE, Order::Input);
                scope.spawn(move || (offset..offset + 10_000).for_each(|n| jobs.send(&n).unwrap()));
                scope.spawn(move || {
                    let mut expected = offset..;
                    for square in results {
                        let n = expected.next().unwrap();
                        assert_eq!(square.unwrap(), n * n);
                    }
                    assert_eq!(expected.next(), Some(offset + 10_000));
                });
            }
            let tasks: Vec<_> = (0..1000).map(|n| pool.submit(SQUARE, &n).unwrap()).collect();
            assert!(tasks.into_iter().zip(0..).all(|(task, n)| task.wait().unwrap() == n * n));
        });
    });
}

#[test]
fn a_channel_of_encoded_data_carries_it_untouched() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).start().unwrap();
        let (jobs, results) = pool.channel_data("DO", Order::Input).unwrap();
        let inputs = [Data::text("a line"), Data::bytes(&[0, 0xff]), Data::text("")];
        inputs.iter().for_each(|input| jobs.send_data(input).unwrap());
        drop(jobs);
        assert_eq!(results.map(Result::unwrap).collect::<Vec<_>>(), inputs);
        assert!(pool.channel_data("READY", Order::Input).is_err());
    });
}

#[test]
fn a_sender_that_waits_learns_that_the_receiver_is_gone() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let (jobs, results) = pool.channel(SQUARE, Order::Input);
        let sent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let jobs = jobs;
                loop {
                    if let Err(error) = jobs.send(&1) {
                        return error;
                    }
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
            assert!(eventually(MOMENT, || sent.load(Ordering::SeqCst) == BETWEEN));
            drop(results);
            assert!(matches!(sender.join().unwrap(), SubmitError::NoReceiver));
        });
        assert_eq!(pool.submit(SQUARE, &9).unwrap().wait().unwrap(), 81);
    });
}

#[test]
fn two_imaps_on_a_queue_smaller_than_both_make_progress() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).queue(4, 1 << 20).start().unwrap();
        let mut odd = pool.imap(SQUARE, (1..2_000_u64).step_by(2));
        let mut even = pool.imap_unordered(SQUARE, (0..2_000_u64).step_by(2));
        let mut sum = 0;
        for _ in 0..1000 {
            sum += odd.next().unwrap().unwrap() + even.next().unwrap().unwrap();
        }
        assert_eq!(sum, (0..2_000).map(|n: u64| n * n).sum::<u64>());
        assert!(odd.next().is_none() && even.next().is_none());
    });
}
