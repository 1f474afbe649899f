//! How a pool ends: drained, by force, or broken.

use std::time::Duration;

use super::world::{World, retry_after, serial};
use crate::core::{Rung, TaskErrorKind};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn shutdown_finishes_what_was_accepted() {
    let mut world = World::ready(2, 1);
    let tasks = world.submit_many(6);
    world.shutdown(60 * SECOND);
    let late = world.submit();
    assert_eq!(world.end_of(late), Some(Err(TaskErrorKind::Closed)));
    assert!(!world.child(0).was_told_to_die, "there is work");
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
    for slot in 0..2 {
        assert!(world.child(slot).was_told_to_die && world.child(slot).input_ended);
        world.exit(slot, 0);
        assert_eq!(world.core.summary(slot).map(|summary| summary.rung), Some(Rung::Asked));
    }
    assert!(world.core.is_over());
    assert_eq!(world.deaths(), 0, "they were told to");
}

#[test]
fn an_idle_worker_is_ended_while_another_works() {
    let mut world = World::ready(2, 1);
    world.submit();
    let busy = usize::from(!world.has_tasks(0));
    world.shutdown(60 * SECOND);
    assert!(world.child(1 - busy).was_told_to_die && !world.child(busy).was_told_to_die);
}

#[test]
fn what_ignores_the_end_gets_sigterm_and_then_sigkill() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.shutdown(10 * SECOND);
    world.advance(10 * SECOND - MS);
    assert!(!world.child(0).terminated);
    world.advance(MS);
    assert!(world.child(0).terminated && !world.child(0).killed);
    world.advance(499 * MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Closed)));
    assert!(world.core.is_over());
}

#[test]
fn what_is_queued_at_the_deadline_is_closed_and_what_is_answered_in_the_grace_counts() {
    let mut world = World::ready(1, 1);
    let tasks = world.submit_many(2);
    world.shutdown(SECOND);
    world.advance(SECOND);
    assert_eq!(world.end_of(tasks[1]), Some(Err(TaskErrorKind::Closed)));
    world.answer(0);
    world.die(0, 15);
    assert_eq!(world.end_of(tasks[0]), Some(Ok(1)));
    assert!(world.core.is_over());
}

#[test]
fn a_crash_while_draining_is_made_good() {
    let mut world = World::ready(1, 2);
    let tasks = world.submit_many(2);
    world.shutdown(60 * SECOND);
    world.die(0, 11);
    assert_eq!(world.deaths(), 1, "nobody told it to");
    world.start(0, &serial(2));
    world.answer_everything();
    assert!(tasks.iter().all(|task| matches!(world.end_of(*task), Some(Ok(_)))));
    world.exit(0, 0);
    assert!(world.core.is_over());
}

#[test]
fn a_worker_killed_while_draining_is_replaced_for_what_it_had() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.shutdown(60 * SECOND);
    world.garbage(0);
    world.die(0, 9);
    world.start(0, &serial(1));
    assert_eq!(world.answer(0), task);
}

#[test]
fn a_pausing_task_keeps_somebody_alive_while_draining() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.fail(0, &retry_after(Some(2_000)));
    world.shutdown(60 * SECOND);
    world.die(0, 11);
    world.start(0, &serial(1));
    world.advance(2 * SECOND);
    assert_eq!(world.answer(0), task);
    world.exit(0, 0);
    assert!(world.core.is_over());
}

#[test]
fn the_last_worker_given_up_while_draining_answers_what_is_left() {
    let mut world = World::ready(2, 1);
    world.submit();
    let busy = usize::from(!world.has_tasks(0));
    world.shutdown(60 * SECOND);
    world.exit(busy, 125);
    assert!(!world.all_answered(), "the other one is not gone yet");
    world.exit(1 - busy, 0);
    assert!(world.spawning.contains(&(1 - busy)), "what had been told to go is needed again");
    world.start(1 - busy, &serial(1));
    world.exit(1 - busy, 125);
    assert!(world.all_answered() && world.core.is_over());
}

#[test]
fn a_worker_in_its_pause_is_not_started_for_nothing() {
    let mut world = World::ready(2, 1);
    world.die(0, 11);
    world.start(0, &serial(1));
    world.die(0, 11);
    world.shutdown(60 * SECOND);
    world.exit(1, 0);
    assert!(world.core.is_over());
}

#[test]
fn a_worker_that_is_still_starting_is_asked_without_a_frame_before_its_hello() {
    let mut world = World::new(2);
    world.spawn(0);
    world.shutdown(10 * SECOND);
    assert!(world.child(0).input_ended && !world.child(0).was_told_to_die);
    world.hello(0, &serial(1));
    world.say_ready(0);
    world.spawn(1);
    assert!(world.child(1).input_ended);
    world.advance(10 * SECOND);
    assert!(world.child(0).terminated && world.child(1).terminated, "HELLO gives no more time");
    world.hello(1, &serial(1));
    world.say_progress(1);
    world.advance(SECOND);
    assert!(world.child(0).killed && world.child(1).killed);
    world.die(0, 9);
    world.die(1, 9);
    assert!(world.core.is_over());
}

#[test]
fn a_worker_that_closed_its_output_gets_no_more_time_by_a_shutdown() {
    let mut world = World::ready(1, 1);
    world.close_output(0);
    world.shutdown(3600 * SECOND);
    world.advance(SECOND);
    assert!(world.child(0).killed);
}

#[test]
fn a_shutdown_without_time_uses_force_at_once() {
    let mut world = World::ready(1, 1);
    let tasks = world.submit_many(2);
    world.shutdown(Duration::ZERO);
    assert!(world.child(0).terminated);
    world.die(0, 15);
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Closed))));
    assert!(world.core.is_over());
}

#[test]
fn kill_answers_everything() {
    let mut world = World::ready(2, 1);
    world.submit_many(5);
    let paused = world.answer(0);
    world.fail(1, &retry_after(Some(60_000)));
    world.kill();
    for slot in 0..2 {
        assert!(world.child(slot).killed);
        world.die(slot, 9);
    }
    assert!(world.all_answered() && world.core.is_over());
    assert_eq!(world.end_of(paused), Some(Ok(1)));
    assert_eq!(world.deaths(), 0);
}

#[test]
fn what_is_spawned_into_a_killed_pool_is_killed() {
    let mut world = World::new(1);
    let task = world.submit();
    world.kill();
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Closed)));
    assert!(!world.core.is_over(), "a process may be on its way");
    world.spawn(0);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(world.core.is_over());
}

#[test]
fn kill_ends_what_sigterm_has_not() {
    let mut world = World::ready(1, 1);
    world.shutdown(Duration::ZERO);
    world.kill();
    assert!(world.child(0).killed);
}

#[test]
fn a_broken_pool_stays_broken_when_killed() {
    let mut world = World::new(1);
    world.fail_spawn(0);
    world.kill();
    let task = world.submit();
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Broken)));
}
