//! How many workers there are, and of what age: growing, shrinking, replacing, watching over them.

use std::time::Duration;

use stokehold_protocol::Capability;

use super::world::{FRAME_TIMEOUT, World, able, config, died, parallel, serial};
use crate::core::{Cause, Event, Recycle, Retirement, SupervisorConfig};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn recycling(recycle: Recycle) -> World {
    World::ready_of(SupervisorConfig { recycle, ..config(1) }, &serial(1))
}

fn retired(world: &World) -> Vec<Retirement> {
    let whys = world.events.iter().filter_map(|event| match event {
        Event::WorkerRetired { why, .. } => Some(*why),
        _ => None,
    });
    whys.collect()
}

/// The slot that a process is asked for.
fn wanted(world: &World) -> usize {
    *world.spawning.first().expect("a process is wanted")
}

/// Works until another process is wanted, and gives how many tasks that took.
fn work_until_replaced(world: &mut World) -> u64 {
    for count in 0..1_000 {
        if !world.spawning.is_empty() {
            return count;
        }
        world.submit();
        world.answer(0);
    }
    panic!("nobody is replaced");
}

#[test]
fn a_worker_that_did_enough_is_replaced_when_the_next_is_ready() {
    let mut world = recycling(Recycle::default().tasks(100));
    let count = work_until_replaced(&mut world);
    assert!((90..=110).contains(&count), "{count} tasks are not about a hundred");
    let next = wanted(&world);
    world.spawn(next);
    world.hello(next, &serial(1));
    let task = world.submit();
    assert_eq!(world.answer(0), task, "it works on until the other is ready");
    assert!(retired(&world).is_empty() && !world.child(0).was_told_to_die);
    world.say_ready(next);
    assert_eq!(retired(&world), [Retirement::Tasks]);
    assert!(world.child(0).was_told_to_die);
    let task = world.submit();
    assert_eq!(world.held(next), [task]);
    world.exit(0, 0);
    assert!(world.spawning.is_empty());
    assert_eq!(world.deaths(), 0);
}

#[test]
fn a_worker_with_tasks_finishes_them_before_it_is_replaced() {
    let mut world = recycling(Recycle::default().age(100 * SECOND));
    let task = world.submit();
    world.advance(111 * SECOND);
    let next = wanted(&world);
    world.start(next, &serial(1));
    assert_eq!(retired(&world), [Retirement::Age]);
    assert!(!world.child(0).was_told_to_die);
    assert_eq!(world.answer(0), task);
    assert!(world.child(0).was_told_to_die);
    world.exit(0, 0);
}

#[test]
fn a_worker_that_grew_too_large_is_replaced() {
    let mut world = recycling(Recycle::default().memory(1 << 30));
    world.submit();
    world.child(0).memory = 3 << 30;
    world.advance(250 * MS);
    let next = wanted(&world);
    world.start(next, &serial(1));
    assert_eq!(retired(&world), [Retirement::Memory]);
}

#[test]
fn a_replacement_that_fails_is_not_tried_again_at_once_and_the_old_one_goes_on() {
    let mut world = recycling(Recycle::default().memory(1 << 30));
    world.child(0).memory = 3 << 30;
    world.submit();
    world.advance(250 * MS);
    let mut tries = 0;
    for _ in 0..4 {
        let next = wanted(&world);
        world.fail_spawn(next);
        tries += 1;
        world.advance(9 * SECOND);
        assert!(world.spawning.is_empty(), "a storm of starts");
        world.advance(SECOND);
    }
    assert_eq!(tries, 4);
    world.answer(0);
    assert!(world.all_answered() && world.core.broken().is_none());
}

#[test]
fn a_worker_that_dies_while_it_is_replaced_has_its_replacement() {
    let mut world = recycling(Recycle::default().tasks(10));
    work_until_replaced(&mut world);
    let task = world.submit();
    world.die(0, 11);
    let next = wanted(&world);
    assert_eq!(world.spawning.len(), 1);
    world.start(next, &serial(1));
    assert_eq!(world.answer(next), task);
}

#[test]
fn what_is_left_while_draining_is_done_although_a_replacement_left_first() {
    let mut world = recycling(Recycle::default().tasks(10));
    work_until_replaced(&mut world);
    let next = wanted(&world);
    let task = world.submit();
    world.spawn(next);
    world.shutdown(60 * SECOND);
    world.exit(next, 0);
    world.die(0, 11);
    let next = wanted(&world);
    world.start(next, &serial(1));
    assert_eq!(world.answer(next), task);
}

#[test]
fn a_pool_is_made_larger_and_smaller() {
    let mut world = World::ready(1, 1);
    world.resize(3);
    assert_eq!(world.spawning.len(), 2);
    for slot in [1, 2] {
        world.start(slot, &serial(1));
    }
    let tasks = world.submit_many(3);
    world.answer(1);
    world.resize(1);
    assert!(world.child(1).was_told_to_die, "what has nothing to do goes first");
    assert!(!world.child(2).was_told_to_die && world.held(2).len() == 1);
    world.answer(2);
    assert!(world.child(2).was_told_to_die && !world.child(0).was_told_to_die);
    world.answer(0);
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
    assert_eq!(retired(&world), [Retirement::Resized; 2]);
    world.exit(1, 0);
    world.exit(2, 0);
    assert!(world.spawning.is_empty());
    world.resize(2);
    assert_eq!(world.spawning.len(), 1);
}

#[test]
fn a_worker_that_is_let_go_and_stays_is_made_to() {
    let mut world = World::ready(2, 1);
    world.resize(1);
    world.advance(5 * SECOND - MS);
    assert!(!world.child(1).terminated);
    world.advance(MS);
    assert!(world.child(1).terminated);
    world.die(1, 15);
    assert_eq!(world.deaths(), 0);
}

#[test]
fn a_pool_grows_with_its_work_and_shrinks_without() {
    let config = SupervisorConfig { workers_max: 3, idle_timeout: Some(10 * SECOND), ..config(1) };
    let mut world = World::ready_of(config, &serial(1));
    world.submit_many(10);
    assert_eq!(world.spawning.len(), 2);
    for slot in [1, 2] {
        world.start(slot, &serial(1));
    }
    world.answer_everything();
    world.advance(10 * SECOND - MS);
    assert!(retired(&world).is_empty());
    world.advance(MS);
    assert_eq!(retired(&world), [Retirement::Idle; 2]);
    for slot in [1, 2] {
        assert!(world.child(slot).was_told_to_die);
        world.exit(slot, 0);
    }
    world.advance(100 * SECOND);
    assert!(!world.child(0).was_told_to_die, "the minimum stays");
}

#[test]
fn a_worker_that_was_given_up_comes_back_with_a_resize() {
    let mut world = World::ready(2, 1);
    world.exit(1, 125);
    assert!(world.spawning.is_empty());
    let given_up = world.events.iter().any(|event| matches!(event, Event::WorkerGivenUp(_)));
    assert!(given_up);
    world.resize(2);
    assert_eq!(world.spawning.len(), 1);
}

#[test]
fn a_silent_worker_is_asked_at_half_of_the_time_and_ended_at_the_end() {
    let config = SupervisorConfig { heartbeat: Some(10 * SECOND), ..config(1) };
    let mut world = World::ready_of(config, &able(serial(1), &[Capability::Ping]));
    world.advance(100 * SECOND);
    assert_eq!(world.child(0).pings, 0, "it has nothing to do");
    world.submit();
    world.advance(5 * SECOND - MS);
    assert_eq!(world.child(0).pings, 0);
    world.advance(MS);
    assert_eq!(world.child(0).pings, 1);
    world.pong(0);
    world.advance(5 * SECOND);
    assert_eq!(world.child(0).pings, 1);
    world.advance(5 * SECOND - MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(matches!(died(&world.events)[0].cause, Cause::Silent(_)));
}

#[test]
fn a_frame_that_is_begun_goes_on_in_time() {
    let mut world = World::ready(1, 1);
    world.say(0, |_, out| out.extend_from_slice(&[0, 0]));
    world.advance(FRAME_TIMEOUT - MS);
    world.say(0, |_, out| out.extend_from_slice(&[0, 9, 0]));
    world.advance(FRAME_TIMEOUT - MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(matches!(died(&world.events)[0].cause, Cause::SlowFrame(FRAME_TIMEOUT)));
}

#[test]
fn a_worker_that_chatters_without_end_is_ended() {
    let mut world = World::ready(1, 1);
    let mut frame = Vec::new();
    world.say(0, |child, out| {
        child.session().log(0, b"\x80", &mut frame).expect("a line");
        out.extend_from_slice(&frame);
    });
    for _ in 0..3 {
        world.say(0, |_, out| out.extend(frame.repeat(40_000)));
        world.events.clear();
    }
    assert!(world.child(0).killed);
}

#[test]
fn a_worker_may_chatter_within_reason_for_ever() {
    let mut world = World::ready(1, 1);
    for _ in 0..30 {
        world.say(0, |child, out| {
            for _ in 0..10_000 {
                child.session().log(0, b"\x80", out).expect("a line");
            }
        });
        world.events.clear();
        world.advance(SECOND);
    }
    assert!(!world.child(0).killed);
}

#[test]
fn a_worker_gets_no_more_bytes_than_it_takes_but_one_task_always() {
    let hello = stokehold_protocol::ChildHello { window_bytes: Some(3_000), ..parallel(8) };
    let mut world = World::ready_as(1, &hello);
    for _ in 0..5 {
        world.put(crate::core::Policy::default(), 1_000);
    }
    world.put(crate::core::Policy::default(), 5_000);
    world.settle();
    assert_eq!(world.held(0).len(), 2);
    world.answer_all(0);
    world.answer_all(0);
    assert_eq!(world.held(0), [5]);
    world.answer(0);
    assert_eq!(world.held(0), [6], "larger than the window, and alone");
}

#[test]
fn a_worker_that_is_being_started_again_counts_as_one_that_comes() {
    let config = SupervisorConfig { workers_max: 4, idle_timeout: Some(10 * SECOND), ..config(1) };
    let mut world = World::ready_of(config, &serial(1));
    let task = world.submit();
    world.die(0, 11);
    assert_eq!(world.spawning.len(), 1, "one task needs one worker");
    world.start(0, &serial(1));
    assert_eq!(world.answer(0), task);
}

#[test]
fn tasks_are_counted_once_however_often_their_workers_were_replaced() {
    let mut world = recycling(Recycle::default().tasks(1));
    let (mut slot, tasks) = (0, 10);
    for _ in 0..tasks {
        world.submit();
        world.answer(slot);
        let next = wanted(&world);
        world.start(next, &serial(1));
        world.exit(slot, 0);
        slot = next;
    }
    let counted = (0..world.core.slot_count()).filter_map(|slot| world.core.summary(slot));
    assert_eq!(counted.map(|summary| summary.finished).sum::<u64>(), tasks);
}
