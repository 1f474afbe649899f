//! Tasks of a batch that fail, batches that fail as a whole, and results that are none.

use stokehold_protocol::{Failure, code};

use super::{DONE, MS, batching, done, grown, grown_as, lives, replace, with_batch};
use crate::core::sim::world::{World, Wrong, retry_after};
use crate::core::{Policy, TaskErrorKind};

#[test]
fn bad_results_are_the_ends_of_their_own_tasks() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 6);
    let no = |what: &str| Some(Failure::new(what, what));
    world.give(0, 0, &[DONE, no("acme.first")]);
    world.finish(0, 0, &[DONE, no("acme.second"), DONE, no("acme.last")]);
    for (place, name) in [(1, "acme.first"), (3, "acme.second"), (5, "acme.last")] {
        let error = world.outcome(tasks[place]).as_ref().expect_err("a failure");
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, name));
        assert_eq!((error.task(), error.attempt()), (tasks[place], 1));
    }
    assert!(done(&world, &[tasks[0], tasks[2], tasks[4]]));
}

#[test]
fn a_bad_result_that_asks_for_another_try_gets_it_by_itself() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 3);
    world.finish(0, 0, &[DONE, Some(retry_after(Some(5))), DONE]);
    assert!(!world.has_tasks(0));
    world.advance(5 * MS);
    assert_eq!(world.held(0), tasks[1..2]);
    let job = world.child(0).tasks[0];
    assert!(!job.is_batch());
    assert_eq!(job.attempt, Some(2), "META is for single tasks");
    world.answer(0);
    assert_eq!(world.end_of(tasks[1]), Some(Ok(2)));
}

#[test]
fn a_task_that_is_tried_again_keeps_its_room_in_the_queue() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 4);
    let bytes = world.bytes_in_use();
    world.give(0, 0, &[Some(retry_after(Some(5))), DONE]);
    assert_eq!(world.bytes_in_use(), bytes, "those of a batch are free at its end");
    world.finish(0, 0, &[DONE, Some(retry_after(Some(5)))]);
    assert_eq!(world.bytes_in_use(), bytes / 2, "two of four are tried again");
    world.advance(5 * MS);
    world.answer_everything();
    assert!(done(&world, &tasks) && world.bytes_in_use() == 0);
}

#[test]
fn bad_results_of_a_task_are_counted_over_all_attempts() {
    let policy = Policy::default().attempts(2);
    let (mut world, channel) = grown_as(1, 200, &batching(8), policy);
    let tasks = with_batch(&mut world, channel, 3);
    world.finish(0, 0, &[DONE, DONE, Some(retry_after(Some(0)))]);
    world.fail(0, &retry_after(Some(0)));
    let error = world.outcome(tasks[2]).as_ref().expect_err("a failure");
    assert_eq!((error.kind(), error.attempt(), error.attempts().len()), (TaskErrorKind::Failed, 2, 2));
}

#[test]
fn a_task_that_cannot_be_done_as_a_batch_is_tried_by_itself() {
    for code in [code::BAD_DATA, code::BAD_MESSAGE, code::TOO_LARGE] {
        let (mut world, channel) = grown(1, 200);
        let tasks = with_batch(&mut world, channel, 6);
        world.give(0, 0, &[DONE; 2]);
        world.fail(0, &Failure { begun: Some(false), ..Failure::new(code, "cannot be read") });
        assert_eq!(world.held(0), tasks[2..]);
        assert_eq!(world.frames(0), [1; 4]);
        world.answer_everything();
        assert!(done(&world, &tasks) && lives(&world, &tasks) == 0, "{code}");
    }
}

#[test]
fn an_answer_larger_than_a_frame_may_be_comes_in_pieces() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 6);
    world.answer_too_large(0);
    assert_eq!(world.held(0), tasks);
    assert_eq!(world.frames(0), [1; 6]);
    world.answer_everything();
    assert!(done(&world, &tasks));
}

#[test]
fn results_that_came_in_a_frame_too_large_are_made_again() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 6);
    world.give(0, 0, &[DONE; 2]);
    world.give_too_large(0, 0, 2);
    world.answer(0);
    assert!(done(&world, &tasks[..2]));
    assert_eq!(world.held(0), tasks[2..], "those behind came after a gap");
    world.answer_everything();
    assert!(done(&world, &tasks));
}

#[test]
fn a_request_that_nobody_knows_fails_for_each() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 6);
    world.fail(0, &Failure { begun: Some(false), ..Failure::new(code::UNKNOWN_REQUEST, "what?") });
    for task in tasks {
        let error = world.outcome(task).as_ref().expect_err("a failure");
        assert_eq!(
            (error.kind(), error.code(), error.task()),
            (TaskErrorKind::Failed, "unknown_request", task)
        );
    }
}

#[test]
fn what_a_worker_has_no_room_for_comes_again_without_a_loss() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 6);
    let overloaded = Failure { code: code::OVERLOADED.into(), begun: Some(false), ..retry_after(Some(7)) };
    world.fail(0, &overloaded);
    assert!(!world.has_tasks(0));
    world.advance(7 * MS);
    assert_eq!(world.frames(0), [1; 6]);
    assert!(world.child(0).tasks.iter().all(|job| job.attempt.is_none()), "it never began");
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

#[test]
fn results_that_are_none_end_the_worker_and_blame_nobody() {
    for wrong in Wrong::ALL {
        let (mut world, channel) = grown(1, 200);
        let tasks = with_batch(&mut world, channel, 6);
        world.give(0, 0, &[DONE; 2]);
        world.give_wrong(0, 0, None, wrong);
        assert!(world.child(0).killed, "{wrong:?}");
        assert!(done(&world, &tasks[..2]));
        replace(&mut world, 0, &batching(8));
        assert_eq!((world.deaths(), lives(&world, &tasks)), (1, 0));
        assert!(world.frames(0).iter().all(|count| *count == 1), "{wrong:?}: one by one");
        world.answer_everything();
        assert!(done(&world, &tasks), "{wrong:?}");
    }
}

#[test]
fn parts_that_are_none_end_the_worker() {
    for wrong in Wrong::ALL.into_iter().filter(|wrong| *wrong != Wrong::TooFew) {
        let (mut world, channel) = grown(1, 200);
        let tasks = with_batch(&mut world, channel, 6);
        world.give_wrong(0, 0, Some(3), wrong);
        assert!(world.child(0).killed, "{wrong:?}");
        replace(&mut world, 0, &batching(8));
        world.answer_everything();
        assert!(done(&world, &tasks), "{wrong:?}");
    }
}

#[test]
fn parts_with_nothing_in_them_do_not_come_for_ever() {
    let (mut world, channel) = grown(1, 200);
    with_batch(&mut world, channel, 6);
    let empty = |world: &mut World, count| {
        world.say(0, |child, out| {
            let id = child.tasks[0].id;
            for _ in 0..count {
                child.session().item(id, &[0x90], out).expect("it is open");
            }
        });
    };
    empty(&mut world, 50_000);
    assert!(!world.child(0).killed);
    empty(&mut world, 60_000);
    assert!(world.child(0).killed);
}
