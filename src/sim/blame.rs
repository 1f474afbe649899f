//! Whom a death is blamed on, what it costs, and what it never costs.

use super::world::{World, parallel, serial};
use crate::core::{Policy, TaskErrorKind};

#[test]
fn only_the_oldest_task_of_a_serial_worker_loses_a_life() {
    let mut world = World::ready(1, 4);
    let tasks = world.submit_many(6);
    world.die(0, 11);
    world.start(0, &serial(4));
    assert_eq!(world.held(0), tasks[..4], "back in order");
    assert_eq!(world.attempts(tasks[0]), [1, 2]);
    for task in &tasks[1..4] {
        assert_eq!(world.attempts(*task), [1, 1], "it had not begun");
    }
}

#[test]
fn a_deadly_task_is_dead_after_its_attempts_and_its_neighbours_are_done() {
    let mut world = World::ready(1, 4);
    let poison = world.submit();
    let neighbours = world.submit_many(8);
    let mut deaths = 0;
    while world.end_of(poison).is_none() {
        world.die(0, 11);
        deaths += 1;
        world.advance(std::time::Duration::from_secs(5));
        if world.spawning.contains(&0) {
            world.start(0, &serial(4));
        }
    }
    world.answer_everything();
    assert_eq!(deaths, 3);
    let error = world.outcome(poison).as_ref().expect_err("dead");
    assert_eq!((error.kind(), error.attempt(), error.signal()), (TaskErrorKind::Dead, 3, Some(11)));
    assert_eq!(error.stderr_tail(), "last words");
    assert!(neighbours.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

#[test]
fn the_policy_says_how_many_workers_a_task_may_kill() {
    for attempts in [1, 2, 4] {
        let mut world = World::ready(1, 1);
        let poison = world.submit_as(Policy::default().attempts(attempts), 0);
        for _ in 0..attempts {
            assert_eq!(world.end_of(poison), None);
            world.die(0, 9);
            world.advance(std::time::Duration::from_secs(2));
            world.start(0, &serial(1));
        }
        assert_eq!(world.end_of(poison), Some(Err(TaskErrorKind::Dead)));
    }
    let mut world = World::ready(1, 1);
    world.submit_as(Policy::default().attempts(u32::MAX), 0);
    world.die(0, 9);
}

#[test]
fn many_deadly_tasks_do_not_count_out_what_waits_behind_them() {
    let mut world = World::ready(1, 16);
    world.submit();
    world.answer(0);
    let tasks = world.submit_many(13);
    let (poison, innocent) = tasks.split_at(12);
    while world.end_of(poison[11]).is_none() {
        world.die(0, 11);
        world.advance(std::time::Duration::from_secs(5));
        world.start(0, &serial(16));
    }
    world.answer(0);
    assert_eq!(world.end_of(innocent[0]), Some(Ok(1)));
    assert_eq!(world.attempts(innocent[0]).len(), 37, "handed out again and again");
    assert!(poison.iter().all(|task| world.end_of(*task) == Some(Err(TaskErrorKind::Dead))));
}

/// A pool of one worker that met so many deadly tasks in a row, with its innocent neighbour behind them.
fn after_deadly_tasks(count: usize) -> (World, u64) {
    let mut world = World::ready(1, 1);
    for _ in 0..count {
        world.submit();
    }
    let innocent = world.submit();
    for _ in 0..3 * count {
        if world.core.broken().is_some() {
            break;
        }
        world.die(0, 11);
        world.advance(std::time::Duration::from_millis(500));
        if world.spawning.contains(&0) {
            world.start(0, &serial(1));
        }
    }
    (world, innocent)
}

#[test]
fn deadly_tasks_do_not_cost_a_pool_its_workers_even_if_they_come_first() {
    for count in [1, 2, 6, 20] {
        let (mut world, innocent) = after_deadly_tasks(count);
        world.answer_everything();
        assert_eq!(world.end_of(innocent), Some(Ok(1)), "behind {count} deadly ones");
    }
}

#[test]
fn a_program_that_dies_on_every_task_is_not_started_for_ever() {
    let (world, innocent) = after_deadly_tasks(40);
    assert!(world.core.broken().is_some());
    assert_eq!(world.end_of(innocent), Some(Err(TaskErrorKind::Broken)));
}

#[test]
fn suspects_run_alone_until_the_blame_is_exact() {
    let mut world = World::ready_as(1, &parallel(4));
    let tasks = world.submit_many(4);
    world.die(0, 11);
    world.start(0, &parallel(4));
    assert_eq!(world.held(0), tasks[..1], "one at a time, in order");
    world.answer(0);
    assert_eq!(world.held(0), tasks[1..2]);
    for _ in 0..3 {
        assert_eq!(world.held(0), tasks[1..2]);
        world.die(0, 11);
        world.advance(std::time::Duration::from_secs(5));
        world.start(0, &parallel(4));
    }
    assert_eq!(world.end_of(tasks[1]), Some(Err(TaskErrorKind::Dead)), "three lives, each lost alone");
    world.answer_everything();
    for task in [0, 2, 3] {
        assert_eq!(world.end_of(tasks[task]), Some(Ok(2)));
    }
    world.submit_many(4);
    assert_eq!(world.held(0).len(), 4, "together again");
}

#[test]
fn a_single_task_of_a_parallel_worker_is_to_blame() {
    let mut world = World::ready_as(1, &parallel(4));
    let task = world.submit_as(Policy::default().attempts(1), 0);
    world.die(0, 11);
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Dead)));
}

#[test]
fn suspects_get_their_turn_although_new_tasks_never_end() {
    let mut world = World::ready_as(2, &parallel(4));
    let suspects = world.submit_many(4);
    world.submit_many(4);
    let victim = usize::from(!world.held(0).contains(&suspects[0]));
    let lost = world.held(victim);
    world.die(victim, 11);
    let other = 1 - victim;
    for _ in 0..200 {
        world.put(Policy::default(), 0);
        world.answer(other);
    }
    assert!(lost.iter().all(|task| world.end_of(*task).is_some()), "they starved");
}

#[test]
fn a_task_for_once_is_lost_if_it_may_have_begun() {
    let mut world = World::ready(1, 3);
    let tasks: Vec<u64> = (0..3).map(|_| world.submit_as(Policy::once(), 0)).collect();
    world.die(0, 9);
    assert_eq!(world.end_of(tasks[0]), Some(Err(TaskErrorKind::Lost)));
    world.start(0, &serial(3));
    assert_eq!(world.held(0), tasks[1..2], "it was not with the first");
    world.answer_everything();
    assert_eq!(world.end_of(tasks[2]), Some(Ok(1)));
}

#[test]
fn tasks_for_once_have_no_company_and_keep_their_place() {
    for hello in [serial(8), parallel(8)] {
        let mut world = World::ready_as(1, &hello);
        let first = world.submit_many(2);
        let once = world.submit_as(Policy::once(), 0);
        let other_once = world.submit_as(Policy::once(), 0);
        let last = world.submit_many(2);
        assert_eq!(world.held(0), first, "what stands behind it waits with it");
        world.answer(0);
        assert_eq!(world.held(0), first[1..]);
        world.answer(0);
        assert_eq!(world.held(0), [once]);
        world.answer(0);
        assert_eq!(world.held(0), [other_once]);
        world.answer(0);
        assert_eq!(world.held(0), last, "together again");
    }
}

#[test]
fn a_task_for_once_does_not_starve_although_new_tasks_never_end() {
    let mut world = World::ready(2, 4);
    world.submit_many(8);
    let once = world.submit_as(Policy::once(), 0);
    for _ in 0..20 {
        world.put(Policy::default(), 0);
        let slot = usize::from(!world.has_tasks(0));
        world.answer(slot);
    }
    assert_eq!(world.end_of(once), Some(Ok(1)));
}

#[test]
fn a_death_among_tasks_for_once_and_others_runs_nothing_twice_that_must_not() {
    let mut world = World::ready(2, 8);
    let mut once = Vec::new();
    let mut many = Vec::new();
    for _ in 0..20 {
        once.push(world.put(Policy::once(), 0));
        many.push(world.put(Policy::default(), 0));
    }
    world.settle();
    for round in 0..100 {
        let slot = round % 2;
        if round % 3 == 0 && world.has_tasks(slot) {
            world.die(slot, 9);
            world.advance(std::time::Duration::from_secs(5));
            world.start(slot, &serial(8));
        } else if world.has_tasks(slot) {
            world.answer(slot);
        }
    }
    world.answer_everything();
    let (mut lost, mut done) = (0, 0);
    for task in once {
        assert_eq!(world.attempts(task), [1], "task {task} was handed out again");
        match world.end_of(task) {
            Some(Ok(1)) => done += 1,
            Some(Err(TaskErrorKind::Lost)) => lost += 1,
            other => panic!("task {task} ended as {other:?}"),
        }
    }
    assert!(lost > 0 && done > 0, "{lost} lost, {done} done");
    assert!(many.iter().all(|task| matches!(world.end_of(*task), Some(Ok(_)))));
}

#[test]
fn a_worker_that_holds_answers_back_is_not_blamed_by_order() {
    let mut world = World::ready(1, 4);
    let tasks = world.submit_many(3);
    world.say_serial(0, false);
    world.die(0, 9);
    assert!(tasks.iter().all(|task| world.lives_lost(*task) == 0));
    world.start(0, &serial(4));
    assert_eq!(world.held(0), tasks[..1], "alone, until it is known who is to blame");
    for _ in 0..3 {
        world.die(0, 11);
        world.advance(std::time::Duration::from_secs(5));
        world.start(0, &serial(4));
    }
    assert_eq!(world.end_of(tasks[0]), Some(Err(TaskErrorKind::Dead)), "each death alone: exact");
    world.answer_everything();
    assert_eq!([tasks[1], tasks[2]].map(|task| world.end_of(task)), [Some(Ok(2)); 2]);
}

#[test]
fn a_worker_that_answers_at_once_again_is_blamed_by_order_again() {
    let mut world = World::ready(1, 4);
    let tasks = world.submit_many(3);
    world.say_serial(0, false);
    world.say_serial(0, true);
    world.die(0, 9);
    world.start(0, &serial(4));
    assert_eq!(world.held(0), tasks, "only the first was running");
}

#[test]
fn what_is_unanswered_at_bye_goes_back_unharmed() {
    let mut world = World::ready(1, 4);
    let once = world.submit_as(Policy::once(), 0);
    let tasks = world.submit_many(2);
    assert_eq!(world.held(0), [once]);
    world.bye(0);
    world.exit(0, 0);
    world.start(0, &serial(4));
    world.answer_everything();
    assert_eq!([once, tasks[0], tasks[1]].map(|task| world.end_of(task)), [Some(Ok(1)); 3]);
}

#[test]
fn workers_that_leave_after_each_task_do_not_use_up_those_behind() {
    let mut world = World::ready(1, 32);
    let tasks = world.submit_many(32);
    for _ in 0..32 {
        world.answer(0);
        world.bye(0);
        world.exit(0, 0);
        world.start(0, &serial(32));
    }
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

#[test]
fn workers_that_leave_without_doing_anything_come_to_an_end() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    let mut lives = 0;
    while world.end_of(task).is_none() {
        world.bye(0);
        world.exit(0, 0);
        world.advance(std::time::Duration::from_secs(11));
        world.start(0, &serial(1));
        lives += 1;
        assert!(lives < 100);
    }
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Dead)));
}

#[test]
fn what_was_not_written_to_the_end_had_not_begun() {
    let mut world = World::ready(1, 4);
    let begun = world.submit();
    world.reads(0, false);
    let [one, other] = [world.submit(), world.submit()];
    world.die(0, 9);
    world.start(0, &serial(4));
    assert_eq!(world.held(0), [begun, one, other]);
    world.answer_all(0);
    assert_eq!([begun, one, other].map(|task| world.end_of(task)), [Some(Ok(2)), Some(Ok(1)), Some(Ok(1))]);
}

#[test]
fn a_worker_that_dies_idle_takes_nothing_from_what_was_on_its_way() {
    let mut world = World::ready(1, 1);
    world.reads(0, false);
    let once = world.submit_as(Policy::once(), 0);
    world.close_input(0);
    world.die(0, 9);
    world.start(0, &serial(1));
    world.answer_all(0);
    assert_eq!(world.end_of(once), Some(Ok(1)));
}

#[test]
fn only_what_a_parallel_worker_can_have_read_is_suspect() {
    let mut world = World::ready_as(1, &parallel(4));
    let poison = world.submit_as(Policy::default().attempts(1), 0);
    world.reads(0, false);
    let others = world.submit_many(3);
    world.die(0, 11);
    assert_eq!(world.end_of(poison), Some(Err(TaskErrorKind::Dead)), "it is the only one it can be");
    world.start(0, &parallel(4));
    assert_eq!(world.held(0), others, "together, for none of them is suspect");
}

#[test]
fn a_task_that_never_reached_its_worker_is_not_blamed() {
    let mut world = World::ready(1, 2);
    let task = world.submit();
    for _ in 0..5 {
        world.die_with_unread(0, 1);
        world.advance(std::time::Duration::from_secs(20));
        world.start(0, &serial(2));
    }
    world.answer_everything();
    assert_eq!(world.end_of(task), Some(Ok(1)), "its first attempt, after five deaths");
}
