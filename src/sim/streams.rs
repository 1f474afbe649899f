//! Results one by one: held back at the source, whole or with an error, and seen twice only by whoever asked for it.

use std::time::Duration;

use stokehold_protocol::{Capability, ChildHello};

use super::world::{
    FRAME_TIMEOUT, GRACE, STREAM_TIMEOUT, World, able, parallel, retry_after, serial, stopped,
};
use crate::core::{Limit, Policy, TaskErrorKind};

const MS: Duration = Duration::from_millis(1);

fn obedient(window: u32) -> ChildHello {
    able(serial(window), &[Capability::Cancel])
}

#[test]
fn a_full_stream_stops_the_reading_of_its_worker_and_a_consumer_lets_it_go_on() {
    let mut world = World::ready(2, 1);
    let stream = world.submit_stream(Policy::default(), 2);
    let slot = usize::from(!world.has_tasks(0));
    let other = world.submit();
    world.items(slot, 0, 2);
    assert!(world.child(slot).paused && !world.child(1 - slot).paused);
    world.items(slot, 0, 1);
    assert_eq!(world.stream(stream).came, 2, "the rest stays in the pipe");
    assert_eq!(world.answer(1 - slot), other);
    world.take_items(stream, 1);
    assert_eq!((world.stream(stream).came, world.child(slot).paused), (3, true));
    world.take_items(stream, 2);
    world.answer(slot);
    assert_eq!(world.end_of(stream), Some(Ok(1)));
}

#[test]
fn a_worker_that_is_not_read_gets_no_tasks() {
    let mut world = World::ready_as(2, &parallel(4));
    world.submit_stream(Policy::default(), 1);
    let slot = usize::from(!world.has_tasks(0));
    world.item(slot, 0);
    world.submit_many(4);
    assert_eq!((world.held(slot).len(), world.held(1 - slot).len()), (1, 4));
}

#[test]
fn a_consumer_that_takes_nothing_costs_the_task_and_not_its_worker() {
    let mut world = World::ready_as(1, &obedient(1));
    let stream = world.submit_stream(Policy::default(), 1);
    world.item(0, 0);
    world.advance(STREAM_TIMEOUT - MS);
    assert!(world.child(0).paused && !world.child(0).tasks[0].cancelled);
    world.advance(MS);
    assert!(!world.child(0).paused && world.child(0).tasks[0].cancelled);
    world.fail(0, &stopped());
    let kind = TaskErrorKind::TimedOut { limit: Limit::Stream, may_have_run: true };
    assert_eq!(world.end_of(stream), Some(Err(kind)));
    world.advance(10 * GRACE);
    assert!(!world.child(0).terminated);
}

#[test]
fn the_limits_of_an_attempt_stand_still_while_its_stream_is_full() {
    let mut world = World::ready(1, 1);
    let limit = 100 * MS;
    let stream = world.submit_stream(Policy::default().timeout(limit), 1);
    world.advance(60 * MS);
    world.item(0, 0);
    world.advance(10_000 * MS);
    assert!(!world.child(0).terminated);
    world.take_items(stream, 1);
    world.advance(39 * MS);
    assert!(!world.child(0).terminated);
    world.advance(MS);
    assert!(world.child(0).terminated);
}

#[test]
fn the_limit_of_all_attempts_does_not_stand_still() {
    let mut world = World::ready(1, 1);
    world.submit_stream(Policy::default().total_timeout(100 * MS), 1);
    world.item(0, 0);
    world.advance(100 * MS);
    assert!(world.child(0).terminated);
}

#[test]
fn half_a_frame_does_not_count_against_a_worker_that_is_not_read() {
    let mut world = World::ready(1, 1);
    let stream = world.submit_stream(Policy::default(), 1);
    world.say(0, |child, out| {
        let id = child.tasks[0].id;
        child.tasks[0].items += 1;
        child.session().item(id, &[0], out).expect("an open task");
        out.extend_from_slice(&[0, 0, 0]);
    });
    assert!(world.child(0).paused);
    world.advance(FRAME_TIMEOUT + 10_000 * MS);
    assert!(!world.child(0).killed);
    world.take_items(stream, 1);
    world.advance(FRAME_TIMEOUT - MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
}

#[test]
fn a_crash_after_the_first_result_is_the_end_unless_it_may_begin_anew() {
    let mut world = World::ready(1, 1);
    let task = world.submit_stream(Policy::default(), 9);
    world.item(0, 0);
    world.die(0, 11);
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Dead)));
    world.start(0, &serial(1));
    let task = world.submit_stream(Policy::default().restart_stream(), 9);
    world.items(0, 0, 3);
    world.die(0, 11);
    world.advance(100 * MS);
    world.start(0, &serial(1));
    assert_eq!((world.stream(task).restarts, world.stream(task).came), (1, 0));
    world.items(0, 0, 2);
    world.answer(0);
    assert_eq!(world.end_of(task), Some(Ok(2)));
}

#[test]
fn a_crash_before_the_first_result_is_like_any_other() {
    let mut world = World::ready(1, 1);
    let task = world.submit_stream(Policy::default(), 9);
    world.die(0, 11);
    world.start(0, &serial(1));
    world.items(0, 0, 2);
    world.answer(0);
    assert_eq!((world.end_of(task), world.stream(task).restarts), (Some(Ok(2)), 0));
}

#[test]
fn a_failure_after_the_first_result_is_not_tried_again() {
    let mut world = World::ready(1, 1);
    let task = world.submit_stream(Policy::default(), 9);
    world.item(0, 0);
    world.fail(0, &retry_after(None));
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Failed)));
}

#[test]
fn results_after_the_soft_limit_are_results() {
    let mut world = World::ready_as(1, &obedient(1));
    let task = world.submit_stream(Policy::default().soft_timeout(100 * MS), 9);
    world.item(0, 0);
    world.advance(100 * MS);
    world.items(0, 0, 2);
    world.answer(0);
    assert_eq!((world.end_of(task), world.stream(task).came), (Some(Ok(1)), 3));
}

#[test]
fn an_answer_in_the_grace_is_whole_or_none() {
    for (room, end) in
        [(9, Ok(1)), (2, Err(TaskErrorKind::TimedOut { limit: Limit::Attempt, may_have_run: true }))]
    {
        let mut world = World::ready_as(1, &obedient(1));
        let task = world.submit_stream(Policy::default().timeout(100 * MS), room);
        world.item(0, 0);
        world.advance(100 * MS);
        world.items(0, 0, 3);
        world.answer(0);
        assert_eq!(world.end_of(task), Some(end), "with room for {room}");
    }
}

#[test]
fn an_answer_of_a_worker_that_is_being_ended_is_whole_or_none() {
    let mut world = World::ready(1, 1);
    let task = world.submit_stream(Policy::default().total_timeout(100 * MS), 2);
    world.item(0, 0);
    world.shutdown(99 * MS);
    world.advance(100 * MS);
    assert!(world.child(0).terminated);
    world.items(0, 0, 3);
    world.answer(0);
    let kind = TaskErrorKind::TimedOut { limit: Limit::Total, may_have_run: true };
    assert_eq!(world.end_of(task), Some(Err(kind)));
}
