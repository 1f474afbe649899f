//! How workers start, fail to start, are started again, and are given up.

use std::time::Duration;

use super::world::{HELLO_TIMEOUT, READY_TIMEOUT, World, died, serial};
use crate::core::{Cause, Event, TaskErrorKind};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_worker_serves_from_ready_on() {
    let mut world = World::new(1);
    let task = world.submit();
    let pid = world.spawn(0);
    world.hello(0, &serial(1));
    assert!(world.held(0).is_empty(), "no task before READY");
    world.say_ready(0);
    let [Event::WorkerStarted { worker: 0, restarts: 0, .. }, Event::WorkerReady { worker: 0, pid: who }] =
        world.events[..]
    else {
        panic!("it is started, and is ready: {:?}", world.events)
    };
    assert_eq!(who, pid);
    assert_eq!(world.answer(0), task);
    assert_eq!(world.end_of(task), Some(Ok(1)));
}

#[test]
fn hello_may_be_ready_in_itself() {
    let mut world = World::new(1);
    let task = world.submit();
    world.spawn(0);
    world.hello(0, &stokehold_protocol::ChildHello { ready: true, ..serial(1) });
    assert_eq!(world.held(0), [task]);
}

#[test]
fn a_worker_without_hello_is_killed_in_time() {
    let mut world = World::new(1);
    world.spawn(0);
    world.advance(HELLO_TIMEOUT - MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(matches!(died(&world.events)[0].cause, Cause::HelloTimeout(HELLO_TIMEOUT)));
}

#[test]
fn a_worker_without_ready_is_killed_in_time() {
    let mut world = World::new(1);
    world.spawn(0);
    world.hello(0, &serial(1));
    world.advance(READY_TIMEOUT);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(matches!(died(&world.events)[0].cause, Cause::ReadyTimeout(READY_TIMEOUT)));
}

#[test]
fn progress_extends_the_time_for_ready_to_a_cap() {
    let mut world = World::new(1);
    world.spawn(0);
    world.hello(0, &serial(1));
    for _ in 0..10 {
        world.advance(READY_TIMEOUT - SECOND);
        assert!(!world.child(0).killed);
        world.say_progress(0);
    }
    world.advance(READY_TIMEOUT);
    assert!(world.child(0).killed, "for ever is not in time");
}

#[test]
fn three_workers_that_are_never_ready_break_the_pool_and_all_is_answered() {
    let mut world = World::new(1);
    let tasks = [world.submit(), world.submit()];
    for _ in 0..3 {
        world.advance(SECOND);
        world.spawn(0);
        world.exit(0, 1);
    }
    assert!(world.core.broken().is_some() && world.core.is_over());
    let late = world.submit();
    for task in [tasks[0], tasks[1], late] {
        assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Broken)));
    }
}

#[test]
fn what_is_hopeless_breaks_the_pool_at_once() {
    let not_found: fn(&mut World) = |world| world.fail_spawn(0);
    let no_hello: fn(&mut World) = |world| {
        world.spawn(0);
        world.advance(HELLO_TIMEOUT);
        world.die(0, 9);
    };
    let no_frames: fn(&mut World) = |world| {
        world.spawn(0);
        world.garbage(0);
        world.die(0, 9);
    };
    for end in [not_found, no_hello, no_frames] {
        let mut world = World::new(2);
        let task = world.submit();
        end(&mut world);
        assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Broken)));
        assert!(world.core.broken().is_some());
        world.spawn(1);
        assert!(world.child(1).killed, "what was still being started is not kept");
        world.die(1, 9);
        assert!(world.core.is_over());
    }
}

#[test]
fn a_shortage_is_waited_for_however_long_it_takes() {
    let mut world = World::new(1);
    let task = world.submit();
    let mut pauses = Vec::new();
    for _ in 0..50 {
        world.run_short(0);
        let at = world.core.next_deadline().expect("the end of the pause");
        pauses.push((at - world.now).as_millis());
        world.advance(at - world.now);
    }
    assert_eq!(pauses[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert!(world.core.broken().is_none());
    world.start(0, &serial(1));
    world.answer(0);
    assert_eq!(world.end_of(task), Some(Ok(1)));
}

#[test]
fn a_shortage_counts_for_nothing_that_comes_after_it() {
    let mut world = World::new(1);
    for _ in 0..10 {
        world.run_short(0);
        world.advance(5 * SECOND);
    }
    for _ in 0..2 {
        world.spawn(0);
        world.exit(0, 1);
        world.advance(SECOND);
    }
    assert!(world.core.broken().is_none(), "two starts of three have failed");
    world.run_short(0);
    assert_eq!(world.core.next_deadline(), Some(world.now + 100 * MS), "the last shortage was over");
    world.advance(SECOND);
    world.start(0, &serial(1));
}

#[test]
fn workers_that_did_start_go_on_while_others_run_short() {
    let mut world = World::new(2);
    world.start(0, &serial(1));
    let tasks = world.submit_many(10);
    for _ in 0..20 {
        world.run_short(1);
        world.advance(5 * SECOND);
    }
    world.answer_everything();
    assert!(world.core.broken().is_none());
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
    world.start(1, &serial(1));
}

#[test]
fn a_shortage_does_not_hold_up_a_shutdown() {
    let mut world = World::new(1);
    let task = world.submit();
    world.run_short(0);
    world.shutdown(SECOND);
    world.advance(SECOND / 2);
    world.run_short(0);
    world.advance(SECOND);
    if world.spawning.contains(&0) {
        world.run_short(0);
    }
    assert!(world.core.is_over());
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Closed)));
}

#[test]
fn nothing_is_hopeless_once_somebody_was_ready() {
    let mut world = World::ready(2, 1);
    world.garbage(0);
    world.die(0, 9);
    world.fail_spawn(0);
    assert!(world.core.broken().is_none());
    world.advance(SECOND);
    world.start(0, &serial(1));
}

#[test]
fn exit_125_is_not_started_again() {
    let mut world = World::ready(2, 1);
    world.exit(0, 125);
    assert!(!world.spawning.contains(&0) && world.core.next_deadline().is_none());
    let task = world.submit();
    assert_eq!(world.answer(1), task);
    let last = world.submit();
    world.exit(1, 125);
    assert_eq!(world.end_of(last), Some(Err(TaskErrorKind::Broken)));
}

#[test]
fn fruitless_lives_are_followed_by_growing_pauses_and_then_by_none() {
    let mut world = World::ready(2, 1);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        world.die(0, 11);
        let before = world.now;
        if !world.spawning.contains(&0) {
            let at = world.core.next_deadline().expect("the end of the pause");
            world.advance(at - world.now);
        }
        pauses.push((world.now - before).as_millis());
        world.start(0, &serial(1));
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800]);
    world.die(0, 11);
    world.advance(60 * SECOND);
    assert!(!world.spawning.contains(&0), "given up");
    assert!(world.core.broken().is_none(), "the other one works");
}

#[test]
fn a_life_that_finished_a_task_clears_the_past() {
    let mut world = World::ready(1, 1);
    for _ in 0..50 {
        world.submit();
        world.answer(0);
        world.die(0, 9);
        world.start(0, &serial(1));
    }
    assert!(world.core.broken().is_none());
}

#[test]
fn closed_output_is_no_fault_for_a_second() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.close_output(0);
    world.advance(SECOND - MS);
    assert!(!world.child(0).killed);
    world.advance(MS);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(matches!(died(&world.events)[0].cause, Cause::ClosedOutput));
    world.start(0, &serial(1));
    assert_eq!(world.answer(0), task);
}

#[test]
fn an_exit_soon_after_the_output_closed_is_an_exit() {
    let mut world = World::ready(1, 1);
    world.close_output(0);
    world.exit(0, 7);
    let death = &died(&world.events)[0];
    assert!(matches!(death.cause, Cause::Exited) && death.code() == Some(7));
}

#[test]
fn a_worker_that_closed_its_input_is_killed_even_if_it_gets_ready() {
    let mut world = World::new(1);
    world.spawn(0);
    world.hello(0, &serial(1));
    world.close_input(0);
    world.say_progress(0);
    world.say_ready(0);
    world.advance(SECOND);
    assert!(world.child(0).killed);
    let is_ready = world.events.iter().any(|event| matches!(event, Event::WorkerReady { .. }));
    assert!(!is_ready, "it can take no tasks: {:?}", world.events);
}

#[test]
fn a_worker_that_lingers_after_bye_is_killed_and_its_tasks_are_unharmed() {
    let mut world = World::ready(1, 2);
    let tasks = world.submit_many(2);
    world.bye(0);
    assert!(world.child(0).input_ended);
    world.advance(SECOND);
    assert!(world.child(0).killed);
    world.die(0, 9);
    assert!(matches!(died(&world.events)[0].cause, Cause::SaidBye));
    world.start(0, &serial(2));
    world.answer_all(0);
    assert!(tasks.iter().all(|task| world.end_of(*task) == Some(Ok(1))));
}

#[test]
fn what_breaks_the_protocol_ends_that_worker_only() {
    let mut world = World::ready(2, 1);
    let tasks = world.submit_many(2);
    world.garbage(0);
    assert!(world.child(0).killed && !world.child(1).killed);
    world.answer(1);
    world.die(0, 9);
    world.start(0, &serial(1));
    world.answer_everything();
    assert!(tasks.iter().all(|task| matches!(world.end_of(*task), Some(Ok(_)))));
    assert!(died(&world.events)[0].to_string().contains("printed to stdout"));
}

#[test]
fn nothing_counts_that_a_worker_says_after_it_broke_the_protocol() {
    let mut world = World::ready(1, 2);
    let tasks = world.submit_many(2);
    world.say(0, |_, out| out.extend_from_slice(&[0, 0, 0, 5, 0, 0, 0, 7, 0xc0]));
    assert!(world.child(0).killed);
    let ids: Vec<u32> = world.child(0).tasks.iter().map(|job| job.id).collect();
    let answer = b"\x94\xa8FINISHED\x01\xc0\xc0";
    world.core.handle_frame(0, ids[0], answer, world.now, &mut world.post);
    world.core.handle_too_large(0, ids[1], 1 << 20, answer, world.now);
    world.settle();
    assert!(tasks.iter().all(|task| world.end_of(*task).is_none()));
}

#[test]
fn a_worker_that_asks_and_never_reads_is_ended_before_it_fills_the_memory() {
    let mut world = World::ready(1, 8);
    world.reads(0, false);
    for id in 1..20_000 {
        world.ask(0, id);
        if world.child(0).killed {
            break;
        }
    }
    assert!(world.child(0).killed);
    let pending = world.core.outbox(0).map_or(0, |outbox| outbox.len());
    assert!(pending < 1 << 20, "{pending} bytes wait for a worker that does not read");
}

#[test]
fn times_without_end_are_no_panic() {
    let mut world = World::ready(1, 1);
    let task = world.submit();
    world.fail(0, &super::world::retry_after(Some(u64::MAX)));
    world.cancel(task);
    world.shutdown(Duration::from_secs(1));
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Cancelled { may_have_run: true })));
}
