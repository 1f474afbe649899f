//! Who gets how much: windows that learn, even shares, and a pipe that is full.

use std::time::Duration;

use super::world::{World, serial};
use crate::core::{Policy, TaskErrorKind};

/// A worker of a pool with learned windows that answers one task each `pause`, until it has answered `count`.
fn work(world: &mut World, count: usize, pause: Duration) {
    for _ in 0..count {
        world.advance(pause);
        world.answer(0);
    }
}

fn learning(window: u32) -> World {
    let mut world = World::new(1);
    world.start(0, &serial(window));
    for _ in 0..5_000 {
        world.put(Policy::default(), 0);
    }
    world.settle();
    world
}

#[test]
fn slow_tasks_are_not_hoarded() {
    let mut world = learning(64);
    work(&mut world, 20, Duration::from_millis(10));
    assert_eq!(world.held(0).len(), 1);
}

#[test]
fn tiny_tasks_are_sent_ahead_as_far_as_the_worker_takes_them() {
    let mut world = learning(64);
    work(&mut world, 200, Duration::from_micros(5));
    assert_eq!(world.held(0).len(), 64);
}

#[test]
fn tasks_that_become_slow_are_soon_sent_one_by_one() {
    let mut world = learning(64);
    work(&mut world, 200, Duration::from_micros(1));
    work(&mut world, 64 + 6, Duration::from_millis(10));
    assert_eq!(
        world.held(0).len(),
        1,
        "what was learned beyond the worker's window is not to be unlearned first"
    );
}

#[test]
fn a_worker_may_widen_and_close_its_window() {
    let mut world = World::with_window(1, Some(8));
    world.start(0, &serial(2));
    world.submit_many(20);
    assert_eq!(world.held(0).len(), 2);
    world.credit(0, 5);
    assert_eq!(world.held(0).len(), 5);
    world.credit(0, 0);
    world.answer_everything();
    assert!(!world.all_answered() && !world.core.has_idle_worker());
    world.credit(0, 100);
    assert_eq!(world.held(0).len(), 8, "the user's is the limit");
}

#[test]
fn a_closed_window_does_not_hold_up_a_shutdown() {
    let mut world = World::ready(1, 1);
    world.credit(0, 0);
    let task = world.submit();
    world.shutdown(Duration::from_secs(1));
    world.advance(Duration::from_secs(2));
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Closed)));
    world.die(0, 9);
    assert!(world.core.is_over());
}

#[test]
fn every_idle_worker_gets_one_before_anybody_gets_two() {
    let mut world = World::ready(4, 8);
    for _ in 0..6 {
        world.put(Policy::default(), 0);
    }
    world.settle();
    let mut held: Vec<usize> = (0..4).map(|slot| world.held(slot).len()).collect();
    held.sort_unstable();
    assert_eq!(held, [1, 1, 2, 2]);
}

#[test]
fn many_tasks_are_shared_evenly() {
    let mut world = World::ready(4, 16);
    for _ in 0..24 {
        world.put(Policy::default(), 0);
    }
    world.settle();
    for slot in 0..4 {
        let held = world.held(slot).len();
        assert!((5..=7).contains(&held), "worker {slot} got {held} of 24");
    }
}

#[test]
fn a_full_pipe_takes_no_further_tasks_and_loses_none() {
    let mut world = World::ready(1, 1_000);
    world.reads(0, false);
    let tasks: Vec<u64> = (0..100).map(|_| world.submit_as(Policy::default(), 10_000)).collect();
    let waiting = world.core.outbox(0).map_or(0, |outbox| outbox.len());
    assert!((250_000..300_000).contains(&waiting), "{waiting} bytes wait");
    world.reads(0, true);
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

/// Both workers of a pool have learned wide windows, and have nothing to do.
fn two_quick() -> World {
    let mut world = World::new(2);
    for slot in 0..2 {
        world.start(slot, &serial(64));
    }
    for _ in 0..1_000 {
        world.put(Policy::default(), 0);
    }
    world.settle();
    while !world.all_answered() {
        world.advance(Duration::from_micros(5));
        for slot in 0..2 {
            if world.has_tasks(slot) {
                world.answer(slot);
            }
        }
    }
    world
}

#[test]
fn nothing_is_put_behind_a_task_that_takes_longer_than_was_to_be_expected() {
    let mut world = two_quick();
    let slow = world.submit();
    let slot = usize::from(!world.has_tasks(0));
    world.advance(Duration::from_millis(5));
    for _ in 0..100 {
        world.put(Policy::default(), 0);
    }
    world.settle();
    assert_eq!((world.held(slot).len(), world.held(1 - slot).len()), (1, 64));
    while world.has_tasks(1 - slot) {
        world.answer(1 - slot);
    }
    assert_eq!((world.held(slot), world.all_answered()), (vec![slow], false), "all others are done");
}

#[test]
fn nothing_is_put_behind_a_stream_whose_consumer_may_wait_for_it() {
    let mut world = two_quick();
    let stream = world.submit_stream(Policy::default(), 2);
    let slot = usize::from(!world.has_tasks(0));
    world.items(slot, 0, 1);
    world.submit_many(50);
    assert_eq!((world.held(slot).len(), world.held(1 - slot).len()), (1, 50));
    world.take_items(stream, 1);
    world.answer(slot);
    world.submit_many(50);
    assert!(world.held(slot).len() > 1, "it is an ordinary worker again");
}
