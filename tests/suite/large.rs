//! Large payloads: there and back unchanged, whatever their size; at the limits of frames; through the death of a worker; and the
//! memory they took.

use std::time::Duration;

use serde_bytes::ByteBuf;
use stokehold::{Data, Event, Order, Pool, PoolBuilder, Request, Task, TaskErrorKind};
use stokehold_tests::{Arena, eventually, kill, resident_bytes, stop, within};

use crate::child;
use crate::stage::{MOMENT, Overseer, PATIENCE, command, running_in};

const MIB: usize = 1 << 20;

/// Far more than a pipe, a buffer or a default limit holds.
const GIANT: usize = 64 * MIB;

/// The largest frame that there may be, which leaves room for a giant and its head.
const MAX_FRAME: u32 = 128 << 20;

const INFLATE: Request<usize, ByteBuf> = Request::new("inflate");

/// A pool of so many carriers that take frames up to that size, to be started. All that a test has on the way fits its queue.
fn carriers(arena: &Arena, workers: usize, max_frame: u32) -> PoolBuilder {
    let command = command(arena, child!("carrier")).arg(max_frame.to_string());
    Pool::builder(command).workers(workers).max_frame(MAX_FRAME).queue(10_000, 1 << 30)
}

/// Bytes that are other ones when they are shifted, or when a page of them is missing or comes twice: what repeats has a length
/// that is prime.
fn bytes(len: usize, seed: usize) -> Data {
    const PRIME: usize = 65_521;
    let repeated: Vec<u8> = (0..PRIME).map(|at| (((at + seed) * 2_654_435_761) >> 11) as u8).collect();
    let mut bytes = Vec::with_capacity(len + PRIME);
    while bytes.len() < len {
        bytes.extend_from_slice(&repeated);
    }
    bytes.truncate(len);
    Data::bytes(&bytes)
}

/// It is the same; without a page full of numbers if it is not.
fn assert_same(answer: &Data, input: &Data) {
    let (answer, input) = (answer.as_bytes(), input.as_bytes());
    if answer != input {
        let differs = answer.iter().zip(input).position(|(one, other)| one != other);
        panic!("{} bytes for {}, other from {differs:?} on", answer.len(), input.len());
    }
}

fn assert_all_come_back(inputs: &[Data], tasks: Vec<Task<Data>>) {
    for (input, task) in inputs.iter().zip(tasks) {
        assert_same(&task.wait().unwrap(), input);
    }
}

#[test]
fn giants_go_there_and_back_several_at_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 2, MAX_FRAME).start().unwrap();
        let inputs = [1, 2, 3, 4].map(|seed| bytes(GIANT - seed, seed));
        let submit = |(input, request)| pool.submit_data(request, input).unwrap();
        let tasks = inputs.iter().zip(["DO", "copy", "DO", "copy"]).map(submit).collect();
        // Small ones among them.
        assert_eq!(
            pool.submit_data("DO", &Data::text("small")).unwrap().wait().unwrap(),
            Data::text("small")
        );
        assert_all_come_back(&inputs, tasks);
    });
}

#[test]
fn a_giant_through_a_channel_among_tiny_ones_is_in_its_place() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 2, MAX_FRAME).start().unwrap();
        let (jobs, mut results) = pool.channel_data("DO", Order::Input).unwrap();
        let (giant, tiny) = (bytes(GIANT, 1), |number| Data::encode(&number).unwrap());
        std::thread::scope(|scope| {
            let giant = &giant;
            scope.spawn(move || {
                for number in 0..5_000_u32 {
                    jobs.send_data(&if number == 4_000 { giant.clone() } else { tiny(number) }).unwrap();
                }
            });
            for number in 0..5_000 {
                let answer = results.recv().unwrap().result.unwrap();
                assert_same(&answer, &if number == 4_000 { giant.clone() } else { tiny(number) });
            }
            assert!(results.recv().is_none());
        });
    });
}

#[test]
fn a_worker_that_is_killed_with_half_of_a_giant_has_it_done_by_the_next() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 1, MAX_FRAME).start().unwrap();
        let (events, input) = (pool.events(), bytes(GIANT, 3));
        let (jobs, mut results) = pool.channel_data("DO", Order::Input).unwrap();
        jobs.send_data(&Data::nil()).unwrap();
        let worker = results.recv().unwrap().answered_by.unwrap().pid;
        // It reads nothing any more, and no pipe holds a giant.
        stop(worker);
        let task = pool.submit_data("noted", &input).unwrap();
        assert_eq!(running_in(&task), worker);
        kill(worker);
        assert_same(&task.wait().unwrap(), &input);
        assert_eq!(arena.count("begun"), 1);
        let news: Vec<_> = events.try_iter().collect();
        assert!(news.iter().any(|event| matches!(event, Event::WorkerDied(_))), "{news:?}");
        // What was not there as a whole cost no attempt.
        assert!(!news.iter().any(|event| matches!(event, Event::TaskRetried { .. })), "{news:?}");
    });
}

#[test]
fn a_worker_that_is_killed_at_any_time_of_a_giant_loses_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 1, MAX_FRAME).start().unwrap();
        let input = bytes(GIANT, 5);
        let mut kills = 0;
        for milliseconds in [1, 5, 10, 20, 30, 40, 60, 80] {
            let task = pool.submit_data("DO", &input).unwrap();
            let worker = running_in(&task);
            // The killer's own beat: while it is read, done, or answered.
            if !eventually(Duration::from_millis(milliseconds), || task.is_done()) {
                kill(worker);
                kills += 1;
            }
            assert_same(&task.wait().unwrap(), &input);
        }
        assert!(kills > 0, "all were quicker than the kills");
    });
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn an_input_of_the_largest_frame_is_taken_and_one_byte_more_is_an_error_that_says_both() {
    within(PATIENCE, || {
        let arena = Arena::new();
        for max_frame in [66_000, 1 << 20, 24 << 20] {
            let pool = carriers(&arena, 2, max_frame).start().unwrap();
            let max_frame = max_frame as usize;
            let refused = |input: &Data| {
                let error = pool.submit_data("DO", input).unwrap().wait().unwrap_err();
                assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "too_large"), "{error}");
                numbers(error.message())
            };
            let around = refused(&bytes(max_frame, 1))[0] - max_frame;
            let exact = bytes(max_frame - around, 1);
            let neighbours = bytes(1_000, 2);
            let before = pool.submit_data("DO", &neighbours).unwrap();
            let fits = pool.submit_data("DO", &exact).unwrap();
            assert_eq!(refused(&bytes(max_frame - around + 1, 1)), [max_frame + 1, max_frame]);
            let after = pool.submit_data("DO", &neighbours).unwrap();
            assert_same(&fits.wait().unwrap(), &exact);
            assert_same(&before.wait().unwrap(), &neighbours);
            assert_same(&after.wait().unwrap(), &neighbours);
        }
    });
}

#[test]
fn an_answer_of_the_largest_frame_is_taken_and_one_byte_more_is_an_error_that_says_both() {
    within(PATIENCE, || {
        let arena = Arena::new();
        // The first one is what the protocol promises to every worker.
        for max_frame in [(16 << 20) - 1, 24 << 20] {
            let pool = carriers(&arena, 2, MAX_FRAME).max_frame(max_frame).start().unwrap();
            let max_frame = max_frame as usize;
            let [refused, _] = refused_answer(&pool, 2 * max_frame);
            let exact = max_frame - (refused - 2 * max_frame);
            assert_eq!(pool.submit(INFLATE, &exact).unwrap().wait().unwrap().len(), exact);
            assert_eq!(refused_answer(&pool, exact + 1), [max_frame + 1, max_frame]);
        }
    });
}

/// The numbers in what is said of an answer that is too large: of its frame, and of the limit.
fn refused_answer(pool: &Pool, len: usize) -> [usize; 2] {
    let error = pool.submit(INFLATE, &len).unwrap().wait().unwrap_err();
    assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "too_large"), "{error}");
    numbers(error.message()).try_into().unwrap_or_else(|_| panic!("{error}"))
}

#[test]
fn one_result_that_is_too_large_among_tiny_ones_is_the_only_one_that_fails() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 2, MAX_FRAME).max_frame(16 << 20).start().unwrap();
        let events = pool.events();
        // Larger ones, too: as large as a part of the answer to many, and more.
        let len = |number: usize| match number {
            9_000 => 16 * MIB,
            7_000 | 7_001 => MIB,
            _ if number.is_multiple_of(1_000) => 70_000,
            _ => number % 10,
        };
        for (number, result) in pool.map(INFLATE, (0..10_000).map(len)).into_iter().enumerate() {
            match result {
                Ok(bytes) => assert!(bytes.len() == len(number) && bytes.iter().all(|byte| *byte == 7)),
                Err(error) => {
                    assert_eq!(
                        (number, error.kind(), error.code()),
                        (9_000, TaskErrorKind::Failed, "too_large")
                    );
                    assert!(error.message().contains("16777216"), "{error}");
                }
            }
        }
        assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))), "a worker died");
    });
}

#[test]
fn what_a_worker_keeps_stays_as_it_was() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 1, MAX_FRAME).start().unwrap();
        let sizes = [1, 1_000, 20_000, 65_536, 200_000, MIB, 5 * MIB, 5 * MIB, 30, 70_000];
        let inputs: Vec<Data> = sizes.iter().enumerate().map(|(seed, len)| bytes(*len, seed)).collect();
        let hoarded: Vec<_> = inputs.iter().map(|input| pool.submit_data("hoard", input).unwrap()).collect();
        hoarded.into_iter().for_each(|task| drop(task.wait().unwrap()));
        // Others use the same buffers meanwhile, if any.
        let others: Vec<Data> = inputs.iter().map(|input| bytes(input.as_bytes().len(), 99)).collect();
        let tasks = others.iter().map(|other| pool.submit_data("DO", other).unwrap()).collect();
        assert_all_come_back(&others, tasks);
        for _ in 0..2 {
            for (place, input) in inputs.iter().enumerate() {
                let kept = pool.submit_data("hoarded", &Data::encode(&place).unwrap()).unwrap();
                assert_same(&kept.wait().unwrap(), input);
            }
        }
    });
}

#[test]
fn payloads_around_every_bound_go_both_ways_unchanged() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = carriers(&arena, 2, MAX_FRAME).window(8).start().unwrap();
        // Bounds of sharing (16 KiB), of buffers of their own and of pipes (64 KiB), of buffers that are kept; pages, and blocks of
        // 512 bytes. Heads are less than 64 bytes.
        let bounds = [512, 4_096, 8_192, 16_384, 3 * 4_096 + 512, 32_768, 65_536, 65_536 + 512, 131_072];
        let mut sizes: Vec<usize> = bounds.iter().flat_map(|bound| bound - 64..bound + 4).collect();
        sizes.extend((MIB - 8..MIB + 2).chain(4 * MIB - 2..4 * MIB + 2));
        let inputs: Vec<Data> = sizes.iter().enumerate().map(|(seed, len)| bytes(*len, seed)).collect();
        for request in ["DO", "copy"] {
            // One after the other, all at once, and through a channel.
            for input in &inputs {
                assert_same(&pool.submit_data(request, input).unwrap().wait().unwrap(), input);
            }
            let tasks = inputs.iter().map(|input| pool.submit_data(request, input).unwrap()).collect();
            assert_all_come_back(&inputs, tasks);
            let (jobs, mut results) = pool.channel_data(request, Order::Input).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let jobs = jobs;
                    inputs.iter().for_each(|input| jobs.send_data(input).unwrap());
                });
                for input in &inputs {
                    assert_same(&results.recv().unwrap().result.unwrap(), input);
                }
                assert!(results.recv().is_none());
            });
        }
    });
}

#[test]
fn memory_for_giants_is_given_back_by_parent_and_worker() {
    /// What a process of each kind has without any giant, twice.
    const SMALL: u64 = 24 << 20;
    within(PATIENCE, || {
        let arena = Arena::new();
        let max_frame = MAX_FRAME.to_string();
        let mut overseer = Overseer::start(&arena, "giants", 2, &[child!("carrier"), &max_frame]);
        overseer.wait_for("idle");
        assert!(overseer.number("peak") > GIANT as u64, "there was no giant");
        // All of them: the parent, its workers, and who looks after them.
        let sizes = || arena.survivors().into_iter().map(resident_bytes).collect::<Vec<_>>();
        let small = eventually(MOMENT, || sizes().into_iter().all(|size| size < SMALL));
        assert!(small, "they keep {:?} bytes", sizes());
        assert!(sizes().len() >= 3, "{:?}", sizes());
    });
}
