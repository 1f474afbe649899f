//! Tasks that could not be done: kept if somebody asked for that, and only those.

use std::time::Duration;

use stokehold_protocol::Failure;

use super::world::{World, config, retry_after, serial};
use crate::core::{Event, Policy, SupervisorConfig};

const MS: Duration = Duration::from_millis(1);

fn keeping() -> World {
    World::ready_of(SupervisorConfig { keeps_dead_letters: true, ..config(1) }, &serial(1))
}

#[test]
fn what_could_not_be_done_is_kept_with_its_reason() {
    let mut world = keeping();
    let dead = world.submit_as(Policy::default().attempts(1), 0);
    world.die(0, 11);
    world.start(0, &serial(1));
    let lost = world.submit_as(Policy::once(), 0);
    world.die(0, 11);
    world.start(0, &serial(1));
    let late = world.submit_as(Policy::default().attempts(1).timeout(MS), 0);
    world.advance(MS);
    world.die(0, 15);
    world.start(0, &serial(1));
    let failed = world.submit_as(Policy::default().attempts(2), 0);
    for _ in 0..2 {
        world.fail(0, &retry_after(Some(0)));
    }
    assert_eq!(world.buried, [dead, lost, late, failed]);
    let told = world.events.iter().filter_map(|event| match event {
        Event::DeadLettered { task, error } => Some((*task, error.attempts().len())),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(dead, 1), (lost, 1), (late, 1), (failed, 2)]);
}

#[test]
fn answers_are_not_kept() {
    let mut world = keeping();
    world.submit();
    world.answer(0);
    world.submit();
    world.fail(0, &Failure::new("acme.no_such_user", "nobody"));
    let cancelled = world.submit();
    world.cancel(cancelled);
    world.die(0, 15);
    world.submit();
    world.kill();
    assert!(world.buried.is_empty());
}

#[test]
fn nothing_is_kept_that_nobody_asked_for() {
    let mut world = World::ready(1, 1);
    world.submit_as(Policy::default().attempts(1), 0);
    world.die(0, 11);
    assert!(world.buried.is_empty());
    assert!(!world.events.iter().any(|event| matches!(event, Event::DeadLettered { .. })));
}
