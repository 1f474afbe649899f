//! One end for each task: answers, failures, tries, cancellation, what is too large.

use std::time::Duration;

use stokehold_protocol::{ChildHello, Failure, limits::MAX_FRAME_FLOOR};

use super::world::{World, retry_after, serial};
use crate::core::{Event, Policy, TaskErrorKind};

const MS: Duration = Duration::from_millis(1);

/// No pause after a first or second failure is longer.
const PAUSE_MAX: Duration = Duration::from_millis(200);

#[test]
fn an_answer_says_who_gave_it() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.advance(3 * MS);
    world.answer(0);
    let origin = world.outcome(task).as_ref().expect("an answer").origin;
    assert_eq!((origin.worker, origin.pid, origin.task), (0, 1001, task));
    assert_eq!((origin.attempt, origin.elapsed), (1, 3 * MS));
}

#[test]
fn an_answer_written_before_death_counts() {
    let mut world = World::ready(1, 2);
    let tasks = world.submit_many(2);
    world.answer(0);
    world.die(0, 9);
    assert_eq!(world.end_of(tasks[0]), Some(Ok(1)));
    world.start(0, &serial(2));
    assert_eq!(world.held(0), [tasks[1]]);
}

#[test]
fn a_failure_is_final_unless_it_asks_for_another_try() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.fail(0, &Failure::new("acme.no_such_user", "nobody"));
    let error = world.outcome(task).as_ref().expect_err("a failure");
    assert_eq!(
        (error.kind(), error.code(), error.attempt()),
        (TaskErrorKind::Failed, "acme.no_such_user", 1)
    );
}

#[test]
fn a_task_that_asks_for_another_try_gets_as_many_as_it_has_lives() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    for attempt in 1..=3 {
        assert_eq!(world.end_of(task), None);
        assert_eq!(world.attempts(task).last(), Some(&attempt));
        world.fail(0, &retry_after(None));
        world.advance(PAUSE_MAX);
    }
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Failed)));
    let retried = world.events.iter().filter(|event| matches!(event, Event::TaskRetried { .. })).count();
    assert_eq!(retried, 2);
}

#[test]
fn another_try_waits_as_long_as_was_asked() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.fail(0, &retry_after(Some(500)));
    let other = world.submit();
    assert_eq!(world.answer(0), other);
    world.advance(499 * MS);
    assert!(!world.has_tasks(0));
    world.advance(MS);
    assert_eq!(world.answer(0), task);
    assert_eq!(world.end_of(task), Some(Ok(2)));
}

#[test]
fn a_refusal_before_the_beginning_costs_no_life_and_has_an_end() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    let mut refusals = 0;
    while world.end_of(task).is_none() {
        world.fail(0, &Failure { begun: Some(false), ..retry_after(None) });
        world.advance(PAUSE_MAX);
        refusals += 1;
    }
    assert_eq!(refusals, 11, "3 lives and 8 deliveries more");
    assert!(world.attempts(task).iter().all(|attempt| *attempt == 1), "it never began");
}

#[test]
fn a_task_for_once_is_tried_again_only_if_it_had_not_begun() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(Policy::once(), 0);
    world.fail(0, &Failure { begun: Some(false), ..retry_after(None) });
    world.advance(PAUSE_MAX);
    assert_eq!(world.held(0), [task]);
    world.fail(0, &retry_after(None));
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Failed)));
}

#[test]
fn a_task_too_large_for_the_worker_fails_and_its_neighbours_go_on() {
    let mut world = World::new(1);
    let before = world.put(Policy::default(), 0);
    let large = world.put(Policy::default(), MAX_FRAME_FLOOR as usize);
    let behind = world.put(Policy::default(), 0);
    world.start(0, &ChildHello { max_frame: MAX_FRAME_FLOOR, ..serial(8) });
    world.answer_everything();
    let error = world.outcome(large).as_ref().expect_err("a failure");
    assert_eq!((error.kind(), error.code(), error.attempt()), (TaskErrorKind::Failed, "too_large", 0));
    assert_eq!([before, behind].map(|task| world.end_of(task)), [Some(Ok(1)), Some(Ok(1))]);
}

#[test]
fn what_was_handed_out_before_a_task_too_large_is_written() {
    let mut world = World::with_window(1, Some(8));
    world.start(0, &ChildHello { max_frame: MAX_FRAME_FLOOR, ..serial(8) });
    world.put(Policy::default(), 0);
    let second = world.put(Policy::default(), 0);
    world.put(Policy::default(), MAX_FRAME_FLOOR as usize);
    world.settle();
    assert_eq!(world.held(0).len(), 2);
    world.answer_everything();
    assert_eq!(world.end_of(second), Some(Ok(1)));
}

#[test]
fn an_answer_too_large_fails_its_task_and_the_worker_lives() {
    let mut world = World::ready(1, 2);
    let tasks = world.submit_many(2);
    world.answer_too_large(0);
    let error = world.outcome(tasks[0]).as_ref().expect_err("a failure");
    assert_eq!((error.kind(), error.code(), error.attempt()), (TaskErrorKind::Failed, "too_large", 1));
    world.answer(0);
    assert_eq!(world.end_of(tasks[1]), Some(Ok(1)));
    assert!(!world.child(0).killed);
}

#[test]
fn a_waiting_task_can_be_cancelled() {
    let mut world = World::ready(1, 1);
    let held = world.submit();
    let queued = world.submit();
    world.cancel(queued);
    assert_eq!(world.end_of(queued), Some(Err(TaskErrorKind::Cancelled { may_have_run: false })));
    world.cancel(held);
    assert_eq!(world.end_of(held), None, "a worker has it");
    world.answer(0);
    assert_eq!(world.end_of(held), Some(Ok(1)));
    world.cancel(held);
}

#[test]
fn a_pausing_task_can_be_cancelled_and_hides_nobody() {
    let mut world = World::ready(1, 1);
    let pausing = world.submit();
    world.fail(0, &retry_after(Some(60_000)));
    world.cancel(pausing);
    assert_eq!(world.end_of(pausing), Some(Err(TaskErrorKind::Cancelled { may_have_run: true })));
    let next = world.submit();
    assert_eq!(world.held(0), [next], "the one that was cancelled must not be counted against it");
    world.advance(Duration::from_secs(120));
}

#[test]
fn what_nobody_wants_is_not_sent() {
    let mut world = World::ready(1, 1);
    world.submit();
    let unwanted = world.submit_many(5);
    let wanted = world.submit();
    for task in &unwanted {
        world.forget(*task);
    }
    world.answer(0);
    assert_eq!(world.held(0), [wanted]);
    let never = Some(Err(TaskErrorKind::Cancelled { may_have_run: false }));
    assert!(unwanted.iter().all(|task| world.end_of(*task) == never));
}

#[test]
fn tasks_go_out_in_the_order_of_submission() {
    let mut world = World::ready(1, 4);
    let tasks = world.submit_many(40);
    let mut answered = Vec::new();
    while world.has_tasks(0) {
        answered.push(world.answer(0));
    }
    assert_eq!(answered, tasks);
}
