//! Tasks that are not wanted any more, wherever they are, and what it does to those beside them: nothing.

use std::time::Duration;

use stokehold_protocol::{Capability, ChildHello};

use super::world::{GRACE, World, able, config, died, parallel, serial, stopped};
use crate::core::{Cause, Policy, SupervisorConfig, TaskErrorKind};

const MS: Duration = Duration::from_millis(1);
const NEVER_RAN: TaskErrorKind = TaskErrorKind::Cancelled { may_have_run: false };
const MAY_HAVE_RUN: TaskErrorKind = TaskErrorKind::Cancelled { may_have_run: true };

fn obedient(window: u32) -> ChildHello {
    able(serial(window), &[Capability::Cancel])
}

#[test]
fn a_queued_task_ends_at_once() {
    let mut world = World::ready(1, 1);
    world.submit();
    let queued = world.submit();
    world.cancel(queued);
    assert_eq!(world.end_of(queued), Some(Err(NEVER_RAN)));
}

#[test]
fn a_running_task_ends_when_its_worker_has_stopped_it() {
    let mut world = World::ready_as(1, &obedient(1));
    let task = world.submit();
    world.cancel(task);
    assert!(world.child(0).tasks[0].cancelled);
    assert_eq!(world.end_of(task), None);
    world.fail(0, &stopped());
    assert_eq!(world.end_of(task), Some(Err(MAY_HAVE_RUN)));
    world.advance(10 * GRACE);
    assert!(!world.child(0).terminated);
}

#[test]
fn a_running_task_that_does_not_stop_costs_its_worker() {
    let mut world = World::ready_as(1, &obedient(1));
    let task = world.submit();
    world.cancel(task);
    world.advance(GRACE - MS);
    assert!(!world.child(0).terminated);
    world.advance(MS);
    assert!(world.child(0).terminated);
    world.advance(GRACE);
    assert!(world.child(0).killed);
    assert_eq!(world.end_of(task), None, "it may be running yet");
    world.die(0, 9);
    assert_eq!(world.end_of(task), Some(Err(MAY_HAVE_RUN)));
    assert!(matches!(died(&world.events)[0].cause, Cause::CancelIgnored { .. }));
}

#[test]
fn an_answer_after_cancel_is_the_answer() {
    let mut world = World::ready_as(1, &obedient(1));
    let task = world.submit();
    world.cancel(task);
    world.answer(0);
    assert_eq!(world.end_of(task), Some(Ok(1)));
}

#[test]
fn a_task_behind_others_ends_at_once_and_the_others_lose_nothing() {
    let mut world = World::ready_as(1, &obedient(3));
    let tasks = world.submit_many(3);
    world.cancel(tasks[1]);
    assert_eq!(world.end_of(tasks[1]), Some(Err(MAY_HAVE_RUN)));
    world.advance(100 * GRACE);
    assert!(!world.child(0).terminated, "the first takes as long as it takes");
    world.answer(0);
    world.advance(GRACE - MS);
    world.fail(0, &stopped());
    world.advance(100 * GRACE);
    assert!(!world.child(0).terminated);
    world.answer(0);
    assert_eq!([tasks[0], tasks[2]].map(|task| world.end_of(task)), [Some(Ok(1)); 2]);
}

#[test]
fn a_worker_that_goes_on_with_a_task_that_has_ended_is_ended_and_the_next_loses_nothing() {
    let mut world = World::ready_as(1, &obedient(3));
    let tasks = world.submit_many(3);
    world.cancel(tasks[1]);
    world.answer(0);
    world.advance(GRACE);
    assert!(world.child(0).terminated);
    world.die(0, 15);
    assert!(matches!(died(&world.events)[0].cause, Cause::CancelIgnored { task } if task == tasks[1]));
    world.start(0, &obedient(3));
    assert_eq!(world.held(0), tasks[2..]);
    world.answer(0);
    assert_eq!(world.end_of(tasks[2]), Some(Ok(1)));
    assert_eq!(world.lives_lost(tasks[2]), 0);
}

#[test]
fn those_beside_a_task_that_does_not_stop_lose_nothing() {
    let mut world = World::ready_as(1, &able(parallel(3), &[Capability::Cancel]));
    let tasks = world.submit_many(3);
    world.cancel(tasks[0]);
    world.advance(2 * GRACE);
    world.die(0, 9);
    world.start(0, &parallel(3));
    world.answer_everything();
    assert_eq!([tasks[1], tasks[2]].map(|task| world.lives_lost(task)), [0, 0]);
    assert!(tasks[1..].iter().all(|task| matches!(world.end_of(*task), Some(Ok(_)))));
}

#[test]
fn two_that_do_not_stop_are_both_waited_for() {
    let hello = able(parallel(3), &[Capability::Cancel, Capability::Started]);
    let config = SupervisorConfig { reports_starts: true, window: Some(3), ..config(1) };
    let mut world = World::ready_of(config, &hello);
    let tasks = world.submit_many(3);
    for index in 0..3 {
        world.begin(0, index);
    }
    world.cancel(tasks[0]);
    world.cancel(tasks[1]);
    world.answer(0);
    world.advance(GRACE);
    assert!(world.child(0).terminated, "the second ignores it");
}

#[test]
fn the_bytes_of_a_task_that_has_ended_are_given_back_with_its_lease() {
    let hello = ChildHello { window_bytes: Some(100), ..obedient(8) };
    let mut world = World::ready_as(1, &hello);
    world.submit();
    for _ in 0..10 {
        let cancelled = world.submit();
        assert_eq!(world.held(0).len(), 2);
        world.cancel(cancelled);
        world.fail_at(0, 1, &stopped());
    }
    world.submit();
    assert_eq!(world.held(0).len(), 2, "nothing is left of the cancelled ones");
}

#[test]
fn a_cancel_does_not_bring_back_what_must_not_run_twice() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(Policy::once(), 0);
    world.cancel(task);
    assert!(world.child(0).terminated);
    world.die(0, 15);
    assert_eq!(world.end_of(task), Some(Err(MAY_HAVE_RUN)));
}

#[test]
fn a_cancel_while_a_neighbours_stream_is_full_waits_for_nobody_and_harms_nobody() {
    let mut world = World::ready_as(1, &able(parallel(2), &[Capability::Cancel]));
    let stream = world.submit_stream(Policy::default(), 2);
    let other = world.submit();
    world.items(0, 0, 2);
    world.cancel(other);
    assert_eq!(world.end_of(other), Some(Err(MAY_HAVE_RUN)));
    world.fail_at(0, 1, &stopped());
    world.advance(10 * GRACE);
    assert!(!world.child(0).terminated, "its word could not be read");
    world.take_items(stream, 2);
    world.advance(10 * GRACE);
    assert!(!world.child(0).terminated);
    world.answer(0);
    assert_eq!(world.end_of(stream), Some(Ok(1)));
}

#[test]
fn an_answer_after_sigterm_does_not_move_the_blame_to_the_next_task() {
    let mut world = World::ready(1, 2);
    let tasks = [world.submit(), world.submit_as(Policy::default().attempts(1), 0)];
    world.cancel(tasks[0]);
    assert!(world.child(0).terminated);
    world.answer(0);
    world.die(0, 15);
    assert_eq!(world.end_of(tasks[0]), Some(Ok(1)));
    world.start(0, &serial(2));
    assert_eq!(world.answer(0), tasks[1], "it was not its fault");
}
