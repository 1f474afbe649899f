//! What a death says.

use std::time::Duration;

use super::world::{World, config, died, serial};
use crate::core::{Cause, CpuTime, Death, Event, Policy, Rung, SupervisorConfig, TaskErrorKind, WorkerState};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_death_says_who_when_what_and_of_what() {
    let mut world = World::ready(1, 2);
    let pid = world.child(0).pid;
    world.advance(50 * MS);
    world.submit();
    world.answer(0);
    world.advance(10 * MS);
    let tasks = world.submit_many(2);
    world.child(0).memory = 5_000;
    world.advance(300 * MS);
    world.die(0, 11);
    let death = died(&world.events).remove(0);
    let Death {
        worker, cause, was_ready, stderr_tail, state, in_state, lifetime, answered, unanswered, ..
    } = &*death;
    assert_eq!((*worker, death.pid, *was_ready), (0, Some(pid), true));
    assert!(matches!(cause, Cause::Exited));
    assert_eq!((death.code(), death.signal()), (None, Some(11)));
    assert_eq!(&**stderr_tail, "last words");
    assert_eq!((*state, *in_state, *lifetime), (WorkerState::Busy, 300 * MS, 360 * MS));
    assert_eq!((*answered, *unanswered), (1, 2));
    assert_eq!((death.task, death.attempt, death.rung), (Some(tasks[0]), Some(1), Rung::Asked));
    assert_eq!((death.out_of_memory, death.peak_memory), (Some(false), Some(5_001)));
    assert_eq!(death.cpu, Some(CpuTime { user: 7 * MS, system: 3 * MS }));
    let text = death.explain().to_string();
    for part in ["SIGSEGV", "task 2", "last words", "was busy for", "10.00ms of processor time"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn a_death_says_what_the_worker_was_at() {
    let mut world = World::new(1);
    world.spawn(0);
    world.advance(20 * MS);
    world.die(0, 9);
    world.start(0, &serial(1));
    world.advance(30 * MS);
    world.die(0, 9);
    let deaths = died(&world.events);
    let states: Vec<_> = deaths.iter().map(|death| (death.state, death.in_state)).collect();
    assert_eq!(states, [(WorkerState::Loading, 20 * MS), (WorkerState::Idle, 30 * MS)]);
    assert!(deaths.iter().all(|death| death.task.is_none()));
}

#[test]
fn a_death_by_force_says_what_the_worker_was_at_before() {
    let mut world = World::ready(1, 1);
    world.submit_as(Policy::default().timeout(100 * MS), 0);
    world.advance(600 * MS);
    world.die(0, 9);
    let death = &died(&world.events)[0];
    assert_eq!((death.state, death.in_state, death.rung), (WorkerState::Busy, 600 * MS, Rung::Killed));
}

#[test]
fn a_death_that_may_be_of_several_tasks_names_none() {
    let mut world = World::ready_as(1, &super::world::parallel(2));
    world.submit_many(2);
    world.die(0, 9);
    assert_eq!(died(&world.events)[0].task, None);
}

#[test]
fn every_attempt_is_in_the_error_with_its_end() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(Policy::default().backoff(MS, MS).timeout(100 * MS), 0);
    world.advance(10 * MS);
    world.fail(0, &super::world::retry_after(Some(1)));
    world.advance(MS);
    world.advance(20 * MS);
    world.die(0, 11);
    world.advance(MS);
    world.start(0, &serial(1));
    world.advance(100 * MS);
    world.die(0, 15);
    let error = world.outcome(task).as_ref().expect_err("three attempts");
    assert!(matches!(error.kind(), TaskErrorKind::TimedOut { .. }));
    let attempts: Vec<_> = error.attempts().iter().map(|attempt| (attempt.number, attempt.elapsed)).collect();
    assert_eq!(attempts, [(1, 10 * MS), (2, 20 * MS), (3, 100 * MS)]);
    let texts: Vec<String> = error.attempts().iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("not now") && texts[1].contains("SIGSEGV") && texts[2].contains("took longer"));
}

#[test]
fn the_history_of_a_task_has_an_end_and_shows_the_first_and_the_last() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(Policy::default().attempts(200), 0);
    for _ in 0..200 {
        world.fail(0, &super::world::retry_after(Some(0)));
    }
    let error = world.outcome(task).as_ref().expect_err("all attempts");
    let numbers: Vec<u32> = error.attempts().iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=32).chain(169..=200).collect::<Vec<u32>>());
}

#[test]
fn the_events_of_a_life_come_in_order() {
    let mut world = World::of(SupervisorConfig { task_events: true, ..config(1) });
    world.start(0, &serial(1));
    world.submit();
    world.die(0, 9);
    world.start(0, &serial(1));
    let names: Vec<&str> = world
        .events_now()
        .iter()
        .map(|event| match event {
            Event::WorkerStarted { .. } => "started",
            Event::WorkerReady { .. } => "ready",
            Event::TaskStarted { .. } => "task started",
            Event::WorkerDied(_) => "died",
            Event::TaskRetried { .. } => "retried",
            other => panic!("{other:?} is not expected"),
        })
        .collect();
    let expected =
        ["started", "ready", "task started", "died", "retried", "started", "ready", "task started"];
    assert_eq!(names, expected);
}
