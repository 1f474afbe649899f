//! Tasks that take too long: exactly when they are stopped, by what, and what it costs whom.

use std::time::Duration;

use stokehold_protocol::Capability;

use super::world::{GRACE, World, able, config, died, parallel, serial, stopped};
use crate::core::{Cause, Event, Limit, Policy, SupervisorConfig, TaskErrorKind, WorkerState};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(200);

fn timed() -> Policy {
    Policy::default().timeout(LIMIT).backoff(MS, MS)
}

/// One worker that understands CANCEL.
fn obedient(window: u32) -> World {
    World::ready_as(1, &able(serial(window), &[Capability::Cancel]))
}

#[test]
fn an_attempt_is_told_at_its_limit_and_made_to_stop_a_grace_later() {
    let mut world = obedient(1);
    let task = world.submit_as(timed(), 0);
    world.advance(LIMIT - MS);
    assert!(!world.child(0).tasks[0].cancelled);
    world.advance(MS);
    assert!(world.child(0).tasks[0].cancelled && !world.child(0).terminated);
    world.advance(GRACE - MS);
    assert!(!world.child(0).terminated);
    world.advance(MS);
    assert!(world.child(0).terminated && !world.child(0).killed);
    world.advance(GRACE - MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
    world.advance(60_000 * MS);
    assert_eq!(world.attempts(task), [1], "not before the process is gone");
    world.die(0, 9);
    world.start(0, &serial(1));
    world.advance(2 * MS);
    assert_eq!(world.attempts(task), [1, 2]);
    assert_eq!(world.lives_lost(task), 1);
}

#[test]
fn a_worker_that_knows_no_cancel_gets_sigterm_at_the_limit() {
    let mut world = World::ready(1, 1);
    world.submit_as(timed(), 0);
    world.advance(LIMIT);
    assert!(world.child(0).terminated);
    world.advance(GRACE);
    assert!(world.child(0).killed);
}

#[test]
fn an_answer_in_the_grace_counts_and_the_worker_lives() {
    let mut world = obedient(1);
    let task = world.submit_as(timed(), 0);
    world.advance(LIMIT + GRACE - MS);
    world.answer(0);
    assert_eq!(world.end_of(task), Some(Ok(1)));
    let next = world.submit();
    world.advance(60_000 * MS);
    assert!(!world.child(0).terminated);
    assert_eq!(world.answer(0), next);
}

#[test]
fn a_task_that_stops_when_it_is_told_is_tried_again_in_the_same_worker_and_then_timed_out() {
    let mut world = obedient(1);
    let task = world.submit_as(timed(), 0);
    for _ in 0..3 {
        assert_eq!(world.end_of(task), None);
        world.advance(LIMIT);
        world.fail(0, &stopped());
        world.advance(2 * MS);
    }
    let error = world.outcome(task).as_ref().expect_err("too long");
    assert_eq!(error.kind(), TaskErrorKind::TimedOut { limit: Limit::Attempt, may_have_run: true });
    assert_eq!((error.attempts().len(), error.attempt(), world.deaths()), (3, 3, 0));
}

#[test]
fn progress_extends_the_soft_limit_and_not_the_hard_one() {
    let mut world = obedient(1);
    let policy = timed().soft_timeout(Duration::from_millis(60));
    world.submit_as(policy, 0);
    for _ in 0..4 {
        world.progress(0, 0);
        world.advance(50 * MS);
        assert_eq!(overdue(&world), 0);
    }
    assert!(world.child(0).tasks[0].cancelled, "the hard limit has passed");
    world.advance(GRACE);
    assert!(world.child(0).terminated);
}

fn overdue(world: &World) -> usize {
    world.events.iter().filter(|event| matches!(event, Event::TaskOverdue { .. })).count()
}

#[test]
fn the_soft_limit_tells_and_uses_no_force() {
    let mut world = obedient(2);
    let task = world.submit_as(Policy::default().soft_timeout(LIMIT), 0);
    let behind = world.submit();
    world.advance(LIMIT - MS);
    assert_eq!(overdue(&world), 0);
    world.advance(MS);
    assert_eq!(overdue(&world), 1);
    assert!(world.child(0).tasks[0].cancelled);
    world.advance(3_600_000 * MS);
    assert!(!world.child(0).terminated);
    world.answer(0);
    world.answer(0);
    assert_eq!([task, behind].map(|task| world.end_of(task)), [Some(Ok(1)); 2]);
}

#[test]
fn the_clock_of_a_task_begins_with_its_turn() {
    let mut world = obedient(2);
    world.submit();
    let behind = world.submit_as(timed(), 0);
    world.advance(10 * LIMIT);
    world.answer(0);
    world.advance(LIMIT - MS);
    assert!(!world.child(0).tasks[0].cancelled);
    world.advance(MS);
    assert!(world.child(0).tasks[0].cancelled, "task {behind}");
}

#[test]
fn the_clock_begins_at_started_if_a_worker_tells_it() {
    let hello = able(parallel(4), &[Capability::Started, Capability::Cancel]);
    let mut world =
        World::ready_of(SupervisorConfig { reports_starts: true, window: Some(4), ..config(1) }, &hello);
    world.submit_as(Policy::default(), 0);
    world.submit_as(timed(), 0);
    world.advance(10 * LIMIT);
    assert!(!world.child(0).tasks[1].cancelled);
    world.begin(0, 1);
    world.advance(LIMIT - MS);
    assert!(!world.child(0).tasks[1].cancelled);
    world.advance(MS);
    assert!(world.child(0).tasks[1].cancelled);
}

#[test]
fn a_worker_that_never_says_started_does_not_swallow_the_limit() {
    let hello = able(serial(2), &[Capability::Started]);
    let mut world = World::ready_of(SupervisorConfig { reports_starts: true, ..config(1) }, &hello);
    world.submit_as(timed(), 0);
    world.advance(LIMIT);
    assert!(world.child(0).terminated);
}

#[test]
fn a_worker_that_holds_back_answers_works_in_order_all_the_same() {
    let mut world = obedient(2);
    let first = world.submit();
    let second = world.submit_as(timed(), 0);
    world.say_serial(0, false);
    world.advance(10 * LIMIT);
    assert!(!world.child(0).tasks[1].cancelled, "it is not its turn");
    world.cancel(second);
    world.advance(10 * LIMIT);
    assert!(!world.child(0).terminated, "nobody is ended for what it does not do");
    assert_eq!(world.end_of(second), Some(Err(TaskErrorKind::Cancelled { may_have_run: true })));
    assert_eq!(world.answer(0), first);
}

#[test]
fn a_worker_that_works_in_order_from_now_on_is_timed_so_from_now_on() {
    let mut world = World::ready_as(1, &able(parallel(2), &[Capability::Cancel]));
    let first = world.submit();
    world.submit_as(timed(), 0);
    world.advance(LIMIT / 2);
    world.say_serial(0, true);
    world.advance(LIMIT);
    assert!(!world.child(0).tasks[1].cancelled);
    assert_eq!(world.answer(0), first);
    world.advance(LIMIT);
    assert!(world.child(0).tasks[0].cancelled);
}

#[test]
fn of_several_that_are_late_each_has_its_own_grace() {
    let mut world = World::ready_as(1, &able(parallel(2), &[Capability::Cancel]));
    let first = world.submit_as(timed(), 0);
    world.advance(100 * MS);
    world.submit_as(timed(), 0);
    world.advance(LIMIT + GRACE - 101 * MS);
    assert_eq!(world.answer(0), first);
    world.advance(100 * MS);
    assert!(!world.child(0).terminated);
    world.advance(MS);
    assert!(world.child(0).terminated, "not a grace after the answer of the first");
}

#[test]
fn the_limit_of_all_attempts_counts_from_the_acceptance() {
    let mut world = obedient(1);
    world.submit();
    let policy = Policy::default().total_timeout(LIMIT);
    let waiting = world.submit_as(policy, 0);
    world.advance(LIMIT - MS);
    assert_eq!(world.end_of(waiting), None);
    world.advance(MS);
    let never = TaskErrorKind::TimedOut { limit: Limit::Total, may_have_run: false };
    assert_eq!(world.end_of(waiting), Some(Err(never)));
}

#[test]
fn the_limit_of_all_attempts_ends_a_pause_and_a_run() {
    let mut world = obedient(1);
    let policy = Policy::default().total_timeout(LIMIT);
    let pausing = world.submit_as(policy, 0);
    world.fail(0, &super::world::retry_after(Some(60_000)));
    let running = world.submit_as(policy.attempts(9), 0);
    world.advance(LIMIT);
    let kind = TaskErrorKind::TimedOut { limit: Limit::Total, may_have_run: true };
    assert_eq!(world.end_of(pausing), Some(Err(kind)));
    assert_eq!(world.end_of(running), None, "its worker must stop first");
    world.advance(GRACE);
    world.die(0, 15);
    assert_eq!(world.end_of(running), Some(Err(kind)));
    assert_eq!(world.attempts(running), [1]);
}

#[test]
fn the_neighbours_of_a_late_task_lose_nothing() {
    let mut world = World::ready(1, 3);
    let late = world.submit_as(timed().attempts(1), 0);
    let behind = [world.submit(), world.submit_as(Policy::default().attempts(1), 0)];
    world.advance(LIMIT);
    world.die(0, 15);
    assert!(matches!(world.end_of(late), Some(Err(TaskErrorKind::TimedOut { .. }))));
    world.start(0, &serial(3));
    world.answer_everything();
    assert_eq!(behind.map(|task| world.end_of(task)), [Some(Ok(1)); 2], "their first attempts");
}

#[test]
fn a_task_that_hangs_before_it_is_read_comes_to_an_end() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(timed(), 0);
    for _ in 0..3 {
        assert_eq!(world.end_of(task), None);
        world.advance(LIMIT);
        world.die_with_unread(0, 1);
        world.start(0, &serial(1));
        world.advance(2 * MS);
    }
    assert!(matches!(world.end_of(task), Some(Err(TaskErrorKind::TimedOut { .. }))));
}

#[test]
fn a_late_task_says_in_its_death_which_limit_it_was() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(timed(), 0);
    world.advance(LIMIT);
    world.die(0, 15);
    let death = &died(&world.events)[0];
    assert!(matches!(death.cause, Cause::Overran { limit: Limit::Attempt, after: LIMIT, .. }));
    assert_eq!((death.task, death.attempt, death.state), (Some(task), Some(1), WorkerState::Busy));
}
