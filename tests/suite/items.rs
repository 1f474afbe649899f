//! Tasks with many results: their order, their attempts, their bounds, and what becomes of them when a worker dies or nobody
//! takes them.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_core::Stream;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_bytes::ByteBuf;
use stokehold::{
    Event, Limit, NothingYet, Policy, Pool, Request, ResultStream, Streamed, TaskError, TaskErrorKind,
    TaskStatus,
};
use stokehold_tests::{Arena, block_on, eventually, kill, stirrings, within};

use crate::performer::{
    COUNT, HOLD, LINGER, RUN, SPILL, events_until, performers, pressed_performers, runs, wait_for_runs,
};
use crate::stage::{MOMENT, PATIENCE, WHO, wait_for_effect};

/// Results of `SPILL`.
const PIECE: usize = 16 * 1024;

type Piece = (u64, ByteBuf);
type Elements<I, R> = Vec<Result<Streamed<I, R>, TaskError>>;

fn one(arena: &Arena) -> Pool {
    performers(arena, 1, "").start().unwrap()
}

fn item(attempt: u32, value: u64) -> Streamed<u64, u32> {
    Streamed::Item { attempt, value }
}

/// The elements of a stream that ends well.
fn all<I: DeserializeOwned, R>(stream: ResultStream<I, R>) -> Vec<Streamed<I, R>> {
    stream.collect::<Result<_, _>>().unwrap()
}

#[test]
fn results_come_in_order_with_their_attempt_and_the_answer_last() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let mut elements = all(pool.submit_stream::<u64, _, _>(COUNT, &20_000).unwrap());
        assert_eq!(elements.pop(), Some(Streamed::Finished(20_000)));
        let expected: Vec<_> = (0..20_000).map(|value| Streamed::Item { attempt: 1, value }).collect();
        assert!(elements == expected, "{} elements", elements.len());
    });
}

#[test]
fn a_stream_without_results_has_its_answer() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let mut stream = pool.submit_stream::<u64, _, _>(COUNT, &0).unwrap();
        assert_eq!(stream.recv().unwrap().unwrap(), Streamed::Finished(0));
        assert!(stream.recv().is_none() && stream.next().is_none());
    });
}

#[test]
fn streams_that_are_read_in_another_order_than_they_come_are_whole() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 2, "").start().unwrap();
        let streams: Vec<_> =
            (0..20).map(|count| pool.submit_stream::<u64, _, _>(COUNT, &(count * 20)).unwrap()).collect();
        for (count, stream) in streams.into_iter().enumerate().rev() {
            assert_eq!(all(stream).len(), count * 20 + 1);
        }
    });
}

#[test]
fn a_result_of_another_type_ends_the_stream_and_stops_the_task() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let mixed: Request<str, ()> = Request::new("mixed");
        let mut stream = pool.submit_stream::<u64, _, _>(mixed, "mixed").unwrap();
        assert_eq!(stream.recv().unwrap().unwrap(), Streamed::Item { attempt: 1, value: 1 });
        let error = stream.recv().unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.task(), error.attempt()),
            (TaskErrorKind::Decode, stream.number(), 1)
        );
        assert!(stream.recv().is_none());
        wait_for_runs(&arena, "mixed told", 1);
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
    });
}

#[test]
fn a_slow_consumer_holds_up_its_own_worker_only() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 2, "").window(1).stream_buffer(16, 1 << 20).start().unwrap();
        let (count, most_ahead) = (1_000, 300);
        let mut stream = pool.submit_stream::<Piece, _, _>(SPILL, &(count, PIECE)).unwrap();
        wait_for_effect(&arena, "spilled 0");
        let TaskStatus::Running { pid, .. } = stream.status() else { panic!("{stream:?}") };
        // It does nothing any more: it waits for somebody to take its results. Meanwhile the other one answers.
        let mut still = 0;
        let mut before = stirrings(pid);
        let stands = eventually(MOMENT, || {
            for _ in 0..20 {
                assert_ne!(pool.submit(WHO, &()).unwrap().wait().unwrap().0, pid);
            }
            let now = stirrings(pid);
            still = if now == before { still + 1 } else { 0 };
            before = now;
            still >= 20
        });
        assert!(stands, "the worker of a full stream works on");
        // The stream's bound, a read of the pipe, the pipe itself, and what the worker collects.
        let spilled =
            arena.effects().iter().filter_map(|line| line.strip_prefix("spilled ")?.parse().ok()).max();
        assert!(spilled.is_some_and(|last: u64| last < most_ahead), "{spilled:?} of {count} are in memory");
        for number in 0..count {
            let Some(Ok(Streamed::Item { attempt: 1, value: (value, bytes) })) = stream.recv() else {
                panic!()
            };
            assert_eq!((value, bytes.len()), (number, PIECE));
        }
        assert_eq!(stream.recv().unwrap().unwrap(), Streamed::Finished(count));
    });
}

#[test]
fn dropping_a_stream_stops_its_task_and_not_its_worker() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        // One that waits for room, and one that has enough of it.
        for (bytes, stops) in [(PIECE, 1), (16, 2)] {
            let mut stream = pool.submit_stream::<Piece, _, _>(SPILL, &(u64::MAX, bytes)).unwrap();
            assert!(stream.by_ref().take(3).all(|element| element.is_ok()));
            drop(stream);
            assert!(eventually(MOMENT, || arena.count("spill stopped") == stops), "it was not stopped");
            assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
        }
    });
}

#[test]
fn a_stream_that_is_dropped_in_the_queue_never_runs() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").window(1).start().unwrap();
        let first = pool.submit_stream::<u64, _, _>(HOLD, &("first", 0, 1)).unwrap();
        wait_for_runs(&arena, "first", 1);
        drop(pool.submit_stream::<u64, _, _>(HOLD, &("dropped", 0, 1)).unwrap());
        let last = pool.submit(RUN, "last").unwrap();
        arena.open("first 1");
        assert_eq!(all(first), [item(1, 0), Streamed::Finished(1)]);
        assert_eq!(last.wait().unwrap(), 1);
        assert!(runs(&arena, "dropped").is_empty());
    });
}

#[test]
fn the_answer_can_be_had_without_the_results() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").stream_buffer(4, 1 << 20).start().unwrap();
        assert_eq!(pool.submit_stream::<u64, _, _>(COUNT, &20_000).unwrap().finish().unwrap(), 20_000);
        // Also when some were taken and the stream is full.
        let mut stream = pool.submit_stream::<Piece, _, _>(SPILL, &(500, PIECE)).unwrap();
        assert!(stream.recv().unwrap().is_ok());
        assert_eq!(stream.finish().unwrap(), 500);
    });
}

#[test]
fn a_task_with_results_that_was_submitted_without_a_stream_gives_its_answer() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let events = pool.events();
        assert_eq!(pool.submit(COUNT, &20_000).unwrap().wait().unwrap(), 20_000);
        assert_eq!(pool.submit(SPILL, &(500, PIECE)).unwrap().wait().unwrap(), 500);
        let told = events_until(&events, |event| matches!(event, Event::ItemsUnwanted { .. }));
        assert!(matches!(told.last(), Some(Event::ItemsUnwanted { task: 1, worker: 0, .. })), "{told:?}");
        pool.kill();
        let more = events.iter().filter(|event| matches!(event, Event::ItemsUnwanted { .. })).count();
        assert_eq!(more, 0, "once for each process");
    });
}

#[test]
fn waiting_for_a_result_can_be_given_up_and_taken_up_again() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let mut stream = pool.submit_stream::<u64, _, _>(HOLD, &("held", 1, 1)).unwrap();
        assert_eq!(stream.recv_timeout(MOMENT).unwrap().unwrap().unwrap(), item(1, 0));
        assert_eq!(stream.try_recv().unwrap_err(), NothingYet);
        assert_eq!(stream.recv_timeout(Duration::from_millis(20)).unwrap_err(), NothingYet);
        arena.open("held 1");
        assert_eq!(stream.recv_timeout(MOMENT).unwrap().unwrap().unwrap(), item(1, 1));
        assert_eq!(stream.recv_timeout(MOMENT).unwrap().unwrap().unwrap(), Streamed::Finished(1));
        assert!(stream.recv_timeout(MOMENT).unwrap().is_none());
    });
}

#[test]
fn a_stream_can_be_awaited_without_a_runtime() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").stream_buffer(8, 1 << 20).start().unwrap();
        let mut stream = pool.submit_stream::<u64, _, _>(COUNT, &3_000).unwrap();
        let elements = block_on(async {
            let mut elements = Vec::new();
            while let Some(element) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
                elements.push(element.unwrap());
            }
            elements
        });
        assert_eq!(elements.len(), 3_001);
        assert_eq!(elements.last(), Some(&Streamed::Finished(3_000)));
    });
}

/// A stream of two results and one more, whose worker is killed after so many were taken, with the gates of all later attempts
/// open.
fn with_a_kill(policy: Policy, taken: u64) -> (Arena, Elements<u64, u32>) {
    let arena = Arena::new();
    let elements = {
        let pool = one(&arena);
        let mut stream =
            pool.with(policy).submit_stream::<u64, _, _>(HOLD, &("held", taken, 3 - taken)).unwrap();
        let mut elements: Vec<_> = stream.by_ref().take(taken as usize).collect();
        kill(wait_for_runs(&arena, "held", 1).pid);
        arena.open("held 2");
        elements.extend(stream);
        elements
    };
    (arena, elements)
}

#[test]
fn a_task_whose_results_were_seen_is_not_tried_again() {
    within(PATIENCE, || {
        let (arena, mut elements) = with_a_kill(Policy::default(), 2);
        let error = elements.pop().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.attempt(), error.signal()), (TaskErrorKind::Dead, 1, Some(9)));
        let seen: Vec<_> = elements.into_iter().map(Result::unwrap).collect();
        assert_eq!(seen, [item(1, 0), item(1, 1)]);
        assert_eq!(runs(&arena, "held").len(), 1);
    });
}

#[test]
fn a_task_whose_results_were_seen_begins_again_if_its_policy_says_so() {
    within(PATIENCE, || {
        let (_arena, elements) = with_a_kill(Policy::default().restart_stream(), 2);
        let seen: Vec<_> = elements.into_iter().map(Result::unwrap).collect();
        let again = [Streamed::Restarted { attempt: 2 }, item(2, 0), item(2, 1), item(2, 2)];
        assert_eq!(seen[..2], [item(1, 0), item(1, 1)]);
        assert_eq!(seen[2..6], again);
        assert_eq!(seen[6..], [Streamed::Finished(2)]);
    });
}

#[test]
fn a_task_without_results_yet_is_tried_again_in_silence() {
    within(PATIENCE, || {
        let (_arena, elements) = with_a_kill(Policy::default(), 0);
        let seen: Vec<_> = elements.into_iter().map(Result::unwrap).collect();
        assert_eq!(seen, [item(2, 0), item(2, 1), item(2, 2), Streamed::Finished(2)]);
    });
}

#[test]
fn a_stream_that_nobody_reads_is_given_up() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let limit = Duration::from_millis(150);
        let pool = performers(&arena, 1, "").stream_buffer(4, 1 << 20).stream_timeout(limit).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        let mut stream = pool.submit_stream::<Piece, _, _>(SPILL, &(5_000, PIECE)).unwrap();
        assert!(eventually(MOMENT, || stream.status() == TaskStatus::Done), "{stream:?}");
        let mut taken = 0;
        let error = loop {
            match stream.recv().unwrap() {
                Ok(Streamed::Item { value: (number, _), .. }) => {
                    assert_eq!(number, taken);
                    taken += 1;
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Stream, may_have_run: true });
        assert!((4..100).contains(&taken), "{taken} results were kept");
        // It asked whether it is cancelled, and was not ended.
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), (pid, 0, 1));
    });
}

#[test]
fn what_came_before_a_cancel_can_still_be_taken() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let mixed: Request<str, ()> = Request::new("mixed");
        let mut stream = pool.submit_stream::<IgnoredAny, _, _>(mixed, "mixed").unwrap();
        wait_for_runs(&arena, "mixed", 1);
        assert!(stream.recv().unwrap().is_ok());
        assert!(stream.recv().unwrap().is_ok());
        stream.cancel();
        stream.cancel();
        let error = stream.recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::Cancelled { may_have_run: true });
        assert!(stream.recv().is_none());
    });
}

#[test]
fn a_pool_that_is_killed_ends_its_streams() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena);
        let stream = pool.submit_stream::<u64, _, _>(LINGER, "open").unwrap();
        let never = pool.submit_stream::<u64, _, _>(COUNT, &1).unwrap();
        wait_for_runs(&arena, "open", 1);
        pool.kill();
        for mut stream in [
            stream.map(|element| element.map(drop)).collect::<Vec<_>>(),
            never.map(|element| element.map(drop)).collect(),
        ] {
            assert_eq!(stream.pop().unwrap().unwrap_err().kind(), TaskErrorKind::Closed);
            assert!(stream.is_empty());
        }
    });
}

/// A pool of one worker whose stream is full, with a stream that its worker waits to write to.
fn with_a_full_stream(arena: &Arena, policy: Policy) -> (Pool, ResultStream<Piece, u64>, u32) {
    let pool = pressed_performers(arena, 1, "").policy(policy).stream_buffer(4, 1 << 20).start().unwrap();
    let stream = pool.submit_stream::<Piece, _, _>(SPILL, &(1_000, PIECE)).unwrap();
    wait_for_effect(arena, "spilled 0");
    let TaskStatus::Running { pid, .. } = stream.status() else { panic!("{stream:?}") };
    let (mut still, mut before) = (0, u64::MAX);
    let stands = eventually(MOMENT, || {
        let now = stirrings(pid);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        still >= 20
    });
    assert!(stands, "the worker of a full stream works on");
    (pool, stream, pid)
}

/// How many results come, in order, and the last element.
fn the_rest(stream: ResultStream<Piece, u64>) -> (u64, Result<u64, TaskError>) {
    let mut count = 0;
    for element in stream {
        match element {
            Ok(Streamed::Item { value: (number, _), .. }) => {
                assert_eq!(number, count);
                count += 1;
            }
            Ok(Streamed::Finished(answer)) => return (count, Ok(answer)),
            Ok(Streamed::Restarted { .. }) => panic!("it began again"),
            Err(error) => return (count, Err(error)),
        }
    }
    panic!("it ended without an end after {count}");
}

#[test]
fn the_clock_of_an_attempt_stands_while_nobody_takes_its_results() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let limit = Duration::from_millis(800);
        let policy = Policy::default().attempts(1).timeout(limit).soft_timeout(limit);
        let (_pool, stream, _) = with_a_full_stream(&arena, policy);
        let full = Instant::now();
        assert!(eventually(MOMENT, || full.elapsed() > limit + limit / 2));
        assert_eq!(arena.count("spill stopped"), 0);
        let (count, answer) = the_rest(stream);
        assert_eq!((count, answer.unwrap()), (1_000, 1_000));
    });
}

#[test]
fn results_of_a_worker_that_was_killed_before_a_full_stream_are_there() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, stream, pid) = with_a_full_stream(&arena, Policy::default());
        kill(pid);
        let (count, end) = the_rest(stream);
        let error = end.unwrap_err();
        assert_eq!((error.kind(), error.signal(), error.attempt()), (TaskErrorKind::Dead, Some(9), 1));
        assert!((4..1_000).contains(&count), "{count}");
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap().2, 1);
    });
}

#[test]
fn a_full_stream_does_not_hold_up_the_end_of_its_pool() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (pool, stream, _) = with_a_full_stream(&arena, Policy::default());
        let begun = Instant::now();
        assert!(pool.shutdown(Duration::from_millis(100)).complete);
        assert!(begun.elapsed() < Duration::from_secs(3), "after {:?}", begun.elapsed());
        assert_eq!(the_rest(stream).1.unwrap_err().kind(), TaskErrorKind::Closed);
    });
}
