//! Batches and runs in a pool that ends, in a channel that nobody receives from, in a worker that goes.

use std::time::Duration;

use super::{DONE, SECOND, batching, done, grown, replace, with_batch};
use crate::core::sim::world::{World, Wrong, retry_after};
use crate::core::{Policy, TaskErrorKind};

#[test]
fn shutdown_finishes_what_is_in_frames_and_in_runs() {
    let (mut world, channel) = grown(1, 20);
    let tasks = world.submit_run(channel, 100);
    world.shutdown(60 * SECOND);
    let late = world.submit_run(channel, 3);
    assert!(late.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Closed))));
    world.answer_everything();
    assert!(done(&world, &tasks));
    world.exit(0, 0);
    assert!(world.core.is_over());
}

#[test]
fn what_waits_in_a_run_at_the_deadline_is_closed_and_a_batch_answered_in_the_grace_counts() {
    let (mut world, channel) = grown(1, 20);
    let tasks = world.submit_run(channel, 100);
    assert_eq!(world.frames(0), [10, 10]);
    world.shutdown(SECOND);
    world.advance(SECOND);
    let closed = |world: &World, tasks: &[u64]| {
        tasks.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Closed)))
    };
    assert!(closed(&world, &tasks[20..]));
    world.finish(0, 0, &[vec![DONE; 8], vec![Some(retry_after(None)); 2]].concat());
    world.give(0, 0, &[DONE; 3]);
    assert_eq!(world.end_of(tasks[9]), Some(Err(TaskErrorKind::Failed)), "there is no other try");
    world.die(0, 15);
    assert!(done(&world, &[&tasks[..8], &tasks[10..13]].concat()));
    assert!(closed(&world, &tasks[13..]));
    assert!(world.core.is_over());
}

#[test]
fn results_that_are_none_in_a_pool_that_stops_close_the_rest() {
    let (mut world, channel) = grown(1, 20);
    let tasks = world.submit_run(channel, 10);
    world.shutdown(Duration::ZERO);
    world.give_wrong(0, 0, None, Wrong::TooFew);
    assert!(done(&world, &tasks[..9]));
    assert_eq!(world.end_of(tasks[9]), Some(Err(TaskErrorKind::Closed)));
    world.die(0, 9);
    assert!(world.core.is_over());
}

#[test]
fn kill_answers_runs_at_once_and_frames_when_their_workers_are_gone() {
    let (mut world, channel) = grown(2, 20);
    let tasks = world.submit_run(channel, 600);
    let held: Vec<u64> = [world.held(0), world.held(1)].concat();
    world.kill();
    let closed = Some(Err(TaskErrorKind::Closed));
    assert!(tasks.iter().all(|task| held.contains(task) != (world.end_of(*task) == closed)));
    world.die(0, 9);
    world.die(1, 9);
    assert!(tasks.iter().all(|task| world.end_of(*task) == closed));
    assert!(world.core.is_over());
}

#[test]
fn a_pool_without_workers_answers_what_waits_in_runs() {
    let (mut world, channel) = grown(2, 20);
    let tasks = world.submit_run(channel, 600);
    world.exit(0, 125);
    assert!(!world.all_answered());
    world.exit(1, 125);
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Broken))));
    let late = world.submit_run(channel, 3);
    assert!(late.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Broken))));
}

#[test]
fn a_pool_that_breaks_answers_runs_at_once_and_frames_when_their_workers_are_gone() {
    let (mut world, channel) = grown(2, 8);
    let held = world.submit_run(channel, 5);
    assert_eq!((world.frames(0), world.frames(1)), (vec![4, 1], vec![]));
    // All others are deadly, and the last of them makes it the program's fault.
    for _ in 0..20 {
        world.submit_as(Policy::default().attempts(1), 0);
        world.die(1, 11);
        world.start(1, &batching(8));
    }
    world.submit_as(Policy::default().attempts(1), 0);
    let tasks = world.submit_run(channel, 100);
    world.die(1, 11);
    let broken = |world: &World, tasks: &[u64]| {
        tasks.iter().filter(|task| world.end_of(**task) == Some(Err(TaskErrorKind::Broken))).count()
    };
    assert!(world.core.broken().is_some());
    assert_eq!((broken(&world, &held), broken(&world, &tasks)), (0, 100), "the other has none of them");
    world.die(0, 9);
    assert_eq!((broken(&world, &held), broken(&world, &tasks)), (5, 100));
    assert!(world.core.is_over());
}

#[test]
fn results_that_nobody_receives_withdraw_what_has_not_begun() {
    let (mut world, channel) = grown(1, 20);
    let tasks = world.submit_run(channel, 100);
    world.close_channel(channel);
    world.answer_everything();
    assert!(done(&world, &tasks[..20]));
    let never = Some(Err(TaskErrorKind::Cancelled { may_have_run: false }));
    assert!(tasks[20..].iter().all(|task| world.end_of(*task) == never));
}

#[test]
fn results_that_nobody_receives_end_what_a_dead_worker_had() {
    let (mut world, channel) = grown(1, 20);
    let tasks = with_batch(&mut world, channel, 10);
    world.give(0, 0, &[DONE; 4]);
    world.close_channel(channel);
    replace(&mut world, 0, &batching(8));
    let may_have_run = Some(Err(TaskErrorKind::Cancelled { may_have_run: true }));
    assert!(tasks[4..].iter().all(|task| world.end_of(*task) == may_have_run));
}

#[test]
fn a_worker_that_is_to_go_goes_when_its_batch_was_answered_in_parts() {
    let (mut world, channel) = grown(2, 20);
    world.submit_run(channel, 600);
    world.resize(1);
    let leaves = usize::from(world.core.slots[0].retiring.is_none());
    while let Some(left) = world.frames(leaves).first().copied() {
        world.give(leaves, 0, &vec![DONE; left]);
        world.finish(leaves, 0, &[]);
    }
    assert!(world.child(leaves).was_told_to_die, "it has nothing to do");
}
