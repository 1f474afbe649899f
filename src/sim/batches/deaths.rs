//! What becomes of each of several tasks in one frame when their worker dies.

use stokehold_protocol::Capability;

use super::{DONE, MS, SECOND, batching, done, grown, grown_as, lives, replace, with_batch};
use crate::core::sim::world::{able, died, parallel, serial};
use crate::core::{Event, Policy, TaskErrorKind};

#[test]
fn a_deadly_task_among_many_is_found_and_no_other_loses_anything() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 64);
    let poison = tasks[30];
    replace(&mut world, 0, &batching(8));
    assert_eq!((world.frames(0), world.batch_size(channel)), (vec![1; 8], 1), "one by one from now on");
    assert_eq!(world.held(0), tasks[..8], "in their order");
    while world.end_of(poison).is_none() {
        match world.held(0)[0] == poison {
            true => replace(&mut world, 0, &batching(8)),
            false => drop(world.answer(0)),
        }
    }
    world.answer_everything();
    let error = world.outcome(poison).as_ref().expect_err("dead");
    assert_eq!((error.kind(), error.task(), error.attempt()), (TaskErrorKind::Dead, poison, 4));
    assert_eq!(error.attempts().len(), 4, "three by itself, and one with others");
    assert_eq!(world.deaths(), 4);
    let others: Vec<u64> = tasks.iter().copied().filter(|task| *task != poison).collect();
    assert!(done(&world, &others));
    assert_eq!((lives(&world, &others), world.lives_lost(poison)), (0, 3));
}

#[test]
fn two_deadly_tasks_in_one_frame_are_both_found() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 64);
    let poison = [tasks[0], tasks[63]];
    while poison.iter().any(|task| world.end_of(*task).is_none()) {
        match poison.contains(&world.held(0)[0]) {
            true => replace(&mut world, 0, &batching(8)),
            false => drop(world.answer(0)),
        }
    }
    assert_eq!(world.deaths(), 1 + 2 * 3);
    assert!(poison.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Dead))));
    assert!(done(&world, &tasks[1..63]));
    assert_eq!(lives(&world, &tasks[1..63]), 0);
}

#[test]
fn a_death_certificate_names_no_task_of_several() {
    let (mut world, channel) = grown(1, 200);
    with_batch(&mut world, channel, 5);
    world.die(0, 11);
    let death = &died(&world.events)[0];
    assert_eq!((death.task, death.attempt, death.unanswered), (None, None, 5));
}

#[test]
fn results_that_were_given_before_a_death_count() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 16);
    world.give(0, 0, &[DONE; 4]);
    world.give(0, 0, &[DONE; 6]);
    assert!(tasks[..10].iter().all(|task| world.end_of(*task) == Some(Ok(1))), "at once");
    assert_eq!(world.frames(0), [6]);
    replace(&mut world, 0, &batching(8));
    assert_eq!(world.held(0), tasks[10..]);
    world.answer_everything();
    assert!(tasks[10..].iter().all(|task| world.end_of(*task) == Some(Ok(2))));
    assert_eq!(lives(&world, &tasks), 0);
}

#[test]
fn the_only_task_without_a_result_is_to_blame() {
    let policy = Policy::default().attempts(2);
    let (mut world, channel) = grown_as(1, 200, &batching(8), policy);
    let tasks = with_batch(&mut world, channel, 16);
    world.give(0, 0, &[DONE; 15]);
    replace(&mut world, 0, &batching(8));
    assert_eq!((lives(&world, &tasks[15..]), lives(&world, &tasks)), (1, 1));
    world.die(0, 11);
    let error = world.outcome(tasks[15]).as_ref().expect_err("dead");
    assert_eq!((error.kind(), error.task(), error.attempt()), (TaskErrorKind::Dead, tasks[15], 2));
    assert_eq!(died(&world.events)[0].task, Some(tasks[15]));
}

#[test]
fn a_death_after_the_last_result_is_nobodys_fault() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 8);
    let behind = world.submit();
    world.give(0, 0, &[DONE; 8]);
    world.die(0, 11);
    assert_eq!(lives(&world, &tasks), 0);
    world.start(0, &batching(8));
    world.answer_everything();
    assert!(done(&world, &tasks));
    assert_eq!(world.end_of(behind), Some(Ok(1)));
}

#[test]
fn tasks_of_a_worker_that_does_several_at_a_time_run_alone_after_its_death() {
    let hello = able(parallel(8), &[Capability::Batch]);
    let (mut world, channel) = grown_as(1, 200, &hello, Policy::default());
    let tasks = with_batch(&mut world, channel, 5);
    let beside = world.submit();
    replace(&mut world, 0, &hello);
    let mut order = Vec::new();
    while world.has_tasks(0) {
        assert_eq!(world.held(0).len(), 1, "alone");
        order.push(world.answer(0));
    }
    assert_eq!(order, [&tasks[..], &[beside]].concat());
    assert_eq!(lives(&world, &order), 0);
}

#[test]
fn what_no_worker_read_goes_whole_to_another() {
    let (mut world, channel) = grown(1, 200);
    world.reads(0, false);
    let tasks = world.submit_run(channel, 21);
    world.die(0, 9);
    world.start(0, &batching(8));
    assert_eq!(world.frames(0), [21]);
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))), "it had never begun");
    assert!(!world.events.iter().any(|event| matches!(event, Event::TaskRetried { .. })));
}

#[test]
fn what_goes_to_a_worker_that_takes_no_batches_is_taken_apart() {
    let (mut world, channel) = grown(1, 200);
    world.reads(0, false);
    let tasks = world.submit_run(channel, 21);
    world.die(0, 9);
    world.start(0, &serial(64));
    assert_eq!(world.frames(0), [1; 21]);
    assert_eq!(world.held(0), tasks);
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

#[test]
fn what_stood_behind_a_task_that_does_not_stop_goes_whole_to_another() {
    let hello = able(batching(8), &[Capability::Batch, Capability::Cancel]);
    let (mut world, channel) = grown_as(1, 200, &hello, Policy::default());
    let late = world.submit_as(Policy::default().attempts(1).timeout(MS), 0);
    let tasks = world.submit_run(channel, 600);
    assert_eq!(world.frames(0), [1, 100, 99]);
    world.advance(MS + SECOND);
    replace(&mut world, 0, &hello);
    assert!(matches!(world.end_of(late), Some(Err(TaskErrorKind::TimedOut { .. }))));
    assert_eq!(world.frames(0)[..2], [100, 99]);
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

#[test]
fn a_frame_that_kills_its_readers_does_not_take_all_its_tasks_along() {
    let (mut world, channel) = grown(1, 200);
    world.submit_run(channel, 1);
    world.answer_everything();
    let tasks = world.submit_run(channel, 20);
    // Each dies while it reads the frame.
    let mut readers = 0;
    while world.frames(0) == [20] {
        world.die_with_unread(0, 1);
        world.advance(20 * SECOND);
        world.start(0, &batching(8));
        readers += 1;
    }
    assert!((1..20).contains(&readers), "{readers}");
    world.answer_everything();
    assert!(done(&world, &tasks), "each by itself it is small");
}

#[test]
fn what_is_unanswered_at_bye_goes_back_without_the_results_that_were_given() {
    let (mut world, channel) = grown(1, 200);
    let tasks = with_batch(&mut world, channel, 16);
    world.give(0, 0, &[DONE; 10]);
    world.bye(0);
    world.exit(0, 0);
    world.start(0, &batching(8));
    assert_eq!(world.held(0), tasks[10..]);
    world.answer_everything();
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))), "nothing of it was begun");
}
