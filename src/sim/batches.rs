//! Several tasks of a channel in one frame: how many, and who gets them. What becomes of each when something goes wrong is in
//! `deaths` and `failures`, and how it ends with the pool in `ends`.

use std::time::Duration;

use stokehold_protocol::{Capability, ChildHello, Failure};

use super::world::{World, able, config, serial};
use crate::core::supervisor::WITHHELD_MAX;
use crate::core::{Event, Policy, SupervisorConfig};

mod deaths;
mod ends;
mod failures;

const MICRO: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A good result.
const DONE: Option<Failure> = None;

/// The HELLO of a child that takes so many frames, each with one task or many.
fn batching(frames: u32) -> ChildHello {
    able(serial(frames), &[Capability::Batch, Capability::Meta])
}

/// A pool whose workers are ready and take batches, each up to so many tasks at a time, and a channel.
fn pool(workers: usize, window: u32) -> (World, usize) {
    pool_as(workers, window, &batching(8))
}

fn pool_as(workers: usize, window: u32, hello: &ChildHello) -> (World, usize) {
    let mut world = World::ready_of(SupervisorConfig { window: Some(window), ..config(workers) }, hello);
    let channel = world.open_channel(Policy::default());
    (world, channel)
}

/// The same where as many tasks go in one frame as that, or as many as fit.
fn grown(workers: usize, window: u32) -> (World, usize) {
    grown_as(workers, window, &batching(8), Policy::default())
}

fn grown_as(workers: usize, window: u32, hello: &ChildHello, policy: Policy) -> (World, usize) {
    let (mut world, _) = pool_as(workers, window, hello);
    let channel = world.open_channel(policy);
    grow(&mut world, channel);
    (world, channel)
}

/// Tasks that take no time make the frames of a channel as large as they may be.
fn grow(world: &mut World, channel: usize) {
    while world.batch_size(channel) < 1_024 {
        world.submit_run(channel, 2_000);
        world.answer_everything();
    }
}

/// What the only worker has: a batch of so many tasks.
fn with_batch(world: &mut World, channel: usize, count: usize) -> Vec<u64> {
    let tasks = world.submit_run(channel, count);
    assert_eq!(world.frames(0), [count]);
    tasks
}

/// A worker answers its oldest frame, after so long for each task in it.
fn work(world: &mut World, slot: usize, each: Duration) {
    let count = u32::try_from(world.frames(slot)[0]).expect("a number of tasks");
    world.advance(each * count);
    world.answer(slot);
}

/// A worker dies, and another comes in its place.
fn replace(world: &mut World, slot: usize, hello: &ChildHello) {
    world.die(slot, 11);
    world.advance(5 * SECOND);
    world.start(slot, hello);
}

fn done(world: &World, tasks: &[u64]) -> bool {
    tasks.iter().all(|task| matches!(world.end_of(*task), Some(Ok(_))))
}

fn lives(world: &World, tasks: &[u64]) -> u32 {
    tasks.iter().map(|task| world.lives_lost(*task)).sum()
}

// How many.

#[test]
fn frames_grow_from_one_by_factors_of_four_to_a_quarter_of_a_millisecond() {
    let (mut world, channel) = pool_as(1, 4_096, &batching(2));
    world.submit_run(channel, 3_000);
    while !world.all_answered() {
        work(&mut world, 0, MICRO);
    }
    let mut sizes: Vec<u32> = world.deliveries.iter().map(|delivery| delivery.count).collect();
    sizes.dedup();
    assert_eq!(sizes[..5], [1, 4, 16, 64, 250]);
}

#[test]
fn no_frame_has_more_than_a_thousand_tasks_however_quick_they_are() {
    let (mut world, channel) = grown(1, 8_192);
    world.submit_run(channel, 4_000);
    assert_eq!(world.frames(0), [1_024, 1_024, 1_024, 928]);
}

#[test]
fn no_frame_has_more_bytes_than_the_smallest_limit_there_is() {
    let (mut world, channel) = grown(1, 1_000);
    let tasks = world.put_run(channel, &[vec![10_000; 7], vec![40_000], vec![0; 3]].concat());
    world.settle();
    assert_eq!(world.frames(0), [6, 5]);
    world.answer_everything();
    assert!(done(&world, &tasks));
}

#[test]
fn one_slow_answer_ends_it() {
    let (mut world, channel) = grown(1, 1_000);
    let tasks = world.submit_run(channel, 2_000);
    assert_eq!(world.frames(0), [500, 500]);
    work(&mut world, 0, MICRO);
    work(&mut world, 0, MS);
    assert_eq!(world.batch_size(channel), 1);
    while !world.all_answered() {
        work(&mut world, 0, MS);
    }
    let last = world.deliveries.iter().filter(|delivery| delivery.task > tasks[1_500]);
    let (single, together): (Vec<u32>, _) =
        last.map(|delivery| delivery.count).partition(|count| *count == 1);
    assert!(together.iter().all(|count| *count <= 4), "a few are tried together: {together:?}");
    assert!(single.len() > 10 * together.len(), "they go one by one");
}

#[test]
fn a_slow_channel_does_not_hold_back_another() {
    let (mut world, quick) = grown(1, 1_000);
    let slow = world.open_channel(Policy::default());
    grow(&mut world, slow);
    world.submit_run(slow, 1);
    work(&mut world, 0, 10 * MS);
    assert_eq!((world.batch_size(slow), world.batch_size(quick)), (1, 1_024));
}

#[test]
fn tasks_with_something_of_their_own_go_one_by_one() {
    let policy = Policy::default();
    let policies = [
        Policy::once(),
        policy.with_key(),
        policy.retry_crashes(false),
        policy.timeout(SECOND),
        policy.soft_timeout(SECOND),
        policy.total_timeout(SECOND),
    ];
    for policy in policies {
        let (mut world, _) = pool(1, 100);
        let channel = world.open_channel(policy);
        world.submit_run(channel, 200);
        world.answer_everything();
        assert!(world.deliveries.iter().all(|delivery| delivery.count == 1), "{policy:?}");
    }
}

// Who.

#[test]
fn tasks_that_are_not_tiny_are_shared_evenly() {
    let (mut world, channel) = pool(2, 32);
    world.submit_run(channel, 2);
    (0..2).for_each(|slot| work(&mut world, slot, 60 * MICRO));
    assert_eq!(world.batch_size(channel), 4);
    world.submit_run(channel, 6);
    assert_eq!([world.frames(0), world.frames(1)], [[3], [3]]);
}

#[test]
fn few_tiny_tasks_are_not_worth_another_worker_but_do_not_wait_for_long() {
    let (mut world, channel) = grown(2, 32);
    let tasks = world.submit_run(channel, 40);
    assert_eq!((world.frames(0), world.frames(1)), (vec![16, 16], vec![]));
    world.advance(WITHHELD_MAX - MICRO);
    assert!(!world.has_tasks(1));
    world.advance(MICRO);
    assert_eq!(world.held(1), tasks[32..], "the other may have become slow");
}

#[test]
fn many_tiny_tasks_are_worth_another_worker() {
    let (mut world, channel) = grown(2, 32);
    world.submit_run(channel, 32 + 256);
    assert_eq!([world.frames(0), world.frames(1)], [[16, 16], [16, 16]]);
}

#[test]
fn a_worker_more_than_processors_gets_whole_frames_of_tiny_tasks_only() {
    let mut world =
        World::ready_of(SupervisorConfig { cores: 1, window: Some(32), ..config(2) }, &batching(8));
    let channel = world.open_channel(Policy::default());
    grow(&mut world, channel);
    world.submit_run(channel, 4_000);
    assert_eq!((world.frames(0), world.frames(1)), (vec![16, 16], vec![]));
    world.submit_run(channel, 200);
    assert_eq!(world.frames(1), [16, 16]);
}

#[test]
fn how_long_tasks_take_says_little_where_more_workers_are_busy_than_there_are_processors() {
    let mut world =
        World::ready_of(SupervisorConfig { cores: 1, window: Some(32), ..config(4) }, &batching(8));
    let channel = world.open_channel(Policy::default());
    // Each waits a millisecond for a processor, however many there are in a frame.
    while world.batch_size(channel) < 1_024 {
        world.submit_run(channel, 400);
        while !world.all_answered() {
            world.advance(MS);
            (0..4).filter(|slot| world.has_tasks(*slot)).collect::<Vec<_>>().into_iter().for_each(|slot| {
                world.answer(slot);
            });
        }
    }
}

#[test]
fn a_frame_has_half_a_window_at_most() {
    for (window, frames) in [(1, vec![1]), (2, vec![1, 1]), (3, vec![2, 1]), (10, vec![5, 5])] {
        let (mut world, channel) = grown_as(1, window, &batching(8), Policy::default());
        world.submit_run(channel, 100);
        assert_eq!(world.frames(0), frames, "of a window of {window}");
    }
}

#[test]
fn a_worker_that_takes_one_frame_at_a_time_gets_frames_that_grow() {
    let (mut world, channel) = pool_as(1, 100, &batching(1));
    world.submit_run(channel, 85);
    for size in [1, 4, 16, 50, 14] {
        assert_eq!(world.frames(0), [size]);
        work(&mut world, 0, MICRO);
    }
}

#[test]
fn few_tiny_tasks_wait_for_more_while_a_worker_has_others_to_do() {
    let (mut world, channel) = grown(1, 4_096);
    world.submit_run(channel, 10);
    world.submit_run(channel, 511);
    assert_eq!(world.frames(0), [10], "half a frame is worth it, less is not");
    world.submit_run(channel, 1);
    assert_eq!(world.frames(0), [10, 511, 1]);
    world.submit_run(channel, 1_023);
    world.answer(0);
    assert_eq!(world.frames(0), [511, 1], "the third is to be a whole one");
    world.answer(0);
    assert_eq!(world.frames(0), [1, 1_023]);
}

#[test]
fn a_learned_window_grows_with_the_frames() {
    let mut world = World::new(1);
    let channel = world.open_channel(Policy::default());
    world.start(0, &batching(2));
    world.submit_run(channel, 100_000);
    for _ in 0..60 {
        work(&mut world, 0, MICRO);
    }
    assert_eq!(world.frames(0), [250, 250]);
}

#[test]
fn a_worker_that_does_not_list_it_gets_one_task_a_frame() {
    let (mut world, channel) = grown(1, 100);
    world.exit(0, 0);
    world.start(0, &serial(8));
    let tasks = world.submit_run(channel, 40);
    assert_eq!(world.frames(0), [1; 8]);
    world.answer_everything();
    assert!(done(&world, &tasks));
}

#[test]
fn what_is_said_of_a_batch_names_its_first_task_without_a_result() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 3);
    let progress = |world: &World| {
        let events = world.events.iter().filter_map(|event| match event {
            Event::Progress { task, .. } => Some(*task),
            _ => None,
        });
        events.collect::<Vec<_>>()
    };
    world.progress(0, 0);
    world.give(0, 0, &[DONE; 2]);
    world.progress(0, 0);
    assert_eq!(progress(&world), [tasks[0], tasks[2]]);
    world.give(0, 0, &[DONE]);
    world.progress(0, 0);
    let id = world.child(0).tasks[0].id;
    world.say(0, |child, out| child.session().log(id, b"\x80", out).expect("it is open"));
    assert_eq!(progress(&world).len(), 2, "nothing goes on any more");
    assert!(matches!(world.events.last(), Some(Event::Log { task: None, .. })));
}
